/* The accountants against ../shared/golden/dp: its quadrature and whole-order figures to
 * 1e-6, its pessimistic PLD to 1e-3, and the closed form of the Gaussian without sampling. */
#include "tests/ft_test.h"

#include "base/ft_json.h"
#include "model/train/ft_fft.h"
#include "model/train/ft_privacy.h"

#include <math.h>

static json_t *golden(void)
{
    json_t *g = NULL;
    ft_status st = {0};
    assert_ok(ft_json_read_file(&g, ft_test_source("tests/vectors/dp/accounting.json"), 1 << 20, &st), st);
    return g;
}

static double field(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static ft_privacy_mechanism mechanism(const json_t *row)
{
    return (ft_privacy_mechanism){.sampling_rate = field(row, "q"),
                                  .noise_multiplier = json_object_get(row, "sigma") ? field(row, "sigma") : 0,
                                  .steps = (uint64_t)field(row, "steps")};
}

static double spent(const ft_privacy_mechanism *m, double delta, ft_accountant accountant)
{
    ft_privacy_spent s;
    ft_status st = {0};
    assert_ok(ft_privacy_epsilon(&s, m, delta, accountant, &st), st);
    return s.epsilon;
}

static void assert_near(double got, double want, double relative, double absolute)
{
    if (!(fabs(got - want) <= fmax(relative * fabs(want), absolute)))
        fail_msg("%.12g where %.12g is right to %g", got, want, relative);
}

static double converted(const json_t *row, const json_t *orders, double *best)
{
    const ft_privacy_mechanism m = mechanism(row);
    double a[200], rdp[200];
    const size_t n = json_array_size(orders);
    assert_in_range(n, 1, 200);
    for (size_t i = 0; i < n; i++) {
        a[i] = json_number_value(json_array_get(orders, i));
        rdp[i] = (double)m.steps * ft_privacy_rdp(m.sampling_rate, m.noise_multiplier, a[i]);
    }
    return ft_privacy_convert(a, rdp, n, field(row, "delta"), best);
}

static void rdp_of_one_step_equals_the_integral_at_whole_and_fractional_orders(void **state)
{
    (void)state;
    json_t *g = golden(), *row, *v;
    size_t i, count = 0;
    const char *order;
    json_array_foreach(json_object_get(g, "epsilon"), i, row)
    {
        const ft_privacy_mechanism m = mechanism(row);
        json_object_foreach(json_object_get(row, "rdp_per_step_quadrature"), order, v)
        {
            const double want = json_number_value(v);
            assert_near(ft_privacy_rdp(m.sampling_rate, m.noise_multiplier, atof(order)), want, want < 1e-5 ? 0 : 1e-6,
                        1e-11);
            count++;
        }
    }
    assert_in_range(count, 700, 800);
    json_decref(g);
}

static void rdp_epsilon_equals_the_quadrature_and_whole_orders_of_the_golden(void **state)
{
    (void)state;
    json_t *g = golden(), *row;
    size_t i;
    json_array_foreach(json_object_get(g, "epsilon"), i, row)
    {
        const ft_privacy_mechanism m = mechanism(row);
        const double delta = field(row, "delta");
        ft_privacy_spent s;
        double best;
        ft_status st = {0};
        assert_ok(ft_privacy_epsilon(&s, &m, delta, FT_ACCOUNTANT_RDP, &st), st);
        assert_near(s.epsilon, field(row, "eps_rdp_quadrature"), 1e-6, 0);
        assert_near(s.order, field(row, "rdp_quadrature_optimal_order"), 0, 1e-9);
        assert_true(s.epsilon <= field(row, "eps_rdp") * (1 + 1e-6));
        assert_near(converted(row, json_object_get(g, "integer_rdp_orders"), &best),
                    field(row, "eps_rdp_integer_orders"), 1e-6, 0);
        assert_near(best, field(row, "rdp_integer_optimal_order"), 0, 1e-9);
        assert_near(converted(row, json_object_get(g, "short_rdp_orders"), &best),
                    field(row, "eps_rdp_quadrature_short_orders"), 1e-6, 0);
    }
    json_decref(g);
}

static void pld_epsilon_is_the_goldens_and_no_less_than_the_exact_one(void **state)
{
    (void)state;
    json_t *g = golden(), *row;
    size_t i;
    double worst = 0;
    json_array_foreach(json_object_get(g, "epsilon"), i, row)
    {
        const ft_privacy_mechanism m = mechanism(row);
        const double delta = field(row, "delta"), got = spent(&m, delta, FT_ACCOUNTANT_PLD);
        worst = fmax(worst, fabs(got / field(row, "eps_pld") - 1));
        assert_near(got, field(row, "eps_pld"), 1e-3, 0);
        assert_true(got <= field(row, "eps_rdp_quadrature"));
        if (json_is_number(json_object_get(row, "eps_exact_gaussian"))) {
            assert_near(got, field(row, "eps_exact_gaussian"), 1e-6, 0);
            assert_true(got >= field(row, "eps_exact_gaussian") * (1 - 1e-9));
        }
    }
    print_message("largest relative difference of a PLD epsilon: %.2g\n", worst);
    json_decref(g);
}

static void the_least_sigma_for_an_epsilon_is_the_goldens(void **state)
{
    (void)state;
    json_t *g = golden(), *row;
    size_t i;
    json_array_foreach(json_object_get(g, "sigma_for_epsilon"), i, row)
    {
        const double target = field(row, "target_epsilon"), delta = field(row, "delta"), q = field(row, "q");
        const uint64_t steps = (uint64_t)field(row, "steps");
        ft_privacy_spent s;
        ft_status st = {0};
        double sigma;
        assert_ok(ft_privacy_sigma(&sigma, &s, q, steps, target, delta, FT_ACCOUNTANT_RDP, &st), st);
        assert_true(sigma <= field(row, "sigma_rdp") * (1 + 1e-6) && sigma >= field(row, "sigma_rdp") * 0.99);
        assert_true(s.epsilon <= target && s.epsilon >= target * (1 - 1e-5));
        if (i % 5 == 0) {
            assert_ok(ft_privacy_sigma(&sigma, &s, q, steps, target, delta, FT_ACCOUNTANT_PLD, &st), st);
            assert_near(sigma, field(row, "sigma_pld"), 1e-4, 0);
            assert_true(s.epsilon <= target);
        }
    }
    json_decref(g);
}

static void nothing_costs_nothing_and_no_noise_costs_infinity(void **state)
{
    (void)state;
    for (int a = 0; a < 2; a++) {
        assert_true(spent(&(ft_privacy_mechanism){0.1, 1, 0}, 1e-5, (ft_accountant)a) == 0);
        assert_true(spent(&(ft_privacy_mechanism){0, 1, 10}, 1e-5, (ft_accountant)a) == 0);
        assert_true(spent(&(ft_privacy_mechanism){0, 0, 10}, 1e-5, (ft_accountant)a) == 0);
        assert_true(isinf(spent(&(ft_privacy_mechanism){0.1, 0, 10}, 1e-5, (ft_accountant)a)));
    }
}

static void impossible_arguments_are_refused(void **state)
{
    (void)state;
    static const struct {
        ft_privacy_mechanism m;
        double delta;
    } bad[] = {{{-0.1, 1, 1}, 1e-5},  {{1.1, 1, 1}, 1e-5}, {{NAN, 1, 1}, 1e-5}, {{0.1, -1, 1}, 1e-5},
               {{0.1, NAN, 1}, 1e-5}, {{0.1, 1, 1}, 0},    {{0.1, 1, 1}, 1},    {{0.1, 1, 1}, NAN}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        ft_privacy_spent s;
        ft_status st = {0};
        assert_int_equal(ft_privacy_epsilon(&s, &bad[i].m, bad[i].delta, FT_ACCOUNTANT_RDP, &st), FT_ERR_ARG);
        assert_non_null(strstr(st.msg, "privacy: "));
    }
}

static void hostile_corners_give_a_number_or_infinity_never_nan(void **state)
{
    (void)state;
    static const double qs[] = {1e-9, 0.3, 1}, sigmas[] = {1e-5, 0.01, 0.3, 1000};
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 4; k++) {
            const ft_privacy_mechanism m = {qs[i], sigmas[k], 1000};
            const double rdp = spent(&m, 1e-6, FT_ACCOUNTANT_RDP), pld = spent(&m, 1e-6, FT_ACCOUNTANT_PLD);
            assert_true(pld >= 0 && pld <= rdp * 1.001);
            assert_true(qs[i] < 0.1 || pld >= 0.15 * rdp);
        }
}

