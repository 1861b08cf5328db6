/* From a stored trace to its statement. Nothing here looks at a clock, an index or a model. */
#include "tracer/ft_receipt.h"
#include "tracer/tracer_internal.h"

#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "token ids are hashed little-endian");

typedef struct maker {
    const json_t *trace, *provenance;
    const ft_receipt_options *options;
    const char *id;
    struct {
        const char *owner;                  /* a string of the trace */
        crypto_auth_hmacsha256_state state; /* that has read the owner's salt */
    } salts[FT_MAX_OWNERS];                 /* those that were asked for so far */
    size_t salt_count;
    int failed; /* memory ran out */
} maker;

/* --- Salts ---------------------------------------------------------------------- */

ft_salt ft_receipt_salt(const unsigned char secret[FT_STORE_SECRET], const char *trace_id, const char *owner)
{
    static const char purpose[] = "flextrace receipt salt v1", prompt[] = "prompt", of_owner[] = "owner";
    crypto_auth_hmacsha256_state state;
    const char *kind = owner ? of_owner : prompt;
    ft_salt out;
    crypto_auth_hmacsha256_init(&state, secret, FT_STORE_SECRET);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)purpose, sizeof(purpose)); /* each with its NUL */
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)trace_id, strlen(trace_id) + 1);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)kind, strlen(kind) + 1);
    if (owner)
        crypto_auth_hmacsha256_update(&state, (const unsigned char *)owner, strlen(owner));
    crypto_auth_hmacsha256_final(&state, out.bytes);
    return out;
}

static void hash_end(crypto_auth_hmacsha256_state *state, const void *bytes, size_t n, char out[FT_SALTED_HASH])
{
    static const char head[] = "hmac-sha256:";
    ft_digest d;
    crypto_auth_hmacsha256_update(state, bytes, n);
    crypto_auth_hmacsha256_final(state, d.bytes);
    memcpy(out, head, sizeof(head) - 1);
    ft_digest_hex(&d, out + sizeof(head) - 1);
}

void ft_salted_hash(const ft_salt *salt, const void *bytes, size_t n, char out[FT_SALTED_HASH])
{
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, salt->bytes, sizeof(salt->bytes));
    hash_end(&state, bytes, n, out);
}

/* --- Small things ----------------------------------------------------------------- */

static json_t *field(const json_t *object, const char *key)
{
    return json_object_get(object, key);
}

/* A copy of a field, null where there is none. */
static void copy(maker *m, json_t *out, const char *name, const json_t *from)
{
    put(out, name, from ? json_deep_copy(from) : json_null(), &m->failed);
}

/* "top_k" as "topK": names in a predicate are lowerCamelCase. */
static void camel(const char *from, char *to, size_t size)
{
    size_t n = 0;
    for (; *from && n + 1 < size; from++) {
        const int up = *from == '_' && from[1] && n;
        from += up;
        to[n++] = up ? (char)toupper((unsigned char)*from) : *from;
    }
    to[n] = '\0';
}

/* A deep copy, with such names where `names` is set: owners' names, which are keys too, stay. */
static json_t *camel_copy(maker *m, const json_t *from, int names)
{
    if (json_is_array(from)) {
        json_t *out = json_array();
        for (size_t i = 0; i < json_array_size(from); i++)
            m->failed |= json_array_append_new(out, camel_copy(m, json_array_get(from, i), names)) != 0;
        return out;
    }
    if (!json_is_object(from))
        return json_deep_copy(from);
    json_t *out = json_object();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        char name[100];
        camel(key, name, sizeof(name));
        const int owners = !strcmp(key, "owners") || !strcmp(key, "owner_counts") || !strcmp(key, "by_owner");
        put(out, names ? name : key, camel_copy(m, value, !owners), &m->failed);
    }
    return out;
}

/* Parts of it are gone: what is left is not what was written. */
static int is_redacted(const json_t *trace)
{
    const json_t *mark = field(trace, "redacted");
    return (mark && !json_is_null(mark) && !json_is_false(mark)) ||
           !json_is_array(field(field(trace, "prompt"), "ids")) ||
           !json_is_array(field(field(trace, "response"), "ids"));
}

/* The ids of "prompt" or "response". */
static ft_code read_ids(const maker *m, const char *part, uint32_t **ids, size_t *n, ft_status *st)
{
    ft_status why = {0};
    const ft_code rc = ft_json_get_ids(field(m->trace, part), "ids", ids, n, &why);
    return rc ? ft_fail(st, rc == FT_ERR_MEM ? rc : FT_ERR_FORMAT, "trace %s: %s: %s", m->id, part, why.msg) : FT_OK;
}

