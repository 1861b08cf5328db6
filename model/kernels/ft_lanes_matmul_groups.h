/* ft_lanes_matmul_groups: ft_matmul.h of int8 and int4 for any width of lanes. Lanes
 * are rows: LANES rows of a block are a slice. The file that includes it has included
 * an ft_simd_*.h and defined
 *   SLICES, TOKENS  the size of a tile where tokens are many, and
 *   FEW             of one slice where they are few: a sum of whole numbers and a
 *                   float one for each of SLICES * TOKENS, of FEW, fit the registers
 *   LONE, PAIR      slices that one token, and a few, read side by side; 1: one after the
 *                   other
 *   whole           LANES whole sums
 *   some_weights    a slice's columns 8 q … 8 q + 7 of a group, as load_weights gives
 *                   them from `p`, where the first of them stand
 *   whole_start     what a group's sums start at, from ft_group.start
 *   whole_dot       adds the products of eight columns
 *   whole_to_lanes  to float32
 *   scale_load      scales of a slice's rows in one group, as scale_by wants them
 *   scale_by        their products with the scale of an input's group, exact */
#ifndef FT_LANES_MATMUL_GROUPS_H
#define FT_LANES_MATMUL_GROUPS_H
#include "model/kernels/ft_prepare.h"

/* Many tokens: a panel of slices stays in the second-level cache while they pass.
 * Few: time goes into fetching weights. Slices far apart go side by side, because
 * memory gives more to several streams than to one; what is left over is one stream.
 * Scales are streams too. The inputs stay in the first-level cache, and where they do
 * not fit, columns go in blocks and the float sums between them through `sums`. */
enum {
    PARTS = FT_BLOCK_ROWS / LANES, /* slices of a block */
    PANEL_FEW = 4,
    PANEL_MANY = 64 / LANES,
    MOST_SLICES = SLICES > LONE ? SLICES : LONE,
    MOST_SUMS = SLICES * TOKENS > PAIR * FEW ? SLICES * TOKENS : PAIR * FEW,
    BLOCK_BYTES = 28 << 10,
    AHEAD = 4096,
    AHEAD_APART = 1024,
    AHEAD_SCALES = 128
};
_Static_assert((int)LONE <= (int)MOST_SUMS && (int)PAIR <= (int)MOST_SLICES, "room for each");

typedef struct panel {
    const ft_matmul *m;
    size_t first, last; /* slices */
    size_t from, to;    /* groups */
    size_t apart;       /* slices from one of a tile to the next */
    size_t groups, ahead;
    lanes (*sums)[MOST_SUMS]; /* [PANEL_FEW] */
} panel;

FT_INLINE size_t group_bytes(int bits)
{
    return bits == 8 ? FT_GROUP_BYTES_I8 : FT_GROUP_BYTES_I4;
}

/* The whole sums of group g, then one step of the float sums. */
FT_INLINE void group(int bits, const char *const *w, const char *const *scales, const ft_group *const *x, size_t g,
                     size_t ahead, lanes *sum, int slices, int tokens)
{
    whole dot[MOST_SUMS];
    FT_UNROLL
    for (int t = 0; t < tokens; t++) {
        FT_UNROLL
        for (int i = 0; i < slices; i++)
            dot[i * tokens + t] = whole_start(bits, &x[t][g].start);
    }
    FT_UNROLL
    for (int q = 0; q < 4; q++) {
        some_weights some[MOST_SLICES];
        FT_UNROLL
        for (int i = 0; i < slices; i++) {
            const char *p = w[i] + g * group_bytes(bits) + (size_t)q * (group_bytes(bits) / 4);
            __builtin_prefetch(p + ahead, 0, 3);
            if (bits == 8)
                __builtin_prefetch(p + ahead + 64, 0, 3);
            some[i] = load_weights(bits, p);
        }
        FT_UNROLL
        for (int t = 0; t < tokens; t++) {
            FT_UNROLL
            for (int i = 0; i < slices; i++)
                dot[i * tokens + t] = whole_dot(bits, some[i], x[t][g].q + q * 8, dot[i * tokens + t]);
        }
    }
    FT_UNROLL
    for (int i = 0; i < slices; i++) {
        const char *p = scales[i] + g * FT_BLOCK_ROWS * sizeof(uint16_t);
        __builtin_prefetch(p + AHEAD_SCALES, 0, 3);
        const lanes scale = scale_load(p);
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[i * tokens + t] =
                lanes_fma(whole_to_lanes(dot[i * tokens + t]), scale_by(scale, x[t][g].scale), sum[i * tokens + t]);
    }
}

/* One tile of slices x tokens. `sums` holds its sums from one block of columns to the
 * next; NULL: there is one block. */
