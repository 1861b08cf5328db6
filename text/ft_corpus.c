#include "text/ft_corpus.h"

#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "text/corpus_internal.h"
#include "text/ft_html.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef enum format { JSONL, HTML, PLAIN } format;

struct ft_corpus {
    ft_corpus_options options;
    ft_file_list files;
    size_t next_file;
    ft_members *members; /* of the file being read; NULL between files */
    int in_member;
    const char *source, *id;
    format format;
    uint64_t line;
    int at_end;    /* the member's bytes are all in `raw` */
    ft_buffer raw; /* bytes read and not yet used, from `used` on */
    size_t used;
    ft_buffer text, made_id, metadata; /* of the document last given */
    json_t *row;                       /* whose strings that document views */
    ft_corpus_counts counts;
    uint64_t finished_bytes; /* of the files that are done */
};

enum { CHUNK = 1 << 18 };

ft_code ft_corpus_open(ft_corpus **out, const char *const *paths, size_t count, const ft_corpus_options *options,
                       ft_status *st)
{
    *out = NULL;
    ft_corpus *c = calloc(1, sizeof(*c));
    if (!c)
        return ft_fail(st, FT_ERR_MEM, "corpus: out of memory");
    if (options)
        c->options = *options;
    if (!c->options.max_document_bytes)
        c->options.max_document_bytes = 256u << 20;
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < count; i++)
        rc = ft_file_list_add(&c->files, paths[i], st);
    for (size_t i = 0; i < c->files.count; i++)
        c->counts.input_total += c->files.files[i].bytes;
    if (rc)
        ft_corpus_close(c);
    else
        *out = c;
    return rc;
}

void ft_corpus_close(ft_corpus *c)
{
    if (!c)
        return;
    ft_members_close(c->members);
    ft_file_list_release(&c->files);
    ft_buffer_release(&c->raw);
    ft_buffer_release(&c->text);
    ft_buffer_release(&c->made_id);
    ft_buffer_release(&c->metadata);
    json_decref(c->row);
    free(c);
}

ft_corpus_counts ft_corpus_progress(const ft_corpus *c)
{
    ft_corpus_counts counts = c->counts;
    counts.input_bytes = c->finished_bytes + (c->members ? ft_members_consumed(c->members) : 0);
    return counts;
}

/* --- Bytes of the member ------------------------------------------------------------ */

static ft_code read_more(ft_corpus *c, ft_status *st)
{
    if (c->used) {
        memmove(c->raw.data, c->raw.data + c->used, c->raw.size - c->used);
        c->raw.size -= c->used;
        c->used = 0;
    }
    ft_code rc = ft_buffer_reserve(&c->raw, CHUNK, st);
    if (rc)
        return rc;
    size_t got = 0;
    rc = ft_members_read(c->members, c->raw.data + c->raw.size, CHUNK, &got, st);
    c->raw.size += got;
    c->raw.data[c->raw.size] = '\0';
    c->at_end = got == 0;
    return rc;
}

/* The next line, without its end: view in *line. 0 in *more at the member's end. Of a
 * line beyond the limit *n says more than the limit, and its rest has been passed over. */
static ft_code read_line(ft_corpus *c, const char **line, size_t *n, int *more, ft_status *st)
{
    size_t searched = 0, dropped = 0;
    for (;;) {
        const char *from = c->raw.data + c->used;
        const size_t have = c->raw.size - c->used;
        const char *end = have > searched ? memchr(from + searched, '\n', have - searched) : NULL;
        if (end || c->at_end) {
            *n = end ? (size_t)(end - from) : have;
            *more = end || have || dropped;
            c->used += *n + (end != NULL);
            *line = from;
            if (*n && from[*n - 1] == '\r')
                (*n)--;
            *n += dropped;
            c->line += (uint64_t)*more;
            return FT_OK;
        }
        searched = have;
        if (have > c->options.max_document_bytes) {
            dropped += have;
            c->used = c->raw.size;
            searched = 0;
        }
        ft_code rc = read_more(c, st);
        if (rc)
            return rc;
    }
}

