#include "model/train/ft_fft.h"
#include "model/train/privacy_internal.h"

#include "base/ft_buffer.h"

#include <math.h>
#include <stdlib.h>

/* One step's privacy loss, as a mass on the grid i * interval. A loss between two grid
 * points is split between them so that its mass under both data sets stays what it is;
 * the piecewise linear hockey-stick curve that results lies above the true one and meets
 * it at the grid points (Doroshenko et al. 2022).
 *
 * What may be cut off is moved to where it costs most: rare draws of z below and above
 * to the highest loss, what the sum of all steps may reach beyond the window (Chernoff)
 * to an infinite loss. */

enum { MAX_GRID = 1 << 22, MAX_STEP_GRID = 1 << 18, MIN_GRID = 1 << 10 };
static const double INTERVAL = 1e-4, REACH = 10; /* |z| beyond 10 sigma: 2e-23 */

typedef struct pld {
    double *mass; /* [count]: at (first + i) * interval */
    long first;
    size_t count;
    double interval, infinite;
} pld;

typedef struct direction {
    double q, sigma;
    int removes; /* 1: the data set with the example against the one without; 0: the reverse */
} direction;

static double normal(double z, double sigma)
{
    return exp(-z * z / (2 * sigma * sigma)) / (sigma * sqrt(2 * acos(-1)));
}

static double density(const direction *d, double z)
{
    return d->removes ? (1 - d->q) * normal(z, d->sigma) + d->q * normal(z - 1, d->sigma) : normal(z, d->sigma);
}

static double loss(const direction *d, double z)
{
    const double l = ft_privacy_loss(d->q, (2 * z - 1) / (2 * d->sigma * d->sigma));
    return d->removes ? l : -l;
}

/* Where the loss has this value; -INFINITY or INFINITY where it never gets that far. */
static double loss_inverse(const direction *d, double l)
{
    const double value = d->removes ? l : -l;
    /* exp(value) = 1 - q + q exp(u) */
    const double t = value > 30 ? 0 : expm1(value) / d->q;
    if (d->q == 1)
        return d->sigma * d->sigma * value + 0.5;
    if (t <= -1)
        return -INFINITY;
    const double u = value > 30 ? value - log(d->q) + log1p(-(1 - d->q) * exp(-value)) : log1p(t);
    return d->sigma * d->sigma * u + 0.5;
}

/* Mass of z in [low, high], whose losses lie between grid points `at` and `at` + 1. */
static void put_panel(pld *p, const direction *d, long at, double low, double high)
{
    static const double node[] = {-0.9061798459386640, -0.5384693101056831, 0, 0.5384693101056831, 0.9061798459386640};
    static const double weight[] = {0.2369268850561891, 0.4786286704993665, 0.5688888888888889, 0.4786286704993665,
                                    0.2369268850561891};
    const double middle = (low + high) / 2, half = (high - low) / 2;
    double *out = p->mass + (at - p->first);
    for (int i = 0; i < 5; i++) {
        const double z = middle + half * node[i], mass = weight[i] * half * density(d, z);
        double above = loss(d, z) - (double)at * p->interval;
        above = fmin(fmax(above, 0), p->interval);
        const double upper = expm1(-above) / expm1(-p->interval);
        out[0] += mass * (1 - upper);
        out[1] += mass * upper;
    }
}

static void put_all(pld *p, const direction *d)
{
    const double low = -REACH * d->sigma, high = 1 + REACH * d->sigma;
    for (size_t i = 0; i + 1 < p->count; i++) {
        const long at = p->first + (long)i;
        const double a = loss_inverse(d, (double)at * p->interval), b = loss_inverse(d, (double)(at + 1) * p->interval);
        const double from = fmax(fmin(a, b), low), to = fmin(fmax(a, b), high);
        if (!(to > from))
            continue;
        const long panels = (long)((to - from) / (d->sigma / 8)) + 1;
        const double width = (to - from) / (double)panels;
        for (long k = 0; k < panels; k++)
            put_panel(p, d, at, from + (double)k * width, k + 1 == panels ? to : from + (double)(k + 1) * width);
    }
    p->mass[p->count - 1] += erfc(REACH / sqrt(2)); /* both tails of z, and a little more */
}

static ft_code one_step(pld *p, const direction *d, double interval, ft_status *st)
{
    const double a = loss(d, -REACH * d->sigma), b = loss(d, 1 + REACH * d->sigma);
    const double least = floor(fmin(a, b) / interval), most = ceil(fmax(a, b) / interval) + 1;
    if (most - least + 1 > MAX_STEP_GRID)
        return ft_fail(st, FT_ERR_LIMIT, "a grid of %.3g losses is too large", most - least + 1);
    p->interval = interval;
    p->first = (long)least;
    p->count = (size_t)(most - least + 1);
    p->infinite = 0;
    p->mass = ft_alloc_array(p->count, sizeof(*p->mass));
    if (!p->mass)
        return ft_fail(st, FT_ERR_MEM, "no memory for %zu privacy losses", p->count);
    put_all(p, d);
    return FT_OK;
}

/* log E[exp(t loss)] of one step. The largest term is found first: it may be that of a rare loss. */
static double log_moment(const pld *p, double t)
{
    double top = -INFINITY, sum = 0;
    for (size_t i = 0; i < p->count; i++)
        if (p->mass[i] > 0)
            top = fmax(top, log(p->mass[i]) + t * (double)(p->first + (long)i) * p->interval);
    for (size_t i = 0; i < p->count; i++)
        if (p->mass[i] > 0)
            sum += exp(log(p->mass[i]) + t * (double)(p->first + (long)i) * p->interval - top);
    return top + log(sum);
}

