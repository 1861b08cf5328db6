/* What tracer/ft_trace.h and docs/trace.md promise. */
#include "tests/trace_fixture.h"

#include "base/ft_random.h"

#include <math.h>

/* Character positions are those of the byte positions. */
static void check_places(const char *text, const json_t *x, const char *prefix, size_t *start, size_t *end)
{
    char field[40];
    snprintf(field, sizeof(field), "%sstart_byte", prefix);
    *start = number(x, field);
    snprintf(field, sizeof(field), "%send_byte", prefix);
    *end = number(x, field);
    assert_true(*start <= *end && *end <= strlen(text));
    snprintf(field, sizeof(field), "%sstart_char", prefix);
    assert_int_equal(number(x, field), ft_utf8_count(text, *start));
    snprintf(field, sizeof(field), "%send_char", prefix);
    assert_int_equal(number(x, field), ft_utf8_count(text, *end));
}

static void check_trace_places(const json_t *trace)
{
    const char *text = string(json_object_get(trace, "response"), "text");
    size_t i, k, start, end, joined = 0;
    const json_t *x, *doc;
    json_array_foreach(json_object_get(trace, "tokens"), i, x)
    {
        check_places(text, x, "", &start, &end);
        assert_int_equal(start, joined);
        joined = end;
        assert_int_equal(json_string_length(json_object_get(x, "text")), end - start);
        assert_memory_equal(string(x, "text"), text + start, end - start);
    }
    assert_int_equal(joined, strlen(text));
    json_array_foreach(json_object_get(trace, "spans"), i, x)
    {
        check_places(text, x, "", &start, &end);
        assert_int_equal(json_string_length(json_object_get(x, "text")), end - start);
        assert_memory_equal(string(x, "text"), text + start, end - start);
        const char *span = text + start;
        const size_t span_bytes = end - start;
        json_array_foreach(json_object_get(x, "docs"), k, doc)
        {
            check_places(string(doc, "snippet"), doc, "match_", &start, &end);
            if (end - start != span_bytes || memcmp(string(doc, "snippet") + start, span, span_bytes) != 0)
                fail_msg("'%.*s' is marked for '%.*s'", (int)(end - start), string(doc, "snippet") + start,
                         (int)span_bytes, span);
        }
    }
}

static void a_span_names_its_owners_and_documents_with_the_match_in_its_place(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    ft_trace_options o = ft_trace_options_default(&h.scope);
    o.rules.density = 0;
    o.rules.min_len = 5;
    json_t *trace =
        trace_text(&h, "I saw that it waits for a small silver fish all day. Then the heron stands in the reeds", &o);
    check_trace_places(trace);
    assert_int_equal(json_array_size(json_object_get(trace, "spans")), 2);
    const json_t *fish = at(trace, "spans", 0), *heron = at(trace, "spans", 1);
    assert_string_equal(string(fish, "text"), " waits for a small silver fish all day.");
    assert_int_equal(number(fish, "count"), 2);
    assert_string_equal(json_string_value(at(fish, "owners", 0)), "birds"); /* equal counts: by name */
    assert_string_equal(json_string_value(at(fish, "owners", 1)), "fish");
    assert_int_equal(number(json_object_get(fish, "owner_counts"), "fish"), 1);
    assert_int_equal(json_array_size(json_object_get(fish, "docs")), 2);
    assert_string_equal(string(heron, "text"), " heron stands in the reeds");
    assert_int_equal(number(heron, "count"), 2);
    assert_int_equal(json_array_size(json_object_get(heron, "owners")), 1);
    size_t i;
    const json_t *doc;
    json_array_foreach(json_object_get(heron, "docs"), i, doc)
    {
        const int first = !strcmp(string(doc, "id"), "b1");
        assert_string_equal(string(doc, "owner"), "birds");
        assert_string_equal(string(doc, "source"), first ? "marsh" : "b2");
        assert_int_equal(number(doc, "document"), first ? 0 : 1);
        if (!first)
            assert_int_equal(number(json_object_get(doc, "metadata"), "page"), 7);
    }
    /* Merged: b1 stands for both spans. */
    json_array_foreach(json_object_get(trace, "documents"), i, doc)
    {
        assert_int_equal(json_array_size(json_object_get(doc, "spans")), strcmp(string(doc, "id"), "b1") ? 1 : 2);
        if (i)
            assert_true(json_real_value(json_object_get(doc, "score")) <=
                        json_real_value(json_object_get(at(trace, "documents", i - 1), "score")));
    }
    assert_int_equal(json_array_size(json_object_get(trace, "documents")), 3);
    assert_true(json_is_null(json_object_get(trace, "routing")));
    json_decref(trace);
    close_house(&h);
}

