/* An owner that federation.yaml opts out, through the whole life of a server: nothing reads its expert's weights, not
 * for the digests, the usual shares, a completion, a trace, its causes, its receipt, nor for replaying that. */
#include "tests/ft_test_http.h"
#include "tests/smaps_fixture.h"

#include "base/ft_file.h"
#include "tracer/ft_replay.h"

#include <unistd.h>

static char receipt_path[4096];

/* The test's federation with one owner opted out, opened and not yet served. */
static void open_without(const char *owner)
{
    static const char text[] = "{\"text\":\"In the beginning was the word. The manual describes every option.\"}\n";
    char name[64], *changed;
    ft_status st = {0};
    ft_test_write("validation.jsonl", text, strlen(text));
    if (!ft_path_exists(ft_test_path("signing.pem")))
        assert_ok(ft_signing_key_new(ft_test_path("signing.pem"), NULL, &st), st);
    char *yaml =
        ft_test_read(ft_test_federation("signing_key: signing.pem\nvalidation: validation.jsonl\n"), NULL);
    snprintf(name, sizeof(name), "name: %s,", owner);
    char *place = strstr(yaml, name);
    assert_true(asprintf(&changed, "%.*sopted_out: true, %s", (int)(place - yaml), yaml, place) > 0);
    assert_ok(ft_federation_open(&federation, ft_test_write("federation.yaml", changed, strlen(changed)), &st), st);
    free(changed);
    free(yaml);
}

static void serve(void)
{
    ft_status st = {0};
    assert_ok(ft_server_start(&server, federation, &(ft_server_options){.threads = 2}, &st), st);
    at = ft_server_address(server);
}

static uint64_t resident(size_t expert)
{
    const ft_model *m = ft_federation_model(federation);
    uint64_t sum = 0;
    for (size_t l = 0; l < ft_model_get_config(m)->layers; l++)
        sum += ask_expert(m, l, expert).resident;
    return sum;
}

/* The receipt of a trace, into receipt_path; its predicate. */
static json_t *predicate_of(const char *trace)
{
    char path[200];
    ft_envelope e;
    ft_status st = {0};
    json_t *statement = NULL;
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt", trace);
    ft_reply r = ft_http(at, "GET", path, NULL, NULL);
    if (r.status != 200)
        fail_msg("%s: %d: %s", path, r.status, r.body ? r.body : "");
    strcpy(receipt_path, ft_test_write("receipt.json", r.body, r.size));
    assert_ok(ft_dsse_parse(&e, r.body, r.size, "receipt", &st), st);
    assert_ok(ft_json_parse(&statement, e.payload.data, e.payload.size, "payload", &st), st);
    json_t *predicate = json_incref(json_object_get(statement, "predicate"));
    json_decref(statement);
    ft_envelope_release(&e);
    ft_reply_release(&r);
    return predicate;
}

static void replays(int code, const char *needle)
{
    char command[20000], *out, *err;
    snprintf(command, sizeof(command), "$FLEXTRACE receipt replay %s %s", receipt_path, ft_test_source("demo/model"));
    const int got = ft_test_shell(command, &out, &err);
    if (got != code || (!strstr(out, needle) && !strstr(err, needle)))
        fail_msg("%s: %d: %s%s", command, got, out, err);
    free(out);
    free(err);
}

/* A completion with all that a trace may bear; its trace's id. */
static void complete(char id[40])
{
    json_t *answer = ft_http_json(at, "POST", "/v1/completions",
                                  "{\"prompt\":\"In the beginning\",\"max_tokens\":12,\"seed\":3,\"flextrace\":"
                                  "{\"trace\":true,\"causal\":true,\"receipt\":true,\"routing\":\"full\"}}",
                                  200);
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const json_t *more = json_object_get(choice, "flextrace");
    assert_true(json_is_object(json_object_get(more, "receipt")));
    snprintf(id, 40, "%s", text_at(more, "trace_id"));
    json_decref(answer);
}

