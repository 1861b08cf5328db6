/* Products of training, in float32 and bfloat16, and training with them; memory held to a ceiling. */
#include "tests/train_fixture.h"

#include "base/ft_buffer.h"
#include "base/ft_cpu.h"
#include "base/ft_random.h"
#include "model/kernels/ft_float.h"
#include "model/kernels/ft_gemm_tile.h"
#include "model/train/ft_gemm.h"
#include "model/train/ft_trainer.h"

#include <float.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEED = 20261129 };

/* --- Tiles -------------------------------------------------------------------------------- */

typedef struct family {
    const char *name;
    unsigned isa;
    ft_gemm_tile_fn *tile[2];
    ft_gemm_pairs_fn *pairs;
    ft_gemm_weave_fn *weave;
} family;

static const family families[] = {
    {"scalar", 0, {ft_gemm_f32_scalar, ft_gemm_bf16_scalar}, ft_gemm_pairs_scalar, ft_gemm_weave_scalar},
#if defined(__x86_64__)
    {"avx2", FT_ISA_AVX2, {ft_gemm_f32_avx2, ft_gemm_bf16_avx2}, ft_gemm_pairs_scalar, ft_gemm_weave_scalar},
    {"avx512", FT_ISA_AVX512, {ft_gemm_f32_avx512, ft_gemm_bf16_avx512}, ft_gemm_pairs_scalar, ft_gemm_weave_scalar},
    {"avx512-dot",
     FT_ISA_AVX512_DOT,
     {ft_gemm_f32_avx512, ft_gemm_bf16_avx512dot},
     ft_gemm_pairs_avx512dot,
     ft_gemm_weave_avx512dot},
    {"amx", FT_ISA_AMX, {ft_gemm_f32_avx512, ft_gemm_bf16_amx}, ft_gemm_pairs_avx512dot, ft_gemm_weave_avx512dot},
#endif
};
enum { FAMILIES = sizeof(families) / sizeof(*families) };

static float whole(ft_random *r)
{
    return (float)ft_random_below(r, 17) - 8;
}

enum { ROWS = 43, COLUMNS = 70, DEPTH = 35, PER_UNIT = 2, GUARD = 5 };

/* Whole numbers up to 8 are bfloat16, and sums of their products exact: every family and every layout
 * gives the very result. Behind each row of out stand numbers that must stay. */
static void check_tile(const family *f, int bf16, int by_row, size_t m, size_t n, size_t steps, int add)
{
    static float a[ROWS][DEPTH * PER_UNIT], b[DEPTH * PER_UNIT][COLUMNS], out[ROWS][COLUMNS + GUARD];
    static uint32_t left[ROWS * DEPTH], right[3][DEPTH][FT_PANEL];
    const size_t per = bf16 ? PER_UNIT : 1, k = steps * per;
    ft_random r;
    ft_random_init(&r, SEED + m * 1000 + n * 10 + steps);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < k; j++)
            a[i][j] = whole(&r);
    memset(right, 0, sizeof(right));
    for (size_t j = 0; j < k; j++)
        for (size_t c = 0; c < n; c++)
            b[j][c] = whole(&r);
    for (size_t i = 0; i < m; i++)
        for (size_t s = 0; s < steps; s++) {
            uint32_t unit = ft_float_bits(a[i][s]);
            if (bf16)
                f->pairs(&unit, &a[i][2 * s], 2);
            left[by_row ? i * steps + s : s * m + i] = unit;
        }
    for (size_t s = 0; s < steps; s++)
        for (size_t c = 0; c < n; c++) {
            uint32_t unit = ft_float_bits(b[s][c]);
            if (bf16)
                f->weave(&unit, &b[2 * s][c], &b[2 * s + 1][c], 1);
            right[c / FT_PANEL][s][c % FT_PANEL] = unit;
        }
    for (size_t i = 0; i < ROWS; i++)
        for (size_t c = 0; c < COLUMNS + GUARD; c++)
            out[i][c] = (float)(i + c);
    const ft_gemm_tile t = {.a = left,
                            .a_row = by_row ? steps : 1,
                            .a_step = by_row ? 1 : m,
                            .b = &right[0][0][0],
                            .b_panel = sizeof(right[0]) / sizeof(uint32_t),
                            .b_step = FT_PANEL,
                            .m = m,
                            .n = n,
                            .steps = steps,
                            .out = &out[0][0],
                            .out_stride = COLUMNS + GUARD,
                            .add = add};
    f->tile[bf16](&t);
    for (size_t i = 0; i < ROWS; i++)
        for (size_t c = 0; c < COLUMNS + GUARD; c++) {
            float want = (float)(i + c);
            if (i < m && c < n) {
                want = add ? want : 0;
                for (size_t j = 0; j < k; j++)
                    want += a[i][j] * b[j][c];
            }
            if (out[i][c] != want)
                fail_msg("%s, bf16 %d, by row %d, add %d, [%zu, %zu] x %zu: element %zu, %zu is %g, not %g", f->name,
                         bf16, by_row, add, m, n, steps, i, c, (double)out[i][c], (double)want);
        }
}

