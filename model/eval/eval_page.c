/* The report as one HTML page: two charts in inline SVG, tables, light and dark. Bars are per cent of the page's
 * width and text has its own size, so that a phone shows the same page. */
#include "model/eval/ft_eval_report.h"

#include "base/ft_webpage.h"
#include "model/eval/eval_report.h"

#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n"
    ":root{color-scheme:light dark;--paper:#fdfdfb;--ink:#1d2327;--soft:#667078;--line:#e3e3dd;--bar:#b9c1c6;"
    "--mark:#b4432d;--half:#e3a594;--heat:180,67,45;--cool:40,110,150}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#16191b;--ink:#e6e6e1;--soft:#98a1a8;--line:#2d3337;"
    "--bar:#4d575e;--mark:#e8765c;--half:#7d463a;--heat:232,118,92;--cool:90,170,215}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif}\n"
    "main{max-width:44rem;margin:0 auto;padding:2rem 1.1rem 4rem}\n"
    "h1{font-size:1.6rem;line-height:1.2;margin:0 0 .4rem;font-weight:650}"
    "h2{font-size:1.12rem;margin:2.6rem 0 .2rem;font-weight:650}\n"
    "p{margin:.3rem 0 1rem;max-width:38rem}.soft{color:var(--soft);font-size:.9rem}\n"
    "svg{display:block;width:100%;overflow:visible}svg text{fill:var(--ink);font-size:14px}"
    "svg .value{fill:var(--ink);font-size:13px;font-variant-numeric:tabular-nums}svg .note{fill:var(--soft);"
    "font-size:13px}\n"
    ".bar{fill:var(--bar)}.mark{fill:var(--mark)}.half{fill:var(--half)}.base{stroke:var(--line)}\n"
    ".key{display:inline-block;width:.75rem;height:.75rem;border-radius:2px;margin:0 .35rem 0 0}"
    ".keys span.item{margin-right:1.1rem;white-space:nowrap}\n"
    ".wide{overflow-x:auto;margin:.4rem 0}table{border-collapse:collapse;font-size:.86rem;"
    "font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.28rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}"
    "th{font-weight:550;color:var(--soft)}th:first-child,td:first-child{text-align:left;padding-left:0;"
    "position:sticky;left:0;background:var(--paper)}\n"
    "@media(max-width:30rem){table{font-size:.78rem}th,td{padding:.26rem .4rem}}.caption{margin:1rem 0 0;"
    "font-weight:550}\n"
    "tr.mark td{font-weight:650}td.own{font-weight:650}td.wrap{white-space:normal}\n"
    "</style>\n";

/* --- Pieces --------------------------------------------------------------------------------------------- */

static ft_code element(ft_buffer *out, const char *open, const char *text, const char *close, ft_status *st)
{
    ft_code rc = ft_buffer_append_str(out, open, st);
    if (!rc)
        rc = ft_webpage_escape(out, text, strlen(text), FT_WEBPAGE_WHOLE, st);
    return rc ? rc : ft_buffer_append_str(out, close, st);
}

static ft_code section(ft_buffer *out, const char *title, const char *about, ft_status *st)
{
    const ft_code rc = element(out, "<h2>", title, "</h2>\n", st);
    return rc ? rc : element(out, "<p class=\"soft\">", about, "</p>\n", st);
}

static ft_code cell(ft_buffer *out, double v, const char *format, ft_status *st)
{
    if (!isfinite(v))
        return ft_buffer_append_str(out, "<td>–</td>", st);
    ft_code rc = ft_buffer_append_str(out, "<td>", st);
    if (!rc)
        rc = ft_buffer_printf(out, st, format, v); /* NOLINT: ours, one double */
    return rc ? rc : ft_buffer_append_str(out, "</td>", st);
}

