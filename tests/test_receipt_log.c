/* What ft_signed_note.h and ft_receipt_log.h promise: notes and heads as other logs' software reads and writes them,
 * proofs that are checked with nothing but a key. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "tracer/ft_receipt_log.h"

#include <sodium.h>
#include <sys/stat.h>

static ft_signer *signer, *other;

/* --- Notes --------------------------------------------------------------------------------------------------- */

/* The example of golang.org/x/mod/sumdb/note. */
static const char go_text[] = "If you think cryptography is the answer to your problem,\n"
                              "then you don't know what your problem is.\n";
static const char go_note[] =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\xE2\x80\x94 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

/* A signer from the 32 bytes behind the type in base64. */
static ft_signer *signer_of(const char *base64)
{
    unsigned char bytes[33],
        der[48] = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};
    size_t n;
    char body[100], text[300];
    ft_signer *s;
    ft_status st;
    assert_int_equal(
        sodium_base642bin(bytes, sizeof(bytes), base64, strlen(base64), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL),
        0);
    assert_int_equal(n, 33);
    assert_int_equal(bytes[0], 1);
    memcpy(der + 16, bytes + 1, 32);
    sodium_bin2base64(body, sizeof(body), der, sizeof(der), sodium_base64_VARIANT_ORIGINAL);
    snprintf(text, sizeof(text), "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n", body);
    const char *path = ft_test_write("given.pem", text, strlen(text));
    assert_int_equal(chmod(path, 0600), 0);
    assert_ok(ft_signer_open(&s, path, &st), st);
    return s;
}

static void a_note_is_signed_and_read_as_go_does(void **state)
{
    (void)state;
    ft_signer *peter = signer_of("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz");
    ft_buffer note = {0};
    ft_status st;
    size_t text;
    uint64_t by;
    assert_ok(ft_note_sign(&note, go_text, sizeof(go_text) - 1, "PeterNeumann", peter, &st), st);
    assert_string_equal(note.data, go_note);
    assert_ok(
        ft_note_open(go_note, sizeof(go_note) - 1, "note", "PeterNeumann", ft_signer_public(peter), 1, &text, &by, &st),
        st);
    assert_int_equal(by, 1);
    assert_int_equal(text, sizeof(go_text) - 1);
    /* Under another name it is another key's. */
    assert_ok(
        ft_note_open(go_note, sizeof(go_note) - 1, "note", "EnochRoot", ft_signer_public(peter), 1, &text, &by, &st),
        st);
    assert_int_equal(by, 0);
    ft_buffer_release(&note);
    ft_signer_close(peter);
}

static uint64_t head_signed_by(const ft_buffer *note, ft_log_head *head)
{
    const ft_public_key keys[] = {*ft_signer_public(other), *ft_signer_public(signer)};
    uint64_t by;
    ft_status st;
    assert_ok(ft_log_head_open(head, note->data, note->size, "head", keys, 2, &by, &st), st);
    return by;
}

