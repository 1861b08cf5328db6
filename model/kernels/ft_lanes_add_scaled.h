/* ft_lanes_add_scaled: ft_add_scaled.h for any width of lanes; include an ft_simd_*.h first. */
#ifndef FT_LANES_ADD_SCALED_H
#define FT_LANES_ADD_SCALED_H
#include "model/kernels/ft_add_scaled.h"

FT_INLINE void add_scaled(float *out, const float *x, float w, size_t n)
{
    const lanes by = lanes_of(w);
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        lanes_store_tail(out + i, t, lanes_fma(by, lanes_load_tail(x + i, t), lanes_load_tail(out + i, t)));
    }
}
#endif
