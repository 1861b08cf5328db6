/* ft_softmax: x = exp(scale x - max) / sum, in place.
 *
 * Shapes   x [n]; n 0 does nothing.
 * Bits     the sum runs in an order that depends on n alone. */
#ifndef FT_SOFTMAX_H
#define FT_SOFTMAX_H
#include <stddef.h>

typedef void ft_softmax_fn(float *x, size_t n, float scale);
ft_softmax_fn ft_softmax_scalar, ft_softmax_avx2, ft_softmax_avx512;
#endif
