/* ft_parameters: a checkpoint's weights as float32 arrays that training changes, under
 * their names in the file.
 *
 * Experts must be one tensor a projection (model.layers.N.mlp.experts.E.gate_proj.weight);
 * a dense model counts as one expert without a router. model.layers.N.mlp.gate.expert_bias
 * [experts - 1], an extension, is read where the checkpoint has it.
 * Files   safetensors, written whole or not at all.
 * Threads one owner. */
#ifndef FT_PARAMETERS_H
#define FT_PARAMETERS_H
#include "base/ft_digest.h"
#include "model/ft_model.h"

FT_API_BEGIN

typedef struct ft_parameter {
    char name[96];
    unsigned dims;
    size_t shape[2], count;
    float *value;
    float *grad;  /* NULL: frozen */
    size_t first; /* elements before it are frozen: row 0 of the router in expert mode */
    int gone;     /* a bias that was folded into its row: not written, not trained */
} ft_parameter;

typedef struct ft_layer_parameters {
    ft_parameter *q, *k, *v, *o, *q_norm, *k_norm, *after_attention, *after;
    ft_parameter *router, *bias; /* NULL where there is none */
    ft_parameter *experts;       /* [experts * 3]: gate, up, down */
} ft_layer_parameters;

typedef struct ft_parameters {
    ft_model_config config;
    ft_parameter *all;
    size_t count;
    ft_layer_parameters *layers;
    ft_parameter *embed, *norm, *head; /* head is embed where they are tied */
    float constant;                    /* of the constant channel that training holds; 0: none */
} ft_parameters;

typedef enum ft_train_mode {
    FT_TRAIN_ALL,
    FT_TRAIN_EXPERT, /* the last expert, its router row, its bias */
    FT_TRAIN_ROUTER, /* router rows and biases alone */
    FT_TRAIN_NOTHING
} ft_train_mode;

/* Errors as ft_model_open's, and FT_ERR_UNSUPPORTED for fused or quantized experts. */
FT_CHECKED ft_code ft_parameters_open(ft_parameters *out, const char *folder, ft_status *st);
/* From config.json alone, as a function of the seed: matrices N(0, 0.02^2), embeddings that are not the head too
 * N(0, 1), a head N(0, 1.4^2 / hidden) (docs/training.md has what these win), norms 1. */
FT_CHECKED ft_code ft_parameters_init(ft_parameters *out, const char *folder, uint64_t seed, ft_status *st);

/* A constant channel: element 0 of each token's embedding is one number, not 0, and element 0 of the norms behind
 * attention and FFN is 0. So element 0 of every token's state is that number in front of every layer's router, and a
 * bias times e_0 / number added to a router's row is that bias, exactly, in a model that has no biases. Element 0 of the
 * last norm is 0 too: a head that saw the number would lean on it with weights twenty times their neighbours'. Nothing
 * else of the architecture changes; one dimension of the width is what it costs. */
float ft_parameters_constant(const ft_parameters *p); /* the number, or 0 where there is no such channel */
/* Makes one: 1/8, which bfloat16 holds exactly and a fresh embedding does not drown in. Before training. */
void ft_parameters_make_constant(ft_parameters *p);
/* What training may not move, where p->constant is not 0: gradients to 0, values to what they were. The last norm's
 * element is held only where it is 0: older models' heads see the number. */
void ft_parameters_hold(ft_parameters *p);

/* `public` (dense, or with experts) with one expert more, a copy of expert 0; its router row, and
 * the whole router of a dense model, is 0, its bias `bias`; with_bias 0 makes none. top_k becomes at least 2. */
FT_CHECKED ft_code ft_parameters_add_expert(ft_parameters *out, const ft_parameters *public, int with_bias, float bias,
                                            ft_status *st);
/* Router matrices N(0, 0.02^2): equal experts with equal rows would never part. */
void ft_parameters_draw_router(ft_parameters *p, uint64_t seed);
void ft_parameters_close(ft_parameters *p); /* a zeroed struct is allowed */

/* Gradients, zeroed, for what the mode trains. FT_TRAIN_ALL holds a constant channel that is there.
 *   FT_ERR_ARG  expert mode of a model without a second expert */
FT_CHECKED ft_code ft_parameters_train(ft_parameters *p, ft_train_mode mode, ft_status *st);
void ft_parameters_zero(ft_parameters *p);

/* A tensor's elements as float32, exactly: 1, or 0 where it is not `count` elements of F32, BF16 or F16. */
struct ft_tensor;
int ft_tensor_widen(float *out, const struct ft_tensor *t, size_t count);

/* sqrt of the sum of squares of all gradients. *bad (may be NULL): the last tensor whose gradient is not finite, or
 * NULL; gradients are made from the last layer to the first, so it is the one that spoiled the others. */
double ft_parameters_norm(const ft_parameters *p, const char **bad);

/* The first tensor with a value that is not finite, trained or not, or NULL. */
const char *ft_parameters_not_finite(const ft_parameters *p);

typedef enum ft_save { FT_SAVE_ALL, FT_SAVE_TRAINED, FT_SAVE_GRADIENTS } ft_save;
/* bfloat16: 1 rounds to nearest even, else float32. metadata (may be NULL): pairs of strings, NULL at
 * the end. */
FT_CHECKED ft_code ft_parameters_save(const ft_parameters *p, const char *path, ft_save what, int bfloat16,
                                      const char *const *metadata, ft_status *st);

FT_API_END
#endif
