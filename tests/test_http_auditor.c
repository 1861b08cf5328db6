/* An auditor with docs/compliance.md and nothing else: exports, what was active when, what is kept, takedowns as jobs. */
#include "base/ft_file.h"
#include "tests/compliance_fixture.h"
#include "tests/store_fixture.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OLD = 40 };
static char old[OLD][FT_TRACE_ID];   /* of January 2020 */

/* Some 400 kB each, so that an export of all is more than any socket holds. */
static void fill_store(void)
{
    const uint64_t january = UINT64_C(1577836800000);
    ft_random r;
    ft_random_init(&r, 7);
    ft_store *s = fixture_open(ft_test_path("store"));
    ft_status st = {0};
    for (unsigned i = 0; i < OLD; i++) {
        fixture_id(old[i], january + i * UINT64_C(3600000), i);
        json_t *t = fixture_trace(&r, old[i]);
        char *long_text = malloc(400001);
        assert_non_null(long_text);
        for (size_t k = 0; k < 400000; k++)
            long_text[k] = (char)('a' + ft_random_below(&r, 26));
        long_text[400000] = '\0';
        json_object_set_new(json_object_get(t, "response"), "text", json_string(long_text));
        free(long_text);
        assert_ok(ft_store_put(s, old[i], t, NULL, &st), st);
        json_decref(t);
    }
    ft_store_close(s);
}

static int open_filled(void **state)
{
    (void)state;
    if (!ft_test_federation(""))
        return 0;
    fill_store();
    start_server("");
    make_traces();
    return 0;
}

static int starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static json_int_t number_at(const json_t *v, const char *name)
{
    return json_integer_value(json_object_get(v, name));
}

/* --- Exports --------------------------------------------------------------------------------------------- */

static size_t lines_in(const char *text)
{
    size_t n = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++)
        n++;
    return n;
}

static json_t *last_line(const ft_reply *r)
{
    const char *end = r->body + r->size - 1, *from = end;
    while (from > r->body && from[-1] != '\n')
        from--;
    json_t *v = json_loadb(from, (size_t)(end - from), 0, NULL);
    assert_non_null(v);
    return v;
}

