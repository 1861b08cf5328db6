/* ft_add_scaled: out = out + w * x: experts' outputs by their weights, and (w 1) the
 * residual stream.
 *
 * Shapes   out, x [n]; each element stands for itself. */
#ifndef FT_ADD_SCALED_H
#define FT_ADD_SCALED_H
#include <stddef.h>

typedef void ft_add_scaled_fn(float *out, const float *x, float w, size_t n);
ft_add_scaled_fn ft_add_scaled_scalar, ft_add_scaled_avx2, ft_add_scaled_avx512;
#endif
