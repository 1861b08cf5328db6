/* What a trace shows of the documents that it found. */
#include "base/ft_buffer.h"
#include "tracer/lexicon_internal.h"
#include "tracer/trace_maker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_METADATA_BYTES = 64 << 10, /* larger metadata is left out of the trace */
    MAX_PLACED_TOKENS = 1 << 20    /* before a match whose place in the whole document is told */
};

static json_t *parse_metadata(const ft_doc_ref *document)
{
    json_t *metadata = NULL;
    if (document->metadata_bytes == 2 && !memcmp(document->metadata, "{}", 2)) /* mostly */
        return json_object();
    if (document->metadata_bytes <= MAX_METADATA_BYTES &&
        ft_json_parse(&metadata, document->metadata, document->metadata_bytes, "metadata", NULL) == FT_OK &&
        json_is_object(metadata))
        return metadata;
    json_decref(metadata);
    return json_object();
}

/* The recorded id; infini-gram keeps it in the metadata, or else file and line. */
static json_t *document_id(const ft_doc_ref *document, const json_t *metadata)
{
    const json_t *inner = json_object_get(metadata, "metadata"), *id = json_object_get(inner, "id");
    const json_t *path = json_object_get(metadata, "path"), *line = json_object_get(metadata, "linenum");
    if (document->id_bytes)
        return ft_json_text(document->id, document->id_bytes);
    if (json_is_string(id))
        return json_deep_copy(id);
    if (json_is_string(path) && json_is_integer(line))
        return json_sprintf("%s:%" JSON_INTEGER_FORMAT, json_string_value(path), json_integer_value(line));
    return json_sprintf("document %" PRIu64, document->number);
}

json_t *trace_document_id(const ft_doc_ref *document)
{
    json_t *metadata = parse_metadata(document), *id = metadata ? document_id(document, metadata) : NULL;
    json_decref(metadata);
    return id;
}

static json_t *document_source(const json_t *metadata, json_t *id)
{
    json_t *source = json_object_get(metadata, "source");
    if (!json_is_string(source))
        source = json_object_get(json_object_get(metadata, "metadata"), "source");
    return json_is_string(source) ? json_incref(source) : json_incref(id);
}

/* --- Text around a match ---------------------------------------------------------- */

/* A stretch of a document as text. */
typedef struct stretch {
    uint64_t from;        /* its first token in the document */
    const text_map *text; /* the maker's, until the next is read; NULL: no text */
} stretch;

static ft_code read_stretch(trace_maker *m, const found *f, size_t around, stretch *out, ft_status *st)
{
    const ft_span *span = &m->spans.spans[f->span];
    uint64_t to;
    size_t copied = 0;
    window_around(f, span->end - span->start, around / 2, around - around / 2, &out->from, &to);
    const size_t n = (size_t)(to - out->from);
    ft_code rc = ft_array_grow((void **)&m->ids, &m->ids_capacity, n, sizeof(*m->ids), st);
    if (rc)
        return rc;
    ft_index_document_tokens(m->flat.indexes[f->index], &f->document, out->from, n, m->ids, &copied);
    const unsigned flags = (out->from > 0 ? TEXT_TRIM_START : 0u) | (to < f->document.length ? TEXT_TRIM_END : 0u);
    rc = text_map_make(&m->shown, m->lexicon, m->ids, copied, flags, st);
    out->text = rc ? NULL : &m->shown;
    return rc;
}

/* Where a match lies in the stretch; 0 when it is not all inside. */
static int find_match(const trace_maker *m, const stretch *s, const found *f, boundary *start, boundary *end)
{
    const size_t n = m->spans.spans[f->span].end - m->spans.spans[f->span].start;
    if (!s->text || f->position < s->from || f->position - s->from > s->text->n ||
        n > s->text->n - (size_t)(f->position - s->from))
        return 0;
    *start = s->text->at[f->position - s->from];
    *end = s->text->at[f->position - s->from + n];
    return 1;
}

static const char *const match_names[] = {"match_start_byte", "match_end_byte", "match_start_char", "match_end_char"};
static const char *const place_names[] = {"start_byte", "end_byte", "start_char", "end_char"};
static const char *const document_names[] = {"document_start_byte", "document_end_byte", "document_start_char",
                                             "document_end_char"};

/* Four numbers, `bytes` and `characters` further on; or null. */
static void put_four(json_t *out, const char *const names[4], int known, boundary start, boundary end, uint64_t bytes,
                     uint64_t characters, int *failed)
{
    const uint64_t values[4] = {start.floor + bytes, end.ceil + bytes, start.floor_char + characters,
                                end.ceil_char + characters};
    for (size_t i = 0; i < 4; i++)
        put(out, names[i], known ? json_size(values[i]) : json_null(), failed);
}

/* --- Places in the whole document -------------------------------------------------- */

/* By document; in one, by place. */
static int by_place(const void *x, const void *y)
{
    const found *p = *(found *const *)x, *q = *(found *const *)y;
    if (p->index != q->index)
        return p->index < q->index ? -1 : 1;
    if (p->document.number != q->document.number)
        return p->document.number < q->document.number ? -1 : 1;
    return (p->position > q->position) - (p->position < q->position);
}

/* Adds up tokens [from, to) of the document; 0 when they cannot be read. */
static int measure(const trace_maker *m, const found *f, uint64_t from, uint64_t to, uint64_t *bytes,
                   uint64_t *characters)
{
    enum { PIECE = 1024 };
    uint32_t ids[PIECE];
    size_t copied;
    for (uint64_t at = from; at < to; at += copied) {
        const size_t n = to - at < PIECE ? (size_t)(to - at) : PIECE;
        ft_index_document_tokens(m->flat.indexes[f->index], &f->document, at, n, ids, &copied);
        if (!copied)
            return 0;
        lexicon_measure(m->lexicon, ids, copied, bytes, characters);
    }
    return 1;
}

