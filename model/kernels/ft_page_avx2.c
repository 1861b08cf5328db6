#include "model/kernels/ft_page.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

enum { WIDE = 4, QUERIES = 2 }; /* 8 accumulators, 4 of the page, 1 of a: 13 of 16 registers */
#include "model/kernels/ft_lanes_page.h"

void ft_page_f32_avx2(const ft_page_product *p)
{
    page(FT_KV_F32, p);
}

void ft_page_f16_avx2(const ft_page_product *p)
{
    page(FT_KV_F16, p);
}

void ft_page_bf16_avx2(const ft_page_product *p)
{
    page(FT_KV_BF16, p);
}
#endif
