/* Opening a store whose journal has records: data.mdb is put back to the state that they follow, and they are carried
 * out again. By whoever has the store's folder alone; the journal itself is explained in store_journal.c. */
#include "tracer/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the generation's whole records end; *damaged is where one is not whole, but a later one is, else 0. */
static uint64_t end_of_records(const ft_map *file, const journal_head *head, uint64_t *damaged)
{
    uint64_t end = JOURNAL_RECORDS, n;
    *damaged = 0;
    while ((n = journal_record_at(file, end, head)) != 0)
        end += journal_blocks(n);
    for (uint64_t at = end + JOURNAL_BLOCK; !*damaged && at < file->bytes; at += JOURNAL_BLOCK)
        if (journal_record_at(file, at, head))
            *damaged = end;
    return end;
}

static ft_code damaged_record(const ft_store *s, uint64_t at, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT,
                   "%s/journal: byte %" PRIu64 ": a record that was acknowledged is damaged; where the machine lost no "
                   "power since, remove the file: data.mdb has all; else restore a copy, or cut it there (truncate -s "
                   "%" PRIu64 ") to do without what follows",
                   s->folder, at, at);
}

/* *yes: the records are to be carried out on the state. A file that was cut short is what its owner wants to have of
 * it. */
static ft_code check_pair(const ft_store *s, const ft_map *data, const ft_map *file, const journal_head *head, int *yes,
                          ft_status *st)
{
    lmdb_meta state, now;
    journal_end found;
    uint64_t damaged;
    const uint64_t end = end_of_records(file, head, &damaged);
    *yes = end > JOURNAL_RECORDS;
    if (damaged)
        return damaged_record(s, damaged, st);
    memcpy(&state, head->meta + LMDB_PAGE_HEADER, sizeof(state));
    if (lmdb_newest_meta(data, &now) || now.transaction < state.transaction || lmdb_find_end(data, &state, &found) ||
        memcmp(&found, &head->state_end, sizeof(found)) != 0)
        return *yes ? ft_fail(st, FT_ERR_FORMAT,
                              "%s/journal: it belongs to another data.mdb, or to a later one; put that back, or remove "
                              "the journal and what it holds",
                              s->folder)
                    : FT_OK;
    /* What LMDB committed was in the journal before: so a journal that has less lost it since. */
    const int committed =
        lmdb_find_end(data, &now, &found) == 0 && !memcmp(found.nonce, head->nonce, sizeof(found.nonce));
    const int whole = file->bytes >= JOURNAL_RECORDS + JOURNAL_CAPACITY;
    if (committed && whole && found.at > end)
        return damaged_record(s, end, st);
    *yes |= committed && !whole;
    return FT_OK;
}

/* The state's page in both places: LMDB takes the newer. */
static ft_code put_back(const ft_store *s, const journal_head *head, ft_status *st)
{
    lmdb_meta state;
    memcpy(&state, head->meta + LMDB_PAGE_HEADER, sizeof(state));
    char *path = ft_path_join(s->folder, "data.mdb");
    if (!path)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    int error = fd < 0 ? errno : 0;
    for (uint64_t i = 0; !error && i < 2; i++) {
        unsigned char page[JOURNAL_META];
        memcpy(page, head->meta, sizeof(page));
        memcpy(page, &i, sizeof(i)); /* its number */
        error = journal_write(fd, page, sizeof(page), i * state.trees[0].page_bytes);
    }
    if (!error && fdatasync(fd) != 0)
        error = errno;
    if (fd >= 0)
        close(fd);
    free(path);
    return error ? store_fail(s, error, "recover", st) : FT_OK;
}

