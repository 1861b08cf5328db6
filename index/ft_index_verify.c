/* Everything about an index that opening it is too quick to check. */
#include "index/ft_index.h"

#include "base/ft_random.h"
#include "index/ft_manifest.h"
#include "index/ft_part.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <xxhash.h>

/* --- The order of the suffixes ------------------------------------------------------
 * Two suffixes with the same first token stand as what follows them stands, so ranks
 * are checked against ranks, in linear time whatever repeats (Burkhardt and Kärkkäinen,
 * "Fast lightweight suffix array construction and checking", 2003, section 5). */

typedef struct order_check {
    const ft_part *part;
    uint32_t *narrow; /* rank of each position, in as many bits as it needs */
    uint64_t *wide;
    _Atomic uint64_t fault; /* first rank where something is wrong, or n */
} order_check;

enum { CHUNK = 1 << 16 }; /* ranks that are one task */

static uint64_t chunk_end(const ft_part *p, size_t task)
{
    const uint64_t from = (uint64_t)task * CHUNK;
    return p->n - from < CHUNK ? p->n : from + CHUNK;
}

static uint64_t rank_of(const order_check *c, uint64_t pos)
{
    return c->narrow ? __atomic_load_n(&c->narrow[pos], __ATOMIC_RELAXED)
                     : __atomic_load_n(&c->wide[pos], __ATOMIC_RELAXED);
}

/* Two ranks with the same position: one of them is not kept, and is found so. */
static void invert_chunk(void *context, size_t task, unsigned worker)
{
    (void)worker;
    const order_check *c = context;
    for (uint64_t i = (uint64_t)task * CHUNK, end = chunk_end(c->part, task); i < end; i++) {
        const uint64_t pos = ft_part_position(c->part, i);
        if (pos < c->part->n && c->narrow)
            __atomic_store_n(&c->narrow[pos], (uint32_t)i, __ATOMIC_RELAXED);
        else if (pos < c->part->n)
            __atomic_store_n(&c->wide[pos], i, __ATOMIC_RELAXED);
    }
}

/* 1 when the suffix at `a` may stand right before that at `b`. */
static int in_order(const order_check *c, uint64_t a, uint64_t b)
{
    const ft_part *p = c->part;
    const uint64_t ka = ft_part_key(p, a), kb = ft_part_key(p, b);
    if (ka != kb)
        return ka < kb;
    if (!p->bytewise && ft_part_token(p, a) == p->end)
        return a < b; /* the ends of documents stand by position */
    if (a + 1 >= p->n || b + 1 >= p->n)
        return a + 1 >= p->n; /* what is a prefix of another comes first */
    return rank_of(c, a + 1) < rank_of(c, b + 1);
}

/* What is wrong with a rank; NULL: nothing. */
static const char *rank_fault(const order_check *c, uint64_t rank)
{
    const ft_part *p = c->part;
    const uint64_t pos = ft_part_position(p, rank), before = rank ? ft_part_position(p, rank - 1) : p->n;
    if (pos >= p->n)
        return "the pointer leaves the tokens";
    if (rank_of(c, pos) != rank)
        return "this suffix stands at another rank too";
    return rank && before < p->n && !in_order(c, before, pos) ? "out of order" : NULL;
}

static void check_chunk(void *context, size_t task, unsigned worker)
{
    (void)worker;
    order_check *c = context;
    uint64_t i = (uint64_t)task * CHUNK, first = atomic_load(&c->fault);
    const uint64_t end = chunk_end(c->part, task);
    while (i < end && !rank_fault(c, i))
        i++;
    while (i < end && i < first && !atomic_compare_exchange_weak(&c->fault, &first, i))
        continue;
}

static ft_code order_fault(const ft_part *p, uint64_t rank, const char *what, ft_status *st)
{
    if (p->bytewise)
        return ft_fail(st, FT_ERR_FORMAT, "%s/table.%u: rank %" PRIu64 ": %s", p->folder, p->shard, rank, what);
    return ft_fail(st, FT_ERR_FORMAT, "%s: rank %" PRIu64 ": %s", p->section[FT_SECTION_SUFFIXES].path, rank, what);
}

