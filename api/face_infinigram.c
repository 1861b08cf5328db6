/* POST /: infini-gram's own endpoint. */
#define _GNU_SOURCE /* memmem */
#include "api/infinigram_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- The query ---------------------------------------------------------------------- */

static ft_code add_ngram(ft_gram_query *g, const uint32_t *ids, size_t n, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&g->ids, &g->capacity, g->count + n, sizeof(*g->ids), st);
    if (!rc)
        rc = ft_array_grow((void **)&g->ngrams, &g->ngram_capacity, g->ngram_count + 1, sizeof(*g->ngrams), st);
    if (rc)
        return rc;
    if (n)
        memcpy(g->ids + g->count, ids, n * sizeof(*ids));
    g->count += n;
    g->ngrams[g->ngram_count++] = (ft_ngram){.n = n}; /* where it stands is known when all are in */
    return FT_OK;
}

static ft_code add_text(ft_gram_query *g, const char *text, size_t n, ft_status *st)
{
    ft_encoding e = {0};
    ft_code rc = ft_encode_text(g->q->server, text, n, &e, st);
    if (!rc)
        rc = add_ngram(g, e.ids, e.count, st);
    ft_encoding_release(&e);
    return rc;
}

static ft_code begin_clause(ft_gram_query *g, ft_status *st)
{
    if (g->clause_count == FT_MAX_CLAUSES)
        return ft_fail(st, FT_ERR_ARG, "a query has at most %d clauses", FT_MAX_CLAUSES);
    g->clause_sizes[g->clause_count++] = 0;
    return FT_OK;
}

/* "a OR b AND c": OR binds tighter. */
static ft_code read_text(ft_gram_query *g, const char *text, size_t n, ft_status *st)
{
    const char *const stop = text + n;
    g->is_cnf = memmem(text, n, " AND ", 5) || memmem(text, n, " OR ", 4);
    ft_code rc = begin_clause(g, st);
    while (!rc) {
        const size_t left = (size_t)(stop - text);
        const char *and = memmem(text, left, " AND ", 5), *or = memmem(text, left, " OR ", 4);
        const char *end = and && or ? (and < or ? and : or) : and ? and : or;
        rc = add_text(g, text, end ? (size_t)(end - text) : left, st);
        g->clause_sizes[g->clause_count - 1]++;
        if (!end)
            break;
        text = end + (end == and ? 5 : 4);
        if (!rc && end == and)
            rc = begin_clause(g, st);
    }
    return rc;
}

static ft_code add_id_list(ft_gram_query *g, const json_t *list, ft_status *st)
{
    const size_t n = json_array_size(list);
    uint32_t *ids = ft_alloc_array(n, sizeof(*ids));
    ft_code rc = ids ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; !rc && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > UINT32_MAX)
            rc = ft_fail(st, FT_ERR_ARG, "query_ids: element %zu is not a token id", i);
        else
            ids[i] = (uint32_t)id;
    }
    if (!rc)
        rc = add_ngram(g, ids, n, st);
    free(ids);
    return rc;
}

static ft_code read_ids(ft_gram_query *g, const json_t *v, ft_status *st)
{
    const json_t *clause, *ngram;
    size_t i, k;
    if (!json_is_array(v))
        return ft_fail(st, FT_ERR_ARG, "query_ids must be a list of token ids, or a list of lists of lists of them");
    g->is_cnf = json_is_array(json_array_get(v, 0));
    if (!g->is_cnf) {
        ft_code rc = begin_clause(g, st);
        g->clause_sizes[0] = 1;
        return rc ? rc : add_id_list(g, v, st);
    }
    json_array_foreach(v, i, clause)
    {
        ft_code rc = json_is_array(clause) && json_array_size(clause)
                         ? begin_clause(g, st)
                         : ft_fail(st, FT_ERR_ARG, "query_ids: clause %zu must be a list of lists of token ids", i);
        json_array_foreach(clause, k, ngram)
        {
            if (!rc && !json_is_array(ngram))
                rc = ft_fail(st, FT_ERR_ARG, "query_ids: clause %zu must be a list of lists of token ids", i);
            if (!rc)
                rc = add_id_list(g, ngram, st);
            if (rc)
                return rc;
            g->clause_sizes[g->clause_count - 1]++;
        }
        if (rc)
            return rc;
    }
    return FT_OK;
}

