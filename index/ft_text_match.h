/* ft_text_match: every place at which a text stands in the documents, whatever tokens
 * it was cut into: "the sea" is found in " the sea", in "bathe seals" and across any
 * tokens that spell it.
 *
 * The text searched is what a document's tokens decode to, their bytes joined; special
 * tokens are text as they are spelled, and ids that the tokenizer does not know are
 * none. An occurrence is a byte position at which all bytes of the query stand; those
 * that overlap count each ("aa" stands three times in "aaaa"), and none reaches from
 * one document into another. So the count is that of `grep -ob`, had it overlapping
 * matches and documents for lines. The query need not be UTF-8.
 *
 * Ignoring case, each whole character of the query matches its forms by Unicode's
 * simple case folding (text/ft_case.h), as `grep -i` does in a UTF-8 locale: "k" finds
 * the Kelvin sign, "s" the long s. (GNU grep lets "i" find a dotless ı too; the
 * standard, and we, do not.) Bytes that form no whole character match as they are.
 *
 * The corpus is not scanned: all tokens that can begin the query are found in the
 * vocabulary, and their ranges of the suffix array narrowed by all tokens that can
 * follow (index/text_walk.c says how). A query of a word or more costs some thousand
 * reads of the suffix array, whatever the size of the corpus; one of one or two letters,
 * in which half of the vocabulary takes part, up to a few for each distinct pair of tokens.
 *
 * In infini-gram folders whose tokens are single bytes a token is its byte, whatever
 * the tokenizer; in the wider ones an id beyond the tokenizer's vocabulary ends a match.
 *
 * Threads  any number may query with one matcher. */
#ifndef FT_TEXT_MATCH_H
#define FT_TEXT_MATCH_H
#include "index/ft_query.h"

FT_API_BEGIN

struct ft_tokenizer;

/* The tokens' texts, made ready once; about 20 bytes a token beside them. */
typedef struct ft_text_matcher ft_text_matcher;

/* For these indexes and others that hold the same kinds of parts. The tokenizer, which
 * must outlive the matcher, may be NULL when a token is a byte in all of them: else
 * FT_ERR_ARG. */
FT_CHECKED ft_code ft_text_matcher_new(ft_text_matcher **out, ft_index_set set, const struct ft_tokenizer *tokenizer,
                                       ft_status *st);
void ft_text_matcher_free(ft_text_matcher *m);

enum { FT_TEXT_QUERY_MAX = 1 << 20 };

typedef struct ft_text_query {
    const char *text; /* any bytes */
    size_t bytes;     /* 1 to FT_TEXT_QUERY_MAX */
    int ignore_case;
    uint64_t from; /* of the occurrences, in their order, [from, from + limit) are listed */
    size_t limit;
} ft_text_query;

typedef struct ft_text_occurrence {
    ft_place place;      /* of its tokens, for ft_query_window and ft_query_context */
    uint64_t document;   /* number through the set */
    uint64_t byte;       /* where it begins in the document's text */
    uint64_t token;      /* the document's token that holds that byte */
    uint64_t tokens;     /* from that one to the one that holds its last byte */
    uint64_t token_byte; /* where token `token` begins in the document's text */
    uint32_t bytes;      /* its length: the query's, but for case */
} ft_text_occurrence;

typedef struct ft_text_matches {
    uint64_t count;                  /* of all, exact */
    ft_text_occurrence *occurrences; /* [listed] */
    size_t listed;
} ft_text_matches;
void ft_text_matches_release(ft_text_matches *m);

/* Counts all occurrences and lists a page of them. The order is fixed as long as the
 * indexes do not change, and follows the suffix array, not the documents.
 *   FT_ERR_ARG     an empty query, or a set with parts of a kind that the matcher was not made for
 *   FT_ERR_LIMIT   a query that is too long
 *   FT_ERR_FORMAT  a damaged index */
FT_CHECKED ft_code ft_text_match(const ft_text_matcher *m, ft_index_set set, const ft_text_query *query,
                                 ft_text_matches *out, ft_status *st);

FT_API_END
#endif
