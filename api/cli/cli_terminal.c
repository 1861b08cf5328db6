/* Progress, interrupts and colour: what depends on a person at a terminal. */
#include "api/cli/cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

void cli_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int cli_interrupted(void)
{
    return interrupted != 0;
}

static struct {
    char phase[32];
    double started, last;
    uint64_t done_at_start;
    int drawn;
} line;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* 1234567 as "1.2 M". */
static void human(double v, char *out, size_t size)
{
    const char *units[] = {"", " k", " M", " G", " T"};
    size_t u = 0;
    for (; v >= 1000 && u < 4; u++)
        v /= 1000;
    snprintf(out, size, u && v < 100 ? "%.1f%s" : "%.0f%s", v, units[u]);
}

static int report(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)context;
    const double now = seconds_now();
    if (strncmp(phase, line.phase, sizeof(line.phase) - 1) != 0) {
        if (line.drawn)
            fputc('\n', stderr);
        else if (!isatty(2) && line.phase[0])
            fprintf(stderr, "%s: done\n", line.phase);
        snprintf(line.phase, sizeof(line.phase), "%s", phase);
        line.started = line.last = now;
        line.done_at_start = done;
        line.drawn = 0;
        return interrupted != 0;
    }
    if (!isatty(2) || (now - line.last < 0.1 && done != total))
        return interrupted != 0;
    line.last = now;
    char count[24], all[24], speed[24], left[32] = "";
    const double rate = now > line.started ? (double)(done - line.done_at_start) / (now - line.started) : 0;
    human((double)done, count, sizeof(count));
    human((double)total, all, sizeof(all));
    human(rate, speed, sizeof(speed));
    if (total > done && rate > 0)
        snprintf(left, sizeof(left), ", %.0f s left", (double)(total - done) / rate);
    if (total)
        fprintf(stderr, "\r\033[K%-9s %s of %s %s, %s/s%s", phase, count, all, unit, speed, left);
    else
        fprintf(stderr, "\r\033[K%-9s %s %s, %s/s", phase, count, unit, speed);
    line.drawn = 1;
    return interrupted != 0;
}

ft_progress cli_progress(void)
{
    cli_catch_interrupts();
    memset(&line, 0, sizeof(line));
    return (ft_progress){.report = report};
}

void cli_progress_end(void)
{
    if (line.drawn)
        fputc('\n', stderr);
    memset(&line, 0, sizeof(line));
}

int cli_colour(int fd)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fd) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

int cli_columns(void)
{
    struct winsize size;
    return ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}
