#include "tracer/ft_trace.h"

#include "base/ft_utf8.h"
#include "tracer/tracer_internal.h"

#include <stdlib.h>
#include <string.h>

/* Relevance is score / (0.18 * characters of the response), as OLMoTrace's page has it. */
static const double relevance_per_character = 0.18, relevance_high = 0.7, relevance_medium = 0.5;

/* What the steps of one trace share. */
typedef struct maker {
    const ft_trace_scope *scope;
    const ft_trace_input *input;
    const ft_trace_options *options;
    flat_indexes flat;
    ft_spans spans;
    text_map text; /* of the response; empty without a tokenizer */
    found_list found;
    size_t experts;
    double *shares;      /* [experts], scratch */
    size_t shown_tokens; /* of MAX_SHOWN_TOKENS */
    size_t characters;
    int failed; /* memory ran out while JSON was made */
} maker;

ft_trace_options ft_trace_options_default(const ft_trace_scope *scope)
{
    ft_trace_options o = {
        .rules = ft_span_rules_default(), .max_documents = 10, .snippet_tokens = 80, .sample_seed = 1};
    o.rules.delimiters = &scope->delimiters;
    o.rules.word_starts = &scope->word_starts;
    return o;
}

/* --- Shares ------------------------------------------------------------------- */

/* Of response tokens [start, end); null where no routing says anything. */
static json_t *shares_json(maker *m, size_t start, size_t end)
{
    const ft_routing *r = m->input->routing;
    double sum = 0;
    if (!r || !m->experts)
        return json_null();
    ft_routing_shares(r, m->input->prompt_count + start, m->input->prompt_count + end, m->shares);
    for (size_t e = 0; e < m->experts; e++)
        sum += m->shares[e];
    return sum > 0 ? json_numbers(m->shares, m->experts) : json_null();
}

static json_t *experts_json(maker *m)
{
    json_t *list = json_array(), *shares = shares_json(m, 0, m->input->response_count);
    char fallback[FT_EXPERT_NAME];
    for (size_t e = 0; e < m->experts; e++) {
        json_t *x = json_object(), *share = json_array_get(shares, e);
        const int out = e < 64 && m->input->without >> e & 1;
        put(x, "id", json_size(e), &m->failed);
        put(x, "owner", json_string_nocheck(ft_trace_expert_name(m->scope, e, fallback)), &m->failed);
        put(x, "state", json_string(out ? "opted_out" : "active"), &m->failed);
        put(x, "share", share ? json_incref(share) : json_null(), &m->failed);
        m->failed |= json_array_append_new(list, x) != 0;
    }
    m->failed |= !shares;
    json_decref(shares);
    return list;
}

/* --- Text and tokens ----------------------------------------------------------- */

/* {"text", "ids"}; text is null without a tokenizer. */
static json_t *text_json(maker *m, const uint32_t *ids, size_t n, ft_code *rc, ft_status *st)
{
    json_t *out = json_object();
    ft_buffer text = {0};
    if (m->scope->tokenizer && !*rc)
        *rc = ft_tokenizer_decode(m->scope->tokenizer, ids, n, 0, &text, st);
    put(out, "text", m->scope->tokenizer ? json_stringn_nocheck(text.data ? text.data : "", text.size) : json_null(),
        &m->failed);
    put(out, "ids", ft_json_ids(ids, n), &m->failed);
    ft_buffer_release(&text);
    return out;
}

/* Sets start_byte … end_char of the places [from, to), or null without text. */
static void put_places(maker *m, json_t *out, size_t from, size_t to, size_t from_char, size_t to_char)
{
    const int text = m->scope->tokenizer != NULL;
    put(out, "start_byte", text ? json_size(from) : json_null(), &m->failed);
    put(out, "end_byte", text ? json_size(to) : json_null(), &m->failed);
    put(out, "start_char", text ? json_size(from_char) : json_null(), &m->failed);
    put(out, "end_char", text ? json_size(to_char) : json_null(), &m->failed);
}

