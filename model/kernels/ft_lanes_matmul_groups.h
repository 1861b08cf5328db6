/* ft_lanes_matmul_groups: ft_matmul.h of int8 and int4 for any width of lanes. Lanes
 * are rows: LANES rows of a block are a slice. The file that includes it has included
 * an ft_simd_*.h and defined
 *   SLICES, TOKENS  the size of a tile: a sum of whole numbers and a float one for
 *                   each of SLICES * TOKENS have to fit the registers
 *   whole           LANES whole sums
 *   some_weights    a slice's columns 8 q … 8 q + 7 of a group, as load_weights gives
 *                   them from `p`, where the first of them stand
 *   whole_start     what a group's sums start at, from ft_group.start
 *   whole_dot       adds the products of eight columns
 *   whole_to_lanes  to float32 */
#ifndef FT_LANES_MATMUL_GROUPS_H
#define FT_LANES_MATMUL_GROUPS_H
#include "model/kernels/ft_prepare.h"

enum {
    PARTS = FT_BLOCK_ROWS / LANES, /* slices of a block */
    PANEL = 64 / LANES,            /* slices that stay in the second-level cache while all tokens pass */
    FEW_TOKENS = 2 * TOKENS,       /* these take one tile of slices after the other: memory is one stream */
    AHEAD = 4096,                  /* bytes from what is read to what is fetched */
};

typedef struct slices {
    const char *w[SLICES], *scales[SLICES];
    size_t ahead;
} slices;

FT_INLINE size_t group_bytes(int bits)
{
    return bits == 8 ? FT_GROUP_BYTES_I8 : FT_GROUP_BYTES_I4;
}

/* The whole sums of group g, then one step of the float sums. */
FT_INLINE void group(int bits, const slices *s, const ft_group *const *x, size_t g, lanes sum[SLICES][TOKENS], int many,
                     int tokens)
{
    whole dot[SLICES][TOKENS];
    FT_UNROLL
    for (int t = 0; t < tokens; t++) {
        FT_UNROLL
        for (int i = 0; i < many; i++)
            dot[i][t] = whole_start(bits, &x[t][g].start);
    }
    FT_UNROLL
    for (int q = 0; q < 4; q++) {
        some_weights w[SLICES];
        FT_UNROLL
        for (int i = 0; i < many; i++) {
            const char *p = s->w[i] + g * group_bytes(bits) + (size_t)q * (group_bytes(bits) / 4);
            __builtin_prefetch(p + s->ahead, 0, 3);
            if (bits == 8)
                __builtin_prefetch(p + s->ahead + 64, 0, 3);
            w[i] = load_weights(bits, p);
        }
        FT_UNROLL
        for (int t = 0; t < tokens; t++) {
            FT_UNROLL
            for (int i = 0; i < many; i++)
                dot[i][t] = whole_dot(bits, w[i], x[t][g].q + q * 8, dot[i][t]);
        }
    }
    lanes scale[SLICES];
    FT_UNROLL
    for (int i = 0; i < many; i++)
        scale[i] = lanes_load_half(s->scales[i] + g * FT_BLOCK_ROWS * sizeof(uint16_t), 0);
    FT_UNROLL
    for (int t = 0; t < tokens; t++) {
        const lanes by = lanes_of(x[t][g].scale);
        FT_UNROLL
        for (int i = 0; i < many; i++)
            sum[i][t] = lanes_fma(whole_to_lanes(dot[i][t]), lanes_multiply(scale[i], by), sum[i][t]);
    }
}

/* One tile of slices x tokens. */
FT_INLINE void tile(int bits, const ft_matmul *m, size_t slice, size_t t0, int many, int tokens)
{
    const size_t groups = m->cols / FT_GROUP;
    slices s = {.ahead = (slice + (size_t)many) * LANES < m->rows ? AHEAD : 0};
    const ft_group *x[TOKENS];
    lanes sum[SLICES][TOKENS];
    FT_UNROLL
    for (int i = 0; i < many; i++) {
        const size_t block = (slice + (size_t)i) / PARTS, part = (slice + (size_t)i) % PARTS;
        s.w[i] = (const char *)m->w + block * groups * group_bytes(bits) + part * LANES * 4;
        s.scales[i] = (const char *)(m->scales + block * groups * FT_BLOCK_ROWS + part * LANES);
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[i][t] = lanes_of(0);
    }
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        x[t] = ft_matmul_x(m, t0 + (size_t)t);
    for (size_t g = 0; g < groups; g++)
        group(bits, &s, x, g, sum, many, tokens);
    FT_UNROLL
    for (int i = 0; i < many; i++) {
        const size_t row = (slice + (size_t)i) * LANES;
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            lanes_store_tail(m->out + (t0 + (size_t)t) * m->out_stride + row, tail_of(m->rows - row), sum[i][t]);
    }
}

enum {
    AT_MOST_2 = TOKENS < 2 ? TOKENS : 2,
    AT_MOST_3 = TOKENS < 3 ? TOKENS : 3,
    AT_MOST_4 = TOKENS < 4 ? TOKENS : 4,
    AT_MOST_5 = TOKENS < 5 ? TOKENS : 5
};

/* A tile of `tokens` <= TOKENS: each size is a constant, so that sums stay in registers. */
FT_INLINE void tile_of(int bits, const ft_matmul *m, size_t slice, size_t t, int many, size_t tokens)
{
    _Static_assert(TOKENS <= 6, "a case for each size");
    switch (tokens) {
    case 1:
        tile(bits, m, slice, t, many, 1);
        break;
    case 2:
        tile(bits, m, slice, t, many, AT_MOST_2);
        break;
    case 3:
        tile(bits, m, slice, t, many, AT_MOST_3);
        break;
    case 4:
        tile(bits, m, slice, t, many, AT_MOST_4);
        break;
    case 5:
        tile(bits, m, slice, t, many, AT_MOST_5);
        break;
    default:
        tile(bits, m, slice, t, many, TOKENS);
    }
}

/* Slices first … last - 1 for all tokens: a tile of tokens stays in the first-level
 * cache while the slices pass. */
FT_INLINE void panel(int bits, const ft_matmul *m, size_t first, size_t last)
{
    for (size_t t = 0, tokens; t < m->tokens; t += tokens) {
        tokens = ft_matmul_tile(m->tokens - t, TOKENS);
        size_t i = first;
        for (; i + SLICES <= last; i += SLICES)
            tile_of(bits, m, i, t, SLICES, tokens);
        for (; i < last; i++)
            tile_of(bits, m, i, t, 1, tokens);
    }
}

FT_INLINE void matmul(int bits, const ft_matmul *m)
{
    const size_t count = (m->rows + LANES - 1) / LANES, each = m->tokens <= FEW_TOKENS ? SLICES : PANEL;
    for (size_t i = 0; i < count; i += each)
        panel(bits, m, i, i + each < count ? i + each : count);
}
#endif
