#define _GNU_SOURCE /* F_OFD_SETLK */
#include "tracer/ft_store.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "tracer/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_SHORT_PAGES = 64, /* LMDB may leave freed pages at the end unwritten */
    MAX_READERS = 510
};
static const uint64_t first_map_bytes = UINT64_C(64) << 20, map_step_bytes = UINT64_C(16) << 30;
const char store_schema_key[] = "schema", store_format_key[] = "format", store_format[] = "flextrace traces";

/* --- Errors -------------------------------------------------------------------- */

ft_code store_fail(const ft_store *s, int error, const char *doing, ft_status *st)
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
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EIO: /* also what LMDB makes of a write that was cut short */
        return ft_fail(st, FT_ERR_IO, "%s: %s: %s; nothing was written, what is stored stays; is the disk full?",
                       s->folder, doing, mdb_strerror(error));
    case MDB_READERS_FULL:
        return ft_fail(st, FT_ERR_LIMIT, "%s: %s: too many readers at once", s->folder, doing);
    case ENOMEM:
        return ft_fail(st, FT_ERR_MEM, "%s: %s: out of memory or address space", s->folder, doing);
    default:
        return ft_fail(st, FT_ERR_IO, "%s: %s: %s", s->folder, doing, mdb_strerror(error));
    }
}

/* --- Opening ------------------------------------------------------------------- */

static int is_ours(const char *name)
{
    static const char *const names[] = {".", "..", "lock.mdb", "lock", "compact", "journal", "journal.new"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!strcmp(name, names[i]))
            return 1;
    return 0;
}

/* A folder that holds something, but no database, is somebody else's. */
static ft_code check_folder(const ft_store *s, ft_status *st)
{
    DIR *folder = opendir(s->folder);
    if (!folder)
        return ft_fail(st, FT_ERR_IO, "%s: %s", s->folder, strerror(errno));
    char name[256] = "";
    int database = 0;
    for (const struct dirent *e = readdir(folder); e; e = readdir(folder)) {
        if (!strcmp(e->d_name, "data.mdb"))
            database = 1;
        else if (!is_ours(e->d_name))
            snprintf(name, sizeof(name), "%s", e->d_name);
    }
    closedir(folder);
    if (!database && name[0])
        return ft_fail(st, FT_ERR_FORMAT, "%s: not a trace store: it holds '%s'; name an empty or new folder",
                       s->folder, name);
    return FT_OK;
}

static int lock_byte(const ft_store *s, int byte, int type, int wait)
{
    struct flock how = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int rc;
    do
        rc = fcntl(s->lock, wait ? F_OFD_SETLKW : F_OFD_SETLK, &how);
    while (rc != 0 && errno == EINTR);
    return rc;
}

int store_lock(const ft_store *s, int alone, int wait)
{
    return lock_byte(s, STORE_LOCK_USE, alone ? F_WRLCK : F_RDLCK, wait);
}

/* Everybody who has the store open shares a lock on its file "lock"; who exchanges data.mdb, or puts it in order, has it
 * alone. *alone says that it is so now. One opens it after the other: of two who begin at once, each would take the
 * other for one who has it open. */
static ft_code take_lock(ft_store *s, int *alone, ft_status *st)
{
    char *path = ft_path_join(s->folder, "lock");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: no room for the store's handle", s->folder);
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    free(path);
    int error = s->lock < 0 || lock_byte(s, STORE_LOCK_OPEN, F_WRLCK, 1);
    *alone = !error && store_lock(s, 1, 0) == 0;
    if (!error && !*alone) {
        error = store_lock(s, 0, 1);
        *alone = !error && store_lock(s, 1, 0) == 0; /* who had it alone may be gone */
    }
    return error ? ft_fail(st, FT_ERR_IO, "%s/lock: %s", s->folder, strerror(errno)) : FT_OK;
}

static ft_code share_lock(ft_store *s, ft_status *st)
{
    if (store_lock(s, 0, 1) || lock_byte(s, STORE_LOCK_OPEN, F_UNLCK, 1))
        return ft_fail(st, FT_ERR_IO, "%s/lock: %s", s->folder, strerror(errno));
    return FT_OK;
}

