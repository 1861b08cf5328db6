#include "index/ft_text_source.h"

#include "base/ft_buffer.h"
#include "text/corpus_piece.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_PIECES = 1 << 14,
    ENCODING_FACTOR = 2,  /* bytes of ids for each byte of text: a token of 4 bytes is 4 bytes of text or so */
    PARSER_KEPT = 1 << 20 /* a parser's buffers above this are not kept for the next document */
};

/* A piece, and what became of it. */
typedef struct entry {
    size_t bytes, size, source, label; /* places in the batch's bytes; of a failure to cut: its message at `bytes` */
    const char *path;                  /* the corpus's own */
    uint64_t line;
    ft_corpus_format format;
    int cut; /* 0: it could not be */
    ft_code rc;
    int fatal;           /* rc is no matter of the document */
    char *block;         /* ids, id, metadata; or rc's message, NULL where there is no memory for that */
    size_t count;        /* ids */
    size_t id, metadata; /* places in the block */
    uint64_t text_bytes;
} entry;

typedef struct batch {
    ft_buffer bytes;
    entry *entries;
    size_t count, capacity;
    size_t left_bytes; /* of pieces that the parsers read */
    size_t source, label;
    uint64_t item; /* whose names stand there; 0: none */
    int ended;     /* the corpus holds no more */
    ft_code rc;
    ft_status st; /* of cutting as a whole */
} batch;

struct ft_text_source {
    ft_corpus *corpus;
    ft_pool *pool;
    size_t batch_bytes;
    int skip_bad;
    uint64_t skip;
    ft_corpus_parser *parsers; /* for each thread, as the next two */
    ft_encoder **encoders;
    ft_encoding *encodings;
    batch batches[2];
    batch *cutting, *working; /* of this step; `working` is NULL in the first */
    int encodes;              /* not while all of the batch is passed over */
};

/* --- Cutting ------------------------------------------------------------------------------ */

static void batch_reset(batch *b)
{
    for (size_t i = 0; i < b->count; i++)
        free(b->entries[i].block);
    b->count = b->left_bytes = 0;
    b->item = 0;
    ft_buffer_reset(&b->bytes);
}

static ft_code keep_bytes(batch *b, const char *bytes, size_t n, size_t *place, ft_status *st)
{
    *place = b->bytes.size;
    const ft_code rc = ft_buffer_append(&b->bytes, bytes, n, st);
    return rc ? rc : ft_buffer_append(&b->bytes, "", 1, st);
}

static ft_code keep_piece(batch *b, const ft_corpus_piece *piece, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&b->entries, &b->capacity, b->count + 1, sizeof(*b->entries), st);
    if (!rc && piece->item != b->item) {
        rc = keep_bytes(b, piece->source, strlen(piece->source), &b->source, st);
        if (!rc)
            rc = keep_bytes(b, piece->label, strlen(piece->label), &b->label, st);
        b->item = rc ? 0 : piece->item;
    }
    entry e = {.size = piece->size,
               .source = b->source,
               .label = b->label,
               .path = piece->path,
               .line = piece->line,
               .format = piece->format,
               .cut = 1};
    if (!rc && piece->bytes)
        rc = keep_bytes(b, piece->bytes, piece->size, &e.bytes, st);
    if (!rc) {
        b->left_bytes += piece->bytes ? 0 : piece->size;
        b->entries[b->count++] = e;
    }
    return rc;
}

static ft_code keep_failure(batch *b, ft_code failed, const char *why, ft_status *st)
{
    entry e = {.rc = failed};
    ft_code rc = ft_array_grow((void **)&b->entries, &b->capacity, b->count + 1, sizeof(*b->entries), st);
    if (!rc)
        rc = keep_bytes(b, why, strlen(why), &e.bytes, st);
    if (!rc)
        b->entries[b->count++] = e;
    return rc;
}

static void cut_batch(ft_text_source *s)
{
    batch *b = s->cutting;
    batch_reset(b);
    while (!b->rc && !b->ended && b->bytes.size + b->left_bytes < s->batch_bytes && b->count < BATCH_PIECES) {
        ft_corpus_piece piece;
        ft_status why = {0};
        int more = 0;
        const ft_code rc = ft_corpus_cut(s->corpus, &piece, &more, &why);
        if (rc)
            b->rc = keep_failure(b, rc, why.msg, &b->st);
        else if (more)
            b->rc = keep_piece(b, &piece, &b->st);
        b->ended = !more || rc == FT_ERR_MEM || (rc && !s->skip_bad); /* the last two end the reading */
    }
}

