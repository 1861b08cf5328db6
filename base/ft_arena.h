/* ft_arena: memory for things that die together. One request has one arena and
 * drops it whole when it completes.
 *
 * Lifetime  everything handed out lives until ft_arena_reset or _free.
 * Threads   one owner at a time.
 * Cost      O(1) an allocation; blocks double up to 1 MiB. */
#ifndef FT_ARENA_H
#define FT_ARENA_H
#include "base/ft_status.h"

#include <stddef.h>

FT_API_BEGIN

typedef struct ft_arena ft_arena;

/* `ceiling_bytes` bounds all that is ever handed out; 0 for none. */
FT_CHECKED ft_code ft_arena_new(ft_arena **out, size_t ceiling_bytes, ft_status *st);
void ft_arena_free(ft_arena *a);
void ft_arena_reset(ft_arena *a); /* keeps the newest block */

/* Zeroed memory for count elements, aligned to 16 bytes. NULL when memory or
 * the ceiling is out, or count * element_bytes overflows. count 0 is allowed
 * and gives a non-NULL pointer. */
void *ft_arena_array(ft_arena *a, size_t count, size_t element_bytes);
/* NUL-terminated copy of n bytes, or NULL. */
char *ft_arena_text(ft_arena *a, const char *text, size_t n);

FT_API_END
#endif
