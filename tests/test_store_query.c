/* What tracer/ft_store.h promises of questions: they agree with a plain scan, page by page, whatever is written. */
#include "tests/store_fixture.h"

#include <pthread.h>

enum { TRACES = 400, FIRST_MS = 1700000000, STEP_MS = 977 };

static json_t *made[TRACES];
static char made_ids[TRACES][FT_TRACE_ID];
static ft_store *store;

/* Some of what JSON escapes, and what an escape looks like; no piece but the last two stands in any prompt. */
static const char *const pieces[] = {
    "a",       "b",   "\"", "\\", "\n", "u00e9", "\xC3\xA9", "\xF0\x9F\x99\x82", "\x01", "},", "\"response\":{",
    " prompt", "text"};
static const char *const models[] = {"demo", "demo-2", "Demo"};

static void random_text(ft_random *r, size_t count, char *out, size_t room)
{
    for (*out = '\0'; count > 0; count--)
        strncat(out, pieces[ft_random_below(r, sizeof(pieces) / sizeof(*pieces))], room - strlen(out) - 1);
}

/* A model (or none) and a text of its own for each; now and then the trace has no text, as where nothing was answered.
 */
static void give_texts(ft_random *r, json_t *trace)
{
    char text[400];
    random_text(r, ft_random_below(r, 30), text, sizeof(text));
    json_object_set_new(trace, "model",
                        ft_random_below(r, 12) ? json_string(models[ft_random_below(r, 3)]) : json_null());
    json_object_set_new(json_object_get(trace, "response"), "text",
                        ft_random_below(r, 20) ? json_string(text) : json_null());
}

/* Either, both or none of model and text beside what fixture_filter asks; `text` is room. */
static void ask_inside(ft_random *r, ft_store_filter *f, char text[100])
{
    if (ft_random_below(r, 2))
        f->model = models[ft_random_below(r, 3)];
    if (ft_random_below(r, 2)) {
        random_text(r, 1 + ft_random_below(r, 3), text, 100);
        f->text = text;
    }
}

static int make_store(void **state)
{
    (void)state;
    ft_random r, texts;
    ft_random_init(&r, 11);
    ft_random_init(&texts, 12);
    store = fixture_open(ft_test_path("query"));
    for (unsigned i = 0; i < TRACES; i++) {
        fixture_id(made_ids[i], FIRST_MS * UINT64_C(1000) + i * STEP_MS, i);
        made[i] = fixture_trace(&r, made_ids[i]);
        give_texts(&texts, made[i]);
        if (ft_store_put(store, made_ids[i], made[i], NULL, NULL) != FT_OK)
            return 1;
    }
    return 0;
}

static int drop_store(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TRACES; i++)
        json_decref(made[i]);
    ft_store_close(store);
    return 0;
}

/* --- Pages, against a scan ------------------------------------------------------------------------------ */

static size_t count_by_scan(const ft_store_filter *f)
{
    size_t n = 0;
    for (size_t i = 0; i < TRACES; i++)
        n += (size_t)fixture_fits(made[i], made_ids[i], f);
    return n;
}

/* Every filter, asked page by page in either direction, gives the traces of a scan, in order, each once; and each page
 * the number of all. A fifth asks for nothing but model and text. */
