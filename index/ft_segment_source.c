#include "index/ft_segment_source.h"

#include "base/ft_buffer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Where a position of the segment, which is not in a gap, is in the new text. */
static uint64_t moved(const ft_segment_source *s, uint64_t position)
{
    size_t lo = 0, hi = s->gap_count;
    while (lo < hi) { /* gaps that begin before it */
        const size_t mid = lo + (hi - lo) / 2;
        if (s->gaps[mid].from <= position)
            lo = mid + 1;
        else
            hi = mid;
    }
    const uint64_t removed = lo ? s->gaps[lo - 1].removed : 0;
    return s->base + position - (removed < position ? removed : position);
}

static const ft_segment_source *of(const ft_merge_source *s)
{
    return (const ft_segment_source *)(const void *)s;
}

static ft_code position_at(const ft_merge_source *source, uint64_t i, uint64_t *out, ft_status *st)
{
    (void)st;
    const ft_segment_source *s = of(source);
    *out = moved(s, ft_part_live_position(s->part, i));
    return FT_OK;
}

/* By a look at both texts. */
static void measure(const ft_codes *text, uint64_t before, ft_merge_item *item)
{
    const ft_ranked r = ft_ranked_after(text, before, item->position);
    item->shared = (unsigned char)ft_ranked_shared(r);
    item->bit = (unsigned char)ft_ranked_bit(r);
    item->code = ft_codes_get(text, item->position + item->shared);
}

/* A leaf's slots, as far as they tell (ft_leaf.h). */
typedef struct leaf_view {
    const unsigned char *pointers, *slots;
    unsigned base, exact; /* codes that all share; slots below `exact` tell bits */
} leaf_view;

static leaf_view view_leaf(const ft_part *p, uint64_t leaf)
{
    const unsigned char *at = p->suffixes + leaf * p->shape.bytes, *slots = at + 16 * p->shape.pointer_bits;
    const unsigned w = p->shape.code_bits;
    return (leaf_view){at, slots, (unsigned)ft_packed_get(slots, 7, 0), 104 / w * w};
}

/* FT_SHARED_MAX where the slot says too little; *bit FT_LEAF_DEEP: not known. */
static unsigned slot_shared(const leaf_view *v, unsigned i, unsigned code_bits, unsigned *bit)
{
    const unsigned slot = (unsigned)ft_packed_get(v->slots, 7, i);
    *bit = FT_LEAF_DEEP;
    if (i == 0 || slot == FT_LEAF_DEEP)
        return FT_SHARED_MAX;
    if (slot >= v->exact)
        return v->base + v->exact / code_bits + (slot - v->exact);
    *bit = slot % code_bits;
    return v->base + slot / code_bits;
}

typedef struct ranks {
    uint64_t rank[FT_MERGE_READ];
    unsigned char shared[FT_MERGE_READ], bit[FT_MERGE_READ];
} ranks;

/* Physical ranks of live ones [from, from + n), one after another. */
static void find_ranks(const ft_part *p, uint64_t from, size_t n, ranks *r)
{
    if (!p->removed_ranks.count) {
        for (size_t i = 0; i < n; i++)
            r->rank[i] = from + i;
        return;
    }
    const ft_numbers *gone = &p->removed_ranks;
    uint64_t rank = ft_part_physical_rank(p, from), at = ft_numbers_below(gone, rank);
    for (size_t i = 0; i < n; i++, rank++) {
        for (; at < gone->count && ft_packed_get(gone->packed, gone->bits, at) == rank; at++)
            rank++;
        r->rank[i] = rank;
    }
}

static ft_code read_items(const ft_merge_source *source, uint64_t from, size_t n, int first, ft_merge_item *out,
                          ft_status *st)
{
    (void)st;
    const ft_segment_source *s = of(source);
    const ft_part *p = s->part;
    ranks r;
    if (!n)
        return FT_OK;
    find_ranks(p, from, n, &r);
    uint64_t before = UINT64_MAX, before_rank = UINT64_MAX;
    if (from && !first) {
        before_rank = ft_part_physical_rank(p, from - 1);
        before = moved(s, ft_part_position(p, before_rank));
    }
    uint64_t number = r.rank[0] / FT_LEAF_RANKS;
    leaf_view leaf = view_leaf(p, number);
    for (size_t i = 0; i < n; i++) {
        unsigned bit;
        const unsigned in_leaf = r.rank[i] % FT_LEAF_RANKS;
        if (r.rank[i] / FT_LEAF_RANKS != number)
            leaf = view_leaf(p, number = r.rank[i] / FT_LEAF_RANKS);
        const unsigned shared = slot_shared(&leaf, in_leaf, p->shape.code_bits, &bit);
        const uint64_t position = ft_packed_get(leaf.pointers, p->shape.pointer_bits, in_leaf);
        out[i] = (ft_merge_item){.position = moved(s, position < p->n ? position : p->n)};
        r.shared[i] = (unsigned char)shared;
        r.bit[i] = (unsigned char)bit;
        const uint64_t look = out[i].position + (shared < FT_SHARED_MAX ? shared : 0);
        __builtin_prefetch(s->text->packed + (look * s->text->bits >> 3));
    }
    for (size_t i = 0; i < n; i++) {
        if (before != UINT64_MAX) {
            /* The slot speaks of the rank before: a removed one tells nothing here. */
            if (r.shared[i] == FT_SHARED_MAX || r.rank[i] != before_rank + 1) {
                measure(s->text, before, &out[i]);
            } else {
                out[i].shared = r.shared[i];
                out[i].code = ft_codes_get(s->text, out[i].position + r.shared[i]);
                const uint32_t old = r.bit[i] == FT_LEAF_DEEP ? ft_codes_get(s->text, before + r.shared[i]) : 0;
                out[i].bit = r.bit[i] != FT_LEAF_DEEP ? r.bit[i]
                             : old != out[i].code     ? (unsigned char)ft_codes_bit(old, out[i].code, s->text->bits)
                                                      : 0;
            }
        }
        before = out[i].position;
        before_rank = r.rank[i];
    }
    return FT_OK;
}

ft_code ft_segment_source_init(ft_segment_source *out, const ft_part *part, const ft_codes *text, uint64_t base,
                               ft_status *st)
{
    *out = (ft_segment_source){.part = part, .text = text, .base = base};
    out->source = (ft_merge_source){.count = ft_part_live_size(part), .position = position_at, .read = read_items};
    const ft_numbers *gone = &part->removed_documents;
    /* Opened for queries, which read at random; now it is read from end to end. */
    (void)madvise((void *)(uintptr_t)part->section[FT_SECTION_SUFFIXES].map.data,
                  (size_t)part->section[FT_SECTION_SUFFIXES].map.bytes, MADV_SEQUENTIAL);
    out->gaps = ft_alloc_array((size_t)gone->count, sizeof(*out->gaps));
    if (!out->gaps)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", part->folder);
    uint64_t removed = 0;
    for (uint64_t i = 0; i < gone->count; i++) {
        uint64_t start, length;
        ft_code rc = ft_part_document_range(part, ft_packed_get(gone->packed, gone->bits, i), &start, &length, st);
        if (rc)
            return rc;
        removed += length + 1;
        out->gaps[out->gap_count++] = (ft_segment_gap){start, removed};
    }
    return FT_OK;
}

void ft_segment_source_release(ft_segment_source *s)
{
    free(s->gaps);
    *s = (ft_segment_source){0};
}
