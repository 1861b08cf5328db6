/* ft_edit_distance: Levenshtein distance of two sequences of 32-bit symbols (tokens, characters),
 * 64 rows of the matrix in one machine word.
 *
 * Cost    O(ceil(m / 64) n) word operations for sequences of m and n symbols, and O(m log m) to set up.
 * Memory  16 bytes a symbol of a, and 8 for each word of each distinct symbol of a; kept and reused.
 * Threads one owner.
 * Source  Myers, "A fast bit-vector algorithm for approximate string matching", J. ACM 46(3), 1999, in
 *         Hyyrö's form for the distance ("Explaining and extending the bit-parallel approximate
 *         string matching algorithm of Myers", 2001). */
#ifndef FT_EDIT_DISTANCE_H
#define FT_EDIT_DISTANCE_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

/* Zero it, use it again and again, release it. */
typedef struct ft_edit_scratch {
    uint32_t *symbols; /* distinct ones of a, sorted */
    uint64_t *words;   /* masks [symbols][words of a], then Pv and Mv of each word */
    size_t symbol_capacity, word_capacity;
} ft_edit_scratch;
void ft_edit_scratch_release(ft_edit_scratch *s);

FT_CHECKED ft_code ft_edit_distance(ft_edit_scratch *s, const uint32_t *a, size_t m, const uint32_t *b, size_t n,
                                    size_t *out, ft_status *st);
/* 1 - distance / the longer length; 1 for two empty sequences. */
FT_CHECKED ft_code ft_edit_similarity(ft_edit_scratch *s, const uint32_t *a, size_t m, const uint32_t *b, size_t n,
                                      double *out, ft_status *st);

FT_API_END
#endif