/* All of the member into c->raw; beyond the limit FT_ERR_FORMAT. */
static ft_code read_whole(ft_corpus *c, ft_status *st)
{
    while (!c->at_end) {
        ft_code rc = read_more(c, st);
        if (rc)
            return rc;
        if (c->raw.size > c->options.max_document_bytes)
            return ft_fail(st, FT_ERR_FORMAT, "%s: larger than the limit of %" PRIu64 " bytes a document", c->source,
                           c->options.max_document_bytes);
    }
    return FT_OK;
}

/* --- Documents ------------------------------------------------------------------------ */

static format format_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *dot = strrchr(slash ? slash : name, '.');
    if (dot && (!strcasecmp(dot, ".jsonl") || !strcasecmp(dot, ".json") || !strcasecmp(dot, ".ndjson")))
        return JSONL;
    if (dot && (!strcasecmp(dot, ".html") || !strcasecmp(dot, ".htm") || !strcasecmp(dot, ".xhtml")))
        return HTML;
    return PLAIN;
}

/* Makes c->made_id; "id" may be a string or an integer, else the source and line name the document. */
static ft_code identify(ft_corpus *c, const json_t *id, ft_status *st)
{
    ft_buffer_reset(&c->made_id);
    if (!id || json_is_null(id))
        return ft_buffer_printf(&c->made_id, st, "%s:%" PRIu64, c->id, c->line);
    if (json_is_integer(id))
        return ft_buffer_printf(&c->made_id, st, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    if (!json_is_string(id))
        return ft_fail(st, FT_ERR_FORMAT, "%s:%" PRIu64 ": 'id' must be a string or an integer", c->source, c->line);
    if (strlen(json_string_value(id)) != json_string_length(id))
        return ft_fail(st, FT_ERR_FORMAT, "%s:%" PRIu64 ": 'id' holds U+0000", c->source, c->line);
    return ft_buffer_append(&c->made_id, json_string_value(id), json_string_length(id), st);
}

static ft_code give_row(ft_corpus *c, const char *line, size_t n, ft_document *out, ft_status *st)
{
    if (n > c->options.max_document_bytes)
        return ft_fail(st, FT_ERR_FORMAT, "%s:%" PRIu64 ": a line of %zu bytes is longer than the limit of %" PRIu64,
                       c->source, c->line, n, c->options.max_document_bytes);
    json_decref(c->row);
    c->row = NULL;
    json_error_t e;
    c->row = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!c->row)
        return ft_fail(st, FT_ERR_FORMAT, "%s:%" PRIu64 ": column %d: not valid JSON: %s", c->source, c->line, e.column,
                       e.text);
    json_t *text = json_object_get(c->row, "text");
    if (!json_is_object(c->row) || !json_is_string(text))
        return ft_fail(st, FT_ERR_FORMAT, "%s:%" PRIu64 ": a row must be a JSON object whose 'text' is a string",
                       c->source, c->line);
    ft_code rc = identify(c, json_object_get(c->row, "id"), st);
    if (rc)
        return rc;
    json_incref(text); /* it outlives its place in the row */
    json_object_del(c->row, "text");
    json_object_del(c->row, "id");
    ft_buffer_reset(&c->metadata);
    rc = ft_json_write(c->row, &c->metadata, st);
    json_decref(c->row);
    c->row = text;
    *out = (ft_document){.id = c->made_id.data,
                         .text = json_string_value(text),
                         .text_bytes = json_string_length(text),
                         .metadata = c->metadata.data,
                         .metadata_bytes = c->metadata.size,
                         .source = c->source,
                         .line = c->line};
    return rc;
}

