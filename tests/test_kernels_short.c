/* The kernels that read and write short numbers: bfloat16 and float16, and whole ones
 * in groups. What they do with whole numbers is exact and every step behind that is
 * rounded once, so all families give the scalar ones' bits. */
#include "tests/ft_test.h"

#include "base/ft_cpu.h"
#include "base/ft_random.h"
#include "model/kernels/ft_kernels.h"

#include <math.h>

enum { SEED = 20261124, MAX_ROWS = 150, MAX_COLS = 3 * 1024, MAX_TOKENS = 33 };
static const double U = 0x1p-24;
static const float SENTINEL = 12345.678f;

static const struct {
    unsigned isa;
    const char *name;
} families[] = {{FT_ISA_SCALAR, "scalar"},
                {FT_ISA_AVX2, "avx2"},
                {FT_ISA_AVX2 | FT_ISA_AVX512, "avx512"},
                {FT_ISA_AVX2 | FT_ISA_AVX512 | FT_ISA_AVX512_DOT, "avx512-dot"},
                {FT_ISA_AVX2 | FT_ISA_AVX512 | FT_ISA_AVX512_DOT | FT_ISA_AMX, "amx"}};
enum { FAMILIES = sizeof(families) / sizeof(families[0]) };

/* Family i, or 0 where this machine lacks it: then it says so. */
static int has_family(size_t i, ft_kernels *k)
{
    if (families[i].isa & ~ft_cpu_isa()) {
        print_message("[  SKIPPED ] family %s\n", families[i].name);
        return 0;
    }
    ft_kernels_init(k, families[i].isa);
    return 1;
}

/* --- Products in groups --------------------------------------------------------------- */

/* A matrix of whole weights and what the packed layouts make of it. */
typedef struct packed {
    int8_t whole[MAX_ROWS * MAX_COLS];
    uint8_t w[(MAX_ROWS + 15) / 16 * 16 * MAX_COLS];
    uint16_t scales[(MAX_ROWS + 15) / 16 * 16 * MAX_COLS / 32];
    size_t rows, cols;
    int bits;
} packed;

/* Written from the layout's drawing, not from the kernels. */
static void pack(packed *p)
{
    const size_t groups = p->cols / 32;
    memset(p->w, p->bits == 8 ? 128 : 0x88, sizeof(p->w));
    for (size_t row = 0; row < p->rows; row++)
        for (size_t col = 0; col < p->cols; col++) {
            const size_t block = row / 16, r = row % 16, g = col / 32, c = col % 32;
            const int v = p->whole[row * p->cols + col];
            if (p->bits == 8)
                p->w[(block * groups + g) * 512 + (c / 4 * 16 + r) * 4 + c % 4] = (uint8_t)(v + 128);
            else {
                uint8_t *at = &p->w[(block * groups + g) * 256 + (c / 8 * 16 + r) * 4 + c % 4];
                *at = c % 8 < 4 ? (uint8_t)((*at & 0xf0) | (v + 8)) : (uint8_t)((*at & 0x0f) | (v + 8) << 4);
            }
        }
}

static void fill(packed *p, int bits, size_t rows, size_t cols, int extreme, ft_random *r)
{
    const int most = bits == 8 ? 127 : 7, least = bits == 8 ? -127 : -8;
    *p = (packed){.rows = rows, .cols = cols, .bits = bits};
    for (size_t i = 0; i < rows * cols; i++)
        p->whole[i] = (int8_t)(extreme ? (ft_random_below(r, 2) ? most : least)
                                       : least + (int)ft_random_below(r, (uint64_t)(most - least + 1)));
    for (size_t i = 0; i < rows * cols / 32; i++) /* some groups are zero, and their scales */
        if (i % 7 == 3)
            memset(p->whole + i * 32, 0, 32);
    pack(p);
    for (size_t i = 0; i < (rows + 15) / 16 * 16 * cols / 32; i++)
        p->scales[i] = ft_f16_of((float)(ft_random_unit(r) * 2 - 1) * 0.01f);
    for (size_t row = 0; row < rows; row++)
        for (size_t g = 0; g < cols / 32; g++)
            if ((row * (cols / 32) + g) % 7 == 3)
                p->scales[(row / 16 * (cols / 32) + g) * 16 + row % 16] = 0;
}

