#include "index/ft_input_fingerprint.h"

#include "base/ft_buffer.h"
#include "text/corpus_files.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

/* What a build does with a folder that cannot be read is its own business. */
static const ft_corpus_options lenient = {.skip_bad = 1};

static ft_code add_file(XXH3_state_t *hash, const char *path, ft_status *st)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return ft_fail(st, errno == ENOENT ? FT_ERR_NOT_FOUND : FT_ERR_IO, "%s: cannot stat: %s", path,
                       strerror(errno));
    char *absolute = realpath(path, NULL);
    const char *name = absolute ? absolute : path;
    const uint64_t numbers[] = {strlen(name), (uint64_t)info.st_size, (uint64_t)info.st_mtim.tv_sec,
                                (uint64_t)info.st_mtim.tv_nsec};
    XXH3_64bits_update(hash, numbers, sizeof(numbers));
    XXH3_64bits_update(hash, name, strlen(name));
    free(absolute);
    return FT_OK;
}

ft_code ft_input_fingerprint(const char *const *paths, size_t count, uint64_t *out, ft_status *st)
{
    *out = 0;
    uint64_t unreadable = 0;
    ft_corpus_files files = {0};
    XXH3_state_t *hash = XXH3_createState();
    ft_code rc = hash && XXH3_64bits_reset(hash) == XXH_OK ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < count && !rc; i++)
        rc = ft_corpus_files_add(&files, paths[i], &lenient, &unreadable, st);
    for (size_t i = 0; i < files.count && !rc; i++)
        rc = add_file(hash, files.list[i].path, st);
    if (!rc)
        *out = XXH3_64bits_digest(hash);
    ft_corpus_files_release(&files);
    XXH3_freeState(hash);
    return rc;
}
