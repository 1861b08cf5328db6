#include "index/ft_segment_writer.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "index/ft_merge.h"
#include "index/ft_run.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14; an older one refuses, which does no harm */
#define MADV_POPULATE_WRITE 23
#endif

enum {
    RUN_MIN = 1 << 18,      /* smaller gathers are sorted by one thread */
    GATHER_MIN = 1 << 16,   /* tokens */
    THREAD_BYTES = 4 << 20, /* merging and writing */
    MARK_BYTES_MAX = 1 << 20
};

typedef struct spilled_run {
    uint64_t base, codes;
} spilled_run;

struct ft_segment_writer {
    char *folder;
    ft_segment_writer_options options;
    ft_spool spool;
    uint32_t *gather; /* ids and FT_END_TOKEN, not sorted yet */
    size_t gathered, room, capacity;
    size_t backed; /* bytes of it that have pages */
    uint64_t base; /* code of the segment that gather[0] is */
    spilled_run *spilled;
    size_t spilled_count, spilled_capacity;
    ft_run *runs; /* sorted and in memory */
    size_t run_count;
    int complete;
};

uint64_t ft_segment_writer_least(unsigned threads)
{
    return (uint64_t)threads * (FT_RUN_FIXED_BYTES + THREAD_BYTES) + ((uint64_t)4 << 20);
}

/* --- The mark ------------------------------------------------------------------------------ */

static char *mark_path(const char *folder)
{
    return ft_path_join(folder, "progress.json");
}

int ft_segment_writer_has_mark(const char *folder)
{
    char *path = mark_path(folder);
    const int has = path && ft_path_exists(path);
    free(path);
    return has;
}

/* Runs and tokens are not synced: a mark is worth something as long as the machine that
 * wrote them is up. Fits in 40 bytes; "" where the system does not tell. */
static void boot_id(char *out)
{
    ft_buffer text = {0};
    ft_status ignored;
    const ft_code rc = ft_file_read("/proc/sys/kernel/random/boot_id", 64, &text, &ignored);
    snprintf(out, 40, "%.*s", rc ? 0 : (int)strcspn(text.data, "\n"), rc ? "" : text.data);
    ft_buffer_release(&text);
}

static ft_code write_mark(const ft_segment_writer *w, ft_status *st)
{
    const ft_spool_mark *m = &w->spool.mark;
    char fingerprint[17], boot[40];
    snprintf(fingerprint, sizeof(fingerprint), "%016" PRIx64, w->options.fingerprint);
    boot_id(boot);
    json_t *runs = json_array();
    for (size_t i = 0; runs && i < w->spilled_count; i++)
        json_array_append_new(runs, json_pack("{s:I,s:I}", "base", (json_int_t)w->spilled[i].base, "codes",
                                              (json_int_t)w->spilled[i].codes));
    json_t *mark =
        json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:b,s:o}", "fingerprint", fingerprint, "boot", boot, "documents",
                  (json_int_t)m->documents, "codes", (json_int_t)m->codes, "text_bytes", (json_int_t)m->text_bytes,
                  "texts", (json_int_t)m->texts, "complete", w->complete, "runs", runs);
    ft_buffer text = {0};
    char *path = mark_path(w->folder);
    ft_code rc =
        path && mark ? ft_json_write(mark, &text, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    if (!rc)
        rc = ft_file_write(path, text.data, text.size, st);
    free(path);
    json_decref(mark);
    ft_buffer_release(&text);
    return rc;
}

static ft_code read_runs(ft_segment_writer *w, const json_t *runs, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < json_array_size(runs) && !rc; i++) {
        const json_t *from = json_array_get(runs, i);
        int64_t base = 0, codes = 0;
        rc = ft_json_get_int(from, "base", 0, INT64_MAX, &base, st);
        if (!rc)
            rc = ft_json_get_int(from, "codes", 1, INT64_MAX, &codes, st);
        if (!rc)
            rc = ft_array_grow((void **)&w->spilled, &w->spilled_capacity, i + 1, sizeof(*w->spilled), st);
        if (!rc)
            w->spilled[w->spilled_count++] = (spilled_run){(uint64_t)base, (uint64_t)codes};
    }
    return rc;
}

