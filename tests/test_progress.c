/* What long work shows, and how it is stopped: the line itself with a clock of the test's own,
 * then the binary on a pipe, on a terminal, and under signals. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_progress_line.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- The line ---------------------------------------------------------------------------- */

static const char *shown(const ft_progress_line *l)
{
    static char text[FT_PROGRESS_LINE_MAX];
    ft_progress_line_format(l, text, sizeof(text));
    return text;
}

static void a_phase_shows_percent_amounts_rate_and_time_left(void **state)
{
    (void)state;
    ft_progress_line l;
    ft_progress_line_start(&l, "sort", "tokens", 100, 0, 215000000);
    assert_string_equal(shown(&l), "sort        0%  0 of 215 M tokens");
    ft_progress_line_update(&l, 104, 86000000, 215000000);
    assert_string_equal(shown(&l), "sort       40%  86.0 M of 215 M tokens, 21.5 M/s, 00:06 left");
    ft_progress_line_update(&l, 110, 215000000, 215000000);
    assert_string_equal(shown(&l), "sort      100%  215 M tokens in 00:10, 21.5 M/s");
}

static void bytes_have_their_unit_and_an_unknown_total_no_percent(void **state)
{
    (void)state;
    ft_progress_line l;
    ft_progress_line_start(&l, "read", "bytes", 0, 0, 0);
    assert_string_equal(shown(&l), "read      0 B");
    ft_progress_line_update(&l, 2, 3000, 0);
    assert_string_equal(shown(&l), "read      3.00 kB, 1.50 kB/s");
    ft_progress_line_update(&l, 4, 2800000000, 5600000000);
    assert_non_null(strstr(shown(&l), "2.80 GB of 5.60 GB, "));
}

static void numbers_keep_three_digits_and_never_four(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        const char *text;
    } cases[] = {{0, "0"},          {7, "7"},           {999, "999"},        {1000, "1.00 k"},
                 {9994, "9.99 k"},  {9996, "10.0 k"},   {99949, "99.9 k"},   {99960, "100 k"},
                 {999499, "999 k"}, {999600, "1.00 M"}, {1234567, "1.23 M"}, {46000000000000, "46.0 T"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        ft_progress_line l;
        char want[60];
        ft_progress_line_start(&l, "x", "documents", 0, cases[i].n, 0);
        snprintf(want, sizeof(want), "x         %s documents", cases[i].text);
        assert_string_equal(shown(&l), want);
    }
}

static void time_left_is_minutes_and_seconds_then_hours(void **state)
{
    (void)state;
    static const struct {
        uint64_t total;
        const char *text; /* after ten units a second for one second; NULL: no guess */
    } cases[] = {{11, "00:00 left"},      {600, "00:59 left"},        {36000, "59:59 left"},
                 {36010, "1:00:00 left"}, {3000000, "83:19:59 left"}, {4000000, NULL}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        ft_progress_line l;
        ft_progress_line_start(&l, "x", "runs", 0, 0, cases[i].total);
        ft_progress_line_update(&l, 1, 10, cases[i].total);
        if (cases[i].text)
            assert_non_null(strstr(shown(&l), cases[i].text));
        else
            assert_null(strstr(shown(&l), "left"));
    }
}

/* 100 % is said of what is done, and of nothing else. */
static void percent_is_rounded_down(void **state)
{
    (void)state;
    for (uint64_t total = 1; total < 1000; total++)
        for (uint64_t done = 0; done <= total; done++) {
            ft_progress_line l;
            char want[40];
            ft_progress_line_start(&l, "x", "y", 0, done, total);
            snprintf(want, sizeof(want), "x         %3u%%  ", (unsigned)(done * 100 / total));
            if (strncmp(shown(&l), want, strlen(want)) != 0)
                fail_msg("%llu of %llu: %s", (unsigned long long)done, (unsigned long long)total, shown(&l));
        }
    ft_progress_line l;
    ft_progress_line_start(&l, "x", "y", 0, UINT64_MAX - 1, UINT64_MAX);
    assert_non_null(strstr(shown(&l), " 99%"));
    ft_progress_line_start(&l, "x", "y", 0, 5, 4); /* more than was promised */
    assert_non_null(strstr(shown(&l), "100%"));
}

