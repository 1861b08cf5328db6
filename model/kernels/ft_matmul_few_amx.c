/* A few tokens' products with vectors: the bits of ft_matmul_bf16_bf16_amx.
 *
 * The unit would read 16 rows of weights at once, which memory gives more slowly than four, and a lone token waits for
 * nothing but memory. A vector holds 8 pairs of one row and 8 of another: 8 steps of each, see ft_matmul_amx.h. */
#include "model/kernels/ft_matmul.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_matmul_amx.h"
#include "model/kernels/ft_simd_avx512.h"

#include <string.h>

enum {
    PLACES = 4, /* that are read side by side: memory gives more to several streams than to one */
    TWOS = PLACES / 2,
    HALF = LANES / 2,
    MOST_BLOCKS = FEW_COLUMNS / BLOCK, /* of all tokens */
    BLOCK_BYTES = BLOCK * sizeof(uint16_t),
    AHEAD = 2048,
    AS_THE_UNIT = 0x8040 /* of the control register: subnormal numbers are read and written as 0 */
};

typedef struct few {
    size_t tokens, blocks;
    const char *w[PLACES];                            /* rows that are next */
    size_t row_bytes, tail_bytes;                     /* of a row; what of it is no whole block */
    _Alignas(64) float x[MOST_BLOCKS][SIDE][2][HALF]; /* [token, block][pairs of a step][even, odd column][steps] */
    _Alignas(
        64) float steps[TWOS * MOST_BLOCKS][SIDE][LANES]; /* [two, token, block][rows][8 steps in each of two places] */
    _Alignas(64) float sums[FEW_TOKENS][PLACES][LANES];
} few;

static void widen_token(few *f, size_t token, const uint32_t *x)
{
    for (size_t b = 0; b < f->blocks; b += 2) {
        _Alignas(64) uint32_t turned[SIDE * SIDE]; /* [pairs][steps of two blocks] */
        const size_t there = f->blocks - b < 2 ? 1 : 2;
        __m512i in[SIDE];
        for (size_t step = 0; step < SIDE; step++)
            in[step] =
                step < there * LINES ? _mm512_loadu_si512(x + (b * LINES + step) * SIDE) : _mm512_setzero_si512();
        turn(turned, SIDE, in);
        for (size_t block = 0; block < there; block++)
            for (size_t pair = 0; pair < SIDE; pair++) {
                float(*out)[HALF] = f->x[token * f->blocks + b + block][pair];
                const __m256i both = _mm256_load_si256((const __m256i *)(turned + pair * SIDE + block * HALF));
                _mm256_store_si256((__m256i *)out[0], _mm256_slli_epi32(both, 16));
                _mm256_store_si256((__m256i *)out[1], _mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000u)));
            }
    }
}

FT_INLINE lanes two_rows(const char *a, const char *b)
{
    return _mm512_castsi512_ps(_mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)a)),
                                                  _mm256_loadu_si256((const __m256i *)b), 1));
}

/* One block of a row in each place: 8 steps of each for each token. */
FT_INLINE void block_steps(few *f, const char *const *w, size_t block, size_t row, int tokens, int fetch)
{
    lanes even[TWOS][FEW_TOKENS], odd[TWOS][FEW_TOKENS];
    FT_UNROLL
    for (int two = 0; two < TWOS; two++)
        FT_UNROLL
    for (int t = 0; t < tokens; t++)
        even[two][t] = odd[two][t] = lanes_of(0);
    FT_UNROLL
    for (size_t pair = 0; pair < SIDE; pair++) {
        const size_t at = pair % LINES * LINE_BYTES + pair / LINES * (LINE_BYTES / 2);
        lanes w_even[TWOS], w_odd[TWOS];
        if (fetch && pair < LINES) {
            FT_UNROLL
            for (int place = 0; place < PLACES; place++)
                __builtin_prefetch(w[place] + at + AHEAD, 0, 3);
        }
        FT_UNROLL
        for (int two = 0; two < TWOS; two++) {
            const lanes v = two_rows(w[2 * two] + at, w[2 * two + 1] + at);
            w_even[two] = lanes_shifted(v);
            w_odd[two] = lanes_upper(v);
        }
        FT_UNROLL
        for (int t = 0; t < tokens; t++) {
            const float(*x)[HALF] = f->x[(size_t)t * f->blocks + block][pair];
            const lanes x_even = _mm512_broadcast_f32x8(_mm256_load_ps(x[0])),
                        x_odd = _mm512_broadcast_f32x8(_mm256_load_ps(x[1]));
            FT_UNROLL
            for (int two = 0; two < TWOS; two++) {
                even[two][t] = lanes_fma(w_even[two], x_even, even[two][t]);
                odd[two][t] = lanes_fma(w_odd[two], x_odd, odd[two][t]);
            }
        }
    }
    FT_UNROLL
    for (int two = 0; two < TWOS; two++)
        FT_UNROLL
    for (int t = 0; t < tokens; t++)
        lanes_store(f->steps[(size_t)(two * tokens + t) * f->blocks + block][row],
                    lanes_add(even[two][t], odd[two][t]));
}