/* FT_ERR_NOT_FOUND: none, or one of another input or from before a restart of the machine. */
static ft_code read_mark(ft_segment_writer *w, ft_spool_mark *out, ft_status *st)
{
    json_t *mark = NULL;
    int64_t documents = 0, codes = 0, text_bytes = 0, texts = 0;
    const char *fingerprint = "", *boot = "";
    char expected[17], now[40], *path = mark_path(w->folder);
    ft_code rc = path ? ft_json_read_file(&mark, path, MARK_BYTES_MAX, st)
                      : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    if (!rc)
        rc = ft_json_get_string(mark, "fingerprint", &fingerprint, st);
    if (!rc)
        rc = ft_json_get_string(mark, "boot", &boot, st);
    snprintf(expected, sizeof(expected), "%016" PRIx64, w->options.fingerprint);
    boot_id(now);
    if (!rc && (strcmp(fingerprint, expected) != 0 || strcmp(boot, now) != 0))
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: of another input", path);
    if (!rc)
        rc = ft_json_get_int(mark, "documents", 0, INT64_MAX, &documents, st);
    if (!rc)
        rc = ft_json_get_int(mark, "codes", 0, INT64_MAX, &codes, st);
    if (!rc)
        rc = ft_json_get_int(mark, "text_bytes", 0, INT64_MAX, &text_bytes, st);
    if (!rc)
        rc = ft_json_get_int(mark, "texts", 0, INT64_MAX, &texts, st);
    if (!rc)
        rc = ft_json_get_bool(mark, "complete", &w->complete, st);
    if (!rc)
        rc = read_runs(w, json_object_get(mark, "runs"), st);
    *out = (ft_spool_mark){(uint64_t)documents, (uint64_t)codes, (uint64_t)text_bytes, (uint64_t)texts};
    json_decref(mark);
    free(path);
    return rc;
}

/* --- Opening ---------------------------------------------------------------------------------- */

static char *run_path(const ft_segment_writer *w, size_t number)
{
    char name[32];
    snprintf(name, sizeof(name), "run-%06zu", number + 1);
    return ft_path_join(w->folder, name);
}

static ft_code resume(ft_segment_writer *w, const ft_spool_mark *mark, ft_status *st)
{
    ft_code rc = ft_spool_open(&w->spool, w->folder, w->options.vocab_size, mark, w->options.pool, st);
    w->base = 0;
    for (size_t i = 0; i < w->spilled_count && !rc; i++) {
        char *path = run_path(w, i);
        ft_run run;
        rc = path ? ft_run_open(&run, path, w->spilled[i].codes, w->options.vocab_size, st)
                  : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
        if (!rc)
            ft_run_close(&run);
        if (!rc && w->spilled[i].base != w->base)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: not the run that was expected", path);
        w->base += w->spilled[i].codes;
        free(path);
    }
    if (!rc && (w->base > mark->codes || (!w->complete && w->base != mark->codes)))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s/progress.json: the runs do not make what was read", w->folder);
    return rc;
}

/* How many tokens are gathered before they are sorted. */
static size_t gather_room(const ft_segment_writer_options *o)
{
    const unsigned threads = ft_pool_size(o->pool);
    const uint64_t least = ft_segment_writer_least(threads);
    const uint64_t bytes = o->memory_bytes > least ? o->memory_bytes - least : 0;
    uint64_t room = (uint64_t)((double)bytes / FT_RUN_TOKEN_BYTES);
    /* A run's symbols and positions have to fit in 31 bits. */
    const uint64_t longest = FT_SUFFIX_SORT_MAX - (uint64_t)o->vocab_size;
    if (room > longest / 2 * threads)
        room = longest / 2 * threads; /* pieces end with documents, so they differ in length */
    return room < GATHER_MIN ? GATHER_MIN : (size_t)room;
}

