#include "tracer/ft_dsse.h"

#include "base/ft_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ft_code ft_dsse_pae(ft_buffer *out, const char *type, size_t type_bytes, const void *payload, size_t n, ft_status *st)
{
    ft_code rc = ft_buffer_printf(out, st, "DSSEv1 %zu ", type_bytes);
    if (!rc)
        rc = ft_buffer_append(out, type, type_bytes, st);
    if (!rc)
        rc = ft_buffer_printf(out, st, " %zu ", n);
    return rc ? rc : ft_buffer_append(out, n ? payload : "", n, st);
}

/* --- Making --------------------------------------------------------------------- */

/* What is written is public: a table does, where libsodium's own takes the same time for all bytes. */
static ft_code append_base64(ft_buffer *out, const void *bytes, size_t n, ft_status *st)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = bytes;
    const ft_code rc = ft_buffer_reserve(out, n / 3 * 4 + 4, st);
    if (rc)
        return rc;
    char *to = out->data + out->size;
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const uint32_t group = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0u) |
                               (left > 2 ? (uint32_t)from[i + 2] : 0u);
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[group & 63] : '=';
    }
    *to = '\0';
    out->size = (size_t)(to - out->data);
    return FT_OK;
}

/* Characters that JSON has no escape for. */
static int is_plain(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] < 0x20 || text[i] > 0x7e || text[i] == '"' || text[i] == '\\')
            return 0;
    return 1;
}

static ft_code write_head(ft_buffer *out, const char *type, const void *payload, size_t n, ft_status *st)
{
    ft_code rc = ft_buffer_append_str(out, "{\"payload\":\"", st);
    if (!rc)
        rc = append_base64(out, payload, n, st);
    return rc ? rc : ft_buffer_printf(out, st, "\",\"payloadType\":\"%s\",\"signatures\":[", type);
}

static ft_code write_signature(ft_buffer *out, const char *keyid, const unsigned char signature[FT_SIGNATURE_BYTES],
                               ft_status *st)
{
    ft_code rc = ft_buffer_printf(out, st, "{\"keyid\":\"%s\",\"sig\":\"", keyid);
    if (!rc)
        rc = append_base64(out, signature, FT_SIGNATURE_BYTES, st);
    return rc ? rc : ft_buffer_append_str(out, "\"}", st);
}

ft_code ft_dsse_write(ft_buffer *out, const ft_envelope *e, ft_status *st)
{
    int ours = is_plain(e->type, e->type_bytes);
    for (size_t i = 0; i < e->signature_count; i++)
        ours &= e->signatures[i].sound && is_plain(e->signatures[i].keyid, strlen(e->signatures[i].keyid));
    if (!ours)
        return ft_fail(st, FT_ERR_FORMAT, "the envelope is none that flextrace writes");
    ft_code rc = write_head(out, e->type, e->payload.data, e->payload.size, st);
    for (size_t i = 0; !rc && i < e->signature_count; i++) {
        rc = i ? ft_buffer_append_str(out, ",", st) : FT_OK;
        if (!rc)
            rc = write_signature(out, e->signatures[i].keyid, e->signatures[i].bytes, st);
    }
    return rc ? rc : ft_buffer_append_str(out, "]}", st);
}

ft_code ft_dsse_sign(ft_buffer *out, const char *type, const void *payload, size_t n, const ft_signer *s, ft_status *st)
{
    unsigned char signature[FT_SIGNATURE_BYTES];
    char hex[FT_DIGEST_HEX];
    ft_buffer message = {0};
    const ft_digest id = ft_public_key_id(ft_signer_public(s));
    ft_digest_hex(&id, hex);
    ft_code rc = n > FT_ENVELOPE_MAX_BYTES / 4 * 3 - 1024
                     ? ft_fail(st, FT_ERR_LIMIT, "a payload of %zu bytes is more than an envelope holds", n)
                     : ft_dsse_pae(&message, type, strlen(type), payload, n, st);
    if (!rc) {
        ft_signer_sign(s, message.data, message.size, signature);
        rc = write_head(out, type, payload, n, st); /* a media type holds nothing that JSON escapes */
    }
    if (!rc)
        rc = write_signature(out, hex, signature, st);
    if (!rc)
        rc = ft_buffer_append_str(out, "]}", st);
    ft_buffer_release(&message);
    return rc;
}

/* --- Reading --------------------------------------------------------------------- */

static const char *kind_of(const json_t *v)
{
    return !v                  ? "missing"
           : json_is_object(v) ? "an object"
           : json_is_array(v)  ? "a list"
           : json_is_string(v) ? "a string"
           : json_is_null(v)   ? "null"
           : json_is_number(v) ? "a number"
                               : "true or false";
}

