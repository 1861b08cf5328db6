#include "tracer/ft_spans.h"

#include "base/ft_beside.h"
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
    free(s->logprobs);
    free(s->spans);
    free(s->index_longest);
    free(s->index_counts);
    memset(s, 0, sizeof(*s));
}

/* --- The tracker -------------------------------------------------------------------- */

/* A span that the rules let pass, before the best are chosen. */
typedef struct candidate {
    ft_span span;
    size_t counts;   /* where in `counts` its occurrences in each index stand; NOT_COUNTED */
    uint64_t rarest; /* occurrences of its rarest token */
    int frequent;    /* more than max_cnt; it hides what lies inside it all the same */
} candidate;
#define NOT_COUNTED SIZE_MAX

/* One that may be chosen: the least weight first. */
typedef struct choice {
    double weight;
    size_t number;
} choice;

struct ft_span_tracker {
    const ft_index **indexes; /* [index_count] */
    ft_digest *roots;         /* [index_count] their states */
    size_t index_count;
    ft_span_rules rules;
    double total; /* tokens of all indexes, ends of documents among them */
    uint32_t *ids;
    size_t *ends;          /* [index_count, capacity]: where the longest match of a position ends */
    size_t *furthest;      /* [capacity] over all indexes */
    size_t *whole;         /* [capacity] the last word start at or before a position */
    double *logprobs;      /* [capacity] of each token under the unigram model */
    uint64_t *occurrences; /* [capacity] of each token */
    size_t n, capacity;
    candidate *candidates;
    size_t candidate_count, candidate_capacity;
    uint64_t *counts; /* index_count for each candidate that was counted */
    size_t counts_used, counts_capacity;
    ft_span *spans; /* the best of them */
    choice *order;  /* [span_count] which candidates they are; scratch beyond */
    size_t span_count, span_capacity, order_capacity;
};

void ft_span_tracker_free(ft_span_tracker *t)
{
    if (!t)
        return;
    free(t->indexes);
    free(t->roots);
    free(t->ids);
    free(t->ends);
    free(t->furthest);
    free(t->whole);
    free(t->logprobs);
    free(t->occurrences);
    free(t->candidates);
    free(t->counts);
    free(t->spans);
    free(t->order);
    free(t);
}

ft_code ft_span_tracker_new(ft_span_tracker **out, ft_index_set set, const ft_span_rules *rules, ft_status *st)
{
    *out = NULL;
    ft_span_tracker *t = calloc(1, sizeof(*t));
    if (t) {
        t->indexes = ft_alloc_array(set.count, sizeof(*t->indexes));
        t->roots = ft_alloc_array(set.count, sizeof(*t->roots));
    }
    if (!t || !t->indexes || !t->roots) {
        ft_span_tracker_free(t);
        return ft_fail(st, FT_ERR_MEM, "spans: no room for %zu indexes", set.count);
    }
    t->index_count = set.count;
    t->rules = *rules;
    for (size_t i = 0; i < set.count; i++) {
        const ft_index_info info = ft_index_get_info(set.indexes[i]);
        t->indexes[i] = set.indexes[i];
        t->roots[i] = info.root;
        t->total += (double)(info.tokens + info.documents);
    }
    *out = t;
    return FT_OK;
}

int ft_span_tracker_is_of(const ft_span_tracker *t, ft_index_set set)
{
    int same = set.count == t->index_count;
    for (size_t i = 0; same && i < set.count; i++) {
        const ft_digest root = ft_index_get_info(set.indexes[i]).root;
        same = set.indexes[i] == t->indexes[i] && !memcmp(&root, &t->roots[i], sizeof(root));
    }
    return same;
}

size_t ft_span_tracker_length(const ft_span_tracker *t)
{
    return t->n;
}

const ft_span *ft_span_tracker_spans(const ft_span_tracker *t, size_t *count)
{
    *count = t->span_count;
    return t->spans;
}

