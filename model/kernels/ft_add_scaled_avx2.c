#include "model/kernels/ft_add_scaled.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "model/kernels/ft_simd_avx2.h"

#include "model/kernels/ft_lanes_add_scaled.h"

void ft_add_scaled_avx2(float *out, const float *x, float w, size_t n)
{
    add_scaled(out, x, w, n);
}
#endif
