#include "model/train/ft_router_start.h"

#include "base/ft_buffer.h"
#include "model/train/trainer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double RIDGE = 1e-3; /* of the mean diagonal */

typedef struct moments {
    double *mean;   /* [layers, H] */
    double *second; /* [layers, H, H], or NULL */
} moments;

/* Adds the states of the batch that was read last. Rows of `second` on all threads. */
typedef struct adder {
    const ft_trainer *t;
    const moments *m;
} adder;

static void add_row(void *context, size_t task, unsigned worker)
{
    const adder *a = context;
    const size_t H = a->t->p.config.hidden, l = task / H, i = task % H;
    const float *x = a->t->kept[l].mid;
    double *row = a->m->second ? a->m->second + (l * H + i) * H : NULL;
    (void)worker;
    for (size_t n = 0; n < a->t->tokens; n++) {
        const double v = (double)x[n * H + i];
        a->m->mean[l * H + i] += v;
        for (size_t k = 0; row && k < H; k++)
            row[k] += v * (double)x[n * H + k];
    }
}

static ft_code collect(ft_trainer *t, moments *m, ft_train_data *d, size_t length, size_t windows, ft_status *st)
{
    const size_t H = t->p.config.hidden, L = t->p.config.layers;
    int32_t *ids = ft_alloc_array(2 * length, sizeof(*ids)), *labels = ids ? ids + length : NULL;
    uint32_t *begin = ft_alloc_array(length, sizeof(*begin));
    ft_code rc = ids && begin ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for the router's start");
    for (size_t w = 0; w < windows && !rc; w++) {
        ft_losses losses;
        rc = ft_train_data_window(d, 0, w, length, ids, labels, begin, st);
        const ft_batch b = {.ids = ids, .labels = labels, .begin = begin, .sequences = 1, .length = length};
        if (!rc)
            rc = ft_trainer_evaluate(t, &b, &losses, st);
        adder a = {.t = t, .m = m};
        if (!rc)
            ft_pool_run(t->pool, L * H, add_row, &a);
    }
    const double scale = 1 / (double)(windows * length);
    for (size_t i = 0; i < L * H; i++)
        m->mean[i] *= scale;
    for (size_t i = 0; m->second && i < L * H * H; i++)
        m->second[i] *= scale;
    free(ids);
    free(begin);
    return rc;
}

/* s = l l^T, in place; 0 where s is not positive definite. */
static int cholesky(double *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = s[i * n + j];
            for (size_t k = 0; k < j; k++)
                sum -= s[i * n + k] * s[j * n + k];
            if (i == j && !(sum > 0))
                return 0;
            s[i * n + j] = i == j ? sqrt(sum) : sum / s[j * n + j];
        }
    return 1;
}

static void solve(const double *l, double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++)
            x[i] -= l[i * n + k] * x[k];
        x[i] /= l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++)
            x[i] -= l[k * n + i] * x[k];
        x[i] /= l[i * n + i];
    }
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Rows of one layer; scratch [2 H]. */
static ft_code set_rows(float *rows, double *second, const double *public, const double *owner, size_t H, double margin,
                        double *scratch, ft_status *st)
{
    double *c = scratch, *d = scratch + H, trace = 0;
    for (size_t i = 0; i < H; i++)
        trace += second[i * H + i];
    for (size_t i = 0; i < H; i++)
        second[i * H + i] += RIDGE * trace / (double)H;
    if (!cholesky(second, H))
        return ft_fail(st, FT_ERR_FORMAT, "router: the public model's states have no inverse second moment");
    for (size_t i = 0; i < H; i++) {
        c[i] = public[i];
        d[i] = owner[i] - public[i];
    }
    solve(second, c, H);
    solve(second, d, H);
    /* a d.m_o + b c.m_o = margin, a d.m + b c.m = -margin */
    const double dn = dot(d, owner, H), cn = dot(c, owner, H), dp = dot(d, public, H), cp = dot(c, public, H);
    const double det = dn * cp - cn * dp, a = margin * (cp + cn) / det, b = -margin * (dn + dp) / det;
    if (!isfinite(a) || !isfinite(b))
        return ft_fail(st, FT_ERR_FORMAT, "router: the owner's text and the public text do not differ");
    for (size_t i = 0; i < H; i++) {
        rows[i] = (float)c[i];
        rows[H + i] = (float)(c[i] + a * d[i] + b * c[i]);
    }
    return FT_OK;
}

ft_code ft_router_start(ft_trainer *t, ft_train_data *owner, ft_train_data *public, size_t length, size_t windows,
                        double margin, ft_status *st)
{
    const size_t H = t->p.config.hidden, L = t->p.config.layers;
    moments p = {.mean = ft_alloc_array(L * H, sizeof(double)), .second = ft_alloc_array(L * H * H, sizeof(double))};
    moments o = {.mean = ft_alloc_array(L * H, sizeof(double))};
    double *scratch = ft_alloc_array(2 * H, sizeof(*scratch));
    ft_code rc = FT_OK;
    if (t->options.recompute || t->p.config.experts != 2)
        rc = ft_fail(st, FT_ERR_ARG, "router: its start needs a pair and kept activations");
    if (!rc && (!p.mean || !p.second || !o.mean || !scratch))
        rc = ft_fail(st, FT_ERR_MEM, "no memory for the router's start");
    if (!rc)
        rc = collect(t, &p, public, length, windows, st);
    if (!rc)
        rc = collect(t, &o, owner, length, windows, st);
    for (size_t l = 0; l < L && !rc; l++)
        rc = set_rows(t->p.layers[l].router->value, p.second + l * H * H, p.mean + l * H, o.mean + l * H, H, margin,
                      scratch, st);
    free(p.mean);
    free(p.second);
    free(o.mean);
    free(scratch);
    return rc;
}
