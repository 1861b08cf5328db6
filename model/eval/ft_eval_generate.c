#include "model/eval/ft_eval_generate.h"

#include "base/ft_buffer.h"
#include "base/ft_json.h"
#include "model/eval/eval_items.h"
#include "model/ft_kv.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE_BY_SIDE = 64, BATCH_TOKENS = 512 };
static const size_t KV_BYTES = (size_t)1 << 30; /* aimed at; one continuation always has room */

typedef struct slot {
    ft_generation *generation; /* NULL: free */
    size_t request;
    ft_code rc;
    ft_status st;
    int read; /* in this pass */
} slot;

typedef struct writing {
    const ft_eval_writer *w;
    ft_engine *engine;
    slot *slots;
    ft_read *reads;
    size_t side, next, ended;
} writing;

static ft_code open_engine(writing *x, const ft_model *m, ft_pool *pool, ft_status *st)
{
    ft_kv layout;
    const size_t pages = (x->w->max_tokens + FT_KV_PAGE - 1) / FT_KV_PAGE;
    size_t each;
    ft_engine_options o = {.max_tokens = x->w->max_tokens, .batch_tokens = BATCH_TOKENS, .no_prefix_cache = 1};
    if (o.max_tokens > ft_model_get_config(m)->max_position)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %zu tokens of prompt and continuation; the model has %zu positions",
                       ft_model_folder(m), o.max_tokens, ft_model_get_config(m)->max_position);
    ft_code rc = ft_kv_layout(&layout, ft_model_get_config(m), FT_KV_F32, st);
    if (!rc)
        rc = ft_size_mul(layout.page_bytes, pages, &each, st);
    if (rc)
        return rc;
    x->side = x->w->side ? x->w->side : SIDE_BY_SIDE;
    x->side = each && x->side > KV_BYTES / each ? KV_BYTES / each : x->side;
    x->side = x->side ? x->side : 1;
    rc = ft_size_mul(each, x->side, &o.kv_bytes, st);
    return rc ? rc : ft_engine_new(&x->engine, m, pool, &o, st);
}

static ft_code open_slot(writing *x, slot *s, ft_status *st)
{
    ft_generate_request r = {.sampling = {.top_p = 1}};
    s->request = x->next++;
    x->w->fill(x->w->context, s->request, &r);
    return ft_generation_open_on(&s->generation, x->engine, NULL, &r, st);
}

static ft_code end_slot(writing *x, slot *s, ft_status *st)
{
    const ft_generation_state g = ft_generation_get(s->generation);
    const ft_code rc = x->w->done(x->w->context, s->request, g.ids, g.count, st);
    ft_generation_close(s->generation);
    s->generation = NULL;
    x->ended++;
    return rc;
}

/* Drawing sorts a vocabulary: each continuation's own, so on all threads. */
static void take(void *slots, size_t i, unsigned worker)
{
    slot *s = (slot *)slots + i;
    (void)worker;
    if (s->read)
        s->rc = ft_generation_take(s->generation, &s->st);
}

static ft_code one_pass(writing *x, ft_pool *pool, ft_status *st)
{
    size_t reads = 0, tokens = 0;
    for (size_t i = 0; i < x->side; i++) {
        slot *s = &x->slots[i];
        s->read = 0;
        if (!s->generation || tokens == BATCH_TOKENS)
            continue;
        const ft_read r = ft_generation_next(s->generation, BATCH_TOKENS - tokens);
        s->read = r.count > 0;
        if (s->read)
            x->reads[reads++] = r;
        tokens += r.count;
    }
    ft_code rc = reads ? ft_engine_read(x->engine, x->reads, reads, st) : FT_OK;
    if (!rc)
        ft_pool_run(pool, x->side, take, x->slots);
    for (size_t i = 0; i < x->side && !rc; i++) {
        slot *s = &x->slots[i];
        if (s->read && s->rc)
            rc = ft_fail(st, s->rc, "%s", s->st.msg);
        if (!rc && s->generation && ft_generation_get(s->generation).finish != FT_FINISH_NONE)
            rc = end_slot(x, s, st);
    }
    return rc;
}

