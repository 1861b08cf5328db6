/* What tracer/ft_store.h promises: traces that last. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "tracer/ft_store.h"

#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TOKENS = 50, LAYERS = 3, TOP_K = 2, PLACES = TOKENS * LAYERS * TOP_K };

/* A routing of random bits: NaNs and denormals among the weights must come back too. */
static ft_routing random_routing(uint8_t *ids, float *weights)
{
    ft_random random;
    ft_random_init(&random, 7);
    for (int i = 0; i < PLACES; i++) {
        const uint32_t bits = (uint32_t)ft_random_u64(&random);
        ids[i] = (uint8_t)ft_random_below(&random, 6);
        memcpy(&weights[i], &bits, sizeof(bits));
    }
    return (ft_routing){
        .tokens = TOKENS, .layers = LAYERS, .experts = 6, .top_k = TOP_K, .expert_ids = ids, .weights = weights};
}

static json_t *sample(const char *text)
{
    return json_pack("{s:s,s:{s:s},s:[i,i],s:f}", "object", "trace", "response", "text", text, "matches", 3, 2, "score",
                     0.1);
}

static ft_store *open_store(const char *folder)
{
    ft_status st;
    ft_store *s;
    assert_ok(ft_store_open(&s, folder, 16 << 20, &st), st);
    return s;
}

static void a_trace_and_its_routing_come_back_bit_for_bit_after_a_restart(void **state)
{
    (void)state;
    char folder[4096];
    strcpy(folder, ft_test_path("restart/deep/store"));
    uint8_t ids[PLACES];
    float weights[PLACES];
    const ft_routing routing = random_routing(ids, weights);
    char id[FT_TRACE_ID];
    ft_status st;
    ft_trace_id_new(id);
    json_t *trace = sample("na\xC3\xAFve \xE2\x98\x83"), *back;
    json_object_set_new(trace, "routing", json_pack("{s:i,s:s,s:s}", "layers", 3, "ids", "AA==", "weights", "AAAA"));

    ft_store *s = open_store(folder);
    assert_ok(ft_store_put(s, id, trace, &routing, &st), st);
    ft_store_close(s);
    s = open_store(folder);
    assert_ok(ft_store_get(s, id, &back, &st), st);
    /* The routing that was handed over stands for the bulk; all else is as it was. */
    json_t *head = json_object_get(back, "routing");
    assert_int_equal(json_integer_value(json_object_get(head, "layers")), 3);
    assert_int_equal(json_string_length(json_object_get(head, "ids")), (PLACES * 4 + 2) / 3 * 4);
    json_object_del(back, "routing");
    json_object_del(trace, "routing");
    assert_true(json_equal(back, trace));

    ft_stored_routing r;
    assert_ok(ft_store_get_routing(s, id, &r, &st), st);
    assert_true(r.view.tokens == TOKENS && r.view.layers == LAYERS && r.view.top_k == TOP_K && r.view.experts == 6);
    assert_null(r.view.probs);
    assert_memory_equal(r.view.expert_ids, ids, sizeof(ids));
    assert_memory_equal(r.view.weights, weights, sizeof(weights));
    ft_stored_routing_release(&r);
    ft_store_close(s);
    json_decref(trace);
    json_decref(back);
}

static void a_trace_without_routing_has_none_and_an_unknown_id_is_not_found(void **state)
{
    (void)state;
    ft_store *s = open_store(ft_test_path("plain"));
    char id[FT_TRACE_ID], other[FT_TRACE_ID];
    ft_trace_id_new(id);
    ft_trace_id_new(other);
    json_t *trace = sample("x"), *back = trace;
    ft_stored_routing r;
    ft_status st;
    assert_ok(ft_store_put(s, id, trace, NULL, &st), st);
    assert_int_equal(ft_store_get_routing(s, id, &r, &st), FT_ERR_NOT_FOUND);
    assert_int_equal(ft_store_get(s, other, &back, &st), FT_ERR_NOT_FOUND);
    assert_null(back);
    assert_non_null(strstr(st.msg, other));
    assert_int_equal(ft_store_get(s, "schema", &back, &st), FT_ERR_NOT_FOUND);
    assert_int_equal(ft_store_get(s, "", &back, &st), FT_ERR_NOT_FOUND);
    assert_int_equal(ft_store_put(s, "trc_short", trace, NULL, &st), FT_ERR_ARG);
    assert_ok(ft_store_get(s, id, &back, &st), st);
    assert_true(json_equal(trace, back));
    json_decref(back);
    json_decref(trace);
    ft_store_close(s);
}

