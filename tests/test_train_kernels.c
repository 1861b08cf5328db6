/* Every backward operation against central differences of its formula, written out here in
 * float64: for a random loss sum_i c_i y_i, d loss / d x_k = (L(x_k + h) - L(x_k - h)) / 2h, off by
 * O(h^2) = 1e-8; the float32 operation itself by some 1e-6 of the largest gradient. */
#include "tests/ft_test.h"

#include "base/ft_random.h"
#include "model/train/ft_adamw.h"
#include "model/train/ft_attention_backward.h"
#include "model/train/ft_cross_entropy.h"
#include "model/train/ft_embed_backward.h"
#include "model/train/ft_gemm.h"
#include "model/train/ft_linear_backward.h"
#include "model/train/ft_norm_backward.h"
#include "model/train/ft_rope_backward.h"
#include "model/train/ft_router_backward.h"
#include "model/train/ft_swiglu_backward.h"

#include <math.h>

enum { MOST = 4096 };
static const double H = 1e-4;

typedef double loss_fn(const double *x, const void *context);

static void fill(float *x, size_t n, uint64_t seed)
{
    ft_random r;
    ft_random_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(2 * ft_random_unit(&r) - 1);
}

/* got [n] against the differences of loss at x [total], for elements from `at` on. */
static void differ(loss_fn *loss, const void *context, const float *x, size_t total, size_t at, const float *got,
                   size_t n, const char *what)
{
    double wide[MOST], want[MOST], most = 0;
    assert_true(total <= MOST);
    for (size_t i = 0; i < total; i++)
        wide[i] = (double)x[i];
    for (size_t i = 0; i < n; i++) {
        const double was = wide[at + i];
        wide[at + i] = was + H;
        const double up = loss(wide, context);
        wide[at + i] = was - H;
        want[i] = (up - loss(wide, context)) / (2 * H);
        wide[at + i] = was;
        most = fmax(most, fabs(want[i]));
    }
    assert_true(most > 1e-3); /* a gradient that is there */
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 1e-5 * most))
            fail_msg("%s: element %zu: %.9g where the difference is %.9g", what, i, (double)got[i], want[i]);
}

/* --- RMSNorm: x [3, 8], then w [8] ---------------------------------------------------------- */

enum { NR = 3, NC = 8 };
static double norm_loss(const double *x, const void *context)
{
    const float *c = context;
    double sum = 0;
    for (size_t t = 0; t < NR; t++) {
        double squares = 0;
        for (size_t i = 0; i < NC; i++)
            squares += x[t * NC + i] * x[t * NC + i];
        for (size_t i = 0; i < NC; i++)
            sum += (double)c[t * NC + i] * x[t * NC + i] / sqrt(squares / NC + 1e-6) * x[NR * NC + i];
    }
    return sum;
}

static void norm_backward_is_the_difference_of_norm(void **state)
{
    (void)state;
    float x[NR * NC + NC], c[NR * NC], y[NR * NC], inverse[NR], dx[NR * NC], dw[NC] = {0};
    fill(x, NR * NC + NC, 1);
    fill(c, NR * NC, 2);
    ft_norm_forward(y, inverse, x, x + NR * NC, NULL, NR, NC, 1e-6);
    ft_norm_backward(dx, c, x, inverse, x + NR * NC, NR, NC);
    ft_norm_backward_weight(dw, c, x, inverse, NR, NC);
    differ(norm_loss, c, x, NR * NC + NC, 0, dx, NR * NC, "dx");
    differ(norm_loss, c, x, NR * NC + NC, NR * NC, dw, NC, "dw");
}

/* --- SwiGLU: g [16], u [16] ------------------------------------------------------------------ */

static double swiglu_loss(const double *x, const void *context)
{
    const float *c = context;
    double sum = 0;
    for (size_t i = 0; i < 16; i++)
        sum += (double)c[i] * x[i] / (1 + exp(-x[i])) * x[16 + i];
    return sum;
}

