#include "model/train/ft_norm_backward.h"

#include "model/train/train_clones.h"

#include <math.h>

FT_CLONES void ft_norm_forward(float *y, float *inverse, const float *x, const float *w, const float *add, size_t rows,
                               size_t cols, double eps)
{
    for (size_t t = 0; t < rows; t++, x += cols, y += cols) {
        const double sum = ft_clone_dot(x, x, cols);
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

/* sum of a_i b_i c_i */
FT_CLONE_INLINE double dot_of_three(const float *a, const float *b, const float *c, size_t n)
{
    double sum = 0;
    for (size_t at = 0; at < n; at += FT_CLONE_CHUNK) {
        const size_t end = n - at < FT_CLONE_CHUNK ? n : at + FT_CLONE_CHUNK;
        ft_lanes lanes = {0};
        size_t i = at;
        for (; i + FT_LANES <= end; i += FT_LANES)
            lanes += *(const ft_lanes *)(a + i) * *(const ft_lanes *)(b + i) * *(const ft_lanes *)(c + i);
        for (; i < end; i++)
            sum += (double)(a[i] * b[i]) * (double)c[i];
        sum += ft_clone_total(&lanes);
    }
    return sum;
}

FT_CLONES void ft_norm_backward(float *dx, const float *dy, const float *x, const float *inverse, const float *w,
                                size_t rows, size_t cols)
{
    for (size_t t = 0; t < rows; t++, x += cols, dy += cols, dx += cols) {
        const float r = inverse[t];
        const float back = (float)(dot_of_three(dy, w, x, cols) / (double)cols * (double)r * (double)r);
        for (size_t c = 0; c < cols; c++)
            dx[c] = r * (dy[c] * w[c] - x[c] * back);
    }
}

FT_CLONES void ft_norm_backward_weight(float *restrict dw, const float *restrict dy, const float *restrict x,
                                       const float *restrict inverse, size_t rows, size_t cols)
{
    for (size_t t = 0; t < rows; t++) {
        const float r = inverse[t];
        for (size_t c = 0; c < cols; c++)
            dw[c] += dy[t * cols + c] * x[t * cols + c] * r;
    }
}
