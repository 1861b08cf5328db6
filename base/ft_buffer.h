/* ft_buffer: bytes that grow, up to a ceiling that is named at init.
 *
 * Lifetime  the caller owns the struct; ft_buffer_release frees what it grew.
 *           A zeroed struct is a valid empty buffer without a ceiling.
 * Threads   one owner at a time.
 * Errors    FT_ERR_MEM or FT_ERR_LIMIT; the content stays as it was. */
#ifndef FT_BUFFER_H
#define FT_BUFFER_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_buffer {
    char *data;  /* NUL-terminated whenever not NULL; may hold NUL bytes inside */
    size_t size; /* bytes in use, without the terminator */
    size_t capacity;
    size_t ceiling; /* 0: none */
} ft_buffer;

void ft_buffer_init(ft_buffer *b, size_t ceiling);
void ft_buffer_release(ft_buffer *b); /* frees and zeroes, keeping the ceiling */
void ft_buffer_reset(ft_buffer *b);   /* empties, keeps the memory */

/* Room for `more` further bytes beyond `size`. */
FT_CHECKED ft_code ft_buffer_reserve(ft_buffer *b, size_t more, ft_status *st);
FT_CHECKED ft_code ft_buffer_append(ft_buffer *b, const void *bytes, size_t n, ft_status *st);
FT_CHECKED ft_code ft_buffer_append_str(ft_buffer *b, const char *text, ft_status *st);
FT_CHECKED ft_code ft_buffer_printf(ft_buffer *b, ft_status *st, const char *fmt, ...) FT_PRINTF(3, 4);

/* a * b, or FT_ERR_LIMIT where the product does not fit in size_t. Every size
 * that comes from a file or the network goes through here. */
FT_CHECKED ft_code ft_size_mul(size_t a, size_t b, size_t *out, ft_status *st);
FT_CHECKED ft_code ft_size_add(size_t a, size_t b, size_t *out, ft_status *st);

/* Array of `count` zeroed elements; NULL where the product overflows or memory
 * is out. free() releases it. count 0 gives a non-NULL pointer. */
void *ft_alloc_array(size_t count, size_t element_bytes);

/* A block for arrays that are read at random: in large pages where the system has them,
 * not zeroed. NULL when memory is out; free() releases it. */
void *ft_alloc_large(size_t bytes);

/* Grows *array (capacity *capacity, in elements) so that it holds `needed`
 * elements, at least doubling. On failure nothing changes. */
FT_CHECKED ft_code ft_array_grow(void **array, size_t *capacity, size_t needed, size_t element_bytes, ft_status *st);

FT_API_END
#endif