static ft_matmul product_of(const packed *p, const void *x, size_t tokens, float *out)
{
    return (ft_matmul){.w = p->w,
                       .scales = p->scales,
                       .rows = p->rows,
                       .cols = p->cols,
                       .x = x,
                       .x_stride = ft_input_bytes(FT_INPUT_I8, p->cols),
                       .tokens = tokens,
                       .out = out,
                       .out_stride = p->rows};
}

/* Sums of each group by the formula, in float64. */
static void check_against_formula(const packed *p, const ft_group *x, size_t tokens, const float *out)
{
    const size_t groups = p->cols / 32;
    for (size_t t = 0; t < tokens; t++) {
        const ft_group *xs =
            (const ft_group *)(const void *)((const char *)x + t * ft_input_bytes(FT_INPUT_I8, p->cols));
        for (size_t row = 0; row < p->rows; row++) {
            double sum = 0, size = 0;
            for (size_t g = 0; g < groups; g++) {
                int dot = 0;
                for (size_t c = 0; c < 32; c++)
                    dot += p->whole[row * p->cols + g * 32 + c] * xs[g].q[c];
                const double step =
                    (double)dot * xs[g].scale * ft_f16_at(p->scales, (row / 16 * groups + g) * 16 + row % 16);
                sum += step;
                size += fabs(step);
            }
            /* A step is rounded in the scales' product and in the sum. */
            const double limit = ((double)groups + 2) * U * size + 1e-40, got = out[t * p->rows + row];
            if (!(fabs(got - sum) <= limit))
                fail_msg("int%d, %zu x %zu, row %zu, token %zu: %.9g, not %.9g within %g", p->bits, p->rows, p->cols,
                         row, t, got, sum, limit);
        }
    }
}

static const size_t token_counts[] = {1, 2, 3, 5, 7, 8, 13, 33};

static void check_groups(int bits, int extreme)
{
    static const size_t rows[] = {1, 15, 16, 17, 40, 70, 150}, cols[] = {32, 64, 96, 1024 + 32, MAX_COLS};
    static packed p;
    static float x[MAX_TOKENS * MAX_COLS], want[MAX_TOKENS * MAX_ROWS], got[MAX_TOKENS * MAX_ROWS + 16];
    static _Alignas(64) char prepared[MAX_TOKENS * (MAX_COLS / 32 * sizeof(ft_group) + 64)];
    const ft_weight_type type = bits == 8 ? FT_WEIGHT_I8 : FT_WEIGHT_I4;
    ft_random r;
    ft_kernels k, scalar;
    ft_random_init(&r, SEED);
    ft_kernels_init(&scalar, FT_ISA_SCALAR);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        for (size_t j = 0; j < sizeof(cols) / sizeof(*cols); j++) {
            fill(&p, bits, rows[i], cols[j], extreme, &r);
            for (size_t n = 0; n < MAX_TOKENS * p.cols; n++)
                x[n] = extreme ? (ft_random_below(&r, 2) ? 127.0f : -127.0f) : (float)(2 * ft_random_unit(&r) - 1);
            for (size_t t = 0; t < MAX_TOKENS; t++)
                scalar.prepare[FT_INPUT_I8](prepared + t * ft_input_bytes(FT_INPUT_I8, p.cols), x + t * p.cols, p.cols);
            ft_matmul m = product_of(&p, prepared, MAX_TOKENS, want);
            ft_kernels_matmul(&scalar, type, FT_COMPUTE_FLOAT32)(&m);
            check_against_formula(&p, (const ft_group *)(const void *)prepared, MAX_TOKENS, want);
            for (size_t f = 1; f < FAMILIES; f++) {
                if (families[f].isa & ~ft_cpu_isa())
                    continue;
                ft_kernels_init(&k, families[f].isa);
                for (size_t c = 0; c < sizeof(token_counts) / sizeof(*token_counts); c++) {
                    const size_t tokens = token_counts[c];
                    for (size_t n = 0; n < tokens * p.rows + 16; n++)
                        got[n] = SENTINEL;
                    m = product_of(&p, prepared, tokens, got);
                    ft_kernels_matmul(&k, type, FT_COMPUTE_FLOAT32)(&m);
                    assert_memory_equal(got, want, tokens * p.rows * sizeof(*got));
                    for (size_t n = 0; n < 16; n++)
                        assert_true(got[tokens * p.rows + n] == SENTINEL);
                    if (p.rows <= FT_MATMUL_ROWS)
                        continue;
                    m = ft_matmul_rows(&m, type, FT_MATMUL_ROWS, p.rows - FT_MATMUL_ROWS); /* a task of its own */
                    memset(got, 0, sizeof(got));
                    ft_kernels_matmul(&k, type, FT_COMPUTE_FLOAT32)(&m);
                    for (size_t t = 0; t < tokens; t++) {
                        assert_true(got[t * p.rows] == 0);
                        assert_memory_equal(got + t * p.rows + FT_MATMUL_ROWS, want + t * p.rows + FT_MATMUL_ROWS,
                                            (p.rows - FT_MATMUL_ROWS) * sizeof(*got));
                    }
                }
            }
        }
}

