#include "tracer/ft_store.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "tracer/ft_trace.h"
#include "tracer/store_internal.h"
#include "tracer/tracer_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SCHEMA_VERSION = 1,
    ID_BYTES = FT_TRACE_ID - 1,
    MAX_SHORT_PAGES = 64, /* LMDB may leave freed pages at the end unwritten */
};
static const uint64_t default_bytes = UINT64_C(64) << 30;
static const char schema_key[] = "schema", format_key[] = "format", format_name[] = "flextrace traces";

struct ft_store {
    MDB_env *env;
    MDB_dbi meta, traces, routing;
    char *folder;
};

/* --- Errors -------------------------------------------------------------------- */

static ft_code fail_with(const ft_store *s, int error, const char *doing, ft_status *st)
{
    switch (error) {
    case MDB_MAP_FULL:
        return ft_fail(st, FT_ERR_LIMIT, "%s: %s: the store reached its maximum size; open it with a larger one",
                       s->folder, doing);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_PANIC:
        return ft_fail(st, FT_ERR_FORMAT, "%s: %s: data.mdb is damaged or no store of ours (%s)", s->folder, doing,
                       mdb_strerror(error));
    case MDB_READERS_FULL:
        return ft_fail(st, FT_ERR_LIMIT, "%s: %s: too many readers at once", s->folder, doing);
    case ENOMEM:
        return ft_fail(st, FT_ERR_MEM, "%s: %s: out of memory or address space", s->folder, doing);
    default:
        return ft_fail(st, FT_ERR_IO, "%s: %s: %s", s->folder, doing, mdb_strerror(error));
    }
}

/* --- Opening ------------------------------------------------------------------- */

/* A folder that holds something, but no database, is somebody else's. */
static ft_code check_folder(const ft_store *s, int *fresh, ft_status *st)
{
    DIR *folder = opendir(s->folder);
    if (!folder)
        return ft_fail(st, FT_ERR_IO, "%s: %s", s->folder, strerror(errno));
    const char *other = NULL;
    char name[256] = "";
    int database = 0;
    for (const struct dirent *e = readdir(folder); e; e = readdir(folder)) {
        if (!strcmp(e->d_name, "data.mdb"))
            database = 1;
        else if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, "lock.mdb") != 0) {
            snprintf(name, sizeof(name), "%s", e->d_name);
            other = name;
        }
    }
    closedir(folder);
    *fresh = !database;
    if (!database && other)
        return ft_fail(st, FT_ERR_FORMAT, "%s: not a trace store: it holds '%s'; name an empty or new folder",
                       s->folder, other);
    return FT_OK;
}

/* LMDB maps its file and trusts it: a page past the file's end would be a bus error.
 * So a file that was cut is refused here; the few pages at its end that LMDB may
 * rightly have left unwritten are made to exist. */
static ft_code check_length(const ft_store *s, ft_status *st)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat file;
    mdb_filehandle_t fd;
    int error = mdb_env_info(s->env, &info);
    if (!error)
        error = mdb_env_stat(s->env, &stat);
    if (!error)
        error = mdb_env_get_fd(s->env, &fd);
    if (!error && fstat(fd, &file) != 0)
        error = errno;
    if (error)
        return fail_with(s, error, "open", st);
    const uint64_t needed = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize, have = (uint64_t)file.st_size;
    if (needed <= have)
        return FT_OK;
    if (needed / stat.ms_psize - have / stat.ms_psize > MAX_SHORT_PAGES)
        return ft_fail(st, FT_ERR_FORMAT, "%s/data.mdb: cut short: %" PRIu64 " of %" PRIu64 " bytes; restore a copy",
                       s->folder, have, needed);
    return ftruncate(fd, (off_t)needed) ? fail_with(s, errno, "open", st) : FT_OK;
}

