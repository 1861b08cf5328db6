/* flextrace generate: a completion, streamed to a terminal or as one JSON object,
 * and traced to its owners where that is asked for.
 *
 * Work goes in five steps: options, opening what they name, one generation step
 * after another with what is new shown in between, the trace, and the result. */
#include "api/cli/cli.h"
#include "api/cli/cli_evidence.h"
#include "api/cli/cli_model_args.h"
#include "api/cli/cli_render.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "model/ft_generate.h"
#include "tracer/ft_federation.h"
#include "tracer/ft_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cli_command cli_generate;

enum { DEFAULT_NEW_TOKENS = 128 };

static const char help[] =
    "Usage: flextrace generate MODEL|FEDERATION [-p TEXT | --ids F.npy] [OPTIONS]\n\n"
    "Continues a prompt. MODEL is a folder with config.json, safetensors and, unless the\n"
    "prompt comes as ids, tokenizer.json; FEDERATION is a federation.yaml or its folder. The\n"
    "prompt is taken as it stands: no token is put before it (an empty one becomes the\n"
    "end-of-text token alone). On a terminal each token stands in the colour of the owner\n"
    "whose expert had the greatest share in it.\n\n"
    "  -p, --prompt TEXT    what to continue\n"
    "  --ids F.npy          the same as token ids, int32 or uint32 [n]\n"
    "  -n, --new-tokens N   at most N new tokens (default 128, or what the context leaves)\n"
    "  --temperature T      0: always the most probable token (default); 1: as the model says\n"
    "  --top-k K            draw among the K most probable (default 0: all)\n"
    "  --top-p P            draw among the most probable that make up P (default 1: all)\n"
    "  --min-p P            draw among what is at least P times as probable as the best (default 0)\n"
    "  --seed S             of the draw; the same seed gives the same text (default: a fresh\n"
    "                       one, which --json tells)\n"
    "  --stop TEXT          end before this text; up to 4 times\n"
    "  --ignore-eos         go on after an end-of-text token\n"
    "  --without LIST       as if these experts did not exist: numbers, or owners' names\n"
    "                       in a federation; separated by commas\n"
    "  --trace              find the spans that stand in the owners' corpora, with documents\n"
    "                       and each expert's share; kept in the federation's store\n"
    "  --causal             with the trace: how much less probable each span is without each\n"
    "                       expert, by one more pass over the text for each of them\n"
    "  --trace-prompt       the same for prompt and completion together\n"
    "  --documents N        documents shown for each span (default 3; --json has all)\n"
    "  --compute TYPE       float32: exact (default); bfloat16: bfloat16 weights times inputs\n"
    "                       rounded to it, faster\n"
    "  --kv-type TYPE       of the key-value cache: float32 (default), float16, bfloat16\n"
    "  --kv-memory SIZE     what it may grow to, such as 2G (default: what the text needs)\n"
    "  --threads N          0: one for each processor (default)\n"
    "  --json               one object: text, ids, finish_reason, usage, seed, trace\n\n"
    "Examples:\n"
    "  flextrace generate demo/model -p 'And it came to pass' -n 40\n"
    "  flextrace generate demo/model -p 'def main' --temperature 0.8 --top-p 0.95 --seed 7\n"
    "  flextrace generate demo/federation.yaml -p 'And it came to pass' --trace\n"
    "  flextrace generate demo/federation.yaml -p 'In the beginning' --without scripture --json\n"
    "  flextrace generate demo/model --ids prompt.npy --without 4 --json\n";

typedef struct generate {
    const char *source, *prompt, *ids_path, *without_list;
    long long new_tokens; /* -1: the default */
    long long threads, documents;
    ft_sampling sampling;
    int seeded, ignore_end_of_text, json, trace, trace_prompt, causal;
    const char *stop[FT_MAX_STOPS];
    size_t stop_count;
    uint64_t without;
    cli_engine how;
    /* What they name. The federation owns model and tokenizer where there is one. */
    ft_federation *federation;
    ft_snapshot *snapshot; /* of its indexes */
    ft_model *own_model;
    ft_tokenizer *own_tokenizer;
    const ft_model *model;
    const ft_tokenizer *tokenizer; /* NULL: the folder has none */
    ft_trace_scope scope;
    ft_pool *pool;
    uint32_t *ids;
    size_t count, max_new_tokens;
    ft_engine *engine;
    ft_generation *generation;
    cli_view view;
    size_t shown_bytes, shown_ids;
} generate;