/* --- Parsing and tokenizing ------------------------------------------------------------------ */

static void fail_entry(entry *e, ft_code rc, int fatal, const ft_status *why)
{
    e->rc = rc;
    e->fatal = fatal;
    e->block = strdup(why->msg);
}

/* Into one block: ids, then the two strings. */
static ft_code keep_document(entry *e, const ft_document *d, const ft_encoding *ids, ft_status *st)
{
    const size_t id_bytes = strlen(d->id) + 1, metadata_bytes = d->metadata_bytes + 1;
    size_t ids_bytes, all;
    ft_code rc = ft_size_mul(ids->count, sizeof(*ids->ids), &ids_bytes, st);
    if (!rc)
        rc = ft_size_add(ids_bytes, id_bytes + metadata_bytes, &all, st);
    if (rc)
        return rc;
    e->block = malloc(all);
    if (!e->block)
        return ft_fail(st, FT_ERR_MEM, "document '%.200s': out of memory", d->id);
    if (ids->count)
        memcpy(e->block, ids->ids, ids_bytes);
    e->count = ids->count;
    e->id = ids_bytes;
    memcpy(e->block + e->id, d->id, id_bytes);
    e->metadata = e->id + id_bytes;
    memcpy(e->block + e->metadata, d->metadata, metadata_bytes - 1);
    e->block[e->metadata + metadata_bytes - 1] = '\0';
    return FT_OK;
}

static void trim(ft_corpus_parser *p)
{
    if (p->row.text.capacity + p->row.metadata.capacity + p->bytes.capacity + p->text.capacity > PARSER_KEPT)
        ft_corpus_parser_release(p);
}

static void work_on(ft_text_source *s, entry *e, unsigned worker)
{
    const batch *b = s->working;
    if (!e->cut)
        return;
    const ft_corpus_piece piece = {.format = e->format,
                                   .bytes = e->path ? NULL : b->bytes.data + e->bytes,
                                   .size = e->size,
                                   .path = e->path,
                                   .source = b->bytes.data + e->source,
                                   .label = b->bytes.data + e->label,
                                   .line = e->line};
    ft_document d;
    ft_status why = {0};
    ft_code rc = ft_corpus_piece_parse(&s->parsers[worker], &piece, &d, &why);
    if (rc) {
        fail_entry(e, rc, 0, &why);
        return;
    }
    e->text_bytes = d.text_bytes;
    if (s->encodes) {
        rc = ft_encoder_encode_ids(s->encoders[worker], d.text, d.text_bytes, &s->encodings[worker], &why);
        if (!rc)
            rc = keep_document(e, &d, &s->encodings[worker], &why);
        if (rc)
            fail_entry(e, rc, 1, &why);
    }
    trim(&s->parsers[worker]);
}

/* Task 0 cuts the next batch, the others each work on a piece of this one. */
static void step_task(void *context, size_t task, unsigned worker)
{
    ft_text_source *s = context;
    if (task == 0)
        cut_batch(s);
    else
        work_on(s, &s->working->entries[task - 1], worker);
}

/* --- In order again ---------------------------------------------------------------------------- */

static ft_code deliver_entry(ft_text_source *s, const entry *e, ft_text_document_fn *fn, void *context, ft_status *st)
{
    if (e->rc) {
        const char *kept = e->cut ? e->block : s->working->bytes.data + e->bytes, *why = kept ? kept : "out of memory";
        return e->fatal ? ft_fail(st, e->rc, "%s", why) : ft_corpus_settle(s->corpus, e->rc, why, st);
    }
    ft_corpus_count(s->corpus, 1, e->text_bytes, 0);
    if (s->skip) {
        s->skip--;
        return FT_OK;
    }
    const ft_text_document d = {.ids = (const uint32_t *)(const void *)e->block,
                                .count = e->count,
                                .id = e->block + e->id,
                                .metadata = e->block + e->metadata,
                                .text_bytes = e->text_bytes};
    return fn(context, &d, st);
}

