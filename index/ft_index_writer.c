#define _GNU_SOURCE
#include "base/ft_file.h"
#include "index/ft_index_build.h"
#include "index/ft_manifest.h"
#include "index/ft_part.h"
#include "index/ft_segment_write.h"
#include "index/ft_suffix_sort.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct ft_index_writer {
    char *folder, *building; /* building is NULL until the folder exists and is locked */
    int lock;                /* -1: none */
    int replace;
    char *tokenizer;
    ft_pool *pool;
    const ft_progress *progress;
    uint64_t budget; /* for what is gathered, and its sorting */
    ft_gather gather;
    ft_manifest manifest;
};

/* --- The folder ------------------------------------------------------------------ */

static int folder_is_empty(const char *path) /* or missing */
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT;
    const struct dirent *e;
    int entries = 0;
    while (!entries && (e = readdir(dir)))
        entries = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return !entries;
}

static ft_code check_target(const ft_index_writer *w, ft_status *st)
{
    struct stat info;
    if (lstat(w->folder, &info) != 0)
        return FT_OK;
    if (!S_ISDIR(info.st_mode))
        return ft_fail(st, FT_ERR_ARG, "%s: exists and is not a folder; name another one", w->folder);
    if (folder_is_empty(w->folder))
        return FT_OK;
    char *manifest = ft_path_join(w->folder, "manifest.json");
    const int is_index = manifest && ft_path_exists(manifest);
    free(manifest);
    if (w->replace && is_index)
        return FT_OK;
    return ft_fail(st, FT_ERR_ARG, "%s: exists and is not empty; %s", w->folder,
                   is_index ? "remove it, name another folder, or give --force to replace the index"
                            : "it is no index of ours, so name another folder");
}

/* Locks FOLDER.building, after removing what a killed writer left there. */
static ft_code make_building(ft_index_writer *w, ft_status *st)
{
    char *path;
    if (asprintf(&path, "%s.building", w->folder) < 0)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    ft_code rc = FT_OK;
    for (int attempt = 0; attempt < 2 && !rc; attempt++) {
        const int was_there = ft_path_exists(path);
        rc = ft_folder_make(path, st);
        if (rc)
            break;
        w->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (w->lock < 0 || flock(w->lock, LOCK_EX | LOCK_NB) != 0) {
            rc = ft_fail(st, FT_ERR_ARG, "%s: another program is building this index; wait for it or stop it", path);
            break;
        }
        if (!was_there)
            break;
        rc = ft_folder_remove(path, st);
        close(w->lock);
        w->lock = -1;
    }
    if (rc) {
        if (w->lock >= 0)
            close(w->lock);
        w->lock = -1;
        free(path);
        return rc;
    }
    w->building = path;
    return FT_OK;
}

/* --- Segments ---------------------------------------------------------------------- */

static ft_code list_files(ft_index_writer *w, const char *segment, ft_status *st)
{
    ft_code rc = FT_OK;
    for (ft_section_kind k = FT_SECTION_TOKENS; k < FT_SECTION_CORE_KINDS && !rc; k++) {
        char section[FT_SECTION_NAME_MAX], name[FT_NAME_MAX];
        ft_section_name(k, 0, section);
        const int n = snprintf(name, sizeof(name), "%.40s/%.20s", segment, section);
        assert(n > 0 && (size_t)n < sizeof(name));
        (void)n;
        rc = ft_manifest_add_file(&w->manifest, w->building, name, w->pool, st);
    }
    return rc;
}