/* A bar with its value behind it; x is the value's share of the widest. */
enum { WIDEST = 84 };
static ft_code bar(ft_buffer *out, unsigned y, unsigned height, double v, double most, const char *class, ft_status *st)
{
    const double width = most > 0 && isfinite(v) ? WIDEST * v / most : 0;
    return ft_buffer_printf(out, st,
                            "<rect class=\"%s\" x=\"0\" y=\"%u\" width=\"%.2f%%\" height=\"%u\" rx=\"2\"/>"
                            "<text class=\"value\" x=\"%.2f%%\" dx=\"7\" y=\"%u\">%.3f</text>\n",
                            class, y, width, height, width, y + height / 2 + 5, v);
}

/* --- Systems compared -------------------------------------------------------------------------------- */

typedef struct entry {
    const char *name, *class;
    double value;
} entry;

static int worst_first(const void *a, const void *b)
{
    const double x = ((const entry *)a)->value, y = ((const entry *)b)->value;
    return (x < y) - (x > y);
}

/* Systems of the whole federation; experts and branches as one entry each, on their own domains. */
static size_t gather(const json_t *report, entry *out, size_t most)
{
    const double pairs = eval_report_own_mean(report, "pair"), branches = eval_report_own_mean(report, "branch");
    size_t i, n = 0;
    const json_t *s;
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        const char *kind = eval_report_text(s, "kind");
        const int ours = !strcmp(kind, "merged") || !strcmp(kind, "tuned");
        if (!strcmp(kind, "pair") || !strcmp(kind, "branch") || ft_eval_leaves_out(kind) || n + 2 >= most ||
            !isfinite(eval_report_mean(s)))
            continue;
        out[n++] = (entry){eval_report_text(s, "name"), ours ? "mark" : "bar", eval_report_mean(s)};
    }
    if (isfinite(pairs))
        out[n++] = (entry){"single experts, each on its own domain", "half", pairs};
    if (isfinite(branches))
        out[n++] = (entry){"dense branches, each on its own domain", "bar", branches};
    qsort(out, n, sizeof(*out), worst_first);
    return n;
}

static ft_code systems_chart(const json_t *report, ft_buffer *out, ft_status *st)
{
    enum { MOST = 128, ROW = 42 };
    entry entries[MOST];
    const size_t n = gather(report, entries, MOST);
    if (!n)
        return FT_OK;
    ft_code rc = section(out, "Systems compared",
                         "Bits per byte on test documents, mean over the owners' domains. Shorter is better.", st);
    if (!rc)
        rc = ft_buffer_printf(out, st, "<svg height=\"%zu\" role=\"img\" aria-label=\"Systems compared\">\n", n * ROW);
    for (size_t i = 0; i < n && !rc; i++) {
        const unsigned y = (unsigned)(i * ROW);
        char open[64];
        snprintf(open, sizeof(open), "<text x=\"0\" y=\"%u\">", y + 14);
        rc = element(out, open, entries[i].name, "</text>", st);
        if (!rc)
            rc = bar(out, y + 20, 12, entries[i].value, entries[0].value, entries[i].class, st);
    }
    return rc ? rc : ft_buffer_append_str(out, "</svg>\n", st);
}

/* --- Leave one expert out ------------------------------------------------------------------------------- */

/* Of the model whose router was tuned, where that was measured so. */
static const char *left_out_kind(const json_t *report)
{
    return eval_report_find(report, "tuned-without") ? "tuned-without" : "without";
}

static const json_t *left_out_whole(const json_t *report)
{
    return eval_report_find(report, eval_report_find(report, "tuned-without") ? "tuned" : "merged");
}

static double widest(const json_t *report, const json_t *public)
{
    size_t i;
    const json_t *d;
    double most = 0;
    json_array_foreach(json_object_get(report, "domains"), i, d)
    {
        const char *name = eval_report_text(d, "name");
        const json_t *without = eval_report_of(report, left_out_kind(report), name);
        if (without)
            most = fmax(most, fmax(eval_report_bits(public, name), eval_report_bits(without, name)));
    }
    return most;
}

