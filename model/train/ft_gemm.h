/* ft_gemm: float32 matrix products of training, by OpenBLAS.
 *
 * A product is cut into pieces by its shape alone, each piece one single-threaded call of
 * OpenBLAS on a thread of the pool: exactly as many threads work as were asked for, and the
 * result does not depend on their number. OpenBLAS itself is held to one thread, for the
 * whole process, by ft_gemm_init. */
#ifndef FT_GEMM_H
#define FT_GEMM_H
#include "base/ft_threads.h"

#include <stddef.h>

void ft_gemm_init(void);

/* out [m, n] = beta * out + op(a) [m, k] op(b) [k, n]; op transposes where the flag is set, so
 * that a is stored [m, k] or [k, m]. Strides in elements. A NULL pool works in the caller. */
typedef struct ft_gemm {
    int transpose_a, transpose_b;
    size_t m, n, k;
    const float *a, *b;
    size_t a_stride, b_stride;
    float beta;
    float *out;
    size_t out_stride;
} ft_gemm;
void ft_gemm_run(ft_pool *pool, const ft_gemm *g);

/* y [n, out] = x [n, in] w [out, in]^T, all dense. */
void ft_gemm_linear(ft_pool *pool, float *y, const float *x, const float *w, size_t n, size_t in, size_t out);
#endif
