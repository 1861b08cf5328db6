#include "model/train/ft_gemm.h"

#include "base/ft_cpu.h"
#include "model/kernels/ft_gemm_tile.h"

#include <pthread.h>
#include <string.h>

/* Rows that are a multiple of ALIAS floats apart fall on the same few places of a cache. */
enum { ALIAS = 512 };

/* A panel of STEPS fits the first-level cache, BLOCK rows of STEPS the second-level one; so do both operands' parts. */
enum { STEPS = 192, EACH = 16, BLOCK = 96, PIECE = 48, MANY = 1024, COLUMNS = 128, SMALL = 1 << 16 };
enum { DEPTH = 12, DEEP = DEPTH * FT_STRETCH };

/* What a product is made of: float32 in vectors, bfloat16, float32 in parts. */
typedef enum form { FLOATS, PAIRS, PARTS, FORMS } form;

typedef struct kernels {
    ft_gemm_tile_fn *tile[FORMS]; /* PARTS: NULL where the processor cannot */
    ft_gemm_pairs_fn *pairs;
    ft_gemm_weave_fn *weave;
    ft_gemm_turn_fn *turn; /* NULL: bfloat16 tiles read a left operand in either order */
    ft_gemm_left_fn *left;
    ft_gemm_right_fn *right;
} kernels;

static kernels chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
    const unsigned isa = ft_cpu_isa();
    kernels *k = &chosen;
    (void)isa;
    *k = (kernels){.tile = {ft_gemm_f32_scalar, ft_gemm_bf16_scalar, NULL},
                   .pairs = ft_gemm_pairs_scalar,
                   .weave = ft_gemm_weave_scalar};
#if defined(__x86_64__)
    if (isa & FT_ISA_AVX2) {
        k->tile[FLOATS] = ft_gemm_f32_avx2;
        k->tile[PAIRS] = ft_gemm_bf16_avx2;
    }
    if (isa & FT_ISA_AVX512) {
        k->tile[FLOATS] = ft_gemm_f32_avx512;
        k->tile[PAIRS] = ft_gemm_bf16_avx512;
    }
    if (isa & FT_ISA_AVX512_DOT) {
        k->tile[PAIRS] = ft_gemm_bf16_avx512dot;
        k->pairs = ft_gemm_pairs_avx512dot;
        k->weave = ft_gemm_weave_avx512dot;
    }
    if (isa & FT_ISA_AMX) {
        k->tile[PAIRS] = ft_gemm_bf16_amx;
        k->tile[PARTS] = ft_gemm_parts_amx;
        k->turn = ft_gemm_turn_amx;
        k->left = ft_gemm_left_amx;
        k->right = ft_gemm_right_amx;
    }
#endif
}

static const kernels *use(void)
{
    pthread_once(&once, choose);
    return &chosen;
}

static form form_of(int bfloat16, int vectors)
{
    return bfloat16 ? PAIRS : use()->tile[PARTS] && !vectors ? PARTS : FLOATS;
}

typedef union room {
    struct {
        _Alignas(64) uint32_t b[STEPS * FT_PANEL], a[STEPS * BLOCK], turned[STEPS * BLOCK];
    } steps;
    struct {
        _Alignas(64) uint32_t b[DEPTH * FT_PARTS], a[DEPTH * FT_PARTS * BLOCK / FT_LEFT_ROWS];
    } parts;
} room;

/* What a kernel counts as steps, of k columns. */
static size_t steps_of(size_t k, form as)
{
    return as == PAIRS ? (k + 1) / 2 : as == PARTS ? (k + FT_STRETCH - 1) / FT_STRETCH : k;
}

/* Units of a panel of k columns. */
static size_t panel_units(size_t k, form as)
{
    return steps_of(k, as) * (as == PARTS ? FT_PARTS : FT_PANEL);
}

/* k is done in equal parts of at most STEPS steps, or DEEP columns, as far as multiples of EACH leave them equal. */
static size_t part_of(size_t k, form as)
{
    const size_t each = as == PARTS ? FT_STRETCH : as == PAIRS ? 2 * EACH : EACH;
    const size_t most = as == PARTS ? DEEP : as == PAIRS ? 2 * STEPS : STEPS, parts = (k + most - 1) / most;
    return parts ? ((k + parts - 1) / parts + each - 1) / each * each : 0;
}

/* --- Packing ------------------------------------------------------------------------- */

