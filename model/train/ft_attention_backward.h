/* ft_attention_backward: causal attention within documents, and its gradient.
 *
 *   S_ts = q_t . k_s / sqrt(D), begin_t <= s <= t;  P = softmax_s(S);  o_t = sum_s P_ts v_s
 *   dV = P^T dO;  dP = dO V^T;  dS = P (dP - sum_s P dP);  dQ = dS K / sqrt(D);  dK = dS^T Q / sqrt(D)
 *
 * P is not kept: the backward pass makes it again from S and the rows' log-sum-exp, block by
 * block of 64 queries; keys that none of a block's queries sees are not read. Several query heads
 * share a key head. */
#ifndef FT_ATTENTION_BACKWARD_H
#define FT_ATTENTION_BACKWARD_H
#include <stddef.h>
#include <stdint.h>

enum { FT_ATTENTION_BLOCK = 64 };

/* One sequence of T tokens; q, o, dq, do [T, heads * D], k, v, dk, dv [T, kv_heads * D],
 * lse [heads, T]. begin [T] (NULL: all 0) is the first position that a token sees; it never falls. */
typedef struct ft_attention {
    size_t length, heads, kv_heads, head_dim;
    int bfloat16; /* all products round their operands to it */
    const uint32_t *begin;
    const float *q, *k, *v;
    float *o, *lse;
    const float *d_o; /* backward: in, and what follows out */
    float *dq, *dk, *dv;
} ft_attention;

/* Floats of scratch for either. */
size_t ft_attention_scratch(size_t length, size_t head_dim);
/* Of one key head and the query heads that share it. */
void ft_attention_forward(const ft_attention *a, size_t kv_head, float *scratch);
/* Overwrites the head's part of dq, dk, dv. */
void ft_attention_backward(const ft_attention *a, size_t kv_head, float *scratch);
#endif
