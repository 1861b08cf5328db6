/* Traces as lines for others: JSON with all that the store has, or comma-separated values, a line a span. */
#include "api/compliance_internal.h"

#include <sodium.h>
#include <string.h>

const char *const ft_export_columns[] = {"id",  "created", "key",     "model",  "tokens",    "without", "start",
                                         "end", "count",   "verdict", "owners", "documents", NULL};

/* The stored text as it is, with the packed routing before its last brace. */
ft_code ft_export_json(ft_store *s, const char *id, ft_buffer *packed, ft_buffer *out, ft_status *st)
{
    const size_t before = out->size;
    ft_code rc = ft_store_get_text(s, id, out, st);
    if (!rc && packed) {
        ft_buffer_reset(packed);
        rc = ft_store_get_packed(s, id, packed, st);
        rc = rc == FT_ERR_NOT_FOUND ? FT_OK : rc;
    }
    if (!rc && packed && packed->size) {
        const size_t n = sodium_base64_encoded_len(packed->size, sodium_base64_VARIANT_ORIGINAL);
        out->size--; /* the brace */
        rc = ft_buffer_append_str(out, ",\"routing_packed\":\"", st);
        if (!rc)
            rc = ft_buffer_reserve(out, n, st);
        if (!rc) {
            sodium_bin2base64(out->data + out->size, n, (const unsigned char *)packed->data, packed->size,
                              sodium_base64_VARIANT_ORIGINAL);
            out->size += n - 1;
            rc = ft_buffer_append_str(out, "\"}", st);
        }
    }
    if (rc)
        out->size = before;
    return rc;
}

json_t *ft_csv_documents(const json_t *documents)
{
    json_t *list = json_array();
    const json_t *v;
    size_t i;
    json_array_foreach(documents, i, v)
    {
        const char *owner = json_string_value(json_object_get(v, "owner"));
        const char *id = json_string_value(json_object_get(v, "id"));
        (void)json_array_append_new(list, json_sprintf("%s/%s", owner ? owner : "", id ? id : ""));
    }
    return list;
}

ft_code ft_export_csv(const json_t *row, ft_buffer *out, ft_status *st)
{
    const json_t *spans = json_object_get(row, "spans");
    const size_t n = json_array_size(spans);
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && (i < n || (i == 0 && !n)); i++) {
        json_t *line = json_copy((json_t *)(uintptr_t)row), *span = json_array_get(spans, i);
        if (!line)
            return ft_fail(st, FT_ERR_MEM, "export: out of memory");
        if (span)
            (void)json_object_update(line, span);
        (void)json_object_set_new(line, "documents", ft_csv_documents(json_object_get(span, "documents")));
        rc = ft_csv_line(out, ft_export_columns, line, st);
        json_decref(line);
    }
    return rc;
}
