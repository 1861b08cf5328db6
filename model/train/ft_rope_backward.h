/* ft_rope_backward: rotary position embedding and its gradient, which is the rotation back.
 *
 *   pairs (i, i + D/2) of each head: y_i = x_i cos - x_j sin, y_j = x_j cos + x_i sin */
#ifndef FT_ROPE_BACKWARD_H
#define FT_ROPE_BACKWARD_H
#include <stddef.h>

/* In place. x [rows, heads * 2 half]; row t stands at position t % length, of which cosine and
 * sine (any factor included) are cos, sin [length, half]. back: transposed. */
void ft_rope_turn(float *x, size_t rows, size_t heads, size_t half, size_t first, size_t length, const float *cos,
                  const float *sin, int back);
#endif
