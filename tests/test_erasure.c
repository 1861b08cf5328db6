/* What tracer/erasure_internal.h promises of one trace: nothing of an erased document stays, in a span or out of one,
 * and what is no word of it stays as it was. */
#include "tests/ft_test.h"
#include "tracer/erasure_internal.h"

enum { FIRST = 10, WORDS = 20 };

static const ft_erasure order = {.owner = "o", .min_tokens = 1};

/* A document of the tokens 10, 11, … 29. */
static erased the_document(void)
{
    erased what = {.e = &order};
    what.texts = calloc(1, sizeof(*what.texts));
    what.texts[0] = (erased_text){calloc(WORDS, sizeof(uint32_t)), WORDS};
    what.count = what.capacity = 1;
    for (uint32_t i = 0; i < WORDS; i++)
        what.texts[0].ids[i] = FIRST + i;
    assert_int_equal(erased_prepare(&what, NULL), FT_OK);
    return what;
}

/* {"ids"}: 3, then `count` tokens of the document from `from` on, then 3. */
static json_t *part(int from, int count)
{
    json_t *ids = json_pack("[i]", 3);
    for (int i = 0; i < count; i++)
        assert_int_equal(json_array_append_new(ids, json_integer(FIRST + from + i)), 0);
    assert_int_equal(json_array_append_new(ids, json_integer(3)), 0);
    return json_pack("{s:o}", "ids", ids);
}

static json_t *span(int start, int end)
{
    return json_pack("{s:i,s:i,s:[s],s:[]}", "start", start, "end", end, "owners", "o", "docs");
}

static json_t *trace_of(json_t *prompt, json_t *response, json_t *spans)
{
    const size_t n = json_array_size(json_object_get(response, "ids"));
    json_t *tokens = json_array(), *matches = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(tokens, json_pack("{s:O}", "id", json_array_get(json_object_get(response, "ids"), i)));
        json_array_append_new(matches, json_integer((json_int_t)(FIRST + i))); /* numbers that are ids too */
    }
    return json_pack("{s:o,s:o,s:o,s:o,s:o}", "prompt", prompt, "response", response, "tokens", tokens, "matches",
                     matches, "spans", spans);
}

/* Of the part's ids those in [from, to) are null, the others are not. */
static void assert_gone(const json_t *trace, const char *name, size_t from, size_t to)
{
    const json_t *ids = json_object_get(json_object_get(trace, name), "ids"), *v;
    size_t i;
    json_array_foreach(ids, i, v)
    {
        if (json_is_null(v) != (i >= from && i < to))
            fail_msg("%s: token %zu", name, i);
    }
}

static void words_that_lie_in_no_span_go_too(void **state)
{
    (void)state;
    erased what = the_document();
    size_t spans, tokens;
    json_t *t = trace_of(part(2, 9), part(0, 16), json_array());
    assert_int_equal(redact_trace(t, &what, &spans, &tokens, NULL), FT_OK);
    assert_int_equal(spans, 2); /* one stretch of each */
    assert_int_equal(tokens, 16);
    assert_gone(t, "prompt", 1, 10);
    assert_gone(t, "response", 1, 17);
    json_decref(t);
    erased_release(&what);
}

static void spans_that_overlap_each_other_and_other_words_leave_nothing_between(void **state)
{
    (void)state;
    erased what = the_document();
    size_t spans, tokens;
    json_t *t = trace_of(part(0, 0), part(0, 16), json_pack("[o,o]", span(2, 6), span(4, 9)));
    assert_int_equal(redact_trace(t, &what, &spans, &tokens, NULL), FT_OK);
    assert_int_equal(spans, 3);
    assert_gone(t, "response", 1, 17);
    json_decref(t);
    t = trace_of(part(0, 0), part(0, 7), json_pack("[o,o]", span(1, 5), span(3, 8))); /* too few in a row otherwise */
    assert_int_equal(redact_trace(t, &what, &spans, &tokens, NULL), FT_OK);
    assert_int_equal(spans, 2);
    assert_gone(t, "response", 1, 8);
    json_decref(t);
    erased_release(&what);
}

