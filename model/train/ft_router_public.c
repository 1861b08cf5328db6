/* The constant direction: made, kept beside the public model, folded into. */
#include "base/ft_buffer.h"
#include "model/ft_safetensors.h"
#include "model/kernels/ft_float.h"
#include "model/train/router_states.h"
#include "model/train/trainer_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ft_code ft_router_public_make(ft_router_public *out, ft_trainer *t, ft_train_data *text, size_t length, size_t windows,
                              ft_status *st)
{
    const size_t L = t->p.config.layers, H = t->p.config.hidden;
    const float constant = ft_parameters_constant(&t->p);
    ft_states s = {0};
    memset(out, 0, sizeof(*out));
    if (t->p.config.experts > 1)
        return ft_fail(st, FT_ERR_FORMAT, "router: a public model has one expert, not %zu", t->p.config.experts);
    ft_code rc = ft_states_collect(&s, 1, t, text, length, windows, st);
    if (rc)
        return rc;
    *out = (ft_router_public){.layers = L, .hidden = H, .tokens = s.tokens};
    out->row = ft_alloc_array(L * H, sizeof(*out->row));
    out->mean = ft_alloc_array(L * H, sizeof(*out->mean));
    if (!out->row || !out->mean)
        rc = ft_fail(st, FT_ERR_MEM, "no memory for the public router");
    for (size_t l = 0; l < L && !rc; l++) {
        double *m = s.mean + l * H;
        for (size_t i = 0; i < H; i++)
            out->mean[l * H + i] = (float)m[i];
        if (!ft_states_solve(s.second + l * H * H, H, &m, 1))
            rc = ft_fail(st, FT_ERR_FORMAT, "router: the public model's states have no inverse second moment");
        for (size_t i = 0; i < H; i++)
            out->row[l * H + i] = constant == 0 ? (float)m[i] : i ? 0 : 1 / constant;
    }
    ft_states_free(&s);
    if (rc)
        ft_router_public_close(out);
    return rc;
}

void ft_router_public_close(ft_router_public *r)
{
    free(r->row);
    free(r->mean);
    memset(r, 0, sizeof(*r));
}

ft_code ft_router_public_save(const ft_router_public *r, const char *path, ft_status *st)
{
    const size_t L = r->layers, H = r->hidden;
    char tokens[24];
    ft_parameters view = {.all = ft_alloc_array(2 * L, sizeof(*view.all))};
    if (!view.all || !L) {
        free(view.all);
        return ft_fail(st, L ? FT_ERR_MEM : FT_ERR_ARG, "%s: %s", path, L ? "out of memory" : "no layers");
    }
    snprintf(tokens, sizeof(tokens), "%llu", (unsigned long long)r->tokens);
    for (size_t i = 0; i < (r->mean ? 2 * L : L); i++) {
        ft_parameter *p = &view.all[view.count++];
        *p = (ft_parameter){.dims = 2, .shape = {1, H}, .count = H};
        p->value = (i < L ? r->row : r->mean) + i % L * H;
        snprintf(p->name, sizeof(p->name), "model.layers.%zu.mlp.%s", i % L, i < L ? "gate.weight" : "public_mean");
    }
    const char *const metadata[] = {"public_tokens", tokens, NULL};
    const ft_code rc = ft_parameters_save(&view, path, FT_SAVE_ALL, 0, metadata, st);
    free(view.all);
    return rc;
}

static ft_code read_rows(float *out, ft_weights *w, const char *path, const char *name, const ft_model_config *c,
                         ft_status *st)
{
    for (size_t l = 0; l < c->layers; l++) {
        char full[96];
        snprintf(full, sizeof(full), "model.layers.%zu.mlp.%s", l, name);
        const ft_tensor *t = ft_weights_find(w, full);
        if (!t || t->dims != 2 || t->shape[0] != 1 || t->shape[1] != c->hidden || !ft_tensor_widen(out, t, c->hidden))
            return ft_fail(st, FT_ERR_FORMAT,
                           "%s: tensor %s is missing, or not [1, %zu]: no public router of this model", path, full,
                           c->hidden);
        for (size_t i = 0; i < c->hidden; i++)
            if (!isfinite(out[i]))
                return ft_fail(st, FT_ERR_FORMAT, "%s: tensor %s: element %zu is not finite", path, full, i);
        out += c->hidden;
    }
    return FT_OK;
}

