#include "index/ft_parting.h"

#include "base/ft_cpu.h"

#include <assert.h>
#include <string.h>

enum { AHEAD = 32 };

void ft_partings_scalar(const ft_partings *p, const ft_codes *text, uint64_t base, const int32_t *order, size_t n,
                        size_t ahead, ft_merge_item *out)
{
    (void)p;
    uint64_t before = base + (uint64_t)order[-1];
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n + ahead)
            ft_parting_prefetch(text, base + (uint64_t)order[i + AHEAD]);
        const uint64_t here = base + (uint64_t)order[i];
        out[i] = ft_parting(text, before, here, 0);
        before = here;
    }
}

void ft_partings_init(ft_partings *p, unsigned bits, unsigned isa)
{
    assert(bits >= 1 && bits <= 24);
    memset(p, 0, sizeof(*p));
    p->bits = bits;
    p->describe = ft_partings_scalar;
#if defined(__x86_64__)
    if (isa & FT_ISA_AVX2)
        p->describe = ft_partings_avx2;
#else
    (void)isa;
#endif
    for (unsigned g = 0; g < 4; g++)
        p->group[g] = 4 * g * bits / 8;
    for (unsigned first = 0; first < 8; first++)
        for (unsigned i = 0; i < FT_PARTINGS_AT_ONCE; i++) {
            const unsigned bit = first + i * bits - 8 * p->group[i / 4]; /* at most 7 + 7 + 3 * 24 */
            for (unsigned k = 0; k < 4; k++)
                p->bytes[first][4 * i + k] = (unsigned char)(bit / 8 + k);
            p->shift[first][i] = bit % 8;
        }
}