static json_t *subject(maker *m, const char *name, const char *hex)
{
    json_t *out = json_pack("{s:s,s:{s:s}}", "name", name, "digest", "sha256", hex);
    m->failed |= !out;
    return out;
}

/* --- The parts of the predicate ----------------------------------------------------- */

static json_t *subjects_json(maker *m, const uint32_t *output, size_t n)
{
    static const char head[] = "sha256:";
    char hex[FT_DIGEST_HEX];
    const char *text = json_string_value(field(m->provenance, "output_digest"));
    const json_t *response = field(field(m->trace, "response"), "text");
    json_t *list = json_array();
    if (text && !strncmp(text, head, sizeof(head) - 1)) {
        m->failed |= json_array_append_new(list, subject(m, "output", text + sizeof(head) - 1)) != 0;
    } else if (json_is_string(response)) { /* a text that was given */
        const ft_digest d = ft_digest_of(json_string_value(response), json_string_length(response));
        ft_digest_hex(&d, hex);
        m->failed |= json_array_append_new(list, subject(m, "output", hex)) != 0;
    }
    const ft_digest d = ft_digest_of(output, n * sizeof(*output));
    ft_digest_hex(&d, hex);
    m->failed |= json_array_append_new(list, subject(m, "output-token-ids", hex)) != 0;
    return list;
}

static json_t *model_json(maker *m)
{
    json_t *out = json_object();
    copy(m, out, "name", field(m->trace, "model"));
    copy(m, out, "digest", field(m->options->digests, "model"));
    copy(m, out, "configDigest", field(m->options->digests, "config"));
    return out;
}

static json_t *experts_json(maker *m)
{
    const json_t *experts = field(m->trace, "experts"), *digests = field(m->options->digests, "experts");
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(experts); i++) {
        const json_t *x = json_array_get(experts, i), *id = field(x, "id");
        const char *state = json_string_value(field(x, "state"));
        json_t *out = json_object();
        copy(m, out, "id", id);
        copy(m, out, "owner", field(x, "owner"));
        copy(m, out, "digest", json_array_get(digests, (size_t)json_integer_value(id)));
        put(out, "active", json_boolean(state && !strcmp(state, "active")), &m->failed);
        m->failed |= json_array_append_new(list, out) != 0;
    }
    return list;
}

static json_t *routing_json(maker *m)
{
    const json_t *routing = field(m->provenance, "routing"), *experts = field(m->trace, "experts");
    if (!json_is_object(routing))
        return json_null();
    json_t *out = json_object(), *shares = json_array();
    copy(m, out, "digest", field(routing, "digest"));
    copy(m, out, "shape", field(routing, "shape"));
    for (size_t i = 0; i < json_array_size(experts); i++) {
        json_t *share = json_object();
        copy(m, share, "owner", field(json_array_get(experts, i), "owner"));
        copy(m, share, "share", field(json_array_get(experts, i), "share"));
        m->failed |= json_array_append_new(shares, share) != 0;
    }
    put(out, "shares", shares, &m->failed);
    return out;
}

/* Under the owner's salt, which is derived once. */
static void owner_hash(maker *m, const char *owner, const json_t *id, char out[FT_SALTED_HASH])
{
    size_t i = 0;
    crypto_auth_hmacsha256_state state;
    while (i < m->salt_count && strcmp(m->salts[i].owner, owner) != 0)
        i++;
    if (i < m->salt_count) {
        state = m->salts[i].state;
    } else {
        const ft_salt salt = ft_receipt_salt(m->options->secret, m->id, owner);
        crypto_auth_hmacsha256_init(&state, salt.bytes, sizeof(salt.bytes));
    }
    if (i == m->salt_count && i < FT_MAX_OWNERS) {
        m->salts[i].owner = owner;
        m->salts[i].state = state;
        m->salt_count++;
    }
    hash_end(&state, json_string_value(id), json_string_length(id), out);
}

/* Documents as salted hashes of their ids. */
static json_t *documents_json(maker *m, const json_t *span)
{
    const json_t *docs = field(span, "docs");
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(docs); i++) {
        const json_t *doc = json_array_get(docs, i), *id = field(doc, "id");
        const char *owner = json_string_value(field(doc, "owner"));
        char hash[FT_SALTED_HASH];
        if (!owner || !json_is_string(id))
            continue;
        owner_hash(m, owner, id, hash);
        json_t *out = json_object();
        put(out, "owner", json_string_nocheck(owner), &m->failed);
        put(out, "digest", json_string(hash), &m->failed);
        m->failed |= json_array_append_new(list, out) != 0;
    }
    return list;
}

