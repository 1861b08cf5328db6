/* ft_router_backward: the router of a mixture of experts, and its gradient.
 *
 *   l = W x, l_e += min(b_(e-1), 0) for e >= 1;  p = softmax(l)
 *   chosen: the k largest p, the lower number first on a tie;  w_j = p_(chosen j), or divided by
 *   their sum where the model says so
 *   z = (log sum_e exp l_e)^2, per token
 *   dl_e = p_e (dp_e - sum_j p_j dp_j) + dz 2 log-sum-exp p_e */
#ifndef FT_ROUTER_BACKWARD_H
#define FT_ROUTER_BACKWARD_H
#include <stddef.h>
#include <stdint.h>

typedef struct ft_router {
    size_t experts, top_k;
    int normalize;     /* weights divided by their sum */
    const float *bias; /* [experts - 1], or NULL */
} ft_router;

/* One token: l [experts] (W x) becomes p; chosen, weights [top_k]. Returns log sum exp. */
float ft_router_forward(const ft_router *r, float *l, uint32_t *chosen, float *weights);
/* p [experts], dw [top_k] (gradient of the weights), z_scale = d loss / d z; dl [experts] out. */
void ft_router_backward(const ft_router *r, float *dl, const float *p, const uint32_t *chosen, const float *dw,
                        float log_sum, float z_scale);
/* dl [experts] += scale * gradient of -log p_domain. */
void ft_router_domain_backward(const ft_router *r, float *dl, const float *p, size_t domain, float scale);
#endif
