/* Which documents a span stands in, ranked. */
#include "base/ft_buffer.h"
#include "base/ft_random.h"
#include "tracer/ft_bm25.h"
#include "tracer/trace_maker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW_TOKENS = 250, /* on each side of the match: what BM25 reads, as OLMoTrace's page asks for */
    MAX_FOUND = 1000000  /* documents in one trace */
};

ft_code flat_indexes_make(flat_indexes *out, const ft_trace_scope *scope, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    size_t count = 0;
    for (size_t o = 0; o < scope->owner_count; o++)
        count += scope->owners[o].index_count;
    out->indexes = ft_alloc_array(count, sizeof(*out->indexes));
    out->owners = ft_alloc_array(count, sizeof(*out->owners));
    if (!out->indexes || !out->owners) {
        flat_indexes_release(out);
        return ft_fail(st, FT_ERR_MEM, "trace: no room for %zu indexes", count);
    }
    for (size_t o = 0; o < scope->owner_count; o++)
        for (size_t i = 0; i < scope->owners[o].index_count; i++) {
            out->owners[out->count] = o;
            out->indexes[out->count++] = scope->owners[o].indexes[i];
        }
    return FT_OK;
}

void flat_indexes_release(flat_indexes *f)
{
    free(f->indexes);
    free(f->owners);
    memset(f, 0, sizeof(*f));
}

void found_list_release(found_list *l)
{
    free(l->items);
    memset(l, 0, sizeof(*l));
}

/* --- Finding ------------------------------------------------------------------ */

/* The occurrences of one span in one index, handed out in random order. */
typedef struct draw {
    ft_match match;
    uint64_t *order; /* all of them, shuffled; NULL: too many, so drawn with repetition */
    uint64_t drawn;
} draw;

static ft_code draw_start(draw *d, const ft_index *ix, const uint32_t *ids, size_t n, uint64_t few, ft_random *random,
                          ft_status *st)
{
    ft_index_find(ix, ids, n, &d->match);
    if (!d->match.count || d->match.count > few)
        return FT_OK;
    d->order = ft_alloc_array(d->match.count, sizeof(*d->order));
    if (!d->order)
        return ft_fail(st, FT_ERR_MEM, "trace: no room for %" PRIu64 " occurrences", d->match.count);
    for (uint64_t i = 0; i < d->match.count; i++) {
        const uint64_t j = ft_random_below(random, i + 1);
        d->order[i] = d->order[j];
        d->order[j] = i;
    }
    return FT_OK;
}

/* The next occurrence as part and rank; 0 when all were handed out. */
static int draw_next(draw *d, ft_random *random, unsigned *part, uint64_t *rank)
{
    if (d->order ? d->drawn >= d->match.count : !d->match.count)
        return 0;
    uint64_t i = d->order ? d->order[d->drawn] : ft_random_below(random, d->match.count);
    d->drawn++;
    for (*part = 0; *part < FT_INDEX_MAX_PARTS; ++*part) {
        const uint64_t here = d->match.part[*part].hi - d->match.part[*part].lo;
        if (i < here) {
            *rank = d->match.part[*part].lo + i;
            return 1;
        }
        i -= here;
    }
    return 0;
}

/* Looks an occurrence up; *added says whether its document was new to the span. */
static ft_code add_occurrence(found_list *out, size_t first, found f, const ft_index *ix, unsigned part, uint64_t rank,
                              size_t match_tokens, int *added, ft_status *st)
{
    const uint64_t at = ft_index_position(ix, part, rank);
    const ft_code rc = ft_index_document_at(ix, part, at, &f.document, st);
    if (rc)
        return rc;
    const ft_index_info info = ft_index_get_info(ix);
    const uint64_t offset = at - f.document.start;
    if (offset > f.document.length || match_tokens > f.document.length - offset)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: a match at position %" PRIu64 " leaves its document; the index is damaged", info.folder,
                       at);
    /* Version 5 stores documents last token first. */
    const int reversed = info.is_infinigram && info.infinigram_version == 5;
    f.position = reversed ? f.document.length - offset - match_tokens : offset;
    for (size_t i = first; i < out->count; i++)
        if (out->items[i].index == f.index && out->items[i].document.number == f.document.number) {
            if (f.position < out->items[i].position)
                out->items[i].position = f.position;
            return FT_OK;
        }
    *added = 1;
    const ft_code grown = ft_array_grow((void **)&out->items, &out->capacity, out->count + 1, sizeof(*out->items), st);
    if (!grown)
        out->items[out->count++] = f;
    return grown;
}

/* A span's sample depends on the seed and on its own tokens, not on what stands around it. */
static uint64_t span_seed(uint64_t seed, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        seed = (seed ^ ids[i]) * 0x9E3779B97F4A7C15u + 0xD1B54A32D192ED03u;
    return seed;
}