static void an_export_has_every_trace_whole_and_its_last_line_says_how_many(void **state)
{
    (void)state;
    need_server();
    ft_reply r = ft_http(at, "GET", "/v1/compliance/export", NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_true(r.complete);
    assert_string_equal(ft_reply_header(&r, "Content-Type"), "application/x-ndjson");
    assert_int_equal(lines_in(r.body), OLD + MADE + 1);
    json_t *end = last_line(&r);
    assert_int_equal(number_at(end, "exported"), OLD + MADE);
    assert_string_equal(text_at(end, "last_id"), made[MADE - 1]);
    assert_true(json_is_false(json_object_get(end, "has_more")));
    json_decref(end);
    assert_non_null(strstr(r.body, "\"routing_packed\":\""));
    /* What left over HTTP comes into another store as what leaves by the command line does. */
    const char *file = ft_test_write("export.jsonl", r.body, r.size);
    char command[4000], *out, *err;
    snprintf(command, sizeof(command), "$FLEXTRACE audit import %s.copy <%s && $FLEXTRACE audit verify %s.copy", file,
             file, file);
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    free(out);
    free(err);
    snprintf(command, sizeof(command),
             "$FLEXTRACE audit export %s.copy | head -n -1 >%s.again; head -n -1 %s | cmp - %s.again", file, file,
             file, file);
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    free(out);
    free(err);
    ft_reply_release(&r);
}

static void an_export_takes_the_filters_and_goes_on_where_it_ended(void **state)
{
    (void)state;
    need_server();
    char path[300] = "/v1/compliance/export?from=2025-01-01&routing=none&limit=3";
    ft_reply r = ft_http(at, "GET", path, NULL, NULL);
    json_t *end = last_line(&r);
    assert_int_equal(number_at(end, "exported"), 3);
    assert_true(json_is_true(json_object_get(end, "has_more")));
    assert_null(strstr(r.body, "routing_packed"));
    snprintf(path, sizeof(path), "/v1/compliance/export?from=2025-01-01&after=%s&format=json", text_at(end, "last_id"));
    json_decref(end);
    ft_reply_release(&r);
    json_t *rest = get(path, 200);
    assert_int_equal(rows_of(rest), 1);
    assert_int_equal(number_at(rest, "exported"), 1);
    assert_string_equal(text_at(row_at(rest, 0), "id"), made[3]);
    json_decref(rest);
    rest = get("/v1/compliance/export?format=json&without=scripture&from=2025-01-01", 200);
    assert_int_equal(rows_of(rest), 2);
    json_decref(rest);
    rest = get("/v1/compliance/export?format=json&to=2001-01-01", 200);
    assert_int_equal(rows_of(rest), 0);
    json_decref(rest);
    json_decref(get("/v1/compliance/export?format=xml", 400));
    json_decref(get("/v1/compliance/export?after=trc_x", 400));
    json_decref(get("/v1/compliance/export?routing=all", 400));
    json_decref(get("/v1/compliance/export?limit=0", 400));
}

static void an_export_in_csv_tells_its_end_behind_it(void **state)
{
    (void)state;
    need_server();
    ft_reply r =
        ft_http(at, "GET", "/v1/compliance/export?from=2025-01-01&owner=scripture", "Accept: text/csv\r\n", NULL);
    assert_int_equal(r.status, 200);
    assert_true(
        starts(r.body, "id,created,key,model,tokens,without,start,end,count,verdict,owners,documents\r\n"));
    assert_non_null(strstr(r.body, "scripture/gen-1"));
    assert_non_null(strstr(r.body, made[0]));
    assert_string_equal(ft_reply_header(&r, "X-Exported"), "4");
    assert_string_equal(ft_reply_header(&r, "X-Has-More"), "false");
    assert_string_equal(ft_reply_header(&r, "X-Last-Id"), made[3]);
    ft_reply_release(&r);
}

/* Asks until the newest line of that kind says what it must; at most some seconds. */
static int comes_true(const char *path, int (*holds)(const json_t *answer))
{
    for (int i = 0; i < 400; i++) {
        const struct timespec wait = {.tv_nsec = 25000000};
        json_t *answer = get(path, 200);
        const int good = holds(answer);
        json_decref(answer);
        if (good)
            return 1;
        nanosleep(&wait, NULL);
    }
    return 0;
}

static int one_was_cut(const json_t *log)
{
    const json_t *line;
    size_t i;
    json_array_foreach(json_object_get(log, "data"), i, line)
    {
        if (json_is_false(json_object_get(line, "complete")))
            return 1;
    }
    return 0;
}

static void a_slow_client_of_an_export_holds_nobody_up_and_one_that_leaves_ends_it(void **state)
{
    (void)state;
    need_server();
    static const char ask[] = "GET /v1/compliance/export HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    int slow[4];
    for (int i = 0; i < 4; i++) {
        char first[100];
        slow[i] = ft_http_connect(at);
        ft_http_send(slow[i], ask, strlen(ask));
        assert_true(recv(slow[i], first, 12, MSG_WAITALL) == 12);
        assert_memory_equal(first, "HTTP/1.1 200", 12);
    }
    json_decref(get("/v1/compliance/export", 503)); /* four are enough */
    json_decref(get("/v1/compliance/outputs", 200));
    close(slow[0]);
    assert_true(comes_true("/v1/compliance/access?what=export.end&limit=1000", one_was_cut));
    char *all = malloc(64U << 20);
    assert_non_null(all);
    for (int i = 1; i < 4; i++) {
        size_t n = 0;
        ssize_t got;
        while ((got = recv(slow[i], all + n, (64U << 20) - n, 0)) > 0)
            n += (size_t)got;
        assert_non_null(memmem(all + n - 400, 400, "{\"exported\":44,", 15));
        close(slow[i]);
    }
    free(all);
}

/* --- Lists, and the formats of everything ------------------------------------------------------------------ */

static void traces_are_listed_by_the_same_filters_and_pages(void **state)
{
    (void)state;
    need_server();
    json_t *list = get("/v1/traces?owner=scripture&order=asc&from=2025-01-01&limit=2", 200);
    assert_int_equal(rows_of(list), 2);
    assert_string_equal(text_at(row_at(list, 0), "id"), made[0]);
    assert_true(json_is_integer(json_object_get(row_at(list, 0), "spans")));
    json_decref(list);
    json_decref(get("/v1/traces?order=up", 400));
    list = get("/v1/traces?to=2020-01-02&limit=100", 200);
    assert_int_equal(rows_of(list), 24);
    assert_string_equal(text_at(row_at(list, 23), "id"), old[0]);
    json_decref(list);
}

static void usage_in_csv_has_the_totals_too(void **state)
{
    (void)state;
    need_server();
    ft_reply r = ft_http(at, "GET", "/v1/compliance/usage?owner=scripture&from=2025-01-01&format=csv", NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_true(starts(r.body, "kind,id,outputs,spans,tokens,longest,share\r\noutputs,,4,,,,\r\n"
                               "opted_out,,2,,,,\r\nowner,scripture,4,"));
    assert_non_null(strstr(r.body, "\r\nverdict,verbatim,,"));
    assert_non_null(strstr(r.body, "\r\ndocument,gen-1,4,"));
    ft_reply_release(&r);
}

static void routing_of_a_trace_comes_as_csv_and_as_the_trace_has_it(void **state)
{
    (void)state;
    need_server();
    char path[200];
    snprintf(path, sizeof(path), "/v1/traces/%s/routing?format=json", made[0]);
    json_t *routing = get(path, 200);
    const json_int_t places = number_at(routing, "tokens") * number_at(routing, "layers") * number_at(routing, "top_k");
    assert_true(places > 100);
    assert_string_equal(text_at(routing, "encoding"), "base64");
    json_decref(routing);
    snprintf(path, sizeof(path), "/v1/traces/%s/routing?format=csv", made[0]);
    ft_reply r = ft_http(at, "GET", path, NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_true(starts(r.body, "token,layer,k,expert,owner,weight\r\n0,0,0,"));
    assert_int_equal(lines_in(r.body), places + 1);
    assert_non_null(strstr(r.body, ",1,scripture,0."));
    ft_reply_release(&r);
    snprintf(path, sizeof(path), "/v1/traces/%s/routing?values=probabilities", made[0]);
    json_decref(get(path, 404)); /* this store keeps weights alone */
    snprintf(path, sizeof(path), "/v1/traces/%s/routing?values=both", made[0]);
    json_decref(get(path, 400));
    snprintf(path, sizeof(path), "/v1/traces/%s/routing?format=xml", made[0]);
    json_decref(get(path, 400));
}

/* --- What was active when -------------------------------------------------------------------------------------- */

static void the_state_tells_experts_opt_outs_and_roots_of_any_time(void **state)
{
    (void)state;
    need_server();
    char path[200], started[40];
    json_t *now = get("/v1/compliance/state", 200);
    assert_true(json_is_true(json_object_get(now, "serving")));
    assert_string_equal(text_at(now, "because"), "start");
    assert_true(json_is_null(json_object_get(now, "until")));
    const json_t *expert = json_array_get(json_object_get(now, "experts"), 1);
    assert_string_equal(text_at(expert, "owner"), "scripture");
    assert_string_equal(text_at(expert, "state"), "active");
    assert_int_equal(json_array_size(json_object_get(now, "indexes")), 3);
    assert_true(starts(text_at(json_array_get(json_object_get(now, "indexes"), 0), "root"), "sha256:"));
    snprintf(started, sizeof(started), "%s", text_at(now, "since"));
    json_decref(now);
    json_decref(get("/v1/compliance/state?at=2001-01-01", 404));
    json_decref(get("/v1/compliance/state?at=then", 400));
    ft_reply r = ft_http(at, "GET", "/v1/compliance/state?format=csv", NULL, NULL);
    assert_non_null(strstr(r.body, ",expert,1,scripture,active,,,,\r\n"));
    assert_non_null(strstr(r.body, ",index,0,scripture,,sha256:"));
    ft_reply_release(&r);
    stop_server();
    start_server("evidence: {verbatim_tokens: 7}\n");
    now = get("/v1/compliance/state", 200);
    assert_string_not_equal(text_at(now, "since"), started);
    json_decref(now);
    snprintf(path, sizeof(path), "/v1/compliance/state?at=%s", started);
    json_t *then = get(path, 200);
    assert_string_equal(text_at(then, "since"), started);
    assert_true(json_is_string(json_object_get(then, "until")));
    snprintf(path, sizeof(path), "/v1/compliance/state?at=%s", text_at(then, "until"));
    json_decref(then);
    then = get(path, 200);
    assert_true(json_is_false(json_object_get(then, "serving")));
    json_decref(then);
}

static int root_differs(const json_t *state)
{
    return !strcmp(text_at(state, "because"), "change");
}

/* --- Retention -------------------------------------------------------------------------------------------------- */

static json_t *put(const char *body, int status)
{
    return ft_http_json(at, "PUT", "/v1/compliance/retention", body, status);
}

static int only_the_new_are_left(const json_t *retention)
{
    return number_at(retention, "traces") == MADE;
}

static void a_hold_forbids_erasure_and_conflicts_are_refused(void **state)
{
    (void)state;
    need_server();
    json_t *r = get("/v1/compliance/retention", 200);
    assert_string_equal(text_at(r, "source"), "federation");
    assert_true(json_is_null(json_object_get(r, "max_days")));
    assert_int_equal(number_at(r, "traces"), OLD + MADE);
    assert_true(starts(text_at(r, "oldest"), "2020-01-01T00:00:00"));
    json_decref(r);
    r = put("{\"min_days\":183,\"max_days\":30}", 409);
    assert_string_equal(text_at(r, "type"), "urn:flextrace:problem:retention-conflict");
    json_decref(r);
    json_decref(put("{\"days\":1}", 400));
    json_decref(put("{\"min_days\":\"six\"}", 422));
    json_decref(put("{\"hold\":\"\"}", 422));
    json_decref(put("{\"max_days\":400,\"hold\":\"case 7\"}", 200));
    static const char redact[] = "{\"owner\":\"scripture\",\"documents\":[\"gen-1\"],\"policy\":\"redact\"}";
    r = ft_http_json(at, "POST", "/v1/takedowns", redact, 409);
    assert_string_equal(text_at(r, "type"), "urn:flextrace:problem:retention-conflict");
    json_decref(r);
    r = put("{\"min_days\":183}", 200);
    assert_string_equal(text_at(r, "source"), "order");
    assert_int_equal(number_at(r, "min_days"), 183);
    assert_true(json_is_null(json_object_get(r, "hold")));
    json_decref(r);
    json_decref(ft_http_json(at, "POST", "/v1/takedowns",
                             "{\"owner\":\"scripture\",\"documents\":[\"gen-1\"],\"policy\":\"delete\"}", 409));
    r = get("/v1/compliance/access?what=retention.set", 200);
    assert_int_equal(rows_of(r), 2);
    assert_string_equal(text_at(row_at(r, 0), "hold"), "case 7");
    json_decref(r);
    r = ft_http_json(at, "DELETE", "/v1/compliance/retention", NULL, 200);
    assert_string_equal(text_at(r, "source"), "federation");
    json_decref(r);
}

static void what_is_older_than_ordered_goes_and_orders_outlive_the_server(void **state)
{
    (void)state;
    need_server();
    json_decref(put("{\"min_days\":30,\"max_days\":400}", 200));
    assert_true(comes_true("/v1/compliance/retention", only_the_new_are_left));
    stop_server();
    start_server("");
    json_t *r = get("/v1/compliance/retention", 200);
    assert_int_equal(number_at(r, "max_days"), 400);
    json_decref(r);
    stop_server();
    start_server("traces: {min_days: 200}\n"); /* the file's minimum stands above any order */
    r = get("/v1/compliance/retention", 200);
    assert_int_equal(number_at(r, "min_days"), 200);
    json_decref(r);
    json_decref(put("{\"min_days\":30,\"max_days\":400}", 409));
    json_decref(ft_http_json(at, "DELETE", "/v1/compliance/retention", NULL, 200));
    stop_server();
    start_server("");
}

/* --- Takedowns ---------------------------------------------------------------------------------------------------- */

static ft_reply take_down(const char *headers, const char *document)
{
    char body[300];
    snprintf(body, sizeof(body), "{\"owner\":\"scripture\",\"documents\":[\"%s\"],\"policy\":\"redact\"}", document);
    return ft_http(at, "POST", "/v1/takedowns", headers, body);
}

static int has_succeeded(const json_t *job)
{
    return !strcmp(text_at(job, "state"), "succeeded");
}

/* Takes gen-2 away, then gen-1. */
static void a_takedown_may_be_looked_at_later_and_outlives_the_server(void **state)
{
    (void)state;
    need_server();
    char where[100];
    ft_reply r = take_down("Prefer: respond-async\r\n", "gen-2");
    assert_int_equal(r.status, 202);
    snprintf(where, sizeof(where), "%s", ft_reply_header(&r, "Location"));
    assert_true(starts(where, "/v1/jobs/job_"));
    ft_reply_release(&r);
    assert_true(comes_true(where, has_succeeded));
    json_t *job = get(where, 200);
    assert_true(json_number_value(json_object_get(job, "progress")) == 1);
    json_t *c = get(text_at(job, "result"), 200);
    assert_string_equal(text_at(c, "owner"), "scripture");
    json_decref(c);
    json_decref(ft_http_json(at, "DELETE", where, NULL, 409));
    json_decref(get("/v1/jobs/job_none", 404));
    json_t *list = get("/v1/jobs", 200);
    assert_int_equal(rows_of(list), 1);
    json_decref(list);
    assert_true(comes_true("/v1/compliance/state", root_differs)); /* the index is another one */
    stop_server();
    start_server("");
    json_t *later = get(where, 200);
    assert_true(json_equal(later, job));
    json_decref(later);
    json_decref(job);
}

static void the_same_key_gives_the_same_certificate(void **state)
{
    (void)state;
    need_server();
    char id[64];
    ft_reply r = take_down("Idempotency-Key: one\r\n", "gen-1");
    assert_int_equal(r.status, 201);
    assert_null(ft_reply_header(&r, "Idempotent-Replayed"));
    json_t *c = ft_reply_json(&r);
    snprintf(id, sizeof(id), "%s", text_at(c, "id"));
    ft_reply_release(&r);
    r = take_down("Idempotency-Key: one\r\n", "gen-1");
    assert_int_equal(r.status, 201);
    assert_string_equal(ft_reply_header(&r, "Idempotent-Replayed"), "true");
    json_t *again = ft_reply_json(&r);
    assert_true(json_equal(again, c));
    json_decref(again);
    json_decref(c);
    ft_reply_release(&r);
    r = take_down("Idempotency-Key: one\r\n", "gen-2");
    assert_int_equal(r.status, 409);
    assert_non_null(strstr(r.body, "idempotency-conflict"));
    ft_reply_release(&r);
    r = take_down("Idempotency-Key: two\r\n", "gen-1"); /* it is gone, and no output repeats it */
    assert_int_equal(r.status, 404);
    ft_reply_release(&r);
    stop_server();
    start_server("");
    r = take_down("Idempotency-Key: one\r\n", "gen-1");
    assert_int_equal(r.status, 201);
    assert_non_null(strstr(r.body, id));
    ft_reply_release(&r);
}

static void takedowns_are_found_by_owner_document_time_and_key(void **state)
{
    (void)state;
    need_server();
    json_t *list = get("/v1/takedowns?owner=scripture&limit=1", 200);
    assert_int_equal(rows_of(list), 1);
    assert_true(json_is_true(json_object_get(list, "has_more")));
    char path[200];
    snprintf(path, sizeof(path), "/v1/takedowns?owner=scripture&after=%lld", (long long)number_at(list, "last_seq"));
    json_decref(list);
    list = get(path, 200);
    assert_int_equal(rows_of(list), 1);
    assert_true(json_is_false(json_object_get(list, "has_more")));
    json_decref(list);
    static const char *const none[] = {"owner=public", "document=man-1", "key=alice", "to=2001-01-01"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "/v1/takedowns?%s", none[i]);
        list = get(path, 200);
        assert_int_equal(rows_of(list), 0);
        json_decref(list);
    }
    ft_reply r = ft_http(at, "GET", "/v1/takedowns?document=gen-1&format=csv", NULL, NULL);
    assert_true(
        starts(r.body, "id,owner,documents,who,reason,policy,accepted,hidden,redacted,erased,outputs\r\ntkd_"));
    assert_non_null(strstr(r.body, ",scripture,gen-1,local,,redact,"));
    assert_int_equal(lines_in(r.body), 2);
    ft_reply_release(&r);
}

/* Takes man-2 away. */
static void what_holds_a_text_is_taken_down_without_naming_it(void **state)
{
    (void)state;
    need_server();
    static const char by_text[] = "{\"owner\":\"public\",\"text\":\"ther manual pa\"}";
    json_decref(ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"public\",\"text\":\"\"}", 422));
    json_decref(ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"public\",\"text\":\"nowhere at all\"}", 404));
    json_decref(ft_http_json(at, "POST", "/v1/takedowns",
                             "{\"owner\":\"public\",\"text\":\"pages\",\"documents\":[\"man-1\"]}", 422));
    json_decref(ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"nobody\",\"text\":\"pages\"}", 422));
    ft_reply r = ft_http(at, "POST", "/v1/takedowns", "Idempotency-Key: text\r\n", by_text);
    assert_int_equal(r.status, 201);
    json_t *c = ft_reply_json(&r);
    ft_reply_release(&r);
    assert_int_equal(json_array_size(json_object_get(c, "documents")), 1);
    assert_string_equal(text_at(json_array_get(json_object_get(c, "documents"), 0), "id"), "man-2");
    r = ft_http(at, "POST", "/v1/takedowns", "Idempotency-Key: text\r\n", by_text); /* it stands nowhere any more */
    json_t *again = ft_reply_json(&r);
    assert_true(json_equal(again, c));
    json_decref(again);
    json_decref(c);
    ft_reply_release(&r);
    json_decref(ft_http_json(at, "POST", "/v1/takedowns", by_text, 404));
}