static ft_code check_schema(const ft_store *s, MDB_txn *txn, int fresh, ft_status *st)
{
    MDB_val key = {sizeof(schema_key) - 1, (void *)(uintptr_t)schema_key}, value;
    MDB_val name_key = {sizeof(format_key) - 1, (void *)(uintptr_t)format_key};
    MDB_val name = {sizeof(format_name) - 1, (void *)(uintptr_t)format_name};
    uint32_t version = SCHEMA_VERSION;
    int error = mdb_get(txn, s->meta, &key, &value);
    if (error == MDB_NOTFOUND && fresh) {
        value = (MDB_val){sizeof(version), &version};
        error = mdb_put(txn, s->meta, &key, &value, 0);
        if (!error)
            error = mdb_put(txn, s->meta, &name_key, &name, 0);
        return error ? fail_with(s, error, "open", st) : FT_OK;
    }
    if (error && error != MDB_NOTFOUND)
        return fail_with(s, error, "open", st);
    if (error || value.mv_size != sizeof(version))
        return ft_fail(st, FT_ERR_FORMAT, "%s: an LMDB database, but not a trace store; name another folder",
                       s->folder);
    memcpy(&version, value.mv_data, sizeof(version));
    if (version > SCHEMA_VERSION)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: written by a newer flextrace (schema %" PRIu32
                       ", this one reads up to %d); upgrade flextrace",
                       s->folder, version, SCHEMA_VERSION);
    if (version != SCHEMA_VERSION)
        return ft_fail(st, FT_ERR_FORMAT, "%s: schema %" PRIu32 " is unknown; data.mdb is damaged", s->folder, version);
    return FT_OK;
}

/* Opens the three databases, making them where the store is new. */
static ft_code open_databases(ft_store *s, int fresh, ft_status *st)
{
    MDB_txn *txn = NULL;
    int error = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (error)
        return fail_with(s, error, "open", st);
    ft_code rc = FT_OK;
    error = mdb_dbi_open(txn, "meta", fresh ? MDB_CREATE : 0, &s->meta);
    if (error == MDB_NOTFOUND) {
        MDB_stat stat;
        MDB_dbi unnamed;
        error = mdb_dbi_open(txn, NULL, 0, &unnamed);
        if (!error)
            error = mdb_stat(txn, unnamed, &stat);
        /* An environment without any database is one whose first opening was cut off. */
        if (!error && stat.ms_entries == 0) {
            fresh = 1;
            error = mdb_dbi_open(txn, "meta", MDB_CREATE, &s->meta);
        } else if (!error) {
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: an LMDB database, but not a trace store; name another folder",
                         s->folder);
        }
    }
    if (!rc && error)
        rc = fail_with(s, error, "open", st);
    if (!rc)
        rc = check_schema(s, txn, fresh, st);
    if (!rc) {
        error = mdb_dbi_open(txn, "traces", MDB_CREATE, &s->traces);
        if (!error)
            error = mdb_dbi_open(txn, "routing", MDB_CREATE, &s->routing);
        if (error)
            rc = fail_with(s, error, "open", st);
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    error = mdb_txn_commit(txn);
    return error ? fail_with(s, error, "open", st) : FT_OK;
}

ft_code ft_store_open(ft_store **out, const char *folder, uint64_t max_bytes, ft_status *st)
{
    *out = NULL;
    int fresh = 0, error;
    ft_store *s = calloc(1, sizeof(*s));
    if (!s)
        return ft_fail(st, FT_ERR_MEM, "%s: no room for the store's handle", folder);
    ft_code rc = FT_OK;
    const size_t name = strlen(folder) + 1;
    s->folder = malloc(name);
    if (!s->folder) {
        rc = ft_fail(st, FT_ERR_MEM, "%s: no room for the store's handle", folder);
        goto done;
    }
    memcpy(s->folder, folder, name);
    rc = ft_folder_make(folder, st);
    if (!rc)
        rc = check_folder(s, &fresh, st);
    if (rc)
        goto done;
    error = mdb_env_create(&s->env);
    if (!error)
        error = mdb_env_set_maxdbs(s->env, 8);
    if (!error)
        error = mdb_env_set_mapsize(s->env, max_bytes ? max_bytes : default_bytes);
    if (!error) /* NOTLS: a reader may be any thread */
        error = mdb_env_open(s->env, folder, MDB_NOTLS, 0644);
    if (error) {
        rc = fail_with(s, error, "open", st);
        goto done;
    }
    rc = check_length(s, st);
    if (!rc)
        rc = open_databases(s, fresh, st);
    if (rc)
        goto done;
    *out = s;
    s = NULL;
done:
    ft_store_close(s);
    return rc;
}

