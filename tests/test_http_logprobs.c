/* Log-probabilities over HTTP: the scoring contract, both shapes, streamed and whole,
 * vLLM's prompt_logprobs. */
#include "tests/ft_test_http.h"

#include "base/ft_utf8.h"

#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"In the beginning\"}]"

static int open_with_template(void **state)
{
    (void)state;
    if (ft_test_federation(""))
        start_server("chat_template: chatml\n");
    return 0;
}

static const json_t *choice_of(const json_t *answer, size_t i)
{
    return json_array_get(json_object_get(answer, "choices"), i);
}

/* The contract that evaluation harnesses depend on. */
static void echoed_logprobs_score_the_prompt(void **state)
{
    (void)state;
    need_server();
    json_t *answer = ft_http_json(at, "POST", "/v1/completions",
                                  "{\"prompt\":[300,301,302,303],\"max_tokens\":1,\"echo\":true,\"logprobs\":2,"
                                  "\"temperature\":0}",
                                  200);
    const json_t *l = json_object_get(choice_of(answer, 0), "logprobs");
    const json_t *tokens = json_object_get(l, "tokens"), *values = json_object_get(l, "token_logprobs");
    const json_t *tops = json_object_get(l, "top_logprobs");
    assert_int_equal(json_array_size(tokens), 5);
    assert_int_equal(json_array_size(values), 5);
    assert_int_equal(json_array_size(tops), 5);
    assert_int_equal(json_array_size(json_object_get(l, "text_offset")), 5);
    assert_true(json_is_null(json_array_get(values, 0)) && json_is_null(json_array_get(tops, 0)));
    for (size_t t = 1; t < 5; t++) {
        const double p = json_real_value(json_array_get(values, t));
        const json_t *same = json_object_get(json_array_get(tops, t), json_string_value(json_array_get(tokens, t)));
        assert_true(p < 0);
        assert_true(json_real_value(same) == p);
    }
    json_decref(answer);
    json_t *scored = ft_http_json(at, "POST", "/v1/completions",
                                  "{\"prompt\":[300,301,302,303],\"max_tokens\":0,\"echo\":true,\"logprobs\":0}", 200);
    const json_t *alone = json_object_get(json_object_get(choice_of(scored, 0), "logprobs"), "token_logprobs");
    assert_int_equal(json_array_size(alone), 4);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(scored, "usage"), "completion_tokens")), 0);
    json_decref(scored);
}

/* --- Streams ---------------------------------------------------------------------------- */

/* Appends what a chunk's list has to the list of that name in `all`. */
static void extend(json_t *all, const json_t *logprobs, const char *name)
{
    const json_t *part = json_object_get(logprobs, name);
    if (!part)
        return;
    if (!json_object_get(all, name))
        json_object_set_new(all, name, json_array());
    assert_int_equal(json_array_extend(json_object_get(all, name), (json_t *)part), 0);
}

/* Joins a stream's text and numbers. Every chunk that has text has the numbers of the tokens
 * that made it; those without text only where nothing more comes. */
static json_t *join(const char *path, const char *body, char *text, size_t size, size_t *chunks)
{
    static const char *const lists[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset", "content"};
    json_t *all = json_object();
    ft_reply r = ft_http(at, "POST", path, NULL, body);
    assert_int_equal(r.status, 200);
    *text = '\0';
    *chunks = 0;
    int ended = 0;
    for (char *line = strtok(r.body, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "data: {", 7) != 0)
            continue;
        json_t *chunk = json_loads(line + 6, 0, NULL);
        const json_t *choice = choice_of(chunk, 0), *l = json_object_get(choice, "logprobs");
        const char *piece = text_at(choice, "text");
        if (!piece)
            piece = text_at(json_object_get(choice, "delta"), "content");
        piece = piece ? piece : "";
        const size_t told = json_array_size(json_object_get(l, json_object_get(l, "tokens") ? "tokens" : "content"));
        assert_int_equal(ended, 0);
        assert_true(!*piece || told > 0);
        ended = text_at(choice, "finish_reason") != NULL;
        *chunks += told > 0;
        for (size_t i = 0; i < 5; i++)
            extend(all, l, lists[i]);
        assert_true(strlen(text) + strlen(piece) < size);
        strncat(text, piece, size - strlen(text) - 1);
        json_decref(chunk);
    }
    assert_int_equal(ended, 1);
    ft_reply_release(&r);
    return all;
}

