/* The log of receipts over HTTP, and what whoever has a receipt does with it: nothing but files and a key. */
#include "tests/ft_test_http.h"

#include "base/ft_file.h"
#include "base/ft_merkle.h"
#include "tracer/ft_signing.h"

#include <unistd.h>

static char key_path[4096], public_path[4096], federation_path[4096];
static char traces[3][40];

static void save(const char *name, const char *path)
{
    ft_reply r = ft_http(at, "GET", path, NULL, NULL);
    if (r.status != 200)
        fail_msg("%s: %d: %s", path, r.status, r.body ? r.body : "");
    ft_test_write(name, r.body, r.size);
    ft_reply_release(&r);
}

static void save_receipt(const char *name, int trace, const char *more)
{
    char path[200];
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt%s", traces[trace], more);
    save(name, path);
}

/* Of the trace's receipt. */
static char *proof_path(int trace, const char *more)
{
    static char path[300];
    snprintf(path, sizeof(path), "/v1/receipts/rcp_%s/proof%s", traces[trace] + 4, more);
    return path;
}

static json_int_t log_size(void)
{
    json_t *head = ft_http_json(at, "GET", "/v1/receipts/log", NULL, 200);
    const json_int_t n = json_integer_value(json_object_get(head, "tree_size"));
    json_decref(head);
    return n;
}

