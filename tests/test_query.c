/* flextrace index build | query | stat | verify, as a user types them. */
#include "tests/query_fixture.h"

#include "base/ft_file.h"

enum { SEPARATOR = UINT32_MAX };

static int holds_separator(const json_t *ids)
{
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (json_integer_value(json_array_get(ids, i)) == SEPARATOR)
            return 1;
    return 0;
}

static json_t *op_of(const char *op, const json_t *ids)
{
    return json_pack("{s:s,s:O}", "op", op, "ids", ids);
}

static void check_distribution(const json_t *want, const json_t *got, size_t row)
{
    const json_t *dist = json_object_get(want, "dist"), *by_id = json_object_get(got, "result_by_token_id");
    assert_same(want, got, "prompt_cnt", row);
    assert_int_equal(json_object_size(by_id), json_integer_value(json_object_get(want, "distinct")));
    assert_true(json_is_false(json_object_get(got, "approx")));
    for (size_t i = 0; i < json_array_size(dist); i++) {
        char id[20];
        snprintf(id, sizeof(id), "%lld", json_integer_value(json_array_get(json_array_get(dist, i), 0)));
        const json_t *entry = json_object_get(by_id, id);
        assert_int_equal(json_integer_value(json_object_get(entry, "cont_cnt")),
                         json_integer_value(json_array_get(json_array_get(dist, i), 1)));
    }
}

/* All golden queries on one command line. `segments`: the golden field of the ranges, or NULL. */
static void check_queries(const char *arguments, const char *segments)
{
    static const char *const ops[] = {"count", "find", "prob", "infgram_prob", "ntd", "infgram_ntd"};
    json_t *golden = read_rows("golden/index/queries.jsonl");
    for (size_t k = 0; k < sizeof(ops) / sizeof(*ops); k++) {
        json_t *rows = json_array();
        for (size_t i = 0; i < json_array_size(golden); i++)
            json_array_append_new(rows, op_of(ops[k], json_object_get(json_array_get(golden, i), "ids")));
        json_t *answers = ask(arguments, rows);
        for (size_t i = 0; i < json_array_size(golden); i++) {
            const json_t *row = json_array_get(golden, i), *got = json_array_get(answers, i);
            const json_t *want = json_object_get(row, ops[k]);
            if (holds_separator(json_object_get(row, "ids"))) {
                if (k == 0)
                    assert_int_equal(json_integer_value(json_object_get(got, "count")), 0);
                continue;
            }
            if (k == 0)
                assert_int_equal(json_integer_value(json_object_get(got, "count")),
                                 json_integer_value(json_object_get(row, "count_brute")));
            if (k == 1) {
                assert_int_equal(json_integer_value(json_object_get(got, "cnt")),
                                 json_integer_value(json_object_get(row, "count_brute")));
                json_t *one = json_pack("[O]", json_object_get(row, "segment"));
                json_t *ranges = json_object_get(row, segments ? segments : "");
                if (segments &&
                    !json_equal(json_object_get(got, "segment_by_shard"), strcmp(segments, "segment") ? ranges : one))
                    fail_msg("row %zu: %s", i, json_dumps(got, 0));
                json_decref(one);
            }
            if ((k == 2 || k == 3) && want) {
                assert_same(want, got, "prob", i);
                assert_same(want, got, "prompt_cnt", i);
                assert_same(want, got, "cont_cnt", i);
            }
            if (k >= 4 && want)
                check_distribution(want, got, i);
            if ((k == 3 || k == 5) && want)
                assert_same(want, got, "suffix_len", i);
        }
        json_decref(answers);
        json_decref(rows);
    }
    json_decref(golden);
}

static void check_cnf(const char *arguments, int pointers)
{
    json_t *golden = read_rows("golden/index/cnf.jsonl"), *rows = json_array();
    for (size_t i = 0; i < json_array_size(golden); i++) {
        json_t *row = json_copy(json_array_get(golden, i));
        json_object_set_new(row, "op", json_string(i % 2 ? "cnf" : "count"));
        json_array_append_new(rows, row);
    }
    json_t *answers = ask(arguments, rows);
    for (size_t i = 0; i < json_array_size(golden); i++) {
        const json_t *want = json_array_get(golden, i), *got = json_array_get(answers, i);
        assert_int_equal(json_integer_value(json_object_get(got, "count")),
                         json_integer_value(json_object_get(want, "count_brute")));
        assert_true(json_is_false(json_object_get(got, "approx")));
        if (i % 2 == 0)
            continue;
        assert_int_equal(json_integer_value(json_object_get(got, "cnt")),
                         json_integer_value(json_object_get(want, "count_brute")));
        if (pointers && json_object_get(want, "ptrs_by_shard") && json_is_true(json_object_get(want, "agree")))
            assert_same(want, got, "ptrs_by_shard", i);
    }
    json_decref(answers);
    json_decref(rows);
    json_decref(golden);
}

