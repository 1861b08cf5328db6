/* What docs/compliance.md promises, asked over HTTP as an auditor would, and of the command line. */
#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "tests/compliance_fixture.h"
#include "tracer/ft_dsse.h"
#include "tracer/ft_erasure.h"
#include "tracer/ft_store.h"

static char key_path[1000], certificate_path[200];
static ft_public_key public_key;

static int open_signed(void **state)
{
    (void)state;
    strcpy(key_path, ft_test_path("signing.pem"));
    if (ft_signing_key_new(key_path, &public_key, NULL) != FT_OK)
        return 1;
    if (!ft_test_federation(""))
        return 0;
    start_server("signing_key: signing.pem\n");
    make_traces();
    return 0;
}

static void verbatim_names_the_outputs_that_hold_so_many_tokens_of_a_document(void **state)
{
    (void)state;
    need_server();
    json_t *list = get("/v1/compliance/verbatim?owner=scripture&document=gen-1&min_tokens=5", 200);
    assert_int_equal(rows_of(list), 4);
    assert_string_equal(text_at(row_at(list, 3), "id"), made[0]);
    const json_t *spans = json_object_get(row_at(list, 0), "spans");
    assert_true(json_array_size(spans) > 0);
    assert_true(json_integer_value(json_object_get(json_object_get(row_at(list, 0), "matched"), "longest")) >= 5);
    json_decref(list);
    list = get("/v1/compliance/verbatim?document=gen-1&min_tokens=5000", 200);
    assert_int_equal(rows_of(list), 0);
    assert_true(json_is_false(json_object_get(list, "has_more")));
    json_decref(list);
    json_decref(get("/v1/compliance/verbatim?min_tokens=5", 400));
    json_decref(get("/v1/compliance/verbatim?owner=scripture&from=yesterday", 400));
    json_decref(get("/v1/compliance/verbatim?owner=scripture&after=trc_x", 400));
    json_decref(get("/v1/compliance/verbatim?owner=scripture&order=up", 400));
    json_decref(get("/v1/compliance/verbatim?owner=scripture&format=xml", 400));
    list = get("/v1/compliance/verbatim?owner=scripture&to=2001-01-01", 200);
    assert_int_equal(rows_of(list), 0);
    json_decref(list);
}

/* A filter that is not read would let everything through, and look like an answer. */
static void a_parameter_that_is_not_known_or_stands_twice_is_refused_by_name(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *path, *name;
    } wrong[] = {
        {"/v1/compliance/outputs?ownr=scripture", "ownr"},
        {"/v1/compliance/verbatim?owner=scripture&min_token=9", "min_token"},
        {"/v1/compliance/experts?expert=1&share=0.5", "share"},
        {"/v1/compliance/optouts?owner=scripture&since=2026-01-01", "since"},
        {"/v1/compliance/usage?owner=scripture&until=2026-01-01", "until"},
        {"/v1/compliance/access?owner=scripture", "owner"},
        {"/v1/compliance/export?Owner=scripture", "Owner"},
        {"/v1/compliance/state?time=2026-01-01", "time"},
        {"/v1/traces?text=earth", "text"},
        {"/v1/traces?q=", "q"},
        {"/v1/compliance/outputs?q=%C3", "q"},
        {"/v1/compliance/export?q=", "q"},
        {"/v1/compliance/outputs?include=all", "include"},
        {"/v1/compliance/export?include=total", "include"},
        {"/v1/compliance/usage?owner=scripture&include=total", "include"},
        {"/v1/routing?own=scripture", "own"},
        {"/v1/takedowns?verdict=none", "verdict"},
        {"/v1/compliance/verify?deep=1", "deep"},
        {"/v1/compliance/outputs?owner=scripture&owner=public", "owner"},
        {"/v1/compliance/outputs?verdict=verbatm", "verdict"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        json_t *problem = get(wrong[i].path, 400);
        char quoted[40];
        snprintf(quoted, sizeof(quoted), "'%s'", wrong[i].name);
        assert_string_equal(text_at(problem, "type"), "urn:flextrace:problem:invalid-parameter");
        if (!strstr(text_at(problem, "detail"), quoted))
            fail_msg("%s: %s", wrong[i].path, text_at(problem, "detail"));
        json_decref(problem);
    }
    json_decref(get("/v1/compliance/state?format=json", 200));
    json_decref(get("/v1/compliance/outputs?verdict=none&owner=scripture&limit=1&order=asc", 200));
}

