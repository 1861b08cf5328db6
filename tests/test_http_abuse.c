/* Requests and clients that nobody should send: each gets its documented error, time and
 * memory stay bounded, others are served. */
#include "tests/ft_test_http.h"

#include "base/ft_buffer.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int open_with_template(void **state)
{
    (void)state;
    if (ft_test_federation(""))
        start_server("chat_template: chatml\n");
    return 0;
}

static void serves(void)
{
    json_decref(ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}", 200));
}

/* Refused with 400 in OpenAI's envelope, within a few seconds; the field is named unless
 * the body is no JSON at all. */
static void refused(const char *path, const char *body, const char *param)
{
    const double from = seconds();
    ft_reply r = ft_http(at, "POST", path, NULL, body);
    if (r.status != 400)
        fail_msg("%s %.200s: status %d: %.300s", path, body, r.status, r.body ? r.body : "");
    json_t *v = ft_reply_json(&r);
    const json_t *error = json_object_get(v, "error");
    const char *named = text_at(error, "param");
    assert_int_equal(json_object_size(v), 1);
    assert_string_equal(text_at(error, "type"), "invalid_request_error");
    assert_true(strlen(text_at(error, "message")) > 0);
    if (named ? !param || strcmp(named, param) != 0 : param != NULL)
        fail_msg("%s %.200s: param %s, not %s", path, body, named ? named : "null", param ? param : "null");
    assert_true(seconds() - from < 5);
    json_decref(v);
    ft_reply_release(&r);
}

/* --- Fields ------------------------------------------------------------------------------ */

typedef struct field {
    const char *name;
    const char *const *bad;
} field;

#define VALUES(...)                                                                                                    \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }
static const char *const bad_flags[] = {"1", "0", "\"true\"", "[]", "{}", "1.0", NULL};

