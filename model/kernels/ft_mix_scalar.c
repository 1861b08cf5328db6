#include "model/kernels/ft_mix.h"

void ft_mix_scalar(float *out, const float *p, const float *v, size_t stride, size_t n, size_t d)
{
    for (size_t i = 0; i < d; i++)
        out[i] = 0;
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < d; i++)
            out[i] += p[j] * v[j * stride + i];
}
