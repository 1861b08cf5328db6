#define _GNU_SOURCE /* memmem */
#include "text/ft_html.h"

#include "base/ft_utf8.h"
#include "text/html_internal.h"

#include <stdlib.h>
#include <string.h>

/* What an element does to the text. */
enum {
    LINE = 1,     /* stands on lines of its own */
    PARA = 2,     /* with a blank line around */
    BREAK = 4,    /* br: one more line break */
    CELL = 8,     /* a space between it and what stands before */
    PRE = 16,     /* white space is kept */
    HIDDEN = 32,  /* gives nothing */
    RAW = 64,     /* no tags inside: up to its end tag all is content */
    IN_HEAD = 128 /* may stand in head; any other start tag ends it, as head's own tags may be left out */
};

enum { NAME_MAX_BYTES = 12 };

typedef struct element {
    char name[NAME_MAX_BYTES];
    unsigned flags;
} element;

static const element elements[] = {
    {"address", PARA},
    {"article", PARA},
    {"aside", PARA},
    {"base", IN_HEAD},
    {"blockquote", PARA},
    {"body", LINE},
    {"br", BREAK},
    {"caption", LINE},
    {"center", LINE},
    {"dd", LINE},
    {"details", PARA},
    {"dialog", PARA},
    {"dir", PARA},
    {"div", LINE},
    {"dl", PARA},
    {"dt", LINE},
    {"fieldset", PARA},
    {"figcaption", LINE},
    {"figure", PARA},
    {"footer", PARA | HIDDEN},
    {"form", PARA},
    {"h1", PARA},
    {"h2", PARA},
    {"h3", PARA},
    {"h4", PARA},
    {"h5", PARA},
    {"h6", PARA},
    {"head", LINE | HIDDEN},
    {"header", PARA},
    {"hr", PARA},
    {"html", LINE},
    {"iframe", HIDDEN | RAW},
    {"legend", LINE},
    {"li", LINE},
    {"link", IN_HEAD},
    {"listing", PARA | PRE},
    {"main", PARA},
    {"menu", PARA},
    {"meta", IN_HEAD},
    {"nav", PARA | HIDDEN},
    {"noembed", HIDDEN | RAW},
    {"noframes", HIDDEN | RAW | IN_HEAD},
    {"noscript", IN_HEAD},
    {"ol", PARA},
    {"optgroup", LINE},
    {"option", LINE},
    {"p", PARA},
    {"pre", PARA | PRE},
    {"script", HIDDEN | RAW | IN_HEAD},
    {"section", PARA},
    {"style", HIDDEN | RAW | IN_HEAD},
    {"summary", LINE},
    {"svg", HIDDEN},
    {"table", PARA},
    {"tbody", LINE},
    {"td", CELL},
    {"template", HIDDEN | IN_HEAD},
    {"textarea", LINE | PRE},
    {"tfoot", LINE},
    {"th", CELL},
    {"thead", LINE},
    {"title", HIDDEN | IN_HEAD},
    {"tr", LINE},
    {"ul", PARA},
    {"xmp", PARA | PRE | RAW},
};

/* Searches that ran to the end of the input without success are not begun
 * again: without this memory each of a million open comments would cost a scan. */
enum { NO_QUOTED_END = 1, NO_TAG_END = 2, NO_COMMENT_END = 4, NO_CDATA_END = 8, NO_TITLE_END = 16 };

typedef struct page {
    const char *at, *end;
    ft_buffer *text, *title;
    size_t text_from;
    ft_status *st;
    ft_code rc;             /* first failure; nothing is appended after it */
    unsigned breaks, space; /* owed before the next visible character */
    unsigned pre;           /* open elements that keep white space */
    const element *hidden;  /* the outermost open element that gives nothing */
    unsigned hidden_nest;   /* open elements of its name */
    unsigned given_up;
    int xml; /* "<script/>" is an empty element */
} page;

static int compare_element(const void *name, const void *e)
{
    return strcmp(name, ((const element *)e)->name);
}

static int is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* ---- what is written -------------------------------------------------- */

static void append(page *g, const char *p, size_t n)
{
    if (!g->rc)
        g->rc = ft_buffer_append(g->text, p, n, g->st);
}

