/* flextrace receipt make, receipt salt: from the store of a federation, without a server. */
#include "api/cli/cli_receipt_internal.h"

#include "base/ft_file.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const char make_help[] =
    "Usage: flextrace receipt make FEDERATION TRACE [-o FILE] [--hide-prompt]\n\n"
    "Signs the receipt of a trace that the federation's store holds, with the key that its signing_key\n"
    "names, and puts it into the store's log of receipts: what GET /v1/traces/{id}/receipt does. Where the\n"
    "digests of the model are not known yet, all its weights are read once.\n\n"
    "  -o, --output FILE   (default: standard output)\n"
    "      --hide-prompt   a salted hash of the prompt alone: only who knows the prompt can replay it\n\n"
    "Example:\n"
    "  flextrace receipt make demo/federation.yaml trc_01KA… -o receipt.json\n";
static const char salt_help[] =
    "Usage: flextrace receipt salt FEDERATION TRACE [--owner NAME]\n\n"
    "The salt under which the receipt of that trace holds the ids of an owner's documents; without\n"
    "--owner, the one of the prompt. It opens these hashes and nothing else: give it to that owner alone.\n\n"
    "      --owner NAME  an owner of the federation\n"
    "      --json        {\"receipt_id\",\"owner\",\"salt\"}\n\n"
    "Example:\n"
    "  flextrace receipt salt demo/federation.yaml trc_01KA… --owner scripture\n";

static const cli_option options[] = {{"output", 'o', 1}, {"hide-prompt", 0, 0}, {"owner", 0, 1},
                                     {"json", 0, 0},     {"help", 'h', 0},      {NULL, 0, 0}};

typedef struct request {
    const char *me, *federation_path, *id, *output, *owner;
    int hide_prompt, json;
    ft_federation *federation;
    ft_store *store;
    unsigned char secret[FT_STORE_SECRET];
} request;

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    if (!name && r->id)
        return cli_usage(r->me, "one FEDERATION and one TRACE, not also '%.60s'", value);
    if (!name && r->federation_path)
        r->id = value;
    else if (!name)
        r->federation_path = value;
    else if (!strcmp(name, "output"))
        r->output = value;
    else if (!strcmp(name, "owner"))
        r->owner = value;
    else if (!strcmp(name, "hide-prompt"))
        r->hide_prompt = 1;
    else
        r->json = 1;
    return CLI_OK;
}

static ft_code open_store(request *r, ft_status *st)
{
    ft_code rc = ft_federation_open(&r->federation, r->federation_path, st);
    const char *folder = rc ? NULL : ft_federation_store(r->federation);
    if (!rc && !folder)
        rc = ft_fail(st, FT_ERR_ARG, "%s: it names no store, so it keeps no traces", r->federation_path);
    if (!rc)
        rc = ft_store_open(&r->store, folder, 0, st);
    return rc ? rc : ft_store_secret(r->store, r->secret, st);
}

static ft_code write_out(const request *r, ft_buffer *envelope, ft_status *st)
{
    const ft_code rc = ft_buffer_append(envelope, "\n", 1, st);
    if (rc)
        return rc;
    if (r->output)
        return ft_file_write(r->output, envelope->data, envelope->size, st);
    fwrite(envelope->data, 1, envelope->size, stdout);
    return FT_OK;
}

static ft_code make(request *r, ft_status *st)
{
    const ft_progress progress = cli_progress();
    ft_keyring ring = {0};
    json_t *trace = NULL, *digests = NULL;
    ft_buffer envelope = {0};
    ft_code rc = ft_keyring_open(&ring, r->federation, st);
    if (!rc && !ring.signer)
        rc = ft_fail(st, FT_ERR_ARG, "%s: it names no signing_key; 'flextrace key new --signing FILE' makes one",
                     r->federation_path);
    if (!rc)
        rc = ft_store_get(r->store, r->id, &trace, st);
    const json_t *engine = json_object_get(json_object_get(trace, "provenance"), "engine");
    const char *identity = json_string_value(json_object_get(engine, "model_identity"));
    if (!rc && identity)
        rc = ft_receipt_digests(r->store, identity, ft_federation_model(r->federation),
                                ft_federation_opted_out(r->federation), &progress, &digests, st);
    cli_progress_end();
    const ft_receipt_options how = {.secret = r->secret, .digests = digests, .hide_prompt = r->hide_prompt};
    if (!rc)
        rc = ft_receipt_make(trace, &how, ring.signer, &envelope, st);
    if (!rc)
        rc = ft_receipt_enter(r->store, trace, envelope.data, envelope.size, st);
    if (!rc)
        rc = write_out(r, &envelope, st);
    ft_buffer_release(&envelope);
    json_decref(digests);
    json_decref(trace);
    ft_keyring_close(&ring);
    return rc;
}

static ft_code salt(request *r, ft_status *st)
{
    char hex[2 * FT_SALT_BYTES + 1];
    ft_snapshot *snapshot = ft_federation_snapshot(r->federation);
    const int known = !r->owner || ft_trace_owner(ft_snapshot_scope(snapshot), r->owner);
    ft_snapshot_release(snapshot);
    if (!known)
        return ft_fail(st, FT_ERR_ARG, "%s: it has no owner '%.80s'", r->federation_path, r->owner);
    json_t *trace;
    const ft_code rc = ft_store_get(r->store, r->id, &trace, st);
    if (rc)
        return rc;
    json_decref(trace);
    const ft_salt s = ft_receipt_salt(r->secret, r->id, r->owner);
    sodium_bin2hex(hex, sizeof(hex), s.bytes, sizeof(s.bytes));
    if (!r->json)
        puts(hex);
    else if (cli_print_json(json_pack("{s:o,s:s?,s:s}", "receipt_id", json_sprintf("rcp_%s", r->id + 4), "owner",
                                      r->owner, "salt", hex)) != CLI_OK)
        return ft_fail(st, FT_ERR_IO, "standard output: it could not be written");
    return FT_OK;
}

static int run(int argc, char **argv, const char *me, const char *help, ft_code (*work)(request *, ft_status *))
{
    cli_args a = {.subcommand = me, .options = options, .argc = argc, .argv = argv};
    request r = {.me = me};
    ft_status st = {0};
    int helped = 0, code = cli_take_all(&a, help, take, &r, &helped);
    if (code != CLI_OK || helped)
        return code;
    if (!r.id)
        return cli_usage(me, "needs a FEDERATION and a TRACE");
    ft_code rc = open_store(&r, &st);
    if (!rc)
        rc = work(&r, &st);
    code = rc ? cli_fail(&st) : CLI_OK;
    sodium_memzero(r.secret, sizeof(r.secret));
    ft_store_close(r.store);
    ft_federation_close(r.federation);
    return code;
}

int cli_receipt_make(int argc, char **argv)
{
    return run(argc, argv, "receipt make", make_help, make);
}

int cli_receipt_salt(int argc, char **argv)
{
    return run(argc, argv, "receipt salt", salt_help, salt);
}