static void a_head_comes_back_and_every_flipped_bit_is_told(void **state)
{
    (void)state;
    ft_log_head h = {.origin = "example.com/log42", .tree = {20852163, {{1, 2, 3}}}}, back;
    ft_buffer note = {0};
    ft_status st;
    assert_ok(ft_log_head_sign(&note, &h, signer, &st), st);
    assert_int_equal(strncmp(note.data, "example.com/log42\n20852163\nAQIDAAAA", 35), 0);
    assert_int_equal(head_signed_by(&note, &back), 2);
    assert_string_equal(back.origin, h.origin);
    assert_int_equal(back.tree.size, h.tree.size);
    assert_memory_equal(&back.tree.root, &h.tree.root, sizeof(h.tree.root));
    for (size_t bit = 0; bit < 8 * note.size; bit++) {
        const ft_public_key key = *ft_signer_public(signer);
        uint64_t by = 0;
        note.data[bit / 8] = (char)(note.data[bit / 8] ^ 1 << bit % 8);
        const ft_code rc = ft_log_head_open(&back, note.data, note.size, "head", &key, 1, &by, &st);
        if (rc != FT_ERR_FORMAT && (rc || by))
            fail_msg("bit %zu: %s, %d", bit, ft_code_name(rc), (int)by);
        note.data[bit / 8] = (char)(note.data[bit / 8] ^ 1 << bit % 8);
    }
    /* Witnesses add lines of their own, under other names; they change nothing. A wrong one of ours makes it nobody's.
     */
    ft_buffer more = {0};
    assert_ok(ft_note_sign(&more, "x\n", 2, "witness.example", other, &st), st);
    assert_ok(ft_buffer_append_str(&note, more.data + 3, &st), st);
    assert_int_equal(head_signed_by(&note, &back), 2);
    ft_buffer_reset(&more);
    assert_ok(ft_note_sign(&more, "another text\n", 13, h.origin, signer, &st), st);
    assert_ok(ft_buffer_append_str(&note, more.data + 14, &st), st);
    assert_int_equal(head_signed_by(&note, &back), 0);
    ft_buffer_release(&more);
    ft_buffer_release(&note);
}

#define LINE "\xE2\x80\x94 o AAAAAAA=\n"
static void what_is_no_head_is_refused_in_one_line(void **state)
{
    (void)state;
    static const char root[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    static const char *const wrong[] = {"",
                                        "\n",
                                        "\n\n",
                                        "o",
                                        "o\n1\n%s\n",
                                        "o\n1\n%s\n\n",
                                        "o\n1\n%s\n\nno signature\n",
                                        "o\n1\n%s\n" LINE,
                                        "o\n\n" LINE,
                                        "o\n1\n\n" LINE,
                                        "\n1\n%s\n\n" LINE,
                                        "o\n01\n%s\n\n" LINE,
                                        "o\n-1\n%s\n\n" LINE,
                                        "o\n+1\n%s\n\n" LINE,
                                        "o\n 1\n%s\n\n" LINE,
                                        "o\n1x\n%s\n\n" LINE,
                                        "o\n\n%s\n\n" LINE,
                                        "o\n4611686018427387905\n%s\n\n" LINE,
                                        "o\n99999999999999999999\n%s\n\n" LINE,
                                        "o\n1\nAAAA\n\n" LINE,
                                        "o\n1\n%s=\n\n" LINE,
                                        "o\n1\n%.43s\n\n" LINE,
                                        "o\n1\n%.42sB=\n\n" LINE,
                                        "o\r\n1\n%s\n\n" LINE,
                                        "o\xFF\n1\n%s\n\n" LINE,
                                        "o\n1\n%s\n\n\xE2\x80\x94 o AAAA\n",
                                        "o\n1\n%s\n\n\xE2\x80\x94 o AAAAAAA\n",
                                        "o\n1\n%s\n\n\xE2\x80\x94 o+p AAAAAAA=\n",
                                        "o\n1\n%s\n\n- o AAAAAAA=\n",
                                        "o\n1\n%s\n\n\xE2\x80\x94  AAAAAAA=\n"};
    for (size_t i = 0; i <= sizeof(wrong) / sizeof(*wrong); i++) {
        char text[300];
        ft_log_head h;
        ft_status st = {0};
        uint64_t by;
        snprintf(text, sizeof(text), i < sizeof(wrong) / sizeof(*wrong) ? wrong[i] : "o\n1\n%s\nmore\n\n" LINE, root);
        const ft_code rc = ft_log_head_open(&h, text, strlen(text), "here", ft_signer_public(signer), 1, &by, &st);
        if (i == sizeof(wrong) / sizeof(*wrong)) { /* it would do, but that nobody signed it */
            assert_ok(rc, st);
            assert_int_equal(by, 0);
        } else if (rc != FT_ERR_FORMAT || strncmp(st.msg, "here: ", 6) != 0) {
            fail_msg("'%s': %s: %s", text, ft_code_name(rc), st.msg);
        }
    }
    ft_buffer out = {0};
    static const char *const texts[] = {"", "x", "x\ty\n", "\xFF\n"}, *const names[] = {"", "a b", "a+b", "a\nb"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ft_note_sign(&out, texts[i], strlen(texts[i]), "n", signer, NULL), FT_ERR_ARG);
        assert_int_equal(ft_note_sign(&out, "x\n", 2, names[i], signer, NULL), FT_ERR_ARG);
    }
    assert_int_equal(out.size, 0);
}

