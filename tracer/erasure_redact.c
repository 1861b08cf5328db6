/* One trace without what it repeats of erased documents. */
#define _GNU_SOURCE /* memmem */
#include "base/ft_buffer.h"
#include "base/ft_utf8.h"
#include "tracer/erasure_internal.h"
#include "tracer/tracer_internal.h"

#include <stdlib.h>
#include <string.h>

/* What has to go: a span, or another stretch of response or prompt. */
typedef struct needle {
    size_t start, end; /* tokens of the response; of the prompt's none */
    char *text;        /* NULL: no text */
    size_t text_bytes;
    uint32_t *ids; /* [count]; NULL: not known */
    size_t count;
} needle;

typedef struct redaction {
    const erased *what;
    needle *needles;
    size_t count, capacity;
    int failed;
} redaction;

static int is_erased_document(const json_t *v, const ft_erasure *e)
{
    const char *owner = json_string_value(json_object_get(v, "owner")),
               *id = json_string_value(json_object_get(v, "id"));
    if (!owner || !id || strcmp(owner, e->owner) != 0)
        return 0;
    for (size_t i = 0; i < e->document_count; i++)
        if (!strcmp(id, e->documents[i]))
            return 1;
    return 0;
}

static int stands_in(const erased_text *text, const uint32_t *ids, size_t n)
{
    for (size_t at = 0; n && at + n <= text->count; at++)
        if (text->ids[at] == ids[0] && memcmp(text->ids + at, ids, n * sizeof(*ids)) == 0)
            return 1;
    return 0;
}

static int cites(const json_t *span, const ft_erasure *e)
{
    const json_t *doc;
    size_t i;
    json_array_foreach(json_object_get(span, "docs"), i, doc)
    {
        if (is_erased_document(doc, e))
            return 1;
    }
    return 0;
}

/* Copies the response's ids [start, end); NULL where they are not all there (redacted before). */
static uint32_t *ids_of(redaction *r, const json_t *response, size_t start, size_t end)
{
    const json_t *ids = json_object_get(response, "ids");
    if (start >= end || end > json_array_size(ids))
        return NULL;
    uint32_t *out = ft_alloc_array(end - start, sizeof(*out));
    r->failed |= !out;
    for (size_t i = start; out && i < end; i++) {
        const json_t *v = json_array_get(ids, i);
        if (!json_is_integer(v)) {
            free(out);
            return NULL;
        }
        out[i - start] = (uint32_t)json_integer_value(v);
    }
    return out;
}

static int owner_is_named(const json_t *span, const char *owner)
{
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(span, "owners"), i, v)
    {
        if (json_is_string(v) && !strcmp(json_string_value(v), owner))
            return 1;
    }
    return 0;
}

/* Takes n.ids; the text is copied, for what it was read from is masked. */
static ft_code add_needle(redaction *r, needle n, const char *text, size_t bytes, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&r->needles, &r->capacity, r->count + 1, sizeof(*r->needles), st);
    if (!text)
        bytes = 0;
    if (!rc && bytes) {
        n.text = malloc(bytes);
        rc = n.text ? FT_OK : ft_fail(st, FT_ERR_MEM, "redaction: out of memory");
    }
    if (rc) {
        free(n.ids);
        return rc;
    }
    if (bytes)
        memcpy(n.text, text, bytes);
    n.text_bytes = bytes;
    r->needles[r->count++] = n;
    return FT_OK;
}

static ft_code find_spans(redaction *r, const json_t *trace, ft_status *st)
{
    const json_t *response = json_object_get(trace, "response"), *span;
    const ft_erasure *e = r->what->e;
    size_t i;
    ft_code rc = FT_OK;
    json_array_foreach(json_object_get(trace, "spans"), i, span)
    {
        needle n = {.start = (size_t)json_integer_value(json_object_get(span, "start")),
                    .end = (size_t)json_integer_value(json_object_get(span, "end"))};
        const json_t *text = json_object_get(span, "text");
        if (rc || n.end <= n.start || n.end - n.start < e->min_tokens)
            continue;
        n.count = n.end - n.start;
        n.ids = ids_of(r, response, n.start, n.end);
        int hit = cites(span, e);
        for (size_t t = 0; !hit && n.ids && owner_is_named(span, e->owner) && t < r->what->count; t++)
            hit = stands_in(&r->what->texts[t], n.ids, n.count);
        if (hit)
            rc = add_needle(r, n, json_string_value(text), json_string_length(text), st);
        else
            free(n.ids);
    }
    return rc;
}

