#include "model/train/ft_train_run.h"

#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_random.h"
#include "model/train/ft_noise.h"
#include "model/train/train_checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct run {
    ft_trainer *t;
    const ft_train_options *o;
    ft_train_state state;
    char *checkpoint, *metrics; /* paths */
    int32_t *ids, *labels;      /* [batch, length]; of a private step [drawn, length] */
    uint32_t *begin;
    size_t capacity; /* sequences */
    uint64_t examples, last_checkpoint;
    double rate; /* sampling */
} run;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- What the run is ------------------------------------------------------------------ */

/* Everything that decides the bits, as text; the caller frees. Frozen tensors and data by digest. */
static char *describe(const run *r)
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
    for (size_t i = 0; i < p->count; i++) /* a trained tensor counts by its name: its values change */
        each[i] = p->all[i].grad ? ft_digest_of(p->all[i].name, strlen(p->all[i].name))
                                 : ft_digest_of(p->all[i].value, p->all[i].count * sizeof(float));
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
    json_t *private = json_pack("{s:f, s:f, s:f, s:f}", "dp_clip", o->dp_clip, "noise_multiplier", o->noise_multiplier,
                                "delta", o->delta, "z_loss", o->z_loss);
    char *text = NULL;
    if (json && private && json_object_update(json, private) == 0)
        text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    json_decref(private);
    return text;
}

/* --- Batches ----------------------------------------------------------------------------- */

static ft_code reserve(run *r, size_t sequences, ft_status *st)
{
    size_t n;
    if (sequences <= r->capacity)
        return FT_OK;
    ft_code rc = ft_size_mul(sequences, r->o->length, &n, st);
    if (rc)
        return rc;
    free(r->ids);
    free(r->labels);
    free(r->begin);
    r->ids = ft_alloc_array(n, sizeof(*r->ids));
    r->labels = ft_alloc_array(n, sizeof(*r->labels));
    r->begin = ft_alloc_array(n, sizeof(*r->begin));
    r->capacity = r->ids && r->labels && r->begin ? sequences : 0;
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

static ft_code make_batch(run *r, uint64_t step, ft_status *st)
{
    const ft_train_options *o = r->o;
    ft_code rc = reserve(r, o->batch, st);
    for (size_t i = 0; i < o->batch && !rc; i++) {
        const uint64_t w = step * o->batch + i;
        const size_t at = i * o->length;
        rc = ft_train_data_window(is_public(o, w) ? o->public_data : o->data, o->seed, w, o->length, r->ids + at,
                                  r->labels + at, r->begin + at, st);
    }
    return rc;
}

static size_t labelled(const run *r, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from * r->o->length; i < to * r->o->length; i++)
        n += r->labels[i] >= 0;
    return n;
}

static ft_batch part(const run *r, size_t from, size_t to, int packed)
{
    const size_t at = from * r->o->length;
    return (ft_batch){.ids = r->ids + at,
                      .labels = r->labels + at,
                      .begin = packed ? r->begin + at : NULL,
                      .sequences = to - from,
                      .length = r->o->length};
}

/* Gradients of one step, accumulated over its parts: the mean over all labelled tokens. */
static ft_code gradients(run *r, uint64_t step, ft_train_metrics *m, ft_status *st)
{
    const ft_train_options *o = r->o;
    ft_code rc = make_batch(r, step, st);
    const size_t all = rc ? 0 : labelled(r, 0, o->batch);
    for (size_t i = 0; i < o->batch && !rc; i += o->micro) {
        const size_t to = i + o->micro < o->batch ? i + o->micro : o->batch;
        const ft_batch b = part(r, i, to, 1);
        const double share = all ? (double)labelled(r, i, to) / (double)all : 0;
        ft_losses l;
        rc = ft_trainer_gradient(r->t, &b, share, &l, st);
        if (!rc) {
            m->ce += share * l.ce;
            m->z += share * l.z;
            m->loss += share * l.loss;
        }
    }
    m->tokens = o->batch * o->length;
    return rc;
}

/* --- Private steps --------------------------------------------------------------------------- */