static void pages_agree_with_a_scan_for_random_filters(void **state)
{
    (void)state;
    ft_random r, also;
    ft_random_init(&r, 5);
    ft_random_init(&also, 15);
    size_t found = 0, found_inside[4] = {0};
    for (int round = 0; round < 1200; round++) {
        char document[32], text[100], after[FT_TRACE_ID] = "";
        ft_store_filter f =
            fixture_filter(&r, document, FIRST_MS * UINT64_C(1000), FIRST_MS * UINT64_C(1000) + TRACES * STEP_MS);
        if (round % 5 == 0)
            f = ft_store_filter_all();
        if (round >= 600)
            ask_inside(&also, &f, text);
        const int inside = (f.model != NULL) + 2 * (f.text != NULL);
        ft_store_page page = {.limit = 1 + ft_random_below(&r, 30), .ascending = round % 2, .total = round % 3 == 0};
        const size_t all = count_by_scan(&f);
        size_t at = page.ascending ? 0 : TRACES;
        for (int more = 1; more;) {
            ft_store_rows rows;
            ft_status st;
            page.after = after[0] ? after : NULL;
            assert_ok(ft_store_query(store, &f, &page, &rows, &st), st);
            for (size_t i = 0; i < json_array_size(rows.list); i++) {
                size_t want = page.ascending ? at : at - 1;
                while (!fixture_fits(made[want], made_ids[want], &f))
                    want += page.ascending ? 1 : (size_t)-1;
                assert_true(want < TRACES);
                assert_string_equal(json_string_value(json_object_get(json_array_get(rows.list, i), "id")),
                                    made_ids[want]);
                at = page.ascending ? want + 1 : want;
                found++;
                found_inside[inside]++;
            }
            assert_int_equal(rows.total, page.total ? all : 0);
            assert_false(rows.at_least);
            assert_true(rows.more || json_array_size(rows.list) <= page.limit);
            strcpy(after, rows.last);
            more = rows.more;
            json_decref(rows.list);
        }
        for (size_t i = page.ascending ? at : 0; i < (page.ascending ? TRACES : at); i++)
            assert_false(fixture_fits(made[i], made_ids[i], &f));
    }
    assert_true(found > 5000);
    for (int i = 0; i < 4; i++)
        assert_true(found_inside[i] > 500);
}

static json_t *ask_for_text(ft_store *s, const char *text)
{
    ft_store_filter f = ft_store_filter_all();
    ft_store_rows rows;
    ft_status st;
    const ft_store_page page = {.limit = 100};
    f.text = text;
    assert_ok(ft_store_query(s, &f, &page, &rows, &st), st);
    return rows.list;
}

/* A trace is found by what its response says now, never by its prompt, its spans or what it said before. */
static void a_text_is_looked_for_in_the_response_as_it_is_now(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 31);
    ft_store *s = fixture_open(ft_test_path("redacted"));
    json_t *t = fixture_trace(&r, made_ids[0]), *list;
    assert_int_equal(ft_store_put(s, made_ids[0], t, NULL, NULL), FT_OK);
    static const struct {
        const char *text;
        size_t before, after;
    } asks[] = {{"an answer with words", 1, 0},
                {"words", 1, 0},
                {"an answer", 1, 1},
                {"Answer", 0, 0},
                {"a prompt", 0, 0},
                {"local", 0, 0},
                {"*****", 0, 1}};
    for (size_t i = 0; i < sizeof(asks) / sizeof(*asks); i++) {
        assert_int_equal(json_array_size(list = ask_for_text(s, asks[i].text)), asks[i].before);
        json_decref(list);
    }
    json_object_set_new(json_object_get(t, "response"), "text", json_string("an answer with *****"));
    assert_int_equal(ft_store_redact(s, made_ids[0], t, NULL), FT_OK);
    for (size_t i = 0; i < sizeof(asks) / sizeof(*asks); i++) {
        assert_int_equal(json_array_size(list = ask_for_text(s, asks[i].text)), asks[i].after);
        json_decref(list);
    }
    json_decref(t);
    ft_store_close(s);
}

/* Whatever stands before the response, and where there is none. */
static void a_response_is_found_wherever_it_stands_in_a_trace(void **state)
{
    (void)state;
    static const char *const traces[] = {
        ("{\"n\":-1.5e3,\"nothing\":null,\"s\":\"\\\"response\\\":{\\\"text\\\":\\\"trap\\\"}\",\"list\":[[{}],[]],"
         "\"inner\":{\"response\":{\"text\":\"trap\"}},\"response\":{\"ids\":[1],\"text\":\"found\"},\"last\":true}"),
        "{\"response\":{\"text\":\"found\"}}",
        "{\"object\":\"trap\",\"inner\":{\"response\":{\"text\":\"trap\"}}}",
        "{\"response\":null,\"text\":\"trap\"}",
        "{\"response\":\"trap\"}",
        "{}",
    };
    ft_store *s = fixture_open(ft_test_path("shapes"));
    ft_status st;
    for (size_t i = 0; i < sizeof(traces) / sizeof(*traces); i++) {
        json_t *t = json_loads(traces[i], 0, NULL);
        assert_non_null(t);
        assert_ok(ft_store_put(s, made_ids[i], t, NULL, &st), st);
        json_decref(t);
    }
    json_t *list = ask_for_text(s, "found");
    assert_int_equal(json_array_size(list), 2);
    json_decref(list);
    list = ask_for_text(s, "trap");
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
    ft_store_close(s);
}

