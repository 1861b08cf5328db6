/* Routing as bytes: a header and one frame; docs/store.md draws them.
 *
 * Rounded, a place (one token in one layer) takes the number of its set among all sets of k experts, and a byte for
 * each one's weight, in order of the experts: of 7 experts with k = 5 that is 5 + 40 bits. Where a place has an expert
 * twice, which no model gives, the ids are written one by one.
 * Source  Knuth, The Art of Computer Programming 4A, 7.2.1.3, Theorem L: the number of a combination. */
#include "base/ft_buffer.h"
#include "tracer/store_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x32525446 /* "FTR2"; schema 1 has four zero bytes there */ };
typedef enum layout { LAYOUT_IDS, LAYOUT_SETS, LAYOUT_EXACT, LAYOUT_PROBABILITIES } layout;

typedef struct routing_header {
    uint32_t tokens, magic, layers;
    uint16_t experts;
    uint8_t top_k, layout;
} routing_header;
_Static_assert(sizeof(routing_header) == 16, "as docs/store.md draws it");

typedef struct old_header { /* schema 1; its content is LAYOUT_EXACT */
    uint64_t tokens, layers, experts, top_k;
} old_header;
_Static_assert(sizeof(old_header) == 32, "as docs/store.md draws it");

/* What a content of some layout is made of. */
typedef struct sizes {
    size_t places, chosen, probabilities; /* tokens × layers, × top_k, × experts */
    unsigned id_bits, set_bits;
    size_t bit_bytes, content;
} sizes;

ft_code ft_routing_form_read(const char *name, ft_routing_form *out, ft_status *st)
{
    for (ft_routing_form f = FT_ROUTING_ROUNDED; f <= FT_ROUTING_PROBABILITIES; f++)
        if (!strcmp(name, ft_routing_form_name(f))) {
            *out = f;
            return FT_OK;
        }
    return ft_fail(st, FT_ERR_ARG, "routing is kept 'rounded', 'exact' or with its 'probabilities', not '%.40s'", name);
}

const char *ft_routing_form_name(ft_routing_form form)
{
    static const char *const names[] = {"rounded", "exact", "probabilities"};
    return names[form];
}

void ft_stored_routing_release(ft_stored_routing *r)
{
    if (!r)
        return;
    free(r->memory);
    memset(r, 0, sizeof(*r));
}

/* Sets of k out of n; n at most 64, so that it fits. */
static uint64_t sets_of(unsigned n, unsigned k)
{
    uint64_t c = 1;
    if (k > n)
        return 0;
    for (unsigned i = 1; i <= k; i++) { /* c * (n - k + i) / i, without passing 2^64 */
        const uint64_t whole = c / i, rest = c % i;
        c = whole * (n - k + i) + rest * (n - k + i) / i;
    }
    return c;
}

static ft_code measure(const routing_header *h, sizes *out, const char *id, ft_status *st)
{
    sizes z = {0};
    while ((1U << z.id_bits) < h->experts)
        z.id_bits++;
    size_t count, rest = 0;
    int bad = h->experts > FT_MAX_EXPERTS || h->top_k > FT_MAX_EXPERTS || h->layout > LAYOUT_PROBABILITIES;
    bad = bad || ft_size_mul(h->tokens, h->layers, &z.places, NULL) ||
          ft_size_mul(z.places, h->top_k, &z.chosen, NULL) || ft_size_mul(z.places, h->experts, &z.probabilities, NULL);
    for (uint64_t sets = bad ? 0 : sets_of(h->experts, h->top_k);
         z.set_bits < 64 && (UINT64_C(1) << z.set_bits) < sets;)
        z.set_bits++;
    const unsigned bits = h->layout == LAYOUT_SETS ? z.set_bits : z.id_bits;
    count = h->layout == LAYOUT_SETS ? z.places : z.chosen;
    if (!bad && h->layout <= LAYOUT_SETS) {
        bad = ft_size_mul(count, bits ? bits : 1, &rest, NULL) || ft_size_add(rest, 7, &rest, NULL);
        z.bit_bytes = bits ? rest / 8 : 0;
        bad = bad || ft_size_add(z.bit_bytes, z.chosen, &z.content, NULL);
    } else if (!bad) {
        bad = ft_size_mul(z.chosen, 5, &z.content, NULL) || ft_size_mul(z.probabilities, 4, &rest, NULL) ||
              (h->layout == LAYOUT_PROBABILITIES && ft_size_add(z.content, rest, &z.content, NULL));
    }
    *out = z;
    return bad ? ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored routing says an impossible size", id) : FT_OK;
}

