#include "base/ft_beside.h"

#include "base/ft_cpu.h"

static void *run_beside(void *context)
{
    ft_beside *b = context;
    while (ft_beside_step(b)) {
    }
    return NULL;
}

void ft_beside_begin(ft_beside *b, size_t count, ft_beside_fn *fn, void *context)
{
    b->fn = fn;
    b->context = context;
    b->count = count;
    atomic_init(&b->next, 0);
    b->helped = count > 0 && ft_cpu_count() > 1 && pthread_create(&b->helper, NULL, run_beside, b) == 0;
}

int ft_beside_step(ft_beside *b)
{
    const size_t task = atomic_load(&b->next) < b->count ? atomic_fetch_add(&b->next, 1) : b->count;
    if (task < b->count)
        b->fn(b->context, task);
    return task < b->count;
}

void ft_beside_end(ft_beside *b)
{
    atomic_store(&b->next, b->count);
    if (b->helped)
        pthread_join(b->helper, NULL);
    b->helped = 0;
}
