/* flextrace receipt verify; and the table of the verbs. */
#include "api/cli/cli_receipt_internal.h"

#include "base/ft_file.h"
#include "tracer/ft_erasure.h"
#include "tracer/ft_receipt_log.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

cli_command cli_receipt;

enum { MAX_PROOF_BYTES = 1 << 20 };

static const char help[] =
    "Usage: flextrace receipt verify FILE... --key PEM... [-i INDEX...] [OPTIONS]\n\n"
    "Checks receipts, offline: the signature over the bytes of the payload, the form of the statement,\n"
    "and whether it agrees with itself. With an owner's indexes, every span that the receipt says\n"
    "stands there is looked up in them. Exit: 0 all holds, 1 something does not, 3 no receipt.\n"
    "FILE is what GET /v1/traces/{id}/receipt gave, or a takedown's certificate; NAME.jsonl holds one a\n"
    "line. With a proof, that it stands in the log of receipts whose head one of the keys signed.\n\n"
    "      --key PEM       public key, or what GET /v1/keys gave (then with the keys' times); more than one\n"
    "                      may be given, and one of them must have signed\n"
    "      --signatures N  so many of the keys must have signed (default 1)\n"
    "  -i, --index INDEX   an index of the owner who asks; more than one may be given\n"
    "      --owner NAME    whose the indexes are, where neither state nor recorded name tells\n"
    "      --salt HEX      of that owner (GET /v1/traces/{id}/receipt/salt?owner=NAME): opens the hashes of\n"
    "                      its documents\n"
    "      --proof FILE    what GET /v1/receipts/{id}/proof gave for the one FILE\n"
    "      --json          one line a receipt\n\n"
    "Examples:\n"
    "  flextrace receipt verify receipt.json --key signing.pem.pub\n"
    "  flextrace receipt verify receipt.json --key signing.pem.pub --proof proof.json\n"
    "  flextrace receipt verify receipt.json --key keys.json -i scripture.index --salt $(cat salt)\n";

static const cli_option options[] = {{"key", 0, 1},   {"signatures", 0, 1}, {"index", 'i', 1},
                                     {"owner", 0, 1}, {"salt", 0, 1},       {"proof", 0, 1},
                                     {"json", 0, 0},  {"help", 'h', 0},     {NULL, 0, 0}};

typedef struct request {
    const char **files, **keys, **indexes;
    size_t file_count, key_count, index_count;
    const char *owner, *salt_text, *proof_path;
    long long signatures;
    int json;
    /* Opened. */
    ft_keyring ring;
    ft_index **opened;
    json_t *proof; /* NULL: none */
    ft_salt salt;
} request;

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    if (!name)
        r->files[r->file_count++] = value;
    else if (!strcmp(name, "key"))
        r->keys[r->key_count++] = value;
    else if (!strcmp(name, "index"))
        r->indexes[r->index_count++] = value;
    else if (!strcmp(name, "owner"))
        r->owner = value;
    else if (!strcmp(name, "salt"))
        r->salt_text = value;
    else if (!strcmp(name, "proof"))
        r->proof_path = value;
    else if (!strcmp(name, "signatures"))
        return cli_integer("receipt verify", name, value, 1, FT_MAX_KEYS, &r->signatures) ? CLI_OK : CLI_USAGE;
    else
        r->json = 1;
    return CLI_OK;
}

/* --- Shared by the verbs -------------------------------------------------------------- */

ft_code receipt_read_file(ft_envelope *out, const char *path, ft_status *st)
{
    ft_buffer text = {0};
    memset(out, 0, sizeof(*out));
    ft_code rc = ft_file_read(path, FT_ENVELOPE_MAX_BYTES, &text, st);
    if (rc == FT_ERR_LIMIT)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: larger than any receipt", path);
    if (!rc)
        rc = ft_dsse_parse(out, text.data ? text.data : "", text.size, path, st);
    ft_buffer_release(&text);
    return rc;
}

int receipt_says_no(const char *path, const char *what)
{
    fprintf(stderr, "flextrace: %s: %s\n", path, what);
    return CLI_CHECK_FAILED;
}

