#include "model/train/ft_norm_backward.h"

#include "model/train/train_clones.h"

#include <math.h>

FT_CLONES static double dot(const float *a, const float *b, size_t n)
{
    double lanes[FT_LANES] = {0}, sum = 0;
    const size_t whole = n - n % FT_LANES;
    for (size_t c = 0; c < whole; c += FT_LANES)
        for (size_t i = 0; i < FT_LANES; i++)
            lanes[i] += (double)a[c + i] * (double)b[c + i];
    for (size_t c = whole; c < n; c++)
        lanes[0] += (double)a[c] * (double)b[c];
    for (size_t i = 0; i < FT_LANES; i++)
        sum += lanes[i];
    return sum;
}

FT_CLONES void ft_norm_forward(float *y, float *inverse, const float *x, const float *w, const float *add, size_t rows,
                               size_t cols, double eps)
{
    for (size_t t = 0; t < rows; t++, x += cols, y += cols) {
        const double sum = dot(x, x, cols);
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

FT_CLONES void ft_norm_backward(float *dx, const float *dy, const float *x, const float *inverse, const float *w,
                                size_t rows, size_t cols)
{
    for (size_t t = 0; t < rows; t++, x += cols, dy += cols, dx += cols) {
        const float r = inverse[t];
        double lanes[FT_LANES] = {0}, sum = 0;
        const size_t whole = cols - cols % FT_LANES;
        for (size_t c = 0; c < whole; c += FT_LANES)
            for (size_t i = 0; i < FT_LANES; i++)
                lanes[i] += (double)(dy[c + i] * w[c + i]) * (double)x[c + i];
        for (size_t c = whole; c < cols; c++)
            lanes[0] += (double)(dy[c] * w[c]) * (double)x[c];
        for (size_t i = 0; i < FT_LANES; i++)
            sum += lanes[i];
        const float back = (float)(sum / (double)cols * (double)r * (double)r);
        for (size_t c = 0; c < cols; c++)
            dx[c] = r * (dy[c] * w[c] - x[c] * back);
    }
}

FT_CLONES void ft_norm_backward_weight(double *dw, const float *dy, const float *x, const float *inverse, size_t rows,
                                       size_t cols)
{
    for (size_t t = 0; t < rows; t++)
        for (size_t c = 0; c < cols; c++)
            dw[c] += (double)(dy[t * cols + c] * x[t * cols + c] * inverse[t]);
}
