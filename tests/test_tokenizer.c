/* What text/ft_tokenizer.h and text/ft_token_classes.h promise. */
#include "tests/ft_test.h"

#include "base/ft_buffer.h"
#include "base/ft_digest.h"
#include "base/ft_json.h"
#include "base/ft_random.h"
#include "base/ft_utf8.h"
#include "text/ft_token_classes.h"
#include "text/ft_tokenizer.h"

/* --- A small tokenizer, made here ------------------------------------------- */

#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":true}"
#define PLAIN_BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":false}"

/* tokenizer.json with all byte letters (ids 0 … 255 in order of the bytes) and
 * "he" 256, "ll" 257, "llo" 258, "hello" 259, "Ġw" 260; `parts` are further fields
 * of the file, `model` further fields of the model. */
static const char *write_tokenizer(const char *parts, const char *model)
{
    ft_buffer b = {0};
    int bad = ft_buffer_printf(
        &b, NULL, "{\"version\":\"1.0\",%s\"decoder\":" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\",%s", parts, model);
    bad |= ft_buffer_append_str(&b, "\"vocab\":{", NULL);
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        const int itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
        bad |= ft_buffer_printf(&b, NULL, "\"\\u%04x\":%u,", itself ? byte : next++, byte);
    }
    bad |= ft_buffer_append_str(&b,
                                "\"he\":256,\"ll\":257,\"llo\":258,\"hello\":259,\"\\u0120w\":260},"
                                "\"merges\":[\"h e\",\"l l\",\"ll o\",\"he llo\",\"\\u0120 w\"]}}",
                                NULL);
    assert_int_equal(bad, FT_OK);
    const char *path = ft_test_write("tokenizer.json", b.data, b.size);
    ft_buffer_release(&b);
    return path;
}

static ft_tokenizer *open_tokenizer(const char *path)
{
    ft_tokenizer *t;
    ft_status st = {0};
    assert_ok(ft_tokenizer_open(&t, path, &st), st);
    return t;
}

static ft_tokenizer *open_small(const char *parts)
{
    return open_tokenizer(write_tokenizer(parts, ""));
}

/* The ids of a text, as "1 2 3", with offsets as "1[0,5]" when asked for. */
static const char *ids_of(const ft_tokenizer *t, const char *text, int offsets)
{
    static char out[1024];
    ft_encoder *e;
    ft_encoding enc = {0};
    ft_status st = {0};
    assert_ok(ft_encoder_new(&e, t, &st), st);
    assert_ok(ft_encoder_encode(e, text, strlen(text), &enc, &st), st);
    out[0] = '\0';
    size_t n = 0;
    for (size_t i = 0; i < enc.count && n < sizeof(out) - 60; i++) {
        n += (size_t)snprintf(out + n, sizeof(out) - n, i ? " %u" : "%u", enc.ids[i]);
        if (offsets)
            n += (size_t)snprintf(out + n, sizeof(out) - n, "[%zu,%zu]", enc.starts[i], enc.ends[i]);
    }
    ft_encoding_release(&enc);
    ft_encoder_free(e);
    return out;
}

/* --- Agreement with the reference's answers ---------------------------------- */

static const char *const names[] = {"dolma2", "bytebpe-4k", "gpt4o-like-4k"};

static const char *shared_tokenizer(const char *name)
{
    char path[100];
    snprintf(path, sizeof(path), "tokenizers/%s/tokenizer.json", name);
    return ft_test_shared(path);
}

/* Calls check for every line of a file of JSON lines, as an object. */
static size_t each_row(const char *path, void (*check)(void *context, const json_t *row), void *context)
{
    size_t n, rows = 0;
    char *text = ft_test_read(path, &n);
    assert_non_null(text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *row;
        ft_status st = {0};
        assert_ok(ft_json_parse(&row, line, strlen(line), path, &st), st);
        check(context, row);
        json_decref(row);
        rows++;
    }
    free(text);
    return rows;
}

typedef struct golden {
    ft_tokenizer *t;
    ft_encoder *e;
    ft_encoding enc;
} golden;

static golden open_golden(const char *name)
{
    golden g = {.t = open_tokenizer(shared_tokenizer(name))};
    ft_status st = {0};
    assert_ok(ft_encoder_new(&g.e, g.t, &st), st);
    return g;
}

static void close_golden(golden *g)
{
    ft_encoding_release(&g->enc);
    ft_encoder_free(g->e);
    ft_tokenizer_close(g->t);
}