/* In pieces of a constant size: most rows here are too short for memcpy to be worth its call. */
static void copy(uint32_t *out, const float *x, size_t n)
{
    enum { AT_ONCE = 16 };
    size_t i = 0;
    for (; i + AT_ONCE <= n; i += AT_ONCE)
        memcpy(out + i, x + i, AT_ONCE * sizeof(*out));
    for (; i < n; i++)
        memcpy(out + i, x + i, sizeof(*out));
}

/* out [steps, stride] of rows x [k, width]; zeros behind the width. */
static void pack_rows(uint32_t *out, size_t stride, const float *x, size_t x_stride, size_t k, size_t width,
                      int bfloat16)
{
    enum { AHEAD = 8, LINE = 16 };
    const kernels *f = use();
    const size_t steps = steps_of(k, bfloat16 ? PAIRS : FLOATS), per = bfloat16 ? 2 : 1;
    for (size_t s = 0; s < steps; s++, out += stride) {
        /* Rows lie far apart: no prefetcher of the processor sees the next one. */
        for (size_t row = s * per; row < (s + 1) * per && row + AHEAD < k; row++)
            for (size_t i = 0; i < width; i += LINE)
                __builtin_prefetch(x + (row + AHEAD) * x_stride + i, 0, 3);
        if (bfloat16)
            f->weave(out, x + 2 * s * x_stride, 2 * s + 1 < k ? x + (2 * s + 1) * x_stride : NULL, width);
        else
            copy(out, x + s * x_stride, width);
        if (width < stride)
            memset(out + width, 0, (stride - width) * sizeof(*out));
    }
}

/* out [steps, FT_PANEL] of x [width, k]; zeros behind the width. Eight columns at a time make a
 * written line of half a cache line. */
static void pack_columns(uint32_t *out, const float *x, size_t x_stride, size_t k, size_t width, int bfloat16)
{
    enum { AT_ONCE = 8 };
    uint32_t rows[AT_ONCE][STEPS];
    const kernels *f = use();
    const size_t steps = steps_of(k, bfloat16 ? PAIRS : FLOATS);
    for (size_t j = 0; j < FT_PANEL; j += AT_ONCE) {
        for (size_t c = 0; c < AT_ONCE; c++)
            if (j + c >= width)
                memset(rows[c], 0, steps * sizeof(**rows));
            else if (bfloat16)
                f->pairs(rows[c], x + (j + c) * x_stride, k);
            else
                memcpy(rows[c], x + (j + c) * x_stride, k * sizeof(**rows));
        for (size_t s = 0; s < steps; s++)
            for (size_t c = 0; c < AT_ONCE; c++)
                out[s * FT_PANEL + j + c] = rows[c][s];
    }
}

static void pack_panel(uint32_t *out, const float *b, size_t stride, int transposed, size_t k, size_t width, form as)
{
    if (as == PARTS)
        use()->right(out, b, stride, transposed, k, width);
    else if (transposed)
        pack_columns(out, b, stride, k, width, as == PAIRS);
    else
        pack_rows(out, FT_PANEL, b, stride, k, width, as == PAIRS);
}

/* The left operand of a tile, [m <= BLOCK, k <= part_of], in place where it can stay there. */
static void set_left(ft_gemm_tile *t, room *r, const float *a, size_t stride, int transposed, size_t k, form as)
{
    uint32_t *own = r->steps.a;
    t->a = own;
    t->a_row = STEPS;
    t->a_step = 1;
    if (as == PARTS) {
        use()->left(r->parts.a, a, stride, transposed, t->m, k);
        t->a = r->parts.a;
        t->a_row = t->steps * FT_PARTS;
    } else if (transposed) {
        pack_rows(own, t->m, a, stride, k, t->m, as == PAIRS);
        t->a_row = 1;
        t->a_step = t->m;
        if (as == PAIRS && use()->turn) {
            use()->turn(r->steps.turned, STEPS, own, t->m, t->steps, t->m);
            t->a = r->steps.turned;
            t->a_row = STEPS;
            t->a_step = 1;
        }
    } else if (as == PAIRS) {
        for (size_t i = 0; i < t->m; i++)
            use()->pairs(own + i * STEPS, a + i * stride, k);
    } else if (stride % ALIAS == 0) {
        for (size_t i = 0; i < t->m; i++)
            copy(own + i * STEPS, a + i * stride, k);
    } else {
        t->a = (const uint32_t *)a;
        t->a_row = stride;
    }
}

/* --- Products that pack as they go -------------------------------------------------------- */

static form form_of_product(const ft_gemm *g)
{
    return form_of(g->bfloat16, 0);
}

