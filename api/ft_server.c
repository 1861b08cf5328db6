/* The server's life: what it opens, its worker threads and clock, and its end. */
#include "api/ft_server.h"

#include "api/http_internal.h"
#include "base/ft_cpu.h"
#include "base/ft_file.h"
#include "index/ft_text_match.h"
#include "tracer/ft_receipt.h"
#include "tracer/ft_retention.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

double ft_seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void ft_time_text(int64_t seconds, char out[24])
{
    struct tm t = {0};
    const time_t when = (time_t)seconds;
    gmtime_r(&when, &t);
    if (strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", &t) == 0)
        out[0] = '\0';
}

/* One line, whatever a client put into its path. */
void ft_server_log(ft_server *s, const char *fmt, ...)
{
    if (!s->options.log)
        return;
    char line[1024], when[24];
    ft_time_text((int64_t)time(NULL), when);
    int n = snprintf(line, sizeof(line), "%s ", when);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, args);
    va_end(args);
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    s->options.log(s->options.log_context, line);
}

/* --- The indexes ------------------------------------------------------------------ */

static void tell(void *context, const char *line)
{
    ft_server_log(context, "%s", line);
}

ft_snapshot *ft_server_snapshot(ft_server *s)
{
    ft_federation_refresh(s->federation, tell, s);
    return ft_federation_snapshot(s->federation);
}

/* Deletes what the federation no longer keeps, a little at a time, once a second while there is some. */
static void retain(ft_server *s)
{
    enum { AT_ONCE = 256 };
    ft_retention_rules rules;
    const double now = ft_seconds_now();
    struct timespec wall;
    size_t deleted = 0;
    ft_status st = {0};
    if (!s->store || (!atomic_exchange(&s->retain_now, 0) && now < s->retain_at))
        return;
    clock_gettime(CLOCK_REALTIME, &wall);
    ft_code rc = ft_retention_read(s->federation, s->store, &rules, &st);
    if (!rc && !rules.held && (rules.keep.max_age_ms || rules.keep.max_bytes))
        rc = ft_store_retain(s->store, &rules.keep, (uint64_t)wall.tv_sec * 1000, AT_ONCE, &deleted, &st);
    if (rc)
        ft_server_log(s, "retention: %s", st.msg);
    s->retain_at = now + (deleted ? 1 : 60);
}

uint64_t ft_removed_documents(const ft_owner *o)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < o->index_count; i++)
        sum += ft_index_get_info(o->indexes[i]).removed_documents;
    return sum;
}

void ft_server_count_removed(ft_server *s)
{
    ft_snapshot *snapshot = ft_federation_snapshot(s->federation);
    const ft_trace_scope *scope = ft_snapshot_scope(snapshot);
    for (size_t i = 0; i < scope->owner_count; i++)
        ft_metrics_removed(&s->metrics, i, ft_removed_documents(&scope->owners[i]));
    ft_snapshot_release(snapshot);
}

/* On a worker, since an index may open slowly. So the quick routes are a quarter of a
 * second behind at most, and what was removed leaves the disk though nobody asks. */
static void look_for_new(ft_work *work)
{
    ft_server *s = (ft_server *)(void *)((char *)work - offsetof(ft_server, look));
    ft_federation_refresh(s->federation, tell, s);
    ft_server_log_state(s, NULL);
    retain(s);
    ft_server_count_removed(s);
    atomic_store(&s->looking, 0);
}

/* --- Workers and the clock ------------------------------------------------------- */

void ft_job_begins(ft_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->job_count++;
    pthread_mutex_unlock(&s->lock);
}

