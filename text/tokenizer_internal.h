/* tokenizer_internal: what the files of the tokenizer share.
 *
 * tokenizer_open.c     vocabulary, merges, added tokens, tokenizer_config.json
 * tokenizer_steps.c    normalizer, pre_tokenizer, post_processor, decoder as read
 * tokenizer_added.c    finding added tokens in text
 * tokenizer_pieces.c   text under work: pieces, and where their bytes came from
 * tokenizer_normalize.c, tokenizer_split.c   the steps, on pieces
 * tokenizer_bpe.c      merging
 * tokenizer_words.c    the cache of words, and encoding through it
 * ft_tokenizer.c       encoders; tokenizer_decode.c decoding
 *
 * Encoding follows the reference step by step. Text under work is a layer: bytes,
 * and for each byte the range of the caller's text it stands for. While nothing
 * has changed the text, a layer is the text itself and ranges are its characters.
 * A piece is a range of a layer that the next steps treat alone. */
#ifndef FT_TOKENIZER_INTERNAL_H
#define FT_TOKENIZER_INTERNAL_H
#include "text/ft_tokenizer.h"
#include "text/pattern_internal.h"
#include "text/regex_internal.h"

#include <jansson.h>

enum { FT_MAX_TOKEN_ID = (1 << 24) - 1, FT_MAX_ENTRIES = 1 << 23, FT_MAX_STEPS = 256 };

typedef struct ft_view32 {
    uint32_t at, size;
} ft_view32;

typedef struct ft_added_token {
    ft_view32 content; /* in strings */
    ft_view32 shown;   /* what it decodes from: the content, or its normalized form */
    uint32_t id;
    char single_word, lstrip, rstrip, normalized, special;
} ft_added_token;

/* A trie node: children are a list of siblings. */
typedef struct ft_trie_node {
    uint32_t child, next; /* 0: none */
    uint32_t token;       /* index into added tokens, or FT_NO_TOKEN */
    uint8_t byte;
} ft_trie_node;
enum { FT_TRIE_FEW = 4 };
typedef struct ft_trie {
    ft_trie_node *nodes; /* node 0 is the root; its children are found by first */
    size_t count, capacity;
    uint32_t first[256]; /* node for each first byte; 0: none */
    uint8_t firsts[FT_TRIE_FEW];
    size_t firsts_count; /* how many there are; only the first few are noted */
} ft_trie;

typedef enum ft_normalizer_kind {
    FT_NORM_NFC,
    FT_NORM_NFD,
    FT_NORM_NFKC,
    FT_NORM_NFKD,
    FT_NORM_LOWERCASE,
    FT_NORM_STRIP,
    FT_NORM_STRIP_ACCENTS,
    FT_NORM_REPLACE,
    FT_NORM_PREPEND,
    FT_NORM_BYTES
} ft_normalizer_kind;
typedef struct ft_normalizer {
    ft_normalizer_kind kind;
    ft_regex *regex; /* Replace */
    ft_buffer text;  /* Replace: content; Prepend */
    int left, right; /* Strip */
} ft_normalizer;

typedef enum ft_behavior {
    FT_REMOVED,
    FT_ISOLATED,
    FT_MERGED_WITH_PREVIOUS,
    FT_MERGED_WITH_NEXT,
    FT_CONTIGUOUS
} ft_behavior;
typedef struct ft_splitter {
    ft_regex *regex;   /* NULL: bytes only (ByteLevel without its regex) */
    ft_cutter *cutter; /* does the same as regex and behavior; NULL where the pattern is not known by heart */
    ft_behavior behavior;
    int invert;
    int add_prefix_space, to_bytes; /* ByteLevel: before, and after */
} ft_splitter;

typedef struct ft_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX where the slot is free */
    uint32_t rank, id;
} ft_merge;

typedef struct ft_spelled {
    uint32_t tag, id; /* the hash's upper half; id FT_NO_TOKEN where the slot is free */
} ft_spelled;