ft_code ft_segment_writer_open(ft_segment_writer **out, const char *folder, const ft_segment_writer_options *options,
                               uint64_t *resumed, int *complete, ft_status *st)
{
    *out = NULL;
    *resumed = 0;
    *complete = 0;
    ft_segment_writer *w = calloc(1, sizeof(*w));
    ft_spool_mark mark;
    if (!w || !(w->folder = strdup(folder))) {
        free(w);
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    }
    w->options = *options;
    w->spool.tokens.fd = -1;
    w->room = gather_room(options);
    ft_status ignored;
    if (read_mark(w, &mark, &ignored) == FT_OK && resume(w, &mark, &ignored) == FT_OK) {
        *resumed = mark.documents;
        *complete = w->complete;
        *out = w;
        return FT_OK;
    }
    /* Nothing, or nothing of use: anew. */
    ft_spool_close(&w->spool);
    w->spilled_count = 0;
    w->complete = 0;
    w->base = 0;
    ft_code rc = ft_folder_remove(folder, st);
    if (!rc)
        rc = ft_folder_make(folder, st);
    if (!rc)
        rc = ft_spool_open(&w->spool, folder, options->vocab_size, NULL, options->pool, st);
    if (rc) {
        ft_segment_writer_close(w);
        return rc;
    }
    *out = w;
    return FT_OK;
}

static void release_gather(ft_segment_writer *w)
{
    if (w->gather)
        munmap(w->gather, w->capacity * sizeof(*w->gather));
    w->gather = NULL;
    w->capacity = w->backed = 0;
}

void ft_segment_writer_close(ft_segment_writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->run_count; i++)
        ft_run_close(&w->runs[i]);
    free(w->runs);
    free(w->spilled);
    release_gather(w);
    ft_spool_close(&w->spool);
    free(w->folder);
    free(w);
}

/* --- Sorting ------------------------------------------------------------------------------------ */

typedef struct sort_job sort_job;

typedef struct piece {
    sort_job *job;
    size_t from, to; /* of the gather */
    _Atomic size_t done;
    unsigned worker;
    double before, part; /* what is reported is `part` of the piece, behind `before` */
} piece;

struct sort_job {
    ft_segment_writer *w;
    piece *pieces;
    size_t count;
    ft_run *runs;
    int spill;
    atomic_int failed;
    ft_code rc;
    ft_status st;
};

/* Called by every thread; the caller's, which is worker 0, reports for all. */
static int sort_progress(void *context, double done)
{
    piece *p = context;
    sort_job *j = p->job;
    atomic_store(&p->done, (size_t)((p->before + p->part * done) * (double)(p->to - p->from)));
    if (p->worker == 0) {
        uint64_t sum = j->w->base;
        for (size_t i = 0; i < j->count; i++)
            sum += atomic_load(&j->pieces[i].done);
        if (ft_progress_report(j->w->options.progress, "sort", sum, j->w->base + j->w->gathered, "tokens") &&
            !atomic_exchange(&j->failed, 1))
            j->rc = ft_fail(&j->st, FT_ERR_CANCELLED, "%s: stopped", j->w->folder);
    }
    return atomic_load(&j->failed);
}

