/* ft_privacy: what differentially private training costs.
 *
 * The mechanism is DP-SGD: in each of `steps` steps every example enters the batch
 * independently with probability q (Poisson sampling), its gradient is clipped to norm C,
 * and N(0, (sigma C)^2) is added to each element of the clipped gradients' sum.
 * Neighbours are data sets of which one holds one example more; what an example is, the
 * trainer says.
 *
 * Units     epsilon and Renyi divergences in nats; sigma is the noise multiplier, without C.
 * Accountants
 *   RDP     Renyi divergence of the subsampled Gaussian: whole orders by their finite sum,
 *           fractional ones by integration (true values, not the usual series of absolute
 *           values); converted by Canonne, Kamath, Steinke 2020, proposition 12.
 *   PLD     privacy loss distribution on a grid that dominates the true one (Doroshenko et
 *           al. 2022, "connect the dots"), convolved by FFT; tighter, and slower.
 * Both bound epsilon from above, up to float64 rounding.
 * Threads   no state. */
#ifndef FT_PRIVACY_H
#define FT_PRIVACY_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_privacy_mechanism {
    double sampling_rate;    /* q, 0 to 1 */
    double noise_multiplier; /* sigma, >= 0 */
    uint64_t steps;
} ft_privacy_mechanism;

typedef enum ft_accountant { FT_ACCOUNTANT_RDP, FT_ACCOUNTANT_PLD } ft_accountant;

typedef struct ft_privacy_spent {
    double epsilon;     /* INFINITY where nothing bounds it */
    double order;       /* RDP: the order that gives it; 0 where epsilon is 0 or infinite, and for PLD */
    const char *reason; /* why it is infinite, else NULL; a static string */
} ft_privacy_spent;

enum { FT_PRIVACY_ORDERS = 156 };
/* The orders that ft_privacy_epsilon takes the best of: 1.1, 1.2 … 10.9, 11 … 63, 128,
 * 256, 512, 1024, the usual ones, so that figures compare. */
void ft_privacy_orders(double out[FT_PRIVACY_ORDERS]);

/* Renyi divergence of one step at an order > 1, INFINITY where sigma is 0 and q is not.
 * Below sigma 0.1 fractional orders, whose integrand gets too narrow, take the value of
 * the next whole one, which bounds them. */
double ft_privacy_rdp(double q, double sigma, double order);

/* Epsilon of orders with the divergences rdp [count] of the whole run; *best (may be NULL)
 * is the order that gives it. Orders up to 1.01 are passed over. */
double ft_privacy_convert(const double *orders, const double *rdp, size_t count, double delta, double *best);

/* Epsilon at this delta. steps 0 or q 0 gives 0, sigma 0 infinity.
 *   FT_ERR_ARG   q outside [0, 1], sigma negative, delta outside (0, 1), or not numbers
 *   FT_ERR_MEM   the PLD's grid, some 200 MB at most */
FT_CHECKED ft_code ft_privacy_epsilon(ft_privacy_spent *out, const ft_privacy_mechanism *m, double delta,
                                      ft_accountant accountant, ft_status *st);

/* The least noise multiplier (to 1e-7 of it, from above) whose epsilon does not exceed the
 * target; 0 where there are no steps. *spent (may be NULL) is what it costs.
 *   FT_ERR_ARG   as above, and a target that is not positive
 *   FT_ERR_LIMIT no multiplier up to 1e6 reaches the target */
FT_CHECKED ft_code ft_privacy_sigma(double *sigma, ft_privacy_spent *spent, double q, uint64_t steps, double epsilon,
                                    double delta, ft_accountant accountant, ft_status *st);

/* Of mechanisms that read the same data one after another. Where all have one rate and one noise their steps add,
 * under either accountant; else the divergences add, and *used (may be NULL) is RDP whatever was asked for. */
FT_CHECKED ft_code ft_privacy_composed(ft_privacy_spent *out, const ft_privacy_mechanism *m, size_t count, double delta,
                                       ft_accountant accountant, ft_accountant *used, ft_status *st);
/* The most steps that may follow `before` [count] within the target. */
FT_CHECKED ft_code ft_privacy_steps_after(uint64_t *steps, const ft_privacy_mechanism *before, size_t count, double q,
                                          double sigma, double epsilon, double delta, ft_accountant accountant,
                                          ft_status *st);

/* The most steps whose epsilon stays within the target; 0 where the first one exceeds it. */
FT_CHECKED ft_code ft_privacy_steps(uint64_t *steps, double q, double sigma, double epsilon, double delta,
                                    ft_accountant accountant, ft_status *st);

FT_API_END
#endif
