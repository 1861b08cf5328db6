/* regex_internal: the regular expressions of tokenizer.json, matched as
 * Oniguruma (the engine of Hugging Face's `tokenizers`) matches them.
 *
 * Every character and class that a pattern names is a set of code points. The
 * sets split all of Unicode into a few classes whose members the pattern cannot
 * tell apart (cl100k: 21). So the pattern is rewritten over class numbers, the
 * text is mapped to one byte of class number a character, and PCRE2 matches
 * bytes: its own tables of Unicode are never asked, \p{L} costs one bit test, and
 * a match counts characters.
 *
 * What of Oniguruma's language cannot be said that way (back references, \G, \K,
 * \X, (?x), …) is FT_ERR_UNSUPPORTED and named. */
#ifndef FT_REGEX_INTERNAL_H
#define FT_REGEX_INTERNAL_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"
#include "text/unicode_internal.h"

typedef struct ft_regex ft_regex;
typedef struct ft_matcher ft_matcher;

/* `where` starts every message. The pattern is UTF-8 and may hold NUL. */
FT_CHECKED ft_code ft_regex_compile(ft_regex **out, const char *pattern, size_t n, const char *where, ft_status *st);
/* A pattern that matches exactly this text. */
FT_CHECKED ft_code ft_regex_literal(ft_regex **out, const char *text, size_t n, const char *where, ft_status *st);
/* A pattern that matches one member of the set. */
FT_CHECKED ft_code ft_regex_one_of(ft_regex **out, ft_named_set which, ft_status *st);
/* \w+|[^\w\s]+, with \w as Rust's regex crate has it. */
FT_CHECKED ft_code ft_regex_rust_words(ft_regex **out, ft_status *st);
void ft_regex_free(ft_regex *r);

/* One thread's working memory for matching. */
FT_CHECKED ft_code ft_matcher_new(ft_matcher **out, ft_status *st);
void ft_matcher_free(ft_matcher *m);

/* Begins on n bytes of valid UTF-8, which must stay. Then each call gives the next
 * match as byte positions: FT_ERR_NOT_FOUND (no message) at the end, FT_ERR_LIMIT
 * when the pattern backtracks without bound on this text. Empty matches are given,
 * but none where the match before ended. */
FT_CHECKED ft_code ft_matcher_start(ft_matcher *m, const ft_regex *r, const char *text, size_t n, ft_status *st);
FT_CHECKED ft_code ft_matcher_next(ft_matcher *m, size_t *start, size_t *end, ft_status *st);

/* Between translation and matching (regex_translate.c gives, regex_match.c takes):
 * PCRE2's language, with "\x01" and four hexadecimal digits for sets[number]. */
typedef struct ft_regex_draft {
    ft_buffer text;
    ft_cpset *sets;
    size_t count, capacity;
} ft_regex_draft;
void ft_regex_draft_release(ft_regex_draft *d);
FT_CHECKED ft_code ft_regex_translate(ft_regex_draft *out, const char *pattern, size_t n, ft_status *st);
/* Appends a set to the text, taking it over (also on failure). */
FT_CHECKED ft_code ft_regex_draft_set(ft_regex_draft *d, ft_cpset *set, ft_status *st);
FT_CHECKED ft_code ft_regex_build(ft_regex **out, const ft_regex_draft *d, ft_status *st);
#endif
