/* What tracer/ft_store.h promises of keeping: nothing acknowledged is lost, nothing altered passes, what is deleted is
 * gone, and old stores open. */
#include "tests/store_fixture.h"

#include "base/ft_file.h"

#include <fcntl.h>
#include <lmdb.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static ft_random chance;

static void put_some(ft_store *s, unsigned from, unsigned to, uint64_t first_ms)
{
    for (unsigned i = from; i < to; i++) {
        char id[FT_TRACE_ID];
        ft_status st;
        fixture_id(id, first_ms + i * UINT64_C(1000), i);
        json_t *t = fixture_trace(&chance, id);
        assert_ok(ft_store_put(s, id, t, NULL, &st), st);
        json_decref(t);
    }
}

static int is_good(ft_store *s, const ft_store_heads *known, const char *problem)
{
    json_t *report;
    ft_status st;
    assert_ok(ft_store_verify(s, known, &report, &st), st);
    const int good = json_is_true(json_object_get(report, "good"));
    char *text = json_dumps(report, 0);
    if (good == (problem != NULL) || (problem && !strstr(text, problem)))
        fail_msg("wanted '%s' in %s", problem ? problem : "good", text);
    free(text);
    json_decref(report);
    return good;
}

/* --- Routing ------------------------------------------------------------------------------------------ */

typedef struct shape {
    size_t tokens, layers, experts, top_k;
} shape;

static ft_routing random_routing(const shape *z, uint8_t *ids, float *weights, float *probs)
{
    for (size_t p = 0; p < z->tokens * z->layers; p++) {
        float total = 0;
        uint64_t seen = 0;
        for (size_t k = 0; k < z->top_k; k++) {
            uint64_t e;
            do
                e = ft_random_below(&chance, z->experts);
            while (seen >> e & 1);
            seen |= UINT64_C(1) << e;
            ids[p * z->top_k + k] = (uint8_t)e;
            total += weights[p * z->top_k + k] = (float)ft_random_unit(&chance) / (float)(k + 1);
        }
        for (size_t k = 0; k < z->top_k; k++)
            weights[p * z->top_k + k] /= total > 1 ? total : 1;
        for (size_t e = 0; e < z->experts; e++)
            probs[p * z->experts + e] = (float)ft_random_unit(&chance);
    }
    return (ft_routing){z->tokens, z->layers, z->experts, z->top_k, probs, ids, weights};
}

static float weight_of(const ft_routing *r, size_t place, unsigned expert)
{
    for (size_t k = 0; k < r->top_k; k++)
        if (r->expert_ids[place * r->top_k + k] == expert)
            return r->weights[place * r->top_k + k];
    return -1;
}

/* Of few experts, whose sets are looked up in a table, and of many. */
static void a_place_that_names_an_expert_twice_comes_back_in_its_order(void **state)
{
    (void)state;
    static const shape shapes[] = {{50, 3, 6, 2}, {50, 3, 20, 2}};
    enum { PLACES = 150 };
    uint8_t ids[2 * PLACES];
    float weights[2 * PLACES], probs[20 * PLACES];
    ft_status st;
    ft_store *s;
    assert_ok(ft_store_open(&s, ft_test_path("twice"), 0, &st), st);
    for (unsigned k = 0; k < sizeof(shapes) / sizeof(*shapes); k++) {
        ft_stored_routing back;
        char id[FT_TRACE_ID];
        const ft_routing r = random_routing(&shapes[k], ids, weights, probs);
        ids[2 * PLACES - 2] = ids[2 * PLACES - 1] = 3; /* the last: all places before were sets */
        fixture_id(id, 1000, k + 1);
        json_t *t = fixture_trace(&chance, id);
        assert_ok(ft_store_put(s, id, t, &r, &st), st);
        assert_ok(ft_store_get_routing(s, id, &back, &st), st);
        assert_memory_equal(back.view.expert_ids, ids, sizeof(ids));
        for (size_t i = 0; i < 2 * PLACES; i++)
            assert_true(fabsf(back.view.weights[i] - weights[i]) <= 1.0F / 510 + 1e-7F);
        ft_stored_routing_release(&back);
        json_decref(t);
    }
    ft_store_close(s);
}

/* The chosen experts are exact; rounded weights are off by at most 1/510 and take at most 1.5 bytes for each chosen
 * expert; exact ones come back bit for bit, probabilities too. */
