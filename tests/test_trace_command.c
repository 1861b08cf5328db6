/* What `flextrace trace` answers: the goldens, errors on their line, indexes without a tokenizer. */
#include "tests/trace_fixture.h"

/* Every golden row through `flextrace trace`, all parameters, on an infini-gram folder and on an index of ours. */
static void check_command(const char *index)
{
    size_t size, answered = 0, i, k;
    char *text = ft_test_read(ft_test_shared("golden/index/attribution.jsonl"), &size), *rest = text, *out, *err;
    char command[10000], input[4096];
    ft_buffer rows = {0};
    json_t *expected = json_array(), *row;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        assert_int_equal(ft_json_parse(&row, line, strlen(line), "row", NULL), FT_OK);
        const json_t *run, *runs = json_object_get(row, "runs");
        if (!strcmp(json_string_value(json_object_get(row, "kind")), "with_separator_id"))
            runs = NULL;
        json_array_foreach(runs, i, run)
        {
            for (k = 0; k < 3; k++) {
                json_t *in = json_copy(json_object_get(run, "params"));
                json_object_set(in, "ids", json_object_get(row, "ids"));
                json_object_set_new(in, "max_documents", json_integer(2));
                json_object_set_new(in, "density", json_real(k ? 0.05 : 0));
                json_object_set_new(in, "rank", json_string(k == 1 ? "length" : "unigram"));
                assert_int_equal(ft_json_write(in, &rows, NULL), FT_OK);
                assert_int_equal(ft_buffer_append(&rows, "\n", 1, NULL), FT_OK);
                json_array_append(expected, json_object_get(run, k == 0   ? "brute_spans"
                                                                 : k == 1 ? "capped_by_length"
                                                                          : "capped_by_unigram_logprob"));
                json_decref(in);
            }
        }
        json_decref(row);
    }
    strcpy(input, ft_test_write("rows.jsonl", rows.data, rows.size));
    snprintf(command, sizeof(command), "$FLEXTRACE trace -i '%s' --bow '%s' < '%s'", index,
             ft_test_shared("tokenizers/dolma2/bow_ids.txt"), input);
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    rest = out;
    for (char *line = strtok_r(out, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), answered++) {
        assert_int_equal(ft_json_parse(&row, line, strlen(line), "answer", NULL), FT_OK);
        const json_t *want = json_array_get(expected, answered), *spans = json_object_get(row, "spans"), *span;
        if (json_array_size(spans) != json_array_size(want))
            fail_msg("answer %zu: %.200s", answered, line);
        json_array_foreach(spans, i, span)
        {
            const json_t *w = json_array_get(want, i);
            assert_int_equal(number(span, "start"), json_integer_value(json_array_get(w, 0)));
            assert_int_equal(number(span, "end"), json_integer_value(json_array_get(w, 1)));
            if (json_array_size(w) > 2)
                assert_int_equal(number(span, "count"), json_integer_value(json_array_get(w, 2)));
        }
        json_decref(row);
    }
    assert_int_equal(answered, 145 * 3);
    json_decref(expected);
    ft_buffer_release(&rows);
    free(text);
    free(out);
    free(err);
}

static void golden_attributions_agree_through_the_command(void **state)
{
    (void)state;
    ft_test_need("golden/index/attribution.jsonl");
    ft_test_need("tokenizers/dolma2/bow_ids.txt");
    check_command(ft_test_shared("golden/index/infinigram-v4-u32"));
}

static void golden_attributions_agree_through_the_command_on_our_own_index(void **state)
{
    (void)state;
    ft_test_need("golden/index/attribution.jsonl");
    ft_test_need("tokenizers/dolma2/tokenizer.json");
    size_t n;
    char *lines = ft_test_read(ft_test_shared("golden/index/corpus.jsonl"), &n), folder[4096];
    ft_index_close(build("dolma", lines, ft_test_shared("tokenizers/dolma2")));
    free(lines);
    strcpy(folder, ft_test_path("dolma"));
    check_command(folder);
}

