/* Matching over classes of characters: see regex_internal.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex_internal.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum {
    JIT_STACK_START = 32 << 10,
    JIT_STACK_MAX = 64 << 20,
    MATCH_LIMIT = 50 * 1000 * 1000, /* steps of one match: a second or so */
    HEAP_LIMIT_KIB = 256 << 10      /* of the interpreter, which takes over where the JIT's stack ends */
};

struct ft_regex {
    pcre2_code *code;
    ft_classes *classes;
    uint8_t ascii[128]; /* class of each ASCII character, next to each other */
    int jit;
};

struct ft_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    const ft_regex *regex;
    uint8_t *subject; /* [characters] class of each */
    size_t capacity, characters;
    const unsigned char *text;
    int ascii;              /* a character is a byte */
    size_t from, from_byte; /* where the next search starts, in characters and in bytes */
    size_t seen, seen_byte; /* a character and its byte, to count on from */
    size_t last_end;        /* of the match before; SIZE_MAX at first */
};

void ft_regex_free(ft_regex *r)
{
    if (!r)
        return;
    pcre2_code_free(r->code);
    ft_classes_free(r->classes);
    free(r);
}

/* PCRE2's text: each set becomes a class of bytes. */
static ft_code render(ft_buffer *out, const ft_regex_draft *d, uint64_t (*members)[4], ft_status *st)
{
    ft_code rc = FT_OK;
    const char *p = d->text.data ? d->text.data : "";
    for (size_t i = 0; !rc && i < d->text.size; i++) {
        if (p[i] != '\x01') {
            rc = ft_buffer_append(out, p + i, 1, st);
            continue;
        }
        const uint64_t *bits = members[strtoul((const char[]){p[i + 1], p[i + 2], p[i + 3], p[i + 4], 0}, NULL, 16)];
        i += 4;
        if (!(bits[0] | bits[1] | bits[2] | bits[3])) {
            rc = ft_buffer_append_str(out, "(?!)", st);
            continue;
        }
        rc = ft_buffer_append_str(out, "[", st);
        for (unsigned c = 0; !rc && c < 256; c++)
            if (bits[c >> 6] >> (c & 63) & 1)
                rc = ft_buffer_printf(out, st, "\\x%02x", c);
        if (!rc)
            rc = ft_buffer_append_str(out, "]", st);
    }
    return rc;
}

ft_code ft_regex_build(ft_regex **out, const ft_regex_draft *d, ft_status *st)
{
    *out = NULL;
    ft_buffer text = {0};
    ft_regex *r = calloc(1, sizeof(*r));
    uint64_t(*members)[4] = ft_alloc_array(d->count, sizeof(*members));
    ft_code rc = r && members ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = ft_classes_build(&r->classes, d->sets, d->count, members, st);
    if (!rc)
        rc = render(&text, d, members, st);
    if (!rc) {
        int error;
        PCRE2_SIZE at;
        r->code =
            pcre2_compile((PCRE2_SPTR)(text.data ? text.data : ""), text.size,
                          PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP, &error, &at, NULL);
        if (!r->code) {
            PCRE2_UCHAR what[160] = "";
            pcre2_get_error_message(error, what, sizeof(what));
            rc = ft_fail(st, error == PCRE2_ERROR_NOMEMORY ? FT_ERR_MEM : FT_ERR_UNSUPPORTED, "%s", (char *)what);
        }
    }
    if (!rc) {
        r->jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
        for (unsigned c = 0; c < 128; c++)
            r->ascii[c] = ft_class_of(r->classes, c);
        *out = r;
        r = NULL;
    }
    ft_regex_free(r);
    free(members);
    ft_buffer_release(&text);
    return rc;
}

ft_code ft_regex_compile(ft_regex **out, const char *pattern, size_t n, const char *where, ft_status *st)
{
    *out = NULL;
    ft_regex_draft d = {0};
    ft_code rc = ft_regex_translate(&d, pattern, n, st);
    if (!rc)
        rc = ft_regex_build(out, &d, st);
    if (rc)
        ft_status_prefix(st, "%s: regular expression", where);
    ft_regex_draft_release(&d);
    return rc;
}

ft_code ft_regex_literal(ft_regex **out, const char *text, size_t n, const char *where, ft_status *st)
{
    *out = NULL;
    ft_regex_draft d = {0};
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < n;) {
        unsigned length;
        const uint32_t c = ft_utf8_decode((const unsigned char *)text + i, &length);
        ft_cpset set = {0};
        rc = ft_cpset_add(&set, c, c, st);
        if (!rc)
            rc = ft_regex_draft_set(&d, &set, st);
        i += length;
    }
    if (!rc)
        rc = ft_regex_build(out, &d, st);
    if (rc)
        ft_status_prefix(st, "%s: text to split at", where);
    ft_regex_draft_release(&d);
    return rc;
}