static void routing_comes_back_as_its_form_promises_in_the_bytes_it_promises(void **state)
{
    (void)state;
    static const shape shapes[] = {{300, 8, 7, 5},  {300, 8, 6, 2}, {200, 4, 2, 2}, {200, 4, 2, 1}, {100, 3, 64, 8},
                                   {100, 3, 33, 4}, {50, 2, 1, 1},  {0, 3, 6, 2},   {300, 16, 7, 1},
                                   {40, 2, 12, 6},  {40, 2, 13, 6}};
    static const char *const names[] = {"rounded", "exact", "probabilities"};
    for (ft_routing_form form = FT_ROUTING_ROUNDED; form <= FT_ROUTING_PROBABILITIES; form++) {
        char folder[4096];
        ft_status st;
        ft_store *s;
        const ft_store_options o = {.routing = form};
        ft_routing_form read;
        assert_int_equal(ft_routing_form_read(names[form], &read, NULL), FT_OK);
        assert_int_equal(read, form);
        strcpy(folder, ft_test_path(names[form]));
        assert_ok(ft_store_open_with(&s, folder, &o, &st), st);
        for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
            const shape *z = &shapes[i];
            const size_t places = z->tokens * z->layers, n = places * z->top_k, all = places * z->experts;
            uint8_t *ids = malloc(n + 1);
            float *weights = malloc((n + 1) * sizeof(float)), *probs = malloc((all + 1) * sizeof(float));
            const ft_routing r = random_routing(z, ids, weights, probs);
            char id[FT_TRACE_ID];
            ft_buffer bytes = {0};
            ft_stored_routing back;
            fixture_id(id, 1000, (unsigned)i);
            json_t *t = fixture_trace(&chance, id);
            assert_ok(ft_store_put(s, id, t, &r, &st), st);
            assert_ok(ft_store_get_routing(s, id, &back, &st), st);
            assert_ok(ft_store_get_packed(s, id, &bytes, &st), st);
            assert_true(back.view.tokens == z->tokens && back.view.layers == z->layers && back.view.top_k == z->top_k);
            if (form == FT_ROUTING_ROUNDED && z->tokens >= 100 && z->top_k > 1)
                assert_true((double)bytes.size <= 1.5 * (double)n);
            for (size_t p = 0; p < places; p++)
                for (unsigned e = 0; e < z->experts; e++) {
                    const float was = weight_of(&r, p, e), is = weight_of(&back.view, p, e);
                    assert_true((was < 0) == (is < 0));
                    assert_true(fabsf(was - is) <= (form == FT_ROUTING_ROUNDED ? 1.0F / 510 + 1e-7F : 0.0F));
                }
            for (size_t k = 1; k < n; k++)
                assert_true(k % z->top_k == 0 || form || back.view.weights[k] <= back.view.weights[k - 1] + 1);
            if (form == FT_ROUTING_PROBABILITIES)
                assert_memory_equal(back.view.probs, probs, all * sizeof(float));
            else
                assert_null(back.view.probs);
            ft_stored_routing_release(&back);
            ft_buffer_release(&bytes);
            json_decref(t);
            free(ids);
            free(weights);
            free(probs);
        }
        assert_true(is_good(s, NULL, NULL));
        ft_store_close(s);
    }
}

/* --- Tampering ---------------------------------------------------------------------------------------- */

typedef void tamper_fn(MDB_txn *txn, MDB_dbi dbi);

/* Somebody with LMDB's own tools. */
static void tamper(const char *folder, const char *database, tamper_fn *how)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 12), 0);
    assert_int_equal(mdb_env_open(env, folder, 0, 0644), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, database, 0, &dbi), 0);
    how(txn, dbi);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static MDB_val number_key(unsigned char bytes[8], unsigned n)
{
    memset(bytes, 0, 8);
    bytes[7] = (unsigned char)n;
    return (MDB_val){8, bytes};
}

static void remove_third(MDB_txn *txn, MDB_dbi dbi)
{
    unsigned char bytes[8];
    MDB_val key = number_key(bytes, 3);
    assert_int_equal(mdb_del(txn, dbi, &key, NULL), 0);
}

