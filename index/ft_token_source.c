/* Two kinds of input behind one handle. Both come down to a run of ids in a mapped file,
 * of some width and direction; what follows from there is the same for both. */
#include "index/ft_token_source.h"

#include "base/ft_buffer.h"
#include "base/ft_npy.h"
#include "base/ft_utf8.h"
#include "index/ft_input_fingerprint.h"
#include "index/ft_part.h"
#include "text/corpus_row.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PAGE = 1 << 16,    /* a multiple of every machine's page */
    WINDOW = 32 << 20, /* bytes that stay mapped behind the reader, and are read ahead */
    NUMBER_ROOM = 24,  /* a document's number in digits */
    REPORT_TOKENS = 1 << 24
};

struct ft_token_source {
    ft_token_source_info info;
    uint64_t limit;            /* every id is below */
    uint32_t *converted;       /* the current document, where the file's own bytes do not serve */
    size_t converted_capacity; /* in ids */
    char number[NUMBER_ROOM];

    /* Arrays. */
    char *tokens_path, *offsets_path, *lines_path;
    ft_npy tokens, offsets;
    ft_map lines;
    uint64_t *line_starts; /* [documents + 1], each behind a newline; NULL: no lines */

    /* Infini-gram. */
    ft_index *ix;
    uint64_t least_documents; /* of a shard; up to here every shard takes part in each round */

    ft_corpus_row row;                   /* the current document's id and metadata */
    uint64_t passed[FT_INDEX_MAX_PARTS]; /* bytes of each tokens file that are unmapped */
};

/* One document's ids as the file has them. */
typedef struct run {
    const unsigned char *at;
    size_t count;
    unsigned bytes; /* of an id: 1, 2, 4 or 8 */
    int reversed;   /* the last id comes first */
    const ft_map *map;
    unsigned shard;
    uint64_t number; /* of the document */
} run;

/* --- Ids ------------------------------------------------------------------------------ */

/* The largest of ids[0..n); 0 for none. Sixteen maxima at a time, which compilers turn
 * into vectors: the order does not matter. */
static uint32_t largest(const uint32_t *ids, size_t n)
{
    uint32_t lane[16] = {0}, max = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++)
            lane[j] = ids[i + j] > lane[j] ? ids[i + j] : lane[j];
    for (; i < n; i++)
        max = ids[i] > max ? ids[i] : max;
    for (size_t j = 0; j < 16; j++)
        max = lane[j] > max ? lane[j] : max;
    return max;
}

/* Element i of the file's order. */
static uint64_t element(const run *r, size_t i)
{
    uint64_t v = 0; /* little-endian, as the files are */
    memcpy(&v, r->at + i * r->bytes, r->bytes);
    return v;
}

/* What 32 bits cannot hold becomes UINT32_MAX, which is no id. */
static void convert(const run *r, uint32_t *out)
{
    uint16_t v16;
    uint64_t v64;
    switch (r->bytes) {
    case 1:
        for (size_t i = 0; i < r->count; i++)
            out[i] = r->at[i];
        break;
    case 2:
        for (size_t i = 0; i < r->count; i++) {
            memcpy(&v16, r->at + 2 * i, 2);
            out[i] = v16;
        }
        break;
    case 4:
        memcpy(out, r->at, r->count * 4);
        break;
    default:
        for (size_t i = 0; i < r->count; i++) {
            memcpy(&v64, r->at + 8 * i, 8);
            out[i] = v64 > UINT32_MAX ? UINT32_MAX : (uint32_t)v64;
        }
    }
    for (size_t i = 0, j = r->count; r->reversed && i + 1 < j; i++) {
        const uint32_t t = out[i];
        out[i] = out[--j];
        out[j] = t;
    }
}

