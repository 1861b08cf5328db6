/* flextrace forward: one teacher-forced pass, its numbers into .npy files. */
#include "api/cli/cli.h"
#include "api/cli/cli_model_args.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_npy.h"
#include "model/ft_session.h"
#include "model/ft_token_score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

cli_command cli_forward;

enum { CHUNK = 64 };

static const char help[] = "Usage: flextrace forward MODEL --ids IDS.npy [OPTIONS]\n\n"
                           "Reads a sequence of token ids in one pass, each token after those before it, and\n"
                           "writes what the model computed. MODEL is a folder with config.json and safetensors.\n\n"
                           "  --ids F.npy       token ids, int32 or uint32 [n]\n"
                           "  --logits F.npy    float32 [n, vocab]\n"
                           "  --routing F.npy   router probabilities, float32 [layers, n, experts]\n"
                           "  --experts F.npy   chosen experts, int32 [layers, n, k], largest weight first\n"
                           "  --weights F.npy   their mixing weights as applied, float32 [layers, n, k]\n"
                           "  --without E,...   as if these experts did not exist: k becomes min(k, experts left)\n"
                           "  --compute TYPE    float32: exact (default); bfloat16: bfloat16 weights times inputs\n"
                           "                    rounded to it, faster\n"
                           "  --kv-type TYPE    of the key-value cache: float32 (default), float16, bfloat16\n"
                           "  --kv-memory SIZE  what it may grow to, such as 2G (default: what the text needs)\n"
                           "  --threads N       0: one for each processor (default)\n"
                           "  --json            the summary as JSON: tokens, log-probability, best next token\n\n"
                           "Examples:\n"
                           "  flextrace forward demo/model --ids ids.npy --logits logits.npy\n"
                           "  flextrace forward demo/model --ids ids.npy --without 2,4 --routing p.npy --json\n";

typedef struct forward {
    const char *model, *ids_path, *logits, *routing, *experts, *weights;
    uint64_t without;
    cli_engine how;
    long long threads;
    int json;
    /* At work. */
    uint32_t *ids;
    size_t n;
    double logprob_sum; /* of tokens 1 … n-1 after those before them */
    uint32_t next;      /* most probable after the last one */
} forward;

/* --- Output ------------------------------------------------------------------------ */

static ft_code write_start(ft_file_writer *w, const char *path, size_t n, size_t vocab, ft_status *st)
{
    /* NumPy's header of version 1.0, filled up to 128 bytes: room for any two sizes. */
    char header[129];
    const int used = snprintf(header, sizeof(header),
                              "\x93NUMPY\x01%c%c%c{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", 0,
                              118, 0, n, vocab);
    memset(header + used, ' ', 127 - (size_t)used);
    header[127] = '\n';
    ft_code rc = ft_file_writer_open(w, path, st);
    return rc ? rc : ft_file_writer_put(w, header, 128, st);
}

/* Reads all ids in chunks, so that logits never stand in memory for more than one. */
static ft_code read_all(forward *f, ft_session *s, size_t vocab, ft_status *st)
{
    ft_file_writer w = {0};
    size_t room;
    ft_code rc = ft_size_mul(CHUNK, vocab, &room, st);
    float *logits = rc ? NULL : ft_alloc_array(room, sizeof(*logits));
    if (!rc && !logits)
        rc = ft_fail(st, FT_ERR_MEM, "no memory for the logits of %d tokens", CHUNK);
    if (!rc && f->logits)
        rc = write_start(&w, f->logits, f->n, vocab, st);
    for (size_t at = 0; at < f->n && !rc; at += CHUNK) {
        const size_t count = f->n - at < CHUNK ? f->n - at : CHUNK;
        const ft_outputs out = {.logits = logits};
        rc = cli_interrupted() ? ft_fail(st, FT_ERR_CANCELLED, "interrupted") : FT_OK;
        if (!rc)
            rc = ft_session_read(s, f->ids + at, count, &out, NULL, st);
        for (size_t t = 0; t < count && !rc; t++) {
            if (at + t + 1 < f->n)
                f->logprob_sum += ft_log_probability(logits + t * vocab, vocab, f->ids[at + t + 1]);
            else
                for (size_t v = 1; v < vocab; v++)
                    if (logits[t * vocab + v] > logits[t * vocab + f->next])
                        f->next = (uint32_t)v;
        }
        if (!rc && f->logits)
            rc = ft_file_writer_put(&w, logits, count * vocab * sizeof(*logits), st);
    }
    if (!rc && f->logits)
        rc = ft_file_writer_commit(&w, st);
    ft_file_writer_abandon(&w);
    free(logits);
    return rc;
}

