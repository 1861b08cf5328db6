/* Words, and encoding through a cache of them.
 *
 * Text is words that come again and again: a table remembers how each was split,
 * one cache line a word, so that most pieces cost a hash, a comparison and a copy.
 * A word that is not there is looked for in the vocabulary, and merged only if its
 * bytes are no entry. The answer never depends on what the table holds.
 *
 * Pieces are read in words of 8 bytes and masked, which reads past their end: the
 * last bytes of a text are read from a copy with room behind. */
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    WORD_BYTES = 32, /* longest piece that is kept */
    WORD_TOKENS = 6, /* most tokens of one */
    CACHE_BITS = 15, /* 32,768 lines: 2 MiB a thread */
    BATCH = 256      /* pieces cut at a time */
};

typedef struct ft_word {
    uint64_t key[WORD_BYTES / 8]; /* its bytes, zeros behind */
    uint32_t ids[WORD_TOKENS];
    uint8_t sizes[WORD_TOKENS];
    uint8_t count, bytes; /* tokens, bytes; 0: the line is empty */
} ft_word;
_Static_assert(sizeof(ft_word) == 64, "a word is a cache line");

typedef struct word_key {
    uint64_t part[WORD_BYTES / 8], hash;
} word_key;

static inline uint64_t fold(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 uint128;
    const uint128 product = (uint128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    a = (a ^ a >> 32) * UINT64_C(0x9E3779B97F4A7C15);
    a = (a ^ b ^ b >> 29) * UINT64_C(0xFF51AFD7ED558CCD);
    return a ^ a >> 32;
#endif
}

/* Of a piece of 1 to WORD_BYTES bytes; WORD_BYTES can be read at p. */
static inline void make_key(word_key *k, const char *p, size_t n)
{
    /* From the n-th byte before the middle on: a mask of n bytes. */
    static const unsigned char ones[2 * WORD_BYTES] = {
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    uint64_t mask[WORD_BYTES / 8];
    memcpy(mask, ones + WORD_BYTES - n, 16);
    memcpy(k->part, p, 16);
    k->part[0] &= mask[0];
    k->part[1] &= mask[1];
    k->hash = fold(k->part[0] ^ UINT64_C(0x9E3779B97F4A7C15), k->part[1] ^ UINT64_C(0xC4CEB9FE1A85EC53) ^ n);
    if (n <= 16)
        return;
    memcpy(mask + 2, ones + WORD_BYTES - n + 16, 16);
    memcpy(k->part + 2, p + 16, 16);
    k->part[2] &= mask[2];
    k->part[3] &= mask[3];
    k->hash = fold(k->hash ^ k->part[2], k->part[3] ^ UINT64_C(0xFF51AFD7ED558CCD));
}

static inline int is_word(const ft_word *w, const word_key *k, size_t n)
{
    return w->bytes == n && w->key[0] == k->part[0] && w->key[1] == k->part[1] &&
           (n <= 16 || (w->key[2] == k->part[2] && w->key[3] == k->part[3]));
}

static inline ft_word *word_at(const ft_bpe *b, uint64_t hash)
{
    return &b->words[hash >> (64 - CACHE_BITS)];
}

static void keep_word(ft_word *w, const word_key *k, size_t n, const ft_bpe *b)
{
    if (b->count > WORD_TOKENS)
        return;
    memset(w, 0, sizeof(*w));
    memcpy(w->key, k->part, n <= 16 ? 16 : WORD_BYTES);
    for (size_t i = 0; i < b->count; i++) {
        w->ids[i] = b->ids[i];
        w->sizes[i] = (uint8_t)b->sizes[i];
    }
    w->count = (uint8_t)b->count;
    w->bytes = (uint8_t)n;
}

ft_code ft_words_init(ft_bpe *b, ft_status *st)
{
    b->words = calloc((size_t)1 << CACHE_BITS, sizeof(*b->words));
    b->whole = calloc((size_t)b->t->size + 1, 1);
    return b->words && b->whole ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

/* --- The vocabulary by bytes ------------------------------------------------------ */

static uint64_t hash_of(const char *p, size_t n)
{
    char padded[WORD_BYTES] = {0};
    word_key k;
    memcpy(padded, p, n);
    make_key(&k, padded, n);
    return k.hash;
}

/* An entry of letters of the byte alphabet alone, of few enough of them: 1, and its bytes. */
static int is_indexed(const ft_tokenizer *t, uint32_t id, ft_view32 *bytes)
{
    const ft_view32 spelling = t->spelling[id];
    const char *text = t->strings.data + spelling.at;
    if (!(t->flags[id] & FT_TOKEN_USED) || ft_vocabulary_find(t, text, spelling.size) != id)
        return 0;
    *bytes = t->decoded[id];
    size_t letters = 0;
    for (size_t at = 0; at < spelling.size; letters++) {
        unsigned length;
        if (ft_letter_byte(ft_utf8_decode((const unsigned char *)text + at, &length)) < 0)
            return 0;
        at += length;
    }
    return letters && letters <= WORD_BYTES && bytes->size == letters;
}

ft_code ft_words_index(ft_tokenizer *t, ft_status *st)
{
    size_t size = 16;
    while (size < 2 * (size_t)t->vocabulary)
        size *= 2;
    t->by_bytes = malloc(size * sizeof(*t->by_bytes));
    if (!t->by_bytes)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    memset(t->by_bytes, 0xFF, size * sizeof(*t->by_bytes));
    t->by_bytes_mask = size - 1;
    for (uint32_t id = 0; id < t->size; id++) {
        ft_view32 bytes;
        if (!is_indexed(t, id, &bytes))
            continue;
        size_t at = hash_of(t->bytes.data + bytes.at, bytes.size);
        while (t->by_bytes[at & t->by_bytes_mask] != FT_NO_TOKEN)
            at++;
        t->by_bytes[at & t->by_bytes_mask] = id;
    }
    return FT_OK;
}

static uint32_t find_bytes(const ft_tokenizer *t, const char *p, size_t n, uint64_t hash)
{
    for (size_t at = hash;; at++) {
        const uint32_t id = t->by_bytes[at & t->by_bytes_mask];
        if (id == FT_NO_TOKEN || (t->decoded[id].size == n && !memcmp(t->bytes.data + t->decoded[id].at, p, n)))
            return id;
    }
}

/* --- Pieces ----------------------------------------------------------------------- */

enum { NOT_TRIED, NOT_WHOLE, WHOLE };

/* A piece that the cache lacks. */
static ft_code split_word(ft_bpe *b, const char *p, size_t n, const word_key *k, ft_status *st)
{
    const uint32_t id = find_bytes(b->t, p, n, k->hash);
    b->count = 0;
    if (id != FT_NO_TOKEN && b->whole[id] == WHOLE)
        return ft_bpe_answer(b, id, (uint32_t)n, st);
    ft_code rc = ft_bpe_merge(b, p, n, 1, st);
    if (!rc && id != FT_NO_TOKEN)
        b->whole[id] = b->count == 1 && b->ids[0] == id ? WHOLE : NOT_WHOLE;
    return rc;
}

ft_code ft_bpe_piece(ft_bpe *b, const char *text, size_t n, int bytes, ft_status *st)
{
    b->count = 0;
    if (!bytes || n > WORD_BYTES)
        return ft_bpe_merge(b, text, n, bytes, st);
    char padded[WORD_BYTES] = {0};
    word_key k;
    memcpy(padded, text, n);
    make_key(&k, padded, n);
    ft_word *w = word_at(b, k.hash);
    ft_code rc = FT_OK;
    if (is_word(w, &k, n)) {
        for (size_t i = 0; !rc && i < w->count; i++)
            rc = ft_bpe_answer(b, w->ids[i], w->sizes[i], st);
        return rc;
    }
    rc = split_word(b, text, n, &k, st);
    if (!rc)
        keep_word(w, &k, n, b);
    return rc;
}

/* --- Text ------------------------------------------------------------------------- */

/* Makes byte ranges of the layer, of the tokens from `first` on, ranges of the original. */
static void find_origins(const ft_layer *l, ft_encoding *out, size_t first)
{
    for (size_t i = first; i < out->count; i++) {
        uint32_t begin, end, unused;
        ft_layer_origin(l, out->starts[i], &begin, &unused);
        ft_layer_origin(l, out->ends[i] - 1, &unused, &end);
        out->starts[i] = begin;
        out->ends[i] = end;
    }
}

typedef struct text_run {
    const ft_layer *layer;
    size_t end;
    const char *tail; /* a copy of the last bytes before `end`, with room behind */
    size_t tail_at;   /* where in the layer it begins */
    int plain;        /* the layer is the original */
} text_run;

/* Appends the tokens of the piece [at, at + n), which b->ids and b->sizes hold. */
static ft_code put_answer(ft_bpe *b, const text_run *r, size_t at, int offsets, ft_encoding *out, ft_status *st)
{
    ft_code rc = ft_encoding_grow(out, b->count + WORD_TOKENS, offsets, st);
    if (rc)
        return rc;
    const size_t first = out->count;
    for (size_t i = 0; i < b->count; i++, out->count++) {
        out->ids[out->count] = b->ids[i];
        if (offsets) {
            out->starts[out->count] = at;
            out->ends[out->count] = at += b->sizes[i];
        }
    }
    if (offsets && (b->count > 1 || !r->plain))
        find_origins(r->layer, out, first);
    return FT_OK;
}

static ft_code put_new_word(ft_bpe *b, const text_run *r, size_t at, size_t n, const word_key *k, int offsets,
                            ft_encoding *out, ft_status *st)
{
    const char *p = r->layer->text + at;
    ft_code rc;
    if (k) {
        rc = split_word(b, p, n, k, st);
        if (!rc)
            keep_word(word_at(b, k->hash), k, n, b);
    } else {
        b->count = 0;
        rc = ft_bpe_merge(b, p, n, 1, st);
    }
    return rc ? rc : put_answer(b, r, at, offsets, out, st);
}

static inline void put_word(const ft_word *w, const text_run *r, size_t at, int offsets, ft_encoding *out)
{
    const size_t first = out->count;
    memcpy(out->ids + first, w->ids, sizeof(w->ids)); /* more than there are: cheaper than a loop */
    out->count += w->count;
    if (!offsets)
        return;
    out->starts[first] = at;
    out->ends[first] = at + w->sizes[0];
    for (size_t i = 1; i < w->count; i++) {
        out->starts[first + i] = out->ends[first + i - 1];
        out->ends[first + i] = out->starts[first + i] + w->sizes[i];
    }
    if (w->count > 1 || !r->plain)
        find_origins(r->layer, out, first);
}

/* The pieces that end at ends[0 .. count), the first one starting at `at`. */
static inline ft_code put_pieces(ft_bpe *b, const text_run *r, size_t at, const uint32_t *ends, size_t count,
                                 const int offsets, ft_encoding *out, ft_status *st)
{
    ft_code rc = ft_encoding_grow(out, count + WORD_TOKENS, offsets, st);
    for (size_t i = 0; !rc && i < count; i++) {
        const size_t n = ends[i] - at;
        if (n > WORD_BYTES) {
            rc = put_new_word(b, r, at, n, NULL, offsets, out, st);
        } else {
            word_key k;
            make_key(&k, r->end - at >= WORD_BYTES ? r->layer->text + at : r->tail + (at - r->tail_at), n);
            const ft_word *w = word_at(b, k.hash);
            if (!is_word(w, &k, n)) {
                rc = put_new_word(b, r, at, n, &k, offsets, out, st);
            } else {
                if (out->capacity - out->count < 2 * WORD_TOKENS)
                    rc = ft_encoding_grow(out, 2 * WORD_TOKENS, offsets, st);
                if (!rc)
                    put_word(w, r, at, offsets, out);
            }
        }
        at = ends[i];
    }
    return rc;
}

static ft_code put_ids(ft_bpe *b, const text_run *r, size_t at, const uint32_t *ends, size_t count, ft_encoding *out,
                       ft_status *st)
{
    return put_pieces(b, r, at, ends, count, 0, out, st);
}

static ft_code put_ids_and_offsets(ft_bpe *b, const text_run *r, size_t at, const uint32_t *ends, size_t count,
                                   ft_encoding *out, ft_status *st)
{
    return put_pieces(b, r, at, ends, count, 1, out, st);
}

ft_code ft_bpe_encode(ft_bpe *b, const ft_layer *l, uint32_t start, uint32_t end, int offsets, ft_encoding *out,
                      ft_status *st)
{
    char tail[2 * WORD_BYTES] = {0};
    const size_t n = end - start < WORD_BYTES ? end - start : WORD_BYTES;
    memcpy(tail, l->text + end - n, n);
    const text_run r = {.layer = l, .tail = tail, .tail_at = end - n, .end = end, .plain = ft_layer_is_original(l)};
    uint32_t ends[BATCH];
    ft_code rc = FT_OK;
    for (size_t at = start; !rc && at < end;) {
        const size_t count = ft_cutter_cut(b->t->cutter, l->text, at, end, ends, BATCH);
        rc = (offsets ? put_ids_and_offsets : put_ids)(b, &r, at, ends, count, out, st);
        at = ends[count - 1];
    }
    return rc;
}
