/* A counting sort by the first symbol; then, within each bucket, as many symbols as fit
 * in 64 bits make one key. Keys are gathered beside the positions and sorted; what is
 * still equal and has not ended is sorted by the next key. Each symbol carries one bit
 * more: whether the chunk ends with it. */
#include "index/ft_chunk_sort.h"

#include "base/ft_buffer.h"

#include <stdlib.h>
#include <string.h>

enum {
    GATHER = 1 << 18, /* chunks that are sorted with their keys beside them */
    FEW = 24,         /* sorted by insertion */
    MANY = 1024,      /* sorted by bytes */
    AHEAD = 40,
    REPORT = 1 << 19 /* chunks between two looks at the watch */
};

typedef struct record {
    uint64_t key;
    int32_t at;
} record;

typedef struct sorter {
    int32_t *order;
    const uint32_t *text;
    int32_t n;
    unsigned bits, per_key; /* of a symbol with its mark */
    record *scratch;        /* [2 * gather] */
    size_t gather;
} sorter;

/* --- Keys ---------------------------------------------------------------------------- */

/* The next per_key symbols from `at` on, first one highest; zeros behind the chunk's end.
 * A key's lowest bit or what follows the mark tells whether the chunk ends in it. */
static uint64_t key_at(const sorter *s, size_t at)
{
    const uint32_t *t = s->text + at;
    const unsigned bits = s->bits;
    if (s->per_key == 3 && at + 3 <= (size_t)s->n) {
        const uint32_t a = t[0], b = t[1], c = t[2];
        const uint64_t x = ((uint64_t)(a & ~FT_CHUNK_MARK) + 1) << 1 | a >> 31;
        uint64_t y = ((uint64_t)(b & ~FT_CHUNK_MARK) + 1) << 1 | b >> 31;
        uint64_t z = ((uint64_t)(c & ~FT_CHUNK_MARK) + 1) << 1 | c >> 31;
        y = a >> 31 ? 0 : y;
        z = (a | b) >> 31 ? 0 : z;
        return (x << bits | y) << bits | z;
    }
    uint64_t key = 0;
    unsigned i = 0;
    for (; i < s->per_key && at + i < (size_t)s->n; i++) {
        const uint32_t symbol = s->text[at + i];
        const uint64_t ends = symbol >> 31;
        key = key << s->bits | ((uint64_t)(symbol & ~FT_CHUNK_MARK) + 1) << 1 | ends;
        if (ends) {
            i++;
            break;
        }
    }
    return i < s->per_key ? key << (s->bits * (s->per_key - i)) : key;
}

/* The chunk ends within this key: a symbol with the mark, or nothing in the last place
 * (that is so for the text's last chunk, and no other is like it). */
static int key_ends(const sorter *s, uint64_t key)
{
    const uint64_t last = key & (((uint64_t)1 << s->bits) - 1);
    return last == 0 || (last & 1);
}

/* --- Records ------------------------------------------------------------------------- */

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

/* Merge sort from runs of 16: no worst case. */
static void sort_some(record *r, record *other, size_t n)
{
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

/* Byte by byte from the lowest, bytes that never differ left out. */
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

static void sort_records(record *r, record *other, size_t n, uint64_t differing)
{
    if (n <= FEW)
        sort_few(r, n);
    else if (n < MANY)
        sort_some(r, other, n);
    else
        sort_many(r, other, n, differing);
}

/* --- Ranges of `order` ----------------------------------------------------------------- */

static int32_t place(int32_t v) /* without the mark of equality */
{
    return v < 0 ? ~v : v;
}

static void sort_range(sorter *s, size_t lo, size_t hi, size_t depth);

/* Chunks of [lo, hi) that agree from here on: done, or sorted by what follows. */
static void settle(sorter *s, size_t lo, size_t hi)
{
    for (size_t r = lo + 1; r < hi; r++)
        s->order[r] = ~s->order[r];
}

/* Sorts [lo, hi) by the key at `depth`; equal ones that go on are left to the caller as
 * the largest such group, smaller ones are sorted here: the recursion is at most as deep
 * as the logarithm of the range. Returns the end of the group; *lo_out is its start. */
static size_t sort_gathered(sorter *s, size_t lo, size_t hi, size_t depth, size_t *lo_out)
{
    const size_t n = hi - lo;
    int32_t *order = s->order + lo;
    record *r = s->scratch;
    uint64_t differing = 0;
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            __builtin_prefetch(&s->text[(size_t)order[i + AHEAD] + depth]);
        r[i] = (record){key_at(s, (size_t)order[i] + depth), order[i]};
        differing |= r[i].key ^ r[0].key;
    }
    if (differing)
        sort_records(r, r + s->gather, n, differing);
    /* The scratch is used again below: what goes on is kept as a list in place, by marking
     * each later member of a group now. */
    for (size_t i = 0; i < n; i++)
        order[i] = i && r[i].key == r[i - 1].key ? ~r[i].at : r[i].at;
    size_t largest = 0, start = lo, end = lo;
    for (size_t from = 0; from < n;) {
        size_t to = from + 1;
        while (to < n && order[to] < 0)
            to++;
        if (to - from > 1 && !key_ends(s, key_at(s, (size_t)order[from] + depth))) {
            size_t again_from = lo + from, again_to = lo + to;
            for (size_t k = from + 1; k < to; k++)
                order[k] = place(order[k]);
            if (to - from > largest) { /* sort the one held back so far instead */
                const size_t held_from = start, held_to = end;
                largest = to - from;
                start = again_from;
                end = again_to;
                again_from = held_from;
                again_to = held_to;
            }
            if (again_to - again_from > 1)
                sort_range(s, again_from, again_to, depth + s->per_key);
        }
        from = to;
    }
    *lo_out = start;
    return end;
}

