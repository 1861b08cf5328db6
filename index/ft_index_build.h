/* ft_index_build: from a corpus to an index folder that is there whole or not at
 * all. Documents are tokenized by all threads, gathered until the memory limit,
 * sorted and written as a segment; the manifest is written last, by rename.
 *
 * Threads  one builder has one owner; it uses its own pool. */
#ifndef FT_INDEX_BUILD_H
#define FT_INDEX_BUILD_H
#include "base/ft_progress.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

struct ft_pool;

typedef struct ft_index_build_options {
    const char *tokenizer;       /* tokenizer.json or its folder; copied into the index */
    const char *owner;           /* "" or NULL: none */
    uint64_t memory_bytes;       /* 0: 2 GiB */
    unsigned threads;            /* 0: all */
    int skip_bad;                /* see ft_corpus_options */
    uint64_t max_document_bytes; /* see ft_corpus_options */
    int replace;                 /* an index that stands at `folder` is replaced at the end, at once */
    ft_progress progress;
    void (*warn)(void *context, const char *message); /* from any thread, one at a time */
    void *warn_context;
} ft_index_build_options;

typedef struct ft_index_build_report {
    uint64_t documents, tokens, text_bytes, bad_documents, disk_bytes;
    unsigned segments;
} ft_index_build_report;

/* Builds `folder` anew. FT_ERR_ARG when it exists and is not empty (the remedy
 * is in the message); on any failure nothing of it remains. */
FT_CHECKED ft_code ft_index_build(const char *folder, const char *const *corpus, size_t corpus_count,
                                  const ft_index_build_options *options, ft_index_build_report *report, ft_status *st);

/* --- From tokens in memory --------------------------------------------------- */

/* What ft_index_build writes through; of use where the tokens are there already. */
typedef struct ft_index_writer ft_index_writer;

typedef struct ft_index_writer_options {
    uint32_t vocab_size;         /* every id is below; 1 to 2^24 - 1 */
    uint32_t end_of_text;        /* FT_NO_TOKEN: unknown */
    const char *tokenizer;       /* a tokenizer.json to copy, with the tokenizer_config.json beside it; NULL: none */
    const char *owner;           /* "" or NULL: none */
    uint64_t memory_bytes;       /* of the writer alone; 0: 2 GiB */
    struct ft_pool *pool;        /* the caller's, used inside the calls below; NULL: one thread */
    int replace;                 /* an index that stands at `folder` is replaced at the end, at once */
    const ft_progress *progress; /* NULL: none */
} ft_index_writer_options;

/* Writes to "FOLDER.building", locked: a second writer gets FT_ERR_ARG; what a killed
 * one left there is removed. FT_ERR_ARG also when `folder` is not empty and is not to
 * be replaced. */
FT_CHECKED ft_code ft_index_writer_new(ft_index_writer **out, const char *folder,
                                       const ft_index_writer_options *options, ft_status *st);
/* One document; end-of-document tokens are the writer's business. `id` and `metadata`
 * (a JSON object; NULL: "{}") are copied. FT_ERR_ARG for an id of the vocabulary's
 * size or above; FT_ERR_LIMIT for a document that memory_bytes cannot hold. A segment
 * is written whenever memory_bytes would be exceeded. */
FT_CHECKED ft_code ft_index_writer_add(ft_index_writer *w, const uint32_t *tokens, size_t n, const char *id,
                                       const char *metadata, uint64_t text_bytes, ft_status *st);
/* Writes the last segment and the manifest and puts the index into place. Frees the
 * writer, also on failure, and then nothing remains. `report` may be NULL. */
FT_CHECKED ft_code ft_index_writer_finish(ft_index_writer *w, ft_index_build_report *report, ft_status *st);
void ft_index_writer_abandon(ft_index_writer *w); /* nothing remains; NULL is allowed */

/* Suffix array of tokens[0..n): `order` receives the n positions. A suffix ends
 * at its document's end-of-document token (value `end`), which sorts before
 * every other token; equal suffixes stand by position. Worst case O(n log^2 n),
 * whatever the text repeats, and the same for any number of threads. The last token
 * must be `end`. `pool` may be NULL. n < 2^32 - 1. */
FT_CHECKED ft_code ft_suffix_sort(uint32_t *order, const uint32_t *tokens, size_t n, uint32_t end, struct ft_pool *pool,
                                  ft_status *st);

FT_API_END
#endif
