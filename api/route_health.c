/* /livez, /readyz, /health, /version: whether it runs, and what. */
#include "api/routes_internal.h"

#include "base/ft_cpu.h"

#include <string.h>

void ft_route_livez(ft_request *q)
{
    ft_answer_json(q, 200, json_pack("{s:s}", "status", "ok"));
}

void ft_route_health(ft_request *q)
{
    if (q->server->draining)
        ft_refuse(q, 503, "overloaded", NULL, "the server is shutting down");
    else
        ft_answer_json(q, 200, json_pack("{s:s}", "status", "ok"));
}

void ft_route_health_empty(ft_request *q)
{
    if (q->server->draining)
        ft_refuse(q, 503, "overloaded", NULL, "the server is shutting down");
    else
        ft_answer_static(q, 204, "text/plain", "", 0);
}

void ft_answer_while_loading(ft_request *q)
{
    static const char says[] = "the model is being loaded; try again later";
    if (q->route->run == ft_route_livez)
        return;
    if (q->route->run == ft_route_health) {
        ft_answer_header(q, "Retry-After", "1");
        ft_answer_json(q, 503,
                       json_pack("{s:{s:i,s:s,s:s}}", "error", "code", 503, "message", "Loading model", "type",
                                 "unavailable_error"));
    } else if (q->route->run == ft_route_readyz) {
        ft_refuse_with(q, 503, "not-ready", NULL, json_pack("{s:[{s:s,s:b}]}", "checks", "name", "model", "ok", 0),
                       says);
    } else {
        ft_refuse(q, 503, q->face == FT_FACE_OPENAI ? "model_loading" : "model-loading", NULL, "%s", says);
    }
}

void ft_route_version(ft_request *q)
{
    char fingerprint[16];
    ft_server_fingerprint(q->server, fingerprint);
    ft_answer_json(q, 200,
                   json_pack("{s:s,s:s,s:s,s:s*}", "name", "flextrace", "version", FT_VERSION, "kernels",
                             ft_cpu_family_name(ft_cpu_isa()), "system_fingerprint",
                             fingerprint[0] ? fingerprint : NULL));
}

/* --- /readyz ------------------------------------------------------------------ */

typedef struct probe {
    ft_scheduler *scheduler;
    uint64_t without;
    const ft_model *model;
    ft_code rc;
    ft_status st;
} probe;

/* One token, on the scheduler's thread and its engine: as generations read it, in a page of
 * the same memory. */
static void pass_one_token(void *context, ft_pool *pool)
{
    (void)pool;
    probe *p = context;
    ft_session *session = NULL;
    const ft_model_config *c = ft_model_get_config(p->model);
    const uint32_t id = c->end_of_text_count && c->end_of_text[0] < c->vocab ? c->end_of_text[0] : 0;
    const ft_session_options how = {.max_tokens = 1, .without = p->without};
    p->rc = ft_session_open_on(&session, ft_scheduler_engine(p->scheduler), &how, &p->st);
    if (!p->rc)
        p->rc = ft_session_read(session, &id, 1, &(ft_outputs){0}, NULL, &p->st);
    ft_session_close(session);
}

static ft_code check_model(ft_server *s, ft_status *st)
{
    probe p = {.scheduler = s->scheduler, .without = ft_server_opted_out(s), .model = s->model};
    ft_code rc = ft_scheduler_call(s->scheduler, pass_one_token, &p, st);
    if (rc == FT_ERR_LIMIT) /* the queue is full, so the model is at work */
        return FT_OK;
    if (!rc && p.rc)
        *st = p.st;
    return rc ? rc : p.rc;
}

static ft_code check_indexes(const ft_trace_scope *scope, ft_status *st)
{
    for (size_t o = 0; o < scope->owner_count; o++)
        for (size_t i = 0; i < scope->owners[o].index_count; i++) {
            const ft_index *ix = scope->owners[o].indexes[i];
            const ft_index_info info = ft_index_get_info(ix);
            ft_match all;
            ft_index_find(ix, NULL, 0, &all);
            if (all.count != info.tokens + info.documents)
                return ft_fail(st, FT_ERR_FORMAT, "owner %s: an index does not answer", scope->owners[o].name);
        }
    return FT_OK;
}

/* Appends one check's outcome; what failed goes to the log in full, to the client by name. */
static int add_check(ft_server *s, json_t *list, const char *name, ft_code rc, const ft_status *st)
{
    if (rc)
        ft_server_log(s, "readyz: %s: %s", name, st->msg);
    (void)json_array_append_new(list, json_pack("{s:s,s:b}", "name", name, "ok", rc == FT_OK));
    return rc == FT_OK;
}

static void run_checks(ft_server *s)
{
    ft_status st = {0};
    json_t *list = json_array();
    int ok = list != NULL;
    if (s->scheduler)
        ok &= add_check(s, list, "model", check_model(s, &st), &st);
    ft_snapshot *snapshot = ft_server_snapshot(s);
    ok &= add_check(s, list, "indexes", check_indexes(ft_snapshot_scope(snapshot), &st), &st);
    ft_snapshot_release(snapshot);
    if (s->store)
        ok &= add_check(s, list, "store", ft_store_check(s->store, &st), &st);
    json_decref(s->ready_checks);
    s->ready_checks = list;
    s->ready = ok;
    s->ready_checked = ft_seconds_now();
}

/* Owners that are served from an index as it was before, since its newest state cannot be
 * opened: no reason to send requests elsewhere, but somebody should know. */
static void add_faults(const ft_server *s, json_t *checks)
{
    const char *owners[FT_MAX_OWNERS];
    const size_t n = ft_federation_faults(s->federation, owners);
    if (!n)
        return;
    json_t *names = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(names, json_string(owners[i]));
    (void)json_array_append_new(checks, json_pack("{s:s,s:b,s:o}", "name", "newest indexes", "ok", 0, "owners", names));
}

void ft_route_readyz(ft_request *q)
{
    enum { REMEMBERED_SECONDS = 5 };
    ft_server *s = q->server;
    pthread_mutex_lock(&s->ready_lock);
    if (!s->ready_checks || ft_seconds_now() - s->ready_checked > REMEMBERED_SECONDS)
        run_checks(s);
    const int ready = s->ready && !s->draining;
    json_t *checks = json_deep_copy(s->ready_checks);
    pthread_mutex_unlock(&s->ready_lock);
    add_faults(s, checks);
    const char *status = s->draining ? "shutting down" : ready ? "ready" : "not ready";
    if (ready)
        ft_answer_json(q, 200, json_pack("{s:s,s:o}", "status", status, "checks", checks));
    else
        ft_refuse_with(q, 503, "not-ready", NULL, json_pack("{s:o}", "checks", checks), status);
}
