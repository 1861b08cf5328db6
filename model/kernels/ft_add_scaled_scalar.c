#include "model/kernels/ft_add_scaled.h"

void ft_add_scaled_scalar(float *out, const float *x, float w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] += w * x[i];
}