/* Every example enters with probability `rate`. Returns how many did, in the arrays. */
static ft_code draw_examples(run *r, ft_noise *noise, size_t *drawn, ft_status *st)
{
    const ft_train_options *o = r->o;
    ft_code rc = FT_OK;
    uint32_t *chosen = ft_alloc_array(r->examples, sizeof(*chosen));
    *drawn = 0;
    if (!chosen)
        return ft_fail(st, FT_ERR_MEM, "no memory to draw from %llu examples", (unsigned long long)r->examples);
    for (uint64_t e = 0; e < r->examples; e++)
        if (ft_noise_unit(noise) < r->rate)
            chosen[(*drawn)++] = (uint32_t)e;
    const size_t padded = (*drawn + o->micro - 1) / o->micro * o->micro;
    rc = reserve(r, padded, st);
    for (size_t i = 0; i < padded && !rc; i++) {
        const size_t at = i * o->length;
        if (i < *drawn)
            ft_train_data_example(o->data, chosen[i], o->length, r->ids + at, r->labels + at);
        for (size_t k = 0; k < o->length && i >= *drawn; k++) { /* an empty example has no gradient */
            r->ids[at + k] = 0;
            r->labels[at + k] = -100;
        }
    }
    free(chosen);
    return rc;
}

/* N(0, (sigma C)^2) on every trained element of the sum, then division by the expected batch. */
static void add_noise(run *r, ft_noise *noise)
{
    const ft_parameters *p = ft_trainer_parameters(r->t);
    const double deviation = r->o->noise_multiplier * r->o->dp_clip, scale = 1 / (double)r->o->batch;
    for (size_t i = 0; i < p->count; i++)
        for (size_t k = p->all[i].first; p->all[i].grad && k < p->all[i].count; k++)
            p->all[i].grad[k] = (float)(((double)p->all[i].grad[k] + deviation * ft_noise_normal(noise)) * scale);
}

static ft_code private_gradients(run *r, uint64_t step, ft_train_metrics *m, ft_status *st)
{
    const ft_train_options *o = r->o;
    ft_noise noise;
    size_t drawn = 0;
    ft_noise_init(&noise, r->state.key, step);
    ft_code rc = draw_examples(r, &noise, &drawn, st);
    for (size_t i = 0; i < drawn && !rc; i += o->micro) {
        const ft_batch b = part(r, i, i + o->micro, 0);
        const size_t real = drawn - i < o->micro ? drawn - i : o->micro;
        ft_losses l;
        rc = ft_trainer_clipped(r->t, &b, o->dp_clip, NULL, NULL, &l, st);
        if (!rc) {
            m->ce += (double)real / (double)drawn * l.ce;
            m->z += (double)real / (double)drawn * l.z;
        }
    }
    m->loss = m->ce;
    m->tokens = drawn * o->length;
    if (!rc)
        add_noise(r, &noise);
    return rc;
}

/* --- Steps --------------------------------------------------------------------------------------- */

