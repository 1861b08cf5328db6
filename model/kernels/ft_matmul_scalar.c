#include "model/kernels/ft_float.h"
#include "model/kernels/ft_matmul.h"

/* The definition; w_at and x_at read the k-th number of a row of weights, of inputs. */
static inline void matmul(const ft_matmul *m, size_t size, float (*w_at)(const void *row, size_t k),
                          float (*x_at)(const void *row, size_t k))
{
    for (size_t r = 0; r < m->rows; r++) {
        const char *w = (const char *)m->w + r * m->w_stride * size;
        for (size_t t = 0; t < m->tokens; t++) {
            const void *x = ft_matmul_x(m, t);
            float sum = 0;
            for (size_t k = 0; k < m->cols; k++)
                sum += w_at(w, k) * x_at(x, k);
            m->out[t * m->out_stride + r] = sum;
        }
    }
}

void ft_matmul_f32_scalar(const ft_matmul *m)
{
    matmul(m, sizeof(float), ft_f32_at, ft_f32_at);
}

void ft_matmul_bf16_scalar(const ft_matmul *m)
{
    matmul(m, sizeof(uint16_t), ft_bf16_at, ft_f32_at);
}

void ft_matmul_f16_scalar(const ft_matmul *m)
{
    matmul(m, sizeof(uint16_t), ft_f16_at, ft_f32_at);
}

void ft_matmul_bf16_bf16_scalar(const ft_matmul *m)
{
    matmul(m, sizeof(uint16_t), ft_bf16_at, ft_bf16_at);
}
