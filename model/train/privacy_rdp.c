#include "model/train/privacy_internal.h"

#include <math.h>

/* Renyi divergence of order a of one step is log(A) / (a - 1) with
 *   A = E over z ~ N(0, sigma^2) of (1 + x)^a,  x = q (exp(u) - 1),  u = (2z - 1) / (2 sigma^2).
 * As E[x] = 0, A - 1 = E[(1 + x)^a - 1 - a x], whose integrand is never negative: the sum
 * keeps its digits where A is 1 + 1e-12. */

void ft_privacy_orders(double out[FT_PRIVACY_ORDERS])
{
    size_t n = 0;
    for (int tenth = 11; tenth < 110; tenth++)
        out[n++] = tenth / 10.0;
    for (int whole = 11; whole < 64; whole++)
        out[n++] = whole;
    for (int power = 128; power <= 1024; power *= 2)
        out[n++] = power;
}

double ft_privacy_loss(double q, double u)
{
    if (q == 1)
        return u;
    return u > 30 ? u + log(q) + log1p((1 - q) / q * exp(-u)) : log1p(q * expm1(u));
}

/* Adds exp(log_term) to a sum that is held as exp(*top) * *sum. */
static void add(double *top, double *sum, double log_term)
{
    if (log_term > *top) {
        *sum = *sum * exp(*top - log_term) + 1;
        *top = log_term;
    } else {
        *sum += exp(log_term - *top);
    }
}

static double log_expm1(double x)
{
    return x > 40 ? x : log(expm1(x));
}

/* log(A - 1) at a whole order: sum over k >= 2 of
 * binom(a, k) (1 - q)^(a - k) q^k (exp((k^2 - k) / (2 sigma^2)) - 1). */
static double whole(double q, double sigma, unsigned order)
{
    double top = -INFINITY, sum = 0, log_binomial = 0;
    for (unsigned k = 1; k <= order; k++) {
        log_binomial += log((double)(order - k + 1) / k);
        const double rest = k == order ? 0 : (order - k) * log1p(-q);
        if (k > 1)
            add(&top, &sum, log_binomial + rest + k * log(q) + log_expm1(k * (k - 1.0) / (2 * sigma * sigma)));
    }
    return top + log(sum);
}

/* log((1 + x)^a - 1 - a x) */
static double log_excess(double q, double a, double u)
{
    const double x = u > 30 ? INFINITY : q * expm1(u);
    if (fabs(a * x) < 0.1) { /* the series from its quadratic term on: no cancellation */
        double term = a * (a - 1) / 2 * x * x, sum = term;
        for (int k = 3; k < 40 && fabs(term) > 1e-18 * sum; k++) {
            term *= (a - k + 1) / k * x;
            sum += term;
        }
        return sum > 0 ? log(sum) : -INFINITY;
    }
    const double power = a * ft_privacy_loss(q, u);
    if (power < 30)
        return log(expm1(power) - a * x);
    const double log_ax = u > 30 ? log(a * q) + u : log(a * x);
    return power + log1p(-exp(log_ax - power));
}

/* log(A - 1) by the trapezoidal rule, which converges exponentially: the integrand is
 * analytic up to the branch point pi sigma^2 beside the real line. */
static double fractional(double q, double sigma, double order)
{
    const double variance = sigma * sigma, step = fmin(sigma / 6, variance / 6);
    const double low = -12 * sigma, high = (order > 2 ? order : 2) + 12 * sigma;
    const long points = (long)((high - low) / step) + 1;
    double top = -INFINITY, sum = 0;
    for (long i = 0; i < points; i++) {
        const double z = low + (double)i * step;
        const double f = log_excess(q, order, (2 * z - 1) / (2 * variance));
        if (f > -INFINITY)
            add(&top, &sum, f - z * z / (2 * variance));
    }
    return top + log(sum * step / (sigma * sqrt(2 * acos(-1))));
}

double ft_privacy_rdp(double q, double sigma, double order)
{
    enum { LARGEST_WHOLE = 100000 };
    if (q == 0)
        return 0;
    if (sigma == 0)
        return INFINITY;
    if (q == 1 || order > LARGEST_WHOLE) /* sampling only helps */
        return order / (2 * sigma * sigma);
    const double above = ceil(order);
    const int exact = above == order || sigma < 0.1;
    const double excess = exact ? whole(q, sigma, (unsigned)above) : fractional(q, sigma, order);
    const double log_a = excess > 40 ? excess : log1p(exp(excess));
    return log_a / ((exact ? above : order) - 1);
}

double ft_privacy_convert(const double *orders, const double *rdp, size_t count, double delta, double *best)
{
    double least = INFINITY, at = 0;
    for (size_t i = 0; i < count; i++) {
        const double a = orders[i];
        double epsilon = INFINITY;
        if (a <= 1.01 || !(rdp[i] < INFINITY))
            continue;
        if (delta * delta + expm1(-rdp[i]) > 0)
            epsilon = 0;
        else
            epsilon = fmax(0, rdp[i] + log1p(-1 / a) - log(delta * a) / (a - 1));
        if (epsilon < least) {
            least = epsilon;
            at = a;
        }
    }
    if (best)
        *best = at;
    return least;
}

void ft_privacy_rdp_epsilon(ft_privacy_spent *out, const ft_privacy_mechanism *m, double delta)
{
    double orders[FT_PRIVACY_ORDERS], rdp[FT_PRIVACY_ORDERS];
    ft_privacy_orders(orders);
    for (size_t i = 0; i < FT_PRIVACY_ORDERS; i++)
        rdp[i] = (double)m->steps * ft_privacy_rdp(m->sampling_rate, m->noise_multiplier, orders[i]);
    out->epsilon = ft_privacy_convert(orders, rdp, FT_PRIVACY_ORDERS, delta, &out->order);
}
