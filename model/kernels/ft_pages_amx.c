/* ft_pages.h of a bfloat16 cache on the processor's matrix unit (AMX), whose sums ft_amx.h describes.
 *
 * Rows are the first operand, each number as two of bfloat16: rounded, and what that leaves out, rounded; 16 bits of
 * 24, where the cache has 8. The second one is a stretch of a page: 32 of its rows by 64 columns, woven in pairs, one
 * stretch ahead of the unit. A sum goes on from stretch to stretch: the upper parts' products, then the lower ones'. */
#include "model/kernels/ft_pages.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_amx.h"
#include "model/kernels/ft_simd_avx512.h"

#include <string.h>

enum {
    WIDE = 4,           /* tiles of sums side by side */
    COLS = WIDE * SIDE, /* that they hold */
    ROW_BYTES = 64,     /* of a tile */
    AHEAD = 2           /* stretches that are ready */
};
_Static_assert((int)COLS == (int)FT_KV_PAGE, "scores of a page");

typedef struct part {
    uint32_t upper[SIDE][SIDE], lower[SIDE][SIDE]; /* [rows][pairs] of 32 numbers of each row */
} part;

typedef struct operands {
    _Alignas(64) part a[FT_PAGES_DIM / DEEP];            /* of a row, or of as many stretches as are ready */
    _Alignas(64) uint32_t page[AHEAD][WIDE][SIDE][SIDE]; /* [tiles][pairs][columns] */
    _Alignas(64) float sums[SIDE][COLS];                 /* where output rows are not whole */
} operands;

static size_t at_most(size_t a, size_t most)
{
    return a < most ? a : most;
}

/* --- Operands --------------------------------------------------------------------------------- */

FT_INLINE __m512 widened(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* `left` numbers from x on, at most 32, then zeros. */
FT_INLINE void split(part *out, size_t row, const float *x, size_t left)
{
    const __m512 x0 = _mm512_maskz_loadu_ps(tail_of(left), x),
                 x1 = _mm512_maskz_loadu_ps(left > SIDE ? tail_of(left - SIDE) : 0, x + SIDE);
    const __m512i h = (__m512i)_mm512_cvtne2ps_pbh(x1, x0);
    const __m512 rest0 = _mm512_sub_ps(x0, widened(_mm512_castsi512_si256(h))),
                 rest1 = _mm512_sub_ps(x1, widened(_mm512_extracti64x4_epi64(h, 1)));
    _mm512_store_si512(out->upper[row], h);
    _mm512_store_si512(out->lower[row], (__m512i)_mm512_cvtne2ps_pbh(rest1, rest0));
}

/* 32 numbers, the tail `left` of them, in such an order that weaving two rows leaves the first 16 before the others. */
FT_INLINE __m512i page_row(const char *row, size_t left)
{
    const __m512i v =
        left >= DEEP ? _mm512_loadu_si512(row) : _mm512_maskz_loadu_epi16((__mmask32)((1ull << left) - 1), row);
    return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0), v);
}

/* `rows` rows of `cols` columns, at most 32 and 64, and zeros. */
FT_INLINE void weave_rows(uint32_t (*out)[SIDE][SIDE], const char *row, const char *next, size_t row_bytes, size_t rows,
                          size_t cols)
{
    for (size_t pair = 0; pair < SIDE; pair++, row += 2 * row_bytes, next += 2 * row_bytes)
        for (size_t c = 0; c < cols; c += DEEP) {
            const size_t at = c * sizeof(uint16_t);
            __builtin_prefetch(next + at, 0, 2);
            __builtin_prefetch(next + at + row_bytes, 0, 2);
            const __m512i a = 2 * pair < rows ? page_row(row + at, cols - c) : _mm512_setzero_si512(),
                          b = 2 * pair + 1 < rows ? page_row(row + at + row_bytes, cols - c) : _mm512_setzero_si512();
            _mm512_store_si512(out[c / SIDE][pair], _mm512_unpacklo_epi16(a, b));
            _mm512_store_si512(out[c / SIDE + 1][pair], _mm512_unpackhi_epi16(a, b));
        }
}

/* Rows `row` … of page n, columns j …; the same of the page behind it comes from memory meanwhile. */
static void weave(operands *o, size_t stretch, const ft_pages_product *p, size_t n, size_t row, size_t rows,
                  size_t row_bytes, size_t j, size_t cols)
{
    const size_t pages = (p->positions + FT_KV_PAGE - 1) / FT_KV_PAGE, at = row * row_bytes + j * sizeof(uint16_t);
    const char *page = p->memory + p->numbers[n] * p->page_bytes,
               *next = n + 1 < pages ? p->memory + p->numbers[n + 1] * p->page_bytes
                       : p->then     ? p->then
                                     : page;
    if (rows == DEEP && cols == COLS)
        weave_rows(o->page[stretch % AHEAD], page + at, next + at, row_bytes, DEEP, COLS);
    else
        weave_rows(o->page[stretch % AHEAD], page + at, next + at, row_bytes, rows, cols);
}

