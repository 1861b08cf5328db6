/* The check of a store: both chains, every trace against the ledger, every key against its trace, the tree of receipts.
 */
#include "base/ft_buffer.h"
#include "tracer/store_internal.h"
#include "tracer/tracer_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PROBLEMS = 100 };

typedef struct known_trace {
    unsigned char id[STORE_ID];
    uint64_t number; /* of its last line in the ledger */
    ft_digest digest;
    uint64_t kind;
} known_trace;

typedef struct verifier {
    ft_store *s;
    MDB_txn *txn;
    const ft_store_heads *known;
    ft_store_heads heads;
    json_t *problems;
    uint64_t problem_count, traces, keys;
    known_trace *ledger;
    size_t ledger_count, ledger_capacity;
    run_list runs;
    MDB_cursor *chunks;
} verifier;

static void problem(verifier *v, const char *fmt, ...) FT_PRINTF(2, 3);
static void problem(verifier *v, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (v->problem_count++ < MOST_PROBLEMS)
        (void)json_array_append_new(v->problems, ft_json_text(text, strlen(text)));
}

/* --- The chains ---------------------------------------------------------------------------------------- */

/* A chain's walk so far. */
typedef struct walk {
    const char *name;
    uint64_t count;
    ft_digest last;
} walk;

static void check_number(verifier *v, walk *w, uint64_t number)
{
    if (number == w->count + 2)
        problem(v, "%s: line %" PRIu64 " is missing", w->name, w->count + 1);
    else if (number != w->count + 1)
        problem(v, "%s: lines %" PRIu64 " to %" PRIu64 " are missing", w->name, w->count + 1, number - 1);
    w->count = number;
}

static void check_kept(verifier *v, const walk *w, uint64_t count, const ft_digest *hash)
{
    if (count && w->count == count && memcmp(&w->last, hash, sizeof(*hash)) != 0)
        problem(v, "%s: line %" PRIu64 " or one before it is not what it was when its hash was kept elsewhere", w->name,
                count);
}

static void check_end(verifier *v, const walk *w, uint64_t count, const ft_digest *hash, uint64_t kept)
{
    if (w->count < count)
        problem(v, "%s: its end was cut off: %" PRIu64 " of %" PRIu64 " lines are there", w->name, w->count, count);
    else if (w->count > count)
        problem(v, "%s: %" PRIu64 " lines stand behind its end", w->name, w->count - count);
    else if (count && memcmp(&w->last, hash, sizeof(*hash)) != 0)
        problem(v, "%s: the last line, %" PRIu64 ", was altered", w->name, count);
    if (kept > w->count)
        problem(v, "%s: it had %" PRIu64 " lines when its head was kept elsewhere, and has %" PRIu64, w->name, kept,
                w->count);
}

static int previous_is(const json_t *line, const ft_digest *want)
{
    char hex[FT_DIGEST_HEX];
    const char *previous = json_string_value(json_object_get(line, "prev"));
    ft_digest_hex(want, hex);
    return previous && !strcmp(previous, hex);
}

static void check_log_line(verifier *v, walk *w, uint64_t number, MDB_val value)
{
    json_t *line = NULL;
    const int follows = number == w->count + 1;
    check_number(v, w, number);
    if (ft_json_parse(&line, value.mv_data, value.mv_size, "log", NULL) != FT_OK || !json_is_object(line))
        problem(v, "log: line %" PRIu64 " is no JSON object any more", number);
    else if ((uint64_t)json_integer_value(json_object_get(line, "seq")) != number)
        problem(v, "log: line %" PRIu64 " bears another number", number);
    else if (follows && !previous_is(line, &w->last))
        problem(v, "log: line %" PRIu64 " does not hold the hash of line %" PRIu64 ": one of the two was altered",
                number, number - 1);
    json_decref(line);
    w->last = ft_digest_of(value.mv_data, value.mv_size);
}

