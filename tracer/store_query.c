/* Questions. Every condition of a filter is a stream of ids in order, out of the keys; a trace fits when all
 * streams have it. They are walked together: each jumps to the first id at or beyond the furthest of the others
 * (a leapfrog join), so that the rarest sets the pace. What must hold for one and the same span is then looked up
 * in the summary, and what that does not have, model and text, in its row and in the trace.
 * Source  Veldhuizen, "Leapfrog Triejoin", ICDT 2014, section 3.1. */
#include "base/ft_buffer.h"
#include "tracer/store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_STREAMS = 8,
    PAGE_STEPS = 8000,     /* a page ends after so many moves of a cursor */
    TOTAL_STEPS = 2000000, /* a count ends after so many */
    CHUNK_STEPS = 500000,  /* a walk takes a new snapshot after so many */
    READ_STEPS = 4,        /* what looking into a summary counts as: where that decides, few fit among many */
    ROW_STEPS = 40,        /* into its row */
    TEXT_STEPS = 400       /* into the trace */
};

typedef struct search {
    const ft_store_filter *filter;
    id_stream streams[MOST_STREAMS];
    size_t count;
    run_list runs;
    int down;                     /* newest first */
    unsigned char next[STORE_ID]; /* where to go on */
    unsigned char end[STORE_ID];  /* the last that may fit */
    size_t steps;
    int over, wants_span;
    int inside;     /* model or text are asked for */
    packer *packer; /* for them; NULL outside of run */
    span_wish span;
    uint64_t key, without;
} search;

ft_store_filter ft_store_filter_all(void)
{
    return (ft_store_filter){.expert = -1};
}

/* The id after (before) it; 0 where there is none. */
static int step_id(unsigned char id[STORE_ID], int down)
{
    for (int i = STORE_ID - 1; i >= 0; i--) {
        id[i] = (unsigned char)(id[i] + (down ? -1 : 1));
        if (id[i] != (down ? 0xff : 0))
            return 1;
    }
    return 0;
}

/* < 0: a comes before b in the order of the search. */
static int order(const search *q, const unsigned char *a, const unsigned char *b)
{
    const int c = memcmp(a, b, STORE_ID);
    return q->down ? -c : c;
}

static void add_stream(search *q, key_kind kind, uint64_t what, unsigned class)
{
    static const unsigned char no_id[STORE_ID];
    unsigned char key[STORE_KEY];
    id_stream *t = &q->streams[q->count++];
    key_write(key, kind, what, class, no_id);
    t->prefix_bytes = STORE_KEY - STORE_ID;
    memcpy(t->prefix, key, t->prefix_bytes);
}

/* --- All of them ---------------------------------------------------------------------------------------- */

static void prepare(search *q, const ft_store_filter *f, int down)
{
    *q = (search){.filter = f, .down = down};
    const unsigned class = key_class_of_tokens(f->min_tokens ? f->min_tokens : 1);
    q->inside = f->model || f->text;
    q->wants_span = f->owner || f->document || f->verdict || f->min_tokens;
    q->span = span_wish_of(f);
    q->key = f->key ? summary_hash(f->key) : 0;
    q->without = f->without ? summary_hash(f->without) : 0;
    if (f->key)
        add_stream(q, KEY_KEY, q->key, 0);
    if (f->owner)
        add_stream(q, KEY_OWNER, q->span.owner, class);
    if (f->document)
        add_stream(q, KEY_DOCUMENT, q->span.document, class);
    if (f->verdict)
        add_stream(q, KEY_VERDICT, q->span.verdict, class);
    if (f->without)
        add_stream(q, KEY_WITHOUT, q->without, 0);
    if (f->expert >= 0)
        add_stream(q, KEY_EXPERT, (uint64_t)f->expert, key_class_of_share((double)(float)f->min_share));
    if (f->min_tokens && !f->owner && !f->document && !f->verdict)
        add_stream(q, KEY_SPAN, 0, class);
    if (!q->count)
        q->streams[q->count++].prefix_bytes = 0;
}