static void tiles_of_every_family_and_layout_give_the_exact_product(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 70}, depths[] = {0, 1, 2, 9, 16, 35};
    for (size_t f = 0; f < FAMILIES; f++) {
        if (families[f].isa && !(ft_cpu_isa() & families[f].isa)) {
            print_message("not run here: %s\n", families[f].name);
            continue;
        }
        for (size_t m = 1; m <= ROWS; m++)
            for (size_t w = 0; w < sizeof(widths) / sizeof(*widths); w++)
                for (int kind = 0; kind < 8; kind++)
                    if ((kind & 3) != 1 || !(families[f].isa & FT_ISA_AMX)) /* that one reads rows alone */
                        check_tile(&families[f], kind & 1, kind >> 1 & 1, m, widths[w], depths[(m + w) % 6], kind >> 2);
    }
}

/* Including ties, infinities and NaN; subnormal numbers are a family's own. */
static void bfloat16_is_rounded_to_the_nearest_even_by_every_family(void **state)
{
    (void)state;
    enum { N = 67 };
    float x[N], y[N];
    uint32_t pairs[2][(N + 1) / 2 + 1], weave[2][N];
    ft_random r;
    ft_random_init(&r, SEED);
    for (size_t i = 0; i < N; i++) {
        x[i] = ft_float_from_bits(0x3f800000u + ft_random_below(&r, 1 << 24));
        y[i] = i % 3 ? -x[i] : ft_float_from_bits(0x3f808000u + ((uint32_t)i << 16)); /* a tie */
    }
    x[0] = INFINITY;
    x[1] = -INFINITY;
    x[2] = FLT_MAX;
    for (size_t f = 0; f < FAMILIES; f++)
        for (size_t n = 1; n <= N; n++) {
            if (families[f].isa && !(ft_cpu_isa() & families[f].isa))
                continue;
            memset(pairs, 0x55, sizeof(pairs));
            memset(weave, 0x55, sizeof(weave));
            ft_gemm_pairs_scalar(pairs[0], x, n);
            families[f].pairs(pairs[1], x, n);
            assert_memory_equal(pairs[0], pairs[1], sizeof(pairs[0]));
            ft_gemm_weave_scalar(weave[0], x, n % 5 ? y : NULL, n);
            families[f].weave(weave[1], x, n % 5 ? y : NULL, n);
            assert_memory_equal(weave[0], weave[1], sizeof(weave[0]));
            assert_int_equal(weave[0][0] & 0xffff, 0x7f80);
        }
}

/* --- Float32 in parts ----------------------------------------------------------------------- */

#if defined(__x86_64__)
enum { PART_ROWS = 70, PART_COLUMNS = 67, PART_DEPTH = 101 };