/* --- Proofs ---------------------------------------------------------------------------------------------------- */

enum { RECEIPTS = 11 };
static ft_buffer envelopes[RECEIPTS];
static ft_store *store;
static ft_receipt_log receipts;

static void id_of(unsigned n, char id[FT_TRACE_ID])
{
    snprintf(id, FT_TRACE_ID, "rcp_01KARECE1PTSMADEBYHAND%04u", n);
}

static ft_digest leaf_of_text(const char *text)
{
    ft_envelope e;
    ft_status st;
    ft_digest leaf;
    assert_ok(ft_dsse_parse(&e, text, strlen(text), "here", &st), st);
    assert_ok(ft_receipt_leaf_of(&e, &leaf, &st), st);
    ft_envelope_release(&e);
    return leaf;
}

static int make_log(void **state)
{
    (void)state;
    char id[FT_TRACE_ID], payload[60];
    if (ft_signing_key_new(ft_test_path("signing.pem"), NULL, NULL) ||
        ft_signer_open(&signer, ft_test_path("signing.pem"), NULL) ||
        ft_signing_key_new(ft_test_path("other.pem"), NULL, NULL) ||
        ft_signer_open(&other, ft_test_path("other.pem"), NULL) ||
        ft_store_open(&store, ft_test_path("store"), 0, NULL))
        return 1;
    ft_receipt_log_init(&receipts, store, signer, "Our models");
    for (unsigned n = 0; n < RECEIPTS; n++) {
        snprintf(payload, sizeof(payload), "{\"n\":%u}", n);
        id_of(n, id);
        if (ft_dsse_sign(&envelopes[n], "application/vnd.in-toto+json", payload, strlen(payload), signer, NULL) ||
            ft_store_receipt_add(store, id, envelopes[n].data, envelopes[n].size, NULL, NULL))
            return 1;
    }
    return 0;
}

static int drop_log(void **state)
{
    (void)state;
    for (unsigned n = 0; n < RECEIPTS; n++)
        ft_buffer_release(&envelopes[n]);
    ft_store_close(store);
    ft_signer_close(signer);
    ft_signer_close(other);
    return 0;
}

static void a_leaf_is_of_the_envelope_however_it_is_written(void **state)
{
    (void)state;
    const ft_digest want = ft_merkle_leaf(FT_MERKLE_SHA256, envelopes[3].data, envelopes[3].size);
    json_t *v = json_loads(envelopes[3].data, 0, NULL);
    char *forms[] = {json_dumps(v, JSON_INDENT(4)), json_dumps(v, JSON_SORT_KEYS | JSON_ESCAPE_SLASH),
                     strdup(envelopes[3].data)};
    for (size_t i = 0; i < 3; i++) {
        const ft_digest got = leaf_of_text(forms[i]);
        assert_memory_equal(&got, &want, sizeof(want));
        free(forms[i]);
    }
    const ft_digest another = leaf_of_text(envelopes[4].data);
    assert_memory_not_equal(&another, &want, sizeof(want));
    /* What we do not write is in no log of ours. */
    static const char *const foreign[] = {
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\\\"\",\"signatures\":[{\"sig\":\"YQ==\"}]}"};
    for (size_t i = 0; i < 2; i++) {
        ft_envelope e;
        ft_digest leaf;
        assert_int_equal(ft_dsse_parse(&e, foreign[i], strlen(foreign[i]), "here", NULL), FT_OK);
        assert_int_equal(ft_receipt_leaf_of(&e, &leaf, NULL), FT_ERR_FORMAT);
        ft_envelope_release(&e);
    }
    json_decref(v);
}

