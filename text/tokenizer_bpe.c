/* Byte-pair encoding: the pair of lowest rank is merged first, among equals the
 * leftmost.
 *
 * Short pieces are scanned for their best pair, long ones keep a heap of
 * candidates over a linked list: O(n log n), whatever the text. Both follow the
 * reference, which checks a candidate only by the id that it would make. */
#include "base/ft_utf8.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

enum { SCAN_BITS = 6, SCAN_MOST = 1 << SCAN_BITS, SCAN_LANES = 4, PAIR_BITS = 13 };

uint64_t ft_hash_bytes(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = n * UINT64_C(0x9E3779B97F4A7C15);
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        h = (h ^ x) * UINT64_C(0xFF51AFD7ED558CCD);
        h ^= h >> 32;
    }
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++)
        x |= (uint64_t)p[i] << (8 * i);
    h = (h ^ x) * UINT64_C(0xC4CEB9FE1A85EC53);
    return h ^ h >> 29;
}

ft_code ft_bpe_init(ft_bpe *b, const ft_tokenizer *t, ft_status *st)
{
    *b = (ft_bpe){.t = t};
    b->pairs = malloc(sizeof(*b->pairs) << PAIR_BITS);
    if (!b->pairs)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < (size_t)1 << PAIR_BITS; i++)
        b->pairs[i].pair = UINT64_MAX;
    return ft_words_init(b, st);
}

void ft_bpe_release(ft_bpe *b)
{
    free(b->symbols);
    free(b->heap);
    free(b->tables);
    free(b->pairs);
    free(b->whole);
    free(b->ids);
    free(b->sizes);
    *b = (ft_bpe){0};
}

ft_code ft_bpe_answer(ft_bpe *b, uint32_t id, uint32_t size, ft_status *st)
{
    if (b->count >= b->ids_capacity || b->count >= b->sizes_capacity) {
        ft_code rc = ft_array_grow((void **)&b->ids, &b->ids_capacity, b->count + 1, sizeof(*b->ids), st);
        if (!rc)
            rc = ft_array_grow((void **)&b->sizes, &b->sizes_capacity, b->count + 1, sizeof(*b->sizes), st);
        if (rc)
            return rc;
    }
    b->ids[b->count] = id;
    b->sizes[b->count++] = size;
    return FT_OK;
}

