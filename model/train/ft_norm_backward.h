/* ft_norm_backward: RMSNorm and its gradient, row by row.
 *
 *   r_t  = (mean_c x_tc^2 + eps)^-1/2
 *   y_tc = x_tc r_t w_c
 *   dw_c = sum_t dy_tc x_tc r_t
 *   dx_tc = r_t (dy_tc w_c - x_tc r_t^2 mean_j(dy_tj w_j x_tj)) */
#ifndef FT_NORM_BACKWARD_H
#define FT_NORM_BACKWARD_H
#include <stddef.h>

/* x, y [rows, cols], w [cols], inverse [rows] (r_t, kept for the backward pass); y may be x.
 * add (may be NULL) [rows, cols] is added to y. */
void ft_norm_forward(float *y, float *inverse, const float *x, const float *w, const float *add, size_t rows,
                     size_t cols, double eps);
/* dx may be dy. */
void ft_norm_backward(float *dx, const float *dy, const float *x, const float *inverse, const float *w, size_t rows,
                      size_t cols);
/* dw [cols] += of a block of rows; sums over many blocks belong in float64. */
void ft_norm_backward_weight(float *dw, const float *dy, const float *x, const float *inverse, size_t rows,
                             size_t cols);
#endif