static ft_code fail_token(const ft_token_source *s, const run *r, ft_status *st)
{
    size_t i = 0;
    while (i + 1 < r->count && element(r, i) < s->limit)
        i++;
    const uint64_t v = element(r, i), at = (uint64_t)(r->at - r->map->data) + (uint64_t)i * r->bytes;
    char where[64], what[160];
    if (s->ix)
        snprintf(where, sizeof(where), "tokenized.%u: byte %" PRIu64, r->shard, at);
    else
        snprintf(where, sizeof(where), "element %" PRIu64,
                 (at - (uint64_t)((const unsigned char *)s->tokens.data - s->tokens.map.data)) / r->bytes);
    const ft_npy_type type = s->tokens.type;
    const int64_t shown = !s->ix && type == FT_NPY_INT32 ? (int32_t)v : (int64_t)v;
    if (s->ix && v == s->ix->parts[r->shard].end)
        snprintf(what, sizeof(what), "a separator within document %" PRIu64 "; the folder is damaged", r->number);
    else if (shown < 0 && type != FT_NPY_UINT64)
        snprintf(what, sizeof(what), "token id %" PRId64 " is negative", shown);
    else if (s->info.vocab_size)
        snprintf(what, sizeof(what),
                 "token id %" PRIu64 ", but the vocabulary ends at %" PRIu64
                 "; give the tokenizer that made these tokens",
                 v, s->limit);
    else
        snprintf(what, sizeof(what), "token id %" PRIu64 " is larger than any tokenizer's", v);
    return ft_fail(st, FT_ERR_FORMAT, "%s%s%s: %s", s->ix ? s->ix->folder : s->tokens_path, s->ix ? "/" : ": ", where,
                   what);
}

/* The run's ids as a view, all below the limit. */
static ft_code read_run(ft_token_source *s, const run *r, const uint32_t **out, ft_status *st)
{
    if (r->bytes == 4 && !r->reversed && (uintptr_t)r->at % _Alignof(uint32_t) == 0) {
        *out = (const uint32_t *)(const void *)r->at;
    } else {
        const ft_code rc =
            ft_array_grow((void **)&s->converted, &s->converted_capacity, r->count + 1, sizeof(*s->converted), st);
        if (rc)
            return rc;
        convert(r, s->converted);
        *out = s->converted;
    }
    const uint32_t max = largest(*out, r->count);
    if (r->count && max >= s->limit)
        return fail_token(s, r, st);
    s->info.max_id = max > s->info.max_id ? max : s->info.max_id;
    return FT_OK;
}

/* Mapped pages count as resident, so those behind the reader are given back (the page
 * cache keeps them), and those before it are asked for. Advice may fail without harm. */
static void pass(ft_token_source *s, const run *r)
{
    uint64_t *passed = &s->passed[r->shard];
    const uint64_t at = (uint64_t)(r->at - r->map->data) / PAGE * PAGE;
    if (at >= *passed && at - *passed < WINDOW)
        return;
    unsigned char *base = (unsigned char *)(uintptr_t)r->map->data;
    if (at > *passed)
        (void)madvise(base + *passed, at - *passed, MADV_DONTNEED);
    if (at < r->map->bytes)
        (void)madvise(base + at, r->map->bytes - at < 2 * WINDOW ? r->map->bytes - at : 2 * WINDOW, MADV_WILLNEED);
    *passed = at;
}

/* --- Arrays ----------------------------------------------------------------------------- */

static unsigned bytes_of(ft_npy_type type)
{
    return type == FT_NPY_UINT8 ? 1 : type == FT_NPY_UINT16 ? 2 : type == FT_NPY_INT64 || type == FT_NPY_UINT64 ? 8 : 4;
}

/* A negative offset comes out as one that is too large. */
static uint64_t offset_at(const ft_token_source *s, uint64_t i)
{
    const unsigned char *data = s->offsets.data;
    uint64_t wide;
    uint32_t narrow;
    if (bytes_of(s->offsets.type) == 8) {
        memcpy(&wide, data + i * 8, 8);
        return wide;
    }
    memcpy(&narrow, data + i * 4, 4);
    return s->offsets.type == FT_NPY_INT32 ? (uint64_t)(int32_t)narrow : narrow;
}

static ft_code fail_offset(const ft_token_source *s, uint64_t i, const char *expected, uint64_t value, ft_status *st)
{
    char shown[24];
    snprintf(shown, sizeof(shown), s->offsets.type == FT_NPY_UINT64 ? "%" PRIu64 : "%" PRId64, offset_at(s, i));
    return ft_fail(st, FT_ERR_FORMAT,
                   "%s: element %" PRIu64 ": offset %s, expected %s %" PRIu64
                   "; a document's offset counts the tokens before it",
                   s->offsets_path, i, shown, expected, value);
}

