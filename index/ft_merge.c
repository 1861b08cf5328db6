#include "index/ft_merge.h"

#include "base/ft_buffer.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    PARTITIONS_A_THREAD = 48, /* so that threads end at about the same time */
    LONG_BITS = 14,           /* of the number of long matches that each thread remembers */
    TILE_BITS = 16            /* codes of a tile */
};

/* --- Comparing ------------------------------------------------------------------------- */

void ft_codes_copy_to(unsigned char *block, const ft_codes *text)
{
    const uint64_t bytes = ft_packed_bytes(text->count, text->bits);
    memcpy(block, text->packed, (size_t)bytes);
    memset(block + bytes, 0, FT_CODES_BEHIND);
}

unsigned char *ft_codes_copy(const ft_codes *text)
{
    unsigned char *copy = ft_alloc_large((size_t)ft_packed_bytes(text->count, text->bits) + FT_CODES_BEHIND);
    if (copy)
        ft_codes_copy_to(copy, text);
    return copy;
}

/* Long stretches that stand at several places are met again and again, from another code
 * of them each time. What one comparison found holds for all others at the same distance:
 * from `from` on, which lies in the tile that the entry is for, the text and what stands
 * `distance` further are equal up to `end`, and then differ as `sign` says. So each tile
 * of a repeat is read once for each distance. */
typedef struct long_match {
    uint64_t distance, from, end;
    int sign; /* 0: both documents end */
} long_match;

typedef struct merger {
    ft_suffix_writer *out;
    const ft_merge_source *const *sources;
    size_t count;
    const ft_codes *text;
    const ft_progress *progress;
    size_t partitions, stripes; /* of each partition, the last may have fewer */
    uint64_t n;
    _Atomic uint64_t done;
    atomic_int failed;
    ft_code rc;
    ft_status st;
} merger;

/* One input of a partition. */
typedef struct input {
    uint64_t next, end;   /* items not read yet */
    size_t at, have;      /* in `items` */
    ft_merge_item *items; /* [FT_MERGE_READ] */
    ft_merge_item head;   /* what it shares is measured against the last output */
    int ended;
} input;

typedef struct partition {
    merger *m;
    input *inputs;
    uint32_t *losers; /* [leaves of the tree]; losers[0] is the winner */
    size_t leaves;
    long_match *matches;
    ft_ranked *stripe; /* [FT_STRIPE] */
    uint64_t first;    /* rank of the partition's first suffix */
    uint64_t ranks;
    unsigned worker;
} partition;

static long_match *match_of(const partition *p, uint64_t distance, uint64_t tile)
{
    return &p->matches[(distance * 0x9E3779B97F4A7C15u ^ tile * 0xC2B2AE3D27D4EB4Fu) >> (64 - LONG_BITS)];
}

/* Where the text from `start` on stops being equal to what stands `distance` further. */
static uint64_t find_end(const partition *p, uint64_t start, uint64_t distance, int *sign)
{
    const ft_codes *text = p->m->text;
    for (uint64_t at = start;;) {
        const uint64_t tile = at >> TILE_BITS;
        uint64_t limit = (tile + 1) << TILE_BITS;
        const long_match *known = match_of(p, distance, tile);
        if (known->distance == distance && known->from >> TILE_BITS == tile && at < known->end) {
            if (at >= known->from) {
                *sign = known->sign;
                return known->end;
            }
            limit = known->from;
        }
        int equal = 0;
        const uint64_t end = at + ft_codes_shared(text, at, at + distance, 0, limit - at, &equal);
        if (equal || end < limit) {
            *sign = equal ? 0 : ft_codes_get(text, end) < ft_codes_get(text, end + distance) ? -1 : 1;
            return end;
        }
        at = end;
    }
}

