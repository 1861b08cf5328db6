/* ft_file: mapped files, whole small files, and files that appear whole or not
 * at all.
 *
 * Errors  every message names the path and the system's reason: FT_ERR_NOT_FOUND
 *         where nothing has that name, FT_ERR_FORMAT where it names another kind of
 *         thing (a folder for a file), FT_ERR_MEM, else FT_ERR_IO. */
#ifndef FT_FILE_H
#define FT_FILE_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

FT_API_BEGIN

/* A read-only mapping of a whole file. A zeroed struct is "not mapped". An empty
 * file maps to data NULL, bytes 0. The file must not shrink while it is mapped:
 * what writes our files never truncates, it replaces by rename. */
typedef struct ft_map {
    const unsigned char *data;
    uint64_t bytes;
} ft_map;

FT_CHECKED ft_code ft_map_open(ft_map *out, const char *path, ft_status *st);
void ft_map_close(ft_map *m); /* zeroed maps and NULL are allowed */

/* The whole pages inside data[0 .. bytes-1]: their bytes, *first where they begin. */
size_t ft_map_pages(const void *data, size_t bytes, const void **first);
/* How the whole pages inside a stretch of a mapping will be read: as the system guesses,
 * without readahead, or soon (the system begins to read them). A hint: it cannot fail.
 * Stretches of different advice are different mappings to the system. */
typedef enum ft_map_advice { FT_MAP_NORMAL, FT_MAP_RANDOM, FT_MAP_WILL_NEED } ft_map_advice;
void ft_map_advise(const void *data, size_t bytes, ft_map_advice advice);

/* Appends the file's bytes to `out`; FT_ERR_LIMIT when it is larger than
 * max_bytes (0: no limit), FT_ERR_NOT_FOUND when it does not exist, FT_ERR_FORMAT for a named pipe. */
FT_CHECKED ft_code ft_file_read(const char *path, size_t max_bytes, ft_buffer *out, ft_status *st);

/* Writes through a temporary name beside `path`, syncs, renames, syncs the
 * folder: a crash at any instant leaves the old file or the new one. */
FT_CHECKED ft_code ft_file_write(const char *path, const void *bytes, size_t n, ft_status *st);

/* The same, for files written piece by piece. A device or a pipe is written as it
 * stands; a link is followed. A zeroed writer is closed. */
typedef struct ft_file_writer {
    FILE *stream;
    char *path, *temporary;
    uint64_t written; /* bytes so far */
} ft_file_writer;

FT_CHECKED ft_code ft_file_writer_open(ft_file_writer *w, const char *path, ft_status *st);
FT_CHECKED ft_code ft_file_writer_put(ft_file_writer *w, const void *bytes, size_t n, ft_status *st);
/* Flush, sync, rename. Closes the writer, also on failure (then nothing appears at `path`). */
FT_CHECKED ft_code ft_file_writer_commit(ft_file_writer *w, ft_status *st);
void ft_file_writer_abandon(ft_file_writer *w); /* removes the temporary file; closed writers are allowed */

/* Makes the folder, and its parents, where missing. */
FT_CHECKED ft_code ft_folder_make(const char *path, ft_status *st);
/* Makes it, and takes it for this process until *fd is closed; `work` says in the error what another process is doing
 * there. *fd: -1 on failure. */
FT_CHECKED ft_code ft_folder_lock(const char *path, const char *work, int *fd, ft_status *st);
/* Removes a folder with all in it; a missing one is success. Does not follow links. */
FT_CHECKED ft_code ft_folder_remove(const char *path, ft_status *st);
/* fsync on a folder, so that a rename in it survives a power cut. */
FT_CHECKED ft_code ft_folder_sync(const char *path, ft_status *st);

int ft_path_is_folder(const char *path); /* 1 or 0 */
int ft_path_exists(const char *path);
int ft_path_same(const char *a, const char *b); /* 1 where both are there and are one file or folder */
/* "folder/name" in memory that the caller frees; NULL when memory is out. An
 * absolute `name` is returned as it stands. */
char *ft_path_join(const char *folder, const char *name);

FT_API_END
#endif
