/* ft_tree: which leaf of the suffixes may hold a pattern. Internal to index/;
 * docs/index-format.md draws the bytes.
 *
 * Between two leaves stands a separator: the shortest sequence of codes that is above
 * the last suffix of the one and not above the first suffix of the other (Bayer and
 * Unterauer, "Prefix B-trees", ACM TODS 2(1), 1977). Separators stand in nodes of a page,
 * those of each node's first leaf in the nodes of the level above, up to one root.
 *
 * A separator longer than FT_TREE_CODES, or that of equal suffixes, which does not
 * exist, is cut: a pattern that goes on behind it has to be compared with the text, at
 * the position that stands beside a cut separator. */
#ifndef FT_TREE_H
#define FT_TREE_H
#include "base/ft_buffer.h"
#include "index/ft_leaf.h"
#include "index/ft_section.h"

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FT_TREE_NODE = 4096,
    FT_TREE_CODES = 8, /* most codes of a separator that are kept */
    FT_TREE_LEVELS_MAX = 16,
    FT_TREE_RESIDENT = 1 << 20 /* upper levels that are not larger are checked when the tree is opened */
};

typedef struct ft_separator {
    uint32_t codes[FT_TREE_CODES];
    unsigned char length;
    unsigned char cut;
    uint64_t position; /* of the suffix that it is cut from; 0 where it is not cut */
} ft_separator;

/* The separator before a leaf whose first suffix is `first`; it carries what that
 * shares with the last suffix of the leaf before. */
void ft_separator_make(ft_separator *out, ft_ranked first, const ft_codes *text);

/* --- Building ------------------------------------------------------------------- */

typedef struct ft_tree_level ft_tree_level;
/* Level 0 goes out node by node; one node in 300 stays in memory until the end. */
typedef struct ft_tree_builder {
    ft_code (*put)(void *context, const void *bytes, size_t n, ft_status *st);
    void *context;
    unsigned code_bits, pointer_bits;
    uint64_t leaves; /* so far */
    ft_tree_level *level[FT_TREE_LEVELS_MAX];
} ft_tree_builder;

void ft_tree_builder_init(ft_tree_builder *b, const ft_leaf_shape *shape,
                          ft_code (*put)(void *context, const void *bytes, size_t n, ft_status *st), void *context);
void ft_tree_builder_release(ft_tree_builder *b);
/* The separator of the next leaf; that of leaf 0 is taken as empty. */
FT_CHECKED ft_code ft_tree_builder_add(ft_tree_builder *b, const ft_separator *s, ft_status *st);
/* Puts what remains; *bytes is all that was put. At least one leaf was added. */
FT_CHECKED ft_code ft_tree_builder_finish(ft_tree_builder *b, uint64_t *bytes, ft_status *st);

/* --- Searching ------------------------------------------------------------------- */

typedef struct ft_tree {
    const unsigned char *nodes; /* level 0 first */
    unsigned levels, code_bits;
    uint64_t leaves;
    uint64_t start[FT_TREE_LEVELS_MAX], count[FT_TREE_LEVELS_MAX]; /* of each level, in nodes */
    const unsigned char *suffixes;                                 /* the leaves, to ask for them early */
    const ft_leaf_shape *shape;
    const ft_codes *text; /* for cut separators */
} ft_tree;

/* Checks what the section says of itself against the number of leaves, and the upper
 * levels' checksums while they are small. `text` and `shape` must outlive the tree. */
FT_CHECKED ft_code ft_tree_open(ft_tree *out, const ft_section *section, const unsigned char *suffixes,
                                const ft_leaf_shape *shape, const ft_codes *text, ft_status *st);

typedef struct ft_descent {
    uint64_t leaf;
    /* Codes that the next leaf's first suffix shares with the one before it: no fewer,
     * no more. 0 and UINT_MAX where the next leaf's separator stands in another node. */
    unsigned next_least, next_most;
    /* Most tokens that a text looked at on the way shares with the pattern, and the child
     * of a node of which level begins with that text; 0 when none was looked at. */
    size_t shared;
    uint64_t shared_child;
    unsigned shared_level;
} ft_descent;

/* Last leaf whose separator is not above ids[0..length): the first suffix that is not
 * below the pattern is in it, or the next one's first. */
ft_descent ft_tree_lower(const ft_tree *t, const uint32_t *ids, size_t length);
/* Last leaf whose separator is not above all that begins with the pattern: the first
 * suffix that is above all that is in it, or the next one's first. */
ft_descent ft_tree_upper(const ft_tree *t, const uint32_t *ids, size_t length);

/* The same level by level, for many patterns at once: from *d = ft_tree_top on, one step
 * for each level from levels - 1 to 0. Before a step on `level`, d->leaf is a node's number. */
static inline ft_descent ft_tree_top(void)
{
    return (ft_descent){.next_most = UINT_MAX};
}
void ft_tree_step(const ft_tree *t, unsigned level, const uint32_t *ids, size_t length, int upper, ft_descent *d);
/* The first leaf below a child of a node of `level`; while rehearsing, see ft_codes_lacking. */
uint64_t ft_tree_first_leaf(const ft_tree *t, unsigned level, uint64_t child);
static inline const unsigned char *ft_tree_node(const ft_tree *t, unsigned level, uint64_t number)
{
    return t->nodes + (t->start[level] + number) * FT_TREE_NODE;
}

/* Walks over the separators of leaves, in order. */
typedef struct ft_tree_cursor {
    uint64_t node; /* on level 0 */
    unsigned entry;
} ft_tree_cursor;

ft_tree_cursor ft_tree_seek(const ft_tree *t, uint64_t leaf);
/* Code `depth` of the next `count` separators; UINT32_MAX where it is not kept. Moves on. */
void ft_tree_codes(const ft_tree *t, ft_tree_cursor *c, unsigned depth, size_t count, uint32_t *codes);
#endif
