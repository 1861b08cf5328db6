/* ft_kernels: the operations of the forward pass for one instruction set.
 *
 * Each operation has its header; its scalar version is the definition. A handle
 * takes a table when it opens, so that all its bits come from one family. */
#ifndef FT_KERNELS_H
#define FT_KERNELS_H
#include "model/kernels/ft_matmul.h"
#include "model/kernels/ft_mix.h"
#include "model/kernels/ft_rms_norm.h"
#include "model/kernels/ft_silu.h"
#include "model/kernels/ft_softmax.h"

typedef enum ft_weight_type {
    FT_WEIGHT_F32,
    FT_WEIGHT_BF16,
    FT_WEIGHT_F16,
    FT_WEIGHT_I8,
    FT_WEIGHT_I4,
    FT_WEIGHT_TYPES
} ft_weight_type;

typedef struct ft_kernels {
    ft_matmul_fn *matmul[FT_WEIGHT_TYPES];
    ft_rms_norm_fn *rms_norm;
    ft_softmax_fn *softmax;
    ft_silu_fn *silu;
    ft_mix_fn *mix;
} ft_kernels;

/* Scalar in every slot, then the best of `isa` (FT_ISA_ flags of base/ft_cpu.h). */
void ft_kernels_init(ft_kernels *k, unsigned isa);
#endif
