/* One row of `flextrace index query`: read the question, ask, write the answer. */
#include "api/cli/cli_index_internal.h"
#include "base/ft_buffer.h"
#include "base/ft_json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

json_t *index_count_json(uint64_t v)
{
    return json_integer((json_int_t)v);
}

/* --- Questions ------------------------------------------------------------------------ */

ft_code index_encode(index_asker *a, const char *text, size_t bytes, uint32_t **ids, size_t *n, ft_status *st)
{
    if (!a->encoder)
        return ft_fail(st, FT_ERR_ARG, "\"text\" needs a tokenizer; give -t TOK or ask with \"ids\"");
    ft_code rc = ft_encoder_encode(a->encoder, text, bytes, &a->encoding, st);
    if (rc)
        return rc;
    *n = a->encoding.count;
    *ids = ft_alloc_array(*n, sizeof(**ids));
    if (!*ids)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    if (*n)
        memcpy(*ids, a->encoding.ids, *n * sizeof(**ids));
    return FT_OK;
}

/* By its length: a string may hold NUL. */
static ft_code encode_text(index_asker *a, const json_t *text, uint32_t **ids, size_t *n, ft_status *st)
{
    return index_encode(a, json_string_value(text), json_string_length(text), ids, n, st);
}

static ft_code read_ids(index_question *q, ft_status *st)
{
    const char *text = NULL;
    size_t bytes = 0;
    ft_code rc = ft_json_get_ids(q->row, "ids", &q->ids, &q->n, st);
    if (!rc)
        rc = ft_json_get_text(q->row, "text", &text, &bytes, st);
    if (rc)
        return rc;
    if (q->ids && text)
        return ft_fail(st, FT_ERR_ARG, "give either 'ids' or 'text', not both");
    if (text)
        return encode_text(q->asker, json_object_get(q->row, "text"), &q->ids, &q->n, st);
    return q->ids ? FT_OK : ft_fail(st, FT_ERR_ARG, "the tokens are missing: give 'ids' or 'text'");
}

ft_code index_read_count(const index_question *q, const char *field, int64_t low, uint64_t *out, ft_status *st)
{
    int64_t v = (int64_t)*out;
    const ft_code rc = ft_json_get_int(q->row, field, low, (int64_t)1 << 56, &v, st);
    *out = (uint64_t)v;
    return rc;
}

int index_has(const index_question *q, const char *field)
{
    const json_t *v = json_object_get(q->row, field);
    return v && !json_is_null(v);
}

/* --- Counts and probabilities ------------------------------------------------------------ */

static json_t *segments_json(const index_question *q, uint64_t *count)
{
    json_t *segments = json_array();
    *count = 0;
    for (size_t i = 0; i < q->asker->set.count; i++) {
        const ft_index *ix = q->asker->set.indexes[i];
        ft_match m;
        ft_index_find(ix, q->ids, q->n, &m);
        *count += m.count;
        for (unsigned k = 0; k < ft_index_get_info(ix).parts; k++)
            json_array_append_new(segments,
                                  json_pack("[o,o]", index_count_json(m.part[k].lo), index_count_json(m.part[k].hi)));
    }
    return segments;
}

/* Those between two documents (of the empty n-gram) are left out. */
static json_t *occurrences_json(const index_question *q, const ft_place *places, size_t found, ft_status *st)
{
    const ft_index_set set = q->asker->set;
    json_t *list = json_array();
    for (size_t i = 0; i < found; i++) {
        ft_window w;
        const ft_code rc = ft_query_context(set, &places[i], q->n, 0, &w, st);
        if (rc == FT_ERR_NOT_FOUND)
            continue;
        if (rc) {
            json_decref(list);
            return NULL;
        }
        json_t *one = index_document_json(q, places[i].index, &w.doc);
        json_object_set_new(one, "token", index_count_json(w.needle));
        json_object_set_new(one, "tokens", index_count_json(q->n));
        json_object_set_new(one, "s", index_count_json(ft_place_shard(set, &places[i])));
        json_object_set_new(one, "ptr", index_count_json(ft_place_pointer(set, &places[i])));
        json_array_append_new(list, one);
    }
    return list;
}