/* Room for n tokens; `ends` has a row for each index, so it is laid out anew. */
static ft_code grow(ft_span_tracker *t, size_t n, ft_status *st)
{
    if (n <= t->capacity)
        return FT_OK;
    const size_t wanted = t->n ? n + n / 2 + 64 : n;
    size_t cells;
    ft_code rc = ft_size_mul(t->index_count, wanted, &cells, st);
    if (rc)
        return rc;
    size_t *ends = ft_alloc_array(cells, sizeof(*ends));
    size_t a = t->capacity, b = t->capacity, c = t->capacity, d = t->capacity, e = t->capacity;
    rc = ends ? FT_OK : ft_fail(st, FT_ERR_MEM, "spans: no room for %zu positions", n);
    if (!rc)
        rc = ft_array_grow((void **)&t->ids, &a, wanted, sizeof(*t->ids), st);
    if (!rc)
        rc = ft_array_grow((void **)&t->furthest, &b, wanted, sizeof(*t->furthest), st);
    if (!rc)
        rc = ft_array_grow((void **)&t->whole, &e, wanted, sizeof(*t->whole), st);
    if (!rc)
        rc = ft_array_grow((void **)&t->logprobs, &c, wanted, sizeof(*t->logprobs), st);
    if (!rc)
        rc = ft_array_grow((void **)&t->occurrences, &d, wanted, sizeof(*t->occurrences), st);
    if (rc) {
        free(ends);
        return rc;
    }
    for (size_t i = 0; i < t->index_count && t->n; i++)
        memcpy(ends + i * wanted, t->ends + i * t->capacity, t->n * sizeof(*ends));
    free(t->ends);
    t->ends = ends;
    t->capacity = wanted;
    return FT_OK;
}

/* --- Matches -------------------------------------------------------------------------- */

static int occurs(const ft_index *ix, const uint32_t *ids, size_t n)
{
    ft_match m;
    ft_index_find(ix, ids, n, &m);
    return m.count != 0;
}

/* The first position whose match reached the end of the `n` tokens there were; n: none. Ends
 * never move back from a position to the next. */
static size_t first_open(const size_t *ends, size_t n)
{
    size_t l = n;
    while (l > 0 && ends[l - 1] == n)
        l--;
    return l;
}

/* Position n is told. Of the matches that reached the end those go on that begin late
 * enough: the earliest is found by halving. */
static void match_one(const ft_index *ix, const uint32_t *ids, size_t n, size_t open, size_t *ends)
{
    size_t low = open, high = n + 1; /* in [low, high] lies the earliest that reaches n + 1; n + 1: none does */
    if (occurs(ix, ids + open, n + 1 - open))
        high = low;
    else
        low++;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (occurs(ix, ids + middle, n + 1 - middle))
            high = middle;
        else
            low = middle + 1;
    }
    for (size_t l = low; l <= n; l++)
        ends[l] = n + 1;
    if (low > n)
        ends[n] = n; /* no match at all */
}

/* What of each index is searched anew: from `open` on. */
typedef struct matching {
    ft_span_tracker *t;
    size_t more;
} matching;

static void match_index(void *context, size_t i)
{
    enum { ONE_BY_ONE = 4 };
    const matching *m = context;
    ft_span_tracker *t = m->t;
    const size_t n = t->n, more = m->more;
    size_t *ends = t->ends + i * t->capacity;
    const size_t open = first_open(ends, n);
    if (n && more <= ONE_BY_ONE) {
        for (size_t at = n; at < n + more; at++)
            match_one(t->indexes[i], t->ids, at, first_open(ends, at), ends);
        return;
    }
    ft_index_match_all(t->indexes[i], t->ids + open, n + more - open, ends + open, NULL);
    for (size_t l = open; l < n + more; l++)
        ends[l] += l;
}

/* Matches of ids[0..n + more), of which n were there. Returns the first position that changed. For a long text two
 * threads search: an index each, and then the next. */