static void alter(MDB_txn *txn, MDB_dbi dbi, unsigned n)
{
    unsigned char bytes[8], copy[1000];
    MDB_val key = number_key(bytes, n), value;
    assert_int_equal(mdb_get(txn, dbi, &key, &value), 0);
    memcpy(copy, value.mv_data, value.mv_size);
    char *at = memmem(copy, value.mv_size, "alice", 5);
    if (at)
        memcpy(at, "bobby", 5);
    else
        copy[40] ^= 1;
    value.mv_data = copy;
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
}

static void alter_third(MDB_txn *txn, MDB_dbi dbi)
{
    alter(txn, dbi, 3);
}

static void alter_last(MDB_txn *txn, MDB_dbi dbi)
{
    alter(txn, dbi, 6);
}

static void remove_last(MDB_txn *txn, MDB_dbi dbi)
{
    unsigned char bytes[8];
    MDB_val key = number_key(bytes, 6);
    assert_int_equal(mdb_del(txn, dbi, &key, NULL), 0);
}

/* The first entry goes. */
static void remove_first(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *c;
    MDB_val key, value;
    assert_int_equal(mdb_cursor_open(txn, dbi, &c), 0);
    assert_int_equal(mdb_cursor_get(c, &key, &value, MDB_FIRST), 0);
    assert_int_equal(mdb_cursor_del(c, 0), 0);
    mdb_cursor_close(c);
}

/* The second takes the first one's value: every checksum is right. */
static void copy_first_over_second(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *c;
    MDB_val key, value, first;
    unsigned char copy[60000];
    assert_int_equal(mdb_cursor_open(txn, dbi, &c), 0);
    assert_int_equal(mdb_cursor_get(c, &key, &first, MDB_FIRST), 0);
    memcpy(copy, first.mv_data, first.mv_size);
    assert_int_equal(mdb_cursor_get(c, &key, &value, MDB_NEXT), 0);
    first.mv_data = copy;
    assert_int_equal(mdb_cursor_put(c, &key, &first, MDB_CURRENT), 0);
    mdb_cursor_close(c);
}

static void what_somebody_removes_or_alters_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *database;
        tamper_fn *how;
        const char *problem;
    } cases[] = {
        {"log", remove_third, "log: line 3 is missing"},
        {"log", alter_third, "log: line 4 does not hold the hash of line 3"},
        {"log", remove_last, "log: its end was cut off: 5 of 6 lines"},
        {"log", alter_last, "log: the last line, 6, was altered"},
        {"ledger", remove_third, "ledger: line 3 is missing"},
        {"ledger", alter_third, "ledger: line 4 does not hold the hash of line 3"},
        {"ledger", remove_last, "ledger: its end was cut off"},
        {"traces", remove_first, "is gone, and no line of the ledger says why"},
        {"traces", copy_first_over_second, "was altered"},
        {"summaries", remove_first, "was altered"},
        {"summaries", copy_first_over_second, "was altered"},
        {"run keys", remove_first, "of its keys are missing"},
        {"run keys", remove_first, "keys: 5 of 6 runs are there"},
        {"runs", remove_first, "keys: some belong to no run"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char folder[4096], name[40];
        snprintf(name, sizeof(name), "tampered %zu", i);
        strcpy(folder, ft_test_path(name));
        ft_store *s = fixture_open(folder);
        put_some(s, 0, 6, 5000000);
        for (int k = 0; k < 6; k++)
            assert_int_equal(ft_store_log(s, "alice", "trace.read", json_pack("{s:i}", "n", k), NULL), FT_OK);
        assert_true(is_good(s, NULL, NULL));
        ft_store_close(s);
        tamper(folder, cases[i].database, cases[i].how);
        assert_int_equal(ft_store_examine(folder, NULL), FT_OK);
        s = fixture_open(folder);
        assert_false(is_good(s, NULL, cases[i].problem));
        ft_store_close(s);
    }
}