static void the_rate_follows_the_last_seconds(void **state)
{
    (void)state;
    ft_progress_line l;
    uint64_t done = 0;
    ft_progress_line_start(&l, "x", "y", 0, 0, 1000000);
    for (int tenth = 1; tenth <= 100; tenth++) /* 1000 a second for 10 s, in uneven steps */
        ft_progress_line_update(&l, tenth / 10.0, done += tenth % 2 ? 50 : 150, 1000000);
    assert_in_range((long)(l.rate / l.weight), 985, 1015);
    for (int tenth = 101; tenth <= 350; tenth++) /* then ten times slower for 25 s, of which 5 s count most */
        ft_progress_line_update(&l, tenth / 10.0, done += 10, 1000000);
    assert_in_range((long)(l.rate / l.weight), 100, 110);
    for (int i = 0; i < 1000; i++) /* reports more frequent than samples change nothing */
        ft_progress_line_update(&l, 35.0 + i / 1e5, done, 1000000);
    assert_in_range((long)(l.rate / l.weight), 100, 110);
}

static void a_phase_that_starts_again_or_rests_is_not_slower_for_it(void **state)
{
    (void)state;
    ft_progress_line l;
    ft_progress_line_start(&l, "sort", "tokens", 0, 0, 1000);
    ft_progress_line_update(&l, 10, 1000, 1000);
    ft_progress_line_update(&l, 100, 0, 1000); /* the next run */
    assert_string_equal(shown(&l), "sort        0%  0 of 1.00 k tokens");
    ft_progress_line_update(&l, 101, 500, 1000);
    assert_string_equal(shown(&l), "sort       50%  500 of 1.00 k tokens, 500/s, 00:01 left");
    ft_progress_line_resume(&l, 500); /* another phase had its turn */
    ft_progress_line_update(&l, 501, 1000, 1000);
    assert_string_equal(shown(&l), "sort      100%  1.00 k tokens in 00:02, 500/s");
    /* What was there when a build was taken up again is no achievement of this second. */
    ft_progress_line_start(&l, "sort", "tokens", 0, 900, 1000);
    ft_progress_line_update(&l, 1, 910, 1000);
    assert_string_equal(shown(&l), "sort       91%  910 of 1.00 k tokens, 10/s, 00:09 left");
}

static void a_line_is_cut_to_its_room(void **state)
{
    (void)state;
    ft_progress_line l;
    char text[21];
    memset(text, '!', sizeof(text));
    ft_progress_line_start(&l, "a phase of a name that is far too long", "units that are too long too", 0, 1, 2);
    ft_progress_line_update(&l, 1, UINT64_MAX, UINT64_MAX);
    ft_progress_line_format(&l, text, 20);
    assert_int_equal(strlen(text), 19);
    assert_int_equal(text[20], '!');
    assert_true(strlen(shown(&l)) < FT_PROGRESS_LINE_MAX);
}

/* --- The binary --------------------------------------------------------------------------- */

static const char *tokenizer(void)
{
    return ft_test_source("demo/model");
}

static void write_corpus(const char *name, size_t rows)
{
    ft_buffer text = {0};
    ft_status st;
    for (size_t i = 0; i < rows; i++)
        assert_ok(ft_buffer_printf(&text, &st, "{\"text\":\"And it came to pass, the %zu. time.\"}\n", i), st);
    ft_test_write(name, text.data, text.size);
    ft_buffer_release(&text);
}

static size_t occurrences(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static void on_a_pipe_each_phase_is_one_plain_line(void **state)
{
    (void)state;
    char command[9000], *err;
    write_corpus("plain.jsonl", 3000);
    snprintf(command, sizeof(command), "TERM=xterm $FLEXTRACE index build %s -t %s %s", ft_test_path("plain"),
             tokenizer(), ft_test_path("plain.jsonl"));
    assert_int_equal(ft_test_shell(command, NULL, &err), 0);
    assert_null(strchr(err, '\r'));
    assert_null(strchr(err, '\033'));
    assert_int_equal(occurrences(err, "tokenize "), 1);
    assert_int_equal(occurrences(err, "\n"), occurrences(err, "%  ")); /* no line without a percentage */
    free(err);
}

/* The child runs `index build NAME`, its standard error being `err`. */
static pid_t start_build(const char *name, const char *corpus, int err)
{
    char folder[4096], model[4096];
    snprintf(folder, sizeof(folder), "%s", ft_test_path(name));
    snprintf(model, sizeof(model), "%s", tokenizer());
    const pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_WRONLY), 1);
        dup2(err, 2);
        setenv("TERM", "xterm", 1);
        signal(SIGINT, SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        execl(FT_BINARY, FT_BINARY, "index", "build", folder, "-t", model, "--memory", "300M", corpus, (char *)NULL);
        _exit(127);
    }
    assert_true(child > 0);
    return child;
}

