/* cli_train_internal: what the verbs of `flextrace train` share. */
#ifndef FT_CLI_TRAIN_INTERNAL_H
#define FT_CLI_TRAIN_INTERNAL_H
#include "api/cli/cli.h"

cli_command cli_train_step;
cli_command cli_train_public; /* cli_train_run.c */
cli_command cli_train_expert;
cli_command cli_train_router;
cli_command cli_train_joint;
#endif
