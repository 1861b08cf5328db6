/* ft_index_build: from a corpus to an index folder that is there whole or not at all, or
 * to one more segment of an index that is there.
 *
 * Documents are tokenized by all threads and handed to a segment writer, which sorts
 * them in runs within the memory given and merges these in one pass. The manifest is
 * written last, by rename: whoever opens the index meanwhile sees the old one, or none.
 *
 * Restart   A build that was killed, or stopped, leaves "FOLDER.building" (an addition
 *           "FOLDER/work"). The same call again goes on behind the last run that was
 *           sorted, or behind reading where that had ended, when its inputs are the same
 *           (ft_input_fingerprint); else it begins anew.
 * Threads   one builder has one owner; it uses its own pool. */
#ifndef FT_INDEX_BUILD_H
#define FT_INDEX_BUILD_H
#include "base/ft_progress.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

struct ft_pool;

typedef struct ft_index_build_options {
    const char *tokenizer;       /* tokenizer.json or its folder; copied into a new index. NULL: an addition takes
                                    the index's own; a new index of arrays may do without */
    uint32_t vocab_size;         /* without a tokenizer: every id is below; 0: found by reading the arrays first */
    uint32_t end_of_text;        /* without a tokenizer: what answers call the end of a document; FT_NO_TOKEN: none */
    const char *doc_offsets;     /* of arrays: the .npy with the documents' starts; NULL: doc_offsets.npy beside it */
    const char *documents;       /* of arrays: JSON lines with each document's id and metadata; NULL: ids are numbers,
                                    which are never taken for those of documents that are there */
    int infinigram_version;      /* of infini-gram folders; 0: 4 */
    const char *owner;           /* "" or NULL: none */
    uint64_t memory_bytes;       /* 0: 2 GiB */
    unsigned threads;            /* 0: all */
    int skip_bad;                /* see ft_corpus_options */
    uint64_t max_document_bytes; /* see ft_corpus_options */
    int replace;                 /* an index that stands at `folder` is replaced at the end, at once */
    int replace_documents;       /* a document takes the place of an earlier one with its id */
    ft_progress progress;
    void (*warn)(void *context, const char *message); /* from any thread, one at a time */
    void *warn_context;
} ft_index_build_options;

typedef struct ft_index_build_report {
    uint64_t documents, tokens, text_bytes; /* of what was added */
    uint64_t bad_documents;
    uint64_t repeated_ids;       /* documents whose id was there before */
    uint64_t replaced_documents; /* earlier ones that they took the place of */
    uint64_t resumed_documents;  /* read by an earlier call */
    uint64_t disk_bytes;         /* of the whole index */
    unsigned segments;           /* of the whole index */
    unsigned runs;               /* that were sorted by themselves and merged from the disk */
} ft_index_build_report;

/* Builds `folder` anew. `corpus` names files and folders as ft_corpus reads them, or
 * token arrays (*.npy), or infini-gram folders; not both kinds of input at once.
 * FT_ERR_ARG when the folder exists and is not empty (the remedy is in the message). */
FT_CHECKED ft_code ft_index_build(const char *folder, const char *const *corpus, size_t corpus_count,
                                  const ft_index_build_options *options, ft_index_build_report *report, ft_status *st);
/* Adds a segment to the index at `folder`, in time that follows what is added. The owner
 * is the index's. FT_ERR_FORMAT: options->tokenizer is another than the index's. */
FT_CHECKED ft_code ft_index_add(const char *folder, const char *const *corpus, size_t corpus_count,
                                const ft_index_build_options *options, ft_index_build_report *report, ft_status *st);

/* --- From tokens in memory --------------------------------------------------- */

/* What ft_index_build writes through; of use where the tokens are there already. */
typedef struct ft_index_writer ft_index_writer;

typedef struct ft_index_writer_options {
    int add;               /* one more segment of the index at `folder`; the next four are its own then */
    uint32_t vocab_size;   /* every id is below; 1 to 2^24 - 1; an addition may leave it 0 */
    uint32_t end_of_text;  /* FT_NO_TOKEN: unknown */
    const char *tokenizer; /* a tokenizer.json to copy, with the tokenizer_config.json beside it; NULL: none */
    const char *owner;     /* "" or NULL: none */
    uint64_t memory_bytes; /* of the writer alone; 0: 2 GiB */
    struct ft_pool *pool;  /* the caller's, used inside the calls below; NULL: one thread */
    int replace;           /* an index that stands at `folder` is replaced at the end, at once */
    int replace_documents; /* see ft_index_build_options */
    int numbered;          /* ids are numbers that nobody chose: those of an index that is added to are others */
    uint64_t fingerprint;  /* of the input: a killed writer's work is gone on with where it is the same; 0: never */
    const ft_progress *progress; /* NULL: none */
    /* Told of each document whose id was there before; may be NULL. A failure ends the work. */
    ft_code (*repeated)(void *context, const char *id, ft_status *st);
    void *context;
} ft_index_writer_options;

/* The least memory_bytes for this many threads. */
uint64_t ft_index_writer_least(unsigned threads, uint32_t vocab_size);
/* Locks the index, or "FOLDER.building": a second writer gets FT_ERR_ARG. FT_ERR_ARG also
 * when `folder` is not empty and is not to be replaced. `options` and what it points to
 * must outlive the writer. */
FT_CHECKED ft_code ft_index_writer_new(ft_index_writer **out, const char *folder,
                                       const ft_index_writer_options *options, ft_status *st);
/* How many documents a killed writer had read: the caller passes over as many. *complete:
 * all of them; then only finish remains. */
uint64_t ft_index_writer_resumed(const ft_index_writer *w, int *complete);
uint64_t ft_index_writer_documents(const ft_index_writer *w); /* so far, those too */
/* One document; end-of-document tokens are the writer's business. `id` and `metadata`
 * (a JSON object; NULL: "{}") are copied. FT_ERR_ARG for an id of the vocabulary's
 * size or above; FT_ERR_LIMIT for a document that memory_bytes cannot hold. */
FT_CHECKED ft_code ft_index_writer_add(ft_index_writer *w, const uint32_t *tokens, size_t n, const char *id,
                                       const char *metadata, uint64_t text_bytes, ft_status *st);
/* Writes the segment and the manifest and puts them into place. Frees the writer, also on
 * failure: then as ft_index_writer_fail. `report` may be NULL. */
FT_CHECKED ft_code ft_index_writer_finish(ft_index_writer *w, ft_index_build_report *report, ft_status *st);

/* Three ways to end before that; NULL is allowed in each. */
void ft_index_writer_suspend(ft_index_writer *w); /* keeps what was written, for a later process */
void ft_index_writer_abandon(ft_index_writer *w); /* nothing of it remains */
/* Keeps it when there is something that a later process can go on with, else abandons. */
void ft_index_writer_fail(ft_index_writer *w);

FT_API_END
#endif
