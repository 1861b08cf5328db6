/* What index/ft_origins.h promises: domain names and dates out of documents' metadata. */
#include "tests/index_fixture.h"

#include "index/ft_origins.h"

/* A corpus of rows as an index of its own; each row's text is one token a word. */
static ft_index *index_of(const char *name, const char *rows)
{
    ft_status st;
    ft_index *ix;
    build_corpus(name, rows);
    assert_ok(ft_index_open(&ix, ft_test_path(name), &st), st);
    return ix;
}

#define ROW(fields) "{\"text\":\"heron\"," fields "}\n"

static ft_origins *read_all(const ft_index *ix, ft_origins_seen *seen)
{
    ft_origins *o;
    ft_status st;
    const ft_origins_options how = {.today = "2026-06-30"};
    assert_ok(ft_origins_new(&o, 1 << 20, &st), st);
    assert_ok(ft_origins_read(o, ix, &how, seen, &st), st);
    return o;
}

static void a_domain_is_the_host_of_what_metadata_name(void **state)
{
    (void)state;
    static const struct {
        const char *row, *domain; /* NULL: none */
    } cases[] = {
        {ROW("\"url\":\"https://www.Example.org:8080/a?b#c\""), "example.org"},
        {ROW("\"URL\":\"http://user:secret@sub.example.org\""), "sub.example.org"},
        {ROW("\"uri\":\"//b.example/x\""), "b.example"},
        {ROW("\"domain\":\"c.example\""), "c.example"},
        {ROW("\"source\":\"ftp://d.example/x\""), "d.example"},
        {ROW("\"source\":\"dict-gcide: page 5\""), NULL}, /* no URL */
        {ROW("\"metadata\":{\"metadata\":{\"url\":\"https://e.example\"}}"), "e.example"},
        {ROW("\"url\":\"localhost/x\""), NULL},
        {ROW("\"url\":\"https://a<b>.example\""), NULL},
        {ROW("\"url\":\"https://www.de\""), "www.de"}, /* what is left would be none */
        {ROW("\"url\":\"https://b\u00fccher.example\""), "b\xC3\xBC"
                                                         "cher.example"},
        {ROW("\"url\":\"https://.example\""), NULL},
        {ROW("\"url\":\"https://f..example\""), NULL},
        {ROW("\"url\":5,\"domain\":\"g.example\""), "g.example"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char name[20];
        snprintf(name, sizeof(name), "domain%zu", i);
        ft_index *ix = index_of(name, cases[i].row);
        ft_origins_seen seen = {0};
        ft_origins *o = read_all(ix, &seen);
        const ft_origins_domains d = ft_origins_list(o);
        if (cases[i].domain ? d.count != 1 || strcmp(d.list[0].text, cases[i].domain) != 0 : d.count != 0)
            fail_msg("%s gives %s", cases[i].row, d.count ? d.list[0].text : "none");
        assert_int_equal(d.none.documents, cases[i].domain ? 0 : 1);
        ft_origins_free(o);
        ft_index_close(ix);
    }
}

static void domains_come_by_the_tokens_that_they_gave(void **state)
{
    (void)state;
    ft_index *ix = index_of("sizes", "{\"text\":\"a\",\"url\":\"http://many.example\"}\n"
                                     "{\"text\":\"a\",\"url\":\"http://many.example/2\"}\n"
                                     "{\"text\":\"a b c d e f g h\",\"url\":\"http://long.example\"}\n"
                                     "{\"text\":\"a b c\"}\n");
    ft_origins_seen seen = {0};
    ft_origins *o = read_all(ix, &seen);
    const ft_origins_domains d = ft_origins_list(o);
    assert_int_equal(seen.read, 4);
    assert_int_equal(d.count, 2);
    assert_string_equal(d.list[0].text, "long.example");
    assert_int_equal(d.list[0].tokens, 8);
    assert_int_equal(d.list[1].documents, 2);
    assert_int_equal(d.none.tokens, 3);
    assert_int_equal(d.rest.documents, 0);
    ft_origins_free(o);
    ft_index_close(ix);
}

static void dates_are_those_of_collecting_and_those_of_making(void **state)
{
    (void)state;
    ft_index *ix = index_of("dates", ROW("\"added\":\"2024-03-01T10:00:00Z\",\"created\":\"1999-12-31\"")
                                         ROW("\"crawl_date\":\"2023-02-03\"") ROW("\"timestamp\":\"2031-01-01\"")
                                             ROW("\"added\":\"2024-13-01\"") ROW("\"added\":\"2024-03-015\"")
                                                 ROW("\"added\":20240301") ROW("\"date\":\"2001-01-01 \""));
    ft_origins_seen seen = {0};
    ft_status st;
    const ft_origins_options how = {.today = "2026-06-30"};
    assert_ok(ft_origins_read(NULL, ix, &how, &seen, &st), st);
    assert_int_equal(seen.read, 7);
    assert_int_equal(seen.collected.documents, 2);
    assert_string_equal(seen.collected.first, "2023-02-03");
    assert_string_equal(seen.collected.last, "2024-03-01");
    assert_int_equal(seen.dated.documents, 2);
    assert_string_equal(seen.dated.first, "1999-12-31");
    assert_string_equal(seen.dated.last, "2001-01-01");
    ft_index_close(ix);
}

static void names_beyond_the_memory_count_together(void **state)
{
    (void)state;
    enum { N = 2000 };
    char *rows = calloc(N, 80), *at = rows;
    for (int i = 0; i < N; i++)
        at += sprintf(at, "{\"text\":\"heron\",\"url\":\"http://n%d.example\"}\n", i);
    ft_index *ix = index_of("many", rows);
    free(rows);
    ft_origins *o;
    ft_origins_seen seen = {0};
    ft_status st;
    assert_ok(ft_origins_new(&o, 10000, &st), st);
    assert_ok(ft_origins_read(o, ix, &(ft_origins_options){0}, &seen, &st), st);
    const ft_origins_domains d = ft_origins_list(o);
    assert_in_range(d.count, 10, 10000 / 64);
    assert_int_equal(d.count + d.rest.documents, N);
    ft_origins_free(o);
    /* Every 7th document, from the first on. */
    assert_ok(ft_origins_new(&o, 1 << 20, &st), st);
    memset(&seen, 0, sizeof(seen));
    assert_ok(ft_origins_read(o, ix, &(ft_origins_options){.step = 7}, &seen, &st), st);
    assert_int_equal(seen.read, (N + 6) / 7);
    assert_int_equal(ft_origins_list(o).count, (N + 6) / 7);
    ft_origins_free(o);
    ft_index_close(ix);
}

static int say_stop(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)context;
    (void)unit;
    assert_string_equal(phase, "metadata");
    assert_true(done <= total);
    return 1;
}