/* Where it begins and ends: the filter's time, and `after` (NULL: none). */
static void bound(search *q, const unsigned char *after)
{
    unsigned char low[STORE_ID], high[STORE_ID];
    store_id_of_time(q->filter->from_ms, 0, low);
    memset(high, 0xff, sizeof(high));
    if (q->filter->to_ms)
        store_id_of_time(q->filter->to_ms - 1, 1, high);
    memcpy(q->next, q->down ? high : low, STORE_ID);
    memcpy(q->end, q->down ? low : high, STORE_ID);
    if (!after || order(q, after, q->next) < 0)
        return;
    memcpy(q->next, after, STORE_ID);
    q->over = !step_id(q->next, q->down);
}

/* No trace before the oldest, though runs may still have keys of such. */
static int skip_removed(search *q, const ft_store *s, MDB_txn *txn)
{
    unsigned char oldest[STORE_ID];
    const int error = oldest_trace(s, txn, oldest);
    unsigned char *low = q->down ? q->end : q->next;
    if (!error && memcmp(low, oldest, STORE_ID) < 0)
        memcpy(low, oldest, STORE_ID);
    return error;
}

static int open_streams(search *q, const ft_store *s, MDB_txn *txn)
{
    int error = skip_removed(q, s, txn);
    if (!error)
        error = runs_read(txn, store_runs(s), &q->runs);
    if (!error)
        runs_order(&q->runs, q->down);
    for (size_t i = 0; !error && i < q->count; i++)
        error = id_stream_open(&q->streams[i], s, txn, &q->runs, q->down);
    return error;
}

static void close_streams(search *q)
{
    for (size_t i = 0; i < q->count; i++)
        id_stream_close(&q->streams[i]);
    runs_release(&q->runs);
}

/* q->next becomes the first id from there on that all streams have. */
static int meet(search *q)
{
    for (size_t agreed = 0, i = 0; agreed < q->count; i = (i + 1) % q->count) {
        id_stream *t = &q->streams[i];
        const int error = id_stream_advance(t, q->next);
        q->steps += t->steps;
        t->steps = 0;
        if (error)
            return error;
        agreed = memcmp(t->at, q->next, STORE_ID) == 0 ? agreed + 1 : 1;
        memcpy(q->next, t->at, STORE_ID);
        if (order(q, q->next, q->end) > 0)
            return MDB_NOTFOUND;
    }
    return 0;
}

/* --- What one trace must have -------------------------------------------------------------------------- */

span_wish span_wish_of(const ft_store_filter *f)
{
    return (span_wish){.owner = f->owner ? summary_hash(f->owner) : 0,
                       .document = f->document ? summary_hash(f->document) : 0,
                       .verdict = summary_verdict(f->verdict),
                       .min_tokens = f->min_tokens};
}

int span_fits(const span_wish *w, const summary *m, const summary_span *s)
{
    if (s->end < s->start || s->end - s->start < w->min_tokens || (w->verdict && s->verdict != w->verdict))
        return 0;
    int owner = -1;
    for (int i = 0; w->owner && i < m->head.owners; i++)
        if (m->owners[i] == w->owner)
            owner = i;
    if (w->owner && (owner < 0 || !(s->owners >> owner & 1)))
        return 0;
    for (uint32_t p = s->first_place; w->document && p < s->first_place + s->places; p++)
        if (m->places[p].document == w->document && (!w->owner || m->places[p].owner == (uint32_t)owner))
            return 1;
    return !w->document;
}

static int holds(const uint64_t *hashes, size_t n, uint64_t hash)
{
    for (size_t i = 0; i < n; i++)
        if (hashes[i] == hash)
            return 1;
    return 0;
}

