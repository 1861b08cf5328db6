#include "model/train/ft_embed_backward.h"

void ft_embed_backward(float *dw, const float *dy, const int32_t *ids, size_t n, size_t cols)
{
    for (size_t t = 0; t < n; t++)
        for (size_t c = 0; c < cols; c++)
            dw[(size_t)ids[t] * cols + c] += dy[t * cols + c];
}

double ft_embed_ghost(const float *dy, const int32_t *ids, size_t n, size_t cols)
{
    double sum = 0;
    for (size_t t = 0; t < n; t++)
        for (size_t s = 0; s <= t; s++) {
            if (ids[s] != ids[t])
                continue;
            double dot = 0;
            for (size_t c = 0; c < cols; c++)
                dot += (double)dy[t * cols + c] * (double)dy[s * cols + c];
            sum += s < t ? 2 * dot : dot;
        }
    return sum;
}
