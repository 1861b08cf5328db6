#include "api/cli/cli.h"

#include "base/ft_json.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_fail(const ft_status *st)
{
    fprintf(stderr, "flextrace: %s\n", st->msg[0] ? st->msg : ft_code_name(st->code));
    switch (st->code) {
    case FT_OK:
        return CLI_OK;
    case FT_ERR_ARG:
        return CLI_USAGE;
    case FT_ERR_FORMAT:
    case FT_ERR_NOT_FOUND:
    case FT_ERR_LIMIT:
    case FT_ERR_UNSUPPORTED:
        return CLI_BAD_INPUT;
    case FT_ERR_CANCELLED:
        return cli_interrupted() ? 128 + cli_interrupted() : CLI_SYSTEM;
    case FT_ERR_MEM:
    case FT_ERR_IO:
        break;
    }
    return CLI_SYSTEM;
}

int cli_usage(const char *subcommand, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "flextrace: %s: ", subcommand);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "; try 'flextrace %s --help'\n", subcommand);
    va_end(args);
    return CLI_USAGE;
}

/* --- Options --------------------------------------------------------------- */

static int take(cli_args *a, const cli_option *o, const char *inlined, const char **name, const char **value)
{
    *name = o->name;
    if (!o->takes_value && inlined) {
        cli_usage(a->subcommand, "--%s takes no value", o->name);
        return -1;
    }
    *value = inlined;
    if (o->takes_value && !inlined) {
        if (a->at >= a->argc) {
            cli_usage(a->subcommand, "--%s needs a value", o->name);
            return -1;
        }
        *value = a->argv[a->at++];
    }
    return 1;
}

int cli_next(cli_args *a, const char **name, const char **value)
{
    if (a->at == 0)
        a->at = 1;
    if (a->at >= a->argc)
        return 0;
    char *word = a->argv[a->at++];
    *name = NULL;
    *value = word;
    if (a->only_operands || word[0] != '-' || !word[1])
        return 1;
    if (!strcmp(word, "--")) {
        a->only_operands = 1;
        return cli_next(a, name, value);
    }
    const size_t n = strcspn(word, "=");
    for (const cli_option *o = a->options; o->name; o++) {
        if (word[1] == '-' && strlen(o->name) == n - 2 && !strncmp(word + 2, o->name, n - 2))
            return take(a, o, word[n] ? word + n + 1 : NULL, name, value);
        if (word[1] != '-' && o->letter == word[1])
            return take(a, o, word[2] ? word + 2 : NULL, name, value);
    }
    cli_usage(a->subcommand, "unknown option '%.60s'", word);
    return -1;
}

int cli_take_all(cli_args *a, const char *help, cli_take_fn *each, void *context, int *helped)
{
    const char *name, *value;
    int got = 0, code = CLI_OK;
    *helped = 0;
    while (code == CLI_OK && !*helped && (got = cli_next(a, &name, &value)) == 1) {
        *helped = name && !strcmp(name, "help");
        if (*helped)
            fputs(help, stdout);
        else
            code = each(context, name, value);
    }
    return got < 0 ? CLI_USAGE : code;
}

int cli_number(const char *subcommand, const char *option, const char *text, double low, double high, double *out)
{
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || !(v >= low && v <= high)) {
        cli_usage(subcommand, "--%s must be a number from %g to %g, not '%.40s'", option, low, high, text);
        return 0;
    }
    *out = v;
    return 1;
}

int cli_integer(const char *subcommand, const char *option, const char *text, long long low, long long high,
                long long *out)
{
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < low || v > high) {
        cli_usage(subcommand, "--%s must be an integer from %lld to %lld, not '%.40s'", option, low, high, text);
        return 0;
    }
    *out = v;
    return 1;
}

