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

/* What is read through a part, or rehearsed: then text.watch is set, what is found while
 * it lacks a page is to be thrown away, and nothing is read that would wait for a disk. */
typedef struct view {
    const ft_part *p;
    const ft_codes *text;
    const ft_tree *tree;
} view;

static view view_of(const ft_part *p)
{
    return (view){p, &p->text, &p->tree};
}

/* 0: rehearsing, and it is not there. */
static int open_leaf(const view *v, uint64_t number, ft_leaf *leaf)
{
    const ft_part *p = v->p;
    const unsigned char *bytes = p->suffixes + number * p->shape.bytes;
    const uint64_t left = p->n - number * FT_LEAF_RANKS;
    /* Opening reads one byte more. */
    if (v->text->watch && ft_fetch_lacks(v->text->watch, bytes, p->shape.bytes + 1))
        return 0;
    ft_leaf_open(leaf, bytes, &p->shape, v->text, left < FT_LEAF_RANKS ? (unsigned)left : FT_LEAF_RANKS);
    return 1;
}

static ft_range range_of(uint64_t lo, uint64_t hi) /* damaged files may turn them round */
{
    return (ft_range){lo, hi < lo ? lo : hi};
}

/* The pattern stands in one leaf, or would. */
static ft_range find_in_leaf(const view *v, uint64_t number, const uint32_t *pat, size_t len)
{
    const uint64_t first = number * FT_LEAF_RANKS;
    ft_leaf leaf;
    if (!open_leaf(v, number, &leaf))
        return ft_part_all(v->p);
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
static uint64_t find_start(const view *v, const ft_descent *d, const uint32_t *pat, size_t len)
{
    const uint64_t first = d->leaf * FT_LEAF_RANKS;
    ft_leaf leaf;
    unsigned lo, hi;
    if (d->next_most < len || !open_leaf(v, d->leaf, &leaf))
        return first + FT_LEAF_RANKS;
    if (d->next_least < len)
        return first + ft_leaf_find(&leaf, pat, len, 0).lower;
    ft_leaf_around(&leaf, pat, len, leaf.count - 1, &lo, &hi);
    return first + lo;
}

static uint64_t find_end(const view *v, uint64_t number, const uint32_t *pat, size_t len)
{
    ft_leaf leaf;
    unsigned lo, hi = 0;
    if (open_leaf(v, number, &leaf))
        ft_leaf_around(&leaf, pat, len, 0, &lo, &hi); /* its first suffix begins with the pattern */
    return number * FT_LEAF_RANKS + hi;
}

/* len >= 2 ids of the vocabulary. */
static ft_range find_known(const view *v, const uint32_t *pat, size_t len)
{
    const ft_descent start = ft_tree_lower(v->tree, pat, len);
    const int lacking = ft_codes_lacking(v->text);
    if (lacking) /* a rehearsal asks for both ways before it gives up */
        v->text->watch->lacking = 0;
    const ft_descent end = ft_tree_upper(v->tree, pat, len);
    if (lacking)
        v->text->watch->lacking = 1;
    if (ft_codes_lacking(v->text))
        return ft_part_all(v->p);
    if (end.leaf <= start.leaf)
        return find_in_leaf(v, start.leaf, pat, len);
    const uint64_t hi = find_end(v, end.leaf, pat, len);
    return range_of(find_start(v, &start, pat, len), hi);
}

static ft_range find(const view *v, const uint32_t *pat, size_t len)
{
    const ft_part *p = v->p;
    const size_t known = known_ids(p, pat, len);
    ft_range r = ft_part_all(p);
    if (known == 1)
        r = ft_part_first_token(p, pat[0]);
    else if (known)
        r = find_known(v, pat, known);
    return known < len ? (ft_range){r.hi, r.hi} : r; /* such an id is above all others */
}

ft_range ft_segment_find(const ft_part *p, const uint32_t *pat, size_t len)
{
    const view v = view_of(p);
    return find(&v, pat, len);
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
 * In memory, all patterns take each step together, and the cache lines that a step will
 * read are asked for while the others take theirs. From the disk, each goes as far as it
 * gets without a page that is missing, asks for that, and for those that it may need
 * next; when all have given up, what they asked for is fetched in one batch. */

enum {
    TOGETHER = 32,   /* patterns whose steps are interleaved while all is in memory */
    TEXT_AHEAD = 64, /* bytes of a candidate's text that are asked for */
    STEP_PAGES = 4,  /* of one position */
    SOME_PAGES = 64  /* besides: few positions may ask for many */
};

typedef struct probe {
    const uint32_t *ids;
    size_t length;
    ft_descent d;
    ft_leaf leaf;
    size_t longest;
    ft_range range;
    const struct probe *previous; /* of the position before; NULL: none */
    unsigned at;
    unsigned level; /* rehearsing: the steps down the tree that are left */
    int wants_range;
    int open; /* the range goes on in other leaves */
    int settled, done;
} probe;

static void ask_for_node(const ft_part *p, unsigned level, const probe *b)
{
    const unsigned char *node = ft_tree_node(&p->tree, level, b->d.leaf);
    /* The head, and where halving looks first. */
    for (unsigned at = 0; at < FT_TREE_NODE / 2; at += FT_TREE_NODE / 8)
        __builtin_prefetch(node + at);
}

static void descend(const view *v, probe *b, size_t count)
{
    for (unsigned level = v->tree->levels; level-- > 0;) {
        for (size_t i = 0; i < count; i++)
            ask_for_node(v->p, level, &b[i]);
        for (size_t i = 0; i < count; i++)
            ft_tree_step(v->tree, level, b[i].ids, b[i].length, 0, &b[i].d);
    }
}

static void find_candidate(const view *v, probe *b)
{
    if (open_leaf(v, b->d.leaf, &b->leaf))
        b->at = ft_leaf_candidate(&b->leaf, b->ids, b->length);
}

static void find_candidates(const view *v, probe *b, size_t count)
{
    const ft_part *p = v->p;
    const unsigned slots = FT_LEAF_RANKS / 8 * p->shape.pointer_bits;
    for (size_t i = 0; i < count; i++)
        ft_fetch_near(p->suffixes + b[i].d.leaf * p->shape.bytes + slots, p->shape.bytes - slots);
    for (size_t i = 0; i < count; i++) {
        find_candidate(v, &b[i]);
        __builtin_prefetch(b[i].leaf.pointers + b[i].at * p->shape.pointer_bits / 8);
    }
    for (size_t i = 0; i < count; i++) {
        const uint64_t position = ft_leaf_position_in(&b[i].leaf, b[i].at);
        if (position < p->n)
            ft_fetch_near(p->text.packed + position * p->text.bits / 8, TEXT_AHEAD);
    }
}

/* The range of a match that is no piece of the one before will be asked for next, as a
 * rule: a rehearsal brings in its pages in any case. */
static int wants_range(const view *v, const probe *b)
{
    return b->wants_range || (v->text->watch && !(b->previous && b->previous->longest == b->longest + 1));
}

/* From the candidate to the longest match; `before`: how many tokens that of the position
 * before has, 0 where it is not known. */
static void settle(const view *v, probe *b, size_t before)
{
    const ft_part *p = v->p;
    /* Where texts were looked at on the way, the best may begin the next leaf. */
    const size_t known = b->d.shared || before == 0 ? 0 : before - 1;
    const ft_leaf_place place = ft_leaf_find_from(&b->leaf, b->at, b->ids, b->length, known);
    if (ft_codes_lacking(v->text))
        return;
    ft_leaf other;
    const ft_leaf *leaf = &b->leaf;
    uint64_t number = b->d.leaf;
    unsigned at = place.at, lo, hi;
    b->longest = place.shared;
    b->range = ft_part_all(p);
    b->open = 0;
    if (b->d.shared > b->longest) {
        b->longest = b->d.shared;
        at = 0;
        leaf = &other;
    }
    if (b->longest == 1)
        b->range = ft_part_first_token(p, b->ids[0]);
    if (b->longest < 2 || !wants_range(v, b))
        return;
    if (leaf == &other) {
        number = ft_tree_first_leaf(v->tree, b->d.shared_level, b->d.shared_child);
        if (ft_codes_lacking(v->text) || number >= v->tree->leaves || !open_leaf(v, number, &other))
            return;
    }
    const uint64_t first = number * FT_LEAF_RANKS;
    ft_leaf_around(leaf, b->ids, b->longest, at, &lo, &hi);
    b->range = range_of(first + lo, first + hi);
    b->open = (lo == 0 && number > 0) || (hi == leaf->count && first + hi < p->n);
}

/* A range that reaches beyond its leaf: both ends are looked for anew. */
static void close_range(const view *v, probe *b)
{
    if (b->open)
        b->range = find_known(v, b->ids, b->longest);
}

/* On from where the last rehearsal gave up: the tree, the leaf and its texts, the range's ends. */
static void rehearse(const view *v, probe *b)
{
    while (b->level > 0) {
        ft_descent d = b->d;
        ft_tree_step(v->tree, b->level - 1, b->ids, b->length, 0, &d);
        if (ft_codes_lacking(v->text))
            return;
        b->d = d;
        b->level--;
    }
    if (!b->settled) {
        find_candidate(v, b);
        if (!ft_codes_lacking(v->text))
            settle(v, b, 0);
        if (ft_codes_lacking(v->text))
            return;
        b->settled = 1;
    }
    close_range(v, b);
}

/* A view that watches what is read. */
typedef struct watch {
    ft_codes text;
    ft_tree tree;
    view v;
} watch;

static const view *watch_with(watch *w, const ft_part *p, ft_fetch *f)
{
    w->text = p->text;
    w->tree = p->tree;
    w->text.watch = f;
    w->tree.text = &w->text;
    w->v = (view){p, &w->text, &w->tree};
    return &w->v;
}

/* Each as far as it gets with the pages of the last batch, until all are through. */
static void match_from_disk(const ft_part *p, probe *b, size_t count, ft_fetch *f)
{
    watch w;
    const view *v = watch_with(&w, p, f);
    for (size_t left = count; left; ft_fetch_wait(f))
        for (size_t i = 0; i < count; i++) {
            if (b[i].done)
                continue;
            f->lacking = 0;
            rehearse(v, &b[i]);
            b[i].done = !f->lacking;
            left -= (size_t)b[i].done;
        }
}

/* All patterns of `b`; the longest match before them had `before` tokens, 0 where none. */
static void match_together(const ft_part *p, probe *b, size_t count, size_t before, int ranges, ft_fetch *f)
{
    const view v = view_of(p);
    size_t some = 0; /* patterns that have tokens stand together in front */
    for (; some < count && b[some].length; some++) {
        b[some].d = ft_tree_top();
        b[some].wants_range = ranges;
        b[some].previous = some ? &b[some - 1] : NULL;
        b[some].longest = 0;
        b[some].open = b[some].settled = b[some].done = 0;
        b[some].level = p->tree.levels;
    }
    if (some == 0)
        return;
    if (f->pages) {
        match_from_disk(p, b, some, f);
        return;
    }
    descend(&v, b, some);
    find_candidates(&v, b, some);
    for (size_t i = 0; i < some; i++) {
        settle(&v, &b[i], before);
        before = b[i].longest;
    }
    for (size_t i = 0; i < some; i++)
        close_range(&v, &b[i]);
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
    probe few[TOGETHER];
    matching m = {p, ids, ranges, fn, context, few, TOGETHER, {0}};
    void *scratch = NULL;
    if (ft_fetch_begin(&m.fetch, &p->residence, count * STEP_PAGES + SOME_PAGES) && count > TOGETHER) {
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

void ft_segment_expect(const ft_part *p, const uint32_t *ids, const ft_stretch *stretches, size_t count)
{
    ft_fetch f;
    watch w;
    unsigned char *done = NULL;
    if (ft_fetch_begin(&f, &p->residence, count * STEP_PAGES + SOME_PAGES) && (done = ft_fetch_scratch(count))) {
        const view *v = watch_with(&w, p, &f);
        for (size_t left = count; left; ft_fetch_wait(&f))
            for (size_t i = 0; i < count; i++) {
                if (done[i])
                    continue;
                f.lacking = 0;
                (void)find(v, ids + stretches[i].start, stretches[i].end - stretches[i].start);
                done[i] = !f.lacking;
                left -= done[i];
            }
    }
    ft_fetch_end(&f);
    ft_fetch_scratch_free(done, count);
}