/* Pays the breaks and the space that are owed. */
static void settle(page *g)
{
    const ft_buffer *b = g->text;
    if (b->size > g->text_from) {
        unsigned have = 0;
        while (have < 2 && b->size - have > g->text_from && b->data[b->size - 1 - have] == '\n')
            have++;
        if (g->space && !g->breaks && !have)
            append(g, " ", 1);
        if (g->breaks > have)
            append(g, "\n\n", g->breaks - have);
    }
    g->breaks = g->space = 0;
}

static void owe_breaks(page *g, unsigned n)
{
    if (g->breaks < n)
        g->breaks = n;
}

static void put_code_point(page *g, uint32_t c)
{
    if (c == 0xAD) /* soft hyphen: shown only where a line is broken */
        return;
    if (c == 0xA0)
        c = ' ';
    if (!g->pre && (c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f')) {
        g->space = 1;
        return;
    }
    settle(g);
    if (!g->rc)
        g->rc = ft_utf8_append(g->text, c, g->st);
}

/* Bytes 0x80 to 0x9F as numbers mean Windows-1252, as browsers take them. */
static uint32_t number_meaning(uint32_t c)
{
    static const uint16_t windows[32] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                         0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0x8D,   0x17D,  0x8F,
                                         0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                         0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};
    if (c >= 0x80 && c < 0xA0)
        return windows[c - 0x80];
    return c == 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) ? 0xFFFD : c;
}

static int digit(char c, unsigned base)
{
    const int v = c >= '0' && c <= '9' ? c - '0' : is_letter(c) ? lower(c) - 'a' + 10 : 99;
    return v < (int)base ? v : -1;
}

static size_t number_reference(const char *p, const char *end, uint32_t *code_point)
{
    const char *q = p + 2;
    unsigned base = 10;
    if (q < end && lower(*q) == 'x') {
        base = 16;
        q++;
    }
    const char *digits = q;
    uint32_t value = 0;
    for (; q < end && digit(*q, base) >= 0; q++)
        if (value <= 0x10FFFF) /* beyond it is U+FFFD however far */
            value = value * base + (uint32_t)digit(*q, base);
    if (q == digits)
        return 0;
    *code_point = number_meaning(value);
    return (size_t)(q - p) + (q < end && *q == ';');
}

/* The character reference at p ('&'): its length with *code_point, or 0. */
static size_t reference(const char *p, const char *end, uint32_t *code_point)
{
    if (p + 1 < end && p[1] == '#')
        return number_reference(p, end, code_point);
    size_t n = 0;
    while (n < FT_HTML_ENTITY_NAME && p + 1 + n < end && (is_letter(p[1 + n]) || digit(p[1 + n], 10) >= 0))
        n++;
    const int closed = p + 1 + n < end && p[1 + n] == ';';
    for (size_t k = n; k > 0; k--) {
        const ft_html_entity *e = ft_html_entity_find(p + 1, k);
        if (e && (e->bare || (closed && k == n))) {
            *code_point = e->code_point;
            return 1 + k + (closed && k == n);
        }
    }
    return 0;
}

/* Characters between tags. `plain`: '&' means itself (CDATA, raw text). */
static void put_text(page *g, const char *p, const char *end, int plain)
{
    if (g->hidden)
        return;
    while (p < end && !g->rc) {
        const char *q = p;
        while (q < end && *q != '&' && *q != '\r' && *q != '\xC2' && (g->pre || !is_space(*q)))
            q++;
        if (q > p) {
            settle(g);
            append(g, p, (size_t)(q - p));
            p = q;
            continue;
        }
        uint32_t c = 0;
        size_t n = *p == '&' && !plain ? reference(p, end, &c) : 0;
        if (*p == '\xC2' && end - p > 1 && (p[1] == '\xA0' || p[1] == '\xAD')) {
            c = (unsigned char)p[1];
            n = 2;
        } else if (*p == '\r') {
            c = '\n';
            n = end - p > 1 && p[1] == '\n' ? 2 : 1;
        } else if (is_space(*p)) {
            c = (unsigned char)*p;
            n = 1;
        }
        if (n) {
            put_code_point(g, c);
        } else {
            settle(g);
            append(g, p, 1);
            n = 1;
        }
        p += n;
    }
}

