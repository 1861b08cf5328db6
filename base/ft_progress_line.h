/* ft_progress_line: what a person reads about a phase of long work, in one line:
 *
 *   sort       40%  86.0 M of 215 M tokens, 20.5 M/s, 00:06 left
 *   tokenize  100%  2.80 GB in 00:28, 101 MB/s
 *
 * The rate of the last seconds counts most (exponential smoothing over 5 s); it alone says
 * what is left. Of a phase that is done, the rate is its mean.
 *
 * Units     times are seconds of any clock that never goes back; the caller reads it.
 * Lifetime  a plain value, which owns nothing.
 * Threads   one owner. */
#ifndef FT_PROGRESS_LINE_H
#define FT_PROGRESS_LINE_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

enum { FT_PROGRESS_LINE_MAX = 160 };

typedef struct ft_progress_line {
    char phase[24], unit[16];
    uint64_t done, total; /* total 0: unknown */
    uint64_t done_at_start, done_at_sample;
    double started, sampled;
    double rate, weight; /* smoothed sums; rate / weight is units a second, where weight > 0 */
} ft_progress_line;

/* The phase starts `now` with `done` behind it, which is not counted into its rate. */
void ft_progress_line_start(ft_progress_line *l, const char *phase, const char *unit, double now, uint64_t done,
                            uint64_t total);
/* A `done` below the last one starts the phase anew. */
void ft_progress_line_update(ft_progress_line *l, double now, uint64_t done, uint64_t total);
/* After another phase stood between: the time since the last update does not count. */
void ft_progress_line_resume(ft_progress_line *l, double now);
/* One line of ASCII (but for what phase and unit hold), without its end; cut to the room. */
void ft_progress_line_format(const ft_progress_line *l, char *out, size_t size);

FT_API_END
#endif
