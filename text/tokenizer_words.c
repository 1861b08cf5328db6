/* Words, and encoding through a cache of them.
 *
 * Text is words that come again and again: a table remembers how each was split,
 * so that most pieces cost a hash, a comparison and a copy. Two words share a cache
 * line: the one that came again stays, the other makes room. Long pieces have a
 * table of their own. A piece that is in neither is looked for in the vocabulary,
 * and merged only where its bytes are no entry. What is in the tables never changes
 * an answer.
 *
 * Pieces are read 8 bytes at a time and masked, which reads past their end: the
 * last bytes of a text are read from a copy with room behind. */
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    WORD_READ = 16,             /* bytes read for a key */
    WORD_BYTES = WORD_READ - 1, /* longest word; the last byte of the key is its length */
    WORD_TOKENS = 3,
    WORD_BITS = 17, /* words: 4 MiB a thread */
    LONG_BYTES = 80,
    LONG_TOKENS = 8,
    LONG_BITS = 11, /* long words: 256 KiB */
    LINE = 64,      /* bytes of a cache line */
    BATCH = 256     /* pieces cut at a time */
};

typedef struct ft_word {
    uint64_t key[WORD_READ / 8]; /* its bytes, zeros behind, its length in the last; 0: the place is free */
    uint32_t ids[WORD_TOKENS];
    uint8_t sizes[WORD_TOKENS];
    uint8_t count;
} ft_word;
_Static_assert(2 * sizeof(ft_word) == LINE, "two words are a cache line");

typedef struct ft_long_word {
    uint32_t ids[LONG_TOKENS];
    uint8_t sizes[LONG_TOKENS];
    uint8_t count, bytes; /* bytes 0: the place is free */
    char text[LONG_BYTES + 6];
} ft_long_word;
_Static_assert(sizeof(ft_long_word) == 2 * LINE, "a long word is two cache lines");

typedef struct word_key {
    uint64_t part[WORD_READ / 8], hash;
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

/* Of a piece of 1 to WORD_BYTES bytes; WORD_READ can be read at p. */
static inline word_key make_key(const char *p, size_t n)
{
    /* From the n-th byte before the middle on: a mask of n bytes. */
    static const unsigned char ones[2 * WORD_READ] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                      255, 255, 255, 255, 255, 255, 255, 255};
    uint64_t mask[WORD_READ / 8];
    word_key k;
    memcpy(mask, ones + WORD_READ - n, WORD_READ);
    memcpy(k.part, p, WORD_READ);
    k.part[0] &= mask[0];
    k.part[1] &= mask[1];
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    k.part[1] |= n;
#else
    k.part[1] |= (uint64_t)n << 56;
#endif
    k.hash = fold(k.part[0] ^ UINT64_C(0x9E3779B97F4A7C15), k.part[1] ^ UINT64_C(0xC4CEB9FE1A85EC53));
    return k;
}

static inline int is_word(const ft_word *w, const word_key *k)
{
    return w->key[0] == k->part[0] && w->key[1] == k->part[1];
}

/* The two places where a word may be. */
static inline ft_word *words_of(const ft_bpe *b, uint64_t hash)
{
    return b->words + (hash >> (65 - WORD_BITS)) * 2;
}

/* The place of a word that the table has, or NULL. */
static inline const ft_word *find_word(const ft_bpe *b, const word_key *k)
{
    ft_word *w = words_of(b, k->hash);
    if (is_word(w, k))
        return w;
    if (!is_word(w + 1, k))
        return NULL;
    const ft_word again = w[1];
    w[1] = w[0];
    w[0] = again;
    return w;
}

static void keep_word(ft_bpe *b, const word_key *k)
{
    ft_word *w = words_of(b, k->hash);
    w += w->count != 0;
    memcpy(w->key, k->part, sizeof(w->key));
    for (size_t i = 0; i < b->count; i++) {
        w->ids[i] = b->ids[i];
        w->sizes[i] = (uint8_t)b->sizes[i];
    }
    w->count = (uint8_t)b->count;
}

static ft_long_word *long_place(const ft_bpe *b, uint64_t hash)
{
    return &b->long_words[hash >> (64 - LONG_BITS)];
}

static int is_long_word(const ft_long_word *w, const char *p, size_t n)
{
    return w->bytes == n && !memcmp(w->text, p, n);
}

static void keep_long_word(const ft_bpe *b, const char *p, size_t n, uint64_t hash)
{
    ft_long_word *w = long_place(b, hash);
    for (size_t i = 0; i < b->count; i++) {
        w->ids[i] = b->ids[i];
        w->sizes[i] = (uint8_t)b->sizes[i];
    }
    w->count = (uint8_t)b->count;
    w->bytes = (uint8_t)n;
    memcpy(w->text, p, n);
}

