#include "text/corpus_row.h"

#include "base/ft_json.h"
#include "base/ft_utf8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 256, MAX_NUMBER = 64 };

/* The scanner. Its functions return 0 after a failure, which stands in rc. */
typedef struct cursor {
    const char *at, *end, *begin;
    ft_buffer *copy;  /* where the value being read goes verbatim; NULL: nowhere */
    const char *from; /* what of it is not copied yet begins here */
    ft_status *st;
    ft_code rc;
} cursor;

static int fail(cursor *c, const char *what)
{
    if (!c->rc)
        c->rc = ft_fail(c->st, FT_ERR_FORMAT, "not valid JSON: %s at byte %zu", what, (size_t)(c->at - c->begin) + 1);
    return 0;
}

static int kept(cursor *c, ft_code rc)
{
    c->rc = rc;
    return rc == FT_OK;
}

static char skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\r' || *c->at == '\n'))
        c->at++;
    return c->at < c->end ? *c->at : '\0';
}

static int hex4(cursor *c, uint32_t *out)
{
    if (c->end - c->at < 4)
        return fail(c, "\\u without four digits");
    *out = 0;
    for (int i = 0; i < 4; i++, c->at++) {
        const char d = *c->at;
        const char low = (char)(d | 0x20);
        if (!(d >= '0' && d <= '9') && !(low >= 'a' && low <= 'f'))
            return fail(c, "\\u without four digits");
        *out = *out << 4 | (uint32_t)(d <= '9' ? d - '0' : low - 'a' + 10);
    }
    return 1;
}

/* What an escape of one letter means, '\0' where there is none. */
static char meaning_of(char letter)
{
    switch (letter) {
    case '"':
    case '\\':
    case '/':
        return letter;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return '\0';
    }
}

/* Behind the backslash. */
static int read_escape(cursor *c, uint32_t *code_point)
{
    const char e = c->at < c->end ? *c->at : '\0', known = meaning_of(e);
    if (known) {
        c->at++;
        *code_point = (unsigned char)known;
        return 1;
    }
    if (e != 'u')
        return fail(c, "unknown escape");
    c->at++;
    if (!hex4(c, code_point))
        return 0;
    if (*code_point < 0xD800 || *code_point > 0xDFFF)
        return 1;
    uint32_t second = 0;
    if (*code_point > 0xDBFF || c->end - c->at < 2 || c->at[0] != '\\' || c->at[1] != 'u')
        return fail(c, "half a surrogate pair");
    c->at += 2;
    if (!hex4(c, &second))
        return 0;
    if (second < 0xDC00 || second > 0xDFFF)
        return fail(c, "half a surrogate pair");
    *code_point = 0x10000 + ((*code_point - 0xD800) << 10) + (second - 0xDC00);
    return 1;
}

/* The first byte in [p, end) that ends a plain run of a string: a quote, a backslash, a
 * control character. Eight bytes at a time: a byte's high bit in `ends` is set where it is
 * one, and perhaps behind one. */
static const char *end_of_run(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    for (uint64_t eight; end - p >= (ptrdiff_t)sizeof(eight); p += sizeof(eight)) {
        memcpy(&eight, p, sizeof(eight));
        const uint64_t quote = eight ^ ones * '"', backslash = eight ^ ones * '\\';
        const uint64_t control = (eight - ones * 0x20) & ~eight;
        const uint64_t ends = (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | control) & high;
        if (ends)
            break;
    }
    while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
        p++;
    return p;
}

/* As ft_buffer_append; in line, where there is room: runs between escapes are short. */
static inline ft_code append(ft_buffer *out, const char *bytes, size_t n, ft_status *st)
{
    if (!out->data || out->ceiling || out->capacity - out->size <= n)
        return ft_buffer_append(out, bytes, n, st);
    memcpy(out->data + out->size, bytes, n);
    out->size += n;
    out->data[out->size] = '\0';
    return FT_OK;
}

static ft_code append_code_point(ft_buffer *out, uint32_t code_point, ft_status *st)
{
    const char ascii = (char)code_point;
    return code_point < 0x80 ? append(out, &ascii, 1, st) : ft_utf8_append(out, code_point, st);
}

