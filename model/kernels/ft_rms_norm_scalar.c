#include "model/kernels/ft_rms_norm.h"

void ft_rms_norm_scalar(float *out, const float *x, const float *w, size_t n, double eps)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    const float scale = ft_rms_norm_scale(sum, n, eps);
    for (size_t i = 0; i < n; i++)
        out[i] = w[i] * (x[i] * scale);
}
