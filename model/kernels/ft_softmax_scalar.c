#include "model/kernels/ft_exp.h"
#include "model/kernels/ft_softmax.h"

void ft_softmax_scalar(float *x, size_t n, float scale)
{
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        x[i] *= scale;
        max = x[i] > max ? x[i] : max;
    }
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = ft_exp(x[i] - max);
        sum += x[i];
    }
    const float share = 1 / sum;
    for (size_t i = 0; i < n; i++)
        x[i] *= share;
}
