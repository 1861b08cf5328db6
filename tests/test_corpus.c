/* What the corpus readers promise: every document in its order, and one clear line for whatever is none. */
#include "tests/ft_test.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "base/ft_json.h"
#include "text/ft_corpus.h"

#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

/* Documents as "id|text|metadata\n", then "!warning\n" for what was passed over, in order of appearance. */
typedef struct reading {
    ft_buffer out;
    ft_status st;
    ft_code rc;
    ft_corpus_counts counts;
} reading;

static void note(void *context, const char *message)
{
    ft_buffer *out = context;
    const char *name = strstr(message, ft_test_folder());
    if (name)
        message = name + strlen(ft_test_folder()) + 1;
    assert_int_equal(ft_buffer_printf(out, NULL, "!%s\n", message), FT_OK);
}

static reading read_corpus(const char *const *paths, size_t count, ft_corpus_options options)
{
    reading r = {0};
    ft_corpus *c;
    options.warn = note;
    options.warn_context = &r.out;
    assert_int_equal(ft_buffer_append(&r.out, "", 0, NULL), FT_OK);
    r.rc = ft_corpus_open(&c, paths, count, &options, &r.st);
    if (r.rc) {
        assert_null(c);
        return r;
    }
    int more = 1;
    ft_document d;
    while (!(r.rc = ft_corpus_next(c, &d, &more, &r.st)) && more) {
        assert_int_equal(strlen(d.metadata), d.metadata_bytes);
        assert_int_equal(ft_buffer_printf(&r.out, NULL, "%s|", d.id), FT_OK);
        assert_int_equal(ft_buffer_append(&r.out, d.text, d.text_bytes, NULL), FT_OK);
        assert_int_equal(ft_buffer_printf(&r.out, NULL, "|%s\n", d.metadata), FT_OK);
    }
    r.counts = ft_corpus_progress(c);
    ft_corpus_close(c);
    return r;
}

/* The corpus of one path, bad documents passed over, gives exactly `want`. */
static void gives(const char *path, const char *want)
{
    reading r = read_corpus(&path, 1, (ft_corpus_options){.skip_bad = 1});
    assert_ok(r.rc, r.st);
    assert_string_equal(r.out.data, want);
    ft_buffer_release(&r.out);
}

/* Without skip_bad the reader stops, and the message holds `want`. */
static void stops(const char *path, ft_code code, const char *want)
{
    reading r = read_corpus(&path, 1, (ft_corpus_options){0});
    if (r.rc != code || !strstr(r.st.msg, want))
        fail_msg("wanted %s with '%s', got %s: %s", ft_code_name(code), want, ft_code_name(r.rc), r.st.msg);
    ft_buffer_release(&r.out);
}

static const char *write_text(const char *name, const char *text)
{
    return ft_test_write(name, text, strlen(text));
}

static size_t gzip(const void *bytes, size_t n, unsigned char *to, size_t room)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)n;
    z.next_out = to;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    const size_t size = room - z.avail_out;
    deflateEnd(&z);
    return size;
}