/* A document's places are taken in order, each from the one before, so that no token is looked at twice. */
static void place_document(void *context, size_t document)
{
    const placing *p = context;
    const size_t before = p->m->options->snippet_tokens / 2;
    uint64_t at = 0, bytes = 0, characters = 0;
    for (size_t i = p->starts[document]; i < p->starts[document + 1]; i++) {
        found *f = p->order[i];
        const uint64_t from = f->position > before ? f->position - before : 0;
        f->placed = from <= MAX_PLACED_TOKENS && measure(p->m, f, at, from, &bytes, &characters);
        f->bytes_before = bytes;
        f->characters_before = characters;
        at = f->placed ? from : at;
    }
}

ft_code placing_begin(placing *p, const trace_maker *m, ft_status *st)
{
    const size_t n = m->found.count;
    size_t documents = 0;
    memset(p, 0, sizeof(*p));
    p->m = m;
    if (!m->lexicon || !m->options->document_places || !n)
        return FT_OK;
    p->order = ft_alloc_array(n, sizeof(*p->order));
    p->starts = ft_alloc_array(n + 1, sizeof(*p->starts));
    if (!p->order || !p->starts)
        return ft_fail(st, FT_ERR_MEM, "trace: no room for %zu documents", n);
    for (size_t i = 0; i < n; i++)
        p->order[i] = &m->found.items[i];
    qsort(p->order, n, sizeof(*p->order), by_place);
    for (size_t i = 0; i < n; i++)
        if (!i || p->order[i - 1]->index != p->order[i]->index ||
            p->order[i - 1]->document.number != p->order[i]->document.number)
            p->starts[documents++] = i;
    p->starts[documents] = n;
    ft_beside_begin(&p->tasks, documents, place_document, p);
    return FT_OK;
}

ft_code placing_end(placing *p, ft_code rc, ft_status *st)
{
    for (size_t step = 0; !rc && ft_beside_step(&p->tasks); step++)
        rc = go_on(p->m->options, step, st);
    ft_beside_end(&p->tasks);
    free(p->order);
    free(p->starts);
    return rc;
}

/* --- JSON --------------------------------------------------------------------------- */

static ft_code put_snippet(trace_maker *m, json_t *out, const found *f, ft_status *st)
{
    const boundary none = {0};
    const int placed = m->options->document_places;
    if (!m->lexicon) {
        put(out, "snippet", json_null(), &m->failed);
        put_four(out, match_names, 0, none, none, 0, 0, &m->failed);
        if (placed)
            put_four(out, document_names, 0, none, none, 0, 0, &m->failed);
        return FT_OK;
    }
    stretch s = {0};
    boundary start = none, end = none;
    const ft_code rc = read_stretch(m, f, m->options->snippet_tokens, &s, st);
    if (rc)
        return rc;
    const int inside = find_match(m, &s, f, &start, &end);
    put(out, "snippet", json_stringn_nocheck(s.text->text.data, s.text->text.size), &m->failed);
    put_four(out, match_names, inside, start, end, 0, 0, &m->failed);
    if (placed) {
        put_four(out, document_names, inside && f->placed, start, end, f->bytes_before + s.text->trimmed,
                 f->characters_before, &m->failed);
    }
    return FT_OK;
}

json_t *document_json(trace_maker *m, const found *f, ft_status *st)
{
    json_t *out = json_object(), *metadata = parse_metadata(&f->document);
    json_t *id = document_id(&f->document, metadata);
    put(out, "owner", json_string_nocheck(m->scope->owners[f->owner].name), &m->failed);
    put(out, "id", json_incref(id), &m->failed);
    put(out, "document", json_size(f->document.number), &m->failed);
    put(out, "source", document_source(metadata, id), &m->failed);
    put(out, "metadata", metadata, &m->failed);
    put(out, "position", json_size(f->position), &m->failed);
    put(out, "length", json_size(f->document.length), &m->failed);
    put(out, "score", m->lexicon ? json_real(f->score) : json_null(), &m->failed);
    put(out, "relevance", m->lexicon ? json_string(relevance_of(m, f->score)) : json_null(), &m->failed);
    const ft_code rc = put_snippet(m, out, f, st);
    json_decref(id);
    if (!rc && !m->failed)
        return out;
    json_decref(out);
    if (!rc)
        (void)ft_fail(st, FT_ERR_MEM, "trace: no room for a document");
    return NULL;
}

ft_code put_document_text(trace_maker *m, json_t *out, const found *const *group, size_t count, const found *best,
                          ft_status *st)
{
    stretch s = {0};
    json_t *matches = json_array();
    ft_code rc = m->lexicon ? read_stretch(m, best, m->options->document_tokens, &s, st) : FT_OK;
    if (!rc) {
        put(out, "text", m->lexicon ? json_stringn_nocheck(s.text->text.data, s.text->text.size) : json_null(),
            &m->failed);
        put(out, "text_position", m->lexicon ? json_size(s.from) : json_null(), &m->failed);
    }
    for (size_t i = 0; !rc && i < count; i++) {
        json_t *x = json_object();
        boundary start = {0}, end = {0};
        const int inside = m->lexicon && find_match(m, &s, group[i], &start, &end);
        put(x, "span", json_size(group[i]->span), &m->failed);
        put(x, "position", json_size(group[i]->position), &m->failed);
        put_four(x, place_names, inside, start, end, 0, 0, &m->failed);
        m->failed |= json_array_append_new(matches, x) != 0;
    }
    put(out, "matches", matches, &m->failed);
    return rc;
}