static void int8_products_are_the_formula_and_the_same_bits_in_every_family(void **state)
{
    (void)state;
    check_groups(8, 0);
}

static void int4_products_are_the_formula_and_the_same_bits_in_every_family(void **state)
{
    (void)state;
    check_groups(4, 0);
}

/* All weights -127, 127, -8 or 7 and all inputs -127 or 127: where 16 bits overflow. */
static void the_largest_whole_numbers_do_not_saturate(void **state)
{
    (void)state;
    check_groups(8, 1);
    check_groups(4, 1);
}

/* --- Inputs ------------------------------------------------------------------------------ */

static float awkward(ft_random *r)
{
    static const float some[] = {0,          -0.0f,      1e-45f,     -1e-40f,   1e-30f,   3e38f,        -3.4028234e38f,
                                 65504.0f,   65519.9f,   65520.0f,   1e5f,      0x1p-14f, 0x1.ffcp-15f, 0x1p-25f,
                                 0x1.8p-25f, 0x1.004p0f, 0x1.00cp0f, 0x1.01p0f, 0x1.03p0f};
    const uint64_t pick = ft_random_below(r, 40);
    if (pick < sizeof(some) / sizeof(*some))
        return ft_random_below(r, 2) ? some[pick] : -some[pick];
    return (float)(2 * ft_random_unit(r) - 1) * (float)exp(ft_random_unit(r) * 40 - 20);
}

static void prepared_groups_hold_the_nearest_whole_numbers_by_the_least_power_of_two(void **state)
{
    (void)state;
    enum { N = 256 };
    static float x[N];
    static _Alignas(64) ft_group want[N / 32 + 2], got[N / 32 + 2];
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < N; i++)
            x[i] = round & 1 ? awkward(&r) : (float)(2 * ft_random_unit(&r) - 1);
        ft_prepare_i8_scalar(want, x, N);
        for (size_t g = 0; g < N / 32; g++) {
            double most = 0;
            int sum = 0;
            for (size_t i = 0; i < 32; i++) {
                most = fmax(most, fabs((double)x[g * 32 + i]));
                sum += want[g].q[i];
            }
            assert_int_equal(want[g].start, -8 * sum);
            if (most >= 0x1p-80 && most <= 0x1p100) { /* the least power of two, and half a step at most */
                int exponent;
                assert_true(frexpf(want[g].scale, &exponent) == 0.5f);
                assert_true(most <= 127 * (double)want[g].scale && most > 63.5 * (double)want[g].scale);
                for (size_t i = 0; i < 32; i++)
                    assert_true(fabs(x[g * 32 + i] - (double)want[g].q[i] * want[g].scale) <= want[g].scale / 2);
            } else
                assert_int_equal(sum, 0);
        }
        for (size_t f = 1; f < FAMILIES; f++) {
            if (families[f].isa & ~ft_cpu_isa())
                continue;
            ft_kernels_init(&k, families[f].isa);
            k.prepare[FT_INPUT_I8](got, x, N);
            assert_memory_equal(got, want, N / 32 * sizeof(*got) + sizeof(float));
        }
    }
}