/* All of it: the key that led here may be of what the trace was before it was replaced. */
static int fits(const search *q, const summary *m)
{
    int found = !q->wants_span;
    if ((q->key && m->head.key != q->key) || (q->without && !holds(m->without, m->head.without, q->without)))
        return 0;
    for (size_t i = 0; !found && i < m->head.spans; i++)
        found = span_fits(&q->span, m, &m->spans[i]);
    if (!found || q->filter->expert < 0)
        return found;
    for (size_t i = 0; i < m->head.experts; i++)
        if (m->experts[i].id == (uint32_t)q->filter->expert)
            return m->experts[i].share > 0 && m->experts[i].share >= (float)q->filter->min_share; /* both rounded */
    return 0;
}

/* What no summary tells, asked last: of what all else lets through. The trace is as the same snapshot has it. */
static ft_code fits_inside(search *q, const ft_store *s, MDB_txn *txn, const char *id, MDB_val value, int *good,
                           ft_status *st)
{
    static const row_choice short_row = {.how = FT_ROW_SPANS_COUNT};
    ft_code rc = FT_OK;
    *good = 1;
    if (q->filter->model) {
        json_t *row;
        rc = summary_read_row(q->packer, &row, value.mv_data, value.mv_size, &short_row, id, st);
        const char *model = json_string_value(json_object_get(row, "model"));
        *good = model && !strcmp(model, q->filter->model);
        json_decref(row);
        q->steps += ROW_STEPS;
    }
    if (rc || !*good || !q->filter->text)
        return rc;
    MDB_val key = store_value(id, ID_BYTES), trace;
    const int error = mdb_get(txn, s->traces, &key, &trace);
    q->steps += TEXT_STEPS;
    return error ? store_fail(s, error, "query", st)
                 : trace_response_holds(q->packer, trace.mv_data, trace.mv_size, q->filter->text, id, good, st);
}

/* Calls `each` for the trace at q->next where it fits; *error is LMDB's. */
static ft_code look(search *q, const ft_store *s, MDB_txn *txn, summary_visit *each, void *context, int *error,
                    ft_status *st)
{
    char id[FT_TRACE_ID];
    MDB_val key = store_value(q->next, STORE_ID), value;
    summary m = {0};
    *error = mdb_get(txn, s->summaries, &key, &value);
    if (*error) {
        *error = *error == MDB_NOTFOUND ? 0 : *error; /* it was removed */
        return FT_OK;
    }
    store_id_unpack(q->next, id);
    ft_code rc = summary_read(&m, value.mv_data, value.mv_size, id, st);
    int good = !rc && fits(q, &m);
    if (good && q->inside)
        rc = fits_inside(q, s, txn, id, value, &good, st);
    if (!rc && good)
        rc = each(context, id, &m, value, st);
    summary_release(&m);
    return rc;
}

/* Calls `each` for what fits, from q->next on, until it returns other than FT_OK, the end, or `steps`. On return
 * q->next is what was not looked at yet; q->over says that there is nothing. */
static ft_code run(search *q, ft_store *s, size_t steps, summary_visit *each, void *context, ft_status *st)
{
    MDB_txn *txn = NULL;
    ft_code rc = q->over ? FT_OK : store_read_begin(s, &txn, "query", st);
    if (!txn)
        return rc;
    if (q->inside)
        rc = packer_take(s, &q->packer, st);
    q->steps = 0;
    int error = open_streams(q, s, txn);
    while (!rc && !error && !q->over && q->steps < steps) {
        error = meet(q);
        if (!error)
            rc = look(q, s, txn, each, context, &error, st);
        if (error)
            break;
        if (!rc)
            q->over = !step_id(q->next, q->down);
        q->steps += READ_STEPS;
    }
    q->over |= error == MDB_NOTFOUND;
    close_streams(q);
    store_read_end(s, txn);
    packer_give(s, q->packer);
    q->packer = NULL;
    return !rc && error && error != MDB_NOTFOUND ? store_fail(s, error, "query", st) : rc;
}

