/* ft_team: the threads of one job that go step by step together.
 *
 * A job that is a sequence of short steps, each dealt out over all threads, would
 * pay for a start and an end of every step. As a team the threads stay in the job:
 * each runs the whole sequence and joins the others between two steps.
 *
 *   ft_team_run(team, pool, 2, work, context)     work(context, member) on two threads
 *   work: … ft_team_join(team, prepare_next, context); …
 *
 * Threads  members are 0 … size - 1, the caller among them; each on a thread of its
 *          own, so a member may wait for the others.
 * Cost     a join is some hundred nanoseconds while every member runs: they spin,
 *          and give the processor away when somebody is late. */
#ifndef FT_TEAM_H
#define FT_TEAM_H
#include "base/ft_threads.h"

#include <stdatomic.h>

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
typedef struct ft_team {
    unsigned size;
    /* Apart, so that those who wait do not disturb those who arrive. */
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) atomic_uint step;
} ft_team;

typedef void ft_team_fn(void *context, unsigned member);

/* Runs fn once for each of `size` members, 1 … ft_pool_size(pool), and returns when
 * all have. Everything that a member wrote is then visible to the caller. */
void ft_team_run(ft_team *t, ft_pool *pool, unsigned size, ft_team_fn *fn, void *context);

/* Waits until every member is here. The last one runs serial(context) (NULL: nothing)
 * before any goes on; all see what it and the others wrote. */
void ft_team_join(ft_team *t, void (*serial)(void *context), void *context);
#endif
