#define _GNU_SOURCE
#include "index/ft_index_change.h"

#include "base/ft_file.h"
#include "index/ft_index.h"
#include "index/ft_index_update.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- Leftovers -------------------------------------------------------------------------- */

/* 1 where the manifest names `name`, or a file in it. */
static int is_named(const ft_manifest *m, const char *name, int folder)
{
    const size_t n = strlen(name);
    for (size_t i = 0; i < m->file_count; i++)
        if (!strncmp(m->files[i].name, name, n) && m->files[i].name[n] == (folder ? '/' : '\0'))
            return 1;
    return 0;
}

/* Our own kind of names: nothing else in the folder is touched. */
static int is_ours(const char *name)
{
    static const char *const copies[] = {"tokenizer.json", "tokenizer_config.json"};
    if (!strncmp(name, "segment-", 8) && name[8] >= '0' && name[8] <= '9')
        return 1;
    for (size_t i = 0; i < sizeof(copies) / sizeof(*copies); i++)
        if (!strcmp(name, copies[i]))
            return 1;
    return strstr(name, ".json.tmp.") != NULL; /* ft_file_write's, before the rename */
}

/* A file or folder of ours that the manifest does not name. */
typedef void unnamed_fn(void *context, const char *path);

/* Calls `fn` for what the manifest does not name. `also` is a further name that counts, in the folder itself. */
static void each_unnamed(const char *folder, const ft_manifest *m, const char *within, const char *also, unnamed_fn *fn,
                         void *context)
{
    char *path = ft_path_join(folder, within);
    DIR *dir = path ? opendir(path) : NULL;
    const struct dirent *e;
    while (dir && (e = readdir(dir))) {
        char name[2 * FT_NAME_MAX + 2];
        if (strlen(e->d_name) >= FT_NAME_MAX || !strncmp(e->d_name, ".", 1))
            continue;
        snprintf(name, sizeof(name), "%.64s%s%.64s", within, *within ? "/" : "", e->d_name);
        if (!*within && is_named(m, name, 1)) {
            each_unnamed(folder, m, name, "", fn, context);
            continue;
        }
        if (is_named(m, name, 0) || (!*within && !is_ours(name) && strcmp(name, also) != 0))
            continue;
        char *whole = ft_path_join(folder, name);
        if (whole)
            fn(context, whole);
        free(whole);
    }
    if (dir)
        closedir(dir);
    free(path);
}

static void remove_one(void *context, const char *path)
{
    ft_status ignored; /* the next change tries again */
    (void)context;
    if (ft_folder_remove(path, &ignored) != FT_OK)
        assert(ignored.code != FT_OK);
}

static void remove_unnamed(const ft_index_change *c, const char *also)
{
    each_unnamed(c->folder, &c->manifest, "", also, remove_one, NULL);
}

/* Of a file, or of the files in a folder (ours have no folders in them). */
static void measure_one(void *context, const char *path)
{
    uint64_t *bytes = context;
    struct stat s;
    if (lstat(path, &s) != 0)
        return;
    if (!S_ISDIR(s.st_mode)) {
        *bytes += (uint64_t)s.st_size;
        return;
    }
    DIR *dir = opendir(path);
    const struct dirent *e;
    while (dir && (e = readdir(dir))) {
        char *file = e->d_name[0] == '.' ? NULL : ft_path_join(path, e->d_name);
        if (file && lstat(file, &s) == 0 && S_ISREG(s.st_mode))
            *bytes += (uint64_t)s.st_size;
        free(file);
    }
    if (dir)
        closedir(dir);
}

ft_code ft_index_unnamed_bytes(const char *folder, uint64_t *bytes, ft_status *st)
{
    ft_manifest m = {0};
    *bytes = 0;
    const ft_code rc = ft_manifest_read(&m, folder, st);
    if (!rc)
        each_unnamed(folder, &m, "", "", measure_one, bytes);
    ft_manifest_release(&m);
    return rc;
}

/* --- Beginning and end -------------------------------------------------------------------- */

static ft_code lock_folder(ft_index_change *c, ft_status *st)
{
    c->lock = open(c->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->lock < 0)
        return ft_fail(st, errno == ENOENT ? FT_ERR_NOT_FOUND : FT_ERR_IO, "%s: cannot open: %s", c->folder,
                       errno == ENOENT ? "no such folder" : strerror(errno));
    if (flock(c->lock, LOCK_EX | LOCK_NB) != 0)
        return ft_fail(st, FT_ERR_ARG, "%s: another program is changing this index; wait for it or stop it", c->folder);
    return FT_OK;
}

static ft_code begin(ft_index_change *out, const char *folder, ft_pool *pool, ft_status *st)
{
    *out = (ft_index_change){.lock = -1, .pool = pool};
    out->folder = strdup(folder);
    out->work = ft_path_join(folder, "work");
    ft_code rc = out->folder && out->work ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = lock_folder(out, st);
    if (rc)
        ft_index_change_end(out);
    return rc;
}

ft_code ft_index_change_begin_new(ft_index_change *out, const char *folder, ft_pool *pool, ft_status *st)
{
    ft_code rc = begin(out, folder, pool, st);
    if (rc)
        return rc;
    out->manifest.generation = 1;
    remove_unnamed(out, "manifest.json"); /* also of an index that another one had replaced */
    return FT_OK;
}

