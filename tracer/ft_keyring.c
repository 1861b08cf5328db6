#include "tracer/ft_keyring.h"

#include "base/ft_file.h"
#include "tracer/federation_internal.h"
#include "tracer/tracer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 20 };

/* Text of the form 2026-01-31T12:00:00Z sorts by time. NULL and "" are open. */
static int take_time(char out[FT_TIME_TEXT], const char *text)
{
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
    out[0] = '\0';
    if (!text || !text[0])
        return 1;
    for (size_t i = 0; i < sizeof(form); i++) /* the terminator too */
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return 0;
    memcpy(out, text, sizeof(form));
    return 1;
}

static ft_ring_key *next_key(ft_keyring *ring, const char *where, ft_status *st)
{
    if (ring->count < FT_MAX_KEYS) {
        ft_ring_key *k = &ring->keys[ring->count];
        memset(k, 0, sizeof(*k));
        return k;
    }
    (void)ft_fail(st, FT_ERR_LIMIT, "%s: more than %d keys", where, FT_MAX_KEYS);
    return NULL;
}

/* --- federation.yaml ----------------------------------------------------------------- */

static ft_code read_named(const ft_federation *f, const char *key, const char *name, ft_keyring *ring, ft_status *st)
{
    const size_t line = yaml_federation_line(f->path, key, name, 1);
    char *path = ft_path_join(f->folder, name);
    ft_ring_key *k = next_key(ring, f->path, st);
    ft_code rc = !path ? ft_fail(st, FT_ERR_MEM, "%s: out of memory", f->path) : k ? FT_OK : FT_ERR_LIMIT;
    if (!rc && !strcmp(key, "signing_key")) {
        rc = ft_signer_open(&ring->signer, path, st);
        if (!rc)
            k->key = *ft_signer_public(ring->signer);
    } else if (!rc) {
        rc = ft_public_key_read(&k->key, path, st);
    }
    if (rc)
        ft_status_prefix(st, "%s:%zu: %s", f->path, line, key);
    else
        ring->count++;
    free(path);
    return rc;
}

static ft_code read_old(const ft_federation *f, const yaml_key *y, ft_keyring *ring, ft_status *st)
{
    const ft_code rc = read_named(f, "public", y->public, ring, st);
    if (rc)
        return rc;
    ft_ring_key *k = &ring->keys[ring->count - 1];
    const char *names[] = {"from", "to", "revoked_at"}, *texts[] = {y->from, y->to, y->revoked_at};
    char *places[] = {k->from, k->to, k->revoked_at};
    for (size_t i = 0; i < 3; i++)
        if (!take_time(places[i], texts[i]))
            return ft_fail(st, FT_ERR_FORMAT,
                           "%s:%zu: old_keys: %s must be a time like 2026-01-31T12:00:00Z, not '%.40s'", f->path,
                           yaml_federation_line(f->path, names[i], texts[i], 1), names[i], texts[i]);
    return FT_OK;
}

ft_code ft_keyring_open(ft_keyring *out, const ft_federation *f, ft_status *st)
{
    const yaml_federation *y = f->yaml;
    memset(out, 0, sizeof(*out));
    ft_code rc = y->signing_key ? read_named(f, "signing_key", y->signing_key, out, st) : FT_OK;
    for (unsigned i = 0; !rc && i < y->old_keys_count; i++)
        rc = read_old(f, &y->old_keys[i], out, st);
    for (size_t k = 1; !rc && out->signer && k < out->count; k++)
        if (strcmp(out->keys[k].to, out->keys[0].from) > 0)
            memcpy(out->keys[0].from, out->keys[k].to, FT_TIME_TEXT);
    if (rc)
        ft_keyring_close(out);
    return rc;
}

void ft_keyring_close(ft_keyring *ring)
{
    ft_signer_close(ring->signer);
    memset(ring, 0, sizeof(*ring));
}

/* --- Files ---------------------------------------------------------------------------- */