static ft_code wrong(const char *where, const char *field, const char *wanted, const json_t *found, ft_status *st)
{
    return ft_fail(st, FT_ERR_FORMAT, "%s: not an envelope: '%s' must be %s, it is %s", where, field, wanted,
                   kind_of(found));
}

/* The six bits of a character of the standard (62: '+') or the URL-safe alphabet; NO_SEXTET: neither. */
enum { NO_SEXTET = 64 };
static unsigned char sextet(unsigned char c, int url)
{
    if (c >= 'A' && c <= 'Z')
        return (unsigned char)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (unsigned char)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (unsigned char)(c - '0' + 52);
    return c == (url ? '-' : '+') ? 62 : c == (url ? '_' : '/') ? 63 : NO_SEXTET;
}

/* n characters, a multiple of four, without padding but at the end; 0 where they are none. What is read is public,
 * so that the time may depend on it. */
static int decode_in(const char *from, size_t n, int url, unsigned char *to, size_t *size)
{
    unsigned char table[256];
    const unsigned char *at = (const unsigned char *)from, *start = to;
    const size_t pad = n && from[n - 1] == '=' ? 1 + (from[n - 2] == '=') : 0;
    for (int c = 0; c < 256; c++)
        table[c] = sextet((unsigned char)c, url);
    for (const unsigned char *end = at + n - (pad ? 4 : 0); at < end; at += 4, to += 3) {
        const uint32_t a = table[at[0]], b = table[at[1]], c = table[at[2]], d = table[at[3]];
        if ((a | b | c | d) & NO_SEXTET)
            return 0;
        const uint32_t bits = a << 18 | b << 12 | c << 6 | d;
        to[0] = (unsigned char)(bits >> 16);
        to[1] = (unsigned char)(bits >> 8);
        to[2] = (unsigned char)bits;
    }
    if (pad) {
        const uint32_t a = table[at[0]], b = table[at[1]], c = pad == 1 ? table[at[2]] : 0;
        if ((a | b | c) & NO_SEXTET || (pad == 1 ? c & 3 : b & 15)) /* or bits that stand over */
            return 0;
        *to++ = (unsigned char)(a << 2 | b >> 4);
        if (pad == 1)
            *to++ = (unsigned char)(b << 4 | c >> 2);
    }
    *size = (size_t)(to - start);
    return 1;
}

/* Whole and canonical in one of the two alphabets. */
static ft_code decode(const char *from, size_t n, const char *where, const char *field, ft_buffer *out, ft_status *st)
{
    const ft_code rc = ft_buffer_reserve(out, n / 4 * 3, st);
    if (rc)
        return rc;
    for (int url = 0; n % 4 == 0 && url < 2; url++)
        if (decode_in(from, n, url, (unsigned char *)out->data, &out->size)) {
            out->data[out->size] = '\0';
            return FT_OK;
        }
    out->size = 0;
    return ft_fail(st, FT_ERR_FORMAT, "%s: not an envelope: '%s' is not whole, canonical base64", where, field);
}

static ft_code read_signature(struct ft_envelope_signature *out, const json_t *from, size_t number, const char *where,
                              ft_status *st)
{
    char field[40];
    const json_t *sig = json_object_get(from, "sig"), *keyid = json_object_get(from, "keyid");
    ft_buffer bytes = {0};
    snprintf(field, sizeof(field), "signatures[%zu]", number);
    if (!json_is_object(from))
        return wrong(where, field, "an object", from, st);
    snprintf(field, sizeof(field), "signatures[%zu].sig", number);
    if (!json_is_string(sig))
        return wrong(where, field, "a string", sig, st);
    const ft_code rc = decode(json_string_value(sig), json_string_length(sig), where, field, &bytes, st);
    if (!rc && bytes.size == sizeof(out->bytes)) {
        memcpy(out->bytes, bytes.data, sizeof(out->bytes));
        out->sound = 1;
    }
    ft_buffer_release(&bytes);
    if (json_is_string(keyid))
        snprintf(out->keyid, sizeof(out->keyid), "%s", json_string_value(keyid));
    return rc;
}

