/* flextrace receipt log, entries, proof: out of the store of a federation, without a server; receipt consistency:
 * offline. */
#include "api/cli/cli_receipt_internal.h"

#include "base/ft_file.h"
#include "tracer/ft_receipt_log.h"

#include <stdlib.h>
#include <string.h>

static const char log_help[] =
    "Usage: flextrace receipt log FEDERATION [--size N] [--from N] [-o FILE] [--json]\n\n"
    "The head of the log of receipts, signed: a checkpoint as transparency logs publish them (origin,\n"
    "number of receipts, root), what GET /v1/receipts/log?format=note answers. With --from, the proof that\n"
    "the log begins with its first N, what GET /v1/receipts/consistency answers.\n\n"
    "      --size N       of the first N receipts (default: all)\n"
    "      --from N       size of an earlier head\n"
    "  -o, --output FILE  (default: standard output)\n"
    "      --json         what GET /v1/receipts/log answers\n\n"
    "Examples:\n"
    "  flextrace receipt log demo > head\n"
    "  flextrace receipt log demo --from 17 > consistency.json\n";
static const char proof_help[] =
    "Usage: flextrace receipt proof FEDERATION RECEIPT [--size N] [-o FILE]\n\n"
    "The proof that a receipt is in the log of receipts, with the signed head that it leads to: what\n"
    "GET /v1/receipts/{id}/proof answers. RECEIPT is an id (rcp_…, or tkd_… of a certificate), whose newest\n"
    "envelope is meant, or the receipt's file.\n\n"
    "      --size N       in the log of the first N receipts (default: all)\n"
    "  -o, --output FILE  (default: standard output)\n\n"
    "Example:\n"
    "  flextrace receipt proof demo receipt.json -o proof.json\n";
static const char entries_help[] =
    "Usage: flextrace receipt entries FEDERATION [--from N] [--size N] [-o FILE]\n\n"
    "The leaves of the log of receipts, one JSON line each, in order: {\"leaf_index\",\"leaf_hash\"}. Whoever watches "
    "the\n"
    "log computes the root of its heads from them. They name no receipt; who has an envelope knows its leaf.\n\n"
    "      --from N       begins with number N (default: 0)\n"
    "      --size N       of the first N receipts (default: all)\n"
    "  -o, --output FILE  (default: standard output)\n\n"
    "Example:\n"
    "  flextrace receipt entries demo --from 17\n";
static const char consistency_help[] =
    "Usage: flextrace receipt consistency OLD [NEW] --proof FILE --key PEM... [--json]\n\n"
    "Checks, offline, that the log of receipts with the head NEW begins with all that it had when its head\n"
    "was OLD: nothing was removed, altered or put between. Exit: 0 it does, 1 it does not, 3 no such files.\n"
    "OLD and NEW are what GET /v1/receipts/log gave, either form; without NEW it is the proof's own.\n\n"
    "      --proof FILE  what GET /v1/receipts/consistency?from=&to= gave for the two sizes\n"
    "      --key PEM     public key, or what GET /v1/keys gave; one of them must have signed each head\n"
    "      --json        {\"consistent\",\"origin\",\"from\",\"to\",\"problem\"}\n\n"
    "Example:\n"
    "  flextrace receipt consistency head --proof consistency.json --key keys.json\n";

static const cli_option options[] = {{"output", 'o', 1}, {"size", 0, 1}, {"from", 0, 1},   {"proof", 0, 1},
                                     {"key", 0, 1},      {"json", 0, 0}, {"help", 'h', 0}, {NULL, 0, 0}};

enum { MAX_OPERANDS = 2, MAX_PROOF_BYTES = 1 << 20 };

