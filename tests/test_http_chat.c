/* Chat over HTTP: the same model and job as completions, in chat's shapes. */
#include "api/http_internal.h"
#include "tests/ft_test_http.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

static int open_with_template(void **state)
{
    (void)state;
    if (ft_test_federation(""))
        start_server("chat_template: olmo2\n");
    return 0;
}

static const json_t *choice_of(const json_t *answer, size_t i)
{
    return json_array_get(json_object_get(answer, "choices"), i);
}

static const char *content_of(const json_t *answer, size_t i)
{
    return text_at(json_object_get(choice_of(answer, i), "message"), "content");
}

#define HELLO                                                                                                          \
    "\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"In the beginning\"}]"
/* What the template olmo2 makes of it, with the demo's end-of-text token to begin with. */
#define HELLO_PROMPT "<|endoftext|><|system|>\\nS\\n<|user|>\\nIn the beginning\\n<|assistant|>\\n"

static void an_answer_is_the_completion_of_the_rendered_conversation(void **state)
{
    (void)state;
    need_server();
    json_t *chat = ft_http_json(at, "POST", "/v1/chat/completions",
                                "{\"model\":\"test\"," HELLO ",\"max_completion_tokens\":12,\"temperature\":0,\"n\":2,"
                                "\"return_token_ids\":true}",
                                200);
    json_t *plain = ft_http_json(at, "POST", "/v1/completions",
                                 "{\"prompt\":\"" HELLO_PROMPT "\",\"max_tokens\":12,\"temperature\":0,"
                                 "\"return_token_ids\":true}",
                                 200);
    assert_string_equal(text_at(chat, "object"), "chat.completion");
    assert_int_equal(strncmp(text_at(chat, "id"), "chatcmpl-", 9), 0);
    assert_int_equal(json_array_size(json_object_get(chat, "choices")), 2);
    const json_t *message = json_object_get(choice_of(chat, 0), "message");
    assert_string_equal(text_at(message, "role"), "assistant");
    assert_true(json_is_null(json_object_get(message, "refusal")));
    assert_string_equal(content_of(chat, 0), text_at(choice_of(plain, 0), "text"));
    assert_string_equal(content_of(chat, 1), content_of(chat, 0)); /* greedy */
    assert_true(json_equal(json_object_get(choice_of(chat, 0), "prompt_token_ids"),
                           json_object_get(choice_of(plain, 0), "prompt_token_ids")));
    assert_true(json_equal(json_object_get(choice_of(chat, 0), "token_ids"),
                           json_object_get(choice_of(plain, 0), "token_ids")));
    json_decref(chat);
    json_decref(plain);
}

static void content_parts_are_joined_and_developers_are_the_system(void **state)
{
    (void)state;
    need_server();
    json_t *a = ft_http_json(at, "POST", "/v1/chat/completions",
                             "{" HELLO ",\"max_tokens\":1,\"temperature\":0,\"return_token_ids\":true}", 200);
    json_t *b = ft_http_json(at, "POST", "/v1/chat/completions",
                             "{\"messages\":[{\"role\":\"developer\",\"content\":\"S\"},{\"role\":\"user\",\"content\":"
                             "[{\"type\":\"text\",\"text\":\"In the\"},{\"type\":\"text\",\"text\":\" beginning\"}]}],"
                             "\"max_tokens\":1,\"temperature\":0,\"return_token_ids\":true}",
                             200);
    assert_true(json_equal(json_object_get(choice_of(a, 0), "prompt_token_ids"),
                           json_object_get(choice_of(b, 0), "prompt_token_ids")));
    json_decref(a);
    json_decref(b);
}

