/* ft_lanes_widened: the step of a float32 product, for ft_lanes_matmul.h; numbers of
 * 16 bits are widened exactly. Include an ft_simd_*.h first. */
#ifndef FT_LANES_WIDENED_H
#define FT_LANES_WIDENED_H

typedef enum number { F32, BF16, F16 } number;
typedef lanes operand;
enum { STEP = LANES };

FT_INLINE size_t number_bytes(number type)
{
    return type == F32 ? sizeof(float) : sizeof(uint16_t);
}

/* LANES numbers from column k of a row; `left` of them, then zeros, where not whole. */
FT_INLINE operand operand_load(number type, const char *row, size_t k, size_t left, int whole)
{
    const char *p = row + k * number_bytes(type);
    if (type == F32) {
        const float *f = (const float *)(const void *)p;
        return whole ? lanes_load(f) : lanes_load_tail(f, tail_of(left));
    }
    return whole ? lanes_load_half(p, type == BF16) : lanes_load_half_tail(p, left, type == BF16);
}

FT_INLINE lanes operand_product(operand w, operand x, lanes sum)
{
    return lanes_fma(w, x, sum);
}
#endif
