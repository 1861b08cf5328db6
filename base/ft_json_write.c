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

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first of eight bytes is the lowest");

enum { MAX_DEPTH = 2048, REAL_DIGITS = 17, REAL_BYTES = 40 };

/* Where it goes. */
typedef struct writer {
    ft_buffer *out;
    ft_buffer *reals; /* where reals go as they are; NULL: into the text, as digits */
} writer;

static ft_code write_value(const json_t *value, const writer *w, int depth);

/* Most pieces are a few bytes, and most find room. The terminator comes at the very end, for which a byte is left. */
static inline ft_code reserve(ft_buffer *out, size_t n)
{
    if (out->capacity - out->size <= n || (out->ceiling && out->ceiling - out->size < n))
        return ft_buffer_reserve(out, n, NULL);
    return FT_OK;
}

static inline ft_code append(ft_buffer *out, const void *bytes, size_t n)
{
    const ft_code rc = reserve(out, n);
    if (rc)
        return rc;
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
    static const char names[128] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r',
                                    ['\t'] = 't', ['"'] = '"',  ['\\'] = '\\'};
    const char two[2] = {'\\', names[c]};
    return names[c] ? append(out, two, 2) : ft_buffer_printf(out, NULL, "\\u%04X", (unsigned)c);
}

/* The high bits of those of eight bytes that are not plain: at least 0x80, below 0x20, or equal to one of the two. A
 * borrow reaches the bytes above only from such a one, so that the lowest is right. */
static inline uint64_t not_plain(uint64_t v)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    const uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\';
    return (v | ((v - ones * 0x20) & ~v) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & high;
}

/* Copies as many bytes as are plain at the beginning, and says how many; writes up to n. */
static inline size_t copy_plain(char *to, const char *text, size_t n)
{
    size_t i = 0;
    for (uint64_t v; i + sizeof(v) <= n; i += sizeof(v)) {
        memcpy(&v, text + i, sizeof(v));
        memcpy(to + i, &v, sizeof(v));
        const uint64_t found = not_plain(v);
        if (found)
            return i + (unsigned)__builtin_ctzll(found) / 8;
    }
    for (; i < n && is_plain((unsigned char)text[i]); i++)
        to[i] = text[i];
    return i;
}

/* Characters of several bytes, as they are; text[*at] begins one, and there is room for all n. Ill-formed UTF-8, which
 * only a caller that avoided json_string's check can hand over, is an error. */
static ft_code copy_wide(const char *text, size_t n, size_t *at, ft_buffer *out)
{
    while (*at < n && (unsigned char)text[*at] >= 0x80) {
        const ft_utf8_step step = ft_utf8_next(text + *at, n - *at);
        if (!step.valid)
            return FT_ERR_FORMAT;
        memcpy(out->data + out->size, text + *at, step.length);
        out->size += step.length;
        *at += step.length;
    }
    return FT_OK;
}

static ft_code write_string(const char *text, size_t n, ft_buffer *out)
{
    ft_code rc = append(out, "\"", 1);
    for (size_t i = 0; !rc && i < n;) {
        rc = reserve(out, n - i); /* each byte gives at least one */
        if (rc)
            break;
        const size_t plain = copy_plain(out->data + out->size, text + i, n - i);
        out->size += plain;
        i += plain;
        if (i < n)
            rc = (unsigned char)text[i] < 0x80 ? write_escape((unsigned char)text[i++], out)
                                               : copy_wide(text, n, &i, out);
    }
    return rc ? rc : append(out, "\"", 1);
}

/* --- Numbers --------------------------------------------------------------------------------------- */

static const uint64_t eight_zeros = UINT64_C(0x3030303030303030); /* as text */

/* Eight decimal digits of n < 10^8, a byte each, the first lowest: halved into lanes of four, two and one digits, where
 * x * 10486 >> 20 is x / 100 for x < 10^4 and x * 103 >> 10 is x / 10 for x < 100. */
static inline uint64_t eight_digits(uint64_t n)
{
    const uint64_t fours = n / 10000 | (n % 10000) << 32;
    const uint64_t hundreds = (fours * 10486) >> 20 & UINT64_C(0x7F0000007F);
    const uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    const uint64_t tens = (twos * 103) >> 10 & UINT64_C(0x000F000F000F000F);
    return tens | (twos - 10 * tens) << 8;
}

