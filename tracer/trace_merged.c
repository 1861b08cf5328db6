/* Documents merged over the spans they stand for, and spans merged where they overlap. */
#include "base/ft_buffer.h"
#include "tracer/trace_maker.h"

#include <stdlib.h>
#include <string.h>

/* --- Documents over spans --------------------------------------------------------- */

/* A found document with its place in the spans' JSON: docs[rank] of its span. */
typedef struct entry {
    const found *found;
    size_t rank;
} entry;

/* Entries [first, first + count) are one document's; best is the entry with the highest score. */
typedef struct document {
    size_t first, count, best;
    double score;
} document;

typedef struct merger {
    trace_maker *m;
    entry *entries;
    document *documents;
    const found **group; /* scratch */
    size_t count;
} merger;

static int by_document(const void *x, const void *y)
{
    const found *p = ((const entry *)x)->found, *q = ((const entry *)y)->found;
    if (p->index != q->index)
        return p->index < q->index ? -1 : 1;
    if (p->document.number != q->document.number)
        return p->document.number < q->document.number ? -1 : 1;
    return (p->span > q->span) - (p->span < q->span);
}

/* Entries stand in the order of documents, so the first of them decides between equals. */
static int by_score(const void *x, const void *y)
{
    const document *p = x, *q = y;
    return p->score != q->score ? (p->score > q->score ? -1 : 1) : (p->first > q->first) - (p->first < q->first);
}

static int is_same(const found *p, const found *q)
{
    return p->index == q->index && p->document.number == q->document.number;
}

static void group_entries(merger *g, size_t n)
{
    const found *items = g->m->found.items;
    for (size_t i = 0, rank = 0; i < n; i++) {
        rank = i && items[i - 1].span == items[i].span ? rank + 1 : 0;
        g->entries[i] = (entry){&items[i], rank};
    }
    if (n)
        qsort(g->entries, n, sizeof(*g->entries), by_document);
    for (size_t i = 0; i < n; i++) {
        const double score = g->entries[i].found->score;
        if (!i || !is_same(g->entries[i - 1].found, g->entries[i].found))
            g->documents[g->count++] = (document){.first = i, .best = i, .score = score};
        document *d = &g->documents[g->count - 1];
        d->count++;
        if (score > d->score) {
            d->best = i;
            d->score = score;
        }
    }
    if (g->count)
        qsort(g->documents, g->count, sizeof(*g->documents), by_score);
}

static ft_code document_over_spans(merger *g, const document *d, const json_t *spans, json_t *list, ft_status *st)
{
    static const char *const kept[] = {"owner", "id", "document", "source", "score", "relevance"};
    trace_maker *m = g->m;
    const entry *best = &g->entries[d->best];
    const json_t *docs = json_object_get(json_array_get(spans, best->found->span), "docs");
    const json_t *shown = json_array_get(docs, best->rank);
    json_t *out = json_object(), *numbers = json_array();
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        put(out, kept[i], json_incref(json_object_get(shown, kept[i])), &m->failed);
    for (size_t i = 0; i < d->count; i++) {
        g->group[i] = g->entries[d->first + i].found;
        m->failed |= json_array_append_new(numbers, json_size(g->group[i]->span)) != 0;
    }
    put(out, "spans", numbers, &m->failed);
    ft_code rc = show_tokens(m, m->options->document_tokens, st);
    if (!rc)
        rc = put_document_text(m, out, g->group, d->count, best->found, st);
    m->failed |= json_array_append_new(list, out) != 0;
    return rc;
}

ft_code documents_json(trace_maker *m, const json_t *spans, json_t **out, ft_status *st)
{
    const size_t n = m->found.count;
    merger g = {.m = m,
                .entries = ft_alloc_array(n, sizeof(*g.entries)),
                .documents = ft_alloc_array(n, sizeof(*g.documents)),
                .group = ft_alloc_array(n, sizeof(*g.group))};
    json_t *list = json_array();
    ft_code rc = list && g.entries && g.documents && g.group
                     ? FT_OK
                     : ft_fail(st, FT_ERR_MEM, "trace: no room for %zu documents", n);
    if (!rc)
        group_entries(&g, n);
    for (size_t i = 0; !rc && !m->failed && i < g.count; i++) {
        rc = go_on(m->options, i, st);
        if (!rc)
            rc = document_over_spans(&g, &g.documents[i], spans, list, st);
    }
    free(g.entries);
    free(g.documents);
    free(g.group);
    if (rc)
        json_decref(list);
    *out = rc ? NULL : list;
    return rc;
}

/* --- Spans over overlaps ------------------------------------------------------------- */

/* Where each span's merged one is; returns how many there are. Spans stand in order of start and of end. */
static size_t group_spans(const trace_maker *m, size_t *group)
{
    size_t count = 0;
    for (size_t i = 0; i < m->spans.count; i++) {
        count += !i || m->spans.spans[i].start >= m->spans.spans[i - 1].end;
        group[i] = count - 1;
    }
    return count;
}

/* Spans from *next on that are in one group, without documents. */
static json_t *merged_span(trace_maker *m, const size_t *group, size_t *next)
{
    json_t *out = json_object(), *spans = json_array();
    const size_t first = *next;
    for (; *next < m->spans.count && group[*next] == group[first]; ++*next)
        m->failed |= json_array_append_new(spans, json_size(*next)) != 0;
    put_stretch(m, out, m->spans.spans[first].start, m->spans.spans[*next - 1].end);
    put(out, "spans", spans, &m->failed);
    put(out, "documents", json_array(), &m->failed);
    put(out, "relevance", json_null(), &m->failed);
    return out;
}

/* Documents come best first, so the first one's relevance is the greatest. */
static void add_document(trace_maker *m, json_t *merged, size_t number, json_t *relevance)
{
    json_t *numbers = json_object_get(merged, "documents");
    const size_t count = json_array_size(numbers);
    if (count && json_integer_value(json_array_get(numbers, count - 1)) == (json_int_t)number)
        return; /* it stands for another of the spans too */
    if (!count)
        put(merged, "relevance", json_incref(relevance), &m->failed);
    m->failed |= json_array_append_new(numbers, json_size(number)) != 0;
}

json_t *merged_spans_json(trace_maker *m, const json_t *documents)
{
    size_t *group = ft_alloc_array(m->spans.count, sizeof(*group)), next = 0, i, k;
    json_t *list = group ? json_array() : NULL;
    const size_t count = list ? group_spans(m, group) : 0;
    const json_t *d, *span;
    for (i = 0; list && i < count; i++)
        m->failed |= json_array_append_new(list, merged_span(m, group, &next)) != 0;
    if (list && !m->failed)
        json_array_foreach(documents, i, d) json_array_foreach(json_object_get(d, "spans"), k, span)
            add_document(m, json_array_get(list, group[json_integer_value(span)]), i, json_object_get(d, "relevance"));
    free(group);
    return list;
}
