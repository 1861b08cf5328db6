#include "index/ft_document_set.h"

#include "base/ft_buffer.h"
#include "base/ft_json.h"
#include "index/ft_text_match.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    REPORT_EVERY = 1 << 12, /* documents */
    TEXT_PAGE = 1 << 16     /* occurrences listed at once */
};

ft_code ft_document_set_init(ft_document_set *out, const ft_index *index, ft_status *st)
{
    *out = (ft_document_set){.index = index};
    out->bits = ft_alloc_array((size_t)(ft_index_get_info(index).documents / 64 + 1), sizeof(*out->bits));
    return out->bits ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", ft_index_get_info(index).folder);
}

void ft_document_set_release(ft_document_set *s)
{
    if (s)
        free(s->bits);
    if (s)
        *s = (ft_document_set){0};
}

ft_code ft_document_set_add(ft_document_set *s, const ft_doc_ref *doc, ft_status *st)
{
    const ft_index_info info = ft_index_get_info(s->index);
    if (doc->number >= info.documents)
        return ft_fail(st, FT_ERR_FORMAT, "%s: document %" PRIu64 " of %" PRIu64, info.folder, doc->number,
                       info.documents);
    const uint64_t bit = (uint64_t)1 << doc->number % 64;
    uint64_t *word = &s->bits[doc->number / 64];
    if (*word & bit)
        return FT_OK;
    *word |= bit;
    s->documents++;
    s->tokens += doc->length;
    return FT_OK;
}

static ft_code add_document(void *context, const ft_doc_ref *doc, ft_status *st)
{
    return ft_document_set_add(context, doc, st);
}

ft_code ft_document_set_add_id(ft_document_set *s, const char *id, uint64_t *found, ft_status *st)
{
    uint64_t ignored;
    return ft_index_documents_by_id(s->index, id, add_document, s, found ? found : &ignored, st);
}

/* --- Metadata ----------------------------------------------------------------------------- */

static ft_code has_value(const ft_doc_ref *doc, const char *field, const char *value, ft_buffer *text, int *has,
                         ft_status *st)
{
    char where[120];
    json_t *metadata = NULL;
    snprintf(where, sizeof(where), "metadata of document '%.80s'", doc->id);
    ft_code rc = ft_json_parse(&metadata, doc->metadata, doc->metadata_bytes, where, st);
    const json_t *v = rc ? NULL : json_object_get(metadata, field);
    *has = 0;
    if (json_is_string(v)) {
        *has = json_string_length(v) == strlen(value) && !memcmp(json_string_value(v), value, strlen(value));
    } else if (v) {
        ft_buffer_reset(text);
        rc = ft_json_write(v, text, st);
        *has = !rc && text->size == strlen(value) && !memcmp(text->data, value, text->size);
    }
    json_decref(metadata);
    return rc;
}

ft_code ft_document_set_add_where(ft_document_set *s, const char *field, const char *value, const ft_progress *progress,
                                  ft_status *st)
{
    const ft_index_info info = ft_index_get_info(s->index);
    ft_buffer text = {0};
    ft_code rc = FT_OK;
    for (uint64_t i = 0; i < info.documents && !rc; i++) {
        ft_doc_ref doc;
        int has = 0;
        rc = ft_index_document(s->index, i, &doc, st);
        if (!rc)
            rc = has_value(&doc, field, value, &text, &has, st);
        if (!rc && has)
            rc = ft_document_set_add(s, &doc, st);
        if (!rc && i % REPORT_EVERY == 0 && ft_progress_report(progress, "metadata", i, info.documents, "documents"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "%s: stopped", info.folder);
    }
    ft_buffer_release(&text);
    return rc;
}

/* --- Tokens ------------------------------------------------------------------------------- */

ft_code ft_document_set_add_tokens(ft_document_set *s, const uint32_t *ids, size_t n, ft_status *st)
{
    const ft_index_info info = ft_index_get_info(s->index);
    if (!n)
        return ft_fail(st, FT_ERR_ARG, "%s: no token is in every document; name at least one", info.folder);
    ft_match m;
    ft_code rc = FT_OK;
    ft_index_find(s->index, ids, n, &m);
    for (unsigned part = 0; part < info.parts && !rc; part++)
        for (uint64_t rank = m.part[part].lo; rank < m.part[part].hi && !rc; rank++) {
            ft_doc_ref doc;
            rc = ft_index_document_at(s->index, part, ft_index_position(s->index, part, rank), &doc, st);
            if (!rc)
                rc = ft_document_set_add(s, &doc, st);
        }
    return rc;
}

static ft_code add_listed(ft_document_set *s, const ft_text_matches *m, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < m->listed && !rc; i++) {
        ft_doc_ref doc;
        rc = ft_index_document(s->index, m->occurrences[i].document, &doc, st);
        if (!rc)
            rc = ft_document_set_add(s, &doc, st);
    }
    return rc;
}

ft_code ft_document_set_add_text(ft_document_set *s, const struct ft_tokenizer *tokenizer, const char *text,
                                 size_t bytes, int ignore_case, ft_status *st)
{
    const ft_index_set set = {&s->index, 1};
    ft_text_matcher *matcher;
    ft_code rc = ft_text_matcher_new(&matcher, set, tokenizer, st);
    if (rc)
        return rc;
    ft_text_query q = {.text = text, .bytes = bytes, .ignore_case = ignore_case, .limit = TEXT_PAGE};
    for (int more = 1; more && !rc; q.from += TEXT_PAGE) {
        ft_text_matches m;
        rc = ft_text_match(matcher, set, &q, &m, st);
        if (rc)
            break;
        rc = add_listed(s, &m, st);
        more = m.count > q.from + m.listed && m.listed;
        ft_text_matches_release(&m);
    }
    ft_text_matcher_free(matcher);
    return rc;
}

/* --- What was selected -------------------------------------------------------------------- */

ft_code ft_document_set_next(const ft_document_set *s, uint64_t from, ft_doc_ref *out, ft_status *st)
{
    const uint64_t documents = ft_index_get_info(s->index).documents;
    for (uint64_t i = from; i < documents; i++) {
        const uint64_t word = s->bits[i / 64] >> i % 64;
        if (word & 1)
            return ft_index_document(s->index, i, out, st);
        if (!word)
            i |= 63;
    }
    return ft_fail(st, FT_ERR_NOT_FOUND, "no further document");
}
