/* ft_cross_entropy: the loss of one token and its gradient.
 *
 *   loss = log sum_v exp(x_v) - x_label;  dx = scale (softmax(x) - one-hot(label)) */
#ifndef FT_CROSS_ENTROPY_H
#define FT_CROSS_ENTROPY_H
#include <stddef.h>
#include <stdint.h>

/* x [vocab] becomes dx; scale 0 leaves zeros. Returns the loss, not scaled. */
double ft_cross_entropy(float *x, size_t vocab, uint32_t label, float scale);
#endif