struct ft_tokenizer {
    char *path;
    ft_digest digest;
    uint32_t size; /* one past the largest id */
    uint32_t end_of_text;

    ft_buffer strings;     /* entries as the file spells them, each with a NUL behind */
    ft_buffer bytes;       /* what they decode to */
    ft_view32 *spelling;   /* [size] in strings */
    ft_view32 *decoded;    /* [size] in bytes */
    unsigned char *flags;  /* [size] FT_TOKEN_… */
    uint32_t *by_spelling; /* hash table of ids of the vocabulary; FT_NO_TOKEN: free */
    size_t by_spelling_mask;
    uint32_t vocabulary; /* entries of model.vocab */

    ft_merge *merges; /* hash table */
    size_t merges_shift, merges_mask;
    uint64_t *merges_seen; /* eight bits a slot: set where a pair's hash falls. Most pairs
                            * that are asked for do not merge, and this is small enough to stay near */
    uint32_t byte_id[256]; /* id of each byte's letter of the byte alphabet */
    int bytes_complete;    /* all 256 are there */
    int ignore_merges, fuse_unk, byte_fallback;
    uint32_t unk_id;           /* FT_NO_TOKEN: none asked for */
    uint32_t fallback_id[256]; /* <0xNN> */
    ft_spelled *by_bytes;      /* hash table of the entries that bytes spell, by their bytes */
    size_t by_bytes_mask;

    ft_added_token *added;
    size_t added_count;
    uint32_t *by_content; /* hash table of indices into added; FT_NO_TOKEN: free */
    size_t by_content_mask;
    ft_trie raw, normalized;
    ft_classes *word, *space; /* for single_word, and for lstrip and rstrip */

    ft_normalizer *normalizers;
    size_t normalizers_count, normalizers_capacity;
    ft_splitter *splitters;
    size_t splitters_count, splitters_capacity;
    ft_classes *normalizer_knows, *accents;
    unsigned char *trims; /* [trims_count] add_prefix_space of each post-processor that trims offsets */
    size_t trims_count, trims_capacity;
    int byte_level;          /* the last splitter, and no other, turns text to bytes */
    const ft_cutter *cutter; /* all that the splitters do, but for turning to bytes; NULL: more than that */
};

enum { FT_TOKEN_USED = 1, FT_TOKEN_SPECIAL = 2, FT_TOKEN_ADDED = 4 };

/* The byte alphabet: the letter that stands for a byte, and back (-1: none). */
uint32_t ft_byte_letter(unsigned byte);
int ft_letter_byte(uint32_t code_point);

uint64_t ft_hash_bytes(const void *bytes, size_t n);
/* Id of a vocabulary entry (not of added tokens); FT_NO_TOKEN. */
uint32_t ft_vocabulary_find(const ft_tokenizer *t, const char *spelling, size_t n);
/* The added token with this content, or NULL. */
ft_added_token *ft_added_find(const ft_tokenizer *t, const char *content, size_t n);
static inline uint64_t ft_merge_hash(uint64_t pair)
{
    return pair * UINT64_C(0x9E3779B97F4A7C15);
}
static inline int ft_merge_may_exist(const ft_tokenizer *t, uint64_t hash)
{
    const size_t bit = (size_t)(hash >> (t->merges_shift - 3));
    return (int)(t->merges_seen[bit >> 6] >> (bit & 63) & 1);
}
static inline const ft_merge *ft_merge_find(const ft_tokenizer *t, uint32_t left, uint32_t right)
{
    const uint64_t pair = (uint64_t)left << 32 | right, hash = ft_merge_hash(pair);
    if (!ft_merge_may_exist(t, hash))
        return NULL;
    size_t at = (size_t)(hash >> t->merges_shift);
    while (t->merges[at].pair != pair) {
        if (t->merges[at].pair == UINT64_MAX)
            return NULL;
        at = (at + 1) & t->merges_mask;
    }
    return &t->merges[at];
}

