/* The statement inside an envelope: its form, and whether it contradicts itself. */
#include "tracer/ft_receipt.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    ft_receipt *r;
    const char *where;
    ft_status *st;
    ft_code rc; /* the first failure */
} reader;

static json_t *field(const json_t *object, const char *key)
{
    return json_object_get(object, key);
}

/* "WHERE: not a receipt: PATH must be WANTED"; the first one is kept. 0. */
static int wrong(reader *d, const char *wanted, const char *path, ...) __attribute__((format(printf, 3, 4)));
static int wrong(reader *d, const char *wanted, const char *path, ...)
{
    char text[120];
    va_list args;
    va_start(args, path);
    vsnprintf(text, sizeof(text), path, args);
    va_end(args);
    if (!d->rc)
        d->rc = ft_fail(d->st, FT_ERR_FORMAT, "%s: not a statement that can be checked: '%s' must be %s", d->where,
                        text, wanted);
    return 0;
}

static void contradict(reader *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void contradict(reader *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (!d->r->contradiction[0])
        vsnprintf(d->r->contradiction, sizeof(d->r->contradiction), fmt, args);
    va_end(args);
}

/* --- Kinds ---------------------------------------------------------------------- */

/* HEAD and 64 lower-case hexadecimal digits. */
static int is_hash(const json_t *v, const char *head)
{
    const char *text = json_string_value(v);
    const size_t n = strlen(head);
    return text && json_string_length(v) == n + 64 && !strncmp(text, head, n) &&
           strspn(text + n, "0123456789abcdef") == 64;
}

static int is_digest(const json_t *v)
{
    return is_hash(v, "sha256:");
}

static int is_count(const json_t *v)
{
    return json_is_integer(v) && json_integer_value(v) >= 0;
}

/* 2026-01-31T12:00:00Z */
static int is_time(const json_t *v)
{
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
    const char *text = json_string_value(v);
    if (!text || json_string_length(v) != sizeof(form) - 1)
        return 0;
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return 0;
    return 1;
}

/* --- in-toto ---------------------------------------------------------------------- */

static int read_subjects(reader *d)
{
    const json_t *subjects = field(d->r->statement, "subject");
    if (!json_is_array(subjects) || json_array_size(subjects) == 0)
        return wrong(d, "a list of at least one subject", "subject");
    for (size_t i = 0; i < json_array_size(subjects); i++) {
        const json_t *digest = field(json_array_get(subjects, i), "digest"), *sha256 = field(digest, "sha256");
        if (!json_is_object(digest) || json_object_size(digest) == 0)
            return wrong(d, "an object with a digest", "subject[%zu].digest", i);
        if (sha256 && !is_hash(sha256, ""))
            return wrong(d, "64 hexadecimal digits", "subject[%zu].digest.sha256", i);
    }
    return 1;
}

static int read_statement(reader *d)
{
    ft_receipt *r = d->r;
    if (!json_is_object(r->statement))
        return wrong(d, "an object", "payload");
    const char *type = json_string_value(field(r->statement, "_type"));
    if (!type || strcmp(type, FT_STATEMENT_TYPE) != 0)
        return wrong(d, FT_STATEMENT_TYPE, "_type");
    r->type = json_string_value(field(r->statement, "predicateType"));
    r->predicate = field(r->statement, "predicate");
    if (!r->type || !r->type[0])
        return wrong(d, "a name", "predicateType");
    if (!json_is_object(r->predicate))
        return wrong(d, "an object", "predicate");
    r->is_generation = !strcmp(r->type, FT_RECEIPT_PREDICATE_TYPE);
    return read_subjects(d);
}

/* --- A generation ------------------------------------------------------------------ */

static int read_ids(reader *d, const char *name, uint32_t **ids, size_t *n)
{
    ft_status why = {0};
    const ft_code rc = ft_json_get_ids(d->r->predicate, name, ids, n, &why);
    if (rc == FT_ERR_MEM)
        d->rc = ft_fail(d->st, rc, "%s: out of memory", d->where);
    return rc ? wrong(d, "a list of token ids", "%s", name) : 1;
}

static int read_prompt(reader *d)
{
    ft_receipt *r = d->r;
    const json_t *p = r->predicate, *salt = field(p, "promptSalt"), *digest = field(p, "promptDigest");
    if (!is_hash(digest, "hmac-sha256:"))
        return wrong(d, "hmac-sha256: and 64 hexadecimal digits", "promptDigest");
    if (!is_count(field(p, "promptTokenCount")))
        return wrong(d, "a count", "promptTokenCount");
    r->has_prompt = json_is_array(field(p, "promptTokenIds"));
    if (!r->has_prompt)
        return 1;
    if (!is_hash(salt, ""))
        return wrong(d, "64 hexadecimal digits", "promptSalt");
    if (!read_ids(d, "promptTokenIds", &r->prompt, &r->prompt_count))
        return 0;
    ft_salt key;
    char hash[FT_SALTED_HASH];
    (void)sodium_hex2bin(key.bytes, sizeof(key.bytes), json_string_value(salt), 64, NULL, NULL, NULL);
    ft_salted_hash(&key, r->prompt_count ? (const void *)r->prompt : "", r->prompt_count * sizeof(*r->prompt), hash);
    if (strcmp(hash, json_string_value(digest)) != 0 ||
        (json_int_t)r->prompt_count != json_integer_value(field(p, "promptTokenCount")))
        contradict(d, "promptTokenIds are not those of promptDigest and promptTokenCount");
    return 1;
}

static int read_output(reader *d)
{
    ft_receipt *r = d->r;
    if (!json_is_array(field(r->predicate, "outputTokenIds")))
        return wrong(d, "a list of token ids", "outputTokenIds");
    if (!read_ids(d, "outputTokenIds", &r->output, &r->output_count))
        return 0;
    char hex[FT_DIGEST_HEX];
    const ft_digest digest =
        ft_digest_of(r->output_count ? (const void *)r->output : "", r->output_count * sizeof(*r->output));
    ft_digest_hex(&digest, hex);
    const json_t *subjects = field(r->statement, "subject");
    for (size_t i = 0; i < json_array_size(subjects); i++) {
        const char *sha256 = json_string_value(field(field(json_array_get(subjects, i), "digest"), "sha256"));
        if (sha256 && !strcmp(sha256, hex))
            return 1;
    }
    contradict(d, "no subject has the digest of outputTokenIds");
    return 1;
}

static int read_model(reader *d)
{
    const json_t *p = d->r->predicate, *model = field(p, "model"), *digest = field(model, "digest");
    const json_t *config = field(model, "configDigest"), *tokenizer = field(p, "tokenizerDigest");
    const json_t *engine = field(p, "engine");
    if (!json_is_object(model))
        return wrong(d, "an object", "model");
    if (!is_digest(digest) && !json_is_null(digest))
        return wrong(d, "a digest or null", "model.digest");
    if (!is_digest(config) && !json_is_null(config))
        return wrong(d, "a digest or null", "model.configDigest");
    if (!is_digest(tokenizer) && !json_is_null(tokenizer))
        return wrong(d, "a digest or null", "tokenizerDigest");
    if (!json_is_object(engine) && !json_is_null(engine))
        return wrong(d, "an object or null", "engine");
    return 1;
}

static int names(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (s && !strcmp(s, name))
            return 1;
    }
    return 0;
}