static ft_code check_offsets(const ft_token_source *s, ft_status *st)
{
    const uint64_t n = s->info.documents;
    uint64_t before = 0;
    if (offset_at(s, 0) != 0)
        return fail_offset(s, 0, "exactly", 0, st);
    for (uint64_t i = 1; i <= n; i++) {
        const uint64_t at = offset_at(s, i);
        if (at < before)
            return fail_offset(s, i, "at least", before, st);
        if (at > s->info.tokens)
            return fail_offset(s, i, "at most the number of tokens,", s->info.tokens, st);
        before = at;
    }
    return before == s->info.tokens ? FT_OK : fail_offset(s, n, "the number of tokens,", s->info.tokens, st);
}

static ft_code array_run(const ft_token_source *s, uint64_t number, run *r, ft_status *st)
{
    const uint64_t from = offset_at(s, number), to = offset_at(s, number + 1);
    if (from > to || to > s->info.tokens) /* they were in order when the source was opened */
        return ft_fail(st, FT_ERR_FORMAT, "%s: element %" PRIu64 ": changed while it was read", s->offsets_path,
                       number);
    *r = (run){.at = (const unsigned char *)s->tokens.data + from * s->info.token_bytes,
               .count = (size_t)(to - from),
               .bytes = s->info.token_bytes,
               .map = &s->tokens.map,
               .number = number};
    return FT_OK;
}

static ft_code fail_lines(const ft_token_source *s, const char *than, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT,
                   "%s: %s lines than the %" PRIu64 " documents of %s; give one JSON object a line for each document",
                   s->lines_path, than, s->info.documents, s->offsets_path);
}

/* Where each line starts, so that documents can be passed over. */
static ft_code open_lines(ft_token_source *s, ft_status *st)
{
    ft_code rc = ft_map_open(&s->lines, s->lines_path, st);
    if (rc)
        return rc;
    const uint64_t n = s->info.documents;
    s->line_starts = ft_alloc_array(n + 1, sizeof(*s->line_starts));
    if (!s->line_starts)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->lines_path);
    uint64_t at = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (at == s->lines.bytes)
            return fail_lines(s, "fewer", st);
        const unsigned char *end = memchr(s->lines.data + at, '\n', (size_t)(s->lines.bytes - at));
        at = end ? (uint64_t)(end - s->lines.data) + 1 : s->lines.bytes;
        s->line_starts[i + 1] = at;
    }
    return at == s->lines.bytes ? FT_OK : fail_lines(s, "more", st);
}

static ft_code open_arrays(ft_token_source *s, ft_status *st)
{
    const char *const paths[] = {s->tokens_path, s->offsets_path, s->lines_path};
    ft_code rc = ft_input_fingerprint(paths, s->lines_path ? 3 : 2, &s->info.fingerprint, st);
    if (!rc)
        rc = ft_npy_open(&s->tokens, s->tokens_path, st);
    if (!rc)
        rc = ft_npy_open(&s->offsets, s->offsets_path, st);
    if (rc)
        return rc;
    const ft_npy_type t = s->tokens.type, o = s->offsets.type;
    if (s->tokens.dims != 1 || t == FT_NPY_FLOAT32 || t == FT_NPY_FLOAT64)
        return ft_fail(st, FT_ERR_FORMAT, "%s: tokens must be integers in one dimension, best int32 or uint32",
                       s->tokens_path);
    if (s->offsets.dims != 1 || s->offsets.count == 0 || bytes_of(o) < 4 || o == FT_NPY_FLOAT32 || o == FT_NPY_FLOAT64)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: offsets must be uint64, int64, uint32 or int32 in one dimension, one for the start of each "
                       "document and one for the end",
                       s->offsets_path);
    s->info.documents = s->offsets.count - 1;
    s->info.tokens = s->tokens.count;
    s->info.input_bytes = s->tokens.map.bytes;
    s->info.token_bytes = bytes_of(t);
    rc = check_offsets(s, st);
    return rc || !s->lines_path ? rc : open_lines(s, st);
}

/* --- Infini-gram ------------------------------------------------------------------------- */