/* --- Options ----------------------------------------------------------------------- */

static int take_option(generate *g, const char *name, const char *value)
{
    const char *me = "generate";
    if (!strcmp(name, "prompt")) {
        g->prompt = value;
    } else if (!strcmp(name, "ids")) {
        g->ids_path = value;
    } else if (!strcmp(name, "new-tokens")) {
        return cli_integer(me, name, value, 0, INT32_MAX, &g->new_tokens);
    } else if (cli_is_sampling_option(name)) {
        return cli_take_sampling_option(me, name, value, &g->sampling, &g->seeded);
    } else if (!strcmp(name, "stop")) {
        if (g->stop_count == FT_MAX_STOPS || !*value)
            return cli_usage(me, g->stop_count == FT_MAX_STOPS ? "--stop may be given %d times" : "--stop is empty",
                             FT_MAX_STOPS),
                   0;
        g->stop[g->stop_count++] = value;
    } else if (!strcmp(name, "ignore-eos")) {
        g->ignore_end_of_text = 1;
    } else if (!strcmp(name, "without")) {
        g->without_list = value;
    } else if (!strcmp(name, "trace")) {
        g->trace = 1;
    } else if (!strcmp(name, "causal")) {
        g->trace = g->causal = 1;
    } else if (!strcmp(name, "trace-prompt")) {
        g->trace = g->trace_prompt = 1;
    } else if (!strcmp(name, "documents")) {
        return cli_integer(me, name, value, 0, 1000, &g->documents);
    } else if (cli_is_engine_option(name)) {
        return cli_take_engine_option(me, name, value, &g->how);
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
    char *path = ft_path_join(g->source, "tokenizer.json");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    ft_code rc = FT_OK;
    if (ft_path_exists(path))
        rc = ft_tokenizer_open(&g->own_tokenizer, g->source, st);
    else if (g->prompt)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: is not there, and -p needs it; give the prompt with --ids", path);
    else if (g->stop_count)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: is not there, and --stop needs it", path);
    free(path);
    return rc;
}

/* A federation, or a model alone: then a trace has shares, and no owners. */
static ft_code open_source(generate *g, ft_status *st)
{
    ft_code rc;
    if (cli_is_federation(g->source)) {
        rc = ft_federation_open(&g->federation, g->source, st);
        if (!rc) {
            g->snapshot = ft_federation_snapshot(g->federation);
            g->scope = *ft_snapshot_scope(g->snapshot);
        }
        if (!rc && g->without_list)
            rc = ft_federation_experts(g->federation, g->without_list, &g->without, st);
        if (!rc)
            g->without |= ft_federation_opted_out(g->federation);
    } else {
        rc = ft_model_open(&g->own_model, g->source, st);
        if (!rc)
            rc = open_tokenizer(g, st);
        g->scope.model = g->own_model;
        g->scope.tokenizer = g->own_tokenizer;
    }
    g->model = g->scope.model;
    g->tokenizer = g->scope.tokenizer;
    g->view = cli_view_make(&g->scope);
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
        return ft_fail(st, FT_ERR_ARG, "the prompt is empty, and %s names no token to begin with",
                       ft_model_folder(g->model));
    g->ids = ft_alloc_array(1, sizeof(*g->ids));
    if (!g->ids)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    g->ids[0] = id;
    g->count = 1;
    return FT_OK;
}

/* The prompt from --ids, each of its tokens one of the model's. */
static ft_code read_ids(generate *g, ft_status *st)
{
    const size_t vocab = ft_model_get_config(g->model)->vocab;
    ft_code rc = ft_npy_read_ids(g->ids_path, &g->ids, &g->count, st);
    if (!rc && g->count == 0)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: holds no ids; a model needs a first token", g->ids_path);
    for (size_t i = 0; !rc && i < g->count; i++)
        if (g->ids[i] >= vocab)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: element %zu: id %" PRIu32 "; the model's vocabulary has %zu",
                         g->ids_path, i, g->ids[i], vocab);
    return rc;
}

