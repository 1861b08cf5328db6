#include "base/ft_webpage.h"

#include "base/ft_utf8.h"

#include <string.h>

const char ft_webpage_head[] =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    "<style>\n"
    ":root{color-scheme:light dark;--paper:#f6f4ee;--card:#fffefb;--ink:#1d1b18;--soft:#5d5850;--line:#e1dbcf;"
    "--well:#f1eee6;--c1:#a83a0a;--c2:#0a49b0;"
    "--ui:\"Inter\",ui-sans-serif,system-ui,-apple-system,\"Segoe UI\",Roboto,\"Noto Sans\",sans-serif;"
    "--mono:ui-monospace,\"SF Mono\",\"Cascadia Mono\",\"Noto Sans Mono\",\"DejaVu Sans Mono\",monospace}\n"
    "@media (prefers-color-scheme:dark){:root{--paper:#131417;--card:#1b1c20;--ink:#ece9e2;--soft:#a8a399;"
    "--line:#303238;--well:#232529;--c1:#f2743a;--c2:#4b97ec}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--paper);color:var(--ink);font:400 .9375rem/1.5 var(--ui);"
    "-webkit-font-smoothing:antialiased}\n";

/* What stands for a character; NULL: itself. */
static const char *instead_of(const ft_utf8_step *c, int code)
{
    switch (c->code_point) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    case '\n':
        return code ? "<i>⏎</i>" : " ";
    case '\t':
        return code ? "<i>⇥</i>" : " ";
    case ' ':
        return code ? "<i>·</i>" : NULL;
    default:
        return !c->valid || c->code_point < 0x20 || (c->code_point >= 0x7F && c->code_point < 0xA0) ? "\xEF\xBF\xBD"
                                                                                                    : NULL;
    }
}

static ft_code escape(ft_buffer *out, const char *text, size_t n, size_t most, int code, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t at = 0; at < n && !rc;) {
        const ft_utf8_step c = ft_utf8_next(text + at, n - at);
        if (!most--)
            return ft_buffer_append_str(out, "…", st);
        const char *instead = instead_of(&c, code);
        rc = instead ? ft_buffer_append_str(out, instead, st) : ft_buffer_append(out, text + at, c.length, st);
        at += c.length;
    }
    return rc;
}

ft_code ft_webpage_escape(ft_buffer *out, const char *text, size_t n, size_t most, ft_status *st)
{
    return escape(out, text, n, most, 0, st);
}

ft_code ft_webpage_escape_code(ft_buffer *out, const char *text, size_t n, size_t most, ft_status *st)
{
    return escape(out, text, n, most, 1, st);
}
