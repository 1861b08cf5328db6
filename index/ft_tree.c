/* Searching the tree of separators. */
#include "index/ft_tree.h"

#include "index/ft_tree_node.h"

enum {
    STEPS_AHEAD = 4,       /* of halving, whose texts are asked for together; then one more: a node holds 2^9 at most */
    CHILDREN_BYTES = 16384 /* most that is asked for before it is known which child it is */
};

/* --- Opening --------------------------------------------------------------------------- */

static ft_code damaged(const ft_section *section, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s: its levels do not agree with its size; damaged", section->path);
}

ft_code ft_tree_open(ft_tree *out, const ft_section *section, const unsigned char *suffixes, const ft_leaf_shape *shape,
                     const ft_codes *text, ft_status *st)
{
    const uint64_t leaves = ft_leaf_count(text->count), bytes = section->payload_bytes;
    *out = (ft_tree){.nodes = section->payload,
                     .code_bits = text->bits,
                     .leaves = leaves,
                     .suffixes = suffixes,
                     .shape = shape,
                     .text = text};
    if (bytes < 2 * FT_TREE_NODE || bytes % FT_TREE_NODE)
        return damaged(section, st);
    ft_code rc = ft_section_check_range(section, bytes - FT_TREE_NODE, bytes, st);
    if (rc)
        return rc;
    ft_tree_table table;
    memcpy(&table, section->payload + bytes - FT_TREE_NODE, sizeof(table));
    if (table.levels < 1 || table.levels > FT_TREE_LEVELS_MAX || table.leaves != leaves)
        return damaged(section, st);
    uint64_t nodes = 0, below = leaves;
    for (unsigned i = 0; i < table.levels; i++) {
        if (table.nodes[i] < 1 || table.nodes[i] > below || table.nodes[i] > bytes / FT_TREE_NODE)
            return damaged(section, st);
        out->start[i] = nodes;
        out->count[i] = below = table.nodes[i];
        nodes += below;
    }
    if (below != 1 || nodes != bytes / FT_TREE_NODE - 1)
        return damaged(section, st);
    out->levels = (unsigned)table.levels;
    const uint64_t upper = out->count[0] * FT_TREE_NODE, end = nodes * FT_TREE_NODE;
    return end - upper <= FT_TREE_RESIDENT ? ft_section_check_range(section, upper, end, st) : FT_OK;
}

/* --- One node ---------------------------------------------------------------------------- */

typedef struct node {
    const unsigned char *bytes;
    uint64_t first_child;
    unsigned count, common, cuts;
    const unsigned char *info, *tails; /* between them the positions of cut entries */
} node;

/* Numbers that would lead out of the node make it empty. */
static node node_at(const ft_tree *t, unsigned level, uint64_t number)
{
    node v = {.bytes = t->nodes + (t->start[level] + number) * FT_TREE_NODE};
    ft_tree_node_head head;
    memcpy(&head, v.bytes, sizeof(head));
    v.first_child = head.first_child;
    v.info = v.tails = v.bytes; /* of no entry */
    if (head.common > FT_TREE_CODES || head.count > FT_TREE_NODE / 9 || head.cuts > head.count ||
        ft_tree_node_tails_at(head.common, head.count, head.cuts, t->shape->pointer_bits) > FT_TREE_NODE)
        return v;
    v.count = head.count;
    v.common = head.common;
    v.cuts = head.cuts;
    v.info = v.bytes + ft_tree_node_info_at(v.common, v.count);
    v.tails = v.bytes + ft_tree_node_tails_at(v.common, v.count, v.cuts, t->shape->pointer_bits);
    return v;
}

static uint64_t head_of(const node *v, unsigned entry)
{
    uint64_t head;
    memcpy(&head, v->bytes + ft_tree_node_heads_at(v->common) + entry * sizeof(head), sizeof(head));
    return head;
}

