/* ft_embed_backward: the gradient of a table's rows, y_t = W[id_t].
 *
 *   dW[v] = sum over t with id_t = v of dy_t
 *   |dW_i|^2 of an example = sum over pairs t, s of equal ids of dy_t . dy_s */
#ifndef FT_EMBED_BACKWARD_H
#define FT_EMBED_BACKWARD_H
#include <stddef.h>
#include <stdint.h>

void ft_embed_backward(float *dw, const float *dy, const int32_t *ids, size_t n, size_t cols);
double ft_embed_ghost(const float *dy, const int32_t *ids, size_t n, size_t cols);
#endif
