/* The pages of data.mdb, read by our own eyes. LMDB trusts its file: a page number that leads outside is a fault of
 * the processor. So a file that somebody may have altered is walked here first, with every number checked, before
 * LMDB follows any.
 * Source  lmdb.h and mdb.c of LMDB 0.9: MDB_page, MDB_meta, MDB_db, MDB_node on a 64-bit little-endian machine. */
#define _GNU_SOURCE /* F_OFD_SETLK */
#include "base/ft_file.h"
#include "tracer/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PAGE_HEADER = LMDB_PAGE_HEADER,
    NODE_HEADER = 8,
    IS_BRANCH = 1,
    IS_LEAF = 2,
    IS_OVERFLOW = 4,
    IS_META = 8,
    IS_BIG = 1, /* of a node: its data lie on overflow pages */
    IS_DATABASE = 2,
    INTEGER_KEYS = 8, /* MDB_INTEGERKEY of a database */
    MOST_DEPTH = 32
};

typedef struct examiner {
    const char *path;
    ft_map map;
    size_t page_bytes;
    uint64_t pages, last_page;
    unsigned char *seen; /* a bit a page */
    ft_status *st;
} examiner;

typedef struct node {
    uint32_t low; /* data's size; in a branch the page's number, with `flags` above it */
    uint16_t flags, key_bytes;
} node;
_Static_assert(sizeof(node) == NODE_HEADER, "MDB_node");

static ft_code bad(const examiner *x, uint64_t page, const char *what)
{
    return ft_fail(x->st, FT_ERR_FORMAT, "%s: page %" PRIu64 ": %s; the file was altered or damaged: restore a copy",
                   x->path, page, what);
}

