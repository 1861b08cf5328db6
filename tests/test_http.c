/* The HTTP service: a real server on a port that the system chose, the demo model,
 * three small corpora. */
#include "api/http_internal.h"
#include "base/ft_buffer.h"
#include "model/ft_generate.h"
#include "tests/ft_test_http.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

static const json_t *choice_of(const json_t *answer, size_t i)
{
    return json_array_get(json_object_get(answer, "choices"), i);
}

/* --- What is served --------------------------------------------------------------- */

static void models_and_owners_tell_who_takes_part(void **state)
{
    (void)state;
    need_server();
    json_t *list = ft_http_json(at, "GET", "/v1/models", NULL, 200);
    const json_t *model = json_array_get(json_object_get(list, "data"), 0);
    assert_string_equal(text_at(model, "id"), "test");
    const json_t *experts = json_object_get(json_object_get(model, "meta"), "experts");
    assert_int_equal(json_array_size(experts), 6);
    assert_string_equal(text_at(json_array_get(experts, 1), "owner"), "scripture");
    assert_true(json_is_null(json_object_get(json_array_get(experts, 5), "owner")));
    json_t *one = ft_http_json(at, "GET", "/v1/models/test", NULL, 200);
    assert_true(json_equal(one, (json_t *)model));
    json_decref(one);
    json_decref(list);

    json_t *none = ft_http_json(at, "GET", "/v1/models/gpt", NULL, 404);
    assert_string_equal(text_at(json_object_get(none, "error"), "code"), "model_not_found");
    json_decref(none);

    json_t *owners = ft_http_json(at, "GET", "/v1/owners", NULL, 200);
    const json_t *scripture = json_array_get(json_object_get(owners, "data"), 1);
    assert_string_equal(text_at(scripture, "description"), "Genesis");
    assert_int_equal(json_integer_value(json_object_get(scripture, "documents")), 2);
    assert_int_equal(json_integer_value(json_object_get(scripture, "expert")), 1);
    json_decref(owners);
}