static size_t match_more(ft_span_tracker *t, size_t more)
{
    enum { LONG = 64 };
    const size_t n = t->n;
    matching m = {t, more};
    ft_beside tasks;
    size_t first = n;
    for (size_t i = 0; i < t->index_count; i++) {
        const size_t open = first_open(t->ends + i * t->capacity, n);
        first = open < first ? open : first;
    }
    if (more >= LONG && t->index_count > 1) {
        ft_beside_begin(&tasks, t->index_count, match_index, &m);
        while (ft_beside_step(&tasks)) {
        }
        ft_beside_end(&tasks);
    } else {
        for (size_t i = 0; i < t->index_count; i++)
            match_index(&m, i);
    }
    for (size_t l = first; l < n + more; l++) {
        t->furthest[l] = l;
        for (size_t i = 0; i < t->index_count; i++) {
            const size_t end = t->ends[i * t->capacity + l];
            t->furthest[l] = end > t->furthest[l] ? end : t->furthest[l];
        }
    }
    return first;
}

/* --- Rules ---------------------------------------------------------------------------- */

static int starts_word(const ft_span_tracker *t, size_t at)
{
    return !t->rules.word_starts || ft_token_set_has(t->rules.word_starts, t->ids[at]);
}

/* Where a span that begins at l ends: at its match's end, behind the first delimiter, and
 * not inside a word. */
static size_t span_end(const ft_span_tracker *t, size_t l, size_t *delimiter)
{
    size_t r = t->furthest[l];
    for (*delimiter = *delimiter > l ? *delimiter : l; *delimiter < r; ++*delimiter)
        if (t->rules.delimiters && ft_token_set_has(t->rules.delimiters, t->ids[*delimiter])) {
            r = *delimiter + 1;
            break;
        }
    if (t->rules.word_starts && r < t->n)
        r = t->whole[r] > l ? t->whole[r] : l;
    return r;
}

/* An index whose own match at the start is shorter does not hold the span. */
static ft_code count_candidate(ft_span_tracker *t, candidate *c, ft_status *st)
{
    const ft_span *span = &c->span;
    if (c->counts != NOT_COUNTED)
        return FT_OK;
    const ft_code rc = ft_array_grow((void **)&t->counts, &t->counts_capacity, t->counts_used + t->index_count,
                                     sizeof(*t->counts), st);
    if (rc)
        return rc;
    c->counts = t->counts_used;
    t->counts_used += t->index_count;
    for (size_t i = 0; i < t->index_count; i++) {
        ft_match m = {0};
        if (t->ends[i * t->capacity + span->start] >= span->end)
            ft_index_find(t->indexes[i], t->ids + span->start, span->end - span->start, &m);
        t->counts[c->counts + i] = m.count;
        c->span.count += m.count;
    }
    return FT_OK;
}

/* What has to come from the disk for the counts of t->order[0..count) is brought in together. */
static ft_code expect(const ft_span_tracker *t, size_t count, ft_status *st)
{
    enum { FEW = 3 };
    ft_stretch *stretches = count > FEW ? ft_alloc_array(count, sizeof(*stretches)) : NULL;
    size_t wanted = 0;
    if (count <= FEW)
        return FT_OK;
    if (!stretches)
        return ft_fail(st, FT_ERR_MEM, "spans: no room for %zu of them", count);
    for (size_t i = 0; i < count; i++) {
        const candidate *c = &t->candidates[t->order[i].number];
        if (c->counts == NOT_COUNTED)
            stretches[wanted++] = (ft_stretch){c->span.start, c->span.end};
    }
    for (size_t i = 0; i < t->index_count && wanted > FEW; i++)
        ft_index_expect(t->indexes[i], t->ids, stretches, wanted);
    free(stretches);
    return FT_OK;
}

