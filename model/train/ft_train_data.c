#include "model/train/ft_train_data.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_random.h"
#include "text/ft_corpus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SPOOL_TOKENS = 1 << 16 };

struct ft_train_data {
    const int32_t *tokens; /* the mapped spool */
    int spool;             /* descriptor + 1; 0: none */
    int32_t *pending;      /* [SPOOL_TOKENS] not written yet */
    size_t pending_count;
    uint64_t written, bytes; /* bytes of text */
    uint64_t *starts;        /* [documents + 1] */
    size_t documents, start_capacity;
    int16_t *domains; /* [documents], -1: none */
    size_t domain_capacity;
    int16_t domain;          /* of what is read now */
    uint64_t *first_example; /* [documents + 1] for one length, or NULL */
    size_t example_length;
    ft_digest digest;
    /* The order of one epoch: documents, and where each begins in the stream. */
    uint64_t seed, epoch;
    int ordered;
    uint32_t *order;   /* [documents] */
    uint64_t *ordinal; /* [documents + 1] */
};

/* --- Reading ----------------------------------------------------------------------------- */

static const char *spool_folder(void)
{
    const char *folder = getenv("TMPDIR");
    return folder && *folder ? folder : "/var/tmp";
}

/* A file that has no name: it is gone with the process, however that ends. */
static ft_code spool_open(ft_train_data *d, ft_status *st)
{
    char *path = ft_path_join(spool_folder(), "flextrace-tokens-XXXXXX");
    d->pending = ft_alloc_array(SPOOL_TOKENS, sizeof(*d->pending));
    const int f = path && d->pending ? mkstemp(path) : -1;
    if (f >= 0)
        (void)unlink(path);
    const ft_code rc =
        !path || !d->pending ? ft_fail(st, FT_ERR_MEM, "no memory for the corpus")
        : f < 0 ? ft_fail(st, FT_ERR_IO, "%s: no file for the corpus's tokens: %s; set TMPDIR", path, strerror(errno))
                : FT_OK;
    d->spool = f + 1;
    free(path);
    return rc;
}