ft_code ft_words_init(ft_bpe *b, ft_status *st)
{
    b->tables = calloc(1, (sizeof(ft_word) << WORD_BITS) + (sizeof(ft_long_word) << LONG_BITS) + LINE);
    b->whole = calloc((size_t)b->t->size + 1, 1);
    if (!b->tables || !b->whole)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    char *lines = (char *)b->tables + (LINE - (uintptr_t)b->tables % LINE);
    b->words = (ft_word *)(void *)lines;
    b->long_words = (ft_long_word *)(void *)(lines + (sizeof(ft_word) << WORD_BITS));
    return FT_OK;
}

/* --- The vocabulary by bytes ------------------------------------------------------ */

static uint64_t hash_piece(const char *p, size_t n)
{
    if (n > WORD_BYTES)
        return ft_hash_bytes(p, n);
    char padded[WORD_READ] = {0};
    memcpy(padded, p, n);
    return make_key(padded, n).hash;
}

/* An entry that some bytes spell: one of letters of the byte alphabet alone. */
static int is_spelled_by_bytes(const ft_tokenizer *t, uint32_t id)
{
    const ft_view32 spelling = t->spelling[id];
    const char *text = t->strings.data + spelling.at;
    if (!(t->flags[id] & FT_TOKEN_USED) || !spelling.size || ft_vocabulary_find(t, text, spelling.size) != id)
        return 0;
    unsigned length;
    for (size_t at = 0; at < spelling.size; at += length)
        if (ft_letter_byte(ft_utf8_decode((const unsigned char *)text + at, &length)) < 0)
            return 0;
    return 1;
}

ft_code ft_words_index(ft_tokenizer *t, ft_status *st)
{
    size_t size = 16;
    while (size < t->vocabulary + (size_t)t->vocabulary / 4)
        size *= 2;
    t->by_bytes = malloc(size * sizeof(*t->by_bytes));
    if (!t->by_bytes)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    memset(t->by_bytes, 0xFF, size * sizeof(*t->by_bytes));
    t->by_bytes_mask = size - 1;
    for (uint32_t id = 0; id < t->size; id++) {
        if (!is_spelled_by_bytes(t, id))
            continue;
        const uint64_t hash = hash_piece(t->bytes.data + t->decoded[id].at, t->decoded[id].size);
        size_t at = hash & t->by_bytes_mask;
        while (t->by_bytes[at].id != FT_NO_TOKEN)
            at = (at + 1) & t->by_bytes_mask;
        t->by_bytes[at] = (ft_spelled){.tag = (uint32_t)(hash >> 32), .id = id};
    }
    return FT_OK;
}

static uint32_t find_spelled(const ft_tokenizer *t, const char *p, size_t n, uint64_t hash)
{
    for (size_t at = hash & t->by_bytes_mask;; at = (at + 1) & t->by_bytes_mask) {
        const ft_spelled s = t->by_bytes[at];
        if (s.id == FT_NO_TOKEN)
            return FT_NO_TOKEN;
        if (s.tag == (uint32_t)(hash >> 32) && t->decoded[s.id].size == n &&
            !memcmp(t->bytes.data + t->decoded[s.id].at, p, n))
            return s.id;
    }
}

/* --- Pieces ----------------------------------------------------------------------- */

enum { NOT_TRIED, NOT_WHOLE, WHOLE };

/* By the vocabulary, or by merging: once an entry's bytes have merged to the entry they need not again. */
static ft_code split_piece(ft_bpe *b, const char *p, size_t n, uint64_t hash, ft_status *st)
{
    b->count = 0;
    const uint32_t id = find_spelled(b->t, p, n, hash);
    if (id != FT_NO_TOKEN && (b->whole[id] == WHOLE || b->t->ignore_merges))
        return ft_bpe_answer(b, id, (uint32_t)n, st);
    ft_code rc = ft_bpe_merge(b, p, n, st);
    if (!rc && id != FT_NO_TOKEN)
        b->whole[id] = b->count == 1 && b->ids[0] == id ? WHOLE : NOT_WHOLE;
    return rc;
}

/* A piece of bytes that the table of words lacks; `k` where it is short enough for it. */
static ft_code answer_piece(ft_bpe *b, const char *p, size_t n, const word_key *k, ft_status *st)
{
    if (k) {
        ft_code rc = split_piece(b, p, n, k->hash, st);
        if (!rc && b->count <= WORD_TOKENS)
            keep_word(b, k);
        return rc;
    }
    const uint64_t hash = ft_hash_bytes(p, n);
    const ft_long_word *w = long_place(b, hash);
    if (!is_long_word(w, p, n)) {
        ft_code rc = split_piece(b, p, n, hash, st);
        if (!rc && n <= LONG_BYTES && b->count <= LONG_TOKENS)
            keep_long_word(b, p, n, hash);
        return rc;
    }
    ft_code rc = FT_OK;
    b->count = 0;
    for (size_t i = 0; !rc && i < w->count; i++)
        rc = ft_bpe_answer(b, w->ids[i], w->sizes[i], st);
    return rc;
}

