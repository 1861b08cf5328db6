/* Documents with the same tokens. */
#include "index/ft_stat_internal.h"

#include <stdlib.h>
#include <xxhash.h>

typedef struct text_hash {
    XXH128_hash_t hash;
    uint32_t document;
} text_hash;

typedef struct hashing {
    ft_stat_work *w;
    text_hash *hashes; /* [documents] */
} hashing;

static ft_code hash_document(void *context, uint64_t number, unsigned worker, ft_status *st)
{
    hashing *h = context;
    const uint32_t *ids;
    h->hashes[number].document = (uint32_t)number;
    ft_code rc = ft_stat_tokens(h->w, number, worker, &ids, st);
    if (!rc)
        h->hashes[number].hash = XXH3_128bits(ids, (size_t)h->w->lengths[number] * sizeof(*ids));
    return rc;
}

static int compare_hashes(const void *a, const void *b)
{
    const text_hash *x = a, *y = b;
    if (x->hash.high64 != y->hash.high64)
        return x->hash.high64 < y->hash.high64 ? -1 : 1;
    if (x->hash.low64 != y->hash.low64)
        return x->hash.low64 < y->hash.low64 ? -1 : 1;
    return x->document < y->document ? -1 : x->document > y->document;
}

static ft_code same_tokens(const ft_stat_work *w, uint32_t a, uint32_t b, int *same, ft_status *st)
{
    enum { CHUNK = 1024 };
    uint32_t left[CHUNK], right[CHUNK];
    ft_doc_ref x, y;
    size_t n, m;
    *same = 0;
    ft_code rc = ft_index_document(w->ix, a, &x, st);
    if (!rc)
        rc = ft_index_document(w->ix, b, &y, st);
    if (rc || x.length != y.length)
        return rc;
    for (uint64_t at = 0; at < x.length; at += CHUNK) {
        ft_index_document_tokens(w->ix, &x, at, CHUNK, left, &n);
        ft_index_document_tokens(w->ix, &y, at, CHUNK, right, &m);
        if (memcmp(left, right, n * sizeof(*left)) != 0)
            return FT_OK;
    }
    *same = 1;
    return FT_OK;
}

enum { NO_LEADER = UINT32_MAX };

/* Documents h[0..n) have one hash; if two texts share it, each gets its own group. */
static ft_code group_equals(ft_stat_work *w, const text_hash *h, size_t n, ft_status *st)
{
    ft_stat_groups *out = &w->out->identical;
    ft_code rc = FT_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        const uint32_t leader = h[i].document;
        ft_stat_group g = {.documents = 1, .shown = 1, .number = {leader}, .similarity = {1}};
        if (w->leaders[leader] != NO_LEADER)
            continue;
        w->leaders[leader] = leader;
        for (size_t k = i + 1; k < n && !rc; k++) {
            int same = 0;
            if (w->leaders[h[k].document] != NO_LEADER)
                continue;
            rc = same_tokens(w, leader, h[k].document, &same, st);
            if (!same)
                continue;
            w->leaders[h[k].document] = leader;
            g.documents++;
            if (g.shown < FT_STAT_EXAMPLES) {
                g.similarity[g.shown] = 1;
                g.number[g.shown++] = h[k].document;
            }
        }
        if (g.documents < 2)
            continue;
        g.tokens = g.documents * w->lengths[leader];
        out->groups++;
        out->texts++;
        out->documents += g.documents;
        out->tokens += g.tokens;
        out->surplus_documents += g.documents - 1;
        out->surplus_tokens += g.tokens - w->lengths[leader];
        ft_stat_groups_offer(out, w->top, &g);
    }
    return rc;
}

ft_code ft_stat_find_identical(ft_stat_work *w, ft_status *st)
{
    const size_t documents = (size_t)ft_index_get_info(w->ix).documents;
    hashing h = {w, ft_alloc_array(documents, sizeof(*h.hashes))};
    w->leaders = ft_alloc_array(documents, sizeof(*w->leaders));
    ft_code rc = h.hashes && w->leaders ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for %zu hashes", documents);
    if (!rc)
        rc = ft_stat_each(w, "identical", NULL, documents, hash_document, &h, st);
    if (!rc) {
        qsort(h.hashes, documents, sizeof(*h.hashes), compare_hashes);
        memset(w->leaders, 0xFF, documents * sizeof(*w->leaders)); /* NO_LEADER */
    }
    for (size_t i = 0, end; i < documents && !rc; i = end) {
        for (end = i + 1; end < documents && XXH128_isEqual(h.hashes[i].hash, h.hashes[end].hash); end++)
            ;
        rc = group_equals(w, h.hashes + i, end - i, st);
        if (!rc && i / 65536 != end / 65536)
            rc = ft_stat_report(w, "compare", end, documents, "documents", st);
    }
    free(h.hashes);
    return rc;
}
