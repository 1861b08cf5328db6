/* ft_matmul: out[t, r] = sum over k of w[r, k] * x[t, k], weights as stored
 * (float32, bfloat16, float16), activations float32.
 *
 * Shapes   w [R, K], x [T, K], out [T, R]; row-major with strides in elements.
 * Bits     an output element is summed in an order that depends on K alone: tiles
 *          over rows and tokens, and the split over threads, leave no trace.
 * Memory   w, x and out need no alignment. Weights are read once for each tile
 *          of tokens, in order. */
#ifndef FT_MATMUL_H
#define FT_MATMUL_H
#include <stddef.h>
#include <stdint.h>

typedef struct ft_matmul {
    const void *w;
    size_t w_stride, rows, cols;
    const float *x;
    size_t x_stride;
    const uint32_t *index; /* [T] row of x for each token; NULL: 0, 1, 2 … */
    size_t tokens;
    float *out;
    size_t out_stride;
} ft_matmul;
typedef void ft_matmul_fn(const ft_matmul *m);

ft_matmul_fn ft_matmul_f32_scalar, ft_matmul_bf16_scalar, ft_matmul_f16_scalar;
ft_matmul_fn ft_matmul_f32_avx2, ft_matmul_bf16_avx2, ft_matmul_f16_avx2;
ft_matmul_fn ft_matmul_f32_avx512, ft_matmul_bf16_avx512, ft_matmul_f16_avx512;

/* Row of x that token t reads. */
static inline const float *ft_matmul_x(const ft_matmul *m, size_t t)
{
    return m->x + (m->index ? m->index[t] : t) * m->x_stride;
}
#endif
