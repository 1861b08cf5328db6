#include "model/train/ft_cross_entropy.h"

#include "model/kernels/ft_exp.h"
#include "model/train/train_clones.h"

#include <math.h>

/* x becomes exp(x - max); *top is the maximum. Returns the sum, NaN where an x is no finite number:
 * ft_exp would hide it. */
FT_CLONES static double exponentials(float *x, size_t n, float *top)
{
    float bad;
    const float shift = *top = ft_clone_max(x, n, &bad);
    for (size_t v = 0; v < n; v++)
        x[v] = ft_exp(x[v] - shift);
    return ft_clone_sum(x, n) + (double)bad;
}

FT_CLONES static void multiply(float *x, size_t n, float factor)
{
    for (size_t v = 0; v < n; v++)
        x[v] *= factor;
}

double ft_cross_entropy(float *x, size_t vocab, uint32_t label, float scale)
{
    float top;
    const double at_label = (double)x[label], sum = exponentials(x, vocab, &top);
    multiply(x, vocab, (float)((double)scale / sum));
    x[label] -= scale;
    return (double)top + log(sum) - at_label;
}