/* A ustar member at `to`: header and padded content; its whole size is returned. */
static size_t tar_member(unsigned char *to, const char *name, const char *text, size_t claimed, char type)
{
    const size_t n = strlen(text);
    memset(to, 0, 512 + (n + 511) / 512 * 512);
    snprintf((char *)to, 100, "%s", name);
    snprintf((char *)to + 100, 8, "0000644");
    snprintf((char *)to + 108, 8, "0000000");
    snprintf((char *)to + 116, 8, "0000000");
    snprintf((char *)to + 124, 12, "%011o", (unsigned)claimed);
    snprintf((char *)to + 136, 12, "00000000000");
    to[156] = (unsigned char)type;
    memcpy(to + 257, "ustar\00000", 8);
    memset(to + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += to[i];
    snprintf((char *)to + 148, 8, "%06o", sum);
    memcpy(to + 512, text, n);
    return 512 + (n + 511) / 512 * 512;
}

/* ---- JSONL ------------------------------------------------------------ */

static void rows_keep_their_other_fields_byte_for_byte(void **state)
{
    (void)state;
    gives(write_text("a.jsonl", "{\"id\":\"x\",\"text\":\"one\"}\n"
                                "{\"n\": 1.10, \"text\":\"two\",\"o\":{\"id\":[1, {}]},\"id\":\"y\"}\n"),
          "x|one|{}\ny|two|{\"n\": 1.10,\"o\":{\"id\":[1, {}]}}\n");
}

static void numbers_that_64_bits_cannot_hold_are_kept_as_their_digits(void **state)
{
    (void)state;
    gives(write_text("a.jsonl",
                     "{\"text\":\"t\",\"h\":[18446744073709551615,-9223372036854775808],\"e\":1e999,\"f\":1e-9}\n"),
          "a.jsonl:1|t|{\"h\":[\"18446744073709551615\",-9223372036854775808],\"e\":\"1e999\",\"f\":1e-9}\n");
}

static void an_id_may_be_an_integer_and_is_made_from_file_and_line_when_absent(void **state)
{
    (void)state;
    gives(write_text("a.jsonl", "{\"id\":17,\"text\":\"a\"}\n\n{\"text\":\"b\"}\n{\"id\":null,\"text\":\"c\"}\n"
                                "{\"id\":\"\",\"text\":\"d\"}\n{\"id\":-3,\"text\":\"e\"}"),
          "17|a|{}\na.jsonl:3|b|{}\na.jsonl:4|c|{}\na.jsonl:5|d|{}\n-3|e|{}\n");
}

static void escapes_are_decoded(void **state)
{
    (void)state;
    const char *path = write_text("a.jsonl", "{\"\\u0074ext\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"}\n");
    gives(path, "a.jsonl:1|\"\\/\b\f\n\r\t\xC3\xA9\xF0\x9F\x98\x80|{}\n");
}

static void a_text_may_hold_nul(void **state)
{
    (void)state;
    const char *path = write_text("a.jsonl", "{\"text\":\"a\\u0000b\"}\n");
    ft_corpus *c;
    ft_status st;
    assert_ok(ft_corpus_open(&c, &path, 1, NULL, &st), st);
    ft_document d;
    int more;
    assert_ok(ft_corpus_next(c, &d, &more, &st), st);
    assert_int_equal(d.text_bytes, 3);
    assert_memory_equal(d.text, "a\0b", 3);
    assert_int_equal(d.line, 1);
    ft_corpus_close(c);
}

static void each_bad_row_is_named_with_file_and_line_and_the_others_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *row, *what;
    } rows[] = {
        {"{\"id\":\"x\"}", "no \"text\" field"},
        {"{\"text\":5}", "\"text\" must be a string"},
        {"{\"text\":null}", "\"text\" must be a string"},
        {"{\"text\":\"a\",\"text\":\"b\"}", "\"text\" stands twice"},
        {"{\"id\":1.5,\"text\":\"a\"}", "\"id\" must be a string or an integer"},
        {"{\"id\":[1],\"text\":\"a\"}", "\"id\" must be a string or an integer"},
        {"{\"id\":true,\"text\":\"a\"}", "\"id\" must be a string or an integer"},
        {"{\"id\":\"a\\u0000b\",\"text\":\"a\"}", "\"id\" holds a NUL"},
        {"{\"id\":\"a\",\"id\":\"b\",\"text\":\"a\"}", "\"id\" stands twice"},
        {"{\"text\":\"a\",\"m\":1,\"m\":2}", "duplicate object key"},
        {"{\"text\":\"a\\ud800\"}", "half a surrogate pair at byte 17"},
        {"{\"text\":\"a\\ud800\\u0041\"}", "half a surrogate pair"},
        {"{\"text\":\"a\\udc00\"}", "half a surrogate pair"},
        {"{\"text\":\"a\\x\"}", "unknown escape"},
        {"{\"text\":\"a\\u12g4\"}", "\\u without four digits"},
        {"{\"text\":\"a\x01\"}", "control character"},
        {"{\"text\":\"a", "string without its end"},
        {"{\"text\":\"a\"", "expected ',' or '}'"},
        {"{\"text\":\"a\"} x", "something behind the object"},
        {"{\"text\":\"a\",}", "expected a string"},
        {"{\"text\" \"a\"}", "expected ':'"},
        {"{\"text\":\"a\",\"m\":[1,]}", "expected a value"},
        {"{\"text\":\"a\",\"m\":[1 2]}", "expected ',' or ']'"},
        {"{\"text\":\"a\",\"m\":01}", "not a number"},
        {"{\"text\":\"a\",\"m\":-}", "not a number"},
        {"{\"text\":\"a\",\"m\":1.}", "not a number"},
        {"{\"text\":\"a\",\"m\":1e}", "not a number"},
        {"{\"text\":\"a\",\"m\":tru}", "expected a value"},
        {"[\"text\"]", "not a JSON object"},
        {"\"text\"", "not a JSON object"},
        {"text", "not a JSON object"},
        {"{\"text\":\"a\xFF\"}", "byte 11 is not UTF-8"},
        {"{\"text\":\"a\xED\xA0\x80\"}", "byte 11 is not UTF-8"},
    };
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    ft_buffer all = {0};
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(ft_buffer_printf(&all, NULL, "%s\n{\"text\":\"good\"}\n", rows[i].row), FT_OK);
    const char *path = ft_test_write("a.jsonl", all.data, all.size);
    reading r = read_corpus(&path, 1, (ft_corpus_options){.skip_bad = 1});
    assert_ok(r.rc, r.st);
    char *line = r.out.data;
    for (int i = 0; i < ROWS; i++) {
        char *end = strchr(line, '\n');
        *end = '\0';
        char place[32];
        snprintf(place, sizeof(place), "!a.jsonl:%d: ", 2 * i + 1);
        if (strncmp(line, place, strlen(place)) != 0 || !strstr(line, rows[i].what))
            fail_msg("row %d gave '%s', wanted '%s…%s'", i, line, place, rows[i].what);
        line = end + 1;
        end = strchr(line, '\n');
        *end = '\0';
        snprintf(place, sizeof(place), "a.jsonl:%d|good|{}", 2 * i + 2);
        assert_string_equal(line, place);
        line = end + 1;
    }
    assert_int_equal(r.counts.bad, ROWS);
    assert_int_equal(r.counts.documents, ROWS);
    assert_int_equal(r.counts.bytes, 4 * ROWS);
    ft_buffer_release(&r.out);
    ft_buffer_release(&all);
}

