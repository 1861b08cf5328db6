/* ft_bench_train: training steps for bench/train, which starts and stops them in turn with a peer's.
 *
 *   ft_bench_train make FOLDER                 weights for FOLDER/config.json, from seed 1
 *   ft_bench_train product M N K               OpenBLAS's sgemm and our products, in turns: JSON
 *   ft_bench_train step FOLDER IDS SEQUENCES LENGTH MICRO THREADS MODE[,bfloat16][,recompute]
 *       MODE: all or expert. IDS: int32 [SEQUENCES, LENGTH + 1]. Reads numbers from standard input; for
 *       each, does as many steps (forward, backward, norm clipped at 1, AdamW) and answers with a line of JSON. */
#include "ft_stream.h"
#include "model/train/ft_gemm.h"
#include "model/train/ft_trainer.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "ft_bench_train: %s\n", what);
    exit(4);
}

static void *room(size_t n, size_t size)
{
    void *p = aligned_alloc(64, (n * size + 63) / 64 * 64);
    if (!p)
        die("out of memory");
    memset(p, 0, n * size);
    return p;
}

static int make(const char *folder)
{
    ft_parameters p;
    ft_status st = {0};
    char path[4096];
    if (ft_parameters_init(&p, folder, 1, &st))
        die(st.msg);
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    if (ft_parameters_save(&p, path, FT_SAVE_ALL, 0, NULL, &st))
        die(st.msg);
    ft_parameters_close(&p);
    return 0;
}

/* --- Products ---------------------------------------------------------------------------- */

typedef struct columns { /* sgemm by columns of the result, one single-threaded call a thread */
    const float *a, *b;
    float *out;
    size_t m, n, k, pieces;
    ft_packed packed;
} columns;

enum { ROWS = 96, TURNS = 30 };

static void sgemm_piece(void *context, size_t task, unsigned worker)
{
    const columns *c = context;
    const size_t from = c->m * task / c->pieces, to = c->m * (task + 1) / c->pieces;
    (void)worker;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)(to - from), (blasint)c->n, (blasint)c->k, 1,
                c->a + from * c->k, (blasint)c->k, c->b, (blasint)c->k, 0, c->out + from * c->n, (blasint)c->n);
}

/* As the trainer does it: the right operand packed by all threads, then blocks of rows. */
static void our_panel(void *context, size_t task, unsigned worker)
{
    const columns *c = context;
    (void)worker;
    ft_packed_fill(&c->packed, task, c->b, c->k, 1);
}

static void our_rows(void *context, size_t task, unsigned worker)
{
    const columns *c = context;
    const size_t from = task * ROWS, rows = c->m - from < ROWS ? c->m - from : ROWS;
    (void)worker;
    ft_packed_multiply(&c->packed, c->a + from * c->k, c->k, rows, c->out + from * c->n, c->n, 0);
}

static int product(size_t m, size_t n, size_t k)
{
    ft_pool *pool;
    ft_status st = {0};
    if (ft_pool_new(&pool, 0, &st))
        die(st.msg);
    openblas_set_num_threads(1);
    float *a = room(m * k, sizeof(float)), *b = room(n * k, sizeof(float)), *out = room(m * n, sizeof(float));
    for (size_t i = 0; i < m * k; i++)
        a[i] = (float)(i % 17) - 8;
    for (size_t i = 0; i < n * k; i++)
        b[i] = (float)(i % 13) - 6;
    columns c = {a, b, out, m, n, k, ft_pool_size(pool), {.k = k, .n = n}};
    c.packed.units = room(ft_packed_units(k, n, 0), sizeof(uint32_t));
    double best[3] = {1e30, 1e30, 1e30};
    for (int turn = 0; turn < TURNS; turn++)
        for (int kind = 0; kind < 3; kind++) {
            const double start = ft_stream_now();
            c.packed.bfloat16 = kind == 2;
            if (kind == 0)
                ft_pool_run(pool, c.pieces, sgemm_piece, &c);
            else {
                ft_pool_run(pool, ft_packed_panels(n), our_panel, &c);
                ft_pool_run(pool, (m + ROWS - 1) / ROWS, our_rows, &c);
            }
            best[kind] = fmin(best[kind], ft_stream_now() - start);
        }
    const double flop = 2e-9 * (double)m * (double)n * (double)k;
    printf("{\"openblas\":%.2f,\"float32\":%.2f,\"bfloat16\":%.2f,\"threads\":%u}\n", flop / best[0], flop / best[1],
           flop / best[2], ft_pool_size(pool));
    ft_pool_free(pool);
    free(c.packed.units);
    free(a);
    free(b);
    free(out);
    return 0;
}

