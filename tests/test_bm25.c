/* What tracer/ft_bm25.h promises. */
#include "tests/ft_test.h"

#include "base/ft_random.h"
#include "tracer/ft_bm25.h"

#include <math.h>

static ft_text_view view(const char *text)
{
    return (ft_text_view){text, strlen(text)};
}

/* Values of rank_bm25's formula in Python over re.findall(r"[^\W_]+", text.lower()). */
static void scores_are_those_of_okapi_over_lower_cased_unicode_words(void **state)
{
    (void)state;
    const ft_text_view documents[] = {
        view("In the beginning God created the heaven and the earth."),
        view("And the earth was without form, and void; and darkness was upon the face of the deep."),
        view("SELECT name FROM owners WHERE expert = 3;"),
        view("Größe und ÉTÉ: die Erde war wüst und leer, été."),
        view("the the the"),
    };
    const double want[] = {2.547366590012763, 1.41067297916306, 0, 2.605831086900842, 1.010431854016981};
    double scores[5];
    ft_status st;
    assert_ok(ft_bm25(view("the earth and God; größe été the"), documents, 5, scores, &st), st);
    for (int i = 0; i < 5; i++)
        assert_true(fabs(scores[i] - want[i]) < 1e-12);
}

/* rank_bm25 gives both documents negative scores here, the better one the lower. */
static void with_two_documents_the_one_that_holds_more_of_the_query_comes_first(void **state)
{
    (void)state;
    const ft_text_view documents[] = {view("alpha beta"), view("alpha alpha alpha beta beta")};
    double scores[2];
    assert_int_equal(ft_bm25(view("alpha beta"), documents, 2, scores, NULL), FT_OK);
    assert_true(scores[1] > scores[0] && scores[0] > 0);
    assert_int_equal(ft_bm25(view("alpha"), documents, 1, scores, NULL), FT_OK);
    assert_true(scores[0] > 0);
}

static void empty_queries_documents_and_lists_score_nothing(void **state)
{
    (void)state;
    const ft_text_view documents[] = {view(""), view(" \n.,"), view("\xff\xfe word")};
    double scores[3] = {9, 9, 9};
    assert_int_equal(ft_bm25((ft_text_view){NULL, 0}, documents, 3, scores, NULL), FT_OK);
    assert_true(scores[0] == 0 && scores[1] == 0 && scores[2] == 0);
    assert_int_equal(ft_bm25(view("word"), documents, 3, scores, NULL), FT_OK);
    assert_true(scores[0] == 0 && scores[1] == 0 && scores[2] > 0);
    assert_int_equal(ft_bm25(view("word"), NULL, 0, NULL, NULL), FT_OK);
}

/* The formula written down plainly, over words that are single letters. */
static double plain_score(char documents[][64], int n, int which, const char *query)
{
    double mean_length = 0, idf_sum = 0, idf[26] = {0}, score = 0;
    int distinct = 0, in[26] = {0};
    for (int d = 0; d < n; d++) {
        mean_length += (double)((strlen(documents[d]) + 1) / 2) / n;
        for (char c = 'a'; c <= 'z'; c++)
            in[c - 'a'] += strchr(documents[d], c) != NULL;
    }
    for (int c = 0; c < 26; c++)
        if (in[c]) {
            idf[c] = log(n - in[c] + 0.5) - log(in[c] + 0.5);
            idf_sum += idf[c];
            distinct++;
        }
    const double length = (double)((strlen(documents[which]) + 1) / 2);
    for (const char *q = query; *q; q++) {
        if (*q == ' ' || !in[*q - 'a'])
            continue;
        int f = 0;
        for (const char *p = documents[which]; *p; p++)
            f += *p == *q;
        const double w = idf[*q - 'a'] < 0 ? 0.25 * fabs(idf_sum / distinct) : idf[*q - 'a'];
        score += w * f * 2.5 / (f + 1.5 * (0.25 + 0.75 * length / mean_length));
    }
    return score;
}

static void random_words(ft_random *random, char *out, unsigned letters)
{
    const uint64_t n = ft_random_below(random, 30);
    for (uint64_t i = 0; i < n; i++) {
        *out++ = (char)('a' + (char)ft_random_below(random, letters));
        *out++ = ' ';
    }
    *out = '\0';
    if (n)
        out[-1] = '\0';
}

