#include "model/train/ft_attention_backward.h"

#include "model/kernels/ft_exp.h"
#include "model/train/train_clones.h"

#include <cblas.h>
#include <math.h>

/* A block of queries of one head, and the keys that any of them sees. */
typedef struct block {
    size_t row, rows, key, keys;
    const float *q, *k, *v;
    size_t q_stride, kv_stride;
} block;

static size_t first_key(const ft_attention *a, size_t t)
{
    return a->begin ? a->begin[t] : 0;
}

static block block_at(const ft_attention *a, size_t head, size_t row)
{
    const size_t D = a->head_dim, kv_head = head / (a->heads / a->kv_heads);
    block b = {.row = row, .q_stride = a->heads * D, .kv_stride = a->kv_heads * D};
    b.rows = a->length - row < FT_ATTENTION_BLOCK ? a->length - row : FT_ATTENTION_BLOCK;
    b.key = first_key(a, row);
    b.keys = row + b.rows - b.key;
    b.q = a->q + row * b.q_stride + head * D;
    b.k = a->k + b.key * b.kv_stride + kv_head * D;
    b.v = a->v + b.key * b.kv_stride + kv_head * D;
    return b;
}

/* s [rows, keys] = scale * x [rows, D] y [keys, D]^T */
static void scores(float *s, const block *b, const float *x, size_t x_stride, const float *y, size_t D, float scale)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)b->rows, (blasint)b->keys, (blasint)D, scale, x,
                (blasint)x_stride, y, (blasint)b->kv_stride, 0, s, (blasint)b->keys);
}

/* out [rows, D] = p [rows, keys] y [keys, D] */
static void mix(float *out, size_t out_stride, const block *b, const float *p, const float *y, size_t D, float scale)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)b->rows, (blasint)D, (blasint)b->keys, scale, p,
                (blasint)b->keys, y, (blasint)b->kv_stride, 0, out, (blasint)out_stride);
}

/* out [keys, D] += p [rows, keys]^T x [rows, D] */
static void spread(float *out, const block *b, const float *p, const float *x, size_t x_stride, size_t D, float scale)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)b->keys, (blasint)D, (blasint)b->rows, scale, p,
                (blasint)b->keys, x, (blasint)x_stride, 1, out, (blasint)b->kv_stride);
}

/* Row t sees keys from..to-1 of its block. */
static void seen(const ft_attention *a, const block *b, size_t r, size_t *from, size_t *to)
{
    *from = first_key(a, b->row + r) - b->key;
    *to = b->row + r + 1 - b->key;
}

FT_CLONES static void softmax(const ft_attention *a, const block *b, float *s, float *lse)
{
    for (size_t r = 0; r < b->rows; r++, s += b->keys) {
        size_t from, to;
        seen(a, b, r, &from, &to);
        float top = s[from];
        double sum = 0;
        for (size_t i = from; i < to; i++) {
            top = s[i] > top ? s[i] : top;
            sum += (double)(s[i] - s[i]); /* not a number stays one: ft_exp would hide it */
        }
        for (size_t i = 0; i < from; i++)
            s[i] = 0;
        for (size_t i = from; i < to; i++)
            s[i] = ft_exp(s[i] - top);
        for (size_t i = to; i < b->keys; i++)
            s[i] = 0;
        for (size_t i = from; i < to; i++)
            sum += (double)s[i];
        const float scale = (float)(1 / sum);
        for (size_t i = from; i < to; i++)
            s[i] *= scale;
        lse[b->row + r] = top + (float)log(sum);
    }
}

void ft_attention_forward(const ft_attention *a, size_t kv_head, float *scratch)
{
    const size_t D = a->head_dim, group = a->heads / a->kv_heads;
    const float scale = (float)(1 / sqrt((double)D));
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        for (size_t row = 0; row < a->length; row += FT_ATTENTION_BLOCK) {
            const block b = block_at(a, head, row);
            scores(scratch, &b, b.q, b.q_stride, b.k, D, scale);
            softmax(a, &b, scratch, a->lse + head * a->length);
            mix(a->o + row * b.q_stride + head * D, b.q_stride, &b, scratch, b.v, D, 1);
        }
}

/* p holds S and becomes P, dp becomes dS. */
FT_CLONES static void softmax_backward(const ft_attention *a, const block *b, float *p, float *dp, const float *lse)
{
    for (size_t r = 0; r < b->rows; r++, p += b->keys, dp += b->keys) {
        size_t from, to;
        seen(a, b, r, &from, &to);
        double sum = 0;
        const float shift = lse[b->row + r];
        for (size_t i = 0; i < from; i++)
            p[i] = 0;
        for (size_t i = from; i < to; i++)
            p[i] = ft_exp(p[i] - shift);
        for (size_t i = to; i < b->keys; i++)
            p[i] = 0;
        for (size_t i = from; i < to; i++)
            sum += (double)(p[i] * dp[i]);
        for (size_t i = 0; i < b->keys; i++)
            dp[i] = p[i] * (dp[i] - (float)sum);
    }
}

void ft_attention_backward(const ft_attention *a, size_t kv_head, float *scratch)
{
    const size_t D = a->head_dim, group = a->heads / a->kv_heads, kv_stride = a->kv_heads * D;
    const float scale = (float)(1 / sqrt((double)D));
    float *p = scratch, *dp = scratch + FT_ATTENTION_BLOCK * a->length;
    for (size_t t = 0; t < a->length; t++)
        for (size_t i = 0; i < D; i++)
            a->dk[t * kv_stride + kv_head * D + i] = a->dv[t * kv_stride + kv_head * D + i] = 0;
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        for (size_t row = 0; row < a->length; row += FT_ATTENTION_BLOCK) {
            const block b = block_at(a, head, row);
            const float *d_o = a->d_o + row * b.q_stride + head * D;
            scores(p, &b, b.q, b.q_stride, b.k, D, scale);
            scores(dp, &b, d_o, b.q_stride, b.v, D, 1);
            softmax_backward(a, &b, p, dp, a->lse + head * a->length);
            spread(a->dv + b.key * kv_stride + kv_head * D, &b, p, d_o, b.q_stride, D, 1);
            spread(a->dk + b.key * kv_stride + kv_head * D, &b, dp, b.q, b.q_stride, D, scale);
            mix(a->dq + row * b.q_stride + head * D, b.q_stride, &b, dp, b.k, D, scale);
        }
}
