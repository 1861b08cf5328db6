/* /v1/compliance/…: which outputs, whose words, which expert, who was left out, who asked. docs/compliance.md. */
#include "api/compliance_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Lists of outputs ------------------------------------------------------------------------------------ */

/* Adds what the question asks of one row; returns the rows for CSV, where they are not the rows themselves. */
typedef ft_code row_fn(ft_request *q, json_t *row, const ft_store_filter *filter, ft_status *st);

typedef struct question {
    const char *what; /* in the log */
    row_fn *each;     /* may be NULL */
    const char *const *columns;
    int by_span; /* only spans that fit are shown, in CSV a line for each */
} question;

/* One line a span, with its output's id, time and key. */
static json_t *lines_by_span(const json_t *rows)
{
    json_t *lines = json_array();
    const json_t *row, *span;
    size_t i, k;
    json_array_foreach(rows, i, row)
    {
        json_array_foreach(json_object_get(row, "spans"), k, span)
        {
            json_t *line = json_copy((json_t *)(uintptr_t)span);
            static const char *const kept[] = {"id", "created", "key"};
            for (size_t c = 0; c < 3; c++)
                (void)json_object_set(line, kept[c], json_object_get(row, kept[c]));
            (void)json_object_set_new(line, "tokens",
                                      json_integer(json_integer_value(json_object_get(span, "end")) -
                                                   json_integer_value(json_object_get(span, "start"))));
            (void)json_object_set_new(line, "documents", ft_csv_documents(json_object_get(span, "documents")));
            (void)json_array_append_new(lines, line);
        }
    }
    return lines;
}

/* The list as JSON, in which spans that were not read stand as they are. */
static void answer_list(ft_request *q, const ft_store_page *page, const ft_store_rows *rows)
{
    ft_buffer text = {0};
    ft_status st = {0};
    json_t *rest = json_pack("{s:s?,s:s?,s:b}", "first_id", rows->first[0] ? rows->first : NULL, "last_id",
                             rows->last[0] ? rows->last : NULL, "has_more", rows->more);
    ft_page_add_total(page, rows, rest);
    ft_code rc = ft_buffer_append_str(&text, "{\"object\":\"list\",\"data\":", &st);
    if (!rc)
        rc = ft_store_rows_write(rows->list, &text, &st);
    const size_t end = text.size;
    if (!rc)
        rc = ft_json_write(rest, &text, &st);
    if (!rc) {
        text.data[end] = ','; /* for the brace of `rest` */
        rc = ft_buffer_append(&text, "\n", 1, &st);
    }
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_bytes(q, 200, "application/json", text.data, text.size);
    json_decref(rest);
    ft_buffer_release(&text);
}

static void answer_csv_rows(ft_request *q, const question *ask, const ft_store_page *page, const ft_store_rows *rows)
{
    char total[24];
    snprintf(total, sizeof(total), "%" PRIu64, rows->total);
    if (page->total)
        ft_answer_header(q, rows->at_least ? "X-Total-At-Least" : "X-Total", total);

    json_t *lines = ask->by_span ? lines_by_span(rows->list) : json_incref(rows->list);
    ft_answer_header(q, "X-Has-More", rows->more ? "true" : "false");
    if (rows->last[0])
        ft_answer_header(q, "X-Last-Id", rows->last);
    ft_answer_csv(q, ask->columns, lines);
    json_decref(lines);
}

static void answer_question(ft_request *q, const question *ask, const ft_store_filter *filter)
{
    ft_store_page page;
    ft_store_rows rows;
    ft_status st = {0};
    int csv;
    if (!ft_page_read(q, &page) || !ft_format_read(q, &csv) || !ft_log_request(q, ask->what))
        return;
    page.spans = ask->by_span ? FT_ROW_SPANS_FIT : csv ? FT_ROW_SPANS_COUNT : FT_ROW_SPANS_TEXT;
    ft_code rc = ft_store_query(q->server->store, filter, &page, &rows, &st);
    if (rc) {
        ft_refuse_status(q, NULL, &st);
        return;
    }
    json_t *row;
    size_t i;
    json_array_foreach(rows.list, i, row)
    {
        if (!rc && ask->each)
            rc = ask->each(q, row, filter, &st);
    }
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else if (csv)
        answer_csv_rows(q, ask, &page, &rows);
    else
        answer_list(q, &page, &rows);
    json_decref(rows.list);
}

