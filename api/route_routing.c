/* Routing for researchers: of one trace as arrays, of many in numbers. */
#include "api/compliance_internal.h"

#include <stdlib.h>
#include <string.h>

/* NumPy's .npy, version 1.0, float32 [tokens, layers, experts]: as base/ft_npy.c writes it to a file. */
static ft_code npy(ft_buffer *out, const ft_routing *r, const float *dense, ft_status *st)
{
    ft_buffer head = {0};
    ft_code rc = ft_buffer_printf(&head, st, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu, %zu), }",
                                  r->tokens, r->layers, r->experts);
    while (!rc && (10 + head.size + 1) % 64)
        rc = ft_buffer_append(&head, " ", 1, st);
    if (!rc)
        rc = ft_buffer_append(&head, "\n", 1, st);
    const unsigned char start[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(head.size & 255), (unsigned char)(head.size >> 8)};
    if (!rc)
        rc = ft_buffer_append(out, start, sizeof(start), st);
    if (!rc)
        rc = ft_buffer_append(out, head.data, head.size, st);
    if (!rc)
        rc = ft_buffer_append(out, dense, r->tokens * r->layers * r->experts * sizeof(*dense), st);
    ft_buffer_release(&head);
    return rc;
}

/* One line a token: {"token": t, "weights": [layers][experts]}, or "probabilities". */
static ft_code jsonl(ft_buffer *out, const ft_routing *r, int probabilities, const float *dense, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t t = 0; !rc && t < r->tokens; t++) {
        json_t *layers = json_array();
        for (size_t l = 0; l < r->layers; l++) {
            json_t *row = json_array();
            for (size_t e = 0; e < r->experts; e++)
                (void)json_array_append_new(row, json_real((double)dense[(t * r->layers + l) * r->experts + e]));
            (void)json_array_append_new(layers, row);
        }
        json_t *line =
            json_pack("{s:I,s:o}", "token", (json_int_t)t, probabilities ? "probabilities" : "weights", layers);
        rc = line ? ft_json_write(line, out, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
        if (!rc)
            rc = ft_buffer_append(out, "\n", 1, st);
        json_decref(line);
    }
    return rc;
}

/* Who owns each expert, out of the trace itself: the federation may name others by now. */
static ft_code expert_owners(ft_store *s, const char *id, json_t **experts, ft_status *st)
{
    json_t *trace = NULL;
    ft_buffer text = {0};
    *experts = NULL;
    ft_code rc = ft_store_get_text(s, id, &text, st);
    if (!rc)
        rc = ft_json_parse(&trace, text.data, text.size, id, st);
    if (!rc)
        *experts = json_incref(json_object_get(trace, "experts"));
    json_decref(trace);
    ft_buffer_release(&text);
    return rc;
}

/* A line for each chosen expert of each place. */
static ft_code csv(ft_buffer *out, const ft_routing *r, const json_t *experts, ft_status *st)
{
    static const char *const names[] = {"token", "layer", "k", "expert", "owner", "weight", NULL};
    ft_buffer owners[FT_MAX_EXPERTS] = {{0}};
    ft_code rc = ft_csv_head(out, names, st);
    for (size_t e = 0; !rc && e < r->experts && e < FT_MAX_EXPERTS; e++)
        rc = ft_csv_value(&owners[e], json_object_get(json_array_get(experts, e), "owner"), 1, st);
    for (size_t p = 0; !rc && p < r->tokens * r->layers; p++)
        for (size_t k = 0; !rc && k < r->top_k; k++) {
            const uint8_t e = r->expert_ids[p * r->top_k + k];
            rc = ft_buffer_printf(out, st, "%zu,%zu,%zu,%u,%s,%.9g\r\n", p / r->layers, p % r->layers, k, (unsigned)e,
                                  e < r->experts && owners[e].data ? owners[e].data : "",
                                  (double)r->weights[p * r->top_k + k]);
        }
    for (size_t e = 0; e < FT_MAX_EXPERTS; e++)
        ft_buffer_release(&owners[e]);
    return rc;
}

/* The trace's own "routing". */
static void answer_as_json(ft_request *q)
{
    json_t *trace = NULL;
    ft_status st = {0};
    if (ft_store_get(q->server->store, q->segment[0], &trace, &st))
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_json(q, 200, json_incref(json_object_get(trace, "routing")));
    json_decref(trace);
}