static ft_code deliver(ft_text_source *s, ft_text_document_fn *fn, void *context, ft_status *st)
{
    batch *b = s->working;
    ft_code rc = FT_OK;
    for (size_t i = 0; i < b->count && !rc; i++) {
        rc = deliver_entry(s, &b->entries[i], fn, context, st);
        free(b->entries[i].block);
        b->entries[i].block = NULL;
    }
    if (!rc && b->rc)
        rc = ft_fail(st, b->rc, "%s", b->st.msg);
    return rc;
}

ft_code ft_text_source_next(ft_text_source *s, ft_text_document_fn *fn, void *context, int *more, ft_status *st)
{
    batch *b = s->working;
    s->cutting = b == &s->batches[0] ? &s->batches[1] : &s->batches[0];
    s->cutting->ended = b && (b->ended || b->rc); /* nothing is cut beside the last batch */
    s->encodes = b && s->skip < b->count;
    ft_pool_run(s->pool, 1 + (b ? b->count : 0), step_task, s);
    for (unsigned i = 0; i < ft_pool_size(s->pool); i++) {
        ft_corpus_count(s->corpus, 0, 0, s->parsers[i].input_bytes);
        s->parsers[i].input_bytes = 0;
    }
    const ft_code rc = b ? deliver(s, fn, context, st) : FT_OK;
    s->working = s->cutting;
    *more = s->working->count || s->working->rc || !s->working->ended;
    return rc;
}

ft_corpus_counts ft_text_source_progress(const ft_text_source *s)
{
    return ft_corpus_progress(s->corpus);
}

void ft_text_source_skip(ft_text_source *s, uint64_t n)
{
    s->skip = n;
}

/* --- Opening ------------------------------------------------------------------------------------ */

/* Two batches, whose memory doubles as they grow; ids and metadata of one; each thread's own. */
uint64_t ft_text_source_bytes(size_t batch_bytes, unsigned threads)
{
    return (uint64_t)batch_bytes * (5 + (uint64_t)threads * ENCODING_FACTOR / 2) +
           threads * (uint64_t)(FT_ENCODER_BYTES + PARSER_KEPT);
}

static ft_code open_threads(ft_text_source *s, const ft_tokenizer *tokenizer, ft_status *st)
{
    const unsigned threads = ft_pool_size(s->pool);
    s->parsers = ft_alloc_array(threads, sizeof(*s->parsers));
    s->encoders = ft_alloc_array(threads, sizeof(*s->encoders));
    s->encodings = ft_alloc_array(threads, sizeof(*s->encodings));
    if (!s->parsers || !s->encoders || !s->encodings)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    ft_code rc = FT_OK;
    for (unsigned i = 0; i < threads && !rc; i++) {
        ft_corpus_parser_init(&s->parsers[i], s->corpus);
        rc = ft_encoder_new(&s->encoders[i], tokenizer, st);
    }
    return rc;
}

ft_code ft_text_source_open(ft_text_source **out, const char *const *paths, size_t count,
                            const ft_corpus_options *options, const ft_tokenizer *tokenizer, ft_pool *pool,
                            size_t batch_bytes, ft_status *st)
{
    *out = NULL;
    ft_text_source *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    s->pool = pool;
    s->batch_bytes = batch_bytes;
    s->skip_bad = options->skip_bad;
    ft_code rc = ft_corpus_open(&s->corpus, paths, count, options, st);
    if (!rc)
        rc = open_threads(s, tokenizer, st);
    if (rc)
        ft_text_source_close(s);
    else
        *out = s;
    return rc;
}

void ft_text_source_close(ft_text_source *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < ft_pool_size(s->pool); i++) {
        if (s->parsers)
            ft_corpus_parser_release(&s->parsers[i]);
        if (s->encoders)
            ft_encoder_free(s->encoders[i]);
        if (s->encodings)
            ft_encoding_release(&s->encodings[i]);
    }
    free(s->parsers);
    free(s->encoders);
    free(s->encodings);
    for (int i = 0; i < 2; i++) {
        batch_reset(&s->batches[i]);
        free(s->batches[i].entries);
        ft_buffer_release(&s->batches[i].bytes);
    }
    ft_corpus_close(s->corpus);
    free(s);
}