static int needs(ft_request *q, const char *name, const char *value)
{
    if (!value || !*value)
        ft_refuse(q, 400, "invalid-parameter", name, "'%s' is required", name);
    return value && *value;
}

void ft_route_outputs(ft_request *q)
{
    static const char *const columns[] = {"id",     "created",       "key",   "model",   "finish_reason",
                                          "tokens", "prompt_tokens", "spans", "without", NULL};
    static const question ask = {"compliance.outputs", NULL, columns, 0};
    ft_store_filter filter;
    if (ft_needs_store(q) && ft_filter_read(q, &filter))
        answer_question(q, &ask, &filter);
}

static ft_code keep_spans(ft_request *q, json_t *row, const ft_store_filter *filter, ft_status *st)
{
    (void)q;
    return ft_audit_keep_spans(row, filter, st);
}

void ft_route_verbatim(ft_request *q)
{
    static const char *const columns[] = {"id",    "created", "key",    "start",     "end", "tokens",
                                          "count", "verdict", "owners", "documents", NULL};
    static const question ask = {"compliance.verbatim", keep_spans, columns, 1};
    ft_store_filter filter;
    if (!ft_needs_store(q) || !ft_filter_read(q, &filter) || (!filter.document && !needs(q, "owner", filter.owner)))
        return;
    filter.min_tokens = filter.min_tokens ? filter.min_tokens : 1;
    answer_question(q, &ask, &filter);
}

static ft_code add_share(ft_request *q, json_t *row, const ft_store_filter *filter, ft_status *st)
{
    const json_t *e;
    size_t i;
    (void)q;
    (void)st;
    json_array_foreach(json_object_get(row, "experts"), i, e)
    {
        if (json_integer_value(json_object_get(e, "id")) == filter->expert)
            (void)json_object_set(row, "share", json_object_get(e, "share"));
    }
    (void)json_object_set_new(row, "expert", json_integer(filter->expert));
    return FT_OK;
}

void ft_route_experts_used(ft_request *q)
{
    static const char *const columns[] = {"id", "created", "key", "expert", "share", "tokens", NULL};
    static const question ask = {"compliance.experts", add_share, columns, 0};
    ft_store_filter filter;
    if (ft_needs_store(q) && needs(q, "expert", ft_request_query(q, "expert")) && ft_filter_read(q, &filter))
        answer_question(q, &ask, &filter);
}

/* The proof beside each row, and in the row itself for CSV. */
static ft_code add_proof(ft_request *q, json_t *row, const ft_store_filter *filter, ft_status *st)
{
    json_t *proof = NULL;
    const int expert = ft_expert_number(q, filter->without);
    ft_code rc =
        ft_audit_took_part(q->server->store, json_string_value(json_object_get(row, "id")), expert, &proof, st);
    if (rc == FT_ERR_NOT_FOUND)
        return FT_OK;
    if (!rc) {
        (void)json_object_update(row, proof);
        (void)json_object_set_new(row, "proof", proof);
    }
    return rc;
}

void ft_route_optouts_proved(ft_request *q)
{
    static const char *const columns[] = {"id",     "created", "key",    "without",   "expert", "rows",
                                          "places", "chosen",  "weight", "took_part", NULL};
    static const question ask = {"compliance.optouts", add_proof, columns, 0};
    ft_store_filter filter;
    if (!ft_needs_store(q) || !needs(q, "owner", ft_request_query(q, "owner")) || !ft_filter_read(q, &filter))
        return;
    filter.without = filter.owner; /* so this route has no parameter `without` */
    filter.owner = NULL;
    if (ft_expert_number(q, filter.without) < 0) {
        ft_refuse(q, 400, "invalid-parameter", "owner", "'owner': '%.100s' is no owner with an expert", filter.without);
        return;
    }
    answer_question(q, &ask, &filter);
}

/* --- Usage ------------------------------------------------------------------------------------------------- */

