/* /v1/takedowns: documents out of an owner's indexes and out of stored outputs, with a certificate. */
#include "api/compliance_internal.h"
#include "api/erasure_jobs.h"
#include "tracer/ft_dsse.h"
#include "tracer/ft_retention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

void ft_log_failed_takedown(ft_server *s, const char *key, const char *request_id, const char *path, const json_t *body,
                            const ft_status *why)
{
    const json_t *owner = json_object_get(body, "owner"), *documents = json_object_get(body, "documents");
    json_t *first = json_array();
    for (size_t i = 0; i < json_array_size(documents) && i < MOST_LOGGED; i++)
        (void)json_array_append(first, json_array_get(documents, i));
    ft_status st = {0};
    if (ft_store_log(s->store, key, "erasure.failed",
                     json_pack("{s:s,s:s,s:O?,s:I,s:o,s:s}", "request", request_id, "path", path, "owner",
                               json_is_string(owner) ? owner : NULL, "documents",
                               (json_int_t)json_array_size(documents), "first", first, "error", why->msg),
                     &st) != FT_OK)
        ft_server_log(s, "%s: a failed takedown is not in the log: %s", request_id, st.msg);
}

static void log_failure(ft_request *q, const ft_status *why)
{
    ft_log_failed_takedown(q->server, q->key, q->id, q->path, q->json, why);
}