int cli_bytes(const char *subcommand, const char *option, const char *text, unsigned long long *out)
{
    char *end;
    const double v = strtod(text, &end);
    const char *units = "KMGT", *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    const int scaled = unit && *unit;
    const char *rest = end + scaled;
    const double bytes = v * (scaled ? pow(1024, (double)(unit - units + 1)) : 1);
    if (end == text || (*rest && strcmp(rest, "B") != 0 && strcmp(rest, "iB") != 0) || !(bytes >= 1 && bytes < 1e18)) {
        cli_usage(subcommand, "--%s must be a size such as 512M or 2G, not '%.40s'", option, text);
        return 0;
    }
    *out = (unsigned long long)bytes;
    return 1;
}

/* --- Batches ---------------------------------------------------------------- */

int cli_print_json(json_t *value)
{
    ft_buffer line = {0};
    ft_status st = {0};
    ft_code rc = value ? ft_json_write(value, &line, &st) : ft_fail(&st, FT_ERR_MEM, "out of memory");
    json_decref(value);
    if (!rc) {
        line.data[line.size] = '\n';
        if (fwrite(line.data, 1, line.size + 1, stdout) != line.size + 1)
            rc = ft_fail(&st, FT_ERR_IO, "standard output: %s", strerror(errno));
    }
    ft_buffer_release(&line);
    return rc ? cli_fail(&st) : CLI_OK;
}

/* Answers one line; a CLI_ code. */
static int batch_line(cli_row_fn *row, void *context, const char *text, size_t n, unsigned long number)
{
    ft_status st = {0};
    json_t *in = NULL, *out = NULL;
    char where[40];
    snprintf(where, sizeof(where), "line %lu", number);
    ft_code rc = ft_json_parse(&in, text, n, where, &st);
    if (!rc && !json_is_object(in))
        rc = ft_fail(&st, FT_ERR_FORMAT, "%s: must be a JSON object", where);
    if (!rc) {
        out = row(context, in, &st);
        rc = out ? FT_OK : st.code ? st.code : ft_fail(&st, FT_ERR_MEM, "out of memory");
    }
    json_decref(in);
    if (rc == FT_ERR_MEM || rc == FT_ERR_IO || rc == FT_ERR_CANCELLED)
        return cli_fail(&st);
    if (rc)
        out = json_pack("{s:s}", "error", st.msg);
    return cli_print_json(out);
}

int cli_batch(cli_row_fn *row, void *context)
{
    char *line = NULL;
    size_t capacity = 0;
    int code = CLI_OK;
    const int interactive = isatty(0) || isatty(1);
    for (unsigned long number = 1; code == CLI_OK; number++) {
        const ssize_t got = getline(&line, &capacity, stdin);
        if (got < 0)
            break;
        size_t n = (size_t)got;
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        code = batch_line(row, context, line, n, number);
        if (interactive)
            fflush(stdout);
    }
    free(line);
    if (fflush(stdout) != 0 && code == CLI_OK) {
        ft_status st = {0};
        (void)ft_fail(&st, FT_ERR_IO, "standard output: %s", strerror(errno));
        code = cli_fail(&st);
    }
    return code;
}

static void print_verbs(FILE *to, const char *subcommand, const char *about, const cli_verb *verbs, size_t count,
                        const char *example)
{
    fprintf(to, "flextrace %s: %s\n\nUsage: flextrace %s VERB …; 'flextrace %s VERB --help' explains one.\n\n",
            subcommand, about, subcommand, subcommand);
    for (size_t i = 0; i < count; i++)
        fprintf(to, "  %-11s %s\n", verbs[i].name, verbs[i].summary);
    fprintf(to, "\nExample:\n%s", example);
}

int cli_run_verb(const char *subcommand, const char *about, const cli_verb *verbs, size_t count, const char *example,
                 int argc, char **argv)
{
    const int help = argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"));
    if (argc < 2 || help) {
        print_verbs(help ? stdout : stderr, subcommand, about, verbs, count, example);
        return help ? CLI_OK : CLI_USAGE;
    }
    for (size_t i = 0; i < count; i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    return cli_usage(subcommand, "'%.60s' is not a verb", argv[1]);
}
