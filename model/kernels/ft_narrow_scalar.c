#include "model/kernels/ft_float.h"
#include "model/kernels/ft_narrow.h"

void ft_narrow_f32_scalar(void *out, size_t stride, const float *x, size_t n)
{
    float *f = out;
    for (size_t i = 0; i < n; i++)
        f[i * stride] = x[i];
}

void ft_narrow_f16_scalar(void *out, size_t stride, const float *x, size_t n)
{
    uint16_t *h = out;
    for (size_t i = 0; i < n; i++)
        h[i * stride] = ft_f16_of(x[i]);
}

void ft_narrow_bf16_scalar(void *out, size_t stride, const float *x, size_t n)
{
    uint16_t *h = out;
    for (size_t i = 0; i < n; i++)
        h[i * stride] = ft_bf16_of(x[i]);
}
