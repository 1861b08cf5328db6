/* ft_leaf: 128 neighbours of a suffix array, in which a pattern is found with one look
 * at the text. Internal to index/; docs/index-format.md draws the bytes.
 *
 * A leaf holds 128 positions and, for each, which bit tells it from the one before: a
 * blind trie, which says where a pattern must be if it is there at all.
 *
 * Source  Ferguson, "Bit-Tree: a data structure for fast file processing", CACM 35(6),
 *         1992; Ferragina and Grossi, "The string B-tree", J. ACM 46(2), 1999. */
#ifndef FT_LEAF_H
#define FT_LEAF_H
#include "index/ft_fetch.h"
#include "index/ft_section.h"

#include <stddef.h>
#include <stdint.h>

/* --- Codes ------------------------------------------------------------------------
 * A token's code is its id + 1; 0 is the end of a document. */

/* A text of `count` codes of `bits` each, lowest bit first; 8 bytes behind it are readable. */
typedef struct ft_codes {
    const unsigned char *packed;
    unsigned bits;
    uint64_t count;
    struct ft_fetch *watch; /* what reads it is rehearsed (ft_fetch.h); NULL: reads */
} ft_codes;

static inline int ft_codes_lacking(const ft_codes *t) /* what follows from it is to be thrown away */
{
    return t->watch && t->watch->lacking;
}
/* Code i and some behind it: a comparison goes on. */
static inline int ft_codes_lack(const ft_codes *t, uint64_t i)
{
    enum { AHEAD = 128 };
    return t->watch && i < t->count &&
           ft_fetch_lacks(t->watch, t->packed + i * t->bits / 8, t->count - i > AHEAD * 8 ? AHEAD : sizeof(uint64_t));
}

/* 0, the end, for what is not in the text: a damaged file gives wrong answers, no wild reads. */
static inline uint32_t ft_codes_get(const ft_codes *t, uint64_t i)
{
    return i < t->count ? (uint32_t)ft_packed_get(t->packed, t->bits, i) : 0;
}

/* Codes that the suffixes at a and b (different positions) share from `from` on, which
 * they are known to share before; at most up to `limit` or to the end of either's
 * document. *equal is set when both end there. */
uint64_t ft_codes_shared(const ft_codes *text, uint64_t a, uint64_t b, uint64_t from, uint64_t limit, int *equal);

/* --- One rank ---------------------------------------------------------------------- */

/* A position (bits 0..47) and what its suffix shares with that of the rank before: how
 * many codes (bits 48..55) and, in the code that differs, the number of leading bits
 * of the ft_bit_width(vocab_size) that are equal (bits 56..63). Shared is 127 where 127 codes
 * or more are shared, or where the suffixes are equal: the bit then means nothing. */
typedef uint64_t ft_ranked;
enum { FT_SHARED_MAX = 127 };

static inline ft_ranked ft_ranked_make(uint64_t position, unsigned shared, unsigned bit)
{
    return position | (uint64_t)shared << 48 | (uint64_t)bit << 56;
}
static inline uint64_t ft_ranked_position(ft_ranked r)
{
    return r & (((uint64_t)1 << 48) - 1);
}
static inline unsigned ft_ranked_shared(ft_ranked r)
{
    return r >> 48 & 255;
}
static inline unsigned ft_ranked_bit(ft_ranked r)
{
    return (unsigned)(r >> 56);
}

/* Rank of the suffix at b, behind that at a; cost: the codes they share, at most 127. */
ft_ranked ft_ranked_after(const ft_codes *text, uint64_t a, uint64_t b);

/* Number of equal leading bits of two different codes of `bits` bits. */
static inline unsigned ft_codes_bit(uint32_t a, uint32_t b, unsigned bits)
{
    return bits - (32 - (unsigned)__builtin_clz(a ^ b));
}

/* --- A leaf -------------------------------------------------------------------------
 *
 *   128 positions of pointer_bits, then 128 slots of 7 bits
 *
 * Slot 0 is D, how many codes all suffixes of the leaf share (at most 120). Slot i says
 * where suffix i leaves suffix i - 1: with t codes shared, h = t - D and b the first bit
 * of the next code that differs,
 *
 *   W h + b          where h < q: the very bit; q = 104 / W
 *   W q + (h - q)    where that is below 127: the code, but not the bit
 *   127              beyond, or equal suffixes: they share T codes more than D or more,
 *                    T = min(q + 127 - W q, 127 - D)
 *
 * so slots compare as the lengths they stand for. What a segment's last leaf lacks is 0. */