static ft_code map_beside(const ft_store *s, const char *name, ft_map *out, ft_status *st)
{
    char *path = ft_path_join(s->folder, name);
    const ft_code rc = path ? ft_map_open(out, path, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    free(path);
    return rc;
}

/* *found 0: there is no journal. */
static ft_code open_journal(ft_store *s, journal_head *head, int *found, ft_status *st)
{
    int block, error = journal_open(s, 0);
    *found = !error;
    if (error == ENOENT)
        return FT_OK;
    if (!error)
        error = journal_head_read(s->journal.fd, head, &block);
    if (error == MDB_CORRUPTED)
        return ft_fail(st, FT_ERR_FORMAT,
                       "%s/journal: damaged; where the machine lost no power since it was written, remove it: data.mdb "
                       "has all; else restore a copy",
                       s->folder);
    return error ? store_fail(s, error, "journal", st) : FT_OK;
}

ft_code journal_recover(ft_store *s, ft_status *st)
{
    ft_map file = {0}, data = {0};
    journal_head head;
    int found, yes = 0;
    s->journal.recovered = 0;
    ft_code rc = open_journal(s, &head, &found, st);
    if (rc || !found || !head.has_state)
        return rc;
    rc = map_beside(s, "journal", &file, st);
    if (!rc) /* where there is none, nothing is found in it */
        rc = map_beside(s, "data.mdb", &data, st);
    if (rc == FT_ERR_NOT_FOUND)
        rc = FT_OK;
    if (!rc)
        rc = check_pair(s, &data, &file, &head, &yes, st);
    ft_map_close(&data);
    ft_map_close(&file);
    if (!rc && yes)
        rc = put_back(s, &head, st);
    s->journal.recovered = !rc && yes;
    return rc;
}

/* --- Carrying out again ------------------------------------------------------------------------------------- */

typedef struct cursor {
    const unsigned char *at;
    uint64_t left;
} cursor;

static const unsigned char *take(cursor *c, uint64_t n)
{
    const unsigned char *at = c->at;
    if (n > c->left)
        return NULL;
    c->at += n;
    c->left -= n;
    return at;
}

/* A view of the file. */
static int read_op(cursor *c, store_op *out)
{
    record_op h;
    const unsigned char *p = take(c, sizeof(h));
    if (!p)
        return 0;
    memcpy(&h, p, sizeof(h));
    const unsigned char *trace = take(c, h.trace), *routing = take(c, h.routing), *row = take(c, h.summary);
    const unsigned char *text = take(c, h.text), *note = take(c, h.note);
    if (!trace || !routing || !row || !text || !note || h.kind > OP_RECEIPT || (h.note && note[h.note - 1]) ||
        (h.kind == OP_NOTE && !h.note) ||
        (h.kind == OP_RECEIPT && (!h.note || !receipt_id_is_sound((const char *)note) || h.text != FT_DIGEST_BYTES)))
        return 0;
    *out = (store_op){.kind = (store_op_kind)h.kind, .keep = h.keep, .time_ms = h.time_ms};
    out->trace = (ft_buffer){.data = (char *)(uintptr_t)trace, .size = h.trace};
    out->routing = (ft_buffer){.data = (char *)(uintptr_t)routing, .size = h.routing};
    out->summary = (ft_buffer){.data = (char *)(uintptr_t)row, .size = h.summary};
    out->text = (const char *)text;
    out->text_bytes = h.text;
    out->note = h.note ? (const char *)note : NULL;
    memcpy(out->id, h.id, sizeof(out->id));
    return h.kind == OP_LOG || h.kind == OP_NOTE || h.kind == OP_RECEIPT ||
           (memchr(out->id, '\0', sizeof(out->id)) == out->id + ID_BYTES);
}

/* All records' operations in order, as one list; `ops` has room for them. */
static int read_ops(const ft_map *file, const journal_head *head, store_op *ops, uint64_t most)
{
    uint64_t count = 0, n;
    for (uint64_t at = JOURNAL_RECORDS; (n = journal_record_at(file, at, head)) != 0; at += journal_blocks(n)) {
        record_head h;
        memcpy(&h, file->data + at, sizeof(h));
        cursor c = {file->data + at + sizeof(h), n - sizeof(h)};
        for (uint64_t i = 0; i < h.operations; i++) {
            if (count == most || !read_op(&c, &ops[count]))
                return 0;
            if (count)
                ops[count - 1].next = &ops[count];
            count++;
        }
    }
    return 1;
}

ft_code journal_replay(ft_store *s, ft_status *st)
{
    ft_map file = {0};
    journal_head head;
    int found;
    ft_code rc = open_journal(s, &head, &found, st);
    if (!rc)
        rc = map_beside(s, "journal", &file, st);
    if (rc)
        return rc;
    const uint64_t most = file.bytes / sizeof(record_op) + 1;
    store_op *ops = ft_alloc_array((size_t)most, sizeof(*ops));
    if (!ops)
        rc = ft_fail(st, FT_ERR_MEM, "%s/journal: out of memory", s->folder);
    else if (!read_ops(&file, &head, ops, most))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s/journal: a record does not hold what it says", s->folder);
    s->journal.off = 1;
    if (!rc && ops[0].time_ms)
        rc = store_write_now(s, ops, st);
    s->journal.off = 0;
    free(ops);
    ft_map_close(&file);
    int error = rc ? 0 : journal_settle(s);
    if (!rc && !error)
        error = journal_lengthen(s);
    return error ? store_fail(s, error, "recover", st) : rc;
}

int journal_state(const char *folder, lmdb_meta *out)
{
    ft_store s = {.folder = (char *)(uintptr_t)folder, .journal = {.fd = -1}};
    ft_map file = {0};
    journal_head head;
    int found, yes = 0;
    if (open_journal(&s, &head, &found, NULL) == FT_OK && found && head.has_state &&
        map_beside(&s, "journal", &file, NULL) == FT_OK)
        yes = journal_record_at(&file, JOURNAL_RECORDS, &head) != 0;
    if (yes)
        memcpy(out, head.meta + LMDB_PAGE_HEADER, sizeof(*out));
    ft_map_close(&file);
    journal_close(&s);
    return yes;
}