/* Those that took no part are those of "without", and have no share. */
static int read_experts(reader *d)
{
    const json_t *p = d->r->predicate, *experts = field(p, "experts"), *without = field(p, "without");
    const json_t *shares = field(field(p, "routing"), "shares");
    size_t inactive = 0;
    if (!json_is_array(experts))
        return wrong(d, "a list", "experts");
    if (!json_is_array(without))
        return wrong(d, "a list of names", "without");
    for (size_t i = 0; i < json_array_size(experts); i++) {
        const json_t *x = json_array_get(experts, i), *active = field(x, "active"), *digest = field(x, "digest");
        const char *owner = json_string_value(field(x, "owner"));
        if (!is_count(field(x, "id")) || json_integer_value(field(x, "id")) >= FT_MAX_EXPERTS)
            return wrong(d, "an expert's number", "experts[%zu].id", i);
        if (!owner)
            return wrong(d, "a name", "experts[%zu].owner", i);
        if (!is_digest(digest) && !json_is_null(digest))
            return wrong(d, "a digest or null", "experts[%zu].digest", i);
        if (!json_is_boolean(active))
            return wrong(d, "true or false", "experts[%zu].active", i);
        if (json_is_true(active))
            continue;
        inactive++;
        if (!names(without, owner))
            contradict(d, "expert %zu (%.60s) is not active, but 'without' does not name it", i, owner);
        if (json_number_value(field(json_array_get(shares, i), "share")) > 0)
            contradict(d, "expert %zu (%.60s) took no part, but has a share of the routing", i, owner);
    }
    if (json_array_size(experts) && inactive != json_array_size(without))
        contradict(d, "'without' names %zu, but %zu experts are not active", json_array_size(without), inactive);
    return 1;
}

