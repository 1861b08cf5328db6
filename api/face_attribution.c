/* infinigram-api's attribution: what OLMoTrace's interface calls. camelCase out,
 * camelCase and snake_case in. */
#include "api/routes_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void ft_route_indexes(ft_request *q)
{
    const ft_trace_scope *scope = ft_request_scope(q);
    json_t *names = json_array();
    for (size_t i = 0; i < scope->owner_count; i++)
        if (scope->owners[i].index_count)
            (void)json_array_append_new(names, json_string(scope->owners[i].name));
    if (!ft_trace_owner(scope, ft_federation_name(q->server->federation)))
        (void)json_array_append_new(names, json_string(ft_federation_name(q->server->federation)));
    ft_answer_json(q, 200, names);
}

/* What an answer may show in all: each token costs some fifty bytes on its way. */
enum { MAX_ANSWER_TOKENS = 4000000, MAX_DOCUMENTS = 1000 };

typedef struct wish {
    const char *response;
    size_t response_bytes;
    ft_token_set delimiters;
    ft_span_rules rules;
    int64_t documents, context, context_long, context_snippet;
    size_t tokens_left; /* of MAX_ANSWER_TOKENS */
} wish;

/* --- The request ------------------------------------------------------------------ */

/* The body with its fields under their camelCase names, so that each is read once. */
static json_t *in_camel_case(const json_t *body)
{
    static const char *const names[][2] = {
        {"response", "response"},
        {"delimiters", "delimiters"},
        {"allowSpansWithPartialWords", "allow_spans_with_partial_words"},
        {"minimumSpanLength", "minimum_span_length"},
        {"maximumFrequency", "maximum_frequency"},
        {"maximumSpanDensity", "maximum_span_density"},
        {"spanRankingMethod", "span_ranking_method"},
        {"maximumDocumentsPerSpan", "maximum_documents_per_span"},
        {"maximumContextLength", "maximum_context_length"},
        {"maximumContextLengthLong", "maximum_context_length_long"},
        {"maximumContextLengthSnippet", "maximum_context_length_snippet"},
    };
    json_t *out = json_object();
    for (size_t i = 0; out && i < sizeof(names) / sizeof(*names); i++) {
        json_t *v = ft_field_either(body, names[i][0], names[i][1]);
        if (v)
            (void)json_object_set(out, names[i][0], v);
    }
    return out;
}

/* The tokens of each delimiter string. */
static ft_code read_delimiters(const ft_server *s, const json_t *body, ft_token_set *out, ft_status *st)
{
    const json_t *list = json_object_get(body, "delimiters"), *one;
    size_t i;
    if (list && !json_is_array(list))
        return ft_fail(st, FT_ERR_ARG, "'delimiters' must be a list of strings");
    json_array_foreach(list, i, one)
    {
        ft_encoding e = {0};
        ft_code rc = json_is_string(one) ? ft_encode_text(s, json_string_value(one), json_string_length(one), &e, st)
                                         : ft_fail(st, FT_ERR_ARG, "'delimiters' must be a list of strings");
        for (size_t t = 0; !rc && t < e.count; t++)
            rc = ft_token_set_add(out, e.ids[t], st);
        ft_encoding_release(&e);
        if (rc)
            return rc;
    }
    return FT_OK;
}

