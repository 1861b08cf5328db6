/* ft_spans: the maximal spans of a response that stand in some corpus, by
 * OLMoTrace's rules.
 *
 * For each start l, in order: r is the furthest end such that ids[l:r) occurs in
 * one of the indexes; a delimiter may close a span or be one, not stand inside;
 * with enforce_bow the span starts at a word start and r moves back until it is
 * the end or the next token starts a word; dropped when shorter than min_len, more
 * frequent than max_cnt, or inside a span already kept. Of those the
 * ceil(density * n) best by rank are kept (0: all), earlier first on a tie,
 * returned in order of start.
 *
 * Threads  any number on the same indexes.
 * Source   Liu et al., "OLMoTrace", 2025 (arXiv 2504.07096); allenai/infinigram-api. */
#ifndef FT_SPANS_H
#define FT_SPANS_H
#include "index/ft_query.h"
#include "text/ft_token_classes.h"

FT_API_BEGIN

typedef enum ft_span_rank { FT_RANK_UNIGRAM, FT_RANK_LENGTH } ft_span_rank;

typedef struct ft_span_rules {
    const ft_token_set *delimiters;  /* NULL: none */
    const ft_token_set *word_starts; /* NULL: partial words allowed */
    size_t min_len;                  /* 1 */
    uint64_t max_cnt;                /* 1,000,000 */
    double density;                  /* 0.05; 0: all */
    ft_span_rank rank;
} ft_span_rules;
/* OLMoTrace's defaults, without the two sets. */
ft_span_rules ft_span_rules_default(void);

typedef struct ft_span {
    size_t start, end;          /* tokens of the response, end exclusive */
    uint64_t count;             /* occurrences over all indexes */
    double unigram_logprob_sum; /* nats */
} ft_span;

typedef struct ft_spans {
    size_t *longest; /* [n] longest match at each position, over all indexes */
    size_t n;
    ft_span *spans;
    size_t count, capacity;
} ft_spans;
void ft_spans_release(ft_spans *s);

FT_CHECKED ft_code ft_spans_find(ft_index_set set, const uint32_t *ids, size_t n, const ft_span_rules *rules,
                                 ft_spans *out, ft_status *st);

FT_API_END
#endif
