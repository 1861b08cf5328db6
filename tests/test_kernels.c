/* Every kernel that this machine can run, against float64 sums in the order of the
 * formula. u = 2^-24 is the rounding of float32; a sum of n products rounds each
 * at most n + 1 times, so it is off by no more than (n + 1) u sum |w x|. */
#include "tests/ft_test.h"

#include "base/ft_cpu.h"
#include "base/ft_random.h"
#include "model/kernels/ft_exp.h"
#include "model/kernels/ft_kernels.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

static const double U = 0x1p-24;
enum { LONGEST = 2 * 16 + 1, PAGES = 20, SEED = 20260131 };

/* --- Memory that ends at an unreadable page ---------------------------------------- */

static char *edge(void)
{
    static char *end;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!end) {
        char *p = mmap(NULL, (PAGES + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(p != MAP_FAILED);
        assert_int_equal(mprotect(p + PAGES * page, page, PROT_NONE), 0);
        end = p + PAGES * page;
    }
    return end;
}

/* A value of everyday size, or now and then a huge, a tiny or a zero one. */
static float some_value(ft_random *r, int extreme)
{
    const float v = (float)(2 * ft_random_unit(r) - 1);
    switch (extreme ? ft_random_below(r, 8) : 7) {
    case 0:
        return v * 1e15f;
    case 1:
        return v * 1e-30f;
    case 2:
        return 0;
    default:
        return v;
    }
}

static uint16_t to_bf16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return (uint16_t)(bits >> 16);
}

/* Half precision by truncation: enough for a test's weights. */
static uint16_t to_f16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    const int exponent = (int)(bits >> 23 & 255) - 112;
    if (exponent <= 0)
        return (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)(bits >> 13 & 3); /* subnormal */
    return (uint16_t)((bits >> 16 & 0x8000) | (unsigned)(exponent > 30 ? 30 : exponent) << 10 | (bits >> 13 & 1023));
}

static float weight_at(ft_weight_type type, const void *w, size_t i)
{
    return type == FT_WEIGHT_F32 ? ft_f32_at(w, i) : type == FT_WEIGHT_BF16 ? ft_bf16_at(w, i) : ft_f16_at(w, i);
}

static void fill_weights(ft_weight_type type, char *w, size_t n, ft_random *r, int extreme)
{
    for (size_t i = 0; i < n; i++) {
        const float v = some_value(r, extreme && type != FT_WEIGHT_F16);
        const uint16_t half = type == FT_WEIGHT_BF16 ? to_bf16(v) : to_f16(v);
        if (type == FT_WEIGHT_F32)
            memcpy(w + 4 * i, &v, 4);
        else
            memcpy(w + 2 * i, &half, 2);
    }
}

/* --- Products ------------------------------------------------------------------------- */

enum { MAX_ROWS = 70, MAX_TOKENS = 7, GUARD = 16 };
static const float SENTINEL = 12345.678f;