/* The unigram model's weight. */
static void weigh(const ft_span_tracker *t, candidate *c)
{
    c->rarest = UINT64_MAX;
    for (size_t i = c->span.start; i < c->span.end; i++) {
        c->span.unigram_logprob_sum += t->logprobs[i];
        c->rarest = t->occurrences[i] < c->rarest ? t->occurrences[i] : c->rarest;
    }
}

/* Which candidates from number `from` on occur too often: to be counted only where their rarest token does. */
static ft_code sort_out(ft_span_tracker *t, size_t from, ft_status *st)
{
    size_t count = 0;
    ft_code rc = ft_array_grow((void **)&t->order, &t->order_capacity, t->candidate_count, sizeof(*t->order), st);
    for (size_t i = from; !rc && i < t->candidate_count; i++)
        if (t->candidates[i].rarest > t->rules.max_cnt)
            t->order[count++] = (choice){0, i};
    if (!rc)
        rc = expect(t, count, st);
    for (size_t i = 0; !rc && i < count; i++) {
        candidate *c = &t->candidates[t->order[i].number];
        rc = count_candidate(t, c, st);
        c->frequent = !rc && c->span.count > t->rules.max_cnt;
    }
    return rc;
}

/* Candidates that begin at `first` or later, anew. */
static ft_code collect(ft_span_tracker *t, size_t first, ft_status *st)
{
    while (t->candidate_count && t->candidates[t->candidate_count - 1].span.start >= first)
        t->candidate_count--;
    const size_t kept = t->candidate_count;
    size_t kept_end = kept ? t->candidates[t->candidate_count - 1].span.end : 0, delimiter = first;
    for (size_t l = first; l < t->n; l++) {
        if (!starts_word(t, l))
            continue;
        const size_t r = span_end(t, l, &delimiter);
        /* Ends never move back from a start to the next one, so the last span is the only
         * one that could hold this one. Should that turn out to occur too often, then so
         * does this one, which is a piece of it. */
        if (r <= l || r - l < t->rules.min_len || r <= kept_end)
            continue;
        const ft_code rc = ft_array_grow((void **)&t->candidates, &t->candidate_capacity, t->candidate_count + 1,
                                         sizeof(*t->candidates), st);
        if (rc)
            return rc;
        candidate *c = &t->candidates[t->candidate_count++];
        *c = (candidate){.span = {.start = l, .end = r}, .counts = NOT_COUNTED};
        weigh(t, c);
        kept_end = r;
    }
    return sort_out(t, kept, st);
}

/* ln(occurrences / total) of each new token, over all indexes. */
static void look_up(ft_span_tracker *t, size_t more)
{
    for (size_t i = t->n; i < t->n + more; i++) {
        t->occurrences[i] = 0;
        for (size_t k = 0; k < t->index_count; k++)
            t->occurrences[i] += ft_index_unigram(t->indexes[k], t->ids[i]);
        /* A damaged table may deny a token that the text holds: count it once. */
        t->whole[i] = starts_word(t, i) || !i ? i : t->whole[i - 1];
        t->logprobs[i] = log((double)(t->occurrences[i] ? t->occurrences[i] : 1) / t->total);
    }
}

/* --- The best -------------------------------------------------------------------------- */

static int by_weight(const void *x, const void *y)
{
    const choice *p = x, *q = y;
    if (p->weight != q->weight)
        return p->weight < q->weight ? -1 : 1;
    return (p->number > q->number) - (p->number < q->number);
}

static int by_number(const void *x, const void *y)
{
    const choice *p = x, *q = y;
    return (p->number > q->number) - (p->number < q->number);
}

