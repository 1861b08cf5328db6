/* What follows a pattern: a range cut into runs of one next token each.
 *
 * Slots tell where the next token changes, so the text is read once a run and not to
 * find it; and where the separators before and behind a leaf have the same next token,
 * nothing changes in that leaf, and it is not looked at. What has to be looked at is
 * fetched many at a time: pointers, then texts, then tokens. */
#include "index/ft_part.h"

enum {
    BATCH = 256,  /* runs that are resolved together */
    AHEAD = 12,   /* leaves that are fetched before they are needed */
    LEAVES = 512, /* separators looked at together */
    MANY = 16     /* leaves of a range from which separators are worth a search */
};

typedef struct cutter {
    const ft_part *part;
    size_t depth;
    ft_run_fn *fn;
    void *context;
    uint64_t start[BATCH + FT_LEAF_RANKS]; /* ranks where a run may begin */
    size_t count;
    ft_range run; /* not reported yet: it may go on */
    uint32_t token;
} cutter;

static void prefetch(const void *at)
{
    __builtin_prefetch(at);
}

static const unsigned char *pointer_at(const ft_part *p, uint64_t rank)
{
    return p->suffixes + rank / FT_LEAF_RANKS * p->shape.bytes + rank % FT_LEAF_RANKS * p->shape.pointer_bits / 8;
}

/* Reports the runs that begin at the starts gathered, except the last. Two with the same
 * token are one. */
static ft_code resolve(cutter *c, ft_status *st)
{
    const ft_part *p = c->part;
    uint64_t at[BATCH + FT_LEAF_RANKS];
    ft_code rc = FT_OK;
    for (size_t i = 0; i < c->count; i++)
        prefetch(pointer_at(p, c->start[i]));
    for (size_t i = 0; i < c->count; i++) {
        at[i] = ft_part_position(p, c->start[i]) + c->depth;
        if (at[i] < p->n)
            prefetch(p->text.packed + at[i] * p->text.bits / 8);
    }
    for (size_t i = 0; i < c->count && !rc; i++) {
        const uint32_t token = ft_codes_get(&p->text, at[i]) - 1;
        if (token == c->token)
            continue;
        c->run.hi = c->start[i];
        if (c->run.lo < c->run.hi)
            rc = c->fn(c->context, c->token, c->run, st);
        c->run.lo = c->start[i];
        c->token = token;
    }
    c->count = 0;
    return rc;
}

static ft_code cut_leaf(cutter *c, uint64_t leaf, ft_range r, ft_status *st)
{
    const uint64_t first = leaf * FT_LEAF_RANKS;
    const unsigned from = r.lo > first ? (unsigned)(r.lo - first) : 0;
    const unsigned to = r.hi - first < FT_LEAF_RANKS ? (unsigned)(r.hi - first) : FT_LEAF_RANKS;
    unsigned char turns[FT_LEAF_RANKS];
    c->start[c->count++] = first + from;
    const unsigned count =
        ft_leaf_turns(c->part->suffixes + leaf * c->part->shape.bytes, &c->part->shape, from + 1, to, c->depth, turns);
    for (unsigned i = 0; i < count; i++)
        c->start[c->count++] = first + turns[i];
    return c->count >= BATCH ? resolve(c, st) : FT_OK;
}

static void prefetch_leaf(const ft_part *p, uint64_t leaf)
{
    const unsigned char *slots = p->suffixes + leaf * p->shape.bytes + FT_LEAF_RANKS / 8 * p->shape.pointer_bits;
    prefetch(slots);
    prefetch(slots + 64);
}

static ft_code cut_leaves(cutter *c, const uint64_t *leaves, size_t count, ft_range r, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < count && i < AHEAD; i++)
        prefetch_leaf(c->part, leaves[i]);
    for (size_t i = 0; i < count && !rc; i++) {
        if (i + AHEAD < count)
            prefetch_leaf(c->part, leaves[i + AHEAD]);
        rc = cut_leaf(c, leaves[i], r, st);
    }
    return rc;
}

/* Of `count` leaves from `first` on, those where the next token may change, at their first
 * rank or behind it: not those among three separators that have the same. */
static size_t choose(const ft_part *p, ft_tree_cursor *cursor, size_t depth, uint64_t first, size_t count,
                     uint64_t last, uint64_t leaves[LEAVES])
{
    uint32_t codes[LEAVES + 1];
    const uint64_t behind = first + count;
    ft_tree_codes(&p->tree, cursor, (unsigned)depth, count, codes);
    ft_tree_cursor next = *cursor;
    codes[count] = UINT32_MAX;
    if (behind <= last) /* the separator behind the range's last leaf may belong to another pattern */
        ft_tree_codes(&p->tree, &next, (unsigned)depth, 1, codes + count);
    size_t chosen = 0;
    for (size_t i = 0; i < count; i++) {
        leaves[chosen] = first + i;
        chosen += i == 0 || codes[i] != codes[i - 1] || codes[i] != codes[i + 1] || codes[i] == UINT32_MAX;
    }
    return chosen;
}

ft_code ft_segment_runs(const ft_part *p, ft_range r, size_t depth, ft_run_fn *fn, void *context, ft_status *st)
{
    if (r.lo >= r.hi)
        return FT_OK;
    cutter c = {.part = p, .depth = depth, .fn = fn, .context = context, .run = {r.lo, r.lo}, .token = UINT32_MAX - 1};
    const uint64_t last = (r.hi - 1) / FT_LEAF_RANKS;
    uint64_t leaf = r.lo / FT_LEAF_RANKS, leaves[LEAVES];
    /* The separator before the range's first leaf, too, may belong to another pattern. */
    const int by_separators = depth < FT_TREE_CODES && last - leaf >= MANY;
    leaves[0] = leaf++;
    ft_code rc = cut_leaves(&c, leaves, 1, r, st);
    ft_tree_cursor cursor = by_separators ? ft_tree_seek(&p->tree, leaf) : (ft_tree_cursor){0};
    while (leaf <= last && !rc) {
        size_t count = last + 1 - leaf < LEAVES ? (size_t)(last + 1 - leaf) : LEAVES, chosen = count;
        if (by_separators)
            chosen = choose(p, &cursor, depth, leaf, count, last, leaves);
        else
            for (size_t i = 0; i < count; i++)
                leaves[i] = leaf + i;
        rc = cut_leaves(&c, leaves, chosen, r, st);
        leaf += count;
    }
    if (!rc)
        rc = resolve(&c, st);
    c.run.hi = r.hi;
    return rc ? rc : fn(context, c.token, c.run, st);
}
