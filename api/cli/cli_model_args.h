/* cli_model_args: what the subcommands that run a model share. */
#ifndef FT_CLI_MODEL_ARGS_H
#define FT_CLI_MODEL_ARGS_H
#include <stdint.h>

/* "0,3,5" as a set of bits added to *out; prints a usage message and returns 0
 * when the text is not such a list. */
int cli_experts(const char *subcommand, const char *list, uint64_t *out);

/* A file, or a folder that holds a federation.yaml. */
int cli_is_federation(const char *path);

#endif
