/* The journal: what makes a commit durable with one sync of the disk. LMDB alone needs two, of the pages and then of
 * the page that names them.
 *
 * A group of operations is written to the file "journal" as one record and synced; then LMDB commits it without a sync,
 * so that readers see it, in every process. From time to time data.mdb is synced (the journal is *settled*) and the
 * records begin anew.
 *
 * After a loss of power data.mdb may hold any part of what was written since it was last synced. What it held then, the
 * *state*, is whole all the same, because LMDB writes no page that a reader can still see: a read transaction of that
 * state, or an earlier one, is open (the *pin*) for as long as records stand behind it. Only LMDB's first two pages,
 * which say where the trees are, have been written over, so the journal keeps a copy of the one of the state. Who opens
 * the store alone and finds records puts that copy back and carries the records out again, in one transaction that is
 * synced; the same after a kill, where it would not be needed.
 *
 * All below is done by whoever holds LMDB's lock for writers, in whichever process:
 *   - A record follows those of its generation only under a pin of this process. A process without one settles first:
 *     another's pin ends with its process.
 *   - The first record of a generation follows the very state that the head has.
 *   - What is committed without a record (too large for the journal) is synced by LMDB; no record stands before it.
 * Where the records end stands in LMDB, written with what they hold: a record that was synced, but never committed, is
 * written over by the next.
 *
 * docs/store.md draws the file. */
#define _GNU_SOURCE /* sync_file_range */
#include "tracer/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    MOST_RECORDS = 128,   /* of a generation: pages that become free meanwhile are not used again */
    LEAST_DIRTY = 32768,  /* what a transaction leaves in data.mdb unwritten, at least */
    MOST_DIRTY = 1 << 20, /* then the system begins to write it */
};
static const char head_magic[8] = "FTJRNL1", record_magic[8] = "FTRECORD";

/* --- The file ------------------------------------------------------------------------------------ */

int journal_write(int fd, const void *bytes, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t w = pwrite(fd, (const char *)bytes + done, n - done, (off_t)(at + done));
        if (w < 0 && errno != EINTR)
            return errno;
        if (w == 0)
            return EIO;
        done += w > 0 ? (size_t)w : 0;
    }
    return 0;
}

/* What is behind the file's end is zero. */
static int read_at(int fd, void *bytes, size_t n, uint64_t at)
{
    memset(bytes, 0, n);
    for (size_t done = 0; done < n;) {
        const ssize_t r = pread(fd, (char *)bytes + done, n - done, (off_t)(at + done));
        if (r < 0 && errno != EINTR)
            return errno;
        if (r == 0)
            break;
        done += r > 0 ? (size_t)r : 0;
    }
    return 0;
}

static int sync_file(int fd)
{
    return fdatasync(fd) == 0 ? 0 : errno;
}

static void digest_of(const void *bytes, size_t n, unsigned char out[16])
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(bytes, n));
    memcpy(out, c.digest, 16);
}

static int head_is_whole(const journal_head *h)
{
    unsigned char digest[16];
    digest_of(h, offsetof(journal_head, digest), digest);
    return !memcmp(h->magic, head_magic, sizeof(head_magic)) && !memcmp(h->digest, digest, sizeof(digest));
}

int journal_head_read(int fd, journal_head *out, int *block)
{
    journal_head h[2];
    int whole[2], error = 0;
    for (int i = 0; i < 2; i++) {
        const int e = read_at(fd, &h[i], sizeof(h[i]), (uint64_t)i * JOURNAL_BLOCK);
        error = error ? error : e;
        whole[i] = !e && head_is_whole(&h[i]);
    }
    if (error)
        return error;
    if (!whole[0] && !whole[1])
        return MDB_CORRUPTED;
    *block = !whole[0] || (whole[1] && h[1].number > h[0].number);
    *out = h[*block];
    return 0;
}

/* Into the block with the older one, synced; then into the other, which reaches the disk with the first record, so that
 * from then on either is as good. */
