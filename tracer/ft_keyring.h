/* ft_keyring: the keys of a federation: the one that signs now, and the public halves of those
 * that did. GET /v1/keys shows it; what it shows verifies receipts.
 *
 * A key that was revoked at a time is not trusted for what says that it was made from then on.
 *
 * Threads  immutable once open. */
#ifndef FT_KEYRING_H
#define FT_KEYRING_H
#include "base/ft_json.h"
#include "tracer/ft_federation.h"
#include "tracer/ft_signing.h"

FT_API_BEGIN

enum { FT_MAX_KEYS = 64 };

/* Times are RFC 3339 in UTC ("2026-01-31T12:00:00Z"); "": open, or never. */
enum { FT_TIME_TEXT = 24 };
typedef struct ft_ring_key {
    ft_public_key key;
    char from[FT_TIME_TEXT], to[FT_TIME_TEXT], revoked_at[FT_TIME_TEXT];
} ft_ring_key;

typedef struct ft_keyring {
    ft_signer *signer;             /* NULL: nothing is signed */
    ft_ring_key keys[FT_MAX_KEYS]; /* the signer's first */
    size_t count;
} ft_keyring;

/* Opens what federation.yaml names under signing_key and old_keys; without them the ring is empty.
 * The current key counts from the latest `to` of the old ones. FT_ERR_FORMAT and others name the file and its line. */
FT_CHECKED ft_code ft_keyring_open(ft_keyring *out, const ft_federation *f, ft_status *st);
/* Public keys from a file: PEM, or what GET /v1/keys answered. Appended; more than fit are FT_ERR_LIMIT. */
FT_CHECKED ft_code ft_keyring_read(ft_keyring *ring, const char *path, ft_status *st);
void ft_keyring_close(ft_keyring *ring); /* a zeroed one is allowed */

/* The answer of GET /v1/keys: a list; NULL when memory is out. */
json_t *ft_keyring_json(const ft_keyring *ring);

/* Whether key k may vouch for what was made at that time; NULL, or why not. A key may vouch for what
 * was made before its time: a receipt may be asked for long after the trace. */
const char *ft_keyring_objection(const ft_keyring *ring, size_t k, const char *made_at);

FT_API_END
#endif
