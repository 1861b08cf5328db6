/* ft_suffix_writer: sorted suffixes to the sections SUFFIXES, TREE and BOUNDS of a
 * segment. Who sorts or merges hands over stripes of ranks; this encodes their leaves
 * (ft_leaf.h), the separators between them (ft_tree.h) and the first rank of each id.
 * Internal to index/; docs/index-format.md.
 *
 * Units    ranks and positions count codes: tokens and ends of documents (ft_section.h).
 * Threads  stripes may be written by any number of threads, in any order, each once;
 *          open, commit and abandon belong to one.
 * Memory   8 bytes for each id of the vocabulary and for each stripe; for each thread
 *          two blocks of SUFFIXES; the separators of stripes that came before their
 *          turn, about 10 bytes a leaf; and of all the separators one in 300.
 * Errors   FT_ERR_IO, FT_ERR_MEM. After one, abandon: nothing else may follow. */
#ifndef FT_SUFFIX_WRITER_H
#define FT_SUFFIX_WRITER_H
#include "base/ft_status.h"
#include "index/ft_leaf.h"
#include "index/ft_section.h"
#include "index/ft_tree.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* Ranks of a stripe: one checksum block of SUFFIXES. */
enum { FT_STRIPE_LEAVES = 448, FT_STRIPE = FT_STRIPE_LEAVES * FT_LEAF_RANKS };

typedef struct ft_suffix_writer {
    char *folder;
    uint64_t n;
    uint32_t vocab_size;
    ft_leaf_shape shape;
    size_t stripes;
    ft_section_writer suffixes, tree;
    ft_tree_builder builder;
    uint64_t *bounds; /* [vocab_size + 2] by code; UINT64_MAX: no suffix begins with it, as far as is known */
    /* Separators wait here until those of all earlier stripes are in the tree. */
    pthread_mutex_t lock;
    unsigned char **waiting; /* [stripes] */
    size_t next;             /* the stripe whose turn it is */
    int has_lock;
} ft_suffix_writer;

/* n >= 1 suffixes, n < 2^48, of codes up to vocab_size < 2^24. */
FT_CHECKED ft_code ft_suffix_writer_open(ft_suffix_writer *w, const char *folder, uint64_t n, uint32_t vocab_size,
                                         ft_status *st);

/* Ranks [stripe * FT_STRIPE, + count): FT_STRIPE of them, fewer only in the last stripe.
 * ranked[0] carries what it shares with the last rank of the stripe before (rank 0: what
 * it carries does not matter). `text`: all n codes. */
FT_CHECKED ft_code ft_suffix_writer_stripe(ft_suffix_writer *w, size_t stripe, const ft_ranked *ranked, size_t count,
                                           const ft_codes *text, ft_status *st);
static inline size_t ft_suffix_writer_stripes(const ft_suffix_writer *w)
{
    return w->stripes;
}

/* After all stripes. Closes the writer, also on failure. */
FT_CHECKED ft_code ft_suffix_writer_commit(ft_suffix_writer *w, uint64_t segment, ft_status *st);
void ft_suffix_writer_abandon(ft_suffix_writer *w); /* removes the files; closed and zeroed writers are allowed */
#endif
