#include "model/kernels/ft_gemm_tile.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_amx.h"

#include <string.h>

enum { H, M, L, PARTS, PLANE = FT_PARTS / PARTS };
_Static_assert((int)FT_STRETCH == DEEP && FT_LEFT_ROWS == 2 * SIDE && (int)FT_PANEL == PAIRED,
               "a stretch is one tile deep, a block of sums two by two tiles");

/* --- Parts -------------------------------------------------------------------------------------- */

typedef struct parts {
    __m512i of[PARTS];
} parts;

/* Units of both vectors' elements. A part is rounded to the nearest; what the next ones have to hold is exact. */
static inline __attribute__((always_inline)) parts split(__m512 low, __m512 high)
{
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32((int)0xffff0000u);
    parts u;
    for (int i = H; i < L; i++) {
        const __m512i a = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(low), half), upper);
        const __m512i b = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(high), half), upper);
        u.of[i] = _mm512_or_si512(_mm512_srli_epi32(a, 16), b);
        low = _mm512_sub_ps(low, _mm512_castsi512_ps(a));
        high = _mm512_sub_ps(high, _mm512_castsi512_ps(b));
    }
    u.of[L] = _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(low), 16),
                              _mm512_and_si512(_mm512_castps_si512(high), upper));
    return u;
}

