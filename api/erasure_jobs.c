/* Takedowns as jobs: one at a time, in the order in which they were asked for. Whoever asks waits for the certificate
 * unless that takes long, and can look later; what a job came to stays in the store. */
#include "api/erasure_jobs.h"
#include "api/compliance_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEPT_JOBS = 256, PATIENCE_SECONDS = 10 };

struct ft_task {
    ft_work work; /* first: the worker queue hands it back */
    ft_task *next;   /* in the list of all, newest first */
    ft_task *behind; /* in the queue */
    ft_server *server;
    ft_request *waiting; /* gets the certificate; NULL: nobody waits */
    ft_client *client;   /* its */
    int handed;          /* its handler has returned: it may be answered */
    double started;
    char id[FT_TRACE_ID], key[64], request_id[FT_REQUEST_ID], *path;
    json_t *body;
    ft_erasure order;
    const char **documents; /* the order's */
    ft_progress progress;
    ft_task_state state;
    int step;
    atomic_int cancel;
    char created[24], ended[24];
    json_t *certificate;
    ft_status why;
};

static void now_text(char out[24])
{
    ft_time_text((int64_t)time(NULL), out);
}

static void task_free(ft_task *t)
{
    if (!t)
        return;
    ft_client_release(t->client);
    json_decref(t->certificate);
    json_decref(t->body);
    free((void *)(uintptr_t)t->documents);
    free(t->path);
    free(t);
}

void ft_tasks_init(ft_tasks *all)
{
    memset(all, 0, sizeof(*all));
    pthread_mutex_init(&all->lock, NULL);
}

void ft_tasks_destroy(ft_tasks *all)
{
    while (all->first) {
        ft_task *t = all->first;
        all->first = t->next;
        task_free(t);
    }
    pthread_mutex_destroy(&all->lock);
}

/* --- What is told of a job ----------------------------------------------------------------------------------- */

static int is_over(ft_task_state state)
{
    return state >= FT_TASK_SUCCEEDED;
}

/* With the lock held. A message of our own files goes to the log alone, as with all answers. */
static json_t *task_json(const ft_task *t)
{
    static const char *const names[] = {"queued", "running", "succeeded", "failed", "cancelled"};
    json_t *result = NULL, *error = NULL;
    const double progress = t->state == FT_TASK_SUCCEEDED ? 1 : (double)t->step / FT_ERASURE_STEPS;
    if (t->certificate)
        result = json_sprintf("/v1/takedowns/%s", json_string_value(json_object_get(t->certificate, "id")));
    if (t->state == FT_TASK_FAILED)
        error = json_pack("{s:s,s:o}", "code", ft_code_name(t->why.code), "detail",
                          t->why.code == FT_ERR_IO ? json_sprintf("the server could not do this; its log says why, "
                                                                  "under request %s",
                                                                  t->request_id)
                                                   : ft_json_text(t->why.msg, strlen(t->why.msg)));
    return json_pack("{s:s,s:s,s:s,s:s,s:f,s:s,s:s?,s:s,s:o?,s:o?}", "id", t->id, "object", "job", "kind", "takedown",
                     "state", names[t->state], "progress", progress, "created", t->created, "ended",
                     t->ended[0] ? t->ended : NULL, "request", t->request_id, "result", result, "error", error);
}

static void note_name(const char *id, char out[64])
{
    snprintf(out, 64, "job:%.40s", id);
}

