/* ft_sampler: from logits to a token. The logits are copied, then in this order: the
 * biases are added, ids that may not end the text yet are left out, penalties taken off.
 * Greedy at temperature 0; else temperature, min-p, top-k, top-p (nucleus), and one draw
 * with the request's own random stream. The caller's logits stay as they are, so that
 * log-probabilities (ft_token_score.h) are those of the model.
 *
 * Memory   everything is allocated by ft_sampler_new; a draw allocates nothing. What no
 *          field asks for takes neither memory nor time.
 * Threads  one owner. */
#ifndef FT_SAMPLER_H
#define FT_SAMPLER_H
#include "base/ft_random.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

/* All zero but top_p = 1: greedy. */
typedef struct ft_sampling {
    double temperature; /* 0: greedy, the lowest id on a tie */
    int64_t top_k;      /* 0: all */
    double top_p;       /* 1: all */
    double min_p;       /* only what is at least this share as likely as the likeliest; 0: all */
    uint64_t seed;
    double presence_penalty;   /* off the logit of each token generated before */
    double frequency_penalty;  /* as often as it was generated */
    double repetition_penalty; /* what stands in prompt or text: a logit above 0 is divided, another
                                  multiplied by it; 0 and 1: none */
    /* Added to the logits of these ids; views that ft_sampler_new copies. */
    const uint32_t *bias_ids;
    const float *bias_values;
    size_t bias_count;
    size_t min_tokens; /* before so many, no id of `ends` is drawn (ft_sampler_new's argument) */
} ft_sampling;

typedef struct ft_sampler ft_sampler;
/* `ends` [end_count] may be NULL. FT_ERR_ARG names the field that is out of its range; an
 * id of bias_ids beyond the vocabulary is one too. */
FT_CHECKED ft_code ft_sampler_new(ft_sampler **out, const ft_sampling *how, const uint32_t *ends, size_t end_count,
                                  size_t vocab, ft_status *st);
void ft_sampler_free(ft_sampler *s);
/* The prompt's ids, for the repetition penalty; those beyond the vocabulary are passed over. */
void ft_sampler_read_prompt(ft_sampler *s, const uint32_t *ids, size_t count);
/* logits [vocab]; non-finite ones are never drawn (UINT32_MAX when all are). Ids are below `limit`
 * (a tokenizer may know fewer than the embedding holds); 0: all. What is drawn counts for
 * penalties and min_tokens. */
uint32_t ft_sampler_draw(ft_sampler *s, const float *logits, size_t limit);

FT_API_END
#endif
