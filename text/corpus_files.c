#include "text/corpus_files.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 200 };

typedef struct walk {
    ft_corpus_files *files;
    const ft_corpus_options *options;
    uint64_t *bad;
    size_t label;
    ft_status *st;
} walk;

typedef struct names {
    char **list;
    size_t count, capacity;
} names;

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_release(names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->list[i]);
    free(n->list);
}

static ft_code read_names(names *n, DIR *d, const char *path, ft_status *st)
{
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e)
            return errno ? ft_fail(st, FT_ERR_IO, "%s: cannot list: %s", path, strerror(errno)) : FT_OK;
        if (e->d_name[0] == '.')
            continue;
        const ft_code rc = ft_array_grow((void **)&n->list, &n->capacity, n->count + 1, sizeof(*n->list), st);
        if (rc)
            return rc;
        n->list[n->count] = strdup(e->d_name);
        if (!n->list[n->count])
            return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
        n->count++;
    }
}

static ft_code add_file(ft_corpus_files *f, char **path, size_t label, uint64_t bytes, ft_status *st)
{
    const ft_code rc = ft_array_grow((void **)&f->list, &f->capacity, f->count + 1, sizeof(*f->list), st);
    if (rc)
        return rc;
    f->list[f->count++] = (ft_corpus_file){.path = *path, .label = label, .bytes = bytes};
    f->bytes += bytes;
    *path = NULL;
    return FT_OK;
}

/* A folder that cannot be read, or what is too deep: passed over where that is wanted. */
static ft_code settle(walk *w, ft_code rc, const ft_status *why)
{
    if (!rc)
        return FT_OK;
    if (rc == FT_ERR_MEM || !w->options->skip_bad)
        return ft_fail(w->st, rc, "%s", why->msg);
    ++*w->bad;
    if (w->options->warn)
        w->options->warn(w->options->warn_context, why->msg);
    return FT_OK;
}

static ft_code walk_folder(walk *w, const char *path, unsigned depth);

static ft_code walk_entry(walk *w, const char *folder, const char *name, unsigned depth)
{
    char *path = ft_path_join(folder, name);
    if (!path)
        return ft_fail(w->st, FT_ERR_MEM, "%s: out of memory", folder);
    struct stat info;
    ft_status why = {0};
    ft_code rc = FT_OK;
    if (lstat(path, &info) != 0)
        rc = settle(w, ft_fail(&why, FT_ERR_IO, "%s: cannot stat: %s", path, strerror(errno)), &why);
    else if (S_ISDIR(info.st_mode))
        rc = walk_folder(w, path, depth + 1);
    else if (S_ISREG(info.st_mode))
        rc = add_file(w->files, &path, w->label, (uint64_t)info.st_size, w->st);
    free(path);
    return rc;
}

static ft_code walk_folder(walk *w, const char *path, unsigned depth)
{
    ft_status why = {0};
    if (depth > MAX_DEPTH)
        return settle(w, ft_fail(&why, FT_ERR_IO, "%s: more than %d folders deep", path, MAX_DEPTH), &why);
    DIR *d = opendir(path);
    if (!d)
        return settle(w, ft_fail(&why, FT_ERR_IO, "%s: cannot open the folder: %s", path, strerror(errno)), &why);
    names n = {0};
    ft_code rc = settle(w, read_names(&n, d, path, &why), &why);
    closedir(d); /* before the descent, so that depth costs no descriptors */
    if (n.count)
        qsort(n.list, n.count, sizeof(*n.list), compare_names);
    for (size_t i = 0; i < n.count && !rc; i++)
        rc = walk_entry(w, path, n.list[i], depth);
    names_release(&n);
    return rc;
}

/* Where the last component of a path begins. */
static size_t last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash + 1 - path) : 0;
}

ft_code ft_corpus_files_add(ft_corpus_files *f, const char *operand, const ft_corpus_options *options, uint64_t *bad,
                            ft_status *st)
{
    struct stat info;
    if (stat(operand, &info) != 0)
        return ft_fail(st, errno == ENOENT || errno == ENOTDIR ? FT_ERR_NOT_FOUND : FT_ERR_IO,
                       "%s: cannot open the corpus: %s", operand, strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        const size_t n = strlen(operand);
        walk w = {f, options, bad, n && operand[n - 1] == '/' ? n : n + 1, st};
        return walk_folder(&w, operand, 0);
    }
    char *path = strdup(operand);
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", operand);
    const uint64_t bytes = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
    const ft_code rc = add_file(f, &path, last_component(path), bytes, st);
    free(path);
    return rc;
}

void ft_corpus_files_release(ft_corpus_files *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->list[i].path);
    free(f->list);
    *f = (ft_corpus_files){0};
}
