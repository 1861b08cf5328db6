/* Counters and histograms, and their text. */
#include "api/metrics_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* OpenTelemetry's, of the gen_ai server metrics. */
static const double request_bounds[] = {0.01, 0.02, 0.04, 0.08,  0.16,  0.32,  0.64,
                                        1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
static const double first_token_bounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                            0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10};
static const double output_token_bounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5};
#define BOUNDS(b) b, sizeof(b) / sizeof(*(b))

void ft_metrics_init(ft_metrics *m)
{
    memset(m, 0, sizeof(*m));
    pthread_mutex_init(&m->lock, NULL);
}

void ft_metrics_destroy(ft_metrics *m)
{
    pthread_mutex_destroy(&m->lock);
}

static void observe(ft_histogram *h, const double *bounds, size_t n, double value)
{
    size_t i = 0;
    while (i < n && value > bounds[i])
        i++;
    h->counts[i]++;
    h->sum += value;
}

void ft_metrics_request(ft_metrics *m, const char *route, const char *method, unsigned code, double seconds)
{
    size_t r = 0, c = 0;
    route = route ? route : "none";
    pthread_mutex_lock(&m->lock);
    while (r < FT_METRIC_ROUTES && m->routes[r].route &&
           (strcmp(m->routes[r].route, route) != 0 || strcmp(m->routes[r].method, method) != 0))
        r++;
    if (r < FT_METRIC_ROUTES) {
        m->routes[r].route = route;
        m->routes[r].method = method;
        observe(&m->routes[r].seconds, BOUNDS(request_bounds), seconds);
        while (c < FT_METRIC_CODES && m->routes[r].codes[c].code && m->routes[r].codes[c].code != code)
            c++;
    }
    if (r < FT_METRIC_ROUTES && c < FT_METRIC_CODES) {
        m->routes[r].codes[c].code = code;
        m->routes[r].codes[c].count++;
    }
    pthread_mutex_unlock(&m->lock);
}

void ft_metrics_generation(ft_metrics *m, size_t prompt_tokens, size_t cached_tokens, size_t tokens,
                           double first_seconds, double rest_seconds)
{
    pthread_mutex_lock(&m->lock);
    m->prompt_tokens += prompt_tokens;
    m->cached_tokens += cached_tokens;
    m->generation_tokens += tokens;
    if (first_seconds >= 0)
        observe(&m->first_token, BOUNDS(first_token_bounds), first_seconds);
    for (size_t i = 1; i < tokens; i++)
        observe(&m->output_token, BOUNDS(output_token_bounds), rest_seconds / (double)(tokens - 1));
    pthread_mutex_unlock(&m->lock);
}

void ft_metrics_shares(ft_metrics *m, const double *shares, size_t experts)
{
    size_t most = 0;
    pthread_mutex_lock(&m->lock);
    for (size_t e = 0; e < experts && e < FT_MAX_EXPERTS; e++) {
        m->routed_weight[e] += shares[e];
        most = shares[e] > shares[most] ? e : most;
    }
    if (experts)
        m->routed_tokens[most]++;
    pthread_mutex_unlock(&m->lock);
}

static const char *const verdicts[FT_METRIC_VERDICTS] = {"verbatim", "influenced", "shared", "public", "none"};

static size_t verdict_of(const json_t *span)
{
    const char *name = json_string_value(json_object_get(span, "verdict"));
    size_t i = 0;
    while (name && i < FT_METRIC_VERDICTS && strcmp(verdicts[i], name) != 0)
        i++;
    return i < FT_METRIC_VERDICTS ? i : FT_METRIC_VERDICTS - 1;
}

void ft_metrics_removed(ft_metrics *m, size_t owner, uint64_t documents)
{
    if (owner >= FT_MAX_OWNERS)
        return;
    pthread_mutex_lock(&m->lock);
    if (m->owners[owner].looked && documents > m->owners[owner].removed)
        m->owners[owner].taken_down += documents - m->owners[owner].removed;
    m->owners[owner].looked = 1;
    m->owners[owner].removed = documents;
    pthread_mutex_unlock(&m->lock);
}

void ft_metrics_trace(ft_metrics *m, const json_t *spans, double seconds)
{
    const json_t *span;
    size_t i;
    pthread_mutex_lock(&m->lock);
    json_array_foreach(spans, i, span)
    {
        m->spans[verdict_of(span)]++;
    }
    observe(&m->attribution, BOUNDS(request_bounds), seconds);
    pthread_mutex_unlock(&m->lock);
}

