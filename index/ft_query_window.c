/* Places and documents, numbered through a set of indexes. */
#include "index/ft_part.h"
#include "index/ft_query.h"

#include <inttypes.h>

size_t ft_query_shards(ft_index_set set)
{
    size_t shards = 0;
    for (size_t i = 0; i < set.count; i++)
        shards += set.indexes[i]->part_count;
    return shards;
}

ft_code ft_query_shard(ft_index_set set, uint64_t shard, uint32_t *index, unsigned *part, ft_status *st)
{
    uint64_t before = 0;
    for (uint32_t i = 0; i < set.count; i++) {
        if (shard - before < set.indexes[i]->part_count) {
            *index = i;
            *part = (unsigned)(shard - before);
            return FT_OK;
        }
        before += set.indexes[i]->part_count;
    }
    return ft_fail(st, FT_ERR_ARG, "no shard %" PRIu64 ", there are %" PRIu64, shard, before);
}

ft_code ft_query_rank(ft_index_set set, uint64_t shard, uint64_t rank, ft_place *out, ft_status *st)
{
    ft_code rc = ft_query_shard(set, shard, &out->index, &out->part, st);
    if (rc)
        return rc;
    const ft_part *p = &set.indexes[out->index]->parts[out->part];
    if (rank >= ft_part_live_size(p))
        return ft_fail(st, FT_ERR_ARG, "no rank %" PRIu64 " in shard %" PRIu64 ", which has %" PRIu64, rank, shard,
                       ft_part_live_size(p));
    out->pos = ft_part_live_position(p, rank);
    return FT_OK;
}

ft_code ft_query_pointer(ft_index_set set, uint64_t shard, uint64_t ptr, ft_place *out, ft_status *st)
{
    ft_code rc = ft_query_shard(set, shard, &out->index, &out->part, st);
    if (rc)
        return rc;
    const ft_part *p = &set.indexes[out->index]->parts[out->part];
    if (ptr % p->token_bytes || ptr / p->token_bytes >= p->n)
        return ft_fail(st, FT_ERR_ARG,
                       "no token at pointer %" PRIu64 " of shard %" PRIu64
                       ": pointers are multiples of %u below %" PRIu64,
                       ptr, shard, p->token_bytes, p->n * p->token_bytes);
    out->pos = ptr / p->token_bytes;
    return FT_OK;
}

uint64_t ft_place_pointer(ft_index_set set, const ft_place *place)
{
    return place->pos * set.indexes[place->index]->parts[place->part].token_bytes;
}

size_t ft_place_shard(ft_index_set set, const ft_place *place)
{
    size_t shard = place->part;
    for (uint32_t i = 0; i < place->index; i++)
        shard += set.indexes[i]->part_count;
    return shard;
}

uint64_t ft_query_occurrences_from(ft_index_set set, const uint32_t *ids, size_t n, uint64_t from, size_t limit,
                                   ft_place *out, size_t *found)
{
    uint64_t count = 0;
    *found = 0;
    for (uint32_t i = 0; i < set.count; i++)
        for (unsigned k = 0; k < set.indexes[i]->part_count; k++) {
            const ft_part *p = &set.indexes[i]->parts[k];
            const ft_range r = ft_part_live_range(p, ft_part_find(p, ids, n));
            const uint64_t here = r.hi - r.lo, passed = from > count ? from - count : 0;
            count += here;
            for (uint64_t rank = r.lo + passed; passed < here && rank < r.hi && *found < limit; rank++)
                out[(*found)++] = (ft_place){.index = i, .part = k, .pos = ft_part_live_position(p, rank)};
        }
    return count;
}

uint64_t ft_query_occurrences(ft_index_set set, const uint32_t *ids, size_t n, size_t limit, ft_place *out,
                              size_t *found)
{
    return ft_query_occurrences_from(set, ids, n, 0, limit, out, found);
}

/* --- Windows ----------------------------------------------------------------------------- */

static uint64_t documents_before(ft_index_set set, uint32_t index)
{
    uint64_t documents = 0;
    for (uint32_t i = 0; i < index; i++)
        documents += set.indexes[i]->info.documents;
    return documents;
}

/* The document, and where in it the match begins to be read. */
static ft_code locate(ft_index_set set, const ft_place *place, uint64_t needle_tokens, ft_window *out, ft_status *st)
{
    *out = (ft_window){.index = place->index};
    const ft_index *ix = set.indexes[place->index];
    ft_code rc = ft_index_document_at(ix, place->part, place->pos, &out->doc, st);
    if (rc)
        return rc;
    out->needle = place->pos - out->doc.start;
    if (ix->parts[place->part].reversed) {
        const uint64_t last = out->doc.length - 1 - out->needle; /* the match's last token */
        out->needle = needle_tokens && last >= needle_tokens - 1 ? last - (needle_tokens - 1) : last;
    }
    out->doc.number += documents_before(set, place->index);
    return FT_OK;
}

static void show(ft_window *w, uint64_t before, uint64_t after)
{
    w->from = w->needle > before ? w->needle - before : 0;
    const uint64_t rest = w->doc.length - w->needle;
    w->length = w->needle + (after < rest ? after : rest) - w->from;
    w->needle_in_window = w->needle - w->from;
}

ft_code ft_query_window(ft_index_set set, const ft_place *place, uint64_t needle_tokens, uint64_t max_disp_len,
                        ft_window *out, ft_status *st)
{
    ft_code rc = locate(set, place, needle_tokens, out, st);
    if (!rc)
        show(out, max_disp_len / 2, max_disp_len / 2 + max_disp_len % 2);
    return rc;
}

ft_code ft_query_context(ft_index_set set, const ft_place *place, uint64_t needle_tokens, uint64_t context,
                         ft_window *out, ft_status *st)
{
    ft_code rc = locate(set, place, needle_tokens, out, st);
    if (!rc)
        show(out, context, needle_tokens > UINT64_MAX - context ? UINT64_MAX : needle_tokens + context);
    return rc;
}

ft_code ft_query_document(ft_index_set set, uint64_t number, uint64_t max_disp_len, ft_window *out, ft_status *st)
{
    *out = (ft_window){0};
    uint64_t before = 0;
    for (uint32_t i = 0; i < set.count; i++) {
        const uint64_t here = set.indexes[i]->info.documents;
        if (number - before >= here) {
            before += here;
            continue;
        }
        out->index = i;
        ft_code rc = ft_index_document(set.indexes[i], number - before, &out->doc, st);
        out->doc.number = number;
        out->length = max_disp_len < out->doc.length ? max_disp_len : out->doc.length;
        return rc;
    }
    return ft_fail(st, FT_ERR_NOT_FOUND, "no document %" PRIu64 ", there are %" PRIu64, number, before);
}
