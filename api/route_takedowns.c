/* /v1/takedowns: documents out of an owner's indexes and out of stored outputs, with a certificate. */
#include "api/compliance_internal.h"
#include "tracer/ft_dsse.h"
#include "tracer/ft_erasure.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_DOCUMENTS = 10000, MOST_LOGGED = 100 };

/* The ids of body["documents"]; borrowed strings in a list that the caller frees. NULL: wrong, *why says what. */
static const char **read_ids(const json_t *body, size_t *n, ft_status *why)
{
    const json_t *list = json_object_get(body, "documents");
    *n = json_array_size(list);
    if (!*n || *n > MOST_DOCUMENTS) {
        (void)!ft_fail(why, FT_ERR_ARG, "'documents' must be a list of 1 to %d ids", MOST_DOCUMENTS);
        return NULL;
    }
    const char **ids = ft_alloc_array(*n, sizeof(*ids));
    for (size_t i = 0; ids && i < *n; i++)
        if (!(ids[i] = ft_json_name(json_array_get(list, i))) || !*ids[i]) {
            (void)!ft_fail(why, FT_ERR_ARG, "'documents': element %zu is no id", i);
            free(ids);
            return NULL;
        }
    return ids;
}

/* A takedown that was asked for and did not come about: who asked, for what, and why not. "takedown" itself stands for
 * certificates. What is said to the caller is not changed when the line cannot be written. */
static void log_failure(ft_request *q, const ft_status *why)
{
    const json_t *owner = json_object_get(q->json, "owner"), *documents = json_object_get(q->json, "documents");
    json_t *first = json_array();
    for (size_t i = 0; i < json_array_size(documents) && i < MOST_LOGGED; i++)
        (void)json_array_append(first, json_array_get(documents, i));
    ft_status st = {0};
    if (ft_store_log(q->server->store, q->key, "erasure.failed",
                     json_pack("{s:s,s:s,s:O?,s:I,s:o,s:s}", "request", q->id, "path", q->path, "owner",
                               json_is_string(owner) ? owner : NULL, "documents",
                               (json_int_t)json_array_size(documents), "first", first, "error", why->msg),
                     &st) != FT_OK)
        ft_server_log(q->server, "%s: a failed takedown is not in the log: %s", q->id, st.msg);
}

/* 0 after refusing. */
static int read_order(ft_request *q, ft_erasure *e)
{
    const char *policy = "redact", *field = "owner";
    int64_t min_tokens = 1;
    ft_status st = {0};
    *e = (ft_erasure){.compact = 1, .who = q->key};
    ft_code rc = ft_json_get_string(q->json, "owner", &e->owner, &st);
    if (!rc && !e->owner)
        rc = ft_fail(&st, FT_ERR_ARG, "'owner' is required");
    if (!rc) {
        field = "reason";
        rc = ft_json_get_string(q->json, "reason", &e->reason, &st);
    }
    if (!rc) {
        field = "policy";
        rc = ft_json_get_string(q->json, "policy", &policy, &st);
        if (!rc)
            rc = ft_erasure_policy_read(policy, &e->policy, &st);
    }
    if (!rc) {
        field = "min_tokens";
        rc = ft_json_get_int(q->json, "min_tokens", 1, INT32_MAX, &min_tokens, &st);
    }
    if (!rc) {
        field = "compact";
        rc = ft_json_get_bool(q->json, "compact", &e->compact, &st);
    }
    e->min_tokens = (uint32_t)min_tokens;
    if (!rc) {
        field = "documents";
        e->documents = read_ids(q->json, &e->document_count, &st);
        rc = e->documents ? FT_OK : FT_ERR_ARG;
    }
    if (rc) {
        log_failure(q, &st);
        ft_refuse_status(q, field, &st);
    }
    return !rc;
}

void ft_route_takedown_new(ft_request *q)
{
    ft_erasure e;
    json_t *certificate = NULL;
    ft_status st = {0};
    char location[80];
    if (!ft_needs_store(q) || !read_order(q, &e))
        return;
    ft_snapshot *now = ft_federation_snapshot(q->server->federation);
    const int known = ft_trace_owner(ft_snapshot_scope(now), e.owner) != NULL;
    ft_snapshot_release(now);
    if (!known) {
        free((void *)(uintptr_t)e.documents);
        (void)!ft_fail(&st, FT_ERR_ARG, "there is no owner '%.200s'", e.owner);
        log_failure(q, &st);
        ft_refuse(q, 400, NULL, "owner", "%s", st.msg);
        return;
    }
    const ft_code rc = ft_erase(q->server->federation, q->server->store, &e, &certificate, &st);
    free((void *)(uintptr_t)e.documents);
    if (rc) {
        log_failure(q, &st);
        ft_refuse_status(q, NULL, &st);
        return;
    }
    snprintf(location, sizeof(location), "/v1/takedowns/%s", json_string_value(json_object_get(certificate, "id")));
    ft_answer_header(q, "Location", location);
    ft_answer_json(q, 201, certificate);
}