static void run(int expected, const char *needle, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* In the test's folder. */
static void run(int expected, const char *needle, const char *fmt, ...)
{
    char command[8000], line[9000], *out, *err;
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    snprintf(line, sizeof(line), "cd %s && %s", ft_test_folder(), command);
    const int code = ft_test_shell(line, &out, &err);
    if (code != expected || (needle && !strstr(out, needle) && !strstr(err, needle)))
        fail_msg("%s: %d: %s%s", command, code, out, err);
    free(out);
    free(err);
}

static int open_signed(void **state)
{
    (void)state;
    strcpy(key_path, ft_test_path("signing.pem"));
    strcpy(public_path, ft_test_path("signing.pem.pub"));
    strcpy(federation_path, ft_test_path("federation.yaml"));
    if (ft_signing_key_new(key_path, NULL, NULL) || ft_signing_key_new(ft_test_path("other.pem"), NULL, NULL))
        return 1;
    if (!ft_test_federation(""))
        return 0;
    start_server("signing_key: signing.pem\n");
    for (int i = 0; i < 3; i++) {
        char body[600];
        snprintf(body, sizeof(body), "{\"prompt\":\"%d: \",\"text\":\"%s, and more\",\"store\":true}", i,
                 ft_test_scripture);
        json_t *trace = ft_http_json(at, "POST", "/v1/traces", body, 201);
        snprintf(traces[i], sizeof(traces[i]), "%s", text_at(trace, "id"));
        json_decref(trace);
    }
    return 0;
}

/* --- Heads ----------------------------------------------------------------------------------------------- */

static void a_log_in_which_nothing_is_has_a_signed_head(void **state)
{
    (void)state;
    need_server();
    json_t *head = ft_http_json(at, "GET", "/v1/receipts/log", NULL, 200);
    assert_string_equal(text_at(head, "object"), "receipt.log");
    assert_string_equal(text_at(head, "origin"), "test/receipts");
    assert_int_equal(json_integer_value(json_object_get(head, "tree_size")), 0);
    assert_string_equal(text_at(head, "root_hash"),
                        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    static const char begin[] = "test/receipts\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\xE2\x80\x94 "
                                "test/receipts ";
    assert_int_equal(strncmp(text_at(head, "checkpoint"), begin, sizeof(begin) - 1), 0);
    /* The note alone, by either way of asking. */
    for (int way = 0; way < 2; way++) {
        ft_reply r = ft_http(at, "GET", way ? "/v1/receipts/log?format=note" : "/v1/receipts/log",
                             way ? NULL : "Accept: text/plain\r\n", NULL);
        assert_int_equal(r.status, 200);
        assert_string_equal(ft_reply_header(&r, "Content-Type"), "text/plain; charset=utf-8");
        assert_string_equal(r.body, text_at(head, "checkpoint"));
        ft_reply_release(&r);
    }
    save("empty", "/v1/receipts/log?format=note");
    json_decref(head);
}

/* --- What is a leaf ------------------------------------------------------------------------------------------ */

static void every_envelope_that_is_given_out_is_a_leaf_once(void **state)
{
    (void)state;
    need_server();
    json_decref(ft_http_json(at, "GET", proof_path(0, ""), NULL, 404)); /* a receipt that nobody has */
    save_receipt("0.json", 0, "");
    assert_int_equal(log_size(), 1);
    save_receipt("again.json", 0, "");
    run(0, NULL, "$FLEXTRACE receipt make federation.yaml %s -o made.json && tr -d '\\n' <made.json | cmp - 0.json",
        traces[0]);
    assert_int_equal(log_size(), 1);
    save_receipt("hidden.json", 0, "?prompt=hidden");
    assert_int_equal(log_size(), 2);
    run(0, NULL, "$FLEXTRACE receipt make federation.yaml %s -o 1.json", traces[1]);
    assert_int_equal(log_size(), 3);
    json_t *answer = ft_http_json(
        at, "POST", "/v1/completions",
        "{\"model\":\"test\",\"prompt\":\"In the\",\"max_tokens\":3,\"flextrace\":{\"receipt\":true}}", 200);
    assert_int_equal(log_size(), 4);
    /* Taken out of the answer by a client, and written as it pleases: the same leaf. */
    const json_t *ours = json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "flextrace");
    char *text = json_dumps(json_object_get(ours, "receipt"), JSON_INDENT(2) | JSON_SORT_KEYS), path[200];
    ft_test_write("answered.json", text, strlen(text));
    snprintf(path, sizeof(path), "/v1/receipts/rcp_%s/proof", text_at(ours, "trace_id") + 4);
    save("answered.proof", path);
    run(0, "in the log test/receipts: leaf 3 of 4",
        "$FLEXTRACE receipt verify answered.json --key %s --proof answered.proof", public_path);
    free(text);
    json_decref(answer);
}

/* --- Entries -------------------------------------------------------------------------------------------- */

/* Walks the log by pages of `limit`; *leaves has them by number. */
static size_t walk_entries(const char *order, unsigned limit, ft_digest *leaves, size_t most)
{
    char path[200];
    const char *last = NULL;
    size_t n = 0;
    for (json_t *page = NULL;;) {
        snprintf(path, sizeof(path), "/v1/receipts/log/entries?order=%s&limit=%u%s%s", order, limit,
                 last ? "&after=" : "", last ? last : "");
        json_t *next = ft_http_json(at, "GET", path, NULL, 200);
        json_decref(page);
        page = next;
        const json_t *data = json_object_get(page, "data"), *e;
        size_t i;
        json_array_foreach(data, i, e)
        {
            const json_int_t number = json_integer_value(json_object_get(e, "leaf_index"));
            assert_int_equal(number, !strcmp(order, "asc") ? (json_int_t)n : log_size() - 1 - (json_int_t)n);
            assert_int_equal(strtoll(text_at(e, "id"), NULL, 10), number);
            assert_true((size_t)number < most);
            assert_int_equal(ft_digest_parse(&leaves[number], text_at(e, "leaf_hash") + strlen("sha256:"), NULL),
                             FT_OK);
            n++;
        }
        last = text_at(page, "last_id");
        assert_int_equal(json_integer_value(json_object_get(page, "tree_size")), log_size());
        if (!json_is_true(json_object_get(page, "has_more"))) {
            json_decref(page);
            return n;
        }
        assert_int_equal(json_array_size(data), limit);
    }
}

static void the_entries_are_the_leaves_whose_root_the_head_has(void **state)
{
    (void)state;
    need_server();
    ft_digest up[20], down[20];
    char hex[FT_DIGEST_HEX], path[200];
    const size_t size = (size_t)log_size();
    assert_int_equal(size, 4);
    for (unsigned limit = 1; limit < 6; limit++) {
        memset(up, 0, sizeof(up));
        memset(down, 0, sizeof(down));
        assert_int_equal(walk_entries("asc", limit, up, 20), size);
        assert_int_equal(walk_entries("desc", limit, down, 20), size);
        assert_memory_equal(up, down, sizeof(up));
    }
    for (size_t n = 0; n <= size; n++) { /* of every head that there was */
        snprintf(path, sizeof(path), "/v1/receipts/log?size=%zu", n);
        json_t *head = ft_http_json(at, "GET", path, NULL, 200);
        const ft_digest root = ft_merkle_root(FT_MERKLE_SHA256, up, n);
        ft_digest_hex(&root, hex);
        assert_string_equal(text_at(head, "root_hash") + strlen("sha256:"), hex);
        json_decref(head);
    }
    static const struct {
        const char *ask;
        size_t count;
        const char *first;
        int more;
    } pages[] = {{"before=2", 2, "0", 1},
                 {"before=2&limit=1", 1, "1", 1},
                 {"order=desc&before=1", 2, "3", 1},
                 {"order=desc&before=0&limit=2", 2, "2", 1},
                 {"after=3", 0, NULL, 0},
                 {"after=17", 0, NULL, 0},
                 {"order=desc&after=0", 0, NULL, 0},
                 {"before=0", 0, NULL, 1},
                 {"order=desc&after=99", 4, "3", 0}};
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        snprintf(path, sizeof(path), "/v1/receipts/log/entries?%s", pages[i].ask);
        json_t *page = ft_http_json(at, "GET", path, NULL, 200);
        const char *first = text_at(page, "first_id");
        if (json_array_size(json_object_get(page, "data")) != pages[i].count ||
            (pages[i].first ? !first || strcmp(first, pages[i].first) != 0 : first != NULL) ||
            json_is_true(json_object_get(page, "has_more")) != pages[i].more)
            fail_msg("%s: %s", path, json_dumps(page, 0));
        json_decref(page);
    }
    json_decref(ft_http_json(at, "GET", "/v1/receipts/log/entries?limit=101", NULL, 400));
    json_decref(ft_http_json(at, "GET", "/v1/receipts/log/entries?after=x", NULL, 400));
    json_decref(ft_http_json(at, "GET", "/v1/receipts/log/entries?order=up", NULL, 400));
    json_decref(ft_http_json(at, "GET", "/v1/receipts/log/entries?after=1&before=3", NULL, 400));
    ft_digest_hex(&up[3], hex);
    run(0, hex, "$FLEXTRACE receipt entries federation.yaml --from 3");
    run(0, "\n2\n", "$FLEXTRACE receipt entries federation.yaml --from 1 --size 3 >e && echo && wc -l <e");
    run(2, "has 4 leaves", "$FLEXTRACE receipt entries federation.yaml --size 5");
    run(2, "does not have", "$FLEXTRACE receipt entries federation.yaml --json");
}