/* A corpus without spaces between its characters, three or four bytes each, so that
 * windows and spans often cut one; every snippet size, partial words allowed. */
static void positions_are_exact_where_tokens_split_characters(void **state)
{
    (void)state;
    const char *const wide[OWNERS] = {
        ("{\"id\":\"w\",\"text\":\"\xF0\x9F\xA6\x89\xF0\x9F\x90\x9F\xF0\x9F\xAA\xA8\xE6\xB0\xB4\xE7\x9F\xB3\xE9\xB3\xA5"
         "\xC3\xA9t\xC3\xA9\xF0\x9F\xA6\x89\xF0\x9F\x90\x9F\xE6\xB0\xB4\xE9\xB1\xBC\xE3\x81\xAE\xE5\xA3\xB0\"}\n"),
        "{\"id\":\"v\",\"text\":\"\xE6\xB0\xB4\xE7\x9F\xB3\xE9\xB3\xA5\xC3\xA9\xF0\x9F\xA6\x89\"}\n",
        "{\"id\":\"s1\",\"text\":\"Granite.\"}\n",
    };
    house h;
    open_house(&h, wide);
    for (size_t snippet = 0; snippet < 30; snippet++) {
        ft_trace_options o = ft_trace_options_default(&h.scope);
        o.rules.density = 0;
        o.rules.word_starts = NULL;
        o.snippet_tokens = snippet;
        json_t *trace =
            trace_text(&h, "x\xE6\xB0\xB4\xE7\x9F\xB3\xE9\xB3\xA5\xC3\xA9\xF0\x9F\xA6\x89\xF0\x9F\x90\x9F", &o);
        size_t i, k;
        const json_t *span, *doc;
        json_array_foreach(json_object_get(trace, "spans"), i, span)
        {
            json_array_foreach(json_object_get(span, "docs"), k, doc)
            {
                size_t start, end;
                const char *text = string(doc, "snippet");
                check_places(text, doc, "match_", &start, &end);
                assert_null(strstr(text, "\xEF\xBF\xBD"));
            }
        }
        json_decref(trace);
    }
    close_house(&h);
}

/* Half of a character as a token: the pieces still join, U+FFFD stands for it once. */
static void tokens_that_are_no_text_still_join_to_the_response(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    ft_trace_options o = ft_trace_options_default(&h.scope);
    ft_random random;
    ft_random_init(&random, 11);
    for (int round = 0; round < 200; round++) {
        uint32_t ids[30];
        const size_t n = ft_random_below(&random, 30);
        for (size_t i = 0; i < n; i++) /* single bytes come first in the vocabulary; some ids are unknown */
            ids[i] = (uint32_t)ft_random_below(&random, round % 2 ? 300 : 9000);
        json_t *trace = trace_tokens(&h, ids, n, &o);
        ft_buffer text = {0};
        assert_int_equal(ft_tokenizer_decode(h.tokenizer, ids, n, 0, &text, NULL), FT_OK);
        const json_t *shown = json_object_get(json_object_get(trace, "response"), "text");
        assert_int_equal(json_string_length(shown), text.size);
        size_t i, joined = 0;
        const json_t *token;
        json_array_foreach(json_object_get(trace, "tokens"), i, token)
        {
            assert_int_equal(number(token, "start_byte"), joined);
            joined = number(token, "end_byte");
        }
        assert_int_equal(joined, text.size);
        ft_buffer_release(&text);
        json_decref(trace);
    }
    close_house(&h);
}

