/* Building the tree of separators. */
#include "index/ft_tree_node.h"

#include <stdlib.h>

enum { ENTRIES_MAX = FT_TREE_NODE / 9 };

/* The node that is being filled, and above level 0 the finished ones. */
struct ft_tree_level {
    ft_separator entry[ENTRIES_MAX];
    unsigned entries, common, cuts;
    unsigned tail_codes;            /* of all entries, with this many codes in common */
    uint64_t first_child, children; /* children: of all nodes so far, this one included */
    uint64_t nodes;                 /* finished */
    ft_buffer finished;
};

void ft_separator_make(ft_separator *out, ft_ranked first, const ft_codes *text)
{
    const unsigned shared = ft_ranked_shared(first);
    *out = (ft_separator){.cut = shared >= FT_TREE_CODES};
    out->position = out->cut ? ft_ranked_position(first) : 0;
    const unsigned most = out->cut ? FT_TREE_CODES : shared + 1;
    while (out->length < most) {
        const uint32_t code = ft_codes_get(text, ft_ranked_position(first) + out->length);
        out->codes[out->length++] = code;
        if (code == 0)
            break; /* equal suffixes end here */
    }
}

void ft_tree_builder_init(ft_tree_builder *b, const ft_leaf_shape *shape,
                          ft_code (*put)(void *context, const void *bytes, size_t n, ft_status *st), void *context)
{
    *b = (ft_tree_builder){
        .put = put, .context = context, .code_bits = shape->code_bits, .pointer_bits = shape->pointer_bits};
}

void ft_tree_builder_release(ft_tree_builder *b)
{
    for (unsigned i = 0; i < FT_TREE_LEVELS_MAX && b->level[i]; i++) {
        ft_buffer_release(&b->level[i]->finished);
        free(b->level[i]);
    }
    *b = (ft_tree_builder){0};
}

/* --- One node -------------------------------------------------------------------------- */

static unsigned common_codes(const ft_separator *a, const ft_separator *b, unsigned most)
{
    unsigned i = 0;
    while (i < most && i < a->length && i < b->length && a->codes[i] == b->codes[i])
        i++;
    return i;
}

static unsigned tail_of(const ft_separator *s, unsigned before)
{
    return s->length > before ? s->length - before : 0;
}

/* 1 when the entry found room. */
static int take(ft_tree_level *v, const ft_separator *s, const ft_tree_builder *b)
{
    const unsigned per_head = ft_tree_per_head(b->code_bits), cuts = v->cuts + s->cut;
    unsigned common = v->entries ? common_codes(&v->entry[0], s, v->common) : s->length;
    if (common < FT_TREE_CODES && common > FT_TREE_CODES - per_head)
        common = FT_TREE_CODES - per_head;
    unsigned tails = v->tail_codes;
    if (common != v->common) {
        tails = 0;
        for (unsigned i = 0; i < v->entries; i++)
            tails += tail_of(&v->entry[i], common + per_head);
    }
    tails += tail_of(s, common + per_head);
    if (v->entries == ENTRIES_MAX ||
        ft_tree_node_tails_at(common, v->entries + 1, cuts, b->pointer_bits) + (tails * b->code_bits + 7) / 8 >
            FT_TREE_NODE)
        return 0;
    v->entry[v->entries++] = *s;
    v->common = common;
    v->cuts = cuts;
    v->tail_codes = tails;
    return 1;
}

/* Sets bits [*bit, *bit + bits), which are 0. */
static void put_bits(unsigned char *to, size_t *bit, uint64_t value, unsigned bits)
{
    for (unsigned j = 0; j < bits; j++, ++*bit)
        to[*bit / 8] |= (unsigned char)((value >> j & 1) << *bit % 8);
}

