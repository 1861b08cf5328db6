/* flextrace index: one table, one line a verb. */
#include "api/cli/cli_index_internal.h"

#include <string.h>

cli_command cli_index;

static const struct {
    const char *name;
    cli_command *run;
    const char *summary;
} verbs[] = {
    {"build", cli_index_build, "a new index out of corpus files or tokens"},
    {"add", cli_index_add, "more documents, as one more segment"},
    {"remove", cli_index_remove, "documents out of an index, by id, metadata or text"},
    {"compact", cli_index_compact, "one segment out of all, without what was removed"},
    {"query", cli_index_query, "answers to JSON lines: count, find, prob, ntd, cnf, docs, doc, …"},
    {"stat", cli_index_stat, "what an index holds"},
    {"verify", cli_index_verify, "every checksum, the order of the suffix array, the Merkle root"},
};
enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void print_help(FILE *to)
{
    fputs("flextrace index: where every sequence of tokens occurs in an owner's corpus.\n\n"
          "Usage: flextrace index VERB …; 'flextrace index VERB --help' explains one.\n\n",
          to);
    for (size_t i = 0; i < VERBS; i++)
        fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\nExample:\n"
          "  flextrace index build farm.index -t tokenizer.json --owner farm corpus/*.jsonl.zst\n"
          "  echo '{\"op\":\"count\",\"text\":\"in the beginning\"}' | flextrace index query farm.index\n",
          to);
}

int cli_index(int argc, char **argv)
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
    return cli_usage("index", "'%.60s' is not a verb", argv[1]);
}
