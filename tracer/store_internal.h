/* What the store's files share, and nobody else sees; docs/store.md draws what lies on disk.
 *
 *   ft_store.c        opening, growing, ids, errors
 *   store_write.c     group commit: operations that wait, and who writes them
 *   store_journal.c   one sync a commit
 *   store_recover.c   after a loss of power or a kill
 *   store_notes.c     small facts by name
 *   store_read.c      traces and routing by id, lists, sizes
 *   store_pack.c      values: frames with checksums
 *   store_routing.c   routing as bytes
 *   store_summary.c   what is known of a trace without reading it, and its keys
 *   store_row.c       what a list shows of a trace
 *   store_runs.c      the keys as sorted runs: written, merged, trimmed
 *   store_stream.c    a list of ids in order, out of them
 *   store_query.c     filters, pages, walks
 *   store_keep.c      retention, removal, compaction
 *   store_chain.c     log and ledger
 *   store_receipts.c  the log of receipts, a Merkle tree
 *   store_verify.c    the check of all that
 *   store_examine.c   the pages of data.mdb
 *   store_migrate.c   from earlier schemas */
#ifndef FT_STORE_INTERNAL_H
#define FT_STORE_INTERNAL_H
#include "base/ft_file.h"
#include "tracer/ft_store.h"

#include <lmdb.h>
#include <pthread.h>

enum {
    SCHEMA_VERSION = 6,
    ID_BYTES = FT_TRACE_ID - 1,
    STORE_ID = 16, /* an id's 128 bits: in keys of our own */
    STORE_KEY = 1 + 8 + 1 + STORE_ID,
    RUN_KEY = 8 + STORE_KEY,      /* of a chunk of a run */
    STORE_BATCH_BYTES = 32 << 20, /* of values in one transaction */
    STORE_DATABASES = 16          /* at most */
};

struct store_op;

typedef struct store_key {
    unsigned char bytes[STORE_KEY];
} store_key;

/* The keys of a transaction. */
typedef struct key_batch {
    store_key *keys;
    size_t count, capacity;
    int removed; /* traces were: runs may have to go */
} key_batch;

/* What LMDB says of the journal: where its records end. */
typedef struct journal_end {
    unsigned char id[16];    /* of this store, random */
    unsigned char nonce[16]; /* of the generation that is meant */
    uint64_t at;
} journal_end;

typedef struct store_journal {
    int fd;       /* -1: not open */
    MDB_txn *pin; /* a reader of the state that the records follow, or of an earlier one; NULL: none */
    int used;     /* records were written since this handle settled it */
    int off;      /* commits are synced by LMDB */
    int failed;   /* an error after which nothing is written any more */
    int recovered;
    uint64_t dirty; /* bytes in data.mdb, about, that nobody asked the system to write */
    ft_buffer record;
    journal_end end; /* of the transaction at hand */
} store_journal;

struct ft_store {
    MDB_env *env;
    MDB_dbi meta, traces, routing, summaries, ledger, log;
    MDB_dbi receipts, receipt_ids; /* the tree's nodes; which leaves a receipt has */
    MDB_dbi journal_end;           /* one entry */
    MDB_dbi runs, run_keys; /* the keys; */
    MDB_dbi keys;           /* and those that schema 2 wrote, until a compaction */
    char *folder;
    ft_store_options options;
    uint32_t schema;
    int lock; /* descriptor of the file "lock" */

    /* Readers share it for the length of a transaction; whoever changes the map's size, or the file, has it alone. */
    pthread_rwlock_t map;
    pthread_mutex_t txn_lock; /* a transaction that writes is open, or the pin changes; taken after `map` */

    pthread_mutex_t queue_lock;
    pthread_cond_t moved;   /* an operation is done, or nobody writes any more */
    pthread_cond_t company; /* as many wait as the one who is about to write waits for */
    struct store_op *first, **last;
    size_t waiting;        /* calls in the queue */
    size_t awaited;        /* how many to wait for; 0: nobody does */
    size_t together;       /* calls that the last transaction had, and those that waited for it */
    uint64_t last_took_ns; /* the last transaction */
    int writing;

