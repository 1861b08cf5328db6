#include "base/ft_buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void ft_buffer_init(ft_buffer *b, size_t ceiling)
{
    *b = (ft_buffer){.ceiling = ceiling};
}

void ft_buffer_release(ft_buffer *b)
{
    free(b->data);
    *b = (ft_buffer){.ceiling = b->ceiling};
}

void ft_buffer_reset(ft_buffer *b)
{
    b->size = 0;
    if (b->data)
        b->data[0] = '\0';
}

ft_code ft_buffer_reserve(ft_buffer *b, size_t more, ft_status *st)
{
    if (more > SIZE_MAX - 1 - b->size)
        return ft_fail(st, FT_ERR_LIMIT, "buffer: size overflow");
    const size_t needed = b->size + more;
    if (b->ceiling && needed > b->ceiling)
        return ft_fail(st, FT_ERR_LIMIT, "buffer: more than its limit of %zu bytes", b->ceiling);
    if (b->data && needed < b->capacity)
        return FT_OK;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity <= needed)
        capacity = capacity > SIZE_MAX / 2 ? needed + 1 : capacity * 2;
    char *data = realloc(b->data, capacity);
    if (!data)
        return ft_fail(st, FT_ERR_MEM, "buffer: no room for %zu bytes", capacity);
    data[b->size] = '\0';
    b->data = data;
    b->capacity = capacity;
    return FT_OK;
}

ft_code ft_buffer_append(ft_buffer *b, const void *bytes, size_t n, ft_status *st)
{
    ft_code rc = ft_buffer_reserve(b, n, st);
    if (rc)
        return rc;
    if (n)
        memcpy(b->data + b->size, bytes, n);
    b->size += n;
    b->data[b->size] = '\0';
    return FT_OK;
}

ft_code ft_buffer_append_str(ft_buffer *b, const char *text, ft_status *st)
{
    return ft_buffer_append(b, text, strlen(text), st);
}

ft_code ft_buffer_printf(ft_buffer *b, ft_status *st, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        return ft_fail(st, FT_ERR_ARG, "buffer: cannot format");
    ft_code rc = ft_buffer_reserve(b, (size_t)n, st);
    if (rc)
        return rc;
    va_start(args, fmt);
    vsnprintf(b->data + b->size, (size_t)n + 1, fmt, args);
    va_end(args);
    b->size += (size_t)n;
    return FT_OK;
}

ft_code ft_size_mul(size_t a, size_t b, size_t *out, ft_status *st)
{
    if (__builtin_mul_overflow(a, b, out))
        return ft_fail(st, FT_ERR_LIMIT, "size overflow: %zu x %zu", a, b);
    return FT_OK;
}

ft_code ft_size_add(size_t a, size_t b, size_t *out, ft_status *st)
{
    if (__builtin_add_overflow(a, b, out))
        return ft_fail(st, FT_ERR_LIMIT, "size overflow: %zu + %zu", a, b);
    return FT_OK;
}

void *ft_alloc_array(size_t count, size_t element_bytes)
{
    return calloc(count ? count : 1, element_bytes ? element_bytes : 1);
}

void *ft_alloc_large(size_t bytes)
{
    enum { LARGE_PAGE = 2 << 20 };
    if (bytes < LARGE_PAGE)
        return malloc(bytes ? bytes : 1);
    size_t rounded;
    if (__builtin_add_overflow(bytes, LARGE_PAGE - 1, &rounded))
        return NULL;
    rounded -= rounded % LARGE_PAGE;
    void *block = aligned_alloc(LARGE_PAGE, rounded);
    if (block)
        (void)madvise(block, rounded, MADV_HUGEPAGE); /* where there are none, small ones do */
    return block;
}

ft_code ft_array_grow(void **array, size_t *capacity, size_t needed, size_t element_bytes, ft_status *st)
{
    if (needed <= *capacity)
        return FT_OK;
    size_t grown = *capacity ? *capacity : 16;
    while (grown < needed)
        grown = grown > SIZE_MAX / 2 ? needed : grown * 2;
    size_t bytes;
    ft_code rc = ft_size_mul(grown, element_bytes, &bytes, st);
    if (rc)
        return rc;
    void *moved = realloc(*array, bytes);
    if (!moved)
        return ft_fail(st, FT_ERR_MEM, "out of memory: array of %zu bytes", bytes);
    *array = moved;
    *capacity = grown;
    return FT_OK;
}
