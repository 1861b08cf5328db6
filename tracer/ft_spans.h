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
 * Cost     beside the matches of all positions: one count for each span that is kept, and for each that
 *          could occur more often than max_cnt.
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
    size_t *longest;  /* [n] longest match at each position, over all indexes */
    double *logprobs; /* [n] of each token under the unigram model, nats */
    size_t n;
    ft_span *spans;
    size_t count, capacity;
    /* The same for each index of the set, in its order. */
    size_t index_count;
    size_t *index_longest;  /* [index_count, n] */
    uint64_t *index_counts; /* [count, index_count] occurrences of each span */
} ft_spans;
void ft_spans_release(ft_spans *s);

FT_CHECKED ft_code ft_spans_find(ft_index_set set, const uint32_t *ids, size_t n, const ft_span_rules *rules,
                                 ft_spans *out, ft_status *st);

/* --- While the response is being written ------------------------------------------
 * A tracker is told the tokens as they come and knows the spans of all it was told:
 * exactly those that ft_spans_find gives for the same tokens. A new token changes
 * the matches that reached the end alone: of those it costs O(log m) questions to each
 * index, m being the longest of them; and it can add, lengthen or replace the last
 * spans, or push an earlier one below the density's limit.
 *
 * Lifetime  the set's indexes and the sets that the rules name must outlive it.
 * Threads   one owner. */
typedef struct ft_span_tracker ft_span_tracker;
FT_CHECKED ft_code ft_span_tracker_new(ft_span_tracker **out, ft_index_set set, const ft_span_rules *rules,
                                       ft_status *st);
void ft_span_tracker_free(ft_span_tracker *t);
/* `ids` are the next n tokens. After a failure nothing more can be asked of it. */
FT_CHECKED ft_code ft_span_tracker_append(ft_span_tracker *t, const uint32_t *ids, size_t n, ft_status *st);
size_t ft_span_tracker_length(const ft_span_tracker *t); /* tokens told so far */
/* 1 while the set is what it was made for, corpus state by corpus state; the indexes that it was made for may
 * be closed by then. 0: what it knows is of another state, and nothing but free may be asked of it. */
int ft_span_tracker_is_of(const ft_span_tracker *t, ft_index_set set);
/* *count spans in order of start; a view until the next call. */
const ft_span *ft_span_tracker_spans(const ft_span_tracker *t, size_t *count);

FT_API_END
#endif
