/* ft_part: one searchable piece of an index, a segment of ours or a shard of an
 * infini-gram folder, seen the same way: tokens, the suffix array over them, and
 * documents. Internal to index/. What is asked of a whole part is answered through its
 * tree and leaves (ft_part_segment.c) or, in infini-gram's, by halving (ft_part_table.c).
 *
 * Both kinds order suffixes by a number made of each token, its key: ours by id,
 * with the end of a document first; infini-gram by the token's bytes in memory
 * order (so by the id with its bytes reversed), separators last. Key 0 stands for
 * "no token here": behind the array's end, or a damaged pointer. */
#ifndef FT_PART_H
#define FT_PART_H
#include "index/ft_fetch.h"
#include "index/ft_index.h"
#include "index/ft_leaf.h"
#include "index/ft_section.h"
#include "index/ft_tree.h"

/* Rising numbers of `bits` each. A damaged list gives wrong answers within its bounds. */
typedef struct ft_numbers {
    const unsigned char *packed;
    unsigned bits;
    uint64_t count;
} ft_numbers;

typedef struct ft_part {
    uint64_t n; /* tokens + documents */
    uint64_t documents;
    uint64_t first_document; /* number of this part's first live document in the index */
    uint32_t end;            /* the value that separates documents */
    unsigned token_bytes;    /* what a pointer of infini-gram's kind counts a token as */
    int bytewise;            /* infini-gram: ordered by bytes; pointers are byte positions; separators come first */
    int reversed;            /* infini-gram 5: documents stand last token first */
    char *folder;            /* of the segment, or of the infini-gram index */

    /* Ours. */
    ft_section section[FT_SECTION_KINDS];
    ft_codes text;
    ft_leaf_shape shape;
    ft_tree tree;
    const unsigned char *bounds; /* [vocab_size + 1] packed ranks: where the suffixes of each first token begin */
    uint32_t vocab_size;
    const ft_document_record *records; /* [documents + 1] */
    ft_numbers removed_documents, removed_ranks;
    ft_residence residence;

    /* Both: a segment's leaves, or infini-gram's table. */
    const unsigned char *suffixes;

    /* Infini-gram's. */
    const unsigned char *tokens; /* n of token_bytes each */
    unsigned pointer_bytes, shard;
    ft_map token_map, suffix_map, offset_map, metadata_map, metaoff_map;
} ft_part;

/* Opens segment folder `folder`; all that is cheap is checked. `removed`: the generation
 * of its removed-* files, 0 for none. */
FT_CHECKED ft_code ft_part_open_segment(ft_part *out, const char *folder, uint32_t vocab_size, uint64_t removed,
                                        ft_status *st);
FT_CHECKED ft_code ft_part_open_shard(ft_part *out, const char *folder, unsigned shard,
                                      const ft_infinigram_options *options, ft_status *st);
void ft_part_close(ft_part *p);

/* --- Reading ------------------------------------------------------------------ */

