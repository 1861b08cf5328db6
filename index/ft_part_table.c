/* Searching a shard of infini-gram's: its table is halved, for one pattern or for many in
 * step. What the ranks on both sides of the place share with the pattern is never compared
 * again (Manber and Myers, "Suffix arrays", 1993, section 2), and it tells where the range
 * ends: ranks that share as much stand between the last one seen that shared less and the
 * first that did not. So the two ends cost what is left between these, not two more searches.
 *
 * Many patterns take each halving together: the cache lines of the pointers in their
 * middles are asked for, then those of the texts that these point at, then all compare.
 * Pages are left to the system: asking for each one halving's pages in a batch (ft_fetch.h)
 * was measured, and took twice the time of its read-ahead. */
#include "index/ft_part.h"

enum {
    TOGETHER = 32,             /* patterns whose halvings are interleaved while all is in memory */
    STRIDE = 4,                /* of lengths alone, those this far apart are found first */
    CHUNK = STRIDE * TOGETHER, /* positions that are so looked at at once */
};

/* What is looked for: how many tokens a suffix shares with the pattern at most; the range of
 * all that do; or the range of those that share all of it, or the place where it would stand. */
typedef enum goal { LENGTH, LONGEST, WHOLE } goal;
typedef enum phase { PLACE, LOWER, UPPER, DONE } phase;

/* One end of the ranks that share as much as the best: it is in [from, to], and the ranks
 * beyond share `beyond`. */
typedef struct edge {
    uint64_t from, to;
    size_t beyond;
} edge;

typedef struct halving {
    const uint32_t *pat;
    size_t len, most; /* tokens; as many are compared */
    ft_range r;       /* ranks left */
    size_t low, high; /* what the ranks just outside share with the pattern; so do all between, the less of it */
    edge below, above;
    uint64_t position; /* of the middle's suffix */
    ft_range found;
    size_t longest;
    goal goal;
    phase phase;
} halving;

/* The i-th token of the search, which runs against reading order in reversed parts. */
static uint32_t token_of(const ft_part *p, const halving *h, size_t i)
{
    return p->reversed ? h->pat[h->len - 1 - i] : h->pat[i];
}

static uint64_t middle(const halving *h)
{
    return h->r.lo + (h->r.hi - h->r.lo) / 2;
}

static size_t known(const halving *h)
{
    return h->low < h->high ? h->low : h->high;
}

/* Sign of (suffix in the middle) - pattern; *shared: in, tokens known to be equal, out, all that are. */
static int compare(const ft_part *p, const halving *h, size_t *shared)
{
    for (; *shared < h->most; ++*shared) {
        const uint64_t have = ft_part_key(p, h->position + *shared);
        const uint64_t want = ft_part_query_key(p, token_of(p, h, *shared));
        if (have != want)
            return have < want ? -1 : 1;
    }
    return 0;
}

static void begin_edge(halving *h, phase end, const edge *e)
{
    h->phase = end;
    h->r = (ft_range){e->from, e->to};
    h->low = end == LOWER ? e->beyond : h->most;
    h->high = end == UPPER ? e->beyond : h->most;
}

/* No rank lies between what is below the pattern and what is above it. */
static void end_place(halving *h)
{
    const uint64_t place = h->r.lo;
    h->longest = h->low > h->high ? h->low : h->high;
    if (h->goal == WHOLE)
        h->found = (ft_range){place, place};
    h->phase = DONE;
    if (h->goal != LONGEST || h->longest == 0)
        return;
    if (h->low < h->longest)
        h->below = (edge){place, place, h->low};
    if (h->high < h->longest)
        h->above = (edge){place, place, h->high};
    h->most = h->longest;
    begin_edge(h, LOWER, &h->below);
}

/* On to what comes next while no rank is left. */
static void end_phases(halving *h)
{
    while (h->phase != DONE && h->r.lo >= h->r.hi) {
        if (h->phase == PLACE) {
            end_place(h);
        } else if (h->phase == LOWER) {
            h->found.lo = h->r.lo;
            begin_edge(h, UPPER, &h->above);
        } else {
            h->found.hi = h->r.lo;
            h->phase = DONE;
        }
    }
}

static void begin(const ft_part *p, halving *h, const uint32_t *pat, size_t len, goal wanted)
{
    *h = (halving){.pat = pat, .len = len, .most = len, .r = ft_part_all(p), .goal = wanted, .found = ft_part_all(p)};
    if (len == 0)
        h->phase = DONE;
    end_phases(h);
}

