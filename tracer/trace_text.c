/* From tokens to text, with the place of every token in it. */
#include "base/ft_utf8.h"
#include "tracer/lexicon_internal.h"
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

/* Tokens [first, first + n) that cannot be placed one by one: walks the characters of raw, in which
 * token i of them ends at ends[i]. */
static ft_code place(text_map *m, size_t first, size_t n, const ft_buffer *raw, const size_t *ends, unsigned flags,
                     size_t *characters, ft_status *st)
{
    size_t token = 0, p = flags & TEXT_TRIM_START ? leading_rest(raw->data, raw->size) : 0;
    const boundary start = m->at[first];
    ft_code rc = FT_OK;
    m->trimmed += p;
    while (token < n && ends[token] <= p)
        m->at[first + ++token] = start;
    while (!rc && p < raw->size) {
        const ft_utf8_step step = ft_utf8_next(raw->data + p, raw->size - p);
        const int dropped = step.incomplete && flags & TEXT_TRIM_END;
        const size_t before = m->text.size, count = *characters;
        if (!dropped)
            rc = step.valid ? ft_buffer_append(&m->text, raw->data + p, step.length, st)
                            : ft_buffer_append(&m->text, "\xEF\xBF\xBD", 3, st);
        p += step.length;
        *characters += !dropped;
        const boundary inside = {before, m->text.size, count, *characters};
        const boundary behind = {m->text.size, m->text.size, *characters, *characters};
        for (; token < n && ends[token] <= p; token++)
            m->at[first + token + 1] = ends[token] < p ? inside : behind;
    }
    return rc;
}

/* What text_map_make needs while it works. */
typedef struct making {
    ft_buffer raw;
    size_t *ends; /* [n], made when a token needs it */
    size_t characters;
} making;

/* The run of tokens at *i that cannot be looked at one by one. */
static ft_code place_run(text_map *m, making *k, const ft_lexicon *l, const uint32_t *ids, size_t *i, unsigned flags,
                         ft_status *st)
{
    const size_t first = *i;
    ft_buffer_reset(&k->raw);
    if (!k->ends && !(k->ends = ft_alloc_array(m->n, sizeof(*k->ends))))
        return ft_fail(st, FT_ERR_MEM, "trace: no room for the text of %zu tokens", m->n);
    for (; *i < m->n; ++*i) {
        const lexeme *x = lexicon_find(l, ids[*i]);
        if (x->flags & LEXEME_PLAIN && x->size)
            break;
        const ft_code rc = ft_buffer_append(&k->raw, x->bytes, x->size, st);
        if (rc)
            return rc;
        k->ends[*i - first] = k->raw.size;
    }
    flags &= (m->text.size ? 0u : TEXT_TRIM_START) | (*i < m->n ? 0u : TEXT_TRIM_END);
    return place(m, first, *i - first, &k->raw, k->ends, flags, &k->characters, st);
}

ft_code text_map_make(text_map *out, const ft_lexicon *l, const uint32_t *ids, size_t n, unsigned flags, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    out->n = n;
    out->at = ft_alloc_array(n + 1, sizeof(*out->at));
    making k = {0};
    ft_code rc = out->at ? ft_buffer_reserve(&out->text, 1, st)
                         : ft_fail(st, FT_ERR_MEM, "trace: no room for the text of %zu tokens", n);
    for (size_t i = 0; !rc && i < n;) {
        const lexeme *x = lexicon_find(l, ids[i]);
        if (!(x->flags & LEXEME_PLAIN)) {
            rc = place_run(out, &k, l, ids, &i, flags, st);
            continue;
        }
        rc = ft_buffer_append(&out->text, x->bytes, x->size, st);
        k.characters += x->characters;
        out->at[++i] = (boundary){out->text.size, out->text.size, k.characters, k.characters};
    }
    ft_buffer_release(&k.raw);
    free(k.ends);
    if (rc)
        text_map_release(out);
    return rc;
}
