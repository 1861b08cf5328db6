#include "model/train/ft_norm_backward.h"

#include <math.h>

void ft_norm_forward(float *y, float *inverse, const float *x, const float *w, const float *add, size_t rows,
                     size_t cols, double eps)
{
    for (size_t t = 0; t < rows; t++, x += cols, y += cols) {
        double sum = 0;
        for (size_t c = 0; c < cols; c++)
            sum += (double)x[c] * (double)x[c];
        const float r = (float)(1 / sqrt(sum / (double)cols + eps));
        inverse[t] = r;
        if (add)
            for (size_t c = 0; c < cols; c++)
                y[c] = add[t * cols + c] + x[c] * r * w[c];
        else
            for (size_t c = 0; c < cols; c++)
                y[c] = x[c] * r * w[c];
    }
}

void ft_norm_backward(float *dx, const float *dy, const float *x, const float *inverse, const float *w, size_t rows,
                      size_t cols)
{
    for (size_t t = 0; t < rows; t++, x += cols, dy += cols, dx += cols) {
        const float r = inverse[t];
        double sum = 0;
        for (size_t c = 0; c < cols; c++)
            sum += (double)(dy[c] * w[c]) * (double)x[c];
        const float back = (float)(sum / (double)cols * (double)r * (double)r);
        for (size_t c = 0; c < cols; c++)
            dx[c] = r * (dy[c] * w[c] - x[c] * back);
    }
}

void ft_norm_backward_weight(double *dw, const float *dy, const float *x, const float *inverse, size_t rows,
                             size_t cols)
{
    for (size_t t = 0; t < rows; t++)
        for (size_t c = 0; c < cols; c++)
            dw[c] += (double)(dy[t * cols + c] * x[t * cols + c] * inverse[t]);
}