/* Ranks, and the occurrences of a page when one is asked for. */
static json_t *answer_find(const index_question *q, ft_status *st)
{
    index_page page;
    uint64_t count;
    size_t found = 0;
    if (index_read_page(q, 0, 100, &page, st))
        return NULL;
    json_t *segments = segments_json(q, &count);
    json_t *out = json_pack("{s:o,s:o}", "cnt", index_count_json(count), "segment_by_shard", segments);
    if (!index_has(q, "maxnum") && !index_has(q, "limit") && !index_has(q, "offset"))
        return out;
    ft_place *places = ft_alloc_array(page.limit, sizeof(*places));
    json_t *list = NULL;
    if (places) {
        (void)ft_query_occurrences_from(q->asker->set, q->ids, q->n, page.offset, page.limit, places, &found);
        list = occurrences_json(q, places, found, st);
    } else {
        (void)ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    free(places);
    if (!list) {
        json_decref(out);
        return NULL;
    }
    json_object_set_new(out, "occurrences", list);
    index_add_page(out, &page, found, count);
    return out;
}

static json_t *prob_json(const ft_prob *p, int infgram)
{
    json_t *out = json_pack("{s:f,s:o,s:o}", "prob", p->prob, "prompt_cnt", index_count_json(p->prompt_count),
                            "cont_cnt", index_count_json(p->continuation_count));
    if (infgram)
        json_object_set_new(out, "suffix_len", index_count_json(p->suffix_len));
    return out;
}

static json_t *answer_prob(const index_question *q, ft_status *st)
{
    ft_prob p;
    return ft_query_prob(q->asker->set, q->ids, q->n, &p, st) ? NULL : prob_json(&p, 0);
}

static json_t *answer_infgram_prob(const index_question *q, ft_status *st)
{
    ft_prob p;
    return ft_query_infgram_prob(q->asker->set, q->ids, q->n, &p, st) ? NULL : prob_json(&p, 1);
}

static json_t *token_text(const index_asker *a, uint32_t id)
{
    size_t n;
    const char *bytes = ft_tokenizer_token_bytes(a->tokenizer, id, &n, NULL);
    return ft_json_text(bytes ? bytes : "", n);
}

static json_t *answer_distribution(const index_question *q, int infgram, ft_status *st)
{
    ft_distribution d;
    if (ft_query_ntd(q->asker->set, q->ids, q->n, infgram, &d, st))
        return NULL;
    json_t *by_id = json_object();
    for (size_t i = 0; i < d.count; i++) {
        const ft_next_token *t = &d.next[i];
        char id[12];
        snprintf(id, sizeof(id), "%" PRIu32, t->id);
        json_t *entry = json_pack("{s:f,s:o}", "prob", (double)t->count / (double)d.prompt_count, "cont_cnt",
                                  index_count_json(t->count));
        if (q->asker->tokenizer)
            json_object_set_new(entry, "token", token_text(q->asker, t->id));
        json_object_set_new(by_id, id, entry);
    }
    json_t *out = json_pack("{s:o,s:o,s:b}", "prompt_cnt", index_count_json(d.prompt_count), "result_by_token_id",
                            by_id, "approx", 0);
    if (infgram)
        json_object_set_new(out, "suffix_len", index_count_json(d.suffix_len));
    ft_distribution_release(&d);
    return out;
}

static json_t *answer_ntd(const index_question *q, ft_status *st)
{
    return answer_distribution(q, 0, st);
}

static json_t *answer_infgram_ntd(const index_question *q, ft_status *st)
{
    return answer_distribution(q, 1, st);
}

/* --- AND of ORs ---------------------------------------------------------------------------- */

typedef struct cnf {
    ft_clause *clauses;
    size_t count;
} cnf;

static void cnf_release(cnf *c)
{
    for (size_t i = 0; i < c->count; i++) {
        for (size_t k = 0; k < c->clauses[i].count; k++)
            free((void *)(uintptr_t)c->clauses[i].ngrams[k].ids);
        free((void *)(uintptr_t)c->clauses[i].ngrams);
    }
    free(c->clauses);
}

static ft_code read_ngram(index_asker *a, const json_t *from, ft_ngram *out, ft_status *st)
{
    uint32_t *ids = NULL;
    ft_code rc;
    if (json_is_string(from)) {
        rc = encode_text(a, from, &ids, &out->n, st);
    } else {
        json_t *holder = json_pack("{s:O}", "cnf", from);
        rc = json_is_array(from) ? ft_json_get_ids(holder, "cnf", &ids, &out->n, st)
                                 : ft_fail(st, FT_ERR_ARG, "'cnf' must be an array of clauses of arrays of token ids");
        json_decref(holder);
    }
    out->ids = ids;
    return rc;
}

static ft_code read_cnf(const index_question *q, cnf *out, ft_status *st)
{
    const json_t *list = json_object_get(q->row, "cnf");
    *out = (cnf){0};
    if (!json_is_array(list))
        return ft_fail(st, FT_ERR_ARG, "'cnf' must be an array of clauses of arrays of token ids");
    out->clauses = ft_alloc_array(json_array_size(list), sizeof(*out->clauses));
    ft_code rc = out->clauses ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < json_array_size(list) && !rc; i++) {
        const json_t *clause = json_array_get(list, i);
        if (!json_is_array(clause))
            return ft_fail(st, FT_ERR_ARG, "'cnf': clause %zu is not an array", i);
        ft_ngram *ngrams = ft_alloc_array(json_array_size(clause), sizeof(*ngrams));
        if (!ngrams)
            return ft_fail(st, FT_ERR_MEM, "out of memory");
        ft_clause *c = &out->clauses[out->count++];
        c->ngrams = ngrams;
        for (; c->count < json_array_size(clause) && !rc; c->count++)
            rc = read_ngram(q->asker, json_array_get(clause, c->count), &ngrams[c->count], st);
    }
    return rc;
}

