/* ft_bench_kernels: how near the products and attention come to what the machine
 * can do. One JSON object a line:
 *
 *   {"what": "stream", "gb_per_s": …}                     bytes that all threads read together, nothing else
 *   {"what": "product", "type": …, "rows", "cols", "tokens", "gb_per_s", "of_stream", "gflop_per_s"}
 *   {"what": "attention", "type": …, "queries", "gb_per_s", "of_stream", "gflop_per_s"}
 *
 *   ft_bench_kernels [--rows R] [--cols K] [--rounds N] [--threads N] [--cpu-time 1]
 *
 * --cpu-time counts the threads' processor time: on a machine that others use too.
 * Weights fill more memory than the caches hold and are taken in turn. A round
 * measures everything once, the stream before each, so that neighbours who take
 * memory's speed away take it from both: gb_per_s and gflop_per_s are the best
 * round's, of_stream is the median of the rounds' ratios. */
#include "ft_stream.h"

#include "base/ft_cpu.h"
#include "base/ft_random.h"
#include "base/ft_threads.h"
#include "model/kernels/ft_kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WEIGHT_BYTES = 256 << 20,
    SAMPLE_BYTES = 64 << 20, /* of weights that one sample of few tokens reads */
    TASK_BYTES = 1 << 19,
    MOST_TOKENS = 512,
    MOST_ROUNDS = 64,
};

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct bench {
    ft_kernels kernels;
    ft_pool *pool;
    size_t rows, cols, rounds;
    char *weights, *inputs;
    float *activations, *out; /* [MOST_TOKENS, cols], [MOST_TOKENS, rows] for each thread */
    size_t at;                /* where in `weights` the next sample reads */
    ft_stream stream;
    int cpu_time;
    double busy[64]; /* CPU seconds of each worker in the job that runs */
    ft_task_fn *fn;
    void *context;
} bench;

static void timed_task(void *context, size_t task, unsigned worker)
{
    bench *b = context;
    const double start = now(CLOCK_THREAD_CPUTIME_ID);
    b->fn(b->context, task, worker);
    b->busy[worker] += now(CLOCK_THREAD_CPUTIME_ID) - start;
}

/* Seconds that the job takes, or would take if nobody else used the processors. */
static double seconds_of(void *timer, size_t tasks, ft_task_fn *fn, void *context)
{
    bench *b = timer;
    double sum = 0;
    memset(b->busy, 0, sizeof(b->busy));
    b->fn = fn;
    b->context = context;
    const double start = now(CLOCK_MONOTONIC);
    ft_pool_run(b->pool, tasks, b->cpu_time ? timed_task : fn, b->cpu_time ? (void *)b : context);
    const double seconds = now(CLOCK_MONOTONIC) - start;
    for (size_t i = 0; i < 64; i++)
        sum += b->busy[i];
    return b->cpu_time ? sum / ft_pool_size(b->pool) : seconds;
}

static void forward_by(bench *b, size_t bytes)
{
    b->at += bytes;
    if (b->at + SAMPLE_BYTES > WEIGHT_BYTES)
        b->at = 0;
}

static double stream(bench *b)
{
    return ft_stream_sample(&b->stream) / 1e9;
}

/* --- Products ----------------------------------------------------------------------- */

typedef struct product {
    bench *b;
    ft_weight_type type;
    ft_matmul_fn *fn;
    ft_matmul m; /* one matrix; the sample reads `matrices` one after the other */
    size_t matrices, bytes, scale_bytes, rows_each, tasks_each;
} product;

static void product_task(void *context, size_t task, unsigned worker)
{
    const product *p = context;
    const size_t matrix = task / p->tasks_each, first = task % p->tasks_each * p->rows_each;
    ft_matmul m = p->m;
    (void)worker;
    m.w = (const char *)m.w + matrix * p->bytes;
    m.scales += matrix * p->scale_bytes / sizeof(*m.scales);
    const size_t left = m.rows - first;
    m = ft_matmul_rows(&m, p->type, first, left < p->rows_each ? left : p->rows_each);
    p->fn(&m);
}