static int write_head(int fd, journal_head *h)
{
    journal_head old;
    int block = 0, error = journal_head_read(fd, &old, &block);
    if (error == MDB_CORRUPTED) /* a new file */
        old.number = 0;
    else if (error)
        return error;
    memcpy(h->magic, head_magic, sizeof(head_magic));
    h->number = old.number + 1;
    randombytes_buf(h->nonce, sizeof(h->nonce));
    digest_of(h, offsetof(journal_head, digest), h->digest);
    error = journal_write(fd, h, sizeof(*h), (uint64_t)!block * JOURNAL_BLOCK);
    if (!error)
        error = sync_file(fd);
    return error ? error : journal_write(fd, h, sizeof(*h), (uint64_t)block * JOURNAL_BLOCK);
}

/* Zeros, written and not only reserved: a sync then has no metadata to write. */
static int write_zeros(int fd)
{
    static const char zeros[64 * JOURNAL_BLOCK];
    int error = 0;
    for (uint64_t at = JOURNAL_RECORDS; !error && at < JOURNAL_RECORDS + JOURNAL_CAPACITY; at += sizeof(zeros))
        error = journal_write(fd, zeros, sizeof(zeros), at);
    return error;
}

static int make_file(const char *path, const char *folder)
{
    char fresh[4200];
    journal_head h = {.has_state = 0};
    if (snprintf(fresh, sizeof(fresh), "%s.new", path) >= (int)sizeof(fresh))
        return ENAMETOOLONG;
    const int fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int error = fd < 0 ? errno : write_zeros(fd);
    if (!error)
        error = write_head(fd, &h);
    if (!error)
        error = fsync(fd) == 0 ? 0 : errno;
    if (!error && rename(fresh, path) != 0)
        error = errno;
    if (!error && ft_folder_sync(folder, NULL))
        error = EIO;
    if (fd >= 0)
        close(fd);
    if (error)
        (void)unlink(fresh);
    return error;
}

int journal_open(ft_store *s, int make)
{
    if (s->journal.fd >= 0)
        return 0;
    char *path = ft_path_join(s->folder, "journal");
    if (!path)
        return ENOMEM;
    s->journal.fd = open(path, O_RDWR | O_CLOEXEC);
    int error = s->journal.fd < 0 ? errno : 0;
    if (error == ENOENT && make) {
        error = make_file(path, s->folder);
        if (!error)
            s->journal.fd = open(path, O_RDWR | O_CLOEXEC);
        if (!error && s->journal.fd < 0)
            error = errno;
    }
    free(path);
    return error;
}

/* --- Records --------------------------------------------------------------------------------------- */

static ft_code add_op(ft_buffer *out, const store_op *op)
{
    record_op h = {.time_ms = op->time_ms,
                   .trace = op->trace.size,
                   .routing = op->routing.size,
                   .summary = op->summary.size,
                   .text = op->text_bytes,
                   .note = op->note ? strlen(op->note) + 1 : 0,
                   .kind = (uint8_t)op->kind,
                   .keep = op->keep != 0};
    memcpy(h.id, op->id, sizeof(h.id));
    ft_code rc = ft_buffer_append(out, &h, sizeof(h), NULL);
    if (!rc)
        rc = ft_buffer_append(out, op->trace.data, op->trace.size, NULL);
    if (!rc)
        rc = ft_buffer_append(out, op->routing.data, op->routing.size, NULL);
    if (!rc)
        rc = ft_buffer_append(out, op->summary.data, op->summary.size, NULL);
    if (!rc)
        rc = ft_buffer_append(out, op->text, op->text_bytes, NULL);
    return rc ? rc : ft_buffer_append(out, op->note, h.note, NULL);
}

