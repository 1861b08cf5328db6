/* What the text of a stored response holds. Most of a trace is its documents and tokens: they are passed over, and only
 * the response is read as JSON. */
#define _GNU_SOURCE /* memmem */
#include "base/ft_utf8.h"
#include "tracer/store_internal.h"

#include <string.h>

ft_code ft_filter_text_check(const char *text, ft_status *st)
{
    const size_t n = strlen(text);
    if (!n || n > FT_FILTER_TEXT)
        return ft_fail(st, FT_ERR_ARG, "must have 1 to %d bytes", FT_FILTER_TEXT);
    for (size_t at = 0; at < n;) {
        const ft_utf8_step step = ft_utf8_next(text + at, n - at);
        if (!step.valid)
            return ft_fail(st, FT_ERR_ARG, "must be UTF-8; byte %zu is not", at + 1);
        at += step.length;
    }
    return FT_OK;
}

/* Where the member's value begins in an object as ft_json_write writes it, and *end; 0: it has none such. */
static size_t find_member(const ft_buffer *object, const char *name, size_t *end)
{
    const char *text = object->data;
    const size_t n = object->size, length = strlen(name);
    for (size_t at = 1, behind; at < n && text[at] == '"'; at = *end + (text[*end] == ',')) {
        behind = text_value_end(text, n, at);
        if (!behind || behind >= n || text[behind] != ':')
            return 0;
        *end = strchr("{[\"", text[behind + 1]) ? text_value_end(text, n, behind + 1)
                                                : behind + strcspn(text + behind, ",}");
        if (!*end)
            return 0;
        if (behind - at == length + 2 && !memcmp(text + at + 1, name, length))
            return behind + 1;
    }
    return 0;
}

ft_code trace_response_holds(packer *p, const void *frame, size_t n, const char *wanted, const char *id, int *holds,
                             ft_status *st)
{
    ft_buffer *text = packer_text(p);
    json_t *read = NULL;
    size_t end = 0;
    *holds = 0;
    ft_code rc = trace_read_marked(p, text, frame, n, id, st);
    size_t at = rc ? 0 : find_member(text, "response", &end);
    if (at && memchr(text->data + at, FT_JSON_REAL, end - at))
        at = 0;
    if (!rc && !at) /* not as we write it: then as a whole */
        rc = trace_read_text(p, packer_text(p), frame, n, id, st);
    if (!rc)
        rc = ft_json_parse(&read, text->data + at, (at ? end : text->size) - at, id, st);
    if (!rc) {
        const json_t *whole = json_object_get(at ? read : json_object_get(read, "response"), "text");
        *holds = json_is_string(whole) &&
                 memmem(json_string_value(whole), json_string_length(whole), wanted, strlen(wanted)) != NULL;
    }
    json_decref(read);
    return rc;
}
