/* flextrace generate: a completion, streamed to a terminal or as one JSON object.
 *
 * Work goes in four steps: options, opening what they name, one generation step
 * after another with what is new shown in between, and the result. */
#include "api/cli/cli.h"
#include "api/cli/cli_model_args.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "model/ft_generate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cli_command cli_generate;

enum { DEFAULT_NEW_TOKENS = 128 };

static const char help[] = "Usage: flextrace generate MODEL [-p TEXT | --ids F.npy] [OPTIONS]\n\n"
                           "Continues a prompt. MODEL is a folder with config.json, safetensors and, unless the\n"
                           "prompt comes as ids, tokenizer.json. The prompt is taken as it stands: no token is\n"
                           "put before it (an empty one becomes the end-of-text token alone).\n\n"
                           "  -p, --prompt TEXT    what to continue\n"
                           "  --ids F.npy          the same as token ids, int32 or uint32 [n]\n"
                           "  -n, --new-tokens N   at most N new tokens (default 128, or what the context leaves)\n"
                           "  --temperature T      0: always the most probable token (default); 1: as the model says\n"
                           "  --top-k K            draw among the K most probable (default 0: all)\n"
                           "  --top-p P            draw among the most probable that make up P (default 1: all)\n"
                           "  --seed S             of the draw; the same seed gives the same text (default: a fresh\n"
                           "                       one, which --json tells)\n"
                           "  --stop TEXT          end before this text; up to 4 times\n"
                           "  --ignore-eos         go on after an end-of-text token\n"
                           "  --without E,...      as if these experts did not exist\n"
                           "  --threads N          0: one for each processor (default)\n"
                           "  --json               one object: text, ids, finish_reason, usage, seed\n\n"
                           "Examples:\n"
                           "  flextrace generate demo/model -p 'And it came to pass' -n 40\n"
                           "  flextrace generate demo/model -p 'def main' --temperature 0.8 --top-p 0.95 --seed 7\n"
                           "  flextrace generate demo/model --ids prompt.npy --without 4 --json\n";

typedef struct generate {
    const char *model_folder, *prompt, *ids_path;
    long long new_tokens; /* -1: the default */
    long long threads;
    ft_sampling sampling;
    int seeded, ignore_end_of_text, json;
    const char *stop[FT_MAX_STOPS];
    size_t stop_count;
    uint64_t without;
    /* What they name. */
    ft_model *model;
    ft_tokenizer *tokenizer; /* NULL: the folder has none */
    ft_pool *pool;
    uint32_t *ids;
    size_t count;
    ft_generation *generation;
    size_t shown_bytes, shown_ids;
} generate;

/* --- Options ----------------------------------------------------------------------- */

static int take_option(generate *g, const char *name, const char *value)
{
    const char *me = "generate";
    long long n;
    if (!strcmp(name, "prompt")) {
        g->prompt = value;
    } else if (!strcmp(name, "ids")) {
        g->ids_path = value;
    } else if (!strcmp(name, "new-tokens")) {
        return cli_integer(me, name, value, 0, INT32_MAX, &g->new_tokens);
    } else if (!strcmp(name, "temperature")) {
        return cli_number(me, name, value, 0, 100, &g->sampling.temperature);
    } else if (!strcmp(name, "top-p")) {
        return cli_number(me, name, value, 0, 1, &g->sampling.top_p);
    } else if (!strcmp(name, "top-k")) {
        const int ok = cli_integer(me, name, value, 0, INT32_MAX, &n);
        g->sampling.top_k = ok ? n : 0;
        return ok;
    } else if (!strcmp(name, "seed")) {
        g->seeded = cli_integer(me, name, value, 0, INT64_MAX, &n);
        g->sampling.seed = g->seeded ? (uint64_t)n : 0;
        return g->seeded;
    } else if (!strcmp(name, "stop")) {
        if (g->stop_count == FT_MAX_STOPS || !*value)
            return cli_usage(me, g->stop_count == FT_MAX_STOPS ? "--stop may be given %d times" : "--stop is empty",
                             FT_MAX_STOPS),
                   0;
        g->stop[g->stop_count++] = value;
    } else if (!strcmp(name, "ignore-eos")) {
        g->ignore_end_of_text = 1;
    } else if (!strcmp(name, "without")) {
        return cli_experts(me, value, &g->without);
    } else if (!strcmp(name, "threads")) {
        return cli_integer(me, name, value, 0, 1024, &g->threads);
    } else {
        g->json = 1;
    }
    return 1;
}