static void golden_queries_are_answered_from_infinigram_folders(void **state)
{
    (void)state;
    ft_test_need("golden/index/queries.jsonl");
    char arguments[4200];
    snprintf(arguments, sizeof(arguments), "--eot 100257 %s", folder_of("infinigram-v4-u32"));
    check_queries(arguments, "segment");
    check_cnf(arguments, 1);
    snprintf(arguments, sizeof(arguments), "--eot 100257 --infini-gram 4 %s", folder_of("infinigram-v4-u32-2shards"));
    check_queries(arguments, "segments_2shards");
    snprintf(arguments, sizeof(arguments), "--eot=100257 --infini-gram 5 %s", folder_of("infinigram-v5-u32"));
    check_queries(arguments, NULL);
    check_cnf(arguments, 0);
}

static void golden_documents_are_shown(void **state)
{
    (void)state;
    ft_test_need("golden/index/docs.jsonl");
    static const char *const fields[] = {"doc_ix",   "doc_len",   "disp_len", "needle_offset",
                                         "metadata", "token_ids", "blocked"};
    json_t *golden = read_rows("golden/index/docs.jsonl");
    for (int two = 0; two < 2; two++) {
        json_t *rows = json_array(), *wanted = json_array();
        for (size_t i = 0; i < json_array_size(golden); i++) {
            json_t *row = json_copy(json_array_get(golden, i));
            json_object_set_new(row, "op", json_string("doc"));
            if (!json_object_get(row, "index") == !two) {
                json_array_append(rows, row);
                json_array_append(wanted, json_object_get(row, "result"));
            }
            json_decref(row);
        }
        json_t *answers = ask(folder_of(two ? "infinigram-v4-u32-2shards" : "infinigram-v4-u32"), rows);
        assert_true(json_array_size(answers) > 50);
        for (size_t i = 0; i < json_array_size(answers); i++)
            for (size_t f = 0; f < sizeof(fields) / sizeof(*fields); f++)
                assert_same(json_array_get(wanted, i), json_array_get(answers, i), fields[f], i);
        json_decref(answers);
        json_decref(rows);
        json_decref(wanted);
    }
    json_decref(golden);
}

static void an_index_built_from_text_answers_the_golden_queries(void **state)
{
    (void)state;
    ft_test_need("golden/index/queries.jsonl");
    ft_test_need("tokenizers/dolma2/tokenizer.json");
    char command[9000], folder[4096];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("own"));
    snprintf(command, sizeof(command), "$FLEXTRACE index build %s -t %s --threads 2 --owner Ann --json %s", folder,
             ft_test_shared("tokenizers/dolma2"), ft_test_shared("golden/index/corpus.jsonl"));
    shell_ok(command);
    snprintf(command, sizeof(command), "$FLEXTRACE index verify %s", folder);
    shell_ok(command);
    check_queries(folder, NULL);
    check_cnf(folder, 0);
    /* The same documents, under the numbers of the lines. */
    json_t *golden = read_rows("golden/index/docs.jsonl"), *rows = json_array(), *wanted = json_array();
    json_t *corpus = read_rows("golden/index/corpus.jsonl");
    for (size_t i = 0; i < json_array_size(golden); i++) {
        const json_t *row = json_array_get(golden, i);
        if (strcmp(json_string_value(json_object_get(row, "call")), "get_doc_by_ix") != 0 ||
            json_object_get(row, "index"))
            continue;
        json_array_append_new(rows, json_pack("{s:s,s:O,s:O}", "op", "doc", "ix", json_object_get(row, "doc_ix"),
                                              "max_disp_len", json_object_get(row, "max_disp_len")));
        json_array_append(wanted, json_object_get(row, "result"));
    }
    json_t *answers = ask(folder, rows);
    for (size_t i = 0; i < json_array_size(answers); i++) {
        const json_t *got = json_array_get(answers, i), *want = json_array_get(wanted, i);
        const json_t *document = json_array_get(corpus, (size_t)json_integer_value(json_object_get(want, "doc_ix")));
        assert_same(want, got, "token_ids", i);
        assert_same(want, got, "doc_len", i);
        assert_same(document, got, "id", i);
    }
    json_decref(golden);
    json_decref(rows);
    json_decref(wanted);
    json_decref(corpus);
    json_decref(answers);
}

