/* flextrace train: the FlexOlmo recipe's training, one file a verb. */
#include "api/cli/cli_train_internal.h"

#include <string.h>

cli_command cli_train;

static const struct {
    const char *name;
    cli_command *run;
} verbs[] = {
    {"public", cli_train_public}, {"expert", cli_train_expert}, {"router", cli_train_router},
    {"joint", cli_train_joint},   {"step", cli_train_step},
};

static const char help[] = "Usage: flextrace train VERB [OPTIONS]; 'flextrace train VERB --help' explains one.\n\n"
                           "  public   all of a dense or FlexOlmo model, from scratch or from a checkpoint\n"
                           "  expert   an owner's expert beside the frozen public model\n"
                           "  router   the router of a merged model alone, on proxy data\n"
                           "  joint    everything at once, for comparison\n"
                           "  step     losses and gradients of one batch, for researchers and checks\n\n"
                           "Example:\n"
                           "  flextrace train step model --ids ids.npy --labels labels.npy --grads grads.safetensors\n";

int cli_train(int argc, char **argv)
{
    if (argc < 2)
        return cli_usage("train", "what to do is 'public', 'expert', 'router', 'joint' or 'step'");
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        fputs(help, stdout);
        return CLI_OK;
    }
    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    return cli_usage("train", "no verb '%.40s'; what to do is 'public', 'expert', 'router', 'joint' or 'step'",
                     argv[1]);
}