typedef struct request {
    const char *me, *operands[MAX_OPERANDS], *output, *proof, **keys;
    size_t operand_count, key_count;
    uint64_t size, from;
    int json, has_from;
    ft_federation *federation;
    ft_store *store;
    ft_keyring ring;
    ft_receipt_log log;
} request;

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    long long n;
    if (!name && r->operand_count == MAX_OPERANDS)
        return cli_usage(r->me, "'%.60s' is one operand too many", value);
    if (!name) {
        r->operands[r->operand_count++] = value;
    } else if (!strcmp(name, "output")) {
        r->output = value;
    } else if (!strcmp(name, "proof")) {
        r->proof = value;
    } else if (!strcmp(name, "key")) {
        r->keys[r->key_count++] = value;
    } else if (!strcmp(name, "json")) {
        r->json = 1;
    } else {
        if (!cli_integer(r->me, name, value, 0, INT64_MAX, &n))
            return CLI_USAGE;
        if (name[0] == 's')
            r->size = (uint64_t)n;
        else
            r->from = (uint64_t)n;
        r->has_from |= name[0] == 'f';
    }
    return CLI_OK;
}

/* --- Out of a store ---------------------------------------------------------------------------------- */

static ft_code open_log(request *r, ft_status *st)
{
    ft_code rc = ft_federation_open(&r->federation, r->operands[0], st);
    const char *folder = rc ? NULL : ft_federation_store(r->federation);
    if (!rc)
        rc = ft_keyring_open(&r->ring, r->federation, st);
    if (!rc && (!folder || !r->ring.signer))
        rc = ft_fail(st, FT_ERR_ARG, "%s: it names no %s, so it has no log of receipts", r->operands[0],
                     folder ? "signing_key" : "store");
    if (!rc)
        rc = ft_store_open(&r->store, folder, 0, st);
    if (!rc)
        ft_receipt_log_init(&r->log, r->store, r->ring.signer, ft_federation_name(r->federation));
    return rc;
}

static ft_code write_out(const request *r, const char *text, size_t n, ft_status *st)
{
    if (r->output)
        return ft_file_write(r->output, text, n, st);
    fwrite(text, 1, n, stdout);
    return FT_OK;
}

static ft_code write_json(const request *r, const json_t *v, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = ft_json_write(v, &text, st);
    if (!rc)
        rc = ft_buffer_append(&text, "\n", 1, st);
    if (!rc)
        rc = write_out(r, text.data, text.size, st);
    ft_buffer_release(&text);
    return rc;
}

static ft_code make_log(request *r, ft_status *st)
{
    json_t *out = NULL;
    ft_code rc = r->has_from ? ft_receipt_log_consistency(&r->log, r->from, r->size, &out, st)
                             : ft_receipt_log_head(&r->log, r->size, &out, st);
    const json_t *note = json_object_get(out, "checkpoint");
    if (!rc && !r->has_from && !r->json)
        rc = write_out(r, json_string_value(note), json_string_length(note), st);
    else if (!rc)
        rc = write_json(r, out, st);
    json_decref(out);
    return rc;
}

/* The id and the leaf of the envelope in a file. */
static ft_code read_receipt(const char *path, char id[FT_TRACE_ID], ft_digest *leaf, ft_status *st)
{
    ft_envelope e;
    json_t *v = NULL;
    ft_code rc = receipt_read_file(&e, path, st);
    if (!rc)
        rc = ft_receipt_leaf_of(&e, leaf, st);
    if (!rc)
        rc = ft_json_parse(&v, e.payload.data ? e.payload.data : "", e.payload.size, path, st);
    const char *named = json_string_value(json_object_get(json_object_get(v, "predicate"), "receiptId"));
    if (!named) /* a certificate */
        named = json_string_value(json_object_get(v, "id"));
    if (!rc && !named)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: neither a receipt nor a certificate: it has no id", path);
    snprintf(id, FT_TRACE_ID, "%s", named ? named : "");
    json_decref(v);
    ft_envelope_release(&e);
    return rc;
}