/* How many of the four outputs a list has by these parameters, on a page of one; "total" and the page agree. */
static void assert_total(const char *list, const char *parameters, json_int_t total)
{
    char path[1400];
    snprintf(path, sizeof(path), "/v1/%s%climit=1&include=total&%s", list, strchr(list, '?') ? '&' : '?', parameters);
    json_t *l = get(path, 200);
    if (json_integer_value(json_object_get(l, "total")) != total || !json_is_integer(json_object_get(l, "total")))
        fail_msg("%s: %s", path, json_dumps(l, 0));
    assert_int_equal(rows_of(l), total > 0);
    assert_int_equal(json_is_true(json_object_get(l, "has_more")), total > 1);
    assert_null(json_object_get(l, "total_at_least"));
    json_decref(l);
}

static void every_list_takes_model_text_and_total(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *list;
        json_int_t all;
    } lists[] = {{"traces", 4},
                 {"compliance/outputs", 4},
                 {"compliance/verbatim?owner=scripture", 4},
                 {"compliance/experts?expert=scripture", 2},
                 {"compliance/optouts?owner=scripture", 2}};
    char path[1400], model[200], long_text[1002];
    snprintf(path, sizeof(path), "/v1/traces/%s", made[0]);
    json_t *t = get(path, 200);
    snprintf(model, sizeof(model), "model=%s", text_at(t, "model"));
    json_decref(t);
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        assert_total(lists[i].list, "", lists[i].all);
        assert_total(lists[i].list, model, lists[i].all);
        assert_total(lists[i].list, "model=other", 0);
        assert_total(lists[i].list, "q=earth.%20%22Yes%22", lists[i].all); /* a quote, which JSON escapes */
        assert_total(lists[i].list, "q=EARTH", 0);
        assert_total(lists[i].list, "q=Speak", 0); /* of the prompt */
        assert_total(lists[i].list, "model=other&q=earth", 0);
        if (lists[i].all == 4) { /* total is of all, wherever the page stands */
            snprintf(path, sizeof(path), "/v1/%s%cinclude=total&after=%s&q=earth", lists[i].list,
                     strchr(lists[i].list, '?') ? '&' : '?', made[3]);
            json_t *l = get(path, 200);
            assert_int_equal(rows_of(l), 3);
            assert_int_equal(json_integer_value(json_object_get(l, "total")), 4);
            json_decref(l);
        }
    }
    json_t *plain = get("/v1/traces", 200);
    assert_null(json_object_get(plain, "total"));
    json_decref(plain);
    ft_reply r = ft_http(at, "GET", "/v1/compliance/outputs?format=csv&include=total&limit=1", NULL, NULL);
    assert_string_equal(ft_reply_header(&r, "X-Total"), "4");
    ft_reply_release(&r);
    memset(long_text, 'x', 1001);
    long_text[1001] = '\0';
    snprintf(path, sizeof(path), "/v1/traces?q=%s", long_text);
    json_decref(get(path, 400));
    path[strlen(path) - 1] = '\0';
    json_decref(get(path, 200));
}

/* What no page has: exports and sums read the same filters. */
static void exports_and_sums_take_model_and_text(void **state)
{
    (void)state;
    need_server();
    static const struct {
        const char *parameters;
        json_int_t count;
    } asks[] = {{"q=he%20said", 4}, {"q=she%20said", 0}, {"model=other", 0}};
    for (size_t i = 0; i < sizeof(asks) / sizeof(*asks); i++) {
        char path[200];
        snprintf(path, sizeof(path), "/v1/compliance/export?format=json&%s", asks[i].parameters);
        json_t *v = get(path, 200);
        assert_int_equal(json_integer_value(json_object_get(v, "exported")), asks[i].count);
        json_decref(v);
        snprintf(path, sizeof(path), "/v1/compliance/usage?owner=scripture&%s", asks[i].parameters);
        v = get(path, 200);
        assert_int_equal(json_integer_value(json_object_get(v, "outputs")), asks[i].count);
        json_decref(v);
        snprintf(path, sizeof(path), "/v1/routing?%s", asks[i].parameters);
        v = get(path, 200);
        assert_int_equal(json_integer_value(json_object_get(v, "traces")), asks[i].count);
        json_decref(v);
    }
}

