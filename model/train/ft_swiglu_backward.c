#include "model/train/ft_swiglu_backward.h"

#include "model/kernels/ft_exp.h"
#include "model/train/train_clones.h"

FT_CLONES void ft_swiglu_forward(float *restrict a, const float *restrict g, const float *restrict u, size_t n)
{
    for (size_t i = 0; i < n; i++)
        a[i] = g[i] * (1 / (1 + ft_exp(-g[i]))) * u[i];
}

FT_CLONES void ft_swiglu_backward(float *restrict dg, float *restrict du, float *restrict a, const float *restrict da,
                                  const float *restrict g, const float *restrict u, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float gate = g[i], up = u[i], s = 1 / (1 + ft_exp(-gate));
        const float open = gate * s;
        a[i] = open * up;
        dg[i] = da[i] * up * s * (1 + gate * (1 - s));
        du[i] = da[i] * open;
    }
}
