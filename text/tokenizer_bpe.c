/* Byte-pair encoding: the pair of lowest rank is merged first, among equals the
 * leftmost.
 *
 * Short pieces are scanned for their best pair, long ones keep a heap of
 * candidates over a linked list: O(n log n), whatever the text. Both follow the
 * reference, which checks a candidate only by the id that it would make. Words
 * come again and again, so a small table remembers how they were split; an entry
 * is one cache line. */
#include "base/ft_utf8.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

enum { CACHE_BITS = 14, CACHED_BYTES = 24, CACHED_TOKENS = 7, SCAN_MOST = 32 };

typedef struct ft_word {
    uint32_t ids[CACHED_TOKENS];
    uint8_t sizes[CACHED_TOKENS];
    uint8_t count; /* tokens; 0: the slot is empty */
    uint8_t bytes;
    char text[CACHED_BYTES];
} ft_word;

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
    b->cache = calloc((size_t)1 << CACHE_BITS, sizeof(*b->cache));
    return b->cache ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

void ft_bpe_release(ft_bpe *b)
{
    free(b->symbols);
    free(b->heap);
    ft_buffer_release(&b->letters);
    free(b->cache);
    free(b->ids);
    free(b->sizes);
    *b = (ft_bpe){0};
}

static ft_code answer(ft_bpe *b, uint32_t id, uint32_t size, ft_status *st)
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

/* For few symbols: look at all pairs each time, without links. */
static void merge_by_scan(ft_bpe *b)
{
    ft_symbol *s = b->symbols;
    const ft_merge *pairs[SCAN_MOST];
    size_t n = b->symbols_count;
    for (size_t i = 0; i + 1 < n; i++)
        pairs[i] = ft_merge_find(b->t, s[i].id, s[i + 1].id);
    for (;;) {
        size_t best = SIZE_MAX;
        uint32_t rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < n; i++)
            if (pairs[i] && pairs[i]->rank < rank) {
                rank = pairs[i]->rank;
                best = i;
            }
        if (best == SIZE_MAX)
            break;
        s[best].id = pairs[best]->id;
        s[best].size += s[best + 1].size;
        memmove(s + best + 1, s + best + 2, (n - best - 2) * sizeof(*s));
        memmove(pairs + best, pairs + best + 1, (n - best - 2) * sizeof(pairs[0]));
        n--;
        if (best > 0)
            pairs[best - 1] = ft_merge_find(b->t, s[best - 1].id, s[best].id);
        if (best + 1 < n)
            pairs[best] = ft_merge_find(b->t, s[best].id, s[best + 1].id);
    }
    b->symbols_count = n;
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

/* The whole piece as one entry of the vocabulary, or FT_NO_TOKEN. */
static ft_code find_whole(ft_bpe *b, const char *text, size_t n, int bytes, uint32_t *id, ft_status *st)
{
    ft_code rc = FT_OK;
    if (bytes) {
        ft_buffer_reset(&b->letters);
        for (size_t i = 0; !rc && i < n; i++)
            rc = ft_utf8_append(&b->letters, ft_byte_letter((unsigned char)text[i]), st);
        text = b->letters.data;
        n = b->letters.size;
    }
    *id = rc ? FT_NO_TOKEN : ft_vocabulary_find(b->t, text, n);
    return rc;
}

static ft_code encode_piece(ft_bpe *b, const char *text, size_t n, int bytes, ft_status *st)
{
    if (b->t->ignore_merges) {
        uint32_t id;
        ft_code rc = find_whole(b, text, n, bytes, &id, st);
        if (rc || id != FT_NO_TOKEN)
            return rc ? rc : answer(b, id, (uint32_t)n, st);
    }
    b->symbols_count = 0;
    ft_code rc = bytes ? read_bytes(b, text, n, st) : read_letters(b, text, n, st);
    if (!rc && bytes && b->symbols_count <= SCAN_MOST)
        merge_by_scan(b);
    else if (!rc)
        rc = merge_by_heap(b, st);
    for (size_t i = 0; !rc && i < b->symbols_count; i++)
        if (b->symbols[i].size)
            rc = answer(b, b->symbols[i].id, b->symbols[i].size, st);
    return rc;
}

ft_code ft_bpe_piece(ft_bpe *b, const char *text, size_t n, int bytes, ft_status *st)
{
    b->count = 0;
    if (!bytes || n > CACHED_BYTES)
        return encode_piece(b, text, n, bytes, st);
    ft_word *word = &b->cache[ft_hash_bytes(text, n) >> (64 - CACHE_BITS)];
    ft_code rc = FT_OK;
    if (word->count && word->bytes == n && !memcmp(word->text, text, n)) {
        for (size_t i = 0; !rc && i < word->count; i++)
            rc = answer(b, word->ids[i], word->sizes[i], st);
        return rc;
    }
    rc = encode_piece(b, text, n, bytes, st);
    if (rc || b->count > CACHED_TOKENS || !b->count)
        return rc;
    memcpy(word->text, text, n);
    word->bytes = (uint8_t)n;
    word->count = (uint8_t)b->count;
    for (size_t i = 0; i < b->count; i++) {
        word->ids[i] = b->ids[i];
        word->sizes[i] = (uint8_t)b->sizes[i];
    }
    return FT_OK;
}
