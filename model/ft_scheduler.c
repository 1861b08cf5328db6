#include "model/ft_scheduler.h"

#include <pthread.h>
#include <stdlib.h>

enum { DEFAULT_RUNNING = 8, DEFAULT_WAITING = 64 };

/* A generation or a call. Generations are opened by the thread that submits them,
 * so that a bad request fails there and then; their memory is touched only as they
 * run. */
typedef struct job {
    struct job *next;
    ft_generation *generation; /* NULL: a call */
    ft_job_fn *fn;
    void (*call)(void *context, ft_pool *pool);
    void *context;
    int done; /* of a call, under the lock */
} job;

struct ft_scheduler {
    const ft_model *model;
    const ft_tokenizer *tokenizer;
    ft_pool *pool;
    size_t max_running, max_waiting;
    pthread_t thread;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t work, finished; /* something to do, or stop; a call is done */
    /* Under the lock. */
    job *calls, **calls_end;
    job *waiting, **waiting_end;
    size_t waiting_count, running_count;
    int stop;
    /* The scheduler's thread alone. */
    job *running;
};

static void append(job ***end, job *j)
{
    j->next = NULL;
    **end = j;
    *end = &j->next;
}

static job *take_first(job **list, job ***end)
{
    job *j = *list;
    if (!j)
        return NULL;
    *list = j->next;
    if (!*list)
        *end = list;
    return j;
}

/* --- The scheduler's thread ------------------------------------------------------- */

/* The last word of a generation. */
static void end_job(job *j, ft_code rc, const ft_status *st)
{
    (void)j->fn(j->context, j->generation, 1, rc, st);
    ft_generation_close(j->generation);
    free(j);
}

/* One step of one generation; 1 when that ended it. */
static int step(job *j)
{
    ft_status st = {0};
    const ft_code rc = ft_generation_step(j->generation, &st);
    if (rc || ft_generation_get(j->generation).finish != FT_FINISH_NONE) {
        end_job(j, rc, &st);
        return 1;
    }
    if (!j->fn(j->context, j->generation, 0, FT_OK, &st))
        return 0;
    ft_generation_abort(j->generation);
    end_job(j, FT_OK, &st);
    return 1;
}

/* Steps every running generation once, in the order they came. */
static void step_all(ft_scheduler *s)
{
    for (job **at = &s->running; *at;) {
        job *j = *at, *next = j->next;
        if (!step(j)) {
            at = &j->next;
            continue;
        }
        *at = next;
        pthread_mutex_lock(&s->lock);
        s->running_count--;
        pthread_mutex_unlock(&s->lock);
    }
}

static void run_call(ft_scheduler *s, job *j)
{
    j->call(j->context, s->pool);
    pthread_mutex_lock(&s->lock);
    j->done = 1; /* from here on its owner may let it go */
    pthread_cond_broadcast(&s->finished);
    pthread_mutex_unlock(&s->lock);
}

/* Waits until there is something to do: takes one call, and lets waiting
 * generations in while there is room. 0 when it is time to stop. */
static int next_work(ft_scheduler *s, job **call)
{
    pthread_mutex_lock(&s->lock);
    while (!s->stop && !s->calls && !s->waiting && !s->running)
        pthread_cond_wait(&s->work, &s->lock);
    const int go_on = !s->stop;
    *call = go_on ? take_first(&s->calls, &s->calls_end) : NULL;
    job **end = &s->running;
    while (*end)
        end = &(*end)->next;
    while (go_on && s->waiting && s->running_count < s->max_running) {
        append(&end, take_first(&s->waiting, &s->waiting_end));
        s->waiting_count--;
        s->running_count++;
    }
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

/* Ends what still runs or waits; calls are run, for their owners wait for them. */
static void drain(ft_scheduler *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        job *call = take_first(&s->calls, &s->calls_end);
        job *j = s->running ? s->running : take_first(&s->waiting, &s->waiting_end);
        if (s->running)
            s->running = s->running->next;
        pthread_mutex_unlock(&s->lock);
        if (!call && !j)
            return;
        if (call)
            run_call(s, call);
        if (j) {
            ft_status st = {0};
            ft_generation_abort(j->generation);
            end_job(j, FT_OK, &st);
        }
    }
}

static void *main_loop(void *argument)
{
    ft_scheduler *s = argument;
    job *call;
    while (next_work(s, &call)) {
        if (call)
            run_call(s, call);
        step_all(s);
    }
    drain(s);
    return NULL;
}

/* --- Its callers ------------------------------------------------------------------- */

ft_code ft_scheduler_new(ft_scheduler **out, const ft_model *m, const ft_tokenizer *t, const ft_scheduler_options *o,
                         ft_status *st)
{
    *out = NULL;
    ft_scheduler *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "scheduler: out of memory");
    s->model = m;
    s->tokenizer = t;
    s->max_running = o && o->max_running ? o->max_running : DEFAULT_RUNNING;
    s->max_waiting = o && o->max_waiting ? o->max_waiting : DEFAULT_WAITING;
    s->calls_end = &s->calls;
    s->waiting_end = &s->waiting;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->finished, NULL);
    ft_code rc = ft_pool_new(&s->pool, o ? o->threads : 0, st);
    if (!rc && pthread_create(&s->thread, NULL, main_loop, s) != 0)
        rc = ft_fail(st, FT_ERR_MEM, "scheduler: cannot start a thread");
    if (rc) {
        ft_scheduler_free(s);
        return rc;
    }
    s->started = 1;
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
    ft_pool_free(s->pool);
    pthread_cond_destroy(&s->finished);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

ft_code ft_scheduler_submit(ft_scheduler *s, const ft_generate_request *r, ft_job_fn *fn, void *context, ft_status *st)
{
    ft_generation *g;
    ft_code rc = ft_generation_open(&g, s->model, s->tokenizer, s->pool, r, st);
    if (rc)
        return rc;
    job *j = malloc(sizeof(*j));
    if (!j) {
        ft_generation_close(g);
        return ft_fail(st, FT_ERR_MEM, "scheduler: out of memory");
    }
    *j = (job){.generation = g, .fn = fn, .context = context};
    pthread_mutex_lock(&s->lock);
    /* One that can run at once does not wait. */
    const int full = s->waiting_count >= s->max_waiting + (s->running_count < s->max_running);
    if (s->stop)
        rc = ft_fail(st, FT_ERR_CANCELLED, "scheduler: is stopping");
    else if (full)
        rc = ft_fail(st, FT_ERR_LIMIT, "scheduler: %zu requests wait already", s->waiting_count);
    if (!rc) {
        append(&s->waiting_end, j);
        s->waiting_count++;
        pthread_cond_signal(&s->work);
        j = NULL;
        g = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    ft_generation_close(g);
    free(j);
    return rc;
}

ft_code ft_scheduler_call(ft_scheduler *s, void (*fn)(void *context, ft_pool *pool), void *context, ft_status *st)
{
    job own = {.call = fn, .context = context};
    ft_code rc = FT_OK;
    pthread_mutex_lock(&s->lock);
    size_t calls = 0;
    for (const job *j = s->calls; j; j = j->next)
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

ft_scheduler_load ft_scheduler_get_load(ft_scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    const ft_scheduler_load load = {.running = s->running_count, .waiting = s->waiting_count};
    pthread_mutex_unlock(&s->lock);
    return load;
}
