#include "tracer/ft_signing.h"

#include "base/ft_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(FT_SIGNATURE_BYTES == crypto_sign_BYTES, "Ed25519");
_Static_assert(FT_PUBLIC_KEY_BYTES == crypto_sign_PUBLICKEYBYTES, "Ed25519");

enum { SEED = crypto_sign_SEEDBYTES, MAX_PEM = 64 << 10 };

/* RFC 8410: what stands before the 32 bytes of the key, in either file. */
static const unsigned char private_head[] = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                             0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};
static const unsigned char public_head[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
enum { PRIVATE_DER = sizeof(private_head) + SEED, PUBLIC_DER = sizeof(public_head) + FT_PUBLIC_KEY_BYTES };

static const char private_label[] = "PRIVATE KEY", public_label[] = "PUBLIC KEY";

struct ft_signer {
    unsigned char secret[crypto_sign_SECRETKEYBYTES]; /* seed, then the public key */
    ft_public_key public;
};

static ft_code start(ft_status *st)
{
    return sodium_init() < 0 ? ft_fail(st, FT_ERR_IO, "libsodium finds no source of randomness") : FT_OK;
}

/* --- PEM ------------------------------------------------------------------------ */

/* A key's DER is shorter than the 48 bytes that a line of PEM holds. */
static ft_code pem_write(const char *label, const unsigned char *der, size_t n, ft_buffer *out, ft_status *st)
{
    char text[sodium_base64_ENCODED_LEN(PRIVATE_DER, sodium_base64_VARIANT_ORIGINAL)];
    sodium_bin2base64(text, sizeof(text), der, n, sodium_base64_VARIANT_ORIGINAL);
    const ft_code rc = ft_buffer_printf(out, st, "-----BEGIN %s-----\n%s\n-----END %s-----\n", label, text, label);
    sodium_memzero(text, sizeof(text));
    return rc;
}

/* The DER of the block with this label: 1 when it is there and has just `n` bytes, 0 when there is
 * no such block, -1 when it is something else. */
static int pem_read(const char *label, const char *text, unsigned char *der, size_t n)
{
    char begin[40], end[40];
    size_t got = 0;
    snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
    snprintf(end, sizeof(end), "-----END %s-----", label);
    const char *from = strstr(text, begin);
    if (!from)
        return 0;
    from += strlen(begin);
    const char *to = strstr(from, end);
    if (!to || sodium_base642bin(der, n, from, (size_t)(to - from), " \t\r\n", &got, NULL,
                                 sodium_base64_VARIANT_ORIGINAL) != 0)
        return -1;
    return got == n ? 1 : -1;
}

/* The seed of a private key, in place in `der`. */
static int private_read(const char *text, unsigned char der[PRIVATE_DER])
{
    const int found = pem_read(private_label, text, der, PRIVATE_DER);
    return found == 1 && memcmp(der, private_head, sizeof(private_head)) != 0 ? -1 : found;
}

static void public_der(const ft_public_key *key, unsigned char der[PUBLIC_DER])
{
    memcpy(der, public_head, sizeof(public_head));
    memcpy(der + sizeof(public_head), key->bytes, sizeof(key->bytes));
}

/* --- Public keys ------------------------------------------------------------------ */

ft_code ft_public_key_write(const ft_public_key *key, ft_buffer *out, ft_status *st)
{
    unsigned char der[PUBLIC_DER];
    public_der(key, der);
    return pem_write(public_label, der, sizeof(der), out, st);
}

ft_digest ft_public_key_id(const ft_public_key *key)
{
    unsigned char der[PUBLIC_DER];
    public_der(key, der);
    return ft_digest_of(der, sizeof(der));
}

static ft_code parse_public(ft_public_key *out, const char *text, const char *where, ft_status *st)
{
    unsigned char der[PUBLIC_DER], private[PRIVATE_DER], secret[crypto_sign_SECRETKEYBYTES];
    const int found = pem_read(public_label, text, der, PUBLIC_DER);
    if (found == 1 && !memcmp(der, public_head, sizeof(public_head))) {
        memcpy(out->bytes, der + sizeof(public_head), sizeof(out->bytes));
        return FT_OK;
    }
    const int owned = found ? -1 : private_read(text, private);
    if (owned == 1) {
        (void)crypto_sign_seed_keypair(out->bytes, secret, private + sizeof(private_head));
        sodium_memzero(secret, sizeof(secret));
    }
    sodium_memzero(private, sizeof(private));
    if (owned == 1)
        return FT_OK;
    return ft_fail(st, FT_ERR_FORMAT, "%s: not an Ed25519 public key in PEM; 'flextrace key new' writes one", where);
}

ft_code ft_public_key_parse(ft_public_key *out, const char *text, size_t n, const char *where, ft_status *st)
{
    ft_code rc = start(st);
    if (rc)
        return rc;
    if (n > MAX_PEM)
        return ft_fail(st, FT_ERR_FORMAT, "%s: %zu bytes are no key", where, n);
    char *copy = malloc(n + 1); /* with its end; NUL bytes inside end it sooner */
    if (!copy)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", where);
    if (n)
        memcpy(copy, text, n);
    copy[n] = '\0';
    rc = parse_public(out, copy, where, st);
    sodium_memzero(copy, n);
    free(copy);
    return rc;
}

static ft_code read_small(const char *path, ft_buffer *out, ft_status *st)
{
    ft_buffer_init(out, 0);
    const ft_code rc = ft_file_read(path, MAX_PEM, out, st);
    return rc == FT_ERR_LIMIT ? ft_fail(st, FT_ERR_FORMAT, "%s: too large for a key", path) : rc;
}

static void release_secret(ft_buffer *b)
{
    if (b->data)
        sodium_memzero(b->data, b->size);
    ft_buffer_release(b);
}

ft_code ft_public_key_read(ft_public_key *out, const char *path, ft_status *st)
{
    ft_buffer text;
    ft_code rc = read_small(path, &text, st);
    if (!rc)
        rc = ft_public_key_parse(out, text.data ? text.data : "", text.size, path, st);
    release_secret(&text);
    return rc;
}

/* --- Signing ----------------------------------------------------------------------- */

/* Others than the owner must not be able to read it. */
static ft_code check_mode(const char *path, ft_status *st)
{
    struct stat f;
    if (stat(path, &f) != 0)
        return ft_fail(st, errno == ENOENT ? FT_ERR_NOT_FOUND : FT_ERR_IO, "%s: %s", path, strerror(errno));
    if (f.st_mode & (S_IRWXG | S_IRWXO))
        return ft_fail(st, FT_ERR_ARG, "%s: others may read this private key (mode %04o); chmod 600 it", path,
                       (unsigned)f.st_mode & 07777u);
    return FT_OK;
}

ft_code ft_signer_open(ft_signer **out, const char *path, ft_status *st)
{
    unsigned char der[PRIVATE_DER];
    ft_buffer text = {0};
    ft_signer *s = NULL;
    *out = NULL;
    ft_code rc = start(st);
    if (!rc)
        rc = check_mode(path, st);
    if (!rc)
        rc = read_small(path, &text, st);
    if (!rc && private_read(text.data ? text.data : "", der) != 1)
        rc = ft_fail(st, FT_ERR_FORMAT,
                     "%s: not an Ed25519 private key in PEM (PKCS#8, not encrypted); 'flextrace key new --signing' "
                     "makes one",
                     path);
    if (!rc) {
        s = calloc(1, sizeof(*s));
        if (!s)
            rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", path);
    }
    if (s) {
        (void)sodium_mlock(s, sizeof(*s)); /* a hint: without it a key may reach the swap */
        (void)crypto_sign_seed_keypair(s->public.bytes, s->secret, der + sizeof(private_head));
    }
    sodium_memzero(der, sizeof(der));
    release_secret(&text);
    *out = s;
    return rc;
}

void ft_signer_close(ft_signer *s)
{
    if (!s)
        return;
    (void)sodium_munlock(s, sizeof(*s)); /* zeroes it */
    sodium_memzero(s, sizeof(*s));
    free(s);
}

const ft_public_key *ft_signer_public(const ft_signer *s)
{
    return &s->public;
}

void ft_signer_sign(const ft_signer *s, const void *bytes, size_t n, unsigned char signature[FT_SIGNATURE_BYTES])
{
    (void)crypto_sign_detached(signature, NULL, bytes, n, s->secret);
}

int ft_signature_verify(const ft_public_key *key, const void *bytes, size_t n,
                        const unsigned char signature[FT_SIGNATURE_BYTES])
{
    return sodium_init() >= 0 && crypto_sign_verify_detached(signature, bytes, n, key->bytes) == 0;
}

/* --- A new key ---------------------------------------------------------------------- */

/* A file that was not there, with all its bytes on the disk. */
static ft_code write_new(const char *path, mode_t mode, const ft_buffer *text, ft_status *st)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return errno == EEXIST ? ft_fail(st, FT_ERR_ARG, "%s: there is a file of this name; name another", path)
                               : ft_fail(st, FT_ERR_IO, "%s: %s", path, strerror(errno));
    int failed = fchmod(fd, mode) != 0; /* whatever the umask */
    for (size_t at = 0; !failed && at < text->size;) {
        const ssize_t n = write(fd, text->data + at, text->size - at);
        failed = n < 0 && errno != EINTR;
        at += n > 0 ? (size_t)n : 0;
    }
    failed = failed || fsync(fd) != 0;
    const int error = errno;
    if (close(fd) == 0 && !failed)
        return FT_OK;
    (void)unlink(path);
    return ft_fail(st, FT_ERR_IO, "%s: %s", path, strerror(error));
}

