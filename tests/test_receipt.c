/* Keys, envelopes and statements, without a model: what ft_signing.h, ft_dsse.h and ft_receipt.h promise. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "tracer/ft_receipt.h"

#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new key in the test's folder; the caller closes it. */
static ft_signer *new_signer(const char *name)
{
    ft_status st;
    ft_signer *s;
    assert_ok(ft_signing_key_new(ft_test_path(name), NULL, &st), st);
    assert_ok(ft_signer_open(&s, ft_test_path(name), &st), st);
    return s;
}

/* How many of the envelope's signatures hold under the key; -1: it is no envelope. */
static int signed_by(const char *envelope, size_t n, const ft_public_key *key)
{
    ft_envelope e;
    ft_status st = {0};
    uint64_t by = 0;
    const ft_code rc = ft_dsse_parse(&e, envelope, n, "here", &st);
    if (rc) {
        assert_int_equal(rc, FT_ERR_FORMAT);
        assert_int_equal(strncmp(st.msg, "here: ", 6), 0);
        assert_null(strchr(st.msg, '\n'));
    } else {
        assert_ok(ft_dsse_verify(&e, key, 1, &by, &st), st);
    }
    ft_envelope_release(&e);
    return rc ? -1 : by == 1;
}

static char *base64_of(const void *bytes, size_t n)
{
    const size_t size = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(size);
    assert_non_null(text);
    return sodium_bin2base64(text, size, bytes, n, sodium_base64_VARIANT_ORIGINAL);
}

/* An envelope put together by hand; the caller frees. `type` is JSON text, quotes included. */
static char *envelope_of(const char *type, const void *payload, size_t n, const unsigned char signature[64])
{
    char *p = base64_of(payload, n), *s = base64_of(signature, 64);
    const size_t size = strlen(p) + strlen(s) + strlen(type) + 100;
    char *out = malloc(size);
    assert_non_null(out);
    snprintf(out, size, "{\"payload\":\"%s\",\"payloadType\":%s,\"signatures\":[{\"sig\":\"%s\"}]}", p, type, s);
    free(p);
    free(s);
    return out;
}

/* --- Keys ---------------------------------------------------------------------------- */

/* RFC 8032, 7.1, TEST 2, in the files of RFC 8410. */
static void a_key_signs_as_the_rfc_says(void **state)
{
    (void)state;
    static const unsigned char seed[] = {0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3,
                                         0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab,
                                         0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb};
    unsigned char der[48] = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                             0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};
    char text[300], hex[200];
    ft_signer *s;
    ft_status st;
    memcpy(der + 16, seed, 32);
    char *body = base64_of(der, sizeof(der));
    snprintf(text, sizeof(text), "words before\n-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n", body);
    free(body);
    const char *path = ft_test_write("rfc.pem", text, strlen(text));
    assert_int_equal(chmod(path, 0600), 0);
    assert_ok(ft_signer_open(&s, path, &st), st);
    sodium_bin2hex(hex, sizeof(hex), ft_signer_public(s)->bytes, 32);
    assert_string_equal(hex, "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    unsigned char signature[64];
    ft_signer_sign(s, "\x72", 1, signature);
    sodium_bin2hex(hex, sizeof(hex), signature, 64);
    assert_string_equal(hex, "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                             "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
    assert_true(ft_signature_verify(ft_signer_public(s), "\x72", 1, signature));
    assert_false(ft_signature_verify(ft_signer_public(s), "\x73", 1, signature));
    ft_signer_close(s);
}

static void a_new_key_is_its_owners_alone_and_never_overwrites(void **state)
{
    (void)state;
    ft_public_key made, read;
    ft_status st = {0};
    struct stat f;
    const char *path = ft_test_path("fresh.pem");
    assert_ok(ft_signing_key_new(path, &made, &st), st);
    assert_int_equal(stat(path, &f), 0);
    assert_int_equal(f.st_mode & 07777, 0600);
    assert_ok(ft_public_key_read(&read, ft_test_path("fresh.pem.pub"), &st), st);
    assert_memory_equal(&made, &read, sizeof(made));
    assert_ok(ft_public_key_read(&read, path, &st), st); /* a private key has its public half */
    assert_memory_equal(&made, &read, sizeof(made));
    assert_int_equal(ft_signing_key_new(path, NULL, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "fresh.pem"));
    /* Where the public file is in the way, the private one does not stay. */
    ft_test_write("half.pem.pub", "mine", 4);
    assert_int_equal(ft_signing_key_new(ft_test_path("half.pem"), NULL, &st), FT_ERR_ARG);
    assert_false(ft_path_exists(ft_test_path("half.pem")));
}

static void a_private_key_that_others_may_read_is_refused(void **state)
{
    (void)state;
    ft_signer *s;
    ft_status st = {0};
    const char *path = ft_test_path("open.pem");
    assert_ok(ft_signing_key_new(path, NULL, &st), st);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(ft_signer_open(&s, path, &st), FT_ERR_ARG);
    assert_null(s);
    assert_non_null(strstr(st.msg, "chmod 600"));
    assert_int_equal(ft_signer_open(&s, ft_test_path("nowhere.pem"), &st), FT_ERR_NOT_FOUND);
}

static void what_is_no_key_is_refused_in_one_line(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "hello", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAA==\n-----END PUBLIC KEY-----\n", /* short */
        /* X25519 (1.3.101.110) is another kind of key */
        ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC "
         "KEY-----\n"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        ft_public_key key;
        ft_status st = {0};
        assert_int_equal(ft_public_key_parse(&key, wrong[i], strlen(wrong[i]), "there", &st), FT_ERR_FORMAT);
        assert_int_equal(strncmp(st.msg, "there: ", 7), 0);
    }
}

