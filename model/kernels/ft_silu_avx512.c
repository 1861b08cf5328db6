#include "model/kernels/ft_silu.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

#include "model/kernels/ft_lanes_silu.h"

void ft_silu_avx512(float *gate, const float *up, size_t n)
{
    silu(gate, up, n);
}
#endif