static void check_product(const ft_kernels *k, ft_weight_type type, size_t rows, size_t tokens, size_t n, int extreme,
                          ft_random *r)
{
    static float x[(MAX_TOKENS + 2) * LONGEST * 8 + 1], out[MAX_ROWS * MAX_TOKENS + GUARD], alone;
    const size_t size = type == FT_WEIGHT_F32 ? 4 : 2;
    char *w = edge() - rows * n * size; /* odd rows * n: unaligned for vectors, and one byte too far is a crash */
    float *xs = x + 1;
    uint32_t index[MAX_TOKENS];
    fill_weights(type, w, rows * n, r, extreme);
    for (size_t i = 0; i < (MAX_TOKENS + 1) * n; i++)
        xs[i] = some_value(r, extreme);
    for (size_t t = 0; t < tokens; t++)
        index[t] = (uint32_t)ft_random_below(r, MAX_TOKENS);
    for (size_t i = 0; i < MAX_ROWS * MAX_TOKENS + GUARD; i++)
        out[i] = SENTINEL;
    ft_matmul m = {.w = w,
                   .w_stride = n,
                   .rows = rows,
                   .cols = n,
                   .x = xs,
                   .x_stride = n * sizeof(float),
                   .index = index,
                   .tokens = tokens,
                   .out = out,
                   .out_stride = rows};
    ft_kernels_matmul(k, type, FT_COMPUTE_FLOAT32)(&m);
    for (size_t i = rows * tokens; i < MAX_ROWS * MAX_TOKENS + GUARD; i++)
        assert_true(out[i] == SENTINEL);
    for (size_t t = 0; t < tokens; t++)
        for (size_t row = 0; row < rows; row++) {
            double sum = 0, size_sum = 0;
            for (size_t i = 0; i < n; i++) {
                const double product = (double)weight_at(type, w, row * n + i) * xs[index[t] * n + i];
                sum += product;
                size_sum += fabs(product);
            }
            const double got = out[t * rows + row], limit = ((double)n + 1) * (U * size_sum + 0x1p-149);
            if (!(fabs(got - sum) <= limit))
                fail_msg("type %d, %zu x %zu x %zu: row %zu, token %zu: %g, not %g within %g", (int)type, rows, tokens,
                         n, row, t, got, sum, limit);
            /* The same element computed alone has the same bits. */
            const ft_matmul one = {.w = w + row * n * size,
                                   .w_stride = n,
                                   .rows = 1,
                                   .cols = n,
                                   .x = xs + index[t] * n,
                                   .x_stride = n * sizeof(float),
                                   .tokens = 1,
                                   .out = &alone,
                                   .out_stride = 1};
            ft_kernels_matmul(k, type, FT_COMPUTE_FLOAT32)(&one);
            assert_memory_equal(&alone, &out[t * rows + row], sizeof(alone));
        }
}

static void check_products(const ft_kernels *k)
{
    static const size_t long_ones[] = {64, 100, 257};
    ft_random r;
    ft_random_init(&r, SEED);
    for (int type = 0; type <= FT_WEIGHT_F16; type++)
        for (size_t i = 0; i <= LONGEST + 3; i++) {
            const size_t n = i <= LONGEST ? i : long_ones[i - LONGEST - 1];
            for (size_t rows = 1; rows <= MAX_ROWS; rows += rows < 5 ? 1 : rows < 9 ? 2 : MAX_ROWS - 9)
                for (size_t tokens = 1; tokens <= MAX_TOKENS; tokens += 1)
                    check_product(k, (ft_weight_type)type, rows, tokens, n, (int)(tokens & 1), &r);
        }
}

/* --- Vectors --------------------------------------------------------------------------- */

/* n floats that end at the unreadable page. */
static float *at_edge(const float *values, size_t n)
{
    float *p = (float *)(void *)edge() - n;
    memcpy(p, values, n * sizeof(*p));
    return p;
}

static void check_near(const char *what, size_t n, size_t i, double got, double want, double limit)
{
    if (!(fabs(got - want) <= limit))
        fail_msg("%s, n %zu, element %zu: %.9g, not %.9g within %g", what, n, i, got, want, limit);
}

/* Scale, its rounding to float32, and two products: at most 3 roundings. */
static void check_rms_norm(const ft_kernels *k, ft_random *r)
{
    float x[LONGEST], w[LONGEST], out[LONGEST + 1];
    for (size_t n = 0; n <= LONGEST; n++)
        for (int extreme = 0; extreme < 2; extreme++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++) {
                x[i] = some_value(r, extreme);
                w[i] = some_value(r, 0);
                sum += (double)x[i] * x[i];
            }
            out[n] = SENTINEL;
            k->rms_norm(out, at_edge(x, n), w, n, 1e-6);
            assert_true(out[n] == SENTINEL);
            for (size_t i = 0; i < n; i++) {
                const double want = w[i] * (x[i] / sqrt(sum / (double)n + 1e-6));
                check_near("rms_norm", n, i, out[i], want, 4 * U * fabs(want) + 0x1p-140);
            }
        }
}

