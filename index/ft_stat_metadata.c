/* Sources and licences. Documents are read by all threads, a batch at a time, and counted
 * in their order, so that which values find room does not depend on the threads. */
#include "index/ft_stat_internal.h"
#include "index/ft_stat_values.h"

#include <stdlib.h>
#include <string.h>

/* --- One document's values ------------------------------------------------------------- */

static void append_trimmed(ft_stat_text *out, const char *text)
{
    static const char blank[] = " \t\r\n";
    text += strspn(text, blank);
    size_t n = strlen(text);
    while (n > 0 && strchr(blank, text[n - 1]))
        n--;
    ft_stat_text_append(out, text, n);
}

static void take_text(const json_t *value, ft_stat_text *out)
{
    out->text[0] = '\0';
    if (json_is_string(value))
        append_trimmed(out, json_string_value(value));
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (json_is_string(item) && out->text[0])
            ft_stat_text_append(out, ", ", 2);
        if (json_is_string(item))
            append_trimmed(out, json_string_value(item));
    }
}

static void take_first(const json_t *object, const char *const *names, ft_stat_text *out)
{
    for (; *names && !out->text[0]; names++) {
        const json_t *value = ft_stat_member(object, *names);
        if (value && !strcmp(*names, "url"))
            ft_stat_host(value, out);
        else if (value)
            take_text(value, out);
    }
}

typedef struct found {
    ft_stat_text source, licence;
    int unreadable;
} found;

static ft_code read_values(const ft_doc_ref *doc, found *out, ft_status *st)
{
    static const char *const sources[] = {"source", "domain", "url", NULL};
    static const char *const licences[] = {"license", "licence", "rights", NULL};
    json_t *whole;
    out->source.text[0] = out->licence.text[0] = '\0';
    const ft_code rc = ft_stat_metadata(doc, &whole, &out->unreadable, st);
    const json_t *object = whole;
    for (unsigned level = 0; level <= FT_STAT_NESTED_AT_MOST && json_is_object(object); level++) {
        take_first(object, sources, &out->source);
        take_first(object, licences, &out->licence);
        object = ft_stat_member(object, "metadata");
    }
    json_decref(whole);
    return rc;
}

static int compare_values(const void *a, const void *b)
{
    const ft_stat_value *x = a, *y = b;
    if (x->documents != y->documents)
        return x->documents > y->documents ? -1 : 1;
    return strcmp(x->text, y->text);
}

static ft_code report_values(ft_stat_work *w, ft_stat_table *t, ft_stat_values *out, ft_status *st)
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

static ft_code count_batch(reading *r, ft_stat_table *sources, ft_stat_table *licences, ft_status *st)
{
    ft_pool_run(r->w->pool, (size_t)(r->count + TASK - 1) / TASK, read_task, r);
    ft_code rc = FT_OK;
    for (uint64_t i = 0; i < r->count && !rc; i++) {
        if (r->code[i])
            return ft_fail(st, r->code[i], "the metadata of document %llu: %s", (unsigned long long)(r->from + i),
                           ft_code_name(r->code[i]));
        const uint64_t tokens = r->w->lengths[r->from + i];
        r->w->out->unreadable_metadata += r->found[i].unreadable != 0;
        rc = ft_stat_count(sources, r->found[i].source.text, tokens, st);
        if (!rc)
            rc = ft_stat_count(licences, r->found[i].licence.text, tokens, st);
    }
    return rc;
}

ft_code ft_stat_read_metadata(ft_stat_work *w, ft_status *st)
{
    const uint64_t documents = ft_index_get_info(w->ix).documents;
    ft_stat_table sources = {0}, licences = {0};
    reading r = {.w = w, .found = ft_alloc_array(BATCH, sizeof(found)), .code = ft_alloc_array(BATCH, sizeof(ft_code))};
    ft_code rc = r.found && r.code ? FT_OK : ft_fail(st, FT_ERR_MEM, "no memory to read metadata");
    if (!rc)
        rc = ft_stat_table_init(&sources, w->memory_bytes / 8, st);
    if (!rc)
        rc = ft_stat_table_init(&licences, w->memory_bytes / 8, st);
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
    ft_stat_table_release(&sources);
    ft_stat_table_release(&licences);
    return rc;
}