/* --- Bits, lowest first ---------------------------------------------------------------------------- */

/* Numbers of a few bits, one behind the other, eight bytes at a time. */
typedef struct bit_writer {
    unsigned char *to;
    uint64_t word;
    unsigned filled; /* bits of `word`; fewer than 64 */
} bit_writer;

/* `value` < 2^bits, bits <= 64. */
static inline void put_bits(bit_writer *w, unsigned bits, uint64_t value)
{
    w->word |= value << w->filled;
    if (w->filled + bits < 64) {
        w->filled += bits;
        return;
    }
    memcpy(w->to, &w->word, sizeof(w->word));
    w->to += sizeof(w->word);
    const unsigned written = 64 - w->filled; /* 1 ... 64 */
    w->word = written < 64 ? value >> written : 0;
    w->filled = bits - written;
}

static void finish_bits(const bit_writer *w)
{
    memcpy(w->to, &w->word, (w->filled + 7) / 8);
}

static uint64_t get_bits(const unsigned char *from, size_t at, unsigned bits)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bits; i++, at++)
        value |= (uint64_t)(from[at / 8] >> at % 8 & 1) << i;
    return value;
}

/* --- Floats as four planes: sign and exponent stand together, and compress --------------------------- */

static void put_planes(unsigned char *to, const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        for (unsigned plane = 0; plane < 4; plane++)
            to[n * plane + i] = (unsigned char)(bits >> (24 - 8 * plane));
    }
}

static void get_planes(float *values, const unsigned char *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        for (unsigned plane = 0; plane < 4; plane++)
            bits = bits << 8 | from[n * plane + i];
        memcpy(&values[i], &bits, sizeof(bits));
    }
}

/* --- Packing ------------------------------------------------------------------------------------------ */

/* What rounding needs: weights in [0, 1], and experts that the model has. Two loops without branches: the compiler takes
 * many at once, of one width each. */
static int can_round(const ft_routing *r, size_t chosen)
{
    int bad = 0;
    uint8_t highest = 0;
    for (size_t i = 0; i < chosen; i++)
        bad |= !(r->weights[i] >= 0) | !(r->weights[i] <= 1);
    for (size_t i = 0; i < chosen; i++)
        highest = r->expert_ids[i] > highest ? r->expert_ids[i] : highest;
    return !bad && (!chosen || highest < r->experts);
}

/* To the nearest of 0 ... 255, half to even; weight in [0, 1]. Added to 1.5 * 2^23, a number's whole part stands in the
 * lowest bits. */
static inline unsigned char rounded(float weight)
{
    const float shifted = weight * 255 + 12582912.0F;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof(bits));
    return (unsigned char)bits;
}

/* Binomials [n][k], filled once for a routing. */
typedef struct binomials {
    uint64_t of[FT_MAX_EXPERTS + 1][FT_MAX_EXPERTS + 1];
} binomials;

static binomials *binomials_new(const routing_header *h)
{
    binomials *b = calloc(1, sizeof(*b));
    for (unsigned n = 0; b && n <= h->experts; n++)
        for (unsigned k = 0; k <= h->top_k; k++)
            b->of[n][k] = sets_of(n, k);
    return b;
}

/* Of few experts, all sets have their number and their size in a table, by their bits. */
enum { FEW_EXPERTS = 12 };
typedef struct few_sets {
    uint16_t number[1 << FEW_EXPERTS];
    uint8_t size[1 << FEW_EXPERTS];
} few_sets;

static few_sets *few_sets_new(const routing_header *h, const binomials *b)
{
    few_sets *f = malloc(sizeof(*f));
    if (!f)
        return NULL;
    f->number[0] = f->size[0] = 0;
    for (unsigned e = 0; e < h->experts; e++) /* e is the highest expert of these */
        for (unsigned set = 1U << e; set < 2U << e; set++) {
            const unsigned rest = set - (1U << e);
            f->size[set] = (uint8_t)(f->size[rest] + 1);
            f->number[set] = (uint16_t)(f->number[rest] + (f->size[set] <= h->top_k ? b->of[e][f->size[set]] : 0));
        }
    return f;
}

