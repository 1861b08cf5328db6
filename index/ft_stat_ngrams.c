/* The commonest n-grams, exactly, without counting all.
 *
 * The suffixes that begin with one n-gram stand side by side in each part, so n-grams form
 * a tree: below each the ones that are a token longer, found by stepping from key to key.
 * The walk goes down in all parts at once, so that each count is the sum over them, and
 * turns back where an n-gram is rarer than what every list below it holds already: nothing
 * longer can be more frequent. First tokens are taken from the commonest on, which fills
 * the lists with frequent n-grams early; threads share what each length asks for by now. */
#include "index/ft_stat_internal.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef struct entry {
    ft_stat_ngram ngram;
    uint64_t keys[FT_STAT_MAX_N]; /* in the order of the search */
} entry;

/* The commonest of one length that one thread has met, best first. */
typedef struct list {
    entry *entries; /* [top] */
    size_t count;
} list;

typedef struct first_token {
    uint64_t count;
    uint64_t key;
    uint32_t id;
} first_token;

typedef struct walk {
    const ft_stat_work *w;
    unsigned parts, max_n;
    size_t top;
    int reversed;
    list *lists;                               /* [threads][max_n] */
    ft_range *ranges;                          /* [threads][max_n][parts] the n-gram at hand and its beginnings */
    entry *paths;                              /* [threads] its tokens */
    _Atomic uint64_t asked[FT_STAT_MAX_N + 1]; /* [n] some thread has `top` n-grams with this count or more */
    first_token *first;
    size_t first_count, first_capacity, batch;
} walk;

/* --- Lists ------------------------------------------------------------------------------ */