static ft_code make_prompt(generate *g, ft_status *st)
{
    if (g->ids_path)
        return read_ids(g, st);
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
    g->max_new_tokens = g->new_tokens < 0 ? usual : (size_t)g->new_tokens;
    const int coloured = !g->json && g->view.colour && ft_model_get_config(g->model)->experts > 0;
    ft_generate_request r = {.prompt = g->ids,
                             .prompt_count = g->count,
                             .max_new_tokens = g->max_new_tokens,
                             .capture_routing = g->trace || coloured,
                             .sampling = g->sampling,
                             .without = g->without,
                             .stop_count = g->stop_count,
                             .ignore_end_of_text = g->ignore_end_of_text};
    memcpy(r.stop, g->stop, sizeof(r.stop));
    const ft_engine_options from = g->federation ? ft_federation_engine(g->federation) : (ft_engine_options){0};
    ft_engine_options how = cli_engine_options(&g->how, &from);
    how.kv_bytes = (size_t)g->how.kv_bytes; /* the federation's limit is for many requests */
    how.no_prefix_cache = 1;
    how.max_tokens = g->count + g->max_new_tokens; /* too many are refused with their numbers below */
    const ft_code rc = ft_engine_new(&g->engine, g->model, g->pool, &how, st);
    return rc ? rc : ft_generation_open_on(&g->generation, g->engine, g->tokenizer, &r, st);
}

static ft_code open_all(generate *g, ft_status *st)
{
    ft_code rc = open_source(g, st);
    if (!rc)
        rc = make_prompt(g, st);
    if (!rc)
        rc = ft_pool_new(&g->pool, (unsigned)g->threads, st);
    return rc ? rc : open_generation(g, st);
}

static void close_all(generate *g)
{
    ft_generation_close(g->generation);
    ft_engine_free(g->engine);
    ft_pool_free(g->pool);
    ft_snapshot_release(g->snapshot);
    ft_federation_close(g->federation);
    ft_tokenizer_close(g->own_tokenizer);
    ft_model_close(g->own_model);
    free(g->ids);
}

/* --- Showing ------------------------------------------------------------------------- */

/* The prompt stands before a traced text. */
static void show_prompt(generate *g)
{
    if (g->prompt && g->trace)
        cli_stream(&g->view, g->prompt, strlen(g->prompt), CLI_PROMPT);
}

/* Each token's new text in its expert's colour; what comes without a token of its own
 * (a held-back end of a stop string) in the last one's. */
static void show_text(generate *g, const ft_generation_state *now)
{
    const ft_routing routing = ft_generation_routing(g->generation);
    while (g->shown_bytes < now->text_bytes) {
        const size_t at = g->shown_ids;
        const int own = at < now->count;
        const size_t end = own ? now->text_ends[at] : now->text_bytes, token = g->count + (own ? at : now->count - 1);
        if (end > g->shown_bytes)
            cli_stream(&g->view, now->text + g->shown_bytes, end - g->shown_bytes,
                       cli_top_expert(&routing, token, token + 1));
        g->shown_bytes = end > g->shown_bytes ? end : g->shown_bytes;
        g->shown_ids += own;
    }
}

/* Shows what came since the last call. A pipe gets the text as it is. */
static void show_new(generate *g)
{
    const ft_generation_state now = ft_generation_get(g->generation);
    if (!g->tokenizer) {
        for (; g->shown_ids < now.count; g->shown_ids++)
            printf("%s%" PRIu32, g->shown_ids ? " " : "", now.ids[g->shown_ids]);
    } else if (g->trace || isatty(1)) {
        show_text(g, &now);
    } else {
        fwrite(now.text + g->shown_bytes, 1, now.text_bytes - g->shown_bytes, stdout);
        g->shown_bytes = now.text_bytes;
    }
    fflush(stdout);
}

/* What was written stays, whatever ended it. */
static void show_end(generate *g)
{
    if (g->tokenizer && (g->trace || isatty(1)))
        cli_stream_end(&g->view);
    else if (g->shown_bytes || g->shown_ids)
        putchar('\n');
    if (!g->trace && g->shown_bytes && g->view.colour)
        cli_render_legend(&g->view, ft_model_get_config(g->model)->experts, g->without);
}