/* --- Proofs --------------------------------------------------------------------------------------------------- */

static void a_receipt_is_proved_offline_and_another_is_not(void **state)
{
    (void)state;
    need_server();
    char more[100];
    save("0.proof", proof_path(0, "")); /* of the newest envelope, the one without its prompt */
    run(0, "leaf 1 of 4", "$FLEXTRACE receipt verify hidden.json --key %s --proof 0.proof", public_path);
    run(1, "the proof is of another envelope; ask for the one of this with leaf=sha256:",
        "$FLEXTRACE receipt verify 0.json --key %s --proof 0.proof", public_path);
    json_t *proof = ft_http_json(at, "GET", proof_path(0, ""), NULL, 200);
    const json_t *leaves = json_object_get(proof, "leaves");
    assert_int_equal(json_array_size(leaves), 2);
    snprintf(more, sizeof(more), "?leaf=%s", text_at(json_array_get(leaves, 1), "leaf_hash"));
    save("0.proof", proof_path(0, more));
    run(0, "leaf 0 of 4", "$FLEXTRACE receipt verify 0.json --key %s --proof 0.proof", public_path);
    run(0, "\"log\":{\"origin\":\"test/receipts\",\"leaf_index\":0,\"tree_size\":4}",
        "$FLEXTRACE receipt verify 0.json --key %s --proof 0.proof --json", public_path);
    snprintf(more, sizeof(more), "?size=1&leaf=%s",
             text_at(json_array_get(leaves, 1), "leaf_hash") + 7); /* without sha256: */
    save("0.proof", proof_path(0, more));
    run(0, "leaf 0 of 1", "$FLEXTRACE receipt verify 0.json --key %s --proof 0.proof", public_path);
    json_decref(proof);
    /* The head must be signed by the key, the proof lead to it. */
    run(1, "not signed by this key", "$FLEXTRACE receipt verify 0.json --key other.pem.pub --proof 0.proof");
    run(1, "the proof is of another envelope", "$FLEXTRACE receipt verify 1.json --key %s --proof 0.proof",
        public_path);
    run(1, "does not lead",
        "sed 's/\"leaf_index\":0/\"leaf_index\":1/' 0.proof >bad && $FLEXTRACE receipt verify 0.json "
        "--key %s --proof bad",
        public_path);
    run(1, "the head of the log was not signed",
        "sed 's/test\\/receipts\\\\n1/test\\/receipts\\\\n2/' 0.proof >bad && "
        "$FLEXTRACE receipt verify 0.json --key %s --proof bad",
        public_path);
    run(3, "not a proof", "$FLEXTRACE receipt verify 0.json --key %s --proof 0.json", public_path);
    run(2, "--proof is of one receipt", "$FLEXTRACE receipt verify 0.json 1.json --key %s --proof 0.proof",
        public_path);
    /* The commands answer what the server does, beside it. */
    run(0, NULL, "$FLEXTRACE receipt proof federation.yaml 0.json --size 1 | cmp - 0.proof");
    run(0, NULL,
        "$FLEXTRACE receipt proof federation.yaml rcp_%s -o made.proof && $FLEXTRACE receipt verify hidden.json "
        "--key %s --proof made.proof",
        traces[0] + 4, public_path);
    run(3, "in the log", "$FLEXTRACE receipt proof federation.yaml rcp_%s", traces[2] + 4);
    run(2, "has 4 leaves", "$FLEXTRACE receipt proof federation.yaml 0.json --size 5");
}