/* Codes that stand in an entry's tail. */
static unsigned tail_codes(const node *v, unsigned entry, unsigned per_head)
{
    const unsigned length = v->info[entry] & FT_TREE_LENGTH, before = v->common + per_head;
    return length > before ? length - before : 0;
}

/* The next `count` codes as one number; behind the pattern's end zeros, or ones. */
static uint64_t pattern_head(const uint32_t *ids, size_t length, unsigned from, unsigned count, unsigned bits,
                             int upper)
{
    uint64_t head = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint64_t code = from + i < length ? ids[from + i] + 1 : upper ? ((uint64_t)1 << bits) - 1 : 0;
        head = head << (bits % 64) | code;
    }
    return head;
}

static unsigned first_head(const node *v, uint64_t head) /* not below it */
{
    unsigned lo = 0, count = v->count;
    while (count) {
        const unsigned half = count / 2;
        const int below = head_of(v, lo + half) < head;
        lo = below ? lo + half + 1 : lo;
        count = below ? count - half - 1 : half;
    }
    return lo;
}

typedef enum side { BELOW, ABOVE, GOES_ON } side; /* the separator; GOES_ON: only the text tells */

/* An entry whose head is the pattern's; its tail begins at code `tail` of the tails. */
static side side_of(const ft_tree *t, const node *v, unsigned entry, unsigned tail, const uint32_t *ids, size_t length,
                    int upper)
{
    const unsigned per_head = ft_tree_per_head(t->code_bits), before = v->common + per_head;
    const unsigned codes = tail_codes(v, entry, per_head), cut = v->info[entry] & FT_TREE_CUT;
    const unsigned entry_length = v->info[entry] & FT_TREE_LENGTH;
    if (length < before || (length == before && codes == 0)) {
        /* Heads are padded: equal ones hold the pattern, perhaps with an end behind it. */
        return upper || (entry_length == length && !cut) ? BELOW : ABOVE;
    }
    for (unsigned i = 0; i < codes; i++) {
        if (before + i == length)
            return upper ? BELOW : ABOVE; /* it begins with the pattern */
        const uint64_t bit = (uint64_t)(tail + i) * t->code_bits;
        const unsigned char *last = v->bytes + FT_TREE_NODE;
        const uint32_t code = v->tails + bit / 8 < last ? (uint32_t)ft_packed_get(v->tails, t->code_bits, tail + i) : 0;
        if (code != ids[before + i] + 1)
            return code < ids[before + i] + 1 ? BELOW : ABOVE;
    }
    if (!cut)
        return BELOW; /* the pattern begins with it */
    return before + codes < length ? GOES_ON : upper ? BELOW : ABOVE;
}

/* Entries that are not above the pattern, or all that begins with it; and, behind
 * them, up to *open, those that are cut where the pattern goes on. */
static unsigned count_below(const ft_tree *t, const node *v, const uint32_t *ids, size_t length, int upper,
                            unsigned *open)
{
    const unsigned per_head = ft_tree_per_head(t->code_bits);
    *open = 0;
    for (unsigned i = 0; i < v->common; i++) {
        uint32_t code;
        memcpy(&code, v->bytes + sizeof(ft_tree_node_head) + i * sizeof(code), sizeof(code));
        if (i == length)
            return *open = upper ? v->count : 0;
        if (ids[i] + 1 != code)
            return *open = ids[i] + 1 < code ? 0 : v->count;
    }
    if (v->common == FT_TREE_CODES) {
        const unsigned whole = v->count && !(v->info[0] & FT_TREE_CUT); /* only the first may not be cut */
        *open = length > v->common || upper ? v->count : whole;
        return length == v->common && upper ? v->count : whole;
    }
    const uint64_t head = pattern_head(ids, length, v->common, per_head, t->code_bits, upper);
    unsigned at = first_head(v, head), tail = 0;
    if (at == v->count || head_of(v, at) != head)
        return *open = at;
    for (unsigned i = 0; i < at; i++)
        tail += tail_codes(v, i, per_head);
    side s = BELOW;
    for (; at < v->count && head_of(v, at) == head; at++) {
        s = side_of(t, v, at, tail, ids, length, upper);
        if (s != BELOW)
            break;
        tail += tail_codes(v, at, per_head);
    }
    *open = at;
    for (; s == GOES_ON && *open < v->count && head_of(v, *open) == head; ++*open) {
        s = side_of(t, v, *open, tail, ids, length, upper);
        if (s != GOES_ON)
            break;
        tail += tail_codes(v, *open, per_head);
    }
    return at;
}

