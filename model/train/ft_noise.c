#include "model/train/ft_noise.h"

#include <math.h>
#include <sodium.h>
#include <string.h>

_Static_assert(FT_NOISE_KEY_BYTES == crypto_stream_chacha20_KEYBYTES, "a key of ChaCha20");

void ft_noise_make_key(unsigned char key[FT_NOISE_KEY_BYTES])
{
    randombytes_buf(key, FT_NOISE_KEY_BYTES);
}

void ft_noise_init(ft_noise *n, const unsigned char key[FT_NOISE_KEY_BYTES], uint64_t stream)
{
    memset(n, 0, sizeof(*n));
    memcpy(n->key, key, FT_NOISE_KEY_BYTES);
    n->stream = stream;
    n->used = sizeof(n->bytes);
}

static uint64_t next(ft_noise *n)
{
    uint64_t v;
    if (n->used == sizeof(n->bytes)) {
        unsigned char nonce[crypto_stream_chacha20_NONCEBYTES];
        memcpy(nonce, &n->stream, sizeof(nonce));
        memset(n->bytes, 0, sizeof(n->bytes));
        crypto_stream_chacha20_xor_ic(n->bytes, n->bytes, sizeof(n->bytes), nonce, n->block, n->key);
        n->block += sizeof(n->bytes) / 64;
        n->used = 0;
    }
    memcpy(&v, n->bytes + n->used, sizeof(v));
    n->used += sizeof(v);
    return v;
}

double ft_noise_unit(ft_noise *n)
{
    return (double)(next(n) >> 11) * 0x1p-53;
}

double ft_noise_normal(ft_noise *n)
{
    if (n->has_spare) {
        n->has_spare = 0;
        return n->spare;
    }
    const double radius = sqrt(-2 * log(1 - ft_noise_unit(n))), angle = 2 * acos(-1) * ft_noise_unit(n);
    n->spare = radius * sin(angle);
    n->has_spare = 1;
    return radius * cos(angle);
}