static ft_code left_out_chart(const json_t *report, ft_buffer *out, ft_status *st)
{
    enum { ROW = 76 };
    const json_t *public = eval_report_find(report, "public"), *whole = left_out_whole(report), *d;
    const double most = widest(report, public);
    size_t i, n = 0;
    if (!public || !whole || most <= 0)
        return FT_OK;
    const int tuned = !strcmp(left_out_kind(report), "tuned-without");
    char about[300];
    snprintf(
        about, sizeof(about),
        "The merged model%s, each owner's domain, in bits per byte: with all experts, and without the expert of that "
        "owner. The public model is what there was before.",
        tuned ? " with its tuned router" : "");
    ft_code rc = section(out, "Leaving one expert out", about, st);
    if (!rc)
        rc =
            ft_buffer_append_str(out,
                                 "<p class=\"soft keys\"><span class=\"item\"><span class=\"key\" "
                                 "style=\"background:var(--mark)\"></span>all experts</span><span class=\"item\"><span "
                                 "class=\"key\" style=\"background:var(--half)\"></span>without its own</span><span "
                                 "class=\"item\"><span class=\"key\" style=\"background:var(--bar)\"></span>public "
                                 "model</span></p>\n",
                                 st);
    json_array_foreach(json_object_get(report, "domains"), i, d)
    {
        n += eval_report_of(report, left_out_kind(report), eval_report_text(d, "name")) != NULL;
    }
    if (!rc)
        rc = ft_buffer_printf(out, st, "<svg height=\"%zu\" role=\"img\" aria-label=\"Leaving one expert out\">\n",
                              n * ROW);
    unsigned y = 0;
    json_array_foreach(json_object_get(report, "domains"), i, d)
    {
        const char *name = eval_report_text(d, "name");
        const json_t *without = eval_report_of(report, left_out_kind(report), name);
        char open[64];
        if (!without || rc)
            continue;
        snprintf(open, sizeof(open), "<text x=\"0\" y=\"%u\">", y + 14);
        rc = element(out, open, name, "</text>", st);
        if (!rc)
            rc = bar(out, y + 20, 12, eval_report_bits(whole, name), most, "mark", st);
        if (!rc)
            rc = bar(out, y + 35, 12, eval_report_bits(without, name), most, "half", st);
        if (!rc)
            rc = bar(out, y + 50, 12, eval_report_bits(public, name), most, "bar", st);
        y += ROW;
    }
    return rc ? rc : ft_buffer_append_str(out, "</svg>\n", st);
}

/* How much each domain changes with each expert left out, in per cent of the model with all. */
static ft_code left_out_table(const json_t *report, ft_buffer *out, ft_status *st)
{
    const json_t *whole = left_out_whole(report), *domains = json_object_get(report, "domains"), *s, *d;
    size_t i, k;
    if (!whole || !eval_report_find(report, left_out_kind(report)))
        return FT_OK;
    ft_code rc = ft_buffer_append_str(out,
                                      "<p class=\"soft\">Change against all experts, per cent; a row leaves one out."
                                      "</p>\n<div class=\"wide\"><table><tr><th>without</th>",
                                      st);
    json_array_foreach(domains, k, d)
    {
        if (!rc)
            rc = element(out, "<th>", eval_report_text(d, "name"), "</th>", st);
    }
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        if (rc || strcmp(eval_report_text(s, "kind"), left_out_kind(report)) != 0)
            continue;
        rc = element(out, "</tr>\n<tr><td>", eval_report_text(s, "without"), "</td>", st);
        json_array_foreach(domains, k, d)
        {
            const char *name = eval_report_text(d, "name");
            const double change = 100 * (eval_report_bits(s, name) / eval_report_bits(whole, name) - 1);
            if (!rc)
                rc = ft_buffer_printf(out, st, "<td%s style=\"background:rgba(var(--%s),%.2f)\">%+.1f</td>",
                                      strcmp(name, eval_report_text(s, "without")) ? "" : " class=\"own\"",
                                      change > 0 ? "heat" : "cool", fmin(0.75, fabs(change) / 40), change);
        }
    }
    return rc ? rc : ft_buffer_append_str(out, "</tr></table></div>\n", st);
}

/* --- Routing -------------------------------------------------------------------------------------------- */

