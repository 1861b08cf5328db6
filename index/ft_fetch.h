/* ft_fetch: asking for what will be read, before it is read. Internal to index/.
 *
 * While a mapping's pages are in memory, asking is a prefetch of cache lines. Where pages
 * have to come from a disk, the pages that one step of many searches will read are
 * asked for together, so that the disk sees one batch a step instead of one page after
 * another. Which it is, is remembered for each mapping: looking costs system calls.
 *
 * A search whose next page depends on what it reads is rehearsed: it asks with
 * ft_fetch_lacks before it reads; where a page was not asked for in an earlier step it
 * gives up, others go on, and all that gave up try again after the batch.
 *
 * Memory   straight from the system, and only where the disk is waited for: that queries
 *          allocate nothing else is part of what they promise.
 * Threads  any number share one residence. */
#ifndef FT_FETCH_H
#define FT_FETCH_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* How many batches in a row found every page in memory; zeroed to begin with. */
typedef struct ft_residence {
    atomic_uint calm;
} ft_residence;

typedef struct ft_fetch {
    ft_residence *residence;
    uintptr_t *pages; /* asked for in this step; NULL: all is in memory, as far as is known */
    size_t count, capacity;
    uint64_t *asked; /* a hash set of all pages so far, each with its step */
    size_t asked_count, asked_mask;
    unsigned step;
    int lacking;    /* set by ft_fetch_lacks, cleared by who rehearses */
    size_t missing; /* pages that were not in memory, so far */
    long faults;    /* major faults of this thread at the beginning */
} ft_fetch;

/* 1: steps are to be taken by as many searches together as there are. `pages`: how many
 * pages a step may ask for; what is beyond, is not asked for. A zeroed ft_fetch is one
 * that only prefetches. */
int ft_fetch_begin(ft_fetch *f, const ft_residence *residence, size_t pages);
void ft_fetch_end(ft_fetch *f);

/* Zeroed memory for such a batch; NULL when there is none. NULL may be freed. */
void *ft_fetch_scratch(size_t bytes);
void ft_fetch_scratch_free(void *scratch, size_t bytes);

/* A prefetch of their cache lines. */
static inline void ft_fetch_near(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        __builtin_prefetch(bytes + i);
    __builtin_prefetch(bytes + n - 1);
}

/* Pages that may be needed soon. */
void ft_fetch_ask(ft_fetch *f, const unsigned char *bytes, size_t n);
/* 1: some of these bytes have not been on their way since an earlier step; they are asked
 * for now. 0 too where no more can be asked for, so that rehearsals end. */
int ft_fetch_lacks(ft_fetch *f, const unsigned char *bytes, size_t n);

void ft_fetch_send(ft_fetch *f);
/* What was asked for is on its way; reading it waits for it. */
static inline void ft_fetch_wait(ft_fetch *f)
{
    if (f->count)
        ft_fetch_send(f);
}
#endif
