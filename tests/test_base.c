/* What base/ promises: status, buffers, files, .npy, UTF-8, digests, threads. */
#include "tests/ft_test.h"

#include "base/ft_arena.h"
#include "base/ft_beside.h"
#include "base/ft_digest.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "base/ft_random.h"
#include "base/ft_threads.h"
#include "base/ft_utf8.h"

#include <math.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

static void a_message_is_one_line_whatever_is_printed_into_it(void **state)
{
    (void)state;
    ft_status st = {0};
    assert_int_equal(ft_fail(&st, FT_ERR_FORMAT, "%s: bad", "a\nb\x1b[31m"), FT_ERR_FORMAT);
    assert_string_equal(st.msg, "a?b?[31m: bad");
    ft_status_prefix(&st, "line %d", 3);
    assert_string_equal(st.msg, "line 3: a?b?[31m: bad");
}

static void a_buffer_refuses_to_pass_its_ceiling_and_keeps_its_content(void **state)
{
    (void)state;
    ft_buffer b;
    ft_buffer_init(&b, 10);
    assert_int_equal(ft_buffer_append(&b, "12345678", 8, NULL), FT_OK);
    assert_int_equal(ft_buffer_append(&b, "abc", 3, NULL), FT_ERR_LIMIT);
    assert_string_equal(b.data, "12345678");
    ft_buffer_release(&b);
}

static void an_arena_refuses_overflow_and_its_ceiling(void **state)
{
    (void)state;
    ft_arena *a;
    assert_int_equal(ft_arena_new(&a, 1000, NULL), FT_OK);
    assert_null(ft_arena_array(a, SIZE_MAX, 2));
    assert_null(ft_arena_array(a, 1001, 1));
    assert_non_null(ft_arena_array(a, 900, 1));
    ft_arena_reset(a);
    assert_non_null(ft_arena_array(a, 900, 1));
    ft_arena_free(a);
}

static void an_abandoned_file_leaves_nothing_and_a_committed_one_appears_whole(void **state)
{
    (void)state;
    const char *path = ft_test_path("written");
    ft_file_writer w;
    assert_int_equal(ft_file_writer_open(&w, path, NULL), FT_OK);
    assert_int_equal(ft_file_writer_put(&w, "abc", 3, NULL), FT_OK);
    assert_false(ft_path_exists(path));
    ft_file_writer_abandon(&w);
    assert_false(ft_path_exists(path));
    assert_int_equal(ft_file_write(path, "whole", 5, NULL), FT_OK);
    char *text = ft_test_read(path, NULL);
    assert_string_equal(text, "whole");
    free(text);
}

static void a_full_disk_is_reported_with_the_path(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_file_writer w;
    assert_ok(ft_file_writer_open(&w, "/dev/full", &st), st);
    char bytes[1 << 16] = {0};
    ft_code rc = FT_OK;
    for (int i = 0; i < 4 && !rc; i++)
        rc = ft_file_writer_put(&w, bytes, sizeof(bytes), &st);
    ft_file_writer_abandon(&w);
    assert_int_equal(rc, FT_ERR_IO);
    assert_non_null(strstr(st.msg, "/dev/full: cannot write: No space left"));
}

static void a_device_is_written_and_never_replaced(void **state)
{
    (void)state;
    ft_status st = {0};
    assert_ok(ft_file_write("/dev/null", "x", 1, &st), st);
    struct stat info;
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
    assert_int_equal(ft_file_write(ft_test_folder(), "x", 1, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "it is a folder"));
}

static void a_link_stays_a_link_when_its_file_is_replaced(void **state)
{
    (void)state;
    ft_status st = {0};
    char link[4096], target[4096];
    snprintf(target, sizeof(target), "%s", ft_test_path("target"));
    snprintf(link, sizeof(link), "%s", ft_test_path("link"));
    assert_ok(ft_file_write(target, "old", 3, &st), st);
    assert_int_equal(symlink(target, link), 0);
    assert_ok(ft_file_write(link, "new", 3, &st), st);
    struct stat info;
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    char *text = ft_test_read(target, NULL);
    assert_string_equal(text, "new");
    free(text);
}

