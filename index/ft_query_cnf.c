/* AND of ORs of n-grams, each part by itself: documents do not cross parts.
 *
 * A coordinate x counts a part's tokens in reading order within each document, so
 * that parts which store documents reversed need no code of their own. */
#include "base/ft_buffer.h"
#include "index/ft_part.h"
#include "index/ft_query.h"

#include <stdlib.h>

void ft_cnf_result_release(ft_cnf_result *r)
{
    free(r->places);
    *r = (ft_cnf_result){0};
}

static uint64_t coordinate(const ft_part *p, uint64_t pos)
{
    return p->reversed ? p->n - 1 - pos : pos;
}

static uint32_t token_at(const ft_part *p, uint64_t x)
{
    return ft_part_token(p, coordinate(p, x)); /* it is its own inverse */
}

/* Live ranks of an n-gram. */
static ft_range live_range(const ft_part *p, const ft_ngram *g)
{
    return ft_part_live_range(p, ft_part_find(p, g->ids, g->n));
}

/* Coordinate where the occurrence at a live rank begins; n for a damaged pointer. */
static uint64_t occurrence(const ft_part *p, uint64_t rank, size_t ngram_tokens)
{
    uint64_t pos = ft_part_live_position(p, rank);
    if (p->reversed)
        pos += ngram_tokens - 1; /* the suffix begins at the n-gram's last token */
    return pos < p->n ? coordinate(p, pos) : p->n;
}

/* Clause counts in one part. */
static uint64_t count_in_part(const ft_part *p, const ft_clause *c)
{
    uint64_t count = 0;
    for (size_t i = 0; i < c->count; i++) {
        const ft_range r = live_range(p, &c->ngrams[i]);
        count += r.hi - r.lo;
    }
    return count;
}

/* --- Where a clause occurs near a place ------------------------------------------------ */

typedef struct clause_places {
    const ft_clause *clause;
    uint64_t *sorted; /* all coordinates, ascending; NULL: the text itself is read */
    size_t count;
} clause_places;

static int clause_stands_at(const ft_part *p, const ft_clause *c, uint64_t x, uint64_t document_end)
{
    for (size_t i = 0; i < c->count; i++) {
        const ft_ngram *g = &c->ngrams[i];
        size_t k = 0;
        while (g->n <= document_end - x && k < g->n && token_at(p, x + k) == g->ids[k])
            k++;
        if (k == g->n)
            return 1;
    }
    return 0;
}

/* First index of `sorted` above x. */
static size_t first_above(const clause_places *c, uint64_t x)
{
    size_t lo = 0, hi = c->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c->sorted[mid] <= x)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Last occurrence in [from, x], else the first in (x, to); 1 when there is one. */