typedef enum routing_form { AS_JSONL, AS_NPY, AS_CSV, AS_JSON } routing_form;

static int read_routing_form(ft_request *q, routing_form *out, int *probabilities)
{
    static const char *const names[] = {"jsonl", "npy", "csv", "json"};
    const char *format = ft_request_query(q, "format"), *values = ft_request_query(q, "values");
    size_t i = 0;
    while (format && i < 4 && strcmp(format, names[i]) != 0)
        i++;
    if (i == 4)
        ft_refuse(q, 400, "invalid-parameter", "format", "'format' must be \"jsonl\", \"npy\", \"csv\" or \"json\"");
    *out = (routing_form)i;
    *probabilities = values && !strcmp(values, "probabilities");
    if (values && !*probabilities && strcmp(values, "weights") != 0)
        ft_refuse(q, 400, "invalid-parameter", "values", "'values' must be \"weights\" or \"probabilities\"");
    else if (*probabilities && i > AS_NPY)
        ft_refuse(q, 400, "invalid-parameter", "values", "probabilities come as \"jsonl\" or \"npy\"");
    return !q->answered;
}

static ft_code write_routing(ft_request *q, const ft_routing *r, routing_form form, int probabilities, ft_buffer *bytes,
                             ft_status *st)
{
    float *dense = NULL;
    json_t *experts = NULL;
    ft_code rc = FT_OK;
    if (form == AS_CSV) {
        rc = expert_owners(q->server->store, q->segment[0], &experts, st);
        if (!rc)
            rc = csv(bytes, r, experts, st);
        json_decref(experts);
        return rc;
    }
    if (!probabilities)
        rc = ft_routing_dense(r, &dense, st);
    const float *values = probabilities ? r->probs : dense;
    if (!rc)
        rc = form == AS_NPY ? npy(bytes, r, values, st) : jsonl(bytes, r, probabilities, values, st);
    free(dense);
    return rc;
}

void ft_route_trace_routing(ft_request *q)
{
    static const char *const types[] = {"application/x-ndjson", "application/octet-stream",
                                        "text/csv; charset=utf-8; header=present"};
    ft_stored_routing r = {0};
    ft_status st = {0};
    ft_buffer bytes = {0};
    routing_form form;
    int probabilities;
    if (!read_routing_form(q, &form, &probabilities) || !ft_needs_store(q) || !ft_log_request(q, "routing.read"))
        return;
    ft_code rc = ft_store_get_routing(q->server->store, q->segment[0], &r, &st);
    if (rc == FT_ERR_NOT_FOUND || rc == FT_ERR_ARG) {
        ft_refuse(q, 404, "not-found", NULL, "there is no routing of a trace '%s'", q->segment[0]);
    } else if (!rc && probabilities && !r.view.probs) {
        ft_refuse(q, 404, "not-found", "values",
                  "of this trace the weights were kept, not the probabilities (traces: routing: probabilities)");
    } else if (!rc && form == AS_JSON) {
        answer_as_json(q);
    } else {
        rc = rc ? rc : write_routing(q, &r.view, form, probabilities, &bytes, &st);
        if (rc)
            ft_refuse_status(q, NULL, &st);
        else
            ft_answer_bytes(q, 200, types[form], bytes.data ? bytes.data : "", bytes.size);
    }
    ft_buffer_release(&bytes);
    ft_stored_routing_release(&r);
}

void ft_route_routing(ft_request *q)
{
    ft_store_filter filter;
    ft_routing_study *study = NULL;
    json_t *out = NULL;
    ft_status st = {0};
    int64_t bucket = 0, tokens = 0;
    if (!ft_needs_store(q) || !ft_filter_read(q, &filter) || !ft_request_query_int(q, "bucket", 1, 1 << 30, &bucket) ||
        !ft_request_query_int(q, "token_ids", 0, 1, &tokens) || !ft_log_request(q, "routing.study"))
        return;
    const ft_study_options how = {.per_token = (int)tokens, .bucket_ms = (uint64_t)bucket * 1000};
    ft_code rc = ft_routing_study_new(&study, &how, &st);
    if (!rc)
        rc = ft_routing_study_add(study, q->server->store, &filter, &st);
    if (!rc)
        rc = ft_routing_study_json(study, &out, &st);
    ft_routing_study_free(study);
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_json(q, 200, out);
}
