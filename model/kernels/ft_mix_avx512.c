#include "model/kernels/ft_mix.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

#include "model/kernels/ft_lanes_mix.h"

void ft_mix_avx512(float *out, const float *p, const float *v, size_t stride, size_t n, size_t d)
{
    mix(out, p, v, stride, n, d);
}
#endif