/* Of both routes. */
static const field shared_fields[] = {
    {"model", VALUES("7", "[]", "true", "{}", "\"demo\\u0000x\"")},
    {"temperature", VALUES("\"hot\"", "true", "[1]", "{}", "-0.1", "2.01", "1e308")},
    {"top_p", VALUES("\"1\"", "false", "[]", "-1", "1.5")},
    {"min_p", VALUES("\"1\"", "true", "-0.5", "1.01")},
    {"presence_penalty", VALUES("\"1\"", "true", "[]", "2.1", "-2.1")},
    {"frequency_penalty", VALUES("\"1\"", "{}", "3", "-1e300")},
    {"repetition_penalty", VALUES("\"1\"", "0", "-1", "101", "[1]")},
    {"n", VALUES("\"1\"", "0", "-1", "129", "1.5", "true", "[1]", "9223372036854775807")},
    {"seed", VALUES("\"1\"", "1.5", "[]", "true", "1e30")},
    {"top_k", VALUES("\"1\"", "-2", "1.5", "4294967296", "{}")},
    {"min_tokens", VALUES("\"1\"", "-1", "0.5", "[]", "100000")},
    {"truncate_prompt_tokens", VALUES("\"1\"", "0", "-1", "1.5")},
    {"max_tokens", VALUES("\"1\"", "-1", "1.5", "true", "[]", "4294967296")},
    {"stop", VALUES("7", "true", "{}", "[7]", "[\"a\",7]", "\"\"", "[\"\"]", "[\"a\",\"b\",\"c\",\"d\",\"e\"]", "[[]]",
                    "\"a\\u0000b\"", "[null]")},
    {"stop_token_ids",
     VALUES("7", "\"a\"", "{}", "[1.5]", "[-1]", "[8192]", "[4294967296]", "[\"1\"]", "[[1]]", "[null]", "[1e30]")},
    {"logit_bias", VALUES("7", "\"a\"", "[1]", "{\"a\":1}", "{\"\":1}", "{\"-1\":1}", "{\"8192\":1}", "{\"1.0\":1}",
                          "{\" 1\":1}", "{\"01\":1}", "{\"99999999999999999999\":1}", "{\"1\":\"a\"}", "{\"1\":null}",
                          "{\"1\":101}", "{\"1\":-1e30}", "{\"1\":[1]}")},
    {"prompt_logprobs", VALUES("-1", "21", "\"1\"", "[1]", "true", "1.5")},
    {"stream", bad_flags},
    {"ignore_eos", bad_flags},
    {"include_stop_str_in_output", bad_flags},
    {"skip_special_tokens", bad_flags},
    {"return_token_ids", bad_flags},
    {"return_tokens_as_token_ids", bad_flags},
    {"return_routed_experts", bad_flags},
    {"add_special_tokens", bad_flags},
    {"user", VALUES("7", "[]", "true", "{}")},
    {"response_format", VALUES("{\"type\":\"json_object\"}", "7", "\"text\"")},
    {"tools", VALUES("[{\"type\":\"function\"}]", "7")},
    {"functions", VALUES("[{\"name\":\"f\"}]")},
    {"tool_choice", VALUES("\"required\"", "{\"type\":\"function\"}")},
    {"guided_json", VALUES("{\"type\":\"object\"}")},
    {"stream_options", VALUES("7", "[]", "{\"include_usage\":true}", "\"a\"")},
    {"flextrace",
     VALUES("7", "[]", "\"a\"", "{\"trace\":1}", "{\"store\":\"no\"}", "{\"without\":7}", "{\"without\":[\"nobody\"]}",
            "{\"without\":[64]}", "{\"without\":[-1]}", "{\"without\":[1.5]}", "{\"without\":[null]}", "{\"only\":[]}",
            "{\"only\":[\"public\"],\"without\":[\"public\"]}", "{\"without\":[0,1,2,3,4,5]}", "{\"routing\":\"some\"}",
            "{\"routing\":\"full\\u0000\"}", "{\"without\":[\"public\\u0000x\"]}", "{\"only\":[\"public\\u0000\"]}",
            "{\"routing\":7}")},
};
static const field completion_fields[] = {
    {"prompt", VALUES("null", "7", "true", "{}", "[]", "\"\"", "[1.5]", "[-1]", "[8192]", "[4294967296]", "[1e30]",
                      "[\"a\",1]", "[[1],[\"a\"]]", "[[]]", "[null]", "[1,\"a\"]", "[1,null]", "[[1],7]", "[true]",
                      "[{\"a\":1}]", "[\"\"]", "[9223372036854775807]")},
    {"logprobs", VALUES("\"1\"", "-1", "21", "1.5", "[]", "{}")},
    {"echo", bad_flags},
    {"best_of", VALUES("2", "\"1\"", "0", "[]")},
    {"suffix", VALUES("\"a\"", "7", "true")},
};
static const field chat_fields[] = {
    {"messages",
     VALUES("null", "7", "\"a\"", "{}", "[]", "[7]", "[null]", "[[]]", "[{}]", "[{\"role\":\"user\"}]",
            "[{\"content\":\"a\"}]", "[{\"role\":7,\"content\":\"a\"}]", "[{\"role\":\"user\",\"content\":7}]",
            "[{\"role\":\"user\",\"content\":{}}]", "[{\"role\":\"user\",\"content\":[\"a\"]}]",
            "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "[{\"role\":\"\",\"content\":\"a\"}]",
            "[{\"role\":\"user\\u0000x\",\"content\":\"a\"}]",
            "[{\"role\":\"user\",\"content\":[{\"type\":\"text\\u0000\",\"text\":\"a\"}]}]")},
    {"max_completion_tokens", VALUES("\"1\"", "-1", "1.5", "true")},
    {"logprobs", VALUES("\"true\"", "1", "[]")},
    {"top_logprobs", VALUES("\"1\"", "-1", "21", "1.5", "3")},
    {"add_generation_prompt", bad_flags},
    {"modalities", VALUES("[\"audio\"]", "\"text\"", "[\"text\",\"audio\"]")},
};

/* `rest`: a good request's other fields; a field that is tried is left out of it. */
static void try_fields(const char *path, const field *fields, size_t n, int chat)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; fields[i].bad[k]; k++) {
            const int own = !strcmp(fields[i].name, chat ? "messages" : "prompt");
            const int tokens = !strcmp(fields[i].name, "max_tokens");
            char body[800];
            snprintf(body, sizeof(body), "{%s%s\"%s\":%s}",
                     own    ? ""
                     : chat ? "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                            : "\"prompt\":\"a\",",
                     tokens ? "" : "\"max_tokens\":3,", fields[i].name, fields[i].bad[k]);
            refused(path, body, fields[i].name);
        }
}

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static void every_field_of_a_wrong_type_or_range_is_named(void **state)
{
    (void)state;
    need_server();
    try_fields("/v1/completions", shared_fields, COUNT(shared_fields), 0);
    try_fields("/v1/completions", completion_fields, COUNT(completion_fields), 0);
    try_fields("/v1/chat/completions", shared_fields, COUNT(shared_fields), 1);
    try_fields("/v1/chat/completions", chat_fields, COUNT(chat_fields), 1);
    serves();
}

