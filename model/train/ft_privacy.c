#include "model/train/privacy_internal.h"

#include <math.h>

/* Below it the transform's rounding is no longer small beside delta, and the curve may lie below the true one. */
static const double LEAST_PLD_DELTA = 1e-12;

static ft_code check(const ft_privacy_mechanism *m, double delta, ft_status *st)
{
    if (!(m->sampling_rate >= 0 && m->sampling_rate <= 1))
        return ft_fail(st, FT_ERR_ARG, "privacy: a sampling rate is from 0 to 1, not %g", m->sampling_rate);
    if (!(m->noise_multiplier >= 0 && m->noise_multiplier < INFINITY))
        return ft_fail(st, FT_ERR_ARG, "privacy: a noise multiplier is 0 or more, not %g", m->noise_multiplier);
    if (!(delta > 0 && delta < 1))
        return ft_fail(st, FT_ERR_ARG, "privacy: delta is between 0 and 1, not %g", delta);
    return FT_OK;
}

ft_code ft_privacy_epsilon(ft_privacy_spent *out, const ft_privacy_mechanism *m, double delta, ft_accountant accountant,
                           ft_status *st)
{
    ft_code rc = check(m, delta, st);
    if (rc)
        return rc;
    *out = (ft_privacy_spent){0};
    if (m->steps == 0 || m->sampling_rate == 0)
        return FT_OK;
    /* Below 1e-8 the losses of one step leave float64's range. */
    if (m->noise_multiplier < 1e-8) {
        out->epsilon = INFINITY;
        out->reason = m->noise_multiplier == 0 ? "no noise is added: the noise multiplier is 0"
                                               : "the noise multiplier is too small for any bound";
        return FT_OK;
    }
    const int pld = accountant == FT_ACCOUNTANT_PLD && delta >= LEAST_PLD_DELTA;
    if (pld)
        rc = ft_privacy_pld_epsilon(out, m, delta, st);
    /* Where losses are too large for any grid, the other bound holds as well. */
    if (!rc && (!pld || !(out->epsilon < INFINITY)))
        ft_privacy_rdp_epsilon(out, m, delta);
    if (rc)
        return rc;
    if (!(out->epsilon < INFINITY)) {
        out->epsilon = INFINITY;
        out->order = 0;
        out->reason = "no finite bound holds at this delta";
    }
    if (out->epsilon == 0)
        out->order = 0;
    return FT_OK;
}

ft_code ft_privacy_sigma(double *sigma, ft_privacy_spent *spent, double q, uint64_t steps, double epsilon, double delta,
                         ft_accountant accountant, ft_status *st)
{
    ft_privacy_mechanism m = {.sampling_rate = q, .noise_multiplier = 0, .steps = steps};
    ft_privacy_spent now, kept = {0};
    if (!(epsilon > 0))
        return ft_fail(st, FT_ERR_ARG, "privacy: epsilon must be positive, not %g", epsilon);
    ft_code rc = ft_privacy_epsilon(&now, &m, delta, accountant, st);
    if (rc)
        return rc;
    if (now.epsilon <= epsilon) { /* no steps */
        *sigma = 0;
        if (spent)
            *spent = now;
        return FT_OK;
    }
    double high = 1, low = 0, at_high = 0, at_low = 0; /* logarithms of epsilon / target at the ends */
    for (int found = 0; !found; high *= found ? 1 : 2) {
        m.noise_multiplier = high;
        rc = ft_privacy_epsilon(&now, &m, delta, accountant, st);
        if (rc)
            return rc;
        found = now.epsilon <= epsilon;
        if (found) {
            kept = now;
            at_high = log(now.epsilon / epsilon);
        } else {
            low = high;
            at_low = log(now.epsilon / epsilon);
            if (high > 1e6)
                return ft_fail(st, FT_ERR_LIMIT, "privacy: no noise multiplier up to 1e6 keeps epsilon at %g", epsilon);
        }
    }
    /* Secant steps that stay half a tolerance inside the bracket, and halving where they crawl. */
    for (int i = 0; high - low > 1e-7 * high && high > 1e-8; i++) {
        const double span = at_low - at_high, nudge = 0.5e-7 * high;
        double next = low > 0 ? low * pow(high / low, at_low / span) : high / 2;
        if (!(low > 0) || i % 3 == 2 || !isfinite(span))
            next = low > 0 ? sqrt(low * high) : high / 2;
        m.noise_multiplier = fmin(fmax(next, low + nudge), high - nudge);
        rc = ft_privacy_epsilon(&now, &m, delta, accountant, st);
        if (rc)
            return rc;
        if (now.epsilon <= epsilon) {
            high = m.noise_multiplier;
            at_high = log(now.epsilon / epsilon);
            kept = now;
        } else {
            low = m.noise_multiplier;
            at_low = log(now.epsilon / epsilon);
        }
    }
    *sigma = high;
    if (spent)
        *spent = kept;
    return FT_OK;
}

/* Several mechanisms: rdp [ORDERS] are the sums of their divergences. */
typedef struct sums {
    double orders[FT_PRIVACY_ORDERS], rdp[FT_PRIVACY_ORDERS];
} sums;

