/* ft_prepare: a row of activations as matrix products read it.
 *
 *   F32   the floats themselves; a caller's own floats serve as they stand
 *   BF16  rounded to the nearest bfloat16 (even on a tie), zeros up to the next
 *         multiple of FT_INPUT_BLOCK columns
 *   I8    one ft_group for each 32 columns (n is a multiple of 32), then a float,
 *         check. A group's scale is the least power of two that brings its largest
 *         magnitude to 127 or below, so that x / scale is exact and rounded once to
 *         the nearest whole number (even on a tie), and so that a scale is applied
 *         by an addition to exponents. A group below 2^-80 is zero. check is 1; NaN
 *         where the row holds an infinity, a NaN or something beyond 2^100, so that
 *         its products show it.
 *
 * Each row begins at a multiple of ft_input_bytes: whole cache lines, of bfloat16 an odd
 * number of them, so that the same columns of many rows do not fall into the same few
 * sets of a cache. */
#ifndef FT_PREPARE_H
#define FT_PREPARE_H
#include "model/kernels/ft_float.h"
#include "model/kernels/ft_matmul.h"

#include <math.h>

enum { FT_INPUT_BLOCK = 256 };

#define FT_FLOAT_MAGNITUDE 0x7fffffffu
#define FT_GROUP_LEAST 0x17800000u /* bits of 2^-80 */
#define FT_GROUP_MOST 0x71800000u  /* bits of 2^100 */

typedef struct ft_group {
    int8_t q[FT_GROUP];
    float scale;
    int32_t start; /* -8 * sum of q: what takes the weights' +8 out of a group's sum (times 16: their +128) */
} ft_group;
_Static_assert(sizeof(ft_group) == 40, "kernels count on it");

static inline size_t ft_input_bytes(ft_input_type type, size_t cols)
{
    const size_t bytes = type == FT_INPUT_F32    ? cols * sizeof(float)
                         : type == FT_INPUT_BF16 ? (cols + FT_INPUT_BLOCK - 1) / FT_INPUT_BLOCK * (FT_INPUT_BLOCK * sizeof(uint16_t))
                                                 : (cols + FT_GROUP - 1) / FT_GROUP * sizeof(ft_group) + sizeof(float);
    const size_t lines = (bytes + 63) / 64;
    return (type == FT_INPUT_BF16 ? lines | 1 : lines) * 64;
}

/* The exponent of a group's scale, biased as in a float, from the bits of its largest
 * magnitude: 127 is 1.984375 * 2^6, and what has more in its fraction carries. */
static inline uint32_t ft_group_exponent(uint32_t most)
{
    return ((most + 0x1ffff) >> 23) - 6;
}

/* Whether the whole numbers of such a group are not simply 0. */
static inline int ft_group_counts(uint32_t most)
{
    return most >= FT_GROUP_LEAST && most <= FT_GROUP_MOST;
}

static inline float ft_power_of_two(uint32_t biased)
{
    return ft_float_from_bits(biased << 23);
}

static inline void ft_group_set_check(void *row, size_t groups, int good)
{
    const float check = good ? 1 : NAN;
    memcpy((ft_group *)row + groups, &check, sizeof(check));
}

static inline float ft_group_check(const void *row, size_t groups)
{
    return ft_f32_at((const ft_group *)row + groups, 0);
}

typedef void ft_prepare_fn(void *out, const float *x, size_t n);
ft_prepare_fn ft_prepare_f32;
ft_prepare_fn ft_prepare_bf16_scalar, ft_prepare_bf16_avx2, ft_prepare_bf16_avx512;
ft_prepare_fn ft_prepare_i8_scalar, ft_prepare_i8_avx2, ft_prepare_i8_avx512;

/* Zeros behind the n bfloat16 of a row. */
static inline void ft_prepare_pad(void *row, size_t n)
{
    memset((uint16_t *)row + n, 0, ft_input_bytes(FT_INPUT_BF16, n) - n * sizeof(uint16_t));
}
#endif
