#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include "text/ft_html.h"

#include "base/ft_utf8.h"

#include <stdlib.h>
#include <string.h>

/* The character references of HTML 4, in byte order of the names. */
static const struct {
    const char *name;
    unsigned code_point;
} entities[] = {
    {"AElig", 0x00C6},    {"Aacute", 0x00C1},  {"Acirc", 0x00C2},   {"Agrave", 0x00C0},  {"Alpha", 0x0391},
    {"Aring", 0x00C5},    {"Atilde", 0x00C3},  {"Auml", 0x00C4},    {"Beta", 0x0392},    {"Ccedil", 0x00C7},
    {"Chi", 0x03A7},      {"Dagger", 0x2021},  {"Delta", 0x0394},   {"ETH", 0x00D0},     {"Eacute", 0x00C9},
    {"Ecirc", 0x00CA},    {"Egrave", 0x00C8},  {"Epsilon", 0x0395}, {"Eta", 0x0397},     {"Euml", 0x00CB},
    {"Gamma", 0x0393},    {"Iacute", 0x00CD},  {"Icirc", 0x00CE},   {"Igrave", 0x00CC},  {"Iota", 0x0399},
    {"Iuml", 0x00CF},     {"Kappa", 0x039A},   {"Lambda", 0x039B},  {"Mu", 0x039C},      {"Ntilde", 0x00D1},
    {"Nu", 0x039D},       {"OElig", 0x0152},   {"Oacute", 0x00D3},  {"Ocirc", 0x00D4},   {"Ograve", 0x00D2},
    {"Omega", 0x03A9},    {"Omicron", 0x039F}, {"Oslash", 0x00D8},  {"Otilde", 0x00D5},  {"Ouml", 0x00D6},
    {"Phi", 0x03A6},      {"Pi", 0x03A0},      {"Prime", 0x2033},   {"Psi", 0x03A8},     {"Rho", 0x03A1},
    {"Scaron", 0x0160},   {"Sigma", 0x03A3},   {"THORN", 0x00DE},   {"Tau", 0x03A4},     {"Theta", 0x0398},
    {"Uacute", 0x00DA},   {"Ucirc", 0x00DB},   {"Ugrave", 0x00D9},  {"Upsilon", 0x03A5}, {"Uuml", 0x00DC},
    {"Xi", 0x039E},       {"Yacute", 0x00DD},  {"Yuml", 0x0178},    {"Zeta", 0x0396},    {"aacute", 0x00E1},
    {"acirc", 0x00E2},    {"acute", 0x00B4},   {"aelig", 0x00E6},   {"agrave", 0x00E0},  {"alefsym", 0x2135},
    {"alpha", 0x03B1},    {"amp", 0x0026},     {"and", 0x2227},     {"ang", 0x2220},     {"apos", 0x0027},
    {"aring", 0x00E5},    {"asymp", 0x2248},   {"atilde", 0x00E3},  {"auml", 0x00E4},    {"bdquo", 0x201E},
    {"beta", 0x03B2},     {"brvbar", 0x00A6},  {"bull", 0x2022},    {"cap", 0x2229},     {"ccedil", 0x00E7},
    {"cedil", 0x00B8},    {"cent", 0x00A2},    {"chi", 0x03C7},     {"circ", 0x02C6},    {"clubs", 0x2663},
    {"cong", 0x2245},     {"copy", 0x00A9},    {"crarr", 0x21B5},   {"cup", 0x222A},     {"curren", 0x00A4},
    {"dArr", 0x21D3},     {"dagger", 0x2020},  {"darr", 0x2193},    {"deg", 0x00B0},     {"delta", 0x03B4},
    {"diams", 0x2666},    {"divide", 0x00F7},  {"eacute", 0x00E9},  {"ecirc", 0x00EA},   {"egrave", 0x00E8},
    {"empty", 0x2205},    {"emsp", 0x2003},    {"ensp", 0x2002},    {"epsilon", 0x03B5}, {"equiv", 0x2261},
    {"eta", 0x03B7},      {"eth", 0x00F0},     {"euml", 0x00EB},    {"euro", 0x20AC},    {"exist", 0x2203},
    {"fnof", 0x0192},     {"forall", 0x2200},  {"frac12", 0x00BD},  {"frac14", 0x00BC},  {"frac34", 0x00BE},
    {"frasl", 0x2044},    {"gamma", 0x03B3},   {"ge", 0x2265},      {"gt", 0x003E},      {"hArr", 0x21D4},
    {"harr", 0x2194},     {"hearts", 0x2665},  {"hellip", 0x2026},  {"iacute", 0x00ED},  {"icirc", 0x00EE},
    {"iexcl", 0x00A1},    {"igrave", 0x00EC},  {"image", 0x2111},   {"infin", 0x221E},   {"int", 0x222B},
    {"iota", 0x03B9},     {"iquest", 0x00BF},  {"isin", 0x2208},    {"iuml", 0x00EF},    {"kappa", 0x03BA},
    {"lArr", 0x21D0},     {"lambda", 0x03BB},  {"lang", 0x2329},    {"laquo", 0x00AB},   {"larr", 0x2190},
    {"lceil", 0x2308},    {"ldquo", 0x201C},   {"le", 0x2264},      {"lfloor", 0x230A},  {"lowast", 0x2217},
    {"loz", 0x25CA},      {"lrm", 0x200E},     {"lsaquo", 0x2039},  {"lsquo", 0x2018},   {"lt", 0x003C},
    {"macr", 0x00AF},     {"mdash", 0x2014},   {"micro", 0x00B5},   {"middot", 0x00B7},  {"minus", 0x2212},
    {"mu", 0x03BC},       {"nabla", 0x2207},   {"nbsp", 0x00A0},    {"ndash", 0x2013},   {"ne", 0x2260},
    {"ni", 0x220B},       {"not", 0x00AC},     {"notin", 0x2209},   {"nsub", 0x2284},    {"ntilde", 0x00F1},
    {"nu", 0x03BD},       {"oacute", 0x00F3},  {"ocirc", 0x00F4},   {"oelig", 0x0153},   {"ograve", 0x00F2},
    {"oline", 0x203E},    {"omega", 0x03C9},   {"omicron", 0x03BF}, {"oplus", 0x2295},   {"or", 0x2228},
    {"ordf", 0x00AA},     {"ordm", 0x00BA},    {"oslash", 0x00F8},  {"otilde", 0x00F5},  {"otimes", 0x2297},
    {"ouml", 0x00F6},     {"para", 0x00B6},    {"part", 0x2202},    {"permil", 0x2030},  {"perp", 0x22A5},
    {"phi", 0x03C6},      {"pi", 0x03C0},      {"piv", 0x03D6},     {"plusmn", 0x00B1},  {"pound", 0x00A3},
    {"prime", 0x2032},    {"prod", 0x220F},    {"prop", 0x221D},    {"psi", 0x03C8},     {"quot", 0x0022},
    {"rArr", 0x21D2},     {"radic", 0x221A},   {"rang", 0x232A},    {"raquo", 0x00BB},   {"rarr", 0x2192},
    {"rceil", 0x2309},    {"rdquo", 0x201D},   {"real", 0x211C},    {"reg", 0x00AE},     {"rfloor", 0x230B},
    {"rho", 0x03C1},      {"rlm", 0x200F},     {"rsaquo", 0x203A},  {"rsquo", 0x2019},   {"sbquo", 0x201A},
    {"scaron", 0x0161},   {"sdot", 0x22C5},    {"sect", 0x00A7},    {"shy", 0x00AD},     {"sigma", 0x03C3},
    {"sigmaf", 0x03C2},   {"sim", 0x223C},     {"spades", 0x2660},  {"sub", 0x2282},     {"sube", 0x2286},
    {"sum", 0x2211},      {"sup", 0x2283},     {"sup1", 0x00B9},    {"sup2", 0x00B2},    {"sup3", 0x00B3},
    {"supe", 0x2287},     {"szlig", 0x00DF},   {"tau", 0x03C4},     {"there4", 0x2234},  {"theta", 0x03B8},
    {"thetasym", 0x03D1}, {"thinsp", 0x2009},  {"thorn", 0x00FE},   {"tilde", 0x02DC},   {"times", 0x00D7},
    {"trade", 0x2122},    {"uArr", 0x21D1},    {"uacute", 0x00FA},  {"uarr", 0x2191},    {"ucirc", 0x00FB},
    {"ugrave", 0x00F9},   {"uml", 0x00A8},     {"upsih", 0x03D2},   {"upsilon", 0x03C5}, {"uuml", 0x00FC},
    {"weierp", 0x2118},   {"xi", 0x03BE},      {"yacute", 0x00FD},  {"yen", 0x00A5},     {"yuml", 0x00FF},
    {"zeta", 0x03B6},     {"zwj", 0x200D},     {"zwnj", 0x200C},
};
enum { ENTITIES = sizeof(entities) / sizeof(entities[0]), LONGEST_ENTITY = 10, LONGEST_TAG = 16 };

