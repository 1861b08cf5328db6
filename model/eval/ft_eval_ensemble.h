/* ft_eval_ensemble: several models as one, by mixing their probabilities.
 *
 *   p(x_t) = sum over the `top` models of w_m p_m(x_t),
 *   w_m proportional to the product of p_m(x_s) over the document's tokens s < t
 *
 * with equal weights at a document's start: the posterior of "which model's domain is this"
 * given what was read. Only past tokens decide, so p is a distribution; and since the weights need
 * nothing but each model's probability of the tokens that came, no logits are kept.
 * Source  Li et al., "Branch-Train-Merge", 2022, section 3.2 (domain posterior, top-k). */
#ifndef FT_EVAL_ENSEMBLE_H
#define FT_EVAL_ENSEMBLE_H
#include "model/eval/ft_eval_text.h"

FT_API_BEGIN

/* log2p [models][text->tokens], as ft_eval_bits gives them; out [text->tokens]. top 0: all. Of equally
 * likely models the first ones are taken. models is 1 to 64. O(tokens * models * top). */
void ft_eval_mix(float *out, const float *const *log2p, size_t models, size_t top, const ft_eval_text *text);

FT_API_END
#endif