static ft_code read_query(ft_gram_query *g, ft_status *st)
{
    const json_t *text = json_object_get(g->q->json, "query"), *ids = json_object_get(g->q->json, "query_ids");
    if (!text == !ids)
        return ft_fail(st, FT_ERR_ARG, "exactly one of query and query_ids must be present");
    if (text && !json_is_string(text))
        return ft_fail(st, FT_ERR_ARG, "query must be a string");
    ft_code rc = text ? read_text(g, json_string_value(text), json_string_length(text), st) : read_ids(g, ids, st);
    const uint32_t *at = g->ids;
    for (size_t i = 0; !rc && i < g->ngram_count; i++) {
        g->ngrams[i].ids = at;
        at += g->ngrams[i].n;
    }
    return rc;
}

ft_clause *ft_gram_clauses(const ft_gram_query *g)
{
    ft_clause *clauses = ft_alloc_array(g->clause_count, sizeof(*clauses));
    const ft_ngram *at = g->ngrams;
    for (size_t i = 0; clauses && i < g->clause_count; i++) {
        clauses[i] = (ft_clause){at, g->clause_sizes[i]};
        at += g->clause_sizes[i];
    }
    return clauses;
}

ft_code ft_gram_soft_error(ft_gram_query *g, const char *message)
{
    json_decref(g->answer);
    g->answer = json_pack("{s:s}", "error", message);
    return FT_OK;
}

/* --- Counts and distributions --------------------------------------------------------- */

