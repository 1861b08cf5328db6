/* Searching a segment of ours: the tree leads to a leaf, the leaf to the ranks. */
#include "index/ft_part.h"

/* Ids behind one that is outside the vocabulary are never matched. */
static size_t known_ids(const ft_part *p, const uint32_t *pat, size_t len)
{
    size_t i = 0;
    while (i < len && pat[i] < p->vocab_size)
        i++;
    return i;
}

static uint64_t open_leaf(const ft_part *p, uint64_t number, ft_leaf *leaf) /* its first rank */
{
    const uint64_t first = number * FT_LEAF_RANKS, left = p->n - first;
    ft_leaf_open(leaf, p->suffixes + number * p->shape.bytes, &p->shape, &p->text,
                 left < FT_LEAF_RANKS ? (unsigned)left : FT_LEAF_RANKS);
    return first;
}

static ft_range range_of(uint64_t lo, uint64_t hi) /* damaged files may turn them round */
{
    return (ft_range){lo, hi < lo ? lo : hi};
}

/* The pattern stands in one leaf, or would. */
static ft_range find_in_leaf(const ft_part *p, uint64_t number, const uint32_t *pat, size_t len)
{
    ft_leaf leaf;
    const uint64_t first = open_leaf(p, number, &leaf);
    const ft_leaf_place place = ft_leaf_find(&leaf, pat, len, 0);
    if (place.shared < len)
        return (ft_range){first + place.lower, first + place.lower};
    unsigned lo, hi;
    ft_leaf_around(&leaf, pat, len, place.at, &lo, &hi);
    return range_of(first + lo, first + hi);
}

/* First rank that begins with the pattern, where the first suffix of the next leaf does:
 * what that shares with the last one here often tells without a look at this leaf, and
 * always without one at the text while the pattern is not longer than a separator. */
static uint64_t find_start(const ft_part *p, const ft_descent *d, const uint32_t *pat, size_t len)
{
    ft_leaf leaf;
    unsigned lo, hi;
    if (d->next_most < len)
        return (d->leaf + 1) * FT_LEAF_RANKS;
    const uint64_t first = open_leaf(p, d->leaf, &leaf);
    if (d->next_least < len)
        return first + ft_leaf_find(&leaf, pat, len, 0).lower;
    ft_leaf_around(&leaf, pat, len, leaf.count - 1, &lo, &hi);
    return first + lo;
}

/* len >= 2 ids of the vocabulary. */
static ft_range find_known(const ft_part *p, const uint32_t *pat, size_t len)
{
    const ft_descent start = ft_tree_lower(&p->tree, pat, len), end = ft_tree_upper(&p->tree, pat, len);
    if (end.leaf <= start.leaf)
        return find_in_leaf(p, start.leaf, pat, len);
    ft_leaf leaf;
    unsigned lo, hi;
    const uint64_t first = open_leaf(p, end.leaf, &leaf);
    ft_leaf_around(&leaf, pat, len, 0, &lo, &hi); /* its first suffix begins with the pattern */
    return range_of(find_start(p, &start, pat, len), first + hi);
}

ft_range ft_segment_find(const ft_part *p, const uint32_t *pat, size_t len)
{
    const size_t known = known_ids(p, pat, len);
    ft_range r = ft_part_all(p);
    if (known == 1)
        r = ft_part_first_token(p, pat[0]);
    else if (known)
        r = find_known(p, pat, known);
    return known < len ? (ft_range){r.hi, r.hi} : r; /* such an id is above all others */
}

/* --- Longest matches, many at a time ---------------------------------------------------
 *
 * The leaf where the pattern would stand holds a suffix that shares most with it. The
 * suffixes around that place are the only candidates. If the first one that is not
 * below the pattern is the next leaf's first, then the pattern is below the separator
 * before it: it shares no more with that suffix than the two beside the separator share
 * with each other, so the last one of this leaf is as good. If it is this leaf's first,
 * the pattern begins with the separator before it, and the one before shares less. Only
 * at cut separators this does not hold: there the way down has looked at the texts.
 *
 * All patterns take each step together, and what a step will read is asked for while
 * the others take theirs: from memory one cache line after another, or from the disk,
 * where pages are missing, in one batch. */

