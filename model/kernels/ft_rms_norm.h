/* ft_rms_norm: out = w * x / sqrt(mean(x^2) + eps). Source: Zhang and Sennrich,
 * "Root Mean Square Layer Normalization", 2019.
 *
 * Shapes   x, w, out [n]; out may be x.
 * Bits     the sum of squares runs in an order that depends on n alone. */
#ifndef FT_RMS_NORM_H
#define FT_RMS_NORM_H
#include <math.h>
#include <stddef.h>

typedef void ft_rms_norm_fn(float *out, const float *x, const float *w, size_t n, double eps);
ft_rms_norm_fn ft_rms_norm_scalar, ft_rms_norm_avx2, ft_rms_norm_avx512;

static inline float ft_rms_norm_scale(double sum_of_squares, size_t n, double eps)
{
    return (float)(1.0 / sqrt(sum_of_squares / (double)(n ? n : 1) + eps));
}
#endif