static int read_routing(reader *d)
{
    const json_t *routing = field(d->r->predicate, "routing"), *shape = field(routing, "shape");
    if (json_is_null(routing))
        return 1;
    if (!json_is_object(routing) || !is_digest(field(routing, "digest")))
        return wrong(d, "null or an object with a digest", "routing");
    for (size_t i = 0; i < 3; i++)
        if (json_array_size(shape) != 3 || !is_count(json_array_get(shape, i)))
            return wrong(d, "three counts", "routing.shape");
    return 1;
}

static int read_indexes(reader *d)
{
    const json_t *indexes = field(d->r->predicate, "indexes");
    if (!json_is_array(indexes))
        return wrong(d, "a list", "indexes");
    for (size_t i = 0; i < json_array_size(indexes); i++) {
        const json_t *x = json_array_get(indexes, i), *root = field(x, "root");
        if (!json_is_string(field(x, "owner")))
            return wrong(d, "a name", "indexes[%zu].owner", i);
        if (!is_digest(root) && !json_is_null(root))
            return wrong(d, "a digest or null", "indexes[%zu].root", i);
    }
    return 1;
}

/* Occurrences are the owners' together, and a document is of an owner that has some. */
static void compare_counts(reader *d, const json_t *span, size_t i)
{
    const json_t *counts = field(span, "ownerCounts"), *documents = field(span, "documents");
    uint64_t all = 0;
    const char *owner;
    json_t *count;
    json_object_foreach((json_t *)(uintptr_t)counts, owner, count)
    {
        all += (uint64_t)json_integer_value(count);
    }
    if (all != (uint64_t)json_integer_value(field(span, "count")))
        contradict(d, "span %zu occurs %" JSON_INTEGER_FORMAT " times, but with its owners %" PRIu64, i,
                   json_integer_value(field(span, "count")), all);
    for (size_t k = 0; k < json_array_size(documents); k++) {
        owner = json_string_value(field(json_array_get(documents, k), "owner"));
        if (json_integer_value(field(counts, owner)) < 1)
            contradict(d, "span %zu names a document of %.60s, with whom it does not occur", i, owner);
    }
}