/* Sign of (suffix a - suffix b), which share `from` codes; *shared receives how many they do. */
static int compare_long(const partition *p, uint64_t a, uint64_t b, uint64_t from, uint64_t *shared)
{
    const int swapped = a > b;
    const uint64_t low = swapped ? b : a, distance = swapped ? a - b : b - a;
    int sign;
    const uint64_t start = low + from, end = find_end(p, start, distance, &sign);
    if (end - start >= FT_SHARED_MAX)
        for (uint64_t tile = start >> TILE_BITS; tile << TILE_BITS < end; tile++) {
            const uint64_t first = tile << TILE_BITS;
            long_match *known = match_of(p, distance, tile);
            const uint64_t now = first > start ? first : start;
            const int same = known->distance == distance && known->end == end && known->from >> TILE_BITS == tile;
            if (same && known->from <= now)
                break; /* so do the tiles behind it */
            *known = (long_match){distance, now, end, sign};
        }
    *shared = end - low;
    if (sign == 0)
        return a < b ? -1 : 1; /* equal suffixes stand by position */
    return swapped ? -sign : sign;
}

/* What the suffix at b shares with the one at a, that is below it. */
static void set_shared(const partition *p, ft_merge_item *item, uint64_t before, uint64_t shared)
{
    const ft_codes *text = p->m->text;
    if (shared >= FT_SHARED_MAX) {
        item->shared = FT_SHARED_MAX;
        return;
    }
    const uint32_t here = ft_codes_get(text, item->position + shared), there = ft_codes_get(text, before + shared);
    item->code = here;
    if (here == there) { /* both end: equal suffixes */
        item->shared = FT_SHARED_MAX;
    } else {
        item->shared = (unsigned char)shared;
        item->bit = (unsigned char)ft_codes_bit(here, there, text->bits);
    }
}

/* 1 when `a` comes before `b`; the loser is measured against the winner afterwards. */
static int wins(partition *p, ft_merge_item *a, ft_merge_item *b)
{
    if (a->shared != b->shared)
        return a->shared > b->shared;
    if (a->shared < FT_SHARED_MAX && a->code != b->code) {
        const int first = a->code < b->code;
        ft_merge_item *loser = first ? b : a;
        loser->bit = (unsigned char)ft_codes_bit(a->code, b->code, p->m->text->bits);
        return first;
    }
    uint64_t shared;
    const uint64_t from = a->shared < FT_SHARED_MAX ? a->code ? (uint64_t)a->shared + 1 : a->shared : 0;
    const int first = compare_long(p, a->position, b->position, from, &shared) < 0;
    ft_merge_item *winner = first ? a : b, *loser = first ? b : a;
    set_shared(p, loser, winner->position, shared);
    return first;
}

/* --- One partition ------------------------------------------------------------------------ */

static ft_code fill(partition *p, size_t source, int first, ft_status *st)
{
    input *in = &p->inputs[source];
    const uint64_t left = in->end - in->next;
    in->at = 0;
    in->have = left < FT_MERGE_READ ? (size_t)left : FT_MERGE_READ;
    const ft_merge_source *s = p->m->sources[source];
    ft_code rc = in->have ? s->read(s, in->next, in->have, first, in->items, st) : FT_OK;
    in->next += in->have;
    if (!rc && first && in->have) { /* measured against nothing */
        in->items[0].shared = in->items[0].bit = 0;
        in->items[0].code = ft_codes_get(p->m->text, in->items[0].position);
    }
    return rc;
}

static ft_code advance(partition *p, size_t source, ft_status *st)
{
    input *in = &p->inputs[source];
    if (in->at == in->have) {
        ft_code rc = fill(p, source, 0, st);
        if (rc)
            return rc;
    }
    in->ended = in->at == in->have;
    if (!in->ended)
        in->head = in->items[in->at++];
    return FT_OK;
}

static int source_wins(partition *p, uint32_t a, uint32_t b)
{
    if (a >= p->m->count || p->inputs[a].ended)
        return 0;
    if (b >= p->m->count || p->inputs[b].ended)
        return 1;
    return wins(p, &p->inputs[a].head, &p->inputs[b].head);
}

/* The new head of `source` climbs; at each node the loser stays. */
static void replay(partition *p, uint32_t source)
{
    uint32_t winner = source;
    for (size_t node = (p->leaves + source) / 2; node > 0; node /= 2)
        if (source_wins(p, p->losers[node], winner)) {
            const uint32_t loser = winner;
            winner = p->losers[node];
            p->losers[node] = loser;
        }
    p->losers[0] = winner;
}

static uint32_t build_tree(partition *p, size_t node)
{
    if (node >= p->leaves)
        return (uint32_t)(node - p->leaves);
    const uint32_t a = build_tree(p, 2 * node), b = build_tree(p, 2 * node + 1);
    const int first = source_wins(p, a, b);
    p->losers[node] = first ? b : a;
    return first ? a : b;
}

