/* Writing: group commit. Whoever comes while nobody writes takes all that waits and writes it in one
 * transaction; whoever comes meanwhile waits for the next. A lone trace is written at once, and many
 * share one sync of the disk, without a thread of the store's own.
 *
 * Callers that were written together come back together, one a moment before the others; it would write alone, and
 * they would wait for two syncs instead of one. So whoever is about to write waits, for a fraction of what the last
 * transaction took, until as many are there as were last: those in it and those that it kept waiting. */
#include "tracer/store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MOST_TOGETHER = 256,
    PATIENCE = 4,              /* waits for others at most a quarter of what a transaction takes … */
    MOST_PATIENCE_NS = 5000000 /* … and 5 ms */
};

void store_op_release(store_op *op)
{
    ft_buffer_release(&op->trace);
    ft_buffer_release(&op->routing);
    ft_buffer_release(&op->summary);
}

/* --- One operation in a transaction -------------------------------------------------------------- */

typedef struct key_change {
    ft_store *s;
    MDB_txn *txn;
    int remove;
} key_change;

static int change_key(void *context, const unsigned char bytes[STORE_KEY])
{
    const key_change *c = context;
    MDB_val key = store_value(bytes, STORE_KEY);
    if (!c->remove)
        return batch_add(&c->s->batch, bytes);
    const int error = mdb_del(c->txn, c->s->keys, &key, NULL);
    return error == MDB_NOTFOUND ? 0 : error;
}

/* The keys of a summary's value: to be put at the transaction's end, or taken out of the tree that schema 2 wrote. */
static int change_keys(ft_store *s, MDB_txn *txn, MDB_val value, const char *id, int remove)
{
    unsigned char packed[STORE_ID];
    MDB_stat stat;
    summary m;
    key_change c = {s, txn, remove};
    const int failed = remove ? mdb_stat(txn, s->keys, &stat) : 0;
    if (failed || (remove && !stat.ms_entries))
        return failed;
    const ft_code rc = summary_read(&m, value.mv_data, value.mv_size, id, NULL);
    if (rc)
        return rc == FT_ERR_MEM ? ENOMEM : MDB_CORRUPTED;
    store_id_pack(id, packed);
    const int error = summary_keys(&m, packed, change_key, &c);
    summary_release(&m);
    return error;
}

static int delete_if_there(MDB_txn *txn, MDB_dbi database, MDB_val *key)
{
    const int error = mdb_del(txn, database, key, NULL);
    return error == MDB_NOTFOUND ? 0 : error;
}

/* Takes out what is known of the id; *there says whether anything was. */
static int forget(ft_store *s, MDB_txn *txn, const char *id, int keep_routing, int *there)
{
    unsigned char packed[STORE_ID];
    store_id_pack(id, packed);
    MDB_val key = store_value(packed, STORE_ID), text_key = store_value(id, ID_BYTES), value;
    int error = mdb_get(txn, s->summaries, &key, &value);
    *there = error == 0;
    if (error)
        return error == MDB_NOTFOUND ? 0 : error;
    s->batch.removed = 1;
    error = change_keys(s, txn, value, id, 1);
    if (!error)
        error = mdb_del(txn, s->summaries, &key, NULL);
    if (!error)
        error = delete_if_there(txn, s->traces, &text_key);
    if (!error && !keep_routing)
        error = delete_if_there(txn, s->routing, &text_key);
    return error;
}

