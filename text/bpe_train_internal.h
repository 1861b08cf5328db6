/* bpe_train_internal: what the two files of the trainer share: ft_bpe_train.c counts and merges, bpe_train_write.c
 * writes the result down. */
#ifndef FT_BPE_TRAIN_INTERNAL_H
#define FT_BPE_TRAIN_INTERNAL_H
#include "base/ft_buffer.h"
#include "text/ft_bpe_train.h"
#include "text/pattern_internal.h"

typedef struct ft_train_entry {
    size_t at; /* its bytes, in entry_bytes */
    uint32_t size;
} ft_train_entry;

typedef struct ft_train_word {
    size_t at; /* in word_bytes; once merging has begun, in symbols */
    uint32_t size;
    uint64_t count;
} ft_train_word;

typedef struct ft_train_pair {
    uint64_t pair;         /* left id << 32 | right id */
    uint64_t count;        /* of places now */
    uint64_t queued;       /* the count that its live entry of the heap has; 0: none */
    uint32_t first, noted; /* its list of places, and the word of the latest; FT_NOWHERE: none */
} ft_train_pair;

typedef struct ft_train_place {
    uint32_t word, next;
} ft_train_place;

typedef struct ft_train_queued {
    uint64_t count, pair;
    uint32_t at; /* in pairs */
} ft_train_queued;

enum { FT_NOWHERE = UINT32_MAX };

struct ft_bpe_train {
    ft_bpe_train_options options;
    const char *pattern;
    ft_cutter *cutter;
    uint64_t used_bytes; /* of all that grows */
    int ran;

    char *word_bytes;
    size_t word_bytes_size, word_bytes_capacity;
    ft_train_word *words;
    size_t words_count, words_capacity;
    uint32_t *word_table; /* places in words; FT_NOWHERE: free */
    size_t word_slots;

    uint32_t *symbols; /* the words' ids, as merged so far */
    ft_train_pair *pairs;
    size_t pairs_count, pairs_capacity;
    uint32_t *pair_table;
    size_t pair_slots;
    ft_train_place *places;
    size_t places_count, places_capacity;
    uint32_t free_place;
    ft_train_queued *heap;
    size_t heap_count, heap_capacity;
    uint32_t *touched; /* pairs whose counts rose in this merge */
    size_t touched_count, touched_capacity;

    ft_train_entry *entries; /* [size]; special tokens have none */
    size_t entries_count, entries_capacity;
    char *entry_bytes;
    size_t entry_bytes_size, entry_bytes_capacity;
    uint32_t *entry_table; /* ids by their bytes */
    size_t entry_slots;
    ft_bpe_train_merge *merges;
    size_t merges_count, merges_capacity;
};
#endif