static uint16_t u16_at(const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t u64_at(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static const unsigned char *page_at(const examiner *x, uint64_t number)
{
    return x->map.data + number * x->page_bytes;
}

/* Marks `n` pages from `number` on; each may be used once. Free ones need not be written: they may lie behind the end.
 */
static ft_code use(examiner *x, uint64_t number, uint64_t n, int written)
{
    if (number < 2 || number > x->last_page || n > x->last_page - number + 1 || (written && number + n > x->pages))
        return bad(x, number, "it lies outside of the file");
    for (uint64_t p = number; p < number + n && p < x->pages; p++) {
        if (x->seen[p / 8] >> p % 8 & 1)
            return bad(x, p, "it is used twice");
        x->seen[p / 8] |= (unsigned char)(1 << p % 8);
    }
    return FT_OK;
}

/* --- Nodes ------------------------------------------------------------------------------------------------- */

typedef struct entry {
    const unsigned char *key, *data;
    size_t key_bytes, data_bytes;
    uint64_t child;
    unsigned flags;
} entry;

static ft_code read_node(const examiner *x, uint64_t number, unsigned i, int branch, entry *out)
{
    const unsigned char *page = page_at(x, number);
    const size_t at = u16_at(page + PAGE_HEADER + 2 * i), upper = u16_at(page + 14);
    node n;
    if (at < upper || at + NODE_HEADER > x->page_bytes)
        return bad(x, number, "an entry lies outside of it");
    memcpy(&n, page + at, sizeof(n));
    const size_t inside = branch ? 0 : n.flags & IS_BIG ? sizeof(uint64_t) : n.low;
    if (n.key_bytes > x->page_bytes - at - NODE_HEADER || inside > x->page_bytes - at - NODE_HEADER - n.key_bytes)
        return bad(x, number, "an entry is longer than the page");
    *out = (entry){.key = page + at + NODE_HEADER,
                   .key_bytes = n.key_bytes,
                   .data = page + at + NODE_HEADER + n.key_bytes,
                   .data_bytes = branch ? 0 : n.low,
                   .child = branch ? n.low | (uint64_t)n.flags << 32 : 0,
                   .flags = branch ? 0 : n.flags};
    return FT_OK;
}

static int compare(const entry *a, const entry *b, unsigned flags)
{
    if (flags & INTEGER_KEYS && a->key_bytes == 8 && b->key_bytes == 8) {
        const uint64_t x = u64_at(a->key), y = u64_at(b->key);
        return (x > y) - (x < y);
    }
    const size_t n = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
    const int c = n ? memcmp(a->key, b->key, n) : 0;
    return c ? c : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

/* --- Trees -------------------------------------------------------------------------------------------------- */

typedef struct count {
    uint64_t branches, leaves, overflow, entries;
    entry last; /* of the leaves, in order */
    int any;
} count;

static ft_code walk_tree(examiner *x, const lmdb_tree *t, int names);

/* Pages of one big value. */
static ft_code check_big(examiner *x, uint64_t holder, const entry *e, count *c)
{
    const uint64_t first = u64_at(e->data);
    const uint64_t n = (PAGE_HEADER + (uint64_t)e->data_bytes - 1) / x->page_bytes + 1;
    const ft_code rc = use(x, first, n, 1);
    if (rc)
        return rc;
    uint32_t pages;
    memcpy(&pages, page_at(x, first) + 12, sizeof(pages));
    if (u64_at(page_at(x, first)) != first || !(u16_at(page_at(x, first) + 10) & IS_OVERFLOW) || pages != n)
        return bad(x, holder, "a long value does not lie where it says");
    c->overflow += n;
    return FT_OK;
}

/* The free pages that a transaction left: their count, then their numbers. */
static ft_code check_free(examiner *x, uint64_t holder, const entry *e)
{
    const unsigned char *data = e->flags & IS_BIG ? page_at(x, u64_at(e->data)) + PAGE_HEADER : e->data;
    const size_t n = e->data_bytes / 8;
    const uint64_t listed = n ? u64_at(data) : 0;
    if (!n || e->data_bytes % 8 || listed > n - 1)
        return bad(x, holder, "a list of free pages is too short");
    ft_code rc = FT_OK;
    for (uint64_t i = 1; !rc && i <= listed; i++)
        rc = use(x, u64_at(data + 8 * i), 1, 0);
    return rc;
}

static ft_code walk_leaf(examiner *x, uint64_t number, unsigned n, const lmdb_tree *t, int names, count *c)
{
    ft_code rc = FT_OK;
    for (unsigned i = 0; !rc && i < n; i++) {
        entry e;
        rc = read_node(x, number, i, 0, &e);
        if (!rc && c->any && compare(&c->last, &e, t->flags) >= 0)
            rc = bad(x, number, "its keys are out of order");
        c->last = e;
        c->any = 1;
        c->entries++;
        if (!rc && e.flags & ~(unsigned)(IS_BIG | IS_DATABASE))
            rc = bad(x, number, "an entry of a kind that stores of ours have not");
        if (!rc && e.flags & IS_BIG)
            rc = check_big(x, number, &e, c);
        if (!rc && t->flags & INTEGER_KEYS)
            rc = check_free(x, number, &e);
        if (!rc && (names != 0) != ((e.flags & IS_DATABASE) != 0))
            rc = bad(x, number, "a database where none belongs, or none where one does");
        if (!rc && names) {
            lmdb_tree inner;
            if (e.data_bytes != sizeof(inner))
                return bad(x, number, "a database's record has another length");
            memcpy(&inner, e.data, sizeof(inner));
            if (inner.flags)
                return bad(x, number, "a database of a kind that stores of ours have not");
            rc = walk_tree(x, &inner, 0);
        }
    }
    return rc;
}

static ft_code walk_page(examiner *x, uint64_t number, unsigned depth, const lmdb_tree *t, int names, count *c)
{
    ft_code rc = use(x, number, 1, 1);
    if (rc)
        return rc;
    const unsigned char *page = page_at(x, number);
    const unsigned flags = u16_at(page + 10) & ~0x4010U, lower = u16_at(page + 12), upper = u16_at(page + 14);
    const int branch = depth < t->depth;
    if (u64_at(page) != number)
        return bad(x, number, "it bears another number");
    if (flags != (branch ? IS_BRANCH : IS_LEAF))
        return bad(x, number, "it is of another kind than its place");
    if (lower < PAGE_HEADER || lower % 2 || lower > upper || upper > x->page_bytes)
        return bad(x, number, "its bounds are impossible");
    const unsigned n = (lower - PAGE_HEADER) / 2;
    c->branches += branch != 0;
    c->leaves += !branch;
    if (!branch)
        return walk_leaf(x, number, n, t, names, c);
    if (n < 2)
        return bad(x, number, "a branch without two ways");
    for (unsigned i = 0; !rc && i < n; i++) {
        entry e;
        rc = read_node(x, number, i, 1, &e);
        if (!rc && i && c->any && compare(&c->last, &e, t->flags) >= 0)
            rc = bad(x, number, "a separator is out of order");
        if (!rc)
            rc = walk_page(x, e.child, depth + 1, t, names, c);
    }
    return rc;
}

static ft_code walk_tree(examiner *x, const lmdb_tree *t, int names)
{
    count c = {0};
    if (t->root == UINT64_MAX)
        return t->entries || t->depth ? bad(x, 0, "an empty database counts entries") : FT_OK;
    if (!t->depth || t->depth > MOST_DEPTH)
        return bad(x, t->root, "its tree has an impossible depth");
    const ft_code rc = walk_page(x, t->root, 1, t, names, &c);
    if (!rc &&
        (c.branches != t->branches || c.leaves != t->leaves || c.overflow != t->overflow || c.entries != t->entries))
        return bad(x, t->root, "its tree does not hold what it counts");
    return rc;
}

/* --- The file ---------------------------------------------------------------------------------------------------- */

/* The newer of the two pages that say where the trees are. */
static ft_code read_metas(examiner *x, lmdb_meta *out)
{
    lmdb_meta m[2];
    x->page_bytes = 4096; /* until the first says its own */
    for (unsigned i = 0; i < 2; i++) {
        if (x->map.bytes < (i + 1) * (uint64_t)x->page_bytes)
            return bad(x, i, "the file ends before it");
        const unsigned char *page = page_at(x, i);
        memcpy(&m[i], page + PAGE_HEADER, sizeof(m[i]));
        if (!(u16_at(page + 10) & IS_META) || m[i].magic != LMDB_MAGIC || m[i].version != 1)
            return bad(x, i, "it is not LMDB's first");
        const uint32_t size = m[i].trees[0].page_bytes;
        if (size < 512 || size > 32768 || (size & (size - 1)) || (i && size != x->page_bytes))
            return bad(x, i, "the size of its pages is impossible");
        x->page_bytes = size;
    }
    *out = m[0].transaction > m[1].transaction ? m[0] : m[1];
    x->pages = x->map.bytes / x->page_bytes;
    x->last_page = out->last_page;
    if (x->last_page < 1 || x->last_page > UINT64_C(1) << 40)
        return bad(x, 0, "the number of its last page is impossible");
    return FT_OK;
}

/* One whose journal has records is taken for what they follow: the rest of it counts for nothing. */
static ft_code examine(examiner *x, const char *folder)
{
    lmdb_meta m;
    ft_code rc = read_metas(x, &m);
    if (rc)
        return rc;
    if (journal_state(folder, &m))
        x->last_page = m.last_page;
    x->seen = ft_alloc_array((size_t)(x->pages / 8 + 1), 1);
    if (!x->seen)
        return ft_fail(x->st, FT_ERR_MEM, "%s: no room to examine it", x->path);
    rc = walk_tree(x, &m.trees[1], 1);
    if (!rc)
        rc = walk_tree(x, &m.trees[0], 0);
    free(x->seen);
    return rc;
}

/* --- One entry ----------------------------------------------------------------------------------------------------- */

/* The first entry of a leaf by that name (NULL: by any), where a tree is just a leaf. */
static ft_code find_entry(const examiner *x, const lmdb_tree *t, const char *name, entry *out)
{
    if (t->depth != 1 || t->root < 2 || t->root >= x->pages)
        return FT_ERR_FORMAT;
    const unsigned char *page = page_at(x, t->root);
    const unsigned lower = u16_at(page + 12);
    if (u64_at(page) != t->root || !(u16_at(page + 10) & IS_LEAF) || lower < PAGE_HEADER || lower > x->page_bytes)
        return FT_ERR_FORMAT;
    for (unsigned i = 0; i < (lower - PAGE_HEADER) / 2; i++)
        if (read_node(x, t->root, i, 0, out) == FT_OK && !(out->flags & IS_BIG) &&
            (!name || (out->key_bytes == strlen(name) && !memcmp(out->key, name, out->key_bytes))))
            return FT_OK;
    return FT_ERR_FORMAT;
}

ft_code lmdb_newest_meta(const ft_map *data, lmdb_meta *out)
{
    examiner x = {.path = "", .map = *data};
    return read_metas(&x, out);
}

ft_code lmdb_find_end(const ft_map *data, const lmdb_meta *m, journal_end *out)
{
    examiner x = {.path = "", .map = *data, .page_bytes = m->trees[0].page_bytes};
    entry e;
    lmdb_tree inner;
    if (x.page_bytes < 512 || x.page_bytes > 32768)
        return FT_ERR_FORMAT;
    x.pages = data->bytes / x.page_bytes;
    ft_code rc = find_entry(&x, &m->trees[1], "journal", &e);
    if (rc || e.data_bytes != sizeof(inner))
        return FT_ERR_FORMAT;
    memcpy(&inner, e.data, sizeof(inner));
    rc = find_entry(&x, &inner, NULL, &e);
    if (rc || e.data_bytes != sizeof(*out))
        return FT_ERR_FORMAT;
    memcpy(out, e.data, sizeof(*out));
    return FT_OK;
}

/* --- From outside --------------------------------------------------------------------------------------------------- */

/* Holds the store's lock alone for as long, so that nobody writes. */
static int lock_folder(const char *folder, int *fd)
{
    char *path = ft_path_join(folder, "lock");
    *fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    free(path);
    struct flock how = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = STORE_LOCK_USE, .l_len = 1};
    return *fd < 0 || fcntl(*fd, F_OFD_SETLK, &how) == 0;
}

ft_code ft_store_examine(const char *folder, ft_status *st)
{
    examiner x = {.st = st};
    int fd;
    if (!lock_folder(folder, &fd)) {
        close(fd);
        return ft_fail(st, FT_ERR_LIMIT, "%s: in use; its pages can be examined when no process has it open", folder);
    }
    char *path = ft_path_join(folder, "data.mdb");
    ft_code rc = path ? ft_map_open(&x.map, path, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    x.path = path;
    if (!rc)
        rc = examine(&x, folder);
    ft_map_close(&x.map);
    free(path);
    if (fd >= 0)
        close(fd);
    return rc;
}
