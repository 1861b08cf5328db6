/* flextrace model convert, flextrace model verify. */
#include "api/cli/cli_model_verbs.h"

#include "base/ft_file.h"
#include "model/ft_convert.h"
#include "model/ft_model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- convert ------------------------------------------------------------------------- */

static const char convert_help[] =
    "Usage: flextrace model convert MODEL --to TYPE -o OUT [options]\n\n"
    "Writes a checkpoint in another precision. MODEL is a checkpoint's folder, or one\n"
    ".safetensors file such as an owner hands over; OUT is then a file too. What was\n"
    "interrupted goes on where it stopped when the same command is given again.\n\n"
    "  --to TYPE       int8, int4: attention, experts and head in groups of 32 with a scale\n"
    "                  (router, norms and embedding stay); bfloat16, float16, float32: all\n"
    "  -o, --output OUT  a new folder (or file)\n"
    "  --head TYPE     the head's own type, or keep (default: as --to, but int8 with int4)\n"
    "  --memory SIZE   ceiling on memory (default 512M)\n"
    "  --threads N     (default: all processors)\n"
    "  --json          one JSON object instead of a line\n\n"
    "The files' metadata holds the SHA-256 of each tensor and of the one it was made from;\n"
    "'flextrace model verify OUT' checks them.\n\n"
    "Example:\n"
    "  flextrace model convert demo/model --to int4 -o demo-int4\n";

typedef struct request {
    const char *model, *out;
    ft_convert_options o;
    int json;
} request;

static int take_type(const char *option, const char *text, int keep, ft_convert_type *out)
{
    static const struct {
        const char *name;
        ft_convert_type type;
    } types[] = {{"int8", FT_CONVERT_INT8},       {"int4", FT_CONVERT_INT4},       {"bfloat16", FT_CONVERT_BFLOAT16},
                 {"float16", FT_CONVERT_FLOAT16}, {"float32", FT_CONVERT_FLOAT32}, {"keep", FT_CONVERT_KEEP}};
    for (size_t i = 0; i < 5 + (keep != 0); i++)
        if (!strcmp(text, types[i].name)) {
            *out = types[i].type;
            return CLI_OK;
        }
    return cli_usage("model convert", "--%s must be int8, int4, bfloat16, float16%s float32%s, not '%.40s'", option,
                     keep ? "," : " or", keep ? " or keep" : "", text);
}

static int take(void *context, const char *name, const char *value)
{
    request *r = context;
    unsigned long long bytes;
    long long threads;
    if (!name && r->model)
        return cli_usage("model convert", "one MODEL, not also '%.60s'", value);
    if (!name)
        r->model = value;
    else if (!strcmp(name, "to"))
        return take_type(name, value, 0, &r->o.to);
    else if (!strcmp(name, "head"))
        return take_type(name, value, 1, &r->o.head);
    else if (!strcmp(name, "output"))
        r->out = value;
    else if (!strcmp(name, "memory")) {
        if (!cli_bytes("model convert", name, value, &bytes))
            return CLI_USAGE;
        r->o.memory_bytes = (size_t)bytes;
    } else if (!strcmp(name, "threads")) {
        if (!cli_integer("model convert", name, value, 1, 1024, &threads))
            return CLI_USAGE;
        r->o.threads = (unsigned)threads;
    } else
        r->json = 1;
    return CLI_OK;
}

static int print_result(const request *r, const ft_convert_result *c)
{
    char source[FT_DIGEST_HEX], result[FT_DIGEST_HEX];
    ft_digest_hex(&c->source, source);
    ft_digest_hex(&c->result, result);
    if (r->json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s}", "output", r->out, "source_bytes",
                                        (json_int_t)c->source_bytes, "bytes", (json_int_t)c->bytes, "tensors",
                                        (json_int_t)c->tensors, "resumed_tensors", (json_int_t)c->resumed,
                                        "source_digest", source, "digest", result));
    printf("%s: %zu tensors, %.1f MB out of %.1f MB", r->out, c->tensors, (double)c->bytes / 1e6,
           (double)c->source_bytes / 1e6);
    if (c->resumed)
        printf("; %zu had been finished before", c->resumed);
    printf("\n  source  %s\n  result  %s\n", source, result);
    return CLI_OK;
}