static int insert(ft_store *s, MDB_txn *txn, store_op *op)
{
    unsigned char packed[STORE_ID];
    store_id_pack(op->id, packed);
    MDB_val key = store_value(packed, STORE_ID), text_key = store_value(op->id, ID_BYTES);
    MDB_val trace = store_value(op->trace.data, op->trace.size),
            routing = store_value(op->routing.data, op->routing.size);
    MDB_val row = store_value(op->summary.data, op->summary.size);
    int error = mdb_put(txn, s->traces, &text_key, &trace, 0);
    if (!error && op->kind == OP_PUT && op->routing.size)
        error = mdb_put(txn, s->routing, &text_key, &routing, 0);
    if (!error && op->kind == OP_REDACT) {
        error = mdb_get(txn, s->routing, &text_key, &routing);
        if (error == MDB_NOTFOUND) {
            routing = store_value("", 0);
            error = 0;
        }
    }
    const ft_digest digest = trace_digest(trace, routing, row);
    if (!error)
        error = mdb_put(txn, s->summaries, &key, &row, 0);
    if (!error)
        error = change_keys(s, txn, store_value(op->summary.data, op->summary.size), op->id, 0);
    if (!error)
        error = ledger_append(s, txn, op->kind == OP_PUT ? LEDGER_STORED : LEDGER_REDACTED, packed, &digest,
                              op->time_ms);
    return error;
}

/* Of the line just appended. */
static int put_line_number(ft_store *s, MDB_txn *txn, const char *note)
{
    char number[24];
    ft_store_heads heads;
    const int error = chain_heads(s, txn, &heads);
    if (error)
        return error;
    snprintf(number, sizeof(number), "%" PRIu64, heads.log_count);
    MDB_val key = store_value(note, strlen(note)), value = store_value(number, strlen(number));
    return mdb_put(txn, s->meta, &key, &value, 0);
}

static int apply(ft_store *s, MDB_txn *txn, store_op *op)
{
    static const ft_digest none;
    unsigned char packed[STORE_ID];
    int there, error;
    if (op->kind == OP_LOG) {
        error = log_append(s, txn, op->text, op->text_bytes, op->time_ms);
        return error || !op->note ? error : put_line_number(s, txn, op->note);
    }
    if (op->kind == OP_RECEIPT) {
        ft_digest leaf;
        memcpy(leaf.bytes, op->text, sizeof(leaf.bytes));
        return receipts_append(s, txn, op->note, &leaf);
    }
    if (op->kind == OP_NOTE) {
        MDB_val key = store_value(op->note, strlen(op->note)), value = store_value(op->text, op->text_bytes);
        error = mdb_put(txn, s->meta, &key, &value, op->keep ? MDB_NOOVERWRITE : 0);
        return error == MDB_KEYEXIST ? 0 : error;
    }
    error = forget(s, txn, op->id, op->kind == OP_REDACT, &there);
    op->missing = op->kind != OP_PUT && !there;
    if (error || op->missing)
        return error;
    if (op->kind != OP_REMOVE)
        return insert(s, txn, op);
    store_id_pack(op->id, packed);
    return ledger_append(s, txn, LEDGER_REMOVED, packed, &none, op->time_ms);
}

/* --- All that wait --------------------------------------------------------------------------------- */

static int write_once(ft_store *s, store_op *list)
{
    MDB_txn *txn = NULL;
    uint64_t at;
    s->batch.count = 0;
    s->batch.removed = 0;
    int error = store_write_begin(s, &txn);
    if (error)
        return error;
    error = journal_begin(s, txn, list, &at);
    for (store_op *op = list; !error && op; op = op->next)
        for (store_op *part = op; !error && part; part = part->with)
            error = apply(s, txn, part);
    if (!error)
        error = runs_commit(s, txn);
    if (error)
        mdb_txn_abort(txn);
    else
        error = journal_commit(s, txn, at); /* durable; frees the transaction whatever comes of it */
    store_write_end(s);
    return error;
}

/* First of all the pages that are free, but kept for what the journal follows; then a larger map. */
static int make_room(ft_store *s, int *settled)
{
    if (!*settled && s->journal.pin) {
        *settled = 1;
        return journal_settle(s);
    }
    return store_grow(s);
}

/* What does not fit is written again with more room. Everything has its time before: what is carried out again from
 * the journal makes the same lines. */
static void write_all(ft_store *s, store_op *list)
{
    for (store_op *op = list; op; op = op->next)
        for (store_op *part = op; part; part = part->with)
            part->time_ms = part->time_ms ? part->time_ms : store_now_ms();
    int error = write_once(s, list), grown = 0, settled = 0;
    while (error == MDB_MAP_FULL && (grown = make_room(s, &settled)) == 0)
        error = write_once(s, list);
    error = grown ? grown : error;
    for (store_op *op = list; op; op = op->next)
        op->rc = error ? store_fail(s, error, "write", &op->st) : FT_OK;
}

