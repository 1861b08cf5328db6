#include "model/train/ft_linear_backward.h"

#include "model/train/ft_gemm.h"

void ft_linear_backward(ft_pool *pool, float *dx, int add, const float *dy, size_t dy_stride, const float *w,
                        size_t n, size_t in, size_t out)
{
    const ft_gemm g = {.m = n,
                       .n = in,
                       .k = out,
                       .a = dy,
                       .a_stride = dy_stride,
                       .b = w,
                       .b_stride = in,
                       .add = add,
                       .out = dx,
                       .out_stride = in};
    ft_gemm_run(pool, &g);
}

void ft_linear_backward_weight(ft_pool *pool, float *dw, const float *dy, size_t dy_stride, const float *x, size_t n,
                               size_t in, size_t out)
{
    const ft_gemm g = {.transpose_a = 1,
                       .m = out,
                       .n = in,
                       .k = n,
                       .a = dy,
                       .a_stride = dy_stride,
                       .b = x,
                       .b_stride = in,
                       .add = 1,
                       .out = dw,
                       .out_stride = in};
    if (n)
        ft_gemm_run(pool, &g);
}

double ft_linear_ghost(const float *dy, size_t dy_stride, const float *x, size_t n, size_t in, size_t out,
                       float *scratch)
{
    float *xx = scratch, *gg = scratch + n * n;
    double sum = 0;
    if (n == 0)
        return 0;
    const ft_gemm inputs = {.transpose_b = 1,
                            .m = n,
                            .n = n,
                            .k = in,
                            .a = x,
                            .a_stride = in,
                            .b = x,
                            .b_stride = in,
                            .out = xx,
                            .out_stride = n};
    ft_gemm gradients = inputs;
    gradients.k = out;
    gradients.a = gradients.b = dy;
    gradients.a_stride = gradients.b_stride = dy_stride;
    gradients.out = gg;
    ft_gemm_run(NULL, &inputs);
    ft_gemm_run(NULL, &gradients);
    for (size_t i = 0; i < n * n; i++)
        sum += (double)xx[i] * (double)gg[i];
    return sum;
}
