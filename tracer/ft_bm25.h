/* ft_bm25: Okapi BM25 (k1 1.5, b 0.75) of few documents against one query, words
 * lower-cased, idf over the documents given: how OLMoTrace orders what it found.
 *
 * A word is a maximal run of letters, marks and digits (Unicode), lower-cased
 * character by character. idf of a word in n of N documents is
 * ln((N - n + 0.5) / (n + 0.5)); where that is negative (a word in more than half
 * of them) it is 0.25 of the mean idf over all words of the documents. A query
 * word counts as often as it stands in the query. Words are told apart by 61 bits of hash.
 *
 * Source  Robertson and Zaragoza, 2009; PyPI rank_bm25's BM25Okapi, which OLMoTrace
 *         calls. One difference: with one or two documents, or nearly equal ones,
 *         the mean idf is negative and rank_bm25 orders them upside down; here its
 *         absolute value counts. */
#ifndef FT_BM25_H
#define FT_BM25_H
#include "base/ft_status.h"
#include "tracer/ft_lexicon.h"

#include <stddef.h>

FT_API_BEGIN

typedef struct ft_text_view {
    const char *text; /* UTF-8 */
    size_t bytes;
} ft_text_view;

/* scores [count]. O(total text). */
FT_CHECKED ft_code ft_bm25(ft_text_view query, const ft_text_view *documents, size_t count, double *scores,
                           ft_status *st);

/* The same, document by document, so that no text need be kept: memory grows with
 * the distinct words and the query's hits alone. One owner. */
typedef struct ft_ranker ft_ranker;
FT_CHECKED ft_code ft_ranker_new(ft_ranker **out, ft_text_view query, ft_status *st);
void ft_ranker_free(ft_ranker *r);
FT_CHECKED ft_code ft_ranker_add(ft_ranker *r, ft_text_view document, ft_status *st);
/* A document as tokens of the lexicon's vocabulary: what ft_ranker_add makes of their text, without
 * looking at its letters again. */
FT_CHECKED ft_code ft_ranker_add_tokens(ft_ranker *r, const ft_lexicon *l, const uint32_t *ids, size_t n,
                                        ft_status *st);
/* scores [documents added]. */
void ft_ranker_scores(const ft_ranker *r, double *scores);

FT_API_END
#endif
