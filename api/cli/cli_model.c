/* flextrace model: what a checkpoint is. */
#include "api/cli/cli.h"
#include "api/cli/cli_experts.h"

#include "model/ft_model.h"
#include "model/ft_session.h"

#include <inttypes.h>
#include <string.h>

cli_command cli_model;

static const char help[] = "Usage: flextrace model info MODEL [--json]\n"
                           "       flextrace model add|remove|verify ...: each has its own --help\n\n"
                           "Shows what a checkpoint is: architecture, sizes, files, special tokens. MODEL is a\n"
                           "folder with config.json and model.safetensors (or shards with their index). Every\n"
                           "tensor's shape is checked; the weights themselves are not read.\n\n"
                           "  --json    one JSON object\n\n"
                           "Example:\n"
                           "  flextrace model info demo/model\n";

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

static json_t *info_json(const ft_model *m)
{
    const ft_model_config *c = ft_model_get_config(m);
    const ft_model_sizes z = ft_model_get_sizes(m);
    json_t *ends = json_array(), *unexpected = json_array();
    for (size_t i = 0; i < c->end_of_text_count; i++)
        json_array_append_new(ends, json_integer(c->end_of_text[i]));
    for (size_t i = 0; ft_model_unexpected(m, i); i++)
        json_array_append_new(unexpected, json_string(ft_model_unexpected(m, i)));
    json_t *rope = json_pack("{s:s, s:f, s:f}", "type", rope_names[c->rope.type], "theta", c->rope.theta, "factor",
                             c->rope.factor);
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "model", ft_model_folder(m),
                          "architecture", c->architecture, "layers", (json_int_t)c->layers, "hidden",
                          (json_int_t)c->hidden, "intermediate", (json_int_t)c->intermediate, "heads",
                          (json_int_t)c->heads, "kv_heads", (json_int_t)c->kv_heads, "head_dim",
                          (json_int_t)c->head_dim, "experts", (json_int_t)c->experts, "top_k", (json_int_t)c->top_k,
                          "vocab", (json_int_t)c->vocab, "max_position", (json_int_t)c->max_position);
    json_t *rest = json_pack(
        "{s:f, s:b, s:b, s:o, s:o, s:I, s:I, s:s, s:I, s:I, s:o, s:o}", "rms_norm_eps", c->rms_norm_eps,
        "norm_topk_prob", c->norm_topk_prob, "tie_word_embeddings", c->tie_word_embeddings, "rope", rope, "end_of_text",
        ends, "parameters", (json_int_t)z.parameters, "active_parameters", (json_int_t)z.active_parameters,
        "weight_type", z.weight_type, "weight_bytes", (json_int_t)z.weight_bytes, "kv_bytes_per_token",
        (json_int_t)z.kv_bytes_per_token, "files", files_json(m), "unexpected_tensors", unexpected);
    if (o && rest && json_object_update(o, rest) == 0) {
        json_decref(rest);
        return o;
    }
    json_decref(o);
    json_decref(rest);
    return NULL;
}

static void print_info(const ft_model *m)
{
    const ft_model_config *c = ft_model_get_config(m);
    const ft_model_sizes z = ft_model_get_sizes(m);
    printf("%s: %s\n", ft_model_folder(m), c->architecture);
    printf("  blocks       %zu layers, width %zu, %zu heads of %zu (%zu key/value heads), FFN %zu\n", c->layers,
           c->hidden, c->heads, c->head_dim, c->kv_heads, c->intermediate);
    if (c->experts)
        printf("  experts      %zu, %zu a token; weights %s\n", c->experts, c->top_k,
               c->norm_topk_prob ? "divided by their sum" : "as the router gives them");
    else
        printf("  experts      none: a dense model\n");
    printf("  vocabulary   %zu%s\n", c->vocab, c->tie_word_embeddings ? ", embedding and head tied" : "");
    printf("  end of text ");
    for (size_t i = 0; i < c->end_of_text_count; i++)
        printf(" %" PRIu32, c->end_of_text[i]);
    printf("%s\n", c->end_of_text_count ? "" : " none");
    printf("  positions    %zu, rope %s, theta %g\n", c->max_position, rope_names[c->rope.type], c->rope.theta);
    printf("  parameters   %.1f M, %.1f M active for a token\n", (double)z.parameters / 1e6,
           (double)z.active_parameters / 1e6);
    printf("  weights      %s, %.1f MB; cache %" PRIu64 " bytes a token\n", z.weight_type, (double)z.weight_bytes / 1e6,
           z.kv_bytes_per_token);
    for (size_t i = 0; i < ft_model_file_count(m); i++) {
        uint64_t bytes;
        const char *path = ft_model_file(m, i, &bytes);
        printf("  file         %s, %" PRIu64 " bytes\n", path, bytes);
    }
    const size_t unexpected = ft_model_unexpected_count(m);
    if (unexpected)
        printf("  not used     %zu tensors, such as %s\n", unexpected, ft_model_unexpected(m, 0));
}

static int info(const char *folder, int json)
{
    ft_status st = {0};
    ft_model *m;
    if (ft_model_open(&m, folder, &st))
        return cli_fail(&st);
    int code = CLI_OK;
    if (json)
        code = cli_print_json(info_json(m));
    else
        print_info(m);
    ft_model_close(m);
    return code;
}

int cli_model(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "add"))
        return cli_model_add(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "remove"))
        return cli_model_remove(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "verify"))
        return cli_model_verify_owners(argc - 1, argv + 1);
    static const cli_option options[] = {{"json", 0, 0}, {"help", 'h', 0}, {NULL, 0, 0}};
    cli_args a = {.subcommand = "model", .options = options, .argc = argc, .argv = argv};
    const char *words[2] = {NULL, NULL}, *name, *value;
    int json = 0, more;
    size_t count = 0;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (name && !strcmp(name, "help")) {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (name)
            json = 1;
        else if (count == 2)
            return cli_usage("model", "one MODEL, not also '%.60s'", value);
        else
            words[count++] = value;
    }
    if (more < 0)
        return CLI_USAGE;
    if (count == 0 || strcmp(words[0], "info") != 0)
        return cli_usage("model", "what to do is 'info', 'add', 'remove' or 'verify'");
    if (count == 1)
        return cli_usage("model", "info needs a MODEL");
    return info(words[1], json);
}
