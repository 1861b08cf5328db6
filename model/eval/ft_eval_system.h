/* ft_eval_system: one model measured on everything that a recipe asks for.
 *
 * The result is a JSON object with the fields of a report's system (ft_eval_report.h). */
#ifndef FT_EVAL_SYSTEM_H
#define FT_EVAL_SYSTEM_H
#include "model/eval/ft_eval_recipe.h"
#include "model/eval/ft_eval_score.h"

#include <jansson.h>

FT_API_BEGIN

typedef struct ft_eval_setting {
    const ft_recipe *recipe;
    const ft_tokenizer *tokenizer;
    const ft_eval_text *texts;  /* [recipe->domains_count] */
    const char *const *choices; /* [recipe->choices_count] files, where they are; windows of up to 1024 tokens */
    const char *const *exact;
    ft_pool *pool;
    size_t window; /* of bits per byte */
} ft_eval_setting;

/* `log2p` (NULL: not wanted) [tokens of all texts, one after another]. *out is the caller's. */
FT_CHECKED ft_code ft_eval_system(json_t **out, const ft_eval_setting *e, const char *folder, uint64_t without,
                                  float *log2p, const ft_progress *progress, ft_status *st);
/* The same figures, bits per byte alone, of tokens' log2 p that are there. */
json_t *ft_eval_system_bits(const ft_eval_setting *e, const float *log2p);

FT_API_END
#endif
