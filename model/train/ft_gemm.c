#include "model/train/ft_gemm.h"

#include <cblas.h>

enum { SMALLEST_PIECE = 48, LARGEST_PIECE = 512 };

void ft_gemm_init(void)
{
    openblas_set_num_threads(1);
}

typedef struct pieces {
    const ft_gemm *g;
    size_t count;
    int by_columns;
} pieces;

static void piece(void *context, size_t task, unsigned worker)
{
    const pieces *p = context;
    const ft_gemm *g = p->g;
    (void)worker;
    const size_t whole = p->by_columns ? g->n : g->m;
    const size_t from = whole * task / p->count, to = whole * (task + 1) / p->count;
    const size_t m = p->by_columns ? g->m : to - from, n = p->by_columns ? to - from : g->n;
    const float *a = p->by_columns ? g->a : g->a + from * (g->transpose_a ? 1 : g->a_stride);
    const float *b = p->by_columns ? g->b + from * (g->transpose_b ? g->b_stride : 1) : g->b;
    float *out = g->out + from * (p->by_columns ? 1 : g->out_stride);
    cblas_sgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans,
                (blasint)m, (blasint)n, (blasint)g->k, 1, a, (blasint)g->a_stride, b, (blasint)g->b_stride, g->beta,
                out, (blasint)g->out_stride);
}

void ft_gemm_run(ft_pool *pool, const ft_gemm *g)
{
    if (g->m == 0 || g->n == 0)
        return;
    pieces p = {.g = g, .count = 1, .by_columns = g->n > g->m};
    const size_t whole = p.by_columns ? g->n : g->m;
    if (whole >= 2 * SMALLEST_PIECE && g->m * g->n * g->k > 1 << 16)
        p.count = 2 * ((whole + 2 * LARGEST_PIECE - 1) / (2 * LARGEST_PIECE));
    ft_pool_run(pool, p.count, piece, &p);
}

void ft_gemm_linear(ft_pool *pool, float *y, const float *x, const float *w, size_t n, size_t in, size_t out)
{
    const ft_gemm g = {.transpose_b = 1,
                       .m = n,
                       .n = out,
                       .k = in,
                       .a = x,
                       .a_stride = in,
                       .b = w,
                       .b_stride = in,
                       .out = y,
                       .out_stride = out};
    ft_gemm_run(pool, &g);
}
