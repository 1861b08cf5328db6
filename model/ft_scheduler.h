/* ft_scheduler: one thread that owns the pool and an engine (ft_engine.h). Each of its passes
 * reads the next token of every running generation, and chunks of the prompts of those
 * that begin, as large as the others' pace allows. Requests beyond the running ones
 * wait in a bounded queue, from which keys are let in by turns.
 *
 * Memory   a request that needs key-value memory which is in use waits for it; when
 *          what runs outgrows it, the youngest is set back and read again later.
 *          What it writes stays the same.
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
    size_t max_running; /* 0: 32 */
    size_t max_waiting; /* 0: 64 */
    ft_compute compute;
    ft_kv_type kv_type;
    size_t kv_bytes; /* 0: an eighth of the machine's memory */
    /* Told of every pass, on the scheduler's thread: how many generations read the token they
     * wrote, how many tokens of prompts stood beside them, and how long it took. The answer
     * is what it is taken to have lasted, by which the next chunks are sized. NULL: as
     * measured. */
    double (*on_pass)(void *context, size_t writing, size_t prompt_tokens, double seconds);
    void *pass_context;
} ft_scheduler_options;

FT_CHECKED ft_code ft_scheduler_new(ft_scheduler **out, const ft_model *m, const ft_tokenizer *t,
                                    const ft_scheduler_options *o, ft_status *st);
/* Aborts what runs, waits for the callbacks, frees. */
void ft_scheduler_free(ft_scheduler *s);

/* Called after each pass that read for the generation: with final 0 while there is more to come, with final 1
 * after the last one (rc FT_OK, or why it failed; FT_FINISH_ABORT when the scheduler
 * is freed first); then the generation is closed. A non-zero answer aborts: one
 * final call follows. */
typedef int ft_job_fn(void *context, const ft_generation *g, int final, ft_code rc, const ft_status *st);

/* Fails as ft_generation_open does for a bad request; FT_ERR_LIMIT when the queue is
 * full, FT_ERR_CANCELLED when the scheduler stops. Then `fn` is never called;
 * otherwise `context` must live until the final call. */
FT_CHECKED ft_code ft_scheduler_submit(ft_scheduler *s, const ft_generate_request *r, ft_job_fn *fn, void *context,
                                       ft_status *st);

/* Aborts the generation that was submitted with `context`, if it has not had its final
 * call: one that waits gives its place in the queue up before this returns, one that
 * runs after the pass that is on its way. The final call follows, as ever from the
 * scheduler's thread. O(requests). From any thread. */
void ft_scheduler_cancel(ft_scheduler *s, const void *context);

/* Runs fn(context, pool) on the scheduler's thread between steps and waits for it:
 * how a teacher-forced pass shares the pool. Never from a callback, which would wait
 * for itself. FT_ERR_LIMIT when max_waiting calls wait, FT_ERR_CANCELLED as above. */
FT_CHECKED ft_code ft_scheduler_call(ft_scheduler *s, void (*fn)(void *context, ft_pool *pool), void *context,
                                     ft_status *st);

/* The engine of all its generations; sessions that a call opens on it (ft_session_open_on)
 * share their memory and their bits. Read on it only in ft_scheduler_call. */
ft_engine *ft_scheduler_engine(ft_scheduler *s);

typedef struct ft_scheduler_load {
    size_t running, waiting;
    uint64_t pauses; /* times that a request gave its key-value memory to an older one */
    ft_engine_load engine;
} ft_scheduler_load;
ft_scheduler_load ft_scheduler_get_load(ft_scheduler *s);

FT_API_END
#endif
