/* Routing in numbers: sums over the passes that wrote the responses of many traces. */
#include "base/ft_buffer.h"
#include "tracer/ft_audit.h"
#include "tracer/tracer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NAME = 200 };

typedef struct row {
    double *share; /* [experts], sums of mixing weight */
    uint64_t tokens;
} row;

typedef struct domain {
    char name[MOST_NAME];
    row r;
} domain;

typedef struct token_row {
    uint32_t id;
    row r;
} token_row;

typedef struct bucket {
    uint64_t from_ms;
    row r;
} bucket;

struct ft_routing_study {
    ft_study_options options;
    size_t layers, experts;
    uint64_t traces, places;
    row all;
    double *layer_share, *layer_chosen, *layer_entropy, *together; /* [L,E], [L,E], [L], [E,E] */
    json_t *names;
    domain *domains;
    size_t domain_count, domain_capacity;
    token_row *tokens; /* a table by id, open addressing; r.share NULL: free */
    size_t token_slots, token_used;
    bucket *buckets; /* in order of time */
    size_t bucket_count, bucket_capacity;
};

ft_code ft_routing_study_new(ft_routing_study **out, const ft_study_options *o, ft_status *st)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return ft_fail(st, FT_ERR_MEM, "routing: out of memory");
    (*out)->options = *o;
    return FT_OK;
}

void ft_routing_study_free(ft_routing_study *y)
{
    if (!y)
        return;
    for (size_t i = 0; i < y->domain_count; i++)
        free(y->domains[i].r.share);
    for (size_t i = 0; i < y->token_slots; i++)
        free(y->tokens[i].r.share);
    for (size_t i = 0; i < y->bucket_count; i++)
        free(y->buckets[i].r.share);
    free(y->domains);
    free(y->tokens);
    free(y->buckets);
    free(y->all.share);
    free(y->layer_share);
    free(y->layer_chosen);
    free(y->layer_entropy);
    free(y->together);
    json_decref(y->names);
    free(y);
}

static ft_code no_room(ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "routing: out of memory");
}

static ft_code begin(ft_routing_study *y, const ft_routing *r, const json_t *summary_row, ft_status *st)
{
    const json_t *experts = json_object_get(summary_row, "experts");
    y->layers = r->layers;
    y->experts = r->experts;
    y->all.share = ft_alloc_array(y->experts, sizeof(double));
    y->layer_share = ft_alloc_array(y->layers * y->experts, sizeof(double));
    y->layer_chosen = ft_alloc_array(y->layers * y->experts, sizeof(double));
    y->layer_entropy = ft_alloc_array(y->layers, sizeof(double));
    y->together = ft_alloc_array(y->experts * y->experts, sizeof(double));
    y->names = json_array();
    for (size_t e = 0; y->names && e < y->experts; e++) {
        json_t *name = json_object_get(json_array_get(experts, e), "owner");
        if (json_array_append_new(y->names, json_is_string(name) ? json_incref(name) : json_sprintf("expert %zu", e)))
            return no_room(st);
    }
    return y->all.share && y->layer_share && y->layer_chosen && y->layer_entropy && y->together && y->names
               ? FT_OK
               : no_room(st);
}

/* --- Where a pass is counted --------------------------------------------------------------------------- */

static ft_code find_domain(ft_routing_study *y, const char *name, row **out, ft_status *st)
{
    for (size_t i = 0; i < y->domain_count; i++)
        if (!strncmp(y->domains[i].name, name, MOST_NAME - 1)) {
            *out = &y->domains[i].r;
            return FT_OK;
        }
    const ft_code rc =
        ft_array_grow((void **)&y->domains, &y->domain_capacity, y->domain_count + 1, sizeof(*y->domains), st);
    if (rc)
        return rc;
    domain *d = &y->domains[y->domain_count];
    *d = (domain){.r.share = ft_alloc_array(y->experts, sizeof(double))};
    if (!d->r.share)
        return no_room(st);
    strncpy(d->name, name, MOST_NAME - 1);
    y->domain_count++;
    *out = &d->r;
    return FT_OK;
}

