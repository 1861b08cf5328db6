/* ft_index_change: one change of an index folder, from its lock to its new manifest.
 * Whatever changes an index goes through here: a build, an addition, a takedown, a
 * compaction. Internal to index/.
 *
 *   begin       lock the folder; read the manifest; remove what a killed change left
 *   …           new files appear under names that no manifest has named yet
 *   commit      the new manifest takes the old one's place, by rename; then the files
 *               that only the old one named are removed
 *
 * A crash before the rename leaves the old index, one behind it the new one, each with
 * some files that nobody names: the next change removes them. An open reader keeps what
 * it has mapped. */
#ifndef FT_INDEX_CHANGE_H
#define FT_INDEX_CHANGE_H
#include "base/ft_status.h"
#include "base/ft_threads.h"
#include "index/ft_manifest.h"
#include "index/ft_segment_writer.h"

typedef struct ft_index_change {
    char *folder, *work;  /* work: FOLDER/work, for what is not named yet */
    int lock;             /* -1: none */
    ft_manifest manifest; /* of the new state */
    ft_pool *pool;        /* for digests; the caller's */
} ft_index_change;

/* Of an index that is there. FT_ERR_NOT_FOUND, FT_ERR_FORMAT: none, or damaged;
 * FT_ERR_ARG: another program is changing it. */
FT_CHECKED ft_code ft_index_change_begin(ft_index_change *out, const char *folder, ft_pool *pool, ft_status *st);
/* Of a folder that becomes one; it exists. What stands in its work folder is kept. */
FT_CHECKED ft_code ft_index_change_begin_new(ft_index_change *out, const char *folder, ft_pool *pool, ft_status *st);
/* Ends the change; what was not committed has no effect. Zeroed changes are allowed. */
void ft_index_change_end(ft_index_change *c);

/* FOLDER/work/segment, for a segment writer; the caller frees it. NULL: memory. */
char *ft_index_change_segment_folder(const ft_index_change *c);
/* A finished segment writer's folder becomes the last segment. */
FT_CHECKED ft_code ft_index_change_add_segment(ft_index_change *c, const ft_segment_report *report, ft_status *st);
/* Takes segment i, and its files, off the manifest. */
void ft_index_change_drop_segment(ft_index_change *c, size_t i);
/* Takes a file off the manifest. */
void ft_index_change_drop_file(ft_index_change *c, const char *name);
/* Copies tokenizer.json, and the tokenizer_config.json beside it, into the folder. */
FT_CHECKED ft_code ft_index_change_set_tokenizer(ft_index_change *c, const char *path, ft_status *st);

FT_CHECKED ft_code ft_index_change_commit(ft_index_change *c, ft_status *st);
#endif
