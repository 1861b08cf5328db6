/* One row of `flextrace index query`: read the question, ask, write the answer. */
#include "api/cli/cli_index_internal.h"
#include "base/ft_buffer.h"
#include "base/ft_json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A row's token ids, from "ids" or "text". */
typedef struct question {
    index_asker *asker;
    const json_t *row;
    uint32_t *ids;
    size_t n;
} question;

typedef json_t *answer_fn(const question *q, ft_status *st);

static json_t *count_json(uint64_t v)
{
    return json_integer((json_int_t)v);
}

/* --- Questions ------------------------------------------------------------------------ */

/* A copy of the ids of a text, in memory that the caller frees. */
static ft_code encode_text(index_asker *a, const json_t *text, uint32_t **ids, size_t *n, ft_status *st)
{
    if (!a->encoder)
        return ft_fail(st, FT_ERR_ARG, "\"text\" needs a tokenizer; give -t TOK or ask with \"ids\"");
    /* By its length: a string may hold NUL. */
    ft_code rc = ft_encoder_encode(a->encoder, json_string_value(text), json_string_length(text), &a->encoding, st);
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

static ft_code read_ids(question *q, ft_status *st)
{
    const char *text = NULL;
    ft_code rc = ft_json_get_ids(q->row, "ids", &q->ids, &q->n, st);
    if (!rc)
        rc = ft_json_get_string(q->row, "text", &text, st);
    if (rc)
        return rc;
    if (q->ids && text)
        return ft_fail(st, FT_ERR_ARG, "give either 'ids' or 'text', not both");
    if (text)
        return encode_text(q->asker, json_object_get(q->row, "text"), &q->ids, &q->n, st);
    return q->ids ? FT_OK : ft_fail(st, FT_ERR_ARG, "the tokens are missing: give 'ids' or 'text'");
}

static ft_code read_count(const question *q, const char *field, int64_t low, uint64_t *out, ft_status *st)
{
    int64_t v = (int64_t)*out;
    const ft_code rc = ft_json_get_int(q->row, field, low, (int64_t)1 << 56, &v, st);
    *out = (uint64_t)v;
    return rc;
}

static int has(const question *q, const char *field)
{
    const json_t *v = json_object_get(q->row, field);
    return v && !json_is_null(v);
}

/* --- Counts and probabilities ------------------------------------------------------------ */

static json_t *answer_find(const question *q, ft_status *st)
{
    (void)st;
    json_t *segments = json_array();
    uint64_t count = 0;
    for (size_t i = 0; i < q->asker->set.count; i++) {
        const ft_index *ix = q->asker->set.indexes[i];
        ft_match m;
        ft_index_find(ix, q->ids, q->n, &m);
        count += m.count;
        for (unsigned k = 0; k < ft_index_get_info(ix).parts; k++)
            json_array_append_new(segments, json_pack("[o,o]", count_json(m.part[k].lo), count_json(m.part[k].hi)));
    }
    return json_pack("{s:o,s:o}", "cnt", count_json(count), "segment_by_shard", segments);
}

static json_t *prob_json(const ft_prob *p, int infgram)
{
    json_t *out = json_pack("{s:f,s:o,s:o}", "prob", p->prob, "prompt_cnt", count_json(p->prompt_count), "cont_cnt",
                            count_json(p->continuation_count));
    if (infgram)
        json_object_set_new(out, "suffix_len", count_json(p->suffix_len));
    return out;
}

static json_t *answer_prob(const question *q, ft_status *st)
{
    ft_prob p;
    return ft_query_prob(q->asker->set, q->ids, q->n, &p, st) ? NULL : prob_json(&p, 0);
}

static json_t *answer_infgram_prob(const question *q, ft_status *st)
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

static json_t *answer_distribution(const question *q, int infgram, ft_status *st)
{
    ft_distribution d;
    if (ft_query_ntd(q->asker->set, q->ids, q->n, infgram, &d, st))
        return NULL;
    json_t *by_id = json_object();
    for (size_t i = 0; i < d.count; i++) {
        const ft_next_token *t = &d.next[i];
        char id[12];
        snprintf(id, sizeof(id), "%" PRIu32, t->id);
        json_t *entry =
            json_pack("{s:f,s:o}", "prob", (double)t->count / (double)d.prompt_count, "cont_cnt", count_json(t->count));
        if (q->asker->tokenizer)
            json_object_set_new(entry, "token", token_text(q->asker, t->id));
        json_object_set_new(by_id, id, entry);
    }
    json_t *out =
        json_pack("{s:o,s:o,s:b}", "prompt_cnt", count_json(d.prompt_count), "result_by_token_id", by_id, "approx", 0);
    if (infgram)
        json_object_set_new(out, "suffix_len", count_json(d.suffix_len));
    ft_distribution_release(&d);
    return out;
}

static json_t *answer_ntd(const question *q, ft_status *st)
{
    return answer_distribution(q, 0, st);
}

static json_t *answer_infgram_ntd(const question *q, ft_status *st)
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

static ft_code read_cnf(const question *q, cnf *out, ft_status *st)
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
static int has_absent_clause(const question *q, const cnf *c)
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

static json_t *pointers_json(const question *q, const ft_cnf_result *r)
{
    const ft_index_set set = q->asker->set;
    json_t *shards = json_array();
    for (size_t s = 0; s < ft_query_shards(set); s++)
        json_array_append_new(shards, json_array());
    for (size_t i = 0; i < r->place_count; i++)
        json_array_append_new(json_array_get(shards, ft_place_shard(set, &r->places[i])),
                              count_json(ft_place_pointer(set, &r->places[i])));
    return shards;
}

/* max_clause_freq is read, so that a wrong one is told, and not needed. */
static ft_code ask_cnf(const question *q, size_t place_limit, cnf *c, ft_cnf_result *r, ft_status *st)
{
    uint64_t max_diff = 100, max_freq = 50000;
    *r = (ft_cnf_result){0};
    ft_code rc = read_cnf(q, c, st);
    if (!rc)
        rc = read_count(q, "max_diff_tokens", 0, &max_diff, st);
    if (!rc)
        rc = read_count(q, "max_clause_freq", 1, &max_freq, st);
    return rc ? rc : ft_query_cnf_places(q->asker->set, c->clauses, c->count, max_diff, place_limit, r, st);
}

static json_t *answer_cnf(const question *q, ft_status *st)
{
    cnf c;
    ft_cnf_result r;
    json_t *out = NULL;
    if (!ask_cnf(q, SIZE_MAX, &c, &r, st))
        out = json_pack("{s:o,s:o,s:b,s:o}", "cnt", count_json(r.count), "count", count_json(r.count), "approx",
                        r.approx, "ptrs_by_shard", has_absent_clause(q, &c) ? json_array() : pointers_json(q, &r));
    ft_cnf_result_release(&r);
    cnf_release(&c);
    return out;
}

static json_t *answer_count(const question *q, ft_status *st)
{
    if (!has(q, "cnf"))
        return json_pack("{s:o,s:b}", "count", count_json(ft_query_count(q->asker->set, q->ids, q->n)), "approx", 0);
    cnf c;
    ft_cnf_result r;
    const ft_code rc = ask_cnf(q, 0, &c, &r, st);
    cnf_release(&c);
    return rc ? NULL : json_pack("{s:o,s:b}", "count", count_json(r.count), "approx", r.approx);
}

/* --- Documents -------------------------------------------------------------------------------- */

typedef struct shape { /* of what is shown */
    uint64_t max_disp_len, needle_len, max_ctx_len;
    int context; /* 1: max_ctx_len tokens on both sides of the needle */
} shape;

static ft_code read_shape(const question *q, shape *s, ft_status *st)
{
    *s = (shape){.max_disp_len = 1000, .needle_len = q->n, .max_ctx_len = 0, .context = has(q, "max_ctx_len")};
    ft_code rc = read_count(q, "max_disp_len", 0, &s->max_disp_len, st);
    if (!rc)
        rc = read_count(q, "needle_len", 0, &s->needle_len, st);
    return rc ? rc : read_count(q, "max_ctx_len", 0, &s->max_ctx_len, st);
}

/* Pieces of the text before, in and behind the needle: [[text, null], [text, "0"], …].
 * A character that a border cuts goes to the later piece. */
static json_t *spans_json(const question *q, const uint32_t *ids, size_t n, size_t from, size_t to, ft_status *st)
{
    const size_t borders[] = {0, from, to, n};
    json_t *spans = json_array();
    ft_text_stream *stream;
    ft_buffer piece = {0};
    ft_code rc = ft_text_stream_new(&stream, q->asker->tokenizer, 0, st);
    for (int k = 0; k < 3 && !rc; k++) {
        ft_buffer_reset(&piece);
        for (size_t i = borders[k]; i < borders[k + 1] && !rc; i++)
            rc = ft_text_stream_push(stream, ids[i], &piece, st);
        if (k == 2 && !rc)
            rc = ft_text_stream_flush(stream, &piece, st);
        if (!rc && piece.size)
            json_array_append_new(spans, json_pack("[o,o]", ft_json_text(piece.data, piece.size),
                                                   k == 1 ? json_string("0") : json_null()));
    }
    ft_text_stream_free(stream);
    ft_buffer_release(&piece);
    if (rc) {
        json_decref(spans);
        return NULL;
    }
    return spans;
}

static ft_code add_text(const question *q, const ft_window *w, uint64_t needle_len, const uint32_t *ids, size_t n,
                        json_t *out, ft_status *st)
{
    if (!q->asker->tokenizer)
        return FT_OK;
    ft_buffer text = {0};
    ft_code rc = ft_tokenizer_decode(q->asker->tokenizer, ids, n, 0, &text, st);
    const size_t from = (size_t)w->needle_in_window, left = n - from;
    json_t *spans = rc ? NULL : spans_json(q, ids, n, from, from + (needle_len < left ? (size_t)needle_len : left), st);
    if (spans) {
        json_object_set_new(out, "text", ft_json_text(text.data ? text.data : "", text.size));
        json_object_set_new(out, "spans", spans);
    }
    ft_buffer_release(&text);
    return spans ? FT_OK : st->code;
}

static json_t *window_json(const question *q, const ft_window *w, uint64_t needle_len, ft_status *st)
{
    const ft_index *ix = q->asker->set.indexes[w->index];
    const ft_index_info info = ft_index_get_info(ix);
    size_t n;
    uint32_t *ids = ft_alloc_array((size_t)w->length, sizeof(*ids));
    if (!ids) {
        (void)ft_fail(st, FT_ERR_MEM, "out of memory");
        return NULL;
    }
    ft_index_document_tokens(ix, &w->doc, w->from, (size_t)w->length, ids, &n);
    json_t *out = json_pack(
        "{s:o,s:o,s:o,s:o,s:o,s:o,s:b}", "doc_ix", count_json(w->doc.number), "doc_len", count_json(w->doc.length),
        "disp_len", count_json(n), "needle_offset", count_json(w->needle_in_window), "metadata",
        ft_json_text(w->doc.metadata, w->doc.metadata_bytes), "token_ids", ft_json_ids(ids, n), "blocked", 0);
    if (out && !info.is_infinigram)
        json_object_set_new(out, "id", ft_json_text(w->doc.id, w->doc.id_bytes));
    if (out && info.owner[0])
        json_object_set_new(out, "owner", json_string(info.owner));
    if (out && add_text(q, w, needle_len, ids, n, out, st)) {
        json_decref(out);
        out = NULL;
    }
    free(ids);
    return out;
}

static ft_code show_place(const question *q, const shape *s, const ft_place *place, ft_window *w, ft_status *st)
{
    return s->context ? ft_query_context(q->asker->set, place, s->needle_len, s->max_ctx_len, w, st)
                      : ft_query_window(q->asker->set, place, s->needle_len, s->max_disp_len, w, st);
}

static json_t *answer_doc(const question *q, ft_status *st)
{
    const ft_index_set set = q->asker->set;
    uint64_t shard = 0, at = 0;
    ft_place place;
    ft_window w;
    shape s;
    const char *by = has(q, "rank") ? "rank" : has(q, "ptr") ? "ptr" : has(q, "ix") ? "ix" : "doc_ix";
    if (!has(q, by)) {
        (void)ft_fail(st, FT_ERR_ARG, "which document? give 'rank' or 'ptr' (with 's'), or 'ix'");
        return NULL;
    }
    ft_code rc = read_shape(q, &s, st);
    if (!rc)
        rc = read_count(q, "s", 0, &shard, st);
    if (!rc)
        rc = read_count(q, by, 0, &at, st);
    if (rc)
        return NULL;
    if (!strcmp(by, "rank") || !strcmp(by, "ptr")) {
        rc = by[0] == 'r' ? ft_query_rank(set, shard, at, &place, st) : ft_query_pointer(set, shard, at, &place, st);
        if (!rc)
            rc = show_place(q, &s, &place, &w, st);
    } else {
        rc = ft_query_document(set, at, s.max_disp_len, &w, st);
        s.needle_len = 0;
    }
    return rc ? NULL : window_json(q, &w, s.needle_len, st);
}

/* The first maxnum occurrences; those between two documents (of the empty n-gram) are left out. */
static json_t *documents_json(const question *q, const shape *s, const ft_place *places, size_t found, json_t *idxs,
                              ft_status *st)
{
    json_t *documents = json_array();
    for (size_t i = 0; i < found && documents; i++) {
        ft_window w;
        const ft_code rc = show_place(q, s, &places[i], &w, st);
        if (rc == FT_ERR_NOT_FOUND)
            continue;
        json_t *one = rc ? NULL : window_json(q, &w, s->needle_len, st);
        if (!one || json_array_append_new(documents, one)) {
            json_decref(documents);
            return NULL;
        }
        json_array_append_new(idxs, count_json(i));
    }
    return documents;
}

static json_t *answer_docs(const question *q, ft_status *st)
{
    enum { MAXNUM = 10000 };
    int64_t maxnum = 10;
    shape s;
    size_t found = 0;
    if (ft_json_get_int(q->row, "maxnum", 1, MAXNUM, &maxnum, st) || read_shape(q, &s, st))
        return NULL;
    ft_place *places = ft_alloc_array((size_t)maxnum, sizeof(*places));
    if (!places) {
        (void)ft_fail(st, FT_ERR_MEM, "out of memory");
        return NULL;
    }
    const uint64_t count = ft_query_occurrences(q->asker->set, q->ids, q->n, (size_t)maxnum, places, &found);
    json_t *idxs = json_array(), *out = NULL, *documents = documents_json(q, &s, places, found, idxs, st);
    char message[100];
    snprintf(message, sizeof(message), "%" PRIu64 " occurrence%s%s", count, count == 1 ? "" : "s",
             count > found ? "; the first are shown" : "");
    if (documents)
        out = json_pack("{s:o,s:b,s:O,s:o,s:s}", "cnt", count_json(count), "approx", 0, "idxs", idxs, "documents",
                        documents, "message", message);
    json_decref(idxs);
    free(places);
    return out;
}

/* --- Rows ---------------------------------------------------------------------------------------- */

static const struct {
    const char *op;
    answer_fn *answer;
    int needs_ids;
} ops[] = {
    {"count", answer_count, 1},
    {"find", answer_find, 1},
    {"prob", answer_prob, 1},
    {"ntd", answer_ntd, 1},
    {"infgram_prob", answer_infgram_prob, 1},
    {"infgram_ntd", answer_infgram_ntd, 1},
    {"cnf", answer_cnf, 0},
    {"docs", answer_docs, 1},
    {"doc", answer_doc, 0},
};

json_t *index_answer(index_asker *a, const json_t *row, ft_status *st)
{
    question q = {.asker = a, .row = row};
    const char *op = NULL;
    if (ft_json_get_string(row, "op", &op, st))
        return NULL;
    for (size_t i = 0; op && i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (strcmp(op, ops[i].op) != 0)
            continue;
        const int by_cnf = ops[i].answer == answer_count && has(&q, "cnf");
        json_t *out = ops[i].needs_ids && !by_cnf && read_ids(&q, st) ? NULL : ops[i].answer(&q, st);
        free(q.ids);
        return out;
    }
    (void)ft_fail(st, FT_ERR_ARG,
                  "'op' must be count, find, prob, ntd, infgram_prob, infgram_ntd, cnf, docs or doc%s%.40s",
                  op ? ", not " : "", op ? op : "");
    return NULL;
}