static void swiglu_backward_is_the_difference_of_swiglu(void **state)
{
    (void)state;
    float x[32], c[16], a[16], again[16], d[32];
    fill(x, 32, 3);
    fill(c, 16, 4);
    ft_swiglu_forward(a, x, x + 16, 16);
    ft_swiglu_backward(d, d + 16, again, c, x, x + 16, 16);
    differ(swiglu_loss, c, x, 32, 0, d, 32, "dg, du");
    assert_memory_equal(again, a, sizeof(a));
}

/* --- Rotary positions --------------------------------------------------------------------------- */

static double rope_loss(const double *x, const void *context)
{
    const float *c = context;
    double sum = 0;
    for (size_t t = 0; t < 3; t++)
        for (size_t h = 0; h < 2; h++)
            for (size_t i = 0; i < 2; i++) {
                const double angle = (double)t * (double)(i + 1) * 0.3;
                const double *p = x + (t * 2 + h) * 4;
                const float *q = c + (t * 2 + h) * 4;
                sum += (double)q[i] * (p[i] * cos(angle) - p[i + 2] * sin(angle));
                sum += (double)q[i + 2] * (p[i + 2] * cos(angle) + p[i] * sin(angle));
            }
    return sum;
}

static void turning_back_is_the_difference_of_turning(void **state)
{
    (void)state;
    float x[24], d[24], c[24], cosine[6], sine[6];
    fill(x, 24, 5);
    fill(c, 24, 6);
    for (size_t t = 0; t < 3; t++)
        for (size_t i = 0; i < 2; i++) {
            cosine[2 * t + i] = (float)cos((double)t * (double)(i + 1) * 0.3);
            sine[2 * t + i] = (float)sin((double)t * (double)(i + 1) * 0.3);
        }
    memcpy(d, c, sizeof(d));
    ft_rope_turn(d, 3, 2, 2, 0, 3, cosine, sine, 1);
    differ(rope_loss, c, x, 24, 0, d, 24, "dx");
}

/* --- Attention: q [T, 4 heads, D], k, v [T, 2 heads, D], documents at 0 and 70 ------------------- */

enum { T = 75, HEADS = 4, KV_HEADS = 2, D = 2, QN = T * HEADS * D, KN = T * KV_HEADS * D };
static uint32_t begins[T];

static double attention_loss(const double *x, const void *context)
{
    const float *c = context;
    const double *q = x, *k = x + QN, *v = k + KN;
    double sum = 0, s[T];
    for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < HEADS; h++) {
            double total = 0;
            for (size_t j = begins[t]; j <= t; j++) {
                double dot = 0;
                for (size_t d = 0; d < D; d++)
                    dot += q[(t * HEADS + h) * D + d] * k[(j * KV_HEADS + h / 2) * D + d];
                s[j] = exp(dot / sqrt(D));
                total += s[j];
            }
            for (size_t j = begins[t]; j <= t; j++)
                for (size_t d = 0; d < D; d++)
                    sum += (double)c[(t * HEADS + h) * D + d] * s[j] / total * v[(j * KV_HEADS + h / 2) * D + d];
        }
    return sum;
}

