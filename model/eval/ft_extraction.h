/* ft_extraction: which training documents a model can be made to recite.
 *
 * The attack of the FlexOlmo paper (Shi et al. 2025), after Carlini et al., "Extracting training
 * data from large language models", 2021: the first `prefix` tokens of a training document are the prompt; `samples`
 * continuations of up to `new_tokens` tokens are drawn (top-k, then top-p); the document leaks when one of them
 * has a normalized Levenshtein similarity of at least `threshold` to what follows in the document:
 *
 *   similarity = 1 - distance / max(lengths)
 *
 * on tokens, or with `on_text` on Unicode characters. What follows is the document's next `new_tokens` tokens, or
 * what is left of it; a continuation is drawn no longer than that. Documents with less than prefix + least tokens
 * are no candidates: a few tokens are soon guessed. `documents` of the candidates are drawn by the seed.
 *
 * A continuation depends on model, document, number of the sample and seed alone: not on batches or threads,
 * so a run that goes on finds what one that was never stopped would.
 *
 * Files   `record`: a JSON line that says what the attack is, then a line a document; appended as documents are
 *         done. The same attack with the same file goes on behind them.
 * Threads one owner. */
#ifndef FT_EXTRACTION_H
#define FT_EXTRACTION_H
#include "base/ft_progress.h"
#include "base/ft_threads.h"
#include "model/eval/ft_eval_text.h"
#include "model/ft_model.h"

FT_API_BEGIN

typedef struct ft_extraction_options {
    size_t prefix, new_tokens, samples, least, documents; /* documents 0: all candidates */
    int64_t top_k;
    double top_p, temperature, threshold;
    uint64_t seed, without; /* without: bit e: expert e takes no part */
    int on_text;
    const char *record; /* NULL: none */
} ft_extraction_options;

/* The paper's: 32, 256, 10, least 32, all documents; 50, 0.95, 1, 0.9; seed 1, on tokens. */
ft_extraction_options ft_extraction_defaults(void);

typedef struct ft_extracted {
    size_t document;   /* of the text */
    double similarity; /* the best of the samples */
    size_t sample;     /* the first that has it */
    int leaks;
    uint32_t *ids;        /* the best sample of a document that leaks; else NULL */
    size_t count, wanted; /* tokens of ids, and of what it was compared with */
} ft_extracted;

typedef struct ft_extraction {
    ft_extracted *documents; /* in the order of the text */
    size_t count, candidates, leaked;
} ft_extraction;

/*   FT_ERR_FORMAT     no candidate; a record of another attack (says so)
 *   FT_ERR_CANCELLED  progress said so; the record has what was done */
FT_CHECKED ft_code ft_extraction_run(ft_extraction *out, const ft_model *m, const ft_tokenizer *tokenizer,
                                     ft_pool *pool, const ft_eval_text *text, const ft_extraction_options *o,
                                     const ft_progress *progress, ft_status *st);
void ft_extraction_release(ft_extraction *x); /* a zeroed struct is allowed */

FT_API_END
#endif