static void without_skipping_the_first_bad_row_stops_and_names_itself(void **state)
{
    (void)state;
    stops(write_text("a.jsonl", "{\"text\":\"a\"}\n{\"text\":5}\n"), FT_ERR_FORMAT,
          "a.jsonl:2: \"text\" must be a string");
}

static void deep_nesting_is_refused_not_followed(void **state)
{
    (void)state;
    ft_buffer b = {0};
    assert_int_equal(ft_buffer_append_str(&b, "{\"text\":\"a\",\"m\":", NULL), FT_OK);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(ft_buffer_append_str(&b, "[", NULL), FT_OK);
    stops(ft_test_write("a.jsonl", b.data, b.size), FT_ERR_FORMAT, "nested too deeply");
    ft_buffer_release(&b);
}

static void a_mark_crlf_and_a_missing_last_newline_change_nothing(void **state)
{
    (void)state;
    gives(write_text("a.jsonl", "\xEF\xBB\xBF{\"text\":\"a\\r\\n\"}\r\n\r\n  \t\r\n{\"text\":\"b\"}"),
          "a.jsonl:1|a\r\n|{}\na.jsonl:4|b|{}\n");
    gives(write_text("b.txt", "\xEF\xBB\xBF"
                              "one\r\ntwo\rthree\r\n\r\n"),
          "b.txt|one\ntwo\rthree\n\n|{}\n");
}

