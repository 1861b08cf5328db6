#include "base/ft_arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct block {
    struct block *older;
    size_t size, used;
    _Alignas(16) char bytes[];
} block;

struct ft_arena {
    block *newest;
    size_t handed_out, ceiling;
};

enum { FIRST_BLOCK = 4096, LARGEST_STEP = 1 << 20 };

ft_code ft_arena_new(ft_arena **out, size_t ceiling_bytes, ft_status *st)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return ft_fail(st, FT_ERR_MEM, "arena: out of memory");
    (*out)->ceiling = ceiling_bytes;
    return FT_OK;
}

static void free_blocks(block *b)
{
    while (b) {
        block *older = b->older;
        free(b);
        b = older;
    }
}

void ft_arena_free(ft_arena *a)
{
    if (!a)
        return;
    free_blocks(a->newest);
    free(a);
}

void ft_arena_reset(ft_arena *a)
{
    a->handed_out = 0;
    if (!a->newest)
        return;
    free_blocks(a->newest->older);
    a->newest->older = NULL;
    a->newest->used = 0;
}

void *ft_arena_array(ft_arena *a, size_t count, size_t element_bytes)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, element_bytes, &bytes) || bytes > SIZE_MAX / 4)
        return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    if (a->ceiling && bytes > a->ceiling - a->handed_out)
        return NULL;
    block *b = a->newest;
    if (!b || b->size - b->used < bytes) {
        size_t size = b ? b->size * 2 : FIRST_BLOCK;
        if (size > LARGEST_STEP)
            size = LARGEST_STEP;
        if (size < bytes)
            size = bytes;
        block *grown = malloc(sizeof(*grown) + size);
        if (!grown)
            return NULL;
        *grown = (block){.older = b, .size = size};
        a->newest = b = grown;
    }
    void *p = b->bytes + b->used;
    b->used += bytes;
    a->handed_out += bytes;
    return memset(p, 0, bytes);
}

char *ft_arena_text(ft_arena *a, const char *text, size_t n)
{
    char *copy = n < SIZE_MAX ? ft_arena_array(a, n + 1, 1) : NULL;
    if (copy && n)
        memcpy(copy, text, n);
    return copy;
}
