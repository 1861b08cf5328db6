/* The row that a list shows of a trace: JSON text, "spans" last. A page has thousands of documents in its rows' spans,
 * and each costs more to read than all else of a row; so they are read only where somebody wants them read. */
#include "tracer/store_internal.h"
#include "tracer/tracer_internal.h"

#include <string.h>

enum { SHOWN_TEXT = 200 };

/* --- Writing ------------------------------------------------------------------------------------------- */

/* Written as text at once: a trace has hundreds of documents, and an object for each would cost more than all else
 * that is known of it. After a failure nothing more is written. */
typedef struct row_writer {
    ft_buffer *out;
    ft_status *st;
    ft_code rc;
} row_writer;

static void row_raw(row_writer *w, const char *text)
{
    if (!w->rc)
        w->rc = ft_buffer_append_str(w->out, text, w->st);
}

/* A comma where something stands before in the object or array. */
static void row_next(row_writer *w)
{
    const char last = w->out->size ? w->out->data[w->out->size - 1] : '{';
    if (last != '{' && last != '[')
        row_raw(w, ",");
}

/* `,"name":`, or without the comma. */
static void row_name(row_writer *w, const char *name)
{
    enum { AROUND = 4 };
    const size_t n = strlen(name), size = w->out->size;
    const char last = size ? w->out->data[size - 1] : '{';
    w->rc = w->rc ? w->rc : ft_buffer_reserve(w->out, n + AROUND, w->st);
    if (w->rc)
        return;
    char *to = w->out->data + size;
    if (last != '{' && last != '[')
        *to++ = ',';
    *to++ = '"';
    memcpy(to, name, n);
    to += n;
    *to++ = '"';
    *to++ = ':';
    *to = '\0';
    w->out->size = (size_t)(to - w->out->data);
}

static void row_value(row_writer *w, const char *name, const json_t *value)
{
    row_name(w, name);
    if (!w->rc)
        w->rc = value ? ft_json_write(value, w->out, w->st) : ft_buffer_append_str(w->out, "null", w->st);
}

static void row_count(row_writer *w, const char *name, size_t n)
{
    row_name(w, name);
    if (!w->rc)
        w->rc = ft_buffer_printf(w->out, w->st, "%zu", n);
}

/* Those fields of `from` that it has. */
static void row_fields(row_writer *w, const json_t *from, const char *const *fields)
{
    for (; *fields; fields++) {
        const json_t *v = json_object_get(from, *fields);
        if (v)
            row_value(w, *fields, v);
    }
}

/* `"name":[{those fields of each}, …]` */
static void row_list(row_writer *w, const char *name, const json_t *list, const char *const *fields)
{
    const json_t *v;
    size_t i;
    row_name(w, name);
    row_raw(w, "[");
    json_array_foreach(list, i, v)
    {
        row_next(w);
        row_raw(w, "{");
        row_fields(w, v, fields);
        row_raw(w, "}");
    }
    row_raw(w, "]");
}

/* The text's beginning, cut at a character. */
static void row_text(row_writer *w, const json_t *trace)
{
    const json_t *text = json_object_get(json_object_get(trace, "response"), "text");
    const char *bytes = json_string_value(text);
    size_t n = json_string_length(text);
    for (n = n < SHOWN_TEXT ? n : SHOWN_TEXT; n && ((unsigned char)bytes[n] & 0xC0) == 0x80;)
        n--;
    json_t *shown = bytes ? ft_json_text(bytes, n) : json_null();
    if (!shown && !w->rc)
        w->rc = ft_fail(w->st, FT_ERR_MEM, "store: no room for a trace's summary");
    row_value(w, "text", shown);
    json_decref(shown);
}

static void row_span(row_writer *w, const json_t *span)
{
    static const char *const kept[] = {"start", "end", "count", NULL};
    static const char *const also[] = {"owners", "redacted", NULL};
    static const char *const of_document[] = {"owner", "id", NULL};
    json_t *verdict = json_string(span_verdict(span)); /* NULL: it has none */
    row_next(w);
    row_raw(w, "{");
    row_fields(w, span, kept);
    row_value(w, "verdict", verdict);
    row_fields(w, span, also);
    row_list(w, "documents", json_object_get(span, "docs"), of_document);
    row_raw(w, "}");
    json_decref(verdict);
}

ft_code row_write(ft_buffer *out, const json_t *trace, ft_status *st)
{
    static const char *const kept[] = {"object",        "created", "key",      "model",
                                       "finish_reason", "without", "redacted", NULL};
    static const char *const of_expert[] = {"id", "owner", "share", NULL};
    row_writer w = {.out = out, .st = st};
    const json_t *span;
    size_t i;
    row_raw(&w, "{");
    row_fields(&w, trace, kept);
    row_text(&w, trace);
    row_count(&w, "tokens", json_array_size(json_object_get(trace, "tokens")));
    row_count(&w, "prompt_tokens", json_array_size(json_object_get(json_object_get(trace, "prompt"), "ids")));
    row_list(&w, "experts", json_object_get(trace, "experts"), of_expert);
    row_name(&w, "spans");
    row_raw(&w, "[");
    json_array_foreach(json_object_get(trace, "spans"), i, span)
    {
        row_span(&w, span);
    }
    row_raw(&w, "]}");
    return w.rc;
}

/* --- Reading ------------------------------------------------------------------------------------------- */

size_t text_value_end(const char *text, size_t n, size_t at)
{
    for (size_t depth = 0; at < n; at++) {
        const char c = text[at];
        if (c == '"') {
            for (at++; at < n && text[at] != '"'; at++)
                at += text[at] == '\\';
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        }
        if (!depth)
            return at < n ? at + 1 : 0;
    }
    return 0;
}

