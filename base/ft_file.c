#define _GNU_SOURCE
#include "base/ft_file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the caller named wrongly is told from what the system refused. */
static ft_code code_of(int error)
{
    switch (error) {
    case ENOENT:
        return FT_ERR_NOT_FOUND;
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return FT_ERR_FORMAT;
    case ENOMEM:
        return FT_ERR_MEM;
    default:
        return FT_ERR_IO;
    }
}

static ft_code fail_errno(ft_status *st, const char *path, const char *doing)
{
    const int e = errno;
    return ft_fail(st, code_of(e), "%s: cannot %s: %s", path, doing, strerror(e));
}

ft_code ft_map_open(ft_map *out, const char *path, ft_status *st)
{
    *out = (ft_map){0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for its writer */
    if (fd < 0)
        return fail_errno(st, path, "open");
    ft_code rc = FT_OK;
    struct stat info;
    if (fstat(fd, &info) != 0) {
        rc = fail_errno(st, path, "stat");
    } else if (!S_ISREG(info.st_mode)) {
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: not a regular file", path);
    } else if (info.st_size > 0) {
        void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            rc = fail_errno(st, path, "map");
        else
            *out = (ft_map){.data = p, .bytes = (uint64_t)info.st_size};
    }
    close(fd);
    return rc;
}

void ft_map_close(ft_map *m)
{
    if (!m || !m->data)
        return;
    munmap((void *)(uintptr_t)m->data, (size_t)m->bytes);
    *m = (ft_map){0};
}

size_t ft_map_pages(const void *data, size_t bytes, const void **first)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data;
    const uintptr_t begin = (at + page - 1) / page * page, end = (at + bytes) / page * page;
    *first = (const void *)begin;
    return end > begin ? end - begin : 0;
}

void ft_map_advise(const void *data, size_t bytes, ft_map_advice advice)
{
    static const int advices[] = {
        [FT_MAP_NORMAL] = MADV_NORMAL, [FT_MAP_RANDOM] = MADV_RANDOM, [FT_MAP_WILL_NEED] = MADV_WILLNEED};
    const void *first;
    const size_t whole = ft_map_pages(data, bytes, &first);
    if (whole)
        (void)madvise((void *)(uintptr_t)first, whole, advices[advice]);
}

/* A pipe in a folder would be waited for until somebody writes to it; a shell's, /dev/fd/N, has a writer. */
static int is_named_pipe(const char *path)
{
    struct stat info;
    return strncmp(path, "/dev/", 5) != 0 && stat(path, &info) == 0 && S_ISFIFO(info.st_mode);
}

ft_code ft_file_read(const char *path, size_t max_bytes, ft_buffer *out, ft_status *st)
{
    if (is_named_pipe(path))
        return ft_fail(st, FT_ERR_FORMAT, "%s: a pipe, not a file", path);
    FILE *f = fopen(path, "rbe");
    if (!f)
        return fail_errno(st, path, "open");
    ft_code rc = FT_OK;
    const size_t before = out->size;
    for (;;) {
        rc = ft_buffer_reserve(out, 65536, st);
        if (rc)
            break;
        const size_t n = fread(out->data + out->size, 1, 65536, f);
        out->size += n;
        out->data[out->size] = '\0';
        if (max_bytes && out->size - before > max_bytes) {
            rc = ft_fail(st, FT_ERR_LIMIT, "%s: larger than the limit of %zu bytes", path, max_bytes);
            break;
        }
        if (n < 65536)
            break;
    }
    if (!rc && ferror(f))
        rc = fail_errno(st, path, "read");
    fclose(f);
    if (rc) {
        out->size = before;
        if (out->data)
            out->data[before] = '\0';
    }
    return rc;
}

/* The folder that holds `path`, in memory that the caller frees. */
static char *parent_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

ft_code ft_folder_sync(const char *path, ft_status *st)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(st, path, "open");
    /* Some file systems cannot sync a folder; they say EINVAL, and have no more to give. */
    const int bad = fsync(fd) != 0 && errno != EINVAL;
    ft_code rc = bad ? fail_errno(st, path, "sync") : FT_OK;
    close(fd);
    return rc;
}

/* A regular file, new or old: written beside its place under a temporary name. */
static ft_code open_beside(ft_file_writer *w, ft_status *st)
{
    char *temporary;
    if (asprintf(&temporary, "%s.tmp.%ld", w->path, (long)getpid()) < 0)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->path);
    w->stream = fopen(temporary, "wbe");
    if (!w->stream) {
        free(temporary);
        return fail_errno(st, w->path, "create");
    }
    w->temporary = temporary;
    return FT_OK;
}