/* Decodes the payload, unless that is done. */
static ft_code read_fields(ft_envelope *out, const json_t *envelope, int decoded, const char *where, ft_status *st)
{
    const json_t *payload = json_object_get(envelope, "payload"), *type = json_object_get(envelope, "payloadType");
    const json_t *signatures = json_object_get(envelope, "signatures");
    if (!json_is_object(envelope))
        return ft_fail(st, FT_ERR_FORMAT, "%s: not an envelope: it is %s, not an object", where, kind_of(envelope));
    if (!json_is_string(payload))
        return wrong(where, "payload", "a string", payload, st);
    if (!json_is_string(type))
        return wrong(where, "payloadType", "a string", type, st);
    if (!json_is_array(signatures))
        return wrong(where, "signatures", "a list", signatures, st);
    const size_t count = json_array_size(signatures);
    out->type_bytes = json_string_length(type);
    if (out->type_bytes > FT_ENVELOPE_MAX_TYPE)
        return ft_fail(st, FT_ERR_FORMAT, "%s: not an envelope: 'payloadType' has %zu bytes, more than %d", where,
                       out->type_bytes, FT_ENVELOPE_MAX_TYPE);
    if (count == 0 || count > FT_ENVELOPE_MAX_SIGNATURES)
        return ft_fail(st, FT_ERR_FORMAT, "%s: not an envelope: %zu signatures, not 1 to %d", where, count,
                       FT_ENVELOPE_MAX_SIGNATURES);
    memcpy(out->type, json_string_value(type), out->type_bytes + 1);
    ft_code rc =
        decoded ? FT_OK
                : decode(json_string_value(payload), json_string_length(payload), where, "payload", &out->payload, st);
    for (size_t i = 0; !rc && i < count; i++)
        rc = read_signature(&out->signatures[out->signature_count++], json_array_get(signatures, i), i, where, st);
    return rc;
}

/* Most of an envelope is its payload, which a JSON parser reads character by character. Where the text begins as
 * ours do, the first field is the payload: it is decoded from where it stands, and the rest is parsed with "" in its
 * place. A second "payload" is refused there, so nothing else can stand for it. 0: it does not begin so, or holds what
 * is not base64, an escape say: the parser's business. */
static int take_payload(ft_envelope *out, const char *text, size_t n, ft_buffer *rest, ft_code *rc, ft_status *st)
{
    static const char head[] = "{\"payload\":\"";
    enum { HEAD = sizeof(head) - 1 };
    if (n <= HEAD || memcmp(text, head, HEAD) != 0)
        return 0;
    const char *end = memchr(text + HEAD, '"', n - HEAD);
    if (!end)
        return 0;
    const size_t bytes = (size_t)(end - text) - HEAD;
    *rc = decode(text + HEAD, bytes, "", "payload", &out->payload, NULL);
    if (*rc == FT_ERR_FORMAT) {
        *rc = FT_OK;
        return 0;
    }
    *rc = *rc ? ft_fail(st, *rc, "out of memory") : ft_buffer_append(rest, head, HEAD, st);
    if (!*rc)
        *rc = ft_buffer_append(rest, end, n - HEAD - bytes, st);
    return 1;
}

ft_code ft_dsse_parse(ft_envelope *out, const char *text, size_t n, const char *where, ft_status *st)
{
    json_t *envelope = NULL;
    ft_buffer rest = {0};
    ft_code rc = FT_OK;
    memset(out, 0, sizeof(*out));
    if (n > FT_ENVELOPE_MAX_BYTES)
        return ft_fail(st, FT_ERR_FORMAT, "%s: %zu bytes are more than an envelope holds", where, n);
    const int apart = take_payload(out, text, n, &rest, &rc, st);
    if (!rc)
        rc = apart ? ft_json_parse(&envelope, rest.data, rest.size, where, st)
                   : ft_json_parse(&envelope, text, n, where, st);
    if (!rc)
        rc = read_fields(out, envelope, apart, where, st);
    ft_buffer_release(&rest);
    json_decref(envelope);
    return rc;
}

void ft_envelope_release(ft_envelope *e)
{
    if (e)
        ft_buffer_release(&e->payload);
}

/* --- Verifying ------------------------------------------------------------------- */

ft_code ft_dsse_verify(const ft_envelope *e, const ft_public_key *keys, size_t count, uint64_t *signed_by,
                       ft_status *st)
{
    ft_buffer message = {0};
    *signed_by = 0;
    if (count > 64)
        return ft_fail(st, FT_ERR_ARG, "%zu keys; at most 64 at once", count);
    const ft_code rc = ft_dsse_pae(&message, e->type, e->type_bytes, e->payload.data, e->payload.size, st);
    for (size_t k = 0; !rc && k < count; k++) {
        size_t same = 0; /* given before? */
        while (memcmp(&keys[same], &keys[k], sizeof(keys[k])) != 0)
            same++;
        for (size_t i = 0; same == k && i < e->signature_count; i++)
            if (e->signatures[i].sound &&
                ft_signature_verify(&keys[k], message.data, message.size, e->signatures[i].bytes))
                *signed_by |= UINT64_C(1) << k;
    }
    ft_buffer_release(&message);
    return rc;
}
