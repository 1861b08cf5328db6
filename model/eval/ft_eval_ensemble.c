#include "model/eval/ft_eval_ensemble.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { MOST_MODELS = 64 };

/* The `top` largest of `past`, in order; ties to the lower number. */
static void choose(size_t *chosen, const double *past, size_t models, size_t top)
{
    uint64_t taken = 0;
    for (size_t k = 0; k < top; k++) {
        size_t best = models;
        for (size_t m = 0; m < models; m++)
            if (!(taken >> m & 1) && (best == models || past[m] > past[best]))
                best = m;
        taken |= (uint64_t)1 << best;
        chosen[k] = best;
    }
}

static double mix_token(const double *past, const float *const *log2p, const size_t *chosen, size_t top, size_t at)
{
    double weights = 0, sum = 0;
    for (size_t k = 0; k < top; k++) {
        const double w = exp2(past[chosen[k]] - past[chosen[0]]);
        weights += w;
        sum += w * exp2((double)log2p[chosen[k]][at]);
    }
    /* All of them so improbable that exp2 gives 0: the best one's own logarithm, less its share. */
    return sum > 0 ? log2(sum / weights) : (double)log2p[chosen[0]][at] - log2(weights);
}

void ft_eval_mix(float *out, const float *const *log2p, size_t models, size_t top, const ft_eval_text *text)
{
    double past[MOST_MODELS];
    size_t chosen[MOST_MODELS];
    assert(models > 0 && models <= MOST_MODELS);
    top = top && top < models ? top : models;
    for (size_t d = 0; d < text->count; d++) {
        const ft_eval_document *doc = &text->documents[d];
        memset(past, 0, sizeof(past));
        for (size_t t = doc->first; t < doc->first + doc->count; t++) {
            choose(chosen, past, models, top);
            out[t] = (float)mix_token(past, log2p, chosen, top, t);
            for (size_t m = 0; m < models; m++)
                past[m] += (double)log2p[m][t];
        }
    }
}