/* Those that were redacted before are no token's. */
static uint32_t *all_ids(const json_t *part, size_t *count)
{
    const json_t *ids = json_object_get(part, "ids");
    *count = json_array_size(ids);
    uint32_t *out = ft_alloc_array(*count, sizeof(*out));
    for (size_t i = 0; out && i < *count; i++) {
        const json_t *v = json_array_get(ids, i);
        out[i] = json_is_integer(v) ? (uint32_t)json_integer_value(v) : UINT32_MAX;
    }
    return out;
}

static int is_covered(const redaction *r, size_t start, size_t end)
{
    for (size_t i = 0; start < end && i < r->count; i++)
        if (r->needles[i].start <= start && start < r->needles[i].end) {
            start = r->needles[i].end;
            i = SIZE_MAX; /* from the first again: they are in no order */
        }
    return start >= end;
}

/* A stretch's text, without the halves of characters at its ends. */
static ft_code add_run(redaction *r, const uint32_t *ids, size_t start, size_t end, int in_prompt, ft_status *st)
{
    static const char half[] = "\xEF\xBF\xBD";
    ft_buffer text = {0};
    size_t from = 0;
    needle n = {.start = in_prompt ? 0 : start, .end = in_prompt ? 0 : end, .count = end - start};
    n.ids = ft_alloc_array(n.count, sizeof(*n.ids));
    ft_code rc = n.ids ? FT_OK : ft_fail(st, FT_ERR_MEM, "redaction: out of memory");
    if (!rc)
        memcpy(n.ids, ids + start, n.count * sizeof(*n.ids));
    if (!rc && r->what->tokenizer)
        rc = ft_tokenizer_decode(r->what->tokenizer, n.ids, n.count, 0, &text, st);
    while (!rc && text.size >= from + 3 && !memcmp(text.data + from, half, 3))
        from += 3;
    while (!rc && text.size >= from + 3 && !memcmp(text.data + text.size - 3, half, 3))
        text.size -= 3;
    if (rc)
        free(n.ids);
    else
        rc = add_needle(r, n, text.data ? text.data + from : NULL, text.size - from, st);
    ft_buffer_release(&text);
    return rc;
}

/* What the spans leave of the response, and the prompt. */
static ft_code find_runs(redaction *r, const json_t *trace, int in_prompt, ft_status *st)
{
    size_t count, start, end;
    uint32_t *ids = all_ids(json_object_get(trace, in_prompt ? "prompt" : "response"), &count);
    ft_code rc = ids ? FT_OK : ft_fail(st, FT_ERR_MEM, "redaction: out of memory");
    for (size_t from = 0; !rc && erased_next_run(r->what, ids, count, from, &start, &end); from = end)
        if (in_prompt || !is_covered(r, start, end))
            rc = add_run(r, ids, start, end, in_prompt, st);
    free(ids);
    return rc;
}

/* --- Masks -------------------------------------------------------------------------------------------- */

/* Each character by one of as many bytes: offsets in bytes and in characters stay. */
static void mask(char *bytes, size_t n)
{
    static const char *const masks[] = {"", "*", "\xC2\xB7", "\xE2\x96\x88", "\xF0\x9F\x9F\xA5"};
    for (size_t at = 0; at < n;) {
        const ft_utf8_step step = ft_utf8_next(bytes + at, n - at);
        const size_t length = step.length && step.length <= 4 && at + step.length <= n ? step.length : 1;
        memcpy(bytes + at, masks[length], length);
        at += length;
    }
}

/* The string with every needle masked; NULL: it holds none (or memory is out: then r->failed). */
static json_t *masked(redaction *r, const json_t *v)
{
    const size_t n = json_string_length(v);
    const char *from = json_string_value(v);
    char *copy = NULL;
    for (size_t i = 0; i < r->count; i++) {
        const needle *one = &r->needles[i];
        for (const char *at = from; one->text && (at = memmem(at, n - (size_t)(at - from), one->text, one->text_bytes));
             at++) {
            if (!copy) {
                copy = malloc(n);
                if (!copy) {
                    r->failed = 1;
                    return NULL;
                }
                memcpy(copy, from, n);
            }
            /* Over the copy as it was: masks keep the bounds of characters. */
            mask(copy + (at - from), one->text_bytes);
        }
    }
    json_t *out = copy ? json_stringn(copy, n) : NULL;
    r->failed |= copy && !out;
    free(copy);
    return out;
}