static ft_code check_ledger_line(verifier *v, walk *w, uint64_t number, MDB_val value, ft_status *st)
{
    ledger_line line;
    const int follows = number == w->count + 1;
    check_number(v, w, number);
    const ft_digest before = w->last;
    w->last = chain_hash(value.mv_data, value.mv_size);
    if (value.mv_size != sizeof(line)) {
        problem(v, "ledger: line %" PRIu64 " has another length", number);
        return FT_OK;
    }
    memcpy(&line, value.mv_data, sizeof(line));
    if (follows && memcmp(line.previous, before.bytes, sizeof(line.previous)) != 0)
        problem(v, "ledger: line %" PRIu64 " does not hold the hash of line %" PRIu64 ": one of the two was altered",
                number, number - 1);
    const ft_code rc =
        ft_array_grow((void **)&v->ledger, &v->ledger_capacity, v->ledger_count + 1, sizeof(*v->ledger), st);
    if (rc)
        return rc;
    known_trace *k = &v->ledger[v->ledger_count++];
    *k = (known_trace){.number = number, .kind = line.kind};
    memcpy(k->id, line.id, STORE_ID);
    memcpy(k->digest.bytes, line.digest, sizeof(line.digest));
    return FT_OK;
}

static ft_code check_chain(verifier *v, MDB_dbi database, walk *w, ft_status *st)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    const int is_log = database == v->s->log;
    const uint64_t kept = !v->known ? 0 : is_log ? v->known->log_count : v->known->ledger_count;
    const ft_digest *kept_hash = !v->known ? NULL : is_log ? &v->known->log : &v->known->ledger;
    ft_code rc = FT_OK;
    int error = mdb_cursor_open(v->txn, database, &cursor);
    for (error = error ? error : mdb_cursor_get(cursor, &key, &value, MDB_FIRST); !error && !rc;
         error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (is_log)
            check_log_line(v, w, chain_number_of(&key), value);
        else
            rc = check_ledger_line(v, w, chain_number_of(&key), value, st);
        check_kept(v, w, kept, kept_hash);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    check_end(v, w, is_log ? v->heads.log_count : v->heads.ledger_count, is_log ? &v->heads.log : &v->heads.ledger,
              kept);
    return !rc && error != MDB_NOTFOUND ? store_fail(v->s, error, "verify", st) : rc;
}

/* --- The traces ------------------------------------------------------------------------------------------ */

static int by_id_and_number(const void *a, const void *b)
{
    const known_trace *x = a, *y = b;
    const int c = memcmp(x->id, y->id, STORE_ID);
    return c ? c : (x->number > y->number) - (x->number < y->number);
}

/* The last line of each id. */
static void keep_last_lines(verifier *v)
{
    size_t n = 0;
    if (v->ledger_count)
        qsort(v->ledger, v->ledger_count, sizeof(*v->ledger), by_id_and_number);
    for (size_t i = 0; i < v->ledger_count; i++)
        if (i + 1 == v->ledger_count || memcmp(v->ledger[i].id, v->ledger[i + 1].id, STORE_ID) != 0)
            v->ledger[n++] = v->ledger[i];
    v->ledger_count = n;
}

typedef struct key_check {
    verifier *v;
    const unsigned char *id;
    uint64_t missing, found; /* found: in the tree of schema 2 */
} key_check;

static int look_for_key(void *context, const unsigned char bytes[STORE_KEY])
{
    key_check *c = context;
    store_key wanted;
    MDB_val key = store_value(bytes, STORE_KEY), value;
    memcpy(wanted.bytes, bytes, STORE_KEY);
    int error = mdb_get(c->v->txn, c->v->s->keys, &key, &value);
    c->found += error == 0;
    for (size_t i = 0; error == MDB_NOTFOUND && i < c->v->runs.count; i++) {
        const run_info *r = &c->v->runs.runs[i];
        if (memcmp(r->head.first, c->id, STORE_ID) <= 0 && memcmp(r->head.last, c->id, STORE_ID) >= 0)
            error = run_has(c->v->chunks, r->number, &wanted);
    }
    c->missing += error == MDB_NOTFOUND;
    return error == MDB_NOTFOUND ? 0 : error;
}

/* All keys of the summary are there. */
static ft_code check_keys(verifier *v, const known_trace *k, const char *id, MDB_val value, ft_status *st)
{
    summary m = {0};
    key_check c = {v, k->id, 0, 0};
    ft_status why = {0};
    const ft_code rc = summary_read(&m, value.mv_data, value.mv_size, id, &why);
    if (rc == FT_ERR_MEM)
        return ft_fail(st, rc, "%s", why.msg);
    if (rc) {
        problem(v, "%s", why.msg);
        return FT_OK;
    }
    const int error = summary_keys(&m, k->id, look_for_key, &c);
    summary_release(&m);
    if (c.missing)
        problem(v, "trace %s: %" PRIu64 " of its keys are missing", id, c.missing);
    v->keys += c.found;
    return error ? store_fail(v->s, error, "verify", st) : FT_OK;
}