/* Runs rows against the small federation's indexes; the answer of row i. */
static json_t *answers(const char *options, const char *rows)
{
    char command[20000], input[4096], *out, *err;
    strcpy(input, ft_test_write("in.jsonl", rows, strlen(rows)));
    snprintf(command, sizeof(command), "cd '%s' && $FLEXTRACE trace %s < '%s'", ft_test_folder(), options, input);
    const int code = ft_test_shell(command, &out, &err);
    if (code)
        fail_msg("exit %d: %s", code, err);
    json_t *list = json_array(), *row;
    char *rest = out;
    for (char *line = strtok_r(out, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        assert_int_equal(ft_json_parse(&row, line, strlen(line), "answer", NULL), FT_OK);
        json_array_append_new(list, row);
    }
    free(out);
    free(err);
    return list;
}

static void rows_that_ask_the_impossible_get_an_error_on_their_line(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    json_t *list = answers("-i birds fish", "{\"text\":\"The heron stands in the reeds\"}\n"
                                            "{\"ids\":[1],\"text\":\"x\"}\n"
                                            "{}\n"
                                            "not json\n"
                                            "{\"text\":\"x\",\"rank\":\"shortest\"}\n"
                                            "{\"text\":\"x\",\"density\":2}\n"
                                            "{\"ids\":[-1]}\n"
                                            "{\"text\":5}\n"
                                            "{\"ids\":[99999999],\"max_documents\":3}\n");
    static const char *const said[] = {NULL, "exclude", "missing", "JSON", "rank", "density", "ids", "text", NULL};
    assert_int_equal(json_array_size(list), 9);
    for (size_t i = 0; i < 9; i++) {
        const json_t *row = json_array_get(list, i), *error = json_object_get(row, "error");
        assert_true(!error == !said[i]);
        if (said[i] && !strstr(json_string_value(error), said[i]))
            fail_msg("row %zu: %s", i, json_string_value(error));
    }
    assert_string_equal(json_string_value(at(at(json_array_get(list, 0), "spans", 0), "owners", 0)), "birds");
    json_decref(list);
    close_house(&h);
}

static void an_index_without_tokenizer_needs_word_starts_and_delimiters(void **state)
{
    (void)state;
    fixture_document d = {.ids = {1, 2, 3, 4}, .count = 4};
    ft_index_close(fixture_index("bare", &d, 1, 1));
    ft_test_write("bow.txt", "2\n4\n", 4);
    const char *rows = "{\"ids\":[2,3],\"delim_ids\":[]}\n"
                       "{\"ids\":[2,3],\"enforce_bow\":false}\n"
                       "{\"ids\":[2,3],\"enforce_bow\":false,\"delim_ids\":[]}\n"
                       "{\"text\":\"x\"}\n";
    json_t *list = answers("-i bare", rows);
    assert_non_null(strstr(string(json_array_get(list, 0), "error"), "--bow"));
    assert_non_null(strstr(string(json_array_get(list, 1), "error"), "delim_ids"));
    assert_int_equal(json_array_size(json_object_get(json_array_get(list, 2), "spans")), 1);
    assert_string_equal(json_string_value(at(at(json_array_get(list, 2), "spans", 0), "owners", 0)), "bare");
    assert_non_null(strstr(string(json_array_get(list, 3), "error"), "-t TOK"));
    json_decref(list);
    list = answers("--owner me=bare --bow bow.txt", rows);
    assert_string_equal(json_string_value(at(at(json_array_get(list, 0), "spans", 0), "owners", 0)), "me");
    json_decref(list);
}

static void the_model_adds_shares_and_text_is_drawn_without_colours_in_a_pipe(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    char options[5000], *out, *err;
    snprintf(options, sizeof(options), "-i birds fish -m '%s'", ft_test_source("demo/model"));
    json_t *list = answers(options, "{\"text\":\"the heron stands in the reeds\",\"prompt\":\"I saw that\"}\n");
    const json_t *row = json_array_get(list, 0);
    assert_int_equal(json_array_size(json_object_get(row, "experts")), 6);
    assert_int_equal(json_array_size(json_object_get(at(row, "spans", 0), "shares")), 6);
    assert_true(json_is_object(json_object_get(row, "routing")));
    json_decref(list);
    char command[10000];
    snprintf(command, sizeof(command),
             "cd '%s' && $FLEXTRACE trace -i birds fish --text 'the heron stands in the reeds \x1b[31m\x07'",
             ft_test_folder());
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    assert_null(strchr(out, '\x1b'));
    assert_null(strchr(out, '\x07'));
    assert_non_null(strstr(out, "b1"));
    assert_non_null(strstr(out, "\xC2\xBBheron stands in the reeds\xC2\xAB"));
    for (char *line = out; *line; line += strcspn(line, "\n") + 1)
        assert_true(ft_utf8_count(line, strcspn(line, "\n")) <= 80);
    free(out);
    free(err);
    close_house(&h);
}

static void an_index_of_another_tokenizer_is_refused(void **state)
{
    (void)state;
    ft_test_need("tokenizers/bytebpe-4k/tokenizer.json");
    char *err, command[10000];
    house h;
    open_house(&h, corpora);
    ft_index_close(build("small", "{\"id\":\"x\",\"text\":\"y\"}\n", ft_test_shared("tokenizers/bytebpe-4k")));
    snprintf(command, sizeof(command), "cd '%s' && echo '{}' | $FLEXTRACE trace -i birds small", ft_test_folder());
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    assert_non_null(strstr(err, "another tokenizer"));
    free(err);
    close_house(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_attributions_agree_through_the_command),
        cmocka_unit_test(golden_attributions_agree_through_the_command_on_our_own_index),
        cmocka_unit_test(rows_that_ask_the_impossible_get_an_error_on_their_line),
        cmocka_unit_test(an_index_without_tokenizer_needs_word_starts_and_delimiters),
        cmocka_unit_test(the_model_adds_shares_and_text_is_drawn_without_colours_in_a_pipe),
        cmocka_unit_test(an_index_of_another_tokenizer_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
