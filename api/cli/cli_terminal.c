/* Progress, interrupts and colour: what depends on a person at a terminal. */
#include "api/cli/cli.h"

#include "base/ft_progress_line.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;
static volatile time_t interrupted_at;

/* The first signal asks for a clean stop. One that comes a second or more later ends the
 * process; some shells and wrappers deliver the same Ctrl-C twice. */
static void on_signal(int number)
{
    if (!interrupted) {
        interrupted = number;
        interrupted_at = time(NULL);
    } else if (time(NULL) > interrupted_at) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

void cli_catch_interrupts(void)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    const struct sigaction action = {.sa_handler = on_signal};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        struct sigaction old;
        /* What runs in the background of a script ignores the terminal's Ctrl-C: that stays. */
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

void cli_interrupt_forget(void)
{
    interrupted = 0;
}

int cli_interrupted(void)
{
    return interrupted;
}

/* --- Progress ---------------------------------------------------------------- */

enum { PHASES = 12 };

static struct {
    pthread_mutex_t lock; /* warnings come from any thread */
    ft_progress_line phases[PHASES];
    size_t phase_count, current;
    int terminal; /* one line is drawn over and over; else lines are printed now and then */
    int drawn;    /* the cursor stands behind a line */
    double last;  /* when something was shown */
} progress = {.lock = PTHREAD_MUTEX_INITIALIZER};

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int columns_of(int fd)
{
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void show(const ft_progress_line *l, double now)
{
    char text[FT_PROGRESS_LINE_MAX];
    ft_progress_line_format(l, text, sizeof(text));
    if (progress.terminal)
        fprintf(stderr, "\r\033[K%.*s", columns_of(2) - 1, text);
    else
        fprintf(stderr, "%s\n", text);
    progress.drawn = progress.terminal;
    progress.last = now;
}

static void end_line(void)
{
    if (progress.drawn)
        fputc('\n', stderr);
    progress.drawn = 0;
}

/* The phase becomes the current one; 1 when it is new. Phases may take turns. */
static int switch_phase(const char *phase, const char *unit, double now, uint64_t done, uint64_t total)
{
    size_t i = 0;
    while (i < progress.phase_count &&
           strncmp(phase, progress.phases[i].phase, sizeof(progress.phases[i].phase) - 1) != 0)
        i++;
    const int is_new = i == progress.phase_count, changed = i != progress.current;
    if (is_new && i == PHASES)
        i = PHASES - 1; /* more phases than anybody reads: the last place is used again */
    else if (is_new)
        progress.phase_count++;
    progress.current = i;
    if (is_new)
        ft_progress_line_start(&progress.phases[i], phase, unit, now, done, total);
    else if (changed)
        ft_progress_line_resume(&progress.phases[i], now);
    return is_new;
}

static int report(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)context;
    pthread_mutex_lock(&progress.lock);
    const double now = seconds_now();
    const int is_new = switch_phase(phase, unit, now, done, total);
    ft_progress_line *l = &progress.phases[progress.current];
    const int completes = l->done < total && done >= total;
    ft_progress_line_update(l, now, done, total);
    if (is_new)
        end_line(); /* what the phase before came to stays on the screen */
    if (is_new || now - progress.last >= (progress.terminal ? 0.1 : 10) || (progress.terminal && completes))
        show(l, now);
    pthread_mutex_unlock(&progress.lock);
    return interrupted != 0;
}

ft_progress cli_progress(void)
{
    cli_catch_interrupts();
    const char *term = getenv("TERM");
    pthread_mutex_lock(&progress.lock);
    progress.phase_count = progress.current = 0;
    progress.terminal = isatty(2) && term && strcmp(term, "dumb") != 0;
    progress.drawn = 0;
    pthread_mutex_unlock(&progress.lock);
    return (ft_progress){.report = report};
}

void cli_progress_end(void)
{
    pthread_mutex_lock(&progress.lock);
    end_line();
    pthread_mutex_unlock(&progress.lock);
}

void cli_progress_message(const char *message)
{
    pthread_mutex_lock(&progress.lock);
    if (progress.drawn)
        fputs("\r\033[K", stderr); /* the line is drawn again below the message */
    progress.drawn = 0;
    fprintf(stderr, "flextrace: %s\n", message);
    pthread_mutex_unlock(&progress.lock);
}

int cli_colour(int fd)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fd) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

int cli_columns(void)
{
    return columns_of(1);
}