/* The report as lines, `kind` says of what: all outputs, those with the owner's spans, verdicts, documents. */
static json_t *lines_of_usage(const json_t *report)
{
    json_t *lines = json_array();
    const json_t *share = json_object_get(json_object_get(report, "routing"), "share"), *one;
    const char *name;
    json_t *n;
    size_t i;
    (void)json_array_append_new(
        lines, json_pack("{s:s,s:O}", "kind", "outputs", "outputs", json_object_get(report, "outputs")));
    (void)json_array_append_new(
        lines, json_pack("{s:s,s:O}", "kind", "opted_out", "outputs", json_object_get(report, "opted_out")));
    (void)json_array_append_new(
        lines, json_pack("{s:s,s:O,s:O,s:O,s:O,s:O,s:O}", "kind", "owner", "id", json_object_get(report, "owner"),
                         "outputs", json_object_get(report, "outputs_with_spans"), "spans",
                         json_object_get(report, "spans"), "tokens", json_object_get(report, "tokens"), "longest",
                         json_object_get(report, "longest"), "share", share));
    json_object_foreach(json_object_get(report, "verdicts"), name, n)
    {
        (void)json_array_append_new(lines, json_pack("{s:s,s:s,s:O}", "kind", "verdict", "id", name, "spans", n));
    }
    json_array_foreach(json_object_get(report, "documents"), i, one)
    {
        json_t *line = json_pack("{s:s}", "kind", "document");
        (void)json_object_update(line, (json_t *)(uintptr_t)one);
        (void)json_array_append_new(lines, line);
    }
    return lines;
}

void ft_route_usage(ft_request *q)
{
    static const char *const columns[] = {"kind", "id", "outputs", "spans", "tokens", "longest", "share", NULL};
    ft_store_filter filter;
    ft_status st = {0};
    json_t *report = NULL;
    int64_t most = 20;
    int csv;
    if (!ft_needs_store(q) || !ft_filter_read(q, &filter) || (!filter.document && !needs(q, "owner", filter.owner)) ||
        !ft_request_query_int(q, "documents", 0, 100000, &most) || !ft_format_read(q, &csv) ||
        !ft_log_request(q, "compliance.usage"))
        return;
    const int expert = filter.owner ? ft_expert_number(q, filter.owner) : -1;
    if (ft_audit_usage(q->server->store, &filter, expert, (size_t)most, &report, &st)) {
        ft_refuse_status(q, NULL, &st);
        return;
    }
    if (!csv) {
        ft_answer_json(q, 200, report);
        return;
    }
    json_t *lines = lines_of_usage(report);
    ft_answer_csv(q, columns, lines);
    json_decref(lines);
    json_decref(report);
}

/* --- The log ---------------------------------------------------------------------------------------------------- */

void ft_route_access(ft_request *q)
{
    static const char *const columns[] = {"seq", "time", "who", "what", "request", "path", "parameters", "prev", NULL};
    ft_store_filter filter;
    ft_status st = {0};
    int64_t limit = 20, after = 0;
    json_t *lines = NULL;
    uint64_t next;
    int csv;
    if (!ft_needs_store(q) || !ft_filter_read(q, &filter) || !ft_request_query_int(q, "limit", 1, 1000, &limit) ||
        !ft_request_query_int(q, "after", 0, INT64_MAX - 1, &after) || !ft_format_read(q, &csv) ||
        !ft_log_request(q, "compliance.access"))
        return;
    const ft_log_query ask = {.from = (uint64_t)after + 1,
                              .from_ms = filter.from_ms,
                              .to_ms = filter.to_ms,
                              .who = filter.key,
                              .prefix = ft_request_query(q, "what"),
                              .limit = (size_t)limit};
    if (ft_store_read_log(q->server->store, &ask, &lines, &next, &st)) {
        ft_refuse_status(q, NULL, &st);
        return;
    }
    const size_t n = json_array_size(lines);
    ft_answer_lines(q, csv ? columns : NULL, lines,
                    next ? next - 1
                    : n  ? (uint64_t)json_integer_value(json_object_get(json_array_get(lines, n - 1), "seq"))
                         : (uint64_t)after,
                    next != 0);
}

void ft_route_store_verify(ft_request *q)
{
    json_t *report = NULL;
    ft_status st = {0};
    if (!ft_needs_store(q) || !ft_log_request(q, "compliance.verify"))
        return;
    if (ft_store_verify(q->server->store, NULL, &report, &st)) {
        ft_refuse_status(q, NULL, &st);
        return;
    }
    (void)json_object_del(report, "store"); /* a path of ours */
    ft_answer_json(q, 200, report);
}
