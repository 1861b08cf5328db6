/* From Oniguruma's language to PCRE2's over classes: see regex_internal.h.
 *
 * Differences that matter, each checked against the engine: (?m) lets the dot match
 * a newline, ^ and $ always work on lines, an option in the middle binds all
 * alternatives behind it (a(?i)b|c is a(?i:b|c)), {n}+ and {n}? repeat a repeat,
 * brackets nest and intersect, case folding reaches bracketed properties but not
 * bare ones, and one character may equal two (ß, ss). */
#include "base/ft_utf8.h"
#include "text/regex_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 250, MAX_REPEAT = 65535, NEWLINE = '\n' };
enum { IGNORE_CASE = 1, DOT_ALL = 2 };

typedef struct parser {
    const char *text;
    size_t n, at;
    unsigned depth;
    ft_regex_draft *out;
    uint32_t *run; /* literal characters not yet written: those of one string fold together */
    size_t run_count, run_capacity;
    ft_status *st;
} parser;

void ft_regex_draft_release(ft_regex_draft *d)
{
    ft_buffer_release(&d->text);
    for (size_t i = 0; i < d->count; i++)
        ft_cpset_release(&d->sets[i]);
    free(d->sets);
    *d = (ft_regex_draft){0};
}

ft_code ft_regex_draft_set(ft_regex_draft *d, ft_cpset *set, ft_status *st)
{
    size_t i = 0;
    while (i < d->count && !ft_cpset_equal(&d->sets[i], set))
        i++;
    ft_code rc = FT_OK;
    if (i == d->count) {
        rc = i >= 0xFFFF ? ft_fail(st, FT_ERR_LIMIT, "it is too large") : FT_OK;
        if (!rc)
            rc = ft_array_grow((void **)&d->sets, &d->capacity, i + 1, sizeof(*d->sets), st);
        if (!rc) {
            d->sets[d->count++] = *set;
            *set = (ft_cpset){0};
        }
    }
    ft_cpset_release(set);
    return rc ? rc : ft_buffer_printf(&d->text, st, "\x01%04zx", i);
}

static ft_code refuse(parser *p, const char *what)
{
    return ft_fail(p->st, FT_ERR_UNSUPPORTED, "at byte %zu: %s is not implemented", p->at, what);
}

static ft_code wrong(parser *p, const char *what)
{
    return ft_fail(p->st, FT_ERR_FORMAT, "at byte %zu: %s", p->at, what);
}

static ft_code put(parser *p, const char *text)
{
    return ft_buffer_append_str(&p->out->text, text, p->st);
}

static int peek(const parser *p, size_t ahead)
{
    return p->at + ahead < p->n ? (unsigned char)p->text[p->at + ahead] : -1;
}

static int looking_at(const parser *p, const char *text)
{
    const size_t n = strlen(text);
    return p->n - p->at >= n && !memcmp(p->text + p->at, text, n);
}

static uint32_t take_character(parser *p)
{
    unsigned length;
    const uint32_t c = ft_utf8_decode((const unsigned char *)p->text + p->at, &length);
    p->at += length;
    return c;
}

/* Writes one character, or those that equal it but for case. */
static ft_code put_character(parser *p, uint32_t c, int options)
{
    ft_cpset set = {0};
    ft_code rc = ft_cpset_add(&set, c, c, p->st);
    if (!rc && options & IGNORE_CASE)
        rc = ft_cpset_close_over_case(&set, p->st);
    if (!rc)
        return ft_regex_draft_set(p->out, &set, p->st);
    ft_cpset_release(&set);
    return rc;
}

static unsigned fold_length(const ft_multi_fold *f)
{
    return f->to[2] ? 3 : 2;
}

/* Whether the characters are, but for case, what f folds to. */
static int folds_to(const ft_multi_fold *f, const uint32_t *text, size_t n)
{
    for (unsigned i = 0; i < fold_length(f); i++)
        if (i >= n || ft_unicode_fold(text[i]) != ft_unicode_fold(f->to[i]))
            return 0;
    return 1;
}

