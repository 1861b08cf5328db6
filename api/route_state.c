/* /v1/compliance/state and /v1/compliance/retention: what was active when, and what is kept. The state is a line of the
 * store's log, written when the server starts, when it stops, and whenever something of it changes; each names the one
 * before. */
#include "api/compliance_internal.h"
#include "tracer/ft_retention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char line_name[] = "state"; /* the newest, in the log */

/* --- Writing ----------------------------------------------------------------------------------------------- */

static json_t *experts_json(const ft_server *s, const ft_trace_scope *scope)
{
    json_t *list = json_array();
    const size_t n = s->model ? ft_model_get_config(s->model)->experts : 0;
    const uint64_t out = ft_server_opted_out(s);
    for (size_t e = 0; e < n; e++) {
        const ft_owner *owner = ft_owner_of_expert(scope, (int)e);
        (void)json_array_append_new(list, json_pack("{s:i,s:s?,s:s}", "id", (int)e, "owner", owner ? owner->name : NULL,
                                                    "state", out >> e & 1 ? "opted_out" : "active"));
    }
    return list;
}

static json_t *indexes_json(const ft_trace_scope *scope)
{
    json_t *list = json_array();
    for (size_t o = 0; o < scope->owner_count; o++)
        for (size_t i = 0; i < scope->owners[o].index_count; i++) {
            char hex[FT_DIGEST_HEX];
            const ft_index_info info = ft_index_get_info(scope->owners[o].indexes[i]);
            ft_digest_hex(&info.root, hex);
            (void)json_array_append_new(
                list, json_pack("{s:s,s:i,s:o,s:I,s:I,s:I}", "owner", scope->owners[o].name, "number", (int)i, "root",
                                info.is_infinigram ? json_null() : json_sprintf("sha256:%s", hex), "documents",
                                (json_int_t)info.documents, "tokens", (json_int_t)info.tokens, "removed_documents",
                                (json_int_t)info.removed_documents));
        }
    return list;
}

static json_t *signing_key_json(const ft_server *s)
{
    char hex[FT_DIGEST_HEX];
    if (!s->keys.signer)
        return json_null();
    const ft_digest id = ft_public_key_id(ft_signer_public(s->keys.signer));
    ft_digest_hex(&id, hex);
    return json_string(hex);
}

static json_t *active_now(ft_server *s)
{
    json_t *retention = NULL;
    char fingerprint[16];
    ft_server_fingerprint(s, fingerprint);
    (void)!ft_retention_json(s->federation, s->store, &retention, NULL);
    ft_snapshot *now = ft_federation_snapshot(s->federation);
    const ft_trace_scope *scope = ft_snapshot_scope(now);
    json_t *out = json_pack(
        "{s:b,s:s,s:s,s:s?,s:o,s:o,s:o,s:o,s:o?}", "serving", 1, "federation", ft_federation_name(s->federation),
        "version", FT_VERSION, "system_fingerprint", fingerprint[0] ? fingerprint : NULL, "experts",
        experts_json(s, scope), "opted_out", ft_trace_expert_names(scope, ft_server_opted_out(s)),
        "indexes", indexes_json(scope), "signing_key", signing_key_json(s), "retention", retention);
    ft_snapshot_release(now);
    return out;
}

void ft_server_log_state(ft_server *s, const char *because)
{
    ft_buffer text = {0};
    ft_status st = {0};
    json_t *before = NULL;
    if (!s->store)
        return;
    const int stops = because && !strcmp(because, "stop");
    json_t *state = stops ? json_pack("{s:b,s:s}", "serving", 0, "federation", ft_federation_name(s->federation))
                          : active_now(s);
    ft_code rc = state ? ft_json_write(state, &text, &st) : ft_fail(&st, FT_ERR_MEM, "out of memory");
    const ft_digest d = ft_digest_of(text.data ? text.data : "", text.size);
    ft_buffer_release(&text);
    if (rc || (!because && !memcmp(&d, &s->state, sizeof(d)))) {
        json_decref(state);
        return;
    }
    rc = ft_store_logged(s->store, line_name, &before, &st);
    if (!rc || rc == FT_ERR_NOT_FOUND) {
        (void)json_object_set_new(state, "because", json_string(because ? because : "change"));
        (void)json_object_set(state, "before", before ? json_object_get(before, "seq") : json_null());
        rc = ft_store_log_as(s->store, line_name, "server", "state", state, &st);
    } else {
        json_decref(state);
    }
    json_decref(before);
    if (rc)
        ft_server_log(s, "the state is not in the log: %s", st.msg);
    else
        s->state = d;
}

/* --- Reading ------------------------------------------------------------------------------------------------- */

static uint64_t time_of(const json_t *line)
{
    uint64_t ms = 0;
    const char *text = json_string_value(json_object_get(line, "time"));
    return text && ft_audit_time_read(text, &ms, NULL) == FT_OK ? ms : 0;
}

/* The line that was the newest at that time, in *line; the one after it in *next, or NULL. FT_ERR_NOT_FOUND: nothing
 * was written before. */