ft_code ft_index_change_begin(ft_index_change *out, const char *folder, ft_pool *pool, ft_status *st)
{
    ft_code rc = begin(out, folder, pool, st);
    if (rc)
        return rc;
    rc = ft_manifest_read(&out->manifest, folder, st);
    if (rc) {
        ft_index_change_end(out);
        return rc;
    }
    remove_unnamed(out, "");
    out->manifest.generation++;
    return FT_OK;
}

void ft_index_change_end(ft_index_change *c)
{
    ft_manifest_release(&c->manifest);
    if (c->folder && c->lock >= 0)
        close(c->lock);
    free(c->folder);
    free(c->work);
    *c = (ft_index_change){.lock = -1};
}

char *ft_index_change_segment_folder(const ft_index_change *c)
{
    return ft_path_join(c->work, "segment");
}

/* --- The manifest ----------------------------------------------------------------------------- */

ft_code ft_index_change_add_segment(ft_index_change *c, const ft_segment_report *report, ft_status *st)
{
    ft_manifest *m = &c->manifest;
    if (m->segment_count == FT_INDEX_MAX_PARTS)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %d segments are the most; 'flextrace index compact' makes one of them",
                       c->folder, FT_INDEX_MAX_PARTS);
    ft_code rc =
        ft_array_grow((void **)&m->segments, &m->segment_capacity, m->segment_count + 1, sizeof(*m->segments), st);
    if (rc)
        return rc;
    ft_manifest_segment *s = &m->segments[m->segment_count];
    *s = (ft_manifest_segment){
        .documents = report->documents, .tokens = report->tokens, .text_bytes = report->text_bytes};
    snprintf(s->name, sizeof(s->name), "segment-%06" PRIu64, m->generation);
    char *from = ft_index_change_segment_folder(c), *to = ft_path_join(c->folder, s->name);
    if (!from || !to)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", c->folder);
    else if (rename(from, to) != 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: cannot rename to %s: %s", from, to, strerror(errno));
    for (ft_section_kind k = FT_SECTION_TOKENS; k < FT_SECTION_CORE_KINDS && !rc; k++) {
        char section[FT_SECTION_NAME_MAX], name[FT_NAME_MAX];
        ft_section_name(k, 0, section);
        snprintf(name, sizeof(name), "%.40s/%.20s", s->name, section);
        rc = ft_manifest_add_file(m, c->folder, name, c->pool, st);
    }
    free(from);
    free(to);
    if (!rc)
        m->segment_count++;
    return rc;
}

void ft_index_change_drop_file(ft_index_change *c, const char *name)
{
    ft_manifest *m = &c->manifest;
    size_t kept = 0;
    for (size_t i = 0; i < m->file_count; i++)
        if (strcmp(m->files[i].name, name) != 0)
            m->files[kept++] = m->files[i];
    m->file_count = kept;
}

void ft_index_change_drop_segment(ft_index_change *c, size_t segment)
{
    ft_manifest *m = &c->manifest;
    const size_t n = strlen(m->segments[segment].name);
    size_t kept = 0;
    for (size_t i = 0; i < m->file_count; i++)
        if (strncmp(m->files[i].name, m->segments[segment].name, n) != 0 || m->files[i].name[n] != '/')
            m->files[kept++] = m->files[i];
    m->file_count = kept;
    memmove(&m->segments[segment], &m->segments[segment + 1], (--m->segment_count - segment) * sizeof(*m->segments));
}

static ft_code copy_file(const char *from, const char *to, ft_status *st)
{
    ft_buffer bytes = {0};
    ft_code rc = ft_file_read(from, 0, &bytes, st);
    if (!rc)
        rc = ft_file_write(to, bytes.data ? bytes.data : "", bytes.size, st);
    ft_buffer_release(&bytes);
    return rc;
}

static ft_code copy_in(ft_index_change *c, const char *from, const char *name, ft_status *st)
{
    char *to = ft_path_join(c->folder, name);
    ft_code rc = to ? copy_file(from, to, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", c->folder);
    if (!rc)
        rc = ft_manifest_add_file(&c->manifest, c->folder, name, c->pool, st);
    free(to);
    return rc;
}

ft_code ft_index_change_set_tokenizer(ft_index_change *c, const char *path, ft_status *st)
{
    const char *slash = strrchr(path, '/');
    char *config = NULL;
    ft_code rc = ft_digest_of_file(&c->manifest.tokenizer, path, st);
    if (!rc)
        rc = copy_in(c, path, "tokenizer.json", st);
    if (!rc && asprintf(&config, "%.*stokenizer_config.json", slash ? (int)(slash + 1 - path) : 0, path) < 0) {
        config = NULL;
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", c->folder);
    }
    if (!rc && ft_path_exists(config))
        rc = copy_in(c, config, "tokenizer_config.json", st);
    c->manifest.has_tokenizer = 1;
    free(config);
    return rc;
}

ft_code ft_index_change_commit(ft_index_change *c, ft_status *st)
{
    ft_code rc = ft_folder_sync(c->folder, st);
    if (!rc)
        rc = ft_manifest_write(&c->manifest, c->folder, st);
    if (!rc)
        remove_unnamed(c, "work");
    return rc;
}
