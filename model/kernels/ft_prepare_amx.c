#include "model/kernels/ft_narrow.h"
#include "model/kernels/ft_prepare.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc, clang */
#include "model/kernels/ft_matmul_amx.h"

/* Rounded as in the other families; then each block's pairs in the order of the unit's steps. */
void ft_prepare_bf16_amx(void *out, const float *x, size_t n)
{
    ft_narrow_bf16_avx512(out, 1, x, n);
    ft_prepare_pad(out, n);
    uint32_t *block = out;
    for (size_t at = 0; at < n; at += BLOCK, block += BLOCK / 2) {
        __m512i in[SIDE];
        uint32_t steps[SIDE * SIDE]; /* the lower half counts */
        for (size_t line = 0; line < LINES; line++) {
            in[line] = _mm512_loadu_si512(block + line * SIDE);
            in[LINES + line] = _mm512_shuffle_i32x4(in[line], in[line], 0x4e);
        }
        turn(steps, SIDE, in);
        memcpy(block, steps, LINES * LINE_BYTES);
    }
}
#endif
