/* What tracer/ft_store.h promises of the log of receipts: a Merkle tree that lasts, of which nothing is taken out and
 * in which nothing is altered unseen. */
#include "tests/store_fixture.h"
#include "tracer/store_internal.h"

#include "base/ft_file.h"

#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static ft_random chance;

/* The n-th envelope and the id of its receipt; every fifth has the id of the one before. */
static void envelope_of(unsigned n, char text[40], char id[FT_TRACE_ID])
{
    fixture_id(id, 7000000, n % 5 == 4 ? n - 1 : n);
    memcpy(id, n % 7 ? "rcp_" : "tkd_", 4);
    if (n % 5 == 4)
        memcpy(id, (n - 1) % 7 ? "rcp_" : "tkd_", 4);
    snprintf(text, 40, "{\"payload\":\"%u\"}", n);
}

static ft_code add(ft_store *s, unsigned n, ft_status *st)
{
    char text[40], id[FT_TRACE_ID];
    envelope_of(n, text, id);
    return ft_store_receipt_add(s, id, text, strlen(text), NULL, st);
}

static ft_digest leaf_of(unsigned n)
{
    char text[40], id[FT_TRACE_ID];
    envelope_of(n, text, id);
    return ft_merkle_leaf(FT_MERKLE_SHA256, text, strlen(text));
}

/* Envelopes 0 … n - 1, by the plain recursion. */
static ft_digest root_of(unsigned n)
{
    ft_digest *leaves = malloc((n + 1) * sizeof(*leaves));
    for (unsigned i = 0; i < n; i++)
        leaves[i] = leaf_of(i);
    const ft_digest root = ft_merkle_root(FT_MERKLE_SHA256, leaves, n);
    free(leaves);
    return root;
}

static void expect_log(ft_store *s, unsigned n)
{
    ft_tree_head head;
    const ft_digest want = root_of(n);
    assert_int_equal(ft_store_receipt_head(s, FT_TREE_NEWEST, &head, NULL), FT_OK);
    assert_int_equal(head.size, n);
    assert_memory_equal(&head.root, &want, sizeof(want));
}

static void has_problem(ft_store *s, const ft_store_heads *known, const char *problem)
{
    json_t *report;
    ft_status st;
    assert_ok(ft_store_verify(s, known, &report, &st), st);
    char *text = json_dumps(report, 0);
    if (json_is_true(json_object_get(report, "good")) || !strstr(text, problem))
        fail_msg("wanted '%s' in %s", problem, text);
    free(text);
    json_decref(report);
}

/* --- Appending and proving ------------------------------------------------------------------------------- */

static void every_envelope_is_a_leaf_once_and_proved_in_every_tree_since(void **state)
{
    (void)state;
    enum { ALL = 40 };
    ft_store *s = fixture_open(ft_test_path("proofs"));
    expect_log(s, 0);
    for (unsigned n = 0; n < ALL; n++) {
        assert_int_equal(add(s, n, NULL), FT_OK);
        assert_int_equal(add(s, n, NULL), FT_OK); /* given again */
        assert_int_equal(add(s, (unsigned)ft_random_below(&chance, n + 1), NULL), FT_OK);
        expect_log(s, n + 1);
        if (n % 13 == 5) {
            ft_store_close(s);
            s = fixture_open(ft_test_path("proofs"));
        }
    }
    ft_tree_head head, old;
    ft_merkle_proof p;
    for (unsigned size = 1; size <= ALL; size++)
        for (unsigned n = 0; n < size; n++) {
            const ft_digest leaf = leaf_of(n), root = root_of(size);
            assert_int_equal(ft_store_receipt_proof(s, n, size == ALL ? FT_TREE_NEWEST : size, &head, &p, NULL), FT_OK);
            assert_int_equal(head.size, size);
            assert_memory_equal(&head.root, &root, sizeof(root));
            assert_true(ft_merkle_includes(&leaf, n, size, &head.root, p.nodes, p.count));
            assert_int_equal(ft_store_receipt_consistency(s, n, size, &old, &head, &p, NULL), FT_OK);
            assert_true(ft_merkle_extends(n, &old.root, size, &head.root, p.nodes, p.count));
        }
    fixture_assert_good(s);
    ft_store_close(s);
}

