/* What the files of ft_erasure share. */
#ifndef FT_ERASURE_INTERNAL_H
#define FT_ERASURE_INTERNAL_H
#include "base/ft_buffer.h"
#include "tracer/ft_erasure.h"

/* Tokens of an erased document. */
typedef struct erased_text {
    uint32_t *ids;
    size_t count;
} erased_text;

typedef struct erased {
    const ft_erasure *e;
    const ft_tokenizer *tokenizer; /* NULL: of a prompt the ids alone are redacted */
    erased_text *texts;
    size_t count, capacity;
    uint64_t *runs; /* [run_count] hashes, rising: of every so many tokens in a row */
    size_t run_count;
} erased;
void erased_release(erased *what);

/* Words of a document that are in no span are found where so many tokens stand in a row (or min_tokens, if that is
 * more): fewer may stand anywhere by chance. */
enum { ERASED_RUN_TOKENS = 8 };

/* To be called when all texts are there, before redact_trace. */
FT_CHECKED ft_code erased_prepare(erased *what, ft_status *st);

/* The first stretch of ids[0..count) from `from` on that is nothing but such runs; 0: there is none. */
int erased_next_run(const erased *what, const uint32_t *ids, size_t count, size_t from, size_t *start, size_t *end);

/* Keeps the document's tokens, which the caller frees. */
FT_CHECKED ft_code ft_erased_add(erased *what, const ft_index *index, const ft_doc_ref *doc, ft_status *st);

/* Whether some list of ids in a trace's JSON has such a run; the trace is not parsed for it. */
FT_CHECKED ft_code erased_repeated(const erased *what, const ft_buffer *trace, int *yes, ft_status *st);

/* Redacts the trace in place; *spans (and other stretches) and *tokens of the response say how much. *spans 0: nothing
 * of it is concerned. */
FT_CHECKED ft_code redact_trace(json_t *trace, const erased *what, size_t *spans, size_t *tokens, ft_status *st);

#endif
