#include "index/ft_leaf.h"

enum {
    SLOT_BITS = 7,
    EXACT_BITS = 104,
    STEPS_AHEAD = 3 /* of halving, whose texts are asked for together */
};

/* --- Slots --------------------------------------------------------------------------- */

static unsigned exact_codes(unsigned code_bits) /* q */
{
    return EXACT_BITS / code_bits;
}

/* Codes that slot 127 stands for, at least: T. */
static unsigned known_codes(unsigned code_bits, unsigned shared)
{
    const unsigned q = exact_codes(code_bits), by_slot = q + FT_LEAF_DEEP - code_bits * q;
    const unsigned by_count = FT_SHARED_MAX - (shared < FT_SHARED_MAX ? shared : FT_SHARED_MAX);
    return by_slot < by_count ? by_slot : by_count;
}

/* The least slot of suffixes that share `depth` codes more than D; above 127 where none tells. */
static unsigned slot_of_depth(unsigned code_bits, size_t depth)
{
    const unsigned q = exact_codes(code_bits);
    return depth <= q ? code_bits * (unsigned)depth : code_bits * q + (unsigned)(depth - q);
}

/* One code after the other, from `i` on. */
static uint64_t shared_one_by_one(const ft_codes *text, uint64_t a, uint64_t b, uint64_t i, uint64_t limit, int *equal)
{
    for (; i < limit; i++) {
        if (a + i >= text->count || b + i >= text->count)
            return i; /* a damaged position */
        const uint32_t x = ft_codes_get(text, a + i);
        if (x != ft_codes_get(text, b + i))
            return i;
        if (x == 0) {
            *equal = 1;
            return i;
        }
    }
    return i;
}

/* As many codes at once as 8 bytes at any bit hold. Of the codes that are 0, a subtraction of 1 from each marks the
 * lowest for certain, and that is the one which ends a suffix. */
uint64_t ft_codes_shared(const ft_codes *text, uint64_t a, uint64_t b, uint64_t from, uint64_t limit, int *equal)
{
    const unsigned bits = text->bits, at_once = 57 / bits, step = at_once * bits;
    const uint64_t used = ((uint64_t)1 << step) - 1, ones = used / (((uint64_t)1 << bits) - 1),
                   tops = ones << (bits - 1);
    const uint64_t further = a > b ? a : b, left = further < text->count ? text->count - further : 0;
    const uint64_t safe = limit < left ? limit : left;
    uint64_t i = from, bit_a = (a + i) * bits, bit_b = (b + i) * bits;
    *equal = 0;
    for (; i + at_once <= safe; i += at_once, bit_a += step, bit_b += step) {
        uint64_t x, y;
        memcpy(&x, text->packed + (bit_a >> 3), sizeof(x));
        memcpy(&y, text->packed + (bit_b >> 3), sizeof(y));
        x = x >> (bit_a & 7) & used;
        y = y >> (bit_b & 7) & used;
        const uint64_t differing = x ^ y, ends = (x - ones) & ~x & tops, either = differing | ends;
        if (either) {
            const unsigned code = (unsigned)__builtin_ctzll(either) / bits;
            *equal = !(differing >> (code * bits) & (((uint64_t)1 << bits) - 1));
            return i + code;
        }
    }
    return shared_one_by_one(text, a, b, i, limit, equal);
}

ft_ranked ft_ranked_after(const ft_codes *text, uint64_t a, uint64_t b)
{
    int equal;
    const uint64_t shared = ft_codes_shared(text, a, b, 0, FT_SHARED_MAX, &equal);
    const uint32_t x = ft_codes_get(text, a + shared), y = ft_codes_get(text, b + shared);
    if (equal || shared >= FT_SHARED_MAX || x == y) /* alike without an end only in a damaged text */
        return ft_ranked_make(b, FT_SHARED_MAX, 0);
    return ft_ranked_make(b, (unsigned)shared, ft_codes_bit(x, y, text->bits));
}

/* --- Encoding -------------------------------------------------------------------------- */