/* exp is off by 2 ulp (4 u) and by the rounding of its argument |a| u; the sum
 * by n u; the division and the product by 2 u. */
static void check_softmax(const ft_kernels *k, ft_random *r)
{
    float x[LONGEST];
    for (size_t n = 0; n <= LONGEST; n++)
        for (int wide = 0; wide < 2; wide++) {
            const float scale = wide ? 40.0f : 0.125f;
            double max = -INFINITY, sum = 0, want[LONGEST];
            for (size_t i = 0; i < n; i++) {
                x[i] = some_value(r, 0) * 3;
                max = fmax(max, (double)(x[i] * scale));
            }
            for (size_t i = 0; i < n; i++)
                sum += want[i] = exp((double)(x[i] * scale) - max);
            float *p = at_edge(x, n);
            k->softmax(p, n, scale);
            for (size_t i = 0; i < n; i++) {
                const double argument = fabs((double)(x[i] * scale) - max);
                check_near("softmax", n, i, p[i], want[i] / sum,
                           want[i] / sum * U * (2 * argument + (double)n + 8) + 4e-38);
            }
        }
}

static void check_silu(const ft_kernels *k, ft_random *r)
{
    float gate[LONGEST], up[LONGEST];
    for (size_t n = 0; n <= LONGEST; n++) {
        for (size_t i = 0; i < n; i++) {
            gate[i] = some_value(r, 0) * (i % 3 ? 10.0f : 200.0f);
            up[i] = some_value(r, 0);
        }
        float *p = at_edge(gate, n);
        k->silu(p, up, n);
        for (size_t i = 0; i < n; i++) {
            const double a = gate[i], want = a / (1 + exp(-a)) * up[i];
            check_near("silu", n, i, p[i], want, (fabs(a) + 8) * U * fabs(want) + 1e-34);
        }
    }
}

/* The sums go through the positions page by page, and each row stops where it must. */
static void check_page(const ft_kernels *k, ft_random *r)
{
    enum { WIDEST = 2 * 64 + 3, DEEPEST = 5, ROWS = 7 };
    static float v[DEEPEST * WIDEST], out[ROWS * WIDEST + 1];
    float a[ROWS * DEEPEST];
    uint32_t depths[ROWS];
    for (size_t d = 0; d <= WIDEST; d += d < 36 ? 1 : 13)
        for (size_t n = 0; n <= DEEPEST; n++) {
            for (size_t i = 0; i < n * d; i++)
                v[i] = some_value(r, 0);
            for (size_t j = 0; j < ROWS * n; j++)
                a[j] = some_value(r, 0);
            for (size_t g = 0; g < ROWS; g++)
                depths[g] = (uint32_t)ft_random_below(r, n + 1);
            out[ROWS * d] = SENTINEL;
            const size_t first = n / 2;
            const float *page = at_edge(v, n * d);
            ft_page_product p = {.page = page,
                                 .page_stride = d,
                                 .depth = n,
                                 .cols = d,
                                 .a = a,
                                 .a_stride = n,
                                 .rows = ROWS,
                                 .depths = depths,
                                 .out = out,
                                 .out_stride = d};
            k->page[FT_KV_F32](&p);
            assert_true(out[ROWS * d] == SENTINEL);
            for (size_t g = 0; g < ROWS; g++)
                for (size_t i = 0; i < d; i++) {
                    double sum = 0, size = 0;
                    for (size_t j = 0; j < depths[g]; j++) {
                        sum += (double)a[g * n + j] * v[j * d + i];
                        size += fabs((double)a[g * n + j] * v[j * d + i]);
                    }
                    check_near("page", d, i, out[g * d + i], sum, ((double)n + 1) * U * size);
                }
            /* One row alone, in two pieces: the same bits. */
            float alone[WIDEST];
            p.depths = NULL;
            p.rows = 1;
            p.a += (ROWS - 1) * n;
            p.out = alone;
            p.depth = first < depths[ROWS - 1] ? first : depths[ROWS - 1];
            k->page[FT_KV_F32](&p);
            p.page = page + p.depth * d;
            p.a += p.depth;
            p.depth = depths[ROWS - 1] - p.depth;
            p.add = 1;
            k->page[FT_KV_F32](&p);
            assert_memory_equal(alone, out + (ROWS - 1) * d, d * sizeof(*alone));
        }
}

