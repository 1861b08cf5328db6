/* From tokens to text, with the place of every token in it. */
#include "base/ft_utf8.h"
#include "tracer/tracer_internal.h"

#include <stdlib.h>
#include <string.h>

void text_map_release(text_map *m)
{
    ft_buffer_release(&m->text);
    free(m->at);
    memset(m, 0, sizeof(*m));
}

/* Bytes of the continuation of a character that began before the text. */
static size_t leading_rest(const char *bytes, size_t n)
{
    size_t i = 0;
    while (i < n && i < 3 && ((unsigned char)bytes[i] & 0xC0) == 0x80)
        i++;
    return i;
}

/* Walks the characters of raw[0..n) and places each token's end, ends[i] in raw bytes. */
static ft_code place(text_map *m, const ft_buffer *raw, const size_t *ends, unsigned flags, ft_status *st)
{
    size_t characters = 0, token = 0, p = flags & TEXT_TRIM_START ? leading_rest(raw->data, raw->size) : 0;
    ft_code rc = FT_OK;
    while (token < m->n && ends[token] <= p)
        m->at[++token] = (boundary){0};
    while (!rc && p < raw->size) {
        const ft_utf8_step step = ft_utf8_next(raw->data + p, raw->size - p);
        const int dropped = step.incomplete && flags & TEXT_TRIM_END;
        const size_t before = m->text.size;
        if (!dropped)
            rc = step.valid ? ft_buffer_append(&m->text, raw->data + p, step.length, st)
                            : ft_buffer_append(&m->text, "\xEF\xBF\xBD", 3, st);
        p += step.length;
        const boundary inside = {before, m->text.size, characters, characters + !dropped};
        const boundary behind = {m->text.size, m->text.size, characters + !dropped, characters + !dropped};
        for (; token < m->n && ends[token] <= p; token++)
            m->at[token + 1] = ends[token] < p ? inside : behind;
        characters += !dropped;
    }
    return rc;
}

ft_code text_map_make(text_map *out, const ft_tokenizer *t, const uint32_t *ids, size_t n, unsigned flags,
                      ft_status *st)
{
    memset(out, 0, sizeof(*out));
    out->n = n;
    ft_buffer raw = {0};
    size_t *ends = ft_alloc_array(n, sizeof(*ends));
    out->at = ft_alloc_array(n + 1, sizeof(*out->at));
    ft_code rc = ends && out->at ? FT_OK : ft_fail(st, FT_ERR_MEM, "trace: no room for the text of %zu tokens", n);
    for (size_t i = 0; !rc && i < n; i++) {
        size_t bytes;
        const char *text = ft_tokenizer_token_bytes(t, ids[i], &bytes, NULL);
        rc = ft_buffer_append(&raw, text, bytes, st);
        ends[i] = raw.size;
    }
    if (!rc)
        rc = ft_buffer_reserve(&out->text, raw.size + 1, st);
    if (!rc && raw.size)
        rc = place(out, &raw, ends, flags, st);
    ft_buffer_release(&raw);
    free(ends);
    if (rc)
        text_map_release(out);
    return rc;
}