static void an_infinity_or_nan_shows_in_its_products_and_nothing_else(void **state)
{
    (void)state;
    enum { N = 96 };
    static const float bad[] = {INFINITY, -INFINITY, NAN, -1e35f};
    static packed p;
    float x[N], out[16];
    _Alignas(64) char row[256];
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    fill(&p, 8, 16, N, 0, &r);
    for (size_t f = 0; f < FAMILIES; f++) {
        if (!has_family(f, &k))
            continue;
        for (size_t b = 0; b < 4; b++) {
            for (size_t i = 0; i < N; i++)
                x[i] = (float)i;
            x[40] = bad[b];
            k.prepare[FT_INPUT_I8](row, x, N);
            k.prepare[FT_INPUT_I8](row + 128, x + 64, 32); /* a good row beside it */
            ft_matmul m = product_of(&p, row, 1, out);
            ft_kernels_matmul(&k, FT_WEIGHT_I8, FT_COMPUTE_FLOAT32)(&m);
            for (size_t i = 0; i < 16; i++)
                assert_true(isnan(out[i]));
            m.x = row + 128;
            m.cols = 32;
            ft_kernels_matmul(&k, FT_WEIGHT_I8, FT_COMPUTE_FLOAT32)(&m);
            for (size_t i = 0; i < 16; i++)
                assert_true(isfinite(out[i]));
        }
    }
}

static void narrowed_numbers_are_the_nearest_and_the_same_in_every_family(void **state)
{
    (void)state;
    enum { N = 2 * 16 + 5 };
    float x[N];
    uint16_t want[N], got[3 * N];
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    for (int round = 0; round < 2000; round++) {
        for (size_t i = 0; i < N; i++)
            x[i] = round % 7 == 0 && i % 5 == 0 ? (i % 2 ? INFINITY : NAN) : awkward(&r);
        for (int type = FT_KV_F16; type <= FT_KV_BF16; type++) {
            const int bf16 = type == FT_KV_BF16;
            (bf16 ? ft_narrow_bf16_scalar : ft_narrow_f16_scalar)(want, 1, x, N);
            for (size_t i = 0; i < N; i++) {
                const uint16_t down = (uint16_t)(want[i] - 1), up = (uint16_t)(want[i] + 1);
                const double is = bf16 ? ft_bf16_at(want, i) : ft_f16_at(want, i);
                const double below = bf16 ? ft_bf16_at(&down, 0) : ft_f16_at(&down, 0);
                const double above = bf16 ? ft_bf16_at(&up, 0) : ft_f16_at(&up, 0), v = x[i];
                if (isnan(v))
                    assert_true(isnan(is));
                else if (isfinite(is)) {
                    assert_true(signbit(is) == signbit(v));
                    if ((want[i] & 0x7fff) != 0 && isfinite(below))
                        assert_true(fabs(v - is) <= fabs(v - below));
                    if (isfinite(above) && signbit(above) == signbit(is))
                        assert_true(fabs(v - is) <= fabs(v - above));
                } else
                    assert_true(fabs(v) > (bf16 ? 3.3e38 : 65519.0) && signbit(is) == signbit(v));
            }
            for (size_t f = 1; f < FAMILIES; f++) {
                if (families[f].isa & ~ft_cpu_isa())
                    continue;
                ft_kernels_init(&k, families[f].isa);
                memset(got, 0, sizeof(got));
                k.narrow[type](got, 1, x, N);
                assert_memory_equal(got, want, sizeof(want));
                assert_int_equal(got[N], 0);
                k.narrow[type](got, 3, x, N);
                for (size_t i = 0; i < N; i++)
                    assert_int_equal(got[3 * i], want[i]);
            }
        }
    }
}

static void a_short_page_gives_what_its_widened_numbers_give(void **state)
{
    (void)state;
    enum { D = 64 + 19, N = FT_KV_PAGE, ROWS = 9 };
    static float wide[N * D], a[ROWS * N], want[ROWS * D], got[ROWS * D];
    static uint16_t page[N * D];
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    for (int type = FT_KV_F16; type <= FT_KV_BF16; type++) {
        for (size_t i = 0; i < N * D; i++) {
            const float v = (float)(2 * ft_random_unit(&r) - 1);
            page[i] = type == FT_KV_BF16 ? ft_bf16_of(v) : ft_f16_of(v);
            wide[i] = type == FT_KV_BF16 ? ft_bf16_at(page, i) : ft_f16_at(page, i);
        }
        for (size_t i = 0; i < ROWS * N; i++)
            a[i] = (float)(2 * ft_random_unit(&r) - 1);
        for (size_t f = 0; f < FAMILIES; f++) {
            if (!has_family(f, &k))
                continue;
            ft_page_product p = {.page = wide,
                                 .page_stride = D,
                                 .depth = N,
                                 .cols = D,
                                 .a = a,
                                 .a_stride = N,
                                 .rows = ROWS,
                                 .out = want,
                                 .out_stride = D};
            k.page[FT_KV_F32](&p);
            p.page = page;
            p.next = page; /* fetched, which changes nothing */
            p.out = got;
            k.page[type](&p);
            assert_memory_equal(got, want, sizeof(want));
        }
    }
}