FT_INLINE void tile(int bits, const panel *p, size_t slice, size_t t0, lanes *sums, int slices, int tokens)
{
    const ft_matmul *m = p->m;
    const char *w[MOST_SLICES], *scales[MOST_SLICES];
    const ft_group *x[TOKENS > FEW ? TOKENS : FEW];
    lanes sum[MOST_SUMS];
    FT_UNROLL
    for (int i = 0; i < slices; i++) {
        const size_t at = slice + (size_t)i * p->apart, block = at / PARTS, part = at % PARTS;
        w[i] = (const char *)m->w + block * p->groups * group_bytes(bits) + part * LANES * 4;
        scales[i] = (const char *)(m->scales + block * p->groups * FT_BLOCK_ROWS + part * LANES);
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            sum[i * tokens + t] = sums && p->from ? sums[i * tokens + t] : lanes_of(0);
    }
    FT_UNROLL
    for (int t = 0; t < tokens; t++)
        x[t] = ft_matmul_x(m, t0 + (size_t)t);
    const int last = p->apart == 1 && (slice + (size_t)slices) * LANES >= m->rows;
    for (size_t g = p->from; g < p->to; g++)
        group(bits, w, scales, x, g, last ? 0 : p->ahead, sum, slices, tokens);
    FT_UNROLL
    for (int i = 0; i < slices; i++) {
        const size_t row = (slice + (size_t)i * p->apart) * LANES;
        FT_UNROLL
        for (int t = 0; t < tokens; t++)
            if (sums && p->to < p->groups)
                sums[i * tokens + t] = sum[i * tokens + t];
            else
                lanes_store_tail(m->out + (t0 + (size_t)t) * m->out_stride + row, tail_of(m->rows - row),
                                 lanes_multiply(sum[i * tokens + t], lanes_of(ft_group_check(x[t], p->groups))));
    }
}

/* The least of a and b, for constants. */
#define AT_MOST(a, b) ((a) < (b) ? (a) : (b))

/* A tile of `tokens` <= most: each size is a constant, so that sums stay in registers. */
FT_INLINE void tile_of(int bits, const panel *p, size_t slice, size_t t, lanes *sums, int slices, int most,
                       size_t tokens)
{
    switch (tokens) {
    case 1:
        tile(bits, p, slice, t, sums, slices, 1);
        break;
    case 2:
        tile(bits, p, slice, t, sums, slices, AT_MOST(2, most));
        break;
    case 3:
        tile(bits, p, slice, t, sums, slices, AT_MOST(3, most));
        break;
    case 4:
        tile(bits, p, slice, t, sums, slices, AT_MOST(4, most));
        break;
    case 5:
        tile(bits, p, slice, t, sums, slices, AT_MOST(5, most));
        break;
    case 6:
        tile(bits, p, slice, t, sums, slices, AT_MOST(6, most));
        break;
    case 7:
        tile(bits, p, slice, t, sums, slices, AT_MOST(7, most));
        break;
    default:
        tile(bits, p, slice, t, sums, slices, AT_MOST(8, most));
    }
}

/* At most `most` tokens, and as many of the slices p->first … end - 1 as make `slices` streams
 * of one length. */
FT_INLINE void panels_of_few(int bits, panel *p, size_t end, int slices, int most)
{
    const size_t inputs = p->m->tokens * p->groups * sizeof(ft_group);
    const size_t blocks = (inputs + BLOCK_BYTES - 1) / BLOCK_BYTES, each = (p->groups + blocks - 1) / blocks;
    const size_t even = slices > 1 ? PARTS : 1; /* streams begin at the same part of a block */
    const size_t apart = (end - p->first) / (size_t)slices / even * even, until = p->first + apart;
    p->apart = slices > 1 ? apart : 1;
    p->ahead = slices > 1 ? AHEAD_APART : AHEAD;
    for (; p->first < until; p->first = p->last) {
        p->last = p->first + PANEL_FEW < until ? p->first + PANEL_FEW : until;
        for (p->from = 0; p->from < p->groups; p->from = p->to) {
            p->to = p->from + each < p->groups ? p->from + each : p->groups;
            for (size_t i = p->first; i < p->last; i++)
                tile_of(bits, p, i, 0, p->sums[i - p->first], slices, most, p->m->tokens);
        }
    }
    p->first = until + apart * (size_t)(slices - 1);
}

FT_INLINE void panel_of_many(int bits, panel *p)
{
    p->to = p->groups;
    for (size_t t = 0, tokens; t < p->m->tokens; t += tokens) {
        tokens = ft_matmul_tile(p->m->tokens - t, TOKENS);
        p->ahead = t ? 0 : AHEAD;
        size_t i = p->first;
        for (; i + SLICES <= p->last; i += SLICES)
            tile_of(bits, p, i, t, NULL, SLICES, TOKENS, tokens);
        for (; i < p->last; i++)
            tile_of(bits, p, i, t, NULL, 1, TOKENS, tokens);
    }
}

FT_INLINE void matmul(int bits, const ft_matmul *m)
{
    const size_t slices = (m->rows + LANES - 1) / LANES;
    lanes sums[PANEL_FEW][MOST_SUMS];
    panel p = {.m = m, .groups = m->cols / FT_GROUP, .apart = 1, .sums = sums};
    if (!m->tokens)
        return;
    if (m->tokens <= FEW) {
        if (m->tokens == 1)
            panels_of_few(bits, &p, slices, LONE, 1);
        else
            panels_of_few(bits, &p, slices, PAIR, FEW);
        panels_of_few(bits, &p, slices, 1, FEW);
        return;
    }
    for (; p.first < slices; p.first = p.last) {
        p.last = p.first + PANEL_MANY < slices ? p.first + PANEL_MANY : slices;
        panel_of_many(bits, &p);
    }
}
#endif