/* --- Steps ---------------------------------------------------------------------------------- */

typedef struct bench {
    ft_trainer *t;
    int32_t *ids, *labels; /* [sequences, length] */
    size_t sequences, length, micro;
    uint64_t step;
} bench;

static void read_ids(bench *b, const char *path)
{
    const size_t row = b->length + 1;
    int32_t *all = room(b->sequences * row, sizeof(*all));
    FILE *f = fopen(path, "rb");
    if (!f || fread(all, sizeof(*all), b->sequences * row, f) != b->sequences * row)
        die("cannot read the ids");
    fclose(f);
    b->ids = room(b->sequences * b->length, sizeof(*b->ids));
    b->labels = room(b->sequences * b->length, sizeof(*b->labels));
    for (size_t i = 0; i < b->sequences; i++)
        for (size_t n = 0; n < b->length; n++) {
            b->ids[i * b->length + n] = all[i * row + n];
            b->labels[i * b->length + n] = all[i * row + n + 1];
        }
    free(all);
}

static double step(bench *b)
{
    static const ft_adamw adamw = {.rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    ft_status st = {0};
    double loss = 0;
    ft_parameters_zero(ft_trainer_parameters(b->t));
    for (size_t i = 0; i < b->sequences; i += b->micro) {
        const ft_batch part = {.ids = b->ids + i * b->length,
                               .labels = b->labels + i * b->length,
                               .sequences = b->micro,
                               .length = b->length};
        ft_losses l;
        const double share = (double)b->micro / (double)b->sequences;
        if (ft_trainer_gradient(b->t, &part, share, &l, &st))
            die(st.msg);
        loss += share * l.loss;
    }
    const double norm = ft_parameters_norm(ft_trainer_parameters(b->t), NULL);
    if (ft_trainer_update(b->t, &adamw, ++b->step, fmin(1, 1 / (norm + 1e-6)), &st))
        die(st.msg);
    return loss;
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int steps(char **v)
{
    ft_status st = {0};
    bench b = {.sequences = strtoul(v[2], NULL, 10), .length = strtoul(v[3], NULL, 10)};
    b.micro = strtoul(v[4], NULL, 10);
    const ft_trainer_options o = {.mode = strstr(v[6], "expert") ? FT_TRAIN_EXPERT : FT_TRAIN_ALL,
                                  .threads = (unsigned)strtoul(v[5], NULL, 10),
                                  .z_loss = 1e-3,
                                  .bfloat16 = strstr(v[6], "bfloat16") != NULL,
                                  .recompute = strstr(v[6], "recompute") != NULL};
    if (!b.sequences || !b.length || !b.micro || b.sequences % b.micro)
        die("MICRO must divide SEQUENCES");
    if (ft_trainer_open(&b.t, v[0], &o, &st))
        die(st.msg);
    read_ids(&b, v[1]);
    for (int count; scanf("%d", &count) == 1;) {
        double loss = 0;
        const double start = ft_stream_now(), start_cpu = cpu();
        for (int i = 0; i < count; i++)
            loss = step(&b);
        const double seconds = ft_stream_now() - start, cpu_seconds = cpu() - start_cpu;
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        printf("{\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"loss\":%.9g,\"peak_bytes\":%ld}\n", seconds, cpu_seconds, loss,
               usage.ru_maxrss * 1024);
        fflush(stdout);
    }
    ft_trainer_close(b.t);
    free(b.ids);
    free(b.labels);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "make"))
        return make(argv[2]);
    if (argc == 5 && !strcmp(argv[1], "product"))
        return product(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    if (argc == 9 && !strcmp(argv[1], "step"))
        return steps(argv + 2);
    die("make FOLDER, product M N K, or step FOLDER IDS SEQUENCES LENGTH MICRO THREADS MODE");
}
