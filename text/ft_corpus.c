#include "text/ft_corpus.h"

#include "base/ft_buffer.h"
#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "text/corpus_files.h"
#include "text/corpus_input.h"
#include "text/corpus_row.h"
#include "text/ft_html.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { WINDOW = 256 * 1024 };

typedef enum format { PLAIN, HTML, JSONL } format;

/* What a file's name says about it. */
typedef struct kind {
    int gzip, zstd, tar;
    format format;
} kind;

/* A file, or a member of a tar, as messages and documents name it. */
typedef struct item {
    ft_buffer source; /* operand, path below it, member */
    ft_buffer label;  /* the same without the operand: what ids are made of */
} item;

struct ft_corpus {
    ft_corpus_options options;
    ft_corpus_counts counts;
    ft_corpus_files files;
    size_t file_at;
    ft_tar *tar; /* open, with its name */
    item tar_item;
    ft_input *stream; /* the open item */
    item item;
    format format;
    uint64_t line;
    char *window; /* read and not used: window[from, to) */
    size_t from, to;
    ft_buffer bytes; /* a line that crosses the window's end, or a whole file */
    ft_buffer html_text, title;
    ft_corpus_row row;
};

/* ---- opening ---------------------------------------------------------- */

static int ends_with(const char *name, size_t n, const char *suffix)
{
    const size_t m = strlen(suffix);
    return n > m && strncasecmp(name + n - m, suffix, m) == 0;
}

static kind kind_of(const char *name)
{
    kind k = {0};
    size_t n = strlen(name);
    k.gzip = ends_with(name, n, ".gz") || ends_with(name, n, ".tgz");
    k.zstd = ends_with(name, n, ".zst") || ends_with(name, n, ".tzst");
    k.tar = ends_with(name, n, ".tgz") || ends_with(name, n, ".tzst") || ends_with(name, n, ".tar");
    if (!k.tar && (k.gzip || k.zstd)) {
        n -= k.gzip ? 3 : 4;
        k.tar = ends_with(name, n, ".tar");
    }
    if (ends_with(name, n, ".jsonl") || ends_with(name, n, ".ndjson") || ends_with(name, n, ".json"))
        k.format = JSONL;
    else if (ends_with(name, n, ".html") || ends_with(name, n, ".htm") || ends_with(name, n, ".xhtml"))
        k.format = HTML;
    return k;
}

static void close_item(ft_corpus *c)
{
    ft_input_close(c->stream);
    c->stream = NULL;
}

static void close_tar(ft_corpus *c)
{
    close_item(c);
    ft_tar_close(c->tar);
    c->tar = NULL;
}

/* File names are bytes; what we show and store is UTF-8. */
static ft_code name_item(item *i, const char *source, const char *label, ft_status *st)
{
    ft_buffer_reset(&i->source);
    ft_buffer_reset(&i->label);
    const ft_code rc = ft_utf8_repair(source, strlen(source), &i->source, NULL, st);
    return rc ? rc : ft_utf8_repair(label, strlen(label), &i->label, NULL, st);
}

static ft_code name_member(item *i, const item *tar, const char *member, ft_status *st)
{
    ft_code rc = name_item(i, tar->source.data, tar->label.data, st);
    ft_buffer *const names[] = {&i->source, &i->label};
    for (int k = 0; k < 2 && !rc; k++) {
        rc = ft_buffer_append(names[k], "/", 1, st);
        if (!rc)
            rc = ft_utf8_repair(member, strlen(member), names[k], NULL, st);
    }
    return rc;
}

static ft_code decompress(ft_input **s, kind k, const char *name, ft_status *st)
{
    ft_input *below = *s;
    *s = NULL;
    if (k.gzip)
        return ft_input_gunzip(s, below, name, st);
    if (k.zstd)
        return ft_input_unzstd(s, below, name, st);
    *s = below;
    return FT_OK;
}

static void begin_item(ft_corpus *c, ft_input *s, format f)
{
    c->stream = s;
    c->format = f;
    c->line = 0;
    c->from = c->to = 0;
}