/* A store that somebody rolled back to an older copy is whole in itself; heads that were kept elsewhere tell. */
static void an_older_copy_is_told_by_a_head_that_was_kept(void **state)
{
    (void)state;
    char folder[4096], file[4096];
    strcpy(folder, ft_test_path("rolled"));
    strcpy(file, ft_test_path("rolled/data.mdb"));
    ft_store_heads heads;
    ft_store *s = fixture_open(folder);
    assert_int_equal(ft_store_log(s, "alice", "one", NULL, NULL), FT_OK);
    put_some(s, 0, 3, 5000000);
    ft_store_close(s);
    size_t n;
    char *old = ft_test_read(file, &n);
    s = fixture_open(folder);
    assert_int_equal(ft_store_log(s, "alice", "two", NULL, NULL), FT_OK);
    assert_int_equal(ft_store_get_heads(s, &heads, NULL), FT_OK);
    assert_int_equal(heads.log_count, 2);
    assert_true(is_good(s, &heads, NULL));
    assert_int_equal(ft_store_log(s, "alice", "three", NULL, NULL), FT_OK);
    assert_true(is_good(s, &heads, NULL));
    ft_store_close(s);
    ft_test_write(file, old, n);
    free(old);
    s = fixture_open(folder);
    assert_true(is_good(s, NULL, NULL));
    assert_false(is_good(s, &heads, "log: it had 2 lines when its head was kept elsewhere, and has 1"));
    assert_int_equal(ft_store_log(s, "alice", "forged", NULL, NULL), FT_OK);
    assert_false(is_good(s, &heads, "not what it was when its hash was kept elsewhere"));
    ft_store_close(s);
}

/* Whatever bit of the file is flipped: it is refused, or the verification says so, or what lies there is not
 * used; no read goes astray. Each try runs in a child, so that a crash is told. */
static void a_flipped_bit_anywhere_is_refused_or_found_or_harmless(void **state)
{
    (void)state;
    char folder[4096], file[4096];
    strcpy(folder, ft_test_path("bits"));
    strcpy(file, ft_test_path("bits/data.mdb"));
    ft_store *s = fixture_open(folder);
    put_some(s, 0, 40, 5000000);
    for (int k = 0; k < 20; k++)
        assert_int_equal(ft_store_log(s, "alice", "trace.read", NULL, NULL), FT_OK);
    assert_int_equal(ft_store_compact(s, NULL), FT_OK); /* no page is free */
    ft_store_close(s);
    size_t n, found = 0;
    char *whole = ft_test_read(file, &n);
    for (int round = 0; round < 400; round++) {
        const size_t at = round < 40 ? (size_t)round * 5 : ft_random_below(&chance, n);
        whole[at] ^= (char)(1 << round % 8);
        ft_test_write(file, whole, n);
        whole[at] ^= (char)(1 << round % 8);
        unlink(ft_test_path("bits/lock.mdb"));
        const pid_t child = fork();
        if (child == 0) {
            json_t *report = NULL;
            if (ft_store_examine(folder, NULL) != FT_OK || ft_store_open(&s, folder, 0, NULL) != FT_OK ||
                ft_store_verify(s, NULL, &report, NULL) != FT_OK)
                _exit(1);
            _exit(json_is_true(json_object_get(report, "good")) ? 0 : 2);
        }
        int status;
        waitpid(child, &status, 0);
        if (!WIFEXITED(status))
            fail_msg("bit %d of byte %zu: killed by signal %d", round % 8, at, WTERMSIG(status));
        found += WEXITSTATUS(status) != 0;
    }
    free(whole);
    assert_true(found > 40);
}

/* --- Kills, full disks ------------------------------------------------------------------------------------ */

/* The child's threads acknowledge each trace through a pipe; it is killed at any instant. */
static void *write_and_tell(void *context)
{
    int *end = context;
    ft_random r;
    ft_random_init(&r, (uint64_t)getpid());
    ft_store *s = *(ft_store **)(void *)(end + 2);
    for (;;) {
        char id[FT_TRACE_ID];
        ft_trace_id_new(id);
        json_t *t = fixture_trace(&r, id);
        if (ft_store_put(s, id, t, NULL, NULL) != FT_OK || write(*end, id, sizeof(id)) != sizeof(id))
            _exit(1);
        json_decref(t);
    }
}

typedef struct telling {
    int end, pad;
    ft_store *store;
} telling;

