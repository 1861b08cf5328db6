/* ft_store: traces kept in LMDB, found by time, owner, expert, document and key.
 *
 * Writing   callers hand their traces over and wait; whoever finds nobody at work writes all that
 *           wait in one transaction (group commit). A call returns when what it wrote is synced, in the journal.
 * Reading   out of snapshots, which wait for no writer. Long walks take a new snapshot now and then.
 * Lifetime  one open handle on a folder in a process; several processes may share it.
 * Threads   any number.
 * Files     docs/store.md has databases, keys, the schema version and what is refused. */
#ifndef FT_STORE_H
#define FT_STORE_H
#include "base/ft_digest.h"
#include "base/ft_json.h"
#include "base/ft_merkle.h"
#include "model/ft_session.h"

FT_API_BEGIN

typedef struct ft_store ft_store;

enum { FT_TRACE_ID = 31 }; /* "trc_" + 26 characters (Crockford base32: time, then random) + terminator */

/* How much of a trace's routing is kept. Chosen experts are exact in each. */
typedef enum ft_routing_form {
    FT_ROUTING_ROUNDED,      /* weights as n/255: off by at most 1/510 (those outside [0, 1]: exact) */
    FT_ROUTING_EXACT,        /* float32, bit for bit */
    FT_ROUTING_PROBABILITIES /* the same, and the router's probability of every expert */
} ft_routing_form;
/* "rounded", "exact", "probabilities"; FT_ERR_ARG for another name. */
FT_CHECKED ft_code ft_routing_form_read(const char *name, ft_routing_form *out, ft_status *st);
const char *ft_routing_form_name(ft_routing_form form);

typedef struct ft_store_options {
    uint64_t max_bytes; /* the file grows by itself up to this; 0: as far as the disk goes */
    ft_routing_form routing;
} ft_store_options;

/* Makes the folder where missing; a store of an earlier schema is brought to this one first, which a
 * kill interrupts but never breaks. `options` NULL: all zero.
 *   FT_ERR_FORMAT  the folder is not ours, damaged, or from a newer version
 *   FT_ERR_IO      it cannot be made or opened */
FT_CHECKED ft_code ft_store_open_with(ft_store **out, const char *folder, const ft_store_options *options,
                                      ft_status *st);
FT_CHECKED ft_code ft_store_open(ft_store **out, const char *folder, uint64_t max_bytes, ft_status *st);
void ft_store_close(ft_store *s); /* NULL is allowed */
const char *ft_store_folder(const ft_store *s);

/* A fresh id, ordered by time. */
void ft_trace_id_new(char id[FT_TRACE_ID]);
/* 1 and the time in *milliseconds since 1970 where `id` has the form of one, else 0. */
int ft_trace_id_time(const char *id, uint64_t *milliseconds);
/* Puts "id" and "created" (the id's time) in front of the trace's fields; *trace is
 * replaced. FT_ERR_ARG where `id` is none. */
FT_CHECKED ft_code ft_trace_stamp(json_t **trace, const char *id, ft_status *st);

/* --- Traces ---------------------------------------------------------------------------------- */

/* Written in one transaction, with its keys and its line in the ledger; synced when it returns FT_OK.
 * `routing` may be NULL; where it is given it stands for "ids" and "weights" of the trace's "routing"
 * (its probs may be NULL). An id that is there already is replaced.
 *   FT_ERR_LIMIT  the store's maximum size was reached; nothing was written
 *   FT_ERR_IO     the disk is full or failed; nothing was written, and all earlier traces stay */
FT_CHECKED ft_code ft_store_put(ft_store *s, const char *id, const json_t *trace, const ft_routing *routing,
                                ft_status *st);
/* New reference in *trace, as it was put, routing included (its weights as they are kept); FT_ERR_NOT_FOUND
 * for an id that is not there, FT_ERR_FORMAT where its bytes are damaged. */
FT_CHECKED ft_code ft_store_get(ft_store *s, const char *id, json_t **trace, ft_status *st);
/* The same as JSON text, without "ids" and "weights" of the routing; appended to `out`. */
FT_CHECKED ft_code ft_store_get_text(ft_store *s, const char *id, ft_buffer *out, ft_status *st);

/* Routing as it is kept; probs is NULL unless probabilities are. A trace without routing is FT_ERR_NOT_FOUND.
 * Experts stand by falling weight; of weights that were rounded to the same value, by number. */
typedef struct ft_stored_routing {
    ft_routing view;
    ft_routing_form form;
    void *memory;
} ft_stored_routing;
void ft_stored_routing_release(ft_stored_routing *r);
FT_CHECKED ft_code ft_store_get_routing(ft_store *s, const char *id, ft_stored_routing *out, ft_status *st);
/* Its bytes as they lie in the store, for a copy into another one; and a trace put with such bytes
 * (size 0: none), which are checked. */
