#include "base/ft_buffer.h"
#include "model/train/trainer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Gradients put aside while one example's is made. */
static void swap(ft_trainer *t, float **other)
{
    for (size_t i = 0; i < t->p.count; i++)
        if (t->p.all[i].grad) {
            float *g = t->p.all[i].grad;
            t->p.all[i].grad = other[i];
            other[i] = g;
        }
}

static ft_code make_room(float **other, const ft_trainer *t, ft_status *st)
{
    for (size_t i = 0; i < t->p.count; i++)
        if (t->p.all[i].grad) {
            other[i] = ft_alloc_array(t->p.all[i].count, sizeof(**other));
            if (!other[i])
                return ft_fail(st, FT_ERR_MEM, "no memory for an example's gradient of %s", t->p.all[i].name);
        }
    return FT_OK;
}

static size_t labelled(const ft_batch *b, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from * b->length; i < to * b->length; i++)
        n += b->labels[i] >= 0;
    return n;
}

static ft_code accumulate(ft_trainer *t, const ft_batch *b, size_t micro, ft_losses *out, ft_status *st)
{
    const double z_loss = t->options.z_loss;
    ft_code rc = FT_OK;
    out->labelled = labelled(b, 0, b->sequences);
    t->options.z_loss = 0;
    t->exact = 1;
    for (size_t i = 0; i < b->sequences && out->labelled && !rc; i += micro) {
        const size_t to = i + micro < b->sequences ? i + micro : b->sequences, at = i * b->length;
        const double share = (double)labelled(b, i, to) / (double)out->labelled;
        const ft_batch part = {.ids = b->ids + at,
                               .labels = b->labels + at,
                               .begin = b->begin ? b->begin + at : NULL,
                               .sequences = to - i,
                               .length = b->length};
        ft_losses l;
        if (share == 0)
            continue;
        rc = ft_trainer_gradient(t, &part, share, &l, st);
        out->ce += rc ? 0 : share * l.ce;
    }
    t->options.z_loss = z_loss;
    t->exact = 0;
    out->loss = out->ce;
    return rc;
}

ft_code ft_trainer_clipped_whole(ft_trainer *t, const ft_batch *b, size_t micro, double clip, double *norm,
                                 ft_losses *out, ft_status *st)
{
    float **other = ft_alloc_array(t->p.count, sizeof(*other));
    memset(out, 0, sizeof(*out));
    ft_code rc = other ? make_room(other, t, st) : ft_fail(st, FT_ERR_MEM, "no memory for an example's gradient");
    if (!rc) {
        swap(t, other);
        rc = accumulate(t, b, micro ? micro : 1, out, st);
        const double length = ft_parameters_norm(&t->p, NULL), factor = length > clip ? clip / length : 1;
        if (norm)
            *norm = length;
        swap(t, other);
        for (size_t i = 0; i < t->p.count && !rc; i++) {
            ft_parameter *p = &t->p.all[i];
            for (size_t k = p->first; p->grad && k < p->count; k++)
                p->grad[k] += (float)(factor * (double)other[i][k]);
        }
    }
    for (size_t i = 0; other && i < t->p.count; i++)
        free(other[i]);
    free(other);
    return rc;
}
