/* session_internal: a session's memory (ft_session.c) and the pass over it (ft_forward.c). */
#ifndef FT_SESSION_INTERNAL_H
#define FT_SESSION_INTERNAL_H
#include "model/ft_session.h"
#include "model/model_internal.h"

enum {
    FT_CHUNK = 64,     /* tokens that one pass through the layers takes; bits do not depend on it */
    FT_QUERY_TILE = 4, /* tokens whose attention reads keys and values together */
};

/* Scratch of one pass. T <= FT_CHUNK tokens, P = T * k pairs of token and chosen expert. */
typedef struct ft_scratch {
    float *x, *sub;                   /* [T, H] residual stream; what a block adds to it */
    float *q, *attention;             /* [T, heads * D] */
    float *cos, *sin;                 /* [T, D/2] */
    float *probs;                     /* [T, E] router probabilities */
    float *weights;                   /* [T, k] */
    uint8_t *chosen;                  /* [T, k] */
    uint32_t *pair_token, *pair_slot; /* [P] grouped by expert: which token; and [T, k] where its pair is */
    float *gate, *up, *down;          /* [P, I], [P, I], [P, H] */
    float *scores;                    /* [workers, score_rows, capacity of the cache] */
} ft_scratch;

struct ft_session {
    const ft_model *model;
    ft_pool *pool;
    ft_kernels kernels;
    uint64_t kept;        /* bit e: expert e takes part */
    size_t top_k, length; /* k'; tokens read */
    size_t max_tokens;
    int capture;
    float *inv_freq, rope_scaling; /* [D/2] */
    /* Grown together to `capacity` tokens. */
    size_t capacity;
    float **keys, **values; /* [L] of [capacity, kv_heads * D] */
    float *routing_probs;   /* [capacity, L, E] */
    float *routing_weights; /* [capacity, L, k'] */
    uint8_t *routing_ids;   /* [capacity, L, k'] */
    size_t chunk;           /* tokens that the scratch holds */
    size_t score_rows;      /* FT_QUERY_TILE * heads / kv_heads */
    ft_scratch scratch;
};

/* Passes `count` <= chunk tokens through all layers; the caches have room for
 * them. `at` is the place of the first one in the arrays of `out`, `total` how
 * many tokens those hold. `last` : these end the read. Advances s->length. */
void ft_forward(ft_session *s, const uint32_t *ids, size_t count, const ft_outputs *out, size_t at, size_t total,
                int last);

#endif
