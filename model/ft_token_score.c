#include "model/ft_token_score.h"

#include <math.h>

/* log of the sum of exp(logits), with the largest taken out so that nothing overflows;
 * -INFINITY when none is finite. */
static double log_sum_exp(const float *logits, size_t vocab)
{
    float largest = -INFINITY;
    for (size_t v = 0; v < vocab; v++)
        if (isfinite(logits[v]) && logits[v] > largest)
            largest = logits[v];
    if (!isfinite(largest))
        return -INFINITY;
    double sum = 0;
    for (size_t v = 0; v < vocab; v++)
        if (isfinite(logits[v]))
            sum += exp((double)logits[v] - (double)largest);
    return (double)largest + log(sum);
}

static double of(const float *logits, uint32_t id, double log_sum)
{
    return isfinite(logits[id]) ? (double)logits[id] - log_sum : -INFINITY;
}

double ft_log_probability(const float *logits, size_t vocab, uint32_t id)
{
    return of(logits, id, log_sum_exp(logits, vocab));
}

/* Puts `id` at its place among the best, which fall. */
static void insert(ft_token_score *out, size_t k, uint32_t id, double p)
{
    if (out->top_count == k && !(p > out->top[k - 1]))
        return;
    size_t at = out->top_count < k ? out->top_count++ : k - 1;
    for (; at > 0 && p > out->top[at - 1]; at--) {
        out->top[at] = out->top[at - 1];
        out->top_ids[at] = out->top_ids[at - 1];
    }
    out->top[at] = p;
    out->top_ids[at] = id;
}

void ft_token_score_row(const float *logits, size_t vocab, uint32_t id, size_t k, ft_token_score *out)
{
    const double log_sum = log_sum_exp(logits, vocab);
    out->logprob = of(logits, id, log_sum);
    out->rank = 1;
    out->top_count = 0;
    for (size_t v = 0; v < vocab; v++) {
        if (!isfinite(logits[v]))
            continue;
        const double p = (double)logits[v] - log_sum;
        out->rank += p > out->logprob;
        if (k)
            insert(out, k, (uint32_t)v, p);
    }
}
