#include "model/ft_generate.h"

#include "base/ft_buffer.h"
#include "model/engine_internal.h"
#include "model/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_CEILING = 1 << 26 };

struct ft_generation {
    const ft_model *model;
    ft_session *session;
    ft_sampler *sampler;
    ft_text_stream *stream; /* NULL without a tokenizer */
    uint32_t *prompt;       /* [prompt_count + max_new]: all tokens that are known */
    size_t prompt_count, prompt_read, cached;
    float *logits; /* [V] after the last token read */
    uint32_t *ids; /* the generated ones: behind the prompt */
    size_t *text_ends;
    ft_token_score *scores; /* [max_new + 1]: written as tokens are drawn; NULL unless asked for */
    size_t top_scores;
    size_t count, max_new;
    uint32_t *ends; /* [end_count]: what ends the text; the first `silent_ends` are the model's own */
    size_t end_count, silent_ends, min_tokens;
    int include_stop;
    char *stop[FT_MAX_STOPS];
    size_t stop_count;
    ft_buffer text; /* decoded so far; the first `shown` bytes may be shown */
    size_t shown;
    ft_finish finish;
    uint32_t end_token;
};

const char *ft_finish_name(ft_finish f)
{
    static const char *const names[] = {
        [FT_FINISH_STOP] = "stop", [FT_FINISH_LENGTH] = "length", [FT_FINISH_ABORT] = "abort"};
    return f == FT_FINISH_NONE ? NULL : names[f];
}

/* --- Opening ------------------------------------------------------------------- */

static ft_code check_request(const ft_model *m, const ft_tokenizer *t, const ft_generate_request *r, ft_status *st)
{
    const ft_model_config *c = &m->config;
    if (r->prompt_count == 0)
        return ft_fail(st, FT_ERR_ARG, "%s: the prompt is empty; a model needs a first token", m->folder);
    if (r->prompt_count > c->max_position || r->max_new_tokens > c->max_position - r->prompt_count)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %zu prompt tokens and %zu new ones exceed the context of %zu", m->folder,
                       r->prompt_count, r->max_new_tokens, c->max_position);
    if (r->top_scores > FT_MAX_TOP)
        return ft_fail(st, FT_ERR_ARG, "%zu of the best tokens; at most %d are possible", r->top_scores, FT_MAX_TOP);
    if (r->stop_count > FT_MAX_STOPS)
        return ft_fail(st, FT_ERR_ARG, "%zu stop strings; at most %d are possible", r->stop_count, FT_MAX_STOPS);
    for (size_t i = 0; i < r->stop_count; i++)
        if (!r->stop[i] || !*r->stop[i])
            return ft_fail(st, FT_ERR_ARG, "a stop string must not be empty");
    if (t && ft_tokenizer_vocab_size(t) > c->vocab)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: has ids up to %u, the model in %s a vocabulary of %zu; it is another model's",
                       ft_tokenizer_path(t), ft_tokenizer_vocab_size(t) - 1, m->folder, c->vocab);
    return FT_OK;
}

static ft_code copy_request(ft_generation *g, const ft_generate_request *r, const ft_tokenizer *t, ft_status *st)
{
    g->prompt_count = r->prompt_count;
    g->max_new = r->max_new_tokens;
    g->end_token = FT_NO_ID;
    g->min_tokens = r->sampling.min_tokens;
    g->include_stop = r->include_stop;
    ft_buffer_init(&g->text, TEXT_CEILING);
    g->prompt = ft_alloc_array(r->prompt_count + g->max_new, sizeof(*g->prompt)); /* at most a context */
    g->logits = ft_alloc_array(g->model->config.vocab, sizeof(*g->logits));
    g->text_ends = ft_alloc_array(g->max_new, sizeof(*g->text_ends));
    int ok = g->prompt && g->logits && g->text_ends;
    g->top_scores = r->top_scores < g->model->config.vocab ? r->top_scores : g->model->config.vocab;
    if (r->scores)
        ok = (g->scores = ft_alloc_array(g->max_new + 1, sizeof(*g->scores))) && ok;
    for (; t && ok && g->stop_count < r->stop_count; g->stop_count++) {
        g->stop[g->stop_count] = strdup(r->stop[g->stop_count]);
        ok = g->stop[g->stop_count] != NULL;
    }
    if (!ok)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory for a generation", g->model->folder);
    memcpy(g->prompt, r->prompt, r->prompt_count * sizeof(*g->prompt));
    g->ids = g->prompt + r->prompt_count;
    return FT_OK;
}

