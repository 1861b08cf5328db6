#include "model/kernels/ft_narrow.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

#include "model/kernels/ft_lanes_narrow.h"

void ft_narrow_f16_avx2(void *out, size_t stride, const float *x, size_t n)
{
    narrow(out, stride, x, n, 0);
}

void ft_narrow_bf16_avx2(void *out, size_t stride, const float *x, size_t n)
{
    narrow(out, stride, x, n, 1);
}
#endif