/* --- The trace ----------------------------------------------------------------------- */

static json_t *parameters(const generate *g)
{
    json_t *stop = json_array();
    for (size_t i = 0; i < g->stop_count; i++)
        if (json_array_append_new(stop, ft_json_text(g->stop[i], strlen(g->stop[i]))) != 0) {
            json_decref(stop);
            return NULL;
        }
    json_t *p = json_pack("{s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:o}", "temperature",
                          g->sampling.temperature, "top_k", (json_int_t)g->sampling.top_k, "top_p", g->sampling.top_p,
                          "min_p", g->sampling.min_p, "presence_penalty", 0.0, "frequency_penalty", 0.0,
                          "repetition_penalty", 1.0, "seed", (json_int_t)g->sampling.seed, "max_tokens",
                          (json_int_t)g->max_new_tokens, "min_tokens", (json_int_t)0, "stop", stop);
    if (p && g->ignore_end_of_text && json_object_set_new(p, "ignore_eos", json_true()) != 0) {
        json_decref(p);
        return NULL;
    }
    return p;
}

/* Of the completion, or of prompt and completion as one text. */
static ft_code make_trace(const generate *g, json_t **trace, ft_status *st)
{
    const ft_generation_state now = ft_generation_get(g->generation);
    const ft_routing routing = ft_generation_routing(g->generation);
    const size_t total = g->count + now.count;
    uint32_t *all = ft_alloc_array(total, sizeof(*all));
    if (!all)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    memcpy(all, g->ids, g->count * sizeof(*all));
    if (now.count)
        memcpy(all + g->count, now.ids, now.count * sizeof(*all));
    const size_t before = g->trace_prompt ? 0 : g->count;
    const ft_engine_options from = g->federation ? ft_federation_engine(g->federation) : (ft_engine_options){0};
    const ft_engine_options how = cli_engine_options(&g->how, &from);
    const cli_timeline line = {.ids = all, .first = before, .count = total, .without = g->without};
    ft_causal *pass = NULL;
    ft_code rc = g->federation ? cli_measure_usual(g->federation, g->pool, &how, st) : FT_OK;
    if (!rc && g->causal)
        rc = cli_find_causes(g->model, g->pool, &how, &line, &pass, st);
    const ft_causal_result causes = pass ? ft_causal_get(pass) : (ft_causal_result){0};
    const ft_trace_input in = {.prompt = all,
                               .prompt_count = before,
                               .response = all + before,
                               .response_count = total - before,
                               .routing = routing.experts ? &routing : NULL,
                               .without = g->without,
                               .causal = pass ? &causes : NULL};
    const ft_trace_options o = ft_trace_options_default(&g->scope);
    if (!rc)
        rc = ft_trace_make(&g->scope, &in, &o, trace, st);
    ft_causal_free(pass);
    free(all);
    const char *model = g->federation ? ft_federation_name(g->federation) : ft_model_folder(g->model);
    const uint64_t opted_out = g->federation ? ft_federation_opted_out(g->federation) : 0;
    if (!rc)
        rc = ft_trace_set_engine(*trace, g->model, opted_out, &how, st);
    if (!rc)
        rc = ft_trace_set_output(*trace, g->tokenizer ? now.text : NULL, now.text_bytes, g->count - before, st);
    if (!rc && (json_object_set_new(*trace, "model", json_string(model)) ||
                json_object_set_new(*trace, "key", json_string("local")) ||
                json_object_set_new(*trace, "finish_reason", json_string(ft_finish_name(now.finish))) ||
                json_object_set_new(*trace, "parameters", parameters(g))))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    return rc;
}

/* Where the federation has a store, the trace gets an id and stays there. */
static ft_code keep_trace(const generate *g, json_t **trace, ft_status *st)
{
    const char *folder = g->federation ? ft_federation_store(g->federation) : NULL;
    if (!folder)
        return FT_OK;
    ft_store *store;
    char id[FT_TRACE_ID];
    const ft_routing routing = ft_generation_routing(g->generation);
    ft_trace_id_new(id);
    const ft_store_options options = ft_federation_store_options(g->federation);
    ft_code rc = ft_store_open_with(&store, folder, &options, st);
    if (!rc)
        rc = ft_trace_stamp(trace, id, st);
    if (!rc)
        rc = ft_store_put(store, id, *trace, routing.experts ? &routing : NULL, st);
    ft_store_close(store);
    return rc;
}