/* The sampler, and the ids that end the text: it must know them, to hold them back. */
static ft_code open_sampler(ft_generation *g, const ft_generate_request *r, ft_status *st)
{
    const ft_model_config *c = &g->model->config;
    const size_t own = r->ignore_end_of_text ? 0 : c->end_of_text_count;
    size_t count;
    ft_code rc = ft_size_add(own, r->stop_id_count, &count, st);
    if (rc)
        return rc;
    g->ends = ft_alloc_array(count, sizeof(*g->ends));
    if (!g->ends)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory for a generation", g->model->folder);
    for (size_t i = 0; i < count; i++)
        g->ends[i] = i < own ? c->end_of_text[i] : r->stop_ids[i - own];
    g->end_count = count;
    g->silent_ends = own;
    rc = ft_sampler_new(&g->sampler, &r->sampling, g->ends, count, c->vocab, st);
    if (!rc)
        ft_sampler_read_prompt(g->sampler, r->prompt, r->prompt_count);
    return rc;
}

/* `e` NULL: an engine of its own, with `pool`. */
static ft_code open_session(ft_generation *g, ft_engine *e, ft_pool *pool, const ft_generate_request *r, ft_status *st)
{
    const ft_session_options options = {.without = r->without,
                                        .max_tokens = r->prompt_count + r->max_new_tokens,
                                        .capture_routing = r->capture_routing,
                                        .share_prefix = 1};
    if (!e)
        return ft_session_open(&g->session, g->model, pool, &options, st);
    if (options.max_tokens - 1 > ft_engine_capacity(e)) /* the last one is not read */
        return ft_fail(st, FT_ERR_LIMIT,
                       "%s: %zu prompt tokens and %zu new ones exceed the %zu that the key-value memory holds; "
                       "a larger --kv-memory or --kv-type float16 holds more",
                       g->model->folder, r->prompt_count, r->max_new_tokens, ft_engine_capacity(e));
    return ft_session_open_on(&g->session, e, &options, st);
}

static ft_code open_generation(ft_generation **out, const ft_model *m, ft_engine *e, const ft_tokenizer *tokenizer,
                               ft_pool *pool, const ft_generate_request *r, ft_status *st)
{
    *out = NULL;
    ft_code rc = check_request(m, tokenizer, r, st);
    if (rc)
        return rc;
    ft_generation *g = calloc(1, sizeof(*g));
    if (!g)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory for a generation", m->folder);
    g->model = m;
    rc = copy_request(g, r, tokenizer, st);
    if (!rc)
        rc = open_session(g, e, pool, r, st);
    if (!rc)
        rc = open_sampler(g, r, st);
    if (!rc && tokenizer)
        rc = ft_text_stream_new(&g->stream, tokenizer, r->keep_special ? 0 : FT_DECODE_SKIP_SPECIAL, st);
    if (!rc) {
        *out = g;
        g = NULL; /* the caller owns it from here on */
    }
    ft_generation_close(g);
    return rc;
}

ft_code ft_generation_open(ft_generation **out, const ft_model *m, const ft_tokenizer *tokenizer, ft_pool *pool,
                           const ft_generate_request *r, ft_status *st)
{
    return open_generation(out, m, NULL, tokenizer, pool, r, st);
}

ft_code ft_generation_open_on(ft_generation **out, ft_engine *e, const ft_tokenizer *tokenizer,
                              const ft_generate_request *r, ft_status *st)
{
    return open_generation(out, e->model, e, tokenizer, e->pool, r, st);
}

