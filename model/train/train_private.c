/* Private steps: examples drawn, clipped and noised; what they cost, and who keeps count. */
#include "base/ft_buffer.h"
#include "model/train/train_run_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void example_text(char out[80], const ft_train_options *o)
{
    if (o->example_document)
        snprintf(out, 80, "one document");
    else
        snprintf(out, 80, "at most %zu tokens of one document", o->length);
}

/* --- Steps ------------------------------------------------------------------------------------- */

/* Every example enters with probability `rate`; the caller frees *out. */
static ft_code draw(ft_run *r, ft_noise *noise, uint32_t **out, size_t *drawn, ft_status *st)
{
    *drawn = 0;
    *out = ft_alloc_array(r->examples, sizeof(**out));
    if (!*out)
        return ft_fail(st, FT_ERR_MEM, "no memory to draw from %llu examples", (unsigned long long)r->examples);
    for (uint64_t e = 0; e < r->examples; e++)
        if (ft_noise_unit(noise) < r->rate)
            (*out)[(*drawn)++] = (uint32_t)e;
    return FT_OK;
}

static size_t padded(const ft_run *r, size_t n)
{
    return (n + r->o->micro - 1) / r->o->micro * r->o->micro;
}

/* A sequence without labels has no gradient. */
static void blank(ft_run *r, size_t from, size_t to)
{
    for (size_t i = from * r->o->length; i < to * r->o->length; i++) {
        r->ids[i] = 0;
        r->labels[i] = -100;
    }
}

static int is_long(const ft_run *r, uint32_t example)
{
    return r->o->example_document && ft_train_data_pieces(r->o->data, example, r->o->length) > 1;
}

/* Examples of one sequence each, `micro` at a time, by ghost norms. */
static ft_code short_examples(ft_run *r, const uint32_t *chosen, size_t drawn, double *loss, ft_status *st)
{
    const ft_train_options *o = r->o;
    const size_t T = o->length;
    size_t n = 0;
    ft_code rc = ft_run_reserve(r, padded(r, drawn), st);
    for (size_t i = 0; i < drawn && !rc; i++) {
        if (is_long(r, chosen[i]))
            continue;
        if (o->example_document)
            ft_train_data_piece(o->data, chosen[i], 0, T, r->ids + n * T, r->labels + n * T);
        else
            ft_train_data_example(o->data, chosen[i], T, r->ids + n * T, r->labels + n * T);
        n++;
    }
    if (!rc)
        blank(r, n, padded(r, n));
    double *losses = ft_alloc_array(o->micro, sizeof(*losses));
    if (!rc && !losses)
        rc = ft_fail(st, FT_ERR_MEM, "no memory for a step's losses");
    for (size_t i = 0; i < n && !rc; i += o->micro) {
        const ft_batch b = ft_run_part(r, i, i + o->micro, 0);
        ft_losses l;
        rc = ft_trainer_clipped(r->t, &b, o->dp_clip, NULL, losses, &l, st);
        for (size_t k = 0; k < o->micro && i + k < n && !rc; k++)
            *loss += losses[k];
    }
    free(losses);
    return rc;
}

/* A document of several sequences, one example. */
static ft_code long_example(ft_run *r, uint32_t document, double *loss, ft_status *st)
{
    const ft_train_options *o = r->o;
    const size_t T = o->length, pieces = (size_t)ft_train_data_pieces(o->data, document, T);
    ft_losses l = {0};
    ft_code rc = ft_run_reserve(r, padded(r, pieces), st);
    for (size_t p = 0; p < pieces && !rc; p++)
        ft_train_data_piece(o->data, document, p, T, r->ids + p * T, r->labels + p * T);
    if (rc)
        return rc;
    blank(r, pieces, padded(r, pieces));
    const ft_batch b = ft_run_part(r, 0, padded(r, pieces), 0);
    rc = ft_trainer_clipped_whole(r->t, &b, o->micro, o->dp_clip, NULL, &l, st);
    *loss += l.ce;
    return rc;
}

/* N(0, (sigma C)^2) on every trained element of the sum, then division by the expected batch. */
static void add_noise(ft_run *r, ft_noise *noise, double share)
{
    const ft_parameters *p = ft_trainer_parameters(r->t);
    const double deviation = r->o->noise_multiplier * r->o->dp_clip, scale = share / (double)r->o->batch;
    for (size_t i = 0; i < p->count; i++)
        for (size_t k = p->all[i].first; p->all[i].grad && k < p->all[i].count; k++)
            p->all[i].grad[k] = (float)(((double)p->all[i].grad[k] + deviation * ft_noise_normal(noise)) * scale);
}

