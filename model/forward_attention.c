/* Attention of a pass over paged keys and values. */
#include "model/engine_internal.h"

#include <math.h>
#include <string.h>

void ft_pass_place(ft_pass *p, size_t t)
{
    const ft_engine *e = p->e;
    const ft_scratch *z = &e->scratch;
    const ft_model_config *c = &e->model->config;
    const ft_layer *l = &e->model->layers[p->layer];
    const ft_token *token = &z->tokens[t];
    const size_t D = c->head_dim, half = D / 2, width = c->heads * D, kv = c->kv_heads * D;
    const size_t at = token->position % FT_KV_PAGE, bytes = e->kv.element_bytes;
    float *q = z->q + t * width, *k = z->k + t * kv;
    const float *v = z->v + t * kv;
    e->kernels.rms_norm(q, q, l->q_norm, width, c->rms_norm_eps);
    e->kernels.rms_norm(k, k, l->k_norm, kv, c->rms_norm_eps);
    e->kernels.rotate(q, c->heads, z->cos + t * half, z->sin + t * half, half);
    e->kernels.rotate(k, c->kv_heads, z->cos + t * half, z->sin + t * half, half);
    for (size_t h = 0; h < c->kv_heads; h++) {
        char *keys = ft_kv_head(&e->kv, token->page, p->layer, h, 0),
             *values = ft_kv_head(&e->kv, token->page, p->layer, h, 1);
        e->kernels.narrow[e->kv.type](keys + at * bytes, FT_KV_PAGE, k + h * D, D);
        e->kernels.narrow[e->kv.type](values + at * D * bytes, 1, v + h * D, D);
    }
}

/* The queries of one tile of tokens that read one kv head: rows [token, head of the group]. */
typedef struct tile {
    const ft_engine *e;
    const ft_session *session;
    size_t layer, head, group, rows; /* rows: tokens * group */
    size_t positions, first;         /* that the last token sees, its own included; that the first one sees */
    float *scores, *queries, *mixed; /* [rows, score_stride], [rows, D], [rows, D] */
    uint32_t *depths;                /* [rows] */
} tile;

static size_t positions_of(const tile *i, size_t row)
{
    return i->first + row / i->group; /* tokens of a tile follow one another */
}

/* One page's part of either product. Rows see the positions up to their token's own. */
static void page_product(const tile *i, size_t number, int values)
{
    const ft_engine *e = i->e;
    const size_t D = e->model->config.head_dim, first = number * FT_KV_PAGE, left = i->positions - first;
    const size_t n = left < FT_KV_PAGE ? left : FT_KV_PAGE, stride = e->scratch.score_stride;
    for (size_t r = 0; r < i->rows && values; r++) {
        const size_t sees = positions_of(i, r);
        i->depths[r] = (uint32_t)(sees <= first ? 0 : sees - first < n ? sees - first : n);
    }
    const uint32_t *pages = i->session->pages;
    const void *page = ft_kv_head(&e->kv, pages[number], i->layer, i->head, values);
    const int more = left > FT_KV_PAGE; /* after the last page's keys come the first one's values */
    const void *next = more      ? ft_kv_head(&e->kv, pages[number + 1], i->layer, i->head, values)
                       : !values ? ft_kv_head(&e->kv, pages[0], i->layer, i->head, 1)
                                 : NULL;
    const ft_page_product scores = {.page = page,
                                    .next = next,
                                    .page_stride = FT_KV_PAGE,
                                    .depth = D,
                                    .cols = n,
                                    .a = i->queries,
                                    .a_stride = D,
                                    .rows = i->rows,
                                    .out = i->scores + first,
                                    .out_stride = stride},
                          mix = {.page = page,
                                 .next = next,
                                 .page_stride = D,
                                 .depth = n,
                                 .cols = D,
                                 .a = i->scores + first,
                                 .a_stride = stride,
                                 .rows = i->rows,
                                 .depths = i->depths,
                                 .add = number > 0,
                                 .out = i->mixed,
                                 .out_stride = D};
    e->kernels.page[e->kv.type](values ? &mix : &scores);
}

