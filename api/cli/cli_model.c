/* flextrace model: one table, one line a verb. */
#include "api/cli/cli_experts.h"
#include "api/cli/cli_model_verbs.h"

#include "base/ft_file.h"
#include "base/ft_json.h"

#include <stdlib.h>

cli_command cli_model;

/* Files of 'model convert' have digests of their own tensors; an owners.json that was carried over speaks of the
 * source. */
static int is_converted(const char *folder)
{
    enum { INDEX_BYTES = 256 << 20 };
    char *path = ft_path_join(folder, "model.safetensors.index.json");
    json_t *index = NULL;
    const int read = path && ft_json_read_file(&index, path, INDEX_BYTES, NULL) == FT_OK;
    const int has = read && json_object_get(json_object_get(index, "metadata"), "flextrace_source_digest") != NULL;
    json_decref(index);
    free(path);
    return has;
}

/* A merged model says whose expert is which: it is verified against that. */
static int verify(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *path = argv[i][0] == '-' ? NULL : ft_path_join(argv[i], "owners.json");
        const int merged = path && ft_path_exists(path);
        free(path);
        if (merged && !is_converted(argv[i]))
            return cli_model_verify_owners(argc, argv);
    }
    return cli_model_verify(argc, argv);
}

static const cli_verb verbs[] = {
    {"info", cli_model_info, "what a checkpoint is, and what it needs at each precision"},
    {"convert", cli_model_convert, "int8 or int4 weights, or other floats; of a checkpoint or one owner's expert"},
    {"verify", verify, "tensors, digests, finite values; of a merged model, whose expert is which"},
    {"add", cli_model_add, "one owner's expert more, in a merged model"},
    {"remove", cli_model_remove, "a merged model without one owner's expert"},
};
int cli_model(int argc, char **argv)
{
    return cli_run_verb("model", "checkpoints of FlexOlmo and OLMo 2.", verbs, sizeof(verbs) / sizeof(verbs[0]),
                        "  flextrace model convert demo/model --to int4 -o demo-int4\n"
                        "  flextrace model info demo-int4\n",
                        argc, argv);
}