static void of_many_occurrences_a_fixed_sample_is_shown_from_every_owner(void **state)
{
    (void)state;
    char *many[OWNERS];
    for (int o = 0; o < OWNERS; o++) {
        many[o] = malloc(200000);
        char *p = many[o];
        for (int d = 0; d < (o == 2 ? 3 : 400); d++)
            p += sprintf(p, "{\"id\":\"%s-%d\",\"text\":\"Say the same words again, number %d.\"}\n", names[o], d, d);
    }
    house h;
    open_house(&h, (const char *const *)many);
    ft_trace_options o = ft_trace_options_default(&h.scope);
    json_t *one = trace_text(&h, "Say the same words again", &o), *two = trace_text(&h, "Say the same words again", &o);
    assert_true(json_equal(one, two));
    const json_t *span = at(one, "spans", 0), *doc;
    assert_int_equal(number(span, "count"), 803);
    assert_int_equal(number(json_object_get(span, "owner_counts"), "stones"), 3);
    assert_int_equal(json_array_size(json_object_get(span, "docs")), 10);
    size_t i, from[OWNERS] = {0};
    json_array_foreach(json_object_get(span, "docs"), i, doc)
    {
        for (int owner = 0; owner < OWNERS; owner++)
            from[owner] += !strcmp(string(doc, "owner"), names[owner]);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(string(doc, "id"), string(at(span, "docs", k), "id"));
    }
    assert_true(from[0] >= 3 && from[1] >= 3 && from[2] == 3);
    o.sample_seed = 2;
    json_t *other = trace_text(&h, "Say the same words again", &o);
    assert_false(json_equal(one, other));
    json_decref(one);
    json_decref(two);
    json_decref(other);
    close_house(&h);
    for (int k = 0; k < OWNERS; k++)
        free(many[k]);
}

static void a_document_that_repeats_the_span_is_shown_once_at_its_first_place(void **state)
{
    (void)state;
    const char *const again[OWNERS] = {
        "{\"id\":\"r\",\"text\":\"First, go on. And go on. And go on. And go on.\"}\n",
        "{\"id\":\"f\",\"text\":\"nothing\"}\n",
        "{\"id\":\"s\",\"text\":\"nothing\"}\n",
    };
    house h;
    open_house(&h, again);
    ft_trace_options o = ft_trace_options_default(&h.scope);
    json_t *trace = trace_text(&h, " go on", &o);
    const json_t *span = at(trace, "spans", 0);
    assert_int_equal(number(span, "count"), 4);
    assert_int_equal(json_array_size(json_object_get(span, "docs")), 1);
    const char *snippet = string(at(span, "docs", 0), "snippet");
    assert_int_equal(number(at(span, "docs", 0), "match_start_byte"), (size_t)(strstr(snippet, " go on") - snippet));
    json_decref(trace);
    close_house(&h);
}

/* --- Routing ------------------------------------------------------------------------------ */

static void shares_of_a_token_are_those_of_the_pass_that_wrote_it(void **state)
{
    (void)state;
    /* Three tokens read, two layers, two of four experts. */
    const uint8_t ids[] = {0, 1, 0, 1, 2, 3, 2, 3, 1, 0, 3, 0};
    const float weights[] = {.5f, .25f, .75f, .5f, 1, .5f, .25f, .25f, .5f, .5f, .25f, .75f};
    const ft_routing r = {.tokens = 3, .layers = 2, .experts = 4, .top_k = 2, .expert_ids = ids, .weights = weights};
    double s[4];
    ft_routing_shares(&r, 1, 2, s); /* token 1: row 0 */
    assert_true(fabs(s[0] - 0.625) < 1e-12 && fabs(s[1] - 0.375) < 1e-12 && s[2] == 0 && s[3] == 0);
    ft_routing_shares(&r, 0, 1, s); /* nothing wrote token 0 */
    assert_true(s[0] == 0 && s[1] == 0 && s[2] == 0 && s[3] == 0);
    ft_routing_shares(&r, 0, 3, s); /* rows 0 and 1 */
    assert_true(fabs(s[0] - 0.3125) < 1e-12 && fabs(s[2] - 0.3125) < 1e-12);
    assert_true(fabs(s[0] + s[1] + s[2] + s[3] - 1) < 1e-12);
    ft_routing_shares(&r, 3, 9, s); /* token 3: row 2; no pass wrote what follows */
    assert_true(fabs(s[1] - 0.25) < 1e-12 && fabs(s[0] - 0.625) < 1e-12 && fabs(s[3] - 0.125) < 1e-12);
}

