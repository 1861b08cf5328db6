/* ft_silu: gate = silu(gate) * up with silu(a) = a / (1 + exp(-a)). Source:
 * Shazeer, "GLU Variants Improve Transformer", 2020 (SwiGLU).
 *
 * Shapes   gate, up [n]; each element stands for itself. */
#ifndef FT_SILU_H
#define FT_SILU_H
#include <stddef.h>

typedef void ft_silu_fn(float *gate, const float *up, size_t n);
ft_silu_fn ft_silu_scalar, ft_silu_avx2, ft_silu_avx512;
#endif