static void a_stream_begins_with_the_role_and_ends_with_nothing(void **state)
{
    (void)state;
    need_server();
    json_t *whole = ft_http_json(at, "POST", "/v1/chat/completions",
                                 "{" HELLO ",\"max_tokens\":16,\"temperature\":0,\"ignore_eos\":true}", 200);
    for (int logprobs = 0; logprobs < 2; logprobs++) {
        char body[500], text[2000] = "", id[100] = "";
        snprintf(body, sizeof(body),
                 "{" HELLO ",\"max_tokens\":16,\"temperature\":0,\"ignore_eos\":true,\"stream\":true,\"logprobs\":%s,"
                 "\"stream_options\":{\"include_usage\":true}}",
                 logprobs ? "true" : "false");
        ft_reply r = ft_http(at, "POST", "/v1/chat/completions", NULL, body);
        assert_int_equal(r.status, 200);
        size_t chunks = 0, done = 0, usages = 0, entries = 0;
        for (char *line = strtok(r.body, "\n"); line; line = strtok(NULL, "\n")) {
            if (!strcmp(line, "data: [DONE]")) {
                done++;
                continue;
            }
            if (strncmp(line, "data: ", 6) != 0)
                continue;
            assert_int_equal(done, 0);
            json_t *chunk = json_loads(line + 6, 0, NULL);
            const json_t *choice = choice_of(chunk, 0), *delta = json_object_get(choice, "delta");
            assert_string_equal(text_at(chunk, "object"), "chat.completion.chunk");
            if (!chunks)
                snprintf(id, sizeof(id), "%s", text_at(chunk, "id"));
            assert_string_equal(text_at(chunk, "id"), id);
            entries += json_array_size(json_object_get(json_object_get(choice, "logprobs"), "content"));
            if (!choice) {
                usages++;
                assert_int_equal(
                    json_integer_value(json_object_get(json_object_get(chunk, "usage"), "completion_tokens")), 16);
            } else if (chunks == 0) {
                assert_string_equal(text_at(delta, "role"), "assistant");
                assert_string_equal(text_at(delta, "content"), "");
            } else if (text_at(choice, "finish_reason")) {
                assert_int_equal(json_object_size(delta), 0);
            } else {
                strncat(text, text_at(delta, "content"), sizeof(text) - strlen(text) - 1);
            }
            chunks++;
            json_decref(chunk);
        }
        assert_int_equal(done, 1);
        assert_int_equal(usages, 1);
        assert_int_equal(entries, logprobs ? 16 : 0);
        assert_string_equal(text, content_of(whole, 0));
        ft_reply_release(&r);
    }
    json_decref(whole);
}

static void log_probabilities_have_chats_shape_and_completions_numbers(void **state)
{
    (void)state;
    need_server();
    json_t *chat = ft_http_json(at, "POST", "/v1/chat/completions",
                                "{" HELLO ",\"max_tokens\":6,\"temperature\":0,\"ignore_eos\":true,\"logprobs\":true,"
                                "\"top_logprobs\":3}",
                                200);
    json_t *plain = ft_http_json(at, "POST", "/v1/completions",
                                 "{\"prompt\":\"" HELLO_PROMPT "\",\"max_tokens\":6,\"temperature\":0,"
                                 "\"ignore_eos\":true,\"logprobs\":3}",
                                 200);
    const json_t *content = json_object_get(json_object_get(choice_of(chat, 0), "logprobs"), "content"), *one;
    const json_t *values = json_object_get(json_object_get(choice_of(plain, 0), "logprobs"), "token_logprobs");
    size_t i;
    assert_int_equal(json_array_size(content), 6);
    json_array_foreach(content, i, one)
    {
        const json_t *top = json_object_get(one, "top_logprobs");
        assert_int_equal(json_array_size(top), 3);
        assert_true(json_real_value(json_object_get(one, "logprob")) == json_real_value(json_array_get(values, i)));
        /* greedy: the chosen is the best, and its number the same bits */
        assert_true(json_real_value(json_object_get(json_array_get(top, 0), "logprob")) ==
                    json_real_value(json_object_get(one, "logprob")));
        const json_t *bytes = json_object_get(one, "bytes");
        char text[100];
        for (size_t k = 0; k < json_array_size(bytes) && k < 99; k++)
            text[k] = (char)json_integer_value(json_array_get(bytes, k));
        text[json_array_size(bytes)] = '\0';
        assert_string_equal(text, text_at(one, "token"));
    }
    json_decref(chat);
    json_decref(plain);
}

static void without_max_tokens_the_context_is_the_bound(void **state)
{
    (void)state;
    need_server();
    json_t *a =
        ft_http_json(at, "POST", "/v1/chat/completions", "{" HELLO ",\"temperature\":0,\"ignore_eos\":true}", 200);
    const json_t *usage = json_object_get(a, "usage");
    assert_string_equal(text_at(choice_of(a, 0), "finish_reason"), "length");
    assert_int_equal(json_integer_value(json_object_get(usage, "total_tokens")), 1024);
    json_decref(a);
}

