#include "base/ft_json.h"

#include "base/ft_file.h"
#include "base/ft_utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

ft_code ft_json_parse(json_t **out, const char *text, size_t n, const char *where, ft_status *st)
{
    json_error_t e;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (*out)
        return FT_OK;
    const ft_code code = json_error_code(&e) == json_error_out_of_memory ? FT_ERR_MEM : FT_ERR_FORMAT;
    if (!memchr(text, '\n', n)) /* a row, whose line `where` tells */
        return ft_fail(st, code, "%s: column %d: not valid JSON: %s", where, e.column, e.text);
    return ft_fail(st, code, "%s: line %d, column %d: not valid JSON: %s", where, e.line, e.column, e.text);
}

ft_code ft_json_read_file(json_t **out, const char *path, size_t max_bytes, ft_status *st)
{
    *out = NULL;
    ft_buffer text;
    ft_buffer_init(&text, 0);
    ft_code rc = ft_file_read(path, max_bytes, &text, st);
    if (!rc)
        rc = ft_json_parse(out, text.data, text.size, path, st);
    ft_buffer_release(&text);
    return rc;
}

/* The field, or NULL where it is absent or null. */
static json_t *present(const json_t *object, const char *field)
{
    json_t *v = json_object_get(object, field);
    return v && !json_is_null(v) ? v : NULL;
}

ft_code ft_json_get_bool(const json_t *object, const char *field, int *out, ft_status *st)
{
    const json_t *v = present(object, field);
    if (v && !json_is_boolean(v))
        return ft_fail(st, FT_ERR_ARG, "'%s' must be true or false", field);
    if (v)
        *out = json_is_true(v);
    return FT_OK;
}

ft_code ft_json_get_int(const json_t *object, const char *field, int64_t low, int64_t high, int64_t *out, ft_status *st)
{
    const json_t *v = present(object, field);
    if (!v)
        return FT_OK;
    int64_t value;
    if (json_is_integer(v)) {
        value = json_integer_value(v);
    } else if (json_is_real(v) && json_real_value(v) == floor(json_real_value(v)) && fabs(json_real_value(v)) < 9e15) {
        value = (int64_t)json_real_value(v);
    } else {
        return ft_fail(st, FT_ERR_ARG, "'%s' must be an integer", field);
    }
    if (value < low || value > high)
        return ft_fail(st, FT_ERR_ARG, "'%s' must be from %" PRId64 " to %" PRId64 ", not %" PRId64, field, low, high,
                       value);
    *out = value;
    return FT_OK;
}

ft_code ft_json_get_number(const json_t *object, const char *field, double low, double high, double *out, ft_status *st)
{
    const json_t *v = present(object, field);
    if (!v)
        return FT_OK;
    if (!json_is_number(v))
        return ft_fail(st, FT_ERR_ARG, "'%s' must be a number", field);
    const double value = json_number_value(v);
    if (!(value >= low && value <= high))
        return ft_fail(st, FT_ERR_ARG, "'%s' must be from %g to %g, not %g", field, low, high, value);
    *out = value;
    return FT_OK;
}

ft_code ft_json_get_string(const json_t *object, const char *field, const char **out, ft_status *st)
{
    const json_t *v = present(object, field);
    if (v && !json_is_string(v))
        return ft_fail(st, FT_ERR_ARG, "'%s' must be a string", field);
    if (v && !ft_json_name(v))
        return ft_fail(st, FT_ERR_ARG, "'%s' must not hold a NUL (\\u0000)", field);
    if (v)
        *out = ft_json_name(v);
    return FT_OK;
}

ft_code ft_json_get_text(const json_t *object, const char *field, const char **out, size_t *n, ft_status *st)
{
    const json_t *v = present(object, field);
    if (v && !json_is_string(v))
        return ft_fail(st, FT_ERR_ARG, "'%s' must be a string", field);
    if (v) {
        *out = json_string_value(v);
        *n = json_string_length(v);
    }
    return FT_OK;
}

const char *ft_json_name(const json_t *v)
{
    const char *text = json_string_value(v);
    return text && strlen(text) == json_string_length(v) ? text : NULL;
}

ft_code ft_json_get_ids(const json_t *object, const char *field, uint32_t **ids, size_t *count, ft_status *st)
{
    *ids = NULL;
    *count = 0;
    const json_t *v = present(object, field);
    if (!v)
        return FT_OK;
    if (!json_is_array(v))
        return ft_fail(st, FT_ERR_ARG, "'%s' must be an array of token ids", field);
    const size_t n = json_array_size(v);
    uint32_t *list = ft_alloc_array(n, sizeof(*list));
    if (!list)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, i);
        const json_int_t id = json_integer_value(x);
        if (!json_is_integer(x) || id < 0 || id > UINT32_MAX) {
            free(list);
            return ft_fail(st, FT_ERR_ARG, "'%s' must hold token ids: element %zu is not one", field, i);
        }
        list[i] = (uint32_t)id;
    }
    *ids = list;
    *count = n;
    return FT_OK;
}

json_t *ft_json_ids(const uint32_t *ids, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++)
        if (json_array_append_new(array, json_integer(ids[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

json_t *ft_json_text(const char *bytes, size_t n)
{
    ft_buffer clean;
    ft_buffer_init(&clean, 0);
    json_t *text = NULL;
    if (ft_utf8_repair(bytes, n, &clean, NULL, NULL) == FT_OK)
        text = json_stringn_nocheck(clean.data ? clean.data : "", clean.size);
    ft_buffer_release(&clean);
    return text;
}
