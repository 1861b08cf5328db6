#include "model/train/router_states.h"

#include "base/ft_buffer.h"
#include "model/train/ft_linear_backward.h"
#include "model/train/trainer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double RIDGE = 1e-3; /* of the mean diagonal */

/* Adds the states of the window that was read last. product [H, H] is scratch. */
static void add(ft_states *s, const ft_trainer *t, float *product)
{
    const size_t H = s->hidden;
    for (size_t l = 0; l < s->layers; l++) {
        const float *x = t->kept[l].mid;
        for (size_t n = 0; n < t->tokens; n++)
            for (size_t i = 0; i < H; i++)
                s->mean[l * H + i] += (double)x[n * H + i];
        if (!s->second)
            continue;
        memset(product, 0, H * H * sizeof(*product));
        ft_linear_backward_weight(t->pool, product, x, H, x, t->tokens, H, H);
        for (size_t i = 0; i < H * H; i++)
            s->second[l * H * H + i] += (double)product[i];
    }
}

ft_code ft_states_collect(ft_states *out, int with_second, ft_trainer *t, ft_train_data *text, size_t length,
                          size_t windows, ft_status *st)
{
    const size_t L = t->p.config.layers, H = t->p.config.hidden;
    const uint64_t there = ft_train_data_tokens(text) / length;
    *out = (ft_states){.layers = L, .hidden = H, .mean = ft_alloc_array(L * H, sizeof(double))};
    out->second = with_second ? ft_alloc_array(L * H * H, sizeof(double)) : NULL;
    float *product = ft_alloc_array(with_second ? H * H : 1, sizeof(*product));
    int32_t *ids = ft_alloc_array(2 * length, sizeof(*ids)), *labels = ids ? ids + length : NULL;
    uint32_t *begin = ft_alloc_array(length, sizeof(*begin));
    ft_code rc = FT_OK;
    if (!out->mean || (with_second && !out->second) || !product || !ids || !begin)
        rc = ft_fail(st, FT_ERR_MEM, "no memory for the moments of %zu layers' states", L);
    if (!rc && t->options.recompute)
        rc = ft_fail(st, FT_ERR_ARG, "the router's start needs kept activations");
    windows = there && there < windows ? (size_t)there : windows;
    for (size_t w = 0; w < windows && !rc; w++) {
        ft_losses losses;
        rc = ft_train_data_window(text, 0, w, length, ids, labels, begin, st);
        const ft_batch b = {.ids = ids, .labels = labels, .begin = begin, .sequences = 1, .length = length};
        if (!rc)
            rc = ft_trainer_evaluate(t, &b, &losses, st);
        if (!rc)
            add(out, t, product);
    }
    out->tokens = (uint64_t)windows * length;
    for (size_t i = 0; i < L * H && !rc; i++)
        out->mean[i] /= (double)out->tokens;
    for (size_t i = 0; out->second && i < L * H * H && !rc; i++)
        out->second[i] /= (double)out->tokens;
    free(product);
    free(ids);
    free(begin);
    if (rc)
        ft_states_free(out);
    return rc;
}

void ft_states_free(ft_states *s)
{
    free(s->mean);
    free(s->second);
    memset(s, 0, sizeof(*s));
}

/* a = l l^T, in place; 0 where a is not positive definite. */
static int cholesky(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < j; k++)
                sum -= a[i * n + k] * a[j * n + k];
            if (i == j && !(sum > 0 && isfinite(sum)))
                return 0;
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
    return 1;
}

int ft_states_solve(double *a, size_t n, double *const *x, size_t count)
{
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        trace += a[i * n + i];
    for (size_t i = 0; i < n; i++)
        a[i * n + i] += RIDGE * trace / (double)n;
    if (!cholesky(a, n))
        return 0;
    for (size_t v = 0; v < count; v++) {
        double *y = x[v];
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; k < i; k++)
                y[i] -= a[i * n + k] * y[k];
            y[i] /= a[i * n + i];
        }
        for (size_t i = n; i-- > 0;) {
            for (size_t k = i + 1; k < n; k++)
                y[i] -= a[k * n + i] * y[k];
            y[i] /= a[i * n + i];
        }
    }
    return 1;
}
