#include "model/kernels/ft_matmul.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

#include "model/kernels/ft_lanes_widened.h"

enum { ROWS = 4, TOKENS = 3 }; /* 12 accumulators, 3 of x, 1 of w: all 16 registers */
#include "model/kernels/ft_lanes_matmul.h"

void ft_matmul_f32_avx2(const ft_matmul *m)
{
    matmul(F32, F32, m);
}

void ft_matmul_bf16_avx2(const ft_matmul *m)
{
    matmul(BF16, F32, m);
}

void ft_matmul_f16_avx2(const ft_matmul *m)
{
    matmul(F16, F32, m);
}

void ft_matmul_bf16_bf16_avx2(const ft_matmul *m)
{
    matmul(BF16, BF16, m);
}
#endif
