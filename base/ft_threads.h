/* ft_threads: a pool that runs one job at a time on all its threads.
 *
 * A job is `tasks` calls of one function; threads take tasks in order as they
 * become free. What a task computes must depend on its number alone, never on
 * `worker`, so that results do not change with the number of threads.
 *
 * Threads  one caller at a time may use a pool; the caller works along.
 * Cost     workers spin for some microseconds before they sleep, so that the
 *          many short jobs of a decode step start without a system call. */
#ifndef FT_THREADS_H
#define FT_THREADS_H
#include "base/ft_status.h"

#include <stddef.h>

FT_API_BEGIN

typedef struct ft_pool ft_pool;
/* worker: 0 (the caller) to ft_pool_size - 1, for scratch memory. */
typedef void ft_task_fn(void *context, size_t task, unsigned worker);

/* threads 0: one for each processor this process may use. */
FT_CHECKED ft_code ft_pool_new(ft_pool **out, unsigned threads, ft_status *st);
void ft_pool_free(ft_pool *p);
unsigned ft_pool_size(const ft_pool *p); /* NULL gives 1 */
/* Returns when all tasks are done. A NULL pool runs them in the caller. */
void ft_pool_run(ft_pool *p, size_t tasks, ft_task_fn *fn, void *context);

FT_API_END
#endif