/* --- Our own tokenizer and small corpora ------------------------------------------------ */

static const char corpus[] = "{\"id\":\"a\",\"text\":\"the cat sat on the mat\",\"year\":1910}\n"
                             "{\"id\":\"b\",\"text\":\"the cat ran\"}\n"
                             "{\"id\":\"c\",\"text\":\"\"}\n";

static void text_questions_use_the_copy_of_the_tokenizer(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    assert_int_equal(build("small", "--owner Ann", corpus, NULL, NULL), 0);
    char folder[4096];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("small"));
    json_t *got = ask_one(folder, "{\"op\":\"count\",\"text\":\" cat\"}");
    assert_int_equal(json_integer_value(json_object_get(got, "count")), 2);
    json_decref(got);
    /* A NUL is a character, not the end. */
    got = ask_one(folder, "{\"op\":\"count\",\"text\":\" cat\\u0000\"}");
    assert_int_equal(json_integer_value(json_object_get(got, "count")), 0);
    json_decref(got);
    got = ask_one(folder, "{\"op\":\"cnf\",\"cnf\":[[\" cat\\u0000\"]]}");
    assert_int_equal(json_integer_value(json_object_get(got, "count")), 0);
    json_decref(got);
    got = ask_one(folder, "{\"op\":\"docs\",\"text\":\" mat\",\"max_ctx_len\":100}");
    const json_t *document = json_array_get(json_object_get(got, "documents"), 0);
    assert_string_equal(json_string_value(json_object_get(document, "text")), "the cat sat on the mat");
    assert_string_equal(json_string_value(json_object_get(document, "id")), "a");
    assert_string_equal(json_string_value(json_object_get(document, "owner")), "Ann");
    assert_string_equal(json_string_value(json_object_get(document, "metadata")), "{\"year\":1910}");
    json_t *spans = row_of("{\"spans\":[[\"the cat sat on the\",null],[\" mat\",\"0\"]]}");
    assert_same(spans, document, "spans", 0);
    json_decref(spans);
    json_decref(got);
    got = ask_one(folder, "{\"op\":\"cnf\",\"cnf\":[[\" cat\"],[\" mat\",\" ran\"]]}");
    assert_int_equal(json_integer_value(json_object_get(got, "cnt")), 2);
    json_decref(got);
    char twice[9000];
    snprintf(twice, sizeof(twice), "%s %s", folder, folder);
    got = ask_one(twice, "{\"op\":\"count\",\"text\":\" cat\"}");
    assert_int_equal(json_integer_value(json_object_get(got, "count")), 4);
    json_decref(got);
    got = ask_one(twice, "{\"op\":\"doc\",\"ix\":4}");
    assert_string_equal(json_string_value(json_object_get(got, "text")), "the cat ran");
    json_decref(got);
}

static void a_question_that_cannot_be_answered_gets_an_error_on_its_line(void **state)
{
    (void)state;
    ft_test_need("golden/index/queries.jsonl");
    char command[9000], *out, *err;
    static const char questions[] = "{\"op\":\"count\"}\n"
                                    "not json\n"
                                    "{\"op\":\"fly\",\"ids\":[]}\n"
                                    "{\"op\":\"count\",\"text\":\"a\"}\n"
                                    "{\"op\":\"prob\",\"ids\":[]}\n"
                                    "{\"op\":\"count\",\"ids\":[-1]}\n"
                                    "{\"op\":\"doc\",\"rank\":61777}\n"
                                    "{\"op\":\"doc\",\"rank\":61778}\n"
                                    "{\"op\":\"doc\",\"ptr\":3}\n"
                                    "{\"op\":\"doc\",\"s\":1,\"rank\":3}\n"
                                    "{\"op\":\"doc\",\"ix\":77}\n"
                                    "{\"op\":\"doc\"}\n"
                                    "{\"op\":\"cnf\",\"cnf\":[]}\n"
                                    "{\"op\":\"cnf\",\"cnf\":[[[]]]}\n"
                                    "{\"op\":\"cnf\",\"cnf\":[[3]]}\n"
                                    "{\"op\":\"docs\",\"ids\":[11],\"maxnum\":0}\n"
                                    "{\"ids\":[1]}\n"
                                    "{\"op\":\"count\",\"ids\":[]}\n";
    const char *file = ft_test_write("questions", questions, strlen(questions));
    snprintf(command, sizeof(command), "$FLEXTRACE index query %s < %s", folder_of("infinigram-v4-u32"), file);
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    json_t *answers = parse_rows(out, strlen(out));
    const size_t n = json_array_size(answers);
    assert_int_equal(n, 18);
    for (size_t i = 0; i + 1 < n; i++)
        if (!json_object_get(json_array_get(answers, i), "error"))
            fail_msg("row %zu: %s", i, json_dumps(json_array_get(answers, i), 0));
    assert_int_equal(json_integer_value(json_object_get(json_array_get(answers, n - 1), "count")), 61778);
    /* A row is told by its number alone. */
    assert_string_equal(json_string_value(json_object_get(json_array_get(answers, 1), "error")),
                        "line 2: column 3: not valid JSON: invalid token near 'not'");
    json_decref(answers);
    free(out);
    free(err);
}