/* ---- what is read ----------------------------------------------------- */

/* First "needle" in [p, end), or NULL. */
static const char *find(const char *p, const char *end, const char *needle)
{
    return memmem(p, (size_t)(end - p), needle, strlen(needle));
}

/* The '>' that ends the tag whose name ends at p: not one within a quoted
 * attribute value, unless the quote never closes. NULL where there is none. */
static const char *tag_end(page *g, const char *p)
{
    if (g->given_up & NO_TAG_END)
        return NULL;
    const char *q = p;
    while (!(g->given_up & NO_QUOTED_END)) {
        while (q < g->end && *q != '=' && *q != '>')
            q++;
        if (q < g->end && *q == '>')
            return q;
        while (q < g->end && (*q == '=' || is_space(*q)))
            q++;
        if (q < g->end && (*q == '"' || *q == '\'')) {
            const char *closing = memchr(q + 1, *q, (size_t)(g->end - q - 1));
            q = closing ? closing + 1 : g->end;
        }
        if (q == g->end)
            g->given_up |= NO_QUOTED_END;
    }
    q = memchr(p, '>', (size_t)(g->end - p));
    if (!q)
        g->given_up |= NO_TAG_END;
    return q;
}

static const element *element_named(const char *name, size_t n)
{
    char key[NAME_MAX_BYTES];
    if (n >= sizeof(key))
        return NULL;
    for (size_t i = 0; i < n; i++)
        key[i] = lower(name[i]);
    key[n] = '\0';
    return bsearch(key, elements, sizeof(elements) / sizeof(elements[0]), sizeof(elements[0]), compare_element);
}

/* Where "</name" stands at or after p, or NULL. */
static const char *end_tag_of(const char *p, const char *end, const char *name)
{
    const size_t n = strlen(name);
    while ((p = find(p, end, "</")) != NULL) {
        size_t i = 0;
        while (i < n && (size_t)(end - p) > 2 + i && lower(p[2 + i]) == name[i])
            i++;
        const char *after = p + 2 + n;
        if (i == n && (after >= end || is_space(*after) || *after == '/' || *after == '>'))
            return p;
        p += 2;
    }
    return NULL;
}

static void read_title(page *g, const char *p)
{
    const char *close = g->given_up & NO_TITLE_END ? NULL : end_tag_of(p, g->end, "title");
    if (!close) { /* it ends where anything else begins */
        g->given_up |= NO_TITLE_END;
        close = memchr(p, '<', (size_t)(g->end - p));
    }
    if (!close)
        close = g->end;
    if (g->title && g->title->size == 0 && (!g->hidden || !strcmp(g->hidden->name, "head"))) {
        page inner = {.text = g->title, .st = g->st};
        put_text(&inner, p, close, 0);
        g->rc = g->rc ? g->rc : inner.rc;
    }
    g->at = close;
}

static void open_element(page *g, const element *e)
{
    if (!e)
        return;
    if (g->hidden) {
        const int ends_head = !strcmp(g->hidden->name, "head") && !(e->flags & IN_HEAD) && g->hidden != e;
        const int ends_any = !strcmp(e->name, "main") || !strcmp(e->name, "body");
        if (ends_head || (ends_any && g->hidden->flags & PARA))
            g->hidden = NULL;
        else
            g->hidden_nest += g->hidden == e;
    }
    owe_breaks(g, e->flags & PARA ? 2 : e->flags & LINE ? 1 : 0);
    if (e->flags & BREAK && g->breaks < 2)
        g->breaks++;
    g->space |= (e->flags & CELL) != 0;
    if (e->flags & PRE && !g->hidden)
        g->pre++;
    if (e->flags & HIDDEN && !g->hidden) {
        g->hidden = e;
        g->hidden_nest = 1;
    }
}

static void close_element(page *g, const element *e)
{
    if (!e)
        return;
    if (g->hidden) {
        const int ends_all = !strcmp(e->name, "body") || !strcmp(e->name, "html");
        if (g->hidden == e ? --g->hidden_nest == 0 : ends_all)
            g->hidden = NULL;
    } else if (e->flags & PRE && g->pre) {
        g->pre--;
    }
    owe_breaks(g, e->flags & PARA ? 2 : e->flags & LINE ? 1 : 0);
    g->space |= (e->flags & CELL) != 0;
}

