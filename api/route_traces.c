/* /v1/traces: traces kept, and traces of given text. */
#include "api/completion_internal.h"
#include "api/compliance_internal.h"
#include "api/routes_internal.h"
#include "tracer/ft_prov.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Reading --------------------------------------------------------------------------- */

/* Answers with the trace's lineage; consumes it. */
static void answer_prov(ft_request *q, json_t *trace)
{
    ft_status st = {0};
    json_t *document = NULL;
    if (ft_prov_json(trace, &document, &st))
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_json(q, 200, document);
    json_decref(trace);
}

/* ?routing=full keeps "routing"; without it the bulk stays behind. ?format=prov-json: its lineage. */
void ft_route_trace(ft_request *q)
{
    json_t *trace = NULL;
    ft_status st = {0};
    const char *wish = ft_request_query(q, "routing"), *format = ft_request_query(q, "format");
    const int prov = format && !strcmp(format, "prov-json");
    if (format && !prov && strcmp(format, "json") != 0) {
        ft_refuse(q, 400, "invalid-parameter", "format", "'format' must be \"json\" or \"prov-json\"");
        return;
    }
    if (prov && wish) {
        ft_refuse(q, 400, "invalid-parameter", "routing", "'routing' goes with \"format\" json: lineage has none");
        return;
    }
    if (wish && strcmp(wish, "full") != 0 && strcmp(wish, "none") != 0) {
        ft_refuse(q, 400, "invalid-parameter", "routing", "'routing' must be \"none\" or \"full\"");
        return;
    }
    if (!ft_needs_store(q) || !ft_log_request(q, "trace.read"))
        return;
    if (ft_store_get(q->server->store, q->segment[0], &trace, &st) != FT_OK) {
        if (st.code == FT_ERR_ARG || st.code == FT_ERR_NOT_FOUND)
            ft_refuse(q, 404, "not-found", NULL, "there is no trace '%s'", q->segment[0]);
        else
            ft_refuse_status(q, NULL, &st);
        return;
    }
    if (prov) {
        answer_prov(q, trace);
        return;
    }
    if (!wish || strcmp(wish, "full") != 0)
        (void)json_object_set_new(trace, "routing", json_null());
    ft_answer_json(q, 200, trace);
}

/* What a list shows of a trace, out of its row. */
static json_t *listed(const json_t *row)
{
    static const char *const kept[] = {"id", "object", "created", "key", "model", "finish_reason", "without", "text",
                                       "tokens", "spans"};
    json_t *out = json_object();
    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        (void)json_object_set(out, kept[i], json_object_get(row, kept[i]));
    return out;
}

void ft_route_traces(ft_request *q)
{
    ft_store_filter filter;
    ft_store_page page;
    ft_store_rows rows;
    ft_status st = {0};
    if (!ft_needs_store(q) || !ft_filter_read(q, &filter) || !ft_page_read(q, &page) ||
        !ft_log_request(q, "trace.list"))
        return;
    page.spans = FT_ROW_SPANS_COUNT;
    if (ft_store_query(q->server->store, &filter, &page, &rows, &st)) {
        ft_refuse_status(q, NULL, &st);
        return;
    }
    json_t *list = json_array();
    const json_t *row;
    size_t i;
    json_array_foreach(rows.list, i, row)
    {
        (void)json_array_append_new(list, listed(row));
    }
    json_decref(rows.list);
    json_t *answer = json_pack("{s:s,s:o,s:s?,s:s?,s:b}", "object", "list", "data", list, "first_id",
                               rows.first[0] ? rows.first : NULL, "last_id", rows.last[0] ? rows.last : NULL,
                               "has_more", rows.more);
    ft_page_add_total(&page, &rows, answer);
    ft_answer_json(q, 200, answer);
}

/* --- Making ------------------------------------------------------------------------------ */

typedef struct order {
    ft_encoding prompt, response;
    uint32_t *ids; /* prompt and response as one timeline */
    size_t count;
    uint64_t without;
    ft_trace_options options;
    ft_causal_wish causal;
    int routing, store;
} order;

static void order_release(order *o)
{
    ft_encoding_release(&o->prompt);
    ft_encoding_release(&o->response);
    free(o->ids);
}

