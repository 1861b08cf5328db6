/* Keys as sorted runs. A trace has some sixty keys, each in another list; in one tree every one of them lies on another
 * page, so that a few traces would have hundreds of pages written and synced. So a transaction's keys are sorted and
 * written together, as one run, on few pages one after the other. When many small runs have come together they are
 * merged into one larger run, and those into larger ones, up to a size from which on a run stays: each key is written
 * some three times in all, in order, and a question looks into few runs (store_stream.c).
 *
 * What a run says of a trace that was removed or replaced since stays in it: whoever reads it looks into the trace's
 * summary anyway. It goes with the run when all its traces are gone, when half of them are, and with a compaction.
 * Source  O'Neil et al., "The log-structured merge-tree", Acta Informatica 33, 1996; runs of like size are merged. */
#include "tracer/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FAN_IN = 16,        /* so many runs of a class are merged */
    SMALL_RUN = 4096,   /* keys: below it the first class … */
    MIDDLE_RUN = 65536, /* … below it the second; others stay as they are */
    RUN_CLASSES = 2,
    CHUNK_KEYS = 2519 /* 16 pages */
};
_Static_assert(sizeof(store_key) == STORE_KEY && sizeof(run_head) == 40, "as docs/store.md draws it");
_Static_assert(sizeof(store_key) * CHUNK_KEYS + 16 <= 65536, "a chunk fills its pages");

/* --- Keys at hand ---------------------------------------------------------------------------------- */

static int has_room(key_batch *b, size_t more)
{
    return ft_array_grow((void **)&b->keys, &b->capacity, b->count + more, sizeof(*b->keys), NULL) == FT_OK;
}

int batch_add(key_batch *b, const unsigned char key[STORE_KEY])
{
    if (!has_room(b, 1))
        return ENOMEM;
    memcpy(b->keys[b->count++].bytes, key, STORE_KEY);
    return 0;
}

void batch_release(key_batch *b)
{
    free(b->keys);
    *b = (key_batch){0};
}

static int key_order(const store_key *a, const store_key *b)
{
    return memcmp(a->bytes, b->bytes, STORE_KEY);
}

static size_t end_of_ascent(const store_key *k, size_t at, size_t n)
{
    for (at++; at < n && key_order(&k[at - 1], &k[at]) <= 0; at++) {
    }
    return at < n ? at : n;
}

static void merge_two(store_key *out, const store_key *a, size_t n, const store_key *b, size_t m)
{
    while (n && m)
        if (key_order(a, b) <= 0) {
            *out++ = *a++;
            n--;
        } else {
            *out++ = *b++;
            m--;
        }
    if (n)
        memcpy(out, a, n * sizeof(*out));
    else if (m)
        memcpy(out, b, m * sizeof(*out));
}

/* In order, each once. Natural merge sort: what ascends already, such as a trace's documents or a whole run, is taken
 * as it is. */
static int batch_sort(key_batch *b)
{
    store_key *to = b->count ? malloc(b->count * sizeof(*to)) : NULL;
    if (!to)
        return b->count ? ENOMEM : 0;
    for (size_t ascents = 2; ascents > 1;) {
        ascents = 0;
        for (size_t at = 0; at < b->count; ascents++) {
            const size_t middle = end_of_ascent(b->keys, at, b->count);
            const size_t end = middle < b->count ? end_of_ascent(b->keys, middle, b->count) : middle;
            merge_two(to + at, b->keys + at, middle - at, b->keys + middle, end - middle);
            at = end;
        }
        store_key *turned = b->keys; /* the two change places; either has room for all */
        b->keys = to;
        to = turned;
    }
    free(to);
    b->capacity = b->count;
    size_t n = 1;
    for (size_t i = 1; i < b->count; i++)
        if (key_order(&b->keys[n - 1], &b->keys[i]) != 0)
            b->keys[n++] = b->keys[i];
    b->count = n;
    return 0;
}

/* --- Runs as they lie in the file -------------------------------------------------------------------- */

int runs_read(MDB_txn *txn, run_place place, run_list *out)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    *out = (run_list){0};
    int error = mdb_cursor_open(txn, place.runs, &cursor);
    if (!error)
        error = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !error; error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (key.mv_size != 8 || value.mv_size != sizeof(run_head))
            error = MDB_CORRUPTED;
        else if (ft_array_grow((void **)&out->runs, &out->capacity, out->count + 1, sizeof(*out->runs), NULL))
            error = ENOMEM;
        if (error)
            break;
        run_info *r = &out->runs[out->count++];
        r->number = chain_number_of(&key);
        memcpy(&r->head, value.mv_data, sizeof(r->head));
    }
    if (cursor)
        mdb_cursor_close(cursor);
    if (error == MDB_NOTFOUND)
        return 0;
    runs_release(out);
    return error;
}

