#include "index/ft_suffix_writer.h"

#include "base/ft_buffer.h"

#include <stdlib.h>

static ft_code put_nodes(void *context, const void *bytes, size_t n, ft_status *st)
{
    return ft_section_writer_put(context, bytes, n, st);
}

ft_code ft_suffix_writer_open(ft_suffix_writer *w, const char *folder, uint64_t n, uint32_t vocab_size, ft_status *st)
{
    assert(n >= 1 && n < (uint64_t)1 << 48);
    *w = (ft_suffix_writer){.n = n, .vocab_size = vocab_size, .suffixes.fd = -1, .tree.fd = -1};
    w->shape = ft_leaf_shape_of(ft_bit_width(vocab_size), ft_bit_width(n));
    w->stripes = (size_t)(n / FT_STRIPE + (n % FT_STRIPE != 0));
    ft_tree_builder_init(&w->builder, &w->shape, put_nodes, &w->tree);
    w->folder = strdup(folder);
    w->bounds = ft_alloc_array((size_t)vocab_size + 2, sizeof(*w->bounds));
    w->waiting = ft_alloc_array(w->stripes, sizeof(*w->waiting));
    w->has_lock = pthread_mutex_init(&w->lock, NULL) == 0;
    ft_code rc = FT_OK;
    if (!w->folder || !w->bounds || !w->waiting || !w->has_lock)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    else
        memset(w->bounds, 0xFF, ((size_t)vocab_size + 2) * sizeof(*w->bounds));
    if (!rc)
        rc =
            ft_section_writer_open(&w->suffixes, folder, FT_SECTION_SUFFIXES, 0, FT_STRIPE_LEAVES * w->shape.bytes, st);
    if (!rc)
        rc = ft_section_writer_announce(&w->suffixes, w->stripes, st);
    if (!rc)
        rc = ft_section_writer_open(&w->tree, folder, FT_SECTION_TREE, 0, FT_SECTION_BLOCK, st);
    if (rc)
        ft_suffix_writer_abandon(w);
    return rc;
}

/* --- Stripes ----------------------------------------------------------------------------- */

/* Separators that wait: for each its length, 128 more if cut, then 3 bytes a code, then 6 of a cut one's position. */
enum { POSITION_BYTES = 6, WAITING_MAX = 1 + 3 * FT_TREE_CODES + POSITION_BYTES };

static size_t pack_separator(unsigned char *out, const ft_separator *s)
{
    unsigned char *to = out;
    *to++ = (unsigned char)(s->length | s->cut << 7);
    for (unsigned i = 0; i < s->length; i++, to += 3)
        memcpy(to, &s->codes[i], 3);
    if (s->cut) {
        memcpy(to, &s->position, POSITION_BYTES);
        to += POSITION_BYTES;
    }
    return (size_t)(to - out);
}

static size_t unpack_separator(ft_separator *out, const unsigned char *from)
{
    *out = (ft_separator){.length = *from & 127, .cut = *from >> 7};
    const unsigned char *at = from + 1;
    for (unsigned i = 0; i < out->length; i++, at += 3)
        memcpy(&out->codes[i], at, 3);
    if (out->cut) {
        memcpy(&out->position, at, POSITION_BYTES);
        at += POSITION_BYTES;
    }
    return (size_t)(at - from);
}

static size_t leaves_of(const ft_suffix_writer *w, size_t stripe)
{
    const uint64_t from = (uint64_t)stripe * FT_STRIPE_LEAVES, all = ft_leaf_count(w->n);
    return (size_t)(all - from < FT_STRIPE_LEAVES ? all - from : FT_STRIPE_LEAVES);
}

static ft_code add_stripe(ft_suffix_writer *w, size_t stripe, const unsigned char *separators, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = leaves_of(w, stripe); i-- > 0 && !rc;) {
        ft_separator s;
        separators += unpack_separator(&s, separators);
        rc = ft_tree_builder_add(&w->builder, &s, st);
    }
    return rc;
}