/* --- Envelopes -------------------------------------------------------------------------- */

static void the_signed_bytes_are_those_of_the_specification(void **state)
{
    (void)state;
    ft_buffer b = {0};
    ft_status st;
    assert_ok(ft_dsse_pae(&b, "http://example.com/HelloWorld", 29, "hello world", 11, &st), st);
    assert_string_equal(b.data, "DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    ft_buffer_reset(&b);
    assert_ok(ft_dsse_pae(&b, "", 0, NULL, 0, &st), st);
    assert_string_equal(b.data, "DSSEv1 0  0 ");
    ft_buffer_release(&b);
}

static const char payload[] = "{\"_type\":\"https://in-toto.io/Statement/v1\",\"n\":[1,2,3]}";
enum { PAYLOAD = sizeof(payload) - 1, TYPE = sizeof(FT_RECEIPT_PAYLOAD_TYPE) - 1 };

static void sign(const ft_signer *s, unsigned char signature[64])
{
    ft_buffer pae = {0};
    ft_status st;
    assert_ok(ft_dsse_pae(&pae, FT_RECEIPT_PAYLOAD_TYPE, TYPE, payload, PAYLOAD, &st), st);
    ft_signer_sign(s, pae.data, pae.size, signature);
    ft_buffer_release(&pae);
}

/* A string as JSON, whatever its bytes are. */
static void quoted(char *out, const char *text, size_t n)
{
    *out++ = '"';
    for (size_t i = 0; i < n; i++)
        out += sprintf(out, (unsigned char)text[i] < 0x80 ? "\\u%04x" : "%c", (unsigned char)text[i]);
    strcpy(out, "\"");
}

static void every_flipped_bit_of_payload_type_and_signature_is_rejected(void **state)
{
    (void)state;
    ft_signer *s = new_signer("bits.pem");
    const ft_public_key *key = ft_signer_public(s);
    unsigned char signature[64];
    char bytes[PAYLOAD], type[TYPE + 1], text[8 * TYPE];
    sign(s, signature);
    memcpy(bytes, payload, PAYLOAD);
    strcpy(type, FT_RECEIPT_PAYLOAD_TYPE);
    for (size_t bit = 0; bit <= 8 * (PAYLOAD + 64 + TYPE); bit++) {
        size_t at = bit / 8;
        const unsigned char flip = (unsigned char)(1u << bit % 8);
        const int none = bit == 8 * (PAYLOAD + 64 + TYPE); /* the last round changes nothing */
        char *where = at < PAYLOAD        ? bytes + at
                      : at - PAYLOAD < 64 ? (char *)signature + at - PAYLOAD
                                          : type + (at - PAYLOAD - 64);
        if (!none)
            *where = (char)((unsigned char)*where ^ flip);
        quoted(text, type, TYPE);
        char *e = envelope_of(text, bytes, PAYLOAD, signature);
        const int got = signed_by(e, strlen(e), key);
        if (none ? got != 1 : got == 1)
            fail_msg("bit %zu: %d", bit, got);
        free(e);
        if (!none)
            *where = (char)((unsigned char)*where ^ flip);
    }
    ft_signer_close(s);
}

static void what_stands_elsewhere_in_an_envelope_changes_nothing(void **state)
{
    (void)state;
    ft_signer *s = new_signer("else.pem"), *other = new_signer("other.pem");
    unsigned char signature[64];
    sign(s, signature);
    char *p = base64_of(payload, PAYLOAD), *g = base64_of(signature, 64);
    static const char *const forms[] = {
        "{\"payload\":\"%1$s\",\"payloadType\":\"%2$s\",\"signatures\":[{\"sig\":\"%3$s\"}]}",
        "{\"signatures\":[{\"sig\":\"%3$s\",\"keyid\":\"not this "
        "one\"}],\"payloadType\":\"%2$s\",\"payload\":\"%1$s\"}",
        " {\n \"payload\" : \"%1$s\", \"more\": {\"payload\": \"AAAA\"},\n\"payloadType\":\"%2$s\","
        "\"signatures\":[{\"sig\":\"%3$s\",\"keyid\":7,\"x\":[]}], \"payload_type\":\"text/plain\"}\n",
        "{\"payload\":\"%1$s\",\"payloadType\":\"%2$s\",\"signatures\":[{\"sig\":\"AAAA\"},{\"sig\":\"%3$s\"}]}"};
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        char text[2000];
        ft_envelope e;
        ft_status st = {0};
        snprintf(text, sizeof(text), forms[i], p, FT_RECEIPT_PAYLOAD_TYPE, g);
        assert_int_equal(signed_by(text, strlen(text), ft_signer_public(s)), 1);
        assert_int_equal(signed_by(text, strlen(text), ft_signer_public(other)), 0);
        assert_ok(ft_dsse_parse(&e, text, strlen(text), "here", &st), st);
        assert_string_equal(e.payload.data, payload);
        ft_envelope_release(&e);
    }
    free(p);
    free(g);
    ft_signer_close(s);
    ft_signer_close(other);
}

