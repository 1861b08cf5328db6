/* What text/pattern_internal.h promises, against the regular expressions that it
 * stands for; and that a tokenizer answers the same by either way. */
#include "tests/ft_test.h"

#include "base/ft_buffer.h"
#include "base/ft_json.h"
#include "base/ft_random.h"
#include "base/ft_utf8.h"
#include "text/ft_tokenizer.h"
#include "text/pattern_internal.h"
#include "text/regex_internal.h"

enum { MOST = 4096 };

typedef struct pair { /* one pattern, both ways */
    ft_cutter *cutter;
    ft_regex *regex;
    ft_matcher *matcher;
} pair;

static const char *const patterns[] = {ft_pattern_cl100k, ft_pattern_qwen2, ft_pattern_gpt2};
enum { PATTERNS = sizeof(patterns) / sizeof(patterns[0]) };

static pair open_pair(const char *pattern)
{
    pair p;
    ft_status st = {0};
    assert_ok(ft_cutter_new(&p.cutter, pattern, strlen(pattern), &st), st);
    assert_non_null(p.cutter);
    assert_ok(ft_regex_compile(&p.regex, pattern, strlen(pattern), "test", &st), st);
    assert_ok(ft_matcher_new(&p.matcher, &st), st);
    return p;
}

static void close_pair(pair *p)
{
    ft_cutter_free(p->cutter);
    ft_regex_free(p->regex);
    ft_matcher_free(p->matcher);
}

/* The text stands alone on the heap, so that a read beyond it is found out. */
static void compare(const pair *p, const char *bytes, size_t n, size_t most)
{
    static uint32_t ours[2 * MOST];
    char *text = malloc(n + !n);
    memcpy(text, bytes, n);
    size_t count = 0, start, end, done = 0, seen = 0;
    for (size_t at = 0; at < n; at = ours[count - 1]) {
        const size_t cut = ft_cutter_cut(p->cutter, text, at, n, ours + count, most);
        assert_in_range(cut, 1, most);
        count += cut;
    }
    assert_int_equal(ft_cutter_cut(p->cutter, text, n, n, ours + count, most), 0);
    assert_int_equal(ft_matcher_start(p->matcher, p->regex, text, n, NULL), FT_OK);
    while (ft_matcher_next(p->matcher, &start, &end, NULL) == FT_OK) {
        assert_int_equal(start, done);
        if (seen == count || ours[seen] != end)
            fail_msg("piece %zu of '%.*s' ends at %zu, not at %d", seen, (int)n, text, end,
                     seen < count ? (int)ours[seen] : -1);
        seen++;
        done = end;
    }
    assert_int_equal(done, n);
    assert_int_equal(seen, count);
    free(text);
}

/* One of each class, and of all that the patterns name; runs; random code points. */
static void append_something(ft_random *r, ft_buffer *out, int ascii)
{
    static const char *const parts[] = {"a",
                                        "E",
                                        "word",
                                        " ",
                                        " ",
                                        "  ",
                                        "'",
                                        "'s",
                                        "'LL",
                                        "re",
                                        "'vE",
                                        "t",
                                        "1",
                                        "123",
                                        "(",
                                        "-",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "\v",
                                        "\x1c",
                                        "\x7f",
                                        "\xC5\xBF",
                                        "\xC2\xA0",
                                        "\xC2\x85",
                                        "\xC3\xA9",
                                        "\xCC\x81",
                                        "\xD9\xA3",
                                        "\xC2\xBD",
                                        "\xE2\x84\xAA",
                                        "\xE2\x80\xA8",
                                        "\xE2\x80\x99",
                                        "\xE4\xB8\xAD",
                                        "\xF0\x9F\x98\x80",
                                        "\xF0\x9D\x9F\x98"};
    static const uint32_t limits[] = {0x80, 0x300, 0x3000, 0x10000, 0x20000, 0x110000};
    const char *part = parts[ft_random_below(r, sizeof(parts) / sizeof(parts[0]))];
    if (ascii && part[0] & 0x80)
        return;
    if (ft_random_below(r, 20) == 0) {
        assert_int_equal(ft_buffer_append(out, "\0\0\0", 1 + ft_random_below(r, 3), NULL), FT_OK);
        return;
    }
    if (!ascii && ft_random_below(r, 8) == 0) {
        assert_int_equal(ft_utf8_append(out, (uint32_t)ft_random_below(r, limits[ft_random_below(r, 6)]), NULL), FT_OK);
        return;
    }
    for (uint64_t times = ft_random_below(r, 8) ? 1 : 1 + ft_random_below(r, 80); times > 0; times--)
        assert_int_equal(ft_buffer_append_str(out, part, NULL), FT_OK);
}