static void a_text_to_look_for_has_1_to_1000_bytes_of_utf8(void **state)
{
    (void)state;
    char text[1002];
    ft_status st;
    memset(text, 'x', 1001);
    text[1001] = '\0';
    assert_int_equal(ft_filter_text_check(text, &st), FT_ERR_ARG);
    assert_int_equal(ft_filter_text_check(text + 1, NULL), FT_OK);
    assert_int_equal(ft_filter_text_check("", &st), FT_ERR_ARG);
    assert_int_equal(ft_filter_text_check("\xC3\xA9", NULL), FT_OK);
    assert_int_equal(ft_filter_text_check("x\xC3", &st), FT_ERR_ARG); /* half a character */
    assert_non_null(strstr(st.msg, "byte 2"));
}

enum { MANY = 5040, WRITERS = 16 };

static void *write_many(void *context)
{
    char id[FT_TRACE_ID];
    for (int i = 0; i < MANY / WRITERS; i++) {
        json_t *t = json_pack("{s:s,s:{s:s}}", "model", "demo", "response", "text", "a short answer");
        ft_trace_id_new(id);
        if (ft_store_put(context, id, t, NULL, NULL) != FT_OK)
            return context;
        json_decref(t);
    }
    return NULL;
}

static ft_code end_idle(void *context, const char *id, json_t *row, ft_status *st)
{
    (void)row;
    (void)st;
    ++*(int *)context;
    return id ? FT_OK : FT_ERR_CANCELLED;
}

/* Where a count would look into more than one question may, it says that there are at least so many; what needs no
 * looking into is counted all the same. And a walk that finds nothing can be ended. */
static void a_count_beyond_its_ceiling_says_so(void **state)
{
    (void)state;
    pthread_t writers[WRITERS];
    ft_store *s = fixture_open(ft_test_path("many"));
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_many, s), 0);
    for (int i = 0; i < WRITERS; i++) {
        void *failed;
        pthread_join(writers[i], &failed);
        assert_null(failed);
    }
    const ft_store_page page = {.limit = 1, .total = 1};
    ft_store_filter f = ft_store_filter_all();
    ft_store_rows rows;
    for (int i = 0; i < 3; i++) {
        f.model = i > 0 ? "demo" : NULL;
        f.text = i > 1 ? "answer" : NULL;
        assert_int_equal(ft_store_query(s, &f, &page, &rows, NULL), FT_OK);
        assert_int_equal(rows.at_least, i == 2);
        assert_true(i < 2 ? rows.total == MANY : rows.total > MANY - 1000 && rows.total < MANY);
        json_decref(rows.list);
    }
    int asked = 0;
    f.text = "nobody said this";
    assert_int_equal(ft_store_walk_after(s, &f, NULL, 0, end_idle, &asked, NULL), FT_ERR_CANCELLED);
    assert_int_equal(asked, 1);
    assert_int_equal(ft_store_walk(s, &f, 0, end_idle, &asked, NULL), FT_OK);
    assert_int_equal(asked, 1);
    ft_store_close(s);
}

/* The page before a trace is the one that ends just ahead of it. */
static void a_page_before_a_trace_is_the_one_that_leads_to_it(void **state)
{
    (void)state;
    const ft_store_filter all = ft_store_filter_all();
    ft_store_rows rows;
    const ft_store_page page = {.limit = 3, .before = made_ids[10]};
    assert_int_equal(ft_store_query(store, &all, &page, &rows, NULL), FT_OK);
    assert_int_equal(json_array_size(rows.list), 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(json_string_value(json_object_get(json_array_get(rows.list, i), "id")), made_ids[13 - i]);
    assert_string_equal(rows.first, made_ids[13]);
    assert_string_equal(rows.last, made_ids[11]);
    json_decref(rows.list);
    const ft_store_page both = {.limit = 3, .before = made_ids[10], .after = made_ids[9]};
    assert_int_equal(ft_store_query(store, &all, &both, &rows, NULL), FT_ERR_ARG);
    const ft_store_page bad = {.limit = 3, .after = "trc_nothing"};
    ft_status st;
    assert_int_equal(ft_store_query(store, &all, &bad, &rows, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "trc_nothing"));
}

/* A share as a row shows it, asked for as the least one, finds that row: the summary has shares in fewer digits. */
static void the_share_that_a_row_shows_finds_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < TRACES; i += 4)
        for (int e = 0; e < FIXTURE_EXPERTS; e++) {
            ft_store_filter f = ft_store_filter_all();
            ft_store_rows rows;
            f.expert = e;
            f.min_share = json_number_value(
                json_object_get(json_array_get(json_object_get(made[i], "experts"), (size_t)e), "share"));
            f.from_ms = FIRST_MS * UINT64_C(1000) + i * STEP_MS;
            f.to_ms = f.from_ms + 1;
            const ft_store_page page = {.limit = 2};
            assert_int_equal(ft_store_query(store, &f, &page, &rows, NULL), FT_OK);
            assert_int_equal(json_array_size(rows.list), f.min_share > 0);
            json_decref(rows.list);
        }
}

