#include "tracer/ft_causal.h"

#include "base/ft_buffer.h"
#include "model/ft_token_score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOGITS_BYTES = 64 << 20, /* of one pass, at most, but for one row a variant */
    MOST_VARIANTS = FT_MAX_EXPERTS + 1
};

struct ft_causal {
    ft_engine *engine;
    const uint32_t *ids;
    size_t first, count, vocab;
    uint64_t without;
    uint8_t experts[FT_MAX_EXPERTS];
    size_t expert_count;
    double *logprobs; /* [expert_count + 1, count - first] */

    /* The group that is being read: variants group_first … */
    size_t group_first, group_count, read; /* read: tokens of each so far */
    size_t largest;                        /* that a group may be */
    ft_session *sessions[MOST_VARIANTS];
    float *logits;
    size_t rows; /* of logits there is room for */
};

static void close_group(ft_causal *c)
{
    for (size_t i = 0; i < c->group_count; i++) {
        ft_session_close(c->sessions[i]);
        c->sessions[i] = NULL;
    }
    c->group_count = 0;
}

void ft_causal_free(ft_causal *c)
{
    if (!c)
        return;
    close_group(c);
    free(c->logprobs);
    free(c->logits);
    free(c);
}

ft_causal_result ft_causal_get(const ft_causal *c)
{
    return (ft_causal_result){.first = c->first,
                              .count = c->count,
                              .experts = c->experts,
                              .expert_count = c->expert_count,
                              .logprobs = c->logprobs};
}

size_t ft_causal_experts(const ft_model *m, uint64_t without, uint64_t wanted, uint8_t out[FT_MAX_EXPERTS])
{
    const size_t experts = ft_model_get_config(m)->experts;
    size_t active = 0, count = 0;
    for (size_t e = 0; e < experts; e++)
        active += !(without >> e & 1);
    for (size_t e = 0; e < experts && active > 1; e++)
        if (!(without >> e & 1) && (!wanted || wanted >> e & 1))
            out[count++] = (uint8_t)e;
    return count;
}

ft_code ft_causal_new(ft_causal **out, ft_engine *e, const ft_causal_request *r, ft_status *st)
{
    *out = NULL;
    const ft_model_config *config = ft_model_get_config(ft_engine_model(e));
    const uint64_t all = config->experts >= 64 ? UINT64_MAX : (UINT64_C(1) << config->experts) - 1;
    if (r->first > r->count || r->expert_count > FT_MAX_EXPERTS)
        return ft_fail(st, FT_ERR_ARG, "causal evidence: tokens %zu to %zu, %zu experts", r->first, r->count,
                       r->expert_count);
    for (size_t i = 0; i < r->expert_count; i++) {
        const uint64_t bit = r->experts[i] < 64 ? UINT64_C(1) << r->experts[i] : 0;
        if (!(all & ~r->without & bit) || !(all & ~r->without & ~bit))
            return ft_fail(st, FT_ERR_ARG, "causal evidence: expert %u takes no part, or no other does", r->experts[i]);
    }
    ft_causal *c = calloc(1, sizeof(*c));
    size_t cells;
    if (!c || ft_size_mul(r->expert_count + 1, r->count - r->first, &cells, NULL) ||
        !(c->logprobs = ft_alloc_array(cells, sizeof(*c->logprobs)))) {
        ft_causal_free(c);
        return ft_fail(st, FT_ERR_MEM, "causal evidence: no room for %zu tokens", r->count);
    }
    c->engine = e;
    c->ids = r->ids;
    c->first = r->first;
    c->count = r->count;
    c->vocab = config->vocab;
    c->without = r->without;
    memcpy(c->experts, r->experts, r->expert_count);
    c->expert_count = r->expert_count;
    c->largest = r->expert_count + 1;
    for (size_t i = 0; i < cells; i++)
        c->logprobs[i] = NAN;
    *out = c;
    return FT_OK;
}

/* --- A group ----------------------------------------------------------------------------- */

/* The last token is foretold by the one before it, and need not be read. */
static size_t to_read(const ft_causal *c)
{
    return c->count && c->count > c->first ? c->count - 1 : 0;
}

/* Every session begins at the same token: behind what the prefix cache has for all. */
static void find_prefix(ft_causal *c)
{
    size_t common = SIZE_MAX;
    for (size_t i = 0; i < c->group_count; i++) {
        if (c->first)
            (void)ft_session_find_prefix(c->sessions[i], c->ids, c->first);
        const size_t length = ft_session_length(c->sessions[i]);
        common = length < common ? length : common;
    }
    for (size_t i = 0; i < c->group_count; i++)
        ft_session_rewind(c->sessions[i], common);
    c->read = common;
}

