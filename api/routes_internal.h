/* routes_internal: the handlers, one a route (http_routes.c), and what several of
 * them share. */
#ifndef FT_ROUTES_INTERNAL_H
#define FT_ROUTES_INTERNAL_H
#include "api/http_internal.h"
#include "index/ft_query.h"

/* route_health.c */
ft_handler ft_route_livez, ft_route_readyz, ft_route_health, ft_route_health_empty, ft_route_version;
/* route_openapi.c */
ft_handler ft_route_openapi;
/* route_metrics.c */
ft_handler ft_route_metrics;
/* route_tokenizer.c */
ft_handler ft_route_tokenize, ft_route_detokenize, ft_route_tokenizer_info;
/* route_page.c */
ft_handler ft_route_root, ft_route_page_file;
int ft_page_has_kind(const char *path); /* "/app.js", "/x.css": it may be a file of the page */
/* route_models.c */
ft_handler ft_route_models, ft_route_model, ft_route_owners, ft_route_demo;
ft_handler ft_route_optouts, ft_route_optout, ft_route_optout_new, ft_route_optout_withdraw;
/* completion_route.c */
ft_handler ft_route_completions, ft_route_chat;
/* route_traces.c */
ft_handler ft_route_traces, ft_route_trace_new, ft_route_trace;
/* route_receipts.c */
ft_handler ft_route_keys, ft_route_receipt, ft_route_receipt_salt;
/* route_receipt_log.c */
ft_handler ft_route_receipt_log, ft_route_receipt_entries, ft_route_receipt_proof, ft_route_receipt_consistency;
/* route_routing.c */
ft_handler ft_route_trace_routing, ft_route_routing;
/* route_compliance.c */
ft_handler ft_route_outputs, ft_route_verbatim, ft_route_experts_used, ft_route_optouts_proved, ft_route_usage,
    ft_route_access, ft_route_store_verify;
/* route_export.c */
ft_handler ft_route_export;
/* route_takedowns.c */
ft_handler ft_route_takedown_new, ft_route_takedowns, ft_route_takedown, ft_route_takedown_certificate,
    ft_route_takedown_verify;
/* route_jobs.c */
ft_handler ft_route_jobs, ft_route_job, ft_route_job_cancel;
/* route_state.c */
ft_handler ft_route_state, ft_route_retention, ft_route_retention_set, ft_route_retention_withdraw;
/* route_summary.c */
ft_handler ft_route_training_summary;
/* face_attribution.c, face_documents.c */
ft_handler ft_route_indexes, ft_route_attribution, ft_route_documents, ft_route_document, ft_route_count;
/* face_infinigram.c */
ft_handler ft_route_infinigram;

/* The page's files, compiled in (built from web-static/ by api/embed.cmake). */
typedef struct ft_web_file {
    const char *name, *etag;
    const unsigned char *bytes;
    size_t size;
} ft_web_file;
extern const ft_web_file ft_web_files[];
extern const size_t ft_web_file_count;

/* Owner of an expert; NULL: none. */
const ft_owner *ft_owner_of_expert(const ft_trace_scope *scope, int expert);
/* The indexes that a name stands for: an owner's, or all for the federation's own
 * name. Views of the request's scope, or of the one given: until the handler returns, or
 * that scope's snapshot is released. 0 after refusing the request (404). */
enum { FT_MAX_INDEXES = 1024 };
typedef struct ft_named_set {
    const ft_index *list[FT_MAX_INDEXES];
    const ft_owner *owners[FT_MAX_INDEXES];
    ft_index_set set;
} ft_named_set;
int ft_index_set_named(ft_request *q, const char *name, ft_named_set *out);
/* All owners' indexes, in their order. */
void ft_index_set_all(const ft_trace_scope *scope, ft_named_set *out);

/* Owners' names or expert numbers in object[field], as a bit set; absent: 0. */
FT_CHECKED ft_code ft_experts_read(const ft_server *s, const json_t *object, const char *field, uint64_t *bits,
                                   ft_status *st);
uint64_t ft_experts_of_model(const ft_server *s); /* as a bit set */
int ft_experts_all_left_out(const ft_server *s, uint64_t without);

/* Fields that nobody reads, for the header X-Ignored-Fields; `known` ends with NULL. */
typedef struct ft_ignored {
    char list[400];
} ft_ignored;
void ft_ignored_add(ft_ignored *ignored, const json_t *object, const char *prefix, const char *const *known,
                    const char *const *also);
void ft_ignored_answer(ft_request *q, const ft_ignored *ignored);
/* The first field that is none of `known`, for orders, where a mistyped one must not be ignored; NULL: there is none. */
const char *ft_unknown_field(const json_t *object, const char *const *known);

/* A longer text is refused by what traces it: the answer would not fit. */
enum { FT_MAX_TRACED_TOKENS = 65536 };

/* Encoding of a text with an encoder made for it; the caller releases. */
FT_CHECKED ft_code ft_encode_text(const ft_server *s, const char *text, size_t n, ft_encoding *out, ft_status *st);
/* Text of the ids, invalid UTF-8 replaced; NULL when memory is out. Without a tokenizer: null. */
json_t *ft_decoded_text(const ft_tokenizer *t, const uint32_t *ids, size_t count);
/* Every unit of the tokens as one string, as the tokenizer's vocabulary spells it
 * (bytes as printable characters: "Ġthe"). */
json_t *ft_vocabulary_spelling(const ft_tokenizer *t, uint32_t id);

/* Shards: the parts of all indexes of a set, one after another. 0: no such shard. */
int ft_shard_find(const ft_index_set *set, uint64_t shard, size_t *index, unsigned *part);

/* An occurrence of n tokens: its document, and where in it, in reading order. */
typedef struct ft_occurrence {
    const ft_index *index;
    ft_doc_ref document;
    uint64_t number; /* of the document, over all indexes of the set */
    uint64_t offset; /* of the match in the document; tokens */
    size_t n;
} ft_occurrence;
/* A position on the end token of a document gives that document, with n 0. */
FT_CHECKED ft_code ft_occurrence_at(const ft_index_set *set, size_t index, unsigned part, uint64_t position, size_t n,
                                    ft_occurrence *out, ft_status *st);
/* The document by its number over the set; offset and n are 0. */
FT_CHECKED ft_code ft_occurrence_of_document(const ft_index_set *set, uint64_t number, ft_occurrence *out,
                                             ft_status *st);
/* Up to `most` of the pattern's occurrences, in order of index, part and rank; where
 * there are more, a sample of a fixed seed. `out` has room for `most`. */
FT_CHECKED ft_code ft_occurrences_sample(const ft_index_set *set, const uint32_t *ids, size_t n, size_t most,
                                         ft_occurrence *out, size_t *count, ft_status *st);
/* Tokens of the document from `before` tokens ahead of the match to `after` behind it;
 * the caller frees *ids. *needle: where in them the match begins. */
FT_CHECKED ft_code ft_occurrence_window(const ft_occurrence *o, size_t before, size_t after, uint32_t **ids,
                                        size_t *count, size_t *needle, ft_status *st);
json_t *ft_metadata_json(const ft_doc_ref *d); /* an object, with the document's "id" */

/* "snake_case" and "camelCase" in: the field under either name; NULL: absent or null. */
json_t *ft_field_either(const json_t *object, const char *camel, const char *snake);

#endif