void ft_store_close(ft_store *s)
{
    if (!s)
        return;
    if (s->env)
        mdb_env_close(s->env);
    free(s->folder);
    free(s);
}

/* --- Ids ------------------------------------------------------------------------ */

/* 130 bits as 26 characters: 2 zero bits, 48 of milliseconds, 10 of microseconds
 * within one, 70 random. */
void ft_trace_id_new(char id[FT_TRACE_ID])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t milliseconds = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    const uint64_t fine = (uint64_t)now.tv_nsec / 1000 % 1000, a = ft_random_seed(), b = ft_random_seed();
    memcpy(id, "trc_", 4);
    for (int i = 0; i < 10; i++)
        id[4 + i] = digits[milliseconds >> (45 - 5 * i) & 31];
    for (int i = 0; i < 2; i++)
        id[14 + i] = digits[fine >> (5 - 5 * i) & 31];
    for (int i = 0; i < 7; i++)
        id[16 + i] = digits[a >> (5 * i) & 31];
    for (int i = 0; i < 7; i++)
        id[23 + i] = digits[b >> (5 * i) & 31];
    id[ID_BYTES] = '\0';
}

int ft_trace_id_time(const char *id, uint64_t *milliseconds)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    *milliseconds = 0;
    if (strlen(id) != ID_BYTES || strncmp(id, "trc_", 4) != 0 || strspn(id + 4, digits) != ID_BYTES - 4)
        return 0;
    for (int i = 4; i < 14; i++)
        *milliseconds = *milliseconds << 5 | (uint64_t)(strchr(digits, id[i]) - digits);
    return 1;
}

ft_code ft_trace_stamp(json_t **trace, const char *id, ft_status *st)
{
    uint64_t milliseconds;
    char created[40];
    struct tm utc;
    if (!ft_trace_id_time(id, &milliseconds))
        return ft_fail(st, FT_ERR_ARG, "'%.60s' is not the id of a trace", id);
    const time_t seconds = (time_t)(milliseconds / 1000);
    if (!gmtime_r(&seconds, &utc) || !strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &utc))
        return ft_fail(st, FT_ERR_ARG, "'%.60s': its time is out of range", id);
    json_t *out = json_pack("{s:s,s:s,s:s}", "id", id, "object", "trace", "created", created);
    if (!out || json_object_update_missing(out, *trace) != 0) {
        json_decref(out);
        return ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
    }
    json_decref(*trace);
    *trace = out;
    return FT_OK;
}

/* --- Writing and reading ---------------------------------------------------------- */

static ft_code check_id(const ft_store *s, const char *id, ft_code code, ft_status *st)
{
    uint64_t when;
    if (ft_trace_id_time(id, &when))
        return FT_OK;
    return ft_fail(st, code, "%s: '%.60s' is not the id of a trace", s->folder, id);
}

ft_code ft_store_put(ft_store *s, const char *id, const json_t *trace, const ft_routing *routing, ft_status *st)
{
    ft_buffer text = {0}, bulk = {0};
    MDB_txn *txn = NULL;
    int error = 0;
    ft_code rc = check_id(s, id, FT_ERR_ARG, st);
    if (!rc)
        rc = pack_trace(&text, trace, routing != NULL, st);
    if (!rc && routing)
        rc = pack_routing(&bulk, routing, st);
    if (!rc) {
        MDB_val key = {ID_BYTES, (void *)(uintptr_t)id}, value = {text.size, text.data}, rest = {bulk.size, bulk.data};
        error = mdb_txn_begin(s->env, NULL, 0, &txn);
        if (!error)
            error = mdb_put(txn, s->traces, &key, &value, 0);
        if (!error && routing)
            error = mdb_put(txn, s->routing, &key, &rest, 0);
        if (!error && !routing) {
            error = mdb_del(txn, s->routing, &key, NULL);
            error = error == MDB_NOTFOUND ? 0 : error;
        }
        if (!error) {
            error = mdb_txn_commit(txn); /* syncs; frees the transaction whatever comes of it */
            txn = NULL;
        }
        mdb_txn_abort(txn);
        if (error)
            rc = fail_with(s, error, "write", st);
    }
    ft_buffer_release(&text);
    ft_buffer_release(&bulk);
    return rc;
}

