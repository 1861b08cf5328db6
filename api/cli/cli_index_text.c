/* `flextrace index query`: "match":"text", which finds the bytes of a text, and
 * "leading_space":"both", which counts a text as it stands inside a line and at its start. */
#include "api/cli/cli_index_internal.h"
#include "base/ft_buffer.h"
#include "base/ft_json.h"

#include <stdlib.h>
#include <string.h>

ft_code index_read_match(const index_question *q, int *by_text, ft_status *st)
{
    const char *match = "tokens";
    int ignore_case = 0;
    ft_code rc = ft_json_get_string(q->row, "match", &match, st);
    if (!rc)
        rc = ft_json_get_bool(q->row, "ignore_case", &ignore_case, st);
    if (rc)
        return rc;
    *by_text = !strcmp(match, "text");
    if (!*by_text && strcmp(match, "tokens") != 0)
        return ft_fail(st, FT_ERR_ARG, "'match' must be tokens or text, not %.40s", match);
    if (ignore_case && !*by_text)
        return ft_fail(st, FT_ERR_ARG, "'ignore_case' is for \"match\":\"text\"");
    return FT_OK;
}

ft_code index_read_leading_space(const index_question *q, int *both, ft_status *st)
{
    const char *which = "as_given";
    ft_code rc = ft_json_get_string(q->row, "leading_space", &which, st);
    *both = !strcmp(which, "both");
    if (!rc && !*both && strcmp(which, "as_given") != 0)
        rc = ft_fail(st, FT_ERR_ARG, "'leading_space' must be both or as_given, not %.40s", which);
    return rc;
}

/* --- Asking -------------------------------------------------------------------------------- */

enum { AS_GIVEN, WITHOUT_SPACE, WITH_SPACE };

/* Appends the row's "text", by its length: a string may hold NUL. */
static ft_code read_text(const index_question *q, int space, ft_buffer *out, ft_status *st)
{
    const char *text = NULL;
    size_t n = 0;
    ft_code rc = ft_json_get_text(q->row, "text", &text, &n, st);
    if (!rc && (!text || index_has(q, "ids")))
        rc = ft_fail(st, FT_ERR_ARG, "%s",
                     text ? "give 'text' alone: 'ids' are not looked for as text" : "the text is missing: give 'text'");
    if (rc)
        return rc;
    if (space != AS_GIVEN && n && text[0] == ' ') {
        text++;
        n--;
    }
    if (space != AS_GIVEN && n == 0)
        return ft_fail(st, FT_ERR_ARG, "\"leading_space\":\"both\" needs a text behind the space");
    if (space == WITH_SPACE)
        rc = ft_buffer_append_str(out, " ", st);
    return rc ? rc : ft_buffer_append(out, text, n, st);
}

/* `text` has to live as long as the query. */
static ft_code read_query(const index_question *q, int space, ft_text_query *out, ft_buffer *text, ft_status *st)
{
    *out = (ft_text_query){0};
    ft_code rc = ft_json_get_bool(q->row, "ignore_case", &out->ignore_case, st);
    if (!rc)
        rc = read_text(q, space, text, st);
    out->text = text->data ? text->data : "";
    out->bytes = text->size;
    return rc;
}

static ft_code ask(const index_question *q, const ft_text_query *query, ft_text_matches *out, ft_status *st)
{
    index_asker *a = q->asker;
    ft_code rc = FT_OK;
    *out = (ft_text_matches){0};
    if (!a->tokenizer)
        for (size_t i = 0; i < a->set.count; i++) {
            const ft_index_info info = ft_index_get_info(a->indexes[i]);
            if (!info.is_infinigram || info.token_bytes > 1)
                return ft_fail(st, FT_ERR_ARG, "\"match\":\"text\" needs a tokenizer; give -t TOK");
        }
    if (!a->matcher)
        rc = ft_text_matcher_new(&a->matcher, a->set, a->tokenizer, st);
    return rc ? rc : ft_text_match(a->matcher, a->set, query, out, st);
}

/* --- Counts ---------------------------------------------------------------------------------- */

static ft_code count_text(const index_question *q, int space, uint64_t *count, ft_status *st)
{
    ft_text_query query;
    ft_text_matches m = {0};
    ft_buffer text = {0};
    ft_code rc = read_query(q, space, &query, &text, st);
    if (!rc)
        rc = ask(q, &query, &m, st);
    *count = m.count;
    ft_text_matches_release(&m);
    ft_buffer_release(&text);
    return rc;
}

json_t *index_text_count(const index_question *q, ft_status *st)
{
    uint64_t count;
    if (count_text(q, AS_GIVEN, &count, st))
        return NULL;
    return json_pack("{s:o,s:b}", "count", index_count_json(count), "approx", 0);
}

static ft_code encode(const index_question *q, int space, uint32_t **ids, size_t *n, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = read_text(q, space, &text, st);
    if (!rc)
        rc = index_encode(q->asker, text.data, text.size, ids, n, st);
    ft_buffer_release(&text);
    return rc;
}