static void a_trace_tells_shares_experts_and_the_whole_routing(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    enum { TOKENS = 6 };
    uint8_t chosen[TOKENS];
    float weights[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        chosen[i] = (uint8_t)(i % 4);
        weights[i] = 0.5f;
    }
    const ft_routing r = {
        .tokens = TOKENS, .layers = 1, .experts = 5, .top_k = 1, .expert_ids = chosen, .weights = weights};
    const uint32_t prompt[] = {300, 301}, response[] = {302, 303, 304, 305};
    const ft_trace_input in = {.prompt = prompt,
                               .prompt_count = 2,
                               .response = response,
                               .response_count = 4,
                               .routing = &r,
                               .without = UINT64_C(1) << 4};
    const ft_trace_options o = ft_trace_options_default(&h.scope);
    json_t *trace;
    ft_status st;
    assert_ok(ft_trace_make(&h.scope, &in, &o, &trace, &st), st);
    /* Response token i is timeline token i + 2, written by row i + 1. */
    for (size_t i = 0; i < 4; i++) {
        const json_t *shares = json_object_get(at(trace, "tokens", i), "shares");
        assert_int_equal(json_array_size(shares), 5);
        assert_true(json_real_value(json_array_get(shares, (i + 1) % 4)) == 1);
    }
    const json_t *experts = json_object_get(trace, "experts");
    assert_int_equal(json_array_size(experts), 5);
    assert_string_equal(string(json_array_get(experts, 0), "owner"), "expert 0");
    assert_string_equal(string(json_array_get(experts, 1), "owner"), "birds");
    assert_string_equal(string(json_array_get(experts, 3), "state"), "active");
    assert_string_equal(string(json_array_get(experts, 4), "state"), "opted_out");
    assert_true(json_real_value(json_object_get(json_array_get(experts, 1), "share")) == 0.25);
    assert_string_equal(json_string_value(at(trace, "without", 0)), "expert 4");
    const json_t *routing = json_object_get(trace, "routing");
    assert_int_equal(number(routing, "tokens"), TOKENS);
    assert_string_equal(string(routing, "ids"), "AAAAAAEAAAACAAAAAwAAAAAAAAABAAAA");
    assert_string_equal(string(routing, "weights"), "AAAAPwAAAD8AAAA/AAAAPwAAAD8AAAA/");
    json_decref(trace);
    close_house(&h);
}

/* --- Without tokenizer, infini-gram --------------------------------------------------------- */

static void without_a_tokenizer_a_trace_has_tokens_and_no_text(void **state)
{
    (void)state;
    fixture_document d[] = {{.ids = {1, 2, 3, 4}, .count = 4}, {.ids = {9, 2, 3}, .count = 3}};
    const ft_index *list[] = {fixture_index("plain", d, 2, 1)};
    const ft_owner owner = {"plain", "", -1, list, 1};
    const ft_trace_scope scope = {.owners = &owner, .owner_count = 1};
    ft_trace_options o = ft_trace_options_default(&scope);
    o.rules.word_starts = NULL;
    const uint32_t ids[] = {2, 3, 7};
    const ft_trace_input in = {.response = ids, .response_count = 3};
    json_t *trace;
    ft_status st;
    assert_ok(ft_trace_make(&scope, &in, &o, &trace, &st), st);
    const json_t *span = at(trace, "spans", 0);
    assert_int_equal(number(span, "count"), 2);
    assert_true(json_is_null(json_object_get(span, "text")));
    assert_true(json_is_null(json_object_get(json_object_get(trace, "response"), "text")));
    assert_int_equal(json_array_size(json_object_get(span, "docs")), 2);
    assert_string_equal(string(at(span, "docs", 0), "id"), "document 0");
    assert_int_equal(number(at(span, "docs", 0), "position"), 1);
    assert_int_equal(number(at(span, "docs", 0), "length"), 4);
    assert_true(json_is_null(json_object_get(at(span, "docs", 0), "snippet")));
    json_decref(trace);
    ft_index_close((ft_index *)(uintptr_t)list[0]);
}

