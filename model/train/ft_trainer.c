#include "model/train/ft_embed_backward.h"
#include "model/train/ft_norm_backward.h"
#include "model/train/trainer_internal.h"

#include "base/ft_buffer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

ft_code ft_trainer_new(ft_trainer **out, ft_parameters *p, const ft_trainer_options *o, ft_status *st)
{
    *out = NULL;
    ft_trainer *t = calloc(1, sizeof(*t));
    if (!t) {
        ft_parameters_close(p);
        return ft_fail(st, FT_ERR_MEM, "no memory for the trainer");
    }
    t->options = *o;
    t->p = *p;
    memset(p, 0, sizeof(*p));
    ft_code rc = ft_parameters_train(&t->p, o->mode, st);
    if (!rc)
        rc = ft_pool_new(&t->pool, o->threads, st);
    if (!rc) {
        t->experts = t->p.config.experts ? t->p.config.experts : 1;
        t->top_k = t->p.config.experts ? t->p.config.top_k : 1;
        t->plain = t->p.config.experts == 0;
        *out = t;
        t = NULL;
    }
    ft_trainer_close(t);
    return rc;
}

ft_code ft_trainer_open(ft_trainer **out, const char *folder, const ft_trainer_options *o, ft_status *st)
{
    ft_parameters p;
    *out = NULL;
    const ft_code rc = ft_parameters_open(&p, folder, st);
    return rc ? rc : ft_trainer_new(out, &p, o, st);
}

void ft_trainer_rest(ft_trainer *t)
{
    ft_trainer_release(t);
    for (size_t i = 0; t->moments && i < 2 * t->p.count; i++)
        free(t->moments[i]);
    free(t->moments);
    t->moments = NULL;
}

void ft_trainer_close(ft_trainer *t)
{
    if (!t)
        return;
    ft_trainer_rest(t);
    free(t->blocks);
    ft_pool_free(t->pool);
    ft_parameters_close(&t->p);
    free(t);
}

ft_parameters *ft_trainer_parameters(ft_trainer *t)
{
    return &t->p;
}

/* --- Batches -------------------------------------------------------------------------------- */

static ft_code check(const ft_trainer *t, const ft_batch *b, size_t *labelled, ft_status *st)
{
    const size_t V = t->p.config.vocab, T = b->length;
    *labelled = 0;
    for (size_t i = 0; i < t->tokens; i++) {
        if (b->ids[i] < 0 || (size_t)b->ids[i] >= V)
            return ft_fail(st, FT_ERR_FORMAT, "sequence %zu, token %zu: id %d; the model's vocabulary has %zu", i / T,
                           i % T, b->ids[i], V);
        if (b->labels[i] >= 0 && (size_t)b->labels[i] >= V)
            return ft_fail(st, FT_ERR_FORMAT, "sequence %zu, token %zu: label %d; the model's vocabulary has %zu",
                           i / T, i % T, b->labels[i], V);
        if (b->begin && (b->begin[i] > i % T || (i % T && b->begin[i] < b->begin[i - 1])))
            return ft_fail(st, FT_ERR_ARG, "sequence %zu, token %zu: its document cannot start at %u", i / T, i % T,
                           b->begin[i]);
        if (b->domains && b->domains[i] >= (int32_t)t->experts)
            return ft_fail(st, FT_ERR_ARG, "sequence %zu, token %zu: of domain %d; the model has %zu experts", i / T,
                           i % T, b->domains[i], t->experts);
        *labelled += b->labels[i] >= 0;
    }
    return FT_OK;
}

/* --- Passes ---------------------------------------------------------------------------------- */

static void embed(ft_pass *pass, const ft_rows *rows)
{
    ft_trainer *t = pass->t;
    const size_t H = t->p.config.hidden;
    for (size_t n = rows->from; n < rows->to; n++)
        memcpy(t->x[0] + n * H, t->p.embed->value + (size_t)pass->b->ids[n] * H, H * sizeof(float));
}

