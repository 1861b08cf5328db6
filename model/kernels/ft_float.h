/* ft_float: the three number formats of stored weights, widened exactly to
 * float32 from any address, and float32 rounded to the two short ones. */
#ifndef FT_FLOAT_H
#define FT_FLOAT_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Loops over a constant few accumulators have to be unrolled for these to live
 * in registers; clang does it unasked and does not know the pragma. */
#if defined(__clang__)
#define FT_UNROLL
#else
#define FT_UNROLL _Pragma("GCC unroll 16")
#endif

static inline float ft_float_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static inline uint32_t ft_float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

static inline float ft_f32_at(const void *p, size_t i)
{
    float f;
    memcpy(&f, (const char *)p + i * sizeof(f), sizeof(f));
    return f;
}

static inline uint16_t ft_u16_at(const void *p, size_t i)
{
    uint16_t h;
    memcpy(&h, (const char *)p + i * sizeof(h), sizeof(h));
    return h;
}

/* bfloat16 is the upper half of a float32. */
static inline float ft_bf16_at(const void *p, size_t i)
{
    return ft_float_from_bits((uint32_t)ft_u16_at(p, i) << 16);
}

/* IEEE half: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static inline float ft_f16_at(const void *p, size_t i)
{
    const uint32_t h = ft_u16_at(p, i), sign = (h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) /* infinity and NaN */
        return ft_float_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent)
        return ft_float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    const float tiny = (float)fraction * 0x1p-24f; /* subnormal, exact */
    return sign ? -tiny : tiny;
}

/* To nearest, even on a tie; a NaN stays one. */
static inline uint16_t ft_bf16_of(float f)
{
    const uint32_t bits = ft_float_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t ft_f16_of(float f)
{
    const uint32_t bits = ft_float_bits(f), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) /* NaN: its upper bits, made quiet */
        return (uint16_t)(sign | 0x7e00 | (size >> 13 & 1023));
    if (size >= 0x477ff000) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (size < 0x38800000) { /* below 2^-14: a multiple of 2^-24; the sum rounds it, 0.5 has it in its low bits */
        const float shifted = ft_float_from_bits(size) + 0.5f;
        return (uint16_t)(sign | (ft_float_bits(shifted) - 0x3f000000));
    }
    return (uint16_t)(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
}
#endif
