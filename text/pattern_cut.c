/* The well-known patterns, cut by hand: see pattern_internal.h.
 *
 * cl100k  (?i:'s|'t|'re|'ve|'m|'ll|'d)    a contraction
 *         [^\r\n\p{L}\p{N}]?\p{L}+        letters, with one character before them
 *         \p{N}{1,3}                      up to three digits
 *          ?[^\s\p{L}\p{N}]+[\r\n]*       others, with a space before and line ends behind
 *         \s*[\r\n]+                      white space up to its last line end
 *         \s+(?!\S)                       white space but for the last before something else
 *         \s+                             that last one
 * gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
#include "text/pattern_internal.h"

#include "text/unicode_internal.h"

#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

const char ft_pattern_cl100k[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                                 " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char ft_pattern_qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                                " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char ft_pattern_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef enum class {
    OTHER,
    LETTER,
    NUMBER,
    SPACE,
    BREAK,  /* line ends; a SPACE to gpt2 */
    NOTHING /* behind the end */
} class;

struct ft_cutter {
    int gpt2;
    size_t most_digits;
    ft_classes *classes;
    uint8_t class_of[256]; /* what the numbers of `classes` mean */
    uint8_t ascii[128];
};

static ft_code build_classes(ft_cutter *c, ft_status *st)
{
    enum { SETS = 4 };
    static const class meaning[SETS] = {LETTER, NUMBER, SPACE, BREAK};
    ft_cpset sets[SETS] = {0};
    uint64_t members[SETS][4];
    ft_code rc = ft_cpset_add_property(&sets[0], "L", 1, st);
    if (!rc)
        rc = ft_cpset_add_property(&sets[1], "N", 1, st);
    if (!rc)
        rc = ft_cpset_add_named(&sets[2], FT_SET_SPACE, st);
    if (!rc)
        rc = ft_cpset_add(&sets[3], '\n', '\n', st);
    if (!rc)
        rc = ft_cpset_add(&sets[3], '\r', '\r', st);
    if (!rc)
        rc = ft_classes_build(&c->classes, sets, SETS, members, st);
    for (int i = 0; !rc && i < SETS - c->gpt2; i++) /* a line end is a space too: the later set counts */
        for (unsigned k = 0; k < 256; k++)
            if (members[i][k >> 6] >> (k & 63) & 1)
                c->class_of[k] = (uint8_t)meaning[i];
    for (unsigned k = 0; !rc && k < 128; k++)
        c->ascii[k] = c->class_of[ft_class_of(c->classes, k)];
    for (int i = 0; i < SETS; i++)
        ft_cpset_release(&sets[i]);
    return rc;
}

ft_code ft_cutter_new(ft_cutter **out, const char *pattern, size_t n, ft_status *st)
{
    static const struct {
        const char *pattern;
        int gpt2;
        size_t most_digits;
    } known[] = {{ft_pattern_cl100k, 0, 3}, {ft_pattern_qwen2, 0, 1}, {ft_pattern_gpt2, 1, SIZE_MAX}};
    *out = NULL;
    size_t i = 0;
    while (i < sizeof(known) / sizeof(known[0]) &&
           (strlen(known[i].pattern) != n || memcmp(known[i].pattern, pattern, n) != 0))
        i++;
    if (i == sizeof(known) / sizeof(known[0]))
        return FT_OK;
    ft_cutter *c = calloc(1, sizeof(*c));
    if (!c)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    c->gpt2 = known[i].gpt2;
    c->most_digits = known[i].most_digits;
    ft_code rc = build_classes(c, st);
    if (!rc) {
        *out = c;
        c = NULL;
    }
    ft_cutter_free(c);
    return rc;
}

void ft_cutter_free(ft_cutter *c)
{
    if (!c)
        return;
    ft_classes_free(c->classes);
    free(c);
}

/* --- One piece, character by character ---------------------------------------- */

static class class_at(const ft_cutter *c, const unsigned char *text, size_t at, size_t n, unsigned *length)
{
    if (at == n) {
        *length = 0;
        return NOTHING;
    }
    if (text[at] < 0x80) {
        *length = 1;
        return c->ascii[text[at]];
    }
    return c->class_of[ft_class_of(c->classes, ft_utf8_decode(text + at, length))];
}

/* End of the run of characters of one class, of at most `most`. */
static size_t run_end(const ft_cutter *c, class which, const unsigned char *text, size_t at, size_t n, size_t most)
{
    unsigned length;
    for (; most && class_at(c, text, at, n, &length) == which; most--)
        at += length;
    return at;
}

