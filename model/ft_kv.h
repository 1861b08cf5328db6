/* ft_kv: the pages that hold what sessions have read: keys and values of every
 * layer, and the routing that came with them.
 *
 * A page holds FT_KV_PAGE positions. It is one block of memory:
 *
 *   [layer][kv head]: keys [D][64], values [64][D]   in the cache's type (kernels/ft_page.h)
 *   ids [64] u32                            the tokens that were read
 *   probs [64][L][E] f32, weights [64][L][k] f32, chosen [64][L][k] u8
 *
 * so that attention reads 64 positions of one head in one go, and a page that is
 * found in the prefix cache brings the routing of its tokens along. k is the
 * config's; a session with fewer experts uses the front of each row.
 *
 * Memory   reserved when the pool opens, taken from the system as pages are first
 *          written.
 * Threads  the engine's lock guards counts and lists; a page's contents belong to
 *          the one session that fills it, and never change once they are shared. */
#ifndef FT_KV_H
#define FT_KV_H
#include "model/ft_engine.h"
#include "model/kernels/ft_page.h"

#define FT_NO_PAGE UINT32_MAX

typedef struct ft_kv {
    char *memory;
    size_t page_bytes, pages;
    size_t bytes;                   /* of `memory` */
    uint32_t *refs;                 /* [pages] sessions and prefix entries that hold a page; 0: free */
    uint32_t *free;                 /* [pages] a stack of pages that were used before */
    size_t free_count, fresh, used; /* fresh: pages from here on were never used */
    /* The inside of a page. */
    ft_kv_type type;
    size_t element_bytes, head_bytes, layer_bytes;
    size_t ids_at, probs_at, weights_at, chosen_at;
    size_t layers, experts, top_k, kv_heads, head_dim;
} ft_kv;

/* Bytes of one page, for a model's config. FT_ERR_LIMIT when they do not fit in size_t. */
FT_CHECKED ft_code ft_kv_layout(ft_kv *kv, const ft_model_config *c, ft_kv_type type, ft_status *st);
/* Reserves `pages` pages; kv has its layout. FT_ERR_MEM when the system refuses. */
FT_CHECKED ft_code ft_kv_open(ft_kv *kv, size_t pages, ft_status *st);
void ft_kv_close(ft_kv *kv);

/* A page with one reference, or FT_NO_PAGE. */
uint32_t ft_kv_take(ft_kv *kv);
void ft_kv_hold(ft_kv *kv, uint32_t page);
void ft_kv_drop(ft_kv *kv, uint32_t page);
void ft_kv_copy(ft_kv *kv, uint32_t to, uint32_t from);

static inline char *ft_kv_page(const ft_kv *kv, uint32_t page)
{
    return kv->memory + (size_t)page * kv->page_bytes;
}

/* Keys [D][64] (values 0) or values [64][D] (1) of one layer and head. */
static inline char *ft_kv_head(const ft_kv *kv, uint32_t page, size_t layer, size_t head, int values)
{
    return ft_kv_page(kv, page) + layer * kv->layer_bytes + (2 * head + (size_t)values) * kv->head_bytes;
}

static inline uint32_t *ft_kv_ids(const ft_kv *kv, uint32_t page)
{
    return (uint32_t *)(void *)(ft_kv_page(kv, page) + kv->ids_at);
}

/* Rows of position `at` (0 … 63) of the page: [L][E], [L][k], [L][k]. */
static inline float *ft_kv_probs(const ft_kv *kv, uint32_t page, size_t at)
{
    return (float *)(void *)(ft_kv_page(kv, page) + kv->probs_at) + at * kv->layers * kv->experts;
}

static inline float *ft_kv_weights(const ft_kv *kv, uint32_t page, size_t at)
{
    return (float *)(void *)(ft_kv_page(kv, page) + kv->weights_at) + at * kv->layers * kv->top_k;
}

static inline uint8_t *ft_kv_chosen(const ft_kv *kv, uint32_t page, size_t at)
{
    return (uint8_t *)(ft_kv_page(kv, page) + kv->chosen_at) + at * kv->layers * kv->top_k;
}
#endif