static void scores_agree_with_the_formula_on_random_words(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        ft_random random;
        ft_random_init(&random, seed);
        char documents[12][64], query[64];
        ft_text_view views[12];
        double scores[12];
        const int n = 1 + (int)ft_random_below(&random, 12);
        const unsigned letters = 1 + (unsigned)ft_random_below(&random, 26);
        for (int d = 0; d < n; d++) {
            random_words(&random, documents[d], letters);
            views[d] = view(documents[d]);
        }
        random_words(&random, query, letters);
        assert_int_equal(ft_bm25(view(query), views, (size_t)n, scores, NULL), FT_OK);
        for (int d = 0; d < n; d++) {
            const double want = plain_score(documents, n, d, query);
            if (fabs(scores[d] - want) > 1e-9)
                fail_msg("seed %d, document %d: %.12g, not %.12g", (int)seed, d, scores[d], want);
        }
    }
}

/* More distinct words than the first table holds. */
static void many_words_are_kept_apart(void **state)
{
    (void)state;
    char *text = malloc(200000), *p = text;
    for (int i = 0; i < 20000; i++)
        p += sprintf(p, "w%d ", i);
    const ft_text_view documents[] = {
        {text, (size_t)(p - text)}, view("w19999 w7"), view("other"), view("words"), view("more")};
    double scores[5];
    assert_int_equal(ft_bm25(view("w19999"), documents, 5, scores, NULL), FT_OK);
    assert_true(scores[1] > scores[0] && scores[0] > 0 && scores[2] == 0 && scores[3] == 0);
    free(text);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    const ft_text_view documents[] = {view("one two"), view("two three")};
    for (long k = 1;; k++) {
        double scores[2];
        ft_test_fail_allocation(k);
        const ft_code rc = ft_bm25(view("two"), documents, 2, scores, NULL);
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (!failed) {
            assert_int_equal(rc, FT_OK);
            assert_true(k > 4);
            break;
        }
        assert_int_equal(rc, FT_ERR_MEM);
    }
}

/* Random ids of the demo's vocabulary: many cut characters in two, and words. */
static void a_document_of_tokens_scores_as_their_text_does(void **state)
{
    (void)state;
    ft_tokenizer *t;
    ft_lexicon *l;
    ft_status st;
    assert_ok(ft_tokenizer_open(&t, ft_test_source("demo/model"), &st), st);
    assert_ok(ft_lexicon_new(&l, t, &st), st);
    ft_random random;
    ft_random_init(&random, 3);
    enum { DOCUMENTS = 6, TOKENS = 300 };
    for (int round = 0; round < 60; round++) {
        uint32_t ids[DOCUMENTS][TOKENS];
        ft_buffer texts[DOCUMENTS] = {0}, query = {0};
        double by_text[DOCUMENTS], by_tokens[DOCUMENTS];
        ft_ranker *r;
        const uint32_t few = round % 2 ? 400 : ft_tokenizer_vocab_size(t) + 3; /* some beyond the vocabulary */
        for (size_t d = 0; d < DOCUMENTS; d++) {
            for (size_t i = 0; i < TOKENS; i++)
                ids[d][i] = (uint32_t)ft_random_below(&random, few);
            assert_ok(ft_tokenizer_decode(t, ids[d], TOKENS, 0, &texts[d], &st), st);
        }
        assert_ok(ft_tokenizer_decode(t, ids[0], TOKENS, 0, &query, &st), st);
        ft_text_view views[DOCUMENTS];
        for (size_t d = 0; d < DOCUMENTS; d++)
            views[d] = (ft_text_view){texts[d].data, texts[d].size};
        assert_ok(ft_bm25((ft_text_view){query.data, query.size}, views, DOCUMENTS, by_text, &st), st);
        assert_ok(ft_ranker_new(&r, (ft_text_view){query.data, query.size}, &st), st);
        for (size_t d = 0; d < DOCUMENTS; d++)
            assert_ok(ft_ranker_add_tokens(r, l, ids[d], TOKENS, &st), st);
        ft_ranker_scores(r, by_tokens);
        for (size_t d = 0; d < DOCUMENTS; d++) {
            if (fabs(by_text[d] - by_tokens[d]) > 1e-9)
                fail_msg("round %d, document %zu: %g by text, %g by tokens", round, d, by_text[d], by_tokens[d]);
            ft_buffer_release(&texts[d]);
        }
        assert_true(by_tokens[0] > 0);
        ft_ranker_free(r);
        ft_buffer_release(&query);
    }
    ft_lexicon_free(l);
    ft_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_those_of_okapi_over_lower_cased_unicode_words),
        cmocka_unit_test(with_two_documents_the_one_that_holds_more_of_the_query_comes_first),
        cmocka_unit_test(empty_queries_documents_and_lists_score_nothing),
        cmocka_unit_test(scores_agree_with_the_formula_on_random_words),
        cmocka_unit_test(many_words_are_kept_apart),
        cmocka_unit_test(a_document_of_tokens_scores_as_their_text_does),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
