#include "index/ft_index_stat.h"

#include "index/ft_stat_internal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

ft_code ft_stat_report(const ft_stat_work *w, const char *phase, uint64_t done, uint64_t total, const char *unit,
                       ft_status *st)
{
    if (ft_progress_report(w->progress, phase, done, total, unit))
        return ft_fail(st, FT_ERR_CANCELLED, "%s: stopped while counting", ft_index_get_info(w->ix).folder);
    return FT_OK;
}

/* --- Documents by all threads --------------------------------------------------------- */

typedef struct each {
    ft_stat_document_fn *fn;
    void *context;
    uint64_t from, to; /* items of this batch */
    pthread_mutex_t lock;
    uint64_t failed; /* the first item that failed, UINT64_MAX: none */
    ft_code rc;
    ft_status status;
} each;

/* A task is a handful of documents: enough that fetching it costs nothing, few enough
 * that threads end together. */
enum { TASK_DOCUMENTS = 16, BATCH_DOCUMENTS = 4096, BATCH_TOKENS = 1 << 22 };

static void run_task(void *context, size_t task, unsigned worker)
{
    each *e = context;
    const uint64_t from = e->from + task * TASK_DOCUMENTS;
    for (uint64_t i = from; i < e->to && i < from + TASK_DOCUMENTS; i++) {
        ft_status st;
        const ft_code rc = e->fn(e->context, i, worker, &st);
        if (!rc)
            continue;
        pthread_mutex_lock(&e->lock);
        if (i < e->failed) {
            e->failed = i;
            e->rc = rc;
            e->status = st;
        }
        pthread_mutex_unlock(&e->lock);
        return;
    }
}

ft_code ft_stat_each(ft_stat_work *w, const char *phase, const uint32_t *numbers, uint64_t items,
                     ft_stat_document_fn *fn, void *context, ft_status *st)
{
    each e = {.fn = fn, .context = context, .failed = UINT64_MAX};
    uint64_t total = 0, done = 0;
    for (uint64_t i = 0; i < items; i++)
        total += w->lengths[numbers ? numbers[i] : i];
    ft_code rc = ft_stat_report(w, phase, 0, total, "tokens", st);
    pthread_mutex_init(&e.lock, NULL);
    while (!rc && e.to < items) {
        const uint64_t before = done;
        for (e.from = e.to; e.to < items && e.to - e.from < BATCH_DOCUMENTS && done - before < BATCH_TOKENS; e.to++)
            done += w->lengths[numbers ? numbers[e.to] : e.to];
        ft_pool_run(w->pool, (size_t)((e.to - e.from + TASK_DOCUMENTS - 1) / TASK_DOCUMENTS), run_task, &e);
        rc = e.rc;
        if (rc && st)
            *st = e.status;
        if (!rc)
            rc = ft_stat_report(w, phase, done, total, "tokens", st);
    }
    pthread_mutex_destroy(&e.lock);
    return rc;
}

ft_code ft_stat_tokens(ft_stat_work *w, uint64_t number, unsigned worker, const uint32_t **ids, ft_status *st)
{
    ft_stat_scratch *s = &w->scratch[worker];
    const ft_index_info info = ft_index_get_info(w->ix);
    ft_doc_ref doc;
    size_t n;
    ft_code rc = ft_index_document(w->ix, number, &doc, st);
    if (!rc)
        rc = ft_array_grow((void **)&s->ids, &s->capacity, (size_t)doc.length, sizeof(*s->ids), st);
    if (rc)
        return rc;
    ft_index_document_tokens(w->ix, &doc, 0, (size_t)doc.length, s->ids, &n);
    const uint32_t end = info.vocab_size ? info.vocab_size : UINT32_MAX;
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = s->ids[i] > largest ? s->ids[i] : largest;
    if (n && largest >= end)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: document %" PRIu64 " holds a token that the vocabulary does not; 'index verify' says more",
                       info.folder, number);
    *ids = s->ids;
    return FT_OK;
}

/* --- Groups ----------------------------------------------------------------------------- */

static int group_before(const ft_stat_group *a, const ft_stat_group *b)
{
    return a->documents != b->documents ? a->documents > b->documents : a->number[0] < b->number[0];
}

void ft_stat_groups_offer(ft_stat_groups *list, size_t top, const ft_stat_group *g)
{
    size_t at = list->shown;
    while (at > 0 && group_before(g, &list->largest[at - 1]))
        at--;
    if (at >= top)
        return;
    list->shown += list->shown < top;
    memmove(list->largest + at + 1, list->largest + at, (list->shown - at - 1) * sizeof(*g));
    list->largest[at] = *g;
}

/* --- Lengths ------------------------------------------------------------------------------ */

static int compare_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t percentile(const uint64_t *sorted, uint64_t n, unsigned percent)
{
    /* ceil(percent * n / 100) without overflow */
    const uint64_t place = n / 100 * percent + (n % 100 * percent + 99) / 100;
    return sorted[place ? place - 1 : 0];
}

static void describe_lengths(ft_stat_lengths *out, uint64_t *lengths, uint64_t n, uint64_t tokens)
{
    for (uint64_t i = 0; i < n; i++) {
        const unsigned k = lengths[i] ? 64 - (unsigned)__builtin_clzll(lengths[i]) : 0;
        out->documents[k]++;
        out->tokens[k] += lengths[i];
    }
    if (!n)
        return;
    qsort(lengths, (size_t)n, sizeof(*lengths), compare_u64);
    out->min = lengths[0];
    out->median = percentile(lengths, n, 50);
    out->p90 = percentile(lengths, n, 90);
    out->p99 = percentile(lengths, n, 99);
    out->max = lengths[n - 1];
    out->mean = (double)tokens / (double)n;
}

