/* What several routes share: named sets of indexes, text to tokens and back. */
#include "api/routes_internal.h"

#include "base/ft_utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_owner(ft_named_set *out, const ft_owner *owner)
{
    for (size_t i = 0; i < owner->index_count && out->set.count < FT_MAX_INDEXES; i++) {
        out->owners[out->set.count] = owner;
        out->list[out->set.count++] = owner->indexes[i];
    }
}

void ft_index_set_all(const ft_trace_scope *scope, ft_named_set *out)
{
    out->set = (ft_index_set){out->list, 0};
    for (size_t i = 0; i < scope->owner_count; i++)
        add_owner(out, &scope->owners[i]);
}

int ft_index_set_named(ft_request *q, const char *name, ft_named_set *out)
{
    const ft_trace_scope *scope = ft_request_scope(q);
    const ft_owner *owner = ft_trace_owner(scope, name);
    out->set = (ft_index_set){out->list, 0};
    if (owner)
        add_owner(out, owner);
    else if (!strcmp(name, ft_federation_name(q->server->federation)))
        ft_index_set_all(scope, out);
    if (out->set.count)
        return 1;
    ft_refuse(q, q->face == FT_FACE_INFINIGRAM ? 400 : 404, NULL, NULL,
              "there is no index '%s'; GET /indexes lists them", name);
    return 0;
}

size_t ft_server_context(const ft_server *s)
{
    const size_t model = ft_model_get_config(s->model)->max_position;
    const size_t memory = ft_engine_capacity(ft_scheduler_engine(s->scheduler));
    return model < memory ? model : memory;
}

ft_code ft_encode_text(const ft_server *s, const char *text, size_t n, ft_encoding *out, ft_status *st)
{
    ft_encoder *e = NULL;
    if (!s->tokenizer)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "this server has no tokenizer: send token ids");
    ft_code rc = ft_encoder_new(&e, s->tokenizer, st);
    if (!rc)
        rc = ft_encoder_encode(e, text, n, out, st);
    ft_encoder_free(e);
    return rc;
}

json_t *ft_decoded_text(const ft_tokenizer *t, const uint32_t *ids, size_t count)
{
    if (!t)
        return json_null();
    ft_buffer text = {0};
    const ft_code rc = ft_tokenizer_decode(t, ids, count, 0, &text, NULL);
    json_t *out = rc ? NULL : json_stringn_nocheck(text.data ? text.data : "", text.size);
    ft_buffer_release(&text);
    return out;
}

/* The table of byte-level BPE: printable Latin-1 bytes stand for themselves, the
 * others for the characters from U+0100 on, in order. */
static uint32_t character_of_byte(unsigned char byte)
{
    uint32_t next = 0x100;
    for (unsigned b = 0; b < 256; b++) {
        const int printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte)
            return printable ? b : next;
        next += !printable;
    }
    return next;
}

json_t *ft_vocabulary_spelling(const ft_tokenizer *t, uint32_t id)
{
    size_t n;
    int special = 0;
    const char *bytes = t ? ft_tokenizer_token_bytes(t, id, &n, &special) : NULL;
    if (!bytes)
        return json_string("");
    if (special)
        return ft_json_text(bytes, n);
    ft_buffer text = {0};
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < n; i++)
        rc = ft_utf8_append(&text, character_of_byte((unsigned char)bytes[i]), NULL);
    json_t *out = rc ? NULL : json_stringn_nocheck(text.data ? text.data : "", text.size);
    ft_buffer_release(&text);
    return out;
}

json_t *ft_field_either(const json_t *object, const char *camel, const char *snake)
{
    json_t *v = json_object_get(object, camel);
    if (!v || json_is_null(v))
        v = json_object_get(object, snake);
    return v && !json_is_null(v) ? v : NULL;
}

ft_code ft_experts_read(const ft_server *s, const json_t *object, const char *field, uint64_t *bits, ft_status *st)
{
    const json_t *list = json_object_get(object, field), *one;
    size_t i;
    *bits = 0;
    if (!list || json_is_null(list))
        return FT_OK;
    if (!json_is_array(list))
        return ft_fail(st, FT_ERR_ARG, "'%s' must be a list of owners", field);
    json_array_foreach(list, i, one)
    {
        uint64_t bit = 0;
        char number[24];
        const char *name = ft_json_name(one);
        if (json_is_integer(one)) {
            snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(one));
            name = number;
        }
        if (!name || strchr(name, ','))
            return ft_fail(st, FT_ERR_ARG, "'%s': element %zu is no owner's name", field, i);
        const ft_code rc = ft_federation_experts(s->federation, name, &bit, st);
        if (rc) {
            ft_status_prefix(st, "'%s'", field);
            return rc;
        }
        *bits |= bit;
    }
    return FT_OK;
}

uint64_t ft_experts_of_model(const ft_server *s)
{
    const size_t experts = s->model ? ft_model_get_config(s->model)->experts : 0;
    return experts >= 64 ? UINT64_MAX : ((uint64_t)1 << experts) - 1;
}

int ft_experts_all_left_out(const ft_server *s, uint64_t without)
{
    const uint64_t all = ft_experts_of_model(s);
    return all && (without & all) == all;
}

static int is_among(const char *key, const char *const *names)
{
    size_t i = 0;
    while (names && names[i] && strcmp(names[i], key) != 0)
        i++;
    return names && names[i];
}

void ft_ignored_add(ft_ignored *ignored, const json_t *object, const char *prefix, const char *const *known,
                    const char *const *also)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (is_among(key, known) || is_among(key, also))
            continue;
        char *list = ignored->list;
        const size_t n = strlen(list), needed = strlen(prefix) + strlen(key) + 3;
        if (n + needed < sizeof(ignored->list))
            snprintf(list + n, sizeof(ignored->list) - n, "%s%s%s", n ? ", " : "", prefix, key);
    }
}

const char *ft_unknown_field(const json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (!is_among(key, known))
            return key;
    }
    return NULL;
}

void ft_ignored_answer(ft_request *q, const ft_ignored *ignored)
{
    if (ignored->list[0])
        ft_answer_header(q, "X-Ignored-Fields", ignored->list);
}