static json_t *slice_json(const maker *m, size_t from, size_t to)
{
    return m->scope->tokenizer ? json_stringn_nocheck(m->text.text.data + from, to - from) : json_null();
}

static json_t *tokens_json(maker *m)
{
    static const boundary none;
    json_t *list = json_array();
    for (size_t i = 0; i < m->input->response_count; i++) {
        const boundary *a = m->scope->tokenizer ? &m->text.at[i] : &none;
        const boundary *b = m->scope->tokenizer ? &m->text.at[i + 1] : &none;
        json_t *x = json_object();
        put(x, "id", json_size(m->input->response[i]), &m->failed);
        put(x, "text", slice_json(m, a->floor, b->floor), &m->failed);
        put_places(m, x, a->floor, b->floor, a->floor_char, b->floor_char);
        put(x, "shares", shares_json(m, i, i + 1), &m->failed);
        m->failed |= json_array_append_new(list, x) != 0;
    }
    return list;
}

static json_t *matches_json(const maker *m)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < m->spans.n; i++)
        if (json_array_append_new(list, json_size(m->spans.longest[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* --- Spans ---------------------------------------------------------------------- */

typedef struct owner_count {
    const char *name;
    uint64_t count;
} owner_count;

static int most_first(const void *x, const void *y)
{
    const owner_count *p = x, *q = y;
    return p->count != q->count ? (p->count > q->count ? -1 : 1) : strcmp(p->name, q->name);
}

/* Whose indexes hold the span, and how often. */
static ft_code put_owners(maker *m, json_t *out, const ft_span *span, ft_status *st)
{
    const ft_trace_scope *scope = m->scope;
    owner_count *counts = ft_alloc_array(scope->owner_count, sizeof(*counts));
    if (!counts)
        return ft_fail(st, FT_ERR_MEM, "trace: no room for %zu owners", scope->owner_count);
    for (size_t o = 0; o < scope->owner_count; o++) {
        const ft_index_set own = {scope->owners[o].indexes, scope->owners[o].index_count};
        counts[o] = (owner_count){scope->owners[o].name,
                                  ft_query_count(own, m->input->response + span->start, span->end - span->start)};
    }
    if (scope->owner_count)
        qsort(counts, scope->owner_count, sizeof(*counts), most_first);
    json_t *names = json_array(), *by_name = json_object();
    for (size_t o = 0; o < scope->owner_count && counts[o].count; o++) {
        m->failed |= json_array_append_new(names, json_string_nocheck(counts[o].name)) != 0;
        put(by_name, counts[o].name, json_size(counts[o].count), &m->failed);
    }
    put(out, "owners", names, &m->failed);
    put(out, "owner_counts", by_name, &m->failed);
    free(counts);
    return FT_OK;
}

static const char *relevance_of(const maker *m, double score)
{
    const double r = m->characters ? score / (relevance_per_character * (double)m->characters) : 0;
    return r >= relevance_high ? "high" : r >= relevance_medium ? "medium" : "low";
}

/* Text that one trace shows, in tokens; a document weighs some sixty without its snippet. */
enum { MAX_SHOWN_TOKENS = 8000000, DOCUMENT_TOKENS = 64 };

static ft_code span_json(maker *m, json_t *list, size_t number, size_t *next_found, ft_status *st)
{
    const ft_span *span = &m->spans.spans[number];
    const int text = m->scope->tokenizer != NULL;
    const boundary a = text ? m->text.at[span->start] : (boundary){0};
    const boundary b = text ? m->text.at[span->end] : (boundary){0};
    json_t *out = json_object(), *documents = json_array();
    put(out, "start", json_size(span->start), &m->failed);
    put(out, "end", json_size(span->end), &m->failed);
    put_places(m, out, a.floor, b.ceil, a.floor_char, b.ceil_char);
    put(out, "text", slice_json(m, a.floor, b.ceil), &m->failed);
    put(out, "count", json_size(span->count), &m->failed);
    put(out, "unigram_logprob_sum", json_real(span->unigram_logprob_sum), &m->failed);
    ft_code rc = put_owners(m, out, span, st);
    put(out, "shares", shares_json(m, span->start, span->end), &m->failed);
    for (; !rc && *next_found < m->found.count && m->found.items[*next_found].span == number; ++*next_found) {
        const found *f = &m->found.items[*next_found];
        m->shown_tokens += DOCUMENT_TOKENS + m->options->snippet_tokens;
        if (m->shown_tokens > MAX_SHOWN_TOKENS) {
            rc = ft_fail(st, FT_ERR_LIMIT,
                         "the documents' snippets are more than a trace holds; ask for fewer documents, shorter "
                         "snippets, a density above 0, or trace a shorter text");
            break;
        }
        json_t *d = document_json(f, m->scope, &m->flat, span, m->options->snippet_tokens, st);
        if (!d) {
            rc = FT_ERR_MEM;
            break;
        }
        if (m->scope->tokenizer)
            put(d, "relevance", json_string(relevance_of(m, f->score)), &m->failed);
        m->failed |= json_array_append_new(documents, d) != 0;
    }
    put(out, "docs", documents, &m->failed);
    m->failed |= json_array_append_new(list, out) != 0;
    return rc;
}

static json_t *spans_json(maker *m, ft_code *rc, ft_status *st)
{
    json_t *list = json_array();
    size_t next_found = 0;
    for (size_t i = 0; !*rc && i < m->spans.count; i++)
        *rc = span_json(m, list, i, &next_found, st);
    return list;
}

/* --- Documents over spans --------------------------------------------------------- */

/* A found document with its place in the spans' JSON. */
typedef struct merged {
    size_t index, span, rank; /* docs[rank] of spans[span] */
    uint64_t number;
    double score;
} merged;

static int by_document(const void *x, const void *y)
{
    const merged *p = x, *q = y;
    if (p->index != q->index)
        return p->index < q->index ? -1 : 1;
    if (p->number != q->number)
        return p->number < q->number ? -1 : 1;
    return (p->span > q->span) - (p->span < q->span);
}

static int by_score(const void *x, const void *y)
{
    const merged *p = x, *q = y;
    return p->score != q->score ? (p->score > q->score ? -1 : 1) : by_document(x, y);
}

static json_t *merged_json(maker *m, const merged *group, size_t count, const merged *best, const json_t *spans)
{
    static const char *const kept[] = {"owner", "id", "document", "source", "score", "relevance"};
    const json_t *docs = json_object_get(json_array_get(spans, best->span), "docs");
    const json_t *doc = json_array_get(docs, best->rank);
    json_t *out = json_object(), *numbers = json_array();
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        put(out, kept[i], json_incref(json_object_get(doc, kept[i])), &m->failed);
    for (size_t i = 0; i < count; i++)
        m->failed |= json_array_append_new(numbers, json_size(group[i].span)) != 0;
    put(out, "spans", numbers, &m->failed);
    return out;
}

/* Each document once, with its best score; best first. */
static json_t *documents_json(maker *m, const json_t *spans)
{
    const size_t n = m->found.count;
    merged *all = ft_alloc_array(n, sizeof(*all)), *heads = ft_alloc_array(n, sizeof(*heads));
    json_t *list = json_array();
    size_t groups = 0;
    m->failed |= !all || !heads;
    for (size_t i = 0, rank = 0; !m->failed && i < n; i++) {
        const found *f = &m->found.items[i];
        rank = i && m->found.items[i - 1].span == f->span ? rank + 1 : 0;
        all[i] = (merged){f->index, f->span, rank, f->document.number, f->score};
    }
    if (!m->failed && n)
        qsort(all, n, sizeof(*all), by_document);
    /* A head stands for a group: `span` and `rank` become the group's place in `all` and its size. */
    for (size_t i = 0, size = 0; !m->failed && i < n; i += size) {
        heads[groups] = (merged){all[i].index, i, 0, all[i].number, all[i].score};
        for (size = 0; i + size < n && all[i + size].index == all[i].index && all[i + size].number == all[i].number;
             size++)
            if (all[i + size].score > heads[groups].score)
                heads[groups].score = all[i + size].score;
        heads[groups++].rank = size;
    }
    if (!m->failed && groups)
        qsort(heads, groups, sizeof(*heads), by_score);
    for (size_t g = 0; !m->failed && g < groups; g++) {
        const merged *group = &all[heads[g].span], *best = group;
        while (best->score < heads[g].score)
            best++;
        m->failed |= json_array_append_new(list, merged_json(m, group, heads[g].rank, best, spans)) != 0;
    }
    free(all);
    free(heads);
    return list;
}

/* --- The whole ----------------------------------------------------------------------- */

static ft_code prepare(maker *m, ft_status *st)
{
    const ft_trace_input *in = m->input;
    ft_code rc = flat_indexes_make(&m->flat, m->scope, st);
    if (!rc) {
        const ft_index_set set = {m->flat.indexes, m->flat.count};
        rc = ft_spans_find(set, in->response, in->response_count, &m->options->rules, &m->spans, st);
    }
    if (!rc && m->scope->tokenizer) {
        rc = text_map_make(&m->text, m->scope->tokenizer, in->response, in->response_count, 0, st);
        if (!rc)
            m->characters = ft_utf8_count(m->text.text.data, m->text.text.size);
    }
    if (!rc)
        rc = find_documents(&m->found, m->scope, &m->flat, &m->spans, in, m->options, st);
    m->experts = in->routing       ? in->routing->experts
                 : m->scope->model ? ft_model_get_config(m->scope->model)->experts
                                   : 0;
    m->shares = ft_alloc_array(m->experts, sizeof(*m->shares));
    if (!rc && !m->shares)
        rc = ft_fail(st, FT_ERR_MEM, "trace: no room for %zu experts", m->experts);
    return rc;
}

static json_t *assemble(maker *m, ft_code *rc, ft_status *st)
{
    const ft_trace_input *in = m->input;
    json_t *t = json_object();
    put(t, "object", json_string("trace"), &m->failed);
    put(t, "model", json_null(), &m->failed);
    put(t, "finish_reason", json_null(), &m->failed);
    put(t, "parameters", json_null(), &m->failed);
    put(t, "without", ft_trace_expert_names(m->scope, in->without), &m->failed);
    put(t, "prompt", text_json(m, in->prompt, in->prompt_count, rc, st), &m->failed);
    put(t, "response", text_json(m, in->response, in->response_count, rc, st), &m->failed);
    put(t, "tokens", tokens_json(m), &m->failed);
    put(t, "matches", matches_json(m), &m->failed);
    put(t, "experts", experts_json(m), &m->failed);
    json_t *spans = spans_json(m, rc, st);
    put(t, "spans", spans, &m->failed);
    if (!*rc && !m->failed)
        put(t, "documents", documents_json(m, spans), &m->failed);
    put(t, "provenance", provenance_json(m->scope, in), &m->failed);
    put(t, "routing", in->routing && m->experts ? ft_routing_json(m->scope, in->routing, in->without) : json_null(),
        &m->failed);
    return t;
}

ft_code ft_trace_make(const ft_trace_scope *scope, const ft_trace_input *input, const ft_trace_options *options,
                      json_t **out, ft_status *st)
{
    maker m = {.scope = scope, .input = input, .options = options};
    *out = NULL;
    ft_code rc = prepare(&m, st);
    json_t *trace = rc ? NULL : assemble(&m, &rc, st);
    if (!rc && m.failed)
        rc = ft_fail(st, FT_ERR_MEM, "trace: out of memory");
    if (rc)
        json_decref(trace);
    else
        *out = trace;
    free(m.shares);
    found_list_release(&m.found);
    text_map_release(&m.text);
    ft_spans_release(&m.spans);
    flat_indexes_release(&m.flat);
    return rc;
}