/* When the statement says that it was made; "" where it does not. */
static void time_of(const ft_envelope *e, char out[FT_TIME_TEXT])
{
    json_t *statement = NULL;
    out[0] = '\0';
    if (ft_json_parse(&statement, e->payload.data ? e->payload.data : "", e->payload.size, "payload", NULL) == FT_OK) {
        const char *text = json_string_value(json_object_get(json_object_get(statement, "predicate"), "generatedAt"));
        if (!text) /* a certificate */
            text = json_string_value(json_object_get(statement, "accepted"));
        snprintf(out, FT_TIME_TEXT, "%s", text ? text : "");
    }
    json_decref(statement);
}

ft_code receipt_check_signatures(const ft_envelope *e, const ft_keyring *ring, unsigned needed, uint64_t *signed_by,
                                 char why[200], ft_status *st)
{
    ft_public_key keys[FT_MAX_KEYS];
    char made_at[FT_TIME_TEXT];
    unsigned count = 0;
    const char *objection = NULL;
    why[0] = '\0';
    receipt_ring_keys(ring, keys);
    const ft_code rc = ft_dsse_verify(e, keys, ring->count, signed_by, st);
    if (rc)
        return rc;
    if (*signed_by)
        time_of(e, made_at); /* of bytes that somebody signed */
    for (size_t k = 0; k < ring->count; k++) {
        if (!(*signed_by >> k & 1))
            continue;
        const char *against = ft_keyring_objection(ring, k, made_at);
        if (against) {
            objection = against;
            *signed_by &= ~(UINT64_C(1) << k);
        } else {
            count++;
        }
    }
    if (count < needed && objection)
        snprintf(why, 200, "signed, but %s (%s)", objection, made_at);
    else if (count < needed && needed == 1)
        snprintf(why, 200, "not signed by %s: bytes were changed, or somebody else signed it",
                 ring->count == 1 ? "this key" : "any of these keys");
    else if (count < needed)
        snprintf(why, 200, "signed by %u of these keys; %u are asked for", count, needed);
    return FT_OK;
}

void receipt_ring_keys(const ft_keyring *ring, ft_public_key keys[FT_MAX_KEYS])
{
    for (size_t k = 0; k < ring->count; k++)
        keys[k] = ring->keys[k].key;
}

void receipt_check_head(const ft_keyring *ring, uint64_t signed_by, char problem[320])
{
    for (size_t k = 0; k < ring->count; k++)
        if (ring->keys[k].revoked_at[0])
            signed_by &= ~(UINT64_C(1) << k);
    if (!signed_by && !problem[0])
        snprintf(problem, 320, "the head of the log was signed by a key that was revoked");
}

/* --- One receipt ------------------------------------------------------------------------ */

/* What was found, for the answer; the first objection decides. */
typedef struct finding {
    const char *file;
    uint64_t signed_by;
    json_t *owners, *log; /* log: where it stands in the log of receipts; NULL: nobody asked */
    char problem[320];
} finding;

/* The indexes of each owner are looked at together, since counts are sums. */
static ft_code check_owners(const request *r, const ft_receipt *receipt, finding *f, ft_status *st)
{
    const ft_index **own = (const ft_index **)ft_alloc_array(r->index_count, sizeof(ft_index *));
    unsigned char *done = ft_alloc_array(r->index_count, 1);
    ft_code rc = own && done ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; !rc && i < r->index_count; i++) {
        const char *owner = r->owner ? r->owner : ft_receipt_owner_of(receipt, r->opened[i]);
        size_t n = 0;
        ft_owner_check c;
        if (done[i])
            continue;
        if (!owner) {
            rc = ft_fail(st, FT_ERR_ARG,
                         "%s: the receipt knows neither its state nor its owner; name whose it is by --owner",
                         r->indexes[i]);
            break;
        }
        for (size_t k = i; k < r->index_count; k++) {
            const char *other = r->owner ? r->owner : ft_receipt_owner_of(receipt, r->opened[k]);
            if (other && !strcmp(other, owner)) {
                own[n++] = r->opened[k];
                done[k] = 1;
            }
        }
        rc = ft_receipt_check_owner(receipt, owner, own, n, r->salt_text ? &r->salt : NULL, &c, st);
        if (rc)
            break;
        (void)json_array_append_new(
            f->owners, json_pack("{s:s,s:b,s:I,s:I,s:I,s:I,s:I,s:s?}", "owner", owner, "same_state", c.same_state,
                                 "claimed", (json_int_t)c.claimed, "confirmed", (json_int_t)c.confirmed, "unclaimed",
                                 (json_int_t)c.unclaimed, "documents", (json_int_t)c.documents, "opened",
                                 (json_int_t)c.opened, "refuted", c.refuted[0] ? c.refuted : NULL));
        if (c.refuted[0] && !f->problem[0])
            snprintf(f->problem, sizeof(f->problem), "owner %s: %s%s", owner, c.refuted,
                     c.same_state ? "" : " (the index is in another state than the receipt's)");
    }
    free((void *)own);
    free(done);
    return rc;
}

