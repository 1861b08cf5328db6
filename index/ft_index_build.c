/* Corpus files to an index: documents come out of all threads as tokens (ft_text_source.h),
 * in order. Token arrays are handed on as they are. */
#include "index/ft_index_build.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_threads.h"
#include "index/ft_index.h"
#include "index/ft_input_fingerprint.h"
#include "index/ft_text_source.h"
#include "index/ft_token_source.h"
#include "text/ft_tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_MIN = 1 << 20,
    BATCH_MAX = 16 << 20,
    TOKENIZER_BYTES = 48 << 20, /* what a tokenizer takes while it is opened, or with its encoders' caches */
    REPEATED_SHOWN = 5          /* ids that stand twice and are named */
};

typedef struct build {
    const ft_index_build_options *options;
    ft_text_source *texts;
    ft_token_source *arrays; /* instead, of the operand that is being read */
    ft_tokenizer *tokenizer;
    char *own_tokenizer; /* of an addition without options->tokenizer */
    uint32_t vocab_size, end_of_text;
    uint64_t repeated;
    uint64_t skip; /* documents that an earlier call had read */
    ft_pool *pool;
    ft_index_writer *writer;
} build;

/* --- Texts --------------------------------------------------------------------------------- */

static ft_code write_document(void *context, const ft_text_document *d, ft_status *st)
{
    const build *s = context;
    return ft_index_writer_add(s->writer, d->ids, d->count, d->id, d->metadata, d->text_bytes, st);
}

static ft_code stopped(ft_status *st)
{
    return ft_fail(st, FT_ERR_CANCELLED, "stopped");
}

static ft_code report_progress(const build *s, ft_status *st)
{
    const ft_corpus_counts c = ft_text_source_progress(s->texts);
    return ft_progress_report(&s->options->progress, "tokenize", c.input_bytes, c.input_total, "bytes") ? stopped(st)
                                                                                                        : FT_OK;
}

static ft_code read_texts(build *s, ft_status *st)
{
    int more = 1;
    ft_code rc = FT_OK;
    ft_text_source_skip(s->texts, s->skip);
    while (more && !rc) {
        rc = ft_text_source_next(s->texts, write_document, s, &more, st);
        if (!rc)
            rc = report_progress(s, st);
    }
    return rc;
}

/* --- Token arrays ------------------------------------------------------------------------ */

static int is_array(const char *operand)
{
    const size_t n = strlen(operand);
    return n > 4 && !strcmp(operand + n - 4, ".npy");
}

static int is_tokens(const char *operand)
{
    return is_array(operand) || ft_index_is_infinigram(operand);
}

/* The array of documents' starts that goes with an array of tokens; the caller frees it. */
static char *offsets_path(const build *s, const char *path)
{
    if (s->options->doc_offsets)
        return strdup(s->options->doc_offsets);
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash ? (size_t)(slash + 1 - path) : 0);
    char *offsets = !folder ? NULL : *folder ? ft_path_join(folder, "doc_offsets.npy") : strdup("doc_offsets.npy");
    free(folder);
    return offsets;
}

static ft_code open_array(const build *s, const char *path, ft_token_source **out, ft_status *st)
{
    char *offsets = offsets_path(s, path);
    ft_code rc = offsets ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    if (!rc && !s->options->doc_offsets && !ft_path_exists(offsets))
        rc = ft_fail(st, FT_ERR_NOT_FOUND,
                     "%s: where do its documents start? No %s there; name the array with --doc-offsets", path, offsets);
    if (!rc)
        rc = ft_token_source_open_arrays(out, path, offsets, s->options->documents, s->vocab_size, st);
    free(offsets);
    return rc;
}

static ft_code open_tokens(const build *s, const char *operand, ft_token_source **out, ft_status *st)
{
    if (is_array(operand))
        return open_array(s, operand, out, st);
    const int version = s->options->infinigram_version;
    const ft_infinigram_options o = {
        .version = version ? version : 4, .end_of_text = s->end_of_text, .vocab_size = s->vocab_size};
    return ft_token_source_open_infinigram(out, operand, &o, st);
}