/* A string whose opening quote is at c->at; decoded behind `out` unless that is NULL. */
static int read_string(cursor *c, ft_buffer *out)
{
    if (c->at >= c->end || *c->at != '"')
        return fail(c, "expected a string");
    c->at++;
    for (;;) {
        const char *run = c->at;
        c->at = end_of_run(run, c->end);
        if (out && c->at > run && !kept(c, append(out, run, (size_t)(c->at - run), c->st)))
            return 0;
        if (c->at >= c->end)
            return fail(c, "a string without its end");
        if (*c->at == '"') {
            c->at++;
            return 1;
        }
        if (*c->at != '\\')
            return fail(c, "a control character in a string");
        c->at++;
        uint32_t code_point = 0;
        if (!read_escape(c, &code_point))
            return 0;
        if (out && !kept(c, append_code_point(out, code_point, c->st)))
            return 0;
    }
}

static size_t read_digits(cursor *c)
{
    const char *from = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
        c->at++;
    return (size_t)(c->at - from);
}

/* 0: the number would be lost on whoever reads it into 64 bits. */
static int fits(const char *digits, size_t n, int integer)
{
    if (n < 18 && integer)
        return 1;
    char copy[MAX_NUMBER];
    if (n >= sizeof(copy))
        return 0;
    memcpy(copy, digits, n);
    copy[n] = '\0';
    errno = 0;
    if (integer) {
        strtoll(copy, NULL, 10);
        return errno == 0;
    }
    return isfinite(strtod(copy, NULL));
}

static int read_number(cursor *c)
{
    const char *from = c->at;
    int integer = 1;
    if (*c->at == '-')
        c->at++;
    const char *whole = c->at;
    const size_t digits = read_digits(c);
    if (digits == 0 || (digits > 1 && *whole == '0'))
        return fail(c, "not a number");
    if (c->at < c->end && *c->at == '.') {
        integer = 0;
        c->at++;
        if (!read_digits(c))
            return fail(c, "not a number");
    }
    if (c->at < c->end && (*c->at | 0x20) == 'e') {
        integer = 0;
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
            c->at++;
        if (!read_digits(c))
            return fail(c, "not a number");
    }
    if (!c->copy || fits(from, (size_t)(c->at - from), integer))
        return 1;
    ft_code rc = ft_buffer_append(c->copy, c->from, (size_t)(from - c->from), c->st);
    if (!rc)
        rc = ft_buffer_printf(c->copy, c->st, "\"%.*s\"", (int)(c->at - from), from);
    c->from = c->at;
    return kept(c, rc);
}

static int read_word(cursor *c, const char *word)
{
    const size_t n = strlen(word);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0)
        return fail(c, "expected a value");
    c->at += n;
    return 1;
}

static int read_scalar(cursor *c, char first)
{
    switch (first) {
    case '"':
        return read_string(c, NULL);
    case 't':
        return read_word(c, "true");
    case 'f':
        return read_word(c, "false");
    case 'n':
        return read_word(c, "null");
    default:
        return first == '-' || (first >= '0' && first <= '9') ? read_number(c) : fail(c, "expected a value");
    }
}

/* A key with its colon, inside an object. */
static int read_key(cursor *c, ft_buffer *key)
{
    skip_space(c);
    if (!read_string(c, key))
        return 0;
    if (skip_space(c) != ':')
        return fail(c, "expected ':'");
    c->at++;
    return 1;
}

/* Any value, checked and passed over; nesting is kept here, not on the stack. */
static int read_value(cursor *c)
{
    char closing[MAX_DEPTH];
    size_t depth = 0;
    for (;;) {
        char next = skip_space(c);
        if (next == '{' || next == '[') {
            if (depth == MAX_DEPTH)
                return fail(c, "nested too deeply");
            closing[depth++] = next == '{' ? '}' : ']';
            c->at++;
            next = skip_space(c);
            if (next != closing[depth - 1]) {
                if (closing[depth - 1] == '}' && !read_key(c, NULL))
                    return 0;
                continue; /* its first value */
            }
        } else if (!read_scalar(c, next)) {
            return 0;
        }
        for (;;) { /* behind a value */
            if (depth == 0)
                return 1;
            next = skip_space(c);
            if (next == ',') {
                c->at++;
                if (closing[depth - 1] == '}' && !read_key(c, NULL))
                    return 0;
                break;
            }
            if (next != closing[depth - 1])
                return fail(c, closing[depth - 1] == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
            c->at++;
            depth--;
            if (depth == 0)
                return 1;
        }
    }
}

static int read_text(cursor *c, ft_corpus_row *row, int *seen)
{
    if (*seen)
        return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "\"text\" stands twice"));
    *seen = 1;
    if (skip_space(c) != '"')
        return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "\"text\" must be a string"));
    return read_string(c, &row->text);
}