static void attention_backward_is_the_difference_of_attention_within_documents(void **state)
{
    (void)state;
    static float x[QN + 2 * KN], c[QN], o[QN], lse[HEADS * T], d[QN + 2 * KN], scratch[1 << 15];
    fill(x, QN + 2 * KN, 7);
    fill(c, QN, 8);
    for (size_t t = 0; t < T; t++)
        begins[t] = t < 70 ? 0 : 70;
    const ft_attention a = {.length = T,
                            .heads = HEADS,
                            .kv_heads = KV_HEADS,
                            .head_dim = D,
                            .begin = begins,
                            .q = x,
                            .k = x + QN,
                            .v = x + QN + KN,
                            .o = o,
                            .lse = lse,
                            .d_o = c,
                            .dq = d,
                            .dk = d + QN,
                            .dv = d + QN + KN};
    double loss = 0, wide[QN + 2 * KN];
    assert_true(ft_attention_scratch(T, D) <= sizeof(scratch) / sizeof(*scratch));
    for (size_t h = 0; h < KV_HEADS; h++)
        ft_attention_forward(&a, h, scratch);
    for (size_t i = 0; i < QN + 2 * KN; i++)
        wide[i] = (double)x[i];
    for (size_t i = 0; i < QN; i++)
        loss += (double)c[i] * (double)o[i];
    assert_true(fabs(loss - attention_loss(wide, c)) < 1e-4);
    for (size_t h = 0; h < KV_HEADS; h++)
        ft_attention_backward(&a, h, scratch);
    differ(attention_loss, c, x, QN + 2 * KN, 0, d, QN, "dq");
    differ(attention_loss, c, x, QN + 2 * KN, QN, d + QN, KN, "dk");
    differ(attention_loss, c, x, QN + 2 * KN, QN + KN, d + QN + KN, KN, "dv");
}

/* With a head of 40, keys in several pieces and an odd number of them: rounding all operands is what differs. */
static void attention_in_bfloat16_is_attention_within_its_rounding(void **state)
{
    (void)state;
    enum { LONG = 203, WIDE = 40, N = LONG * WIDE };
    static float x[3 * N], c[N], o[2][N], d[2][3 * N], lse[2][LONG];
    static uint32_t first[LONG];
    float *scratch = test_malloc(ft_attention_scratch(LONG, WIDE) * sizeof(*scratch));
    fill(x, 3 * N, 17);
    fill(c, N, 18);
    for (size_t t = 0; t < LONG; t++)
        first[t] = t < 50 ? 0 : t < 151 ? 50 : 151;
    for (int half = 0; half < 2; half++) {
        const ft_attention a = {.length = LONG,
                                .heads = 1,
                                .kv_heads = 1,
                                .head_dim = WIDE,
                                .bfloat16 = half,
                                .begin = first,
                                .q = x,
                                .k = x + N,
                                .v = x + 2 * N,
                                .o = o[half],
                                .lse = lse[half],
                                .d_o = c,
                                .dq = d[half],
                                .dk = d[half] + N,
                                .dv = d[half] + 2 * N};
        ft_attention_forward(&a, 0, scratch);
        ft_attention_backward(&a, 0, scratch);
    }
    double error = 0, size = 0;
    for (size_t i = 0; i < 4 * N; i++) {
        const float exact = i < N ? o[0][i] : d[0][i - N], rounded = i < N ? o[1][i] : d[1][i - N];
        error += (double)(exact - rounded) * (double)(exact - rounded);
        size += (double)exact * (double)exact;
    }
    assert_true(error > 0 && sqrt(error / size) < 0.01);
    test_free(scratch);
}

/* --- Router --------------------------------------------------------------------------------------- */

typedef struct router_case {
    ft_router r;
    const uint32_t *chosen;
    const float *c;
    double z_scale, domain_scale; /* of expert 2's domain */
} router_case;

static double router_loss(const double *x, const void *context)
{
    const router_case *k = context;
    double total = 0, kept = 0, sum = 0;
    for (size_t e = 0; e < k->r.experts; e++)
        total += exp(x[e]);
    for (size_t j = 0; j < k->r.top_k; j++)
        kept += exp(x[k->chosen[j]]) / total;
    for (size_t j = 0; j < k->r.top_k; j++)
        sum += (double)k->c[j] * exp(x[k->chosen[j]]) / total / (k->r.normalize ? kept : 1);
    return sum + k->z_scale * log(total) * log(total) - k->domain_scale * log(exp(x[2]) / total);
}

