/* Comma-separated values, as RFC 4180 has them. */
#include "api/compliance_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static ft_code quoted(ft_buffer *out, const char *text, size_t n, ft_status *st)
{
    if (!n || (!memchr(text, '"', n) && !memchr(text, ',', n) && !memchr(text, '\n', n) && !memchr(text, '\r', n) &&
               text[0] != ' ' && text[n - 1] != ' '))
        return ft_buffer_append(out, text, n, st);
    ft_code rc = ft_buffer_append(out, "\"", 1, st);
    for (size_t i = 0; !rc && i < n; i++)
        rc = text[i] == '"' ? ft_buffer_append(out, "\"\"", 2, st) : ft_buffer_append(out, text + i, 1, st);
    return rc ? rc : ft_buffer_append(out, "\"", 1, st);
}

static ft_code plain(ft_buffer *out, const json_t *v, ft_status *st)
{
    ft_code rc = FT_OK;
    if (json_is_string(v))
        return ft_buffer_append(out, json_string_value(v), json_string_length(v), st);
    if (!json_is_array(v))
        return !v || json_is_null(v) ? FT_OK : ft_json_write(v, out, st);
    for (size_t i = 0; !rc && i < json_array_size(v); i++) {
        rc = i ? ft_buffer_append(out, ";", 1, st) : FT_OK;
        if (!rc)
            rc = plain(out, json_array_get(v, i), st);
    }
    return rc;
}

ft_code ft_csv_value(ft_buffer *out, const json_t *value, int first, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = first ? FT_OK : ft_buffer_append(out, ",", 1, st);
    if (!rc)
        rc = plain(&text, value, st);
    if (!rc)
        rc = quoted(out, text.data ? text.data : "", text.size, st);
    ft_buffer_release(&text);
    return rc;
}

ft_code ft_csv_head(ft_buffer *out, const char *const *names, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && names[i]; i++)
        rc = ft_buffer_printf(out, st, "%s%s", i ? "," : "", names[i]);
    return rc ? rc : ft_buffer_append(out, "\r\n", 2, st);
}

ft_code ft_csv_line(ft_buffer *out, const char *const *names, const json_t *object, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t k = 0; !rc && names[k]; k++)
        rc = ft_csv_value(out, json_object_get(object, names[k]), k == 0, st);
    return rc ? rc : ft_buffer_append(out, "\r\n", 2, st);
}

ft_code ft_csv_table(ft_buffer *out, const char *const *names, const json_t *list, ft_status *st)
{
    const json_t *one;
    size_t i;
    ft_code rc = ft_csv_head(out, names, st);
    json_array_foreach(list, i, one)
    {
        if (!rc)
            rc = ft_csv_line(out, names, one, st);
    }
    return rc;
}

void ft_answer_lines(ft_request *q, const char *const *names, json_t *lines, uint64_t last, int more)
{
    char text[32];
    if (!names) {
        ft_answer_json(q, 200,
                       json_pack("{s:s,s:o,s:I,s:b}", "object", "list", "data", lines, "last_seq", (json_int_t)last,
                                 "has_more", more));
        return;
    }
    snprintf(text, sizeof(text), "%" PRIu64, last);
    ft_answer_header(q, "X-Has-More", more ? "true" : "false");
    ft_answer_header(q, "X-Last-Id", text);
    ft_answer_csv(q, names, lines);
    json_decref(lines);
}

void ft_answer_csv(ft_request *q, const char *const *names, const json_t *list)
{
    ft_buffer text = {0};
    ft_status st = {0};
    if (ft_csv_table(&text, names, list, &st) == FT_OK)
        ft_answer_bytes(q, 200, "text/csv; charset=utf-8; header=present", text.data, text.size);
    else
        ft_refuse_status(q, NULL, &st);
    ft_buffer_release(&text);
}
