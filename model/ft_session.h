/* ft_session: one timeline on a model: its KV cache, its set of experts, and the
 * routing of what it read.
 *
 * Opt-out  a session without experts A, B computes what the checkpoint would with
 *          their FFNs and router rows deleted: softmax over the rest,
 *          k' = min(top_k, experts left). Their weights are not read.
 * Bits     a token's logits and routing depend on the tokens before it and on the
 *          kernel family alone: not on chunking, threads, or other sessions.
 * Threads  a session has one owner; sessions share the model.
 * Memory   one that is opened here has an engine (ft_engine.h) to itself, with key-value
 *          memory for all its tokens, taken as it is written. Routing is allocated when
 *          it opens if max_tokens is given, else by doubling; a decode step in
 *          reserved room allocates nothing. */
#ifndef FT_SESSION_H
#define FT_SESSION_H
#include "base/ft_threads.h"
#include "model/ft_model.h"

FT_API_BEGIN

typedef struct ft_session ft_session;

typedef struct ft_session_options {
    uint64_t without;  /* bit e: expert e takes no part. All removed is FT_ERR_ARG */
    size_t max_tokens; /* ceiling of the timeline; 0: the config's max_position */
    int capture_routing;
    int share_prefix; /* on an engine (ft_engine.h): whole pages go into the prefix cache as they fill */
} ft_session_options;

/* The pool may be NULL and is used during ft_session_read only. */
FT_CHECKED ft_code ft_session_open(ft_session **out, const ft_model *m, ft_pool *pool, const ft_session_options *o,
                                   ft_status *st);
void ft_session_close(ft_session *s);
void ft_session_rewind(ft_session *s, size_t length); /* forget all tokens from `length` on */
/* Gives its pages back: its length and routing can still be asked for, reading goes on after a rewind to 0. */
void ft_session_end(ft_session *s);
size_t ft_session_length(const ft_session *s);

/* What to write out of one read; each may be NULL. T = count. */
typedef struct ft_outputs {
    float *logits;        /* [T, V] of every token read */
    float *last_logits;   /* [V] of the last token read */
    float *hidden;        /* [L+1, T, H]: embeddings, then the residual stream after each layer */
    float *final_norm;    /* [T, H] */
    size_t hidden_tokens; /* T of `hidden`, where that is part of a larger array; 0: count */
} ft_outputs;

/* Reads ids[0..count) after what the session has read: prefill and decode alike.
 * FT_ERR_ARG for an id >= vocab (with its place), FT_ERR_LIMIT when the timeline
 * would pass max_tokens, FT_ERR_CANCELLED when *cancel (may be NULL) became non-zero;
 * the session is then as before. */
FT_CHECKED ft_code ft_session_read(ft_session *s, const uint32_t *ids, size_t count, const ft_outputs *out,
                                   const volatile int *cancel, ft_status *st);

/* Routing of the tokens read so far, when captured; token-major views that live
 * until the next call on the session. Row t is the routing of the pass that READ
 * token t; the pass that WROTE token t is row t - 1. */
typedef struct ft_routing {
    size_t tokens, layers, experts, top_k; /* top_k: k', after opt-outs; experts as in the checkpoint */
    const float *probs;                    /* [T, L, E]; 0 for the opted-out */
    const uint8_t *expert_ids;             /* [T, L, k], largest weight first */
    const float *weights;                  /* [T, L, k], as applied (after norm_topk_prob) */
} ft_routing;
ft_routing ft_session_routing(const ft_session *s);

FT_API_END
#endif
