/* Sources and licences. Documents are read by all threads, a batch at a time, and counted
 * in their order, so that which values find room does not depend on the threads. */
#include "index/ft_stat_internal.h"

#include "base/ft_json.h"

#include <stdlib.h>
#include <strings.h>
#include <xxhash.h>

/* --- One document's values ------------------------------------------------------------- */

typedef struct text_value {
    char text[FT_STAT_VALUE_BYTES + 1]; /* "": none */
} text_value;

/* Appends, cut at a character. */
static void append(text_value *out, const char *text, size_t n)
{
    const size_t used = strlen(out->text);
    const size_t room = FT_STAT_VALUE_BYTES - used;
    if (n > room)
        for (n = room; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80; n--)
            ;
    memcpy(out->text + used, text, n);
    out->text[used + n] = '\0';
}

static void append_trimmed(text_value *out, const char *text)
{
    static const char blank[] = " \t\r\n";
    text += strspn(text, blank);
    size_t n = strlen(text);
    while (n > 0 && strchr(blank, text[n - 1]))
        n--;
    append(out, text, n);
}

static void take_text(const json_t *value, text_value *out)
{
    out->text[0] = '\0';
    if (json_is_string(value))
        append_trimmed(out, json_string_value(value));
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (json_is_string(item) && out->text[0])
            append(out, ", ", 2);
        if (json_is_string(item))
            append_trimmed(out, json_string_value(item));
    }
}

/* Host of a URL (RFC 3986: after "//" and user information, before port and path), in
 * lower case. Without a scheme, what stands before the first slash. */
static void take_host(const json_t *value, text_value *out)
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
    append(out, authority, bracket ? (size_t)(bracket + 1 - authority) : colon ? (size_t)(colon - authority) : n);
    for (char *c = out->text; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 'a' - 'A') : *c;
}

static const json_t *member(const json_t *object, const char *name)
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

static void take_first(const json_t *object, const char *const *names, text_value *out)
{
    for (; *names && !out->text[0]; names++) {
        const json_t *value = member(object, *names);
        if (value && !strcmp(*names, "url"))
            take_host(value, out);
        else if (value)
            take_text(value, out);
    }
}

typedef struct found {
    text_value source, licence;
    int unreadable;
} found;

/* Infini-gram's lines hold the row as "metadata", and a corpus row may itself hold one. */
enum { NESTED_AT_MOST = 3 };

static ft_code read_values(const ft_doc_ref *doc, found *out, ft_status *st)
{
    static const char *const sources[] = {"source", "domain", "url", NULL};
    static const char *const licences[] = {"license", "licence", "rights", NULL};
    json_t *whole = NULL;
    ft_status unread;
    out->source.text[0] = out->licence.text[0] = '\0';
    out->unreadable = 0;
    if (doc->metadata_bytes == 2 && !memcmp(doc->metadata, "{}", 2))
        return FT_OK;
    ft_code rc = ft_json_parse(&whole, doc->metadata, doc->metadata_bytes, "metadata", &unread);
    if (rc == FT_ERR_MEM)
        return ft_fail(st, rc, "no memory for the metadata of a document");
    out->unreadable = rc || !json_is_object(whole);
    const json_t *object = whole;
    for (unsigned level = 0; level <= NESTED_AT_MOST && !rc && json_is_object(object); level++) {
        take_first(object, sources, &out->source);
        take_first(object, licences, &out->licence);
        object = member(object, "metadata");
    }
    json_decref(whole);
    return FT_OK;
}

/* --- Counting values -------------------------------------------------------------------- */

typedef struct value_table {
    ft_stat_value *values; /* [count] */
    size_t count, capacity;
    uint32_t *slots; /* [size] index in values + 1; 0: free */
    size_t size;     /* power of two, at least twice count; 0 at first */
    ft_arena *arena; /* texts */
    uint64_t bytes, bytes_allowed;
    ft_stat_value rest, none;
} value_table;

static uint32_t *slot_for(const value_table *t, const char *text, size_t n)
{
    size_t at = (size_t)XXH3_64bits(text, n) & (t->size - 1);
    while (t->slots[at] && strcmp(t->values[t->slots[at] - 1].text, text) != 0)
        at = (at + 1) & (t->size - 1);
    return &t->slots[at];
}

static ft_code grow_table(value_table *t, ft_status *st)
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
static ft_code add_value(value_table *t, const char *text, size_t n, uint32_t *slot, ft_stat_value **out, ft_status *st)
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

