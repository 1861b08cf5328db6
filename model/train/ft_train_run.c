#include "model/train/ft_train_run.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_random.h"
#include "model/train/train_run_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- What the run is ------------------------------------------------------------------ */

/* Everything that decides the bits, as text; the caller frees. Frozen tensors and data by digest. */
static char *describe(const ft_run *r)
{
    const ft_train_options *o = r->o;
    const ft_parameters *p = ft_trainer_parameters(r->t);
    char data[FT_DIGEST_HEX], public[FT_DIGEST_HEX] = "", frozen[FT_DIGEST_HEX];
    ft_digest *each = ft_alloc_array(p->count, sizeof(*each)), all = ft_train_data_digest(o->data);
    if (!each)
        return NULL;
    ft_digest_hex(&all, data);
    if (o->public_data) {
        all = ft_train_data_digest(o->public_data);
        ft_digest_hex(&all, public);
    }
    for (size_t i = 0; i < p->count; i++) /* what is trained counts by its name: its values change */
        each[i] = !p->all[i].grad   ? ft_digest_of(p->all[i].value, p->all[i].count * sizeof(float))
                  : p->all[i].first ? ft_digest_of(p->all[i].value, p->all[i].first * sizeof(float))
                                    : ft_digest_of(p->all[i].name, strlen(p->all[i].name));
    all = ft_digest_of(each, p->count * sizeof(*each));
    ft_digest_hex(&all, frozen);
    free(each);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:i, s:I, s:I, s:f, s:f, s:f, s:I}", "data", data,
        "public_data", public, "frozen", frozen, "steps", (json_int_t)o->steps, "batch", (json_int_t)o->batch, "micro",
        (json_int_t)o->micro, "length", (json_int_t)o->length, "rate", o->adamw.rate, "beta1", o->adamw.beta1, "beta2",
        o->adamw.beta2, "eps", o->adamw.eps, "weight_decay", o->adamw.decay, "schedule", (int)o->schedule, "warmup",
        (json_int_t)o->warmup, "decay", (json_int_t)o->decay, "least", o->least, "clip", o->clip, "public_share",
        o->public_share, "seed", (json_int_t)o->seed);
    json_t *private =
        json_pack("{s:f, s:f, s:f, s:f, s:i, s:I, s:s}", "dp_clip", o->dp_clip, "noise_multiplier", o->noise_multiplier,
                  "delta", o->delta, "z_loss", o->z_loss, "example_document", o->example_document, "examples",
                  (json_int_t)o->examples, "start", o->start ? o->start : "");
    char *text = NULL;
    int bad = o->bfloat16 && json_object_set_new(json, "precision", json_string("bfloat16"));
    if (o->router_rate > 0 && o->router_rate < 1)
        bad |= json_object_set_new(json, "router_rate", json_real(o->router_rate));
    if (o->domain_loss > 0)
        bad |= json_object_set_new(json, "domain_loss", json_real(o->domain_loss));
    if (json && private && !bad && json_object_update(json, private) == 0)
        text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    json_decref(private);
    return text;
}

/* --- Batches ----------------------------------------------------------------------------- */

ft_code ft_run_reserve(ft_run *r, size_t sequences, ft_status *st)
{
    size_t n;
    if (sequences <= r->capacity)
        return FT_OK;
    ft_code rc = ft_size_mul(sequences, r->o->length, &n, st);
    if (rc)
        return rc;
    free(r->ids);
    free(r->labels);
    free(r->domains);
    free(r->begin);
    r->ids = ft_alloc_array(n, sizeof(*r->ids));
    r->labels = ft_alloc_array(n, sizeof(*r->labels));
    r->domains = ft_alloc_array(n, sizeof(*r->domains));
    r->begin = ft_alloc_array(n, sizeof(*r->begin));
    r->capacity = r->ids && r->labels && r->domains && r->begin ? sequences : 0;
    return r->capacity ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory for a batch of %zu sequences", sequences);
}

