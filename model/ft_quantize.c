#include "model/ft_quantize.h"

#include "model/kernels/ft_float.h"

#include <math.h>
#include <string.h>

enum { TRIES = 9 }; /* on each side of 8 steps: 7.1 to 8.9 */

/* To the nearest integer, ties to even, for |x| < 2^22; a compiler vectorizes it everywhere. */
static inline float nearest(float x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23 */
    return (x + shift) - shift;
}

static inline float within(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* The group's value of largest magnitude, with its sign; NaN or infinite where one is. */
static float largest(const float *x)
{
    float most = 0;
    for (size_t i = 0; i < FT_GROUP; i++) {
        if (!isfinite(x[i]))
            return x[i];
        most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
    }
    return most;
}

/* Weights w = x / scale rounded: the sums of x w and w w, in 8 lanes and a fixed order. */
static void products(const float *x, float inverse, float *xw, float *ww)
{
    float a[8] = {0}, b[8] = {0};
    for (size_t i = 0; i < FT_GROUP; i += 8)
        for (size_t l = 0; l < 8; l++) {
            const float w = within(nearest(x[i + l] * inverse), -8, 7);
            a[l] += x[i + l] * w;
            b[l] += w * w;
        }
    *xw = *ww = 0;
    for (size_t l = 0; l < 8; l++) {
        *xw += a[l];
        *ww += b[l];
    }
}

/* For given weights the squared error is least at scale = sum xw / sum ww, where it
 * falls short of sum xx by (sum xw)^2 / sum ww: the most of that wins. */
static float scale_of_4(const float *x, float most)
{
    const float eighth = most / -8;
    float best = eighth, gain = -1;
    for (int i = -TRIES; i <= TRIES; i++) {
        float xw, ww;
        products(x, (-8 - 0.1f * (float)i) / most, &xw, &ww);
        if (ww > 0 && xw * xw > gain * ww) {
            gain = xw * xw / ww;
            best = xw / ww;
        }
    }
    return best;
}

/* The scale as float16; 0 where all weights are too small for one. Where float16 is
 * coarse (below 2^-14) a scale that would cut the largest value is rounded up. */
static uint16_t scale_of(ft_weight_type type, const float *x, float most)
{
    /* Where 1 / most would overflow, or a scale vanish: nothing is left of the group. */
    if (fabsf(most) < 0x1p-60f)
        return 0;
    const int eight = type == FT_WEIGHT_I8;
    uint16_t scale = ft_f16_of(eight ? fabsf(most) / 127 : scale_of_4(x, most));
    if ((scale & 0x7fff) && fabsf(ft_f16_at(&scale, 0)) * (eight ? 127.5f : 9.5f) < fabsf(most))
        scale++;
    return scale;
}

static void put_group(ft_weight_type type, const float *x, float scale, size_t r, uint8_t *out)
{
    const float inverse = scale == 0 ? 0 : 1 / scale;
    const int eight = type == FT_WEIGHT_I8;
    const float low = eight ? -127 : -8, high = eight ? 127 : 7, zero = eight ? 128 : 8;
    uint8_t w[FT_GROUP];
    for (size_t i = 0; i < FT_GROUP; i++) /* the bounds come first: nearest takes no large values */
        w[i] = (uint8_t)(nearest(within(x[i] * inverse, low, high)) + zero);
    for (size_t q = 0; q < (eight ? 8u : 4u); q++)
        for (size_t b = 0; b < 4; b++)
            out[(q * FT_BLOCK_ROWS + r) * 4 + b] =
                eight ? w[4 * q + b] : (uint8_t)(w[8 * q + b] | w[8 * q + 4 + b] << 4);
}

int ft_quant_is_packed(const ft_tensor *q, const ft_tensor *scales, ft_weight_type *type)
{
    if (!q || !scales || q->dims != 3 || scales->dims != 3)
        return 0;
    *type = q->shape[2] == FT_GROUP_BYTES_I8 ? FT_WEIGHT_I8 : FT_WEIGHT_I4;
    return q->shape[2] == ft_quant_group_bytes(*type) && scales->shape[0] == q->shape[0] &&
           scales->shape[1] == q->shape[1] && scales->shape[2] == FT_BLOCK_ROWS && !strcmp(q->dtype, "U8") &&
           !strcmp(scales->dtype, "F16");
}

ft_code ft_quantize_block(ft_weight_type type, const float *x, size_t count, size_t cols, uint8_t *weights,
                          uint16_t *scales, size_t *bad_row)
{
    const size_t group_bytes = ft_quant_group_bytes(type);
    memset(weights, type == FT_WEIGHT_I8 ? 0x80 : 0x88, ft_quant_block_bytes(type, cols));
    memset(scales, 0, ft_quant_scale_bytes(cols));
    for (size_t r = 0; r < count; r++)
        for (size_t g = 0; g < cols / FT_GROUP; g++) {
            const float *group = x + r * cols + g * FT_GROUP;
            const float most = largest(group);
            const uint16_t scale = isfinite(most) ? scale_of(type, group, most) : 0x7c00;
            if ((scale & 0x7c00) == 0x7c00) {
                *bad_row = r;
                return FT_ERR_FORMAT;
            }
            scales[g * FT_BLOCK_ROWS + r] = scale;
            put_group(type, group, ft_f16_at(&scale, 0), r, weights + g * group_bytes);
        }
    return FT_OK;
}

void ft_dequantize_row(ft_weight_type type, const void *weights, const void *scales, size_t row, size_t cols,
                       float *out)
{
    const size_t group_bytes = ft_quant_group_bytes(type);
    for (size_t g = 0; g < cols / FT_GROUP; g++, out += FT_GROUP) {
        const float scale = ft_f16_at(scales, g * FT_BLOCK_ROWS + row);
        const uint8_t *group = (const uint8_t *)weights + g * group_bytes + 4 * row;
        for (size_t i = 0; i < FT_GROUP; i++) {
            int w;
            if (type == FT_WEIGHT_I8) {
                w = group[i / 4 * FT_BLOCK_ROWS * 4 + i % 4] - 128;
            } else {
                const uint8_t two = group[i / 8 * FT_BLOCK_ROWS * 4 + i % 4];
                w = (i & 4 ? two >> 4 : two & 15) - 8;
            }
            out[i] = scale * (float)w;
        }
    }
}