enum {
    FT_LEAF_RANKS = 128,
    FT_LEAF_SHARED_MAX = 120,
    FT_LEAF_DEEP = 127,
    FT_LEAF_BYTES_MAX = 16 * 48 + 112 /* positions have at most 48 bits */
};

typedef struct ft_leaf_shape {
    unsigned code_bits, pointer_bits, bytes;
} ft_leaf_shape;

static inline ft_leaf_shape ft_leaf_shape_of(unsigned code_bits, unsigned pointer_bits)
{
    return (ft_leaf_shape){code_bits, pointer_bits, 16 * pointer_bits + 112};
}

static inline uint64_t ft_leaf_count(uint64_t n) /* leaves of n ranks */
{
    return n / FT_LEAF_RANKS + (n % FT_LEAF_RANKS != 0);
}

/* Writes shape.bytes; 1 <= count <= 128. What ranked[0] shares does not matter. */
void ft_leaf_encode(unsigned char *out, const ft_leaf_shape *shape, const ft_ranked *ranked, size_t count);

/* Position of the suffix at `rank` of a segment, as the file says. */
static inline uint64_t ft_leaf_position(const unsigned char *suffixes, const ft_leaf_shape *shape, uint64_t rank)
{
    return ft_packed_get(suffixes + rank / FT_LEAF_RANKS * shape->bytes, shape->pointer_bits, rank % FT_LEAF_RANKS);
}

/* A leaf, unpacked for searching. */
typedef struct ft_leaf {
    const unsigned char *pointers;
    const ft_codes *text;
    unsigned pointer_bits, code_bits;
    unsigned count;
    unsigned shared; /* D */
    unsigned exact;  /* depth below which slots tell bits: min(q, T) */
    unsigned known;  /* T */
    unsigned char slot[FT_LEAF_RANKS];
} ft_leaf;

void ft_leaf_open(ft_leaf *leaf, const unsigned char *bytes, const ft_leaf_shape *shape, const ft_codes *text,
                  unsigned count);

/* Where ids[0..length) stands in a leaf; all ids are below the vocabulary's size. */
typedef struct ft_leaf_place {
    unsigned lower; /* suffixes of the leaf that are below the pattern */
    unsigned at;    /* one of those that share most with it */
    size_t shared;  /* how many tokens that are */
} ft_leaf_place;

/* `known` tokens are known to be shared by some suffix here. One look at the text, but
 * where the leaf repeats itself for long. */
ft_leaf_place ft_leaf_find(const ft_leaf *leaf, const uint32_t *ids, size_t length, size_t known);
/* The same in two steps, so that texts can be fetched between them for many leaves: the
 * suffix whose text is looked at, and what follows from it. */
unsigned ft_leaf_candidate(const ft_leaf *leaf, const uint32_t *ids, size_t length);
ft_leaf_place ft_leaf_find_from(const ft_leaf *leaf, unsigned candidate, const uint32_t *ids, size_t length,
                                size_t known);
static inline uint64_t ft_leaf_position_in(const ft_leaf *leaf, unsigned i)
{
    return ft_packed_get(leaf->pointers, leaf->pointer_bits, i);
}
/* The suffixes that begin with ids[0..length), as suffix `at` does. */
void ft_leaf_around(const ft_leaf *leaf, const uint32_t *ids, size_t length, unsigned at, unsigned *lo, unsigned *hi);

/* Ranks, counted in the leaf, of [from, to) whose suffix may go on with another code
 * behind the first `depth` than the one before: all that do, and where slots do not tell
 * some that do not. The suffixes share `depth` codes. Returns how many. */
unsigned ft_leaf_turns(const unsigned char *bytes, const ft_leaf_shape *shape, unsigned from, unsigned to, size_t depth,
                       unsigned char turns[FT_LEAF_RANKS]);

/* Compares the suffix at `position` with ids[0..length): negative, 0 (it begins with
 * them) or positive. *shared: in, tokens known to be equal; out, all that are. */
int ft_codes_compare(const ft_codes *text, uint64_t position, const uint32_t *ids, size_t length, size_t *shared);
#endif