/* One element of the list that GET /v1/keys gives. */
static ft_code read_listed(ft_keyring *ring, const json_t *from, const char *where, ft_status *st)
{
    const json_t *pem = json_object_get(from, "public_key");
    ft_ring_key *k = next_key(ring, where, st);
    if (!k)
        return FT_ERR_LIMIT;
    if (!json_is_string(pem) || !take_time(k->from, json_string_value(json_object_get(from, "from"))) ||
        !take_time(k->to, json_string_value(json_object_get(from, "to"))) ||
        !take_time(k->revoked_at, json_string_value(json_object_get(from, "revoked_at"))))
        return ft_fail(st, FT_ERR_FORMAT, "%s: not a list of keys as GET /v1/keys gives it", where);
    const ft_code rc = ft_public_key_parse(&k->key, json_string_value(pem), json_string_length(pem), where, st);
    ring->count += rc == FT_OK;
    return rc;
}

static ft_code read_list(ft_keyring *ring, const ft_buffer *text, const char *path, ft_status *st)
{
    json_t *list = NULL;
    ft_code rc = ft_json_parse(&list, text->data, text->size, path, st);
    const json_t *data = json_object_get(list, "data");
    if (!rc && !json_is_array(data))
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: not a list of keys as GET /v1/keys gives it", path);
    for (size_t i = 0; !rc && i < json_array_size(data); i++)
        rc = read_listed(ring, json_array_get(data, i), path, st);
    json_decref(list);
    return rc;
}

ft_code ft_keyring_read(ft_keyring *ring, const char *path, ft_status *st)
{
    ft_buffer text = {0};
    ft_code rc = ft_file_read(path, MAX_FILE_BYTES, &text, st);
    if (!rc && text.size && text.data[strspn(text.data, " \t\r\n")] == '{') {
        rc = read_list(ring, &text, path, st);
    } else if (!rc) {
        ft_ring_key *k = next_key(ring, path, st);
        rc = k ? ft_public_key_parse(&k->key, text.data ? text.data : "", text.size, path, st) : FT_ERR_LIMIT;
        ring->count += rc == FT_OK;
    }
    ft_buffer_release(&text);
    return rc;
}

/* --- What it says ----------------------------------------------------------------------- */

static json_t *time_json(const char *text)
{
    return text[0] ? json_string(text) : json_null();
}

json_t *ft_keyring_json(const ft_keyring *ring)
{
    int failed = 0;
    json_t *list = json_array(), *out = json_object();
    for (size_t i = 0; i < ring->count; i++) {
        const ft_ring_key *k = &ring->keys[i];
        char hex[FT_DIGEST_HEX];
        ft_buffer pem = {0};
        const ft_digest id = ft_public_key_id(&k->key);
        ft_digest_hex(&id, hex);
        failed |= ft_public_key_write(&k->key, &pem, NULL) != FT_OK;
        json_t *x = json_object();
        put(x, "keyid", json_string(hex), &failed);
        put(x, "object", json_string("key"), &failed);
        put(x, "algorithm", json_string("ed25519"), &failed);
        put(x, "public_key", pem.data ? json_stringn(pem.data, pem.size) : NULL, &failed);
        put(x, "from", time_json(k->from), &failed);
        put(x, "to", time_json(k->to), &failed);
        put(x, "revoked_at", time_json(k->revoked_at), &failed);
        put(x, "current", json_boolean(ring->signer && i == 0), &failed);
        failed |= json_array_append_new(list, x) != 0;
        ft_buffer_release(&pem);
    }
    const json_t *first = json_array_get(list, 0), *last = json_array_get(list, ring->count ? ring->count - 1 : 0);
    put(out, "object", json_string("list"), &failed);
    put(out, "first_id", first ? json_incref(json_object_get(first, "keyid")) : json_null(), &failed);
    put(out, "last_id", last ? json_incref(json_object_get(last, "keyid")) : json_null(), &failed);
    put(out, "has_more", json_false(), &failed);
    put(out, "data", list, &failed);
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

const char *ft_keyring_objection(const ft_keyring *ring, size_t k, const char *made_at)
{
    const ft_ring_key *key = &ring->keys[k];
    if (key->revoked_at[0] && strcmp(made_at, key->revoked_at) >= 0)
        return "its key had been revoked by then";
    if (key->to[0] && strcmp(made_at, key->to) >= 0)
        return "its key was not in use any more";
    return NULL;
}