/* What a later start of the server, too, will tell. */
static ft_code keep_job(ft_server *s, const char *id, json_t *job, ft_status *st)
{
    char name[64];
    ft_buffer text = {0};
    note_name(id, name);
    ft_code rc = job ? ft_json_write(job, &text, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_store_note_put(s->store, name, text.data, text.size, st);
    ft_buffer_release(&text);
    json_decref(job);
    return rc;
}

/* One of an earlier start that has not ended ended with it. */
static ft_code read_job(ft_server *s, const char *id, json_t **job, ft_status *st)
{
    char name[64];
    ft_buffer text = {0};
    note_name(id, name);
    *job = NULL;
    ft_code rc = ft_store_note_get(s->store, name, &text, st);
    if (!rc)
        rc = ft_json_parse(job, text.data ? text.data : "", text.size, "job", st);
    ft_buffer_release(&text);
    const char *state = json_string_value(json_object_get(*job, "state"));
    if (!rc && state && (!strcmp(state, "queued") || !strcmp(state, "running"))) {
        (void)json_object_set_new(*job, "state", json_string("failed"));
        (void)json_object_set_new(*job, "error",
                                  json_pack("{s:s,s:s}", "code", "interrupted", "detail",
                                            "the server ended before the job did; the same request again does the "
                                            "rest"));
    }
    return rc;
}

static ft_task *find_task(const ft_tasks *all, const char *id)
{
    ft_task *t = all->first;
    while (t && strcmp(t->id, id) != 0)
        t = t->next;
    return t;
}

ft_code ft_task_look(ft_server *s, const char *id, json_t **job, ft_status *st)
{
    const ft_task *t = find_task(&s->tasks, id);
    *job = t ? task_json(t) : NULL;
    return *job ? FT_OK : read_job(s, id, job, st);
}

ft_code ft_task_get(ft_server *s, const char *id, json_t **job, ft_status *st)
{
    pthread_mutex_lock(&s->tasks.lock);
    const ft_code rc = ft_task_look(s, id, job, st);
    pthread_mutex_unlock(&s->tasks.lock);
    return rc;
}

json_t *ft_tasks_json(ft_server *s)
{
    json_t *list = json_array();
    pthread_mutex_lock(&s->tasks.lock);
    for (const ft_task *t = s->tasks.first; t; t = t->next)
        (void)json_array_append_new(list, task_json(t));
    pthread_mutex_unlock(&s->tasks.lock);
    return list;
}

/* --- Answers --------------------------------------------------------------------------------------------------- */

void ft_answer_certificate(ft_request *q, json_t *certificate)
{
    char location[80];
    snprintf(location, sizeof(location), "/v1/takedowns/%s", json_string_value(json_object_get(certificate, "id")));
    ft_answer_header(q, "Location", location);
    ft_answer_json(q, 201, certificate);
}

void ft_answer_job(ft_request *q, json_t *job)
{
    char location[80];
    snprintf(location, sizeof(location), "/v1/jobs/%s", json_string_value(json_object_get(job, "id")));
    ft_answer_header(q, "Location", location);
    ft_answer_header(q, "Retry-After", "1");
    ft_answer_json(q, 202, job);
}

/* --- Running ----------------------------------------------------------------------------------------------------- */

static int report(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    ft_task *t = context;
    (void)phase, (void)total, (void)unit;
    pthread_mutex_lock(&t->server->tasks.lock);
    t->step = (int)done;
    pthread_mutex_unlock(&t->server->tasks.lock);
    return atomic_load(&t->cancel) || t->server->cancel;
}

/* Ends a job and answers who waits for it; the one behind it begins. */
static void end_task(ft_task *t, ft_code rc)
{
    ft_server *s = t->server;
    ft_status st = {0};
    pthread_mutex_lock(&s->tasks.lock);
    t->state = !rc ? FT_TASK_SUCCEEDED : rc == FT_ERR_CANCELLED ? FT_TASK_CANCELLED : FT_TASK_FAILED;
    now_text(t->ended);
    json_t *job = task_json(t), *certificate = json_incref(t->certificate);
    ft_request *q = t->waiting;
    ft_status why = t->why;
    t->waiting = NULL;
    pthread_mutex_unlock(&s->tasks.lock);
    if (keep_job(s, t->id, job, &st))
        ft_server_log(s, "%s: what came of the job is not kept: %s", t->request_id, st.msg);
    if (rc) {
        ft_server_log(s, "%s: takedown: %s", t->request_id, why.msg);
        ft_log_failed_takedown(s, t->key, t->request_id, t->path, t->body, &why);
    }
    if (q && rc)
        ft_refuse_status(q, NULL, &why);
    else if (q)
        ft_answer_certificate(q, json_incref(certificate));
    json_decref(certificate);
    if (q)
        ft_request_done(q);
    pthread_mutex_lock(&s->tasks.lock); /* t is the list's own, and may go from here on */
    ft_task *behind = s->tasks.queue;
    s->tasks.queue = behind ? behind->behind : NULL;
    s->tasks.running = NULL;
    pthread_mutex_unlock(&s->tasks.lock);
    if (behind)
        ft_work_push(s, &behind->work);
}

static void run_task(ft_work *work)
{
    ft_task *t = (ft_task *)work, **last;
    ft_server *s = t->server;
    ft_code rc = FT_OK;
    pthread_mutex_lock(&s->tasks.lock);
    t->handed = 1;
    const int waits = s->tasks.running != NULL;
    if (waits) {
        for (last = &s->tasks.queue; *last; last = &(*last)->behind)
            ;
        t->behind = NULL;
        *last = t;
    } else {
        s->tasks.running = t;
        t->state = FT_TASK_RUNNING;
    }
    pthread_mutex_unlock(&s->tasks.lock);
    if (waits)
        return;
    if (atomic_load(&t->cancel) || s->cancel)
        rc = ft_fail(&t->why, FT_ERR_CANCELLED, "erasure: stopped before it began");
    json_t *certificate = NULL;
    if (!rc)
        rc = ft_erase(s->federation, s->store, &t->order, &certificate, &t->why);
    pthread_mutex_lock(&s->tasks.lock);
    t->certificate = certificate;
    pthread_mutex_unlock(&s->tasks.lock);
    end_task(t, rc);
}

/* With the lock held: the oldest that are over make room. */
static void forget_oldest(ft_tasks *all)
{
    size_t n = 0;
    for (ft_task **at = &all->first; *at;) {
        ft_task *t = *at;
        if (++n <= KEPT_JOBS || !is_over(t->state) || t == all->running || t->waiting) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        task_free(t);
    }
}

static ft_task *new_task(ft_request *q, ft_erasure *order)
{
    ft_task *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    static const char kind[] = {'j', 'o', 'b', '_'};
    ft_trace_id_new(t->id);
    memcpy(t->id, kind, sizeof(kind));
    t->work.run = run_task;
    t->server = q->server;
    t->started = q->started;
    t->body = json_incref(q->json);
    t->path = strdup(q->path);
    snprintf(t->key, sizeof(t->key), "%s", q->key);
    snprintf(t->request_id, sizeof(t->request_id), "%s", q->id);
    t->progress = (ft_progress){report, t};
    t->order = *order;
    t->order.who = t->key;
    t->order.progress = &t->progress;
    t->documents = (const char **)(uintptr_t)order->documents;
    order->documents = NULL;
    t->client = q->client;
    atomic_fetch_add(&q->client->references, 1);
    now_text(t->created);
    return t;
}

ft_code ft_task_start(ft_request *q, ft_erasure *order, int wait, char id[FT_TRACE_ID], json_t **job, ft_status *st)
{
    ft_server *s = q->server;
    ft_task *t = new_task(q, order);
    *job = NULL;
    if (!t || !t->path) {
        task_free(t);
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    ft_code rc = keep_job(s, t->id, task_json(t), st);
    if (rc) {
        task_free(t);
        return rc;
    }
    snprintf(id, FT_TRACE_ID, "%s", t->id);
    *job = wait ? NULL : task_json(t);
    t->waiting = wait ? q : NULL;
    t->next = s->tasks.first;
    s->tasks.first = t;
    forget_oldest(&s->tasks);
    if (wait)
        q->then = &t->work;
    else
        ft_work_push(s, &t->work);
    return FT_OK;
}

/* Whoever has waited long is told where to look; a client that went waits no more. The erasure goes on. */
void ft_tasks_tick(ft_server *s, double now)
{
    const unsigned half = s->limits.request_seconds / 2;
    const double patience = half < PATIENCE_SECONDS ? half : PATIENCE_SECONDS;
    pthread_mutex_lock(&s->tasks.lock);
    for (ft_task *t = s->tasks.first; t; t = t->next) {
        ft_request *q = t->waiting;
        if (!q || !t->handed || is_over(t->state) || (now - t->started < patience && !ft_client_gone(t->client)))
            continue;
        t->waiting = NULL;
        ft_answer_job(q, task_json(t));
        ft_request_done(q);
    }
    pthread_mutex_unlock(&s->tasks.lock);
}

ft_code ft_task_cancel(ft_server *s, const char *id, json_t **job, ft_status *st)
{
    *job = NULL;
    pthread_mutex_lock(&s->tasks.lock);
    ft_task *t = find_task(&s->tasks, id);
    const int over = !t || is_over(t->state);
    if (!over) {
        atomic_store(&t->cancel, 1);
        *job = task_json(t);
    }
    pthread_mutex_unlock(&s->tasks.lock);
    if (!over)
        return FT_OK;
    const ft_code rc = t ? FT_OK : read_job(s, id, job, st);
    json_decref(*job);
    *job = NULL;
    return rc ? rc : ft_fail(st, FT_ERR_ARG, "the job has ended");
}