/* As pack_sets, which says what comes out; inlined for the k that models have, so that a place is no loop. */
static inline int pack_few(unsigned char *to, const ft_routing *r, const sizes *z, const few_sets *f, const size_t k)
{
    const uint8_t *ids = r->expert_ids;
    const float *weights = r->weights;
    unsigned char *out = to + z->bit_bytes;
    bit_writer bits = {.to = to};
    for (size_t p = 0; p < z->places; p++, ids += k, weights += k, out += k) {
        unsigned set = 0;
        for (size_t i = 0; i < k; i++)
            set |= 1U << ids[i];
        if (f->size[set] != k)
            return 0;
        for (size_t i = 0; i < k; i++) /* behind those of lower experts */
            out[f->size[set & ((1U << ids[i]) - 1)]] = rounded(weights[i]);
        put_bits(&bits, z->set_bits, f->number[set]);
    }
    finish_bits(&bits);
    return 1;
}

static int pack_few_sets(unsigned char *to, const ft_routing *r, const sizes *z, const few_sets *f)
{
    switch (r->top_k) {
    case 1:
        return pack_few(to, r, z, f, 1);
    case 2:
        return pack_few(to, r, z, f, 2);
    case 4:
        return pack_few(to, r, z, f, 4);
    case 5:
        return pack_few(to, r, z, f, 5);
    default:
        return pack_few(to, r, z, f, r->top_k);
    }
}

/* 0 where a place has an expert twice. */
static int pack_sets(unsigned char *to, const ft_routing *r, const sizes *z, const binomials *b)
{
    unsigned char *weights = to + z->bit_bytes;
    bit_writer bits = {.to = to};
    for (size_t p = 0; p < z->places; p++) {
        float by_expert[FT_MAX_EXPERTS];
        uint64_t set = 0, number = 0;
        unsigned n = 0;
        for (size_t k = 0; k < r->top_k; k++) {
            const uint8_t e = r->expert_ids[p * r->top_k + k];
            set |= UINT64_C(1) << e;
            by_expert[e] = r->weights[p * r->top_k + k];
        }
        if ((size_t)__builtin_popcountll(set) != r->top_k)
            return 0;
        for (; set; set &= set - 1) {
            const unsigned e = (unsigned)__builtin_ctzll(set);
            number += b->of[e][++n];
            *weights++ = rounded(by_expert[e]);
        }
        put_bits(&bits, z->set_bits, number);
    }
    finish_bits(&bits);
    return 1;
}

static void pack_ids(unsigned char *to, const ft_routing *r, const sizes *z)
{
    bit_writer bits = {.to = to};
    for (size_t i = 0; i < z->chosen; i++) {
        put_bits(&bits, z->id_bits, r->expert_ids[i]);
        to[z->bit_bytes + i] = rounded(r->weights[i]);
    }
    finish_bits(&bits);
}

static void pack_exact(unsigned char *to, const ft_routing *r, const sizes *z, int probabilities)
{
    if (z->chosen)
        memcpy(to, r->expert_ids, z->chosen);
    put_planes(to + z->chosen, r->weights, z->chosen);
    if (probabilities)
        put_planes(to + 5 * z->chosen, r->probs, z->probabilities);
}

/* Sets, until a place turns out to have an expert twice. */
static layout choose_layout(const ft_routing *r, ft_routing_form form, const sizes *z)
{
    if (form == FT_ROUTING_PROBABILITIES && r->probs)
        return LAYOUT_PROBABILITIES;
    return form == FT_ROUTING_ROUNDED && can_round(r, z->chosen) ? LAYOUT_SETS : LAYOUT_EXACT;
}

static ft_code no_room(const ft_routing *r, ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "store: no room for the routing of %zu tokens", r->tokens);
}

