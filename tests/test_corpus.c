/* What text/ft_corpus.h and ft_html.h promise: documents out of files, in order, and bad ones named. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "text/ft_corpus.h"
#include "text/ft_html.h"

#include <unistd.h>

static char warnings[4096];

static void collect(void *context, const char *message)
{
    (void)context;
    const size_t n = strlen(warnings);
    snprintf(warnings + n, sizeof(warnings) - n, "%s\n", message);
}

/* "id=text;id=text;" of all documents of `path`; the status' message when it fails. */
static char *read_all(const char *path, int skip_bad)
{
    static char all[1 << 16];
    all[0] = warnings[0] = '\0';
    const ft_corpus_options o = {.skip_bad = skip_bad, .warn = collect, .max_document_bytes = 4096};
    ft_corpus *c;
    ft_status st = {0};
    if (ft_corpus_open(&c, &path, 1, &o, &st) != FT_OK) {
        assert_null(c);
        return strcpy(all, st.msg);
    }
    for (size_t n = 0;;) {
        ft_document d;
        int more;
        if (ft_corpus_next(c, &d, &more, &st) != FT_OK) {
            strcpy(all, st.msg);
            break;
        }
        if (!more)
            break;
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%s=%.*s;", d.id, (int)d.text_bytes, d.text);
    }
    ft_corpus_close(c);
    return all;
}

static const char *file(const char *name, const char *content)
{
    return ft_test_write(name, content, strlen(content));
}

static void jsonl_rows_become_documents_and_other_fields_metadata(void **state)
{
    (void)state;
    const char *path = file("a.jsonl", "\xEF\xBB\xBF{\"id\":\"x\",\"text\":\"one\",\"source\":\"s\",\"n\":[1,2]}\r\n"
                                       "\n{\"id\":7,\"text\":\"two\"}\n{\"text\":\"t\\u0000hree\"}");
    ft_corpus *c;
    ft_document d;
    int more;
    assert_int_equal(ft_corpus_open(&c, &path, 1, NULL, NULL), FT_OK);
    assert_int_equal(ft_corpus_next(c, &d, &more, NULL), FT_OK);
    assert_string_equal(d.id, "x");
    assert_string_equal(d.metadata, "{\"source\":\"s\",\"n\":[1,2]}");
    assert_int_equal(d.line, 1);
    assert_int_equal(ft_corpus_next(c, &d, &more, NULL), FT_OK);
    assert_string_equal(d.id, "7");
    assert_string_equal(d.metadata, "{}");
    assert_int_equal(ft_corpus_next(c, &d, &more, NULL), FT_OK);
    assert_string_equal(d.id, "a.jsonl:4");
    assert_int_equal(d.text_bytes, 6);
    assert_int_equal(ft_corpus_next(c, &d, &more, NULL), FT_OK);
    assert_int_equal(more, 0);
    assert_int_equal(ft_corpus_progress(c).documents, 3);
    ft_corpus_close(c);
}

