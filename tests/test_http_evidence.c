/* Evidence over HTTP: usual shares from the validation text, causal passes on request, and what is refused. */
#include "tests/ft_test_http.h"

#include "base/ft_file.h"

#include <math.h>

static int open_with_validation(void **state)
{
    (void)state;
    static const char text[] = "{\"text\":\"The command reads its options from left to right.\"}\n";
    (void)ft_test_write("validation.jsonl", text, sizeof(text) - 1);
    if (ft_test_federation(""))
        start_server("validation: validation.jsonl\nevidence: {verbatim_tokens: 4, verbatim_nats: 12.5}\n");
    return 0;
}

static const json_t *evidence_of(const json_t *span, const char *owner)
{
    size_t i;
    const json_t *e;
    json_array_foreach(json_object_get(span, "evidence"), i, e) if (!strcmp(text_at(e, "owner"), owner)) return e;
    fail_msg("no evidence for %s", owner);
    return NULL;
}

static double real_at(const json_t *v, const char *field)
{
    assert_true(json_is_real(json_object_get(v, field)));
    return json_real_value(json_object_get(v, field));
}

/* What a completion's echoed log-probabilities are, with some experts left out. */
static double logprob_of_text(const char *text, const char *without, size_t first, size_t end)
{
    char body[600];
    double sum = 0;
    snprintf(body, sizeof(body),
             "{\"prompt\":\"%s\",\"max_tokens\":0,\"echo\":true,\"logprobs\":0,\"flextrace\":{\"without\":[%s]}}", text,
             without);
    json_t *answer = ft_http_json(at, "POST", "/v1/completions", body, 200);
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const json_t *list = json_object_get(json_object_get(choice, "logprobs"), "token_logprobs");
    for (size_t t = first; t < end; t++)
        sum += json_number_value(json_array_get(list, t));
    json_decref(answer);
    return sum;
}

static void a_span_in_one_owners_corpus_is_verbatim_with_usual_shares_and_causes(void **state)
{
    (void)state;
    need_server();
    char body[600];
    snprintf(body, sizeof(body), "{\"text\":\"%s\",\"causal\":true,\"options\":{\"density\":0}}", ft_test_scripture);
    json_t *trace = ft_http_json(at, "POST", "/v1/traces", body, 200);
    const json_t *span = json_array_get(json_object_get(trace, "spans"), 0);
    size_t k;
    json_array_foreach(json_object_get(trace, "spans"), k,
                       span) if (json_integer_value(json_object_get(span, "end")) -
                                     json_integer_value(json_object_get(span, "start")) >
                                 5) break;
    assert_non_null(span);
    const size_t start = (size_t)json_integer_value(json_object_get(span, "start"));
    const size_t end = (size_t)json_integer_value(json_object_get(span, "end"));
    assert_string_equal(text_at(span, "verdict"), "verbatim");
    assert_string_equal(text_at(span, "verdict_rule"), "verbatim-one");
    assert_string_equal(json_string_value(json_array_get(json_object_get(span, "verdict_owners"), 0)), "scripture");
    const json_t *about = json_object_get(trace, "evidence");
    const json_t *usual = json_object_get(about, "usual");
    assert_true(json_integer_value(json_object_get(usual, "tokens")) > 5);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(about, "thresholds"), "verbatim_tokens")), 4);
    assert_true(real_at(json_object_get(about, "thresholds"), "verbatim_nats") == 12.5);
    const json_t *scripture = evidence_of(span, "scripture");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(scripture, "verbatim"), "count")), 1);
    assert_true(real_at(json_object_get(scripture, "routing"), "usual") ==
                json_real_value(json_array_get(json_object_get(usual, "shares"), 1)));
    const json_t *causal = json_object_get(scripture, "causal");
    const double with = logprob_of_text(ft_test_scripture, "", start, end);
    const double without = logprob_of_text(ft_test_scripture, "\"scripture\"", start, end);
    assert_true(fabs(real_at(causal, "logprob") - with) < 1e-6);
    assert_true(fabs(real_at(causal, "without") - without) < 1e-6);
    assert_true(fabs(real_at(causal, "loss") - (with - without)) < 1e-6);
    assert_true(json_is_object(json_object_get(evidence_of(span, "expert 5"), "causal")));
    json_decref(trace);
}

