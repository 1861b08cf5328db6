/* ft_signing: Ed25519 keys (RFC 8032, by libsodium) in the files that openssl reads too.
 *
 * Files    a private key is PKCS#8, a public one SubjectPublicKeyInfo (RFC 8410), both PEM.
 *          What stands before and after the PEM block is ignored.
 * Key id   64 hexadecimal digits: SHA-256 of the SubjectPublicKeyInfo (DER). It names a key;
 *          it decides nothing.
 * Secrets  a signer's memory is locked where the system allows it, and zeroed when it is freed.
 * Threads  any number may sign with one signer. */
#ifndef FT_SIGNING_H
#define FT_SIGNING_H
#include "base/ft_buffer.h"
#include "base/ft_digest.h"

FT_API_BEGIN

enum { FT_PUBLIC_KEY_BYTES = 32, FT_SIGNATURE_BYTES = 64 };

typedef struct ft_public_key {
    unsigned char bytes[FT_PUBLIC_KEY_BYTES];
} ft_public_key;

typedef struct ft_signer ft_signer;

/* A new key: the private one in a new file at `path` (mode 0600), the public one at
 * "PATH.pub". *out (may be NULL) is what the .pub holds.
 *   FT_ERR_ARG  a file of one of the names is there already; nothing is overwritten
 *   FT_ERR_IO   it cannot be written; then neither file is left */
FT_CHECKED ft_code ft_signing_key_new(const char *path, ft_public_key *out, ft_status *st);

/* Opens a private key.
 *   FT_ERR_FORMAT  no Ed25519 key in PKCS#8, or one that is encrypted
 *   FT_ERR_ARG     others than its owner may read the file */
FT_CHECKED ft_code ft_signer_open(ft_signer **out, const char *path, ft_status *st);
void ft_signer_close(ft_signer *s);
const ft_public_key *ft_signer_public(const ft_signer *s);
void ft_signer_sign(const ft_signer *s, const void *bytes, size_t n, unsigned char signature[FT_SIGNATURE_BYTES]);

/* 1 or 0. Strict: one message and key have one signature that verifies in just one form. */
int ft_signature_verify(const ft_public_key *key, const void *bytes, size_t n,
                        const unsigned char signature[FT_SIGNATURE_BYTES]);

/* The first public key in PEM text; `where` starts the message. A private key's file gives its
 * public key too. FT_ERR_FORMAT where there is none. */
FT_CHECKED ft_code ft_public_key_parse(ft_public_key *out, const char *text, size_t n, const char *where,
                                       ft_status *st);
FT_CHECKED ft_code ft_public_key_read(ft_public_key *out, const char *path, ft_status *st);
/* PEM with its newlines, appended. */
FT_CHECKED ft_code ft_public_key_write(const ft_public_key *key, ft_buffer *out, ft_status *st);
ft_digest ft_public_key_id(const ft_public_key *key);

FT_API_END
#endif