static ft_code open_file(ft_corpus *c, const ft_corpus_file *file, ft_status *st)
{
    const kind k = kind_of(file->path);
    item *i = k.tar ? &c->tar_item : &c->item;
    ft_input *s = NULL;
    ft_code rc = name_item(i, file->path, file->path + file->label, st);
    if (!rc)
        rc = ft_input_open(&s, file->path, i->source.data, &c->counts.input_bytes, st);
    if (!rc)
        rc = decompress(&s, k, i->source.data, st);
    if (rc)
        return rc;
    if (k.tar)
        return ft_tar_open(&c->tar, s, i->source.data, st);
    begin_item(c, s, k.format);
    return FT_OK;
}

/* As in folders: what begins with a period stays out. */
static int hidden_member(const char *path)
{
    for (const char *p = path; *p; p++) {
        const int begins = p == path || p[-1] == '/';
        if (begins && *p == '.' && p[1] != '/' && !(p[1] == '.' && p[2] == '/'))
            return 1;
    }
    return 0;
}

static ft_code open_member(ft_corpus *c, ft_status *st)
{
    const char *path;
    ft_code rc = ft_tar_next(c->tar, &path, st);
    if (rc || !path) {
        close_tar(c);
        return rc;
    }
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    if (hidden_member(path))
        return FT_OK;
    rc = name_member(&c->item, &c->tar_item, path, st);
    if (rc)
        return rc;
    const kind k = kind_of(path);
    if (k.tar)
        return ft_fail(st, FT_ERR_FORMAT, "%s: a tar within a tar, which is not read", c->item.source.data);
    ft_input *s = NULL;
    rc = ft_tar_member(c->tar, &s, c->item.source.data, st);
    if (!rc)
        rc = decompress(&s, k, c->item.source.data, st);
    if (!rc)
        begin_item(c, s, k.format);
    return rc;
}

/* ---- reading ---------------------------------------------------------- */

/* Position of the first byte that is not UTF-8, or n. */
static size_t first_bad_byte(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        while (n - i >= sizeof(eight)) {
            memcpy(&eight, p + i, sizeof(eight));
            if (eight & 0x8080808080808080u)
                break;
            i += sizeof(eight);
        }
        if (i == n)
            break;
        const ft_utf8_step s = ft_utf8_next(p + i, n - i);
        if (!s.valid)
            return i;
        i += s.length;
    }
    return n;
}

static ft_code too_large(const ft_corpus *c, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "larger than the limit of %" PRIu64 " bytes a document",
                   c->options.max_document_bytes);
}

/* The next line without its newline, as a view; *end at the end. A line above
 * the limit is read to its end and fails: the lines behind it can be read. */
static ft_code read_line(ft_corpus *c, const char **line, size_t *n, int *end, ft_status *st)
{
    int over = 0, any = 0;
    ft_buffer_reset(&c->bytes);
    *end = 0;
    for (;;) {
        if (c->from == c->to) {
            c->from = 0;
            const ft_code rc = ft_input_read(c->stream, c->window, WINDOW, &c->to, st);
            if (rc) {
                c->to = 0;
                close_item(c);
                return rc;
            }
            if (c->to == 0)
                break;
        }
        any = 1;
        const char *begin = c->window + c->from;
        const char *newline = memchr(begin, '\n', c->to - c->from);
        const size_t piece = newline ? (size_t)(newline - begin) : c->to - c->from;
        c->from += piece + (newline != NULL);
        over |= c->bytes.size + piece > c->options.max_document_bytes;
        if (newline && c->bytes.size == 0 && !over) {
            *line = begin;
            *n = piece;
            c->line++;
            return FT_OK;
        }
        if (over)
            ft_buffer_reset(&c->bytes);
        const ft_code rc = over ? FT_OK : ft_buffer_append(&c->bytes, begin, piece, st);
        if (rc)
            return rc;
        if (newline)
            break;
    }
    *end = !any;
    c->line += (uint64_t)any;
    *line = c->bytes.data ? c->bytes.data : "";
    *n = c->bytes.size;
    return over ? too_large(c, st) : FT_OK;
}

static int blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
            return 0;
    return 1;
}

/* "FILE:LINE: " before what is wrong with a line; what is wrong with the stream names it. */
static ft_code line_failed(const ft_corpus *c, const ft_status *why, ft_status *st)
{
    if (!c->stream)
        return ft_fail(st, why->code, "%.400s, behind line %" PRIu64, why->msg, c->line);
    return ft_fail(st, why->code, "%s:%" PRIu64 ": %s", c->item.source.data, c->line, why->msg);
}

