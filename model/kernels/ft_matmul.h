/* ft_matmul: out[t, r] = sum over k of w[r, k] * x[t, k].
 *
 * Weights are read as they are stored. What a product reads as x depends on the
 * weights' type and on the precision of computing: ft_input_of names it, and
 * ft_prepare.h makes it, once for all products that share their input.
 *
 *   weights   computing in     input            products and sums
 *   F32, F16  either           float32          float32
 *   BF16      FT_COMPUTE_FLOAT32   float32          float32, weights widened exactly
 *   BF16      FT_COMPUTE_BFLOAT16  bfloat16         exact products, float32 sums
 *   I8, I4    either           int8, groups     whole numbers in a group of 32, exact;
 *                                               float32 over the groups, in order
 *
 * Shapes   w [R, K], x [T, K], out [T, R]; row-major. I8 and I4: below.
 * Bits     an output element is summed in an order that depends on K alone: tiles
 *          over rows and tokens, and the split over threads, leave no trace.
 * Tasks    rows are dealt out from multiples of FT_MATMUL_ROWS on (ft_matmul_rows).
 * Memory   w, x and out need no alignment (weights lie on even addresses, float32
 *          ones on multiples of 4). Weights are read once for all tokens while a
 *          panel of rows stays in the second-level cache.
 *
 * Quantized weights (I8, I4) stand in groups of 32 along k, 16 rows to a block, the
 * last block filled up with rows of scale 0. K is a multiple of 32; B = rows / 16
 * rounded up, G = K / 32:
 *   I8  w [B, G, 512] bytes: (q * 16 + r) * 4 + b holds the weight of row r, column
 *       4 q + b of the group, plus 128; q = 0..7
 *   I4  w [B, G, 256] bytes: (q * 16 + r) * 4 + b holds column 8 q + b in its low and
 *       column 8 q + 4 + b in its high four bits, each plus 8; q = 0..3
 *   scales [B, G, 16] float16, not negative; a weight is scale * whole number. Where
 *   a scale is 0, so are the weights. */
#ifndef FT_MATMUL_H
#define FT_MATMUL_H
#include "model/ft_precision.h"

#include <stddef.h>
#include <stdint.h>

typedef enum ft_input_type { FT_INPUT_F32, FT_INPUT_BF16, FT_INPUT_I8, FT_INPUT_TYPES } ft_input_type;
enum {
    FT_MATMUL_ROWS = 16, /* a task's first row is a multiple of this */
    FT_GROUP = 32,       /* columns that share a scale */
    FT_BLOCK_ROWS = 16,  /* rows of a quantized block */
    FT_GROUP_BYTES_I8 = 512,
    FT_GROUP_BYTES_I4 = 256
};

typedef struct ft_matmul {
    const void *w;
    const uint16_t *scales; /* I8, I4: float16; else not read */
    size_t w_stride;        /* columns from a row to the next; I8, I4: not read, blocks are dense */
    size_t rows, cols;
    const void *x;         /* rows prepared as ft_input_of says */
    size_t x_stride;       /* BYTES from a prepared row to the next */
    const uint32_t *index; /* [T] row of x for each token; NULL: 0, 1, 2 … */
    size_t tokens;
    float *out;
    size_t out_stride; /* floats from a token's outputs to the next's */
    const void *next;  /* weights of w's stride that come afterwards: a kernel may fetch them meanwhile; NULL: none */
    size_t next_rows;
} ft_matmul;
typedef void ft_matmul_fn(const ft_matmul *m);

ft_matmul_fn ft_matmul_f32_scalar, ft_matmul_bf16_scalar, ft_matmul_f16_scalar, ft_matmul_bf16_bf16_scalar;
ft_matmul_fn ft_matmul_f32_avx2, ft_matmul_bf16_avx2, ft_matmul_f16_avx2, ft_matmul_bf16_bf16_avx2;
ft_matmul_fn ft_matmul_f32_avx512, ft_matmul_bf16_avx512, ft_matmul_f16_avx512, ft_matmul_bf16_bf16_avx512;
ft_matmul_fn ft_matmul_bf16_bf16_avx512dot, ft_matmul_bf16_bf16_amx;
ft_matmul_fn ft_matmul_i8_scalar, ft_matmul_i8_avx2, ft_matmul_i8_avx512dot;
ft_matmul_fn ft_matmul_i4_scalar, ft_matmul_i4_avx2, ft_matmul_i4_avx512dot;

static inline ft_input_type ft_input_of(ft_weight_type w, ft_compute c)
{
    return w == FT_WEIGHT_I8 || w == FT_WEIGHT_I4            ? FT_INPUT_I8
           : w == FT_WEIGHT_BF16 && c == FT_COMPUTE_BFLOAT16 ? FT_INPUT_BF16
                                                             : FT_INPUT_F32;
}

/* Bytes of `rows` rows of weights, rows a multiple of FT_MATMUL_ROWS. */
static inline size_t ft_weight_bytes(ft_weight_type type, size_t rows, size_t stride)
{
    switch (type) {
    case FT_WEIGHT_F32:
        return rows * stride * 4;
    case FT_WEIGHT_I8:
        return rows * stride;
    case FT_WEIGHT_I4:
        return rows * stride / 2;
    default:
        return rows * stride * 2;
    }
}

/* The part of `m` that computes rows first … first + rows - 1; `first` is a
 * multiple of FT_MATMUL_ROWS. */
static inline ft_matmul ft_matmul_rows(const ft_matmul *m, ft_weight_type type, size_t first, size_t rows)
{
    const int quantized = type == FT_WEIGHT_I8 || type == FT_WEIGHT_I4;
    ft_matmul part = *m;
    part.w = (const char *)m->w + ft_weight_bytes(type, first, quantized ? m->cols : m->w_stride);
    part.scales = quantized ? m->scales + first * (m->cols / FT_GROUP) : NULL;
    part.rows = rows;
    part.out = m->out + first;
    return part;
}

/* Prepared row of x that token t reads. */
static inline const void *ft_matmul_x(const ft_matmul *m, size_t t)
{
    return (const char *)m->x + (m->index ? m->index[t] : t) * m->x_stride;
}

/* Width of the next tile where `left` tokens are left: as even as can be, at most
 * `most`. What it is leaves no trace in bits. */
static inline size_t ft_matmul_tile(size_t left, size_t most)
{
    const size_t tiles = (left + most - 1) / most;
    return (left + tiles - 1) / tiles;
}
#endif