static const char *const hidden_tags[] = {"script",   "style",    "head", "nav",    "footer",
                                          "template", "noscript", "svg",  "iframe", NULL};
static const char *const block_tags[] = {"p",      "div",        "li",         "h1",      "h2",      "h3",    "h4",
                                         "h5",     "h6",         "pre",        "tr",      "dt",      "dd",    "br",
                                         "table",  "ul",         "ol",         "dl",      "section", "body",  "header",
                                         "main",   "article",    "aside",      "hr",      "form",    "title", "caption",
                                         "figure", "figcaption", "blockquote", "address", "option",  NULL};
static const char *const pre_tags[] = {"pre", "textarea", NULL};
/* Their content is not mark-up: it ends at their own end tag alone. */
static const char *const raw_tags[] = {"script", "style", "textarea", "title", "iframe", "noscript", NULL};

typedef struct page {
    const char *p, *end;
    ft_buffer *out;
    size_t begin;                     /* out->size when the page began */
    unsigned hidden, pre;             /* depth of hidden and pre elements */
    char hidden_tag[LONGEST_TAG + 1]; /* the outermost hidden element; only its own tags count */
    unsigned newlines;                /* that end the output so far */
    int space;                        /* a folded space is due before the next text */
    ft_status *st;
} page;

static int is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(name, *list) == 0)
            return 1;
    return 0;
}

