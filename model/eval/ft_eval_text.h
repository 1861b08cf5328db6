/* ft_eval_text: a domain's documents as token ids, for measuring.
 *
 * Each document is its text's ids and one end-of-text token. `bytes` are the UTF-8
 * bytes of the text alone: what bits per byte are divided by.
 * Memory    4 bytes a token, 32 and its id a document.
 * Lifetime  a plain struct that the caller closes.
 * Threads   read by any number. */
#ifndef FT_EVAL_TEXT_H
#define FT_EVAL_TEXT_H
#include "base/ft_progress.h"
#include "text/ft_tokenizer.h"

FT_API_BEGIN

typedef struct ft_eval_document {
    size_t first, count; /* its ids: ids[first .. first + count), the end of the text among them */
    uint64_t bytes;
    char *id;
} ft_eval_document;

typedef struct ft_eval_text {
    uint32_t *ids;
    size_t tokens, token_capacity;
    ft_eval_document *documents;
    size_t count, document_capacity;
    uint64_t bytes;
} ft_eval_text;

/* Reads documents in the corpus' order until `max_bytes` of text are reached (0: all); a document is
 * never cut. Empty ones are passed over.
 *   FT_ERR_FORMAT  no document, a tokenizer with more ids than `vocab`, or without an end-of-text token
 *   FT_ERR_CANCELLED  progress said so */
FT_CHECKED ft_code ft_eval_text_open(ft_eval_text *out, const char *const *paths, size_t count,
                                     const ft_tokenizer *tokenizer, size_t vocab, uint64_t max_bytes,
                                     const ft_progress *progress, ft_status *st);
void ft_eval_text_close(ft_eval_text *t); /* a zeroed struct is allowed */

FT_API_END
#endif