ft_code ft_file_writer_open(ft_file_writer *w, const char *path, ft_status *st)
{
    *w = (ft_file_writer){0};
    struct stat info;
    const int there = stat(path, &info) == 0;
    if (there && S_ISDIR(info.st_mode))
        return ft_fail(st, FT_ERR_FORMAT, "%s: cannot write: it is a folder", path);
    /* A link stays one: what it names is replaced. */
    w->path = there && S_ISREG(info.st_mode) ? realpath(path, NULL) : strdup(path);
    if (!w->path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    ft_code rc = FT_OK;
    if (there && !S_ISREG(info.st_mode)) {
        /* A device or a pipe is written as it is: a rename would put a file in its place. */
        w->stream = fopen(path, "wbe");
        rc = w->stream ? FT_OK : fail_errno(st, path, "open");
    } else {
        rc = open_beside(w, st);
    }
    if (rc)
        ft_file_writer_abandon(w);
    return rc;
}

ft_code ft_file_writer_put(ft_file_writer *w, const void *bytes, size_t n, ft_status *st)
{
    if (n && fwrite(bytes, 1, n, w->stream) != n)
        return fail_errno(st, w->path, "write");
    w->written += n;
    return FT_OK;
}

ft_code ft_file_writer_commit(ft_file_writer *w, ft_status *st)
{
    ft_code rc = FT_OK;
    const int in_place = !w->temporary;
    if (fflush(w->stream) != 0 || (!in_place && fsync(fileno(w->stream)) != 0))
        rc = fail_errno(st, w->path, "write");
    if (fclose(w->stream) != 0 && !rc)
        rc = fail_errno(st, w->path, "write");
    w->stream = NULL;
    if (!rc && !in_place && rename(w->temporary, w->path) != 0)
        rc = fail_errno(st, w->path, "rename into place");
    if (!rc && !in_place) {
        free(w->temporary);
        w->temporary = NULL;
        char *folder = parent_folder(w->path);
        rc = folder ? ft_folder_sync(folder, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->path);
        free(folder);
    }
    ft_file_writer_abandon(w);
    return rc;
}

void ft_file_writer_abandon(ft_file_writer *w)
{
    if (w->stream)
        fclose(w->stream);
    if (w->temporary)
        unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    *w = (ft_file_writer){0};
}

ft_code ft_file_write(const char *path, const void *bytes, size_t n, ft_status *st)
{
    ft_file_writer w;
    ft_code rc = ft_file_writer_open(&w, path, st);
    if (rc)
        return rc;
    rc = ft_file_writer_put(&w, bytes, n, st);
    if (rc) {
        ft_file_writer_abandon(&w);
        return rc;
    }
    return ft_file_writer_commit(&w, st);
}

ft_code ft_folder_make(const char *path, ft_status *st)
{
    char *partial = strdup(path);
    if (!partial)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    ft_code rc = FT_OK;
    for (char *p = partial + 1; !rc; p++) {
        if (*p && *p != '/')
            continue;
        const char kept = *p;
        *p = '\0';
        if (mkdir(partial, 0777) != 0 && errno != EEXIST)
            rc = fail_errno(st, path, "make the folder");
        *p = kept;
        if (!kept)
            break;
    }
    if (!rc && !ft_path_is_folder(path))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: exists and is not a folder", path);
    free(partial);
    return rc;
}

ft_code ft_folder_lock(const char *path, const char *work, int *fd, ft_status *st)
{
    *fd = -1;
    ft_code rc = ft_folder_make(path, st);
    if (rc)
        return rc;
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd >= 0 && flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return FT_OK;
    rc = ft_fail(st, FT_ERR_IO,
                 *fd >= 0 && errno == EWOULDBLOCK ? "%s: another %s is at work there" : "%s: cannot lock it for %s",
                 path, work);
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return rc;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

ft_code ft_folder_remove(const char *path, ft_status *st)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return fail_errno(st, path, "remove");
    return FT_OK;
}

int ft_path_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

int ft_path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int ft_path_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

char *ft_path_join(const char *folder, const char *name)
{
    if (name[0] == '/')
        return strdup(name);
    const size_t n = strlen(folder);
    char *joined;
    if (asprintf(&joined, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name) < 0)
        return NULL;
    return joined;
}