static int the_last_export_had_one(const json_t *log)
{
    const size_t n = rows_of(log);
    return n && number_at(row_at(log, n - 1), "exported") == 1;
}

static json_t *check_of(const json_t *certificate)
{
    char path[200];
    snprintf(path, sizeof(path), "/v1/takedowns/%s/verify", text_at(certificate, "id"));
    return get(path, 200);
}

static const json_t *part_of(const json_t *report, const char *list, size_t i)
{
    return json_array_get(json_object_get(report, list), i);
}

static const json_t *called(const json_t *report, const char *what)
{
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(report, "not_reached"), i, one)
    {
        if (!strcmp(text_at(one, "what"), what))
            return one;
    }
    fail_msg("nothing is said of %s", what);
    return NULL;
}

/* Takes man-1 away, in two steps: hidden first, then redacted and erased. */
static void what_is_left_of_a_takedown_is_told_place_by_place(void **state)
{
    (void)state;
    need_server();
    char body[600], path[200], id[FT_TRACE_ID];
    snprintf(body, sizeof(body), "{\"text\":\"%s.\",\"prompt\":\"See:\",\"store\":true}", ft_test_public);
    json_t *t = ft_http_json(at, "POST", "/v1/traces", body, 201);
    snprintf(id, sizeof(id), "%s", text_at(t, "id"));
    json_decref(t);
    snprintf(path, sizeof(path), "/v1/traces/%s", id);
    json_decref(get(path, 200));
    ft_reply r =
        ft_http(at, "GET", "/v1/compliance/export?routing=none&document=man-1&from=2025-01-01", NULL, NULL);
    assert_int_equal(r.status, 200);
    ft_reply_release(&r);
    assert_true(comes_true("/v1/compliance/access?what=export.end&limit=1000", the_last_export_had_one));

    json_t *hidden = ft_http_json(
        at, "POST", "/v1/takedowns",
        "{\"owner\":\"public\",\"documents\":[\"man-1\"],\"policy\":\"list\",\"compact\":false}", 201);
    json_t *left = check_of(hidden);
    assert_string_equal(text_at(left, "verdict"), "left");
    assert_true(json_is_false(json_object_get(left, "clean")));
    const json_t *index = part_of(left, "indexes", 0), *store = json_object_get(left, "store");
    assert_int_equal(json_array_size(json_object_get(left, "indexes")), 1); /* no other owner has a document man-1 */
    assert_string_equal(text_at(index, "owner"), "public");
    assert_string_equal(text_at(index, "verdict"), "hidden");
    assert_int_equal(number_at(index, "visible"), 0);
    assert_int_equal(number_at(index, "removed"), 1);
    assert_true(number_at(index, "removed_tokens") > 5);
    assert_int_equal(number_at(index, "unnamed_bytes"), 0);
    assert_string_equal(text_at(part_of(index, "documents", 0), "id"), "man-1");
    assert_string_equal(text_at(store, "verdict"), "left");
    assert_true(json_is_true(json_object_get(store, "words_compared")));
    assert_int_equal(number_at(store, "outputs"), 1);
    assert_string_equal(json_string_value(part_of(store, "first", 0)), id);
    assert_int_equal(number_at(store, "named_and_unredacted"), 1);
    assert_true(json_is_string(json_object_get(store, "checked")));
    assert_string_equal(text_at(part_of(left, "caches", 0), "verdict"), "clean");
    assert_string_equal(text_at(part_of(left, "caches", 1), "what"), "prefix cache");
    const json_t *exports = json_object_get(left, "exports");
    const size_t n = rows_of(exports);
    assert_string_equal(text_at(exports, "verdict"), "not reached");
    assert_true(json_is_null(json_object_get(exports, "before")));
    assert_int_equal(number_at(exports, "count"), n);
    const json_t *last = row_at(exports, n - 1), *first = row_at(exports, 0);
    assert_string_equal(text_at(last, "who"), "local");
    assert_string_equal(text_at(last, "by"), "http");
    assert_string_equal(text_at(json_object_get(last, "parameters"), "document"), "man-1");
    assert_int_equal(number_at(last, "exported"), 1);
    assert_int_equal(number_at(last, "outputs"), 1);
    assert_int_equal(number_at(first, "outputs"), 0); /* it was made before this output */
    assert_int_equal(number_at(called(left, "readings of these outputs"), "count"), 1);
    assert_string_equal(text_at(called(left, "receipts handed out of these outputs"), "verdict"), "clean");
    assert_string_equal(text_at(called(left, "trained weights"), "verdict"), "not reached");
    json_decref(left);

    json_t *erased =
        ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"public\",\"documents\":[\"man-1\"]}", 201);
    for (int i = 0; i < 2; i++) { /* nothing is left of either */
        left = check_of(i ? hidden : erased);
        assert_string_equal(text_at(left, "verdict"), "clean");
        assert_true(json_is_true(json_object_get(left, "clean")));
        assert_int_equal(number_at(part_of(left, "indexes", 0), "removed"), 0);
        assert_true(json_is_false(json_object_get(json_object_get(left, "store"), "words_compared")));
        assert_true(number_at(json_object_get(left, "exports"), "count") > 0);
        json_decref(left);
    }
    json_decref(hidden);
    json_decref(erased);
    r = ft_http(at, "GET", "/v1/takedowns/tkd_none/verify", NULL, NULL);
    assert_int_equal(r.status, 404);
    assert_string_equal(ft_reply_header(&r, "Content-Type"), "application/problem+json");
    ft_reply_release(&r);
}