/* "text" or "ids" of a body, as tokens. *field names what was wrong. */
static ft_code read_tokens(const ft_server *s, const json_t *body, const char *text_field, const char *ids_field,
                           ft_encoding *out, const char **field, ft_status *st)
{
    const json_t *text = json_object_get(body, text_field), *ids = json_object_get(body, ids_field);
    *field = text_field;
    if (json_is_array(text)) { /* a prompt may be either, under one name */
        ids = text;
        ids_field = text_field;
        text = NULL;
    }
    if (text && !json_is_null(text)) {
        if (ids && !json_is_null(ids))
            return ft_fail(st, FT_ERR_ARG, "give '%s' or '%s', not both", text_field, ids_field);
        if (!json_is_string(text))
            return ft_fail(st, FT_ERR_ARG, "'%s' must be a string", text_field);
        return ft_encode_text(s, json_string_value(text), json_string_length(text), out, st);
    }
    if (!ids || json_is_null(ids))
        return FT_OK;
    *field = ids_field;
    size_t n;
    ft_code rc = ft_json_get_ids(body, ids_field, &out->ids, &n, st);
    out->count = n;
    const size_t vocab = s->model ? ft_model_get_config(s->model)->vocab : 0;
    for (size_t i = 0; !rc && vocab && i < n; i++)
        if (out->ids[i] >= vocab)
            rc = ft_fail(st, FT_ERR_ARG, "'%s': element %zu is not a token id from 0 to %zu", ids_field, i, vocab - 1);
    return rc;
}

/* 0 after refusing. */
static int read_order(ft_request *q, order *o)
{
    const ft_server *s = q->server;
    ft_status st = {0};
    const char *field = NULL;
    o->options = ft_trace_options_default(ft_request_scope(q));
    ft_code rc = read_tokens(s, q->json, "text", "ids", &o->response, &field, &st);
    if (!rc && !o->response.count) {
        field = "text";
        rc = ft_fail(&st, FT_ERR_ARG, "'text' (or 'ids') is required and must not be empty");
    }
    if (!rc)
        rc = read_tokens(s, q->json, "prompt", "prompt_ids", &o->prompt, &field, &st);
    if (!rc)
        rc = ft_trace_options_read(json_object_get(q->json, "options"), &o->options, &field, &st);
    if (!rc) {
        field = "routing";
        rc = ft_json_get_bool(q->json, "routing", &o->routing, &st);
    }
    if (!rc) {
        field = "causal";
        rc = ft_causal_wish_read(s, q->json, &o->causal, &st);
    }
    if (!rc) {
        field = "store";
        rc = ft_json_get_bool(q->json, "store", &o->store, &st);
    }
    if (!rc) {
        field = "without";
        rc = ft_experts_read(s, q->json, "without", &o->without, &st);
        o->without |= ft_server_opted_out(s);
        if (!rc && ft_experts_all_left_out(s, o->without))
            rc = ft_fail(&st, FT_ERR_ARG, "'without': no expert would be left; leave at least one in");
    }
    if (rc) {
        ft_refuse_status(q, field, &st);
        return 0;
    }
    static const char *const known[] = {"text",  "ids",     "prompt",  "prompt_ids", "routing",
                                        "store", "without", "options", "causal",     NULL};
    ft_ignored ignored = {0};
    ft_ignored_add(&ignored, q->json, "", known, NULL);
    ft_ignored_answer(q, &ignored);
    return 1;
}

/* --- Routing of given text ---------------------------------------------------------------- */

typedef struct forced_pass {
    ft_server *server;
    const order *o;
    ft_session *session;
    size_t read;
    ft_code rc;
    ft_status st;
} forced_pass;

static void read_chunk(void *context, ft_pool *pool)
{
    (void)pool;
    enum { CHUNK = 128 };
    forced_pass *p = context;
    if (!p->session) {
        const ft_session_options how = {.without = p->o->without, .max_tokens = p->o->count, .capture_routing = 1};
        p->rc = ft_session_open_on(&p->session, ft_scheduler_engine(p->server->scheduler), &how, &p->st);
    }
    const size_t left = p->o->count - p->read, n = left < CHUNK ? left : CHUNK;
    if (!p->rc)
        p->rc = ft_session_read(p->session, p->o->ids + p->read, n, &(ft_outputs){0}, &p->server->cancel, &p->st);
    p->read += n;
}

/* Reads the timeline, in turns with what is being generated. The session holds the
 * routing and is the caller's to close. */
static ft_code read_all(ft_request *q, const order *o, ft_session **session, ft_status *st)
{
    forced_pass p = {.server = q->server, .o = o};
    ft_code rc = FT_OK;
    while (!rc && p.read < o->count) {
        if (ft_client_gone(q->client))
            rc = ft_fail(st, FT_ERR_CANCELLED, "the client went away");
        else if (ft_seconds_now() - q->started > q->server->limits.request_seconds)
            rc = ft_fail(st, FT_ERR_LIMIT, "not finished within %u seconds", q->server->limits.request_seconds);
        else
            rc = ft_scheduler_call(q->server->scheduler, read_chunk, &p, st);
        if (!rc && p.rc) {
            rc = p.rc;
            *st = p.st;
        }
    }
    *session = p.session;
    return rc;
}