FT_CHECKED ft_code ft_store_get_packed(ft_store *s, const char *id, ft_buffer *out, ft_status *st);
FT_CHECKED ft_code ft_store_put_packed(ft_store *s, const char *id, const json_t *trace, const void *bytes, size_t n,
                                       ft_status *st);

/* Newest first; `before` "" or an id. At most `limit` ids. */
FT_CHECKED ft_code ft_store_list(ft_store *s, const char *before, size_t limit, char (*ids)[FT_TRACE_ID], size_t *count,
                                 ft_status *st);
/* Small facts beside the traces, by name (at most 400 bytes), such as the digests of model files; they
 * are in no list and no export. get appends to *out. FT_ERR_NOT_FOUND: no such note. */
FT_CHECKED ft_code ft_store_note_get(ft_store *s, const char *name, ft_buffer *out, ft_status *st);
FT_CHECKED ft_code ft_store_note_put(ft_store *s, const char *name, const void *bytes, size_t n, ft_status *st);
/* 32 random bytes, made when first asked for, the same ever after: the salts of receipts come from
 * them. They leave the store in no other way. */
enum { FT_STORE_SECRET = 32 };
FT_CHECKED ft_code ft_store_secret(ft_store *s, unsigned char secret[FT_STORE_SECRET], ft_status *st);
/* One read transaction: for /readyz. */
FT_CHECKED ft_code ft_store_check(ft_store *s, ft_status *st);

typedef struct ft_store_sizes {
    uint64_t traces, log_lines;
    uint64_t used_bytes; /* pages that hold something; the file keeps those that became free */
    uint64_t file_bytes;
} ft_store_sizes;
FT_CHECKED ft_code ft_store_get_sizes(ft_store *s, ft_store_sizes *out, ft_status *st);

/* --- Questions --------------------------------------------------------------------------------- */

/* What a trace must have; a zeroed filter but for expert -1 takes all. Owner, document, verdict and min_tokens
 * have to hold for one and the same span. Names are compared by 64-bit hashes, but that of the model. No list of ids
 * leads to model and text: they are looked for in the row, and in the trace, of whatever fits otherwise. */
typedef struct ft_store_filter {
    uint64_t from_ms, to_ms; /* half-open, since 1970; to_ms 0: no end */
    const char *owner;       /* a span stands in this owner's index … */
    const char *document;    /* … in the document with this id … */
    const char *verdict;     /* … has this verdict … */
    uint32_t min_tokens;     /* … and at least so many tokens */
    const char *key;
    const char *without; /* owner (or "expert N") that took no part */
    const char *model;   /* its name, as the trace has it */
    const char *text;    /* the text of the response holds these characters (ft_filter_text_check) */
    int expert;          /* -1: any; its share over the response was above 0 … */
    double min_share;    /* … and at least this */
} ft_store_filter;
ft_store_filter ft_store_filter_all(void);
enum { FT_FILTER_TEXT = 1000 }; /* bytes of a filter's text */
/* FT_ERR_ARG where `text` is empty, longer, or not UTF-8; the message begins with what it must be. */
FT_CHECKED ft_code ft_filter_text_check(const char *text, ft_status *st);

/* What a page's rows have as "spans". Thousands of documents stand in a page's spans, and reading them takes most of
 * its time: who only shows them, counts them or wants few of them need not have them read. */
typedef enum ft_row_spans {
    FT_ROW_SPANS,      /* the list */
    FT_ROW_SPANS_FIT,  /* of the list those that have what the filter asks of a span; names compared by hashes */
    FT_ROW_SPANS_TEXT, /* a string: the list as JSON, which ft_store_rows_write writes as it is */
    FT_ROW_SPANS_COUNT /* how many there are (65,535: at least so many) */
} ft_row_spans;

typedef struct ft_store_page {
    size_t limit;
    const char *after, *before; /* ids, or NULL: what comes after, or just before that one in the order asked for */
    int ascending;              /* oldest first */
    ft_row_spans spans;
    int total; /* count all that fit, too */
} ft_store_page;

/* Rows are what docs/store.md calls summaries, each with its "id". The work for one page has a ceiling: where
 * few among many fit, a page ends early; then it has fewer rows than asked for, more is 1 all the same, and
 * `last` is the last trace that was looked at: going on after it misses nothing and repeats nothing. */