static void what_is_no_json_is_refused_as_such(void **state)
{
    (void)state;
    need_server();
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "7",
                                      "null",
                                      "{\"prompt\":\"a\"",
                                      "{\"prompt\":\"a\"}x",
                                      "{\"prompt\":\"a\",\"prompt\":\"b\"}",
                                      "{\"prompt\":\"a\",\"temperature\":NaN}",
                                      "{\"prompt\":\"a\",\"temperature\":Infinity}",
                                      "{\"prompt\":\"a\",\"temperature\":-Infinity}",
                                      "{\"prompt\":\"a\",\"temperature\":1e999}",
                                      "{\"prompt\":\"a\",\"n\":99999999999999999999}",
                                      "{\"prompt\":\"\xff\xfe\"}",
                                      "{\"prompt\":\"\xed\xa0\x80\"}",
                                      "{\"prompt\":\"\xc0\x80\"}",
                                      "{\"prompt\":\"\\ud800\"}",
                                      "{\"prompt\":\"\\udc00\\ud800\"}",
                                      "{'prompt':'a'}",
                                      "{\"prompt\":\"a\",}",
                                      "{\"pro\xff mpt\":\"a\"}"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        refused("/v1/completions", bad[i], NULL);
        refused("/v1/chat/completions", bad[i], NULL);
        refused("/tokenize", bad[i], NULL);
    }
    serves();
}

/* A body of `n` times `piece` between two ends. */
static char *repeated(const char *before, const char *piece, size_t n, const char *after)
{
    ft_buffer b = {0};
    assert_int_equal(ft_buffer_append_str(&b, before, NULL), FT_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ft_buffer_append_str(&b, piece, NULL), FT_OK);
    assert_int_equal(ft_buffer_append_str(&b, after, NULL), FT_OK);
    return b.data;
}

static void requests_that_are_much_too_much_are_refused_soon(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *before, *piece;
        size_t n;
        const char *after, *param;
    } bad[] = {
        {"{\"prompt\":\"a\",\"stop\":[\"s\"", ",\"xyz\"", 100000, "]}", "stop"},
        {"{\"prompt\":\"a\",\"stop_token_ids\":[1", ",2", 100000, "]}", "stop_token_ids"},
        {"{\"prompt\":[\"a\"", ",\"b\"", 100000, "]}", "prompt"},
        {"{\"prompt\":[[1]", ",[2]", 100000, "]}", "prompt"},
        {"{\"prompt\":[1", ",2", 200000, "]}", "prompt"},
        {"{\"prompt\":\"", "word ", 150000, "\"}", "prompt"},
        {"{\"prompt\":", "[", 300000, "", NULL},
        {"{\"a\":", "{\"a\":", 100000, "", NULL},
        {"{\"prompt\":\"a\",\"flextrace\":{\"without\":[0", ",0,1", 100000, ",\"nobody\"]}}", "flextrace"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        char *body = repeated(bad[i].before, bad[i].piece, bad[i].n, bad[i].after);
        refused("/v1/completions", body, bad[i].param);
        free(body);
    }
    char *many = repeated("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}",
                          ",{\"role\":\"user\",\"content\":\"a\"}", 20000, "]}");
    refused("/v1/chat/completions", many, "messages");
    free(many);
    ft_buffer bias = {0};
    assert_int_equal(ft_buffer_append_str(&bias, "{\"prompt\":\"a\",\"logit_bias\":{\"0\":1", NULL), FT_OK);
    for (int i = 1; i < 8000; i++)
        assert_int_equal(ft_buffer_printf(&bias, NULL, ",\"%d\":1", i), FT_OK);
    assert_int_equal(ft_buffer_append_str(&bias, "}}", NULL), FT_OK);
    refused("/v1/completions", bias.data, "logit_bias");
    ft_buffer_release(&bias);
    serves();
}

