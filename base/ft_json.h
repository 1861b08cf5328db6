/* ft_json: reading JSON with jansson so that errors name the field, and writing
 * it compactly. Objects from outside are read field by field: a wrong type is
 * an error that names the field, an absent one gives the default.
 *
 * Ownership  jansson's: json_t is reference-counted, `get` functions borrow. */
#ifndef FT_JSON_H
#define FT_JSON_H
#include "base/ft_buffer.h"
#include "base/ft_status.h"

#include <jansson.h>
#include <stdint.h>

FT_API_BEGIN

/* Parses one JSON value out of n bytes; `where` starts the message. Duplicate
 * keys, invalid UTF-8, trailing bytes and nesting deeper than 2048 are errors. */
FT_CHECKED ft_code ft_json_parse(json_t **out, const char *text, size_t n, const char *where, ft_status *st);
FT_CHECKED ft_code ft_json_read_file(json_t **out, const char *path, size_t max_bytes, ft_status *st);

/* Each leaves *out as it was (the default that the caller put there) when the
 * field is absent or null, and fails with FT_ERR_ARG naming field and type when
 * it has another type or leaves the range. Numbers written as 3.0 are integers. */
FT_CHECKED ft_code ft_json_get_bool(const json_t *object, const char *field, int *out, ft_status *st);
FT_CHECKED ft_code ft_json_get_int(const json_t *object, const char *field, int64_t low, int64_t high, int64_t *out,
                                   ft_status *st);
FT_CHECKED ft_code ft_json_get_number(const json_t *object, const char *field, double low, double high, double *out,
                                      ft_status *st);
/* A name: one that holds NUL, where a C string would end, is an error too. *out borrows from the object. */
FT_CHECKED ft_code ft_json_get_string(const json_t *object, const char *field, const char **out, ft_status *st);
/* A text, by its length: it may hold NUL. *out borrows from the object. */
FT_CHECKED ft_code ft_json_get_text(const json_t *object, const char *field, const char **out, size_t *n,
                                    ft_status *st);
/* The string `v` as a name; NULL: no string, or one that holds NUL. */
const char *ft_json_name(const json_t *v);
/* Array of token ids 0 … 2^32-1 in memory that the caller frees; absent: NULL, 0. */
FT_CHECKED ft_code ft_json_get_ids(const json_t *object, const char *field, uint32_t **ids, size_t *count,
                                   ft_status *st);

/* JSON array of ids; NULL when memory is out. */
json_t *ft_json_ids(const uint32_t *ids, size_t count);
/* A string out of bytes that may hold invalid UTF-8 (replaced by U+FFFD). */
json_t *ft_json_text(const char *bytes, size_t n);

/* Appends compact JSON in insertion order. Doubles carry 17 digits, enough to
 * read back the same value. */
FT_CHECKED ft_code ft_json_write(const json_t *value, ft_buffer *out, ft_status *st);

/* The same with the reals set apart: their 17 digits take most of the time and, compressed, of the room. In the text
 * stands the byte FT_JSON_REAL for each, which JSON never holds; `reals` gets the doubles themselves, in that order. */
enum { FT_JSON_REAL = 1 };
FT_CHECKED ft_code ft_json_write_apart(const json_t *value, ft_buffer *out, ft_buffer *reals, ft_status *st);
/* Appends what ft_json_write would have. FT_ERR_FORMAT: the text names more reals than there are, or fewer. */
FT_CHECKED ft_code ft_json_join(const char *text, size_t n, const double *reals, size_t count, ft_buffer *out,
                                ft_status *st);

FT_API_END
#endif
