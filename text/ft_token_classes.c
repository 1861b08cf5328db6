#include "text/ft_token_classes.h"

#include "base/ft_file.h"
#include "text/unicode_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ID = 1 << 24, MAX_LIST_BYTES = 512 << 20 };

void ft_token_set_release(ft_token_set *s)
{
    free(s->bits);
    *s = (ft_token_set){0};
}

ft_code ft_token_set_add(ft_token_set *s, uint32_t id, ft_status *st)
{
    if (id > MAX_ID)
        return ft_fail(st, FT_ERR_LIMIT, "token id %u is above %d", id, MAX_ID);
    if (id >= s->limit) {
        /* limit is a multiple of 64: it is the capacity. */
        const size_t words = ((size_t)id >> 6) + 1, old = s->limit >> 6;
        const size_t grown = words > 2 * old ? words : 2 * old;
        uint64_t *bits = realloc(s->bits, grown * sizeof(*bits));
        if (!bits)
            return ft_fail(st, FT_ERR_MEM, "out of memory");
        memset(bits + old, 0, (grown - old) * sizeof(*bits));
        s->bits = bits;
        s->limit = (uint32_t)(grown << 6);
    }
    s->bits[id >> 6] |= UINT64_C(1) << (id & 63);
    return FT_OK;
}

/* A token that starts with a space begins a word; one that starts with a newline
 * does when nothing but white space follows. */
static int starts_word(const char *p, size_t n)
{
    if (n && p[0] == ' ')
        return 1;
    if (!n || p[0] != '\n')
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\n\v\f\r", p[i]) || !p[i])
            return 0;
    return 1;
}

ft_code ft_token_set_word_starts(ft_token_set *out, const ft_tokenizer *t, ft_status *st)
{
    *out = (ft_token_set){0};
    ft_code rc = FT_OK;
    for (uint32_t id = 0; !rc && id < ft_tokenizer_vocab_size(t); id++) {
        size_t n;
        const char *p = ft_tokenizer_token_bytes(t, id, &n, NULL);
        if (starts_word(p, n))
            rc = ft_token_set_add(out, id, st);
    }
    if (rc)
        ft_token_set_release(out);
    return rc;
}

static int holds(const char *p, size_t n, const char *text)
{
    const size_t size = strlen(text);
    for (size_t i = 0; size <= n && i <= n - size; i++)
        if (!memcmp(p + i, text, size))
            return 1;
    return 0;
}

ft_code ft_token_set_containing(ft_token_set *out, const ft_tokenizer *t, const char *const *strings, size_t count,
                                ft_status *st)
{
    *out = (ft_token_set){0};
    ft_code rc = FT_OK;
    for (uint32_t id = 0; !rc && id < ft_tokenizer_vocab_size(t); id++) {
        size_t n;
        const char *p = ft_tokenizer_token_bytes(t, id, &n, NULL);
        int any = 0;
        for (size_t i = 0; !any && i < count; i++)
            any = holds(p, n, strings[i]);
        if (any)
            rc = ft_token_set_add(out, id, st);
    }
    if (rc)
        ft_token_set_release(out);
    return rc;
}

ft_code ft_token_set_read(ft_token_set *out, const char *path, ft_status *st)
{
    *out = (ft_token_set){0};
    ft_buffer file = {0};
    ft_code rc = ft_file_read(path, MAX_LIST_BYTES, &file, st);
    size_t line = 1;
    for (size_t at = 0; !rc && at < file.size; line++) {
        uint64_t id = 0;
        size_t digits = 0;
        while (at < file.size && file.data[at] >= '0' && file.data[at] <= '9' && digits < 10) {
            id = id * 10 + (uint64_t)(file.data[at++] - '0');
            digits++;
        }
        if (at < file.size && file.data[at] == '\r')
            at++;
        const int ends = at == file.size || file.data[at] == '\n';
        if (!ends || (!digits && at < file.size) || id > MAX_ID)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: line %zu: not a token id (0 to %d)", path, line, MAX_ID);
        else
            rc = digits ? ft_token_set_add(out, (uint32_t)id, st) : FT_OK;
        at++;
    }
    ft_buffer_release(&file);
    if (rc)
        ft_token_set_release(out);
    return rc;
}
