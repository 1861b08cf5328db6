/* ft_receipt_log: the log of receipts as others see it: its signed head, and proofs that anybody checks offline.
 *
 * A leaf is the SHA-256 of 0x00 and an envelope's bytes as ft_dsse_sign writes them. An envelope that other software
 * wrote anew (its white space, the order of its fields) is written so again before it is looked for.
 *
 * Making needs the store that keeps the log (ft_store_receipt_add, …) and the key that signs; checking needs neither.
 * docs/receipts.md has every field. */
#ifndef FT_RECEIPT_LOG_H
#define FT_RECEIPT_LOG_H
#include "base/ft_json.h"
#include "tracer/ft_dsse.h"
#include "tracer/ft_signed_note.h"

FT_API_BEGIN

/* Whose log: what signs, and its name. */
typedef struct ft_receipt_log {
    ft_store *store;
    const ft_signer *signer;
    char origin[FT_NOTE_ORIGIN];
} ft_receipt_log;
/* `federation` "Our models" gives the origin "Our%20models/receipts". */
void ft_receipt_log_init(ft_receipt_log *out, ft_store *s, const ft_signer *signer, const char *federation);

/* Each gives a new object in *out; sizes may be FT_TREE_NEWEST.
 *   FT_ERR_ARG        there are not so many leaves (or what else the calls of ft_store.h say)
 *   FT_ERR_NOT_FOUND  the receipt, or its envelope with that leaf, is not in the log */
/* {"object": "receipt.log", "origin", "tree_size", "root_hash", "checkpoint"} */
FT_CHECKED ft_code ft_receipt_log_head(const ft_receipt_log *l, uint64_t size, json_t **out, ft_status *st);
/* {"object": "receipt.proof", "id", "leaf_index", "leaf_hash", "leaves", …, "hashes", …}; `leaf` NULL: of the receipt's
 * newest envelope. */
FT_CHECKED ft_code ft_receipt_log_proof(const ft_receipt_log *l, const char *id, const ft_digest *leaf, uint64_t size,
                                        json_t **out, ft_status *st);
/* {"object": "receipt.consistency", "from", "to", …, "hashes", …} */
FT_CHECKED ft_code ft_receipt_log_consistency(const ft_receipt_log *l, uint64_t from, uint64_t to, json_t **out,
                                              ft_status *st);

/* Which entries: a page of at most `limit` (1 to FT_LOG_ENTRIES), the first ones of the log or, descending, the newest;
 * behind the entry number `after`, or just before `before` in that order (FT_TREE_NEWEST: neither). */
enum { FT_LOG_ENTRIES = 100 };
typedef struct ft_log_page {
    uint64_t after, before;
    size_t limit;
    int descending;
} ft_log_page;
/* {"object": "list", "data": [{"id", "object": "receipt.entry", "leaf_index", "leaf_hash"}], "first_id", "last_id",
 * "has_more", "tree_size"}; an entry's id is its number, as text. */
FT_CHECKED ft_code ft_receipt_log_entries(ft_store *s, const ft_log_page *page, json_t **out, ft_status *st);

/* --- Checking ------------------------------------------------------------------------ */

/* The leaf of an envelope. FT_ERR_FORMAT: none that we write, so it is in no log of ours. */
FT_CHECKED ft_code ft_receipt_leaf_of(const ft_envelope *e, ft_digest *out, ft_status *st);

typedef struct ft_log_check {
    ft_log_head head; /* that the proof leads to, or the newer one */
    uint64_t leaf_index;
    uint64_t signed_by; /* bit k: by keys[k] */
    char problem[320];  /* "" or what does not hold */
} ft_log_check;
/* Whether the proof (ft_receipt_log_proof's) shows the leaf in the log whose head one of the keys signed.
 *   FT_ERR_FORMAT  it is no such proof; the message starts with `where` */
FT_CHECKED ft_code ft_receipt_proof_check(const json_t *proof, const ft_digest *leaf, const ft_public_key *keys,
                                          size_t count, const char *where, ft_log_check *out, ft_status *st);
/* Whether the proof (ft_receipt_log_consistency's) shows that the log with the head `new` (NULL: the proof's own, which
 * one of the keys signed) begins with the one with the head `old`. The caller has verified both. */
FT_CHECKED ft_code ft_receipt_consistency_check(const json_t *proof, const ft_log_head *old, const ft_log_head *new,
                                                const ft_public_key *keys, size_t count, const char *where,
                                                ft_log_check *out, ft_status *st);

FT_API_END
#endif
