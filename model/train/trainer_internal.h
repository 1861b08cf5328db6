/* trainer_internal: what the trainer's files share. N tokens (sequences * length), H hidden,
 * Q heads * D, KV kv_heads * D, E experts, K experts a token, I intermediate, R = N * K rows. */
#ifndef FT_TRAINER_INTERNAL_H
#define FT_TRAINER_INTERNAL_H
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
    float *gate, *up, *y, *moe;             /* [R, I], [R, I], [R, H], [N, H] */
} ft_activations;

/* Scratch that no layer keeps. */
typedef struct ft_train_scratch {
    float *rows_x, *a, *da, *dg, *du; /* [R, H], [R, I] four times */
    float *dy, *dmoe, *dmid;          /* [R, H], [N, H], [N, H] */
    float *dl, *dw;                   /* [N, E], [R] */
    float *dq, *dk, *dv, *datt;       /* [N, Q], [N, KV], [N, KV], [N, Q] */
    float *logits;                    /* [logit_rows, vocab] */
    size_t logit_rows;
    float *attention; /* [threads, 2 * FT_ATTENTION_BLOCK * length] */
    float *ghost;     /* [threads, 2 * length^2]; NULL without ghost norms */
    double *column;   /* [threads, column_stride]: one vector's gradient */
    size_t column_stride;
} ft_train_scratch;

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
};

/* One pass over a batch. */
typedef struct ft_pass {
    ft_trainer *t;
    const ft_batch *b;
    double *squares;    /* [sequences]: ghost norms are added here; NULL: gradients are made */
    const float *scale; /* [sequences]: of a token's cross-entropy */
    float z_scale;      /* of a token's z in one layer */
    size_t layer;
    const ft_layer_parameters *p;
    ft_activations *a;
} ft_pass;

/* Runs fn on pieces of rows [0, n) on all threads; pieces depend on n alone. */
typedef void ft_rows_fn(ft_pass *pass, size_t from, size_t to, unsigned worker);
void ft_rows_run(ft_pass *pass, size_t n, ft_rows_fn *fn);

/* x[layer] to x[layer + 1]. */
void ft_layer_forward(ft_pass *pass, size_t layer);
/* t->dx from the gradient of x[layer + 1] to that of x[layer]; `last`: nothing below is trained,
 * and dx is left as it is. */
void ft_layer_backward(ft_pass *pass, size_t layer, int last);

/* A gradient of a matrix or a norm, into grad or squares; nothing where it is frozen. `begin`
 * [sequences + 1] are the examples' rows. */
void ft_pass_matrix(ft_pass *pass, ft_parameter *p, const float *dy, size_t dy_stride, const float *x,
                    const size_t *begin);
void ft_pass_norm(ft_pass *pass, ft_parameter *p, const float *dy, const float *x, const float *inverse);
#endif
