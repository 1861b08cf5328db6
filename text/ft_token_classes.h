/* ft_token_classes: which tokens may begin a word, and which end a sentence.
 * OLMoTrace's spans depend on both sets; each is a bitmap over the vocabulary.
 *
 * Source  allenai/infinigram-api, bow_ids.txt: a word begins at every token that
 *         starts with a space, and at pure-whitespace ones that start with a newline. */
#ifndef FT_TOKEN_CLASSES_H
#define FT_TOKEN_CLASSES_H
#include "base/ft_status.h"
#include "text/ft_tokenizer.h"

FT_API_BEGIN

typedef struct ft_token_set {
    uint64_t *bits; /* bit id & 63 of word id >> 6 */
    uint32_t limit; /* ids at or above are not in the set */
} ft_token_set;

void ft_token_set_release(ft_token_set *s);
static inline int ft_token_set_has(const ft_token_set *s, uint32_t id)
{
    return id < s->limit && (s->bits[id >> 6] >> (id & 63) & 1);
}
/* Adds an id (ids beyond 2^24 are FT_ERR_LIMIT). */
FT_CHECKED ft_code ft_token_set_add(ft_token_set *s, uint32_t id, ft_status *st);

FT_CHECKED ft_code ft_token_set_word_starts(ft_token_set *out, const ft_tokenizer *t, ft_status *st);
/* Tokens whose text holds one of the strings (for sentences: "\n" and "."). */
FT_CHECKED ft_code ft_token_set_containing(ft_token_set *out, const ft_tokenizer *t, const char *const *strings,
                                           size_t count, ft_status *st);
/* One id a line, as OLMoTrace's bow_ids.txt; a bad line is FT_ERR_FORMAT with its number. */
FT_CHECKED ft_code ft_token_set_read(ft_token_set *out, const char *path, ft_status *st);

FT_API_END
#endif