static ft_code spool_flush(ft_train_data *d, ft_status *st)
{
    const char *at = (const char *)d->pending;
    size_t left = d->pending_count * sizeof(*d->pending);
    while (left) {
        const ssize_t n = write(d->spool - 1, at, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ft_fail(st, FT_ERR_IO, "%s: cannot keep the corpus's tokens: %s; set TMPDIR to a larger disk",
                           spool_folder(), strerror(errno));
        at += n;
        left -= (size_t)n;
    }
    d->written += d->pending_count;
    d->pending_count = 0;
    return FT_OK;
}

static ft_code append(ft_train_data *d, const uint32_t *ids, size_t count, uint32_t end, ft_status *st)
{
    const uint64_t at = d->documents ? d->starts[d->documents] : 0;
    ft_code rc = d->spool ? FT_OK : spool_open(d, st);
    if (!rc)
        rc = ft_array_grow((void **)&d->starts, &d->start_capacity, d->documents + 2, sizeof(*d->starts), st);
    if (!rc)
        rc = ft_array_grow((void **)&d->domains, &d->domain_capacity, d->documents + 1, sizeof(*d->domains), st);
    for (size_t i = 0; i <= count && !rc; i++) {
        d->pending[d->pending_count++] = (int32_t)(i < count ? ids[i] : end);
        if (d->pending_count == SPOOL_TOKENS)
            rc = spool_flush(d, st);
    }
    if (rc)
        return rc;
    d->starts[0] = 0;
    d->domains[d->documents] = d->domain;
    d->starts[++d->documents] = at + count + 1;
    return FT_OK;
}

static ft_code finish(ft_train_data *d, const char *where, ft_status *st)
{
    if (d->documents == 0 || d->documents > UINT32_MAX)
        return ft_fail(st, FT_ERR_FORMAT, "%s: %s; training needs documents", where,
                       d->documents ? "too many documents" : "holds no documents");
    d->order = ft_alloc_array(d->documents, sizeof(*d->order));
    d->ordinal = ft_alloc_array(d->documents + 1, sizeof(*d->ordinal));
    if (!d->order || !d->ordinal)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory for the order of %zu documents", where, d->documents);
    const ft_code rc = spool_flush(d, st);
    if (rc)
        return rc;
    free(d->pending);
    d->pending = NULL;
    void *map = mmap(NULL, d->written * sizeof(*d->tokens), PROT_READ, MAP_SHARED, d->spool - 1, 0);
    if (map == MAP_FAILED)
        return ft_fail(st, FT_ERR_IO, "%s: cannot map the corpus's tokens: %s", spool_folder(), strerror(errno));
    d->tokens = map;
    d->digest = ft_digest_of(d->tokens, d->written * sizeof(*d->tokens));
    for (size_t i = 0; i < d->documents; i++)
        if (d->domains[i] >= 0) { /* they count too, where there are any */
            ft_hasher h;
            ft_hasher_init(&h);
            ft_hasher_add(&h, &d->digest, sizeof(d->digest));
            ft_hasher_add(&h, d->domains, d->documents * sizeof(*d->domains));
            d->digest = ft_hasher_end(&h);
            break;
        }
    return FT_OK;
}

static ft_code read_all(ft_train_data *d, const char *const *paths, size_t count, const ft_tokenizer *tokenizer,
                        size_t vocab, const ft_progress *progress, ft_status *st)
{
    ft_corpus *corpus = NULL;
    ft_encoder *encoder = NULL;
    ft_encoding e = {0};
    int more = 1;
    const uint32_t end = ft_tokenizer_end_of_text(tokenizer);
    ft_code rc = ft_corpus_open(&corpus, paths, count, NULL, st);
    if (!rc)
        rc = ft_encoder_new(&encoder, tokenizer, st);
    while (!rc && more) {
        ft_document doc;
        const ft_corpus_counts c = ft_corpus_progress(corpus);
        if (ft_progress_report(progress, "tokenize", c.input_bytes, c.input_total, "bytes"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped while reading the corpus");
        if (!rc)
            rc = ft_corpus_next(corpus, &doc, &more, st);
        if (!rc && more)
            rc = ft_encoder_encode_ids(encoder, doc.text, doc.text_bytes, &e, st);
        for (size_t i = 0; i < e.count && !rc && more; i++)
            if (e.ids[i] >= vocab)
                rc = ft_fail(st, FT_ERR_FORMAT,
                             "%s: token %u; the model's vocabulary has %zu: this tokenizer is not its own",
                             ft_tokenizer_path(tokenizer), e.ids[i], vocab);
        if (!rc && more && e.count) {
            rc = append(d, e.ids, e.count, end, st);
            d->bytes += doc.text_bytes;
        }
    }
    ft_encoding_release(&e);
    ft_encoder_free(encoder);
    ft_corpus_close(corpus);
    return rc;
}

ft_code ft_train_data_open(ft_train_data **out, const char *const *paths, size_t count, const ft_tokenizer *tokenizer,
                           size_t vocab, const ft_progress *progress, ft_status *st)
{
    return ft_train_data_open_domains(out, paths, NULL, count, tokenizer, vocab, progress, st);
}

ft_code ft_train_data_open_domains(ft_train_data **out, const char *const *paths, const int32_t *domain, size_t count,
                                   const ft_tokenizer *tokenizer, size_t vocab, const ft_progress *progress,
                                   ft_status *st)
{
    *out = NULL;
    const uint32_t end = ft_tokenizer_end_of_text(tokenizer);
    if (end == FT_NO_TOKEN || end >= vocab)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: names no end-of-text token that the model has; put tokenizer_config.json "
                       "with eos_token beside it",
                       ft_tokenizer_path(tokenizer));
    ft_train_data *d = calloc(1, sizeof(*d));
    ft_code rc = d ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for the corpus");
    for (size_t i = 0, to; i < count && !rc; i = to) { /* paths of one domain together */
        for (to = i + 1; to < count && (!domain || domain[to] == domain[i]);)
            to++;
        d->domain = (int16_t)(domain ? domain[i] : -1);
        rc = read_all(d, paths + i, to - i, tokenizer, vocab, progress, st);
    }
    if (!rc)
        rc = finish(d, paths[0], st);
    if (rc)
        ft_train_data_close(d);
    else
        *out = d;
    return rc;
}

ft_code ft_train_data_of_ids(ft_train_data **out, const int32_t *tokens, const uint64_t *starts, size_t documents,
                             ft_status *st)
{
    *out = NULL;
    ft_train_data *d = calloc(1, sizeof(*d));
    ft_code rc = d ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for the tokens");
    if (d)
        d->domain = -1;
    for (size_t i = 0; i < documents && !rc; i++)
        rc = append(d, (const uint32_t *)tokens + starts[i], starts[i + 1] - starts[i] - 1,
                    (uint32_t)tokens[starts[i + 1] - 1], st);
    if (!rc)
        rc = finish(d, "the tokens", st);
    if (rc)
        ft_train_data_close(d);
    else
        *out = d;
    return rc;
}

void ft_train_data_close(ft_train_data *d)
{
    if (!d)
        return;
    if (d->tokens)
        munmap((void *)(uintptr_t)d->tokens, d->written * sizeof(*d->tokens));
    if (d->spool)
        close(d->spool - 1);
    free(d->pending);
    free(d->first_example);
    free(d->starts);
    free(d->domains);
    free(d->order);
    free(d->ordinal);
    free(d);
}

uint64_t ft_train_data_tokens(const ft_train_data *d)
{
    return d->starts[d->documents];
}

uint64_t ft_train_data_bytes(const ft_train_data *d)
{
    return d->bytes;
}

uint64_t ft_train_data_documents(const ft_train_data *d)
{
    return d->documents;
}

ft_digest ft_train_data_digest(const ft_train_data *d)
{
    return d->digest;
}

/* --- Packed windows ------------------------------------------------------------------------ */

static void put_in_order(ft_train_data *d, uint64_t seed, uint64_t epoch)
{
    ft_random r;
    if (d->ordered && d->seed == seed && d->epoch == epoch)
        return;
    ft_random_init(&r, seed * 0x9e3779b97f4a7c15u + epoch);
    for (size_t i = 0; i < d->documents; i++)
        d->order[i] = (uint32_t)i;
    for (size_t i = d->documents; i > 1; i--) {
        const size_t k = ft_random_below(&r, i);
        const uint32_t t = d->order[i - 1];
        d->order[i - 1] = d->order[k];
        d->order[k] = t;
    }
    for (size_t i = 0; i < d->documents; i++)
        d->ordinal[i + 1] = d->ordinal[i] + d->starts[d->order[i] + 1] - d->starts[d->order[i]];
    d->seed = seed;
    d->epoch = epoch;
    d->ordered = 1;
}

/* The document (in order) that holds position `at` of the stream. */
static size_t document_at(const ft_train_data *d, uint64_t at)
{
    size_t low = 0, high = d->documents;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (d->ordinal[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Where in the stream the i-th window of an epoch lies, of `windows`: each once. */
static uint64_t place_of(uint64_t i, uint64_t windows)
{
    __extension__ typedef unsigned __int128 uint128;
    uint64_t stride = (uint64_t)((double)windows * 0.6180339887498949);
    for (;; stride++) {
        uint64_t a = windows, b = stride;
        while (b) {
            const uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            return (uint64_t)((uint128)i * stride % windows);
    }
}

ft_code ft_train_data_window(ft_train_data *d, uint64_t seed, uint64_t window, size_t length, int32_t *ids,
                             int32_t *labels, uint32_t *begin, ft_status *st)
{
    const uint64_t each = d->starts[d->documents] / length; /* windows of an epoch */
    if (each == 0)
        return ft_fail(st, FT_ERR_FORMAT,
                       "the corpus has %llu tokens, fewer than one window of %zu; use a shorter --length",
                       (unsigned long long)d->starts[d->documents], length);
    put_in_order(d, seed, window / each);
    uint64_t at = place_of(window % each, each) * length;
    for (size_t i = 0, doc = document_at(d, at); i < length; doc++) {
        const uint64_t first = d->starts[d->order[doc]], end = d->ordinal[doc + 1];
        const size_t start = i;
        for (; i < length && at < end; i++, at++) {
            const uint64_t token = first + (at - d->ordinal[doc]);
            ids[i] = d->tokens[token];
            labels[i] = at + 1 < end ? d->tokens[token + 1] : -100;
            begin[i] = (uint32_t)start;
        }
    }
    return FT_OK;
}

void ft_train_data_domains(ft_train_data *d, uint64_t seed, uint64_t window, size_t length, int32_t *domain)
{
    const uint64_t each = d->starts[d->documents] / length;
    put_in_order(d, seed, window / each);
    uint64_t at = place_of(window % each, each) * length;
    for (size_t i = 0, doc = document_at(d, at); i < length; i++, at++) {
        while (at >= d->ordinal[doc + 1])
            doc++;
        domain[i] = d->domains[d->order[doc]];
    }
}

/* --- Examples --------------------------------------------------------------------------------- */

uint64_t ft_train_data_pieces(const ft_train_data *d, uint64_t document, size_t length)
{
    return (d->starts[document + 1] - d->starts[document] + length - 1) / length;
}

/* first_example for `length`; where memory is out, none. */
static void number_examples(ft_train_data *d, size_t length)
{
    if (d->example_length == length)
        return;
    free(d->first_example);
    d->first_example = ft_alloc_array(d->documents + 1, sizeof(*d->first_example));
    d->example_length = d->first_example ? length : 0;
    for (size_t i = 0; d->first_example && i < d->documents; i++)
        d->first_example[i + 1] = d->first_example[i] + ft_train_data_pieces(d, i, length);
}

uint64_t ft_train_data_examples(ft_train_data *d, size_t length)
{
    uint64_t n = 0;
    for (size_t i = 0; i < d->documents; i++)
        n += ft_train_data_pieces(d, i, length);
    return n;
}

void ft_train_data_piece(const ft_train_data *d, uint64_t document, uint64_t piece, size_t length, int32_t *ids,
                         int32_t *labels)
{
    const uint64_t at = d->starts[document] + piece * length, end = d->starts[document + 1];
    for (size_t i = 0; i < length; i++) {
        ids[i] = at + i < end ? d->tokens[at + i] : 0;
        labels[i] = at + i + 1 < end ? d->tokens[at + i + 1] : -100;
    }
}

void ft_train_data_example(ft_train_data *d, uint64_t example, size_t length, int32_t *ids, int32_t *labels)
{
    size_t doc = 0, high = d->documents;
    number_examples(d, length);
    while (d->first_example && high - doc > 1) {
        const size_t middle = doc + (high - doc) / 2;
        if (d->first_example[middle] <= example)
            doc = middle;
        else
            high = middle;
    }
    if (d->first_example)
        example -= d->first_example[doc];
    for (; example >= ft_train_data_pieces(d, doc, length); doc++)
        example -= ft_train_data_pieces(d, doc, length);
    ft_train_data_piece(d, doc, example, length, ids, labels);
    labels[length - 1] = -100; /* what follows is another example */
}