/* What a compaction that was killed left. */
static ft_code clear_leftovers(const ft_store *s, ft_status *st)
{
    char *path = ft_path_join(s->folder, "compact");
    const ft_code rc =
        path ? ft_folder_remove(path, st) : ft_fail(st, FT_ERR_MEM, "%s: no room for the store's handle", s->folder);
    free(path);
    return rc;
}

/* LMDB begins a file with two pages in one write, which a kill may cut: nothing was ever in such a file. */
static ft_code clear_stillborn(const ft_store *s, ft_status *st)
{
    ft_map file = {0};
    lmdb_meta m = {.transaction = 1};
    char *path = ft_path_join(s->folder, "data.mdb");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: no room for the store's handle", s->folder);
    ft_code rc = ft_path_exists(path) ? ft_map_open(&file, path, st) : FT_OK;
    if (file.bytes >= LMDB_PAGE_HEADER + sizeof(m))
        memcpy(&m, file.data + LMDB_PAGE_HEADER, sizeof(m));
    const int stillborn = m.magic == LMDB_MAGIC && !m.transaction && file.bytes < 2 * (uint64_t)m.trees[0].page_bytes;
    ft_map_close(&file);
    if (!rc && stillborn && unlink(path) != 0)
        rc = ft_fail(st, FT_ERR_IO, "%s: %s", path, strerror(errno));
    free(path);
    return rc;
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
        return store_fail(s, error, "open", st);
    const uint64_t needed = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize, have = (uint64_t)file.st_size;
    if (needed <= have)
        return FT_OK;
    if (needed / stat.ms_psize - have / stat.ms_psize > MAX_SHORT_PAGES)
        return ft_fail(st, FT_ERR_FORMAT, "%s/data.mdb: cut short: %" PRIu64 " of %" PRIu64 " bytes; restore a copy",
                       s->folder, have, needed);
    return ftruncate(fd, (off_t)needed) ? store_fail(s, errno, "open", st) : FT_OK;
}

static ft_code not_ours(const ft_store *s, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s: an LMDB database, but not a trace store; name another folder", s->folder);
}

static int set_schema(ft_store *s, MDB_txn *txn)
{
    const uint32_t version = SCHEMA_VERSION;
    MDB_val key = store_value(store_schema_key, sizeof(store_schema_key) - 1), value = store_value(&version, sizeof(version));
    MDB_val name_key = store_value(store_format_key, sizeof(store_format_key) - 1);
    MDB_val name = store_value(store_format, sizeof(store_format) - 1);
    const int error = mdb_put(txn, s->meta, &key, &value, 0);
    return error ? error : mdb_put(txn, s->meta, &name_key, &name, 0);
}

static ft_code check_schema(ft_store *s, MDB_txn *txn, int fresh, ft_status *st)
{
    MDB_val key = store_value(store_schema_key, sizeof(store_schema_key) - 1), value;
    uint32_t version = 0;
    int error = mdb_get(txn, s->meta, &key, &value);
    if (error == MDB_NOTFOUND && fresh) {
        error = set_schema(s, txn);
        return error ? store_fail(s, error, "open", st) : FT_OK;
    }
    if (error && error != MDB_NOTFOUND)
        return store_fail(s, error, "open", st);
    if (error || value.mv_size != sizeof(version))
        return not_ours(s, st);
    memcpy(&version, value.mv_data, sizeof(version));
    if (version > SCHEMA_VERSION)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s: written by a newer flextrace (schema %" PRIu32
                       ", this one reads up to %d); upgrade flextrace",
                       s->folder, version, SCHEMA_VERSION);
    if (!version)
        return ft_fail(st, FT_ERR_FORMAT, "%s: schema 0 is unknown; data.mdb is damaged", s->folder);
    s->schema = version;
    return FT_OK;
}

/* The database "meta"; where there is none, but others are, the environment is another program's. One without any
 * database is one whose first opening was cut off. */
static ft_code open_meta(ft_store *s, MDB_txn *txn, int *fresh, ft_status *st)
{
    int error = mdb_dbi_open(txn, "meta", 0, &s->meta);
    *fresh = error == MDB_NOTFOUND;
    if (error == MDB_NOTFOUND) {
        MDB_stat stat;
        MDB_dbi unnamed;
        error = mdb_dbi_open(txn, NULL, 0, &unnamed);
        if (!error)
            error = mdb_stat(txn, unnamed, &stat);
        if (!error && stat.ms_entries > 0)
            return not_ours(s, st);
        if (!error)
            error = mdb_dbi_open(txn, "meta", MDB_CREATE, &s->meta);
    }
    return error ? store_fail(s, error, "open", st) : FT_OK;
}