static void ids_are_ordered_by_time_and_stamped_into_the_trace(void **state)
{
    (void)state;
    char a[FT_TRACE_ID], b[FT_TRACE_ID];
    for (int i = 0; i < 20; i++) {
        ft_trace_id_new(a);
        usleep(50);
        ft_trace_id_new(b);
        assert_true(strcmp(a, b) < 0);
        assert_int_equal(strlen(a), FT_TRACE_ID - 1);
        assert_int_equal(strspn(a + 4, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"), 26);
    }
    uint64_t milliseconds;
    assert_int_equal(ft_trace_id_time("trc_01ARZ3NDEK0000000000000000", &milliseconds), 1);
    assert_int_equal(milliseconds, UINT64_C(1469922850259)); /* the ULID specification's example */
    assert_int_equal(ft_trace_id_time("trc_01ARZ3NDEKI000000000000000", &milliseconds), 0);
    json_t *trace = sample("x");
    assert_int_equal(ft_trace_stamp(&trace, "trc_01ARZ3NDEK0000000000000000", NULL), FT_OK);
    assert_string_equal(json_string_value(json_object_get(trace, "created")), "2016-07-30T23:54:10Z");
    assert_string_equal(json_object_iter_key(json_object_iter(trace)), "id");
    json_decref(trace);
}

static void traces_are_listed_newest_first_in_pages(void **state)
{
    (void)state;
    ft_store *s = open_store(ft_test_path("list"));
    char made[25][FT_TRACE_ID], page[10][FT_TRACE_ID], before[FT_TRACE_ID] = "";
    json_t *trace = sample("x");
    size_t count, at = 25;
    assert_int_equal(ft_store_list(s, "", 10, page, &count, NULL), FT_OK);
    assert_int_equal(count, 0);
    for (int i = 0; i < 25; i++) {
        ft_trace_id_new(made[i]);
        usleep(20);
        assert_int_equal(ft_store_put(s, made[i], trace, NULL, NULL), FT_OK);
    }
    for (;;) {
        assert_int_equal(ft_store_list(s, before, 10, page, &count, NULL), FT_OK);
        if (!count)
            break;
        for (size_t i = 0; i < count; i++)
            assert_string_equal(page[i], made[--at]);
        strcpy(before, page[count - 1]);
    }
    assert_int_equal(at, 0);
    /* An id that is not there stands for its place. */
    assert_int_equal(ft_store_list(s, "trc_ZZZZZZZZZZZZZZZZZZZZZZZZZZ", 1, page, &count, NULL), FT_OK);
    assert_string_equal(page[0], made[24]);
    assert_int_equal(ft_store_check(s, NULL), FT_OK);
    json_decref(trace);
    ft_store_close(s);
}

static void what_is_not_a_store_of_ours_is_refused_in_one_line(void **state)
{
    (void)state;
    ft_status st;
    ft_store *s = (ft_store *)&st;
    /* Somebody's files. */
    assert_int_equal(ft_folder_make(ft_test_path("files"), NULL), FT_OK);
    ft_test_write("files/letter.txt", "x", 1);
    assert_int_equal(ft_store_open(&s, ft_test_path("files"), 0, &st), FT_ERR_FORMAT);
    assert_null(s);
    assert_non_null(strstr(st.msg, "letter.txt"));
    assert_false(ft_path_exists(ft_test_path("files/data.mdb")));
    /* A data.mdb that LMDB did not write. */
    char noise[20000];
    memset(noise, 'x', sizeof(noise));
    assert_int_equal(ft_folder_make(ft_test_path("noise"), NULL), FT_OK);
    ft_test_write("noise/data.mdb", noise, sizeof(noise));
    assert_int_equal(ft_store_open(&s, ft_test_path("noise"), 0, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "data.mdb"));
    /* LMDB, of another program. */
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    char letter[] = "x";
    MDB_val v = {1, letter};
    assert_int_equal(ft_folder_make(ft_test_path("other"), NULL), FT_OK);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, ft_test_path("other"), 0, 0644), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &v, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_int_equal(ft_store_open(&s, ft_test_path("other"), 0, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "not a trace store"));
    /* A path that is a file. */
    assert_int_equal(ft_store_open(&s, ft_test_path("files/letter.txt"), 0, &st), FT_ERR_FORMAT);
}

/* LMDB begins a file with one write of two pages. */
static void a_store_that_was_killed_while_it_was_made_is_made_anew(void **state)
{
    (void)state;
    MDB_env *env;
    assert_int_equal(ft_folder_make(ft_test_path("begun"), NULL), FT_OK);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, ft_test_path("begun"), 0, 0644), 0);
    mdb_env_close(env);
    assert_int_equal(truncate(ft_test_path("begun/data.mdb"), 4096), 0);
    ft_store *s = open_store(ft_test_path("begun"));
    assert_int_equal(ft_store_check(s, NULL), FT_OK);
    ft_store_close(s);
    s = open_store(ft_test_path("begun"));
    char id[FT_TRACE_ID];
    json_t *trace = sample("x");
    for (int i = 0; i < 2; i++) {
        ft_trace_id_new(id);
        assert_int_equal(ft_store_put(s, id, trace, NULL, NULL), FT_OK);
    }
    json_decref(trace);
    ft_store_close(s);
    assert_int_equal(truncate(ft_test_path("begun/data.mdb"), 4096), 0); /* one that held something */
    assert_int_equal(ft_store_open(&s, ft_test_path("begun"), 0, NULL), FT_ERR_FORMAT);
}