int cli_model_convert(int argc, char **argv)
{
    static const cli_option options[] = {{"to", 0, 1},      {"output", 'o', 1}, {"head", 0, 1},   {"memory", 0, 1},
                                         {"threads", 0, 1}, {"json", 0, 0},     {"help", 'h', 0}, {NULL, 0, 0}};
    cli_args a = {.subcommand = "model convert", .options = options, .argc = argc, .argv = argv};
    request r = {0};
    int helped;
    const int code = cli_take_all(&a, convert_help, take, &r, &helped);
    if (code != CLI_OK || helped)
        return code;
    if (!r.model || !r.out || r.o.to == FT_CONVERT_DEFAULT)
        return cli_usage("model convert", "%s is missing", !r.model ? "a MODEL" : !r.out ? "-o OUT" : "--to TYPE");
    const ft_progress progress = cli_progress();
    r.o.progress = &progress;
    ft_convert_result result;
    ft_status st = {0};
    const ft_code rc = ft_convert(r.model, r.out, &r.o, &result, &st);
    cli_progress_end();
    return rc ? cli_fail(&st) : print_result(&r, &result);
}

/* --- verify --------------------------------------------------------------------------- */

static const char verify_help[] =
    "Usage: flextrace model verify MODEL [--json]\n\n"
    "Reads all of a checkpoint's folder, or of one .safetensors file: headers, shapes, the\n"
    "SHA-256 of every tensor against what the file's metadata says (files of 'model\n"
    "convert' hold it), and that all floats are finite. Prints the digest of the whole.\n"
    "Exit code 1 when something is wrong.\n\n"
    "  --json    one JSON object\n";

typedef struct verification {
    const char *model;
    int json;
} verification;

static int take_verify(void *context, const char *name, const char *value)
{
    verification *v = context;
    if (name)
        v->json = 1;
    else if (v->model)
        return cli_usage("model verify", "one MODEL, not also '%.60s'", value);
    else
        v->model = value;
    return CLI_OK;
}

static json_t *verify_json(const verification *v, const ft_verify_result *r, const char *digest, int good)
{
    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:s?, s:I, s:s?, s:o, s:s}", "model", v->model, "ok", good,
                     "tensors", (json_int_t)r->tensors, "bytes", (json_int_t)r->bytes, "tensors_with_digest",
                     (json_int_t)r->hashed, "wrong_tensors", (json_int_t)r->wrong, "first_wrong",
                     r->wrong ? r->first_wrong : NULL, "not_finite_tensors", (json_int_t)r->not_finite,
                     "first_not_finite", r->not_finite ? r->first_not_finite : NULL, "index_agrees",
                     r->index_agrees < 0 ? json_null() : json_boolean(r->index_agrees), "digest", digest);
}

/* A model of several experts without the file that `merge` writes. */
static int tells_no_owners(const char *model)
{
    ft_model_config c;
    char *path = ft_path_join(model, "owners.json");
    const int there = !path || ft_path_exists(path);
    free(path);
    return !there && ft_model_config_read(&c, model, NULL) == FT_OK && c.experts > 1;
}

static int print_verification(const verification *v, const ft_verify_result *r)
{
    char digest[FT_DIGEST_HEX];
    ft_digest_hex(&r->digest, digest);
    const int good = !r->wrong && !r->not_finite && r->index_agrees != 0;
    if (v->json) {
        const int code = cli_print_json(verify_json(v, r, digest, good));
        return code == CLI_OK && !good ? CLI_CHECK_FAILED : code;
    }
    printf("%s: %zu tensors, %.1f MB; %zu of them have a digest in the metadata\n", v->model, r->tensors,
           (double)r->bytes / 1e6, r->hashed);
    if (r->wrong)
        printf("  wrong        %zu tensors do not have the digest that the metadata says, such as %s\n", r->wrong,
               r->first_wrong);
    if (r->not_finite)
        printf("  not finite   %zu tensors hold NaN or infinity, such as %s\n", r->not_finite, r->first_not_finite);
    if (r->index_agrees == 0)
        printf("  index        model.safetensors.index.json has another digest of the whole\n");
    if (tells_no_owners(v->model))
        printf("  owners       nothing says whose expert is whose: there is no owners.json\n");
    printf("  digest       %s\n%s\n", digest, good ? "  all is well" : "  NOT as it should be");
    return good ? CLI_OK : CLI_CHECK_FAILED;
}

int cli_model_verify(int argc, char **argv)
{
    static const cli_option options[] = {{"json", 0, 0}, {"help", 'h', 0}, {NULL, 0, 0}};
    cli_args a = {.subcommand = "model verify", .options = options, .argc = argc, .argv = argv};
    verification v = {0};
    int helped;
    const int code = cli_take_all(&a, verify_help, take_verify, &v, &helped);
    if (code != CLI_OK || helped)
        return code;
    if (!v.model)
        return cli_usage("model verify", "a MODEL is missing");
    const ft_progress progress = cli_progress();
    ft_verify_result result;
    ft_status st = {0};
    const ft_code rc = ft_verify(v.model, &progress, &result, &st);
    cli_progress_end();
    return rc ? cli_fail(&st) : print_verification(&v, &result);
}
