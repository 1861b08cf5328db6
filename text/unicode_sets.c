/* Sets of code points and the class maps built from them. */
#include "base/ft_buffer.h"
#include "text/unicode_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void ft_cpset_release(ft_cpset *s)
{
    free(s->ranges);
    *s = (ft_cpset){0};
}

ft_code ft_cpset_add(ft_cpset *s, uint32_t low, uint32_t high, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&s->ranges, &s->capacity, s->count + 1, sizeof(*s->ranges), st);
    if (rc)
        return rc;
    /* [i, j) touch the new range and melt into it. Tables are sorted: most calls append. */
    size_t i = s->count;
    while (i > 0 && s->ranges[i - 1].high + 1 >= low)
        i--;
    size_t j = i;
    while (j < s->count && s->ranges[j].low <= high + 1) {
        low = s->ranges[j].low < low ? s->ranges[j].low : low;
        high = s->ranges[j].high > high ? s->ranges[j].high : high;
        j++;
    }
    memmove(s->ranges + i + 1, s->ranges + j, (s->count - j) * sizeof(*s->ranges));
    s->ranges[i] = (ft_range32){low, high};
    s->count = s->count - (j - i) + 1;
    return FT_OK;
}

ft_code ft_cpset_add_set(ft_cpset *s, const ft_cpset *other, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < other->count; i++)
        rc = ft_cpset_add(s, other->ranges[i].low, other->ranges[i].high, st);
    return rc;
}

ft_code ft_cpset_invert(ft_cpset *s, ft_status *st)
{
    ft_cpset out = {0};
    uint32_t next = 0;
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < s->count; i++) {
        if (s->ranges[i].low > next)
            rc = ft_cpset_add(&out, next, s->ranges[i].low - 1, st);
        next = s->ranges[i].high + 1;
    }
    if (!rc && next <= FT_LAST_CODE_POINT)
        rc = ft_cpset_add(&out, next, FT_LAST_CODE_POINT, st);
    if (rc) {
        ft_cpset_release(&out);
        return rc;
    }
    ft_cpset_release(s);
    *s = out;
    return FT_OK;
}

ft_code ft_cpset_intersect(ft_cpset *s, const ft_cpset *other, ft_status *st)
{
    ft_cpset out = {0};
    ft_code rc = FT_OK;
    for (size_t i = 0, j = 0; !rc && i < s->count && j < other->count;) {
        const ft_range32 a = s->ranges[i], b = other->ranges[j];
        const uint32_t low = a.low > b.low ? a.low : b.low, high = a.high < b.high ? a.high : b.high;
        if (low <= high)
            rc = ft_cpset_add(&out, low, high, st);
        if (a.high < b.high)
            i++;
        else
            j++;
    }
    if (rc) {
        ft_cpset_release(&out);
        return rc;
    }
    ft_cpset_release(s);
    *s = out;
    return FT_OK;
}

int ft_cpset_has(const ft_cpset *s, uint32_t c)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (s->ranges[middle].high < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->count && s->ranges[low].low <= c;
}

int ft_cpset_equal(const ft_cpset *a, const ft_cpset *b)
{
    return a->count == b->count && (!a->count || !memcmp(a->ranges, b->ranges, a->count * sizeof(*a->ranges)));
}

/* The members of exactly one of s and the sorted ranges. */
static ft_code exclusive_or(ft_cpset *s, const ft_range32 *ranges, size_t count, ft_status *st)
{
    ft_cpset only_s = {0}, only_other = {0}, other = {0};
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < count; i++)
        rc = ft_cpset_add(&other, ranges[i].low, ranges[i].high, st);
    if (!rc)
        rc = ft_cpset_add_set(&only_s, &other, st);
    if (!rc)
        rc = ft_cpset_invert(&only_s, st);
    if (!rc)
        rc = ft_cpset_intersect(&only_s, s, st);
    if (!rc)
        rc = ft_cpset_add_set(&only_other, s, st);
    if (!rc)
        rc = ft_cpset_invert(&only_other, st);
    if (!rc)
        rc = ft_cpset_intersect(&only_other, &other, st);
    if (!rc) {
        s->count = 0;
        rc = ft_cpset_add_set(s, &only_s, st);
    }
    if (!rc)
        rc = ft_cpset_add_set(s, &only_other, st);
    ft_cpset_release(&only_s);
    ft_cpset_release(&only_other);
    ft_cpset_release(&other);
    return rc;
}