/* Also the first look at every document: their places are sound from here on. */
static ft_code measure_lengths(ft_stat_work *w, ft_status *st)
{
    const uint64_t documents = ft_index_get_info(w->ix).documents;
    uint64_t *sorted = ft_alloc_array((size_t)documents, sizeof(*sorted));
    w->lengths = ft_alloc_array((size_t)documents, sizeof(*w->lengths));
    ft_code rc = sorted && w->lengths ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for %" PRIu64 " lengths", documents);
    for (uint64_t i = 0; i < documents && !rc; i++) {
        ft_doc_ref doc;
        rc = ft_index_document(w->ix, i, &doc, st);
        if (rc)
            break;
        sorted[i] = w->lengths[i] = doc.length;
        w->out->tokens += doc.length;
        if (i % 65536 == 0)
            rc = ft_stat_report(w, "lengths", i, documents, "documents", st);
    }
    if (!rc) {
        w->out->documents = documents;
        describe_lengths(&w->out->lengths, sorted, documents, w->out->tokens);
    }
    free(sorted);
    return rc;
}

/* --- The call ------------------------------------------------------------------------------ */

enum { DEFAULT_TOP = 20, DEFAULT_MAX_N = 5 };

static ft_code check_options(const ft_index_stat_options *o, const ft_index_info *info, uint64_t memory, ft_status *st)
{
    if (o->top > FT_STAT_MAX_TOP || o->max_n > FT_STAT_MAX_N)
        return ft_fail(st, FT_ERR_ARG, "statistics show at most %d entries and %d-grams, not %u and %u",
                       FT_STAT_MAX_TOP, FT_STAT_MAX_N, o->top, o->max_n);
    if (info->documents >= UINT32_MAX || info->documents > memory / FT_STAT_DOCUMENT_BYTES)
        return ft_fail(st, FT_ERR_LIMIT,
                       "%s: statistics of %" PRIu64 " documents need %" PRIu64 " MB of memory, %" PRIu64 " are allowed",
                       info->folder, info->documents, info->documents / 1000000 * FT_STAT_DOCUMENT_BYTES + 1,
                       memory / 1000000);
    return FT_OK;
}

static ft_code prepare(ft_stat_work *w, ft_status *st)
{
    w->out->max_n = w->max_n;
    w->scratch = ft_alloc_array(ft_pool_size(w->pool), sizeof(*w->scratch));
    w->out->identical.largest = ft_arena_array(w->arena, w->top, sizeof(ft_stat_group));
    w->out->near.largest = ft_arena_array(w->arena, w->top, sizeof(ft_stat_group));
    if (!w->scratch || !w->out->identical.largest || !w->out->near.largest)
        return ft_fail(st, FT_ERR_MEM, "no memory for statistics");
    for (unsigned i = 0; i < ft_pool_size(w->pool); i++)
        w->scratch[i].set[0].document = w->scratch[i].set[1].document = UINT64_MAX;
    return FT_OK;
}

static void release(ft_stat_work *w)
{
    for (unsigned i = 0; w->scratch && i < ft_pool_size(w->pool); i++) {
        free(w->scratch[i].ids);
        free(w->scratch[i].set[0].slots);
        free(w->scratch[i].set[1].slots);
    }
    free(w->scratch);
    free(w->lengths);
    free(w->leaders);
}

struct owned_stat { /* what *out points into */
    ft_index_stat stat;
    ft_arena *arena;
};

ft_code ft_index_stat_make(ft_index_stat **out, const ft_index *ix, const ft_index_stat_options *options, ft_status *st)
{
    static const ft_index_stat_options defaults = {0};
    const ft_index_stat_options *o = options ? options : &defaults;
    const ft_index_info info = ft_index_get_info(ix);
    ft_stat_work w = {.ix = ix,
                      .top = o->top ? o->top : DEFAULT_TOP,
                      .max_n = o->max_n ? o->max_n : DEFAULT_MAX_N,
                      .memory_bytes = o->memory_bytes ? o->memory_bytes : UINT64_C(2) << 30,
                      .pool = o->pool,
                      .progress = o->progress};
    *out = NULL;
    ft_code rc = check_options(o, &info, w.memory_bytes, st);
    if (rc)
        return rc;
    struct owned_stat *owned = calloc(1, sizeof(*owned));
    if (!owned)
        return ft_fail(st, FT_ERR_MEM, "no memory for statistics");
    w.out = &owned->stat;
    rc = ft_arena_new(&owned->arena, 0, st);
    w.arena = owned->arena;
    if (!rc)
        rc = prepare(&w, st);
    if (!rc)
        rc = measure_lengths(&w, st);
    if (!rc)
        rc = ft_stat_read_metadata(&w, st);
    if (!rc)
        rc = ft_stat_find_identical(&w, st);
    if (!rc)
        rc = ft_stat_find_near(&w, st);
    if (!rc)
        rc = ft_stat_walk_ngrams(&w, st);
    release(&w);
    if (rc)
        ft_index_stat_free(w.out);
    else
        *out = w.out;
    return rc;
}

void ft_index_stat_free(ft_index_stat *s)
{
    struct owned_stat *owned = (struct owned_stat *)s; /* its first member */
    if (!owned)
        return;
    ft_arena_free(owned->arena);
    free(owned);
}