ft_code ft_bpe_piece(ft_bpe *b, const char *text, size_t n, int bytes, ft_status *st)
{
    if (!bytes)
        return ft_bpe_merge_letters(b, text, n, st);
    if (n > WORD_BYTES)
        return answer_piece(b, text, n, NULL, st);
    char padded[WORD_READ] = {0};
    memcpy(padded, text, n);
    const word_key k = make_key(padded, n);
    const ft_word *w = find_word(b, &k);
    if (!w)
        return answer_piece(b, text, n, &k, st);
    ft_code rc = FT_OK;
    b->count = 0;
    for (size_t i = 0; !rc && i < w->count; i++)
        rc = ft_bpe_answer(b, w->ids[i], w->sizes[i], st);
    return rc;
}

/* --- Text ------------------------------------------------------------------------- */

typedef struct text_run {
    const ft_layer *layer;
    size_t end;
    const char *tail; /* a copy of the last bytes before `end`, with room behind */
    size_t tail_at;   /* where in the layer it begins */
    int plain;        /* the layer is the original */
} text_run;

/* Makes byte ranges of the layer ranges of the original. */
static void find_origins(const ft_layer *l, size_t *starts, size_t *ends, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t begin, end, unused;
        ft_layer_origin(l, starts[i], &begin, &unused);
        ft_layer_origin(l, ends[i] - 1, &unused, &end);
        starts[i] = begin;
        ends[i] = end;
    }
}

static ft_code put_piece(ft_bpe *b, const text_run *r, size_t at, size_t n, const word_key *k, int offsets,
                         ft_encoding *out, ft_status *st)
{
    ft_code rc = answer_piece(b, r->layer->text + at, n, k, st);
    if (!rc)
        rc = ft_encoding_grow(out, b->count, offsets, st);
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
    if (offsets)
        find_origins(r->layer, out->starts + first, out->ends + first, b->count);
    return FT_OK;
}

/* Where there is room for a word's tokens, and WORD_READ bytes of ids. `out` is a copy
 * that the compiler keeps in registers: it cannot know that no id is written over the
 * encoding itself. */
static inline void put_word(const ft_word *w, const text_run *r, size_t at, int offsets, ft_encoding *out)
{
    const size_t first = out->count;
    memcpy(out->ids + first, w->ids, WORD_READ); /* more than there are: cheaper than a loop */
    out->count += w->count;
    if (!offsets)
        return;
    out->starts[first] = at;
    out->ends[first] = at + w->sizes[0];
    for (size_t i = 1; i < w->count; i++) {
        out->starts[first + i] = out->ends[first + i - 1];
        out->ends[first + i] = out->starts[first + i] + w->sizes[i];
    }
    const int ascii = !((w->key[0] | w->key[1]) & UINT64_C(0x8080808080808080));
    if (!r->plain || (w->count > 1 && !ascii))
        find_origins(r->layer, out->starts + first, out->ends + first, w->count);
}

/* The pieces that end at ends[0 .. count), the first one starting at `at`. Keys come
 * first, so that the words are on their way from memory while others are put. */
static inline __attribute__((always_inline)) ft_code put_pieces(ft_bpe *b, const text_run *r, size_t at,
                                                                const uint32_t *ends, size_t count, const int offsets,
                                                                ft_encoding *out, ft_status *st)
{
    word_key keys[BATCH];
    for (size_t i = 0, from = at; i < count; from = ends[i++]) {
        const char *p = r->end - from >= WORD_READ ? r->layer->text + from : r->tail + (from - r->tail_at);
        const size_t n = ends[i] - from;
        keys[i] = make_key(p, n <= WORD_BYTES ? n : WORD_BYTES);
        __builtin_prefetch(words_of(b, keys[i].hash));
    }
    ft_code rc = ft_encoding_grow(out, count * WORD_TOKENS + WORD_READ, offsets, st);
    ft_encoding copy = *out;
    for (size_t i = 0; !rc && i < count; at = ends[i++]) {
        const size_t n = ends[i] - at;
        const word_key *k = n <= WORD_BYTES ? &keys[i] : NULL;
        const ft_word *w = k ? find_word(b, k) : NULL;
        if (w) {
            put_word(w, r, at, offsets, &copy);
            continue;
        }
        out->count = copy.count;
        rc = put_piece(b, r, at, n, k, offsets, out, st);
        if (!rc)
            rc = ft_encoding_grow(out, (count - i) * WORD_TOKENS + WORD_READ, offsets, st);
        copy = *out;
    }
    out->count = copy.count;
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
    char tail[2 * WORD_READ] = {0};
    const size_t n = end - start < WORD_READ ? end - start : WORD_READ;
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