static void what_chat_does_not_do_is_refused_by_name(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *fields, *code, *param;
    } bad[] = {{HELLO ",\"tools\":[{\"type\":\"function\"}]", "unsupported_parameter", "tools"},
               {HELLO ",\"functions\":[{\"name\":\"f\"}]", "unsupported_parameter", "functions"},
               {HELLO ",\"tool_choice\":\"required\"", "unsupported_parameter", "tool_choice"},
               {HELLO ",\"response_format\":{\"type\":\"json_object\"}", "unsupported_parameter", "response_format"},
               {HELLO ",\"continue_final_message\":true", "unsupported_parameter", "continue_final_message"},
               {HELLO ",\"best_of\":4", "unsupported_parameter", "best_of"},
               {HELLO ",\"top_logprobs\":2", NULL, "top_logprobs"},
               {HELLO ",\"logprobs\":5", NULL, "logprobs"},
               {HELLO ",\"logprobs\":true,\"top_logprobs\":21", NULL, "top_logprobs"},
               {HELLO ",\"min_tokens\":9,\"max_tokens\":8", NULL, "min_tokens"},
               {HELLO ",\"max_completion_tokens\":2000", "context_length_exceeded", "max_completion_tokens"},
               {"\"messages\":[]", NULL, "messages"},
               {"\"messages\":\"hello\"", NULL, "messages"},
               {"\"messages\":[\"hello\"]", NULL, "messages"},
               {"\"messages\":[{\"role\":\"user\"}]", NULL, "messages"},
               {"\"messages\":[{\"role\":\"user\",\"content\":null}]", NULL, "messages"},
               {"\"messages\":[{\"role\":\"critic\",\"content\":\"x\"}]", NULL, "messages"},
               {"\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]", NULL, "messages"},
               {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", NULL, "messages"},
               {"\"messages\":[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{}]}]",
                "unsupported_parameter", "messages"},
               {"\"prompt\":\"x\"", NULL, "messages"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        char body[500];
        snprintf(body, sizeof(body), "{%s}", bad[i].fields);
        json_t *answer = ft_http_json(at, "POST", "/v1/chat/completions", body, 400);
        const json_t *error = json_object_get(answer, "error");
        const char *param = text_at(error, "param"), *code = text_at(error, "code");
        if (!param || strcmp(param, bad[i].param) ||
            (code != bad[i].code && (!code || !bad[i].code || strcmp(code, bad[i].code))))
            fail_msg("%s: %s", body, json_dumps(answer, 0));
        json_decref(answer);
    }
    static const char *const neutral[] = {
        ",\"tools\":[],\"tool_choice\":\"none\",\"best_of\":1",
        ",\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"]",
        ",\"tools\":null,\"functions\":null,\"logprobs\":false,\"top_logprobs\":null"};
    for (size_t i = 0; i < 3; i++) {
        char body[500];
        snprintf(body, sizeof(body), "{" HELLO ",\"max_tokens\":1%s}", neutral[i]);
        json_decref(ft_http_json(at, "POST", "/v1/chat/completions", body, 200));
    }
}

static void penalties_and_biases_act(void **state)
{
    (void)state;
    need_server();
    json_t *free_one =
        ft_http_json(at, "POST", "/v1/completions",
                     "{\"prompt\":\"And it came\",\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true,"
                     "\"return_token_ids\":true}",
                     200);
    const json_int_t first =
        json_integer_value(json_array_get(json_object_get(choice_of(free_one, 0), "token_ids"), 0));
    char body[600];
    snprintf(
        body, sizeof(body),
        "{\"prompt\":\"And it came\",\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true,\"return_token_ids\":true,"
        "\"logit_bias\":{\"%d\":-100}}",
        (int)first);
    json_t *biased = ft_http_json(at, "POST", "/v1/completions", body, 200);
    const json_t *ids = json_object_get(choice_of(biased, 0), "token_ids"), *one;
    size_t i;
    json_array_foreach(ids, i, one)
    {
        assert_true(json_integer_value(one) != first);
    }
    json_decref(biased);
    /* a token that stops: not in the text, nor among the ids; with include_… both */
    snprintf(
        body, sizeof(body),
        "{\"prompt\":\"And it came\",\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true,\"return_token_ids\":true,"
        "\"stop_token_ids\":[%d]}",
        (int)first);
    json_t *stopped = ft_http_json(at, "POST", "/v1/completions", body, 200);
    assert_string_equal(text_at(choice_of(stopped, 0), "finish_reason"), "stop");
    assert_int_equal(json_array_size(json_object_get(choice_of(stopped, 0), "token_ids")), 0);
    json_decref(stopped);
    snprintf(
        body, sizeof(body),
        "{\"prompt\":\"And it came\",\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true,\"return_token_ids\":true,"
        "\"include_stop_str_in_output\":true,\"stop_token_ids\":[%d]}",
        (int)first);
    stopped = ft_http_json(at, "POST", "/v1/completions", body, 200);
    assert_string_equal(text_at(choice_of(stopped, 0), "finish_reason"), "stop");
    assert_int_equal(json_array_size(json_object_get(choice_of(stopped, 0), "token_ids")), 1);
    assert_true(strlen(text_at(choice_of(stopped, 0), "text")) > 0);
    json_decref(stopped);
    /* a stop string that is part of the text, and one that min_tokens lets pass */
    const char *text = text_at(choice_of(free_one, 0), "text");
    char letter[2] = {text[strspn(text, " \n\"\\")], 0};
    snprintf(body, sizeof(body),
             "{\"prompt\":\"And it came\",\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true,\"stop\":\"%s\","
             "\"include_stop_str_in_output\":true}",
             letter);
    stopped = ft_http_json(at, "POST", "/v1/completions", body, 200);
    const char *got = text_at(choice_of(stopped, 0), "text");
    assert_int_equal(got[strlen(got) - 1], letter[0]);
    json_decref(stopped);
    snprintf(body, sizeof(body),
             "{\"prompt\":\"And it came\",\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true,\"stop\":\"%s\","
             "\"min_tokens\":5}",
             letter);
    stopped = ft_http_json(at, "POST", "/v1/completions", body, 200);
    assert_true(strlen(text_at(choice_of(stopped, 0), "text")) > strspn(text, " \n\"\\"));
    json_decref(stopped);
    json_decref(free_one);
}

