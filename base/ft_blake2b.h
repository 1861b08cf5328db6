/* ft_blake2b: four messages of equal length at once, where the machine has AVX2. Internal to
 * base/; ft_digest.h is what others use. Source: RFC 7693. */
#ifndef FT_BLAKE2B_H
#define FT_BLAKE2B_H
#include "base/ft_digest.h"

#include <stddef.h>

enum { FT_BLAKE2B_LANES = 4 };

/* out[i]: BLAKE2b-256 of the byte `domain` and then data[i][0..n), n >= 127. For processors with AVX2 alone. */
void ft_blake2b_avx2(unsigned char domain, const unsigned char *const data[FT_BLAKE2B_LANES], size_t n,
                     ft_digest out[FT_BLAKE2B_LANES]);
#endif
