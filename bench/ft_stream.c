#include "ft_stream.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MEMORY = 512 << 20, SAMPLE = 64 << 20, TASK = 1 << 19, AHEAD = 4096 };

double ft_stream_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int ft_stream_open(ft_stream *s, ft_pool *pool)
{
    *s = (ft_stream){.pool = pool, .memory = aligned_alloc(4096, MEMORY)};
    if (s->memory)
        memset(s->memory, 1, MEMORY); /* pages of its own */
    return s->memory != NULL;
}

void ft_stream_close(ft_stream *s)
{
    free(s->memory);
    *s = (ft_stream){0};
}

static void read_some(void *context, size_t task, unsigned worker)
{
    ft_stream *s = context;
    const char *p = s->memory + s->at + task * TASK;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < TASK; i += 64) {
        __builtin_prefetch(p + i + AHEAD, 0, 3);
        for (size_t j = 0; j < 8; j++) {
            uint64_t word;
            memcpy(&word, p + i + j * 8, sizeof(word));
            sum[j] += word;
        }
    }
    for (size_t j = 0; j < 8; j++)
        s->sink[worker % 64] += sum[j];
}

double ft_stream_sample(ft_stream *s)
{
    const double start = ft_stream_now();
    ft_pool_run(s->pool, SAMPLE / TASK, read_some, s);
    const double took = ft_stream_now() - start;
    s->at = (s->at + SAMPLE) % MEMORY;
    return SAMPLE / took;
}
