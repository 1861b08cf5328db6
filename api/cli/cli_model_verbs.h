/* cli_model_verbs: the verbs of `flextrace model`. */
#ifndef FT_CLI_MODEL_VERBS_H
#define FT_CLI_MODEL_VERBS_H
#include "api/cli/cli.h"

cli_command cli_model_info, cli_model_convert, cli_model_verify;

#endif