/* --- The result ---------------------------------------------------------------------- */

/* Takes the trace over; NULL for none. */
static int print_result(const generate *g, json_t *trace)
{
    const ft_generation_state now = ft_generation_get(g->generation);
    json_t *usage = json_pack("{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)g->count, "completion_tokens",
                              (json_int_t)now.count, "total_tokens", (json_int_t)(g->count + now.count));
    json_t *text = g->tokenizer ? ft_json_text(now.text, now.text_bytes) : json_null();
    const char *model = g->federation ? ft_federation_name(g->federation) : ft_model_folder(g->model);
    return cli_print_json(json_pack("{s:s, s:o, s:o, s:s, s:o, s:I, s:o*}", "model", model, "text", text, "ids",
                                    ft_json_ids(now.ids, now.count), "finish_reason", ft_finish_name(now.finish),
                                    "usage", usage, "seed", (json_int_t)g->sampling.seed, "trace", trace));
}

/* Trace and result; a trace that cannot be kept is shown all the same. */
static int finish(generate *g)
{
    ft_status st = {0};
    json_t *trace = NULL;
    ft_code rc = g->trace ? make_trace(g, &trace, &st) : FT_OK;
    if (rc) {
        json_decref(trace);
        return cli_fail(&st);
    }
    rc = trace ? keep_trace(g, &trace, &st) : FT_OK;
    int code = CLI_OK;
    if (trace && !g->json) {
        cli_render_trace(&g->view, trace, (size_t)g->documents);
        const char *id = json_string_value(json_object_get(trace, "id"));
        if (id && !rc)
            printf("\nKept as %s\n", id);
    }
    if (g->json)
        code = print_result(g, trace);
    else
        json_decref(trace);
    return rc ? cli_fail(&st) : code;
}

static int run(generate *g)
{
    ft_status st = {0};
    cli_catch_interrupts();
    ft_code rc = open_all(g, &st);
    if (!rc && !g->json)
        show_prompt(g);
    while (!rc && ft_generation_get(g->generation).finish == FT_FINISH_NONE) {
        rc = ft_generation_step(g->generation, &st);
        if (!rc && cli_interrupted())
            ft_generation_abort(g->generation);
        if (!rc && !g->json)
            show_new(g);
    }
    if (g->generation && !g->json)
        show_end(g);
    if (rc)
        return cli_fail(&st);
    const int code = finish(g);
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
        {"prompt", 'p', 1}, {"ids", 0, 1},   {"new-tokens", 'n', 1}, {"temperature", 0, 1}, {"top-k", 0, 1},
        {"top-p", 0, 1},    {"min-p", 0, 1}, {"seed", 0, 1},         {"stop", 0, 1},        {"ignore-eos", 0, 0},
        {"without", 0, 1},  {"trace", 0, 0}, {"trace-prompt", 0, 0}, {"causal", 0, 0},      {"documents", 0, 1},
        {"threads", 0, 1},  {"json", 0, 0},  {"help", 'h', 0},       CLI_ENGINE_OPTIONS,    {NULL, 0, 0}};
    cli_args a = {.subcommand = "generate", .options = options, .argc = argc, .argv = argv};
    generate g = {.new_tokens = -1, .documents = 3, .sampling = {.top_p = 1}};
    const char *name, *value;
    int more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (name && !strcmp(name, "help")) {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (!name && g.source)
            return cli_usage("generate", "one MODEL or FEDERATION, not also '%.60s'", value);
        if (!name)
            g.source = value;
        else if (!take_option(&g, name, value))
            return CLI_USAGE;
    }
    if (more < 0)
        return CLI_USAGE;
    if (!g.source || !g.prompt == !g.ids_path)
        return cli_usage("generate", "needs a MODEL or FEDERATION, and either -p or --ids");
    if (g.without_list && !cli_is_federation(g.source) && !cli_experts("generate", g.without_list, &g.without))
        return CLI_USAGE;
    const int code = run(&g);
    close_all(&g);
    return code;
}
