/* ft_linear_backward: gradients of y = x W^T, and their norm per example.
 *
 *   dx = dy W;  dW = dy^T x
 *   |dW_i|^2 of example i's rows = sum over t, s of (x_t . x_s) (dy_t . dy_s): the ghost norm
 *   (Goodfellow 2015; Li et al. 2022), which never makes dW_i. */
#ifndef FT_LINEAR_BACKWARD_H
#define FT_LINEAR_BACKWARD_H
#include "base/ft_threads.h"

#include <stddef.h>

/* dx [n, in] = (add ? dx : 0) + dy [n, out] w [out, in]; dy_stride in elements. */
void ft_linear_backward(ft_pool *pool, float *dx, int add, const float *dy, size_t dy_stride, const float *w,
                        size_t n, size_t in, size_t out);
/* dw [out, in] += dy^T x */
void ft_linear_backward_weight(ft_pool *pool, float *dw, const float *dy, size_t dy_stride, const float *x, size_t n,
                               size_t in, size_t out);
/* Squared norm of n rows' gradient; scratch [2 n^2]. */
double ft_linear_ghost(const float *dy, size_t dy_stride, const float *x, size_t n, size_t in, size_t out,
                       float *scratch);
#endif