void ft_metrics_receipt(ft_metrics *m)
{
    pthread_mutex_lock(&m->lock);
    m->receipts++;
    pthread_mutex_unlock(&m->lock);
}

/* --- Writing ------------------------------------------------------------------------ */

ft_code ft_metric_head(ft_buffer *out, const char *name, const char *type, const char *help, ft_status *st)
{
    return ft_buffer_printf(out, st, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static ft_code put_label(ft_buffer *out, const char *name, const char *value, int more, ft_status *st)
{
    ft_code rc = ft_buffer_printf(out, st, "%s%s=\"", more ? "," : "{", name);
    for (const char *p = value ? value : ""; !rc && *p; p++) {
        const char *escaped = *p == '\\' ? "\\\\" : *p == '"' ? "\\\"" : *p == '\n' ? "\\n" : NULL;
        rc = escaped ? ft_buffer_append_str(out, escaped, st) : ft_buffer_append(out, p, 1, st);
    }
    return rc ? rc : ft_buffer_append_str(out, "\"", st);
}

ft_code ft_metric_sample(ft_buffer *out, const char *name, const char *const *labels, double value, ft_status *st)
{
    ft_code rc = ft_buffer_append_str(out, name, st);
    for (size_t i = 0; !rc && labels && labels[i]; i += 2)
        rc = put_label(out, labels[i], labels[i + 1], i > 0, st);
    if (!rc && labels && labels[0])
        rc = ft_buffer_append_str(out, "}", st);
    if (rc)
        return rc;
    return value == floor(value) && fabs(value) < 1e15 ? ft_buffer_printf(out, st, " %.0f\n", value)
                                                       : ft_buffer_printf(out, st, " %.17g\n", value);
}

/* Buckets, sum and count; up to two labels before "le". */
static ft_code put_histogram(ft_buffer *out, const char *name, const char *const *labels, const ft_histogram *h,
                             const double *bounds, size_t n, ft_status *st)
{
    char part[100], bound[32];
    const char *all[8] = {NULL};
    size_t k = 0;
    uint64_t count = 0;
    ft_code rc = FT_OK;
    for (; labels && labels[k] && k < 4; k++)
        all[k] = labels[k];
    all[k] = "le";
    all[k + 1] = bound;
    snprintf(part, sizeof(part), "%s_bucket", name);
    for (size_t i = 0; !rc && i <= n; i++) {
        count += h->counts[i];
        if (i < n)
            snprintf(bound, sizeof(bound), "%g", bounds[i]);
        else
            snprintf(bound, sizeof(bound), "+Inf");
        rc = ft_metric_sample(out, part, all, (double)count, st);
    }
    snprintf(part, sizeof(part), "%s_sum", name);
    if (!rc)
        rc = ft_metric_sample(out, part, labels, h->sum, st);
    snprintf(part, sizeof(part), "%s_count", name);
    return rc ? rc : ft_metric_sample(out, part, labels, (double)count, st);
}

static ft_code put_requests(const ft_metrics *m, ft_buffer *out, ft_status *st)
{
    static const char total[] = "flextrace_http_requests_total", took[] = "flextrace_http_request_duration_seconds";
    ft_code rc = ft_metric_head(out, total, "counter", "Requests answered, by route, method and status.", st);
    for (size_t r = 0; r < FT_METRIC_ROUTES && m->routes[r].route; r++)
        for (size_t c = 0; !rc && c < FT_METRIC_CODES && m->routes[r].codes[c].code; c++) {
            char code[12];
            snprintf(code, sizeof(code), "%u", m->routes[r].codes[c].code);
            const char *labels[] = {"route", m->routes[r].route, "method", m->routes[r].method, "code", code, NULL};
            rc = ft_metric_sample(out, total, labels, (double)m->routes[r].codes[c].count, st);
        }
    if (!rc)
        rc = ft_metric_head(out, took, "histogram", "From a request's head to the end of its answer.", st);
    for (size_t r = 0; !rc && r < FT_METRIC_ROUTES && m->routes[r].route; r++) {
        const char *labels[] = {"route", m->routes[r].route, "method", m->routes[r].method, NULL};
        rc = put_histogram(out, took, labels, &m->routes[r].seconds, BOUNDS(request_bounds), st);
    }
    return rc;
}

static ft_code put_plain(ft_buffer *out, const char *name, const char *type, const char *help, double value,
                         ft_status *st)
{
    const ft_code rc = ft_metric_head(out, name, type, help, st);
    return rc ? rc : ft_metric_sample(out, name, NULL, value, st);
}

static ft_code put_spans(const ft_metrics *m, ft_buffer *out, ft_status *st)
{
    static const char name[] = "flextrace_spans_total";
    ft_code rc = ft_metric_head(out, name, "counter", "Spans in traces and attributions that were made.", st);
    for (size_t i = 0; !rc && i < FT_METRIC_VERDICTS; i++) {
        const char *labels[] = {"verdict", verdicts[i], NULL};
        rc = ft_metric_sample(out, name, labels, (double)m->spans[i], st);
    }
    return rc;
}

ft_code ft_metrics_write_owners(ft_metrics *m, const ft_trace_scope *scope, ft_buffer *out, ft_status *st)
{
    static const char name[] = "flextrace_takedown_documents_total";
    pthread_mutex_lock(&m->lock);
    ft_code rc =
        ft_metric_head(out, name, "counter", "Documents removed from the owner's indexes while this server ran.", st);
    for (size_t i = 0; !rc && i < scope->owner_count && i < FT_MAX_OWNERS; i++) {
        const char *labels[] = {"owner", scope->owners[i].name, NULL};
        rc = ft_metric_sample(out, name, labels, (double)m->owners[i].taken_down, st);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static ft_code put_experts(const ft_metrics *m, size_t experts,
                           const char *(*owner_of)(void *context, size_t expert, char spare[24]), void *context,
                           ft_buffer *out, ft_status *st)
{
    static const char *const names[] = {"flextrace_expert_tokens_total", "flextrace_expert_weight_total"};
    static const char *const helps[] = {
        "Tokens, of generations whose routing was asked for, in which the owner's expert had the largest share.",
        "Shares of mixing weight in those tokens, summed."};
    ft_code rc = FT_OK;
    for (int k = 0; k < 2 && !rc; k++) {
        rc = ft_metric_head(out, names[k], "counter", helps[k], st);
        for (size_t e = 0; !rc && e < experts && e < FT_MAX_EXPERTS; e++) {
            char spare[24];
            const char *labels[] = {"owner", owner_of(context, e, spare), NULL};
            rc = ft_metric_sample(out, names[k], labels, k ? m->routed_weight[e] : (double)m->routed_tokens[e], st);
        }
    }
    return rc;
}

ft_code ft_metrics_write(ft_metrics *m, size_t experts,
                         const char *(*owner_of)(void *context, size_t expert, char spare[24]), void *context,
                         ft_buffer *out, ft_status *st)
{
    static const struct {
        const char *name, *help;
        const double *bounds;
        size_t n, at;
    } histograms[] = {{"flextrace_time_to_first_token_seconds", "From a request's head to its first token.",
                       BOUNDS(first_token_bounds), offsetof(ft_metrics, first_token)},
                      {"flextrace_time_per_output_token_seconds",
                       "Between two tokens, mean over a generation, once a token.", BOUNDS(output_token_bounds),
                       offsetof(ft_metrics, output_token)},
                      {"flextrace_attribution_duration_seconds", "Making a trace: spans and documents.",
                       BOUNDS(request_bounds), offsetof(ft_metrics, attribution)}};
    pthread_mutex_lock(&m->lock);
    ft_code rc = put_requests(m, out, st);
    if (!rc)
        rc = put_plain(out, "flextrace_prompt_tokens_total", "counter", "Tokens of prompts.", (double)m->prompt_tokens,
                       st);
    if (!rc)
        rc = put_plain(out, "flextrace_prompt_cached_tokens_total", "counter",
                       "Tokens of prompts that the prefix cache had.", (double)m->cached_tokens, st);
    if (!rc)
        rc = put_plain(out, "flextrace_generation_tokens_total", "counter", "Tokens generated.",
                       (double)m->generation_tokens, st);
    if (!rc)
        rc = put_spans(m, out, st);
    if (!rc)
        rc = put_plain(out, "flextrace_receipts_signed_total", "counter", "Receipts that were signed.",
                       (double)m->receipts, st);
    for (size_t i = 0; !rc && i < sizeof(histograms) / sizeof(*histograms); i++) {
        const ft_histogram *h = (const ft_histogram *)(const void *)((const char *)m + histograms[i].at);
        rc = ft_metric_head(out, histograms[i].name, "histogram", histograms[i].help, st);
        if (!rc)
            rc = put_histogram(out, histograms[i].name, NULL, h, histograms[i].bounds, histograms[i].n, st);
    }
    if (!rc && experts)
        rc = put_experts(m, experts, owner_of, context, out, st);
    pthread_mutex_unlock(&m->lock);
    return rc;
}
