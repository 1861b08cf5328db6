/* trace_maker: one trace being made, and what its steps share.
 *
 *   ft_trace.c         the whole: tokens, spans, experts
 *   trace_documents.c  which documents a span stands in, ranked
 *   trace_shown.c      what is shown of a document
 *   trace_merged.c     documents over spans, spans over overlaps
 *   trace_evidence.c   evidence and verdict of a span */
#ifndef FT_TRACE_MAKER_H
#define FT_TRACE_MAKER_H
#include "base/ft_beside.h"
#include "tracer/tracer_internal.h"

/* What the steps of one trace share. */
typedef struct trace_maker {
    const ft_trace_scope *scope;
    const ft_trace_input *input;
    const ft_trace_options *options;
    const ft_lexicon *lexicon; /* NULL without a tokenizer */
    ft_lexicon *own_lexicon;   /* where the scope has none */
    flat_indexes flat;
    ft_spans spans;
    text_map text; /* of the response; empty without a tokenizer */
    found_list found;
    uint32_t *ids; /* [ids_capacity] of a document, scratch */
    size_t ids_capacity;
    text_map shown; /* of a document, scratch */
    size_t experts;
    double *shares;      /* [experts], scratch */
    size_t shown_tokens; /* of the text that it may show */
    size_t characters;
    int failed; /* memory ran out while JSON was made */
} trace_maker;

/* Up to max_documents documents of every span, scored against prompt and response, into m->found. */
FT_CHECKED ft_code find_documents(trace_maker *m, ft_status *st);
/* Tokens [*from, *to) of the document: the match with so many before and after it. */
void window_around(const found *f, size_t match_tokens, size_t before, size_t after, uint64_t *from, uint64_t *to);
/* FT_ERR_CANCELLED when the caller asks to stop; asked at every 64th step. */
FT_CHECKED ft_code go_on(const ft_trace_options *options, size_t step, ft_status *st);

/* Sets start, end, start_byte … end_char and text of a stretch of the response; null without a tokenizer. */
void put_stretch(trace_maker *m, json_t *out, size_t start, size_t end);
/* Shares of mixing weight over response tokens [start, end); null where no routing says anything. */
json_t *shares_json(trace_maker *m, size_t start, size_t end);
/* Puts them into m->shares; 0 where there are none. */
int has_shares(trace_maker *m, size_t start, size_t end);
/* Counts text that will be shown; FT_ERR_LIMIT when a trace would hold too much. */
FT_CHECKED ft_code show_tokens(trace_maker *m, size_t tokens, ft_status *st);
const char *relevance_of(const trace_maker *m, double score); /* "high", "medium", "low" */

/* What stands before each snippet is measured, where the options ask for places in the whole document. That reads whole
 * documents, and depends on where matches lie alone: so a second thread begins with it while they are ranked, and both
 * go on, document by document, until none is left. What comes out is the same.
 *   begin  m->found stays where it is and in its order until `end`, and of its items only `score` may be changed
 *   end    always after begin, with what became of the work between: after a failure no document is begun */
typedef struct placing {
    const trace_maker *m;
    found **order;  /* by document, in one by place */
    size_t *starts; /* of each document in `order`, and the end */
    ft_beside tasks;
} placing;
FT_CHECKED ft_code placing_begin(placing *p, const trace_maker *m, ft_status *st);
FT_CHECKED ft_code placing_end(placing *p, ft_code rc, ft_status *st);
/* JSON of one found document; NULL with *st set. */
json_t *document_json(trace_maker *m, const found *f, ft_status *st);
/* Sets "text", "text_position" and "matches" of a merged document: the group's places, the text
 * around `best`. */
FT_CHECKED ft_code put_document_text(trace_maker *m, json_t *out, const found *const *group, size_t count,
                                     const found *best, ft_status *st);
/* Each document once, with its best score; best first. */
FT_CHECKED ft_code documents_json(trace_maker *m, const json_t *spans, json_t **out, ft_status *st);
/* Spans that overlap as one. */
json_t *merged_spans_json(trace_maker *m, const json_t *documents);
/* Sets "evidence" and the verdict of a span. */
FT_CHECKED ft_code put_evidence(trace_maker *m, json_t *out, size_t number, ft_status *st);
/* The trace's own "evidence": thresholds and usual shares. */
json_t *evidence_json(trace_maker *m);

#endif
