/* /tokenize, /detokenize, /tokenizer_info and /metrics. */
#include "tests/ft_test_http.h"

#include <ctype.h>

static int open_with_template(void **state)
{
    (void)state;
    if (ft_test_federation(""))
        start_server("chat_template: chatml\n");
    return 0;
}

static void tokens_go_there_and_back_with_their_offsets(void **state)
{
    (void)state;
    need_server();
    static const char text[] = "In the beginning, \xc3\xa4\xe4\xb8\xad\xf0\x9f\x98\x80 <|endoftext|> x";
    char body[600];
    snprintf(body, sizeof(body), "{\"prompt\":\"%s\",\"add_special_tokens\":false,\"return_token_strs\":true}", text);
    json_t *t = ft_http_json(at, "POST", "/tokenize", body, 200);
    const json_t *ids = json_object_get(t, "tokens"), *offsets = json_object_get(t, "offsets"), *one;
    const size_t n = json_array_size(ids);
    assert_int_equal(json_integer_value(json_object_get(t, "count")), n);
    assert_int_equal(json_integer_value(json_object_get(t, "max_model_len")), 1024);
    assert_int_equal(json_array_size(json_object_get(t, "token_strs")), n);
    size_t i, covered = 0;
    json_array_foreach(offsets, i, one)
    {
        const json_int_t from = json_integer_value(json_array_get(one, 0)),
                         to = json_integer_value(json_array_get(one, 1));
        assert_true(from <= to && (size_t)to <= sizeof(text) - 1 && (size_t)from <= covered);
        covered = (size_t)to;
    }
    assert_int_equal(covered, sizeof(text) - 1);
    char *list = json_dumps(ids, JSON_COMPACT);
    snprintf(body, sizeof(body), "{\"tokens\":%s}", list);
    json_t *back = ft_http_json(at, "POST", "/detokenize", body, 200);
    assert_string_equal(text_at(back, "prompt"), text);
    assert_string_equal(text_at(back, "content"), text);
    free(list);
    json_decref(back);
    json_decref(t);
    /* the other two ways to name a text */
    json_t *a = ft_http_json(at, "POST", "/tokenize", "{\"content\":\"<|im_start|>user\\nx<|im_end|>\\n\"}", 200);
    json_t *b =
        ft_http_json(at, "POST", "/tokenize",
                     "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"add_generation_prompt\":false}", 200);
    assert_true(json_equal(json_object_get(a, "tokens"), json_object_get(b, "tokens")));
    assert_true(json_is_null(json_object_get(a, "token_strs")));
    json_decref(a);
    json_decref(b);
}

static void bad_helpers_requests_are_refused(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *path, *body;
    } bad[] = {{"/tokenize", "{}"},
               {"/tokenize", "{\"prompt\":7}"},
               {"/tokenize", "{\"prompt\":\"a\",\"content\":\"b\"}"},
               {"/tokenize", "{\"prompt\":\"a\",\"return_token_strs\":1}"},
               {"/tokenize", "{\"messages\":[]}"},
               {"/detokenize", "{}"},
               {"/detokenize", "{\"tokens\":\"1\"}"},
               {"/detokenize", "{\"tokens\":[1.5]}"},
               {"/detokenize", "{\"tokens\":[-1]}"},
               {"/detokenize", "{\"tokens\":[8192]}"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        json_t *e = ft_http_json(at, "POST", bad[i].path, bad[i].body, 400);
        assert_non_null(text_at(json_object_get(e, "error"), "message"));
        json_decref(e);
    }
    json_decref(ft_http_json(at, "POST", "/tokenize", "{\"model\":\"gpt\",\"prompt\":\"a\"}", 404));
}

static void a_harness_learns_the_tokenizers_special_tokens(void **state)
{
    (void)state;
    need_server();
    json_t *info = ft_http_json(at, "GET", "/tokenizer_info", NULL, 200);
    assert_string_equal(text_at(info, "eos_token"), "<|endoftext|>");
    assert_string_equal(text_at(info, "pad_token"), "<|pad|>");
    assert_true(json_is_null(json_object_get(info, "bos_token")));
    assert_non_null(json_object_get(info, "chat_template"));
    json_decref(info);
}

