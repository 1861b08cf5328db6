#include "model/kernels/ft_matmul.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

#include "model/kernels/ft_lanes_widened.h"

enum { ROWS = 4, TOKENS = 6 }; /* 24 accumulators, 6 of x, 1 of w: 31 of 32 registers */
#include "model/kernels/ft_lanes_matmul.h"

void ft_matmul_f32_avx512(const ft_matmul *m)
{
    matmul(F32, F32, m);
}

void ft_matmul_bf16_avx512(const ft_matmul *m)
{
    matmul(BF16, F32, m);
}

void ft_matmul_f16_avx512(const ft_matmul *m)
{
    matmul(F16, F32, m);
}

void ft_matmul_bf16_bf16_avx512(const ft_matmul *m)
{
    matmul(BF16, BF16, m);
}
#endif
