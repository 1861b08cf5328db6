#include "model/kernels/ft_float.h"
#include "model/kernels/ft_page.h"

/* The definition; `at` reads the j-th number of a row of `size`-byte ones. */
static inline void page(const ft_page_product *p, size_t size, float (*at)(const void *row, size_t j))
{
    for (size_t g = 0; g < p->rows; g++) {
        const size_t depth = p->depths ? p->depths[g] : p->depth;
        float *out = p->out + g * p->out_stride;
        for (size_t j = 0; j < p->cols; j++) {
            float sum = p->add ? out[j] : 0;
            for (size_t i = 0; i < depth; i++)
                sum += p->a[g * p->a_stride + i] * at((const char *)p->page + i * p->page_stride * size, j);
            out[j] = sum;
        }
    }
}

void ft_page_f32_scalar(const ft_page_product *p)
{
    page(p, sizeof(float), ft_f32_at);
}

void ft_page_f16_scalar(const ft_page_product *p)
{
    page(p, sizeof(uint16_t), ft_f16_at);
}

void ft_page_bf16_scalar(const ft_page_product *p)
{
    page(p, sizeof(uint16_t), ft_bf16_at);
}
