#include "index/ft_query.h"

#include "base/ft_buffer.h"
#include "index/ft_part.h"

#include <stdlib.h>

uint64_t ft_query_count(ft_index_set set, const uint32_t *ids, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 0; i < set.count; i++) {
        ft_match m;
        ft_index_find(set.indexes[i], ids, n, &m);
        count += m.count;
    }
    return count;
}

/* --- Probabilities ------------------------------------------------------------------- */

/* Tokens of ids[0..n)'s longest suffix that occurs in any of the indexes. */
static size_t longest_suffix(ft_index_set set, const uint32_t *ids, size_t n)
{
    size_t longest = 0;
    for (size_t i = 0; i < set.count; i++) {
        ft_match m;
        const size_t here = ft_index_longest_suffix(set.indexes[i], ids, n, &m);
        longest = here > longest ? here : longest;
    }
    return longest;
}

/* With the prompt's last `used` tokens. */
static void fill_prob(ft_index_set set, const uint32_t *ids, size_t n, size_t used, ft_prob *out)
{
    const uint32_t *prompt = ids + (n - 1 - used);
    out->suffix_len = used;
    out->prompt_count = ft_query_count(set, prompt, used);
    out->continuation_count = out->prompt_count ? ft_query_count(set, prompt, used + 1) : 0;
    out->prob = out->prompt_count ? (double)out->continuation_count / (double)out->prompt_count : -1;
}

ft_code ft_query_prob(ft_index_set set, const uint32_t *ids, size_t n, ft_prob *out, ft_status *st)
{
    if (n == 0)
        return ft_fail(st, FT_ERR_ARG, "a probability needs at least one token, the one whose it is");
    fill_prob(set, ids, n, n - 1, out);
    return FT_OK;
}

ft_code ft_query_infgram_prob(ft_index_set set, const uint32_t *ids, size_t n, ft_prob *out, ft_status *st)
{
    if (n == 0)
        return ft_fail(st, FT_ERR_ARG, "a probability needs at least one token, the one whose it is");
    fill_prob(set, ids, n, longest_suffix(set, ids, n - 1), out);
    return FT_OK;
}

/* --- Next tokens ----------------------------------------------------------------------- */

void ft_distribution_release(ft_distribution *d)
{
    free(d->next);
    *d = (ft_distribution){0};
}

static ft_code add_next(ft_distribution *d, uint32_t id, uint64_t count, ft_status *st)
{
    if (count == 0)
        return FT_OK;
    ft_code rc = ft_array_grow((void **)&d->next, &d->capacity, d->count + 1, sizeof(*d->next), st);
    if (!rc)
        d->next[d->count++] = (ft_next_token){id, count};
    return rc;
}

/* What a token of the part is called in an answer. */
static uint32_t reported_id(const ft_index *ix, const ft_part *p, uint64_t pos)
{
    const uint32_t token = pos < p->n ? ft_part_token(p, pos) : p->end;
    return token != p->end ? token : ix->info.end_of_text != UINT32_MAX ? ix->info.end_of_text : p->end;
}

typedef struct adding {
    const ft_index *ix;
    const ft_part *part;
    ft_distribution *out;
} adding;

static ft_code add_run(void *context, uint32_t token, ft_range run, ft_status *st)
{
    const adding *a = context;
    const uint32_t end = a->ix->info.end_of_text != UINT32_MAX ? a->ix->info.end_of_text : a->part->end;
    return add_next(a->out, token == a->part->end ? end : token, ft_part_live(a->part, run), st);
}

/* Nothing before it: each token of the vocabulary, and the ends of documents. */
static ft_code add_vocabulary(const adding *a, ft_status *st)
{
    ft_code rc = add_run((void *)(uintptr_t)a, a->part->end, (ft_range){0, a->part->documents}, st);
    for (uint32_t id = 0; id < a->part->vocab_size && !rc; id++)
        rc = add_run((void *)(uintptr_t)a, id, ft_part_first_token(a->part, id), st);
    return rc;
}

/* The suffixes of a range stand sorted by the token at `depth`: one step a distinct token. */
static ft_code add_by_runs(const ft_index *ix, const ft_part *p, ft_range r, uint64_t depth, ft_distribution *d,
                           ft_status *st)
{
    ft_code rc = FT_OK;
    adding a = {ix, p, d};
    if (!p->bytewise)
        return depth ? ft_segment_runs(p, r, (size_t)depth, add_run, &a, st) : add_vocabulary(&a, st);
    while (r.lo < r.hi && !rc) {
        const uint64_t pos = ft_part_position(p, r.lo) + depth;
        const uint64_t next = ft_part_next_key(p, r, depth, ft_part_key(p, pos));
        rc = add_next(d, reported_id(ix, p, pos), ft_part_live(p, (ft_range){r.lo, next}), st);
        r.lo = next;
    }
    return rc;
}

/* Reversed parts hold what follows in front of each occurrence, so a range is not
 * sorted by it: look at every occurrence… */