/* --- Metrics ------------------------------------------------------------------------- */

/* The value of the sample whose line begins with `name` and a blank; -1: none. */
static double sample(const char *text, const char *name)
{
    const size_t n = strlen(name);
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (!strncmp(line, name, n) && line[n] == ' ')
            return strtod(line + n, NULL);
    return -1;
}

/* What promtool would say of the text: every sample has its HELP and TYPE before it, names
 * and labels are well formed, counters end in _total, buckets rise to their count. */
static void lint(const char *text)
{
    char family[200] = "", type[40] = "", seen[20000] = "";
    double last = -1;
    for (const char *line = text; *line;) {
        const size_t n = strcspn(line, "\n");
        assert_int_equal(line[n], '\n');
        if (!strncmp(line, "# HELP ", 7)) {
            snprintf(family, sizeof(family), "%.*s", (int)strcspn(line + 7, " "), line + 7);
            char marked[220];
            snprintf(marked, sizeof(marked), " %s ", family);
            if (strstr(seen, marked))
                fail_msg("%s comes twice", family);
            strncat(seen, marked, sizeof(seen) - strlen(seen) - 1);
        } else if (!strncmp(line, "# TYPE ", 7)) {
            assert_int_equal(strncmp(line + 7, family, strlen(family)), 0);
            snprintf(type, sizeof(type), "%.*s", (int)strcspn(line + 8 + strlen(family), "\n"),
                     line + 8 + strlen(family));
            const size_t k = strlen(family);
            assert_int_equal(!strcmp(type, "counter"), k > 6 && !strcmp(family + k - 6, "_total"));
            last = -1;
        } else {
            if (strncmp(line, family, strlen(family)) != 0)
                fail_msg("'%.*s' stands under %s", (int)n, line, family);
            for (const char *p = line; *p != ' ' && *p != '{'; p++)
                assert_true(isalnum((unsigned char)*p) || *p == '_');
            const char *value = line + n;
            while (value[-1] != ' ')
                value--;
            char *end;
            const double v = strtod(value, &end);
            assert_ptr_equal(end, line + n);
            const int bucket = !strncmp(line + strlen(family), "_bucket", 7);
            if (bucket && strstr(line, "le=\"0.0") != NULL && strstr(line, "le=\"0.0") < line + n && v < last)
                last = -1; /* the next route's first bucket */
            if (bucket && last >= 0 && strncmp(strstr(line, "le="), "le=\"0.01\"", 9) != 0 &&
                strncmp(strstr(line, "le="), "le=\"0.001\"", 10) != 0)
                assert_true(v >= last);
            last = bucket ? v : -1;
        }
        line += n + 1;
    }
}

/* What all owners' experts had of the tokens, by their shares and by the largest. */
static void sum_of_experts(const char *metrics, double *weight, double *tokens)
{
    static const char *const owners[] = {"public", "scripture", "dictionary", "expert 3", "expert 4", "expert 5"};
    *weight = *tokens = 0;
    for (size_t i = 0; i < 6; i++) {
        char name[100];
        snprintf(name, sizeof(name), "flextrace_expert_weight_total{owner=\"%s\"}", owners[i]);
        *weight += sample(metrics, name);
        snprintf(name, sizeof(name), "flextrace_expert_tokens_total{owner=\"%s\"}", owners[i]);
        *tokens += sample(metrics, name);
    }
}

