#include "base/ft_utf8.h"

static ft_utf8_step ill_formed(unsigned length, int incomplete)
{
    return (ft_utf8_step){.code_point = 0xFFFD, .length = length, .incomplete = incomplete};
}

ft_utf8_step ft_utf8_next(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80)
        return (ft_utf8_step){.code_point = p[0], .length = 1, .valid = 1};
    const unsigned length = p[0] < 0xC2 || p[0] > 0xF4 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (!length)
        return ill_formed(1, 0);
    /* The second byte's range shuts out overlong forms, surrogates, and what lies beyond U+10FFFF. */
    unsigned char low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    uint32_t code_point = p[0] & (0x7Fu >> length);
    for (unsigned i = 1; i < length; i++) {
        if (i >= n)
            return ill_formed(i, 1);
        if (p[i] < low || p[i] > high)
            return ill_formed(i, 0);
        code_point = code_point << 6 | (p[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    return (ft_utf8_step){.code_point = code_point, .length = length, .valid = 1};
}

ft_code ft_utf8_repair(const char *bytes, size_t n, ft_buffer *out, size_t *first_bad, ft_status *st)
{
    size_t from = 0, i = 0;
    ft_code rc = FT_OK;
    if (first_bad)
        *first_bad = n;
    while (i < n) {
        if (!((unsigned char)bytes[i] & 0x80)) {
            i++;
            continue;
        }
        const ft_utf8_step s = ft_utf8_next(bytes + i, n - i);
        if (!s.valid) {
            if (first_bad && *first_bad == n)
                *first_bad = i;
            rc = ft_buffer_append(out, bytes + from, i - from, st);
            if (!rc)
                rc = ft_buffer_append(out, "\xEF\xBF\xBD", 3, st);
            if (rc)
                return rc;
            from = i + s.length;
        }
        i += s.length;
    }
    return ft_buffer_append(out, bytes + from, n - from, st);
}

ft_code ft_utf8_append(ft_buffer *out, uint32_t c, ft_status *st)
{
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        c = 0xFFFD;
    char b[4];
    size_t n = 0;
    if (c < 0x80) {
        b[n++] = (char)c;
    } else if (c < 0x800) {
        b[n++] = (char)(0xC0 | c >> 6);
    } else if (c < 0x10000) {
        b[n++] = (char)(0xE0 | c >> 12);
        b[n++] = (char)(0x80 | (c >> 6 & 0x3F));
    } else {
        b[n++] = (char)(0xF0 | c >> 18);
        b[n++] = (char)(0x80 | (c >> 12 & 0x3F));
        b[n++] = (char)(0x80 | (c >> 6 & 0x3F));
    }
    if (c >= 0x80)
        b[n++] = (char)(0x80 | (c & 0x3F));
    return ft_buffer_append(out, b, n, st);
}

size_t ft_utf8_count(const char *bytes, size_t n)
{
    size_t characters = 0;
    for (size_t i = 0; i < n; i++)
        characters += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    return characters;
}