/* The vocabulary of arrays that say nothing of it: up to the largest id. */
static ft_code find_vocabulary(build *s, const char *const *corpus, size_t count, ft_status *st)
{
    ft_code rc = FT_OK;
    uint32_t most = 0;
    for (size_t i = 0; i < count && !rc && !s->vocab_size; i++) {
        ft_token_source *source = NULL;
        rc = open_tokens(s, corpus[i], &source, st);
        if (!rc)
            rc = ft_token_source_check(source, &s->options->progress, st);
        if (!rc && ft_token_source_get_info(source).max_id > most)
            most = ft_token_source_get_info(source).max_id;
        ft_token_source_close(source);
    }
    if (!rc && !s->vocab_size)
        s->vocab_size = most + 1;
    return rc;
}

static ft_code read_array(build *s, uint64_t before, uint64_t all, ft_status *st)
{
    int more = 1;
    ft_code rc = FT_OK;
    for (uint64_t i = 0; more && !rc; i++) {
        ft_token_document d;
        rc = ft_token_source_next(s->arrays, &d, &more, st);
        if (!rc && more)
            rc = ft_index_writer_add(s->writer, d.tokens, d.count, d.id, d.metadata, 0, st);
        if (!rc && i % 256 == 0 &&
            ft_progress_report(&s->options->progress, "read", before + ft_token_source_get_info(s->arrays).tokens_read,
                               all, "tokens"))
            rc = stopped(st);
    }
    return rc;
}

static ft_code read_arrays(build *s, const char *const *corpus, size_t count, ft_status *st)
{
    uint64_t all = 0, before = 0;
    ft_code rc = FT_OK;
    for (size_t pass = 0; pass < 2 * count && !rc; pass++) { /* first the sizes, then the tokens */
        rc = open_tokens(s, corpus[pass % count], &s->arrays, st);
        if (rc)
            break;
        const ft_token_source_info info = ft_token_source_get_info(s->arrays);
        if (pass < count) {
            all += info.tokens;
        } else {
            const uint64_t skip = s->skip < info.documents ? s->skip : info.documents;
            ft_token_source_skip(s->arrays, skip);
            s->skip -= skip;
            rc = read_array(s, before, all, st);
            before += info.tokens;
        }
        ft_token_source_close(s->arrays);
        s->arrays = NULL;
    }
    return rc;
}

/* --- All -------------------------------------------------------------------------------- */

static ft_code tell_repeated(void *context, const char *id, ft_status *st)
{
    (void)st;
    build *s = context;
    char message[300];
    if (s->options->warn && s->repeated < REPEATED_SHOWN) {
        snprintf(message, sizeof(message), "document '%.200s': this id was there before%s", id,
                 s->options->replace_documents ? "; the later document takes its place" : "");
        s->options->warn(s->options->warn_context, message);
    }
    s->repeated++;
    return FT_OK;
}

static uint64_t memory_of(const build *s)
{
    return s->options->memory_bytes ? s->options->memory_bytes : (uint64_t)2 << 30;
}

static size_t batch_bytes(const build *s)
{
    const uint64_t share = memory_of(s) / 128;
    return share < BATCH_MIN ? BATCH_MIN : share > BATCH_MAX ? BATCH_MAX : (size_t)share;
}

/* Memory that reading takes: what is left is the writer's. */
static ft_code share_memory(build *s, uint64_t *writer_bytes, ft_status *st)
{
    const uint64_t memory = memory_of(s);
    const unsigned threads = ft_pool_size(s->pool);
    uint64_t fixed = s->tokenizer ? TOKENIZER_BYTES : 0;
    if (s->texts)
        fixed += ft_text_source_bytes(batch_bytes(s), threads);
    const uint64_t least = fixed + ft_index_writer_least(threads, s->vocab_size);
    if (memory < least)
        return ft_fail(st, FT_ERR_ARG, "--memory %" PRIu64 "M is too little for %u threads; give at least %" PRIu64 "M",
                       memory >> 20, threads, (least >> 20) + 1);
    *writer_bytes = memory - fixed;
    return FT_OK;
}

