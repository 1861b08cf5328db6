/* ft_eval_combine: the peers of a merge, made of dense models that were each trained whole on one domain
 * from the same public model.
 *
 *   soup    one dense model: the mean of all of them, tensor by tensor (Wortsman et al. 2022)
 *   stack   a mixture: attention, embeddings, norms and head the mean; each one's FFN an expert; router
 *           rows drawn from a seed, to be trained (as in Branch-Train-MiX, Sukhbaatar et al. 2024)
 *
 * Files  a model folder, whose config and tokenizer are the first model's. */
#ifndef FT_EVAL_COMBINE_H
#define FT_EVAL_COMBINE_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

/* FT_ERR_FORMAT: a model that is not dense, or of another shape than the first (named). */
FT_CHECKED ft_code ft_eval_soup(const char *const *models, size_t count, const char *out, ft_status *st);
FT_CHECKED ft_code ft_eval_stack(const char *const *models, size_t count, size_t top_k, uint64_t seed, const char *out,
                                 ft_status *st);

FT_API_END
#endif
