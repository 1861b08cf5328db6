/* flextrace train direction: the public router's row, beside the public model. */
#include "api/cli/cli_train_internal.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: flextrace train direction MODEL --corpus C [-o FILE] [OPTIONS]\n\n"
    "Makes router.safetensors of a public model: for each layer the row whose product with a state\n"
    "on public text is about 1, the public expert's row in every owner's router. 'train public' leaves\n"
    "it beside its model; this makes it for a model that comes without.\n\n"
    "  --corpus C       public text; may be given several times\n"
    "  -o FILE          (MODEL/router.safetensors)\n"
    "  --tokenizer TOK  default: the tokenizer in MODEL\n"
    "  --length T       tokens a sequence (256), of which 256 are read\n"
    "  --threads N      0: one for each processor (default)\n"
    "  --json           {\"router\",\"tokens\"}\n\n"
    "Example:\n"
    "  flextrace train direction public --corpus public.jsonl.gz\n";

typedef struct request {
    const char *model, *out, *tokenizer;
    const char **corpus;
    size_t corpora, length;
    unsigned threads;
    int json;
} request;

ft_code cli_train_open_public(ft_trainer **t, const char *folder, unsigned threads, ft_status *st)
{
    const ft_trainer_options o = {.mode = FT_TRAIN_NOTHING, .threads = threads};
    return ft_trainer_open(t, folder, &o, st);
}

ft_code cli_train_make_direction(const char *folder, ft_train_data *text, size_t length, unsigned threads,
                                 const char *path, uint64_t *tokens, ft_status *st)
{
    ft_trainer *t = NULL;
    ft_router_public r = {0};
    ft_code rc = cli_train_open_public(&t, folder, threads, st);
    if (!rc)
        rc = ft_router_public_make(&r, t, text, length, CLI_ROUTER_WINDOWS, st);
    if (!rc)
        rc = ft_router_public_save(&r, path, st);
    *tokens = r.tokens;
    ft_router_public_close(&r);
    ft_trainer_close(t);
    return rc;
}

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    long long n;
    if (!name && r->model)
        return cli_usage("train direction", "one MODEL, not also '%.60s'", value);
    if (!name)
        r->model = value;
    else if (!strcmp(name, "corpus"))
        r->corpus[r->corpora++] = value;
    else if (!strcmp(name, "output"))
        r->out = value;
    else if (!strcmp(name, "tokenizer"))
        r->tokenizer = value;
    else if (!strcmp(name, "json"))
        r->json = 1;
    else if (!strcmp(name, "length")) {
        if (!cli_integer("train direction", name, value, 2, 1 << 20, &n))
            return CLI_USAGE;
        r->length = (size_t)n;
    } else {
        if (!cli_integer("train direction", name, value, 0, 1024, &n))
            return CLI_USAGE;
        r->threads = (unsigned)n;
    }
    return CLI_OK;
}

static int run(const request *r)
{
    ft_status st = {0};
    ft_tokenizer *tokenizer = NULL;
    ft_train_data *text = NULL;
    ft_model_config config;
    uint64_t tokens = 0;
    const ft_progress show = cli_progress();
    char *beside = ft_path_join(r->model, "router.safetensors");
    const char *path = r->out ? r->out : beside;
    ft_code rc = path ? ft_model_config_read(&config, r->model, &st) : ft_fail(&st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_tokenizer_open(&tokenizer, r->tokenizer ? r->tokenizer : r->model, &st);
    if (!rc)
        rc = ft_train_data_open(&text, r->corpus, r->corpora, tokenizer, config.vocab, &show, &st);
    if (!rc)
        rc = cli_train_make_direction(r->model, text, r->length, r->threads, path, &tokens, &st);
    cli_progress_end();
    int code = CLI_OK;
    if (rc)
        code = cli_fail(&st);
    else if (r->json)
        code = cli_print_json(json_pack("{s:s, s:I}", "router", path, "tokens", (json_int_t)tokens));
    else
        printf("%s: written, from %llu tokens\n", path, (unsigned long long)tokens);
    ft_train_data_close(text);
    ft_tokenizer_close(tokenizer);
    free(beside);
    return code;
}

int cli_train_direction(int argc, char **argv)
{
    static const cli_option options[] = {{"corpus", 0, 1},  {"output", 'o', 1}, {"tokenizer", 't', 1}, {"length", 0, 1},
                                         {"threads", 0, 1}, {"json", 0, 0},     {"help", 'h', 0},      {NULL, 0, 0}};
    cli_args a = {.subcommand = "train direction", .options = options, .argc = argc, .argv = argv};
    request r = {.corpus = ft_alloc_array((size_t)argc, sizeof(*r.corpus)), .length = 256};
    int helped = 0, code = r.corpus ? cli_take_all(&a, help, take, &r, &helped) : CLI_SYSTEM;
    if (code == CLI_OK && !helped && (!r.model || !r.corpora))
        code = cli_usage("train direction", "needs a MODEL and --corpus");
    if (code == CLI_OK && !helped)
        code = run(&r);
    free(r.corpus);
    return code;
}
