/* Normalizers. NFC and its kin take the decompositions and combining classes from
 * utf8proc, but only for the characters that the reference's own, older tables
 * know (ft_normalizer_knows): what was assigned later passes unchanged. */
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    HANGUL = 0xAC00,
    HANGUL_END = 0xD7A4,
    LEAD = 0x1100,
    VOWEL = 0x1161,
    TAIL = 0x11A7,
    LEADS = 19,
    VOWELS = 21,
    TAILS = 28
};

static ft_code add_change(ft_work *w, uint32_t c, int32_t change, ft_status *st)
{
    ft_changes *list = &w->changes;
    ft_code rc = ft_array_grow((void **)&list->items, &list->capacity, list->count + 1, sizeof(*list->items), st);
    if (!rc)
        list->items[list->count++] = (ft_change){c, change};
    return rc;
}

static ft_code lowercase(ft_work *w, const ft_piece *p, ft_status *st)
{
    const unsigned char *text = (const unsigned char *)ft_work_layer(w)->text;
    ft_code rc = FT_OK;
    w->changes.count = 0;
    for (uint32_t at = p->start; !rc && at < p->end;) {
        unsigned length;
        uint32_t to[2];
        const int n = ft_unicode_lower(ft_utf8_decode(text + at, &length), to);
        rc = add_change(w, to[0], 0, st);
        if (!rc && n == 2)
            rc = add_change(w, to[1], 1, st);
        at += length;
    }
    return rc ? rc : ft_layer_transform(w, p, 0, st);
}

/* Keeps the characters for which keep() is not 0, or what Strip leaves. */
static ft_code filter(ft_work *w, const ft_piece *p, const ft_classes *drop, ft_status *st)
{
    const unsigned char *text = (const unsigned char *)ft_work_layer(w)->text;
    size_t first = 0; /* removed in front of the first that stays */
    int32_t removed = 0;
    ft_code rc = FT_OK;
    w->changes.count = 0;
    for (uint32_t at = p->start; !rc && at < p->end;) {
        unsigned length;
        const uint32_t c = ft_utf8_decode(text + at, &length);
        at += length;
        if (ft_class_of(drop, c)) {
            removed++;
            continue;
        }
        if (w->changes.count)
            w->changes.items[w->changes.count - 1].change = -removed;
        else
            first = (size_t)removed;
        removed = 0;
        rc = add_change(w, c, 0, st);
    }
    if (w->changes.count)
        w->changes.items[w->changes.count - 1].change = -removed;
    return rc ? rc : ft_layer_transform(w, p, first, st);
}

static ft_code strip(ft_work *w, const ft_piece *p, int left, int right, ft_status *st)
{
    const unsigned char *text = (const unsigned char *)ft_work_layer(w)->text;
    const ft_classes *space = w->t->space;
    unsigned length;
    uint32_t start = p->start, end = p->end;
    size_t removed = 0;
    while (left && start < end && ft_class_of(space, ft_utf8_decode(text + start, &length))) {
        start += length;
        removed++;
    }
    while (right && end > start) {
        uint32_t before = end - 1;
        while ((text[before] & 0xC0) == 0x80)
            before--;
        if (!ft_class_of(space, ft_utf8_decode(text + before, &length)))
            break;
        end = before;
    }
    if (start == p->start && end == p->end)
        return ft_layer_copy(w, start, end, st);
    ft_code rc = FT_OK;
    w->changes.count = 0;
    for (uint32_t at = start; !rc && at < end; at += length)
        rc = add_change(w, ft_utf8_decode(text + at, &length), 0, st);
    return rc ? rc : ft_layer_transform(w, p, removed, st);
}

static ft_code replace(ft_work *w, const ft_piece *p, const ft_normalizer *n, ft_status *st)
{
    const ft_layer *l = ft_work_layer(w);
    const unsigned char *content = (const unsigned char *)n->text.data;
    uint32_t done = p->start;
    size_t start, end;
    ft_code rc = ft_matcher_start(w->matcher, n->regex, l->text + p->start, p->end - p->start, st);
    while (!rc) {
        rc = ft_matcher_next(w->matcher, &start, &end, st);
        if (rc)
            break;
        rc = ft_layer_copy(w, done, p->start + (uint32_t)start, st);
        done = p->start + (uint32_t)end;
        uint32_t begin = p->from, stop = p->from; /* nothing before it: it stands for nothing */
        if (done > p->start)
            ft_layer_origin(l, done - 1, &begin, &stop);
        for (size_t i = 0; !rc && i < n->text.size;) {
            unsigned length;
            rc = ft_layer_put(w, ft_utf8_decode(content + i, &length), begin, stop, st);
            i += length;
        }
    }
    return rc == FT_ERR_NOT_FOUND ? ft_layer_copy(w, done, p->end, st) : rc;
}

