#include "model/ft_prefix.h"

#include "base/ft_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u; /* the odd constant of splitmix64, and its shifts */
    h ^= h >> 32;
    h *= 0xbf58476d1ce4e5b9u;
    return h ^ h >> 29;
}

static uint64_t hash_of(const ft_prefix *p, uint32_t parent, uint64_t kept, const uint32_t *ids)
{
    uint64_t h = mix(mix(p->seed, parent), kept);
    for (size_t i = 0; i < FT_KV_PAGE; i += 2)
        h = mix(h, (uint64_t)ids[i] << 32 | ids[i + 1]);
    return h;
}

ft_code ft_prefix_open(ft_prefix *p, ft_kv *kv, ft_status *st)
{
    *p = (ft_prefix){.kv = kv, .newest = FT_NO_PAGE, .oldest = FT_NO_PAGE};
    size_t buckets = 64;
    while (buckets < kv->pages)
        buckets *= 2;
    p->entries = ft_alloc_array(kv->pages, sizeof(*p->entries));
    p->buckets = ft_alloc_array(buckets, sizeof(*p->buckets));
    if (!p->entries || !p->buckets)
        return ft_fail(st, FT_ERR_MEM, "prefix cache: out of memory");
    memset(p->buckets, 0xff, buckets * sizeof(*p->buckets)); /* FT_NO_PAGE */
    p->bucket_mask = buckets - 1;
    /* Nobody can prepare tokens that meet in one bucket without knowing where we are. */
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    p->seed = mix((uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec, (uint64_t)(uintptr_t)kv->memory);
    return FT_OK;
}

void ft_prefix_close(ft_prefix *p)
{
    free(p->entries);
    free(p->buckets);
    p->entries = NULL;
    p->buckets = NULL;
}

/* --- The order of use ----------------------------------------------------------------- */

static void leave_order(ft_prefix *p, uint32_t page)
{
    const ft_prefix_entry *e = &p->entries[page];
    *(e->newer == FT_NO_PAGE ? &p->newest : &p->entries[e->newer].older) = e->older;
    *(e->older == FT_NO_PAGE ? &p->oldest : &p->entries[e->older].newer) = e->newer;
}

static void enter_order(ft_prefix *p, uint32_t page)
{
    ft_prefix_entry *e = &p->entries[page];
    e->newer = FT_NO_PAGE;
    e->older = p->newest;
    *(p->newest == FT_NO_PAGE ? &p->oldest : &p->entries[p->newest].newer) = page;
    p->newest = page;
}

/* --- Entries ---------------------------------------------------------------------------- */

static uint32_t look_up(const ft_prefix *p, uint64_t hash, uint32_t parent, uint64_t kept, const uint32_t *ids)
{
    for (uint32_t at = p->buckets[hash & p->bucket_mask]; at != FT_NO_PAGE; at = p->entries[at].next) {
        const ft_prefix_entry *e = &p->entries[at];
        if (e->hash == hash && e->parent == parent && e->kept == kept &&
            !memcmp(ft_kv_ids(p->kv, at), ids, FT_KV_PAGE * sizeof(*ids)))
            return at;
    }
    return FT_NO_PAGE;
}

uint32_t ft_prefix_find(ft_prefix *p, uint32_t parent, uint64_t kept, const uint32_t *ids)
{
    const uint32_t page = look_up(p, hash_of(p, parent, kept, ids), parent, kept, ids);
    if (page != FT_NO_PAGE) {
        leave_order(p, page);
        enter_order(p, page);
    }
    return page;
}

uint32_t ft_prefix_add(ft_prefix *p, uint32_t parent, uint64_t kept, uint32_t page)
{
    const uint32_t *ids = ft_kv_ids(p->kv, page);
    const uint64_t hash = hash_of(p, parent, kept, ids);
    const uint32_t known = look_up(p, hash, parent, kept, ids);
    if (known != FT_NO_PAGE)
        return known;
    uint32_t *bucket = &p->buckets[hash & p->bucket_mask];
    p->entries[page] = (ft_prefix_entry){.hash = hash, .kept = kept, .parent = parent, .next = *bucket, .cached = 1};
    *bucket = page;
    enter_order(p, page);
    ft_kv_hold(p->kv, page);
    if (parent != FT_NO_PAGE)
        p->entries[parent].children++;
    p->count++;
    return page;
}

int ft_prefix_evict(ft_prefix *p)
{
    uint32_t page = p->oldest;
    while (page != FT_NO_PAGE && (p->entries[page].children || p->kv->refs[page] > 1))
        page = p->entries[page].newer;
    if (page == FT_NO_PAGE)
        return 0;
    ft_prefix_entry *e = &p->entries[page];
    uint32_t *link = &p->buckets[e->hash & p->bucket_mask];
    while (*link != page)
        link = &p->entries[*link].next;
    *link = e->next;
    leave_order(p, page);
    if (e->parent != FT_NO_PAGE)
        p->entries[e->parent].children--;
    e->cached = 0;
    p->count--;
    ft_kv_drop(p->kv, page);
    return 1;
}

int ft_prefix_holds(const ft_prefix *p, uint32_t page)
{
    return p->entries[page].cached;
}
