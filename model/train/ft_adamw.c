#include "model/train/ft_adamw.h"
#include "model/train/train_clones.h"

#include <math.h>

FT_CLONES void ft_adamw_update(const ft_adamw *o, uint64_t t, double scale, float *p, const float *g, float *m,
                               float *v, size_t n)
{
    const float b1 = (float)o->beta1, b2 = (float)o->beta2, s = (float)scale;
    const float a1 = (float)(1 - o->beta1), a2 = (float)(1 - o->beta2);
    const float unbias1 = (float)(1 / (1 - pow(o->beta1, (double)t)));
    const float unbias2 = (float)(1 / (1 - pow(o->beta2, (double)t)));
    const float rate = (float)o->rate, eps = (float)o->eps, shrink = (float)(1 - o->rate * o->decay);
    for (size_t i = 0; i < n; i++) {
        const float x = g[i] * s;
        m[i] = b1 * m[i] + a1 * x;
        v[i] = b2 * v[i] + a2 * x * x;
        p[i] = p[i] * shrink - rate * (m[i] * unbias1) / (sqrtf(v[i] * unbias2) + eps);
    }
}

double ft_schedule_factor(ft_schedule s, uint64_t step, uint64_t steps, uint64_t warmup, uint64_t decay, double least)
{
    if (step < warmup)
        return (double)(step + 1) / (double)warmup;
    if (s == FT_SCHEDULE_CONSTANT || steps <= warmup)
        return 1;
    if (s == FT_SCHEDULE_COSINE) {
        const double t = fmin(1, (double)(step - warmup) / (double)(steps - warmup));
        return least + (1 - least) * (1 + cos(acos(-1) * t)) / 2;
    }
    const uint64_t left = step < steps ? steps - step : 0;
    return left >= decay || decay == 0 ? 1 : least + (1 - least) * (double)left / (double)decay;
}
