/* flextrace merge, model add, model remove, model verify: models put together from owners' experts. */
#include "api/cli/cli.h"
#include "api/cli/cli_experts.h"

#include "base/ft_buffer.h"
#include "model/train/ft_experts.h"

#include <stdlib.h>
#include <string.h>

cli_command cli_merge;

static const char merge_help[] =
    "Usage: flextrace merge --public P EXPERT... -o OUT [--bfloat16] [--router F]\n\n"
    "Puts the public model and the owners' experts side by side; nothing is trained. EXPERT is what\n"
    "'flextrace train expert' left: its folder's pair (OUT/model) or hand-over (OUT/expert); or a\n"
    ".safetensors file with an expert's tensors alone (also packed, by 'model convert'), whose public\n"
    "model nothing can show. Every shared tensor must be the public model's, bit for bit.\n"
    "OUT/owners.json records who owns which.\n\n"
    "  --public P    the public model: dense, or of one expert\n"
    "  --router F    the public router row, for experts that bring their own row alone (default:\n"
    "                P/router.safetensors)\n"
    "  -o OUT        the new model's folder\n"
    "  --bfloat16    weights as bfloat16 (default float32)\n"
    "  --json        {\"model\",\"experts\"}\n\n"
    "Example:\n"
    "  flextrace merge --public public news/expert law/expert -o merged\n";
static const char add_help[] = "Usage: flextrace model add MERGED EXPERT -o OUT\n\n"
                               "MERGED with one owner's expert more; the others stay as they are, bit for bit.\n\n"
                               "Example:\n  flextrace model add merged poetry/expert -o merged-2\n";
static const char remove_help[] = "Usage: flextrace model remove MERGED --expert OWNER|E -o OUT\n\n"
                                  "MERGED without that expert: neither its matrices nor its router row are in OUT.\n\n"
                                  "Example:\n  flextrace model remove merged --expert news -o merged-3\n";
static const char verify_help[] = "Usage: flextrace model verify MERGED [--json]\n\n"
                                  "Checks every expert and all that is shared against MERGED/owners.json; exit 1 when\n"
                                  "something was changed.\n\n"
                                  "Example:\n  flextrace model verify merged\n";

typedef struct request {
    const char *verb, *public, *out, *expert, *router;
    const char **words;
    size_t count;
    int bfloat16, json;
} request;

static const cli_option options[] = {{"public", 0, 1}, {"output", 'o', 1}, {"bfloat16", 0, 0}, {"expert", 0, 1},
                                     {"router", 0, 1}, {"json", 0, 0},     {"help", 'h', 0},   {NULL, 0, 0}};

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    if (!name)
        r->words[r->count++] = value;
    else if (!strcmp(name, "public"))
        r->public = value;
    else if (!strcmp(name, "output"))
        r->out = value;
    else if (!strcmp(name, "expert"))
        r->expert = value;
    else if (!strcmp(name, "router"))
        r->router = value;
    else if (!strcmp(name, "bfloat16"))
        r->bfloat16 = 1;
    else
        r->json = 1;
    return CLI_OK;
}

static int tell(const request *r, ft_code rc, const ft_status *st, size_t experts)
{
    if (rc)
        return cli_fail(st);
    if (r->json)
        return cli_print_json(json_pack("{s:s, s:I}", "model", r->out, "experts", (json_int_t)experts));
    printf("%s: written\n", r->out);
    return CLI_OK;
}

static int merge(const request *r)
{
    ft_status st = {0};
    if (!r->public || !r->out || !r->count || r->expert)
        return cli_usage("merge", "needs --public, at least one EXPERT, and -o");
    const ft_merge_options o = {.bfloat16 = r->bfloat16, .router = r->router};
    const ft_code rc = ft_experts_merge(r->public, r->words, r->count, &o, r->out, &st);
    return tell(r, rc, &st, r->count + 1);
}

static int add(const request *r)
{
    ft_status st = {0};
    if (!r->out || r->count != 2 || r->public || r->expert)
        return cli_usage("model add", "needs MERGED, EXPERT and -o");
    return tell(r, ft_experts_add(r->words[0], r->words[1], r->out, &st), &st, 0);
}