ft_code store_write_now(ft_store *s, store_op *list, ft_status *st)
{
    write_all(s, list);
    if (list->rc && st)
        *st = list->st;
    return list->rc;
}

static size_t bytes_of(const store_op *op)
{
    size_t n = 0;
    for (; op; op = op->with)
        n += op->trace.size + op->routing.size + op->summary.size;
    return n;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* With the queue's lock held, by whoever is about to write. */
static void wait_for_company(ft_store *s)
{
    const size_t wanted = s->together < MOST_TOGETHER ? s->together : MOST_TOGETHER;
    uint64_t patience = s->last_took_ns / PATIENCE;
    patience = patience < MOST_PATIENCE_NS ? patience : MOST_PATIENCE_NS;
    const uint64_t end = now_ns() + patience;
    const struct timespec until = {(time_t)(end / 1000000000), (long)(end % 1000000000)};
    s->awaited = wanted;
    while (s->waiting < wanted && pthread_cond_timedwait(&s->company, &s->queue_lock, &until) == 0) {
    }
    s->awaited = 0;
}

/* With the queue's lock held: the first ones that wait, *count of them, as many as one transaction should hold. */
static store_op *take_some(ft_store *s, size_t *count)
{
    store_op *list = s->first, *end = list;
    size_t bytes = bytes_of(end), n = 1;
    for (; end->next && n < MOST_TOGETHER && (bytes += bytes_of(end->next)) < STORE_BATCH_BYTES; n++)
        end = end->next;
    *count = n;
    s->waiting -= n;
    s->first = end->next;
    if (!s->first)
        s->last = &s->first;
    end->next = NULL;
    return list;
}

/* Where several failed together, each is tried alone: one that is too large must not keep others out. */
static void write_apart(ft_store *s, store_op *list)
{
    while (list) {
        store_op *one = list;
        list = one->next;
        one->next = NULL;
        write_all(s, one);
        one->next = list;
    }
}

ft_code store_commit(ft_store *s, store_op *op, ft_status *st)
{
    pthread_mutex_lock(&s->queue_lock);
    op->next = NULL;
    op->done = 0;
    *s->last = op;
    s->last = &op->next;
    if (++s->waiting == s->awaited)
        pthread_cond_signal(&s->company);
    while (!op->done) {
        if (s->writing) {
            pthread_cond_wait(&s->moved, &s->queue_lock);
            continue;
        }
        s->writing = 1;
        wait_for_company(s);
        size_t count;
        store_op *list = take_some(s, &count);
        pthread_mutex_unlock(&s->queue_lock);
        const uint64_t from = now_ns();
        write_all(s, list);
        if (list->rc && list->next)
            write_apart(s, list);
        pthread_mutex_lock(&s->queue_lock);
        s->last_took_ns = now_ns() - from;
        s->together = count + s->waiting;
        while (list) { /* its owner may go as soon as it is done and the lock is free */
            store_op *next = list->next;
            list->done = 1;
            list = next;
        }
        s->writing = 0;
        pthread_cond_broadcast(&s->moved);
    }
    pthread_mutex_unlock(&s->queue_lock);
    if (op->rc && st)
        *st = op->st;
    return op->rc;
}

void store_writer_take(ft_store *s)
{
    pthread_mutex_lock(&s->queue_lock);
    while (s->writing)
        pthread_cond_wait(&s->moved, &s->queue_lock);
    s->writing = 1;
    pthread_mutex_unlock(&s->queue_lock);
}

void store_writer_give(ft_store *s)
{
    pthread_mutex_lock(&s->queue_lock);
    s->writing = 0;
    pthread_cond_broadcast(&s->moved);
    pthread_mutex_unlock(&s->queue_lock);
}

/* --- What callers ask for -------------------------------------------------------------------------- */

static ft_code pack_put(packer *p, store_op *op, const json_t *trace, const ft_routing *routing, ft_routing_form form,
                        const void *packed, size_t packed_bytes, ft_status *st)
{
    ft_code rc = pack_trace(p, &op->trace, trace, routing || packed_bytes, st);
    if (!rc && routing)
        rc = pack_routing(p, &op->routing, routing, form, st);
    else if (!rc && packed_bytes)
        rc = ft_buffer_append(&op->routing, packed, packed_bytes, st);
    return rc ? rc : summary_pack(p, &op->summary, trace, st);
}

ft_code store_op_put(ft_store *s, store_op *op, const char *id, const json_t *trace, const ft_routing *routing,
                     const void *packed, size_t packed_bytes, ft_status *st)
{
    packer *p = NULL;
    memset(op, 0, sizeof(*op));
    op->kind = OP_PUT;
    ft_code rc = store_check_id(s, id, FT_ERR_ARG, st);
    if (!rc)
        rc = packer_take(s, &p, st);
    if (rc)
        return rc;
    memcpy(op->id, id, FT_TRACE_ID);
    rc = pack_put(p, op, trace, routing, s->options.routing, packed, packed_bytes, st);
    packer_give(s, p);
    return rc;
}

ft_code ft_store_put(ft_store *s, const char *id, const json_t *trace, const ft_routing *routing, ft_status *st)
{
    return ft_store_put_with(s, id, trace, routing, &(ft_receipt_entry){0}, st);
}

ft_code ft_store_put_with(ft_store *s, const char *id, const json_t *trace, const ft_routing *routing,
                          const ft_receipt_entry *receipt, ft_status *st)
{
    store_op op, leaf_op;
    ft_digest leaf;
    ft_code rc = store_op_put(s, &op, id, trace, routing, NULL, 0, st);
    if (!rc && receipt->envelope) {
        rc = receipt_op(s, receipt, &leaf, &leaf_op, st);
        op.with = &leaf_op;
    }
    if (!rc)
        rc = store_commit(s, &op, st);
    store_op_release(&op);
    return rc;
}

ft_code ft_store_put_packed(ft_store *s, const char *id, const json_t *trace, const void *bytes, size_t n,
                            ft_status *st)
{
    ft_stored_routing check = {0};
    store_op op = {0};
    packer *p = NULL;
    ft_code rc = packer_take(s, &p, st);
    if (!rc && n)
        rc = unpack_routing(p, &check, bytes, n, id, st);
    packer_give(s, p);
    ft_stored_routing_release(&check);
    if (!rc)
        rc = store_op_put(s, &op, id, trace, NULL, bytes, n, st);
    if (!rc)
        rc = store_commit(s, &op, st);
    store_op_release(&op);
    return rc;
}

static ft_code not_found(const ft_store *s, const char *id, ft_status *st)
{
    return ft_fail(st, FT_ERR_NOT_FOUND, "%s: no trace %s", s->folder, id);
}

ft_code ft_store_redact(ft_store *s, const char *id, const json_t *trace, ft_status *st)
{
    store_op op = {.kind = OP_REDACT};
    packer *p = NULL;
    ft_code rc = store_check_id(s, id, FT_ERR_NOT_FOUND, st);
    if (!rc)
        rc = packer_take(s, &p, st);
    if (!rc) {
        memcpy(op.id, id, FT_TRACE_ID);
        rc = pack_trace(p, &op.trace, trace, 1, st);
    }
    if (!rc)
        rc = summary_pack(p, &op.summary, trace, st);
    packer_give(s, p);
    if (!rc)
        rc = store_commit(s, &op, st);
    if (!rc && op.missing)
        rc = not_found(s, id, st);
    store_op_release(&op);
    return rc;
}

ft_code ft_store_remove(ft_store *s, const char *id, ft_status *st)
{
    store_op op = {.kind = OP_REMOVE};
    ft_code rc = store_check_id(s, id, FT_ERR_NOT_FOUND, st);
    if (rc)
        return rc;
    memcpy(op.id, id, FT_TRACE_ID);
    rc = store_commit(s, &op, st);
    return !rc && op.missing ? not_found(s, id, st) : rc;
}
