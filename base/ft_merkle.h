/* ft_merkle: the append-only tree of RFC 6962 (and RFC 9162), and its proofs. SHA-256; a leaf is H(0x00 | data)
 * (ft_merkle_leaf of ft_digest.h), a node H(0x01 | left | right).
 *
 * Of a tree of n leaves its *whole* subtrees are kept: node (level, number) covers the leaves
 * [number << level, (number + 1) << level). They never change when leaves come, so a leaf adds itself and what it
 * completes, two nodes on average, and everything below reads O(log n) of them. In the order in which they become
 * whole, node (level, number) has the position ft_merkle_position: such a file only grows at its end.
 *
 * Sizes    up to 2^62 leaves.
 * Threads  nothing is shared.
 * Source   RFC 9162, 2.1.3 and 2.1.4. */
#ifndef FT_MERKLE_H
#define FT_MERKLE_H
#include "base/ft_digest.h"

FT_API_BEGIN

enum { FT_MERKLE_PROOF = 64, FT_MERKLE_LEVELS = 63 };

typedef struct ft_merkle_proof {
    ft_digest nodes[FT_MERKLE_PROOF]; /* from the leaf's side up */
    size_t count;
} ft_merkle_proof;

/* Gives a whole subtree's hash. What it returns, but FT_OK, ends the call that reads. */
typedef ft_code ft_merkle_read(void *context, unsigned level, uint64_t number, ft_digest *out, ft_status *st);

ft_digest ft_merkle_node(const ft_digest *left, const ft_digest *right);
uint64_t ft_merkle_position(unsigned level, uint64_t number);
/* How many whole subtrees n leaves have. */
uint64_t ft_merkle_node_count(uint64_t leaves);

/* What becomes whole when `leaf` is put behind `size` leaves: out[0] is the leaf, out[i] the node of level i. */
FT_CHECKED ft_code ft_merkle_append(ft_merkle_read *read, void *context, uint64_t size, const ft_digest *leaf,
                                    ft_digest out[FT_MERKLE_LEVELS], size_t *count, ft_status *st);
/* The root of the first `size` leaves; of none it is H(""). */
FT_CHECKED ft_code ft_merkle_root_of(ft_merkle_read *read, void *context, uint64_t size, ft_digest *out, ft_status *st);
/* That leaf `index` stands in the tree of the first `size` leaves; requires index < size. */
FT_CHECKED ft_code ft_merkle_inclusion(ft_merkle_read *read, void *context, uint64_t index, uint64_t size,
                                       ft_merkle_proof *out, ft_status *st);
/* That the tree of `to` leaves begins with that of `from`; requires from <= to. Empty where from is 0 or `to`. */
FT_CHECKED ft_code ft_merkle_consistency(ft_merkle_read *read, void *context, uint64_t from, uint64_t to,
                                         ft_merkle_proof *out, ft_status *st);

/* 1 or 0. What comes from outside may be anything. */
int ft_merkle_includes(const ft_digest *leaf, uint64_t index, uint64_t size, const ft_digest *root,
                       const ft_digest *nodes, size_t count);
int ft_merkle_extends(uint64_t from, const ft_digest *from_root, uint64_t to, const ft_digest *to_root,
                      const ft_digest *nodes, size_t count);

FT_API_END
#endif
