/* The edges of the HTTP service: what arrives before a request is whole, what is asked
 * for twice or misspelt, and who makes room when too many connect. */
#include "tests/ft_test_http.h"

#include <unistd.h>

static int open_with_few_connections(void **state)
{
    (void)state;
    static const char more[] = "limits:\n  connections: 8\n";
    if (ft_test_federation(more))
        start_server(more);
    return 0;
}

static ft_reply sent(const char *request)
{
    const int fd = ft_http_connect(at);
    ft_http_send(fd, request, strlen(request));
    return ft_http_read(fd);
}

/* The client waits with its body: what can be told by the head is told at once. */
static void a_refusal_does_not_wait_for_a_body_that_was_only_announced(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
         "Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n",
         413},
        {"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
         "Expect: 100-continue\r\nContent-Length: 20\r\n\r\n",
         415},
        {"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
         "Content-Length: 1000000000000\r\n\r\n{",
         413},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        ft_reply r = sent(cases[i].request);
        assert_int_equal(r.status, cases[i].status);
        ft_reply_release(&r);
    }
}

/* Where a proxy in front could find another host, or another end of the body, than we do, nobody's request is run and
 * nothing is read after it. */
static void a_request_that_can_be_read_in_two_ways_is_refused(void **state)
{
    (void)state;
    need_server();
    static const char *const heads[] = {"Host: elsewhere\r\nContent-Length: 29\r\n",
                                        "Content-Length: 29\r\nContent-Length: 40\r\n",
                                        "Content-Length: 40\r\nContent-Length: 29\r\n",
                                        "Content-Length: 29\r\nTransfer-Encoding: chunked\r\n",
                                        "Transfer-Encoding: gzip\r\n",
                                        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"};
    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        char request[600];
        snprintf(request, sizeof(request),
                 "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s\r\n"
                 "{\"prompt\":\"a\",\"max_tokens\":1}GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 heads[i]);
        ft_reply r = sent(request);
        if (r.status != 400)
            fail_msg("%s: status %d", heads[i], r.status);
        assert_string_equal(ft_reply_header(&r, "Connection"), "close");
        assert_null(strstr(r.body, "HTTP/1.1"));
        ft_reply_release(&r);
    }
}

/* What is packed is told to be, not taken for bad JSON. */
static void a_packed_body_is_another_media_type(void **state)
{
    (void)state;
    need_server();
    static const char body[] = "{\"prompt\":\"a\",\"max_tokens\":1}";
    ft_reply r = ft_http(at, "POST", "/v1/completions", "Content-Encoding: gzip\r\n", body);
    assert_int_equal(r.status, 415);
    assert_non_null(strstr(r.body, "Content-Encoding"));
    ft_reply_release(&r);
    r = ft_http(at, "POST", "/v1/completions", "Content-Encoding: identity\r\n", body);
    assert_int_equal(r.status, 200);
    ft_reply_release(&r);
}

/* Names on the Hub have two segments. */
static void a_model_that_is_not_there_is_told_by_its_code(void **state)
{
    (void)state;
    need_server();
    static const char *const names[] = {"none", "allenai/FlexOlmo", "allenai%2FFlexOlmo"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char path[100];
        snprintf(path, sizeof(path), "/v1/models/%s", names[i]);
        json_t *answer = ft_http_json(at, "GET", path, NULL, 404);
        const json_t *error = json_object_get(answer, "error");
        assert_string_equal(text_at(error, "code"), "model_not_found");
        assert_string_equal(text_at(error, "param"), "model");
        json_decref(answer);
    }
}

static void a_nul_in_the_path_names_no_route(void **state)
{
    (void)state;
    need_server();
    json_decref(ft_http_json(at, "GET", "/v1/models%00x", NULL, 400));
    json_decref(ft_http_json(at, "GET", "/v1/traces?after=%00", NULL, 400));
    json_decref(ft_http_json(at, "GET", "/v1/models/%2500", NULL, 404));
}

/* A wrong method on a path that exists is 405, in the envelope of its route, whatever the method;
 * the page's files exist for GET and HEAD. */
static void a_wrong_method_is_told_apart_from_a_wrong_path(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *path, *allow, *type;
    } cases[] = {{"/tokenize", "POST", "application/json"},
                 {"/detokenize", "POST", "application/json"},
                 {"/v1/completions", "POST", "application/json"},
                 {"/v1/chat/completions", "POST", "application/json"},
                 {"/v1/models", "GET, HEAD", "application/json"},
                 {"/indexes", "GET, HEAD", "application/problem+json"},
                 {"/scripture/attribution", "POST", "application/problem+json"},
                 {"/app.js", "GET, HEAD", "application/problem+json"}};
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (size_t k = strcmp(cases[i].allow, "POST") ? 2 : 0; k < sizeof(methods) / sizeof(*methods); k++) {
            ft_reply r = ft_http(at, methods[k], cases[i].path, NULL, NULL);
            if (r.status != 405)
                fail_msg("%s %s: status %d", methods[k], cases[i].path, r.status);
            assert_string_equal(ft_reply_header(&r, "Allow"), cases[i].allow);
            assert_string_equal(ft_reply_header(&r, "Content-Type"), cases[i].type);
            ft_reply_release(&r);
        }
    json_decref(ft_http_json(at, "GET", "/nothing", NULL, 404));
    json_decref(ft_http_json(at, "PUT", "/nothing", NULL, 404));
    json_decref(ft_http_json(at, "GET", "/nothing.js", NULL, 404));
}