/* The best ceil(density * n), back in order of start, each with its count. */
static ft_code choose(ft_span_tracker *t, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&t->order, &t->order_capacity, t->candidate_count, sizeof(*t->order), st);
    if (!rc)
        rc = ft_array_grow((void **)&t->spans, &t->span_capacity, t->candidate_count, sizeof(*t->spans), st);
    if (rc)
        return rc;
    size_t count = 0;
    for (size_t i = 0; i < t->candidate_count; i++) {
        const ft_span *span = &t->candidates[i].span;
        const double weight =
            t->rules.rank == FT_RANK_LENGTH ? -(double)(span->end - span->start) : span->unigram_logprob_sum;
        if (!t->candidates[i].frequent)
            t->order[count++] = (choice){weight, i};
    }
    const double limit = ceil(t->rules.density * (double)t->n);
    if (t->rules.density > 0 && limit < (double)count) {
        qsort(t->order, count, sizeof(*t->order), by_weight);
        count = (size_t)limit;
        qsort(t->order, count, sizeof(*t->order), by_number);
    }
    rc = expect(t, count, st);
    for (size_t i = 0; !rc && i < count; i++) {
        rc = count_candidate(t, &t->candidates[t->order[i].number], st);
        t->spans[i] = t->candidates[t->order[i].number].span;
    }
    t->span_count = rc ? 0 : count;
    return rc;
}

ft_code ft_span_tracker_append(ft_span_tracker *t, const uint32_t *ids, size_t n, ft_status *st)
{
    size_t all;
    ft_code rc = ft_size_add(t->n, n, &all, st);
    if (!rc)
        rc = grow(t, all, st);
    if (rc || !n || !t->ids)
        return rc;
    memcpy(t->ids + t->n, ids, n * sizeof(*ids));
    look_up(t, n);
    const size_t first = match_more(t, n);
    t->n = all;
    rc = collect(t, first, st);
    return rc ? rc : choose(t, st);
}

/* --- All at once --------------------------------------------------------------------------- */

/* What else the caller of ft_spans_find gets. */
static ft_code fill(const ft_span_tracker *t, ft_spans *out, ft_status *st)
{
    const size_t n = t->n, indexes = t->index_count;
    size_t cells, counts;
    ft_code rc = ft_size_mul(indexes, n, &cells, st);
    if (!rc)
        rc = ft_size_mul(indexes, t->span_count, &counts, st);
    if (rc)
        return rc;
    out->n = n;
    out->index_count = indexes;
    out->longest = ft_alloc_array(n, sizeof(*out->longest));
    out->logprobs = ft_alloc_array(n, sizeof(*out->logprobs));
    out->index_longest = ft_alloc_array(cells, sizeof(*out->index_longest));
    out->index_counts = ft_alloc_array(counts, sizeof(*out->index_counts));
    if (!out->longest || !out->logprobs || !out->index_longest || !out->index_counts)
        return ft_fail(st, FT_ERR_MEM, "spans: no room for %zu positions", n);
    for (size_t l = 0; l < n; l++) {
        out->longest[l] = t->furthest[l] - l;
        out->logprobs[l] = t->logprobs[l];
    }
    for (size_t i = 0; i < indexes; i++)
        for (size_t l = 0; l < n; l++)
            out->index_longest[i * n + l] = t->ends[i * t->capacity + l] - l;
    for (size_t s = 0; s < t->span_count; s++)
        memcpy(out->index_counts + s * indexes, t->counts + t->candidates[t->order[s].number].counts,
               indexes * sizeof(*out->index_counts));
    return FT_OK;
}

ft_code ft_spans_find(ft_index_set set, const uint32_t *ids, size_t n, const ft_span_rules *rules, ft_spans *out,
                      ft_status *st)
{
    memset(out, 0, sizeof(*out));
    ft_span_tracker *t;
    ft_code rc = ft_span_tracker_new(&t, set, rules, st);
    if (!rc)
        rc = ft_span_tracker_append(t, ids, n, st);
    if (!rc)
        rc = fill(t, out, st);
    if (!rc) {
        out->spans = t->spans;
        out->count = t->span_count;
        out->capacity = t->span_capacity;
        t->spans = NULL; /* the caller owns them from here on */
    } else {
        ft_spans_release(out);
    }
    ft_span_tracker_free(t);
    return rc;
}