static json_t *ask(const ft_store_filter *f, ft_row_spans spans, ft_buffer *text)
{
    ft_store_rows rows;
    ft_status st;
    const ft_store_page page = {.limit = 40, .spans = spans};
    assert_ok(ft_store_query(store, f, &page, &rows, &st), st);
    ft_buffer_reset(text);
    assert_int_equal(ft_store_rows_write(rows.list, text, NULL), FT_OK);
    return rows.list;
}

/* Spans that are not read show byte for byte what those that are read do; counted and chosen ones are theirs. */
static void spans_of_a_row_are_the_same_whether_they_are_read_or_not(void **state)
{
    (void)state;
    ft_random r;
    ft_buffer read = {0}, shown = {0}, none = {0};
    ft_random_init(&r, 21);
    size_t kept = 0, left_out = 0;
    for (int round = 0; round < 100; round++) {
        char document[32];
        const ft_store_filter f =
            fixture_filter(&r, document, FIRST_MS * UINT64_C(1000), FIRST_MS * UINT64_C(1000) + TRACES * STEP_MS);
        json_t *whole = ask(&f, FT_ROW_SPANS, &read), *text = ask(&f, FT_ROW_SPANS_TEXT, &shown);
        json_t *counts = ask(&f, FT_ROW_SPANS_COUNT, &none), *fit = ask(&f, FT_ROW_SPANS_FIT, &none);
        assert_string_equal(read.data, shown.data);
        for (size_t i = 0; i < json_array_size(whole); i++) {
            const json_t *all = json_object_get(json_array_get(whole, i), "spans"), *span;
            const json_t *some = json_object_get(json_array_get(fit, i), "spans");
            const json_t *trace = made[0];
            size_t k, n = 0;
            for (size_t t = 0; t < TRACES; t++)
                if (!strcmp(made_ids[t], json_string_value(json_object_get(json_array_get(whole, i), "id"))))
                    trace = made[t];
            assert_int_equal(json_integer_value(json_object_get(json_array_get(counts, i), "spans")),
                             json_array_size(all));
            json_array_foreach(all, k, span)
            {
                if (!fixture_span_fits(json_array_get(json_object_get(trace, "spans"), k), &f))
                    continue;
                assert_true(json_equal(json_array_get(some, n), span));
                n++;
            }
            assert_int_equal(json_array_size(some), n);
            kept += n;
            left_out += json_array_size(all) - n;
        }
        json_decref(whole);
        json_decref(text);
        json_decref(counts);
        json_decref(fit);
    }
    assert_true(kept > 500 && left_out > 100);
    ft_buffer_release(&read);
    ft_buffer_release(&shown);
    ft_buffer_release(&none);
}

static void *write_meanwhile(void *context)
{
    ft_random r;
    ft_random_init(&r, 77);
    for (int i = 0; i < 150; i++) {
        char id[FT_TRACE_ID];
        ft_trace_id_new(id);
        json_t *t = fixture_trace(&r, id);
        if (ft_store_put(context, id, t, NULL, NULL) != FT_OK)
            return context;
        json_decref(t);
    }
    return NULL;
}

