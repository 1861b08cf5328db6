/* Sorting all suffixes of a token array.
 *
 * 1. A counting sort by the first token; its buckets are the tasks of step 2.
 * 2. Within a bucket, as many tokens as fit in 64 bits make one key (three of a
 *    vocabulary of 100,000). Keys are gathered, sorted, and what is still equal is
 *    sorted by the next key, LEVELS deep. English is nearly done by then.
 * 3. What repeats for longer is finished by prefix doubling (Larsson and Sadakane,
 *    "Faster suffix sorting", 2007): when all groups share h tokens, the ranks of
 *    the suffixes h further on order them by 2h. Each round reads the ranks of the
 *    round before and writes new ones afterwards, so threads never race.
 *
 * An end-of-document token ends the suffix, and no two of them are alike: equal
 * suffixes stand by position. So the result is one permutation, whatever the
 * number of threads.
 *
 * Memory  `order` 4 n (the caller's), two bitmaps n/4 bytes, and 4 n for the ranks
 *         when step 3 is needed; 8 MiB of scratch a thread. */
#include "index/ft_suffix_sort.h"

#include "base/ft_buffer.h"
#include "base/ft_threads.h"
#include "index/ft_index_build.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    GATHER = 1 << 18,   /* suffixes that one thread sorts with their keys beside them */
    LEVELS = 10,        /* keys compared before prefix doubling takes over */
    CHUNK = 1 << 16,    /* ranks that are one task; a multiple of 64 */
    TABLE_MAX = 1 << 22 /* vocabularies above this are not sorted by counting */
};

typedef struct record {
    uint64_t key;
    uint32_t pos;
} record;

typedef struct sorter {
    uint32_t *order;
    const uint32_t *tokens;
    size_t n;
    uint32_t end, max; /* largest token that is not `end` */
    unsigned bits, per_key;
    int doubling;
    size_t h; /* doubling: tokens that every group shares */
    uint32_t *rank;
    _Atomic uint64_t *starts; /* bit r: rank r begins a group of suffixes not told apart yet */
    _Atomic uint64_t *fresh;  /* groups begun in this round of doubling */
    record **scratch;         /* for each worker 2 * gather records */
    size_t gather;            /* most suffixes that are gathered */
    size_t *bucket;           /* [max + 3] bounds of the buckets */
    size_t *histogram;        /* for each chunk of the counting sort [max + 2] */
    size_t stripes;
    atomic_size_t open; /* suffixes in groups of two or more */
    atomic_size_t done;
    atomic_int stop;
    const ft_progress *progress;
    struct timespec reported;
} sorter;

static void mark(_Atomic uint64_t *bits, size_t r)
{
    atomic_fetch_or_explicit(&bits[r >> 6], (uint64_t)1 << (r & 63), memory_order_relaxed);
}

static uint64_t load(const _Atomic uint64_t *bits, size_t word)
{
    return atomic_load_explicit(&((_Atomic uint64_t *)(uintptr_t)bits)[word], memory_order_relaxed);
}

/* First rank >= r whose bit is set, or `limit`. */
static size_t next_mark(const _Atomic uint64_t *bits, size_t r, size_t limit)
{
    while (r < limit) {
        const uint64_t word = load(bits, r >> 6) >> (r & 63);
        if (word) {
            r += (size_t)__builtin_ctzll(word);
            return r < limit ? r : limit;
        }
        r = (r | 63) + 1;
    }
    return limit;
}

/* First rank >= r whose bit is clear, or `limit`. */
static size_t next_gap(const _Atomic uint64_t *bits, size_t r, size_t limit)
{
    while (r < limit) {
        const uint64_t word = ~load(bits, r >> 6) >> (r & 63);
        if (word) {
            r += (size_t)__builtin_ctzll(word);
            return r < limit ? r : limit;
        }
        r = (r | 63) + 1;
    }
    return limit;
}

/* The next per_key tokens as one number, first token highest; `end` is 0 and so
 * is all that follows it. The array ends with `end`, so no read leaves it. */
