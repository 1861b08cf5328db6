/* Keys as runs: they answer as a scan does, whatever their sizes and however ids overlap; what is removed leaves them;
 * a few traces together take few pages; and a store whose keys lie in one tree goes on as it was. */
#include "tests/store_fixture.h"

#include "base/ft_file.h"
#include "tracer/store_internal.h"

enum { TRACES = 4000, STEP_MS = 977 };
static const uint64_t first_ms = UINT64_C(1700000000000);

static json_t *made[TRACES];
static char made_ids[TRACES][FT_TRACE_ID];

static int make_traces(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 31);
    for (unsigned i = 0; i < TRACES; i++) {
        fixture_id(made_ids[i], first_ms + i * STEP_MS, i);
        made[i] = fixture_trace(&r, made_ids[i]);
    }
    return 0;
}

static int drop_traces(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TRACES; i++)
        json_decref(made[i]);
    return 0;
}

/* In one transaction; every `step`-th of them. */
static void put_together(ft_store *s, unsigned from, unsigned to, unsigned step)
{
    static store_op ops[TRACES];
    ft_status st;
    unsigned n = 0;
    for (unsigned i = from; i < to; i += step, n++) {
        assert_ok(store_op_put(s, &ops[n], made_ids[i], made[i], NULL, NULL, 0, &st), st);
        if (n)
            ops[n - 1].with = &ops[n];
    }
    assert_ok(store_commit(s, ops, &st), st);
    for (unsigned i = 0; i < n; i++)
        store_op_release(&ops[i]);
}

/* Of the traces from `from` on, those that fit, page by page. */
static size_t ask_as_a_scan(ft_store *s, unsigned from, int rounds, uint64_t seed)
{
    ft_random r;
    size_t found = 0;
    ft_random_init(&r, seed);
    for (int round = 0; round < rounds; round++) {
        char document[32], after[FT_TRACE_ID] = "";
        const ft_store_filter f = fixture_filter(&r, document, first_ms, first_ms + TRACES * STEP_MS);
        ft_store_page page = {.limit = 1 + ft_random_below(&r, 300), .ascending = round % 2};
        unsigned at = page.ascending ? from : TRACES;
        for (int more = 1; more;) {
            ft_store_rows rows;
            ft_status st;
            page.after = after[0] ? after : NULL;
            assert_ok(ft_store_query(s, &f, &page, &rows, &st), st);
            for (size_t i = 0; i < json_array_size(rows.list); i++, found++) {
                unsigned want = page.ascending ? at : at - 1;
                while (want < TRACES && !fixture_fits(made[want], made_ids[want], &f))
                    want += page.ascending ? 1 : (unsigned)-1;
                assert_true(want < TRACES && want >= from);
                assert_string_equal(json_string_value(json_object_get(json_array_get(rows.list, i), "id")),
                                    made_ids[want]);
                at = page.ascending ? want + 1 : want;
            }
            strcpy(after, rows.last);
            more = rows.more;
            json_decref(rows.list);
        }
        for (unsigned i = page.ascending ? at : from; i < (page.ascending ? TRACES : at); i++)
            assert_false(fixture_fits(made[i], made_ids[i], &f));
    }
    return found;
}

typedef struct run_sums {
    size_t runs;
    uint64_t keys, largest;
    unsigned char first[STORE_ID]; /* least id */
} run_sums;

static run_sums sum_runs(ft_store *s)
{
    run_sums sums = {0};
    run_list l;
    MDB_txn *txn;
    assert_int_equal(store_read_begin(s, &txn, "test", NULL), FT_OK);
    assert_int_equal(runs_read(txn, store_runs(s), &l), 0);
    memset(sums.first, 0xff, STORE_ID);
    for (size_t i = 0; i < l.count; i++) {
        sums.runs++;
        sums.keys += l.runs[i].head.keys;
        sums.largest = l.runs[i].head.keys > sums.largest ? l.runs[i].head.keys : sums.largest;
        if (memcmp(l.runs[i].head.first, sums.first, STORE_ID) < 0)
            memcpy(sums.first, l.runs[i].head.first, STORE_ID);
    }
    runs_release(&l);
    store_read_end(s, txn);
    return sums;
}