static void check(const json_t *proof, const ft_digest *leaf, const ft_signer *by, const char *problem)
{
    ft_log_check c;
    ft_status st;
    assert_ok(ft_receipt_proof_check(proof, leaf, ft_signer_public(by), 1, "proof", &c, &st), st);
    if (problem ? !strstr(c.problem, problem) : c.problem[0])
        fail_msg("wanted '%s', got '%s'", problem ? problem : "", c.problem);
    if (!problem)
        assert_string_equal(c.head.origin, "Our%20models/receipts");
}

static void every_receipt_is_proved_at_every_size_and_nothing_else_is(void **state)
{
    (void)state;
    for (uint64_t size = 1; size <= RECEIPTS; size++)
        for (unsigned n = 0; n < RECEIPTS; n++) {
            char id[FT_TRACE_ID];
            json_t *proof;
            ft_status st = {0};
            const ft_digest leaf = leaf_of_text(envelopes[n].data),
                            wrong = leaf_of_text(envelopes[(n + 1) % RECEIPTS].data);
            id_of(n, id);
            const ft_code rc = ft_receipt_log_proof(&receipts, id, n % 2 ? &leaf : NULL,
                                                    size == RECEIPTS ? FT_TREE_NEWEST : size, &proof, &st);
            if (n >= size) {
                assert_int_equal(rc, FT_ERR_ARG);
                assert_null(proof);
                continue;
            }
            assert_ok(rc, st);
            check(proof, &leaf, signer, NULL);
            check(proof, &wrong, signer, "of another envelope");
            check(proof, &leaf, other, "was not signed by this key");
            json_object_set_new(proof, "leaf_index", json_integer((n + 1) % RECEIPTS));
            check(proof, &leaf, signer, "does not lead");
            json_object_set_new(proof, "leaf_index", json_integer(n));
            json_t *hashes = json_object_get(proof, "hashes");
            if (json_array_size(hashes)) {
                json_array_remove(hashes, 0);
                check(proof, &leaf, signer, "does not lead");
            }
            json_decref(proof);
        }
    ft_digest none = {{0}};
    json_t *proof;
    assert_int_equal(
        ft_receipt_log_proof(&receipts, "rcp_01KARECE1PTSMADEBYHAND0000", &none, FT_TREE_NEWEST, &proof, NULL),
        FT_ERR_NOT_FOUND);
}

static void a_proof_of_another_form_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *field, *json;
    } all[] = {{"leaf_index", "-1"},    {"leaf_index", "\"1\""},        {"leaf_index", "1.5"},
               {"leaf_hash", "7"},      {"leaf_hash", "\"sha256:00\""}, {"hashes", "{}"},
               {"hashes", "[7]"},       {"hashes", "[\"sha256:zz\"]"},  {"checkpoint", "7"},
               {"checkpoint", "\"x\""}, {"checkpoint", "\"\""}};
    const ft_digest leaf = leaf_of_text(envelopes[3].data);
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        for (int gone = 0; gone < 2; gone++) {
            json_t *proof;
            ft_log_check c;
            ft_status st = {0};
            assert_int_equal(
                ft_receipt_log_proof(&receipts, "rcp_01KARECE1PTSMADEBYHAND0003", NULL, FT_TREE_NEWEST, &proof, NULL),
                FT_OK);
            if (gone)
                json_object_del(proof, all[i].field);
            else
                json_object_set_new(proof, all[i].field, json_loads(all[i].json, JSON_DECODE_ANY, NULL));
            assert_int_equal(ft_receipt_proof_check(proof, &leaf, ft_signer_public(signer), 1, "here", &c, &st),
                             FT_ERR_FORMAT);
            assert_int_equal(strncmp(st.msg, "here: ", 6), 0);
            json_decref(proof);
        }
}