/* The middle begins with all of the pattern: both ends remain. */
static void found_whole(halving *h, uint64_t mid)
{
    h->longest = h->len;
    h->below = (edge){h->r.lo, mid, h->low};
    h->above = (edge){mid + 1, h->r.hi, h->high};
    h->phase = DONE;
    if (h->goal != LENGTH)
        begin_edge(h, LOWER, &h->below);
}

/* One halving; the middle's position is there. */
static void halve(const ft_part *p, halving *h)
{
    const uint64_t mid = middle(h);
    size_t shared = known(h);
    int sign = compare(p, h, &shared);
    if (sign == 0 && h->phase == PLACE) {
        found_whole(h, mid);
        end_phases(h);
        return;
    }
    if (sign == 0) /* what lies towards the other end begins with it too */
        sign = h->phase == UPPER ? -1 : 1;
    if (sign < 0) {
        if (h->phase == PLACE && shared > h->low)
            h->below = (edge){h->r.lo, mid, h->low};
        h->r.lo = mid + 1;
        h->low = shared;
    } else {
        if (h->phase == PLACE && shared > h->high)
            h->above = (edge){mid + 1, h->r.hi, h->high};
        h->r.hi = mid;
        h->high = shared;
    }
    end_phases(h);
}

static void search_one(const ft_part *p, halving *h)
{
    while (h->phase != DONE) {
        const uint64_t mid = middle(h), quarter = (h->r.hi - h->r.lo) / 4;
        __builtin_prefetch(p->suffixes + (h->r.lo + quarter) * p->pointer_bytes);
        __builtin_prefetch(p->suffixes + (mid + quarter) * p->pointer_bytes);
        h->position = ft_part_position(p, mid);
        halve(p, h);
    }
}

ft_range ft_table_find(const ft_part *p, const uint32_t *pat, size_t len)
{
    halving h;
    begin(p, &h, pat, len, WHOLE);
    search_one(p, &h);
    return h.found;
}

size_t ft_table_longest(const ft_part *p, const uint32_t *pat, size_t len, ft_range *out)
{
    halving h;
    begin(p, &h, pat, len, LONGEST);
    search_one(p, &h);
    *out = h.found;
    return h.longest;
}

/* --- Many in step ------------------------------------------------------------------------- */

static void ask_for_text(const ft_part *p, const halving *h)
{
    const uint64_t at = h->position + known(h);
    if (h->position < p->n && at < p->n)
        __builtin_prefetch(p->tokens + at * p->token_bytes);
}

static void search_together(const ft_part *p, halving *h, size_t count)
{
    for (size_t left = count; left;) {
        for (size_t i = 0; i < count; i++)
            if (h[i].phase != DONE)
                __builtin_prefetch(p->suffixes + middle(&h[i]) * p->pointer_bytes);
        for (size_t i = 0; i < count; i++)
            if (h[i].phase != DONE) {
                h[i].position = ft_part_position(p, middle(&h[i]));
                ask_for_text(p, &h[i]);
            }
        left = 0;
        for (size_t i = 0; i < count; i++) {
            if (h[i].phase != DONE)
                halve(p, &h[i]);
            left += h[i].phase != DONE;
        }
    }
}

void ft_table_find_each(const ft_part *p, const uint32_t *ids, const ft_stretch *stretches, size_t count, ft_range *out)
{
    halving h[TOGETHER];
    for (size_t at = 0, some; at < count; at += some) {
        some = count - at < TOGETHER ? count - at : TOGETHER;
        for (size_t i = 0; i < some; i++) {
            const ft_stretch s = stretches[at + i];
            begin(p, &h[i], ids + s.start, s.end - s.start, WHOLE);
        }
        search_together(p, h, some);
        for (size_t i = 0; i < some; i++)
            out[at + i] = h[i].found;
    }
}

/* --- All positions of a response ------------------------------------------------------------ */

typedef struct crowd {
    const ft_part *part;
    const uint32_t *ids;
    halving h[TOGETHER];
} crowd;

static void search_ends(crowd *c, size_t count, size_t from, const size_t *wanted, size_t some, size_t *ends)
{
    for (size_t at = 0, n; at < some; at += n) {
        n = some - at < TOGETHER ? some - at : TOGETHER;
        for (size_t k = 0; k < n; k++)
            begin(c->part, &c->h[k], c->ids + wanted[at + k], count - wanted[at + k], LENGTH);
        search_together(c->part, c->h, n);
        for (size_t k = 0; k < n; k++)
            ends[wanted[at + k] - from] = wanted[at + k] + c->h[k].longest;
    }
}

