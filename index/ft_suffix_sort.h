/* ft_suffix_sort: the builder's side of ft_suffix_sort (index/ft_index_build.h),
 * with progress. Internal to index/. */
#ifndef FT_SUFFIX_SORT_H
#define FT_SUFFIX_SORT_H
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "base/ft_threads.h"

#include <stddef.h>
#include <stdint.h>

/* Bytes a token that sorting may need besides the tokens: order, ranks, two bitmaps. */
#define FT_SUFFIX_SORT_TOKEN_BYTES 8.25
/* And for each thread. */
enum { FT_SUFFIX_SORT_THREAD_BYTES = 8 << 20 };

/* As ft_suffix_sort; FT_ERR_CANCELLED when `progress` (may be NULL) said stop. */
FT_CHECKED ft_code ft_suffix_sort_with(uint32_t *order, const uint32_t *tokens, size_t n, uint32_t end, ft_pool *pool,
                                       const ft_progress *progress, ft_status *st);
#endif