/* The last columns of the rows, and zeros. */
FT_INLINE void tail_steps(few *f, size_t row, int tokens)
{
    _Alignas(64) char last[PLACES][BLOCK_BYTES] = {{0}};
    const char *w[PLACES];
    for (size_t place = 0; place < PLACES; place++)
        w[place] = memcpy(last[place], f->w[place] + (f->blocks - 1) * BLOCK_BYTES, f->tail_bytes);
    block_steps(f, w, f->blocks - 1, row, tokens, 0);
}

/* Weights that come next, meanwhile: as many as memory gives in that time. */
FT_INLINE void fetch_on(const few *f, size_t line)
{
    enum { EACH = 3 };
    FT_UNROLL
    for (size_t place = 0; place < PLACES; place++)
        FT_UNROLL
    for (size_t i = 0; i < EACH; i++)
        __builtin_prefetch(f->w[place] + AHEAD + (line * EACH + i) * LINE_BYTES, 0, 2);
}

/* Sums of 16 rows in each place, from their steps. */
static void add_steps(few *f)
{
    size_t at = 0;
    for (size_t two = 0; two < TWOS; two++)
        for (size_t t = 0; t < f->tokens; t++) {
            lanes a = lanes_of(0), b = a;
            for (size_t block = 0; block < f->blocks; block++, at++) {
                _Alignas(64) uint32_t turned[SIDE * SIDE];
                __m512i in[SIDE];
                for (size_t row = 0; row < SIDE; row++)
                    in[row] = _mm512_castps_si512(lanes_load(f->steps[at][row]));
                fetch_on(f, at);
                turn(turned, SIDE, in);
                for (size_t step = 0; step < LINES; step++) {
                    a = lanes_add(a, _mm512_castsi512_ps(_mm512_load_si512(turned + step * SIDE)));
                    b = lanes_add(b, _mm512_castsi512_ps(_mm512_load_si512(turned + (LINES + step) * SIDE)));
                }
            }
            lanes_store(f->sums[t][2 * two], a);
            lanes_store(f->sums[t][2 * two + 1], b);
        }
}

/* `rows` rows, at most 16, in each place. */
FT_INLINE void rows_by(few *f, size_t rows, int tokens)
{
    for (size_t row = 0; row < rows; row++) {
        const char *w[PLACES];
        for (size_t place = 0; place < PLACES; place++)
            w[place] = f->w[place];
        const size_t whole = f->blocks - (f->tail_bytes > 0);
        for (size_t block = 0; block < whole; block++) {
            block_steps(f, w, block, row, tokens, 1);
            FT_UNROLL
            for (size_t place = 0; place < PLACES; place++)
                w[place] += BLOCK_BYTES;
        }
        if (f->tail_bytes)
            tail_steps(f, row, tokens);
        for (size_t place = 0; place < PLACES; place++)
            f->w[place] += f->row_bytes;
    }
}

/* Not inlined: all of its arithmetic is done under AS_THE_UNIT. */
static __attribute__((noinline)) void rows_of(few *f, size_t rows)
{
    _Static_assert(FEW_TOKENS == 4, "a case for each number");
    switch (f->tokens) {
    case 1:
        rows_by(f, rows, 1);
        break;
    case 2:
        rows_by(f, rows, 2);
        break;
    case 3:
        rows_by(f, rows, 3);
        break;
    default:
        rows_by(f, rows, 4);
    }
    add_steps(f);
}

/* `part` rows in each of some places. */
static void rows_in_places(few *f, const ft_matmul *m, size_t first, size_t part, size_t places)
{
    for (size_t place = 0; place < PLACES; place++)
        f->w[place] = weights_at(m, first + (place < places ? place : 0) * part, 0);
    for (size_t at = 0, rows; at < part; at += rows) {
        rows = part - at < LANES ? part - at : LANES;
        rows_of(f, rows);
        for (size_t t = 0; t < m->tokens; t++)
            for (size_t place = 0; place < places; place++)
                memcpy(m->out + t * m->out_stride + first + place * part + at, f->sums[t][place], rows * sizeof(float));
    }
}

void ft_amx_few(const ft_matmul *m)
{
    few f;
    const size_t part = m->rows / PLACES;
    const unsigned control = _mm_getcsr();
    f.tokens = m->tokens;
    f.blocks = (m->cols + BLOCK - 1) / BLOCK;
    f.row_bytes = m->w_stride * sizeof(uint16_t);
    f.tail_bytes = m->cols % BLOCK * sizeof(uint16_t);
    for (size_t t = 0; t < m->tokens; t++)
        widen_token(&f, t, ft_matmul_x(m, t));
    _mm_setcsr(control | AS_THE_UNIT);
    rows_in_places(&f, m, 0, part, PLACES);
    if (part * PLACES < m->rows)
        rows_in_places(&f, m, part * PLACES, 1, m->rows - part * PLACES);
    _mm_setcsr(control);
}
#endif