static ft_code open_group(ft_causal *c, ft_status *st)
{
    const size_t left = c->expert_count + 1 - c->group_first;
    const size_t wanted = left < c->largest ? left : c->largest;
    ft_code rc = FT_OK;
    while (!rc && c->group_count < wanted) {
        const size_t variant = c->group_first + c->group_count;
        const uint64_t out = variant ? UINT64_C(1) << c->experts[variant - 1] : 0;
        const ft_session_options o = {.without = c->without | out, .max_tokens = c->count, .share_prefix = 1};
        rc = ft_session_open_on(&c->sessions[c->group_count], c->engine, &o, st);
        c->group_count += !rc;
    }
    if (!rc)
        find_prefix(c);
    return rc;
}

/* --- Log-probabilities ---------------------------------------------------------------------- */

typedef struct scoring {
    ft_causal *c;
    size_t each; /* rows of each session of the group */
} scoring;

static void score(void *context, size_t task, unsigned worker)
{
    const scoring *s = context;
    ft_causal *c = s->c;
    const size_t variant = c->group_first + task / s->each, t = c->read + task % s->each + 1; /* whose row it is */
    (void)worker;
    if (t >= c->first && t < c->count)
        c->logprobs[variant * (c->count - c->first) + t - c->first] =
            ft_log_probability(c->logits + task * c->vocab, c->vocab, c->ids[t]);
}

/* --- A pass ------------------------------------------------------------------------------------ */

/* Room for the logits of one pass. */
static ft_code make_logits(ft_causal *c, size_t rows, ft_status *st)
{
    size_t cells;
    if (rows <= c->rows)
        return FT_OK;
    free(c->logits);
    c->rows = 0;
    c->logits = ft_size_mul(rows, c->vocab, &cells, NULL) || cells > SIZE_MAX / sizeof(float)
                    ? NULL
                    : ft_alloc_large(cells * sizeof(float));
    if (!c->logits)
        return ft_fail(st, FT_ERR_MEM, "causal evidence: no room for the logits of %zu tokens", rows);
    c->rows = rows;
    return FT_OK;
}

/* Tokens of each session in the next pass: all of them foretell tokens that are asked about, or none does. */
static size_t next_chunk(const ft_causal *c, int *scored)
{
    const size_t left = to_read(c) - c->read, batch = ft_engine_batch_tokens(c->engine);
    const size_t before = c->first && c->first - 1 > c->read ? c->first - 1 - c->read : 0;
    const size_t sessions = c->group_count ? c->group_count : 1;
    size_t most = batch / sessions;
    *scored = !before;
    if (*scored) {
        const size_t fit = LOGITS_BYTES / sizeof(float) / c->vocab / sessions;
        most = fit < most ? fit : most;
    }
    most = most ? most : 1;
    const size_t part = *scored ? left : before;
    /* Equal chunks: a small rest would read all weights for little. */
    const size_t chunks = (part + most - 1) / most;
    return chunks ? (part + chunks - 1) / chunks : 0;
}

static ft_code read_group(ft_causal *c, ft_pool *pool, ft_status *st)
{
    ft_read reads[MOST_VARIANTS];
    int scored;
    const size_t each = next_chunk(c, &scored);
    ft_code rc = scored ? make_logits(c, each * c->group_count, st) : FT_OK;
    if (rc)
        return rc;
    for (size_t i = 0; i < c->group_count; i++)
        reads[i] = (ft_read){.session = c->sessions[i],
                             .ids = c->ids + c->read,
                             .count = each,
                             .out = {.logits = scored ? c->logits + i * each * c->vocab : NULL}};
    rc = ft_engine_read(c->engine, reads, c->group_count, st);
    if (rc)
        return rc;
    if (scored)
        ft_pool_run(pool, each * c->group_count, score, &(scoring){c, each});
    c->read += each;
    return FT_OK;
}

ft_code ft_causal_step(ft_causal *c, ft_pool *pool, int *done, ft_status *st)
{
    ft_code rc = FT_OK;
    *done = c->group_first > c->expert_count || !to_read(c);
    if (*done)
        return FT_OK;
    if (!c->group_count)
        rc = open_group(c, st);
    if (!rc)
        rc = read_group(c, pool, st);
    if (rc == FT_ERR_LIMIT && c->group_count > 1) { /* memory is short: half of them at a time, from the start */
        c->largest = c->group_count / 2;
        close_group(c);
        return FT_OK;
    }
    if (!rc && c->read == to_read(c)) {
        c->group_first += c->group_count;
        close_group(c);
        c->read = 0;
        *done = c->group_first > c->expert_count;
    }
    return rc;
}
