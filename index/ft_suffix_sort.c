/* SA-IS: suffix array by induced sorting.
 *
 * A suffix is of type S when it is below the one that follows it in the text, else of
 * type L; an S behind an L is an LMS suffix ("leftmost S"). The order of the LMS
 * suffixes gives that of all L suffixes in one pass from left to right, and these that
 * of all S suffixes in one from right to left: each entry puts its predecessor at the
 * edge of the bucket of its first symbol. The LMS suffixes, fewer than half of all, are
 * sorted by naming the chunks between them and recursion on the string of names. The
 * paper sorts the chunks by the same two passes; in natural text they are three or four
 * symbols long, and ft_chunk_sort needs a third of the time (bench/index).
 *
 * What a slot of `order` says during the passes:
 *    v > 0   suffix v stands here, and its predecessor v - 1 is still to be put by it
 *   ~v < 0   suffix v stands here; nothing is to be put
 *    0       empty (suffix 0 has no predecessor, so it is always ~0)
 * A pass turns each slot that it reads into what the next pass wants.
 *
 * The passes read the text at random places, and nearly all their time is waiting: so
 * they ask for the text some slots ahead, and for the bucket half as far. */
#include "index/ft_suffix_sort.h"

#include "base/ft_buffer.h"
#include "index/ft_chunk_sort.h"

#include <stdlib.h>
#include <string.h>

enum { AHEAD = 96, SLICE = 1 << 21 /* slots between two looks at the watch */ };

/* Where each part of the work ends, of 1; measured on natural text. */
static const double CHUNKS = 0.40, NAMES = 0.60, LS = 0.80;

typedef struct sorter {
    uint32_t *text;
    int32_t *order;
    int32_t n;
    size_t alphabet;
    int32_t *starts;            /* [alphabet + 1] where each bucket begins */
    int32_t *bucket;            /* [alphabet] next free slot of each bucket */
    const ft_sort_watch *watch; /* NULL in the recursion */
} sorter;

static int stopped(const ft_sort_watch *watch, double done)
{
    return watch && watch->report(watch->context, done);
}

/* --- Buckets --------------------------------------------------------------------- */

static void count_symbols(const sorter *s)
{
    memset(s->starts, 0, (s->alphabet + 1) * sizeof(*s->starts));
    for (int32_t i = 0; i < s->n; i++)
        s->starts[s->text[i] + 1]++;
    for (size_t c = 0; c < s->alphabet; c++)
        s->starts[c + 1] += s->starts[c];
}

static void set_heads(const sorter *s)
{
    memcpy(s->bucket, s->starts, s->alphabet * sizeof(*s->bucket));
}

static void set_tails(const sorter *s)
{
    memcpy(s->bucket, s->starts + 1, s->alphabet * sizeof(*s->bucket));
}

/* --- The two passes ---------------------------------------------------------------- */

static inline void look_ahead(const sorter *s, int32_t far, int32_t middle, int32_t near)
{
    if (far > 0)
        __builtin_prefetch(&s->text[far - 1]);
    if (middle > 0)
        __builtin_prefetch(&s->bucket[s->text[middle - 1]], 1);
    if (near > 0)
        __builtin_prefetch(&s->order[s->bucket[s->text[near - 1]]], 1);
}

/* Puts suffix p, of type L, at the head of its bucket. */
static inline void put_l(const sorter *s, int32_t p)
{
    const uint32_t c = s->text[p];
    const int goes_on = p > 0 && s->text[p - 1] >= c; /* its predecessor is an L too */
    s->order[s->bucket[c]++] = goes_on ? p : ~p;
}

static void induce_l_slice(const sorter *s, int32_t from, int32_t to)
{
    int32_t *order = s->order;
    for (int32_t i = from; i < to; i++) {
        if (i < s->n - 3 * AHEAD)
            look_ahead(s, order[i + 3 * AHEAD], order[i + 2 * AHEAD], order[i + AHEAD]);
        const int32_t v = order[i];
        if (v > 0) {
            order[i] = ~v;
            put_l(s, v - 1);
        } else if (v < -1) {
            order[i] = ~v; /* an L behind an S: that S is for the other pass */
        }
    }
}

/* 0, or 1 when it was stopped. */
static int induce_l(const sorter *s)
{
    put_l(s, s->n - 1); /* what follows the text is below all symbols */
    for (int32_t from = 0; from < s->n;) {
        const int32_t to = s->n - from < SLICE ? s->n : from + SLICE;
        induce_l_slice(s, from, to);
        if (stopped(s->watch, NAMES + (LS - NAMES) * to / s->n))
            return 1;
        from = to;
    }
    return 0;
}

/* Puts suffix p, of type S, at the tail of its bucket. */
static inline void put_s(const sorter *s, int32_t p)
{
    const uint32_t c = s->text[p];
    const int goes_on = p > 0 && s->text[p - 1] <= c; /* its predecessor is an S too */
    s->order[--s->bucket[c]] = goes_on ? p : ~p;
}

static void induce_s_slice(const sorter *s, int32_t from, int32_t to)
{
    int32_t *order = s->order;
    for (int32_t i = to - 1; i >= from; i--) {
        if (i >= 3 * AHEAD)
            look_ahead(s, order[i - 3 * AHEAD], order[i - 2 * AHEAD], order[i - AHEAD]);
        const int32_t v = order[i];
        if (v > 0)
            put_s(s, v - 1);
        else if (v < 0)
            order[i] = ~v;
    }
}

static int induce_s(const sorter *s)
{
    for (int32_t to = s->n; to > 0;) {
        const int32_t from = to < SLICE ? 0 : to - SLICE;
        induce_s_slice(s, from, to);
        if (stopped(s->watch, LS + (1 - LS) * (s->n - from) / s->n))
            return 1;
        to = from;
    }
    return 0;
}

