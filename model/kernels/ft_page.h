/* ft_page: attention's two products with one page of the key-value cache.
 *
 * A page holds FT_KV_PAGE positions of one layer and one kv head: keys by dimension,
 * [D, FT_KV_PAGE], and values by position, [FT_KV_PAGE, D] (ft_narrow.h stores
 * either). Lanes then run along positions for keys and along dimensions for values,
 * and both products of attention are the same one:
 *
 *   out[g, j] = sum over i of a[g, i] * page[i, j]
 *
 *   scores  a: queries [G, D]          out: scores [G, positions]   depth D, cols positions
 *   mix     a: weights [G, positions]  out [G, D], added to         depth positions, cols D
 *
 * Bits     an element of `out` is one sum over i in order, whatever else is computed
 *          with it; with `add` it goes on where the page before stopped. So neither
 *          page borders nor the number of queries leave a trace.
 * Memory   nothing beyond page[depth - 1, cols - 1] is read; no alignment is needed. */
#ifndef FT_PAGE_H
#define FT_PAGE_H
#include "model/ft_precision.h"

#include <stddef.h>
#include <stdint.h>

enum { FT_KV_PAGE = 64 };

typedef struct ft_page_product {
    const void *page;
    size_t page_stride; /* elements from row i to row i + 1 */
    const void *next;   /* a page of the same shape that is read next, fetched meanwhile; NULL: none */
    size_t depth, cols; /* i < depth, j < cols */
    const float *a;     /* [rows, depth] */
    size_t a_stride;
    size_t rows;
    const uint32_t *depths; /* [rows] how far row g sums (a token sees the positions up to its own), at most
                               depth; NULL: all of them to depth */
    int add;                /* go on from what `out` holds; else from 0 */
    float *out;             /* [rows, cols] */
    size_t out_stride;
} ft_page_product;
typedef void ft_page_fn(const ft_page_product *p);

ft_page_fn ft_page_f32_scalar, ft_page_f16_scalar, ft_page_bf16_scalar;
ft_page_fn ft_page_f32_avx2, ft_page_f16_avx2, ft_page_bf16_avx2;
ft_page_fn ft_page_f32_avx512, ft_page_f16_avx512, ft_page_bf16_avx512;

static inline size_t ft_kv_bytes(ft_kv_type type)
{
    return type == FT_KV_F32 ? 4 : 2;
}
#endif
