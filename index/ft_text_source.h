/* ft_text_source: documents of a corpus as tokens, in the corpus's order, made by all
 * threads of a pool.
 *
 * A batch of the corpus is cut into pieces, lines or whole files, by one thread (that
 * decompresses, and looks for line ends); all threads then parse and tokenize the pieces,
 * while one of them cuts the next batch. What comes out, documents, messages and counts, is
 * what one thread would give.
 *
 * Memory   ft_text_source_bytes, as long as no document is larger than a batch.
 * Threads  one owner; uses the pool inside its calls. */
#ifndef FT_TEXT_SOURCE_H
#define FT_TEXT_SOURCE_H
#include "base/ft_threads.h"
#include "text/ft_corpus.h"
#include "text/ft_tokenizer.h"

typedef struct ft_text_source ft_text_source;

/* The tokenizer and the pool outlive the source. Errors as of ft_corpus_open. */
FT_CHECKED ft_code ft_text_source_open(ft_text_source **out, const char *const *paths, size_t count,
                                       const ft_corpus_options *options, const ft_tokenizer *tokenizer, ft_pool *pool,
                                       size_t batch_bytes, ft_status *st);
void ft_text_source_close(ft_text_source *s); /* NULL is allowed */
/* What batches of this size take, for so many threads. */
uint64_t ft_text_source_bytes(size_t batch_bytes, unsigned threads);

/* Passes over the first n documents; before the first batch. */
void ft_text_source_skip(ft_text_source *s, uint64_t n);

typedef struct ft_text_document {
    const uint32_t *ids;
    size_t count;
    const char *id, *metadata; /* NUL-terminated */
    uint64_t text_bytes;
} ft_text_document;
typedef ft_code ft_text_document_fn(void *context, const ft_text_document *document, ft_status *st);

/* Gives the documents of one batch to `fn`, whose failure ends the call; 0 in *more: it was
 * the last. A batch may hold none. Errors as of ft_corpus_next. */
FT_CHECKED ft_code ft_text_source_next(ft_text_source *s, ft_text_document_fn *fn, void *context, int *more,
                                       ft_status *st);
ft_corpus_counts ft_text_source_progress(const ft_text_source *s);

#endif
