/* ft_dsse: signed envelopes of the Dead Simple Signing Envelope, version 1.0:
 *
 *     {"payload": base64(bytes), "payloadType": type, "signatures": [{"keyid", "sig": base64}]}
 *
 * What is signed is PAE(type, bytes) = "DSSEv1" SP len(type) SP type SP len(bytes) SP bytes,
 * never the envelope: its other fields, their order and its white space mean nothing. The payload
 * is decoded once, and the bytes that were verified are the bytes to read.
 *
 * Base64   standard or URL-safe, padded, whole and canonical: one text for each byte string in each
 *          alphabet, nothing in between.
 * Source   github.com/secure-systems-lab/dsse, protocol.md and envelope.md. */
#ifndef FT_DSSE_H
#define FT_DSSE_H
#include "tracer/ft_signing.h"

FT_API_BEGIN

enum {
    FT_ENVELOPE_MAX_BYTES = 256 << 20, /* of its text */
    FT_ENVELOPE_MAX_SIGNATURES = 64,
    FT_ENVELOPE_MAX_TYPE = 255 /* bytes */
};

/* Appends the bytes that are signed. */
FT_CHECKED ft_code ft_dsse_pae(ft_buffer *out, const char *type, size_t type_bytes, const void *payload, size_t n,
                               ft_status *st);

/* Appends an envelope with one signature: compact JSON, the same for the same payload and key. */
FT_CHECKED ft_code ft_dsse_sign(ft_buffer *out, const char *type, const void *payload, size_t n, const ft_signer *s,
                                ft_status *st);

typedef struct ft_envelope {
    ft_buffer payload;
    char type[FT_ENVELOPE_MAX_TYPE + 1];
    size_t type_bytes;
    struct ft_envelope_signature {
        char keyid[65]; /* what it says, cut; a hint */
        unsigned char bytes[FT_SIGNATURE_BYTES];
        int sound; /* of 64 bytes; else it is of another algorithm, and nobody's */
    } signatures[FT_ENVELOPE_MAX_SIGNATURES];
    size_t signature_count;
} ft_envelope;

/* Reads an envelope; nothing is verified yet. FT_ERR_FORMAT, in one line that starts with
 * `where`: no JSON, a key that stands twice, a field that is missing or of another type,
 * base64 that is not whole, more than the limits above. The caller releases *out, also then. */
FT_CHECKED ft_code ft_dsse_parse(ft_envelope *out, const char *text, size_t n, const char *where, ft_status *st);
void ft_envelope_release(ft_envelope *e);
/* Appends it as ft_dsse_sign writes one: of an envelope that came from there, the very bytes, whatever was done to its
 * white space and order since. FT_ERR_FORMAT: none that comes from there. */
FT_CHECKED ft_code ft_dsse_write(ft_buffer *out, const ft_envelope *e, ft_status *st);

/* *signed_by becomes the set of keys (bit k: keys[k], at most 64) that signed it; a key counts once,
 * however often it signed or is given. A keyid decides nothing. */
FT_CHECKED ft_code ft_dsse_verify(const ft_envelope *e, const ft_public_key *keys, size_t count, uint64_t *signed_by,
                                  ft_status *st);

FT_API_END
#endif
