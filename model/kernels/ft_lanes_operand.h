/* ft_lanes_operand: what ft_lanes_gemm.h multiplies: float32 or, with FT_OPERAND_PAIRS defined,
 * pairs of bfloat16 widened exactly, the low one first. */
#ifndef FT_LANES_OPERAND_H
#define FT_LANES_OPERAND_H
#ifdef FT_OPERAND_PAIRS
typedef struct operand {
    lanes low, high;
} operand;

FT_INLINE operand operand_load(const uint32_t *p)
{
    const lanes both = lanes_load((const float *)p);
    return (operand){lanes_shifted(both), lanes_upper(both)};
}

FT_INLINE operand operand_spread(const uint32_t *p)
{
    return (operand){lanes_of(ft_float_from_bits(*p << 16)), lanes_of(ft_float_from_bits(*p & 0xffff0000u))};
}

FT_INLINE lanes operand_product(operand w, operand x, lanes sum)
{
    return lanes_fma(x.high, w.high, lanes_fma(x.low, w.low, sum));
}
#else
typedef lanes operand;

FT_INLINE operand operand_load(const uint32_t *p)
{
    return lanes_load((const float *)p);
}

FT_INLINE operand operand_spread(const uint32_t *p)
{
    return lanes_of(ft_float_from_bits(*p));
}

FT_INLINE lanes operand_product(operand w, operand x, lanes sum)
{
    return lanes_fma(x, w, sum);
}
#endif
#endif
