/* flextrace receipt replay. */
#include "api/cli/cli_model_args.h"
#include "api/cli/cli_receipt_internal.h"

#include "base/ft_cpu.h"
#include "base/ft_file.h"
#include "base/ft_npy.h"
#include "tracer/ft_replay.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: flextrace receipt replay FILE MODEL|FEDERATION [OPTIONS]\n\n"
    "Generates once more what the receipt in FILE says, with its prompt, parameters, seed and experts,\n"
    "and compares the tokens and the digest of the routing. MODEL is a checkpoint's folder; its digests must\n"
    "be the receipt's, and for that its weights are read first. The number of threads does not matter; the\n"
    "family of kernels does: the receipt's is used, or it is said that this machine lacks it.\n"
    "Exit: 0 the same, 1 something differs, 3 it cannot be replayed here.\n\n"
    "      --key PEM     also checks the signature, as 'receipt verify' does; more than one may be given\n"
    "      --ids F.npy   the prompt, where the receipt holds its salted hash alone\n"
    "      --threads N   (default: one a processor)\n"
    "      --json        {\"same\",\"tokens\",\"same_tokens\",\"routing\",…}\n\n"
    "Examples:\n"
    "  flextrace receipt replay receipt.json demo/model\n"
    "  flextrace receipt replay receipt.json demo/federation.yaml --key signing.pem.pub --threads 1\n";

static const cli_option options[] = {{"key", 0, 1},  {"ids", 0, 1},    {"threads", 0, 1},
                                     {"json", 0, 0}, {"help", 'h', 0}, {NULL, 0, 0}};

typedef struct request {
    const char *file, *source, *ids_path, **keys;
    size_t key_count;
    long long threads;
    int json;
    ft_keyring ring;
    ft_envelope envelope;
    ft_receipt receipt;
    ft_federation *federation; /* owns model and tokenizer where there is one */
    ft_model *own_model;
    ft_tokenizer *own_tokenizer;
    const ft_model *model;
    const ft_tokenizer *tokenizer;
    ft_pool *pool;
    uint32_t *ids;
    size_t id_count;
    ft_replay_result result;
    char problem[240];
} request;

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    if (!name && r->source)
        return cli_usage("receipt replay", "one FILE and one MODEL, not also '%.60s'", value);
    if (!name && r->file)
        r->source = value;
    else if (!name)
        r->file = value;
    else if (!strcmp(name, "key"))
        r->keys[r->key_count++] = value;
    else if (!strcmp(name, "ids"))
        r->ids_path = value;
    else if (!strcmp(name, "threads"))
        return cli_integer("receipt replay", name, value, 0, 1024, &r->threads) ? CLI_OK : CLI_USAGE;
    else
        r->json = 1;
    return CLI_OK;
}

/* --- Opening ----------------------------------------------------------------------- */

/* A key that was given must have signed. */
static ft_code check_signature(request *r, ft_status *st)
{
    uint64_t signed_by;
    char why[200];
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < r->key_count; i++)
        rc = ft_keyring_read(&r->ring, r->keys[i], st);
    if (rc || !r->key_count)
        return rc;
    rc = receipt_check_signatures(&r->envelope, &r->ring, 1, &signed_by, why, st);
    snprintf(r->problem, sizeof(r->problem), "%s", why);
    return rc;
}

/* The receipt's family of kernels, where nobody chose one and the machine has it. */
static void choose_kernels(const ft_receipt *receipt)
{
    static const char variable[] = "FLEXTRACE_ISA";
    const char *wanted = json_string_value(json_object_get(json_object_get(receipt->predicate, "engine"), "kernels"));
    if (!wanted || getenv(variable) || !strcmp(wanted, ft_cpu_family_name(ft_cpu_isa())))
        return;
    if (setenv(variable, wanted, 1) == 0 && strcmp(wanted, ft_cpu_family_name(ft_cpu_isa())) != 0)
        (void)unsetenv(variable);
}

static ft_code open_model(request *r, ft_status *st)
{
    if (cli_is_federation(r->source)) {
        const ft_code rc = ft_federation_open(&r->federation, r->source, st);
        if (rc)
            return rc;
        r->model = ft_federation_model(r->federation);
        r->tokenizer = ft_federation_tokenizer(r->federation);
        return FT_OK;
    }
    char *path = ft_path_join(r->source, "tokenizer.json");
    ft_code rc = path ? ft_model_open(&r->own_model, r->source, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc && ft_path_exists(path))
        rc = ft_tokenizer_open(&r->own_tokenizer, r->source, st);
    r->model = r->own_model;
    r->tokenizer = r->own_tokenizer;
    free(path);
    return rc;
}

static ft_code compare_model(request *r, ft_status *st)
{
    const ft_progress progress = cli_progress();
    ft_model_digests digests;
    char differs[200];
    const ft_code rc = ft_model_digests_read(r->model, ft_receipt_unread(&r->receipt), &progress, &digests, st);
    cli_progress_end();
    if (rc)
        return rc;
    ft_receipt_compare_model(&r->receipt, &digests, r->tokenizer, differs);
    if (differs[0])
        snprintf(r->problem, sizeof(r->problem), "not the model of the receipt: %s", differs);
    return FT_OK;
}