static uint64_t token_key(const sorter *s, size_t at)
{
    uint64_t key = 0;
    for (unsigned i = 0; i < s->per_key; i++) {
        const uint32_t t = s->tokens[at + i];
        if (t == s->end)
            return i ? key << (s->bits * (s->per_key - i)) : 0; /* a shift by 64 is not defined */
        key = key << s->bits | ((uint64_t)t + 1);
    }
    return key;
}

static uint64_t key_of(const sorter *s, uint32_t pos, size_t depth)
{
    return s->doubling ? s->rank[pos + s->h] : token_key(s, pos + depth);
}

/* Suffixes with this key have ended: they are equal, and only position orders them. */
static int key_is_last(const sorter *s, uint64_t key)
{
    return !s->doubling && !(key & (((uint64_t)1 << s->bits) - 1));
}

/* --- Sorting records ---------------------------------------------------------- */

static void sort_few(record *r, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const record v = r[i];
        size_t j = i;
        for (; j > 0 && r[j - 1].key > v.key; j--)
            r[j] = r[j - 1];
        r[j] = v;
    }
}

/* Byte by byte from the lowest, bytes that never differ left out. The result is in
 * `r` again. */
static void sort_many(record *r, record *other, size_t n, uint64_t differing)
{
    record *from = r, *to = other;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!(differing >> shift & 255))
            continue;
        size_t at[256] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++)
            at[from[i].key >> shift & 255]++;
        for (size_t b = 0; b < 256; b++) {
            const size_t here = at[b];
            at[b] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++)
            to[at[from[i].key >> shift & 255]++] = from[i];
        record *t = from;
        from = to;
        to = t;
    }
    if (from != r)
        memcpy(r, from, n * sizeof(*r));
}

static void sort_some(record *r, record *other, size_t n)
{
    /* Merge sort from runs of 16: no worst case, and stable. */
    for (size_t i = 0; i < n; i += 16)
        sort_few(r + i, n - i < 16 ? n - i : 16);
    record *from = r, *to = other;
    for (size_t run = 16; run < n; run *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * run) {
            const size_t mid = lo + run < n ? lo + run : n, hi = lo + 2 * run < n ? lo + 2 * run : n;
            size_t a = lo, b = mid;
            for (size_t k = lo; k < hi; k++)
                to[k] = a < mid && (b == hi || from[a].key <= from[b].key) ? from[a++] : from[b++];
        }
        record *t = from;
        from = to;
        to = t;
    }
    if (from != r)
        memcpy(r, from, n * sizeof(*r));
}

static void sort_records(record *r, record *other, size_t n, uint64_t differing)
{
    if (n <= 24)
        sort_few(r, n);
    else if (n < 1024)
        sort_some(r, other, n);
    else
        sort_many(r, other, n, differing);
}

