/* ft_matmul_amx: what the parts of ft_matmul_bf16_bf16_amx share.
 *
 * A step of the unit adds 16 pairs of columns to a sum, one pair after the other. Which columns these are is free, as
 * long as weights and tokens agree and all products do the same. They are taken so that vectors can do the same sums
 * for a few tokens while they read weights as these lie: columns stand in blocks of 256, which are 8 lines of 16 pairs,
 * and
 *
 *   step s = 0..7 of a block adds up pair s of lines 0 to 7, then pair s + 8 of lines 0 to 7
 *
 * so that a vector of 8 pairs takes part in 8 steps at once. A prepared row has each block's steps behind one another;
 * columns beyond the last are 0. */
#ifndef FT_MATMUL_AMX_H
#define FT_MATMUL_AMX_H
#include "model/kernels/ft_prepare.h"

#include "model/kernels/ft_amx.h"

enum {
    BLOCK = FT_INPUT_BLOCK,
    LINES = BLOCK / DEEP, /* of a block, and its steps */
    LINE_BYTES = 64,
    FEW_TOKENS = 4, /* at most, and columns of them all, of what ft_amx_few takes */
    FEW_COLUMNS = 16384
};

static inline const char *weights_at(const ft_matmul *m, size_t row, size_t col)
{
    return (const char *)m->w + (row * m->w_stride + col) * sizeof(uint16_t);
}

/* At least one token, at most FEW_TOKENS: the unit's bits without the unit. */
void ft_amx_few(const ft_matmul *m);
#endif
