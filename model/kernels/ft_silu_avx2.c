#include "model/kernels/ft_silu.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

#include "model/kernels/ft_lanes_silu.h"

void ft_silu_avx2(float *gate, const float *up, size_t n)
{
    silu(gate, up, n);
}
#endif