/* The trace's own evidence where it has some; else what every span has. */
static json_t *evidence_json(maker *m, const json_t *span)
{
    const json_t *evidence = field(span, "evidence");
    if (json_is_object(evidence) || json_is_array(evidence))
        return camel_copy(m, evidence, 1);
    json_t *out = json_object(), *verbatim = json_object(), *routing = json_object();
    copy(m, verbatim, "count", field(span, "count"));
    copy(m, verbatim, "unigramLogprobSum", field(span, "unigram_logprob_sum"));
    copy(m, routing, "shares", field(span, "shares"));
    put(out, "verbatim", verbatim, &m->failed);
    put(out, "routing", routing, &m->failed);
    return out;
}

static json_t *spans_json(maker *m)
{
    const json_t *spans = field(m->trace, "spans");
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(spans); i++) {
        const json_t *span = json_array_get(spans, i), *verdict = field(span, "verdict");
        json_t *out = json_object();
        copy(m, out, "start", field(span, "start"));
        copy(m, out, "end", field(span, "end"));
        put(out, "verdict", verdict ? json_deep_copy(verdict) : json_null(), &m->failed);
        if (field(span, "verdict_rule"))
            copy(m, out, "verdictRule", field(span, "verdict_rule"));
        if (field(span, "verdict_owners"))
            copy(m, out, "verdictOwners", field(span, "verdict_owners"));
        copy(m, out, "count", field(span, "count"));
        copy(m, out, "ownerCounts", field(span, "owner_counts"));
        put(out, "documents", documents_json(m, span), &m->failed);
        put(out, "evidence", evidence_json(m, span), &m->failed);
        m->failed |= json_array_append_new(list, out) != 0;
    }
    return list;
}

static void put_prompt(maker *m, json_t *out, const uint32_t *prompt, size_t n)
{
    char hash[FT_SALTED_HASH], hex[2 * FT_SALT_BYTES + 1];
    const ft_salt salt = ft_receipt_salt(m->options->secret, m->id, NULL);
    ft_salted_hash(&salt, prompt, n * sizeof(*prompt), hash);
    put(out, "promptDigest", json_string(hash), &m->failed);
    put(out, "promptTokenCount", json_size(n), &m->failed);
    if (m->options->hide_prompt)
        return;
    sodium_bin2hex(hex, sizeof(hex), salt.bytes, sizeof(salt.bytes));
    put(out, "promptSalt", json_string(hex), &m->failed);
    put(out, "promptTokenIds", ft_json_ids(prompt, n), &m->failed);
}

static json_t *engine_json(maker *m)
{
    const json_t *engine = field(m->provenance, "engine");
    if (!json_is_object(engine))
        return json_null();
    json_t *out = json_pack("{s:s}", "name", "flextrace");
    copy(m, out, "version", field(engine, "version"));
    copy(m, out, "kernels", field(engine, "kernels"));
    copy(m, out, "compute", field(engine, "compute"));
    copy(m, out, "kvType", field(engine, "kv_type"));
    return out;
}

/* Over what was asked for: three lines. */
static ft_code put_request_digest(maker *m, json_t *predicate, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = ft_buffer_printf(
        &text, st, "%s\n",
        json_string_value(field(predicate, "promptDigest")) ? json_string_value(field(predicate, "promptDigest")) : "");
    if (!rc)
        rc = ft_json_write(field(predicate, "parameters"), &text, st);
    if (!rc)
        rc = ft_buffer_append(&text, "\n", 1, st);
    if (!rc)
        rc = ft_json_write(field(predicate, "without"), &text, st);
    if (!rc) {
        char hex[FT_DIGEST_HEX];
        const ft_digest d = ft_digest_of(text.data, text.size);
        ft_digest_hex(&d, hex);
        put(predicate, "requestDigest", json_sprintf("sha256:%s", hex), &m->failed);
    }
    ft_buffer_release(&text);
    return rc;
}

/* --- The whole ----------------------------------------------------------------------- */

