#include "tests/ft_test.h"
#include "tests/sort_fixture.h"

#include "base/ft_random.h"

enum { END = UINT32_MAX };

static const uint32_t *compared;

/* The definition: token by token until an end, then by position. */
static int compare_plainly(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    for (uint32_t i = 0;; i++) {
        const uint32_t s = compared[x + i], t = compared[y + i];
        if (s == END || t == END) {
            if (s != t)
                return s == END ? -1 : 1;
            return x < y ? -1 : x > y;
        }
        if (s != t)
            return s < t ? -1 : 1;
    }
}

static void check_sorted(const uint32_t *tokens, size_t n, const char *what)
{
    ft_status st;
    uint32_t *order = calloc(n + 1, sizeof(*order)), *want = calloc(n + 1, sizeof(*want));
    for (uint32_t i = 0; i < n; i++)
        want[i] = i;
    compared = tokens;
    qsort(want, n, sizeof(*want), compare_plainly);
    assert_ok(sort_documents(order, tokens, n, &st), st);
    for (size_t i = 0; i < n; i++)
        if (order[i] != want[i])
            fail_msg("%s: rank %zu of %zu holds %u, expected %u", what, i, n, order[i], want[i]);
    free(order);
    free(want);
}

static void all_short_arrays_are_sorted(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 7; n++) {
        size_t many = 1;
        for (size_t i = 1; i < n; i++)
            many *= 3;
        for (size_t code = 0; code < many; code++) {
            uint32_t tokens[8];
            size_t rest = code;
            for (size_t i = 0; i + 1 < n; i++, rest /= 3)
                tokens[i] = rest % 3 == 2 ? END : (uint32_t)(rest % 3);
            tokens[n - 1] = END;
            check_sorted(tokens, n, "short array");
        }
    }
}

static void random_corpora_of_all_shapes_are_sorted(void **state)
{
    (void)state;
    static const uint32_t vocabularies[] = {1, 2, 3, 200, 70000, 5000000};
    ft_random r;
    ft_random_init(&r, 7);
    for (size_t v = 0; v < sizeof(vocabularies) / sizeof(*vocabularies); v++)
        for (unsigned round = 0; round < 12; round++) {
            const size_t n = 1 + (size_t)ft_random_below(&r, vocabularies[v] == 1 ? 300 : 4000);
            const uint64_t ends = round % 3 == 0 ? 1 : round % 3 == 1 ? 20 : 400;
            uint32_t *tokens = calloc(n, sizeof(*tokens));
            for (size_t i = 0; i < n; i++)
                tokens[i] = ft_random_below(&r, ends + 1) == 0 ? END : (uint32_t)ft_random_below(&r, vocabularies[v]);
            tokens[n - 1] = END;
            check_sorted(tokens, n, "random corpus");
            free(tokens);
        }
}

/* Copies of one document, of its prefixes, and a phrase many times over. */
static void repeats_are_sorted(void **state)
{
    (void)state;
    enum { N = 9000 };
    ft_random r;
    ft_random_init(&r, 8);
    uint32_t *tokens = calloc(N, sizeof(*tokens));
    for (unsigned period = 1; period <= 300; period = period * 3 + 1) {
        for (size_t i = 0; i < N; i++)
            tokens[i] = i % 700 == 699 ? END : (uint32_t)(i % 700 % period);
        tokens[N - 1] = END;
        check_sorted(tokens, N, "periodic documents");
        for (size_t i = 0; i < N; i++)
            tokens[i] = i % 1500 == 1499 ? END : (uint32_t)(i % 1500 * 31 % 601);
        tokens[ft_random_below(&r, N)] = 5;
        tokens[N - 1] = END;
        check_sorted(tokens, N, "duplicate documents");
    }
    free(tokens);
}

/* A million chunks that begin with one token, more than are sorted at once, so that ranges are split in place. The
 * order is checked against itself: each suffix above the one before. */
static void large_groups_are_split(void **state)
{
    (void)state;
    enum { N = 1 << 21 };
    ft_status st;
    uint32_t *tokens = calloc(N, sizeof(*tokens)), *order = calloc(N, sizeof(*order));
    ft_random r;
    ft_random_init(&r, 9);
    for (size_t i = 0; i < N; i++)
        tokens[i] = i % 2 ? 1 + (uint32_t)ft_random_below(&r, 3) : 0;
    tokens[N - 1] = END;
    assert_ok(sort_documents(order, tokens, N, &st), st);
    compared = tokens;
    for (size_t i = 1; i < N; i++)
        assert_true(compare_plainly(&order[i - 1], &order[i]) < 0);
    free(tokens);
    free(order);
}

static void one_token_a_million_times_is_sorted_by_its_distance_to_the_end(void **state)
{
    (void)state;
    enum { N = 1000001 };
    ft_status st;
    uint32_t *tokens = calloc(N, sizeof(*tokens)), *order = calloc(N, sizeof(*order));
    tokens[N - 1] = END;
    assert_ok(sort_documents(order, tokens, N, &st), st);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(order[i], N - 1 - i);
    free(tokens);
    free(order);
}

/* The watch is asked all along, always further on, and its word is law. */
typedef struct watched {
    double last;
    unsigned asked, stop_at;
} watched;

static int look(void *context, double done)
{
    watched *w = context;
    assert_true(done >= w->last && done <= 1);
    w->last = done;
    return ++w->asked == w->stop_at;
}

static void a_sort_reports_how_far_it_is_and_stops_when_told(void **state)
{
    (void)state;
    enum { N = 3000000 };
    ft_status st;
    uint32_t *text = calloc(N, sizeof(*text));
    int32_t *order = calloc(N, sizeof(*order));
    ft_random r;
    ft_random_init(&r, 11);
    for (size_t i = 0; i < N; i++)
        text[i] = (uint32_t)ft_random_below(&r, 1000);
    watched all = {0};
    ft_sort_watch watch = {look, &all};
    assert_ok(ft_suffix_sort(order, text, N, 1000, &watch, &st), st);
    assert_true(all.asked > 4 && all.last == 1);
    for (unsigned k = 1; k <= all.asked; k++) {
        watched one = {.stop_at = k};
        watch.context = &one;
        assert_int_equal(ft_suffix_sort(order, text, N, 1000, &watch, &st), FT_ERR_CANCELLED);
    }
    free(text);
    free(order);
}

static void a_failing_allocation_is_reported_and_nothing_leaks(void **state)
{
    (void)state;
    enum { N = 3000 };
    uint32_t *tokens = calloc(N, sizeof(*tokens)), *order = calloc(N, sizeof(*order));
    tokens[N - 1] = END;
    for (long k = 1;; k++) {
        ft_status st = {0};
        ft_test_fail_allocation(k);
        const ft_code rc = sort_documents(order, tokens, N, &st);
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (!failed) {
            assert_ok(rc, st);
            assert_true(k > 3);
            break;
        }
        assert_int_equal(rc, FT_ERR_MEM);
        assert_non_null(strstr(st.msg, "memory"));
    }
    free(tokens);
    free(order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_short_arrays_are_sorted),
        cmocka_unit_test(random_corpora_of_all_shapes_are_sorted),
        cmocka_unit_test(repeats_are_sorted),
        cmocka_unit_test(large_groups_are_split),
        cmocka_unit_test(one_token_a_million_times_is_sorted_by_its_distance_to_the_end),
        cmocka_unit_test(a_sort_reports_how_far_it_is_and_stops_when_told),
        cmocka_unit_test(a_failing_allocation_is_reported_and_nothing_leaks),
    };
    return cmocka_run_group_tests_name("suffix_sort", tests, NULL, NULL);
}