/* Window w is public text by a chance that seed and w decide. */
static int is_public(const ft_train_options *o, uint64_t w)
{
    ft_random r;
    if (!o->public_data || o->public_share <= 0)
        return 0;
    ft_random_init(&r, (o->seed + 1) * 0xd1342543de82ef95u + w);
    return ft_random_unit(&r) < o->public_share;
}

static ft_code make_batch(ft_run *r, uint64_t step, ft_status *st)
{
    const ft_train_options *o = r->o;
    ft_code rc = ft_run_reserve(r, o->batch, st);
    for (size_t i = 0; i < o->batch && !rc; i++) {
        const uint64_t w = step * o->batch + i;
        const size_t at = i * o->length;
        rc = ft_train_data_window(is_public(o, w) ? o->public_data : o->data, o->seed, w, o->length, r->ids + at,
                                  r->labels + at, r->begin + at, st);
        if (!rc && o->domain_loss > 0)
            ft_train_data_domains(o->data, o->seed, w, o->length, r->domains + at);
    }
    return rc;
}

size_t ft_run_labelled(const ft_run *r, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from * r->o->length; i < to * r->o->length; i++)
        n += r->labels[i] >= 0;
    return n;
}

ft_batch ft_run_part(const ft_run *r, size_t from, size_t to, int packed)
{
    const size_t at = from * r->o->length;
    return (ft_batch){.ids = r->ids + at,
                      .labels = r->labels + at,
                      .begin = packed ? r->begin + at : NULL,
                      .domains = r->o->domain_loss > 0 ? r->domains + at : NULL,
                      .sequences = to - from,
                      .length = r->o->length};
}

/* Gradients of one step, accumulated over its parts: what the whole batch at once would give. */
static ft_code gradients(ft_run *r, uint64_t step, ft_train_metrics *m, ft_status *st)
{
    const ft_train_options *o = r->o;
    ft_code rc = make_batch(r, step, st);
    const size_t all = rc ? 0 : ft_run_labelled(r, 0, o->batch);
    for (size_t i = 0; i < o->batch && !rc; i += o->micro) {
        const size_t to = i + o->micro < o->batch ? i + o->micro : o->batch;
        const ft_batch b = ft_run_part(r, i, to, 1);
        const double share = all ? (double)ft_run_labelled(r, i, to) / (double)all : 0;
        const double of_tokens = (double)(to - i) / (double)o->batch;
        ft_losses l;
        rc = ft_trainer_gradient_part(r->t, &b, share, of_tokens, &l, st);
        if (!rc) {
            m->ce += share * l.ce;
            m->z += of_tokens * l.z;
            m->domain += of_tokens * l.domain;
            m->loss += share * l.ce + of_tokens * (l.loss - l.ce);
        }
    }
    m->tokens = o->batch * o->length;
    return rc;
}

/* --- Steps --------------------------------------------------------------------------------------- */

/* A weight that is not finite explains gradients and a loss that are not. gradient: whose is not, or NULL. */
static ft_code not_finite(const ft_run *r, uint64_t step, const char *gradient, ft_status *st)
{
    const char *weight = ft_parameters_not_finite(ft_trainer_parameters(r->t));
    char after[128];
    if (r->last_checkpoint)
        snprintf(after, sizeof(after),
                 "the last good checkpoint is of step %llu: lower the learning rate and start anew",
                 (unsigned long long)r->last_checkpoint);
    else
        snprintf(after, sizeof(after), "there is no checkpoint before it: %s",
                 weight && step == 1 ? "the model was given so" : "lower the learning rate");
    return ft_fail(st, FT_ERR_FORMAT, "step %llu: %s%s is not finite; %s", (unsigned long long)step,
                   weight     ? "the weight "
                   : gradient ? "the gradient of "
                              : "the loss",
                   weight     ? weight
                   : gradient ? gradient
                              : "",
                   after);
}