static void health_routes_answer_and_readiness_names_its_checks(void **state)
{
    (void)state;
    need_server();
    json_decref(ft_http_json(at, "GET", "/livez", NULL, 200));
    json_decref(ft_http_json(at, "GET", "/health", NULL, 200));
    json_decref(ft_http_json(at, "GET", "/version", NULL, 200));
    ft_reply empty = ft_http(at, "GET", "/health/", NULL, NULL);
    assert_int_equal(empty.status, 204);
    assert_int_equal(empty.size, 0);
    ft_reply_release(&empty);
    json_t *ready = ft_http_json(at, "GET", "/readyz", NULL, 200);
    const json_t *checks = json_object_get(ready, "checks");
    assert_int_equal(json_array_size(checks), 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(json_is_true(json_object_get(json_array_get(checks, i), "ok")));
    json_decref(ready);
}

static void the_page_comes_with_its_policy_and_a_tag(void **state)
{
    (void)state;
    need_server();
    ft_reply page = ft_http(at, "GET", "/", "Accept: text/html,*/*\r\n", NULL);
    assert_int_equal(page.status, 200);
    assert_string_equal(ft_reply_header(&page, "Content-Type"), "text/html; charset=utf-8");
    const char *policy = ft_reply_header(&page, "Content-Security-Policy");
    assert_non_null(policy);
    assert_non_null(strstr(policy, "default-src 'none'"));
    assert_null(strstr(policy, "unsafe"));
    assert_string_equal(ft_reply_header(&page, "X-Content-Type-Options"), "nosniff");
    char again[200];
    snprintf(again, sizeof(again), "Accept: text/html\r\nIf-None-Match: %s\r\n", ft_reply_header(&page, "ETag"));
    ft_reply same = ft_http(at, "GET", "/", again, NULL);
    assert_int_equal(same.status, 304);
    assert_int_equal(same.size, 0);
    ft_reply_release(&same);
    ft_reply_release(&page);

    ft_reply script = ft_http(at, "GET", "/app.js", NULL, NULL);
    assert_int_equal(script.status, 200);
    assert_string_equal(ft_reply_header(&script, "Content-Type"), "text/javascript; charset=utf-8");
    ft_reply_release(&script);
    ft_reply head = ft_http(at, "HEAD", "/app.js", NULL, NULL);
    assert_int_equal(head.status, 200);
    assert_int_equal(head.size, 0);
    ft_reply_release(&head);
    static const char *const absent[] = {"/..%2ffederation.yaml", "/%2e%2e/federation.yaml", "/federation.yaml",
                                         "/nothing.js", "/.git"};
    for (size_t i = 0; i < 5; i++)
        json_decref(ft_http_json(at, "GET", absent[i], NULL, 404));
}

/* --- Completions ------------------------------------------------------------------- */

/* Text of a completion by the library alone, as `flextrace generate` makes it. */
static char *generate(const char *prompt, size_t tokens, const ft_sampling *how)
{
    ft_encoder *encoder;
    ft_encoding e = {0};
    ft_generation *g;
    ft_status st = {0};
    const ft_tokenizer *t = ft_federation_tokenizer(federation);
    assert_ok(ft_encoder_new(&encoder, t, &st), st);
    assert_ok(ft_encoder_encode(encoder, prompt, strlen(prompt), &e, &st), st);
    const ft_generate_request r = {
        .prompt = e.ids, .prompt_count = e.count, .max_new_tokens = tokens, .sampling = *how};
    assert_ok(ft_generation_open(&g, ft_federation_model(federation), t, NULL, &r, &st), st);
    while (ft_generation_get(g).finish == FT_FINISH_NONE)
        assert_ok(ft_generation_step(g, &st), st);
    const ft_generation_state end = ft_generation_get(g);
    char *text = strndup(end.text, end.text_bytes);
    ft_generation_close(g);
    ft_encoding_release(&e);
    ft_encoder_free(encoder);
    return text;
}

static void a_completion_is_what_the_library_generates_for_the_same_seed(void **state)
{
    (void)state;
    need_server();
    static const ft_sampling ways[] = {{.temperature = 0, .top_p = 1},
                                       {.temperature = 0.8, .top_k = 20, .top_p = 0.9, .seed = 7}};
    static const char *const bodies[] = {
        "{\"model\":\"test\",\"prompt\":\"And it came to pass\",\"max_tokens\":12,\"temperature\":0}",
        "{\"prompt\":\"And it came to pass\",\"max_tokens\":12,\"temperature\":0.8,\"top_k\":20,\"top_p\":0.9,"
        "\"seed\":7}"};
    for (size_t i = 0; i < 2; i++) {
        char *expected = generate("And it came to pass", 12, &ways[i]);
        json_t *answer = ft_http_json(at, "POST", "/v1/completions", bodies[i], 200);
        assert_string_equal(text_at(choice_of(answer, 0), "text"), expected);
        assert_string_equal(text_at(answer, "object"), "text_completion");
        assert_int_equal(strncmp(text_at(answer, "system_fingerprint"), "fx-", 3), 0);
        const json_t *usage = json_object_get(answer, "usage");
        assert_int_equal(json_integer_value(json_object_get(usage, "total_tokens")),
                         json_integer_value(json_object_get(usage, "prompt_tokens")) +
                             json_integer_value(json_object_get(usage, "completion_tokens")));
        json_decref(answer);
        free(expected);
    }
}

static void several_prompts_and_choices_come_prompt_major(void **state)
{
    (void)state;
    need_server();
    json_t *answer =
        ft_http_json(at, "POST", "/v1/completions",
                     "{\"prompt\":[\"In the beginning\",[5,6,7]],\"n\":3,\"max_tokens\":3,\"seed\":1}", 200);
    assert_int_equal(json_array_size(json_object_get(answer, "choices")), 6);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(json_integer_value(json_object_get(choice_of(answer, i), "index")), i);
    for (size_t k = 0; k < 3; k++) { /* choice k is seeded by seed + k */
        const ft_sampling how = {.temperature = 1, .top_p = 1, .seed = 1 + k};
        char *expected = generate("In the beginning", 3, &how);
        assert_string_equal(text_at(choice_of(answer, k), "text"), expected);
        free(expected);
    }
    json_decref(answer);
}

/* Reads a stream's events: joins the text of choice 0 and keeps the last chunk that
 * has a finish_reason. */
typedef struct events {
    char text[4000];
    json_t *last, *usage;
    int done, chunks;
} events;

static events read_events(const char *body)
{
    events e = {0};
    for (const char *line = body; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (!strncmp(line, "data: [DONE]", 12)) {
            e.done = 1;
            continue;
        }
        if (strncmp(line, "data: ", 6) != 0)
            continue;
        assert_false(e.done);
        json_t *chunk = json_loadb(line + 6, strcspn(line + 6, "\n"), 0, NULL);
        assert_non_null(chunk);
        const json_t *choice = choice_of(chunk, 0);
        e.chunks++;
        if (choice)
            strncat(e.text, text_at(choice, "text"), sizeof(e.text) - strlen(e.text) - 1);
        else
            e.usage = json_incref(json_object_get(chunk, "usage"));
        if (text_at(choice, "finish_reason")) {
            json_decref(e.last);
            e.last = json_incref(chunk);
        }
        json_decref(chunk);
    }
    return e;
}

static void a_stream_joins_to_the_whole_answer(void **state)
{
    (void)state;
    need_server();
    const ft_sampling greedy = {.top_p = 1};
    char *expected = generate("The manual page", 20, &greedy);
    ft_reply r = ft_http(at, "POST", "/v1/completions", NULL,
                         "{\"prompt\":\"The manual page\",\"max_tokens\":20,\"temperature\":0,\"stream\":true,"
                         "\"stream_options\":{\"include_usage\":true},\"echo\":true}");
    assert_int_equal(r.status, 200);
    assert_true(r.complete);
    assert_string_equal(ft_reply_header(&r, "Content-Type"), "text/event-stream");
    events e = read_events(r.body);
    assert_true(e.done);
    assert_true(e.chunks > 3);
    assert_int_equal(strncmp(e.text, "The manual page", 15), 0);
    assert_string_equal(e.text + 15, expected);
    assert_non_null(e.last);
    assert_int_equal(json_integer_value(json_object_get(e.usage, "completion_tokens")), 20);
    json_decref(e.last);
    json_decref(e.usage);
    ft_reply_release(&r);
    free(expected);
}

/* Applies the stream's span operations, as the page does; key: id, value: [start, end]. */
static json_t *apply_operations(const char *body)
{
    json_t *spans = json_object();
    for (const char *line = body; (line = strstr(line, "data: {")); line++) {
        json_t *chunk = json_loadb(line + 6, strcspn(line + 6, "\n"), 0, NULL);
        const json_t *extra = json_object_get(chunk, "flextrace");
        const json_t *list = json_object_get(extra, "trace_id") ? NULL : json_object_get(extra, "spans"), *o;
        size_t i;
        json_array_foreach(list, i, o)
        {
            if (!strcmp(text_at(o, "op"), "remove"))
                assert_int_equal(json_object_del(spans, text_at(o, "id")), 0);
            else
                json_object_set_new(spans, text_at(o, "id"),
                                    json_pack("[O,O]", json_object_get(o, "start"), json_object_get(o, "end")));
        }
        json_decref(chunk);
    }
    return spans;
}

static void a_streamed_trace_ends_with_the_spans_that_are_stored(void **state)
{
    (void)state;
    need_server();
    ft_reply r = ft_http(at, "POST", "/v1/completions", NULL,
                         "{\"prompt\":\"In the beginning God\",\"max_tokens\":40,\"temperature\":0,\"stream\":true,"
                         "\"flextrace\":{\"trace\":true,\"routing\":\"summary\"}}");
    assert_int_equal(r.status, 200);
    events e = read_events(r.body);
    assert_true(e.done);
    const json_t *extra = json_object_get(e.last, "flextrace");
    const char *id = text_at(extra, "trace_id");
    assert_non_null(id);
    char path[100];
    snprintf(path, sizeof(path), "/v1/traces/%s?routing=full", id);
    json_t *trace = ft_http_json(at, "GET", path, NULL, 200);
    assert_string_equal(text_at(json_object_get(trace, "response"), "text"), e.text);
    const json_t *spans = json_object_get(trace, "spans");
    assert_true(json_array_size(spans) > 0);
    assert_true(json_equal((json_t *)spans, json_object_get(extra, "spans")));
    json_t *live = apply_operations(r.body);
    assert_int_equal(json_object_size(live), json_array_size(spans));
    for (size_t i = 0; i < json_array_size(spans); i++) {
        const json_t *span = json_array_get(spans, i);
        char key[32];
        snprintf(key, sizeof(key), "s%lld", json_integer_value(json_object_get(span, "start")));
        const json_t *seen = json_object_get(live, key);
        assert_true(json_equal(json_array_get(seen, 1), json_object_get(span, "end")));
    }
    assert_non_null(text_at(json_object_get(trace, "routing"), "weights"));
    assert_int_equal(json_array_size(json_object_get(json_object_get(extra, "routing"), "tokens")), 40);
    json_t *bare = ft_http_json(at, "GET", strtok(path, "?"), NULL, 200);
    assert_true(json_is_null(json_object_get(bare, "routing")));
    json_decref(bare);
    json_decref(live);
    json_decref(trace);
    json_decref(e.last);
    ft_reply_release(&r);
}

/* With density 0 every span is kept, while the text is written and afterwards. */
static void a_text_is_traced_as_its_request_says(void **state)
{
    (void)state;
    need_server();
    static const char format[] = "{\"prompt\":\"In the beginning God\",\"max_tokens\":40,\"temperature\":0,"
                                 "\"stream\":true,\"flextrace\":{\"trace\":true%s}}";
    char body[400];
    size_t kept[2];
    for (int all = 0; all < 2; all++) {
        snprintf(body, sizeof(body), format, all ? ",\"options\":{\"density\":0,\"max_documents\":1}" : "");
        ft_reply r = ft_http(at, "POST", "/v1/completions", NULL, body);
        assert_int_equal(r.status, 200);
        events e = read_events(r.body);
        char path[100];
        snprintf(path, sizeof(path), "/v1/traces/%s", text_at(json_object_get(e.last, "flextrace"), "trace_id"));
        json_t *trace = ft_http_json(at, "GET", path, NULL, 200), *live = apply_operations(r.body);
        const json_t *spans = json_object_get(trace, "spans"), *options = json_object_get(trace, "options");
        assert_true(json_number_value(json_object_get(options, "density")) == (all ? 0 : 0.05));
        assert_int_equal(json_integer_value(json_object_get(options, "max_documents")), all ? 1 : 10);
        kept[all] = json_array_size(spans);
        assert_int_equal(json_object_size(live), kept[all]);
        json_decref(live);
        json_decref(trace);
        json_decref(e.last);
        ft_reply_release(&r);
    }
    assert_int_equal(kept[0], 2);
    assert_true(kept[1] > 2);
    static const char *const wrong[] = {",\"options\":{\"density\":2}", ",\"options\":{\"dense\":1}", ",\"options\":7",
                                        ",\"trace\":false,\"options\":{}"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        snprintf(body, sizeof(body), "{\"prompt\":\"a\",\"flextrace\":{\"store\":false%s%s}}",
                 i == 3 ? "" : ",\"trace\":true", wrong[i]);
        json_t *error = ft_http_json(at, "POST", "/v1/completions", body, 400);
        assert_string_equal(text_at(json_object_get(error, "error"), "param"), "flextrace");
        json_decref(error);
    }
}

static void an_opted_out_owner_has_no_share(void **state)
{
    (void)state;
    need_server();
    json_t *answer = ft_http_json(at, "POST", "/v1/completions",
                                  "{\"prompt\":\"In the beginning God\",\"max_tokens\":8,\"temperature\":0,"
                                  "\"flextrace\":{\"trace\":true,\"without\":[\"scripture\"],\"store\":false}}",
                                  200);
    const json_t *extra = json_object_get(choice_of(answer, 0), "flextrace");
    const json_t *expert = json_array_get(json_object_get(extra, "experts"), 1);
    assert_string_equal(text_at(expert, "state"), "opted_out");
    assert_true(json_real_value(json_object_get(expert, "share")) == 0);
    assert_true(json_is_null(json_object_get(extra, "trace_id")));
    json_decref(answer);
    answer = ft_http_json(at, "POST", "/v1/completions",
                          "{\"prompt\":\"In the beginning God\",\"max_tokens\":4,\"flextrace\":{\"trace\":true,"
                          "\"only\":[\"scripture\"],\"store\":false}}",
                          200);
    expert = json_array_get(json_object_get(json_object_get(choice_of(answer, 0), "flextrace"), "experts"), 1);
    assert_true(fabs(json_real_value(json_object_get(expert, "share")) - 1) < 1e-9);
    json_decref(answer);
}

/* What federation.yaml leaves out stays out, whatever a request says. */
static void an_owner_that_opted_out_takes_no_part_in_anything(void **state)
{
    (void)state;
    need_server();
    stop_server();
    char *yaml = ft_test_read(ft_test_federation(""), NULL), *text;
    char *place = strstr(yaml, "name: scripture,");
    assert_true(asprintf(&text, "%.*sopted_out: true, %s", (int)(place - yaml), yaml, place) > 0);
    ft_status st = {0};
    assert_ok(ft_federation_open(&federation, ft_test_write("federation.yaml", text, strlen(text)), &st), st);
    assert_ok(ft_server_start(&server, federation, &(ft_server_options){.threads = 1}, &st), st);
    at = ft_server_address(server);
    json_t *model = ft_http_json(at, "GET", "/v1/models/test", NULL, 200);
    const json_t *experts = json_object_get(json_object_get(model, "meta"), "experts");
    assert_string_equal(text_at(json_array_get(experts, 0), "state"), "active");
    assert_string_equal(text_at(json_array_get(experts, 1), "state"), "opted_out");
    json_decref(model);
    json_t *owners = ft_http_json(at, "GET", "/v1/owners", NULL, 200);
    assert_string_equal(text_at(json_array_get(json_object_get(owners, "data"), 1), "state"), "opted_out");
    json_decref(owners);
    static const char *const bodies[] = {
        "{\"prompt\":\"a\",\"max_tokens\":4,\"flextrace\":{\"trace\":true,\"store\":false}}",
        "{\"prompt\":\"a\",\"max_tokens\":4,\"flextrace\":{\"trace\":true,\"store\":false,\"without\":[\"public\"]}}",
        "{\"prompt\":\"a\",\"max_tokens\":4,\"flextrace\":{\"trace\":true,\"store\":false,\"only\":[\"public\",2]}}",
    };
    for (size_t i = 0; i < 3; i++) {
        json_t *answer = ft_http_json(at, "POST", "/v1/completions", bodies[i], 200);
        const json_t *all = json_object_get(json_object_get(choice_of(answer, 0), "flextrace"), "experts");
        assert_string_equal(text_at(json_array_get(all, 1), "state"), "opted_out");
        assert_true(json_number_value(json_object_get(json_array_get(all, 1), "share")) == 0);
        json_decref(answer);
    }
    json_t *plain =
        ft_http_json(at, "POST", "/v1/completions",
                     "{\"prompt\":\"a\",\"max_tokens\":8,\"temperature\":0,\"return_token_ids\":true}", 200);
    json_t *trace = ft_http_json(at, "POST", "/v1/traces", "{\"text\":\"In the beginning\",\"routing\":true}", 200);
    assert_string_equal(json_string_value(json_array_get(json_object_get(trace, "without"), 0)), "scripture");
    json_decref(trace);
    json_decref(ft_http_json(at, "GET", "/readyz", NULL, 200)); /* the probe leaves it out too */
    json_t *error = ft_http_json(at, "POST", "/v1/completions",
                                 "{\"prompt\":\"a\",\"flextrace\":{\"only\":[\"public\",\"scripture\"]}}", 403);
    assert_string_equal(text_at(json_object_get(error, "error"), "code"), "expert_opted_out");
    assert_string_equal(text_at(json_object_get(error, "error"), "type"), "permission_error");
    json_decref(error);
    json_decref(ft_http_json(at, "POST", "/v1/completions",
                             "{\"prompt\":\"a\",\"flextrace\":{\"without\":[0,2,3,4,5]}}", 400)); /* nobody left */
    ft_reply metrics = ft_http(at, "GET", "/metrics", NULL, NULL);
    assert_non_null(strstr(metrics.body, "\nflextrace_expert_opted_out{owner=\"scripture\"} 1\n"));
    assert_non_null(strstr(metrics.body, "\nflextrace_expert_opted_out{owner=\"public\"} 0\n"));
    ft_reply_release(&metrics);
    stop_server();
    start_server("");
    json_t *same = ft_http_json(at, "POST", "/v1/completions",
                                "{\"prompt\":\"a\",\"max_tokens\":8,\"temperature\":0,\"return_token_ids\":true,"
                                "\"flextrace\":{\"without\":[\"scripture\"]}}",
                                200);
    assert_true(json_equal(json_object_get(choice_of(plain, 0), "token_ids"),
                           json_object_get(choice_of(same, 0), "token_ids")));
    json_decref(plain);
    json_decref(same);
    free(text);
    free(yaml);
}

/* --- Refusals -------------------------------------------------------------------------- */

static void what_cannot_be_done_is_refused_by_field(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *body;
        int status;
        const char *code, *param;
    } cases[] = {
        {"{\"prompt\":\"a\",\"max_tokens\":-1}", 400, NULL, "max_tokens"},
        {"{\"prompt\":\"a\",\"max_tokens\":1000000}", 400, "context_length_exceeded", "max_tokens"},
        {"{\"prompt\":\"a\",\"temperature\":2.5}", 400, NULL, "temperature"},
        {"{\"prompt\":\"a\",\"temperature\":\"hot\"}", 400, NULL, "temperature"},
        {"{\"prompt\":\"a\",\"n\":0}", 400, NULL, "n"},
        {"{\"prompt\":\"\"}", 400, NULL, "prompt"},
        {"{}", 400, NULL, "prompt"},
        {"{\"prompt\":[]}", 400, NULL, "prompt"},
        {"{\"prompt\":[1,2,99999999]}", 400, NULL, "prompt"},
        {"{\"prompt\":[1,\"a\"]}", 400, NULL, "prompt"},
        {"{\"prompt\":{}}", 400, NULL, "prompt"},
        {"{\"prompt\":\"a\",\"model\":\"gpt\"}", 404, "model_not_found", "model"},
        {"{\"prompt\":\"a\",\"stop\":[\"\"]}", 400, NULL, "stop"},
        {"{\"prompt\":\"a\",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}", 400, NULL, "stop"},
        {"{\"prompt\":\"a\",\"presence_penalty\":2.5}", 400, NULL, "presence_penalty"},
        {"{\"prompt\":\"a\",\"logit_bias\":{\"1\":200}}", 400, NULL, "logit_bias"},
        {"{\"prompt\":\"a\",\"suffix\":\"b\"}", 400, "unsupported_parameter", "suffix"},
        {"{\"prompt\":\"a\",\"best_of\":3}", 400, "unsupported_parameter", "best_of"},
        {"{\"prompt\":\"a\",\"stream_options\":{\"include_usage\":true}}", 400, NULL, "stream_options"},
        {"{\"prompt\":\"a\",\"flextrace\":{\"without\":[\"nobody\"]}}", 400, NULL, "flextrace"},
        {"{\"prompt\":\"a\",\"flextrace\":{\"only\":[]}}", 400, NULL, "flextrace"},
        {"{\"prompt\":\"a\",\"flextrace\":{\"routing\":\"some\"}}", 400, NULL, "flextrace"},
        {"{\"prompt\":\"a\"", 400, NULL, NULL},
        {"[1]", 400, NULL, NULL},
        {"{\"prompt\":\"a\",\"prompt\":\"b\"}", 400, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        json_t *answer = ft_http_json(at, "POST", "/v1/completions", cases[i].body, cases[i].status);
        const json_t *e = json_object_get(answer, "error");
        const char *code = text_at(e, "code"), *param = text_at(e, "param");
        if (!!code != !!cases[i].code || (code && strcmp(code, cases[i].code) != 0) || !!param != !!cases[i].param ||
            (param && strcmp(param, cases[i].param) != 0) || !text_at(e, "message") || json_object_size(answer) != 1)
            fail_msg("%s: code %s, param %s, message %s", cases[i].body, code, param, text_at(e, "message"));
        json_decref(answer);
    }
    json_t *ignored = ft_http_json(at, "POST", "/v1/completions",
                                   "{\"prompt\":\"a\",\"best_of\":1,\"max_tokens\":1,"
                                   "\"suffix\":null,\"presence_penalty\":0}",
                                   200);
    json_decref(ignored);
    ft_reply named = ft_http(at, "POST", "/v1/completions", NULL, "{\"prompt\":\"a\",\"max_tokens\":1,\"colour\":3}");
    assert_string_equal(ft_reply_header(&named, "X-Ignored-Fields"), "colour");
    ft_reply_release(&named);
}

static void a_prompt_of_two_megabytes_is_too_large(void **state)
{
    (void)state;
    need_server();
    const size_t n = 2 << 20;
    char *body = malloc(n + 64);
    const size_t head = (size_t)sprintf(body, "{\"prompt\":\"");
    memset(body + head, 'a', n);
    strcpy(body + head + n, "\"}");
    ft_reply r = ft_http(at, "POST", "/v1/completions", NULL, body);
    assert_int_equal(r.status, 413);
    json_t *e = ft_reply_json(&r);
    assert_string_equal(text_at(json_object_get(e, "error"), "code"), "request_too_large");
    json_decref(e);
    ft_reply_release(&r);
    ft_reply own = ft_http(at, "POST", "/v1/traces", NULL, body);
    assert_int_equal(own.status, 413);
    assert_string_equal(ft_reply_header(&own, "Content-Type"), "application/problem+json");
    ft_reply_release(&own);
    free(body);
}

static void wrong_methods_types_hosts_and_paths_are_told_apart(void **state)
{
    (void)state;
    need_server();
    ft_reply r = ft_http(at, "DELETE", "/v1/completions", NULL, NULL);
    assert_int_equal(r.status, 405);
    assert_string_equal(ft_reply_header(&r, "Allow"), "POST");
    ft_reply_release(&r);
    r = ft_http(at, "PUT", "/v1/traces", NULL, NULL);
    assert_int_equal(r.status, 405);
    assert_string_equal(ft_reply_header(&r, "Allow"), "GET, HEAD, POST");
    assert_string_equal(ft_reply_header(&r, "Content-Type"), "application/problem+json");
    ft_reply_release(&r);
    r = ft_http(at, "POST", "/v1/completions", "Content-Type: text/plain\r\n", "{\"prompt\":\"a\"}");
    assert_int_equal(r.status, 415);
    ft_reply_release(&r);
    r = ft_http(at, "GET", "/v1/models", "Host: evil.example\r\n", NULL);
    assert_int_equal(r.status, 421);
    ft_reply_release(&r);
    r = ft_http(at, "GET", "/v1/models", "Host: localhost.evil.example:80\r\n", NULL);
    assert_int_equal(r.status, 421);
    ft_reply_release(&r);
    r = ft_http(at, "GET", "/v1/models", "Origin: http://evil.example\r\n", NULL);
    assert_int_equal(r.status, 403);
    ft_reply_release(&r);
    r = ft_http(at, "GET", "/v1/models", "Origin: http://localhost:8080\r\nX-Request-Id: mine-1\r\n", NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(ft_reply_header(&r, "X-Request-Id"), "mine-1");
    ft_reply_release(&r);
    r = ft_http(at, "GET", "/v1/nothing/here", "X-Request-Id: not good!\r\n", NULL);
    assert_int_equal(r.status, 404);
    assert_int_equal(strncmp(ft_reply_header(&r, "X-Request-Id"), "req_", 4), 0);
    ft_reply_release(&r);
    json_t *chat = ft_http_json(at, "POST", "/v1/embeddings", "{}", 404);
    assert_non_null(json_object_get(chat, "error"));
    json_decref(chat);
}

/* --- Traces -------------------------------------------------------------------------------- */

static void a_given_text_is_traced_to_its_owner_and_kept_after_a_restart(void **state)
{
    (void)state;
    need_server();
    stop_server();
    start_server("traces: {routing: exact}\n");
    char body[600];
    snprintf(body, sizeof(body),
             "{\"text\":\"He said: %s, and %s.\",\"routing\":true,\"store\":true,\"options\":{"
             "\"density\":0,\"min_len\":4}}",
             ft_test_scripture, ft_test_public);
    ft_reply r = ft_http(at, "POST", "/v1/traces", NULL, body);
    assert_int_equal(r.status, 201);
    json_t *trace = ft_reply_json(&r);
    char path[100];
    snprintf(path, sizeof(path), "%s?routing=full", ft_reply_header(&r, "Location"));
    const json_t *spans = json_object_get(trace, "spans"), *span;
    size_t i, found = 0;
    json_array_foreach(spans, i, span)
    {
        const char *owner = json_string_value(json_array_get(json_object_get(span, "owners"), 0));
        if (strstr(text_at(span, "text"), "created the heaven and the"))
            found += !strcmp(owner, "scripture");
        if (strstr(text_at(span, "text"), "describes every option"))
            found += !strcmp(owner, "public");
    }
    assert_int_equal(found, 2);
    assert_false(json_is_null(json_object_get(trace, "routing")));
    stop_server();
    start_server("");
    json_t *kept = ft_http_json(at, "GET", path, NULL, 200);
    assert_true(json_equal(kept, trace));
    json_decref(kept);

    json_t *list = ft_http_json(at, "GET", "/v1/traces?limit=1", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(list, "data")), 1);
    assert_string_equal(text_at(list, "first_id"), text_at(trace, "id"));
    char more[100];
    snprintf(more, sizeof(more), "/v1/traces?limit=1&after=%s", text_at(list, "last_id"));
    json_t *next = ft_http_json(at, "GET", more, NULL, 200);
    if (json_is_true(json_object_get(list, "has_more")))
        assert_string_not_equal(text_at(next, "first_id"), text_at(list, "first_id"));
    json_decref(next);
    json_decref(list);
    json_decref(trace);
    ft_reply_release(&r);
    json_decref(ft_http_json(at, "GET", "/v1/traces/trc_00000000000000000000000000", NULL, 404));
    json_decref(ft_http_json(at, "GET", "/v1/traces/nonsense", NULL, 404));
    json_decref(ft_http_json(at, "GET", "/v1/traces?limit=0", NULL, 400));
    json_decref(ft_http_json(at, "POST", "/v1/traces", "{\"text\":\"\"}", 422));
    json_decref(ft_http_json(at, "POST", "/v1/traces", "{\"text\":\"a\",\"options\":{\"colour\":1}}", 422));
}

/* --- Clients that misbehave ------------------------------------------------------------------ */

static void slow_and_vanishing_clients_do_not_hold_up_others(void **state)
{
    (void)state;
    need_server();
    static const char half[] = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               "Content-Length: 1000\r\n\r\n{\"prompt\":";
    int slow[20];
    for (size_t i = 0; i < 20; i++) {
        slow[i] = ft_http_connect(at);
        ft_http_send(slow[i], half, i % 2 ? sizeof(half) - 1 : 20);
    }
    json_decref(ft_http_json(at, "GET", "/v1/models", NULL, 200));
    json_decref(ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}", 200));
    for (size_t i = 0; i < 20; i++)
        close(slow[i]);
    json_decref(ft_http_json(at, "GET", "/v1/models", NULL, 200));
}

/* The newest stored trace's finish_reason becomes "abort": how an aborted generation shows. */
static void a_client_that_closes_its_stream_stops_the_generation(void **state)
{
    (void)state;
    need_server();
    static const char body[] =
        "{\"prompt\":\"In the beginning\",\"max_tokens\":900,\"stream\":true,\"ignore_eos\":true,"
        "\"seed\":5,\"flextrace\":{\"trace\":true}}";
    char head[300];
    snprintf(head, sizeof(head),
             "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n",
             sizeof(body) - 1);
    const int fd = ft_http_connect(at);
    ft_http_send(fd, head, strlen(head));
    ft_http_send(fd, body, sizeof(body) - 1);
    char first[4000];
    size_t n = 0;
    while (n < sizeof(first) - 1 && read(fd, first + n, 1) == 1) { /* up to the first event */
        first[++n] = '\0';
        if (strstr(first, "data: {"))
            break;
    }
    assert_non_null(strstr(first, "data: {"));
    close(fd);
    for (int tries = 0; tries < 2000; tries++) {
        json_t *list = ft_http_json(at, "GET", "/v1/traces?limit=1", NULL, 200);
        const json_t *newest = json_array_get(json_object_get(list, "data"), 0);
        const char *reason = text_at(newest, "finish_reason");
        const int aborted = reason && !strcmp(reason, "abort");
        const int64_t tokens = json_integer_value(json_object_get(newest, "tokens"));
        json_decref(list);
        if (aborted) {
            assert_true(tokens < 900);
            return;
        }
    }
    fail_msg("the generation went on");
}

/* Bytes of a good request changed at random: every answer is an HTTP answer, and the
 * server lives on. */
static void damaged_requests_never_bring_the_server_down(void **state)
{
    (void)state;
    need_server();
    static const char *const paths[] = {"/v1/completions", "/v1/traces", "/", "/scripture/attribution"};
    static const char *const bodies[] = {
        "{\"prompt\":\"a b\",\"max_tokens\":2,\"stop\":[\"x\"],\"stream\":true,\"flextrace\":{\"trace\":true}}",
        "{\"text\":\"In the beginning\",\"routing\":true,\"options\":{\"density\":0.5}}",
        "{\"index\":\"test\",\"query_type\":\"find_cnf\",\"query_ids\":[[[1,2],[3]],[[4]]]}",
        "{\"response\":\"In the beginning\",\"delimiters\":[\".\"],\"maximumFrequency\":10}"};
    ft_random random;
    ft_random_init(&random, 11);
    for (int round = 0; round < 400; round++) {
        const size_t which = (size_t)round % 4;
        char body[300];
        const size_t n = strlen(strcpy(body, bodies[which]));
        for (uint64_t k = ft_random_below(&random, 3) + 1; k > 0; k--)
            body[ft_random_below(&random, n)] = (char)(ft_random_below(&random, 2) ? ft_random_below(&random, 255) + 1
                                                                                   : (uint64_t) "0[]{}\",:-e"[k % 10]);
        ft_reply r = ft_http(at, "POST", paths[which], NULL, body);
        if (!r.status)
            fail_msg("round %d: no answer to %s", round, body);
        ft_reply_release(&r);
    }
    json_decref(ft_http_json(at, "GET", "/livez", NULL, 200));
}

/* --- Loading ----------------------------------------------------------------------------------- */

/* As it stands between listening and the model's first answer. */
static void while_the_model_loads_it_lives_and_is_not_ready(void **state)
{
    (void)state;
    need_server();
    server->loading = 1;
    json_decref(ft_http_json(at, "GET", "/livez", NULL, 200));
    json_t *health = ft_http_json(at, "GET", "/health", NULL, 503), *error = json_object_get(health, "error");
    assert_int_equal(json_integer_value(json_object_get(error, "code")), 503);
    assert_string_equal(text_at(error, "message"), "Loading model");
    assert_string_equal(text_at(error, "type"), "unavailable_error");
    json_decref(health);
    json_t *ready = ft_http_json(at, "GET", "/readyz", NULL, 503),
           *check = json_array_get(json_object_get(ready, "checks"), 0);
    assert_string_equal(text_at(check, "name"), "model");
    assert_true(json_is_false(json_object_get(check, "ok")));
    json_decref(ready);
    json_t *models = ft_http_json(at, "GET", "/v1/models", NULL, 503);
    assert_string_equal(text_at(json_object_get(models, "error"), "code"), "model_loading");
    json_decref(models);
    ft_reply r = ft_http(at, "POST", "/v1/completions", NULL, "{\"prompt\":\"a\",\"max_tokens\":1}");
    assert_int_equal(r.status, 503);
    assert_non_null(ft_reply_header(&r, "Retry-After"));
    ft_reply_release(&r);
    server->loading = 0;
    json_decref(ft_http_json(at, "GET", "/readyz", NULL, 200));
    json_decref(ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}", 200));
}

/* --- Limits and the end ------------------------------------------------------------------------ */

typedef struct caller {
    int status;
    atomic_int *overloaded;
} caller;

static void *call(void *context)
{
    caller *c = context;
    ft_reply r = ft_http(at, "POST", "/v1/completions", NULL,
                         "{\"prompt\":\"a\",\"max_tokens\":60,\"ignore_eos\":true,\"temperature\":0}");
    c->status = r.status;
    if (r.status == 503 && ft_reply_header(&r, "Retry-After"))
        atomic_fetch_add(c->overloaded, 1);
    ft_reply_release(&r);
    return NULL;
}

static void a_full_queue_turns_requests_away(void **state)
{
    (void)state;
    need_server();
    stop_server();
    start_server("limits: {max_running: 1, max_waiting: 1}\n");
    enum { CALLERS = 12 };
    pthread_t threads[CALLERS];
    caller callers[CALLERS];
    atomic_int overloaded = 0;
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.overloaded = &overloaded};
        assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    int answered = 0;
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(callers[i].status == 200 || callers[i].status == 503);
        answered += callers[i].status == 200;
    }
    assert_true(answered >= 1);
    assert_true(overloaded >= 1);
    /* Once admitted, a request waits for its own later choices. */
    json_t *many =
        ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":[\"a\",\"b\"],\"n\":6,\"max_tokens\":2}", 200);
    assert_int_equal(json_array_size(json_object_get(many, "choices")), 12);
    json_decref(many);
    stop_server();
    start_server("");
}

