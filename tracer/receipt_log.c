/* The log of receipts, for others: heads and proofs made, and checked. */
#include "tracer/ft_receipt_log.h"
#include "tracer/tracer_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LEAVES = 64, HASH_TEXT = 72 };
static const char hash_head[] = "sha256:";

void ft_receipt_log_init(ft_receipt_log *out, ft_store *s, const ft_signer *signer, const char *federation)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    size_t n = 0;
    out->store = s;
    out->signer = signer;
    for (const char *p = federation; *p && n < sizeof(out->origin) - 20; p++)
        n += (size_t)snprintf(out->origin + n, sizeof(out->origin) - n, strchr(plain, *p) ? "%c" : "%%%02X",
                              (unsigned char)*p);
    snprintf(out->origin + n, sizeof(out->origin) - n, "/receipts");
}

/* --- Making --------------------------------------------------------------------------- */

static json_t *hash_json(const ft_digest *d)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(d, hex);
    return json_sprintf("%s%s", hash_head, hex);
}

static json_t *hashes_json(const ft_merkle_proof *p, int *failed)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->count; i++)
        *failed |= json_array_append_new(list, hash_json(&p->nodes[i])) != 0;
    return list;
}

/* "origin", "tree_size", "root_hash" and the signed "checkpoint" behind what the object has. Takes the object over. */
static ft_code finish(const ft_receipt_log *l, const ft_tree_head *tree, json_t *object, int failed, json_t **out,
                      ft_status *st)
{
    ft_buffer note = {0};
    ft_log_head head = {.tree = *tree};
    memcpy(head.origin, l->origin, sizeof(head.origin));
    const ft_code rc = ft_log_head_sign(&note, &head, l->signer, st);
    put(object, "origin", json_string(l->origin), &failed);
    put(object, "tree_size", json_size(tree->size), &failed);
    put(object, "root_hash", hash_json(&tree->root), &failed);
    put(object, "checkpoint", note.data ? json_stringn(note.data, note.size) : NULL, &failed);
    ft_buffer_release(&note);
    if (!rc && !failed) {
        *out = object;
        return FT_OK;
    }
    json_decref(object);
    return rc ? rc : ft_fail(st, FT_ERR_MEM, "receipts: out of memory");
}

ft_code ft_receipt_log_head(const ft_receipt_log *l, uint64_t size, json_t **out, ft_status *st)
{
    ft_tree_head tree;
    *out = NULL;
    const ft_code rc = ft_store_receipt_head(l->store, size, &tree, st);
    return rc ? rc : finish(l, &tree, json_pack("{s:s}", "object", "receipt.log"), 0, out, st);
}

/* Which of the receipt's leaves is meant. */
static ft_code choose_leaf(const ft_receipt_leaf *leaves, size_t count, const char *id, const ft_digest *wanted,
                           size_t *out, ft_status *st)
{
    for (*out = 0; wanted && *out < count; ++*out)
        if (!memcmp(&leaves[*out].hash, wanted, sizeof(*wanted)))
            break;
    return *out < count ? FT_OK : ft_fail(st, FT_ERR_NOT_FOUND, "no envelope of %s with this leaf is in the log", id);
}

ft_code ft_receipt_log_proof(const ft_receipt_log *l, const char *id, const ft_digest *leaf, uint64_t size,
                             json_t **out, ft_status *st)
{
    ft_receipt_leaf leaves[MOST_LEAVES];
    ft_tree_head tree;
    ft_merkle_proof proof;
    size_t count, chosen = 0;
    int failed = 0;
    *out = NULL;
    ft_code rc = ft_store_receipt_leaves(l->store, id, leaves, MOST_LEAVES, &count, st);
    if (!rc)
        rc = choose_leaf(leaves, count, id, leaf, &chosen, st);
    if (!rc)
        rc = ft_store_receipt_proof(l->store, leaves[chosen].index, size, &tree, &proof, st);
    if (rc)
        return rc;
    json_t *object = json_object(), *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *one = json_object();
        put(one, "leaf_index", json_size(leaves[i].index), &failed);
        put(one, "leaf_hash", hash_json(&leaves[i].hash), &failed);
        failed |= json_array_append_new(list, one) != 0;
    }
    put(object, "object", json_string("receipt.proof"), &failed);
    put(object, "id", json_string(id), &failed);
    put(object, "leaf_index", json_size(leaves[chosen].index), &failed);
    put(object, "leaf_hash", hash_json(&leaves[chosen].hash), &failed);
    put(object, "leaves", list, &failed);
    put(object, "hashes", hashes_json(&proof, &failed), &failed);
    return finish(l, &tree, object, failed, out, st);
}