/* That the envelope stands in the log. */
static ft_code check_proof(const request *r, const ft_envelope *e, finding *f, ft_status *st)
{
    ft_digest leaf;
    ft_log_check c = {0};
    ft_public_key keys[FT_MAX_KEYS];
    ft_code rc = ft_receipt_leaf_of(e, &leaf, st);
    if (rc == FT_ERR_FORMAT) {
        snprintf(f->problem, sizeof(f->problem), "it is in no log: %.200s", st->msg);
        *st = (ft_status){0};
        return FT_OK;
    }
    receipt_ring_keys(&r->ring, keys);
    if (!rc)
        rc = ft_receipt_proof_check(r->proof, &leaf, keys, r->ring.count, r->proof_path, &c, st);
    if (rc)
        return rc;
    receipt_check_head(&r->ring, c.signed_by, c.problem);
    snprintf(f->problem, sizeof(f->problem), "%s", c.problem);
    f->log = json_pack("{s:s,s:I,s:I}", "origin", c.head.origin, "leaf_index", (json_int_t)c.leaf_index, "tree_size",
                       (json_int_t)c.head.tree.size);
    return FT_OK;
}

static json_t *signers_json(const request *r, uint64_t signed_by)
{
    json_t *list = json_array();
    for (size_t k = 0; k < r->ring.count; k++) {
        char hex[FT_DIGEST_HEX];
        const ft_digest id = ft_public_key_id(&r->ring.keys[k].key);
        ft_digest_hex(&id, hex);
        if (signed_by >> k & 1)
            (void)json_array_append_new(list, json_string(hex));
    }
    return list;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "-";
}

static void print_owner(const json_t *o)
{
    const json_int_t claimed = json_integer_value(json_object_get(o, "claimed"));
    const json_int_t documents = json_integer_value(json_object_get(o, "documents"));
    printf("  %s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " spans confirmed, %s; %" JSON_INTEGER_FORMAT
           " of %" JSON_INTEGER_FORMAT " documents opened\n",
           text_of(o, "owner"), json_integer_value(json_object_get(o, "confirmed")), claimed,
           json_is_true(json_object_get(o, "same_state")) ? "with their counts"
                                                          : "in an index of another state than the receipt's",
           json_integer_value(json_object_get(o, "opened")), documents);
}

static void print_log(const json_t *log)
{
    printf("  in the log %s: leaf %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT "\n", text_of(log, "origin"),
           json_integer_value(json_object_get(log, "leaf_index")),
           json_integer_value(json_object_get(log, "tree_size")));
}

/* Tells what was found. An exit code. */
static int tell(const request *r, const ft_receipt *receipt, finding *f)
{
    const json_t *p = receipt->is_generation ? receipt->predicate : NULL;
    if (r->json) {
        json_t *out = json_pack("{s:s,s:b,s:o,s:s?,s:s?,s:s?,s:s?,s:O,s:O?,s:s?}", "file", f->file, "valid",
                                !f->problem[0], "signed_by", signers_json(r, f->signed_by), "predicate_type",
                                receipt->type, "receipt_id", json_string_value(json_object_get(p, "receiptId")),
                                "generated_at", json_string_value(json_object_get(p, "generatedAt")), "assurance",
                                json_string_value(json_object_get(p, "assurance")), "owners", f->owners, "log", f->log,
                                "problem", f->problem[0] ? f->problem : NULL);
        const int code = cli_print_json(out);
        return code != CLI_OK ? code : f->problem[0] ? CLI_CHECK_FAILED : CLI_OK;
    }
    if (f->problem[0])
        return receipt_says_no(f->file, f->problem);
    if (p)
        printf("%s: holds: %s of %s, %zu tokens, %zu spans, %s\n", f->file, text_of(p, "receiptId"),
               text_of(p, "generatedAt"), receipt->output_count, json_array_size(json_object_get(p, "spans")),
               text_of(p, "assurance"));
    else
        printf("%s: signature and form hold; it is '%s', whose content is not looked at\n", f->file, receipt->type);
    for (size_t i = 0; i < json_array_size(f->owners); i++)
        print_owner(json_array_get(f->owners, i));
    if (f->log)
        print_log(f->log);
    return CLI_OK;
}

