/* compliance_internal: questions about what is stored, over HTTP.
 *
 *   compliance_filter.c  a filter out of a URL; the log of who asked
 *   compliance_csv.c     lines of comma-separated values
 *   export_rows.c        traces as lines for others
 *   route_export.c       all that fit, in one answer
 *   route_compliance.c   outputs, verbatim, experts, optouts, usage, access, verify
 *   route_takedowns.c    erasure; erasure_jobs.h: as jobs, route_jobs.c
 *   route_optouts.c      opt-outs by order
 *   route_state.c        what was active when, what is kept
 *   route_summary.c      what the model was trained on
 *   route_routing.c      routing of one trace, and of many in numbers */
#ifndef FT_COMPLIANCE_INTERNAL_H
#define FT_COMPLIANCE_INTERNAL_H
#include "api/routes_internal.h"
#include "tracer/ft_audit.h"

/* Reads from, to, owner, expert, document, key, verdict, without, min_tokens, min_share, model and q; strings are views
 * of the request. 0 after refusing it. */
int ft_filter_read(ft_request *q, ft_store_filter *out);
/* limit, after, before, order, include. */
int ft_page_read(ft_request *q, ft_store_page *out);
/* "total" (and "total_at_least") of the page, where they were asked for. */
void ft_page_add_total(const ft_store_page *page, const ft_store_rows *rows, json_t *list);
/* The number of an expert by its owner's name or its number; -1: there is none of that name. */
int ft_expert_number(ft_request *q, const char *name);
/* Whether the answer is to be CSV: ?format=csv, or Accept names text/csv. 0 after refusing another format: *csv tells.
 */
int ft_format_read(ft_request *q, int *csv);
/* Writes into the log who asked what, with the URL's parameters; 0 after refusing the request: what cannot be logged is
 * not answered. */
int ft_log_request(ft_request *q, const char *what);
/* The same, with a receipt's leaf in the same transaction (without envelope: none). */
int ft_log_request_with(ft_request *q, const char *what, const ft_receipt_entry *receipt);
/* 0 after refusing: this server has no store. */
int ft_needs_store(ft_request *q);

/* --- CSV (RFC 4180) --------------------------------------------------------------------------------- */

/* One value: a string as it is, a list with its elements joined by ";", null empty, others as JSON; quoted where it
 * holds a quote, a comma, a semicolon of its own or a line's end. */
FT_CHECKED ft_code ft_csv_value(ft_buffer *out, const json_t *value, int first, ft_status *st);
/* The line of names, and the line of an object's members of those names; lines end in CR LF. */
FT_CHECKED ft_code ft_csv_head(ft_buffer *out, const char *const *names, ft_status *st);
FT_CHECKED ft_code ft_csv_line(ft_buffer *out, const char *const *names, const json_t *object, ft_status *st);
/* The names, then a line for each object of the list. */
FT_CHECKED ft_code ft_csv_table(ft_buffer *out, const char *const *names, const json_t *list, ft_status *st);
/* Answers with such a table. */
void ft_answer_csv(ft_request *q, const char *const *names, const json_t *list);
/* Answers with a page of the log's lines (consumed): a list, or, with names, CSV. `last`: the number to go on after. */
void ft_answer_lines(ft_request *q, const char *const *names, json_t *lines, uint64_t last, int more);
/* Documents of a row's span as "owner/id"; a new list. */
json_t *ft_csv_documents(const json_t *documents);

/* --- Export ------------------------------------------------------------------------------------------ */

/* Appends the stored trace as JSON, without "ids" and "weights" of its routing; `packed` (NULL: without) is room for
 * the routing as the store keeps it, which then stands in "routing_packed", base64. FT_ERR_NOT_FOUND where it was
 * deleted meanwhile; nothing is appended then. */
FT_CHECKED ft_code ft_export_json(ft_store *s, const char *id, ft_buffer *packed, ft_buffer *out, ft_status *st);
/* Appends a row's lines, one a span (one where it has none), of these columns. */
FT_CHECKED ft_code ft_export_csv(const json_t *row, ft_buffer *out, ft_status *st);
extern const char *const ft_export_columns[];

#endif
