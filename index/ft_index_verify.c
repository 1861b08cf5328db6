/* Everything about an index that opening it is too quick to check. */
#include "index/ft_index.h"

#include "index/ft_manifest.h"
#include "index/ft_part.h"

#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

/* --- The order of the suffixes ------------------------------------------------------
 * Two suffixes with the same first token stand as what follows them stands, so ranks
 * are checked against ranks, in linear time whatever repeats (Burkhardt and Kärkkäinen,
 * "Fast lightweight suffix array construction and checking", 2003, section 5). */

typedef struct ranks { /* of each position; n is "unset" */
    uint32_t *narrow;
    uint64_t *wide;
} ranks;

static uint64_t rank_of(const ranks *r, uint64_t pos)
{
    return r->narrow ? r->narrow[pos] : r->wide[pos];
}

static ft_code order_fault(const ft_part *p, uint64_t rank, const char *what, ft_status *st)
{
    if (p->bytewise)
        return ft_fail(st, FT_ERR_FORMAT, "%s/table.%u: rank %" PRIu64 ": %s", p->folder, p->shard, rank, what);
    return ft_fail(st, FT_ERR_FORMAT, "%s/suffixes: rank %" PRIu64 ": %s", p->folder, rank, what);
}

/* Each position must stand at one rank. */
static ft_code invert(const ft_part *p, ranks *r, ft_status *st)
{
    if (p->n < UINT32_MAX)
        r->narrow = ft_alloc_array((size_t)p->n, sizeof(*r->narrow));
    else
        r->wide = ft_alloc_array((size_t)p->n, sizeof(*r->wide));
    if (!r->narrow && !r->wide)
        return ft_fail(st, FT_ERR_MEM, "%s: no memory to check the order of %" PRIu64 " suffixes", p->folder, p->n);
    for (uint64_t i = 0; i < p->n; i++)
        r->narrow ? (void)(r->narrow[i] = (uint32_t)p->n) : (void)(r->wide[i] = p->n);
    for (uint64_t i = 0; i < p->n; i++) {
        const uint64_t pos = ft_part_position(p, i);
        if (pos >= p->n)
            return order_fault(p, i, "the pointer leaves the tokens", st);
        if (rank_of(r, pos) != p->n)
            return order_fault(p, i, "this suffix stands at an earlier rank too", st);
        r->narrow ? (void)(r->narrow[pos] = (uint32_t)i) : (void)(r->wide[pos] = i);
    }
    return FT_OK;
}

/* 1 when the suffix at `a` may stand right before that at `b`. */
static int in_order(const ft_part *p, const ranks *r, uint64_t a, uint64_t b)
{
    const uint64_t ka = ft_part_key(p, a), kb = ft_part_key(p, b);
    if (ka != kb)
        return ka < kb;
    if (!p->bytewise && ft_part_token(p, a) == p->end)
        return a < b; /* the ends of documents stand by position */
    if (a + 1 >= p->n || b + 1 >= p->n)
        return a + 1 >= p->n; /* what is a prefix of another comes first */
    return rank_of(r, a + 1) < rank_of(r, b + 1);
}

static ft_code check_order(const ft_part *p, ft_status *st)
{
    ranks r = {0};
    ft_code rc = invert(p, &r, st);
    for (uint64_t i = 1; i < p->n && !rc; i++)
        if (!in_order(p, &r, ft_part_position(p, i - 1), ft_part_position(p, i)))
            rc = order_fault(p, i, "out of order", st);
    free(r.narrow);
    free(r.wide);
    return rc;
}

/* --- Documents and directory ---------------------------------------------------------- */

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

/* What the suffixes at a and b share. */
static ft_ranked rank_after(const ft_codes *text, uint64_t a, uint64_t b)
{
    for (unsigned i = 0; i < FT_SHARED_MAX; i++) {
        const uint32_t x = ft_codes_get(text, a + i), y = ft_codes_get(text, b + i);
        if (x != y)
            return ft_ranked_make(b, i, ft_codes_bit(x, y, text->bits));
        if (x == 0)
            break;
    }
    return ft_ranked_make(b, FT_SHARED_MAX, 0);
}

static ft_code check_leaf(const ft_part *p, uint64_t number, ft_tree_builder *tree, ft_status *st)
{
    ft_ranked ranked[FT_LEAF_RANKS];
    const uint64_t first = number * FT_LEAF_RANKS, left = p->n - first;
    const size_t count = left < FT_LEAF_RANKS ? (size_t)left : FT_LEAF_RANKS;
    unsigned char bytes[16 * 48 + 112];
    for (size_t i = 0; i < count; i++) {
        const uint64_t rank = first + i, pos = ft_part_position(p, rank);
        ranked[i] = rank ? rank_after(&p->text, ft_part_position(p, rank - 1), pos) : ft_ranked_make(pos, 0, 0);
    }
    ft_leaf_encode(bytes, &p->shape, ranked, count);
    if (memcmp(bytes, p->suffixes + number * p->shape.bytes, p->shape.bytes) != 0)
        return ft_fail(st, FT_ERR_FORMAT, "%s: rank %" PRIu64 ": the leaf that begins here does not follow from the text",
                       p->section[FT_SECTION_SUFFIXES].path, first);
    ft_separator s;
    ft_separator_make(&s, ranked[0], &p->text);
    return ft_tree_builder_add(tree, &s, st);
}

static ft_code check_leaves(const ft_part *p, ft_status *st)
{
    tree_check c = {.section = &p->section[FT_SECTION_TREE]};
    ft_tree_builder tree;
    ft_tree_builder_init(&tree, p->text.bits, compare_nodes, &c);
    ft_code rc = FT_OK;
    for (uint64_t i = 0; i < p->tree.leaves && !rc; i++)
        rc = check_leaf(p, i, &tree, st);
    uint64_t bytes;
    if (!rc)
        rc = ft_tree_builder_finish(&tree, &bytes, st);
    ft_tree_builder_release(&tree);
    if (!rc && c.at != c.section->payload_bytes)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: more nodes than the suffixes need", c.section->path);
    return rc;
}

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

static ft_code check_segment(const ft_part *p, ft_pool *pool, ft_status *st)
{
    ft_code rc = FT_OK;
    for (ft_section_kind k = FT_SECTION_TOKENS; k < FT_SECTION_CORE_KINDS && !rc; k++)
        rc = ft_section_check_blocks(&p->section[k], pool, st);
    if (!rc)
        rc = check_documents(p, st);
    if (!rc)
        rc = check_ids(p, st);
    if (!rc)
        rc = check_order(p, st);
    if (!rc)
        rc = check_leaves(p, st);
    if (!rc)
        rc = check_bounds(p, st);
    return rc || !p->removed_documents.count ? rc : check_removed(p, pool, st);
}

static ft_code check_part(const ft_part *p, ft_pool *pool, ft_status *st)
{
    if (!p->bytewise)
        return check_segment(p, pool, st);
    ft_code rc = check_documents(p, st);
    return rc ? rc : check_order(p, st);
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

ft_code ft_index_verify(const ft_index *ix, ft_status *st)
{
    ft_pool *pool;
    ft_code rc = ft_pool_new(&pool, 0, st);
    for (unsigned i = 0; i < ix->part_count && !rc; i++)
        rc = check_part(&ix->parts[i], pool, st);
    if (!rc && ix->manifest)
        rc = check_manifest(ix, pool, st);
    ft_pool_free(pool);
    return rc;
}