/* All that the list changes as a record, in the journal's buffer; where it will stand is not known yet. */
static int make_record(ft_store *s, const store_op *list)
{
    static const char zeros[JOURNAL_BLOCK];
    record_head h = {.operations = 0};
    ft_buffer *out = &s->journal.record;
    ft_buffer_reset(out);
    ft_code rc = ft_buffer_append(out, &h, sizeof(h), NULL);
    for (const store_op *op = list; !rc && op; op = op->next)
        for (const store_op *part = op; !rc && part; part = part->with, h.operations++)
            rc = add_op(out, part);
    h.bytes = out->size - sizeof(h);
    memcpy(h.magic, record_magic, sizeof(h.magic));
    if (!rc)
        digest_of(out->data + sizeof(h), h.bytes, h.content);
    if (!rc)
        rc = ft_buffer_append(out, zeros, journal_blocks(out->size) - out->size, NULL);
    if (!rc)
        memcpy(out->data, &h, sizeof(h));
    return rc ? ENOMEM : 0;
}

/* Whether it is the head of the generation's record at `at`. */
static int is_record(const record_head *h, uint64_t at, const journal_head *generation)
{
    unsigned char digest[16];
    digest_of(h, offsetof(record_head, digest), digest);
    return !memcmp(h->magic, record_magic, sizeof(h->magic)) && h->at == at &&
           !memcmp(h->nonce, generation->nonce, sizeof(h->nonce)) && !memcmp(h->digest, digest, sizeof(digest));
}

uint64_t journal_record_at(const ft_map *file, uint64_t at, const journal_head *generation)
{
    record_head h;
    unsigned char digest[16];
    if (file->bytes < at || file->bytes - at < sizeof(h))
        return 0;
    memcpy(&h, file->data + at, sizeof(h));
    if (!is_record(&h, at, generation) || h.bytes > file->bytes - at - sizeof(h))
        return 0;
    digest_of(file->data + at + sizeof(h), h.bytes, digest);
    return memcmp(h.content, digest, sizeof(digest)) ? 0 : sizeof(h) + h.bytes;
}

/* --- Where records end, in LMDB --------------------------------------------------------------------- */

static const char end_key[] = "end";

static int end_get(ft_store *s, MDB_txn *txn, journal_end *out)
{
    MDB_val key = store_value(end_key, sizeof(end_key) - 1), value;
    const int error = mdb_get(txn, s->journal_end, &key, &value);
    if (error || value.mv_size != sizeof(*out))
        return error && error != MDB_NOTFOUND ? error : MDB_CORRUPTED;
    memcpy(out, value.mv_data, sizeof(*out));
    return 0;
}

static int end_put(ft_store *s, MDB_txn *txn, const journal_end *end)
{
    MDB_val key = store_value(end_key, sizeof(end_key) - 1), value = store_value(end, sizeof(*end));
    return mdb_put(txn, s->journal_end, &key, &value, 0);
}

int journal_end_make(ft_store *s, MDB_txn *txn)
{
    journal_end end = {.at = 0};
    MDB_val key = store_value(end_key, sizeof(end_key) - 1), value;
    const int error = mdb_get(txn, s->journal_end, &key, &value);
    if (error != MDB_NOTFOUND)
        return error;
    randombytes_buf(end.id, sizeof(end.id));
    return end_put(s, txn, &end);
}

/* --- The state, and its pin ------------------------------------------------------------------------- */

/* What the transaction at hand follows: its page of LMDB's, and where records end in it. */
static int read_state(ft_store *s, MDB_txn *txn, journal_head *out)
{
    mdb_filehandle_t fd;
    MDB_stat stat;
    lmdb_meta m;
    int error = mdb_env_get_fd(s->env, &fd);
    if (!error)
        error = mdb_env_stat(s->env, &stat);
    const uint64_t last = mdb_txn_id(txn) - 1;
    if (!error)
        error = read_at(fd, out->meta, JOURNAL_META, (last & 1) * stat.ms_psize);
    memcpy(&m, out->meta + LMDB_PAGE_HEADER, sizeof(m));
    if (!error && m.transaction != last)
        error = MDB_CORRUPTED;
    out->has_state = 1;
    return error ? error : end_get(s, txn, &out->state_end);
}