static void a_store_of_a_newer_version_is_refused_with_the_remedy(void **state)
{
    (void)state;
    char folder[4096];
    strcpy(folder, ft_test_path("newer"));
    ft_store_close(open_store(folder));
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    uint32_t version = 7;
    char name[] = "schema";
    MDB_val key = {6, name}, value = {sizeof(version), &version};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 12), 0);
    assert_int_equal(mdb_env_open(env, folder, 0, 0644), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    ft_status st;
    ft_store *s;
    assert_int_equal(ft_store_open(&s, folder, 0, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "upgrade"));
}

/* A few kilobytes that do not compress. */
static json_t *bulky(uint64_t seed)
{
    ft_random random;
    ft_random_init(&random, seed);
    char text[20001];
    for (int i = 0; i < 20000; i++)
        text[i] = (char)(33 + (char)ft_random_below(&random, 90));
    text[20000] = '\0';
    return sample(text);
}

static void a_store_cut_anywhere_opens_or_is_refused_but_never_crashes(void **state)
{
    (void)state;
    char folder[4096];
    strcpy(folder, ft_test_path("cut"));
    ft_store *s = open_store(folder);
    char ids[40][FT_TRACE_ID];
    for (int i = 0; i < 40; i++) {
        json_t *trace = bulky((uint64_t)i);
        ft_trace_id_new(ids[i]);
        assert_int_equal(ft_store_put(s, ids[i], trace, NULL, NULL), FT_OK);
        json_decref(trace);
    }
    ft_store_close(s);
    size_t n;
    char *whole = ft_test_read(ft_test_path("cut/data.mdb"), &n);
    for (size_t keep = 0; keep < n; keep += keep < 20000 ? 1000 : 37000) {
        ft_test_write("cut/data.mdb", whole, keep);
        ft_status st = {0};
        const ft_code rc = ft_store_open(&s, folder, 0, &st);
        assert_true(rc == FT_OK || rc == FT_ERR_FORMAT || rc == FT_ERR_IO);
        if (rc) {
            assert_true(st.msg[0] != '\0');
            continue;
        }
        for (int i = 0; i < 40; i++) {
            json_t *back;
            const ft_code got = ft_store_get(s, ids[i], &back, &st);
            assert_true(got == FT_OK || got == FT_ERR_FORMAT || got == FT_ERR_NOT_FOUND);
            json_decref(back);
        }
        ft_store_close(s);
    }
    free(whole);
}

static void a_flipped_bit_in_a_trace_is_noticed(void **state)
{
    (void)state;
    char folder[4096];
    strcpy(folder, ft_test_path("flip"));
    ft_store *s = open_store(folder);
    char id[FT_TRACE_ID];
    json_t *trace = bulky(3), *back;
    ft_trace_id_new(id);
    assert_int_equal(ft_store_put(s, id, trace, NULL, NULL), FT_OK);
    ft_store_close(s);
    size_t n;
    char *whole = ft_test_read(ft_test_path("flip/data.mdb"), &n);
    /* The value's frame starts with zstd's magic number on an overflow page. */
    char *frame = whole;
    while ((size_t)(frame - whole) < n - 4 && memcmp(frame, "\x28\xb5\x2f\xfd", 4) != 0)
        frame++;
    assert_true((size_t)(frame - whole) < n - 10000);
    for (size_t at = 5; at < 15000; at += 1499) {
        frame[at] = (char)(frame[at] ^ 4);
        ft_test_write("flip/data.mdb", whole, n);
        s = open_store(folder);
        assert_int_equal(ft_store_get(s, id, &back, NULL), FT_ERR_FORMAT);
        assert_null(back);
        ft_store_close(s);
        frame[at] = (char)(frame[at] ^ 4);
    }
    free(whole);
    json_decref(trace);
}

