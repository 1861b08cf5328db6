/* ft_lanes_mix: ft_mix.h for any width of lanes; include an ft_simd_*.h first. */
#ifndef FT_LANES_MIX_H
#define FT_LANES_MIX_H
#include "model/kernels/ft_mix.h"

enum { WIDE = 8 }; /* accumulators at once: a usual head in one go */

FT_INLINE void mix_some(float *out, const float *p, const float *v, size_t stride, size_t n, int wide)
{
    lanes sum[WIDE];
    FT_UNROLL
    for (int i = 0; i < wide; i++)
        sum[i] = lanes_of(0);
    for (size_t j = 0; j < n; j++) {
        const lanes by = lanes_of(p[j]);
        FT_UNROLL
        for (int i = 0; i < wide; i++)
            sum[i] = lanes_fma(by, lanes_load(v + j * stride + (size_t)i * LANES), sum[i]);
    }
    FT_UNROLL
    for (int i = 0; i < wide; i++)
        lanes_store(out + (size_t)i * LANES, sum[i]);
}

FT_INLINE void mix(float *out, const float *p, const float *v, size_t stride, size_t n, size_t d)
{
    size_t at = 0;
    for (; at + WIDE * LANES <= d; at += WIDE * LANES)
        mix_some(out + at, p, v + at, stride, n, WIDE);
    for (; at + WIDE / 2 * LANES <= d; at += WIDE / 2 * LANES)
        mix_some(out + at, p, v + at, stride, n, WIDE / 2);
    for (; at < d; at += LANES) {
        const tail t = tail_of(d - at);
        lanes sum = lanes_of(0);
        for (size_t j = 0; j < n; j++)
            sum = lanes_fma(lanes_of(p[j]), lanes_load_tail(v + j * stride + at, t), sum);
        lanes_store_tail(out + at, t, sum);
    }
}
#endif