/* The session keeps routing token by token; the files have it layer by layer. */
static ft_code write_floats(const char *path, const float *rows, const ft_routing *r, size_t width, ft_status *st)
{
    float *turned = ft_alloc_array(r->tokens * r->layers * width, sizeof(*turned));
    if (!turned)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    for (size_t t = 0; t < r->tokens; t++)
        for (size_t l = 0; l < r->layers; l++)
            memcpy(turned + (l * r->tokens + t) * width, rows + (t * r->layers + l) * width, width * sizeof(*turned));
    const ft_code rc = ft_npy_write(path, FT_NPY_FLOAT32, 3, (size_t[]){r->layers, r->tokens, width}, turned, st);
    free(turned);
    return rc;
}

static ft_code write_experts(const char *path, const ft_routing *r, ft_status *st)
{
    int32_t *turned = ft_alloc_array(r->tokens * r->layers * r->top_k, sizeof(*turned));
    if (!turned)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    for (size_t t = 0; t < r->tokens; t++)
        for (size_t l = 0; l < r->layers; l++)
            for (size_t j = 0; j < r->top_k; j++)
                turned[(l * r->tokens + t) * r->top_k + j] = r->expert_ids[(t * r->layers + l) * r->top_k + j];
    const ft_code rc = ft_npy_write(path, FT_NPY_INT32, 3, (size_t[]){r->layers, r->tokens, r->top_k}, turned, st);
    free(turned);
    return rc;
}

/* JSON has no infinity: weights that hold NaN give null. */
static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static int print_summary(const forward *f, const ft_model *m, const ft_session *s)
{
    const ft_model_config *c = ft_model_get_config(m);
    const double per_token = f->n > 1 ? f->logprob_sum / (double)(f->n - 1) : 0;
    if (f->json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:o, s:I, s:o}", "model", ft_model_folder(m), "tokens",
                                        (json_int_t)f->n, "vocab", (json_int_t)c->vocab, "top_k",
                                        (json_int_t)ft_session_routing(s).top_k, "logprob_sum", number(f->logprob_sum),
                                        "next_id", (json_int_t)f->next, "perplexity",
                                        f->n > 1 ? number(exp(-per_token)) : json_null()));
    printf("%zu tokens, log-probability %.4f nats", f->n, f->logprob_sum);
    if (f->n > 1)
        printf(", perplexity %.3f", exp(-per_token));
    printf("; most probable next id %u\n", f->next);
    return CLI_OK;
}

/* --- Work --------------------------------------------------------------------------- */

static ft_code write_routing(const forward *f, const ft_session *s, ft_status *st)
{
    const ft_routing r = ft_session_routing(s);
    ft_code rc = FT_OK;
    if (f->routing)
        rc = write_floats(f->routing, r.probs, &r, r.experts, st);
    if (!rc && f->experts)
        rc = write_experts(f->experts, &r, st);
    if (!rc && f->weights)
        rc = write_floats(f->weights, r.weights, &r, r.top_k, st);
    return rc;
}