/* *packed is 0 where a place has an expert twice. */
static ft_code pack_as_sets(unsigned char *to, const routing_header *h, const ft_routing *r, const sizes *z,
                            int *packed, ft_status *st)
{
    binomials *b = binomials_new(h);
    few_sets *few = b && h->experts <= FEW_EXPERTS ? few_sets_new(h, b) : NULL;
    const int room = b && (few || h->experts > FEW_EXPERTS);
    *packed = room && (few ? pack_few_sets(to, r, z, few) : pack_sets(to, r, z, b));
    free(few);
    free(b);
    return room ? FT_OK : no_room(r, st);
}

/* Sets, exact values or, where neither goes, ids: the layout that it was is left in the header. */
static ft_code pack_content(unsigned char **out, routing_header *h, sizes *z, const ft_routing *r, ft_status *st)
{
    int packed = 1;
    unsigned char *bytes = ft_alloc_array(z->content, 1);
    ft_code rc = bytes ? FT_OK : no_room(r, st);
    if (!rc && h->layout == LAYOUT_SETS)
        rc = pack_as_sets(bytes, h, r, z, &packed, st);
    else if (!rc)
        pack_exact(bytes, r, z, h->layout == LAYOUT_PROBABILITIES);
    if (!rc && !packed) {
        free(bytes);
        bytes = NULL;
        h->layout = LAYOUT_IDS;
        rc = measure(h, z, "new", st);
        bytes = rc ? NULL : ft_alloc_array(z->content, 1);
        if (bytes)
            pack_ids(bytes, r, z);
        else if (!rc)
            rc = no_room(r, st);
    }
    *out = bytes;
    return rc;
}

ft_code pack_routing(packer *p, ft_buffer *out, const ft_routing *r, ft_routing_form form, ft_status *st)
{
    if (r->tokens > UINT32_MAX || r->layers > UINT32_MAX || r->experts > FT_MAX_EXPERTS || r->top_k > FT_MAX_EXPERTS)
        return ft_fail(st, FT_ERR_ARG, "store: routing of %zu tokens, %zu layers, %zu experts cannot be kept",
                       r->tokens, r->layers, r->experts);
    routing_header h = {(uint32_t)r->tokens, MAGIC,       (uint32_t)r->layers, (uint16_t)r->experts,
                        (uint8_t)r->top_k,   LAYOUT_EXACT};
    sizes z;
    ft_code rc = measure(&h, &z, "new", st);
    if (rc)
        return rc;
    h.layout = (uint8_t)choose_layout(r, form, &z);
    unsigned char *bytes = NULL;
    rc = measure(&h, &z, "new", st);
    if (!rc)
        rc = pack_content(&bytes, &h, &z, r, st);
    if (!rc)
        rc = ft_buffer_append(out, &h, sizeof(h), st);
    if (!rc)
        rc = frame_append(p, out, bytes, z.content, st);
    free(bytes);
    return rc;
}

/* --- Unpacking ------------------------------------------------------------------------------------------- */

/* One more expert of a place, whose `n` first stand by falling weight, then by number. */
static void sort_in(uint8_t *ids, float *weights, unsigned n, uint8_t id, float weight)
{
    unsigned at = n;
    for (; at > 0 && weights[at - 1] < weight; at--) {
        weights[at] = weights[at - 1];
        ids[at] = ids[at - 1];
    }
    weights[at] = weight;
    ids[at] = id;
}

static int unpack_sets(uint8_t *ids, float *weights, const unsigned char *from, const routing_header *h, const sizes *z,
                       const binomials *b)
{
    for (size_t p = 0; p < z->places; p++) {
        const unsigned char *bytes = from + z->bit_bytes + p * h->top_k;
        uint8_t set[FT_MAX_EXPERTS];
        uint64_t number = get_bits(from, p * z->set_bits, z->set_bits);
        unsigned e = h->experts;
        if (number >= b->of[h->experts][h->top_k])
            return 0;
        for (unsigned k = h->top_k; k > 0; k--) { /* the greatest e with C(e, k) <= number */
            do
                e--;
            while (b->of[e][k] > number);
            number -= b->of[e][k];
            set[k - 1] = (uint8_t)e;
        }
        for (unsigned k = 0; k < h->top_k; k++)
            sort_in(ids + p * h->top_k, weights + p * h->top_k, k, set[k], (float)bytes[k] / 255);
    }
    return 1;
}