ft_code store_walk_summaries(ft_store *s, const ft_store_filter *filter, summary_visit *each, void *context,
                             ft_status *st)
{
    search q;
    prepare(&q, filter, 0);
    bound(&q, NULL);
    ft_code rc = FT_OK;
    while (!rc && !q.over)
        rc = run(&q, s, CHUNK_STEPS, each, context, st);
    return rc;
}

/* --- Pages ------------------------------------------------------------------------------------------------ */

typedef struct collector {
    packer *packer;
    ft_store_rows *out;
    size_t limit;
    const search *q;
    const summary *m; /* of the trace at hand */
    row_choice choice;
} collector;

static int fits_here(const void *context, size_t number)
{
    const collector *c = context;
    return number >= c->m->head.spans || span_fits(&c->q->span, c->m, &c->m->spans[number]);
}

static ft_code collect(void *context, const char *id, const summary *m, MDB_val value, ft_status *st)
{
    collector *c = context;
    json_t *row;
    if (json_array_size(c->out->list) == c->limit)
        return FT_ERR_CANCELLED; /* there is one more */
    c->m = m;
    ft_code rc = summary_read_row(c->packer, &row, value.mv_data, value.mv_size, &c->choice, id, st);
    if (!rc && json_array_append_new(c->out->list, row) != 0)
        rc = ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
    if (!rc)
        memcpy(c->out->last, id, FT_TRACE_ID);
    return rc;
}

static ft_code reverse(ft_store_rows *out, ft_status *st)
{
    json_t *turned = json_array();
    char kept[FT_TRACE_ID];
    for (size_t i = json_array_size(out->list); turned && i-- > 0;)
        if (json_array_append(turned, json_array_get(out->list, i)) != 0)
            return ft_fail(st, FT_ERR_MEM, "query: out of memory");
    if (!turned)
        return ft_fail(st, FT_ERR_MEM, "query: out of memory");
    json_decref(out->list);
    out->list = turned;
    memcpy(kept, out->first, sizeof(kept));
    memcpy(out->first, out->last, sizeof(kept));
    memcpy(out->last, kept, sizeof(kept));
    return FT_OK;
}

static ft_code count_one(void *context, const char *id, const summary *m, MDB_val value, ft_status *st)
{
    (void)id;
    (void)m;
    (void)value;
    (void)st;
    ++*(uint64_t *)context;
    return FT_OK;
}

/* All that fit, whatever the page. How many there are at all need not be counted. */
static ft_code count_all(ft_store *s, const ft_store_filter *f, ft_store_rows *out, ft_status *st)
{
    search q;
    prepare(&q, f, 0);
    bound(&q, NULL);
    if (!f->from_ms && !f->to_ms && !q.inside && !q.streams[0].prefix_bytes) {
        ft_store_sizes sizes;
        const ft_code rc = ft_store_get_sizes(s, &sizes, st);
        out->total = sizes.traces;
        return rc;
    }
    const ft_code rc = run(&q, s, TOTAL_STEPS, count_one, &out->total, st);
    out->at_least = !q.over;
    return rc;
}

/* The id that a cursor of a caller stands for. */
static ft_code cursor_id(const ft_store *s, const char *text, unsigned char out[STORE_ID], ft_status *st)
{
    uint64_t when;
    if (!ft_trace_id_time(text, &when))
        return ft_fail(st, FT_ERR_ARG, "%s: '%.60s' is not the id of a trace", s->folder, text);
    store_id_pack(text, out);
    return FT_OK;
}