typedef struct ft_store_rows {
    json_t *list; /* array; the caller drops the reference */
    char first[FT_TRACE_ID], last[FT_TRACE_ID];
    int more;
    uint64_t total; /* where it was asked for: all that fit, wherever the page stands … */
    int at_least;   /* … or 1: so many, and the rest was beyond what one question may look into */
} ft_store_rows;
FT_CHECKED ft_code ft_store_query(ft_store *s, const ft_store_filter *filter, const ft_store_page *page,
                                  ft_store_rows *out, ft_status *st);
/* Appends a page's list as JSON: byte for byte the same whether its spans are a list or a list's text. */
FT_CHECKED ft_code ft_store_rows_write(const json_t *rows, ft_buffer *out, ft_status *st);

/* Calls `visit` for every trace that fits, oldest first; `row` is its summary, borrowed, with its "id" (NULL where
 * with_rows is 0). No transaction is open during the call. What is put while it runs may be visited or not; a
 * failing visit ends it with that code. */
typedef ft_code ft_store_visit(void *context, const char *id, json_t *row, ft_status *st);
FT_CHECKED ft_code ft_store_walk(ft_store *s, const ft_store_filter *filter, int with_rows, ft_store_visit *visit,
                                 void *context, ft_status *st);
/* The same from behind the trace `after` on (NULL: from the first). Where long nothing fits, `visit` is called with id
 * NULL now and then, so that it can end the walk. */
FT_CHECKED ft_code ft_store_walk_after(ft_store *s, const ft_store_filter *filter, const char *after, int with_rows,
                                       ft_store_visit *visit, void *context, ft_status *st);

/* --- Keeping and deleting ----------------------------------------------------------------------- */

typedef struct ft_retention {
    uint64_t max_age_ms, min_age_ms; /* older ones go; younger ones never; 0: no such bound */
    uint64_t max_bytes;              /* of used_bytes: the oldest go until it is reached; 0: none */
} ft_retention;
/* Deletes the oldest, at most `most` of them (0: all that have to go), a few a transaction. *deleted says how many;
 * a line in the log says so too. */
FT_CHECKED ft_code ft_store_retain(ft_store *s, const ft_retention *r, uint64_t now_ms, size_t most, size_t *deleted,
                                   ft_status *st);
/* One trace; FT_ERR_NOT_FOUND where it is not there. */
FT_CHECKED ft_code ft_store_remove(ft_store *s, const char *id, ft_status *st);
/* Its JSON is replaced, routing stays: for redaction (ft_erasure.h). */
FT_CHECKED ft_code ft_store_redact(ft_store *s, const char *id, const json_t *trace, ft_status *st);

/* Writes all that lives into a new file, which takes the old one's place: afterwards what was deleted or redacted
 * is in no file of the store. Needs the room twice meanwhile; readers go on until the exchange, writers wait. A kill
 * leaves the old file or the new one.
 *   FT_ERR_ARG  another process has the store open */
FT_CHECKED ft_code ft_store_compact(ft_store *s, ft_status *st);

/* --- The log ------------------------------------------------------------------------------------ */

/* Appends one line {"seq","time","who","what", …fields…, "prev"} to the log of who asked what; prev is the hex SHA-256
 * of the line before it (64 zeros in the first). Synced when it returns. `fields` is consumed; may be NULL. */
FT_CHECKED ft_code ft_store_log(ft_store *s, const char *who, const char *what, json_t *fields, ft_status *st);
/* The same, and ft_store_logged finds the line by `name` (at most 390 bytes) from then on: of several of one name, the
 * last. One transaction. */
FT_CHECKED ft_code ft_store_log_as(ft_store *s, const char *name, const char *who, const char *what, json_t *fields,
                                   ft_status *st);
/* A line by its name, or by its number; a new reference. FT_ERR_NOT_FOUND: there is none. */
FT_CHECKED ft_code ft_store_logged(ft_store *s, const char *name, json_t **line, ft_status *st);
FT_CHECKED ft_code ft_store_log_line(ft_store *s, uint64_t number, json_t **line, ft_status *st);
/* Lines with their numbers from `from` on (1 is the first), at most `limit`, each of `what` begins with `prefix`
 * (NULL: all) and of time [from_ms, to_ms); objects in *lines (array, new reference) as they are written, and in
 * *next the number to go on from, 0 at the end. */
typedef struct ft_log_query {
    uint64_t from, from_ms, to_ms;
    const char *prefix, *who;
    size_t limit;
} ft_log_query;
FT_CHECKED ft_code ft_store_read_log(ft_store *s, const ft_log_query *q, json_t **lines, uint64_t *next, ft_status *st);
/* The same as text, one line each. */
typedef ft_code ft_log_visit(void *context, uint64_t number, const char *line, size_t n, ft_status *st);
FT_CHECKED ft_code ft_store_walk_log(ft_store *s, uint64_t from, ft_log_visit *visit, void *context, ft_status *st);

/* --- The log of receipts --------------------------------------------------------------------------- */