static void expect_ids(const golden *g, const json_t *ids, const char *text)
{
    if (g->enc.count != json_array_size(ids))
        fail_msg("%zu tokens, not %zu: %.200s", g->enc.count, json_array_size(ids), text);
    for (size_t i = 0; i < g->enc.count; i++)
        if ((json_int_t)g->enc.ids[i] != json_integer_value(json_array_get(ids, i)))
            fail_msg("token %zu is %u: %.200s", i, g->enc.ids[i], text);
}

static void expect_decoded(const golden *g, const json_t *ids, unsigned flags, const json_t *want)
{
    uint32_t list[4096];
    ft_buffer text = {0};
    const size_t count = json_array_size(ids);
    assert_true(count <= 4096);
    for (size_t i = 0; i < count; i++)
        list[i] = (uint32_t)json_integer_value(json_array_get(ids, i));
    assert_int_equal(ft_tokenizer_decode(g->t, list, count, flags, &text, NULL), FT_OK);
    assert_int_equal(text.size, json_string_length(want));
    assert_memory_equal(text.data ? text.data : "", json_string_value(want), text.size);
    ft_buffer_release(&text);
}

static void check_row(void *context, const json_t *row)
{
    golden *g = context;
    const json_t *text = json_object_get(row, "text"), *ids = json_object_get(row, "ids");
    const json_t *offsets = json_object_get(row, "offsets"), *skipped = json_object_get(row, "decoded_skip_special");
    ft_status st = {0};
    assert_ok(ft_encoder_encode(g->e, json_string_value(text), json_string_length(text), &g->enc, &st), st);
    expect_ids(g, ids, json_string_value(text));
    for (size_t i = 0; i < g->enc.count; i++) {
        const json_t *pair = json_array_get(offsets, i);
        assert_true(g->enc.starts[i] <= g->enc.ends[i] && g->enc.ends[i] <= json_string_length(text));
        if (json_is_true(json_object_get(row, "nfc_changed")))
            continue; /* the reference loses track there */
        assert_int_equal(g->enc.starts[i], json_integer_value(json_array_get(pair, 0)));
        assert_int_equal(g->enc.ends[i], json_integer_value(json_array_get(pair, 1)));
    }
    expect_decoded(g, ids, 0, json_object_get(row, "decoded"));
    expect_decoded(g, ids, FT_DECODE_SKIP_SPECIAL, skipped ? skipped : json_object_get(row, "decoded"));
}

static void check_repeat(void *context, const json_t *row)
{
    golden *g = context;
    ft_buffer text = {0};
    const json_t *unit = json_object_get(row, "unit");
    for (json_int_t i = json_integer_value(json_object_get(row, "count")); i > 0; i--)
        assert_int_equal(ft_buffer_append(&text, json_string_value(unit), json_string_length(unit), NULL), FT_OK);
    ft_status st = {0};
    assert_ok(ft_encoder_encode(g->e, text.data, text.size, &g->enc, &st), st);
    const ft_digest digest = ft_digest_of(g->enc.ids, g->enc.count * sizeof(*g->enc.ids));
    char hex[FT_DIGEST_HEX];
    ft_digest_hex(&digest, hex);
    assert_string_equal(hex, json_string_value(json_object_get(row, "ids_sha256")));
    ft_buffer_release(&text);
}

static void every_golden_row_agrees_in_ids_offsets_and_decoded_text(void **state)
{
    (void)state;
    ft_test_need("golden/tokenizer/dolma2.jsonl");
    for (size_t i = 0; i < 3; i++) {
        char path[100];
        golden g = open_golden(names[i]);
        snprintf(path, sizeof(path), "golden/tokenizer/%s.jsonl", names[i]);
        assert_true(each_row(ft_test_shared(path), check_row, &g) > 1000);
        snprintf(path, sizeof(path), "golden/tokenizer/%s.repeat.jsonl", names[i]);
        assert_true(each_row(ft_test_shared(path), check_repeat, &g) > 10);
        close_golden(&g);
    }
}

