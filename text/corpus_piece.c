#include "text/corpus_piece.h"

#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "text/corpus_input.h"
#include "text/ft_html.h"

#include <inttypes.h>
#include <string.h>

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

static ft_code parse_row(ft_corpus_parser *p, const ft_corpus_piece *piece, ft_document *out, ft_status *st)
{
    ft_status why = {0};
    ft_code rc = FT_OK;
    const size_t bad = first_bad_byte(piece->bytes, piece->size);
    if (bad < piece->size)
        rc = ft_fail(&why, FT_ERR_FORMAT, "byte %zu is not UTF-8", bad + 1);
    if (!rc)
        rc = ft_corpus_row_parse(&p->row, piece->bytes, piece->size, &why);
    if (!rc && p->row.id.size == 0)
        rc = ft_buffer_printf(&p->row.id, &why, "%s:%" PRIu64, piece->label, piece->line);
    if (rc)
        return ft_fail(st, rc, "%s:%" PRIu64 ": %s", piece->source, piece->line, why.msg);
    *out = (ft_document){.id = p->row.id.data,
                         .text = p->row.text.data,
                         .text_bytes = p->row.text.size,
                         .metadata = p->row.metadata.data,
                         .metadata_bytes = p->row.metadata.size,
                         .source = piece->source,
                         .line = piece->line};
    return FT_OK;
}

static ft_code read_file(ft_corpus_parser *p, const ft_corpus_piece *piece, ft_status *st)
{
    ft_input *s = NULL;
    ft_code rc = ft_input_open(&s, piece->path, piece->source, &p->input_bytes, st);
    if (!rc)
        rc = ft_input_read_all(s, &p->bytes, p->max_document_bytes, st);
    ft_input_close(s);
    return rc;
}

/* A whole file must be UTF-8 without NULs: anything else is no text. */
static ft_code check_whole(const char *p, size_t n, const char *name, ft_status *st)
{
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

/* Without the CRs before LFs; text[0, n) itself where it holds none. */
static ft_code unify_line_ends(ft_corpus_parser *p, const char **text, size_t *n, ft_status *st)
{
    const char *from = *text, *end = from + *n, *cr = memchr(from, '\r', *n);
    if (!cr)
        return FT_OK;
    ft_buffer *out = &p->text;
    ft_buffer_reset(out);
    const ft_code rc = ft_buffer_reserve(out, *n, st);
    for (; !rc && cr; cr = memchr(cr + 1, '\r', (size_t)(end - cr - 1))) {
        const int drop = cr + 1 < end && cr[1] == '\n';
        memcpy(out->data + out->size, from, (size_t)(cr - from) + !drop);
        out->size += (size_t)(cr - from) + !drop;
        from = cr + 1;
    }
    if (rc)
        return rc;
    memcpy(out->data + out->size, from, (size_t)(end - from));
    out->size += (size_t)(end - from);
    out->data[out->size] = '\0';
    *text = out->data;
    *n = out->size;
    return FT_OK;
}

static ft_code title_metadata(ft_corpus_parser *p, ft_status *st)
{
    ft_buffer *out = &p->row.metadata;
    ft_buffer_reset(out);
    if (p->title.size == 0)
        return ft_buffer_append_str(out, "{}", st);
    json_t *object = json_pack("{s:o}", "title", ft_json_text(p->title.data, p->title.size));
    const ft_code rc = object ? ft_json_write(object, out, st) : ft_fail(st, FT_ERR_MEM, "corpus: out of memory");
    json_decref(object);
    return rc;
}

static ft_code parse_whole(ft_corpus_parser *p, const ft_corpus_piece *piece, ft_document *out, ft_status *st)
{
    ft_buffer_reset(&p->title);
    ft_code rc = piece->bytes ? FT_OK : read_file(p, piece, st);
    const char *text = piece->bytes ? piece->bytes : p->bytes.data;
    size_t n = piece->bytes ? piece->size : p->bytes.size;
    if (!rc)
        rc = check_whole(text, n, piece->source, st);
    if (rc)
        return rc;
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        text += 3;
        n -= 3;
    }
    if (piece->format == FT_CORPUS_HTML) {
        ft_buffer_reset(&p->text);
        rc = ft_buffer_reserve(&p->text, 0, st); /* never NULL, also when empty */
        if (!rc)
            rc = ft_html_text(text, n, &p->text, &p->title, st);
        text = p->text.data;
        n = p->text.size;
    } else {
        rc = unify_line_ends(p, &text, &n, st);
    }
    if (!rc)
        rc = title_metadata(p, st);
    if (rc)
        return rc;
    *out = (ft_document){.id = piece->label,
                         .text = text,
                         .text_bytes = n,
                         .metadata = p->row.metadata.data,
                         .metadata_bytes = p->row.metadata.size,
                         .source = piece->source};
    return FT_OK;
}

ft_code ft_corpus_piece_parse(ft_corpus_parser *p, const ft_corpus_piece *piece, ft_document *out, ft_status *st)
{
    return piece->format == FT_CORPUS_JSONL ? parse_row(p, piece, out, st) : parse_whole(p, piece, out, st);
}

void ft_corpus_parser_release(ft_corpus_parser *p)
{
    ft_corpus_row_release(&p->row);
    ft_buffer_release(&p->bytes);
    ft_buffer_release(&p->text);
    ft_buffer_release(&p->title);
}
