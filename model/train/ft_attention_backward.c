#include "model/train/ft_attention_backward.h"

#include "model/kernels/ft_exp.h"
#include "model/kernels/ft_gemm_tile.h"
#include "model/train/ft_gemm.h"
#include "model/train/train_clones.h"

#include <math.h>
#include <string.h>

/* Behind a row of scores: rows then do not fall on the same few places of a cache. */
enum { GAP = 16, LINE = 16 };

static size_t panels(size_t n)
{
    return (n + FT_PANEL - 1) / FT_PANEL * FT_PANEL;
}

/* The scratch: keys and values as products read them, and a block's scores and their gradients. */
typedef struct work {
    ft_packed keys_across, values_across; /* [D, T] */
    ft_packed keys, values;               /* [T, D]; they share memory with values_across, which the other pass has */
    ft_packed q, d_o;                     /* [rows, D] of a block */
    float *p, *dp;                        /* [FT_ATTENTION_BLOCK, stride] */
    size_t stride;
} work;

/* Of an operand [D, T], or of one [T, D]. */
static size_t operand_units(size_t length, size_t head_dim)
{
    const size_t plain = panels(length) * panels(head_dim), units = ft_packed_units(head_dim, length, 0);
    return ((plain > units ? plain : units) + LINE - 1) / LINE * LINE;
}

size_t ft_attention_scratch(size_t length, size_t head_dim)
{
    const size_t T = panels(length), D = panels(head_dim);
    return 3 * operand_units(length, head_dim) + 2 * FT_ATTENTION_BLOCK * D + 2 * FT_ATTENTION_BLOCK * (T + GAP);
}

/* The matrix unit makes scores, whose left operand is a block of queries; what has scores as its left operand would
 * spend more on packing them than on multiplying. */
static work work_of(const ft_attention *a, float *scratch)
{
    const size_t D = panels(a->head_dim), each = operand_units(a->length, a->head_dim);
    const ft_packed across = {.k = a->head_dim, .n = a->length, .bfloat16 = a->bfloat16};
    const ft_packed along = {.n = a->head_dim, .bfloat16 = a->bfloat16, .vectors = 1};
    work w = {across, across, along, along, along, along, .stride = panels(a->length) + GAP};
    uint32_t *at = (uint32_t *)scratch;
    w.keys_across.units = at;
    w.values_across.units = at + each;
    w.keys.units = w.values.units = at + 2 * each;
    w.keys.k = w.values.k = a->length;
    w.q.units = at + 3 * each;
    w.d_o.units = w.q.units + FT_ATTENTION_BLOCK * D;
    w.p = scratch + 3 * each + 2 * FT_ATTENTION_BLOCK * D;
    w.dp = w.p + FT_ATTENTION_BLOCK * w.stride;
    return w;
}

static void pack(const ft_packed *p, const float *x, size_t stride, int transposed)
{
    for (size_t i = 0; i < ft_packed_panels(p->n); i++)
        ft_packed_fill(p, i, x, stride, transposed);
}

/* A block of queries of one head, and the keys that any of them sees, from a whole panel on. */
typedef struct block {
    size_t row, rows, key, keys;
} block;

static size_t first_key(const ft_attention *a, size_t t)
{
    return a->begin ? a->begin[t] : 0;
}

static block block_at(const ft_attention *a, size_t row)
{
    block b = {.row = row, .key = first_key(a, row) / FT_PANEL * FT_PANEL};
    b.rows = a->length - row < FT_ATTENTION_BLOCK ? a->length - row : FT_ATTENTION_BLOCK;
    b.keys = row + b.rows - b.key;
    return b;
}

/* s [rows, keys] = x [rows, D] y, y [D, T] */
static void scores(float *s, const work *w, const block *b, const float *x, size_t x_stride, const ft_packed *y)
{
    ft_packed_part(y, 0, y->k, b->key, b->keys, x, x_stride, 0, b->rows, s, w->stride, 0);
}

/* out [rows, D] = p [rows, keys] y, y [T, D] */
static void mix(float *out, size_t out_stride, const work *w, const block *b, const float *p, const ft_packed *y)
{
    ft_packed_part(y, b->key, b->keys, 0, y->n, p, w->stride, 0, b->rows, out, out_stride, 0);
}

/* out [keys, D] += p [rows, keys]^T x, x [rows, D] */
static void spread(float *out, size_t out_stride, const work *w, const block *b, const float *p, const ft_packed *x)
{
    ft_packed_part(x, 0, b->rows, 0, x->n, p, w->stride, 1, b->keys, out, out_stride, 1);
}

