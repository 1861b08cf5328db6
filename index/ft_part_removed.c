/* Numbers that are left when some are taken out. */
#include "index/ft_part.h"

uint64_t ft_numbers_below(const ft_numbers *v, uint64_t number)
{
    uint64_t lo = 0, hi = v->count;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (ft_packed_get(v->packed, v->bits, mid) < number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < number ? lo : number; /* more are below it only in a damaged list */
}

/* Before the i-th of the list stand list[i] - i others, a number that never falls. */
uint64_t ft_numbers_select(const ft_numbers *v, uint64_t live)
{
    uint64_t lo = 0, hi = v->count;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (ft_packed_get(v->packed, v->bits, mid) <= live + mid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return live + lo;
}

int ft_part_document_is_removed(const ft_part *p, uint64_t i)
{
    const ft_numbers *v = &p->removed_documents;
    if (!v->count)
        return 0;
    const uint64_t at = ft_numbers_below(v, i);
    return at < v->count && ft_packed_get(v->packed, v->bits, at) == i;
}