/* Bytes whose two alphabets differ. */
static void both_alphabets_are_read_but_not_mixed_or_cut(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int ok;
    } all[] = {{"+/+/", 1}, {"-_-_", 1},   {"+/-_", 0},  {"YQ==", 1},  {"YQ", 0},       {"YQ=", 0},
               {"YR==", 0}, {"YQ==\n", 0}, {" YQ==", 0}, {"Y Q==", 0}, {"YQ==YQ==", 0}, {"", 1},
               {"=", 0},    {"====", 0},   {"YWI=", 1},  {"YWJ=", 0}};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        ft_envelope e;
        json_t *v =
            json_pack("{s:s,s:s,s:[{s:s}]}", "payload", all[i].text, "payloadType", "t", "signatures", "sig", "YQ==");
        ft_buffer text = {0};
        assert_int_equal(ft_json_write(v, &text, NULL), FT_OK);
        const ft_code rc = ft_dsse_parse(&e, text.data, text.size, "here", NULL);
        if ((rc == FT_OK) != all[i].ok)
            fail_msg("'%s': %s", all[i].text, ft_code_name(rc));
        ft_envelope_release(&e);
        ft_buffer_release(&text);
        json_decref(v);
    }
}

/* Every length up to some groups, and every text that one character more, less or other makes: as libsodium
 * reads it in either alphabet. */
