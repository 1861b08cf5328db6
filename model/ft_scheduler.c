#include "model/ft_scheduler.h"

#include "base/ft_buffer.h"
#include "model/engine_internal.h"
#include "model/scheduler_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEFAULT_RUNNING = 32, DEFAULT_WAITING = 64, NO_MEMORY_WAIT_MS = 2 };

static void append(ft_job ***end, ft_job *j)
{
    j->next = NULL;
    **end = j;
    *end = &j->next;
}

static ft_job *take_first(ft_job **list, ft_job ***end)
{
    ft_job *j = *list;
    if (!j)
        return NULL;
    *list = j->next;
    if (!*list)
        *end = list;
    return j;
}

/* --- Keys: under the lock ---------------------------------------------------------------- */

/* The key of that name, with one more job; NULL when memory is out. */
static ft_key *hold_key(ft_scheduler *s, const char *name)
{
    ft_key *k = s->keys;
    while (k && strcmp(k->name, name) != 0)
        k = k->next;
    if (!k) {
        k = calloc(1, sizeof(*k));
        if (!k || !(k->name = strdup(name))) {
            free(k);
            return NULL;
        }
        k->waiting_end = &k->waiting;
        *s->keys_end = k;
        s->keys_end = &k->next;
    }
    k->jobs++;
    return k;
}

static void unlink_key(ft_scheduler *s, ft_key *k)
{
    ft_key **link = &s->keys;
    while (*link != k)
        link = &(*link)->next;
    *link = k->next;
    if (!*link)
        s->keys_end = link;
    k->next = NULL;
}

static void drop_key(ft_scheduler *s, ft_key *k)
{
    if (--k->jobs)
        return;
    unlink_key(s, k);
    free(k->name);
    free(k);
}

/* The job that is let in next: the first of the first key that has one. */
static ft_job *first_waiting(const ft_scheduler *s)
{
    for (ft_key *k = s->keys; k; k = k->next)
        if (k->waiting)
            return k->waiting;
    return NULL;
}

/* Takes it out; its key goes behind the others. */
static ft_job *take_waiting(ft_scheduler *s, ft_key *k)
{
    ft_job *j = take_first(&k->waiting, &k->waiting_end);
    unlink_key(s, k);
    *s->keys_end = k;
    s->keys_end = &k->next;
    s->waiting_count--;
    return j;
}

/* Takes the one of that context out of the queue; its key keeps its turn. NULL: it does not wait. */
static ft_job *take_cancelled(ft_scheduler *s, const void *context)
{
    for (ft_key *k = s->keys; k; k = k->next)
        for (ft_job **link = &k->waiting; *link; link = &(*link)->next) {
            ft_job *j = *link;
            if (j->context != context)
                continue;
            *link = j->next;
            if (!*link)
                k->waiting_end = link;
            s->waiting_count--;
            return j;
        }
    return NULL;
}

static int is_cancelled(ft_scheduler *s, const ft_job *j)
{
    pthread_mutex_lock(&s->lock);
    const int cancelled = j->cancelled;
    pthread_mutex_unlock(&s->lock);
    return cancelled;
}

/* --- The scheduler's thread ------------------------------------------------------------------ */

/* The last word of a generation. */
static void end_job(ft_scheduler *s, ft_job *j)
{
    (void)j->fn(j->context, j->generation, 1, j->rc, &j->st);
    ft_generation_close(j->generation);
    pthread_mutex_lock(&s->lock);
    drop_key(s, j->key);
    pthread_mutex_unlock(&s->lock);
    free(j);
}

static void take_task(void *context, size_t i, unsigned worker)
{
    (void)worker;
    ft_job *j = ((ft_scheduler *)context)->batch[i];
    if (!j->rc)
        j->rc = ft_generation_take(j->generation, &j->st);
}