static void make_text(ft_random *r, ft_buffer *out, uint64_t most_parts)
{
    const int ascii = ft_random_below(r, 3) != 0;
    ft_buffer_reset(out);
    assert_int_equal(ft_buffer_reserve(out, 1, NULL), FT_OK);
    for (uint64_t parts = ft_random_below(r, most_parts); parts > 0 && out->size < MOST / 2; parts--)
        append_something(r, out, ascii);
}

static void random_text_is_cut_as_the_regular_expression_cuts_it(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 5);
    ft_buffer text = {0};
    for (size_t i = 0; i < PATTERNS; i++) {
        pair p = open_pair(patterns[i]);
        for (int round = 0; round < 60000; round++) {
            make_text(&r, &text, round % 4 ? 12 : 150);
            compare(&p, text.data, text.size, round % 5 ? 256 : 1 + ft_random_below(&r, 140));
        }
        close_pair(&p);
    }
    ft_buffer_release(&text);
}

/* All strings of up to six characters over one of each class that ASCII has. */
static void short_text_is_cut_as_the_regular_expression_cuts_it(void **state)
{
    (void)state;
    static const char alphabet[] = {'s', 'L', '1', ' ', '\t', '\n', '\'', '.'};
    for (size_t i = 0; i < PATTERNS; i++) {
        pair p = open_pair(patterns[i]);
        for (unsigned n = 1; n <= 6; n++)
            for (unsigned code = 0; code < 1u << 3 * n; code++) {
                char text[6];
                for (unsigned k = 0; k < n; k++)
                    text[k] = alphabet[code >> 3 * k & 7];
                compare(&p, text, n, 256);
            }
        close_pair(&p);
    }
}

/* Every code point beside a letter, an apostrophe, a digit, a space, a line end and another. */
static void every_character_has_the_class_that_the_regular_expression_gives_it(void **state)
{
    (void)state;
    ft_buffer text = {0}, one = {0};
    for (size_t i = 0; i < PATTERNS; i++) {
        pair p = open_pair(patterns[i]);
        for (uint32_t c = 0; c <= 0x10FFFF; c += c >= 0x32400 && c < 0xE0000 ? 97 : 1) {
            if (c >= 0xD800 && c < 0xE000)
                continue;
            ft_buffer_reset(&text);
            ft_buffer_reset(&one);
            int bad = ft_utf8_append(&one, c, NULL);
            static const char *const around[] = {"a", "'", "1", " ", "\n", ".", "'l"};
            for (size_t k = 0; k < sizeof(around) / sizeof(around[0]); k++) {
                bad |= ft_buffer_append_str(&text, around[k], NULL);
                bad |= ft_buffer_append(&text, one.data, one.size, NULL);
            }
            assert_int_equal(bad, FT_OK);
            compare(&p, text.data, text.size, 256);
        }
        close_pair(&p);
    }
    ft_buffer_release(&text);
    ft_buffer_release(&one);
}

static void other_patterns_are_left_to_the_regular_expression(void **state)
{
    (void)state;
    static const char *const others[] = {"", "\\s+", "(?:x)", " "};
    ft_cutter *c;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(ft_cutter_new(&c, others[i], strlen(others[i]), NULL), FT_OK);
        assert_null(c);
    }
    assert_int_equal(ft_cutter_new(&c, ft_pattern_gpt2, strlen(ft_pattern_gpt2) - 1, NULL), FT_OK);
    assert_null(c);
}

/* --- Tokenizers both ways ------------------------------------------------------------ */

static const char *const names[] = {"dolma2", "bytebpe-4k"};
enum { NAMES = 2 };

/* The same tokenizer with its pattern in a group, which is none of those known by heart. */
static const char *write_with_regex(const char *path)
{
    json_t *root;
    ft_status st = {0};
    assert_ok(ft_json_read_file(&root, path, (size_t)1 << 28, &st), st);
    const json_t *list = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    const char *pattern =
        json_string_value(json_object_get(json_object_get(json_array_get(list, 0), "pattern"), "Regex"));
    ft_buffer grouped = {0};
    assert_int_equal(ft_buffer_printf(&grouped, NULL, "(?:%s)", pattern ? pattern : ft_pattern_gpt2), FT_OK);
    json_object_set_new(root, "pre_tokenizer",
                        json_pack("{s:s,s:[{s:s,s:{s:s},s:s,s:b},{s:s,s:b,s:b,s:b}]}", "type", "Sequence",
                                  "pretokenizers", "type", "Split", "pattern", "Regex", grouped.data, "behavior",
                                  "Isolated", "invert", 0, "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets",
                                  1, "use_regex", 0));
    char *text = json_dumps(root, JSON_COMPACT);
    const char *written = ft_test_write("regex.json", text, strlen(text));
    free(text);
    ft_buffer_release(&grouped);
    json_decref(root);
    return written;
}