/* Characters that may join the one before although their combining class is 0. */
static int joins_as_starter(uint32_t c)
{
    static const uint32_t list[] = {0x9BE,   0x9D7,   0xB3E,   0xB56,   0xB57,   0xBBE,   0xBD7,  0xCC2,
                                    0xCD5,   0xCD6,   0xD3E,   0xD57,   0xDCF,   0xDDF,   0x102E, 0x1B35,
                                    0x11127, 0x1133E, 0x11357, 0x114B0, 0x114BA, 0x114BD, 0x115AF};
    if ((c >= VOWEL && c < VOWEL + VOWELS) || (c > TAIL && c < TAIL + TAILS))
        return 1;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        if (list[i] == c)
            return 1;
    return 0;
}

static int is_hangul(uint32_t c)
{
    return c >= HANGUL && c < HANGUL_END;
}

/* Whether normalization may have anything to do with this character. */
static int matters(const ft_tokenizer *t, uint32_t c)
{
    return c >= 0xA0 && (ft_class_of(t->normalizer_knows, c) || joins_as_starter(c));
}

static ft_code push_char(ft_work *w, uint32_t c, uint32_t begin, uint32_t end, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&w->chars, &w->chars_capacity, w->chars_count + 1, sizeof(*w->chars), st);
    if (rc)
        return rc;
    const int known = c >= 0x300 && ft_class_of(w->t->normalizer_knows, c);
    const uint8_t class = known ? (uint8_t)utf8proc_get_property((utf8proc_int32_t)c)->combining_class : 0;
    /* Canonical order: sink below marks of a higher class, never past a starter. */
    size_t at = w->chars_count++;
    while (class && at > 0 && w->chars[at - 1].class > class) {
        w->chars[at] = w->chars[at - 1];
        at--;
    }
    w->chars[at] = (ft_norm_char){c, begin, end, class};
    return FT_OK;
}

static ft_code push_decomposed(ft_work *w, uint32_t c, int compatible, uint32_t begin, uint32_t end, ft_status *st)
{
    utf8proc_int32_t parts[32];
    utf8proc_ssize_t n = 1;
    parts[0] = (utf8proc_int32_t)c;
    if (matters(w->t, c) && (is_hangul(c) || ft_class_of(w->t->normalizer_knows, c))) {
        int boundary = 0;
        const utf8proc_option_t options =
            (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
        n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 32, options, &boundary);
        if (n < 0 || n > 32)
            return ft_fail(st, FT_ERR_LIMIT, "no decomposition of U+%04X: %s", c, utf8proc_errmsg(n));
    }
    ft_code rc = FT_OK;
    for (utf8proc_ssize_t i = 0; !rc && i < n; i++)
        rc = push_char(w, (uint32_t)parts[i], begin, end, st);
    return rc;
}