static void pages_follow_each_other_by_after(void **state)
{
    (void)state;
    need_server();
    char path[200] = "/v1/compliance/outputs?owner=scripture&limit=1";
    for (int i = 3; i >= 0; i--) {
        json_t *list = get(path, 200);
        assert_int_equal(rows_of(list), 1);
        assert_string_equal(text_at(row_at(list, 0), "id"), made[i]);
        assert_int_equal(json_is_true(json_object_get(list, "has_more")), i > 0);
        snprintf(path, sizeof(path), "/v1/compliance/outputs?owner=scripture&limit=1&after=%s",
                 text_at(list, "last_id"));
        json_decref(list);
    }
}

static void csv_quotes_what_needs_it(void **state)
{
    (void)state;
    need_server();
    ft_reply r = ft_http(at, "GET", "/v1/compliance/verbatim?owner=scripture&limit=2", "Accept: text/csv\r\n", NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(ft_reply_header(&r, "Content-Type"), "text/csv"));
    assert_string_equal(ft_reply_header(&r, "X-Has-More"), "true");
    assert_int_equal(strncmp(r.body, "id,created,key,start,end,tokens,count,verdict,owners,documents\r\n", 64), 0);
    assert_non_null(strstr(r.body, "scripture/gen-1"));
    ft_reply_release(&r);
    json_decref(get("/v1/compliance/usage?owner=%22a,b%22%0A", 200));
    r = ft_http(at, "GET", "/v1/compliance/access?format=csv&what=compliance.usage&limit=1", NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "\"{\"\"owner\"\":\"\"\\\"\"a,b\\\"\"\\n\"\"}\""));
    ft_reply_release(&r);
}

static void experts_tell_their_share_and_opt_outs_are_proved_by_the_routing(void **state)
{
    (void)state;
    need_server();
    json_t *list = get("/v1/compliance/experts?expert=scripture", 200);
    assert_int_equal(rows_of(list), 2);
    assert_string_equal(text_at(row_at(list, 1), "id"), made[0]);
    assert_true(json_number_value(json_object_get(row_at(list, 0), "share")) > 0);
    json_decref(list);
    json_decref(get("/v1/compliance/experts?expert=nobody", 400));
    list = get("/v1/compliance/optouts?owner=scripture&key=local", 200);
    assert_int_equal(rows_of(list), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *proof = json_object_get(row_at(list, i), "proof");
        assert_int_equal(json_integer_value(json_object_get(proof, "chosen")), 0);
        assert_true(json_number_value(json_object_get(proof, "weight")) == 0);
        assert_true(json_is_false(json_object_get(proof, "took_part")));
        assert_true(json_integer_value(json_object_get(proof, "places")) > 100);
    }
    json_decref(list);
}

static void usage_counts_what_an_owner_gave(void **state)
{
    (void)state;
    need_server();
    json_t *u = get("/v1/compliance/usage?owner=scripture", 200);
    assert_int_equal(json_integer_value(json_object_get(u, "outputs")), 4);
    assert_int_equal(json_integer_value(json_object_get(u, "outputs_with_spans")), 4);
    assert_int_equal(json_integer_value(json_object_get(u, "opted_out")), 2);
    const json_t *top = json_array_get(json_object_get(u, "documents"), 0);
    assert_string_equal(text_at(top, "id"), "gen-1");
    assert_int_equal(json_integer_value(json_object_get(top, "outputs")), 4);
    const double share = json_number_value(json_object_get(json_object_get(u, "routing"), "share"));
    assert_true(share > 0 && share < 1);
    json_decref(u);
}

