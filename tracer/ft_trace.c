#include "tracer/ft_trace.h"

#include "base/ft_utf8.h"
#include "tracer/trace_maker.h"

#include <stdlib.h>
#include <string.h>

/* Relevance is score / (0.18 * characters of the response), as OLMoTrace's page has it. */
static const double relevance_per_character = 0.18, relevance_high = 0.7, relevance_medium = 0.5;

/* Text that one trace shows, in tokens; a document weighs some sixty without its text. */
enum { MAX_SHOWN_TOKENS = 16000000, DOCUMENT_TOKENS = 64 };

ft_trace_options ft_trace_options_default(const ft_trace_scope *scope)
{
    ft_trace_options o = {.rules = ft_span_rules_default(),
                          .max_documents = 10,
                          .snippet_tokens = 80,
                          .document_tokens = 500,
                          .document_places = 1,
                          .sample_seed = 1};
    o.rules.delimiters = &scope->delimiters;
    o.rules.word_starts = &scope->word_starts;
    return o;
}

/* --- Shares ------------------------------------------------------------------- */

int has_shares(trace_maker *m, size_t start, size_t end)
{
    const ft_routing *r = m->input->routing;
    double sum = 0;
    if (!r || !m->experts)
        return 0;
    ft_routing_shares(r, m->input->prompt_count + start, m->input->prompt_count + end, m->shares);
    for (size_t e = 0; e < m->experts; e++)
        sum += m->shares[e];
    return sum > 0;
}

json_t *shares_json(trace_maker *m, size_t start, size_t end)
{
    return has_shares(m, start, end) ? json_numbers(m->shares, m->experts) : json_null();
}

static json_t *experts_json(trace_maker *m)
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
static json_t *text_json(trace_maker *m, const uint32_t *ids, size_t n, ft_code *rc, ft_status *st)
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
static void put_places(trace_maker *m, json_t *out, size_t from, size_t to, size_t from_char, size_t to_char)
{
    const int text = m->scope->tokenizer != NULL;
    put(out, "start_byte", text ? json_size(from) : json_null(), &m->failed);
    put(out, "end_byte", text ? json_size(to) : json_null(), &m->failed);
    put(out, "start_char", text ? json_size(from_char) : json_null(), &m->failed);
    put(out, "end_char", text ? json_size(to_char) : json_null(), &m->failed);
}

static json_t *slice_json(const trace_maker *m, size_t from, size_t to)
{
    return m->scope->tokenizer ? json_stringn_nocheck(m->text.text.data + from, to - from) : json_null();
}

static json_t *tokens_json(trace_maker *m)
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

static json_t *matches_json(const trace_maker *m)
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

void put_stretch(trace_maker *m, json_t *out, size_t start, size_t end)
{
    const int text = m->scope->tokenizer != NULL;
    const boundary a = text ? m->text.at[start] : (boundary){0};
    const boundary b = text ? m->text.at[end] : (boundary){0};
    put(out, "start", json_size(start), &m->failed);
    put(out, "end", json_size(end), &m->failed);
    put_places(m, out, a.floor, b.ceil, a.floor_char, b.ceil_char);
    put(out, "text", slice_json(m, a.floor, b.ceil), &m->failed);
}

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
static ft_code put_owners(trace_maker *m, json_t *out, size_t number, ft_status *st)
{
    const ft_trace_scope *scope = m->scope;
    owner_count *counts = ft_alloc_array(scope->owner_count, sizeof(*counts));
    if (!counts)
        return ft_fail(st, FT_ERR_MEM, "trace: no room for %zu owners", scope->owner_count);
    for (size_t o = 0; o < scope->owner_count; o++)
        counts[o].name = scope->owners[o].name;
    for (size_t i = 0; i < m->flat.count; i++)
        counts[m->flat.owners[i]].count += m->spans.index_counts[number * m->flat.count + i];
    if (scope->owner_count)
        qsort(counts, scope->owner_count, sizeof(*counts), most_first);
    json_t *names = json_array(), *by_name = json_object();
    for (size_t o = 0; o < scope->owner_count && counts[o].count; o++) {
        m->failed |= json_array_append_new(names, json_string_nocheck(counts[o].name)) != 0;
        m->failed |= json_object_set_new(by_name, counts[o].name, json_size(counts[o].count)) != 0;
    }
    put(out, "owners", names, &m->failed);
    put(out, "owner_counts", by_name, &m->failed);
    free(counts);
    return FT_OK;
}

const char *relevance_of(const trace_maker *m, double score)
{
    const double r = m->characters ? score / (relevance_per_character * (double)m->characters) : 0;
    return r >= relevance_high ? "high" : r >= relevance_medium ? "medium" : "low";
}

ft_code show_tokens(trace_maker *m, size_t tokens, ft_status *st)
{
    m->shown_tokens += tokens;
    if (m->shown_tokens <= MAX_SHOWN_TOKENS)
        return FT_OK;
    return ft_fail(st, FT_ERR_LIMIT,
                   "the documents' snippets and texts are more than a trace holds; ask for fewer documents, shorter "
                   "snippets and texts, a density above 0, or trace a shorter text");
}

