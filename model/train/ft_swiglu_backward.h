/* ft_swiglu_backward: the gated unit of a feed-forward network, and its gradient.
 *
 *   s = 1 / (1 + exp(-g));  a = g s u
 *   dg = da u s (1 + g (1 - s));  du = da g s */
#ifndef FT_SWIGLU_BACKWARD_H
#define FT_SWIGLU_BACKWARD_H
#include <stddef.h>

void ft_swiglu_forward(float *a, const float *g, const float *u, size_t n);
/* a, made again, for the gradient of what follows; none of the outputs may be an input. */
void ft_swiglu_backward(float *dg, float *du, float *a, const float *da, const float *g, const float *u, size_t n);
#endif
