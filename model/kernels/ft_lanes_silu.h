/* ft_lanes_silu: ft_silu.h for any width of lanes; include an ft_simd_*.h first. */
#ifndef FT_LANES_SILU_H
#define FT_LANES_SILU_H
#include "model/kernels/ft_lanes_exp.h"
#include "model/kernels/ft_silu.h"

FT_INLINE void silu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        const lanes g = lanes_load_tail(gate + i, t), u = lanes_load_tail(up + i, t);
        const lanes below = lanes_add(lanes_of(1), lanes_exp(lanes_subtract(lanes_of(-0.0f), g)));
        lanes_store_tail(gate + i, t, lanes_multiply(lanes_divide(g, below), u));
    }
}
#endif
