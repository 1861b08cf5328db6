#include "base/ft_random.h"

#include <sodium.h>

static uint64_t rotate_left(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

void ft_random_init(ft_random *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { /* splitmix64 */
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        r->s[i] = z ^ z >> 31;
    }
}

uint64_t ft_random_u64(ft_random *r)
{
    uint64_t *s = r->s;
    const uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double ft_random_unit(ft_random *r)
{
    return (double)(ft_random_u64(r) >> 11) * 0x1p-53;
}

uint64_t ft_random_below(ft_random *r, uint64_t end)
{
    const uint64_t uneven = -end % end; /* 2^64 mod end: these first values would be drawn too often */
    for (;;) {
        const uint64_t x = ft_random_u64(r);
        if (x >= uneven)
            return x % end;
    }
}

uint64_t ft_random_seed(void)
{
    uint64_t seed;
    randombytes_buf(&seed, sizeof(seed));
    return seed;
}