/* A name ends at its end, not at a NUL: another owner's, another document's is never taken for it. */
static void a_nul_in_a_name_does_not_end_it(void **state)
{
    (void)state;
    need_server();
    json_decref(ft_http_json(at, "POST", "/v1/traces", "{\"text\":\"a\",\"without\":[\"public\\u0000x\"]}", 422));
    json_decref(
        ft_http_json(at, "POST", "/v1/traces", "{\"text\":\"a\",\"options\":{\"rank\":\"length\\u0000\"}}", 422));
    json_decref(ft_http_json(at, "POST", "/v1/takedowns",
                             "{\"owner\":\"scripture\",\"documents\":[\"gen-1\\u0000x\"],\"reason\":\"r\"}", 422));
    json_decref(ft_http_json(at, "POST", "/v1/takedowns",
                             "{\"owner\":\"scripture\\u0000x\",\"documents\":[\"gen-1\"],\"reason\":\"r\"}", 422));
    json_decref(ft_http_json(at, "POST", "/",
                             "{\"index\":\"scripture\\u0000x\",\"query_type\":\"count\",\"query\":\"a\"}", 400));
    json_decref(ft_http_json(at, "POST", "/",
                             "{\"index\":\"scripture\",\"query_type\":\"count\\u0000x\",\"query\":\"a\"}", 400));
    /* a text may hold one */
    json_decref(ft_http_json(at, "POST", "/scripture/attribution", "{\"response\":\"a\\u0000b\"}", 200));
    json_decref(ft_http_json(at, "POST", "/v1/traces", "{\"text\":\"a\\u0000b\"}", 200));
}

/* An opt-out that is misspelt leaves its owner in: at least the answer says so. */
static void unread_fields_are_named_inside_objects_too(void **state)
{
    (void)state;
    need_server();
    ft_reply r = ft_http(at, "POST", "/v1/completions", NULL,
                         "{\"prompt\":\"a\",\"max_tokens\":1,\"flextrace\":{\"withuot\":[\"scripture\"]},\"x\":1}");
    assert_int_equal(r.status, 200);
    assert_string_equal(ft_reply_header(&r, "X-Ignored-Fields"), "x, flextrace.withuot");
    ft_reply_release(&r);
    r = ft_http(at, "POST", "/v1/traces", NULL, "{\"text\":\"a\",\"colour\":1}");
    assert_string_equal(ft_reply_header(&r, "X-Ignored-Fields"), "colour");
    ft_reply_release(&r);
}