void ft_job_ends(ft_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->job_count--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void ft_work_push(ft_server *s, ft_work *work)
{
    pthread_mutex_lock(&s->lock);
    work->next = NULL;
    *s->last = work;
    s->last = &work->next;
    pthread_cond_signal(&s->work_waits);
    pthread_mutex_unlock(&s->lock);
}

static void *work_loop(void *context)
{
    ft_server *s = context;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->first && !s->stopping)
            pthread_cond_wait(&s->work_waits, &s->lock);
        ft_work *w = s->first;
        if (!w)
            break;
        s->first = w->next;
        if (!s->first)
            s->last = &s->first;
        pthread_mutex_unlock(&s->lock);
        w->run(w);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Until `when` (monotonic) or a change, with the lock held. */
static void wait_until(ft_server *s, double when)
{
    const struct timespec t = {.tv_sec = (time_t)when, .tv_nsec = (long)((when - (double)(time_t)when) * 1e9)};
    pthread_cond_timedwait(&s->changed, &s->lock, &t);
}

static void *clock_loop(void *context)
{
    ft_server *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->stopping) {
        const double next = ft_seconds_now() + 0.25;
        while (!s->stopping && ft_seconds_now() < next)
            wait_until(s, next);
        pthread_mutex_unlock(&s->lock);
        const double now = ft_seconds_now();
        ft_peers_check(s, now);
        ft_jobs_tick(s, now);
        ft_exports_tick(s, now);
        ft_tasks_tick(s, now);
        if (!atomic_exchange(&s->looking, 1))
            ft_work_push(s, &s->look);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static ft_code start_threads(ft_server *s, ft_status *st)
{
    for (; s->worker_count < FT_WORKERS; s->worker_count++)
        if (pthread_create(&s->workers[s->worker_count], NULL, work_loop, s) != 0)
            return ft_fail(st, FT_ERR_IO, "serve: no thread for a worker: %s", strerror(errno));
    if (pthread_create(&s->ticker, NULL, clock_loop, s) != 0)
        return ft_fail(st, FT_ERR_IO, "serve: no thread for the clock: %s", strerror(errno));
    s->ticker_runs = 1;
    return FT_OK;
}

/* --- What the answers are bound to ------------------------------------------------- */

/* A store knows those of a model that was served before. Opted-out experts are not read. */
static ft_code weights_digest(ft_server *s, ft_digest *out, ft_status *st)
{
    const uint64_t opted_out = ft_federation_opted_out(s->federation);
    json_t *digests = NULL;
    if (!s->store) {
        ft_model_digests read;
        const ft_code rc = ft_model_digests_read(s->model, opted_out, NULL, &read, st);
        *out = read.model;
        return rc;
    }
    ft_code rc = ft_receipt_digests(s->store, NULL, s->model, opted_out, NULL, &digests, st);
    const char *text = json_string_value(json_object_get(digests, "model"));
    if (!rc)
        rc = text && strlen(text) > 7 ? ft_digest_parse(out, text + 7, st)
                                      : ft_fail(st, FT_ERR_FORMAT, "the store's digests of the model are damaged");
    json_decref(digests);
    return rc;
}

/* Changes whenever the tokens could: weights, version, family of kernels, precision. Reading all
 * weights of a large model takes minutes: above the limit the size and time of
 * its config stand for them. */
static ft_code make_fingerprint(ft_server *s, const ft_engine_options *how, ft_status *st)
{
    enum { READ_LIMIT_MIB = 2048 };
    ft_digest digest = {{0}};
    struct stat file = {0};
    char *config = ft_path_join(ft_model_folder(s->model), "config.json");
    if (!config)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    s->created = stat(config, &file) == 0 ? (int64_t)file.st_mtime : 0;
    const ft_model_sizes sizes = ft_model_get_sizes(s->model);
    const int large = sizes.weight_bytes > (uint64_t)READ_LIMIT_MIB << 20;
    ft_code rc = large ? ft_digest_of_file(&digest, config, st) : weights_digest(s, &digest, st);
    char text[300], hex[FT_DIGEST_HEX];
    ft_digest_hex(&digest, hex);
    snprintf(text, sizeof(text), "%s %s %s %s %s %llu %lld %llx", hex, FT_VERSION, ft_cpu_family_name(ft_cpu_isa()),
             ft_compute_name(how->compute), ft_kv_type_name(how->kv_type), (unsigned long long)sizes.weight_bytes,
             (long long)s->created, (unsigned long long)ft_federation_opted_out(s->federation));
    const ft_digest all = ft_digest_of(text, strlen(text));
    ft_digest_hex(&all, hex);
    snprintf(s->fingerprint, sizeof(s->fingerprint), "fx-%.12s", hex);
    free(config);
    return rc;
}

/* A model without a template that we have serves all but chat. */
static ft_code open_chat(ft_server *s, ft_status *st)
{
    const char *name = s->options.chat_template ? s->options.chat_template : ft_federation_chat_template(s->federation);
    const ft_code rc = ft_chat_template_open(&s->chat, ft_model_folder(s->model), name, &s->no_chat);
    if (rc == FT_ERR_UNSUPPORTED)
        ft_server_log(s, "chat: %s", s->no_chat.msg);
    if (rc != FT_OK && rc != FT_ERR_UNSUPPORTED && rc != FT_ERR_NOT_FOUND) {
        if (st)
            *st = s->no_chat;
        return rc;
    }
    return FT_OK;
}

typedef struct measuring {
    ft_server *server;
    int measured;
    ft_code rc;
    ft_status *st;
} measuring;

static void measure(void *context, ft_pool *pool)
{
    measuring *m = context;
    (void)pool;
    m->rc =
        ft_federation_measure(m->server->federation, ft_scheduler_engine(m->server->scheduler), &m->measured, m->st);
}

/* Experts' usual shares, before the first trace asks for them. */
static ft_code find_usual_shares(ft_server *s, ft_status *st)
{
    measuring m = {.server = s, .st = st};
    ft_code rc = ft_scheduler_call(s->scheduler, measure, &m, st);
    rc = rc ? rc : m.rc;
    if (m.measured)
        ft_server_log(s, "validation: usual shares measured over %llu tokens",
                      (unsigned long long)ft_federation_usual(s->federation)->tokens);
    return rc;
}

static ft_code open_parts(ft_server *s, ft_status *st)
{
    const ft_server_options *o = &s->options;
    ft_engine_options engine = ft_federation_engine(s->federation);
    ft_code rc = ft_engine_options_override(&engine, o->compute, o->kv_type, o->kv_bytes, st);
    const ft_scheduler_options how = {.threads = o->threads,
                                      .max_running = s->limits.max_running,
                                      .max_waiting = s->limits.max_waiting,
                                      .compute = engine.compute,
                                      .kv_type = engine.kv_type,
                                      .kv_bytes = engine.kv_bytes};
    const ft_store_options keep = ft_federation_store_options(s->federation);
    s->engine = engine;
    if (!rc && ft_federation_store(s->federation))
        rc = ft_store_open_with(&s->store, ft_federation_store(s->federation), &keep, st);
    if (!rc)
        rc = ft_server_read_optouts(s, st);
    if (!rc)
        rc = ft_keyring_open(&s->keys, s->federation, st);
    if (!rc && s->model)
        rc = make_fingerprint(s, &engine, st);
    if (!rc && s->model)
        rc = ft_scheduler_new(&s->scheduler, s->model, s->tokenizer, &how, st);
    if (!rc && s->model)
        rc = open_chat(s, st);
    if (!rc && s->model)
        rc = find_usual_shares(s, st);
    return rc;
}

static void free_server(ft_server *s)
{
    s->cancel = 1;
    pthread_mutex_lock(&s->lock);
    s->stopping = 1;
    pthread_cond_broadcast(&s->work_waits);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->ticker_runs)
        pthread_join(s->ticker, NULL);
    for (unsigned i = 0; i < s->worker_count; i++)
        pthread_join(s->workers[i], NULL);
    if (s->served)
        ft_server_log_state(s, "stop");
    ft_scheduler_free(s->scheduler);
    ft_store_close(s->store);
    ft_keyring_close(&s->keys);
    ft_chat_template_close(s->chat);
    json_decref(s->ready_checks);
    ft_tasks_destroy(&s->tasks);
    ft_metrics_destroy(&s->metrics);
    pthread_mutex_destroy(&s->jobs_lock);
    pthread_mutex_destroy(&s->ready_lock);
    pthread_mutex_destroy(&s->matcher_lock);
    pthread_mutex_destroy(&s->optout_lock);
    ft_text_matcher_free(s->matcher);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work_waits);
    pthread_cond_destroy(&s->changed);
    free(s);
}

