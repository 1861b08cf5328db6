/* infinigram-api's documents and counts: /{index}/documents…, /{index}/count. */
#include "api/routes_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAGE = 100, MAX_SHOWN_TOKENS = 10000, MAX_ASKED = 100 };

/* A document, or the part of it around a match. */
static ft_code document_json(const ft_server *s, const ft_occurrence *o, size_t most, json_t **out, ft_status *st)
{
    uint32_t *ids = NULL;
    size_t n, needle;
    const size_t around = most > o->n ? most - o->n : 0;
    const size_t before = around / 2 < o->offset ? around / 2 : (size_t)o->offset;
    ft_code rc = ft_occurrence_window(o, before, around - before, &ids, &n, &needle, st);
    *out = NULL;
    if (!rc)
        *out = json_pack("{s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:b}", "documentIndex", (json_int_t)o->number, "documentLength",
                         (json_int_t)o->document.length, "displayLength", (json_int_t)n, "needleOffset",
                         (json_int_t)needle, "metadata", ft_metadata_json(&o->document), "tokenIds",
                         ft_json_ids(ids, n), "text", ft_decoded_text(s->tokenizer, ids, n), "blocked", 0);
    if (!rc && !*out)
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    free(ids);
    return rc;
}

/* The set named by the path; the caller frees. NULL after refusing. */
static ft_named_set *named_set(ft_request *q)
{
    ft_named_set *named = malloc(sizeof(*named));
    if (!named)
        ft_refuse(q, 503, "server-overloaded", NULL, "out of memory");
    if (named && ft_index_set_named(q, q->segment[0], named))
        return named;
    free(named);
    return NULL;
}

/* `param`: where it stands in the URL. */
static int read_document_number(ft_request *q, const char *param, const char *text, uint64_t *out)
{
    char *end;
    if (text[0] >= '0' && text[0] <= '9') {
        *out = strtoull(text, &end, 10);
        if (!*end)
            return 1;
    }
    ft_refuse(q, 400, NULL, param, "'%.40s' is not the number of a document", text);
    return 0;
}

void ft_route_document(ft_request *q)
{
    uint64_t number;
    int64_t most = MAX_SHOWN_TOKENS;
    if (!read_document_number(q, "document_index", q->segment[1], &number) ||
        !ft_request_query_int(q, "maximum_document_display_length", 1, MAX_SHOWN_TOKENS, &most))
        return;
    ft_named_set *named = named_set(q);
    if (!named)
        return;
    ft_occurrence o;
    ft_status st = {0};
    json_t *d = NULL;
    ft_code rc = ft_occurrence_of_document(&named->set, number, &o, &st);
    if (!rc)
        rc = document_json(q->server, &o, (size_t)most, &d, &st);
    if (rc)
        ft_refuse_status(q, NULL, &st);
    else if (json_object_set_new(d, "index", json_string(q->segment[0])) == 0)
        ft_answer_json(q, 200, json_incref(d));
    json_decref(d);
    free(named);
}

/* ?document_indexes=1&document_indexes=2 */
typedef struct asked {
    ft_request *q;
    uint64_t numbers[MAX_ASKED];
    size_t count;
} asked;

static enum MHD_Result take_number(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
    asked *a = context;
    (void)kind;
    if (strcmp(key, "document_indexes") != 0)
        return MHD_YES;
    if (a->count == MAX_ASKED) {
        ft_refuse(a->q, 400, NULL, "document_indexes", "at most %d documents at once", MAX_ASKED);
        return MHD_NO;
    }
    return read_document_number(a->q, key, value ? value : "", &a->numbers[a->count++]) ? MHD_YES : MHD_NO;
}

static void answer_asked(ft_request *q, const ft_named_set *named, const asked *a)
{
    json_t *list = json_array();
    ft_status st = {0};
    ft_code rc = FT_OK;
    int64_t most = MAX_SHOWN_TOKENS;
    if (!ft_request_query_int(q, "maximum_document_display_length", 1, MAX_SHOWN_TOKENS, &most)) {
        json_decref(list);
        return;
    }
    for (size_t i = 0; !rc && i < a->count; i++) {
        ft_occurrence o;
        json_t *d = NULL;
        rc = ft_occurrence_of_document(&named->set, a->numbers[i], &o, &st);
        if (!rc)
            rc = document_json(q->server, &o, (size_t)most, &d, &st);
        if (!rc)
            (void)json_array_append_new(list, d);
    }
    if (rc) {
        json_decref(list);
        ft_refuse_status(q, NULL, &st);
        return;
    }
    ft_answer_json(q, 200, json_pack("{s:s,s:o}", "index", q->segment[0], "documents", list));
}

