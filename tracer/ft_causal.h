/* ft_causal: what a text loses when an expert is left out: the log-probability of each
 * of its tokens by a teacher-forced pass with all experts, and with each of some left
 * out in turn.
 *
 * All variants are read together, a chunk of tokens of each in every pass of the engine, so
 * that each matrix is read once for all of them; pages of the prompt that the prefix
 * cache has for a variant's own set of experts are not read again. Where the
 * key-value memory does not hold all variants at once, they go in smaller groups.
 *
 * Bits     a log-probability is what ft_session_read and a log-softmax in double give for
 *          the variant alone, whatever is read beside it.
 * Cost     variants + 1 passes over the timeline up to its last token.
 * Threads  one owner; step where the engine may be read (in ft_scheduler_call, where a
 *          scheduler has it). */
#ifndef FT_CAUSAL_H
#define FT_CAUSAL_H
#include "model/ft_engine.h"

FT_API_BEGIN

typedef struct ft_causal ft_causal;

typedef struct ft_causal_request {
    const uint32_t *ids;    /* the timeline, prompt and text; must outlive the pass */
    size_t first, count;    /* tokens first … count - 1 are asked about */
    uint64_t without;       /* left out of every variant */
    const uint8_t *experts; /* [expert_count] left out in turn; none of them in `without` */
    size_t expert_count;
} ft_causal_request;

/* The experts of `wanted` (0: all) that take part beside another one, in order of number: those that can
 * be left out in turn. Returns how many. */
size_t ft_causal_experts(const ft_model *m, uint64_t without, uint64_t wanted, uint8_t out[FT_MAX_EXPERTS]);

/* FT_ERR_ARG: an expert that is not there, or without which none would be left. */
FT_CHECKED ft_code ft_causal_new(ft_causal **out, ft_engine *e, const ft_causal_request *r, ft_status *st);
void ft_causal_free(ft_causal *c);

/* One pass of the engine. *done when there is nothing left to read. `pool` (may be NULL) works along
 * on the log-probabilities. Fails as ft_session_read does; FT_ERR_LIMIT when the key-value memory
 * does not hold one timeline. */
FT_CHECKED ft_code ft_causal_step(ft_causal *c, ft_pool *pool, int *done, ft_status *st);

/* Result, complete when done. */
typedef struct ft_causal_result {
    size_t first, count;    /* as asked: tokens [first, count) of the timeline */
    const uint8_t *experts; /* [expert_count] */
    size_t expert_count;
    const double *logprobs; /* [expert_count + 1, count - first] nats; row 0: with all, row 1 + i: without
                               experts[i]. Token 0 of a timeline, which nothing foretells, is NaN */
} ft_causal_result;
ft_causal_result ft_causal_get(const ft_causal *c);

FT_API_END
#endif