static void norm_final(ft_pass *pass, const ft_rows *rows)
{
    ft_trainer *t = pass->t;
    const ft_model_config *c = &t->p.config;
    const size_t at = rows->from * c->hidden;
    ft_norm_forward(t->final + at, t->inv_final + rows->from, t->x[c->layers] + at, t->p.norm->value, NULL,
                    rows->to - rows->from, c->hidden, c->rms_norm_eps);
}

/* Sum over layers of the mean over tokens of the router's z, divided by the layers. */
static double forward(ft_pass *pass)
{
    ft_trainer *t = pass->t;
    double z = 0;
    ft_tokens_run(pass, embed);
    for (size_t l = 0; l < t->p.config.layers; l++) {
        ft_layer_forward(pass, l);
        for (size_t n = 0; n < t->tokens && pass->p->router; n++)
            z += (double)pass->a->router_lse[n] * (double)pass->a->router_lse[n];
        for (size_t n = 0; n < t->tokens && pass->p->router && pass->b->domains; n++)
            if (pass->b->domains[n] >= 0)
                pass->domain -= log(fmax((double)pass->a->probs[n * t->experts + (size_t)pass->b->domains[n]], 1e-30));
    }
    ft_tokens_run(pass, norm_final);
    return z / (double)(t->tokens * t->p.config.layers);
}

static void norm_final_backward(ft_pass *pass, const ft_rows *rows)
{
    ft_trainer *t = pass->t;
    const size_t H = t->p.config.hidden, at = rows->from * H;
    const float *x = t->x[t->p.config.layers];
    ft_norm_part(pass, rows, 0, t->p.norm, t->dx, x, t->inv_final);
    ft_norm_backward(t->dx + at, t->dx + at, x + at, t->inv_final + rows->from, t->p.norm->value, rows->to - rows->from,
                     H);
}

static int trains_below(const ft_trainer *t, size_t layer)
{
    if (t->options.mode == FT_TRAIN_ALL)
        return 1;
    return t->options.mode != FT_TRAIN_NOTHING && layer > 0;
}

/* After ft_head. */
static void backward(ft_pass *pass)
{
    ft_trainer *t = pass->t;
    const size_t H = t->p.config.hidden, L = t->p.config.layers;
    ft_tokens_run(pass, norm_final_backward);
    ft_pass_norm(pass, t->p.norm, 0);
    for (size_t l = L; l-- > 0;)
        ft_layer_backward(pass, l, !trains_below(t, l));
    if (!t->p.embed->grad)
        return;
    /* |a + b|^2 = |a|^2 + |b|^2 + 2 a.b of the head's gradient a and the embedding's b, whose rows are the tokens'. */
    for (size_t n = 0; n < t->tokens && pass->squares && t->s.tied; n++)
        for (size_t c = 0; c < H; c++)
            pass->squares[n / t->length] += 2 * (double)t->s.tied[n * H + c] * (double)t->dx[n * H + c];
    for (size_t i = 0; i < t->sequences && pass->squares; i++)
        pass->squares[i] += ft_embed_ghost(t->dx + i * t->length * H, pass->b->ids + i * t->length, t->length, H);
    if (!pass->squares)
        ft_embed_backward(t->p.embed->grad, t->dx, pass->b->ids, t->tokens, H);
}

typedef struct per_sequence {
    double *losses, *squares;
    float *scale;
    size_t *labelled;
} per_sequence;

static void per_sequence_free(per_sequence *s)
{
    free(s->losses);
    free(s->squares);
    free(s->scale);
    free(s->labelled);
}

static ft_code per_sequence_new(per_sequence *s, const ft_batch *b, ft_status *st)
{
    const size_t n = b->sequences;
    s->losses = ft_alloc_array(n, sizeof(*s->losses));
    s->squares = ft_alloc_array(n, sizeof(*s->squares));
    s->scale = ft_alloc_array(n, sizeof(*s->scale));
    s->labelled = ft_alloc_array(n, sizeof(*s->labelled));
    if (!s->losses || !s->squares || !s->scale || !s->labelled)
        return ft_fail(st, FT_ERR_MEM, "no memory for %zu sequences' losses", n);
    for (size_t i = 0; i < n * b->length; i++)
        s->labelled[i / b->length] += b->labels[i] >= 0;
    return FT_OK;
}

