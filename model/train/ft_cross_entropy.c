#include "model/train/ft_cross_entropy.h"

#include "model/kernels/ft_exp.h"

#include <math.h>

double ft_cross_entropy(float *x, size_t vocab, uint32_t label, float scale)
{
    float top = x[0];
    double sum = 0;
    const double at_label = (double)x[label];
    double poison = 0; /* ft_exp hides what is not a number */
    for (size_t v = 0; v < vocab; v++) {
        top = x[v] > top ? x[v] : top;
        poison += (double)(x[v] - x[v]);
    }
    for (size_t v = 0; v < vocab; v++)
        x[v] = ft_exp(x[v] - top);
    for (size_t v = 0; v < vocab; v++)
        sum += (double)x[v];
    const float factor = (float)((double)scale / sum);
    for (size_t v = 0; v < vocab; v++)
        x[v] *= factor;
    x[label] -= scale;
    return poison + (double)top + log(sum) - at_label;
}
