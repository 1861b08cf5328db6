#include "model/eval/ft_eval_combine.h"

#include "model/train/ft_experts.h"

#include <string.h>

/* Adds a model's values times `share`; the sum is float32, of few terms. */
static ft_code add_model(ft_parameters *sum, const char *folder, float share, ft_status *st)
{
    ft_parameters p;
    ft_code rc = ft_parameters_open(&p, folder, st);
    if (rc)
        return rc;
    if (p.config.experts > 1)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: has %zu experts; dense models are combined", folder, p.config.experts);
    if (!rc && p.count != sum->count)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: has %zu tensors, the first model %zu", folder, p.count, sum->count);
    for (size_t i = 0; i < sum->count && !rc; i++) {
        if (strcmp(p.all[i].name, sum->all[i].name) != 0 || p.all[i].count != sum->all[i].count)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s is not of the first model's shape", folder, p.all[i].name);
        for (size_t k = 0; k < sum->all[i].count && !rc; k++)
            sum->all[i].value[k] += share * p.all[i].value[k];
    }
    ft_parameters_close(&p);
    return rc;
}

static ft_code mean(ft_parameters *out, const char *const *models, size_t count, ft_status *st)
{
    ft_code rc = ft_parameters_open(out, models[0], st);
    if (rc)
        return rc;
    if (out->config.experts > 1)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: has %zu experts; dense models are combined", models[0],
                     out->config.experts);
    for (size_t i = 0; i < out->count && !rc; i++)
        memset(out->all[i].value, 0, out->all[i].count * sizeof(float));
    for (size_t m = 0; m < count && !rc; m++)
        rc = add_model(out, models[m], 1.0f / (float)count, st);
    if (rc)
        ft_parameters_close(out);
    return rc;
}

ft_code ft_eval_soup(const char *const *models, size_t count, const char *out, ft_status *st)
{
    ft_parameters p;
    ft_code rc = mean(&p, models, count, st);
    if (rc)
        return rc;
    rc = ft_model_export(&p, models[0], out, 0, st);
    ft_parameters_close(&p);
    return rc;
}

/* Expert e's matrices become those of the dense model in `folder`. */
static ft_code take_ffn(ft_parameters *into, size_t e, const char *folder, ft_status *st)
{
    ft_parameters p;
    const ft_code rc = ft_parameters_open(&p, folder, st);
    if (rc)
        return rc;
    for (size_t l = 0; l < into->config.layers; l++)
        for (size_t i = 0; i < 3; i++) {
            ft_parameter *x = &into->layers[l].experts[3 * e + i];
            memcpy(x->value, p.layers[l].experts[i].value, x->count * sizeof(float));
        }
    ft_parameters_close(&p);
    return FT_OK;
}

ft_code ft_eval_stack(const char *const *models, size_t count, size_t top_k, uint64_t seed, const char *out,
                      ft_status *st)
{
    ft_parameters p, bigger;
    ft_code rc = mean(&p, models, count, st);
    if (rc)
        return rc;
    while (!rc && p.config.experts < count) {
        rc = ft_parameters_add_expert(&bigger, &p, 0, 0, st);
        ft_parameters_close(&p);
        p = rc ? (ft_parameters){0} : bigger;
    }
    for (size_t e = 0; e < count && !rc; e++)
        rc = take_ffn(&p, e, models[e], st);
    if (!rc) {
        ft_parameters_draw_router(&p, seed);
        p.config.top_k = top_k < count ? top_k : count;
        rc = ft_model_export(&p, models[0], out, 0, st);
    }
    ft_parameters_close(&p);
    return rc;
}