static void another_kind_of_thing_is_told_from_a_failing_system(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_map map;
    ft_buffer text = {0};
    char below[4096];
    snprintf(below, sizeof(below), "%s/below", ft_test_path("file"));
    assert_ok(ft_file_write(ft_test_path("file"), "x", 1, &st), st);
    assert_int_equal(ft_map_open(&map, ft_test_folder(), &st), FT_ERR_FORMAT);
    assert_int_equal(ft_map_open(&map, below, &st), FT_ERR_FORMAT);
    assert_int_equal(ft_file_read(ft_test_folder(), 0, &text, &st), FT_ERR_FORMAT);
    assert_int_equal(ft_file_read(below, 0, &text, &st), FT_ERR_FORMAT);
    assert_int_equal(ft_folder_make(ft_test_path("file"), &st), FT_ERR_FORMAT);
    assert_int_equal(ft_map_open(&map, ft_test_path("absent"), &st), FT_ERR_NOT_FOUND);
    ft_buffer_release(&text);
}

static void npy_arrays_come_back_as_they_were_written(void **state)
{
    (void)state;
    const char *path = ft_test_path("a.npy");
    const float values[6] = {1, 2, 3, 4, 5, 6.5f};
    const size_t shape[2] = {2, 3};
    assert_int_equal(ft_npy_write(path, FT_NPY_FLOAT32, 2, shape, values, NULL), FT_OK);
    ft_npy a;
    ft_status st = {0};
    assert_ok(ft_npy_open(&a, path, &st), st);
    assert_int_equal(a.dims, 2);
    assert_int_equal(a.shape[1], 3);
    assert_memory_equal(a.data, values, sizeof(values));
    ft_npy_close(&a);
}

static void a_lying_npy_header_is_refused(void **state)
{
    (void)state;
    const char *path = ft_test_path("a.npy");
    const int32_t ids[3] = {1, -2, 3};
    const size_t n = 3;
    ft_status st = {0};
    assert_int_equal(ft_npy_write(path, FT_NPY_INT32, 1, &n, ids, NULL), FT_OK);
    uint32_t *read;
    size_t count;
    assert_int_equal(ft_npy_read_ids(path, &read, &count, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "element 1: token id -2 is negative"));
    size_t size;
    char *bytes = ft_test_read(path, &size);
    ft_test_write("short.npy", bytes, size - 1);
    free(bytes);
    assert_int_equal(ft_npy_read_ids(ft_test_path("short.npy"), &read, &count, &st), FT_ERR_FORMAT);
    assert_null(read);
}