static void a_full_store_says_so_and_keeps_what_it_has(void **state)
{
    (void)state;
    ft_store *s;
    ft_status st = {0};
    assert_ok(ft_store_open(&s, ft_test_path("full"), 400000, &st), st);
    char kept[100][FT_TRACE_ID], id[FT_TRACE_ID];
    size_t n = 0, count;
    ft_code rc = FT_OK;
    for (; n < 100; n++) {
        json_t *trace = bulky(n);
        ft_trace_id_new(id);
        rc = ft_store_put(s, id, trace, NULL, &st);
        json_decref(trace);
        if (rc)
            break;
        strcpy(kept[n], id);
        usleep(5);
    }
    assert_int_equal(rc, FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "maximum size"));
    assert_true(n > 3 && n < 30);
    char page[100][FT_TRACE_ID];
    assert_int_equal(ft_store_list(s, "", 100, page, &count, NULL), FT_OK);
    assert_int_equal(count, n);
    json_t *back;
    assert_int_equal(ft_store_get(s, id, &back, NULL), FT_ERR_NOT_FOUND);
    for (size_t i = 0; i < n; i++) {
        json_t *want = bulky(i);
        assert_int_equal(ft_store_get(s, kept[i], &back, NULL), FT_OK);
        assert_true(json_equal(back, want));
        json_decref(want);
        json_decref(back);
    }
    ft_store_close(s);
}

/* The child reports each id through a pipe once put has returned, and is killed in
 * the middle of its work. */
static void a_killed_writer_loses_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    char folder[4096];
    strcpy(folder, ft_test_path("killed"));
    for (int round = 0; round < 5; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        const pid_t child = fork();
        if (child == 0) {
            ft_store *s;
            if (ft_store_open(&s, folder, 64 << 20, NULL) != FT_OK)
                _exit(1);
            for (uint64_t i = 0;; i++) {
                char id[FT_TRACE_ID];
                ft_trace_id_new(id);
                json_t *trace = bulky(i);
                if (ft_store_put(s, id, trace, NULL, NULL) != FT_OK || write(ends[1], id, sizeof(id)) != sizeof(id))
                    _exit(1);
                json_decref(trace);
            }
        }
        close(ends[1]);
        char last[FT_TRACE_ID] = "", id[FT_TRACE_ID];
        for (int i = 0; i < 7; i++) {
            assert_int_equal(read(ends[0], id, sizeof(id)), sizeof(id));
            strcpy(last, id);
        }
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        ft_store *s = open_store(folder);
        do {
            json_t *back;
            assert_int_equal(ft_store_get(s, last, &back, NULL), FT_OK);
            json_decref(back);
        } while (read(ends[0], last, sizeof(last)) == (ssize_t)sizeof(last));
        ft_store_close(s);
        close(ends[0]);
    }
}

static void every_failed_allocation_leaves_the_store_as_it_was(void **state)
{
    (void)state;
    char folder[4096];
    strcpy(folder, ft_test_path("memory"));
    uint8_t ids[PLACES];
    float weights[PLACES];
    const ft_routing routing = random_routing(ids, weights);
    json_t *trace = sample("x");
    for (long k = 1, worked = 0; !worked; k++) {
        char id[FT_TRACE_ID];
        ft_trace_id_new(id);
        ft_store *s = NULL;
        json_t *back = NULL;
        ft_stored_routing r = {0};
        ft_status st = {0};
        ft_test_fail_allocation(k);
        ft_code rc = ft_store_open(&s, folder, 0, &st);
        if (!rc)
            rc = ft_store_put(s, id, trace, &routing, &st);
        if (!rc)
            rc = ft_store_get(s, id, &back, &st);
        if (!rc)
            rc = ft_store_get_routing(s, id, &r, &st);
        worked = !ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (rc != (worked ? FT_OK : FT_ERR_MEM))
            fail_msg("allocation %ld: %s: %s", k, ft_code_name(rc), st.msg);
        assert_true(k > 5 || !worked);
        json_decref(back);
        ft_stored_routing_release(&r);
        ft_store_close(s);
    }
    json_decref(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace_and_its_routing_come_back_bit_for_bit_after_a_restart),
        cmocka_unit_test(a_trace_without_routing_has_none_and_an_unknown_id_is_not_found),
        cmocka_unit_test(ids_are_ordered_by_time_and_stamped_into_the_trace),
        cmocka_unit_test(traces_are_listed_newest_first_in_pages),
        cmocka_unit_test(what_is_not_a_store_of_ours_is_refused_in_one_line),
        cmocka_unit_test(a_store_that_was_killed_while_it_was_made_is_made_anew),
        cmocka_unit_test(a_store_of_a_newer_version_is_refused_with_the_remedy),
        cmocka_unit_test(a_store_cut_anywhere_opens_or_is_refused_but_never_crashes),
        cmocka_unit_test(a_flipped_bit_in_a_trace_is_noticed),
        cmocka_unit_test(a_full_store_says_so_and_keeps_what_it_has),
        cmocka_unit_test(a_killed_writer_loses_nothing_that_was_acknowledged),
        cmocka_unit_test(every_failed_allocation_leaves_the_store_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