void ft_generation_close(ft_generation *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->stop_count; i++)
        free(g->stop[i]);
    ft_text_stream_free(g->stream);
    ft_sampler_free(g->sampler);
    ft_session_close(g->session);
    ft_buffer_release(&g->text);
    free(g->scores);
    free(g->text_ends);
    free(g->ends);
    free(g->logits);
    free(g->prompt);
    free(g);
}

/* --- Text and stop strings ------------------------------------------------------- */

/* Place of the first stop string at or after `from` and its length, or the size of the text. */
static size_t find_stop(const ft_generation *g, size_t from, size_t *length)
{
    for (size_t at = from; at < g->text.size; at++)
        for (size_t i = 0; i < g->stop_count; i++) {
            const size_t n = strlen(g->stop[i]);
            if (n <= g->text.size - at && !memcmp(g->text.data + at, g->stop[i], n)) {
                *length = n;
                return at;
            }
        }
    return g->text.size;
}

/* Where the longest end of the text that may yet become a stop string begins. */
static size_t hold_back(const ft_generation *g)
{
    size_t held = 0;
    for (size_t i = 0; i < g->stop_count; i++) {
        const size_t n = strlen(g->stop[i]);
        for (size_t k = n - 1 < g->text.size ? n - 1 : g->text.size; k > held; k--)
            if (!memcmp(g->text.data + g->text.size - k, g->stop[i], k))
                held = k;
    }
    return g->text.size - held;
}

/* Looks at the text that is not shown yet; a stop string cuts it. */
static void look_for_stops(ft_generation *g)
{
    /* What was shown holds no beginning of a stop string, so none begins there. */
    size_t length = 0;
    const size_t at = find_stop(g, g->shown, &length);
    if (g->count < g->min_tokens) {
        g->shown = g->text.size;
    } else if (at < g->text.size) {
        g->text.size = at + (g->include_stop ? length : 0);
        g->text.data[g->text.size] = '\0';
        g->shown = g->text.size;
        g->finish = FT_FINISH_STOP;
    } else {
        g->shown = hold_back(g);
    }
}

/* Nothing more comes: an incomplete character and what was held back are text after all. */
static ft_code finish_text(ft_generation *g, ft_status *st)
{
    if (!g->stream)
        return FT_OK;
    const ft_finish finish = g->finish;
    const ft_code rc = ft_text_stream_flush(g->stream, &g->text, st);
    if (rc)
        return rc;
    look_for_stops(g);
    if (g->finish == finish) /* no stop string at the very end */
        g->shown = g->text.size;
    if (g->count)
        g->text_ends[g->count - 1] = g->shown;
    return FT_OK;
}

/* --- Steps ------------------------------------------------------------------------- */

static int is_among(const uint32_t *ids, size_t n, uint32_t id)
{
    size_t i = 0;
    while (i < n && ids[i] != id)
        i++;
    return i < n;
}

/* Draws the next token from the logits and takes it in. */
static ft_code take_token(ft_generation *g, ft_status *st)
{
    const uint32_t id = ft_sampler_draw(g->sampler, g->logits, 0);
    if (id == UINT32_MAX)
        return ft_fail(st, FT_ERR_FORMAT, "%s: no finite logit after %zu tokens; the weights hold NaN or infinity",
                       g->model->folder, ft_session_length(g->session));
    if (g->scores)
        ft_token_score_row(g->logits, g->model->config.vocab, id, g->top_scores, &g->scores[g->count]);
    const int ends = is_among(g->ends, g->end_count, id);
    const int told = ends && g->include_stop && !is_among(g->ends, g->silent_ends, id);
    if (ends && !told) {
        g->end_token = id;
        g->finish = FT_FINISH_STOP;
        return finish_text(g, st);
    }
    g->ids[g->count++] = id;
    if (g->stream) {
        const ft_code rc = ft_text_stream_push(g->stream, id, &g->text, st);
        if (rc)
            return rc;
        look_for_stops(g);
    }
    g->text_ends[g->count - 1] = g->shown;
    if (g->finish == FT_FINISH_NONE && (told || g->count == g->max_new)) {
        g->finish = told ? FT_FINISH_STOP : FT_FINISH_LENGTH;
        return finish_text(g, st);
    }
    return FT_OK;
}

