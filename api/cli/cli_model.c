/* flextrace model: one table, one line a verb. */
#include "api/cli/cli_experts.h"
#include "api/cli/cli_model_verbs.h"

#include "base/ft_file.h"

#include <stdlib.h>
#include <string.h>

cli_command cli_model;

/* A merged model says whose expert is which: it is verified against that. */
static int verify(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *path = argv[i][0] == '-' ? NULL : ft_path_join(argv[i], "owners.json");
        const int merged = path && ft_path_exists(path);
        free(path);
        if (merged)
            return cli_model_verify_owners(argc, argv);
    }
    return cli_model_verify(argc, argv);
}

static const struct {
    const char *name;
    cli_command *run;
    const char *summary;
} verbs[] = {
    {"info", cli_model_info, "what a checkpoint is, and what it needs at each precision"},
    {"convert", cli_model_convert, "int8 or int4 weights, or other floats; of a checkpoint or one owner's expert"},
    {"verify", verify, "tensors, digests, finite values; of a merged model, whose expert is which"},
    {"add", cli_model_add, "one owner's expert more, in a merged model"},
    {"remove", cli_model_remove, "a merged model without one owner's expert"},
};
enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void print_help(FILE *to)
{
    fputs("flextrace model: checkpoints of FlexOlmo and OLMo 2.\n\n"
          "Usage: flextrace model VERB …; 'flextrace model VERB --help' explains one.\n\n",
          to);
    for (size_t i = 0; i < VERBS; i++)
        fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\nExample:\n"
          "  flextrace model convert demo/model --to int4 -o demo-int4\n"
          "  flextrace model info demo-int4\n",
          to);
}

int cli_model(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help(stdout);
        return CLI_OK;
    }
    for (size_t i = 0; i < VERBS; i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    return cli_usage("model", "'%.60s' is not a verb", argv[1]);
}
