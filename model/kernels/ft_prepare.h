/* ft_prepare: a row of activations as matrix products read it.
 *
 *   F32   the floats themselves; a caller's own floats serve as they stand
 *   BF16  rounded to the nearest bfloat16 (even on a tie), zeros up to the next
 *         multiple of 32 columns
 *   I8    one ft_group for each 32 columns: n is a multiple of 32. With a the
 *         largest magnitude of a group, scale = a / 127 and each number is the whole
 *         one nearest to x * (127 / a). A group in which a is below 2^-100 is zero;
 *         one with an infinity or a NaN in it has the scale NaN, so that the
 *         products show it.
 *
 * Each row begins at a multiple of ft_input_bytes: whole cache lines. */
#ifndef FT_PREPARE_H
#define FT_PREPARE_H
#include "model/kernels/ft_float.h"
#include "model/kernels/ft_matmul.h"

#define FT_FLOAT_INFINITY 0x7f800000u
#define FT_FLOAT_MAGNITUDE 0x7fffffffu
#define FT_GROUP_ZERO 0x0d800000u /* bits of 2^-100 */

typedef struct ft_group {
    int8_t q[FT_GROUP];
    float scale;
    int32_t start; /* -8 * sum of q: what takes the weights' +8 out of a group's sum (times 16: their +128) */
} ft_group;
_Static_assert(sizeof(ft_group) == 40, "kernels count on it");

static inline size_t ft_input_bytes(ft_input_type type, size_t cols)
{
    const size_t bytes = type == FT_INPUT_F32    ? cols * sizeof(float)
                         : type == FT_INPUT_BF16 ? cols * sizeof(uint16_t)
                                                 : (cols + FT_GROUP - 1) / FT_GROUP * sizeof(ft_group);
    return (bytes + 63) / 64 * 64;
}

/* Scale and inverse scale of a group from the bits of its largest magnitude. */
static inline float ft_group_scale(uint32_t most)
{
    if (most >= FT_FLOAT_INFINITY)
        return ft_float_from_bits(FT_FLOAT_INFINITY | 1u << 22); /* a quiet NaN */
    return most < FT_GROUP_ZERO ? 0 : ft_float_from_bits(most) / 127;
}

/* 0: all numbers of the group are 0. */
static inline float ft_group_inverse(uint32_t most)
{
    return most < FT_GROUP_ZERO || most >= FT_FLOAT_INFINITY ? 0 : 127 / ft_float_from_bits(most);
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