static ft_code check_order(const ft_part *p, ft_pool *pool, ft_status *st)
{
    order_check c = {.part = p, .fault = p->n};
    const size_t tasks = (size_t)(p->n / CHUNK + (p->n % CHUNK != 0));
    if (p->n < UINT32_MAX)
        c.narrow = ft_alloc_array((size_t)p->n, sizeof(*c.narrow));
    else
        c.wide = ft_alloc_array((size_t)p->n, sizeof(*c.wide));
    if (!c.narrow && !c.wide)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory to check the order of %" PRIu64 " suffixes", p->folder, p->n);
    ft_pool_run(pool, tasks, invert_chunk, &c);
    ft_pool_run(pool, tasks, check_chunk, &c);
    const uint64_t rank = atomic_load(&c.fault);
    ft_code rc = rank < p->n ? order_fault(p, rank, rank_fault(&c, rank), st) : FT_OK;
    free(c.narrow);
    free(c.wide);
    return rc;
}

/* --- Documents and bounds -------------------------------------------------------------- */

static ft_code check_documents(const ft_part *p, ft_status *st)
{
    uint64_t ends = 0;
    ft_doc_ref doc;
    ft_code rc = FT_OK;
    for (uint64_t i = 0; i < p->documents && !rc; i++)
        rc = ft_part_document(p, i, &doc, st);
    for (uint64_t pos = 0; pos < p->n; pos++)
        ends += ft_part_token(p, pos) == p->end;
    if (!rc && ends != p->documents)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: %" PRIu64 " ends of documents for %" PRIu64 " documents", p->folder, ends,
                     p->documents);
    return rc;
}

static ft_code check_ids(const ft_part *p, ft_status *st)
{
    const ft_section *s = &p->section[FT_SECTION_IDS];
    const ft_id_record *ids = (const ft_id_record *)(const void *)s->payload;
    for (uint64_t i = 0; i < s->count; i++) {
        ft_doc_ref doc;
        if (ids[i].document >= p->documents || (i && ids[i].hash < ids[i - 1].hash))
            return ft_fail(st, FT_ERR_FORMAT, "%s/ids: record %" PRIu64 " is damaged", p->folder, i);
        ft_code rc = ft_part_document(p, ids[i].document, &doc, st);
        if (rc)
            return rc;
        if (XXH3_64bits(doc.id, doc.id_bytes) != ids[i].hash)
            return ft_fail(st, FT_ERR_FORMAT, "%s/ids: record %" PRIu64 " names another document", p->folder, i);
    }
    return FT_OK;
}

/* --- Leaves and tree -------------------------------------------------------------------
 * With the order known to be right, what the writer would write of it is there. */

typedef struct tree_check {
    const ft_section *section;
    uint64_t at; /* payload bytes compared */
} tree_check;

static ft_code compare_nodes(void *context, const void *bytes, size_t n, ft_status *st)
{
    tree_check *c = context;
    if (n > c->section->payload_bytes - c->at || memcmp(c->section->payload + c->at, bytes, n) != 0)
        return ft_fail(st, FT_ERR_FORMAT, "%s: byte %" PRIu64 ": a node does not follow from the suffixes",
                       c->section->path, FT_SECTION_PAYLOAD + c->at);
    c->at += n;
    return FT_OK;
}

typedef struct leaves_check {
    const ft_part *part;
    uint64_t first, count;   /* leaves of this batch */
    ft_separator *separator; /* [count] */
    _Atomic uint64_t fault;  /* first leaf that is wrong, or their number */
} leaves_check;

enum { LEAVES_TASK = 256, LEAVES_BATCH = 64 * LEAVES_TASK };

