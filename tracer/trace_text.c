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

static boundary boundary_at(size_t bytes, size_t characters)
{
    return (boundary){(uint32_t)bytes, (uint32_t)bytes, (uint32_t)characters, (uint32_t)characters};
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
        const boundary inside = {(uint32_t)before, (uint32_t)m->text.size, (uint32_t)count, (uint32_t)*characters};
        const boundary behind = boundary_at(m->text.size, *characters);
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
        if (x->flags & LEXEME_PLAIN && !(x->flags & LEXEME_EMPTY))
            break;
        size_t size;
        const char *bytes = lexicon_bytes(l, ids[*i], &size);
        const ft_code rc = ft_buffer_append(&k->raw, bytes, size, st);
        if (rc)
            return rc;
        k->ends[*i - first] = k->raw.size;
    }
    flags &= (m->text.size ? 0u : TEXT_TRIM_START) | (*i < m->n ? 0u : TEXT_TRIM_END);
    return place(m, first, *i - first, &k->raw, k->ends, flags, &k->characters, st);
}

/* Tokens from *i on that carry their bytes; most do. */
static ft_code place_spelled(text_map *m, making *k, const ft_lexicon *l, const uint32_t *ids, size_t *i,
                             ft_status *st)
{
    const ft_code rc = ft_buffer_reserve(&m->text, (m->n - *i) * SPELLED_BYTES, st);
    if (rc)
        return rc;
    size_t size = m->text.size, characters = k->characters, at = *i;
    char *text = m->text.data;
    for (; at < m->n; at++) {
        const spelling *x = &l->spellings[lexicon_slot(l, ids[at])];
        if (x->size == SPELLED_APART)
            break;
        memcpy(text + size, x->bytes, SPELLED_BYTES); /* all of them: a copy of a known length is two moves */
        size += x->size;
        characters += x->characters;
        m->at[at + 1] = boundary_at(size, characters);
    }
    text[size] = '\0';
    m->text.size = size;
    k->characters = characters;
    *i = at;
    return FT_OK;
}

/* One that is plain, but long. */
static ft_code place_long(text_map *m, making *k, const ft_lexicon *l, uint32_t id, size_t *i, ft_status *st)
{
    size_t size;
    const char *bytes = lexicon_bytes(l, id, &size);
    const ft_code rc = ft_buffer_append(&m->text, bytes, size, st);
    k->characters += lexicon_characters(l, id);
    m->at[++*i] = boundary_at(m->text.size, k->characters);
    return rc;
}

ft_code text_map_make(text_map *out, const ft_lexicon *l, const uint32_t *ids, size_t n, unsigned flags, ft_status *st)
{
    making k = {0};
    ft_buffer_reset(&out->text);
    out->n = n;
    out->trimmed = 0;
    ft_code rc = ft_array_grow((void **)&out->at, &out->capacity, n + 1, sizeof(*out->at), st);
    if (!rc)
        rc = ft_buffer_reserve(&out->text, 1, st);
    if (!rc)
        out->at[0] = boundary_at(0, 0);
    for (size_t i = 0; !rc && i < n;) {
        rc = place_spelled(out, &k, l, ids, &i, st);
        if (rc || i == n)
            break;
        if (lexicon_find(l, ids[i])->flags & LEXEME_PLAIN)
            rc = place_long(out, &k, l, ids[i], &i, st);
        else
            rc = place_run(out, &k, l, ids, &i, flags, st);
    }
    if (!rc && out->text.size > UINT32_MAX)
        rc = ft_fail(st, FT_ERR_LIMIT, "trace: a text of %zu bytes is longer than one can be", out->text.size);
    ft_buffer_release(&k.raw);
    free(k.ends);
    if (rc)
        text_map_release(out);
    return rc;
}
