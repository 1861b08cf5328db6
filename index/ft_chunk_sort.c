/* A counting sort by the first symbol, which goes through the text in order and takes along the next symbols, as
 * many as fit into 64 bits above the position: such a record is sorted as a number. What is still equal and has not
 * ended is sorted by the symbols behind, which have to be gathered from all over the text. Each symbol carries one bit
 * more: whether the chunk ends with it. */
#include "index/ft_chunk_sort.h"

#include "base/ft_buffer.h"

#include <stdlib.h>
#include <string.h>

enum {
    GATHER = 1 << 19, /* records that are sorted at once */
    FEW = 24,         /* sorted by insertion */
    MANY = 1024,      /* sorted by bytes */
    AHEAD = 40,
    REPORT = 1 << 19 /* chunks between two looks at the watch */
};

typedef struct sorter {
    int32_t *order;
    const uint32_t *text;
    int32_t n;
    unsigned bits, per_key; /* of a symbol with its mark; symbols of a key */
    unsigned position_bits; /* of a record, below the key */
    uint64_t *scratch;      /* [2 * gather] */
    size_t gather;
} sorter;

/* --- Keys ---------------------------------------------------------------------------- */

static inline uint64_t coded(uint32_t symbol)
{
    return ((uint64_t)(symbol & ~FT_CHUNK_MARK) + 1) << 1 | symbol >> 31;
}

/* The next per_key symbols from `at` on, first one highest; zeros behind the chunk's end.
 * A key's lowest bit or what follows the mark tells whether the chunk ends in it. */
static inline uint64_t key_at(const sorter *s, size_t at)
{
    const uint32_t *t = s->text + at;
    if (s->per_key == 2 && at + 2 <= (size_t)s->n)
        return coded(t[0]) << s->bits | (t[0] >> 31 ? 0 : coded(t[1]));
    uint64_t key = 0;
    unsigned i = 0;
    for (int ended = 0; !ended && i < s->per_key && at + i < (size_t)s->n; i++) {
        key = key << s->bits | coded(t[i]);
        ended = (int)(t[i] >> 31);
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

/* --- Records: a key, and below it the position ------------------------------------------ */

static inline uint64_t record_of(const sorter *s, size_t at, size_t depth)
{
    return key_at(s, at + depth) << s->position_bits | at;
}

static inline uint64_t key_of(const sorter *s, uint64_t record)
{
    return record >> s->position_bits;
}

static inline int32_t position_of(const sorter *s, uint64_t record)
{
    return (int32_t)(record & (((uint64_t)1 << s->position_bits) - 1));
}

static void sort_few(uint64_t *r, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const uint64_t v = r[i];
        size_t j = i;
        for (; j > 0 && r[j - 1] > v; j--)
            r[j] = r[j - 1];
        r[j] = v;
    }
}

/* Merge sort from runs of 16: no worst case. */
static void sort_some(uint64_t *r, uint64_t *other, size_t n)
{
    for (size_t i = 0; i < n; i += 16)
        sort_few(r + i, n - i < 16 ? n - i : 16);
    uint64_t *from = r, *to = other;
    for (size_t run = 16; run < n; run *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * run) {
            const size_t mid = lo + run < n ? lo + run : n, hi = lo + 2 * run < n ? lo + 2 * run : n;
            size_t a = lo, b = mid;
            for (size_t k = lo; k < hi; k++)
                to[k] = a < mid && (b == hi || from[a] <= from[b]) ? from[a++] : from[b++];
        }
        uint64_t *t = from;
        from = to;
        to = t;
    }
    if (from != r)
        memcpy(r, from, n * sizeof(*r));
}

/* Byte by byte from the lowest that differs anywhere. */
static void sort_many(uint64_t *r, uint64_t *other, size_t n, uint64_t differing)
{
    uint64_t *from = r, *to = other;
    for (unsigned shift = (unsigned)__builtin_ctzll(differing); shift < 64 && differing >> shift; shift += 8) {
        if (!(differing >> shift & 255))
            continue;
        size_t at[256] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++)
            at[from[i] >> shift & 255]++;
        for (size_t b = 0; b < 256; b++) {
            const size_t here = at[b];
            at[b] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++)
            to[at[from[i] >> shift & 255]++] = from[i];
        uint64_t *t = from;
        from = to;
        to = t;
    }
    if (from != r)
        memcpy(r, from, n * sizeof(*r));
}

