#include "tracer/lexicon_internal.h"

#include "base/ft_utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const word_hash BASE = UINT64_C(0x1B8735939E3779B9); /* below the prime */

enum { MAX_TOKEN_BYTES = 0xFFFF };

const lexeme lexeme_none = {.bytes = "", .head_power = 1, .flags = LEXEME_PLAIN | LEXEME_WHOLE};

/* --- Letters -------------------------------------------------------------------------- */

static int is_word_character(uint32_t c)
{
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return 1;
    default:
        return 0;
    }
}

/* Appends a character, lower-cased; *power, where given, becomes BASE^bytes of all. */
static void add_letter(word_hash *hash, word_hash *power, uint32_t c)
{
    utf8proc_uint8_t bytes[4] = {(utf8proc_uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c)};
    const utf8proc_ssize_t n = c < 0x80 ? 1 : utf8proc_encode_char(utf8proc_tolower((utf8proc_int32_t)c), bytes);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        *hash = word_hash_join(*hash, (word_hash)bytes[i] + 1, BASE);
        if (power)
            *power = word_hash_mul(*power, BASE);
    }
}

ft_code words_walk(const char *text, size_t bytes, word_hash *open, word_visit *visit, void *context, ft_status *st)
{
    for (size_t at = 0; at < bytes;) {
        const ft_utf8_step step = ft_utf8_next(text + at, bytes - at);
        at += step.length;
        if (step.valid && is_word_character(step.code_point)) {
            add_letter(open, NULL, step.code_point);
            continue;
        }
        if (!*open)
            continue;
        const ft_code rc = visit(context, *open, st);
        *open = 0;
        if (rc)
            return rc;
    }
    return FT_OK;
}

/* --- Tokens ---------------------------------------------------------------------------- */

/* Tokens ids[from..) that cannot be looked at alone, as text. Returns where they end. */
static ft_code join(const ft_lexicon *l, const uint32_t *ids, size_t n, size_t *at, ft_buffer *scratch, ft_status *st)
{
    ft_buffer_reset(scratch);
    for (; *at < n; ++*at) {
        const lexeme *x = lexicon_find(l, ids[*at]);
        if (x->flags & LEXEME_PLAIN && x->size)
            break;
        const ft_code rc = ft_buffer_append(scratch, x->bytes, x->size, st);
        if (rc)
            return rc;
    }
    return FT_OK;
}

ft_code words_walk_tokens(const ft_lexicon *l, const uint32_t *ids, size_t n, ft_buffer *scratch, word_hash *open,
                          word_visit *visit, void *context, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < n;) {
        const lexeme *x = lexicon_find(l, ids[i]);
        if (!(x->flags & LEXEME_PLAIN)) {
            rc = join(l, ids, n, &i, scratch, st);
            if (!rc)
                rc = words_walk(scratch->data, scratch->size, open, visit, context, st);
            continue;
        }
        i++;
        *open = word_hash_join(*open, x->head, x->head_power);
        if (x->flags & LEXEME_WHOLE)
            continue;
        if (*open)
            rc = visit(context, *open, st);
        for (uint32_t w = 0; !rc && w < x->words; w++)
            rc = visit(context, l->words[x->first_word + w], st);
        *open = x->tail;
    }
    return rc;
}

void lexicon_measure(const ft_lexicon *l, const uint32_t *ids, size_t n, uint64_t *bytes, uint64_t *characters)
{
    uint64_t b = 0, c = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t extent = ids[i] < l->count ? l->extents[ids[i]] : 0;
        b += extent & 0xFFFF;
        c += extent >> 16;
    }
    *bytes += b;
    *characters += c;
}

/* --- Making ------------------------------------------------------------------------------ */

static ft_code add_word(ft_lexicon *l, lexeme *x, word_hash word, ft_status *st)
{
    const ft_code rc = ft_array_grow((void **)&l->words, &l->word_capacity, l->word_count + 1, sizeof(*l->words), st);
    if (rc)
        return rc;
    l->words[l->word_count++] = word;
    x->words++;
    return FT_OK;
}

static ft_code add_lexeme(ft_lexicon *l, uint32_t id, ft_status *st)
{
    lexeme *x = &l->lexemes[id];
    size_t size;
    *x = lexeme_none;
    x->bytes = ft_tokenizer_token_bytes(l->tokenizer, id, &size, NULL);
    if (size > MAX_TOKEN_BYTES)
        return ft_fail(st, FT_ERR_LIMIT, "%s: token %u has %zu bytes; %d are the most", ft_tokenizer_path(l->tokenizer),
                       id, size, MAX_TOKEN_BYTES);
    x->size = (uint32_t)size;
    x->first_word = (uint32_t)l->word_count;
    ft_code rc = FT_OK;
    for (size_t at = 0; !rc && at < size;) {
        const ft_utf8_step step = ft_utf8_next(x->bytes + at, size - at);
        at += step.length;
        x->characters++;
        if (!step.valid) {
            x->flags = 0; /* what it is depends on its neighbours */
            x->characters = (uint32_t)ft_utf8_count(x->bytes, size);
            break;
        }
        if (is_word_character(step.code_point)) {
            if (x->flags & LEXEME_WHOLE)
                add_letter(&x->head, &x->head_power, step.code_point);
            else
                add_letter(&x->tail, NULL, step.code_point);
            continue;
        }
        if (x->tail)
            rc = add_word(l, x, x->tail, st);
        x->tail = 0;
        x->flags = LEXEME_PLAIN;
    }
    l->extents[id] = x->size | x->characters << 16;
    return rc;
}

ft_code ft_lexicon_new(ft_lexicon **out, const ft_tokenizer *t, ft_status *st)
{
    *out = NULL;
    ft_lexicon *l = calloc(1, sizeof(*l));
    const uint32_t count = ft_tokenizer_vocab_size(t);
    if (l) {
        l->lexemes = ft_alloc_array(count, sizeof(*l->lexemes));
        l->extents = ft_alloc_array(count, sizeof(*l->extents));
    }
    ft_code rc =
        l && l->lexemes && l->extents ? FT_OK : ft_fail(st, FT_ERR_MEM, "ranking: no room for %u tokens", count);
    if (!rc) {
        l->tokenizer = t;
        l->count = count;
    }
    for (uint32_t id = 0; !rc && id < count; id++)
        rc = add_lexeme(l, id, st);
    if (rc)
        ft_lexicon_free(l);
    else
        *out = l;
    return rc;
}

void ft_lexicon_free(ft_lexicon *l)
{
    if (!l)
        return;
    free(l->lexemes);
    free(l->extents);
    free(l->words);
    free(l);
}