/* Longest folding that starts at text, and the set of what folds so. */
static ft_code find_multi(parser *p, const uint32_t *text, size_t n, unsigned *length, ft_cpset *singles)
{
    ft_code rc = FT_OK;
    *length = 0;
    for (size_t i = 0; i < ft_multi_folds_count; i++)
        if (folds_to(&ft_multi_folds[i], text, n) && fold_length(&ft_multi_folds[i]) > *length)
            *length = fold_length(&ft_multi_folds[i]);
    for (size_t i = 0; singles && !rc && i < ft_multi_folds_count; i++)
        if (fold_length(&ft_multi_folds[i]) == *length && folds_to(&ft_multi_folds[i], text, n))
            rc = ft_cpset_add(singles, ft_multi_folds[i].code_point, ft_multi_folds[i].code_point, p->st);
    return rc;
}

/* |(?:s s) for each character of the set that equals several. */
static ft_code put_expansions(parser *p, const ft_cpset *set)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < ft_multi_folds_count; i++) {
        if (!ft_cpset_has(set, ft_multi_folds[i].code_point))
            continue;
        rc = put(p, "|");
        for (unsigned k = 0; !rc && k < fold_length(&ft_multi_folds[i]); k++)
            rc = put_character(p, ft_multi_folds[i].to[k], IGNORE_CASE);
    }
    return rc;
}

static int has_expansion(const ft_cpset *set)
{
    for (size_t i = 0; i < ft_multi_folds_count; i++)
        if (ft_cpset_has(set, ft_multi_folds[i].code_point))
            return 1;
    return 0;
}

/* Writes text[0..] where case does not matter; *used says how many characters. */
static ft_code put_folded(parser *p, const uint32_t *text, size_t n, size_t *used)
{
    ft_cpset singles = {0};
    unsigned length = 0, inner;
    ft_code rc = find_multi(p, text, n, &length, &singles);
    for (size_t i = 1; !rc && i < length; i++) {
        rc = find_multi(p, text + i, n - i, &inner, NULL);
        if (!rc && i + inner > length)
            rc = refuse(p, "a string without case whose ligatures overlap");
    }
    if (!rc && length) {
        *used = length;
        rc = put(p, "(?:");
        for (unsigned i = 0; !rc && i < length; i++)
            rc = put_character(p, text[i], IGNORE_CASE);
        if (!rc)
            rc = put(p, "|");
        if (!rc)
            rc = ft_regex_draft_set(p->out, &singles, p->st);
        if (!rc)
            rc = put(p, ")");
    } else if (!rc) {
        *used = 1;
        rc = ft_cpset_add(&singles, text[0], text[0], p->st);
        if (!rc)
            rc = ft_cpset_close_over_case(&singles, p->st);
        const int several = !rc && has_expansion(&singles);
        if (several)
            rc = put(p, "(?:");
        if (!rc)
            rc = put_character(p, text[0], IGNORE_CASE);
        if (several && !rc)
            rc = put_expansions(p, &singles);
        if (several && !rc)
            rc = put(p, ")");
    }
    ft_cpset_release(&singles);
    return rc;
}

/* Writes the first `count` characters of the run and drops them. */
static ft_code flush_run(parser *p, size_t count, int options)
{
    ft_code rc = FT_OK;
    for (size_t i = 0, used = 1; !rc && i < count; i += used)
        rc = options & IGNORE_CASE ? put_folded(p, p->run + i, count - i, &used) : put_character(p, p->run[i], 0);
    if (count)
        memmove(p->run, p->run + count, (p->run_count - count) * sizeof(*p->run));
    p->run_count -= count;
    return rc;
}