static int run(forward *f)
{
    ft_status st = {0};
    ft_model *m = NULL;
    ft_pool *pool = NULL;
    ft_session *s = NULL;
    ft_engine *engine = NULL;
    const int wants_routing = f->routing || f->experts || f->weights;
    ft_code rc = ft_npy_read_ids(f->ids_path, &f->ids, &f->n, &st);
    if (!rc && f->n == 0)
        rc = ft_fail(&st, FT_ERR_FORMAT, "%s: holds no ids; a pass needs at least one", f->ids_path);
    if (!rc)
        rc = ft_model_open(&m, f->model, &st);
    if (!rc && wants_routing && !ft_model_get_config(m)->experts)
        rc = ft_fail(&st, FT_ERR_ARG, "%s: a dense model has no router; leave out --routing, --experts and --weights",
                     f->model);
    if (!rc && f->n > ft_model_get_config(m)->max_position)
        rc = ft_fail(&st, FT_ERR_LIMIT, "%s: %zu ids exceed the model's context of %zu", f->ids_path, f->n,
                     ft_model_get_config(m)->max_position);
    for (size_t i = 0; i < f->n && !rc; i++)
        if (f->ids[i] >= ft_model_get_config(m)->vocab)
            rc = ft_fail(&st, FT_ERR_FORMAT, "%s: element %zu: id %u; the model's vocabulary has %zu", f->ids_path, i,
                         f->ids[i], ft_model_get_config(m)->vocab);
    if (!rc)
        rc = ft_pool_new(&pool, (unsigned)f->threads, &st);
    if (!rc) {
        const ft_session_options o = {.without = f->without, .max_tokens = f->n, .capture_routing = 1};
        ft_engine_options how = cli_engine_options(&f->how, NULL);
        how.no_prefix_cache = 1;
        how.max_tokens = f->n;
        rc = ft_engine_new(&engine, m, pool, &how, &st);
        if (!rc)
            rc = ft_session_open_on(&s, engine, &o, &st);
    }
    if (!rc)
        rc = read_all(f, s, ft_model_get_config(m)->vocab, &st);
    if (!rc && wants_routing)
        rc = write_routing(f, s, &st);
    const int code = rc ? cli_fail(&st) : print_summary(f, m, s);
    ft_session_close(s);
    ft_engine_free(engine);
    ft_pool_free(pool);
    ft_model_close(m);
    free(f->ids);
    return code;
}

int cli_forward(int argc, char **argv)
{
    static const cli_option options[] = {{"ids", 0, 1},     {"logits", 0, 1},   {"routing", 0, 1}, {"experts", 0, 1},
                                         {"weights", 0, 1}, {"without", 0, 1},  {"threads", 0, 1}, {"json", 0, 0},
                                         {"help", 'h', 0},  CLI_ENGINE_OPTIONS, {NULL, 0, 0}};
    cli_args a = {.subcommand = "forward", .options = options, .argc = argc, .argv = argv};
    forward f = {0};
    const char *name, *value;
    int more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (!name) {
            if (f.model)
                return cli_usage("forward", "one MODEL, not also '%.60s'", value);
            f.model = value;
        } else if (!strcmp(name, "help")) {
            fputs(help, stdout);
            return CLI_OK;
        } else if (!strcmp(name, "ids")) {
            f.ids_path = value;
        } else if (!strcmp(name, "logits")) {
            f.logits = value;
        } else if (!strcmp(name, "routing")) {
            f.routing = value;
        } else if (!strcmp(name, "experts")) {
            f.experts = value;
        } else if (!strcmp(name, "weights")) {
            f.weights = value;
        } else if (!strcmp(name, "without")) {
            if (!cli_experts("forward", value, &f.without))
                return CLI_USAGE;
        } else if (cli_is_engine_option(name)) {
            if (!cli_take_engine_option("forward", name, value, &f.how))
                return CLI_USAGE;
        } else if (!strcmp(name, "threads")) {
            if (!cli_integer("forward", "threads", value, 0, 1024, &f.threads))
                return CLI_USAGE;
        } else {
            f.json = 1;
        }
    }
    if (more < 0)
        return CLI_USAGE;
    if (!f.model || !f.ids_path)
        return cli_usage("forward", "needs a MODEL and --ids");
    const char *outputs[] = {f.logits, f.routing, f.experts, f.weights};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < i; k++)
            if (outputs[i] && outputs[k] && !strcmp(outputs[i], outputs[k]) && strncmp(outputs[i], "/dev/", 5) != 0)
                return cli_usage("forward", "'%.60s' is named for two outputs", outputs[i]);
    cli_catch_interrupts();
    return run(&f);
}
