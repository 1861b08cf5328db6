/* Ranges of the suffix array that spell the query.
 *
 * The query begins inside one token, its first, and runs on over whole tokens to the
 * one in which it ends. Take a state s, "the first token ends here" (0: the query
 * begins with a token). What spells the rest are ranges of the suffix array, found by
 * walk_on(): it narrows range after range by every token that can come next, and leaves
 * what is empty. For s > 0 the rest has to stand behind one of the first tokens of s,
 * and there are two ways to see that; the cheaper one is taken:
 *
 *   forward   walk on from the range of each first token: good when they are few
 *   backward  look at the token in front of each place of the rest: good when those are
 *             few ("elephant": thousands of tokens end in "e", hardly one text goes on
 *             with "lephant" at the start of a token)
 *
 * Cost is counted in reads of the suffix array. The choice depends on the index and the
 * query alone, so occurrences come in the same order every time. */
#include "base/ft_buffer.h"
#include "index/text_match_internal.h"

#include <stdlib.h>

/* Suffixes that agree with the query up to `depth` tokens, where it is at `state`. */
typedef struct frame {
    ft_range range;
    uint64_t depth;
    uint32_t state;
} frame;

typedef struct walk {
    ft_text_search *search;
    const ft_part *part;
    ft_text_tally *tally;

    uint32_t *empty; /* tokens without text that occur: they may stand between any two others */
    size_t empty_count, empty_capacity;
    frame *frames; /* still to be looked at */
    size_t frame_count, frame_capacity;

    /* Where walk_on() puts the ranges it finds: into the tally as occurrences that begin
     * `offset` bytes into their first token, or, when `keep`, into `kept`. */
    int keep, overflow; /* overflow: there were more than `keep_limit` places */
    uint64_t keep_limit, kept_places;
    ft_range *kept;
    size_t kept_count, kept_capacity;
    uint32_t offset;
} walk;

/* --- What is there ------------------------------------------------------------------------ */

/* Occurrences that are counted among those of a range: removed documents are left out
 * here and in is_live. */
static uint64_t live_count(const ft_part *p, ft_range r)
{
    return ft_part_live(p, r);
}

static int is_live(const ft_part *p, uint64_t pos)
{
    uint64_t document;
    ft_status ignored; /* a damaged list of documents: then the occurrence stays */
    if (pos >= ft_part_all(p).hi)
        return 0;
    return !p->removed_documents.count || ft_part_document_at(p, pos, &document, &ignored) != FT_OK ||
           !ft_part_document_is_removed(p, document);
}

static void tally_place(const ft_part *p, ft_text_tally *t, uint64_t pos, uint32_t offset)
{
    if (!is_live(p, pos))
        return;
    if (t->count >= t->from && t->kept < t->limit)
        t->places[t->kept++] = (ft_text_place){pos, offset};
    t->count++;
}

static void tally_range(const ft_part *p, ft_text_tally *t, ft_range r, uint32_t offset)
{
    const uint64_t live = live_count(p, r);
    if (t->kept == t->limit || t->count + live <= t->from) {
        t->count += live;
        return;
    }
    const uint64_t all = t->count + live;
    for (; r.lo < r.hi && t->kept < t->limit; r.lo++)
        tally_place(p, t, ft_part_position(p, r.lo), offset);
    t->count = all;
}

/* --- Tokens --------------------------------------------------------------------------------- */

/* Key of the token at pos, or 0 where it ends a document or is behind the last. */
static uint64_t text_key(const ft_part *p, uint64_t pos)
{
    if (pos >= ft_part_all(p).hi)
        return 0;
    const uint64_t key = ft_part_query_key(p, ft_part_token(p, pos));
    return key == UINT64_MAX ? 0 : key;
}

/* The state behind `token`. Ids that the tokenizer does not know stand for no text; in
 * infini-gram's folders, where they cannot be told in advance, nothing runs over them. */
