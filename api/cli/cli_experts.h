/* cli_experts: the verbs of `flextrace model` that know owners' experts (cli_merge.c). argv[0] is the verb. */
#ifndef FT_CLI_EXPERTS_H
#define FT_CLI_EXPERTS_H
#include "api/cli/cli.h"

cli_command cli_model_add;
cli_command cli_model_remove;
cli_command cli_model_verify_owners;
#endif
