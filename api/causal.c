/* Causal evidence for a request: what is asked for, and its passes on the scheduler's thread. */
#include "api/completion_internal.h"
#include "api/routes_internal.h"

#include <string.h>

ft_code ft_causal_wish_read(const ft_server *s, const json_t *object, ft_causal_wish *out, ft_status *st)
{
    const json_t *v = json_object_get(object, "causal");
    int64_t start = 0, end = 0;
    *out = (ft_causal_wish){0};
    if (!v || json_is_null(v) || json_is_false(v))
        return FT_OK;
    out->wanted = 1;
    if (json_is_true(v))
        return FT_OK;
    if (!json_is_object(v))
        return ft_fail(st, FT_ERR_ARG, "'causal' must be true, false or {\"owners\", \"start\", \"end\"}");
    static const char *const known[] = {"owners", "start", "end", NULL};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)v, key, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            return ft_fail(st, FT_ERR_ARG, "'causal' has no field '%.60s'", key);
    }
    ft_code rc = ft_experts_read(s, v, "owners", &out->experts, st);
    if (!rc)
        rc = ft_json_get_int(v, "start", 0, INT32_MAX, &start, st);
    if (!rc)
        rc = ft_json_get_int(v, "end", 1, INT32_MAX, &end, st);
    if (!rc && end && start >= end)
        rc = ft_fail(st, FT_ERR_ARG, "'causal': 'start' must be before 'end'");
    out->start = (size_t)start;
    out->end = (size_t)end;
    return rc;
}

typedef struct turn {
    ft_server *server;
    const ft_causal_request *request;
    ft_causal *pass;
    int done;
    ft_code rc;
    ft_status st;
} turn;

static void take_turn(void *context, ft_pool *pool)
{
    turn *t = context;
    t->rc = t->pass ? FT_OK : ft_causal_new(&t->pass, ft_scheduler_engine(t->server->scheduler), t->request, &t->st);
    if (!t->rc)
        t->rc = ft_causal_step(t->pass, pool, &t->done, &t->st);
}

ft_code ft_causal_run(ft_server *s, const ft_causal_wish *wish, const ft_causal_timeline *line, ft_client *client,
                      double deadline, ft_causal **out, ft_status *st)
{
    uint8_t experts[FT_MAX_EXPERTS];
    const size_t count = ft_causal_experts(s->model, line->without, wish->experts, experts);
    const size_t text = line->count - line->prompt_count;
    const size_t end = wish->end && wish->end < text ? wish->end : text;
    *out = NULL;
    if (!wish->wanted || !s->scheduler || !count || wish->start >= end)
        return FT_OK;
    const ft_causal_request request = {.ids = line->ids,
                                       .first = line->prompt_count + wish->start,
                                       .count = line->prompt_count + end,
                                       .without = line->without,
                                       .experts = experts,
                                       .expert_count = count};
    turn t = {.server = s, .request = &request};
    ft_code rc = FT_OK;
    while (!rc && !t.done) {
        if (client && ft_client_gone(client))
            rc = ft_fail(st, FT_ERR_CANCELLED, "the client went away");
        else if (deadline > 0 && ft_seconds_now() > deadline)
            rc = ft_fail(st, FT_ERR_LIMIT,
                         "causal evidence was not finished within %u seconds; ask for fewer owners, "
                         "or a shorter stretch",
                         s->limits.request_seconds);
        else
            rc = ft_scheduler_call(s->scheduler, take_turn, &t, st);
        if (!rc && t.rc) {
            rc = t.rc;
            if (st)
                *st = t.st;
        }
    }
    if (rc)
        ft_causal_free(t.pass);
    *out = rc ? NULL : t.pass;
    return rc;
}