/* One second for a request: what is not sent in time is cut off, what is not answered
 * in time is given up. */
static void requests_have_their_time_and_no_more(void **state)
{
    (void)state;
    need_server();
    stop_server();
    start_server("limits: {request_seconds: 1}\n");
    const int slow = ft_http_connect(at);
    ft_http_send(slow, "POST / HTTP/1.1\r\nHost:", 22);
    ft_reply cut = ft_http_read(slow); /* returns when the server closes */
    assert_int_equal(cut.status, 0);
    ft_reply_release(&cut);
    ft_reply late = ft_http(at, "POST", "/v1/completions", NULL,
                            "{\"prompt\":[\"a\",\"b\",\"c\",\"d\"],\"n\":100,\"max_tokens\":1000,\"ignore_eos\":true}");
    assert_int_equal(late.status, 503);
    assert_non_null(strstr(late.body, "limits.request_seconds"));
    ft_reply_release(&late);
    stop_server();
    start_server("");
}

/* What runs when the grace is over is told so, and the server ends all the same. */
static void a_stop_without_grace_ends_a_running_stream(void **state)
{
    (void)state;
    need_server();
    static const char request[] =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 72\r\n"
        "\r\n{\"prompt\":\"On and on\",\"max_tokens\":1000,\"stream\":true,\"ignore_eos\":true}";
    const int fd = ft_http_connect(at);
    ft_http_send(fd, request, sizeof(request) - 1);
    char first[16];
    assert_int_equal(recv(fd, first, sizeof(first), MSG_WAITALL | MSG_PEEK), sizeof(first));
    ft_server_stop(server, 0);
    ft_federation_close(federation);
    ft_reply r = ft_http_read(fd);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "shutting down"));
    assert_null(strstr(r.body, "[DONE]"));
    ft_reply_release(&r);
    start_server("");
}

