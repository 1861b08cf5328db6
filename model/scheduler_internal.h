/* scheduler_internal: the queue and its callers (ft_scheduler.c), and what one pass reads
 * (scheduler_batch.c). */
#ifndef FT_SCHEDULER_INTERNAL_H
#define FT_SCHEDULER_INTERNAL_H
#include "model/ft_scheduler.h"

#include <pthread.h>
#include <stdint.h>

/* Whose requests these are. Lives while one of its requests waits or runs. */
typedef struct ft_key {
    struct ft_key *next;
    char *name;
    struct ft_job *waiting, **waiting_end;
    size_t jobs;     /* waiting or running */
    uint64_t served; /* the pass that last read of a prompt of its requests */
} ft_key;

/* A generation or a call. Generations are opened by the thread that submits them,
 * so that a bad request fails there and then; their memory is touched only as they
 * run. */
typedef struct ft_job {
    struct ft_job *next;
    ft_key *key;
    ft_generation *generation; /* NULL: a call */
    ft_job_fn *fn;
    void (*call)(void *context, ft_pool *pool);
    void *context;
    int done;      /* of a call, under the lock */
    int cancelled; /* under the lock */
    /* The scheduler's thread alone. */
    size_t prompt_turns;  /* how often it had a large part of a pass for its prompt */
    size_t prompt_part;   /* tokens since then */
    uint64_t passed_over; /* the pass that could not read for it */
    size_t reads;         /* tokens in this pass; 0: not in it */
    int paused;           /* its pages went to an older one */
    ft_code rc;
    ft_status st;
} ft_job;

struct ft_scheduler {
    ft_engine *engine;
    const ft_tokenizer *tokenizer;
    ft_pool *pool;
    size_t max_running, max_waiting;
    pthread_t thread;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t work, finished; /* something to do, or stop; a call is done */
    /* Under the lock. */
    ft_job *calls, **calls_end;
    ft_key *keys, **keys_end;           /* the next to be let in first */
    ft_job *cancelled, **cancelled_end; /* out of the queue; their final call is due */
    size_t waiting_count, running_count;
    uint64_t pauses;
    int stop;
    /* The scheduler's thread alone. */
    ft_job
        *running; /* in the order in which they came. Changed under the lock too: ft_scheduler_cancel looks for one */
    uint64_t pass;
    ft_read *reads; /* [max_running] */
    ft_job **batch; /* [max_running] whose they are */
    size_t batch_count;
    double decode_seconds, prompt_token_seconds; /* as measured; 0: not yet */
    double (*on_pass)(void *context, size_t writing, size_t prompt_tokens, double seconds);
    void *pass_context;
};

/* Chooses what the next pass reads: s->reads, s->batch, s->batch_count. Pages for all of it are reserved. */
void ft_scheduler_fill(ft_scheduler *s);
/* After the pass took `seconds`. */
void ft_scheduler_measure(ft_scheduler *s, double seconds);
/* Whether the first waiting request can be let in as far as memory goes. */
int ft_scheduler_has_room(const ft_scheduler *s, const ft_job *j);
/* Takes the pages of the youngest running request that came after `older` (NULL: of the youngest of
 * all); 0 when there is none that has any. */
int ft_scheduler_pause_one(ft_scheduler *s, const ft_job *older);

/* --- ft_generate.c, ft_engine.c --- */
size_t ft_generation_pages(const ft_generation *g); /* that it holds */
/* Whether both read the same whole page next. */
int ft_generation_same_page(const ft_generation *a, const ft_generation *b);
/* Pages that are free or would be given up by the prefix cache; no more than `enough` are counted. */
size_t ft_engine_free_pages(ft_engine *e, size_t enough);
#endif