static double product_seconds(bench *b, ft_weight_type type, ft_compute compute, size_t tokens, size_t *bytes)
{
    const ft_input_type input = ft_input_of(type, compute);
    product p = {.b = b, .type = type, .fn = ft_kernels_matmul(&b->kernels, type, compute)};
    const size_t size = ft_weight_bytes(type, (b->rows + 15) / 16 * 16, b->cols), groups = b->cols / FT_GROUP;
    p.bytes = size;
    p.scale_bytes = type == FT_WEIGHT_I8 || type == FT_WEIGHT_I4 ? (b->rows + 15) / 16 * groups * 32 : 0;
    p.matrices = tokens > 32 ? 1 : SAMPLE_BYTES / 2 / size;
    p.rows_each = TASK_BYTES / (size / b->rows) / FT_MATMUL_ROWS * FT_MATMUL_ROWS;
    p.tasks_each = (b->rows + p.rows_each - 1) / p.rows_each;
    for (size_t t = 0; t < tokens; t++)
        b->kernels.prepare[input](b->inputs + t * ft_input_bytes(input, b->cols), b->activations + t * b->cols,
                                  b->cols);
    /* The scales stand behind the weights of the sample: they come from memory as well. */
    p.m = (ft_matmul){.w = b->weights + b->at,
                      .scales = (const uint16_t *)(const void *)(b->weights + b->at + SAMPLE_BYTES / 2),
                      .w_stride = b->cols,
                      .rows = b->rows,
                      .cols = b->cols,
                      .x = b->inputs,
                      .x_stride = ft_input_bytes(input, b->cols),
                      .tokens = tokens,
                      .out = b->out,
                      .out_stride = b->rows};
    *bytes = p.bytes + p.scale_bytes;
    const double seconds = seconds_of(b, p.matrices * p.tasks_each, product_task, &p);
    forward_by(b, SAMPLE_BYTES);
    return seconds / (double)p.matrices;
}

static const struct {
    const char *name;
    ft_weight_type type;
    ft_compute compute;
} kinds[] = {{"float32", FT_WEIGHT_F32, FT_COMPUTE_FLOAT32},
             {"bfloat16 widened", FT_WEIGHT_BF16, FT_COMPUTE_FLOAT32},
             {"float16 widened", FT_WEIGHT_F16, FT_COMPUTE_FLOAT32},
             {"bfloat16", FT_WEIGHT_BF16, FT_COMPUTE_BFLOAT16},
             {"int8", FT_WEIGHT_I8, FT_COMPUTE_FLOAT32},
             {"int4", FT_WEIGHT_I4, FT_COMPUTE_FLOAT32}};
static const size_t token_counts[] = {1, 2, 4, 8, 16, 32, MOST_TOKENS};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]), COUNTS = sizeof(token_counts) / sizeof(token_counts[0]) };

/* --- Attention ---------------------------------------------------------------------- */

enum { HEAD = 64, PAGE_NUMBERS = FT_KV_PAGE * HEAD, PAGES_A_TASK = 32 };
static const char *const kv_names[FT_KV_TYPES] = {"float32", "float16", "bfloat16"};
static const size_t query_counts[] = {1, 4, 16};
enum { QUERY_COUNTS = sizeof(query_counts) / sizeof(query_counts[0]), MOST_QUERIES = 16 };

typedef struct attention {
    bench *b;
    ft_kv_type type;
    size_t queries;
} attention;

/* Scores of one page of keys, then the mix of one of values, as for one kv head. */
static void attention_task(void *context, size_t task, unsigned worker)
{
    const attention *a = context;
    const bench *b = a->b;
    const size_t bytes = PAGE_NUMBERS * ft_kv_bytes(a->type);
    const char *page = b->weights + b->at + task * PAGES_A_TASK * bytes;
    float scores[MOST_QUERIES * FT_KV_PAGE], *out = b->out + (size_t)worker * MOST_QUERIES * HEAD;
    ft_page_product qk = {.page_stride = FT_KV_PAGE,
                          .depth = HEAD,
                          .cols = FT_KV_PAGE,
                          .a = b->activations,
                          .a_stride = HEAD,
                          .rows = a->queries,
                          .out = scores,
                          .out_stride = FT_KV_PAGE};
    ft_page_product mix = {.page_stride = HEAD,
                           .depth = FT_KV_PAGE,
                           .cols = HEAD,
                           .a = scores,
                           .a_stride = FT_KV_PAGE,
                           .rows = a->queries,
                           .add = 1,
                           .out = out,
                           .out_stride = HEAD};
    for (size_t i = 0; i + 2 <= PAGES_A_TASK; i += 2) {
        qk.page = page + i * bytes;
        mix.page = page + (i + 1) * bytes;
        b->kernels.page[a->type](&qk);
        b->kernels.page[a->type](&mix);
    }
}