static void router_backward_is_the_difference_of_router(void **state)
{
    (void)state;
    for (int normalize = 0; normalize < 2; normalize++) {
        float l[5], p[5], weights[3], c[3], d[5];
        uint32_t chosen[3];
        fill(l, 5, 9);
        fill(c, 3, 10);
        memcpy(p, l, sizeof(p));
        router_case k = {.r = {.experts = 5, .top_k = 3, .normalize = normalize},
                         .chosen = chosen,
                         .c = c,
                         .z_scale = 0.3,
                         .domain_scale = 0.7};
        const float lse = ft_router_forward(&k.r, p, chosen, weights);
        assert_true(l[chosen[0]] >= l[chosen[1]] && l[chosen[1]] >= l[chosen[2]]);
        ft_router_backward(&k.r, d, p, chosen, c, lse, 0.3f);
        ft_router_domain_backward(&k.r, d, p, 2, 0.7f);
        differ(router_loss, &k, l, 5, 0, d, 5, "dl");
    }
}

static void a_positive_bias_is_clamped_and_a_tie_goes_to_the_lower_number(void **state)
{
    (void)state;
    const float bias[2] = {0.5f, -0.25f};
    const ft_router r = {.experts = 3, .top_k = 2, .bias = bias};
    float l[3] = {1, 1, 1.25f}, w[2];
    uint32_t chosen[2];
    (void)ft_router_forward(&r, l, chosen, w);
    assert_int_equal(chosen[0], 0);
    assert_int_equal(chosen[1], 1);
    assert_true(fabsf(w[0] - 1.0f / 3) < 1e-6f);
}

/* --- Cross-entropy ------------------------------------------------------------------------------------ */

static double cross_entropy_loss(const double *x, const void *context)
{
    double sum = 0;
    (void)context;
    for (size_t v = 0; v < 20; v++)
        sum += exp(x[v]);
    return 0.5 * (log(sum) - x[7]);
}

static void cross_entropy_is_its_loss_and_the_difference_of_it(void **state)
{
    (void)state;
    float x[20], d[20];
    double wide[20];
    fill(x, 20, 11);
    for (size_t i = 0; i < 20; i++)
        wide[i] = (double)x[i];
    memcpy(d, x, sizeof(d));
    assert_true(fabs(0.5 * ft_cross_entropy(d, 20, 7, 0.5f) - cross_entropy_loss(wide, NULL)) < 1e-6);
    differ(cross_entropy_loss, NULL, x, 20, 0, d, 20, "dx");
    x[3] = NAN;
    assert_true(isnan(ft_cross_entropy(x, 20, 7, 1)));
}

/* --- Products, ghost norms ------------------------------------------------------------------------------ */

static void linear_backward_is_the_sum_that_defines_it_and_its_ghost_the_norm(void **state)
{
    (void)state;
    enum { N = 9, IN = 6, OUT = 5 };
    float x[N * IN], w[OUT * IN], dy[N * OUT], dx[N * IN] = {0}, dw[OUT * IN] = {0}, scratch[2 * N * N];
    fill(x, N * IN, 12);
    fill(w, OUT * IN, 13);
    fill(dy, N * OUT, 14);
    ft_linear_backward(NULL, dx, 0, dy, OUT, w, N, IN, OUT);
    ft_linear_backward_weight(NULL, dw, dy, OUT, x, N, IN, OUT);
    double squares = 0;
    for (size_t o = 0; o < OUT; o++)
        for (size_t i = 0; i < IN; i++) {
            double sum = 0;
            for (size_t n = 0; n < N; n++)
                sum += (double)dy[n * OUT + o] * (double)x[n * IN + i];
            assert_true(fabs(sum - (double)dw[o * IN + i]) < 1e-5);
            squares += sum * sum;
        }
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < IN; i++) {
            double sum = 0;
            for (size_t o = 0; o < OUT; o++)
                sum += (double)dy[n * OUT + o] * (double)w[o * IN + i];
            assert_true(fabs(sum - (double)dx[n * IN + i]) < 1e-5);
        }
    assert_true(fabs(ft_linear_ghost(dy, OUT, x, N, IN, OUT, scratch) - squares) < 1e-5 * squares);
}

