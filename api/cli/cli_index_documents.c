/* `flextrace index query`: documents, and the windows of them that are shown. */
#include "api/cli/cli_index_internal.h"
#include "base/ft_buffer.h"
#include "base/ft_json.h"
#include "base/ft_utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- Pages ------------------------------------------------------------------------------ */

ft_code index_read_page(const index_question *q, int64_t low, size_t usual, index_page *out, ft_status *st)
{
    enum { MOST = 10000 };
    int64_t limit = (int64_t)usual;
    *out = (index_page){0};
    ft_code rc = index_read_count(q, "offset", 0, &out->offset, st);
    if (!rc)
        rc = ft_json_get_int(q->row, "maxnum", low, MOST, &limit, st);
    if (!rc)
        rc = ft_json_get_int(q->row, "limit", low, MOST, &limit, st);
    out->limit = (size_t)limit;
    return rc;
}

void index_add_page(json_t *out, const index_page *page, uint64_t listed, uint64_t count)
{
    const int more = page->offset < count && listed < count - page->offset;
    json_object_set_new(out, "has_more", json_boolean(more));
    json_object_set_new(out, "next_offset", more ? index_count_json(page->offset + listed) : json_null());
}

/* --- What is shown ----------------------------------------------------------------------- */

ft_code index_read_shape(const index_question *q, index_shape *s, ft_status *st)
{
    *s = (index_shape){
        .max_disp_len = 1000, .needle_len = q->n, .max_ctx_len = 0, .context = index_has(q, "max_ctx_len")};
    ft_code rc = index_read_count(q, "max_disp_len", 0, &s->max_disp_len, st);
    if (!rc)
        rc = index_read_count(q, "needle_len", 0, &s->needle_len, st);
    return rc ? rc : index_read_count(q, "max_ctx_len", 0, &s->max_ctx_len, st);
}

ft_code index_show_place(const index_question *q, const index_shape *s, const ft_place *place, ft_window *w,
                         ft_status *st)
{
    return s->context ? ft_query_context(q->asker->set, place, s->needle_len, s->max_ctx_len, w, st)
                      : ft_query_window(q->asker->set, place, s->needle_len, s->max_disp_len, w, st);
}

/* --- Text ------------------------------------------------------------------------------------ */

/* Whether what the index holds can be shown as text: a byte is its own. */
static int has_text(const index_question *q, const ft_index_info *info)
{
    return q->asker->tokenizer || (info->is_infinigram && info->token_bytes == 1);
}

static ft_code append_tokens(const index_question *q, const ft_index_info *info, const uint32_t *ids, size_t n,
                             ft_buffer *out, ft_status *st)
{
    const int bytes = info->is_infinigram && info->token_bytes == 1;
    ft_code rc = FT_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        size_t length = 1;
        const char byte = (char)ids[i];
        const char *text = bytes ? &byte : ft_tokenizer_token_bytes(q->asker->tokenizer, ids[i], &length, NULL);
        rc = ft_buffer_append(out, text, length, st);
    }
    return rc;
}

/* Of n bytes, how many come before a character that their end cuts. */
static size_t whole_characters(const char *bytes, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++)
        if ((unsigned char)bytes[n - back] >= 0xC0) {
            const ft_utf8_step s = ft_utf8_next(bytes + n - back, back);
            return s.incomplete && s.length == back ? n - back : n;
        }
    return n;
}

static void add_span(json_t *spans, const char *text, size_t from, size_t to, int found)
{
    if (from < to)
        json_array_append_new(
            spans, json_pack("[o,o]", ft_json_text(text + from, to - from), found ? json_string("0") : json_null()));
}

/* "text", and "spans": what is before, in and behind the needle, [[text, null], [text, "0"], …].
 * A character that a border between tokens cuts goes to the later piece. */
static ft_code add_text(const index_question *q, const ft_index_info *info, const ft_window *w,
                        const index_needle *needle, const uint32_t *ids, size_t n, json_t *out, ft_status *st)
{
    if (!has_text(q, info))
        return FT_OK;
    const size_t first = (size_t)w->needle_in_window < n ? (size_t)w->needle_in_window : n;
    const size_t found = needle->tokens < n - first ? (size_t)needle->tokens : n - first;
    ft_buffer text = {0};
    size_t from = 0, to = 0;
    ft_code rc = append_tokens(q, info, ids, first, &text, st);
    from = text.size;
    if (!rc)
        rc = append_tokens(q, info, ids + first, found, &text, st);
    to = text.size;
    if (!rc)
        rc = append_tokens(q, info, ids + first + found, n - first - found, &text, st);
    const char *bytes = text.data ? text.data : "";
    if (needle->by_bytes) {
        from = needle->lead < text.size - from ? from + (size_t)needle->lead : text.size;
        to = needle->bytes < text.size - from ? from + (size_t)needle->bytes : text.size;
    } else {
        from = whole_characters(bytes, from);
        to = to < text.size ? whole_characters(bytes, to) : to;
    }
    if (!rc) {
        json_t *spans = json_array();
        add_span(spans, bytes, 0, from, 0);
        add_span(spans, bytes, from, to, 1);
        add_span(spans, bytes, to, text.size, 0);
        json_object_set_new(out, "text", ft_json_text(bytes, text.size));
        json_object_set_new(out, "spans", spans);
    }
    ft_buffer_release(&text);
    return rc;
}