    key_batch batch;       /* of whoever is writing */
    store_journal journal; /* likewise */

    pthread_mutex_t packers_lock;
    struct packer *packers; /* those that nobody uses */
    int idle_packers;
};

/* --- ft_store.c ------------------------------------------------------------------------------ */

ft_code store_fail(const ft_store *s, int error, const char *doing, ft_status *st);
/* Opens the environment and its databases on s->folder; and closes them. With the map's lock held alone, or
 * before anybody else has the handle. */
ft_code store_attach(ft_store *s, ft_status *st);
void store_detach(ft_store *s);
/* The lock on the store's folder, shared or alone; 0, or -1 with errno. */
int store_lock(const ft_store *s, int alone, int wait);
enum { STORE_LOCK_USE, STORE_LOCK_OPEN }; /* bytes of the file "lock": who has the store open; who is opening it */
/* A read transaction, with the map's lock shared until store_read_end. */
ft_code store_read_begin(ft_store *s, MDB_txn **txn, const char *doing, ft_status *st);
void store_read_end(ft_store *s, MDB_txn *txn);
/* A larger map, while no transaction of ours is open; MDB_MAP_FULL at the ceiling. */
int store_grow(ft_store *s);
/* A write transaction; takes over the size that another process gave the map. store_write_end after its end, but not
 * where it could not begin. */
int store_write_begin(ft_store *s, MDB_txn **txn);
void store_write_end(ft_store *s);

ft_code store_check_id(const ft_store *s, const char *id, ft_code code, ft_status *st);
void store_id_pack(const char *id, unsigned char out[STORE_ID]);
void store_id_unpack(const unsigned char id[STORE_ID], char out[FT_TRACE_ID]);
/* The least (last 0) or greatest id of a millisecond. */
void store_id_of_time(uint64_t milliseconds, int last, unsigned char out[STORE_ID]);
uint64_t store_id_time(const unsigned char id[STORE_ID]);

static inline MDB_val store_value(const void *bytes, size_t n)
{
    return (MDB_val){n, (void *)(uintptr_t)bytes};
}

/* --- store_write.c ----------------------------------------------------------------------------- */

typedef enum store_op_kind { OP_PUT, OP_REDACT, OP_REMOVE, OP_LOG, OP_NOTE, OP_RECEIPT } store_op_kind; /* on disk */

/* One change. PUT and REDACT have bytes for the trace and its summary, PUT those of routing too (size 0: none). */
typedef struct store_op {
    struct store_op *next; /* waits behind it; */
    struct store_op *with; /* or belongs to it: the two are in one transaction */
    ft_buffer trace, routing, summary;
    const char *text; /* OP_LOG: fields as JSON text, without braces; OP_NOTE: its bytes; OP_RECEIPT: the leaf's hash */
    size_t text_bytes;
    /* OP_NOTE: its key in "meta"; OP_LOG: the key that gets the line's number, or NULL; OP_RECEIPT: the receipt's id */
    const char *note;
    uint64_t time_ms; /* in ledger and log; 0: when it is written */
    store_op_kind kind;
    char id[FT_TRACE_ID];
    int keep;          /* OP_NOTE: what is there already stays */
    int done, missing; /* missing: REDACT or REMOVE of what is not there; nothing was changed */
    ft_code rc;
    ft_status st;
} store_op;

/* Hands `op` (and those `with` it) over and waits until they are synced. */
ft_code store_commit(ft_store *s, store_op *op, ft_status *st);
void store_op_release(store_op *op);
/* The same without waiting or company, before anybody else has the handle. */
FT_CHECKED ft_code store_write_now(ft_store *s, store_op *list, ft_status *st);
/* Keeps everybody else from writing: from the moment it returns until it is given back. */
void store_writer_take(ft_store *s);
void store_writer_give(ft_store *s);
/* One PUT made ready: `packed` stands for routing where that is NULL. */
ft_code store_op_put(ft_store *s, store_op *op, const char *id, const json_t *trace, const ft_routing *routing,
                     const void *packed, size_t packed_bytes, ft_status *st);

/* --- store_journal.c, store_recover.c ---------------------------------------------------------------- */