static void embedding_rows_add_up_and_their_ghost_is_the_norm(void **state)
{
    (void)state;
    const int32_t ids[6] = {2, 0, 2, 1, 2, 0};
    float dy[6 * 4], dw[3 * 4] = {0};
    double squares = 0;
    fill(dy, 24, 15);
    ft_embed_backward(dw, dy, ids, 6, 4);
    for (size_t v = 0; v < 3; v++)
        for (size_t c = 0; c < 4; c++) {
            double sum = 0;
            for (size_t n = 0; n < 6; n++)
                sum += ids[n] == (int32_t)v ? (double)dy[n * 4 + c] : 0;
            assert_true(fabs(sum - (double)dw[v * 4 + c]) < 1e-6);
            squares += sum * sum;
        }
    assert_true(fabs(ft_embed_ghost(dy, ids, 6, 4) - squares) < 1e-5 * squares);
}

static void a_product_in_pieces_is_the_product(void **state)
{
    (void)state;
    enum { M = 130, K = 70, N = 99 };
    static float a[M * K], b[N * K], whole[M * N], pieces[M * N];
    ft_pool *pool;
    fill(a, M * K, 16);
    fill(b, N * K, 17);
    assert_int_equal(ft_pool_new(&pool, 3, NULL), FT_OK);
    ft_gemm_linear(NULL, whole, a, b, M, K, N);
    ft_gemm_linear(pool, pieces, a, b, M, K, N);
    assert_memory_equal(whole, pieces, sizeof(whole)); /* bits do not depend on the threads */
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double sum = 0;
            for (size_t k = 0; k < K; k++)
                sum += (double)a[m * K + k] * (double)b[n * K + k];
            assert_true(fabs(sum - (double)whole[m * N + n]) < 1e-5);
        }
    ft_pool_free(pool);
}

static void schedules_rise_hold_and_fall_as_named(void **state)
{
    (void)state;
    assert_true(ft_schedule_factor(FT_SCHEDULE_COSINE, 0, 100, 10, 0, 0.1) == 0.1);
    assert_true(ft_schedule_factor(FT_SCHEDULE_COSINE, 9, 100, 10, 0, 0.1) == 1);
    assert_true(fabs(ft_schedule_factor(FT_SCHEDULE_COSINE, 55, 100, 10, 0, 0.1) - 0.55) < 1e-12);
    assert_true(fabs(ft_schedule_factor(FT_SCHEDULE_COSINE, 100, 100, 10, 0, 0.1) - 0.1) < 1e-12);
    assert_true(ft_schedule_factor(FT_SCHEDULE_WSD, 79, 100, 10, 20, 0) == 1);
    assert_true(fabs(ft_schedule_factor(FT_SCHEDULE_WSD, 90, 100, 10, 20, 0) - 0.5) < 1e-12);
    assert_true(ft_schedule_factor(FT_SCHEDULE_CONSTANT, 50, 100, 0, 0, 0) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_backward_is_the_difference_of_norm),
        cmocka_unit_test(swiglu_backward_is_the_difference_of_swiglu),
        cmocka_unit_test(turning_back_is_the_difference_of_turning),
        cmocka_unit_test(attention_backward_is_the_difference_of_attention_within_documents),
        cmocka_unit_test(attention_in_bfloat16_is_attention_within_its_rounding),
        cmocka_unit_test(router_backward_is_the_difference_of_router),
        cmocka_unit_test(a_positive_bias_is_clamped_and_a_tie_goes_to_the_lower_number),
        cmocka_unit_test(cross_entropy_is_its_loss_and_the_difference_of_it),
        cmocka_unit_test(linear_backward_is_the_sum_that_defines_it_and_its_ghost_the_norm),
        cmocka_unit_test(embedding_rows_add_up_and_their_ghost_is_the_norm),
        cmocka_unit_test(a_product_in_pieces_is_the_product),
        cmocka_unit_test(schedules_rise_hold_and_fall_as_named),
    };
    ft_test_fail_allocation(0); /* links the wrapped allocators */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