static void base64_is_read_and_written_as_libsodium_does(void **state)
{
    (void)state;
    ft_signer *s = new_signer("base64.pem");
    unsigned char bytes[40], want[80];
    static const char changes[] = "A+/-_=z9 \n";
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        ft_buffer made = {0};
        randombytes_buf(bytes, n);
        assert_int_equal(ft_dsse_sign(&made, "t", bytes, n, s, NULL), FT_OK);
        char *text = base64_of(bytes, n), body[100];
        assert_int_equal(strncmp(made.data + 12, text, strlen(text)), 0); /* behind {"payload":" */
        for (size_t at = 0; at <= strlen(text); at++)
            for (const char *c = changes; *c; c++) {
                size_t got = 0;
                snprintf(body, sizeof(body), "%s", text);
                body[at] = *c; /* at the end: one more */
                body[at == strlen(text) ? at + 1 : strlen(text)] = '\0';
                int ok = 0;
                for (int v = 0; v < 2 && !ok; v++)
                    ok = sodium_base642bin(want, sizeof(want), body, strlen(body), NULL, &got, NULL,
                                           v ? sodium_base64_VARIANT_URLSAFE : sodium_base64_VARIANT_ORIGINAL) == 0;
                for (int order = 0; order < 2; order++) { /* payload first, and last */
                    ft_envelope e;
                    json_t *v = order ? json_pack("{s:s,s:s,s:[{s:s}]}", "payload", body, "payloadType", "t",
                                                  "signatures", "sig", "YQ==")
                                      : json_pack("{s:s,s:[{s:s}],s:s}", "payloadType", "t", "signatures", "sig",
                                                  "YQ==", "payload", body);
                    char *envelope = json_dumps(v, JSON_COMPACT);
                    const ft_code rc = ft_dsse_parse(&e, envelope, strlen(envelope), "here", NULL);
                    if ((rc == FT_OK) != ok ||
                        (ok && (e.payload.size != got || (got && memcmp(e.payload.data, want, got) != 0))))
                        fail_msg("'%s': %s", body, ft_code_name(rc));
                    ft_envelope_release(&e);
                    free(envelope);
                    json_decref(v);
                }
            }
        free(text);
        ft_buffer_release(&made);
    }
    ft_signer_close(s);
}

static void a_malformed_envelope_gives_one_line(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        " ",
        "null",
        "7",
        "[]",
        "\"payload\"",
        "{}",
        "{",
        "}",
        "{\"payload\":\"YQ==\"}",
        "{\"payload\":1,\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":[],\"signatures\":[{\"sig\":\"YQ==\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":{}}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[\"YQ==\"]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[{}]}",
        "{\"payload\":\"YQ==\",\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\",\"sig\":\"YQ==\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]} {}",
        "{\"payload\":\"\xff\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]}"};
    const ft_public_key key = {{0}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_int_equal(signed_by(wrong[i], strlen(wrong[i]), &key), -1);
    /* Deep, and many. */
    enum { DEEP = 100000 };
    char *deep = malloc(DEEP);
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    assert_int_equal(signed_by(deep, DEEP, &key), -1);
    free(deep);
    ft_buffer many = {0};
    assert_int_equal(ft_buffer_append_str(&many, "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[", NULL),
                     FT_OK);
    for (size_t i = 0; i < 65; i++)
        assert_int_equal(ft_buffer_printf(&many, NULL, "%s{\"sig\":\"YQ==\"}", i ? "," : ""), FT_OK);
    assert_int_equal(ft_buffer_append_str(&many, "]}", NULL), FT_OK);
    assert_int_equal(signed_by(many.data, many.size, &key), -1);
    ft_buffer_release(&many);
}

