/* infinigram-api's and infini-gram's own faces of the HTTP service. */
#include "tests/ft_test_http.h"

static void attribution_speaks_camel_case_and_hears_both(void **state)
{
    (void)state;
    need_server();
    char body[600];
    snprintf(body, sizeof(body),
             "{\"response\":\"%s.\",\"delimiters\":[\"\\n\",\".\"],\"maximum_frequency\":1000000,"
             "\"maximumSpanDensity\":1,\"minimumSpanLength\":3,\"maximumDocumentsPerSpan\":2}",
             ft_test_scripture);
    json_t *answer = ft_http_json(at, "POST", "/scripture/attribution", body, 200);
    const json_t *span = json_array_get(json_object_get(answer, "spans"), 0);
    /* "In" starts no word: it has no space in front of it. */
    assert_int_equal(json_integer_value(json_object_get(span, "left")), 1);
    assert_int_equal(json_integer_value(json_object_get(span, "count")), 1);
    assert_int_equal(json_integer_value(json_object_get(span, "right")),
                     json_integer_value(json_object_get(span, "length")) + 1);
    const json_t *document = json_array_get(json_object_get(span, "documents"), 0);
    static const char *const fields[] = {"documentIndex",
                                         "documentLength",
                                         "displayLength",
                                         "needleOffset",
                                         "metadata",
                                         "tokenIds",
                                         "text",
                                         "blocked",
                                         "displayLengthLong",
                                         "needleOffsetLong",
                                         "textLong",
                                         "displayOffsetSnippet",
                                         "needleOffsetSnippet",
                                         "textSnippet"};
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        if (!json_object_get(document, fields[i]))
            fail_msg("no %s", fields[i]);
    assert_int_equal(strncmp(text_at(document, "text"), ft_test_scripture, strlen(ft_test_scripture)), 0);
    json_decref(answer);
    json_t *none = ft_http_json(at, "POST", "/dictionary/attribution", body, 200);
    assert_int_equal(json_array_size(json_object_get(none, "spans")), 0);
    json_decref(none);
    json_t *bad =
        ft_http_json(at, "POST", "/scripture/attribution", "{\"response\":\"a\",\"minimumSpanLength\":0}", 422);
    assert_string_equal(text_at(bad, "type"), "request-validation-failed");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(json_array_get(json_object_get(bad, "errors"), 0), "loc"), 1)),
        "minimumSpanLength");
    json_decref(bad);
    static const char *const no_request[] = {"[]", "{\"response\":"};
    for (size_t i = 0; i < 2; i++) {
        bad = ft_http_json(at, "POST", "/scripture/attribution", no_request[i], 422);
        const json_t *where = json_object_get(json_array_get(json_object_get(bad, "errors"), 0), "loc");
        assert_string_equal(json_string_value(json_array_get(where, 0)), "body");
        json_decref(bad);
    }
    json_decref(ft_http_json(at, "POST", "/nobody/attribution", body, 404));
    json_t *names = ft_http_json(at, "GET", "/indexes", NULL, 200);
    assert_int_equal(json_array_size(names), 4);
    json_decref(names);
}

static void documents_are_listed_found_and_read(void **state)
{
    (void)state;
    need_server();
    json_t *page = ft_http_json(at, "GET", "/scripture/documents/?page_size=1&page=1", NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(page, "totalDocuments")), 2);
    assert_int_equal(json_integer_value(json_object_get(page, "pageCount")), 2);
    assert_int_equal(json_array_size(json_object_get(page, "documents")), 1);
    json_decref(page);
    json_t *past = ft_http_json(at, "GET", "/scripture/documents/?page=9", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(past, "documents")), 0);
    json_decref(past);
    json_t *found = ft_http_json(at, "GET", "/scripture/documents/?search=%20without%20form", NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(found, "totalDocuments")), 1);
    json_decref(found);
    json_t *one = ft_http_json(at, "GET", "/scripture/documents/1", NULL, 200);
    assert_non_null(strstr(text_at(one, "text"), "<script>"));
    assert_string_equal(text_at(one, "index"), "scripture");
    json_decref(one);
    json_decref(ft_http_json(at, "GET", "/scripture/documents/2", NULL, 404));
    json_t *two = ft_http_json(at, "GET", "/test/documents?document_indexes=0&document_indexes=3", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(two, "documents")), 2);
    json_decref(two);
    json_t *count = ft_http_json(at, "GET", "/test/count?query=%20the%20earth", NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(count, "count")), 3);
    json_decref(count);
}

