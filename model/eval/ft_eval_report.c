#include "model/eval/ft_eval_report.h"

#include "model/eval/eval_report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --- Looking into a report -------------------------------------------------------------------- */

const json_t *eval_report_find(const json_t *report, const char *kind)
{
    size_t i;
    const json_t *s;
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        if (!strcmp(eval_report_text(s, "kind"), kind))
            return s;
    }
    return NULL;
}

const char *eval_report_text(const json_t *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object, field));
    return text ? text : "";
}

double eval_report_bits(const json_t *system, const char *domain)
{
    const json_t *x = json_object_get(json_object_get(system, "bits_per_byte"), domain);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

double eval_report_mean(const json_t *system)
{
    const json_t *x = json_object_get(system, "mean");
    return json_is_number(x) ? json_number_value(x) : NAN;
}

int ft_eval_leaves_out(const char *kind)
{
    return !strcmp(kind, "without") || !strcmp(kind, "tuned-without");
}

const json_t *eval_report_of(const json_t *report, const char *kind, const char *owner)
{
    size_t i;
    const json_t *s;
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        const char *whose = ft_eval_leaves_out(kind) ? "without" : "owner";
        if (!strcmp(eval_report_text(s, "kind"), kind) && !strcmp(eval_report_text(s, whose), owner))
            return s;
    }
    return NULL;
}

int eval_report_is(const json_t *domain, const char *role)
{
    return !strcmp(eval_report_text(domain, "role"), role);
}

/* --- What the systems are worth relative to each other ---------------------------------------------- */

/* Over the owners' domains, or where there are no owners over all. */
static double mean_bits(const json_t *domains, const json_t *system)
{
    size_t i, n = 0, all = 0;
    double sum = 0, of_all = 0;
    const json_t *d;
    json_array_foreach(domains, i, d)
    {
        const double bits = eval_report_bits(system, eval_report_text(d, "name"));
        const int owner = eval_report_is(d, "owner");
        sum += owner ? bits : 0;
        n += owner;
        of_all += bits;
        all++;
    }
    return n ? sum / (double)n : all ? of_all / (double)all : NAN;
}

double eval_report_own_mean(const json_t *report, const char *kind)
{
    size_t i, n = 0;
    double sum = 0;
    const json_t *d;
    json_array_foreach(json_object_get(report, "domains"), i, d)
    {
        const char *name = eval_report_text(d, "name");
        if (eval_report_is(d, "owner")) {
            sum += eval_report_bits(eval_report_of(report, kind, name), name);
            n++;
        }
    }
    return n ? sum / (double)n : NAN;
}