static void a_key_counts_once_however_often_it_signed(void **state)
{
    (void)state;
    ft_signer *s = new_signer("once.pem"), *t = new_signer("twice.pem"), *u = new_signer("never.pem");
    unsigned char a[64], b[64];
    char text[2000];
    ft_envelope e;
    ft_status st;
    uint64_t by;
    sign(s, a);
    sign(t, b);
    char *p = base64_of(payload, PAYLOAD), *x = base64_of(a, 64), *y = base64_of(b, 64);
    snprintf(text, sizeof(text),
             "{\"payload\":\"%s\",\"payloadType\":\"%s\",\"signatures\":[{\"sig\":\"%s\"},{\"sig\":\"%s\"},{\"sig\":\"%"
             "s\"}]}",
             p, FT_RECEIPT_PAYLOAD_TYPE, x, x, y);
    const ft_public_key keys[] = {*ft_signer_public(s), *ft_signer_public(u), *ft_signer_public(s),
                                  *ft_signer_public(t)};
    assert_ok(ft_dsse_parse(&e, text, strlen(text), "here", &st), st);
    assert_ok(ft_dsse_verify(&e, keys, 4, &by, &st), st);
    assert_int_equal(by, 1 | 8);
    ft_envelope_release(&e);
    free(p), free(x), free(y);
    ft_signer_close(s), ft_signer_close(t), ft_signer_close(u);
}

/* --- Statements ---------------------------------------------------------------------------- */

/* A trace as the store has it, made by hand. */
static json_t *a_trace(void)
{
    json_t *t = json_loads("{\"id\":\"trc_01KARECE1PTSMADEBYHAND0000\",\"created\":\"2026-01-31T12:00:00Z\",\"key\":"
                           "\"local\",\"model\":\"demo\","
                           "\"finish_reason\":\"length\",\"parameters\":{\"temperature\":0.7,\"top_k\":0,\"seed\":7,"
                           "\"max_tokens\":4,\"stop\":[],"
                           "\"stop_token_ids\":[9],\"logit_bias\":{\"5\":1.5}},"
                           "\"without\":[\"news\"],\"prompt\":{\"text\":null,\"ids\":[1,2,3]},\"response\":{\"text\":"
                           "\"a b\",\"ids\":[4,5,6,7]},"
                           "\"experts\":[{\"id\":0,\"owner\":\"public\",\"state\":\"active\",\"share\":1.0},{\"id\":1,"
                           "\"owner\":\"news\",\"state\":\"opted_out\","
                           "\"share\":0.0}],\"spans\":[{\"start\":0,\"end\":3,\"count\":2,\"owners\":[\"public\"],"
                           "\"owner_counts\":{\"public\":2},"
                           "\"shares\":[1.0,0.0],\"unigram_logprob_sum\":-20.5,\"docs\":[{\"owner\":\"public\",\"id\":"
                           "\"secret-document\"}]}],"
                           "\"provenance\":{\"tokenizer_digest\":null,\"indexes\":[{\"owner\":\"public\",\"root\":null,"
                           "\"documents\":1,\"tokens\":9}],"
                           "\"routing\":{\"digest\":\"sha256:"
                           "0000000000000000000000000000000000000000000000000000000000000000\",\"shape\":[6,2,1]},"
                           "\"engine\":{\"version\":\"0\",\"kernels\":\"scalar\",\"compute\":\"float32\",\"kv_type\":"
                           "\"float32\",\"model_identity\":\"sha256:1\"},"
                           "\"output_digest\":\"sha256:"
                           "1111111111111111111111111111111111111111111111111111111111111111\",\"generated_from\":0}}",
                           0, NULL);
    return t;
}

static const unsigned char secret[FT_STORE_SECRET] = "thirty-two bytes of some secret";

static json_t *statement_of(const json_t *trace, int hide, const unsigned char *with, ft_buffer *text)
{
    ft_status st;
    json_t *digests =
        json_pack("{s:s,s:s,s:[]}", "model", "sha256:2222222222222222222222222222222222222222222222222222222222222222",
                  "config", "sha256:3333333333333333333333333333333333333333333333333333333333333333", "experts");
    const ft_receipt_options o = {.secret = with, .digests = digests, .hide_prompt = hide};
    assert_ok(ft_receipt_payload(trace, &o, text, &st), st);
    json_decref(digests);
    json_t *statement = NULL;
    assert_ok(ft_json_parse(&statement, text->data, text->size, "statement", &st), st);
    return statement;
}

