/* A list of ids in order, out of the runs and the tree of keys: what has one prefix. Runs are mostly of times that
 * follow each other, so they are opened one after the other, when the list comes to where they begin; the open ones are
 * walked together, and the first of where they stand is the list's next. */
#include "tracer/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Whether a comes before b in the list's direction. */
static int before(const id_stream *t, const unsigned char *a, const unsigned char *b)
{
    const int c = memcmp(a, b, STORE_ID);
    return t->down ? c > 0 : c < 0;
}

/* --- The order of runs ------------------------------------------------------------------------------- */

static int by_first(const void *a, const void *b)
{
    return memcmp(((const run_info *)a)->head.first, ((const run_info *)b)->head.first, STORE_ID);
}

static int by_last(const void *a, const void *b)
{
    return -memcmp(((const run_info *)a)->head.last, ((const run_info *)b)->head.last, STORE_ID);
}

void runs_order(run_list *l, int down)
{
    if (l->count)
        qsort(l->runs, l->count, sizeof(*l->runs), down ? by_last : by_first);
}

/* --- In the tree ---------------------------------------------------------------------------------------- */

/* Takes the cursor's entry; MDB_NOTFOUND where it is no more of this list. */
static int take_entry(id_stream *t, const MDB_val *key)
{
    if (key->mv_size != t->prefix_bytes + STORE_ID || memcmp(key->mv_data, t->prefix, t->prefix_bytes) != 0)
        return MDB_NOTFOUND;
    memcpy(t->tree_at, (const unsigned char *)key->mv_data + t->prefix_bytes, STORE_ID);
    return 0;
}