static void an_empty_file_is_an_empty_document_and_an_empty_jsonl_none(void **state)
{
    (void)state;
    gives(write_text("a.jsonl", ""), "");
    gives(write_text("a.txt", ""), "a.txt||{}\n");
    gives(write_text("a.html", "<p></p>"), "a.html||{}\n");
    gives(write_text("b.txt", "\xEF\xBB\xBF"), "b.txt||{}\n");
}

/* The line crosses many windows; it is refused at the limit and its neighbours are read. */
static void a_line_above_the_limit_is_bad_and_the_next_is_read(void **state)
{
    (void)state;
    enum { LARGE = 3 << 20 };
    ft_buffer b = {0};
    assert_int_equal(ft_buffer_append_str(&b, "{\"text\":\"first\"}\n{\"text\":\"", NULL), FT_OK);
    assert_int_equal(ft_buffer_reserve(&b, LARGE, NULL), FT_OK);
    memset(b.data + b.size, 'x', LARGE);
    b.size += LARGE;
    assert_int_equal(ft_buffer_append_str(&b, "\"}\n{\"text\":\"last\"}\n", NULL), FT_OK);
    const char *path = ft_test_write("a.jsonl", b.data, b.size);
    reading r = read_corpus(&path, 1, (ft_corpus_options){.skip_bad = 1, .max_document_bytes = 1 << 20});
    assert_ok(r.rc, r.st);
    assert_string_equal(r.out.data,
                        "a.jsonl:1|first|{}\n!a.jsonl:2: larger than the limit of 1048576 bytes a document\n"
                        "a.jsonl:3|last|{}\n");
    ft_buffer_release(&r.out);
    r = read_corpus(&path, 1, (ft_corpus_options){0});
    assert_ok(r.rc, r.st);
    assert_int_equal(r.counts.documents, 3);
    assert_int_equal(r.counts.bytes, 9 + LARGE);
    assert_int_equal(r.counts.input_bytes, b.size);
    assert_int_equal(r.counts.input_total, b.size);
    ft_buffer_release(&r.out);
    ft_test_write("a.txt", b.data, b.size);
    path = ft_test_path("a.txt");
    r = read_corpus(&path, 1, (ft_corpus_options){.max_document_bytes = 1 << 20});
    assert_int_equal(r.rc, FT_ERR_FORMAT);
    assert_non_null(strstr(r.st.msg, "a.txt: larger than the limit"));
    ft_buffer_release(&r.out);
    ft_buffer_release(&b);
}

/* Every length of line around the window's size, so that each split of a line over two reads occurs. */
static void lines_are_whole_wherever_the_window_ends(void **state)
{
    (void)state;
    enum { LINES = 3000 };
    ft_buffer b = {0};
    size_t want = 0;
    for (int i = 0; i < LINES; i++) {
        assert_int_equal(ft_buffer_printf(&b, NULL, "{\"text\":\"%0*d\"}\n", 1 + i * 7 % 1013, i), FT_OK);
        want += (size_t)(1 + i * 7 % 1013) > (i > 999  ? 4u
                                              : i > 99 ? 3u
                                              : i > 9  ? 2u
                                                       : 1u)
                    ? (size_t)(1 + i * 7 % 1013)
                    : (i > 999  ? 4u
                       : i > 99 ? 3u
                       : i > 9  ? 2u
                                : 1u);
    }
    const char *path = ft_test_write("a.jsonl", b.data, b.size);
    ft_corpus *c;
    ft_status st;
    assert_ok(ft_corpus_open(&c, &path, 1, NULL, &st), st);
    ft_document d;
    int more, i = 0;
    for (; ft_corpus_next(c, &d, &more, &st) == FT_OK && more; i++) {
        assert_int_equal(atoi(d.text), i);
        assert_int_equal(d.line, i + 1);
    }
    assert_int_equal(i, LINES);
    assert_int_equal(ft_corpus_progress(c).bytes, want);
    ft_corpus_close(c);
    ft_buffer_release(&b);
}

