#define _GNU_SOURCE
#include "ft_stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MEMORY = 512 << 20, SAMPLE = 64 << 20, TASK = 2 << 20, PLACES = 4, AHEAD = 1024 };

double ft_stream_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int ft_stream_open(ft_stream *s, ft_pool *pool)
{
    *s = (ft_stream){.pool = pool, .memory = aligned_alloc(2 << 20, MEMORY)};
    if (!s->memory)
        return 0;
    (void)madvise(s->memory, MEMORY, MADV_HUGEPAGE);
    memset(s->memory, 1, MEMORY); /* pages of its own */
    return 1;
}

void ft_stream_close(ft_stream *s)
{
    free(s->memory);
    *s = (ft_stream){0};
}

/* Four places of a task at once: a single one does not keep memory busy. */
static void read_some(void *context, size_t task, unsigned worker)
{
    ft_stream *s = context;
    const char *p = s->memory + s->at + task * TASK;
    uint64_t sum[PLACES][8] = {0};
    for (size_t i = 0; i < TASK / PLACES; i += 64)
        for (size_t place = 0; place < PLACES; place++) {
            const char *line = p + place * (TASK / PLACES) + i;
            __builtin_prefetch(line + AHEAD, 0, 3);
            for (size_t j = 0; j < 8; j++) {
                uint64_t word;
                memcpy(&word, line + j * 8, sizeof(word));
                sum[place][j] += word;
            }
        }
    for (size_t i = 0; i < PLACES * 8; i++)
        s->sink[worker % 64] += sum[i / 8][i % 8];
}

double ft_stream_sample(ft_stream *s)
{
    double took;
    if (s->seconds_of) {
        took = s->seconds_of(s->timer, SAMPLE / TASK, read_some, s);
    } else {
        const double start = ft_stream_now();
        ft_pool_run(s->pool, SAMPLE / TASK, read_some, s);
        took = ft_stream_now() - start;
    }
    s->at = (s->at + SAMPLE) % MEMORY;
    return SAMPLE / took;
}