/* Public text is not private: its gradient is added after the noise. */
static ft_code add_public(ft_run *r, uint64_t step, ft_status *st)
{
    const ft_train_options *o = r->o;
    const size_t T = o->length, n = (size_t)fmax(1, floor(o->public_share * (double)o->batch + 0.5));
    ft_code rc = ft_run_reserve(r, padded(r, n), st);
    for (size_t i = 0; i < n && !rc; i++)
        rc = ft_train_data_window(o->public_data, o->seed, step * n + i, T, r->ids + i * T, r->labels + i * T,
                                  r->begin + i * T, st);
    const size_t all = rc ? 0 : ft_run_labelled(r, 0, n);
    for (size_t i = 0; i < n && !rc; i += o->micro) {
        const size_t to = i + o->micro < n ? i + o->micro : n;
        const ft_batch b = ft_run_part(r, i, to, 1);
        const double share = all ? (double)ft_run_labelled(r, i, to) / (double)all : 0;
        ft_losses l;
        rc = ft_trainer_gradient_part(r->t, &b, o->public_share * share, o->public_share * (double)(to - i) / (double)n,
                                      &l, st);
    }
    return rc;
}

ft_code ft_run_private_gradients(ft_run *r, uint64_t step, ft_train_metrics *m, ft_status *st)
{
    const ft_train_options *o = r->o;
    const int mixed = o->public_data && o->public_share > 0;
    uint32_t *chosen = NULL;
    ft_noise noise;
    size_t drawn = 0;
    double loss = 0;
    ft_noise_init(&noise, r->state.key, step);
    ft_code rc = draw(r, &noise, &chosen, &drawn, st);
    if (!rc)
        rc = short_examples(r, chosen, drawn, &loss, st);
    for (size_t i = 0; i < drawn && !rc; i++)
        if (is_long(r, chosen[i]))
            rc = long_example(r, chosen[i], &loss, st);
    free(chosen);
    m->ce = m->loss = drawn ? loss / (double)drawn : 0;
    m->tokens = drawn * o->length;
    if (!rc)
        add_noise(r, &noise, mixed ? 1 - o->public_share : 1);
    if (!rc && mixed)
        rc = add_public(r, step, st);
    return rc;
}

/* --- Budget -------------------------------------------------------------------------------------- */

static ft_code open_ledgers(ft_run *r, ft_status *st)
{
    const ft_train_options *o = r->o;
    char text[80];
    ft_code rc = FT_OK;
    unsigned char secret[FT_NOISE_KEY_BYTES + 6] = "ledger";
    char hex[FT_DIGEST_HEX];
    memcpy(secret + 6, r->state.key, FT_NOISE_KEY_BYTES);
    ft_digest d = ft_digest_of(secret, sizeof(secret));
    ft_digest_hex(&d, hex);
    memcpy(r->name, hex, FT_LEDGER_RUN - 1);
    d = ft_train_data_digest(o->data);
    ft_digest_hex(&d, r->data);
    example_text(text, o);
    r->ledgers = ft_alloc_array(o->ledger_count, sizeof(*r->ledgers));
    if (!r->ledgers)
        return ft_fail(st, FT_ERR_MEM, "no memory for the ledgers");
    for (size_t i = 0; i < o->ledger_count && !rc; i++) {
        rc = ft_ledger_open(&r->ledgers[i], o->ledgers[i], text, st);
        if (!rc && ft_ledger_steps(r->ledgers[i], r->name) < r->state.step)
            rc = ft_fail(st, FT_ERR_FORMAT,
                         "%s: does not know this run's %llu steps: the ledger was deleted, or is another one",
                         o->ledgers[i], (unsigned long long)r->state.step);
    }
    return rc;
}

void ft_run_close_ledgers(ft_run *r)
{
    for (size_t i = 0; r->ledgers && i < r->o->ledger_count; i++)
        ft_ledger_close(r->ledgers[i]);
    free(r->ledgers);
    r->ledgers = NULL;
}