static inline __mmask16 first(size_t n)
{
    return n >= SIDE ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

/* What is left of a stretch behind its first half. */
static inline size_t behind(size_t left)
{
    return left > SIDE ? left - SIDE : 0;
}

/* Of a row of `left` columns in a stretch. */
static inline __attribute__((always_inline)) parts of_row(const float *x, size_t left)
{
    return split(_mm512_maskz_loadu_ps(first(left), x), _mm512_maskz_loadu_ps(first(behind(left)), x + SIDE));
}

/* Of row i of the stretch's first half and of its second, where there are `left` rows in all; n of their elements. */
static inline __attribute__((always_inline)) parts of_rows(const float *x, size_t stride, size_t i, size_t left,
                                                           size_t n)
{
    const __mmask16 low = i < left ? first(n) : 0, high = i + SIDE < left ? first(n) : 0;
    return split(_mm512_maskz_loadu_ps(low, x + i * stride), _mm512_maskz_loadu_ps(high, x + (i + SIDE) * stride));
}

/* 16 rows of a stretch with `left` columns, of which there are `rows`, to planes of 16 units of 16 rows. */
static void turn_row_parts(uint32_t *out, size_t step, const float *x, size_t stride, size_t rows, size_t left)
{
    __m512i plane[PARTS][SIDE];
    for (size_t r = 0; r < SIDE; r++) {
        const parts u = r < rows ? of_row(x + r * stride, left) : split(_mm512_setzero_ps(), _mm512_setzero_ps());
        for (int i = 0; i < PARTS; i++)
            plane[i][r] = u.of[i];
    }
    for (int i = 0; i < PARTS; i++)
        turn(out + i * PLANE, step, plane[i]);
}

/* The same of columns, which lie [left, columns], to planes of `columns` rows of 16 units. */
static void turn_column_parts(uint32_t *out, const float *x, size_t stride, size_t columns, size_t left)
{
    __m512i plane[PARTS][SIDE];
    for (size_t r = 0; r < SIDE; r++) {
        const parts u = of_rows(x, stride, r, left, columns);
        if (left >= 2 * DEEP) { /* rows lie far apart: no prefetcher of the processor sees the next stretch's */
            __builtin_prefetch(x + (r + DEEP) * stride, 0, 3);
            __builtin_prefetch(x + (r + DEEP + SIDE) * stride, 0, 3);
        }
        for (int i = 0; i < PARTS; i++)
            plane[i][r] = u.of[i];
    }
    for (int i = 0; i < PARTS; i++)
        turn(out + i * PLANE, SIDE, plane[i]);
}

void ft_gemm_left_amx(uint32_t *out, const float *a, size_t stride, int transposed, size_t m, size_t k)
{
    for (size_t g = 0; g < m; g += FT_LEFT_ROWS)
        for (size_t s = 0; s < k; s += FT_STRETCH, out += FT_PARTS) {
            const size_t rows = m - g < FT_LEFT_ROWS ? m - g : FT_LEFT_ROWS;
            for (size_t r = 0; transposed && r < rows; r += SIDE)
                turn_column_parts(out + r * SIDE, a + s * stride + g + r, stride, rows - r, k - s);
            for (size_t r = 0; !transposed && r < rows; r++) {
                const parts u = of_row(a + (g + r) * stride + s, k - s);
                for (int i = 0; i < PARTS; i++)
                    _mm512_storeu_si512(out + i * PLANE + r * SIDE, u.of[i]);
            }
        }
}

void ft_gemm_right_amx(uint32_t *out, const float *b, size_t stride, int transposed, size_t k, size_t width)
{
    for (size_t s = 0; s < k; s += FT_STRETCH, out += FT_PARTS)
        for (size_t c = 0; c < PAIRED; c += SIDE) {
            const size_t n = c < width ? width - c : 0;
            if (transposed) {
                turn_row_parts(out + c, PAIRED, b + c * stride + s, stride, n, k - s);
                continue;
            }
            for (size_t r = 0; r < SIDE; r++) {
                const parts u = of_rows(b + s * stride + c, stride, r, k - s, n);
                for (int i = 0; i < PARTS; i++)
                    _mm512_storeu_si512(out + i * PLANE + r * PAIRED + c, u.of[i]);
            }
        }
}

/* --- Products ----------------------------------------------------------------------------------- */

/* Sums 0 and 1 are of 16 rows by two times 16 columns, where `two` 2 and 3 of 16 rows more; tiles 4 and 5 are of a,
 * 6 and 7 of b. */
static inline __attribute__((always_inline)) void left(const uint32_t *a, int part, int two)
{
    _tile_loadd(4, a + part * PLANE, SIDE * 4);
    if (two)
        _tile_loadd(5, a + part * PLANE + SIDE * SIDE, SIDE * 4);
}

static inline __attribute__((always_inline)) void right(const uint32_t *b, int part)
{
    _tile_loadd(6, b + part * PLANE, PAIRED * 4);
    _tile_loadd(7, b + part * PLANE + SIDE, PAIRED * 4);
}

static inline __attribute__((always_inline)) void multiply(int two)
{
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (two) {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static inline __attribute__((always_inline)) void stretch(const uint32_t *a, const uint32_t *b, int two)
{
    left(a, L, two);
    right(b, H);
    multiply(two);
    left(a, H, two);
    multiply(two);
    right(b, L);
    multiply(two);
    right(b, M);
    multiply(two);
    left(a, M, two);
    multiply(two);
    right(b, H);
    multiply(two);
}

static inline __attribute__((always_inline)) void sums(float *out, size_t stride, int two, int kind)
{
    float *below = out + SIDE * stride;
    const size_t step = stride * sizeof(*out);
    if (kind == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else if (kind == 1) {
        _tile_loadd(0, out, step);
        _tile_loadd(1, out + SIDE, step);
        if (two) {
            _tile_loadd(2, below, step);
            _tile_loadd(3, below + SIDE, step);
        }
    } else {
        _tile_stored(0, out, step);
        _tile_stored(1, out + SIDE, step);
        if (two) {
            _tile_stored(2, below, step);
            _tile_stored(3, below + SIDE, step);
        }
    }
}

/* Rows i … by the columns of the panel at j. */
static inline __attribute__((always_inline)) void rows_by_panel(const ft_gemm_tile *t, size_t i, size_t j, int two)
{
    const size_t rows = t->m - i < FT_LEFT_ROWS ? t->m - i : FT_LEFT_ROWS, n = t->n - j < PAIRED ? t->n - j : PAIRED;
    const uint32_t *a = t->a + i / FT_LEFT_ROWS * t->a_row, *b = t->b + j / FT_PANEL * t->b_panel;
    const int straight = n == PAIRED && rows == (two ? 2 * SIDE : SIDE);
    _Alignas(64) float own[2 * SIDE * PAIRED];
    float *at = t->out + i * t->out_stride + j, *out = straight ? at : own;
    const size_t out_stride = straight ? t->out_stride : PAIRED;
    for (size_t r = 0; t->add && !straight && r < rows; r++)
        memcpy(own + r * PAIRED, at + r * t->out_stride, n * sizeof(*own));
    written();
    sums(out, out_stride, two, t->add ? 1 : 0);
    for (size_t s = 0; s < t->steps; s++, a += FT_PARTS, b += FT_PARTS)
        stretch(a, b, two);
    sums(out, out_stride, two, 2);
    for (size_t r = 0; !straight && r < rows; r++)
        memcpy(at + r * t->out_stride, own + r * PAIRED, n * sizeof(*own));
}

void ft_gemm_parts_amx(const ft_gemm_tile *t)
{
    tiles c = {0};
    for (int i = 0; i < 8; i++)
        shape(&c, i, SIDE, SIDE);
    written();
    _tile_loadconfig(&c);
    for (size_t j = 0; j < t->n; j += FT_PANEL)
        for (size_t i = 0; i < t->m; i += FT_LEFT_ROWS)
            if (t->m - i > SIDE)
                rows_by_panel(t, i, j, 1);
            else
                rows_by_panel(t, i, j, 0);
    _tile_release();
}
#endif