static void on_a_terminal_one_line_is_drawn_over_and_over(void **state)
{
    (void)state;
    int master, slave, code;
    const struct winsize size = {.ws_row = 25, .ws_col = 20};
    if (openpty(&master, &slave, NULL, NULL, &size) != 0)
        skip();
    write_corpus("drawn.jsonl", 60000);
    const pid_t child = start_build("drawn", ft_test_path("drawn.jsonl"), slave);
    close(slave);
    char text[65536] = "";
    size_t n = 0;
    for (ssize_t got; n < sizeof(text) - 1 && (got = read(master, text + n, sizeof(text) - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    close(master);
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
    assert_non_null(strstr(text, "\r\033[Ktokenize "));
    assert_non_null(strstr(text, " 100%  "));
    assert_int_equal(text[n - 1], '\n');                     /* what follows stands on its own line */
    for (const char *p = text; (p = strstr(p, "\033[K"));) { /* each fits the window */
        p += 3;
        assert_in_range(strcspn(p, "\r\n"), 1, 19);
    }
}

/* Documents without end go in until the build ends; the signal is sent when the first
 * progress is seen. Nothing but a clean stop may answer it: the code, one line, no index. */
static void check_stop(const char *name, int number)
{
    int code = 0, pipe_in = -1;
    size_t n;
    char err_path[4096], path[4096], corpus[4096];
    snprintf(err_path, sizeof(err_path), "%s", ft_test_write("stop.err", "", 0));
    snprintf(path, sizeof(path), "%s", ft_test_path(name));
    snprintf(corpus, sizeof(corpus), "%s", ft_test_path("endless.jsonl"));
    unlink(corpus);
    assert_int_equal(mkfifo(corpus, 0600), 0);
    const int err = open(err_path, O_RDWR | O_APPEND);
    assert_true(err >= 0);
    void (*old)(int) = signal(SIGPIPE, SIG_IGN);
    const pid_t child = start_build(name, corpus, err);
    const time_t limit = time(NULL) + 60;
    while (pipe_in < 0 && time(NULL) < limit) { /* until the child reads */
        pipe_in = open(corpus, O_WRONLY | O_NONBLOCK);
        usleep(1000);
    }
    assert_true(pipe_in >= 0);
    fcntl(pipe_in, F_SETFL, 0);
    static const char row[] = "{\"text\":\"And it came to pass in those days\"}\n";
    char rows[100 * sizeof(row)] = "";
    for (int i = 0; i < 100; i++)
        memcpy(rows + (size_t)i * (sizeof(row) - 1), row, sizeof(row));
    int sent = 0;
    while (write(pipe_in, rows, strlen(rows)) > 0 && time(NULL) < limit) {
        if (!sent && lseek(err, 0, SEEK_END) > 0) {
            kill(child, number);
            usleep(2000);
            kill(child, number); /* so soon, it is the same one */
            sent = 1;
        }
    }
    close(pipe_in);
    signal(SIGPIPE, old);
    assert_true(sent);
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFEXITED(code));
    assert_int_equal(WEXITSTATUS(code), 128 + number);
    char *text = ft_test_read(err_path, &n);
    assert_non_null(strstr(text, "flextrace: "));
    assert_non_null(strstr(text, "stopped"));
    assert_int_equal(occurrences(text, "flextrace: "), 1);
    assert_false(ft_path_exists(path));
    free(text);
    close(err);
}

static void ctrl_c_and_sigterm_stop_a_build_cleanly(void **state)
{
    (void)state;
    check_stop("by-ctrl-c", SIGINT);
    check_stop("by-term", SIGTERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_phase_shows_percent_amounts_rate_and_time_left),
        cmocka_unit_test(bytes_have_their_unit_and_an_unknown_total_no_percent),
        cmocka_unit_test(numbers_keep_three_digits_and_never_four),
        cmocka_unit_test(time_left_is_minutes_and_seconds_then_hours),
        cmocka_unit_test(percent_is_rounded_down),
        cmocka_unit_test(the_rate_follows_the_last_seconds),
        cmocka_unit_test(a_phase_that_starts_again_or_rests_is_not_slower_for_it),
        cmocka_unit_test(a_line_is_cut_to_its_room),
        cmocka_unit_test(on_a_pipe_each_phase_is_one_plain_line),
        cmocka_unit_test(on_a_terminal_one_line_is_drawn_over_and_over),
        cmocka_unit_test(ctrl_c_and_sigterm_stop_a_build_cleanly),
    };
    return cmocka_run_group_tests_name("progress", tests, NULL, NULL);
}
