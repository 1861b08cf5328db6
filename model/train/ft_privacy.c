#include "model/train/privacy_internal.h"

#include <math.h>

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
    if (accountant == FT_ACCOUNTANT_PLD)
        rc = ft_privacy_pld_epsilon(out, m, delta, st);
    /* Where losses are too large for any grid, the other bound holds as well. */
    if (!rc && (accountant == FT_ACCOUNTANT_RDP || !(out->epsilon < INFINITY)))
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

ft_code ft_privacy_steps(uint64_t *steps, double q, double sigma, double epsilon, double delta,
                         ft_accountant accountant, ft_status *st)
{
    ft_privacy_mechanism m = {.sampling_rate = q, .noise_multiplier = sigma, .steps = 1};
    ft_privacy_spent now;
    uint64_t low = 0, high = 1; /* low fits, high may not */
    for (; high < (uint64_t)1 << 40; high *= 2) {
        m.steps = high;
        const ft_code rc = ft_privacy_epsilon(&now, &m, delta, accountant, st);
        if (rc)
            return rc;
        if (!(now.epsilon <= epsilon))
            break;
        low = high;
    }
    while (low + 1 < high) {
        m.steps = low + (high - low) / 2;
        const ft_code rc = ft_privacy_epsilon(&now, &m, delta, accountant, st);
        if (rc)
            return rc;
        if (now.epsilon <= epsilon)
            low = m.steps;
        else
            high = m.steps;
    }
    *steps = low;
    return FT_OK;
}
