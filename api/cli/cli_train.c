/* flextrace train: the FlexOlmo recipe's training, one file a verb. */
#include "api/cli/cli_train_internal.h"

#include <string.h>

cli_command cli_train;

static const cli_verb verbs[] = {
    {"public", cli_train_public, "all of a dense or FlexOlmo model, from scratch or from a checkpoint"},
    {"expert", cli_train_expert, "an owner's expert beside the frozen public model"},
    {"direction", cli_train_direction, "the public router's row, for a public model that comes without"},
    {"router", cli_train_router, "the router of a merged model alone, on proxy data"},
    {"joint", cli_train_joint, "everything at once, for comparison"},
    {"step", cli_train_step, "losses and gradients of one batch, for researchers and checks"},
};

int cli_train(int argc, char **argv)
{
    return cli_run_verb("train", "the FlexOlmo recipe.", verbs, sizeof(verbs) / sizeof(verbs[0]),
                        "  flextrace train step model --ids ids.npy --labels labels.npy --grads grads.safetensors\n",
                        argc, argv);
}

int cli_train_precision(const char *verb, const char *value, int *bfloat16)
{
    *bfloat16 = !strcmp(value, "bfloat16") || !strcmp(value, "bf16");
    if (*bfloat16 || !strcmp(value, "float32") || !strcmp(value, "f32"))
        return 1;
    cli_usage(verb, "--precision is float32 or bfloat16, not '%.40s'", value);
    return 0;
}

/* Of the corpora: their tokens, with room for growth, and the starts of their documents. */
static uint64_t data_bytes(const ft_train_data *d)
{
    return d ? 6 * ft_train_data_tokens(d) + 8 * ft_train_data_documents(d) : 0;
}

ft_code cli_train_fit(cli_train_request *r, ft_trainer *t, ft_status *st)
{
    const ft_train_options *o = &r->run;
    const int private = o->dp_clip > 0, whole = private && o->example_document;
    uint64_t besides = data_bytes(o->data) + data_bytes(o->public_data) + data_bytes(r->held);
    const ft_parameters *p = ft_trainer_parameters(t);
    for (size_t i = 0; i < p->count && whole; i++) /* a document's own gradient */
        besides += p->all[i].grad ? p->all[i].count * sizeof(float) : 0;
    besides += 12 * (uint64_t)o->batch * o->length;
    return r->memory ? ft_trainer_fit(t, r->memory, besides, o->length, private && !whole, &r->run.micro, st) : FT_OK;
}
