/* ft_beside: tasks that a second thread begins with while the caller does something else.
 *
 *   ft_beside_begin(&b, count, fn, context);      fn(context, task) for some tasks, elsewhere
 *   …                                             what the caller does meanwhile
 *   while (ft_beside_step(&b)) …                  the caller takes those that are left, one by one
 *   ft_beside_end(&b);                            waits for the one that the other is at, if it is at one
 *
 * What a task computes must depend on its number alone, and two tasks share nothing that they write: then what comes
 * out does not depend on who ran which. For work of some hundred microseconds and more: a thread is started each time,
 * which costs some twenty. Where none can be started, or there is one processor alone, the caller runs all; and where
 * all processors are busy it does not wait for a thread that has not come to run.
 *
 * Threads  one caller; it and the other run tasks at the same time. */
#ifndef FT_BESIDE_H
#define FT_BESIDE_H
#include <stddef.h>

typedef void ft_beside_fn(void *context, size_t task);

typedef struct ft_beside {
    ft_beside_fn *fn;
    void *context;
    size_t count, next;         /* without a second thread */
    struct ft_beside_work *work; /* shared with it; NULL: there is none */
} ft_beside;

void ft_beside_begin(ft_beside *b, size_t count, ft_beside_fn *fn, void *context);
/* Runs the next task that nobody has begun; 0 when there is none. */
int ft_beside_step(ft_beside *b);
/* Always after begin. Tasks that nobody has begun are left undone; what the others wrote is then visible. */
void ft_beside_end(ft_beside *b);

#endif