/* 0 after refusing. */
static int is_traceable(ft_request *q, const order *o)
{
    if (o->count > FT_MAX_TRACED_TOKENS)
        ft_refuse(q, 413, "request-too-large", NULL, "prompt and text are %zu tokens; at most %d are traced at once",
                  o->count, FT_MAX_TRACED_TOKENS);
    return o->count <= FT_MAX_TRACED_TOKENS;
}

static int fits_context(ft_request *q, const order *o)
{
    const size_t limit = ft_server_context(q->server);
    if (o->count <= limit)
        return 1;
    ft_refuse(q, 400, "context-length-exceeded", "text",
              "the model reads at most %zu tokens, prompt and text are %zu: leave 'routing' out or shorten the text",
              limit, o->count);
    return 0;
}

/* A trace of a long text takes seconds: it ends when nobody waits for it any more. */
static int nobody_waits(void *context)
{
    const ft_request *q = context;
    return ft_client_gone(q->client) || q->server->cancel ||
           ft_seconds_now() - q->started > q->server->limits.request_seconds;
}

static ft_code make(ft_request *q, const order *o, const ft_routing *routing, const ft_causal_result *causes,
                    json_t **trace, ft_status *st)
{
    ft_server *s = q->server;
    const ft_trace_input input = {.prompt = o->prompt.ids,
                                  .prompt_count = o->prompt.count,
                                  .response = o->response.ids,
                                  .response_count = o->response.count,
                                  .routing = routing,
                                  .without = o->without,
                                  .causal = causes};
    ft_trace_options options = o->options;
    options.stop = nobody_waits;
    options.stop_context = q;
    const double began = ft_seconds_now();
    ft_code rc = ft_trace_make(ft_request_scope(q), &input, &options, trace, st);
    if (!rc)
        ft_metrics_trace(&q->server->metrics, json_object_get(*trace, "spans"), ft_seconds_now() - began);
    if (rc == FT_ERR_LIMIT) /* it asks for too much, however little the server has to do */
        rc = st->code = FT_ERR_ARG;
    if (rc)
        return rc;
    if (s->model && json_object_set_new(*trace, "model", json_string(ft_federation_name(s->federation))))
        return ft_fail(st, FT_ERR_MEM, "trace: out of memory");
    if (s->model && routing) {
        rc = ft_trace_set_engine(*trace, s->model, ft_federation_opted_out(s->federation), &s->engine, st);
        if (rc)
            return rc;
    }
    if (json_object_set_new(*trace, "key", json_string(q->key)))
        return ft_fail(st, FT_ERR_MEM, "trace: out of memory");
    if (!o->store || !s->store)
        return FT_OK;
    char id[FT_TRACE_ID], location[64];
    ft_trace_id_new(id);
    rc = ft_trace_stamp(trace, id, st);
    if (!rc)
        rc = ft_store_put(s->store, id, *trace, routing, st);
    if (!rc) {
        snprintf(location, sizeof(location), "/v1/traces/%s", id);
        ft_answer_header(q, "Location", location);
    }
    return rc;
}

void ft_route_trace_new(ft_request *q)
{
    order o = {0};
    json_t *trace = NULL;
    ft_session *session = NULL;
    ft_status st = {0};
    const ft_server *s = q->server;
    const int sound = read_order(q, &o);
    o.count = o.prompt.count + o.response.count;
    const int pass = (o.routing || o.causal.wanted) && s->scheduler && ft_model_get_config(s->model)->experts > 0;
    if (!sound || !is_traceable(q, &o) || (o.store && !ft_needs_store(q)) || (pass && !fits_context(q, &o))) {
        order_release(&o);
        return;
    }
    o.ids = ft_alloc_array(o.count, sizeof(*o.ids));
    ft_code rc = o.ids ? FT_OK : ft_fail(&st, FT_ERR_MEM, "out of memory");
    if (!rc && o.prompt.count)
        memcpy(o.ids, o.prompt.ids, o.prompt.count * sizeof(*o.ids));
    if (!rc)
        memcpy(o.ids + o.prompt.count, o.response.ids, o.response.count * sizeof(*o.ids));
    if (!rc && pass)
        rc = read_all(q, &o, &session, &st);
    const ft_routing routing = session ? ft_session_routing(session) : (ft_routing){0};
    ft_causal *causal = NULL;
    const ft_causal_timeline line = {o.ids, o.prompt.count, o.count, o.without};
    if (!rc && pass)
        rc =
            ft_causal_run(q->server, &o.causal, &line, q->client, q->started + s->limits.request_seconds, &causal, &st);
    const ft_causal_result causes = causal ? ft_causal_get(causal) : (ft_causal_result){0};
    if (!rc)
        rc = make(q, &o, session ? &routing : NULL, causal ? &causes : NULL, &trace, &st);
    ft_causal_free(causal);
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_json(q, o.store && s->store ? 201 : 200, json_incref(trace));
    json_decref(trace);
    ft_session_close(session);
    order_release(&o);
}