static token_row *token_slot(token_row *table, size_t slots, uint32_t id)
{
    size_t i = (size_t)id * 2654435761U % slots;
    while (table[i].r.share && table[i].id != id)
        i = (i + 1) % slots;
    return &table[i];
}

static ft_code find_token(ft_routing_study *y, uint32_t id, row **out, ft_status *st)
{
    if (y->token_used * 2 >= y->token_slots) {
        const size_t slots = y->token_slots ? y->token_slots * 2 : 4096;
        token_row *table = ft_alloc_array(slots, sizeof(*table));
        if (!table)
            return no_room(st);
        for (size_t i = 0; i < y->token_slots; i++)
            if (y->tokens[i].r.share)
                *token_slot(table, slots, y->tokens[i].id) = y->tokens[i];
        free(y->tokens);
        y->tokens = table;
        y->token_slots = slots;
    }
    token_row *t = token_slot(y->tokens, y->token_slots, id);
    if (!t->r.share) {
        t->id = id;
        t->r.share = ft_alloc_array(y->experts, sizeof(double));
        if (!t->r.share)
            return no_room(st);
        y->token_used++;
    }
    *out = &t->r;
    return FT_OK;
}

/* Traces come in order of time: it is the last one or a new one. */
static ft_code find_bucket(ft_routing_study *y, uint64_t ms, row **out, ft_status *st)
{
    const uint64_t from = ms - ms % y->options.bucket_ms;
    bucket *last = y->bucket_count ? &y->buckets[y->bucket_count - 1] : NULL;
    if (!last || last->from_ms != from) {
        const ft_code rc =
            ft_array_grow((void **)&y->buckets, &y->bucket_capacity, y->bucket_count + 1, sizeof(*y->buckets), st);
        if (rc)
            return rc;
        last = &y->buckets[y->bucket_count];
        *last = (bucket){from, {ft_alloc_array(y->experts, sizeof(double)), 0}};
        if (!last->r.share)
            return no_room(st);
        y->bucket_count++;
    }
    *out = &last->r;
    return FT_OK;
}

/* --- One pass ----------------------------------------------------------------------------------------------- */

/* Of one layer: sums by layer, pairs, entropy; the weights go into `pass`. */
static void add_place(ft_routing_study *y, const ft_routing *r, size_t token, size_t layer, double *pass)
{
    const size_t at = (token * r->layers + layer) * r->top_k;
    double total = 0, entropy = 0;
    for (size_t k = 0; k < r->top_k; k++)
        total += (double)r->weights[at + k];
    for (size_t k = 0; k < r->top_k; k++) {
        const uint8_t e = r->expert_ids[at + k];
        const double w = (double)r->weights[at + k], p = total > 0 ? w / total : 0;
        if (e >= y->experts)
            continue;
        pass[e] += w;
        y->layer_share[layer * y->experts + e] += w;
        y->layer_chosen[layer * y->experts + e] += 1;
        entropy -= p > 0 ? p * log(p) : 0;
        for (size_t j = 0; j < r->top_k; j++)
            if (r->expert_ids[at + j] < y->experts)
                y->together[e * y->experts + r->expert_ids[at + j]] += 1;
    }
    y->layer_entropy[layer] += entropy;
    y->places++;
}

static void add_to(row *to, const double *pass, size_t experts)
{
    to->tokens++;
    for (size_t e = 0; e < experts; e++)
        to->share[e] += pass[e];
}

/* The owner of the first span that holds the token; NULL: none. */
static const char *owner_at(const json_t *spans, json_int_t token)
{
    const json_t *span;
    size_t i;
    json_array_foreach(spans, i, span)
    {
        if (json_integer_value(json_object_get(span, "start")) <= token &&
            token < json_integer_value(json_object_get(span, "end")))
            return json_string_value(json_array_get(json_object_get(span, "owners"), 0));
    }
    return NULL;
}

typedef struct one_trace {
    const json_t *summary_row, *ids; /* ids of the response; NULL: not asked for */
    uint64_t ms;
    size_t prompt, tokens;
} one_trace;