/* An addition reads with the index's own tokenizer; another one is refused. */
static ft_code open_tokenizer(build *s, const char *folder, int add, int arrays, ft_status *st)
{
    const char *path = s->options->tokenizer;
    ft_index *ix = NULL;
    ft_code rc = add ? ft_index_open(&ix, folder, st) : FT_OK;
    if (!rc && add) {
        const ft_index_info info = ft_index_get_info(ix);
        s->vocab_size = info.vocab_size;
        s->end_of_text = info.end_of_text;
        if (!path && info.tokenizer && !arrays) /* arrays are ids of its vocabulary already */
            path = s->own_tokenizer = strdup(info.tokenizer);
    }
    if (!rc && path)
        rc = ft_tokenizer_open(&s->tokenizer, path, st);
    if (!rc && add && s->options->tokenizer && ft_index_get_info(ix).tokenizer) {
        const ft_digest used = ft_tokenizer_digest(s->tokenizer), own = ft_index_get_info(ix).tokenizer_digest;
        if (memcmp(&used, &own, sizeof(own)) != 0)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: built with another tokenizer than %s; leave -t out", folder, path);
    }
    if (!rc && !add) {
        s->vocab_size = s->tokenizer ? ft_tokenizer_vocab_size(s->tokenizer) : s->options->vocab_size;
        s->end_of_text = s->tokenizer ? ft_tokenizer_end_of_text(s->tokenizer) : s->options->end_of_text;
    }
    ft_index_close(ix);
    return rc;
}

static ft_code open_inputs(build *s, const char *const *corpus, size_t count, int *arrays, ft_status *st)
{
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++)
        tokens += (size_t)is_tokens(corpus[i]);
    *arrays = tokens > 0;
    if (tokens && tokens < count)
        return ft_fail(st, FT_ERR_ARG,
                       "token arrays and texts cannot be read in one call; use 'index add' for the others");
    if (tokens)
        return s->vocab_size ? FT_OK : find_vocabulary(s, corpus, count, st);
    if (!s->tokenizer)
        return ft_fail(st, FT_ERR_ARG, "text is indexed as tokens: a tokenizer is needed (-t TOK)");
    const ft_corpus_options o = {.skip_bad = s->options->skip_bad,
                                 .max_document_bytes = s->options->max_document_bytes,
                                 .warn = s->options->warn,
                                 .warn_context = s->options->warn_context};
    return ft_text_source_open(&s->texts, corpus, count, &o, s->tokenizer, s->pool, batch_bytes(s), st);
}

/* All files that are read: the operands, and what goes with arrays. */
static ft_code fingerprint_inputs(const build *s, const char *const *corpus, size_t count, uint64_t *out, ft_status *st)
{
    size_t n = 0;
    const char **all = ft_alloc_array(2 * count + 1, sizeof(*all));
    char **offsets = ft_alloc_array(count, sizeof(*offsets));
    ft_code rc = all && offsets ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < count && !rc; i++) {
        all[n++] = corpus[i];
        offsets[i] = is_array(corpus[i]) ? offsets_path(s, corpus[i]) : NULL;
        if (offsets[i] && ft_path_exists(offsets[i])) /* a missing one is told of when it is opened */
            all[n++] = offsets[i];
    }
    if (!rc && s->options->documents)
        all[n++] = s->options->documents;
    if (!rc)
        rc = ft_input_fingerprint(all, n, out, st);
    for (size_t i = 0; i < count && offsets; i++)
        free(offsets[i]);
    free(offsets);
    free(all);
    return rc;
}

/* What an interrupted build must share to be gone on with: inputs, how they are read, and
 * the ids' meaning. */