/* --- Opening ------------------------------------------------------------------------ */

static ft_code open_tokenizer(generate *g, ft_status *st)
{
    char *path = ft_path_join(g->model_folder, "tokenizer.json");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    ft_code rc = FT_OK;
    if (ft_path_exists(path))
        rc = ft_tokenizer_open(&g->tokenizer, g->model_folder, st);
    else if (g->prompt)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: is not there, and -p needs it; give the prompt with --ids", path);
    else if (g->stop_count)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: is not there, and --stop needs it", path);
    free(path);
    return rc;
}

/* What stands for an empty prompt: a model needs a first token. */
static ft_code first_token(generate *g, ft_status *st)
{
    const ft_model_config *c = ft_model_get_config(g->model);
    uint32_t id = c->bos;
    if (id == FT_NO_ID)
        id = ft_tokenizer_end_of_text(g->tokenizer);
    if (id == FT_NO_TOKEN && c->end_of_text_count)
        id = c->end_of_text[0];
    if (id == FT_NO_TOKEN)
        return ft_fail(st, FT_ERR_ARG, "the prompt is empty, and %s names no token to begin with", g->model_folder);
    g->ids = ft_alloc_array(1, sizeof(*g->ids));
    if (!g->ids)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    g->ids[0] = id;
    g->count = 1;
    return FT_OK;
}

static ft_code make_prompt(generate *g, ft_status *st)
{
    if (g->ids_path)
        return ft_npy_read_ids(g->ids_path, &g->ids, &g->count, st);
    ft_encoder *encoder;
    ft_encoding e = {0};
    ft_code rc = ft_encoder_new(&encoder, g->tokenizer, st);
    if (!rc)
        rc = ft_encoder_encode(encoder, g->prompt, strlen(g->prompt), &e, st);
    ft_encoder_free(encoder);
    if (!rc && e.count == 0)
        rc = first_token(g, st);
    if (!rc && e.count) {
        g->ids = e.ids;
        g->count = e.count;
        e.ids = NULL; /* ours from here on */
    }
    ft_encoding_release(&e);
    return rc;
}

static ft_code open_generation(generate *g, ft_status *st)
{
    const size_t context = ft_model_get_config(g->model)->max_position;
    const size_t room = g->count < context ? context - g->count : 0;
    const size_t usual = room < DEFAULT_NEW_TOKENS ? room : DEFAULT_NEW_TOKENS;
    if (!g->seeded && g->sampling.temperature > 0)
        g->sampling.seed = ft_random_seed() >> 11; /* 53 bits: JSON readers keep them */
    ft_generate_request r = {.prompt = g->ids,
                             .prompt_count = g->count,
                             .max_new_tokens = g->new_tokens < 0 ? usual : (size_t)g->new_tokens,
                             .sampling = g->sampling,
                             .without = g->without,
                             .stop_count = g->stop_count,
                             .ignore_end_of_text = g->ignore_end_of_text};
    memcpy(r.stop, g->stop, sizeof(r.stop));
    return ft_generation_open(&g->generation, g->model, g->tokenizer, g->pool, &r, st);
}

static ft_code open_all(generate *g, ft_status *st)
{
    ft_code rc = ft_model_open(&g->model, g->model_folder, st);
    if (!rc)
        rc = open_tokenizer(g, st);
    if (!rc)
        rc = make_prompt(g, st);
    if (!rc)
        rc = ft_pool_new(&g->pool, (unsigned)g->threads, st);
    return rc ? rc : open_generation(g, st);
}

static void close_all(generate *g)
{
    ft_generation_close(g->generation);
    ft_pool_free(g->pool);
    ft_tokenizer_close(g->tokenizer);
    ft_model_close(g->model);
    free(g->ids);
}