static void hold_up(void *context, ft_pool *pool)
{
    (void)context;
    (void)pool;
    const struct timespec a_while = {.tv_sec = 11, .tv_nsec = 500000000};
    nanosleep(&a_while, NULL);
}

static void *hold_up_the_model(void *context)
{
    ft_status st = {0};
    (void)context;
    if (ft_scheduler_call(server->scheduler, hold_up, NULL, &st) != FT_OK)
        fprintf(stderr, "%s\n", st.msg);
    return NULL;
}

/* Its prompt is scored before its first byte. */
static void *stream_an_echo(void *context)
{
    ft_reply *r = context;
    *r = ft_http(at, "POST", "/v1/completions", NULL,
                 "{\"prompt\":\"a b c\",\"max_tokens\":900,\"stream\":true,\"echo\":true,\"logprobs\":1}");
    return NULL;
}

/* Something else has the model for more than ten seconds: proxies must see that the stream
 * lives, whatever it waits for. */
static void a_silent_stream_says_ping(void **state)
{
    (void)state;
    need_server();
    pthread_t other, scoring;
    ft_reply scored = {0};
    assert_int_equal(pthread_create(&other, NULL, hold_up_the_model, NULL), 0);
    assert_int_equal(pthread_create(&scoring, NULL, stream_an_echo, &scored), 0);
    ft_reply r = ft_http(at, "POST", "/v1/chat/completions", NULL, "{" HELLO ",\"max_tokens\":900,\"stream\":true}");
    pthread_join(other, NULL);
    pthread_join(scoring, NULL);
    assert_non_null(strstr(scored.body, ": ping\n\n"));
    assert_non_null(strstr(scored.body, "data: [DONE]"));
    ft_reply_release(&scored);
    assert_non_null(strstr(r.body, ": ping\n\n"));
    assert_non_null(strstr(r.body, "data: [DONE]"));
    ft_reply_release(&r);
}

static void a_stored_trace_names_the_key(void **state)
{
    (void)state;
    need_server();
    json_t *answer = ft_http_json(at, "POST", "/v1/chat/completions",
                                  "{" HELLO ",\"max_tokens\":3,\"flextrace\":{\"trace\":true}}", 200);
    char path[100];
    snprintf(path, sizeof(path), "/v1/traces/%s",
             text_at(json_object_get(choice_of(answer, 0), "flextrace"), "trace_id"));
    json_t *trace = ft_http_json(at, "GET", path, NULL, 200);
    assert_string_equal(text_at(trace, "key"), "local");
    json_decref(trace);
    json_decref(answer);
}

