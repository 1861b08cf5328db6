/* Spans while a completion streams, its trace at the end. */
#include "api/completion_internal.h"
#include "api/routes_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Live spans -------------------------------------------------------------------- */

/* Spans start at different tokens, so the start names one. */
static json_t *operation(const char *op, size_t start)
{
    return json_pack("{s:s,s:o}", "op", op, "id", json_sprintf("s%zu", start));
}

/* As in a trace: the owner with most occurrences first. */
static json_t *owners_of(const ft_trace_scope *scope, const uint32_t *ids, size_t n)
{
    json_t *names = json_array();
    uint64_t *counts = ft_alloc_array(scope->owner_count, sizeof(*counts));
    for (size_t o = 0; counts && o < scope->owner_count; o++) {
        const ft_index_set own = {scope->owners[o].indexes, scope->owners[o].index_count};
        counts[o] = ft_query_count(own, ids, n);
    }
    for (;;) {
        size_t most = scope->owner_count;
        for (size_t o = 0; counts && o < scope->owner_count; o++)
            if (counts[o] &&
                (most == scope->owner_count || counts[o] > counts[most] ||
                 (counts[o] == counts[most] && strcmp(scope->owners[o].name, scope->owners[most].name) < 0)))
                most = o;
        if (most == scope->owner_count)
            break;
        (void)json_array_append_new(names, json_string(scope->owners[most].name));
        counts[most] = 0;
    }
    free(counts);
    return names;
}

static json_t *put_operation(const char *op, const ft_trace_scope *scope, const ft_span *span, const uint32_t *ids)
{
    json_t *o = operation(op, span->start);
    (void)json_object_set_new(o, "start", json_integer((json_int_t)span->start));
    (void)json_object_set_new(o, "end", json_integer((json_int_t)span->end));
    (void)json_object_set_new(o, "count", json_integer((json_int_t)span->count));
    (void)json_object_set_new(o, "owners", owners_of(scope, ids + span->start, span->end - span->start));
    return o;
}

static ft_trace_options options_of(const ft_job *job, const ft_trace_scope *scope)
{
    ft_trace_options o = ft_trace_options_default(scope);
    const char *field;
    ft_status ignored; /* they were checked when they came */
    (void)(ft_trace_options_read(job->r.trace_options, &o, &field, &ignored) == FT_OK);
    return o;
}

/* Tells the tracker what is new; one of another state of the indexes is made anew. */
static ft_code follow(ft_item *item, const ft_trace_scope *scope, const uint32_t *ids, size_t count)
{
    ft_named_set *all = malloc(sizeof(*all));
    if (!all)
        return FT_ERR_MEM;
    ft_index_set_all(scope, all);
    ft_code rc = FT_OK;
    if (item->tracker && !ft_span_tracker_is_of(item->tracker, all->set)) {
        ft_span_tracker_free(item->tracker);
        item->tracker = NULL;
    }
    if (!item->tracker) {
        const ft_trace_options options = options_of(item->job, scope);
        rc = ft_span_tracker_new(&item->tracker, all->set, &options.rules, NULL);
    }
    if (!rc) {
        const size_t known = ft_span_tracker_length(item->tracker);
        rc = ft_span_tracker_append(item->tracker, ids + known, count - known, NULL);
    }
    free(all);
    return rc;
}

/* The client knows `now` from here on. */
static int remember(ft_item *item, const ft_span *now, size_t count)
{
    ft_span *copy = ft_alloc_array(count, sizeof(*copy));
    if (!copy)
        return 0;
    if (count)
        memcpy(copy, now, count * sizeof(*copy));
    free(item->live);
    item->live = copy;
    item->live_count = count;
    return 1;
}