/* The least loss beyond which `steps` steps together have no more than exp(log_tail):
 * Chernoff, min over t of (steps log_moment(t) - log_tail) / t. sign -1: below. The best t is
 * bracketed by doubling, for the bound is quasi-convex in it; a factor of two is near enough. */
static double tail(const pld *p, uint64_t steps, double log_tail, double sign)
{
    double best = INFINITY;
    for (int power = -10; power < 14; power++) {
        const double t = ldexp(1, power);
        const double bound = ((double)steps * log_moment(p, sign * t) - log_tail) / t;
        if (!(bound < best)) /* or not a number: the moment left float64's range */
            break;
        best = bound;
    }
    return sign * best;
}

/* z to the power of n, by squaring. */
static void power(double *real, double *imaginary, uint64_t n)
{
    double a = 1, b = 0, x = *real, y = *imaginary;
    for (; n; n >>= 1) {
        if (n & 1) {
            const double t = a * x - b * y;
            b = a * y + b * x;
            a = t;
        }
        const double t = x * x - y * y;
        y = 2 * x * y;
        x = t;
    }
    *real = a;
    *imaginary = b;
}

/* Distribution of the sum of `steps` losses. What wraps around the window from below lands
 * at its top; what wraps from above is no more than `infinite`. */
static ft_code compose(pld *out, const pld *p, uint64_t steps, double log_tail, ft_status *st)
{
    const double sums_low = (double)steps * (double)p->first;
    const double sums_high = (double)steps * (double)(p->first + (long)p->count - 1);
    const double low = fmax(sums_low, floor(tail(p, steps, log_tail, -1) / p->interval));
    const double high = fmin(sums_high, ceil(tail(p, steps, log_tail, 1) / p->interval));
    const double wanted = fmax(high - low + 1, (double)p->count);
    size_t n = MIN_GRID;
    while ((double)n < wanted && n < MAX_GRID)
        n *= 2;
    if ((double)n < wanted)
        return ft_fail(st, FT_ERR_LIMIT, "a grid of %.3g losses is too large", wanted);
    double *z = ft_alloc_array(2 * n, sizeof(*z)), *twiddles = ft_alloc_array(n, sizeof(*twiddles));
    out->mass = ft_alloc_array(n, sizeof(*out->mass));
    if (!z || !twiddles || !out->mass) {
        free(z);
        free(twiddles);
        return ft_fail(st, FT_ERR_MEM, "no memory for %zu privacy losses", n);
    }
    ft_fft_twiddles(twiddles, n);
    for (size_t i = 0; i < p->count; i++)
        z[2 * i] = p->mass[i];
    ft_fft(z, n, twiddles, 0);
    for (size_t i = 0; i < n; i++)
        power(z + 2 * i, z + 2 * i + 1, steps);
    ft_fft(z, n, twiddles, 1);
    out->first = (long)low;
    out->count = n;
    out->interval = p->interval;
    out->infinite = high < sums_high ? exp(log_tail) : 0;
    const size_t shift = (size_t)fmod(low - sums_low, (double)n);
    for (size_t i = 0; i < n; i++)
        out->mass[i] = z[2 * ((i + shift) % n)] / (double)n;
    free(z);
    free(twiddles);
    return FT_OK;
}

/* delta(e) = infinite + sum over losses l > e of mass(l) (1 - exp(e - l)), inverted from
 * the top: between two grid points it is linear in exp(e). */
static double epsilon_at(const pld *p, double delta)
{
    double above = 0, scaled = 0; /* sums over the losses above: mass, and mass exp(e - l) */
    if (p->infinite > delta)
        return INFINITY;
    const double fall = exp(-p->interval);
    for (size_t i = p->count; i-- > 0;) {
        const double e = (double)(p->first + (long)i) * p->interval;
        if (p->infinite + above - scaled > delta) { /* the crossing lies between i and i + 1 */
            const double t = (above - (delta - p->infinite)) / scaled;
            return fmax(0, e + log(t));
        }
        if (e < 0)
            return 0;
        above += p->mass[i];
        scaled = (scaled + p->mass[i]) * fall;
    }
    return 0;
}

static ft_code epsilon_of(double *epsilon, const direction *d, uint64_t steps, double delta, double interval,
                          ft_status *st)
{
    pld one = {0}, all = {0};
    ft_code rc = one_step(&one, d, interval, st);
    if (!rc)
        rc = compose(&all, &one, steps, log(delta) - 16, st);
    if (!rc)
        *epsilon = epsilon_at(&all, delta);
    free(one.mass);
    free(all.mass);
    return rc;
}

ft_code ft_privacy_pld_epsilon(ft_privacy_spent *out, const ft_privacy_mechanism *m, double delta, ft_status *st)
{
    double both[2] = {0, 0};
    /* Without sampling, T Gaussian steps are one with sigma / sqrt(T). */
    const int plain = m->sampling_rate == 1;
    const double sigma = plain ? m->noise_multiplier / sqrt((double)m->steps) : m->noise_multiplier;
    for (int removes = 0; removes < 2; removes++) {
        const direction d = {.q = m->sampling_rate, .sigma = sigma, .removes = removes};
        ft_code rc = FT_ERR_LIMIT;
        /* Where losses are large a coarser grid, still pessimistic, is as good relatively. */
        for (double interval = INTERVAL; rc == FT_ERR_LIMIT && interval < 1e12; interval *= 4)
            rc = epsilon_of(&both[removes], &d, plain ? 1 : m->steps, delta, interval, st);
        if (rc)
            return rc;
    }
    out->epsilon = fmax(both[0], both[1]);
    return FT_OK;
}
