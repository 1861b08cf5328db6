#include "model/eval/ft_eval_score.h"

#include "base/ft_buffer.h"
#include "base/ft_cpu.h"
#include "model/ft_engine.h"
#include "model/ft_kv.h"
#include "model/kernels/ft_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_TOKENS = 1024, LEAST_SESSIONS = 32, MOST_SESSIONS = 256, DEFAULT_WINDOW = 1024 };
static const size_t LOGIT_BYTES = 64u << 20, KV_BYTES = 512u << 20; /* aimed at */

struct ft_scorer {
    const ft_model *model;
    ft_pool *pool;
    ft_engine *engine;
    ft_session **sessions;
    size_t count, window, vocab, rows; /* rows: of logits that one pass may write */
    ft_kernels kernels;
    float *logits; /* [rows, vocab] */
    ft_read *reads;
    struct row {
        float *logits, *out;
        uint32_t target;
    } * wanted; /* [rows] */
    size_t *at; /* [sessions]: ids of each score that were read */
    int routing;
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* As many sessions as fill passes, and some more since few read at one time; what the memory allows. */
static ft_code open_engine(ft_scorer *s, const ft_model_config *c, ft_status *st)
{
    ft_kv layout;
    ft_engine_options o = {.max_tokens = s->window, .no_prefix_cache = 1};
    const size_t pages = (s->window + FT_KV_PAGE - 1) / FT_KV_PAGE, fill = 2 * BATCH_TOKENS / s->window;
    size_t each;
    ft_code rc = ft_kv_layout(&layout, c, FT_KV_F32, st);
    if (!rc)
        rc = ft_size_mul(layout.page_bytes, pages, &each, st);
    if (rc)
        return rc;
    s->count = smaller(fill > LEAST_SESSIONS ? fill : LEAST_SESSIONS, MOST_SESSIONS);
    s->count = smaller(s->count, KV_BYTES / each);
    s->count = s->count ? s->count : 1;
    rc = ft_size_mul(each, s->count, &o.kv_bytes, st);
    o.batch_tokens = BATCH_TOKENS;
    return rc ? rc : ft_engine_new(&s->engine, s->model, s->pool, &o, st);
}

ft_code ft_scorer_new(ft_scorer **out, const ft_model *m, ft_pool *pool, size_t window, uint64_t without, int routing,
                      ft_status *st)
{
    const ft_model_config *c = ft_model_get_config(m);
    *out = NULL;
    if (window == 1)
        return ft_fail(st, FT_ERR_ARG, "a window of 1 token predicts nothing; 2 or more");
    if (window > c->max_position)
        return ft_fail(st, FT_ERR_LIMIT, "%s: a window of %zu tokens; the model has %zu positions", ft_model_folder(m),
                       window, c->max_position);
    ft_scorer *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    s->model = m;
    s->pool = pool;
    s->routing = routing;
    s->window = window ? window : smaller(DEFAULT_WINDOW, c->max_position);
    s->vocab = c->vocab;
    s->rows = smaller(BATCH_TOKENS, LOGIT_BYTES / (c->vocab * sizeof(float)));
    s->rows = s->rows ? s->rows : 1;
    ft_kernels_init(&s->kernels, ft_cpu_isa());
    ft_code rc = open_engine(s, c, st);
    size_t floats = 0;
    if (!rc)
        rc = ft_size_mul(s->rows, s->vocab, &floats, st);
    if (!rc) {
        s->logits = ft_alloc_array(floats, sizeof(*s->logits));
        s->sessions = ft_alloc_array(s->count, sizeof(ft_session *));
        s->reads = ft_alloc_array(s->count, sizeof(*s->reads));
        s->wanted = ft_alloc_array(s->rows, sizeof(*s->wanted));
        s->at = ft_alloc_array(s->count, sizeof(*s->at));
        if (!s->logits || !s->sessions || !s->reads || !s->wanted || !s->at)
            rc = ft_fail(st, FT_ERR_MEM, "%s: no memory for scoring", ft_model_folder(m));
    }
    const ft_session_options how = {.without = without, .max_tokens = s->window, .capture_routing = routing};
    for (size_t i = 0; i < s->count && !rc; i++)
        rc = ft_session_open_on(&s->sessions[i], s->engine, &how, st);
    if (!rc) {
        *out = s;
        s = NULL;
    }
    ft_scorer_free(s);
    return rc;
}

void ft_scorer_free(ft_scorer *s)
{
    if (!s)
        return;
    for (size_t i = 0; s->sessions && i < s->count; i++)
        ft_session_close(s->sessions[i]);
    ft_engine_free(s->engine);
    free(s->sessions);
    free(s->logits);
    free(s->reads);
    free(s->wanted);
    free(s->at);
    free(s);
}

size_t ft_scorer_window(const ft_scorer *s)
{
    return s->window;
}

size_t ft_scorer_sessions(const ft_scorer *s)
{
    return s->count;
}

ft_session *ft_scorer_session(const ft_scorer *s, size_t i)
{
    return s->sessions[i];
}

/* log2 softmax(x)[target]. After the softmax the largest entry is 1 / sum, which gives log sum exp without a second
 * exponential, and no probability underflows. */
static void score_row(void *scorer, size_t i, unsigned worker)
{
    ft_scorer *s = scorer;
    const struct row *r = &s->wanted[i];
    float *x = r->logits, top = -INFINITY;
    size_t best = 0;
    (void)worker;
    for (size_t k = 0; k < s->vocab; k++)
        if (x[k] > top) {
            top = x[k];
            best = k;
        }
    const double above = (double)x[r->target] - (double)top;
    s->kernels.softmax(x, s->vocab, 1);
    *r->out = (float)((above + log((double)x[best])) / log(2));
}

/* Fills one pass: a session's ids before `from` need no logits, those after it a row each. */
static size_t fill_pass(ft_scorer *s, const ft_score *scores, size_t count, size_t *rows)
{
    size_t reads = 0, tokens = 0;
    *rows = 0;
    for (size_t i = 0; i < count && tokens < BATCH_TOKENS; i++) {
        const ft_score *w = &scores[i];
        const size_t at = s->at[i];
        if (at == w->count)
            continue;
        const int scored = at >= w->from;
        size_t n = smaller((scored ? w->count : w->from) - at, BATCH_TOKENS - tokens);
        n = scored ? smaller(n, s->rows - *rows) : n;
        if (!n)
            continue;
        float *logits = s->logits + *rows * s->vocab;
        s->reads[reads++] = (ft_read){.session = s->sessions[w->session],
                                      .ids = w->ids + at,
                                      .count = n,
                                      .out = {.logits = scored ? logits : NULL}};
        for (size_t t = at; t < at + n && scored; t++)
            s->wanted[(*rows)++] =
                (struct row){.logits = logits + (t - at) * s->vocab, .out = w->out + t, .target = w->targets[t]};
        s->at[i] = at + n;
        tokens += n;
    }
    return reads;
}

ft_code ft_scorer_read(ft_scorer *s, const ft_score *scores, size_t count, ft_status *st)
{
    size_t reads, rows;
    memset(s->at, 0, count * sizeof(*s->at));
    for (size_t i = 0; i < count; i++)
        for (size_t t = scores[i].from; t < scores[i].count; t++)
            if (scores[i].targets[t] >= s->vocab)
                return ft_fail(st, FT_ERR_ARG, "%s: id %u is outside the vocabulary of %zu", ft_model_folder(s->model),
                               scores[i].targets[t], s->vocab);
    while ((reads = fill_pass(s, scores, count, &rows)) > 0) {
        ft_code rc = ft_engine_read(s->engine, s->reads, reads, st);
        if (rc)
            return rc;
        ft_pool_run(s->pool, rows, score_row, s);
        for (size_t i = 0; i < rows; i++)
            if (!isfinite(*s->wanted[i].out))
                return ft_fail(st, FT_ERR_FORMAT, "%s: logits are not finite; the weights hold NaN or infinity",
                               ft_model_folder(s->model));
    }
    return FT_OK;
}

/* --- Documents ------------------------------------------------------------------------------- */

/* Routing of tokens `from` … end of what a session has read. */
static void add_shares(ft_eval_shares *into, const ft_routing *r, size_t from)
{
    into->experts = r->experts;
    for (size_t t = from; t < r->tokens; t++)
        for (size_t l = 0; l < r->layers; l++) {
            const size_t at = (t * r->layers + l) * r->top_k;
            double sum = 0;
            for (size_t k = 0; k < r->top_k; k++)
                sum += (double)r->weights[at + k];
            for (size_t k = 0; k < r->top_k; k++)
                into->weight[r->expert_ids[at + k]] += sum > 0 ? (double)r->weights[at + k] / sum : 0;
            into->first[r->expert_ids[at]] += 1;
            into->decisions++;
        }
}

/* The text's windows one after another. Window w of a document reads from token w * (window / 2) on. */
typedef struct cursor {
    size_t document, at; /* at: its first token */
} cursor;

static int next_window(cursor *c, const ft_eval_text *text, size_t window, float *log2p, ft_score *out)
{
    /* A document of one token is read nowhere: its token is the first. */
    while (c->document < text->count && text->documents[c->document].count < 2)
        c->document++;
    if (c->document == text->count)
        return 0;
    const ft_eval_document *d = &text->documents[c->document];
    const size_t first = d->first + c->at, left = d->count - 1 - c->at, half = window / 2;
    out->ids = text->ids + first;
    out->targets = text->ids + first + 1;
    out->out = log2p + first + 1;
    out->count = smaller(left, window);
    out->from = c->at ? window - half : 0;
    if (left > window) {
        c->at += half;
    } else {
        c->document++;
        c->at = 0;
    }
    return 1;
}

ft_code ft_eval_bits(ft_scorer *s, const ft_eval_text *text, float *log2p, ft_eval_shares *shares,
                     const ft_progress *progress, ft_status *st)
{
    ft_score *scores = ft_alloc_array(s->count, sizeof(*scores));
    cursor c = {0};
    size_t n;
    ft_code rc = scores ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc && shares && !s->routing)
        rc = ft_fail(st, FT_ERR_ARG, "shares need a scorer that captures routing");
    if (shares)
        memset(shares, 0, sizeof(*shares));
    for (size_t d = 0; d < text->count && !rc; d++)
        log2p[text->documents[d].first] = (float)-log2((double)s->vocab);
    do {
        for (n = 0; !rc && n < s->count && next_window(&c, text, s->window, log2p, &scores[n]); n++) {
            scores[n].session = n;
            ft_session_rewind(s->sessions[n], 0);
        }
        if (!rc && n)
            rc = ft_scorer_read(s, scores, n, st);
        for (size_t i = 0; i < n && !rc && shares; i++) {
            const ft_routing r = ft_session_routing(s->sessions[i]);
            add_shares(shares, &r, scores[i].from);
        }
        const size_t done = c.document < text->count ? text->documents[c.document].first + c.at : text->tokens;
        if (!rc && ft_progress_report(progress, "measure", done, text->tokens, "tokens"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped");
    } while (!rc && n);
    free(scores);
    return rc;
}

double ft_eval_bits_per_byte(const ft_eval_text *text, const float *log2p)
{
    double sum = 0;
    for (size_t i = 0; i < text->tokens; i++)
        sum -= (double)log2p[i];
    return text->bytes ? sum / (double)text->bytes : 0;
}