static int unpack_ids(uint8_t *ids, float *weights, const unsigned char *from, const routing_header *h, const sizes *z)
{
    for (size_t i = 0; i < z->chosen; i++) {
        ids[i] = (uint8_t)get_bits(from, i * z->id_bits, z->id_bits);
        weights[i] = (float)from[z->bit_bytes + i] / 255;
        if (ids[i] >= h->experts)
            return 0;
    }
    return 1;
}

static ft_code place(ft_stored_routing *out, const routing_header *h, const sizes *z, const unsigned char *bytes,
                     const char *id, ft_status *st)
{
    const size_t probabilities = h->layout == LAYOUT_PROBABILITIES ? z->probabilities : 0;
    size_t floats, room;
    if (ft_size_add(z->chosen, probabilities, &floats, st) || ft_size_mul(floats, sizeof(float), &room, st) ||
        ft_size_add(room, z->chosen + 1, &room, st))
        return FT_ERR_LIMIT;
    float *weights = malloc(room);
    if (!weights)
        return ft_fail(st, FT_ERR_MEM, "trace %s: no room for the routing", id);
    uint8_t *ids = (uint8_t *)(weights + floats);
    binomials *b = h->layout == LAYOUT_SETS ? binomials_new(h) : NULL;
    int good = 1;
    if (h->layout == LAYOUT_SETS && !b) {
        free(weights);
        return ft_fail(st, FT_ERR_MEM, "trace %s: no room for the routing", id);
    }
    if (b) {
        good = unpack_sets(ids, weights, bytes, h, z, b);
        free(b);
    } else if (h->layout == LAYOUT_IDS) {
        good = unpack_ids(ids, weights, bytes, h, z);
    } else {
        if (z->chosen)
            memcpy(ids, bytes, z->chosen);
        get_planes(weights, bytes + z->chosen, z->chosen);
        get_planes(weights + z->chosen, bytes + 5 * z->chosen, probabilities);
    }
    if (!good) {
        free(weights);
        return ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored routing names experts that there are not", id);
    }
    *out = (ft_stored_routing){.memory = weights,
                               .form = h->layout <= LAYOUT_SETS ? FT_ROUTING_ROUNDED
                                       : probabilities          ? FT_ROUTING_PROBABILITIES
                                                                : FT_ROUTING_EXACT,
                               .view = {.tokens = h->tokens,
                                        .layers = h->layers,
                                        .experts = h->experts,
                                        .top_k = h->top_k,
                                        .probs = probabilities ? weights + z->chosen : NULL,
                                        .expert_ids = ids,
                                        .weights = weights}};
    return FT_OK;
}

/* The header, of this schema or of the first, and how long it is; 0: neither. */
static size_t read_header(routing_header *h, const void *bytes, size_t n)
{
    old_header old;
    if (n < sizeof(*h))
        return 0;
    memcpy(h, bytes, sizeof(*h));
    if (h->magic == MAGIC)
        return sizeof(*h);
    if (h->magic || n < sizeof(old))
        return 0;
    memcpy(&old, bytes, sizeof(old));
    if (old.tokens > UINT32_MAX || old.layers > UINT32_MAX || old.experts > FT_MAX_EXPERTS ||
        old.top_k > FT_MAX_EXPERTS)
        return 0;
    *h = (routing_header){(uint32_t)old.tokens, MAGIC,       (uint32_t)old.layers, (uint16_t)old.experts,
                          (uint8_t)old.top_k,   LAYOUT_EXACT};
    return sizeof(old);
}

ft_code unpack_routing(packer *p, ft_stored_routing *out, const void *bytes, size_t n, const char *id, ft_status *st)
{
    routing_header h;
    ft_buffer content = {0};
    sizes z;
    memset(out, 0, sizeof(*out));
    const size_t skip = read_header(&h, bytes, n);
    if (!skip)
        return ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored routing is damaged", id);
    ft_code rc = measure(&h, &z, id, st);
    if (!rc)
        rc = frame_read(p, &content, (const char *)bytes + skip, n - skip, id, st);
    if (!rc && content.size != z.content)
        rc = ft_fail(st, FT_ERR_FORMAT, "trace %s: its stored routing does not have the size that it says", id);
    if (!rc)
        rc = place(out, &h, &z, (const unsigned char *)content.data, id, st);
    ft_buffer_release(&content);
    return rc;
}
