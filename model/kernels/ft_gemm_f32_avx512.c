#include "model/kernels/ft_gemm_tile.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

#include "model/kernels/ft_lanes_operand.h"

enum { TILE_ROWS = 12 }; /* 24 accumulators, 2 of b, 1 of a */
#include "model/kernels/ft_lanes_gemm.h"

void ft_gemm_f32_avx512(const ft_gemm_tile *t)
{
    gemm(t);
}
#endif