static ft_code make_proof(request *r, ft_status *st)
{
    const char *operand = r->operands[1];
    char id[FT_TRACE_ID];
    ft_digest leaf;
    json_t *out = NULL;
    const int is_file = ft_path_exists(operand);
    ft_code rc = is_file ? read_receipt(operand, id, &leaf, st) : FT_OK;
    if (!rc)
        rc = ft_receipt_log_proof(&r->log, is_file ? id : operand, is_file ? &leaf : NULL, r->size, &out, st);
    if (!rc)
        rc = write_json(r, out, st);
    json_decref(out);
    return rc;
}

static int out_of_store(request *r, size_t operands, ft_code (*work)(request *, ft_status *))
{
    ft_status st = {0};
    if (r->operand_count != operands)
        return cli_usage(r->me, operands == 1 ? "needs one FEDERATION" : "needs a FEDERATION and a RECEIPT");
    if (r->proof || r->key_count || (operands == 2 && (r->has_from || r->json)))
        return cli_usage(r->me, "an option that it does not have");
    ft_code rc = open_log(r, &st);
    if (!rc)
        rc = work(r, &st);
    ft_store_close(r->store);
    ft_federation_close(r->federation);
    return rc ? cli_fail(&st) : CLI_OK;
}

static ft_code make_entries(request *r, ft_status *st)
{
    ft_digest leaves[FT_LOG_ENTRIES];
    ft_buffer text = {0};
    ft_tree_head head = {0};
    size_t count = 1;
    ft_code rc = ft_store_receipt_head(r->store, r->size, &head, st); /* there are so many */
    const uint64_t end = head.size;
    for (uint64_t from = r->from; !rc && count && from < end; from += count) {
        const size_t most = end - from < FT_LOG_ENTRIES ? (size_t)(end - from) : FT_LOG_ENTRIES;
        rc = ft_store_receipt_range(r->store, from, leaves, most, &count, &head, st);
        for (size_t i = 0; !rc && i < count; i++) {
            char hex[FT_DIGEST_HEX];
            ft_digest_hex(&leaves[i], hex);
            rc = ft_buffer_printf(&text, st, "{\"leaf_index\":%llu,\"leaf_hash\":\"sha256:%s\"}\n",
                                  (unsigned long long)(from + i), hex);
        }
    }
    if (!rc)
        rc = write_out(r, text.data ? text.data : "", text.size, st);
    ft_buffer_release(&text);
    return rc;
}

static int run_entries(request *r)
{
    return r->json ? cli_usage(r->me, "an option that it does not have") : out_of_store(r, 1, make_entries);
}

static int run_log(request *r)
{
    return out_of_store(r, 1, make_log);
}

static int run_proof(request *r)
{
    return out_of_store(r, 2, make_proof);
}

/* --- Offline -------------------------------------------------------------------------------------------- */

ft_code receipt_read_head(const ft_keyring *ring, const char *path, ft_log_head *out, char problem[320], ft_status *st)
{
    ft_buffer text = {0};
    json_t *v = NULL;
    ft_public_key keys[FT_MAX_KEYS];
    uint64_t signed_by = 0;
    ft_code rc = ft_file_read(path, FT_NOTE_MAX_BYTES, &text, st);
    const char *note = text.data ? text.data : "";
    size_t n = text.size;
    if (!rc && note[0] == '{') {
        rc = ft_json_parse(&v, note, n, path, st);
        note = json_string_value(json_object_get(v, "checkpoint"));
        n = json_string_length(json_object_get(v, "checkpoint"));
        if (!rc && !note)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: not the head of a log: it has no 'checkpoint'", path);
    }
    receipt_ring_keys(ring, keys);
    if (!rc)
        rc = ft_log_head_open(out, note, n, path, keys, ring->count, &signed_by, st);
    if (!rc && !signed_by && !problem[0])
        snprintf(problem, 320, "%.200s was not signed by %s", path,
                 ring->count == 1 ? "this key" : "any of these keys");
    if (!rc)
        receipt_check_head(ring, signed_by, problem);
    json_decref(v);
    ft_buffer_release(&text);
    return rc;
}