static json_int_t cached_of(const json_t *answer)
{
    const json_t *usage = json_object_get(answer, "usage");
    return json_integer_value(json_object_get(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"));
}

/* The second time all but the last page of the prompt is there already; without an expert
 * nothing is shared. */
static void usage_tells_what_the_prefix_cache_had(void **state)
{
    (void)state;
    need_server();
    char prompt[4000] = "400", body[4400];
    for (int i = 1; i < 300; i++)
        snprintf(prompt + strlen(prompt), sizeof(prompt) - strlen(prompt), ",%d", 400 + i * 7 % 500);
    snprintf(body, sizeof(body), "{\"prompt\":[%s],\"max_tokens\":2,\"temperature\":0}", prompt);
    json_t *first = ft_http_json(at, "POST", "/v1/completions", body, 200);
    json_t *second = ft_http_json(at, "POST", "/v1/completions", body, 200);
    assert_int_equal(cached_of(first), 0);
    assert_true(cached_of(second) >= 192 && cached_of(second) < 300);
    assert_true(json_equal(json_object_get(first, "choices"), json_object_get(second, "choices")));
    snprintf(body, sizeof(body), "{\"prompt\":[%s],\"max_tokens\":2,\"temperature\":0,\"flextrace\":{\"without\":[1]}}",
             prompt);
    json_t *other = ft_http_json(at, "POST", "/v1/completions", body, 200);
    assert_int_equal(cached_of(other), 0);
    json_decref(first);
    json_decref(second);
    json_decref(other);
}

/* Where it holds less than the model's context, it is the bound: what could never run is refused as too long and before
 * the first byte, not as an overload that passes. */
static void key_value_memory_below_the_context_is_the_bound(void **state)
{
    (void)state;
    need_server();
    stop_server();
    start_server("chat_template: chatml\nlimits: {kv_bytes: 4194304}\n");
    json_t *a = ft_http_json(at, "POST", "/tokenize", "{\"prompt\":\"a\"}", 200);
    const json_int_t bound = json_integer_value(json_object_get(a, "max_model_len"));
    json_decref(a);
    assert_in_range(bound, 64, 1000);
    a = ft_http_json(at, "POST", "/v1/chat/completions", "{" HELLO ",\"temperature\":0,\"ignore_eos\":true}", 200);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(a, "usage"), "total_tokens")), bound);
    json_decref(a);
    char body[6000];
    size_t n = (size_t)snprintf(body, sizeof(body),
                                "{\"max_tokens\":0,\"echo\":true,\"logprobs\":1,\"stream\":true,"
                                "\"prompt\":[300");
    for (json_int_t i = 0; i < bound; i++)
        n += (size_t)snprintf(body + n, sizeof(body) - n, ",300");
    (void)snprintf(body + n, sizeof(body) - n, "]}");
    a = ft_http_json(at, "POST", "/v1/completions", body, 400);
    const json_t *error = json_object_get(a, "error");
    assert_string_equal(text_at(error, "code"), "context_length_exceeded");
    assert_int_equal(json_integer_value(json_object_get(error, "n_ctx")), bound);
    assert_int_equal(json_integer_value(json_object_get(error, "n_prompt_tokens")), bound + 1);
    json_decref(a);
    stop_server();
    start_server("chat_template: chatml\n");
}

static void a_model_without_a_template_says_how_to_give_it_one(void **state)
{
    (void)state;
    if (!ft_test_federation(""))
        skip();
    if (server)
        stop_server();
    start_server("");
    json_t *answer = ft_http_json(at, "POST", "/v1/chat/completions", "{" HELLO "}", 400);
    const char *message = text_at(json_object_get(answer, "error"), "message");
    assert_non_null(strstr(message, "--chat-template"));
    assert_non_null(strstr(message, "chatml"));
    json_decref(answer);
    stop_server();
    ft_status st = {0};
    assert_ok(ft_federation_open(&federation, ft_test_federation("chat_template: llama\n"), &st), st);
    assert_int_equal(ft_server_start(&server, federation, &(ft_server_options){.threads = 1}, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "llama"));
    assert_ok(ft_server_start(&server, federation, &(ft_server_options){.threads = 1, .chat_template = "tulu"}, &st),
              st);
    at = ft_server_address(server);
    json_decref(ft_http_json(at, "POST", "/v1/chat/completions", "{" HELLO ",\"max_tokens\":1}", 200));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_the_completion_of_the_rendered_conversation),
        cmocka_unit_test(content_parts_are_joined_and_developers_are_the_system),
        cmocka_unit_test(a_stream_begins_with_the_role_and_ends_with_nothing),
        cmocka_unit_test(log_probabilities_have_chats_shape_and_completions_numbers),
        cmocka_unit_test(without_max_tokens_the_context_is_the_bound),
        cmocka_unit_test(what_chat_does_not_do_is_refused_by_name),
        cmocka_unit_test(penalties_and_biases_act),
        cmocka_unit_test(a_silent_stream_says_ping),
        cmocka_unit_test(a_stored_trace_names_the_key),
        cmocka_unit_test(usage_tells_what_the_prefix_cache_had),
        cmocka_unit_test(key_value_memory_below_the_context_is_the_bound),
        cmocka_unit_test(a_model_without_a_template_says_how_to_give_it_one),
    };
    return cmocka_run_group_tests(tests, open_with_template, close_all);
}