static void parts_product(float *out, size_t out_stride, const float *a, const float *b, int how, size_t m, size_t n,
                          size_t k, int add)
{
    static float at[PART_ROWS * PART_DEPTH], bt[PART_COLUMNS * PART_DEPTH];
    static uint32_t left[3 * 4 * FT_PARTS], right[3 * 4 * FT_PARTS];
    const size_t stretches = (k + FT_STRETCH - 1) / FT_STRETCH;
    for (size_t i = 0; i < m * k; i++)
        at[i % k * m + i / k] = a[i];
    for (size_t i = 0; i < k * n; i++)
        bt[i % n * k + i / n] = b[i];
    memset(left, 0x7f, sizeof(left)); /* what packing does not write is no number */
    memset(right, 0x7f, sizeof(right));
    ft_gemm_left_amx(left, how & 1 ? at : a, how & 1 ? m : k, how & 1, m, k);
    for (size_t c = 0; c < n; c += FT_PANEL)
        ft_gemm_right_amx(right + c / FT_PANEL * stretches * FT_PARTS, how & 2 ? bt + c * k : b + c, how & 2 ? k : n,
                          how >> 1, k, n - c < FT_PANEL ? n - c : FT_PANEL);
    const ft_gemm_tile t = {.a = left,
                            .a_row = stretches * FT_PARTS,
                            .b = right,
                            .b_panel = stretches * FT_PARTS,
                            .m = m,
                            .n = n,
                            .steps = stretches,
                            .out = out,
                            .out_stride = out_stride,
                            .add = add};
    ft_gemm_parts_amx(&t);
}

/* Numbers of up to 12 bits, which take two parts, and sums below 2^24, which are exact. Behind each row stand numbers
 * that must stay. */
static void check_parts(int how, size_t m, size_t n, size_t k, int add)
{
    static float a[PART_ROWS * PART_DEPTH], b[PART_COLUMNS * PART_DEPTH], out[PART_ROWS][PART_COLUMNS + GUARD];
    ft_random r;
    ft_random_init(&r, SEED + m * 1000 + n * 10 + k);
    for (size_t i = 0; i < m * k; i++)
        a[i] = (float)ft_random_below(&r, 4097) - 2048;
    for (size_t i = 0; i < k * n; i++)
        b[i] = (float)ft_random_below(&r, 129) - 64;
    for (size_t i = 0; i < PART_ROWS; i++)
        for (size_t c = 0; c < PART_COLUMNS + GUARD; c++)
            out[i][c] = (float)(i + c);
    parts_product(out[0], PART_COLUMNS + GUARD, a, b, how, m, n, k, add);
    for (size_t i = 0; i < PART_ROWS; i++)
        for (size_t c = 0; c < PART_COLUMNS + GUARD; c++) {
            float want = (float)(i + c);
            for (size_t j = 0; i < m && c < n && j < k; j++)
                want = (j || add ? want : 0) + a[i * k + j] * b[j * n + c];
            if (out[i][c] != want)
                fail_msg("layout %d, add %d, [%zu, %zu] x %zu: element %zu, %zu is %g, not %g", how, add, m, n, k, i, c,
                         (double)out[i][c], (double)want);
        }
}
#endif

static void products_of_parts_are_exact_in_every_layout(void **state)
{
    (void)state;
#if defined(__x86_64__)
    static const size_t widths[] = {1, 15, 16, 17, 31, 32, 33, 64, 67}, depths[] = {1, 15, 16, 17, 32, 33, 64, 101};
    if (!(ft_cpu_isa() & FT_ISA_AMX)) {
        print_message("not run here: amx\n");
        return;
    }
    for (size_t m = 1; m <= PART_ROWS; m++)
        for (size_t w = 0; w < sizeof(widths) / sizeof(*widths); w++)
            for (int how = 0; how < 8; how++)
                check_parts(how & 3, m, widths[w], depths[(m + w) % 8], how >> 2);
#endif
}

/* Six products of parts lose at most 2^-24 of a product. A stretch's 16 + 1 additions and the six that bring it to the
 * sum round by 2^-24 of what they add up; but these errors are independent, and the sum ends nearer to the true one
 * than float32's chain of fused multiply-adds does. */