static void a_receipt_has_the_leaves_of_its_envelopes_newest_first(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("leaves"));
    for (unsigned n = 0; n < 30; n++)
        assert_int_equal(add(s, n, NULL), FT_OK);
    for (unsigned n = 0; n < 30; n++) {
        char text[40], id[FT_TRACE_ID];
        ft_receipt_leaf leaves[4];
        size_t count;
        envelope_of(n, text, id);
        const unsigned newest = n % 5 == 3 ? n + 1 : n, several = n % 5 >= 3;
        assert_int_equal(ft_store_receipt_leaves(s, id, leaves, 4, &count, NULL), FT_OK);
        assert_int_equal(count, 1 + several);
        for (unsigned i = 0; i < count; i++) {
            const ft_digest want = leaf_of(newest - i);
            assert_int_equal(leaves[i].index, newest - i);
            assert_memory_equal(&leaves[i].hash, &want, sizeof(want));
        }
        assert_int_equal(ft_store_receipt_leaves(s, id, leaves, 1, &count, NULL), FT_OK);
        assert_int_equal(count, 1);
        assert_int_equal(leaves[0].index, newest);
    }
    ft_store_close(s);
}

static void what_is_not_in_the_log_is_refused_in_one_line(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("refused"));
    char id[FT_TRACE_ID];
    ft_status st = {0};
    ft_receipt_leaf leaf;
    ft_tree_head head, old;
    ft_merkle_proof p;
    size_t count;
    static const char *const no_ids[] = {"",
                                         "rcp_",
                                         "trc_01ARZ3NDEK0000000000000000",
                                         "rcp_01ARZ3NDEKI000000000000000",
                                         "rcp_01ARZ3NDEK00000000000000000",
                                         "../etc/passwd"};
    for (size_t i = 0; i < sizeof(no_ids) / sizeof(*no_ids); i++) {
        assert_int_equal(ft_store_receipt_add(s, no_ids[i], "x", 1, NULL, &st), FT_ERR_ARG);
        assert_int_equal(ft_store_receipt_leaves(s, no_ids[i], &leaf, 1, &count, &st), FT_ERR_NOT_FOUND);
    }
    for (unsigned n = 0; n < 5; n++)
        assert_int_equal(add(s, n, NULL), FT_OK);
    fixture_id(id, 9, 9);
    memcpy(id, "rcp_", 4);
    assert_int_equal(ft_store_receipt_leaves(s, id, &leaf, 1, &count, &st), FT_ERR_NOT_FOUND);
    assert_non_null(strstr(st.msg, id));
    assert_int_equal(ft_store_receipt_head(s, 6, &head, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "has 5 leaves, not 6"));
    assert_int_equal(ft_store_receipt_proof(s, 4, 4, &head, &p, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "leaf 4 is not among the first 4"));
    assert_int_equal(ft_store_receipt_proof(s, 0, 0, &head, &p, &st), FT_ERR_ARG);
    assert_int_equal(ft_store_receipt_proof(s, 0, 6, &head, &p, &st), FT_ERR_ARG);
    assert_int_equal(ft_store_receipt_consistency(s, 4, 3, &old, &head, &p, &st), FT_ERR_ARG);
    assert_int_equal(ft_store_receipt_consistency(s, 4, 6, &old, &head, &p, &st), FT_ERR_ARG);
    assert_int_equal(ft_store_receipt_consistency(s, 6, FT_TREE_NEWEST, &old, &head, &p, &st), FT_ERR_ARG);
    expect_log(s, 5);
    ft_store_close(s);
}

/* --- Keeping ----------------------------------------------------------------------------------------------- */

static void neither_removal_nor_redaction_nor_compaction_takes_anything_out(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("kept"));
    char id[FT_TRACE_ID];
    size_t deleted;
    ft_store_heads before, after;
    for (unsigned n = 0; n < 20; n++) {
        fixture_id(id, 7000000, n);
        json_t *t = fixture_trace(&chance, id);
        assert_int_equal(ft_store_put(s, id, t, NULL, NULL), FT_OK);
        if (n % 3 == 0)
            assert_int_equal(ft_store_redact(s, id, t, NULL), FT_OK);
        json_decref(t);
        assert_int_equal(add(s, n, NULL), FT_OK);
    }
    assert_int_equal(ft_store_get_heads(s, &before, NULL), FT_OK);
    assert_int_equal(before.receipts.size, 20);
    assert_int_equal(ft_store_remove(s, id, NULL), FT_OK);
    const ft_retention none = {.max_age_ms = 1};
    assert_int_equal(ft_store_retain(s, &none, UINT64_C(1) << 42, 0, &deleted, NULL), FT_OK);
    assert_int_equal(deleted, 19);
    assert_int_equal(ft_store_compact(s, NULL), FT_OK);
    expect_log(s, 20);
    assert_int_equal(add(s, 20, NULL), FT_OK);
    expect_log(s, 21);
    fixture_assert_good(s);
    assert_int_equal(ft_store_get_heads(s, &after, NULL), FT_OK);
    json_t *report;
    assert_int_equal(ft_store_verify(s, &before, &report, NULL), FT_OK);
    assert_true(json_is_true(json_object_get(report, "good")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(report, "receipts"), "leaves")), 21);
    json_decref(report);
    ft_store_close(s);
}