static json_t *changes(const ft_item *item, const ft_trace_scope *scope, const ft_span *now, size_t count,
                       const uint32_t *ids)
{
    json_t *list = json_array();
    const ft_span *old = item->live;
    for (size_t i = 0, k = 0; i < item->live_count || k < count;) {
        const int gone = k == count || (i < item->live_count && old[i].start < now[k].start);
        const int new = !gone && (i == item->live_count || now[k].start < old[i].start);
        if (gone)
            (void)json_array_append_new(list, operation("remove", old[i].start));
        else if (new)
            (void)json_array_append_new(list, put_operation("add", scope, &now[k], ids));
        else if (old[i].end != now[k].end)
            (void)json_array_append_new(list, put_operation("replace", scope, &now[k], ids));
        i += !new;
        k += !gone;
    }
    return list;
}

json_t *ft_live_spans(ft_job *job, ft_item *item, const uint32_t *ids, size_t count)
{
    ft_snapshot *snapshot = ft_server_snapshot(job->server);
    const ft_trace_scope *scope = ft_snapshot_scope(snapshot);
    json_t *list = NULL;
    size_t now_count = 0;
    if (follow(item, scope, ids, count) == FT_OK) {
        const ft_span *now = ft_span_tracker_spans(item->tracker, &now_count);
        list = changes(item, scope, now, now_count, ids);
        if (json_array_size(list) && !remember(item, now, now_count)) {
            json_decref(list); /* the final trace tells */
            list = NULL;
        }
    } else {
        ft_span_tracker_free(item->tracker);
        item->tracker = NULL;
    }
    ft_snapshot_release(snapshot);
    if (json_array_size(list))
        return list;
    json_decref(list);
    return NULL;
}

/* A span of the trace as an operation: without documents, which the last chunk brings. */
static json_t *final_operation(const char *op, const json_t *span)
{
    static const char *const kept[] = {"start", "end", "text", "count", "owners", "verdict"};
    json_t *o = operation(op, (size_t)json_integer_value(json_object_get(span, "start")));
    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        (void)json_object_set(o, kept[i], json_object_get(span, kept[i]));
    return o;
}

json_t *ft_live_spans_end(ft_item *item)
{
    const json_t *spans = json_object_get(item->trace, "spans");
    json_t *list = json_array();
    const ft_span *old = item->live;
    const size_t n = json_array_size(spans);
    for (size_t i = 0, k = 0; i < item->live_count || k < n;) {
        const json_t *span = json_array_get(spans, k);
        const size_t start = (size_t)json_integer_value(json_object_get(span, "start"));
        const size_t end = (size_t)json_integer_value(json_object_get(span, "end"));
        const int gone = k == n || (i < item->live_count && old[i].start < start);
        const int new = !gone && (i == item->live_count || start < old[i].start);
        if (gone)
            (void)json_array_append_new(list, operation("remove", old[i].start));
        else if (new || old[i].end != end)
            (void)json_array_append_new(list, final_operation(new ? "add" : "replace", span));
        i += !new;
        k += !gone;
    }
    if (json_array_size(list))
        return list;
    json_decref(list);
    return NULL;
}

/* --- The trace ------------------------------------------------------------------------ */

/* What the text came from, enough to make it again. */
static json_t *parameters_json(const ft_job *job, const ft_item *item)
{
    const ft_sampling *how = &job->r.sampling;
    json_t *p = json_pack("{s:f,s:I,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:o}", "temperature", how->temperature, "top_k",
                          (json_int_t)how->top_k, "top_p", how->top_p, "min_p", how->min_p, "presence_penalty",
                          how->presence_penalty, "frequency_penalty", how->frequency_penalty, "repetition_penalty",
                          how->repetition_penalty, "seed", (json_int_t)(how->seed + item->index % job->r.n),
                          "max_tokens", (json_int_t)job->r.max_tokens, "min_tokens", (json_int_t)how->min_tokens,
                          "stop", job->r.stop_strings ? json_incref(job->r.stop_strings) : json_array());
    if (p && job->r.stop_id_count)
        (void)json_object_set_new(p, "stop_token_ids", ft_json_ids(job->r.stop_ids, job->r.stop_id_count));
    if (p && job->r.ignore_end_of_text)
        (void)json_object_set_new(p, "ignore_eos", json_true());
    if (p && job->r.include_stop)
        (void)json_object_set_new(p, "include_stop_str_in_output", json_true());
    if (p && job->r.keep_special)
        (void)json_object_set_new(p, "skip_special_tokens", json_false());
    if (p && how->bias_count) {
        json_t *bias = json_object();
        for (size_t i = 0; i < how->bias_count; i++) {
            char id[16];
            snprintf(id, sizeof(id), "%u", how->bias_ids[i]);
            (void)json_object_set_new(bias, id, json_real((double)how->bias_values[i]));
        }
        (void)json_object_set_new(p, "logit_bias", bias);
    }
    return p;
}

