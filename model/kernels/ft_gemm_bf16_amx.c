#include "model/kernels/ft_gemm_tile.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_amx.h"

#include <string.h>

/* Sums of `rows` rows by n columns, between t->out and memory of rows of PAIRED. */
static void move(const ft_gemm_tile *t, size_t i, size_t j, size_t rows, size_t n, float *sums, int store)
{
    for (size_t r = 0; r < rows; r++) {
        float *out = t->out + (i + r) * t->out_stride + j;
        if (store)
            memcpy(out, sums + r * PAIRED, n * sizeof(*out));
        else
            memcpy(sums + r * PAIRED, out, n * sizeof(*out));
    }
}

/* The last steps of both operands, and zeros. */
typedef struct ending {
    _Alignas(64) uint32_t a[2 * SIDE * SIDE];
    _Alignas(64) uint32_t b[SIDE * PAIRED];
} ending;

static void copy_ending(ending *e, const ft_gemm_tile *t, const uint32_t *a, size_t rows, const uint32_t *b, size_t left)
{
    memset(e, 0, sizeof(*e));
    for (size_t r = 0; r < rows; r++)
        memcpy(e->a + r * SIDE, a + r * t->a_row, left * sizeof(*a));
    for (size_t s = 0; s < left; s++)
        memcpy(e->b + s * PAIRED, b + s * t->b_step, PAIRED * sizeof(*b));
    written();
}

/* `rows` rows of a from row i on, 32 where `two`, else 16 or what tiles are shaped for, by the columns of the panel at j. */
static inline __attribute__((always_inline)) void rows_by_panel(const ft_gemm_tile *t, size_t i, size_t j, size_t rows,
                                                                int two)
{
    const size_t n = t->n - j < PAIRED ? t->n - j : PAIRED, a_step = t->a_row * 4, b_step = t->b_step * 4;
    const uint32_t *a = t->a + i * t->a_row, *b = t->b + j / FT_PANEL * t->b_panel;
    _Alignas(64) float sums[2 * SIDE * PAIRED];
    const int straight = n == PAIRED;
    float *out = straight ? t->out + i * t->out_stride + j : sums;
    const size_t out_step = straight ? t->out_stride * sizeof(*out) : PAIRED * sizeof(*out);
    float *below = out + SIDE * (out_step / sizeof(*out));
    if (t->add && !straight)
        move(t, i, j, rows, n, sums, 0);
    written();
    if (t->add) {
        _tile_loadd(0, out, out_step);
        _tile_loadd(1, out + SIDE, out_step);
    } else {
        _tile_zero(0);
        _tile_zero(1);
    }
    if (two && t->add) {
        _tile_loadd(2, below, out_step);
        _tile_loadd(3, below + SIDE, out_step);
    } else if (two) {
        _tile_zero(2);
        _tile_zero(3);
    }
    size_t s = 0;
    for (; s + SIDE <= t->steps; s += SIDE)
        step_of(a + s, a_step, SIDE * a_step, b + s * t->b_step, b_step, two);
    if (s < t->steps) {
        ending e;
        copy_ending(&e, t, a + s, rows, b + s * t->b_step, t->steps - s);
        step_of(e.a, SIDE * 4, SIDE * SIDE * 4, e.b, PAIRED * 4, two);
    }
    _tile_stored(0, out, out_step);
    _tile_stored(1, out + SIDE, out_step);
    if (two) {
        _tile_stored(2, below, out_step);
        _tile_stored(3, below + SIDE, out_step);
    }
    if (!straight)
        move(t, i, j, rows, n, sums, 1);
}

void ft_gemm_bf16_amx(const ft_gemm_tile *t)
{
    const size_t last = t->m / SIDE * SIDE;
    load_step_shapes(SIDE);
    for (size_t j = 0; j < t->n && last; j += FT_PANEL) {
        size_t i = 0;
        for (; i + 2 * SIDE <= t->m; i += 2 * SIDE)
            rows_by_panel(t, i, j, 2 * SIDE, 1);
        if (i < last)
            rows_by_panel(t, i, j, SIDE, 0);
    }
    if (last < t->m) {
        load_step_shapes(t->m - last);
        for (size_t j = 0; j < t->n; j += FT_PANEL)
            rows_by_panel(t, last, j, t->m - last, 0);
    }
    _tile_release();
}

void ft_gemm_turn_amx(uint32_t *out, size_t out_row, const uint32_t *in, size_t in_row, size_t rows, size_t columns)
{
    for (size_t i = 0; i < rows; i += SIDE)
        for (size_t j = 0; j < columns; j += SIDE) {
            const size_t r = rows - i < SIDE ? rows - i : SIDE, c = columns - j < SIDE ? columns - j : SIDE;
            uint32_t whole[SIDE * SIDE];
            __m512i block[SIDE];
            for (size_t k = 0; k < SIDE; k++)
                block[k] = k < r ? _mm512_maskz_loadu_epi32((__mmask16)((1u << c) - 1), in + (i + k) * in_row + j)
                                 : _mm512_setzero_si512();
            if (r == SIDE && c == SIDE) {
                turn(out + j * out_row + i, out_row, block);
                continue;
            }
            turn(whole, SIDE, block);
            for (size_t k = 0; k < c; k++)
                memcpy(out + (j + k) * out_row + i, whole + k * SIDE, r * sizeof(*out));
        }
}
#endif