/* Bytes of the contraction that begins with the apostrophe at p, or 0. */
static size_t contraction(const ft_cutter *c, const unsigned char *p, size_t n)
{
    const unsigned char fold = c->gpt2 ? 0 : 0x20;
    const unsigned char a = n > 1 ? p[1] | fold : 0, b = n > 2 ? p[2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if ((b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l'))
        return 3;
    return fold && n > 2 && p[1] == 0xC5 && p[2] == 0xBF ? 3 : 0; /* U+017F, the long s */
}

/* End of the white space that begins at `at`, as one piece. */
static size_t space_end(const ft_cutter *c, const unsigned char *text, size_t at, size_t n)
{
    size_t broken = 0, last = at, i = at;
    unsigned length;
    for (;;) {
        const class k = class_at(c, text, i, n, &length);
        if (k != SPACE && k != BREAK)
            break;
        last = i;
        i += length;
        if (k == BREAK)
            broken = i;
    }
    if (broken)
        return broken;
    return i == n || last == at ? i : last;
}

static size_t piece_end(const ft_cutter *c, const unsigned char *text, size_t at, size_t n)
{
    unsigned length, unused;
    const class first = class_at(c, text, at, n, &length);
    const size_t next = at + length;
    if (first == LETTER)
        return run_end(c, LETTER, text, next, n, SIZE_MAX);
    if (first == NUMBER)
        return run_end(c, NUMBER, text, next, n, c->most_digits - 1);
    const size_t contracted = text[at] == '\'' ? contraction(c, text + at, n - at) : 0;
    if (contracted)
        return at + contracted;
    const class second = class_at(c, text, next, n, &unused);
    const int blank = text[at] == ' ';
    if (second == LETTER && (c->gpt2 ? blank : first != BREAK))
        return run_end(c, LETTER, text, next, n, SIZE_MAX);
    if (second == NUMBER && blank && c->gpt2)
        return run_end(c, NUMBER, text, next, n, SIZE_MAX);
    if (first == OTHER || (second == OTHER && blank)) {
        const size_t end = run_end(c, OTHER, text, next, n, SIZE_MAX);
        return run_end(c, BREAK, text, end, n, SIZE_MAX);
    }
    return space_end(c, text, at, n);
}

/* --- Blocks of ASCII ---------------------------------------------------------------
 *
 * 64 characters become sets of places, one bit a byte, and set operations find the
 * places where pieces start. A block begins at the start of a piece, so nothing
 * before it counts; and only white space needs to know what comes behind it. */

#ifdef __SSE2__

enum { BLOCK = 64 };

static inline unsigned lowest(uint64_t bits)
{
    return (unsigned)__builtin_ctzll(bits);
}

typedef struct block {
    uint64_t letters, digits, spaces, breaks, others; /* spaces: white space but for the breaks */
    uint64_t blanks, quotes;                          /* ' ', among the spaces; the apostrophe, among the others */
    size_t count;                                     /* of characters */
} block;

static inline uint64_t places(__m128i x)
{
    return (unsigned)_mm_movemask_epi8(x);
}

static inline __m128i equal(__m128i x, char c)
{
    return _mm_cmpeq_epi8(x, _mm_set1_epi8(c));
}

static inline __m128i between(__m128i x, char low, char high)
{
    const __m128i above = _mm_sub_epi8(x, _mm_set1_epi8(low));
    return _mm_cmpeq_epi8(_mm_min_epu8(above, _mm_set1_epi8((char)(high - low))), above);
}

/* The ASCII characters at p, up to 64 or to the first character that is none. */
static inline block read_block(const unsigned char *p, size_t n, int gpt2)
{
    unsigned char padded[BLOCK] = {0};
    if (n < BLOCK)
        p = memcpy(padded, p, n);
    block b = {0};
    uint64_t beyond = 0;
    for (int i = 0; i < BLOCK; i += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        const __m128i blank = equal(x, ' ');
        b.letters |= places(between(_mm_or_si128(x, _mm_set1_epi8(0x20)), 'a', 'z')) << i;
        b.digits |= places(between(x, '0', '9')) << i;
        b.spaces |= places(_mm_or_si128(between(x, '\t', '\r'), blank)) << i;
        b.blanks |= places(blank) << i;
        b.breaks |= places(_mm_or_si128(equal(x, '\n'), equal(x, '\r'))) << i;
        b.quotes |= places(equal(x, '\'')) << i;
        beyond |= places(x) << i;
    }
    b.count = n < BLOCK ? n : BLOCK;
    if (beyond && lowest(beyond) < b.count)
        b.count = lowest(beyond);
    const uint64_t valid = b.count ? UINT64_MAX >> (BLOCK - b.count) : 0;
    b.letters &= valid;
    b.digits &= valid;
    b.breaks &= gpt2 ? 0 : valid;
    b.spaces &= valid & ~b.breaks;
    b.blanks &= valid;
    b.quotes &= valid;
    b.others = valid & ~(b.letters | b.digits | b.spaces | b.breaks);
    return b;
}

static uint64_t starts_of_white(const block *b)
{
    /* Line ends right behind others belong to those: adding the first of a run clears the run. */
    const uint64_t taken = b->breaks & ~(b->breaks + (b->breaks & b->others << 1));
    const uint64_t white = (b->spaces | b->breaks) & ~taken;
    /* The last space before something else is a piece of its own or the start of one. */
    const uint64_t last = b->spaces & ~(b->spaces >> 1 | b->breaks >> 1 | UINT64_C(1) << (b->count - 1));
    /* Spaces behind a line end, but for those before another. */
    uint64_t behind = b->spaces & b->breaks << 1;
    if ((b->spaces + behind) & ~b->spaces & b->breaks)
        for (uint64_t left = behind; left; left &= left - 1) {
            const uint64_t first = left & (~left + 1);
            if ((b->spaces + first) & ~b->spaces & b->breaks)
                behind &= ~first;
        }
    return (white & ~(white << 1)) | last | behind;
}

static uint64_t starts_of_numbers(const ft_cutter *c, const block *b)
{
    const uint64_t digits = b->digits, first = digits & ~(digits << 1);
    if (c->gpt2)
        return first & ~(b->blanks << 1);
    if (c->most_digits == 1)
        return digits;
    const uint64_t in_row = digits & digits << 1 & digits << 2;
    uint64_t starts = first;
    for (uint64_t more = first; more; more = more << 3 & in_row)
        starts |= more;
    return starts;
}

/* Letters run on from the character before; and a contraction ends where none would. */
static uint64_t starts_of_words(const ft_cutter *c, const block *b, const unsigned char *p, size_t n)
{
    const uint64_t others = b->others & ~(b->others << 1) & ~(b->blanks << 1); /* starts of runs */
    const uint64_t joined = c->gpt2 ? b->blanks : b->spaces | others;
    uint64_t starts = others | (b->letters & ~(b->letters << 1) & ~(joined << 1));
    for (uint64_t left = b->quotes & others & b->letters >> 1; left; left &= left - 1) {
        const unsigned at = lowest(left);
        const size_t length = contraction(c, p + at, n - at);
        if (!length)
            continue;
        starts &= ~(UINT64_C(2) << at);
        if (at + length < BLOCK)
            starts |= UINT64_C(1) << (at + length) & b->letters;
    }
    return starts;
}

/* The ends of all pieces that are known to end in the block; the last one of the text too. */
static inline size_t cut_block(const ft_cutter *c, const unsigned char *p, size_t n, size_t at, uint32_t *ends)
{
    const block b = read_block(p, n, c->gpt2);
    if (!b.count)
        return 0;
    uint64_t starts = starts_of_words(c, &b, p, n) | starts_of_numbers(c, &b) | starts_of_white(&b);
    const uint64_t white = b.spaces | b.breaks, other = b.letters | b.digits | b.others;
    if (white >> (b.count - 1) & 1) {
        const unsigned first = other ? 64 - (unsigned)__builtin_clzll(other) : 0; /* of the white space at the end */
        starts &= b.count < n ? UINT64_MAX >> (63 - first) : UINT64_MAX;
    }
    size_t count = 0;
    for (starts &= ~UINT64_C(1); starts; starts &= starts - 1)
        ends[count++] = (uint32_t)(at + lowest(starts));
    if (b.count == n)
        ends[count++] = (uint32_t)(at + n);
    return count;
}

#endif

size_t ft_cutter_cut(const ft_cutter *c, const char *text, size_t at, size_t n, uint32_t *ends, size_t most)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t count = 0;
    while (count < most && at < n) {
        size_t cut = 0;
#ifdef __SSE2__
        if (most - count >= BLOCK)
            cut = cut_block(c, p + at, n - at, at, ends + count);
        else if (count)
            break; /* the next call has room for a block */
#endif
        if (!cut) {
            ends[count] = (uint32_t)piece_end(c, p, at, n);
            cut = 1;
        }
        count += cut;
        at = ends[count - 1];
    }
    return count;
}