/* ---- folders and plain text ------------------------------------------- */

static void a_folder_is_read_in_byte_order_without_links_and_hidden_names(void **state)
{
    (void)state;
    ft_status st;
    assert_ok(ft_folder_make(ft_test_path("walk/sub/deep"), &st), st);
    assert_ok(ft_folder_make(ft_test_path("walk/.git"), &st), st);
    write_text("walk/b.txt", "b");
    write_text("walk/B.txt", "B");
    write_text("walk/sub/deep/z.jsonl", "{\"text\":\"z\"}\n");
    write_text("walk/sub.txt", "s");
    write_text("walk/.git/x", "no");
    write_text("walk/.hidden", "no");
    write_text("walk/README", "r");
    assert_int_equal(symlink("b.txt", ft_test_path("walk/link.txt")), 0);
    assert_int_equal(symlink("..", ft_test_path("walk/up")), 0);
    const char *want = "B.txt|B|{}\nREADME|r|{}\nb.txt|b|{}\nsub/deep/z.jsonl:1|z|{}\nsub.txt|s|{}\n";
    gives(ft_test_path("walk"), want);
    gives(ft_test_path("walk/"), want);
    gives(ft_test_path("walk/link.txt"), "link.txt|b|{}\n"); /* named, so meant */
    gives(ft_test_path("walk/.hidden"), ".hidden|no|{}\n");
}

static void several_operands_follow_one_another_and_a_missing_one_fails_at_once(void **state)
{
    (void)state;
    write_text("one.txt", "1");
    write_text("two.txt", "2");
    char *first = strdup(ft_test_path("one.txt")), *second = strdup(ft_test_path("two.txt"));
    const char *paths[] = {second, first, "/nowhere/at/all"};
    reading r = read_corpus(paths, 2, (ft_corpus_options){0});
    assert_ok(r.rc, r.st);
    assert_string_equal(r.out.data, "two.txt|2|{}\none.txt|1|{}\n");
    ft_buffer_release(&r.out);
    r = read_corpus(paths, 3, (ft_corpus_options){.skip_bad = 1});
    assert_int_equal(r.rc, FT_ERR_NOT_FOUND);
    assert_non_null(strstr(r.st.msg, "/nowhere/at/all"));
    ft_buffer_release(&r.out);
    free(first);
    free(second);
}

static void what_is_no_text_is_named_with_its_line(void **state)
{
    (void)state;
    gives(ft_test_write("a.bin",
                        "\x7F"
                        "ELF\0\1\2",
                        7),
          "!a.bin:1: byte 5 is NUL: not a text\n");
    gives(write_text("b.txt", "fine\nfine\nab\xE9\n"), "!b.txt:3: byte 3 is not UTF-8\n");
    gives(ft_test_write("c.txt",
                        "\xFF\xFE"
                        "a\0",
                        4),
          "!c.txt: UTF-16, not UTF-8; convert it with iconv\n");
    gives(ft_test_write("d.txt", "a\0b\0", 4), "!d.txt:1: byte 2 is NUL: not a text\n");
    stops(ft_test_path("b.txt"), FT_ERR_FORMAT, "b.txt:3: byte 3 is not UTF-8");
    gives(write_text("e.html", "<p>a\xFF</p>"), "!e.html:1: byte 5 is not UTF-8\n");
}

static void a_file_that_vanished_or_is_forbidden_is_reported_and_passed_over(void **state)
{
    (void)state;
    ft_status st;
    assert_ok(ft_folder_make(ft_test_path("gone"), &st), st);
    write_text("gone/a.txt", "a");
    write_text("gone/b.txt", "b");
    const char *path = ft_test_path("gone");
    ft_corpus *c;
    assert_ok(ft_corpus_open(&c, &path, 1, &(ft_corpus_options){.skip_bad = 1}, &st), st);
    assert_int_equal(remove(ft_test_path("gone/a.txt")), 0);
    ft_document d;
    int more;
    assert_ok(ft_corpus_next(c, &d, &more, &st), st);
    assert_string_equal(d.id, "b.txt");
    assert_int_equal(ft_corpus_progress(c).bad, 1);
    ft_corpus_close(c);
}