static ft_code shares_table(const json_t *report, const json_t *s, ft_buffer *out, ft_status *st)
{
    const json_t *experts = json_object_get(s, "experts"), *d, *x;
    size_t k, e;
    ft_code rc = element(out, "<p class=\"caption\">", eval_report_text(s, "name"), "</p>\n", st);
    if (!rc)
        rc = ft_buffer_append_str(out, "<div class=\"wide\"><table><tr><th>text of</th>", st);
    json_array_foreach(experts, e, x)
    {
        if (!rc)
            rc = element(out, "<th>", json_string_value(x), "</th>", st);
    }
    json_array_foreach(json_object_get(report, "domains"), k, d)
    {
        const char *name = eval_report_text(d, "name");
        if (!rc)
            rc = element(out, "</tr>\n<tr><td>", name, "</td>", st);
        json_array_foreach(json_object_get(json_object_get(s, "shares"), name), e, x)
        {
            const char *expert = json_string_value(json_array_get(experts, e));
            const double v = json_number_value(x);
            if (!rc)
                rc = ft_buffer_printf(out, st, "<td%s style=\"background:rgba(var(--heat),%.2f)\">%.0f</td>",
                                      expert && !strcmp(expert, name) ? " class=\"own\"" : "", 0.75 * v, 100 * v);
        }
    }
    return rc ? rc : ft_buffer_append_str(out, "</tr></table></div>\n", st);
}

static ft_code routing(const json_t *report, ft_buffer *out, ft_status *st)
{
    static const char *const kinds[] = {"merged", "tuned", "given"};
    ft_code rc = FT_OK;
    int said = 0;
    for (size_t i = 0; i < 3 && !rc; i++) {
        const json_t *s = eval_report_find(report, kinds[i]);
        if (!json_object_get(s, "shares"))
            continue;
        if (!said++)
            rc = section(out, "Where the tokens go",
                         "Share of the mixing weight that each expert has, per cent, mean over layers and tokens. "
                         "A row is a domain's text.",
                         st);
        if (!rc)
            rc = shares_table(report, s, out, st);
    }
    return rc;
}

/* --- Tables ---------------------------------------------------------------------------------------------- */

static ft_code bits_table(const json_t *report, ft_buffer *out, ft_status *st)
{
    const json_t *domains = json_object_get(report, "domains"), *s, *d;
    size_t i, k;
    ft_code rc = section(out, "All figures", "Bits per byte on test documents.", st);
    if (!rc)
        rc = ft_buffer_append_str(out, "<div class=\"wide\"><table><tr><th>system</th><th>mean</th>", st);
    json_array_foreach(domains, k, d)
    {
        if (!rc)
            rc = element(out, "<th>", eval_report_text(d, "name"), "</th>", st);
    }
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        const char *kind = eval_report_text(s, "kind");
        if (!rc)
            rc = element(out,
                         strcmp(kind, "merged") != 0 && strcmp(kind, "tuned") != 0 ? "</tr>\n<tr><td>"
                                                                                   : "</tr>\n<tr class=\"mark\"><td>",
                         eval_report_text(s, "name"), "</td>", st);
        if (!rc)
            rc = cell(out, eval_report_mean(s), "%.3f", st);
        json_array_foreach(domains, k, d)
        {
            if (!rc)
                rc = cell(out, eval_report_bits(s, eval_report_text(d, "name")), "%.3f", st);
        }
    }
    return rc ? rc : ft_buffer_append_str(out, "</tr></table></div>\n", st);
}

