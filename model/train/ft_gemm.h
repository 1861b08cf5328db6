/* ft_gemm: matrix products of training, by our own kernels (model/kernels/ft_gemm_tile.h).
 *
 * Inputs and results are float32. With bfloat16 set, both operands are rounded to bfloat16
 * first, their products are exact and sums are float32; processors without AVX512-BF16 do the same
 * with float32 products, slower, and round sums in another order. Without it, a processor's matrix
 * unit makes float32's products out of parts (ft_gemm_tile.h), as exactly and faster than its vectors.
 *
 * Bits     an element is one chain of sums along k: no cut leaves a trace, so that results do not
 *          depend on the number of threads. They do depend on the family of kernels.
 * Memory   packing takes 288 KiB of each thread's stack.
 * Threads  ft_gemm_run works on all of the pool's, what is called ft_packed in its caller's. */
#ifndef FT_GEMM_H
#define FT_GEMM_H
#include "base/ft_threads.h"

#include <stddef.h>
#include <stdint.h>

/* A right operand [k, n], laid out once for many products: panels of FT_PANEL columns. */
typedef struct ft_packed {
    uint32_t *units; /* ft_packed_units */
    size_t k, n;
    int bfloat16;
    int vectors; /* float32 in vectors everywhere: k or n are too small for packing the left operand to pay */
} ft_packed;

/* out [m, n] = (add ? out : 0) + op(a) [m, k] op(b) [k, n]; op transposes where the flag is set, so
 * that a is stored [m, k] or [k, m]. Strides in elements. A NULL pool works in the caller.
 * packed (may be NULL): op(b), with the same bfloat16; b is then not read. */
typedef struct ft_gemm {
    int transpose_a, transpose_b, bfloat16, add;
    size_t m, n, k;
    const float *a, *b;
    size_t a_stride, b_stride;
    const ft_packed *packed;
    float *out;
    size_t out_stride;
} ft_gemm;
void ft_gemm_run(ft_pool *pool, const ft_gemm *g);
/* Independent products as one job; count up to FT_GEMM_MOST. */
enum { FT_GEMM_MOST = 512 };
void ft_gemm_run_all(ft_pool *pool, const ft_gemm *list, size_t count);

/* y [n, out] = x [n, in] w [out, in]^T, all dense. */
void ft_gemm_linear(ft_pool *pool, float *y, const float *x, const float *w, size_t n, size_t in, size_t out);

/* --- Packed operands -------------------------------------------------------------------------- */

/* Of 4 bytes; enough for `vectors` too. */
size_t ft_packed_units(size_t k, size_t n, int bfloat16);
/* Whether every task of a product packs its right operand again unless it is given one packed. */
int ft_gemm_repacks(int bfloat16);
/* Columns of k that packing fills up with zeros to a multiple. */
enum { FT_PACKED_DEEP = 32 };
size_t ft_packed_panels(size_t n);
/* One panel, from b stored [k, n], or [n, k] where transposed. */
void ft_packed_fill(const ft_packed *p, size_t panel, const float *b, size_t stride, int transposed);
/* out [m, n] = (add ? out : 0) + a [m, k] p */
void ft_packed_multiply(const ft_packed *p, const float *a, size_t a_stride, size_t m, float *out, size_t out_stride,
                        int add);
/* Several with one left operand; k, bfloat16 and vectors are the same of all. */
typedef struct ft_packed_product {
    const ft_packed *p;
    float *out;
    size_t out_stride;
    int add;
} ft_packed_product;
void ft_packed_multiply_all(const ft_packed_product *list, size_t count, const float *a, size_t a_stride, size_t m);
/* Of steps first … first + count - 1 alone, a's columns counted from first on, and columns from `column` (a
 * multiple of FT_PANEL) on, `columns` of them; a is transposed, [count, m], where the flag is set. Unless p is of
 * `vectors`, first is a multiple of FT_PANEL, and count is too, or reaches p's last step. */
void ft_packed_part(const ft_packed *p, size_t first, size_t count, size_t column, size_t columns, const float *a,
                    size_t a_stride, int transpose_a, size_t m, float *out, size_t out_stride, int add);
#endif
