/* ft_index: every place where a token sequence occurs in one owner's corpus.
 *
 * An index is a set of immutable parts (segments of ours, or shards of an
 * infini-gram folder). Each part is a token array, in which one end-of-document
 * token separates documents, and the suffix array over it: the suffixes that
 * begin with a pattern stand side by side, so a query is two binary searches.
 *
 * Units     positions, ranks and lengths count tokens, never bytes; `ptr` alone
 *           is what infini-gram calls so: a byte position in its tokenized.N.
 * Lifetime  an open index never changes until ft_index_close; it keeps showing
 *           the manifest that it was opened with, also when that is replaced and
 *           the files it names are unlinked. ft_index_is_current tells; who wants
 *           the new state opens the folder again.
 * Threads   any number may query one handle; queries allocate nothing, except
 *           where the result is a list.
 * Files     docs/index-format.md
 * Source    Manber and Myers, "Suffix arrays", SIAM J. Comput. 22(5), 1993; Liu et
 *           al., "Infini-gram", COLM 2024 (arXiv 2401.17377). */
#ifndef FT_INDEX_H
#define FT_INDEX_H
#include "base/ft_digest.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_index ft_index;

/* Opens an index folder of ours; milliseconds, whatever its size: checks the
 * manifest's checksum, every file's size, header and directory; data blocks are
 * checked by ft_index_verify. Where the manifest is replaced meanwhile, it is read
 * again: what is opened belongs to one manifest.
 * manifest's checksum, every file's size, header, the bounds and the upper levels of the
 * tree; data blocks are checked by ft_index_verify.
 *   FT_ERR_NOT_FOUND  no such folder, or no manifest in it
 *   FT_ERR_IO         also when the manifest was replaced during each of many attempts
 *   FT_ERR_FORMAT     damaged, or from a newer version; names file and place */
FT_CHECKED ft_code ft_index_open(ft_index **out, const char *folder, ft_status *st);

/* An infini-gram folder, which records neither version nor end-of-text id. The
 * token width comes from the files' sizes. */
typedef struct ft_infinigram_options {
    int version;          /* 4 or 5 (documents stored last token first) */
    uint32_t end_of_text; /* reported where a document ends; FT_NO_TOKEN: the separator's own value */
    uint32_t vocab_size;  /* 0: unknown */
} ft_infinigram_options;
FT_CHECKED ft_code ft_index_open_infinigram(ft_index **out, const char *folder, const ft_infinigram_options *options,
                                            ft_status *st);
/* Either kind: infini-gram's where tokenized.0 stands in the folder, ours otherwise. */
FT_CHECKED ft_code ft_index_open_any(ft_index **out, const char *folder, const ft_infinigram_options *options,
                                     ft_status *st);
/* 1 when the folder looks like infini-gram's (tokenized.0 stands in it). */
int ft_index_is_infinigram(const char *folder);
void ft_index_close(ft_index *ix);

/* 1 while the folder still holds the manifest that the index was opened with; 0 when it
 * was replaced or removed. Infini-gram folders have none: always 1. One call of stat. */
int ft_index_is_current(const ft_index *ix);
/* Names the manifest in a folder: another one, another number. 0: there is none. */
uint64_t ft_index_stamp(const char *folder);

/* Removed documents are not counted, and no question finds them; ranks and document
 * numbers are what they would be without them. */
typedef struct ft_index_info {
    uint64_t tokens; /* without end-of-document tokens */
    uint64_t documents;
    uint64_t removed_tokens, removed_documents; /* in the files until the index is compacted */
    uint64_t text_bytes, disk_bytes; /* of what was added, removed or not; disk: without the copy of the tokenizer */
    unsigned parts;
    uint32_t vocab_size, end_of_text;
    unsigned token_bytes; /* 1 to 4: what a ptr counts a token as; infini-gram's are stored so */
    const char *owner;    /* "" where none is recorded */
    const char *folder;
    const char *tokenizer;            /* path of the copy of tokenizer.json in the index; NULL for infini-gram */
    ft_digest tokenizer_digest, root; /* root: Merkle root that names this corpus state; zero for infini-gram */
    int is_infinigram, infinigram_version;
} ft_index_info;
ft_index_info ft_index_get_info(const ft_index *ix);

/* --- Ranges --------------------------------------------------------------- */

enum { FT_INDEX_MAX_PARTS = 64 };

/* Half-open range of ranks in one part's suffix array, removed documents left out. */
typedef struct ft_range {
    uint64_t lo, hi;
} ft_range;

/* One range for each part, in order. `count` is the sum of hi - lo. */
typedef struct ft_match {
    uint64_t count;
    ft_range part[FT_INDEX_MAX_PARTS];
} ft_match;

