/* flextrace index query: what stands as text, pages, and windows by bytes. */
#include "tests/query_fixture.h"

#include <strings.h>

static size_t count_plainly(const json_t *documents, const char *query, int ignore_case)
{
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(documents); i++) {
        const json_t *text = json_object_get(json_array_get(documents, i), "text");
        const char *p = json_string_value(text);
        for (size_t at = 0; at < json_string_length(text); at++)
            count += ignore_case ? strncasecmp(p + at, query, strlen(query)) == 0
                                 : strncmp(p + at, query, strlen(query)) == 0;
    }
    return count;
}

static const char *const typed[] = {"the",
                                    " the",
                                    "THE",
                                    "the ",
                                    "e",
                                    "k",
                                    " ",
                                    "heaven and the earth",
                                    "And God said",
                                    "and god said",
                                    "od sai",
                                    "in the beginning",
                                    "elephant",
                                    "ing",
                                    "..",
                                    "  ",
                                    "\n",
                                    "é",
                                    "Dieu",
                                    "ö",
                                    "United States",
                                    "nited state",
                                    "zqx",
                                    "for ever and ever",
                                    "thou art",
                                    "o be, or not to b",
                                    "1",
                                    "I",
                                    "ii"};
enum { TYPED = sizeof(typed) / sizeof(*typed) };

static void check_text_counts(const char *arguments, const json_t *documents)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < 2 * TYPED; i++)
        json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:b}", "op", "count", "match", "text", "text", typed[i / 2],
                                              "ignore_case", (int)(i & 1)));
    json_t *answers = ask(arguments, rows);
    for (size_t i = 0; i < 2 * TYPED; i++) {
        const json_t *got = json_array_get(answers, i);
        const size_t want = count_plainly(documents, typed[i / 2], (int)(i & 1));
        if ((size_t)json_integer_value(json_object_get(got, "count")) != want ||
            !json_is_false(json_object_get(got, "approx")))
            fail_msg("%s: '%s' stands %zu times: %s", arguments, typed[i / 2], want, json_dumps(got, 0));
    }
    json_decref(answers);
    json_decref(rows);
}

/* Every place that is listed, against the document's text; a place is listed once. */
static void check_text_places(const char *folder, const json_t *documents, const char *query)
{
    json_t *rows = json_pack("[{s:s,s:s,s:s,s:i}]", "op", "find", "match", "text", "text", query, "limit", 10000);
    json_t *answers = ask(folder, rows), *seen = json_object();
    const json_t *list = json_object_get(json_array_get(answers, 0), "occurrences");
    assert_int_equal(json_array_size(list), count_plainly(documents, query, 0));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        const json_t *row = json_array_get(documents, (size_t)json_integer_value(json_object_get(o, "doc_ix")));
        const json_int_t byte = json_integer_value(json_object_get(o, "byte"));
        char place[60];
        assert_same(row, o, "id", i);
        assert_memory_equal(json_string_value(json_object_get(row, "text")) + byte, query, strlen(query));
        assert_int_equal(json_integer_value(json_object_get(o, "bytes")), strlen(query));
        snprintf(place, sizeof(place), "%lld/%lld", json_integer_value(json_object_get(o, "doc_ix")), byte);
        assert_null(json_object_get(seen, place));
        json_object_set_new(seen, place, json_true());
    }
    json_decref(seen);
    json_decref(answers);
    json_decref(rows);
}

