/* flextrace train step: losses and gradients of one batch. */
#include "api/cli/cli_train_internal.h"

#include "base/ft_buffer.h"
#include "base/ft_npy.h"
#include "model/train/ft_trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: flextrace train step MODEL --ids F.npy --labels F.npy --grads OUT.safetensors [OPTIONS]\n\n"
    "One forward and one backward pass; nothing is updated. MODEL is a folder with config.json and\n"
    "safetensors; mlp.gate.expert_bias [experts - 1] is read where the checkpoint has it.\n\n"
    "  --ids F.npy            int32 [batch, n]\n"
    "  --labels F.npy         int32 [batch, n], shifted already; negative ones do not count\n"
    "  --grads F.safetensors  float32 gradients before clipping, under the checkpoint's names\n"
    "  --expert-mode          only the last expert, its router row and its bias train\n"
    "  --z-loss W             adds W times the router's z (default 0)\n"
    "  --dp-clip C            each sequence an example: the sum of their gradients, each clipped to\n"
    "                         norm C, without z; not divided, no noise\n"
    "  --precision P          of products: float32 (default) or bfloat16\n"
    "  --recompute            keep less, compute more: the same figures in less memory\n"
    "  --threads N            0: one for each processor (default)\n"
    "  --json                 {\"ce\",\"z\",\"loss\",\"grad_norm\"}, with --dp-clip also \"examples\":\n"
    "                         [{\"loss\",\"grad_norm\",\"factor\"}]; grad_norm is then the sum's\n\n"
    "Examples:\n"
    "  flextrace train step model --ids ids.npy --labels labels.npy --grads grads.safetensors --json\n"
    "  flextrace train step model --ids ids.npy --labels labels.npy --grads sum.safetensors \\\n"
    "      --expert-mode --dp-clip 0.1 --json\n";

typedef struct step {
    const char *model, *ids_path, *labels_path, *grads;
    ft_trainer_options options;
    double clip; /* 0: none */
    int json;
    int32_t *ids, *labels;
    ft_batch batch;
    double *norms, *example_losses;
    ft_losses losses;
} step;

static int take(void *context, const char *name, const char *value)
{
    step *s = context;
    long long threads;
    if (!name && s->model)
        return cli_usage("train step", "one MODEL, not also '%.60s'", value);
    if (!name)
        s->model = value;
    else if (!strcmp(name, "ids"))
        s->ids_path = value;
    else if (!strcmp(name, "labels"))
        s->labels_path = value;
    else if (!strcmp(name, "grads"))
        s->grads = value;
    else if (!strcmp(name, "expert-mode"))
        s->options.mode = FT_TRAIN_EXPERT;
    else if (!strcmp(name, "recompute"))
        s->options.recompute = 1;
    else if (!strcmp(name, "precision"))
        return cli_train_precision("train step", value, &s->options.bfloat16) ? CLI_OK : CLI_USAGE;
    else if (!strcmp(name, "json"))
        s->json = 1;
    else if (!strcmp(name, "z-loss"))
        return cli_number("train step", name, value, 0, 1e6, &s->options.z_loss) ? CLI_OK : CLI_USAGE;
    else if (!strcmp(name, "dp-clip"))
        return cli_number("train step", name, value, 1e-30, 1e30, &s->clip) ? CLI_OK : CLI_USAGE;
    else if (!cli_integer("train step", name, value, 0, 1024, &threads))
        return CLI_USAGE;
    else
        s->options.threads = (unsigned)threads;
    return CLI_OK;
}

/* int32 [batch, n], copied. */
static ft_code read_ids(int32_t **out, size_t shape[2], const char *path, ft_status *st)
{
    ft_npy a;
    ft_code rc = ft_npy_open(&a, path, st);
    if (rc)
        return rc;
    if ((a.type != FT_NPY_INT32 && a.type != FT_NPY_UINT32) || a.dims != 2 || a.count == 0)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: must be int32 [batch, n], not empty", path);
    *out = rc ? NULL : ft_alloc_array(a.count, sizeof(**out));
    if (!rc && !*out)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    if (!rc) {
        memcpy(*out, a.data, a.count * sizeof(**out));
        shape[0] = a.shape[0];
        shape[1] = a.shape[1];
    }
    ft_npy_close(&a);
    return rc;
}

static ft_code read_batch(step *s, ft_status *st)
{
    size_t ids[2], labels[2];
    ft_code rc = read_ids(&s->ids, ids, s->ids_path, st);
    if (!rc)
        rc = read_ids(&s->labels, labels, s->labels_path, st);
    if (!rc && (ids[0] != labels[0] || ids[1] != labels[1]))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: [%zu, %zu] does not go with the ids' [%zu, %zu]", s->labels_path,
                     labels[0], labels[1], ids[0], ids[1]);
    if (rc)
        return rc;
    s->batch = (ft_batch){.ids = s->ids, .labels = s->labels, .sequences = ids[0], .length = ids[1]};
    s->norms = ft_alloc_array(ids[0], sizeof(*s->norms));
    s->example_losses = ft_alloc_array(ids[0], sizeof(*s->example_losses));
    return s->norms && s->example_losses ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