/* Row r sees keys from..to-1 of its block. */
static void seen(const ft_attention *a, const block *b, size_t r, size_t *from, size_t *to)
{
    *from = first_key(a, b->row + r) - b->key;
    *to = b->row + r + 1 - b->key;
}

static void hide(float *s, const block *b, size_t from, size_t to)
{
    memset(s, 0, from * sizeof(*s));
    memset(s + to, 0, (b->keys - to) * sizeof(*s));
}

FT_CLONES static void softmax(const ft_attention *a, const block *b, float *s, size_t stride, float scale, float *lse)
{
    for (size_t r = 0; r < b->rows; r++, s += stride) {
        size_t from, to;
        float bad;
        seen(a, b, r, &from, &to);
        hide(s, b, from, to);
        const float top = ft_clone_max(s + from, to - from, &bad);
        for (size_t i = from; i < to; i++)
            s[i] = ft_exp((s[i] - top) * scale);
        /* Not a number stays one: ft_exp would hide it. */
        const double sum = ft_clone_sum(s + from, to - from) + (double)bad;
        const float share = (float)(1 / sum);
        for (size_t i = from; i < to; i++)
            s[i] *= share;
        lse[b->row + r] = top * scale + (float)log(sum);
    }
}

void ft_attention_forward(const ft_attention *a, size_t kv_head, float *scratch)
{
    const size_t D = a->head_dim, group = a->heads / a->kv_heads, stride = a->heads * D, kv_stride = a->kv_heads * D;
    const float scale = (float)(1 / sqrt((double)D));
    const work w = work_of(a, scratch);
    pack(&w.keys_across, a->k + kv_head * D, kv_stride, 1);
    pack(&w.values, a->v + kv_head * D, kv_stride, 0);
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        for (size_t row = 0; row < a->length; row += FT_ATTENTION_BLOCK) {
            const block b = block_at(a, row);
            const size_t at = row * stride + head * D;
            scores(w.p, &w, &b, a->q + at, stride, &w.keys_across);
            softmax(a, &b, w.p, w.stride, scale, a->lse + head * a->length);
            mix(a->o + at, stride, &w, &b, w.p, &w.values);
        }
}

/* p holds S and becomes P, dp becomes dS / sqrt(D). */
FT_CLONES static void softmax_backward(const ft_attention *a, const block *b, float *p, float *dp, size_t stride,
                                       float scale, const float *lse)
{
    for (size_t r = 0; r < b->rows; r++, p += stride, dp += stride) {
        size_t from, to;
        const float shift = lse[b->row + r];
        seen(a, b, r, &from, &to);
        hide(p, b, from, to);
        hide(dp, b, from, to);
        for (size_t i = from; i < to; i++)
            p[i] = ft_exp(p[i] * scale - shift);
        const float mean = (float)ft_clone_dot(p + from, dp + from, to - from);
        for (size_t i = from; i < to; i++)
            dp[i] = p[i] * (dp[i] - mean) * scale;
    }
}

void ft_attention_backward(const ft_attention *a, size_t kv_head, float *scratch)
{
    const size_t D = a->head_dim, group = a->heads / a->kv_heads, stride = a->heads * D, kv_stride = a->kv_heads * D;
    const float scale = (float)(1 / sqrt((double)D));
    work w = work_of(a, scratch);
    pack(&w.keys_across, a->k + kv_head * D, kv_stride, 1);
    pack(&w.values_across, a->v + kv_head * D, kv_stride, 1);
    pack(&w.keys, a->k + kv_head * D, kv_stride, 0);
    for (size_t t = 0; t < a->length; t++) {
        memset(a->dk + t * kv_stride + kv_head * D, 0, D * sizeof(*a->dk));
        memset(a->dv + t * kv_stride + kv_head * D, 0, D * sizeof(*a->dv));
    }
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        for (size_t row = 0; row < a->length; row += FT_ATTENTION_BLOCK) {
            const block b = block_at(a, row);
            const size_t at = row * stride + head * D, key = b.key * kv_stride + kv_head * D;
            w.q.k = w.d_o.k = b.rows;
            pack(&w.q, a->q + at, stride, 0);
            pack(&w.d_o, a->d_o + at, stride, 0);
            scores(w.p, &w, &b, a->q + at, stride, &w.keys_across);
            scores(w.dp, &w, &b, a->d_o + at, stride, &w.values_across);
            softmax_backward(a, &b, w.p, w.dp, w.stride, scale, a->lse + head * a->length);
            spread(a->dv + key, kv_stride, &w, &b, w.p, &w.d_o);
            spread(a->dk + key, kv_stride, &w, &b, w.dp, &w.q);
            mix(a->dq + at, stride, &w, &b, w.dp, &w.keys);
        }
}
