/* infinigram_internal: POST / in infini-gram's own dialect: the query, read once, and
 * the answers' files (face_infinigram.c: counts and distributions;
 * face_infinigram_documents.c: find and documents; face_infinigram_text.c: by text). */
#ifndef FT_INFINIGRAM_INTERNAL_H
#define FT_INFINIGRAM_INTERNAL_H
#include "api/routes_internal.h"

enum { FT_MAX_CLAUSES = 64 };

/* One n-gram, or an AND of ORs of them. */
typedef struct ft_gram_query {
    ft_request *q;
    const ft_index_set *set;
    uint32_t *ids; /* all n-grams, one after another */
    size_t count, capacity;
    ft_ngram *ngrams;
    size_t ngram_count, ngram_capacity;
    size_t *clause_sizes; /* n-grams in each clause */
    size_t clause_count;
    int is_cnf;
    int64_t max_clause_freq, max_diff_tokens, max_support, s, rank, ptr, max_disp_len, maxnum, offset, limit;
    json_t *answer;
    double began;
} ft_gram_query;

/* Clauses over the query's n-grams; the caller frees. NULL when memory is out. */
ft_clause *ft_gram_clauses(const ft_gram_query *g);
/* A value out of range: 200 with "error", as the original answers. */
FT_CHECKED ft_code ft_gram_soft_error(ft_gram_query *g, const char *message);

/* One document around an occurrence, as search_docs shows it: the caller owns *out. */
FT_CHECKED ft_code ft_gram_document_json(const ft_gram_query *g, const ft_occurrence *o, json_t **out, ft_status *st);
/* search_docs' answer; takes references of its own to the lists. */
FT_CHECKED ft_code ft_gram_search_answer(ft_gram_query *g, uint64_t total, int approx, json_t *idxs, json_t *documents,
                                         ft_status *st);

/* Whether the request has "match":"text". */
FT_CHECKED ft_code ft_gram_read_match(const ft_request *q, int *by_text, ft_status *st);

typedef ft_code ft_gram_answer(ft_gram_query *g, ft_status *st);
ft_gram_answer ft_gram_find, ft_gram_find_cnf, ft_gram_document_by_rank, ft_gram_document_by_ptr, ft_gram_search;
ft_gram_answer ft_gram_text_count, ft_gram_text_find, ft_gram_text_search;

#endif
