/* ft_adamw: one AdamW update of an array (Loshchilov and Hutter 2019).
 *
 *   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *   p -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p),  t = 1, 2, … */
#ifndef FT_ADAMW_H
#define FT_ADAMW_H
#include <stddef.h>
#include <stdint.h>

typedef struct ft_adamw {
    double rate, beta1, beta2, eps, decay;
} ft_adamw;

/* g is multiplied by `scale` (clipping) as it is read. */
void ft_adamw_update(const ft_adamw *o, uint64_t t, double scale, float *p, const float *g, float *m, float *v,
                     size_t n);

typedef enum ft_schedule { FT_SCHEDULE_CONSTANT, FT_SCHEDULE_COSINE, FT_SCHEDULE_WSD } ft_schedule;
/* The factor of the learning rate at `step` of `steps` (0 first): rises linearly over `warmup`
 * steps; then cosine to `least`, or level until the last `decay` steps fall linearly to `least`. */
double ft_schedule_factor(ft_schedule s, uint64_t step, uint64_t steps, uint64_t warmup, uint64_t decay, double least);
#endif