static ft_code put(ft_gram_query *g, json_t *value, ft_status *st)
{
    g->answer = value;
    return value ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

static ft_code answer_count(ft_gram_query *g, ft_status *st)
{
    if (!g->is_cnf)
        return put(
            g, json_pack("{s:I,s:b}", "count", (json_int_t)ft_query_count(*g->set, g->ids, g->count), "approx", 0), st);
    ft_cnf_result r = {0};
    ft_clause *clauses = ft_gram_clauses(g);
    ft_code rc = clauses ? ft_query_cnf(*g->set, clauses, g->clause_count, (uint64_t)g->max_diff_tokens,
                                        (uint64_t)g->max_clause_freq, &r, st)
                         : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = put(g, json_pack("{s:I,s:b}", "count", (json_int_t)r.count, "approx", r.approx), st);
    ft_cnf_result_release(&r);
    free(clauses);
    return rc;
}

/* The suffix of the prompt that was used, for the infgram queries. */
static void put_suffix(ft_gram_query *g, size_t prompt, size_t suffix)
{
    (void)json_object_set_new(g->answer, "suffix_len", json_integer((json_int_t)suffix));
    (void)json_object_set_new(g->answer, "longest_suffix",
                              ft_decoded_text(g->q->server->tokenizer, g->ids + (prompt - suffix), suffix));
}

static ft_code answer_prob_of(ft_gram_query *g, int infgram, ft_status *st)
{
    ft_prob p;
    if (g->count == 0)
        return ft_gram_soft_error(g, "the query must hold at least one token");
    ft_code rc = infgram ? ft_query_infgram_prob(*g->set, g->ids, g->count, &p, st)
                         : ft_query_prob(*g->set, g->ids, g->count, &p, st);
    if (!rc)
        rc = put(g,
                 json_pack("{s:I,s:I,s:f}", "prompt_cnt", (json_int_t)p.prompt_count, "cont_cnt",
                           (json_int_t)p.continuation_count, "prob", p.prob),
                 st);
    if (!rc && infgram)
        put_suffix(g, g->count - 1, p.suffix_len);
    return rc;
}

static ft_code answer_prob(ft_gram_query *g, ft_status *st)
{
    return answer_prob_of(g, 0, st);
}

static ft_code answer_infgram_prob(ft_gram_query *g, ft_status *st)
{
    return answer_prob_of(g, 1, st);
}

static ft_code answer_ntd_of(ft_gram_query *g, int infgram, ft_status *st)
{
    ft_distribution d = {0};
    ft_code rc = ft_query_ntd(*g->set, g->ids, g->count, infgram, &d, st);
    json_t *table = json_object();
    const size_t shown = d.count < (size_t)g->max_support ? d.count : (size_t)g->max_support;
    for (size_t i = 0; !rc && i < shown; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%" PRIu32, d.next[i].id);
        (void)json_object_set_new(table, key,
                                  json_pack("{s:I,s:f,s:o}", "cont_cnt", (json_int_t)d.next[i].count, "prob",
                                            (double)d.next[i].count / (double)d.prompt_count, "token",
                                            ft_vocabulary_spelling(g->q->server->tokenizer, d.next[i].id)));
    }
    if (!rc)
        rc = put(g,
                 json_pack("{s:I,s:O,s:b}", "prompt_cnt", (json_int_t)d.prompt_count, "result_by_token_id", table,
                           "approx", shown < d.count),
                 st);
    if (!rc && infgram)
        put_suffix(g, g->count, d.suffix_len);
    json_decref(table);
    ft_distribution_release(&d);
    return rc;
}

static ft_code answer_ntd(ft_gram_query *g, ft_status *st)
{
    return answer_ntd_of(g, 0, st);
}

static ft_code answer_infgram_ntd(ft_gram_query *g, ft_status *st)
{
    return answer_ntd_of(g, 1, st);
}

/* --- The request ------------------------------------------------------------------------ */

static const struct {
    const char *name;
    ft_gram_answer *run;
    int takes_cnf, needs_query;
    ft_gram_answer *by_text; /* with "match":"text"; NULL: refused */
} types[] = {
    {"count", answer_count, 1, 1, ft_gram_text_count},
    {"prob", answer_prob, 0, 1, NULL},
    {"ntd", answer_ntd, 0, 1, NULL},
    {"infgram_prob", answer_infgram_prob, 0, 1, NULL},
    {"infgram_ntd", answer_infgram_ntd, 0, 1, NULL},
    {"find", ft_gram_find, 0, 1, ft_gram_text_find},
    {"find_cnf", ft_gram_find_cnf, 1, 1, NULL},
    {"get_doc_by_rank", ft_gram_document_by_rank, 1, 0, NULL},
    {"get_doc_by_ptr", ft_gram_document_by_ptr, 1, 0, NULL},
    {"search_docs", ft_gram_search, 1, 1, ft_gram_text_search},
};

/* Bounds of the original; 0 after answering. */
static int read_numbers(ft_gram_query *g)
{
    const struct {
        const char *name;
        int64_t low, high, absent, *to;
    } numbers[] = {
        {"max_clause_freq", 1, 500000, 50000, &g->max_clause_freq},
        {"max_diff_tokens", 1, 1000, 100, &g->max_diff_tokens},
        {"max_support", 1, 1000, INT64_MAX, &g->max_support},
        {"max_disp_len", 1, 10000, 1000, &g->max_disp_len},
        {"maxnum", 1, 10, 1, &g->maxnum},
        {"offset", 0, INT64_MAX / 2, 0, &g->offset}, /* these two with "match":"text" */
        {"limit", 1, 10000, 100, &g->limit},
        {"s", 0, INT32_MAX, 0, &g->s},
        {"rank", 0, INT64_MAX, -1, &g->rank},
        {"ptr", 0, INT64_MAX, -1, &g->ptr},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        ft_status st = {0};
        *numbers[i].to = numbers[i].absent;
        const json_t *v = json_object_get(g->q->json, numbers[i].name);
        if (v && !json_is_integer(v)) {
            ft_refuse(g->q, 400, NULL, NULL, "%s must be an integer", numbers[i].name);
            return 0;
        }
        if (ft_json_get_int(g->q->json, numbers[i].name, numbers[i].low, numbers[i].high, numbers[i].to, &st)) {
            ft_answer_json(g->q, 200, json_pack("{s:s}", "error", st.msg));
            return 0;
        }
    }
    return 1;
}

static json_t *spelled(const ft_gram_query *g, const ft_ngram *n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n->n; i++)
        (void)json_array_append_new(list, ft_vocabulary_spelling(g->q->server->tokenizer, n->ids[i]));
    return list;
}