static ft_code give_file(ft_corpus *c, ft_document *out, ft_status *st)
{
    ft_code rc = read_whole(c, st);
    if (rc)
        return rc;
    const char *text = c->raw.data;
    size_t n = c->raw.size;
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        text += 3;
        n -= 3;
    }
    size_t line = 1;
    for (size_t i = 0; i < n;) {
        const ft_utf8_step s = ft_utf8_next(text + i, n - i);
        if (!s.valid || !s.code_point)
            return ft_fail(st, FT_ERR_FORMAT, "%s:%zu: byte %zu is %s; convert the file to UTF-8 text", c->source, line,
                           i, s.valid ? "NUL" : "not valid UTF-8");
        line += text[i] == '\n';
        i += s.length;
    }
    ft_buffer_reset(&c->text);
    rc = c->format == HTML ? ft_html_text(text, n, &c->text, st) : ft_buffer_append(&c->text, text, n, st);
    if (rc)
        return rc;
    *out = (ft_document){.id = c->id,
                         .text = c->text.data,
                         .text_bytes = c->text.size,
                         .metadata = "{}",
                         .metadata_bytes = 2,
                         .source = c->source};
    return FT_OK;
}

/* The next document of the member, or *more 0 at its end. */
static ft_code next_of_member(ft_corpus *c, ft_document *out, int *more, ft_status *st)
{
    *more = 0;
    if (c->format != JSONL) {
        c->in_member = 0;
        ft_code rc = give_file(c, out, st);
        *more = rc == FT_OK;
        return rc;
    }
    for (;;) {
        const char *line;
        size_t n;
        int any;
        ft_code rc = read_line(c, &line, &n, &any, st);
        if (rc || !any) {
            c->in_member = 0;
            return rc;
        }
        if (c->line == 1 && n >= 3 && !memcmp(line, "\xEF\xBB\xBF", 3)) {
            line += 3;
            n -= 3;
        }
        if (n <= c->options.max_document_bytes && strspn(line, " \t\r\n") >= n)
            continue; /* an empty line is no document */
        rc = give_row(c, line, n, out, st);
        *more = rc == FT_OK;
        return rc;
    }
}

/* Moves to the next member, of this file or of the next; *more 0 at the corpus' end. */
static ft_code next_member(ft_corpus *c, int *more, ft_status *st)
{
    *more = 0;
    for (;;) {
        if (!c->members) {
            if (c->next_file == c->files.count)
                return FT_OK;
            ft_code rc = ft_members_open(&c->members, &c->files.files[c->next_file++], st);
            if (rc)
                return rc;
        }
        const char *name;
        ft_code rc = ft_members_next(c->members, &name, &c->source, &c->id, more, st);
        if (rc || *more) {
            c->format = rc ? PLAIN : format_of(name);
            c->in_member = *more;
            c->at_end = 0;
            c->line = 0;
            c->used = 0;
            ft_buffer_reset(&c->raw);
        }
        if (!rc && *more)
            return FT_OK;
        if (rc || !*more) {
            c->finished_bytes += c->files.files[c->next_file - 1].bytes;
            ft_members_close(c->members);
            c->members = NULL;
        }
        if (rc)
            return rc;
    }
}

ft_code ft_corpus_next(ft_corpus *c, ft_document *out, int *more, ft_status *st)
{
    ft_status mine = {0};
    for (;;) {
        *more = 0;
        ft_code rc = FT_OK;
        if (c->in_member) {
            rc = next_of_member(c, out, more, &mine);
        } else {
            int any;
            rc = next_member(c, &any, &mine);
            if (!rc && !any)
                return FT_OK;
        }
        if (!rc && *more) {
            c->counts.documents++;
            c->counts.bytes += out->text_bytes;
            return FT_OK;
        }
        if (!rc)
            continue;
        if (rc != FT_ERR_FORMAT || !c->options.skip_bad)
            return ft_fail(st, rc, "%s", mine.msg);
        c->counts.bad++;
        if (c->options.warn)
            c->options.warn(c->options.warn_context, mine.msg);
    }
}
