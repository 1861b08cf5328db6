/* cli: what the subcommands share. The command line is thin: it reads options,
 * calls the public headers, and prints. One file a subcommand, named
 * cli_<subcommand>.c; main.c holds the table of them. */
#ifndef FT_CLI_H
#define FT_CLI_H
#include "base/ft_progress.h"
#include "base/ft_status.h"

#include <jansson.h>
#include <stdio.h>

/* Exit codes; part of the contract. What a signal stopped ends in 128 + its number. */
enum { CLI_OK = 0, CLI_CHECK_FAILED = 1, CLI_USAGE = 2, CLI_BAD_INPUT = 3, CLI_SYSTEM = 4 };

/* argv[0] is the subcommand's own name. Each returns an exit code. */
typedef int cli_command(int argc, char **argv);

/* A subcommand of verbs: what it is, one line a verb, an example. */
typedef struct cli_verb {
    const char *name;
    cli_command *run;
    const char *summary;
} cli_verb;
/* Runs the verb that argv[1] names; prints what there are for --help, and where there is none. */
int cli_run_verb(const char *subcommand, const char *about, const cli_verb *verbs, size_t count, const char *example,
                 int argc, char **argv);

/* Prints "flextrace: MESSAGE" on standard error and gives the exit code of the
 * status' code (FT_ERR_ARG 2, FT_ERR_FORMAT and NOT_FOUND 3, MEM and IO 4 …;
 * FT_ERR_CANCELLED 128 + the number of the signal that asked for it). */
int cli_fail(const ft_status *st);
/* "flextrace: SUBCOMMAND: what; try 'flextrace SUBCOMMAND --help'", exit code 2. */
int cli_usage(const char *subcommand, const char *fmt, ...) FT_PRINTF(2, 3);

/* Command-line options, getopt_long's short-and-long subset that keeps operands
 * in place: cli_next returns 1 with *name set to the canonical option name (and
 * *value where the option takes one), or with *name NULL and *value an operand;
 * 0 at the end; -1 after a usage message was printed. "--" ends the options;
 * "-x VALUE", "-xVALUE", "--long VALUE", "--long=VALUE" are understood. */
typedef struct cli_option {
    const char *name; /* long name without dashes */
    char letter;      /* 0: none */
    int takes_value;
} cli_option;
typedef struct cli_args {
    const char *subcommand;
    const cli_option *options; /* ends with name NULL */
    int argc, at;
    char **argv;
    int only_operands;
} cli_args;
int cli_next(cli_args *a, const char **name, const char **value);
/* Hands every option and operand (name NULL) to `each`, which returns an exit code; --help
 * prints `help` and sets *helped. CLI_OK, or that of a usage error, which was printed. */
typedef int cli_take_fn(void *context, const char *name, const char *value);
int cli_take_all(cli_args *a, const char *help, cli_take_fn *each, void *context, int *helped);

/* Values: each prints a usage message and returns 0 when the text is not one. */
int cli_number(const char *subcommand, const char *option, const char *text, double low, double high, double *out);
int cli_integer(const char *subcommand, const char *option, const char *text, long long low, long long high,
                long long *out);
/* "2G", "512M", "64K", "1000": bytes. */
int cli_bytes(const char *subcommand, const char *option, const char *text, unsigned long long *out);

/* Runs `row` for every JSON line of standard input and prints the object that it
 * returns (a new reference), one line each, in order, flushed when input is not
 * a file. A line that is not a JSON object, or a row that fails with ARG, FORMAT,
 * NOT_FOUND, LIMIT or UNSUPPORTED, gives {"error":…} on its line, and the rest
 * goes on. Returns an exit code. */
typedef json_t *cli_row_fn(void *context, const json_t *row, ft_status *st);
int cli_batch(cli_row_fn *row, void *context);

/* Prints one JSON value and a newline on standard output; consumes the reference
 * (NULL counts as out of memory). Returns an exit code. */
int cli_print_json(json_t *value);

/* Progress on standard error, one line a phase (base/ft_progress_line.h). On a terminal
 * it is drawn over and over; elsewhere a line is printed when a phase starts, and one
 * every ten seconds. Phases may take turns. One progress at a time in a process.
 *
 * Ctrl-C and SIGTERM make it answer "stop": the work ends cleanly, with FT_ERR_CANCELLED
 * and exit code 128 + the signal's number. A second one, a second later, ends at once. */
ft_progress cli_progress(void);
void cli_progress_end(void); /* what is printed next stands on its own line */
/* "flextrace: MESSAGE" on a line of its own while work goes on; from any thread. */
void cli_progress_message(const char *message);
int cli_interrupted(void); /* the signal's number, else 0; once cli_progress or cli_catch_interrupts ran */
void cli_catch_interrupts(void);
void cli_interrupt_forget(void); /* what it asked for is done: the next one is the first again */

/* 1 when stream `fd` is a terminal that wants colour (NO_COLOR unset, TERM not dumb). */
int cli_colour(int fd);
/* Columns of the terminal, 80 where unknown. */
int cli_columns(void);

#endif
