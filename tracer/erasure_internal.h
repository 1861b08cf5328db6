/* What the files of ft_erasure share. */
#ifndef FT_ERASURE_INTERNAL_H
#define FT_ERASURE_INTERNAL_H
#include "tracer/ft_erasure.h"

/* Tokens of an erased document. */
typedef struct erased_text {
    uint32_t *ids;
    size_t count;
} erased_text;

typedef struct erased {
    const ft_erasure *e;
    erased_text *texts;
    size_t count, capacity;
} erased;

/* Keeps the document's tokens, which the caller frees. */
FT_CHECKED ft_code ft_erased_add(erased *what, const ft_index *index, const ft_doc_ref *doc, ft_status *st);

/* Redacts the trace in place; *spans and *tokens say how much (0: nothing of it is concerned). */
FT_CHECKED ft_code redact_trace(json_t *trace, const erased *what, size_t *spans, size_t *tokens, ft_status *st);

#endif
