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
    ft_place *places; /* one a match, in rank order of the anchor; may be NULL where count is 0 */
    size_t place_count, capacity;
} ft_cnf_result;
void ft_cnf_result_release(ft_cnf_result *r);
/* The anchor is the rarest clause (the first on a tie); its occurrences p count for
 * which each other clause has an occurrence q in the same document with
 * |p - q| <= max_diff_tokens. One clause: sum over its n-grams. A match's place is the
 * first of p and of what stands last before it (or at it) of each other clause; where
 * documents are stored reversed, the token that is read first. max_clause_freq is not
 * needed: all counts are exact. FT_ERR_ARG: no clause, or an n-gram without a token. */
FT_CHECKED ft_code ft_query_cnf(ft_index_set set, const ft_clause *clauses, size_t count, uint64_t max_diff_tokens,
                                uint64_t max_clause_freq, ft_cnf_result *out, ft_status *st);
/* The same with at most `place_limit` places; a single clause is then counted without
 * looking at its occurrences. */
FT_CHECKED ft_code ft_query_cnf_places(ft_index_set set, const ft_clause *clauses, size_t count,
                                       uint64_t max_diff_tokens, size_t place_limit, ft_cnf_result *out, ft_status *st);

/* --- Several indexes as one --------------------------------------------------------
 * Parts ("shards") and documents are numbered through the set, one index after another. */

size_t ft_query_shards(ft_index_set set);
/* FT_ERR_ARG when there is no such shard. */
FT_CHECKED ft_code ft_query_shard(ft_index_set set, uint64_t shard, uint32_t *index, unsigned *part, ft_status *st);
/* Place of rank `rank` of a shard, FT_ERR_ARG beyond its last one. */
FT_CHECKED ft_code ft_query_rank(ft_index_set set, uint64_t shard, uint64_t rank, ft_place *out, ft_status *st);
/* Infini-gram's byte pointers: a position times the bytes of a stored token. FT_ERR_ARG
 * for one that is beyond the end or inside a token. */
FT_CHECKED ft_code ft_query_pointer(ft_index_set set, uint64_t shard, uint64_t ptr, ft_place *out, ft_status *st);
uint64_t ft_place_pointer(ft_index_set set, const ft_place *place);
size_t ft_place_shard(ft_index_set set, const ft_place *place);
/* Occurrences [from, from + limit), in rank order, shard after shard; *found receives
 * how many were stored. Returns the count of all. */
uint64_t ft_query_occurrences_from(ft_index_set set, const uint32_t *ids, size_t n, uint64_t from, size_t limit,
                                   ft_place *out, size_t *found);
/* The first `limit`. */
uint64_t ft_query_occurrences(ft_index_set set, const uint32_t *ids, size_t n, size_t limit, ft_place *out,
                              size_t *found);

/* A stretch of a document around a match, in reading order. */
typedef struct ft_window {
    uint32_t index;
    ft_doc_ref doc;            /* its `number` counts through the set */
    uint64_t needle;           /* offset of the match in the document */
    uint64_t from, length;     /* what is shown of the document */
    uint64_t needle_in_window; /* needle - from */
} ft_window;
/* `needle_tokens`: length of the match (it matters for its place in documents stored
 * reversed). max_disp_len m shows [o - m/2, o + (m + 1)/2) around offset o, cut at the
 * document's ends. FT_ERR_NOT_FOUND for a place between two documents. */
FT_CHECKED ft_code ft_query_window(ft_index_set set, const ft_place *place, uint64_t needle_tokens,
                                   uint64_t max_disp_len, ft_window *out, ft_status *st);
/* Shows `context` tokens before the match and after it. */
FT_CHECKED ft_code ft_query_context(ft_index_set set, const ft_place *place, uint64_t needle_tokens, uint64_t context,
                                    ft_window *out, ft_status *st);
/* The first max_disp_len tokens of a document. FT_ERR_NOT_FOUND: no such number. */
FT_CHECKED ft_code ft_query_document(ft_index_set set, uint64_t number, uint64_t max_disp_len, ft_window *out,
                                     ft_status *st);

FT_API_END
#endif
