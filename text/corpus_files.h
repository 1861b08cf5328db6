/* The files that the operands of a corpus name, in reading order. */
#ifndef FT_CORPUS_FILES_H
#define FT_CORPUS_FILES_H
#include "text/ft_corpus.h"

typedef struct ft_corpus_file {
    char *path;
    size_t label;   /* path + label: what identifies the file, the path below the operand or the file's name */
    uint64_t bytes; /* 0: empty, or no regular file */
} ft_corpus_file;

typedef struct ft_corpus_files {
    ft_corpus_file *list;
    size_t count, capacity;
    uint64_t bytes; /* sum of their sizes */
} ft_corpus_files;

/* Appends a file, or all files below a folder. Folders that cannot be read fail
 * the call, or, with skip_bad, are counted in *bad and told to `warn`. */
FT_CHECKED ft_code ft_corpus_files_add(ft_corpus_files *f, const char *operand, const ft_corpus_options *options,
                                       uint64_t *bad, ft_status *st);
void ft_corpus_files_release(ft_corpus_files *f);

#endif
