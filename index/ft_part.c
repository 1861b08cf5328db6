#include "index/ft_part.h"

ft_range ft_part_narrow(const ft_part *p, ft_range r, uint64_t depth, uint64_t key)
{
    uint64_t lo = r.lo, hi = r.hi, mid = lo;
    int found = 0;
    while (lo < hi && !found) {
        mid = lo + (hi - lo) / 2;
        const uint64_t k = ft_part_key(p, ft_part_position(p, mid) + depth);
        if (k < key)
            lo = mid + 1;
        else if (k > key)
            hi = mid;
        else
            found = 1;
    }
    if (!found)
        return (ft_range){lo, lo};
    uint64_t low_end = mid, high_start = mid + 1;
    while (lo < low_end) { /* first with the key, in [lo, mid] */
        const uint64_t m = lo + (low_end - lo) / 2;
        if (ft_part_key(p, ft_part_position(p, m) + depth) < key)
            lo = m + 1;
        else
            low_end = m;
    }
    while (high_start < hi) { /* first beyond it, in [mid + 1, hi] */
        const uint64_t m = high_start + (hi - high_start) / 2;
        if (ft_part_key(p, ft_part_position(p, m) + depth) > key)
            hi = m;
        else
            high_start = m + 1;
    }
    return (ft_range){lo, hi};
}

uint64_t ft_part_next_key(const ft_part *p, ft_range r, uint64_t depth, uint64_t key)
{
    uint64_t step = 1, lo = r.lo, hi = r.hi; /* lo has the key */
    while (step < hi - lo && ft_part_key(p, ft_part_position(p, lo + step) + depth) == key) {
        lo += step;
        step *= 2;
    }
    if (step < hi - lo)
        hi = lo + step;
    for (lo++; lo < hi;) {
        const uint64_t m = lo + (hi - lo) / 2;
        if (ft_part_key(p, ft_part_position(p, m) + depth) == key)
            lo = m + 1;
        else
            hi = m;
    }
    return lo;
}

ft_range ft_part_first_token(const ft_part *p, uint32_t id)
{
    const uint64_t key = ft_part_query_key(p, id);
    if (p->bytewise)
        return ft_part_narrow(p, ft_part_all(p), 0, key);
    if (key == UINT64_MAX)
        return (ft_range){p->n, p->n};
    return (ft_range){ft_packed_get(p->bounds, p->shape.pointer_bits, id),
                      ft_packed_get(p->bounds, p->shape.pointer_bits, (uint64_t)id + 1)};
}

ft_range ft_part_find(const ft_part *p, const uint32_t *pat, size_t len)
{
    return p->bytewise ? ft_table_find(p, pat, len) : ft_segment_find(p, pat, len);
}

/* The search finds runs from one end only: forward, longest prefixes; in reversed
 * parts, longest suffixes. The other is found by trying lengths, since a run that
 * does not occur is in no longer one. `known` tokens occur, `beyond` do not. */
static size_t by_lengths(const ft_part *p, const uint32_t *pat, size_t len, int prefix, size_t known, size_t beyond,
                         ft_range *out)
{
    size_t step = 1;
    *out = ft_part_find(p, prefix ? pat : pat + len - known, known);
    while (beyond - known > 1) {
        /* First by doubling steps: most runs are short. */
        const size_t half = (beyond - known) / 2, next = known + (step < half ? step : half);
        const ft_range r = ft_part_find(p, prefix ? pat : pat + len - next, next);
        if (ft_part_live(p, r)) {
            known = next;
            step *= 2;
            *out = r;
        } else {
            beyond = next;
            step = len;
        }
    }
    return known;
}

/* A longest run that stands in removed documents alone is too long. */
size_t ft_part_only_live(const ft_part *p, const uint32_t *pat, size_t len, size_t longest, ft_range *out)
{
    if (!p->removed_ranks.count || ft_part_live(p, *out))
        return longest;
    return by_lengths(p, pat, len, 1, 0, longest, out);
}

size_t ft_part_longest_prefix(const ft_part *p, const uint32_t *pat, size_t len, ft_range *out)
{
    return p->reversed ? by_lengths(p, pat, len, 1, 0, len + 1, out) : ft_part_extend(p, pat, 0, len, out);
}

size_t ft_part_extend(const ft_part *p, const uint32_t *pat, size_t known, size_t len, ft_range *out)
{
    assert(!p->reversed);
    if (!p->bytewise)
        return ft_part_only_live(p, pat, len, ft_segment_longest(p, pat, known, len, out), out);
    return ft_table_longest(p, pat, len, out);
}

size_t ft_part_longest_suffix(const ft_part *p, const uint32_t *pat, size_t len, ft_range *out)
{
    return p->reversed ? ft_table_longest(p, pat, len, out) : by_lengths(p, pat, len, 0, 0, len + 1, out);
}