/* A certificate is no in-toto statement: that it is an object is all that is looked at. */
static ft_code read_payload(ft_receipt *out, const ft_envelope *e, const char *where, ft_status *st)
{
    if (strcmp(e->type, FT_TAKEDOWN_TYPE) != 0)
        return ft_receipt_read(out, e, where, st);
    memset(out, 0, sizeof(*out));
    out->type = FT_TAKEDOWN_TYPE;
    const ft_code rc =
        ft_json_parse(&out->statement, e->payload.data ? e->payload.data : "", e->payload.size, where, st);
    return !rc && !json_is_object(out->statement)
               ? ft_fail(st, FT_ERR_FORMAT, "%s: a certificate that is no JSON object", where)
               : rc;
}

static int check_envelope(const request *r, const ft_envelope *e, const char *where)
{
    ft_status st = {0};
    ft_receipt receipt = {0};
    finding f = {.file = where, .owners = json_array()};
    char why[200];
    ft_code rc = receipt_check_signatures(e, &r->ring, (unsigned)r->signatures, &f.signed_by, why, &st);
    snprintf(f.problem, sizeof(f.problem), "%s", why);
    if (!rc && !f.problem[0]) {
        rc = read_payload(&receipt, e, where, &st);
        snprintf(f.problem, sizeof(f.problem), "%s", receipt.contradiction);
        if (!rc && r->index_count && !receipt.is_generation)
            rc =
                ft_fail(&st, FT_ERR_ARG, "%s: it is '%.80s', in which no index looks anything up", where, receipt.type);
        if (!rc && r->index_count && !f.problem[0])
            rc = check_owners(r, &receipt, &f, &st);
        if (!rc && r->proof && !f.problem[0])
            rc = check_proof(r, e, &f, &st);
    }
    const int code = rc ? cli_fail(&st) : tell(r, &receipt, &f);
    json_decref(f.owners);
    json_decref(f.log);
    ft_receipt_release(&receipt);
    return code;
}

/* The worst of two exit codes: a system's fault, then input, then "no". */
static int worse(int a, int b)
{
    return a > b ? a : b;
}

/* One envelope a line; lines that are none are passed over. */
static int check_lines(const request *r, const char *path)
{
    ft_buffer text = {0};
    ft_status st = {0};
    int code = CLI_OK;
    size_t number = 0, envelopes = 0;
    ft_code rc = ft_file_read(path, FT_ENVELOPE_MAX_BYTES, &text, &st);
    for (size_t at = 0; !rc && at < text.size; number++) {
        const char *end = memchr(text.data + at, '\n', text.size - at);
        const size_t n = end ? (size_t)(end - text.data) - at : text.size - at;
        ft_envelope e;
        char where[600];
        snprintf(where, sizeof(where), "%s:%zu", path, number + 1);
        if (ft_dsse_parse(&e, text.data + at, n, where, NULL) == FT_OK) {
            envelopes++;
            code = worse(code, check_envelope(r, &e, where));
        }
        ft_envelope_release(&e);
        at += n + 1;
    }
    if (!rc && !envelopes)
        rc = ft_fail(&st, FT_ERR_FORMAT, "%s: no line of it is an envelope", path);
    ft_buffer_release(&text);
    return rc ? cli_fail(&st) : code;
}

static int is_lines(const char *path)
{
    static const char lines[] = ".jsonl";
    const size_t n = strlen(path);
    return n > sizeof(lines) && !strcmp(path + n - (sizeof(lines) - 1), lines);
}