static void ill_formed_utf8_becomes_one_replacement_for_each_maximal_subpart(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {{"a\x80z", "a\xEF\xBF\xBDz"},
                {"\xF0\x9F\x98", "\xEF\xBF\xBD"},
                {"\xE0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                {"\xC3\xA9", "\xC3\xA9"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ft_buffer b = {0};
        assert_int_equal(ft_utf8_repair(rows[i].in, strlen(rows[i].in), &b, NULL, NULL), FT_OK);
        assert_string_equal(b.data, rows[i].out);
        ft_buffer_release(&b);
    }
}

static void a_merkle_root_is_that_of_rfc_6962(void **state)
{
    (void)state;
    /* Test vectors of the certificate-transparency reference implementation. */
    static const char *const leaves[] = {"", "\x00", "\x10", " !", "01"};
    static const size_t sizes[] = {0, 1, 1, 2, 2};
    ft_digest h[3];
    char hex[FT_DIGEST_HEX];
    for (int i = 0; i < 3; i++)
        h[i] = ft_merkle_leaf(FT_MERKLE_SHA256, leaves[i], sizes[i]);
    ft_digest root = ft_merkle_root(FT_MERKLE_SHA256, h, 1);
    ft_digest_hex(&root, hex);
    assert_string_equal(hex, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    root = ft_merkle_root(FT_MERKLE_SHA256, h, 2);
    ft_digest_hex(&root, hex);
    assert_string_equal(hex, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    root = ft_merkle_root(FT_MERKLE_SHA256, h, 3);
    ft_digest_hex(&root, hex);
    assert_string_equal(hex, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
}

static void square(void *context, size_t task, unsigned worker)
{
    (void)worker;
    ((size_t *)context)[task] = task * task;
}

static void every_task_of_a_pool_runs_exactly_once(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 4; threads++) {
        ft_pool *p;
        assert_int_equal(ft_pool_new(&p, threads, NULL), FT_OK);
        for (int round = 0; round < 200; round++) {
            size_t results[37] = {0};
            ft_pool_run(p, 37, square, results);
            for (size_t i = 0; i < 37; i++)
                assert_int_equal(results[i], i * i);
        }
        ft_pool_free(p);
    }
}

static void count_task(void *context, size_t task)
{
    atomic_fetch_add((atomic_int *)context + task, 1);
}

/* Whoever takes them; and those that nobody began when it ends are left. */
static void tasks_begun_beside_are_run_once_or_not_at_all(void **state)
{
    (void)state;
    enum { MOST = 200 };
    static atomic_int runs[MOST];
    for (size_t count = 0; count <= MOST; count++)
        for (size_t own = 0; own <= count; own += 1 + count / 3) {
            ft_beside b;
            size_t done = 0, steps = 0;
            memset(runs, 0, sizeof(runs));
            ft_beside_begin(&b, count, count_task, runs);
            while (steps < own && ft_beside_step(&b))
                steps++;
            if (own == count)
                assert_false(ft_beside_step(&b));
            ft_beside_end(&b);
            for (size_t i = 0; i < count; i++) {
                assert_true(runs[i] == 0 || runs[i] == 1);
                done += (size_t)runs[i];
            }
            assert_true(done >= steps && (own < count || done == count));
        }
}

static void json_fields_of_a_wrong_type_are_named(void **state)
{
    (void)state;
    json_t *o;
    ft_status st = {0};
    const char *text = "{\"n\":3.0,\"s\":1,\"nul\":\"a\\u0000b\",\"ids\":[1,-1]}";
    assert_int_equal(ft_json_parse(&o, text, strlen(text), "test", &st), FT_OK);
    int64_t n = 0;
    assert_int_equal(ft_json_get_int(o, "n", 0, 5, &n, &st), FT_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ft_json_get_int(o, "n", 0, 2, &n, &st), FT_ERR_ARG);
    const char *s = NULL;
    assert_int_equal(ft_json_get_string(o, "s", &s, &st), FT_ERR_ARG);
    assert_string_equal(st.msg, "'s' must be a string");
    size_t bytes = 0;
    assert_int_equal(ft_json_get_string(o, "nul", &s, &st), FT_ERR_ARG);
    assert_null(s);
    assert_null(ft_json_name(json_object_get(o, "nul")));
    assert_int_equal(ft_json_get_text(o, "nul", &s, &bytes, &st), FT_OK);
    assert_int_equal(bytes, 3);
    assert_int_equal(ft_json_get_text(o, "s", &s, &bytes, &st), FT_ERR_ARG);
    uint32_t *ids;
    size_t count;
    assert_int_equal(ft_json_get_ids(o, "ids", &ids, &count, &st), FT_ERR_ARG);
    json_decref(o);
}

/* What jansson writes is the standard that ours is held to. */
static void assert_written_as_jansson_does(const json_t *value)
{
    ft_buffer ours = {0};
    char *theirs = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_non_null(theirs);
    assert_int_equal(ft_json_write(value, &ours, NULL), FT_OK);
    assert_string_equal(ours.data, theirs);
    /* The same out of a text without its reals, and these. */
    ft_buffer marked = {0}, reals = {0}, joined = {0};
    assert_int_equal(ft_json_write_apart(value, &marked, &reals, NULL), FT_OK);
    assert_int_equal(ft_json_join(marked.data, marked.size, (const double *)(const void *)reals.data,
                                  reals.size / sizeof(double), &joined, NULL),
                     FT_OK);
    assert_string_equal(joined.data, theirs);
    free(theirs);
    ft_buffer_release(&ours);
    ft_buffer_release(&marked);
    ft_buffer_release(&reals);
    ft_buffer_release(&joined);
}

static void a_text_without_its_reals_goes_with_as_many_of_them(void **state)
{
    (void)state;
    static const double numbers[] = {0.5, -2, 0.1};
    static const char marked[] = "{\"a\":[\1,\1],\"b\":\1,\"c\":\"\\u0001\"}";
    json_t *value = json_pack("{s:[f,f],s:f,s:s}", "a", 0.5, -2.0, "b", 0.1, "c", "\1");
    ft_buffer text = {0}, reals = {0}, out = {0};
    ft_status st = {0};
    assert_int_equal(ft_json_write_apart(value, &text, &reals, NULL), FT_OK);
    assert_string_equal(text.data, marked); /* a character of that number is escaped, as ever */
    assert_int_equal(reals.size, sizeof(numbers));
    assert_memory_equal(reals.data, numbers, sizeof(numbers));
    assert_int_equal(ft_buffer_append_str(&out, "before", NULL), FT_OK);
    assert_int_equal(ft_json_join(text.data, text.size, numbers, 2, &out, &st), FT_ERR_FORMAT);
    assert_string_equal(out.data, "before");
    assert_int_equal(ft_json_join("[1]", 3, numbers, 1, &out, &st), FT_ERR_FORMAT);
    assert_string_equal(out.data, "before");
    assert_int_equal(ft_json_join("", 0, NULL, 0, &out, &st), FT_OK);
    assert_string_equal(out.data, "before");
    assert_int_equal(ft_json_join(text.data, text.size, numbers, 3, &out, &st), FT_OK);
    assert_string_equal(out.data, "before{\"a\":[0.5,-2.0],\"b\":0.10000000000000001,\"c\":\"\\u0001\"}");
    json_decref(value);
    ft_buffer_release(&text);
    ft_buffer_release(&reals);
    ft_buffer_release(&out);
}

static void assert_real_written_as_jansson_does(double x)
{
    json_t *value = json_real(x);
    if (!value) /* not a number, or infinite */
        return;
    assert_written_as_jansson_does(value);
    json_decref(value);
}

static void reals_are_written_with_the_digits_that_printf_gives(void **state)
{
    (void)state;
    static const double some[] = {0,       -0.0,     1,        -1,       0.5,         0.1,         1e-4,
                                  1e-5,    1e15,     1e16,     1e17,     1e100,       1e-300,      5e-324,
                                  1.7e308, 0.3,      2.0 / 3,  1234.5,   99999999.5,  0.099999999, 123456789012345680.0,
                                  1e22,    2.5e-4,   9.5,      9.995e-4, 4503599627370496.5};
    for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++)
        assert_real_written_as_jansson_does(some[i]);
    double power = 1e-6;
    for (int e = -6; e < 19; e++, power *= 10)
        for (int step = -20; step <= 20; step++) { /* the neighbours of each power of ten */
            double x = power;
            for (int k = 0; k < (step < 0 ? -step : step); k++)
                x = nextafter(x, step < 0 ? 0 : INFINITY);
            assert_real_written_as_jansson_does(x);
        }
    ft_random r;
    ft_random_init(&r, 5);
    for (int i = 0; i < 100000; i++) {
        const uint64_t bits = ft_random_below(&r, UINT64_MAX);
        double any;
        memcpy(&any, &bits, sizeof(any));
        assert_real_written_as_jansson_does(any);
        assert_real_written_as_jansson_does(ft_random_unit(&r) * pow(10, (double)ft_random_below(&r, 22) - 5));
        assert_real_written_as_jansson_does((double)(float)ft_random_unit(&r));
        /* ties: few bits behind the point */
        assert_real_written_as_jansson_does((double)ft_random_below(&r, UINT64_C(1) << 53) /
                                            (double)(UINT64_C(1) << ft_random_below(&r, 20)));
    }
}

static void json_of_every_kind_is_written_as_it_was_by_jansson(void **state)
{
    (void)state;
    char all[4 * 0x800], *end = all;
    for (unsigned c = 1; c < 0x800; c++) { /* every character of one and of two bytes */
        if (c >= 0x80)
            *end++ = (char)(0xC0 | c >> 6);
        *end++ = (char)(c < 0x80 ? c : 0x80 | (c & 0x3F));
    }
    json_t *value = json_pack("{s:s%, s:[], s:{}, s:[b,b,n], s:[I,I,i,i], s:{s:{s:[f,[f]]}}, s:s#, s:s}", "all", all,
                              (size_t)(end - all), "none", "nothing", "constants", 1, 0, "integers",
                              (json_int_t)INT64_MIN, (json_int_t)INT64_MAX, 0, -7, "deep", "er", "still", 0.25, 1e300, "zero\tkey", "a\0b", 3,
                              "text", "\xE2\x82\xAC \xF0\x9F\x8E\x89 \"quoted\" /slash\\ \x7F");
    assert_non_null(value);
    assert_written_as_jansson_does(value);
    json_decref(value);
    assert_written_as_jansson_does(json_null());
    json_t *text = json_string("a lone string");
    assert_written_as_jansson_does(text);
    json_decref(text);
}

static void arrays_of_reals_and_other_things_are_written_in_order(void **state)
{
    (void)state;
    static const char *const some[] = {"[0.5]",           "[0.5,1.5]",     "[0.5,2]", "[2,0.5]", "[0.5,[1.5,[],2.5]]",
                                       "[[0.5],[1.5],7]", "[0.5,\"1.5\"]", "[[]]",    "[{\"a\":[0.5,null,0.25]}]"};
    for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++) {
        json_t *value = json_loads(some[i], 0, NULL);
        assert_non_null(value);
        assert_written_as_jansson_does(value);
        json_decref(value);
    }
}

/* One byte that is no plain one, or two, at every place of short strings: eight are looked at together. */
static void every_byte_is_escaped_wherever_it_stands(void **state)
{
    (void)state;
    enum { LONGEST = 20 };
    char text[LONGEST + 1];
    for (unsigned c = 1; c < 0x80; c++)
        for (size_t n = 1; n <= LONGEST; n++)
            for (size_t at = 0; at < n; at++) {
                memset(text, c % 2 ? '!' : '~', n); /* the neighbours of a blank and of DEL */
                text[n] = '\0';
                text[at] = text[n - 1 - at / 2] = (char)c;
                json_t *value = json_string(text);
                assert_written_as_jansson_does(value);
                json_decref(value);
            }
}

/* As many integers of every length, and what lies beside a power of ten. */
static void integers_are_written_with_all_their_digits(void **state)
{
    (void)state;
    json_t *list = json_array();
    json_int_t power = 1;
    for (int digits = 1; digits <= 19; digits++, power *= digits <= 19 ? 10 : 1)
        for (int step = -2; step <= 2; step++) {
            json_array_append_new(list, json_integer(power + step));
            json_array_append_new(list, json_integer(-(power + step)));
            json_array_append_new(list, json_integer(power / 10 * (1 + step)));
        }
    assert_written_as_jansson_does(list);
    json_decref(list);
}

static void what_cannot_be_written_leaves_the_buffer_as_it_was(void **state)
{
    (void)state;
    ft_buffer out;
    ft_buffer_init(&out, 10000);
    assert_int_equal(ft_buffer_append(&out, "before", 6, NULL), FT_OK);
    json_t *ill = json_string_nocheck("\xC3("), *long_one = json_array(), *holder = json_array();
    for (int i = 0; i < 10000; i++)
        json_array_append_new(long_one, json_integer(i));
    json_array_append(holder, long_one);
    json_t *nested = json_array();
    for (int i = 0; i < 3000; i++)
        nested = json_pack("[o]", nested);
    const json_t *all[] = {ill, long_one, holder, nested};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ft_json_write(all[i], &out, NULL), FT_ERR_MEM);
        assert_string_equal(out.data, "before");
    }
    json_decref(ill);
    json_decref(long_one);
    json_decref(holder);
    json_decref(nested);
    ft_buffer_release(&out);
}

