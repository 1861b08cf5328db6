/* Bytes out of a file, through what it is wrapped in: gzip (any number of
 * members), zstd (any number of frames), tar. Streams stand on one another; a
 * stream owns the one below it. Memory does not grow with the file.
 *
 * Names    every message begins with the stream's name; the caller keeps that
 *          string until the stream is closed.
 * Threads  one owner. */
#ifndef FT_CORPUS_INPUT_H
#define FT_CORPUS_INPUT_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ft_input ft_input;
struct ft_input {
    /* Up to `size` bytes, *got 0 (its value at the call) at the end. */
    ft_code (*read)(ft_input *s, void *to, size_t size, size_t *got, ft_status *st);
    void (*release)(ft_input *s); /* what the kind holds; may be NULL */
    const char *name;
    ft_input *below;
    void *state; /* the kind's own, freed after release */
};

/* A stream of a new kind, with zeroed state of that size. On failure `below` is closed. */
FT_CHECKED ft_code ft_input_new(ft_input **out, ft_input *below, const char *name, size_t state_bytes, ft_status *st);

/* *read_bytes grows by what is read from the disk. FT_ERR_NOT_FOUND, _IO, _MEM. */
FT_CHECKED ft_code ft_input_open(ft_input **out, const char *path, const char *name, uint64_t *read_bytes,
                                 ft_status *st);
/* Bytes in memory, which the caller keeps. */
FT_CHECKED ft_code ft_input_memory(ft_input **out, const void *bytes, size_t n, const char *name, ft_status *st);

/* Puts a decompressor on `below`, which it owns from here on, also on failure. */
FT_CHECKED ft_code ft_input_gunzip(ft_input **out, ft_input *below, const char *name, ft_status *st);
FT_CHECKED ft_code ft_input_unzstd(ft_input **out, ft_input *below, const char *name, ft_status *st);

/* Up to `size` bytes; *got 0 is the end. FT_ERR_FORMAT: damaged or cut off. */
FT_CHECKED ft_code ft_input_read(ft_input *s, void *to, size_t size, size_t *got, ft_status *st);
/* All that is left, in place of what the buffer held. FT_ERR_FORMAT above `most` bytes. */
FT_CHECKED ft_code ft_input_read_all(ft_input *s, ft_buffer *out, uint64_t most, ft_status *st);
/* What is said of a document above the limit, without its name; returns FT_ERR_FORMAT. */
ft_code ft_input_too_large(uint64_t most, ft_status *st);
void ft_input_close(ft_input *s); /* and those below; NULL is allowed */

/* A tar's regular files, one after another. */
typedef struct ft_tar ft_tar;
FT_CHECKED ft_code ft_tar_open(ft_tar **out, ft_input *below, const char *name, ft_status *st); /* owns below */
/* *path is the next member's (valid until the next call), NULL at the end. The
 * stream of the member before is closed by the caller first. */
FT_CHECKED ft_code ft_tar_next(ft_tar *t, const char **path, ft_status *st);
/* The member's content. */
FT_CHECKED ft_code ft_tar_member(ft_tar *t, ft_input **out, const char *name, ft_status *st);
void ft_tar_close(ft_tar *t); /* NULL is allowed */

#endif
