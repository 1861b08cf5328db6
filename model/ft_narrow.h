/* ft_narrow: float32 to the shorter number formats, to the nearest, ties to even.
 * What is too large becomes infinite; NaN stays NaN. The way back is ft_float.h's. */
#ifndef FT_NARROW_H
#define FT_NARROW_H
#include <stdint.h>
#include <string.h>

static inline uint32_t ft_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline uint16_t ft_narrow_bf16(float x)
{
    const uint32_t bits = ft_float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t ft_narrow_f16(float x)
{
    const uint32_t bits = ft_float_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000u) /* 65520: half way to what would follow 65504 */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000u) { /* below 2^-14: a multiple of 2^-24, which this sum rounds to */
        float small;
        memcpy(&small, &magnitude, sizeof(small));
        return (uint16_t)(sign | (ft_float_bits(small + 0.5f) - 0x3f000000u));
    }
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112u << 10)));
}
#endif
