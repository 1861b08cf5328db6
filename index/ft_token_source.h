/* ft_token_source: documents that are tokens already, one after another, in a fixed
 * order: out of .npy arrays, or out of an infini-gram folder.
 *
 * Every id that comes out is below the vocabulary's size. A token that is not is
 * FT_ERR_FORMAT: "FILE: element N: …" (bytes in infini-gram's files), with the remedy.
 * End-of-text ids within documents are tokens like any other.
 *
 * Units     counts and positions are tokens, unless a message says bytes.
 * Memory    files are mapped and never copied: a document is a view into them, where ids
 *           have 32 bits and stand in reading order; else one document is converted at a
 *           time. What was read is unmapped behind the reader (some 32 MiB stay), so that
 *           the resident size does not grow with the input.
 * Lifetime  a document's views live until the next call on the source.
 * Threads   one owner.
 * Files     must not change while they are read. */
#ifndef FT_TOKEN_SOURCE_H
#define FT_TOKEN_SOURCE_H
#include "base/ft_progress.h"
#include "base/ft_status.h"
#include "index/ft_index.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

typedef struct ft_token_source ft_token_source;

/* TOKENS.npy: one dimension of int32 or uint32 (no copy), or of uint8, uint16, int64 or
 * uint64. OFFSETS.npy: one dimension of uint64, int64, uint32 or int32: where each
 * document starts in TOKENS, and the end; n + 1 values, the first 0, none below the one
 * before, the last the number of tokens. All offsets are checked here, tokens as they are
 * read.
 * documents_jsonl (NULL: none) describes the documents, one JSON object a line for each:
 * its "id", a string or an integer, is the id, "text" is left out, so that the corpus that
 * was tokenized may stand here; all else is metadata. Otherwise documents have their
 * number as id, "{}" as metadata.
 * vocab_size 0: unknown; any id below 2^31 is let through.
 *   FT_ERR_NOT_FOUND, FT_ERR_IO  a file that does not exist or cannot be read
 *   FT_ERR_FORMAT                not such an array; offsets that contradict themselves or
 *                                the tokens: "FILE: element N: …"; another number of lines */
FT_CHECKED ft_code ft_token_source_open_arrays(ft_token_source **out, const char *tokens_npy, const char *offsets_npy,
                                               const char *documents_jsonl, uint32_t vocab_size, ft_status *st);

/* An infini-gram folder, of which options->vocab_size may be 0 as above. Documents come in
 * the order of the builder's input: with S shards document i is in shard i mod S (where the
 * shards' sizes are not what that gives, a shard that has ended is passed over), tokens in
 * reading order. With metadata lines {"path","linenum","metadata"}, the inner object is the
 * document's metadata; its "id", a string or an integer, becomes the id and leaves the
 * metadata, as in a corpus of JSON lines; without one the id is "PATH:LINENUM". Without
 * lines, the id is the document's number.
 *   errors as of ft_index_open_infinigram */
FT_CHECKED ft_code ft_token_source_open_infinigram(ft_token_source **out, const char *folder,
                                                   const ft_infinigram_options *options, ft_status *st);
void ft_token_source_close(ft_token_source *s); /* NULL is allowed */

typedef struct ft_token_document {
    uint64_t number; /* in the order of the source, from 0 */
    const uint32_t *tokens;
    size_t count;
    const char *id;       /* NUL-terminated */
    const char *metadata; /* one JSON object, NUL-terminated */
    size_t metadata_bytes;
} ft_token_document;

/* 1 with *out set, 0 at the end, in *more. After a failure a further call goes on with
 * the next document.
 *   FT_ERR_FORMAT  an id outside the vocabulary; a damaged file; metadata that is no JSON
 *   FT_ERR_MEM     no room to convert the document */
FT_CHECKED ft_code ft_token_source_next(ft_token_source *s, ft_token_document *out, int *more, ft_status *st);

/* Passes over n documents (at most to the end) without reading them. O(1). */
void ft_token_source_skip(ft_token_source *s, uint64_t n);

/* Checks every token of the source, from its first document on, at the speed of memory;
 * leaves the place of ft_token_source_next as it was. Afterwards info.max_id is the
 * largest of all. For a vocabulary of unknown size, or to refuse bad input before hours
 * of work. `progress` may be NULL; phase "check", unit "tokens".
 *   FT_ERR_CANCELLED and what ft_token_source_next can return, but for metadata */
FT_CHECKED ft_code ft_token_source_check(ft_token_source *s, const ft_progress *progress, ft_status *st);

typedef struct ft_token_source_info {
    uint64_t documents, tokens; /* of the whole source */
    uint64_t next_document;     /* number of the one that comes next */
    uint64_t tokens_read;       /* in the documents delivered; those skipped are not counted */
    uint64_t input_bytes;       /* of the files that hold tokens */
    uint64_t fingerprint;       /* ft_input_fingerprint of the files, as they were before opening */
    uint32_t vocab_size;        /* 0: unknown */
    uint32_t max_id;            /* the largest seen so far; 0 where none was */
    unsigned token_bytes;       /* 1, 2, 4 or 8, as stored */
} ft_token_source_info;
ft_token_source_info ft_token_source_get_info(const ft_token_source *s);

FT_API_END
#endif