static ft_code attempt(void *context, ft_status *st)
{
    ft_origins *o;
    ft_origins_seen seen = {0};
    ft_code rc = ft_origins_new(&o, 1 << 20, st);
    if (!rc)
        rc = ft_origins_read(o, context, &(ft_origins_options){0}, &seen, st);
    ft_origins_free(o);
    return rc;
}

static void it_stops_when_told_and_reports_what_memory_it_lacks(void **state)
{
    (void)state;
    ft_index *ix = index_of("stop", ROW("\"url\":\"http://a.example\"") ROW("\"url\":\"http://b.example\""));
    ft_origins_seen seen = {0};
    ft_status st;
    const ft_progress stop = {.report = say_stop};
    const ft_origins_options how = {.progress = &stop};
    assert_int_equal(ft_origins_read(NULL, ix, &how, &seen, &st), FT_ERR_CANCELLED);
    ft_test_each_allocation_fails(attempt, ix);
    ft_index_close(ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_domain_is_the_host_of_what_metadata_name),
        cmocka_unit_test(domains_come_by_the_tokens_that_they_gave),
        cmocka_unit_test(dates_are_those_of_collecting_and_those_of_making),
        cmocka_unit_test(names_beyond_the_memory_count_together),
        cmocka_unit_test(it_stops_when_told_and_reports_what_memory_it_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
