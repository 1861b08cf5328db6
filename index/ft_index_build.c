/* Corpus files to an index: while all threads tokenize one batch of documents, one of
 * them reads the next. */
#include "index/ft_index_build.h"

#include "base/ft_buffer.h"
#include "base/ft_threads.h"
#include "text/ft_corpus.h"
#include "text/ft_tokenizer.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_MIN = 1 << 20,
    BATCH_MAX = 16 << 20,
    BATCH_DOCUMENTS = 1 << 16,
    TOKENIZER_BYTES = 48 << 20, /* what a tokenizer and its encoders' caches take */
    ENCODING_FACTOR = 6         /* bytes of an encoding for each byte of text, tokens being 4 bytes or so */
};

typedef struct batch_document {
    size_t text, text_bytes, id, metadata; /* places in the batch's bytes */
    uint32_t *ids;
    size_t count;
} batch_document;

typedef struct batch {
    ft_buffer bytes;
    batch_document *documents;
    size_t count, capacity;
    int ended; /* the corpus holds no more */
    ft_code rc;
    ft_status st; /* of reading */
} batch;

typedef struct build {
    ft_corpus *corpus;
    ft_tokenizer *tokenizer;
    ft_pool *pool;
    ft_encoder **encoders;  /* for each thread */
    ft_encoding *encodings; /* for each thread */
    ft_index_writer *writer;
    size_t batch_bytes;
    batch batches[2];
    batch *reading, *encoding; /* of this step; encoding is NULL in the first */
    atomic_int failed;         /* an encoder did; the first to set it owns st */
    ft_code rc;
    ft_status st;
} build;

/* --- One batch ------------------------------------------------------------------------ */

static void batch_reset(batch *b)
{
    for (size_t i = 0; i < b->count; i++)
        free(b->documents[i].ids);
    b->count = 0;
    ft_buffer_reset(&b->bytes);
}

static ft_code batch_add(batch *b, const ft_document *d, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&b->documents, &b->capacity, b->count + 1, sizeof(*b->documents), st);
    batch_document to = {.text = b->bytes.size, .text_bytes = d->text_bytes};
    if (!rc)
        rc = ft_buffer_append(&b->bytes, d->text, d->text_bytes, st);
    to.id = b->bytes.size;
    if (!rc)
        rc = ft_buffer_append(&b->bytes, d->id, strlen(d->id) + 1, st);
    to.metadata = b->bytes.size;
    if (!rc)
        rc = ft_buffer_append(&b->bytes, d->metadata, d->metadata_bytes, st);
    if (!rc)
        rc = ft_buffer_append(&b->bytes, "", 1, st);
    if (!rc)
        b->documents[b->count++] = to;
    return rc;
}

static void batch_read(build *s)
{
    batch *b = s->reading;
    batch_reset(b);
    while (!b->rc && !b->ended && b->bytes.size < s->batch_bytes && b->count < BATCH_DOCUMENTS) {
        ft_document d;
        int more = 0;
        b->rc = ft_corpus_next(s->corpus, &d, &more, &b->st);
        b->ended = !more;
        if (!b->rc && more)
            b->rc = batch_add(b, &d, &b->st);
    }
}

static ft_code encode_document(build *s, batch *b, batch_document *d, unsigned worker, ft_status *st)
{
    ft_encoding *e = &s->encodings[worker];
    ft_code rc = ft_encoder_encode(s->encoders[worker], b->bytes.data + d->text, d->text_bytes, e, st);
    if (rc)
        return rc;
    d->ids = malloc((e->count + 1) * sizeof(*d->ids));
    if (!d->ids)
        return ft_fail(st, FT_ERR_MEM, "document '%s': out of memory", b->bytes.data + d->id);
    if (e->count)
        memcpy(d->ids, e->ids, e->count * sizeof(*d->ids));
    d->count = e->count;
    return FT_OK;
}

/* Task 0 reads the next batch, the others each encode a document of this one. */
static void step_task(void *context, size_t task, unsigned worker)
{
    build *s = context;
    if (task == 0) {
        batch_read(s);
        return;
    }
    if (atomic_load(&s->failed))
        return;
    ft_status st;
    const ft_code rc = encode_document(s, s->encoding, &s->encoding->documents[task - 1], worker, &st);
    if (rc && !atomic_exchange(&s->failed, 1)) {
        s->rc = rc;
        s->st = st;
    }
}

static ft_code write_batch(build *s, batch *b, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < b->count && !rc; i++) {
        batch_document *d = &b->documents[i];
        rc = ft_index_writer_add(s->writer, d->ids, d->count, b->bytes.data + d->id, b->bytes.data + d->metadata,
                                 d->text_bytes, st);
        free(d->ids);
        d->ids = NULL;
    }
    return rc;
}

static ft_code report_progress(const build *s, const ft_progress *progress, ft_status *st)
{
    const ft_corpus_counts c = ft_corpus_progress(s->corpus);
    if (ft_progress_report(progress, "tokenize", c.input_bytes, c.input_total, "bytes"))
        return ft_fail(st, FT_ERR_CANCELLED, "stopped; nothing of the index remains");
    return FT_OK;
}