/* Runs of ids in a list of them become null: all are looked for before one goes, for they overlap. */
static void mask_ids(redaction *r, json_t *list)
{
    const size_t n = json_array_size(list);
    uint8_t *gone = ft_alloc_array(n, 1);
    r->failed |= !gone;
    for (size_t i = 0; gone && i < r->count; i++) {
        const needle *one = &r->needles[i];
        for (size_t at = 0; one->ids && at + one->count <= n; at++) {
            size_t k = 0;
            while (k < one->count && json_is_integer(json_array_get(list, at + k)) &&
                   json_integer_value(json_array_get(list, at + k)) == (json_int_t)one->ids[k])
                k++;
            if (k == one->count)
                memset(gone + at, 1, k);
        }
    }
    for (size_t i = 0; gone && i < n; i++)
        if (gone[i])
            r->failed |= json_array_set_new(list, i, json_null()) != 0;
    free(gone);
}

static int overlaps(const redaction *r, const json_t *v)
{
    const json_t *start = json_object_get(v, "start"), *end = json_object_get(v, "end");
    for (size_t i = 0; json_is_integer(start) && json_is_integer(end) && i < r->count; i++)
        if ((size_t)json_integer_value(start) < r->needles[i].end &&
            (size_t)json_integer_value(end) > r->needles[i].start)
            return 1;
    return 0;
}

/* Of an erased document only whose it was, and the numbers: whatever else a trace says of one, now or later, goes. */
static void strip_document(redaction *r, json_t *v)
{
    const char *key;
    json_t *member;
    void *next;
    json_object_foreach_safe(v, next, key, member)
    {
        const int kept = !strcmp(key, "owner") || !strcmp(key, "relevance") || !strcmp(key, "spans") ||
                         (json_is_number(member) && strcmp(key, "document") != 0);
        if (!kept)
            r->failed |= json_object_set_new(v, key, json_null()) != 0;
    }
    r->failed |= json_object_set_new(v, "redacted", json_true()) != 0;
}

/* Everything below; nesting is bounded by what the JSON reader takes. */
static void scrub(redaction *r, json_t *v)
{
    const char *key;
    json_t *child;
    size_t i;
    if (json_is_object(v)) {
        void *next;
        if (is_erased_document(v, r->what->e))
            strip_document(r, v);
        if (json_object_get(v, "text") && overlaps(r, v)) {
            r->failed |= json_object_set_new(v, "text", json_null()) != 0;
            r->failed |= json_object_set_new(v, "redacted", json_true()) != 0;
        }
        json_object_foreach_safe(v, next, key, child)
        {
            json_t *changed = json_is_string(child) ? masked(r, child) : NULL;
            if (changed)
                r->failed |= json_object_set_new(v, key, changed) != 0;
            else if (json_is_array(child) && !strcmp(key, "ids"))
                mask_ids(r, child);
            else
                scrub(r, child);
        }
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, child)
        {
            json_t *changed = json_is_string(child) ? masked(r, child) : NULL;
            if (changed)
                r->failed |= json_array_set_new(v, i, changed) != 0;
            else
                scrub(r, child);
        }
    }
}

static size_t mask_tokens(redaction *r, json_t *trace)
{
    json_t *tokens = json_object_get(trace, "tokens"), *token;
    size_t i, n = 0;
    json_array_foreach(tokens, i, token)
    {
        int inside = 0;
        for (size_t k = 0; k < r->count; k++)
            inside |= i >= r->needles[k].start && i < r->needles[k].end;
        if (!inside)
            continue;
        n++;
        r->failed |= json_object_set_new(token, "id", json_null()) != 0;
        r->failed |= json_object_set_new(token, "text", json_null()) != 0;
        r->failed |= json_object_set_new(token, "redacted", json_true()) != 0;
    }
    return n;
}

static int cites_at_all(const json_t *trace, const ft_erasure *e)
{
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(trace, "documents"), i, v)
    {
        if (is_erased_document(v, e))
            return 1;
    }
    json_array_foreach(json_object_get(trace, "spans"), i, v)
    {
        if (cites(v, e))
            return 1;
    }
    return 0;
}

ft_code redact_trace(json_t *trace, const erased *what, size_t *spans, size_t *tokens, ft_status *st)
{
    redaction r = {.what = what};
    *spans = *tokens = 0;
    ft_code rc = find_spans(&r, trace, st);
    for (int in_prompt = 0; !rc && in_prompt < 2; in_prompt++)
        rc = find_runs(&r, trace, in_prompt, st);
    if (!rc && (r.count || cites_at_all(trace, what->e))) {
        *spans = r.count ? r.count : 1; /* a citation of a span that was too short to redact */
        *tokens = mask_tokens(&r, trace);
        scrub(&r, trace);
        put(trace, "redacted", audit_time(audit_now_ms()), &r.failed);
    }
    if (!rc && r.failed)
        rc = ft_fail(st, FT_ERR_MEM, "redaction: out of memory");
    for (size_t i = 0; i < r.count; i++) {
        free(r.needles[i].text);
        free(r.needles[i].ids);
    }
    free(r.needles);
    return rc;
}