/* --- Documents ------------------------------------------------------------------------------- */

static void add_names(const ft_index_info *info, const ft_doc_ref *doc, json_t *out)
{
    if (out && !info->is_infinigram)
        json_object_set_new(out, "id", ft_json_text(doc->id, doc->id_bytes));
    if (out && info->owner[0])
        json_object_set_new(out, "owner", json_string(info->owner));
}

json_t *index_document_json(const index_question *q, uint32_t index, const ft_doc_ref *doc)
{
    const ft_index_info info = ft_index_get_info(q->asker->set.indexes[index]);
    json_t *out = json_pack("{s:o}", "doc_ix", index_count_json(doc->number));
    add_names(&info, doc, out);
    return out;
}

json_t *index_window_json(const index_question *q, const ft_window *w, const index_needle *needle, ft_status *st)
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
    json_t *out =
        json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:b}", "doc_ix", index_count_json(w->doc.number), "doc_len",
                  index_count_json(w->doc.length), "disp_len", index_count_json(n), "needle_offset",
                  index_count_json(w->needle_in_window), "metadata",
                  ft_json_text(w->doc.metadata, w->doc.metadata_bytes), "token_ids", ft_json_ids(ids, n), "blocked", 0);
    add_names(&info, &w->doc, out);
    if (out && add_text(q, &info, w, needle, ids, n, out, st)) {
        json_decref(out);
        out = NULL;
    }
    free(ids);
    return out;
}

json_t *index_answer_doc(const index_question *q, ft_status *st)
{
    const ft_index_set set = q->asker->set;
    uint64_t shard = 0, at = 0;
    ft_place place;
    ft_window w;
    index_shape s;
    const char *by = index_has(q, "rank") ? "rank" : index_has(q, "ptr") ? "ptr" : index_has(q, "ix") ? "ix" : "doc_ix";
    if (!index_has(q, by)) {
        (void)ft_fail(st, FT_ERR_ARG, "which document? give 'rank' or 'ptr' (with 's'), or 'ix'");
        return NULL;
    }
    ft_code rc = index_read_shape(q, &s, st);
    if (!rc)
        rc = index_read_count(q, "s", 0, &shard, st);
    if (!rc)
        rc = index_read_count(q, by, 0, &at, st);
    if (rc)
        return NULL;
    if (!strcmp(by, "rank") || !strcmp(by, "ptr")) {
        rc = by[0] == 'r' ? ft_query_rank(set, shard, at, &place, st) : ft_query_pointer(set, shard, at, &place, st);
        if (!rc)
            rc = index_show_place(q, &s, &place, &w, st);
    } else {
        rc = ft_query_document(set, at, s.max_disp_len, &w, st);
        s.needle_len = 0;
    }
    return rc ? NULL : index_window_json(q, &w, &(index_needle){.tokens = s.needle_len}, st);
}

/* A page's occurrences; those between two documents (of the empty n-gram) are left out. */
static json_t *documents_json(const index_question *q, const index_shape *s, const ft_place *places, size_t found,
                              uint64_t offset, json_t *idxs, ft_status *st)
{
    json_t *documents = json_array();
    for (size_t i = 0; i < found && documents; i++) {
        ft_window w;
        const ft_code rc = index_show_place(q, s, &places[i], &w, st);
        if (rc == FT_ERR_NOT_FOUND)
            continue;
        json_t *one = rc ? NULL : index_window_json(q, &w, &(index_needle){.tokens = s->needle_len}, st);
        if (!one || json_array_append_new(documents, one)) {
            json_decref(documents);
            return NULL;
        }
        json_array_append_new(idxs, index_count_json(offset + i));
    }
    return documents;
}

json_t *index_documents_answer(const index_page *page, uint64_t listed, uint64_t count, json_t *idxs, json_t *documents)
{
    char message[160], which[90] = "";
    if (listed && page->offset)
        snprintf(which, sizeof(which), "; from number %" PRIu64 " on, %" PRIu64 " are shown", page->offset, listed);
    else if (count > listed)
        snprintf(which, sizeof(which), "; the first are shown");
    snprintf(message, sizeof(message), "%" PRIu64 " occurrence%s%s", count, count == 1 ? "" : "s", which);
    json_t *out = json_pack("{s:o,s:b,s:o,s:o,s:s}", "cnt", index_count_json(count), "approx", 0, "idxs", idxs,
                            "documents", documents, "message", message);
    index_add_page(out, page, listed, count);
    return out;
}

json_t *index_answer_docs(const index_question *q, ft_status *st)
{
    index_page page;
    index_shape s;
    size_t found = 0;
    if (index_read_page(q, 1, 10, &page, st) || index_read_shape(q, &s, st))
        return NULL;
    ft_place *places = ft_alloc_array(page.limit, sizeof(*places));
    if (!places) {
        (void)ft_fail(st, FT_ERR_MEM, "out of memory");
        return NULL;
    }
    const uint64_t count =
        ft_query_occurrences_from(q->asker->set, q->ids, q->n, page.offset, page.limit, places, &found);
    json_t *idxs = json_array(), *documents = documents_json(q, &s, places, found, page.offset, idxs, st);
    free(places);
    if (documents)
        return index_documents_answer(&page, found, count, idxs, documents);
    json_decref(idxs);
    return NULL;
}