static void a_store_killed_at_any_instant_has_all_that_was_acknowledged(void **state)
{
    (void)state;
    char folder[4096];
    strcpy(folder, ft_test_path("killed"));
    size_t acknowledged = 0;
    for (int round = 0; round < 40; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        const pid_t child = fork();
        if (child == 0) {
            pthread_t threads[4];
            telling t = {ends[1], 0, NULL};
            if (ft_store_open(&t.store, folder, 0, NULL) != FT_OK)
                _exit(1);
            for (int i = 0; i < 4; i++)
                if (pthread_create(&threads[i], NULL, write_and_tell, &t) != 0)
                    _exit(1);
            for (;;)
                pause();
        }
        close(ends[1]);
        char id[FT_TRACE_ID];
        const int waited = round % 4 > 0; /* else it may be at its opening */
        if (waited)
            assert_int_equal(read(ends[0], id, sizeof(id)), sizeof(id));
        usleep((useconds_t)ft_random_below(&chance, 20000));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        ft_store *s = fixture_open(folder);
        for (int have = waited; have || read(ends[0], id, sizeof(id)) == (ssize_t)sizeof(id); have = 0) {
            json_t *back;
            ft_status st;
            assert_ok(ft_store_get(s, id, &back, &st), st);
            json_decref(back);
            acknowledged++;
        }
        close(ends[0]);
        assert_true(is_good(s, NULL, NULL));
        ft_store_close(s);
    }
    assert_true(acknowledged >= 30);
}

/* A file that may not grow stands for a disk that is full. */
static void a_full_disk_is_an_error_that_loses_nothing(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("full disk"));
    put_some(s, 0, 20, 5000000);
    ft_store_sizes sizes;
    assert_int_equal(ft_store_get_sizes(s, &sizes, NULL), FT_OK);
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = sizes.file_bytes + 8192;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    ft_code rc = FT_OK;
    ft_status st = {0};
    unsigned kept = 20;
    for (; !rc && kept < 2000; kept++) {
        char id[FT_TRACE_ID];
        fixture_id(id, 5000000 + kept * UINT64_C(1000), kept);
        json_t *t = fixture_trace(&chance, id);
        rc = ft_store_put(s, id, t, NULL, &st);
        json_decref(t);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(rc, FT_ERR_IO);
    assert_non_null(strstr(st.msg, "nothing was written"));
    kept--;
    assert_int_equal(ft_store_get_sizes(s, &sizes, NULL), FT_OK);
    assert_int_equal(sizes.traces, kept);
    put_some(s, kept, kept + 5, 5000000); /* there is room again */
    assert_true(is_good(s, NULL, NULL));
    ft_store_close(s);
}

/* --- Retention, compaction ------------------------------------------------------------------------------ */

static void old_traces_go_by_age_and_by_size_but_never_young_ones(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("retention"));
    const uint64_t first = UINT64_C(1700000000000), now = first + 300 * 1000;
    put_some(s, 0, 300, first);
    size_t deleted;
    ft_store_sizes sizes;
    const ft_retention by_age = {.max_age_ms = 200 * 1000};
    assert_int_equal(ft_store_retain(s, &by_age, now, 30, &deleted, NULL), FT_OK);
    assert_int_equal(deleted, 30);
    assert_int_equal(ft_store_retain(s, &by_age, now, 0, &deleted, NULL), FT_OK);
    assert_int_equal(deleted, 70);
    assert_int_equal(ft_store_get_sizes(s, &sizes, NULL), FT_OK);
    assert_int_equal(sizes.traces, 200);
    const ft_retention by_size = {.max_bytes = 1, .min_age_ms = 50 * 1000};
    assert_int_equal(ft_store_retain(s, &by_size, now, 0, &deleted, NULL), FT_OK);
    char ids[300][FT_TRACE_ID];
    size_t count;
    uint64_t ms;
    assert_int_equal(ft_store_list(s, "", 300, ids, &count, NULL), FT_OK);
    assert_int_equal(count, 50);
    assert_int_equal(ft_trace_id_time(ids[49], &ms), 1);
    assert_true(ms == first + 250 * 1000);
    const ft_retention roomy = {.max_bytes = UINT64_C(1) << 40};
    assert_int_equal(ft_store_retain(s, &roomy, now, 0, &deleted, NULL), FT_OK);
    assert_int_equal(deleted, 0);
    const ft_retention impossible = {.max_age_ms = 5, .min_age_ms = 6};
    assert_int_equal(ft_store_retain(s, &impossible, now, 0, &deleted, NULL), FT_ERR_ARG);
    assert_true(is_good(s, NULL, NULL));
    ft_store_close(s);
}

static size_t occurrences(const char *file, const char *bytes)
{
    size_t n, found = 0;
    char *whole = ft_test_read(file, &n);
    assert_non_null(whole);
    for (char *at = whole; (at = memmem(at, n - (size_t)(at - whole), bytes, strlen(bytes))) != NULL; at++)
        found++;
    free(whole);
    return found;
}