static json_t *trace_golden(const char *folder, int version, const ft_tokenizer *t, const char *text)
{
    ft_status st;
    ft_index *ix;
    json_t *trace;
    ft_encoder *encoder;
    ft_encoding e = {0};
    const ft_infinigram_options io = {version, 100257, 0};
    char path[100];
    snprintf(path, sizeof(path), "golden/index/%s", folder);
    assert_ok(ft_index_open_infinigram(&ix, ft_test_shared(path), &io, &st), st);
    const ft_index *list[] = {ix};
    const ft_owner owner = {"golden", "", -1, list, 1};
    const ft_trace_scope scope = {.tokenizer = t, .owners = &owner, .owner_count = 1};
    ft_trace_options o = ft_trace_options_default(&scope);
    o.rules.word_starts = NULL;
    assert_ok(ft_encoder_new(&encoder, t, &st), st);
    assert_ok(ft_encoder_encode(encoder, text, strlen(text), &e, &st), st);
    const ft_trace_input in = {.response = e.ids, .response_count = e.count};
    assert_ok(ft_trace_make(&scope, &in, &o, &trace, &st), st);
    ft_encoding_release(&e);
    ft_encoder_free(encoder);
    ft_index_close(ix);
    return trace;
}

static void documents_stored_backwards_are_shown_forwards(void **state)
{
    (void)state;
    ft_test_need("golden/index/infinigram-v5-u32");
    ft_test_need("tokenizers/dolma2/tokenizer.json");
    ft_tokenizer *t;
    ft_status st;
    assert_ok(ft_tokenizer_open(&t, ft_test_shared("tokenizers/dolma2"), &st), st);
    const char *text = "In the beginning God created the heaven and the earth";
    json_t *forwards = trace_golden("infinigram-v4-u32", 4, t, text);
    json_t *backwards = trace_golden("infinigram-v5-u32", 5, t, text);
    check_trace_places(forwards);
    check_trace_places(backwards);
    assert_true(json_array_size(json_object_get(forwards, "spans")) > 0);
    /* Where all occurrences are shown, both show the same. */
    const json_t *a = at(at(forwards, "spans", 0), "docs", 0), *b = at(at(backwards, "spans", 0), "docs", 0);
    assert_int_equal(number(at(forwards, "spans", 0), "count"), number(at(backwards, "spans", 0), "count"));
    assert_string_equal(string(a, "id"), string(b, "id"));
    assert_string_equal(string(a, "snippet"), string(b, "snippet"));
    assert_int_equal(number(a, "position"), number(b, "position"));
    assert_true(strncmp(string(a, "id"), "document", 8) != 0); /* it stands in the metadata */
    json_decref(forwards);
    json_decref(backwards);
    ft_tokenizer_close(t);
}

/* --- Faults -------------------------------------------------------------------------------------- */

static void every_failed_allocation_of_ours_fails_the_trace_cleanly(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    const ft_trace_options o = ft_trace_options_default(&h.scope);
    ft_encoding e = {0};
    assert_int_equal(ft_encoder_encode(h.encoder, "The heron stands in the reeds. It waits", 39, &e, NULL), FT_OK);
    const ft_trace_input in = {.response = e.ids, .response_count = e.count};
    size_t spared = 0; /* those for a second thread: without it the caller does all */
    for (long k = 1, worked = 0; !worked; k++) {
        json_t *trace = NULL;
        ft_status st = {0};
        ft_test_fail_allocation(k);
        const ft_code rc = ft_trace_make(&h.scope, &in, &o, &trace, &st);
        worked = !ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        spared += !worked && !rc;
        if ((rc && (worked || rc != FT_ERR_MEM)) || !trace == !rc)
            fail_msg("allocation %ld: %s: %s", k, ft_code_name(rc), st.msg);
        assert_true(k > 20 || !worked);
        json_decref(trace);
    }
    assert_true(spared <= 2);
    ft_encoding_release(&e);
    close_house(&h);
}

static int stop_after(void *context)
{
    return --*(int *)context < 0;
}

static void a_trace_that_nobody_waits_for_ends_and_gives_nothing(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    ft_trace_options o = ft_trace_options_default(&h.scope);
    ft_encoding e = {0};
    assert_int_equal(ft_encoder_encode(h.encoder, "The heron stands in the reeds. It waits", 39, &e, NULL), FT_OK);
    const ft_trace_input in = {.response = e.ids, .response_count = e.count};
    int left = 0, stopped = 0;
    o.stop = stop_after;
    o.stop_context = &left;
    for (int allowed = 0;; allowed++) {
        json_t *trace = NULL;
        ft_status st = {0};
        left = allowed;
        const ft_code rc = ft_trace_make(&h.scope, &in, &o, &trace, &st);
        json_decref(trace);
        if (rc == FT_OK)
            break;
        assert_int_equal(rc, FT_ERR_CANCELLED);
        assert_null(trace);
        stopped++;
    }
    assert_true(stopped >= 2); /* while documents are found, and while they are scored */
    ft_encoding_release(&e);
    close_house(&h);
}

