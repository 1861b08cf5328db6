/* flextrace model info: what a checkpoint is. */
#include "api/cli/cli_model_verbs.h"

#include "base/ft_file.h"
#include "model/ft_model.h"
#include "model/ft_model_needs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char help[] = "Usage: flextrace model info MODEL [--json]\n\n"
                           "Shows what a checkpoint is: architecture, sizes, files, special tokens; and what its\n"
                           "weights and cache need at each precision. MODEL is a folder with config.json and\n"
                           "model.safetensors (or shards with their index), or with config.json alone. Every\n"
                           "tensor's shape is checked; the weights themselves are not read.\n\n"
                           "  --json    one JSON object\n\n"
                           "Example:\n"
                           "  flextrace model info demo/model\n";

/* A checkpoint, or a config alone. */
typedef struct subject {
    const char *folder;
    ft_model_config config;
    ft_model *model; /* NULL: there are no weights */
    ft_model_needs needs;
} subject;

static const char *const rope_names[] = {[FT_ROPE_DEFAULT] = "default",
                                         [FT_ROPE_LINEAR] = "linear",
                                         [FT_ROPE_DYNAMIC] = "dynamic",
                                         [FT_ROPE_YARN] = "yarn",
                                         [FT_ROPE_LLAMA3] = "llama3"};

static json_t *files_json(const ft_model *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ft_model_file_count(m); i++) {
        uint64_t bytes;
        const char *path = ft_model_file(m, i, &bytes);
        json_array_append_new(list, json_pack("{s:s, s:I}", "path", path, "bytes", (json_int_t)bytes));
    }
    return list;
}

static json_t *needs_json(const ft_model_needs *n)
{
    json_t *all = json_object();
    for (int p = 0; p < FT_PRECISIONS; p++)
        json_object_set_new(all, ft_precision_name(p),
                            json_pack("{s:I, s:I}", "weight_bytes", (json_int_t)n->weight_bytes[p],
                                      "active_bytes_per_token", (json_int_t)n->active_bytes[p]));
    return all;
}

static json_t *config_json(const subject *s)
{
    const ft_model_config *c = &s->config;
    json_t *ends = json_array();
    for (size_t i = 0; i < c->end_of_text_count; i++)
        json_array_append_new(ends, json_integer(c->end_of_text[i]));
    json_t *rope = json_pack("{s:s, s:f, s:f}", "type", rope_names[c->rope.type], "theta", c->rope.theta, "factor",
                             c->rope.factor);
    json_t *o =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "model", s->folder, "architecture",
                  c->architecture, "layers", (json_int_t)c->layers, "hidden", (json_int_t)c->hidden, "intermediate",
                  (json_int_t)c->intermediate, "heads", (json_int_t)c->heads, "kv_heads", (json_int_t)c->kv_heads,
                  "head_dim", (json_int_t)c->head_dim, "experts", (json_int_t)c->experts, "top_k", (json_int_t)c->top_k,
                  "vocab", (json_int_t)c->vocab, "max_position", (json_int_t)c->max_position);
    json_t *rest =
        json_pack("{s:b, s:f, s:b, s:b, s:o, s:o}", "expert_bias", s->model && ft_model_has_expert_bias(s->model),
                  "rms_norm_eps", c->rms_norm_eps, "norm_topk_prob", c->norm_topk_prob, "tie_word_embeddings",
                  c->tie_word_embeddings, "rope", rope, "end_of_text", ends);
    if (o && rest)
        json_object_update(o, rest);
    json_decref(rest);
    return o;
}

static json_t *weights_json(const subject *s)
{
    const ft_model *m = s->model;
    if (!m)
        return json_pack("{s:I, s:I, s:n, s:n, s:[], s:[]}", "parameters", (json_int_t)s->needs.parameters,
                         "active_parameters", (json_int_t)s->needs.active_parameters, "weight_type", "weight_bytes",
                         "files", "unexpected_tensors");
    const ft_model_sizes z = ft_model_get_sizes(m);
    json_t *unexpected = json_array();
    for (size_t i = 0; ft_model_unexpected(m, i); i++)
        json_array_append_new(unexpected, json_string(ft_model_unexpected(m, i)));
    return json_pack("{s:I, s:I, s:s, s:I, s:o, s:o}", "parameters", (json_int_t)z.parameters, "active_parameters",
                     (json_int_t)z.active_parameters, "weight_type", z.weight_type, "weight_bytes",
                     (json_int_t)z.weight_bytes, "files", files_json(m), "unexpected_tensors", unexpected);
}

static json_t *info_json(const subject *s)
{
    const json_int_t kv = (json_int_t)s->needs.kv_elements_per_token;
    json_t *o = config_json(s), *weights = weights_json(s);
    json_t *needs =
        json_pack("{s:I, s:{s:I, s:I, s:I}, s:o}", "kv_bytes_per_token", 4 * kv, "kv_bytes_per_token_of", "float32",
                  4 * kv, "float16", 2 * kv, "bfloat16", 2 * kv, "precisions", needs_json(&s->needs));
    const int bad = !o || !weights || !needs || json_object_update(o, weights) || json_object_update(o, needs);
    json_decref(weights);
    json_decref(needs);
    if (!bad)
        return o;
    json_decref(o);
    return NULL;
}

