#include "text/ft_corpus.h"

#include "base/ft_buffer.h"
#include "base/ft_utf8.h"
#include "text/corpus_files.h"
#include "text/corpus_input.h"
#include "text/corpus_piece.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    WINDOW = 256 * 1024,
    LEFT_MAX = 16 << 20 /* files up to here are left to the parser; larger ones are read here, and so by one thread */
};

/* What a file's name says about it. */
typedef struct kind {
    int gzip, zstd, tar;
    ft_corpus_format format;
} kind;

/* A file, or a member of a tar, as messages and documents name it. */
typedef struct item {
    ft_buffer source; /* operand, path below it, member */
    ft_buffer label;  /* the same without the operand: what ids are made of */
} item;

struct ft_corpus {
    ft_corpus_options options;
    int optional; /* options were given, so that --skip-bad is one of the command's */
    ft_corpus_counts counts;
    ft_corpus_files files;
    size_t file_at;
    ft_tar *tar; /* open, with its name */
    item tar_item;
    ft_input *stream; /* the open item */
    item item;
    uint64_t item_number;
    ft_corpus_format format;
    uint64_t line;
    char *window; /* read and not used: window[from, to) */
    size_t from, to;
    ft_buffer bytes;         /* a line that crosses the window's end, or a whole file */
    ft_corpus_parser parser; /* of ft_corpus_next */
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
        k.format = FT_CORPUS_JSONL;
    else if (ends_with(name, n, ".html") || ends_with(name, n, ".htm") || ends_with(name, n, ".xhtml"))
        k.format = FT_CORPUS_HTML;
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

static void begin_item(ft_corpus *c, ft_input *s, ft_corpus_format f)
{
    c->stream = s;
    c->format = f;
    c->line = 0;
    c->from = c->to = 0;
}

/* A piece of the open item. */
static ft_corpus_piece piece_of(const ft_corpus *c, const char *bytes, size_t n)
{
    return (ft_corpus_piece){.format = c->format,
                             .bytes = bytes,
                             .size = n,
                             .source = c->item.source.data,
                             .label = c->item.label.data,
                             .item = c->item_number,
                             .line = c->format == FT_CORPUS_JSONL ? c->line : 0};
}

static int left_to_parser(kind k, const ft_corpus_file *file)
{
    return !k.gzip && !k.zstd && !k.tar && k.format != FT_CORPUS_JSONL && file->bytes > 0 && file->bytes <= LEFT_MAX;
}

static ft_code open_file(ft_corpus *c, const ft_corpus_file *file, ft_corpus_piece *out, int *got, ft_status *st)
{
    const kind k = kind_of(file->path);
    item *i = k.tar ? &c->tar_item : &c->item;
    ft_input *s = NULL;
    ft_code rc = name_item(i, file->path, file->path + file->label, st);
    c->item_number++;
    if (!rc && left_to_parser(k, file)) {
        c->format = k.format;
        *out = piece_of(c, NULL, (size_t)file->bytes);
        out->path = file->path;
        *got = 1;
        return FT_OK;
    }
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
    c->item_number++;
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

/* ---- cutting ---------------------------------------------------------- */

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
    return over ? ft_input_too_large(c->options.max_document_bytes, st) : FT_OK;
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

static ft_code cut_line(ft_corpus *c, ft_corpus_piece *out, int *got, ft_status *st)
{
    const char *line = "";
    size_t n = 0;
    int end = 0;
    ft_status why = {0};
    const ft_code rc = read_line(c, &line, &n, &end, &why);
    if (rc)
        return line_failed(c, &why, st);
    if (end) {
        close_item(c);
        return FT_OK;
    }
    if (c->line == 1 && n >= 3 && !memcmp(line, "\xEF\xBB\xBF", 3)) {
        line += 3;
        n -= 3;
    }
    *got = !blank(line, n);
    *out = piece_of(c, line, n);
    return FT_OK;
}

static ft_code cut_whole(ft_corpus *c, ft_corpus_piece *out, int *got, ft_status *st)
{
    const ft_code rc = ft_input_read_all(c->stream, &c->bytes, c->options.max_document_bytes, st);
    close_item(c);
    if (rc)
        return rc;
    *out = piece_of(c, c->bytes.data, c->bytes.size);
    *got = 1;
    return FT_OK;
}

/* One step: opens what comes next, or reads from what is open. */
static ft_code step(ft_corpus *c, ft_corpus_piece *out, int *got, int *end, ft_status *st)
{
    if (c->stream)
        return c->format == FT_CORPUS_JSONL ? cut_line(c, out, got, st) : cut_whole(c, out, got, st);
    if (c->tar)
        return open_member(c, st);
    if (c->file_at < c->files.count)
        return open_file(c, &c->files.list[c->file_at++], out, got, st);
    *end = 1;
    return FT_OK;
}

ft_code ft_corpus_cut(ft_corpus *c, ft_corpus_piece *out, int *more, ft_status *st)
{
    int got = 0, end = 0;
    ft_code rc = FT_OK;
    while (!rc && !got && !end)
        rc = step(c, out, &got, &end, st);
    *more = !end;
    return rc;
}

/* ---- the public face -------------------------------------------------- */

ft_code ft_corpus_open(ft_corpus **out, const char *const *paths, size_t count, const ft_corpus_options *options,
                       ft_status *st)
{
    *out = NULL;
    ft_corpus *c = calloc(1, sizeof(*c));
    if (!c)
        return ft_fail(st, FT_ERR_MEM, "corpus: out of memory");
    c->optional = options != NULL;
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
    ft_corpus_parser_init(&c->parser, c);
    *out = c;
    return FT_OK;
}

void ft_corpus_close(ft_corpus *c)
{
    if (!c)
        return;
    close_tar(c);
    ft_corpus_files_release(&c->files);
    ft_corpus_parser_release(&c->parser);
    ft_buffer *const buffers[] = {&c->tar_item.source, &c->tar_item.label, &c->item.source, &c->item.label, &c->bytes};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
        ft_buffer_release(buffers[i]);
    free(c->window);
    free(c);
}

void ft_corpus_parser_init(ft_corpus_parser *p, const ft_corpus *c)
{
    *p = (ft_corpus_parser){.max_document_bytes = c->options.max_document_bytes};
}

ft_code ft_corpus_settle(ft_corpus *c, ft_code rc, const char *why, ft_status *st)
{
    if (rc == FT_ERR_MEM)
        return ft_fail(st, rc, "%s", why);
    c->counts.bad++;
    if (!c->options.skip_bad)
        return ft_fail(st, rc == FT_ERR_IO ? rc : FT_ERR_FORMAT, "%.440s%s", why,
                       c->optional ? "; --skip-bad passes over it" : "");
    if (c->options.warn)
        c->options.warn(c->options.warn_context, why);
    return FT_OK;
}

void ft_corpus_count(ft_corpus *c, uint64_t documents, uint64_t text_bytes, uint64_t input_bytes)
{
    c->counts.documents += documents;
    c->counts.bytes += text_bytes;
    c->counts.input_bytes += input_bytes;
}

ft_code ft_corpus_next(ft_corpus *c, ft_document *out, int *more, ft_status *st)
{
    *more = 0;
    for (;;) {
        ft_corpus_piece piece;
        ft_status why = {0};
        int any = 0;
        ft_code rc = ft_corpus_cut(c, &piece, &any, &why);
        if (!rc && !any)
            return FT_OK;
        if (!rc)
            rc = ft_corpus_piece_parse(&c->parser, &piece, out, &why);
        ft_corpus_count(c, !rc, rc ? 0 : out->text_bytes, c->parser.input_bytes);
        c->parser.input_bytes = 0;
        if (!rc) {
            *more = 1;
            return FT_OK;
        }
        rc = ft_corpus_settle(c, rc, why.msg, st);
        if (rc)
            return rc;
    }
}

ft_corpus_counts ft_corpus_progress(const ft_corpus *c)
{
    return c->counts;
}