/* While a large model's digests are being read there is none: the client asks for it later. */
static ft_code make_receipt(ft_job *job, ft_item *item, ft_buffer *text, ft_server_entry *entry, ft_status *st)
{
    ft_code rc = ft_server_receipt(job->server, item->trace, 0, text, entry, st);
    if (!rc)
        rc = ft_json_parse(&item->receipt, text->data, text->size, "receipt", st);
    return rc == FT_ERR_NOT_FOUND ? FT_OK : rc;
}

/* The trace and its receipt's leaf in one transaction. A receipt that cannot be made keeps no trace out. */
static ft_code store(ft_job *job, ft_item *item, ft_status *st)
{
    char id[FT_TRACE_ID];
    ft_buffer text = {0};
    ft_server_entry made = {0};
    ft_status why = {0};
    ft_trace_id_new(id);
    ft_code rc = ft_trace_stamp(&item->trace, id, st);
    const ft_code receipt = !rc && job->r.receipt ? make_receipt(job, item, &text, &made, &why) : FT_OK;
    if (!rc)
        rc = ft_store_put_with(job->server->store, id, item->trace, item->routing.tokens ? &item->routing : NULL,
                               &made.entry, st);
    ft_buffer_release(&text);
    if (!rc)
        memcpy(item->trace_id, id, sizeof(id));
    if (!rc && receipt) {
        rc = receipt;
        *st = why;
    }
    return rc;
}

/* What is lost without each expert; *ids is the timeline, which the pass reads from. An aborted choice has none. */
static ft_code find_causes(ft_job *job, ft_item *item, uint32_t **ids, ft_causal **out, ft_status *st)
{
    const size_t count = item->prompt->count + item->count;
    *out = NULL;
    *ids = NULL;
    if (!job->r.causal.wanted || !item->count || item->finish == FT_FINISH_ABORT)
        return FT_OK;
    *ids = ft_alloc_array(count, sizeof(**ids));
    if (!*ids)
        return ft_fail(st, FT_ERR_MEM, "trace: no room for %zu tokens", count);
    memcpy(*ids, item->prompt->ids, item->prompt->count * sizeof(**ids));
    memcpy(*ids + item->prompt->count, item->ids, item->count * sizeof(**ids));
    const ft_causal_timeline line = {*ids, item->prompt->count, count, job->r.without};
    return ft_causal_run(job->server, &job->r.causal, &line, job->client, job->stream ? 0 : job->deadline, out, st);
}

static ft_code make_trace(ft_job *job, ft_item *item, const ft_causal_result *causes, ft_status *st)
{
    const ft_trace_input input = {.prompt = item->prompt->ids,
                                  .prompt_count = item->prompt->count,
                                  .response = item->ids,
                                  .response_count = item->count,
                                  .routing = item->routing.tokens ? &item->routing : NULL,
                                  .without = job->r.without,
                                  .causal = causes};
    ft_snapshot *snapshot = ft_server_snapshot(job->server);
    const ft_trace_options options = options_of(job, ft_snapshot_scope(snapshot));
    const double began = ft_seconds_now();
    const ft_code rc = ft_trace_make(ft_snapshot_scope(snapshot), &input, &options, &item->trace, st);
    if (!rc)
        ft_metrics_trace(&job->server->metrics, json_object_get(item->trace, "spans"), ft_seconds_now() - began);
    ft_snapshot_release(snapshot);
    return rc;
}

