/* POST / with "match":"text", ours beside infini-gram's fields: count, find and search_docs of the
 * query's bytes, wherever they stand in the documents' texts and whatever tokens hold them. */
#include "api/infinigram_internal.h"
#include "index/ft_text_match.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

ft_code ft_gram_read_match(const ft_request *q, int *by_text, ft_status *st)
{
    const char *match = "tokens";
    ft_code rc = ft_json_get_string(q->json, "match", &match, st);
    *by_text = !rc && !strcmp(match, "text");
    if (!rc && !*by_text && strcmp(match, "tokens") != 0)
        return ft_fail(st, FT_ERR_ARG, "match must be tokens or text, not %.40s", match);
    if (!rc && !*by_text && json_object_get(q->json, "ignore_case"))
        return ft_fail(st, FT_ERR_ARG, "ignore_case is for \"match\":\"text\"");
    if (!rc && *by_text && !json_is_string(json_object_get(q->json, "query")))
        return ft_fail(st, FT_ERR_ARG, "\"match\":\"text\" looks for a text: give query, not query_ids");
    return rc;
}

/* One for all owners' indexes, made when the first text is looked for: it sorts the vocabulary. */
static ft_code matcher_of(ft_request *q, const ft_text_matcher **out, ft_status *st)
{
    ft_server *s = q->server;
    ft_code rc = FT_OK;
    pthread_mutex_lock(&s->matcher_lock);
    if (!s->matcher) {
        ft_named_set *all = malloc(sizeof(*all));
        if (all) {
            ft_index_set_all(ft_request_scope(q), all);
            rc = ft_text_matcher_new(&s->matcher, all->set, s->tokenizer, st);
        } else {
            rc = ft_fail(st, FT_ERR_MEM, "out of memory");
        }
        free(all);
    }
    *out = s->matcher;
    pthread_mutex_unlock(&s->matcher_lock);
    return rc;
}

/* All occurrences are counted, [from, from + limit) of them listed. */
static ft_code look_for(ft_gram_query *g, uint64_t from, size_t limit, ft_text_matches *out, ft_status *st)
{
    const json_t *text = json_object_get(g->q->json, "query");
    ft_text_query query = {
        .text = json_string_value(text), .bytes = json_string_length(text), .from = from, .limit = limit};
    const ft_text_matcher *matcher = NULL;
    *out = (ft_text_matches){0};
    ft_code rc = ft_json_get_bool(g->q->json, "ignore_case", &query.ignore_case, st);
    if (!rc)
        rc = matcher_of(g->q, &matcher, st);
    return rc ? rc : ft_text_match(matcher, *g->set, &query, out, st);
}

ft_code ft_gram_text_count(ft_gram_query *g, ft_status *st)
{
    ft_text_matches m;
    ft_code rc = look_for(g, 0, 0, &m, st);
    if (!rc && !(g->answer = json_pack("{s:I,s:b}", "count", (json_int_t)m.count, "approx", 0)))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    ft_text_matches_release(&m);
    return rc;
}

/* --- Lists ----------------------------------------------------------------------------------- */

static void put_place(json_t *out, const ft_text_occurrence *o)
{
    (void)json_object_set_new(out, "doc_ix", json_integer((json_int_t)o->document));
    (void)json_object_set_new(out, "byte", json_integer((json_int_t)o->byte));
    (void)json_object_set_new(out, "bytes", json_integer((json_int_t)o->bytes));
    (void)json_object_set_new(out, "token", json_integer((json_int_t)o->token));
    (void)json_object_set_new(out, "tokens", json_integer((json_int_t)o->tokens));
}

/* Number of the shard among all of the set's. */
static json_int_t shard_of(const ft_index_set *set, const ft_place *p)
{
    json_int_t shard = (json_int_t)p->part;
    for (size_t x = 0; x < p->index; x++)
        shard += (json_int_t)ft_index_get_info(set->indexes[x]).parts;
    return shard;
}

ft_code ft_gram_text_find(ft_gram_query *g, ft_status *st)
{
    ft_text_matches m;
    ft_code rc = look_for(g, (uint64_t)g->offset, (size_t)g->limit, &m, st);
    json_t *list = json_array();
    for (size_t i = 0; !rc && i < m.listed; i++) {
        const ft_text_occurrence *o = &m.occurrences[i];
        const json_int_t width = (json_int_t)ft_index_get_info(g->set->indexes[o->place.index]).token_bytes;
        json_t *one = json_pack("{s:I,s:I}", "s", shard_of(g->set, &o->place), "ptr", (json_int_t)o->place.pos * width);
        if (one)
            put_place(one, o);
        if (json_array_append_new(list, one))
            rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    const uint64_t next = (uint64_t)g->offset + m.listed;
    if (!rc)
        g->answer =
            json_pack("{s:I,s:b,s:O,s:o}", "cnt", (json_int_t)m.count, "approx", 0, "occurrences", list, "next_offset",
                      m.listed && next < m.count ? json_integer((json_int_t)next) : json_null());
    if (!rc && !g->answer)
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    json_decref(list);
    ft_text_matches_release(&m);
    return rc;
}

/* The document around an occurrence; its tokens take the n-gram's place in `spans`. */
static ft_code shown(ft_gram_query *g, const ft_text_occurrence *o, json_t **out, ft_status *st)
{
    const size_t n = (size_t)o->tokens;
    ft_occurrence found;
    uint32_t *ids = ft_alloc_array(n, sizeof(*ids));
    ft_code rc = ids ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_occurrence_at(g->set, o->place.index, o->place.part, o->place.pos, n, &found, st);
    if (!rc) {
        ft_ngram needle = {ids, n};
        size_t one = 1;
        ft_gram_query of = *g;
        ft_index_tokens(g->set->indexes[o->place.index], o->place.part, o->place.pos, n, ids);
        of.ngrams = &needle;
        of.clause_sizes = &one;
        of.ngram_count = of.clause_count = 1;
        rc = ft_gram_document_json(&of, &found, out, st);
    }
    if (!rc)
        put_place(*out, o);
    free(ids);
    return rc;
}

ft_code ft_gram_text_search(ft_gram_query *g, ft_status *st)
{
    ft_text_matches m;
    ft_code rc = look_for(g, (uint64_t)g->offset, (size_t)g->maxnum, &m, st);
    json_t *documents = json_array(), *idxs = json_array();
    for (size_t i = 0; !rc && i < m.listed; i++) {
        json_t *d = NULL;
        rc = shown(g, &m.occurrences[i], &d, st);
        (void)json_array_append_new(idxs, json_integer((json_int_t)g->offset + (json_int_t)i));
        (void)json_array_append_new(documents, d);
    }
    if (!rc)
        rc = ft_gram_search_answer(g, m.count, 0, idxs, documents, st);
    json_decref(documents);
    json_decref(idxs);
    ft_text_matches_release(&m);
    return rc;
}