static void causes_can_be_asked_for_one_owner_and_a_stretch(void **state)
{
    (void)state;
    need_server();
    char body[600];
    snprintf(body, sizeof(body),
             "{\"text\":\"%s\",\"causal\":{\"owners\":[\"scripture\"],\"start\":0,\"end\":5},"
             "\"options\":{\"density\":0,\"enforce_bow\":false}}",
             ft_test_scripture);
    json_t *trace = ft_http_json(at, "POST", "/v1/traces", body, 200);
    size_t i;
    const json_t *span;
    json_array_foreach(json_object_get(trace, "spans"), i, span)
    {
        const int inside = json_integer_value(json_object_get(span, "end")) <= 5;
        assert_int_equal(json_is_object(json_object_get(evidence_of(span, "scripture"), "causal")), inside);
        assert_true(json_is_null(json_object_get(evidence_of(span, "public"), "causal")));
    }
    assert_true(i > 0);
    json_decref(trace);
}

static void a_completion_brings_causes_where_it_asks_for_them(void **state)
{
    (void)state;
    need_server();
    for (int streamed = 0; streamed < 2; streamed++) {
        char body[400];
        snprintf(body, sizeof(body),
                 "{\"prompt\":\"In the beginning God\",\"max_tokens\":20,\"temperature\":0,\"stream\":%s,"
                 "\"flextrace\":{\"trace\":true,\"causal\":true,\"without\":[\"dictionary\"]}}",
                 streamed ? "true" : "false");
        ft_reply r = ft_http(at, "POST", "/v1/completions", NULL, body);
        assert_int_equal(r.status, 200);
        assert_non_null(strstr(r.body, "\"loss_per_token\":"));
        assert_non_null(strstr(r.body, "\"causal\":true"));
        ft_reply_release(&r);
    }
}

static void a_wish_that_means_nothing_is_refused(void **state)
{
    (void)state;
    need_server();
    static const char *const bad[] = {
        "7",           "\"all\"", "{\"owner\":[\"scripture\"]}", "{\"owners\":[\"nobody\"]}", "{\"start\":5,\"end\":5}",
        "{\"end\":0}", "[]"};
    char body[300];
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(body, sizeof(body), "{\"text\":\"a b\",\"causal\":%s}", bad[i]);
        json_decref(ft_http_json(at, "POST", "/v1/traces", body, 422));
        snprintf(body, sizeof(body), "{\"prompt\":\"a b\",\"flextrace\":{\"trace\":true,\"causal\":%s}}", bad[i]);
        json_decref(ft_http_json(at, "POST", "/v1/completions", body, 400));
    }
    json_decref(ft_http_json(at, "POST", "/v1/completions", "{\"prompt\":\"a\",\"flextrace\":{\"causal\":true}}", 400));
}

/* Beside the store; read again instead of measured; measured again when the text is another. */
static void usual_shares_are_kept_and_measured_again_when_the_text_changes(void **state)
{
    (void)state;
    need_server();
    char path[4096], copy[4096];
    strcpy(path, ft_test_path("store.usual.json"));
    assert_true(ft_path_exists(path));
    size_t size;
    char *kept = ft_test_read(path, &size), *changed = strdup(kept);
    stop_server();
    /* Shares that nobody measured show that the file is read. */
    char *tokens = strstr(changed, "\"tokens\":");
    assert_non_null(tokens);
    tokens[9] = '9';
    strcpy(copy, ft_test_write("store.usual.json", changed, strlen(changed)));
    start_server("validation: validation.jsonl\n");
    json_t *trace = ft_http_json(at, "POST", "/v1/traces", "{\"text\":\"a b\",\"routing\":true}", 200);
    const json_t *usual = json_object_get(json_object_get(trace, "evidence"), "usual");
    json_t *want = json_loads(changed, 0, NULL);
    assert_true(json_equal(json_object_get(usual, "tokens"), json_object_get(want, "tokens")));
    json_decref(want);
    json_decref(trace);
    stop_server();
    static const char other[] = "{\"text\":\"Another text, longer than the one that was there before.\"}\n";
    (void)ft_test_write("validation.jsonl", other, sizeof(other) - 1);
    start_server("validation: validation.jsonl\n");
    char *again = ft_test_read(path, &size);
    assert_string_not_equal(again, changed);
    assert_string_not_equal(again, kept);
    free(again);
    free(kept);
    free(changed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_span_in_one_owners_corpus_is_verbatim_with_usual_shares_and_causes),
        cmocka_unit_test(causes_can_be_asked_for_one_owner_and_a_stretch),
        cmocka_unit_test(a_completion_brings_causes_where_it_asks_for_them),
        cmocka_unit_test(a_wish_that_means_nothing_is_refused),
        cmocka_unit_test(usual_shares_are_kept_and_measured_again_when_the_text_changes),
    };
    return cmocka_run_group_tests(tests, open_with_validation, close_all);
}