static void products_of_parts_are_nearer_than_a_chain_of_float32(void **state)
{
    (void)state;
#if defined(__x86_64__)
    enum { N = 64, K = 101 };
    static float a[N * K], b[K * N], out[N * N];
    double error = 0, chain_error = 0;
    if (!(ft_cpu_isa() & FT_ISA_AMX)) {
        print_message("not run here: amx\n");
        return;
    }
    ft_random r;
    ft_random_init(&r, SEED);
    for (size_t i = 0; i < N * K; i++) {
        a[i] = (float)((2 * ft_random_unit(&r) - 1) * exp2((double)ft_random_below(&r, 8)));
        b[i] = (float)((2 * ft_random_unit(&r) - 1) * exp2((double)ft_random_below(&r, 8) - 90));
    }
    parts_product(out, N, a, b, 0, N, N, K, 0);
    for (size_t i = 0; i < N * N; i++) {
        double sum = 0, size = 0;
        float chain = 0;
        for (size_t k = 0; k < K; k++) {
            const float x = a[i / N * K + k], y = b[k * N + i % N];
            sum += (double)x * (double)y;
            size += fabs((double)x * (double)y);
            chain = fmaf(x, y, chain);
        }
        const double e = ((double)out[i] - sum) / size, c = ((double)chain - sum) / size;
        assert_true(fabs(e) <= (1 + 17 + 6 * 4) * 0x1p-24);
        error += e * e;
        chain_error += c * c;
    }
    assert_true(error < chain_error);
    a[5] = INFINITY; /* the first row's; what is not finite must not be lost */
    b[7] = NAN;      /* the eighth column's */
    parts_product(out, N, a, b, 0, N, N, K, 0);
    for (size_t i = 0; i < N * N; i++)
        assert_true(isfinite(out[i]) == (i >= N && i % N != 7));
#endif
}

/* --- Products --------------------------------------------------------------------------------- */

static float *random_floats(size_t n, uint64_t seed)
{
    float *x = malloc(n * sizeof(*x));
    ft_random r;
    ft_random_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(2 * ft_random_unit(&r) - 1);
    return x;
}

/* Larger than a block, a panel and a run of steps; op(a) and op(b) the same numbers however they are stored. */
static void no_cut_of_a_product_leaves_a_trace_in_its_bits(void **state)
{
    (void)state;
    enum { M = 203, N = 131, K = 401 };
    float *a = random_floats(M * K, 1), *b = random_floats(K * N, 2), *at = malloc(M * K * sizeof(*a)),
          *bt = malloc(K * N * sizeof(*b)), *first = malloc(M * N * sizeof(*a)), *other = malloc(M * N * sizeof(*a));
    ft_pool *pool;
    assert_int_equal(ft_pool_new(&pool, 3, NULL), FT_OK);
    for (size_t i = 0; i < M * K; i++)
        at[i % K * M + i / K] = a[i];
    for (size_t i = 0; i < K * N; i++)
        bt[i % N * K + i / N] = b[i];
    for (int bfloat16 = 0; bfloat16 < 2; bfloat16++) {
        ft_packed p = {.k = K, .n = N, .bfloat16 = bfloat16};
        p.units = malloc(ft_packed_units(K, N, bfloat16) * sizeof(*p.units));
        for (size_t i = 0; i < ft_packed_panels(N); i++)
            ft_packed_fill(&p, i, bt, K, 1);
        for (int kind = 0; kind < 8; kind++) {
            const ft_gemm g = {.transpose_a = kind & 1,
                               .transpose_b = kind >> 1 & 1,
                               .bfloat16 = bfloat16,
                               .m = M,
                               .n = N,
                               .k = K,
                               .a = kind & 1 ? at : a,
                               .a_stride = kind & 1 ? M : K,
                               .b = kind & 2 ? bt : b,
                               .b_stride = kind & 2 ? K : N,
                               .packed = kind & 4 ? &p : NULL,
                               .out = kind ? other : first,
                               .out_stride = N};
            ft_gemm_run(kind % 3 ? pool : NULL, &g);
            if (kind)
                assert_memory_equal(first, other, M * N * sizeof(*first));
        }
        for (size_t i = 0; i < M; i += 29)
            ft_packed_multiply(&p, a + i * K, K, M - i < 29 ? M - i : 29, other + i * N, N, 0);
        assert_memory_equal(first, other, M * N * sizeof(*first));
        for (size_t i = 0; i < M * N; i += 7) {
            double sum = 0, size = 0;
            for (size_t k = 0; k < K; k++) {
                const double product = (double)a[i / N * K + k] * (double)b[k * N + i % N];
                sum += product;
                size += fabs(product);
            }
            /* A rounding each of 401 sums; two roundings of 2^-9 each of a product. */
            assert_true(fabs(sum - (double)first[i]) <= size * (bfloat16 ? 0x1p-8 : 401 * 0x1p-24));
        }
        free(p.units);
    }
    ft_pool_free(pool);
    free(a);
    free(b);
    free(at);
    free(bt);
    free(first);
    free(other);
}