/* "33.3 GB", "39.9 MB". */
static const char *size_text(char out[32], double bytes)
{
    snprintf(out, 32, bytes >= 1e9 ? "%.2f GB" : "%.2f MB", bytes / (bytes >= 1e9 ? 1e9 : 1e6));
    return out;
}

static void print_needs(const subject *s)
{
    char a[32], b[32];
    const double kv = (double)s->needs.kv_elements_per_token, context = (double)s->config.max_position;
    printf("  would need   weights       read for a token\n");
    for (int p = 0; p < FT_PRECISIONS; p++)
        printf("    %-10s %-13s %s\n", ft_precision_name(p), size_text(a, (double)s->needs.weight_bytes[p]),
               size_text(b, (double)s->needs.active_bytes[p]));
    printf("  cache        float32 %.1f KB a token (%s for all %zu positions), float16 and bfloat16 %.1f KB (%s)\n",
           kv * 4 / 1e3, size_text(a, kv * 4 * context), s->config.max_position, kv * 2 / 1e3,
           size_text(b, kv * 2 * context));
}

static void print_weights(const ft_model *m)
{
    char a[32];
    const ft_model_sizes z = ft_model_get_sizes(m);
    printf("  weights      %s, %s\n", z.weight_type, size_text(a, (double)z.weight_bytes));
    for (size_t i = 0; i < ft_model_file_count(m); i++) {
        uint64_t bytes;
        const char *path = ft_model_file(m, i, &bytes);
        printf("  file         %s, %" PRIu64 " bytes\n", path, bytes);
    }
    const size_t unexpected = ft_model_unexpected_count(m);
    if (unexpected)
        printf("  not used     %zu tensors, such as %s\n", unexpected, ft_model_unexpected(m, 0));
}

static void print_info(const subject *s)
{
    const ft_model_config *c = &s->config;
    printf("%s: %s\n", s->folder, c->architecture);
    printf("  blocks       %zu layers, width %zu, %zu heads of %zu (%zu key/value heads), FFN %zu\n", c->layers,
           c->hidden, c->heads, c->head_dim, c->kv_heads, c->intermediate);
    if (c->experts)
        printf("  experts      %zu, %zu a token; weights %s\n", c->experts, c->top_k,
               c->norm_topk_prob ? "divided by their sum" : "as the router gives them");
    else
        printf("  experts      none: a dense model\n");
    if (s->model && ft_model_has_expert_bias(s->model))
        printf(
            "  extension    mlp.gate.expert_bias: a router's bias for each owner's expert, which other programs leave\n"
            "               out: elsewhere this model routes otherwise\n");
    printf("  vocabulary   %zu%s\n", c->vocab, c->tie_word_embeddings ? ", embedding and head tied" : "");
    printf("  end of text ");
    for (size_t i = 0; i < c->end_of_text_count; i++)
        printf(" %" PRIu32, c->end_of_text[i]);
    printf("%s\n", c->end_of_text_count ? "" : " none");
    printf("  positions    %zu, rope %s, theta %g\n", c->max_position, rope_names[c->rope.type], c->rope.theta);
    const ft_model_sizes z = s->model ? ft_model_get_sizes(s->model) : (ft_model_sizes){0};
    printf("  parameters   %.1f M, %.1f M active for a token\n",
           (double)(s->model ? z.parameters : s->needs.parameters) / 1e6,
           (double)(s->model ? z.active_parameters : s->needs.active_parameters) / 1e6);
    if (s->model)
        print_weights(s->model);
    else
        printf("  weights      none in this folder\n");
    print_needs(s);
}

/* 1 when the folder holds a config and no weights at all. */
static int is_bare(const char *folder)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    int there = 0;
    for (int i = 0; i < 2; i++) {
        char *path = ft_path_join(folder, names[i]);
        there = there || !path || ft_path_exists(path);
        free(path);
    }
    return !there;
}

static int info(const char *folder, int json)
{
    ft_status st = {0};
    subject s = {.folder = folder};
    const ft_code rc =
        is_bare(folder) ? ft_model_config_read(&s.config, folder, &st) : ft_model_inspect(&s.model, folder, &st);
    if (rc)
        return cli_fail(&st);
    if (s.model)
        s.config = *ft_model_get_config(s.model);
    s.needs = ft_model_needs_of(&s.config);
    int code = CLI_OK;
    if (json)
        code = cli_print_json(info_json(&s));
    else
        print_info(&s);
    ft_model_close(s.model);
    return code;
}

int cli_model_info(int argc, char **argv)
{
    static const cli_option options[] = {{"json", 0, 0}, {"help", 'h', 0}, {NULL, 0, 0}};
    cli_args a = {.subcommand = "model info", .options = options, .argc = argc, .argv = argv};
    const char *folder = NULL, *name, *value;
    int json = 0, more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (name && !strcmp(name, "help")) {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (name)
            json = 1;
        else if (folder)
            return cli_usage("model info", "one MODEL, not also '%.60s'", value);
        else
            folder = value;
    }
    if (more < 0)
        return CLI_USAGE;
    return folder ? info(folder, json) : cli_usage("model info", "a MODEL is missing");
}