static int compare_keys(const uint64_t *a, const uint64_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

static void offer(walk *k, unsigned n, const entry *e, unsigned worker)
{
    list *l = &k->lists[worker * k->max_n + n - 1];
    size_t at = l->count;
    while (at > 0 &&
           (e->ngram.count > l->entries[at - 1].ngram.count || (e->ngram.count == l->entries[at - 1].ngram.count &&
                                                                compare_keys(e->keys, l->entries[at - 1].keys, n) < 0)))
        at--;
    if (at >= k->top)
        return;
    l->count += l->count < k->top;
    memmove(l->entries + at + 1, l->entries + at, (l->count - at - 1) * sizeof(*e));
    l->entries[at] = *e;
    if (l->count < k->top)
        return;
    const uint64_t least = l->entries[k->top - 1].ngram.count;
    uint64_t asked = atomic_load(&k->asked[n]);
    while (asked < least && !atomic_compare_exchange_weak(&k->asked[n], &asked, least))
        ;
}

/* Whether an n-gram longer than the `length` tokens at hand, which occur `count` times,
 * can still enter a list. */
static int is_worth_going_on(const walk *k, const entry *path, unsigned length, uint64_t count, unsigned worker)
{
    for (unsigned n = length + 1; n <= k->max_n; n++) {
        const list *l = &k->lists[worker * k->max_n + n - 1];
        if (count < atomic_load_explicit(&k->asked[n], memory_order_relaxed))
            continue;
        if (l->count < k->top)
            return 1;
        const entry *last = &l->entries[k->top - 1];
        if (count > last->ngram.count ||
            (count == last->ngram.count && compare_keys(path->keys, last->keys, length) <= 0))
            return 1;
    }
    return 0;
}

/* --- The tree ----------------------------------------------------------------------------- */

typedef struct cursor { /* over the children of a node, in the order of their keys */
    ft_range left[FT_INDEX_MAX_PARTS];
    uint64_t key[FT_INDEX_MAX_PARTS]; /* at left.lo; UINT64_MAX where nothing is left */
} cursor;

static void load_key(const walk *k, cursor *c, unsigned part, unsigned depth)
{
    const ft_part *p = &k->w->ix->parts[part];
    c->key[part] = c->left[part].lo < c->left[part].hi ? ft_part_key(p, ft_part_position(p, c->left[part].lo) + depth)
                                                       : UINT64_MAX;
}

static void cursor_begin(const walk *k, cursor *c, const ft_range *ranges, unsigned depth)
{
    for (unsigned i = 0; i < k->parts; i++) {
        c->left[i] = ranges[i];
        load_key(k, c, i, depth);
    }
}

/* The next child that is a token: its key, id, count and ranges. 0 when there is none.
 * Key 0 (no token), the ends of documents, and what stands in removed ones alone are
 * passed over. */
static int cursor_next(const walk *k, cursor *c, unsigned depth, first_token *out, ft_range *ranges)
{
    for (;;) {
        uint64_t key = UINT64_MAX;
        for (unsigned i = 0; i < k->parts; i++)
            key = c->key[i] < key ? c->key[i] : key;
        if (key == UINT64_MAX)
            return 0;
        int is_token = key != 0;
        *out = (first_token){.key = key};
        for (unsigned i = 0; i < k->parts; i++) {
            const ft_part *p = &k->w->ix->parts[i];
            ranges[i] = (ft_range){c->left[i].lo, c->left[i].lo};
            if (c->key[i] != key)
                continue;
            if (key) {
                out->id = ft_part_token(p, ft_part_position(p, c->left[i].lo) + depth);
                is_token = out->id != p->end;
            }
            ranges[i].hi = ft_part_next_key(p, c->left[i], depth, key);
            out->count += ft_part_live(p, ranges[i]);
            c->left[i].lo = ranges[i].hi;
            load_key(k, c, i, depth);
        }
        if (is_token && out->count)
            return 1;
    }
}

static void put_token(const walk *k, entry *path, unsigned depth, const first_token *t)
{
    path->keys[depth] = t->key;
    path->ngram.count = t->count;
    if (!k->reversed) {
        path->ngram.ids[depth] = t->id;
        return;
    }
    /* The search runs against reading order: what is found later stands earlier. */
    memmove(path->ngram.ids + 1, path->ngram.ids, depth * sizeof(*path->ngram.ids));
    path->ngram.ids[0] = t->id;
}

static void take_token(const walk *k, entry *path, unsigned depth)
{
    if (k->reversed)
        memmove(path->ngram.ids, path->ngram.ids + 1, depth * sizeof(*path->ngram.ids));
}

/* The n-grams that begin with the `depth` tokens of the path, whose ranges stand in row
 * depth - 1. Recursion is as deep as max_n. */
static void descend(walk *k, entry *path, unsigned depth, unsigned worker)
{
    ft_range *const own = k->ranges + ((size_t)worker * k->max_n + depth - 1) * k->parts;
    ft_range *const child = own + k->parts;
    cursor c = {.key = {0}};
    first_token t;
    cursor_begin(k, &c, own, depth);
    while (cursor_next(k, &c, depth, &t, child)) {
        if (!t.count)
            continue; /* removed documents alone */
        put_token(k, path, depth, &t);
        offer(k, depth + 1, path, worker);
        if (depth + 1 < k->max_n && is_worth_going_on(k, path, depth + 1, t.count, worker))
            descend(k, path, depth + 1, worker);
        take_token(k, path, depth);
    }
}

static void descend_task(void *context, size_t task, unsigned worker)
{
    walk *k = context;
    const first_token *t = &k->first[k->batch + task];
    entry *path = &k->paths[worker];
    ft_match m;
    put_token(k, path, 0, t);
    if (!is_worth_going_on(k, path, 1, t->count, worker))
        return;
    ft_index_find(k->w->ix, &t->id, 1, &m);
    memcpy(k->ranges + (size_t)worker * k->max_n * k->parts, m.part, k->parts * sizeof(*m.part));
    descend(k, path, 1, worker);
}

/* --- First tokens ---------------------------------------------------------------------------- */

static int compare_first(const void *a, const void *b)
{
    const first_token *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

static ft_code list_first_tokens(walk *k, ft_status *st)
{
    ft_range all[FT_INDEX_MAX_PARTS], child[FT_INDEX_MAX_PARTS];
    cursor c = {.key = {0}};
    first_token t;
    uint64_t sum = 0;
    for (unsigned i = 0; i < k->parts; i++)
        all[i] = (ft_range){0, k->w->ix->parts[i].n};
    cursor_begin(k, &c, all, 0);
    while (cursor_next(k, &c, 0, &t, child)) {
        if (!t.count)
            continue;
        ft_code rc = ft_array_grow((void **)&k->first, &k->first_capacity, k->first_count + 1, sizeof(*k->first), st);
        if (rc)
            return rc;
        k->first[k->first_count++] = t;
        sum += t.count;
        put_token(k, &k->paths[0], 0, &t);
        offer(k, 1, &k->paths[0], 0);
    }
    if (sum != k->w->out->tokens)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: the order of its suffixes does not hold its tokens; 'index verify' says more",
                       ft_index_get_info(k->w->ix).folder);
    if (k->first_count)
        qsort(k->first, k->first_count, sizeof(*k->first), compare_first);
    k->w->out->distinct_tokens = k->first_count;
    return FT_OK;
}

static ft_code walk_tree(walk *k, ft_status *st)
{
    enum { BATCH = 128 };
    uint64_t done = 0;
    ft_code rc = FT_OK;
    for (k->batch = 0; k->batch < k->first_count && !rc; k->batch += BATCH) {
        const size_t left = k->first_count - k->batch, tasks = left < BATCH ? left : BATCH;
        if (k->max_n > 1)
            ft_pool_run(k->w->pool, tasks, descend_task, k);
        for (size_t i = 0; i < tasks; i++)
            done += k->first[k->batch + i].count;
        rc = ft_stat_report(k->w, "n-grams", done, k->w->out->tokens, "tokens", st);
    }
    return rc;
}

/* --- All ---------------------------------------------------------------------------------------- */

static ft_code make_lists(walk *k, ft_status *st)
{
    const size_t threads = ft_pool_size(k->w->pool), lists = threads * k->max_n;
    k->lists = ft_alloc_array(lists, sizeof(*k->lists));
    k->ranges = ft_alloc_array(lists * (k->parts + 1), sizeof(*k->ranges));
    k->paths = ft_alloc_array(threads, sizeof(*k->paths));
    int whole = k->lists && k->ranges && k->paths;
    for (size_t i = 0; i < lists && whole; i++) {
        k->lists[i].entries = ft_alloc_array(k->top, sizeof(entry));
        whole = k->lists[i].entries != NULL;
    }
    return whole ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory to count n-grams");
}

static void release(walk *k)
{
    for (size_t i = 0; k->lists && i < ft_pool_size(k->w->pool) * k->max_n; i++)
        free(k->lists[i].entries);
    free(k->lists);
    free(k->ranges);
    free(k->paths);
    free(k->first);
}

/* All threads' lists into the first one's, which is then the answer. */
static ft_code answer(walk *k, ft_status *st)
{
    for (unsigned n = 1; n <= k->max_n; n++) {
        const list *l = &k->lists[n - 1];
        ft_stat_ngrams *out = &k->w->out->ngrams[n - 1];
        for (unsigned thread = 1; thread < ft_pool_size(k->w->pool); thread++) {
            const list *other = &k->lists[thread * k->max_n + n - 1];
            for (size_t i = 0; i < other->count; i++)
                offer(k, n, &other->entries[i], 0);
        }
        out->shown = l->count;
        out->top = ft_arena_array(k->w->arena, l->count, sizeof(*out->top));
        if (!out->top)
            return ft_fail(st, FT_ERR_MEM, "no memory for the commonest n-grams");
        for (size_t i = 0; i < l->count; i++)
            out->top[i] = l->entries[i].ngram;
        for (uint64_t d = 0; d < ft_index_get_info(k->w->ix).documents; d++)
            out->total += k->w->lengths[d] >= n ? k->w->lengths[d] - n + 1 : 0;
    }
    return FT_OK;
}

ft_code ft_stat_walk_ngrams(ft_stat_work *w, ft_status *st)
{
    const ft_index *ix = w->ix;
    walk k = {.w = w, .parts = ix->part_count, .max_n = w->max_n, .top = w->top};
    k.reversed = ix->part_count > 0 && ix->parts[0].reversed;
    ft_code rc = make_lists(&k, st);
    if (!rc)
        rc = list_first_tokens(&k, st);
    if (!rc)
        rc = walk_tree(&k, st);
    if (!rc)
        rc = answer(&k, st);
    release(&k);
    return rc;
}