/* A Merkle tree (base/ft_merkle.h) whose leaves are the signed envelopes that were handed out, in order. It has their
 * hashes and the ids of their receipts, nothing of what they say, so that nothing ever has to be taken out of it. */
typedef struct ft_tree_head {
    uint64_t size; /* leaves */
    ft_digest root;
} ft_tree_head;
#define FT_TREE_NEWEST UINT64_MAX /* as a size: all leaves that there are */

/* Puts an envelope behind the others, under the id of its receipt ("rcp_", or of a certificate "tkd_", and 26
 * characters), synced when it returns; one that is there already stays where it is. *leaf (may be NULL) is its hash.
 *   FT_ERR_ARG  `id` is none */
FT_CHECKED ft_code ft_store_receipt_add(ft_store *s, const char *id, const void *envelope, size_t n, ft_digest *leaf,
                                        ft_status *st);
/* The same in one transaction with a trace (ft_store_put), or with a line of the log (ft_store_log): one sync, and
 * either both are there or neither. `envelope` NULL: no receipt, the other alone. */
typedef struct ft_receipt_entry {
    const char *id;
    const void *envelope;
    size_t bytes;
} ft_receipt_entry;
FT_CHECKED ft_code ft_store_put_with(ft_store *s, const char *id, const json_t *trace, const ft_routing *routing,
                                     const ft_receipt_entry *receipt, ft_status *st);
FT_CHECKED ft_code ft_store_log_with(ft_store *s, const char *who, const char *what, json_t *fields,
                                     const ft_receipt_entry *receipt, ft_status *st);
/* The tree of the first `size` leaves. FT_ERR_ARG: there are not so many. */
FT_CHECKED ft_code ft_store_receipt_head(ft_store *s, uint64_t size, ft_tree_head *out, ft_status *st);

typedef struct ft_receipt_leaf {
    uint64_t index; /* from 0 */
    ft_digest hash;
} ft_receipt_leaf;
/* Leaves of a receipt, newest first, at most `most`: of each envelope of it one (with and without its prompt, by
 * another key). FT_ERR_NOT_FOUND: it has none. */
FT_CHECKED ft_code ft_store_receipt_leaves(ft_store *s, const char *id, ft_receipt_leaf *out, size_t most,
                                           size_t *count, ft_status *st);
/* Leaves in order, from number `from` on, at most `most`; of the same state, the tree of all. None where there are not
 * so many. */
FT_CHECKED ft_code ft_store_receipt_range(ft_store *s, uint64_t from, ft_digest *out, size_t most, size_t *count,
                                          ft_tree_head *head, ft_status *st);
/* That the leaf stands in the tree of the first `size` leaves; of the same state, that tree.
 *   FT_ERR_ARG  there are not so many leaves, or the leaf came later */
FT_CHECKED ft_code ft_store_receipt_proof(ft_store *s, uint64_t index, uint64_t size, ft_tree_head *head,
                                          ft_merkle_proof *out, ft_status *st);
/* That the tree of `to` leaves begins with the one of `from`; the two trees.
 *   FT_ERR_ARG  there are not so many leaves, or `from` is more than `to` */
FT_CHECKED ft_code ft_store_receipt_consistency(ft_store *s, uint64_t from, uint64_t to, ft_tree_head *old,
                                                ft_tree_head *head, ft_merkle_proof *out, ft_status *st);

/* --- The check ---------------------------------------------------------------------------------------- */

/* Number of lines and the hash of the last, of the log and of the ledger, and the tree of receipts: who keeps them
 * elsewhere can later tell that no line before was removed or altered, even by somebody who computed all hashes anew. */
typedef struct ft_store_heads {
    uint64_t log_count, ledger_count;
    ft_digest log, ledger;
    ft_tree_head receipts;
} ft_store_heads;
FT_CHECKED ft_code ft_store_get_heads(ft_store *s, ft_store_heads *out, ft_status *st);

/* Checks every line of log and ledger, every trace against the ledger, every key against its trace, and the whole tree
 * of receipts; each fault is
 * one string in the array `problems` of *report (new reference), next to counts and heads. FT_OK also where there are
 * faults. `known` (may be NULL): heads that were kept elsewhere.
 * The file's structure is checked before LMDB follows it: ft_store_examine. */
FT_CHECKED ft_code ft_store_verify(ft_store *s, const ft_store_heads *known, json_t **report, ft_status *st);
/* The pages of a store's data.mdb, by our own bounds-checked reader: FT_ERR_FORMAT names the page. Reads the whole
 * tree; the file must not be written meanwhile. */
FT_CHECKED ft_code ft_store_examine(const char *folder, ft_status *st);

FT_API_END
#endif