/* 1 when some clause occurs nowhere: then there is no part to search. */
static int has_absent_clause(const index_question *q, const cnf *c)
{
    for (size_t i = 0; i < c->count; i++) {
        uint64_t count = 0;
        for (size_t k = 0; k < c->clauses[i].count; k++)
            count += ft_query_count(q->asker->set, c->clauses[i].ngrams[k].ids, c->clauses[i].ngrams[k].n);
        if (count == 0)
            return 1;
    }
    return 0;
}

static json_t *pointers_json(const index_question *q, const ft_cnf_result *r)
{
    const ft_index_set set = q->asker->set;
    json_t *shards = json_array();
    for (size_t s = 0; s < ft_query_shards(set); s++)
        json_array_append_new(shards, json_array());
    for (size_t i = 0; i < r->place_count; i++)
        json_array_append_new(json_array_get(shards, ft_place_shard(set, &r->places[i])),
                              index_count_json(ft_place_pointer(set, &r->places[i])));
    return shards;
}

/* max_clause_freq is read, so that a wrong one is told, and not needed. */
static ft_code ask_cnf(const index_question *q, size_t place_limit, cnf *c, ft_cnf_result *r, ft_status *st)
{
    uint64_t max_diff = 100, max_freq = 50000;
    *r = (ft_cnf_result){0};
    ft_code rc = read_cnf(q, c, st);
    if (!rc)
        rc = index_read_count(q, "max_diff_tokens", 0, &max_diff, st);
    if (!rc)
        rc = index_read_count(q, "max_clause_freq", 1, &max_freq, st);
    return rc ? rc : ft_query_cnf_places(q->asker->set, c->clauses, c->count, max_diff, place_limit, r, st);
}

static json_t *answer_cnf(const index_question *q, ft_status *st)
{
    cnf c;
    ft_cnf_result r;
    json_t *out = NULL;
    if (!ask_cnf(q, SIZE_MAX, &c, &r, st))
        out = json_pack("{s:o,s:o,s:b,s:o}", "cnt", index_count_json(r.count), "count", index_count_json(r.count),
                        "approx", r.approx, "ptrs_by_shard",
                        has_absent_clause(q, &c) ? json_array() : pointers_json(q, &r));
    ft_cnf_result_release(&r);
    cnf_release(&c);
    return out;
}

static json_t *answer_count(const index_question *q, ft_status *st)
{
    if (!index_has(q, "cnf"))
        return json_pack("{s:o,s:b}", "count", index_count_json(ft_query_count(q->asker->set, q->ids, q->n)), "approx",
                         0);
    cnf c;
    ft_cnf_result r;
    const ft_code rc = ask_cnf(q, 0, &c, &r, st);
    cnf_release(&c);
    return rc ? NULL : json_pack("{s:o,s:b}", "count", index_count_json(r.count), "approx", r.approx);
}

/* --- Rows ---------------------------------------------------------------------------------------- */

typedef struct operation {
    const char *name;
    index_answer_fn *answer;
    int needs_ids;
    index_answer_fn *by_text; /* for "match":"text"; NULL: there is none */
} operation;

static const operation operations[] = {
    {"count", answer_count, 1, index_text_count},
    {"find", answer_find, 1, index_text_find},
    {"prob", answer_prob, 1, NULL},
    {"ntd", answer_ntd, 1, NULL},
    {"infgram_prob", answer_infgram_prob, 1, NULL},
    {"infgram_ntd", answer_infgram_ntd, 1, NULL},
    {"cnf", answer_cnf, 0, NULL},
    {"docs", index_answer_docs, 1, index_text_docs},
    {"doc", index_answer_doc, 0, NULL},
};
enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

static json_t *answer_operation(index_question *q, const operation *o, ft_status *st)
{
    int by_text, both_spaces;
    if (index_read_match(q, &by_text, st) || index_read_leading_space(q, &both_spaces, st))
        return NULL;
    if ((by_text && !o->by_text) || (both_spaces && o->answer != answer_count)) {
        (void)ft_fail(st, FT_ERR_ARG, "'%s' has no %s", o->name,
                      by_text ? "\"match\":\"text\"; count, find and docs have"
                              : "\"leading_space\":\"both\"; count has");
        return NULL;
    }
    if (both_spaces)
        return index_count_both_spaces(q, by_text, st);
    if (by_text)
        return o->by_text(q, st);
    const int by_cnf = o->answer == answer_count && index_has(q, "cnf");
    return o->needs_ids && !by_cnf && read_ids(q, st) ? NULL : o->answer(q, st);
}

json_t *index_answer(index_asker *a, const json_t *row, ft_status *st)
{
    index_question q = {.asker = a, .row = row};
    const char *op = NULL;
    if (ft_json_get_string(row, "op", &op, st))
        return NULL;
    for (size_t i = 0; op && i < OPERATIONS; i++) {
        if (strcmp(op, operations[i].name) != 0)
            continue;
        json_t *out = answer_operation(&q, &operations[i], st);
        free(q.ids);
        return out;
    }
    (void)ft_fail(st, FT_ERR_ARG,
                  "'op' must be count, find, prob, ntd, infgram_prob, infgram_ntd, cnf, docs or doc%s%.40s",
                  op ? ", not " : "", op ? op : "");
    return NULL;
}