static void one_head_is_shown_to_go_on_from_another(void **state)
{
    (void)state;
    need_server();
    const json_int_t from = log_size();
    char path[200];
    save("old", "/v1/receipts/log?format=note");
    save("old.json", "/v1/receipts/log");
    save_receipt("2.json", 2, "");
    save_receipt("2.hidden.json", 2, "?prompt=hidden");
    snprintf(path, sizeof(path), "/v1/receipts/consistency?from=%d", (int)from);
    save("consistency", path);
    save("new", "/v1/receipts/log?format=note");
    run(0, "begins with the 4 that it had", "$FLEXTRACE receipt consistency old --proof consistency --key %s",
        public_path);
    run(0, NULL, "$FLEXTRACE receipt consistency old.json new --proof consistency --key %s", public_path);
    run(0, "\"consistent\":true", "$FLEXTRACE receipt consistency old new --proof consistency --key %s --json",
        public_path);
    run(1, "was not signed by this key", "$FLEXTRACE receipt consistency old --proof consistency --key other.pem.pub");
    run(1, "the proof is of sizes 4 and 6", "$FLEXTRACE receipt consistency empty --proof consistency --key %s",
        public_path);
    run(1, "the proof is of sizes 4 and 6", "$FLEXTRACE receipt consistency new old --proof consistency --key %s",
        public_path);
    run(1, "does not begin with",
        "sed 's/\"hashes\":\\[\"[^\"]*\"/\"hashes\":[\"sha256:%064d\"/' consistency >bad && "
        "$FLEXTRACE receipt consistency old --proof bad --key %s",
        0, public_path);
    run(2, "needs OLD", "$FLEXTRACE receipt consistency old --key %s", public_path);
    run(3, "not a signed note", "$FLEXTRACE receipt consistency %s --proof consistency --key %s", public_path,
        public_path);
    save("of earlier", "/v1/receipts/consistency?from=0&to=4");
    run(0, NULL, "$FLEXTRACE receipt consistency empty old --proof 'of earlier' --key %s", public_path);
    /* A head of an earlier size is the one that was then. */
    save("then", "/v1/receipts/log?format=note&size=4");
    run(0, NULL,
        "cmp old then && $FLEXTRACE receipt log federation.yaml | cmp - new && $FLEXTRACE receipt log "
        "federation.yaml --size 4 | cmp - old && $FLEXTRACE receipt log federation.yaml --from 4 | cmp - consistency");
    run(0, "6 receipts: whole", "$FLEXTRACE audit verify federation.yaml --checkpoint old --key %s", public_path);
    run(3, "was not signed", "$FLEXTRACE audit verify federation.yaml --checkpoint old --key other.pem.pub");
}

