/* ft_kernels: the operations of the forward pass for one instruction set.
 *
 * Each operation has its header; its scalar version is the definition. A handle
 * takes a table when it opens, so that all its bits come from one family. */
#ifndef FT_KERNELS_H
#define FT_KERNELS_H
#include "model/kernels/ft_add_scaled.h"
#include "model/kernels/ft_gated.h"
#include "model/kernels/ft_matmul.h"
#include "model/kernels/ft_narrow.h"
#include "model/kernels/ft_page.h"
#include "model/kernels/ft_pages.h"
#include "model/kernels/ft_prepare.h"
#include "model/kernels/ft_rms_norm.h"
#include "model/kernels/ft_rotate.h"
#include "model/kernels/ft_silu.h"
#include "model/kernels/ft_softmax.h"

typedef struct ft_kernels {
    ft_matmul_fn *matmul[FT_COMPUTE_TYPES][FT_WEIGHT_TYPES]; /* reads what ft_input_of says */
    ft_gated_fn *gated; /* of bfloat16 weights and inputs; NULL: one step after the other */
    ft_prepare_fn *prepare[FT_INPUT_TYPES];
    size_t dense; /* products of bfloat16 of more tokens than this read them best in equal steps, without an index; 0: never */
    ft_narrow_fn *narrow[FT_KV_TYPES];
    ft_page_fn *page[FT_KV_TYPES];
    ft_pages_fn *scores[FT_KV_TYPES], *mix[FT_KV_TYPES]; /* NULL: page by page */
    ft_rms_norm_fn *rms_norm;
    ft_softmax_fn *softmax;
    ft_silu_fn *silu;
    ft_rotate_fn *rotate;
    ft_add_scaled_fn *add_scaled;
} ft_kernels;

/* Scalar in every slot, then the best of `isa` (FT_ISA_ flags of base/ft_cpu.h). */
void ft_kernels_init(ft_kernels *k, unsigned isa);

static inline ft_matmul_fn *ft_kernels_matmul(const ft_kernels *k, ft_weight_type w, ft_compute c)
{
    return k->matmul[c][w];
}
#endif
