#include "tracer/ft_dsse.h"

#include "base/ft_json.h"

#include <sodium.h>
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

static ft_code append_base64(ft_buffer *out, const void *bytes, size_t n, ft_status *st)
{
    const size_t size = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL); /* with its end */
    const ft_code rc = ft_buffer_reserve(out, size, st);
    if (rc)
        return rc;
    sodium_bin2base64(out->data + out->size, size, bytes, n, sodium_base64_VARIANT_ORIGINAL);
    out->size += size - 1;
    return FT_OK;
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
        rc = ft_buffer_append_str(out, "{\"payload\":\"", st);
    }
    if (!rc)
        rc = append_base64(out, payload, n, st);
    if (!rc) /* a media type holds nothing that JSON escapes */
        rc = ft_buffer_printf(out, st, "\",\"payloadType\":\"%s\",\"signatures\":[{\"keyid\":\"%s\",\"sig\":\"", type,
                              hex);
    if (!rc)
        rc = append_base64(out, signature, sizeof(signature), st);
    if (!rc)
        rc = ft_buffer_append_str(out, "\"}]}", st);
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

/* Whole and canonical in one of the two alphabets; libsodium refuses bits that stand over. */
static ft_code decode(const json_t *text, const char *where, const char *field, ft_buffer *out, ft_status *st)
{
    static const int variants[] = {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_URLSAFE};
    const char *from = json_string_value(text);
    const size_t n = json_string_length(text);
    size_t got;
    const ft_code rc = ft_buffer_reserve(out, n / 4 * 3 + 3, st);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof(variants) / sizeof(*variants); i++)
        if (sodium_base642bin((unsigned char *)out->data, n / 4 * 3 + 3, from, n, NULL, &got, NULL, variants[i]) == 0) {
            out->size = got;
            out->data[got] = '\0';
            return FT_OK;
        }
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
    const ft_code rc = decode(sig, where, field, &bytes, st);
    if (!rc && bytes.size == sizeof(out->bytes)) {
        memcpy(out->bytes, bytes.data, sizeof(out->bytes));
        out->sound = 1;
    }
    ft_buffer_release(&bytes);
    if (json_is_string(keyid))
        snprintf(out->keyid, sizeof(out->keyid), "%s", json_string_value(keyid));
    return rc;
}

static ft_code read_fields(ft_envelope *out, const json_t *envelope, const char *where, ft_status *st)
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
    ft_code rc = decode(payload, where, "payload", &out->payload, st);
    for (size_t i = 0; !rc && i < count; i++)
        rc = read_signature(&out->signatures[out->signature_count++], json_array_get(signatures, i), i, where, st);
    return rc;
}

ft_code ft_dsse_parse(ft_envelope *out, const char *text, size_t n, const char *where, ft_status *st)
{
    json_t *envelope = NULL;
    memset(out, 0, sizeof(*out));
    if (n > FT_ENVELOPE_MAX_BYTES)
        return ft_fail(st, FT_ERR_FORMAT, "%s: %zu bytes are more than an envelope holds", where, n);
    ft_code rc = ft_json_parse(&envelope, text, n, where, st);
    if (!rc)
        rc = read_fields(out, envelope, where, st);
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
