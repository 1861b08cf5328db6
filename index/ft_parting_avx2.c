/* Sixteen codes of a suffix are unpacked at once, and kept for the next suffix to be compared with. Four codes of at
 * most 24 bits, the first of which begins in the second byte at the latest, lie in the 16 bytes that a shuffle can
 * reach. */
#include "index/ft_parting.h"

#ifdef __AVX2__
#include <immintrin.h>

enum { AHEAD = 32, HALF = FT_PARTINGS_AT_ONCE / 2 };

/* Where the 16 bytes of each group, and the codes themselves, are all inside the text. */
static inline int has_all(const ft_partings *p, const ft_codes *text, uint64_t position)
{
    enum { BEHIND = 8 };
    return position + FT_PARTINGS_AT_ONCE <= text->count &&
           (position * p->bits >> 3) + p->group[3] + 16 <= ft_packed_bytes(text->count, p->bits) + BEHIND;
}

static inline __m256i unpack_half(const ft_partings *p, const unsigned char *at, unsigned bit, unsigned half)
{
    const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)(at + p->group[2 * half]));
    const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(at + p->group[2 * half + 1]));
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(p->bytes[bit] + half * 4 * HALF));
    const __m256i shift = _mm256_loadu_si256((const __m256i *)(const void *)(p->shift[bit] + half * HALF));
    const __m256i mask = _mm256_set1_epi32((int)(((uint32_t)1 << p->bits) - 1));
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_shuffle_epi8(both, bytes), shift), mask);
}

static inline void unpack(const ft_partings *p, const ft_codes *text, uint64_t position, uint32_t *codes)
{
    const uint64_t bit = position * p->bits;
    const unsigned char *at = text->packed + (bit >> 3);
    _mm256_store_si256((__m256i *)(void *)codes, unpack_half(p, at, bit & 7, 0));
    _mm256_store_si256((__m256i *)(void *)(codes + HALF), unpack_half(p, at, bit & 7, 1));
}

/* Bit i: codes i are alike, and no ends. */
static inline unsigned going_on(const uint32_t *x, const uint32_t *y, unsigned *alike)
{
    unsigned same = 0, ends = 0;
    for (unsigned half = 0; half < 2; half++) {
        const __m256i a = _mm256_load_si256((const __m256i *)(const void *)(x + half * HALF));
        const __m256i b = _mm256_load_si256((const __m256i *)(const void *)(y + half * HALF));
        const __m256i equal = _mm256_cmpeq_epi32(a, b), zero = _mm256_cmpeq_epi32(a, _mm256_setzero_si256());
        same |= (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(equal)) << half * HALF;
        ends |= (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(zero)) << half * HALF;
    }
    *alike = same;
    return same & ~ends;
}

void ft_partings_avx2(const ft_partings *p, const ft_codes *text, uint64_t base, const int32_t *order, size_t n,
                      size_t ahead, ft_merge_item *out)
{
    _Alignas(32) uint32_t codes[2][FT_PARTINGS_AT_ONCE];
    uint64_t before = base + (uint64_t)order[-1];
    int had_all = has_all(p, text, before);
    if (had_all)
        unpack(p, text, before, codes[1]);
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n + ahead)
            ft_parting_prefetch(text, base + (uint64_t)order[i + AHEAD]);
        const uint64_t here = base + (uint64_t)order[i];
        const int all = has_all(p, text, here);
        uint32_t *mine = codes[i & 1], *other = codes[~i & 1];
        if (all)
            unpack(p, text, here, mine);
        if (!all || !had_all) {
            out[i] = ft_parting(text, before, here, 0);
        } else {
            unsigned alike;
            const unsigned shared = (unsigned)__builtin_ctz(~going_on(mine, other, &alike));
            if (shared >= FT_PARTINGS_AT_ONCE)
                out[i] = ft_parting(text, before, here, FT_PARTINGS_AT_ONCE);
            else if (alike >> shared & 1) /* both end */
                out[i] = (ft_merge_item){.position = here, .shared = FT_SHARED_MAX};
            else
                out[i] = (ft_merge_item){.position = here,
                                         .code = mine[shared],
                                         .shared = (unsigned char)shared,
                                         .bit = (unsigned char)ft_codes_bit(other[shared], mine[shared], p->bits)};
        }
        before = here;
        had_all = all;
    }
}
#endif