/* 1 when the leaf is what its suffixes and the text make it; with the separator before it. */
static int leaf_follows(const ft_part *p, uint64_t number, ft_separator *separator)
{
    ft_ranked ranked[FT_LEAF_RANKS] = {0};
    const uint64_t first = number * FT_LEAF_RANKS, left = p->n - first;
    const size_t count = left < FT_LEAF_RANKS ? (size_t)left : FT_LEAF_RANKS;
    unsigned char bytes[FT_LEAF_BYTES_MAX];
    uint64_t before = first ? ft_part_position(p, first - 1) : 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t pos = ft_part_position(p, first + i);
        ranked[i] = first + i ? ft_ranked_after(&p->text, before, pos) : ft_ranked_make(pos, 0, 0);
        before = pos;
    }
    ft_leaf_encode(bytes, &p->shape, ranked, count);
    ft_separator_make(separator, ranked[0], &p->text);
    return memcmp(bytes, p->suffixes + number * p->shape.bytes, p->shape.bytes) == 0;
}

static void check_some_leaves(void *context, size_t task, unsigned worker)
{
    (void)worker;
    leaves_check *c = context;
    const uint64_t from = (uint64_t)task * LEAVES_TASK,
                   to = c->count - from < LEAVES_TASK ? c->count : from + LEAVES_TASK;
    for (uint64_t i = from, fault = atomic_load(&c->fault); i < to; i++)
        if (!leaf_follows(c->part, c->first + i, &c->separator[i]))
            while (c->first + i < fault && !atomic_compare_exchange_weak(&c->fault, &fault, c->first + i))
                continue;
}

static ft_code check_batch(leaves_check *c, ft_tree_builder *tree, ft_pool *pool, ft_status *st)
{
    ft_pool_run(pool, (size_t)((c->count + LEAVES_TASK - 1) / LEAVES_TASK), check_some_leaves, c);
    const uint64_t fault = atomic_load(&c->fault);
    if (fault < c->part->tree.leaves)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: rank %" PRIu64 ": the leaf that begins here does not follow from the text",
                       c->part->section[FT_SECTION_SUFFIXES].path, fault * FT_LEAF_RANKS);
    ft_code rc = FT_OK;
    for (uint64_t i = 0; i < c->count && !rc; i++)
        rc = ft_tree_builder_add(tree, &c->separator[i], st);
    return rc;
}

static ft_code check_leaves(const ft_part *p, ft_pool *pool, ft_status *st)
{
    tree_check nodes = {.section = &p->section[FT_SECTION_TREE]};
    leaves_check c = {.part = p, .fault = p->tree.leaves};
    ft_tree_builder tree;
    ft_tree_builder_init(&tree, &p->shape, compare_nodes, &nodes);
    c.separator = ft_alloc_array(LEAVES_BATCH, sizeof(*c.separator));
    ft_code rc = c.separator ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", p->folder);
    for (; c.first < p->tree.leaves && !rc; c.first += c.count) {
        const uint64_t left = p->tree.leaves - c.first;
        c.count = left < LEAVES_BATCH ? left : LEAVES_BATCH;
        rc = check_batch(&c, &tree, pool, st);
    }
    uint64_t bytes;
    if (!rc)
        rc = ft_tree_builder_finish(&tree, &bytes, st);
    ft_tree_builder_release(&tree);
    free(c.separator);
    if (!rc && nodes.at != nodes.section->payload_bytes)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: more nodes than the suffixes need", nodes.section->path);
    return rc;
}

/* --- A sample ------------------------------------------------------------------------------ */

/* 1 when the suffix at `a` stands before that at `b`, by the text alone. */
static int text_in_order(const ft_part *p, uint64_t a, uint64_t b)
{
    if (p->bytewise) {
        while (ft_part_key(p, a) == ft_part_key(p, b) && a != b)
            a++, b++; /* one of them reaches the array's end, whose key is 0 */
        return ft_part_key(p, a) < ft_part_key(p, b);
    }
    int equal;
    const uint64_t shared = ft_codes_shared(&p->text, a, b, 0, UINT64_MAX, &equal);
    if (equal)
        return a < b;
    return ft_part_key(p, a + shared) < ft_part_key(p, b + shared);
}

/* Ranks [from, to) and the one before them. */
static ft_code check_stretch(const ft_part *p, uint64_t from, uint64_t to, ft_status *st)
{
    uint64_t before = from ? ft_part_position(p, from - 1) : 0;
    if (before >= p->n)
        return order_fault(p, from - 1, "the pointer leaves the tokens", st);
    for (uint64_t rank = from; rank < to; rank++) {
        const uint64_t pos = ft_part_position(p, rank);
        if (pos >= p->n)
            return order_fault(p, rank, "the pointer leaves the tokens", st);
        if (rank && !text_in_order(p, before, pos))
            return order_fault(p, rank, "out of order", st);
        before = pos;
    }
    return FT_OK;
}

