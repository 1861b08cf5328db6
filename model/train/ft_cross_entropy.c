#include "model/train/ft_cross_entropy.h"

#include "model/kernels/ft_exp.h"
#include "model/train/train_clones.h"

#include <math.h>

/* x becomes exp(x - max); *top is the maximum. Returns the sum, NaN where an x is no finite number:
 * ft_exp would hide it. */
FT_CLONES static double exponentials(float *x, size_t n, float *top)
{
    float most[FT_LANES];
    double sums[FT_LANES] = {0}, sum = 0;
    const size_t whole = n - n % FT_LANES;
    for (size_t i = 0; i < FT_LANES; i++)
        most[i] = x[0];
    for (size_t v = 0; v < whole; v += FT_LANES)
        for (size_t i = 0; i < FT_LANES; i++) {
            most[i] = x[v + i] > most[i] ? x[v + i] : most[i];
            sums[i] += (double)(x[v + i] - x[v + i]);
        }
    for (size_t v = whole; v < n; v++) {
        most[0] = x[v] > most[0] ? x[v] : most[0];
        sums[0] += (double)(x[v] - x[v]);
    }
    for (size_t i = 1; i < FT_LANES; i++)
        most[0] = most[i] > most[0] ? most[i] : most[0];
    const float shift = *top = most[0];
    for (size_t v = 0; v < n; v++)
        x[v] = ft_exp(x[v] - shift);
    for (size_t v = 0; v < whole; v += FT_LANES)
        for (size_t i = 0; i < FT_LANES; i++)
            sums[i] += (double)x[v + i];
    for (size_t v = whole; v < n; v++)
        sums[0] += (double)x[v];
    for (size_t i = 0; i < FT_LANES; i++)
        sum += sums[i];
    return sum;
}

double ft_cross_entropy(float *x, size_t vocab, uint32_t label, float scale)
{
    float top;
    const double at_label = (double)x[label], sum = exponentials(x, vocab, &top);
    const float factor = (float)((double)scale / sum);
    for (size_t v = 0; v < vocab; v++)
        x[v] *= factor;
    x[label] -= scale;
    return (double)top + log(sum) - at_label;
}