/* Transactions of one trace, of some and of two hundred, also such whose ids lie between each other's. */
static void fill(ft_store *s)
{
    unsigned at = 0;
    for (; at < 60; at++)
        put_together(s, at, at + 1, 1);
    for (; at < 3600; at += 407) {
        put_together(s, at, at + 400, 2); /* even ones */
        put_together(s, at + 1, at + 400, 2);
        put_together(s, at + 400, at + 407, 1);
    }
    put_together(s, at, TRACES, 1);
}

static void runs_of_any_size_answer_as_a_scan_does(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("runs"));
    fill(s);
    const run_sums sums = sum_runs(s);
    assert_true(sums.largest >= 65536); /* merged twice */
    assert_true(sums.runs > 1 && sums.runs < 48);
    assert_true(ask_as_a_scan(s, 0, 120, 41) > 5000);
    fixture_assert_good(s);
    ft_store_close(s);
}

/* Whole runs go with their traces, and those half of whose traces are gone are written anew. */
static void what_retention_deletes_leaves_the_runs(void **state)
{
    (void)state;
    enum { GONE = 2500 };
    ft_store *s = fixture_open(ft_test_path("retained"));
    fill(s);
    const run_sums before = sum_runs(s);
    size_t deleted;
    const ft_retention keep = {.max_age_ms = (TRACES - GONE) * STEP_MS};
    assert_int_equal(ft_store_retain(s, &keep, first_ms + (uint64_t)TRACES * STEP_MS, 0, &deleted, NULL), FT_OK);
    assert_int_equal(deleted, GONE);
    const run_sums after = sum_runs(s);
    assert_true(after.keys < before.keys * 3 / 4);
    assert_true(ask_as_a_scan(s, GONE, 60, 42) > 1000);
    fixture_assert_good(s);
    ft_store_close(s);
}

/* A compaction makes the keys anew: as many as a store has that never had anything else. */
static void a_compaction_leaves_no_key_of_what_was_removed_or_replaced(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("compacted")), *plain = fixture_open(ft_test_path("plain"));
    put_together(s, 0, 500, 1);
    for (unsigned i = 0; i < 500; i += 50)
        assert_int_equal(ft_store_remove(s, made_ids[i], NULL), FT_OK);
    for (unsigned i = 1; i < 500; i += 50) {
        assert_int_equal(ft_store_put(s, made_ids[i], made[i + 1000], NULL, NULL), FT_OK);
        assert_int_equal(ft_store_put(plain, made_ids[i], made[i + 1000], NULL, NULL), FT_OK);
    }
    for (unsigned i = 2; i < 50; i++)
        put_together(plain, i, 500, 50);
    fixture_assert_good(s);
    ft_status st;
    assert_ok(ft_store_compact(s, &st), st);
    assert_ok(ft_store_compact(plain, &st), st);
    assert_int_equal(sum_runs(s).keys, sum_runs(plain).keys);
    assert_int_equal(sum_runs(s).runs, 1);
    fixture_assert_good(s);
    for (unsigned i = 1; i < 500; i++)
        assert_int_equal(ft_store_remove(s, made_ids[i], NULL), i % 50 ? FT_OK : FT_ERR_NOT_FOUND);
    assert_int_equal(sum_runs(s).runs, 0);
    fixture_assert_good(s);
    ft_store_close(s);
    ft_store_close(plain);
}

static uint64_t bytes_written(void)
{
    char line[100];
    unsigned long long n = 0;
    FILE *f = fopen("/proc/self/io", "r");
    while (f && fgets(line, sizeof(line), f) && sscanf(line, "wchar: %llu", &n) != 1) {
    }
    if (f)
        fclose(f);
    return n;
}