/* Leaves that are hashed side by side are those that libsodium gives one by one, about the lengths where a block of 128
 * bytes ends: the leaf's own byte comes before them. */
static void leaves_side_by_side_are_those_one_by_one(void **state)
{
    (void)state;
    enum { COUNT = 11, MOST = 4096 };
    unsigned char *bytes = malloc((size_t)COUNT * MOST);
    for (size_t i = 0; i < (size_t)COUNT * MOST; i++)
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    static const size_t lengths[] = {0, 1, 126, 127, 128, 129, 254, 255, 256, 383, 1000, 4095, MOST};
    for (size_t l = 0; l < sizeof(lengths) / sizeof(*lengths); l++)
        for (unsigned hash = FT_MERKLE_SHA256; hash <= FT_MERKLE_BLAKE2B; hash++) {
            ft_digest got[COUNT];
            ft_merkle_leaves(hash, bytes, lengths[l], COUNT, got);
            for (size_t i = 0; i < COUNT; i++) {
                const ft_digest want = ft_merkle_leaf(hash, bytes + i * lengths[l], lengths[l]);
                assert_memory_equal(&got[i], &want, sizeof(want));
            }
        }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_side_by_side_are_those_one_by_one),
        cmocka_unit_test(a_message_is_one_line_whatever_is_printed_into_it),
        cmocka_unit_test(a_buffer_refuses_to_pass_its_ceiling_and_keeps_its_content),
        cmocka_unit_test(an_arena_refuses_overflow_and_its_ceiling),
        cmocka_unit_test(an_abandoned_file_leaves_nothing_and_a_committed_one_appears_whole),
        cmocka_unit_test(a_full_disk_is_reported_with_the_path),
        cmocka_unit_test(a_device_is_written_and_never_replaced),
        cmocka_unit_test(a_link_stays_a_link_when_its_file_is_replaced),
        cmocka_unit_test(another_kind_of_thing_is_told_from_a_failing_system),
        cmocka_unit_test(npy_arrays_come_back_as_they_were_written),
        cmocka_unit_test(a_lying_npy_header_is_refused),
        cmocka_unit_test(ill_formed_utf8_becomes_one_replacement_for_each_maximal_subpart),
        cmocka_unit_test(a_merkle_root_is_that_of_rfc_6962),
        cmocka_unit_test(every_task_of_a_pool_runs_exactly_once),
        cmocka_unit_test(tasks_begun_beside_are_run_once_or_not_at_all),
        cmocka_unit_test(json_fields_of_a_wrong_type_are_named),
        cmocka_unit_test(reals_are_written_with_the_digits_that_printf_gives),
        cmocka_unit_test(json_of_every_kind_is_written_as_it_was_by_jansson),
        cmocka_unit_test(a_text_without_its_reals_goes_with_as_many_of_them),
        cmocka_unit_test(arrays_of_reals_and_other_things_are_written_in_order),
        cmocka_unit_test(every_byte_is_escaped_wherever_it_stands),
        cmocka_unit_test(integers_are_written_with_all_their_digits),
        cmocka_unit_test(what_cannot_be_written_leaves_the_buffer_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