/* Copies one value out of its transaction. */
static ft_code get_value(ft_store *s, MDB_dbi database, const char *id, ft_buffer *out, ft_status *st)
{
    MDB_txn *txn = NULL;
    MDB_val key = {ID_BYTES, (void *)(uintptr_t)id}, value;
    ft_code rc = check_id(s, id, FT_ERR_NOT_FOUND, st);
    if (rc)
        return rc;
    int error = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (!error)
        error = mdb_get(txn, database, &key, &value);
    if (!error)
        rc = ft_buffer_append(out, value.mv_data, value.mv_size, st);
    else if (error == MDB_NOTFOUND)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: no trace %s", s->folder, id);
    else
        rc = fail_with(s, error, "read", st);
    mdb_txn_abort(txn);
    return rc;
}

ft_code ft_store_get_routing(ft_store *s, const char *id, ft_stored_routing *out, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    ft_buffer bulk = {0};
    ft_code rc = get_value(s, s->routing, id, &bulk, st);
    if (!rc)
        rc = unpack_routing(out, &bulk, id, st);
    ft_buffer_release(&bulk);
    return rc;
}

ft_code ft_store_get(ft_store *s, const char *id, json_t **trace, ft_status *st)
{
    *trace = NULL;
    ft_buffer text = {0};
    ft_stored_routing routing = {0};
    json_t *read = NULL;
    ft_code rc = get_value(s, s->traces, id, &text, st);
    if (!rc)
        rc = unpack_trace(&read, &text, id, st);
    json_t *head = json_object_get(read, "routing");
    if (!rc && json_is_object(head) && !json_object_get(head, "ids")) {
        rc = ft_store_get_routing(s, id, &routing, st);
        if (!rc && !routing_json_fill(head, &routing.view))
            rc = ft_fail(st, FT_ERR_MEM, "trace %s: out of memory", id);
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
    MDB_val key = {strlen(before), (void *)(uintptr_t)before}, value;
    *count = 0;
    int error = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (!error)
        error = mdb_cursor_open(txn, s->traces, &cursor);
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
    mdb_txn_abort(txn);
    return error && error != MDB_NOTFOUND ? fail_with(s, error, "list", st) : FT_OK;
}

ft_code ft_store_check(ft_store *s, ft_status *st)
{
    size_t count;
    char id[1][FT_TRACE_ID];
    return ft_store_list(s, "", 1, id, &count, st);
}

/* --- Notes ------------------------------------------------------------------------- */

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
    if (rc)
        return rc;
    MDB_val key = {strlen(text), text}, value;
    int error = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (!error)
        error = mdb_get(txn, s->meta, &key, &value);
    if (!error)
        rc = ft_buffer_append(out, value.mv_data, value.mv_size, st);
    else if (error == MDB_NOTFOUND)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: no note '%.80s'", s->folder, name);
    else
        rc = fail_with(s, error, "read", st);
    mdb_txn_abort(txn);
    return rc;
}

/* With `keep`, what is there already stays. */
static ft_code put_note(ft_store *s, const char *name, const void *bytes, size_t n, int keep, ft_status *st)
{
    char text[MAX_NOTE_NAME + 8];
    MDB_txn *txn = NULL;
    const ft_code rc = note_key(s, name, text, st);
    if (rc)
        return rc;
    MDB_val key = {strlen(text), text}, value = {n, (void *)(uintptr_t)bytes};
    int error = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (!error)
        error = mdb_put(txn, s->meta, &key, &value, keep ? MDB_NOOVERWRITE : 0);
    if (!error) {
        error = mdb_txn_commit(txn);
        txn = NULL;
    }
    mdb_txn_abort(txn);
    return error && !(keep && error == MDB_KEYEXIST) ? fail_with(s, error, "write", st) : FT_OK;
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
