/* ft_scheduler: one thread that owns the pool and steps all running generations
 * in turn. Requests beyond the running ones wait in a bounded queue.
 *
 * Threads  submit and call from any thread; callbacks come from the scheduler's
 *          thread and must not block. What they answer cancels. */
#ifndef FT_SCHEDULER_H
#define FT_SCHEDULER_H
#include "model/ft_generate.h"

FT_API_BEGIN

typedef struct ft_scheduler ft_scheduler;

typedef struct ft_scheduler_options {
    unsigned threads;   /* of the pool; 0: all */
    size_t max_running; /* 0: 8 */
    size_t max_waiting; /* 0: 64 */
} ft_scheduler_options;

FT_CHECKED ft_code ft_scheduler_new(ft_scheduler **out, const ft_model *m, const ft_tokenizer *t,
                                    const ft_scheduler_options *o, ft_status *st);
/* Aborts what runs, waits for the callbacks, frees. */
void ft_scheduler_free(ft_scheduler *s);

/* Called after each step: with final 0 while there is more to come, with final 1
 * after the last one (rc FT_OK, or why it failed; FT_FINISH_ABORT when the scheduler
 * is freed first); then the generation is closed. A non-zero answer aborts: one
 * final call follows. */
typedef int ft_job_fn(void *context, const ft_generation *g, int final, ft_code rc, const ft_status *st);

/* Fails as ft_generation_open does for a bad request; FT_ERR_LIMIT when the queue is
 * full, FT_ERR_CANCELLED when the scheduler stops. Then `fn` is never called;
 * otherwise `context` must live until the final call. */
FT_CHECKED ft_code ft_scheduler_submit(ft_scheduler *s, const ft_generate_request *r, ft_job_fn *fn, void *context,
                                       ft_status *st);

/* Runs fn(context, pool) on the scheduler's thread between steps and waits for it:
 * how a teacher-forced pass shares the pool. Never from a callback, which would wait
 * for itself. FT_ERR_LIMIT when max_waiting calls wait, FT_ERR_CANCELLED as above. */
FT_CHECKED ft_code ft_scheduler_call(ft_scheduler *s, void (*fn)(void *context, ft_pool *pool), void *context,
                                     ft_status *st);

typedef struct ft_scheduler_load {
    size_t running, waiting;
} ft_scheduler_load;
ft_scheduler_load ft_scheduler_get_load(ft_scheduler *s);

FT_API_END
#endif
