/* ft_mix: out[d] = sum over j of p[j] * v[j, d]: attention's values by their weights.
 *
 * Shapes   p [n], v [n, D] with a stride in elements, out [D].
 * Bits     the sum runs over j in order, for each d alone. */
#ifndef FT_MIX_H
#define FT_MIX_H
#include <stddef.h>

typedef void ft_mix_fn(float *out, const float *p, const float *v, size_t stride, size_t n, size_t d);
ft_mix_fn ft_mix_scalar, ft_mix_avx2, ft_mix_avx512;
#endif
