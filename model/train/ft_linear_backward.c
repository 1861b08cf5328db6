#include "model/train/ft_linear_backward.h"

#include "model/train/ft_gemm.h"

#include <cblas.h>

void ft_linear_backward(ft_pool *pool, float *dx, float beta, const float *dy, size_t dy_stride, const float *w,
                        size_t n, size_t in, size_t out)
{
    const ft_gemm g = {.m = n,
                       .n = in,
                       .k = out,
                       .a = dy,
                       .a_stride = dy_stride,
                       .b = w,
                       .b_stride = in,
                       .beta = beta,
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
                       .beta = 1,
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
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)n, (blasint)in, 1, x, (blasint)in, x,
                (blasint)in, 0, xx, (blasint)n);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)n, (blasint)out, 1, dy,
                (blasint)dy_stride, dy, (blasint)dy_stride, 0, gg, (blasint)n);
    for (size_t i = 0; i < n * n; i++)
        sum += (double)xx[i] * (double)gg[i];
    return sum;
}
