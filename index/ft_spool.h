/* ft_spool: the documents of a segment as they arrive, on their way to its files.
 * Tokens go straight to the section that holds them, packed by all threads; what is
 * known of each document goes to two plain files that are made sections at the end.
 * Internal to index/.
 *
 * Files     FOLDER/tokens (a section without its header yet), spool-documents,
 *           spool-texts: removed by ft_spool_remove, or with the folder.
 * Threads   one owner; the pool works inside the calls. */
#ifndef FT_SPOOL_H
#define FT_SPOOL_H
#include "base/ft_status.h"
#include "base/ft_threads.h"
#include "index/ft_section.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    FT_END_TOKEN = UINT32_MAX, /* the end of a document, in arrays of tokens */
    FT_SPOOL_CODES = 1 << 17   /* codes of one block of the tokens' section */
};

/* Where a spool stands: what a later process needs to go on with it. */
typedef struct ft_spool_mark {
    uint64_t documents, codes, text_bytes; /* codes: tokens and ends */
    uint64_t texts;                        /* bytes of ids and metadata */
} ft_spool_mark;

typedef struct ft_spool {
    char *folder;
    uint32_t vocab_size;
    unsigned bits; /* of a code */
    ft_pool *pool;
    ft_spool_mark mark;
    ft_section_writer tokens;
    uint32_t *tail; /* ids of the block that is not full yet */
    size_t tail_count;
    FILE *documents, *texts;
} ft_spool;

/* `from` (may be NULL): goes on where an earlier process stood, which flushed then. */
FT_CHECKED ft_code ft_spool_open(ft_spool *out, const char *folder, uint32_t vocab_size, const ft_spool_mark *from,
                                 ft_pool *pool, ft_status *st);
/* A document that begins at token `start` of the segment. */
FT_CHECKED ft_code ft_spool_document(ft_spool *s, uint64_t start, const char *id, const char *metadata,
                                     uint64_t text_bytes, ft_status *st);
/* The next codes of the segment, as ids and FT_END_TOKEN. */
FT_CHECKED ft_code ft_spool_tokens(ft_spool *s, const uint32_t *tokens, size_t n, ft_status *st);
/* All so far is in the files, the unfinished block too: a mark made now is a place to go on from. */
FT_CHECKED ft_code ft_spool_flush(ft_spool *s, ft_status *st);
/* Codes [from, from + n) as ids and FT_END_TOKEN; they were flushed. */
FT_CHECKED ft_code ft_spool_read(const ft_spool *s, uint64_t from, size_t n, uint32_t *out, ft_status *st);

/* Two documents with one id; numbers in the segment, earlier < later. */
typedef ft_code ft_spool_twice(void *context, uint64_t earlier, uint64_t later, const char *id, ft_status *st);

/* Makes TOKENS, DOCUMENTS, TEXTS and IDS. The number that tells the segment from others
 * follows from its content. `memory_bytes` is for sorting ids. Tells of ids that stand
 * twice (`twice` may be NULL). The spool's own files stay, so that a process that is
 * killed later on can be gone on with from the last mark. */
FT_CHECKED ft_code ft_spool_commit(ft_spool *s, uint64_t memory_bytes, ft_spool_twice *twice, void *context,
                                   uint64_t *segment, ft_status *st);
void ft_spool_remove(const char *folder); /* the spool's own files; those that are missing are none */
void ft_spool_close(ft_spool *s);         /* keeps the files; zeroed and committed spools are allowed */
#endif
