/* Shingles: their signatures and their sets. */
#include "index/ft_stat_internal.h"

#include "base/ft_random.h"

#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

static uint64_t shingle_hash(const uint32_t *ids)
{
    return XXH3_64bits(ids, FT_STAT_SHINGLE * sizeof(*ids));
}

/* Row i keeps the minimum of a_i x + b_i mod 2^32 (a_i odd) over the shingles' hashes x:
 * one multiplication and one comparison a row, which compilers turn into vectors. The
 * coefficients are a fixed part of the method: the same corpus gives the same answer. */
static void row_functions(uint32_t a[FT_STAT_ROWS], uint32_t b[FT_STAT_ROWS])
{
    ft_random r;
    ft_random_init(&r, 0x5EED0F5A11E5ULL);
    for (unsigned i = 0; i < FT_STAT_ROWS; i++) {
        a[i] = (uint32_t)ft_random_u64(&r) | 1;
        b[i] = (uint32_t)ft_random_u64(&r);
    }
}

/* The scalar form of the loop below is the definition. The sign bit is flipped so that a
 * signed minimum, for which plain SSE2 has a comparison, orders as an unsigned one. */
static void lower_minima(int32_t minimum[FT_STAT_ROWS], const uint32_t a[FT_STAT_ROWS], const uint32_t b[FT_STAT_ROWS],
                         uint32_t x)
{
    for (unsigned i = 0; i < FT_STAT_ROWS; i++) {
        const int32_t h = (int32_t)((a[i] * x + b[i]) ^ 0x80000000U);
        minimum[i] = h < minimum[i] ? h : minimum[i];
    }
}

void ft_stat_signature(const uint32_t *ids, size_t n, unsigned char signature[FT_STAT_ROWS])
{
    uint32_t a[FT_STAT_ROWS], b[FT_STAT_ROWS];
    int32_t minimum[FT_STAT_ROWS];
    row_functions(a, b);
    for (unsigned i = 0; i < FT_STAT_ROWS; i++)
        minimum[i] = INT32_MAX;
    for (size_t i = 0; i + FT_STAT_SHINGLE <= n; i++)
        lower_minima(minimum, a, b, (uint32_t)shingle_hash(ids + i));
    /* Low bits of the minimum know only low bits of x: the top ones of a product mix all. */
    for (unsigned i = 0; i < FT_STAT_ROWS; i++)
        signature[i] = (unsigned char)((uint32_t)minimum[i] * 0x9E3779B1U >> 24);
}

unsigned ft_stat_signature_agreement(const unsigned char *a, const unsigned char *b)
{
    unsigned equal = 0;
    for (unsigned i = 0; i < FT_STAT_ROWS; i++)
        equal += a[i] == b[i];
    return equal;
}

/* --- Sets -------------------------------------------------------------------------------- */

static uint64_t *slot_of(const ft_stat_set *s, uint64_t hash)
{
    size_t at = (size_t)hash & (s->size - 1);
    while (s->slots[at] && s->slots[at] != hash)
        at = (at + 1) & (s->size - 1);
    return &s->slots[at];
}

static ft_code fill_set(ft_stat_work *w, ft_stat_set *s, uint64_t document, unsigned worker, ft_status *st)
{
    const uint32_t *ids;
    const uint64_t n = w->lengths[document];
    s->document = UINT64_MAX;
    ft_code rc = ft_stat_tokens(w, document, worker, &ids, st);
    if (rc)
        return rc;
    s->size = 16;
    while (s->size < 2 * n)
        s->size *= 2;
    rc = ft_array_grow((void **)&s->slots, &s->capacity, s->size, sizeof(*s->slots), st);
    if (rc)
        return rc;
    memset(s->slots, 0, s->size * sizeof(*s->slots));
    s->count = 0;
    for (uint64_t i = 0; i + FT_STAT_SHINGLE <= n; i++) {
        const uint64_t hash = shingle_hash(ids + i);
        uint64_t *slot = slot_of(s, hash ? hash : 1);
        s->count += *slot == 0;
        *slot = hash ? hash : 1;
    }
    s->document = document;
    return FT_OK;
}

ft_code ft_stat_jaccard(ft_stat_work *w, uint64_t a, uint64_t b, unsigned worker, double *out, ft_status *st)
{
    ft_stat_set *first = &w->scratch[worker].set[0], *second = &w->scratch[worker].set[1];
    ft_code rc = first->document == a ? FT_OK : fill_set(w, first, a, worker, st);
    if (!rc)
        rc = second->document == b ? FT_OK : fill_set(w, second, b, worker, st);
    if (rc)
        return rc;
    size_t shared = 0;
    for (size_t i = 0; i < second->size; i++)
        shared += second->slots[i] && *slot_of(first, second->slots[i]);
    const size_t all = first->count + second->count - shared;
    *out = all ? (double)shared / (double)all : 0;
    return FT_OK;
}
