#include "model/kernels/ft_narrow.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

#include "model/kernels/ft_lanes_narrow.h"

void ft_narrow_f16_avx512(void *out, size_t stride, const float *x, size_t n)
{
    narrow(out, stride, x, n, 0);
}

void ft_narrow_bf16_avx512(void *out, size_t stride, const float *x, size_t n)
{
    narrow(out, stride, x, n, 1);
}
#endif
