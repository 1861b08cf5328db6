/* infini-gram's find and its documents. A shard is a part of an index; a ptr is a
 * byte position in it, as in infini-gram's tokenized.N. */
#include "api/infinigram_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

ft_code ft_gram_find(ft_gram_query *g, ft_status *st)
{
    json_t *segments = json_array();
    uint64_t count = 0;
    for (size_t x = 0; x < g->set->count; x++) {
        ft_match m;
        ft_index_find(g->set->indexes[x], g->ids, g->count, &m);
        count += m.count;
        for (unsigned p = 0; p < ft_index_get_info(g->set->indexes[x]).parts; p++)
            (void)json_array_append_new(segments,
                                        json_pack("[I,I]", (json_int_t)m.part[p].lo, (json_int_t)m.part[p].hi));
    }
    g->answer = json_pack("{s:I,s:o}", "cnt", (json_int_t)count, "segment_by_shard", segments);
    return g->answer ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

static ft_code solve_cnf(const ft_gram_query *g, ft_cnf_result *r, ft_status *st)
{
    ft_clause *clauses = ft_gram_clauses(g);
    const ft_code rc = clauses ? ft_query_cnf(*g->set, clauses, g->clause_count, (uint64_t)g->max_diff_tokens,
                                              (uint64_t)g->max_clause_freq, r, st)
                               : ft_fail(st, FT_ERR_MEM, "out of memory");
    free(clauses);
    return rc;
}

ft_code ft_gram_find_cnf(ft_gram_query *g, ft_status *st)
{
    ft_cnf_result r = {0};
    ft_code rc = solve_cnf(g, &r, st);
    json_t *shards = json_array();
    for (size_t x = 0; !rc && x < g->set->count; x++) {
        const ft_index_info info = ft_index_get_info(g->set->indexes[x]);
        for (unsigned p = 0; p < info.parts; p++) {
            json_t *ptrs = json_array();
            for (size_t i = 0; i < r.place_count; i++)
                if (r.places[i].index == x && r.places[i].part == p)
                    (void)json_array_append_new(
                        ptrs, json_integer((json_int_t)r.places[i].pos * (json_int_t)info.token_bytes));
            (void)json_array_append_new(shards, ptrs);
        }
    }
    if (!rc)
        g->answer = json_pack("{s:I,s:b,s:O}", "cnt", (json_int_t)r.count, "approx", r.approx, "ptrs_by_shard", shards);
    if (!rc && !g->answer)
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    json_decref(shards);
    ft_cnf_result_release(&r);
    return rc;
}

/* --- Documents ------------------------------------------------------------------------- */

/* Clause of the first n-gram that stands at ids[at..]; its length, or 0. */
static size_t ngram_at(const ft_gram_query *g, const uint32_t *ids, size_t n, size_t at, size_t *clause)
{
    const ft_ngram *ngram = g->ngrams;
    for (*clause = 0; *clause < g->clause_count; ++*clause)
        for (size_t i = 0; i < g->clause_sizes[*clause]; i++, ngram++)
            if (ngram->n && ngram->n <= n - at && !memcmp(ids + at, ngram->ids, ngram->n * sizeof(*ids)))
                return ngram->n;
    return 0;
}

static void add_piece(const ft_gram_query *g, json_t *list, const uint32_t *ids, size_t from, size_t to, json_t *clause)
{
    if (to > from)
        (void)json_array_append_new(
            list, json_pack("[o,o]", ft_decoded_text(g->q->server->tokenizer, ids + from, to - from), clause));
    else
        json_decref(clause);
}

/* The text cut at the query's n-grams: [[text, null], [text, "0"], …]. */
static json_t *spans_json(const ft_gram_query *g, const uint32_t *ids, size_t n)
{
    json_t *list = json_array();
    size_t plain = 0, clause;
    for (size_t at = 0; at < n;) {
        const size_t length = ngram_at(g, ids, n, at, &clause);
        if (!length) {
            at++;
            continue;
        }
        add_piece(g, list, ids, plain, at, json_null());
        add_piece(g, list, ids, at, at + length, json_sprintf("%zu", clause));
        at += length;
        plain = at;
    }
    add_piece(g, list, ids, plain, n, json_null());
    return list;
}

ft_code ft_gram_document_json(const ft_gram_query *g, const ft_occurrence *o, json_t **out, ft_status *st)
{
    uint32_t *ids = NULL;
    size_t n, needle;
    const size_t most = (size_t)g->max_disp_len, around = most > o->n ? most - o->n : 0;
    const uint64_t behind = o->document.length - o->offset - o->n;
    size_t before = around / 2 < o->offset ? around / 2 : (size_t)o->offset;
    if (around - before > behind) /* room that the end does not need goes to the beginning */
        before = around - (size_t)behind < o->offset ? around - (size_t)behind : (size_t)o->offset;
    ft_code rc = ft_occurrence_window(o, before, around - before, &ids, &n, &needle, st);
    *out = NULL;
    if (!rc) {
        if (n > most) /* a needle longer than the display */
            n = most;
        *out = json_pack("{s:I,s:I,s:I,s:o,s:o,s:o,s:b}", "doc_ix", (json_int_t)o->number, "doc_len",
                         (json_int_t)o->document.length, "disp_len", (json_int_t)n, "metadata",
                         ft_metadata_json(&o->document), "token_ids", ft_json_ids(ids, n), "spans",
                         spans_json(g, ids, n), "blocked", 0);
        if (!*out)
            rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    free(ids);
    return rc;
}

/* Tokens of the query where it is one n-gram: what is centred in the display. */
static size_t needle_tokens(const ft_gram_query *g)
{
    return g->ngram_count == 1 ? g->ngrams[0].n : 1;
}

static ft_code answer_position(ft_gram_query *g, size_t index, unsigned part, uint64_t position, ft_status *st)
{
    ft_occurrence o;
    ft_code rc = ft_occurrence_at(g->set, index, part, position, needle_tokens(g), &o, st);
    if (rc == FT_ERR_NOT_FOUND) /* between two documents, one of them empty */
        return ft_gram_soft_error(g, "no document holds this position");
    return rc ? rc : ft_gram_document_json(g, &o, &g->answer, st);
}

/* Suffixes of a shard: its tokens and ends of documents. */
static uint64_t shard_size(const ft_index *ix, unsigned part)
{
    ft_match all;
    ft_index_find(ix, NULL, 0, &all);
    return all.part[part].hi;
}

ft_code ft_gram_document_by_rank(ft_gram_query *g, ft_status *st)
{
    size_t index;
    unsigned part;
    if (g->rank < 0)
        return ft_fail(st, FT_ERR_ARG, "s and rank must be present");
    if (!ft_shard_find(g->set, (uint64_t)g->s, &index, &part))
        return ft_gram_soft_error(g, "s must be the number of a shard");
    if ((uint64_t)g->rank >= shard_size(g->set->indexes[index], part))
        return ft_gram_soft_error(g, "rank must be below the shard's number of tokens");
    return answer_position(g, index, part, ft_index_position(g->set->indexes[index], part, (uint64_t)g->rank), st);
}

ft_code ft_gram_document_by_ptr(ft_gram_query *g, ft_status *st)
{
    size_t index;
    unsigned part;
    if (g->ptr < 0)
        return ft_fail(st, FT_ERR_ARG, "s and ptr must be present");
    if (!ft_shard_find(g->set, (uint64_t)g->s, &index, &part))
        return ft_gram_soft_error(g, "s must be the number of a shard");
    const unsigned width = ft_index_get_info(g->set->indexes[index]).token_bytes;
    const uint64_t position = (uint64_t)g->ptr / (width ? width : 1);
    if (position >= shard_size(g->set->indexes[index], part))
        return ft_gram_soft_error(g, "ptr must be below the shard's size");
    return answer_position(g, index, part, position, st);
}

/* --- search_docs ----------------------------------------------------------------------- */

/* Up to maxnum of a CNF's matches, evenly over all of them. */
static ft_code search_cnf(ft_gram_query *g, ft_occurrence *found, size_t *count, uint64_t *total, int *approx,
                          uint64_t *numbers, ft_status *st)
{
    ft_cnf_result r = {0};
    ft_code rc = solve_cnf(g, &r, st);
    const size_t most = r.place_count < (size_t)g->maxnum ? r.place_count : (size_t)g->maxnum;
    for (size_t i = 0; !rc && i < most; i++) {
        numbers[i] = (uint64_t)r.place_count * i / most;
        const ft_place *p = &r.places[numbers[i]];
        rc = ft_occurrence_at(g->set, p->index, p->part, p->pos, needle_tokens(g), &found[(*count)++], st);
    }
    *total = r.count;
    *approx = r.approx;
    ft_cnf_result_release(&r);
    return rc;
}

ft_code ft_gram_search_answer(ft_gram_query *g, uint64_t total, int approx, json_t *idxs, json_t *documents,
                              ft_status *st)
{
    g->answer = json_pack("{s:I,s:b,s:O,s:O,s:o}", "cnt", (json_int_t)total, "approx", approx, "idxs", idxs,
                          "documents", documents, "message",
                          json_sprintf("%s %" PRIu64 " occurrences found; showing %zu", approx ? "About" : "Exactly",
                                       total, json_array_size(documents)));
    return g->answer ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

ft_code ft_gram_search(ft_gram_query *g, ft_status *st)
{
    ft_occurrence found[10];
    uint64_t numbers[10] = {0}, total = 0;
    size_t count = 0;
    int approx = 0;
    ft_code rc = FT_OK;
    if (g->is_cnf) {
        rc = search_cnf(g, found, &count, &total, &approx, numbers, st);
    } else {
        total = ft_query_count(*g->set, g->ids, g->count);
        if (g->count) /* the empty query has no occurrence to show */
            rc = ft_occurrences_sample(g->set, g->ids, g->count, (size_t)g->maxnum, found, &count, st);
        for (size_t i = 0; i < count; i++)
            numbers[i] = i;
    }
    json_t *documents = json_array(), *idxs = json_array();
    for (size_t i = 0; !rc && i < count; i++) {
        json_t *d = NULL;
        rc = ft_gram_document_json(g, &found[i], &d, st);
        (void)json_array_append_new(idxs, json_integer((json_int_t)numbers[i]));
        (void)json_array_append_new(documents, d);
    }
    if (!rc)
        rc = ft_gram_search_answer(g, total, approx, idxs, documents, st);
    json_decref(documents);
    json_decref(idxs);
    return rc;
}