static void check_invalid(void *context, const json_t *row)
{
    golden *all = context;
    golden *g = NULL;
    for (size_t i = 0; i < 3; i++)
        if (!strcmp(json_string_value(json_object_get(row, "tokenizer")), names[i]))
            g = &all[i];
    assert_non_null(g);
    const json_t *ids = json_object_get(row, "ids");
    if (strcmp(json_string_value(json_object_get(row, "kind")), "encode") != 0) {
        expect_decoded(g, ids, 0, json_object_get(row, "decoded"));
        return;
    }
    char bytes[4096];
    const char *hex = json_string_value(json_object_get(row, "bytes_hex"));
    const size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)strtoul((const char[]){hex[2 * i], hex[2 * i + 1], 0}, NULL, 16);
    ft_status st = {0};
    assert_ok(ft_encoder_encode(g->e, bytes, n, &g->enc, &st), st);
    expect_ids(g, ids, hex);
    for (size_t i = 0; i < g->enc.count; i++)
        assert_true(g->enc.starts[i] < g->enc.ends[i] && g->enc.ends[i] <= n);
}

static void invalid_utf8_is_replaced_as_the_golden_rows_say(void **state)
{
    (void)state;
    ft_test_need("golden/tokenizer/invalid_utf8.jsonl");
    golden all[3];
    for (size_t i = 0; i < 3; i++)
        all[i] = open_golden(names[i]);
    assert_true(each_row(ft_test_shared("golden/tokenizer/invalid_utf8.jsonl"), check_invalid, all) > 20);
    for (size_t i = 0; i < 3; i++)
        close_golden(&all[i]);
}

static void check_stream(void *context, const json_t *row)
{
    golden *all = context;
    golden *g = NULL;
    for (size_t i = 0; i < 3; i++)
        if (!strcmp(json_string_value(json_object_get(row, "tokenizer")), names[i]))
            g = &all[i];
    assert_non_null(g);
    ft_text_stream *s;
    ft_buffer out = {0};
    assert_int_equal(ft_text_stream_new(&s, g->t, 0, NULL), FT_OK);
    const json_t *ids = json_object_get(row, "ids"), *deltas = json_object_get(row, "deltas");
    for (size_t i = 0; i <= json_array_size(ids); i++) {
        const json_t *want = i < json_array_size(ids) ? json_array_get(deltas, i) : json_object_get(row, "flush");
        ft_buffer_reset(&out);
        if (i < json_array_size(ids))
            assert_int_equal(ft_text_stream_push(s, (uint32_t)json_integer_value(json_array_get(ids, i)), &out, NULL),
                             FT_OK);
        else
            assert_int_equal(ft_text_stream_flush(s, &out, NULL), FT_OK);
        assert_int_equal(out.size, json_string_length(want));
        assert_memory_equal(out.data ? out.data : "", json_string_value(want), out.size);
    }
    ft_buffer_release(&out);
    ft_text_stream_free(s);
}

static void a_stream_gives_the_golden_pieces(void **state)
{
    (void)state;
    ft_test_need("golden/tokenizer/streaming.jsonl");
    golden all[3];
    for (size_t i = 0; i < 3; i++)
        all[i] = open_golden(names[i]);
    assert_true(each_row(ft_test_shared("golden/tokenizer/streaming.jsonl"), check_stream, all) > 10);
    for (size_t i = 0; i < 3; i++)
        close_golden(&all[i]);
}

static void word_starts_of_dolma2_are_those_of_olmotrace(void **state)
{
    (void)state;
    ft_test_need("tokenizers/dolma2/bow_ids.txt");
    ft_tokenizer *t = open_tokenizer(ft_test_shared("tokenizers/dolma2/tokenizer.json"));
    ft_token_set made, read;
    ft_status st = {0};
    assert_ok(ft_token_set_word_starts(&made, t, &st), st);
    assert_ok(ft_token_set_read(&read, ft_test_shared("tokenizers/dolma2/bow_ids.txt"), &st), st);
    for (uint32_t id = 0; id < 100400; id++)
        if (ft_token_set_has(&made, id) != ft_token_set_has(&read, id))
            fail_msg("token %u", id);
    assert_int_equal(ft_tokenizer_end_of_text(t), 100257);
    ft_token_set_release(&made);
    ft_token_set_release(&read);
    ft_tokenizer_close(t);
}

/* --- What holds for every tokenizer ------------------------------------------- */

static void merges_apply_by_rank_and_offsets_are_bytes(void **state)
{
    (void)state;
    ft_tokenizer *t = open_small("\"pre_tokenizer\":" BYTE_LEVEL ",");
    assert_int_equal(ft_tokenizer_vocab_size(t), 261);
    assert_int_equal(ft_tokenizer_end_of_text(t), FT_NO_TOKEN);
    assert_string_equal(ids_of(t, "hello w", 1), "259[0,5] 260[5,7]");
    assert_string_equal(ids_of(t, "\xC3\xA9", 1), "195[0,2] 169[0,2]"); /* two tokens share one character */
    assert_string_equal(ids_of(t, "", 0), "");
    ft_tokenizer_close(t);
}