enum {
    TOGETHER = 32,  /* patterns whose steps are interleaved while all is in memory */
    TEXT_AHEAD = 64 /* bytes of a candidate's text that are asked for */
};

typedef struct probe {
    const uint32_t *ids;
    size_t length;
    ft_descent d;
    ft_leaf leaf;
    size_t longest;
    ft_range range;
    unsigned at;
    int open; /* the range goes on in other leaves */
} probe;

static void ask_for_node(const ft_part *p, unsigned level, const probe *b, ft_fetch *f)
{
    const unsigned char *node = ft_tree_node(&p->tree, level, b->d.leaf);
    if (f->pages) {
        ft_fetch_ask(f, node, FT_TREE_NODE);
        return;
    }
    /* The head, and where halving looks first. */
    for (unsigned at = 0; at < FT_TREE_NODE / 2; at += FT_TREE_NODE / 8)
        __builtin_prefetch(node + at);
}

static void descend(const ft_part *p, probe *b, size_t count, ft_fetch *f)
{
    for (size_t i = 0; i < count; i++)
        b[i].d = ft_tree_top();
    for (unsigned level = p->tree.levels; level-- > 0;) {
        for (size_t i = 0; i < count; i++)
            ask_for_node(p, level, &b[i], f);
        ft_fetch_wait(f);
        for (size_t i = 0; i < count; i++)
            ft_tree_step(&p->tree, level, b[i].ids, b[i].length, 0, &b[i].d);
    }
}

static void ask_for_leaf(const ft_part *p, uint64_t number, ft_fetch *f)
{
    const unsigned char *bytes = p->suffixes + number * p->shape.bytes;
    const unsigned slots = FT_LEAF_RANKS / 8 * p->shape.pointer_bits;
    if (f->pages)
        ft_fetch_ask(f, bytes, p->shape.bytes);
    else
        ft_fetch_ask(f, bytes + slots, p->shape.bytes - slots);
}

static void find_candidates(const ft_part *p, probe *b, size_t count, ft_fetch *f)
{
    for (size_t i = 0; i < count; i++)
        ask_for_leaf(p, b[i].d.leaf, f);
    ft_fetch_wait(f);
    for (size_t i = 0; i < count; i++) {
        open_leaf(p, b[i].d.leaf, &b[i].leaf);
        b[i].at = ft_leaf_candidate(&b[i].leaf, b[i].ids, b[i].length);
        __builtin_prefetch(b[i].leaf.pointers + b[i].at * p->shape.pointer_bits / 8);
    }
    for (size_t i = 0; i < count; i++) {
        const uint64_t position = ft_leaf_position_in(&b[i].leaf, b[i].at);
        if (position < p->n)
            ft_fetch_ask(f, p->text.packed + position * p->text.bits / 8, TEXT_AHEAD);
    }
    ft_fetch_wait(f);
}

/* From the candidate to the longest match. */
static void settle(const ft_part *p, probe *b, size_t known)
{
    /* Where texts were looked at on the way, the best may begin the next leaf. */
    const ft_leaf_place place = ft_leaf_find_from(&b->leaf, b->at, b->ids, b->length, b->d.shared ? 0 : known);
    uint64_t number = b->d.leaf;
    b->longest = place.shared;
    b->at = place.at;
    b->open = 0;
    b->range = ft_part_all(p);
    if (b->d.shared > b->longest) {
        b->longest = b->d.shared;
        number = b->d.shared_leaf;
        b->at = 0;
        open_leaf(p, number, &b->leaf);
    }
    if (b->longest == 0)
        return;
    if (b->longest == 1) {
        b->range = ft_part_first_token(p, b->ids[0]);
        return;
    }
    unsigned lo, hi;
    const uint64_t first = number * FT_LEAF_RANKS;
    ft_leaf_around(&b->leaf, b->ids, b->longest, b->at, &lo, &hi);
    b->range = range_of(first + lo, first + hi);
    b->open = (lo == 0 && number > 0) || (hi == b->leaf.count && first + hi < p->n);
}

/* Ranges that reach beyond their leaf: both ends are looked for anew. On the disk, the
 * nodes and leaves of all of them are asked for first. */