/* Everything that touches the model; the trace of a completion. */
static void ask_for_everything(char id[40])
{
    static const char text[] = "{\"prompt\":\"He said: \",\"text\":\"In the beginning God created the heaven\","
                               "\"routing\":true,\"causal\":true,\"options\":{\"density\":0}}";
    complete(id);
    json_decref(ft_http_json(at, "POST", "/v1/traces", text, 200));
    json_decref(ft_http_json(at, "POST", "/v1/completions",
                             "{\"prompt\":[\"a\",\"b\"],\"max_tokens\":3,\"n\":2,\"flextrace\":{\"without\":[3]}}", 200));
    json_decref(ft_http_json(at, "GET", "/readyz", NULL, 200));
    ft_reply metrics = ft_http(at, "GET", "/metrics", NULL, NULL);
    assert_int_equal(metrics.status, 200);
    ft_reply_release(&metrics);
}

/* What the receipt of its trace states, and that it can be replayed. */
static void look_at_receipt(const char *id, size_t out)
{
    json_t *p = predicate_of(id);
    const json_t *experts = json_object_get(p, "experts");
    assert_int_equal(json_array_size(experts), 6);
    for (size_t e = 0; e < 6; e++) {
        const json_t *x = json_array_get(experts, e), *digest = json_object_get(x, "digest");
        assert_int_equal(json_is_true(json_object_get(x, "active")), e != out);
        assert_int_equal(json_is_null(digest), e == out);
    }
    assert_int_equal(strlen(text_at(json_object_get(p, "model"), "digest")), 71);
    replays(0, "to the last bit");
    json_decref(p);
}

static void of_an_owner_opted_out_from_the_start_nothing_is_ever_in_memory(void **state)
{
    (void)state;
    char id[40];
    if (!ft_test_federation(""))
        skip();
    open_without("scripture");
    serve();
    const ft_usual *usual = ft_federation_usual(federation);
    assert_non_null(usual);
    assert_true(usual->shares[1] == 0 && usual->shares[0] > 0);
    ask_for_everything(id);
    assert_true(resident(0) > 0 && resident(2) > 0);
    assert_int_equal(resident(1), 0);
    look_at_receipt(id, 1);
    assert_int_equal(resident(1), 0);
    stop_server();
}

static void its_pages_may_be_unreadable_before_the_server_starts(void **state)
{
    (void)state;
    char id[40];
    if (!ft_test_federation(""))
        skip();
    open_without("dictionary");
    assert_true(protect(ft_federation_model(federation), 2, PROT_NONE) > 1000000);
    serve();
    ask_for_everything(id);
    look_at_receipt(id, 2);
    stop_server();
}

/* What a receipt states is what was read when it was written, whoever opts out or in again later. */
static void a_receipt_stays_what_it_was_when_the_opt_out_ends(void **state)
{
    (void)state;
    char id[40], *before, *after;
    if (!ft_test_federation(""))
        skip();
    open_without("scripture");
    serve();
    complete(id);
    json_decref(predicate_of(id));
    before = ft_test_read(receipt_path, NULL);
    stop_server();
    start_server("signing_key: signing.pem\nvalidation: validation.jsonl\n");
    json_decref(predicate_of(id));
    after = ft_test_read(receipt_path, NULL);
    assert_string_equal(before, after);
    complete(id);
    json_t *p = predicate_of(id);
    assert_true(json_is_string(json_object_get(json_array_get(json_object_get(p, "experts"), 1), "digest")));
    json_decref(p);
    stop_server();
    free(before);
    free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_an_owner_opted_out_from_the_start_nothing_is_ever_in_memory),
        cmocka_unit_test(its_pages_may_be_unreadable_before_the_server_starts),
        cmocka_unit_test(a_receipt_stays_what_it_was_when_the_opt_out_ends),
    };
    return cmocka_run_group_tests(tests, NULL, close_all);
}