static int hex_digit(int c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Digits of base 8 or 16 at the cursor, at least `least`, at most `most`. */
static ft_code take_number(parser *p, int base, unsigned least, unsigned most, uint32_t *out)
{
    uint32_t value = 0;
    unsigned digits = 0;
    while (digits < most && hex_digit(peek(p, 0)) >= 0 && hex_digit(peek(p, 0)) < base) {
        value = value * (uint32_t)base + (uint32_t)hex_digit(peek(p, 0));
        if (value > FT_LAST_CODE_POINT)
            return wrong(p, "a code point above U+10FFFF");
        p->at++;
        digits++;
    }
    if (digits < least)
        return wrong(p, "digits are missing behind the escape");
    *out = value;
    return FT_OK;
}

/* An escape that stands for one character; the cursor is behind the backslash. */
static ft_code take_escaped(parser *p, uint32_t *c)
{
    static const char letters[] = "tnrfvae", values[] = "\t\n\r\f\v\a\x1b";
    const int e = peek(p, 0);
    const char *found = e > 0 ? strchr(letters, e) : NULL;
    if (found) {
        p->at++;
        *c = (unsigned char)values[found - letters];
        return FT_OK;
    }
    if (e == 'x' && peek(p, 1) == '{') {
        p->at += 2;
        ft_code rc = take_number(p, 16, 1, 8, c);
        if (!rc && peek(p, 0) != '}')
            rc = refuse(p, "\\x{} with more than one number");
        p->at++;
        return rc;
    }
    if (e == 'x' || e == 'u') {
        p->at++;
        return take_number(p, 16, e == 'x' ? 1 : 4, e == 'x' ? 2 : 4, c);
    }
    if (e >= '0' && e <= '7')
        return take_number(p, 8, 1, 3, c);
    if ((e >= 'a' && e <= 'z') || (e >= 'A' && e <= 'Z') || e == '8' || e == '9') {
        char what[] = "\\?";
        what[1] = (char)e;
        return refuse(p, what);
    }
    if (e < 0)
        return wrong(p, "a backslash at the end");
    *c = take_character(p);
    return FT_OK;
}

/* \p{Name}, \P{Name}, \p{^Name}; the cursor is on the letter. */
static ft_code take_property(parser *p, ft_cpset *set)
{
    int invert = peek(p, 0) == 'P';
    if (peek(p, 1) != '{')
        return refuse(p, "\\p without braces");
    p->at += 2;
    if (peek(p, 0) == '^') {
        invert = !invert;
        p->at++;
    }
    const char *name = p->text + p->at, *end = memchr(name, '}', p->n - p->at);
    if (!end)
        return wrong(p, "\\p{ without }");
    ft_code rc = ft_cpset_add_property(set, name, (size_t)(end - name), p->st);
    if (rc == FT_ERR_NOT_FOUND)
        return ft_fail(p->st, FT_ERR_UNSUPPORTED, "at byte %zu: the property \\p{%.*s} is not implemented", p->at,
                       (int)(end - name > 60 ? 60 : end - name), name);
    p->at = (size_t)(end - p->text) + 1;
    return !rc && invert ? ft_cpset_invert(set, p->st) : rc;
}

/* \d \s \w \h and their capitals; 0 in *is when the letter is none of them. */
static ft_code take_type(parser *p, ft_cpset *set, int in_brackets, int *is)
{
    const int letter = peek(p, 0);
    ft_code rc = FT_OK;
    *is = letter > 0 && strchr("dDsSwWhH", letter) != NULL;
    if (!*is)
        return FT_OK;
    p->at++;
    switch (letter | 32) {
    case 'd':
        rc = ft_cpset_add_property(set, "Nd", 2, p->st);
        break;
    case 's':
        rc = ft_cpset_add_named(set, FT_SET_SPACE, p->st);
        break;
    case 'w':
        rc = ft_cpset_add_named(set, in_brackets ? FT_SET_WORD : FT_SET_WORD_BARE, p->st);
        break;
    default:
        rc = ft_cpset_add_property(set, "XDigit", 6, p->st);
        break;
    }
    return !rc && letter < 'a' ? ft_cpset_invert(set, p->st) : rc;
}

/* [:name:] or [:^name:] inside brackets. */
static ft_code take_posix(parser *p, ft_cpset *set)
{
    static const char *const names[] = {"alnum", "alpha", "ascii", "blank", "cntrl", "digit",  "graph",
                                        "lower", "print", "punct", "space", "upper", "xdigit", "word"};
    p->at += 2;
    const int invert = peek(p, 0) == '^';
    p->at += (size_t)invert;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const size_t n = strlen(names[i]);
        if (!looking_at(p, names[i]) || peek(p, n) != ':' || peek(p, n + 1) != ']')
            continue;
        p->at += n + 2;
        ft_code rc = FT_OK;
        if (!strcmp(names[i], "word"))
            rc = ft_cpset_add_named(set, FT_SET_WORD, p->st);
        else if (!strcmp(names[i], "punct"))
            rc = ft_cpset_add_property(set, "P", 1, p->st);
        else
            rc = ft_cpset_add_property(set, names[i], n, p->st);
        if (!rc && !strcmp(names[i], "punct"))
            rc = ft_cpset_add_property(set, "S", 1, p->st);
        return !rc && invert ? ft_cpset_invert(set, p->st) : rc;
    }
    return wrong(p, "an unknown [:class:]");
}

static ft_code take_brackets(parser *p, ft_cpset *set, int options, int *inverted);

