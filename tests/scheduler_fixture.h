/* scheduler_fixture: a client of the scheduler that keeps what its generation said and can be
 * waited for. */
#ifndef FT_SCHEDULER_FIXTURE_H
#define FT_SCHEDULER_FIXTURE_H
#include "model/ft_scheduler.h"

#include <pthread.h>
#include <string.h>

typedef struct client {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t ids[128];
    size_t count, steps, cached, stop_after, *order; /* stop_after 0: never */
    size_t place;                                    /* among those that ended */
    int finals;
    ft_code rc;
    ft_finish finish;
} client;

static int on_step(void *context, const ft_generation *g, int final, ft_code rc, const ft_status *st)
{
    (void)st;
    client *c = context;
    const ft_generation_state now = ft_generation_get(g);
    pthread_mutex_lock(&c->lock);
    c->steps++;
    c->count = now.count;
    c->cached = now.cached_tokens;
    memcpy(c->ids, now.ids, now.count * sizeof(*c->ids));
    c->finals += final;
    c->rc = rc;
    c->finish = now.finish;
    if (final && c->order)
        c->place = ++*c->order; /* callbacks come from one thread */
    const int stop = c->stop_after && c->steps >= c->stop_after;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return stop;
}

static void wait_for(client *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->finals)
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

static client new_client(void)
{
    return (client){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
}

#endif