size_t ft_generation_unread(const ft_generation *g)
{
    return g->finish == FT_FINISH_NONE ? g->prompt_count + g->count - ft_session_length(g->session) : 0;
}

ft_read ft_generation_next(ft_generation *g, size_t most)
{
    const size_t unread = ft_generation_unread(g), n = unread < most ? unread : most;
    return (ft_read){.session = g->session,
                     .ids = g->prompt + ft_session_length(g->session),
                     .count = n,
                     .out = {.last_logits = n == unread ? g->logits : NULL}};
}

/* Prompt tokens that count as read, also while they are read again. */
static void note_progress(ft_generation *g)
{
    const size_t length = ft_session_length(g->session), read = length < g->prompt_count ? length : g->prompt_count;
    g->prompt_read = read > g->prompt_read ? read : g->prompt_read;
}

ft_code ft_generation_take(ft_generation *g, ft_status *st)
{
    note_progress(g);
    if (g->finish != FT_FINISH_NONE || ft_generation_unread(g))
        return FT_OK;
    if (g->max_new)
        return take_token(g, st);
    g->finish = FT_FINISH_LENGTH;
    return FT_OK;
}

void ft_generation_find_prefix(ft_generation *g)
{
    if (g->finish != FT_FINISH_NONE)
        return;
    const size_t before = ft_session_length(g->session);
    const size_t found = ft_session_find_prefix(g->session, g->prompt + before, ft_generation_unread(g));
    const size_t known = before > g->prompt_read ? before : g->prompt_read;
    note_progress(g);
    if (found && g->prompt_read > known)
        g->cached += g->prompt_read - known;
}

void ft_generation_pause(ft_generation *g)
{
    ft_session_rewind(g->session, 0);
}

void ft_generation_end(ft_generation *g)
{
    ft_session_end(g->session);
}

size_t ft_generation_pages(const ft_generation *g)
{
    return g->session->page_count;
}

int ft_generation_same_page(const ft_generation *a, const ft_generation *b)
{
    const ft_session *s = a->session, *t = b->session;
    const size_t at = s->length;
    return s->share && t->share && s->kept == t->kept && at == t->length && at % FT_KV_PAGE == 0 &&
           ft_generation_unread(a) >= FT_KV_PAGE && ft_generation_unread(b) > FT_KV_PAGE &&
           (at == 0 || s->pages[at / FT_KV_PAGE - 1] == t->pages[at / FT_KV_PAGE - 1]) &&
           !memcmp(a->prompt + at, b->prompt + at, FT_KV_PAGE * sizeof(*a->prompt));
}

ft_code ft_generation_step(ft_generation *g, ft_status *st)
{
    if (g->finish != FT_FINISH_NONE)
        return FT_OK;
    const int drawn = g->prompt_read == g->prompt_count;
    ft_generation_find_prefix(g);
    if (ft_generation_unread(g)) {
        const ft_read next = ft_generation_next(g, g->session->engine->batch);
        const ft_code rc = ft_session_read(g->session, next.ids, next.count, &next.out, NULL, st);
        if (rc)
            return rc;
    }
    note_progress(g);
    if (!drawn && g->max_new) /* the prompt is a step of its own */
        return FT_OK;
    return ft_generation_take(g, st);
}

void ft_generation_abort(ft_generation *g)
{
    if (g->finish == FT_FINISH_NONE)
        g->finish = FT_FINISH_ABORT;
}

ft_generation_state ft_generation_get(const ft_generation *g)
{
    return (ft_generation_state){.ids = g->ids,
                                 .count = g->count,
                                 .text = g->text.data ? g->text.data : "",
                                 .text_bytes = g->shown,
                                 .text_ends = g->text_ends,
                                 .scores = g->scores,
                                 .finish = g->finish,
                                 .end_token = g->end_token,
                                 .prompt_read = g->prompt_read,
                                 .cached_tokens = g->cached};
}

ft_routing ft_generation_routing(const ft_generation *g)
{
    return ft_session_routing(g->session);
}