static void the_most_steps_within_a_budget_cannot_be_one_more(void **state)
{
    (void)state;
    for (int a = 0; a < 2; a++) {
        ft_privacy_mechanism m = {0.02, 1, 0};
        ft_status st = {0};
        assert_ok(ft_privacy_steps(&m.steps, m.sampling_rate, m.noise_multiplier, 2, 1e-5, (ft_accountant)a, &st), st);
        assert_true(spent(&m, 1e-5, (ft_accountant)a) <= 2);
        m.steps++;
        assert_true(spent(&m, 1e-5, (ft_accountant)a) > 2);
        assert_ok(ft_privacy_steps(&m.steps, 0.02, 0.3, 1e-3, 1e-5, (ft_accountant)a, &st), st);
        assert_int_equal(m.steps, 0);
    }
}

static void the_fft_is_the_sum_that_defines_it(void **state)
{
    (void)state;
    enum { N = 64 };
    double z[2 * N], was[2 * N], twiddles[N];
    for (size_t i = 0; i < 2 * N; i++)
        was[i] = z[i] = sin((double)(i * i));
    ft_fft_twiddles(twiddles, N);
    ft_fft(z, N, twiddles, 0);
    for (size_t k = 0; k < N; k++) {
        double re = 0, im = 0;
        for (size_t i = 0; i < N; i++) {
            const double c = cos(2 * acos(-1) * (double)(i * k) / N), s = -sin(2 * acos(-1) * (double)(i * k) / N);
            re += was[2 * i] * c - was[2 * i + 1] * s;
            im += was[2 * i] * s + was[2 * i + 1] * c;
        }
        assert_near(z[2 * k], re, 0, 1e-12);
        assert_near(z[2 * k + 1], im, 0, 1e-12);
    }
    ft_fft(z, N, twiddles, 1);
    for (size_t i = 0; i < 2 * N; i++)
        assert_near(z[i] / N, was[i], 0, 1e-14);
}

