/* Takedown of all that hold a text: which documents of an owner those are. */
#include "api/erasure_jobs.h"
#include "index/ft_document_set.h"

#include <string.h>

/* Appends the ids of the set's documents to `ids`, at most `most` in all. */
static ft_code add_ids(const ft_document_set *set, size_t most, json_t *ids, ft_status *st)
{
    ft_doc_ref doc;
    ft_code rc = ft_document_set_next(set, 0, &doc, st);
    for (; !rc; rc = ft_document_set_next(set, doc.number + 1, &doc, st)) {
        if (!doc.id_bytes)
            return ft_fail(st, FT_ERR_ARG,
                           "document %llu holds the text and has no id to name it by; 'flextrace index remove' takes it "
                           "out",
                           (unsigned long long)doc.number);
        if (json_array_size(ids) == most)
            return ft_fail(st, FT_ERR_ARG, "'text' stands in more than %zu documents", most);
        if (json_array_append_new(ids, ft_json_text(doc.id, doc.id_bytes)))
            return ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    return rc == FT_ERR_NOT_FOUND ? FT_OK : rc;
}

ft_code ft_takedown_find(ft_request *q, const char *owner, size_t most, ft_status *st)
{
    const json_t *text = json_object_get(q->json, "text");
    const ft_owner *o = ft_trace_owner(ft_request_scope(q), owner);
    if (!json_is_string(text) || !json_string_length(text))
        return ft_fail(st, FT_ERR_ARG, "'text' must be a string, not empty");
    if (json_object_get(q->json, "documents"))
        return ft_fail(st, FT_ERR_ARG, "give 'documents' or 'text', not both");
    if (!o)
        return ft_fail(st, FT_ERR_ARG, "there is no owner '%.200s'", owner);
    json_t *ids = json_array();
    ft_code rc = ids ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; !rc && i < o->index_count; i++) {
        ft_document_set set = {0};
        if (ft_index_get_info(o->indexes[i]).is_infinigram) /* nothing can be taken out of those */
            continue;
        rc = ft_document_set_init(&set, o->indexes[i], st);
        if (!rc)
            rc = ft_document_set_add_text(&set, q->server->tokenizer, json_string_value(text),
                                          json_string_length(text), 0, st);
        if (!rc)
            rc = add_ids(&set, most, ids, st);
        ft_document_set_release(&set);
    }
    if (!rc && !json_array_size(ids))
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "the text stands in no document of '%.200s'", owner);
    if (!rc && json_object_set(q->json, "documents", ids))
        rc = ft_fail(st, FT_ERR_MEM, "out of memory");
    json_decref(ids);
    return rc;
}