/* Each gives an LMDB error, or 0. Where in the journal the transaction's record will stand, 0 where it has none; right
 * after its begin. Then, in place of mdb_txn_commit: when it returns 0, the changes last. */
int journal_begin(ft_store *s, MDB_txn *txn, const store_op *list, uint64_t *at);
int journal_commit(ft_store *s, MDB_txn *txn, uint64_t at);
/* Syncs data.mdb, so that no records are needed; begins a transaction for it. */
int journal_settle(ft_store *s);
/* The same, and no record's bytes stay in the file. */
int journal_wipe(ft_store *s);
int journal_lengthen(ft_store *s); /* as long as it should be */
/* With the map's lock held alone, and that for transactions; or by whoever writes. */
void journal_unpin(ft_store *s);
void journal_close(ft_store *s); /* settles it where this handle used it */
/* The database's one entry, where it is missing. */
int journal_end_make(ft_store *s, MDB_txn *txn);
/* With the folder held alone: before LMDB opens it, and, where that set journal.recovered, after. */
FT_CHECKED ft_code journal_recover(ft_store *s, ft_status *st);
FT_CHECKED ft_code journal_replay(ft_store *s, ft_status *st);

/* --- store_pack.c -------------------------------------------------------------------------------- */

/* What packing and unpacking need: zstd's contexts, and room for text. Whoever packs takes one and gives it back; it
 * belongs to one thread meanwhile. Those that nobody uses are kept, a few, until the store is closed. */
typedef struct packer packer;
FT_CHECKED ft_code packer_take(ft_store *s, packer **out, ft_status *st);
void packer_give(ft_store *s, packer *p); /* NULL is allowed */
void packers_free(ft_store *s);
ft_buffer *packer_text(packer *p); /* its room for text, emptied; a view until the next call with it */
/* Appends n bytes as one zstd frame that carries its size and a checksum. */
FT_CHECKED ft_code frame_append(packer *p, ft_buffer *out, const void *bytes, size_t n, ft_status *st);
/* Appends the content of the frame that fills bytes[0..n). */
FT_CHECKED ft_code frame_read(packer *p, ft_buffer *out, const void *bytes, size_t n, const char *id, ft_status *st);

/* JSON without its "id" being touched, its reals in a frame of their own; with `apart` the routing's "ids" and
 * "weights", which are stored beside it, are left out. */
FT_CHECKED ft_code pack_trace(packer *p, ft_buffer *out, const json_t *trace, int apart, ft_status *st);
/* Appends the JSON, as ft_json_write gives it; or with FT_JSON_REAL for each real, which is quicker. */
FT_CHECKED ft_code trace_read_text(packer *p, ft_buffer *out, const void *bytes, size_t n, const char *id,
                                   ft_status *st);
FT_CHECKED ft_code trace_read_marked(packer *p, ft_buffer *out, const void *bytes, size_t n, const char *id,
                                     ft_status *st);
FT_CHECKED ft_code unpack_trace(packer *p, json_t **out, const ft_buffer *value, const char *id, ft_status *st);

/* --- store_routing.c ------------------------------------------------------------------------------ */

FT_CHECKED ft_code pack_routing(packer *p, ft_buffer *out, const ft_routing *r, ft_routing_form form,
                                ft_status *st);
FT_CHECKED ft_code unpack_routing(packer *p, ft_stored_routing *out, const void *bytes, size_t n, const char *id,
                                  ft_status *st);

/* --- store_summary.c ------------------------------------------------------------------------------- */

typedef struct summary_head {
    uint64_t key;            /* hash of the name; 0: none */
    uint32_t tokens, prompt; /* of response and prompt */
    uint32_t places;         /* spans × documents */
    uint16_t spans, owners, experts, without;
    uint32_t reserved;
} summary_head;
typedef struct summary_span {
    uint64_t owners; /* bit i: the i-th of `owners` */
    uint32_t start, end, first_place, places;
    uint32_t verdict; /* number of its name; 0: none */
    uint32_t reserved;
} summary_span;
typedef struct summary_place {
    uint64_t document; /* hash of its id */
    uint32_t owner;    /* number in `owners` */
    uint32_t span;
} summary_place;
typedef struct summary_expert {
    uint32_t id;
    float share; /* over the response; 0 where it took no part */
} summary_expert;

