#include "model/kernels/ft_softmax.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

#include "model/kernels/ft_lanes_softmax.h"

void ft_softmax_avx2(float *x, size_t n, float scale)
{
    softmax(x, n, scale);
}
#endif