static const char *string(const json_t *v, const char *key)
{
    return json_string_value(json_object_get(v, key));
}

static void the_same_trace_gives_the_same_bytes_and_hides_documents(void **state)
{
    (void)state;
    json_t *trace = a_trace();
    assert_non_null(trace);
    ft_buffer a = {0}, b = {0}, c = {0};
    json_t *one = statement_of(trace, 0, secret, &a), *two = statement_of(trace, 0, secret, &b);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    const json_t *p = json_object_get(one, "predicate");
    assert_string_equal(string(p, "receiptId"), "rcp_01KARECE1PTSMADEBYHAND0000");
    assert_string_equal(string(p, "generatedAt"), "2026-01-31T12:00:00Z");
    assert_string_equal(string(p, "assurance"), "replayable");
    assert_true(json_is_false(json_object_get(json_array_get(json_object_get(p, "experts"), 1), "active")));
    assert_int_equal(
        json_integer_value(json_array_get(json_object_get(json_object_get(p, "parameters"), "stopTokenIds"), 0)), 9);
    assert_null(strstr(a.data, "secret-document"));
    assert_non_null(strstr(a.data, "hmac-sha256:"));
    /* Another store's secret gives other salts, and nothing else changes that one could open. */
    static const unsigned char other[FT_STORE_SECRET] = "another store's, not this one's";
    json_t *three = statement_of(trace, 1, other, &c);
    const json_t *q = json_object_get(three, "predicate");
    assert_string_not_equal(string(p, "promptDigest"), string(q, "promptDigest"));
    assert_null(json_object_get(q, "promptTokenIds"));
    assert_null(json_object_get(q, "promptSalt"));
    assert_string_equal(string(q, "assurance"), "attested");
    const ft_salt salt = ft_receipt_salt(secret, "trc_01KARECE1PTSMADEBYHAND0000", "public");
    char hash[FT_SALTED_HASH];
    ft_salted_hash(&salt, "secret-document", 15, hash);
    assert_non_null(strstr(a.data, hash));
    assert_null(strstr(c.data, hash));
    json_decref(one), json_decref(two), json_decref(three), json_decref(trace);
    ft_buffer_release(&a), ft_buffer_release(&b), ft_buffer_release(&c);
}

static void a_redacted_trace_has_no_receipt(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        json_t *trace = a_trace();
        ft_buffer text = {0};
        ft_status st = {0};
        const ft_receipt_options o = {.secret = secret};
        if (way)
            (void)json_object_set_new(trace, "redacted", json_string("2026-02-01T00:00:00Z"));
        else
            (void)json_object_set_new(json_object_get(trace, "response"), "ids", json_null());
        assert_int_equal(ft_receipt_payload(trace, &o, &text, &st), FT_ERR_FORMAT);
        assert_non_null(strstr(st.msg, "redacted"));
        ft_buffer_release(&text);
        json_decref(trace);
    }
}

/* Reads a payload as if it came out of a verified envelope. */
static ft_code read_payload(const ft_buffer *text, const char *type, ft_receipt *r, ft_status *st)
{
    ft_envelope e = {.payload = *text, .type_bytes = strlen(type)};
    strcpy(e.type, type);
    return ft_receipt_read(r, &e, "here", st);
}

static void a_statement_is_read_back(void **state)
{
    (void)state;
    json_t *trace = a_trace();
    ft_buffer text = {0};
    ft_receipt r;
    ft_status st = {0};
    json_decref(statement_of(trace, 0, secret, &text));
    assert_ok(read_payload(&text, FT_RECEIPT_PAYLOAD_TYPE, &r, &st), st);
    assert_true(r.is_generation && r.has_prompt);
    assert_string_equal(r.contradiction, "");
    assert_int_equal(r.prompt_count, 3);
    assert_int_equal(r.output_count, 4);
    assert_int_equal(r.output[3], 7);
    ft_receipt_release(&r);
    assert_int_equal(read_payload(&text, "application/json", &r, &st), FT_ERR_FORMAT);
    ft_receipt_release(&r);
    ft_buffer_release(&text);
    json_decref(trace);
}