static int get_or_nothing(MDB_txn *txn, MDB_dbi database, MDB_val *key, MDB_val *value)
{
    const int error = mdb_get(txn, database, key, value);
    if (error == MDB_NOTFOUND)
        *value = store_value("", 0);
    return error == MDB_NOTFOUND ? 0 : error;
}

static ft_code check_trace(verifier *v, const known_trace *k, ft_status *st)
{
    char id[FT_TRACE_ID];
    store_id_unpack(k->id, id);
    MDB_val key = store_value(id, ID_BYTES), trace, routing, row;
    int error = mdb_get(v->txn, v->s->traces, &key, &trace);
    if (k->kind == LEDGER_REMOVED) {
        if (!error)
            problem(v, "trace %s is there, but the ledger says that it was removed", id);
        return error && error != MDB_NOTFOUND ? store_fail(v->s, error, "verify", st) : FT_OK;
    }
    if (error == MDB_NOTFOUND) {
        problem(v, "trace %s is gone, and no line of the ledger says why", id);
        return FT_OK;
    }
    MDB_val packed = store_value(k->id, STORE_ID);
    if (!error)
        error = get_or_nothing(v->txn, v->s->routing, &key, &routing);
    if (!error)
        error = get_or_nothing(v->txn, v->s->summaries, &packed, &row);
    if (error)
        return store_fail(v->s, error, "verify", st);
    v->traces++;
    const ft_digest now = trace_digest(trace, routing, row);
    if (memcmp(&now, &k->digest, sizeof(now)) != 0) {
        problem(v, "trace %s was altered: its bytes are not those of line %" PRIu64 " of the ledger", id, k->number);
        return FT_OK;
    }
    return check_keys(v, k, id, row, st);
}

static ft_code check_traces(verifier *v, ft_status *st)
{
    MDB_stat traces, summaries, keys;
    ft_code rc = FT_OK;
    keep_last_lines(v);
    for (size_t i = 0; !rc && i < v->ledger_count; i++)
        rc = check_trace(v, &v->ledger[i], st);
    if (rc)
        return rc;
    int error = mdb_stat(v->txn, v->s->traces, &traces);
    if (!error)
        error = mdb_stat(v->txn, v->s->summaries, &summaries);
    if (!error)
        error = mdb_stat(v->txn, v->s->keys, &keys);
    if (error)
        return store_fail(v->s, error, "verify", st);
    if (traces.ms_entries > v->traces)
        problem(v, "%" PRIu64 " traces are in no line of the ledger", (uint64_t)traces.ms_entries - v->traces);
    if (summaries.ms_entries > v->traces)
        problem(v, "%" PRIu64 " summaries belong to no trace", (uint64_t)summaries.ms_entries - v->traces);
    if (keys.ms_entries > v->keys && !v->problem_count)
        problem(v, "%" PRIu64 " keys belong to no trace", (uint64_t)keys.ms_entries - v->keys);
    return FT_OK;
}

/* --- The runs of keys --------------------------------------------------------------------------------------- */

typedef struct run_walk {
    verifier *v;
    const run_info *run;
    store_key last;
    uint64_t keys;
    int faulty;
} run_walk;

static void check_chunk(run_walk *w, const store_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const unsigned char *id = key_id(&keys[i]);
        w->faulty |= w->keys++ && memcmp(w->last.bytes, keys[i].bytes, STORE_KEY) >= 0;
        w->faulty |= memcmp(id, w->run->head.first, STORE_ID) < 0 || memcmp(id, w->run->head.last, STORE_ID) > 0;
        w->last = keys[i];
    }
}

static void end_run(run_walk *w)
{
    if (w->run && (w->faulty || w->keys != w->run->head.keys))
        problem(w->v, "keys, run %" PRIu64 ": they are not in order, or not as many as there were", w->run->number);
}