/* --- All pages at once ---------------------------------------------------------------------- */

enum { PAGES = 3, PAGES_ROWS = 21, MOST_DIM = 130, SCORES = PAGES * FT_KV_PAGE };

typedef struct paged {
    uint16_t memory[2 * PAGES * FT_KV_PAGE * MOST_DIM]; /* pages in another order than they are read in */
    uint32_t numbers[PAGES], seen[PAGES_ROWS];
    float a[PAGES_ROWS * SCORES], got[PAGES_ROWS * SCORES], alone[SCORES];
    size_t dim, rows;
} paged;

static float paged_number(const paged *z, size_t i, size_t d, int values)
{
    const uint16_t *page = z->memory + z->numbers[i / FT_KV_PAGE] * (size_t)FT_KV_PAGE * z->dim;
    i %= FT_KV_PAGE;
    return ft_bf16_at(page, values ? i * z->dim + d : d * FT_KV_PAGE + i);
}

static ft_pages_product paged_product(const paged *z, size_t row, size_t rows, int values, float *out)
{
    const size_t a_stride = values ? (size_t)SCORES : z->dim;
    uint32_t positions = 0;
    for (size_t g = row; g < row + rows; g++)
        positions = z->seen[g] > positions ? z->seen[g] : positions;
    return (ft_pages_product){.memory = (const char *)z->memory,
                              .page_bytes = FT_KV_PAGE * z->dim * sizeof(uint16_t),
                              .numbers = z->numbers,
                              .positions = positions,
                              .dim = z->dim,
                              .seen = z->seen + row,
                              .a = z->a + row * a_stride,
                              .a_stride = a_stride,
                              .rows = rows,
                              .out = out,
                              .out_stride = values ? z->dim : (size_t)SCORES};
}

/* Numbers of a may be taken as two of bfloat16 each: 2^-17 of each product, and the sums' own roundings. */
static void check_pages(const ft_kernels *k, paged *z, int values)
{
    ft_pages_fn *run = values ? k->mix[FT_KV_BF16] : k->scores[FT_KV_BF16];
    const ft_pages_product p = paged_product(z, 0, z->rows, values, z->got);
    run(&p);
    for (size_t g = 0; g < z->rows; g++) {
        const size_t outs = values ? z->dim : z->seen[g], depth = values ? z->seen[g] : z->dim;
        for (size_t j = 0; j < outs; j++) {
            double sum = 0;
            for (size_t i = 0; i < depth; i++)
                sum += (double)p.a[g * p.a_stride + i] * (values ? paged_number(z, i, j, 1) : paged_number(z, j, i, 0));
            assert_true(fabs(z->got[g * p.out_stride + j] - sum) <= (double)depth * (0x1p-17 + (double)depth * U));
        }
        const ft_pages_product alone = paged_product(z, g, 1, values, z->alone);
        run(&alone);
        assert_memory_equal(z->alone, z->got + g * p.out_stride, outs * sizeof(float));
    }
}