static void a_wrong_field_of_an_own_route_is_pointed_at(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *body, *pointer;
    } cases[] = {
        {"{\"text\":5}", "#/text"},
        {"{\"text\":\"a\",\"ids\":[1]}", "#/text"},
        {"{\"text\":\"a\",\"options\":{\"density\":2}}", "#/options/density"},
        {"{\"text\":\"a\",\"options\":{\"rank\":\"best\"}}", "#/options/rank"},
        {"{\"text\":\"a\",\"options\":{\"dense\":2}}", "#/options"},
        {"{\"text\":\"a\",\"without\":[0,1,2,3,4,5]}", "#/without"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        json_t *problem = ft_http_json(at, "POST", "/v1/traces", cases[i].body, 422);
        const json_t *one = json_array_get(json_object_get(problem, "errors"), 0);
        assert_string_equal(json_string_value(json_object_get(one, "pointer")), cases[i].pointer);
        assert_int_equal(json_integer_value(json_object_get(problem, "status")), 422);
        json_decref(problem);
    }
    json_t *url = ft_http_json(at, "GET", "/v1/traces?limit=x", NULL, 400);
    const json_t *one = json_array_get(json_object_get(url, "errors"), 0);
    assert_string_equal(json_string_value(json_object_get(one, "parameter")), "limit");
    json_decref(url);
    json_t *path = ft_http_json(at, "GET", "/scripture/documents/x", NULL, 422);
    one = json_array_get(json_object_get(json_array_get(json_object_get(path, "errors"), 0), "loc"), 0);
    assert_string_equal(json_string_value(one), "path");
    json_decref(path);
}

static void a_stream_ends_with_the_ids_and_experts_that_were_asked_for(void **state)
{
    (void)state;
    need_server();
    ft_reply r = ft_http(at, "POST", "/v1/completions", NULL,
                         "{\"prompt\":[300,301],\"max_tokens\":3,\"temperature\":0,\"ignore_eos\":true,\"stream\":true,"
                         "\"return_token_ids\":true,\"return_routed_experts\":true}");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "\"prompt_token_ids\":[300,301],\"token_ids\":["));
    assert_non_null(strstr(r.body, "\"routed_experts\":[[["));
    assert_non_null(strstr(r.body, "\"prompt_routed_experts\":[[["));
    ft_reply_release(&r);
}

/* A prompt that is only scored is routed too: each of its tokens has its row, the one that nothing is written after
 * included, and they are those of a request that writes. */
static void a_prompt_alone_has_its_routing(void **state)
{
    (void)state;
    need_server();
    static const char *const tails[] = {"1", "0", "0,\"echo\":true,\"logprobs\":1"};
    json_t *first = NULL;
    for (size_t i = 0; i < sizeof(tails) / sizeof(*tails); i++) {
        char body[300];
        snprintf(body, sizeof(body),
                 "{\"prompt\":[300,301,302],\"ignore_eos\":true,\"return_routed_experts\":true,"
                 "\"flextrace\":{\"routing\":\"full\"},\"max_tokens\":%s}",
                 tails[i]);
        json_t *answer = ft_http_json(at, "POST", "/v1/completions", body, 200);
        json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
        json_t *routing = json_object_get(json_object_get(choice, "flextrace"), "routing");
        assert_int_equal(json_integer_value(json_object_get(routing, "tokens")), 3);
        assert_int_equal(json_array_size(json_object_get(answer, "prompt_routed_experts")), 3);
        assert_int_equal(json_array_size(json_object_get(choice, "routed_experts")), 0);
        (void)json_object_set(routing, "prompt", json_object_get(answer, "prompt_routed_experts"));
        assert_true(!first || json_equal(first, routing));
        if (!first)
            first = json_incref(routing);
        json_decref(answer);
    }
    json_decref(first);
    json_t *answer = ft_http_json(at, "POST", "/v1/completions",
                                  "{\"prompt\":[300,301,302],\"max_tokens\":0,"
                                  "\"flextrace\":{\"routing\":\"summary\",\"trace\":true}}",
                                  200);
    const json_t *extra = json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "flextrace");
    assert_int_equal(json_array_size(json_object_get(json_object_get(extra, "routing"), "tokens")), 0);
    assert_null(json_object_get(extra, "trace_id")); /* nothing was written */
    json_decref(answer);
}

