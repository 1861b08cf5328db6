#include "model/ft_model_needs.h"

#include "model/ft_quantize.h"

/* Sums run in float64: a config may ask for more bytes than 64 bits count. */
typedef struct sums {
    double weights, bytes[FT_PRECISIONS];
} sums;

static const ft_weight_type types[FT_PRECISIONS] = {FT_WEIGHT_F32, FT_WEIGHT_BF16, FT_WEIGHT_I8, FT_WEIGHT_I4};

static const ft_weight_type head_types[FT_PRECISIONS] = {FT_WEIGHT_F32, FT_WEIGHT_BF16, FT_WEIGHT_I8, FT_WEIGHT_I8};

/* `count` matrices of types `as`; where `may` be quantized and are of whole groups, they are. */
static void add_as(sums *s, const ft_weight_type *as, double count, size_t rows, size_t cols, int may)
{
    const double weights = count * (double)rows * (double)cols;
    s->weights += weights;
    for (int p = 0; p < FT_PRECISIONS; p++) {
        const ft_weight_type type = as[p];
        if (!ft_is_quantized(type))
            s->bytes[p] += weights * (type == FT_WEIGHT_F32 ? 4 : 2);
        else if (!may || cols % FT_GROUP)
            s->bytes[p] += weights * 2;
        else
            s->bytes[p] += count * (double)ft_quant_blocks(rows) *
                           (double)(ft_quant_block_bytes(type, cols) + ft_quant_scale_bytes(cols));
    }
}

static void add(sums *s, double count, size_t rows, size_t cols, int may)
{
    add_as(s, types, count, rows, cols, may);
}

static uint64_t whole(double x)
{
    return x < 0x1p63 ? (uint64_t)x : UINT64_MAX;
}

ft_model_needs ft_model_needs_of(const ft_model_config *c)
{
    const double L = (double)c->layers, E = c->experts ? (double)c->experts : 1;
    const size_t H = c->hidden, I = c->intermediate, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;
    sums shared = {0}, expert = {0}, head = {0}, embed = {0}, row = {0};
    add(&shared, L, Q, H, 1);
    add(&shared, 2 * L, KV, H, 1);
    add(&shared, L, H, Q, 1);
    add(&shared, L, 1, Q + KV + 2 * H, 0);
    add(&shared, 1, 1, H, 0);
    add(&shared, c->experts ? L : 0, c->experts, H, 0);
    add(&expert, 2 * L, I, H, 1);
    add(&expert, L, H, I, 1);
    add_as(&head, head_types, 1, c->vocab, H, 1);
    add(&embed, 1, c->vocab, H, 0);
    add(&row, 1, 1, H, 0);
    const double chosen = c->experts ? (double)c->top_k : 1;
    const double all =
        shared.weights + E * expert.weights + embed.weights + (c->tie_word_embeddings ? 0 : head.weights);
    ft_model_needs n = {
        .parameters = whole(all),
        .active_parameters = whole(all - (E - chosen) * expert.weights),
        .kv_elements_per_token = 2 * (uint64_t)c->layers * KV,
    };
    for (int p = 0; p < FT_PRECISIONS; p++) {
        /* A tied head that is quantized is a tensor of its own. */
        const double own_head = c->tie_word_embeddings && !ft_is_quantized(types[p]) ? 0 : head.bytes[p];
        n.weight_bytes[p] = whole(shared.bytes[p] + E * expert.bytes[p] + embed.bytes[p] + own_head);
        n.active_bytes[p] = whole(shared.bytes[p] + chosen * expert.bytes[p] + head.bytes[p] + row.bytes[p]);
    }
    return n;
}

const char *ft_precision_name(ft_precision p)
{
    static const char *const names[FT_PRECISIONS] = {"float32", "bfloat16", "int8", "int4"};
    return names[p];
}