static void sum_up(ft_losses *out, const ft_trainer *t, const per_sequence *s, double z, double domain, size_t labelled)
{
    double sum = 0;
    for (size_t i = 0; i < t->sequences; i++)
        sum += s->losses[i];
    out->labelled = labelled;
    out->ce = labelled ? sum / (double)labelled : 0;
    out->z = z;
    out->domain = domain;
    out->loss = out->ce + t->options.z_loss * z + t->options.domain_loss * domain;
}

/* weight: of the cross-entropy's gradient; routers: of those of z and of the domain. */
static ft_code run(ft_trainer *t, const ft_batch *b, double weight, double routers, int wants_gradient, ft_losses *out,
                   ft_status *st)
{
    per_sequence s = {0};
    size_t labelled = 0;
    ft_code rc = ft_trainer_prepare(t, b->sequences, b->length, 0, st);
    if (!rc)
        rc = check(t, b, &labelled, st);
    if (!rc)
        rc = per_sequence_new(&s, b, st);
    if (!rc) {
        ft_pass pass = {.t = t, .b = b, .scale = s.scale, .bfloat16 = t->options.bfloat16 && !t->exact};
        for (size_t i = 0; i < b->sequences; i++)
            s.scale[i] = labelled ? (float)(weight / (double)labelled) : 0;
        const double each = routers / (double)(t->tokens * t->p.config.layers);
        pass.z_scale = (float)(each * t->options.z_loss);
        pass.domain_scale = b->domains ? (float)(each * t->options.domain_loss) : 0;
        const double z = forward(&pass);
        rc = ft_head(&pass, s.losses, wants_gradient, st);
        if (!rc && wants_gradient)
            backward(&pass);
        if (!rc)
            sum_up(out, t, &s, z, pass.domain / (double)(t->tokens * t->p.config.layers), labelled);
    }
    per_sequence_free(&s);
    return rc;
}

ft_code ft_trainer_evaluate(ft_trainer *t, const ft_batch *b, ft_losses *out, ft_status *st)
{
    return run(t, b, 0, 0, 0, out, st);
}

ft_code ft_trainer_gradient_part(ft_trainer *t, const ft_batch *b, double of_labels, double of_tokens, ft_losses *out,
                                 ft_status *st)
{
    const ft_code rc = run(t, b, of_labels, of_tokens, 1, out, st);
    ft_parameters_hold(&t->p);
    return rc;
}

ft_code ft_trainer_gradient(ft_trainer *t, const ft_batch *b, double weight, ft_losses *out, ft_status *st)
{
    return ft_trainer_gradient_part(t, b, weight, weight, out, st);
}

ft_code ft_trainer_clipped(ft_trainer *t, const ft_batch *b, double clip, double *norms, double *losses, ft_losses *out,
                           ft_status *st)
{
    per_sequence s = {0};
    size_t labelled = 0;
    ft_code rc = ft_trainer_prepare(t, b->sequences, b->length, 1, st);
    if (!rc)
        rc = check(t, b, &labelled, st);
    if (!rc)
        rc = per_sequence_new(&s, b, st);
    if (!rc) {
        ft_pass pass = {.t = t, .b = b, .scale = s.scale, .squares = s.squares};
        for (size_t i = 0; i < b->sequences; i++)
            s.scale[i] = s.labelled[i] ? (float)(1 / (double)s.labelled[i]) : 0;
        const double z = forward(&pass);
        rc = ft_head(&pass, s.losses, 1, st);
        if (!rc) {
            backward(&pass);
            sum_up(out, t, &s, z, 0, labelled);
            out->loss = out->ce;
        }
    }
    for (size_t i = 0; i < b->sequences && !rc; i++) {
        const double norm = sqrt(fmax(s.squares[i], 0));
        if (norms)
            norms[i] = norm;
        if (losses)
            losses[i] = s.labelled[i] ? s.losses[i] / (double)s.labelled[i] : 0;
        s.scale[i] *= (float)(norm > clip ? clip / norm : 1);
    }
    if (!rc) { /* again, each example with its factor; what the layers keep is still there */
        ft_pass pass = {.t = t, .b = b, .scale = s.scale};
        rc = ft_head(&pass, s.losses, 1, st);
        if (!rc)
            backward(&pass);
    }
    per_sequence_free(&s);
    return rc;
}