static ft_code fingerprint(const build *s, const char *const *corpus, size_t count, uint64_t *out, ft_status *st)
{
    ft_code rc = fingerprint_inputs(s, corpus, count, out, st);
    const uint64_t reading[] = {s->vocab_size, s->options->max_document_bytes,
                                (uint64_t)s->options->infinigram_version};
    ft_digest d = {{0}};
    if (s->tokenizer)
        d = ft_tokenizer_digest(s->tokenizer);
    for (size_t i = 0; i < sizeof(d.bytes); i++)
        *out = (*out ^ d.bytes[i]) * 0x100000001B3u; /* FNV-1a */
    for (size_t i = 0; i < sizeof(reading) / sizeof(*reading); i++)
        *out = (*out ^ reading[i]) * 0x100000001B3u;
    *out |= 1; /* 0 says "none" */
    return rc;
}

static void close_all(build *s)
{
    ft_index_writer_fail(s->writer);
    ft_text_source_close(s->texts);
    ft_token_source_close(s->arrays);
    ft_tokenizer_close(s->tokenizer);
    free(s->own_tokenizer);
    ft_pool_free(s->pool);
}

static ft_code open_writer(build *s, ft_index_writer_options *o, const char *folder, ft_status *st)
{
    ft_code rc = share_memory(s, &o->memory_bytes, st);
    if (rc)
        return rc;
    o->vocab_size = s->vocab_size;
    o->end_of_text = s->end_of_text;
    o->tokenizer = s->tokenizer ? ft_tokenizer_path(s->tokenizer) : NULL;
    o->owner = s->options->owner;
    o->pool = s->pool;
    o->replace = s->options->replace;
    o->replace_documents = s->options->replace_documents;
    o->progress = &s->options->progress;
    o->repeated = tell_repeated;
    o->context = s;
    return ft_index_writer_new(&s->writer, folder, o, st);
}

static ft_code run(build *s, const char *folder, int add, const char *const *corpus, size_t count,
                   ft_index_build_report *report, ft_status *st)
{
    int arrays = 0, complete = 0;
    ft_index_writer_options writer_options = {.add = add};
    ft_code rc = ft_pool_new(&s->pool, s->options->threads, st);
    if (!rc)
        rc = open_tokenizer(s, folder, add, count && is_tokens(corpus[0]), st);
    if (!rc)
        rc = fingerprint(s, corpus, count, &writer_options.fingerprint, st);
    if (!rc)
        rc = open_inputs(s, corpus, count, &arrays, st);
    writer_options.numbered = arrays && !s->options->documents && is_array(corpus[0]);
    if (!rc)
        rc = open_writer(s, &writer_options, folder, st);
    if (rc)
        return rc;
    const uint64_t resumed = s->skip = ft_index_writer_resumed(s->writer, &complete);
    if (!complete)
        rc = arrays ? read_arrays(s, corpus, count, st) : read_texts(s, st);
    if (!rc && !complete && !ft_index_writer_documents(s->writer))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: the corpus holds no document", count ? corpus[0] : folder);
    if (rc)
        return rc;
    const uint64_t bad = s->texts ? ft_text_source_progress(s->texts).bad : 0;
    rc = ft_index_writer_finish(s->writer, report, st);
    s->writer = NULL;
    report->bad_documents = bad;
    report->resumed_documents = resumed;
    return rc;
}

static ft_code build_or_add(const char *folder, int add, const char *const *corpus, size_t corpus_count,
                            const ft_index_build_options *options, ft_index_build_report *report, ft_status *st)
{
    ft_index_build_report ignored;
    report = report ? report : &ignored;
    *report = (ft_index_build_report){0};
    build *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    s->options = options;
    ft_code rc = run(s, folder, add, corpus, corpus_count, report, st);
    if (rc == FT_ERR_CANCELLED) /* wherever it was */
        rc = ft_fail(st, rc, "%s: stopped; run the same command again to go on", folder);
    close_all(s);
    free(s);
    return rc;
}

ft_code ft_index_build(const char *folder, const char *const *corpus, size_t corpus_count,
                       const ft_index_build_options *options, ft_index_build_report *report, ft_status *st)
{
    return build_or_add(folder, 0, corpus, corpus_count, options, report, st);
}

ft_code ft_index_add(const char *folder, const char *const *corpus, size_t corpus_count,
                     const ft_index_build_options *options, ft_index_build_report *report, ft_status *st)
{
    return build_or_add(folder, 1, corpus, corpus_count, options, report, st);
}