static int add(json_t *list, double value, const char *unit, const char *fmt, ...) FT_PRINTF(4, 5);
static int add(json_t *list, double value, const char *unit, const char *fmt, ...)
{
    char what[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    if (!isfinite(value))
        return 0;
    return json_array_append_new(list, json_pack("{s:s, s:f, s:s}", "what", what, "value", value, "unit", unit));
}

static double percent(double a, double b)
{
    return 100 * (a / b - 1);
}

/* Over owners: the least gain of `a` over `b` on the owner's domain. */
static double least_gain(const json_t *report, const json_t *a, const json_t *b)
{
    size_t i;
    double least = INFINITY;
    const json_t *d;
    json_array_foreach(json_object_get(report, "domains"), i, d)
    {
        const char *name = eval_report_text(d, "name");
        if (eval_report_is(d, "owner"))
            least = fmin(least, -percent(eval_report_bits(a, name), eval_report_bits(b, name)));
    }
    return least;
}

/* Owners whose expert has the largest share on the owner's domain; -1 where there are no shares. */
static int most_routed(const json_t *report, const json_t *system, int *owners)
{
    const json_t *experts = json_object_get(system, "experts"), *d;
    size_t i;
    int right = 0;
    *owners = 0;
    json_array_foreach(json_object_get(report, "domains"), i, d)
    {
        const char *name = eval_report_text(d, "name");
        const json_t *shares = json_object_get(json_object_get(system, "shares"), name), *x;
        size_t e, best = 0;
        if (!eval_report_is(d, "owner"))
            continue;
        (*owners)++;
        json_array_foreach(shares, e, x)
        {
            if (json_number_value(x) > json_number_value(json_array_get(shares, best)))
                best = e;
        }
        const char *expert = json_string_value(json_array_get(experts, best));
        right += expert && !strcmp(expert, name);
    }
    return json_object_get(system, "shares") && experts ? right : -1;
}

static int compare_merged(json_t *list, const json_t *report, const json_t *m)
{
    const char *name = eval_report_text(m, "name");
    const json_t *public = eval_report_find(report, "public"), *domains = json_object_get(report, "domains");
    const char *home = eval_report_text(json_array_get(domains, 0), "name");
    const double mean = eval_report_mean(m);
    int bad = 0, owners;
    bad |= add(list, -percent(mean, eval_report_mean(public)), "%", "%s below public, owners' mean", name);
    bad |= add(list, least_gain(report, m, public), "%", "%s below public, the domain that gains least", name);
    bad |= add(list, percent(mean, eval_report_own_mean(report, "pair")), "%",
               "%s above single experts on their own domains", name);
    bad |= add(list, percent(eval_report_bits(m, home), eval_report_bits(public, home)), "%",
               "%s above public on the public domain", name);
    bad |= add(list, -percent(mean, eval_report_mean(eval_report_find(report, "soup"))), "%",
               "%s below soup, owners' mean", name);
    bad |= add(list, percent(mean, eval_report_mean(eval_report_find(report, "joint"))), "%",
               "%s above joint training at equal compute, owners' mean", name);
    const int right = most_routed(report, m, &owners);
    if (right >= 0)
        bad |= add(list, right, "owners", "%s: own expert has the largest share on its domain, of %d", name, owners);
    return bad;
}

/* What an expert left out does to its own domain and to the others; `kind` is of systems that lack one of `whole`'s. */
static int compare_without(json_t *list, const json_t *report, const char *kind, const json_t *whole)
{
    const json_t *public = eval_report_find(report, "public"), *d, *o;
    size_t i, k;
    double own = 0, others = -INFINITY;
    int found = 0;
    json_array_foreach(json_object_get(report, "domains"), i, d)
    {
        const char *gone = eval_report_text(d, "name");
        const json_t *s = eval_report_of(report, kind, gone);
        if (!s)
            continue;
        found = 1;
        const double change = percent(eval_report_bits(s, gone), eval_report_bits(public, gone));
        own = fabs(change) > fabs(own) ? change : own;
        json_array_foreach(json_object_get(report, "domains"), k, o)
        {
            const char *name = eval_report_text(o, "name");
            if (k != i)
                others = fmax(others, percent(eval_report_bits(s, name), eval_report_bits(whole, name)));
        }
    }
    const char *name = eval_report_text(whole, "name");
    if (!found)
        return 0;
    return add(list, own, "%", "%s, one left out: its domain against public, farthest", name) |
           add(list, others, "%", "%s, one left out: other domains, largest rise", name);
}

ft_code ft_eval_compare(json_t *report, ft_status *st)
{
    static const char *const kinds[] = {"merged", "tuned"}, *const without[] = {"without", "tuned-without"};
    json_t *list = json_array(), *s;
    const json_t *domains = json_object_get(report, "domains");
    size_t i;
    int bad = !list;
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        const double mean = mean_bits(domains, s);
        if (isfinite(mean))
            bad |= json_object_set_new(s, "mean", json_real(mean));
    }
    for (i = 0; i < 2; i++)
        if (eval_report_find(report, kinds[i]))
            bad |= compare_merged(list, report, eval_report_find(report, kinds[i]));
    for (i = 0; i < 2; i++)
        if (eval_report_find(report, kinds[i]))
            bad |= compare_without(list, report, without[i], eval_report_find(report, kinds[i]));
    bad |= add(list, percent(eval_report_own_mean(report, "pair"), eval_report_own_mean(report, "branch")), "%",
               "frozen attention: single experts above dense branches, own domains");
    bad |= json_object_set(report, "compared", list);
    json_decref(list);
    return bad ? ft_fail(st, FT_ERR_MEM, "out of memory") : FT_OK;
}

/* --- Table ------------------------------------------------------------------------------------------- */

enum { NAME_WIDTH = 24, COLUMN = 10 };