static void more_documents_than_a_trace_holds_are_refused(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    ft_trace_options o = ft_trace_options_default(&h.scope);
    o.max_documents = 10000000;
    const uint32_t *ids;
    ft_encoding e = {0};
    assert_int_equal(ft_encoder_encode(h.encoder, "The heron", 9, &e, NULL), FT_OK);
    ids = e.ids;
    json_t *trace;
    ft_status st;
    const ft_trace_input in = {.response = ids, .response_count = e.count};
    assert_int_equal(ft_trace_make(&h.scope, &in, &o, &trace, &st), FT_ERR_LIMIT);
    assert_null(trace);
    ft_encoding_release(&e);
    close_house(&h);
}

/* Each match's places in its snippet, in the merged document's text and in the whole document, in bytes and characters,
 * give the span's text again. The corpus mixes characters of one to four bytes. */
static void matches_lie_exactly_where_they_are_said_to_in_snippet_text_and_document(void **state)
{
    (void)state;
    static char lines[3][10000];
    static char texts[3][3000];
    const char *const words[] = {
        "heron ", "\xC3\xA9t\xC3\xA9 ", "\xE6\xB0\xB4\xE7\x9F\xB3 ", "reeds. ", "\xF0\x9F\xA6\x89 ", "stands ", "in ",
        "the "};
    ft_random random;
    ft_random_init(&random, 21);
    for (int d = 0; d < 3; d++) {
        texts[d][0] = '\0';
        for (int i = 0; i < 300; i++)
            strcat(texts[d], words[ft_random_below(&random, 8)]);
        snprintf(lines[d], sizeof(lines[d]), "{\"id\":\"%d\",\"text\":\"%s\"}\n", d, texts[d]);
    }
    const char *const wide[OWNERS] = {lines[0], lines[1], lines[2]};
    house h;
    open_house(&h, wide);
    ft_trace_options o = ft_trace_options_default(&h.scope);
    o.rules.density = 0;
    o.rules.min_len = 4;
    o.document_tokens = 60;
    o.snippet_tokens = 10;
    json_t *trace = trace_text(&h, texts[1] + 900, &o);
    size_t i, k, places = 0, inside = 0;
    const json_t *span, *doc, *match;
    json_array_foreach(json_object_get(trace, "spans"), i, span)
    {
        json_array_foreach(json_object_get(span, "docs"), k, doc)
        {
            size_t start, end;
            const char *whole = texts[string(doc, "id")[0] - '0'], *text = string(span, "text");
            check_places(whole, doc, "document_", &start, &end);
            assert_int_equal(end - start, strlen(text));
            assert_memory_equal(whole + start, text, end - start);
            places++;
        }
    }
    json_array_foreach(json_object_get(trace, "documents"), i, doc)
    {
        const char *text = string(doc, "text");
        assert_int_equal(json_array_size(json_object_get(doc, "matches")),
                         json_array_size(json_object_get(doc, "spans")));
        json_array_foreach(json_object_get(doc, "matches"), k, match)
        {
            size_t start, end;
            const json_t *of = at(trace, "spans", number(match, "span"));
            if (json_is_null(json_object_get(match, "start_byte")))
                continue; /* further on than the text that is shown */
            check_places(text, match, "", &start, &end);
            assert_int_equal(end - start, strlen(string(of, "text")));
            assert_memory_equal(text + start, string(of, "text"), end - start);
            inside++;
        }
    }
    assert_true(places > 5 && inside > 1);
    json_decref(trace);
    close_house(&h);
}