static void routing_comes_as_an_array_and_in_numbers(void **state)
{
    (void)state;
    need_server();
    char path[200];
    snprintf(path, sizeof(path), "/v1/traces/%s/routing?format=npy", made[0]);
    ft_reply r = ft_http(at, "GET", path, NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_memory_equal(r.body, "\x93NUMPY\x01\x00", 8);
    unsigned long tokens, layers, experts;
    assert_int_equal(sscanf(strstr(r.body + 10, "'shape'"), "'shape': (%lu, %lu, %lu)", &tokens, &layers, &experts), 3);
    const size_t head = 10 + (unsigned char)r.body[8] + 256U * (unsigned char)r.body[9];
    assert_int_equal(r.size, head + tokens * layers * experts * 4);
    for (size_t p = 0; p < tokens * layers; p++) { /* each place's weights are those of its k experts */
        float sum = 0, w;
        for (size_t e = 0; e < experts; e++) {
            memcpy(&w, r.body + head + (p * experts + e) * 4, 4);
            sum += w;
        }
        assert_true(sum > 0 && sum <= 1.02F);
    }
    ft_reply_release(&r);
    snprintf(path, sizeof(path), "/v1/traces/%s/routing", made[0]);
    r = ft_http(at, "GET", path, NULL, NULL);
    size_t lines = 0;
    for (const char *p = r.body; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    assert_int_equal(lines, tokens);
    ft_reply_release(&r);
    json_t *study = get("/v1/routing?owner=scripture&bucket=3600&token_ids=1", 200);
    assert_int_equal(json_integer_value(json_object_get(study, "traces")), 4);
    double sum = 0;
    for (size_t e = 0; e < experts; e++)
        sum += json_number_value(json_array_get(json_object_get(study, "share"), e));
    assert_true(sum > 0.999 && sum < 1.001);
    assert_true(json_array_size(json_object_get(study, "drift")) >= 1);
    json_decref(study);
    json_decref(get("/v1/traces/trc_00000000000000000000000000/routing", 404));
}

static void the_log_says_who_asked_what_and_is_whole(void **state)
{
    (void)state;
    need_server();
    json_t *log = get("/v1/compliance/access?what=compliance.&limit=1000", 200);
    assert_true(rows_of(log) > 10);
    const json_t *line = row_at(log, 0);
    assert_string_equal(text_at(line, "who"), "local");
    assert_string_equal(text_at(json_object_get(line, "parameters"), "document"), "gen-1");
    json_decref(log);
    json_t *report = get("/v1/compliance/verify", 200);
    assert_true(json_is_true(json_object_get(report, "good")));
    json_decref(report);
}

static size_t occurrences(const char *file, const char *bytes)
{
    size_t n, found = 0;
    char *whole = ft_test_read(file, &n);
    for (char *p = whole; p && (p = memmem(p, n - (size_t)(p - whole), bytes, strlen(bytes))) != NULL; p++)
        found++;
    free(whole);
    return found;
}

static void assert_signed(const ft_reply *r, const json_t *certificate)
{
    ft_envelope e;
    ft_status st = {0};
    json_t *payload;
    uint64_t signed_by;
    assert_ok(ft_dsse_parse(&e, r->body, r->size, "certificate", &st), st);
    assert_string_equal(e.type, FT_TAKEDOWN_TYPE);
    assert_ok(ft_dsse_verify(&e, &public_key, 1, &signed_by, &st), st);
    assert_int_equal(signed_by, 1);
    assert_ok(ft_json_parse(&payload, e.payload.data, e.payload.size, "payload", &st), st);
    assert_true(json_equal(payload, certificate));
    json_decref(payload);
    for (size_t bit = 0; bit < 8 * e.payload.size; bit++) {
        e.payload.data[bit / 8] ^= (char)(1 << bit % 8);
        assert_ok(ft_dsse_verify(&e, &public_key, 1, &signed_by, &st), st);
        assert_int_equal(signed_by, 0);
        e.payload.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    ft_envelope_release(&e);
}

/* It takes the document away. */
static void a_takedown_hides_redacts_erases_and_certifies(void **state)
{
    (void)state;
    need_server();
    char path[200];
    json_decref(ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"nobody\",\"documents\":[\"x\"]}", 422));
    json_decref(ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"scripture\",\"documents\":[]}", 422));
    json_decref(
        ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"scripture\",\"documents\":[\"not there\"]}", 404));
    static const char mistyped[] = "{\"owner\":\"scripture\",\"documents\":[\"gen-1\"],\"polcy\":\"list\"}";
    json_t *problem = ft_http_json(at, "POST", "/v1/takedowns", mistyped, 422); /* which would have redacted */
    assert_non_null(strstr(text_at(problem, "detail"), "'polcy'"));
    json_decref(problem);
    json_t *failed = get("/v1/compliance/access?what=erasure.failed&limit=100", 200);
    assert_int_equal(rows_of(failed), 4);
    assert_string_equal(text_at(row_at(failed, 0), "owner"), "nobody");
    assert_string_equal(text_at(row_at(failed, 2), "owner"), "scripture");
    assert_string_equal(json_string_value(json_array_get(json_object_get(row_at(failed, 2), "first"), 0)), "not there");
    assert_non_null(strstr(text_at(row_at(failed, 2), "error"), "no index of 'scripture'"));
    json_decref(failed);
    json_t *c = ft_http_json(at, "POST", "/v1/takedowns",
                             "{\"owner\":\"scripture\",\"documents\":[\"gen-1\"],\"reason\":\"asked to\"}", 201);
    assert_int_equal(json_array_size(json_object_get(c, "outputs")), 4);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(c, "documents"), 0), "found")),
                     1);
    assert_true(json_is_string(json_object_get(c, "erased")));
    const json_t *index = json_array_get(json_object_get(c, "indexes"), 0);
    assert_string_not_equal(text_at(index, "root_before"), text_at(index, "root_after"));
    snprintf(path, sizeof(path), "/v1/takedowns/%s", text_at(c, "id"));
    json_t *again = get(path, 200);
    assert_true(json_equal(again, c));
    json_decref(again);
    snprintf(certificate_path, sizeof(certificate_path), "/v1/takedowns/%s/certificate", text_at(c, "id"));
    ft_reply signed_one = ft_http(at, "GET", certificate_path, NULL, NULL);
    assert_int_equal(signed_one.status, 200);
    assert_signed(&signed_one, c);
    ft_reply_release(&signed_one);
    json_decref(get("/v1/takedowns/tkd_none/certificate", 404));
    strcat(path, "/verify");
    json_t *left = get(path, 200);
    assert_true(json_is_true(json_object_get(left, "clean")));
    json_decref(left);
    json_decref(c);
    json_decref(get("/v1/takedowns/tkd_none", 404));
    json_t *list = get("/v1/takedowns", 200);
    assert_int_equal(rows_of(list), 1);
    json_decref(list);
    /* The output is there, its words are not, and positions stay. */
    snprintf(path, sizeof(path), "/v1/traces/%s", made[0]);
    json_t *t = get(path, 200);
    json_t *log = get("/v1/compliance/access?what=trace.read&limit=100", 200);
    assert_string_equal(text_at(row_at(log, rows_of(log) - 1), "path"), path);
    json_decref(log);
    const char *text = text_at(json_object_get(t, "response"), "text");
    assert_null(strstr(text, "beginning God created the heaven"));
    assert_non_null(strstr(text, "***"));
    assert_true(json_is_string(json_object_get(t, "redacted")));
    char *all = json_dumps(t, 0);
    assert_null(strstr(all, "gen-1"));
    assert_null(strstr(all, "God created the heaven"));
    free(all);
    json_decref(t);
    list = get("/v1/compliance/verbatim?document=gen-1", 200);
    assert_int_equal(rows_of(list), 0);
    json_decref(list);
    assert_total("compliance/outputs", "q=beginning%20God", 0);
    assert_total("compliance/outputs", "q=he%20said", 4);
    assert_int_equal(occurrences(ft_test_path("store/data.mdb"), "God created the heaven"), 0);
    json_t *report = get("/v1/compliance/verify", 200);
    assert_true(json_is_true(json_object_get(report, "good")));
    json_decref(report);
}