static ft_code one_step(ft_run *r, ft_train_metrics *m, ft_status *st)
{
    const ft_train_options *o = r->o;
    const uint64_t step = r->state.step;
    const char *bad;
    ft_adamw adamw = o->adamw;
    ft_parameters_zero(ft_trainer_parameters(r->t));
    ft_code rc = o->dp_clip > 0 ? ft_run_private_gradients(r, step, m, st) : gradients(r, step, m, st);
    if (rc)
        return rc;
    m->grad_norm = ft_parameters_norm(ft_trainer_parameters(r->t), &bad);
    if (!isfinite(m->loss) || bad)
        return not_finite(r, step + 1, bad, st);
    adamw.rate *= ft_schedule_factor(o->schedule, step, o->steps, o->warmup, o->decay, o->least);
    m->rate = adamw.rate;
    const double scale = o->clip > 0 && o->dp_clip <= 0 ? fmin(1, o->clip / (m->grad_norm + 1e-6)) : 1;
    rc = ft_trainer_update(r->t, &adamw, step + 1, scale, st);
    if (!rc) {
        r->state.step++;
        r->state.tokens += m->tokens;
        m->step = r->state.step;
        m->steps = o->steps;
    }
    return rc;
}

static ft_code write_metrics(const ft_run *r, const ft_train_metrics *m, ft_status *st)
{
    FILE *f = fopen(r->metrics, "a");
    int bad = !f;
    if (f) {
        bad = fprintf(f,
                      "{\"step\":%llu,\"loss\":%.17g,\"ce\":%.17g,\"z\":%.17g,\"domain\":%.17g,\"grad_norm\":%.17g,"
                      "\"rate\":%.17g,"
                      "\"tokens\":%llu,"
                      "\"seconds\":%.3f}\n",
                      (unsigned long long)m->step, m->loss, m->ce, m->z, m->domain, m->grad_norm, m->rate,
                      (unsigned long long)m->tokens, m->seconds) < 0;
        bad |= fclose(f) != 0;
    }
    return bad ? ft_fail(st, FT_ERR_IO, "%s: %s", r->metrics, strerror(errno)) : FT_OK;
}

/* Takes away the lines of steps that the checkpoint does not know: they will be done again. */
static ft_code trim_metrics(const ft_run *r, ft_train_metrics *last, ft_status *st)
{
    ft_buffer text = {0};
    size_t keep = 0, lines = 0, line = 0;
    if (!ft_path_exists(r->metrics))
        return FT_OK;
    ft_code rc = ft_file_read(r->metrics, 0, &text, st);
    for (size_t i = 0; i < text.size && lines < r->state.step; i++)
        if (text.data[i] == '\n') {
            lines++;
            line = keep;
            keep = i + 1;
        }
    if (keep) { /* a run that is complete already still says what it came to */
        const char *at = text.data + line;
        last->step = r->state.step;
        (void)(ft_metric(at, "\"loss\":", &last->loss) && ft_metric(at, "\"ce\":", &last->ce) &&
               ft_metric(at, "\"z\":", &last->z));
    }
    if (!rc)
        rc = ft_file_write(r->metrics, text.data, keep, st);
    ft_buffer_release(&text);
    return rc;
}

/* Weights that overflowed are no good checkpoint. */
static ft_code save(ft_run *r, ft_status *st)
{
    if (ft_parameters_not_finite(ft_trainer_parameters(r->t)))
        return not_finite(r, r->state.step, NULL, st);
    ft_code rc = ft_train_checkpoint_write(r->checkpoint, r->t, &r->state, st);
    if (rc)
        return rc;
    r->last_checkpoint = r->state.step;
    return r->state.step ? ft_train_curve(r->metrics, r->curve, st) : FT_OK;
}