/* Unknown fields, however many and whatever they are called: ignored, and a bounded header. */
static void unknown_fields_by_the_thousand_are_ignored(void **state)
{
    (void)state;
    need_server();
    ft_buffer b = {0};
    assert_int_equal(ft_buffer_append_str(&b, "{\"prompt\":\"a\",\"max_tokens\":1", NULL), FT_OK);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(ft_buffer_printf(&b, NULL, ",\"x\\r\\nSet-Cookie: %d\":%d", i, i), FT_OK);
    assert_int_equal(ft_buffer_append_str(&b, "}", NULL), FT_OK);
    ft_reply r = ft_http(at, "POST", "/v1/completions", NULL, b.data);
    assert_int_equal(r.status, 200);
    assert_true(strlen(ft_reply_header(&r, "X-Ignored-Fields")) < 500);
    assert_null(ft_reply_header(&r, "Set-Cookie"));
    ft_reply_release(&r);
    ft_buffer_release(&b);
}

/* --- Clients ------------------------------------------------------------------------------ */

/* 0 under the sanitizers, which keep what is freed. */
static long resident_kib(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#endif
    long pages = 0, all = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &all, &pages), 2);
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void five_hundred_silent_clients_keep_nobody_out(void **state)
{
    (void)state;
    need_server();
    enum { CLIENTS = 500 };
    static int fds[CLIENTS];
    const long before = resident_kib();
    const double from = seconds();
    for (size_t i = 0; i < CLIENTS; i++)
        fds[i] = ft_http_connect(at);
    serves();
    json_decref(ft_http_json(at, "GET", "/v1/models", NULL, 200));
    serves();
    assert_true(seconds() - from < 30);
    assert_true(resident_kib() - before < 64 << 10);
    for (size_t i = 0; i < CLIENTS; i++)
        close(fds[i]);
    serves();
}

