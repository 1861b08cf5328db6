#include "model/kernels/ft_rotate.h"

void ft_rotate_scalar(float *heads, size_t count, const float *cosines, const float *sines, size_t half)
{
    for (size_t h = 0; h < count; h++, heads += 2 * half)
        for (size_t i = 0; i < half; i++) {
            const float a = heads[i], b = heads[i + half];
            heads[i] = a * cosines[i] - b * sines[i];
            heads[i + half] = b * cosines[i] + a * sines[i];
        }
}