static int read_id(cursor *c, ft_corpus_row *row, int *seen)
{
    if (*seen)
        return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "\"id\" stands twice"));
    *seen = 1;
    const char first = skip_space(c);
    if (first == '"') {
        if (!read_string(c, &row->id))
            return 0;
        if (row->id.size && strlen(row->id.data) != row->id.size)
            return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "\"id\" holds a NUL character"));
        return 1;
    }
    const char *from = c->at;
    if (!read_value(c))
        return 0;
    const size_t n = (size_t)(c->at - from);
    if (n == 4 && !memcmp(from, "null", 4))
        return 1;
    for (const char *p = from; p < c->at; p++)
        if (!(*p >= '0' && *p <= '9') && !(p == from && *p == '-'))
            return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "\"id\" must be a string or an integer"));
    return kept(c, ft_buffer_append(&row->id, from, n, c->st));
}

/* `"key":value` goes to the metadata as it stands. */
static int read_metadata(cursor *c, ft_corpus_row *row, const char *key_from)
{
    if (!kept(c, ft_buffer_append_str(&row->metadata, row->metadata.size > 1 ? "," : "", c->st)))
        return 0;
    c->copy = &row->metadata;
    c->from = key_from;
    const int good = read_value(c) && kept(c, ft_buffer_append(c->copy, c->from, (size_t)(c->at - c->from), c->st));
    c->copy = NULL;
    return good;
}

static int key_is(const ft_corpus_row *row, const char *key)
{
    return row->key.size == strlen(key) && !memcmp(row->key.data, key, row->key.size);
}

typedef struct seen_fields {
    int text, id;
} seen_fields;

static int read_field(cursor *c, ft_corpus_row *row, void *context)
{
    seen_fields *seen = context;
    skip_space(c);
    const char *from = c->at;
    ft_buffer_reset(&row->key);
    if (!read_key(c, &row->key))
        return 0;
    if (key_is(row, "text"))
        return read_text(c, row, &seen->text);
    if (key_is(row, "id"))
        return read_id(c, row, &seen->id);
    return read_metadata(c, row, from);
}

/* The fields of an object, whose opening brace is at c->at. */
typedef int read_field_fn(cursor *c, ft_corpus_row *row, void *seen);

static int read_object(cursor *c, ft_corpus_row *row, read_field_fn *field, void *seen)
{
    c->at++;
    if (skip_space(c) == '}') {
        c->at++;
        return 1;
    }
    for (;;) {
        if (!field(c, row, seen))
            return 0;
        const char next = skip_space(c);
        if (next != ',' && next != '}')
            return fail(c, "expected ',' or '}'");
        c->at++;
        if (next == '}')
            return 1;
    }
}

static int at_end(cursor *c)
{
    skip_space(c);
    return c->at == c->end || fail(c, "something behind the object");
}

static int read_row(cursor *c, ft_corpus_row *row)
{
    seen_fields seen = {0};
    if (skip_space(c) != '{')
        return kept(c,
                    ft_fail(c->st, FT_ERR_FORMAT, "not a JSON object; a corpus has one object a line, {\"text\":…}"));
    if (!read_object(c, row, read_field, &seen) || !at_end(c))
        return 0;
    if (!seen.text)
        return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "no \"text\" field"));
    return 1;
}

/* --- Without the text -------------------------------------------------------------- */

/* 1 at a string or an integer: what an id may be. */
static int at_id(const cursor *c)
{
    const char *p = c->at;
    if (p < c->end && *p == '"')
        return 1;
    p += p < c->end && *p == '-';
    const char *digits = p;
    while (p < c->end && *p >= '0' && *p <= '9')
        p++;
    return p > digits && p < c->end && strchr(",} \t\r\n", *p) != NULL;
}

/* As read_field, but an id of another kind is metadata like the rest: infini-gram takes anything. */
static int read_described_field(cursor *c, ft_corpus_row *row, void *context)
{
    seen_fields *seen = context;
    skip_space(c);
    const char *from = c->at;
    ft_buffer_reset(&row->key);
    if (!read_key(c, &row->key))
        return 0;
    skip_space(c);
    if (key_is(row, "text"))
        return read_value(c);
    return key_is(row, "id") && at_id(c) ? read_id(c, row, &seen->id) : read_metadata(c, row, from);
}