static void invalid_bytes_keep_their_place_in_the_offsets(void **state)
{
    (void)state;
    ft_tokenizer *t = open_small("\"pre_tokenizer\":" BYTE_LEVEL ",");
    assert_string_equal(ids_of(t, "h\xFFh", 1), "104[0,1] 239[1,2] 191[1,2] 189[1,2] 104[2,3]");
    ft_tokenizer_close(t);
}

#define ADDED(content, flags) "{\"id\":0,\"content\":\"" content "\"," flags "}"
#define FLAGS(w, l, r, n)                                                                                              \
    "\"single_word\":" w ",\"lstrip\":" l ",\"rstrip\":" r ",\"normalized\":" n ",\"special\":true"

static void added_tokens_strip_and_keep_to_single_words(void **state)
{
    (void)state;
    ft_tokenizer *t = open_small(
        "\"pre_tokenizer\":" BYTE_LEVEL
        ",\"added_tokens\":[" ADDED("<l>", FLAGS("false", "true", "false", "false")) "," ADDED(
            "<r>", FLAGS("false", "false", "true",
                         "false")) "," ADDED("<w>", FLAGS("true", "false", "false",
                                                          "false")) "," ADDED("<l>x", FLAGS("false", "false", "false",
                                                                                            "false")) "],");
    assert_string_equal(ids_of(t, "h \n<l>h", 1), "104[0,1] 261[1,6] 104[6,7]");
    assert_string_equal(ids_of(t, "h<r>  h", 1), "104[0,1] 262[1,6] 104[6,7]");
    assert_string_equal(ids_of(t, "<w>", 1), "263[0,3]");
    assert_string_equal(ids_of(t, "h<w>", 0), "104 60 119 62");
    assert_string_equal(ids_of(t, "<l>x", 1), "264[0,4]"); /* the longest */
    assert_int_equal(ft_tokenizer_token_id(t, "<r>"), 262);
    int special;
    size_t n;
    assert_memory_equal(ft_tokenizer_token_bytes(t, 263, &n, &special), "<w>", 3);
    assert_int_equal(special, 1);
    ft_tokenizer_close(t);
}

