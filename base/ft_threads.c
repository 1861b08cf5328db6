#include "base/ft_threads.h"

#include "base/ft_cpu.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 4000 };

struct ft_pool {
    unsigned size; /* with the caller */
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* A job: written by the caller before `generation` rises. */
    ft_task_fn *fn;
    void *context;
    size_t tasks;
    atomic_size_t next;
    atomic_uint generation;
    atomic_uint busy; /* workers that have not finished the current job */
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
    for (;;) {
        const size_t task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (task >= p->tasks)
            return;
        p->fn(p->context, task, worker);
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
        atomic_fetch_sub_explicit(&start.pool->busy, 1, memory_order_release);
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
    if (!p || p->size == 1 || tasks < 2) {
        for (size_t i = 0; i < tasks; i++)
            fn(context, i, 0);
        return;
    }
    p->fn = fn;
    p->context = context;
    p->tasks = tasks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->busy, p->size - 1, memory_order_relaxed);
    announce(p);
    work(p, 0);
    while (atomic_load_explicit(&p->busy, memory_order_acquire))
        pause_briefly();
}