static ft_code count_value(value_table *t, const char *text, uint64_t tokens, ft_status *st)
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

static int compare_values(const void *a, const void *b)
{
    const ft_stat_value *x = a, *y = b;
    if (x->documents != y->documents)
        return x->documents > y->documents ? -1 : 1;
    return strcmp(x->text, y->text);
}

static ft_code report_values(ft_stat_work *w, value_table *t, ft_stat_values *out, ft_status *st)
{
    if (t->count)
        qsort(t->values, t->count, sizeof(*t->values), compare_values);
    out->shown = t->count < w->top ? t->count : w->top;
    out->top = ft_arena_array(w->arena, out->shown, sizeof(*out->top));
    if (!out->top)
        return ft_fail(st, FT_ERR_MEM, "no memory for the commonest sources");
    out->distinct = t->count;
    out->complete = t->rest.documents == 0;
    out->other = t->rest;
    out->none = t->none;
    for (size_t i = 0; i < t->count; i++) {
        if (i < out->shown) {
            out->top[i] = t->values[i];
            out->top[i].text = ft_arena_text(w->arena, t->values[i].text, strlen(t->values[i].text));
            if (!out->top[i].text)
                return ft_fail(st, FT_ERR_MEM, "no memory for the commonest sources");
        } else {
            out->other.documents += t->values[i].documents;
            out->other.tokens += t->values[i].tokens;
        }
    }
    return FT_OK;
}

/* --- All ---------------------------------------------------------------------------------- */

enum { BATCH = 4096, TASK = 32 };

typedef struct reading {
    ft_stat_work *w;
    uint64_t from, count;
    found *found;  /* [BATCH] */
    ft_code *code; /* [BATCH] */
} reading;

static void read_task(void *context, size_t task, unsigned worker)
{
    (void)worker;
    reading *r = context;
    for (uint64_t i = task * TASK; i < r->count && i < (task + 1) * TASK; i++) {
        ft_doc_ref doc;
        r->code[i] = FT_OK;
        r->code[i] = ft_index_document(r->w->ix, r->from + i, &doc, NULL);
        if (!r->code[i])
            r->code[i] = read_values(&doc, &r->found[i], NULL);
    }
}

static ft_code count_batch(reading *r, value_table *sources, value_table *licences, ft_status *st)
{
    ft_pool_run(r->w->pool, (size_t)(r->count + TASK - 1) / TASK, read_task, r);
    ft_code rc = FT_OK;
    for (uint64_t i = 0; i < r->count && !rc; i++) {
        if (r->code[i])
            return ft_fail(st, r->code[i], "the metadata of document %llu: %s", (unsigned long long)(r->from + i),
                           ft_code_name(r->code[i]));
        const uint64_t tokens = r->w->lengths[r->from + i];
        r->w->out->unreadable_metadata += r->found[i].unreadable != 0;
        rc = count_value(sources, r->found[i].source.text, tokens, st);
        if (!rc)
            rc = count_value(licences, r->found[i].licence.text, tokens, st);
    }
    return rc;
}

static void release_table(value_table *t)
{
    ft_arena_free(t->arena);
    free(t->values);
    free(t->slots);
}

ft_code ft_stat_read_metadata(ft_stat_work *w, ft_status *st)
{
    const uint64_t documents = ft_index_get_info(w->ix).documents;
    value_table sources = {.bytes_allowed = w->memory_bytes / 8}, licences = {.bytes_allowed = w->memory_bytes / 8};
    reading r = {.w = w, .found = ft_alloc_array(BATCH, sizeof(found)), .code = ft_alloc_array(BATCH, sizeof(ft_code))};
    ft_code rc = r.found && r.code ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory to read metadata");
    if (!rc)
        rc = ft_arena_new(&sources.arena, 0, st);
    if (!rc)
        rc = ft_arena_new(&licences.arena, 0, st);
    for (; r.from < documents && !rc; r.from += r.count) {
        r.count = documents - r.from < BATCH ? documents - r.from : BATCH;
        rc = count_batch(&r, &sources, &licences, st);
        if (!rc)
            rc = ft_stat_report(w, "metadata", r.from + r.count, documents, "documents", st);
    }
    if (!rc)
        rc = report_values(w, &sources, &w->out->sources, st);
    if (!rc)
        rc = report_values(w, &licences, &w->out->licences, st);
    free(r.found);
    free(r.code);
    release_table(&sources);
    release_table(&licences);
    return rc;
}
