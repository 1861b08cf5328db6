/* ft_segment_writer: documents, as tokens, to the folder of a segment.
 *
 * Documents are gathered until memory is full, cut into one run a thread, sorted side by
 * side, and spilled; at the end all runs are merged in one pass. Where everything fits
 * in memory nothing is spilled. Either way the same documents make the same files.
 * Internal to index/.
 *
 *   read      add …                        tokens go to the file as they come
 *   sort      each time memory is full     run-000001 …, a mark in progress.json
 *   sort      the rest                     stays in memory
 *   merge     all runs                     suffixes, tree, bounds
 *
 * Restart  A process that is killed leaves its folder; the next one with the same
 *          fingerprint goes on behind the last mark: runs that were spilled, and all that
 *          was read where reading had ended, are not done again.
 * Memory   about options.memory_bytes, the page cache of mapped files aside. */
#ifndef FT_SEGMENT_WRITER_H
#define FT_SEGMENT_WRITER_H
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "base/ft_threads.h"
#include "index/ft_spool.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ft_segment_writer ft_segment_writer;

typedef struct ft_segment_writer_options {
    uint32_t vocab_size;
    uint64_t memory_bytes; /* at least ft_segment_writer_least() */
    uint64_t fingerprint;  /* of the input and all that shapes the segment */
    ft_pool *pool;
    const ft_progress *progress; /* may be NULL */
} ft_segment_writer_options;

/* Least memory for this number of threads. */
uint64_t ft_segment_writer_least(unsigned threads);

/* `folder` exists. *resumed documents are there already: the caller passes over as many.
 * *complete: an earlier process had read all: no more may be added. */
FT_CHECKED ft_code ft_segment_writer_open(ft_segment_writer **out, const char *folder,
                                          const ft_segment_writer_options *options, uint64_t *resumed, int *complete,
                                          ft_status *st);
/* tokens are below vocab_size. FT_ERR_LIMIT: a document that does not fit in memory. */
FT_CHECKED ft_code ft_segment_writer_add(ft_segment_writer *w, const uint32_t *tokens, size_t n, const char *id,
                                         const char *metadata, uint64_t text_bytes, ft_status *st);

uint64_t ft_segment_writer_documents(const ft_segment_writer *w); /* so far, resumed ones too */

typedef struct ft_segment_report {
    uint64_t documents, tokens, text_bytes;
    unsigned runs; /* that were spilled */
} ft_segment_report;
/* All files of the segment, synced; what was only of use on the way is removed. At least
 * one document was added. `twice` as in ft_spool_commit. */
FT_CHECKED ft_code ft_segment_writer_finish(ft_segment_writer *w, ft_spool_twice *twice, void *context,
                                            ft_segment_report *report, ft_status *st);
/* Frees the writer; the folder stays as it is. NULL is allowed. */
void ft_segment_writer_close(ft_segment_writer *w);
/* 1 where an earlier process left something that another one may go on with. */
int ft_segment_writer_has_mark(const char *folder);
#endif