ft_code ft_router_public_open(ft_router_public *out, const char *path, const ft_model_config *c, ft_status *st)
{
    ft_weights *w = NULL;
    memset(out, 0, sizeof(*out));
    ft_code rc = ft_weights_open_file(&w, path, st);
    if (rc)
        return rc;
    *out = (ft_router_public){.layers = c->layers, .hidden = c->hidden};
    const int has_mean = ft_weights_find(w, "model.layers.0.mlp.public_mean") != NULL;
    const char *tokens = ft_weights_metadata(w, 0, "public_tokens");
    out->tokens = tokens ? strtoull(tokens, NULL, 10) : 0;
    out->row = ft_alloc_array(c->layers * c->hidden, sizeof(*out->row));
    out->mean = has_mean ? ft_alloc_array(c->layers * c->hidden, sizeof(*out->mean)) : NULL;
    if (!out->row || (has_mean && !out->mean))
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    if (!rc)
        rc = read_rows(out->row, w, path, "gate.weight", c, st);
    if (!rc && has_mean)
        rc = read_rows(out->mean, w, path, "public_mean", c, st);
    ft_weights_close(w);
    if (rc)
        ft_router_public_close(out);
    return rc;
}

/* --- Folding ----------------------------------------------------------------------------------- */

void ft_router_fold(ft_parameters *p, const ft_router_public *r)
{
    const size_t H = r->hidden;
    for (size_t l = 0; l < p->config.layers; l++) {
        ft_layer_parameters *y = &p->layers[l];
        for (size_t e = 1; y->bias && e < p->config.experts; e++) {
            const double b = fmin((double)y->bias->value[e - 1], 0);
            float *row = y->router->value + e * H;
            for (size_t i = 0; i < H && b < 0; i++)
                row[i] = (float)((double)row[i] + b * (double)r->row[l * H + i]);
        }
        if (y->bias)
            y->bias->gone = 1;
        y->bias = NULL;
    }
}

typedef struct reading {
    ft_trainer *t;
    ft_train_data *text;
    size_t length, windows;
    uint32_t *first; /* [windows, layers, length] */
    uint64_t same;
} reading;

/* Nats a labelled token; first choices are kept, or compared with those that were. */
static ft_code read_all(reading *r, int compare, double *nats, ft_status *st)
{
    const size_t T = r->length, L = r->t->p.config.layers;
    int32_t *ids = ft_alloc_array(2 * T, sizeof(*ids)), *labels = ids ? ids + T : NULL;
    uint32_t *begin = ft_alloc_array(T, sizeof(*begin));
    ft_code rc = ids && begin ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory to measure the router");
    double sum = 0;
    uint64_t labelled = 0;
    for (size_t w = 0; w < r->windows && !rc; w++) {
        ft_losses losses = {0};
        rc = ft_train_data_window(r->text, 0, w, T, ids, labels, begin, st);
        const ft_batch b = {.ids = ids, .labels = labels, .begin = begin, .sequences = 1, .length = T};
        if (!rc)
            rc = ft_trainer_evaluate(r->t, &b, &losses, st);
        sum += losses.ce * (double)losses.labelled;
        labelled += losses.labelled;
        for (size_t l = 0; l < L && !rc; l++)
            for (size_t n = 0; n < T; n++) {
                uint32_t *was = &r->first[(w * L + l) * T + n];
                const uint32_t is = r->t->kept[l].chosen[n * r->t->top_k];
                r->same += compare && *was == is;
                *was = is;
            }
    }
    *nats = labelled ? sum / (double)labelled : 0;
    free(ids);
    free(begin);
    return rc;
}

ft_code ft_router_fold_measured(ft_trainer *t, const ft_router_public *r, ft_train_data *text, size_t length,
                                size_t windows, ft_fold_report *out, ft_status *st)
{
    const uint64_t there = ft_train_data_tokens(text) / length;
    const size_t L = t->p.config.layers;
    const int recompute = t->options.recompute;
    reading m = {.t = t, .text = text, .length = length};
    m.windows = there < windows ? (size_t)there : windows;
    m.first = ft_alloc_array(m.windows * L * length, sizeof(*m.first));
    memset(out, 0, sizeof(*out));
    ft_code rc = m.first ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory to measure the router");
    t->options.recompute = 0; /* one window is little, and every layer's choices are wanted */
    t->sequences = 0;
    if (!rc)
        rc = read_all(&m, 0, &out->exact, st);
    ft_router_fold(&t->p, r);
    if (!rc)
        rc = read_all(&m, 1, &out->folded, st);
    t->options.recompute = recompute;
    t->sequences = 0;
    const double bits = ft_train_data_bytes(text)
                            ? (double)ft_train_data_tokens(text) / log(2) / (double)ft_train_data_bytes(text)
                            : 1 / log(2);
    out->exact *= bits;
    out->folded *= bits;
    out->tokens = (uint64_t)m.windows * length;
    out->agreement = m.windows ? (double)m.same / (double)(out->tokens * L) : 1;
    free(m.first);
    return rc;
}