static unsigned leaf_shared(const ft_ranked *ranked, size_t count)
{
    unsigned least = FT_LEAF_SHARED_MAX;
    for (size_t i = 1; i < count; i++)
        least = ft_ranked_shared(ranked[i]) < least ? ft_ranked_shared(ranked[i]) : least;
    return count > 1 ? least : 0;
}

static unsigned slot_of(ft_ranked r, unsigned code_bits, unsigned shared)
{
    const unsigned t = ft_ranked_shared(r), h = t - shared;
    if (t == FT_SHARED_MAX)
        return FT_LEAF_DEEP;
    const unsigned slot = slot_of_depth(code_bits, h) + (h < exact_codes(code_bits) ? ft_ranked_bit(r) : 0);
    return slot < FT_LEAF_DEEP ? slot : FT_LEAF_DEEP;
}

void ft_leaf_encode(unsigned char *out, const ft_leaf_shape *shape, const ft_ranked *ranked, size_t count)
{
    assert(count > 0 && count <= FT_LEAF_RANKS);
    const uint64_t mask = ((uint64_t)1 << shape->pointer_bits) - 1;
    const unsigned shared = leaf_shared(ranked, count);
    memset(out, 0, shape->bytes);
    uint64_t held = 0;
    unsigned held_bits = 0;
    unsigned char *to = out;
    for (size_t i = 0; i < count; i++) {
        held |= (ft_ranked_position(ranked[i]) & mask) << held_bits;
        for (held_bits += shape->pointer_bits; held_bits >= 8; held_bits -= 8, held >>= 8)
            *to++ = (unsigned char)held;
    }
    if (held_bits)
        *to = (unsigned char)held;
    unsigned char *slots = out + FT_LEAF_RANKS / 8 * shape->pointer_bits;
    for (size_t i = 0; i < count; i++) {
        const unsigned slot = i ? slot_of(ranked[i], shape->code_bits, shared) : shared;
        const size_t bit = i * SLOT_BITS;
        slots[bit / 8] |= (unsigned char)(slot << bit % 8);
        if (bit % 8 > 8 - SLOT_BITS)
            slots[bit / 8 + 1] |= (unsigned char)(slot >> (8 - bit % 8));
    }
}

/* --- Reading ------------------------------------------------------------------------------ */

/* 56 bits to 8 bytes of 7 bits: halves, quarters, eighths move apart. */
static uint64_t spread(uint64_t v)
{
    v = (v & 0x000000000FFFFFFF) | (v & 0x00FFFFFFF0000000) << 4;
    v = (v & 0x00003FFF00003FFF) | (v & 0x0FFFC0000FFFC000) << 2;
    return (v & 0x007F007F007F007F) | (v & 0x3F803F803F803F80) << 1;
}

/* Slots [8 i, 8 i + 8), one a byte. Reads one byte more than it uses: behind the last leaf
 * stand checksums. */
static uint64_t slots_at(const unsigned char *bytes, const ft_leaf_shape *shape, unsigned i)
{
    uint64_t v;
    memcpy(&v, bytes + FT_LEAF_RANKS / 8 * shape->pointer_bits + i * SLOT_BITS, sizeof(v));
    return spread(v & 0x00FFFFFFFFFFFFFF);
}

void ft_leaf_open(ft_leaf *leaf, const unsigned char *bytes, const ft_leaf_shape *shape, const ft_codes *text,
                  unsigned count)
{
    for (unsigned i = 0; i < FT_LEAF_RANKS / 8; i++) {
        const uint64_t v = slots_at(bytes, shape, i);
        memcpy(leaf->slot + i * 8, &v, sizeof(v));
    }
    leaf->pointers = bytes;
    leaf->text = text;
    leaf->pointer_bits = shape->pointer_bits;
    leaf->code_bits = shape->code_bits;
    leaf->count = count;
    leaf->shared = leaf->slot[0];
    leaf->known = known_codes(shape->code_bits, leaf->shared);
    leaf->exact = exact_codes(shape->code_bits) < leaf->known ? exact_codes(shape->code_bits) : leaf->known;
}