/* Reads one pass, and lets everybody in it take what came. */
static void run_pass(ft_scheduler *s)
{
    struct timespec begin, end;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    ft_status st = {0};
    const ft_code rc = ft_engine_read(s->engine, s->reads, s->batch_count, &st);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    if (!rc)
        ft_scheduler_measure(s, (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9);
    for (size_t i = 0; i < s->batch_count && rc; i++)
        if (!s->batch[i]->rc) {
            s->batch[i]->rc = rc;
            s->batch[i]->st = st;
        }
    ft_pool_run(s->pool, s->batch_count, take_task, s);
}

/* Tells those that were in the pass, in the order in which they came; lets go of those that end. */
static void tell(ft_scheduler *s)
{
    for (ft_job **at = &s->running; *at;) {
        ft_job *j = *at;
        int ends = j->rc || ft_generation_get(j->generation).finish != FT_FINISH_NONE;
        if (!ends && (is_cancelled(s, j) || (j->reads && j->fn(j->context, j->generation, 0, FT_OK, &j->st)))) {
            ft_generation_abort(j->generation);
            ends = 1;
        }
        if (!ends) {
            at = &j->next;
            continue;
        }
        /* Both before the last word: who has heard it finds the load without it, and its memory is back where the load
         * does not count it. */
        ft_generation_end(j->generation);
        pthread_mutex_lock(&s->lock);
        *at = j->next;
        s->running_count--;
        pthread_mutex_unlock(&s->lock);
        end_job(s, j);
    }
}

/* One pass for all that run. When nobody could get memory (scores hold it), a moment's rest. */
static void step_all(ft_scheduler *s)
{
    ft_scheduler_fill(s);
    if (s->batch_count)
        run_pass(s);
    else
        nanosleep(&(struct timespec){.tv_nsec = NO_MEMORY_WAIT_MS * 1000000L}, NULL);
    tell(s);
}

static int reclaim(void *context)
{
    return ft_scheduler_pause_one(context, NULL);
}

static void run_call(ft_scheduler *s, ft_job *j)
{
    s->batch_count = 0;
    s->engine->reclaim = reclaim; /* between passes every request can be set back */
    s->engine->reclaim_context = s;
    j->call(j->context, s->pool);
    s->engine->reclaim = NULL;
    pthread_mutex_lock(&s->lock);
    j->done = 1; /* from here on its owner may let it go */
    pthread_cond_broadcast(&s->finished);
    pthread_mutex_unlock(&s->lock);
}

/* Lets one waiting generation in if there is room for it. */
static int let_in(ft_scheduler *s)
{
    ft_job **end = &s->running;
    while (*end)
        end = &(*end)->next;
    pthread_mutex_lock(&s->lock);
    ft_job *j = s->running_count < s->max_running ? first_waiting(s) : NULL;
    pthread_mutex_unlock(&s->lock);
    if (!j || !ft_scheduler_has_room(s, j)) /* this thread alone frees it */
        return 0;
    pthread_mutex_lock(&s->lock);
    if (j->key->waiting == j) { /* else it was cancelled meanwhile, and the next one is looked at */
        append(&end, take_waiting(s, j->key));
        s->running_count++;
    }
    pthread_mutex_unlock(&s->lock);
    return 1;
}

/* The last word of those that were cancelled while they waited. */
static void end_cancelled(ft_scheduler *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        ft_job *j = take_first(&s->cancelled, &s->cancelled_end);
        pthread_mutex_unlock(&s->lock);
        if (!j)
            return;
        ft_generation_abort(j->generation);
        end_job(s, j);
    }
}

/* Waits until there is something to do, takes one call, and lets waiting generations
 * in. 0 when it is time to stop. */
static int next_work(ft_scheduler *s, ft_job **call)
{
    pthread_mutex_lock(&s->lock);
    while (!s->stop && !s->calls && !s->cancelled && !s->waiting_count && !s->running)
        pthread_cond_wait(&s->work, &s->lock);
    const int go_on = !s->stop;
    *call = go_on ? take_first(&s->calls, &s->calls_end) : NULL;
    pthread_mutex_unlock(&s->lock);
    end_cancelled(s);
    while (go_on && let_in(s))
        ;
    return go_on;
}

/* Ends what still runs or waits; calls are run, for their owners wait for them. */
static void drain(ft_scheduler *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        ft_job *call = take_first(&s->calls, &s->calls_end), *j = s->running;
        if (j)
            s->running = j->next;
        else if ((j = first_waiting(s)))
            j = take_waiting(s, j->key);
        else
            j = take_first(&s->cancelled, &s->cancelled_end);
        pthread_mutex_unlock(&s->lock);
        if (!call && !j)
            return;
        if (call)
            run_call(s, call);
        if (j) {
            ft_generation_abort(j->generation);
            end_job(s, j);
        }
    }
}

static void *main_loop(void *argument)
{
    ft_scheduler *s = argument;
    ft_job *call;
    while (next_work(s, &call)) {
        if (call)
            run_call(s, call);
        if (s->running)
            step_all(s);
    }
    drain(s);
    return NULL;
}

/* --- Its callers --------------------------------------------------------------------------- */

static ft_code open_parts(ft_scheduler *s, const ft_model *m, const ft_scheduler_options *o, ft_status *st)
{
    s->max_running = o->max_running ? o->max_running : DEFAULT_RUNNING;
    s->max_waiting = o->max_waiting ? o->max_waiting : DEFAULT_WAITING;
    s->reads = ft_alloc_array(s->max_running, sizeof(*s->reads));
    s->batch = ft_alloc_array(s->max_running, sizeof(ft_job *));
    if (!s->reads || !s->batch)
        return ft_fail(st, FT_ERR_MEM, "scheduler: no memory for %zu running requests", s->max_running);
    ft_code rc = ft_pool_new(&s->pool, o->threads, st);
    if (rc)
        return rc;
    const ft_engine_options how = {
        .kv_bytes = o->kv_bytes,
        .kv_type = o->kv_type,
        .compute = o->compute,
        .batch_tokens = s->max_running > FT_BATCH_TOKENS / 2 ? s->max_running + FT_BATCH_TOKENS / 2 : FT_BATCH_TOKENS};
    rc = ft_engine_new(&s->engine, m, s->pool, &how, st);
    if (!rc && pthread_create(&s->thread, NULL, main_loop, s) != 0)
        rc = ft_fail(st, FT_ERR_MEM, "scheduler: cannot start a thread");
    s->started = !rc;
    return rc;
}

