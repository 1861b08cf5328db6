#include "model/train/ft_router_backward.h"

#include <math.h>

float ft_router_forward(const ft_router *r, float *l, uint32_t *chosen, float *weights)
{
    float top = -INFINITY;
    double sum = 0, kept = 0;
    for (size_t e = 0; e < r->experts; e++) {
        if (e && r->bias && r->bias[e - 1] < 0)
            l[e] += r->bias[e - 1];
        top = l[e] > top ? l[e] : top;
    }
    for (size_t e = 0; e < r->experts; e++)
        sum += exp((double)(l[e] - top));
    for (size_t e = 0; e < r->experts; e++)
        l[e] = (float)(exp((double)(l[e] - top)) / sum);
    for (size_t j = 0; j < r->top_k; j++) { /* NaN chooses the lowest numbers left: in range */
        size_t best = r->experts;
        for (size_t e = 0; e < r->experts; e++) {
            int taken = 0;
            for (size_t i = 0; i < j; i++)
                taken |= chosen[i] == e;
            if (!taken && (best == r->experts || l[e] > l[best]))
                best = e;
        }
        chosen[j] = (uint32_t)best;
        weights[j] = l[best];
        kept += (double)l[best];
    }
    for (size_t j = 0; j < r->top_k && r->normalize; j++)
        weights[j] = (float)((double)weights[j] / kept);
    return top + (float)log(sum);
}

void ft_router_backward(const ft_router *r, float *dl, const float *p, const uint32_t *chosen, const float *dw,
                        float log_sum, float z_scale)
{
    double kept = 0, through = 0, mean = 0;
    for (size_t j = 0; j < r->top_k; j++)
        kept += (double)p[chosen[j]];
    for (size_t j = 0; j < r->top_k; j++)
        through += (double)dw[j] * (double)p[chosen[j]] / kept;
    for (size_t e = 0; e < r->experts; e++)
        dl[e] = 0;
    for (size_t j = 0; j < r->top_k; j++)
        dl[chosen[j]] = r->normalize ? (float)(((double)dw[j] - through) / kept) : dw[j];
    for (size_t e = 0; e < r->experts; e++)
        mean += (double)p[e] * (double)dl[e];
    for (size_t e = 0; e < r->experts; e++)
        dl[e] = (float)((double)p[e] * ((double)dl[e] - mean + (double)z_scale * 2 * (double)log_sum));
}

void ft_router_domain_backward(const ft_router *r, float *dl, const float *p, size_t domain, float scale)
{
    for (size_t e = 0; e < r->experts; e++)
        dl[e] += scale * (p[e] - (e == domain ? 1 : 0));
}
