/* ft_suffix_sort: the suffix array of an integer string, in linear time. Internal to index/.
 *
 * Threads  one call is one thread's work: the builder sorts several runs side by side.
 * Source   Nong, Zhang, Chan, "Two efficient algorithms for linear time suffix array
 *          construction", IEEE Trans. Computers 60(10), 2011 (SA-IS). */
#ifndef FT_SUFFIX_SORT_H
#define FT_SUFFIX_SORT_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

/* Told now and then how far the work is, 0 to 1; non-zero ends it with FT_ERR_CANCELLED. */
typedef struct ft_sort_watch {
    int (*report)(void *context, double done);
    void *context;
} ft_sort_watch;

enum { FT_SUFFIX_SORT_MAX = INT32_MAX - 1 };

/* `order` [n] receives the positions of text[0..n)'s suffixes in the order of their
 * symbols; what is a prefix of another stands first. Symbols are below `alphabet`.
 * Documents are told apart by giving the end of each a symbol of its own, below all
 * others, rising: then no comparison looks beyond one, and equal suffixes stand by
 * position. n <= FT_SUFFIX_SORT_MAX. `watch` may be NULL. `text` is scratched and restored.
 * Memory: 4 bytes for each symbol of the alphabet, and as much for each level of the
 * recursion, whose alphabets together are below n / 2. */
FT_CHECKED ft_code ft_suffix_sort(int32_t *order, uint32_t *text, size_t n, size_t alphabet, const ft_sort_watch *watch,
                                  ft_status *st);
#endif