/* Arrays in one block; owners and without are hashes of names. */
typedef struct summary {
    summary_head head;
    uint64_t *owners, *without;
    summary_span *spans;
    summary_place *places;
    summary_expert *experts;
    void *memory;
} summary;

FT_CHECKED ft_code summary_of(summary *out, const json_t *trace, ft_status *st);
void summary_release(summary *m);
/* The value: head and arrays, then the row as a frame. */
FT_CHECKED ft_code summary_pack(packer *p, ft_buffer *out, const json_t *trace, ft_status *st);
/* `bytes` need no alignment. */
FT_CHECKED ft_code summary_read(summary *out, const void *bytes, size_t n, const char *id, ft_status *st);
/* What is wanted of a row's spans; fits(context, i) says whether the i-th fits (NULL: all do). */
typedef struct row_choice {
    ft_row_spans how;
    int (*fits)(const void *context, size_t number);
    const void *context;
} row_choice;
FT_CHECKED ft_code summary_read_row(packer *p, json_t **out, const void *bytes, size_t n, const row_choice *choice,
                                    const char *id, ft_status *st);
uint64_t summary_hash(const char *name); /* never 0 */
uint32_t summary_verdict(const char *name);
const char *span_verdict(const json_t *span); /* its name; NULL: it has none */

/* Keys of a trace: kind, what, class, id. A class is a threshold that its longest span (its share) reaches: a
 * trace stands in every class up to its own, so that a question for long spans walks few keys. */
typedef enum key_kind {
    KEY_KEY = 1, /* who asked */
    KEY_OWNER,   /* a span stands in an owner's index; classes of tokens */
    KEY_DOCUMENT,
    KEY_VERDICT,
    KEY_SPAN,   /* any span */
    KEY_EXPERT, /* classes of shares */
    KEY_WITHOUT
} key_kind;
enum { KEY_CLASSES = 9 };
unsigned key_class_of_tokens(uint32_t tokens); /* the highest class whose threshold it reaches; tokens >= 1 */
unsigned key_class_of_share(double share);
void key_write(unsigned char out[STORE_KEY], key_kind kind, uint64_t what, unsigned class,
               const unsigned char id[STORE_ID]);
/* Calls `each` for every key, until it returns non-zero, which is then the result. */
typedef int key_visit(void *context, const unsigned char key[STORE_KEY]);
int summary_keys(const summary *m, const unsigned char id[STORE_ID], key_visit *each, void *context);

/* --- store_runs.c --------------------------------------------------------------------------------- */

/* Each gives an LMDB error, ENOMEM, or 0. */
int batch_add(key_batch *b, const unsigned char key[STORE_KEY]);
void batch_release(key_batch *b);

typedef struct run_place {
    MDB_dbi runs; /* number -> head */
    MDB_dbi keys; /* number, first key -> a chunk: keys in order */
} run_place;
static inline run_place store_runs(const ft_store *s)
{
    return (run_place){s->runs, s->run_keys};
}
static inline const unsigned char *key_id(const store_key *k)
{
    return k->bytes + STORE_KEY - STORE_ID;
}
typedef struct run_head {
    uint64_t keys;
    unsigned char first[STORE_ID], last[STORE_ID]; /* the least and the greatest id */
} run_head;
typedef struct run_info {
    uint64_t number;
    run_head head;
} run_info;
typedef struct run_list {
    run_info *runs;
    size_t count, capacity;
} run_list;
/* All runs by number; released by the caller. */
int runs_read(MDB_txn *txn, run_place place, run_list *out);
void runs_release(run_list *l);
/* Writes what is in the batch as one run; puts it in order, each key once. */
int run_write(MDB_txn *txn, run_place place, key_batch *b);
/* At a transaction's end: what its changes put into s->batch becomes a run; runs are merged, or trimmed of traces that
 * were removed. */