/* --- LMS suffixes --------------------------------------------------------------------- */

/* Calls `put` for each LMS position, from the last to the first. */
static inline int32_t each_lms(const sorter *s, void (*put)(void *, int32_t), void *context)
{
    const uint32_t *t = s->text;
    int32_t count = 0;
    int is_s = 0; /* the last suffix is an L */
    for (int32_t i = s->n - 2; i >= 0; i--) {
        const int s_here = t[i] < t[i + 1] || (t[i] == t[i + 1] && is_s);
        if (is_s && !s_here) {
            put(context, i + 1);
            count++;
        }
        is_s = s_here;
    }
    return count;
}

static void mark(void *context, int32_t p)
{
    ((uint32_t *)context)[p] |= FT_CHUNK_MARK;
}

typedef struct list {
    int32_t *end;
} list;

static void put_in_list(void *context, int32_t p)
{
    *--((list *)context)->end = p;
}

/* Sorts the chunks and names them, in the order of the text, at the end of `order`;
 * returns how many names there are. The text is marked meanwhile. */
static ft_code name_chunks(const sorter *s, int32_t *m, int32_t *names, ft_status *st)
{
    int32_t *order = s->order;
    *m = each_lms(s, mark, s->text);
    *names = 0;
    const ft_chunk_watch within = {s->watch, CHUNKS};
    ft_code rc = ft_chunk_sort(order, s->text, s->n, s->bucket, s->alphabet, s->watch ? &within : NULL, st);
    for (int32_t i = 0; i < s->n; i++)
        s->text[i] &= ~FT_CHUNK_MARK;
    if (rc)
        return rc;
    int32_t *half = order + *m; /* [n / 2]: LMS positions are two apart at least */
    memset(half, 0, (size_t)(s->n - *m) * sizeof(*half));
    for (int32_t i = 0; i < *m; i++) {
        if (i < *m - AHEAD) {
            const int32_t far = order[i + AHEAD];
            __builtin_prefetch(&half[(far < 0 ? ~far : far) >> 1], 1);
        }
        const int32_t v = order[i];
        *names += v >= 0;
        half[(v < 0 ? ~v : v) >> 1] = *names; /* from 1: 0 is "none here" */
    }
    return FT_OK;
}

static ft_code sort_string(int32_t *order, uint32_t *text, int32_t n, size_t alphabet, const ft_sort_watch *watch,
                           ft_status *st);

/* The names in text order are a string of their own, at the end of `order`. */
static ft_code sort_names(const sorter *s, int32_t m, int32_t names, ft_status *st)
{
    int32_t *order = s->order, *reduced = order + s->n - m;
    for (int32_t i = s->n / 2 + m, to = s->n; i >= m; i--)
        if (i < s->n && order[i] > 0)
            order[--to] = order[i] - 1;
    ft_code rc = FT_OK;
    if (names < m)
        rc = sort_string(order, (uint32_t *)reduced, m, (size_t)names, NULL, st);
    else
        for (int32_t i = 0; i < m; i++)
            order[reduced[i]] = i;
    if (rc)
        return rc;
    list l = {order + s->n};
    (void)each_lms(s, put_in_list, &l); /* the names are not needed any more: now the positions */
    for (int32_t i = 0; i < m; i++) {
        if (i < m - AHEAD)
            __builtin_prefetch(&reduced[order[i + AHEAD]]);
        order[i] = reduced[order[i]];
    }
    return FT_OK;
}

/* The sorted LMS suffixes of order[0..m), to the tails of their buckets. */
static void spread_lms(const sorter *s, int32_t m)
{
    int32_t *order = s->order;
    memset(order + m, 0, (size_t)(s->n - m) * sizeof(*order));
    for (int32_t i = m - 1; i >= 0; i--) {
        if (i >= AHEAD)
            __builtin_prefetch(&s->text[order[i - AHEAD]]);
        const int32_t p = order[i];
        order[i] = 0;
        order[--s->bucket[s->text[p]]] = p;
    }
}

static ft_code sort_level(const sorter *s, ft_status *st)
{
    int32_t m, names;
    ft_code rc = name_chunks(s, &m, &names, st);
    if (!rc)
        rc = sort_names(s, m, names, st);
    if (rc)
        return rc;
    set_tails(s);
    spread_lms(s, m);
    set_heads(s);
    int ended = stopped(s->watch, NAMES) || induce_l(s);
    set_tails(s);
    ended = ended || induce_s(s);
    return ended ? ft_fail(st, FT_ERR_CANCELLED, "suffix sort: stopped") : FT_OK;
}

static ft_code sort_string(int32_t *order, uint32_t *text, int32_t n, size_t alphabet, const ft_sort_watch *watch,
                           ft_status *st)
{
    sorter s = {text,
                order,
                n,
                alphabet,
                ft_alloc_large((alphabet + 1) * sizeof(*s.starts)),
                ft_alloc_large((alphabet + 1) * sizeof(*s.bucket)),
                watch};
    ft_code rc;
    if (s.starts && s.bucket) {
        count_symbols(&s);
        rc = sort_level(&s, st);
    } else {
        rc = ft_fail(st, FT_ERR_MEM, "suffix sort: out of memory");
    }
    free(s.starts);
    free(s.bucket);
    return rc;
}

ft_code ft_suffix_sort(int32_t *order, uint32_t *text, size_t n, size_t alphabet, const ft_sort_watch *watch,
                       ft_status *st)
{
    if (n > FT_SUFFIX_SORT_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "suffix sort: %zu symbols, at most %d at once", n, FT_SUFFIX_SORT_MAX);
    return n ? sort_string(order, text, (int32_t)n, alphabet, watch, st) : FT_OK;
}
