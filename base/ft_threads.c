#include "base/ft_threads.h"

#include "base/ft_cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { SPINS = 4000 };

struct ft_pool {
    unsigned size; /* with the caller */
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* A job: written by the caller before `ticket` shows its tasks. */
    ft_task_fn *fn;
    void *context;
    /* tasks << 32 | next. Who raises `next` below `tasks` owns a task of the job
     * that is then at work, which cannot end before that task has: so a worker that
     * comes late finds nothing or something to do, and nobody waits for it. */
    _Atomic uint64_t ticket;
    atomic_size_t done;     /* tasks of the job that are finished */
    atomic_uint generation; /* of jobs: wakes the workers */
    atomic_int stop;
};

typedef struct worker_start {
    ft_pool *pool;
    unsigned number;
} worker_start;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void work(ft_pool *p, unsigned worker)
{
    uint64_t ticket = atomic_load_explicit(&p->ticket, memory_order_acquire);
    for (;;) {
        const uint32_t task = (uint32_t)ticket;
        if (task >= ticket >> 32)
            return;
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &ticket, ticket + 1, memory_order_acquire,
                                                   memory_order_acquire))
            continue;
        p->fn(p->context, task, worker);
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
        ticket = atomic_load_explicit(&p->ticket, memory_order_acquire);
    }
}

/* Waits until the generation differs from `seen`: spinning first, then asleep. */
static unsigned wait_for_job(ft_pool *p, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        const unsigned now = atomic_load_explicit(&p->generation, memory_order_acquire);
        if (now != seen)
            return now;
        pause_briefly();
    }
    pthread_mutex_lock(&p->lock);
    unsigned now;
    while ((now = atomic_load_explicit(&p->generation, memory_order_acquire)) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return now;
}

static void *worker_main(void *argument)
{
    const worker_start start = *(worker_start *)argument;
    free(argument);
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_job(start.pool, seen);
        if (atomic_load(&start.pool->stop))
            return NULL;
        work(start.pool, start.number);
    }
}

static void announce(ft_pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

ft_code ft_pool_new(ft_pool **out, unsigned threads, ft_status *st)
{
    *out = NULL;
    ft_pool *p = calloc(1, sizeof(*p));
    if (!p)
        return ft_fail(st, FT_ERR_MEM, "thread pool: out of memory");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    const unsigned wanted = threads ? threads : ft_cpu_count();
    p->size = 1;
    p->threads = calloc(wanted, sizeof(*p->threads));
    if (!p->threads) {
        ft_pool_free(p);
        return ft_fail(st, FT_ERR_MEM, "thread pool: out of memory");
    }
    while (p->size < wanted) {
        worker_start *start = malloc(sizeof(*start));
        if (start)
            *start = (worker_start){p, p->size};
        if (!start || pthread_create(&p->threads[p->size - 1], NULL, worker_main, start) != 0) {
            free(start);
            ft_pool_free(p);
            return ft_fail(st, FT_ERR_MEM, "thread pool: cannot start %u threads", wanted);
        }
        p->size++;
    }
    *out = p;
    return FT_OK;
}

void ft_pool_free(ft_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, 1);
    announce(p);
    for (unsigned i = 0; i + 1 < p->size; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
}

unsigned ft_pool_size(const ft_pool *p)
{
    return p ? p->size : 1;
}

void ft_pool_run(ft_pool *p, size_t tasks, ft_task_fn *fn, void *context)
{
    if (!p || p->size == 1 || tasks < 2 || tasks > UINT32_MAX) {
        for (size_t i = 0; i < tasks; i++)
            fn(context, i, 0);
        return;
    }
    p->fn = fn;
    p->context = context;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store_explicit(&p->ticket, (uint64_t)tasks << 32, memory_order_release);
    announce(p);
    work(p, 0);
    /* Where threads outnumber processors the last task may be on one that sleeps. */
    for (int i = 0; atomic_load_explicit(&p->done, memory_order_acquire) < tasks; i++)
        if (i < SPINS)
            pause_briefly();
        else
            sched_yield();
}