/* Steps that one ledger (NULL: nothing was spent before) allows this run. */
static ft_code allowed_by(ft_run *r, ft_ledger *l, const char *path, uint64_t *allowed, ft_status *st)
{
    const ft_train_options *o = r->o;
    size_t count = 0;
    ft_privacy_spent before;
    const ft_privacy_mechanism *others = l ? ft_ledger_others(l, r->name, &count) : NULL;
    if (l && !others)
        return ft_fail(st, FT_ERR_MEM, "no memory for the ledger's runs");
    ft_code rc = ft_privacy_steps_after(allowed, others, count, r->rate, o->noise_multiplier, o->epsilon, o->delta,
                                        o->accountant, st);
    if (rc || *allowed)
        return rc;
    rc = ft_privacy_composed(&before, others, count, o->delta, o->accountant, NULL, st);
    if (rc)
        return rc;
    if (count)
        return ft_fail(st, FT_ERR_LIMIT,
                       "%s: the budget is spent: earlier runs cost epsilon %.4g at delta %g, and one step more would "
                       "exceed %g",
                       path, before.epsilon, o->delta, o->epsilon);
    return ft_fail(st, FT_ERR_LIMIT,
                   "one step already exceeds epsilon %g at delta %g; raise the noise multiplier "
                   "above %g ('flextrace privacy sigma' says how far)",
                   o->epsilon, o->delta, o->noise_multiplier);
}

ft_code ft_run_budget(ft_run *r, uint64_t *end, ft_train_report *out, ft_status *st)
{
    const ft_train_options *o = r->o;
    const uint64_t there =
        o->example_document ? ft_train_data_documents(o->data) : ft_train_data_examples(o->data, o->length);
    const uint64_t declared = o->examples ? o->examples : there;
    r->examples = there;
    if (o->batch > declared || there > UINT32_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "a batch of %zu out of %llu examples cannot be drawn; use a smaller --batch",
                       o->batch, (unsigned long long)declared);
    out->sampling_rate = r->rate = (double)o->batch / (double)declared;
    *end = o->steps;
    ft_code rc = open_ledgers(r, st);
    for (size_t i = 0; i < (o->ledger_count ? o->ledger_count : 1) && !rc; i++) {
        uint64_t allowed = 0;
        rc = allowed_by(r, o->ledger_count ? r->ledgers[i] : NULL, o->ledger_count ? o->ledgers[i] : "", &allowed, st);
        out->budget_reached |= allowed < o->steps;
        *end = allowed < *end ? allowed : *end;
    }
    if (!rc && *end < r->state.step) { /* of a budget that was larger when it began */
        ft_train_report so_far = *out;
        rc = ft_run_spent(r, &so_far, st);
        if (!rc)
            rc = ft_fail(st, FT_ERR_LIMIT,
                         "%s: the budget is spent: its %llu steps cost epsilon %.4g at delta %g, more than %g",
                         o->folder, (unsigned long long)r->state.step, so_far.spent.epsilon, o->delta, o->epsilon);
    }
    return rc;
}

ft_code ft_run_set_aside(ft_run *r, uint64_t end, ft_status *st)
{
    const ft_privacy_mechanism m = {.sampling_rate = r->rate, .noise_multiplier = r->o->noise_multiplier, .steps = end};
    ft_code rc = FT_OK;
    for (size_t i = 0; r->ledgers && i < r->o->ledger_count && !rc; i++)
        rc = ft_ledger_set_aside(r->ledgers[i], r->name, r->data, &m, st);
    return rc;
}

/* The most that any ledger says, with this run's own steps. */
ft_code ft_run_spent(ft_run *r, ft_train_report *out, ft_status *st)
{
    const ft_train_options *o = r->o;
    const ft_privacy_mechanism own = {
        .sampling_rate = r->rate, .noise_multiplier = o->noise_multiplier, .steps = r->state.step};
    out->accountant = o->accountant;
    ft_code rc = ft_privacy_epsilon(&out->spent, &own, o->delta, o->accountant, st);
    if (out->spent.order > 0) /* a bound that pld does not give */
        out->accountant = FT_ACCOUNTANT_RDP;
    out->own = out->spent;
    for (size_t i = 0; r->ledgers && i < o->ledger_count && !rc; i++) {
        size_t count = 0;
        const ft_privacy_mechanism *others = ft_ledger_others(r->ledgers[i], r->name, &count);
        ft_privacy_mechanism *all = others ? ft_alloc_array(count + 1, sizeof(*all)) : NULL;
        ft_privacy_spent spent;
        ft_accountant used;
        if (!all)
            return ft_fail(st, FT_ERR_MEM, "no memory for the ledger's runs");
        memcpy(all, others, count * sizeof(*all));
        all[count] = own;
        rc = ft_privacy_composed(&spent, all, count + 1, o->delta, o->accountant, &used, st);
        free(all);
        if (!rc && count && (out->earlier_runs == 0 || spent.epsilon > out->spent.epsilon)) {
            out->spent = spent;
            out->accountant = used;
            out->earlier_runs = count;
        }
    }
    return rc;
}