/* ---- compression and tar ---------------------------------------------- */

static const char two_rows[] = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n";

static void gzip_of_several_members_reads_as_one_file(void **state)
{
    (void)state;
    unsigned char z[1024];
    size_t n = gzip("{\"text\":\"fir", 12, z, sizeof(z));
    n += gzip("", 0, z + n, sizeof(z) - n);
    n += gzip("st\"}\n{\"text\":\"second\"}\n", 23, z + n, sizeof(z) - n);
    gives(ft_test_write("a.jsonl.gz", z, n), "a.jsonl.gz:1|first|{}\na.jsonl.gz:2|second|{}\n");
    memset(z + n, 0, 100); /* padded, as by a tape drive */
    gives(ft_test_write("a.jsonl.gz", z, n + 100), "a.jsonl.gz:1|first|{}\na.jsonl.gz:2|second|{}\n");
    z[n + 50] = 'x';
    gives(
        ft_test_write("a.jsonl.gz", z, n + 100),
        "a.jsonl.gz:1|first|{}\na.jsonl.gz:2|second|{}\n!a.jsonl.gz: other bytes after the gzip data, behind line 2\n");
}

static void zstd_of_several_frames_reads_as_one_file(void **state)
{
    (void)state;
    char z[1024];
    size_t n = ZSTD_compress(z, sizeof(z), "one ", 4, 3);
    n += ZSTD_compress(z + n, sizeof(z) - n, "two", 3, 3);
    gives(ft_test_write("a.txt.zst", z, n), "a.txt.zst|one two|{}\n");
}

/* Every shorter file is refused, and no half document comes out of it. */
static void a_compressed_file_cut_anywhere_gives_no_half_document(void **state)
{
    (void)state;
    unsigned char z[512];
    const size_t n = gzip(two_rows, strlen(two_rows), z, sizeof(z));
    char s[512];
    const size_t m = ZSTD_compress(s, sizeof(s), "a text", 6, 3);
    for (size_t cut = 0; cut < n; cut++) {
        const char *path = ft_test_write("a.jsonl.gz", z, cut);
        reading r = read_corpus(&path, 1, (ft_corpus_options){.skip_bad = 1});
        assert_ok(r.rc, r.st);
        assert_int_equal(r.counts.bad, 1);
        assert_non_null(strstr(r.out.data, "!a.jsonl.gz: the gzip data is cut off"));
        ft_buffer_release(&r.out);
    }
    for (size_t cut = 0; cut < m; cut++)
        gives(ft_test_write("a.txt.zst", s, cut), "!a.txt.zst: the zstd data is cut off\n");
}

static void a_flipped_bit_in_gzip_is_found(void **state)
{
    (void)state;
    unsigned char z[512];
    const size_t n = gzip("some text, some more text", 25, z, sizeof(z));
    for (size_t at = 10; at < n; at++) { /* behind the header, whose time and flags mean nothing here */
        z[at] ^= 0x10;
        const char *path = ft_test_write("a.txt.gz", z, n);
        reading r = read_corpus(&path, 1, (ft_corpus_options){0});
        assert_int_equal(r.rc, FT_ERR_FORMAT);
        assert_int_equal(r.out.size, 0);
        ft_buffer_release(&r.out);
        z[at] ^= 0x10;
    }
    stops(write_text("b.txt.gz", "not gzip at all"), FT_ERR_FORMAT, "b.txt.gz: not sound gzip data");
    stops(write_text("b.txt.zst", "not zstd at all"), FT_ERR_FORMAT, "b.txt.zst: not sound zstd data");
}