int runs_commit(ft_store *s, MDB_txn *txn);
/* An entry of the chunks' database as keys of the run; MDB_NOTFOUND: it is another's, MDB_CORRUPTED: it is none. */
int run_chunk(uint64_t number, const MDB_val *key, const MDB_val *value, const store_key **keys, size_t *count);
/* All bits set where there is no trace. */
int oldest_trace(const ft_store *s, MDB_txn *txn, unsigned char out[STORE_ID]);

/* --- store_stream.c -------------------------------------------------------------------------------- */

/* An open run: a chunk, and where in it the list stands. */
typedef struct run_source {
    uint64_t number;
    const store_key *keys;
    size_t count, at;
} run_source;

/* The ids of keys with one prefix (of 0 bytes: of all traces), upwards or downwards, inside one read transaction. An id
 * may be of a trace that was removed, or that has this key no more. */
typedef struct id_stream {
    unsigned char prefix[STORE_KEY - STORE_ID];
    size_t prefix_bytes;
    int down, placed;
    unsigned char at[STORE_ID];
    size_t steps; /* how often something was moved */

    MDB_cursor *tree;
    int tree_placed;
    unsigned char tree_at[STORE_ID];

    MDB_cursor *chunks;
    const run_list *runs;
    size_t opened; /* of `runs` */
    run_source *sources;
    size_t count;
} id_stream;

/* Runs in the order in which a list in that direction comes to them. */
void runs_order(run_list *l, int down);
/* Prefix set, all else zero or closed; `runs` in order. Closed also after an error. */
int id_stream_open(id_stream *t, const ft_store *s, MDB_txn *txn, const run_list *runs, int down);
void id_stream_close(id_stream *t);
/* t->at becomes the first id at or beyond `target`, which never goes back; MDB_NOTFOUND behind the last. */
int id_stream_advance(id_stream *t, const unsigned char target[STORE_ID]);
/* The last chunk of the run that begins at or before `wanted`; MDB_NOTFOUND: none does. */
int run_chunk_before(MDB_cursor *cursor, uint64_t number, const store_key *wanted, const store_key **keys, size_t *count);
/* Whether a run has the key: 0 or MDB_NOTFOUND. */
int run_has(MDB_cursor *cursor, uint64_t number, const store_key *key);

/* --- store_row.c -------------------------------------------------------------------------------------- */

/* Appends the row of a trace; reads the one in a frame, of a trace with `count` spans, "id" in front. */
FT_CHECKED ft_code row_write(ft_buffer *out, const json_t *trace, ft_status *st);
FT_CHECKED ft_code row_read(packer *p, json_t **out, const void *frame, size_t n, size_t count,
                            const row_choice *choice, const char *id, ft_status *st);

/* The object, array or string at text[at], quotes and brackets in strings left aside: where it ends, or 0. */
size_t text_value_end(const char *text, size_t n, size_t at);

/* --- store_text.c ------------------------------------------------------------------------------------- */

/* Whether the text of the response holds these characters, in the trace that the frame holds. */
FT_CHECKED ft_code trace_response_holds(packer *p, const void *frame, size_t n, const char *wanted, const char *id,
                                        int *holds, ft_status *st);

/* --- store_query.c ---------------------------------------------------------------------------------- */

/* What a filter asks of one and the same span; 0: anything. */
typedef struct span_wish {
    uint64_t owner, document; /* hashes */
    uint32_t verdict, min_tokens;
} span_wish;
span_wish span_wish_of(const ft_store_filter *f);
int span_fits(const span_wish *w, const summary *m, const summary_span *s); /* a span of `m` */

/* Calls `each` inside a read transaction for every trace that fits, oldest first; a new transaction now and then.
 * `value` is the summary's; `m` is what it holds. */
typedef ft_code summary_visit(void *context, const char *id, const summary *m, MDB_val value, ft_status *st);
FT_CHECKED ft_code store_walk_summaries(ft_store *s, const ft_store_filter *filter, summary_visit *each, void *context,
                                        ft_status *st);

/* --- store_chain.c ---------------------------------------------------------------------------------- */