static ft_code add_pass(ft_routing_study *y, const ft_routing *r, const one_trace *t, size_t token, ft_status *st)
{
    double pass[FT_MAX_EXPERTS] = {0};
    row *to = NULL;
    for (size_t l = 0; l < r->layers; l++)
        add_place(y, r, t->prompt + token - 1, l, pass); /* the pass that wrote it */
    add_to(&y->all, pass, y->experts);
    const char *owner = owner_at(json_object_get(t->summary_row, "spans"), (json_int_t)token);
    ft_code rc = find_domain(y, owner ? owner : "", &to, st);
    if (!rc)
        add_to(to, pass, y->experts);
    if (!rc && y->options.bucket_ms) {
        rc = find_bucket(y, t->ms, &to, st);
        if (!rc)
            add_to(to, pass, y->experts);
    }
    const json_t *id = json_array_get(t->ids, token);
    if (!rc && json_is_integer(id)) {
        rc = find_token(y, (uint32_t)json_integer_value(id), &to, st);
        if (!rc)
            add_to(to, pass, y->experts);
    }
    return rc;
}

static ft_code add_routing(ft_routing_study *y, const char *id, const ft_routing *r, const one_trace *t, ft_status *st)
{
    ft_code rc = y->all.share ? FT_OK : begin(y, r, t->summary_row, st);
    if (!rc && (r->layers != y->layers || r->experts != y->experts))
        rc = ft_fail(
            st, FT_ERR_FORMAT,
            "trace %s: %zu layers and %zu experts, those before had %zu and %zu; narrow the filter to one model", id,
            r->layers, r->experts, y->layers, y->experts);
    for (size_t i = 0; !rc && i < t->tokens; i++)
        if (t->prompt + i > 0 && t->prompt + i - 1 < r->tokens)
            rc = add_pass(y, r, t, i, st);
    if (!rc)
        y->traces++;
    return rc;
}

typedef struct adder {
    ft_routing_study *y;
    ft_store *s;
} adder;

static ft_code add_trace(void *context, const char *id, json_t *summary_row, ft_status *st)
{
    adder *a = context;
    ft_stored_routing r = {0};
    json_t *whole = NULL;
    ft_buffer text = {0};
    one_trace t = {.summary_row = summary_row,
                   .prompt = (size_t)json_integer_value(json_object_get(summary_row, "prompt_tokens")),
                   .tokens = (size_t)json_integer_value(json_object_get(summary_row, "tokens"))};
    (void)ft_trace_id_time(id, &t.ms);
    ft_code rc = ft_store_get_routing(a->s, id, &r, st);
    if (rc == FT_ERR_NOT_FOUND) /* deleted meanwhile, or kept without */
        return FT_OK;
    if (!rc && a->y->options.per_token) {
        rc = ft_store_get_text(a->s, id, &text, st);
        if (!rc)
            rc = ft_json_parse(&whole, text.data, text.size, id, st);
        t.ids = json_object_get(json_object_get(whole, "response"), "ids");
    }
    if (!rc && r.view.experts)
        rc = add_routing(a->y, id, &r.view, &t, st);
    json_decref(whole);
    ft_buffer_release(&text);
    ft_stored_routing_release(&r);
    return rc;
}

ft_code ft_routing_study_add(ft_routing_study *y, ft_store *s, const ft_store_filter *filter, ft_status *st)
{
    adder a = {y, s};
    return ft_store_walk(s, filter, 1, add_trace, &a, st);
}

/* --- As JSON --------------------------------------------------------------------------------------------------- */

static json_t *divided(const double *values, size_t n, double by)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(list, json_real(by > 0 ? values[i] / by : 0));
    return list;
}

static json_t *shares(const double *values, size_t n)
{
    double total = 0;
    for (size_t i = 0; i < n; i++)
        total += values[i];
    return divided(values, n, total);
}

static json_t *matrix(const double *values, size_t rows, size_t columns, double by)
{
    json_t *list = json_array();
    for (size_t i = 0; i < rows; i++)
        (void)json_array_append_new(list, by > 0 ? divided(values + i * columns, columns, by)
                                                 : shares(values + i * columns, columns));
    return list;
}

