/* /v1/optouts: owners whose experts take part in nothing, whatever a request says: those of federation.yaml, and those
 * that were ordered since. An order is a line of the store's log ("optout.set", "optout.withdrawn") that holds all
 * orders in force after it; it holds from the next request on, and after a restart. */
#include "api/compliance_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t ft_server_opted_out(const ft_server *s)
{
    return ft_federation_opted_out(s->federation) | atomic_load(&s->ordered_out);
}

void ft_server_fingerprint(const ft_server *s, char out[16])
{
    const uint64_t ordered = atomic_load(&s->ordered_out) & ~ft_federation_opted_out(s->federation);
    memcpy(out, s->fingerprint, sizeof(s->fingerprint));
    if (!ordered || !out[0])
        return;
    char text[60], hex[FT_DIGEST_HEX];
    snprintf(text, sizeof(text), "%s %llx", s->fingerprint, (unsigned long long)ordered);
    const ft_digest d = ft_digest_of(text, strlen(text));
    ft_digest_hex(&d, hex);
    snprintf(out, 16, "fx-%.12s", hex);
}

/* --- Orders ------------------------------------------------------------------------------------------ */

/* Those in force, a new list. */
static ft_code read_orders(ft_server *s, json_t **out, ft_status *st)
{
    *out = s->store ? NULL : json_array();
    return s->store ? ft_audit_optouts(s->store, out, st) : FT_OK;
}

static json_t *find_order(const json_t *orders, const char *owner, size_t *at)
{
    for (*at = 0; *at < json_array_size(orders); (*at)++) {
        json_t *order = json_array_get(orders, *at);
        const char *name = json_string_value(json_object_get(order, "owner"));
        if (name && !strcmp(name, owner))
            return order;
    }
    return NULL;
}

ft_code ft_server_read_optouts(ft_server *s, ft_status *st)
{
    json_t *orders;
    const ft_code rc = read_orders(s, &orders, st);
    ft_snapshot *now = ft_federation_snapshot(s->federation);
    if (!rc)
        atomic_store(&s->ordered_out, ft_audit_optout_experts(ft_snapshot_scope(now), orders));
    ft_snapshot_release(now);
    json_decref(orders);
    return rc;
}

/* The line is written before the order holds: what was not written down is not in force. */
static ft_code put_orders(ft_request *q, const char *what, const char *owner, const char *reason, json_t *orders,
                          ft_status *st)
{
    const ft_code rc = ft_store_log_as(
        q->server->store, FT_OPTOUTS_LINE, q->key, what,
        json_pack("{s:s,s:s,s:s?,s:O}", "request", q->id, "owner", owner, "reason", reason, "orders", orders), st);
    if (!rc)
        atomic_store(&q->server->ordered_out, ft_audit_optout_experts(ft_request_scope(q), orders));
    return rc;
}

/* --- Lists ----------------------------------------------------------------------------------------------- */

static int is_configured(const ft_server *s, const ft_owner *o)
{
    return o->expert >= 0 && ft_federation_opted_out(s->federation) >> o->expert & 1;
}

/* New reference; NULL: this owner has not opted out. */
static json_t *optout_json(const ft_server *s, const ft_owner *o, const json_t *orders)
{
    size_t at;
    json_t *order = find_order(orders, o->name, &at);
    if (is_configured(s, o))
        return json_pack("{s:s,s:s,s:s,s:i,s:s,s:n,s:n}", "id", o->name, "object", "optout", "owner", o->name, "expert",
                         o->expert, "by", "federation.yaml", "at", "reason");
    return order ? json_pack("{s:s,s:s,s:s,s:i,s:O?,s:O?,s:O?}", "id", o->name, "object", "optout", "owner", o->name,
                             "expert", o->expert, "by", json_object_get(order, "by"), "at",
                             json_object_get(order, "at"), "reason", json_object_get(order, "reason"))
                 : NULL;
}

void ft_route_optouts(ft_request *q)
{
    const ft_trace_scope *scope = ft_request_scope(q);
    json_t *list = json_array(), *orders = NULL;
    ft_status st = {0};
    if (read_orders(q->server, &orders, &st)) {
        json_decref(list);
        json_decref(orders);
        ft_refuse_status(q, NULL, &st);
        return;
    }
    for (size_t i = 0; i < scope->owner_count; i++) {
        json_t *one = optout_json(q->server, &scope->owners[i], orders);
        if (one)
            (void)json_array_append_new(list, one);
    }
    const size_t n = json_array_size(list);
    json_t *first = json_object_get(json_array_get(list, 0), "id");
    json_t *last = n ? json_object_get(json_array_get(list, n - 1), "id") : NULL;
    ft_answer_json(q, 200,
                   json_pack("{s:s,s:O?,s:O?,s:b,s:o}", "object", "list", "first_id", first, "last_id", last,
                             "has_more", 0, "data", list));
    json_decref(orders);
}

