/* ft_lanes_rotate: ft_rotate.h for any width of lanes; include an ft_simd_*.h first. */
#ifndef FT_LANES_ROTATE_H
#define FT_LANES_ROTATE_H
#include "model/kernels/ft_rotate.h"

FT_INLINE void rotate(float *heads, size_t count, const float *cosines, const float *sines, size_t half)
{
    for (size_t h = 0; h < count; h++, heads += 2 * half)
        for (size_t i = 0; i < half; i += LANES) {
            const tail t = tail_of(half - i);
            const lanes a = lanes_load_tail(heads + i, t), b = lanes_load_tail(heads + half + i, t);
            const lanes c = lanes_load_tail(cosines + i, t), s = lanes_load_tail(sines + i, t);
            lanes_store_tail(heads + i, t, lanes_subtract(lanes_multiply(a, c), lanes_multiply(b, s)));
            lanes_store_tail(heads + half + i, t, lanes_add(lanes_multiply(b, c), lanes_multiply(a, s)));
        }
}
#endif
