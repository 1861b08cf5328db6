/* ft_audit: what auditors, owners and researchers ask of a store: proofs, reports, routing in numbers.
 *
 * Threads  any number; each call reads snapshots of its own. */
#ifndef FT_AUDIT_H
#define FT_AUDIT_H
#include "tracer/ft_store.h"
#include "tracer/ft_trace.h"

FT_API_BEGIN

/* RFC 3339 ("2026-01-31T12:00:00Z", "…+02:00") or a day ("2026-01-31"), as milliseconds since 1970. FT_ERR_ARG says
 * what it must look like. */
FT_CHECKED ft_code ft_audit_time_read(const char *text, uint64_t *ms, ft_status *st);

/* Of a row (ft_store_query) the spans that have what the filter asks of a span, in the row's "spans"; the others are
 * taken out. Adds "matched": {"spans", "tokens", "longest"}. */
FT_CHECKED ft_code ft_audit_keep_spans(json_t *row, const ft_store_filter *filter, ft_status *st);

/* Whether an expert took part in a trace, recomputed from its stored routing: {"expert", "rows", "places", "chosen",
 * "weight", "took_part"}: rows are passes, places are rows × layers, chosen how often it was, weight the sum of its
 * mixing weights. A trace without routing: all but "expert" null. New reference in *out. */
FT_CHECKED ft_code ft_audit_took_part(ft_store *s, const char *id, int expert, json_t **out, ft_status *st);

/* What became of an owner's corpus and expert, or of a document: {"owner", "expert", "from", "to", "filters": {…},
 * "outputs", "outputs_with_spans", "spans", "tokens", "longest", "opted_out", "verdicts": {…}, "documents": [{"id",
 * "spans", "outputs", "longest"}] (the most repeated, at most `most`), "distinct_documents", "routing": {"share",
 * "tokens"}}. The filter's owner, document, verdict and min_tokens say which spans are counted, all else which outputs
 * are looked at; "filters" has what was asked beyond owner and time. share: mean over these outputs' tokens, of outputs
 * with routing; expert -1: none. FT_ERR_ARG: neither owner nor document. O(outputs that are looked at). */
FT_CHECKED ft_code ft_audit_usage(ft_store *s, const ft_store_filter *filter, int expert, size_t most, json_t **out,
                                  ft_status *st);

/* Orders of opt-out in force ("orders" of the log's newest line FT_OPTOUTS_LINE), a new list in *orders, empty where
 * none was given; and the experts of their owners, by name: an owner's expert may have another number since. */
#define FT_OPTOUTS_LINE "optouts"
FT_CHECKED ft_code ft_audit_optouts(ft_store *s, json_t **orders, ft_status *st);
uint64_t ft_audit_optout_experts(const ft_trace_scope *scope, const json_t *orders);

/* --- Routing in numbers ----------------------------------------------------------------------------- */

/* Sums over the passes that wrote the responses of any number of traces. All of one number of layers and experts. */
typedef struct ft_routing_study ft_routing_study;
typedef struct ft_study_options {
    int per_token;      /* shares of every token id: reads the whole traces */
    uint64_t bucket_ms; /* drift: shares over stretches of time; 0: none */
} ft_study_options;
FT_CHECKED ft_code ft_routing_study_new(ft_routing_study **out, const ft_study_options *o, ft_status *st);
void ft_routing_study_free(ft_routing_study *y); /* NULL is allowed */
/* All that fit and have routing. FT_ERR_FORMAT: a trace of another number of layers or experts. */
FT_CHECKED ft_code ft_routing_study_add(ft_routing_study *y, ft_store *s, const ft_store_filter *filter, ft_status *st);
/* {"traces", "tokens", "layers", "experts": ["name"…], "share": [E], "share_per_layer": [L][E], "chosen_per_layer":
 * [L][E], "entropy_per_layer": [L], "entropy", "coactivation": [E][E], "domains": [{"owner", "tokens", "share"}],
 * "token_ids": [{"id", "count", "share"}] or null, "drift": [{"from", "to", "tokens", "share"}] or null};
 * docs/compliance.md says what each is. */
FT_CHECKED ft_code ft_routing_study_json(const ft_routing_study *y, json_t **out, ft_status *st);

/* Mixing weights [tokens, layers, experts], 0 where an expert was not chosen; the caller frees. */
FT_CHECKED ft_code ft_routing_dense(const ft_routing *r, float **out, ft_status *st);

FT_API_END
#endif