static void all_pages_at_once_give_the_formula_and_a_row_its_own_bits(void **state)
{
    (void)state;
    static const size_t dims[] = {64, 128, 16, 32, 80, 130, 9};
    static paged z;
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    for (size_t i = 0; i < sizeof(z.memory) / sizeof(*z.memory); i++)
        z.memory[i] = ft_bf16_of((float)(2 * ft_random_unit(&r) - 1));
    for (size_t i = 0; i < PAGES_ROWS * SCORES; i++)
        z.a[i] = (float)(2 * ft_random_unit(&r) - 1);
    for (size_t n = 0; n < PAGES; n++)
        z.numbers[n] = (uint32_t)(2 * PAGES - 1 - 2 * n);
    for (size_t f = 0; f < FAMILIES; f++)
        for (size_t n = 0; n < 3 * sizeof(dims) / sizeof(*dims) && (n || has_family(f, &k)); n++) {
            if (!k.mix[FT_KV_BF16] || (families[f].isa & ~ft_cpu_isa()))
                break;
            z.dim = dims[n / 3];
            z.rows = n % 3 == 0 ? 1 : n % 3 == 1 ? 16 : PAGES_ROWS;
            const size_t last = 1 + ft_random_below(&r, SCORES - PAGES_ROWS);
            for (size_t g = 0; g < PAGES_ROWS; g++)
                z.seen[g] = (uint32_t)(last + g);
            check_pages(&k, &z, 0);
            check_pages(&k, &z, 1);
        }
}

/* --- bfloat16 products -------------------------------------------------------------------- */

static void bfloat16_products_are_the_formula_whatever_is_computed_with_them(void **state)
{
    (void)state;
    enum { TOKENS = 100 };
    static const size_t cols[] = {1, 31, 32, 33, 64, 100, 1024, 2816 + 7, 4096 + 1024, 4096 + 40};
    static const size_t more[] = {TOKENS - 1, 97, 80, 64, 49, 48, 34};
    enum { ROWS = 150, MOST_COLS = 5 * 1024, COUNTS = sizeof(token_counts) / sizeof(*token_counts) };
    static uint16_t w[ROWS * MOST_COLS];
    static float x[TOKENS * MOST_COLS], all[TOKENS * ROWS], some[TOKENS * ROWS];
    static _Alignas(64) char prepared[TOKENS * (MOST_COLS * 2 + 64)];
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    for (size_t f = 0; f < FAMILIES; f++) {
        if (!has_family(f, &k))
            continue;
        for (size_t c = 0; c < sizeof(cols) / sizeof(*cols); c++) {
            const size_t n = cols[c], bytes = ft_input_bytes(FT_INPUT_BF16, n);
            for (size_t i = 0; i < ROWS * n; i++)
                w[i] = ft_bf16_of((float)(2 * ft_random_unit(&r) - 1));
            for (size_t t = 0; t < TOKENS; t++) {
                for (size_t i = 0; i < n; i++)
                    x[t * n + i] = (float)(2 * ft_random_unit(&r) - 1);
                k.prepare[FT_INPUT_BF16](prepared + t * bytes, x + t * n, n);
            }
            ft_matmul m = {.w = w,
                           .w_stride = n,
                           .rows = ROWS,
                           .cols = n,
                           .x = prepared,
                           .x_stride = bytes,
                           .tokens = TOKENS,
                           .out = all,
                           .out_stride = ROWS};
            ft_matmul_fn *fn = ft_kernels_matmul(&k, FT_WEIGHT_BF16, FT_COMPUTE_BFLOAT16);
            fn(&m);
            for (size_t t = 0; t < TOKENS; t++)
                for (size_t row = 0; row < ROWS; row++) {
                    double sum = 0, size = 0;
                    for (size_t i = 0; i < n; i++) {
                        const uint16_t rounded = ft_bf16_of(x[t * n + i]);
                        const double product = (double)ft_bf16_at(w, row * n + i) * ft_bf16_at(&rounded, 0);
                        sum += product;
                        size += fabs(product);
                    }
                    /* Tiny numbers may count as zero in the products of avx512-dot and amx. */
                    const double limit = ((double)n + 1) * (U * size + 0x1p-126);
                    if (!(fabs(all[t * ROWS + row] - sum) <= limit))
                        fail_msg("%s, cols %zu, row %zu, token %zu: %g, not %g within %g", families[f].name, n, row, t,
                                 all[t * ROWS + row], sum, limit);
                }
            for (size_t i = 0; i < COUNTS + sizeof(more) / sizeof(*more); i++) {
                m.tokens = i < COUNTS ? token_counts[i] : more[i - COUNTS];
                m.out = some;
                fn(&m);
                assert_memory_equal(some, all, m.tokens * ROWS * sizeof(*all));
            }
            ft_matmul part = ft_matmul_rows(&m, FT_WEIGHT_BF16, 32, ROWS - 32);
            part.tokens = 1;
            memset(some, 0, sizeof(some));
            fn(&part);
            assert_memory_equal(some + 32, all + 32, (ROWS - 32) * sizeof(*all));
        }
    }
}