static void sums_add(sums *s, const ft_privacy_mechanism *m)
{
    for (size_t i = 0; i < FT_PRIVACY_ORDERS && m->steps && m->sampling_rate > 0; i++)
        s->rdp[i] += (double)m->steps * ft_privacy_rdp(m->sampling_rate, m->noise_multiplier, s->orders[i]);
}

static void sums_convert(ft_privacy_spent *out, const sums *s, double delta)
{
    double most = 0;
    *out = (ft_privacy_spent){0};
    for (size_t i = 0; i < FT_PRIVACY_ORDERS; i++)
        most = fmax(most, s->rdp[i]);
    if (most > 0)
        out->epsilon = ft_privacy_convert(s->orders, s->rdp, FT_PRIVACY_ORDERS, delta, &out->order);
    if (!(out->epsilon < INFINITY)) {
        out->epsilon = INFINITY;
        out->order = 0;
        out->reason = "no finite bound holds at this delta";
    }
}

/* 1 where all have one rate and noise; *one is then all of them together. */
static int alike(ft_privacy_mechanism *one, const ft_privacy_mechanism *m, size_t count)
{
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        if (!m[i].steps)
            continue;
        if (found && (m[i].sampling_rate != one->sampling_rate || m[i].noise_multiplier != one->noise_multiplier))
            return 0;
        const uint64_t steps = found ? one->steps : 0;
        *one = m[i];
        one->steps += steps;
        found = 1;
    }
    if (!found)
        *one = (ft_privacy_mechanism){.noise_multiplier = 1};
    return 1;
}

ft_code ft_privacy_composed(ft_privacy_spent *out, const ft_privacy_mechanism *m, size_t count, double delta,
                            ft_accountant accountant, ft_accountant *used, ft_status *st)
{
    ft_privacy_mechanism one;
    sums s = {0};
    const int same = alike(&one, m, count);
    if (used)
        *used = same && delta >= LEAST_PLD_DELTA ? accountant : FT_ACCOUNTANT_RDP;
    if (same)
        return ft_privacy_epsilon(out, &one, delta, accountant, st);
    ft_privacy_orders(s.orders);
    for (size_t i = 0; i < count; i++) {
        const ft_code rc = check(&m[i], delta, st);
        if (rc)
            return rc;
        sums_add(&s, &m[i]);
    }
    sums_convert(out, &s, delta);
    return FT_OK;
}

/* What a run of `steps` more costs. */
typedef struct question {
    ft_privacy_mechanism all, more; /* all: what was before, where it is alike */
    sums before, each;
    int same;
    double delta;
    ft_accountant accountant;
} question;

static ft_code ask(const question *q, uint64_t steps, double *epsilon, ft_status *st)
{
    ft_privacy_spent spent;
    sums s = q->before;
    if (q->same) {
        ft_privacy_mechanism m = q->more;
        m.steps = q->all.steps + steps;
        const ft_code rc = ft_privacy_epsilon(&spent, &m, q->delta, q->accountant, st);
        *epsilon = rc ? INFINITY : spent.epsilon;
        return rc;
    }
    for (size_t i = 0; i < FT_PRIVACY_ORDERS; i++)
        s.rdp[i] += (double)steps * q->each.rdp[i];
    sums_convert(&spent, &s, q->delta);
    *epsilon = spent.epsilon;
    return FT_OK;
}

ft_code ft_privacy_steps_after(uint64_t *steps, const ft_privacy_mechanism *before, size_t count, double rate,
                               double sigma, double epsilon, double delta, ft_accountant accountant, ft_status *st)
{
    question q = {.more = {.sampling_rate = rate, .noise_multiplier = sigma, .steps = 1},
                  .delta = delta,
                  .accountant = accountant};
    double now = 0;
    ft_code rc = check(&q.more, delta, st);
    q.same = alike(&q.all, before, count) &&
             (q.all.steps == 0 || (q.all.sampling_rate == rate && q.all.noise_multiplier == sigma));
    ft_privacy_orders(q.before.orders);
    ft_privacy_orders(q.each.orders);
    for (size_t i = 0; i < count && !q.same && !rc; i++) {
        rc = check(&before[i], delta, st);
        sums_add(&q.before, &before[i]);
    }
    if (!q.same && !rc)
        sums_add(&q.each, &q.more);
    uint64_t low = 0, high = 1; /* low fits, high may not */
    for (; high < (uint64_t)1 << 40 && !rc; high *= 2) {
        rc = ask(&q, high, &now, st);
        if (!(now <= epsilon))
            break;
        low = high;
    }
    while (low + 1 < high && !rc) {
        const uint64_t middle = low + (high - low) / 2;
        rc = ask(&q, middle, &now, st);
        if (now <= epsilon)
            low = middle;
        else
            high = middle;
    }
    *steps = low;
    return rc;
}

ft_code ft_privacy_steps(uint64_t *steps, double q, double sigma, double epsilon, double delta,
                         ft_accountant accountant, ft_status *st)
{
    return ft_privacy_steps_after(steps, NULL, 0, q, sigma, epsilon, delta, accountant, st);
}