/* One member of a bracketed class: a set (*single 0) or a character (*single 1). */
static ft_code take_member(parser *p, ft_cpset *set, uint32_t *c, int *single, int options)
{
    *single = 0;
    if (looking_at(p, "[:"))
        return take_posix(p, set);
    if (peek(p, 0) == '[')
        return take_brackets(p, set, options, NULL);
    *single = 1;
    if (peek(p, 0) != '\\') {
        *c = take_character(p);
        return FT_OK;
    }
    p->at++;
    int is_type;
    ft_code rc = take_type(p, set, 1, &is_type);
    if (rc || is_type) {
        *single = 0;
        return rc;
    }
    if (peek(p, 0) == 'p' || peek(p, 0) == 'P') {
        *single = 0;
        return take_property(p, set);
    }
    if (peek(p, 0) == 'b') {
        p->at++;
        *c = '\b';
        return FT_OK;
    }
    return take_escaped(p, c);
}

/* Adds a member, or the range that it starts. */
static ft_code take_range(parser *p, ft_cpset *set, int options)
{
    ft_cpset member = {0};
    uint32_t low = 0, high = 0;
    int single;
    ft_code rc = take_member(p, &member, &low, &single, options);
    const int dash = !rc && peek(p, 0) == '-' && peek(p, 1) != ']' && peek(p, 1) != -1;
    if (rc) {
        /* said already */
    } else if (!single) {
        /* Nested brackets may be followed by a dash that is only a dash; a class may not start a range. */
        rc = dash ? refuse(p, "a dash behind a class in brackets") : ft_cpset_add_set(set, &member, p->st);
    } else if (!dash || looking_at(p, "-&&") || looking_at(p, "-[")) {
        rc = ft_cpset_add(set, low, low, p->st);
    } else {
        p->at++;
        member.count = 0;
        rc = take_member(p, &member, &high, &single, options);
        if (!rc && !single)
            rc = refuse(p, "a class at the end of a range");
        else if (!rc && low > high)
            rc = wrong(p, "an empty range in brackets");
        else if (!rc)
            rc = ft_cpset_add(set, low, high, p->st);
        /* [a-c-e] has a dash in it; anything else behind a range's end starts afresh. */
        if (!rc && peek(p, 0) == '-' && peek(p, 1) != ']') {
            p->at++;
            rc = ft_cpset_add(set, '-', '-', p->st);
        }
    }
    ft_cpset_release(&member);
    return rc;
}

/* [...] with the cursor on the bracket. With `inverted`, a leading ^ is reported and not yet applied. */
static ft_code take_brackets(parser *p, ft_cpset *set, int options, int *inverted)
{
    ft_cpset left = {0}, now = {0};
    int have_left = 0, closed = 0;
    ft_code rc = ++p->depth > MAX_DEPTH ? wrong(p, "brackets nest too deep") : FT_OK;
    p->at++;
    const int invert = peek(p, 0) == '^';
    p->at += (size_t)invert;
    if (!rc && peek(p, 0) == ']') { /* a first ] is a character */
        p->at++;
        if (!memchr(p->text + p->at, ']', p->n - p->at))
            rc = wrong(p, "an empty class");
        else
            rc = ft_cpset_add(&now, ']', ']', p->st);
    }
    while (!rc && !closed) {
        const int c = peek(p, 0);
        if (c < 0) {
            rc = wrong(p, "[ without ]");
        } else if (c == ']' || looking_at(p, "&&")) {
            if (have_left) {
                rc = ft_cpset_intersect(&left, &now, p->st);
            } else {
                ft_cpset_release(&left);
                left = now;
                now = (ft_cpset){0};
            }
            have_left = 1;
            now.count = 0;
            closed = c == ']';
            p->at += closed ? 1 : 2;
        } else {
            rc = take_range(p, &now, options);
        }
    }
    if (!rc && inverted)
        *inverted = invert;
    else if (!rc && invert)
        rc = ft_cpset_invert(&left, p->st);
    if (!rc)
        rc = ft_cpset_add_set(set, &left, p->st);
    ft_cpset_release(&left);
    ft_cpset_release(&now);
    p->depth--;
    return rc;
}

