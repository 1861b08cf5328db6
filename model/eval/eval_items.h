/* eval_items: the JSON objects of a file of test items, one a line. */
#ifndef FT_EVAL_ITEMS_H
#define FT_EVAL_ITEMS_H
#include "base/ft_status.h"

#include <jansson.h>
#include <stddef.h>

typedef struct eval_items {
    json_t **rows;
    size_t *lines; /* 1-based */
    size_t count, row_capacity, line_capacity;
} eval_items;

/* The first `limit` (0: all). FT_ERR_FORMAT names the line that is no object, or a file without any. */
FT_CHECKED ft_code eval_items_read(eval_items *out, const char *path, size_t limit, ft_status *st);
void eval_items_release(eval_items *items); /* a zeroed struct is allowed */
#endif
