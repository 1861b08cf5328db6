/* ft_lexicon: a vocabulary's tokens as pieces of words and of text, worked out once, so that
 * ranking documents and placing their tokens in text need not look at letters again.
 *
 * Lifetime  the tokenizer must outlive it.
 * Threads   immutable: any number may share one.
 * Memory    some 60 bytes for each entry of the vocabulary. */
#ifndef FT_LEXICON_H
#define FT_LEXICON_H
#include "text/ft_tokenizer.h"

FT_API_BEGIN

typedef struct ft_lexicon ft_lexicon;
/* O(bytes of the vocabulary): some milliseconds for 100,000 entries. FT_ERR_LIMIT: a token of more than
 * 65,535 bytes. */
FT_CHECKED ft_code ft_lexicon_new(ft_lexicon **out, const ft_tokenizer *t, ft_status *st);
void ft_lexicon_free(ft_lexicon *l);

FT_API_END
#endif