static double attention_seconds(bench *b, ft_kv_type type, size_t queries, size_t *bytes)
{
    attention a = {b, type, queries};
    const size_t each = PAGES_A_TASK * PAGE_NUMBERS * ft_kv_bytes(type), tasks = SAMPLE_BYTES / 4 / each;
    memset(b->out, 0, MOST_QUERIES * HEAD * ft_pool_size(b->pool) * sizeof(*b->out));
    *bytes = tasks * each;
    const double seconds = seconds_of(b, tasks, attention_task, &a);
    forward_by(b, SAMPLE_BYTES);
    return seconds;
}

/* --- Rounds ---------------------------------------------------------------------------- */

typedef struct samples {
    double best, ratios[MOST_ROUNDS]; /* GB/s; to the stream measured before it */
    size_t bytes;
} samples;

static void take(bench *b, samples *s, size_t round, double streamed, double seconds)
{
    const double rate = (double)s->bytes / seconds / 1e9;
    (void)b;
    s->best = rate > s->best ? rate : s->best;
    s->ratios[round] = rate / streamed;
}

static double median(samples *s, size_t n)
{
    qsort(s->ratios, n, sizeof(*s->ratios), by_value);
    return s->ratios[n / 2];
}

static void run(bench *b)
{
    static samples products[KINDS][COUNTS], attentions[FT_KV_TYPES][QUERY_COUNTS];
    double best = 0;
    for (size_t round = 0; round < b->rounds; round++) {
        for (size_t i = 0; i < KINDS; i++)
            for (size_t c = 0; c < COUNTS; c++) {
                const double streamed = stream(b);
                best = streamed > best ? streamed : best;
                samples *s = &products[i][c];
                take(b, s, round, streamed,
                     product_seconds(b, kinds[i].type, kinds[i].compute, token_counts[c], &s->bytes));
            }
        for (size_t i = 0; i < FT_KV_TYPES; i++)
            for (size_t c = 0; c < QUERY_COUNTS; c++) {
                const double streamed = stream(b);
                samples *s = &attentions[i][c];
                take(b, s, round, streamed, attention_seconds(b, (ft_kv_type)i, query_counts[c], &s->bytes));
            }
    }
    printf("{\"what\": \"stream\", \"kernels\": \"%s\", \"threads\": %u, \"gb_per_s\": %.1f}\n",
           ft_cpu_family_name(ft_cpu_isa()), ft_pool_size(b->pool), best);
    for (size_t i = 0; i < KINDS; i++)
        for (size_t c = 0; c < COUNTS; c++) {
            samples *s = &products[i][c];
            const double work = 2.0 * (double)(b->rows * b->cols * token_counts[c]);
            printf("{\"what\": \"product\", \"type\": \"%s\", \"rows\": %zu, \"cols\": %zu, \"tokens\": %zu, "
                   "\"gb_per_s\": %.1f, \"of_stream\": %.3f, \"gflop_per_s\": %.0f}\n",
                   kinds[i].name, b->rows, b->cols, token_counts[c], s->best, median(s, b->rounds),
                   work / ((double)s->bytes / s->best));
        }
    for (size_t i = 0; i < FT_KV_TYPES; i++)
        for (size_t c = 0; c < QUERY_COUNTS; c++) {
            samples *s = &attentions[i][c];
            const double work = 2.0 * (double)query_counts[c] * (double)(s->bytes / ft_kv_bytes((ft_kv_type)i));
            printf("{\"what\": \"attention\", \"type\": \"%s\", \"queries\": %zu, \"gb_per_s\": %.1f, "
                   "\"of_stream\": %.3f, \"gflop_per_s\": %.0f}\n",
                   kv_names[i], query_counts[c], s->best, median(s, b->rounds), work / ((double)s->bytes / s->best));
        }
}

