#include "index/ft_stat_values.h"

#include "base/ft_json.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

/* --- One document's values ------------------------------------------------------------- */

void ft_stat_text_append(ft_stat_text *out, const char *text, size_t n)
{
    const size_t used = strlen(out->text);
    const size_t room = FT_STAT_VALUE_BYTES - used;
    if (n > room)
        for (n = room; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80; n--)
            ;
    memcpy(out->text + used, text, n);
    out->text[used + n] = '\0';
}

void ft_stat_host(const json_t *value, ft_stat_text *out)
{
    out->text[0] = '\0';
    const char *url = json_string_value(value);
    if (!url)
        return;
    url += strspn(url, " \t\r\n");
    const char *authority = strstr(url, "//");
    authority = authority ? authority + 2 : url;
    size_t n = strcspn(authority, "/?#\\ \t\r\n");
    for (size_t i = n; i > 0; i--)
        if (authority[i - 1] == '@') {
            authority += i;
            n -= i;
            break;
        }
    const char *bracket = n && authority[0] == '[' ? memchr(authority, ']', n) : NULL;
    const char *colon = bracket ? NULL : memchr(authority, ':', n);
    ft_stat_text_append(out, authority,
                        bracket ? (size_t)(bracket + 1 - authority)
                        : colon ? (size_t)(colon - authority)
                                : n);
    for (char *c = out->text; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 'a' - 'A') : *c;
}

const json_t *ft_stat_member(const json_t *object, const char *name)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    { /* jansson's iteration does not change the object */
        if (!strcasecmp(key, name))
            return value;
    }
    return NULL;
}

ft_code ft_stat_metadata(const ft_doc_ref *doc, json_t **out, int *unreadable, ft_status *st)
{
    ft_status unread;
    *out = NULL;
    *unreadable = 0;
    if (doc->metadata_bytes == 2 && !memcmp(doc->metadata, "{}", 2))
        return FT_OK;
    const ft_code rc = ft_json_parse(out, doc->metadata, doc->metadata_bytes, "metadata", &unread);
    if (rc == FT_ERR_MEM)
        return ft_fail(st, rc, "no memory for the metadata of a document");
    *unreadable = rc || !json_is_object(*out);
    if (*unreadable) {
        json_decref(*out);
        *out = NULL;
    }
    return FT_OK;
}

/* --- Counting values -------------------------------------------------------------------- */

ft_code ft_stat_table_init(ft_stat_table *t, uint64_t bytes_allowed, ft_status *st)
{
    *t = (ft_stat_table){.bytes_allowed = bytes_allowed};
    return ft_arena_new(&t->arena, 0, st);
}

void ft_stat_table_release(ft_stat_table *t)
{
    ft_arena_free(t->arena);
    free(t->values);
    free(t->slots);
}

static uint32_t *slot_for(const ft_stat_table *t, const char *text, size_t n)
{
    size_t at = (size_t)XXH3_64bits(text, n) & (t->size - 1);
    while (t->slots[at] && strcmp(t->values[t->slots[at] - 1].text, text) != 0)
        at = (at + 1) & (t->size - 1);
    return &t->slots[at];
}

static ft_code grow_table(ft_stat_table *t, ft_status *st)
{
    const size_t size = t->size ? t->size * 2 : 256;
    uint32_t *slots = ft_alloc_array(size, sizeof(*slots));
    if (!slots)
        return ft_fail(st, FT_ERR_MEM, "no memory for %zu sources", size);
    free(t->slots);
    t->slots = slots;
    t->size = size;
    for (size_t i = 0; i < t->count; i++)
        *slot_for(t, t->values[i].text, strlen(t->values[i].text)) = (uint32_t)i + 1;
    return FT_OK;
}

/* A new value; *slot is 0. NULL in *out when its room is used up. */
static ft_code add_value(ft_stat_table *t, const char *text, size_t n, uint32_t *slot, ft_stat_value **out,
                         ft_status *st)
{
    /* values double, and a slot stands for at most half a value */
    const uint64_t bytes = 2 * sizeof(ft_stat_value) + 4 * sizeof(*slot) + n + 16;
    *out = NULL;
    if (t->bytes + bytes > t->bytes_allowed || t->count == UINT32_MAX - 1)
        return FT_OK;
    ft_code rc = ft_array_grow((void **)&t->values, &t->capacity, t->count + 1, sizeof(*t->values), st);
    if (rc)
        return rc;
    const char *copy = ft_arena_text(t->arena, text, n);
    if (!copy)
        return ft_fail(st, FT_ERR_MEM, "no memory for another source");
    t->bytes += bytes;
    t->values[t->count] = (ft_stat_value){.text = copy};
    *out = &t->values[t->count++];
    *slot = (uint32_t)t->count;
    return FT_OK;
}

ft_code ft_stat_count(ft_stat_table *t, const char *text, uint64_t tokens, ft_status *st)
{
    ft_stat_value *v = &t->none;
    if (text[0]) {
        ft_code rc = 2 * (t->count + 1) > t->size ? grow_table(t, st) : FT_OK;
        if (rc)
            return rc;
        const size_t n = strlen(text);
        uint32_t *slot = slot_for(t, text, n);
        v = *slot ? &t->values[*slot - 1] : NULL;
        if (!v)
            rc = add_value(t, text, n, slot, &v, st);
        if (rc)
            return rc;
        if (!v)
            v = &t->rest;
    }
    v->documents++;
    v->tokens += tokens;
    return FT_OK;
}
