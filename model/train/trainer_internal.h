/* trainer_internal: what the trainer's files share. N tokens (sequences * length), H hidden,
 * Q heads * D, KV kv_heads * D, E experts, K experts a token, I intermediate, R = N * K rows. */
#ifndef FT_TRAINER_INTERNAL_H
#define FT_TRAINER_INTERNAL_H
#include "model/train/ft_gemm.h"
#include "model/train/ft_trainer.h"

#include "base/ft_threads.h"

/* What a layer's forward pass keeps for its backward pass. */
typedef struct ft_activations {
    float *q_raw, *k_raw, *q, *k, *v, *att; /* [N, Q], [N, KV], [N, Q], [N, KV], [N, KV], [N, Q] */
    float *lse;                             /* [sequences, heads, length] */
    float *o, *mid;                         /* [N, H]: before its norm; the residual stream after attention */
    float *inv_q, *inv_k, *inv_o, *inv_moe; /* [N] */
    float *probs, *router_lse, *weights;    /* [N, E], [N], [R] */
    uint32_t *chosen, *row_of, *token_of;   /* [R]: experts; row of (token, choice); token of a row */
    size_t *expert_begin;                   /* [E + 1]: rows are sorted by expert, then token */
    float *gate, *up, *y, *moe;             /* [R, I], [R, I], [R, H], [N, H]; y is moe where `plain` */
} ft_activations;

/* Scratch that no layer keeps. */
typedef struct ft_train_scratch {
    float *rows_x, *a, *dg, *du; /* [R, H] (the layer's mid where `plain`), [R, I] three times */
    float *dy, *dxr;             /* [R, H]: gradients of the experts' outputs, of their inputs */
    float *dmid, *d_o;           /* [N, H] */
    float *dl, *dw;              /* [N, E], [R] */
    float *dq, *dk, *dv, *datt;  /* [N, Q], [N, KV], [N, KV], [N, Q] */
    float *logits;               /* [logit_rows, vocab] */
    size_t logit_rows;
    float *own; /* [threads, own_stride]: of a block of rows, or of an attention head */
    size_t own_stride;
    float *tied;  /* [N, H]: of ghost norms where embedding and head are one: the head's gradient of each token's row */
    float *ghost; /* [threads, 2 * length^2]; NULL without ghost norms */
    float *partial; /* [blocks, 2, partial_stride]: gradients of norms, by block */
    size_t partial_stride;
    double *column;   /* [partial_stride] */
    uint32_t *packed; /* a layer's weights, or the head's, as products read them */
    uint32_t *inputs; /* a layer's inputs of products, for its weights' gradients; NULL where none is packed */
} ft_train_scratch;

/* A layer's weights as right operands, for the pass forward (transposed) or back. */
typedef struct ft_layer_packed {
    ft_packed q, k, v, o, router;
    ft_packed experts[3 * FT_MAX_EXPERTS];
} ft_layer_packed;

struct ft_trainer {
    ft_parameters p;
    ft_trainer_options options;
    ft_pool *pool;
    float **moments; /* [count * 2]; NULL before the first update */
    /* Sized for one shape of batch. */
    size_t sequences, length, tokens;
    int with_ghost;
    void **blocks; /* every array below, for freeing */
    size_t block_count, block_capacity;
    float **x;                /* [layers + 1] of [N, H] */
    float *final, *inv_final; /* [N, H], [N] */
    ft_activations *kept;     /* [layers], or one where activations are made again */
    ft_train_scratch s;
    float *dx;        /* [N, H] */
    float *inv_freq;  /* [D / 2] */
    float *cos, *sin; /* [length, D / 2] */
    size_t experts, top_k;
    int exact; /* float32 products whatever the options say */
    int plain; /* one expert and no router: a row is a token */
    ft_layer_packed packed;
};

/* One pass over a batch. */
typedef struct ft_pass {
    ft_trainer *t;
    const ft_batch *b;
    double *squares;    /* [sequences]: ghost norms are added here; NULL: gradients are made */
    const float *scale; /* [sequences]: of a token's cross-entropy */
    float z_scale;      /* of a token's z in one layer */
    float domain_scale; /* of -log p of a token's domain in one layer */
    double domain;      /* their sum */
    int bfloat16;       /* products of weights and activations */
    size_t layer;
    const ft_layer_parameters *p;
    ft_activations *a;
} ft_pass;

/* Rows that one task works on: tokens, or an expert's rows. */
enum { FT_BLOCK_TOKENS = 64 };
typedef struct ft_rows {
    size_t from, to, block; /* block: its number among the tokens' */
    size_t expert;
    unsigned worker;
} ft_rows;
typedef void ft_rows_fn(ft_pass *pass, const ft_rows *rows);

/* Runs fn on blocks of all tokens on all threads. Blocks depend on the batch's shape alone; with
 * ghost norms each lies within a sequence. */
void ft_tokens_run(ft_pass *pass, ft_rows_fn *fn);
/* Blocks of a sequence where it has its own. */
static inline size_t ft_sequence_blocks(const ft_trainer *t)
{
    return (t->length + FT_BLOCK_TOKENS - 1) / FT_BLOCK_TOKENS;
}
/* Runs fn on blocks of the rows of each expert. */
void ft_experts_run(ft_pass *pass, ft_rows_fn *fn);

/* Every array for batches of this shape; nothing where they are there. */
FT_CHECKED ft_code ft_trainer_prepare(ft_trainer *t, size_t sequences, size_t length, int with_ghost, ft_status *st);
void ft_trainer_release(ft_trainer *t);

/* x[layer] to x[layer + 1]. */
void ft_layer_forward(ft_pass *pass, size_t layer);
/* t->dx from the gradient of x[layer + 1] to that of x[layer]; `last`: nothing below is trained,
 * and dx is left as it is. */
void ft_layer_backward(ft_pass *pass, size_t layer, int last);

/* The layer's weights into t->packed; forward: transposed. Units of 4 bytes that the largest takes. */
void ft_layer_pack(ft_pass *pass, int forward);
size_t ft_layer_packed_units(const ft_trainer *t);
size_t ft_layer_input_units(const ft_trainer *t);

/* Packs one operand by all threads. */
typedef struct ft_pack {
    ft_packed *to;
    const float *from;
    size_t stride;
    int transposed;
} ft_pack;
void ft_pack_all(ft_pool *pool, const ft_pack *list, size_t count);

/* Losses from the head on; with `backward` also t->dx and the gradient of the head. Logits are made
 * and used up in chunks of ft_head_rows. losses [sequences] += sums over a sequence's labelled tokens. */
FT_CHECKED ft_code ft_head(ft_pass *pass, double *losses, int backward, ft_status *st);
size_t ft_head_rows(const ft_trainer *t, int whole_sequences);
size_t ft_head_packed_units(const ft_trainer *t);

/* A block's part of a norm's gradient, kept apart in `slot` (0 or 1) of its block. */
void ft_norm_part(ft_pass *pass, const ft_rows *rows, int slot, const ft_parameter *p, const float *dy, const float *x,
                  const float *inverse);
/* Adds up the parts, into grad or squares; nothing where it is frozen. */
void ft_pass_norm(ft_pass *pass, ft_parameter *p, int slot);
#endif
