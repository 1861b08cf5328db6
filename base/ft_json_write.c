/* Writing JSON. Byte for byte what json_dump_callback writes with JSON_COMPACT | JSON_ENCODE_ANY, several times faster:
 * a trace holds thousands of numbers and small objects, and a client waits while it is written.
 *
 * Numbers  a double is m * 2^e. For 1e-4 <= x < 2^52, m * 10^p has at most 124 bits for the p that gives 17 digits
 *          before the point, so that the digits, rounded half to even, come out of one multiplication and one shift.
 *          printf's "%.17g" gives the same ones; all other doubles go through it. */
#include "base/ft_json.h"
#include "base/ft_utf8.h"

#include <stdio.h>
#include <string.h>

__extension__ typedef unsigned __int128 uint128;

enum { MAX_DEPTH = 2048, REAL_DIGITS = 17, REAL_BYTES = 40 };

static ft_code write_value(const json_t *value, ft_buffer *out, int depth);

/* Most pieces are a few bytes, and most find room. The terminator comes at the very end, for which a byte is left. */
static inline ft_code append(ft_buffer *out, const void *bytes, size_t n)
{
    if (out->capacity - out->size <= n || (out->ceiling && out->ceiling - out->size < n))
        return ft_buffer_append(out, bytes, n, NULL);
    memcpy(out->data + out->size, bytes, n);
    out->size += n;
    return FT_OK;
}

/* --- Strings --------------------------------------------------------------------------------------- */

static int is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static ft_code write_escape(unsigned char c, ft_buffer *out)
{
    static const char letters[] = "\b\f\n\r\t\"\\", names[] = "bfnrt\"\\";
    const char *at = c ? strchr(letters, c) : NULL;
    const char two[2] = {'\\', at ? names[at - letters] : ' '};
    return at ? append(out, two, 2) : ft_buffer_printf(out, NULL, "\\u%04X", (unsigned)c);
}

/* Runs that need no escape are copied whole. Ill-formed UTF-8, which only a caller that avoided json_string's check
 * can hand over, is an error. */
static ft_code write_string(const char *text, size_t n, ft_buffer *out)
{
    ft_code rc = append(out, "\"", 1);
    for (size_t i = 0, from = 0; !rc && from < n; from = i) {
        while (i < n && is_plain((unsigned char)text[i]))
            i++;
        if (i < n && (unsigned char)text[i] >= 0x80) {
            const ft_utf8_step step = ft_utf8_next(text + i, n - i);
            if (!step.valid)
                return FT_ERR_FORMAT;
            i += step.length;
            rc = append(out, text + from, i - from);
        } else if (i > from) {
            rc = append(out, text + from, i - from);
        } else {
            rc = write_escape((unsigned char)text[i++], out);
        }
    }
    return rc ? rc : append(out, "\"", 1);
}

/* --- Numbers --------------------------------------------------------------------------------------- */

/* Decimal digits of n, at least one, two at a time; their number. */
static size_t put_whole(char *out, uint64_t n)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                "8081828384858687888990919293949596979899";
    char digits[20], *from = digits + sizeof(digits);
    for (; n >= 100; n /= 100) {
        from -= 2;
        memcpy(from, pairs + 2 * (n % 100), 2);
    }
    if (n >= 10) {
        from -= 2;
        memcpy(from, pairs + 2 * n, 2);
    } else {
        *--from = (char)('0' + n);
    }
    const size_t count = (size_t)(digits + sizeof(digits) - from);
    memcpy(out, from, count);
    return count;
}

