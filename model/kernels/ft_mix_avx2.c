#include "model/kernels/ft_mix.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

#include "model/kernels/ft_lanes_mix.h"

void ft_mix_avx2(float *out, const float *p, const float *v, size_t stride, size_t n, size_t d)
{
    mix(out, p, v, stride, n, d);
}
#endif
