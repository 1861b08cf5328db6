/* flextrace index: one table, one line a verb. */
#include "api/cli/cli_index_internal.h"

cli_command cli_index;

static const cli_verb verbs[] = {
    {"build", cli_index_build, "a new index out of corpus files or tokens"},
    {"add", cli_index_add, "more documents, as one more segment"},
    {"remove", cli_index_remove, "documents out of an index, by id, metadata or text"},
    {"compact", cli_index_compact, "one segment out of all, without what was removed"},
    {"query", cli_index_query, "answers to JSON lines: count, find, prob, ntd, cnf, docs, doc, …"},
    {"stat", cli_index_stat, "what an index holds"},
    {"verify", cli_index_verify, "every checksum, the order of the suffix array, the Merkle root"},
};
int cli_index(int argc, char **argv)
{
    return cli_run_verb(
        "index", "where every sequence of tokens occurs in an owner's corpus.", verbs, sizeof(verbs) / sizeof(verbs[0]),
        "  flextrace index build farm.index -t tokenizer.json --owner farm corpus/*.jsonl.zst\n"
        "  echo '{\"op\":\"count\",\"text\":\"in the beginning\"}' | flextrace index query farm.index\n",
        argc, argv);
}