static ft_code sort_piece(sort_job *j, size_t i, ft_status *st)
{
    ft_segment_writer *w = j->w;
    piece *p = &j->pieces[i];
    const ft_sort_watch watch = {sort_progress, p};
    uint32_t *tokens = w->gather + p->from;
    size_t documents = 0;
    for (size_t k = 0; k < p->to - p->from; k++)
        documents += tokens[k] == FT_END_TOKEN;
    p->part = j->spill ? 0.85 : 1; /* of the time, about; the rest is writing */
    ft_code rc = ft_run_sort(&j->runs[i], tokens, p->to - p->from, documents, w->options.vocab_size, &watch, st);
    if (rc || !j->spill)
        return rc;
    p->before = p->part;
    p->part = 1 - p->before;
    char *path = run_path(w, w->spilled_count + i);
    rc = path ? ft_run_spill(&j->runs[i], path, &watch, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    free(path);
    ft_run_close(&j->runs[i]);
    return rc;
}

static void sort_task(void *context, size_t task, unsigned worker)
{
    sort_job *j = context;
    ft_status st;
    j->pieces[task].worker = worker;
    ft_code rc = atomic_load(&j->failed) ? FT_OK : sort_piece(j, task, &st);
    if (rc && !atomic_exchange(&j->failed, 1)) {
        j->rc = rc;
        j->st = st;
    }
}

/* As many pieces as threads, each of whole documents. */
static size_t cut_pieces(const ft_segment_writer *w, piece *pieces, size_t most)
{
    size_t count = 0, from = 0;
    if (w->gathered < RUN_MIN)
        most = 1;
    for (size_t i = 1; i <= most && from < w->gathered; i++) {
        size_t to = w->gathered / most * i;
        if (i == most || to < from)
            to = i == most ? w->gathered : from;
        while (to < w->gathered && (to == from || w->gather[to - 1] != FT_END_TOKEN))
            to++;
        if (to > from) {
            pieces[count].from = from;
            pieces[count++].to = to;
        }
        from = to;
    }
    return count;
}

static ft_code sort_gather(ft_segment_writer *w, int spill, ft_status *st)
{
    if (!w->gathered)
        return FT_OK;
    const size_t threads = ft_pool_size(w->options.pool);
    sort_job j = {.w = w, .spill = spill, .pieces = ft_alloc_array(threads, sizeof(piece))};
    j.runs = ft_alloc_array(threads, sizeof(*j.runs));
    if (!j.pieces || !j.runs) {
        free(j.pieces);
        free(j.runs);
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    }
    j.count = cut_pieces(w, j.pieces, threads);
    for (size_t i = 0; i < j.count; i++)
        j.pieces[i].job = &j;
    ft_pool_run(w->options.pool, j.count, sort_task, &j);
    ft_code rc = j.rc;
    if (rc && st)
        *st = j.st;
    for (size_t i = 0; i < j.count && !rc && spill; i++) {
        rc = ft_array_grow((void **)&w->spilled, &w->spilled_capacity, w->spilled_count + 1, sizeof(*w->spilled), st);
        if (!rc)
            w->spilled[w->spilled_count++] =
                (spilled_run){w->base + j.pieces[i].from, j.pieces[i].to - j.pieces[i].from};
    }
    for (size_t i = 0; i < j.count && !spill; i++)
        j.runs[i].base = w->base + j.pieces[i].from;
    if (!spill) {
        w->runs = j.runs;
        w->run_count = j.count;
        j.runs = NULL;
    }
    w->base += w->gathered;
    w->gathered = 0;
    free(j.runs);
    free(j.pieces);
    return rc;
}

/* --- Adding ---------------------------------------------------------------------------------------- */

/* Memory is full: the runs go to the disk, and a mark behind them. */
static ft_code spill(ft_segment_writer *w, ft_status *st)
{
    ft_code rc = ft_spool_tokens(&w->spool, w->gather, w->gathered, st);
    if (!rc)
        rc = sort_gather(w, 1, st);
    if (!rc)
        rc = ft_spool_flush(&w->spool, st);
    return rc ? rc : write_mark(w, st);
}

typedef struct backing {
    unsigned char *from;
    size_t bytes; /* of each task */
} backing;

static void back_task(void *context, size_t task, unsigned worker)
{
    (void)worker;
    const backing *b = context;
    (void)madvise(b->from + task * b->bytes, b->bytes, MADV_POPULATE_WRITE); /* else they come as they are written */
}

/* Pages of a large gather come some way ahead, to all threads together: one alone would fetch and clear them for half
 * of the time that it reads. */
static void back_gather(ft_segment_writer *w)
{
    enum { LEAST = 32 << 20, EACH = 32 << 20 };
    const size_t used = w->gathered * sizeof(*w->gather), whole = w->capacity * sizeof(*w->gather);
    const size_t threads = ft_pool_size(w->options.pool);
    w->backed = used > w->backed ? used / EACH * EACH : w->backed;
    if (used < LEAST || used < w->backed || threads < 2 || whole < EACH || w->backed > whole - EACH)
        return;
    const size_t tasks = (whole - w->backed) / EACH < threads ? (whole - w->backed) / EACH : threads;
    backing b = {(unsigned char *)w->gather + w->backed, EACH};
    ft_pool_run(w->options.pool, tasks, back_task, &b);
    w->backed += tasks * EACH;
}

static ft_code reserve_gather(ft_segment_writer *w, size_t needed, ft_status *st)
{
    if (w->gather && needed <= w->capacity)
        return FT_OK;
    const size_t capacity = needed > w->room ? needed : w->room;
    void *block = mmap(NULL, capacity * sizeof(*w->gather), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory for %zu tokens; give less with --memory", w->folder, capacity);
    (void)madvise(block, capacity * sizeof(*w->gather), MADV_HUGEPAGE);
    if (w->gather) {
        memcpy(block, w->gather, w->gathered * sizeof(*w->gather));
        munmap(w->gather, w->capacity * sizeof(*w->gather));
    }
    w->gather = block;
    w->capacity = capacity;
    w->backed = 0;
    return FT_OK;
}

ft_code ft_segment_writer_add(ft_segment_writer *w, const uint32_t *tokens, size_t n, const char *id,
                              const char *metadata, uint64_t text_bytes, ft_status *st)
{
    if (n >= w->room)
        return ft_fail(st, FT_ERR_LIMIT,
                       "document '%s': %zu tokens, more than can be sorted at once; give more with --memory", id, n);
    ft_code rc = FT_OK;
    if (w->gathered + n + 1 > w->room)
        rc = spill(w, st);
    if (!rc)
        rc = reserve_gather(w, w->gathered + n + 1, st);
    if (!rc)
        rc = ft_spool_document(&w->spool, w->base + w->gathered, id, metadata, text_bytes, st);
    if (rc)
        return rc;
    back_gather(w);
    if (n)
        memcpy(w->gather + w->gathered, tokens, n * sizeof(*tokens));
    w->gathered += n;
    w->gather[w->gathered++] = FT_END_TOKEN;
    return FT_OK;
}

uint64_t ft_segment_writer_documents(const ft_segment_writer *w)
{
    return w->spool.mark.documents;
}

/* --- Finishing -------------------------------------------------------------------------------------- */

/* All is read: from here on another process needs the corpus no more. */
static ft_code end_reading(ft_segment_writer *w, ft_status *st)
{
    ft_code rc;
    if (!w->complete) {
        rc = ft_spool_tokens(&w->spool, w->gather, w->gathered, st);
        if (!rc)
            rc = ft_spool_flush(&w->spool, st);
        w->complete = 1;
        return rc ? rc : write_mark(w, st);
    }
    const size_t rest = (size_t)(w->spool.mark.codes - w->base);
    rc = rest ? reserve_gather(w, rest, st) : FT_OK;
    if (!rc)
        rc = ft_spool_read(&w->spool, w->base, rest, w->gather, st);
    w->gathered = rest;
    return rc;
}

/* Spilled runs and those in memory, as sources. */
static ft_code merge_runs(ft_segment_writer *w, ft_run *files, const ft_codes *text, uint64_t segment, ft_status *st)
{
    const size_t count = w->spilled_count + w->run_count;
    const ft_merge_source **sources = ft_alloc_array(count, sizeof(*sources));
    ft_suffix_writer out = {0};
    ft_code rc = sources ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    for (size_t i = 0; i < w->spilled_count && !rc; i++) {
        char *path = run_path(w, i);
        rc = path ? ft_run_open(&files[i], path, w->spilled[i].codes, w->options.vocab_size, st)
                  : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
        free(path);
        files[i].text = text;
        files[i].base = w->spilled[i].base;
        sources[i] = &files[i].source;
    }
    for (size_t i = 0; i < w->run_count && !rc; i++) {
        w->runs[i].text = text;
        sources[w->spilled_count + i] = &w->runs[i].source;
    }
    if (!rc)
        rc = ft_suffix_writer_open(&out, w->folder, text->count, w->options.vocab_size, st);
    if (!rc) {
        rc = ft_merge(&out, sources, count, text, w->options.pool, w->options.progress, st);
        if (!rc)
            rc = ft_suffix_writer_commit(&out, segment, st);
        else
            ft_suffix_writer_abandon(&out);
    }
    free(sources);
    return rc;
}

static int has_room_for_copy(const ft_segment_writer *w, uint64_t bytes)
{
    uint64_t taken = ft_segment_writer_least(ft_pool_size(w->options.pool)) + bytes;
    for (size_t i = 0; i < w->run_count; i++)
        taken += w->runs[i].source.count * sizeof(*w->runs[i].order);
    return taken <= w->options.memory_bytes;
}

/* The text that the merge will read, where large pages are: best where the tokens stood, whose pages are there already,
 * else in memory of its own, which is returned. */
static unsigned char *bring_near(ft_segment_writer *w, ft_codes *text)
{
    const uint64_t bytes = ft_packed_bytes(text->count, text->bits) + FT_CODES_BEHIND;
    if (w->gather && bytes <= w->capacity * sizeof(*w->gather)) {
        ft_codes_copy_to((unsigned char *)w->gather, text);
        text->packed = (unsigned char *)w->gather;
        return NULL;
    }
    release_gather(w);
    unsigned char *copy = has_room_for_copy(w, bytes) ? ft_codes_copy(text) : NULL;
    if (copy)
        text->packed = copy;
    return copy;
}

static ft_code merge_all(ft_segment_writer *w, uint64_t segment, ft_status *st)
{
    ft_section tokens = {0};
    unsigned char *copy = NULL;
    ft_run *files = ft_alloc_array(w->spilled_count, sizeof(*files));
    ft_code rc = files ? ft_section_open(&tokens, w->folder, FT_SECTION_TOKENS, 0, st)
                       : ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    if (!rc) {
        ft_codes text = {tokens.payload, tokens.unit_bits, tokens.count, NULL};
        copy = bring_near(w, &text);
        rc = merge_runs(w, files, &text, segment, st);
    }
    for (size_t i = 0; i < w->spilled_count && files; i++)
        ft_run_close(&files[i]);
    free(files);
    free(copy);
    ft_section_close(&tokens);
    return rc;
}

/* The mark first: without the others it would lead nowhere. */
static void remove_leftovers(const ft_segment_writer *w)
{
    char *mark = mark_path(w->folder);
    if (mark)
        (void)unlink(mark);
    free(mark);
    ft_spool_remove(w->folder);
    for (size_t i = 0; i < w->spilled_count; i++) {
        char *path = run_path(w, i);
        if (path)
            (void)unlink(path);
        free(path);
    }
}

ft_code ft_segment_writer_finish(ft_segment_writer *w, ft_spool_twice *twice, void *context, ft_segment_report *report,
                                 ft_status *st)
{
    uint64_t segment = 0;
    ft_code rc = end_reading(w, st);
    if (!rc)
        rc = sort_gather(w, 0, st);
    *report = (ft_segment_report){w->spool.mark.documents, w->spool.mark.codes - w->spool.mark.documents,
                                  w->spool.mark.text_bytes, (unsigned)w->spilled_count};
    if (!rc)
        rc = ft_spool_commit(&w->spool, w->options.memory_bytes / 2, twice, context, &segment, st);
    if (!rc)
        rc = merge_all(w, segment, st);
    release_gather(w);
    if (!rc)
        remove_leftovers(w);
    return rc;
}