/* Categories whose name starts with `prefix`. */
static ft_code add_categories(ft_cpset *s, const char *prefix, ft_status *st)
{
    const size_t n = strlen(prefix);
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < ft_categories_count; i++) {
        const char *name = ft_category_names[ft_categories[i] & 31];
        const uint32_t end = i + 1 < ft_categories_count ? ft_categories[i + 1] >> 5 : FT_LAST_CODE_POINT + 1;
        if (!strncmp(name, prefix, n))
            rc = ft_cpset_add(s, ft_categories[i] >> 5, end - 1, st);
    }
    return rc;
}

static ft_code add_script(ft_cpset *s, size_t script, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < ft_scripts_count; i++) {
        const uint32_t end = i + 1 < ft_scripts_count ? ft_scripts[i + 1] >> 8 : FT_LAST_CODE_POINT + 1;
        if ((ft_scripts[i] & 255) == script)
            rc = ft_cpset_add(s, ft_scripts[i] >> 8, end - 1, st);
    }
    return rc;
}

/* The union of categories (space-separated prefixes), changed by a table. */
static ft_code add_corrected(ft_cpset *s, const char *categories, const ft_range32 *table, size_t count, ft_status *st)
{
    ft_cpset set = {0};
    ft_code rc = FT_OK;
    for (const char *p = categories; !rc && *p;) {
        char prefix[4] = "";
        const size_t n = strcspn(p, " ");
        memcpy(prefix, p, n < 3 ? n : 3);
        rc = add_categories(&set, prefix, st);
        p += n + (p[n] == ' ');
    }
    if (!rc && count)
        rc = exclusive_or(&set, table, count, st);
    if (!rc)
        rc = ft_cpset_add_set(s, &set, st);
    ft_cpset_release(&set);
    return rc;
}

static ft_code add_alphabetic(ft_cpset *s, ft_status *st)
{
    return add_corrected(s, "L Nl", ft_alphabetic_or_l_nl, ft_alphabetic_or_l_nl_count, st);
}

static ft_code add_word(ft_cpset *s, ft_status *st)
{
    const ft_code rc = add_alphabetic(s, st);
    return rc ? rc : add_corrected(s, "M Nd Pc", NULL, 0, st);
}

static ft_code add_space(ft_cpset *s, ft_status *st)
{
    static const ft_range32 controls[] = {{9, 13}, {0x85, 0x85}};
    return add_corrected(s, "Z", controls, 2, st);
}

/* Everything but space, control and unassigned; with `blank`, space separators too. */
static ft_code add_graph(ft_cpset *s, int with_blank, ft_status *st)
{
    ft_cpset set = {0};
    ft_code rc = add_space(&set, st);
    if (!rc)
        rc = add_corrected(&set, "Cc Cn", NULL, 0, st);
    if (!rc)
        rc = ft_cpset_invert(&set, st);
    if (!rc && with_blank)
        rc = add_corrected(&set, "Zs", NULL, 0, st);
    if (!rc)
        rc = ft_cpset_add_set(s, &set, st);
    ft_cpset_release(&set);
    return rc;
}