/* How many tokens share a product, which kernel a family has for so many, through which index they are found and what
 * comes after it, leaves no trace, also where numbers are so small that products and sums are subnormal. */
static void bfloat16_products_of_tiny_numbers_have_the_same_bits_in_any_company(void **state)
{
    (void)state;
    enum { ROWS = 75, MOST_COLS = 800, TOKENS = 70 };
    static const size_t cols[] = {32, 256, 300, 800}, counts[] = {1, 2, 3, 4, 5, 16, 17, 32, 33, 64};
    static uint16_t w[ROWS * MOST_COLS];
    static float x[TOKENS * MOST_COLS], all[TOKENS * ROWS], some[TOKENS * ROWS];
    static _Alignas(64) char prepared[TOKENS * (MOST_COLS * 2 + 512)];
    uint32_t index[TOKENS];
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    for (size_t f = 0; f < FAMILIES; f++) {
        if (!has_family(f, &k))
            continue;
        ft_matmul_fn *fn = ft_kernels_matmul(&k, FT_WEIGHT_BF16, FT_COMPUTE_BFLOAT16);
        for (size_t c = 0; c < sizeof(cols) / sizeof(*cols); c++) {
            const size_t n = cols[c], bytes = ft_input_bytes(FT_INPUT_BF16, n);
            for (size_t i = 0; i < ROWS * n; i++) /* 2^-67 and below, bfloat16's own subnormal numbers among them */
                w[i] = (uint16_t)(ft_random_below(&r, 60 << 7) | ft_random_below(&r, 2) << 15);
            for (size_t t = 0; t < TOKENS; t++) {
                for (size_t i = 0; i < n; i++)
                    x[t * n + i] = ldexpf((float)(2 * ft_random_unit(&r) - 1), -50 - (int)ft_random_below(&r, 20));
                k.prepare[FT_INPUT_BF16](prepared + t * bytes, x + t * n, n);
                index[t] = (uint32_t)(TOKENS - 1 - t);
            }
            ft_matmul m = {.w = w,
                           .w_stride = n,
                           .rows = ROWS,
                           .cols = n,
                           .x = prepared,
                           .x_stride = bytes,
                           .tokens = TOKENS,
                           .out = all,
                           .out_stride = ROWS};
            fn(&m);
            size_t nonzero = 0;
            for (size_t i = 0; i < TOKENS * ROWS; i++)
                nonzero += all[i] != 0;
            assert_true(nonzero > TOKENS * ROWS / 10);
            m.out = some;
            for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
                m.tokens = counts[i];
                m.index = NULL;
                m.next = NULL;
                fn(&m);
                assert_memory_equal(some, all, m.tokens * ROWS * sizeof(*all));
                m.index = index;
                m.next = w;
                m.next_rows = ROWS;
                fn(&m);
                for (size_t t = 0; t < m.tokens; t++)
                    assert_memory_equal(some + t * ROWS, all + (TOKENS - 1 - t) * ROWS, ROWS * sizeof(*all));
            }
        }
    }
}

/* --- Gated products --------------------------------------------------------------------------- */

enum { GATED_ROWS = 520, GATED_COLS = 3000, GATED_TOKENS = 203 };

typedef struct gated {
    uint16_t gate[GATED_ROWS * GATED_COLS], up[GATED_ROWS * GATED_COLS];
    _Alignas(64) char x[GATED_TOKENS * (GATED_COLS * 2 + 512)];
    _Alignas(64) float sums[2][GATED_TOKENS * GATED_ROWS];
    _Alignas(64) float room[(GATED_TOKENS + 31) / 32 * 32 * 2 * FT_GATED_ROWS];
    _Alignas(64) char want[GATED_TOKENS * (GATED_ROWS * 2 + 576)], got[GATED_TOKENS * (GATED_ROWS * 2 + 576)];
} gated;