/* Content of script and the like: up to its end tag, or to the end of the page. */
static void read_raw(page *g, const element *e)
{
    const char *close = end_tag_of(g->at, g->end, e->name);
    if (!close)
        close = g->end;
    put_text(g, g->at, close, 1);
    g->at = close;
}

/* A start or end tag at g->at, where '<' and a letter or "</" and a letter stand. */
static int read_tag(page *g)
{
    const int closing = g->at[1] == '/';
    const char *name = g->at + 1 + closing, *p = name;
    while (p < g->end && !is_space(*p) && *p != '/' && *p != '>' && *p != '<')
        p++;
    const char *end = tag_end(g, p);
    if (!end)
        return 0;
    const element *e = element_named(name, (size_t)(p - name));
    g->at = end + 1;
    if (closing) {
        close_element(g, e);
        return 1;
    }
    if (e && !strcmp(e->name, "title")) {
        if (!(g->xml && end[-1] == '/'))
            read_title(g, end + 1);
        return 1;
    }
    open_element(g, e);
    if (g->xml && end[-1] == '/') {
        close_element(g, e);
        return 1;
    }
    if (e && e->flags & PRE && g->at < g->end && *g->at == '\n')
        g->at++; /* the line break after <pre> is not content */
    if (e && e->flags & RAW)
        read_raw(g, e);
    return 1;
}

/* Markup that is no tag: 1 when it was passed over. */
static int read_declaration(page *g)
{
    const char *p = g->at, *end = NULL;
    const size_t left = (size_t)(g->end - p);
    if (left >= 9 && !memcmp(p, "<![CDATA[", 9) && !(g->given_up & NO_CDATA_END)) {
        end = find(p + 9, g->end, "]]>");
        if (end) {
            put_text(g, p + 9, end, 1);
            g->at = end + 3;
            return 1;
        }
        g->given_up |= NO_CDATA_END;
    }
    if (left >= 4 && !memcmp(p, "<!--", 4)) {
        /* From the opening's own dashes on: "<!-->" and "<!--->" are whole comments. */
        if (!(g->given_up & NO_COMMENT_END) && (end = find(p + 2, g->end, "-->")) != NULL)
            end += 2;
        else
            g->given_up |= NO_COMMENT_END;
    }
    if (!end && !(g->given_up & NO_TAG_END)) {
        end = memchr(p, '>', left);
        if (!end)
            g->given_up |= NO_TAG_END;
    }
    if (!end)
        return 0;
    g->at = end + 1;
    return 1;
}

static void read_page(page *g)
{
    while (g->at < g->end && !g->rc) {
        const char *open = memchr(g->at, '<', (size_t)(g->end - g->at));
        if (!open)
            open = g->end;
        put_text(g, g->at, open, 0);
        g->at = open;
        if (open == g->end)
            return;
        const char c = g->end - open > 1 ? open[1] : '\0';
        int passed = 0;
        if (is_letter(c) || (c == '/' && g->end - open > 2 && is_letter(open[2])))
            passed = read_tag(g);
        else if (c == '!' || c == '?' || c == '/')
            passed = read_declaration(g);
        if (!passed) {
            put_text(g, open, open + 1, 0);
            g->at = open + 1;
        }
    }
}

ft_code ft_html_text(const char *html, size_t n, ft_buffer *text, ft_buffer *title, ft_status *st)
{
    if (n == 0)
        return FT_OK;
    page g = {.at = html, .end = html + n, .text = text, .title = title, .text_from = text->size, .st = st};
    g.xml = n >= 5 && !memcmp(html, "<?xml", 5);
    read_page(&g);
    if (g.rc)
        return g.rc;
    size_t from = g.text_from;
    while (text->size > from && is_space(text->data[text->size - 1]))
        text->size--;
    while (from < text->size && is_space(text->data[from]))
        from++;
    if (text->size > g.text_from) {
        memmove(text->data + g.text_from, text->data + from, text->size - from);
        text->size -= from - g.text_from;
    }
    if (text->data)
        text->data[text->size] = '\0';
    return FT_OK;
}
