/* flextrace index add */
#include "api/cli/cli_index_internal.h"

static const char help[] =
    "flextrace index add: more documents for an index, as one more segment of it.\n\n"
    "Usage: flextrace index add INDEX [OPTIONS] CORPUS…\n\n"
    "CORPUS as in 'index build'. The tokenizer is the index's own, the owner too. Who has the\n"
    "index open goes on with the old state; who opens it afterwards sees the new one, and so\n"
    "does a running 'flextrace serve'. The time follows what is added. An index has at most\n"
    "64 segments; 'index compact' makes one of them.\n\n"
    "  -t, --tokenizer TOK    another than the index's is refused (default: the index's copy)\n"
    "      --memory SIZE      ceiling of memory (default 2G)\n"
    "      --threads N        default: all processors\n"
    "      --replace          a document takes the place of an earlier one with its id, also of\n"
    "                         one in the index (default: both are kept, and reported)\n"
    "      --skip-bad         report documents that cannot be read and go on (default: stop)\n"
    "      --max-document SIZE  larger documents count as bad (default 256M)\n"
    "      --json             the summary as one JSON object\n"
    "Tokens:\n"
    "      --doc-offsets F.npy, --documents F.jsonl, --infini-gram V    as in 'index build'\n\n"
    "Restart: the index has all of the addition or nothing of it. After a stop or a kill, run\n"
    "the same command again to go on; what was sorted stands in INDEX/work meanwhile. Any\n"
    "other change of the index removes it.\n\n"
    "Exit: 0 done; 2 usage, or another program is changing the index; 3 bad input, or another\n"
    "tokenizer; 4 system (disk, memory); 130, 143 stopped by Ctrl-C, SIGTERM.\n\n"
    "Examples:\n"
    "  flextrace index add farm.index harvest-2026.jsonl.zst\n"
    "  flextrace index add farm.index --replace corrected.jsonl\n";

static const cli_option options[] = {
    {"tokenizer", 't', 1}, {"memory", 0, 1},       {"threads", 0, 1},     {"replace", 0, 0},
    {"skip-bad", 0, 0},    {"max-document", 0, 1}, {"doc-offsets", 0, 1}, {"documents", 0, 1},
    {"infini-gram", 0, 1}, {"json", 0, 0},         {"help", 'h', 0},      {NULL, 0, 0},
};

int cli_index_add(int argc, char **argv)
{
    static const index_reader reader = {"index add", help, options, 1};
    return index_read_corpus(&reader, argc, argv);
}