/* --- Descending ---------------------------------------------------------------------------- */

uint64_t ft_tree_first_leaf(const ft_tree *t, unsigned level, uint64_t child)
{
    struct ft_fetch *f = t->text->watch;
    for (; level > 0; level--) {
        if (child >= t->count[level - 1] ||
            (f && ft_fetch_lacks(f, ft_tree_node(t, level - 1, child), sizeof(ft_tree_node_head))))
            return 0; /* damaged, or not there yet */
        child = node_at(t, level - 1, child).first_child;
    }
    return child;
}

/* Entries [from, to) of a node, all cut where the pattern goes on. `first` of the node's cut entries stand before it.
 */
typedef struct cut_run {
    const ft_tree *t;
    const node *v;
    unsigned from, to, first;
} cut_run;

static cut_run cut_run_of(const ft_tree *t, const node *v, unsigned from, unsigned to)
{
    cut_run r = {t, v, from, to, 0};
    for (unsigned i = 0; i < from; i++)
        r.first += (v->info[i] & FT_TREE_CUT) != 0;
    return r;
}

static uint64_t position_at(const cut_run *r, unsigned entry)
{
    const unsigned cut = r->first + (entry - r->from);
    return cut < r->v->cuts ? ft_packed_get(r->v->info + r->v->count, r->t->shape->pointer_bits, cut)
                            : r->t->text->count; /* damaged */
}

/* Rehearsing: the texts at which halving of entries [from, to) will look next. */
static void ask_for_halves(const cut_run *r, unsigned from, unsigned to, unsigned steps)
{
    if (from >= to || steps == 0)
        return;
    const unsigned mid = from + (to - from) / 2;
    (void)ft_codes_lack(r->t->text, position_at(r, mid));
    ask_for_halves(r, from, mid, steps - 1);
    ask_for_halves(r, mid + 1, to, steps - 1);
}

/* Rehearsing: it will be one of these children; the step down that follows reads it. */
static void ask_for_children(const cut_run *r, unsigned level, unsigned from, unsigned to)
{
    const ft_tree *t = r->t;
    const uint64_t first = r->v->first_child + from - (from > 0), children = to - from + (from > 0),
                   below = level ? t->count[level - 1] : t->leaves;
    const size_t bytes = level ? FT_TREE_NODE : t->shape->bytes;
    if (children * bytes <= CHILDREN_BYTES && first < below && children <= below - first)
        ft_fetch_ask(t->text->watch, level ? ft_tree_node(t, level - 1, first) : t->suffixes + first * bytes,
                     (size_t)children * bytes);
}