/* The tree takes what is ready, in order; what comes too early waits. */
static ft_code hand_over(ft_suffix_writer *w, size_t stripe, const unsigned char *separators, size_t bytes,
                         ft_status *st)
{
    ft_code rc = FT_OK;
    pthread_mutex_lock(&w->lock);
    if (stripe != w->next) {
        unsigned char *kept = malloc(bytes);
        if (kept)
            w->waiting[stripe] = memcpy(kept, separators, bytes);
        else
            rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    } else {
        rc = add_stripe(w, stripe, separators, st);
        for (w->next++; !rc && w->next < w->stripes && w->waiting[w->next]; w->next++) {
            rc = add_stripe(w, w->next, w->waiting[w->next], st);
            free(w->waiting[w->next]);
            w->waiting[w->next] = NULL;
        }
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

static void note_bounds(ft_suffix_writer *w, uint64_t first_rank, const ft_ranked *ranked, size_t count,
                        const ft_codes *text)
{
    for (size_t i = 0; i < count; i++)
        if (ft_ranked_shared(ranked[i]) == 0 || first_rank + i == 0) {
            const uint32_t code = ft_codes_get(text, ft_ranked_position(ranked[i]));
            if (code <= w->vocab_size)
                w->bounds[code] = first_rank + i;
        }
}

ft_code ft_suffix_writer_stripe(ft_suffix_writer *w, size_t stripe, const ft_ranked *ranked, size_t count,
                                const ft_codes *text, ft_status *st)
{
    const uint64_t first_rank = (uint64_t)stripe * FT_STRIPE;
    assert(stripe < w->stripes && count == (stripe + 1 < w->stripes ? FT_STRIPE : w->n - first_rank));
    const size_t leaves = leaves_of(w, stripe), leaf_bytes = leaves * w->shape.bytes;
    unsigned char *block = malloc(leaf_bytes + leaves * WAITING_MAX);
    if (!block)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    unsigned char *separators = block + leaf_bytes;
    size_t used = 0;
    for (size_t i = 0; i < leaves; i++) {
        const ft_ranked *first = ranked + i * FT_LEAF_RANKS;
        const size_t left = count - i * FT_LEAF_RANKS;
        ft_separator s;
        ft_leaf_encode(block + i * w->shape.bytes, &w->shape, first, left < FT_LEAF_RANKS ? left : FT_LEAF_RANKS);
        ft_separator_make(&s, *first, text);
        used += pack_separator(separators + used, &s);
    }
    note_bounds(w, first_rank, ranked, count, text);
    ft_code rc = ft_section_writer_block(&w->suffixes, stripe, block, leaf_bytes, st);
    if (!rc)
        rc = hand_over(w, stripe, separators, used, st);
    free(block);
    return rc;
}

/* --- End ----------------------------------------------------------------------------------- */

/* Entry id: the first rank of code id + 1, or of what comes next. */
static ft_code write_bounds(ft_suffix_writer *w, uint64_t segment, ft_status *st)
{
    const uint64_t count = (uint64_t)w->vocab_size + 1;
    const unsigned bits = w->shape.pointer_bits;
    uint64_t *bounds = w->bounds + 1; /* of code 1 on */
    bounds[w->vocab_size] = w->n;
    for (size_t id = w->vocab_size; id-- > 0;)
        if (bounds[id] == UINT64_MAX)
            bounds[id] = bounds[id + 1];
    const size_t bytes = (size_t)ft_packed_bytes(count, bits);
    unsigned char *packed = ft_alloc_array(bytes + 8, 1);
    if (!packed)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", w->folder);
    for (size_t id = 0; id < count; id++)
        ft_packed_set(packed, bits, id, bounds[id]);
    ft_section_writer out;
    ft_code rc = ft_section_writer_open(&out, w->folder, FT_SECTION_BOUNDS, 0, FT_SECTION_BLOCK, st);
    if (!rc) {
        rc = ft_section_writer_put(&out, packed, bytes, st);
        if (!rc)
            rc = ft_section_writer_commit(&out, segment, count, bits, bytes, st);
        else
            ft_section_writer_abandon(&out);
    }
    free(packed);
    return rc;
}

static void release(ft_suffix_writer *w)
{
    for (size_t i = 0; w->waiting && i < w->stripes; i++)
        free(w->waiting[i]);
    free(w->waiting);
    free(w->bounds);
    free(w->folder);
    ft_tree_builder_release(&w->builder);
    if (w->has_lock)
        pthread_mutex_destroy(&w->lock);
    *w = (ft_suffix_writer){.suffixes.fd = -1, .tree.fd = -1};
}

ft_code ft_suffix_writer_commit(ft_suffix_writer *w, uint64_t segment, ft_status *st)
{
    uint64_t bytes = 0;
    assert(w->next == w->stripes);
    ft_code rc = ft_tree_builder_finish(&w->builder, &bytes, st);
    if (!rc)
        rc = ft_section_writer_commit(&w->tree, segment, bytes, 8, bytes, st);
    if (!rc)
        rc = ft_section_writer_commit(&w->suffixes, segment, w->n, w->shape.pointer_bits,
                                      ft_leaf_count(w->n) * w->shape.bytes, st);
    if (!rc)
        rc = write_bounds(w, segment, st);
    if (rc)
        ft_suffix_writer_abandon(w);
    else
        release(w);
    return rc;
}

void ft_suffix_writer_abandon(ft_suffix_writer *w)
{
    ft_section_writer_abandon(&w->suffixes);
    ft_section_writer_abandon(&w->tree);
    release(w);
}
