/* ft_lanes_exp: ft_exp (ft_exp.h) on all lanes; include an ft_simd_*.h first. */
#ifndef FT_LANES_EXP_H
#define FT_LANES_EXP_H
#include "model/kernels/ft_exp.h"

FT_INLINE lanes lanes_exp(lanes x)
{
    x = lanes_min(lanes_max(x, lanes_of(FT_EXP_LOW)), lanes_of(FT_EXP_HIGH));
    const lanes n = lanes_round(lanes_multiply(x, lanes_of(FT_LOG2_E)));
    lanes r = lanes_fma(n, lanes_of(-FT_LN2_HIGH), x);
    r = lanes_fma(n, lanes_of(-(FT_LN2_LOW)), r);
    lanes p = lanes_of(FT_EXP_C5);
    p = lanes_fma(p, r, lanes_of(FT_EXP_C4));
    p = lanes_fma(p, r, lanes_of(FT_EXP_C3));
    p = lanes_fma(p, r, lanes_of(FT_EXP_C2));
    p = lanes_fma(p, r, lanes_of(FT_EXP_C1));
    p = lanes_fma(p, r, lanes_of(FT_EXP_C0));
    p = lanes_add(lanes_fma(p, lanes_multiply(r, r), r), lanes_of(1));
    return lanes_multiply(p, lanes_power_of_two(n));
}
#endif