static uint64_t median_key(const sorter *s, size_t lo, size_t hi, size_t depth)
{
    enum { SAMPLES = 65 };
    record sample[SAMPLES];
    uint64_t state = lo * 2654435761u + hi;
    for (size_t i = 0; i < SAMPLES; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const size_t at = lo + (size_t)((state >> 20) % (hi - lo));
        sample[i].key = key_at(s, (size_t)s->order[at] + depth);
    }
    sort_few(sample, SAMPLES);
    return sample[SAMPLES / 2].key;
}

/* Splits [lo, hi) in place into keys below, at and above a median. */
static void split(const sorter *s, size_t lo, size_t hi, size_t depth, uint64_t pivot, size_t *below, size_t *above)
{
    size_t low = lo, at = lo, high = hi;
    while (at < high) {
        if (at + AHEAD < high)
            __builtin_prefetch(&s->text[(size_t)s->order[at + AHEAD] + depth]);
        const int32_t p = s->order[at];
        const uint64_t key = key_at(s, (size_t)p + depth);
        if (key < pivot) {
            s->order[at++] = s->order[low];
            s->order[low++] = p;
        } else if (key > pivot) {
            s->order[at] = s->order[--high];
            s->order[high] = p;
        } else {
            at++;
        }
    }
    *below = low;
    *above = high;
}

/* [lo, hi) agree before `depth` and have not ended there. */
static void sort_range(sorter *s, size_t lo, size_t hi, size_t depth)
{
    while (hi - lo > 1) {
        if (hi - lo <= s->gather) {
            hi = sort_gathered(s, lo, hi, depth, &lo);
            depth += s->per_key;
            continue;
        }
        size_t below, above;
        const uint64_t pivot = median_key(s, lo, hi, depth);
        split(s, lo, hi, depth, pivot, &below, &above);
        /* Three parts: the largest goes on in this loop. */
        const size_t sizes[3] = {below - lo, above - below, hi - above};
        const int largest = sizes[0] >= sizes[1] && sizes[0] >= sizes[2] ? 0 : sizes[1] >= sizes[2] ? 1 : 2;
        const int ends = key_ends(s, pivot);
        if (ends)
            settle(s, below, above);
        if (largest != 0)
            sort_range(s, lo, below, depth);
        if (largest != 1 && !ends)
            sort_range(s, below, above, depth + s->per_key);
        if (largest != 2)
            sort_range(s, above, hi, depth);
        if (largest == 0) {
            hi = below;
        } else if (largest == 2) {
            lo = above;
        } else {
            lo = below;
            hi = ends ? below : above;
            depth += s->per_key;
        }
    }
}

/* --- All ------------------------------------------------------------------------------- */

/* The marked positions, by their first symbol; bucket[c] ends c's. */
static void sort_by_first(const sorter *s, int32_t *bucket, size_t alphabet)
{
    memset(bucket, 0, alphabet * sizeof(*bucket));
    for (int32_t i = 0; i < s->n; i++)
        if (s->text[i] & FT_CHUNK_MARK)
            bucket[s->text[i] & ~FT_CHUNK_MARK]++;
    int32_t sum = 0;
    for (size_t c = 0; c < alphabet; c++) {
        const int32_t here = bucket[c];
        bucket[c] = sum;
        sum += here;
    }
    for (int32_t i = 0; i < s->n; i++)
        if (s->text[i] & FT_CHUNK_MARK)
            s->order[bucket[s->text[i] & ~FT_CHUNK_MARK]++] = i;
}

ft_code ft_chunk_sort(int32_t *order, const uint32_t *text, int32_t n, int32_t *bucket, size_t alphabet,
                      const ft_chunk_watch *watch, ft_status *st)
{
    sorter s = {.order = order, .text = text, .n = n, .gather = (size_t)n < GATHER ? (size_t)n : GATHER};
    s.bits = 64 - (unsigned)__builtin_clzll(alphabet) + 1; /* 0 is "behind the end" */
    s.per_key = 64 / s.bits;
    s.scratch = malloc(2 * s.gather * sizeof(*s.scratch));
    if (!s.scratch)
        return ft_fail(st, FT_ERR_MEM, "suffix sort: out of memory");
    sort_by_first(&s, bucket, alphabet);
    ft_code rc = FT_OK;
    size_t lo = 0, told = 0;
    for (size_t c = 0; c < alphabet && !rc; c++) {
        const size_t hi = (size_t)bucket[c];
        sort_range(&s, lo, hi, 1);
        lo = hi;
        if (watch && hi - told >= REPORT) {
            told = hi;
            const double all = bucket[alphabet - 1];
            if (watch->watch->report(watch->watch->context, watch->part * (double)hi / all))
                rc = ft_fail(st, FT_ERR_CANCELLED, "suffix sort: stopped");
        }
    }
    free(s.scratch);
    return rc;
}
