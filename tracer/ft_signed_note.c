#include "tracer/ft_signed_note.h"

#include "base/ft_utf8.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_BYTES = 4, SIGNED_BYTES = NUMBER_BYTES + FT_SIGNATURE_BYTES, SIGNED_TEXT = 93 /* of base64 */ };
static const char dash[] = "\xE2\x80\x94 "; /* U+2014 and a space */
enum { DASH = sizeof(dash) - 1 };
static const uint64_t most_leaves = UINT64_C(1) << 62;

static void key_number(const char *name, size_t n, const ft_public_key *key, unsigned char out[NUMBER_BYTES])
{
    static const unsigned char ed25519[] = {'\n', 1};
    ft_hasher h;
    ft_hasher_init(&h);
    ft_hasher_add(&h, name, n);
    ft_hasher_add(&h, ed25519, sizeof(ed25519));
    ft_hasher_add(&h, key->bytes, sizeof(key->bytes));
    const ft_digest d = ft_hasher_end(&h);
    memcpy(out, d.bytes, NUMBER_BYTES);
}

/* UTF-8 without control characters but newlines. */
static int is_text(const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        const ft_utf8_step step = ft_utf8_next(text + at, n - at);
        if (!step.valid || (step.code_point < 0x20 && step.code_point != '\n'))
            return 0;
        at += step.length;
    }
    return 1;
}

/* Neither space nor plus; of Unicode's other spaces we make none, and take none for a space. */
static int is_name(const char *name, size_t n)
{
    return n && is_text(name, n) && !memchr(name, ' ', n) && !memchr(name, '+', n) && !memchr(name, '\n', n);
}

/* --- Signing ------------------------------------------------------------------------ */

ft_code ft_note_sign(ft_buffer *out, const char *text, size_t n, const char *name, const ft_signer *s, ft_status *st)
{
    unsigned char bytes[SIGNED_BYTES];
    char line[SIGNED_TEXT];
    if (!n || text[n - 1] != '\n' || !is_text(text, n))
        return ft_fail(st, FT_ERR_ARG, "a note's text is lines of UTF-8, the last one ended");
    if (!is_name(name, strlen(name)))
        return ft_fail(st, FT_ERR_ARG, "'%.80s' cannot be the name of a note's key", name);
    key_number(name, strlen(name), ft_signer_public(s), bytes);
    ft_signer_sign(s, text, n, bytes + NUMBER_BYTES);
    sodium_bin2base64(line, sizeof(line), bytes, sizeof(bytes), sodium_base64_VARIANT_ORIGINAL);
    ft_code rc = ft_buffer_append(out, text, n, st);
    return rc ? rc : ft_buffer_printf(out, st, "\n%s%s %s\n", dash, name, line);
}

ft_code ft_log_head_sign(ft_buffer *out, const ft_log_head *h, const ft_signer *s, ft_status *st)
{
    char root[64], text[FT_NOTE_ORIGIN + 100];
    sodium_bin2base64(root, sizeof(root), h->tree.root.bytes, FT_DIGEST_BYTES, sodium_base64_VARIANT_ORIGINAL);
    const int n = snprintf(text, sizeof(text), "%s\n%" PRIu64 "\n%s\n", h->origin, h->tree.size, root);
    return ft_note_sign(out, text, (size_t)n, h->origin, s, st);
}

/* --- Opening ------------------------------------------------------------------------- */

static ft_code no_note(const char *where, const char *what, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s: not a signed note: %s", where, what);
}

/* Where the signatures begin, behind the last empty line; 0: there is none. */
static size_t find_signatures(const char *note, size_t n)
{
    for (size_t i = n; i >= 2; i--)
        if (note[i - 1] == '\n' && note[i - 2] == '\n')
            return i;
    return 0;
}

typedef struct signature_line {
    const char *name;
    size_t name_bytes;
    unsigned char bytes[SIGNED_BYTES];
    int is_ours; /* of as many bytes as Ed25519 has */
} signature_line;