static ft_code next_row(ft_corpus *c, ft_document *out, int *got, ft_status *st)
{
    const char *line = "";
    size_t n = 0;
    int end = 0;
    ft_status why = {0};
    ft_code rc = read_line(c, &line, &n, &end, &why);
    if (!rc && end) {
        close_item(c);
        return FT_OK;
    }
    if (!rc && c->line == 1 && n >= 3 && !memcmp(line, "\xEF\xBB\xBF", 3)) {
        line += 3;
        n -= 3;
    }
    if (!rc && blank(line, n))
        return FT_OK;
    const size_t bad = rc ? n : first_bad_byte(line, n);
    if (bad < n)
        rc = ft_fail(&why, FT_ERR_FORMAT, "byte %zu is not UTF-8", bad + 1);
    if (!rc)
        rc = ft_corpus_row_parse(&c->row, line, n, &why);
    if (!rc && c->row.id.size == 0)
        rc = ft_buffer_printf(&c->row.id, &why, "%s:%" PRIu64, c->item.label.data, c->line);
    if (rc)
        return line_failed(c, &why, st);
    *out = (ft_document){.id = c->row.id.data,
                         .text = c->row.text.data,
                         .text_bytes = c->row.text.size,
                         .metadata = c->row.metadata.data,
                         .metadata_bytes = c->row.metadata.size,
                         .source = c->item.source.data,
                         .line = c->line};
    *got = 1;
    return FT_OK;
}

static ft_code read_whole(ft_corpus *c, ft_status *st)
{
    ft_buffer *b = &c->bytes;
    ft_buffer_reset(b);
    for (;;) {
        size_t got;
        ft_code rc = ft_buffer_reserve(b, WINDOW, st);
        if (!rc)
            rc = ft_input_read(c->stream, b->data + b->size, WINDOW, &got, st);
        if (rc)
            return rc;
        b->size += got;
        b->data[b->size] = '\0';
        if (got == 0)
            return FT_OK;
        if (b->size > c->options.max_document_bytes) {
            rc = too_large(c, st);
            ft_status_prefix(st, "%s", c->item.source.data);
            return rc;
        }
    }
}

/* A whole file must be UTF-8 without NULs: anything else is no text. */
static ft_code check_whole(const ft_corpus *c, ft_status *st)
{
    const char *p = c->bytes.data, *name = c->item.source.data;
    const size_t n = c->bytes.size;
    if (n >= 2 && (!memcmp(p, "\xFF\xFE", 2) || !memcmp(p, "\xFE\xFF", 2)))
        return ft_fail(st, FT_ERR_FORMAT, "%s: UTF-16, not UTF-8; convert it with iconv", name);
    size_t bad = first_bad_byte(p, n);
    const char *nul = memchr(p, '\0', bad);
    if (bad == n && !nul)
        return FT_OK;
    if (nul)
        bad = (size_t)(nul - p);
    uint64_t line = 1;
    size_t begin = 0;
    for (size_t i = 0; i < bad; i++)
        if (p[i] == '\n') {
            line++;
            begin = i + 1;
        }
    return ft_fail(st, FT_ERR_FORMAT, "%s:%" PRIu64 ": byte %zu is %s", name, line, bad - begin + 1,
                   nul ? "NUL: not a text" : "not UTF-8");
}

static void unify_line_ends(ft_buffer *b)
{
    char *cr = memchr(b->data, '\r', b->size);
    if (!cr)
        return;
    size_t to = (size_t)(cr - b->data);
    for (size_t i = to; i < b->size; i++)
        if (b->data[i] != '\r' || b->data[i + 1] != '\n') /* the terminator stands behind the last */
            b->data[to++] = b->data[i];
    b->size = to;
    b->data[to] = '\0';
}

static ft_code title_metadata(ft_corpus *c, ft_status *st)
{
    ft_buffer *out = &c->row.metadata;
    ft_buffer_reset(out);
    if (c->title.size == 0)
        return ft_buffer_append_str(out, "{}", st);
    json_t *object = json_pack("{s:o}", "title", ft_json_text(c->title.data, c->title.size));
    const ft_code rc = object ? ft_json_write(object, out, st) : ft_fail(st, FT_ERR_MEM, "corpus: out of memory");
    json_decref(object);
    return rc;
}

