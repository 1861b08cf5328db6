/* ft_narrow: out[i * stride] = x[i], rounded to the type of the key-value cache
 * (to nearest, even on a tie; too large: infinity; a NaN stays one).
 *
 * Shapes   x [n]; stride counts elements of `out`. A value goes into its page
 *          (ft_page.h) with stride 1, a key with stride FT_KV_PAGE.
 * Bits     the same in all families. */
#ifndef FT_NARROW_H
#define FT_NARROW_H
#include <stddef.h>

typedef void ft_narrow_fn(void *out, size_t stride, const float *x, size_t n);
ft_narrow_fn ft_narrow_f32_scalar, ft_narrow_f16_scalar, ft_narrow_bf16_scalar;
ft_narrow_fn ft_narrow_f16_avx2, ft_narrow_bf16_avx2, ft_narrow_f16_avx512, ft_narrow_bf16_avx512;
#endif