/* tests/vectors/store/schema4.mdb was written by flextrace 0.1.0 before there was a log of receipts: the fixture's
 * first four traces of seed 17, three lines in the log. */
static void a_store_of_the_fourth_schema_begins_an_empty_log(void **state)
{
    (void)state;
    size_t n;
    ft_status st;
    ft_store *s;
    ft_store_sizes sizes;
    char *old = ft_test_read(ft_test_source("tests/vectors/store/schema4.mdb"), &n);
    assert_non_null(old);
    assert_int_equal(ft_folder_make(ft_test_path("fourth"), NULL), FT_OK);
    ft_test_write("fourth/data.mdb", old, n);
    free(old);
    const pid_t child = fork(); /* killed when it was brought over: the journal does it once more, and no more */
    if (child == 0)
        _exit(ft_store_open(&s, ft_test_path("fourth"), 0, NULL) != FT_OK);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    for (unsigned opened = 0; opened < 3; opened++) {
        assert_ok(ft_store_open(&s, ft_test_path("fourth"), 0, &st), st);
        assert_int_equal(ft_store_get_sizes(s, &sizes, NULL), FT_OK);
        assert_int_equal(sizes.traces, 4);
        assert_int_equal(sizes.log_lines, 4); /* one says that the schema is another: once */
        expect_log(s, opened);
        assert_int_equal(add(s, opened, NULL), FT_OK);
        fixture_assert_good(s);
        ft_store_close(s);
    }
}

/* --- Together with something else ------------------------------------------------------------------------- */

static uint64_t transactions(const ft_store *s)
{
    MDB_envinfo info;
    assert_int_equal(mdb_env_info(s->env, &info), 0);
    return info.me_last_txnid;
}

/* A receipt with its trace, or with the line of who asked for it, is one transaction; what cannot be a receipt's keeps
 * the other out; a child that is killed when both were acknowledged leaves both. */