/* *field: the one that is wrong. */
static ft_code read_wish(ft_request *q, const json_t *body, wish *w, const char **field, ft_status *st)
{
    const char *method = "length";
    int partial = 0;
    int64_t min_len = 1, max_cnt = 10;
    *w = (wish){
        .documents = 10, .context = 250, .context_long = 100, .context_snippet = 40, .tokens_left = MAX_ANSWER_TOKENS};
    w->rules = ft_span_rules_default();
    w->rules.density = 0.05;
    const struct {
        const char *name;
        int64_t low, high, *to;
    } numbers[] = {{"minimumSpanLength", 1, INT32_MAX, &min_len},
                   {"maximumFrequency", 1, INT64_MAX, &max_cnt},
                   {"maximumDocumentsPerSpan", 1, MAX_DOCUMENTS, &w->documents},
                   {"maximumContextLength", 1, 10000, &w->context},
                   {"maximumContextLengthLong", 1, 10000, &w->context_long},
                   {"maximumContextLengthSnippet", 1, 10000, &w->context_snippet}};
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < sizeof(numbers) / sizeof(*numbers); i++) {
        *field = numbers[i].name;
        rc = ft_json_get_int(body, *field, numbers[i].low, numbers[i].high, numbers[i].to, st);
    }
    if (!rc)
        rc = ft_json_get_number(body, *field = "maximumSpanDensity", 0, 1e9, &w->rules.density, st);
    if (!rc && !(w->rules.density > 0))
        rc = ft_fail(st, FT_ERR_ARG, "'maximumSpanDensity' must be above 0");
    if (!rc)
        rc = ft_json_get_bool(body, *field = "allowSpansWithPartialWords", &partial, st);
    if (!rc)
        rc = ft_json_get_string(body, *field = "spanRankingMethod", &method, st);
    if (!rc && strcmp(method, "length") != 0 && strcmp(method, "unigram_logprob_sum") != 0)
        rc = ft_fail(st, FT_ERR_ARG, "'spanRankingMethod' must be \"length\" or \"unigram_logprob_sum\"");
    if (!rc)
        rc = ft_json_get_text(body, *field = "response", &w->response, &w->response_bytes, st);
    if (!rc && !w->response)
        rc = ft_fail(st, FT_ERR_ARG, "'response' is required: the text to trace");
    *field = rc ? *field : "delimiters";
    if (!rc)
        rc = read_delimiters(q->server, body, &w->delimiters, st);
    /* The original cuts the two smaller texts out of the first. */
    w->context_long = w->context_long < w->context ? w->context_long : w->context;
    w->context_snippet = w->context_snippet < w->context ? w->context_snippet : w->context;
    w->rules.min_len = (size_t)min_len;
    w->rules.max_cnt = (uint64_t)max_cnt;
    w->rules.rank = strcmp(method, "length") == 0 ? FT_RANK_LENGTH : FT_RANK_UNIGRAM;
    w->rules.delimiters = &w->delimiters;
    w->rules.word_starts = partial ? NULL : &ft_request_scope(q)->word_starts;
    return rc;
}

/* --- The answer --------------------------------------------------------------------- */

/* One size of context: the text's name, and those of its two numbers. */
static ft_code put_window(const ft_server *s, wish *w, json_t *out, const ft_occurrence *o, size_t context,
                          const char *length, const char *needle, const char *text, const char *token_ids,
                          ft_status *st)
{
    uint32_t *ids = NULL;
    size_t n, at;
    ft_code rc = ft_occurrence_window(o, context, context, &ids, &n, &at, st);
    if (!rc && n > w->tokens_left)
        rc = ft_fail(st, FT_ERR_ARG,
                     "the documents of the spans would be more than %d tokens; ask for fewer spans, fewer documents or "
                     "less context",
                     MAX_ANSWER_TOKENS);
    if (!rc) {
        w->tokens_left -= n;
        (void)json_object_set_new(out, length, json_integer((json_int_t)n));
        (void)json_object_set_new(out, needle, json_integer((json_int_t)at));
        if (token_ids)
            (void)json_object_set_new(out, token_ids, ft_json_ids(ids, n));
        (void)json_object_set_new(out, text, ft_decoded_text(s->tokenizer, ids, n));
    }
    free(ids);
    return rc;
}

static ft_code document_json(const ft_server *s, wish *w, const ft_occurrence *o, json_t *list, ft_status *st)
{
    json_t *d = json_pack("{s:I,s:I,s:o,s:b}", "documentIndex", (json_int_t)o->number, "documentLength",
                          (json_int_t)o->document.length, "metadata", ft_metadata_json(&o->document), "blocked", 0);
    if (!d)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    (void)json_array_append_new(list, d);
    ft_code rc = put_window(s, w, d, o, (size_t)w->context, "displayLength", "needleOffset", "text", "tokenIds", st);
    if (!rc)
        rc = put_window(s, w, d, o, (size_t)w->context_long, "displayLengthLong", "needleOffsetLong", "textLong", NULL,
                        st);
    if (!rc) /* the original's slip: a length under the name of an offset */
        rc = put_window(s, w, d, o, (size_t)w->context_snippet, "displayOffsetSnippet", "needleOffsetSnippet",
                        "textSnippet", NULL, st);
    return rc;
}

