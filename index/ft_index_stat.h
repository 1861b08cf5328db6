/* ft_index_stat: what is in a corpus, before anybody searches it: how long its
 * documents are, which stand in it more than once, whole or nearly, where they
 * come from and under which licence, and its commonest n-grams.
 *
 * Exact       everything but the search for near-duplicates, which may miss some; what
 *             it reports has been checked.
 * Identical   documents with the same tokens: found by 128 bits of XXH3, then
 *             compared token by token. All empty documents are one group.
 * Near        two distinct texts are near-duplicates when the sets of their 5-token
 *             shingles have a Jaccard similarity |A∩B| / |A∪B| of at least 0.8; a
 *             cluster is what such pairs connect. Texts of fewer than 5 tokens have
 *             no shingle and take no part. Candidates come from MinHash: 120 minima
 *             of random linear functions of the shingles' hashes, of which 8 bits
 *             each are kept, in 24 bands of 5. A pair that agrees in a whole band and
 *             in 78 of the 120 rows is compared shingle by shingle (by 64-bit hashes).
 *             With rows that behave as independent, a pair of similarity 0.8 is missed
 *             with probability 1.1e-4, of 0.85 with 7.4e-7, of 0.9 with 5e-10; one that
 *             other pairs connect anyway is not missed in the cluster. Texts that
 *             are much alike, but not enough, cost comparisons in vain: 256 for each text
 *             at most; `unchecked_pairs` counts the candidates left out then.
 * N-grams     by a walk through the suffix array that turns back where no n-gram can
 *             be among the commonest any more. None reaches across a document's end.
 *             Equal counts: what the index orders first comes first (in ours, smaller ids).
 * Memory      FT_STAT_DOCUMENT_BYTES for each document, within memory_bytes; and, besides,
 *             for each thread some 70 bytes for each token of the longest document. The
 *             distinct sources, and likewise licences, take an eighth of memory_bytes at
 *             most; beyond, new ones count under "other" and `complete` is 0.
 * Threads     the pool works inside the call; the result does not depend on it.
 * Source      Broder, "On the resemblance and containment of documents", 1997; Li and
 *             König, "b-bit minwise hashing", WWW 2010; docs/index-stat.md. */
#ifndef FT_INDEX_STAT_H
#define FT_INDEX_STAT_H
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "index/ft_index.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

struct ft_pool;

enum {
    FT_STAT_MAX_N = 16,
    FT_STAT_MAX_TOP = 1000,
    FT_STAT_HISTOGRAM = 65,
    FT_STAT_EXAMPLES = 8, /* documents that a group shows */
    FT_STAT_DOCUMENT_BYTES = 192,
    FT_STAT_SHINGLE = 5, /* tokens */
    FT_STAT_BANDS = 24,
    FT_STAT_BAND_ROWS = 5
};
#define FT_STAT_SIMILARITY 0.8

typedef struct ft_index_stat_options {
    unsigned top;          /* n-grams, groups, sources shown; 0: 20; at most FT_STAT_MAX_TOP */
    unsigned max_n;        /* longest n-gram; 0: 5; at most FT_STAT_MAX_N */
    uint64_t memory_bytes; /* 0: 2 GiB */
    struct ft_pool *pool;  /* NULL: one thread */
    const ft_progress *progress;
} ft_index_stat_options;

/* Lengths of documents in tokens. A percentile is the length of the document at
 * place ceil(p N) of N (nearest rank), so always one that occurs. */
typedef struct ft_stat_lengths {
    uint64_t min, median, p90, p99, max;
    double mean;
    /* [0] the empty ones, [k] those of 2^(k-1) to 2^k - 1 tokens. */
    uint64_t documents[FT_STAT_HISTOGRAM], tokens[FT_STAT_HISTOGRAM];
} ft_stat_lengths;

typedef struct ft_stat_group {
    uint64_t documents, tokens; /* of all members */
    size_t shown;
    uint64_t number[FT_STAT_EXAMPLES];   /* documents, ascending; near-duplicates: of each text the first */
    double similarity[FT_STAT_EXAMPLES]; /* to number[0]; below 0.8 where a third text connects the two */
} ft_stat_group;

typedef struct ft_stat_groups {
    uint64_t groups;
    uint64_t texts;                             /* distinct texts in them; identical: one each */
    uint64_t documents, tokens;                 /* of all members, copies included */
    uint64_t surplus_documents, surplus_tokens; /* what goes when one (the first) of each group stays */
    uint64_t compared_pairs, unchecked_pairs;   /* near-duplicates: candidates compared, and left out */
    ft_stat_group *largest;                     /* [shown] most documents first, then the smallest number */
    size_t shown;
} ft_stat_groups;

typedef struct ft_stat_value {
    const char *text; /* UTF-8, at most FT_STAT_VALUE_BYTES, cut at a character */
    uint64_t documents, tokens;
} ft_stat_value;
enum { FT_STAT_VALUE_BYTES = 255 };

/* A document's source is the first of `source`, `domain` and the host of `url` that
 * its metadata holds; its licence the first of `license`, `licence`, `rights`: names in
 * any case, as a string that is not empty or a list of strings; an object `metadata`
 * inside is looked through after what stands beside it. */
typedef struct ft_stat_values {
    ft_stat_value *top; /* [shown] most documents first, then by bytes */
    size_t shown;
    uint64_t distinct;
    ft_stat_value other, none; /* the values not shown, summed; the documents without any (text NULL) */
    int complete;              /* 0: memory was out for more distinct values */
} ft_stat_values;

typedef struct ft_stat_ngram {
    uint64_t count;
    uint32_t ids[FT_STAT_MAX_N]; /* the first n, in reading order */
} ft_stat_ngram;

typedef struct ft_stat_ngrams {
    uint64_t total;     /* places where an n-gram begins: the sum of all counts */
    ft_stat_ngram *top; /* [shown] */
    size_t shown;
} ft_stat_ngrams;

typedef struct ft_index_stat {
    uint64_t documents, tokens;
    ft_stat_lengths lengths;
    ft_stat_groups identical, near;
    ft_stat_values sources, licences;
    uint64_t unreadable_metadata; /* documents whose metadata are not a JSON object */
    uint64_t distinct_tokens;
    unsigned max_n;
    ft_stat_ngrams ngrams[FT_STAT_MAX_N]; /* [n - 1] */
} ft_index_stat;

/* Some 0.06 s a million tokens, divided by the threads, most of it the search for
 * near-duplicates; where it compares in vain as often as it may, 4 ms a text more. ft_index_stat_free releases *out.
 *   FT_ERR_ARG        top or max_n beyond its ceiling
 *   FT_ERR_LIMIT      memory_bytes is too small for so many documents; says how much is needed
 *   FT_ERR_FORMAT     the index is damaged; ft_index_verify finds all that is
 *   FT_ERR_CANCELLED  by progress */
FT_CHECKED ft_code ft_index_stat_make(ft_index_stat **out, const ft_index *ix, const ft_index_stat_options *options,
                                      ft_status *st);
void ft_index_stat_free(ft_index_stat *s); /* NULL is allowed */

FT_API_END
#endif
