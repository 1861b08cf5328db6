/* ft_chunk_sort: the chunks between the LMS positions of a text, in order. A part of
 * ft_suffix_sort, and internal to it.
 *
 * A chunk begins at an LMS position and ends with the symbol at the next one, which it
 * holds too. Where two agree as far as one goes, the one that ends is above: its last
 * symbol is of type S, the other's of type L. The last chunk of the text is cut by the
 * text's end, which is below all symbols. */
#ifndef FT_CHUNK_SORT_H
#define FT_CHUNK_SORT_H
#include "base/ft_status.h"
#include "index/ft_suffix_sort.h"

#include <stddef.h>
#include <stdint.h>

/* Set in the symbol at each LMS position: symbols are below it. */
#define FT_CHUNK_MARK ((uint32_t)1 << 31)

/* The watch of the whole sort, of which this is the first `part`. */
typedef struct ft_chunk_watch {
    const ft_sort_watch *watch;
    double part;
} ft_chunk_watch;

/* order[0..m) receives the m marked positions in the order of their chunks; ~p instead
 * of p where the chunk equals the one before; m <= n / 2. All of order [n], aligned as uint64_t, and `bucket`
 * [alphabet] are scratch; `watch` may be NULL. */
FT_CHECKED ft_code ft_chunk_sort(int32_t *order, const uint32_t *text, int32_t n, int32_t *bucket, size_t alphabet,
                                 const ft_chunk_watch *watch, ft_status *st);
#endif
