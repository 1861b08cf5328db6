/* ft_sampler: from logits to a token. Greedy at temperature 0; else temperature,
 * then top-k, then top-p (nucleus), drawn with the request's own random stream. */
#ifndef FT_SAMPLER_H
#define FT_SAMPLER_H
#include "base/ft_random.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_sampling {
    double temperature; /* 0: greedy, the lowest id on a tie */
    int64_t top_k;      /* 0: all */
    double top_p;       /* 1: all */
    uint64_t seed;
} ft_sampling;

typedef struct ft_sampler ft_sampler;
FT_CHECKED ft_code ft_sampler_new(ft_sampler **out, const ft_sampling *how, size_t vocab, ft_status *st);
void ft_sampler_free(ft_sampler *s);
/* logits [vocab]; non-finite ones are never drawn (UINT32_MAX when all are). Ids are below `limit`
 * (a tokenizer may know fewer than the embedding holds); 0: all. */
uint32_t ft_sampler_draw(ft_sampler *s, const float *logits, size_t limit);

/* log softmax(logits)[id], in nats, float64. */
double ft_log_probability(const float *logits, size_t vocab, uint32_t id);

FT_API_END
#endif
