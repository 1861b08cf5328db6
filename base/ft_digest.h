/* ft_digest: SHA-256 (FIPS 180-4) by libsodium, for what a receipt names.
 * Checksums against accidents use XXH3 (xxhash.h) directly. */
#ifndef FT_DIGEST_H
#define FT_DIGEST_H
#include "base/ft_status.h"

#include <stddef.h>
#include <stdint.h>

FT_API_BEGIN

enum { FT_DIGEST_BYTES = 32, FT_DIGEST_HEX = 65 /* with the terminator */ };

typedef struct ft_digest {
    unsigned char bytes[FT_DIGEST_BYTES];
} ft_digest;

ft_digest ft_digest_of(const void *bytes, size_t n);
FT_CHECKED ft_code ft_digest_of_file(ft_digest *out, const char *path, ft_status *st);
/* Of bytes that come piece by piece: init, add…, end. A plain value without an owner. */
typedef struct ft_hasher {
    uint64_t state[16];
} ft_hasher;
void ft_hasher_init(ft_hasher *h);
void ft_hasher_add(ft_hasher *h, const void *bytes, size_t n);
ft_digest ft_hasher_end(ft_hasher *h);
/* Lower-case hexadecimal, NUL-terminated. */
void ft_digest_hex(const ft_digest *d, char hex[FT_DIGEST_HEX]);
/* FT_ERR_FORMAT unless `hex` is 64 hexadecimal digits. */
FT_CHECKED ft_code ft_digest_parse(ft_digest *out, const char *hex, ft_status *st);

/* The Merkle tree of RFC 6962: leaf H(0x00 | data), node H(0x01 | l | r). `leaves` are
 * the leaf hashes (ft_merkle_leaf); count 0 gives H of "". H is the RFC's own SHA-256,
 * or BLAKE2b-256 (RFC 7693) where much is hashed: it takes a third of the time where the
 * processor does not help. */
typedef enum ft_merkle_hash { FT_MERKLE_SHA256, FT_MERKLE_BLAKE2B } ft_merkle_hash;
ft_digest ft_merkle_leaf(ft_merkle_hash hash, const void *bytes, size_t n);
/* The leaves [0, count) of `bytes`, n bytes each: where the machine can, several at once. */
void ft_merkle_leaves(ft_merkle_hash hash, const void *bytes, size_t n, size_t count, ft_digest *out);
ft_digest ft_merkle_root(ft_merkle_hash hash, const ft_digest *leaves, size_t count);

FT_API_END
#endif