typedef enum ledger_kind { LEDGER_STORED = 1, LEDGER_REDACTED, LEDGER_REMOVED } ledger_kind;
typedef struct ledger_line {
    unsigned char previous[FT_DIGEST_BYTES]; /* BLAKE2b-256 of the line before */
    unsigned char id[STORE_ID];
    unsigned char digest[FT_DIGEST_BYTES]; /* of the trace as stored; zero where it was removed */
    uint64_t time_ms;
    uint64_t kind;
} ledger_line;

typedef struct chain_head {
    uint64_t count;
    ft_digest last; /* zero where there is none */
} chain_head;

ft_digest chain_hash(const void *bytes, size_t n); /* BLAKE2b-256 */
/* Of a trace's three values; each may be empty. */
ft_digest trace_digest(MDB_val trace, MDB_val routing, MDB_val row);
/* Each gives an LMDB error, or 0. */
int ledger_append(ft_store *s, MDB_txn *txn, ledger_kind kind, const unsigned char id[STORE_ID],
                  const ft_digest *digest, uint64_t time_ms);
int log_append(ft_store *s, MDB_txn *txn, const char *text, size_t n, uint64_t time_ms);
int chain_heads(ft_store *s, MDB_txn *txn, ft_store_heads *out);
/* An entry of "meta"; all zero where there is none. */
int chain_head_get(ft_store *s, MDB_txn *txn, const char *name, chain_head *out);
int chain_head_put(ft_store *s, MDB_txn *txn, const char *name, const chain_head *head);
void chain_number(uint64_t n, unsigned char out[8]);
uint64_t chain_number_of(const MDB_val *key);
uint64_t store_now_ms(void);

/* --- store_receipts.c -------------------------------------------------------------------------------- */

enum { RECEIPT_KEY = ID_BYTES + 8 }; /* of an id's leaf: the id, the leaf's number */
/* Whether `id` has the form of a receipt's, or of a takedown's, whose certificate is one. */
int receipt_id_is_sound(const char *id);
/* The operation that appends an envelope's leaf, whose bytes are put into *leaf; id and leaf have to live as long. */
FT_CHECKED ft_code receipt_op(const ft_store *s, const ft_receipt_entry *e, ft_digest *leaf, store_op *out,
                              ft_status *st);
/* Each gives an LMDB error, or 0. A leaf that the id has already is not appended again. */
int receipts_append(ft_store *s, MDB_txn *txn, const char *id, const ft_digest *leaf);
int receipts_head(ft_store *s, MDB_txn *txn, ft_tree_head *out);
/* MDB_CORRUPTED where it is not there. */
int receipts_node(ft_store *s, MDB_txn *txn, unsigned level, uint64_t number, ft_digest *out);

/* --- store_examine.c --------------------------------------------------------------------------------- */

/* MDB_db and MDB_meta of LMDB 0.9 on a 64-bit little-endian machine; the latter stands behind a page's header. */
enum { LMDB_PAGE_HEADER = 16 };
#define LMDB_MAGIC 0xBEEFC0DEU
typedef struct lmdb_tree {
    uint32_t page_bytes;
    uint16_t flags, depth;
    uint64_t branches, leaves, overflow, entries, root;
} lmdb_tree;
_Static_assert(sizeof(lmdb_tree) == 48, "MDB_db");
typedef struct lmdb_meta {
    uint32_t magic, version;
    uint64_t address, map_bytes;
    lmdb_tree trees[2]; /* of free pages, and of names */
    uint64_t last_page, transaction;
} lmdb_meta;
_Static_assert(sizeof(lmdb_meta) == 136, "MDB_meta");

/* The newer of the two; and the entry of "journal" as of one. FT_ERR_FORMAT: it is not there. */
FT_CHECKED ft_code lmdb_newest_meta(const ft_map *data, lmdb_meta *out);
FT_CHECKED ft_code lmdb_find_end(const ft_map *data, const lmdb_meta *m, journal_end *out);
/* (store_recover.c) 1 and the state in *out where the folder's journal has records, else 0. */
int journal_state(const char *folder, lmdb_meta *out);

/* --- store_migrate.c --------------------------------------------------------------------------------- */

FT_CHECKED ft_code store_migrate(ft_store *s, ft_status *st);
/* (ft_store.c) Keys of "meta", and the latter's value. */
extern const char store_schema_key[], store_format_key[], store_format[];

#endif
