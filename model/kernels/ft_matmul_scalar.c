#include "model/kernels/ft_float.h"
#include "model/kernels/ft_matmul.h"

void ft_matmul_f32_scalar(const ft_matmul *m)
{
    for (size_t r = 0; r < m->rows; r++) {
        const char *w = (const char *)m->w + r * m->w_stride * sizeof(float);
        for (size_t t = 0; t < m->tokens; t++) {
            const float *x = ft_matmul_x(m, t);
            float sum = 0;
            for (size_t k = 0; k < m->cols; k++)
                sum += ft_f32_at(w, k) * x[k];
            m->out[t * m->out_stride + r] = sum;
        }
    }
}

void ft_matmul_bf16_scalar(const ft_matmul *m)
{
    for (size_t r = 0; r < m->rows; r++) {
        const char *w = (const char *)m->w + r * m->w_stride * sizeof(uint16_t);
        for (size_t t = 0; t < m->tokens; t++) {
            const float *x = ft_matmul_x(m, t);
            float sum = 0;
            for (size_t k = 0; k < m->cols; k++)
                sum += ft_bf16_at(w, k) * x[k];
            m->out[t * m->out_stride + r] = sum;
        }
    }
}

void ft_matmul_f16_scalar(const ft_matmul *m)
{
    for (size_t r = 0; r < m->rows; r++) {
        const char *w = (const char *)m->w + r * m->w_stride * sizeof(uint16_t);
        for (size_t t = 0; t < m->tokens; t++) {
            const float *x = ft_matmul_x(m, t);
            float sum = 0;
            for (size_t k = 0; k < m->cols; k++)
                sum += ft_f16_at(w, k) * x[k];
            m->out[t * m->out_stride + r] = sum;
        }
    }
}