ft_code ft_receipt_log_consistency(const ft_receipt_log *l, uint64_t from, uint64_t to, json_t **out, ft_status *st)
{
    ft_tree_head old, tree;
    ft_merkle_proof proof;
    int failed = 0;
    *out = NULL;
    const ft_code rc = ft_store_receipt_consistency(l->store, from, to, &old, &tree, &proof, st);
    if (rc)
        return rc;
    json_t *object = json_object();
    put(object, "object", json_string("receipt.consistency"), &failed);
    put(object, "from", json_size(from), &failed);
    put(object, "to", json_size(tree.size), &failed);
    put(object, "from_root_hash", hash_json(&old.root), &failed);
    put(object, "hashes", hashes_json(&proof, &failed), &failed);
    return finish(l, &tree, object, failed, out, st);
}

/* --- Entries --------------------------------------------------------------------------- */

/* Numbers [*from, *from + result) of the page, in a log of `size`; *more says whether some follow it in its order. */
static size_t page_range(const ft_log_page *p, uint64_t size, uint64_t *from, int *more)
{
    uint64_t low = 0, high = size; /* of what may be on it */
    const int after = p->after != FT_TREE_NEWEST, before = p->before != FT_TREE_NEWEST;
    if (p->descending ? before : after)
        low = (p->descending ? p->before : p->after) + 1;
    if (p->descending ? after : before)
        high = p->descending ? p->after : p->before;
    high = high < size ? high : size;
    low = low < high ? low : high;
    const int upper = p->descending ? !before : before; /* the page stands at the upper end */
    const size_t n = high - low < p->limit ? (size_t)(high - low) : p->limit;
    *from = upper ? high - n : low;
    *more = p->descending ? *from > 0 : *from + n < size;
    return n;
}

static json_t *entry_json(uint64_t number, const ft_digest *leaf)
{
    return json_pack("{s:o,s:s,s:o,s:o}", "id", json_sprintf("%" PRIu64, number), "object", "receipt.entry",
                     "leaf_index", json_size(number), "leaf_hash", hash_json(leaf));
}

ft_code ft_receipt_log_entries(ft_store *s, const ft_log_page *page, json_t **out, ft_status *st)
{
    ft_digest leaves[FT_LOG_ENTRIES];
    ft_tree_head tree;
    uint64_t from;
    size_t count = 0;
    int more, failed = 0;
    *out = NULL;
    ft_code rc = ft_store_receipt_head(s, FT_TREE_NEWEST, &tree, st);
    const size_t n = rc ? 0 : page_range(page, tree.size, &from, &more);
    if (!rc) /* the log only grows, so that what the head said is there */
        rc = ft_store_receipt_range(s, from, leaves, n, &count, &tree, st);
    if (rc)
        return rc;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const size_t k = page->descending ? count - 1 - i : i;
        failed |= json_array_append_new(list, entry_json(from + k, &leaves[k])) != 0;
    }
    *out = json_pack("{s:s,s:O?,s:O?,s:b,s:o,s:o}", "object", "list", "first_id",
                     json_object_get(json_array_get(list, 0), "id"), "last_id",
                     json_object_get(json_array_get(list, count - 1), "id"), "has_more", more, "tree_size",
                     json_size(tree.size), "data", list);
    if (*out && !failed)
        return FT_OK;
    json_decref(*out);
    *out = NULL;
    return ft_fail(st, FT_ERR_MEM, "receipts: out of memory");
}

/* --- Checking ------------------------------------------------------------------------- */

ft_code ft_receipt_leaf_of(const ft_envelope *e, ft_digest *out, ft_status *st)
{
    ft_buffer text = {0};
    const ft_code rc = ft_dsse_write(&text, e, st);
    if (!rc)
        *out = ft_merkle_leaf(FT_MERKLE_SHA256, text.data, text.size);
    ft_buffer_release(&text);
    return rc;
}

static ft_code no_proof(const char *where, const char *field, const char *what, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s: not a proof of the log of receipts: '%s' must be %s", where, field, what);
}

static int read_hash(const json_t *v, ft_digest *out)
{
    const char *text = json_string_value(v);
    const size_t n = sizeof(hash_head) - 1;
    return text && json_string_length(v) == HASH_TEXT - 1 && !strncmp(text, hash_head, n) &&
           ft_digest_parse(out, text + n, NULL) == FT_OK;
}