/* Traces that come while somebody pages stand before the first page or do not show; none shows twice. */
static void paging_misses_and_repeats_nothing_while_others_write(void **state)
{
    (void)state;
    pthread_t writers[3];
    ft_store *s = fixture_open(ft_test_path("concurrent"));
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(ft_store_put(s, made_ids[i], made[i], NULL, NULL), FT_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_meanwhile, s), 0);
    const ft_store_filter all = ft_store_filter_all();
    for (int round = 0; round < 5; round++) {
        char last[FT_TRACE_ID] = "";
        size_t old = 0;
        for (int more = 1; more;) {
            ft_store_rows rows;
            const ft_store_page page = {.limit = 7, .after = last[0] ? last : NULL};
            assert_int_equal(ft_store_query(s, &all, &page, &rows, NULL), FT_OK);
            for (size_t i = 0; i < json_array_size(rows.list); i++) {
                const char *id = json_string_value(json_object_get(json_array_get(rows.list, i), "id"));
                assert_true(!last[0] || strcmp(id, last) < 0);
                strcpy(last, id);
                old += strcmp(id, made_ids[199]) <= 0;
            }
            more = rows.more;
            json_decref(rows.list);
        }
        assert_int_equal(old, 200);
    }
    for (int i = 0; i < 3; i++) {
        void *failed;
        pthread_join(writers[i], &failed);
        assert_null(failed);
    }
    ft_store_sizes sizes;
    assert_int_equal(ft_store_get_sizes(s, &sizes, NULL), FT_OK);
    assert_int_equal(sizes.traces, 650);
    ft_store_close(s);
}

/* What a trace stood under is gone with it, and what replaces it stands under its own. */
static void removed_and_replaced_traces_leave_no_keys(void **state)
{
    (void)state;
    ft_store *s = fixture_open(ft_test_path("replaced"));
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(ft_store_put(s, made_ids[i], made[i], NULL, NULL), FT_OK);
    for (unsigned i = 0; i < 60; i += 3)
        assert_int_equal(ft_store_remove(s, made_ids[i], NULL), FT_OK);
    for (unsigned i = 1; i < 60; i += 3)
        assert_int_equal(ft_store_put(s, made_ids[i], made[i + 100], NULL, NULL), FT_OK);
    assert_int_equal(ft_store_remove(s, made_ids[0], NULL), FT_ERR_NOT_FOUND);
    ft_random r;
    ft_random_init(&r, 6);
    for (int round = 0; round < 100; round++) {
        char document[32];
        ft_store_filter f =
            fixture_filter(&r, document, FIRST_MS * UINT64_C(1000), FIRST_MS * UINT64_C(1000) + TRACES * STEP_MS);
        f.from_ms = f.to_ms = 0;
        ft_store_rows rows;
        const ft_store_page page = {.limit = 100, .ascending = 1};
        assert_int_equal(ft_store_query(s, &f, &page, &rows, NULL), FT_OK);
        size_t n = 0;
        for (unsigned i = 0; i < 60; i++)
            if (i % 3 && fixture_fits(made[i % 3 == 1 ? i + 100 : i], made_ids[i], &f))
                assert_string_equal(json_string_value(json_object_get(json_array_get(rows.list, n++), "id")),
                                    made_ids[i]);
        assert_int_equal(json_array_size(rows.list), n);
        json_decref(rows.list);
    }
    json_t *report;
    assert_int_equal(ft_store_verify(s, NULL, &report, NULL), FT_OK);
    assert_true(json_is_true(json_object_get(report, "good")));
    assert_int_equal(json_integer_value(json_object_get(report, "traces")), 40);
    json_decref(report);
    ft_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_agree_with_a_scan_for_random_filters),
        cmocka_unit_test(a_text_is_looked_for_in_the_response_as_it_is_now),
        cmocka_unit_test(a_response_is_found_wherever_it_stands_in_a_trace),
        cmocka_unit_test(a_text_to_look_for_has_1_to_1000_bytes_of_utf8),
        cmocka_unit_test(a_count_beyond_its_ceiling_says_so),
        cmocka_unit_test(a_page_before_a_trace_is_the_one_that_leads_to_it),
        cmocka_unit_test(the_share_that_a_row_shows_finds_it),
        cmocka_unit_test(spans_of_a_row_are_the_same_whether_they_are_read_or_not),
        cmocka_unit_test(paging_misses_and_repeats_nothing_while_others_write),
        cmocka_unit_test(removed_and_replaced_traces_leave_no_keys),
    };
    return cmocka_run_group_tests(tests, make_store, drop_store);
}