/* What the partition's first suffix shares with the last one before it, which is the
 * greatest of those before each source's part. */
static ft_code measure_first(partition *p, ft_merge_item *item, ft_status *st)
{
    uint64_t before = UINT64_MAX;
    for (size_t i = 0; i < p->m->count; i++) {
        const uint64_t begin = p->inputs[i].next - p->inputs[i].have;
        const ft_merge_source *s = p->m->sources[i];
        uint64_t position, shared;
        if (begin == 0)
            continue;
        ft_code rc = s->position(s, begin - 1, &position, st);
        if (rc)
            return rc;
        if (before == UINT64_MAX || compare_long(p, position, before, 0, &shared) > 0)
            before = position;
    }
    if (before == UINT64_MAX)
        return FT_OK;
    uint64_t shared;
    (void)compare_long(p, item->position, before, 0, &shared);
    set_shared(p, item, before, shared);
    return FT_OK;
}

static ft_code merge_stripes(partition *p, ft_status *st)
{
    merger *m = p->m;
    ft_code rc = FT_OK;
    size_t stripe = (size_t)(p->first / FT_STRIPE), used = 0;
    for (uint64_t i = 0; i < p->ranks && !rc; i++) {
        const uint32_t winner = p->losers[0];
        ft_merge_item item = p->inputs[winner].head;
        if (i == 0)
            rc = measure_first(p, &item, st);
        p->stripe[used++] = ft_ranked_make(item.position, item.shared, item.bit);
        if (!rc)
            rc = advance(p, winner, st);
        replay(p, winner);
        if (!rc && (used == FT_STRIPE || i + 1 == p->ranks)) {
            rc = ft_suffix_writer_stripe(m->out, stripe++, p->stripe, used, m->text, st);
            const uint64_t done = atomic_fetch_add(&m->done, used) + used;
            used = 0;
            /* The caller's thread is worker 0: it alone may report. */
            if (!rc && (atomic_load(&m->failed) ||
                        (p->worker == 0 && ft_progress_report(m->progress, "merge", done, m->n, "tokens"))))
                rc = ft_fail(st, FT_ERR_CANCELLED, "merge: stopped");
        }
    }
    return rc;
}

/* --- Cutting the output ---------------------------------------------------------------------- */

/* Sign of (a - b), in the merged order. */
static int compare_places(partition *p, uint64_t a, uint64_t b)
{
    uint64_t shared;
    return a == b ? 0 : compare_long(p, a, b, 0, &shared);
}