static int compare_positions(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* --- Sorting ranges of `order` -------------------------------------------------- */

static void sort_range(sorter *s, unsigned worker, size_t lo, size_t hi, size_t depth);

/* Equal suffixes, in the order of their positions: each is a group of its own. */
static void settle(sorter *s, size_t lo, size_t hi)
{
    qsort(s->order + lo, hi - lo, sizeof(*s->order), compare_positions);
    for (size_t r = lo; r < hi; r++)
        mark(s->starts, r);
}

/* The suffixes of [lo, hi) have this same key; go on behind it. */
static void descend(sorter *s, unsigned worker, size_t lo, size_t hi, size_t depth, uint64_t key)
{
    if (hi - lo < 2 || s->doubling)
        return;
    if (key_is_last(s, key))
        settle(s, lo, hi);
    else if (depth + s->per_key < s->h)
        sort_range(s, worker, lo, hi, depth + s->per_key);
}

static void sort_gathered(sorter *s, unsigned worker, size_t lo, size_t hi, size_t depth)
{
    const size_t n = hi - lo;
    uint32_t *order = s->order + lo;
    record *r = s->scratch[worker];
    uint64_t differing = 0;
    for (size_t i = 0; i < n; i++) {
        r[i] = (record){key_of(s, order[i], depth), order[i]};
        differing |= r[i].key ^ r[0].key;
    }
    _Atomic uint64_t *marks = s->doubling ? s->fresh : s->starts;
    if (differing) {
        sort_records(r, r + s->gather, n, differing);
        for (size_t i = 0; i < n; i++) {
            order[i] = r[i].pos;
            if (i && r[i].key != r[i - 1].key)
                mark(marks, lo + i);
        }
    }
    if (s->doubling)
        return;
    /* The scratch is used again below: find the groups by their marks. */
    for (size_t from = lo; from < hi;) {
        from = next_gap(s->starts, from + 1, hi) - 1; /* skip suffixes that stand alone */
        const size_t to = next_mark(s->starts, from + 1, hi);
        if (to - from > 1)
            descend(s, worker, from, to, depth, key_of(s, s->order[from], depth));
        from = to;
    }
}

static uint64_t median_key(const sorter *s, size_t lo, size_t hi, size_t depth)
{
    enum { SAMPLES = 65 };
    record sample[SAMPLES];
    uint64_t state = lo * 2654435761u + hi;
    for (size_t i = 0; i < SAMPLES; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sample[i].key = key_of(s, s->order[lo + (size_t)((state >> 20) % (hi - lo))], depth);
    }
    sort_few(sample, SAMPLES);
    return sample[SAMPLES / 2].key;
}

/* Splits [lo, hi) in place into keys below, at and above a median until a part can be gathered. */
static void sort_range(sorter *s, unsigned worker, size_t lo, size_t hi, size_t depth)
{
    while (hi - lo > s->gather) {
        const uint64_t pivot = median_key(s, lo, hi, depth);
        size_t below = lo, at = lo, above = hi;
        while (at < above) {
            const uint32_t pos = s->order[at];
            const uint64_t key = key_of(s, pos, depth);
            if (key < pivot) {
                s->order[at++] = s->order[below];
                s->order[below++] = pos;
            } else if (key > pivot) {
                s->order[at] = s->order[--above];
                s->order[above] = pos;
            } else {
                at++;
            }
        }
        _Atomic uint64_t *marks = s->doubling ? s->fresh : s->starts;
        if (below > lo)
            mark(marks, below);
        if (above < hi)
            mark(marks, above);
        descend(s, worker, below, above, depth, pivot);
        if (below - lo < hi - above) {
            sort_range(s, worker, lo, below, depth);
            lo = above;
        } else {
            sort_range(s, worker, above, hi, depth);
            hi = below;
        }
    }
    if (hi - lo > 1)
        sort_gathered(s, worker, lo, hi, depth);
}

/* --- Steps 1 and 2 --------------------------------------------------------------- */

/* The caller's thread is worker 0: it alone may report. */
static int stopped(sorter *s, unsigned worker, size_t finished)
{
    const size_t done = atomic_fetch_add_explicit(&s->done, finished, memory_order_relaxed) + finished;
    if (worker == 0 && s->progress) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        const int64_t ms = (now.tv_sec - s->reported.tv_sec) * 1000 + (now.tv_nsec - s->reported.tv_nsec) / 1000000;
        if (ms >= 100) {
            s->reported = now;
            if (ft_progress_report(s->progress, "sort", done < s->n ? done : s->n, s->n, "tokens"))
                atomic_store(&s->stop, 1);
        }
    }
    return atomic_load_explicit(&s->stop, memory_order_relaxed);
}

static size_t slot_of(const sorter *s, uint32_t token)
{
    return token == s->end ? 0 : (size_t)token + 1;
}

static void stripe(const sorter *s, size_t task, size_t *from, size_t *to)
{
    *from = s->n / s->stripes * task;
    *to = task + 1 == s->stripes ? s->n : s->n / s->stripes * (task + 1);
}

static void count_stripe(void *context, size_t task, unsigned worker)
{
    (void)worker;
    sorter *s = context;
    size_t from, to, *count = s->histogram + task * ((size_t)s->max + 2);
    stripe(s, task, &from, &to);
    for (size_t i = from; i < to; i++)
        count[slot_of(s, s->tokens[i])]++;
}

static void scatter_stripe(void *context, size_t task, unsigned worker)
{
    (void)worker;
    sorter *s = context;
    size_t from, to, *at = s->histogram + task * ((size_t)s->max + 2);
    stripe(s, task, &from, &to);
    for (size_t i = from; i < to; i++)
        s->order[at[slot_of(s, s->tokens[i])]++] = (uint32_t)i;
}