static int64_t ask(const char *body, const char *field)
{
    json_t *answer = ft_http_json(at, "POST", "/", body, 200);
    if (!json_object_get(answer, field))
        fail_msg("%s: %s", body, text_at(answer, "error"));
    assert_non_null(json_object_get(answer, "latency"));
    assert_non_null(json_object_get(answer, "token_ids"));
    assert_non_null(json_object_get(answer, "tokens"));
    const int64_t n = json_integer_value(json_object_get(answer, field));
    json_decref(answer);
    return n;
}

static void infini_gram_questions_are_answered_in_its_own_words(void **state)
{
    (void)state;
    need_server();
    assert_int_equal(ask("{\"index\":\"test\",\"query_type\":\"count\",\"query\":\" the earth\"}", "count"), 3);
    assert_int_equal(
        ask("{\"index\":\"scripture\",\"query_type\":\"count\",\"query\":\" heaven AND  earth OR  sea\"}", "count") > 0,
        1);
    assert_int_equal(ask("{\"index\":\"test\",\"query_type\":\"prob\",\"query\":\" the earth\"}", "cont_cnt"), 3);
    assert_true(ask("{\"index\":\"test\",\"query_type\":\"ntd\",\"query\":\" the\"}", "prompt_cnt") >= 3);
    assert_true(ask("{\"index\":\"test\",\"query_type\":\"infgram_prob\",\"query\":\"zebra crossing the earth\"}",
                    "suffix_len") >= 1);
    assert_true(ask("{\"index\":\"test\",\"query_type\":\"infgram_ntd\",\"query\":\"zebra the\"}", "prompt_cnt") >= 3);
    assert_int_equal(ask("{\"index\":\"test\",\"query_type\":\"find\",\"query\":\" the earth\"}", "cnt"), 3);
    assert_true(ask("{\"index\":\"test\",\"query_type\":\"find_cnf\",\"query\":\" heaven AND  earth\"}", "cnt") > 0);
    assert_true(
        ask("{\"index\":\"test\",\"query_type\":\"search_docs\",\"query\":\" the earth\",\"maxnum\":2}", "cnt") == 3);

    json_t *found =
        ft_http_json(at, "POST", "/", "{\"index\":\"scripture\",\"query_type\":\"find\",\"query\":\" heaven\"}", 200);
    const json_t *segment = json_array_get(json_object_get(found, "segment_by_shard"), 0);
    char body[300];
    snprintf(body, sizeof(body),
             "{\"index\":\"scripture\",\"query_type\":\"get_doc_by_rank\",\"query\":\" heaven\","
             "\"s\":0,\"rank\":%lld,\"max_disp_len\":6}",
             json_integer_value(json_array_get(segment, 0)));
    json_t *document = ft_http_json(at, "POST", "/", body, 200);
    assert_int_equal(json_integer_value(json_object_get(document, "disp_len")), 6);
    const json_t *pieces = json_object_get(document, "spans"), *piece;
    size_t i, marked = 0;
    json_array_foreach(pieces, i, piece) if (json_is_string(json_array_get(piece, 1)))
    {
        marked++;
        assert_string_equal(json_string_value(json_array_get(piece, 0)), " heaven");
    }
    assert_int_equal(marked, 1);
    json_decref(document);
    json_decref(found);

    static const struct {
        const char *body;
        int status;
    } refused[] = {
        {"{\"index\":\"test\",\"query_type\":\"count\"}", 400},
        {"{\"index\":\"test\",\"query_type\":\"count\",\"query\":\"a\",\"query_ids\":[1]}", 400},
        {"{\"index\":\"nobody\",\"query_type\":\"count\",\"query\":\"a\"}", 400},
        {"{\"index\":\"test\",\"query_type\":\"guess\",\"query\":\"a\"}", 400},
        {"{\"index\":\"test\",\"query_type\":\"prob\",\"query\":\"\"}", 200},
        {"{\"index\":\"test\",\"query_type\":\"search_docs\",\"query\":\"a\",\"maxnum\":11}", 200},
        {"{\"index\":\"test\",\"query_type\":\"get_doc_by_rank\",\"s\":99,\"rank\":0}", 200},
        {"{\"index\":\"test\",\"query_type\":\"get_doc_by_rank\",\"s\":0,\"rank\":99999999}", 200},
        {"{\"index\":\"test\",\"query_type\":\"get_doc_by_ptr\",\"s\":0,\"ptr\":99999999}", 200},
        {"{\"index\":\"test\",\"query_type\":\"count\",\"query_ids\":[[]]}", 400},
        {"{\"index\":\"test\",\"query_type\":\"count\",\"query_ids\":[-1]}", 400},
        {"not json", 400},
    };
    for (i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        json_t *answer = ft_http_json(at, "POST", "/", refused[i].body, refused[i].status);
        if (!text_at(answer, "error"))
            fail_msg("%s: no error", refused[i].body);
        json_decref(answer);
    }
}

