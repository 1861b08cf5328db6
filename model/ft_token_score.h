/* ft_token_score: log-probabilities of tokens, from the model's logits as they are: before
 * biases, penalties, temperature and truncation. Natural logarithms.
 *
 * One sum serves a whole row, so a token's number is the same bits wherever it stands:
 * as the token that was chosen, or among the most probable. Logits that are not finite
 * count for nothing.
 *
 * Threads  no state. */
#ifndef FT_TOKEN_SCORE_H
#define FT_TOKEN_SCORE_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

enum { FT_MAX_TOP = 20 };

typedef struct ft_token_score {
    double logprob;   /* of the token itself; -INFINITY where its logit is not finite */
    size_t rank;      /* 1: nothing is more probable */
    size_t top_count; /* k, or fewer where so many ids have no finite logit */
    uint32_t top_ids[FT_MAX_TOP];
    double top[FT_MAX_TOP]; /* falling; of equals the lower id first */
} ft_token_score;

/* logits [vocab], id < vocab, k <= FT_MAX_TOP. O(vocab k) at worst; allocates nothing. */
void ft_token_score_row(const float *logits, size_t vocab, uint32_t id, size_t k, ft_token_score *out);

/* log softmax(logits)[id]: the score's number, bit for bit. */
double ft_log_probability(const float *logits, size_t vocab, uint32_t id);

FT_API_END
#endif