static void a_leaf_is_put_in_one_transaction_with_what_it_belongs_to(void **state)
{
    (void)state;
    static const char path[] = "together", id[] = "trc_01ARZ3NDEK0000000000000001",
                      receipt[] = "rcp_01ARZ3NDEK0000000000000001", text[] = "an envelope", other[] = "another";
    const ft_receipt_entry entry = {receipt, text, strlen(text)}, again = {receipt, other, strlen(other)};
    const ft_receipt_entry wrong = {"no id", text, strlen(text)};
    char folder[4096];
    ft_receipt_leaf leaves[3];
    size_t count;
    strcpy(folder, ft_test_path(path));
    const pid_t child = fork();
    if (child == 0) {
        ft_store *s;
        json_t *t = json_pack("{s:{s:s}}", "response", "text", "words");
        int failed = ft_store_open(&s, folder, 0, NULL) != FT_OK;
        const uint64_t before = failed ? 0 : transactions(s);
        failed |= ft_store_put_with(s, id, t, NULL, &entry, NULL) != FT_OK || transactions(s) != before + 1;
        failed |= ft_store_log_with(s, "alice", "receipt.read", NULL, &again, NULL) != FT_OK;
        failed |= transactions(s) != before + 2;
        failed |= ft_store_log_with(s, "bob", "receipt.read", NULL, &(ft_receipt_entry){0}, NULL) != FT_OK;
        failed |= ft_store_put_with(s, "trc_01ARZ3NDEK0000000000000002", t, NULL, &wrong, NULL) != FT_ERR_ARG;
        failed |= ft_store_log_with(s, "carol", "receipt.read", json_object(), &wrong, NULL) != FT_ERR_ARG;
        failed |= transactions(s) != before + 3;
        _exit(failed); /* without closing: what was acknowledged is in the journal */
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    ft_store *s = fixture_open(folder);
    ft_store_sizes sizes;
    assert_int_equal(ft_store_get_sizes(s, &sizes, NULL), FT_OK);
    assert_int_equal(sizes.traces, 1);
    assert_int_equal(sizes.log_lines, 2);
    assert_int_equal(ft_store_receipt_leaves(s, receipt, leaves, 3, &count, NULL), FT_OK);
    assert_int_equal(count, 2);
    const ft_digest first = ft_merkle_leaf(FT_MERKLE_SHA256, text, strlen(text));
    assert_memory_equal(&leaves[1].hash, &first, sizeof(first));
    /* What is there already is no second leaf. */
    assert_int_equal(ft_store_log_with(s, "alice", "receipt.read", NULL, &entry, NULL), FT_OK);
    assert_int_equal(ft_store_receipt_leaves(s, receipt, leaves, 3, &count, NULL), FT_OK);
    assert_int_equal(count, 2);
    fixture_assert_good(s);
    ft_store_close(s);
}

/* --- Kills -------------------------------------------------------------------------------------------------- */

/* The child tells each receipt once it is added, and is killed. What it told is there, in its place, and at most one
 * more; it goes on from there. */
static void a_killed_writer_loses_no_leaf_that_was_acknowledged(void **state)
{
    (void)state;
    unsigned there = 0;
    char folder[4096];
    strcpy(folder, ft_test_path("killed"));
    for (int round = 0; round < 10; round++) {
        int ends[2], status;
        assert_int_equal(pipe(ends), 0);
        const pid_t child = fork();
        if (child == 0) {
            ft_store *s;
            if (ft_store_open(&s, folder, 0, NULL) != FT_OK)
                _exit(1);
            for (unsigned n = there;; n++)
                if (add(s, n, NULL) != FT_OK || write(ends[1], &n, sizeof(n)) != sizeof(n))
                    _exit(1);
        }
        close(ends[1]);
        unsigned told = there, n;
        for (unsigned i = 0; i < 5 + (unsigned)ft_random_below(&chance, 150); i++) {
            assert_int_equal(read(ends[0], &n, sizeof(n)), sizeof(n));
            told = n + 1;
        }
        kill(child, SIGKILL);
        while (read(ends[0], &n, sizeof(n)) == sizeof(n))
            told = n + 1;
        close(ends[0]);
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        ft_store *s = fixture_open(folder);
        ft_tree_head head;
        assert_int_equal(ft_store_receipt_head(s, FT_TREE_NEWEST, &head, NULL), FT_OK);
        assert_true(head.size == told || head.size == told + 1);
        there = (unsigned)head.size;
        expect_log(s, there);
        fixture_assert_good(s);
        ft_store_close(s);
    }
}

typedef struct adder {
    ft_store *store;
    unsigned number;
} adder;

static void *add_some(void *context)
{
    const adder *a = context;
    for (unsigned i = 0; i < 50; i++) /* half of them are somebody else's too */
        if (add(a->store, i % 2 ? i : 1000 + a->number * 100 + i, NULL) != FT_OK)
            return context;
    return NULL;
}

static void many_at_once_are_each_there_once(void **state)
{
    (void)state;
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    adder adders[THREADS];
    ft_tree_head head;
    ft_store *s = fixture_open(ft_test_path("many"));
    for (unsigned i = 0; i < THREADS; i++) {
        adders[i] = (adder){s, i};
        assert_int_equal(pthread_create(&threads[i], NULL, add_some, &adders[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(ft_store_receipt_head(s, FT_TREE_NEWEST, &head, NULL), FT_OK);
    assert_int_equal(head.size, 25 + THREADS * 25);
    fixture_assert_good(s);
    ft_store_close(s);
}

/* --- Tampering ------------------------------------------------------------------------------------------------ */

typedef enum deed { ALTER, REMOVE } deed;

static MDB_txn *tamper_begin(const char *folder, const char *database, MDB_env **env, MDB_dbi *dbi)
{
    MDB_txn *txn;
    assert_int_equal(mdb_env_create(env), 0);
    assert_int_equal(mdb_env_set_maxdbs(*env, 16), 0);
    assert_int_equal(mdb_env_open(*env, folder, 0, 0644), 0);
    assert_int_equal(mdb_txn_begin(*env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, database, 0, dbi), 0);
    return txn;
}

/* The number-th entry from the first, or (negative) from the last. */
static void tamper(const char *folder, const char *database, int number, deed what)
{
    MDB_env *env;
    MDB_dbi dbi;
    MDB_cursor *c;
    MDB_val key, value;
    unsigned char copy[100];
    MDB_txn *txn = tamper_begin(folder, database, &env, &dbi);
    assert_int_equal(mdb_cursor_open(txn, dbi, &c), 0);
    assert_int_equal(mdb_cursor_get(c, &key, &value, number < 0 ? MDB_LAST : MDB_FIRST), 0);
    for (int i = number < 0 ? -1 : 0; i != number; i += number < 0 ? -1 : 1)
        assert_int_equal(mdb_cursor_get(c, &key, &value, number < 0 ? MDB_PREV : MDB_NEXT), 0);
    if (what == REMOVE) {
        assert_int_equal(mdb_cursor_del(c, 0), 0);
    } else {
        memcpy(copy, value.mv_data, value.mv_size);
        copy[value.mv_size / 2] ^= 16;
        value.mv_data = copy;
        assert_int_equal(mdb_cursor_put(c, &key, &value, MDB_CURRENT), 0);
    }
    mdb_cursor_close(c);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* Of 11 leaves there are 19 nodes: 0 1 (01) 2 3 (23) (0-3) 4 5 (45) 6 7 (67) (4-7) (0-7) 8 9 (89) 10. */
static void what_somebody_removes_or_alters_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *database;
        int number;
        deed what;
        const char *problem;
    } cases[] = {
        {"receipts", 0, ALTER, "receipts: leaves 0 to 1: the hash over them"},
        {"receipts", 8, ALTER, "receipts: leaf 5 is not that of"},
        {"receipts", 13, ALTER, "receipts: leaves 4 to 7"},
        {"receipts", 14, ALTER, "the root of 11 leaves is another one"},
        {"receipts", -1, ALTER, "the root of 11 leaves is another one"},
        {"receipts", -1, REMOVE, "the end was cut off: 10 of 11 leaves"},
        {"receipts", -2, REMOVE, "the tree can be read up to leaf 9 of 11"},
        {"receipts", 0, REMOVE, "the tree can be read up to leaf 0 of 11"},
        {"receipt ids", 3, REMOVE, "11 leaves, and ids for 10"},
        {"receipt ids", 3, ALTER, "is not that of"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char folder[4096], name[40];
        snprintf(name, sizeof(name), "tampered %zu", i);
        strcpy(folder, ft_test_path(name));
        ft_store *s = fixture_open(folder);
        for (unsigned n = 0; n < 11; n++)
            assert_int_equal(add(s, n, NULL), FT_OK);
        fixture_assert_good(s);
        ft_store_close(s);
        tamper(folder, cases[i].database, cases[i].number, cases[i].what);
        assert_int_equal(ft_store_examine(folder, NULL), FT_OK);
        s = fixture_open(folder);
        has_problem(s, NULL, cases[i].problem);
        ft_store_close(s);
    }
}

/* Who can write to the store can also compute all of it anew: then only a root that was kept elsewhere tells. */
static void another_past_is_told_by_a_root_that_was_kept(void **state)
{
    (void)state;
    ft_store_heads kept;
    ft_store *s = fixture_open(ft_test_path("past"));
    for (unsigned n = 0; n < 9; n++)
        assert_int_equal(add(s, n, NULL), FT_OK);
    assert_int_equal(ft_store_get_heads(s, &kept, NULL), FT_OK);
    ft_store_close(s);
    ft_store *t = fixture_open(ft_test_path("other past"));
    for (unsigned n = 0; n < 8; n++)
        assert_int_equal(add(t, n == 4 ? 40 : n, NULL), FT_OK);
    fixture_assert_good(t);
    has_problem(t, &kept, "there were 9 leaves when their root was kept elsewhere, and are 8");
    for (unsigned n = 8; n < 12; n++)
        assert_int_equal(add(t, n, NULL), FT_OK);
    fixture_assert_good(t);
    has_problem(t, &kept, "the first 9 leaves are not what they were when their root was kept elsewhere");
    ft_store_close(t);
}

static int begin(void **state)
{
    (void)state;
    ft_random_init(&chance, 3);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_envelope_is_a_leaf_once_and_proved_in_every_tree_since),
        cmocka_unit_test(a_receipt_has_the_leaves_of_its_envelopes_newest_first),
        cmocka_unit_test(what_is_not_in_the_log_is_refused_in_one_line),
        cmocka_unit_test(neither_removal_nor_redaction_nor_compaction_takes_anything_out),
        cmocka_unit_test(a_store_of_the_fourth_schema_begins_an_empty_log),
        cmocka_unit_test(a_leaf_is_put_in_one_transaction_with_what_it_belongs_to),
        cmocka_unit_test(a_killed_writer_loses_no_leaf_that_was_acknowledged),
        cmocka_unit_test(many_at_once_are_each_there_once),
        cmocka_unit_test(what_somebody_removes_or_alters_is_found),
        cmocka_unit_test(another_past_is_told_by_a_root_that_was_kept),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
