/* cli_train_internal: what the verbs of `flextrace train` share. */
#ifndef FT_CLI_TRAIN_INTERNAL_H
#define FT_CLI_TRAIN_INTERNAL_H
#include "api/cli/cli.h"

cli_command cli_train_step;
#endif