static ft_code add_by_occurrences(const ft_index *ix, const ft_part *p, ft_range r, ft_distribution *d, ft_status *st)
{
    ft_code rc = FT_OK;
    for (; r.lo < r.hi && !rc; r.lo++) {
        const uint64_t pos = ft_part_position(p, r.lo);
        rc = add_next(d, reported_id(ix, p, pos ? pos - 1 : p->n), 1, st);
    }
    return rc;
}

/* …or, when they are many, try each token of the corpus in front of the prompt. */
static ft_code add_by_tokens(const ft_index *ix, const ft_part *p, const uint32_t *ids, size_t n, ft_range found,
                             ft_distribution *d, ft_status *st)
{
    ft_range all = ft_part_all(p);
    uint64_t others = found.hi - found.lo;
    ft_code rc = FT_OK;
    while (all.lo < all.hi && !rc) {
        const uint64_t pos = ft_part_position(p, all.lo);
        ft_range r = {all.lo, ft_part_next_key(p, all, 0, ft_part_key(p, pos))};
        all.lo = r.hi;
        if (pos >= p->n || ft_part_token(p, pos) == p->end)
            continue;
        for (size_t i = 0; i < n && r.lo < r.hi; i++)
            r = ft_part_narrow(p, r, i + 1, ft_part_query_key(p, ids[n - 1 - i]));
        rc = add_next(d, ft_part_token(p, pos), r.hi - r.lo, st);
        others -= r.hi - r.lo < others ? r.hi - r.lo : others;
    }
    return rc ? rc : add_next(d, reported_id(ix, p, p->n), others, st);
}

static ft_code add_part(const ft_index *ix, const ft_part *p, const uint32_t *ids, size_t n, ft_distribution *d,
                        ft_status *st)
{
    enum { MANY = 1 << 20 };
    const ft_range r = ft_part_find(p, ids, n);
    d->prompt_count += ft_part_live(p, r);
    if (!p->reversed || n == 0)
        return add_by_runs(ix, p, r, n, d, st);
    return r.hi - r.lo <= MANY ? add_by_occurrences(ix, p, r, d, st) : add_by_tokens(ix, p, ids, n, r, d, st);
}

/* Stable, byte by byte from the lowest, bytes that never differ left out: by rising id, or
 * by falling count. `other` has as much room. */
static void sort_next(ft_next_token *next, ft_next_token *other, size_t n, int by_count)
{
    ft_next_token *from = next, *to = other;
    uint64_t differing = 0;
    for (size_t i = 1; i < n; i++)
        differing |= by_count ? next[i].count ^ next[0].count : next[i].id ^ next[0].id;
    for (unsigned shift = 0; shift < 64 && differing >> shift; shift += 8) {
        size_t at[256] = {0}, sum = 0;
        if (!(differing >> shift & 255))
            continue;
        for (size_t i = 0; i < n; i++)
            at[(by_count ? ~from[i].count : from[i].id) >> shift & 255]++;
        for (size_t b = 0; b < 256; b++) {
            const size_t here = at[b];
            at[b] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++)
            to[at[(by_count ? ~from[i].count : from[i].id) >> shift & 255]++] = from[i];
        ft_next_token *t = from;
        from = to;
        to = t;
    }
    if (from != next)
        memcpy(next, from, n * sizeof(*next));
}

static ft_code merge_equal_ids(ft_distribution *d, ft_status *st)
{
    size_t kept = 0, falling = 0;
    ft_next_token few[64], *other = d->count <= 64 ? few : ft_alloc_array(d->count, sizeof(*other));
    if (!other)
        return ft_fail(st, FT_ERR_MEM, "next tokens: out of memory");
    for (size_t i = 1; i < d->count; i++)
        falling += d->next[i].id <= d->next[i - 1].id;
    if (falling) /* several parts, or one that does not stand by id */
        sort_next(d->next, other, d->count, 0);
    for (size_t i = 0; i < d->count; i++) {
        if (kept && d->next[kept - 1].id == d->next[i].id)
            d->next[kept - 1].count += d->next[i].count;
        else
            d->next[kept++] = d->next[i];
    }
    d->count = kept;
    sort_next(d->next, other, kept, 1);
    if (other != few)
        free(other);
    return FT_OK;
}

ft_code ft_query_ntd(ft_index_set set, const uint32_t *ids, size_t n, int infgram, ft_distribution *out, ft_status *st)
{
    *out = (ft_distribution){.suffix_len = infgram ? longest_suffix(set, ids, n) : n};
    const uint32_t *prompt = ids + (n - out->suffix_len);
    ft_code rc = FT_OK;
    for (size_t i = 0; i < set.count && !rc; i++)
        for (unsigned k = 0; k < set.indexes[i]->part_count && !rc; k++)
            rc = add_part(set.indexes[i], &set.indexes[i]->parts[k], prompt, out->suffix_len, out, st);
    if (!rc)
        rc = merge_equal_ids(out, st);
    if (rc)
        ft_distribution_release(out);
    return rc;
}
