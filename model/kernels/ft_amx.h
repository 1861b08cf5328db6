/* ft_amx: what the kernels of the processor's matrix unit (AMX) share.
 *
 * Eight tiles of at most 16 rows of 64 bytes. tdpbf16ps adds to a tile of 16 x 16 sums the products of 16 rows by 32
 * columns with 32 columns by 16 others, which stand in pairs: [16 pairs][16]. Of each sum's 32 products those of even and
 * those of odd columns are added up by themselves, from 0 on, then both, then that to the sum; subnormal numbers count
 * as 0. Which of the two operands is which is all the same.
 * Source  Intel, "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2, TDPBF16PS. */
#ifndef FT_AMX_H
#define FT_AMX_H
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIDE = 16,       /* rows of a tile; sums in one of its rows */
    DEEP = 2 * SIDE, /* columns that one tile of an operand holds */
    PAIRED = 2 * SIDE /* what stands beside each other in pairs, for two tiles */
};

/* What ldtilecfg reads. */
typedef struct tiles {
    _Alignas(64) uint8_t palette;
    uint8_t start, none[14];
    uint16_t bytes[16]; /* of a row */
    uint8_t rows[16];
} tiles;
_Static_assert(sizeof(tiles) == 64, "as the processor reads it");

static inline void shape(tiles *c, int tile, size_t rows, size_t units)
{
    c->palette = 1;
    c->rows[tile] = (uint8_t)rows;
    c->bytes[tile] = (uint16_t)(4 * units);
}

/* Tile loads are not known to read memory: what was written for them has to be there. */
static inline __attribute__((always_inline)) void written(void)
{
    __asm__ volatile("" ::: "memory");
}

/* 16 rows of 16 words, to 16 columns of 16 words, `step` words apart. */
static inline __attribute__((always_inline)) void turn(uint32_t *out, size_t step, const __m512i *in)
{
    __m512i a[SIDE], b[SIDE];
    for (int i = 0; i < SIDE; i += 2) {
        a[i] = _mm512_unpacklo_epi32(in[i], in[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(in[i], in[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88);
        a[i + 4] = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xdd);
        a[i + 8] = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88);
        a[i + 12] = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        uint32_t *at = out + (size_t)i * step;
        _mm512_storeu_si512(at, _mm512_shuffle_i32x4(a[i], a[i + 8], 0x88));
        _mm512_storeu_si512(at + 4 * step, _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0x88));
        _mm512_storeu_si512(at + 8 * step, _mm512_shuffle_i32x4(a[i], a[i + 8], 0xdd));
        _mm512_storeu_si512(at + 12 * step, _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0xdd));
    }
}

/* The same from memory, which spares half of the shuffles; rows lie `row` bytes apart. */
static inline __attribute__((always_inline)) void turn_rows(uint32_t *out, size_t step, const char *w, size_t row)
{
    for (int quarter = 0; quarter < 4; quarter++, w += 4 * sizeof(uint32_t), out += 4 * step) {
        __m512i a[4], b[4]; /* of four rows that lie four apart; of two pairs of these */
        for (size_t i = 0; i < 4; i++) {
            const __m128i *in[4];
            for (size_t k = 0; k < 4; k++)
                in[k] = (const __m128i *)(w + (i + 4 * k) * row);
            a[i] = _mm512_castsi128_si512(_mm_loadu_si128(in[0]));
            a[i] = _mm512_mask_broadcast_i32x4(a[i], 0x00f0, _mm_loadu_si128(in[1]));
            a[i] = _mm512_mask_broadcast_i32x4(a[i], 0x0f00, _mm_loadu_si128(in[2]));
            a[i] = _mm512_mask_broadcast_i32x4(a[i], 0xf000, _mm_loadu_si128(in[3]));
        }
        for (int i = 0; i < 2; i++) {
            b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
        }
        _mm512_storeu_si512(out, _mm512_unpacklo_epi64(b[0], b[2]));
        _mm512_storeu_si512(out + step, _mm512_unpackhi_epi64(b[0], b[2]));
        _mm512_storeu_si512(out + 2 * step, _mm512_unpacklo_epi64(b[1], b[3]));
        _mm512_storeu_si512(out + 3 * step, _mm512_unpackhi_epi64(b[1], b[3]));
    }
}

/* For step_of: tiles 0 to 3 are sums, 4 and 5 of `rows` rows, 6 and 7 of 16. */
static inline void load_step_shapes(size_t rows)
{
    tiles c = {0};
    for (int i = 0; i < 6; i++)
        shape(&c, i, rows, SIDE);
    shape(&c, 6, SIDE, SIDE);
    shape(&c, 7, SIDE, SIDE);
    written();
    _tile_loadconfig(&c);
}

/* One step of sums 0 and 1 (two times 16 columns of b) and, where `two`, 2 and 3 for 16 rows more, `lower` bytes on.
 * Tiles 4 and 5 are of a, 6 and 7 of b. */
static inline __attribute__((always_inline)) void step_of(const void *a, size_t a_step, size_t lower, const uint32_t *b,
                                                          size_t b_step, int two)
{
    _tile_loadd(4, a, a_step);
    _tile_loadd(6, b, b_step);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + SIDE, b_step);
    _tile_dpbf16ps(1, 4, 7);
    if (two) {
        _tile_loadd(5, (const char *)a + lower, a_step);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}
#endif
