/* ft_progress: how long work reports itself and is stopped. The library calls
 * the function now and then (about ten times a second) from the thread that the
 * caller is blocked in; a non-zero answer stops the work, which then cleans up
 * and fails with FT_ERR_CANCELLED. */
#ifndef FT_PROGRESS_H
#define FT_PROGRESS_H
#include <stdint.h>

typedef struct ft_progress {
    /* phase: "read", "sort"…; unit: "documents", "tokens", "bytes"; total 0: unknown. */
    int (*report)(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit);
    void *context;
} ft_progress;

/* NULL progress and NULL report are allowed and never stop. */
static inline int ft_progress_report(const ft_progress *p, const char *phase, uint64_t done, uint64_t total,
                                     const char *unit)
{
    return p && p->report ? p->report(p->context, phase, done, total, unit) : 0;
}
#endif