ft_code ft_server_start(ft_server **out, ft_federation *f, const ft_server_options *o, ft_status *st)
{
    *out = NULL;
    ft_server *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    s->federation = f;
    s->model = ft_federation_model(f);
    s->tokenizer = ft_federation_tokenizer(f);
    s->limits = ft_federation_get_limits(f);
    if (o)
        s->options = *o;
    s->last = &s->first;
    ft_metrics_init(&s->metrics);
    ft_tasks_init(&s->tasks);
    ft_server_count_removed(s);
    s->look.run = look_for_new;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->jobs_lock, NULL);
    pthread_mutex_init(&s->ready_lock, NULL);
    pthread_mutex_init(&s->matcher_lock, NULL);
    pthread_mutex_init(&s->optout_lock, NULL);
    pthread_cond_init(&s->work_waits, NULL);
    pthread_cond_init(&s->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->loading = 1;
    ft_code rc = ft_http_start(s, s->options.listen ? s->options.listen : ft_federation_listen(f), st);
    if (!rc)
        rc = open_parts(s, st);
    s->served = !rc && s->store;
    if (s->served)
        ft_server_log_state(s, "start");
    if (!rc)
        rc = start_threads(s, st);
    if (!rc && s->model && s->store && s->keys.signer)
        ft_server_digest_later(s);
    if (rc) {
        ft_http_stop(s); /* nothing was taken on, so no connection is suspended */
        free_server(s);
    } else {
        s->loading = 0;
        *out = s;
    }
    return rc;
}

const char *ft_server_address(const ft_server *s)
{
    return s->address;
}

void ft_server_stop(ft_server *s, unsigned grace_seconds)
{
    if (!s)
        return;
    const double end = ft_seconds_now() + grace_seconds;
    pthread_mutex_lock(&s->lock);
    s->draining = 1;
    while (s->active && ft_seconds_now() < end)
        wait_until(s, end);
    pthread_mutex_unlock(&s->lock);
    s->cancel = 1;
    ft_jobs_abort(s);
    ft_exports_abort(s);
    /* Every suspended connection has to be resumed before the daemon may stop; what
     * still runs now ends at its next step. */
    pthread_mutex_lock(&s->lock);
    while (s->job_count || s->suspended)
        wait_until(s, ft_seconds_now() + 1);
    const double last_words = ft_seconds_now() + 1; /* the answers that say so get out */
    while (s->active && ft_seconds_now() < last_words)
        wait_until(s, last_words);
    pthread_mutex_unlock(&s->lock);
    ft_http_stop(s);
    free_server(s);
}