/* Words that the density's limit, or a word's beginning, left out of all spans; and those of a prompt. */
static void a_takedown_finds_words_that_no_span_was_kept_of(void **state)
{
    (void)state;
    need_server();
    static const char words[] = "Thus the heavens and the earth were finished";
    char body[600], path[200];
    snprintf(body, sizeof(body), "{\"text\":\"%s.\",\"prompt\":\"%s.\",\"store\":true,\"options\":{\"min_len\":100}}",
             words, words);
    json_t *t = ft_http_json(at, "POST", "/v1/traces", body, 201);
    assert_int_equal(json_array_size(json_object_get(t, "spans")), 0);
    snprintf(path, sizeof(path), "/v1/traces/%s", text_at(t, "id"));
    json_decref(t);
    json_t *c = ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"scripture\",\"documents\":[\"gen-2\"]}", 201);
    const json_t *outputs = json_object_get(c, "outputs"),
                 *last = json_array_get(outputs, json_array_size(outputs) - 1);
    assert_non_null(strstr(path, text_at(last, "id")));
    json_decref(c);
    t = get(path, 200);
    char *all = json_dumps(t, 0);
    assert_null(strstr(all, "heavens and the earth"));
    free(all);
    json_decref(t);
    assert_int_equal(occurrences(ft_test_path("store/data.mdb"), "heavens and the earth"), 0);
}

static void a_server_without_a_key_signs_no_certificate(void **state)
{
    (void)state;
    need_server();
    stop_server();
    start_server("");
    json_t *why = get(certificate_path, 404);
    assert_string_equal(text_at(why, "type"), "urn:flextrace:problem:no-signing-key");
    json_decref(why);
}