/* All that a comparison will read is there. */
static int have_text(const ft_codes *text, uint64_t position, const uint32_t *ids, size_t length, size_t from)
{
    for (size_t i = from;; i++) {
        if (ft_codes_lack(text, position + i))
            return 0;
        if (i == length || ft_codes_get(text, position + i) != ids[i] + 1)
            return 1;
    }
}

int ft_codes_compare(const ft_codes *text, uint64_t position, const uint32_t *ids, size_t length, size_t *shared)
{
    size_t i = *shared;
    if (text->watch && !have_text(text, position, ids, length, i))
        return 1;
    while (i < length && ft_codes_get(text, position + i) == ids[i] + 1)
        i++;
    *shared = i;
    if (i == length)
        return 0;
    return ft_codes_get(text, position + i) < ids[i] + 1 ? -1 : 1;
}

static int compare(const ft_leaf *leaf, unsigned i, const uint32_t *ids, size_t length, size_t *shared)
{
    return ft_codes_compare(leaf->text, ft_leaf_position_in(leaf, i), ids, length, shared);
}

/* --- Finding ------------------------------------------------------------------------------
 * Ranges of suffixes that share d bits are the subtrees of a binary trie, and the slot
 * between two neighbours is the depth of the node where their ways part. The pattern,
 * zeros behind its end, is followed through the nodes that tell a bit: */

/* The bits of `exact` codes from code D on, highest bit of the first code first. */
static void pattern_bits(const ft_leaf *leaf, const uint32_t *ids, size_t length, uint64_t bits[2])
{
    const unsigned w = leaf->code_bits;
    bits[0] = bits[1] = 0;
    for (unsigned i = 0, at = 0; i < leaf->exact && leaf->shared + i < length; i++, at += w) {
        const uint64_t code = ids[leaf->shared + i] + 1;
        const unsigned end = at % 64 + w;
        if (end <= 64) {
            bits[at / 64] |= code << (64 - end);
        } else {
            bits[at / 64] |= code >> (end - 64);
            bits[at / 64 + 1] |= code << (128 - end);
        }
    }
}

/* From left to right. A node s at rank i splits what lies to its left, back to the last
 * lower slot, from what lies to its right, up to the next lower slot. With bit s of the
 * pattern 1 the candidate moves to i, the first suffix on the right; with 0 it stays,
 * and the right side, all with slots above s, is passed over. No two nodes of one way
 * have the same slot. So the way ends at the leaf of the trie where the pattern's bits
 * lead, and if the pattern shares k bits with any suffix of the leaf, it shares k bits
 * with this one: up to bit k both ways are the same, and all suffixes below that node
 * share these k bits. Slots that tell no bit are above every node, with bit 0: groups of
 * suffixes that share `exact` codes count as one, and the first of each stands for it. */
static unsigned candidate(const ft_leaf *leaf, const uint64_t bits[2])
{
    unsigned at = 0, pass = 255;
    for (unsigned i = 1; i < leaf->count; i++) {
        const unsigned s = leaf->slot[i], one = bits[s >> 6] >> (63 - (s & 63)) & 1, seen = s < pass;
        at = seen & one ? i : at;
        pass = seen ? (one ? 255 : s) : pass;
    }
    return at;
}

/* First rank at or right of `from` that shares less than the slot says with the one before it. */
static unsigned right_of(const ft_leaf *leaf, unsigned from, unsigned slot)
{
    while (from < leaf->count && leaf->slot[from] >= slot)
        from++;
    return from;
}

static unsigned left_of(const ft_leaf *leaf, unsigned from, unsigned slot)
{
    while (from > 0 && leaf->slot[from] >= slot)
        from--;
    return from;
}

/* Where halving of ranks [lo, hi) will look in its next steps. */
static void ask_for_halves(const ft_leaf *leaf, unsigned lo, unsigned hi, size_t depth, unsigned steps)
{
    if (lo >= hi || steps == 0)
        return;
    const unsigned mid = lo + (hi - lo) / 2;
    (void)ft_codes_lack(leaf->text, ft_leaf_position_in(leaf, mid) + depth);
    ask_for_halves(leaf, lo, mid, depth, steps - 1);
    ask_for_halves(leaf, mid + 1, hi, depth, steps - 1);
}

