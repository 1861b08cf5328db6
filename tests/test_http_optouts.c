/* What docs/http.md promises of /v1/optouts: an owner's order holds for the next request, whatever it says, and after a
 * restart; it is written down, and can be withdrawn. */
#include "tests/compliance_fixture.h"

static json_t *ask(const char *method, const char *path, const char *body, int status)
{
    return ft_http_json(at, method, path, body, status);
}

/* Experts' state in /v1/models. */
static const char *state_of(int expert)
{
    static char out[20];
    json_t *models = get("/v1/models", 200);
    const json_t *meta = json_object_get(row_at(models, 0), "meta");
    snprintf(out, sizeof(out), "%s",
             text_at(json_array_get(json_object_get(meta, "experts"), (size_t)expert), "state"));
    json_decref(models);
    return out;
}

/* A completion; what its trace has in "without", joined, and its fingerprint. */
static void complete(char without[100], char fingerprint[20])
{
    json_t *answer = ask("POST", "/v1/completions",
                         "{\"prompt\":\"In the beginning\",\"max_tokens\":4,\"temperature\":0,"
                         "\"flextrace\":{\"trace\":true,\"routing\":\"full\"}}",
                         200);
    const json_t *more = json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "flextrace");
    char path[100];
    snprintf(path, sizeof(path), "/v1/traces/%s", text_at(more, "trace_id"));
    snprintf(fingerprint, 20, "%s", text_at(answer, "system_fingerprint"));
    json_t *trace = get(path, 200);
    const json_t *names = json_object_get(trace, "without");
    without[0] = '\0';
    for (size_t i = 0; i < json_array_size(names); i++)
        snprintf(without + strlen(without), 100 - strlen(without), "%s,", json_string_value(json_array_get(names, i)));
    json_decref(trace);
    json_decref(answer);
}

static void an_order_holds_for_the_next_request_and_after_a_restart(void **state)
{
    (void)state;
    need_server();
    char before[20], during[20], without[100];
    complete(without, before);
    assert_string_equal(without, "");
    json_t *one = ask("POST", "/v1/optouts", "{\"owner\":\"scripture\",\"reason\":\"the contract ended\"}", 201);
    assert_string_equal(text_at(one, "id"), "scripture");
    assert_string_equal(text_at(one, "by"), "local");
    assert_string_equal(text_at(one, "reason"), "the contract ended");
    assert_int_equal(json_integer_value(json_object_get(one, "expert")), 1);
    assert_non_null(text_at(one, "at"));
    json_t *again = ask("POST", "/v1/optouts", "{\"owner\":\"scripture\",\"reason\":\"another\"}", 200);
    assert_true(json_equal(one, again)); /* it stands as it is */
    json_decref(again);
    for (int restarted = 0; restarted < 2; restarted++) {
        again = get("/v1/optouts/scripture", 200);
        assert_true(json_equal(one, again));
        json_decref(again);
        json_t *list = get("/v1/optouts", 200);
        assert_int_equal(rows_of(list), 1);
        assert_true(json_equal(row_at(list, 0), one));
        json_decref(list);
        assert_string_equal(state_of(1), "opted_out");
        complete(without, during);
        assert_string_equal(without, "scripture,");
        assert_string_not_equal(before, during);
        json_t *refused = ask("POST", "/v1/completions",
                              "{\"prompt\":\"a\",\"max_tokens\":1,\"flextrace\":{\"only\":[\"scripture\"]}}", 403);
        assert_string_equal(text_at(json_object_get(refused, "error"), "code"), "expert_opted_out");
        json_decref(refused);
        if (!restarted) {
            stop_server();
            start_server("");
        }
    }
    json_decref(one);
    json_decref(ask("DELETE", "/v1/optouts/scripture", NULL, 200));
    json_decref(ask("DELETE", "/v1/optouts/scripture", NULL, 404));
    json_decref(get("/v1/optouts/scripture", 404));
    assert_string_equal(state_of(1), "active");
    complete(without, during);
    assert_string_equal(without, "");
    assert_string_equal(before, during);
}

/* The proof of those outputs, out of their routing; and the log of who ordered what. */
static void what_was_written_meanwhile_is_proved_and_the_orders_are_in_the_log(void **state)
{
    (void)state;
    need_server();
    json_t *list = get("/v1/compliance/optouts?owner=scripture&key=local", 200);
    assert_int_equal(rows_of(list), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *proof = json_object_get(row_at(list, i), "proof");
        assert_true(json_is_false(json_object_get(proof, "took_part")));
        assert_true(json_integer_value(json_object_get(proof, "places")) > 0);
        assert_int_equal(json_integer_value(json_object_get(proof, "chosen")), 0);
    }
    json_decref(list);
    list = get("/v1/compliance/access?what=optout.", 200);
    assert_int_equal(rows_of(list), 2);
    assert_string_equal(text_at(row_at(list, 0), "what"), "optout.set");
    assert_string_equal(text_at(row_at(list, 0), "owner"), "scripture");
    assert_string_equal(text_at(row_at(list, 1), "what"), "optout.withdrawn");
    json_decref(list);
    list = get("/v1/compliance/verify", 200);
    assert_true(json_is_true(json_object_get(list, "good")));
    json_decref(list);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    need_server();
    json_decref(ask("POST", "/v1/optouts", "{}", 422));
    json_decref(ask("POST", "/v1/optouts", "{\"owner\":\"nobody\"}", 404));
    json_decref(ask("POST", "/v1/optouts", "{\"owner\":\"scripture\",\"until\":\"tomorrow\"}", 422));
    json_decref(ask("DELETE", "/v1/optouts/nobody", NULL, 404));
    json_t *list = get("/v1/optouts", 200);
    assert_int_equal(rows_of(list), 0);
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_holds_for_the_next_request_and_after_a_restart),
        cmocka_unit_test(what_was_written_meanwhile_is_proved_and_the_orders_are_in_the_log),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