typedef struct both {
    ft_tokenizer *fast, *slow;
    ft_encoder *with_fast, *with_slow;
    ft_encoding got, ids, want;
} both;

static both open_both(const char *name)
{
    both b = {0};
    char path[100];
    ft_status st = {0};
    snprintf(path, sizeof(path), "tokenizers/%s/tokenizer.json", name);
    assert_ok(ft_tokenizer_open(&b.fast, ft_test_shared(path), &st), st);
    assert_ok(ft_tokenizer_open(&b.slow, write_with_regex(ft_test_shared(path)), &st), st);
    assert_ok(ft_encoder_new(&b.with_fast, b.fast, &st), st);
    assert_ok(ft_encoder_new(&b.with_slow, b.slow, &st), st);
    return b;
}

static void close_both(both *b)
{
    ft_encoding_release(&b->got);
    ft_encoding_release(&b->ids);
    ft_encoding_release(&b->want);
    ft_encoder_free(b->with_fast);
    ft_encoder_free(b->with_slow);
    ft_tokenizer_close(b->fast);
    ft_tokenizer_close(b->slow);
}

static void expect_same(both *b, const char *bytes, size_t n)
{
    char *text = malloc(n + !n);
    memcpy(text, bytes, n);
    ft_status st = {0};
    assert_ok(ft_encoder_encode(b->with_fast, text, n, &b->got, &st), st);
    assert_ok(ft_encoder_encode_ids(b->with_fast, text, n, &b->ids, &st), st);
    assert_ok(ft_encoder_encode(b->with_slow, text, n, &b->want, &st), st);
    const size_t count = b->want.count;
    if (b->got.count != count || b->ids.count != count)
        fail_msg("%zu and %zu tokens, not %zu: '%.*s'", b->got.count, b->ids.count, count, (int)n, text);
    for (size_t i = 0; i < count; i++)
        if (b->got.ids[i] != b->want.ids[i] || b->ids.ids[i] != b->want.ids[i] ||
            b->got.starts[i] != b->want.starts[i] || b->got.ends[i] != b->want.ends[i])
            fail_msg("token %zu is %u [%zu,%zu], not %u [%zu,%zu]: '%.*s'", i, b->got.ids[i], b->got.starts[i],
                     b->got.ends[i], b->want.ids[i], b->want.starts[i], b->want.ends[i], (int)n, text);
    free(text);
}

static void random_text_gets_the_same_tokens_by_either_way(void **state)
{
    (void)state;
    ft_test_need("tokenizers/dolma2/tokenizer.json");
    static const char *const special[] = {"<|endoftext|>", "|||EMAIL_ADDRESS|||", "<|im_start|>", "<|", "|", "\xFF",
                                          "\xE2\x82",      "\xF0\x9F\x98"};
    ft_random r;
    ft_random_init(&r, 9);
    ft_buffer text = {0}, part = {0};
    for (size_t i = 0; i < NAMES; i++) {
        both b = open_both(names[i]);
        for (int round = 0; round < 6000; round++) {
            ft_buffer_reset(&text);
            for (uint64_t parts = ft_random_below(&r, 4); parts > 0; parts--) {
                make_text(&r, &part, 20);
                int bad = ft_buffer_append(&text, part.data, part.size, NULL);
                if (ft_random_below(&r, 2))
                    bad |= ft_buffer_append_str(&text, special[ft_random_below(&r, 8)], NULL);
                assert_int_equal(bad, FT_OK);
            }
            expect_same(&b, text.data ? text.data : "", text.size);
        }
        close_both(&b);
    }
    ft_buffer_release(&text);
    ft_buffer_release(&part);
}

static void golden_text_gets_the_same_tokens_by_either_way(void **state)
{
    (void)state;
    ft_test_need("golden/tokenizer/dolma2.jsonl");
    for (size_t i = 0; i < NAMES; i++) {
        both b = open_both(names[i]);
        char path[100];
        size_t n;
        snprintf(path, sizeof(path), "golden/tokenizer/%s.jsonl", names[i]);
        char *rows = ft_test_read(ft_test_shared(path), &n);
        assert_non_null(rows);
        for (char *line = strtok(rows, "\n"); line; line = strtok(NULL, "\n")) {
            json_t *row;
            assert_int_equal(ft_json_parse(&row, line, strlen(line), path, NULL), FT_OK);
            const json_t *text = json_object_get(row, "text");
            expect_same(&b, json_string_value(text), json_string_length(text));
            json_decref(row);
        }
        /* And the file itself, as one text. */
        free(rows);
        rows = ft_test_read(ft_test_shared(path), &n);
        expect_same(&b, rows, n);
        free(rows);
        close_both(&b);
    }
}