/* Whether the head has just what the transaction follows. */
static int is_state(const journal_head *head, const journal_head *state)
{
    return head->has_state && !memcmp(head->meta, state->meta, JOURNAL_META) &&
           !memcmp(&head->state_end, &state->state_end, sizeof(state->state_end));
}

void journal_unpin(ft_store *s)
{
    mdb_txn_abort(s->journal.pin);
    s->journal.pin = NULL;
}

static int pin(ft_store *s)
{
    journal_unpin(s);
    return mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->journal.pin);
}

/* data.mdb is synced, and a new generation follows what the transaction at hand follows. A sync that failed may have
 * lost pages that no later one writes: nothing is written any more until the store was opened anew. */
static int settle(ft_store *s, MDB_txn *txn, journal_head *head)
{
    int error = mdb_env_sync(s->env, 1);
    if (error)
        return s->journal.failed = error;
    error = read_state(s, txn, head);
    if (!error)
        error = write_head(s->journal.fd, head);
    if (error)
        s->journal.failed = error;
    else
        journal_unpin(s);
    return error;
}

/* --- Writing ------------------------------------------------------------------------------------------- */

/* A record at the generation's begin that was synced but whose transaction was not committed: its process was killed.
 */
static int has_leftover(ft_store *s, const journal_head *head, int *yes)
{
    record_head first;
    const int error = read_at(s->journal.fd, &first, sizeof(first), JOURNAL_RECORDS);
    *yes = !error && is_record(&first, JOURNAL_RECORDS, head);
    return error;
}

/* Brings the journal to where the transaction can have a record at `*at`; or, with `record` 0, to where it can be
 * committed without one. */
static int prepare(ft_store *s, MDB_txn *txn, int record, uint64_t *at)
{
    store_journal *j = &s->journal;
    journal_head head, state;
    lmdb_meta m;
    int block, leftover = 0, error = journal_head_read(j->fd, &head, &block);
    if (!error)
        error = end_get(s, txn, &j->end);
    if (error)
        return error;
    const uint64_t end = j->end.at;
    const int goes_on = head.has_state && !memcmp(j->end.nonce, head.nonce, sizeof(head.nonce));
    memcpy(&m, head.meta + LMDB_PAGE_HEADER, sizeof(m));
    if (goes_on && record && j->pin && end >= JOURNAL_RECORDS && end == journal_blocks(end) &&
        end + j->record.size <= JOURNAL_RECORDS + JOURNAL_CAPACITY && mdb_txn_id(txn) - m.transaction <= MOST_RECORDS) {
        *at = end;
        return 0;
    }
    if (!goes_on)
        error = has_leftover(s, &head, &leftover);
    if (!error && (goes_on || leftover))
        error = settle(s, txn, &head);
    if (error || !record)
        return error;
    error = read_state(s, txn, &state);
    if (!error && !is_state(&head, &state))
        error = settle(s, txn, &head);
    if (!error)
        error = pin(s);
    memcpy(j->end.nonce, head.nonce, sizeof(head.nonce));
    *at = JOURNAL_RECORDS;
    return error;
}

int journal_begin(ft_store *s, MDB_txn *txn, const store_op *list, uint64_t *at)
{
    *at = 0;
    if (s->journal.failed)
        return s->journal.failed;
    if (s->journal.off)
        return 0;
    int error = make_record(s, list);
    const int fits = !error && s->journal.record.size <= JOURNAL_CAPACITY;
    if (!error)
        error = journal_open(s, fits);
    if (s->journal.fd < 0 && (error == ENOENT || error == ENOSPC || error == EDQUOT || error == EFBIG))
        return 0; /* there is none: LMDB syncs */
    return error ? error : prepare(s, txn, fits, at);
}