/* Items of source i in [lo, hi) that stand before the suffix at `pivot`. */
static ft_code count_before(partition *p, size_t i, uint64_t lo, uint64_t hi, uint64_t pivot, uint64_t *out,
                            ft_status *st)
{
    const ft_merge_source *s = p->m->sources[i];
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        uint64_t position;
        ft_code rc = s->position(s, mid, &position, st);
        if (rc)
            return rc;
        if (compare_places(p, position, pivot) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *out = lo;
    return FT_OK;
}

/* Splits the sources so that `rank` suffixes stand before: cut[i] of source i. */
static ft_code cut_at(partition *p, uint64_t rank, uint64_t *cut, ft_status *st)
{
    const size_t count = p->m->count;
    uint64_t *lo = ft_alloc_array(3 * count, sizeof(*lo)), *hi = lo ? lo + count : NULL;
    if (!lo)
        return ft_fail(st, FT_ERR_MEM, "merge: out of memory");
    for (size_t i = 0; i < count; i++)
        hi[i] = p->m->sources[i]->count;
    ft_code rc = FT_OK;
    while (!rc) {
        size_t widest = 0;
        for (size_t i = 1; i < count; i++)
            if (hi[i] - lo[i] > hi[widest] - lo[widest])
                widest = i;
        if (hi[widest] == lo[widest])
            break;
        uint64_t pivot, sum = 0, *before = hi + count;
        const ft_merge_source *s = p->m->sources[widest];
        const uint64_t mid = lo[widest] + (hi[widest] - lo[widest]) / 2;
        rc = s->position(s, mid, &pivot, st);
        for (size_t i = 0; i < count && !rc; i++) {
            before[i] = mid;
            if (i != widest)
                rc = count_before(p, i, lo[i], hi[i], pivot, &before[i], st);
            sum += before[i];
        }
        if (rc)
            break;
        if (sum < rank) /* the pivot stands before the cut */
            for (size_t i = 0; i < count; i++)
                lo[i] = before[i] + (i == widest);
        else
            for (size_t i = 0; i < count; i++)
                hi[i] = before[i];
    }
    for (size_t i = 0; i < count; i++)
        cut[i] = lo[i];
    free(lo);
    return rc;
}

static void partition_release(partition *p)
{
    for (size_t i = 0; p->inputs && i < p->m->count; i++)
        free(p->inputs[i].items);
    free(p->inputs);
    free(p->losers);
    free(p->matches);
    free(p->stripe);
}

static ft_code partition_init(partition *p, merger *m, ft_status *st)
{
    *p = (partition){.m = m, .leaves = 1};
    while (p->leaves < m->count)
        p->leaves *= 2;
    p->inputs = ft_alloc_array(m->count, sizeof(*p->inputs));
    p->losers = ft_alloc_array(p->leaves, sizeof(*p->losers));
    p->matches = ft_alloc_array((size_t)1 << LONG_BITS, sizeof(*p->matches));
    p->stripe = ft_alloc_array(FT_STRIPE, sizeof(*p->stripe));
    int ok = p->inputs && p->losers && p->matches && p->stripe;
    for (size_t i = 0; ok && i < m->count; i++)
        ok = (p->inputs[i].items = ft_alloc_array(FT_MERGE_READ, sizeof(*p->inputs[i].items))) != NULL;
    return ok ? FT_OK : ft_fail(st, FT_ERR_MEM, "merge: out of memory");
}

static ft_code merge_partition(partition *p, size_t number, ft_status *st)
{
    merger *m = p->m;
    const uint64_t each = (uint64_t)m->stripes * FT_STRIPE;
    p->first = number * each;
    p->ranks = m->n - p->first < each ? m->n - p->first : each;
    uint64_t *cuts = ft_alloc_array(2 * m->count, sizeof(*cuts));
    ft_code rc = cuts ? cut_at(p, p->first, cuts, st) : ft_fail(st, FT_ERR_MEM, "merge: out of memory");
    if (!rc)
        rc = cut_at(p, p->first + p->ranks, cuts + m->count, st);
    for (size_t i = 0; i < m->count && !rc; i++) {
        p->inputs[i].next = cuts[i];
        p->inputs[i].end = cuts[m->count + i];
        rc = fill(p, i, 1, st);
    }
    if (!rc) {
        for (size_t i = 0; i < m->count; i++) {
            input *in = &p->inputs[i];
            in->ended = in->have == 0;
            if (!in->ended)
                in->head = in->items[in->at++];
        }
        p->losers[0] = build_tree(p, 1);
        rc = merge_stripes(p, st);
    }
    free(cuts);
    return rc;
}

static void partition_task(void *context, size_t task, unsigned worker)
{
    merger *m = context;
    if (atomic_load(&m->failed))
        return;
    partition p;
    ft_status st;
    ft_code rc = partition_init(&p, m, &st);
    p.worker = worker;
    if (!rc)
        rc = merge_partition(&p, task, &st);
    partition_release(&p);
    if (rc && !atomic_exchange(&m->failed, 1)) {
        m->rc = rc;
        m->st = st;
    }
}

ft_code ft_merge(ft_suffix_writer *out, const ft_merge_source *const *sources, size_t count, const ft_codes *text,
                 ft_pool *pool, const ft_progress *progress, ft_status *st)
{
    merger m = {.out = out, .sources = sources, .count = count, .text = text, .progress = progress, .n = text->count};
    const size_t stripes = ft_suffix_writer_stripes(out);
    m.partitions = PARTITIONS_A_THREAD * (size_t)ft_pool_size(pool);
    m.stripes = (stripes + m.partitions - 1) / m.partitions;
    m.partitions = (stripes + m.stripes - 1) / m.stripes;
    ft_pool_run(pool, m.partitions, partition_task, &m);
    if (m.rc && st)
        *st = m.st;
    return m.rc;
}
