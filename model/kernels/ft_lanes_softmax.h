/* ft_lanes_softmax: ft_softmax.h for any width of lanes; include an ft_simd_*.h first. */
#ifndef FT_LANES_SOFTMAX_H
#define FT_LANES_SOFTMAX_H
#include "model/kernels/ft_lanes_exp.h"
#include "model/kernels/ft_softmax.h"

FT_INLINE void softmax(float *x, size_t n, float scale)
{
    const lanes lowest = lanes_of(-INFINITY), by = lanes_of(scale);
    lanes max = lowest;
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        const lanes v = lanes_multiply(lanes_load_tail(x + i, t), by);
        lanes_store_tail(x + i, t, v);
        max = lanes_max(max, lanes_choose(t, v, lowest));
    }
    float each[LANES];
    lanes_store(each, max);
    for (int i = 1; i < LANES; i++)
        each[0] = each[i] > each[0] ? each[i] : each[0];
    const lanes top = lanes_of(each[0]);
    lanes sum = lanes_of(0);
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        const lanes e = lanes_exp(lanes_subtract(lanes_load_tail(x + i, t), top));
        lanes_store_tail(x + i, t, e);
        sum = lanes_add(sum, lanes_choose(t, e, lanes_of(0)));
    }
    const lanes share = lanes_of(1 / lanes_sum(sum));
    for (size_t i = 0; i < n; i += LANES) {
        const tail t = tail_of(n - i);
        lanes_store_tail(x + i, t, lanes_multiply(lanes_load_tail(x + i, t), share));
    }
}
#endif
