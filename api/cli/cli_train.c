/* flextrace train: the FlexOlmo recipe's training, one file a verb. */
#include "api/cli/cli_train_internal.h"

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
