/* ft_utf8: telling characters from bytes that are none (Unicode 16, table 3-7). */
#ifndef FT_UTF8_H
#define FT_UTF8_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_utf8_step {
    uint32_t code_point; /* U+FFFD where the bytes are ill-formed */
    unsigned length;     /* bytes of the character, or of the maximal ill-formed subpart; at least 1 */
    int valid;           /* 0: ill-formed */
    int incomplete;      /* ill-formed only because the bytes end: more may complete it */
} ft_utf8_step;

/* The character that starts at p; n >= 1 bytes may be read. */
ft_utf8_step ft_utf8_next(const char *p, size_t n);

/* Appends the bytes, each maximal ill-formed subpart replaced by U+FFFD (as
 * WHATWG and Python's errors="replace" do). *first_bad (may be NULL) receives
 * the byte position of the first one, or n. */
FT_CHECKED ft_code ft_utf8_repair(const char *bytes, size_t n, ft_buffer *out, size_t *first_bad, ft_status *st);

/* Appends the character; code points above U+10FFFF and surrogates become U+FFFD. */
FT_CHECKED ft_code ft_utf8_append(ft_buffer *out, uint32_t code_point, ft_status *st);

/* Characters in n bytes of valid UTF-8. */
size_t ft_utf8_count(const char *bytes, size_t n);

FT_API_END
#endif