static void bad_corpora_stop_the_build_or_are_passed_over(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    static const char bad[] = "{\"id\":\"a\",\"text\":\"fine\"}\n{\"id\":\"b\"\n{\"id\":\"c\",\"text\":\"fine too\"}\n";
    char *out, *err;
    assert_int_equal(build("bad", "", bad, &out, &err), 3);
    assert_non_null(strstr(err, "small.jsonl:2"));
    assert_false(ft_path_exists(ft_test_path("bad")));
    assert_false(ft_path_exists(ft_test_path("bad.building")));
    free(out);
    free(err);
    assert_int_equal(build("bad", "--skip-bad --json", bad, &out, &err), 0);
    json_t *summary = row_of(out);
    assert_int_equal(json_integer_value(json_object_get(summary, "documents")), 2);
    assert_int_equal(json_integer_value(json_object_get(summary, "bad_documents")), 1);
    assert_non_null(strstr(err, "small.jsonl:2"));
    json_decref(summary);
    free(out);
    free(err);
    assert_int_equal(build("none", "", "", &out, &err), 3);
    assert_non_null(strstr(err, "no document"));
    assert_false(ft_path_exists(ft_test_path("none")));
    free(out);
    free(err);
}

static void usage_errors_exit_2_and_name_a_remedy(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    char *out, *err, command[9000];
    assert_int_equal(build("used", "", corpus, NULL, NULL), 0);
    assert_int_equal(build("used", "", corpus, &out, &err), 2);
    assert_non_null(strstr(err, "--force"));
    free(out);
    free(err);
    assert_int_equal(build("used", "--force", corpus, NULL, NULL), 0);
    assert_int_equal(build("tight", "--memory 1M", corpus, &out, &err), 2);
    assert_non_null(strstr(err, "give at least"));
    free(out);
    free(err);
    static const char *const usage[] = {"index",          "index fly",
                                        "index build",    "index build x -t y",
                                        "index query",    "index query --infini-gram 6 x",
                                        "index stat a b", "index verify"};
    for (size_t i = 0; i < sizeof(usage) / sizeof(*usage); i++) {
        snprintf(command, sizeof(command), "$FLEXTRACE %s </dev/null", usage[i]);
        assert_int_equal(ft_test_shell(command, NULL, NULL), 2);
    }
    assert_int_equal(ft_test_shell("$FLEXTRACE index stat /nowhere", NULL, NULL), 3);
    static const char *const helped[] = {"", "build", "query", "stat", "verify"};
    for (size_t i = 0; i < sizeof(helped) / sizeof(*helped); i++) {
        snprintf(command, sizeof(command), "$FLEXTRACE index %s --help", helped[i]);
        assert_int_equal(ft_test_shell(command, &out, &err), 0);
        assert_non_null(strstr(out, "Example"));
        assert_string_equal(err, "");
        free(out);
        free(err);
    }
}

static void output_that_does_not_arrive_is_a_failure_of_the_system(void **state)
{
    (void)state;
    static const char *const said[] = {"--help", "version", "trace --help"};
    for (size_t i = 0; i < 3; i++) {
        char command[200], *err;
        snprintf(command, sizeof(command), "$FLEXTRACE %s > /dev/full", said[i]);
        assert_int_equal(ft_test_shell(command, NULL, &err), 4);
        assert_string_equal(err, "flextrace: standard output: No space left on device\n");
        free(err);
    }
}

