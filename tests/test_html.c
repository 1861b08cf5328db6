/* What text/ft_html.h promises: the text of any page, in time that grows with its length alone. */
#include "tests/ft_test.h"

#include "text/ft_html.h"

static void gives(const char *page, const char *text)
{
    ft_buffer b = {0};
    assert_int_equal(ft_html_text(page, strlen(page), &b, NULL, NULL), FT_OK);
    if (strcmp(b.data ? b.data : "", text) != 0)
        fail_msg("of '%s' came '%s', wanted '%s'", page, b.data ? b.data : "", text);
    ft_buffer_release(&b);
}

static void blocks_break_lines_and_other_white_space_collapses(void **state)
{
    (void)state;
    gives("<p>one\n two</p><p>three<br>four", "one two\n\nthree\nfour");
    gives("<ul><li> a </li>\n<li>b <b> c</b></ul>d", "a\nb c\n\nd");
    gives("<table><tr><td>a</td><td>b</td></tr><tr><td>c", "a b\nc");
    gives("<h1>T</h1>\n<div>x<div>y</div></div>z", "T\n\nx\ny\nz");
    gives("a<br><br><br>b", "a\n\nb");
    gives("  <p>  </p>  a&nbsp;&nbsp;b\xC2\xA0"
          "c  ",
          "a b c");
    gives("in<wbr>side <i>word</i>s, soft&shy;ly \xC2\xAD.", "inside words, softly .");
    gives("", "");
    gives(" \n ", "");
}

static void pre_keeps_its_white_space(void **state)
{
    (void)state;
    gives("<pre>a\n    b</pre>c", "a\n    b\n\nc");
    gives("<p>x<pre>\n  a\r\n\r\n  b\n</pre>y", "x\n\n  a\n\n  b\n\ny");
    gives("<PRE>a  b</PRE> c  d", "a  b\n\nc d");
    gives("<textarea>a  b</textarea>", "a  b");
    gives("<xmp><b>a  b</b></xmp>c", "<b>a  b</b>\n\nc");
}