/* Of a trace that was removed or replaced since a run may have keys; of one that is there it has all (check_keys). */
static ft_code check_runs(verifier *v, ft_status *st)
{
    MDB_val key, value;
    run_walk w = {.v = v};
    size_t met = 0, next = 0;
    int error = runs_read(v->txn, store_runs(v->s), &v->runs);
    if (!error)
        error = mdb_cursor_open(v->txn, store_runs(v->s).keys, &v->chunks);
    for (error = error ? error : mdb_cursor_get(v->chunks, &key, &value, MDB_FIRST); !error;
         error = mdb_cursor_get(v->chunks, &key, &value, MDB_NEXT)) {
        const store_key *keys;
        size_t count;
        const MDB_val number = {8, key.mv_data};
        if (key.mv_size != RUN_KEY || run_chunk(chain_number_of(&number), &key, &value, &keys, &count) ||
            memcmp((const unsigned char *)key.mv_data + 8, keys->bytes, STORE_KEY) != 0) {
            problem(v, "keys: an entry of a run is damaged");
            continue;
        }
        if (!w.run || w.run->number != chain_number_of(&number)) {
            end_run(&w);
            w = (run_walk){.v = v};
            while (next < v->runs.count && v->runs.runs[next].number < chain_number_of(&number))
                next++;
            if (next == v->runs.count || v->runs.runs[next].number != chain_number_of(&number)) {
                problem(v, "keys: some belong to no run");
                continue;
            }
            w.run = &v->runs.runs[next];
            met++;
        }
        check_chunk(&w, keys, count);
    }
    end_run(&w);
    if (error == MDB_NOTFOUND && met != v->runs.count)
        problem(v, "keys: %zu of %zu runs are there", met, v->runs.count);
    return error == MDB_NOTFOUND ? FT_OK : store_fail(v->s, error, "verify", st);
}

/* --- The log of receipts -------------------------------------------------------------------------------------- */

/* The tree as it is read: a leaf, then the nodes that it completes. */
typedef struct tree_walk {
    verifier *v;
    uint64_t nodes, leaves;           /* read so far; leaves: whole ones, with what they complete */
    unsigned level;                   /* of the node that comes next */
    ft_digest last;                   /* the node before it */
    ft_digest left[FT_MERKLE_LEVELS]; /* nodes that wait for their other half */
    int cut;
} tree_walk;

/* Of what was read. */
static ft_digest root_so_far(const tree_walk *w)
{
    ft_digest root = ft_digest_of("", 0);
    int any = 0;
    for (unsigned level = 0; w->leaves >> level; level++)
        if (w->leaves >> level & 1) {
            root = any ? ft_merkle_node(&w->left[level], &root) : w->left[level];
            any = 1;
        }
    return root;
}

static void check_kept_tree(const tree_walk *w)
{
    const ft_tree_head *kept = w->v->known ? &w->v->known->receipts : NULL;
    if (!kept || !kept->size || kept->size != w->leaves)
        return;
    const ft_digest now = root_so_far(w);
    if (memcmp(&now, &kept->root, sizeof(now)) != 0)
        problem(w->v,
                "receipts: the first %" PRIu64 " leaves are not what they were when their root was kept elsewhere",
                kept->size);
}

/* Each is compared with what stands there, not with what should: so a fault is told where it is, and once. */
static void check_node(tree_walk *w, const ft_digest *node)
{
    if (w->level) {
        const ft_digest want = ft_merkle_node(&w->left[w->level - 1], &w->last);
        const uint64_t end = w->leaves + 1, from = end - (UINT64_C(1) << w->level);
        if (memcmp(&want, node, sizeof(want)) != 0)
            problem(w->v,
                    "receipts: leaves %" PRIu64 " to %" PRIu64
                    ": the hash over them is not that of its two halves: one "
                    "of the three was altered",
                    from, end - 1);
    }
    w->last = *node;
    w->nodes++;
    if (w->leaves >> w->level & 1) {
        w->level++;
        return;
    }
    w->left[w->level] = *node;
    w->level = 0;
    w->leaves++;
    check_kept_tree(w);
}

static void check_tree_end(tree_walk *w)
{
    const ft_tree_head *head = &w->v->heads.receipts, *kept = w->v->known ? &w->v->known->receipts : NULL;
    const ft_digest root = root_so_far(w);
    if (w->cut)
        problem(w->v,
                "receipts: the tree can be read up to leaf %" PRIu64 " of %" PRIu64 ": a node is missing or damaged",
                w->leaves, head->size);
    else if (w->level || w->leaves < head->size)
        problem(w->v, "receipts: the end was cut off: %" PRIu64 " of %" PRIu64 " leaves are there", w->leaves,
                head->size);
    else if (w->leaves > head->size)
        problem(w->v, "receipts: %" PRIu64 " leaves stand behind the end", w->leaves - head->size);
    else if (memcmp(&root, &head->root, sizeof(root)) != 0)
        problem(w->v, "receipts: the root of %" PRIu64 " leaves is another one: the last, or the root, was altered",
                head->size);
    if (kept && kept->size > w->leaves)
        problem(w->v, "receipts: there were %" PRIu64 " leaves when their root was kept elsewhere, and are %" PRIu64,
                kept->size, w->leaves);
}

