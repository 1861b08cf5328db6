/* ft_stat_internal: what the files behind ft_index_stat share. One ft_stat_work is one
 * call; its steps run one after another, each by all threads. */
#ifndef FT_STAT_INTERNAL_H
#define FT_STAT_INTERNAL_H
#include "base/ft_arena.h"
#include "base/ft_threads.h"
#include "index/ft_index_stat.h"
#include "index/ft_part.h"

/* A set of shingles: hashes by open addressing, 0 for a free slot. */
typedef struct ft_stat_set {
    uint64_t *slots;
    size_t size, capacity; /* size: a power of two in use, at least twice `count` */
    size_t count;
    uint64_t document; /* whose set it is; UINT64_MAX: nobody's */
} ft_stat_set;

typedef struct ft_stat_scratch { /* one a thread */
    uint32_t *ids;
    size_t capacity;
    ft_stat_set set[2];
} ft_stat_scratch;

typedef struct ft_stat_work {
    const ft_index *ix;
    unsigned top, max_n;
    uint64_t memory_bytes;
    ft_pool *pool;
    const ft_progress *progress;
    ft_index_stat *out;
    ft_arena *arena;   /* of *out */
    uint64_t *lengths; /* [documents] tokens of each */
    uint32_t *leaders; /* [documents] the first document with the same tokens */
    ft_stat_scratch *scratch;
} ft_stat_work;

/* --- Documents by all threads ------------------------------------------------------- */

typedef ft_code ft_stat_document_fn(void *context, uint64_t item, unsigned worker, ft_status *st);

/* fn for each item < items, which is document numbers[item] (NULL: item itself); reports
 * the tokens gone through as `phase`. The failure of the first item that failed comes back. */
FT_CHECKED ft_code ft_stat_each(ft_stat_work *w, const char *phase, const uint32_t *numbers, uint64_t items,
                                ft_stat_document_fn *fn, void *context, ft_status *st);
/* The tokens of a document, in the worker's scratch until its next call. FT_ERR_FORMAT for
 * one that the vocabulary does not hold. */
FT_CHECKED ft_code ft_stat_tokens(ft_stat_work *w, uint64_t number, unsigned worker, const uint32_t **ids,
                                  ft_status *st);
FT_CHECKED ft_code ft_stat_report(const ft_stat_work *w, const char *phase, uint64_t done, uint64_t total,
                                  const char *unit, ft_status *st);

/* Puts `g` among the largest groups, of which `top` stay. */
void ft_stat_groups_offer(ft_stat_groups *list, size_t top, const ft_stat_group *g);

/* --- MinHash -------------------------------------------------------------------------- */

enum { FT_STAT_ROWS = FT_STAT_BANDS * FT_STAT_BAND_ROWS, FT_STAT_SCREEN = 78 /* rows that a candidate shares */ };

/* One byte a row out of ids[0..n), n >= FT_STAT_SHINGLE. */
void ft_stat_signature(const uint32_t *ids, size_t n, unsigned char signature[FT_STAT_ROWS]);
unsigned ft_stat_signature_agreement(const unsigned char *a, const unsigned char *b);
/* Jaccard similarity of two documents' shingles, exact but for equal 64-bit hashes. */
FT_CHECKED ft_code ft_stat_jaccard(ft_stat_work *w, uint64_t a, uint64_t b, unsigned worker, double *out,
                                   ft_status *st);

/* --- Steps, in this order --------------------------------------------------------------- */

FT_CHECKED ft_code ft_stat_find_identical(ft_stat_work *w, ft_status *st); /* fills w->leaders */
FT_CHECKED ft_code ft_stat_find_near(ft_stat_work *w, ft_status *st);
FT_CHECKED ft_code ft_stat_read_metadata(ft_stat_work *w, ft_status *st);
FT_CHECKED ft_code ft_stat_walk_ngrams(ft_stat_work *w, ft_status *st);

#endif
