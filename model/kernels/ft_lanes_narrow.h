/* ft_lanes_narrow: ft_narrow.h for any width of lanes; include an ft_simd_*.h first. */
#ifndef FT_LANES_NARROW_H
#define FT_LANES_NARROW_H
#include "model/kernels/ft_narrow.h"

FT_INLINE void narrow(void *out, size_t stride, const float *x, size_t n, int is_bf16)
{
    uint16_t *h = out, some[LANES];
    size_t i = 0;
    for (; stride == 1 && i + LANES <= n; i += LANES)
        lanes_store_half(h + i, lanes_load(x + i), is_bf16);
    for (; i < n; i += LANES) {
        const size_t left = n - i < LANES ? n - i : LANES;
        lanes_store_half(some, lanes_load_tail(x + i, tail_of(left)), is_bf16);
        for (size_t j = 0; j < left; j++)
            h[(i + j) * stride] = some[j];
    }
}
#endif