static uint32_t read_token(const walk *w, uint32_t state, uint32_t token)
{
    const ft_text_vocabulary *v = w->search->vocabulary;
    if (token >= v->size)
        return w->part->bytewise || state == 0 ? FT_TEXT_NOWHERE : state;
    uint32_t n;
    const unsigned char *text = ft_text_of(v, token, &n);
    if (n == 0 && state == 0)
        return FT_TEXT_NOWHERE; /* the query begins with the next one */
    return ft_text_automaton_run(&w->search->automaton, state, text, n, NULL);
}

static int range_is_empty(ft_range r)
{
    return r.lo >= r.hi;
}

static ft_range narrow_token(const walk *w, ft_range r, uint64_t depth, uint32_t token)
{
    const uint64_t key = ft_part_query_key(w->part, token);
    if (key == UINT64_MAX)
        return (ft_range){0, 0};
    return depth ? ft_part_narrow(w->part, r, depth, key) : ft_part_first_token(w->part, token);
}

static ft_code add_empty(walk *w, uint32_t token, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&w->empty, &w->empty_capacity, w->empty_count + 1, sizeof(*w->empty), st);
    if (!rc)
        w->empty[w->empty_count++] = token;
    return rc;
}

static ft_code find_empty_tokens(walk *w, ft_status *st)
{
    const ft_text_vocabulary *v = w->search->vocabulary;
    const ft_part *p = w->part;
    ft_code rc = FT_OK;
    for (uint32_t i = 0; i < v->empty_count && !rc; i++)
        if (!range_is_empty(narrow_token(w, ft_part_all(p), 0, v->empty[i])))
            rc = add_empty(w, v->empty[i], st);
    if (p->bytewise || v->size == 0)
        return rc;
    /* Ours stand by id: those beyond the tokenizer's come last. */
    ft_range beyond = {ft_part_narrow(p, ft_part_all(p), 0, ft_part_token_key(p, v->size - 1)).hi, ft_part_all(p).hi};
    while (beyond.lo < beyond.hi && !rc) {
        const uint64_t pos = ft_part_position(p, beyond.lo);
        if (text_key(p, pos))
            rc = add_empty(w, ft_part_token(p, pos), st);
        beyond.lo = ft_part_next_key(p, beyond, 0, ft_part_key(p, pos));
    }
    return rc;
}

/* --- Walking ----------------------------------------------------------------------------------- */

static ft_code found(walk *w, ft_range r, ft_status *st)
{
    if (!w->keep) {
        tally_range(w->part, w->tally, r, w->offset);
        return FT_OK;
    }
    w->kept_places += r.hi - r.lo;
    if (w->kept_places > w->keep_limit) {
        w->overflow = 1;
        return FT_OK;
    }
    ft_code rc = ft_array_grow((void **)&w->kept, &w->kept_capacity, w->kept_count + 1, sizeof(*w->kept), st);
    if (!rc)
        w->kept[w->kept_count++] = r;
    return rc;
}

/* A range behind one more token, after which the query is at `state`. */
static ft_code reached(walk *w, ft_range r, uint64_t depth, uint32_t state, ft_status *st)
{
    if (range_is_empty(r) || state == FT_TEXT_NOWHERE)
        return FT_OK;
    if (state == ft_text_automaton_end(&w->search->automaton))
        return found(w, r, st);
    ft_code rc = ft_array_grow((void **)&w->frames, &w->frame_capacity, w->frame_count + 1, sizeof(*w->frames), st);
    if (!rc)
        w->frames[w->frame_count++] = (frame){.range = r, .depth = depth, .state = state};
    return rc;
}