/* Occurrences of either encoding. Where the one with the space only adds a token in front
 * (" 日本"), its occurrences are among the other's. */
static ft_code count_encodings(const index_question *q, uint64_t *with, uint64_t *all, ft_status *st)
{
    uint32_t *bare = NULL, *spaced = NULL;
    size_t n = 0, m = 0;
    ft_code rc = encode(q, WITHOUT_SPACE, &bare, &n, st);
    if (!rc)
        rc = encode(q, WITH_SPACE, &spaced, &m, st);
    if (!rc) {
        const int within = m > n && memcmp(spaced + (m - n), bare, n * sizeof(*bare)) == 0;
        *with = ft_query_count(q->asker->set, spaced, m);
        *all = ft_query_count(q->asker->set, bare, n) + (within ? 0 : *with);
    }
    free(bare);
    free(spaced);
    return rc;
}

json_t *index_count_both_spaces(const index_question *q, int by_text, ft_status *st)
{
    uint64_t with = 0, all = 0;
    ft_code rc;
    if (by_text) { /* what has a space in front has none in front of it, too */
        rc = count_text(q, WITH_SPACE, &with, st);
        if (!rc)
            rc = count_text(q, WITHOUT_SPACE, &all, st);
    } else {
        rc = count_encodings(q, &with, &all, st);
    }
    if (rc)
        return NULL;
    return json_pack("{s:o,s:b,s:o,s:o}", "count", index_count_json(all), "approx", 0, "with_space",
                     index_count_json(with), "without_space", index_count_json(all - with));
}

/* --- Lists ------------------------------------------------------------------------------------- */

/* The page that the row asks for. */
static ft_code ask_page(const index_question *q, int64_t low, size_t usual, index_page *page, ft_text_matches *out,
                        ft_status *st)
{
    ft_text_query query;
    ft_buffer text = {0};
    *out = (ft_text_matches){0};
    ft_code rc = index_read_page(q, low, usual, page, st);
    if (!rc)
        rc = read_query(q, AS_GIVEN, &query, &text, st);
    if (!rc) {
        query.from = page->offset;
        query.limit = page->limit;
        rc = ask(q, &query, out, st);
    }
    ft_buffer_release(&text);
    return rc;
}

static void add_place(json_t *out, const ft_text_occurrence *o)
{
    json_object_set_new(out, "byte", index_count_json(o->byte));
    json_object_set_new(out, "bytes", index_count_json(o->bytes));
    json_object_set_new(out, "token", index_count_json(o->token));
    json_object_set_new(out, "tokens", index_count_json(o->tokens));
}

static json_t *occurrence_json(const index_question *q, const ft_text_occurrence *o, ft_status *st)
{
    ft_window w;
    if (ft_query_context(q->asker->set, &o->place, o->tokens, 0, &w, st))
        return NULL;
    json_t *out = index_document_json(q, o->place.index, &w.doc);
    add_place(out, o);
    return out;
}

static json_t *shown_json(const index_question *q, const index_shape *shape, const ft_text_occurrence *o, ft_status *st)
{
    ft_window w;
    index_shape s = *shape;
    s.needle_len = o->tokens;
    if (index_show_place(q, &s, &o->place, &w, st))
        return NULL;
    const index_needle needle = {
        .tokens = o->tokens, .lead = o->byte - o->token_byte, .bytes = o->bytes, .by_bytes = 1};
    json_t *out = index_window_json(q, &w, &needle, st);
    if (out)
        add_place(out, o);
    return out;
}

/* All of the page; `shape` NULL: without the documents' text. */
static json_t *list_json(const index_question *q, const index_shape *shape, const ft_text_matches *m, ft_status *st)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->listed && list; i++) {
        const ft_text_occurrence *o = &m->occurrences[i];
        json_t *one = shape ? shown_json(q, shape, o, st) : occurrence_json(q, o, st);
        if (!one || json_array_append_new(list, one)) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

json_t *index_text_find(const index_question *q, ft_status *st)
{
    index_page page;
    ft_text_matches m;
    json_t *out = NULL, *list = ask_page(q, 0, 100, &page, &m, st) ? NULL : list_json(q, NULL, &m, st);
    if (list) {
        out = json_pack("{s:o,s:b,s:o}", "cnt", index_count_json(m.count), "approx", 0, "occurrences", list);
        index_add_page(out, &page, m.listed, m.count);
    }
    ft_text_matches_release(&m);
    return out;
}

json_t *index_text_docs(const index_question *q, ft_status *st)
{
    index_page page;
    index_shape shape;
    ft_text_matches m = {0};
    json_t *out = NULL, *list = NULL;
    if (!index_read_shape(q, &shape, st) && !ask_page(q, 1, 10, &page, &m, st))
        list = list_json(q, &shape, &m, st);
    if (list) {
        json_t *idxs = json_array();
        for (size_t i = 0; i < m.listed; i++)
            json_array_append_new(idxs, index_count_json(page.offset + i));
        out = index_documents_answer(&page, m.listed, m.count, idxs, list);
    }
    ft_text_matches_release(&m);
    return out;
}
