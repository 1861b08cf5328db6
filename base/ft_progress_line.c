#include "base/ft_progress_line.h"

#include <math.h>
#include <stdio.h>

#define SMOOTHING_SECONDS 5.0
#define SAMPLE_SECONDS 0.1

void ft_progress_line_start(ft_progress_line *l, const char *phase, const char *unit, double now, uint64_t done,
                            uint64_t total)
{
    *l = (ft_progress_line){
        .done = done, .total = total, .done_at_start = done, .done_at_sample = done, .started = now, .sampled = now};
    snprintf(l->phase, sizeof(l->phase), "%s", phase);
    snprintf(l->unit, sizeof(l->unit), "%s", unit);
}

void ft_progress_line_update(ft_progress_line *l, double now, uint64_t done, uint64_t total)
{
    if (done < l->done) {
        l->done_at_start = l->done_at_sample = done;
        l->started = l->sampled = now;
        l->rate = l->weight = 0;
    }
    l->done = done;
    l->total = total;
    const double passed = now - l->sampled;
    const int finished = total && done >= total; /* its time and mean are to the point */
    if (passed < SAMPLE_SECONDS && !(finished && passed > 0))
        return;
    const double keep = exp(-passed / SMOOTHING_SECONDS);
    l->rate = keep * l->rate + (1 - keep) * (double)(done - l->done_at_sample) / passed;
    l->weight = keep * l->weight + (1 - keep);
    l->done_at_sample = done;
    l->sampled = now;
}

void ft_progress_line_resume(ft_progress_line *l, double now)
{
    l->started += now - l->sampled;
    l->sampled = now;
}

/* 1234567 as "1.23 M": three digits, unless the number is small. */
static void human(double v, const char *suffix, char *out, size_t size)
{
    static const char *const scales[] = {"", "k", "M", "G", "T", "P"};
    size_t scale = 0;
    for (; v >= 999.5 && scale < 5; scale++)
        v /= 1000;
    const int whole = scale == 0 && (v >= 10 || v == floor(v));
    const int decimals = whole || v >= 99.95 ? 0 : scale && v < 9.995 ? 2 : 1;
    snprintf(out, size, "%.*f%s%s%s", decimals, v, scale || *suffix ? " " : "", scales[scale], suffix);
}

/* Rounded down, and below 100 until all is done. */
static unsigned percent_of(uint64_t done, uint64_t total)
{
    if (done >= total)
        return 100;
    const uint64_t percent = done <= UINT64_MAX / 100 ? done * 100 / total : done / (total / 100);
    return percent < 100 ? (unsigned)percent : 99;
}

/* "04:05"; "1:02:03" from an hour on. */
static void clock_time(double seconds, char *out, size_t size)
{
    const unsigned long s = (unsigned long)(seconds + 0.5);
    if (s < 3600)
        snprintf(out, size, "%02lu:%02lu", s / 60, s % 60);
    else
        snprintf(out, size, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
}

void ft_progress_line_format(const ft_progress_line *l, char *out, size_t size)
{
    const int bytes = l->unit[0] == 'b' && l->unit[1] == 'y', finished = l->total && l->done >= l->total;
    const char *suffix = bytes ? "B" : "", *unit = bytes ? "" : l->unit;
    char percent[8] = "", count[24], all[32] = "", speed[32] = "", time[40] = "", clock[24];
    const double elapsed = l->sampled - l->started;
    double rate = l->weight > 0 ? l->rate / l->weight : 0;
    if (finished && elapsed > 0)
        rate = (double)(l->done - l->done_at_start) / elapsed;
    if (l->total)
        snprintf(percent, sizeof(percent), "%3u%%  ", percent_of(l->done, l->total));
    human((double)l->done, suffix, count, sizeof(count));
    if (l->total && !finished) {
        human((double)l->total, suffix, clock, sizeof(clock));
        snprintf(all, sizeof(all), " of %s", clock);
    }
    if (l->weight > 0) {
        human(rate, suffix, clock, sizeof(clock));
        snprintf(speed, sizeof(speed), ", %s/s", clock);
    }
    const double left = rate > 0 ? (double)(l->total - l->done) / rate : 0;
    clock_time(finished ? elapsed : left, clock, sizeof(clock));
    if (finished)
        snprintf(time, sizeof(time), " in %s", clock);
    else if (l->total && rate > 0 && left < 360000) /* beyond 100 hours a guess says nothing */
        snprintf(time, sizeof(time), ", %s left", clock);
    snprintf(out, size, "%-9s %s%s%s%s%s%s%s%s", l->phase, percent, count, all, *unit ? " " : "", unit,
             finished ? time : "", speed, finished ? "" : time);
}