static ft_code span_json(const ft_server *s, wish *w, const ft_index_set *set, const ft_span *span, const uint32_t *ids,
                         json_t *list, ft_status *st)
{
    const size_t n = span->end - span->start;
    const size_t most = span->count < (uint64_t)w->documents ? (size_t)span->count : (size_t)w->documents;
    ft_occurrence *found = ft_alloc_array(most, sizeof(*found));
    size_t count = 0;
    json_t *documents = json_array();
    if (!found) {
        json_decref(documents);
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    ft_code rc = ft_occurrences_sample(set, ids + span->start, n, most, found, &count, st);
    for (size_t i = 0; !rc && i < count; i++)
        rc = document_json(s, w, &found[i], documents, st);
    free(found);
    (void)json_array_append_new(list, json_pack("{s:I,s:I,s:I,s:I,s:f,s:o,s:o,s:o}", "left", (json_int_t)span->start,
                                                "right", (json_int_t)span->end, "length", (json_int_t)n, "count",
                                                (json_int_t)span->count, "unigramLogprobSum", span->unigram_logprob_sum,
                                                "text", ft_decoded_text(s->tokenizer, ids + span->start, n), "tokenIds",
                                                ft_json_ids(ids + span->start, n), "documents", documents));
    return rc;
}

static ft_code attribute(ft_request *q, wish *w, const ft_index_set *set, json_t **out, ft_status *st)
{
    const ft_server *s = q->server;
    ft_encoding e = {0};
    ft_spans spans = {0};
    json_t *list = json_array(), *tokens = json_array();
    ft_code rc = ft_encode_text(s, w->response, w->response_bytes, &e, st);
    if (!rc && e.count > FT_MAX_TRACED_TOKENS)
        rc = ft_fail(st, FT_ERR_ARG, "'response' is %zu tokens; at most %d are traced at once", e.count,
                     FT_MAX_TRACED_TOKENS);
    if (!rc)
        rc = ft_spans_find(*set, e.ids, e.count, &w->rules, &spans, st);
    for (size_t i = 0; !rc && i < e.count; i++) /* as the original: whole characters of the input */
        (void)json_array_append_new(tokens, ft_json_text(w->response + e.starts[i], e.ends[i] - e.starts[i]));
    for (size_t i = 0; !rc && i < spans.count; i++) {
        if (ft_seconds_now() - q->started > s->limits.request_seconds)
            rc = ft_fail(st, FT_ERR_LIMIT, "not finished within %u seconds", s->limits.request_seconds);
        else
            rc = span_json(s, w, set, &spans.spans[i], e.ids, list, st);
    }
    ft_spans_release(&spans);
    ft_encoding_release(&e);
    *out = json_pack("{s:s,s:o,s:o}", "index", q->segment[0], "spans", list, "inputTokens", tokens);
    return rc;
}

void ft_route_attribution(ft_request *q)
{
    ft_named_set *named = malloc(sizeof(*named));
    json_t *body = in_camel_case(q->json), *answer = NULL;
    ft_status st = {0};
    const char *field = NULL;
    wish w = {0};
    if (!named || !body) {
        ft_refuse(q, 503, "server-overloaded", NULL, "out of memory");
    } else if (ft_index_set_named(q, q->segment[0], named)) {
        ft_code rc = read_wish(q, body, &w, &field, &st);
        if (!rc) {
            const double began = ft_seconds_now();
            field = NULL;
            rc = attribute(q, &w, &named->set, &answer, &st);
            if (!rc)
                ft_metrics_trace(&q->server->metrics, json_object_get(answer, "spans"), ft_seconds_now() - began);
        }
        if (rc)
            ft_refuse_status(q, field, &st);
        else
            ft_answer_json(q, 200, json_incref(answer));
    }
    json_decref(answer);
    ft_token_set_release(&w.delimiters);
    json_decref(body);
    free(named);
}