static inline void put_eight(char *out, uint64_t digits)
{
    digits += eight_zeros;
    memcpy(out, &digits, sizeof(digits));
}

/* Decimal digits of n, at least one; their number. Writes up to WHOLE_BYTES. */
enum { WHOLE_BYTES = 24 };
static size_t put_whole(char *out, uint64_t n)
{
    const uint64_t eight = 100000000;
    size_t count = 0;
    uint64_t rest[2], parts = 0;
    for (; n >= eight; n /= eight)
        rest[parts++] = n % eight;
    const uint64_t first = eight_digits(n);
    const unsigned zeros = first ? (unsigned)__builtin_ctzll(first) / 8 : 7; /* in front */
    put_eight(out, first >> 8 * zeros);
    for (count = 8 - zeros; parts; count += 8)
        put_eight(out + count, eight_digits(rest[--parts]));
    return count;
}

/* Room for `most` bytes that are written at once: in the buffer, or `apart` where its ceiling leaves less. */
static char *room_for(ft_buffer *out, size_t most, char *apart)
{
    const ft_code rc = reserve(out, most);
    return !rc ? out->data + out->size : rc == FT_ERR_LIMIT ? apart : NULL;
}

static ft_code take_room(ft_buffer *out, const char *text, const char *apart, size_t n)
{
    if (text == apart)
        return append(out, text, n);
    out->size += n;
    return FT_OK;
}

static ft_code write_integer(json_int_t n, ft_buffer *out)
{
    char apart[WHOLE_BYTES + 1], *text = room_for(out, sizeof(apart), apart);
    if (!text)
        return FT_ERR_MEM;
    const size_t sign = n < 0;
    text[0] = '-';
    const size_t count = put_whole(text + sign, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
    return take_room(out, text, apart, sign + count);
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

/* 17 digits as they stand around the point; zeros at the end are not written. `exponent` is the first digit's, from -4
 * to 15. All 17 are put where the number ends; those before a point then go one to the front. */
static size_t put_digits(char *out, uint64_t digits17, int exponent)
{
    static const uint64_t eight = 100000000;
    static const char zeros[] = {'0', '.', '0', '0', '0'};
    const uint64_t middle = eight_digits(digits17 / eight % eight), last = eight_digits(digits17 % eight);
    const size_t count = last     ? REAL_DIGITS - (unsigned)__builtin_clzll(last) / 8
                         : middle ? 9 - (unsigned)__builtin_clzll(middle) / 8
                                  : 1;
    const size_t front = exponent < 0 ? 1 + (size_t)-exponent : 1, before = exponent < 0 ? 0 : (size_t)exponent + 1;
    memcpy(out, zeros, sizeof(zeros));
    out[front] = (char)('0' + digits17 / (eight * eight));
    put_eight(out + front + 1, middle);
    put_eight(out + front + 9, last);
    if (exponent < 0)
        return front + count;
    for (size_t i = 0; i < before; i++)
        out[i] = out[i + 1];
    out[before] = '.';
    return before + 1 + (count > before ? count - before : 1);
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
    char apart[REAL_BYTES], *text = room_for(out, sizeof(apart), apart);
    if (!text)
        return FT_ERR_MEM;
    size_t n = put_real(text, x);
    if (!n)
        n = print_real(text, x);
    return take_room(out, text, apart, n);
}

/* --- Values ---------------------------------------------------------------------------------------- */

static ft_code set_apart(double x, const writer *w)
{
    static const char mark = FT_JSON_REAL;
    const ft_code rc = append(w->out, &mark, 1);
    return rc ? rc : append(w->reals, &x, sizeof(x));
}

/* NOLINTNEXTLINE(misc-no-recursion): as write_value */
static ft_code write_object(const json_t *object, const writer *w, int depth)
{
    ft_buffer *out = w->out;
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
            rc = write_value(json_object_iter_value(i), w, depth + 1);
    }
    return rc ? rc : append(out, "}", 1);
}

/* Those reals that the array begins with, and their commas, apart; room is asked for once. *count of them. n is what
 * jansson holds pointers to, so that as many doubles are no overflow. */
static ft_code set_reals_apart(const json_t *array, size_t n, const writer *w, size_t *count)
{
    *count = 0;
    if (!json_is_real(json_array_get(array, 0)))
        return FT_OK;
    ft_code rc = reserve(w->out, 2 * n); /* what values and commas take at least */
    rc = rc ? rc : reserve(w->reals, sizeof(double) * n);
    if (rc)
        return rc;
    char *text = w->out->data + w->out->size, *reals = w->reals->data + w->reals->size;
    const json_t *v;
    size_t i = 0;
    for (; i < n && json_is_real(v = json_array_get(array, i)); i++) {
        const double x = json_real_value(v);
        memcpy(reals + i * sizeof(x), &x, sizeof(x));
        text[2 * i] = FT_JSON_REAL;
        text[2 * i + 1] = ',';
    }
    w->out->size += 2 * i - 1;
    w->reals->size += i * sizeof(double);
    *count = i;
    return FT_OK;
}

/* NOLINTNEXTLINE(misc-no-recursion): as write_value */
static ft_code write_array(const json_t *array, const writer *w, int depth)
{
    ft_buffer *out = w->out;
    const size_t n = json_array_size(array);
    size_t i = 0;
    ft_code rc = append(out, "[", 1);
    if (!rc && w->reals)
        rc = set_reals_apart(array, n, w, &i);
    for (; !rc && i < n; i++) {
        if (i)
            rc = append(out, ",", 1);
        if (!rc)
            rc = write_value(json_array_get(array, i), w, depth + 1);
    }
    return rc ? rc : append(out, "]", 1);
}

/* NOLINTNEXTLINE(misc-no-recursion): MAX_DEPTH ends it, and so a value that holds itself */
static ft_code write_value(const json_t *value, const writer *w, int depth)
{
    ft_buffer *out = w->out;
    if (!value || depth > MAX_DEPTH)
        return FT_ERR_FORMAT;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return write_object(value, w, depth);
    case JSON_ARRAY:
        return write_array(value, w, depth);
    case JSON_STRING:
        return write_string(json_string_value(value), json_string_length(value), out);
    case JSON_INTEGER:
        return write_integer(json_integer_value(value), out);
    case JSON_REAL:
        return w->reals ? set_apart(json_real_value(value), w) : write_real(json_real_value(value), out);
    case JSON_TRUE:
        return append(out, "true", 4);
    case JSON_FALSE:
        return append(out, "false", 5);
    case JSON_NULL:
        break;
    }
    return append(out, "null", 4);
}

