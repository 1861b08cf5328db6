#include "index/ft_segment_write.h"

#include "index/ft_suffix_sort.h"
#include "index/ft_suffix_writer.h"

#include <stdlib.h>
#include <xxhash.h>

/* --- Gathering ---------------------------------------------------------------------- */

void ft_gather_release(ft_gather *g)
{
    free(g->tokens);
    free(g->documents);
    ft_buffer_release(&g->texts);
    *g = (ft_gather){0};
}

void ft_gather_reset(ft_gather *g)
{
    ft_gather_release(g);
}

ft_code ft_gather_add(ft_gather *g, const uint32_t *tokens, size_t n, const char *id, const char *metadata,
                      uint64_t text_bytes, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&g->tokens, &g->capacity, g->count + n + 1, sizeof(*g->tokens), st);
    if (!rc) /* one more for the sentinel */
        rc = ft_array_grow((void **)&g->documents, &g->document_capacity, g->document_count + 2, sizeof(*g->documents),
                           st);
    const size_t text_at = g->texts.size;
    if (!rc)
        rc = ft_buffer_append(&g->texts, id, strlen(id) + 1, st);
    if (!rc)
        rc = ft_buffer_append(&g->texts, metadata, strlen(metadata) + 1, st);
    if (rc) {
        g->texts.size = text_at;
        return rc;
    }
    g->documents[g->document_count++] = (ft_document_record){.start = g->count, .text = text_at};
    if (n)
        memcpy(g->tokens + g->count, tokens, n * sizeof(*tokens));
    g->count += n;
    g->tokens[g->count++] = FT_END_TOKEN;
    g->documents[g->document_count] = (ft_document_record){.start = g->count, .text = g->texts.size};
    g->text_bytes += text_bytes;
    return FT_OK;
}

uint64_t ft_gather_peak_bytes(const ft_gather *g, uint64_t tokens, uint64_t text_bytes)
{
    const uint64_t per_document = sizeof(ft_document_record) + sizeof(ft_id_record);
    return (uint64_t)((double)(g->count + tokens) * (sizeof(uint32_t) + FT_SUFFIX_SORT_TOKEN_BYTES)) +
           (g->document_count + 1) * per_document + g->texts.size + text_bytes;
}

/* --- Writing -------------------------------------------------------------------------- */

typedef struct target {
    const char *folder;
    uint64_t segment;
} target;

static ft_code write_bytes(const target *t, ft_section_kind kind, uint32_t block_bytes, const void *bytes, size_t n,
                           uint64_t count, unsigned unit_bits, ft_status *st)
{
    ft_section_writer w;
    ft_code rc = ft_section_writer_open(&w, t->folder, kind, 0, block_bytes, st);
    if (rc)
        return rc;
    rc = ft_section_writer_put(&w, bytes, n, st);
    if (!rc)
        return ft_section_writer_commit(&w, t->segment, count, unit_bits, n, st);
    ft_section_writer_abandon(&w);
    return rc;
}

static int compare_ids(const void *a, const void *b)
{
    const ft_id_record *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->document < y->document ? -1 : x->document > y->document;
}

static ft_code write_ids(const target *t, const ft_gather *g, ft_status *st)
{
    ft_id_record *ids = ft_alloc_array(g->document_count, sizeof(*ids));
    if (!ids)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", t->folder);
    for (size_t i = 0; i < g->document_count; i++) {
        const char *id = g->texts.data + g->documents[i].text;
        ids[i] = (ft_id_record){.hash = XXH3_64bits(id, strlen(id)), .document = i};
    }
    qsort(ids, g->document_count, sizeof(*ids), compare_ids);
    ft_code rc = write_bytes(t, FT_SECTION_IDS, FT_SECTION_BLOCK, ids, g->document_count * sizeof(*ids), g->document_count,
                             8 * sizeof(*ids), st);
    free(ids);
    return rc;
}

/* What the suffix at b shares with the one before it, at a. */
static ft_ranked rank_after(const ft_codes *text, uint32_t a, uint32_t b)
{
    for (unsigned i = 0; i < FT_SHARED_MAX; i++) {
        const uint32_t x = ft_codes_get(text, a + i), y = ft_codes_get(text, b + i);
        if (x != y)
            return ft_ranked_make(b, i, ft_codes_bit(x, y, text->bits));
        if (x == 0)
            break;
    }
    return ft_ranked_make(b, FT_SHARED_MAX, 0);
}

