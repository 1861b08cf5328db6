#include "model/kernels/ft_rotate.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

#include "model/kernels/ft_lanes_rotate.h"

void ft_rotate_avx512(float *heads, size_t count, const float *cosines, const float *sines, size_t half)
{
    rotate(heads, count, cosines, sines, half);
}
#endif
