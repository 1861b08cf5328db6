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

typedef struct ft_index_build_options {
    const char *tokenizer;       /* tokenizer.json or its folder; copied into the index */
    const char *owner;           /* "" or NULL: none */
    uint64_t memory_bytes;       /* 0: 2 GiB */
    unsigned threads;            /* 0: all */
    int skip_bad;                /* see ft_corpus_options */
    uint64_t max_document_bytes; /* see ft_corpus_options */
    ft_progress progress;
    void (*warn)(void *context, const char *message);
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

/* Suffix array of tokens[0..n): `order` receives the n positions. A suffix ends
 * at its document's end-of-document token (value `end`), which sorts before
 * every other token; equal suffixes stand by position. Worst case O(n log^2 n),
 * whatever the text repeats. `pool` may be NULL. n < 2^32. */
struct ft_pool;
FT_CHECKED ft_code ft_suffix_sort(uint32_t *order, const uint32_t *tokens, size_t n, uint32_t end, struct ft_pool *pool,
                                  ft_status *st);

FT_API_END
#endif