static void the_command_answers_as_the_contract_says(void **state)
{
    (void)state;
    char *out, *err;
    assert_int_equal(
        ft_test_shell("$FLEXTRACE privacy epsilon --sampling-rate 0.01 --noise-multiplier 1.1 --steps 1000 "
                      "--delta 1e-5 --json",
                      &out, NULL),
        0);
    ft_status st = {0};
    json_t *v = NULL;
    assert_ok(ft_json_parse(&v, out, strlen(out), "answer", &st), st);
    ft_privacy_spent s;
    assert_ok(ft_privacy_epsilon(&s, &(ft_privacy_mechanism){0.01, 1.1, 1000}, 1e-5, FT_ACCOUNTANT_RDP, &st), st);
    assert_true(field(v, "epsilon") == s.epsilon && field(v, "order") == s.order);
    json_decref(v);
    free(out);
    assert_int_equal(ft_test_shell("$FLEXTRACE privacy epsilon --sampling-rate 0.01 --noise-multiplier 0 --steps 10 "
                                   "--delta 1e-5 --json",
                                   &out, NULL),
                     0);
    assert_ok(ft_json_parse(&v, out, strlen(out), "answer", &st), st);
    assert_true(json_is_null(json_object_get(v, "epsilon")) && json_is_string(json_object_get(v, "reason")));
    json_decref(v);
    free(out);
    assert_int_equal(
        ft_test_shell("$FLEXTRACE privacy sigma --sampling-rate 0.01 --steps 1000 --epsilon 1 --delta 1e-5 "
                      "--accountant pld --json",
                      &out, NULL),
        0);
    assert_ok(ft_json_parse(&v, out, strlen(out), "answer", &st), st);
    assert_near(field(v, "sigma"), 1.414630942840553, 1e-4, 0);
    json_decref(v);
    free(out);
    assert_int_equal(
        ft_test_shell("$FLEXTRACE privacy epsilon --sampling-rate 2 --noise-multiplier 1 --steps 10 --delta 1e-5", NULL,
                      &err),
        2);
    assert_non_null(strstr(err, "sampling-rate"));
    free(err);
    assert_int_equal(ft_test_shell("$FLEXTRACE privacy epsilon --steps 10", NULL, &err), 2);
    free(err);
}

/* Exact figures: of one Gaussian step without sampling by its closed form, in 60 digits and more; the last is a bound
 * from below. */
static void no_accountant_is_below_the_truth_at_very_small_deltas(void **state)
{
    (void)state;
    static const struct {
        double q, sigma, delta, exact;
    } cases[] = {{1, 2, 1e-14, 3.76753}, {1, 2, 1e-16, 4.0618}, {1, 2, 1e-20, 4.595}, {0.01, 2, 1e-300, 13.92}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (int a = 0; a < 2; a++) {
            const ft_privacy_mechanism m = {cases[i].q, cases[i].sigma, 1};
            const double epsilon = spent(&m, cases[i].delta, (ft_accountant)a);
            if (!(epsilon >= cases[i].exact * (1 - 1e-5) && epsilon < 2 * cases[i].exact))
                fail_msg("delta %g: epsilon %.6g, exactly %g", cases[i].delta, epsilon, cases[i].exact);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rdp_of_one_step_equals_the_integral_at_whole_and_fractional_orders),
        cmocka_unit_test(rdp_epsilon_equals_the_quadrature_and_whole_orders_of_the_golden),
        cmocka_unit_test(pld_epsilon_is_the_goldens_and_no_less_than_the_exact_one),
        cmocka_unit_test(the_least_sigma_for_an_epsilon_is_the_goldens),
        cmocka_unit_test(nothing_costs_nothing_and_no_noise_costs_infinity),
        cmocka_unit_test(impossible_arguments_are_refused),
        cmocka_unit_test(hostile_corners_give_a_number_or_infinity_never_nan),
        cmocka_unit_test(the_most_steps_within_a_budget_cannot_be_one_more),
        cmocka_unit_test(the_fft_is_the_sum_that_defines_it),
        cmocka_unit_test(the_command_answers_as_the_contract_says),
        cmocka_unit_test(no_accountant_is_below_the_truth_at_very_small_deltas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
