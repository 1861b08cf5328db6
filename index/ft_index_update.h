/* ft_index_update: takedown and compaction of an index that is in use. Readers that have
 * it open go on with what they opened; who opens it afterwards sees the new state.
 *
 * Adding is ft_index_add (ft_index_build.h). */
#ifndef FT_INDEX_UPDATE_H
#define FT_INDEX_UPDATE_H
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "index/ft_index.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

/* --- Takedown ---------------------------------------------------------------------------
 * From commit on no query of a newly opened index sees the documents: counts, ranks and
 * numbers are as if they had never been there. Their tokens stay in the files until the
 * index is compacted. */

typedef struct ft_index_removal ft_index_removal;

/* Locks the index: FT_ERR_ARG when another program is changing it. threads 0: all. */
FT_CHECKED ft_code ft_index_removal_begin(ft_index_removal **out, const char *folder, unsigned threads, ft_status *st);
/* The state that is being changed, to find the documents in. Lives as long as the removal. */
const ft_index *ft_index_removal_index(const ft_index_removal *r);
/* `doc` is of that index. The same document twice counts once. */
FT_CHECKED ft_code ft_index_removal_add(ft_index_removal *r, const ft_doc_ref *doc, ft_status *st);

typedef struct ft_index_removal_report {
    uint64_t documents, tokens; /* removed by this call */
} ft_index_removal_report;
/* Nothing to remove is success, and changes nothing. */
FT_CHECKED ft_code ft_index_removal_commit(ft_index_removal *r, ft_index_removal_report *report, ft_status *st);
void ft_index_removal_end(ft_index_removal *r); /* NULL is allowed; what was not committed has no effect */

/* --- Compaction -------------------------------------------------------------------------- */

typedef struct ft_index_compact_options {
    uint64_t memory_bytes; /* 0: 2 GiB */
    unsigned threads;      /* 0: all */
    ft_progress progress;
} ft_index_compact_options;

typedef struct ft_index_compact_report {
    unsigned segments_before, segments_after;
    uint64_t removed_documents, removed_tokens; /* that are in no file any more */
    uint64_t disk_bytes;
} ft_index_compact_report;

/* All segments become one, without what was removed: their suffix arrays are merged, not
 * sorted again, in time O(tokens). Afterwards the old files are gone from the folder.
 * Nothing happens where there is one segment, of which nothing was removed. Needs as much
 * disk again as the index meanwhile. Stopped or killed, it leaves the old index. */
FT_CHECKED ft_code ft_index_compact(const char *folder, const ft_index_compact_options *options,
                                    ft_index_compact_report *report, ft_status *st);

/* --- What is left in the files ------------------------------------------------------------ */

/* Calls `visit` for each document with the id that was removed and not compacted away yet; *found says how many. Its
 * tokens can be read as those of others (ft_index_document_tokens); its number means nothing. None is no failure. */
FT_CHECKED ft_code ft_index_removed_by_id(const ft_index *ix, const char *id, ft_document_visit *visit, void *context,
                                          uint64_t *found, ft_status *st);
/* Bytes of files of an index in the folder that its manifest does not name: a killed or failing change leaves them, the
 * next one removes them. Without what a change that is at work has not named yet. */
FT_CHECKED ft_code ft_index_unnamed_bytes(const char *folder, uint64_t *bytes, ft_status *st);

FT_API_END
#endif
