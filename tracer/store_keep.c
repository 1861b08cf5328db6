/* What is kept: retention, and the compaction after which nothing else is in the file. */
#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "tracer/store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Retention -------------------------------------------------------------------------------------- */

enum { RETAIN_AT_ONCE = 128 };

typedef struct oldest {
    char ids[RETAIN_AT_ONCE][FT_TRACE_ID];
    size_t count, most;
} oldest;

static ft_code take_oldest(void *context, const char *id, const summary *m, MDB_val value, ft_status *st)
{
    oldest *o = context;
    (void)m;
    (void)value;
    (void)st;
    if (o->count == o->most)
        return FT_ERR_CANCELLED;
    memcpy(o->ids[o->count++], id, FT_TRACE_ID);
    return FT_OK;
}

/* Deletes what was found, with the line that says so, in one transaction. */
static ft_code delete_found(ft_store *s, const oldest *o, const char *why, ft_status *st)
{
    char line[300];
    store_op *ops = calloc(o->count + 1, sizeof(*ops));
    if (!ops)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    snprintf(line, sizeof(line),
             "\"who\":\"retention\",\"what\":\"trace.delete\",\"because\":\"%s\",\"traces\":%zu,\"first_id\":\"%s\","
             "\"last_id\":\"%s\"",
             why, o->count, o->ids[0], o->ids[o->count - 1]);
    ops[0] = (store_op){.kind = OP_LOG, .text = line, .text_bytes = strlen(line)};
    for (size_t i = 0; i < o->count; i++) {
        ops[i + 1].kind = OP_REMOVE;
        memcpy(ops[i + 1].id, o->ids[i], FT_TRACE_ID);
        ops[i].with = &ops[i + 1];
    }
    const ft_code rc = store_commit(s, ops, st);
    free(ops);
    return rc;
}

/* The oldest before `to_ms` (0: nothing), at most `most`. */
static ft_code delete_before(ft_store *s, uint64_t to_ms, size_t most, const char *why, size_t *deleted, ft_status *st)
{
    oldest o = {.most = most < RETAIN_AT_ONCE ? most : RETAIN_AT_ONCE};
    ft_store_filter filter = ft_store_filter_all();
    filter.to_ms = to_ms;
    *deleted = 0;
    if (!to_ms || !o.most)
        return FT_OK;
    ft_code rc = store_walk_summaries(s, &filter, take_oldest, &o, st);
    rc = rc == FT_ERR_CANCELLED ? FT_OK : rc;
    if (!rc && o.count)
        rc = delete_found(s, &o, why, st);
    if (!rc)
        *deleted = o.count;
    return rc;
}

ft_code ft_store_retain(ft_store *s, const ft_retention *r, uint64_t now_ms, size_t most, size_t *deleted,
                        ft_status *st)
{
    const uint64_t too_old = r->max_age_ms && r->max_age_ms < now_ms ? now_ms - r->max_age_ms : 0;
    const uint64_t may_go = r->min_age_ms < now_ms ? now_ms - r->min_age_ms : 0;
    size_t left = most ? most : SIZE_MAX, n = 0;
    *deleted = 0;
    if (r->max_age_ms && r->min_age_ms > r->max_age_ms)
        return ft_fail(st, FT_ERR_ARG, "%s: traces cannot be kept for at least %" PRIu64 " and at most %" PRIu64 " ms",
                       s->folder, r->min_age_ms, r->max_age_ms);
    ft_code rc = FT_OK;
    do {
        rc = delete_before(s, too_old, left, "age", &n, st);
        *deleted += n;
        left -= n;
    } while (!rc && n);
    for (n = 1; !rc && r->max_bytes && n;) {
        ft_store_sizes sizes;
        rc = ft_store_get_sizes(s, &sizes, st);
        if (rc || sizes.used_bytes <= r->max_bytes)
            break;
        /* Not many more than have to go: what a trace takes on average tells how many that is. */
        const uint64_t each = sizes.traces ? sizes.used_bytes / sizes.traces + 1 : 1;
        const uint64_t guess = (sizes.used_bytes - r->max_bytes) / each / 2 + 1;
        rc = delete_before(s, may_go, guess < left ? (size_t)guess : left, "size", &n, st);
        *deleted += n;
        left -= n;
    }
    return rc;
}

/* --- Compaction ---------------------------------------------------------------------------------------- */

enum { RUN_KEYS = 1 << 20 }; /* of a run that is written anew */

typedef struct copier {
    ft_store *s;
    MDB_env *to;
    MDB_txn *out;
    size_t pending; /* bytes put since the last commit */
    key_batch batch;
} copier;

/* A transaction, with the database by that name. */
static int begin_out(copier *c, const char *name, MDB_dbi *to)
{
    const int error = c->out ? 0 : mdb_txn_begin(c->to, NULL, 0, &c->out);
    return error ? error : mdb_dbi_open(c->out, name, MDB_CREATE, to);
}

static int end_out(copier *c)
{
    const int error = c->out ? mdb_txn_commit(c->out) : 0;
    c->out = NULL;
    c->pending = 0;
    return error;
}

/* Every entry in order, so that pages are filled. LMDB's own compacting copy would take whole pages over, with
 * what was deleted still in their gaps. */