static void verify_exits_1_and_names_the_first_fault(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    char command[9000], path[4200], *out, *err;
    size_t n;
    assert_int_equal(build("flawed", "", corpus, NULL, NULL), 0);
    snprintf(path, sizeof(path), "%s/segment-000001/tokens", ft_test_path("flawed"));
    char *bytes = ft_test_read(path, &n);
    bytes[4096] ^= 4;
    ft_test_write(path, bytes, n);
    snprintf(command, sizeof(command), "$FLEXTRACE index verify %s", ft_test_path("flawed"));
    assert_int_equal(ft_test_shell(command, &out, &err), 1);
    assert_non_null(strstr(err, "segment-000001/tokens: byte 4096"));
    free(out);
    free(err);
    snprintf(command, sizeof(command), "$FLEXTRACE index verify %s --sample 10", ft_test_path("flawed"));
    assert_int_equal(ft_test_shell(command, NULL, NULL), 1);
    bytes[4096] ^= 4;
    ft_test_write(path, bytes, n);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    snprintf(command, sizeof(command), "$FLEXTRACE index verify %s --sample 0", ft_test_path("flawed"));
    assert_int_equal(ft_test_shell(command, NULL, NULL), 2);
    free(bytes);
}

static void a_small_memory_spills_runs_and_gives_the_same_bytes(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    ft_buffer text = {0};
    ft_status st;
    char *out, *err, command[9000], folder[4096], more[100];
    for (unsigned i = 0; i < 12000; i++)
        assert_ok(ft_buffer_printf(&text, &st, "{\"id\":\"d%u\",\"text\":\"%s %u %s\",\"note\":\"%0200u\"}\n", i,
                                   "the quick brown fox jumps over the lazy dog and", i,
                                   "goes home to sleep until the morning comes", i),
                  st);
    /* As little as the command takes. */
    assert_int_equal(build("tight", "--threads 2 --memory 1M", text.data, NULL, &err), 2);
    snprintf(more, sizeof(more), "--threads 2 --json --memory %dM", atoi(strstr(err, "at least ") + 9));
    free(err);
    assert_int_equal(build("tight", more, text.data, &out, NULL), 0);
    json_t *summary = row_of(out);
    assert_int_equal(json_integer_value(json_object_get(summary, "segments")), 1);
    assert_true(json_integer_value(json_object_get(summary, "runs")) > 2);
    assert_int_equal(json_integer_value(json_object_get(summary, "documents")), 12000);
    json_decref(summary);
    free(out);
    assert_int_equal(build("roomy", "--threads 1 --json", text.data, &out, NULL), 0);
    summary = row_of(out);
    assert_int_equal(json_integer_value(json_object_get(summary, "runs")), 0);
    json_decref(summary);
    free(out);
    snprintf(folder, sizeof(folder), "%s", ft_test_path("tight"));
    snprintf(command, sizeof(command), "diff -r %s %s", folder, ft_test_path("roomy"));
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    json_t *got = ask_one(folder, "{\"op\":\"count\",\"text\":\" lazy dog\"}");
    assert_int_equal(json_integer_value(json_object_get(got, "count")), 12000);
    json_decref(got);
    got = ask_one(folder, "{\"op\":\"doc\",\"ix\":11999}");
    assert_string_equal(json_string_value(json_object_get(got, "id")), "d11999");
    json_decref(got);
    ft_buffer_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_queries_are_answered_from_infinigram_folders),
        cmocka_unit_test(golden_documents_are_shown),
        cmocka_unit_test(an_index_built_from_text_answers_the_golden_queries),
        cmocka_unit_test(text_questions_use_the_copy_of_the_tokenizer),
        cmocka_unit_test(a_question_that_cannot_be_answered_gets_an_error_on_its_line),
        cmocka_unit_test(bad_corpora_stop_the_build_or_are_passed_over),
        cmocka_unit_test(usage_errors_exit_2_and_name_a_remedy),
        cmocka_unit_test(output_that_does_not_arrive_is_a_failure_of_the_system),
        cmocka_unit_test(verify_exits_1_and_names_the_first_fault),
        cmocka_unit_test(a_small_memory_spills_runs_and_gives_the_same_bytes),
    };
    return cmocka_run_group_tests_name("query", tests, NULL, NULL);
}
