/* ft_prefix: pages of earlier requests, found again by what they hold.
 *
 * An entry is a full page: 64 tokens, after the page of a parent entry (or at the
 * very beginning), read with one set of experts. Two requests share it when all of
 * that is equal: the parent is compared by identity, so by induction every token
 * before is; the tokens are compared themselves. A hash only leads to the
 * candidates, so no collision, made or met, lets one request read another's page.
 *
 * Lifetime  an entry holds its page. When pages run out, the least recently used
 *           entry that no session reads and no other entry follows gives its page up.
 * Threads   under the engine's lock.
 * Source    Kwon et al., "Efficient Memory Management for Large Language Model
 *           Serving with PagedAttention", 2023, section 4.4. */
#ifndef FT_PREFIX_H
#define FT_PREFIX_H
#include "model/ft_kv.h"

/* What is known of a page that is an entry; a page is at most one entry, so they share a number. */
typedef struct ft_prefix_entry {
    uint64_t hash, kept;
    uint32_t parent, children; /* FT_NO_PAGE: the first page of a timeline; entries that follow this one */
    uint32_t next;             /* in its bucket */
    uint32_t newer, older;     /* by use */
    int cached;
} ft_prefix_entry;

typedef struct ft_prefix {
    ft_kv *kv;
    ft_prefix_entry *entries; /* [kv->pages] */
    uint32_t *buckets;
    size_t bucket_mask, count;
    uint32_t newest, oldest;
    uint64_t seed;
} ft_prefix;

FT_CHECKED ft_code ft_prefix_open(ft_prefix *p, ft_kv *kv, ft_status *st);
void ft_prefix_close(ft_prefix *p); /* the pages go with the pool */

/* The page that holds ids[0..64) after `parent` for the experts in `kept`, or FT_NO_PAGE. It counts as used. */
uint32_t ft_prefix_find(ft_prefix *p, uint32_t parent, uint64_t kept, const uint32_t *ids);
/* Makes a full page an entry (its ids are in it) after `parent`, which is an entry
 * or FT_NO_PAGE. Returns the entry's page: another one when it is known already. */
uint32_t ft_prefix_add(ft_prefix *p, uint32_t parent, uint64_t kept, uint32_t page);
/* Gives up one page that nobody else holds; 0 when there is none. */
int ft_prefix_evict(ft_prefix *p);
int ft_prefix_holds(const ft_prefix *p, uint32_t page);
#endif