static ft_code read_count(const json_t *proof, const char *field, const char *where, uint64_t *out, ft_status *st)
{
    const json_t *v = json_object_get(proof, field);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return no_proof(where, field, "a number of leaves", st);
    *out = (uint64_t)json_integer_value(v);
    return FT_OK;
}

static ft_code read_hashes(const json_t *proof, const char *where, ft_merkle_proof *out, ft_status *st)
{
    const json_t *list = json_object_get(proof, "hashes");
    out->count = json_array_size(list);
    if (!json_is_array(list) || out->count > FT_MERKLE_PROOF)
        return no_proof(where, "hashes", "a list of at most 64 digests", st);
    for (size_t i = 0; i < out->count; i++)
        if (!read_hash(json_array_get(list, i), &out->nodes[i]))
            return no_proof(where, "hashes", "digests, sha256: and 64 hexadecimal digits", st);
    return FT_OK;
}

/* The signed head alone counts: what else the proof says of the tree is for people. */
static ft_code read_head(const json_t *proof, const ft_public_key *keys, size_t count, const char *where,
                         ft_log_check *out, ft_status *st)
{
    const json_t *note = json_object_get(proof, "checkpoint");
    if (!json_is_string(note))
        return no_proof(where, "checkpoint", "a signed note", st);
    const ft_code rc = ft_log_head_open(&out->head, json_string_value(note), json_string_length(note), where, keys,
                                        count, &out->signed_by, st);
    if (!rc && !out->signed_by)
        snprintf(out->problem, sizeof(out->problem), "the head of the log was not signed by %s",
                 count == 1 ? "this key" : "any of these keys");
    return rc;
}

ft_code ft_receipt_proof_check(const json_t *proof, const ft_digest *leaf, const ft_public_key *keys, size_t count,
                               const char *where, ft_log_check *out, ft_status *st)
{
    ft_merkle_proof p;
    ft_digest named;
    memset(out, 0, sizeof(*out));
    ft_code rc = read_count(proof, "leaf_index", where, &out->leaf_index, st);
    if (!rc && !read_hash(json_object_get(proof, "leaf_hash"), &named))
        rc = no_proof(where, "leaf_hash", "a digest", st);
    if (!rc)
        rc = read_hashes(proof, where, &p, st);
    if (!rc)
        rc = read_head(proof, keys, count, where, out, st);
    if (rc || out->problem[0])
        return rc;
    if (memcmp(&named, leaf, sizeof(named)) != 0) {
        char hex[FT_DIGEST_HEX];
        ft_digest_hex(leaf, hex);
        snprintf(out->problem, sizeof(out->problem),
                 "the proof is of another envelope; ask for the one of this with leaf=%s%s", hash_head, hex);
    } else if (!ft_merkle_includes(leaf, out->leaf_index, out->head.tree.size, &out->head.tree.root, p.nodes,
                                   p.count)) {
        snprintf(out->problem, sizeof(out->problem),
                 "the proof does not lead from this receipt to the head of the log");
    }
    return FT_OK;
}

ft_code ft_receipt_consistency_check(const json_t *proof, const ft_log_head *old, const ft_log_head *new,
                                     const ft_public_key *keys, size_t count, const char *where, ft_log_check *out,
                                     ft_status *st)
{
    ft_merkle_proof p;
    uint64_t from, to;
    memset(out, 0, sizeof(*out));
    ft_code rc = read_count(proof, "from", where, &from, st);
    if (!rc)
        rc = read_count(proof, "to", where, &to, st);
    if (!rc)
        rc = read_hashes(proof, where, &p, st);
    if (!rc && new)
        out->head = *new;
    else if (!rc)
        rc = read_head(proof, keys, count, where, out, st);
    if (rc || out->problem[0])
        return rc;
    const ft_log_head *head = &out->head;
    if (strcmp(old->origin, head->origin) != 0)
        snprintf(out->problem, sizeof(out->problem), "the heads are of two logs, '%.80s' and '%.80s'", old->origin,
                 head->origin);
    else if (from != old->tree.size || to != head->tree.size)
        snprintf(out->problem, sizeof(out->problem),
                 "the proof is of sizes %" PRIu64 " and %" PRIu64 ", the heads are of %" PRIu64 " and %" PRIu64, from,
                 to, old->tree.size, head->tree.size);
    else if (!ft_merkle_extends(from, &old->tree.root, to, &head->tree.root, p.nodes, p.count))
        snprintf(out->problem, sizeof(out->problem),
                 "the log of %" PRIu64 " receipts does not begin with the %" PRIu64
                 " that it had: something was altered "
                 "or removed, or the proof is wrong",
                 to, from);
    return FT_OK;
}
