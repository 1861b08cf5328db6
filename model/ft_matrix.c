#include "model/ft_quantize.h"
#include "model/kernels/ft_float.h"
#include "model/model_internal.h"

#include <assert.h>

/* Bytes of a row; of a block of 16 rows where they are packed. */
static size_t stride_bytes(const ft_matrix *m)
{
    if (ft_is_quantized(m->type))
        return ft_quant_block_bytes(m->type, m->cols);
    return m->cols * (m->type == FT_WEIGHT_F32 ? 4 : 2);
}

size_t ft_matrix_bytes(const ft_matrix *m)
{
    return stride_bytes(m) * (ft_is_quantized(m->type) ? ft_quant_blocks(m->rows) : m->rows);
}

ft_matrix ft_matrix_rows(const ft_matrix *m, size_t row, size_t rows)
{
    ft_matrix out = {.type = m->type, .rows = rows, .cols = m->cols};
    const size_t packed = ft_is_quantized(m->type) ? FT_BLOCK_ROWS : 1;
    assert(row % packed == 0);
    out.data = (const char *)m->data + row / packed * stride_bytes(m);
    if (packed > 1)
        out.scales = m->scales + row * (m->cols / FT_GROUP);
    return out;
}

void ft_matrix_widen_row(const ft_matrix *m, size_t row, float *out)
{
    if (ft_is_quantized(m->type)) {
        const ft_matrix block = ft_matrix_rows(m, row / FT_BLOCK_ROWS * FT_BLOCK_ROWS, FT_BLOCK_ROWS);
        ft_dequantize_row(m->type, block.data, block.scales, row % FT_BLOCK_ROWS, m->cols, out);
        return;
    }
    const ft_matrix one = ft_matrix_rows(m, row, 1);
    for (size_t i = 0; i < m->cols; i++)
        out[i] = m->type == FT_WEIGHT_F32    ? ft_f32_at(one.data, i)
                 : m->type == FT_WEIGHT_BF16 ? ft_bf16_at(one.data, i)
                                             : ft_f16_at(one.data, i);
}