/* Text in which the row's spans stand last: where their list begins; 0 where it is not so. What looks like their name
 * in a string has its quotes escaped, and what is an inner object's leaves a head that is no JSON. */
static size_t spans_begin(const ft_buffer *text)
{
    static const char name[] = ",\"spans\":[";
    const char *at = strstr(text->data, name);
    if (!at || text->size < 2 || memcmp(text->data + text->size - 2, "]}", 2) != 0)
        return 0;
    return (size_t)(at - text->data) + sizeof(name) - 2;
}

/* The row without its spans; NULL where the text is none of row_write's. */
static json_t *read_head(ft_buffer *text, size_t spans)
{
    json_t *head = NULL;
    const size_t end = spans - strlen(",\"spans\":");
    text->data[end] = '}';
    if (ft_json_parse(&head, text->data, end + 1, "row", NULL))
        head = NULL;
    text->data[end] = ',';
    return head;
}

/* Those of the list that are wanted. */
static ft_code read_some(json_t **out, const char *text, size_t n, const row_choice *choice, const char *id,
                         ft_status *st)
{
    json_t *list = json_array();
    ft_code rc = list ? FT_OK : ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
    size_t at = 1, number = 0;
    while (!rc && text[at] == '{') {
        const size_t end = text_value_end(text, n, at);
        json_t *span = NULL;
        if (!end)
            break;
        if (choice->fits(choice->context, number++))
            rc = ft_json_parse(&span, text + at, end - at, id, st);
        if (span && json_array_append_new(list, span) != 0)
            rc = ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
        at = end + (text[end] == ',');
    }
    if (!rc && (text[at] != ']' || at + 1 != n))
        rc = ft_fail(st, FT_ERR_FORMAT, "trace %s: the row of its summary is damaged", id);
    if (rc)
        json_decref(list);
    *out = rc ? NULL : list;
    return rc;
}

/* What the row says of its spans, which are the list text[0..n); `count` of them. */
static ft_code read_spans(json_t **out, const char *text, size_t n, size_t count, const row_choice *choice,
                          const char *id, ft_status *st)
{
    if (choice->how == FT_ROW_SPANS_FIT && choice->fits)
        return read_some(out, text, n, choice, id, st);
    if (choice->how == FT_ROW_SPANS_TEXT || choice->how == FT_ROW_SPANS_COUNT) {
        *out = choice->how == FT_ROW_SPANS_TEXT ? json_stringn_nocheck(text, n) : json_size(count);
        return *out ? FT_OK : ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
    }
    return ft_json_parse(out, text, n, id, st);
}

/* The same of a row whose spans have been read with the rest. */
static ft_code reread_spans(json_t **out, const json_t *row, const row_choice *choice, const char *id, ft_status *st)
{
    const json_t *list = json_object_get(row, "spans");
    ft_buffer text = {0};
    ft_code rc = ft_json_write(list, &text, st);
    if (!rc)
        rc = read_spans(out, text.data, text.size, json_array_size(list), choice, id, st);
    ft_buffer_release(&text);
    return rc;
}

ft_code row_read(packer *p, json_t **out, const void *frame, size_t n, size_t count, const row_choice *choice,
                 const char *id, ft_status *st)
{
    const int whole = choice->how == FT_ROW_SPANS;
    ft_buffer *text = packer_text(p);
    json_t *row = json_pack("{s:s}", "id", id), *head = NULL, *spans = NULL;
    *out = NULL;
    ft_code rc = row ? frame_read(p, text, frame, n, id, st) : ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
    const size_t at = rc || whole ? 0 : spans_begin(text);
    if (at)
        head = read_head(text, at);
    if (head) {
        rc = read_spans(&spans, text->data + at, text->size - 1 - at, count, choice, id, st);
    } else if (!rc) {
        rc = ft_json_parse(&head, text->data, text->size, id, st);
        if (!rc && !whole && json_is_array(json_object_get(head, "spans")))
            rc = reread_spans(&spans, head, choice, id, st);
    }
    if (!rc && (json_object_update(row, head) != 0 || (spans && json_object_set(row, "spans", spans) != 0)))
        rc = ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
    json_decref(head);
    json_decref(spans);
    if (rc)
        json_decref(row);
    else
        *out = row;
    return rc;
}

/* --- Rows as JSON ---------------------------------------------------------------------------------------- */

static ft_code write_row(const json_t *row, ft_buffer *out, ft_status *st)
{
    ft_code rc = FT_OK;
    const char *name, *before = "{";
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)row, name, value)
    {
        if (!rc)
            rc = ft_buffer_printf(out, st, "%s\"%s\":", before, name);
        if (rc)
            break;
        rc = json_is_string(value) && !strcmp(name, "spans")
                 ? ft_buffer_append(out, json_string_value(value), json_string_length(value), st)
                 : ft_json_write(value, out, st);
        before = ",";
    }
    return rc ? rc : ft_buffer_append(out, "}", 1, st);
}

ft_code ft_store_rows_write(const json_t *rows, ft_buffer *out, ft_status *st)
{
    const json_t *row;
    size_t i;
    ft_code rc = ft_buffer_append(out, "[", 1, st);
    json_array_foreach(rows, i, row)
    {
        if (!rc && i)
            rc = ft_buffer_append(out, ",", 1, st);
        if (!rc)
            rc = write_row(row, out, st);
    }
    return rc ? rc : ft_buffer_append(out, "]", 1, st);
}