/* --- Training ------------------------------------------------------------------------------------ */

enum { SEQUENCES = 4, LENGTH = 16 };

static ft_batch some_batch(size_t step)
{
    static int32_t ids[SEQUENCES * LENGTH], labels[SEQUENCES * LENGTH];
    for (size_t i = 0; i < SEQUENCES * LENGTH; i++) { /* each id tells the next, but for where a sequence starts */
        ids[i] = (int32_t)((i % LENGTH * 5 + (i / LENGTH + step) * 3) % 64);
        labels[i] = (int32_t)((i % LENGTH * 5 + 5 + (i / LENGTH + step) * 3) % 64);
    }
    return (ft_batch){.ids = ids, .labels = labels, .sequences = SEQUENCES, .length = LENGTH};
}

static ft_trainer *trainer(const char *name, ft_trainer_options o)
{
    ft_trainer *t;
    ft_status st = {0};
    o.z_loss = 0.001;
    assert_ok(ft_trainer_open(&t, golden_model(name, 0), &o, &st), st);
    return t;
}

/* Of the golden model, whose activations are small: 2^-8 a product, some ten products deep. */
static void gradients_in_bfloat16_are_near_those_in_float32_on_any_number_of_threads(void **state)
{
    (void)state;
    ft_trainer *t[3];
    ft_losses l[3];
    ft_status st = {0};
    const ft_batch b = some_batch(0);
    for (unsigned i = 0; i < 3; i++) {
        t[i] = trainer("model", (ft_trainer_options){.bfloat16 = i > 0, .threads = i + 1, .recompute = i == 2});
        assert_ok(ft_trainer_gradient(t[i], &b, 1, &l[i], &st), st);
    }
    assert_true(l[1].loss == l[2].loss);
    assert_true(l[1].loss != l[0].loss && fabs(l[1].loss - l[0].loss) < 5e-3 * l[0].loss);
    double apart = 0, size = 0;
    for (size_t i = 0; i < ft_trainer_parameters(t[0])->count; i++) {
        const ft_parameter *p = &ft_trainer_parameters(t[0])->all[i], *q = &ft_trainer_parameters(t[1])->all[i];
        assert_memory_equal(q->grad, ft_trainer_parameters(t[2])->all[i].grad, q->count * sizeof(float));
        for (size_t k = 0; k < p->count; k++) {
            const double d = (double)p->grad[k] - (double)q->grad[k];
            apart += d * d;
            size += (double)p->grad[k] * (double)p->grad[k];
        }
    }
    assert_true(sqrt(apart / size) < 0.03 && apart > 0);
    for (unsigned i = 0; i < 3; i++)
        ft_trainer_close(t[i]);
}