/* token_ids and tokens: flat, or nested as a CNF is. */
static void put_tokens(ft_gram_query *g)
{
    json_t *ids = json_array(), *tokens = json_array();
    const ft_ngram *at = g->ngrams;
    for (size_t c = 0; g->is_cnf && c < g->clause_count; c++) {
        json_t *clause_ids = json_array(), *clause_tokens = json_array();
        for (size_t i = 0; i < g->clause_sizes[c]; i++, at++) {
            (void)json_array_append_new(clause_ids, ft_json_ids(at->ids, at->n));
            (void)json_array_append_new(clause_tokens, spelled(g, at));
        }
        (void)json_array_append_new(ids, clause_ids);
        (void)json_array_append_new(tokens, clause_tokens);
    }
    if (!g->is_cnf && g->ngram_count) {
        json_decref(ids);
        json_decref(tokens);
        ids = ft_json_ids(g->ids, g->count);
        tokens = spelled(g, g->ngrams);
    }
    if (!json_object_get(g->answer, "token_ids")) /* a document brings its own */
        (void)json_object_set(g->answer, "token_ids", ids);
    (void)json_object_set(g->answer, "tokens", tokens);
    json_decref(ids);
    json_decref(tokens);
}

static void answer_query(ft_gram_query *g, ft_gram_answer *run, int takes_cnf, int by_text)
{
    ft_status st = {0};
    ft_code rc = FT_OK;
    if (!by_text && (json_object_get(g->q->json, "query") || json_object_get(g->q->json, "query_ids")))
        rc = read_query(g, &st);
    g->began = ft_seconds_now();
    if (!rc && g->is_cnf && !takes_cnf)
        rc = ft_fail(&st, FT_ERR_ARG, "this query_type takes one n-gram, no AND or OR");
    if (!rc)
        rc = run(g, &st);
    if (rc) {
        ft_refuse_status(g->q, NULL, &st);
        return;
    }
    if (!json_object_get(g->answer, "error")) {
        const double latency = (ft_seconds_now() - g->began) * 1e3;
        put_tokens(g);
        (void)json_object_set_new(g->answer, "latency", json_real(latency));
    }
    ft_answer_json(g->q, 200, json_incref(g->answer));
}

void ft_route_infinigram(ft_request *q)
{
    const json_t *where = json_object_get(q->json, "index");
    if (!where)
        where = json_object_get(q->json, "corpus"); /* its older name */
    const char *index = ft_json_name(where), *type = ft_json_name(json_object_get(q->json, "query_type"));
    if (!index || !type) {
        ft_refuse(q, 400, NULL, NULL, "index and query_type must be present, as strings");
        return;
    }
    size_t t = 0;
    while (t < sizeof(types) / sizeof(*types) && strcmp(types[t].name, type) != 0)
        t++;
    if (t == sizeof(types) / sizeof(*types)) {
        ft_refuse(q, 400, NULL, NULL, "there is no query_type '%.60s'", type);
        return;
    }
    if (types[t].needs_query && !json_object_get(q->json, "query") && !json_object_get(q->json, "query_ids")) {
        ft_refuse(q, 400, NULL, NULL, "exactly one of query and query_ids must be present");
        return;
    }
    int by_text;
    ft_status st = {0};
    if (ft_gram_read_match(q, &by_text, &st)) {
        ft_refuse_status(q, NULL, &st);
        return;
    }
    if (by_text && !types[t].by_text) {
        ft_refuse(q, 400, NULL, NULL, "\"match\":\"text\" is for count, find and search_docs");
        return;
    }
    ft_named_set *named = malloc(sizeof(*named));
    size_t *sizes = ft_alloc_array(FT_MAX_CLAUSES, sizeof(*sizes));
    ft_gram_query g = {.q = q, .clause_sizes = sizes};
    if (!named || !sizes) {
        ft_refuse(q, 503, NULL, NULL, "out of memory");
    } else if (ft_index_set_named(q, index, named) && read_numbers(&g)) {
        g.set = &named->set;
        answer_query(&g, by_text ? types[t].by_text : types[t].run, types[t].takes_cnf, by_text);
    }
    json_decref(g.answer);
    free(g.ids);
    free(g.ngrams);
    free(sizes);
    free(named);
}