/* Suffixes that begin with pat[0..len). len 0 gives all (tokens + documents).
 * Absent: count 0, each range empty where the pattern would stand. Ids outside
 * the vocabulary, the end-of-document value included, never match. O(len log n). */
void ft_index_find(const ft_index *ix, const uint32_t *pat, size_t len, ft_match *out);

/* Longest prefix of pat[0..len) that occurs (length 0 to len), and its match. */
size_t ft_index_longest_prefix(const ft_index *ix, const uint32_t *pat, size_t len, ft_match *out);
/* Longest suffix of pat[0..len) that occurs, and its match; for "∞-grams". */
size_t ft_index_longest_suffix(const ft_index *ix, const uint32_t *pat, size_t len, ft_match *out);

/* longest[i] = length of the longest match that starts at ids[i], for all i; and
 * its range in matches[i] unless `matches` is NULL: then it is not looked for. All
 * positions are searched together, level by level, so that what they wait for, memory or
 * disk, is waited for once. Allocates nothing, but for some 600 bytes a position of
 * an index of ours during the call while pages come from the disk; without them it waits longer. */
void ft_index_match_all(const ft_index *ix, const uint32_t *ids, size_t count, size_t *longest, ft_match *matches);

/* Pieces ids[start..end) that will be looked for next, one by one: if pages have to come
 * from the disk for that, they are brought in together. Changes no answer. */
typedef struct ft_stretch {
    size_t start, end;
} ft_stretch;
void ft_index_expect(const ft_index *ix, const uint32_t *ids, const ft_stretch *stretches, size_t count);

/* Occurrences of one token; for the unigram model. O(1) for each segment of ours, a
 * binary search in infini-gram's. The total that goes with it is tokens + documents. */
uint64_t ft_index_unigram(const ft_index *ix, uint32_t id);

/* Copies n tokens from position pos of a part; the end-of-document token reads
 * as the part's own end value (FT_NO_TOKEN). What lies past the end too. */
void ft_index_tokens(const ft_index *ix, unsigned part, uint64_t pos, size_t n, uint32_t *out);
/* Position of the suffix at `rank` of a part; rank < the part's size. */
uint64_t ft_index_position(const ft_index *ix, unsigned part, uint64_t rank);

/* --- Documents ------------------------------------------------------------ */

typedef struct ft_doc_ref {
    uint64_t number; /* documents run through the parts one after another */
    unsigned part;
    uint64_t start, length; /* tokens in the part: [start, start + length) */
    const char *id;         /* views into the index; "" where none is recorded */
    size_t id_bytes;
    const char *metadata; /* one JSON object, "{}" where none */
    size_t metadata_bytes;
} ft_doc_ref;

/* FT_ERR_NOT_FOUND for a number >= documents; FT_ERR_FORMAT for a damaged file. */
FT_CHECKED ft_code ft_index_document(const ft_index *ix, uint64_t number, ft_doc_ref *out, ft_status *st);
/* The document that holds position `pos` of a part (not its end-of-document token). */
FT_CHECKED ft_code ft_index_document_at(const ft_index *ix, unsigned part, uint64_t pos, ft_doc_ref *out,
                                        ft_status *st);
/* By id, the first one that has it; FT_ERR_NOT_FOUND if absent. */
FT_CHECKED ft_code ft_index_document_by_id(const ft_index *ix, const char *id, ft_doc_ref *out, ft_status *st);
/* Calls `visit` for each document that has the id, in order; *found says how many. Its
 * failure ends the search. None is no failure. */
typedef ft_code ft_document_visit(void *context, const ft_doc_ref *doc, ft_status *st);
FT_CHECKED ft_code ft_index_documents_by_id(const ft_index *ix, const char *id, ft_document_visit *visit, void *context,
                                            uint64_t *found, ft_status *st);
/* Tokens [from, from + n) of a document in reading order (infini-gram version 5
 * stores them reversed), cut at its end; *copied says how many. */
void ft_index_document_tokens(const ft_index *ix, const ft_doc_ref *doc, uint64_t from, size_t n, uint32_t *out,
                              size_t *copied);

/* --- Whole-index checks --------------------------------------------------- */

/* Every checksum, the order of the suffix array, the Merkle root. FT_ERR_FORMAT
 * names the first fault. */
FT_CHECKED ft_code ft_index_verify(const ft_index *ix, ft_status *st);
/* The same, but for the order of the suffixes and the tree over them, which are checked at
 * `places` places of each part, drawn by `seed`: some neighbours each. Needs no memory
 * for each token, and no more time than reading all files once. */
FT_CHECKED ft_code ft_index_verify_sampled(const ft_index *ix, uint64_t places, uint64_t seed, ft_status *st);

FT_API_END
#endif
