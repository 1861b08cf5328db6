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

/* The leaf where the pattern would stand holds a suffix that shares most with it. The
 * suffixes around that place are the only candidates. If the first one that is not
 * below the pattern is the next leaf's first, then the pattern is below the separator
 * before it: it shares no more with that suffix than the two beside the separator share
 * with each other, so the last one of this leaf is as good. If it is this leaf's first,
 * the pattern begins with the separator before it, and the one before shares less. Only
 * at cut separators this does not hold: there the way down has looked at the texts. */
size_t ft_segment_longest(const ft_part *p, const uint32_t *pat, size_t known, size_t len, ft_range *out)
{
    len = known_ids(p, pat, len);
    *out = ft_part_all(p);
    if (len == 0)
        return 0;
    const ft_descent d = ft_tree_lower(&p->tree, pat, len);
    ft_leaf leaf;
    uint64_t number = d.leaf, first = open_leaf(p, number, &leaf);
    const ft_leaf_place place = ft_leaf_find(&leaf, pat, len, d.shared ? 0 : known);
    size_t longest = place.shared;
    unsigned at = place.at, lo, hi;
    if (d.shared > longest) {
        longest = d.shared;
        number = d.shared_leaf;
        first = open_leaf(p, number, &leaf);
        at = 0;
    }
    if (longest == 0)
        return 0;
    ft_leaf_around(&leaf, pat, longest, at, &lo, &hi);
    const int whole_left = lo > 0 || number == 0, whole_right = hi < leaf.count || first + leaf.count == p->n;
    if (longest == 1)
        *out = ft_part_first_token(p, pat[0]);
    else if (whole_left && whole_right)
        *out = range_of(first + lo, first + hi);
    else
        *out = find_known(p, pat, longest);
    return longest;
}