static ft_code open_databases(ft_store *s, ft_status *st)
{
    const struct {
        const char *name;
        MDB_dbi *to;
    } all[] = {{"traces", &s->traces}, {"routing", &s->routing}, {"summaries", &s->summaries},
               {"keys", &s->keys},     {"ledger", &s->ledger},   {"log", &s->log},
               {"runs", &s->runs},     {"run keys", &s->run_keys}, {"journal", &s->journal_end},
               {"receipts", &s->receipts}, {"receipt ids", &s->receipt_ids}};
    MDB_txn *txn = NULL;
    int fresh, error = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (error)
        return store_fail(s, error, "open", st);
    s->schema = SCHEMA_VERSION;
    ft_code rc = open_meta(s, txn, &fresh, st);
    if (!rc)
        rc = check_schema(s, txn, fresh, st);
    for (size_t i = 0; !rc && i < sizeof(all) / sizeof(*all); i++)
        if ((error = mdb_dbi_open(txn, all[i].name, MDB_CREATE, all[i].to)) != 0)
            rc = store_fail(s, error, "open", st);
    if (!rc && (error = journal_end_make(s, txn)) != 0)
        rc = store_fail(s, error, "open", st);
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    error = mdb_txn_commit(txn);
    return error ? store_fail(s, error, "open", st) : FT_OK;
}

static uint64_t ceiling(const ft_store *s)
{
    static const uint64_t page = 65536; /* a multiple of what systems have: a map is whole pages */
    const uint64_t most = s->options.max_bytes ? s->options.max_bytes : UINT64_C(1) << 46;
    return most > page ? most - most % page : page;
}

ft_code store_attach(ft_store *s, ft_status *st)
{
    struct stat file = {0};
    char *path = ft_path_join(s->folder, "data.mdb");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: no room for the store's handle", s->folder);
    uint64_t map = stat(path, &file) == 0 ? (uint64_t)file.st_size + first_map_bytes : first_map_bytes;
    free(path);
    map -= map % 65536;
    int error = mdb_env_create(&s->env);
    if (!error)
        error = mdb_env_set_maxdbs(s->env, STORE_DATABASES);
    if (!error)
        error = mdb_env_set_maxreaders(s->env, MAX_READERS);
    if (!error)
        error = mdb_env_set_mapsize(s->env, map < ceiling(s) ? map : ceiling(s));
    if (!error) /* NOTLS: a reader may be any thread */
        error = mdb_env_open(s->env, s->folder, MDB_NOTLS, 0644);
    ft_code rc = error ? store_fail(s, error, "open", st) : FT_OK;
    int dead;
    if (!rc)
        (void)mdb_reader_check(s->env, &dead); /* slots of processes that were killed */
    if (!rc)
        rc = check_length(s, st);
    if (!rc)
        rc = open_databases(s, st);
    if (rc)
        store_detach(s);
    return rc;
}

void store_detach(ft_store *s)
{
    journal_unpin(s);
    if (s->env)
        mdb_env_close(s->env);
    s->env = NULL;
}

/* Once more: a record may have held another number. */
static ft_code read_schema(ft_store *s, ft_status *st)
{
    MDB_txn *txn;
    ft_code rc = store_read_begin(s, &txn, "open", st);
    if (rc)
        return rc;
    rc = check_schema(s, txn, 0, st);
    store_read_end(s, txn);
    return rc;
}

static ft_code make_handle(ft_store **out, const char *folder, const ft_store_options *options, ft_status *st)
{
    ft_store *s = calloc(1, sizeof(*s));
    char *name = strdup(folder);
    if (!s || !name) {
        free(s);
        free(name);
        return ft_fail(st, FT_ERR_MEM, "%s: no room for the store's handle", folder);
    }
    pthread_rwlockattr_t fair; /* who wants the map alone must not starve */
    pthread_rwlockattr_init(&fair);
    pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&s->map, &fair);
    pthread_rwlockattr_destroy(&fair);
    pthread_mutex_init(&s->queue_lock, NULL);
    pthread_mutex_init(&s->txn_lock, NULL);
    pthread_cond_init(&s->moved, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->company, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->packers_lock, NULL);
    s->folder = name;
    s->last = &s->first;
    s->lock = -1;
    s->journal.fd = -1;
    if (options)
        s->options = *options;
    *out = s;
    return FT_OK;
}