static void check_family(unsigned isa)
{
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    ft_kernels_init(&k, isa);
    check_products(&k);
    check_rms_norm(&k, &r);
    check_softmax(&k, &r);
    check_silu(&k, &r);
    check_page(&k, &r);
}

/* --- Tests ------------------------------------------------------------------------------- */

static void scalar_kernels_compute_their_formulas(void **state)
{
    (void)state;
    check_family(FT_ISA_SCALAR);
}

static void avx2_kernels_compute_their_formulas(void **state)
{
    (void)state;
    if (!(ft_cpu_isa() & FT_ISA_AVX2))
        skip();
    check_family(FT_ISA_AVX2);
}

static void avx512_kernels_compute_their_formulas(void **state)
{
    (void)state;
    if (!(ft_cpu_isa() & FT_ISA_AVX512))
        skip();
    check_family(FT_ISA_AVX2 | FT_ISA_AVX512);
}

static void the_table_falls_back_to_scalar(void **state)
{
    (void)state;
    ft_kernels k;
    ft_kernels_init(&k, FT_ISA_SCALAR);
    assert_ptr_equal(k.matmul[FT_COMPUTE_FLOAT32][FT_WEIGHT_BF16], ft_matmul_bf16_scalar);
    assert_ptr_equal(k.softmax, ft_softmax_scalar);
}

static void exp_is_off_by_two_units_in_the_last_place_at_most(void **state)
{
    (void)state;
    const int steps = 128000;
    for (int i = 0; i <= steps; i++) {
        const float x = FT_EXP_LOW + (FT_EXP_HIGH - FT_EXP_LOW) * (float)i / (float)steps;
        const double want = exp((double)x);
        check_near("exp", 1, 0, ft_exp(x), want, 4 * U * want);
    }
    assert_true(ft_exp(0) == 1);
    assert_true(ft_exp(-1000) < 2e-38f && ft_exp(-1000) >= 0);
    assert_true(isfinite(ft_exp(1000)));
}

static void half_precision_widens_exactly(void **state)
{
    (void)state;
    static const struct {
        uint16_t half;
        float value;
    } known[] = {{0x0000, 0},
                 {0x8000, -0.0f},
                 {0x3c00, 1},
                 {0xc000, -2},
                 {0x7bff, 65504},
                 {0x0400, 0x1p-14f},
                 {0x0001, 0x1p-24f},
                 {0x83ff, -1023 * 0x1p-24f},
                 {0x7c00, INFINITY},
                 {0xfc00, -INFINITY},
                 {0x3555, 0.333251953125f}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        const float got = ft_f16_at(&known[i].half, 0);
        assert_memory_equal(&got, &known[i].value, sizeof(got));
    }
    const uint16_t nan = 0x7e00;
    assert_true(isnan(ft_f16_at(&nan, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_kernels_compute_their_formulas),
        cmocka_unit_test(avx2_kernels_compute_their_formulas),
        cmocka_unit_test(avx512_kernels_compute_their_formulas),
        cmocka_unit_test(the_table_falls_back_to_scalar),
        cmocka_unit_test(exp_is_off_by_two_units_in_the_last_place_at_most),
        cmocka_unit_test(half_precision_widens_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