/* Reads on at each place by itself. */
static ft_code step_by_places(walk *w, const frame *f, ft_status *st)
{
    ft_code rc = FT_OK;
    for (uint64_t rank = f->range.lo; rank < f->range.hi && !rc; rank++) {
        const uint64_t pos = ft_part_position(w->part, rank);
        uint32_t state = f->state;
        for (uint64_t d = f->depth; state != ft_text_automaton_end(&w->search->automaton) && state != FT_TEXT_NOWHERE;
             d++)
            state =
                text_key(w->part, pos + d) ? read_token(w, state, ft_part_token(w->part, pos + d)) : FT_TEXT_NOWHERE;
        if (state != FT_TEXT_NOWHERE)
            rc = found(w, (ft_range){rank, rank + 1}, st);
    }
    return rc;
}

/* Tries every token that the query can go on with. */
static ft_code step_by_choices(walk *w, const frame *f, const ft_text_follow *next, ft_status *st)
{
    const ft_text_vocabulary *v = w->search->vocabulary;
    const uint32_t end = ft_text_automaton_end(&w->search->automaton);
    ft_code rc = FT_OK;
    for (size_t i = 0; i < next->step_count && !rc; i++)
        rc = reached(w, narrow_token(w, f->range, f->depth, next->steps[i].token), f->depth + 1, next->steps[i].state,
                     st);
    for (size_t i = 0; i < next->end_count && !w->overflow; i++)
        for (uint32_t k = next->ends[i].lo; k < next->ends[i].hi && !rc; k++)
            rc = reached(w, narrow_token(w, f->range, f->depth, v->sorted[k]), f->depth + 1, end, st);
    for (size_t i = 0; i < w->empty_count && f->state && !rc; i++)
        rc = reached(w, narrow_token(w, f->range, f->depth, w->empty[i]), f->depth + 1, f->state, st);
    return rc;
}

/* Looks at every token that comes next. */
static ft_code step_by_tokens(walk *w, const frame *f, ft_status *st)
{
    const ft_part *p = w->part;
    ft_range r = f->range;
    ft_code rc = FT_OK;
    while (r.lo < r.hi && !rc) {
        const uint64_t pos = ft_part_position(p, r.lo) + f->depth;
        const ft_range same = {r.lo, ft_part_next_key(p, r, f->depth, ft_part_key(p, pos))};
        if (text_key(p, pos))
            rc = reached(w, same, f->depth + 1, read_token(w, f->state, ft_part_token(p, pos)), st);
        r.lo = same.hi;
    }
    return rc;
}

/* Reads that step_by_choices costs in a range of n: two binary searches a choice. */
static uint64_t cost_of_choices(const walk *w, const ft_text_follow *next, uint64_t n)
{
    return (next->choices + w->empty_count) * 2 * (64 - (uint64_t)__builtin_clzll(n | 1));
}

/* All ways from this frame to the end of the query. */
static ft_code walk_on(walk *w, ft_range r, uint64_t depth, uint32_t state, ft_status *st)
{
    enum { FEW = 8 };
    w->frame_count = 0;
    ft_code rc = reached(w, r, depth, state, st);
    while (w->frame_count && !rc && !w->overflow) {
        const frame f = w->frames[--w->frame_count];
        const uint64_t n = f.range.hi - f.range.lo;
        const ft_text_follow *next;
        if (n <= FEW) {
            rc = step_by_places(w, &f, st);
            continue;
        }
        rc = ft_text_search_follow(w->search, f.state, &next, st);
        if (rc)
            break;
        if (f.depth == 0 || cost_of_choices(w, next, n) < n)
            rc = step_by_choices(w, &f, next, st);
        else
            rc = step_by_tokens(w, &f, st);
    }
    return rc;
}

/* --- Beginning inside a token --------------------------------------------------------------------- */

/* Starts [from, to) share a state. What forward() would cost, and what it costs to find
 * the rest of the query by itself, at least, in reads. */