static ft_code state_at(ft_store *s, uint64_t ms, json_t **line, json_t **next, ft_status *st)
{
    *next = NULL;
    ft_code rc = ft_store_logged(s, line_name, line, st);
    while (!rc && time_of(*line) > ms) {
        const uint64_t before = (uint64_t)json_integer_value(json_object_get(*line, "before"));
        json_decref(*next);
        *next = *line;
        *line = NULL;
        rc = before ? ft_store_log_line(s, before, line, st)
                    : ft_fail(st, FT_ERR_NOT_FOUND, "nothing is known of that time: the first state is of %s",
                              json_string_value(json_object_get(*next, "time")));
    }
    if (rc) {
        json_decref(*next);
        *next = NULL;
    }
    return rc;
}

static json_t *state_json(const json_t *line, const json_t *next, const char *at)
{
    static const char *const own[] = {"time", "who", "what", "prev", "before"};
    json_t *out = json_pack("{s:s,s:s,s:O,s:O?}", "object", "state", "at", at, "since", json_object_get(line, "time"),
                            "until", json_object_get(next, "time"));
    (void)json_object_update(out, (json_t *)(uintptr_t)line);
    for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
        (void)json_object_del(out, own[i]);
    return out;
}

/* A line an expert and an index, with the time from which on it was so. */
static void answer_state_csv(ft_request *q, const json_t *state)
{
    static const char *const columns[] = {"since", "kind",   "id",     "owner",
                                          "state", "root", "documents", "tokens", "removed_documents", NULL};
    static const char *const lists[] = {"experts", "indexes"}, *const kinds[] = {"expert", "index"};
    json_t *lines = json_array();
    const json_t *one;
    size_t i;
    for (size_t k = 0; k < 2; k++)
        json_array_foreach(json_object_get(state, lists[k]), i, one)
        {
            json_t *line = json_copy((json_t *)(uintptr_t)one);
            (void)json_object_set(line, "since", json_object_get(state, "since"));
            (void)json_object_set_new(line, "kind", json_string(kinds[k]));
            if (k == 1)
                (void)json_object_set(line, "id", json_object_get(one, "number"));
            (void)json_array_append_new(lines, line);
        }
    ft_answer_csv(q, columns, lines);
    json_decref(lines);
}

void ft_route_state(ft_request *q)
{
    const char *at = ft_request_query(q, "at");
    char now[24];
    uint64_t ms = UINT64_MAX;
    json_t *line = NULL, *next = NULL;
    ft_status st = {0};
    int csv;
    if (!ft_needs_store(q) || !ft_format_read(q, &csv))
        return;
    if (at && ft_audit_time_read(at, &ms, &st)) {
        ft_refuse(q, 400, "invalid-parameter", "at", "'at': %s", st.msg);
        return;
    }
    if (!ft_log_request(q, "compliance.state"))
        return;
    ft_time_text((int64_t)time(NULL), now);
    if (state_at(q->server->store, ms, &line, &next, &st)) {
        ft_refuse_status(q, NULL, &st);
        return;
    }
    json_t *state = state_json(line, next, at ? at : now);
    if (csv)
        answer_state_csv(q, state);
    else
        ft_answer_json(q, 200, json_incref(state));
    json_decref(state);
    json_decref(line);
    json_decref(next);
}

/* --- Retention -------------------------------------------------------------------------------------------------- */

static void answer_retention(ft_request *q)
{
    json_t *out = NULL;
    ft_status st = {0};
    ft_store_sizes sizes = {0};
    ft_store_filter all = ft_store_filter_all();
    ft_store_page first = {.limit = 1, .ascending = 1, .spans = FT_ROW_SPANS_COUNT};
    ft_store_rows rows = {0};
    ft_code rc = ft_retention_json(q->server->federation, q->server->store, &out, &st);
    if (!rc)
        rc = ft_store_get_sizes(q->server->store, &sizes, &st);
    if (!rc)
        rc = ft_store_query(q->server->store, &all, &first, &rows, &st);
    if (rc) {
        json_decref(out);
        ft_refuse_status(q, NULL, &st);
        return;
    }
    json_t *created = json_object_get(json_array_get(rows.list, 0), "created");
    (void)json_object_set_new(out, "traces", json_integer((json_int_t)sizes.traces));
    (void)json_object_set_new(out, "used_bytes", json_integer((json_int_t)sizes.used_bytes));
    (void)json_object_set(out, "oldest", created ? created : json_null());
    json_decref(rows.list);
    ft_answer_json(q, 200, out);
}

void ft_route_retention(ft_request *q)
{
    if (ft_needs_store(q) && ft_log_request(q, "compliance.retention"))
        answer_retention(q);
}

/* `order` NULL: withdrawn. */
static void order_retention(ft_request *q, const json_t *order)
{
    const char *field = NULL;
    ft_status st = {0};
    if (!ft_needs_store(q))
        return;
    const ft_code rc = ft_retention_order(q->server->federation, q->server->store, q->key, order, &field, &st);
    if (rc == FT_ERR_UNSUPPORTED) {
        ft_refuse(q, 409, "retention-conflict", field, "%s", st.msg);
    } else if (rc) {
        ft_refuse_status(q, field, &st);
    } else {
        atomic_store(&q->server->retain_now, 1);
        answer_retention(q);
    }
}

void ft_route_retention_set(ft_request *q)
{
    order_retention(q, q->json);
}

void ft_route_retention_withdraw(ft_request *q)
{
    order_retention(q, NULL);
}