/* All pages' part of either product, and what is between them: one page after the other, or by the family's own way. */
static void page_by_page(const tile *i, size_t pages, float scale)
{
    const ft_engine *e = i->e;
    for (size_t n = 0; n < pages; n++)
        page_product(i, n, 0);
    for (size_t r = 0; r < i->rows; r++)
        e->kernels.softmax(i->scores + r * e->scratch.score_stride, positions_of(i, r), scale);
    for (size_t n = 0; n < pages; n++)
        page_product(i, n, 1);
}

static void all_pages(const tile *i, float scale)
{
    const ft_engine *e = i->e;
    const size_t D = e->model->config.head_dim, stride = e->scratch.score_stride;
    ft_pages_product p = {.memory = ft_kv_head(&e->kv, 0, i->layer, i->head, 0),
                          .page_bytes = e->kv.page_bytes,
                          .numbers = i->session->pages,
                          .then = ft_kv_head(&e->kv, i->session->pages[0], i->layer, i->head, 1),
                          .positions = i->positions,
                          .dim = D,
                          .seen = i->depths,
                          .a = i->queries,
                          .a_stride = D,
                          .rows = i->rows,
                          .out = i->scores,
                          .out_stride = stride};
    for (size_t r = 0; r < i->rows; r++)
        i->depths[r] = (uint32_t)positions_of(i, r);
    e->kernels.scores[e->kv.type](&p);
    for (size_t r = 0; r < i->rows; r++)
        e->kernels.softmax(i->scores + r * stride, i->depths[r], scale);
    p.memory = ft_kv_head(&e->kv, 0, i->layer, i->head, 1);
    p.then = NULL;
    p.a = i->scores;
    p.a_stride = stride;
    p.out = i->mixed;
    p.out_stride = D;
    e->kernels.mix[e->kv.type](&p);
}

static void attend(ft_pass *p, const ft_tile *tokens, size_t head, unsigned member)
{
    const ft_engine *e = p->e;
    const ft_scratch *z = &e->scratch;
    const ft_model_config *c = &e->model->config;
    const size_t group = c->heads / c->kv_heads, D = c->head_dim, span = group * D;
    const ft_token *last = &z->tokens[tokens->first + tokens->count - 1];
    tile i = {.e = e,
              .session = last->session,
              .layer = p->layer,
              .head = head,
              .group = group,
              .rows = tokens->count * group,
              .positions = (size_t)last->position + 1,
              .first = (size_t)z->tokens[tokens->first].position + 1,
              .scores = z->scores + member * z->score_rows * z->score_stride,
              .queries = z->heads + 2 * member * z->score_rows * D,
              .depths = z->depths + member * z->score_rows};
    i.mixed = i.queries + z->score_rows * D;
    for (size_t t = 0; t < tokens->count; t++) /* the heads of a group lie side by side in q */
        memcpy(i.queries + t * span, z->q + ((tokens->first + t) * c->heads + head * group) * D, span * sizeof(float));
    const float scale = (float)(1.0 / sqrt((double)D));
    if (e->kernels.mix[e->kv.type] && D <= FT_PAGES_DIM)
        all_pages(&i, scale);
    else
        page_by_page(&i, (i.positions + FT_KV_PAGE - 1) / FT_KV_PAGE, scale);
    for (size_t t = 0; t < tokens->count; t++)
        memcpy(z->attention + ((tokens->first + t) * c->heads + head * group) * D, i.mixed + t * span,
               span * sizeof(float));
}

/* Tiles differ in how much they have to read: threads take them one at a time. Those of a prompt take turns at each
 * head, whose pages stay in the cache meanwhile; where each token has its own pages these are read as they lie. */
void ft_pass_attend(ft_pass *p, unsigned member)
{
    const size_t heads = p->e->model->config.kv_heads, tasks = p->tiles * heads;
    size_t task, end;
    while (ft_pass_take(p, tasks, 1, &task, &end))
        if (p->tiles < p->tokens)
            attend(p, &p->e->scratch.tiles[task % p->tiles], task / p->tiles, member);
        else
            attend(p, &p->e->scratch.tiles[task / heads], task % heads, member);
}