/* What a path of keys and numbers leads to is replaced by JSON text ("": removed). */
static void change(json_t *v, const char *path, const char *json)
{
    char key[60];
    for (;;) {
        const size_t n = strcspn(path, "/");
        snprintf(key, sizeof(key), "%.*s", (int)n, path);
        path += n + (path[n] == '/');
        if (!*path)
            break;
        v = json_is_array(v) ? json_array_get(v, strtoul(key, NULL, 10)) : json_object_get(v, key);
    }
    json_t *to = *json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(!*json || to);
    if (json_is_array(v))
        assert_int_equal(json_array_set_new(v, strtoul(key, NULL, 10), to), 0);
    else if (to)
        assert_int_equal(json_object_set_new(v, key, to), 0);
    else
        assert_int_equal(json_object_del(v, key), 0);
}

static void a_statement_of_another_form_or_against_itself_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *path, *json, *says;
        int contradiction;
    } all[] = {
        {"_type", "\"https://in-toto.io/Statement/v0.1\"", "_type", 0},
        {"subject", "[]", "subject", 0},
        {"subject/0/digest", "{}", "subject[0].digest", 0},
        {"subject/1/digest/sha256", "\"00\"", "subject[1].digest.sha256", 0},
        {"predicate", "7", "predicate", 0},
        {"predicateType", "", "predicateType", 0},
        {"predicate/receiptId", "", "receiptId", 0},
        {"predicate/generatedAt", "\"yesterday\"", "generatedAt", 0},
        {"predicate/parameters", "[]", "parameters", 0},
        {"predicate/outputTokenIds", "\"4\"", "outputTokenIds", 0},
        {"predicate/outputTokenIds/1", "-1", "outputTokenIds", 0},
        {"predicate/promptTokenIds/1", "4294967296", "promptTokenIds", 0},
        {"predicate/promptSalt", "\"zz\"", "promptSalt", 0},
        {"predicate/promptDigest", "\"sha256:00\"", "promptDigest", 0},
        {"predicate/model/digest", "\"sha256:00\"", "model.digest", 0},
        {"predicate/experts/1/id", "64", "experts[1].id", 0},
        {"predicate/experts/0/active", "1", "experts[0].active", 0},
        {"predicate/routing/shape", "[1,2]", "routing.shape", 0},
        {"predicate/indexes/0/owner", "null", "indexes[0].owner", 0},
        {"predicate/spans/0/start", "1.5", "spans[0]", 0},
        {"predicate/spans/0/ownerCounts/public", "-2", "ownerCounts", 0},
        {"predicate/spans/0/documents/0/digest", "\"secret-document\"", "spans[0].documents[0]", 0},
        {"predicate/assurance", "\"certain\"", "assurance", 0},
        {"predicate/outputTokenIds/1", "8", "no subject has the digest", 1},
        {"predicate/promptTokenIds/1", "8", "promptTokenIds", 1},
        {"predicate/promptTokenCount", "4", "promptTokenIds", 1},
        {"predicate/spans/0/count", "\"1\"", "spans[0].count", 0},
        {"predicate/spans/0/count", "7", "but with its owners", 1},
        {"predicate/spans/0/documents/0/owner", "\"nobody\"", "with whom it does not occur", 1},
        {"predicate/spans/0/end", "5", "does not lie", 1},
        {"predicate/spans/0/start", "3", "does not lie", 1},
        {"predicate/experts/0/active", "false", "not active", 1},
        {"predicate/experts/1/active", "true", "'without' names", 1},
        {"predicate/routing/shares/1/share", "0.25", "took no part", 1},
        {"predicate/more", "{\"x\":1}", "", 1}, /* what is unknown is passed over */
    };
    json_t *trace = a_trace();
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        ft_buffer text = {0};
        ft_receipt r;
        ft_status st = {0};
        json_t *statement = statement_of(trace, 0, secret, &text);
        change(statement, all[i].path, all[i].json);
        ft_buffer_reset(&text);
        assert_int_equal(ft_json_write(statement, &text, NULL), FT_OK);
        const ft_code rc = read_payload(&text, FT_RECEIPT_PAYLOAD_TYPE, &r, &st);
        const char *said = all[i].contradiction ? r.contradiction : st.msg;
        if (rc != (all[i].contradiction ? FT_OK : FT_ERR_FORMAT) || !strstr(said, all[i].says) ||
            (!all[i].says[0] && said[0]))
            fail_msg("%s = %s: %s: '%s' '%s'", all[i].path, all[i].json, ft_code_name(rc), st.msg, r.contradiction);
        ft_receipt_release(&r);
        json_decref(statement);
        ft_buffer_release(&text);
    }
    json_decref(trace);
}

