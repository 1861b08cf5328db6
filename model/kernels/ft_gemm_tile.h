/* ft_gemm_tile: matrix products of training, out of operands that lie as the loops want them.
 *
 *   out[i, j] = (add ? out[i, j] : 0) + sum over s of a[i, s] b[s, j]
 *
 * A unit is 4 bytes: a float32 (F32), or two bfloat16 that follow each other along k, the
 * first in the low half (BF16). With BF16 a unit stands for two products, which are exact;
 * sums are float32.
 *
 * Shapes   a [m, steps], b in panels of FT_PANEL columns: packed, where b_step is FT_PANEL, or an array
 *          [steps, b_step] as it stands, where b_panel is FT_PANEL. A panel's columns beyond n are read.
 * Bits     an output element is one chain of sums over s in order: cuts of m, n and, with `add`, of
 *          the steps leave no trace. A family's bits are its own: AVX512_DOT's bfloat16 product
 *          adds both products of a unit at once and takes subnormal numbers as 0; AMX (ft_amx.h) does so too, adds up 16 units
 *          by themselves, and leaves no trace of steps cut at multiples of 16. It wants a_step 1.
 * Packing  ft_gemm_pairs makes units of a row; ft_gemm_weave of two rows, for operands of which k
 *          is the row. Both round to nearest, even on a tie. */
#ifndef FT_GEMM_TILE_H
#define FT_GEMM_TILE_H
#include <stddef.h>
#include <stdint.h>

enum { FT_PANEL = 32 };

typedef struct ft_gemm_tile {
    const uint32_t *a;
    size_t a_row, a_step; /* units from a row to the next, from a step to the next; one of them is 1 */
    const uint32_t *b;
    size_t b_panel, b_step; /* units from a panel to the next, from a step to the next */
    size_t m, n, steps;
    float *out;
    size_t out_stride;
    int add;
} ft_gemm_tile;
typedef void ft_gemm_tile_fn(const ft_gemm_tile *t);
ft_gemm_tile_fn ft_gemm_f32_scalar, ft_gemm_f32_avx2, ft_gemm_f32_avx512;
ft_gemm_tile_fn ft_gemm_bf16_scalar, ft_gemm_bf16_avx2, ft_gemm_bf16_avx512, ft_gemm_bf16_avx512dot,
    ft_gemm_bf16_amx;

/* out [(k + 1) / 2] of x [k]; the half of an odd last unit is 0. */
typedef void ft_gemm_pairs_fn(uint32_t *out, const float *x, size_t k);
ft_gemm_pairs_fn ft_gemm_pairs_scalar, ft_gemm_pairs_avx512dot;
/* out [n]: low halves of `low` [n], high halves of `high` [n] (NULL: 0). */
typedef void ft_gemm_weave_fn(uint32_t *out, const float *low, const float *high, size_t n);
ft_gemm_weave_fn ft_gemm_weave_scalar, ft_gemm_weave_avx512dot;
/* out [columns, out_row] of in [rows, in_row], transposed. */
typedef void ft_gemm_turn_fn(uint32_t *out, size_t out_row, const uint32_t *in, size_t in_row, size_t rows, size_t columns);
ft_gemm_turn_fn ft_gemm_turn_amx;

/* --- Float32 on the matrix unit ---------------------------------------------------------------- */

/* The unit multiplies bfloat16 alone, at 16 times the speed of float32 in vectors. A float32 is the sum of three
 * bfloat16, x = h + m + l, exactly: each holds the next 8 of its 24 bits. Of the nine products of two such sums the six
 * largest are made:
 *
 *   a b = l h + h h + h l + h m + m m + m h, less what is below 2^-24 |a b|
 *
 * which is what one rounding of a float32 product may lose; 32 products are added up before they reach the sum, so
 * that a sum is rounded less often than one of fused multiply-adds and comes out nearer to the true one.
 * Subnormal parts count as 0: of numbers below 2^-109 fewer bits count. An operand that is not finite, or
 * beyond bfloat16's 3.39e38, makes sums NaN.
 * Source  Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
 *         Computations", ARITH 2019.
 *
 * Parts    k goes in stretches of FT_STRETCH, unit i holding columns i and i + 16 of one; behind the last
 *          stand zeros. Left: [m / FT_LEFT_ROWS, stretches, 3, FT_LEFT_ROWS, 16] units, right: [panels, stretches, 3, 16,
 *          FT_PANEL], both FT_PARTS units a stretch. m and n are filled up: with anything, zeros for the right one.
 * Bits     an element is one chain of sums over stretches: cuts of m, n and at multiples of FT_STRETCH leave no trace. */
enum { FT_STRETCH = 32, FT_LEFT_ROWS = 32, FT_PARTS = 3 * 16 * 32 };

/* Of ft_gemm_tile: steps counts stretches, a_row is the units from FT_LEFT_ROWS rows to the next, a_step and b_step
 * are not read. */
ft_gemm_tile_fn ft_gemm_parts_amx;
/* a [m, k], or [k, m] where transposed. */
typedef void ft_gemm_left_fn(uint32_t *out, const float *a, size_t stride, int transposed, size_t m, size_t k);
ft_gemm_left_fn ft_gemm_left_amx;
/* One panel of b [k, width], or [width, k] where transposed; width is at most FT_PANEL. */
typedef void ft_gemm_right_fn(uint32_t *out, const float *b, size_t stride, int transposed, size_t k, size_t width);
ft_gemm_right_fn ft_gemm_right_amx;
#endif