static ft_code put_number(ft_buffer *out, double v, int digits, ft_status *st)
{
    return isfinite(v) ? ft_buffer_printf(out, st, " %*.*f", COLUMN - 1, digits, v)
                       : ft_buffer_printf(out, st, " %*s", COLUMN - 1, "-");
}

static ft_code bits_table(const json_t *report, ft_buffer *out, ft_status *st)
{
    size_t i, k;
    const json_t *s, *d, *domains = json_object_get(report, "domains");
    ft_code rc = ft_buffer_printf(out, st, "%-*s %*s", NAME_WIDTH, "bits per byte", COLUMN - 1, "mean");
    json_array_foreach(domains, k, d)
    {
        if (!rc)
            rc = ft_buffer_printf(out, st, " %*.*s", COLUMN - 1, COLUMN - 1, eval_report_text(d, "name"));
    }
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        if (!rc)
            rc = ft_buffer_printf(out, st, "\n%-*.*s", NAME_WIDTH, NAME_WIDTH, eval_report_text(s, "name"));
        if (!rc)
            rc = put_number(out, eval_report_mean(s), 3, st);
        json_array_foreach(domains, k, d)
        {
            if (!rc)
                rc = put_number(out, eval_report_bits(s, eval_report_text(d, "name")), 3, st);
        }
    }
    return rc ? rc : ft_buffer_append_str(out, "\n", st);
}

static ft_code shares_table(const json_t *report, const json_t *s, ft_buffer *out, ft_status *st)
{
    size_t k, e;
    const json_t *d, *x, *experts = json_object_get(s, "experts");
    ft_code rc = ft_buffer_printf(out, st, "\n%-*.*s", NAME_WIDTH, NAME_WIDTH, eval_report_text(s, "name"));
    json_array_foreach(experts, e, x)
    {
        if (!rc)
            rc = ft_buffer_printf(out, st, " %*.*s", COLUMN - 1, COLUMN - 1, json_string_value(x));
    }
    json_array_foreach(json_object_get(report, "domains"), k, d)
    {
        const char *name = eval_report_text(d, "name");
        if (!rc)
            rc = ft_buffer_printf(out, st, "\n  %-*.*s", NAME_WIDTH - 2, NAME_WIDTH - 2, name);
        json_array_foreach(json_object_get(json_object_get(s, "shares"), name), e, x)
        {
            if (!rc)
                rc = put_number(out, 100 * json_number_value(x), 1, st);
        }
    }
    return rc ? rc : ft_buffer_append_str(out, "\n", st);
}

/* One figure of each task for each system. */
static ft_code tasks_table(const json_t *report, const char *group, const char *field, const char *title,
                           ft_buffer *out, ft_status *st)
{
    size_t i;
    const json_t *s, *first = json_object_get(json_array_get(json_object_get(report, "systems"), 0), group);
    const char *task;
    json_t *of;
    if (!json_object_size(first))
        return FT_OK;
    ft_code rc = ft_buffer_printf(out, st, "\n%-*s", NAME_WIDTH, title);
    json_object_foreach((json_t *)first, task, of)
    {
        if (!rc)
            rc = ft_buffer_printf(out, st, " %*.*s", COLUMN + 3, COLUMN + 3, task);
    }
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        const json_t *tasks = json_object_get(s, group);
        if (rc || !tasks)
            continue;
        rc = ft_buffer_printf(out, st, "\n%-*.*s", NAME_WIDTH, NAME_WIDTH, eval_report_text(s, "name"));
        json_object_foreach((json_t *)first, task, of)
        {
            const json_t *x = json_object_get(json_object_get(tasks, task), field);
            if (!rc)
                rc = ft_buffer_printf(out, st, "    %*.3f", COLUMN, json_number_value(x));
        }
    }
    return rc ? rc : ft_buffer_append_str(out, "\n", st);
}