static int read_description(cursor *c, ft_corpus_row *row)
{
    seen_fields seen = {0};
    if (skip_space(c) != '{')
        return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "not a JSON object, {\"id\":…,…}"));
    return read_object(c, row, read_described_field, &seen) && at_end(c);
}

/* Infini-gram's line. */
typedef struct origin_fields {
    seen_fields row;
    const char *line_number; /* its digits, a view */
    size_t digits;
    int metadata;
} origin_fields;

static int read_origin_field(cursor *c, ft_corpus_row *row, void *context)
{
    origin_fields *seen = context;
    ft_buffer_reset(&row->key);
    if (!read_key(c, &row->key))
        return 0;
    const char first = skip_space(c);
    if (key_is(row, "metadata") && first == '{') {
        if (seen->metadata++)
            return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "\"metadata\" stands twice"));
        return read_object(c, row, read_described_field, &seen->row);
    }
    if (key_is(row, "path") && first == '"') {
        ft_buffer_reset(&row->path);
        return read_string(c, &row->path);
    }
    if (key_is(row, "linenum") && first >= '0' && first <= '9') {
        seen->line_number = c->at;
        const int good = read_number(c);
        seen->digits = (size_t)(c->at - seen->line_number);
        return good;
    }
    return read_value(c);
}

static int read_origin(cursor *c, ft_corpus_row *row)
{
    origin_fields seen = {0};
    if (skip_space(c) != '{')
        return kept(c, ft_fail(c->st, FT_ERR_FORMAT, "not a JSON object, {\"path\":…,\"linenum\":…,\"metadata\":{…}}"));
    if (!read_object(c, row, read_origin_field, &seen) || !at_end(c))
        return 0;
    if (row->id.size || !row->path.size || !seen.digits || strlen(row->path.data) != row->path.size)
        return 1;
    ft_code rc = ft_buffer_append(&row->id, row->path.data, row->path.size, c->st);
    if (!rc)
        rc = ft_buffer_printf(&row->id, c->st, ":%.*s", (int)seen.digits, seen.line_number);
    return kept(c, rc);
}

/* What jansson would refuse later, above all a key that stands twice, is refused here, where the line is known. */
static ft_code check_metadata(const ft_corpus_row *row, ft_status *st)
{
    if (row->metadata.size == 2)
        return FT_OK;
    json_t *value;
    const ft_code rc = ft_json_parse(&value, row->metadata.data, row->metadata.size, "metadata", st);
    if (!rc)
        json_decref(value);
    return rc;
}

static ft_code parse(ft_corpus_row *row, const char *line, size_t n, int (*read)(cursor *c, ft_corpus_row *row),
                     ft_status *st)
{
    ft_buffer_reset(&row->id);
    ft_buffer_reset(&row->text);
    ft_buffer_reset(&row->metadata);
    ft_buffer_reset(&row->path);
    cursor c = {.at = line, .end = line + n, .begin = line, .st = st};
    c.rc = ft_buffer_append(&row->metadata, "{", 1, st);
    if (!c.rc)
        c.rc = ft_buffer_reserve(&row->text, 0, st); /* never NULL, also when empty */
    if (c.rc || !read(&c, row))
        return c.rc;
    c.rc = ft_buffer_append(&row->metadata, "}", 1, st);
    return c.rc ? c.rc : check_metadata(row, st);
}

ft_code ft_corpus_row_parse(ft_corpus_row *row, const char *line, size_t n, ft_status *st)
{
    return parse(row, line, n, read_row, st);
}

ft_code ft_corpus_row_parse_description(ft_corpus_row *row, const char *line, size_t n, ft_status *st)
{
    return parse(row, line, n, read_description, st);
}

ft_code ft_corpus_row_parse_origin(ft_corpus_row *row, const char *line, size_t n, ft_status *st)
{
    return parse(row, line, n, read_origin, st);
}

void ft_corpus_row_release(ft_corpus_row *row)
{
    ft_buffer_release(&row->id);
    ft_buffer_release(&row->text);
    ft_buffer_release(&row->metadata);
    ft_buffer_release(&row->key);
    ft_buffer_release(&row->path);
}
