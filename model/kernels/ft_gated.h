/* ft_gated: the first half of an expert at once: out[t] = silu(gate x[t]) * (up x[t]), as the input of the second half.
 *
 * What ft_matmul.h, ft_silu.h and ft_prepare.h give one after the other, bit for bit, without the floats in between
 * leaving the cache. A family that has nothing to win by it leaves the slot in ft_kernels.h NULL.
 *
 * Shapes   gate, up [R, K] of bfloat16, x [T, K] and out [T, R] prepared as bfloat16; the first row is a multiple of
 *          FT_GATED_ROWS, and a block's columns beyond the last row are 0. */
#ifndef FT_GATED_H
#define FT_GATED_H
#include "model/kernels/ft_prepare.h"

enum {
    FT_GATED_ROWS = FT_INPUT_BLOCK,
    FT_GATED_TOKENS = 49 /* fewer wait for memory: their products read weights as they lie */
};

typedef struct ft_gated {
    ft_matmul gate;  /* its out: room for ft_gated_room(tokens) floats, at a multiple of 64 bytes; its next: not read */
    const void *up;  /* of gate's strides */
    char *out;       /* of the first row */
    size_t out_step; /* bytes from a token's to the next's */
} ft_gated;
typedef void ft_gated_fn(const ft_gated *g);

ft_gated_fn ft_gated_bf16_amx;

/* For FT_GATED_ROWS rows; a call may have more, block after block. */
static inline size_t ft_gated_room(size_t tokens)
{
    return (tokens + 47) / 48 * 48 * 2 * FT_GATED_ROWS;
}
#endif