/* A text too random to compress, so that its bytes would be seen. */
static void compaction_leaves_no_byte_of_what_was_redacted(void **state)
{
    (void)state;
    char secret[600], id[FT_TRACE_ID];
    ft_store *s = fixture_open(ft_test_path("compact me"));
    put_some(s, 0, 50, 5000000);
    for (size_t i = 0; i < sizeof(secret) - 1; i++)
        secret[i] = (char)(128 + ft_random_below(&chance, 64)); /* no UTF-8, so never in a trace */
    for (size_t i = 0; i < sizeof(secret) - 1; i++)
        secret[i] = (char)('0' + (secret[i] & 63));
    secret[sizeof(secret) - 1] = '\0';
    for (char *p = secret; *p; p++)
        *p = *p == '\\' || *p == '"' ? '_' : *p;
    fixture_id(id, 5000000, 777);
    json_t *t = fixture_trace(&chance, id);
    json_object_set_new(json_object_get(t, "response"), "text", json_string(secret));
    assert_int_equal(ft_store_put(s, id, t, NULL, NULL), FT_OK);
    secret[40] = '\0'; /* a literal run of the frame */
    json_object_set_new(json_object_get(t, "response"), "text", json_string("[redacted]"));
    assert_int_equal(ft_store_redact(s, id, t, NULL), FT_OK);
    const size_t before = occurrences(ft_test_path("compact me/data.mdb"), secret + 8);
    assert_true((occurrences(ft_test_path("compact me/journal"), secret + 8) != 0) == (before != 0));
    ft_status st;
    assert_ok(ft_store_compact(s, &st), st);
    assert_int_equal(occurrences(ft_test_path("compact me/journal"), secret + 8), 0);
    assert_int_equal(occurrences(ft_test_path("compact me/data.mdb"), secret + 8), 0);
    assert_false(ft_path_exists(ft_test_path("compact me/compact")));
    assert_true(is_good(s, NULL, NULL));
    put_some(s, 50, 60, 5000000); /* the handle goes on */
    ft_store_close(s);
    s = fixture_open(ft_test_path("compact me"));
    assert_true(is_good(s, NULL, NULL));
    ft_store_close(s);
    json_decref(t);
    (void)before; /* whether they lay bare before depends on the compressor */
}

static void a_store_that_another_process_has_open_is_not_exchanged(void **state)
{
    (void)state;
    char folder[4096];
    int ends[2], go[2];
    strcpy(folder, ft_test_path("shared"));
    assert_int_equal(pipe(ends) | pipe(go), 0);
    const pid_t child = fork();
    if (child == 0) {
        ft_store *other;
        char c;
        if (ft_store_open(&other, folder, 0, NULL) != FT_OK || write(ends[1], "x", 1) != 1 || read(go[0], &c, 1) != 1)
            _exit(1);
        ft_store_close(other);
        _exit(0);
    }
    char c;
    int status;
    assert_int_equal(read(ends[0], &c, 1), 1);
    ft_store *s = fixture_open(folder);
    put_some(s, 0, 5, 5000000);
    ft_status st = {0};
    assert_int_equal(ft_store_compact(s, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "another process"));
    assert_int_equal(ft_store_examine(folder, NULL), FT_ERR_LIMIT);
    assert_int_equal(write(go[1], "x", 1), 1);
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_ok(ft_store_compact(s, &st), st);
    put_some(s, 5, 9, 5000000);
    assert_true(is_good(s, NULL, NULL));
    ft_store_close(s);
}

/* --- The schema before ------------------------------------------------------------------------------------- */

/* tests/vectors/store/schema1.mdb was written by flextrace 0.1.0 before there were summaries: five traces, three of
 * them with routing. */