static ft_code write_segment(ft_index_writer *w, ft_status *st)
{
    ft_manifest *m = &w->manifest;
    if (w->gather.document_count == 0)
        return FT_OK;
    if (m->segment_count == FT_INDEX_MAX_PARTS)
        return ft_fail(st, FT_ERR_LIMIT, "%s: more than %d segments; give more --memory, so that each holds more",
                       w->folder, FT_INDEX_MAX_PARTS);
    ft_code rc =
        ft_array_grow((void **)&m->segments, &m->segment_capacity, m->segment_count + 1, sizeof(*m->segments), st);
    if (rc)
        return rc;
    ft_manifest_segment *s = &m->segments[m->segment_count];
    *s = (ft_manifest_segment){0};
    snprintf(s->name, sizeof(s->name), "segment-%06zu", m->segment_count + 1);
    s->documents = w->gather.document_count;
    s->tokens = w->gather.count - w->gather.document_count;
    s->text_bytes = w->gather.text_bytes;
    char *folder = ft_path_join(w->building, s->name);
    rc = folder ? ft_folder_make(folder, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    if (!rc)
        rc = ft_segment_write(folder, &w->gather, m->vocab_size, w->pool, w->progress, st);
    free(folder);
    if (!rc)
        rc = list_files(w, s->name, st);
    if (!rc)
        m->segment_count++;
    ft_gather_reset(&w->gather);
    return rc;
}

ft_code ft_index_writer_add(ft_index_writer *w, const uint32_t *tokens, size_t n, const char *id, const char *metadata,
                            uint64_t text_bytes, ft_status *st)
{
    for (size_t i = 0; i < n; i++)
        if (tokens[i] >= w->manifest.vocab_size)
            return ft_fail(st, FT_ERR_ARG, "document '%s': token %zu is %u, the vocabulary ends at %u", id, i,
                           tokens[i], w->manifest.vocab_size);
    metadata = metadata ? metadata : "{}";
    const uint64_t texts = strlen(id) + strlen(metadata) + 2;
    const uint64_t needed = ft_gather_peak_bytes(&(ft_gather){0}, n + 1, texts);
    if (needed > w->budget || n >= UINT32_MAX - 1)
        return ft_fail(st, FT_ERR_LIMIT,
                       "document '%s': its %zu tokens need %" PRIu64 " MiB more than --memory allows; give more", id, n,
                       (needed - w->budget) / (1 << 20) + 1);
    if (ft_gather_peak_bytes(&w->gather, n + 1, texts) > w->budget || w->gather.count + n + 1 >= UINT32_MAX) {
        ft_code rc = write_segment(w, st);
        if (rc)
            return rc;
    }
    return ft_gather_add(&w->gather, tokens, n, id, metadata, text_bytes, st);
}

/* --- Beginning and end ---------------------------------------------------------------- */

static ft_code copy_file(const char *from, const char *to, ft_status *st)
{
    ft_buffer bytes = {0};
    ft_code rc = ft_file_read(from, 0, &bytes, st);
    if (!rc)
        rc = ft_file_write(to, bytes.data ? bytes.data : "", bytes.size, st);
    ft_buffer_release(&bytes);
    return rc;
}

/* tokenizer.json and, where it stands beside, tokenizer_config.json. */
static ft_code copy_tokenizer(ft_index_writer *w, ft_status *st)
{
    if (!w->tokenizer)
        return FT_OK;
    const char *slash = strrchr(w->tokenizer, '/');
    char *to = ft_path_join(w->building, "tokenizer.json"), *config = NULL,
         *config_to = ft_path_join(w->building, "tokenizer_config.json");
    ft_code rc = FT_OK;
    if (!to || !config_to ||
        asprintf(&config, "%.*stokenizer_config.json", slash ? (int)(slash + 1 - w->tokenizer) : 0, w->tokenizer) < 0) {
        config = NULL;
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    }
    if (!rc)
        rc = copy_file(w->tokenizer, to, st);
    if (!rc)
        rc = ft_digest_of_file(&w->manifest.tokenizer, to, st);
    if (!rc)
        rc = ft_manifest_add_file(&w->manifest, w->building, "tokenizer.json", w->pool, st);
    if (!rc && ft_path_exists(config)) {
        rc = copy_file(config, config_to, st);
        if (!rc)
            rc = ft_manifest_add_file(&w->manifest, w->building, "tokenizer_config.json", w->pool, st);
    }
    w->manifest.has_tokenizer = 1;
    free(to);
    free(config);
    free(config_to);
    return rc;
}

static ft_code set_options(ft_index_writer *w, const char *folder, const ft_index_writer_options *o, ft_status *st)
{
    if (o->vocab_size < 1 || o->vocab_size > 0xFFFFFF)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: a vocabulary of %u tokens; 1 to %d can be indexed", folder,
                       o->vocab_size, 0xFFFFFF);
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    w->folder = strndup(folder, n);
    w->tokenizer = o->tokenizer ? strdup(o->tokenizer) : NULL;
    w->manifest.owner = strdup(o->owner ? o->owner : "");
    if (!w->folder || !w->manifest.owner || (o->tokenizer && !w->tokenizer))
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    w->manifest.generation = 1;
    w->manifest.vocab_size = o->vocab_size;
    w->manifest.end_of_text = o->end_of_text;
    w->manifest.token_bytes = o->vocab_size <= 0xFFFF ? 2 : 3;
    w->replace = o->replace;
    w->pool = o->pool;
    w->progress = o->progress;
    const uint64_t memory = o->memory_bytes ? o->memory_bytes : (uint64_t)2 << 30;
    const uint64_t fixed = (uint64_t)ft_pool_size(w->pool) *
                               (FT_SUFFIX_SORT_THREAD_BYTES + ((uint64_t)o->vocab_size + 2) * sizeof(size_t)) +
                           FT_SECTION_BLOCK;
    if (memory < fixed + (64 << 10))
        return ft_fail(st, FT_ERR_ARG,
                       "%s: --memory %" PRIu64 "M is too little; give at least %" PRIu64 "M for this number of threads",
                       folder, memory >> 20, (fixed >> 20) + 2);
    w->budget = memory - fixed;
    return FT_OK;
}

