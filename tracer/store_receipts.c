/* The log of receipts: a Merkle tree over the envelopes that were handed out. "receipts" has its whole subtrees in the
 * order in which they become whole, so that a leaf is put at the end with what it completes; "receipt ids" has the
 * leaves of each receipt. How many there are, and the root, stand in "meta", so that a tree that lost its end does not
 * pass for a whole one. */
#include "tracer/store_internal.h"

#include <inttypes.h>
#include <string.h>

static const char head_key[] = "receipts head";

int receipt_id_is_sound(const char *id)
{
    return strlen(id) == ID_BYTES && (!strncmp(id, "rcp_", 4) || !strncmp(id, "tkd_", 4)) &&
           strspn(id + 4, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ID_BYTES - 4;
}

/* --- The tree ------------------------------------------------------------------------------------------- */

int receipts_node(ft_store *s, MDB_txn *txn, unsigned level, uint64_t number, ft_digest *out)
{
    unsigned char position[8];
    chain_number(ft_merkle_position(level, number), position);
    MDB_val key = store_value(position, sizeof(position)), value;
    const int error = mdb_get(txn, s->receipts, &key, &value);
    if (error || value.mv_size != sizeof(out->bytes))
        return error && error != MDB_NOTFOUND ? error : MDB_CORRUPTED;
    memcpy(out->bytes, value.mv_data, sizeof(out->bytes));
    return 0;
}

/* Nodes out of one transaction, for ft_merkle.h. */
typedef struct node_reader {
    ft_store *s;
    MDB_txn *txn;
    int error; /* LMDB's */
} node_reader;

static ft_code read_node(void *context, unsigned level, uint64_t number, ft_digest *out, ft_status *st)
{
    node_reader *r = context;
    (void)st;
    r->error = receipts_node(r->s, r->txn, level, number, out);
    return r->error ? FT_ERR_IO : FT_OK;
}

int receipts_head(ft_store *s, MDB_txn *txn, ft_tree_head *out)
{
    chain_head head;
    const int error = chain_head_get(s, txn, head_key, &head);
    *out = (ft_tree_head){head.count, head.count ? head.last : ft_digest_of("", 0)};
    return error;
}

static void leaf_key(unsigned char out[RECEIPT_KEY], const char *id, uint64_t index)
{
    memcpy(out, id, ID_BYTES);
    chain_number(index, out + ID_BYTES);
}

/* Calls `each` for the receipt's leaves, newest first, until it returns 0. */
typedef int leaf_visit(void *context, const ft_receipt_leaf *leaf);
static int walk_leaves(ft_store *s, MDB_txn *txn, const char *id, leaf_visit *each, void *context)
{
    unsigned char behind[RECEIPT_KEY];
    MDB_cursor *cursor = NULL;
    leaf_key(behind, id, UINT64_MAX);
    MDB_val key = store_value(behind, sizeof(behind)), value;
    int error = mdb_cursor_open(txn, s->receipt_ids, &cursor);
    if (error)
        return error;
    error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (error = mdb_cursor_get(cursor, &key, &value, error ? MDB_LAST : MDB_PREV); !error;
         error = mdb_cursor_get(cursor, &key, &value, MDB_PREV)) {
        ft_receipt_leaf leaf;
        if (key.mv_size != RECEIPT_KEY || value.mv_size != sizeof(leaf.hash.bytes)) {
            error = MDB_CORRUPTED;
            break;
        }
        if (memcmp(key.mv_data, id, ID_BYTES) != 0)
            break;
        const MDB_val number = {8, (unsigned char *)key.mv_data + ID_BYTES};
        leaf.index = chain_number_of(&number);
        memcpy(leaf.hash.bytes, value.mv_data, sizeof(leaf.hash.bytes));
        if (!each(context, &leaf))
            break;
    }
    mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

typedef struct leaf_search {
    const ft_digest *hash;
    int found;
} leaf_search;

static int is_other(void *context, const ft_receipt_leaf *leaf)
{
    leaf_search *l = context;
    l->found = !memcmp(&leaf->hash, l->hash, sizeof(leaf->hash));
    return !l->found;
}

/* --- Appending ------------------------------------------------------------------------------------------- */

static int put_nodes(ft_store *s, MDB_txn *txn, uint64_t from, const ft_digest *nodes, size_t n)
{
    int error = 0;
    for (size_t i = 0; !error && i < n; i++) {
        unsigned char position[8];
        chain_number(from + i, position);
        MDB_val key = store_value(position, sizeof(position)), value = store_value(nodes[i].bytes, FT_DIGEST_BYTES);
        error = mdb_put(txn, s->receipts, &key, &value, MDB_APPEND);
    }
    return error == MDB_KEYEXIST ? MDB_CORRUPTED : error; /* nodes behind the head's */
}

int receipts_append(ft_store *s, MDB_txn *txn, const char *id, const ft_digest *leaf)
{
    ft_tree_head head;
    ft_digest nodes[FT_MERKLE_LEVELS];
    unsigned char bytes[RECEIPT_KEY];
    size_t n = 0;
    node_reader r = {s, txn, 0};
    leaf_search before = {leaf, 0};
    int error = walk_leaves(s, txn, id, is_other, &before);
    if (!error)
        error = receipts_head(s, txn, &head);
    if (error || before.found)
        return error;
    if (ft_merkle_append(read_node, &r, head.size, leaf, nodes, &n, NULL))
        return r.error;
    error = put_nodes(s, txn, ft_merkle_node_count(head.size), nodes, n);
    leaf_key(bytes, id, head.size);
    MDB_val key = store_value(bytes, sizeof(bytes)), value = store_value(leaf->bytes, sizeof(leaf->bytes));
    if (!error)
        error = mdb_put(txn, s->receipt_ids, &key, &value, 0);
    chain_head next = {.count = head.size + 1};
    if (!error && ft_merkle_root_of(read_node, &r, next.count, &next.last, NULL))
        error = r.error;
    return error ? error : chain_head_put(s, txn, head_key, &next);
}

static ft_code check_id(const ft_store *s, const char *id, ft_code code, ft_status *st)
{
    return receipt_id_is_sound(id) ? FT_OK : ft_fail(st, code, "%s: '%.60s' is not the id of a receipt", s->folder, id);
}

ft_code receipt_op(const ft_store *s, const ft_receipt_entry *e, ft_digest *leaf, store_op *out, ft_status *st)
{
    const ft_code rc = check_id(s, e->id, FT_ERR_ARG, st);
    *leaf = ft_merkle_leaf(FT_MERKLE_SHA256, e->envelope, e->bytes);
    *out = (store_op){
        .kind = OP_RECEIPT, .text = (const char *)leaf->bytes, .text_bytes = sizeof(leaf->bytes), .note = e->id};
    return rc;
}

/* Most envelopes are asked for again: whoever finds theirs there writes nothing. What a reader sees is synced. */
ft_code ft_store_receipt_add(ft_store *s, const char *id, const void *envelope, size_t n, ft_digest *leaf,
                             ft_status *st)
{
    ft_digest hash;
    leaf_search before = {&hash, 0};
    store_op op;
    MDB_txn *txn;
    ft_code rc = receipt_op(s, &(ft_receipt_entry){id, envelope, n}, &hash, &op, st);
    if (!rc)
        rc = store_read_begin(s, &txn, "receipts", st);
    if (rc)
        return rc;
    const int error = walk_leaves(s, txn, id, is_other, &before);
    store_read_end(s, txn);
    if (error)
        return store_fail(s, error, "receipts", st);
    if (leaf)
        *leaf = hash;
    return before.found ? FT_OK : store_commit(s, &op, st);
}

/* --- Reading --------------------------------------------------------------------------------------------- */

/* The tree as of `size` leaves, which is at most what there is. */
static ft_code head_at(node_reader *r, uint64_t size, ft_tree_head *out, ft_status *st)
{
    ft_tree_head newest;
    r->error = receipts_head(r->s, r->txn, &newest);
    if (r->error)
        return FT_ERR_IO;
    if (size != FT_TREE_NEWEST && size > newest.size)
        return ft_fail(st, FT_ERR_ARG, "the log of receipts has %" PRIu64 " leaves, not %" PRIu64, newest.size, size);
    *out = newest;
    if (size >= newest.size)
        return FT_OK;
    out->size = size;
    return ft_merkle_root_of(read_node, r, size, &out->root, st);
}

static ft_code read_begin(node_reader *r, ft_store *s, ft_status *st)
{
    *r = (node_reader){.s = s};
    return store_read_begin(s, &r->txn, "receipts", st);
}

/* What came of it, with the words for LMDB's errors. */
static ft_code read_end(node_reader *r, ft_code rc, ft_status *st)
{
    store_read_end(r->s, r->txn);
    return r->error ? store_fail(r->s, r->error, "receipts", st) : rc;
}

/* Begins with the tree of the first `size` leaves; after a failure nothing is open. */
static ft_code read_tree(node_reader *r, ft_store *s, uint64_t size, ft_tree_head *out, ft_status *st)
{
    ft_code rc = read_begin(r, s, st);
    if (rc)
        return rc;
    rc = head_at(r, size, out, st);
    return rc || r->error ? read_end(r, rc, st) : FT_OK;
}

ft_code ft_store_receipt_head(ft_store *s, uint64_t size, ft_tree_head *out, ft_status *st)
{
    node_reader r;
    ft_code rc = read_tree(&r, s, size, out, st);
    return rc ? rc : read_end(&r, rc, st);
}

typedef struct leaf_list {
    ft_receipt_leaf *leaves;
    size_t count, most;
} leaf_list;

static int take_leaf(void *context, const ft_receipt_leaf *leaf)
{
    leaf_list *l = context;
    if (l->count < l->most)
        l->leaves[l->count++] = *leaf;
    return l->count < l->most;
}

ft_code ft_store_receipt_leaves(ft_store *s, const char *id, ft_receipt_leaf *out, size_t most, size_t *count,
                                ft_status *st)
{
    node_reader r;
    leaf_list l = {out, 0, most};
    *count = 0;
    ft_code rc = check_id(s, id, FT_ERR_NOT_FOUND, st);
    if (!rc)
        rc = read_begin(&r, s, st);
    if (rc)
        return rc;
    r.error = walk_leaves(s, r.txn, id, take_leaf, &l);
    if (!l.count)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: no receipt %s is in the log", s->folder, id);
    *count = l.count;
    return read_end(&r, rc, st);
}

ft_code ft_store_receipt_range(ft_store *s, uint64_t from, ft_digest *out, size_t most, size_t *count,
                               ft_tree_head *head, ft_status *st)
{
    node_reader r;
    *count = 0;
    ft_code rc = read_tree(&r, s, FT_TREE_NEWEST, head, st);
    if (rc)
        return rc;
    const uint64_t left = from < head->size ? head->size - from : 0;
    const size_t n = left < most ? (size_t)left : most;
    for (; !rc && *count < n; ++*count)
        rc = read_node(&r, 0, from + *count, &out[*count], st);
    return read_end(&r, rc, st);
}

ft_code ft_store_receipt_proof(ft_store *s, uint64_t index, uint64_t size, ft_tree_head *head, ft_merkle_proof *out,
                               ft_status *st)
{
    node_reader r;
    ft_code rc = read_tree(&r, s, size, head, st);
    if (rc)
        return rc;
    if (index >= head->size)
        rc = ft_fail(st, FT_ERR_ARG, "leaf %" PRIu64 " is not among the first %" PRIu64, index, head->size);
    if (!rc)
        rc = ft_merkle_inclusion(read_node, &r, index, head->size, out, st);
    return read_end(&r, rc, st);
}

ft_code ft_store_receipt_consistency(ft_store *s, uint64_t from, uint64_t to, ft_tree_head *old, ft_tree_head *head,
                                     ft_merkle_proof *out, ft_status *st)
{
    node_reader r;
    ft_code rc = read_tree(&r, s, to, head, st);
    if (rc)
        return rc;
    if (from > head->size)
        rc = ft_fail(st, FT_ERR_ARG, "a log of %" PRIu64 " leaves does not begin with %" PRIu64, head->size, from);
    if (!rc)
        rc = head_at(&r, from, old, st);
    if (!rc)
        rc = ft_merkle_consistency(read_node, &r, from, head->size, out, st);
    return read_end(&r, rc, st);
}