/* One document of each index in turn, until there are enough or no more. */
static ft_code find_span_documents(trace_maker *m, size_t span, draw *draws, ft_status *st)
{
    const flat_indexes *flat = &m->flat;
    const ft_trace_options *options = m->options;
    found_list *out = &m->found;
    const uint32_t *ids = m->input->response + m->spans.spans[span].start;
    const size_t n = m->spans.spans[span].end - m->spans.spans[span].start;
    const uint64_t *counts = m->spans.index_counts + span * flat->count;
    const size_t first = out->count;
    const uint64_t patience = 8 * (uint64_t)options->max_documents + 64;
    ft_random random;
    ft_random_init(&random, span_seed(options->sample_seed, ids, n));
    ft_code rc = FT_OK;
    memset(draws, 0, flat->count * sizeof(*draws));
    for (size_t i = 0; !rc && i < flat->count; i++)
        if (counts[i])
            rc = draw_start(&draws[i], flat->indexes[i], ids, n, patience, &random, st);
    for (int more = 1; !rc && more;) {
        more = 0;
        for (size_t i = 0; !rc && i < flat->count; i++) {
            int added = 0;
            unsigned part;
            uint64_t rank;
            const found f = {.span = span, .owner = flat->owners[i], .index = i};
            while (!rc && !added && out->count - first < options->max_documents && draws[i].drawn < patience &&
                   draw_next(&draws[i], &random, &part, &rank))
                rc = add_occurrence(out, first, f, flat->indexes[i], part, rank, n, &added, st);
            more |= added;
        }
    }
    for (size_t i = 0; i < flat->count; i++)
        free(draws[i].order);
    return rc;
}

/* --- Scoring ------------------------------------------------------------------ */

void window_around(const found *f, size_t match_tokens, size_t before, size_t after, uint64_t *from, uint64_t *to)
{
    const uint64_t end = f->position + match_tokens;
    *from = f->position > before ? f->position - before : 0;
    *to = f->document.length - end > after ? end + after : f->document.length;
}

/* OLMoTrace's query: prompt, a space, response. */
static ft_code make_query(ft_buffer *query, const ft_tokenizer *t, const ft_trace_input *input, ft_status *st)
{
    ft_code rc = ft_tokenizer_decode(t, input->prompt, input->prompt_count, 0, query, st);
    if (!rc)
        rc = ft_buffer_append(query, " ", 1, st);
    if (!rc)
        rc = ft_tokenizer_decode(t, input->response, input->response_count, 0, query, st);
    return rc;
}

ft_code go_on(const ft_trace_options *options, size_t step, ft_status *st)
{
    if (step % 64 == 0 && options->stop && options->stop(options->stop_context))
        return ft_fail(st, FT_ERR_CANCELLED, "trace: stopped before it was finished");
    return FT_OK;
}

/* Gives the ranker every window, as tokens. */
static ft_code rank_windows(trace_maker *m, ft_ranker *ranker, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < m->found.count; i++) {
        const found *f = &m->found.items[i];
        const ft_span *span = &m->spans.spans[f->span];
        uint64_t from, to;
        size_t copied;
        window_around(f, span->end - span->start, WINDOW_TOKENS, WINDOW_TOKENS, &from, &to);
        rc = go_on(m->options, i, st);
        if (!rc)
            rc = ft_array_grow((void **)&m->ids, &m->ids_capacity, (size_t)(to - from), sizeof(*m->ids), st);
        if (rc)
            break;
        ft_index_document_tokens(m->flat.indexes[f->index], &f->document, from, (size_t)(to - from), m->ids, &copied);
        rc = ft_ranker_add_tokens(ranker, m->lexicon, m->ids, copied, st);
    }
    return rc;
}

static ft_code score_all(trace_maker *m, ft_status *st)
{
    found_list *l = &m->found;
    ft_buffer query = {0};
    ft_ranker *ranker = NULL;
    double *scores = ft_alloc_array(l->count, sizeof(*scores));
    ft_code rc = scores ? FT_OK : ft_fail(st, FT_ERR_MEM, "trace: no room for %zu scores", l->count);
    if (!rc)
        rc = make_query(&query, m->scope->tokenizer, m->input, st);
    if (!rc)
        rc = ft_ranker_new(&ranker, (ft_text_view){query.data, query.size}, st);
    if (!rc)
        rc = rank_windows(m, ranker, st);
    if (!rc) {
        ft_ranker_scores(ranker, scores);
        for (size_t i = 0; i < l->count; i++)
            l->items[i].score = scores[i];
    }
    ft_ranker_free(ranker);
    ft_buffer_release(&query);
    free(scores);
    return rc;
}

static int best_first(const void *x, const void *y)
{
    const found *p = x, *q = y;
    if (p->span != q->span)
        return p->span < q->span ? -1 : 1;
    if (p->score != q->score)
        return p->score > q->score ? -1 : 1;
    if (p->index != q->index)
        return p->index < q->index ? -1 : 1;
    return (p->document.number > q->document.number) - (p->document.number < q->document.number);
}

ft_code find_documents(trace_maker *m, ft_status *st)
{
    found_list *out = &m->found;
    const size_t spans = m->spans.count;
    if (spans && m->options->max_documents > MAX_FOUND / spans)
        return ft_fail(st, FT_ERR_LIMIT,
                       "%zu spans with %zu documents each are more than a trace holds; ask for fewer documents, "
                       "a density above 0, or trace a shorter text",
                       spans, m->options->max_documents);
    draw *draws = ft_alloc_array(m->flat.count, sizeof(*draws));
    ft_code rc = draws ? FT_OK : ft_fail(st, FT_ERR_MEM, "trace: no room for %zu indexes", m->flat.count);
    for (size_t s = 0; !rc && m->options->max_documents && s < spans; s++) {
        rc = go_on(m->options, s, st);
        if (!rc)
            rc = find_span_documents(m, s, draws, st);
    }
    free(draws);
    if (rc)
        return rc;
    placing p;
    rc = placing_begin(&p, m, st);
    if (!rc && m->lexicon && out->count)
        rc = score_all(m, st);
    rc = placing_end(&p, rc, st);
    if (!rc && out->count)
        qsort(out->items, out->count, sizeof(*out->items), best_first);
    return rc;
}
