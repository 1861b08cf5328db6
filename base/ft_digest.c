#include "base/ft_digest.h"

#include "base/ft_blake2b.h"
#include "base/ft_cpu.h"
#include "base/ft_file.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

ft_digest ft_digest_of(const void *bytes, size_t n)
{
    ft_digest d;
    crypto_hash_sha256(d.bytes, bytes, n);
    return d;
}

ft_code ft_digest_of_file(ft_digest *out, const char *path, ft_status *st)
{
    ft_map map;
    ft_code rc = ft_map_open(&map, path, st);
    if (rc)
        return rc;
    *out = ft_digest_of(map.data, (size_t)map.bytes);
    ft_map_close(&map);
    return FT_OK;
}

static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(ft_hasher), "room for libsodium's state");

/* libsodium's state is copied in and out: its type stays out of our header. */
void ft_hasher_init(ft_hasher *h)
{
    crypto_hash_sha256_state s;
    crypto_hash_sha256_init(&s);
    memcpy(h, &s, sizeof(s));
}

void ft_hasher_add(ft_hasher *h, const void *bytes, size_t n)
{
    crypto_hash_sha256_state s;
    memcpy(&s, h, sizeof(s));
    crypto_hash_sha256_update(&s, bytes, n);
    memcpy(h, &s, sizeof(s));
}

ft_digest ft_hasher_end(ft_hasher *h)
{
    crypto_hash_sha256_state s;
    ft_digest d;
    memcpy(&s, h, sizeof(s));
    crypto_hash_sha256_final(&s, d.bytes);
    return d;
}

void ft_digest_hex(const ft_digest *d, char hex[FT_DIGEST_HEX])
{
    sodium_bin2hex(hex, FT_DIGEST_HEX, d->bytes, sizeof(d->bytes));
}

ft_code ft_digest_parse(ft_digest *out, const char *hex, ft_status *st)
{
    size_t n = 0;
    if (strlen(hex) != FT_DIGEST_HEX - 1 ||
        sodium_hex2bin(out->bytes, sizeof(out->bytes), hex, FT_DIGEST_HEX - 1, NULL, &n, NULL) != 0 ||
        n != sizeof(out->bytes))
        return ft_fail(st, FT_ERR_FORMAT, "'%.80s' is not a SHA-256 digest in hexadecimal", hex);
    return FT_OK;
}

/* H(domain | a | b) */
static ft_digest hash_parts(ft_merkle_hash hash, unsigned char domain, const void *a, size_t a_bytes, const void *b,
                            size_t b_bytes)
{
    ft_digest d;
    if (hash == FT_MERKLE_SHA256) {
        crypto_hash_sha256_state h;
        crypto_hash_sha256_init(&h);
        crypto_hash_sha256_update(&h, &domain, 1);
        crypto_hash_sha256_update(&h, a, a_bytes);
        crypto_hash_sha256_update(&h, b, b_bytes);
        crypto_hash_sha256_final(&h, d.bytes);
    } else {
        crypto_generichash_state h;
        crypto_generichash_init(&h, NULL, 0, sizeof(d.bytes));
        crypto_generichash_update(&h, &domain, 1);
        crypto_generichash_update(&h, a, a_bytes);
        crypto_generichash_update(&h, b, b_bytes);
        crypto_generichash_final(&h, d.bytes, sizeof(d.bytes));
    }
    return d;
}

ft_digest ft_merkle_leaf(ft_merkle_hash hash, const void *bytes, size_t n)
{
    return hash_parts(hash, 0, bytes, n, "", 0);
}

void ft_merkle_leaves(ft_merkle_hash hash, const void *bytes, size_t n, size_t count, ft_digest *out)
{
    const unsigned char *from = bytes;
    size_t i = 0;
#if defined(__x86_64__)
    if (hash == FT_MERKLE_BLAKE2B && n >= 127 && (ft_cpu_isa() & FT_ISA_AVX2))
        for (; i + FT_BLAKE2B_LANES <= count; i += FT_BLAKE2B_LANES) {
            const unsigned char *at = from + i * n;
            const unsigned char *const lanes[FT_BLAKE2B_LANES] = {at, at + n, at + 2 * n, at + 3 * n};
            ft_blake2b_avx2(0, lanes, n, out + i);
        }
#endif
    for (; i < count; i++)
        out[i] = ft_merkle_leaf(hash, from + i * n, n);
}

static ft_digest hash_of_nothing(ft_merkle_hash hash)
{
    ft_digest d;
    if (hash == FT_MERKLE_SHA256)
        return ft_digest_of("", 0);
    crypto_generichash(d.bytes, sizeof(d.bytes), NULL, 0, NULL, 0);
    return d;
}

ft_digest ft_merkle_root(ft_merkle_hash hash, const ft_digest *leaves, size_t count)
{
    if (count == 0)
        return hash_of_nothing(hash);
    if (count == 1)
        return leaves[0];
    size_t left = 1; /* the largest power of two below count */
    while (left * 2 < count)
        left *= 2;
    const ft_digest l = ft_merkle_root(hash, leaves, left), r = ft_merkle_root(hash, leaves + left, count - left);
    return hash_parts(hash, 1, l.bytes, sizeof(l.bytes), r.bytes, sizeof(r.bytes));
}
