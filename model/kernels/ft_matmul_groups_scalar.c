#include "model/kernels/ft_float.h"
#include "model/kernels/ft_prepare.h"

#include <math.h>

/* Weight of row r, column k of a group: the layouts that ft_matmul.h draws. */
static inline int i8_at(const uint8_t *group, size_t r, size_t k)
{
    return group[(k / 4 * FT_BLOCK_ROWS + r) * 4 + k % 4] - 128;
}

static inline int i4_at(const uint8_t *group, size_t r, size_t k)
{
    const uint8_t both = group[(k / 8 * FT_BLOCK_ROWS + r) * 4 + k % 4];
    return (k % 8 < 4 ? both & 15 : both >> 4) - 8;
}

/* The definition: sum over groups in order of (scales' product) * (whole sum), each
 * step rounded once. */
static inline void matmul(const ft_matmul *m, size_t group_bytes, int (*at)(const uint8_t *group, size_t r, size_t k))
{
    const size_t groups = m->cols / FT_GROUP;
    for (size_t row = 0; row < m->rows; row++) {
        const size_t block = row / FT_BLOCK_ROWS, r = row % FT_BLOCK_ROWS;
        const uint8_t *w = (const uint8_t *)m->w + block * groups * group_bytes;
        const uint16_t *scales = m->scales + block * groups * FT_BLOCK_ROWS;
        for (size_t t = 0; t < m->tokens; t++) {
            const ft_group *x = ft_matmul_x(m, t);
            float sum = 0;
            for (size_t g = 0; g < groups; g++) {
                int32_t dot = 0;
                for (size_t k = 0; k < FT_GROUP; k++)
                    dot += at(w + g * group_bytes, r, k) * x[g].q[k];
                sum = fmaf((float)dot, ft_f16_at(scales, g * FT_BLOCK_ROWS + r) * x[g].scale, sum);
            }
            m->out[t * m->out_stride + row] = sum;
        }
    }
}

void ft_matmul_i8_scalar(const ft_matmul *m)
{
    matmul(m, FT_GROUP_BYTES_I8, i8_at);
}

void ft_matmul_i4_scalar(const ft_matmul *m)
{
    matmul(m, FT_GROUP_BYTES_I4, i4_at);
}
