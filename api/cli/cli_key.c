/* flextrace key: the keys that sign receipts. */
#include "api/cli/cli.h"

#include "base/ft_json.h"
#include "tracer/ft_signing.h"

#include <stdlib.h>
#include <string.h>

cli_command cli_key;

static const char new_help[] =
    "Usage: flextrace key new --signing FILE [--json]\n\n"
    "A new Ed25519 key that signs receipts: the private half in FILE (mode 0600, PKCS#8), the public\n"
    "one in FILE.pub (SubjectPublicKeyInfo), both PEM: openssl reads them too. No file is overwritten.\n"
    "federation.yaml names it: 'signing_key: FILE'. To rotate, make another, name that one, and list\n"
    "the old FILE.pub under 'old_keys', so that what it signed goes on verifying.\n\n"
    "      --signing FILE  where the private key goes\n"
    "      --json          {\"keyid\",\"private\",\"public\",\"public_key\"}\n\n"
    "Examples:\n"
    "  flextrace key new --signing federation/signing.pem\n"
    "  openssl pkey -in federation/signing.pem -noout -text\n";
static const char show_help[] =
    "Usage: flextrace key show FILE... [--json]\n\n"
    "The key id of each FILE (public, or private), and its public half as PEM. The id is the\n"
    "SHA-256 of the public key's DER.\n\n"
    "      --json  one line a key: {\"keyid\",\"public_key\"}\n\n"
    "Example:\n  flextrace key show federation/signing.pem.pub\n";

static const cli_option options[] = {{"signing", 0, 1}, {"json", 0, 0}, {"help", 'h', 0}, {NULL, 0, 0}};

typedef struct request {
    const char *verb, *signing;
    const char **files;
    size_t count;
    int json;
} request;

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    if (!name)
        r->files[r->count++] = value;
    else if (!strcmp(name, "signing"))
        r->signing = value;
    else
        r->json = 1;
    return CLI_OK;
}

/* Prints id and public key, with `more` (consumed) in front of the JSON. */
static int print_key(const request *r, const ft_public_key *key, json_t *more)
{
    char hex[FT_DIGEST_HEX];
    ft_status st = {0};
    ft_buffer pem = {0};
    const ft_digest id = ft_public_key_id(key);
    ft_digest_hex(&id, hex);
    const ft_code rc = ft_public_key_write(key, &pem, &st);
    int code = rc ? cli_fail(&st) : CLI_OK;
    if (!rc && r->json) {
        json_t *out = json_pack("{s:s,s:s}", "keyid", hex, "public_key", pem.data);
        if (out && more && json_object_update(out, more) != 0) {
            json_decref(out);
            out = NULL;
        }
        code = cli_print_json(out);
    } else if (!rc) {
        printf("%s\n%s", hex, pem.data);
    }
    json_decref(more);
    ft_buffer_release(&pem);
    return code;
}

static int make_key(const request *r)
{
    ft_public_key key;
    ft_status st = {0};
    if (!r->signing || r->count)
        return cli_usage("key new", "needs --signing FILE and nothing else");
    if (ft_signing_key_new(r->signing, &key, &st) != FT_OK)
        return cli_fail(&st);
    if (!r->json)
        printf("private key  %s (keep it; only its owner may read it)\npublic key   %s.pub (give it to whoever "
               "verifies)\nkey id       ",
               r->signing, r->signing);
    return print_key(r, &key,
                     json_pack("{s:s,s:o}", "private", r->signing, "public", json_sprintf("%s.pub", r->signing)));
}

static int show_keys(const request *r)
{
    int code = CLI_OK;
    if (!r->count)
        return cli_usage("key show", "needs a FILE");
    for (size_t i = 0; i < r->count && code == CLI_OK; i++) {
        ft_public_key key;
        ft_status st = {0};
        code = ft_public_key_read(&key, r->files[i], &st) ? cli_fail(&st) : print_key(r, &key, NULL);
    }
    return code;
}

static int run(int argc, char **argv, const char *help, int (*work)(const request *))
{
    char name[40];
    snprintf(name, sizeof(name), "key %.20s", argv[0]);
    cli_args a = {.subcommand = name, .options = options, .argc = argc, .argv = argv};
    request r = {.verb = argv[0], .files = (const char **)ft_alloc_array((size_t)argc, sizeof(char *))};
    int helped = 0;
    ft_status st = {0};
    if (!r.files) {
        (void)ft_fail(&st, FT_ERR_MEM, "out of memory");
        return cli_fail(&st);
    }
    int code = cli_take_all(&a, help, take, &r, &helped);
    if (code == CLI_OK && !helped)
        code = work(&r);
    free(r.files);
    return code;
}

static int verb_new(int argc, char **argv)
{
    return run(argc, argv, new_help, make_key);
}

static int verb_show(int argc, char **argv)
{
    return run(argc, argv, show_help, show_keys);
}

static const cli_verb verbs[] = {
    {"new", verb_new, "a new key that signs receipts"},
    {"show", verb_show, "the id and the public half of a key"},
};
int cli_key(int argc, char **argv)
{
    return cli_run_verb("key", "keys.", verbs, sizeof(verbs) / sizeof(verbs[0]),
                        "  flextrace key new --signing federation/signing.pem\n", argc, argv);
}
