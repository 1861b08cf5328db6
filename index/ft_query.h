/* ft_query: infini-gram's questions over one or several indexes, searched as one.
 * Counts are exact, always. Names and meanings follow infini-gram's own endpoint.
 *
 * Threads  any number on the same set of indexes. */
#ifndef FT_QUERY_H
#define FT_QUERY_H
#include "index/ft_index.h"

FT_API_BEGIN

typedef struct ft_index_set {
    const ft_index *const *indexes;
    size_t count;
} ft_index_set;

uint64_t ft_query_count(ft_index_set set, const uint32_t *ids, size_t n);

typedef struct ft_prob {
    uint64_t prompt_count, continuation_count;
    double prob;       /* -1 where prompt_count is 0 */
    size_t suffix_len; /* tokens of the prompt that were used; n - 1 but for infgram */
} ft_prob;
/* P(ids[n-1] | ids[0..n-1)); n >= 1, else FT_ERR_ARG. */
FT_CHECKED ft_code ft_query_prob(ft_index_set set, const uint32_t *ids, size_t n, ft_prob *out, ft_status *st);
/* The same with the longest suffix of the prompt that occurs at all. */
FT_CHECKED ft_code ft_query_infgram_prob(ft_index_set set, const uint32_t *ids, size_t n, ft_prob *out, ft_status *st);

typedef struct ft_next_token {
    uint32_t id;
    uint64_t count;
} ft_next_token;
typedef struct ft_distribution {
    uint64_t prompt_count;
    size_t suffix_len;
    ft_next_token *next; /* by falling count, then id; end of a document as end-of-text */
    size_t count, capacity;
} ft_distribution;
void ft_distribution_release(ft_distribution *d);
/* Exact. infgram 1: the longest suffix of the prompt that occurs. Cost grows with
 * the number of distinct next tokens, not with the number of occurrences. */
FT_CHECKED ft_code ft_query_ntd(ft_index_set set, const uint32_t *ids, size_t n, int infgram, ft_distribution *out,
                                ft_status *st);

/* AND of ORs of n-grams. */
typedef struct ft_ngram {
    const uint32_t *ids;
    size_t n;
} ft_ngram;
typedef struct ft_clause {
    const ft_ngram *ngrams;
    size_t count;
} ft_clause;
typedef struct ft_place {
    uint32_t index;
    unsigned part;
    uint64_t pos;
} ft_place;
typedef struct ft_cnf_result {
    uint64_t count;
    int approx;       /* always 0 unless max_clause_freq asked for a bound that was reached */
    ft_place *places; /* first position of each match; may be NULL where count is 0 */
    size_t place_count, capacity;
} ft_cnf_result;
void ft_cnf_result_release(ft_cnf_result *r);
/* The anchor is the rarest clause (the first on a tie); its occurrences p count for
 * which each other clause has an occurrence q in the same document with
 * |p - q| <= max_diff_tokens. One clause: sum over its n-grams. */
FT_CHECKED ft_code ft_query_cnf(ft_index_set set, const ft_clause *clauses, size_t count, uint64_t max_diff_tokens,
                                uint64_t max_clause_freq, ft_cnf_result *out, ft_status *st);

FT_API_END
#endif