/* Choice k is seeded by seed + k, around the end of the numbers too (a sanitizer sees whether that is defined). */
static void the_largest_seed_has_one_after_it(void **state)
{
    (void)state;
    need_server();
    json_t *answer = ft_http_json(at, "POST", "/v1/completions",
                                  "{\"prompt\":\"a\",\"max_tokens\":1,\"n\":2,\"seed\":9223372036854775807,"
                                  "\"flextrace\":{\"trace\":true}}",
                                  200);
    for (size_t i = 0; i < 2; i++) {
        const json_t *choice = json_array_get(json_object_get(answer, "choices"), i);
        char path[100];
        snprintf(path, sizeof(path), "/v1/traces/%s", text_at(json_object_get(choice, "flextrace"), "trace_id"));
        json_t *trace = ft_http_json(at, "GET", path, NULL, 200);
        const json_t *seed = json_object_get(json_object_get(trace, "parameters"), "seed");
        assert_true(json_integer_value(seed) == (i ? INT64_MIN : INT64_MAX));
        json_decref(trace);
    }
    json_decref(answer);
}

/* As the original, whose fields are all above 0. */
static void attribution_refuses_what_the_original_refuses(void **state)
{
    (void)state;
    need_server();
    static const char *const zero[] = {
        "maximumSpanDensity",       "minimumSpanLength",           "maximumFrequency",       "maximumContextLength",
        "maximumContextLengthLong", "maximumContextLengthSnippet", "maximumDocumentsPerSpan"};
    char body[600];
    for (size_t i = 0; i < sizeof(zero) / sizeof(*zero); i++) {
        snprintf(body, sizeof(body), "{\"response\":\"%s\",\"%s\":0}", ft_test_scripture, zero[i]);
        json_decref(ft_http_json(at, "POST", "/scripture/attribution", body, 422));
    }
    snprintf(body, sizeof(body), "{\"response\":\"%s\",\"maximumSpanDensity\":2.5,\"maximumDocumentsPerSpan\":500}",
             ft_test_scripture);
    json_t *answer = ft_http_json(at, "POST", "/scripture/attribution", body, 200);
    assert_true(json_array_size(json_object_get(answer, "spans")) > 0);
    json_decref(answer);
}

/* Tokens that cut a character show it whole, as the original does; the two smaller texts never exceed the first. */
static void attribution_shows_whole_characters_and_texts_within_the_first(void **state)
{
    (void)state;
    need_server();
    char body[600];
    json_t *answer = ft_http_json(at, "POST", "/scripture/attribution",
                                  "{\"response\":\"\\ud83e\\udd89 \\u6c34\",\"maximumSpanDensity\":1}", 200);
    size_t i, k;
    json_t *x, *d;
    json_array_foreach(json_object_get(answer, "inputTokens"), i, x)
        assert_null(strstr(json_string_value(x), "\xEF\xBF\xBD"));
    assert_true(i > 0);
    json_decref(answer);
    snprintf(
        body, sizeof(body),
        "{\"response\":\"%s\",\"maximumSpanDensity\":1,\"maximumContextLength\":2,\"maximumContextLengthLong\":50}",
        ft_test_scripture);
    answer = ft_http_json(at, "POST", "/scripture/attribution", body, 200);
    json_array_foreach(json_object_get(answer, "spans"), i, x) json_array_foreach(json_object_get(x, "documents"), k, d)
    {
        assert_string_equal(json_string_value(json_object_get(d, "text")),
                            json_string_value(json_object_get(d, "textLong")));
        assert_string_equal(json_string_value(json_object_get(d, "text")),
                            json_string_value(json_object_get(d, "textSnippet")));
    }
    assert_true(i > 0);
    json_decref(answer);
}

