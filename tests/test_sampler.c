/* The sampler's penalties, biases and bounds, against their definitions. */
#include "tests/ft_test.h"

#include "base/ft_random.h"
#include "model/ft_sampler.h"

#include <math.h>

enum { N = 23 };

static ft_sampler *sampler_with_ends(ft_sampling how, const uint32_t *ends, size_t n)
{
    ft_status st = {0};
    ft_sampler *s;
    assert_ok(ft_sampler_new(&s, &how, ends, n, N, &st), st);
    return s;
}

static ft_sampler *sampler(ft_sampling how)
{
    return sampler_with_ends(how, NULL, 0);
}

static void make_logits(float logits[N], uint64_t seed)
{
    ft_random r;
    ft_random_init(&r, seed);
    for (size_t i = 0; i < N; i++)
        logits[i] = (float)(ft_random_unit(&r) * 6 - 3);
}

/* The definition, token by token: bias, then repetition over prompt and text, then
 * frequency and presence over the text; the largest wins, the lowest id on a tie. */
static uint32_t greedy_by_definition(const float *logits, const ft_sampling *how, const uint32_t *prompt,
                                     size_t prompt_count, const uint32_t *text, size_t count)
{
    uint32_t best = 0;
    float largest = -INFINITY;
    for (uint32_t id = 0; id < N; id++) {
        float x = logits[id];
        int stands = 0, times = 0;
        for (size_t i = 0; i < how->bias_count; i++)
            x += how->bias_ids[i] == id ? how->bias_values[i] : 0;
        for (size_t i = 0; i < prompt_count; i++)
            stands |= prompt[i] == id;
        for (size_t i = 0; i < count; i++)
            times += text[i] == id;
        if ((stands || times) && how->repetition_penalty != 0)
            x = x > 0 ? x / (float)how->repetition_penalty : x * (float)how->repetition_penalty;
        if (times)
            x -= (float)(how->frequency_penalty * times + how->presence_penalty);
        if (x > largest) {
            largest = x;
            best = id;
        }
    }
    return best;
}

static void penalties_and_biases_are_those_of_the_definition(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {3, 4, 4, 900, 11}, bias_ids[] = {0, 7, 22};
    static const float bias_values[] = {1.5f, -2, 0.75f};
    static const ft_sampling hows[] = {{.top_p = 1, .presence_penalty = 1.5},
                                       {.top_p = 1, .frequency_penalty = 0.4},
                                       {.top_p = 1, .presence_penalty = -0.3, .frequency_penalty = -0.1},
                                       {.top_p = 1, .repetition_penalty = 1.7},
                                       {.top_p = 1, .repetition_penalty = 0.6},
                                       {.top_p = 1, .bias_ids = bias_ids, .bias_values = bias_values, .bias_count = 3},
                                       {.top_p = 1,
                                        .presence_penalty = 0.5,
                                        .frequency_penalty = 0.3,
                                        .repetition_penalty = 1.2,
                                        .bias_ids = bias_ids,
                                        .bias_values = bias_values,
                                        .bias_count = 3}};
    for (size_t c = 0; c < sizeof(hows) / sizeof(*hows); c++) {
        ft_sampler *s = sampler(hows[c]);
        uint32_t text[60];
        ft_sampler_read_prompt(s, prompt, 5);
        for (size_t i = 0; i < 60; i++) {
            float logits[N], before[N];
            make_logits(logits, 1000 * c + i / 4);
            memcpy(before, logits, sizeof(logits));
            const uint32_t want = greedy_by_definition(logits, &hows[c], prompt, 5, text, i);
            text[i] = ft_sampler_draw(s, logits, 0);
            if (text[i] != want)
                fail_msg("case %zu, token %zu: %u, not %u", c, i, text[i], want);
            assert_memory_equal(before, logits, sizeof(logits)); /* log-probabilities are of the raw ones */
        }
        ft_sampler_free(s);
    }
}

