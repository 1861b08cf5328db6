/* ft_noise: random numbers that an adversary cannot foretell: ChaCha20 (libsodium) under a
 * secret key, one stream a step. Draws for DP-SGD: a run that goes on with its key draws what it
 * would have drawn.
 *
 * Gaussians are Box-Muller's from 53-bit uniform numbers, in float64: the guarantee is that
 * of real arithmetic; attacks on the low bits of floating-point noise (Mironov 2012) are not
 * excluded, though the sum with a float32 gradient rounds them away. */
#ifndef FT_NOISE_H
#define FT_NOISE_H
#include <stddef.h>
#include <stdint.h>

enum { FT_NOISE_KEY_BYTES = 32 };

typedef struct ft_noise {
    unsigned char key[FT_NOISE_KEY_BYTES];
    uint64_t stream, block;
    unsigned char bytes[512];
    size_t used;
    double spare;
    int has_spare;
} ft_noise;

void ft_noise_make_key(unsigned char key[FT_NOISE_KEY_BYTES]);
void ft_noise_init(ft_noise *n, const unsigned char key[FT_NOISE_KEY_BYTES], uint64_t stream);
double ft_noise_unit(ft_noise *n); /* [0, 1) */
double ft_noise_normal(ft_noise *n);
#endif
