/* From schema 4: there was no log of receipts; it begins empty, and the schema's number keeps builds out whose
 * compaction would leave it behind. From schema 3: there was no journal. From schema 2: there each key lay in one tree;
 * those stay there, until a compaction, and new ones come into runs. So only the schema's number changes, which keeps
 * builds out that do not know of runs. From schema 1: there traces had no summaries, no keys and no ledger, and there
 * was no log. What lies in "traces" and "routing" stays as it is. A few traces a transaction; what was brought over is
 * not done twice, and the schema's number is written last: a kill leaves a store that the next opening goes on with. */
#include "tracer/store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIGRATE_AT_ONCE = 256 };

typedef struct batch {
    store_op ops[MIGRATE_AT_ONCE];
    size_t count;
    char from[FT_TRACE_ID]; /* the first that was not looked at */
    int over;
} batch;

static ft_code add(ft_store *s, batch *b, MDB_txn *txn, const char *id, MDB_val value, ft_status *st)
{
    store_op *op = &b->ops[b->count];
    MDB_val key = store_value(id, ID_BYTES), routing = {0};
    ft_buffer bytes = {.data = value.mv_data, .size = value.mv_size};
    json_t *trace = NULL;
    packer *p = NULL;
    ft_code rc = packer_take(s, &p, st);
    if (!rc)
        rc = unpack_trace(p, &trace, &bytes, id, st);
    packer_give(s, p);
    const int error = rc ? 0 : mdb_get(txn, s->routing, &key, &routing);
    if (error && error != MDB_NOTFOUND)
        rc = store_fail(s, error, "migrate", st);
    if (!rc)
        rc = store_op_put(s, op, id, trace, NULL, error ? NULL : routing.mv_data, error ? 0 : routing.mv_size, st);
    if (!rc) { /* the very bytes */
        ft_buffer_reset(&op->trace);
        rc = ft_buffer_append(&op->trace, value.mv_data, value.mv_size, st);
    }
    json_decref(trace);
    b->count++;
    return rc;
}

static ft_code read_some(ft_store *s, batch *b, ft_status *st)
{
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key = store_value(b->from, strlen(b->from)), value;
    size_t bytes = 0, looked = 0;
    ft_code rc = store_read_begin(s, &txn, "migrate", st);
    if (rc)
        return rc;
    int error = mdb_cursor_open(txn, s->traces, &cursor);
    if (!error)
        error = mdb_cursor_get(cursor, &key, &value, b->from[0] ? MDB_SET_RANGE : MDB_FIRST);
    for (; !error && !rc; error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        unsigned char packed[STORE_ID];
        char id[FT_TRACE_ID] = "";
        MDB_val packed_key = store_value(packed, STORE_ID), found;
        memcpy(id, key.mv_data, key.mv_size < ID_BYTES ? key.mv_size : ID_BYTES);
        memcpy(b->from, id, sizeof(b->from));
        if (b->count == MIGRATE_AT_ONCE || bytes > STORE_BATCH_BYTES || looked++ > 100000)
            break;
        rc = store_check_id(s, id, FT_ERR_FORMAT, st);
        if (rc)
            break;
        store_id_pack(id, packed);
        if (mdb_get(txn, s->summaries, &packed_key, &found) == 0)
            continue;
        rc = add(s, b, txn, id, value, st);
        bytes += value.mv_size;
    }
    b->over = error == MDB_NOTFOUND;
    if (cursor)
        mdb_cursor_close(cursor);
    store_read_end(s, txn);
    return !rc && error && error != MDB_NOTFOUND ? store_fail(s, error, "migrate", st) : rc;
}

/* A change like others, so that the journal, which another process may be writing, has it too. */
static ft_code finish(ft_store *s, ft_status *st)
{
    char text[120];
    const uint32_t version = SCHEMA_VERSION;
    snprintf(text, sizeof(text), "\"who\":\"flextrace\",\"what\":\"store.migrate\",\"from\":%u,\"to\":%d", s->schema,
             SCHEMA_VERSION);
    store_op ops[] = {
        {.kind = OP_LOG, .text = text, .text_bytes = strlen(text)},
        {.kind = OP_NOTE, .note = store_schema_key, .text = (const char *)&version, .text_bytes = sizeof(version)},
        {.kind = OP_NOTE, .note = store_format_key, .text = store_format, .text_bytes = strlen(store_format)}};
    ops[0].with = &ops[1];
    ops[1].with = &ops[2];
    return store_commit(s, ops, st);
}

ft_code store_migrate(ft_store *s, ft_status *st)
{
    batch *b = calloc(1, sizeof(*b));
    ft_code rc = b ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    if (b)
        b->over = s->schema > 1;
    while (!rc && !b->over) {
        rc = read_some(s, b, st);
        for (size_t i = 0; i + 1 < b->count; i++)
            b->ops[i].with = &b->ops[i + 1];
        if (!rc && b->count)
            rc = store_commit(s, b->ops, st);
        for (size_t i = 0; i < b->count; i++)
            store_op_release(&b->ops[i]);
        b->count = 0;
    }
    free(b);
    if (!rc)
        rc = finish(s, st);
    if (rc)
        ft_status_prefix(st, "bringing schema %u to %d", s->schema, SCHEMA_VERSION);
    else
        s->schema = SCHEMA_VERSION;
    return rc;
}