ft_code ft_store_query(ft_store *s, const ft_store_filter *filter, const ft_store_page *page, ft_store_rows *out,
                       ft_status *st)
{
    unsigned char from[STORE_ID];
    search q;
    memset(out, 0, sizeof(*out));
    if (page->after && page->before)
        return ft_fail(st, FT_ERR_ARG, "a page comes after one trace or before one, not both");
    const char *cursor = page->after ? page->after : page->before;
    ft_code rc = cursor ? cursor_id(s, cursor, from, st) : FT_OK;
    if (rc)
        return rc;
    out->list = json_array();
    if (!out->list)
        return ft_fail(st, FT_ERR_MEM, "query: out of memory");
    prepare(&q, filter, !page->ascending == !page->before);
    bound(&q, cursor ? from : NULL);
    collector c = {.out = out, .limit = page->limit, .q = &q};
    c.choice = (row_choice){page->spans, q.wants_span ? fits_here : NULL, &c};
    rc = packer_take(s, &c.packer, st);
    if (!rc)
        rc = run(&q, s, PAGE_STEPS, collect, &c, st);
    packer_give(s, c.packer);
    out->more = rc == FT_ERR_CANCELLED || !q.over;
    if (!rc && !q.over && step_id(q.next, !q.down)) /* the last that was looked at */
        store_id_unpack(q.next, out->last);
    rc = rc == FT_ERR_CANCELLED ? FT_OK : rc;
    if (!rc && json_array_size(out->list))
        snprintf(out->first, sizeof(out->first), "%s",
                 json_string_value(json_object_get(json_array_get(out->list, 0), "id")));
    if (!rc && page->before)
        rc = reverse(out, st);
    if (!rc && page->total)
        rc = count_all(s, filter, out, st);
    if (rc) {
        json_decref(out->list);
        memset(out, 0, sizeof(*out));
    }
    return rc;
}

/* --- Walks -------------------------------------------------------------------------------------------------- */

enum { WALK_AT_ONCE = 256 };
typedef struct gathered {
    char ids[WALK_AT_ONCE][FT_TRACE_ID];
    json_t *rows[WALK_AT_ONCE];
    size_t count;
    packer *packer; /* NULL: without rows */
} gathered;

static ft_code gather(void *context, const char *id, const summary *m, MDB_val value, ft_status *st)
{
    static const row_choice whole = {.how = FT_ROW_SPANS};
    gathered *g = context;
    (void)m;
    if (g->count == WALK_AT_ONCE)
        return FT_ERR_CANCELLED;
    g->rows[g->count] = NULL;
    const ft_code rc =
        g->packer ? summary_read_row(g->packer, &g->rows[g->count], value.mv_data, value.mv_size, &whole, id, st)
                  : FT_OK;
    if (!rc)
        memcpy(g->ids[g->count++], id, FT_TRACE_ID);
    return rc;
}

/* `idle`: `visit` is asked where nothing fitted, too. */
static ft_code walk(ft_store *s, const ft_store_filter *filter, const char *after, int with_rows, int idle,
                    ft_store_visit *visit, void *context, ft_status *st)
{
    unsigned char from[STORE_ID];
    search q;
    ft_code rc = after ? cursor_id(s, after, from, st) : FT_OK;
    if (rc)
        return rc;
    gathered *g = calloc(1, sizeof(*g));
    if (!g)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    rc = with_rows ? packer_take(s, &g->packer, st) : FT_OK;
    prepare(&q, filter, 0);
    bound(&q, after ? from : NULL);
    while (!rc && !q.over) {
        g->count = 0;
        rc = run(&q, s, CHUNK_STEPS, gather, g, st);
        rc = rc == FT_ERR_CANCELLED ? FT_OK : rc;
        for (size_t i = 0; i < g->count; i++) {
            if (!rc)
                rc = visit(context, g->ids[i], g->rows[i], st);
            json_decref(g->rows[i]);
        }
        if (!rc && idle && !g->count && !q.over)
            rc = visit(context, NULL, NULL, st);
    }
    packer_give(s, g->packer);
    free(g);
    return rc;
}

ft_code ft_store_walk(ft_store *s, const ft_store_filter *filter, int with_rows, ft_store_visit *visit, void *context,
                      ft_status *st)
{
    return walk(s, filter, NULL, with_rows, 0, visit, context, st);
}

ft_code ft_store_walk_after(ft_store *s, const ft_store_filter *filter, const char *after, int with_rows,
                            ft_store_visit *visit, void *context, ft_status *st)
{
    return walk(s, filter, after, with_rows, 1, visit, context, st);
}
