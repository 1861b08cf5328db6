/* /v1/keys, /v1/traces/{id}/receipt and its salts. */
#include "api/compliance_internal.h"
#include "tracer/ft_receipt.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ft_route_keys(ft_request *q)
{
    ft_answer_json(q, 200, ft_keyring_json(&q->server->keys));
}

static void refuse_trace(ft_request *q, const ft_status *st)
{
    if (st->code == FT_ERR_ARG || st->code == FT_ERR_NOT_FOUND)
        ft_refuse(q, 404, "not-found", NULL, "there is no trace '%s'", q->segment[0]);
    else
        ft_refuse_status(q, NULL, st);
}

/* The trace that the path names, after the question was logged; NULL after refusing. */
static json_t *stored_trace(ft_request *q, const char *what)
{
    json_t *trace = NULL;
    ft_status st = {0};
    if (!ft_needs_store(q) || !ft_log_request(q, what))
        return NULL;
    if (ft_store_get(q->server->store, q->segment[0], &trace, &st))
        refuse_trace(q, &st);
    return trace;
}

/* Reading all weights of a large model takes minutes: it is done once, by a worker, when the
 * server starts. Until then, receipts of that model wait. */
static ft_code digests_of(const ft_server *s, const json_t *trace, json_t **out, ft_status *st)
{
    const json_t *engine = json_object_get(json_object_get(trace, "provenance"), "engine");
    const char *identity = json_string_value(json_object_get(engine, "model_identity"));
    *out = NULL;
    return identity ? ft_receipt_digests(s->store, identity, NULL, 0, NULL, out, st) : FT_OK;
}

static int refuse_digests(ft_request *q, const ft_status *st)
{
    if (st->code == FT_ERR_NOT_FOUND && atomic_load(&q->server->digesting))
        ft_refuse(q, 503, "digests-pending", NULL,
                  "the model's weights are being read for their digests; ask again in a while");
    else if (st->code == FT_ERR_FORMAT)
        ft_refuse(q, 409, "no-receipt", NULL, "%s", st->msg);
    else if (st->code == FT_ERR_NOT_FOUND)
        ft_refuse(q, 409, "model-unknown", NULL, "%s", st->msg);
    else
        ft_refuse_status(q, NULL, st);
    return 0;
}

ft_code ft_server_receipt(ft_server *s, const json_t *trace, int hide_prompt, ft_buffer *out, ft_server_entry *entry,
                          ft_status *st)
{
    const size_t begin = out->size;
    json_t *digests = NULL;
    unsigned char secret[FT_STORE_SECRET];
    memset(entry, 0, sizeof(*entry));
    ft_code rc = digests_of(s, trace, &digests, st);
    if (!rc)
        rc = ft_store_secret(s->store, secret, st);
    const ft_receipt_options how = {.secret = secret, .digests = digests, .hide_prompt = hide_prompt};
    if (!rc)
        rc = ft_receipt_make(trace, &how, s->keys.signer, out, st);
    if (!rc) {
        ft_receipt_id(trace, entry->id);
        entry->entry = (ft_receipt_entry){entry->id, out->data + begin, out->size - begin};
        ft_metrics_receipt(&s->metrics);
    }
    sodium_memzero(secret, sizeof(secret));
    json_decref(digests);
    return rc;
}

/* ?prompt=hidden leaves a salted hash of the prompt. */
void ft_route_receipt(ft_request *q)
{
    ft_status st = {0};
    ft_buffer envelope = {0};
    const char *prompt = ft_request_query(q, "prompt");
    if (prompt && strcmp(prompt, "shown") != 0 && strcmp(prompt, "hidden") != 0) {
        ft_refuse(q, 400, "invalid-parameter", "prompt", "'prompt' must be \"shown\" or \"hidden\"");
        return;
    }
    if (!q->server->keys.signer) {
        ft_refuse(q, 404, "no-signing-key", NULL,
                  "this server signs no receipts: its federation names no signing_key ('flextrace key new --signing' "
                  "makes one)");
        return;
    }
    if (!ft_needs_store(q))
        return;
    json_t *trace = NULL;
    ft_server_entry made = {0};
    const ft_code found = ft_store_get(q->server->store, q->segment[0], &trace, &st);
    const ft_code rc =
        found ? found : ft_server_receipt(q->server, trace, prompt && !strcmp(prompt, "hidden"), &envelope, &made, &st);
    /* Who asked, and the receipt's leaf, in one transaction, before anything is answered. */
    if (ft_log_request_with(q, "receipt.read", &made.entry)) {
        if (found)
            refuse_trace(q, &st);
        else if (rc)
            (void)refuse_digests(q, &st);
        else
            ft_answer_bytes(q, 200, "application/json", envelope.data, envelope.size);
    }
    ft_buffer_release(&envelope);
    json_decref(trace);
}

/* ?owner=NAME: that of the owner's documents; without it: that of the prompt. */
void ft_route_receipt_salt(ft_request *q)
{
    ft_status st = {0};
    unsigned char secret[FT_STORE_SECRET];
    char hex[2 * FT_SALT_BYTES + 1];
    const char *owner = ft_request_query(q, "owner");
    if (owner && !ft_trace_owner(ft_request_scope(q), owner)) {
        ft_refuse(q, 404, "not-found", "owner", "there is no owner '%.80s'", owner);
        return;
    }
    json_t *trace = stored_trace(q, "receipt.salt");
    if (!trace)
        return;
    if (ft_store_secret(q->server->store, secret, &st) != FT_OK) {
        ft_refuse_status(q, NULL, &st);
    } else {
        const ft_salt salt = ft_receipt_salt(secret, q->segment[0], owner);
        sodium_bin2hex(hex, sizeof(hex), salt.bytes, sizeof(salt.bytes));
        ft_answer_json(q, 200,
                       json_pack("{s:s,s:o,s:s?,s:s}", "object", "salt", "receipt_id",
                                 json_sprintf("rcp_%s", q->segment[0] + 4), "owner", owner, "salt", hex));
    }
    sodium_memzero(secret, sizeof(secret));
    json_decref(trace);
}

/* --- Digests of the model, in the background ---------------------------------------------- */

static int is_stopping(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    const ft_server *s = context;
    (void)phase, (void)done, (void)total, (void)unit;
    return s->cancel;
}

static void read_digests(ft_work *work)
{
    ft_server *s = (ft_server *)(void *)((char *)work - offsetof(ft_server, digest_work));
    const ft_progress progress = {is_stopping, s};
    ft_status st = {0};
    json_t *digests = NULL;
    const uint64_t opted_out = ft_federation_opted_out(s->federation);
    const ft_code rc = ft_receipt_digests(s->store, NULL, s->model, opted_out, &progress, &digests, &st);
    if (rc && rc != FT_ERR_CANCELLED)
        ft_server_log(s, "receipts: %s", st.msg);
    json_decref(digests);
    atomic_store(&s->digesting, 0);
}

void ft_server_digest_later(ft_server *s)
{
    s->digest_work.run = read_digests;
    atomic_store(&s->digesting, 1);
    ft_work_push(s, &s->digest_work);
}