/* Deep slots from place.at on, which the pattern is above: nothing but the text tells. */
static ft_leaf_place find_deep(const ft_leaf *leaf, const uint32_t *ids, size_t length, ft_leaf_place p)
{
    unsigned lo = p.at + 1, hi = right_of(leaf, p.at + 1, FT_LEAF_DEEP);
    size_t low = p.shared, high = leaf->shared + leaf->known;
    while (lo < hi) {
        const unsigned mid = lo + (hi - lo) / 2;
        size_t shared = low < high ? low : high;
        const int sign = compare(leaf, mid, ids, length, &shared);
        if (ft_codes_lacking(leaf->text)) {
            ask_for_halves(leaf, lo, hi, low < high ? low : high, STEPS_AHEAD);
            return p;
        }
        if (shared > p.shared) {
            p.shared = shared;
            p.at = mid;
        }
        if (sign < 0) {
            lo = mid + 1;
            low = shared;
        } else {
            hi = mid;
            high = shared;
        }
    }
    p.lower = lo;
    return p;
}

/* A group that shares `exact` codes, of which place.at is the first, and which the
 * pattern is above. Children of the node where the pattern leaves suffix `at` are told
 * apart by their next code. */
static ft_leaf_place find_in_group(const ft_leaf *leaf, const uint32_t *ids, size_t length, ft_leaf_place p)
{
    for (;;) {
        const size_t depth = p.shared - leaf->shared;
        if (depth >= leaf->known)
            return find_deep(leaf, ids, length, p);
        const unsigned slot = slot_of_depth(leaf->code_bits, depth);
        unsigned char child[FT_LEAF_RANKS];
        unsigned children = 0, end = p.at + 1;
        for (; end < leaf->count && leaf->slot[end] >= slot; end++)
            if (leaf->slot[end] == slot)
                child[children++] = (unsigned char)end;
        unsigned lo = 0, hi = children, found = leaf->count;
        while (lo < hi) {
            const unsigned mid = lo + (hi - lo) / 2;
            if (ft_codes_lack(leaf->text, ft_leaf_position_in(leaf, child[mid]) + p.shared)) {
                /* One turn leads to another, and few patterns come here: the whole group, so that it ends. */
                for (unsigned i = p.at + 1; i < end; i++)
                    (void)ft_codes_lack(leaf->text, ft_leaf_position_in(leaf, i) + p.shared);
                return p;
            }
            const uint32_t code = ft_codes_get(leaf->text, ft_leaf_position_in(leaf, child[mid]) + p.shared);
            if (code < ids[p.shared] + 1)
                lo = mid + 1;
            else
                hi = mid;
            if (code == ids[p.shared] + 1)
                found = child[mid];
        }
        p.lower = found < leaf->count ? found : lo < children ? child[lo] : end;
        if (found == leaf->count)
            return p;
        p.at = found;
        if (compare(leaf, p.at, ids, length, &p.shared) >= 0) /* or it is not there */
            return p;
    }
}

unsigned ft_leaf_candidate(const ft_leaf *leaf, const uint32_t *ids, size_t length)
{
    uint64_t bits[2];
    pattern_bits(leaf, ids, length, bits);
    return candidate(leaf, bits);
}

ft_leaf_place ft_leaf_find(const ft_leaf *leaf, const uint32_t *ids, size_t length, size_t known)
{
    return ft_leaf_find_from(leaf, ft_leaf_candidate(leaf, ids, length), ids, length, known);
}