ft_code ft_index_writer_new(ft_index_writer **out, const char *folder, const ft_index_writer_options *options,
                            ft_status *st)
{
    *out = NULL;
    ft_index_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    w->lock = -1;
    ft_code rc = set_options(w, folder, options, st);
    if (!rc)
        rc = check_target(w, st);
    if (!rc)
        rc = make_building(w, st);
    if (rc) {
        ft_index_writer_abandon(w);
        return rc;
    }
    *out = w;
    return FT_OK;
}

/* The finished folder takes its place in one step, also where an index stands. */
static ft_code put_in_place(ft_index_writer *w, ft_status *st)
{
    ft_code rc = ft_folder_sync(w->building, st);
    if (rc)
        return rc;
    if (rename(w->building, w->folder) == 0)
        return FT_OK;
    if (w->replace && (errno == ENOTEMPTY || errno == EEXIST) &&
        renameat2(AT_FDCWD, w->building, AT_FDCWD, w->folder, RENAME_EXCHANGE) == 0)
        return ft_folder_remove(w->building, st); /* now the old one */
    return ft_fail(st, FT_ERR_IO, "%s: cannot rename the finished index into place: %s", w->folder, strerror(errno));
}

static ft_code finish(ft_index_writer *w, ft_index_build_report *report, ft_status *st)
{
    ft_code rc = write_segment(w, st);
    if (!rc)
        rc = copy_tokenizer(w, st);
    if (!rc)
        rc = ft_manifest_write(&w->manifest, w->building, st);
    if (!rc)
        rc = put_in_place(w, st);
    if (rc || !report)
        return rc;
    report->segments = (unsigned)w->manifest.segment_count;
    for (size_t i = 0; i < w->manifest.segment_count; i++) {
        report->documents += w->manifest.segments[i].documents;
        report->tokens += w->manifest.segments[i].tokens;
        report->text_bytes += w->manifest.segments[i].text_bytes;
    }
    report->disk_bytes = ft_manifest_segment_bytes(&w->manifest);
    return FT_OK;
}

ft_code ft_index_writer_finish(ft_index_writer *w, ft_index_build_report *report, ft_status *st)
{
    if (report)
        *report = (ft_index_build_report){0};
    ft_code rc = finish(w, report, st);
    if (!rc) {
        free(w->building);
        w->building = NULL;
    }
    ft_index_writer_abandon(w);
    return rc;
}

void ft_index_writer_abandon(ft_index_writer *w)
{
    if (!w)
        return;
    ft_status ignored;
    if (w->building && ft_folder_remove(w->building, &ignored) != FT_OK)
        assert(ignored.code != FT_OK); /* nothing more can be done; the next build tries again */
    if (w->lock >= 0)
        close(w->lock);
    free(w->folder);
    free(w->building);
    free(w->tokenizer);
    ft_gather_release(&w->gather);
    ft_manifest_release(&w->manifest);
    free(w);
}