ft_code ft_eval_table(const json_t *report, ft_buffer *out, ft_status *st)
{
    static const char *const kinds[] = {"merged", "tuned"};
    size_t i;
    int said = 0;
    const json_t *s;
    ft_code rc = bits_table(report, out, st);
    for (i = 0; i < 2 && !rc; i++) {
        s = eval_report_find(report, kinds[i]);
        if (!json_object_get(s, "shares"))
            continue;
        if (!said++)
            rc = ft_buffer_append_str(out, "\nshare of mixing weight, per cent, by domain\n", st);
        if (!rc)
            rc = shares_table(report, s, out, st);
    }
    if (!rc)
        rc = tasks_table(report, "choices", "acc", "choices, accuracy", out, st);
    if (!rc)
        rc = tasks_table(report, "choices", "acc_per_byte", "accuracy per byte", out, st);
    if (!rc)
        rc = tasks_table(report, "choices", "bpb", "bits per byte of gold", out, st);
    if (!rc)
        rc = tasks_table(report, "exact", "exact", "exact match", out, st);
    json_array_foreach(json_object_get(report, "compared"), i, s)
    {
        const char *unit = eval_report_text(s, "unit");
        const double value = json_number_value(json_object_get(s, "value"));
        if (!rc)
            rc = ft_buffer_printf(out, st, "%s%-76s", i ? "" : "\n", eval_report_text(s, "what"));
        if (!rc)
            rc = strcmp(unit, "%") != 0 ? ft_buffer_printf(out, st, " %6.0f\n", value)
                                        : ft_buffer_printf(out, st, " %+6.1f %%\n", value);
    }
    return rc;
}

/* --- CSV ------------------------------------------------------------------------------------------------ */

static ft_code field(ft_buffer *out, const char *text, ft_status *st)
{
    if (!strpbrk(text, ",\"\r\n"))
        return ft_buffer_printf(out, st, "%s,", text);
    ft_code rc = ft_buffer_append_str(out, "\"", st);
    for (; *text && !rc; text++)
        rc = ft_buffer_printf(out, st, *text == '"' ? "\"\"" : "%c", *text);
    return rc ? rc : ft_buffer_append_str(out, "\",", st);
}

static ft_code line(ft_buffer *out, const json_t *system, const char *measure, const char *domain, double value,
                    ft_status *st)
{
    const char *const texts[] = {eval_report_text(system, "name"), eval_report_text(system, "kind"), measure, domain};
    ft_code rc = FT_OK;
    for (size_t i = 0; i < 4 && !rc; i++)
        rc = field(out, texts[i], st);
    return rc ? rc : ft_buffer_printf(out, st, "%.9g\n", value);
}

static ft_code csv_shares(const json_t *s, const char *group, ft_buffer *out, ft_status *st)
{
    ft_code rc = FT_OK;
    const char *domain;
    json_t *list;
    const json_t *x;
    size_t e;
    char measure[200];
    json_object_foreach(json_object_get(s, group), domain, list)
    {
        json_array_foreach(list, e, x)
        {
            const char *expert = json_string_value(json_array_get(json_object_get(s, "experts"), e));
            snprintf(measure, sizeof(measure), "%s of %s", group, expert ? expert : "?");
            if (!rc)
                rc = line(out, s, measure, domain, json_number_value(x), st);
        }
    }
    return rc;
}

static ft_code csv_tasks(const json_t *s, const char *group, ft_buffer *out, ft_status *st)
{
    ft_code rc = FT_OK;
    const char *task, *name;
    json_t *of, *x;
    json_object_foreach(json_object_get(s, group), task, of)
    {
        json_object_foreach(of, name, x)
        {
            if (!rc)
                rc = line(out, s, name, task, json_number_value(x), st);
        }
    }
    return rc;
}

ft_code ft_eval_csv(const json_t *report, ft_buffer *out, ft_status *st)
{
    ft_code rc = ft_buffer_append_str(out, "system,kind,measure,domain,value\n", st);
    size_t i;
    const json_t *s;
    const char *domain;
    json_t *x;
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        json_object_foreach(json_object_get(s, "bits_per_byte"), domain, x)
        {
            if (!rc)
                rc = line(out, s, "bits_per_byte", domain, json_number_value(x), st);
        }
        if (!rc && isfinite(eval_report_mean(s)))
            rc = line(out, s, "bits_per_byte", "mean", eval_report_mean(s), st);
        if (!rc)
            rc = csv_shares(s, "shares", out, st);
        if (!rc)
            rc = csv_shares(s, "first", out, st);
        if (!rc)
            rc = csv_tasks(s, "choices", out, st);
        if (!rc)
            rc = csv_tasks(s, "exact", out, st);
    }
    return rc;
}