FT_CHECKED ft_code ft_steps_read(ft_tokenizer *t, const json_t *root, ft_status *st);
void ft_steps_release(ft_tokenizer *t);

FT_CHECKED ft_code ft_trie_add(ft_trie *trie, const char *text, size_t n, uint32_t token, int *taken, ft_status *st);

/* Text under work. begin/end [size]: the range of the original that each byte
 * stands for; both NULL while the layer is the original. */
typedef struct ft_layer {
    const char *text;
    size_t size;
    ft_buffer owned;
    uint32_t *begin, *end;
    size_t begin_capacity, end_capacity;
    int gaps; /* some byte stands for an empty range */
} ft_layer;

typedef struct ft_piece {
    uint32_t start, end; /* in the layer */
    uint32_t from, to;   /* in the original */
    uint32_t token;      /* an added token's id, or FT_NO_TOKEN */
} ft_piece;
typedef struct ft_pieces {
    ft_piece *items;
    size_t count, capacity;
} ft_pieces;

/* A character that takes part in a change, as the reference tells changes:
 * change 1 is new, 0 replaces, -n replaces and swallows n more. */
typedef struct ft_change {
    uint32_t code_point;
    int32_t change;
} ft_change;
typedef struct ft_changes {
    ft_change *items;
    size_t count, capacity;
} ft_changes;

/* A character on its way through normalization. */
typedef struct ft_norm_char {
    uint32_t code_point, begin, end;
    uint8_t class; /* canonical combining class */
} ft_norm_char;

typedef struct ft_span32 {
    uint32_t start, end;
    int match;
} ft_span32;

typedef struct ft_work {
    const ft_tokenizer *t;
    ft_layer layers[2];
    int now; /* layers[now] is read, the other written */
    ft_pieces pieces, next;
    ft_matcher *matcher;
    ft_changes changes;
    ft_norm_char *chars;
    size_t chars_capacity, chars_count;
    ft_span32 *spans, *merged;
    size_t spans_capacity, merged_capacity;
} ft_work;

void ft_work_release(ft_work *w);
/* Starts on a text of at most 2^31 - 1 bytes of valid UTF-8: one piece. */
FT_CHECKED ft_code ft_work_start(ft_work *w, const char *text, size_t n, ft_status *st);
static inline ft_layer *ft_work_layer(ft_work *w)
{
    return &w->layers[w->now];
}
/* Nothing has changed the text yet. */
int ft_layer_is_original(const ft_layer *l);
/* The range of the original behind byte `at` of the present layer. */
void ft_layer_origin(const ft_layer *l, size_t at, uint32_t *begin, uint32_t *end);
/* The range of the original behind bytes [start, end) of a piece. */
ft_span32 ft_piece_origin(const ft_layer *l, const ft_piece *p, uint32_t start, uint32_t end);
/* A sub-range of a piece, as a piece. */
ft_piece ft_piece_slice(const ft_layer *l, const ft_piece *p, uint32_t start, uint32_t end);
FT_CHECKED ft_code ft_pieces_push(ft_pieces *list, ft_piece piece, ft_status *st);

/* Writing the next layer: begin, then for each piece of the present one put bytes
 * or copy, then swap. Empty pieces vanish, except added tokens. */