static void a_bad_line_is_named_with_file_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *content, *complaint;
    } rows[] = {
        {"{\"text\":\"a\"}\nnot json\n", "bad.jsonl:2: column"},
        {"{\"text\":\"a\"}\n{\"id\":1}\n", "bad.jsonl:2: a row must be"},
        {"{\"text\":\"a\"}\n\n{\"text\":5}\n", "bad.jsonl:3: a row must be"},
        {"[1]\n", "bad.jsonl:1: a row must be"},
        {"{\"text\":\"a\",\"id\":[]}\n", "bad.jsonl:1: 'id' must be"},
        {"{\"text\":\"\xff\"}\n", "bad.jsonl:1: column"},
        {"{\"text\":\"a\",\"text\":\"b\"}\n", "bad.jsonl:1: column"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_non_null(strstr(read_all(file("bad.jsonl", rows[i].content), 0), rows[i].complaint));
}

static void with_skip_bad_the_good_documents_come_and_the_bad_are_reported_and_counted(void **state)
{
    (void)state;
    char *content = malloc(20000);
    memset(content, 'x', 20000);
    const char *begin = "{\"id\":\"1\",\"text\":\"a\"}\noops\n", *end = "\n{\"id\":\"2\",\"text\":\"b\"}\n";
    memcpy(content, begin, strlen(begin));
    strcpy(content + 19000, end);
    assert_string_equal(read_all(file("mixed.jsonl", content), 1), "1=a;2=b;");
    free(content);
    assert_non_null(strstr(warnings, "mixed.jsonl:2: column"));
    assert_non_null(strstr(warnings, "mixed.jsonl:3: a line of"));
}

static void folders_are_read_in_byte_order_and_each_format_by_its_name(void **state)
{
    (void)state;
    assert_int_equal(ft_folder_make(ft_test_path("folder/sub"), NULL), FT_OK);
    file("folder/b.txt", "plain < text");
    file("folder/.hidden", "no");
    file("folder/a.html", "<p>one &amp; two</p>");
    file("folder/sub/c.jsonl", "{\"text\":\"row\"}");
    if (symlink("/etc/passwd", ft_test_path("folder/link")) != 0)
        fail();
    assert_string_equal(read_all(ft_test_path("folder"), 0), "a.html=one & two;b.txt=plain < text;sub/c.jsonl:1=row;");
}

static void archives_and_compressed_files_read_as_what_they_hold(void **state)
{
    (void)state;
    assert_int_equal(ft_folder_make(ft_test_path("packed"), NULL), FT_OK);
    file("packed/a.txt", "first");
    file("packed/b.jsonl", "{\"id\":\"r\",\"text\":\"second\"}");
    char *command;
    if (asprintf(&command,
                 "cd '%s' && gzip -k packed/b.jsonl && tar cf p.tar packed/a.txt packed/b.jsonl.gz && tar czf p.tgz -C "
                 "packed "
                 "b.jsonl && gzip -c packed/a.txt > two.txt.gz && gzip -c packed/a.txt >> two.txt.gz && "
                 "tar cf - packed/a.txt | gzip > q.tar.gz && head -c 20 two.txt.gz > cut.txt.gz && "
                 "(zstd -qf packed/a.txt -o z.txt.zst 2>/dev/null || true)",
                 ft_test_folder()) < 0)
        fail();
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    free(command);
    assert_string_equal(read_all(ft_test_path("p.tar"), 0), "p.tar/packed/a.txt=first;r=second;");
    assert_string_equal(read_all(ft_test_path("p.tgz"), 0), "r=second;");
    assert_string_equal(read_all(ft_test_path("q.tar.gz"), 0), "q.tar.gz/packed/a.txt=first;");
    assert_string_equal(read_all(ft_test_path("two.txt.gz"), 0), "two.txt.gz=firstfirst;");
    if (ft_path_exists(ft_test_path("z.txt.zst")))
        assert_string_equal(read_all(ft_test_path("z.txt.zst"), 0), "z.txt.zst=first;");
    assert_non_null(strstr(read_all(ft_test_path("cut.txt.gz"), 0), "cut.txt.gz: cannot read"));
    assert_string_equal(read_all(ft_test_path("cut.txt.gz"), 1), "");
}

static void binary_garbage_is_refused_with_the_place(void **state)
{
    (void)state;
    assert_non_null(strstr(read_all(file("g.txt", "fine\nthen \xfe\xff"), 0), "g.txt:2: byte 10 is not valid UTF-8"));
    ft_test_write("n.txt", "a\0b", 3);
    assert_non_null(strstr(read_all(ft_test_path("n.txt"), 0), "n.txt:1: byte 1 is NUL"));
    assert_non_null(strstr(read_all(file("t.tar", "this is not a tar archive at all"), 0), "t.tar: cannot read"));
}

static void an_empty_file_is_an_empty_document_and_an_empty_jsonl_none(void **state)
{
    (void)state;
    assert_string_equal(read_all(file("e.txt", ""), 0), "e.txt=;");
    assert_string_equal(read_all(file("e.jsonl", ""), 0), "");
    assert_non_null(strstr(read_all(ft_test_path("absent.txt"), 0), "absent.txt: cannot open"));
}

static void html_gives_what_a_reader_sees(void **state)
{
    (void)state;
    static const struct {
        const char *page, *text;
    } rows[] = {
        {"a &lt;b&gt; &#65;&#x42; &eacute; &nosuch; &amp &#xD800;", "a <b> AB \xC3\xA9 &nosuch; &amp \xEF\xBF\xBD"},
        {"<title>T</title><p>one\n two</p><p>three<br>four", "T\none two\n\nthree\nfour"},
        {"<script>if (a < b) alert('</p>')</script>x<style>p{}</style><!-- <p> -->y", "x\ny"},
        {"<a title=\"x > y\">z</a><![CDATA[w]]>", "z"},
        {"<pre>  a\n    b</pre>c", "  a\n    b\nc"},
        {"1 < 2 <3> & <", "1 < 2 <3> & <"},
        {"<nav>menu<nav>deep</nav></nav>body<head><title>gone", "body"},
        {"<script>never closed", ""},
        {"<table><tr><td>a</td><td>b</td></tr><tr><td>c", "a b\nc"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ft_buffer b = {0};
        assert_int_equal(ft_html_text(rows[i].page, strlen(rows[i].page), &b, NULL), FT_OK);
        assert_string_equal(b.data, rows[i].text);
        ft_buffer_release(&b);
    }
}

static void a_megabyte_of_any_mark_up_takes_linear_time(void **state)
{
    (void)state;
    static const char *const units[] = {"<",   "<a ", "&",       "<!--",  "<script>",
                                        "<p>", "</",  "<a b=\"", "&amp;", "<![CDATA["};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        const size_t n = 1 << 20, m = strlen(units[i]);
        char *page = malloc(n + m);
        size_t at = 0;
        for (; at < n; at += m)
            memcpy(page + at, units[i], m);
        ft_buffer b = {0};
        assert_int_equal(ft_html_text(page, at, &b, NULL), FT_OK); /* a quadratic case would not end */
        ft_buffer_release(&b);
        free(page);
    }
}

static void every_failing_allocation_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    const char *path = file("folder/alloc.jsonl", "{\"id\":\"x\",\"text\":\"one\",\"k\":1}\n");
    int failed = 1;
    for (long k = 1; failed; k++) {
        ft_corpus *c;
        ft_document d;
        int more;
        ft_test_fail_allocation(k);
        ft_code rc = ft_corpus_open(&c, &path, 1, NULL, NULL);
        if (!rc)
            rc = ft_corpus_next(c, &d, &more, NULL);
        failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (failed)
            assert_int_equal(rc, FT_ERR_MEM);
        ft_corpus_close(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jsonl_rows_become_documents_and_other_fields_metadata),
        cmocka_unit_test(a_bad_line_is_named_with_file_and_line),
        cmocka_unit_test(with_skip_bad_the_good_documents_come_and_the_bad_are_reported_and_counted),
        cmocka_unit_test(folders_are_read_in_byte_order_and_each_format_by_its_name),
        cmocka_unit_test(archives_and_compressed_files_read_as_what_they_hold),
        cmocka_unit_test(binary_garbage_is_refused_with_the_place),
        cmocka_unit_test(an_empty_file_is_an_empty_document_and_an_empty_jsonl_none),
        cmocka_unit_test(html_gives_what_a_reader_sees),
        cmocka_unit_test(a_megabyte_of_any_mark_up_takes_linear_time),
        cmocka_unit_test(every_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
