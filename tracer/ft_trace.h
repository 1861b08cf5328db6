/* ft_trace: one generation (or a text from elsewhere) with its spans, documents,
 * owners and routing: what the page draws, the store keeps and a receipt states.
 *
 * The trace is a JSON value from the moment it is made (docs/trace.md has every
 * field); routing, the bulky part, travels beside it.
 *
 * Threads  a federation may be shared; a trace has one owner. While it is made a second thread searches indexes and
 *          reads documents beside the caller's (base/ft_beside.h); nothing depends on it but the time. */
#ifndef FT_TRACE_H
#define FT_TRACE_H
#include "base/ft_json.h"
#include "model/ft_engine.h"
#include "text/ft_tokenizer.h"
#include "tracer/ft_causal.h"
#include "tracer/ft_evidence.h"
#include "tracer/ft_lexicon.h"
#include "tracer/ft_spans.h"
#include "tracer/ft_usual.h"

FT_API_BEGIN

enum { FT_MAX_OWNERS = 64 };

typedef struct ft_owner {
    const char *name, *description;
    int expert; /* its number in the model, -1: none */
    const ft_index *const *indexes;
    size_t index_count;
} ft_owner;

/* Everything that a trace is made against; the caller owns all that it points to. */
typedef struct ft_trace_scope {
    const ft_tokenizer *tokenizer; /* NULL: ids only, no snippets, no text */
    const ft_model *model;         /* NULL: no routing */
    const ft_owner *owners;
    size_t owner_count;
    const ft_lexicon *lexicon;       /* of the tokenizer; NULL: made anew for each trace */
    const ft_thresholds *thresholds; /* of verdicts; NULL: the defaults */
    const ft_usual *usual;           /* experts' usual shares; NULL, or of 0 tokens: not known */
    ft_token_set delimiters, word_starts;
} ft_trace_scope;

typedef struct ft_trace_options {
    ft_span_rules rules;
    size_t max_documents;   /* a span; 10 */
    size_t snippet_tokens;  /* around the match; 80 */
    size_t document_tokens; /* of a document's text, around its best match; 500 */
    int document_places;    /* 1: where matches lie in the whole document, in bytes and characters; costs reading
                               each document up to its match */
    uint64_t sample_seed;   /* which occurrences are shown where there are more */
    /* Asked now and then while documents are read; non-zero ends the work with
     * FT_ERR_CANCELLED. NULL: never. */
    int (*stop)(void *context);
    void *stop_context;
} ft_trace_options;
ft_trace_options ft_trace_options_default(const ft_trace_scope *scope);

typedef struct ft_trace_input {
    const uint32_t *prompt; /* may be NULL */
    size_t prompt_count;
    const uint32_t *response;
    size_t response_count;
    const ft_routing *routing;      /* of prompt + response as one timeline; NULL: none */
    uint64_t without;               /* experts that took no part */
    const ft_causal_result *causal; /* of the same timeline; NULL: none */
} ft_trace_input;

/* Spans, documents ranked by BM25, owners, shares; the whole routing where there is
 * one. *out is a new JSON object with every field of docs/trace.md but "id" and
 * "created"; "model", "finish_reason" and "parameters" are null, for the caller to set.
 *   FT_ERR_LIMIT   more than a million documents (spans x max_documents), or more
 *                  text in their snippets than a trace holds (8 million tokens)
 *   FT_ERR_FORMAT  an index turned out to be damaged */
FT_CHECKED ft_code ft_trace_make(const ft_trace_scope *scope, const ft_trace_input *input,
                                 const ft_trace_options *options, json_t **out, ft_status *st);

/* Share of mixing weight of each expert in the passes that WROTE tokens
 * [start, end) of a timeline, mean over layers and tokens, summing to 1;
 * shares [experts]. Token 0 has no such pass and is left out; 0 tokens give zeros. */
void ft_routing_shares(const ft_routing *r, size_t start, size_t end, double *shares);

/* The trace's "routing" field: chosen experts and weights of every token and layer,
 * base64. New reference; NULL when memory is out. */
json_t *ft_routing_json(const ft_trace_scope *scope, const ft_routing *r, uint64_t without);

/* SHA-256 over the chosen ids (int32) and then the weights (float32), little-endian, in the
 * order token, layer, rank: the exact values, whatever the store rounds. */
ft_digest ft_routing_digest(const ft_routing *r);

/* What a receipt needs to know of a generation ("provenance"), for the caller of ft_trace_make to
 * set before the trace is kept. The engine: version, kernels, precision, and which model: its files' identity,
 * and the experts that federation.yaml has opted out (ft_model_identity_text). The output: the text as it was handed out (NULL: none),
 * and where in the response generation began (0, or the length of a prompt that is traced with it). */
FT_CHECKED ft_code ft_trace_set_engine(json_t *trace, const ft_model *m, uint64_t opted_out, const ft_engine_options *how,
                                       ft_status *st);
FT_CHECKED ft_code ft_trace_set_output(json_t *trace, const char *text, size_t bytes, size_t generated_from,
                                       ft_status *st);

/* The owner of that name; NULL: none. */
const ft_owner *ft_trace_owner(const ft_trace_scope *scope, const char *name);
/* The name of an expert's owner; "expert N", written into `fallback`, where it has none. */
enum { FT_EXPERT_NAME = 32 };
const char *ft_trace_expert_name(const ft_trace_scope *scope, size_t expert, char fallback[FT_EXPERT_NAME]);
/* The names of all experts in a bit set, as a JSON array; NULL when memory is out. */
json_t *ft_trace_expert_names(const ft_trace_scope *scope, uint64_t bits);

FT_API_END
#endif