/* Every allocation of the start fails once: no server, no leak, no crash. */
static void a_start_without_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    need_server();
    stop_server();
    ft_status st = {0};
    assert_ok(ft_federation_open(&federation, ft_test_federation(""), &st), st);
    for (long k = 1;; k++) {
        ft_test_fail_allocation(k);
        const ft_code rc = ft_server_start(&server, federation, &(ft_server_options){.threads = 1}, &st);
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (rc == FT_OK && !failed)
            break;
        if (rc == FT_OK) /* one that could be done without */
            ft_server_stop(server, 0);
        else
            assert_null(server);
    }
    stop_server();
    start_server("");
}

static void the_served_binary_prints_its_port_and_ends_cleanly_on_sigterm(void **state)
{
    (void)state;
    need_server();
    char *out, *err;
    stop_server(); /* one process may hold the store */
    setenv("FOLDER", ft_test_folder(), 1);
    const int code =
        ft_test_shell("cd \"$FOLDER\"; : >out; \"$FLEXTRACE\" serve . --listen 127.0.0.1:0 --quiet >out & pid=$!\n"
                      "until grep -q serving out; do kill -0 $pid || exit 9; done; cat out; kill -TERM $pid; wait $pid",
                      &out, &err);
    start_server("");
    if (code != 0)
        fail_msg("exit %d: %s %s", code, out, err);
    assert_non_null(strstr(out, "flextrace: serving http://127.0.0.1:"));
    assert_string_equal(err, "");
    free(out);
    free(err);
}