static ft_code put_stripes(ft_suffix_writer *w, const uint32_t *order, const ft_codes *text, ft_status *st)
{
    ft_ranked *ranked = ft_alloc_array(FT_STRIPE, sizeof(*ranked));
    ft_code rc = ranked ? FT_OK : ft_fail(st, FT_ERR_MEM, "the suffixes: out of memory");
    for (size_t stripe = 0; stripe < ft_suffix_writer_stripes(w) && !rc; stripe++) {
        const uint64_t first = (uint64_t)stripe * FT_STRIPE, left = text->count - first;
        const size_t count = left < FT_STRIPE ? (size_t)left : FT_STRIPE;
        for (size_t i = 0; i < count; i++)
            ranked[i] = first + i ? rank_after(text, order[first + i - 1], order[first + i])
                                  : ft_ranked_make(order[0], 0, 0);
        rc = ft_suffix_writer_stripe(w, stripe, ranked, count, text, st);
    }
    free(ranked);
    return rc;
}

static ft_code write_suffixes(const target *t, const ft_gather *g, const ft_codes *text, uint32_t vocab_size,
                              ft_pool *pool, const ft_progress *progress, ft_status *st)
{
    uint32_t *order = ft_alloc_array(g->count, sizeof(*order));
    if (!order)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory to sort %zu tokens; give less with --memory", t->folder,
                       g->count);
    ft_code rc = ft_suffix_sort_with(order, g->tokens, g->count, FT_END_TOKEN, pool, progress, st);
    ft_suffix_writer w = {0};
    if (!rc)
        rc = ft_suffix_writer_open(&w, t->folder, g->count, vocab_size, st);
    if (!rc)
        rc = put_stripes(&w, order, text, st);
    free(order);
    if (!rc)
        return ft_suffix_writer_commit(&w, t->segment, st);
    ft_suffix_writer_abandon(&w);
    return rc;
}

static ft_code write_tokens(const target *t, const ft_gather *g, uint32_t vocab_size, ft_pool *pool,
                            const ft_progress *progress, ft_status *st)
{
    const unsigned bits = ft_bit_width(vocab_size);
    const size_t bytes = (size_t)ft_packed_bytes(g->count, bits);
    unsigned char *packed = ft_alloc_array(bytes + 8, 1);
    if (!packed)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", t->folder);
    for (size_t i = 0; i < g->count; i++)
        ft_packed_set(packed, bits, i, (uint32_t)(g->tokens[i] + 1));
    const ft_codes text = {packed, bits, g->count};
    ft_code rc = write_suffixes(t, g, &text, vocab_size, pool, progress, st);
    if (!rc)
        rc = write_bytes(t, FT_SECTION_TOKENS, bits * 16384, packed, bytes, g->count, bits, st);
    free(packed);
    return rc;
}

ft_code ft_segment_write(const char *folder, ft_gather *g, uint32_t vocab_size, ft_pool *pool,
                         const ft_progress *progress, ft_status *st)
{
    /* A number that follows from the content: equal corpora make equal files. */
    const uint64_t seed = XXH3_64bits(g->texts.data, g->texts.size);
    const target t = {.folder = folder,
                      .segment = XXH3_64bits_withSeed(g->tokens, g->count * sizeof(*g->tokens), seed)};
    const size_t records = g->document_count + 1;
    ft_code rc = write_tokens(&t, g, vocab_size, pool, progress, st);
    if (!rc)
        rc = write_bytes(&t, FT_SECTION_DOCUMENTS, FT_SECTION_BLOCK, g->documents, records * sizeof(*g->documents),
                         records, 8 * sizeof(*g->documents), st);
    if (!rc)
        rc = write_bytes(&t, FT_SECTION_TEXTS, FT_SECTION_BLOCK, g->texts.data, g->texts.size, g->texts.size, 8, st);
    if (!rc)
        rc = write_ids(&t, g, st);
    return rc;
}