static void text_is_found_wherever_its_bytes_stand(void **state)
{
    (void)state;
    ft_test_need("golden/index/corpus.jsonl");
    ft_test_need("tokenizers/dolma2/tokenizer.json");
    static const char *const grams[] = {"4 ", "infinigram-v4-u32", "4 ", "infinigram-v4-u32-2shards",
                                        "5 ", "infinigram-v5-u32", "4 ", "infinigram-v4-u8"};
    char command[9000], folder[4096];
    json_t *documents = read_rows("golden/index/corpus.jsonl");
    snprintf(folder, sizeof(folder), "%s", ft_test_path("text"));
    snprintf(command, sizeof(command), "$FLEXTRACE index build %s -t %s %s", folder,
             ft_test_shared("tokenizers/dolma2"), ft_test_shared("golden/index/corpus.jsonl"));
    shell_ok(command);
    check_text_counts(folder, documents);
    for (size_t i = 0; i < TYPED; i++)
        if (count_plainly(documents, typed[i], 0) <= 10000)
            check_text_places(folder, documents, typed[i]);
    for (size_t i = 0; i < 8; i += 2) {
        snprintf(command, sizeof(command), "-t %s --infini-gram %s %s", ft_test_shared("tokenizers/dolma2"), grams[i],
                 folder_of(grams[i + 1]));
        check_text_counts(command, documents);
    }
    check_text_counts(folder_of("infinigram-v4-u8"), documents); /* a byte needs no tokenizer */
    json_decref(documents);
}

/* The lists of all pages, one after another, are the list of a large page. */
static void check_pages(const char *folder, const char *op, const char *list, const char *match)
{
    json_t *row = json_pack("{s:s,s:s,s:s,s:i}", "op", op, "text", " cat", "match", match, "limit", 1000);
    json_t *rows = json_pack("[O]", row), *whole = ask(folder, rows);
    const json_t *all = json_object_get(json_array_get(whole, 0), list);
    assert_true(json_is_false(json_object_get(json_array_get(whole, 0), "has_more")));
    assert_true(json_is_null(json_object_get(json_array_get(whole, 0), "next_offset")));
    assert_int_equal(json_array_size(all), 7);
    json_object_set_new(row, "limit", json_integer(3));
    json_t *joined = json_array();
    for (int page = 0; page < 3; page++) {
        json_t *answers = ask(folder, rows), *got = json_array_get(answers, 0);
        json_array_extend(joined, json_object_get(got, list));
        assert_int_equal(json_integer_value(json_object_get(got, "cnt")), 7);
        assert_int_equal(json_is_true(json_object_get(got, "has_more")), page < 2);
        json_object_set(row, "offset", json_object_get(got, "next_offset"));
        json_decref(answers);
    }
    assert_true(json_equal(joined, all));
    json_object_set_new(row, "offset", json_integer(7));
    json_t *behind = ask(folder, rows);
    assert_int_equal(json_array_size(json_object_get(json_array_get(behind, 0), list)), 0);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(behind, 0), "cnt")), 7);
    assert_true(json_is_false(json_object_get(json_array_get(behind, 0), "has_more")));
    json_decref(behind);
    json_decref(joined);
    json_decref(whole);
    json_decref(rows);
    json_decref(row);
}

static void find_and_docs_page(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    static const char cats[] = "{\"id\":\"a\",\"text\":\"the cat saw a cat and a cat\"}\n"
                               "{\"id\":\"b\",\"text\":\"a cat, the cat, cat\"}\n{\"id\":\"c\",\"text\":\"one cat\"}\n";
    char folder[4096];
    assert_int_equal(build("cats", "--force", cats, NULL, NULL), 0);
    snprintf(folder, sizeof(folder), "%s", ft_test_path("cats"));
    check_pages(folder, "find", "occurrences", "tokens");
    check_pages(folder, "find", "occurrences", "text");
    check_pages(folder, "docs", "documents", "tokens");
    check_pages(folder, "docs", "documents", "text");
    /* Ranks alone, unless a page is asked for. */
    json_t *got = ask_one(folder, "{\"op\":\"find\",\"text\":\" cat\"}");
    assert_null(json_object_get(got, "occurrences"));
    json_decref(got);
    got = ask_one(folder, "{\"op\":\"find\",\"text\":\" cat\",\"limit\":1,\"offset\":6}");
    const json_t *o = json_array_get(json_object_get(got, "occurrences"), 0);
    json_t *row =
        json_pack("{s:s,s:O,s:O}", "op", "doc", "s", json_object_get(o, "s"), "ptr", json_object_get(o, "ptr"));
    json_t *rows = json_pack("[o]", row), *shown = ask(folder, rows);
    assert_same(json_array_get(shown, 0), o, "doc_ix", 0);
    assert_int_equal(json_integer_value(json_object_get(o, "token")),
                     json_integer_value(json_object_get(json_array_get(shown, 0), "needle_offset")));
    json_decref(shown);
    json_decref(rows);
    json_decref(got);
}