/* --- Output ------------------------------------------------------------------ */

/* At most one empty line in a row, none at the beginning; spaces at a line's end go. */
static ft_code put_newline(page *g)
{
    g->space = 0;
    while (g->out->size > g->begin && (g->out->data[g->out->size - 1] == ' ' || g->out->data[g->out->size - 1] == '\t'))
        g->out->size--;
    if (g->out->size == g->begin || g->newlines >= 2)
        return FT_OK;
    g->newlines++;
    return ft_buffer_append(g->out, "\n", 1, g->st);
}

/* A block's edge: what follows begins a line. */
static ft_code put_break(page *g)
{
    g->space = 0;
    return g->newlines ? FT_OK : put_newline(g);
}

static ft_code put_bytes(page *g, const char *bytes, size_t n)
{
    if (g->space && !g->newlines && g->out->size > g->begin) {
        ft_code rc = ft_buffer_append(g->out, " ", 1, g->st);
        if (rc)
            return rc;
    }
    g->space = 0;
    g->newlines = 0;
    return ft_buffer_append(g->out, bytes, n, g->st);
}

static ft_code put_code_point(page *g, uint32_t c)
{
    ft_code rc = put_bytes(g, "", 0);
    return rc ? rc : ft_utf8_append(g->out, c, g->st);
}

/* --- Character references ----------------------------------------------------- */

static int by_name(const void *key, const void *row)
{
    return strcmp(key, *(const char *const *)row);
}