static const char *const hard[] = {
    "\"prompt\":[300,301,302,303],\"max_tokens\":24,\"temperature\":0,\"ignore_eos\":true",
    "\"prompt\":\"In the beginning\",\"max_tokens\":40,\"temperature\":2,\"seed\":7,\"ignore_eos\":true",
    "\"prompt\":\"In the beginning\",\"max_tokens\":40,\"temperature\":2,\"seed\":8,\"skip_special_tokens\":false",
    "\"prompt\":\"a\",\"max_tokens\":40,\"temperature\":0,\"stop\":[\" the\",\"ing and\"]",
    "\"prompt\":\"a\",\"max_tokens\":30,\"temperature\":1,\"seed\":3,\"return_tokens_as_token_ids\":true",
    /* ids of single bytes: halves of characters */
    ("\"prompt\":\"a\",\"max_tokens\":24,\"temperature\":2,\"seed\":5,\"logit_bias\":{\"130\":60,\"160\":60,\"195\":60,"
     "\"200\":60,\"226\":60}"),
    /* the end-of-text token has a number and no text */
    "\"prompt\":\"a\",\"max_tokens\":5,\"temperature\":0,\"min_tokens\":3,\"logit_bias\":{\"0\":100}",
    "\"prompt\":\"a\",\"max_tokens\":0",
};

static void streamed_numbers_come_with_their_text_and_join_to_the_whole(void **state)
{
    (void)state;
    need_server();
    for (size_t i = 0; i < sizeof(hard) / sizeof(*hard); i++)
        for (int echo = 0; echo < 2; echo++) {
            char body[600], text[4000];
            snprintf(body, sizeof(body), "{%s,\"logprobs\":3,\"echo\":%s}", hard[i], echo ? "true" : "false");
            json_t *whole = ft_http_json(at, "POST", "/v1/completions", body, 200);
            snprintf(body, sizeof(body), "{%s,\"logprobs\":3,\"echo\":%s,\"stream\":true}", hard[i],
                     echo ? "true" : "false");
            size_t chunks;
            json_t *all = join("/v1/completions", body, text, sizeof(text), &chunks);
            const json_t *want = json_object_get(choice_of(whole, 0), "logprobs"), *list;
            const char *name;
            assert_string_equal(text, text_at(choice_of(whole, 0), "text"));
            json_object_foreach((json_t *)want, name, list)
            {
                const json_t *got = json_object_get(all, name);
                if (json_array_size(list) && !json_equal(got, (json_t *)list))
                    fail_msg("case %zu, %s: %s, not %s", i, name, json_dumps(got, 0), json_dumps(list, 0));
            }
            if (i == 0)
                assert_true(chunks >= 6); /* not all of them at the end */
            json_decref(all);
            json_decref(whole);
        }
}

static void streamed_chat_numbers_join_to_the_whole(void **state)
{
    (void)state;
    need_server();
    static const char *const more[] = {"\"temperature\":0,\"ignore_eos\":true", "\"temperature\":2,\"seed\":4",
                                       "\"temperature\":0,\"stop\":[\"e\"]",
                                       "\"temperature\":0,\"logit_bias\":{\"0\":100}"};
    for (size_t i = 0; i < 4; i++) {
        char body[600], text[4000];
        snprintf(body, sizeof(body), "{" HELLO ",\"max_tokens\":20,%s,\"logprobs\":true,\"top_logprobs\":2}", more[i]);
        json_t *whole = ft_http_json(at, "POST", "/v1/chat/completions", body, 200);
        snprintf(body, sizeof(body),
                 "{" HELLO ",\"max_tokens\":20,%s,\"logprobs\":true,\"top_logprobs\":2,\"stream\":true}", more[i]);
        size_t chunks;
        json_t *all = join("/v1/chat/completions", body, text, sizeof(text), &chunks);
        const json_t *want = json_object_get(json_object_get(choice_of(whole, 0), "logprobs"), "content");
        assert_string_equal(text, text_at(json_object_get(choice_of(whole, 0), "message"), "content"));
        assert_true(json_array_size(want) > 0);
        assert_true(json_equal(json_object_get(all, "content"), (json_t *)want));
        json_decref(all);
        json_decref(whole);
    }
}

/* What was drawn from a generation's own logits is, bit for bit, what scoring the same text
 * gives; and offsets are where each token's text begins. */
static void generated_numbers_are_those_of_a_scored_prompt(void **state)
{
    (void)state;
    need_server();
    char body[2000], *ids;
    json_t *made = ft_http_json(at, "POST", "/v1/completions",
                                "{\"prompt\":[300,301,302,303],\"max_tokens\":32,\"temperature\":1,\"seed\":2,"
                                "\"ignore_eos\":true,\"logprobs\":4,\"echo\":true,\"return_token_ids\":true}",
                                200);
    json_t *all = json_deep_copy(json_object_get(choice_of(made, 0), "prompt_token_ids"));
    json_array_extend(all, json_object_get(choice_of(made, 0), "token_ids"));
    assert_non_null(ids = json_dumps(all, JSON_COMPACT));
    snprintf(body, sizeof(body), "{\"prompt\":%s,\"max_tokens\":0,\"logprobs\":4,\"echo\":true}", ids);
    json_t *scored = ft_http_json(at, "POST", "/v1/completions", body, 200);
    const json_t *a = json_object_get(choice_of(made, 0), "logprobs");
    const json_t *b = json_object_get(choice_of(scored, 0), "logprobs");
    assert_int_equal(json_array_size(json_object_get(a, "tokens")), 36);
    assert_true(json_equal(json_object_get(a, "token_logprobs"), json_object_get(b, "token_logprobs")));
    assert_true(json_equal(json_object_get(a, "top_logprobs"), json_object_get(b, "top_logprobs")));
    const char *text = text_at(choice_of(made, 0), "text");
    json_int_t before = -1;
    for (size_t t = 0; t < 36; t++) {
        const json_int_t offset = json_integer_value(json_array_get(json_object_get(a, "text_offset"), t));
        assert_true(t == 0 ? offset == 0 : offset >= before);
        assert_true((size_t)offset <= ft_utf8_count(text, strlen(text)));
        before = offset;
    }
    free(ids);
    json_decref(all);
    json_decref(made);
    json_decref(scored);
}