static int shell(char **out, char **err, const char *fmt, const char *path)
{
    char command[3000];
    snprintf(command, sizeof(command), fmt, path);
    return ft_test_shell(command, out, err);
}

/* Last: while a server has the store the command line leaves it alone; afterwards it takes documents away itself. */
/* Both of LMDB's first pages then send their reader out of the file. */
static void alter_roots(void)
{
    enum { ROOT = 128, PAGE = 4096 };
    static const unsigned char far[8] = {0, 0, 0, 0, 1};
    FILE *f = fopen(ft_test_path("store/data.mdb"), "r+b");
    assert_non_null(f);
    for (long page = 0; page < 2; page++) {
        assert_int_equal(fseek(f, page * PAGE + ROOT, SEEK_SET), 0);
        assert_int_equal(fwrite(far, 1, sizeof(far), f), sizeof(far));
    }
    fclose(f);
}

static void the_command_line_erases_and_compacts_what_no_server_holds(void **state)
{
    (void)state;
    need_server();
    char yaml[1000], *out, *err;
    snprintf(yaml, sizeof(yaml), "%s", ft_test_federation(""));
    assert_int_equal(shell(NULL, &err, "$FLEXTRACE audit compact %s", yaml), 2);
    assert_non_null(strstr(err, "another process has the store open"));
    free(err);
    char body[600];
    snprintf(body, sizeof(body), "{\"text\":\"%s.\",\"prompt\":\"See:\",\"store\":true}", ft_test_public);
    json_decref(ft_http_json(at, "POST", "/v1/traces", body, 201));
    stop_server();
    assert_int_equal(shell(NULL, &err, "$FLEXTRACE audit erase %s --owner public", yaml), 2);
    free(err);
    assert_int_equal(shell(NULL, &err, "$FLEXTRACE audit erase %s --owner public --document none", yaml), 3);
    free(err);
    assert_int_equal(shell(&out, NULL,
                           "$FLEXTRACE audit erase %s --owner public --document man-1 --reason asked --no-compact",
                           yaml),
                     0);
    json_t *c = json_loads(out, 0, NULL);
    free(out);
    assert_string_equal(text_at(c, "object"), "takedown");
    assert_string_equal(text_at(c, "reason"), "asked");
    assert_int_equal(json_array_size(json_object_get(c, "outputs")), 1);
    assert_true(json_is_null(json_object_get(c, "erased")));
    assert_true(json_is_string(json_object_get(c, "redacted")));
    char left[2000], compact[2000];
    snprintf(left, sizeof(left), "$FLEXTRACE audit left %%s %s", text_at(c, "id"));
    json_decref(c);
    assert_int_equal(shell(&out, NULL, left, yaml), 1); /* bytes are left in both */
    assert_non_null(strstr(out, "hidden       index "));
    assert_non_null(strstr(out, "hidden       store: 0 outputs"));
    free(out);
    assert_int_equal(shell(&out, NULL, "$FLEXTRACE audit compact %s", yaml), 0);
    assert_non_null(strstr(out, ": 6 traces, "));
    free(out);
    snprintf(compact, sizeof(compact), "%s", ft_test_path("public.index"));
    assert_int_equal(shell(NULL, NULL, "$FLEXTRACE index compact %s", compact), 0);
    strcat(left, " --json");
    assert_int_equal(shell(&out, NULL, left, yaml), 0);
    c = json_loads(out, 0, NULL);
    free(out);
    assert_string_equal(text_at(c, "verdict"), "clean");
    const json_t *exports = json_object_get(json_object_get(c, "exports"), "data");
    assert_string_equal(text_at(json_array_get(exports, json_array_size(exports) - 1), "by"), "command line");
    json_decref(c);
    assert_int_equal(shell(NULL, &err, "$FLEXTRACE audit left %s tkd_none", yaml), 3);
    assert_non_null(strstr(err, "there is no takedown 'tkd_none'"));
    free(err);
    assert_int_equal(occurrences(ft_test_path("store/data.mdb"), "describes every option"), 0);
    assert_int_equal(shell(&out, NULL, "$FLEXTRACE audit verify %s", yaml), 0);
    free(out);
    assert_int_equal(shell(&out, NULL, "$FLEXTRACE audit log %s", yaml), 0);
    assert_non_null(strstr(out, "\"man-1\""));
    free(out);
    alter_roots();
    assert_int_equal(shell(NULL, &err, "$FLEXTRACE audit verify %s", yaml), 1); /* a federation's, as a folder's */
    assert_non_null(strstr(err, "altered or damaged"));
    free(err);
}

