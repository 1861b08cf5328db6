/* ft_bm25: Okapi BM25 (k1 1.5, b 0.75) of few documents against one query, words
 * lower-cased, idf over the documents given: how OLMoTrace orders what it found.
 * Source: Robertson and Zaragoza, 2009; PyPI rank_bm25's BM25Okapi, which
 * OLMoTrace calls (its idf floor for words in more than half of the documents,
 * epsilon 0.25 of the mean idf, included). */
#ifndef FT_BM25_H
#define FT_BM25_H
#include "base/ft_status.h"

#include <stddef.h>

FT_API_BEGIN

typedef struct ft_text_view {
    const char *text; /* UTF-8 */
    size_t bytes;
} ft_text_view;

/* scores [count]. O(total text). */
FT_CHECKED ft_code ft_bm25(ft_text_view query, const ft_text_view *documents, size_t count, double *scores,
                           ft_status *st);

FT_API_END
#endif