static void a_short_run_in_bfloat16_ends_within_two_percent_of_float32(void **state)
{
    (void)state;
    const ft_adamw adamw = {.rate = 3e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    double loss[2], first = 0;
    for (int bfloat16 = 0; bfloat16 < 2; bfloat16++) {
        ft_trainer *t = trainer("model", (ft_trainer_options){.bfloat16 = bfloat16});
        ft_status st = {0};
        ft_losses l;
        for (size_t s = 0; s < 25; s++) {
            const ft_batch b = some_batch(s);
            ft_parameters_zero(ft_trainer_parameters(t));
            assert_ok(ft_trainer_gradient(t, &b, 1, &l, &st), st);
            assert_ok(ft_trainer_update(t, &adamw, s + 1, 1, &st), st);
            first = s ? first : l.loss;
        }
        loss[bfloat16] = l.loss;
        ft_trainer_close(t);
    }
    assert_true(loss[0] < 0.8 * first);
    assert_true(fabs(loss[1] - loss[0]) < 0.02 * loss[0]);
}

/* --- Memory ------------------------------------------------------------------------------------- */

static const char *larger_model(void)
{
    static char folder[512];
    static const char config[] =
        "{\"architectures\":[\"Olmo2ForCausalLM\"],\"model_type\":\"olmo2\",\"hidden_size\":128,\"num_hidden_layers\":"
        "6,"
        "\"intermediate_size\":384,\"vocab_size\":1024,\"num_attention_heads\":4,\"num_key_value_heads\":4,"
        "\"rms_norm_eps\":1e-6,\"rope_theta\":10000,\"max_position_embeddings\":512,\"hidden_act\":\"silu\","
        "\"tie_word_embeddings\":false,\"attention_bias\":false,\"eos_token_id\":0,\"pad_token_id\":1}";
    char path[600];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("larger"));
    assert_int_equal(ft_folder_make(folder, NULL), FT_OK);
    snprintf(path, sizeof(path), "%s/config.json", folder);
    assert_int_equal(ft_file_write(path, config, strlen(config), NULL), FT_OK);
    return folder;
}

static ft_trainer *larger_trainer(int recompute)
{
    ft_trainer *t;
    ft_parameters p;
    ft_status st = {0};
    const ft_trainer_options o = {.threads = 2, .recompute = recompute};
    assert_ok(ft_parameters_init(&p, larger_model(), 1, &st), st);
    assert_ok(ft_trainer_new(&t, &p, &o, &st), st);
    return t;
}

static double deviation(const ft_parameter *p)
{
    double sum = 0;
    for (size_t i = 0; i < p->count; i++)
        sum += (double)p->value[i] * (double)p->value[i];
    return sqrt(sum / (double)p->count);
}

static void fresh_embeddings_are_as_large_as_what_layers_add_logits_as_any_and_matrices_small(void **state)
{
    (void)state;
    ft_parameters p, same;
    ft_status st = {0};
    assert_ok(ft_parameters_init(&p, larger_model(), 7, &st), st);
    assert_ok(ft_parameters_init(&same, larger_model(), 7, &st), st);
    assert_true(fabs(deviation(p.embed) - 1) < 0.02);
    assert_true(fabs(deviation(p.head) * sqrt((double)p.config.hidden) - 1.4) < 0.02);
    assert_true(fabs(deviation(p.layers[5].o) - 0.02) < 0.001);
    assert_true(p.layers[5].after->value[127] == 1);
    assert_memory_equal(p.embed->value, same.embed->value, p.embed->count * sizeof(float));
    ft_parameters_close(&p);
    ft_parameters_close(&same);
}

enum { WINDOW = 256, MOST = 32 };

