/* unicode_internal: sets of code points, and maps from code point to a small
 * class. What the tables say is what Hugging Face's `tokenizers` says: see
 * unicode_tables.py.
 *
 * A set is sorted, disjoint, inclusive ranges. Every function that can run out of
 * memory returns an ft_code and leaves its output valid. */
#ifndef FT_UNICODE_INTERNAL_H
#define FT_UNICODE_INTERNAL_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

enum { FT_LAST_CODE_POINT = 0x10FFFF };

typedef struct ft_range32 {
    uint32_t low, high;
} ft_range32;
typedef struct ft_case_run {
    uint32_t first, last, step;
    int32_t delta;
} ft_case_run;
typedef struct ft_multi_fold {
    uint32_t code_point, to[3]; /* 0 behind the last */
} ft_multi_fold;

extern const uint32_t ft_categories[], ft_scripts[];
extern const size_t ft_categories_count, ft_scripts_count;
extern const char *const ft_category_names[], *const ft_script_names[];
extern const size_t ft_category_names_count, ft_script_names_count;
extern const ft_range32 ft_alphabetic_or_l_nl[], ft_uppercase_or_lu[], ft_lowercase_or_ll[], ft_numeric_or_n[],
    ft_punctuation_or_p[], ft_accents_or_m[], ft_normalizer_knows[];
extern const size_t ft_alphabetic_or_l_nl_count, ft_uppercase_or_lu_count, ft_lowercase_or_ll_count,
    ft_numeric_or_n_count, ft_punctuation_or_p_count, ft_accents_or_m_count, ft_normalizer_knows_count;
extern const ft_case_run ft_lower_runs[], ft_fold_runs[];
extern const size_t ft_lower_runs_count, ft_fold_runs_count;
extern const ft_multi_fold ft_multi_folds[];
extern const size_t ft_multi_folds_count;

typedef struct ft_cpset {
    ft_range32 *ranges;
    size_t count, capacity;
} ft_cpset;

void ft_cpset_release(ft_cpset *s);
FT_CHECKED ft_code ft_cpset_add(ft_cpset *s, uint32_t low, uint32_t high, ft_status *st);
FT_CHECKED ft_code ft_cpset_add_set(ft_cpset *s, const ft_cpset *other, ft_status *st);
FT_CHECKED ft_code ft_cpset_invert(ft_cpset *s, ft_status *st);
FT_CHECKED ft_code ft_cpset_intersect(ft_cpset *s, const ft_cpset *other, ft_status *st);
/* Adds every character that equals a member but for case. */
FT_CHECKED ft_code ft_cpset_close_over_case(ft_cpset *s, ft_status *st);
int ft_cpset_has(const ft_cpset *s, uint32_t code_point);
int ft_cpset_equal(const ft_cpset *a, const ft_cpset *b);
/* Adds the members of a property: a category ("Lu", "L", "Letter"), a script
 * ("Han"), or one like "Alphabetic", "White_Space". Case, spaces, '-' and '_' do
 * not matter. FT_ERR_NOT_FOUND, without a message, when we do not know it. */
FT_CHECKED ft_code ft_cpset_add_property(ft_cpset *s, const char *name, size_t n, ft_status *st);

/* Sets that are not properties of the regex language but of `tokenizers`. */
typedef enum ft_named_set {
    FT_SET_SPACE,       /* White_Space */
    FT_SET_WORD,        /* \w in brackets */
    FT_SET_WORD_BARE,   /* \w outside: six superscripts and fractions more */
    FT_SET_WORD_RUST,   /* \w of the engine that looks for single_word */
    FT_SET_NUMERIC,     /* Digits */
    FT_SET_PUNCTUATION, /* Punctuation */
    FT_SET_ACCENTS,     /* StripAccents */
    FT_SET_NORMALIZER_KNOWS
} ft_named_set;
FT_CHECKED ft_code ft_cpset_add_named(ft_cpset *s, ft_named_set which, ft_status *st);

/* Lower case: one or two code points into out, the count returned. */
int ft_unicode_lower(uint32_t code_point, uint32_t out[2]);
/* The least character that equals this one but for case. */
uint32_t ft_unicode_fold(uint32_t code_point);

/* Code point to class: the coarsest partition such that every one of the sets is
 * a union of classes. */
typedef struct ft_classes {
    uint16_t page_of[(FT_LAST_CODE_POINT >> 8) + 1];
    uint8_t (*pages)[256];
    unsigned count; /* classes, at most 256 */
} ft_classes;

/* members[i] (may be NULL) receives the classes of sets[i] as 256 bits.
 * FT_ERR_LIMIT when more than 256 classes were needed. */
FT_CHECKED ft_code ft_classes_build(ft_classes **out, const ft_cpset *sets, size_t count, uint64_t (*members)[4],
                                    ft_status *st);
void ft_classes_free(ft_classes *c);
static inline uint8_t ft_class_of(const ft_classes *c, uint32_t code_point)
{
    return c->pages[c->page_of[code_point >> 8]][code_point & 255];
}
/* A map whose class 1 is the named set and class 0 the rest. */
FT_CHECKED ft_code ft_classes_named(ft_classes **out, ft_named_set which, ft_status *st);

/* Decodes the character at p of valid UTF-8 and sets its length. */
static inline uint32_t ft_utf8_decode(const unsigned char *p, unsigned *length)
{
    if (p[0] < 0x80) {
        *length = 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *length = 2;
        return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    }
    if (p[0] < 0xF0) {
        *length = 3;
        return (p[0] & 0xFu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    }
    *length = 4;
    return (p[0] & 7u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}
#endif
