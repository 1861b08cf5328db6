/* ft_random: xoshiro256** (Blackman and Vigna 2018, public domain), seeded by
 * splitmix64. The stream is a function of the seed alone, on every machine. */
#ifndef FT_RANDOM_H
#define FT_RANDOM_H
#include "base/ft_status.h"

#include <stdint.h>

FT_API_BEGIN

typedef struct ft_random {
    uint64_t s[4];
} ft_random;

void ft_random_init(ft_random *r, uint64_t seed);
uint64_t ft_random_u64(ft_random *r);
double ft_random_unit(ft_random *r);                  /* [0, 1), 53 bits */
uint64_t ft_random_below(ft_random *r, uint64_t end); /* [0, end), unbiased; end > 0 */
/* 64 bits from the system, for seeds that nobody chose. */
uint64_t ft_random_seed(void);

FT_API_END
#endif