static void every_question_is_in_the_log(void **state)
{
    (void)state;
    need_server();
    char path[200];
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt/salt", made[0]);
    json_decref(get(path, 200));
    static const char *const kinds[] = {"compliance.export", "export.end",   "trace.list",          "receipt.salt",
                                        "compliance.state",  "erasure.list", "compliance.retention", "jobs.list",
                                        "retention.set",     "routing.read", "state",               "takedown",
                                        "erasure.verify"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        snprintf(path, sizeof(path), "/v1/compliance/access?what=%s&limit=1", kinds[i]);
        json_t *log = get(path, 200);
        if (rows_of(log) != 1)
            fail_msg("no line of %s", kinds[i]);
        json_decref(log);
    }
    json_t *report = get("/v1/compliance/verify", 200);
    assert_true(json_is_true(json_object_get(report, "good")));
    json_decref(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_export_has_every_trace_whole_and_its_last_line_says_how_many),
        cmocka_unit_test(an_export_takes_the_filters_and_goes_on_where_it_ended),
        cmocka_unit_test(an_export_in_csv_tells_its_end_behind_it),
        cmocka_unit_test(a_slow_client_of_an_export_holds_nobody_up_and_one_that_leaves_ends_it),
        cmocka_unit_test(traces_are_listed_by_the_same_filters_and_pages),
        cmocka_unit_test(usage_in_csv_has_the_totals_too),
        cmocka_unit_test(routing_of_a_trace_comes_as_csv_and_as_the_trace_has_it),
        cmocka_unit_test(the_state_tells_experts_opt_outs_and_roots_of_any_time),
        cmocka_unit_test(a_hold_forbids_erasure_and_conflicts_are_refused),
        cmocka_unit_test(what_is_older_than_ordered_goes_and_orders_outlive_the_server),
        cmocka_unit_test(a_takedown_may_be_looked_at_later_and_outlives_the_server),
        cmocka_unit_test(the_same_key_gives_the_same_certificate),
        cmocka_unit_test(takedowns_are_found_by_owner_document_time_and_key),
        cmocka_unit_test(what_holds_a_text_is_taken_down_without_naming_it),
        cmocka_unit_test(what_is_left_of_a_takedown_is_told_place_by_place),
        cmocka_unit_test(every_question_is_in_the_log),
    };
    return cmocka_run_group_tests(tests, open_filled, close_all);
}
