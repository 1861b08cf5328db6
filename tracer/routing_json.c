/* Routing: shares of mixing weight, and the whole of it as JSON. */
#include "tracer/tracer_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "routing travels little-endian");

/* The pass that wrote token t of the timeline is row t - 1. */
void ft_routing_shares(const ft_routing *r, size_t start, size_t end, double *shares)
{
    double total = 0;
    for (size_t e = 0; e < r->experts; e++)
        shares[e] = 0;
    for (size_t t = start ? start : 1; t < end && t <= r->tokens; t++) {
        const size_t row = (t - 1) * r->layers * r->top_k;
        for (size_t i = row; i < row + r->layers * r->top_k; i++)
            if (r->expert_ids[i] < r->experts) {
                shares[r->expert_ids[i]] += (double)r->weights[i];
                total += (double)r->weights[i];
            }
    }
    for (size_t e = 0; total > 0 && e < r->experts; e++)
        shares[e] /= total;
}

static json_t *base64(const void *bytes, size_t n)
{
    const size_t size = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(size);
    json_t *out = NULL;
    if (text) {
        sodium_bin2base64(text, size, bytes, n, sodium_base64_VARIANT_ORIGINAL);
        out = json_stringn_nocheck(text, size - 1);
    }
    free(text);
    return out;
}

int routing_json_fill(json_t *object, const ft_routing *r)
{
    const size_t n = r->tokens * r->layers * r->top_k;
    int failed = 0;
    int32_t *ids = ft_alloc_array(n, sizeof(*ids));
    for (size_t i = 0; ids && i < n; i++)
        ids[i] = r->expert_ids[i];
    put(object, "ids", ids ? base64(ids, n * sizeof(*ids)) : NULL, &failed);
    put(object, "weights", base64(r->weights ? (const void *)r->weights : "", n * sizeof(*r->weights)), &failed);
    free(ids);
    return !failed;
}

const ft_owner *ft_trace_owner(const ft_trace_scope *scope, const char *name)
{
    for (size_t i = 0; i < scope->owner_count; i++)
        if (!strcmp(scope->owners[i].name, name))
            return &scope->owners[i];
    return NULL;
}

const char *ft_trace_expert_name(const ft_trace_scope *scope, size_t expert, char fallback[FT_EXPERT_NAME])
{
    for (size_t o = 0; o < scope->owner_count; o++)
        if (scope->owners[o].expert == (int)expert)
            return scope->owners[o].name;
    snprintf(fallback, FT_EXPERT_NAME, "expert %zu", expert);
    return fallback;
}

json_t *ft_trace_expert_names(const ft_trace_scope *scope, uint64_t bits)
{
    json_t *names = json_array();
    char fallback[FT_EXPERT_NAME];
    for (size_t e = 0; names && e < FT_MAX_EXPERTS; e++)
        if (bits >> e & 1 &&
            json_array_append_new(names, json_string_nocheck(ft_trace_expert_name(scope, e, fallback))) != 0) {
            json_decref(names);
            return NULL;
        }
    return names;
}

json_t *ft_routing_json(const ft_trace_scope *scope, const ft_routing *r, uint64_t without)
{
    int failed = 0;
    char fallback[FT_EXPERT_NAME];
    json_t *out = json_object(), *experts = json_array();
    for (size_t e = 0; e < r->experts; e++) {
        json_t *expert = json_object();
        put(expert, "id", json_size(e), &failed);
        put(expert, "owner", json_string_nocheck(ft_trace_expert_name(scope, e, fallback)), &failed);
        failed |= json_array_append_new(experts, expert) != 0;
    }
    put(out, "layers", json_size(r->layers), &failed);
    put(out, "top_k", json_size(r->top_k), &failed);
    put(out, "experts", experts, &failed);
    put(out, "without", ft_trace_expert_names(scope, without), &failed);
    put(out, "first", json_integer(0), &failed);
    put(out, "tokens", json_size(r->tokens), &failed);
    put(out, "dtype", json_pack("{s:s,s:s}", "ids", "int32", "weights", "float32"), &failed);
    put(out, "order", json_string("token,layer,k"), &failed);
    put(out, "encoding", json_string("base64"), &failed);
    failed |= !routing_json_fill(out, r);
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

json_t *json_numbers(const double *values, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < n; i++)
        if (json_array_append_new(array, json_real(values[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}
