/* ft_run: a part of the documents of a segment, sorted by itself: in memory, or spilled
 * to a file until it is merged with the others. Internal to index/.
 *
 * A run's file is a list of records, by rank, of as few bytes as they need:
 *
 *   position in the run | code | shared, 7 bits | bit, 5 bits        low to high
 *
 * with the meaning of ft_merge_item; a code of more than 20 bits is left to the text. For a vocabulary of 100,278 and
 * 134 million tokens that is 7 bytes. Nothing checks them again: a build that finds a run of the right length in its
 * own folder goes on with it. */
#ifndef FT_RUN_H
#define FT_RUN_H
#include "base/ft_status.h"
#include "index/ft_parting.h"
#include "index/ft_suffix_sort.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ft_run {
    ft_merge_source source; /* first member: a run is a source */
    const ft_codes *text;   /* of the whole segment */
    uint64_t base;          /* the run's first position in it */
    int32_t *order;         /* in memory; else NULL, and a file */
    uint32_t *symbols;      /* what was sorted, the caller's: for ft_run_spill */
    size_t documents;       /* symbols below are ends of documents */
    ft_partings partings;   /* of a run in memory */
    int fd;                 /* -1: none */
    char *path;
    unsigned position_bits, code_bits, kept_bits, bytes; /* kept: of a code in a record, 0 for a large vocabulary */
} ft_run;

/* Bytes a token that sorting needs at most: symbols, order, and the buckets of the recursion. */
#define FT_RUN_TOKEN_BYTES 12.5
/* And for each run that is being sorted. */
enum { FT_RUN_FIXED_BYTES = 9 << 20 };

/* Sorts tokens[0..n), which are ids and FT_END_TOKEN (`documents` of them, the last token
 * too), and are overwritten; `watch` as in ft_suffix_sort. The run is in memory; `text`
 * must outlive it and hold it from `base` on once it is read. What suffixes share is then
 * read off the text, which had better be in memory too. */
FT_CHECKED ft_code ft_run_sort(ft_run *out, uint32_t *tokens, size_t n, size_t documents, uint32_t vocab_size,
                               const ft_sort_watch *watch, ft_status *st);
/* Writes a sorted run to `path`, and lets go of its memory. Its tokens must still be where
 * they were given, and are overwritten once more. */
FT_CHECKED ft_code ft_run_spill(ft_run *run, const char *path, const ft_sort_watch *watch, ft_status *st);
/* A run that an earlier process spilled. FT_ERR_FORMAT when the file is not as long as n records. */
FT_CHECKED ft_code ft_run_open(ft_run *out, const char *path, uint64_t n, uint32_t vocab_size, ft_status *st);
void ft_run_close(ft_run *run); /* keeps the file; zeroed runs are allowed */
#endif