static ft_code check_sample(const ft_part *p, uint64_t places, uint64_t seed, ft_status *st)
{
    ft_random r;
    ft_random_init(&r, seed);
    const uint64_t leaves = (p->n + FT_LEAF_RANKS - 1) / FT_LEAF_RANKS;
    ft_code rc = FT_OK;
    const uint64_t stretches = places < leaves ? places : leaves;
    for (uint64_t i = 0; i < stretches && !rc; i++) {
        /* A leaf of each of as many stretches, so that none is left out for long. */
        const uint64_t each = leaves / stretches, length = i + 1 < stretches ? each : leaves - i * each;
        const uint64_t leaf = i * each + ft_random_below(&r, length);
        const uint64_t from = leaf * FT_LEAF_RANKS, to = from + FT_LEAF_RANKS < p->n ? from + FT_LEAF_RANKS : p->n;
        ft_separator ignored;
        rc = check_stretch(p, from, to, st);
        if (!rc && !p->bytewise && !leaf_follows(p, leaf, &ignored))
            rc = order_fault(p, from, "the leaf that begins here does not follow from the text", st);
    }
    return rc;
}

/* --- Bounds -------------------------------------------------------------------------------- */

/* The bounds rise and cover all ranks (checked at open): with the right tokens at both
 * ends of each range, and the order checked, each is exact. */
static ft_code check_bounds(const ft_part *p, ft_status *st)
{
    for (uint32_t id = 0; id < p->vocab_size; id++) {
        const ft_range r = ft_part_first_token(p, id);
        if (r.lo < r.hi && (ft_part_token(p, ft_part_position(p, r.lo)) != id ||
                            ft_part_token(p, ft_part_position(p, r.hi - 1)) != id))
            return ft_fail(st, FT_ERR_FORMAT, "%s: the bounds of token %u are not where its suffixes are",
                           p->section[FT_SECTION_BOUNDS].path, id);
    }
    return FT_OK;
}

/* --- What is removed ---------------------------------------------------------------------- */

static ft_code check_numbers(const ft_part *p, ft_section_kind kind, const ft_numbers *v, uint64_t below, ft_status *st)
{
    for (uint64_t i = 0, before = 0; i < v->count; i++) {
        const uint64_t number = ft_packed_get(v->packed, v->bits, i);
        if (number >= below || (i && number <= before))
            return ft_fail(st, FT_ERR_FORMAT, "%s: entry %" PRIu64 " is out of order", p->section[kind].path, i);
        before = number;
    }
    return FT_OK;
}

/* As many ranks as the removed documents have suffixes, all different, each of one of them. */
static ft_code check_removed(const ft_part *p, ft_pool *pool, ft_status *st)
{
    ft_code rc = FT_OK;
    for (ft_section_kind k = FT_SECTION_REMOVED_DOCUMENTS; k <= FT_SECTION_REMOVED_RANKS && !rc; k++)
        rc = ft_section_check_blocks(&p->section[k], pool, st);
    if (!rc)
        rc = check_numbers(p, FT_SECTION_REMOVED_DOCUMENTS, &p->removed_documents, p->documents, st);
    if (!rc)
        rc = check_numbers(p, FT_SECTION_REMOVED_RANKS, &p->removed_ranks, p->n, st);
    uint64_t suffixes = 0, start, length, document;
    for (uint64_t i = 0; i < p->removed_documents.count && !rc; i++, suffixes += length + 1) {
        length = 0;
        rc = ft_part_document_range(p, ft_packed_get(p->removed_documents.packed, p->removed_documents.bits, i), &start,
                                    &length, st);
    }
    for (uint64_t i = 0; i < p->removed_ranks.count && !rc; i++) {
        const uint64_t rank = ft_packed_get(p->removed_ranks.packed, p->removed_ranks.bits, i);
        rc = ft_part_document_at(p, ft_part_position(p, rank), &document, st);
        if (!rc && !ft_part_document_is_removed(p, document))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: rank %" PRIu64 " is of a document that is not removed",
                         p->section[FT_SECTION_REMOVED_RANKS].path, rank);
    }
    if (!rc && suffixes != p->removed_ranks.count)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: %" PRIu64 " ranks for %" PRIu64 " suffixes of removed documents",
                     p->section[FT_SECTION_REMOVED_RANKS].path, p->removed_ranks.count, suffixes);
    return rc;
}

