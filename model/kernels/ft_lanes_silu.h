/* ft_lanes_silu: ft_silu.h for any width of lanes; include an ft_simd_*.h first. */
#ifndef FT_LANES_SILU_H
#define FT_LANES_SILU_H
#include "model/kernels/ft_lanes_exp.h"
#include "model/kernels/ft_silu.h"

FT_INLINE lanes lanes_gated(lanes gate, lanes up)
{
    const lanes below = lanes_add(lanes_of(1), lanes_exp(lanes_subtract(lanes_of(-0.0f), gate)));
    return lanes_multiply(lanes_divide(gate, below), up);
}

FT_INLINE void silu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        lanes_store_tail(gate + i, t, lanes_gated(lanes_load_tail(gate + i, t), lanes_load_tail(up + i, t)));
    }
}
#endif