static int check_file(const request *r, const char *path)
{
    ft_envelope e;
    ft_status st = {0};
    if (is_lines(path))
        return check_lines(r, path);
    const ft_code rc = receipt_read_file(&e, path, &st);
    const int code = rc ? cli_fail(&st) : check_envelope(r, &e, path);
    ft_envelope_release(&e);
    return code;
}

/* --- The command -------------------------------------------------------------------------- */

static ft_code open_all(request *r, ft_status *st)
{
    ft_code rc = FT_OK;
    r->opened = (ft_index **)ft_alloc_array(r->index_count, sizeof(ft_index *));
    if (!r->opened)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; !rc && i < r->key_count; i++)
        rc = ft_keyring_read(&r->ring, r->keys[i], st);
    for (size_t i = 0; !rc && i < r->index_count; i++)
        rc = ft_index_open(&r->opened[i], r->indexes[i], st);
    if (!rc && r->proof_path)
        rc = ft_json_read_file(&r->proof, r->proof_path, MAX_PROOF_BYTES, st);
    return rc;
}

static int check_all(request *r)
{
    ft_status st = {0};
    if (!r->file_count || !r->key_count)
        return cli_usage("receipt verify", "needs a FILE and --key");
    if ((r->owner || r->salt_text) && !r->index_count)
        return cli_usage("receipt verify", "--owner and --salt go with -i INDEX");
    if (r->salt_text &&
        (strlen(r->salt_text) != 2 * FT_SALT_BYTES ||
         sodium_hex2bin(r->salt.bytes, FT_SALT_BYTES, r->salt_text, 2 * FT_SALT_BYTES, NULL, NULL, NULL)))
        return cli_usage("receipt verify", "--salt must be 64 hexadecimal digits");
    if (r->proof_path && (r->file_count != 1 || is_lines(r->files[0])))
        return cli_usage("receipt verify", "--proof is of one receipt: name one FILE");
    int code = CLI_OK;
    if (open_all(r, &st) != FT_OK)
        code = cli_fail(&st);
    for (size_t i = 0; code != CLI_USAGE && code != CLI_SYSTEM && !st.code && i < r->file_count; i++)
        code = worse(code, check_file(r, r->files[i]));
    for (size_t i = 0; r->opened && i < r->index_count; i++)
        ft_index_close(r->opened[i]);
    free((void *)r->opened);
    json_decref(r->proof);
    ft_keyring_close(&r->ring);
    return code;
}

int cli_receipt_verify(int argc, char **argv)
{
    cli_args a = {.subcommand = "receipt verify", .options = options, .argc = argc, .argv = argv};
    const size_t n = (size_t)argc;
    const char **words = (const char **)ft_alloc_array(3 * n, sizeof(char *));
    request r = {.files = words, .keys = words + n, .indexes = words + 2 * n, .signatures = 1};
    int helped = 0;
    ft_status st = {0};
    if (!words) {
        (void)ft_fail(&st, FT_ERR_MEM, "out of memory");
        return cli_fail(&st);
    }
    int code = cli_take_all(&a, help, take, &r, &helped);
    if (code == CLI_OK && !helped)
        code = check_all(&r);
    free((void *)words);
    return code;
}

static const cli_verb verbs[] = {
    {"verify", cli_receipt_verify, "signature, form, and with an owner's index its spans; offline"},
    {"replay", cli_receipt_replay, "the generation once more: the same tokens and routing?"},
    {"make", cli_receipt_make, "the receipt of a trace that a federation's store holds"},
    {"salt", cli_receipt_salt, "what opens an owner's hashes in a receipt, or the prompt's"},
    {"log", cli_receipt_log, "the signed head of the log of receipts"},
    {"entries", cli_receipt_entries, "the leaves of the log of receipts"},
    {"proof", cli_receipt_proof, "that a receipt is in the log"},
    {"consistency", cli_receipt_consistency, "whether one head of the log goes on from another; offline"},
};
int cli_receipt(int argc, char **argv)
{
    return cli_run_verb("receipt", "signed statements of what was generated.", verbs, sizeof(verbs) / sizeof(verbs[0]),
                        "  flextrace receipt verify receipt.json --key signing.pem.pub -i scripture.index\n"
                        "  flextrace receipt replay receipt.json demo/model\n",
                        argc, argv);
}