static void what_does_not_fit_is_refused_by_name(void **state)
{
    (void)state;
    need_server();
    const struct {
        const char *path;
        int status;
        const char *type, *parameter;
    } all[] = {
        {"/v1/receipts/log?size=7", 400, "invalid-parameter", "size"},
        {"/v1/receipts/log?size=-1", 400, "invalid-parameter", "size"},
        {"/v1/receipts/log?size=x", 400, "invalid-parameter", "size"},
        {"/v1/receipts/log?format=csv", 400, "invalid-parameter", "format"},
        {"/v1/receipts/log?sizes=1", 400, "invalid-parameter", "sizes"},
        {"/v1/receipts/consistency", 400, "invalid-parameter", "from"},
        {"/v1/receipts/consistency?to=2", 400, "invalid-parameter", "from"},
        {"/v1/receipts/consistency?from=3&to=2", 400, "invalid-parameter", "from"},
        {"/v1/receipts/consistency?from=7", 400, "invalid-parameter", "from"},
        {"/v1/receipts/consistency?from=2&to=7", 400, "invalid-parameter", "to"},
        {"/v1/receipts/consistency?from=2&to=3&size=1", 400, "invalid-parameter", "size"},
        {"/v1/receipts/rcp_01ARZ3NDEK0000000000000000/proof", 404, "not-found", NULL},
        {"/v1/receipts/x/proof", 404, "not-found", NULL},
        {"/v1/receipts/trc_01ARZ3NDEK0000000000000000/proof", 404, "not-found", NULL},
        {NULL, 400, "invalid-parameter", "size"},
        {NULL, 400, "invalid-parameter", "size"},
        {NULL, 400, "invalid-parameter", "leaf"},
        {NULL, 404, "not-found", NULL},
        {NULL, 400, "invalid-parameter", "prompt"},
    };
    char *paths[5];
    static const char *const more[5] = {"?size=4", "?size=99", "?leaf=sha256:00",
                                        "?leaf=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                                        "?prompt=hidden"};
    for (size_t i = 0; i < 5; i++)
        paths[i] = strdup(proof_path(2, more[i]));
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        const char *path = i >= 14 ? paths[i - 14] : all[i].path;
        char type[80];
        json_t *p = ft_http_json(at, "GET", path, NULL, all[i].status);
        snprintf(type, sizeof(type), "urn:flextrace:problem:%s", all[i].type);
        const char *parameter = text_at(json_array_get(json_object_get(p, "errors"), 0), "parameter");
        if (strcmp(text_at(p, "type"), type) != 0 || !parameter != !all[i].parameter ||
            (parameter && strcmp(parameter, all[i].parameter) != 0))
            fail_msg("%s: %s", path, json_dumps(p, 0));
        assert_null(strstr(text_at(p, "detail"), ft_test_folder())); /* where the store lies is nobody's business */
        json_decref(p);
    }
    for (size_t i = 0; i < 5; i++)
        free(paths[i]);
    ft_reply r = ft_http(at, "POST", "/v1/receipts/log", NULL, "{}");
    assert_int_equal(r.status, 405);
    ft_reply_release(&r);
    /* Who asked for which proof is in the log; a head says nothing of anybody. */
    json_t *lines = ft_http_json(at, "GET", "/v1/compliance/access?what=receipt.proof&limit=100", NULL, 200);
    assert_true(json_array_size(json_object_get(lines, "data")) > 5);
    json_decref(lines);
}

/* --- What happens to a trace ------------------------------------------------------------------------------------ */

static void a_takedown_takes_nothing_out_and_its_certificate_comes_in(void **state)
{
    (void)state;
    need_server();
    const json_int_t before = log_size();
    char path[200];
    json_t *done =
        ft_http_json(at, "POST", "/v1/takedowns", "{\"owner\":\"scripture\",\"documents\":[\"gen-1\"]}", 201);
    snprintf(path, sizeof(path), "/v1/traces/%s/receipt", traces[0]);
    json_decref(ft_http_json(at, "GET", path, NULL, 409)); /* the trace says no more what the receipt did */
    assert_int_equal(log_size(), before);
    save("0.proof", proof_path(0, ""));
    run(0, "leaf 1 of", "$FLEXTRACE receipt verify hidden.json --key %s --proof 0.proof", public_path);
    snprintf(path, sizeof(path), "/v1/takedowns/%s/certificate", text_at(done, "id"));
    save("certificate.json", path);
    save("certificate.json", path);
    assert_int_equal(log_size(), before + 1);
    snprintf(path, sizeof(path), "/v1/receipts/%s/proof", text_at(done, "id"));
    save("certificate.proof", path);
    run(0, "leaf 6 of 7", "$FLEXTRACE receipt verify certificate.json --key %s --proof certificate.proof", public_path);
    run(0, NULL, "$FLEXTRACE receipt proof federation.yaml certificate.json | cmp - certificate.proof");
    run(1, "of another envelope", "$FLEXTRACE receipt verify 1.json --key %s --proof certificate.proof", public_path);
    run(0, "7 receipts: whole", "$FLEXTRACE audit verify federation.yaml --checkpoint new --key %s", public_path);
    json_decref(done);
}