static void a_text_is_shown_by_its_bytes(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    char folder[4096];
    static const char text[] = "{\"id\":\"a\",\"text\":\"on the Straße, the \\u212Aat SAT on\"}\n";
    assert_int_equal(build("shown", "--force", text, NULL, NULL), 0);
    snprintf(folder, sizeof(folder), "%s", ft_test_path("shown"));
    json_t *got =
        ask_one(folder, "{\"op\":\"docs\",\"match\":\"text\",\"text\":\"E, THE KAT s\",\"ignore_case\":true}");
    const json_t *one = json_array_get(json_object_get(got, "documents"), 0);
    json_t *want = row_of("{\"spans\":[[\"on the Straß\",null],[\"e, the \u212Aat S\",\"0\"],[\"AT on\",null]],"
                          "\"byte\":13,\"bytes\":14,\"id\":\"a\"}");
    assert_same(want, one, "spans", 0);
    assert_same(want, one, "byte", 0);
    assert_same(want, one, "bytes", 0);
    assert_same(want, one, "id", 0);
    json_decref(want);
    json_decref(got);
}

static void the_leading_space_may_be_there_or_not(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    char folder[4096];
    static const char text[] = "{\"id\":\"a\",\"text\":\"cat and cat, a cat\\ncat\"}\n";
    assert_int_equal(build("spaces", "--force", text, NULL, NULL), 0);
    snprintf(folder, sizeof(folder), "%s", ft_test_path("spaces"));
    static const char *const matches[] = {"tokens", "text"}, *const texts[] = {"cat", " cat"};
    for (size_t i = 0; i < 4; i++) {
        char question[200];
        snprintf(question, sizeof(question),
                 "{\"op\":\"count\",\"text\":\"%s\",\"match\":\"%s\",\"leading_space\":\"both\"}", texts[i / 2],
                 matches[i % 2]);
        json_t *got = ask_one(folder, question);
        assert_int_equal(json_integer_value(json_object_get(got, "count")), 4);
        assert_int_equal(json_integer_value(json_object_get(got, "with_space")), 2);
        assert_int_equal(json_integer_value(json_object_get(got, "without_space")), 2);
        json_decref(got);
    }
}

static void a_text_question_that_makes_no_sense_is_an_error(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    static const char *const questions[] = {
        "{\"op\":\"count\",\"match\":\"text\",\"text\":\"\"}",
        "{\"op\":\"count\",\"match\":\"text\"}",
        "{\"op\":\"count\",\"match\":\"text\",\"ids\":[5],\"text\":\"a\"}",
        "{\"op\":\"count\",\"match\":\"words\",\"text\":\"a\"}",
        "{\"op\":\"count\",\"match\":5,\"text\":\"a\"}",
        "{\"op\":\"count\",\"ignore_case\":true,\"text\":\"a\"}",
        "{\"op\":\"count\",\"match\":\"text\",\"ignore_case\":1,\"text\":\"a\"}",
        "{\"op\":\"prob\",\"match\":\"text\",\"text\":\"a\"}",
        "{\"op\":\"find\",\"leading_space\":\"both\",\"text\":\"a\"}",
        "{\"op\":\"count\",\"leading_space\":\"some\",\"text\":\"a\"}",
        "{\"op\":\"count\",\"leading_space\":\"both\",\"text\":\" \"}",
        "{\"op\":\"count\",\"leading_space\":\"both\",\"ids\":[5]}",
        "{\"op\":\"find\",\"match\":\"text\",\"text\":\"a\",\"limit\":10001}",
        "{\"op\":\"find\",\"match\":\"text\",\"text\":\"a\",\"offset\":-1}",
        "{\"op\":\"docs\",\"match\":\"text\",\"text\":\"a\",\"maxnum\":0}",
    };
    json_t *rows = json_array();
    for (size_t i = 0; i < sizeof(questions) / sizeof(*questions); i++)
        json_array_append_new(rows, row_of(questions[i]));
    assert_int_equal(build("senseless", "--force", "{\"id\":\"a\",\"text\":\"a\"}\n", NULL, NULL), 0);
    json_t *answers = ask(ft_test_path("senseless"), rows);
    for (size_t i = 0; i < json_array_size(answers); i++)
        if (!json_object_get(json_array_get(answers, i), "error"))
            fail_msg("%s: %s", questions[i], json_dumps(json_array_get(answers, i), 0));
    json_decref(answers);
    json_decref(rows);
}

