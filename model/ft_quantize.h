/* ft_quantize: weights in groups of 32 along the input dimension, each group with
 * a scale: value = scale * weight, weights in 8 or 4 bits, scales float16.
 *
 * A matrix X.weight [R, C], C a multiple of 32, is stored as X.qweight (U8) and
 * X.scales (F16). Rows are packed 16 together, R padded up with zeros, so that a
 * kernel reads one stream of bytes and adds into 16 rows at once:
 *
 *   int8  qweight [R/16, C/32, 512]: byte (q*16 + r)*4 + b of a group holds
 *         weight (r, 4q + b) + 128, q < 8; weights are -127 … 127
 *   int4  qweight [R/16, C/32, 256]: byte (q*16 + r)*4 + b of a group holds
 *         weight (r, 8q + b) + 8 in its low bits, (r, 8q + 4 + b) + 8 in its
 *         high bits, q < 4; weights are -8 … 7
 *   both  scales [R/16, C/32, 16]
 *
 * An int8 scale is the largest magnitude / 127. An int4 scale is the one of 19
 * tries with the least squared error: each maps the value of largest magnitude
 * to about -8, the end of the range that has one step more, so scales may be
 * negative. A scale is rounded to float16 before weights are rounded by it. */
#ifndef FT_QUANTIZE_H
#define FT_QUANTIZE_H
#include "base/ft_status.h"
#include "model/ft_safetensors.h"
#include "model/kernels/ft_kernels.h"

#include <stddef.h>
#include <stdint.h>


static inline int ft_is_quantized(ft_weight_type type)
{
    return type == FT_WEIGHT_I8 || type == FT_WEIGHT_I4;
}

/* Blocks of 16 rows that hold `rows` of them. */
static inline size_t ft_quant_blocks(size_t rows)
{
    return rows / FT_BLOCK_ROWS + (rows % FT_BLOCK_ROWS != 0);
}

/* Bytes of one group of 16 rows, and of one block: `cols` / 32 groups. */
static inline size_t ft_quant_group_bytes(ft_weight_type type)
{
    return type == FT_WEIGHT_I8 ? FT_GROUP_BYTES_I8 : FT_GROUP_BYTES_I4;
}

static inline size_t ft_quant_block_bytes(ft_weight_type type, size_t cols)
{
    return cols / FT_GROUP * ft_quant_group_bytes(type);
}

/* Bytes of one block's scales. */
static inline size_t ft_quant_scale_bytes(size_t cols)
{
    return cols / FT_GROUP * FT_BLOCK_ROWS * sizeof(uint16_t);
}

/* Whether X.qweight and X.scales (either may be NULL: no) are a packed matrix of any shape; *type: of 8 or 4 bits. */
int ft_quant_is_packed(const ft_tensor *q, const ft_tensor *scales, ft_weight_type *type);

/* Packs one block: x [count, cols], count <= 16, into weights [block_bytes] and
 * scales [cols / 32, 16]. Rows from `count` on become zeros. FT_ERR_FORMAT where
 * a value is not finite or its scale would exceed float16; *bad_row is its row. */
FT_CHECKED ft_code ft_quantize_block(ft_weight_type type, const float *x, size_t count, size_t cols, uint8_t *weights,
                                     uint16_t *scales, size_t *bad_row);
/* Row `row` < 16 of one block as float32; out [cols]. */
void ft_dequantize_row(ft_weight_type type, const void *weights, const void *scales, size_t row, size_t cols,
                       float *out);
#endif
