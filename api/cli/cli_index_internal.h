/* What the files of `flextrace index` share. */
#ifndef FT_CLI_INDEX_INTERNAL_H
#define FT_CLI_INDEX_INTERNAL_H
#include "api/cli/cli.h"
#include "index/ft_query.h"
#include "text/ft_tokenizer.h"

cli_command cli_index_build, cli_index_add, cli_index_remove, cli_index_compact;
cli_command cli_index_query, cli_index_stat, cli_index_verify;

/* A verb that reads a corpus into an index. */
typedef struct index_reader {
    const char *verb, *help;
    const cli_option *options;
    int add; /* to an index that is there */
} index_reader;
int index_read_corpus(const index_reader *reader, int argc, char **argv);

/* Indexes to be asked as one, and the tokenizer they share (NULL: none is known). */
typedef struct index_asker {
    ft_index_set set;
    ft_index **indexes;
    ft_tokenizer *tokenizer;
    ft_encoder *encoder;
    ft_encoding encoding;
} index_asker;

/* One row of `index query`; a new object, or NULL with the status set. */
json_t *index_answer(index_asker *a, const json_t *row, ft_status *st);

#endif