static int read_span(reader *d, const json_t *span, size_t i)
{
    const json_t *start = field(span, "start"), *end = field(span, "end"), *counts = field(span, "ownerCounts");
    const json_t *documents = field(span, "documents");
    const char *owner;
    json_t *count;
    if (!is_count(start) || !is_count(end))
        return wrong(d, "an object with start and end", "spans[%zu]", i);
    if (!is_count(field(span, "count")))
        return wrong(d, "a count", "spans[%zu].count", i);
    if (!json_is_object(counts))
        return wrong(d, "an object", "spans[%zu].ownerCounts", i);
    json_object_foreach((json_t *)(uintptr_t)counts, owner, count)
    {
        if (!is_count(count))
            return wrong(d, "counts", "spans[%zu].ownerCounts", i);
    }
    if (!json_is_array(documents))
        return wrong(d, "a list", "spans[%zu].documents", i);
    for (size_t k = 0; k < json_array_size(documents); k++) {
        const json_t *doc = json_array_get(documents, k);
        if (!json_is_string(field(doc, "owner")) || !is_hash(field(doc, "digest"), "hmac-sha256:"))
            return wrong(d, "an owner and a salted hash", "spans[%zu].documents[%zu]", i, k);
    }
    compare_counts(d, span, i);
    if (json_integer_value(start) >= json_integer_value(end) || (uint64_t)json_integer_value(end) > d->r->output_count)
        contradict(d,
                   "span %zu, tokens %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT
                   ", does not lie in the %zu tokens of the output",
                   i, json_integer_value(start), json_integer_value(end), d->r->output_count);
    return 1;
}

static int read_spans(reader *d)
{
    const json_t *spans = field(d->r->predicate, "spans");
    if (!json_is_array(spans))
        return wrong(d, "a list", "spans");
    for (size_t i = 0; i < json_array_size(spans); i++)
        if (!read_span(d, json_array_get(spans, i), i))
            return 0;
    return 1;
}

static int read_generation(reader *d)
{
    static const char *const rungs[] = {"attested", "replayable", "cosigned"};
    const json_t *p = d->r->predicate, *parameters = field(p, "parameters");
    const char *assurance = json_string_value(field(p, "assurance"));
    size_t i = 0;
    if (!json_is_string(field(p, "receiptId")))
        return wrong(d, "an id", "receiptId");
    if (!is_time(field(p, "generatedAt")))
        return wrong(d, "a time like 2026-01-31T12:00:00Z", "generatedAt");
    if (!json_is_object(parameters) && !json_is_null(parameters))
        return wrong(d, "an object or null", "parameters");
    while (i < sizeof(rungs) / sizeof(*rungs) && (!assurance || strcmp(assurance, rungs[i]) != 0))
        i++;
    if (i == sizeof(rungs) / sizeof(*rungs))
        return wrong(d, "attested, replayable or cosigned", "assurance");
    return read_output(d) && read_prompt(d) && read_model(d) && read_experts(d) && read_routing(d) && read_indexes(d) &&
           read_spans(d);
}

ft_code ft_receipt_read(ft_receipt *out, const ft_envelope *e, const char *where, ft_status *st)
{
    reader d = {.r = out, .where = where, .st = st};
    memset(out, 0, sizeof(*out));
    if (strcmp(e->type, FT_RECEIPT_PAYLOAD_TYPE) != 0 || e->type_bytes != sizeof(FT_RECEIPT_PAYLOAD_TYPE) - 1)
        return ft_fail(st, FT_ERR_FORMAT, "%s: its payload is '%.80s', not an in-toto statement (%s)", where, e->type,
                       FT_RECEIPT_PAYLOAD_TYPE);
    const ft_code rc =
        ft_json_parse(&out->statement, e->payload.data ? e->payload.data : "", e->payload.size, where, st);
    if (rc) {
        ft_status_prefix(st, "payload");
        return rc;
    }
    if (read_statement(&d) && out->is_generation)
        (void)read_generation(&d);
    return d.rc;
}

void ft_receipt_release(ft_receipt *r)
{
    if (!r)
        return;
    json_decref(r->statement);
    free(r->prompt);
    free(r->output);
    memset(r, 0, sizeof(*r));
}