static void every_behaviour_of_split_cuts_as_documented(void **state)
{
    (void)state;
    /* "he" and "ll" merge only within one piece: so the ids show the cuts. */
    static const struct {
        const char *pattern, *behavior, *invert, *text, *ids;
    } cases[] = {
        {"-", "Removed", "false", "he-ll", "256 257"},     {"-", "Removed", "true", "he-ll", "45"},
        {"h", "Isolated", "false", "ehe", "101 104 101"},  {"h", "MergedWithNext", "false", "ehe", "101 256"},
        {"e", "Isolated", "false", "heh", "104 101 104"},  {"e", "MergedWithPrevious", "false", "heh", "256 104"},
        {"l", "Isolated", "false", "all", "97 108 108"},   {"l", "Contiguous", "false", "all", "97 257"},
        {"-", "Isolated", "true", "he-ll", "256 45 257"},  {"-", "MergedWithNext", "true", "-he-ll", "45 256 45 257"},
        {"e", "MergedWithNext", "true", "heh", "256 104"}, {"h", "MergedWithPrevious", "true", "heh", "256 104"},
        {"x", "Contiguous", "true", "all", "97 257"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char parts[600];
        snprintf(parts, sizeof(parts),
                 "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                 "{\"String\":\"%s\"},\"behavior\":\"%s\",\"invert\":%s}," PLAIN_BYTES "]},",
                 cases[i].pattern, cases[i].behavior, cases[i].invert);
        ft_tokenizer *t = open_small(parts);
        const char *got = ids_of(t, cases[i].text, 0);
        if (strcmp(got, cases[i].ids) != 0)
            fail_msg("%s at '%s', invert %s: %s, not %s", cases[i].behavior, cases[i].pattern, cases[i].invert, got,
                     cases[i].ids);
        ft_tokenizer_close(t);
    }
}

/* What one regular expression finds in "text", the pieces joined by '|'. */
static const char *matches_of(const char *regex, const char *text)
{
    static char out[256];
    char parts[600];
    snprintf(parts, sizeof(parts),
             "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
             "{\"Regex\":\"%s\"},\"behavior\":\"Removed\",\"invert\":true}," PLAIN_BYTES "]},",
             regex);
    ft_tokenizer *t = open_small(parts);
    ft_encoder *e;
    ft_encoding enc = {0};
    assert_int_equal(ft_encoder_new(&e, t, NULL), FT_OK);
    assert_int_equal(ft_encoder_encode(e, text, strlen(text), &enc, NULL), FT_OK);
    size_t n = 0, end = 0;
    for (size_t i = 0; i < enc.count; i++) { /* pieces of texts without merges: a gap shows only in the offsets */
        if (i && enc.starts[i] > end)
            out[n++] = '|';
        if (!i || enc.ends[i] > end)
            for (size_t k = !i || enc.starts[i] > end ? enc.starts[i] : end; k < enc.ends[i]; k++)
                out[n++] = text[k];
        end = enc.ends[i];
    }
    out[n] = '\0';
    ft_encoding_release(&enc);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
    return out;
}

/* Each answer is the reference's. */
static void regular_expressions_mean_what_oniguruma_takes_them_for(void **state)
{
    (void)state;
    assert_string_equal(matches_of("(?i:'s)", "'S-'\xC5\xBF-'x"), "'S|'\xC5\xBF");
    assert_string_equal(matches_of("a(?i)b|c", "aB-aC-B-c"), "aB|aC");
    assert_string_equal(matches_of("(?i:\\\\p{Lu})", "a-B"), "B");
    assert_string_equal(matches_of("(?i:[\\\\p{Lu}])", "a-B"), "a|B");
    assert_string_equal(matches_of("(?i:\xC3\x9F)", "\xC3\x9F-sS-s"), "\xC3\x9F|sS");
    assert_string_equal(matches_of("\\\\w", "\xC2\xB2-a"), "\xC2\xB2|a"); /* superscript two: outside brackets only */
    assert_string_equal(matches_of("[\\\\w]", "\xC2\xB2-a"), "a");
    assert_string_equal(matches_of("[a-d&&[^bc]]", "a-b-d"), "a|d");
    assert_string_equal(matches_of("a{2}?b", "ab-aab"), "b|aab"); /* (?:a{2})?, not a lazy one */
    assert_string_equal(matches_of(".", "\n-"), "-");
    assert_string_equal(matches_of("(?m:a.)", "a\n"), "a\n");
    assert_string_equal(matches_of("[^\\\\x{0}-\\\\x{10FFFF}]", "a"), "");
}

static void what_the_file_asks_for_and_we_lack_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *parts, *model, *message;
    } cases[] = {
        {"\"normalizer\":{\"type\":\"Nmt\"},", "", "normalizer 'Nmt'"},
        {"\"pre_tokenizer\":{\"type\":\"Metaspace\"},", "", "pre_tokenizer 'Metaspace'"},
        {"\"post_processor\":{\"type\":\"Strange\"},", "", "post_processor 'Strange'"},
        {"\"truncation\":{\"max_length\":5},", "", "'truncation'"},
        {"", "\"dropout\":0.1,", "model.dropout"},
        {"", "\"end_of_word_suffix\":\"</w>\",", "model.end_of_word_suffix '</w>'"},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a)\\\\1\"},\"behavior\":\"Isolated\","
         "\"invert\":false},",
         "", "a back reference"},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{Klingon}\"},\"behavior\":\"Isolated\","
         "\"invert\":false},",
         "", "\\p{Klingon}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ft_status st = {0};
        ft_tokenizer *t;
        assert_int_equal(ft_tokenizer_open(&t, write_tokenizer(cases[i].parts, cases[i].model), &st),
                         FT_ERR_UNSUPPORTED);
        assert_null(t);
        if (!strstr(st.msg, cases[i].message) || !strstr(st.msg, "tokenizer.json"))
            fail_msg("'%s' does not name '%s'", st.msg, cases[i].message);
    }
}

