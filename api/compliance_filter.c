/* A filter and a page out of a URL, and the log of who asked. */
#include "api/compliance_internal.h"
#include "tracer/ft_evidence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int ft_needs_store(ft_request *q)
{
    if (!q->server->store)
        ft_refuse(q, 404, "no-store", NULL, "this server keeps no traces: its federation names no store");
    return q->server->store != NULL;
}

int ft_expert_number(ft_request *q, const char *name)
{
    const ft_owner *owner = ft_trace_owner(ft_request_scope(q), name);
    char *end;
    if (owner)
        return owner->expert;
    const long n = strtol(name, &end, 10);
    return *name && !*end && n >= 0 && n < FT_MAX_EXPERTS ? (int)n : -1;
}

static int read_time(ft_request *q, const char *name, uint64_t *ms)
{
    ft_status st = {0};
    const char *text = ft_request_query(q, name);
    if (!text || ft_audit_time_read(text, ms, &st) == FT_OK)
        return 1;
    ft_refuse(q, 400, "invalid-parameter", name, "'%s': %s", name, st.msg);
    return 0;
}

static int read_share(ft_request *q, double *out)
{
    const char *text = ft_request_query(q, "min_share");
    char *end;
    if (!text)
        return 1;
    if (!ft_request_query(q, "expert")) {
        ft_refuse(q, 400, "invalid-parameter", "min_share",
                  "'min_share' is the share of an expert: name it with 'expert'");
        return 0;
    }
    *out = strtod(text, &end);
    if (*text && !*end && *out >= 0 && *out <= 1)
        return 1;
    ft_refuse(q, 400, "invalid-parameter", "min_share", "'min_share' must be a number from 0 to 1");
    return 0;
}

static int check_verdict(ft_request *q, const char *name)
{
    int known = !name;
    for (int v = FT_VERDICT_NONE; !known && v <= FT_VERDICT_VERBATIM; v++)
        known = !strcmp(ft_verdict_name((ft_verdict)v), name);
    if (!known)
        ft_refuse(q, 400, "invalid-parameter", "verdict",
                  "'verdict' must be \"verbatim\", \"influenced\", \"shared\", \"public\" or \"none\"");
    return known;
}

static int check_text(ft_request *q, const char *text)
{
    ft_status st = {0};
    if (!text || ft_filter_text_check(text, &st) == FT_OK)
        return 1;
    ft_refuse(q, 400, "invalid-parameter", "q", "'q' %s", st.msg);
    return 0;
}

int ft_filter_read(ft_request *q, ft_store_filter *out)
{
    int64_t tokens = 0;
    const char *expert = ft_request_query(q, "expert");
    *out = ft_store_filter_all();
    out->owner = ft_request_query(q, "owner");
    out->document = ft_request_query(q, "document");
    out->verdict = ft_request_query(q, "verdict");
    out->key = ft_request_query(q, "key");
    out->without = ft_request_query(q, "without");
    out->model = ft_request_query(q, "model");
    out->text = ft_request_query(q, "q");
    if (!read_time(q, "from", &out->from_ms) || !read_time(q, "to", &out->to_ms) || !read_share(q, &out->min_share) ||
        !check_verdict(q, out->verdict) || !check_text(q, out->text) ||
        !ft_request_query_int(q, "min_tokens", 0, INT32_MAX, &tokens))
        return 0;
    if (ft_request_query(q, "to") && !out->to_ms)
        out->to_ms = 1; /* 0 would be no end */
    out->min_tokens = (uint32_t)tokens;
    if (!expert)
        return 1;
    out->expert = ft_expert_number(q, expert);
    if (out->expert < 0)
        ft_refuse(q, 400, "invalid-parameter", "expert",
                  "'expert': '%.100s' is no expert's number and no owner with one", expert);
    return out->expert >= 0;
}

int ft_page_read(ft_request *q, ft_store_page *out)
{
    int64_t limit = 20;
    const char *order = ft_request_query(q, "order"), *include = ft_request_query(q, "include");
    *out = (ft_store_page){.after = ft_request_query(q, "after"), .before = ft_request_query(q, "before")};
    out->after = out->after && out->after[0] ? out->after : NULL;
    out->before = out->before && out->before[0] ? out->before : NULL;
    if (!ft_request_query_int(q, "limit", 1, 100, &limit))
        return 0;
    out->limit = (size_t)limit;
    if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0) {
        ft_refuse(q, 400, "invalid-parameter", "order", "'order' must be \"asc\" or \"desc\"");
        return 0;
    }
    out->ascending = order && !strcmp(order, "asc");
    if (include && strcmp(include, "total") != 0) {
        ft_refuse(q, 400, "invalid-parameter", "include", "'include' must be \"total\"");
        return 0;
    }
    out->total = include != NULL;
    const char *which = out->after ? "after" : "before", *cursor = out->after ? out->after : out->before;
    if (out->after && out->before) {
        ft_refuse(q, 400, "invalid-parameter", "before", "give 'after' or 'before', not both");
        return 0;
    }
    if (cursor && !ft_trace_id_time(cursor, &(uint64_t){0})) {
        ft_refuse(q, 400, "invalid-parameter", which, "'%s' must be the id of a trace", which);
        return 0;
    }
    return 1;
}

void ft_page_add_total(const ft_store_page *page, const ft_store_rows *rows, json_t *list)
{
    if (!page->total)
        return;
    (void)json_object_set_new(list, "total", rows->at_least ? json_null() : json_integer((json_int_t)rows->total));
    if (rows->at_least)
        (void)json_object_set_new(list, "total_at_least", json_integer((json_int_t)rows->total));
}

int ft_format_read(ft_request *q, int *csv)
{
    const char *format = ft_request_query(q, "format"), *accept = ft_request_header(q, "Accept");
    *csv =
        format ? !strcmp(format, "csv") : accept && strstr(accept, "text/csv") && !strstr(accept, "application/json");
    if (!format || *csv || !strcmp(format, "json"))
        return 1;
    ft_refuse(q, 400, "invalid-parameter", "format", "'format' must be \"json\" or \"csv\"");
    return 0;
}

static enum MHD_Result add_parameter(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    json_t *to = context;
    (void)kind;
    return json_object_set_new(to, name, ft_json_text(value ? value : "", value ? strlen(value) : 0)) == 0 ? MHD_YES
                                                                                                           : MHD_NO;
}

int ft_log_request(ft_request *q, const char *what)
{
    return ft_log_request_with(q, what, &(ft_receipt_entry){0});
}

int ft_log_request_with(ft_request *q, const char *what, const ft_receipt_entry *receipt)
{
    ft_status st = {0};
    json_t *parameters = json_object();
    (void)MHD_get_connection_values(q->connection, MHD_GET_ARGUMENT_KIND, add_parameter, parameters);
    if (ft_store_log_with(q->server->store, q->key, what,
                          json_pack("{s:s,s:s,s:o}", "request", q->id, "path", q->path, "parameters", parameters),
                          receipt, &st) == FT_OK)
        return 1;
    ft_refuse_status(q, NULL, &st);
    return 0;
}
