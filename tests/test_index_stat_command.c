/* flextrace index stat: the table, the JSON and the page of a corpus that means no good. */
#include "tests/ft_test.h"

#include <jansson.h>

static const char hostile_rows[] =
    "{\"id\":\"<script>alert(1)</script>\",\"text\":\"<script>alert('x')</script> & \\\"so\\\" on\","
    "\"source\":\"\\\"><img src=x onerror=alert(2)>\",\"license\":\"<b>MIT</b>\"}\n"
    "{\"id\":\"</title>\\u001b[31m\",\"text\":\"<script>alert('x')</script> & \\\"so\\\" on\"}\n"
    "{\"id\":\"plain\",\"text\":\"something else\",\"licence\":\"<b>MIT</b>\"}\n";

/* Builds the index of those rows and runs "index stat OPTIONS" on it. */
static int run_stat(const char *options, char **out)
{
    char corpus_path[4096], command[16000];
    snprintf(corpus_path, sizeof(corpus_path), "%s",
             ft_test_write("hostile.jsonl", hostile_rows, strlen(hostile_rows)));
    snprintf(command, sizeof(command),
             "cd '%s' && $FLEXTRACE index build hostile.index --force -t '%s' '%s' >build.log 2>&1 && "
             "$FLEXTRACE index stat hostile.index %s",
             ft_test_folder(), ft_test_source("demo/model"), corpus_path, options);
    return ft_test_shell(command, out, NULL);
}

static json_int_t integer_at(const json_t *object, const char *field)
{
    assert_true(json_is_integer(json_object_get(object, field)));
    return json_integer_value(json_object_get(object, field));
}

static void json_holds_what_the_table_shows(void **state)
{
    (void)state;
    char *out;
    assert_int_equal(run_stat("--json --top 2 --max-n 3", &out), 0);
    json_t *s = json_loads(out, 0, NULL);
    assert_non_null(s);
    assert_int_equal(integer_at(s, "documents"), 3);
    assert_true(json_is_true(json_object_get(s, "deep")));
    const json_t *identical = json_object_get(s, "identical");
    assert_int_equal(integer_at(identical, "surplus_documents"), 1);
    const json_t *example =
        json_array_get(json_object_get(json_array_get(json_object_get(identical, "largest"), 0), "examples"), 0);
    assert_string_equal(json_string_value(json_object_get(example, "id")), "<script>alert(1)</script>");
    const json_t *licences = json_object_get(s, "licences");
    assert_int_equal(integer_at(licences, "distinct"), 1);
    assert_int_equal(integer_at(json_object_get(licences, "none"), "documents"), 1);
    const json_t *licence = json_array_get(json_object_get(licences, "top"), 0);
    assert_string_equal(json_string_value(json_object_get(licence, "value")), "<b>MIT</b>");
    assert_int_equal(integer_at(licence, "documents"), 2);
    const json_t *ngrams = json_object_get(s, "ngrams");
    assert_int_equal(json_array_size(ngrams), 3);
    const json_t *top = json_object_get(json_array_get(ngrams, 2), "top");
    assert_int_equal(json_array_size(top), 2);
    assert_int_equal(json_array_size(json_object_get(json_array_get(top, 0), "ids")), 3);
    assert_true(json_is_string(json_object_get(json_array_get(top, 0), "text")));
    json_decref(s);
    free(out);
    assert_int_equal(run_stat("--json --quick", &out), 0);
    s = json_loads(out, 0, NULL);
    assert_true(json_is_false(json_object_get(s, "deep")));
    assert_null(json_object_get(s, "lengths"));
    json_decref(s);
    free(out);
    assert_int_equal(run_stat("", &out), 0);
    assert_non_null(strstr(out, "documents        3\n"));
    assert_non_null(strstr(out, "2 documents in 1 group;"));
    assert_null(strchr(out, 0x1B)); /* an id cannot drive the terminal */
    free(out);
}

static void the_page_escapes_what_comes_from_the_corpus_and_fetches_nothing(void **state)
{
    (void)state;
    static const char *const never[] = {"<script", "<img", "<b>MIT",  "</title>\x1B", "\"so\"", " src=\"",
                                        " href=",  "url(", "@import", "http:",        "https:"};
    char *out;
    size_t n;
    assert_int_equal(run_stat("--html page.html --max-n 16 --top 1000", &out), 0);
    free(out);
    char *page = ft_test_read(ft_test_path("page.html"), &n);
    assert_non_null(page);
    for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++)
        if (strstr(page, never[i]))
            fail_msg("the page holds %s", never[i]);
    assert_non_null(strstr(page, "&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_non_null(strstr(page, "&lt;b&gt;MIT&lt;/b&gt;"));
    assert_non_null(strstr(page, "default-src 'none'"));
    ft_test_tags_close(page, 1);
    free(page);
}

static void what_stat_is_asked_wrongly_it_refuses(void **state)
{
    (void)state;
    static const char *const wrong[] = {"--quick --html x", "--quick --top 3", "--top 0",     "--top 1001",
                                        "--max-n 17",       "--memory none",   "other.index", "--nothing"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_int_equal(run_stat(wrong[i], NULL), 2);
    assert_int_equal(run_stat("--html /nowhere/page.html", NULL), 3);
    assert_int_equal(ft_test_shell("$FLEXTRACE index stat --help | grep -q near-duplicate", NULL, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_holds_what_the_table_shows),
        cmocka_unit_test(the_page_escapes_what_comes_from_the_corpus_and_fetches_nothing),
        cmocka_unit_test(what_stat_is_asked_wrongly_it_refuses),
    };
    return cmocka_run_group_tests_name("index_stat_command", tests, NULL, NULL);
}