/* The same store through the command line: out, into another one, and whole. */
static void an_export_imported_elsewhere_is_the_same(void **state)
{
    (void)state;
    need_server();
    char command[8000], folder[1024], *out, *second, *err;
    snprintf(folder, sizeof(folder), "%s", ft_test_path("store"));
    snprintf(command, sizeof(command), "$FLEXTRACE audit export %s", folder);
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    assert_non_null(strstr(out, "{\"exported\":4}\n"));
    const char *file = ft_test_write("export.jsonl", out, strlen(out));
    snprintf(command, sizeof(command), "$FLEXTRACE audit import %s.copy <%s && $FLEXTRACE audit verify %s.copy", folder,
             file, folder);
    assert_int_equal(ft_test_shell(command, NULL, &err), 0);
    free(err);
    snprintf(command, sizeof(command), "$FLEXTRACE audit export %s.copy", folder);
    assert_int_equal(ft_test_shell(command, &second, NULL), 0);
    assert_string_equal(out, second);
    out[strlen(out) - 20] = '\0'; /* a cut file */
    file = ft_test_write("cut.jsonl", out, strlen(out));
    snprintf(command, sizeof(command), "$FLEXTRACE audit import %s.cut <%s", folder, file);
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    free(err);
    free(out);
    free(second);
    snprintf(command, sizeof(command),
             "for filter in '--text he.said' '--text Yes' '--model other'; do $FLEXTRACE audit export %s --no-routing "
             "$filter | tail -1; done",
             folder);
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    assert_string_equal(out, "{\"exported\":0}\n{\"exported\":4}\n{\"exported\":0}\n");
    free(out);
    snprintf(command, sizeof(command), "$FLEXTRACE audit export %s --text ''", folder);
    assert_int_equal(ft_test_shell(command, NULL, &err), 2);
    assert_non_null(strstr(err, "--text must have 1 to 1000 bytes"));
    free(err);
    json_t *line = get("/v1/compliance/access?what=export&limit=100", 200), *logged = NULL;
    for (size_t i = 0; i < rows_of(line); i++)
        if (!logged && json_object_get(json_object_get(row_at(line, i), "parameters"), "q"))
            logged = json_object_get(row_at(line, i), "parameters");
    assert_string_equal(text_at(logged, "q"), "he.said"); /* by the name that HTTP has for it */
    json_decref(line);
    snprintf(command, sizeof(command),
             "$FLEXTRACE audit export %s --format csv --owner scripture && $FLEXTRACE audit export %s --format npy -o "
             "%s.npy && $FLEXTRACE audit routing %s --bucket 60",
             folder, folder, folder, folder);
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    assert_non_null(strstr(out, "\"coactivation\""));
    free(out);
    free(err);
    assert_true(ft_path_exists(ft_test_path("store.npy/shares.npy")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verbatim_names_the_outputs_that_hold_so_many_tokens_of_a_document),
        cmocka_unit_test(a_parameter_that_is_not_known_or_stands_twice_is_refused_by_name),
        cmocka_unit_test(every_list_takes_model_text_and_total),
        cmocka_unit_test(pages_follow_each_other_by_after),
        cmocka_unit_test(csv_quotes_what_needs_it),
        cmocka_unit_test(experts_tell_their_share_and_opt_outs_are_proved_by_the_routing),
        cmocka_unit_test(usage_counts_what_an_owner_gave),
        cmocka_unit_test(routing_comes_as_an_array_and_in_numbers),
        cmocka_unit_test(the_log_says_who_asked_what_and_is_whole),
        cmocka_unit_test(an_export_imported_elsewhere_is_the_same),
        cmocka_unit_test(exports_and_sums_take_model_and_text),
        cmocka_unit_test(a_takedown_hides_redacts_erases_and_certifies),
        cmocka_unit_test(a_takedown_finds_words_that_no_span_was_kept_of),
        cmocka_unit_test(a_server_without_a_key_signs_no_certificate),
        cmocka_unit_test(the_command_line_erases_and_compacts_what_no_server_holds),
    };
    return cmocka_run_group_tests(tests, open_signed, close_all);
}