static void close_ranges(const ft_part *p, probe *b, size_t count, ft_fetch *f)
{
    if (f->pages) {
        for (int upper = 0; upper < 2; upper++)
            for (size_t i = 0; i < count; i++) {
                if (!b[i].open)
                    continue;
                ft_descent d = ft_tree_top();
                for (unsigned level = p->tree.levels; level-- > 1;)
                    ft_tree_step(&p->tree, level, b[i].ids, b[i].longest, upper, &d);
                ft_fetch_ask(f, ft_tree_node(&p->tree, 0, d.leaf), FT_TREE_NODE);
            }
        ft_fetch_wait(f);
        for (size_t i = 0; i < count; i++)
            if (b[i].open) {
                ask_for_leaf(p, ft_tree_lower(&p->tree, b[i].ids, b[i].longest).leaf, f);
                ask_for_leaf(p, ft_tree_upper(&p->tree, b[i].ids, b[i].longest).leaf, f);
            }
        ft_fetch_wait(f);
    }
    for (size_t i = 0; i < count; i++)
        if (b[i].open)
            b[i].range = find_known(p, b[i].ids, b[i].longest);
}

/* All patterns of `b`; the longest match before them had `before` tokens, 0 where none. */
static void match_together(const ft_part *p, probe *b, size_t count, size_t before, int ranges, ft_fetch *f)
{
    size_t some = 0; /* patterns that have tokens stand together in front */
    while (some < count && b[some].length)
        some++;
    if (some == 0)
        return;
    descend(p, b, some, f);
    find_candidates(p, b, some, f);
    for (size_t i = 0; i < some; i++) {
        settle(p, &b[i], before ? before - 1 : 0);
        before = b[i].longest;
    }
    if (ranges)
        close_ranges(p, b, some, f);
}

size_t ft_segment_longest(const ft_part *p, const uint32_t *pat, size_t known, size_t len, ft_range *out)
{
    probe b = {.ids = pat, .length = known_ids(p, pat, len)};
    ft_fetch f = {0};
    b.range = ft_part_all(p);
    match_together(p, &b, 1, known + 1, 1, &f);
    *out = b.range;
    return b.longest;
}

typedef struct matching {
    const ft_part *part;
    const uint32_t *ids;
    int ranges;
    ft_longest_fn *fn;
    void *context;
    probe *probes;
    size_t room;
    ft_fetch fetch;
} matching;

/* Positions [from, to), in front of an id that is outside the vocabulary. */
static void match_stretch(matching *m, size_t from, size_t to)
{
    for (size_t at = from, before = 0; at < to;) {
        const size_t count = to - at < m->room ? to - at : m->room;
        for (size_t i = 0; i < count; i++) {
            m->probes[i].ids = m->ids + at + i;
            m->probes[i].length = to - at - i;
        }
        match_together(m->part, m->probes, count, before, m->ranges, &m->fetch);
        for (size_t i = 0; i < count; i++)
            m->fn(m->context, at + i, m->probes[i].longest, m->probes[i].range);
        before = m->probes[count - 1].longest;
        at += count;
    }
}

void ft_segment_match_all(const ft_part *p, const uint32_t *ids, size_t count, int ranges, ft_longest_fn *fn,
                          void *context)
{
    enum { STEP_PAGES = 4 }; /* of one position */
    probe few[TOGETHER];
    matching m = {p, ids, ranges, fn, context, few, TOGETHER, {0}};
    void *scratch = NULL;
    if (ft_fetch_begin(&m.fetch, &p->residence, count * STEP_PAGES) && count > TOGETHER) {
        scratch = ft_fetch_scratch(count * sizeof(*m.probes));
        m.probes = scratch ? scratch : few;
        m.room = scratch ? count : TOGETHER;
    }
    for (size_t from = 0; from < count;) {
        const size_t to = from + known_ids(p, ids + from, count - from);
        match_stretch(&m, from, to);
        if (to < count)
            fn(context, to, 0, ft_part_all(p));
        from = to + 1;
    }
    ft_fetch_end(&m.fetch);
    ft_fetch_scratch_free(scratch, count * sizeof(*m.probes));
}