/* Rows of what a gated product gives are what its parts give, one after the other. */
static void check_gated(const ft_kernels *k, gated *z, size_t rows, size_t cols, size_t tokens, const uint32_t *index)
{
    ft_matmul_fn *fn = ft_kernels_matmul(k, FT_WEIGHT_BF16, FT_COMPUTE_BFLOAT16);
    const size_t step = ft_input_bytes(FT_INPUT_BF16, rows), blocks = (rows + FT_INPUT_BLOCK - 1) / FT_INPUT_BLOCK;
    ft_matmul m = {.w = z->gate,
                   .w_stride = cols,
                   .rows = rows,
                   .cols = cols,
                   .x = z->x,
                   .x_stride = ft_input_bytes(FT_INPUT_BF16, cols),
                   .index = index,
                   .tokens = tokens,
                   .out = z->sums[0],
                   .out_stride = rows};
    fn(&m);
    m.w = z->up;
    m.out = z->sums[1];
    fn(&m);
    for (size_t t = 0; t < tokens; t++) {
        k->silu(z->sums[0] + t * rows, z->sums[1] + t * rows, rows);
        k->prepare[FT_INPUT_BF16](z->want + t * step, z->sums[0] + t * rows, rows);
    }
    m.w = z->gate;
    m.out = z->room;
    memset(z->got, 0xff, sizeof(z->got));
    k->gated(&(ft_gated){.gate = m, .up = z->up, .out = z->got, .out_step = step});
    for (size_t t = 0; t < tokens; t++)
        assert_memory_equal(z->got + t * step, z->want + t * step, blocks * FT_INPUT_BLOCK * sizeof(uint16_t));
}

static void a_gated_product_has_the_bits_of_its_parts(void **state)
{
    (void)state;
    static const size_t rows[] = {1, 31, 256, 300, GATED_ROWS}, cols[] = {40, 256, 1000, GATED_COLS},
                        tokens[] = {1, 5, 8, 16, 17, 31, 32, 33, 48, 50, 64, GATED_TOKENS};
    static gated z;
    static float x[GATED_COLS];
    uint32_t index[GATED_TOKENS];
    ft_random r;
    ft_kernels k;
    ft_random_init(&r, SEED);
    for (size_t i = 0; i < GATED_ROWS * GATED_COLS; i++) {
        z.gate[i] = ft_bf16_of((float)(2 * ft_random_unit(&r) - 1));
        z.up[i] = ft_bf16_of((float)(2 * ft_random_unit(&r) - 1));
    }
    for (size_t t = 0; t < GATED_TOKENS; t++)
        index[t] = (uint32_t)(GATED_TOKENS - 1 - t);
    for (size_t f = 0; f < FAMILIES; f++)
        for (size_t c = 0; c < sizeof(cols) / sizeof(*cols) && has_family(f, &k) && k.gated; c++) {
            for (size_t t = 0; t < GATED_TOKENS; t++) {
                for (size_t i = 0; i < cols[c]; i++)
                    x[i] = (float)(2 * ft_random_unit(&r) - 1);
                k.prepare[FT_INPUT_BF16](z.x + t * ft_input_bytes(FT_INPUT_BF16, cols[c]), x, cols[c]);
            }
            for (size_t n = 0; n < sizeof(rows) / sizeof(*rows); n++)
                for (size_t t = 0; t < sizeof(tokens) / sizeof(*tokens); t++)
                    check_gated(&k, &z, rows[n], cols[c], tokens[t], t % 2 ? index : NULL);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_products_are_the_formula_and_the_same_bits_in_every_family),
        cmocka_unit_test(int4_products_are_the_formula_and_the_same_bits_in_every_family),
        cmocka_unit_test(the_largest_whole_numbers_do_not_saturate),
        cmocka_unit_test(prepared_groups_hold_the_nearest_whole_numbers_by_the_least_power_of_two),
        cmocka_unit_test(an_infinity_or_nan_shows_in_its_products_and_nothing_else),
        cmocka_unit_test(narrowed_numbers_are_the_nearest_and_the_same_in_every_family),
        cmocka_unit_test(a_short_page_gives_what_its_widened_numbers_give),
        cmocka_unit_test(all_pages_at_once_give_the_formula_and_a_row_its_own_bits),
        cmocka_unit_test(bfloat16_products_are_the_formula_whatever_is_computed_with_them),
        cmocka_unit_test(bfloat16_products_of_tiny_numbers_have_the_same_bits_in_any_company),
        cmocka_unit_test(a_gated_product_has_the_bits_of_its_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