/* Documents in the first `rounds` rounds over the shards. */
static uint64_t documents_in(const ft_index *ix, uint64_t rounds)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < ix->part_count; i++)
        sum += ix->parts[i].documents < rounds ? ix->parts[i].documents : rounds;
    return sum;
}

/* Number in the folder's own order of the document that was the builder's `number`-th. */
static uint64_t folder_number(const ft_token_source *s, uint64_t number)
{
    const ft_index *ix = s->ix;
    uint64_t round = number / ix->part_count;
    if (round < s->least_documents)
        return ix->parts[number % ix->part_count].first_document + round;
    uint64_t lo = s->least_documents, hi = ix->info.documents; /* documents_in(lo) <= number < documents_in(hi) */
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (documents_in(ix, mid) <= number)
            lo = mid;
        else
            hi = mid;
    }
    round = lo;
    uint64_t left = number - documents_in(ix, round);
    unsigned shard = 0;
    while (ix->parts[shard].documents <= round || left-- > 0)
        shard++;
    return ix->parts[shard].first_document + round;
}

static ft_code shard_run(const ft_token_source *s, uint64_t number, run *r, ft_doc_ref *doc, ft_status *st)
{
    const ft_code rc = ft_index_document(s->ix, folder_number(s, number), doc, st);
    if (rc)
        return rc;
    const ft_part *p = &s->ix->parts[doc->part];
    *r = (run){.at = p->tokens + doc->start * p->token_bytes,
               .count = (size_t)doc->length,
               .bytes = p->token_bytes,
               .reversed = p->reversed,
               .map = &p->token_map,
               .shard = doc->part,
               .number = number};
    return FT_OK;
}

static ft_code open_shards(ft_token_source *s, const char *folder, const ft_infinigram_options *options, ft_status *st)
{
    ft_code rc = ft_input_fingerprint(&folder, 1, &s->info.fingerprint, st);
    if (!rc)
        rc = ft_index_open_infinigram(&s->ix, folder, options, st);
    if (rc)
        return rc;
    const ft_index_info info = ft_index_get_info(s->ix);
    s->info.documents = info.documents;
    s->info.tokens = info.tokens;
    s->info.token_bytes = info.token_bytes;
    s->least_documents = UINT64_MAX;
    for (unsigned i = 0; i < s->ix->part_count; i++) {
        const ft_part *p = &s->ix->parts[i];
        s->info.input_bytes += p->token_map.bytes;
        s->least_documents = p->documents < s->least_documents ? p->documents : s->least_documents;
        s->limit = p->end < s->limit ? p->end : s->limit;
    }
    return FT_OK;
}

/* --- Both --------------------------------------------------------------------------------- */

static int is_utf8(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        const ft_utf8_step step = ft_utf8_next(text + i, n - i);
        if (!step.valid)
            return 0;
        i += step.length;
    }
    return 1;
}

/* id and metadata out of the document's line, where it has one; `doc` is infini-gram's. */
static ft_code read_texts(ft_token_source *s, const ft_doc_ref *doc, ft_token_document *out, ft_status *st)
{
    const char *line = NULL;
    size_t n = 0;
    if (s->line_starts) {
        line = (const char *)s->lines.data + s->line_starts[out->number];
        n = (size_t)(s->line_starts[out->number + 1] - s->line_starts[out->number]);
    } else if (s->ix && s->ix->parts[doc->part].metaoff_map.data) {
        line = doc->metadata;
        n = doc->metadata_bytes;
    }
    if (!line)
        return FT_OK;
    ft_code rc = is_utf8(line, n) ? FT_OK : ft_fail(st, FT_ERR_FORMAT, "not valid UTF-8");
    if (!rc)
        rc = s->ix ? ft_corpus_row_parse_origin(&s->row, line, n, st)
                   : ft_corpus_row_parse_description(&s->row, line, n, st);
    if (rc && s->ix)
        ft_status_prefix(st, "%s/metadata.%u: line %" PRIu64, s->ix->folder, doc->part,
                         doc->number - s->ix->parts[doc->part].first_document + 1);
    else if (rc)
        ft_status_prefix(st, "%s: line %" PRIu64, s->lines_path, out->number + 1);
    if (rc)
        return rc;
    if (s->row.id.size)
        out->id = s->row.id.data;
    out->metadata = s->row.metadata.data;
    out->metadata_bytes = s->row.metadata.size;
    return FT_OK;
}