static ft_code put_brackets(parser *p, int options)
{
    ft_cpset set = {0};
    int inverted = 0, several = 0;
    ft_code rc = take_brackets(p, &set, options, &inverted);
    if (!rc && options & IGNORE_CASE) {
        rc = ft_cpset_close_over_case(&set, p->st);
        several = !inverted && has_expansion(&set);
    }
    if (!rc && inverted)
        rc = ft_cpset_invert(&set, p->st);
    ft_cpset copy = {0};
    if (!rc)
        rc = ft_cpset_add_set(&copy, &set, p->st);
    if (!rc && several)
        rc = put(p, "(?:");
    if (!rc)
        rc = ft_regex_draft_set(p->out, &copy, p->st);
    if (!rc && several)
        rc = put_expansions(p, &set);
    if (!rc && several)
        rc = put(p, ")");
    ft_cpset_release(&copy);
    ft_cpset_release(&set);
    return rc;
}

static ft_code put_named(parser *p, ft_named_set which)
{
    ft_cpset set = {0};
    ft_code rc = ft_cpset_add_named(&set, which, p->st);
    if (!rc)
        return ft_regex_draft_set(p->out, &set, p->st);
    ft_cpset_release(&set);
    return rc;
}

/* A word boundary out of look-around: before, behind, and the other way round. */
static ft_code put_boundary(parser *p, int boundary)
{
    const char *const parts[] = {"(?:(?<=", boundary ? ")(?!" : ")(?=", ")|(?<!", boundary ? ")(?=" : ")(?!", "))"};
    ft_code rc = FT_OK;
    for (int i = 0; !rc && i < 5; i++) {
        rc = put(p, parts[i]);
        if (!rc && i < 4)
            rc = put_named(p, FT_SET_WORD_BARE);
    }
    return rc;
}

static ft_code put_around(parser *p, const char *before, uint32_t c, const char *behind)
{
    ft_code rc = put(p, before);
    if (!rc)
        rc = put_character(p, c, 0);
    return rc ? rc : put(p, behind);
}

static ft_code put_all_but(parser *p, uint32_t c)
{
    ft_cpset set = {0};
    ft_code rc = c > FT_LAST_CODE_POINT ? FT_OK : ft_cpset_add(&set, c, c, p->st);
    if (!rc)
        rc = ft_cpset_invert(&set, p->st);
    if (!rc)
        return ft_regex_draft_set(p->out, &set, p->st);
    ft_cpset_release(&set);
    return rc;
}

/* \R: CR LF as one, else any of the line ends. */
static ft_code put_line_end(parser *p)
{
    ft_cpset set = {0};
    ft_code rc = put_around(p, "(?>", '\r', "");
    if (!rc)
        rc = put_around(p, "", '\n', "|");
    if (!rc)
        rc = ft_cpset_add(&set, '\n', '\r', p->st);
    if (!rc)
        rc = ft_cpset_add(&set, 0x85, 0x85, p->st);
    if (!rc)
        rc = ft_cpset_add(&set, 0x2028, 0x2029, p->st);
    if (!rc)
        rc = ft_regex_draft_set(p->out, &set, p->st);
    ft_cpset_release(&set);
    return rc ? rc : put(p, ")");
}

/* What follows a backslash, when it is not one character. *repeatable says whether
 * a quantifier may follow; *c and *is_character report a literal. */
static ft_code put_escape(parser *p, int *repeatable, uint32_t *c, int *is_character)
{
    const int e = peek(p, 0);
    ft_cpset set = {0};
    int is_type = 0;
    *is_character = 0;
    ft_code rc = take_type(p, &set, 0, &is_type);
    if (!rc && !is_type && (e == 'p' || e == 'P')) {
        rc = take_property(p, &set);
        is_type = 1;
    }
    if (rc || is_type) {
        if (!rc)
            rc = ft_regex_draft_set(p->out, &set, p->st);
        ft_cpset_release(&set);
        return rc;
    }
    if (e >= '1' && e <= '9')
        return refuse(p, "a back reference");
    if (e > 0 && strchr("bBAzZNOR", e)) {
        p->at++;
        *repeatable = e == 'N' || e == 'O' || e == 'R';
        switch (e) {
        case 'b':
        case 'B':
            return put_boundary(p, e == 'b');
        case 'A':
            return put(p, "\\A");
        case 'z':
            return put(p, "\\z");
        case 'Z':
            return put_around(p, "(?=", NEWLINE, "?\\z)");
        case 'N':
            return put_all_but(p, NEWLINE);
        case 'O':
            return put_all_but(p, UINT32_MAX);
        default:
            return put_line_end(p);
        }
    }
    *is_character = 1;
    return take_escaped(p, c);
}

