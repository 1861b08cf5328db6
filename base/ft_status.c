#include "base/ft_status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One line, whatever was printed into it; cut before a UTF-8 character that did
 * not fit whole. */
static void make_one_line(char *msg, size_t size)
{
    for (char *p = msg; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    size_t len = strlen(msg);
    if (len + 1 < size)
        return;
    size_t cut = len;
    while (cut > 0 && ((unsigned char)msg[cut - 1] & 0xC0) == 0x80)
        cut--;
    if (cut > 0 && ((unsigned char)msg[cut - 1] & 0x80))
        msg[cut - 1] = '\0';
}

int ft_status_write(ft_status *st, ft_code code, const char *fmt, ...)
{
    if (!st)
        return 0;
    st->code = code;
    va_list args;
    va_start(args, fmt);
    vsnprintf(st->msg, sizeof(st->msg), fmt, args);
    va_end(args);
    make_one_line(st->msg, sizeof(st->msg));
    return 0;
}

void ft_status_prefix(ft_status *st, const char *fmt, ...)
{
    if (!st || st->code == FT_OK)
        return;
    char whole[sizeof(st->msg)];
    va_list args;
    va_start(args, fmt);
    int used = vsnprintf(whole, sizeof(whole), fmt, args);
    va_end(args);
    if (used < 0 || (size_t)used >= sizeof(whole))
        used = sizeof(whole) - 1;
    const int left = (int)sizeof(whole) - used - 3; /* for ": " and the terminator */
    snprintf(whole + used, sizeof(whole) - (size_t)used, ": %.*s", left > 0 ? left : 0, st->msg);
    memcpy(st->msg, whole, sizeof(whole));
    make_one_line(st->msg, sizeof(st->msg));
}

const char *ft_code_name(ft_code code)
{
    switch (code) {
    case FT_OK:
        return "ok";
    case FT_ERR_ARG:
        return "invalid argument";
    case FT_ERR_MEM:
        return "out of memory";
    case FT_ERR_IO:
        return "input/output error";
    case FT_ERR_FORMAT:
        return "malformed input";
    case FT_ERR_NOT_FOUND:
        return "not found";
    case FT_ERR_LIMIT:
        return "limit reached";
    case FT_ERR_UNSUPPORTED:
        return "not supported";
    case FT_ERR_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}