static void a_bad_vocabulary_gets_one_line_with_file_and_entry(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"{\"a\":0,\"b\":0},\"merges\":[]", "'a' and 'b' have the same id 0"},
        {"{\"a\":99999999},\"merges\":[]", "the id of 'a'"},
        {"{\"a\":-1},\"merges\":[]", "the id of 'a'"},
        {"{\"a\":0},\"merges\":[\"a x\"]", "entry 0 needs 'x'"},
        {"{\"a\":0},\"merges\":[\"a a\"]", "entry 0 needs 'aa'"},
        {"{\"a\":0},\"merges\":[\"a\"]", "entry 0 is neither"},
        {"{\"a\":0},\"merges\":[[\"a\",1]]", "entry 0 is neither"},
        {"[],\"merges\":[]", "model.vocab"},
        {"{\"a\":0},\"merges\":[],\"type\":5", "'type' must be a string"},
        {"{\"a\":0},\"merges\":[],\"fuse_unk\":1", "'fuse_unk' must be"},
        {"{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":5", "'type' must be a string"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char json[300];
        ft_status st = {0};
        ft_tokenizer *t;
        const int n =
            snprintf(json, sizeof(json), "{\"decoder\":" PLAIN_BYTES ",\"model\":{\"vocab\":%s}}", cases[i].json);
        assert_int_equal(ft_tokenizer_open(&t, ft_test_write("bad.json", json, (size_t)n), &st), FT_ERR_FORMAT);
        if (!strstr(st.msg, cases[i].message) || !strstr(st.msg, "bad.json") || strchr(st.msg, '\n'))
            fail_msg("'%s' does not say '%s'", st.msg, cases[i].message);
    }
    ft_status st = {0};
    ft_tokenizer *t;
    assert_int_equal(ft_tokenizer_open(&t, ft_test_path("absent.json"), &st), FT_ERR_NOT_FOUND);
}

/* A truncated file, or one with a byte changed, is refused or read; nothing else. */
static void damaged_files_never_crash(void **state)
{
    (void)state;
    size_t n;
    char *good =
        ft_test_read(write_tokenizer("\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":" BYTE_LEVEL ","
                                     "\"added_tokens\":[" ADDED("<r>", FLAGS("false", "false", "true", "true")) "],",
                                     ""),
                     &n);
    ft_random r;
    ft_random_init(&r, 7);
    for (int round = 0; round < 300; round++) {
        char *bytes = malloc(n);
        memcpy(bytes, good, n);
        size_t size = n;
        if (round % 3 == 0)
            size = ft_random_below(&r, n);
        for (int k = 0; k < round % 4; k++)
            bytes[ft_random_below(&r, n)] ^= (char)(1 << ft_random_below(&r, 8));
        ft_tokenizer *t;
        ft_status st = {0};
        if (ft_tokenizer_open(&t, ft_test_write("damaged.json", bytes, size), &st) == FT_OK)
            ids_of(t, "hello <r> world", 0);
        else
            assert_true(st.msg[0] != '\0');
        ft_tokenizer_close(t);
        free(bytes);
    }
    free(good);
}

/* Every byte of any text comes back, in pieces of every size. */
static void decoding_gives_back_random_text_whole_and_in_a_stream(void **state)
{
    (void)state;
    ft_tokenizer *t = open_small("\"pre_tokenizer\":" BYTE_LEVEL ",");
    ft_encoder *e;
    ft_text_stream *s;
    ft_encoding enc = {0};
    ft_random r;
    ft_random_init(&r, 11);
    assert_int_equal(ft_encoder_new(&e, t, NULL), FT_OK);
    assert_int_equal(ft_text_stream_new(&s, t, 0, NULL), FT_OK);
    for (int round = 0; round < 500; round++) {
        ft_buffer text = {0}, whole = {0}, streamed = {0};
        for (uint64_t k = ft_random_below(&r, 40); k > 0; k--) {
            const uint32_t limits[] = {0x80, 0x800, 0x10000, 0x110000};
            assert_int_equal(ft_utf8_append(&text, (uint32_t)ft_random_below(&r, limits[k % 4]), NULL), FT_OK);
        }
        assert_int_equal(ft_encoder_encode(e, text.data ? text.data : "", text.size, &enc, NULL), FT_OK);
        assert_int_equal(ft_tokenizer_decode(t, enc.ids, enc.count, 0, &whole, NULL), FT_OK);
        for (size_t i = 0; i < enc.count; i++)
            assert_int_equal(ft_text_stream_push(s, enc.ids[i], &streamed, NULL), FT_OK);
        assert_int_equal(ft_text_stream_flush(s, &streamed, NULL), FT_OK);
        assert_int_equal(whole.size, text.size);
        assert_int_equal(streamed.size, text.size);
        if (text.size) {
            assert_memory_equal(whole.data, text.data, text.size);
            assert_memory_equal(streamed.data, text.data, text.size);
        }
        ft_buffer_release(&text);
        ft_buffer_release(&whole);
        ft_buffer_release(&streamed);
    }
    ft_encoding_release(&enc);
    ft_text_stream_free(s);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
}

/* Long pieces go by the heap, short ones by scanning: both must agree with merging
 * by hand, the pair of lowest rank first, among equals the leftmost. */