/* Nobody is told that it was written. */
static void take_back(ft_store *s, uint64_t at)
{
    static const char zeros[JOURNAL_BLOCK];
    if (journal_write(s->journal.fd, zeros, sizeof(zeros), at) || sync_file(s->journal.fd))
        s->journal.failed = EIO;
}

/* The record, and in LMDB where it ends. */
static int write_record(ft_store *s, MDB_txn *txn, uint64_t at)
{
    store_journal *j = &s->journal;
    record_head h;
    memcpy(&h, j->record.data, sizeof(h));
    memcpy(h.nonce, j->end.nonce, sizeof(h.nonce));
    h.at = at;
    digest_of(&h, offsetof(record_head, digest), h.digest);
    memcpy(j->record.data, &h, sizeof(h));
    j->end.at = at + j->record.size;
    int error = end_put(s, txn, &j->end);
    if (error)
        return error;
    error = journal_write(j->fd, j->record.data, j->record.size, at);
    if (!error && (error = sync_file(j->fd)) != 0)
        j->failed = error;
    if (error)
        take_back(s, at);
    return error;
}

/* Whoever settles waits for data.mdb, and others wait for them: so most of it is on its way before. A hint only. */
static void write_behind(ft_store *s)
{
    mdb_filehandle_t fd;
    s->journal.dirty += s->journal.record.size > LEAST_DIRTY ? s->journal.record.size : LEAST_DIRTY;
    if (s->journal.dirty < MOST_DIRTY || mdb_env_get_fd(s->env, &fd))
        return;
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    s->journal.dirty = 0;
}

int journal_commit(ft_store *s, MDB_txn *txn, uint64_t at)
{
    if (!at)
        return mdb_txn_commit(txn); /* synced by LMDB */
    int error = write_record(s, txn, at);
    if (error) {
        mdb_txn_abort(txn);
        return error;
    }
    (void)mdb_env_set_flags(s->env, MDB_NOSYNC, 1); /* the lock for writers is ours */
    error = mdb_txn_commit(txn);
    (void)mdb_env_set_flags(s->env, MDB_NOSYNC, 0);
    if (error)
        take_back(s, at);
    else
        write_behind(s);
    s->journal.used = 1;
    return error;
}

/* --- Settling ------------------------------------------------------------------------------------------ */

int journal_settle(ft_store *s)
{
    MDB_txn *txn;
    uint64_t at;
    int error = s->journal.failed ? s->journal.failed : journal_open(s, 0);
    if (error)
        return error == ENOENT ? 0 : error;
    error = store_write_begin(s, &txn);
    if (error)
        return error;
    error = prepare(s, txn, 0, &at);
    if (!error) {
        journal_unpin(s);
        s->journal.used = 0;
    }
    mdb_txn_abort(txn);
    store_write_end(s);
    return error;
}

int journal_lengthen(ft_store *s)
{
    struct stat file;
    int error = fstat(s->journal.fd, &file) == 0 ? 0 : errno;
    if (error || file.st_size >= JOURNAL_RECORDS + JOURNAL_CAPACITY)
        return error;
    error = write_zeros(s->journal.fd);
    return error ? error : sync_file(s->journal.fd);
}

int journal_wipe(ft_store *s)
{
    journal_head none = {.has_state = 0};
    int error = journal_settle(s);
    if (error || s->journal.fd < 0)
        return error;
    error = write_head(s->journal.fd, &none);
    if (!error)
        error = write_zeros(s->journal.fd);
    if (!error)
        error = sync_file(s->journal.fd);
    if (error)
        s->journal.failed = error;
    return error;
}

void journal_close(ft_store *s)
{
    if (s->env && s->journal.used)
        (void)journal_settle(s); /* who opens the store next does what was not done */
    journal_unpin(s);
    if (s->journal.fd >= 0)
        close(s->journal.fd);
    s->journal.fd = -1;
    ft_buffer_release(&s->journal.record);
}
