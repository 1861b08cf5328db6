#include "model/kernels/ft_rotate.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

#include "model/kernels/ft_lanes_rotate.h"

void ft_rotate_avx2(float *heads, size_t count, const float *cosines, const float *sines, size_t half)
{
    rotate(heads, count, cosines, sines, half);
}
#endif
