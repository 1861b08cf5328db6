#include "base/ft_beside.h"

#include "base/ft_cpu.h"

#include <pthread.h>
#include <stdlib.h>

/* Lives until the caller and the other thread are both through with it: where the processors are busy, the other may
 * come to run long after the caller has done all. */
typedef struct ft_beside_work {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* the other is at no task any more */
    ft_beside_fn *fn;
    void *context;
    size_t count, next;
    int busy, users;
} ft_beside_work;

/* With the lock held, which is given up. */
static void leave(ft_beside_work *w)
{
    const int last = --w->users == 0;
    pthread_mutex_unlock(&w->lock);
    if (!last)
        return;
    pthread_cond_destroy(&w->idle);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void *run_beside(void *context)
{
    ft_beside_work *w = context;
    pthread_mutex_lock(&w->lock);
    while (w->next < w->count) {
        const size_t task = w->next++;
        w->busy = 1;
        pthread_mutex_unlock(&w->lock);
        w->fn(w->context, task);
        pthread_mutex_lock(&w->lock);
        w->busy = 0;
        pthread_cond_signal(&w->idle);
    }
    leave(w);
    return NULL;
}

/* NULL where there can be no second thread. */
static ft_beside_work *start(size_t count, ft_beside_fn *fn, void *context)
{
    pthread_t thread;
    ft_beside_work *w = count && ft_cpu_count() > 1 ? calloc(1, sizeof(*w)) : NULL;
    if (!w)
        return NULL;
    w->fn = fn;
    w->context = context;
    w->count = count;
    w->users = 2;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->idle, NULL);
    if (pthread_create(&thread, NULL, run_beside, w) == 0) {
        pthread_detach(thread);
        return w;
    }
    w->users = 1;
    pthread_mutex_lock(&w->lock);
    leave(w);
    return NULL;
}

void ft_beside_begin(ft_beside *b, size_t count, ft_beside_fn *fn, void *context)
{
    *b = (ft_beside){fn, context, count, 0, start(count, fn, context)};
}

int ft_beside_step(ft_beside *b)
{
    ft_beside_work *w = b->work;
    size_t task = b->next;
    if (w) {
        pthread_mutex_lock(&w->lock);
        task = w->next;
        w->next += task < w->count;
        pthread_mutex_unlock(&w->lock);
    } else {
        b->next += task < b->count;
    }
    if (task < b->count)
        b->fn(b->context, task);
    return task < b->count;
}

void ft_beside_end(ft_beside *b)
{
    ft_beside_work *w = b->work;
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->next = w->count;
    while (w->busy)
        pthread_cond_wait(&w->idle, &w->lock);
    leave(w);
    b->work = NULL;
}
