#include "model/kernels/ft_exp.h"
#include "model/kernels/ft_silu.h"

void ft_silu_scalar(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1 + ft_exp(-gate[i])) * up[i];
}