/* The number of the expert that an owner's name or a number means; 0: none. *several: the name is that of more than one. */
static size_t expert_number(const json_t *owners, const char *word, int *several)
{
    size_t i, found = 0;
    const json_t *o;
    char *end;
    json_array_foreach(json_object_get(owners, "experts"), i, o)
    {
        const char *owner = json_string_value(json_object_get(o, "owner"));
        if (i && owner && !strcmp(owner, word)) {
            *several = found > 0;
            found = found ? found : i;
        }
    }
    if (found)
        return found;
    const unsigned long n = strtoul(word, &end, 10);
    return *end ? 0 : n;
}

static int take_away(const request *r)
{
    ft_status st = {0};
    json_t *owners = NULL;
    int bad, several = 0;
    if (!r->out || r->count != 1 || !r->expert || r->public)
        return cli_usage("model remove", "needs MERGED, --expert and -o");
    ft_code rc = ft_experts_verify(r->words[0], &bad, &owners, &st);
    const size_t gone = rc ? 0 : expert_number(owners, r->expert, &several);
    if (!rc && several)
        rc = ft_fail(&st, FT_ERR_ARG, "%s: several experts are of '%.60s'; name one by its number", r->words[0],
                     r->expert);
    if (!rc && !gone)
        rc = ft_fail(&st, FT_ERR_ARG, "%s: no expert '%.60s' in owners.json", r->words[0], r->expert);
    if (!rc)
        rc = ft_experts_remove(r->words[0], gone, r->out, &st);
    json_decref(owners);
    return tell(r, rc, &st, 0);
}

static int verify(const request *r)
{
    ft_status st = {0};
    json_t *owners = NULL, *o;
    int bad;
    size_t i;
    if (r->count != 1 || r->out || r->expert || r->public)
        return cli_usage("model verify", "needs one MERGED");
    const ft_code rc = ft_experts_verify(r->words[0], &bad, &owners, &st);
    if (rc)
        return cli_fail(&st);
    if (r->json) {
        json_object_set_new(owners, "ok", json_boolean(bad == -1));
        if (bad != -1)
            json_object_set_new(owners, "changed", bad < 0 ? json_string("owners.json") : json_integer(bad));
        const int code = cli_print_json(owners);
        return code == CLI_OK && bad != -1 ? CLI_CHECK_FAILED : code;
    }
    json_array_foreach(json_object_get(owners, "experts"), i, o)
    {
        printf("expert %zu  %s  %s\n", i, json_string_value(json_object_get(o, "owner")),
               json_string_value(json_object_get(o, "digest")));
    }
    if (bad == -1)
        printf("all tensors are what owners.json says\n");
    else if (bad == 0)
        printf("CHANGED: a shared tensor, or the public expert, is not what owners.json says\n");
    else if (bad > 0)
        printf("CHANGED: expert %d, or its owner or manifest in owners.json, is not what it was\n", bad);
    else
        printf("CHANGED: owners.json says what it did not say, or no longer has the digest of all that it says\n");
    json_decref(owners);
    return bad == -1 ? CLI_OK : CLI_CHECK_FAILED;
}

static int run(const char *verb, const char *help, int (*work)(const request *r), int argc, char **argv)
{
    cli_args a = {.subcommand = verb, .options = options, .argc = argc, .argv = argv};
    request r = {.verb = verb, .words = ft_alloc_array((size_t)argc, sizeof(*r.words))};
    int helped = 0, code = r.words ? cli_take_all(&a, help, take, &r, &helped) : CLI_SYSTEM;
    if (code == CLI_OK && !helped)
        code = work(&r);
    free(r.words);
    return code;
}

int cli_merge(int argc, char **argv)
{
    return run("merge", merge_help, merge, argc, argv);
}

int cli_model_add(int argc, char **argv)
{
    return run("model add", add_help, add, argc, argv);
}

int cli_model_remove(int argc, char **argv)
{
    return run("model remove", remove_help, take_away, argc, argv);
}

int cli_model_verify_owners(int argc, char **argv)
{
    return run("model verify", verify_help, verify, argc, argv);
}