/* Rank 0 is the end of a document: it belongs to the document that it ends. */
static void every_rank_has_a_document(void **state)
{
    (void)state;
    need_server();
    json_t *all =
        ft_http_json(at, "POST", "/", "{\"index\":\"scripture\",\"query_type\":\"count\",\"query\":\"\"}", 200);
    const int n = (int)json_integer_value(json_object_get(all, "count"));
    json_decref(all);
    assert_true(n > 0);
    for (int rank = 0; rank < n; rank += 1 + n / 40) {
        char body[200];
        snprintf(body, sizeof(body), "{\"index\":\"scripture\",\"query_type\":\"get_doc_by_rank\",\"s\":0,\"rank\":%d}",
                 rank);
        json_t *d = ft_http_json(at, "POST", "/", body, 200);
        assert_null(json_object_get(d, "error"));
        assert_true(json_integer_value(json_object_get(d, "doc_len")) > 0);
        json_decref(d);
    }
}

static void a_nul_in_a_query_does_not_end_it(void **state)
{
    (void)state;
    need_server();
    json_t *d = ft_http_json(at, "POST", "/",
                             "{\"index\":\"scripture\",\"query_type\":\"count\",\"query\":\"a\\u0000b\"}", 200);
    assert_int_equal(json_array_size(json_object_get(d, "token_ids")), 3);
    json_decref(d);
}

/* Five times as many as are held, all silent: they make room. */
static void idle_connections_make_room_for_those_that_ask(void **state)
{
    (void)state;
    need_server();
    static const char half[] = "POST /v1/completions HTTP/1.1\r\nHost: loc";
    int idle[40];
    for (size_t i = 0; i < 40; i++) {
        idle[i] = ft_http_connect(at);
        if (i % 2)
            ft_http_send(idle[i], half, sizeof(half) - 1);
    }
    json_decref(ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}", 200));
    for (size_t i = 0; i < 40; i++)
        close(idle[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_does_not_wait_for_a_body_that_was_only_announced),
        cmocka_unit_test(a_request_that_can_be_read_in_two_ways_is_refused),
        cmocka_unit_test(a_packed_body_is_another_media_type),
        cmocka_unit_test(a_model_that_is_not_there_is_told_by_its_code),
        cmocka_unit_test(a_nul_in_the_path_names_no_route),
        cmocka_unit_test(a_wrong_method_is_told_apart_from_a_wrong_path),
        cmocka_unit_test(a_nul_in_a_name_does_not_end_it),
        cmocka_unit_test(unread_fields_are_named_inside_objects_too),
        cmocka_unit_test(a_wrong_field_of_an_own_route_is_pointed_at),
        cmocka_unit_test(a_stream_ends_with_the_ids_and_experts_that_were_asked_for),
        cmocka_unit_test(a_prompt_alone_has_its_routing),
        cmocka_unit_test(the_largest_seed_has_one_after_it),
        cmocka_unit_test(attribution_refuses_what_the_original_refuses),
        cmocka_unit_test(attribution_shows_whole_characters_and_texts_within_the_first),
        cmocka_unit_test(every_rank_has_a_document),
        cmocka_unit_test(a_nul_in_a_query_does_not_end_it),
        cmocka_unit_test(idle_connections_make_room_for_those_that_ask),
    };
    return cmocka_run_group_tests(tests, open_with_few_connections, close_all);
}