ft_code ft_store_open_with(ft_store **out, const char *folder, const ft_store_options *options, ft_status *st)
{
    ft_store *s = NULL;
    int alone = 0;
    *out = NULL;
    ft_code rc = make_handle(&s, folder, options, st);
    if (!rc)
        rc = ft_folder_make(folder, st);
    if (!rc)
        rc = check_folder(s, st);
    if (!rc)
        rc = take_lock(s, &alone, st);
    if (!rc && alone)
        rc = clear_leftovers(s, st);
    if (!rc && alone)
        rc = clear_stillborn(s, st);
    if (!rc && alone)
        rc = journal_recover(s, st);
    if (!rc)
        rc = store_attach(s, st);
    if (!rc && s->journal.recovered)
        rc = journal_replay(s, st);
    if (!rc && s->journal.recovered)
        rc = read_schema(s, st);
    if (!rc)
        rc = share_lock(s, st);
    if (!rc && s->schema != SCHEMA_VERSION)
        rc = store_migrate(s, st);
    if (rc)
        ft_store_close(s);
    else
        *out = s;
    return rc;
}

ft_code ft_store_open(ft_store **out, const char *folder, uint64_t max_bytes, ft_status *st)
{
    const ft_store_options options = {.max_bytes = max_bytes};
    return ft_store_open_with(out, folder, &options, st);
}

void ft_store_close(ft_store *s)
{
    if (!s)
        return;
    journal_close(s);
    store_detach(s);
    if (s->lock >= 0)
        close(s->lock);
    packers_free(s);
    batch_release(&s->batch);
    pthread_mutex_destroy(&s->packers_lock);
    pthread_mutex_destroy(&s->txn_lock);
    pthread_cond_destroy(&s->moved);
    pthread_cond_destroy(&s->company);
    pthread_mutex_destroy(&s->queue_lock);
    pthread_rwlock_destroy(&s->map);
    free(s->folder);
    free(s);
}

const char *ft_store_folder(const ft_store *s)
{
    return s->folder;
}

/* --- Transactions, and the map's size -------------------------------------------- */

/* LMDB wants no transaction of ours open meanwhile, the pin not either. */
static int set_size(ft_store *s, uint64_t bytes)
{
    pthread_rwlock_wrlock(&s->map);
    pthread_mutex_lock(&s->txn_lock);
    journal_unpin(s);
    const int error = mdb_env_set_mapsize(s->env, bytes);
    pthread_mutex_unlock(&s->txn_lock);
    pthread_rwlock_unlock(&s->map);
    return error;
}

/* Another process may have made the file larger than our map. */
static int adopt_size(ft_store *s)
{
    return set_size(s, 0);
}

ft_code store_read_begin(ft_store *s, MDB_txn **txn, const char *doing, ft_status *st)
{
    for (;;) {
        pthread_rwlock_rdlock(&s->map);
        int error = s->env ? mdb_txn_begin(s->env, NULL, MDB_RDONLY, txn) : MDB_PANIC;
        if (!error)
            return FT_OK;
        pthread_rwlock_unlock(&s->map);
        *txn = NULL;
        if (error == MDB_MAP_RESIZED)
            error = adopt_size(s);
        if (error)
            return store_fail(s, error, doing, st);
    }
}

void store_read_end(ft_store *s, MDB_txn *txn)
{
    if (!txn)
        return;
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&s->map);
}

int store_write_begin(ft_store *s, MDB_txn **txn)
{
    for (;;) {
        pthread_mutex_lock(&s->txn_lock);
        int error = s->env ? mdb_txn_begin(s->env, NULL, 0, txn) : MDB_PANIC;
        if (!error)
            return 0;
        pthread_mutex_unlock(&s->txn_lock);
        if (error == MDB_MAP_RESIZED)
            error = adopt_size(s);
        if (error)
            return error;
    }
}