/* --- vLLM's prompt_logprobs ---------------------------------------------------------------- */

/* One entry a prompt token: null, then the token itself and the best, by id, with ranks. */
static void is_prompt_logprobs(const json_t *list, const json_t *ids, size_t best)
{
    assert_int_equal(json_array_size(list), json_array_size(ids));
    assert_true(json_is_null(json_array_get(list, 0)));
    for (size_t t = 1; t < json_array_size(list); t++) {
        const json_t *entry = json_array_get(list, t), *one;
        const char *key;
        char own[24];
        int first = 1;
        snprintf(own, sizeof(own), "%d", (int)json_integer_value(json_array_get(ids, t)));
        const size_t n = json_object_size(entry);
        assert_true(n == best + 1 || (best && n == best));
        json_object_foreach((json_t *)entry, key, one)
        {
            const json_int_t rank = json_integer_value(json_object_get(one, "rank"));
            assert_true(!first || !strcmp(key, own)); /* the token itself stands first */
            assert_true(first || (rank >= 1 && rank <= (json_int_t)best));
            assert_true(json_real_value(json_object_get(one, "logprob")) < 0);
            assert_non_null(text_at(one, "decoded_token"));
            first = 0;
        }
    }
}

static void prompt_logprobs_are_vllms_on_both_routes(void **state)
{
    (void)state;
    need_server();
    json_t *answer = ft_http_json(at, "POST", "/v1/completions",
                                  "{\"prompt\":[[300,301,302,303],[5,6]],\"n\":2,\"max_tokens\":2,\"logprobs\":1,"
                                  "\"echo\":true,\"prompt_logprobs\":3,\"return_token_ids\":true,\"temperature\":0}",
                                  200);
    for (size_t i = 0; i < 4; i++) {
        const json_t *choice = choice_of(answer, i), *list = json_object_get(choice, "prompt_logprobs");
        const json_t *ids = json_object_get(choice, "prompt_token_ids");
        const json_t *values = json_object_get(json_object_get(choice, "logprobs"), "token_logprobs");
        is_prompt_logprobs(list, ids, 3);
        for (size_t t = 1; t < json_array_size(list); t++) {
            char key[24];
            snprintf(key, sizeof(key), "%d", (int)json_integer_value(json_array_get(ids, t)));
            const json_t *own = json_object_get(json_array_get(list, t), key);
            assert_true(json_equal(json_object_get(own, "logprob"), json_array_get(values, t)));
        }
        /* `logprobs: 1` shows no more for it */
        const json_t *top = json_array_get(json_object_get(json_object_get(choice, "logprobs"), "top_logprobs"), 1);
        assert_true(json_object_size(top) <= 2);
    }
    json_decref(answer);
    json_t *chat = ft_http_json(at, "POST", "/v1/chat/completions",
                                "{" HELLO ",\"max_tokens\":1,\"prompt_logprobs\":0,\"return_token_ids\":true}", 200);
    assert_null(json_object_get(choice_of(chat, 0), "prompt_logprobs"));
    is_prompt_logprobs(json_object_get(chat, "prompt_logprobs"),
                       json_object_get(choice_of(chat, 0), "prompt_token_ids"), 0);
    json_decref(chat);
    json_t *none = ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}", 200);
    assert_null(json_object_get(choice_of(none, 0), "prompt_logprobs"));
    json_decref(none);
    json_t *error =
        ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":\"a\",\"stream\":true,\"prompt_logprobs\":1}", 400);
    assert_string_equal(text_at(json_object_get(error, "error"), "param"), "prompt_logprobs");
    json_decref(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echoed_logprobs_score_the_prompt),
        cmocka_unit_test(streamed_numbers_come_with_their_text_and_join_to_the_whole),
        cmocka_unit_test(streamed_chat_numbers_join_to_the_whole),
        cmocka_unit_test(generated_numbers_are_those_of_a_scored_prompt),
        cmocka_unit_test(prompt_logprobs_are_vllms_on_both_routes),
    };
    return cmocka_run_group_tests(tests, open_with_template, close_all);
}