static void sort_bucket(void *context, size_t task, unsigned worker)
{
    sorter *s = context;
    const size_t lo = s->bucket[task + 1], hi = s->bucket[task + 2]; /* bucket 0 holds the ends: done */
    if (lo == hi || stopped(s, worker, 0))
        return;
    mark(s->starts, lo);
    if (hi - lo > 1)
        sort_range(s, worker, lo, hi, 1);
    (void)stopped(s, worker, hi - lo);
}

static void sort_whole(void *context, size_t task, unsigned worker)
{
    (void)task;
    sorter *s = context;
    mark(s->starts, 0);
    sort_range(s, worker, 0, s->n, 0);
}

static ft_code sort_by_keys(sorter *s, ft_pool *pool, ft_status *st)
{
    for (unsigned i = 0; i < ft_pool_size(pool); i++)
        if (!(s->scratch[i] = ft_alloc_array(2 * s->gather, sizeof(record))))
            return ft_fail(st, FT_ERR_MEM, "suffix sort: out of memory");
    if (s->max >= TABLE_MAX) {
        for (size_t i = 0; i < s->n; i++)
            s->order[i] = (uint32_t)i;
        sort_whole(s, 0, 0);
        return FT_OK;
    }
    const size_t slots = (size_t)s->max + 2;
    s->stripes = ft_pool_size(pool);
    s->histogram = ft_alloc_array(s->stripes * slots, sizeof(*s->histogram));
    s->bucket = ft_alloc_array(slots + 1, sizeof(*s->bucket));
    if (!s->histogram || !s->bucket)
        return ft_fail(st, FT_ERR_MEM, "suffix sort: out of memory");
    ft_pool_run(pool, s->stripes, count_stripe, s);
    size_t sum = 0;
    for (size_t t = 0; t < slots; t++) {
        s->bucket[t] = sum;
        for (size_t i = 0; i < s->stripes; i++) {
            const size_t here = s->histogram[i * slots + t];
            s->histogram[i * slots + t] = sum;
            sum += here;
        }
    }
    s->bucket[slots] = sum;
    ft_pool_run(pool, s->stripes, scatter_stripe, s);
    for (size_t r = 0; r < s->bucket[1]; r++)
        mark(s->starts, r);
    ft_pool_run(pool, slots - 1, sort_bucket, s);
    return FT_OK;
}

/* --- Step 3 ------------------------------------------------------------------------ */

static void rank_chunk(void *context, size_t task, unsigned worker)
{
    (void)worker;
    sorter *s = context;
    const size_t from = task * CHUNK, to = from + CHUNK < s->n ? from + CHUNK : s->n;
    size_t start = from, open = 0;
    while (!(load(s->starts, start >> 6) >> (start & 63) & 1))
        start--; /* the group may begin in an earlier chunk; rank 0 is always marked */
    for (size_t r = from; r < to; r++) {
        if (load(s->starts, r >> 6) >> (r & 63) & 1)
            start = r;
        else
            open++;
        s->rank[s->order[r]] = (uint32_t)start;
    }
    atomic_fetch_add(&s->open, open);
}

/* Calls one of the two below for each group of two or more that begins in the chunk. */
static void each_group(sorter *s, size_t task, unsigned worker, void (*fn)(sorter *, unsigned, size_t, size_t))
{
    const size_t from = task * CHUNK, to = from + CHUNK < s->n ? from + CHUNK : s->n;
    for (size_t lo = next_mark(s->starts, from, to); lo < to;) {
        lo = next_gap(s->starts, lo + 1, s->n) - 1;
        if (lo >= to)
            return;
        const size_t hi = next_mark(s->starts, lo + 1, s->n);
        if (hi - lo > 1)
            fn(s, worker, lo, hi);
        lo = hi;
    }
}

static void sort_group(sorter *s, unsigned worker, size_t lo, size_t hi)
{
    if (!atomic_load_explicit(&s->stop, memory_order_relaxed))
        sort_range(s, worker, lo, hi, 0);
}