static void encode(const ft_tree_level *v, const ft_tree_builder *b, unsigned char out[FT_TREE_NODE])
{
    const unsigned bits = b->code_bits, per_head = ft_tree_per_head(bits), before = v->common + per_head;
    const ft_tree_node_head head = {.first_child = v->first_child,
                                    .count = (uint16_t)v->entries,
                                    .common = (uint16_t)v->common,
                                    .cuts = (uint16_t)v->cuts};
    memset(out, 0, FT_TREE_NODE);
    memcpy(out, &head, sizeof(head));
    memcpy(out + sizeof(head), v->entry[0].codes, v->common * sizeof(v->entry[0].codes[0]));
    unsigned char *heads = out + ft_tree_node_heads_at(v->common);
    unsigned char *info = out + ft_tree_node_info_at(v->common, v->entries), *positions = info + v->entries,
                  *tails = out + ft_tree_node_tails_at(v->common, v->entries, v->cuts, b->pointer_bits);
    size_t position_bit = 0, tail_bit = 0;
    for (unsigned i = 0; i < v->entries; i++) {
        const ft_separator *s = &v->entry[i];
        uint64_t number = 0;
        for (unsigned k = v->common; k < before; k++)
            number = number << bits | (k < s->length ? s->codes[k] : 0);
        memcpy(heads + (size_t)i * 8, &number, sizeof(number));
        info[i] = (unsigned char)(s->length | (s->cut ? FT_TREE_CUT : 0));
        if (s->cut)
            put_bits(positions, &position_bit, s->position, b->pointer_bits);
        for (unsigned k = before; k < s->length; k++)
            put_bits(tails, &tail_bit, s->codes[k], bits);
    }
}

/* --- All levels ------------------------------------------------------------------------------ */

static ft_code add(ft_tree_builder *b, unsigned level, const ft_separator *s, ft_status *st);

static ft_code finish_node(ft_tree_builder *b, unsigned level, ft_status *st)
{
    ft_tree_level *v = b->level[level];
    unsigned char bytes[FT_TREE_NODE];
    encode(v, b, bytes);
    ft_code rc =
        level ? ft_buffer_append(&v->finished, bytes, sizeof(bytes), st) : b->put(b->context, bytes, sizeof(bytes), st);
    v->nodes++;
    if (!rc)
        rc = add(b, level + 1, &v->entry[0], st);
    v->first_child = v->children;
    v->entries = v->common = v->cuts = v->tail_codes = 0;
    return rc;
}

static ft_code add(ft_tree_builder *b, unsigned level, const ft_separator *s, ft_status *st)
{
    if (level == FT_TREE_LEVELS_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "the index's tree has more than %d levels", FT_TREE_LEVELS_MAX);
    if (!b->level[level])
        b->level[level] = calloc(1, sizeof(*b->level[level]));
    ft_tree_level *v = b->level[level];
    if (!v)
        return ft_fail(st, FT_ERR_MEM, "the index's tree: out of memory");
    if (!take(v, s, b)) {
        ft_code rc = finish_node(b, level, st);
        if (rc)
            return rc;
        (void)take(v, s, b); /* an empty node has room */
    }
    v->children++;
    return FT_OK;
}

ft_code ft_tree_builder_add(ft_tree_builder *b, const ft_separator *s, ft_status *st)
{
    static const ft_separator empty;
    return add(b, 0, b->leaves++ ? s : &empty, st);
}

ft_code ft_tree_builder_finish(ft_tree_builder *b, uint64_t *bytes, ft_status *st)
{
    union {
        ft_tree_table table;
        unsigned char page[FT_TREE_NODE];
    } last = {.page = {0}};
    ft_code rc = FT_OK;
    unsigned level = 0;
    /* The last node of a level goes out; where it is the only one, it is the root. */
    for (;; level++) {
        ft_tree_level *v = b->level[level];
        if (v->nodes == 0) {
            encode(v, b, last.page);
            rc = level ? ft_buffer_append(&v->finished, last.page, FT_TREE_NODE, st)
                       : b->put(b->context, last.page, FT_TREE_NODE, st);
            v->nodes = 1;
            break;
        }
        rc = finish_node(b, level, st);
        if (rc)
            return rc;
    }
    memset(last.page, 0, sizeof(last.page));
    last.table.levels = level + 1;
    last.table.leaves = b->leaves;
    *bytes = FT_TREE_NODE;
    for (unsigned i = 0; i <= level && !rc; i++) {
        ft_tree_level *v = b->level[i];
        last.table.nodes[i] = v->nodes;
        *bytes += v->nodes * FT_TREE_NODE;
        if (i)
            rc = b->put(b->context, v->finished.data, v->finished.size, st);
    }
    return rc ? rc : b->put(b->context, &last, sizeof(last), st);
}
