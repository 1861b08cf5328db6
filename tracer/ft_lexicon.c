#include "tracer/lexicon_internal.h"

#include "base/ft_utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const word_hash BASE = UINT64_C(0x1B8735939E3779B9); /* below the prime */

enum { MAX_TOKEN_BYTES = 0xFFFF };

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

/* Appends a character, lower-cased; returns its bytes. */
static unsigned add_letter(word_hash *hash, uint32_t c)
{
    utf8proc_uint8_t bytes[4] = {(utf8proc_uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c)};
    const utf8proc_ssize_t n = c < 0x80 ? 1 : utf8proc_encode_char(utf8proc_tolower((utf8proc_int32_t)c), bytes);
    for (utf8proc_ssize_t i = 0; i < n; i++)
        *hash = word_hash_join(*hash, (word_hash)bytes[i] + 1, BASE);
    return (unsigned)n;
}

ft_code words_walk(const char *text, size_t bytes, word_hash *open, word_visit *visit, void *context, ft_status *st)
{
    for (size_t at = 0; at < bytes;) {
        const ft_utf8_step step = ft_utf8_next(text + at, bytes - at);
        at += step.length;
        if (step.valid && is_word_character(step.code_point)) {
            (void)add_letter(open, step.code_point);
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

const char *lexicon_bytes(const ft_lexicon *l, uint32_t id, size_t *size)
{
    *size = 0;
    return id < l->count ? ft_tokenizer_token_bytes(l->tokenizer, id, size, NULL) : "";
}

/* Tokens ids[from..) that cannot be looked at alone, as text. Returns where they end. */
static ft_code join(const ft_lexicon *l, const uint32_t *ids, size_t n, size_t *at, ft_buffer *scratch, ft_status *st)
{
    ft_buffer_reset(scratch);
    for (; *at < n; ++*at) {
        const lexeme *x = lexicon_find(l, ids[*at]);
        if (x->flags & LEXEME_PLAIN && !(x->flags & LEXEME_EMPTY))
            break;
        size_t size;
        const char *bytes = lexicon_bytes(l, ids[*at], &size);
        const ft_code rc = ft_buffer_append(scratch, bytes, size, st);
        if (rc)
            return rc;
    }
    return FT_OK;
}

static ft_code add_to_list(void *list, word_hash word, ft_status *st)
{
    word_list *l = list;
    const ft_code rc = ft_array_grow((void **)&l->words, &l->capacity, l->count + 1, sizeof(*l->words), st);
    if (!rc)
        l->words[l->count++] = word;
    return rc;
}

ft_code words_of_tokens(const ft_lexicon *l, const uint32_t *ids, size_t n, ft_buffer *scratch, word_hash *open,
                        word_list *out, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < n;) {
        const lexeme *x = lexicon_find(l, ids[i]);
        if (!(x->flags & LEXEME_PLAIN)) {
            rc = join(l, ids, n, &i, scratch, st);
            if (!rc)
                rc = words_walk(scratch->data, scratch->size, open, add_to_list, out, st);
            continue;
        }
        if (out->capacity < out->count + 1 + x->words)
            rc =
                ft_array_grow((void **)&out->words, &out->capacity, out->count + 1 + x->words, sizeof(*out->words), st);
        if (rc)
            break;
        i++;
        /* Without branches that nobody can foretell: most tokens either begin a word or go on with none. */
        const int whole = (x->flags & LEXEME_WHOLE) != 0;
        const word_hash word =
            *open && x->head ? word_hash_join(*open, x->head, l->powers[x->head_bytes]) : *open | x->head;
        out->words[out->count] = word;
        out->count += !whole & (word != 0);
        for (uint32_t w = 0; w < x->words; w++)
            out->words[out->count++] = l->words[x->first_word + w];
        *open = whole ? word : x->tail;
    }
    return rc;
}

/* Both halves of an extent are added up at once, in blocks in which neither can overflow. */
void lexicon_measure(const ft_lexicon *l, const uint32_t *ids, size_t n, uint64_t *bytes, uint64_t *characters)
{
    const size_t block = MAX_TOKEN_BYTES / l->longest;
    for (size_t from = 0; from < n; from += block) {
        const size_t to = n - from > block ? from + block : n;
        uint32_t sum = 0;
        for (size_t i = from; i < to; i++)
            sum += l->extents[lexicon_slot(l, ids[i])];
        *bytes += sum & 0xFFFF;
        *characters += sum >> 16;
    }
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

/* powers[0..bytes]. */
static ft_code add_powers(ft_lexicon *l, size_t bytes, ft_status *st)
{
    const ft_code rc = ft_array_grow((void **)&l->powers, &l->power_capacity, bytes + 1, sizeof(*l->powers), st);
    for (; !rc && l->power_count <= bytes; l->power_count++)
        l->powers[l->power_count] = l->power_count ? word_hash_mul(l->powers[l->power_count - 1], BASE) : 1;
    return rc;
}

/* Letter by letter: its words, and whether it may be looked at alone. */
static ft_code read_lexeme(ft_lexicon *l, lexeme *x, const char *bytes, size_t size, uint32_t *characters,
                           ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t at = 0; !rc && at < size;) {
        const ft_utf8_step step = ft_utf8_next(bytes + at, size - at);
        at += step.length;
        ++*characters;
        if (!step.valid) {
            x->flags = 0; /* what it is depends on its neighbours */
            *characters = (uint32_t)ft_utf8_count(bytes, size);
            break;
        }
        if (is_word_character(step.code_point)) {
            if (x->flags & LEXEME_WHOLE)
                x->head_bytes += add_letter(&x->head, step.code_point);
            else
                (void)add_letter(&x->tail, step.code_point);
            continue;
        }
        if (x->tail)
            rc = add_word(l, x, x->tail, st);
        x->tail = 0;
        x->flags = LEXEME_PLAIN;
    }
    return rc ? rc : add_powers(l, x->head_bytes, st);
}

static ft_code add_lexeme(ft_lexicon *l, uint32_t id, ft_status *st)
{
    size_t size;
    const char *bytes = lexicon_bytes(l, id, &size);
    uint32_t characters = 0;
    if (size > MAX_TOKEN_BYTES)
        return ft_fail(st, FT_ERR_LIMIT, "%s: token %u has %zu bytes; %d are the most", ft_tokenizer_path(l->tokenizer),
                       id, size, MAX_TOKEN_BYTES);
    lexeme *x = &l->lexemes[id];
    *x = (lexeme){.first_word = (uint32_t)l->word_count,
                  .flags = (uint8_t)(LEXEME_PLAIN | LEXEME_WHOLE | (size ? 0 : LEXEME_EMPTY))};
    const ft_code rc = read_lexeme(l, x, bytes, size, &characters, st);
    l->extents[id] = (uint32_t)size | characters << 16;
    l->longest = size > l->longest ? (uint32_t)size : l->longest;
    spelling *s = &l->spellings[id];
    if (size > SPELLED_BYTES || !(x->flags & LEXEME_PLAIN)) {
        s->size = SPELLED_APART;
        return rc;
    }
    s->size = (uint8_t)size;
    s->characters = (uint8_t)characters;
    if (size)
        memcpy(s->bytes, bytes, size);
    return rc;
}

ft_code ft_lexicon_new(ft_lexicon **out, const ft_tokenizer *t, ft_status *st)
{
    *out = NULL;
    ft_lexicon *l = calloc(1, sizeof(*l));
    const uint32_t count = ft_tokenizer_vocab_size(t);
    if (l) {
        l->lexemes = ft_alloc_array((size_t)count + 1, sizeof(*l->lexemes));
        l->spellings = ft_alloc_array((size_t)count + 1, sizeof(*l->spellings));
        l->extents = ft_alloc_array((size_t)count + 1, sizeof(*l->extents));
    }
    ft_code rc = l && l->lexemes && l->spellings && l->extents
                     ? FT_OK
                     : ft_fail(st, FT_ERR_MEM, "ranking: no room for %u tokens", count);
    if (!rc) {
        l->tokenizer = t;
        l->count = count;
        l->longest = 1;
    }
    for (uint32_t id = 0; !rc && id <= count; id++)
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
    free(l->spellings);
    free(l->extents);
    free(l->powers);
    free(l->words);
    free(l);
}