static int tree_seek(id_stream *t, const unsigned char target[STORE_ID])
{
    unsigned char bytes[STORE_KEY];
    memcpy(bytes, t->prefix, t->prefix_bytes);
    memcpy(bytes + t->prefix_bytes, target, STORE_ID);
    MDB_val key = store_value(bytes, t->prefix_bytes + STORE_ID), value;
    t->steps++;
    int error = mdb_cursor_get(t->tree, &key, &value, MDB_SET_RANGE);
    if (t->down && (error || take_entry(t, &key) || memcmp(t->tree_at, target, STORE_ID) != 0))
        error = mdb_cursor_get(t->tree, &key, &value, error == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    return error ? error : take_entry(t, &key);
}

/* Mostly it is the next one. */
static int tree_advance(id_stream *t, const unsigned char target[STORE_ID])
{
    MDB_val key, value;
    if (t->tree_placed) {
        t->steps++;
        int error = mdb_cursor_get(t->tree, &key, &value, t->down ? MDB_PREV : MDB_NEXT);
        if (!error)
            error = take_entry(t, &key);
        if (error || !before(t, t->tree_at, target))
            return error;
    }
    const int error = tree_seek(t, target);
    t->tree_placed = !error;
    return error;
}

/* --- In a run --------------------------------------------------------------------------------------------- */

static void wanted_key(const id_stream *t, const unsigned char target[STORE_ID], store_key *out)
{
    memcpy(out->bytes, t->prefix, STORE_KEY - STORE_ID);
    memcpy(out->bytes + STORE_KEY - STORE_ID, target, STORE_ID);
}

/* The first at or beyond `wanted` of keys in order; `count` where there is none. */
static size_t lower_bound(const store_key *keys, size_t count, const store_key *wanted)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (memcmp(keys[middle].bytes, wanted->bytes, STORE_KEY) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int run_chunk_before(MDB_cursor *cursor, uint64_t number, const store_key *wanted, const store_key **keys,
                     size_t *count)
{
    unsigned char bytes[RUN_KEY];
    chain_number(number, bytes);
    memcpy(bytes + 8, wanted->bytes, STORE_KEY);
    MDB_val key = store_value(bytes, RUN_KEY), value;
    int error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (error || key.mv_size != RUN_KEY || memcmp(key.mv_data, bytes, RUN_KEY) != 0)
        error = mdb_cursor_get(cursor, &key, &value, error == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    return error ? error : run_chunk(number, &key, &value, keys, count);
}

/* The chunk behind the key at hand: all of it lies beyond `wanted`. */
static int chunk_behind(id_stream *t, run_source *r, const store_key *wanted)
{
    unsigned char bytes[RUN_KEY];
    chain_number(r->number, bytes);
    memcpy(bytes + 8, wanted->bytes, STORE_KEY);
    MDB_val key = store_value(bytes, RUN_KEY), value;
    const int error = mdb_cursor_get(t->chunks, &key, &value, MDB_SET_RANGE);
    r->at = 0;
    return error ? error : run_chunk(r->number, &key, &value, &r->keys, &r->count);
}

/* 0 where the key at hand is of this list. */
static int of_list(const id_stream *t, const run_source *r)
{
    return memcmp(r->keys[r->at].bytes, t->prefix, t->prefix_bytes) == 0 ? 0 : MDB_NOTFOUND;
}

/* In the chunk at hand, which begins at or before what is wanted. */
static int search_chunk(id_stream *t, run_source *r, const store_key *wanted)
{
    r->at = lower_bound(r->keys, r->count, wanted);
    if (!t->down && r->at == r->count)
        return chunk_behind(t, r, wanted);
    if (t->down && (r->at == r->count || memcmp(r->keys[r->at].bytes, wanted->bytes, STORE_KEY) != 0))
        return r->at-- ? 0 : MDB_NOTFOUND;
    return 0;
}

static int run_seek(id_stream *t, run_source *r, const unsigned char target[STORE_ID])
{
    store_key wanted;
    wanted_key(t, target, &wanted);
    t->steps++;
    int error = run_chunk_before(t->chunks, r->number, &wanted, &r->keys, &r->count);
    if (!error)
        error = search_chunk(t, r, &wanted);
    else if (error == MDB_NOTFOUND && !t->down)
        error = chunk_behind(t, r, &wanted);
    return error ? error : of_list(t, r);
}

static int run_advance(id_stream *t, run_source *r, const unsigned char target[STORE_ID])
{
    store_key wanted;
    if (t->down ? r->at > 0 : r->at + 1 < r->count) { /* mostly it is the next one */
        r->at = t->down ? r->at - 1 : r->at + 1;
        t->steps++;
        if (of_list(t, r))
            return MDB_NOTFOUND;
        if (!before(t, key_id(&r->keys[r->at]), target))
            return 0;
    }
    wanted_key(t, target, &wanted);
    const store_key *end = &r->keys[t->down ? 0 : r->count - 1];
    const int beyond = memcmp(end->bytes, wanted.bytes, STORE_KEY);
    if (t->down ? beyond > 0 : beyond < 0)
        return run_seek(t, r, target);
    t->steps++;
    const int error = search_chunk(t, r, &wanted);
    return error ? error : of_list(t, r);
}

/* --- All of them -------------------------------------------------------------------------------------------- */

int id_stream_open(id_stream *t, const ft_store *s, MDB_txn *txn, const run_list *runs, int down)
{
    const MDB_dbi tree = t->prefix_bytes ? s->keys : s->summaries;
    MDB_stat stat;
    t->down = down;
    t->placed = t->tree_placed = 0;
    t->runs = runs;
    t->opened = t->prefix_bytes ? 0 : runs->count;
    int error = mdb_stat(txn, tree, &stat);
    if (!error && stat.ms_entries) /* mostly no store of an earlier schema */
        error = mdb_cursor_open(txn, tree, &t->tree);
    if (!error && t->opened < runs->count) {
        t->sources = ft_alloc_array(runs->count, sizeof(*t->sources));
        error = t->sources ? mdb_cursor_open(txn, store_runs(s).keys, &t->chunks) : ENOMEM;
    }
    return error;
}

void id_stream_close(id_stream *t)
{
    if (t->tree)
        mdb_cursor_close(t->tree);
    if (t->chunks)
        mdb_cursor_close(t->chunks);
    free(t->sources);
    t->tree = t->chunks = NULL;
    t->sources = NULL;
    t->count = 0;
}

/* The furthest ahead is *best, NULL: none yet. Those that are open go on to the target; one that is at its end goes. */
static int advance_open(id_stream *t, const unsigned char target[STORE_ID], const unsigned char **best)
{
    for (size_t i = 0; i < t->count;) {
        run_source *r = &t->sources[i];
        const int error = before(t, key_id(&r->keys[r->at]), target) ? run_advance(t, r, target) : 0;
        if (error == MDB_NOTFOUND) {
            *r = t->sources[--t->count];
            continue;
        }
        if (error)
            return error;
        if (!*best || before(t, key_id(&r->keys[r->at]), *best))
            *best = key_id(&r->keys[r->at]);
        i++;
    }
    if (!t->tree)
        return 0;
    int error = t->tree_placed && !before(t, t->tree_at, target) ? 0 : tree_advance(t, target);
    if (error == MDB_NOTFOUND) {
        mdb_cursor_close(t->tree);
        t->tree = NULL;
        error = 0;
    } else if (!error && (!*best || before(t, t->tree_at, *best))) {
        *best = t->tree_at;
    }
    return error;
}

/* Those that begin before what was found. */
static int open_more(id_stream *t, const unsigned char target[STORE_ID], const unsigned char **best)
{
    for (; t->opened < t->runs->count; t->opened++) {
        const run_info *info = &t->runs->runs[t->opened];
        run_source r = {.number = info->number};
        if (*best && !before(t, t->down ? info->head.last : info->head.first, *best))
            return 0;
        if (before(t, t->down ? info->head.first : info->head.last, target))
            continue; /* ends before the target */
        const int error = run_seek(t, &r, target);
        if (error == MDB_NOTFOUND)
            continue;
        if (error)
            return error;
        t->sources[t->count++] = r;
        if (!*best || before(t, key_id(&r.keys[r.at]), *best))
            *best = key_id(&r.keys[r.at]);
    }
    return 0;
}

int id_stream_advance(id_stream *t, const unsigned char target[STORE_ID])
{
    const unsigned char *best = NULL;
    if (t->placed && !before(t, t->at, target))
        return 0;
    int error = advance_open(t, target, &best);
    if (!error)
        error = open_more(t, target, &best);
    if (!error && !best)
        error = MDB_NOTFOUND;
    t->placed = !error;
    if (!error)
        memcpy(t->at, best, STORE_ID);
    return error;
}

/* --- One key ----------------------------------------------------------------------------------------------------- */

int run_has(MDB_cursor *cursor, uint64_t number, const store_key *key)
{
    const store_key *keys;
    size_t count, at;
    const int error = run_chunk_before(cursor, number, key, &keys, &count);
    if (error)
        return error;
    at = lower_bound(keys, count, key);
    return at < count && memcmp(keys[at].bytes, key->bytes, STORE_KEY) == 0 ? 0 : MDB_NOTFOUND;
}
