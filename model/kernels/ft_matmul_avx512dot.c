#include "model/kernels/ft_matmul.h"

#if defined(__AVX512BF16__)
#include "model/kernels/ft_simd_avx512.h"

/* One step is 32 columns: each lane takes the two products that stand in it. */
typedef enum number { BF16 } number;
typedef __m512i operand;
enum { STEP = 2 * LANES };

FT_INLINE size_t number_bytes(number type)
{
    (void)type;
    return sizeof(uint16_t);
}

FT_INLINE operand operand_load(number type, const char *row, size_t k, size_t left, int whole)
{
    const char *p = row + k * number_bytes(type);
    return whole ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((__mmask32)((1ull << left) - 1), p);
}

FT_INLINE lanes operand_product(operand w, operand x, lanes sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
}

enum { ROWS = 4, TOKENS = 6 }; /* 24 accumulators, 6 of x, 1 of w: 31 of 32 registers */
#include "model/kernels/ft_lanes_matmul.h"

void ft_matmul_bf16_bf16_avx512dot(const ft_matmul *m)
{
    matmul(BF16, BF16, m);
}
#endif