ft_code ft_regex_one_of(ft_regex **out, ft_named_set which, ft_status *st)
{
    *out = NULL;
    ft_regex_draft d = {0};
    ft_cpset set = {0};
    ft_code rc = ft_cpset_add_named(&set, which, st);
    if (!rc)
        rc = ft_regex_draft_set(&d, &set, st);
    else
        ft_cpset_release(&set);
    if (!rc)
        rc = ft_regex_build(out, &d, st);
    ft_regex_draft_release(&d);
    return rc;
}

ft_code ft_regex_rust_words(ft_regex **out, ft_status *st)
{
    *out = NULL;
    ft_regex_draft d = {0};
    ft_cpset word = {0}, rest = {0};
    ft_code rc = ft_cpset_add_named(&word, FT_SET_WORD_RUST, st);
    if (!rc)
        rc = ft_cpset_add_named(&rest, FT_SET_WORD_RUST, st);
    if (!rc)
        rc = ft_cpset_add_named(&rest, FT_SET_SPACE, st);
    if (!rc)
        rc = ft_cpset_invert(&rest, st);
    if (!rc)
        rc = ft_regex_draft_set(&d, &word, st);
    if (!rc)
        rc = ft_buffer_append_str(&d.text, "+|", st);
    if (!rc)
        rc = ft_regex_draft_set(&d, &rest, st);
    if (!rc)
        rc = ft_buffer_append_str(&d.text, "+", st);
    if (!rc)
        rc = ft_regex_build(out, &d, st);
    ft_cpset_release(&word);
    ft_cpset_release(&rest);
    ft_regex_draft_release(&d);
    return rc;
}

ft_code ft_matcher_new(ft_matcher **out, ft_status *st)
{
    *out = NULL;
    ft_matcher *m = calloc(1, sizeof(*m));
    if (m) {
        m->data = pcre2_match_data_create(1, NULL);
        m->context = pcre2_match_context_create(NULL);
        m->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL);
    }
    if (!m || !m->data || !m->context) {
        ft_matcher_free(m);
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    }
    pcre2_set_match_limit(m->context, MATCH_LIMIT);
    pcre2_set_heap_limit(m->context, HEAP_LIMIT_KIB);
    if (m->stack) /* NULL where there is no JIT */
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
    *out = m;
    return FT_OK;
}

void ft_matcher_free(ft_matcher *m)
{
    if (!m)
        return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    free(m->subject);
    free(m);
}

ft_code ft_matcher_start(ft_matcher *m, const ft_regex *r, const char *text, size_t n, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&m->subject, &m->capacity, n + 1, 1, st);
    if (rc)
        return rc;
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0, used = 0;
    while (i < n) {
        if (p[i] < 0x80) {
            m->subject[used++] = r->ascii[p[i++]];
            continue;
        }
        unsigned length;
        const uint32_t c = ft_utf8_decode(p + i, &length);
        m->subject[used++] = ft_class_of(r->classes, c);
        i += length;
    }
    m->regex = r;
    m->text = p;
    m->characters = used;
    m->ascii = used == n;
    m->from = m->from_byte = m->seen = m->seen_byte = 0;
    m->last_end = SIZE_MAX;
    return FT_OK;
}

/* The byte where a character starts, at or behind the last one asked for. */
static size_t byte_of(ft_matcher *m, size_t character)
{
    if (m->ascii)
        return character;
    size_t byte = m->seen_byte;
    for (size_t i = m->seen; i < character; i++) {
        const unsigned char lead = m->text[byte];
        byte += lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    }
    m->seen = character;
    m->seen_byte = byte;
    return byte;
}

static int search(ft_matcher *m)
{
    const ft_regex *r = m->regex;
    int rc = r->jit ? pcre2_jit_match(r->code, m->subject, m->characters, m->from, 0, m->data, m->context)
                    : PCRE2_ERROR_JIT_STACKLIMIT;
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(r->code, m->subject, m->characters, m->from, PCRE2_NO_JIT, m->data, m->context);
    return rc;
}

ft_code ft_matcher_next(ft_matcher *m, size_t *start, size_t *end, ft_status *st)
{
    while (m->from <= m->characters) {
        const int rc = search(m);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc == PCRE2_ERROR_NOMEMORY)
            return ft_fail(st, FT_ERR_MEM, "out of memory");
        if (rc < 0) {
            PCRE2_UCHAR what[120] = "";
            pcre2_get_error_message(rc, what, sizeof(what));
            return ft_fail(st, FT_ERR_LIMIT,
                           "the tokenizer's regular expression does not come to an end on this text at byte %zu: %s",
                           byte_of(m, m->from), (char *)what);
        }
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);
        if (at[0] == at[1] && at[1] == m->last_end) {
            m->from++;
            continue;
        }
        m->from = m->last_end = at[1];
        *start = byte_of(m, at[0]);
        *end = byte_of(m, at[1]);
        return FT_OK;
    }
    m->from = m->characters + 1;
    return FT_ERR_NOT_FOUND;
}