static void a_tar_gives_what_its_folder_would(void **state)
{
    (void)state;
    static unsigned char tar[16384], z[16384];
    size_t n = tar_member(tar, "./d/", "", 0, '5');
    n += tar_member(tar + n, "./d/rows.jsonl", two_rows, strlen(two_rows), '0');
    n += tar_member(tar + n, "d/link.txt", "", 0, '2');
    n += tar_member(tar + n, "d/.hidden", "no", 2, '0');
    n += tar_member(tar + n, "d/.git/x.txt", "no", 2, '0');
    n += tar_member(tar + n, "d/page.html", "<p>page", 7, '0');
    n += tar_member(tar + n, "last.txt", "last", 4, '0');
    n += tar_member(tar + n, "in.tar", "", 0, '0');
    memset(tar + n, 0, 1024);
    n += 1024;
    gives(ft_test_write("a.tar", tar, n),
          "a.tar/d/rows.jsonl:1|a|{}\na.tar/d/rows.jsonl:2|b|{}\na.tar/d/page.html|page|{}\na.tar/last.txt|last|{}\n"
          "!a.tar/in.tar: a tar within a tar, which is not read\n");
    const size_t m = gzip(tar, n, z, sizeof(z));
    ft_status st;
    assert_ok(ft_folder_make(ft_test_path("tars"), &st), st);
    ft_test_write("tars/a.tgz", z, m);
    gives(ft_test_path("tars"),
          "a.tgz/d/rows.jsonl:1|a|{}\na.tgz/d/rows.jsonl:2|b|{}\na.tgz/d/page.html|page|{}\na.tgz/last.txt|last|{}\n"
          "!tars/a.tgz/in.tar: a tar within a tar, which is not read\n");
    const size_t k = ZSTD_compress(z, sizeof(z), tar, n, 3);
    gives(ft_test_write("b.tar.zst", z, k),
          "b.tar.zst/d/rows.jsonl:1|a|{}\nb.tar.zst/d/rows.jsonl:2|b|{}\nb.tar.zst/d/page.html|page|{}\n"
          "b.tar.zst/last.txt|last|{}\n!b.tar.zst/in.tar: a tar within a tar, which is not read\n");
}

static void a_lying_tar_is_reported_and_what_it_held_is_not_invented(void **state)
{
    (void)state;
    static unsigned char tar[8192];
    size_t n = tar_member(tar, "good.txt", "good", 4, '0');
    n += tar_member(tar + n, "lies.txt", "short", 1 << 20, '0');
    const char *path = ft_test_write("a.tar", tar, n);
    reading r = read_corpus(&path, 1, (ft_corpus_options){.skip_bad = 1});
    assert_ok(r.rc, r.st);
    assert_memory_equal(r.out.data, "a.tar/good.txt|good|{}\n!a.tar/lies.txt: not a sound tar: Truncated", 56);
    assert_int_equal(r.counts.documents, 1);
    ft_buffer_release(&r.out);
    tar[600] ^= 1; /* content: no checksum there */
    n = tar_member(tar, "good.txt", "good", 4, '0');
    size_t at = n;
    n += tar_member(tar + n, "b.txt", "b", 1, '0');
    tar[at + 120] ^= 1; /* its header */
    stops(ft_test_write("a.tar", tar, n), FT_ERR_FORMAT, "a.tar: not a sound tar");
    stops(write_text("b.tar", "no tar, and long enough to be none"), FT_ERR_FORMAT, "b.tar: not a sound tar");
}

static void a_gzip_cut_inside_a_tar_says_that_it_is_cut(void **state)
{
    (void)state;
    static unsigned char tar[8192], z[8192];
    size_t n = tar_member(tar, "a.txt", "a", 1, '0');
    n += tar_member(tar + n, "b.txt", "b", 1, '0');
    const size_t m = gzip(tar, n, z, sizeof(z));
    stops(ft_test_write("a.tar.gz", z, m / 2), FT_ERR_FORMAT, "a.tar.gz: the gzip data is cut off");
}