/* Merged spans cover the spans, none twice, and none that touch are apart only where they do not overlap. */
static void spans_that_overlap_are_merged_with_their_documents(void **state)
{
    (void)state;
    const char *const overlapping[OWNERS] = {
        "{\"id\":\"a\",\"text\":\"one two three four five six\"}\n",
        "{\"id\":\"b\",\"text\":\"zero. three four five six seven eight. nine ten eleven twelve.\"}\n",
        "{\"id\":\"c\",\"text\":\"stone\"}\n",
    };
    house h;
    open_house(&h, overlapping);
    ft_trace_options o = ft_trace_options_default(&h.scope);
    o.rules.density = 0;
    o.rules.min_len = 3;
    json_t *trace = trace_text(&h, "x one two three four five six seven eight. nine ten eleven twelve", &o);
    const json_t *merged = json_object_get(trace, "merged_spans");
    size_t i, k, span = 0;
    const json_t *x, *one;
    json_array_foreach(merged, i, x)
    {
        const json_t *list = json_object_get(x, "spans");
        json_array_foreach(list, k, one)
        {
            const json_t *s = at(trace, "spans", span);
            assert_int_equal(json_integer_value(one), span);
            assert_true(number(s, "start") >= number(x, "start") && number(s, "end") <= number(x, "end"));
            assert_true(!k || number(s, "start") < number(at(trace, "spans", span - 1), "end"));
            span++;
        }
        assert_int_equal(number(x, "start"),
                         number(at(trace, "spans", (size_t)json_integer_value(json_array_get(list, 0))), "start"));
        json_array_foreach(json_object_get(x, "documents"), k, one)
        {
            const json_t *d = at(trace, "documents", (size_t)json_integer_value(one)), *of;
            size_t j, stands = 0;
            json_array_foreach(json_object_get(d, "spans"), j, of) stands +=
                number(at(trace, "spans", (size_t)json_integer_value(of)), "start") >= number(x, "start") &&
                number(at(trace, "spans", (size_t)json_integer_value(of)), "end") <= number(x, "end");
            assert_true(stands);
        }
        assert_true(k > 0);
    }
    assert_int_equal(span, json_array_size(json_object_get(trace, "spans")));
    assert_true(i < span); /* some did overlap */
    json_decref(trace);
    close_house(&h);
}

/* Verbatim counts and pieces of every owner, routing against the usual share, layer by layer, and what
 * the span loses without each expert; the verdict follows from the first. */