static ft_code costs(walk *w, size_t from, size_t to, uint64_t *cost, uint64_t *rest, ft_status *st)
{
    const ft_text_follow *next;
    *cost = *rest = 0;
    ft_code rc = ft_text_search_follow(w->search, w->search->starts[from].state, &next, st);
    for (size_t i = from; i < to && !rc; i++) {
        const ft_range r = narrow_token(w, ft_part_all(w->part), 0, w->search->starts[i].token);
        const uint64_t n = r.hi - r.lo, choices = cost_of_choices(w, next, n);
        *cost += range_is_empty(r) ? 0 : n < choices ? n : choices;
    }
    if (!rc) /* infini-gram has no directory of first tokens */
        *rest = w->part->bytewise ? cost_of_choices(w, next, ft_part_all(w->part).hi) : 2 * next->choices;
    return rc;
}

static ft_code forward(walk *w, size_t from, size_t to, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = from; i < to && !rc; i++) {
        const ft_text_start s = w->search->starts[i];
        w->offset = s.offset;
        rc = walk_on(w, narrow_token(w, ft_part_all(w->part), 0, s.token), 1, s.state, st);
    }
    return rc;
}

/* Of the kept ranges' places, those behind one of the starts. */
static void backward(walk *w, size_t from, size_t to)
{
    const ft_text_search *s = w->search;
    for (size_t i = from; i < to; i++)
        s->offset_of[s->starts[i].token] = s->starts[i].offset;
    for (size_t i = 0; i < w->kept_count; i++)
        for (uint64_t rank = w->kept[i].lo; rank < w->kept[i].hi; rank++) {
            const uint64_t pos = ft_part_position(w->part, rank);
            if (pos == 0 || !text_key(w->part, pos - 1))
                continue;
            const uint32_t token = ft_part_token(w->part, pos - 1);
            if (token < s->vocabulary->size && s->offset_of[token])
                tally_place(w->part, w->tally, pos - 1, s->offset_of[token]);
        }
    for (size_t i = from; i < to; i++)
        s->offset_of[s->starts[i].token] = 0;
}

static ft_code begin_inside(walk *w, size_t from, size_t to, ft_status *st)
{
    const uint32_t state = w->search->starts[from].state;
    uint64_t cost, rest;
    ft_code rc = costs(w, from, to, &cost, &rest, st);
    if (rc || cost == 0)
        return rc;
    if (cost <= rest)
        return forward(w, from, to, st);
    w->keep = 1;
    w->overflow = 0;
    w->kept_count = 0;
    w->kept_places = 0;
    w->keep_limit = cost / 2; /* a place costs two reads: where it is, and what stands before it */
    rc = walk_on(w, ft_part_all(w->part), 0, state, st);
    w->keep = 0;
    if (rc)
        return rc;
    if (!w->overflow) {
        backward(w, from, to);
        return FT_OK;
    }
    w->overflow = 0;
    return forward(w, from, to, st);
}

/* The query stands whole within these tokens. */
static void count_inside(walk *w, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        const ft_text_start s = w->search->starts[i];
        const ft_range r = narrow_token(w, ft_part_all(w->part), 0, s.token);
        if (!range_is_empty(r))
            tally_range(w->part, w->tally, r, s.offset);
    }
}

ft_code ft_text_walk_part(ft_text_search *s, const ft_part *p, ft_text_tally *tally, ft_status *st)
{
    walk w = {.search = s, .part = p, .tally = tally};
    ft_code rc = find_empty_tokens(&w, st);
    if (!rc)
        rc = walk_on(&w, ft_part_all(p), 0, 0, st);
    for (size_t from = 0, to; from < s->start_count && !rc; from = to) {
        const uint32_t state = s->starts[from].state;
        for (to = from; to < s->start_count && s->starts[to].state == state; to++)
            ;
        if (state == ft_text_automaton_end(&s->automaton))
            count_inside(&w, from, to);
        else
            rc = begin_inside(&w, from, to, st);
    }
    free(w.empty);
    free(w.frames);
    free(w.kept);
    return rc;
}
