/* Decoding: whole, and token by token. */
#include "base/ft_utf8.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

struct ft_text_stream {
    const ft_tokenizer *t;
    unsigned flags;
    size_t held; /* bytes of an incomplete character, at most 3 */
    char bytes[4];
};

/* A view of what an id shows; empty for what is unknown or left out. */
static const char *shown(const ft_tokenizer *t, uint32_t id, unsigned flags, size_t *n)
{
    int special;
    const char *bytes = ft_tokenizer_token_bytes(t, id, n, &special);
    if (special && flags & FT_DECODE_SKIP_SPECIAL)
        *n = 0;
    return bytes;
}

ft_code ft_tokenizer_decode(const ft_tokenizer *t, const uint32_t *ids, size_t count, unsigned flags, ft_buffer *out,
                            ft_status *st)
{
    ft_buffer bytes = {0};
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < count; i++) {
        size_t n;
        const char *p = shown(t, ids[i], flags, &n);
        rc = ft_buffer_append(&bytes, p, n, st);
    }
    if (!rc)
        rc = ft_utf8_repair(bytes.data ? bytes.data : "", bytes.size, out, NULL, st);
    ft_buffer_release(&bytes);
    return rc;
}

ft_code ft_text_stream_new(ft_text_stream **out, const ft_tokenizer *t, unsigned flags, ft_status *st)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    (*out)->t = t;
    (*out)->flags = flags;
    return FT_OK;
}

void ft_text_stream_free(ft_text_stream *s)
{
    free(s);
}

void ft_text_stream_reset(ft_text_stream *s)
{
    s->held = 0;
}

/* Where the incomplete character at the end of the bytes begins; n where there is none. */
static size_t complete_part(const char *bytes, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char c = (unsigned char)bytes[n - back];
        if (c >= 0xC0) {
            const ft_utf8_step s = ft_utf8_next(bytes + n - back, back);
            return s.incomplete && s.length == back ? n - back : n;
        }
        if (c < 0x80)
            break;
    }
    return n;
}

ft_code ft_text_stream_push(ft_text_stream *s, uint32_t id, ft_buffer *out, ft_status *st)
{
    size_t n;
    const char *p = shown(s->t, id, s->flags, &n);
    ft_buffer bytes = {0};
    ft_code rc = ft_buffer_append(&bytes, s->bytes, s->held, st);
    if (!rc)
        rc = ft_buffer_append(&bytes, p, n, st);
    if (!rc) {
        const size_t whole = complete_part(bytes.data, bytes.size);
        rc = ft_utf8_repair(bytes.data, whole, out, NULL, st);
        if (!rc) {
            s->held = bytes.size - whole;
            memcpy(s->bytes, bytes.data + whole, s->held);
        }
    }
    ft_buffer_release(&bytes);
    return rc;
}

ft_code ft_text_stream_flush(ft_text_stream *s, ft_buffer *out, ft_status *st)
{
    const ft_code rc = s->held ? ft_utf8_append(out, 0xFFFD, st) : FT_OK;
    if (!rc)
        s->held = 0;
    return rc;
}