/* Those of the run whose text is below the pattern. */
static unsigned look_at_texts(const cut_run *r, unsigned level, const uint32_t *ids, size_t length, int upper,
                              ft_descent *d)
{
    const ft_codes *text = r->t->text;
    unsigned from = r->from, to = r->to;
    while (from < to) {
        const unsigned mid = from + (to - from) / 2;
        size_t shared = 0;
        const int sign = ft_codes_compare(text, position_at(r, mid), ids, length, &shared);
        if (ft_codes_lacking(text)) {
            ask_for_halves(r, from, to, to - from == r->to - r->from ? STEPS_AHEAD : STEPS_AHEAD + 1);
            ask_for_children(r, level, from, to);
            return from;
        }
        if (shared > d->shared) {
            d->shared = shared;
            d->shared_level = level;
            d->shared_child = r->v->first_child + mid;
        }
        if (sign < 0 || (upper && sign == 0))
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

void ft_tree_step(const ft_tree *t, unsigned level, const uint32_t *ids, size_t length, int upper, ft_descent *d)
{
    if (t->text->watch && ft_fetch_lacks(t->text->watch, ft_tree_node(t, level, d->leaf), FT_TREE_NODE))
        return;
    const node v = node_at(t, level, d->leaf);
    unsigned open;
    unsigned entries = count_below(t, &v, ids, length, upper, &open);
    if (entries < open) {
        const cut_run run = cut_run_of(t, &v, entries, open);
        entries = look_at_texts(&run, level, ids, length, upper, d);
    }
    const uint64_t below = level ? t->count[level - 1] : t->leaves,
                   number = v.first_child + (entries ? entries - 1 : 0);
    d->leaf = number < below ? number : below - 1;
    if (level == 0 && entries < v.count) {
        const unsigned codes = v.info[entries] & FT_TREE_LENGTH, cut = v.info[entries] & FT_TREE_CUT;
        d->next_least = cut ? FT_TREE_CODES : codes - (codes > 0);
        d->next_most = cut ? UINT_MAX : d->next_least;
    }
}

static ft_descent descend(const ft_tree *t, const uint32_t *ids, size_t length, int upper)
{
    ft_descent d = ft_tree_top();
    for (unsigned level = t->levels; level-- > 0 && !ft_codes_lacking(t->text);)
        ft_tree_step(t, level, ids, length, upper, &d);
    return d;
}

ft_descent ft_tree_lower(const ft_tree *t, const uint32_t *ids, size_t length)
{
    return descend(t, ids, length, 0);
}

ft_descent ft_tree_upper(const ft_tree *t, const uint32_t *ids, size_t length)
{
    return descend(t, ids, length, 1);
}

/* --- Walking over separators ------------------------------------------------------------- */

ft_tree_cursor ft_tree_seek(const ft_tree *t, uint64_t leaf)
{
    uint64_t lo = 0, hi = t->count[0]; /* the first child of lo is not behind the leaf, that of hi is */
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (node_at(t, 0, mid).first_child <= leaf)
            lo = mid;
        else
            hi = mid;
    }
    const uint64_t first = node_at(t, 0, lo).first_child, entry = leaf - first;
    return (ft_tree_cursor){lo, entry < FT_TREE_NODE ? (unsigned)entry : 0};
}

/* Code `depth` of entries [from, to). */
static void node_codes(const ft_tree *t, const node *v, unsigned from, unsigned to, unsigned depth, uint32_t *codes)
{
    const unsigned per_head = ft_tree_per_head(t->code_bits);
    const uint64_t mask = ((uint64_t)1 << t->code_bits) - 1;
    for (unsigned i = from; i < to; i++, codes++) {
        *codes = UINT32_MAX;
        if (depth >= (v->info[i] & FT_TREE_LENGTH))
            continue;
        if (depth < v->common)
            memcpy(codes, v->bytes + sizeof(ft_tree_node_head) + depth * sizeof(*codes), sizeof(*codes));
        else if (depth < v->common + per_head)
            *codes = (uint32_t)(head_of(v, i) >> t->code_bits * (per_head - 1 - (depth - v->common)) & mask);
    }
}

void ft_tree_codes(const ft_tree *t, ft_tree_cursor *c, unsigned depth, size_t count, uint32_t *codes)
{
    while (count) {
        if (c->node >= t->count[0]) { /* damaged: there are fewer than leaves */
            memset(codes, 0xFF, count * sizeof(*codes));
            return;
        }
        const node v = node_at(t, 0, c->node);
        const unsigned left = c->entry < v.count ? v.count - c->entry : 0, take = left < count ? left : (unsigned)count;
        node_codes(t, &v, c->entry, c->entry + take, depth, codes);
        codes += take;
        count -= take;
        c->entry += take;
        if (c->entry >= v.count)
            *c = (ft_tree_cursor){c->node + 1, 0};
    }
}
