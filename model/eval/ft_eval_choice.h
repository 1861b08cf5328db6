/* ft_eval_choice: multiple choice by likelihood ("ranked continuation").
 *
 * A file has one JSON object a line: "context", "choices" (strings, each with its leading
 * space), "gold" (the right one's index), and optionally "uncond_context", a prompt without the
 * question. For a choice c with tokens t1 … tn after the context
 *
 *   S(c) = sum of log p(ti | context, t1 … ti-1)
 *
 * Context and choice are encoded apart, so that the boundary is where the strings meet. Where both
 * do not fit the window, tokens are dropped from the left of the context, as many as the longest choice
 * needs. Ties go to the first.
 *
 *   acc           argmax S(c) is gold
 *   acc_per_char  argmax S(c) / characters of c, the leading space counted
 *   acc_per_byte  argmax S(c) / UTF-8 bytes of c
 *   acc_uncond    argmax S(c) - S(c | uncond_context); NaN unless every item has one
 *   bpb           mean of -S(gold) / (ln 2 * UTF-8 bytes of the gold choice)
 *   chance        mean of 1 / choices */
#ifndef FT_EVAL_CHOICE_H
#define FT_EVAL_CHOICE_H
#include "model/eval/ft_eval_score.h"

FT_API_BEGIN

typedef struct ft_eval_choices {
    size_t items;
    double acc, acc_per_char, acc_per_byte, acc_uncond, bpb, chance;
} ft_eval_choices;

/* Standard error of an accuracy over n items. */
double ft_eval_standard_error(double accuracy, size_t n);

/* The first `limit` items (0: all).
 *   FT_ERR_FORMAT  a line that is no such item (named), an empty choice, or one longer than the window */
FT_CHECKED ft_code ft_eval_choose(ft_eval_choices *out, ft_scorer *s, const ft_tokenizer *tokenizer, const char *path,
                                  size_t limit, const ft_progress *progress, ft_status *st);

FT_API_END
#endif