static void a_compressed_member_is_read_and_a_bad_one_does_not_hide_the_next(void **state)
{
    (void)state;
    static unsigned char tar[8192];
    size_t n = tar_member(tar, "bad.txt.gz", "no gzip", 7, '0');
    n += tar_member(tar + n, "next.txt", "next", 4, '0');
    memset(tar + n, 0, 1024);
    gives(ft_test_write("a.tar", tar, n + 1024),
          "!a.tar/bad.txt.gz: not sound gzip data: incorrect header check\na.tar/next.txt|next|{}\n");
}

/* ---- faults ----------------------------------------------------------- */

/* Each allocation of ours fails in turn: an error, no leak, nothing out. */
static void every_failing_allocation_is_an_error(void **state)
{
    (void)state;
    static unsigned char tar[8192], z[8192];
    size_t n = tar_member(tar, "a.jsonl", two_rows, strlen(two_rows), '0');
    n += tar_member(tar + n, "b.html", "<title>t</title><p>b", 20, '0');
    memset(tar + n, 0, 1024);
    const size_t m = gzip(tar, n + 1024, z, sizeof(z));
    ft_status st;
    assert_ok(ft_folder_make(ft_test_path("oom"), &st), st);
    ft_test_write("oom/a.tgz", z, m);
    write_text("oom/b.txt", "text");
    const char *path = ft_test_path("oom");
    for (long k = 1;; k++) {
        assert_true(k < 1000);
        ft_corpus *c;
        ft_document d;
        int more = 1, documents = 0;
        ft_test_fail_allocation(k);
        ft_code rc = ft_corpus_open(&c, &path, 1, &(ft_corpus_options){.skip_bad = 1}, &st);
        while (!rc && more && !(rc = ft_corpus_next(c, &d, &more, &st)))
            documents += more;
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        ft_corpus_close(c);
        if (!failed) {
            assert_ok(rc, st);
            assert_int_equal(documents, 4);
            break;
        }
        assert_int_equal(rc, FT_ERR_MEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_keep_their_other_fields_byte_for_byte),
        cmocka_unit_test(numbers_that_64_bits_cannot_hold_are_kept_as_their_digits),
        cmocka_unit_test(an_id_may_be_an_integer_and_is_made_from_file_and_line_when_absent),
        cmocka_unit_test(escapes_are_decoded),
        cmocka_unit_test(a_text_may_hold_nul),
        cmocka_unit_test(each_bad_row_is_named_with_file_and_line_and_the_others_are_read),
        cmocka_unit_test(without_skipping_the_first_bad_row_stops_and_names_itself),
        cmocka_unit_test(deep_nesting_is_refused_not_followed),
        cmocka_unit_test(a_mark_crlf_and_a_missing_last_newline_change_nothing),
        cmocka_unit_test(an_empty_file_is_an_empty_document_and_an_empty_jsonl_none),
        cmocka_unit_test(a_line_above_the_limit_is_bad_and_the_next_is_read),
        cmocka_unit_test(lines_are_whole_wherever_the_window_ends),
        cmocka_unit_test(a_folder_is_read_in_byte_order_without_links_and_hidden_names),
        cmocka_unit_test(several_operands_follow_one_another_and_a_missing_one_fails_at_once),
        cmocka_unit_test(what_is_no_text_is_named_with_its_line),
        cmocka_unit_test(a_file_that_vanished_or_is_forbidden_is_reported_and_passed_over),
        cmocka_unit_test(gzip_of_several_members_reads_as_one_file),
        cmocka_unit_test(zstd_of_several_frames_reads_as_one_file),
        cmocka_unit_test(a_compressed_file_cut_anywhere_gives_no_half_document),
        cmocka_unit_test(a_flipped_bit_in_gzip_is_found),
        cmocka_unit_test(a_tar_gives_what_its_folder_would),
        cmocka_unit_test(a_lying_tar_is_reported_and_what_it_held_is_not_invented),
        cmocka_unit_test(a_gzip_cut_inside_a_tar_says_that_it_is_cut),
        cmocka_unit_test(a_compressed_member_is_read_and_a_bad_one_does_not_hide_the_next),
        cmocka_unit_test(every_failing_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
