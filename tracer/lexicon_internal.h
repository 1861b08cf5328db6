/* What a token is to words and to text (ft_lexicon.c); ranking (ft_bm25.c) and placing
 * (trace_text.c) read it. */
#ifndef FT_LEXICON_INTERNAL_H
#define FT_LEXICON_INTERNAL_H
#include "tracer/ft_lexicon.h"

/* A word is told by a polynomial over its lower-cased bytes, modulo 2^61 - 1, so that the
 * pieces that tokens cut it into can be put together:
 *   hash(ab) = hash(a) * BASE^|b| + hash(b).
 * Two of a million words share a hash with a chance of 1 in 10^5 for words of ten letters. */
typedef uint64_t word_hash; /* 0: no letters */

static inline word_hash word_hash_mul(word_hash a, word_hash b)
{
    const uint64_t prime = (UINT64_C(1) << 61) - 1;
    const unsigned __int128 product = (unsigned __int128)a * b;
    const uint64_t sum = (uint64_t)(product & prime) + (uint64_t)(product >> 61);
    return sum >= prime ? sum - prime : sum;
}

static inline word_hash word_hash_join(word_hash a, word_hash b, word_hash power_of_b)
{
    const uint64_t prime = (UINT64_C(1) << 61) - 1;
    const uint64_t sum = word_hash_mul(a, power_of_b) + b;
    return sum >= prime ? sum - prime : sum;
}

enum {
    LEXEME_PLAIN = 1, /* valid UTF-8 by itself (or empty): it may be looked at alone */
    LEXEME_WHOLE = 2, /* nothing but letters (or empty): it neither begins nor ends a word */
    LEXEME_EMPTY = 4
};

/* A token as words: the end of the word that came before it, whole words, the beginning of one that
 * may go on. What is WHOLE is all `head`. */
typedef struct lexeme {
    word_hash head, tail;
    uint32_t first_word, words; /* those inside, in ft_lexicon.words */
    uint32_t head_bytes;        /* of the lower-cased head; its power is in ft_lexicon.powers */
    uint8_t flags;
} lexeme;
_Static_assert(sizeof(lexeme) == 32, "two in a cache line, none in two");

/* A token as text: one that is PLAIN and short carries its bytes, so that nothing else need be looked at. */
enum { SPELLED_BYTES = 14, SPELLED_APART = 0xFF };
typedef struct spelling {
    uint8_t size; /* SPELLED_APART: of all others */
    uint8_t characters;
    char bytes[SPELLED_BYTES];
} spelling;
_Static_assert(sizeof(spelling) == 16, "four in a cache line");

struct ft_lexicon {
    const ft_tokenizer *tokenizer;
    uint32_t count;
    /* [count + 1] each; the last stands for every id beyond the vocabulary: nothing. */
    lexeme *lexemes;
    spelling *spellings;
    uint32_t *extents;    /* size and, above bit 16, characters that begin in it */
    uint32_t longest;     /* token, bytes; at least 1 */
    word_hash *powers;    /* [power_count] of BASE */
    size_t power_count, power_capacity;
    word_hash *words;
    size_t word_count, word_capacity;
};

static inline uint32_t lexicon_slot(const ft_lexicon *l, uint32_t id)
{
    return id < l->count ? id : l->count;
}
static inline const lexeme *lexicon_find(const ft_lexicon *l, uint32_t id)
{
    return &l->lexemes[lexicon_slot(l, id)];
}
static inline uint32_t lexicon_characters(const ft_lexicon *l, uint32_t id)
{
    return l->extents[lexicon_slot(l, id)] >> 16;
}
/* Its bytes, as the tokenizer has them. */
const char *lexicon_bytes(const ft_lexicon *l, uint32_t id, size_t *size);

/* Bytes and characters of tokens, added to what is there. */
void lexicon_measure(const ft_lexicon *l, const uint32_t *ids, size_t n, uint64_t *bytes, uint64_t *characters);

/* Walks text character by character. `open` is the word being read; visit(context, hash) gets each
 * that ends. Text may come in pieces that begin and end with whole characters. */
typedef ft_code word_visit(void *context, word_hash word, ft_status *st);
FT_CHECKED ft_code words_walk(const char *text, size_t bytes, word_hash *open, word_visit *visit, void *context,
                              ft_status *st);
/* The words that end in tokens, appended to a list; what is not plain is joined to text first, in `scratch`. */
typedef struct word_list {
    word_hash *words;
    size_t count, capacity;
} word_list;
FT_CHECKED ft_code words_of_tokens(const ft_lexicon *l, const uint32_t *ids, size_t n, ft_buffer *scratch,
                                   word_hash *open, word_list *out, ft_status *st);
#endif