/* The k-th occurrence of a pattern, through indexes, parts and ranks. */
static ft_code nth(const ft_index_set *set, const uint32_t *ids, size_t n, uint64_t k, ft_occurrence *out,
                   ft_status *st)
{
    for (size_t x = 0; x < set->count; x++) {
        ft_match m;
        ft_index_find(set->indexes[x], ids, n, &m);
        for (unsigned p = 0; p < FT_INDEX_MAX_PARTS && k < m.count; p++) {
            const uint64_t here = m.part[p].hi - m.part[p].lo;
            if (k < here)
                return ft_occurrence_at(set, x, p, ft_index_position(set->indexes[x], p, m.part[p].lo + k), n, out, st);
            k -= here;
            m.count -= here;
        }
        k -= m.count;
    }
    return ft_fail(st, FT_ERR_NOT_FOUND, "no such occurrence");
}

/* ?search=: the documents of its occurrences, in pages; without it all documents. */
static void answer_search(ft_request *q, const ft_named_set *named)
{
    const char *search = ft_request_query(q, "search");
    int64_t page = 0, size = 10, most = 10;
    if (!ft_request_query_int(q, "page", 0, INT32_MAX, &page) ||
        !ft_request_query_int(q, "page_size", 1, MAX_PAGE, &size) ||
        !ft_request_query_int(q, "maximum_document_display_length", 1, MAX_SHOWN_TOKENS, &most))
        return;
    ft_encoding e = {0};
    ft_status st = {0};
    ft_code rc = search && search[0] ? ft_encode_text(q->server, search, strlen(search), &e, &st) : FT_OK;
    uint64_t total = 0;
    for (size_t i = 0; !rc && !e.count && i < named->set.count; i++)
        total += ft_index_get_info(named->list[i]).documents;
    if (!rc && e.count)
        total = ft_query_count(named->set, e.ids, e.count);
    json_t *list = json_array();
    const uint64_t first = (uint64_t)page * (uint64_t)size;
    for (uint64_t k = first; !rc && k < total && k < first + (uint64_t)size; k++) {
        ft_occurrence o;
        json_t *d = NULL;
        rc =
            e.count ? nth(&named->set, e.ids, e.count, k, &o, &st) : ft_occurrence_of_document(&named->set, k, &o, &st);
        if (!rc)
            rc = document_json(q->server, &o, (size_t)most, &d, &st);
        if (!rc)
            (void)json_array_append_new(list, d);
    }
    ft_encoding_release(&e);
    if (rc) {
        json_decref(list);
        ft_refuse_status(q, NULL, &st);
        return;
    }
    ft_answer_json(q, 200,
                   json_pack("{s:s,s:o,s:I,s:I,s:I,s:I}", "index", q->segment[0], "documents", list, "page",
                             (json_int_t)page, "pageSize", (json_int_t)size, "pageCount",
                             (json_int_t)((total + (uint64_t)size - 1) / (uint64_t)size), "totalDocuments",
                             (json_int_t)total));
}

void ft_route_documents(ft_request *q)
{
    asked a = {.q = q};
    (void)MHD_get_connection_values(q->connection, MHD_GET_ARGUMENT_KIND, take_number, &a);
    ft_named_set *named = q->answered ? NULL : named_set(q);
    if (named && a.count)
        answer_asked(q, named, &a);
    else if (named)
        answer_search(q, named);
    free(named);
}

void ft_route_count(ft_request *q)
{
    const char *query = ft_request_query(q, "query");
    ft_encoding e = {0};
    ft_status st = {0};
    ft_named_set *named = named_set(q);
    if (!named)
        return;
    if (!query)
        ft_refuse(q, 400, NULL, "query", "'query' is required");
    else if (ft_encode_text(q->server, query, strlen(query), &e, &st) != FT_OK)
        ft_refuse_status(q, "query", &st);
    else
        ft_answer_json(q, 200,
                       json_pack("{s:s,s:b,s:I}", "index", q->segment[0], "approx", 0, "count",
                                 (json_int_t)ft_query_count(named->set, e.ids, e.count)));
    ft_encoding_release(&e);
    free(named);
}