static int before(const ft_candidate *a, const ft_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static ft_code heap_push(ft_bpe *b, ft_candidate c, ft_status *st)
{
    if (b->heap_count == b->heap_capacity) {
        ft_code rc = ft_array_grow((void **)&b->heap, &b->heap_capacity, b->heap_count + 1, sizeof(*b->heap), st);
        if (rc)
            return rc;
    }
    size_t i = b->heap_count++;
    while (i > 0 && before(&c, &b->heap[(i - 1) / 2])) {
        b->heap[i] = b->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    b->heap[i] = c;
    return FT_OK;
}

static ft_candidate heap_pop(ft_bpe *b)
{
    const ft_candidate top = b->heap[0], last = b->heap[--b->heap_count];
    size_t i = 0;
    for (size_t child = 1; child < b->heap_count; child = 2 * i + 1) {
        if (child + 1 < b->heap_count && before(&b->heap[child + 1], &b->heap[child]))
            child++;
        if (!before(&b->heap[child], &last))
            break;
        b->heap[i] = b->heap[child];
        i = child;
    }
    b->heap[i] = last;
    return top;
}

enum { END = UINT32_MAX };

/* The candidate of the symbols at `at` and behind it, if they merge. */
static ft_code consider(ft_bpe *b, uint32_t at, ft_status *st)
{
    if (at == END || b->symbols[at].next == END)
        return FT_OK;
    const ft_merge *m = ft_merge_find(b->t, b->symbols[at].id, b->symbols[b->symbols[at].next].id);
    return m ? heap_push(b, (ft_candidate){m->rank, at, m->id}, st) : FT_OK;
}

static ft_code merge_by_heap(ft_bpe *b, ft_status *st)
{
    ft_symbol *s = b->symbols;
    ft_code rc = FT_OK;
    b->heap_count = 0;
    for (uint32_t i = 0; !rc && i < b->symbols_count; i++)
        rc = consider(b, i, st);
    while (!rc && b->heap_count) {
        const ft_candidate top = heap_pop(b);
        ft_symbol *left = &s[top.at];
        if (!left->size || left->next == END)
            continue;
        ft_symbol *right = &s[left->next];
        const ft_merge *m = ft_merge_find(b->t, left->id, right->id);
        if (!m || m->id != top.id)
            continue; /* one of the two has changed since */
        left->id = top.id;
        left->size += right->size;
        left->next = right->next;
        right->size = 0;
        if (right->next != END)
            s[right->next].previous = top.at;
        rc = consider(b, left->previous, st);
        if (!rc)
            rc = consider(b, top.at, st);
    }
    return rc;
}

/* For few bytes: look at all pairs each time. A symbol stays where its first byte
 * is, `alive` has a bit for each; a pair is known by its left symbol, and its worth
 * is its rank before its place, so that the least is the one to merge. */
typedef struct scan {
    uint32_t id[SCAN_MOST], merged[SCAN_MOST];
    int32_t worth[SCAN_MOST + SCAN_LANES];
    uint64_t alive;
} scan;
_Static_assert(FT_MAX_ENTRIES <= INT32_MAX >> SCAN_BITS, "ranks leave room for places");

static inline unsigned lowest(uint64_t bits)
{
    return (unsigned)__builtin_ctzll(bits);
}

/* The pairs that have merged lately are in a small table, near; the others far. */
static inline void scan_pair(const ft_bpe *b, scan *s, unsigned left, unsigned right)
{
    const uint64_t pair = (uint64_t)s->id[left] << 32 | s->id[right], hash = ft_merge_hash(pair);
    s->worth[left] = INT32_MAX;
    if (!ft_merge_may_exist(b->t, hash))
        return;
    ft_merge *m = &b->pairs[hash >> (64 - PAIR_BITS)];
    if (m->pair != pair) {
        const ft_merge *found = ft_merge_find(b->t, s->id[left], s->id[right]);
        if (!found)
            return;
        *m = *found;
    }
    s->worth[left] = (int32_t)(m->rank << SCAN_BITS | left);
    s->merged[left] = m->id;
}

static int32_t least(const int32_t *worth, size_t n)
{
    int32_t best[SCAN_LANES];
    memcpy(best, worth, sizeof(best));
    for (size_t i = SCAN_LANES; i < n; i += SCAN_LANES)
        for (size_t k = 0; k < SCAN_LANES; k++)
            best[k] = worth[i + k] < best[k] ? worth[i + k] : best[k];
    for (size_t k = 1; k < SCAN_LANES; k++)
        best[0] = best[k] < best[0] ? best[k] : best[0];
    return best[0];
}

static void scan_merge(const ft_bpe *b, scan *s, size_t n)
{
    for (int32_t best; (best = least(s->worth, n)) != INT32_MAX;) {
        const unsigned left = (unsigned)best & (SCAN_MOST - 1);
        const uint64_t above = UINT64_MAX << left << 1;
        const unsigned right = lowest(s->alive & above);
        s->id[left] = s->merged[left];
        s->alive &= ~(UINT64_C(1) << right);
        s->worth[left] = s->worth[right] = INT32_MAX;
        if (s->alive & above)
            scan_pair(b, s, left, lowest(s->alive & above));
        const uint64_t below = s->alive & ((UINT64_C(1) << left) - 1);
        if (below)
            scan_pair(b, s, 63 - (unsigned)__builtin_clzll(below), left);
    }
}

static ft_code merge_by_scan(ft_bpe *b, const char *text, size_t n, ft_status *st)
{
    scan s;
    s.alive = UINT64_MAX >> (SCAN_MOST - n);
    for (size_t i = 0; i < n; i++)
        s.id[i] = b->t->byte_id[(unsigned char)text[i]];
    for (unsigned i = 0; i + 1 < n; i++)
        scan_pair(b, &s, i, i + 1);
    for (size_t i = n - 1; i < n + SCAN_LANES; i++)
        s.worth[i] = INT32_MAX;
    scan_merge(b, &s, n);
    ft_code rc = FT_OK;
    for (uint64_t left = s.alive; !rc && left; left &= left - 1) {
        const unsigned at = lowest(left);
        const uint64_t rest = left & (left - 1);
        rc = ft_bpe_answer(b, s.id[at], (rest ? lowest(rest) : (unsigned)n) - at, st);
    }
    return rc;
}

static ft_code add_symbol(ft_bpe *b, uint32_t id, uint32_t size, ft_status *st)
{
    const size_t i = b->symbols_count;
    ft_code rc = ft_array_grow((void **)&b->symbols, &b->symbols_capacity, i + 1, sizeof(*b->symbols), st);
    if (rc)
        return rc;
    if (i)
        b->symbols[i - 1].next = (uint32_t)i;
    b->symbols[i] = (ft_symbol){id, size, i ? (uint32_t)(i - 1) : END, END};
    b->symbols_count++;
    return FT_OK;
}

/* <0xNN> for every byte of the character; 0 in *done where one is missing. */
static ft_code add_fallback(ft_bpe *b, const char *p, unsigned length, int *done, ft_status *st)
{
    *done = b->t->byte_fallback;
    for (unsigned i = 0; i < length; i++)
        *done = *done && b->t->fallback_id[(unsigned char)p[i]] != FT_NO_TOKEN;
    ft_code rc = FT_OK;
    for (unsigned i = 0; *done && !rc && i < length; i++)
        rc = add_symbol(b, b->t->fallback_id[(unsigned char)p[i]], 1, st);
    return rc;
}

/* One symbol a character of letters; characters that the vocabulary lacks become
 * byte tokens, the unknown token, or (the reference's way) nothing at all. */
static ft_code read_letters(ft_bpe *b, const char *text, size_t n, ft_status *st)
{
    const ft_tokenizer *t = b->t;
    uint32_t unknown = 0; /* bytes of unknown characters not yet written */
    ft_code rc = FT_OK;
    for (size_t at = 0; !rc && at < n;) {
        unsigned length;
        ft_utf8_decode((const unsigned char *)text + at, &length);
        const uint32_t id = ft_vocabulary_find(t, text + at, length);
        int done = 0;
        if (id != FT_NO_TOKEN) {
            if (unknown)
                rc = add_symbol(b, t->unk_id, unknown, st);
            unknown = 0;
            if (!rc)
                rc = add_symbol(b, id, length, st);
        } else {
            rc = add_fallback(b, text + at, length, &done, st);
            if (!rc && !done && t->unk_id != FT_NO_TOKEN) {
                if (unknown && !t->fuse_unk) {
                    rc = add_symbol(b, t->unk_id, unknown, st);
                    unknown = 0;
                }
                unknown += length;
            }
        }
        at += length;
    }
    return !rc && unknown ? add_symbol(b, t->unk_id, unknown, st) : rc;
}

static ft_code read_bytes(ft_bpe *b, const char *text, size_t n, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&b->symbols, &b->symbols_capacity, n, sizeof(*b->symbols), st);
    for (size_t i = 0; !rc && i < n; i++)
        b->symbols[i] = (ft_symbol){b->t->byte_id[(unsigned char)text[i]], 1, i ? (uint32_t)(i - 1) : END,
                                    i + 1 < n ? (uint32_t)(i + 1) : END};
    b->symbols_count = rc ? 0 : n;
    return rc;
}

static ft_code answer_symbols(ft_bpe *b, ft_status *st)
{
    ft_code rc = merge_by_heap(b, st);
    for (size_t i = 0; !rc && i < b->symbols_count; i++)
        if (b->symbols[i].size)
            rc = ft_bpe_answer(b, b->symbols[i].id, b->symbols[i].size, st);
    return rc;
}

ft_code ft_bpe_merge(ft_bpe *b, const char *text, size_t n, ft_status *st)
{
    b->count = 0;
    if (n <= SCAN_MOST)
        return merge_by_scan(b, text, n, st);
    ft_code rc = read_bytes(b, text, n, st);
    return rc ? rc : answer_symbols(b, st);
}

ft_code ft_bpe_merge_letters(ft_bpe *b, const char *text, size_t n, ft_status *st)
{
    b->count = 0;
    if (b->t->ignore_merges) {
        const uint32_t id = ft_vocabulary_find(b->t, text, n);
        if (id != FT_NO_TOKEN)
            return ft_bpe_answer(b, id, (uint32_t)n, st);
    }
    b->symbols_count = 0;
    ft_code rc = read_letters(b, text, n, st);
    return rc ? rc : answer_symbols(b, st);
}
