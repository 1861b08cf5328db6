/* Reading by id, newest first, and how much there is. Values are copied out of their transaction. */
#include "tracer/store_internal.h"
#include "tracer/tracer_internal.h"

#include <stdlib.h>
#include <string.h>

/* Appends a value as it lies there or, with a packer, a trace's text: unpacked where it lies. */
static ft_code read_value(ft_store *s, MDB_dbi database, const char *id, packer *p, ft_buffer *out, ft_status *st)
{
    MDB_txn *txn = NULL;
    MDB_val key = store_value(id, ID_BYTES), value;
    ft_code rc = store_check_id(s, id, FT_ERR_NOT_FOUND, st);
    if (!rc)
        rc = store_read_begin(s, &txn, "read", st);
    if (rc)
        return rc;
    const int error = mdb_get(txn, database, &key, &value);
    if (!error)
        rc = p ? trace_read_text(p, out, value.mv_data, value.mv_size, id, st)
               : ft_buffer_append(out, value.mv_data, value.mv_size, st);
    else if (error == MDB_NOTFOUND)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: no trace %s", s->folder, id);
    else
        rc = store_fail(s, error, "read", st);
    store_read_end(s, txn);
    return rc;
}

static ft_code get_value(ft_store *s, MDB_dbi database, const char *id, ft_buffer *out, ft_status *st)
{
    return read_value(s, database, id, NULL, out, st);
}

ft_code ft_store_get_packed(ft_store *s, const char *id, ft_buffer *out, ft_status *st)
{
    return get_value(s, s->routing, id, out, st);
}

ft_code ft_store_get_routing(ft_store *s, const char *id, ft_stored_routing *out, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    ft_buffer bulk = {0};
    packer *p = NULL;
    ft_code rc = get_value(s, s->routing, id, &bulk, st);
    if (!rc)
        rc = packer_take(s, &p, st);
    if (!rc)
        rc = unpack_routing(p, out, bulk.data, bulk.size, id, st);
    packer_give(s, p);
    ft_buffer_release(&bulk);
    return rc;
}

ft_code ft_store_get_text(ft_store *s, const char *id, ft_buffer *out, ft_status *st)
{
    packer *p = NULL;
    ft_code rc = packer_take(s, &p, st);
    if (!rc)
        rc = read_value(s, s->traces, id, p, out, st);
    packer_give(s, p);
    return rc;
}

/* "ids" and "weights" as they were handed over; and how exact the weights are, where they are not. */
static ft_code fill_routing(json_t *head, const ft_stored_routing *r, const char *id, ft_status *st)
{
    int filled = routing_json_fill(head, &r->view);
    if (filled && r->form == FT_ROUTING_ROUNDED)
        filled = !json_object_set_new(head, "rounded", json_pack("{s:i,s:f}", "bits", 8, "max_error", 1.0 / 510));
    return filled ? FT_OK : ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
}

ft_code ft_store_get(ft_store *s, const char *id, json_t **trace, ft_status *st)
{
    *trace = NULL;
    ft_buffer text = {0};
    ft_stored_routing routing = {0};
    json_t *read = NULL;
    packer *p = NULL;
    ft_code rc = get_value(s, s->traces, id, &text, st);
    if (!rc)
        rc = packer_take(s, &p, st);
    if (!rc)
        rc = unpack_trace(p, &read, &text, id, st);
    packer_give(s, p);
    json_t *head = json_object_get(read, "routing");
    if (!rc && json_is_object(head) && !json_object_get(head, "ids")) {
        rc = ft_store_get_routing(s, id, &routing, st);
        if (!rc)
            rc = fill_routing(head, &routing, id, st);
    }
    ft_stored_routing_release(&routing);
    ft_buffer_release(&text);
    if (rc)
        json_decref(read);
    else
        *trace = read;
    return rc;
}

ft_code ft_store_list(ft_store *s, const char *before, size_t limit, char (*ids)[FT_TRACE_ID], size_t *count,
                      ft_status *st)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key = store_value(before, strlen(before)), value;
    *count = 0;
    const ft_code rc = store_read_begin(s, &txn, "list", st);
    if (rc)
        return rc;
    int error = mdb_cursor_open(txn, s->traces, &cursor);
    if (!error && before[0]) {
        /* The first at or after `before`, then one back; none there: the last. */
        error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        error = mdb_cursor_get(cursor, &key, &value, error == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    } else if (!error) {
        error = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    }
    for (; !error && *count < limit; error = mdb_cursor_get(cursor, &key, &value, MDB_PREV))
        if (key.mv_size == ID_BYTES) {
            memcpy(ids[*count], key.mv_data, ID_BYTES);
            ids[(*count)++][ID_BYTES] = '\0';
        }
    if (cursor)
        mdb_cursor_close(cursor);
    store_read_end(s, txn);
    return error && error != MDB_NOTFOUND ? store_fail(s, error, "list", st) : FT_OK;
}

ft_code ft_store_check(ft_store *s, ft_status *st)
{
    size_t count;
    char id[1][FT_TRACE_ID];
    return ft_store_list(s, "", 1, id, &count, st);
}

ft_code ft_store_get_sizes(ft_store *s, ft_store_sizes *out, ft_status *st)
{
    const MDB_dbi all[] = {s->meta, s->traces, s->routing, s->summaries, s->keys,
                          s->runs, s->run_keys, s->ledger, s->log};
    MDB_txn *txn;
    MDB_envinfo info;
    MDB_stat stat = {0};
    memset(out, 0, sizeof(*out));
    const ft_code rc = store_read_begin(s, &txn, "sizes", st);
    if (rc)
        return rc;
    int error = mdb_env_info(s->env, &info);
    for (size_t i = 0; !error && i < sizeof(all) / sizeof(*all); i++) {
        error = mdb_stat(txn, all[i], &stat);
        out->used_bytes +=
            (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) * (uint64_t)stat.ms_psize;
        if (all[i] == s->traces)
            out->traces = stat.ms_entries;
        if (all[i] == s->log)
            out->log_lines = stat.ms_entries;
    }
    if (!error)
        out->file_bytes = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    store_read_end(s, txn);
    return error ? store_fail(s, error, "sizes", st) : FT_OK;
}