/* Every byte position in the one document that has them, from a page each. */
static void text_is_found_by_its_bytes_whatever_tokens_hold_them(void **state)
{
    (void)state;
    need_server();
    static const char document[] = "Heaven: the place above. Earth: the place below.", *const wanted = "he";
    size_t places = 0;
    for (const char *p = document; (p = strstr(p, wanted)); p++, places++) {
        char body[200];
        snprintf(body, sizeof(body),
                 "{\"index\":\"dictionary\",\"query_type\":\"find\",\"match\":\"text\",\"query\":\"he\","
                 "\"limit\":1,\"offset\":%zu}",
                 places);
        json_t *page = ft_http_json(at, "POST", "/", body, 200);
        const json_t *one = json_array_get(json_object_get(page, "occurrences"), 0);
        assert_memory_equal(document + json_integer_value(json_object_get(one, "byte")), "he", 2);
        assert_int_equal(json_integer_value(json_object_get(one, "bytes")), 2);
        json_decref(page);
    }
    assert_true(places > 1);
    assert_int_equal(
        ask("{\"index\":\"dictionary\",\"query_type\":\"count\",\"match\":\"text\",\"query\":\"he\"}", "count"),
        places);
    assert_int_equal(ask("{\"index\":\"dictionary\",\"query_type\":\"count\",\"match\":\"text\",\"query\":\"HE\","
                         "\"ignore_case\":true}",
                         "count"),
                     places + 1);
    assert_int_equal(
        ask("{\"index\":\"dictionary\",\"query_type\":\"count\",\"match\":\"text\",\"query\":\"a OR b\"}", "count"), 0);
    json_t *found = ft_http_json(at, "POST", "/",
                                 "{\"index\":\"test\",\"query_type\":\"search_docs\",\"match\":\"text\","
                                 "\"query\":\"lace abo\",\"maxnum\":3}",
                                 200);
    const json_t *shown = json_array_get(json_object_get(found, "documents"), 0), *piece;
    assert_int_equal(json_integer_value(json_object_get(found, "cnt")), 1);
    assert_int_equal(json_integer_value(json_object_get(shown, "byte")), strstr(document, "lace abo") - document);
    size_t i, marked = 0;
    json_array_foreach(json_object_get(shown, "spans"), i, piece) if (json_is_string(json_array_get(piece, 1)))
    {
        marked++;
        assert_non_null(strstr(json_string_value(json_array_get(piece, 0)), "lace abo"));
    }
    assert_int_equal(marked, 1);
    json_decref(found);
    static const char *const refused[] = {
        "{\"index\":\"test\",\"query_type\":\"prob\",\"match\":\"text\",\"query\":\"a\"}",
        "{\"index\":\"test\",\"query_type\":\"count\",\"match\":\"text\",\"query_ids\":[1]}",
        "{\"index\":\"test\",\"query_type\":\"count\",\"match\":\"letters\",\"query\":\"a\"}",
        "{\"index\":\"test\",\"query_type\":\"count\",\"match\":\"text\",\"query\":\"\"}",
        "{\"index\":\"test\",\"query_type\":\"count\",\"ignore_case\":true,\"query\":\"a\"}",
    };
    for (i = 0; i < sizeof(refused) / sizeof(*refused); i++)
        json_decref(ft_http_json(at, "POST", "/", refused[i], 400));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attribution_speaks_camel_case_and_hears_both),
        cmocka_unit_test(documents_are_listed_found_and_read),
        cmocka_unit_test(infini_gram_questions_are_answered_in_its_own_words),
        cmocka_unit_test(text_is_found_by_its_bytes_whatever_tokens_hold_them),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