/* The step at whose end the next checkpoint is due. */
static uint64_t next_checkpoint(const ft_run *r, uint64_t end)
{
    const uint64_t every = r->o->checkpoint_every;
    const uint64_t next = every ? (r->state.step / every + 1) * every : end;
    return next < end ? next : end;
}

static ft_code steps(ft_run *r, uint64_t end, ft_train_report *out, ft_status *st)
{
    const ft_train_options *o = r->o;
    ft_code rc = FT_OK;
    while (r->state.step < end && !rc) {
        ft_train_metrics m = {0};
        const double start = now();
        if (o->dp_clip > 0)
            rc = ft_run_set_aside(r, next_checkpoint(r, end), st);
        if (!rc)
            rc = one_step(r, &m, st);
        if (rc)
            return rc;
        m.seconds = now() - start;
        out->last = m;
        rc = write_metrics(r, &m, st);
        const int stop = !rc && o->on_step && o->on_step(o->context, &m);
        if (!rc && (stop || r->state.step == end || (o->checkpoint_every && r->state.step % o->checkpoint_every == 0)))
            rc = save(r, st);
        if (!rc && stop)
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped after step %llu; the same command goes on from there",
                         (unsigned long long)r->state.step);
    }
    return rc;
}

/* The checkpoint's state, or that of a new run; then what the budget allows. */
static ft_code resume(ft_run *r, uint64_t *end, ft_train_report *out, ft_status *st)
{
    ft_code rc = ft_train_checkpoint_read(r->checkpoint, r->t, &r->state, st);
    const int fresh = rc == FT_ERR_NOT_FOUND;
    if (fresh)
        ft_noise_make_key(r->state.key);
    else if (rc)
        return rc;
    *end = r->o->steps;
    out->resumed_at = r->last_checkpoint = r->state.step;
    rc = r->o->dp_clip > 0 ? ft_run_budget(r, end, out, st) : FT_OK;
    if (!rc && fresh && r->o->dp_clip > 0) /* the start is a checkpoint too: with it the key of the draws is kept */
        rc = save(r, st);
    return rc ? rc : trim_metrics(r, &out->last, st);
}

static ft_code check(const ft_train_options *o, ft_status *st)
{
    if (o->steps == 0 || o->batch == 0 || o->micro == 0 || o->micro > o->batch || o->length < 2)
        return ft_fail(st, FT_ERR_ARG,
                       "training needs steps, a batch, parts no larger than it, and two tokens a sequence");
    return FT_OK;
}

ft_code ft_train_run(ft_trainer *t, const ft_train_options *o, ft_train_report *out, ft_status *st)
{
    ft_run r = {.t = t, .o = o};
    uint64_t end = 0;
    memset(out, 0, sizeof(*out));
    int lock = -1;
    ft_code rc = check(o, st);
    if (!rc)
        rc = ft_folder_lock(o->folder, "run", &lock, st);
    if (rc)
        return rc;
    ft_train_checkpoint_tidy(o->folder);
    char *text = describe(&r);
    r.state.run = text;
    r.checkpoint = ft_path_join(o->folder, "checkpoint");
    r.metrics = ft_path_join(o->folder, "metrics.jsonl");
    r.curve = ft_path_join(o->folder, "curve.svg");
    if (!text || !r.checkpoint || !r.metrics || !r.curve)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", o->folder);
    if (!rc)
        rc = resume(&r, &end, out, st);
    if (!rc && o->stop_after && o->stop_after < end)
        end = o->stop_after;
    if (!rc)
        rc = steps(&r, end, out, st);
    out->steps_done = r.state.step;
    out->tokens = r.state.tokens;
    if (!rc && o->dp_clip > 0)
        rc = ft_run_spent(&r, out, st);
    ft_run_close_ledgers(&r);
    close(lock);
    free(text);
    free(r.checkpoint);
    free(r.metrics);
    free(r.curve);
    free(r.ids);
    free(r.domains);
    free(r.labels);
    free(r.begin);
    return rc;
}