static json_t *predicate_json(maker *m, const uint32_t *prompt, size_t prompt_count, const uint32_t *output,
                              size_t output_count, ft_code *rc, ft_status *st)
{
    const json_t *parameters = field(m->trace, "parameters");
    const int replayable = json_is_object(parameters) && json_is_object(field(m->provenance, "engine")) &&
                           !m->options->hide_prompt && m->options->digests;
    json_t *p = json_object();
    put(p, "receiptId", json_sprintf("rcp_%s", m->id + 4), &m->failed);
    put(p, "traceId", json_string(m->id), &m->failed);
    copy(m, p, "nonce", field(m->trace, "nonce"));
    copy(m, p, "keyName", field(m->trace, "key"));
    put(p, "model", model_json(m), &m->failed);
    copy(m, p, "tokenizerDigest", field(m->provenance, "tokenizer_digest"));
    put(p, "experts", experts_json(m), &m->failed);
    copy(m, p, "without", field(m->trace, "without"));
    put(p, "parameters", parameters ? camel_copy(m, parameters, 1) : json_null(), &m->failed);
    put_prompt(m, p, prompt, prompt_count);
    put(p, "outputTokenIds", ft_json_ids(output, output_count), &m->failed);
    copy(m, p, "generatedFrom", field(m->provenance, "generated_from"));
    copy(m, p, "finishReason", field(m->trace, "finish_reason"));
    put(p, "routing", routing_json(m), &m->failed);
    copy(m, p, "indexes", field(m->provenance, "indexes"));
    put(p, "spans", spans_json(m), &m->failed);
    put(p, "engine", engine_json(m), &m->failed);
    put(p, "assurance", json_string(replayable ? "replayable" : "attested"), &m->failed);
    copy(m, p, "generatedAt", field(m->trace, "created"));
    *rc = put_request_digest(m, p, st);
    return p;
}

ft_code ft_receipt_payload(const json_t *trace, const ft_receipt_options *o, ft_buffer *out, ft_status *st)
{
    maker m = {.trace = trace, .provenance = field(trace, "provenance"), .options = o};
    uint32_t *prompt = NULL, *output = NULL;
    size_t prompt_count = 0, output_count = 0;
    m.id = json_string_value(field(trace, "id"));
    if (!m.id || !ft_trace_id_time(m.id, &(uint64_t){0}))
        return ft_fail(st, FT_ERR_FORMAT, "receipt: the trace has no id");
    if (!json_is_object(m.provenance))
        return ft_fail(st, FT_ERR_FORMAT,
                       "trace %s: it was kept by an earlier version, which did not note what a receipt states", m.id);
    if (is_redacted(trace))
        return ft_fail(st, FT_ERR_FORMAT, "trace %s: it was redacted, and a receipt would not state what was written",
                       m.id);
    ft_code rc = read_ids(&m, "prompt", &prompt, &prompt_count, st);
    if (!rc)
        rc = read_ids(&m, "response", &output, &output_count, st);
    json_t *statement = NULL;
    if (!rc) {
        static const uint32_t none[1];
        const uint32_t *p = prompt ? prompt : none, *q = output ? output : none;
        statement = json_object();
        put(statement, "_type", json_string(FT_STATEMENT_TYPE), &m.failed);
        put(statement, "subject", subjects_json(&m, q, output_count), &m.failed);
        put(statement, "predicateType", json_string(FT_RECEIPT_PREDICATE_TYPE), &m.failed);
        put(statement, "predicate", predicate_json(&m, p, prompt_count, q, output_count, &rc, st), &m.failed);
    }
    if (!rc && m.failed)
        rc = ft_fail(st, FT_ERR_MEM, "trace %s: no room for its receipt", m.id);
    if (!rc)
        rc = ft_json_write(statement, out, st);
    json_decref(statement);
    free(prompt);
    free(output);
    return rc;
}

ft_code ft_receipt_make(const json_t *trace, const ft_receipt_options *o, const ft_signer *signer, ft_buffer *out,
                        ft_status *st)
{
    ft_buffer payload = {0};
    ft_code rc = ft_receipt_payload(trace, o, &payload, st);
    if (!rc)
        rc = ft_dsse_sign(out, FT_RECEIPT_PAYLOAD_TYPE, payload.data, payload.size, signer, st);
    ft_buffer_release(&payload);
    return rc;
}

void ft_receipt_id(const json_t *trace, char id[FT_TRACE_ID])
{
    const char *of = json_string_value(field(trace, "id"));
    snprintf(id, FT_TRACE_ID, "rcp_%s", of && strlen(of) > 4 ? of + 4 : "");
}

ft_code ft_receipt_enter(ft_store *s, const json_t *trace, const void *envelope, size_t n, ft_status *st)
{
    char id[FT_TRACE_ID];
    ft_receipt_id(trace, id);
    return ft_store_receipt_add(s, id, envelope, n, NULL, st);
}