static void rerank_group(sorter *s, unsigned worker, size_t lo, size_t hi)
{
    (void)worker;
    size_t open = 0, start = lo;
    for (size_t r = lo + 1; r < hi; r++) {
        if (load(s->fresh, r >> 6) >> (r & 63) & 1)
            start = r;
        else
            open++;
        s->rank[s->order[r]] = (uint32_t)start;
    }
    atomic_fetch_add(&s->open, open);
}

static void sort_chunk(void *context, size_t task, unsigned worker)
{
    sorter *s = context;
    if (!stopped(s, worker, 0))
        each_group(s, task, worker, sort_group);
}

static void rerank_chunk(void *context, size_t task, unsigned worker)
{
    each_group(context, task, worker, rerank_group);
}

static ft_code double_prefixes(sorter *s, ft_pool *pool, ft_status *st)
{
    const size_t chunks = (s->n + CHUNK - 1) / CHUNK, words = s->n / 64 + 1;
    s->rank = ft_alloc_array(s->n, sizeof(*s->rank));
    s->fresh = ft_alloc_array(words, sizeof(*s->fresh));
    if (!s->rank || !s->fresh)
        return ft_fail(st, FT_ERR_MEM, "suffix sort: out of memory");
    ft_pool_run(pool, chunks, rank_chunk, s);
    s->doubling = 1;
    while (atomic_load(&s->open) && !atomic_load(&s->stop)) {
        ft_pool_run(pool, chunks, sort_chunk, s);
        if (atomic_load(&s->stop))
            break;
        atomic_store(&s->open, 0);
        ft_pool_run(pool, chunks, rerank_chunk, s);
        for (size_t w = 0; w < words; w++) {
            s->starts[w] |= s->fresh[w];
            s->fresh[w] = 0;
        }
        s->h *= 2;
    }
    return FT_OK;
}

static int any_group(const sorter *s)
{
    return next_gap(s->starts, 0, s->n) < s->n;
}

ft_code ft_suffix_sort_with(uint32_t *order, const uint32_t *tokens, size_t n, uint32_t end, ft_pool *pool,
                            const ft_progress *progress, ft_status *st)
{
    if (n == 0)
        return FT_OK;
    if (n >= UINT32_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "suffix sort: %zu tokens are too many for one segment", n);
    if (tokens[n - 1] != end)
        return ft_fail(st, FT_ERR_ARG, "suffix sort: the last token must end a document");
    sorter s = {.order = order, .tokens = tokens, .n = n, .end = end, .progress = progress};
    s.gather = n < GATHER ? n : GATHER;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] != end && tokens[i] > s.max)
            s.max = tokens[i];
    s.bits = 64 - (unsigned)__builtin_clzll((uint64_t)s.max + 1);
    s.per_key = 64 / s.bits < 8 ? 64 / s.bits : 8;
    ft_code rc = FT_OK;
    s.starts = ft_alloc_array(n / 64 + 1, sizeof(*s.starts));
    s.scratch = ft_alloc_array(ft_pool_size(pool), sizeof(*s.scratch));
    if (!s.starts || !s.scratch) {
        rc = ft_fail(st, FT_ERR_MEM, "suffix sort: out of memory");
        goto done;
    }
    /* Depths run 1, 1 + per_key, … below h (0, per_key, … for the whole range): what
     * is left shares at least h tokens either way. */
    s.h = (size_t)LEVELS * s.per_key;
    rc = sort_by_keys(&s, pool, st);
    if (!rc && !atomic_load(&s.stop) && any_group(&s))
        rc = double_prefixes(&s, pool, st);
    if (!rc && atomic_load(&s.stop))
        rc = ft_fail(st, FT_ERR_CANCELLED, "suffix sort: stopped");
done:
    for (unsigned i = 0; s.scratch && i < ft_pool_size(pool); i++)
        free(s.scratch[i]);
    free(s.scratch);
    free((void *)s.starts);
    free((void *)s.fresh);
    free(s.rank);
    free(s.bucket);
    free(s.histogram);
    return rc;
}

ft_code ft_suffix_sort(uint32_t *order, const uint32_t *tokens, size_t n, uint32_t end, ft_pool *pool, ft_status *st)
{
    return ft_suffix_sort_with(order, tokens, n, end, pool, NULL, st);
}