static ft_code write_whole(const json_t *value, const writer *w, ft_status *st)
{
    ft_buffer *out = w->out;
    const size_t before = out->size, reals = w->reals ? w->reals->size : 0;
    const ft_code rc = write_value(value, w, 0);
    if (!rc) {
        out->data[out->size] = '\0';
        return FT_OK;
    }
    if (out->data)
        out->data[before] = '\0';
    out->size = before;
    if (w->reals)
        w->reals->size = reals;
    return ft_fail(st, FT_ERR_MEM, "JSON output: out of memory or larger than its limit");
}

ft_code ft_json_write(const json_t *value, ft_buffer *out, ft_status *st)
{
    return write_whole(value, &(writer){out, NULL}, st);
}

/* --- Reals apart ------------------------------------------------------------------------------------- */

ft_code ft_json_write_apart(const json_t *value, ft_buffer *out, ft_buffer *reals, ft_status *st)
{
    return write_whole(value, &(writer){out, reals}, st);
}

ft_code ft_json_join(const char *text, size_t n, const double *reals, size_t count, ft_buffer *out, ft_status *st)
{
    const size_t before = out->size;
    size_t taken = 0;
    const char *end = text + n;
    ft_code rc = append(out, "", 0);
    for (const char *p = text; !rc && p < end; p++) {
        const char *found = memchr(p, FT_JSON_REAL, (size_t)(end - p)), *mark = found ? found : end;
        rc = append(out, p, (size_t)(mark - p));
        p = mark;
        if (!rc && found)
            rc = taken < count ? write_real(reals[taken++], out) : FT_ERR_FORMAT;
    }
    if (!rc && taken < count)
        rc = FT_ERR_FORMAT;
    if (rc)
        out->size = before;
    if (out->data)
        out->data[out->size] = '\0';
    if (rc == FT_ERR_FORMAT)
        return ft_fail(st, rc, "JSON: its text does not name as many numbers as there are, %zu", count);
    return rc ? ft_fail(st, FT_ERR_MEM, "JSON output: out of memory or larger than its limit") : FT_OK;
}