/* --- Start ------------------------------------------------------------------------------- */

/* Numbers that are everyday ones as float32, bfloat16 and float16, and any as bytes. */
static void fill(bench *b)
{
    ft_random r;
    ft_random_init(&r, 1);
    for (size_t i = 0; i < WEIGHT_BYTES; i += 8) {
        const uint64_t v = (ft_random_u64(&r) & 0x83ff83ff83ff83ff) | 0x3c003c003c003c00;
        memcpy(b->weights + i, &v, sizeof(v));
    }
    for (size_t i = 0; i < MOST_TOKENS * b->cols; i++)
        b->activations[i] = (float)(2 * ft_random_unit(&r) - 1);
}

static size_t number(const char *text)
{
    char *end;
    const unsigned long v = strtoul(text, &end, 10);
    if (*end || v < 1 || v > 1 << 20) {
        fprintf(stderr, "ft_bench_kernels: %s is not a number from 1 to 1048576\n", text);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    static bench b = {.rows = 2816, .cols = 1024, .rounds = 9};
    size_t threads = 0, cpu_time = 0;
    for (int i = 1; i < argc; i += 2) {
        size_t *to = !strcmp(argv[i], "--rows")       ? &b.rows
                     : !strcmp(argv[i], "--cols")     ? &b.cols
                     : !strcmp(argv[i], "--rounds")   ? &b.rounds
                     : !strcmp(argv[i], "--threads")  ? &threads
                     : !strcmp(argv[i], "--cpu-time") ? &cpu_time
                                                      : NULL;
        if (!to || i + 1 == argc) {
            fputs("usage: ft_bench_kernels [--rows R] [--cols K] [--rounds N] [--threads N] [--cpu-time 1]\n", stderr);
            return 2;
        }
        *to = number(argv[i + 1]);
    }
    if (b.cols % FT_GROUP || b.rounds > MOST_ROUNDS || b.rows * b.cols > SAMPLE_BYTES / 8 || threads > 64) {
        fprintf(stderr, "ft_bench_kernels: cols a multiple of %d, rounds <= %d, rows * cols <= %d, threads <= 64\n",
                FT_GROUP, MOST_ROUNDS, SAMPLE_BYTES / 8);
        return 2;
    }
    b.cpu_time = cpu_time != 0;
    ft_status st = {0};
    if (ft_pool_new(&b.pool, (unsigned)threads, &st)) {
        fprintf(stderr, "ft_bench_kernels: %s\n", st.msg);
        return 1;
    }
    size_t row = ft_input_bytes(FT_INPUT_F32, b.cols); /* of few columns, bfloat16 rows are the longest */
    row = row < ft_input_bytes(FT_INPUT_BF16, b.cols) ? ft_input_bytes(FT_INPUT_BF16, b.cols) : row;
    b.weights = aligned_alloc(64, WEIGHT_BYTES);
    b.inputs = aligned_alloc(64, MOST_TOKENS * row);
    b.activations = malloc(MOST_TOKENS * b.cols * sizeof(float));
    b.out = malloc(MOST_TOKENS * (b.rows + HEAD * MOST_QUERIES) * sizeof(float));
    if (!b.weights || !b.inputs || !b.activations || !b.out || !ft_stream_open(&b.stream, b.pool)) {
        fputs("ft_bench_kernels: out of memory\n", stderr);
        return 1;
    }
    b.stream.seconds_of = seconds_of;
    b.stream.timer = &b;
    ft_kernels_init(&b.kernels, ft_cpu_isa());
    fill(&b);
    run(&b);
    ft_stream_close(&b.stream);
    ft_pool_free(b.pool);
    free(b.weights);
    free(b.inputs);
    free(b.activations);
    free(b.out);
    return 0;
}
