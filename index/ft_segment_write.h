/* ft_segment_write: gathered documents as a segment folder. Internal to index/. */
#ifndef FT_SEGMENT_WRITE_H
#define FT_SEGMENT_WRITE_H
#include "base/ft_buffer.h"
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "base/ft_threads.h"
#include "index/ft_section.h"

enum { FT_END_TOKEN = UINT32_MAX }; /* the end of a document in a gather */

typedef struct ft_gather {
    uint32_t *tokens; /* documents one after another, each followed by FT_END_TOKEN */
    size_t count, capacity;
    ft_document_record *documents;
    size_t document_count, document_capacity;
    ft_buffer texts; /* id, NUL, metadata, NUL for each document */
    uint64_t text_bytes;
} ft_gather;

void ft_gather_release(ft_gather *g);
void ft_gather_reset(ft_gather *g); /* gives the memory back too */
FT_CHECKED ft_code ft_gather_add(ft_gather *g, const uint32_t *tokens, size_t n, const char *id, const char *metadata,
                                 uint64_t text_bytes, ft_status *st);
/* Memory that sorting and writing will need with `tokens` more tokens, one document
 * more and its texts. */
uint64_t ft_gather_peak_bytes(const ft_gather *g, uint64_t tokens, uint64_t text_bytes);

/* Sorts and writes all files of a segment into `folder`, which exists. The tokens are
 * below vocab_size. */
FT_CHECKED ft_code ft_segment_write(const char *folder, ft_gather *g, uint32_t vocab_size, ft_pool *pool,
                                    const ft_progress *progress, ft_status *st);
#endif
