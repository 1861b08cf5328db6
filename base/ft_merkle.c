#include "base/ft_merkle.h"

#include <assert.h>
#include <string.h>

ft_digest ft_merkle_node(const ft_digest *left, const ft_digest *right)
{
    static const unsigned char domain = 1;
    ft_hasher h;
    ft_hasher_init(&h);
    ft_hasher_add(&h, &domain, 1);
    ft_hasher_add(&h, left->bytes, sizeof(left->bytes));
    ft_hasher_add(&h, right->bytes, sizeof(right->bytes));
    return ft_hasher_end(&h);
}

static int same(const ft_digest *a, const ft_digest *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* n + n/2 + n/4 + … = 2n - (bits of n that are set) */
uint64_t ft_merkle_node_count(uint64_t leaves)
{
    return 2 * leaves - (uint64_t)__builtin_popcountll(leaves);
}

/* Behind the leaf that completes it come the nodes that it completes, level by level. */
uint64_t ft_merkle_position(unsigned level, uint64_t number)
{
    const uint64_t last = ((number + 1) << level) - 1;
    return ft_merkle_node_count(last) + level;
}

/* --- Making --------------------------------------------------------------------- */

typedef struct tree {
    ft_merkle_read *read;
    void *context;
} tree;

ft_code ft_merkle_append(ft_merkle_read *read, void *context, uint64_t size, const ft_digest *leaf,
                         ft_digest out[FT_MERKLE_LEVELS], size_t *count, ft_status *st)
{
    unsigned level = 0;
    out[0] = *leaf;
    for (; size >> level & 1; level++) {
        ft_digest left;
        const ft_code rc = read(context, level, (size >> level) - 1, &left, st);
        if (rc)
            return rc;
        out[level + 1] = ft_merkle_node(&left, &out[level]);
    }
    *count = level + 1;
    return FT_OK;
}

/* Of the leaves [lo, hi), where lo is a multiple of a power of two that is no less than hi - lo: whole subtrees from
 * the largest down, joined from the right. */
static ft_code range_root(const tree *t, uint64_t lo, uint64_t hi, ft_digest *out, ft_status *st)
{
    ft_digest parts[FT_MERKLE_LEVELS];
    size_t n = 0;
    for (unsigned level = FT_MERKLE_LEVELS; level-- > 0;) {
        if (!((hi - lo) >> level & 1))
            continue;
        const ft_code rc = t->read(t->context, level, lo >> level, &parts[n], st);
        if (rc)
            return rc;
        n++;
        lo += UINT64_C(1) << level;
    }
    *out = parts[n - 1];
    for (size_t i = n - 1; i-- > 0;)
        *out = ft_merkle_node(&parts[i], out);
    return FT_OK;
}

ft_code ft_merkle_root_of(ft_merkle_read *read, void *context, uint64_t size, ft_digest *out, ft_status *st)
{
    const tree t = {read, context};
    if (size)
        return range_root(&t, 0, size, out, st);
    *out = ft_digest_of("", 0);
    return FT_OK;
}

/* The largest power of two below n; n > 1. */
static uint64_t split_of(uint64_t n)
{
    return UINT64_C(1) << (63 - __builtin_clzll(n - 1));
}

static ft_code add_range(const tree *t, uint64_t lo, uint64_t hi, ft_merkle_proof *out, ft_status *st)
{
    const ft_code rc = range_root(t, lo, hi, &out->nodes[out->count], st);
    out->count += rc == FT_OK;
    return rc;
}

/* They are found from the root down. */
static void turn_round(ft_merkle_proof *p)
{
    for (size_t i = 0; i < p->count / 2; i++) {
        const ft_digest d = p->nodes[i];
        p->nodes[i] = p->nodes[p->count - 1 - i];
        p->nodes[p->count - 1 - i] = d;
    }
}

ft_code ft_merkle_inclusion(ft_merkle_read *read, void *context, uint64_t index, uint64_t size, ft_merkle_proof *out,
                            ft_status *st)
{
    const tree t = {read, context};
    uint64_t lo = 0, hi = size;
    ft_code rc = FT_OK;
    assert(index < size);
    out->count = 0;
    while (!rc && hi - lo > 1) {
        const uint64_t middle = lo + split_of(hi - lo);
        if (index < middle) {
            rc = add_range(&t, middle, hi, out, st);
            hi = middle;
        } else {
            rc = add_range(&t, lo, middle, out, st);
            lo = middle;
        }
    }
    turn_round(out);
    return rc;
}

/* SUBPROOF of the RFC. As long as lo is 0 the smaller tree's own root, which the verifier has, is meant at the end. */
ft_code ft_merkle_consistency(ft_merkle_read *read, void *context, uint64_t from, uint64_t to, ft_merkle_proof *out,
                              ft_status *st)
{
    const tree t = {read, context};
    uint64_t lo = 0, hi = to;
    ft_code rc = FT_OK;
    assert(from <= to);
    out->count = 0;
    if (!from)
        return FT_OK;
    while (!rc && from != hi) {
        const uint64_t middle = lo + split_of(hi - lo);
        if (from <= middle) {
            rc = add_range(&t, middle, hi, out, st);
            hi = middle;
        } else {
            rc = add_range(&t, lo, middle, out, st);
            lo = middle;
        }
    }
    if (!rc && lo)
        rc = add_range(&t, lo, hi, out, st);
    turn_round(out);
    return rc;
}

/* --- Checking -------------------------------------------------------------------- */

/* Where a path stands: a node's number, and that of the last one on its level. */
typedef struct place {
    uint64_t node, last;
} place;

static void go_up(place *p)
{
    p->node >>= 1;
    p->last >>= 1;
}

/* Whether the path's next node stands to the left. Then levels on which this one has no sibling are passed over. */
static int is_on_the_right(place *p)
{
    if (!(p->node & 1) && p->node != p->last)
        return 0;
    while (p->node && !(p->node & 1))
        go_up(p);
    return 1;
}

int ft_merkle_includes(const ft_digest *leaf, uint64_t index, uint64_t size, const ft_digest *root,
                       const ft_digest *nodes, size_t count)
{
    if (index >= size)
        return 0;
    place at = {index, size - 1};
    ft_digest r = *leaf;
    for (size_t i = 0; i < count; i++, go_up(&at)) {
        if (!at.last)
            return 0;
        r = is_on_the_right(&at) ? ft_merkle_node(&nodes[i], &r) : ft_merkle_node(&r, &nodes[i]);
    }
    return !at.last && same(&r, root);
}

int ft_merkle_extends(uint64_t from, const ft_digest *from_root, uint64_t to, const ft_digest *to_root,
                      const ft_digest *nodes, size_t count)
{
    const ft_digest nothing = ft_digest_of("", 0);
    if (from > to)
        return 0;
    if (from == to)
        return !count && same(from_root, to_root);
    if (!from)
        return !count && same(from_root, &nothing);
    const int whole = !(from & (from - 1)); /* then the smaller tree is the first node, and left out */
    if (!whole && !count)
        return 0;
    place at = {from - 1, to - 1};
    while (at.node & 1)
        go_up(&at);
    ft_digest old = whole ? *from_root : nodes[0], new = old;
    for (size_t i = !whole; i < count; i++, go_up(&at)) {
        if (!at.last)
            return 0;
        if (is_on_the_right(&at)) {
            old = ft_merkle_node(&nodes[i], &old);
            new = ft_merkle_node(&nodes[i], &new);
        } else {
            new = ft_merkle_node(&new, &nodes[i]);
        }
    }
    return !at.last && same(&old, from_root) && same(&new, to_root);
}