ft_leaf_place ft_leaf_find_from(const ft_leaf *leaf, unsigned first, const uint32_t *ids, size_t length, size_t known)
{
    /* The candidate's group shares what is known; how much of it the candidate itself does,
     * is only known as far as slots tell bits. */
    ft_leaf_place p = {.at = first, .shared = leaf->shared + leaf->exact};
    p.shared = known < p.shared ? known : p.shared;
    p.shared = length < p.shared ? length : p.shared;
    const int sign = compare(leaf, p.at, ids, length, &p.shared);
    if (ft_codes_lacking(leaf->text))
        return p;
    if (p.shared < length && p.shared < leaf->shared) { /* it leaves all of them at once */
        p.lower = sign > 0 ? 0 : leaf->count;
        return p;
    }
    const size_t depth = p.shared > leaf->shared ? p.shared - leaf->shared : 0;
    if (sign == 0) {
        /* All that begin with it: where slots do not tell, the group begins with the candidate. */
        p.lower = p.shared <= leaf->shared ? 0
                  : depth <= leaf->exact   ? left_of(leaf, p.at, slot_of_depth(leaf->code_bits, depth))
                                           : p.at;
        return p;
    }
    if (depth >= leaf->exact) {
        p.lower = p.at;
        return sign > 0 ? p : find_in_group(leaf, ids, length, p);
    }
    const uint32_t code = ft_codes_get(leaf->text, ft_leaf_position_in(leaf, p.at) + p.shared);
    const unsigned differs =
        slot_of_depth(leaf->code_bits, depth) + ft_codes_bit(code, ids[p.shared] + 1, leaf->code_bits);
    p.lower = sign > 0 ? left_of(leaf, p.at, differs + 1) : right_of(leaf, p.at + 1, differs + 1);
    return p;
}

/* Of suffixes lo to hi, which share T codes more than D with the pattern, the first that
 * is not below it, or that is above all that begin with it. */
static unsigned deep_bound(const ft_leaf *leaf, const uint32_t *ids, size_t length, unsigned lo, unsigned hi, int upper)
{
    while (lo < hi) {
        const unsigned mid = lo + (hi - lo) / 2;
        size_t shared = leaf->shared + leaf->known;
        const int sign = compare(leaf, mid, ids, length, &shared);
        if (ft_codes_lacking(leaf->text)) {
            ask_for_halves(leaf, lo, hi, shared, STEPS_AHEAD);
            return lo;
        }
        if (sign < 0 || (upper && sign == 0))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void ft_leaf_around(const ft_leaf *leaf, const uint32_t *ids, size_t length, unsigned at, unsigned *lo, unsigned *hi)
{
    *lo = 0;
    *hi = leaf->count;
    if (length <= leaf->shared)
        return;
    const size_t depth = length - leaf->shared;
    const int told = depth <= leaf->known;
    const unsigned slot = told ? slot_of_depth(leaf->code_bits, depth) : FT_LEAF_DEEP;
    *lo = left_of(leaf, at, slot);
    *hi = right_of(leaf, at + 1, slot);
    if (told)
        return;
    *lo = deep_bound(leaf, ids, length, *lo, at, 0);
    *hi = deep_bound(leaf, ids, length, at + 1, *hi, 1);
}

/* --- Turns ------------------------------------------------------------------------------ */

unsigned ft_leaf_turns(const unsigned char *bytes, const ft_leaf_shape *shape, unsigned from, unsigned to, size_t depth,
                       unsigned char turns[FT_LEAF_RANKS])
{
    const uint64_t ones = 0x0101010101010101, highs = ones << 7;
    const unsigned shared = slots_at(bytes, shape, 0) & 127;
    if (depth < shared)
        return 0;
    const size_t more = depth + 1 - shared;
    const unsigned told = more <= known_codes(shape->code_bits, shared);
    const uint64_t least = told ? slot_of_depth(shape->code_bits, more) : FT_LEAF_DEEP + 1; /* no turn from it on */
    unsigned count = 0;
    for (unsigned i = from / 8; i * 8 < to; i++) {
        /* Eight comparisons at once: the high bit of each byte goes where the slot is below. */
        uint64_t below = least > FT_LEAF_DEEP ? highs : ~((slots_at(bytes, shape, i) | highs) - least * ones) & highs;
        for (; below; below &= below - 1) {
            const unsigned at = i * 8 + (unsigned)__builtin_ctzll(below) / 8;
            turns[count] = (unsigned char)at;
            count += at >= from && at < to;
        }
    }
    return count;
}