/* Named by their file, before the trainer says it of a batch. */
static ft_code check_ids(const step *s, const int32_t *ids, const char *path, int ignored, size_t vocab, ft_status *st)
{
    const size_t n = s->batch.length;
    for (size_t i = 0; i < s->batch.sequences * n; i++)
        if ((ids[i] < 0 && !ignored) || (ids[i] >= 0 && (size_t)ids[i] >= vocab))
            return ft_fail(st, FT_ERR_FORMAT, "%s: [%zu, %zu] is %d; the model's vocabulary has %zu", path, i / n, i % n,
                           ids[i], vocab);
    return FT_OK;
}

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static int print(const step *s, double norm)
{
    if (!s->json) {
        printf("loss %.8g (cross-entropy %.8g, router z %.6g), gradient norm %.8g\n", s->losses.loss, s->losses.ce,
               s->losses.z, norm);
        for (size_t i = 0; i < s->batch.sequences && s->clip > 0; i++)
            printf("  example %zu: loss %.8g, gradient norm %.8g\n", i, s->example_losses[i], s->norms[i]);
        return CLI_OK;
    }
    json_t *o =
        json_pack("{s:o, s:o, s:o, s:o, s:I}", "ce", number(s->losses.ce), "z", number(s->losses.z), "loss",
                  number(s->losses.loss), "grad_norm", number(norm), "labelled_tokens", (json_int_t)s->losses.labelled);
    json_t *examples = s->clip > 0 ? json_array() : NULL;
    for (size_t i = 0; i < s->batch.sequences && examples; i++)
        json_array_append_new(examples, json_pack("{s:o, s:o, s:o}", "loss", number(s->example_losses[i]), "grad_norm",
                                                  number(s->norms[i]), "factor",
                                                  number(s->norms[i] > s->clip ? s->clip / s->norms[i] : 1)));
    if (o && examples)
        json_object_set_new(o, "examples", examples);
    return cli_print_json(o);
}

static int run(step *s)
{
    ft_status st = {0};
    ft_trainer *t = NULL;
    double norm = 0;
    const char *bad = NULL;
    ft_code rc = read_batch(s, &st);
    if (!rc)
        rc = ft_trainer_open(&t, s->model, &s->options, &st);
    const size_t vocab = rc ? 0 : ft_trainer_parameters(t)->config.vocab;
    if (!rc)
        rc = check_ids(s, s->ids, s->ids_path, 0, vocab, &st);
    if (!rc)
        rc = check_ids(s, s->labels, s->labels_path, 1, vocab, &st);
    if (!rc && s->clip > 0)
        rc = ft_trainer_clipped(t, &s->batch, s->clip, s->norms, s->example_losses, &s->losses, &st);
    else if (!rc)
        rc = ft_trainer_gradient(t, &s->batch, 1, &s->losses, &st);
    if (!rc) {
        norm = ft_parameters_norm(ft_trainer_parameters(t), &bad);
        if (bad || !isfinite(s->losses.loss))
            rc = ft_fail(&st, FT_ERR_FORMAT,
                         "%s: %s%s is not finite; the weights hold NaN, infinity or too large values", s->model,
                         bad ? "the gradient of " : "the loss", bad ? bad : "");
    }
    if (!rc)
        rc = ft_parameters_save(ft_trainer_parameters(t), s->grads, FT_SAVE_GRADIENTS, 0, NULL, &st);
    const int code = rc ? cli_fail(&st) : print(s, norm);
    ft_trainer_close(t);
    free(s->ids);
    free(s->labels);
    free(s->norms);
    free(s->example_losses);
    return code;
}

int cli_train_step(int argc, char **argv)
{
    static const cli_option options[] = {{"ids", 0, 1},       {"labels", 0, 1},      {"grads", 0, 1},
                                         {"z-loss", 0, 1},    {"dp-clip", 0, 1},     {"threads", 0, 1},
                                         {"recompute", 0, 0}, {"precision", 0, 1}, {"expert-mode", 0, 0}, {"json", 0, 0},
                                         {"help", 'h', 0},    {NULL, 0, 0}};
    cli_args a = {.subcommand = "train step", .options = options, .argc = argc, .argv = argv};
    step s = {0};
    int helped;
    const int code = cli_take_all(&a, help, take, &s, &helped);
    if (code != CLI_OK || helped)
        return code;
    if (!s.model || !s.ids_path || !s.labels_path || !s.grads)
        return cli_usage("train step", "needs a MODEL, --ids, --labels and --grads");
    return run(&s);
}
