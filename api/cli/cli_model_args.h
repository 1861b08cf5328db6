/* cli_model_args: what the subcommands that run a model share. */
#ifndef FT_CLI_MODEL_ARGS_H
#define FT_CLI_MODEL_ARGS_H
#include "model/ft_engine.h"
#include "model/ft_sampler.h"

#include <stdint.h>

/* "0,3,5" as a set of bits added to *out; prints a usage message and returns 0
 * when the text is not such a list. */
int cli_experts(const char *subcommand, const char *list, uint64_t *out);

/* A file, or a folder that holds a federation.yaml. */
int cli_is_federation(const char *path);

/* --compute, --kv-type and --kv-memory: how an engine computes and what it may keep. */
#define CLI_ENGINE_OPTIONS {"compute", 0, 1}, {"kv-type", 0, 1}, {"kv-memory", 0, 1}
typedef struct cli_engine {
    const char *compute, *kv_type; /* NULL: not given */
    unsigned long long kv_bytes;   /* 0: not given */
} cli_engine;
int cli_is_engine_option(const char *name);
/* Takes one of them; prints a usage message and returns 0 when the value is none. */
int cli_take_engine_option(const char *subcommand, const char *name, const char *value, cli_engine *e);
/* `from` (NULL: defaults) with what was given. */
ft_engine_options cli_engine_options(const cli_engine *e, const ft_engine_options *from);

/* --temperature, --top-k, --top-p, --min-p and --seed. */
int cli_is_sampling_option(const char *name);
/* Takes one of them; *seeded becomes 1 with --seed. Prints a usage message and returns 0 when the
 * value is none. */
int cli_take_sampling_option(const char *subcommand, const char *name, const char *value, ft_sampling *s, int *seeded);

#endif