/* &#123; &#x7b; — the number, 0 with *used 0 where there is none. */
static uint32_t numeric_reference(const char *p, const char *end, size_t *used)
{
    const char *start = p;
    const int hex = p < end && (*p == 'x' || *p == 'X');
    p += hex;
    uint32_t value = 0;
    const char *digits = p;
    for (; p < end; p++) {
        const char c = *p;
        const int digit = c >= '0' && c <= '9'                     ? c - '0'
                          : hex && is_letter(c) && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                   : -1;
        if (digit < 0)
            break;
        if (value < 0x110000)
            value = value * (hex ? 16 : 10) + (uint32_t)digit;
    }
    *used = 0;
    if (p == digits)
        return 0;
    *used = (size_t)(p - start) + (p < end && *p == ';');
    return value ? value : 0xFFFD;
}

/* p stands behind '&'. The character and the bytes it took; *used 0: a plain '&'. */
static uint32_t reference(const char *p, const char *end, size_t *used)
{
    *used = 0;
    if (p < end && *p == '#') {
        const uint32_t c = numeric_reference(p + 1, end, used);
        *used += *used > 0;
        return c;
    }
    char name[LONGEST_ENTITY + 1];
    size_t n = 0;
    while (p + n < end && n < LONGEST_ENTITY && (is_letter(p[n]) || (p[n] >= '0' && p[n] <= '9'))) {
        name[n] = p[n];
        n++;
    }
    name[n] = '\0';
    if (!n || p + n >= end || p[n] != ';')
        return 0;
    const void *found = bsearch(name, entities, ENTITIES, sizeof(entities[0]), by_name);
    if (!found)
        return 0;
    *used = n + 1;
    return entities[((const char *)found - (const char *)entities) / (ptrdiff_t)sizeof(entities[0])].code_point;
}

/* --- Text ---------------------------------------------------------------------- */

/* White space as it stands in pre; elsewhere it becomes one space. */
static ft_code text_space(page *g, char c)
{
    if (!g->pre) {
        g->space = 1;
        return FT_OK;
    }
    if (c == '\n') {
        while (g->out->size > g->begin && g->out->data[g->out->size - 1] == ' ')
            g->out->size--;
        if (g->newlines >= 2 || g->out->size == g->begin)
            return FT_OK;
        g->newlines++;
        return ft_buffer_append(g->out, "\n", 1, g->st);
    }
    /* Indentation in pre is content: it must not undo the count of line ends before it. */
    return c == '\r' ? FT_OK : ft_buffer_append(g->out, &c, 1, g->st);
}

/* One run of text up to the next '<' (or `stop`, in raw elements). */
static ft_code text_run(page *g, const char *stop)
{
    ft_code rc = FT_OK;
    while (!rc && g->p < stop) {
        const char c = *g->p;
        if (g->hidden) {
            g->p = stop;
        } else if (is_space(c)) {
            rc = text_space(g, c);
            g->p++;
        } else if (c == '&') {
            size_t used;
            const uint32_t value = reference(g->p + 1, stop, &used);
            rc = !used ? put_bytes(g, "&", 1) : value == 0xA0 ? text_space(g, ' ') : put_code_point(g, value);
            g->p += 1 + used;
        } else {
            const char *from = g->p;
            while (g->p < stop && !is_space(*g->p) && *g->p != '&')
                g->p++;
            rc = put_bytes(g, from, (size_t)(g->p - from));
        }
    }
    return rc;
}

/* --- Tags ------------------------------------------------------------------------ */

/* Behind the '>' of the tag whose attributes begin at p; quoted values may hold '>'. */
static const char *tag_end(const char *p, const char *end)
{
    char quote = 0;
    for (; p < end; p++) {
        if (quote) {
            if (*p == quote)
                quote = 0;
        } else if (*p == '>') {
            return p + 1;
        } else if ((*p == '"' || *p == '\'') && p[-1] == '=') {
            quote = *p;
        }
    }
    return end;
}

