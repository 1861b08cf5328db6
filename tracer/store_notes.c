/* Notes: small facts beside the traces, in "meta". */
#include "tracer/store_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { MAX_NOTE_NAME = 400 };

static ft_code note_key(const ft_store *s, const char *name, char key[MAX_NOTE_NAME + 8], ft_status *st)
{
    if (!name[0] || strlen(name) > MAX_NOTE_NAME)
        return ft_fail(st, FT_ERR_ARG, "%s: a note's name has 1 to %d bytes", s->folder, MAX_NOTE_NAME);
    snprintf(key, MAX_NOTE_NAME + 8, "note:%s", name);
    return FT_OK;
}

ft_code ft_store_note_get(ft_store *s, const char *name, ft_buffer *out, ft_status *st)
{
    char text[MAX_NOTE_NAME + 8];
    MDB_txn *txn = NULL;
    ft_code rc = note_key(s, name, text, st);
    if (!rc)
        rc = store_read_begin(s, &txn, "read", st);
    if (rc)
        return rc;
    MDB_val key = store_value(text, strlen(text)), value;
    const int error = mdb_get(txn, s->meta, &key, &value);
    if (!error)
        rc = ft_buffer_append(out, value.mv_data, value.mv_size, st);
    else if (error == MDB_NOTFOUND)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: no note '%.80s'", s->folder, name);
    else
        rc = store_fail(s, error, "read", st);
    store_read_end(s, txn);
    return rc;
}

/* With `keep`, what is there already stays. */
static ft_code put_note(ft_store *s, const char *name, const void *bytes, size_t n, int keep, ft_status *st)
{
    char text[MAX_NOTE_NAME + 8];
    const ft_code rc = note_key(s, name, text, st);
    store_op op = {.kind = OP_NOTE, .note = text, .text = bytes, .text_bytes = n, .keep = keep};
    return rc ? rc : store_commit(s, &op, st);
}

ft_code ft_store_note_put(ft_store *s, const char *name, const void *bytes, size_t n, ft_status *st)
{
    return put_note(s, name, bytes, n, 0, st);
}

ft_code ft_store_secret(ft_store *s, unsigned char secret[FT_STORE_SECRET], ft_status *st)
{
    static const char name[] = "secret";
    ft_buffer value = {0};
    ft_code rc = ft_store_note_get(s, name, &value, st);
    if (rc == FT_ERR_NOT_FOUND) { /* of two who make one at once, the first one's is kept */
        randombytes_buf(secret, FT_STORE_SECRET);
        rc = put_note(s, name, secret, FT_STORE_SECRET, 1, st);
        if (!rc)
            rc = ft_store_note_get(s, name, &value, st);
    }
    if (!rc && value.size != FT_STORE_SECRET)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: the secret has %zu bytes, not %d; data.mdb is damaged", s->folder,
                     value.size, FT_STORE_SECRET);
    if (!rc)
        memcpy(secret, value.data, FT_STORE_SECRET);
    if (value.data)
        sodium_memzero(value.data, value.size);
    ft_buffer_release(&value);
    return rc;
}