ft_code ft_item_trace(ft_job *job, ft_item *item, ft_status *st)
{
    uint32_t *ids = NULL;
    ft_causal *pass = NULL;
    if (!job->r.trace)
        return FT_OK;
    ft_code rc = find_causes(job, item, &ids, &pass, st);
    if (!rc) {
        const ft_causal_result causes = pass ? ft_causal_get(pass) : (ft_causal_result){0};
        rc = make_trace(job, item, pass ? &causes : NULL, st);
    }
    ft_causal_free(pass);
    free(ids);
    if (rc)
        return rc;
    json_t *t = item->trace;
    const ft_engine_options how = job->server->engine;
    const uint64_t opted_out = ft_federation_opted_out(job->server->federation);
    rc = ft_trace_set_engine(t, job->server->model, opted_out, &how, st);
    if (!rc)
        rc = ft_trace_set_output(t, item->text.data ? item->text.data : "", item->text.size, 0, st);
    if (rc)
        return rc;
    if (json_object_set_new(t, "model", json_string(ft_federation_name(job->server->federation))) ||
        json_object_set_new(t, "key", json_string(job->key)) ||
        json_object_set_new(t, "finish_reason", json_string(ft_output_finish(item))) ||
        json_object_set_new(t, "parameters", parameters_json(job, item)) ||
        (job->r.nonce[0] && json_object_set_new(t, "nonce", json_string(job->r.nonce))))
        return ft_fail(st, FT_ERR_MEM, "trace: out of memory");
    return job->r.store && job->server->store ? store(job, item, st) : FT_OK;
}

static json_t *numbers(const double *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(list, json_real(values[i]));
    return list;
}

/* Per generated token the experts' shares of mixing weight, and over all. */
static json_t *routing_summary(const ft_job *job, const ft_item *item)
{
    double total[FT_MAX_EXPERTS];
    json_t *tokens = json_array();
    for (size_t i = 0; i < item->count; i++)
        (void)json_array_append_new(tokens, numbers(item->shares + i * job->experts, job->experts));
    ft_routing_shares(&item->routing, item->prompt->count, item->prompt->count + item->count, total);
    return json_pack("{s:o,s:o}", "tokens", tokens, "total", numbers(total, job->experts));
}

json_t *ft_item_extra(const ft_job *job, const ft_item *item)
{
    const ft_routing_wish wish = item->routing.tokens ? job->r.routing : FT_ROUTING_NONE;
    if (!item->trace && wish == FT_ROUTING_NONE)
        return NULL;
    json_t *extra = json_object();
    if (item->trace) {
        static const char *const kept[] = {"spans", "merged_spans", "documents", "experts", "evidence"};
        (void)json_object_set_new(extra, "trace_id", item->trace_id[0] ? json_string(item->trace_id) : json_null());
        for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
            (void)json_object_set(extra, kept[i], json_object_get(item->trace, kept[i]));
    }
    if (job->r.receipt)
        (void)json_object_set_new(extra, "receipt", item->receipt ? json_incref(item->receipt) : json_null());
    if (wish == FT_ROUTING_SUMMARY)
        (void)json_object_set_new(extra, "routing", routing_summary(job, item));
    if (wish == FT_ROUTING_FULL) {
        ft_snapshot *names = ft_federation_snapshot(job->server->federation); /* the owners' alone, so any will do */
        (void)json_object_set_new(extra, "routing",
                                  ft_routing_json(ft_snapshot_scope(names), &item->routing, job->r.without));
        ft_snapshot_release(names);
    }
    return extra;
}

json_t *ft_routed_experts(const ft_routing *routing, size_t from, size_t to)
{
    json_t *tokens = json_array();
    for (size_t t = from; t < to && t < routing->tokens; t++) {
        json_t *layers = json_array();
        for (size_t l = 0; l < routing->layers; l++) {
            json_t *ids = json_array();
            for (size_t k = 0; k < routing->top_k; k++)
                (void)json_array_append_new(
                    ids, json_integer(routing->expert_ids[(t * routing->layers + l) * routing->top_k + k]));
            (void)json_array_append_new(layers, ids);
        }
        (void)json_array_append_new(tokens, layers);
    }
    return tokens;
}
