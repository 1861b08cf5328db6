#include "model/kernels/ft_add_scaled.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "model/kernels/ft_simd_avx512.h"

#include "model/kernels/ft_lanes_add_scaled.h"

void ft_add_scaled_avx512(float *out, const float *x, float w, size_t n)
{
    add_scaled(out, x, w, n);
}
#endif
