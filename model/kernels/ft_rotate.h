/* ft_rotate: rotary position embedding of the heads of one token, in place. Source:
 * Su et al., "RoFormer", 2021 (arXiv 2104.09864), halves apart as in transformers:
 *   (a, b) = (h[i], h[i + half]) becomes (a cos_i - b sin_i, b cos_i + a sin_i)
 *
 * Shapes   heads [count, 2 half]; cosines, sines [half]. */
#ifndef FT_ROTATE_H
#define FT_ROTATE_H
#include <stddef.h>

typedef void ft_rotate_fn(float *heads, size_t count, const float *cosines, const float *sines, size_t half);
ft_rotate_fn ft_rotate_scalar, ft_rotate_avx2, ft_rotate_avx512;
#endif