static void judge(request *r)
{
    const ft_replay_result *x = &r->result;
    if (x->same_tokens != x->expected || x->tokens != x->expected)
        snprintf(r->problem, sizeof(r->problem),
                 "other tokens: %zu of the receipt's %zu came again, then they differ (token %zu)", x->same_tokens,
                 x->expected, x->same_tokens);
    else if (x->routing_stated && !x->routing_same)
        snprintf(r->problem, sizeof(r->problem), "the same %zu tokens, but other routing", x->tokens);
}

static ft_code work(request *r, ft_status *st)
{
    ft_code rc = receipt_read_file(&r->envelope, r->file, st);
    if (!rc)
        rc = check_signature(r, st);
    if (!rc && !r->problem[0])
        rc = ft_receipt_read(&r->receipt, &r->envelope, r->file, st);
    if (!rc && r->receipt.contradiction[0])
        snprintf(r->problem, sizeof(r->problem), "%s", r->receipt.contradiction);
    if (rc || r->problem[0])
        return rc;
    if (!r->receipt.is_generation)
        return ft_fail(st, FT_ERR_FORMAT, "%s: it is '%.80s', no generation: there is nothing to replay", r->file,
                       r->receipt.type);
    choose_kernels(&r->receipt);
    rc = open_model(r, st);
    if (!rc && r->ids_path)
        rc = ft_npy_read_ids(r->ids_path, &r->ids, &r->id_count, st);
    if (!rc)
        rc = ft_pool_new(&r->pool, (unsigned)r->threads, st);
    if (!rc)
        rc = compare_model(r, st);
    const ft_replay_options how = {.pool = r->pool, .prompt = r->ids, .prompt_count = r->id_count};
    if (!rc && !r->problem[0]) {
        rc = ft_receipt_replay(&r->receipt, r->model, r->tokenizer, &how, &r->result, st);
        if (rc == FT_ERR_UNSUPPORTED || rc == FT_ERR_NOT_FOUND || rc == FT_ERR_FORMAT)
            ft_status_prefix(st, "%s", r->file);
        if (!rc)
            judge(r);
    }
    return rc;
}

/* --- The answer ------------------------------------------------------------------------ */

static int print_json(const request *r)
{
    const ft_replay_result *x = &r->result;
    char digest[FT_DIGEST_TEXT] = "";
    if (x->routing_stated)
        ft_digest_text(&x->routing, digest);
    return cli_print_json(json_pack(
        "{s:s,s:b,s:b,s:I,s:I,s:I,s:s?,s:o,s:s,s:b,s:s?}", "file", r->file, "same", !r->problem[0], "generated",
        x->generated, "expected_tokens", (json_int_t)x->expected, "tokens", (json_int_t)x->tokens, "same_tokens",
        (json_int_t)x->same_tokens, "routing_digest", digest[0] ? digest : NULL, "same_routing",
        x->routing_stated ? json_boolean(x->routing_same) : json_null(), "kernels", ft_cpu_family_name(ft_cpu_isa()),
        "signature_checked", r->key_count > 0, "problem", r->problem[0] ? r->problem : NULL));
}

static int answer(const request *r)
{
    const ft_replay_result *x = &r->result;
    const int code = r->problem[0] ? CLI_CHECK_FAILED : CLI_OK;
    if (r->json) {
        const int printed = print_json(r);
        return printed == CLI_OK ? code : printed;
    }
    if (r->problem[0])
        return receipt_says_no(r->file, r->problem);
    printf("%s: the same: %zu tokens %s, %s, by the %s kernels\n", r->file, x->tokens,
           x->generated ? "generated" : "read",
           x->routing_stated ? "and their routing to the last bit" : "no routing is stated",
           ft_cpu_family_name(ft_cpu_isa()));
    if (!r->key_count)
        printf("  the signature was not checked: no --key\n");
    return CLI_OK;
}

static void close_all(request *r)
{
    ft_pool_free(r->pool);
    ft_federation_close(r->federation);
    ft_tokenizer_close(r->own_tokenizer);
    ft_model_close(r->own_model);
    ft_receipt_release(&r->receipt);
    ft_envelope_release(&r->envelope);
    ft_keyring_close(&r->ring);
    free(r->ids);
}

/* The options, then the work; r is zeroed but for `keys`. */
static int replay(request *r, int argc, char **argv)
{
    cli_args a = {.subcommand = "receipt replay", .options = options, .argc = argc, .argv = argv};
    ft_status st = {0};
    int helped = 0, code = cli_take_all(&a, help, take, r, &helped);
    if (code != CLI_OK || helped)
        return code;
    if (!r->source)
        return cli_usage("receipt replay", "needs a FILE and a MODEL or FEDERATION");
    code = work(r, &st) ? cli_fail(&st) : answer(r);
    close_all(r);
    return code;
}

int cli_receipt_replay(int argc, char **argv)
{
    request *r = calloc(1, sizeof(*r)); /* an envelope is some kilobytes */
    const char **keys = (const char **)ft_alloc_array((size_t)argc, sizeof(char *));
    int code;
    if (r && keys) {
        r->keys = keys;
        code = replay(r, argc, argv);
    } else {
        ft_status st = {0};
        (void)ft_fail(&st, FT_ERR_MEM, "out of memory");
        code = cli_fail(&st);
    }
    free((void *)keys);
    free(r);
    return code;
}