static ft_code one_step(run *r, ft_train_metrics *m, ft_status *st)
{
    const ft_train_options *o = r->o;
    const uint64_t step = r->state.step;
    const char *bad;
    ft_adamw adamw = o->adamw;
    ft_parameters_zero(ft_trainer_parameters(r->t));
    ft_code rc = o->dp_clip > 0 ? private_gradients(r, step, m, st) : gradients(r, step, m, st);
    if (rc)
        return rc;
    m->grad_norm = ft_parameters_norm(ft_trainer_parameters(r->t), &bad);
    if (!isfinite(m->loss) || bad)
        return ft_fail(st, FT_ERR_FORMAT,
                       "step %llu: %s%s is not finite; the last good checkpoint is of step %llu: lower "
                       "the learning rate and start from it anew",
                       (unsigned long long)step + 1, bad ? "the gradient of " : "the loss", bad ? bad : "",
                       (unsigned long long)r->last_checkpoint);
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

static ft_code write_metrics(const run *r, const ft_train_metrics *m, ft_status *st)
{
    FILE *f = fopen(r->metrics, "a");
    int bad = !f;
    if (f) {
        bad =
            fprintf(
                f,
                "{\"step\":%llu,\"loss\":%.9g,\"ce\":%.9g,\"z\":%.9g,\"grad_norm\":%.9g,\"rate\":%.9g,\"tokens\":%llu,"
                "\"seconds\":%.3f}\n",
                (unsigned long long)m->step, m->loss, m->ce, m->z, m->grad_norm, m->rate, (unsigned long long)m->tokens,
                m->seconds) < 0;
        bad |= fclose(f) != 0;
    }
    return bad ? ft_fail(st, FT_ERR_IO, "%s: %s", r->metrics, strerror(errno)) : FT_OK;
}

/* Takes away the lines of steps that the checkpoint does not know: they will be done again. */
static ft_code trim_metrics(const run *r, ft_status *st)
{
    ft_buffer text = {0};
    size_t keep = 0, lines = 0;
    if (!ft_path_exists(r->metrics))
        return FT_OK;
    ft_code rc = ft_file_read(r->metrics, 0, &text, st);
    for (size_t i = 0; i < text.size && lines < r->state.step; i++)
        if (text.data[i] == '\n') {
            lines++;
            keep = i + 1;
        }
    if (!rc)
        rc = ft_file_write(r->metrics, text.data, keep, st);
    ft_buffer_release(&text);
    return rc;
}

static ft_code save(run *r, ft_status *st)
{
    const ft_code rc = ft_train_checkpoint_write(r->checkpoint, r->t, &r->state, st);
    if (!rc)
        r->last_checkpoint = r->state.step;
    return rc;
}

static ft_code steps(run *r, uint64_t end, ft_train_report *out, ft_status *st)
{
    const ft_train_options *o = r->o;
    ft_code rc = FT_OK;
    while (r->state.step < end && !rc) {
        ft_train_metrics m = {0};
        const double start = now();
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

/* How many steps the budget allows, at most o->steps. */
static ft_code budget(run *r, uint64_t *end, ft_train_report *out, ft_status *st)
{
    const ft_train_options *o = r->o;
    *end = o->steps;
    if (o->dp_clip <= 0)
        return FT_OK;
    r->examples = ft_train_data_examples(o->data, o->length);
    if (o->batch > r->examples || r->examples > UINT32_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "a batch of %zu out of %llu examples cannot be drawn", o->batch,
                       (unsigned long long)r->examples);
    r->rate = (double)o->batch / (double)r->examples;
    uint64_t allowed;
    const ft_code rc =
        ft_privacy_steps(&allowed, r->rate, o->noise_multiplier, o->epsilon, o->delta, o->accountant, st);
    if (rc)
        return rc;
    if (allowed == 0)
        return ft_fail(st, FT_ERR_LIMIT,
                       "one step already exceeds epsilon %g at delta %g; raise the noise multiplier "
                       "above %g ('flextrace privacy sigma' says how far)",
                       o->epsilon, o->delta, o->noise_multiplier);
    out->budget_reached = allowed < *end;
    *end = allowed < *end ? allowed : *end;
    out->sampling_rate = r->rate;
    return FT_OK;
}

static ft_code resume(run *r, ft_train_report *out, ft_status *st)
{
    ft_code rc = ft_train_checkpoint_read(r->checkpoint, r->t, &r->state, st);
    if (rc == FT_ERR_NOT_FOUND) { /* the start is a checkpoint too: with it the key of the draws is kept */
        ft_noise_make_key(r->state.key);
        rc = r->o->dp_clip > 0 ? save(r, st) : FT_OK;
    }
    out->resumed_at = r->last_checkpoint = r->state.step;
    return rc ? rc : trim_metrics(r, st);
}

static ft_code check(const ft_train_options *o, ft_status *st)
{
    if (o->steps == 0 || o->batch == 0 || o->micro == 0 || o->micro > o->batch || o->length < 2)
        return ft_fail(st, FT_ERR_ARG,
                       "training needs steps, a batch, parts no larger than it, and two tokens a sequence");
    if (o->dp_clip > 0 && o->public_data)
        return ft_fail(st, FT_ERR_ARG, "private training does not mix public text in");
    return ft_folder_make(o->folder, st);
}

ft_code ft_train_run(ft_trainer *t, const ft_train_options *o, ft_train_report *out, ft_status *st)
{
    run r = {.t = t, .o = o};
    uint64_t end = 0;
    memset(out, 0, sizeof(*out));
    ft_code rc = check(o, st);
    if (rc)
        return rc;
    char *text = describe(&r);
    r.state.run = text;
    r.checkpoint = ft_path_join(o->folder, "checkpoint");
    r.metrics = ft_path_join(o->folder, "metrics.jsonl");
    if (!text || !r.checkpoint || !r.metrics)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", o->folder);
    if (!rc)
        rc = budget(&r, &end, out, st);
    if (!rc)
        rc = resume(&r, out, st);
    if (!rc && o->stop_after && o->stop_after < end)
        end = o->stop_after;
    if (!rc)
        rc = steps(&r, end, out, st);
    out->steps_done = r.state.step;
    out->tokens = r.state.tokens;
    if (!rc && o->dp_clip > 0) {
        const ft_privacy_mechanism m = {
            .sampling_rate = r.rate, .noise_multiplier = o->noise_multiplier, .steps = r.state.step};
        rc = ft_privacy_epsilon(&out->spent, &m, o->delta, o->accountant, st);
    }
    free(text);
    free(r.checkpoint);
    free(r.metrics);
    free(r.ids);
    free(r.labels);
    free(r.begin);
    return rc;
}