/* Where the matches of [from, to) end, at most CHUNK positions of `count`; before: where
 * that of the position before does. A match is at least what the one of the position before
 * leaves of itself: ends never move back. So where the matches of two positions end
 * together, those of all between do too, and are not looked for. */
static void match_ends(crowd *c, size_t count, size_t from, size_t to, size_t before, size_t *ends)
{
    size_t wanted[CHUNK / 2], some = 0;
    for (size_t i = from + STRIDE - 1; i < to - 1; i += STRIDE)
        wanted[some++] = i;
    wanted[some++] = to - 1;
    search_ends(c, count, from, wanted, some, ends);
    for (size_t stride = STRIDE / 2; stride; stride /= 2) {
        some = 0;
        for (size_t i = from + stride - 1; i < to - 1; i += 2 * stride) {
            const size_t left = i < from + stride ? before : ends[i - stride - from];
            const size_t right = ends[(i + stride < to ? i + stride : to - 1) - from];
            if (left == right)
                ends[i - from] = left;
            else
                wanted[some++] = i;
        }
        search_ends(c, count, from, wanted, some, ends);
    }
}

static void match_lengths(crowd *c, size_t count, ft_longest_fn *fn, void *context)
{
    size_t ends[CHUNK], before = 0;
    for (size_t from = 0, to; from < count; from = to) {
        to = count - from < CHUNK ? count : from + CHUNK;
        match_ends(c, count, from, to, before, ends);
        before = ends[to - 1 - from];
        for (size_t i = from; i < to; i++)
            fn(context, i, ends[i - from] - i, ft_part_all(c->part));
    }
}

static void match_forward(crowd *c, size_t count, int ranges, ft_longest_fn *fn, void *context)
{
    for (size_t at = 0; at < count;) {
        const size_t some = count - at < TOGETHER ? count - at : TOGETHER;
        for (size_t i = 0; i < some; i++)
            begin(c->part, &c->h[i], c->ids + at + i, count - at - i, ranges ? LONGEST : LENGTH);
        search_together(c->part, c->h, some);
        for (size_t i = 0; i < some; i++)
            fn(context, at + i, c->h[i].longest, c->h[i].found);
        at += some;
    }
}

/* Reversed parts: matches are found by their ends. */
typedef struct backward {
    const ft_part *part;
    const uint32_t *ids;
    int ranges;
    ft_longest_fn *fn;
    void *context;
    size_t next; /* position whose match comes next */
    size_t waiting;
    ft_stretch stretches[TOGETHER]; /* of positions before `next`, in order, not told yet */
    ft_range found[TOGETHER];
} backward;

static void tell_waiting(backward *b)
{
    if (b->ranges && b->waiting)
        ft_table_find_each(b->part, b->ids, b->stretches, b->waiting, b->found);
    for (size_t i = 0; i < b->waiting; i++) {
        const ft_stretch s = b->stretches[i];
        b->fn(b->context, s.start, s.end - s.start, b->ranges ? b->found[i] : ft_part_all(b->part));
    }
    b->waiting = 0;
}

/* The longest match that ends behind ids[end] begins at `start`: those from positions before
 * it end in front of that token, or earlier ones have. */
static void close_matches(backward *b, size_t start, size_t end)
{
    for (; b->next < start; b->next++) {
        if (b->waiting == TOGETHER)
            tell_waiting(b);
        b->stretches[b->waiting++] = (ft_stretch){b->next, end};
    }
}

/* The longest match that ends behind each token begins at a place that never moves back:
 * the longest one from position i ends with the last token whose begins at i or before. */
static void match_backward(crowd *c, size_t count, int ranges, ft_longest_fn *fn, void *context)
{
    backward b = {.part = c->part, .ids = c->ids, .ranges = ranges, .fn = fn, .context = context};
    for (size_t at = 0; at < count;) {
        const size_t some = count - at < TOGETHER ? count - at : TOGETHER;
        for (size_t i = 0; i < some; i++)
            begin(c->part, &c->h[i], c->ids, at + i + 1, LENGTH);
        search_together(c->part, c->h, some);
        for (size_t i = 0; i < some; i++)
            close_matches(&b, at + i + 1 - c->h[i].longest, at + i);
        at += some;
    }
    close_matches(&b, count, count);
    tell_waiting(&b);
}

void ft_table_match_all(const ft_part *p, const uint32_t *ids, size_t count, int ranges, ft_longest_fn *fn,
                        void *context)
{
    crowd c;
    c.part = p;
    c.ids = ids;
    if (p->reversed)
        match_backward(&c, count, ranges, fn, context);
    else if (ranges)
        match_forward(&c, count, ranges, fn, context);
    else
        match_lengths(&c, count, fn, context);
}
