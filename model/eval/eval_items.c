#include "model/eval/eval_items.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 256 << 20 };

static ft_code add(eval_items *out, const char *line, size_t n, size_t number, const char *path, ft_status *st)
{
    char where[300];
    json_t *row = NULL;
    snprintf(where, sizeof(where), "%.280s:%zu", path, number);
    ft_code rc = ft_json_parse(&row, line, n, where, st);
    if (!rc && !json_is_object(row))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: not a JSON object", where);
    if (!rc)
        rc = ft_array_grow((void **)&out->rows, &out->row_capacity, out->count + 1, sizeof(json_t *), st);
    if (!rc)
        rc = ft_array_grow((void **)&out->lines, &out->line_capacity, out->count + 1, sizeof(*out->lines), st);
    if (rc) {
        json_decref(row);
        return rc;
    }
    out->rows[out->count] = row;
    out->lines[out->count++] = number;
    return FT_OK;
}

ft_code eval_items_read(eval_items *out, const char *path, size_t limit, ft_status *st)
{
    ft_buffer text = {0};
    memset(out, 0, sizeof(*out));
    ft_code rc = ft_file_read(path, MOST_BYTES, &text, st);
    size_t number = 0;
    for (const char *p = text.data, *end = rc ? p : p + text.size; !rc && p < end && (!limit || out->count < limit);) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        const size_t n = (size_t)((stop ? stop : end) - p);
        number++;
        if (n && !(n == 1 && *p == '\r'))
            rc = add(out, p, n, number, path, st);
        p += n + 1;
    }
    if (!rc && !out->count)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: holds no item", path);
    ft_buffer_release(&text);
    if (rc)
        eval_items_release(out);
    return rc;
}

void eval_items_release(eval_items *items)
{
    for (size_t i = 0; i < items->count; i++)
        json_decref(items->rows[i]);
    free(items->rows);
    free(items->lines);
    memset(items, 0, sizeof(*items));
}
