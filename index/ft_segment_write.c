#include "index/ft_segment_write.h"

#include "index/ft_suffix_sort.h"

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
    unsigned bits; /* of a rank or position */
} target;

/* The lowest `bits` of each value, one after another. */
static ft_code put_packed(ft_section_writer *w, const uint32_t *values, size_t count, unsigned bits, ft_status *st)
{
    enum { AT_ONCE = 1024 }; /* a multiple of 8 ends on a byte */
    unsigned char out[AT_ONCE * 4 + 8];
    ft_code rc = FT_OK;
    for (size_t from = 0; from < count && !rc; from += AT_ONCE) {
        const size_t n = count - from < AT_ONCE ? count - from : AT_ONCE;
        uint64_t held = 0;
        unsigned held_bits = 0;
        size_t used = 0;
        for (size_t i = 0; i < n; i++) {
            held |= ((uint64_t)values[from + i] & (((uint64_t)1 << bits) - 1)) << held_bits;
            for (held_bits += bits; held_bits >= 8; held_bits -= 8, held >>= 8)
                out[used++] = (unsigned char)held;
        }
        if (held_bits)
            out[used++] = (unsigned char)held;
        rc = ft_section_writer_put(w, out, used, st);
    }
    return rc;
}

static ft_code write_packed(const target *t, ft_section_kind kind, const uint32_t *values, size_t count, unsigned bits,
                            ft_status *st)
{
    ft_section_writer w;
    ft_code rc = ft_section_writer_open(&w, t->folder, kind, t->segment, count, bits, ft_packed_bytes(count, bits), st);
    if (!rc)
        rc = put_packed(&w, values, count, bits, st);
    if (!rc)
        return ft_section_writer_commit(&w, st);
    ft_section_writer_abandon(&w);
    return rc;
}

static ft_code write_bytes(const target *t, ft_section_kind kind, const void *bytes, uint64_t count, unsigned unit,
                           ft_status *st)
{
    ft_section_writer w;
    ft_code rc = ft_section_writer_open(&w, t->folder, kind, t->segment, count, unit * 8, count * unit, st);
    if (!rc)
        rc = ft_section_writer_put(&w, bytes, (size_t)(count * unit), st);
    if (!rc)
        return ft_section_writer_commit(&w, st);
    ft_section_writer_abandon(&w);
    return rc;
}

/* bounds[id]: first rank of the suffixes that begin with id; [vocab_size]: their number.
 * The ends of documents come before all. */
static ft_code write_directory(const target *t, const ft_gather *g, uint32_t vocab_size, ft_status *st)
{
    uint32_t *bounds = ft_alloc_array((size_t)vocab_size + 1, sizeof(*bounds));
    if (!bounds)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", t->folder);
    for (size_t i = 0; i < g->count; i++)
        if (g->tokens[i] != FT_END_TOKEN)
            bounds[g->tokens[i] + 1]++;
    bounds[0] = (uint32_t)g->document_count;
    for (uint32_t id = 0; id < vocab_size; id++)
        bounds[id + 1] += bounds[id];
    ft_code rc = write_packed(t, FT_SECTION_DIRECTORY, bounds, (size_t)vocab_size + 1, t->bits, st);
    free(bounds);
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
    ft_code rc = write_bytes(t, FT_SECTION_IDS, ids, g->document_count, sizeof(*ids), st);
    free(ids);
    return rc;
}

static ft_code write_suffixes(const target *t, const ft_gather *g, ft_pool *pool, const ft_progress *progress,
                              ft_status *st)
{
    uint32_t *order = ft_alloc_array(g->count, sizeof(*order));
    if (!order)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory to sort %zu tokens; give less with --memory", t->folder,
                       g->count);
    ft_code rc = ft_suffix_sort_with(order, g->tokens, g->count, FT_END_TOKEN, pool, progress, st);
    if (!rc)
        rc = write_packed(t, FT_SECTION_SUFFIXES, order, g->count, t->bits, st);
    free(order);
    return rc;
}

ft_code ft_segment_write(const char *folder, ft_gather *g, uint32_t vocab_size, ft_pool *pool,
                         const ft_progress *progress, ft_status *st)
{
    /* A number that follows from the content: equal corpora make equal files. */
    const uint64_t seed = XXH3_64bits(g->texts.data, g->texts.size);
    const target t = {.folder = folder,
                      .segment = XXH3_64bits_withSeed(g->tokens, g->count * sizeof(*g->tokens), seed),
                      .bits = ft_bit_width(g->count)};
    ft_code rc = write_suffixes(&t, g, pool, progress, st);
    if (!rc)
        rc = write_packed(&t, FT_SECTION_TOKENS, g->tokens, g->count, vocab_size <= 0xFFFF ? 16 : 24, st);
    if (!rc)
        rc = write_directory(&t, g, vocab_size, st);
    if (!rc)
        rc = write_bytes(&t, FT_SECTION_DOCUMENTS, g->documents, g->document_count + 1, sizeof(*g->documents), st);
    if (!rc)
        rc = write_bytes(&t, FT_SECTION_TEXTS, g->texts.data, g->texts.size, 1, st);
    if (!rc)
        rc = write_ids(&t, g, st);
    return rc;
}