static ft_code run_steps(build *s, const ft_progress *progress, ft_status *st)
{
    for (unsigned step = 0;; step++) {
        s->reading = &s->batches[step % 2];
        ft_pool_run(s->pool, 1 + (s->encoding ? s->encoding->count : 0), step_task, s);
        if (s->rc) {
            if (st)
                *st = s->st;
            return s->rc;
        }
        ft_code rc = s->encoding ? write_batch(s, s->encoding, st) : FT_OK;
        if (!rc)
            rc = report_progress(s, progress, st);
        if (rc)
            return rc;
        if (s->reading->rc) {
            if (st)
                *st = s->reading->st;
            return s->reading->rc;
        }
        if (s->reading->count == 0)
            return FT_OK;
        s->encoding = s->reading;
        if (s->encoding->ended)
            s->batches[(step + 1) % 2].ended = 1; /* nothing is read beside the last batch */
    }
}

/* --- All -------------------------------------------------------------------------------- */

static ft_code open_all(build *s, const char *folder, const char *const *corpus, size_t corpus_count,
                        const ft_index_build_options *o, ft_status *st)
{
    const uint64_t memory = o->memory_bytes ? o->memory_bytes : (uint64_t)2 << 30;
    s->batch_bytes = memory / 128 < BATCH_MIN   ? BATCH_MIN
                     : memory / 128 > BATCH_MAX ? BATCH_MAX
                                                : (size_t)(memory / 128);
    ft_code rc = ft_pool_new(&s->pool, o->threads, st);
    if (rc)
        return rc;
    const unsigned threads = ft_pool_size(s->pool);
    const uint64_t fixed = TOKENIZER_BYTES + (uint64_t)s->batch_bytes * (4 + (uint64_t)threads * ENCODING_FACTOR / 2);
    const ft_corpus_options corpus_options = {.skip_bad = o->skip_bad,
                                              .max_document_bytes = o->max_document_bytes,
                                              .warn = o->warn,
                                              .warn_context = o->warn_context};
    if (memory < fixed + ((uint64_t)24 << 20))
        return ft_fail(st, FT_ERR_ARG, "--memory %" PRIu64 "M is too little for %u threads; give at least %" PRIu64 "M",
                       memory >> 20, threads, (fixed >> 20) + 24 + 9 * (uint64_t)threads);
    rc = ft_tokenizer_open(&s->tokenizer, o->tokenizer, st);
    if (!rc)
        rc = ft_corpus_open(&s->corpus, corpus, corpus_count, &corpus_options, st);
    s->encoders = ft_alloc_array(threads, sizeof(*s->encoders));
    s->encodings = ft_alloc_array(threads, sizeof(*s->encodings));
    if (!rc && (!s->encoders || !s->encodings))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    for (unsigned i = 0; i < threads && !rc; i++)
        rc = ft_encoder_new(&s->encoders[i], s->tokenizer, st);
    if (rc)
        return rc;
    const ft_index_writer_options writer_options = {.vocab_size = ft_tokenizer_vocab_size(s->tokenizer),
                                                    .end_of_text = ft_tokenizer_end_of_text(s->tokenizer),
                                                    .tokenizer = ft_tokenizer_path(s->tokenizer),
                                                    .owner = o->owner,
                                                    .memory_bytes = memory - fixed,
                                                    .pool = s->pool,
                                                    .replace = o->replace,
                                                    .progress = &o->progress};
    return ft_index_writer_new(&s->writer, folder, &writer_options, st);
}

static void close_all(build *s)
{
    ft_index_writer_abandon(s->writer);
    for (unsigned i = 0; i < ft_pool_size(s->pool); i++) {
        if (s->encoders)
            ft_encoder_free(s->encoders[i]);
        if (s->encodings)
            ft_encoding_release(&s->encodings[i]);
    }
    free(s->encoders);
    free(s->encodings);
    for (int i = 0; i < 2; i++) {
        batch_reset(&s->batches[i]);
        free(s->batches[i].documents);
        ft_buffer_release(&s->batches[i].bytes);
    }
    ft_corpus_close(s->corpus);
    ft_tokenizer_close(s->tokenizer);
    ft_pool_free(s->pool);
}

ft_code ft_index_build(const char *folder, const char *const *corpus, size_t corpus_count,
                       const ft_index_build_options *options, ft_index_build_report *report, ft_status *st)
{
    ft_index_build_report ignored;
    report = report ? report : &ignored;
    *report = (ft_index_build_report){0};
    build *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    ft_code rc = open_all(s, folder, corpus, corpus_count, options, st);
    if (!rc)
        rc = run_steps(s, &options->progress, st);
    if (!rc) {
        const ft_corpus_counts c = ft_corpus_progress(s->corpus);
        if (c.documents == 0)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: the corpus holds no document", corpus_count ? corpus[0] : folder);
        if (!rc) {
            rc = ft_index_writer_finish(s->writer, report, st);
            s->writer = NULL;
        }
        report->bad_documents = c.bad;
    }
    close_all(s);
    free(s);
    return rc;
}