/* 0 after refusing. */
static int read_order(ft_request *q, ft_erasure *e)
{
    static const char *const known[] = {"owner",      "documents", "text", "reason", "policy",
                                        "min_tokens", "compact",   NULL};
    const char *policy = "redact", *unknown = ft_unknown_field(q->json, known), *field = unknown ? unknown : "owner";
    int64_t min_tokens = 1;
    ft_status st = {0};
    *e = (ft_erasure){.compact = 1, .who = q->key};
    ft_code rc = unknown ? ft_fail(&st, FT_ERR_ARG, "a takedown has no field '%.60s'", unknown) : FT_OK;
    if (!rc)
        rc = ft_json_get_string(q->json, "owner", &e->owner, &st);
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
    const json_t *text = json_object_get(q->json, "text");
    if (!rc && text && !json_is_null(text)) {
        field = "text";
        rc = ft_takedown_find(q, e->owner, MOST_DOCUMENTS, &st);
    }
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

/* --- Asked twice ------------------------------------------------------------------------------------------------ */

/* What a key was first used for: {"body": digest, "job": id}, a note of the store. */
typedef struct repeat {
    char note[90];            /* "": the request has no Idempotency-Key */
    char body[FT_DIGEST_HEX]; /* of the body with its keys in order */
} repeat;

/* 0 after refusing. */
static int read_repeat(ft_request *q, repeat *out)
{
    char hex[FT_DIGEST_HEX];
    const char *key = ft_request_header(q, "Idempotency-Key");
    memset(out, 0, sizeof(*out));
    if (!key)
        return 1;
    const size_t n = strlen(key);
    char *body = n >= 1 && n <= 255 ? json_dumps(q->json, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    if (!body) {
        ft_refuse(q, 400, "invalid-header", NULL, "Idempotency-Key has 1 to 255 characters");
        return 0;
    }
    ft_digest d = ft_digest_of(body, strlen(body));
    free(body);
    ft_digest_hex(&d, out->body);
    ft_hasher h; /* whose key it is counts too */
    ft_hasher_init(&h);
    ft_hasher_add(&h, q->key, strlen(q->key) + 1);
    ft_hasher_add(&h, key, n);
    d = ft_hasher_end(&h);
    ft_digest_hex(&d, hex);
    snprintf(out->note, sizeof(out->note), "idempotency:%s", hex);
    return 1;
}

static ft_code keep_repeat(ft_store *s, const repeat *r, const char *job, ft_status *st)
{
    ft_buffer text = {0};
    json_t *v = json_pack("{s:s,s:s}", "body", r->body, "job", job);
    ft_code rc = v ? ft_json_write(v, &text, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_store_note_put(s, r->note, text.data, text.size, st);
    json_decref(v);
    ft_buffer_release(&text);
    return rc;
}

/* What came of the job: its certificate, or where to look. 0: it failed, and is done anew. */
static int answer_again(ft_request *q, json_t *job)
{
    const char *state = json_string_value(json_object_get(job, "state")),
               *result = json_string_value(json_object_get(job, "result"));
    json_t *line = NULL, *certificate = NULL;
    if (state && (!strcmp(state, "failed") || !strcmp(state, "cancelled")))
        return 0;
    if (result && ft_store_logged(q->server->store, strrchr(result, '/') + 1, &line, NULL) == FT_OK)
        certificate = json_incref(json_object_get(line, "certificate"));
    json_decref(line);
    ft_answer_header(q, "Idempotent-Replayed", "true");
    if (certificate)
        ft_answer_certificate(q, certificate);
    else
        ft_answer_job(q, json_incref(job));
    return 1;
}

/* Whether the request was answered: its key was used before. */
static int was_asked(ft_request *q, const repeat *r)
{
    ft_buffer text = {0};
    json_t *before = NULL, *job = NULL;
    ft_status st = {0};
    if (!r->note[0])
        return 0;
    ft_code rc = ft_store_note_get(q->server->store, r->note, &text, &st);
    if (!rc)
        rc = ft_json_parse(&before, text.data ? text.data : "", text.size, "note", &st);
    const char *body = json_string_value(json_object_get(before, "body")),
               *id = json_string_value(json_object_get(before, "job"));
    int answered = 0;
    if (rc && rc != FT_ERR_NOT_FOUND) {
        ft_refuse_status(q, NULL, &st);
        answered = 1;
    } else if (!rc && body && strcmp(body, r->body) != 0) {
        ft_refuse(q, 409, "idempotency-conflict", NULL, "this Idempotency-Key came with another body before");
        answered = 1;
    } else if (!rc && id && ft_task_look(q->server, id, &job, &st) == FT_OK) {
        answered = answer_again(q, job);
    }
    json_decref(job);
    json_decref(before);
    ft_buffer_release(&text);
    return answered;
}

/* --- Asking ------------------------------------------------------------------------------------------------------ */

/* 0 after refusing. */
static int is_possible(ft_request *q, const ft_erasure *e)
{
    ft_status st = {0};
    ft_snapshot *now = ft_federation_snapshot(q->server->federation);
    const int known = ft_trace_owner(ft_snapshot_scope(now), e->owner) != NULL;
    ft_snapshot_release(now);
    if (!known) {
        (void)!ft_fail(&st, FT_ERR_ARG, "there is no owner '%.200s'", e->owner);
        log_failure(q, &st);
        ft_refuse(q, 400, NULL, "owner", "%s", st.msg);
        return 0;
    }
    const ft_code rc = ft_retention_permits(q->server->federation, q->server->store, e, &st);
    if (rc) {
        log_failure(q, &st);
        if (rc == FT_ERR_UNSUPPORTED)
            ft_refuse(q, 409, "retention-conflict", "policy", "%s", st.msg);
        else
            ft_refuse_status(q, NULL, &st);
    }
    return !rc;
}

/* RFC 7240: the client does not wait. */
static int responds_later(const ft_request *q)
{
    const char *prefer = ft_request_header(q, "Prefer");
    return prefer && strstr(prefer, "respond-async");
}

void ft_route_takedown_new(ft_request *q)
{
    ft_erasure e = {0};
    repeat r;
    json_t *job = NULL;
    ft_status st = {0};
    char id[FT_TRACE_ID];
    ft_server *s = q->server;
    if (!ft_needs_store(q) || !read_repeat(q, &r))
        return;
    pthread_mutex_lock(&s->tasks.lock); /* of two with one key, the second finds the first */
    if (!was_asked(q, &r) && read_order(q, &e) && is_possible(q, &e)) {
        ft_code rc = ft_task_start(q, &e, !responds_later(q), id, &job, &st);
        if (!rc && r.note[0] && keep_repeat(s->store, &r, id, &st))
            ft_server_log(s, "%s: the key of a takedown is not kept: %s", q->id, st.msg);
        if (rc)
            ft_refuse_status(q, NULL, &st);
        else if (job)
            ft_answer_job(q, job);
    }
    pthread_mutex_unlock(&s->tasks.lock);
    free((void *)(uintptr_t)e.documents);
}

/* Certificates in the log, from line `from` on. */
static ft_code read_certificates(ft_store *s, const ft_log_query *like, uint64_t from, size_t limit, json_t **lines,
                                 uint64_t *next, ft_status *st)
{
    const ft_log_query ask = {.from = from,
                              .from_ms = like->from_ms,
                              .to_ms = like->to_ms,
                              .who = like->who,
                              .prefix = "takedown",
                              .limit = limit};
    return ft_store_read_log(s, &ask, lines, next, st);
}

static int is_about(const json_t *certificate, const ft_store_filter *f)
{
    const char *owner = json_string_value(json_object_get(certificate, "owner"));
    const json_t *one;
    size_t i;
    int found = !f->document;
    json_array_foreach(json_object_get(certificate, "documents"), i, one)
    {
        const char *id = json_string_value(json_object_get(one, "id"));
        found = found || (id && !strcmp(id, f->document));
    }
    return found && (!f->owner || (owner && !strcmp(owner, f->owner)));
}

/* For CSV: documents by name, outputs by number, and who asked. */
static json_t *flat_certificate(const json_t *line)
{
    json_t *flat = json_copy(json_object_get(line, "certificate")), *names = json_array();
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(flat, "documents"), i, one)
    {
        (void)json_array_append(names, json_object_get(one, "id"));
    }
    (void)json_object_set_new(flat, "outputs",
                              json_integer((json_int_t)json_array_size(json_object_get(flat, "outputs"))));
    (void)json_object_set_new(flat, "documents", names);
    (void)json_object_set(flat, "who", json_object_get(line, "who"));
    return flat;
}

/* Appends what fits until there are `limit`; *from is the line to go on with, 0 at the end, *last the last taken. */
static ft_code list_certificates(ft_store *s, const ft_store_filter *f, size_t limit, int csv, json_t *list,
                                 uint64_t *from, uint64_t *last, ft_status *st)
{
    const ft_log_query like = {.from_ms = f->from_ms, .to_ms = f->to_ms, .who = f->key};
    ft_code rc = FT_OK;
    while (!rc && *from && json_array_size(list) < limit) {
        json_t *lines = NULL;
        const json_t *line;
        size_t i;
        rc = read_certificates(s, &like, *from, limit - json_array_size(list), &lines, from, st);
        json_array_foreach(lines, i, line)
        {
            *last = (uint64_t)json_integer_value(json_object_get(line, "seq"));
            if (is_about(json_object_get(line, "certificate"), f))
                (void)json_array_append_new(list, csv ? flat_certificate(line)
                                                      : json_incref(json_object_get(line, "certificate")));
        }
        json_decref(lines);
    }
    return rc;
}

void ft_route_takedowns(ft_request *q)
{
    static const char *const columns[] = {"id",       "owner",  "documents", "who",     "reason", "policy", "accepted",
                                          "hidden", "redacted",  "erased", "outputs", NULL};
    int64_t limit = 20, after = 0;
    ft_store_filter filter;
    ft_status st = {0};
    int csv;
    if (!ft_needs_store(q) || !ft_filter_read(q, &filter) || !ft_request_query_int(q, "limit", 1, 100, &limit) ||
        !ft_request_query_int(q, "after", 0, INT64_MAX - 1, &after) || !ft_format_read(q, &csv) ||
        !ft_log_request(q, "erasure.list"))
        return;
    json_t *list = json_array();
    uint64_t from = (uint64_t)after + 1, last = (uint64_t)after;
    if (list_certificates(q->server->store, &filter, (size_t)limit, csv, list, &from, &last, &st)) {
        json_decref(list);
        ft_refuse_status(q, NULL, &st);
        return;
    }
    ft_answer_lines(q, csv ? columns : NULL, list, from ? from - 1 : last, from != 0);
}

/* The certificate that the path names, after the question was logged. New reference; NULL after refusing. */
static json_t *find_certificate(ft_request *q, const char *what)
{
    json_t *found = NULL;
    ft_status st = {0};
    if (!ft_needs_store(q) || !ft_log_request(q, what))
        return NULL;
    const ft_code rc = ft_erasure_find(q->server->store, q->segment[0], &found, &st);
    if (rc == FT_ERR_NOT_FOUND)
        ft_refuse(q, 404, "not-found", NULL, "there is no takedown '%s'", q->segment[0]);
    else if (rc)
        ft_refuse_status(q, NULL, &st);
    return found;
}

void ft_route_takedown(ft_request *q)
{
    json_t *c = find_certificate(q, "erasure.read");
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
    json_t *c = find_certificate(q, "erasure.certificate");
    if (!c)
        return;
    ft_code rc = ft_json_write(c, &payload, &st);
    if (!rc)
        rc = ft_dsse_sign(&envelope, FT_TAKEDOWN_TYPE, payload.data, payload.size, signer, &st);
    if (!rc) /* in the log of receipts before it is handed out */
        rc = ft_store_receipt_add(q->server->store, q->segment[0], envelope.data, envelope.size, NULL, &st);
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_bytes(q, 200, "application/json", envelope.data, envelope.size);
    ft_buffer_release(&payload);
    ft_buffer_release(&envelope);
    json_decref(c);
}

/* Pages of earlier requests: no text finds them, and nothing is asked of them but by a request that has the same words
 * already. They are told, not judged. */
static void add_prefix_cache(const ft_server *s, json_t *report)
{
    if (!s->scheduler)
        return;
    char now[24];
    const ft_engine_load e = ft_scheduler_get_load(s->scheduler).engine;
    ft_time_text((int64_t)time(NULL), now);
    (void)json_array_append_new(json_object_get(report, "caches"),
                                json_pack("{s:s,s:s,s:s,s:I,s:s}", "what", "prefix cache", "verdict",
                                          e.prefix_pages ? "not reached" : "clean", "checked", now, "bytes",
                                          (json_int_t)(e.prefix_pages * e.page_bytes), "why",
                                          "keys and values of earlier requests, in memory until others need the room "
                                          "or the server ends"));
}

void ft_route_takedown_verify(ft_request *q)
{
    json_t *c = find_certificate(q, "erasure.verify"), *report = NULL;
    ft_status st = {0};
    if (!c)
        return;
    if (ft_erasure_check(q->server->federation, q->server->store, c, &report, &st)) {
        ft_refuse_status(q, NULL, &st);
    } else {
        add_prefix_cache(q->server, report);
        ft_answer_json(q, 200, report);
    }
    json_decref(c);
}