static int tell(const request *r, const ft_log_head *old, const ft_log_check *c)
{
    const char *problem = c->problem[0] ? c->problem : NULL;
    if (r->json) {
        const int code = cli_print_json(json_pack("{s:b,s:s,s:I,s:I,s:s?}", "consistent", !problem, "origin",
                                                  old->origin, "from", (json_int_t)old->tree.size, "to",
                                                  (json_int_t)c->head.tree.size, "problem", problem));
        return code != CLI_OK ? code : problem ? CLI_CHECK_FAILED : CLI_OK;
    }
    if (problem)
        return receipt_says_no(r->operands[0], problem);
    printf("%s: the log of %llu receipts begins with the %llu that it had\n", old->origin,
           (unsigned long long)c->head.tree.size, (unsigned long long)old->tree.size);
    return CLI_OK;
}

static ft_code check(const request *r, ft_log_head *old, ft_log_check *c, ft_status *st)
{
    ft_log_head new;
    char problem[320] = "";
    ft_public_key keys[FT_MAX_KEYS];
    json_t *proof = NULL;
    ft_code rc = receipt_read_head(&r->ring, r->operands[0], old, problem, st);
    if (!rc && r->operand_count == 2)
        rc = receipt_read_head(&r->ring, r->operands[1], &new, problem, st);
    if (!rc)
        rc = ft_json_read_file(&proof, r->proof, MAX_PROOF_BYTES, st);
    receipt_ring_keys(&r->ring, keys);
    if (!rc)
        rc = ft_receipt_consistency_check(proof, old, r->operand_count == 2 ? &new : NULL, keys, r->ring.count,
                                          r->proof, c, st);
    if (!rc && r->operand_count == 1)
        receipt_check_head(&r->ring, c->signed_by, c->problem);
    if (problem[0])
        memcpy(c->problem, problem, sizeof(problem));
    json_decref(proof);
    return rc;
}

static int run_consistency(request *r)
{
    ft_status st = {0};
    ft_log_head old;
    ft_log_check c = {0};
    ft_code rc = FT_OK;
    if (!r->operand_count || !r->proof || !r->key_count)
        return cli_usage(r->me, "needs OLD, --proof and --key");
    if (r->output || r->has_from || r->size != FT_TREE_NEWEST)
        return cli_usage(r->me, "an option that it does not have");
    for (size_t i = 0; !rc && i < r->key_count; i++)
        rc = ft_keyring_read(&r->ring, r->keys[i], &st);
    if (!rc)
        rc = check(r, &old, &c, &st);
    return rc ? cli_fail(&st) : tell(r, &old, &c);
}

/* --- The commands ------------------------------------------------------------------------------------------ */

static int run(int argc, char **argv, const char *me, const char *help, int (*work)(request *))
{
    cli_args a = {.subcommand = me, .options = options, .argc = argc, .argv = argv};
    request r = {.me = me, .size = FT_TREE_NEWEST, .keys = (const char **)ft_alloc_array((size_t)argc, sizeof(char *))};
    int helped = 0;
    ft_status st = {0};
    if (!r.keys) {
        (void)ft_fail(&st, FT_ERR_MEM, "out of memory");
        return cli_fail(&st);
    }
    int code = cli_take_all(&a, help, take, &r, &helped);
    if (code == CLI_OK && !helped)
        code = work(&r);
    ft_keyring_close(&r.ring);
    free((void *)r.keys);
    return code;
}

int cli_receipt_log(int argc, char **argv)
{
    return run(argc, argv, "receipt log", log_help, run_log);
}

int cli_receipt_entries(int argc, char **argv)
{
    return run(argc, argv, "receipt entries", entries_help, run_entries);
}

int cli_receipt_proof(int argc, char **argv)
{
    return run(argc, argv, "receipt proof", proof_help, run_proof);
}

int cli_receipt_consistency(int argc, char **argv)
{
    return run(argc, argv, "receipt consistency", consistency_help, run_consistency);
}