/* --- All ------------------------------------------------------------------------------- */

/* How the order is checked: all of it, or at some places. */
typedef struct verification {
    ft_pool *pool;
    uint64_t places, seed; /* places 0: all */
} verification;

static ft_code check_segment(const ft_part *p, const verification *v, ft_status *st)
{
    ft_code rc = FT_OK;
    for (ft_section_kind k = FT_SECTION_TOKENS; k < FT_SECTION_CORE_KINDS && !rc; k++)
        rc = ft_section_check_blocks(&p->section[k], v->pool, st);
    if (!rc)
        rc = check_documents(p, st);
    if (!rc)
        rc = check_ids(p, st);
    if (!rc)
        rc = v->places ? check_sample(p, v->places, v->seed, st) : check_order(p, v->pool, st);
    if (!rc && !v->places)
        rc = check_leaves(p, v->pool, st);
    if (!rc)
        rc = check_bounds(p, st);
    return rc || !p->removed_documents.count ? rc : check_removed(p, v->pool, st);
}

static ft_code check_part(const ft_part *p, const verification *v, ft_status *st)
{
    if (!p->bytewise)
        return check_segment(p, v, st);
    ft_code rc = check_documents(p, st);
    if (!rc)
        rc = v->places ? check_sample(p, v->places, v->seed, st) : check_order(p, v->pool, st);
    return rc;
}

static ft_code check_digests(const ft_index *ix, ft_pool *pool, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < ix->manifest->file_count && !rc; i++) {
        const ft_manifest_file *f = &ix->manifest->files[i];
        ft_digest d;
        uint64_t bytes;
        char *path = ft_path_join(ix->folder, f->name);
        rc = path ? ft_file_tree_digest(&d, &bytes, path, pool, st)
                  : ft_fail(st, FT_ERR_MEM, "%s: out of memory", ix->folder);
        if (!rc && (bytes != f->bytes || memcmp(&d, &f->digest, sizeof(d)) != 0))
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: its digest is not the one in the manifest", path);
        free(path);
    }
    return rc;
}

/* What the manifest says of the files. */
static ft_code check_manifest(const ft_index *ix, ft_pool *pool, ft_status *st)
{
    ft_digest d;
    ft_code rc = check_digests(ix, pool, st);
    if (!rc)
        rc = ft_manifest_root(ix->manifest, &d, st);
    if (!rc && memcmp(&d, &ix->info.root, sizeof(d)) != 0)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: the root does not follow from the files", ix->folder);
    if (!rc && ix->manifest->has_tokenizer)
        rc = ft_digest_of_file(&d, ix->tokenizer, st);
    if (!rc && ix->manifest->has_tokenizer && memcmp(&d, &ix->info.tokenizer_digest, sizeof(d)) != 0)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: not the tokenizer that the manifest names", ix->tokenizer);
    return rc;
}

static ft_code verify(const ft_index *ix, verification *v, ft_status *st)
{
    ft_code rc = ft_pool_new(&v->pool, 0, st);
    for (unsigned i = 0; i < ix->part_count && !rc; i++)
        rc = check_part(&ix->parts[i], v, st);
    if (!rc && ix->manifest)
        rc = check_manifest(ix, v->pool, st);
    ft_pool_free(v->pool);
    return rc;
}

ft_code ft_index_verify(const ft_index *ix, ft_status *st)
{
    verification v = {.places = 0};
    return verify(ix, &v, st);
}

ft_code ft_index_verify_sampled(const ft_index *ix, uint64_t places, uint64_t seed, ft_status *st)
{
    verification v = {.places = places ? places : 1, .seed = seed};
    return verify(ix, &v, st);
}