static int copy_database(copier *c, MDB_txn *in, MDB_dbi from, const char *name)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    MDB_dbi to;
    int error = begin_out(c, name, &to);
    if (!error)
        error = mdb_cursor_open(in, from, &cursor);
    if (!error)
        error = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (!error) {
        error = mdb_put(c->out, to, &key, &value, MDB_APPEND);
        c->pending += key.mv_size + value.mv_size;
        if (!error && c->pending > STORE_BATCH_BYTES) {
            error = end_out(c);
            if (!error)
                error = mdb_txn_begin(c->to, NULL, 0, &c->out);
        }
        if (!error)
            error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

static int write_keys(copier *c)
{
    run_place to;
    int error = begin_out(c, "runs", &to.runs);
    if (!error)
        error = begin_out(c, "run keys", &to.keys);
    if (!error)
        error = run_write(c->out, to, &c->batch);
    c->batch.count = 0;
    return error ? error : end_out(c);
}

static int keep_key(void *context, const unsigned char key[STORE_KEY])
{
    return batch_add(context, key);
}

/* Keys are made anew from the summaries: what runs, or the tree of schema 2, have of traces that are gone is left
 * behind. A summary that is damaged has none; the verification names it. */
static int make_keys(copier *c, MDB_txn *in)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int error = mdb_cursor_open(in, c->s->summaries, &cursor);
    if (!error)
        error = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !error; error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        summary m = {0};
        const ft_code rc = key.mv_size == STORE_ID ? summary_read(&m, value.mv_data, value.mv_size, "", NULL) : FT_ERR_FORMAT;
        if (!rc)
            error = summary_keys(&m, key.mv_data, keep_key, &c->batch);
        else if (rc == FT_ERR_MEM)
            error = ENOMEM;
        summary_release(&m);
        if (!error && c->batch.count >= RUN_KEYS)
            error = write_keys(c);
        if (error)
            break;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    if (error == MDB_NOTFOUND)
        error = write_keys(c);
    batch_release(&c->batch);
    return error;
}

static int copy_all(copier *c, MDB_txn *in)
{
    const ft_store *s = c->s;
    const struct {
        const char *name;
        MDB_dbi from;
    } all[] = {{"meta", s->meta}, {"traces", s->traces}, {"routing", s->routing}, {"summaries", s->summaries},
               {"ledger", s->ledger}, {"log", s->log}, {"journal", s->journal_end}, {"receipts", s->receipts},
               {"receipt ids", s->receipt_ids}};
    int error = 0;
    for (size_t i = 0; !error && i < sizeof(all) / sizeof(*all); i++)
        error = copy_database(c, in, all[i].from, all[i].name);
    if (!error)
        error = end_out(c);
    if (!error)
        error = make_keys(c, in);
    mdb_txn_abort(c->out);
    c->out = NULL;
    return error ? error : mdb_env_sync(c->to, 1);
}

static ft_code write_copy(ft_store *s, const char *folder, ft_status *st)
{
    copier c = {.s = s};
    MDB_txn *in;
    MDB_envinfo info;
    ft_code rc = store_read_begin(s, &in, "compact", st);
    if (rc)
        return rc;
    int error = mdb_env_info(s->env, &info);
    if (!error)
        error = mdb_env_create(&c.to);
    if (!error)
        error = mdb_env_set_maxdbs(c.to, STORE_DATABASES);
    if (!error)
        error = mdb_env_set_mapsize(c.to, info.me_mapsize + (UINT64_C(64) << 20));
    if (!error)
        error = mdb_env_open(c.to, folder, MDB_NOSYNC | MDB_NOLOCK, 0644);
    if (!error)
        error = copy_all(&c, in);
    if (c.to)
        mdb_env_close(c.to);
    store_read_end(s, in);
    return error ? store_fail(s, error, "compact", st) : FT_OK;
}

/* With the map held alone. Whatever fails, the store is open again on the file that is there. */
static ft_code exchange(ft_store *s, const char *copy, ft_status *st)
{
    char *from = ft_path_join(copy, "data.mdb"), *to = ft_path_join(s->folder, "data.mdb");
    ft_code rc = from && to ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    store_detach(s);
    if (!rc && rename(from, to) != 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", to, strerror(errno));
    if (!rc)
        rc = ft_folder_sync(s->folder, st);
    const ft_code opened = store_attach(s, rc ? NULL : st);
    free(from);
    free(to);
    return rc ? rc : opened;
}

ft_code ft_store_compact(ft_store *s, ft_status *st)
{
    char *copy = ft_path_join(s->folder, "compact");
    if (!copy)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    store_writer_take(s);
    ft_code rc =
        store_lock(s, 1, 0) == 0
            ? FT_OK
            : ft_fail(st, FT_ERR_ARG, "%s: another process has the store open; stop it, or let it compact", s->folder);
    if (!rc) {
        const int error = journal_wipe(s); /* what it holds is in data.mdb; what was redacted must not stay in it */
        rc = error ? store_fail(s, error, "compact", st) : ft_folder_remove(copy, st);
        if (!rc)
            rc = ft_folder_make(copy, st);
        if (!rc)
            rc = write_copy(s, copy, st);
        if (!rc) {
            pthread_rwlock_wrlock(&s->map);
            rc = exchange(s, copy, st);
            pthread_rwlock_unlock(&s->map);
        }
        const ft_code cleared = ft_folder_remove(copy, rc ? NULL : st);
        rc = rc ? rc : cleared;
        if (store_lock(s, 0, 1) && !rc)
            rc = ft_fail(st, FT_ERR_IO, "%s/lock: %s", s->folder, strerror(errno));
    }
    store_writer_give(s);
    free(copy);
    return rc;
}