static void every_owner_of_a_span_has_evidence_of_three_kinds(void **state)
{
    (void)state;
    house h;
    open_house(&h, corpora);
    enum { EXPERTS = 4, LAYERS = 2, TOP = 2 };
    ft_encoding e = {0};
    ft_status st;
    const char text[] = "It waits for a small silver fish all day. The heron";
    assert_ok(ft_encoder_encode(h.encoder, text, strlen(text), &e, &st), st);
    const size_t n = e.count;
    uint8_t ids[200][LAYERS][TOP];
    float weights[200][LAYERS][TOP];
    double logprobs[2][200];
    assert_true(n < 200);
    for (size_t t = 0; t < n; t++) {
        for (int l = 0; l < LAYERS; l++) {
            ids[t][l][0] = (uint8_t)(l + 1);
            ids[t][l][1] = 3;
            weights[t][l][0] = 0.75f;
            weights[t][l][1] = 0.25f;
        }
        logprobs[0][t] = t ? -1 : NAN;
        logprobs[1][t] = t ? -3.5 : NAN;
    }
    const ft_routing routing = {.tokens = n,
                                .layers = LAYERS,
                                .experts = EXPERTS,
                                .top_k = TOP,
                                .expert_ids = &ids[0][0][0],
                                .weights = &weights[0][0][0]};
    const ft_usual usual = {.experts = EXPERTS, .shares = {0.5, 0.1, 0.2, 0.2}, .tokens = 9, .fingerprint = "f"};
    const uint8_t left_out[] = {2};
    double flat[2 * 200];
    for (size_t t = 0; t < n; t++) {
        flat[t] = logprobs[0][t];
        flat[n + t] = logprobs[1][t];
    }
    const ft_causal_result causal = {0, n, left_out, 1, flat};
    ft_thresholds few = ft_thresholds_default();
    few.verbatim_nats = 10; /* the corpora are small, so nothing in them is very improbable */
    h.scope.usual = &usual;
    h.scope.thresholds = &few;
    ft_trace_options o = ft_trace_options_default(&h.scope);
    o.rules.density = 0;
    o.rules.min_len = 6;
    json_t *trace;
    const ft_trace_input in = {.response = e.ids, .response_count = n, .routing = &routing, .causal = &causal};
    assert_ok(ft_trace_make(&h.scope, &in, &o, &trace, &st), st);
    const json_t *span = at(trace, "spans", 0), *list = json_object_get(span, "evidence");
    assert_int_equal(json_array_size(list), OWNERS + 1); /* and expert 0, which nobody owns */
    const json_t *birds = json_array_get(list, 0), *fish = json_array_get(list, 1), *stones = json_array_get(list, 2);
    assert_string_equal(string(birds, "owner"), "birds");
    assert_int_equal(number(json_object_get(birds, "verbatim"), "count"), 1);
    assert_int_equal(number(json_object_get(birds, "verbatim"), "length"), number(span, "end") - number(span, "start"));
    assert_int_equal(number(json_object_get(stones, "verbatim"), "count"), 0);
    assert_true(number(json_object_get(stones, "verbatim"), "length") < 3);
    const json_t *r = json_object_get(birds, "routing"); /* expert 1: 0.75 of layer 0 */
    assert_true(fabs(json_real_value(json_object_get(r, "share")) - 0.375) < 1e-6);
    assert_true(fabs(json_real_value(json_object_get(r, "usual")) - 0.1) < 1e-12);
    assert_true(fabs(json_real_value(json_object_get(r, "excess")) - 0.275) < 1e-6);
    assert_true(fabs(json_real_value(json_object_get(r, "ratio")) - 3.75) < 1e-5);
    assert_true(fabs(json_real_value(at(r, "layers", 0)) - 0.75) < 1e-6);
    assert_true(json_real_value(at(r, "layers", 1)) == 0);
    assert_true(json_is_null(json_object_get(birds, "causal")));
    const json_t *c = json_object_get(fish, "causal"); /* expert 2 */
    const double tokens = (double)(number(span, "end") - number(span, "start")) - (number(span, "start") == 0);
    assert_true(fabs(json_real_value(json_object_get(c, "loss")) - 2.5 * tokens) < 1e-9);
    assert_string_equal(string(json_array_get(list, 3), "owner"), "expert 0");
    assert_true(json_is_null(json_object_get(json_array_get(list, 3), "verbatim")));
    assert_string_equal(string(span, "verdict"), "shared"); /* birds and fish hold it */
    assert_string_equal(string(span, "verdict_rule"), "verbatim-several");
    assert_int_equal(json_array_size(json_object_get(span, "verdict_owners")), 2);
    const json_t *about = json_object_get(trace, "evidence");
    assert_int_equal(number(json_object_get(about, "usual"), "tokens"), 9);
    assert_true(json_is_true(json_object_get(about, "causal")));
    assert_int_equal(number(json_object_get(trace, "options"), "sample_seed"), 1);
    json_decref(trace);
    ft_encoding_release(&e);
    close_house(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_lie_exactly_where_they_are_said_to_in_snippet_text_and_document),
        cmocka_unit_test(spans_that_overlap_are_merged_with_their_documents),
        cmocka_unit_test(every_owner_of_a_span_has_evidence_of_three_kinds),
        cmocka_unit_test(a_span_names_its_owners_and_documents_with_the_match_in_its_place),
        cmocka_unit_test(positions_are_exact_where_tokens_split_characters),
        cmocka_unit_test(tokens_that_are_no_text_still_join_to_the_response),
        cmocka_unit_test(of_many_occurrences_a_fixed_sample_is_shown_from_every_owner),
        cmocka_unit_test(a_document_that_repeats_the_span_is_shown_once_at_its_first_place),
        cmocka_unit_test(shares_of_a_token_are_those_of_the_pass_that_wrote_it),
        cmocka_unit_test(a_trace_tells_shares_experts_and_the_whole_routing),
        cmocka_unit_test(without_a_tokenizer_a_trace_has_tokens_and_no_text),
        cmocka_unit_test(documents_stored_backwards_are_shown_forwards),
        cmocka_unit_test(every_failed_allocation_of_ours_fails_the_trace_cleanly),
        cmocka_unit_test(a_trace_that_nobody_waits_for_ends_and_gives_nothing),
        cmocka_unit_test(more_documents_than_a_trace_holds_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