/* --- Sums ------------------------------------------------------------------------------------- */

static void begin_sums(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static void add_products(const part *a, const operands *o, size_t stretch)
{
    const uint32_t(*page)[SIDE][SIDE] = o->page[stretch % AHEAD];
    written();
    _tile_loadd(4, a->upper, ROW_BYTES);
    _tile_loadd(6, page[0], ROW_BYTES);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, page[1], ROW_BYTES);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a->lower, ROW_BYTES);
    _tile_dpbf16ps(0, 5, 6);
    _tile_dpbf16ps(1, 5, 7);
    _tile_loadd(6, page[2], ROW_BYTES);
    _tile_dpbf16ps(2, 4, 6);
    _tile_loadd(7, page[3], ROW_BYTES);
    _tile_dpbf16ps(3, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

static void end_sums(float *out, size_t stride)
{
    stride *= sizeof(*out);
    _tile_stored(0, out, stride);
    _tile_stored(1, out + SIDE, stride);
    _tile_stored(2, out + 2 * SIDE, stride);
    _tile_stored(3, out + 3 * SIDE, stride);
    written();
}

/* --- Both products of at most 16 rows ----------------------------------------------------------- */

static void weave_keys(operands *o, const ft_pages_product *p, size_t stretch, size_t steps)
{
    const size_t row = stretch % steps * DEEP;
    weave(o, stretch, p, stretch / steps, row, at_most(p->dim - row, DEEP), FT_KV_PAGE * sizeof(uint16_t), 0, COLS);
}

static void scores(operands *o, const ft_pages_product *p, size_t g, size_t rows)
{
    const size_t steps = (p->dim + DEEP - 1) / DEEP, stretches = (p->positions + FT_KV_PAGE - 1) / FT_KV_PAGE * steps;
    float *out = p->out + g * p->out_stride;
    if (!steps)
        return;
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < steps; s++)
            split(&o->a[s], r, p->a + (g + r) * p->a_stride + s * DEEP, at_most(p->dim - s * DEEP, DEEP));
    weave_keys(o, p, 0, steps);
    for (size_t k = 0; k < stretches; k++) {
        if (k % steps == 0)
            begin_sums();
        if (k + 1 < stretches)
            weave_keys(o, p, k + 1, steps);
        add_products(&o->a[k % steps], o, k);
        if ((k + 1) % steps == 0)
            end_sums(out + k / steps * FT_KV_PAGE, p->out_stride);
    }
}

/* A stretch of positions: their values, and their weights in each row. */
static void weave_values(operands *o, const ft_pages_product *p, size_t g, size_t rows, size_t stretch, size_t j,
                         size_t cols)
{
    const size_t first = stretch * DEEP;
    weave(o, stretch, p, first / FT_KV_PAGE, first % FT_KV_PAGE, at_most(p->positions - first, DEEP),
          p->dim * sizeof(uint16_t), j, cols);
    for (size_t r = g; r < g + rows; r++)
        split(&o->a[stretch % AHEAD], r - g, p->a + r * p->a_stride + first,
              p->seen[r] > first ? at_most(p->seen[r] - first, DEEP) : 0);
}

static void mix(operands *o, const ft_pages_product *p, size_t g, size_t rows, size_t j, size_t cols)
{
    const size_t stretches = (p->positions + DEEP - 1) / DEEP;
    float *out = p->out + g * p->out_stride + j;
    begin_sums();
    weave_values(o, p, g, rows, 0, j, cols);
    for (size_t k = 0; k < stretches; k++) {
        if (k + 1 < stretches)
            weave_values(o, p, g, rows, k + 1, j, cols);
        add_products(&o->a[k % AHEAD], o, k);
    }
    end_sums(cols == COLS ? out : o->sums[0], cols == COLS ? p->out_stride : (size_t)COLS);
    for (size_t r = 0; r < rows && cols < COLS; r++)
        memcpy(out + r * p->out_stride, o->sums[r], cols * sizeof(*out));
}

void ft_pages_scores_bf16_amx(const ft_pages_product *p)
{
    operands o;
    for (size_t g = 0, rows; g < p->rows; g += rows) {
        rows = at_most(p->rows - g, SIDE);
        load_step_shapes(rows);
        scores(&o, p, g, rows);
    }
    _tile_release();
}

void ft_pages_mix_bf16_amx(const ft_pages_product *p)
{
    operands o;
    memset(o.page, 0, sizeof(o.page)); /* columns beyond the last are whatever was there */
    for (size_t g = 0, rows; g < p->rows; g += rows) {
        rows = at_most(p->rows - g, SIDE);
        load_step_shapes(rows);
        for (size_t j = 0; j < p->dim; j += COLS)
            mix(&o, p, g, rows, j, at_most(p->dim - j, COLS));
    }
    _tile_release();
}
#endif
