/* ft_bpe_train: a byte-level BPE tokenizer trained on text.
 *
 * Text is cut into words by one of the patterns that the tokenizer knows by heart, each distinct word is counted, and
 * the most frequent pair of neighbours becomes a new entry, again and again. Counts are kept up to date: a merge
 * touches only the words that hold its pair. Among pairs of the same count the one of the smaller left id goes
 * first, then that of the smaller right id. So the answer depends on the counted words alone, not on their order.
 *
 * Ids      0 "<|endoftext|>", 1 "<|pad|>", 2 … 257 the bytes in the order of their letters, then the merges. Two merges
 *          that spell the same bytes share an id.
 * Same as  tokenizers' BpeTrainer with the ByteLevel alphabet and these special tokens, but where merges share
 *          an id (its counts are stale then). Special tokens in the text are text, as there.
 * Memory   distinct words and their pairs, at most memory_bytes; not the text.
 * Cost     about O(bytes of distinct words x log) for the merges; a word is scanned once for every merge in it.
 * Threads  one owner.
 * Source   Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016. */
#ifndef FT_BPE_TRAIN_H
#define FT_BPE_TRAIN_H
#include "base/ft_progress.h"
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

enum { FT_BPE_LEAST_SIZE = 258 }; /* special tokens and bytes */

typedef struct ft_bpe_train ft_bpe_train;

typedef struct ft_bpe_train_options {
    size_t size;           /* entries of the vocabulary, FT_BPE_LEAST_SIZE … 2^23 */
    const char *split;     /* "cl100k" (NULL), "qwen2" or "gpt2": text/pattern_internal.h */
    uint64_t least_count;  /* pairs that are rarer are not merged (0: 2) */
    uint64_t memory_bytes; /* (0: 1 GiB) */
} ft_bpe_train_options;

/* FT_ERR_ARG: a size or split that there is not. */
FT_CHECKED ft_code ft_bpe_train_new(ft_bpe_train **out, const ft_bpe_train_options *options, ft_status *st);
void ft_bpe_train_free(ft_bpe_train *t); /* NULL is allowed */

/* Counts the words of a document: valid UTF-8 of less than 2^31 bytes. FT_ERR_LIMIT: they do not fit memory_bytes. */
FT_CHECKED ft_code ft_bpe_train_add(ft_bpe_train *t, const char *text, size_t n, ft_status *st);

/* Merges until the vocabulary is full or no pair is frequent enough. Once; nothing can be added after it.
 * FT_ERR_FORMAT: no words were added. FT_ERR_LIMIT as above. FT_ERR_CANCELLED: `progress` said so. */
FT_CHECKED ft_code ft_bpe_train_run(ft_bpe_train *t, const ft_progress *progress, ft_status *st);

typedef struct ft_bpe_train_merge {
    uint32_t left, right, id;
} ft_bpe_train_merge;
const ft_bpe_train_merge *ft_bpe_train_merges(const ft_bpe_train *t, size_t *count); /* in order; a view */
size_t ft_bpe_train_size(const ft_bpe_train *t);                                     /* entries so far */
uint64_t ft_bpe_train_words(const ft_bpe_train *t);                                  /* distinct ones */

/* Writes tokenizer_config.json, then tokenizer.json, into a folder that is made where it is missing; files of
 * these names are replaced, each whole or not at all. */
FT_CHECKED ft_code ft_bpe_train_write(const ft_bpe_train *t, const char *folder, ft_status *st);

FT_API_END
#endif
