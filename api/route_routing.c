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

/* One line a token: {"token": t, "weights": [layers][experts]}. */
static ft_code jsonl(ft_buffer *out, const ft_routing *r, const float *dense, ft_status *st)
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
        json_t *line = json_pack("{s:I,s:o}", "token", (json_int_t)t, "weights", layers);
        rc = line ? ft_json_write(line, out, st) : ft_fail(st, FT_ERR_MEM, "out of memory");
        if (!rc)
            rc = ft_buffer_append(out, "\n", 1, st);
        json_decref(line);
    }
    return rc;
}

void ft_route_trace_routing(ft_request *q)
{
    const char *format = ft_request_query(q, "format");
    ft_stored_routing r = {0};
    ft_status st = {0};
    ft_buffer bytes = {0};
    float *dense = NULL;
    if (format && strcmp(format, "npy") != 0 && strcmp(format, "jsonl") != 0) {
        ft_refuse(q, 400, "invalid-parameter", "format", "'format' must be \"jsonl\" or \"npy\"");
        return;
    }
    if (!ft_needs_store(q) || !ft_log_request(q, "routing.read"))
        return;
    ft_code rc = ft_store_get_routing(q->server->store, q->segment[0], &r, &st);
    if (rc == FT_ERR_NOT_FOUND) {
        ft_refuse(q, 404, "not-found", NULL, "there is no routing of a trace '%s'", q->segment[0]);
        return;
    }
    const int as_npy = format && !strcmp(format, "npy");
    if (!rc)
        rc = ft_routing_dense(&r.view, &dense, &st);
    if (!rc)
        rc = as_npy ? npy(&bytes, &r.view, dense, &st) : jsonl(&bytes, &r.view, dense, &st);
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_bytes(q, 200, as_npy ? "application/octet-stream" : "application/x-ndjson",
                        bytes.data ? bytes.data : "", bytes.size);
    free(dense);
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