/* The owner of that name with an expert; NULL after refusing. */
static const ft_owner *find_owner(ft_request *q, const char *name)
{
    const ft_owner *owner = ft_trace_owner(ft_request_scope(q), name);
    if (owner && owner->expert >= 0)
        return owner;
    ft_refuse(q, 404, "not-found", "owner", "'%.100s' is no owner of this federation that has an expert", name);
    return NULL;
}

void ft_route_optout(ft_request *q)
{
    json_t *orders = NULL;
    ft_status st = {0};
    const ft_owner *owner = find_owner(q, q->segment[0]);
    if (!owner)
        return;
    const ft_code rc = read_orders(q->server, &orders, &st);
    json_t *one = rc ? NULL : optout_json(q->server, owner, orders);
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else if (one)
        ft_answer_json(q, 200, one);
    else
        ft_refuse(q, 404, "not-found", NULL, "'%.100s' has not opted out", owner->name);
    json_decref(orders);
}

/* --- Changes -------------------------------------------------------------------------------------------------- */

/* {"owner","reason"?}; 0 after refusing. */
static int read_body(ft_request *q, const char **owner, const char **reason)
{
    static const char *const known[] = {"owner", "reason", NULL};
    ft_status st = {0};
    const char *field = ft_unknown_field(q->json, known);
    *owner = *reason = NULL;
    ft_code rc = field ? ft_fail(&st, FT_ERR_ARG, "an opt-out has no field '%.60s'", field) : FT_OK;
    if (!rc)
        rc = ft_json_get_string(q->json, field = "owner", owner, &st);
    if (!rc && !*owner)
        rc = ft_fail(&st, FT_ERR_ARG, "'owner' is required");
    if (!rc)
        rc = ft_json_get_string(q->json, field = "reason", reason, &st);
    if (rc)
        ft_refuse_status(q, field, &st);
    return !rc;
}

/* With the lock held. */
static void set_optout(ft_request *q, const ft_owner *owner, const char *reason, json_t *orders)
{
    ft_server *s = q->server;
    char now[24], location[300];
    ft_status st = {0};
    size_t at;
    if (is_configured(s, owner) || find_order(orders, owner->name, &at)) {
        ft_answer_json(q, 200, optout_json(s, owner, orders)); /* it stands as it is */
        return;
    }
    if (ft_experts_all_left_out(s, ft_server_opted_out(s) | UINT64_C(1) << owner->expert)) {
        ft_refuse(q, 409, "optout-conflict", "owner",
                  "no expert would be left: '%.100s' has the last one that takes part", owner->name);
        return;
    }
    ft_time_text((int64_t)time(NULL), now);
    (void)json_array_append_new(
        orders, json_pack("{s:s,s:s,s:s,s:s?}", "owner", owner->name, "by", q->key, "at", now, "reason", reason));
    if (put_orders(q, "optout.set", owner->name, reason, orders, &st)) {
        ft_refuse_status(q, NULL, &st);
        return;
    }
    snprintf(location, sizeof(location), "/v1/optouts/%s", owner->name);
    if (!strpbrk(owner->name, " \r\n%?#"))
        ft_answer_header(q, "Location", location);
    ft_answer_json(q, 201, optout_json(s, owner, orders));
}

static void withdraw_optout(ft_request *q, const ft_owner *owner, json_t *orders)
{
    ft_status st = {0};
    size_t at;
    if (is_configured(q->server, owner)) {
        ft_refuse(q, 409, "optout-conflict", NULL, "'%.100s' is opted out by federation.yaml: change it there",
                  owner->name);
        return;
    }
    if (!find_order(orders, owner->name, &at)) {
        ft_refuse(q, 404, "not-found", NULL, "'%.100s' has not opted out", owner->name);
        return;
    }
    (void)json_array_remove(orders, at);
    if (put_orders(q, "optout.withdrawn", owner->name, NULL, orders, &st))
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_json(q, 200, json_pack("{s:s,s:s,s:b}", "id", owner->name, "object", "optout", "withdrawn", 1));
}

/* One change after the other: each line of the log has all orders. */
static void change(ft_request *q, const char *name, const char *reason, int withdraw)
{
    json_t *orders = NULL;
    ft_status st = {0};
    const ft_owner *owner = ft_needs_store(q) ? find_owner(q, name) : NULL;
    if (!owner)
        return;
    pthread_mutex_lock(&q->server->optout_lock);
    if (read_orders(q->server, &orders, &st))
        ft_refuse_status(q, NULL, &st);
    else if (withdraw)
        withdraw_optout(q, owner, orders);
    else
        set_optout(q, owner, reason, orders);
    pthread_mutex_unlock(&q->server->optout_lock);
    json_decref(orders);
}

void ft_route_optout_new(ft_request *q)
{
    const char *owner, *reason;
    if (read_body(q, &owner, &reason))
        change(q, owner, reason, 0);
}

void ft_route_optout_withdraw(ft_request *q)
{
    change(q, q->segment[0], NULL, 1);
}