static double sample(const char *name)
{
    ft_reply r = ft_http(at, "GET", "/metrics", NULL, NULL);
    const size_t n = strlen(name);
    double value = -1;
    for (const char *line = r.body; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (!strncmp(line, name, n) && line[n] == ' ')
            value = strtod(line + n, NULL);
    ft_reply_release(&r);
    return value;
}

/* Sends a request and reads nothing of its answer. */
static int send_and_stall(const char *body)
{
    char head[300];
    const int fd = ft_http_connect(at), small = 4096;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    snprintf(
        head, sizeof(head),
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n",
        strlen(body));
    ft_http_send(fd, head, strlen(head));
    ft_http_send(fd, body, strlen(body));
    return fd;
}

/* Each asks for a stream of some 20 MB (two thousand bytes a token, for its numbers) and
 * takes none of it: what waits for them is bounded, they are cut off, and their work ends with them. */
static void clients_that_stop_reading_are_cut_off(void **state)
{
    (void)state;
    need_server();
    enum { CLIENTS = 2 };
    static const char done[] = "flextrace_http_requests_total{route=\"/v1/completions\",method=\"POST\",code=\"200\"}";
    stop_server();
    start_server("limits: {request_seconds: 10, max_running: 32}\n");
    serves();
    const double before = sample(done);
    const long memory = resident_kib();
    int fds[CLIENTS];
    for (size_t i = 0; i < CLIENTS; i++)
        fds[i] = send_and_stall("{\"prompt\":\"In the beginning\",\"max_tokens\":900,\"n\":64,\"ignore_eos\":true,"
                                "\"stream\":true,\"logprobs\":20,\"flextrace\":{\"trace\":true,\"store\":false}}");
    const double from = seconds();
    size_t served = 0;
    while (sample(done) < before + CLIENTS + (double)served || sample("flextrace_requests_running") > 0) {
        serves(); /* others meanwhile */
        served++;
        if (seconds() - from > 180)
            fail_msg("after three minutes %g of %d are cut off", sample(done) - before - (double)served, CLIENTS);
    }
    assert_true(served > 0);
    /* but for what the model remembers of texts, which has its own bound */
    const double kept = sample("flextrace_kv_cache_usage_ratio") * sample("flextrace_kv_cache_bytes") / 1024;
    assert_true((double)(resident_kib() - memory) - kept < 128 << 10);
    assert_true(sample("flextrace_generation_tokens_total") < 0.9 * 900 * 64 * CLIENTS); /* the work ended too */
    for (size_t i = 0; i < CLIENTS; i++)
        close(fds[i]);
    serves();
}

/* Waits until so many generations are in the queue. */
static void until_waiting(double count)
{
    const struct timespec moment = {.tv_nsec = 5000000};
    for (int tries = 0; sample("flextrace_requests_waiting") != count; tries++) {
        if (tries == 4000)
            fail_msg("%g generations wait, not %g", sample("flextrace_requests_waiting"), count);
        nanosleep(&moment, NULL);
    }
}

/* One runs and one may wait: when that one leaves, the next finds room at once, though the
 * running one goes on. */
static void who_leaves_the_queue_makes_room(void **state)
{
    (void)state;
    need_server();
    stop_server();
    start_server("limits: {max_running: 1, max_waiting: 1}\n");
    const int running = send_and_stall("{\"prompt\":\"a\",\"max_tokens\":1000,\"ignore_eos\":true,\"stream\":true}");
    for (int tries = 0; sample("flextrace_requests_running") != 1; tries++)
        assert_true(tries < 4000);
    static const char short_one[] = "{\"prompt\":\"a\",\"max_tokens\":1}";
    for (int round = 0; round < 3; round++) {
        const int waits = send_and_stall(short_one);
        until_waiting(1);
        ft_reply r = ft_http(at, "POST", "/v1/completions", NULL, short_one);
        assert_int_equal(r.status, 503);
        ft_reply_release(&r);
        close(waits);
        /* A stream's head is sent as soon as it is admitted. */
        const int next = send_and_stall("{\"prompt\":\"a\",\"max_tokens\":1,\"stream\":true}");
        char head[13] = "";
        assert_int_equal(recv(next, head, 12, MSG_WAITALL), 12);
        assert_string_equal(head, "HTTP/1.1 200");
        assert_true(sample("flextrace_requests_running") == 1);
        assert_true(sample("flextrace_requests_waiting") == 1);
        close(next);
        until_waiting(0); /* by the clock, without anybody who asks for the place */
    }
    close(running);
    stop_server();
    start_server("chat_template: chatml\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_a_wrong_type_or_range_is_named),
        cmocka_unit_test(what_is_no_json_is_refused_as_such),
        cmocka_unit_test(requests_that_are_much_too_much_are_refused_soon),
        cmocka_unit_test(unknown_fields_by_the_thousand_are_ignored),
        cmocka_unit_test(five_hundred_silent_clients_keep_nobody_out),
        cmocka_unit_test(clients_that_stop_reading_are_cut_off),
        cmocka_unit_test(who_leaves_the_queue_makes_room),
    };
    return cmocka_run_group_tests(tests, open_with_template, close_all);
}