/* Whether b's rows can be read where they stand. */
static int stands(const ft_gemm *g)
{
    return !g->transpose_b && form_of_product(g) == FLOATS && g->b_stride % (2 * ALIAS) != 0;
}

/* Columns j … end - 1 of tile t, whose left operand is set, from row i on: k columns of it, from `from` on. */
static void across(const ft_gemm *g, ft_gemm_tile *t, size_t i, size_t j, size_t end, size_t from, size_t k, room *r)
{
    const form as = form_of_product(g);
    t->out = g->out + i * g->out_stride + j;
    t->b_step = FT_PANEL;
    if (g->packed) {
        t->n = end - j;
        t->b_panel = panel_units(g->k, as);
        t->b = g->packed->units + j / FT_PANEL * t->b_panel + panel_units(from, as);
        use()->tile[as](t);
        return;
    }
    const size_t whole = stands(g) ? (end - j) / FT_PANEL * FT_PANEL : 0;
    if (whole) {
        t->n = whole;
        t->b = (const uint32_t *)(g->b + from * g->b_stride + j);
        t->b_panel = FT_PANEL;
        t->b_step = g->b_stride;
        use()->tile[as](t);
    }
    uint32_t *own = as == PARTS ? r->parts.b : r->steps.b;
    t->b = own;
    t->b_step = FT_PANEL;
    for (size_t c = j + whole; c < end; c += FT_PANEL) {
        const float *b = g->b + (g->transpose_b ? c * g->b_stride + from : from * g->b_stride + c);
        t->n = end - c < FT_PANEL ? end - c : FT_PANEL;
        pack_panel(own, b, g->b_stride, g->transpose_b, k, t->n, as);
        t->out = g->out + i * g->out_stride + c;
        use()->tile[as](t);
    }
}

/* Rows i … i + m - 1 (m <= BLOCK), columns j … end - 1. */
static void block(const ft_gemm *g, size_t i, size_t m, size_t j, size_t end, room *r)
{
    const form as = form_of_product(g);
    const size_t part = part_of(g->k, as);
    for (size_t k = 0; k < g->k; k += part) {
        const size_t left = g->k - k < part ? g->k - k : part;
        ft_gemm_tile t = {.m = m, .steps = steps_of(left, as), .out_stride = g->out_stride};
        t.add = g->add || k;
        set_left(&t, r, g->a + (g->transpose_a ? k * g->a_stride + i : i * g->a_stride + k), g->a_stride,
                 g->transpose_a, left, as);
        across(g, &t, i, j, end, k, left, r);
    }
    for (size_t row = i; !g->add && !g->k && row < i + m; row++)
        memset(g->out + row * g->out_stride + j, 0, (end - j) * sizeof(*g->out));
}

/* Pieces of a product: of rows, and of columns where rows are few. */
typedef struct cut {
    size_t rows, columns, across, count;
} cut;

static cut cut_of(const ft_gemm *g)
{
    cut c = {
        .rows = g->m >= MANY || form_of_product(g) != FLOATS ? BLOCK : PIECE, .columns = g->n, .across = 1, .count = 1};
    if (g->m == 0 || g->n == 0)
        return (cut){.rows = 1, .columns = 1, .across = 1};
    if (g->m * g->n * g->k <= SMALL)
        c.rows = g->m;
    else if (g->m <= 2 * c.rows && g->n > COLUMNS)
        c.columns = COLUMNS;
    c.across = (g->n + c.columns - 1) / c.columns;
    c.count = c.across * ((g->m + c.rows - 1) / c.rows);
    return c;
}

typedef struct job {
    const ft_gemm *list;
    size_t begin[FT_GEMM_MOST + 1]; /* first piece of each product */
    size_t count;
} job;

static void piece(void *context, size_t task, unsigned worker)
{
    const job *j = context;
    size_t low = 0, high = j->count;
    room r;
    (void)worker;
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        *(j->begin[middle] <= task ? &low : &high) = middle;
    }
    const ft_gemm *g = j->list + low;
    const cut c = cut_of(g);
    const size_t at = task - j->begin[low], first = at / c.across * c.rows, column = at % c.across * c.columns;
    const size_t last = first + c.rows < g->m ? first + c.rows : g->m;
    const size_t end = column + c.columns < g->n ? column + c.columns : g->n;
    for (size_t i = first; i < last; i += BLOCK)
        block(g, i, last - i < BLOCK ? last - i : BLOCK, column, end, &r);
}

