#include "base/ft_team.h"

#include <sched.h>

enum { SPINS = 4000 };

typedef struct run {
    ft_team_fn *fn;
    void *context;
} run;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* No thread ends a member before all have begun (or none of them waits), so each
 * takes one of the pool's tasks and the task's number is the member's. */
static void member_task(void *context, size_t task, unsigned worker)
{
    (void)worker;
    const run *r = context;
    r->fn(r->context, (unsigned)task);
}

void ft_team_run(ft_team *t, ft_pool *pool, unsigned size, ft_team_fn *fn, void *context)
{
    run r = {fn, context};
    t->size = size;
    atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
    ft_pool_run(pool, size, member_task, &r);
}

void ft_team_join(ft_team *t, void (*serial)(void *context), void *context)
{
    const unsigned step = atomic_load_explicit(&t->step, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == t->size) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        if (serial)
            serial(context);
        atomic_store_explicit(&t->step, step + 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&t->step, memory_order_acquire) == step; i++)
        if (i < SPINS)
            pause_briefly();
        else
            sched_yield();
}