/* n <= gather, and in the order of positions where keys are equal. */
static void sort_records(const sorter *s, uint64_t *r, size_t n)
{
    uint64_t *other = s->scratch + s->gather, differing = 0;
    if (n <= FEW) {
        sort_few(r, n);
    } else if (n < MANY) {
        sort_some(r, other, n);
    } else {
        for (size_t i = 1; i < n; i++)
            differing |= r[i] ^ r[0];
        differing = differing >> s->position_bits << s->position_bits;
        if (differing)
            sort_many(r, other, n, differing);
    }
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
    uint64_t *r = s->scratch;
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            __builtin_prefetch(&s->text[(size_t)order[i + AHEAD] + depth]);
        r[i] = record_of(s, (size_t)order[i], depth);
    }
    sort_records(s, r, n);
    /* The scratch is used again below: what goes on is kept as a list in place, by marking
     * each later member of a group now. */
    for (size_t i = 0; i < n; i++) {
        const int32_t at = position_of(s, r[i]);
        order[i] = i && key_of(s, r[i]) == key_of(s, r[i - 1]) ? ~at : at;
    }
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
    uint64_t sample[SAMPLES];
    uint64_t state = lo * 2654435761u + hi;
    for (size_t i = 0; i < SAMPLES; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const size_t at = lo + (size_t)((state >> 20) % (hi - lo));
        sample[i] = key_at(s, (size_t)s->order[at] + depth);
    }
    sort_few(sample, SAMPLES);
    return sample[SAMPLES / 2];
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

/* Records of the marked positions, by their first symbol, over all of `order`: there are n / 2 at most. bucket[c]
 * ends c's. */
static void sort_by_first(const sorter *s, uint64_t *records, int32_t *bucket, size_t alphabet)
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
            records[bucket[s->text[i] & ~FT_CHUNK_MARK]++] = record_of(s, (size_t)i, 1);
}

/* The records of one first symbol, to positions in order. A position takes half the room of its record: it is written
 * over one that was read before. */
static void sort_bucket(sorter *s, uint64_t *records, size_t lo, size_t hi)
{
    if (hi - lo > s->gather) {
        for (size_t i = lo; i < hi; i++)
            s->order[i] = position_of(s, records[i]);
        sort_range(s, lo, hi, 1);
        return;
    }
    sort_records(s, records + lo, hi - lo);
    for (size_t from = lo; from < hi;) {
        const uint64_t key = key_of(s, records[from]);
        size_t to = from;
        for (; to < hi && key_of(s, records[to]) == key; to++)
            s->order[to] = position_of(s, records[to]);
        if (key_ends(s, key))
            settle(s, from, to);
        else
            sort_range(s, from, to, 1 + s->per_key);
        from = to;
    }
}

ft_code ft_chunk_sort(int32_t *order, const uint32_t *text, int32_t n, int32_t *bucket, size_t alphabet,
                      const ft_chunk_watch *watch, ft_status *st)
{
    sorter s = {.order = order, .text = text, .n = n, .gather = (size_t)n < GATHER ? (size_t)n : GATHER};
    s.bits = 64 - (unsigned)__builtin_clzll(alphabet) + 1; /* 0 is "behind the end" */
    s.position_bits = 64 - (unsigned)__builtin_clzll((unsigned long long)n);
    s.per_key = (64 - s.position_bits) / s.bits; /* at least 1: neither has more than 32 bits */
    s.scratch = malloc(2 * s.gather * sizeof(*s.scratch));
    if (!s.scratch)
        return ft_fail(st, FT_ERR_MEM, "suffix sort: out of memory");
    uint64_t *records = (uint64_t *)(void *)order;
    sort_by_first(&s, records, bucket, alphabet);
    ft_code rc = FT_OK;
    size_t lo = 0, told = 0;
    for (size_t c = 0; c < alphabet && !rc; c++) {
        const size_t hi = (size_t)bucket[c];
        sort_bucket(&s, records, lo, hi);
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