static void min_p_keeps_what_is_at_least_that_share_of_the_likeliest(void **state)
{
    (void)state;
    enum { DRAWS = 4000 };
    float logits[N];
    make_logits(logits, 7);
    float largest = logits[0];
    for (size_t i = 1; i < N; i++)
        largest = fmaxf(largest, logits[i]);
    static const double shares[] = {0.02, 0.3, 1};
    for (size_t c = 0; c < 3; c++) {
        ft_sampler *s = sampler((ft_sampling){.temperature = 0.9, .top_p = 1, .min_p = shares[c], .seed = c});
        int drawn[N] = {0};
        for (int i = 0; i < DRAWS; i++)
            drawn[ft_sampler_draw(s, logits, 0)]++;
        double total = 0;
        for (size_t i = 0; i < N; i++) {
            const double w = exp((double)(logits[i] - largest) / 0.9);
            total += w >= shares[c] ? w : 0;
        }
        for (size_t i = 0; i < N; i++) {
            const double w = exp((double)(logits[i] - largest) / 0.9), p = w >= shares[c] ? w / total : 0;
            const double sd = sqrt(p * (1 - p) / DRAWS), got = (double)drawn[i] / DRAWS;
            if (fabs(got - p) > 5 * sd + 1e-12)
                fail_msg("min_p %g, id %zu: drawn %g, not %g", shares[c], i, got, p);
        }
        ft_sampler_free(s);
    }
}

static void no_end_is_drawn_before_min_tokens(void **state)
{
    (void)state;
    static const uint32_t ends[] = {5, 9, 4000};
    float logits[N] = {0};
    logits[5] = logits[9] = 40;
    for (int greedy = 0; greedy < 2; greedy++) {
        ft_sampler *s =
            sampler_with_ends((ft_sampling){.temperature = !greedy, .top_p = 1, .min_tokens = 6, .seed = 3}, ends, 3);
        for (size_t i = 0; i < 12; i++) {
            const uint32_t id = ft_sampler_draw(s, logits, 0);
            assert_int_equal(id == 5 || id == 9, i >= 6);
        }
        ft_sampler_free(s);
    }
}

static void fields_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    static const uint32_t beyond[] = {N};
    static const float values[] = {1, NAN};
    static const uint32_t id[] = {0, 1};
    static const struct {
        ft_sampling how;
        const char *name;
    } bad[] = {{{.top_p = 1, .min_p = -0.1}, "min_p"},
               {{.top_p = 1, .min_p = NAN}, "min_p"},
               {{.top_p = 1, .presence_penalty = NAN}, "presence_penalty"},
               {{.top_p = 1, .frequency_penalty = INFINITY}, "frequency_penalty"},
               {{.top_p = 1, .repetition_penalty = -1}, "repetition_penalty"},
               {{.top_p = 1, .bias_ids = beyond, .bias_values = values, .bias_count = 1}, "logit_bias"},
               {{.top_p = 1, .bias_ids = id, .bias_values = values, .bias_count = 2}, "logit_bias"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        ft_status st = {0};
        ft_sampler *s = (ft_sampler *)&st;
        assert_int_equal(ft_sampler_new(&s, &bad[i].how, NULL, 0, N, &st), FT_ERR_ARG);
        assert_null(s);
        assert_non_null(strstr(st.msg, bad[i].name));
    }
}

static void a_draw_allocates_nothing(void **state)
{
    (void)state;
    static const uint32_t ids[] = {1};
    static const float values[] = {1};
    float logits[N];
    make_logits(logits, 1);
    ft_sampler *s = sampler_with_ends((ft_sampling){.temperature = 1,
                                                    .top_p = 0.9,
                                                    .top_k = 9,
                                                    .min_p = 0.01,
                                                    .presence_penalty = 1,
                                                    .repetition_penalty = 1.1,
                                                    .bias_ids = ids,
                                                    .bias_values = values,
                                                    .bias_count = 1,
                                                    .min_tokens = 3},
                                      ids, 1);
    ft_test_fail_allocation(1); /* the next one fails, and so would tell */
    for (int i = 0; i < 50; i++)
        (void)ft_sampler_draw(s, logits, 0);
    assert_false(ft_test_allocation_failed());
    ft_test_fail_allocation(0);
    ft_sampler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(penalties_and_biases_are_those_of_the_definition),
        cmocka_unit_test(min_p_keeps_what_is_at_least_that_share_of_the_likeliest),
        cmocka_unit_test(no_end_is_drawn_before_min_tokens),
        cmocka_unit_test(fields_out_of_range_are_refused_by_name),
        cmocka_unit_test(a_draw_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