static void long_and_short_pieces_merge_alike(void **state)
{
    (void)state;
    ft_tokenizer *t = open_small("\"pre_tokenizer\":" PLAIN_BYTES ",");
    static const uint32_t rules[5][3] = {
        {'h', 'e', 256}, {'l', 'l', 257}, {257, 'o', 258}, {256, 258, 259}, {' ', 'w', 260}};
    ft_encoder *e;
    ft_encoding enc = {0};
    ft_random r;
    ft_random_init(&r, 3);
    assert_int_equal(ft_encoder_new(&e, t, NULL), FT_OK);
    for (size_t n = 1; n < 200; n++) {
        char text[200];
        uint32_t ids[200];
        size_t count = n;
        for (size_t i = 0; i < n; i++)
            ids[i] = (unsigned char)(text[i] = "hello w"[ft_random_below(&r, 7)]);
        for (int rule = 0; rule < 5; rule++) /* a rule never makes a pair of an earlier one */
            for (size_t i = 0; i + 1 < count; i++)
                if (ids[i] == rules[rule][0] && ids[i + 1] == rules[rule][1]) {
                    ids[i] = rules[rule][2];
                    memmove(ids + i + 1, ids + i + 2, (count - i - 2) * sizeof(*ids));
                    count--;
                }
        assert_int_equal(ft_encoder_encode(e, text, n, &enc, NULL), FT_OK);
        assert_int_equal(enc.count, count);
        assert_memory_equal(enc.ids, ids, count * sizeof(*ids));
    }
    ft_encoding_release(&enc);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
}

static void a_pattern_that_backtracks_without_end_is_an_error(void **state)
{
    (void)state;
    ft_tokenizer *t = open_small("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a|a|aa)+(?!a|$)\"},"
                                 "\"behavior\":\"Isolated\",\"invert\":false},");
    ft_encoder *e;
    ft_encoding enc = {0};
    ft_status st = {0};
    char text[200];
    memset(text, 'a', sizeof(text));
    assert_int_equal(ft_encoder_new(&e, t, NULL), FT_OK);
    assert_int_equal(ft_encoder_encode(e, text, sizeof(text), &enc, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "does not come to an end"));
    ft_encoding_release(&enc);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
}

static void the_end_of_text_token_comes_from_the_file_beside(void **state)
{
    (void)state;
    const char *path = write_tokenizer("", "");
    static const struct {
        const char *config;
        uint32_t id;
    } cases[] = {
        {"{\"eos_token\":\"hello\"}", 259},
        {"{\"eos_token\":{\"content\":\"ll\"}}", 257},
        {"{\"eos_token\":null}", FT_NO_TOKEN},
    };
    for (size_t i = 0; i < 3; i++) {
        ft_test_write("tokenizer_config.json", cases[i].config, strlen(cases[i].config));
        ft_tokenizer *t = open_tokenizer(path);
        assert_int_equal(ft_tokenizer_end_of_text(t), cases[i].id);
        ft_tokenizer_close(t);
    }
    ft_test_write("tokenizer_config.json", "{\"eos_token\":\"nowhere\"}", 23);
    ft_tokenizer *t;
    ft_status st = {0};
    assert_int_equal(ft_tokenizer_open(&t, path, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "eos_token 'nowhere'"));
    remove(ft_test_path("tokenizer_config.json"));
}

/* Opening and encoding, with the k-th allocation failing: an error each time, nothing lost. */
static void every_failing_allocation_is_an_error_without_a_leak(void **state)
{
    (void)state;
    const char *path = write_tokenizer("\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":" BYTE_LEVEL
                                       ",\"added_tokens\":[" ADDED("<r>", FLAGS("false", "false", "true", "true")) "],",
                                       "");
    int failed = 1;
    for (long k = 1; failed; k += k < 60 ? 1 : 37) {
        ft_tokenizer *t = NULL;
        ft_encoder *e = NULL;
        ft_encoding enc = {0};
        ft_status st = {0};
        ft_test_fail_allocation(k);
        ft_code rc = ft_tokenizer_open(&t, path, &st);
        if (!rc)
            rc = ft_encoder_new(&e, t, &st);
        if (!rc)
            rc = ft_encoder_encode(e, "hello <r> e\xCC\x81 world", 18, &enc, &st);
        failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (!failed)
            assert_ok(rc, st);
        else if (rc != FT_ERR_MEM && rc != FT_OK && rc != FT_ERR_IO)
            fail_msg("allocation %ld: %s: %s", k, ft_code_name(rc), st.msg);
        ft_encoding_release(&enc);
        ft_encoder_free(e);
        ft_tokenizer_close(t);
    }
}