/* What is between "```KIND\n" and the next fence, from *at on; NULL behind the last. */
static char *next_block(const char *page, const char *kind, size_t *at, size_t *n)
{
    char fence[20];
    snprintf(fence, sizeof(fence), "```%s\n", kind);
    const char *from = strstr(page + *at, fence);
    if (!from)
        return NULL;
    from += strlen(fence);
    const char *to = strstr(from, "```");
    *n = (size_t)(to - from);
    *at = (size_t)(to - page) + 3;
    return strndup(from, *n);
}

/* Numbers are the same to ten digits. */
static int alike(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *value;
    if (json_is_number(a) && json_is_number(b)) {
        const double difference = json_number_value(a) - json_number_value(b);
        return difference < 1e-10 && difference > -1e-10;
    }
    if (!b || json_typeof(a) != json_typeof(b))
        return 0;
    if (json_is_object(a)) {
        int same = json_object_size(a) == json_object_size(b);
        json_object_foreach((json_t *)(uintptr_t)a, key, value) same = same && alike(value, json_object_get(b, key));
        return same;
    }
    for (size_t i = 0; i < json_array_size(a); i++)
        if (!alike(json_array_get(a, i), json_array_get(b, i)))
            return 0;
    return json_is_array(a) ? json_array_size(a) == json_array_size(b) : json_equal(a, b);
}

static void the_manual_s_examples_are_answered_as_it_says(void **state)
{
    (void)state;
    char command[9000], folder[4096], *block, *page = ft_test_read(ft_test_source("docs/index-queries.md"), NULL);
    size_t at = 0, n = 0, examples = 0;
    assert_non_null(page);
    assert_non_null(block = next_block(page, "jsonl", &at, &n));
    snprintf(folder, sizeof(folder), "%s", ft_test_path("harbour.index"));
    snprintf(command, sizeof(command), "$FLEXTRACE index build %s -t %s --owner harbour %s", folder,
             ft_test_source("demo/model"), ft_test_write("harbour.jsonl", block, n));
    shell_ok(command);
    free(block);
    json_t *rows = json_array(), *wanted = json_array();
    for (at = 0; (block = next_block(page, "json", &at, &n)); examples++, free(block)) {
        json_error_t e;
        json_t *row = json_loadb(block, n, JSON_DISABLE_EOF_CHECK, &e);
        assert_non_null(row);
        json_t *want = json_loadb(block + e.position, n - (size_t)e.position, 0, &e);
        assert_non_null(want);
        json_array_append_new(rows, row);
        json_array_append_new(wanted, want);
    }
    json_t *answers = ask(folder, rows);
    for (size_t i = 0; i < examples; i++)
        if (!alike(json_array_get(wanted, i), json_array_get(answers, i)))
            fail_msg("%s: the manual says %s, not %s", json_dumps(json_array_get(rows, i), 0),
                     json_dumps(json_array_get(wanted, i), 0), json_dumps(json_array_get(answers, i), 0));
    assert_true(examples >= 18);
    json_decref(answers);
    json_decref(rows);
    json_decref(wanted);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_found_wherever_its_bytes_stand),
        cmocka_unit_test(find_and_docs_page),
        cmocka_unit_test(a_text_is_shown_by_its_bytes),
        cmocka_unit_test(the_leading_space_may_be_there_or_not),
        cmocka_unit_test(a_text_question_that_makes_no_sense_is_an_error),
        cmocka_unit_test(the_manual_s_examples_are_answered_as_it_says),
    };
    return cmocka_run_group_tests_name("query_text", tests, NULL, NULL);
}