FT_CHECKED ft_code ft_layer_begin(ft_work *w, ft_status *st);
FT_CHECKED ft_code ft_layer_put(ft_work *w, uint32_t code_point, uint32_t begin, uint32_t end, ft_status *st);
FT_CHECKED ft_code ft_layer_copy(ft_work *w, uint32_t start, uint32_t end, ft_status *st);
FT_CHECKED ft_code ft_layer_close_piece(ft_work *w, const ft_piece *old, size_t start, ft_status *st);
void ft_layer_swap(ft_work *w);
/* The reference's `transform` of one piece by w->changes. */
FT_CHECKED ft_code ft_layer_transform(ft_work *w, const ft_piece *p, size_t initial_removed, ft_status *st);
/* Turns the unresolved pieces' bytes to letters of the byte alphabet. */
FT_CHECKED ft_code ft_work_to_letters(ft_work *w, ft_status *st);
/* Puts text in front of every unresolved piece (of those without it when `missing`). */
FT_CHECKED ft_code ft_work_prepend(ft_work *w, const char *text, size_t n, int missing, ft_status *st);

FT_CHECKED ft_code ft_work_normalize(ft_work *w, ft_status *st);
FT_CHECKED ft_code ft_work_split_added(ft_work *w, const ft_trie *trie, ft_status *st);
/* Runs the pre-tokenizer. *bytes: pieces hold plain bytes, the letters are left to the model. */
FT_CHECKED ft_code ft_work_split(ft_work *w, int *bytes, ft_status *st);

/* The model. A piece's tokens go to ids and lengths (bytes of the piece each). */
typedef struct ft_symbol {
    uint32_t id, size; /* size 0: merged away */
    uint32_t previous, next;
} ft_symbol;
typedef struct ft_candidate {
    uint32_t rank, at, id;
} ft_candidate;
typedef struct ft_bpe {
    const ft_tokenizer *t;
    ft_symbol *symbols;
    size_t symbols_count, symbols_capacity;
    ft_candidate *heap;
    size_t heap_count, heap_capacity;
    ft_merge *pairs; /* a few of t->merges, those that came last */
    void *tables;    /* the cache of words: both of its tables */
    struct ft_word *words;
    struct ft_long_word *long_words;
    uint8_t *whole;        /* [t->size] whether an entry's bytes merge to the entry: 0 not tried yet, 1 no, 2 yes */
    uint32_t *ids, *sizes; /* the answer */
    size_t count, ids_capacity, sizes_capacity;
} ft_bpe;

FT_CHECKED ft_code ft_bpe_init(ft_bpe *b, const ft_tokenizer *t, ft_status *st);
void ft_bpe_release(ft_bpe *b);
FT_CHECKED ft_code ft_words_init(ft_bpe *b, ft_status *st);
FT_CHECKED ft_code ft_bpe_answer(ft_bpe *b, uint32_t id, uint32_t size, ft_status *st);
/* A piece by merging its bytes alone. */
FT_CHECKED ft_code ft_bpe_merge(ft_bpe *b, const char *text, size_t n, ft_status *st);
/* A piece of letters, or of whatever else. */
FT_CHECKED ft_code ft_bpe_merge_letters(ft_bpe *b, const char *text, size_t n, ft_status *st);
/* `bytes`: the text is bytes that the byte alphabet's letters stand for. */
FT_CHECKED ft_code ft_bpe_piece(ft_bpe *b, const char *text, size_t n, int bytes, ft_status *st);

/* Room for `more` further tokens, with their offsets or without. */
FT_CHECKED ft_code ft_encoding_grow(ft_encoding *out, size_t more, int offsets, ft_status *st);
/* Cuts the bytes [start, end) of the layer with the tokenizer's cutter and appends
 * the tokens of the pieces: what ft_work_split and ft_bpe_piece give, faster. */
FT_CHECKED ft_code ft_bpe_encode(ft_bpe *b, const ft_layer *l, uint32_t start, uint32_t end, int offsets,
                                 ft_encoding *out, ft_status *st);
/* Fills t->by_bytes. */
FT_CHECKED ft_code ft_words_index(ft_tokenizer *t, ft_status *st);

/* Normalizes a text outside any encoding: for the content of added tokens. */
FT_CHECKED ft_code ft_normalize_text(const ft_tokenizer *t, const char *text, size_t n, ft_buffer *out, ft_status *st);
#endif
