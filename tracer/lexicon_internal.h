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
    LEXEME_WHOLE = 2  /* nothing but letters (or empty): it neither begins nor ends a word */
};

/* A token: the end of the word that came before it, whole words, the beginning of one that
 * may go on. What is WHOLE is all `head`. */
typedef struct lexeme {
    const char *bytes;
    uint32_t size, characters;  /* characters: that begin in it */
    uint32_t first_word, words; /* those inside, in ft_lexicon.words */
    word_hash head, head_power, tail;
    uint8_t flags;
} lexeme;

struct ft_lexicon {
    const ft_tokenizer *tokenizer;
    lexeme *lexemes; /* [count] */
    uint32_t count;
    uint32_t *extents; /* [count] size and, above bit 16, characters: small enough to stay in a cache */
    word_hash *words;
    size_t word_count, word_capacity;
};

/* What an id beyond the vocabulary is: nothing. */
extern const lexeme lexeme_none;
static inline const lexeme *lexicon_find(const ft_lexicon *l, uint32_t id)
{
    return id < l->count ? &l->lexemes[id] : &lexeme_none;
}

/* Bytes and characters of tokens, added to what is there. */
void lexicon_measure(const ft_lexicon *l, const uint32_t *ids, size_t n, uint64_t *bytes, uint64_t *characters);

/* Walks text character by character. `open` is the word being read; visit(context, hash) gets each
 * that ends. Text may come in pieces that begin and end with whole characters. */
typedef ft_code word_visit(void *context, word_hash word, ft_status *st);
FT_CHECKED ft_code words_walk(const char *text, size_t bytes, word_hash *open, word_visit *visit, void *context,
                              ft_status *st);
/* The same for tokens; what is not plain is joined to text first, in `scratch`. */
FT_CHECKED ft_code words_walk_tokens(const ft_lexicon *l, const uint32_t *ids, size_t n, ft_buffer *scratch,
                                     word_hash *open, word_visit *visit, void *context, ft_status *st);
#endif