static ft_code put_alternatives(parser *p, int options);

/* (?imx-imx) or (?imx-imx: with the cursor behind "(?". */
static ft_code take_options(parser *p, int *options)
{
    int off = 0;
    for (;; p->at++) {
        const int c = peek(p, 0);
        const int flag = c == 'i' ? IGNORE_CASE : c == 'm' ? DOT_ALL : 0;
        if (c == '-')
            off = 1;
        else if (flag)
            *options = off ? *options & ~flag : *options | flag;
        else if (c == ')' || c == ':')
            return FT_OK;
        else
            return refuse(p, "this kind of group");
    }
}

/* A group with the cursor on its parenthesis. */
static ft_code put_group(parser *p, int options, int *repeatable)
{
    static const char *const kinds[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    ft_code rc = FT_OK;
    const char *open = "(?:";
    int to_the_end = 0;
    if (looking_at(p, "(?#")) {
        const char *end = memchr(p->text + p->at, ')', p->n - p->at);
        if (!end)
            return wrong(p, "a comment without )");
        p->at = (size_t)(end - p->text) + 1;
        *repeatable = 0;
        return FT_OK;
    }
    size_t kind = 0;
    while (kind < 6 && !looking_at(p, kinds[kind]))
        kind++;
    if (kind < 6) {
        open = kinds[kind];
        p->at += strlen(open);
        *repeatable = kind == 0 || kind == 3;
    } else if (looking_at(p, "(?<")) { /* a name that nobody refers to */
        const char *end = memchr(p->text + p->at, '>', p->n - p->at);
        if (!end)
            return wrong(p, "a group's name without >");
        p->at = (size_t)(end - p->text) + 1;
    } else if (looking_at(p, "(?")) {
        p->at += 2;
        rc = take_options(p, &options);
        to_the_end = !rc && peek(p, 0) == ')';
        p->at++;
    } else if (looking_at(p, "(*")) {
        return refuse(p, "(*");
    } else {
        p->at++;
    }
    if (!rc)
        rc = put(p, open);
    if (!rc)
        rc = put_alternatives(p, options);
    if (!rc && !to_the_end) {
        if (peek(p, 0) != ')')
            return wrong(p, "( without )");
        p->at++;
    }
    if (to_the_end)
        *repeatable = 0;
    return rc ? rc : put(p, ")");
}

/* {n}, {n,}, {,m}, {n,m} at the cursor: 1 and the bounds, or 0 where the brace is a character. */
static int take_interval(parser *p, long *low, long *high)
{
    size_t i = 1;
    long value[2] = {0, -1};
    int digits[2] = {0, 0}, comma = 0;
    for (;; i++) {
        const int c = peek(p, i);
        if (c == ',' && !comma) {
            comma = 1;
        } else if (c >= '0' && c <= '9' && digits[comma] < 7) {
            value[comma] = (digits[comma]++ ? value[comma] * 10 : 0) + (c - '0');
        } else if (c == '}') {
            break;
        } else {
            return 0;
        }
    }
    if (!digits[0] && !digits[1])
        return 0;
    p->at += i + 1;
    *low = value[0];
    *high = comma ? value[1] : value[0];
    return 1;
}

/* A quantifier at the cursor, applied to what was written from `atom` on. */
static ft_code put_quantifier(parser *p, size_t atom, int *found, int *quantified)
{
    const int c = peek(p, 0);
    long low = 0, high = 0;
    char text[48];
    *found = 0;
    if (c == '*' || c == '+' || c == '?') {
        p->at++;
        const int more = peek(p, 0) == '?' || peek(p, 0) == '+' ? peek(p, 0) : 0;
        p->at += more != 0;
        snprintf(text, sizeof(text), "%c%c", c, more);
    } else if (c == '{' && take_interval(p, &low, &high)) {
        if (low > MAX_REPEAT || high > MAX_REPEAT)
            return refuse(p, "a repeat of more than 65535 times");
        if (high >= 0 && low > high)
            return refuse(p, "{n,m} with n above m");
        /* {n}? is (?:{n})?; {n,m}? and {n,}? are lazy. */
        const int lazy = peek(p, 0) == '?' && low != high;
        p->at += (size_t)lazy;
        if (high < 0)
            snprintf(text, sizeof(text), "{%ld,}%s", low, lazy ? "?" : "");
        else
            snprintf(text, sizeof(text), "{%ld,%ld}%s", low, high, lazy ? "?" : "");
    } else {
        return FT_OK;
    }
    *found = 1;
    ft_code rc = FT_OK;
    ft_buffer *out = &p->out->text;
    if (*quantified) { /* a repeat of a repeat */
        rc = ft_buffer_append(out, "(?:", 3, p->st);
        if (!rc) {
            memmove(out->data + atom + 3, out->data + atom, out->size - 3 - atom);
            memcpy(out->data + atom, "(?:", 3);
            rc = put(p, ")");
        }
    }
    *quantified = 1;
    return rc ? rc : put(p, text);
}

/* One atom, written or (a literal) put on the run. */
static ft_code put_atom(parser *p, int options, int *repeatable, int *is_character)
{
    uint32_t c = 0;
    ft_code rc = FT_OK;
    *repeatable = 1;
    *is_character = 0;
    const int first = peek(p, 0);
    if (first > 0 && strchr("[(.^$", first)) {
        rc = flush_run(p, p->run_count, options);
        if (rc)
            return rc;
        if (first == '[')
            return put_brackets(p, options);
        if (first == '(')
            return put_group(p, options, repeatable);
        p->at++;
        if (first == '.')
            return put_all_but(p, options & DOT_ALL ? UINT32_MAX : NEWLINE);
        *repeatable = 0;
        return first == '^' ? put_around(p, "(?:\\A|(?<=", NEWLINE, ")(?!\\z))")
                            : put_around(p, "(?:(?=", NEWLINE, ")|\\z)");
    }
    if (first == '\\') {
        p->at++;
        /* Whether the escape is a character is known only behind it: keep the run in order. */
        const int e = peek(p, 0);
        if (e > 0 && strchr("dDsSwWhHpPbBAzZNOR", e))
            rc = flush_run(p, p->run_count, options);
        if (!rc)
            rc = put_escape(p, repeatable, &c, is_character);
    } else {
        c = take_character(p);
        *is_character = 1;
    }
    if (!rc && *is_character) {
        rc = ft_array_grow((void **)&p->run, &p->run_capacity, p->run_count + 1, sizeof(*p->run), p->st);
        if (!rc)
            p->run[p->run_count++] = c;
    }
    return rc;
}

/* Alternatives up to the group's end or the pattern's. */
static ft_code put_alternatives(parser *p, int options)
{
    ft_code rc = ++p->depth > MAX_DEPTH ? wrong(p, "groups nest too deep") : FT_OK;
    while (!rc && p->at < p->n && peek(p, 0) != ')') {
        if (peek(p, 0) == '|') {
            p->at++;
            rc = flush_run(p, p->run_count, options);
            if (!rc)
                rc = put(p, "|");
            continue;
        }
        if (peek(p, 0) > 0 && strchr("*+?", peek(p, 0)))
            return wrong(p, "nothing to repeat");
        int repeatable, is_character, found, quantified = 0;
        size_t atom = p->out->text.size;
        rc = put_atom(p, options, &repeatable, &is_character);
        if (rc)
            break;
        long low, high;
        const size_t here = p->at;
        const int c = peek(p, 0);
        const int follows = (c > 0 && strchr("*+?", c)) || (c == '{' && take_interval(p, &low, &high));
        p->at = here;
        if (!follows)
            continue;
        if (!repeatable)
            return refuse(p, "repeating an assertion");
        if (is_character) { /* the quantifier takes the last character alone */
            rc = flush_run(p, p->run_count - 1, options);
            atom = p->out->text.size;
            if (!rc)
                rc = flush_run(p, 1, options);
        } else if (p->out->text.size - atom == 0) {
            return refuse(p, "repeating nothing");
        }
        do {
            found = 0;
            if (!rc)
                rc = put_quantifier(p, atom, &found, &quantified);
        } while (!rc && found);
    }
    p->depth--;
    return rc ? rc : flush_run(p, p->run_count, options);
}

ft_code ft_regex_translate(ft_regex_draft *out, const char *pattern, size_t n, ft_status *st)
{
    parser p = {.text = pattern, .n = n, .out = out, .st = st};
    ft_code rc = put_alternatives(&p, 0);
    if (!rc && p.at < n)
        rc = wrong(&p, ") without (");
    free(p.run);
    return rc;
}