static int nearest(const ft_part *p, const clause_places *c, uint64_t from, uint64_t x, uint64_t to,
                   uint64_t document_end, uint64_t *out)
{
    if (c->sorted) {
        const size_t above = first_above(c, x);
        if (above && c->sorted[above - 1] >= from)
            *out = c->sorted[above - 1];
        else if (above < c->count && c->sorted[above] < to)
            *out = c->sorted[above];
        else
            return 0;
        return 1;
    }
    for (uint64_t q = x + 1; q-- > from;)
        if (clause_stands_at(p, c->clause, q, document_end)) {
            *out = q;
            return 1;
        }
    for (*out = x + 1; *out < to; ++*out)
        if (clause_stands_at(p, c->clause, *out, document_end))
            return 1;
    return 0;
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorts all places of a clause when that costs less than reading around each anchor. */
static ft_code prepare(const ft_part *p, const ft_clause *clause, uint64_t anchors, uint64_t window, clause_places *out,
                       ft_status *st)
{
    *out = (clause_places){.clause = clause};
    const uint64_t count = count_in_part(p, clause), width = window < p->n ? window : p->n;
    if (width == 0 || anchors < count * 16 / width)
        return FT_OK;
    out->sorted = ft_alloc_array((size_t)count, sizeof(*out->sorted));
    if (!out->sorted)
        return ft_fail(st, FT_ERR_MEM, "out of memory for a clause that occurs %llu times", (unsigned long long)count);
    for (size_t i = 0; i < clause->count; i++) {
        const ft_range r = live_range(p, &clause->ngrams[i]);
        for (uint64_t rank = r.lo; rank < r.hi && out->count < count; rank++)
            out->sorted[out->count++] = occurrence(p, rank, clause->ngrams[i].n);
    }
    qsort(out->sorted, out->count, sizeof(*out->sorted), compare_u64);
    return FT_OK;
}

/* --- Anchors --------------------------------------------------------------------------- */

typedef struct search {
    const ft_part *part;
    ft_place place; /* index and part are set */
    clause_places *others;
    size_t other_count;
    uint64_t max_diff;
    size_t place_limit;
    ft_cnf_result *out;
} search;

static ft_code add_place(search *s, uint64_t pos, ft_status *st)
{
    ft_cnf_result *r = s->out;
    r->count++;
    if (r->place_count >= s->place_limit)
        return FT_OK;
    ft_code rc = ft_array_grow((void **)&r->places, &r->capacity, r->place_count + 1, sizeof(*r->places), st);
    if (rc)
        return rc;
    s->place.pos = pos;
    r->places[r->place_count++] = s->place;
    return FT_OK;
}

static ft_code try_anchor(search *s, uint64_t x, ft_status *st)
{
    const ft_part *p = s->part;
    uint64_t i, start, length;
    if (x >= p->n)
        return FT_OK; /* a damaged pointer */
    ft_code rc = ft_part_document_at(p, coordinate(p, x), &i, st);
    if (!rc)
        rc = ft_part_document_range(p, i, &start, &length, st);
    if (rc)
        return rc;
    const uint64_t begin = p->reversed ? p->n - start - length : start, end = begin + length;
    if (x < begin || x >= end)
        return FT_OK;
    const uint64_t from = x - begin > s->max_diff ? x - s->max_diff : begin;
    const uint64_t to = end - x > s->max_diff ? x + s->max_diff + 1 : end;
    uint64_t first = x;
    for (size_t k = 0; k < s->other_count; k++) {
        uint64_t q;
        if (!nearest(p, &s->others[k], from, x, to, end, &q))
            return FT_OK;
        first = q < first ? q : first;
    }
    return add_place(s, coordinate(p, first), st);
}

/* The anchors of one n-gram that have all other clauses near them. */
static ft_code try_range(search *s, ft_range r, size_t ngram_tokens, ft_status *st)
{
    ft_code rc = FT_OK;
    for (uint64_t rank = r.lo; rank < r.hi && !rc; rank++)
        rc = try_anchor(s, occurrence(s->part, rank, ngram_tokens), st);
    return rc;
}

/* No other clause: all of them. */
static ft_code take_range(search *s, ft_range r, size_t ngram_tokens, ft_status *st)
{
    ft_code rc = FT_OK;
    for (; r.lo < r.hi && !rc && s->out->place_count < s->place_limit; r.lo++) {
        const uint64_t x = occurrence(s->part, r.lo, ngram_tokens);
        rc = add_place(s, x < s->part->n ? coordinate(s->part, x) : x, st);
    }
    s->out->count += r.hi - r.lo;
    return rc;
}

static ft_code search_part(search *s, const ft_clause *clauses, size_t count, size_t anchor, ft_status *st)
{
    const ft_part *p = s->part;
    const uint64_t anchors = count_in_part(p, &clauses[anchor]);
    const uint64_t window = s->max_diff < p->n ? 2 * s->max_diff + 1 : p->n;
    ft_code rc = FT_OK;
    s->other_count = 0;
    for (size_t k = 0; k < count && !rc && anchors; k++)
        if (k != anchor)
            rc = prepare(p, &clauses[k], anchors, window, &s->others[s->other_count++], st);
    for (size_t i = 0; i < clauses[anchor].count && !rc && anchors; i++) {
        const ft_ngram *g = &clauses[anchor].ngrams[i];
        const ft_range r = live_range(p, g);
        rc = count > 1 ? try_range(s, r, g->n, st) : take_range(s, r, g->n, st);
    }
    for (size_t k = 0; k < s->other_count; k++)
        free(s->others[k].sorted);
    return rc;
}

static ft_code find_anchor(ft_index_set set, const ft_clause *clauses, size_t count, size_t *anchor, uint64_t *fewest,
                           ft_status *st)
{
    if (count == 0)
        return ft_fail(st, FT_ERR_ARG, "cnf: at least one clause is needed");
    for (size_t k = 0; k < count; k++) {
        uint64_t here = 0;
        for (size_t i = 0; i < clauses[k].count; i++) {
            if (clauses[k].ngrams[i].n == 0)
                return ft_fail(st, FT_ERR_ARG, "cnf: clause %zu holds an n-gram without a token", k);
            here += ft_query_count(set, clauses[k].ngrams[i].ids, clauses[k].ngrams[i].n);
        }
        if (k == 0 || here < *fewest) {
            *anchor = k;
            *fewest = here;
        }
    }
    return FT_OK;
}

ft_code ft_query_cnf(ft_index_set set, const ft_clause *clauses, size_t count, uint64_t max_diff_tokens,
                     uint64_t max_clause_freq, ft_cnf_result *out, ft_status *st)
{
    (void)max_clause_freq;
    return ft_query_cnf_places(set, clauses, count, max_diff_tokens, SIZE_MAX, out, st);
}

ft_code ft_query_cnf_places(ft_index_set set, const ft_clause *clauses, size_t count, uint64_t max_diff_tokens,
                            size_t place_limit, ft_cnf_result *out, ft_status *st)
{
    *out = (ft_cnf_result){0};
    size_t anchor = 0;
    uint64_t fewest = 0;
    ft_code rc = find_anchor(set, clauses, count, &anchor, &fewest, st);
    if (rc || fewest == 0)
        return rc;
    search s = {.max_diff = max_diff_tokens, .place_limit = place_limit, .out = out};
    s.others = ft_alloc_array(count, sizeof(*s.others));
    if (!s.others)
        return ft_fail(st, FT_ERR_MEM, "cnf: out of memory");
    for (uint32_t i = 0; i < set.count && !rc; i++)
        for (unsigned k = 0; k < set.indexes[i]->part_count && !rc; k++) {
            s.part = &set.indexes[i]->parts[k];
            s.place = (ft_place){.index = i, .part = k};
            rc = search_part(&s, clauses, count, anchor, st);
        }
    free(s.others);
    if (rc)
        ft_cnf_result_release(out);
    return rc;
}
