/* The tokens' byte strings, sorted, so that those which begin with given bytes stand side by side. */
#include "base/ft_buffer.h"
#include "index/text_match_internal.h"

#include <stdlib.h>
#include <string.h>

void ft_text_vocabulary_release(ft_text_vocabulary *v)
{
    free(v->text);
    free(v->at);
    free(v->sorted);
    free(v->empty);
    *v = (ft_text_vocabulary){0};
}

/* --- Sorting ------------------------------------------------------------------------- */

/* A string by its first eight bytes, as a big-endian number; most comparisons end there. */
typedef struct sort_key {
    uint64_t head;
    const unsigned char *text;
    uint32_t n, id;
} sort_key;

static uint64_t head_of(const unsigned char *text, uint32_t n)
{
    uint64_t head = 0;
    for (uint32_t i = 0; i < 8; i++)
        head = head << 8 | (i < n ? text[i] : 0);
    return head;
}

static int by_bytes(const void *a, const void *b)
{
    const sort_key *x = a, *y = b;
    if (x->head != y->head)
        return x->head < y->head ? -1 : 1;
    const int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    if (order || x->n != y->n)
        return order ? order : x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static ft_code sort_strings(ft_text_vocabulary *v, ft_status *st)
{
    sort_key *keys = ft_alloc_array(v->size, sizeof(*keys));
    v->sorted = ft_alloc_array(v->size, sizeof(*v->sorted));
    v->empty = ft_alloc_array(v->size, sizeof(*v->empty));
    if (!keys || !v->sorted || !v->empty) {
        free(keys);
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    for (uint32_t id = 0; id < v->size; id++) {
        uint32_t n;
        const unsigned char *text = ft_text_of(v, id, &n);
        if (n)
            keys[v->sorted_count++] = (sort_key){head_of(text, n), text, n, id};
        else
            v->empty[v->empty_count++] = id;
        v->longest_bytes = n > v->longest_bytes ? n : v->longest_bytes;
    }
    if (v->sorted_count)
        qsort(keys, v->sorted_count, sizeof(*keys), by_bytes);
    for (uint32_t i = 0; i < v->sorted_count; i++)
        v->sorted[i] = keys[i].id;
    free(keys);
    return FT_OK;
}

/* --- Making ---------------------------------------------------------------------------- */

static ft_code measure(ft_text_vocabulary *v, const ft_tokenizer *t, ft_status *st)
{
    uint64_t total = 0;
    v->size = ft_tokenizer_vocab_size(t);
    v->at = ft_alloc_array((size_t)v->size + 1, sizeof(*v->at));
    if (!v->at)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (uint32_t id = 0; id < v->size; id++) {
        size_t n;
        (void)ft_tokenizer_token_bytes(t, id, &n, NULL);
        total += n;
        if (total > UINT32_MAX)
            return ft_fail(st, FT_ERR_LIMIT, "%s: the tokens have more than 4 GiB of text", ft_tokenizer_path(t));
        v->at[id + 1] = (uint32_t)total;
    }
    v->text = ft_alloc_array((size_t)total, 1);
    return v->text ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
}

ft_code ft_text_vocabulary_of_tokenizer(ft_text_vocabulary *out, const ft_tokenizer *t, int reversed, ft_status *st)
{
    *out = (ft_text_vocabulary){0};
    ft_code rc = measure(out, t, st);
    for (uint32_t id = 0; id < out->size && !rc; id++) {
        size_t n;
        const char *text = ft_tokenizer_token_bytes(t, id, &n, NULL);
        for (size_t i = 0; i < n; i++)
            out->text[out->at[id] + i] = (unsigned char)text[reversed ? n - 1 - i : i];
    }
    if (!rc)
        rc = sort_strings(out, st);
    if (rc)
        ft_text_vocabulary_release(out);
    return rc;
}

ft_code ft_text_vocabulary_of_bytes(ft_text_vocabulary *out, ft_status *st)
{
    *out =
        (ft_text_vocabulary){.size = 256, .text = ft_alloc_array(256, 1), .at = ft_alloc_array(257, sizeof(*out->at))};
    ft_code rc = out->text && out->at ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    for (uint32_t i = 0; i < 256 && !rc; i++) {
        out->text[i] = (unsigned char)i;
        out->at[i + 1] = i + 1;
    }
    if (!rc)
        rc = sort_strings(out, st);
    if (rc)
        ft_text_vocabulary_release(out);
    return rc;
}

/* --- Narrowing --------------------------------------------------------------------------- */

/* First string of r whose byte at `depth` is at least `byte`; a string that ends before counts as -1. */
static uint32_t first_from(const ft_text_vocabulary *v, ft_text_run r, uint32_t depth, int byte)
{
    while (r.lo < r.hi) {
        const uint32_t mid = r.lo + (r.hi - r.lo) / 2;
        uint32_t n;
        const unsigned char *text = ft_text_of(v, v->sorted[mid], &n);
        if ((depth < n ? text[depth] : -1) < byte)
            r.lo = mid + 1;
        else
            r.hi = mid;
    }
    return r.lo;
}

ft_text_run ft_text_vocabulary_narrow(const ft_text_vocabulary *v, ft_text_run r, uint32_t depth, unsigned char byte)
{
    r.lo = first_from(v, r, depth, byte);
    r.hi = first_from(v, r, depth, byte + 1);
    return r;
}