ft_code ft_scheduler_new(ft_scheduler **out, const ft_model *m, const ft_tokenizer *t, const ft_scheduler_options *o,
                         ft_status *st)
{
    const ft_scheduler_options none = {0};
    *out = NULL;
    ft_scheduler *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "scheduler: out of memory");
    s->tokenizer = t;
    s->on_pass = o ? o->on_pass : NULL;
    s->pass_context = o ? o->pass_context : NULL;
    s->calls_end = &s->calls;
    s->keys_end = &s->keys;
    s->cancelled_end = &s->cancelled;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->finished, NULL);
    const ft_code rc = open_parts(s, m, o ? o : &none, st);
    if (rc) {
        ft_scheduler_free(s);
        return rc;
    }
    *out = s;
    return FT_OK;
}

void ft_scheduler_free(ft_scheduler *s)
{
    if (!s)
        return;
    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->stop = 1;
        pthread_cond_broadcast(&s->work);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    ft_engine_free(s->engine);
    ft_pool_free(s->pool);
    pthread_cond_destroy(&s->finished);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s->reads);
    free(s->batch);
    free(s);
}

/* Puts an opened generation into the queue; `j` is then the scheduler's. */
static ft_code enqueue(ft_scheduler *s, ft_job *j, const char *key, ft_status *st)
{
    /* Those that can run at once do not wait: a burst between two passes finds all the places that it will have. */
    const int full = s->waiting_count >= s->max_waiting + (s->max_running - s->running_count);
    if (s->stop)
        return ft_fail(st, FT_ERR_CANCELLED, "scheduler: is stopping");
    if (full)
        return ft_fail(st, FT_ERR_LIMIT, "scheduler: %zu requests wait already", s->waiting_count);
    j->key = hold_key(s, key ? key : "local");
    if (!j->key)
        return ft_fail(st, FT_ERR_MEM, "scheduler: out of memory");
    append(&j->key->waiting_end, j);
    s->waiting_count++;
    pthread_cond_signal(&s->work);
    return FT_OK;
}

ft_code ft_scheduler_submit(ft_scheduler *s, const ft_generate_request *r, ft_job_fn *fn, void *context, ft_status *st)
{
    ft_generation *g;
    ft_code rc = ft_generation_open_on(&g, s->engine, s->tokenizer, r, st);
    if (rc)
        return rc;
    ft_job *j = malloc(sizeof(*j));
    if (!j) {
        ft_generation_close(g);
        return ft_fail(st, FT_ERR_MEM, "scheduler: out of memory");
    }
    *j = (ft_job){.generation = g, .fn = fn, .context = context};
    pthread_mutex_lock(&s->lock);
    rc = enqueue(s, j, r->key, st);
    pthread_mutex_unlock(&s->lock);
    if (rc) {
        ft_generation_close(g);
        free(j);
    }
    return rc;
}

void ft_scheduler_cancel(ft_scheduler *s, const void *context)
{
    pthread_mutex_lock(&s->lock);
    ft_job *j = take_cancelled(s, context);
    if (j) {
        append(&s->cancelled_end, j);
        pthread_cond_signal(&s->work);
    }
    for (ft_job *r = s->running; r && !j; r = r->next)
        if (r->context == context)
            r->cancelled = 1;
    pthread_mutex_unlock(&s->lock);
}

ft_code ft_scheduler_call(ft_scheduler *s, void (*fn)(void *context, ft_pool *pool), void *context, ft_status *st)
{
    ft_job own = {.call = fn, .context = context};
    ft_code rc = FT_OK;
    pthread_mutex_lock(&s->lock);
    size_t calls = 0;
    for (const ft_job *j = s->calls; j; j = j->next)
        calls++;
    if (s->stop)
        rc = ft_fail(st, FT_ERR_CANCELLED, "scheduler: is stopping");
    else if (calls >= s->max_waiting)
        rc = ft_fail(st, FT_ERR_LIMIT, "scheduler: %zu calls wait already", calls);
    if (!rc) {
        append(&s->calls_end, &own);
        pthread_cond_signal(&s->work);
        while (!own.done)
            pthread_cond_wait(&s->finished, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

ft_engine *ft_scheduler_engine(ft_scheduler *s)
{
    return s->engine;
}

ft_scheduler_load ft_scheduler_get_load(ft_scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    ft_scheduler_load load = {.running = s->running_count, .waiting = s->waiting_count, .pauses = s->pauses};
    pthread_mutex_unlock(&s->lock);
    load.engine = ft_engine_get_load(s->engine);
    return load;
}