static inline uint32_t ft_part_token(const ft_part *p, uint64_t pos) /* pos < n */
{
    if (!p->bytewise)
        return (uint32_t)ft_packed_get(p->text.packed, p->text.bits, pos) - 1; /* the end is code 0 */
    const unsigned char *at = p->tokens + pos * p->token_bytes;
    if (p->token_bytes == 1)
        return *at;
    if (p->token_bytes == 2) {
        uint16_t v;
        memcpy(&v, at, sizeof(v));
        return v;
    }
    uint32_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

/* Position of the suffix at `rank` < n. A damaged pointer gives n: an empty suffix,
 * so bad data gives a wrong rank, never a wild read. */
static inline uint64_t ft_part_position(const ft_part *p, uint64_t rank)
{
    uint64_t pos;
    if (!p->bytewise) {
        pos = ft_leaf_position(p->suffixes, &p->shape, rank);
    } else {
        const unsigned bytes = p->pointer_bytes;
        uint64_t at = 0;
        for (unsigned i = 0; i < bytes; i++)
            at |= (uint64_t)p->suffixes[rank * bytes + i] << 8 * i;
        pos = at % p->token_bytes ? p->n : at / p->token_bytes;
    }
    return pos < p->n ? pos : p->n;
}

static inline uint64_t ft_part_token_key(const ft_part *p, uint32_t token)
{
    if (!p->bytewise)
        return token == p->end ? 1 : (uint64_t)token + 2;
    if (p->token_bytes == 1)
        return (uint64_t)token + 1;
    return (p->token_bytes == 2 ? (uint64_t)__builtin_bswap16((uint16_t)token) : __builtin_bswap32(token)) + 1;
}

static inline uint64_t ft_part_key(const ft_part *p, uint64_t pos)
{
    return pos < p->n ? ft_part_token_key(p, ft_part_token(p, pos)) : 0;
}

/* Key of a queried id; UINT64_MAX, which no suffix has, for those that never match:
 * the end-of-document value, and what is outside the vocabulary or does not fit the width. */
static inline uint64_t ft_part_query_key(const ft_part *p, uint32_t id)
{
    const int fits = !p->bytewise ? id < p->vocab_size : p->token_bytes >= 4 || id >> 8 * p->token_bytes == 0;
    return fits && id != p->end ? ft_part_token_key(p, id) : UINT64_MAX;
}

/* --- What is removed ---------------------------------------------------------------
 * A part's files keep removed documents until it is compacted. Everything in this header
 * speaks of physical ranks, positions and documents, those of the files, unless it says
 * live; what ft_index.h and ft_query.h speak of is live: as if the removed documents had
 * never been there. Where nothing is removed, both are the same and cost one branch. */

uint64_t ft_numbers_below(const ft_numbers *v, uint64_t number); /* how many are below it */
/* The number that stands at place `live` of all numbers that are not in the list. */
uint64_t ft_numbers_select(const ft_numbers *v, uint64_t live);

static inline uint64_t ft_part_live_rank(const ft_part *p, uint64_t rank) /* live ranks before `rank` <= n */
{
    return p->removed_ranks.count ? rank - ft_numbers_below(&p->removed_ranks, rank) : rank;
}
static inline ft_range ft_part_live_range(const ft_part *p, ft_range r)
{
    const uint64_t lo = ft_part_live_rank(p, r.lo), hi = ft_part_live_rank(p, r.hi);
    return (ft_range){lo, hi < lo ? lo : hi};
}
/* Live suffixes of a physical range. */
static inline uint64_t ft_part_live(const ft_part *p, ft_range r)
{
    const ft_range live = p->removed_ranks.count ? ft_part_live_range(p, r) : r;
    return live.hi - live.lo;
}
static inline uint64_t ft_part_live_size(const ft_part *p) /* live tokens + documents */
{
    return p->n - p->removed_ranks.count;
}
static inline uint64_t ft_part_live_documents(const ft_part *p)
{
    return p->documents - p->removed_documents.count;
}
/* Physical rank of a live one below ft_part_live_size, and its position. */
static inline uint64_t ft_part_physical_rank(const ft_part *p, uint64_t live)
{
    return p->removed_ranks.count ? ft_numbers_select(&p->removed_ranks, live) : live;
}
static inline uint64_t ft_part_live_position(const ft_part *p, uint64_t live)
{
    return ft_part_position(p, ft_part_physical_rank(p, live));
}
static inline uint64_t ft_part_physical_document(const ft_part *p, uint64_t live)
{
    return p->removed_documents.count ? ft_numbers_select(&p->removed_documents, live) : live;
}
int ft_part_document_is_removed(const ft_part *p, uint64_t i);

/* --- Searching ------------------------------------------------------------------ */

/* Of suffixes that agree before `depth`, those with this key there; else the empty
 * range where it would stand. O(log size). */
ft_range ft_part_narrow(const ft_part *p, ft_range r, uint64_t depth, uint64_t key);
/* First rank of (r.lo, r.hi) whose key at `depth` differs from that of r.lo. Cost
 * grows with the logarithm of the distance. */
uint64_t ft_part_next_key(const ft_part *p, ft_range r, uint64_t depth, uint64_t key);

/* Suffixes of a range that go on with the same token. */
typedef ft_code ft_run_fn(void *context, uint32_t token, ft_range run, ft_status *st);
/* Calls `fn` for each run of r, whose suffixes share `depth` tokens, in order: what
 * follows them, p->end where a document ends. Ours only. Reads the text once a run or so. */
FT_CHECKED ft_code ft_segment_runs(const ft_part *p, ft_range r, size_t depth, ft_run_fn *fn, void *context,
                                   ft_status *st);

/* All ranks, and those whose suffixes begin with `id`. */
static inline ft_range ft_part_all(const ft_part *p)
{
    return (ft_range){0, p->n};
}
ft_range ft_part_first_token(const ft_part *p, uint32_t id);

/* All that begin with the pattern, live and removed; the empty range where it would stand. */
ft_range ft_part_find(const ft_part *p, const uint32_t *pat, size_t len);
/* Longest prefix that a live suffix begins with, and the range of all that do. */
size_t ft_part_longest_prefix(const ft_part *p, const uint32_t *pat, size_t len, ft_range *out);
/* As longest_prefix, where the first `known` tokens are known to occur. */
size_t ft_part_extend(const ft_part *p, const uint32_t *pat, size_t known, size_t len, ft_range *out);
/* Longest suffix of pat[0..len) that occurs in a live document. */
size_t ft_part_longest_suffix(const ft_part *p, const uint32_t *pat, size_t len, ft_range *out);

/* Called with the longest match at each position, in order, and its range: all ranks where
 * the longest has no token. */
typedef void ft_longest_fn(void *context, size_t at, size_t longest, ft_range range);

/* For infini-gram's shards. O(len + log n) halvings each. */
ft_range ft_table_find(const ft_part *p, const uint32_t *pat, size_t len);
/* Longest run from the search's beginning: the pattern's begin, or in reversed parts its end. */
size_t ft_table_longest(const ft_part *p, const uint32_t *pat, size_t len, ft_range *out);
/* The longest match from each position on, all searched in step. Without `ranges`, ranges
 * mean nothing, and positions inside of one another's match cost nothing. */
void ft_table_match_all(const ft_part *p, const uint32_t *ids, size_t count, int ranges, ft_longest_fn *fn,
                        void *context);
/* ft_table_find of each stretch, in step. */
void ft_table_find_each(const ft_part *p, const uint32_t *ids, const ft_stretch *stretches, size_t count,
                        ft_range *out);

/* For segments of ours, removed documents or not. */
ft_range ft_segment_find(const ft_part *p, const uint32_t *pat, size_t len);
size_t ft_segment_longest(const ft_part *p, const uint32_t *pat, size_t known, size_t len, ft_range *out);
/* Searches all positions together. Without `ranges`, ranges mean nothing. */
void ft_segment_match_all(const ft_part *p, const uint32_t *ids, size_t count, int ranges, ft_longest_fn *fn,
                          void *context);
/* Brings in what ft_segment_find will read for each of them. */
void ft_segment_expect(const ft_part *p, const uint32_t *ids, const ft_stretch *stretches, size_t count);
/* `longest`, or less, where only removed documents hold the match; *r is its range. */
size_t ft_part_only_live(const ft_part *p, const uint32_t *pat, size_t len, size_t longest, ft_range *r);

/* --- Documents -------------------------------------------------------------------- */

/* Documents are numbered as in the files, except in ft_doc_ref.
 * Tokens of document i < documents: [*start, *start + *length). FT_ERR_FORMAT for a
 * damaged table. */
FT_CHECKED ft_code ft_part_document_range(const ft_part *p, uint64_t i, uint64_t *start, uint64_t *length,
                                          ft_status *st);
/* Number of the document that holds pos < n (its separator included). */
FT_CHECKED ft_code ft_part_document_at(const ft_part *p, uint64_t pos, uint64_t *i, ft_status *st);
FT_CHECKED ft_code ft_part_document(const ft_part *p, uint64_t i, ft_doc_ref *out, ft_status *st);

/* --- The handle --------------------------------------------------------------------- */

struct ft_index {
    ft_part *parts;
    unsigned part_count;
    ft_index_info info;
    char *folder, *owner, *tokenizer;
    struct ft_manifest *manifest; /* NULL for infini-gram */
    uint64_t stamp;               /* ft_manifest_stamp of the file that was read */
};
#endif