static int by_count(const void *a, const void *b)
{
    const token_row *const *x = a, *const *y = b;
    if ((*x)->r.tokens != (*y)->r.tokens)
        return (*x)->r.tokens < (*y)->r.tokens ? 1 : -1;
    return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

/* The most frequent first. */
static json_t *tokens_json(const ft_routing_study *y)
{
    if (!y->options.per_token)
        return json_null();
    json_t *list = json_array();
    const token_row **order = ft_alloc_array(y->token_used, sizeof(*order));
    size_t n = 0;
    for (size_t i = 0; order && i < y->token_slots; i++)
        if (y->tokens[i].r.share)
            order[n++] = &y->tokens[i];
    if (n)
        qsort(order, n, sizeof(*order), by_count);
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(list, json_pack("{s:I,s:I,s:o}", "id", (json_int_t)order[i]->id, "count",
                                                    (json_int_t)order[i]->r.tokens, "share",
                                                    shares(order[i]->r.share, y->experts)));
    free(order);
    return list;
}

static json_t *domains_json(const ft_routing_study *y)
{
    json_t *list = json_array();
    for (size_t i = 0; i < y->domain_count; i++) {
        const domain *d = &y->domains[i];
        (void)json_array_append_new(
            list, json_pack("{s:o,s:I,s:o}", "owner", d->name[0] ? ft_json_text(d->name, strlen(d->name)) : json_null(),
                            "tokens", (json_int_t)d->r.tokens, "share", shares(d->r.share, y->experts)));
    }
    return list;
}

static json_t *drift_json(const ft_routing_study *y)
{
    if (!y->options.bucket_ms)
        return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < y->bucket_count; i++) {
        const bucket *b = &y->buckets[i];
        (void)json_array_append_new(list, json_pack("{s:o,s:o,s:I,s:o}", "from", audit_time(b->from_ms), "to",
                                                    audit_time(b->from_ms + y->options.bucket_ms), "tokens",
                                                    (json_int_t)b->r.tokens, "share", shares(b->r.share, y->experts)));
    }
    return list;
}

ft_code ft_routing_study_json(const ft_routing_study *y, json_t **out, ft_status *st)
{
    const double tokens = (double)y->all.tokens;
    double entropy = 0;
    for (size_t l = 0; l < y->layers; l++)
        entropy += y->layer_entropy[l];
    *out = json_pack("{s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:f,s:o,s:o,s:o,s:o}", "traces", (json_int_t)y->traces, "tokens",
                     (json_int_t)y->all.tokens, "layers", (json_int_t)y->layers, "experts",
                     y->names ? json_incref(y->names) : json_array(), "share", shares(y->all.share, y->experts),
                     "share_per_layer", matrix(y->layer_share, y->layers, y->experts, 0), "chosen_per_layer",
                     matrix(y->layer_chosen, y->layers, y->experts, tokens), "entropy_per_layer",
                     divided(y->layer_entropy, y->layers, tokens), "entropy",
                     y->places ? entropy / (double)y->places : 0.0, "coactivation",
                     matrix(y->together, y->experts, y->experts, (double)y->places), "domains", domains_json(y),
                     "token_ids", tokens_json(y), "drift", drift_json(y));
    return *out ? FT_OK : no_room(st);
}

ft_code ft_routing_dense(const ft_routing *r, float **out, ft_status *st)
{
    size_t places, n;
    *out = NULL;
    if (ft_size_mul(r->tokens, r->layers, &places, st) || ft_size_mul(places, r->experts, &n, st))
        return FT_ERR_LIMIT;
    float *dense = ft_alloc_array(n, sizeof(*dense));
    if (!dense)
        return ft_fail(st, FT_ERR_MEM, "routing: no room for %zu tokens", r->tokens);
    for (size_t p = 0; p < places; p++)
        for (size_t k = 0; k < r->top_k; k++)
            if (r->expert_ids[p * r->top_k + k] < r->experts)
                dense[p * r->experts + r->expert_ids[p * r->top_k + k]] = r->weights[p * r->top_k + k];
    *out = dense;
    return FT_OK;
}
