/* ft_signed_note: text that is signed, in the form that transparency logs and their witnesses exchange, and in it the
 * head of a log (a checkpoint):
 *
 *     example.com/receipts                            origin: which log
 *     20852163                                        leaves
 *     CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=    root, base64
 *
 *     — example.com/receipts Az3grlgt…                key's name, base64(key's number (4) | signature (64))
 *
 * Signed is the text with its last newline, without the empty line. A key's number is the first four bytes of
 * SHA-256(name | 0x0A | 0x01 | public key); it finds the key and decides nothing. The key of a log has its origin as
 * name.
 *
 * Source  c2sp.org/signed-note and c2sp.org/tlog-checkpoint, both v1.0.0; Ed25519 alone. */
#ifndef FT_SIGNED_NOTE_H
#define FT_SIGNED_NOTE_H
#include "tracer/ft_signing.h"
#include "tracer/ft_store.h"

FT_API_BEGIN

enum {
    FT_NOTE_MAX_BYTES = 64 << 10, /* of a note that is read */
    FT_NOTE_ORIGIN = 640          /* with its terminator */
};

/* Appends the note: `text`, which ends in a newline, an empty line, one signature. FT_ERR_ARG: a text or name that no
 * note has. */
FT_CHECKED ft_code ft_note_sign(ft_buffer *out, const char *text, size_t n, const char *name, const ft_signer *s,
                                ft_status *st);
/* *text_bytes becomes the length of the note's text, *signed_by the set of keys (bit k: keys[k], at most 64) that
 * signed it under `name` (NULL: under its first line). Signatures of others are passed over; a known key's that is
 * wrong makes the set empty. FT_ERR_FORMAT, in one line that starts with `where`: no note. */
FT_CHECKED ft_code ft_note_open(const char *note, size_t n, const char *where, const char *name,
                                const ft_public_key *keys, size_t count, size_t *text_bytes, uint64_t *signed_by,
                                ft_status *st);

typedef struct ft_log_head {
    char origin[FT_NOTE_ORIGIN];
    ft_tree_head tree;
} ft_log_head;
FT_CHECKED ft_code ft_log_head_sign(ft_buffer *out, const ft_log_head *h, const ft_signer *s, ft_status *st);
/* Lines behind the root are signed too, and not looked at. */
FT_CHECKED ft_code ft_log_head_open(ft_log_head *out, const char *note, size_t n, const char *where,
                                    const ft_public_key *keys, size_t count, uint64_t *signed_by, ft_status *st);

FT_API_END
#endif