ft_code ft_cpset_add_named(ft_cpset *s, ft_named_set which, ft_status *st)
{
    static const ft_range32 ascii_punctuation[] = {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}};
    static const ft_range32 bare[] = {{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}};
    ft_cpset set = {0};
    ft_code rc = FT_OK;
    switch (which) {
    case FT_SET_SPACE:
        return add_space(s, st);
    case FT_SET_WORD:
        return add_word(s, st);
    case FT_SET_WORD_BARE:
        rc = add_word(s, st);
        for (size_t i = 0; !rc && i < 3; i++)
            rc = ft_cpset_add(s, bare[i].low, bare[i].high, st);
        return rc;
    case FT_SET_WORD_RUST:
        rc = add_word(s, st);
        return rc ? rc : ft_cpset_add(s, 0x200C, 0x200D, st);
    case FT_SET_NUMERIC:
        return add_corrected(s, "N", ft_numeric_or_n, ft_numeric_or_n_count, st);
    case FT_SET_PUNCTUATION:
        rc = add_corrected(&set, "P", NULL, 0, st);
        for (size_t i = 0; !rc && i < 4; i++)
            rc = ft_cpset_add(&set, ascii_punctuation[i].low, ascii_punctuation[i].high, st);
        if (!rc)
            rc = exclusive_or(&set, ft_punctuation_or_p, ft_punctuation_or_p_count, st);
        if (!rc)
            rc = ft_cpset_add_set(s, &set, st);
        ft_cpset_release(&set);
        return rc;
    case FT_SET_ACCENTS:
        return add_corrected(s, "M", ft_accents_or_m, ft_accents_or_m_count, st);
    case FT_SET_NORMALIZER_KNOWS:
        for (size_t i = 0; !rc && i < ft_normalizer_knows_count; i++)
            rc = ft_cpset_add(s, ft_normalizer_knows[i].low, ft_normalizer_knows[i].high, st);
        return rc;
    }
    return ft_fail(st, FT_ERR_ARG, "no such set");
}

/* Long names of categories and groups of them; the short ones come from the table. */
static const struct {
    const char *name, *categories;
} long_names[] = {
    {"c", "C"},
    {"l", "L"},
    {"m", "M"},
    {"n", "N"},
    {"p", "P"},
    {"s", "S"},
    {"z", "Z"},
    {"lc", "Lu Ll Lt"},
    {"casedletter", "Lu Ll Lt"},
    {"other", "C"},
    {"letter", "L"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"number", "N"},
    {"punctuation", "P"},
    {"punct", "P"},
    {"symbol", "S"},
    {"separator", "Z"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"decimalnumber", "Nd"},
    {"digit", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"control", "Cc"},
    {"cntrl", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
    {"unassigned", "Cn"},
};

/* Small letters and digits only. Returns 0 where the name is too long to be one. */
static int plain_name(char out[48], const char *name, size_t n)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (name[i] == ' ' || name[i] == '-' || name[i] == '_')
            continue;
        if (used + 1 >= 48)
            return 0;
        out[used++] = (char)tolower((unsigned char)name[i]);
    }
    out[used] = '\0';
    return 1;
}

static int same_plain_name(const char *plain, const char *name)
{
    char other[48];
    return plain_name(other, name, strlen(name)) && !strcmp(plain, other);
}

static ft_code add_binary_property(ft_cpset *s, const char *plain, ft_status *st)
{
    if (!strcmp(plain, "any"))
        return ft_cpset_add(s, 0, FT_LAST_CODE_POINT, st);
    if (!strcmp(plain, "ascii"))
        return ft_cpset_add(s, 0, 127, st);
    if (!strcmp(plain, "alphabetic") || !strcmp(plain, "alpha"))
        return add_alphabetic(s, st);
    if (!strcmp(plain, "alnum")) {
        const ft_code rc = add_alphabetic(s, st);
        return rc ? rc : add_corrected(s, "Nd", NULL, 0, st);
    }
    if (!strcmp(plain, "uppercase") || !strcmp(plain, "upper"))
        return add_corrected(s, "Lu", ft_uppercase_or_lu, ft_uppercase_or_lu_count, st);
    if (!strcmp(plain, "lowercase") || !strcmp(plain, "lower"))
        return add_corrected(s, "Ll", ft_lowercase_or_ll, ft_lowercase_or_ll_count, st);
    if (!strcmp(plain, "whitespace") || !strcmp(plain, "space"))
        return add_space(s, st);
    if (!strcmp(plain, "graph") || !strcmp(plain, "print"))
        return add_graph(s, plain[0] == 'p', st);
    if (!strcmp(plain, "blank")) {
        const ft_code rc = add_corrected(s, "Zs", NULL, 0, st);
        return rc ? rc : ft_cpset_add(s, 9, 9, st);
    }
    if (!strcmp(plain, "xdigit")) {
        ft_code rc = ft_cpset_add(s, '0', '9', st);
        if (!rc)
            rc = ft_cpset_add(s, 'A', 'F', st);
        return rc ? rc : ft_cpset_add(s, 'a', 'f', st);
    }
    return FT_ERR_NOT_FOUND;
}