static void few_words_and_numbers_that_are_no_tokens_stay(void **state)
{
    (void)state;
    erased what = the_document();
    size_t spans, tokens;
    json_t *t = trace_of(part(3, 7), part(12, 7), json_array()), *before = json_deep_copy(t);
    assert_int_equal(redact_trace(t, &what, &spans, &tokens, NULL), FT_OK);
    assert_int_equal(spans, 0);
    assert_true(json_equal(t, before));
    json_decref(t);
    t = trace_of(part(0, 0), part(0, 3), json_pack("[o,o]", span(1, 2), span(2, 4)));
    json_decref(before);
    before = json_deep_copy(json_object_get(t, "matches"));
    assert_int_equal(redact_trace(t, &what, &spans, &tokens, NULL), FT_OK);
    assert_int_equal(spans, 2);
    assert_gone(t, "response", 1, 4);
    assert_true(json_equal(json_object_get(t, "matches"), before));
    json_decref(t);
    json_decref(before);
    erased_release(&what);
}

/* After a redaction there is nothing to redact. */
static void a_second_redaction_finds_nothing(void **state)
{
    (void)state;
    erased what = the_document();
    size_t spans, tokens;
    json_t *t = trace_of(part(0, 20), part(0, 20), json_pack("[o,o]", span(3, 8), span(6, 15)));
    assert_int_equal(redact_trace(t, &what, &spans, &tokens, NULL), FT_OK);
    assert_true(spans > 0);
    assert_int_equal(redact_trace(t, &what, &spans, &tokens, NULL), FT_OK);
    assert_int_equal(spans, 0);
    assert_int_equal(tokens, 0);
    json_decref(t);
    erased_release(&what);
}

/* What is read of the text alone says the same of it, whatever else stands in it. */
static void repeated_words_are_seen_without_parsing(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int yes;
    } all[] = {
        {"{\"ids\":[3,10,11,12,13,14,15,16,17,3]}", 1},
        {"{\"ids\":[3,10,11,12,13,14,15,16,3]}", 0},
        {"{\"ids\":[],\"x\":{\"ids\":[22,23,24,25,26,27,28,29]}}", 1},
        {"{\"ids\":[10,11,12,13,null,15,16,17,18]}", 0},
        {"{\"text\":\"\\\"ids\\\":[10,11,12,13,14,15,16,17]\"}", 0},
        {"{\"ids\":[10,11,12,13,14,15,16,17", 1},
        {"{\"ids\":[4294967306,11,12,13,14,15,16,17]}", 0},
        {"{\"ids\":[", 0},
        {"", 0},
    };
    erased what = the_document();
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        ft_buffer text = {0};
        int yes = -1;
        assert_int_equal(ft_buffer_append_str(&text, all[i].text, NULL), FT_OK);
        assert_int_equal(erased_repeated(&what, &text, &yes, NULL), FT_OK);
        if (yes != all[i].yes)
            fail_msg("%s: %d", all[i].text, yes);
        ft_buffer_release(&text);
    }
    erased_release(&what);
}

/* With each allocation failing in turn: an error, never half a redaction that passes for a whole one. */
static void a_redaction_without_memory_is_an_error(void **state)
{
    (void)state;
    long k = 0;
    for (int failed = 1; failed;) {
        erased what = the_document();
        size_t spans, tokens;
        json_t *t = trace_of(part(0, 20), part(0, 20), json_pack("[o,o]", span(3, 8), span(6, 15)));
        ft_test_fail_allocation(++k);
        const ft_code rc = redact_trace(t, &what, &spans, &tokens, NULL);
        failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        assert_int_equal(rc, failed ? FT_ERR_MEM : FT_OK);
        if (!failed)
            assert_gone(t, "response", 1, 21);
        json_decref(t);
        erased_release(&what);
    }
    assert_true(k > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_that_lie_in_no_span_go_too),
        cmocka_unit_test(spans_that_overlap_each_other_and_other_words_leave_nothing_between),
        cmocka_unit_test(few_words_and_numbers_that_are_no_tokens_stay),
        cmocka_unit_test(a_second_redaction_finds_nothing),
        cmocka_unit_test(repeated_words_are_seen_without_parsing),
        cmocka_unit_test(a_redaction_without_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