static void references_are_decoded_and_what_is_none_stays(void **state)
{
    (void)state;
    gives("a &lt;b&gt; &#65;&#x42;&#X43; &eacute; &hearts; &thetasym;", "a <b> ABC \xC3\xA9 \xE2\x99\xA5 \xCF\x91");
    gives("&nosuch; &amp &ampx &copy2 &alpha &; & &# &#; &#x; &#xg", "&nosuch; & &x \xC2\xA9"
                                                                     "2 &alpha &; & &# &#; &#x; &#xg");
    gives("&notit; &notin;", "\xC2\xACit; \xE2\x88\x89");
    gives("&#xD800;&#0;&#x110000;&#99999999999999999999;", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    gives("&#147;quoted&#148;&#133;", "\xE2\x80\x9Cquoted\xE2\x80\x9D\xE2\x80\xA6");
    gives("a&#32;&#10;b&#65", "a bA");
}

static void what_a_page_does_not_show_gives_nothing(void **state)
{
    (void)state;
    gives("<script>if (a < b) alert('</p>')</script>x<style>p{}</style><!-- <p> -->y", "xy");
    gives("a<script>b</scripts>c</SCRIPT >d", "ad");
    gives("<nav>menu<nav>deep</nav></nav>body<footer>f</footer>", "body");
    gives("<head><title>T</title><meta charset=utf-8><body>b", "b");
    gives("<head><title>T</title><p>the head ends by itself", "the head ends by itself");
    gives("<template>t</template><svg><title>s</title><text>v</text></svg>x", "x");
    gives("<nav>never closed<main>shown</main>", "shown");
    gives("<!doctype html><?xml version='1.0'?></ bogus>x</>y", "xy");
    gives("<script>never closed", "");
    gives("x<!-->y<!--->z<!-- a -- b -->w", "xyzw");
}

static void broken_mark_up_loses_no_text(void **state)
{
    (void)state;
    gives("1 < 2 <3> & <", "1 < 2 <3> & <");
    gives("<a title=\"x > y\" b='>'>z</a>", "z");
    gives("<p don't>isn't", "isn't");
    gives("<a href=\"never closed>text", "text");
    gives("text <a href=", "text <a href=");
    gives("<!-- never closed > text", "text");
    gives("<b><i>mis</b>nested</i></p></table></div>", "misnested");
    gives("<title>no end <p>text", "text");
    gives("<![CDATA[a < b &amp; c]]> d <![CDATA[open", "a < b &amp; c d <![CDATA[open");
    gives("<unknown-element-of-a-long-name x>y", "y");
}

static void an_empty_element_of_xhtml_opens_nothing(void **state)
{
    (void)state;
    gives("<?xml version='1.0'?><head><script src='x'/><title/></head><p>text</p>", "text");
}

static void the_title_is_given_apart(void **state)
{
    (void)state;
    const char *page = "<head><title>\n A &amp;\n B </title></head><p>x<svg><title>no</title></svg>";
    ft_buffer text = {0}, title = {0};
    assert_int_equal(ft_html_text(page, strlen(page), &text, &title, NULL), FT_OK);
    assert_string_equal(title.data, "A & B");
    assert_string_equal(text.data, "x");
    ft_buffer_release(&text);
    ft_buffer_release(&title);
}

static void text_is_appended_behind_what_is_there(void **state)
{
    (void)state;
    ft_buffer b = {0};
    assert_int_equal(ft_buffer_append_str(&b, "before\n", NULL), FT_OK);
    assert_int_equal(ft_html_text(" <p> a ", 7, &b, NULL, NULL), FT_OK);
    assert_string_equal(b.data, "before\na");
    ft_buffer_release(&b);
}

/* A quadratic case would need hours here. */
static void a_megabyte_of_any_mark_up_takes_linear_time(void **state)
{
    (void)state;
    static const char *const units[] = {
        "<",       "<a ",      "&",         "<!--",     "<script>", "<p>",       "</",          "<a b=\"",
        "&amp;",   "<title>",  "<![CDATA[", "</p",      "<a b='x>", "<a b=\">",  "<a b=\">\" ", "<textarea>",
        "<nav>",   "<!--></p", "<pre>",     "</nav>",   "<xmp></",  "<title></", "<a b=x'",     "&#1",
        "<head>a", "<br>",     "\r",        "\xC2\xA0", "<svg>",    "<a<b",      "]]>",         "<!",
    };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        const size_t n = 1 << 20, m = strlen(units[i]);
        char *page = malloc(n + m);
        size_t at = 0;
        for (; at < n; at += m)
            memcpy(page + at, units[i], m);
        ft_buffer b = {0}, title = {0};
        assert_int_equal(ft_html_text(page, at, &b, &title, NULL), FT_OK);
        assert_true(b.size <= 3 * at); /* U+FFFD for "&#1" at most */
        ft_buffer_release(&b);
        ft_buffer_release(&title);
        free(page);
    }
}

static void every_failing_allocation_is_an_error(void **state)
{
    (void)state;
    const char *page = "<title>t</title><p>a &eacute; <pre>  x\n</pre>";
    for (long k = 1;; k++) {
        ft_buffer b = {0}, title = {0};
        ft_test_fail_allocation(k);
        const ft_code rc = ft_html_text(page, strlen(page), &b, &title, NULL);
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        ft_buffer_release(&b);
        ft_buffer_release(&title);
        assert_int_equal(rc, failed ? FT_ERR_MEM : FT_OK);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_break_lines_and_other_white_space_collapses),
        cmocka_unit_test(pre_keeps_its_white_space),
        cmocka_unit_test(references_are_decoded_and_what_is_none_stays),
        cmocka_unit_test(what_a_page_does_not_show_gives_nothing),
        cmocka_unit_test(broken_mark_up_loses_no_text),
        cmocka_unit_test(an_empty_element_of_xhtml_opens_nothing),
        cmocka_unit_test(the_title_is_given_apart),
        cmocka_unit_test(text_is_appended_behind_what_is_there),
        cmocka_unit_test(a_megabyte_of_any_mark_up_takes_linear_time),
        cmocka_unit_test(every_failing_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