static void another_key_makes_another_envelope_and_goes_on_with_the_log(void **state)
{
    (void)state;
    need_server();
    save("before", "/v1/receipts/log");
    stop_server();
    start_server("signing_key: other.pem\nold_keys:\n  - {public: signing.pem.pub, to: 2100-01-01T00:00:00Z}\n");
    save("keys.json", "/v1/keys");
    save("consistency", "/v1/receipts/consistency?from=7");
    run(0, "begins with the 7", "$FLEXTRACE receipt consistency before --proof consistency --key keys.json");
    /* A trace that was made since, for the others were redacted. */
    json_t *trace = ft_http_json(at, "POST", "/v1/traces", "{\"text\":\"other words\",\"store\":true}", 201);
    snprintf(traces[2], sizeof(traces[2]), "%s", text_at(trace, "id"));
    json_decref(trace);
    save_receipt("by other.json", 2, "");
    assert_int_equal(log_size(), 8);
    stop_server();
    start_server(
        "signing_key: signing.pem\nold_keys:\n  - {public: other.pem.pub, revoked_at: 2020-01-01T00:00:00Z}\n");
    save("keys.json", "/v1/keys");
    save_receipt("by first.json", 2, "");
    assert_int_equal(log_size(), 9);
    json_t *proof = ft_http_json(at, "GET", proof_path(2, ""), NULL, 200);
    assert_int_equal(json_array_size(json_object_get(proof, "leaves")), 2);
    json_decref(proof);
    save("2.proof", proof_path(2, ""));
    run(0, "leaf 8 of 9", "$FLEXTRACE receipt verify 'by first.json' --key keys.json --proof 2.proof");
    /* What a revoked key says of the log counts for nothing. */
    run(0, NULL,
        "sed 's/^signing_key:.*/signing_key: other.pem/; /^old_keys/,$d' federation.yaml >revoked.yaml && "
        "$FLEXTRACE receipt log revoked.yaml --from 7 -o revoked");
    run(1, "signed by a key that was revoked", "$FLEXTRACE receipt consistency before --proof revoked --key keys.json");
    run(0, "begins with the 7", "$FLEXTRACE receipt consistency before --proof revoked --key %s --key other.pem.pub",
        public_path);
}

static void a_server_without_a_key_or_a_store_says_so(void **state)
{
    (void)state;
    need_server();
    stop_server();
    start_server("");
    static const char *const paths[] = {"/v1/receipts/log", "/v1/receipts/consistency?from=0",
                                        "/v1/receipts/rcp_01ARZ3NDEK0000000000000000/proof"};
    for (size_t i = 0; i < 3; i++) {
        json_t *p = ft_http_json(at, "GET", paths[i], NULL, 404);
        assert_string_equal(text_at(p, "type"), "urn:flextrace:problem:no-signing-key");
        json_decref(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_in_which_nothing_is_has_a_signed_head),
        cmocka_unit_test(every_envelope_that_is_given_out_is_a_leaf_once),
        cmocka_unit_test(the_entries_are_the_leaves_whose_root_the_head_has),
        cmocka_unit_test(a_receipt_is_proved_offline_and_another_is_not),
        cmocka_unit_test(one_head_is_shown_to_go_on_from_another),
        cmocka_unit_test(what_does_not_fit_is_refused_by_name),
        cmocka_unit_test(a_takedown_takes_nothing_out_and_its_certificate_comes_in),
        cmocka_unit_test(another_key_makes_another_envelope_and_goes_on_with_the_log),
        cmocka_unit_test(a_server_without_a_key_or_a_store_says_so),
    };
    return cmocka_run_group_tests(tests, open_signed, close_all);
}