/* The primary composite of two characters, or 0. */
static uint32_t compose(uint32_t a, uint32_t b)
{
    if (a >= LEAD && a < LEAD + LEADS && b >= VOWEL && b < VOWEL + VOWELS)
        return HANGUL + ((a - LEAD) * VOWELS + (b - VOWEL)) * TAILS;
    if (is_hangul(a) && (a - HANGUL) % TAILS == 0 && b > TAIL && b < TAIL + TAILS)
        return a + (b - TAIL);
    utf8proc_int32_t pair[2] = {(utf8proc_int32_t)a, (utf8proc_int32_t)b};
    const utf8proc_ssize_t n =
        utf8proc_normalize_utf32(pair, 2, (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    return n == 1 ? (uint32_t)pair[0] : 0;
}

/* Canonical composition of w->chars, in place. */
static void compose_chars(ft_work *w)
{
    size_t used = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < w->chars_count; i++) {
        const ft_norm_char c = w->chars[i];
        /* Blocked when something between has no lower class than c. */
        const int adjacent = starter != SIZE_MAX && starter + 1 == used;
        const int open = starter != SIZE_MAX && (adjacent || (w->chars[used - 1].class < c.class));
        const int may_join = c.class || joins_as_starter(c.code_point);
        const uint32_t joined = open && may_join ? compose(w->chars[starter].code_point, c.code_point) : 0;
        if (joined && (is_hangul(joined) || ft_class_of(w->t->normalizer_knows, joined))) {
            ft_norm_char *s = &w->chars[starter];
            s->code_point = joined;
            s->begin = c.begin < s->begin ? c.begin : s->begin;
            s->end = c.end > s->end ? c.end : s->end;
            continue;
        }
        if (!c.class)
            starter = used;
        w->chars[used++] = c;
    }
    w->chars_count = used;
}

/* After reordering: ranges that do not run backwards. */
static void order_origins(ft_work *w)
{
    for (size_t i = 1; i < w->chars_count; i++)
        if (w->chars[i].end < w->chars[i - 1].end)
            w->chars[i].end = w->chars[i - 1].end;
    for (size_t i = w->chars_count; i-- > 1;)
        if (w->chars[i - 1].begin > w->chars[i].begin)
            w->chars[i - 1].begin = w->chars[i].begin;
}

static ft_code unicode_form(ft_work *w, const ft_piece *p, ft_normalizer_kind kind, ft_status *st)
{
    const ft_layer *l = ft_work_layer(w);
    const int compatible = kind == FT_NORM_NFKC || kind == FT_NORM_NFKD;
    ft_code rc = FT_OK;
    w->chars_count = 0;
    for (uint32_t at = p->start; !rc && at < p->end;) {
        unsigned length;
        const uint32_t c = ft_utf8_decode((const unsigned char *)l->text + at, &length);
        uint32_t begin, end;
        ft_layer_origin(l, at, &begin, &end);
        rc = push_decomposed(w, c, compatible, begin, end, st);
        at += length;
    }
    if (!rc && (kind == FT_NORM_NFC || kind == FT_NORM_NFKC))
        compose_chars(w);
    if (!rc)
        order_origins(w);
    for (size_t i = 0; !rc && i < w->chars_count; i++)
        rc = ft_layer_put(w, w->chars[i].code_point, w->chars[i].begin, w->chars[i].end, st);
    return rc;
}

/* Whether the step can leave every piece as it is: most texts are already NFC. */
static int nothing_to_do(const ft_work *w, const ft_normalizer *n)
{
    const ft_layer *l = &w->layers[w->now];
    if (n->kind > FT_NORM_NFKD)
        return 0;
    const unsigned char *text = (const unsigned char *)l->text;
    for (size_t at = 0; at < l->size;) {
        if (text[at] < 0x80) {
            at++;
            continue;
        }
        unsigned length;
        if (matters(w->t, ft_utf8_decode(text + at, &length)))
            return 0;
        at += length;
    }
    return 1;
}

static ft_code normalize_piece(ft_work *w, const ft_normalizer *n, const ft_piece *p, ft_status *st)
{
    switch (n->kind) {
    case FT_NORM_NFC:
    case FT_NORM_NFD:
    case FT_NORM_NFKC:
    case FT_NORM_NFKD:
        return unicode_form(w, p, n->kind, st);
    case FT_NORM_LOWERCASE:
        return lowercase(w, p, st);
    case FT_NORM_STRIP:
        return strip(w, p, n->left, n->right, st);
    case FT_NORM_STRIP_ACCENTS:
        return filter(w, p, w->t->accents, st);
    case FT_NORM_REPLACE:
        return replace(w, p, n, st);
    case FT_NORM_PREPEND:
    case FT_NORM_BYTES:
        break; /* steps of their own */
    }
    return ft_fail(st, FT_ERR_ARG, "no such normalizer");
}

static ft_code run_step(ft_work *w, const ft_normalizer *n, ft_status *st)
{
    if (n->kind == FT_NORM_PREPEND)
        return ft_work_prepend(w, n->text.data ? n->text.data : "", n->text.size, 0, st);
    if (n->kind == FT_NORM_BYTES)
        return ft_work_to_letters(w, st);
    if (nothing_to_do(w, n))
        return FT_OK;
    ft_code rc = ft_layer_begin(w, st);
    for (size_t i = 0; !rc && i < w->pieces.count; i++) {
        const ft_piece *p = &w->pieces.items[i];
        const size_t start = w->layers[!w->now].owned.size;
        rc = p->token == FT_NO_TOKEN ? normalize_piece(w, n, p, st) : ft_layer_copy(w, p->start, p->end, st);
        if (!rc)
            rc = ft_layer_close_piece(w, p, start, st);
    }
    if (!rc)
        ft_layer_swap(w);
    return rc;
}

ft_code ft_work_normalize(ft_work *w, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < w->t->normalizers_count; i++)
        rc = run_step(w, &w->t->normalizers[i], st);
    return rc;
}

ft_code ft_normalize_text(const ft_tokenizer *t, const char *text, size_t n, ft_buffer *out, ft_status *st)
{
    ft_work w = {.t = t};
    ft_code rc = ft_matcher_new(&w.matcher, st);
    if (!rc)
        rc = ft_work_start(&w, text, n, st);
    if (!rc)
        rc = ft_work_normalize(&w, st);
    for (size_t i = 0; !rc && i < w.pieces.count; i++)
        rc = ft_buffer_append(out, ft_work_layer(&w)->text + w.pieces.items[i].start,
                              w.pieces.items[i].end - w.pieces.items[i].start, st);
    ft_work_release(&w);
    return rc;
}