ft_code ft_cpset_add_property(ft_cpset *s, const char *name, size_t n, ft_status *st)
{
    char plain[48];
    if (!plain_name(plain, name, n))
        return FT_ERR_NOT_FOUND;
    for (size_t i = 0; i < sizeof(long_names) / sizeof(long_names[0]); i++)
        if (!strcmp(plain, long_names[i].name))
            return add_corrected(s, long_names[i].categories, NULL, 0, st);
    for (size_t i = 0; i < ft_category_names_count; i++)
        if (same_plain_name(plain, ft_category_names[i]))
            return add_corrected(s, ft_category_names[i], NULL, 0, st);
    for (size_t i = 1; i < ft_script_names_count; i++)
        if (same_plain_name(plain, ft_script_names[i]))
            return add_script(s, i, st);
    return add_binary_property(s, plain, st);
}

static int64_t run_delta(const ft_case_run *runs, size_t count, uint32_t c)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (runs[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    /* Runs of step 2 may interleave with others: look at the next one too. */
    for (size_t i = low; i < count && i < low + 2; i++)
        if (runs[i].first <= c && c <= runs[i].last && (c - runs[i].first) % runs[i].step == 0)
            return runs[i].delta;
    return 0;
}

int ft_unicode_lower(uint32_t c, uint32_t out[2])
{
    if (c == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = (uint32_t)((int64_t)c + run_delta(ft_lower_runs, ft_lower_runs_count, c));
    return 1;
}

uint32_t ft_unicode_fold(uint32_t c)
{
    return (uint32_t)((int64_t)c + run_delta(ft_fold_runs, ft_fold_runs_count, c));
}

ft_code ft_cpset_close_over_case(ft_cpset *s, ft_status *st)
{
    /* First the representatives of all members, then all whose representative is in. */
    ft_cpset least = {0};
    ft_code rc = ft_cpset_add_set(&least, s, st);
    for (size_t i = 0; !rc && i < ft_fold_runs_count; i++)
        for (uint32_t c = ft_fold_runs[i].first; !rc && c <= ft_fold_runs[i].last; c += ft_fold_runs[i].step)
            if (ft_cpset_has(s, c))
                rc = ft_cpset_add(&least, ft_unicode_fold(c), ft_unicode_fold(c), st);
    if (!rc)
        rc = ft_cpset_add_set(s, &least, st);
    for (size_t i = 0; !rc && i < ft_fold_runs_count; i++)
        for (uint32_t c = ft_fold_runs[i].first; !rc && c <= ft_fold_runs[i].last; c += ft_fold_runs[i].step)
            if (ft_cpset_has(&least, ft_unicode_fold(c)))
                rc = ft_cpset_add(s, c, c, st);
    ft_cpset_release(&least);
    return rc;
}

enum { MAX_SETS = 1024 };

/* While the sweep goes over the code points: which sets the present one is in. */
typedef struct signatures {
    uint64_t (*seen)[MAX_SETS / 64]; /* [256] one a class */
    uint64_t now[MAX_SETS / 64];
    size_t words;
    unsigned count;
} signatures;

/* Class of the present signature; 256 when there is no room for another. */
static unsigned class_of_signature(signatures *g)
{
    for (unsigned c = 0; c < g->count; c++)
        if (!memcmp(g->seen[c], g->now, g->words * sizeof(g->now[0])))
            return c;
    if (g->count == 256)
        return 256;
    memcpy(g->seen[g->count], g->now, sizeof(g->now));
    return g->count++;
}

/* Fills flat [0x110000] with classes. at[i] is the next range of sets[i] to enter or leave. */
static ft_code sweep(uint8_t *flat, const ft_cpset *sets, size_t count, signatures *g, size_t *at, ft_status *st)
{
    uint32_t c = 0;
    while (c <= FT_LAST_CODE_POINT) {
        uint32_t next = FT_LAST_CODE_POINT + 1;
        for (size_t i = 0; i < count; i++) {
            while (at[i] < sets[i].count && sets[i].ranges[at[i]].high < c)
                at[i]++;
            const int in = at[i] < sets[i].count && sets[i].ranges[at[i]].low <= c;
            g->now[i >> 6] = (g->now[i >> 6] & ~(UINT64_C(1) << (i & 63))) | (uint64_t)in << (i & 63);
            if (at[i] < sets[i].count) {
                const uint32_t change = in ? sets[i].ranges[at[i]].high + 1 : sets[i].ranges[at[i]].low;
                next = change < next ? change : next;
            }
        }
        const unsigned class = class_of_signature(g);
        if (class == 256)
            return ft_fail(st, FT_ERR_LIMIT, "it tells more than 256 classes of characters apart");
        memset(flat + c, (int)class, next - c);
        c = next;
    }
    return FT_OK;
}

/* Keeps one copy of each distinct page of 256. */
static ft_code pack_pages(ft_classes *c, const uint8_t *flat, ft_status *st)
{
    size_t capacity = 0, count = 0;
    for (size_t page = 0; page < sizeof(c->page_of) / sizeof(c->page_of[0]); page++) {
        const uint8_t *bytes = flat + page * 256;
        size_t same = count;
        for (size_t i = count; i-- > 0;)
            if (!memcmp(c->pages[i], bytes, 256)) {
                same = i;
                break;
            }
        if (same == count) {
            ft_code rc = ft_array_grow((void **)&c->pages, &capacity, count + 1, sizeof(*c->pages), st);
            if (rc)
                return rc;
            memcpy(c->pages[count++], bytes, 256);
        }
        c->page_of[page] = (uint16_t)same;
    }
    return FT_OK;
}

ft_code ft_classes_build(ft_classes **out, const ft_cpset *sets, size_t count, uint64_t (*members)[4], ft_status *st)
{
    *out = NULL;
    if (count > MAX_SETS)
        return ft_fail(st, FT_ERR_LIMIT, "it holds more than %d different characters and classes", MAX_SETS);
    signatures g = {.words = (count + 63) / 64};
    ft_classes *c = calloc(1, sizeof(*c));
    uint8_t *flat = malloc(FT_LAST_CODE_POINT + 1);
    size_t *at = ft_alloc_array(count, sizeof(*at));
    g.seen = calloc(256, sizeof(*g.seen));
    ft_code rc = c && flat && at && g.seen ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc)
        rc = sweep(flat, sets, count, &g, at, st);
    if (!rc)
        rc = pack_pages(c, flat, st);
    if (!rc) {
        c->count = g.count;
        for (size_t i = 0; members && i < count; i++) {
            memset(members[i], 0, sizeof(members[i]));
            for (unsigned k = 0; k < g.count; k++)
                members[i][k >> 6] |= (g.seen[k][i >> 6] >> (i & 63) & 1) << (k & 63);
        }
        *out = c;
        c = NULL;
    }
    ft_classes_free(c);
    free(flat);
    free(at);
    free(g.seen);
    return rc;
}

ft_code ft_classes_named(ft_classes **out, ft_named_set which, ft_status *st)
{
    *out = NULL;
    ft_cpset set = {0};
    uint64_t members[1][4];
    ft_code rc = ft_cpset_add_named(&set, which, st);
    if (!rc)
        rc = ft_classes_build(out, &set, 1, members, st);
    ft_cpset_release(&set);
    return rc; /* U+0000 is in none of the named sets: its class, the first, is "not in" */
}

void ft_classes_free(ft_classes *c)
{
    if (!c)
        return;
    free(c->pages);
    free(c);
}