void store_write_end(ft_store *s)
{
    pthread_mutex_unlock(&s->txn_lock);
}

int store_grow(ft_store *s)
{
    MDB_envinfo info;
    int error = mdb_env_info(s->env, &info);
    if (error)
        return error;
    const uint64_t now = info.me_mapsize, most = ceiling(s);
    if (now >= most)
        return MDB_MAP_FULL;
    uint64_t next = now + (now < map_step_bytes ? now : map_step_bytes);
    next = next < most ? next : most;
    return set_size(s, next);
}

/* --- Ids ------------------------------------------------------------------------ */

static const char id_digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* 130 bits as 26 characters: 2 zero bits, 48 of milliseconds, 10 of microseconds
 * within one, 70 random. */
void ft_trace_id_new(char id[FT_TRACE_ID])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t milliseconds = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    const uint64_t fine = (uint64_t)now.tv_nsec / 1000 % 1000, a = ft_random_seed(), b = ft_random_seed();
    memcpy(id, "trc_", 4);
    for (int i = 0; i < 10; i++)
        id[4 + i] = id_digits[milliseconds >> (45 - 5 * i) & 31];
    for (int i = 0; i < 2; i++)
        id[14 + i] = id_digits[fine >> (5 - 5 * i) & 31];
    for (int i = 0; i < 7; i++)
        id[16 + i] = id_digits[a >> (5 * i) & 31];
    for (int i = 0; i < 7; i++)
        id[23 + i] = id_digits[b >> (5 * i) & 31];
    id[ID_BYTES] = '\0';
}

int ft_trace_id_time(const char *id, uint64_t *milliseconds)
{
    *milliseconds = 0;
    if (strlen(id) != ID_BYTES || strncmp(id, "trc_", 4) != 0 || strspn(id + 4, id_digits) != ID_BYTES - 4)
        return 0;
    for (int i = 4; i < 14; i++)
        *milliseconds = *milliseconds << 5 | (uint64_t)(strchr(id_digits, id[i]) - id_digits);
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

ft_code store_check_id(const ft_store *s, const char *id, ft_code code, ft_status *st)
{
    uint64_t when;
    if (ft_trace_id_time(id, &when) && id[4] <= '7') /* 128 bits: the first character has three */
        return FT_OK;
    return ft_fail(st, code, "%s: '%.60s' is not the id of a trace", s->folder, id);
}

/* 26 characters of 5 bits are 130: the first two are zero, or the id is beyond all that are. */
void store_id_pack(const char *id, unsigned char out[STORE_ID])
{
    unsigned rest = 0, bits = 0, at = 0;
    if (id[4] > '7') {
        memset(out, 0xff, STORE_ID);
        return;
    }
    for (int i = 0; i < 26; i++) {
        rest = rest << 5 | (unsigned)(strchr(id_digits, id[4 + i]) - id_digits);
        bits += i == 0 ? 3 : 5;
        for (; bits >= 8; bits -= 8)
            out[at++] = (unsigned char)(rest >> (bits - 8));
        rest &= (1U << bits) - 1;
    }
}

void store_id_unpack(const unsigned char id[STORE_ID], char out[FT_TRACE_ID])
{
    unsigned rest = 0, bits = 2, at = 0; /* two zero bits in front */
    memcpy(out, "trc_", 4);
    for (int i = 0; i < 26; i++) {
        if (bits < 5) {
            rest = rest << 8 | id[at++];
            bits += 8;
        }
        out[4 + i] = id_digits[rest >> (bits - 5) & 31];
        bits -= 5;
        rest &= (1U << bits) - 1;
    }
    out[ID_BYTES] = '\0';
}

void store_id_of_time(uint64_t milliseconds, int last, unsigned char out[STORE_ID])
{
    for (int i = 0; i < 6; i++)
        out[i] = (unsigned char)(milliseconds >> (40 - 8 * i));
    memset(out + 6, last ? 0xff : 0, STORE_ID - 6);
}

uint64_t store_id_time(const unsigned char id[STORE_ID])
{
    uint64_t milliseconds = 0;
    for (int i = 0; i < 6; i++)
        milliseconds = milliseconds << 8 | id[i];
    return milliseconds;
}