static void token_sets_hold_what_was_added(void **state)
{
    (void)state;
    ft_tokenizer *t = open_small("\"pre_tokenizer\":" BYTE_LEVEL ",");
    ft_token_set words, sentences, none, list;
    static const char *const ends[] = {"\n", "ll"};
    ft_status st = {0};
    assert_ok(ft_token_set_word_starts(&words, t, &st), st);
    assert_ok(ft_token_set_containing(&sentences, t, ends, 2, &st), st);
    for (uint32_t id = 0; id < 300; id++) {
        assert_int_equal(ft_token_set_has(&words, id), id == ' ' || id == '\n' || id == 260);
        assert_int_equal(ft_token_set_has(&sentences, id), id == '\n' || (id >= 257 && id <= 259));
    }
    assert_ok(ft_token_set_read(&list, ft_test_write("ids.txt", "5\n70000\n", 8), &st), st);
    assert_true(ft_token_set_has(&list, 5) && ft_token_set_has(&list, 70000) && !ft_token_set_has(&list, 6));
    assert_int_equal(ft_token_set_read(&none, ft_test_write("ids.txt", "5\nx\n", 4), &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "line 2"));
    assert_int_equal(ft_token_set_add(&list, UINT32_MAX, &st), FT_ERR_LIMIT);
    ft_token_set_release(&words);
    ft_token_set_release(&sentences);
    ft_token_set_release(&list);
    ft_tokenizer_close(t);
}

static void the_command_answers_one_line_for_each(void **state)
{
    (void)state;
    char command[1000], *out;
    snprintf(command, sizeof(command),
             "printf '%%s\\n' '{\"text\":\"hello\\u0000w\"}' '{\"text\":\"\\ud800\"}' 'no' '{\"text\":1}' | "
             "$FLEXTRACE tokenize -t %s",
             write_tokenizer("\"pre_tokenizer\":" BYTE_LEVEL ",", ""));
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    assert_non_null(strstr(out, "{\"ids\":[259,0,119],\"offsets\":[[0,5],[5,6],[6,7]]}\n{\"error\":"));
    size_t lines = 0;
    for (const char *p = out; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 4);
    free(out);
    snprintf(command, sizeof(command), "echo '{\"ids\":[259,195,99999,0]}' | $FLEXTRACE tokenize --decode -t %s",
             ft_test_path("tokenizer.json"));
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    assert_string_equal(out, "{\"text\":\"hello\xEF\xBF\xBD\\u0000\"}\n");
    free(out);
    assert_int_equal(ft_test_shell("$FLEXTRACE tokenize", NULL, NULL), 2);
    assert_int_equal(ft_test_shell("$FLEXTRACE tokenize -t /nowhere", NULL, NULL), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_golden_row_agrees_in_ids_offsets_and_decoded_text),
        cmocka_unit_test(invalid_utf8_is_replaced_as_the_golden_rows_say),
        cmocka_unit_test(a_stream_gives_the_golden_pieces),
        cmocka_unit_test(word_starts_of_dolma2_are_those_of_olmotrace),
        cmocka_unit_test(merges_apply_by_rank_and_offsets_are_bytes),
        cmocka_unit_test(invalid_bytes_keep_their_place_in_the_offsets),
        cmocka_unit_test(added_tokens_strip_and_keep_to_single_words),
        cmocka_unit_test(every_behaviour_of_split_cuts_as_documented),
        cmocka_unit_test(regular_expressions_mean_what_oniguruma_takes_them_for),
        cmocka_unit_test(what_the_file_asks_for_and_we_lack_is_named),
        cmocka_unit_test(a_bad_vocabulary_gets_one_line_with_file_and_entry),
        cmocka_unit_test(damaged_files_never_crash),
        cmocka_unit_test(decoding_gives_back_random_text_whole_and_in_a_stream),
        cmocka_unit_test(long_and_short_pieces_merge_alike),
        cmocka_unit_test(a_pattern_that_backtracks_without_end_is_an_error),
        cmocka_unit_test(the_end_of_text_token_comes_from_the_file_beside),
        cmocka_unit_test(every_failing_allocation_is_an_error_without_a_leak),
        cmocka_unit_test(token_sets_hold_what_was_added),
        cmocka_unit_test(the_command_answers_one_line_for_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