/* --- Showing ------------------------------------------------------------------------- */

/* A model may write anything; a terminal must not obey it. Control characters
 * other than newline and tab are shown as '?'. */
static void put_text(const char *text, size_t n, int terminal)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const int c1 = c == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0;
        if (terminal && (c1 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)) {
            putchar('?');
            i += (size_t)c1;
        } else {
            putchar(c);
        }
    }
}

/* Prints what came since the last call. */
static void show_new(generate *g)
{
    const ft_generation_state now = ft_generation_get(g->generation);
    if (g->tokenizer) {
        put_text(now.text + g->shown_bytes, now.text_bytes - g->shown_bytes, isatty(1));
        g->shown_bytes = now.text_bytes;
    } else {
        for (; g->shown_ids < now.count; g->shown_ids++)
            printf("%s%" PRIu32, g->shown_ids ? " " : "", now.ids[g->shown_ids]);
    }
    fflush(stdout);
}

static int print_result(const generate *g)
{
    const ft_generation_state now = ft_generation_get(g->generation);
    json_t *usage = json_pack("{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)g->count, "completion_tokens",
                              (json_int_t)now.count, "total_tokens", (json_int_t)(g->count + now.count));
    json_t *text = g->tokenizer ? ft_json_text(now.text, now.text_bytes) : json_null();
    return cli_print_json(json_pack("{s:s, s:o, s:o, s:s, s:o, s:I}", "model", g->model_folder, "text", text, "ids",
                                    ft_json_ids(now.ids, now.count), "finish_reason", ft_finish_name(now.finish),
                                    "usage", usage, "seed", (json_int_t)g->sampling.seed));
}

static int run(generate *g)
{
    ft_status st = {0};
    cli_catch_interrupts();
    ft_code rc = open_all(g, &st);
    while (!rc && ft_generation_get(g->generation).finish == FT_FINISH_NONE) {
        rc = ft_generation_step(g->generation, &st);
        if (!rc && cli_interrupted())
            ft_generation_abort(g->generation);
        if (!rc && !g->json)
            show_new(g);
    }
    const int shown = g->generation && !g->json && (g->shown_bytes || g->shown_ids);
    if (shown) /* what was written stays, whatever ended it */
        putchar('\n');
    if (rc)
        return cli_fail(&st);
    const int code = g->json ? print_result(g) : CLI_OK;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)ft_fail(&st, FT_ERR_IO, "standard output: %s", strerror(errno));
        return cli_fail(&st);
    }
    if (ft_generation_get(g->generation).finish != FT_FINISH_ABORT)
        return code;
    (void)ft_fail(&st, FT_ERR_CANCELLED, "interrupted after %zu tokens", ft_generation_get(g->generation).count);
    return cli_fail(&st);
}

int cli_generate(int argc, char **argv)
{
    static const cli_option options[] = {
        {"prompt", 'p', 1}, {"ids", 0, 1},  {"new-tokens", 'n', 1}, {"temperature", 0, 1}, {"top-k", 0, 1},
        {"top-p", 0, 1},    {"seed", 0, 1}, {"stop", 0, 1},         {"ignore-eos", 0, 0},  {"without", 0, 1},
        {"threads", 0, 1},  {"json", 0, 0}, {"help", 'h', 0},       {NULL, 0, 0}};
    cli_args a = {.subcommand = "generate", .options = options, .argc = argc, .argv = argv};
    generate g = {.new_tokens = -1, .sampling = {.top_p = 1}};
    const char *name, *value;
    int more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (name && !strcmp(name, "help")) {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (!name && g.model_folder)
            return cli_usage("generate", "one MODEL, not also '%.60s'", value);
        if (!name)
            g.model_folder = value;
        else if (!take_option(&g, name, value))
            return CLI_USAGE;
    }
    if (more < 0)
        return CLI_USAGE;
    if (!g.model_folder || !g.prompt == !g.ids_path)
        return cli_usage("generate", "needs a MODEL, and either -p or --ids");
    const int code = run(&g);
    close_all(&g);
    return code;
}