static void scoring_counts_its_prompt_and_plain_generations_count_their_experts(void **state)
{
    (void)state;
    need_server();
    double weight[2], tokens[2];
    ft_reply before = ft_http(at, "GET", "/metrics", NULL, NULL);
    json_decref(ft_http_json(at, "POST", "/v1/completions",
                             "{\"prompt\":[300,301,302,303],\"max_tokens\":0,\"echo\":true,\"logprobs\":1}", 200));
    ft_reply scored = ft_http(at, "GET", "/metrics", NULL, NULL);
    json_decref(ft_http_json(at, "POST", "/v1/completions",
                             "{\"prompt\":[300],\"max_tokens\":6,\"temperature\":0,\"ignore_eos\":true}", 200));
    ft_reply after = ft_http(at, "GET", "/metrics", NULL, NULL);
    static const char prompts[] = "flextrace_prompt_tokens_total",
                      first[] = "flextrace_time_to_first_token_seconds_count";
    assert_true(sample(scored.body, prompts) - sample(before.body, prompts) == 4);
    assert_true(sample(scored.body, first) - sample(before.body, first) == 0);
    sum_of_experts(scored.body, &weight[0], &tokens[0]);
    sum_of_experts(after.body, &weight[1], &tokens[1]);
    assert_true(tokens[1] - tokens[0] == 6);
    assert_true(weight[1] - weight[0] > 5.999 && weight[1] - weight[0] < 6.001);
    ft_reply_release(&before);
    ft_reply_release(&scored);
    ft_reply_release(&after);
}

static void metrics_count_what_happens_and_pass_a_lint(void **state)
{
    (void)state;
    need_server();
    ft_reply before = ft_http(at, "GET", "/metrics", NULL, NULL);
    assert_int_equal(before.status, 200);
    assert_string_equal(ft_reply_header(&before, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    lint(before.body);
    json_decref(ft_http_json(at, "POST", "/v1/completions",
                             "{\"prompt\":[300,301,302],\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true,"
                             "\"flextrace\":{\"trace\":true,\"store\":false}}",
                             200));
    json_decref(ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":7}", 400));
    json_decref(ft_http_json(at, "GET", "/no/such/thing", NULL, 404));
    ft_reply after = ft_http(at, "GET", "/metrics", NULL, NULL);
    lint(after.body);
    static const struct {
        const char *name;
        double more;
    } grow[] = {
        {"flextrace_prompt_tokens_total", 3},
        {"flextrace_generation_tokens_total", 5},
        {"flextrace_time_to_first_token_seconds_count", 1},
        {"flextrace_time_per_output_token_seconds_count", 4},
        {"flextrace_attribution_duration_seconds_count", 1},
    };
    for (size_t i = 0; i < sizeof(grow) / sizeof(*grow); i++)
        if (sample(after.body, grow[i].name) - sample(before.body, grow[i].name) != grow[i].more)
            fail_msg("%s: %g, then %g", grow[i].name, sample(before.body, grow[i].name),
                     sample(after.body, grow[i].name));
    assert_true(sample(after.body,
                       "flextrace_http_requests_total{route=\"/v1/completions\",method=\"POST\",code=\"200\"}") >= 1);
    assert_true(sample(after.body,
                       "flextrace_http_requests_total{route=\"/v1/completions\",method=\"POST\",code=\"400\"}") >= 1);
    assert_true(sample(after.body, "flextrace_http_requests_total{route=\"none\",method=\"other\",code=\"404\"}") >= 1);
    double had[2], now[2];
    sum_of_experts(before.body, &had[0], &had[1]);
    sum_of_experts(after.body, &now[0], &now[1]);
    const double weight = now[0] - had[0], tokens = now[1] - had[1];
    assert_true(weight > 4.999 && weight < 5.001 && tokens == 5);
    assert_true(sample(after.body, "flextrace_index_documents{owner=\"scripture\"}") == 2);
    assert_true(sample(after.body, "process_resident_memory_bytes") > 1e6);
    assert_true(sample(after.body, "process_start_time_seconds") > 1.6e9);
    assert_true(sample(after.body, "flextrace_requests_running") == 0);
    ft_reply_release(&before);
    ft_reply_release(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_go_there_and_back_with_their_offsets),
        cmocka_unit_test(bad_helpers_requests_are_refused),
        cmocka_unit_test(a_harness_learns_the_tokenizers_special_tokens),
        cmocka_unit_test(scoring_counts_its_prompt_and_plain_generations_count_their_experts),
        cmocka_unit_test(metrics_count_what_happens_and_pass_a_lint),
    };
    return cmocka_run_group_tests(tests, open_with_template, close_all);
}