void ft_gemm_run_all(ft_pool *pool, const ft_gemm *list, size_t count)
{
    for (size_t from = 0; from < count; from += FT_GEMM_MOST) {
        job j = {.list = list + from, .count = count - from < FT_GEMM_MOST ? count - from : FT_GEMM_MOST};
        for (size_t i = 0; i < j.count; i++)
            j.begin[i + 1] = j.begin[i] + cut_of(j.list + i).count;
        ft_pool_run(pool, j.begin[j.count], piece, &j);
    }
}

void ft_gemm_run(ft_pool *pool, const ft_gemm *g)
{
    ft_gemm_run_all(pool, g, 1);
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

/* --- Products with an operand that is packed ------------------------------------------------- */

size_t ft_packed_panels(size_t n)
{
    return (n + FT_PANEL - 1) / FT_PANEL;
}

static form form_of_packed(const ft_packed *p)
{
    return form_of(p->bfloat16, p->vectors);
}

int ft_gemm_repacks(int bfloat16)
{
    return form_of(bfloat16, 0) != FLOATS;
}

size_t ft_packed_units(size_t k, size_t n, int bfloat16)
{
    return ft_packed_panels(n) * panel_units(k, form_of(bfloat16, 0));
}

void ft_packed_fill(const ft_packed *p, size_t panel, const float *b, size_t stride, int transposed)
{
    const form as = form_of_packed(p);
    const size_t part = part_of(p->k, as), c = panel * FT_PANEL, width = p->n - c < FT_PANEL ? p->n - c : FT_PANEL;
    uint32_t *out = p->units + panel * panel_units(p->k, as);
    for (size_t k = 0; k < p->k; k += part) {
        const size_t left = p->k - k < part ? p->k - k : part;
        pack_panel(out + panel_units(k, as), b + (transposed ? c * stride + k : k * stride + c), stride, transposed,
                   left, width, as);
    }
}

void ft_packed_multiply_all(const ft_packed_product *list, size_t count, const float *a, size_t a_stride, size_t m)
{
    const ft_packed *p = list->p;
    const form as = form_of_packed(p);
    const size_t part = part_of(p->k, as);
    room r;
    for (size_t i = 0; i < m; i += BLOCK)
        for (size_t k = 0; k < p->k; k += part) {
            const size_t left = p->k - k < part ? p->k - k : part;
            ft_gemm_tile t = {.m = m - i < BLOCK ? m - i : BLOCK, .steps = steps_of(left, as), .b_step = FT_PANEL};
            set_left(&t, &r, a + i * a_stride + k, a_stride, 0, left, as);
            t.b_panel = panel_units(p->k, as);
            for (size_t n = 0; n < count; n++) {
                t.n = list[n].p->n;
                t.b = list[n].p->units + panel_units(k, as);
                t.out = list[n].out + i * list[n].out_stride;
                t.out_stride = list[n].out_stride;
                t.add = list[n].add || k;
                use()->tile[as](&t);
            }
        }
}

void ft_packed_multiply(const ft_packed *p, const float *a, size_t a_stride, size_t m, float *out, size_t out_stride,
                        int add)
{
    ft_packed_multiply_all(&(ft_packed_product){p, out, out_stride, add}, 1, a, a_stride, m);
}

void ft_packed_part(const ft_packed *p, size_t first, size_t count, size_t column, size_t columns, const float *a,
                    size_t a_stride, int transpose_a, size_t m, float *out, size_t out_stride, int add)
{
    const form as = form_of_packed(p);
    const size_t part = part_of(count, as), across = transpose_a ? 1 : a_stride, along = transpose_a ? a_stride : 1;
    /* Floats are read where they are, all rows at once; else BLOCK of them are packed. */
    const size_t most = as == FLOATS ? m : BLOCK;
    room r;
    for (size_t i = 0; i < m; i += most)
        for (size_t k = 0; k < count; k += part) {
            const size_t left = count - k < part ? count - k : part;
            const float *from = a + i * across + k * along;
            ft_gemm_tile t = {.a = (const uint32_t *)from,
                              .a_row = across,
                              .a_step = along,
                              .b_panel = panel_units(p->k, as),
                              .b_step = FT_PANEL,
                              .m = m - i < most ? m - i : most,
                              .n = columns,
                              .steps = steps_of(left, as),
                              .out = out + i * out_stride,
                              .out_stride = out_stride,
                              .add = add || k};
            t.b = p->units + column / FT_PANEL * t.b_panel + panel_units(first + k, as);
            if (as != FLOATS)
                set_left(&t, &r, from, a_stride, transpose_a, left, as);
            use()->tile[as](&t);
        }
}