static ft_code tasks_table(const json_t *report, const char *group, const char *field, const char *title,
                           const char *about, ft_buffer *out, ft_status *st)
{
    size_t i;
    const json_t *s, *first = json_object_get(json_array_get(json_object_get(report, "systems"), 0), group);
    const char *task;
    json_t *of;
    if (!json_object_size(first))
        return FT_OK;
    ft_code rc = section(out, title, about, st);
    if (!rc)
        rc = ft_buffer_append_str(out, "<div class=\"wide\"><table><tr><th>system</th>", st);
    json_object_foreach((json_t *)first, task, of)
    {
        if (!rc)
            rc = element(out, "<th>", task, "</th>", st);
    }
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        const json_t *tasks = json_object_get(s, group);
        if (rc || !tasks)
            continue;
        rc = element(out, "</tr>\n<tr><td>", eval_report_text(s, "name"), "</td>", st);
        json_object_foreach((json_t *)first, task, of)
        {
            const json_t *x = json_object_get(json_object_get(tasks, task), field);
            if (!rc)
                rc = cell(out, json_is_number(x) ? json_number_value(x) : NAN, "%.3f", st);
        }
    }
    return rc ? rc : ft_buffer_append_str(out, "</tr></table></div>\n", st);
}

static ft_code compared(const json_t *report, ft_buffer *out, ft_status *st)
{
    const json_t *list = json_object_get(report, "compared"), *x;
    size_t i;
    if (!json_array_size(list))
        return FT_OK;
    ft_code rc = section(out, "In relation", "Computed from the figures above.", st);
    if (!rc)
        rc = ft_buffer_append_str(out, "<table>", st);
    json_array_foreach(list, i, x)
    {
        const char *unit = eval_report_text(x, "unit");
        const double v = json_number_value(json_object_get(x, "value"));
        if (!rc)
            rc = element(out, "<tr><td class=\"wrap\">", eval_report_text(x, "what"), "</td>", st);
        if (!rc)
            rc = strcmp(unit, "%") != 0 ? ft_buffer_printf(out, st, "<td>%.0f</td></tr>\n", v)
                                        : ft_buffer_printf(out, st, "<td>%+.1f %%</td></tr>\n", v);
    }
    return rc ? rc : ft_buffer_append_str(out, "</table>\n", st);
}

static ft_code top(const json_t *report, ft_buffer *out, ft_status *st)
{
    const json_t *domains = json_object_get(report, "domains"), *d;
    size_t i;
    uint64_t documents = 0;
    double bytes = 0;
    json_array_foreach(domains, i, d)
    {
        documents += (uint64_t)json_integer_value(json_object_get(d, "documents"));
        bytes += (double)json_integer_value(json_object_get(d, "bytes"));
    }
    ft_code rc = ft_buffer_append_str(out, head, st);
    if (!rc)
        rc = element(out, "<title>", eval_report_text(report, "name"), "</title>\n<main>\n", st);
    if (!rc)
        rc = element(out, "<h1>", eval_report_text(report, "name"), "</h1>\n", st);
    return rc ? rc
              : ft_buffer_printf(out, st,
                                 "<p class=\"soft\">%llu test documents, %.2f MB, %zu domains. The end of a document "
                                 "counts; its first token costs log2 of the vocabulary; windows of %lld tokens overlap "
                                 "by half.</p>\n",
                                 (unsigned long long)documents, bytes / 1e6, json_array_size(domains),
                                 (long long)json_integer_value(json_object_get(report, "window")));
}

ft_code ft_eval_page(const json_t *report, ft_buffer *out, ft_status *st)
{
    ft_code rc = top(report, out, st);
    if (!rc)
        rc = systems_chart(report, out, st);
    if (!rc)
        rc = left_out_chart(report, out, st);
    if (!rc)
        rc = left_out_table(report, out, st);
    if (!rc)
        rc = routing(report, out, st);
    if (!rc)
        rc = compared(report, out, st);
    if (!rc)
        rc = bits_table(report, out, st);
    if (!rc)
        rc = tasks_table(report, "choices", "acc", "Multiple choice", "Accuracy; log-likelihood of the whole answer.",
                         out, st);
    if (!rc)
        rc = tasks_table(report, "choices", "bpb", "Bits per byte of the right answer", "Shorter is better.", out, st);
    if (!rc)
        rc = tasks_table(report, "exact", "exact", "Exact match", "Share of greedy answers that are right.", out, st);
    return rc ? rc : ft_buffer_append_str(out, "</main>\n</html>\n", st);
}
