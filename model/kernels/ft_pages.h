/* ft_pages: attention's two products with all pages that a session has of one layer and one kv head.
 *
 * What ft_page.h gives one page after the other, for a family that has to win by more pages at a time; in another order
 * of sums, so that a family which fills the slot takes no other way. One that has nothing to win leaves it NULL.
 *
 *   scores  out[g, i] = sum over d of a[g, d] * key[d, i]                        a: queries [G, D]
 *   mix     out[g, d] = sum over i < seen[g] of a[g, i] * value[i, d]            a: weights [G, positions]
 *
 * Bits     an element of `out` is one sum in an order that D (scores) or the position (mix) alone makes. That holds as
 *          long as the cache holds finite numbers: a position that a row does not see counts as 0 times its value.
 * Memory   pages are whole, FT_KV_PAGE positions. scores writes whole pages, too: rows of out have room for them. */
#ifndef FT_PAGES_H
#define FT_PAGES_H
#include "model/kernels/ft_page.h"

enum { FT_PAGES_DIM = 256 }; /* D at most; beyond, ft_page.h */

typedef struct ft_pages_product {
    const char
        *memory; /* page n lies at memory + numbers[n] * page_bytes: keys [D, FT_KV_PAGE], or values, the other way */
    size_t page_bytes;
    const uint32_t *numbers;
    const char *then;      /* a page that is read afterwards, fetched meanwhile; NULL: none */
    size_t positions, dim; /* that any row sees; D */
    const uint32_t *seen;  /* [rows] */
    const float *a;        /* [rows, …] */
    size_t a_stride, rows;
    float *out; /* [rows, …] */
    size_t out_stride;
} ft_pages_product;
typedef void ft_pages_fn(const ft_pages_product *p);

ft_pages_fn ft_pages_scores_bf16_amx, ft_pages_mix_bf16_amx;
#endif
