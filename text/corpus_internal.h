/* corpus_internal: what the two files of the corpus reader share. ft_corpus_files.c
 * knows folders, archives and compression; ft_corpus.c knows documents. */
#ifndef FT_CORPUS_INTERNAL_H
#define FT_CORPUS_INTERNAL_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <stdint.h>

/* The files below the operands, in the order in which they are read. */
typedef struct ft_file_list {
    struct ft_file_entry {
        char *path;
        char *id; /* path below the operand that was named, or the file name */
        uint64_t bytes;
    } * files;
    size_t count, capacity;
} ft_file_list;
FT_CHECKED ft_code ft_file_list_add(ft_file_list *list, const char *operand, ft_status *st);
void ft_file_list_release(ft_file_list *list);

/* One file's members, decompressed: a plain file is its own only member. */
typedef struct ft_members ft_members;
FT_CHECKED ft_code ft_members_open(ft_members **out, const struct ft_file_entry *file, ft_status *st);
void ft_members_close(ft_members *m);
/* 1 in *more with *name (what tells the format: compression suffixes taken off) and *source ("a.tar/b.txt") and *id,
 * views until the next call; 0 at the end. */
FT_CHECKED ft_code ft_members_next(ft_members *m, const char **name, const char **source, const char **id, int *more,
                                   ft_status *st);
/* Up to n bytes of the member; 0 at its end. */
FT_CHECKED ft_code ft_members_read(ft_members *m, char *bytes, size_t n, size_t *got, ft_status *st);
uint64_t ft_members_consumed(const ft_members *m); /* bytes of the file read so far */

#endif