/* Where the end tag of `name` begins, or the page's end. */
static const char *raw_end(const char *p, const char *end, const char *name)
{
    const size_t n = strlen(name);
    for (; (p = memchr(p, '<', (size_t)(end - p))) != NULL; p++) {
        if ((size_t)(end - p) < n + 2)
            break;
        size_t i = 0;
        while (p[1] == '/' && i < n && (p[2 + i] | 32) == name[i])
            i++;
        if (i == n && (p + 2 + n == end || !is_letter(p[2 + n])))
            return p;
    }
    return end;
}

/* Behind a comment, a doctype, CDATA or a processing instruction; p stands at '<'. */
static const char *declaration_end(const char *p, const char *end)
{
    const char *closing = ">";
    size_t opening = 2;
    if (end - p >= 4 && !memcmp(p, "<!--", 4)) {
        closing = "-->";
        opening = 4;
    } else if (end - p >= 9 && !memcmp(p, "<![CDATA[", 9)) {
        closing = "]]>";
        opening = 9;
    }
    const char *at = memmem(p + opening, (size_t)(end - p) - opening, closing, strlen(closing));
    return at ? at + strlen(closing) : end;
}

static ft_code open_or_close(page *g, const char *name, int closes)
{
    if (g->hidden ? strcmp(name, g->hidden_tag) == 0 : is_one_of(name, hidden_tags)) {
        if (!closes && !g->hidden)
            memcpy(g->hidden_tag, name, strlen(name) + 1);
        g->hidden = closes ? g->hidden - (g->hidden > 0) : g->hidden + 1;
        return put_break(g);
    }
    if (g->hidden)
        return FT_OK;
    if (is_one_of(name, pre_tags))
        g->pre = closes ? g->pre - (g->pre > 0) : g->pre + 1;
    if (!is_one_of(name, block_tags)) {
        if (strcmp(name, "td") == 0 || strcmp(name, "th") == 0) /* cells of a row stand apart */
            g->space = 1;
        return FT_OK;
    }
    /* A paragraph's end leaves an empty line; other blocks begin a new one. */
    ft_code rc = put_break(g);
    return rc || !closes || strcmp(name, "p") != 0 ? rc : put_newline(g);
}

/* g->p stands at '<'. Where that begins no tag it is text. */
static ft_code tag(page *g)
{
    const char *p = g->p + 1;
    const int closes = p < g->end && *p == '/';
    p += closes;
    if (p < g->end && !closes && (*p == '!' || *p == '?')) {
        g->p = declaration_end(g->p, g->end);
        return FT_OK;
    }
    if (p >= g->end || !is_letter(*p)) {
        g->p++;
        return g->hidden ? FT_OK : put_bytes(g, "<", 1);
    }
    char name[LONGEST_TAG + 1];
    size_t n = 0;
    for (; p < g->end && !is_space(*p) && *p != '>' && *p != '/'; p++)
        if (n < LONGEST_TAG)
            name[n++] = (char)(*p >= 'A' && *p <= 'Z' ? *p | 32 : *p);
    name[n] = '\0';
    const char *behind = tag_end(p, g->end);
    const int closed_itself = behind - p >= 2 && behind[-2] == '/';
    g->p = behind;
    ft_code rc = open_or_close(g, name, closes);
    if (!rc && !closes && closed_itself && (g->hidden || is_one_of(name, pre_tags)))
        return open_or_close(g, name, 1);
    if (rc || closes || !is_one_of(name, raw_tags))
        return rc;
    return text_run(g, raw_end(g->p, g->end, name));
}

ft_code ft_html_text(const char *text, size_t n, ft_buffer *out, ft_status *st)
{
    page g = {.p = text, .end = text + n, .out = out, .begin = out->size, .st = st};
    ft_code rc = ft_buffer_reserve(out, 0, st);
    while (!rc && g.p < g.end) {
        if (*g.p == '<') {
            rc = tag(&g);
        } else {
            const char *next = memchr(g.p, '<', (size_t)(g.end - g.p));
            rc = text_run(&g, next ? next : g.end);
        }
    }
    while (!rc && out->size > g.begin && is_space(out->data[out->size - 1]))
        out->size--;
    if (!rc)
        out->data[out->size] = '\0';
    return rc;
}
