/* ft_tree_node: the bytes of the tree's nodes and of the table behind them, for what
 * writes them (ft_tree_build.c) and what searches them (ft_tree.c). Internal to index/.
 *
 *   0   first child (u64), entries (u16), c (u16), cut entries (u16), zero (u16)
 *   16  c codes (u32 each) that all separators of the node share; zeros to a multiple of 8
 *       heads: for each entry the next 64 / W codes, at most 16, as one u64, the first
 *       one highest, zeros behind the separator's end
 *       for each entry its length in codes (bits 0..4) and whether it is cut (bit 7)
 *       for each cut entry the position of its suffix, P bits, lowest bit first; zeros to a byte
 *       the codes behind the heads, W bits each, lowest bit first
 *
 * A cut separator goes on behind what is kept of it, so it must fill its head: c is at
 * most FT_TREE_CODES less the codes of a head, or FT_TREE_CODES where all separators of
 * a node are the same but for the texts they are cut from. */
#ifndef FT_TREE_NODE_H
#define FT_TREE_NODE_H
#include "index/ft_tree.h"

enum { FT_TREE_LENGTH = 0x1F, FT_TREE_CUT = 0x80 };

typedef struct ft_tree_node_head {
    uint64_t first_child; /* a leaf's number on level 0, else that of a node in the level below */
    uint16_t count, common, cuts, zero;
} ft_tree_node_head;
static_assert(sizeof(ft_tree_node_head) == 16, "part of the format");

/* The last page of the section. */
typedef struct ft_tree_table {
    uint64_t levels, leaves;
    uint64_t nodes[FT_TREE_LEVELS_MAX];
} ft_tree_table;

static inline unsigned ft_tree_per_head(unsigned code_bits)
{
    return 64 / code_bits < FT_TREE_CODES ? 64 / code_bits : FT_TREE_CODES;
}

static inline unsigned ft_tree_node_heads_at(unsigned common)
{
    return (unsigned)sizeof(ft_tree_node_head) + (common * 4 + 7) / 8 * 8;
}

static inline unsigned ft_tree_node_info_at(unsigned common, unsigned count)
{
    return ft_tree_node_heads_at(common) + count * 8;
}

static inline unsigned ft_tree_node_tails_at(unsigned common, unsigned count, unsigned cuts, unsigned pointer_bits)
{
    return ft_tree_node_info_at(common, count) + count + (cuts * pointer_bits + 7) / 8;
}
#endif
