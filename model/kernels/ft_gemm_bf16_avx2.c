#include "model/kernels/ft_gemm_tile.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "model/kernels/ft_simd_avx2.h"

#define FT_OPERAND_PAIRS
#include "model/kernels/ft_lanes_operand.h"

enum { TILE_ROWS = 4 }; /* 8 accumulators, 4 of b, 2 of a */
#include "model/kernels/ft_lanes_gemm.h"

void ft_gemm_bf16_avx2(const ft_gemm_tile *t)
{
    gemm(t);
}
#endif