ft_code ft_signing_key_new(const char *path, ft_public_key *out, ft_status *st)
{
    unsigned char der[PRIVATE_DER], secret[crypto_sign_SECRETKEYBYTES];
    ft_public_key key;
    ft_buffer private = {0}, public = {0}, name = {0};
    ft_code rc = start(st);
    if (rc)
        return rc;
    memcpy(der, private_head, sizeof(private_head));
    randombytes_buf(der + sizeof(private_head), SEED);
    (void)crypto_sign_seed_keypair(key.bytes, secret, der + sizeof(private_head));
    rc = pem_write(private_label, der, sizeof(der), &private, st);
    if (!rc)
        rc = ft_public_key_write(&key, &public, st);
    if (!rc)
        rc = ft_buffer_printf(&name, st, "%s.pub", path);
    if (!rc)
        rc = write_new(path, S_IRUSR | S_IWUSR, &private, st);
    if (!rc) {
        rc = write_new(name.data, S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH, &public, st);
        if (rc)
            (void)unlink(path);
    }
    if (!rc && out)
        *out = key;
    sodium_memzero(der, sizeof(der));
    sodium_memzero(secret, sizeof(secret));
    release_secret(&private);
    ft_buffer_release(&public);
    ft_buffer_release(&name);
    return rc;
}