ft_code ft_eval_write(const ft_model *m, ft_pool *pool, const ft_eval_writer *w, const ft_progress *progress,
                      ft_status *st)
{
    writing x = {.w = w};
    ft_code rc = open_engine(&x, m, pool, st);
    if (!rc) {
        x.slots = ft_alloc_array(x.side, sizeof(*x.slots));
        x.reads = ft_alloc_array(x.side, sizeof(*x.reads));
        if (!x.slots || !x.reads)
            rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    while (!rc && x.ended < w->count) {
        for (size_t i = 0; i < x.side && x.next < w->count && !rc; i++)
            if (!x.slots[i].generation)
                rc = open_slot(&x, &x.slots[i], st);
        if (!rc)
            rc = one_pass(&x, pool, st);
        if (!rc && ft_progress_report(progress, "write", x.ended, w->count, "texts"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped");
    }
    for (size_t i = 0; x.slots && i < x.side; i++)
        ft_generation_close(x.slots[i].generation);
    free(x.slots);
    free(x.reads);
    ft_engine_free(x.engine);
    return rc;
}

/* --- Exact match ------------------------------------------------------------------------------- */

typedef struct matching {
    const ft_eval_exact_options *o;
    const ft_tokenizer *tokenizer;
    eval_items items;
    ft_encoding *prompts; /* [items] */
    ft_buffer text;
    ft_eval_exact *out;
    size_t window;
} matching;

/* What is compared of a text: [*from, *to). */
static void trim(const char *text, const char *after, const char **from, const char **to)
{
    const char *p = text, *end = text + strlen(text);
    for (const char *q = after ? strstr(text, after) : NULL; q; q = strstr(q + 1, after))
        p = q + strlen(after);
    if (after)
        end = p + strcspn(p, "\n");
    while (p < end && strchr(" \t\r\n", *p))
        p++;
    while (end > p && strchr(" \t\r\n", end[-1]))
        end--;
    *from = p;
    *to = end;
}

static int same(const char *written, const char *answer, const char *after)
{
    const char *a, *a_end, *b, *b_end;
    /* A continuation that never says `after` has no answer; an answer may be the bare value. */
    if (after && !strstr(written, after))
        return 0;
    trim(written, after, &a, &a_end);
    trim(answer, after, &b, &b_end);
    return a_end - a == b_end - b && !memcmp(a, b, (size_t)(a_end - a));
}

static void fill(void *context, size_t i, ft_generate_request *r)
{
    const matching *x = context;
    const ft_encoding *e = &x->prompts[i];
    const size_t room = x->window - x->o->new_tokens, n = e->count < room ? e->count : room;
    r->prompt = e->ids + e->count - n;
    r->prompt_count = n;
    r->max_new_tokens = x->o->new_tokens;
    r->without = x->o->without;
}

static ft_code done(void *context, size_t i, const uint32_t *ids, size_t count, ft_status *st)
{
    matching *x = context;
    ft_buffer_reset(&x->text);
    const ft_code rc = ft_tokenizer_decode(x->tokenizer, ids, count, FT_DECODE_SKIP_SPECIAL, &x->text, st);
    if (rc)
        return rc;
    char *end = x->o->stop && x->text.data ? strstr(x->text.data, x->o->stop) : NULL;
    if (end)
        *end = 0;
    const char *text = x->text.data ? x->text.data : "";
    x->out->items++;
    x->out->right += same(text, json_string_value(json_object_get(x->items.rows[i], "answer")), x->o->after);
    return FT_OK;
}

static ft_code encode_prompts(matching *x, const char *path, ft_status *st)
{
    ft_encoder *encoder = NULL;
    ft_code rc = ft_encoder_new(&encoder, x->tokenizer, st);
    for (size_t i = 0; i < x->items.count && !rc; i++) {
        const char *prompt = json_string_value(json_object_get(x->items.rows[i], "prompt"));
        if (!prompt || !*prompt || !json_is_string(json_object_get(x->items.rows[i], "answer")))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s:%zu: needs a \"prompt\" and an \"answer\", both strings", path,
                         x->items.lines[i]);
        if (!rc)
            rc = ft_encoder_encode_ids(encoder, prompt, strlen(prompt), &x->prompts[i], st);
    }
    ft_encoder_free(encoder);
    return rc;
}

ft_code ft_eval_match(ft_eval_exact *out, const ft_model *m, ft_pool *pool, const ft_tokenizer *tokenizer,
                      const char *path, const ft_eval_exact_options *o, const ft_progress *progress, ft_status *st)
{
    matching x = {.o = o, .tokenizer = tokenizer, .out = out, .window = ft_model_get_config(m)->max_position};
    size_t longest = 0;
    memset(out, 0, sizeof(*out));
    if (!o->new_tokens || o->new_tokens >= x.window)
        return ft_fail(st, FT_ERR_ARG, "%zu new tokens; the model has %zu positions", o->new_tokens, x.window);
    ft_code rc = eval_items_read(&x.items, path, o->limit, st);
    if (!rc && !(x.prompts = ft_alloc_array(x.items.count, sizeof(*x.prompts))))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = encode_prompts(&x, path, st);
    for (size_t i = 0; i < x.items.count && !rc; i++)
        longest = x.prompts[i].count > longest ? x.prompts[i].count : longest;
    if (!rc) {
        const size_t whole = longest > x.window - o->new_tokens ? x.window : longest + o->new_tokens;
        const ft_eval_writer w = {
            .fill = fill, .done = done, .context = &x, .count = x.items.count, .max_tokens = whole};
        rc = ft_eval_write(m, pool, &w, progress, st);
    }
    for (size_t i = 0; x.prompts && i < x.items.count; i++)
        ft_encoding_release(&x.prompts[i]);
    free(x.prompts);
    ft_buffer_release(&x.text);
    eval_items_release(&x.items);
    return rc;
}