static ft_code source_new(ft_token_source **out, const char *name, uint32_t vocab_size, ft_status *st)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", name);
    (*out)->info.vocab_size = vocab_size;
    (*out)->limit = vocab_size ? vocab_size : (uint64_t)1 << 31;
    return FT_OK;
}

ft_code ft_token_source_open_arrays(ft_token_source **out, const char *tokens_npy, const char *offsets_npy,
                                    const char *documents_jsonl, uint32_t vocab_size, ft_status *st)
{
    *out = NULL;
    ft_token_source *s;
    ft_code rc = source_new(&s, tokens_npy, vocab_size, st);
    if (rc)
        return rc;
    s->tokens_path = strdup(tokens_npy);
    s->offsets_path = strdup(offsets_npy);
    s->lines_path = documents_jsonl ? strdup(documents_jsonl) : NULL;
    if (!s->tokens_path || !s->offsets_path || (documents_jsonl && !s->lines_path))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", tokens_npy);
    if (!rc)
        rc = open_arrays(s, st);
    if (!rc)
        *out = s;
    else
        ft_token_source_close(s);
    return rc;
}

ft_code ft_token_source_open_infinigram(ft_token_source **out, const char *folder, const ft_infinigram_options *options,
                                        ft_status *st)
{
    *out = NULL;
    ft_token_source *s;
    ft_code rc = source_new(&s, folder, options->vocab_size, st);
    if (!rc)
        rc = open_shards(s, folder, options, st);
    if (!rc)
        *out = s;
    else
        ft_token_source_close(s);
    return rc;
}

void ft_token_source_close(ft_token_source *s)
{
    if (!s)
        return;
    ft_npy_close(&s->tokens);
    ft_npy_close(&s->offsets);
    ft_map_close(&s->lines);
    ft_index_close(s->ix);
    ft_corpus_row_release(&s->row);
    free(s->tokens_path);
    free(s->offsets_path);
    free(s->lines_path);
    free(s->line_starts);
    free(s->converted);
    free(s);
}

ft_code ft_token_source_next(ft_token_source *s, ft_token_document *out, int *more, ft_status *st)
{
    *more = 0;
    *out = (ft_token_document){.number = s->info.next_document, .id = s->number, .metadata = "{}", .metadata_bytes = 2};
    if (s->info.next_document >= s->info.documents)
        return FT_OK;
    s->info.next_document++;
    snprintf(s->number, sizeof(s->number), "%" PRIu64, out->number);
    run r;
    ft_doc_ref doc = {0};
    ft_code rc = s->ix ? shard_run(s, out->number, &r, &doc, st) : array_run(s, out->number, &r, st);
    if (rc)
        return rc;
    pass(s, &r);
    rc = read_run(s, &r, &out->tokens, st);
    if (!rc)
        rc = read_texts(s, &doc, out, st);
    if (rc)
        return rc;
    out->count = r.count;
    s->info.tokens_read += r.count;
    *more = 1;
    return FT_OK;
}

void ft_token_source_skip(ft_token_source *s, uint64_t n)
{
    const uint64_t left = s->info.documents - s->info.next_document;
    s->info.next_document += n < left ? n : left;
}

ft_code ft_token_source_check(ft_token_source *s, const ft_progress *progress, ft_status *st)
{
    uint64_t done = 0, reported = 0;
    for (uint64_t i = 0; i < s->info.documents; i++) {
        run r;
        ft_doc_ref doc = {0};
        const uint32_t *ids;
        ft_code rc = s->ix ? shard_run(s, i, &r, &doc, st) : array_run(s, i, &r, st);
        if (rc)
            return rc;
        pass(s, &r);
        rc = read_run(s, &r, &ids, st);
        if (rc)
            return rc;
        done += r.count;
        if (done - reported < REPORT_TOKENS && i + 1 < s->info.documents)
            continue;
        reported = done;
        if (ft_progress_report(progress, "check", done, s->info.tokens, "tokens"))
            return ft_fail(st, FT_ERR_CANCELLED, "stopped while the tokens were checked");
    }
    return FT_OK;
}

ft_token_source_info ft_token_source_get_info(const ft_token_source *s)
{
    return s->info;
}
