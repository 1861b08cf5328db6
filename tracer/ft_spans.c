#include "tracer/ft_spans.h"

#include "base/ft_buffer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

ft_span_rules ft_span_rules_default(void)
{
    return (ft_span_rules){.min_len = 1, .max_cnt = 1000000, .density = 0.05, .rank = FT_RANK_UNIGRAM};
}

void ft_spans_release(ft_spans *s)
{
    if (!s)
        return;
    free(s->longest);
    free(s->spans);
    memset(s, 0, sizeof(*s));
}

/* Longest match at each position, over all indexes. */
static ft_code match_everywhere(ft_index_set set, const uint32_t *ids, size_t n, size_t *longest, ft_status *st)
{
    size_t *one = ft_alloc_array(n, sizeof(*one));
    if (!one)
        return ft_fail(st, FT_ERR_MEM, "spans: no room for %zu positions", n);
    for (size_t i = 0; i < set.count; i++) {
        ft_index_match_all(set.indexes[i], ids, n, one, NULL);
        for (size_t l = 0; l < n; l++)
            longest[l] = one[l] > longest[l] ? one[l] : longest[l];
    }
    free(one);
    return FT_OK;
}

/* For every position, where a span that reaches it may end, so that the rules cost
 * O(n) together: cut[l] is one past the first delimiter at or after l (n: none);
 * whole[r] is the furthest end <= r that does not split a word. */
typedef struct limits {
    size_t *cut, *whole;
} limits;

static ft_code find_limits(limits *m, const uint32_t *ids, size_t n, const ft_span_rules *rules, ft_status *st)
{
    m->cut = ft_alloc_array(n + 1, sizeof(*m->cut));
    m->whole = ft_alloc_array(n + 1, sizeof(*m->whole));
    if (!m->cut || !m->whole)
        return ft_fail(st, FT_ERR_MEM, "spans: no room for %zu positions", n);
    m->cut[n] = n;
    for (size_t l = n; l-- > 0;)
        m->cut[l] = rules->delimiters && ft_token_set_has(rules->delimiters, ids[l]) ? l + 1 : m->cut[l + 1];
    for (size_t r = 0; r <= n; r++)
        m->whole[r] = r == n || !rules->word_starts || ft_token_set_has(rules->word_starts, ids[r]) ? r
                      : r                                                                           ? m->whole[r - 1]
                                                                                                    : 0;
    return FT_OK;
}

static ft_code add_span(ft_spans *s, ft_span span, ft_status *st)
{
    const ft_code rc = ft_array_grow((void **)&s->spans, &s->capacity, s->count + 1, sizeof(*s->spans), st);
    if (!rc)
        s->spans[s->count++] = span;
    return rc;
}

/* Counts all, and drops those with more than max_cnt. */
static ft_code count_spans(ft_index_set set, const uint32_t *ids, const ft_span_rules *rules, ft_spans *s,
                           ft_status *st)
{
    ft_stretch *stretches = ft_alloc_array(s->count, sizeof(*stretches));
    if (!stretches)
        return ft_fail(st, FT_ERR_MEM, "spans: no room for %zu of them", s->count);
    for (size_t i = 0; i < s->count; i++)
        stretches[i] = (ft_stretch){s->spans[i].start, s->spans[i].end};
    for (size_t i = 0; i < set.count; i++)
        ft_index_expect(set.indexes[i], ids, stretches, s->count);
    free(stretches);
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        ft_span span = s->spans[i];
        span.count = ft_query_count(set, ids + span.start, span.end - span.start);
        if (span.count <= rules->max_cnt)
            s->spans[kept++] = span;
    }
    s->count = kept;
    return FT_OK;
}

static ft_code collect(ft_index_set set, const uint32_t *ids, size_t n, const ft_span_rules *rules, ft_spans *s,
                       ft_status *st)
{
    limits m = {0};
    ft_code rc = find_limits(&m, ids, n, rules, st);
    size_t kept_end = 0;
    for (size_t l = 0; !rc && l < n; l++) {
        if (rules->word_starts && !ft_token_set_has(rules->word_starts, ids[l]))
            continue;
        size_t r = l + s->longest[l];
        r = r < m.cut[l] ? r : m.cut[l];
        r = m.whole[r];
        /* Ends never move back from a start to the next one, so the last span is the only
         * one that could hold this one. Should that turn out to occur too often, then so
         * does this one, which is a piece of it. */
        if (r <= l || r - l < rules->min_len || r <= kept_end)
            continue;
        rc = add_span(s, (ft_span){.start = l, .end = r}, st);
        kept_end = r;
    }
    if (!rc && s->count)
        rc = count_spans(set, ids, rules, s, st);
    free(m.cut);
    free(m.whole);
    return rc;
}

/* Sum over the span's tokens of ln(occurrences / total), over all indexes. */
static void weigh(ft_index_set set, const uint32_t *ids, ft_spans *s)
{
    double total = 0;
    for (size_t i = 0; i < set.count; i++) {
        const ft_index_info info = ft_index_get_info(set.indexes[i]);
        total += (double)(info.tokens + info.documents);
    }
    for (size_t k = 0; k < s->count; k++) {
        ft_span *span = &s->spans[k];
        span->unigram_logprob_sum = 0;
        for (size_t t = span->start; t < span->end; t++) {
            uint64_t count = 0;
            for (size_t i = 0; i < set.count; i++)
                count += ft_index_unigram(set.indexes[i], ids[t]);
            /* A damaged table may deny a token that the text holds: count it once. */
            span->unigram_logprob_sum += log((double)(count ? count : 1) / total);
        }
    }
}

static int by_unigram(const void *x, const void *y)
{
    const ft_span *p = x, *q = y;
    if (p->unigram_logprob_sum != q->unigram_logprob_sum)
        return p->unigram_logprob_sum < q->unigram_logprob_sum ? -1 : 1;
    return (p->start > q->start) - (p->start < q->start);
}

static int by_length(const void *x, const void *y)
{
    const ft_span *p = x, *q = y;
    const size_t a = p->end - p->start, b = q->end - q->start;
    return a != b ? (a > b ? -1 : 1) : (p->start > q->start) - (p->start < q->start);
}

static int by_start(const void *x, const void *y)
{
    const ft_span *p = x, *q = y;
    return (p->start > q->start) - (p->start < q->start);
}

/* The best ceil(density * n), back in order of start. */
static void keep_best(ft_spans *s, const ft_span_rules *rules)
{
    const double limit = ceil(rules->density * (double)s->n);
    if (rules->density <= 0 || limit >= (double)s->count)
        return;
    qsort(s->spans, s->count, sizeof(*s->spans), rules->rank == FT_RANK_LENGTH ? by_length : by_unigram);
    s->count = (size_t)limit;
    qsort(s->spans, s->count, sizeof(*s->spans), by_start);
}

ft_code ft_spans_find(ft_index_set set, const uint32_t *ids, size_t n, const ft_span_rules *rules, ft_spans *out,
                      ft_status *st)
{
    memset(out, 0, sizeof(*out));
    out->n = n;
    out->longest = ft_alloc_array(n, sizeof(*out->longest));
    ft_code rc = out->longest ? FT_OK : ft_fail(st, FT_ERR_MEM, "spans: no room for %zu positions", n);
    if (!rc)
        rc = match_everywhere(set, ids, n, out->longest, st);
    if (!rc)
        rc = collect(set, ids, n, rules, out, st);
    if (!rc) {
        weigh(set, ids, out);
        keep_best(out, rules);
    } else {
        ft_spans_release(out);
    }
    return rc;
}