static ft_log_head head_of(uint64_t size)
{
    json_t *v;
    ft_log_head h;
    uint64_t by;
    ft_status st;
    assert_ok(ft_receipt_log_head(&receipts, size, &v, &st), st);
    const json_t *note = json_object_get(v, "checkpoint");
    assert_ok(ft_log_head_open(&h, json_string_value(note), json_string_length(note), "head", ft_signer_public(signer),
                               1, &by, &st),
              st);
    assert_int_equal(by, 1);
    assert_int_equal(json_integer_value(json_object_get(v, "tree_size")), h.tree.size);
    json_decref(v);
    return h;
}

static void one_head_is_shown_to_go_on_from_another(void **state)
{
    (void)state;
    for (uint64_t to = 0; to <= RECEIPTS; to++)
        for (uint64_t from = 0; from <= to; from++) {
            json_t *proof;
            ft_log_check c;
            ft_status st;
            ft_log_head old = head_of(from), new = head_of(to);
            const ft_public_key *key = ft_signer_public(signer);
            assert_ok(ft_receipt_log_consistency(&receipts, from, to, &proof, &st), st);
            assert_ok(ft_receipt_consistency_check(proof, &old, NULL, key, 1, "here", &c, &st), st);
            assert_string_equal(c.problem, "");
            assert_int_equal(c.head.tree.size, to);
            assert_ok(ft_receipt_consistency_check(proof, &old, &new, key, 1, "here", &c, &st), st);
            assert_string_equal(c.problem, "");
            assert_ok(ft_receipt_consistency_check(proof, &old, NULL, ft_signer_public(other), 1, "here", &c, &st), st);
            assert_non_null(strstr(c.problem, "not signed by this key"));
            old.tree.root.bytes[9] ^= 1; /* another past */
            assert_ok(ft_receipt_consistency_check(proof, &old, &new, key, 1, "here", &c, &st), st);
            assert_non_null(strstr(c.problem, "does not begin with"));
            old.tree.size++;
            assert_ok(ft_receipt_consistency_check(proof, &old, &new, key, 1, "here", &c, &st), st);
            assert_non_null(strstr(c.problem, "the proof is of sizes"));
            strcpy(old.origin, "elsewhere/receipts");
            assert_ok(ft_receipt_consistency_check(proof, &old, &new, key, 1, "here", &c, &st), st);
            assert_non_null(strstr(c.problem, "of two logs"));
            json_decref(proof);
        }
    json_t *proof;
    assert_int_equal(ft_receipt_log_consistency(&receipts, 3, 2, &proof, NULL), FT_ERR_ARG);
    assert_int_equal(ft_receipt_log_consistency(&receipts, 0, RECEIPTS + 1, &proof, NULL), FT_ERR_ARG);
    assert_int_equal(ft_receipt_log_head(&receipts, RECEIPTS + 1, &proof, NULL), FT_ERR_ARG);
}

static ft_code make_all(void *context, ft_status *st)
{
    (void)context;
    json_t *v = NULL;
    ft_code rc = ft_receipt_log_proof(&receipts, "rcp_01KARECE1PTSMADEBYHAND0003", NULL, FT_TREE_NEWEST, &v, st);
    json_decref(v);
    if (!rc)
        rc = ft_receipt_log_consistency(&receipts, 3, FT_TREE_NEWEST, &v, st);
    if (!rc)
        json_decref(v);
    return rc;
}

static void making_survives_every_failed_allocation(void **state)
{
    (void)state;
    ft_test_each_allocation_fails(make_all, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_note_is_signed_and_read_as_go_does),
        cmocka_unit_test(a_head_comes_back_and_every_flipped_bit_is_told),
        cmocka_unit_test(what_is_no_head_is_refused_in_one_line),
        cmocka_unit_test(a_leaf_is_of_the_envelope_however_it_is_written),
        cmocka_unit_test(every_receipt_is_proved_at_every_size_and_nothing_else_is),
        cmocka_unit_test(a_proof_of_another_form_is_refused),
        cmocka_unit_test(one_head_is_shown_to_go_on_from_another),
        cmocka_unit_test(making_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, make_log, drop_log);
}
