/* Documents, as tokens, to an index folder: a new one, or one more segment of one. */
#define _GNU_SOURCE
#include "base/ft_file.h"
#include "index/ft_index_build.h"
#include "index/ft_index_change.h"
#include "index/ft_index_remove.h"
#include "index/ft_part.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct ft_index_writer {
    char *folder;
    char *building;  /* a new index: "FOLDER.building"; NULL: a segment of FOLDER */
    int target_lock; /* of an index that is to be replaced; -1: none */
    ft_index_writer_options options;
    uint32_t vocab_size;
    ft_index_change change;
    ft_segment_writer *segment;
    ft_index *old; /* of an addition: to find ids that it holds */
    ft_removal_list removals;
    uint64_t repeated, resumed;
    int complete;
};

/* --- The folder of a new index -------------------------------------------------------------- */

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

/* An index that stands there stays, and is locked, until it is replaced. */
static ft_code check_target(ft_index_writer *w, ft_status *st)
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
    if (!w->options.replace || !is_index)
        return ft_fail(st, FT_ERR_ARG, "%s: exists and is not empty; %s", w->folder,
                       is_index ? "remove it, name another folder, or give --force to replace the index"
                                : "it is no index of ours, so name another folder");
    w->target_lock = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->target_lock < 0 || flock(w->target_lock, LOCK_EX | LOCK_NB) != 0)
        return ft_fail(st, FT_ERR_ARG, "%s: another program is changing this index; wait for it or stop it", w->folder);
    return FT_OK;
}

static ft_code begin_new(ft_index_writer *w, const ft_index_writer_options *o, ft_status *st)
{
    if (o->vocab_size < 1 || o->vocab_size > 0xFFFFFF)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: a vocabulary of %u tokens; 1 to %d can be indexed", w->folder,
                       o->vocab_size, 0xFFFFFF);
    ft_code rc = check_target(w, st);
    if (rc)
        return rc;
    if (asprintf(&w->building, "%s.building", w->folder) < 0) {
        w->building = NULL;
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    }
    rc = ft_folder_make(w->building, st);
    if (!rc)
        rc = ft_index_change_begin_new(&w->change, w->building, o->pool, st);
    if (rc == FT_ERR_ARG)
        rc = ft_fail(st, rc, "%s: another program is building this index; wait for it or stop it", w->building);
    if (rc)
        return rc;
    ft_manifest *m = &w->change.manifest;
    m->owner = strdup(o->owner ? o->owner : "");
    m->vocab_size = w->vocab_size = o->vocab_size;
    m->end_of_text = o->end_of_text;
    m->token_bytes = o->vocab_size <= 0xFFFF ? 2 : 3;
    return m->owner ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
}

static ft_code begin_addition(ft_index_writer *w, const ft_index_writer_options *o, ft_status *st)
{
    ft_code rc = ft_index_change_begin(&w->change, w->folder, o->pool, st);
    if (!rc)
        rc = ft_index_open(&w->old, w->folder, st);
    if (rc)
        return rc;
    w->vocab_size = w->change.manifest.vocab_size;
    if (o->vocab_size && o->vocab_size != w->vocab_size)
        return ft_fail(st, FT_ERR_FORMAT, "%s: its vocabulary has %u tokens, that of what is to be added %u", w->folder,
                       w->vocab_size, o->vocab_size);
    if (w->change.manifest.segment_count == FT_INDEX_MAX_PARTS)
        return ft_fail(st, FT_ERR_LIMIT, "%s: %d segments are the most; 'flextrace index compact' makes one of them",
                       w->folder, FT_INDEX_MAX_PARTS);
    return FT_OK;
}

/* What a vocabulary takes while its suffixes are counted. */
static uint64_t vocabulary_bytes(uint32_t vocab_size)
{
    return (uint64_t)vocab_size * 32;
}

uint64_t ft_index_writer_least(unsigned threads, uint32_t vocab_size)
{
    return ft_segment_writer_least(threads) + vocabulary_bytes(vocab_size);
}

