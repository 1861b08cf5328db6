#include "text/ft_case.h"

#include "text/unicode_internal.h"

size_t ft_case_forms(uint32_t code_point, uint32_t out[FT_CASE_FORMS])
{
    const uint32_t least = ft_unicode_fold(code_point);
    size_t n = 0;
    out[n++] = least;
    /* Each run of the table says which characters fold to which: read it backwards. */
    for (size_t i = 0; i < ft_fold_runs_count && n < FT_CASE_FORMS; i++) {
        const ft_case_run *r = &ft_fold_runs[i];
        const int64_t c = (int64_t)least - r->delta;
        if (c >= r->first && c <= r->last && (c - r->first) % r->step == 0)
            out[n++] = (uint32_t)c;
    }
    return n;
}
