/* Which files a corpus has, and their bytes: folders, .tar, .gz and .zst (libarchive). */
#include "base/ft_file.h"
#include "text/corpus_internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { DEEPEST_FOLDER = 64, BLOCK = 1 << 18 };

/* --- Folders ---------------------------------------------------------------------- */

static ft_code add_file(ft_file_list *list, const char *path, const char *id, uint64_t bytes, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&list->files, &list->capacity, list->count + 1, sizeof(*list->files), st);
    if (rc)
        return rc;
    struct ft_file_entry *f = &list->files[list->count];
    *f = (struct ft_file_entry){.path = strdup(path), .id = strdup(id), .bytes = bytes};
    if (!f->path || !f->id) {
        free(f->path);
        free(f->id);
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    }
    list->count++;
    return FT_OK;
}

static int visible(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static int in_byte_order(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static ft_code add_folder(ft_file_list *list, const char *path, const char *id, unsigned depth, ft_status *st);

static ft_code add_child(ft_file_list *list, const char *folder, const char *id, const char *name, unsigned depth,
                         ft_status *st)
{
    char *path = ft_path_join(folder, name), *child = *id ? ft_path_join(id, name) : strdup(name);
    ft_code rc = path && child ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    struct stat info;
    if (!rc && lstat(path, &info) != 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
    else if (!rc && S_ISDIR(info.st_mode))
        rc = add_folder(list, path, child, depth + 1, st);
    else if (!rc && S_ISREG(info.st_mode))
        rc = add_file(list, path, child, (uint64_t)info.st_size, st);
    free(path);
    free(child);
    return rc;
}

static ft_code add_folder(ft_file_list *list, const char *path, const char *id, unsigned depth, ft_status *st)
{
    if (depth > DEEPEST_FOLDER)
        return ft_fail(st, FT_ERR_LIMIT, "%s: more than %d folders deep", path, DEEPEST_FOLDER);
    struct dirent **names;
    const int n = scandir(path, &names, visible, in_byte_order);
    if (n < 0)
        return ft_fail(st, FT_ERR_IO, "%s: cannot list: %s", path, strerror(errno));
    ft_code rc = FT_OK;
    for (int i = 0; i < n; i++) {
        if (!rc)
            rc = add_child(list, path, id, names[i]->d_name, depth, st);
        free(names[i]);
    }
    free(names);
    return rc;
}

ft_code ft_file_list_add(ft_file_list *list, const char *operand, ft_status *st)
{
    struct stat info;
    if (stat(operand, &info) != 0)
        return ft_fail(st, errno == ENOENT ? FT_ERR_NOT_FOUND : FT_ERR_IO, "%s: cannot open: %s", operand,
                       strerror(errno));
    if (S_ISDIR(info.st_mode))
        return add_folder(list, operand, "", 0, st);
    const char *slash = strrchr(operand, '/');
    return add_file(list, operand, slash && slash[1] ? slash + 1 : operand, (uint64_t)info.st_size, st);
}

void ft_file_list_release(ft_file_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->files[i].path);
        free(list->files[i].id);
    }
    free(list->files);
    *list = (ft_file_list){0};
}

/* --- Members ------------------------------------------------------------------------ */

struct ft_members {
    const struct ft_file_entry *file;
    struct archive *outer; /* the file: decompressed, or a tar */
    struct archive *inner; /* a compressed member of a tar; NULL otherwise */
    int is_tar;
    int done;  /* a plain file's only member was given */
    int empty; /* the member has no bytes: libarchive says "end" for it */
    ft_buffer name, source, id;
    char *block; /* [BLOCK] of a compressed member, on its way into `inner` */
};

static int ends_with(const char *name, const char *suffix)
{
    const size_t n = strlen(name), m = strlen(suffix);
    return n > m && strcasecmp(name + n - m, suffix) == 0;
}

/* Bytes of `name` less .gz or .zst. */
static size_t without_compression(const char *name)
{
    const size_t n = strlen(name);
    return ends_with(name, ".gz") ? n - 3 : ends_with(name, ".zst") ? n - 4 : n;
}

static int is_tar_name(const char *name)
{
    return ends_with(name, ".tar") || ends_with(name, ".tar.gz") || ends_with(name, ".tgz") ||
           ends_with(name, ".tar.zst") || ends_with(name, ".tzst");
}

/* A reader of tar, or of bytes that are no archive, compressed or not. */
static struct archive *new_reader(int is_tar)
{
    struct archive *a = archive_read_new();
    if (!a)
        return NULL;
    int rc = archive_read_support_filter_gzip(a);
    if (rc == ARCHIVE_OK)
        rc = archive_read_support_filter_zstd(a);
    if (rc == ARCHIVE_OK)
        rc = is_tar ? archive_read_support_format_tar(a) : archive_read_support_format_raw(a);
    if (rc == ARCHIVE_OK)
        rc = archive_read_support_format_empty(a);
    if (rc == ARCHIVE_OK)
        return a;
    archive_read_free(a);
    return NULL;
}

static ft_code fail_archive(struct archive *a, const char *where, ft_status *st)
{
    const char *why = archive_error_string(a);
    return ft_fail(st, archive_errno(a) == ENOMEM ? FT_ERR_MEM : FT_ERR_FORMAT, "%s: cannot read: %s", where,
                   why ? why : "damaged file");
}

ft_code ft_members_open(ft_members **out, const struct ft_file_entry *file, ft_status *st)
{
    *out = NULL;
    ft_members *m = calloc(1, sizeof(*m));
    if (!m)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", file->path);
    m->file = file;
    m->is_tar = is_tar_name(file->path);
    m->outer = new_reader(m->is_tar);
    ft_code rc = m->outer ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: cannot start the reader", file->path);
    if (!rc && archive_read_open_filename(m->outer, file->path, BLOCK) != ARCHIVE_OK)
        rc = fail_archive(m->outer, file->path, st);
    if (rc)
        ft_members_close(m);
    else
        *out = m;
    return rc;
}

void ft_members_close(ft_members *m)
{
    if (!m)
        return;
    if (m->inner)
        archive_read_free(m->inner);
    if (m->outer)
        archive_read_free(m->outer);
    ft_buffer_release(&m->name);
    ft_buffer_release(&m->source);
    ft_buffer_release(&m->id);
    free(m->block);
    free(m);
}

static la_ssize_t feed_inner(struct archive *inner, void *context, const void **bytes)
{
    ft_members *m = context;
    *bytes = m->block;
    const la_ssize_t n = archive_read_data(m->outer, m->block, BLOCK);
    if (n < 0)
        archive_set_error(inner, EIO, "%s",
                          archive_error_string(m->outer) ? archive_error_string(m->outer) : "damaged archive");
    return n;
}

/* A member such as b.jsonl.gz of a tar is decompressed on the way. */
static ft_code open_inner(ft_members *m, ft_status *st)
{
    if (!m->block && !(m->block = malloc(BLOCK)))
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", m->source.data);
    m->inner = new_reader(0);
    if (!m->inner)
        return ft_fail(st, FT_ERR_MEM, "%s: cannot start the reader", m->source.data);
    struct archive_entry *entry;
    if (archive_read_open(m->inner, m, NULL, feed_inner, NULL) != ARCHIVE_OK)
        return fail_archive(m->inner, m->source.data, st);
    const int rc = archive_read_next_header(m->inner, &entry);
    m->empty = rc == ARCHIVE_EOF;
    if (rc != ARCHIVE_OK && rc != ARCHIVE_EOF && rc != ARCHIVE_WARN)
        return fail_archive(m->inner, m->source.data, st);
    return FT_OK;
}

static ft_code name_member(ft_members *m, const char *member, ft_status *st)
{
    ft_buffer_reset(&m->name);
    ft_buffer_reset(&m->source);
    ft_buffer_reset(&m->id);
    const char *named = member ? member : m->file->path;
    ft_code rc = ft_buffer_append(&m->name, named, without_compression(named), st);
    if (!rc)
        rc = ft_buffer_append_str(&m->source, m->file->path, st);
    if (!rc)
        rc = ft_buffer_append_str(&m->id, m->file->id, st);
    if (!rc && member)
        rc = ft_buffer_printf(&m->source, st, "/%s", member);
    if (!rc && member)
        rc = ft_buffer_printf(&m->id, st, "/%s", member);
    return rc;
}

static ft_code next_of_tar(ft_members *m, int *more, ft_status *st)
{
    struct archive_entry *entry;
    for (;;) {
        const int rc = archive_read_next_header(m->outer, &entry);
        if (rc == ARCHIVE_EOF)
            return FT_OK;
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
            return fail_archive(m->outer, m->file->path, st);
        const char *path = archive_entry_pathname(entry);
        if (archive_entry_filetype(entry) != AE_IFREG || !path)
            continue;
        ft_code code = name_member(m, path, st);
        if (!code && without_compression(path) != strlen(path))
            code = open_inner(m, st);
        *more = code == FT_OK;
        return code;
    }
}

ft_code ft_members_next(ft_members *m, const char **name, const char **source, const char **id, int *more,
                        ft_status *st)
{
    *more = 0;
    if (m->inner)
        archive_read_free(m->inner);
    m->inner = NULL;
    m->empty = 0;
    ft_code rc = FT_OK;
    if (m->is_tar) {
        rc = next_of_tar(m, more, st);
    } else if (!m->done) {
        struct archive_entry *entry;
        const int header = archive_read_next_header(m->outer, &entry);
        if (header != ARCHIVE_OK && header != ARCHIVE_WARN && header != ARCHIVE_EOF)
            return fail_archive(m->outer, m->file->path, st);
        m->done = 1;
        m->empty = header == ARCHIVE_EOF;
        rc = name_member(m, NULL, st);
        *more = rc == FT_OK;
    }
    *name = m->name.data;
    *source = m->source.data;
    *id = m->id.data;
    return rc;
}

ft_code ft_members_read(ft_members *m, char *bytes, size_t n, size_t *got, ft_status *st)
{
    struct archive *a = m->inner ? m->inner : m->outer;
    const la_ssize_t r = m->empty ? 0 : archive_read_data(a, bytes, n);
    *got = r > 0 ? (size_t)r : 0;
    return r < 0 ? fail_archive(a, m->source.data, st) : FT_OK;
}

uint64_t ft_members_consumed(const ft_members *m)
{
    const la_int64_t n = archive_filter_bytes(m->outer, -1);
    return n > 0 ? (uint64_t)n : 0;
}
