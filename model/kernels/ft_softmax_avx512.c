#include "model/kernels/ft_softmax.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

#include "model/kernels/ft_lanes_softmax.h"

void ft_softmax_avx512(float *x, size_t n, float scale)
{
    softmax(x, n, scale);
}
#endif