static void a_ceiling_lowers_the_batch_then_recomputes_then_refuses(void **state)
{
    (void)state;
    ft_status st = {0};
    uint64_t all, one, least;
    ft_trainer *t = larger_trainer(0), *again = larger_trainer(1);
    assert_ok(ft_trainer_bytes(&all, t, MOST, WINDOW, 0, &st), st);
    assert_ok(ft_trainer_bytes(&one, t, 1, WINDOW, 0, &st), st);
    assert_ok(ft_trainer_bytes(&least, again, 1, WINDOW, 0, &st), st);
    assert_true(least < one && one < all);
    const struct {
        uint64_t ceiling;
        size_t micro;
    } fits[] = {{all, MOST}, {all - 1, MOST / 2}, {one, 1}, {least, 1}};
    for (size_t i = 0; i < 4; i++) {
        size_t micro = MOST;
        assert_ok(ft_trainer_fit(t, fits[i].ceiling, 0, WINDOW, 0, &micro, &st), st);
        assert_int_equal(micro, fits[i].micro);
        size_t beside = MOST; /* what the data take counts too */
        if (i < 3)
            continue;
        assert_ok(ft_trainer_bytes(&one, t, 1, WINDOW, 0, &st), st);
        assert_true(one == least); /* it recomputes now */
        assert_int_equal(ft_trainer_fit(t, least, 1, WINDOW, 0, &beside, &st), FT_ERR_LIMIT);
        assert_int_equal(beside, MOST);
        assert_non_null(strstr(st.msg, "--length"));
    }
    ft_trainer_close(t);
    ft_trainer_close(again);
}

/* Peak memory of a process that trains a step of MOST sequences, `ceiling` 0: without one. */
static uint64_t peak_of_a_step(uint64_t ceiling)
{
    struct rusage usage;
    int status = 0;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        static int32_t ids[MOST * WINDOW];
        const ft_adamw adamw = {.rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
        ft_trainer *t = larger_trainer(0);
        ft_losses l;
        size_t micro = MOST;
        int bad = ceiling && ft_trainer_fit(t, ceiling, sizeof(ids), WINDOW, 0, &micro, NULL);
        for (size_t i = 0; i < MOST && !bad; i += micro) {
            const ft_batch b = {.ids = ids, .labels = ids, .sequences = micro, .length = WINDOW};
            bad = ft_trainer_gradient(t, &b, (double)micro / MOST, &l, NULL);
        }
        bad |= ft_trainer_update(t, &adamw, 1, 1, NULL) != FT_OK;
        _exit(bad);
    }
    assert_true(child > 0 && wait4(child, &status, 0, &usage) == child);
    assert_int_equal(status, 0);
    return (uint64_t)usage.ru_maxrss * 1024;
}

static void a_training_step_stays_below_its_ceiling(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* a sanitizer has memory of its own */
#endif
    const uint64_t ceiling = 96u << 20;
    assert_true(peak_of_a_step(0) > ceiling);
    assert_true(peak_of_a_step(ceiling) <= ceiling);
}

static void the_command_holds_to_a_ceiling_or_says_what_it_would_take(void **state)
{
    (void)state;
    char *out;
    assert_int_equal(ft_test_shell("$FLEXTRACE train public x --corpus y -o z --memory lots 2>&1", &out, NULL), 2);
    assert_non_null(strstr(out, "--memory must be a size"));
    free(out);
    assert_int_equal(ft_test_shell("$FLEXTRACE train public x --corpus y -o z --precision int4 2>&1", &out, NULL), 2);
    assert_non_null(strstr(out, "--precision is float32 or bfloat16"));
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_of_every_family_and_layout_give_the_exact_product),
        cmocka_unit_test(bfloat16_is_rounded_to_the_nearest_even_by_every_family),
        cmocka_unit_test(products_of_parts_are_exact_in_every_layout),
        cmocka_unit_test(products_of_parts_are_nearer_than_a_chain_of_float32),
        cmocka_unit_test(no_cut_of_a_product_leaves_a_trace_in_its_bits),
        cmocka_unit_test(gradients_in_bfloat16_are_near_those_in_float32_on_any_number_of_threads),
        cmocka_unit_test(a_short_run_in_bfloat16_ends_within_two_percent_of_float32),
        cmocka_unit_test(fresh_embeddings_are_as_large_as_what_layers_add_logits_as_any_and_matrices_small),
        cmocka_unit_test(a_ceiling_lowers_the_batch_then_recomputes_then_refuses),
        cmocka_unit_test(a_training_step_stays_below_its_ceiling),
        cmocka_unit_test(the_command_holds_to_a_ceiling_or_says_what_it_would_take),
    };
    ft_test_fail_allocation(0); /* links the wrapped allocators */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
