/* ft_stream: how fast all threads together can read memory, doing nothing else: the bound
 * that decoding is measured against. Neighbours change it from one moment to the next,
 * so take a sample right before and after what is compared with it.
 *
 * Threads  one caller; the pool's threads read along. */
#ifndef FT_STREAM_H
#define FT_STREAM_H
#include "base/ft_threads.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ft_stream {
    ft_pool *pool;
    char *memory; /* larger than the caches, read in turn */
    size_t at;
    uint64_t sink[64];
    /* How long the pool takes for a job; NULL: by the wall clock. To be set after opening. */
    double (*seconds_of)(void *timer, size_t tasks, ft_task_fn *fn, void *context);
    void *timer;
} ft_stream;

/* 1, or 0 when memory is out. */
int ft_stream_open(ft_stream *s, ft_pool *pool);
void ft_stream_close(ft_stream *s);
/* Bytes a second over the next 64 MiB. */
double ft_stream_sample(ft_stream *s);

double ft_stream_now(void); /* seconds, monotonic */
#endif