/* --- Updates ----------------------------------------------------------------------------------- */

ft_code ft_trainer_make_moments(ft_trainer *t, ft_status *st)
{
    if (!t->moments)
        t->moments = ft_alloc_array(2 * t->p.count, sizeof(*t->moments));
    for (size_t i = 0; t->moments && i < 2 * t->p.count; i++) {
        const ft_parameter *p = &t->p.all[i / 2];
        if (!p->grad || t->moments[i])
            continue;
        t->moments[i] = ft_alloc_array(p->count, sizeof(float));
        if (!t->moments[i])
            return ft_fail(st, FT_ERR_MEM, "no memory for the optimizer's state of %s", p->name);
    }
    return t->moments ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for the optimizer's state");
}

float *ft_trainer_moment(ft_trainer *t, size_t i, int second)
{
    return t->moments ? t->moments[2 * i + (second ? 1 : 0)] : NULL;
}

/* A bias that falls stays at 0 or below; one that a file has above stays where it is. */
static void update_bias(const ft_adamw *o, uint64_t step, double scale, const ft_parameter *p, float *m, float *v)
{
    for (size_t k = p->first; k < p->count; k++) {
        const float was = p->value[k];
        ft_adamw_update(o, step, scale, p->value + k, p->grad + k, m + k, v + k, 1);
        if (was <= 0 && p->value[k] > 0)
            p->value[k] = 0;
    }
}

typedef struct update {
    const ft_trainer *t;
    const ft_adamw *o;
    uint64_t step;
    double scale;
    size_t parameter;
} update;

enum { UPDATE_PIECE = 1 << 14 };

static void update_piece(void *context, size_t task, unsigned worker)
{
    const update *u = context;
    const ft_parameter *p = &u->t->p.all[u->parameter];
    const size_t at = p->first + task * UPDATE_PIECE, n = p->count - at < UPDATE_PIECE ? p->count - at : UPDATE_PIECE;
    (void)worker;
    ft_adamw_update(u->o, u->step, u->scale, p->value + at, p->grad + at, u->t->moments[2 * u->parameter] + at,
                    u->t->moments[2 * u->parameter + 1] + at, n);
}

ft_code ft_trainer_update(ft_trainer *t, const ft_adamw *o, uint64_t step, double scale, ft_status *st)
{
    const ft_code rc = ft_trainer_make_moments(t, st);
    ft_adamw slow = *o;
    slow.rate *= t->options.router_rate > 0 ? t->options.router_rate : 1;
    for (size_t i = 0; i < t->p.count && !rc; i++) {
        const ft_parameter *p = &t->p.all[i];
        const int router = strstr(p->name, ".mlp.gate.") != NULL;
        update u = {.t = t, .o = router ? &slow : o, .step = step, .scale = scale, .parameter = i};
        if (p->grad && strstr(p->name, ".gate.expert_bias"))
            update_bias(u.o, step, scale, p, t->moments[2 * i], t->moments[2 * i + 1]);
        else if (p->grad)
            ft_pool_run(t->pool, (p->count - p->first + UPDATE_PIECE - 1) / UPDATE_PIECE, update_piece, &u);
    }
    ft_parameters_hold(&t->p); /* against weight decay */
    return rc;
}
