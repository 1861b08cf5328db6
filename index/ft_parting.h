/* ft_parting: where neighbours in the order of suffixes part, read off the text. Internal
 * to index/.
 *
 * An item says how many codes a suffix shares with the one before it, the code behind
 * them, and how many leading bits of that are equal (ft_merge.h). At most FT_SHARED_MAX
 * codes are looked at; in natural text two suffixes share 14 on average.
 *
 * Memory   the text is read at random places: it had better be in large pages. */
#ifndef FT_PARTING_H
#define FT_PARTING_H
#include "index/ft_merge.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ft_partings ft_partings;
/* out[i] describes the suffix at base + order[i] of `text`, against the one at base + order[i - 1]: order[-1] is read.
 * `ahead` more of `order` are readable. */
typedef void ft_partings_fn(const ft_partings *p, const ft_codes *text, uint64_t base, const int32_t *order, size_t n,
                            size_t ahead, ft_merge_item *out);

enum { FT_PARTINGS_AT_ONCE = 16 }; /* codes */

/* How codes of so many bits are read. A plain value. */
struct ft_partings {
    ft_partings_fn *describe;
    unsigned bits;
    /* Four groups of four codes lie in 16 bytes each from here on, counted from the byte in which the first code
     * begins; and by its bit there, for each code of 32 bits: the bytes that hold it, and how far it has to be shifted.
     */
    unsigned group[4];
    unsigned char bytes[8][FT_PARTINGS_AT_ONCE * 4];
    uint32_t shift[8][FT_PARTINGS_AT_ONCE];
};

/* For codes of 1 to 24 bits and a machine that has `isa` (ft_cpu.h); all machines give the same items. */
void ft_partings_init(ft_partings *p, unsigned bits, unsigned isa);

ft_partings_fn ft_partings_scalar, ft_partings_avx2;

/* One item: the suffix at `here` against that at `before`, which are known to share `from` codes. */
static inline ft_merge_item ft_parting(const ft_codes *text, uint64_t before, uint64_t here, uint64_t from)
{
    ft_merge_item item = {.position = here, .shared = FT_SHARED_MAX};
    int equal;
    const uint64_t shared = ft_codes_shared(text, before, here, from, FT_SHARED_MAX, &equal);
    if (!equal && shared < FT_SHARED_MAX) {
        item.code = ft_codes_get(text, here + shared);
        item.shared = (unsigned char)shared;
        item.bit = (unsigned char)ft_codes_bit(ft_codes_get(text, before + shared), item.code, text->bits);
    }
    return item;
}

/* The text of a suffix will be read: the line where it begins and, in most cases, the one behind. */
static inline void ft_parting_prefetch(const ft_codes *text, uint64_t position)
{
    enum { MOSTLY = 48 }; /* bytes */
    const unsigned char *at = text->packed + (position * text->bits >> 3);
    __builtin_prefetch(at);
    __builtin_prefetch(at + MOSTLY);
}
#endif