/* Calls for certificates in the log, from line `from` on. */
static ft_code read_certificates(ft_store *s, uint64_t from, size_t limit, json_t **lines, uint64_t *next,
                                 ft_status *st)
{
    const ft_log_query ask = {.from = from, .prefix = "takedown", .limit = limit};
    return ft_store_read_log(s, &ask, lines, next, st);
}

void ft_route_takedowns(ft_request *q)
{
    int64_t limit = 20, after = 0;
    json_t *lines = NULL, *list = json_array();
    const json_t *line;
    uint64_t next = 0;
    size_t i;
    ft_status st = {0};
    if (!ft_needs_store(q) || !ft_request_query_int(q, "limit", 1, 100, &limit) ||
        !ft_request_query_int(q, "after", 0, INT64_MAX - 1, &after)) {
        json_decref(list);
        return;
    }
    if (read_certificates(q->server->store, (uint64_t)after + 1, (size_t)limit, &lines, &next, &st)) {
        json_decref(list);
        ft_refuse_status(q, NULL, &st);
        return;
    }
    json_array_foreach(lines, i, line)
    {
        (void)json_array_append(list, json_object_get(line, "certificate"));
    }
    json_decref(lines);
    ft_answer_json(q, 200,
                   json_pack("{s:s,s:o,s:I,s:b}", "object", "list", "data", list, "last_seq",
                             (json_int_t)(next ? next - 1 : 0), "has_more", next != 0));
}

/* New reference; NULL after refusing. */
static json_t *find_certificate(ft_request *q)
{
    json_t *found = NULL;
    ft_status st = {0};
    ft_code rc = FT_OK;
    for (uint64_t from = 1; !rc && from && !found;) {
        json_t *lines = NULL;
        const json_t *line;
        size_t i;
        rc = read_certificates(q->server->store, from, 100, &lines, &from, &st);
        json_array_foreach(lines, i, line)
        {
            json_t *c = json_object_get(line, "certificate");
            const char *id = json_string_value(json_object_get(c, "id"));
            if (!found && id && !strcmp(id, q->segment[0]))
                found = json_incref(c);
        }
        json_decref(lines);
    }
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else if (!found)
        ft_refuse(q, 404, "not-found", NULL, "there is no takedown '%s'", q->segment[0]);
    return found;
}

void ft_route_takedown(ft_request *q)
{
    json_t *c = ft_needs_store(q) ? find_certificate(q) : NULL;
    if (c)
        ft_answer_json(q, 200, c);
}

/* The certificate signed. Ed25519 has one signature for a key and a message: whoever asks again gets the same bytes,
 * until the signing key is another one. */
void ft_route_takedown_certificate(ft_request *q)
{
    ft_buffer payload = {0}, envelope = {0};
    ft_status st = {0};
    const ft_signer *signer = q->server->keys.signer;
    if (!ft_needs_store(q))
        return;
    if (!signer) {
        ft_refuse(q, 404, "no-signing-key", NULL,
                  "this server signs no certificates: its federation names no signing_key ('flextrace key new "
                  "--signing' makes one)");
        return;
    }
    json_t *c = find_certificate(q);
    if (!c)
        return;
    ft_code rc = ft_json_write(c, &payload, &st);
    if (!rc)
        rc = ft_dsse_sign(&envelope, FT_TAKEDOWN_TYPE, payload.data, payload.size, signer, &st);
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_bytes(q, 200, "application/json", envelope.data, envelope.size);
    ft_buffer_release(&payload);
    ft_buffer_release(&envelope);
    json_decref(c);
}

void ft_route_takedown_verify(ft_request *q)
{
    json_t *c = ft_needs_store(q) ? find_certificate(q) : NULL, *report = NULL;
    ft_status st = {0};
    if (!c)
        return;
    if (ft_erasure_check(q->server->federation, q->server->store, c, &report, &st))
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_json(q, 200, report);
    json_decref(c);
}
