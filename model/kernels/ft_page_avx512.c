#include "model/kernels/ft_page.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

enum { WIDE = 4, QUERIES = 4 }; /* 16 accumulators, 4 of the page, 1 of a: 21 of 32 registers */
#include "model/kernels/ft_lanes_page.h"

void ft_page_f32_avx512(const ft_page_product *p)
{
    page(FT_KV_F32, p);
}

void ft_page_f16_avx512(const ft_page_product *p)
{
    page(FT_KV_F16, p);
}

void ft_page_bf16_avx512(const ft_page_product *p)
{
    page(FT_KV_BF16, p);
}
#endif