static ft_code open_segment(ft_index_writer *w, ft_status *st)
{
    const ft_index_writer_options *o = &w->options;
    const uint64_t memory = o->memory_bytes ? o->memory_bytes : (uint64_t)2 << 30;
    const uint64_t least = ft_index_writer_least(ft_pool_size(o->pool), w->vocab_size);
    if (memory < least)
        return ft_fail(st, FT_ERR_ARG,
                       "%s: --memory %" PRIu64 "M is too little; give at least %" PRIu64 "M for this number of threads",
                       w->folder, memory >> 20, (least >> 20) + 1);
    const ft_segment_writer_options options = {.vocab_size = w->vocab_size,
                                               .memory_bytes = memory - vocabulary_bytes(w->vocab_size),
                                               .fingerprint = o->fingerprint,
                                               .pool = o->pool,
                                               .progress = o->progress};
    char *folder = ft_index_change_segment_folder(&w->change);
    ft_status ignored;
    if (folder && !o->fingerprint && ft_folder_remove(folder, &ignored) != FT_OK)
        assert(ignored.code != FT_OK); /* making it says why */
    ft_code rc = folder ? ft_folder_make(folder, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    uint64_t resumed = 0;
    if (!rc)
        rc = ft_segment_writer_open(&w->segment, folder, &options, &resumed, &w->complete, st);
    free(folder);
    w->resumed = resumed;
    return rc;
}

ft_code ft_index_writer_new(ft_index_writer **out, const char *folder, const ft_index_writer_options *options,
                            ft_status *st)
{
    *out = NULL;
    ft_index_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    w->target_lock = w->change.lock = -1;
    w->options = *options;
    w->folder = strndup(folder, n);
    ft_code rc = w->folder ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = options->add ? begin_addition(w, options, st) : begin_new(w, options, st);
    if (rc) {
        ft_index_writer_suspend(w); /* what stands there may be another writer's */
        return rc;
    }
    rc = open_segment(w, st);
    if (rc)
        ft_index_writer_fail(w);
    else
        *out = w;
    return rc;
}

uint64_t ft_index_writer_resumed(const ft_index_writer *w, int *complete)
{
    *complete = w->complete;
    return w->resumed;
}

uint64_t ft_index_writer_documents(const ft_index_writer *w)
{
    return ft_segment_writer_documents(w->segment);
}

/* --- Adding ------------------------------------------------------------------------------------ */

static ft_code tell_repeated(ft_index_writer *w, const char *id, ft_status *st)
{
    w->repeated++;
    return w->options.repeated ? w->options.repeated(w->options.context, id, st) : FT_OK;
}

static ft_code take_place(void *context, const ft_doc_ref *doc, ft_status *st)
{
    ft_index_writer *w = context;
    return w->options.replace_documents ? ft_removal_list_add(&w->removals, w->old, doc, st) : FT_OK;
}

/* An id that the index holds already, perhaps more than once. */
static ft_code look_for_id(ft_index_writer *w, const char *id, ft_status *st)
{
    uint64_t found;
    ft_code rc = ft_index_documents_by_id(w->old, id, take_place, w, &found, st);
    return rc || !found ? rc : tell_repeated(w, id, st);
}

ft_code ft_index_writer_add(ft_index_writer *w, const uint32_t *tokens, size_t n, const char *id, const char *metadata,
                            uint64_t text_bytes, ft_status *st)
{
    uint32_t highest = 0;
    for (size_t i = 0; i < n; i++)
        highest = tokens[i] > highest ? tokens[i] : highest;
    for (size_t i = 0; highest >= w->vocab_size && i < n; i++)
        if (tokens[i] >= w->vocab_size)
            return ft_fail(st, FT_ERR_ARG, "document '%s': token %zu is %u, the vocabulary ends at %u", id, i,
                           tokens[i], w->vocab_size);
    return ft_segment_writer_add(w->segment, tokens, n, id, metadata ? metadata : "{}", text_bytes, st);
}

/* --- Finishing ----------------------------------------------------------------------------------- */

/* Of two in the new segment, which will be the last one, the earlier goes. */
static ft_code found_twice(void *context, uint64_t earlier, uint64_t later, const char *id, ft_status *st)
{
    (void)later;
    ft_index_writer *w = context;
    ft_code rc = tell_repeated(w, id, st);
    if (!rc && w->options.replace_documents)
        rc = ft_removal_list_add_number(&w->removals, w->change.manifest.segment_count, earlier, st);
    return rc;
}

/* Ids of the new segment that stand in the old ones: asked once the segment is there. */
static ft_code look_for_all_ids(ft_index_writer *w, ft_status *st)
{
    ft_section documents = {0}, texts = {0};
    char *folder = ft_index_change_segment_folder(&w->change);
    ft_code rc = folder ? ft_section_open(&documents, folder, FT_SECTION_DOCUMENTS, 0, st)
                        : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    if (!rc)
        rc = ft_section_open(&texts, folder, FT_SECTION_TEXTS, 0, st);
    const ft_document_record *records = (const ft_document_record *)(const void *)documents.payload;
    for (uint64_t i = 0; i + 1 < documents.count && !rc; i++)
        rc = look_for_id(w, (const char *)texts.payload + records[i].text, st);
    ft_section_close(&documents);
    ft_section_close(&texts);
    free(folder);
    return rc;
}

/* The finished folder takes its place in one step, also where an index stands. */
static ft_code put_in_place(ft_index_writer *w, ft_status *st)
{
    if (rename(w->building, w->folder) == 0)
        return FT_OK;
    if (w->options.replace && (errno == ENOTEMPTY || errno == EEXIST) &&
        renameat2(AT_FDCWD, w->building, AT_FDCWD, w->folder, RENAME_EXCHANGE) == 0)
        return ft_folder_remove(w->building, st); /* now the old one */
    return ft_fail(st, FT_ERR_IO, "%s: cannot rename the finished index into place: %s", w->folder, strerror(errno));
}

static void fill_report(const ft_index_writer *w, const ft_segment_report *s, ft_index_build_report *report)
{
    *report = (ft_index_build_report){.documents = s->documents,
                                      .tokens = s->tokens,
                                      .text_bytes = s->text_bytes,
                                      .repeated_ids = w->repeated,
                                      .replaced_documents = w->removals.count,
                                      .disk_bytes = ft_manifest_segment_bytes(&w->change.manifest),
                                      .resumed_documents = w->resumed,
                                      .runs = s->runs,
                                      .segments = (unsigned)w->change.manifest.segment_count};
}

static ft_code finish_segment(ft_index_writer *w, ft_segment_report *segment, ft_status *st)
{
    ft_code rc = ft_segment_writer_finish(w->segment, found_twice, w, segment, st);
    if (!rc && w->old && !w->options.numbered)
        rc = look_for_all_ids(w, st);
    return rc ? rc : ft_index_change_add_segment(&w->change, segment, st);
}

static ft_code finish(ft_index_writer *w, ft_index_build_report *report, ft_status *st)
{
    ft_segment_report segment = {0};
    ft_code rc = ft_segment_writer_documents(w->segment) ? finish_segment(w, &segment, st) : FT_OK;
    if (!rc && w->building && w->options.tokenizer)
        rc = ft_index_change_set_tokenizer(&w->change, w->options.tokenizer, st);
    if (!rc)
        rc = ft_removal_list_apply(&w->removals, &w->change, st);
    if (!rc)
        rc = ft_index_change_commit(&w->change, st);
    if (!rc && w->building)
        rc = put_in_place(w, st);
    if (!rc && report)
        fill_report(w, &segment, report);
    return rc;
}

ft_code ft_index_writer_finish(ft_index_writer *w, ft_index_build_report *report, ft_status *st)
{
    if (report)
        *report = (ft_index_build_report){0};
    ft_code rc = finish(w, report, st);
    if (rc)
        ft_index_writer_fail(w);
    else
        ft_index_writer_suspend(w);
    return rc;
}

void ft_index_writer_suspend(ft_index_writer *w)
{
    if (!w)
        return;
    ft_segment_writer_close(w->segment);
    ft_index_close(w->old);
    ft_removal_list_release(&w->removals);
    ft_index_change_end(&w->change);
    if (w->target_lock >= 0)
        close(w->target_lock);
    free(w->folder);
    free(w->building);
    free(w);
}

void ft_index_writer_abandon(ft_index_writer *w)
{
    if (!w)
        return;
    ft_status ignored;
    char *path = w->building ? strdup(w->building) : w->change.work ? strdup(w->change.work) : NULL;
    /* The lock is held until the folder is gone. */
    if (path && ft_folder_remove(path, &ignored) != FT_OK)
        assert(ignored.code != FT_OK); /* nothing more can be done; the next build tries again */
    free(path);
    ft_index_writer_suspend(w);
}

void ft_index_writer_fail(ft_index_writer *w)
{
    char *folder = w && w->change.work ? ft_index_change_segment_folder(&w->change) : NULL;
    const int worth = folder && w->options.fingerprint && ft_segment_writer_has_mark(folder);
    free(folder);
    if (worth)
        ft_index_writer_suspend(w);
    else
        ft_index_writer_abandon(w);
}
