/* model_internal: what the files of this room share. */
#ifndef FT_MODEL_INTERNAL_H
#define FT_MODEL_INTERNAL_H
#include "base/ft_arena.h"
#include "model/ft_model.h"
#include "model/ft_safetensors.h"
#include "model/kernels/ft_kernels.h"

#include <stdatomic.h>

/* A weight matrix where it is mapped: row-major, or packed as ft_quantize.h has it. */
typedef struct ft_matrix {
    const void *data;       /* no alignment is promised */
    const uint16_t *scales; /* of I8 and I4; else NULL */
    ft_weight_type type;
    size_t rows, cols;
} ft_matrix;

typedef struct ft_expert {
    ft_matrix gate, up, down; /* [I, H], [I, H], [H, I] */
} ft_expert;

/* D = head_dim, Q = heads * D, KV = kv_heads * D. Norm weights are widened to
 * float32 when the model opens: they are a thousandth of it. */
typedef struct ft_layer {
    ft_matrix q, k, v, o;                 /* [Q, H], [KV, H], [KV, H], [H, Q] */
    const float *q_norm, *k_norm;         /* [Q], [KV] */
    const float *after_attention, *after; /* [H]: norms after attention and after the FFN */
    ft_matrix router;                     /* [E, H]; data NULL in a dense model */
    const float *expert_bias;             /* [E - 1]: of experts 1 and up, none above 0; NULL: none */
    ft_expert *experts;                   /* [E]; one, the FFN, in a dense model */
} ft_layer;

struct ft_model {
    char *folder;
    ft_model_config config;
    ft_weights *files;
    ft_arena *arena; /* layers, experts, widened norms */
    ft_layer *layers;
    ft_matrix embed, head; /* [V, H]; embed is never quantized */
    const float *norm;     /* [H] */
    int only_shapes;       /* nothing of the weights was read: norms are NULL */
    int has_expert_bias;   /* some layer's router has the extension */
    atomic_uchar *wanted;  /* [L, E] 1: the system was asked to read that expert */
    ft_model_sizes sizes;
    ft_digest identity; /* of its files when they were opened */
};

/* ft_model_identity of the files as they are now. FT_ERR_IO when one cannot be looked at. */
FT_CHECKED ft_code ft_model_identify(const ft_model *m, ft_digest *out, ft_status *st);

/* A view of `rows` rows from row `row` on; m->data is not NULL. Of quantized
 * weights `row` must be a multiple of 16. */
ft_matrix ft_matrix_rows(const ft_matrix *m, size_t row, size_t rows);
size_t ft_matrix_bytes(const ft_matrix *m); /* of data, without scales */
/* One row as float32, exactly (weight times scale, rounded once); out [cols]. */
void ft_matrix_widen_row(const ft_matrix *m, size_t row, float *out);

/* Maps every expert apart from what is shared: ft_model_expert.c. */
void ft_model_set_experts_apart(const ft_model *m);
#endif