/* "abc" is an entry, made of "ab" and "c"; but "bc" merges first, and then nothing does. So the
 * vocabulary must not answer for merging: neither the first time, nor from the cache. */
static void an_entry_that_merging_does_not_give_is_not_given(void **state)
{
    (void)state;
    ft_buffer file = {0};
    int bad = ft_buffer_append_str(&file,
                                   "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                                   "\"trim_offsets\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
                                   "\"model\":{\"type\":\"BPE\",\"merges\":[\"b c\",\"a b\",\"ab c\"],\"vocab\":{",
                                   NULL);
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        const int itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
        bad |= ft_buffer_printf(&file, NULL, "\"\\u%04x\":%u,", itself ? byte : next++, byte);
    }
    bad |= ft_buffer_append_str(&file, "\"bc\":256,\"ab\":257,\"abc\":258}}}", NULL);
    assert_int_equal(bad, FT_OK);
    ft_tokenizer *t;
    ft_encoder *e;
    ft_encoding got = {0};
    ft_status st = {0};
    assert_ok(ft_tokenizer_open(&t, ft_test_write("abc.json", file.data, file.size), &st), st);
    assert_ok(ft_encoder_new(&e, t, &st), st);
    for (int round = 0; round < 3; round++) {
        assert_ok(ft_encoder_encode(e, "abc'abc,ab", 10, &got, &st), st);
        static const uint32_t want[] = {'a', 256, '\'', 'a', 256, ',', 257};
        assert_int_equal(got.count, 7);
        assert_memory_equal(got.ids, want, sizeof(want));
    }
    ft_encoding_release(&got);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
    ft_buffer_release(&file);
}

/* More words than the cache holds, each of them again and again: the answer is that of a new encoder. */
static void the_cache_never_changes_an_answer(void **state)
{
    (void)state;
    ft_test_need("tokenizers/dolma2/tokenizer.json");
    ft_tokenizer *t;
    ft_encoder *used, *fresh;
    ft_encoding got = {0}, want = {0};
    ft_status st = {0};
    ft_random r;
    ft_random_init(&r, 21);
    assert_ok(ft_tokenizer_open(&t, ft_test_shared("tokenizers/dolma2/tokenizer.json"), &st), st);
    assert_ok(ft_encoder_new(&used, t, &st), st);
    for (int round = 0; round < 40; round++) {
        ft_buffer text = {0};
        for (int word = 0; word < 12000; word++) {
            char letters[40];
            const size_t n = 1 + ft_random_below(&r, word % 50 ? 9 : 39);
            for (size_t i = 0; i < n; i++)
                letters[i] = "etaoinshrdlcum. '"[ft_random_below(&r, 17)];
            assert_int_equal(ft_buffer_append(&text, letters, n, NULL), FT_OK);
        }
        assert_ok(ft_encoder_new(&fresh, t, &st), st);
        assert_ok(ft_encoder_encode(used, text.data, text.size, &got, &st), st);
        assert_ok(ft_encoder_encode(fresh, text.data, text.size, &want, &st), st);
        assert_int_equal(got.count, want.count);
        assert_memory_equal(got.ids, want.ids, want.count * sizeof(*want.ids));
        assert_memory_equal(got.starts, want.starts, want.count * sizeof(*want.starts));
        assert_memory_equal(got.ends, want.ends, want.count * sizeof(*want.ends));
        ft_encoder_free(fresh);
        ft_buffer_release(&text);
    }
    ft_encoding_release(&got);
    ft_encoding_release(&want);
    ft_encoder_free(used);
    ft_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_text_is_cut_as_the_regular_expression_cuts_it),
        cmocka_unit_test(random_text_is_cut_as_the_regular_expression_cuts_it),
        cmocka_unit_test(every_character_has_the_class_that_the_regular_expression_gives_it),
        cmocka_unit_test(other_patterns_are_left_to_the_regular_expression),
        cmocka_unit_test(random_text_gets_the_same_tokens_by_either_way),
        cmocka_unit_test(golden_text_gets_the_same_tokens_by_either_way),
        cmocka_unit_test(an_entry_that_merging_does_not_give_is_not_given),
        cmocka_unit_test(the_cache_never_changes_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
