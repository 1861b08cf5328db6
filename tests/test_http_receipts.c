/* Receipts from a served model to an owner's machine: made over HTTP, verified, opened and replayed by the
 * commands, with nothing but files. */
#include "tests/ft_test_http.h"

#include "base/ft_file.h"
#include "tracer/ft_replay.h"

#include <sys/stat.h>
#include <unistd.h>

static char id[40]; /* of the trace */
static char model[4096], receipt_path[4096], key_path[4096], public_path[4096], scripture[4096], other_key[4096];

static void write_text(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* The receipt of a trace, into receipt_path. */
static void fetch_receipt(const char *trace, const char *more)
{
    char path[200];
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt%s", trace, more);
    ft_reply r = ft_http(at, "GET", path, NULL, NULL);
    if (r.status != 200)
        fail_msg("%s: %d: %s", path, r.status, r.body ? r.body : "");
    write_text(receipt_path, r.body, r.size);
    ft_reply_release(&r);
}

static void complete(const char *prompt, const char *more, char trace_id[40])
{
    char body[600];
    snprintf(body, sizeof(body),
             "{\"model\":\"test\",\"prompt\":\"%s\",\"max_tokens\":14,\"flextrace\":{\"trace\":true%s}}", prompt, more);
    json_t *answer = ft_http_json(at, "POST", "/v1/completions", body, 200);
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const char *made = text_at(json_object_get(choice, "flextrace"), "trace_id");
    assert_non_null(made);
    snprintf(trace_id, 40, "%s", made);
    json_decref(answer);
}

static int run(int expected, const char *needle, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A command whose exit code and words are known. */
static int run(int expected, const char *needle, const char *fmt, ...)
{
    static char command[40000];
    char *out, *err;
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    const int code = ft_test_shell(command, &out, &err);
    if (code != expected || (needle && !strstr(out, needle) && !strstr(err, needle)))
        fail_msg("%s: %d: %s%s", command, code, out, err);
    if (code) { /* the reason is one line, after progress where there is some */
        const char *last = strstr(err, "flextrace: ");
        assert_true(!err[0] || (last && strchr(last, '\n') == last + strlen(last) - 1));
    }
    free(out);
    free(err);
    return code;
}

static int open_signed(void **state)
{
    strcpy(model, ft_test_source("demo/model"));
    strcpy(receipt_path, ft_test_path("receipt.json"));
    strcpy(key_path, ft_test_path("signing.pem"));
    strcpy(public_path, ft_test_path("signing.pem.pub"));
    strcpy(other_key, ft_test_path("other.pem"));
    strcpy(scripture, ft_test_path("scripture.index"));
    (void)state;
    if (ft_signing_key_new(key_path, NULL, NULL) != FT_OK || ft_signing_key_new(other_key, NULL, NULL) != FT_OK)
        return 1;
    if (!ft_test_federation(""))
        return 0;
    start_server("signing_key: signing.pem\n");
    /* Given text that stands in scripture, read by the model: spans for sure. */
    char body[600];
    snprintf(body, sizeof(body), "{\"prompt\":\"He said: \",\"text\":\"%s, and more\",\"routing\":true,\"store\":true}",
             ft_test_scripture);
    json_t *trace = ft_http_json(at, "POST", "/v1/traces", body, 201);
    snprintf(id, sizeof(id), "%s", text_at(trace, "id"));
    json_decref(trace);
    return 0;
}

/* --- Keys ------------------------------------------------------------------------------- */

static void the_servers_keys_are_listed(void **state)
{
    (void)state;
    need_server();
    json_t *keys = ft_http_json(at, "GET", "/v1/keys", NULL, 200);
    const json_t *key = json_array_get(json_object_get(keys, "data"), 0);
    size_t n;
    char *pem = ft_test_read(public_path, &n);
    assert_non_null(pem);
    assert_string_equal(text_at(key, "public_key"), pem);
    assert_int_equal(strlen(text_at(key, "keyid")), 64);
    assert_true(json_is_true(json_object_get(key, "current")));
    free(pem);
    json_decref(keys);
}

/* --- Verifying ----------------------------------------------------------------------------- */

static void a_receipt_verifies_and_its_spans_stand_in_the_owners_index(void **state)
{
    (void)state;
    need_server();
    fetch_receipt(id, "");
    run(0, "holds", "$FLEXTRACE receipt verify %s --key %s", receipt_path, public_path);
    run(0, "with their counts", "$FLEXTRACE receipt verify %s --key %s -i %s", receipt_path, public_path, scripture);
    run(1, "not signed by this key", "$FLEXTRACE receipt verify %s --key %s.pub", receipt_path, other_key);
    run(0, "holds", "$FLEXTRACE receipt verify %s --key %s.pub --key %s", receipt_path, other_key, public_path);
    run(1, "are asked for", "$FLEXTRACE receipt verify %s --signatures 2 --key %s.pub --key %s", receipt_path,
        other_key, public_path);
    run(2, "needs a FILE", "$FLEXTRACE receipt verify %s", receipt_path);
    run(3, "not an envelope", "$FLEXTRACE receipt verify %s --key %s", ft_test_write("no.json", "{}", 2), public_path);
}

static void the_same_trace_gives_the_same_receipt(void **state)
{
    (void)state;
    need_server();
    size_t n, m;
    fetch_receipt(id, "");
    char *a = ft_test_read(receipt_path, &n);
    fetch_receipt(id, "");
    char *b = ft_test_read(receipt_path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
    /* And so does the command, beside the running server. */
    run(0, NULL, "$FLEXTRACE receipt make %s %s -o %s.made && tr -d '\\n' <%s.made | cmp - %s",
        ft_test_path("federation.yaml"), id, receipt_path, receipt_path, receipt_path);
}

static void an_answer_brings_its_receipt_where_that_is_asked_for(void **state)
{
    (void)state;
    need_server();
    json_t *answer = ft_http_json(at, "POST", "/v1/completions",
                                  "{\"model\":\"test\",\"prompt\":\"In the\",\"max_tokens\":5,\"flextrace\":"
                                  "{\"receipt\":true}}",
                                  200);
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const json_t *ours = json_object_get(choice, "flextrace"), *receipt = json_object_get(ours, "receipt");
    char path[200];
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt", text_at(ours, "trace_id"));
    json_t *later = ft_http_json(at, "GET", path, NULL, 200);
    assert_true(json_equal(receipt, later));
    json_decref(later);
    json_decref(answer);
    json_decref(ft_http_json(
        at, "POST", "/v1/completions",
        "{\"model\":\"test\",\"prompt\":\"In the\",\"flextrace\":{\"receipt\":true,\"store\":false}}", 400));
}

/* The payload, for looking at. */
static json_t *statement_of(const char *path)
{
    ft_envelope e;
    ft_status st = {0};
    size_t n;
    json_t *out = NULL;
    char *text = ft_test_read(path, &n);
    assert_ok(ft_dsse_parse(&e, text, n, "receipt", &st), st);
    assert_ok(ft_json_parse(&out, e.payload.data, e.payload.size, "payload", &st), st);
    ft_envelope_release(&e);
    free(text);
    return out;
}

/* The statement, changed by the caller, signed with the right key. */
static void sign_again(const json_t *statement)
{
    ft_signer *s;
    ft_status st;
    ft_buffer payload = {0}, envelope = {0};
    assert_ok(ft_signer_open(&s, key_path, &st), st);
    assert_ok(ft_json_write(statement, &payload, &st), st);
    assert_ok(ft_dsse_sign(&envelope, FT_RECEIPT_PAYLOAD_TYPE, payload.data, payload.size, s, &st), st);
    write_text(receipt_path, envelope.data, envelope.size);
    ft_buffer_release(&payload);
    ft_buffer_release(&envelope);
    ft_signer_close(s);
}

static void a_receipt_bears_the_nonce_of_its_request(void **state)
{
    (void)state;
    need_server();
    char made[40];
    complete("In the", ",\"nonce\":\"of today: \u00e9\"", made);
    fetch_receipt(made, "");
    json_t *statement = statement_of(receipt_path);
    assert_string_equal(text_at(json_object_get(statement, "predicate"), "nonce"), "of today: \xC3\xA9");
    json_decref(statement);
    run(0, "holds", "$FLEXTRACE receipt verify %s --key %s", receipt_path, public_path);
    complete("In the", "", made);
    fetch_receipt(made, "");
    statement = statement_of(receipt_path);
    assert_true(json_is_null(json_object_get(json_object_get(statement, "predicate"), "nonce")));
    json_decref(statement);
    char longer[132] = "";
    snprintf(longer, sizeof(longer), "\"%0129d\"", 0);
    const char *const wrong[] = {"\"\"", "7", "\"\\u0000\"", longer};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char body[400];
        snprintf(body, sizeof(body), "{\"prompt\":\"a\",\"max_tokens\":1,\"flextrace\":{\"trace\":true,\"nonce\":%s}}",
                 wrong[i]);
        json_decref(ft_http_json(at, "POST", "/v1/completions", body, 400));
    }
}

static json_t *span_of(const json_t *statement, size_t i)
{
    return json_array_get(json_object_get(json_object_get(statement, "predicate"), "spans"), i);
}

/* The span occurs `count` times with scripture, and so many more or less times in all; 0 is not said. */
static void claim(json_t *span, json_int_t count)
{
    json_t *counts = json_object_get(span, "ownerCounts");
    const json_int_t before = json_integer_value(json_object_get(counts, "scripture"));
    (void)json_object_set_new(span, "count",
                              json_integer(json_integer_value(json_object_get(span, "count")) + count - before));
    (void)json_object_set_new(span, "documents", json_array());
    if (count)
        (void)json_object_set_new(counts, "scripture", json_integer(count));
    else
        (void)json_object_del(counts, "scripture");
}

static void a_claim_that_an_owners_index_refutes_is_told(void **state)
{
    (void)state;
    need_server();
    fetch_receipt(id, "");
    json_t *s = statement_of(receipt_path);
    const json_int_t count =
        json_integer_value(json_object_get(json_object_get(span_of(s, 0), "ownerCounts"), "scripture"));
    assert_true(count > 0);
    claim(span_of(s, 0), count + 1);
    sign_again(s);
    run(1, "the receipt says that it stands here", "$FLEXTRACE receipt verify %s --key %s -i %s", receipt_path,
        public_path, scripture);
    claim(span_of(s, 0), 0); /* what is kept silent */
    sign_again(s);
    run(1, "which the receipt does not say", "$FLEXTRACE receipt verify %s --key %s -i %s", receipt_path, public_path,
        scripture);
    claim(span_of(s, 0), count);
    (void)json_object_set_new(span_of(s, 0), "end", json_integer(1000));
    sign_again(s);
    run(1, "does not lie", "$FLEXTRACE receipt verify %s --key %s", receipt_path, public_path);
    json_decref(s);
}

static void an_owner_opens_its_documents_with_its_salt_alone(void **state)
{
    (void)state;
    need_server();
    char path[200], salt[80], wrong[80];
    fetch_receipt(id, "");
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt/salt?owner=scripture", id);
    json_t *answer = ft_http_json(at, "GET", path, NULL, 200);
    snprintf(salt, sizeof(salt), "%s", text_at(answer, "salt"));
    json_decref(answer);
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt/salt?owner=public", id);
    answer = ft_http_json(at, "GET", path, NULL, 200);
    snprintf(wrong, sizeof(wrong), "%s", text_at(answer, "salt"));
    json_decref(answer);
    assert_string_not_equal(salt, wrong);
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt/salt?owner=nobody", id);
    json_decref(ft_http_json(at, "GET", path, NULL, 404));
    char *out;
    static char command[40000];
    snprintf(command, sizeof(command), "$FLEXTRACE receipt verify %s --key %s -i %s --salt %s --json", receipt_path,
             public_path, scripture, salt);
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    json_t *v = json_loads(out, 0, NULL);
    const json_t *own = json_array_get(json_object_get(v, "owners"), 0);
    assert_string_equal(text_at(own, "owner"), "scripture");
    assert_true(json_integer_value(json_object_get(own, "documents")) > 0);
    assert_int_equal(json_integer_value(json_object_get(own, "documents")),
                     json_integer_value(json_object_get(own, "opened")));
    json_decref(v);
    free(out);
    run(1, "under this salt", "$FLEXTRACE receipt verify %s --key %s -i %s --salt %s", receipt_path, public_path,
        scripture, wrong);
    /* The receipt itself says nothing of them. */
    size_t n;
    char *text = ft_test_read(receipt_path, &n);
    json_t *s = statement_of(receipt_path);
    char *plain = json_dumps(s, 0);
    assert_null(strstr(plain, "gen-1"));
    assert_null(strstr(plain, "In the beginning"));
    free(plain);
    json_decref(s);
    free(text);
}

/* --- Replaying -------------------------------------------------------------------------------- */

static void a_generation_is_replayed_bit_for_bit_on_any_number_of_threads(void **state)
{
    (void)state;
    need_server();
    static const char *const ways[] = {"", ",\"without\":[\"scripture\"]", ",\"without\":[\"public\",\"3\"]"};
    static const char *const prompts[] = {
        "In the beginning\",\"temperature\":0.9,\"top_p\":0.9,\"seed\":11,\"x\":\"",
        "And it came to pass\",\"temperature\":0,\"stop\":[\"the\"],\"x\":\"",
        "The manual\",\"seed\":5,\"logit_bias\":{\"100\":2.5},\"presence_penalty\":0.5,\"x\":\""};
    for (size_t i = 0; i < 3; i++) {
        char trace[40];
        complete(prompts[i], ways[i], trace);
        fetch_receipt(trace, "");
        for (int threads = 1; threads <= 2; threads++)
            run(0, "to the last bit", "$FLEXTRACE receipt replay %s %s --threads %d --key %s", receipt_path, model,
                threads, public_path);
        run(0, "to the last bit", "$FLEXTRACE receipt replay %s %s", receipt_path, ft_test_path("federation.yaml"));
        json_t *s = statement_of(receipt_path);
        const json_t *p = json_object_get(s, "predicate");
        assert_string_equal(text_at(p, "assurance"), "replayable");
        size_t inactive = 0, experts = json_array_size(json_object_get(p, "experts"));
        for (size_t e = 0; e < experts; e++) {
            const json_t *x = json_array_get(json_object_get(p, "experts"), e);
            assert_int_equal(strlen(text_at(x, "digest")), 71);
            inactive += !json_is_true(json_object_get(x, "active"));
        }
        assert_int_equal(inactive, i);
        assert_int_equal(json_array_size(json_object_get(p, "without")), i);
        json_decref(s);
    }
}

static void a_given_text_is_read_again(void **state)
{
    (void)state;
    need_server();
    fetch_receipt(id, "");
    run(0, "read, and their routing", "$FLEXTRACE receipt replay %s %s --threads 1", receipt_path, model);
}

static void a_replay_that_differs_says_where(void **state)
{
    (void)state;
    need_server();
    char trace[40];
    complete("In the beginning\",\"temperature\":0,\"x\":\"", "", trace);
    fetch_receipt(trace, "");
    json_t *s = statement_of(receipt_path), *p = json_object_get(s, "predicate");
    /* Another routing. */
    json_t *routing = json_object_get(p, "routing"), *digest = json_incref(json_object_get(routing, "digest"));
    (void)json_object_set_new(routing, "digest",
                              json_string("sha256:0000000000000000000000000000000000000000000000000000000000000000"));
    sign_again(s);
    run(1, "other routing", "$FLEXTRACE receipt replay %s %s", receipt_path, model);
    (void)json_object_set_new(routing, "digest", digest);
    /* Another prompt, with a digest that agrees. */
    json_t *prompt = json_object_get(p, "promptTokenIds"), *experts = json_object_get(p, "experts");
    (void)json_array_set_new(prompt, 0, json_integer(77));
    sign_again(s);
    run(1, "promptTokenIds", "$FLEXTRACE receipt replay %s %s", receipt_path, model);
    json_decref(s);
    /* Other parameters: greedy became a draw. */
    fetch_receipt(trace, "");
    s = statement_of(receipt_path);
    json_t *parameters = json_object_get(json_object_get(s, "predicate"), "parameters");
    (void)json_object_set_new(parameters, "temperature", json_real(5));
    sign_again(s);
    run(1, "other tokens", "$FLEXTRACE receipt replay %s %s", receipt_path, model);
    json_decref(s);
    /* Another expert. */
    fetch_receipt(trace, "");
    s = statement_of(receipt_path);
    experts = json_object_get(json_object_get(s, "predicate"), "experts");
    (void)json_object_set_new(json_array_get(experts, 2), "digest",
                              json_string("sha256:0000000000000000000000000000000000000000000000000000000000000000"));
    sign_again(s);
    run(1, "expert 2 (dictionary) is another one", "$FLEXTRACE receipt replay %s %s", receipt_path, model);
    json_decref(s);
}

static void another_family_of_kernels_is_said_plainly(void **state)
{
    (void)state;
    need_server();
    char trace[40];
    complete("In the beginning", "", trace);
    fetch_receipt(trace, "");
    json_t *s = statement_of(receipt_path);
    json_t *engine = json_object_get(json_object_get(s, "predicate"), "engine");
    const int scalar = !strcmp(text_at(engine, "kernels"), "scalar");
    if (!scalar)
        run(3, "computed by the", "FLEXTRACE_ISA=scalar $FLEXTRACE receipt replay %s %s", receipt_path, model);
    (void)json_object_set_new(engine, "kernels", json_string("abacus"));
    sign_again(s);
    json_decref(s);
    run(3, "computed by the abacus kernels", "$FLEXTRACE receipt replay %s %s", receipt_path, model);
}

static void a_hidden_prompt_is_replayed_by_who_knows_it(void **state)
{
    (void)state;
    need_server();
    char trace[40];
    complete("In the beginning\",\"temperature\":0,\"x\":\"", "", trace);
    fetch_receipt(trace, "");
    json_t *s = statement_of(receipt_path);
    json_t *ids = json_incref(json_object_get(json_object_get(s, "predicate"), "promptTokenIds"));
    json_decref(s);
    fetch_receipt(trace, "?prompt=hidden");
    run(0, "attested", "$FLEXTRACE receipt verify %s --key %s", receipt_path, public_path);
    run(3, "give the prompt", "$FLEXTRACE receipt replay %s %s", receipt_path, model);
    char header[128];
    const size_t n = json_array_size(ids);
    int32_t values[64];
    assert_true(n < 64);
    for (size_t i = 0; i < n; i++)
        values[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    memset(header, ' ', sizeof(header));
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    char dict[100];
    const int length = snprintf(dict, sizeof(dict), "{'descr': '<i4', 'fortran_order': False, 'shape': (%zu,), }", n);
    memcpy(header + 10, dict, (size_t)length);
    header[127] = '\n';
    FILE *f = fopen(ft_test_path("prompt.npy"), "wb");
    assert_non_null(f);
    fwrite(header, 1, sizeof(header), f);
    fwrite(values, sizeof(*values), n, f);
    assert_int_equal(fclose(f), 0);
    run(0, "to the last bit", "$FLEXTRACE receipt replay %s %s --ids %s", receipt_path, model,
        ft_test_path("prompt.npy"));
    json_decref(ids);
}

/* --- Rotation, and an index that changed --------------------------------------------------------- */

static void old_keys_verify_after_rotation_until_their_time_is_over(void **state)
{
    (void)state;
    need_server();
    fetch_receipt(id, "");
    char old[4096], keys[4096];
    strcpy(old, ft_test_path("old.json"));
    strcpy(keys, ft_test_path("keys.json"));
    assert_int_equal(rename(receipt_path, old), 0);
    stop_server();
    start_server("signing_key: other.pem\nold_keys:\n"
                 "  - {public: signing.pem.pub, from: 2020-01-01T00:00:00Z, to: 2100-01-01T00:00:00Z}\n");
    ft_reply r = ft_http(at, "GET", "/v1/keys", NULL, NULL);
    assert_int_equal(r.status, 200);
    write_text(keys, r.body, r.size);
    ft_reply_release(&r);
    fetch_receipt(id, "");
    run(0, "holds", "$FLEXTRACE receipt verify %s %s --key %s", old, receipt_path, keys);
    run(0, "holds", "$FLEXTRACE receipt verify %s --key %s", old, public_path);
    run(1, "not signed by this key", "$FLEXTRACE receipt verify %s --key %s", receipt_path, public_path);
    stop_server();
    start_server("signing_key: other.pem\nold_keys:\n"
                 "  - {public: signing.pem.pub, revoked_at: 2020-01-01T00:00:00Z}\n");
    r = ft_http(at, "GET", "/v1/keys", NULL, NULL);
    write_text(keys, r.body, r.size);
    ft_reply_release(&r);
    run(1, "revoked", "$FLEXTRACE receipt verify %s --key %s", old, keys);
    run(0, "holds", "$FLEXTRACE receipt verify %s --key %s", receipt_path, keys);
}

static void an_index_that_changed_is_said_to_be_another_state(void **state)
{
    (void)state;
    need_server();
    fetch_receipt(id, "");
    char copy[4096];
    strcpy(copy, ft_test_path("copy.index"));
    static const char row[] = "{\"id\":\"x\",\"text\":\"more words\"}\n";
    const char *more = ft_test_write("more.jsonl", row, sizeof(row) - 1);
    run(0, NULL, "cp -r %s %s && $FLEXTRACE index add %s %s 2>&1", scripture, copy, copy, more);
    run(0, "another state", "$FLEXTRACE receipt verify %s --key %s.pub -i %s", receipt_path, other_key, copy);
    run(0, NULL, "$FLEXTRACE index remove %s --id gen-1 2>&1", copy);
    run(1, "another state", "$FLEXTRACE receipt verify %s --key %s.pub -i %s", receipt_path, other_key, copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_servers_keys_are_listed),
        cmocka_unit_test(a_receipt_verifies_and_its_spans_stand_in_the_owners_index),
        cmocka_unit_test(the_same_trace_gives_the_same_receipt),
        cmocka_unit_test(an_answer_brings_its_receipt_where_that_is_asked_for),
        cmocka_unit_test(a_receipt_bears_the_nonce_of_its_request),
        cmocka_unit_test(a_claim_that_an_owners_index_refutes_is_told),
        cmocka_unit_test(an_owner_opens_its_documents_with_its_salt_alone),
        cmocka_unit_test(a_generation_is_replayed_bit_for_bit_on_any_number_of_threads),
        cmocka_unit_test(a_given_text_is_read_again),
        cmocka_unit_test(a_replay_that_differs_says_where),
        cmocka_unit_test(another_family_of_kernels_is_said_plainly),
        cmocka_unit_test(a_hidden_prompt_is_replayed_by_who_knows_it),
        cmocka_unit_test(old_keys_verify_after_rotation_until_their_time_is_over),
        cmocka_unit_test(an_index_that_changed_is_said_to_be_another_state),
    };
    return cmocka_run_group_tests(tests, open_signed, close_all);
}