static void other_statements_are_read_as_far_as_they_go(void **state)
{
    (void)state;
    static const char text[] =
        "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{\"name\":\"index\",\"digest\":{\"sha256\":"
        "\"0000000000000000000000000000000000000000000000000000000000000000\"}}],\"predicateType\":\"urn:x:y\","
        "\"predicate\":{}}";
    ft_buffer b = {.data = (char *)(uintptr_t)text, .size = sizeof(text) - 1};
    ft_receipt r;
    ft_status st = {0};
    assert_ok(read_payload(&b, FT_RECEIPT_PAYLOAD_TYPE, &r, &st), st);
    assert_false(r.is_generation);
    assert_string_equal(r.type, "urn:x:y");
    ft_receipt_release(&r);
}

/* --- Memory --------------------------------------------------------------------------------- */

static void making_and_reading_survive_every_failed_allocation(void **state)
{
    (void)state;
    json_t *trace = a_trace();
    ft_signer *s = new_signer("memory.pem");
    int failed = 1;
    for (long k = 1; failed; k++) {
        ft_buffer text = {0};
        ft_envelope e = {0};
        ft_receipt r = {0};
        ft_status st = {0};
        const ft_receipt_options o = {.secret = secret};
        ft_test_fail_allocation(k);
        ft_code rc = ft_receipt_make(trace, &o, s, &text, &st);
        if (!rc)
            rc = ft_dsse_parse(&e, text.data, text.size, "here", &st);
        if (!rc)
            rc = ft_receipt_read(&r, &e, "here", &st);
        failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (failed ? rc != FT_ERR_MEM : rc != FT_OK)
            fail_msg("allocation %ld: %s: %s", k, ft_code_name(rc), st.msg);
        ft_receipt_release(&r);
        ft_envelope_release(&e);
        ft_buffer_release(&text);
    }
    ft_signer_close(s);
    json_decref(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_signs_as_the_rfc_says),
        cmocka_unit_test(a_new_key_is_its_owners_alone_and_never_overwrites),
        cmocka_unit_test(a_private_key_that_others_may_read_is_refused),
        cmocka_unit_test(what_is_no_key_is_refused_in_one_line),
        cmocka_unit_test(the_signed_bytes_are_those_of_the_specification),
        cmocka_unit_test(every_flipped_bit_of_payload_type_and_signature_is_rejected),
        cmocka_unit_test(what_stands_elsewhere_in_an_envelope_changes_nothing),
        cmocka_unit_test(both_alphabets_are_read_but_not_mixed_or_cut),
        cmocka_unit_test(base64_is_read_and_written_as_libsodium_does),
        cmocka_unit_test(a_malformed_envelope_gives_one_line),
        cmocka_unit_test(a_key_counts_once_however_often_it_signed),
        cmocka_unit_test(the_same_trace_gives_the_same_bytes_and_hides_documents),
        cmocka_unit_test(a_redacted_trace_has_no_receipt),
        cmocka_unit_test(a_statement_is_read_back),
        cmocka_unit_test(a_statement_of_another_form_or_against_itself_is_told),
        cmocka_unit_test(other_statements_are_read_as_far_as_they_go),
        cmocka_unit_test(making_and_reading_survive_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
