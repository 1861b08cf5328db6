#include "model/ft_kv.h"

#include "base/ft_buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, SYSTEM_PAGE = 4096 };

/* --- Layout ------------------------------------------------------------------------ */

typedef struct sum {
    size_t bytes;
    int overflow;
} sum;

/* Adds a * b * c bytes, and returns where they begin. */
static size_t place(sum *s, size_t a, size_t b, size_t c)
{
    const size_t at = s->bytes;
    size_t n = 0;
    s->overflow |=
        ft_size_mul(a, b, &n, NULL) || ft_size_mul(n, c, &n, NULL) || ft_size_add(n, at, &n, NULL) || n > SIZE_MAX / 2;
    s->bytes = (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

ft_code ft_kv_layout(ft_kv *kv, const ft_model_config *c, ft_kv_type type, ft_status *st)
{
    *kv = (ft_kv){.type = type,
                  .element_bytes = ft_kv_bytes(type),
                  .layers = c->layers,
                  .experts = c->experts,
                  .top_k = c->top_k,
                  .kv_heads = c->kv_heads,
                  .head_dim = c->head_dim};
    sum head = {0}, layer = {0}, page = {0};
    (void)place(&head, FT_KV_PAGE, c->head_dim, kv->element_bytes);
    (void)place(&layer, 2, c->kv_heads, head.bytes);
    (void)place(&page, c->layers, layer.bytes, 1);
    kv->head_bytes = head.bytes;
    kv->layer_bytes = layer.bytes;
    kv->ids_at = place(&page, FT_KV_PAGE, sizeof(uint32_t), 1);
    kv->probs_at = place(&page, (size_t)FT_KV_PAGE * sizeof(float), c->layers, c->experts);
    kv->weights_at = place(&page, (size_t)FT_KV_PAGE * sizeof(float), c->layers, c->top_k);
    kv->chosen_at = place(&page, FT_KV_PAGE, c->layers, c->top_k);
    kv->page_bytes = (page.bytes + SYSTEM_PAGE - 1) / SYSTEM_PAGE * SYSTEM_PAGE;
    if (head.overflow || layer.overflow || page.overflow)
        return ft_fail(st, FT_ERR_LIMIT, "key-value cache: a page of %d tokens does not fit in memory", FT_KV_PAGE);
    return FT_OK;
}

/* --- The pool ---------------------------------------------------------------------- */

ft_code ft_kv_open(ft_kv *kv, size_t pages, ft_status *st)
{
    size_t bytes;
    const ft_code rc = pages >= FT_NO_PAGE ? FT_ERR_LIMIT : ft_size_mul(pages, kv->page_bytes, &bytes, NULL);
    if (rc)
        return ft_fail(st, FT_ERR_LIMIT, "key-value cache: %zu pages of %zu bytes are too many", pages, kv->page_bytes);
    kv->refs = ft_alloc_array(pages, sizeof(*kv->refs));
    kv->free = ft_alloc_array(pages, sizeof(*kv->free));
    if (!kv->refs || !kv->free)
        return ft_fail(st, FT_ERR_MEM, "key-value cache: out of memory");
    /* Reserved only: the system gives memory for what is written. */
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return ft_fail(st, FT_ERR_MEM, "key-value cache: no room for %zu bytes: %s; a smaller one may fit", bytes,
                       strerror(errno));
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* attention reads a few kilobytes here and there: fewer page walks */
    kv->memory = p;
    kv->bytes = bytes ? bytes : 1;
    kv->pages = pages;
    return FT_OK;
}

void ft_kv_close(ft_kv *kv)
{
    if (kv->memory)
        (void)munmap(kv->memory, kv->bytes);
    free(kv->refs);
    free(kv->free);
    kv->memory = NULL;
    kv->refs = kv->free = NULL;
}

uint32_t ft_kv_take(ft_kv *kv)
{
    uint32_t page = FT_NO_PAGE;
    if (kv->free_count)
        page = kv->free[--kv->free_count]; /* the latest: it is likelier to be in a processor's cache */
    else if (kv->fresh < kv->pages)
        page = (uint32_t)kv->fresh++;
    if (page == FT_NO_PAGE)
        return page;
    kv->refs[page] = 1;
    kv->used++;
    return page;
}

void ft_kv_hold(ft_kv *kv, uint32_t page)
{
    kv->refs[page]++;
}

void ft_kv_drop(ft_kv *kv, uint32_t page)
{
    if (--kv->refs[page])
        return;
    kv->free[kv->free_count++] = page;
    kv->used--;
}

void ft_kv_copy(ft_kv *kv, uint32_t to, uint32_t from)
{
    memcpy(ft_kv_page(kv, to), ft_kv_page(kv, from), kv->page_bytes);
}