/* One line, without its newline. */
static int read_line(const char *line, size_t n, signature_line *out)
{
    if (n <= DASH || memcmp(line, dash, DASH) != 0)
        return 0;
    out->name = line + DASH;
    const char *space = memchr(out->name, ' ', n - DASH), *end = line + n;
    if (!space)
        return 0;
    out->name_bytes = (size_t)(space - out->name);
    space++;
    unsigned char bytes[8 << 10];
    size_t got = 0;
    if (!is_name(out->name, out->name_bytes) ||
        sodium_base642bin(bytes, sizeof(bytes), space, (size_t)(end - space), NULL, &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        got <= NUMBER_BYTES)
        return 0;
    out->is_ours = got == SIGNED_BYTES;
    if (out->is_ours)
        memcpy(out->bytes, bytes, SIGNED_BYTES);
    return 1;
}

ft_code ft_note_open(const char *note, size_t n, const char *where, const char *name, const ft_public_key *keys,
                     size_t count, size_t *text_bytes, uint64_t *signed_by, ft_status *st)
{
    *signed_by = 0;
    *text_bytes = 0;
    if (count > 64)
        return ft_fail(st, FT_ERR_ARG, "%zu keys; at most 64 at once", count);
    if (n > FT_NOTE_MAX_BYTES)
        return no_note(where, "it is too long", st);
    if (!n || note[n - 1] != '\n' || !is_text(note, n))
        return no_note(where, "it is not lines of UTF-8, the last one ended", st);
    const size_t from = find_signatures(note, n), text = from ? from - 1 : 0;
    if (!text || from == n)
        return no_note(where, "no empty line with signatures behind it", st);
    const size_t name_bytes = name ? strlen(name) : strcspn(note, "\n");
    name = name ? name : note;
    int forged = 0;
    for (size_t at = from; at < n;) {
        const size_t length = (size_t)((const char *)memchr(note + at, '\n', n - at) - note) - at;
        signature_line s;
        if (!read_line(note + at, length, &s))
            return no_note(where, "a line behind the empty one is no signature", st);
        at += length + 1;
        for (size_t k = 0; s.is_ours && k < count; k++) {
            unsigned char number[NUMBER_BYTES];
            key_number(name, name_bytes, &keys[k], number);
            if (s.name_bytes != name_bytes || memcmp(s.name, name, name_bytes) != 0 ||
                memcmp(s.bytes, number, NUMBER_BYTES) != 0)
                continue;
            if (ft_signature_verify(&keys[k], note, text, s.bytes + NUMBER_BYTES))
                *signed_by |= UINT64_C(1) << k;
            else
                forged = 1;
        }
    }
    *text_bytes = text;
    if (forged)
        *signed_by = 0;
    return FT_OK;
}

/* A number without leading zeros. */
static int read_size(const char *text, size_t n, uint64_t *out)
{
    *out = 0;
    if (!n || n > 19 || (n > 1 && text[0] == '0'))
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        *out = *out * 10 + (uint64_t)(text[i] - '0');
    }
    return *out <= most_leaves;
}

ft_code ft_log_head_open(ft_log_head *out, const char *note, size_t n, const char *where, const ft_public_key *keys,
                         size_t count, uint64_t *signed_by, ft_status *st)
{
    const char *lines[3];
    size_t lengths[3], text, got = 0;
    memset(out, 0, sizeof(*out));
    const ft_code rc = ft_note_open(note, n, where, NULL, keys, count, &text, signed_by, st);
    if (rc)
        return rc;
    const char *at = note;
    for (size_t i = 0; i < 3; i++) {
        const size_t left = text - (size_t)(at - note);
        const char *end = left ? memchr(at, '\n', left) : NULL;
        if (!end || end == at)
            return ft_fail(st, FT_ERR_FORMAT, "%s: not the head of a log: it has less than three lines", where);
        lines[i] = at;
        lengths[i] = (size_t)(end - at);
        at = end + 1;
    }
    if (lengths[0] >= sizeof(out->origin))
        return ft_fail(st, FT_ERR_FORMAT, "%s: not the head of a log: its origin is too long", where);
    memcpy(out->origin, lines[0], lengths[0]);
    if (!read_size(lines[1], lengths[1], &out->tree.size))
        return ft_fail(st, FT_ERR_FORMAT, "%s: not the head of a log: its second line is no number of leaves", where);
    if (sodium_base642bin(out->tree.root.bytes, FT_DIGEST_BYTES, lines[2], lengths[2], NULL, &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        got != FT_DIGEST_BYTES)
        return ft_fail(st, FT_ERR_FORMAT, "%s: not the head of a log: its third line is no hash in base64", where);
    return FT_OK;
}
