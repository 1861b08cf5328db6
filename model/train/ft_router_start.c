#include "model/train/ft_router_start.h"

#include "base/ft_buffer.h"
#include "model/train/router_states.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double MARGIN = 1.5; /* of FT_ROUTER_WHITENED */

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Pooled covariance of one layer, into `second` of p. */
static void pool(ft_states *p, const ft_states *o, size_t layer)
{
    const size_t H = p->hidden;
    const double share = (double)o->tokens / (double)(o->tokens + p->tokens);
    const double *mp = p->mean + layer * H, *mo = o->mean + layer * H, *so = o->second + layer * H * H;
    double *s = p->second + layer * H * H;
    for (size_t i = 0; i < H; i++)
        for (size_t k = 0; k < H; k++)
            s[i * H + k] = (1 - share) * (s[i * H + k] - mp[i] * mp[k]) + share * (so[i * H + k] - mo[i] * mo[k]);
}

/* d and the bias of one layer; mp, mo [H] means, `second` of the layer, destroyed. */
static ft_code direction(double *d, double *bias, ft_router_init init, const double *mp, const double *mo,
                         double *second, size_t H, ft_status *st)
{
    const double lp = sqrt(dot(mp, mp, H)), lo = sqrt(dot(mo, mo, H));
    *bias = 0;
    for (size_t i = 0; i < H; i++)
        d[i] = init == FT_ROUTER_MEAN ? mo[i] / lo - mp[i] / lp : mo[i] - mp[i];
    if (init != FT_ROUTER_MEAN && !ft_states_solve(second, H, &d, 1))
        return ft_fail(st, FT_ERR_FORMAT, "router: the states' moments have no inverse");
    const double on_public = dot(d, mp, H), on_owner = dot(d, mo, H);
    if (init == FT_ROUTER_DISCRIMINANT)
        *bias = -(on_public + on_owner) / 2;
    if (init == FT_ROUTER_WHITENED) {
        const double a = 2 * MARGIN / (on_owner - on_public);
        for (size_t i = 0; i < H; i++)
            d[i] *= a;
        *bias = MARGIN - a * on_owner;
    }
    if (!isfinite(*bias) || !isfinite(dot(d, d, H)) || !(dot(d, d, H) > 0))
        return ft_fail(st, FT_ERR_FORMAT, "router: the owner's text and the public text do not differ");
    return FT_OK;
}

static void set_layer(ft_layer_parameters *y, const float *c, const double *d, double bias, size_t H, int set_public)
{
    float *rows = y->router->value;
    const double folded = bias > 0 || !y->bias ? bias : 0;
    for (size_t i = 0; i < H; i++) {
        rows[i] = set_public ? c[i] : rows[i];
        rows[H + i] = (float)((double)rows[i] + (d ? d[i] : 0) + folded * (double)c[i]);
    }
    if (y->bias)
        y->bias->value[0] = folded == 0 ? (float)bias : 0;
}

static ft_code start(ft_parameters *pair, const ft_router_public *r, int set_public, ft_states *public,
                     const ft_states *owner, ft_router_init init, ft_status *st)
{
    const size_t H = r->hidden;
    double *d = ft_alloc_array(H, sizeof(*d)), bias = 0;
    ft_code rc = d ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for the router's start");
    for (size_t l = 0; l < r->layers && !rc; l++) {
        if (init == FT_ROUTER_DISCRIMINANT)
            pool(public, owner, l);
        rc = direction(d, &bias, init, public->mean + l * H, owner->mean + l * H,
                       public->second ? public->second + l * H * H : NULL, H, st);
        if (!rc)
            set_layer(&pair->layers[l], r->row + l * H, d, bias, H, set_public);
    }
    free(d);
    return rc;
}

ft_code ft_router_start(ft_parameters *pair, const ft_router_public *r, int set_public, ft_trainer *t,
                        const ft_router_start_options *o, ft_status *st)
{
    ft_states public = {0}, owner = {0};
    const int second = o->init == FT_ROUTER_DISCRIMINANT || o->init == FT_ROUTER_WHITENED;
    ft_code rc = FT_OK;
    if (pair->config.experts != 2)
        return ft_fail(st, FT_ERR_ARG, "router: an owner's model has two experts, not %zu", pair->config.experts);
    if (o->init == FT_ROUTER_PUBLIC) {
        for (size_t l = 0; l < r->layers; l++)
            set_layer(&pair->layers[l], r->row + l * r->hidden, NULL, 0, r->hidden, set_public);
        return FT_OK;
    }
    if (o->public && (second || !r->mean))
        rc = ft_states_collect(&public, second, t, o->public, o->length, o->windows, st);
    else if (second || !r->mean)
        rc = ft_fail(st, FT_ERR_ARG, "router: this start needs public text");
    else {
        public.mean = ft_alloc_array(r->layers * r->hidden, sizeof(*public.mean));
        rc = public.mean ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for the router's start");
        for (size_t i = 0; i < r->layers * r->hidden && !rc; i++)
        public.mean[i] = (double)r->mean[i];
    }
    if (!rc)
        rc = ft_states_collect(&owner, o->init == FT_ROUTER_DISCRIMINANT, t, o->owner, o->length, o->windows, st);
    if (!rc)
        rc = start(pair, r, set_public, &public, &owner, o->init, st);
    ft_states_free(&public);
    ft_states_free(&owner);
    return rc;
}