static ft_code span_json(trace_maker *m, json_t *list, size_t number, size_t *next_found, ft_status *st)
{
    const ft_span *span = &m->spans.spans[number];
    json_t *out = json_object(), *documents = json_array();
    const size_t first = *next_found;
    put_stretch(m, out, span->start, span->end);
    put(out, "count", json_size(span->count), &m->failed);
    put(out, "unigram_logprob_sum", json_real(span->unigram_logprob_sum), &m->failed);
    ft_code rc = put_owners(m, out, number, st);
    put(out, "shares", shares_json(m, span->start, span->end), &m->failed);
    if (!rc)
        rc = put_evidence(m, out, number, st);
    for (; !rc && *next_found < m->found.count && m->found.items[*next_found].span == number; ++*next_found) {
        rc = show_tokens(m, DOCUMENT_TOKENS + m->options->snippet_tokens, st);
        json_t *d = rc ? NULL : document_json(m, &m->found.items[*next_found], st);
        if (!rc && !d)
            rc = FT_ERR_MEM;
        m->failed |= !rc && json_array_append_new(documents, d) != 0;
    }
    /* More occurrences than documents: a sample, or one document that holds it several times. */
    put(out, "sampled", json_boolean(span->count > *next_found - first), &m->failed);
    put(out, "docs", documents, &m->failed);
    m->failed |= json_array_append_new(list, out) != 0;
    return rc;
}

static json_t *spans_json(trace_maker *m, ft_code *rc, ft_status *st)
{
    json_t *list = json_array();
    size_t next_found = 0;
    for (size_t i = 0; !*rc && i < m->spans.count; i++)
        *rc = span_json(m, list, i, &next_found, st);
    return list;
}

/* --- The whole ----------------------------------------------------------------------- */

static ft_code prepare(trace_maker *m, ft_status *st)
{
    const ft_trace_input *in = m->input;
    ft_code rc = flat_indexes_make(&m->flat, m->scope, st);
    m->lexicon = m->scope->lexicon;
    if (!rc && !m->lexicon && m->scope->tokenizer) {
        rc = ft_lexicon_new(&m->own_lexicon, m->scope->tokenizer, st);
        m->lexicon = m->own_lexicon;
    }
    if (!rc) {
        const ft_index_set set = {m->flat.indexes, m->flat.count};
        rc = ft_spans_find(set, in->response, in->response_count, &m->options->rules, &m->spans, st);
    }
    if (!rc && m->scope->tokenizer) {
        rc = text_map_make(&m->text, m->lexicon, in->response, in->response_count, 0, st);
        if (!rc)
            m->characters = ft_utf8_count(m->text.text.data, m->text.text.size);
    }
    if (!rc)
        rc = find_documents(m, st);
    m->experts = in->routing       ? in->routing->experts
                 : m->scope->model ? ft_model_get_config(m->scope->model)->experts
                                   : 0;
    m->shares = ft_alloc_array(m->experts, sizeof(*m->shares));
    if (!rc && !m->shares)
        rc = ft_fail(st, FT_ERR_MEM, "trace: no room for %zu experts", m->experts);
    return rc;
}

/* What spans and documents follow from, beside the indexes. */
static json_t *options_json(const trace_maker *m)
{
    const ft_trace_options *o = m->options;
    return json_pack("{s:I,s:I,s:b,s:f,s:s,s:I,s:I,s:I,s:I}", "min_len", (json_int_t)o->rules.min_len, "max_cnt",
                     (json_int_t)o->rules.max_cnt, "enforce_bow", o->rules.word_starts != NULL, "density",
                     o->rules.density, "rank", o->rules.rank == FT_RANK_LENGTH ? "length" : "unigram", "max_documents",
                     (json_int_t)o->max_documents, "snippet_tokens", (json_int_t)o->snippet_tokens, "document_tokens",
                     (json_int_t)o->document_tokens, "sample_seed", (json_int_t)o->sample_seed);
}

static json_t *assemble(trace_maker *m, ft_code *rc, ft_status *st)
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
    json_t *documents = NULL;
    if (!*rc && !m->failed)
        *rc = documents_json(m, spans, &documents, st);
    if (!*rc && !m->failed) {
        put(t, "documents", documents, &m->failed);
        put(t, "merged_spans", merged_spans_json(m, documents), &m->failed);
    }
    put(t, "options", options_json(m), &m->failed);
    put(t, "evidence", evidence_json(m), &m->failed);
    put(t, "provenance", provenance_json(m->scope, in), &m->failed);
    put(t, "routing", in->routing && m->experts ? ft_routing_json(m->scope, in->routing, in->without) : json_null(),
        &m->failed);
    return t;
}

ft_code ft_trace_make(const ft_trace_scope *scope, const ft_trace_input *input, const ft_trace_options *options,
                      json_t **out, ft_status *st)
{
    trace_maker m = {.scope = scope, .input = input, .options = options};
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
    free(m.ids);
    text_map_release(&m.shown);
    found_list_release(&m.found);
    text_map_release(&m.text);
    ft_spans_release(&m.spans);
    flat_indexes_release(&m.flat);
    ft_lexicon_free(m.own_lexicon);
    return rc;
}