static void a_store_of_the_first_schema_is_brought_over_whole(void **state)
{
    (void)state;
    size_t n, count;
    ft_status st;
    char *old = ft_test_read(ft_test_source("tests/vectors/store/schema1.mdb"), &n);
    assert_non_null(old);
    assert_int_equal(ft_folder_make(ft_test_path("old"), NULL), FT_OK);
    ft_test_write("old/data.mdb", old, n);
    free(old);
    for (int opened = 0; opened < 2; opened++) {
        ft_store *s;
        assert_ok(ft_store_open(&s, ft_test_path("old"), 0, &st), st);
        char ids[10][FT_TRACE_ID];
        assert_int_equal(ft_store_list(s, "", 10, ids, &count, NULL), FT_OK);
        assert_int_equal(count, 5);
        assert_string_equal(ids[4], "trc_01ARZ3NDE00000000000000000");
        for (int i = 0; i < 3; i++) {
            ft_stored_routing r;
            assert_ok(ft_store_get_routing(s, ids[4 - i], &r, &st), st);
            assert_true(r.view.tokens == 6 && r.view.layers == 3 && r.form == FT_ROUTING_EXACT);
            for (int k = 0; k < 36; k += 2)
                assert_true(r.view.weights[k] == 0.5f + 0.01f * (float)(k + i) &&
                            r.view.expert_ids[k] == (i + k / 2) % 4);
            ft_stored_routing_release(&r);
        }
        json_t *t;
        assert_ok(ft_store_get(s, ids[0], &t, &st), st);
        assert_string_equal(json_string_value(json_object_get(json_object_get(t, "response"), "text")),
                            "beginning God created it");
        json_decref(t);
        ft_store_filter f = ft_store_filter_all();
        f.document = "genesis 1";
        f.min_tokens = 3;
        ft_store_rows rows;
        const ft_store_page page = {.limit = 10};
        assert_int_equal(ft_store_query(s, &f, &page, &rows, NULL), FT_OK);
        assert_int_equal(json_array_size(rows.list), 2);
        json_decref(rows.list);
        assert_true(is_good(s, NULL, NULL));
        ft_store_close(s);
    }
}

/* --- The log ------------------------------------------------------------------------------------------------- */

static void the_log_is_read_by_kind_who_and_time_in_pages(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("log"));
    for (int i = 0; i < 700; i++)
        assert_int_equal(ft_store_log(s, i % 3 ? "alice" : "bob", i % 2 ? "compliance.usage" : "trace.read",
                                      json_pack("{s:i}", "n", i), NULL),
                         FT_OK);
    assert_int_equal(ft_store_log(s, "x", "y", json_pack("{s:i}", "seq", 1), NULL), FT_ERR_ARG);
    json_t *lines;
    uint64_t next = 1;
    size_t found = 0;
    while (next) {
        const ft_log_query q = {.from = next, .prefix = "compliance.", .who = "bob", .limit = 10};
        assert_int_equal(ft_store_read_log(s, &q, &lines, &next, NULL), FT_OK);
        for (size_t i = 0; i < json_array_size(lines); i++) {
            const json_int_t k = json_integer_value(json_object_get(json_array_get(lines, i), "n"));
            assert_true(k % 3 == 0 && k % 2 == 1);
            assert_int_equal(json_integer_value(json_object_get(json_array_get(lines, i), "seq")), k + 1);
            found++;
        }
        json_decref(lines);
    }
    assert_int_equal(found, 117);
    const ft_log_query past = {.to_ms = 1000, .limit = 5};
    assert_int_equal(ft_store_read_log(s, &past, &lines, &next, NULL), FT_OK);
    assert_int_equal(json_array_size(lines), 0);
    json_decref(lines);
    ft_store_close(s);
}

int main(void)
{
    ft_random_init(&chance, 3);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_place_that_names_an_expert_twice_comes_back_in_its_order),
        cmocka_unit_test(routing_comes_back_as_its_form_promises_in_the_bytes_it_promises),
        cmocka_unit_test(what_somebody_removes_or_alters_is_found),
        cmocka_unit_test(an_older_copy_is_told_by_a_head_that_was_kept),
        cmocka_unit_test(a_flipped_bit_anywhere_is_refused_or_found_or_harmless),
        cmocka_unit_test(a_store_killed_at_any_instant_has_all_that_was_acknowledged),
        cmocka_unit_test(a_full_disk_is_an_error_that_loses_nothing),
        cmocka_unit_test(old_traces_go_by_age_and_by_size_but_never_young_ones),
        cmocka_unit_test(compaction_leaves_no_byte_of_what_was_redacted),
        cmocka_unit_test(a_store_that_another_process_has_open_is_not_exchanged),
        cmocka_unit_test(a_store_of_the_first_schema_is_brought_over_whole),
        cmocka_unit_test(the_log_is_read_by_kind_who_and_time_in_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