/* Sixteen traces have some seven hundred keys in as many lists. */
static void a_few_traces_together_take_few_pages(void **state)
{
    (void)state;
    uint64_t least = UINT64_MAX;
    if (!bytes_written())
        skip();
    ft_store *s = fixture_open(ft_test_path("pages"));
    put_together(s, 0, 2000, 1);
    for (unsigned at = 2000; at < 2064; at += 16) {
        const uint64_t before = bytes_written();
        put_together(s, at, at + 16, 1);
        const uint64_t pages = (bytes_written() - before) / 4096;
        least = pages < least ? pages : least;
    }
    assert_true(least < 60);
    ft_store_close(s);
}

/* tests/vectors/store/schema2.mdb was written by flextrace 0.1.0 before there were runs: the fixture's first sixteen
 * traces of seed 11, every fifth removed again. Its keys stay in their tree until a compaction. */
static void a_store_of_the_second_schema_answers_as_it_did_and_goes_on(void **state)
{
    (void)state;
    enum { OLD = 16, ALL = 40 };
    size_t n, found = 0;
    ft_status st;
    ft_random r;
    ft_store *s;
    json_t *traces[ALL];
    char ids[ALL][FT_TRACE_ID];
    char *old = ft_test_read(ft_test_source("tests/vectors/store/schema2.mdb"), &n);
    assert_non_null(old);
    assert_int_equal(ft_folder_make(ft_test_path("second"), NULL), FT_OK);
    ft_test_write("second/data.mdb", old, n);
    free(old);
    ft_random_init(&r, 11);
    for (unsigned i = 0; i < ALL; i++) {
        fixture_id(ids[i], UINT64_C(9000000) + i * UINT64_C(1000), i);
        traces[i] = fixture_trace(&r, ids[i]);
    }
    for (int round = 0; round < 4; round++) { /* as it was; with new ones; without some old; compacted */
        assert_ok(ft_store_open(&s, ft_test_path("second"), 0, &st), st);
        for (unsigned i = OLD; round == 1 && i < ALL; i++)
            assert_ok(ft_store_put(s, ids[i], traces[i], NULL, &st), st);
        for (unsigned i = 2; round == 2 && i < ALL; i += 5)
            assert_ok(ft_store_remove(s, ids[i], &st), st);
        if (round == 3)
            assert_ok(ft_store_compact(s, &st), st);
        for (int k = 0; k < 60; k++) {
            char document[32];
            const ft_store_filter f = fixture_filter(&r, document, 8990000, 9050000);
            const ft_store_page page = {.limit = 100, .ascending = 1};
            ft_store_rows rows;
            size_t at = 0;
            assert_ok(ft_store_query(s, &f, &page, &rows, &st), st);
            for (unsigned i = 0; i < (round ? ALL : OLD); i++)
                if ((i >= OLD || i % 5) && (round < 2 || i % 5 != 2) && fixture_fits(traces[i], ids[i], &f))
                    assert_string_equal(json_string_value(json_object_get(json_array_get(rows.list, at++), "id")),
                                        ids[i]);
            assert_int_equal(json_array_size(rows.list), at);
            found += at;
            json_decref(rows.list);
        }
        for (unsigned i = 0; i < (round ? ALL : OLD); i++) { /* packed in one frame by then, in two now */
            json_t *back = NULL;
            if ((i < OLD && i % 5 == 0) || (round > 1 && i % 5 == 2))
                continue;
            assert_ok(ft_store_get(s, ids[i], &back, &st), st);
            assert_true(json_equal(back, traces[i]));
            json_decref(back);
        }
        fixture_assert_good(s);
        ft_store_close(s);
    }
    assert_true(found > 500);
    for (unsigned i = 0; i < ALL; i++)
        json_decref(traces[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_of_any_size_answer_as_a_scan_does),
        cmocka_unit_test(what_retention_deletes_leaves_the_runs),
        cmocka_unit_test(a_compaction_leaves_no_key_of_what_was_removed_or_replaced),
        cmocka_unit_test(a_few_traces_together_take_few_pages),
        cmocka_unit_test(a_store_of_the_second_schema_answers_as_it_did_and_goes_on),
    };
    return cmocka_run_group_tests(tests, make_traces, drop_traces);
}