static ft_code next_whole(ft_corpus *c, ft_document *out, int *got, ft_status *st)
{
    ft_buffer *text = &c->bytes;
    ft_buffer_reset(&c->title);
    ft_code rc = read_whole(c, st);
    if (!rc)
        rc = check_whole(c, st);
    close_item(c);
    if (rc)
        return rc;
    if (text->size >= 3 && !memcmp(text->data, "\xEF\xBB\xBF", 3)) {
        text->size -= 3;
        memmove(text->data, text->data + 3, text->size + 1);
    }
    if (c->format == HTML) {
        ft_buffer_reset(&c->html_text);
        rc = ft_buffer_reserve(&c->html_text, 0, st); /* never NULL, also when empty */
        if (!rc)
            rc = ft_html_text(text->data, text->size, &c->html_text, &c->title, st);
        text = &c->html_text;
    } else {
        unify_line_ends(text);
    }
    if (!rc)
        rc = title_metadata(c, st);
    if (rc)
        return rc;
    *out = (ft_document){.id = c->item.label.data,
                         .text = text->data,
                         .text_bytes = text->size,
                         .metadata = c->row.metadata.data,
                         .metadata_bytes = c->row.metadata.size,
                         .source = c->item.source.data};
    *got = 1;
    return FT_OK;
}

/* ---- the public face -------------------------------------------------- */

ft_code ft_corpus_open(ft_corpus **out, const char *const *paths, size_t count, const ft_corpus_options *options,
                       ft_status *st)
{
    *out = NULL;
    ft_corpus *c = calloc(1, sizeof(*c));
    if (!c)
        return ft_fail(st, FT_ERR_MEM, "corpus: out of memory");
    if (options)
        c->options = *options;
    if (c->options.max_document_bytes == 0)
        c->options.max_document_bytes = (uint64_t)256 << 20;
    ft_code rc = FT_OK;
    c->window = malloc(WINDOW);
    if (!c->window)
        rc = ft_fail(st, FT_ERR_MEM, "corpus: out of memory");
    for (size_t i = 0; i < count && !rc; i++)
        rc = ft_corpus_files_add(&c->files, paths[i], &c->options, &c->counts.bad, st);
    if (rc) {
        ft_corpus_close(c);
        return rc;
    }
    c->counts.input_total = c->files.bytes;
    *out = c;
    return FT_OK;
}

void ft_corpus_close(ft_corpus *c)
{
    if (!c)
        return;
    close_tar(c);
    ft_corpus_files_release(&c->files);
    ft_corpus_row_release(&c->row);
    ft_buffer *const buffers[] = {&c->tar_item.source, &c->tar_item.label, &c->item.source, &c->item.label,
                                  &c->bytes,           &c->html_text,      &c->title};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
        ft_buffer_release(buffers[i]);
    free(c->window);
    free(c);
}

/* One step: opens what comes next, or reads from what is open. */
static ft_code step(ft_corpus *c, ft_document *out, int *got, int *end, ft_status *st)
{
    if (c->stream)
        return c->format == JSONL ? next_row(c, out, got, st) : next_whole(c, out, got, st);
    if (c->tar)
        return open_member(c, st);
    if (c->file_at < c->files.count)
        return open_file(c, &c->files.list[c->file_at++], st);
    *end = 1;
    return FT_OK;
}

ft_code ft_corpus_next(ft_corpus *c, ft_document *out, int *more, ft_status *st)
{
    int got = 0, end = 0;
    *more = 0;
    while (!got && !end) {
        ft_status why = {0};
        const ft_code rc = step(c, out, &got, &end, &why);
        if (rc == FT_ERR_MEM)
            return ft_fail(st, rc, "%s", why.msg);
        if (!rc)
            continue;
        c->counts.bad++;
        if (!c->options.skip_bad)
            return ft_fail(st, rc == FT_ERR_IO ? rc : FT_ERR_FORMAT, "%.440s; --skip-bad passes over it", why.msg);
        if (c->options.warn)
            c->options.warn(c->options.warn_context, why.msg);
    }
    *more = got;
    c->counts.documents += (uint64_t)got;
    c->counts.bytes += got ? out->text_bytes : 0;
    return FT_OK;
}

ft_corpus_counts ft_corpus_progress(const ft_corpus *c)
{
    return c->counts;
}