void runs_release(run_list *l)
{
    free(l->runs);
    *l = (run_list){0};
}

int run_chunk(uint64_t number, const MDB_val *key, const MDB_val *value, const store_key **keys, size_t *count)
{
    const MDB_val of = {8, key->mv_data};
    if (key->mv_size != RUN_KEY || !value->mv_size || value->mv_size % STORE_KEY)
        return MDB_CORRUPTED;
    if (chain_number_of(&of) != number)
        return MDB_NOTFOUND;
    *keys = value->mv_data;
    *count = value->mv_size / STORE_KEY;
    return 0;
}

/* Calls `each` for every chunk of a run, until it returns other than 0. */
typedef int chunk_visit(void *context, const store_key *keys, size_t count);
static int visit_chunks(MDB_txn *txn, run_place place, uint64_t number, chunk_visit *each, void *context)
{
    unsigned char from[8];
    MDB_cursor *cursor = NULL;
    chain_number(number, from);
    MDB_val key = store_value(from, sizeof(from)), value;
    int error = mdb_cursor_open(txn, place.keys, &cursor);
    if (!error)
        error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; !error; error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        const store_key *keys;
        size_t count;
        error = run_chunk(number, &key, &value, &keys, &count);
        if (!error)
            error = each(context, keys, count);
        if (error)
            break;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

static int copy_chunk(void *context, const store_key *keys, size_t count)
{
    key_batch *b = context;
    if (!has_room(b, count))
        return ENOMEM;
    memcpy(b->keys + b->count, keys, count * sizeof(*keys));
    b->count += count;
    return 0;
}

static int delete_run(MDB_txn *txn, run_place place, uint64_t number)
{
    unsigned char bytes[8];
    MDB_cursor *cursor = NULL;
    chain_number(number, bytes);
    MDB_val name = store_value(bytes, sizeof(bytes)), key, value;
    int error = mdb_del(txn, place.runs, &name, NULL);
    if (!error)
        error = mdb_cursor_open(txn, place.keys, &cursor);
    while (!error) {
        key = name;
        error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (!error && (key.mv_size < sizeof(bytes) || memcmp(key.mv_data, bytes, sizeof(bytes)) != 0))
            error = MDB_NOTFOUND;
        if (!error)
            error = mdb_cursor_del(cursor, 0);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

static int last_number(MDB_txn *txn, run_place place, uint64_t *out)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int error = mdb_cursor_open(txn, place.runs, &cursor);
    if (!error)
        error = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    *out = error ? 0 : chain_number_of(&key);
    if (cursor)
        mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

/* A number above all others, so that both databases grow at their end. */
int run_write(MDB_txn *txn, run_place place, key_batch *b)
{
    unsigned char bytes[RUN_KEY];
    uint64_t number;
    run_head head = {0};
    int error = batch_sort(b);
    if (!error)
        error = last_number(txn, place, &number);
    if (error || !b->count)
        return error;
    chain_number(number + 1, bytes);
    head.keys = b->count;
    memset(head.first, 0xff, STORE_ID);
    for (size_t i = 0; i < b->count; i++) {
        const unsigned char *id = key_id(&b->keys[i]);
        if (memcmp(id, head.first, STORE_ID) < 0)
            memcpy(head.first, id, STORE_ID);
        if (memcmp(id, head.last, STORE_ID) > 0)
            memcpy(head.last, id, STORE_ID);
    }
    for (size_t at = 0; !error && at < b->count; at += CHUNK_KEYS) {
        const size_t n = b->count - at < CHUNK_KEYS ? b->count - at : CHUNK_KEYS;
        memcpy(bytes + 8, b->keys[at].bytes, STORE_KEY);
        MDB_val key = store_value(bytes, RUN_KEY), value = store_value(b->keys + at, n * STORE_KEY);
        error = mdb_put(txn, place.keys, &key, &value, MDB_APPEND);
    }
    MDB_val key = store_value(bytes, 8), value = store_value(&head, sizeof(head));
    if (!error)
        error = mdb_put(txn, place.runs, &key, &value, MDB_APPEND);
    return error == MDB_KEYEXIST ? MDB_CORRUPTED : error; /* keys of a run that has no head */
}

/* --- Fewer and larger ones ---------------------------------------------------------------------------- */

static int class_of(const run_info *r)
{
    return r->head.keys < SMALL_RUN ? 0 : r->head.keys < MIDDLE_RUN ? 1 : RUN_CLASSES;
}

static int merge_class(MDB_txn *txn, run_place place, const run_list *l, int rank)
{
    key_batch all = {0};
    int error = 0;
    for (size_t i = 0; !error && i < l->count; i++)
        if (class_of(&l->runs[i]) == rank)
            error = visit_chunks(txn, place, l->runs[i].number, copy_chunk, &all);
    if (!error)
        error = run_write(txn, place, &all);
    for (size_t i = 0; !error && i < l->count; i++)
        if (class_of(&l->runs[i]) == rank)
            error = delete_run(txn, place, l->runs[i].number);
    batch_release(&all);
    return error;
}

/* One class at most: what one transaction has to do has a ceiling. */
static int merge_some(MDB_txn *txn, run_place place)
{
    run_list l;
    int error = runs_read(txn, place, &l), done = 0;
    for (int rank = RUN_CLASSES - 1; !error && !done && rank >= 0; rank--) {
        size_t n = 0;
        for (size_t i = 0; i < l.count; i++)
            n += class_of(&l.runs[i]) == rank;
        done = n >= FAN_IN;
        if (done)
            error = merge_class(txn, place, &l, rank);
    }
    runs_release(&l);
    return error;
}

/* --- Without what was removed --------------------------------------------------------------------------- */

typedef struct trim {
    const unsigned char *oldest;
    uint64_t stale;
} trim;

static int count_stale(void *context, const store_key *keys, size_t count)
{
    trim *t = context;
    for (size_t i = 0; i < count; i++)
        t->stale += memcmp(key_id(&keys[i]), t->oldest, STORE_ID) < 0;
    return 0;
}

/* Leaves out what is of traces before the oldest. */
static int rewrite_run(MDB_txn *txn, run_place place, uint64_t number, const unsigned char oldest[STORE_ID])
{
    key_batch b = {0};
    size_t n = 0;
    int error = visit_chunks(txn, place, number, copy_chunk, &b);
    for (size_t i = 0; !error && i < b.count; i++)
        if (memcmp(key_id(&b.keys[i]), oldest, STORE_ID) >= 0)
            b.keys[n++] = b.keys[i];
    b.count = n;
    if (!error)
        error = run_write(txn, place, &b);
    if (!error)
        error = delete_run(txn, place, number);
    batch_release(&b);
    return error;
}

int oldest_trace(const ft_store *s, MDB_txn *txn, unsigned char out[STORE_ID])
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    memset(out, 0xff, STORE_ID);
    int error = mdb_cursor_open(txn, s->summaries, &cursor);
    if (!error)
        error = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    if (!error && key.mv_size == STORE_ID)
        memcpy(out, key.mv_data, STORE_ID);
    if (cursor)
        mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

/* Mostly the oldest traces go first, a whole run after the other. */
static int trim_runs(const ft_store *s, MDB_txn *txn)
{
    unsigned char oldest[STORE_ID];
    run_list l;
    const run_place place = store_runs(s);
    int error = runs_read(txn, place, &l);
    if (!error)
        error = oldest_trace(s, txn, oldest);
    for (size_t i = 0; !error && i < l.count; i++) {
        const run_info *r = &l.runs[i];
        trim t = {oldest, 0};
        if (memcmp(r->head.first, oldest, STORE_ID) >= 0)
            continue;
        if (memcmp(r->head.last, oldest, STORE_ID) < 0)
            t.stale = r->head.keys;
        else
            error = visit_chunks(txn, place, r->number, count_stale, &t);
        if (!error && t.stale >= r->head.keys)
            error = delete_run(txn, place, r->number);
        else if (!error && t.stale >= r->head.keys - r->head.keys / 2)
            error = rewrite_run(txn, place, r->number, oldest);
    }
    runs_release(&l);
    return error;
}

int runs_commit(ft_store *s, MDB_txn *txn)
{
    key_batch *b = &s->batch;
    int error = b->removed ? trim_runs(s, txn) : 0;
    if (!error && b->count)
        error = merge_some(txn, store_runs(s));
    return error || !b->count ? error : run_write(txn, store_runs(s), b);
}
