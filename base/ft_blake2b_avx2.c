#include "base/ft_blake2b.h"

#ifdef __AVX2__
#include <immintrin.h>
#include <string.h>

enum { ROUNDS = 12, WORDS = 16, BLOCK = 128 };

static const uint64_t iv[8] = {0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
                               0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179};

static const unsigned char sigma[10][WORDS] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static inline __m256i rotated_24(__m256i v)
{
    return _mm256_shuffle_epi8(v, _mm256_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10, 3, 4, 5, 6, 7,
                                                   0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10));
}

static inline __m256i rotated_16(__m256i v)
{
    return _mm256_shuffle_epi8(v, _mm256_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9, 2, 3, 4, 5, 6,
                                                   7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9));
}

/* The paper's G. */
static inline __attribute__((always_inline)) void mix(__m256i *a, __m256i *b, __m256i *c, __m256i *d, __m256i x,
                                                      __m256i y)
{
    *a = _mm256_add_epi64(_mm256_add_epi64(*a, *b), x);
    *d = _mm256_shuffle_epi32(_mm256_xor_si256(*d, *a), 0xB1);
    *c = _mm256_add_epi64(*c, *d);
    *b = rotated_24(_mm256_xor_si256(*b, *c));
    *a = _mm256_add_epi64(_mm256_add_epi64(*a, *b), y);
    *d = rotated_16(_mm256_xor_si256(*d, *a));
    *c = _mm256_add_epi64(*c, *d);
    const __m256i t = _mm256_xor_si256(*b, *c);
    *b = _mm256_xor_si256(_mm256_srli_epi64(t, 63), _mm256_add_epi64(t, t));
}

/* Words of a block of each message, side by side. */
static inline void load_words(__m256i m[WORDS], const unsigned char *const block[FT_BLAKE2B_LANES])
{
    for (unsigned w = 0; w < WORDS; w += 4) {
        __m256i row[4];
        for (unsigned i = 0; i < 4; i++)
            row[i] = _mm256_loadu_si256((const __m256i *)(const void *)(block[i] + 8 * w));
        const __m256i even_low = _mm256_unpacklo_epi64(row[0], row[1]), odd_low = _mm256_unpackhi_epi64(row[0], row[1]);
        const __m256i even_high = _mm256_unpacklo_epi64(row[2], row[3]),
                      odd_high = _mm256_unpackhi_epi64(row[2], row[3]);
        m[w] = _mm256_permute2x128_si256(even_low, even_high, 0x20);
        m[w + 1] = _mm256_permute2x128_si256(odd_low, odd_high, 0x20);
        m[w + 2] = _mm256_permute2x128_si256(even_low, even_high, 0x31);
        m[w + 3] = _mm256_permute2x128_si256(odd_low, odd_high, 0x31);
    }
}

static void compress(__m256i h[8], const unsigned char *const block[FT_BLAKE2B_LANES], uint64_t count, int last)
{
    __m256i m[WORDS], v[WORDS];
    load_words(m, block);
    for (unsigned i = 0; i < 8; i++) {
        v[i] = h[i];
        v[i + 8] = _mm256_set1_epi64x((long long)iv[i]);
    }
    v[12] = _mm256_xor_si256(v[12], _mm256_set1_epi64x((long long)count));
    if (last)
        v[14] = _mm256_xor_si256(v[14], _mm256_set1_epi64x(-1));
    for (unsigned r = 0; r < ROUNDS; r++) {
        const unsigned char *s = sigma[r % 10];
        mix(&v[0], &v[4], &v[8], &v[12], m[s[0]], m[s[1]]);
        mix(&v[1], &v[5], &v[9], &v[13], m[s[2]], m[s[3]]);
        mix(&v[2], &v[6], &v[10], &v[14], m[s[4]], m[s[5]]);
        mix(&v[3], &v[7], &v[11], &v[15], m[s[6]], m[s[7]]);
        mix(&v[0], &v[5], &v[10], &v[15], m[s[8]], m[s[9]]);
        mix(&v[1], &v[6], &v[11], &v[12], m[s[10]], m[s[11]]);
        mix(&v[2], &v[7], &v[8], &v[13], m[s[12]], m[s[13]]);
        mix(&v[3], &v[4], &v[9], &v[14], m[s[14]], m[s[15]]);
    }
    for (unsigned i = 0; i < 8; i++)
        h[i] = _mm256_xor_si256(h[i], _mm256_xor_si256(v[i], v[i + 8]));
}

/* A block that is not a piece of the data as it stands: the first, which the domain begins, or the last. */
static void compress_copy(__m256i h[8], unsigned char (*copy)[BLOCK], uint64_t count, int last)
{
    const unsigned char *const block[FT_BLAKE2B_LANES] = {copy[0], copy[1], copy[2], copy[3]};
    compress(h, block, count, last);
}

void ft_blake2b_avx2(unsigned char domain, const unsigned char *const data[FT_BLAKE2B_LANES], size_t n,
                     ft_digest out[FT_BLAKE2B_LANES])
{
    unsigned char copy[FT_BLAKE2B_LANES][BLOCK];
    __m256i h[8];
    for (unsigned i = 0; i < 8; i++)
        h[i] = _mm256_set1_epi64x((long long)(iv[i] ^ (i ? 0 : 0x01010000 ^ FT_DIGEST_BYTES)));
    for (unsigned i = 0; i < FT_BLAKE2B_LANES; i++) {
        copy[i][0] = domain;
        memcpy(copy[i] + 1, data[i], BLOCK - 1);
    }
    size_t at = BLOCK - 1; /* of the data */
    compress_copy(h, copy, BLOCK, at == n);
    for (; at + BLOCK <= n; at += BLOCK) {
        const unsigned char *const block[FT_BLAKE2B_LANES] = {data[0] + at, data[1] + at, data[2] + at, data[3] + at};
        compress(h, block, at + BLOCK + 1, at + BLOCK == n);
    }
    if (at < n) {
        memset(copy, 0, sizeof(copy));
        for (unsigned i = 0; i < FT_BLAKE2B_LANES; i++)
            memcpy(copy[i], data[i] + at, n - at);
        compress_copy(h, copy, n + 1, 1);
    }
    for (unsigned w = 0; w < FT_DIGEST_BYTES / 8; w++) {
        uint64_t lanes[FT_BLAKE2B_LANES];
        _mm256_storeu_si256((__m256i *)(void *)lanes, h[w]);
        for (unsigned i = 0; i < FT_BLAKE2B_LANES; i++)
            memcpy(out[i].bytes + 8 * w, &lanes[i], 8);
    }
}
#endif