static ft_code check_tree(verifier *v, uint64_t *leaves, ft_status *st)
{
    tree_walk w = {.v = v};
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int error = mdb_cursor_open(v->txn, v->s->receipts, &cursor);
    for (error = error ? error : mdb_cursor_get(cursor, &key, &value, MDB_FIRST); !error && !w.cut;
         error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        ft_digest node;
        w.cut = key.mv_size != 8 || chain_number_of(&key) != w.nodes || value.mv_size != sizeof(node.bytes);
        if (w.cut)
            break;
        memcpy(node.bytes, value.mv_data, sizeof(node.bytes));
        check_node(&w, &node);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    check_tree_end(&w);
    *leaves = w.leaves;
    return error && error != MDB_NOTFOUND ? store_fail(v->s, error, "verify", st) : FT_OK;
}

/* Each leaf belongs to one receipt, which has its hash too. */
static ft_code check_receipts(verifier *v, ft_status *st)
{
    uint64_t leaves, met = 0;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    const ft_code rc = check_tree(v, &leaves, st);
    if (rc)
        return rc;
    int error = mdb_cursor_open(v->txn, v->s->receipt_ids, &cursor);
    for (error = error ? error : mdb_cursor_get(cursor, &key, &value, MDB_FIRST); !error;
         error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        ft_digest node;
        if (key.mv_size != RECEIPT_KEY || value.mv_size != sizeof(node.bytes)) {
            problem(v, "receipts: the entry of an id is damaged");
            continue;
        }
        const MDB_val number = {8, (unsigned char *)key.mv_data + ID_BYTES};
        const uint64_t leaf = chain_number_of(&number);
        met++;
        if (leaf >= leaves || receipts_node(v->s, v->txn, 0, leaf, &node) ||
            memcmp(node.bytes, value.mv_data, sizeof(node.bytes)) != 0)
            problem(v, "receipts: leaf %" PRIu64 " is not that of %.*s", leaf, (int)ID_BYTES,
                    (const char *)key.mv_data);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    if (met != leaves)
        problem(v, "receipts: %" PRIu64 " leaves, and ids for %" PRIu64, leaves, met);
    return error == MDB_NOTFOUND ? FT_OK : store_fail(v->s, error, "verify", st);
}

/* --- Everything ---------------------------------------------------------------------------------------------- */

static json_t *tree_json(const ft_tree_head *tree)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(&tree->root, hex);
    return json_pack("{s:I,s:s}", "leaves", (json_int_t)tree->size, "root", hex);
}

static json_t *chain_json(uint64_t count, const ft_digest *last)
{
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(last, hex);
    return json_pack("{s:I,s:s}", "lines", (json_int_t)count, "head", hex);
}

ft_code ft_store_verify(ft_store *s, const ft_store_heads *known, json_t **report, ft_status *st)
{
    verifier v = {.s = s, .known = known, .problems = json_array()};
    walk log = {.name = "log"}, ledger = {.name = "ledger"};
    *report = NULL;
    ft_code rc = v.problems ? store_read_begin(s, &v.txn, "verify", st) : ft_fail(st, FT_ERR_MEM, "out of memory");
    if (!rc) {
        const int error = chain_heads(s, v.txn, &v.heads);
        if (error == MDB_CORRUPTED)
            problem(&v, "the heads of log, ledger or receipts are damaged");
        else if (error)
            rc = store_fail(s, error, "verify", st);
    }
    if (!rc)
        rc = check_chain(&v, s->log, &log, st);
    if (!rc)
        rc = check_chain(&v, s->ledger, &ledger, st);
    if (!rc)
        rc = check_runs(&v, st);
    if (!rc)
        rc = check_traces(&v, st);
    if (!rc)
        rc = check_receipts(&v, st);
    if (v.chunks)
        mdb_cursor_close(v.chunks);
    runs_release(&v.runs);
    store_read_end(s, v.txn);
    if (!rc) {
        *report = json_pack("{s:s,s:b,s:I,s:I,s:o,s:o,s:o,s:O}", "store", s->folder, "good", v.problem_count == 0,
                            "traces", (json_int_t)v.traces, "problem_count", (json_int_t)v.problem_count, "log",
                            chain_json(log.count, &log.last), "ledger", chain_json(ledger.count, &ledger.last),
                            "receipts", tree_json(&v.heads.receipts), "problems", v.problems);
        if (!*report)
            rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    }
    json_decref(v.problems);
    free(v.ledger);
    return rc;
}