static void a_busy_port_is_one_line_that_says_so(void **state)
{
    (void)state;
    need_server();
    ft_server *second;
    ft_status st = {0};
    const ft_server_options o = {.listen = at + strlen("http://")};
    ft_federation *other;
    char *yaml = ft_test_read(ft_test_federation(""), NULL);
    memcpy(strstr(yaml, "store: store"), "store: other", 12); /* a store has one holder */
    assert_ok(ft_federation_open(&other, ft_test_write("other.yaml", yaml, strlen(yaml)), &st), st);
    free(yaml);
    assert_int_not_equal(ft_server_start(&second, other, &o, &st), FT_OK);
    assert_null(second);
    assert_non_null(strstr(st.msg, "Address already in use"));
    const ft_server_options nonsense = {.listen = "localhost"};
    assert_int_equal(ft_server_start(&second, other, &nonsense, &st), FT_ERR_ARG);
    ft_federation_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_and_owners_tell_who_takes_part),
        cmocka_unit_test(health_routes_answer_and_readiness_names_its_checks),
        cmocka_unit_test(the_page_comes_with_its_policy_and_a_tag),
        cmocka_unit_test(a_completion_is_what_the_library_generates_for_the_same_seed),
        cmocka_unit_test(several_prompts_and_choices_come_prompt_major),
        cmocka_unit_test(a_stream_joins_to_the_whole_answer),
        cmocka_unit_test(a_streamed_trace_ends_with_the_spans_that_are_stored),
        cmocka_unit_test(a_text_is_traced_as_its_request_says),
        cmocka_unit_test(an_opted_out_owner_has_no_share),
        cmocka_unit_test(an_owner_that_opted_out_takes_no_part_in_anything),
        cmocka_unit_test(what_cannot_be_done_is_refused_by_field),
        cmocka_unit_test(a_prompt_of_two_megabytes_is_too_large),
        cmocka_unit_test(wrong_methods_types_hosts_and_paths_are_told_apart),
        cmocka_unit_test(a_given_text_is_traced_to_its_owner_and_kept_after_a_restart),
        cmocka_unit_test(slow_and_vanishing_clients_do_not_hold_up_others),
        cmocka_unit_test(a_client_that_closes_its_stream_stops_the_generation),
        cmocka_unit_test(damaged_requests_never_bring_the_server_down),
        cmocka_unit_test(while_the_model_loads_it_lives_and_is_not_ready),
        cmocka_unit_test(a_full_queue_turns_requests_away),
        cmocka_unit_test(requests_have_their_time_and_no_more),
        cmocka_unit_test(a_stop_without_grace_ends_a_running_stream),
        cmocka_unit_test(a_start_without_memory_leaves_nothing_behind),
        cmocka_unit_test(the_served_binary_prints_its_port_and_ends_cleanly_on_sigterm),
        cmocka_unit_test(a_busy_port_is_one_line_that_says_so),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