static ft_code write_integer(json_int_t n, ft_buffer *out)
{
    char text[24] = "-";
    const size_t sign = n < 0;
    const size_t count = put_whole(text + sign, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
    return append(out, text, sign + count);
}

/* m * 10^p / 2^shift, half to even; m < 2^53, p <= 21, 0 < shift < 127. */
static uint64_t scaled(uint64_t m, unsigned p, unsigned shift)
{
    static const uint64_t tens[] = {1,
                                    10,
                                    100,
                                    1000,
                                    10000,
                                    100000,
                                    1000000,
                                    10000000,
                                    100000000,
                                    1000000000,
                                    10000000000,
                                    100000000000,
                                    1000000000000,
                                    10000000000000,
                                    100000000000000,
                                    1000000000000000,
                                    10000000000000000,
                                    100000000000000000,
                                    1000000000000000000};
    const uint128 n = p <= 18 ? (uint128)m * tens[p] : (uint128)m * tens[18] * tens[p - 18];
    const uint128 half = (uint128)1 << (shift - 1), rest = n & ((half << 1) - 1);
    const uint64_t whole = (uint64_t)(n >> shift);
    return whole + (rest > half || (rest == half && whole & 1));
}

/* 17 digits as they stand around the point; zeros at the end are not written. `exponent` is the first digit's. */
static size_t put_digits(char *out, uint64_t digits17, int exponent)
{
    char digits[REAL_DIGITS + 3];
    size_t count = put_whole(digits, digits17), n = 0;
    while (count > 1 && digits[count - 1] == '0')
        count--;
    if (exponent < 0) {
        out[n++] = '0';
        out[n++] = '.';
        for (int i = -1; i > exponent; i--)
            out[n++] = '0';
        memcpy(out + n, digits, count);
        return n + count;
    }
    const size_t before = (size_t)exponent + 1;
    for (size_t i = 0; i < before; i++)
        out[n++] = i < count ? digits[i] : '0';
    out[n++] = '.';
    if (count <= before) {
        out[n++] = '0';
        return n;
    }
    memcpy(out + n, digits + before, count - before);
    return n + count - before;
}

/* 0 where the double is not one of those that this can write. */
static size_t put_real(char *out, double x)
{
    static const double tens[] = {1e-3, 1e-2, 1e-1, 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
                                  1e13, 1e14, 1e15};
    static const uint64_t least = UINT64_C(10000000000000000);
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    const size_t sign = bits >> 63;
    const double size = sign ? -x : x;
    out[0] = '-';
    if (size == 0) {
        static const char zero[] = {'0', '.', '0'};
        memcpy(out + sign, zero, sizeof(zero));
        return sign + 3;
    }
    if (!(size >= 1e-4 && size < 0x1p52))
        return 0;
    const uint64_t m = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    const int shift = 1075 - (int)(bits >> 52 & 0x7FF); /* > 0, because size < 2^52 */
    int exponent = -4;
    for (size_t i = 0; i < sizeof(tens) / sizeof(*tens) && size >= tens[i]; i++)
        exponent++;
    /* A power of ten below 1 is not a double, and rounding may carry into an 18th digit: at most one step off. */
    uint64_t digits = scaled(m, (unsigned)(REAL_DIGITS - 1 - exponent), (unsigned)shift);
    if (digits < least || digits >= 10 * least) {
        exponent += digits < least ? -1 : 1;
        if (exponent < -4)
            return 0;
        digits = scaled(m, (unsigned)(REAL_DIGITS - 1 - exponent), (unsigned)shift);
    }
    return sign + put_digits(out + sign, digits, exponent);
}

/* What the fast way leaves: "%.17g" with ".0" where it looks like an integer, and an exponent without '+' and zeros. */
static size_t print_real(char *out, double x)
{
    int n = snprintf(out, REAL_BYTES - 2, "%.17g", x);
    char *e = strchr(out, 'e');
    if (!e && !strchr(out, '.')) {
        out[n] = '.';
        out[n + 1] = '0';
        return (size_t)n + 2;
    }
    if (!e)
        return (size_t)n;
    char *to = e + 1, *from = e + 1;
    if (*from == '-')
        to++;
    from += *from == '-' || *from == '+';
    while (*from == '0')
        from++;
    memmove(to, from, strlen(from) + 1);
    return strlen(out);
}

static ft_code write_real(double x, ft_buffer *out)
{
    const ft_code rc = ft_buffer_reserve(out, REAL_BYTES, NULL);
    char apart[REAL_BYTES]; /* near the ceiling there may be less room than for the longest */
    if (rc && rc != FT_ERR_LIMIT)
        return rc;
    char *text = rc ? apart : out->data + out->size;
    size_t n = put_real(text, x);
    if (!n)
        n = print_real(text, x);
    if (rc)
        return append(out, text, n);
    out->size += n;
    return FT_OK;
}

/* --- Values ---------------------------------------------------------------------------------------- */

/* NOLINTNEXTLINE(misc-no-recursion): as write_value */
static ft_code write_object(const json_t *object, ft_buffer *out, int depth)
{
    json_t *borrowed = (json_t *)(uintptr_t)object; /* jansson's iterators read only */
    ft_code rc = append(out, "{", 1);
    int first = 1;
    for (void *i = json_object_iter(borrowed); !rc && i; i = json_object_iter_next(borrowed, i), first = 0) {
        if (!first)
            rc = append(out, ",", 1);
        if (!rc)
            rc = write_string(json_object_iter_key(i), json_object_iter_key_len(i), out);
        if (!rc)
            rc = append(out, ":", 1);
        if (!rc)
            rc = write_value(json_object_iter_value(i), out, depth + 1);
    }
    return rc ? rc : append(out, "}", 1);
}

/* NOLINTNEXTLINE(misc-no-recursion): as write_value */
static ft_code write_array(const json_t *array, ft_buffer *out, int depth)
{
    const size_t n = json_array_size(array);
    ft_code rc = append(out, "[", 1);
    for (size_t i = 0; !rc && i < n; i++) {
        if (i)
            rc = append(out, ",", 1);
        if (!rc)
            rc = write_value(json_array_get(array, i), out, depth + 1);
    }
    return rc ? rc : append(out, "]", 1);
}

/* NOLINTNEXTLINE(misc-no-recursion): MAX_DEPTH ends it, and so a value that holds itself */
static ft_code write_value(const json_t *value, ft_buffer *out, int depth)
{
    if (!value || depth > MAX_DEPTH)
        return FT_ERR_FORMAT;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return write_object(value, out, depth);
    case JSON_ARRAY:
        return write_array(value, out, depth);
    case JSON_STRING:
        return write_string(json_string_value(value), json_string_length(value), out);
    case JSON_INTEGER:
        return write_integer(json_integer_value(value), out);
    case JSON_REAL:
        return write_real(json_real_value(value), out);
    case JSON_TRUE:
        return append(out, "true", 4);
    case JSON_FALSE:
        return append(out, "false", 5);
    case JSON_NULL:
        break;
    }
    return append(out, "null", 4);
}

ft_code ft_json_write(const json_t *value, ft_buffer *out, ft_status *st)
{
    const size_t before = out->size;
    const ft_code rc = write_value(value, out, 0);
    if (!rc) {
        out->data[out->size] = '\0';
        return FT_OK;
    }
    if (out->data)
        out->data[before] = '\0';
    out->size = before;
    return ft_fail(st, FT_ERR_MEM, "JSON output: out of memory or larger than its limit");
}
