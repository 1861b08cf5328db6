/* ft_exp: e^x in float32 by our own steps, so that its bits depend on no library.
 * x = n ln 2 + r with |r| <= ln 2 / 2; e^x = 2^n e^r, and e^r by a polynomial of
 * degree 7 (coefficients of Cephes' expf, S. Moshier). Off by at most 2 units in
 * the last place between FT_EXP_LOW and FT_EXP_HIGH; beyond them the value there. */
#ifndef FT_EXP_H
#define FT_EXP_H
#include "model/kernels/ft_float.h"

#include <math.h>

#define FT_EXP_LOW (-87.0f)
#define FT_EXP_HIGH 88.0f
#define FT_LOG2_E 1.44269504088896341f
#define FT_LN2_HIGH 0.693359375f
#define FT_LN2_LOW (-2.12194440e-4f)
#define FT_EXP_C0 5.0000001201e-1f
#define FT_EXP_C1 1.6666665459e-1f
#define FT_EXP_C2 4.1665795894e-2f
#define FT_EXP_C3 8.3334519073e-3f
#define FT_EXP_C4 1.3981999507e-3f
#define FT_EXP_C5 1.9875691500e-4f

static inline float ft_exp(float x)
{
    x = x > FT_EXP_LOW ? x : FT_EXP_LOW;
    x = x < FT_EXP_HIGH ? x : FT_EXP_HIGH;
    const float n = rintf(x * FT_LOG2_E);
    const float r = (x - n * FT_LN2_HIGH) - n * FT_LN2_LOW;
    float p = FT_EXP_C5;
    p = p * r + FT_EXP_C4;
    p = p * r + FT_EXP_C3;
    p = p * r + FT_EXP_C2;
    p = p * r + FT_EXP_C1;
    p = p * r + FT_EXP_C0;
    p = (p * (r * r) + r) + 1;
    return p * ft_float_from_bits((uint32_t)((int32_t)n + 127) << 23);
}
#endif
