#include "model/kernels/ft_gemm_tile.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "model/kernels/ft_simd_avx2.h"

#include "model/kernels/ft_lanes_operand.h"

enum { TILE_ROWS = 6 }; /* 12 accumulators, 2 of b, 1 of a: 15 of 16 registers */
#include "model/kernels/ft_lanes_gemm.h"

void ft_gemm_f32_avx2(const ft_gemm_tile *t)
{
    gemm(t);
}
#endif
