#include "index/ft_origins.h"

#include "index/ft_stat_values.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct ft_origins {
    ft_stat_table domains;
    int listed; /* sorted: what found a value by its place finds it no more */
};

ft_code ft_origins_new(ft_origins **out, uint64_t memory_bytes, ft_status *st)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return ft_fail(st, FT_ERR_MEM, "no memory for domain names");
    const ft_code rc = ft_stat_table_init(&(*out)->domains, memory_bytes, st);
    if (rc) {
        ft_origins_free(*out);
        *out = NULL;
    }
    return rc;
}

void ft_origins_free(ft_origins *o)
{
    if (o)
        ft_stat_table_release(&o->domains);
    free(o);
}

/* --- One document ------------------------------------------------------------------------- */

typedef struct origin {
    ft_stat_text domain;
    char collected[11], dated[11];
} origin;

/* What is in a URL's place, or stands as a name, need not be one: it has a dot inside and none of what a name lacks. */
static int is_domain(const char *name)
{
    const size_t n = strlen(name);
    const char *dot = strchr(name, '.');
    if (!dot || dot == name || name[n - 1] == '.' || strstr(name, ".."))
        return 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)name[i];
        if (!(c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
            return 0;
    }
    return 1;
}

static void take_domain(const json_t *object, ft_stat_text *out)
{
    static const char *const names[] = {"url", "uri", "domain", "source"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !out->text[0]; i++) {
        const json_t *value = ft_stat_member(object, names[i]);
        const char *text = json_string_value(value);
        if (!text || (i == 3 && !strstr(text, "://")))
            continue;
        ft_stat_host(value, out);
        if (!strncmp(out->text, "www.", 4) && is_domain(out->text + 4))
            memmove(out->text, out->text + 4, strlen(out->text + 4) + 1);
        if (!is_domain(out->text))
            out->text[0] = '\0';
    }
}

/* "2026-01-31" and whatever stands behind it. */
static int is_date(const char *text)
{
    static const char form[] = "dddd-dd-dd";
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return 0;
    const int month = 10 * (text[5] - '0') + text[6] - '0', day = 10 * (text[8] - '0') + text[9] - '0';
    return month >= 1 && month <= 12 && day >= 1 && day <= 31 && !(text[10] >= '0' && text[10] <= '9');
}

static void take_date(const json_t *object, const char *const *names, const char *today, char out[11])
{
    for (; *names && !out[0]; names++) {
        const char *text = json_string_value(ft_stat_member(object, *names));
        if (text && is_date(text) && (!today || strncmp(text, today, 10) <= 0)) {
            memcpy(out, text, 10);
            out[10] = '\0';
        }
    }
}

static ft_code read_origin(const ft_doc_ref *doc, const char *today, int domains, origin *out, int *unreadable,
                           ft_status *st)
{
    static const char *const collected[] = {
        "added",         "collected",     "crawled",   "crawl_date", "crawl_timestamp",
        "date_download", "download_date", "fetched",   "fetched_at", "retrieved",
        "retrieved_at",  "accessed",      "warc_date", "timestamp",  NULL};
    static const char *const dated[] = {"date", "created", "published", NULL};
    json_t *whole;
    out->domain.text[0] = out->collected[0] = out->dated[0] = '\0';
    const ft_code rc = ft_stat_metadata(doc, &whole, unreadable, st);
    const json_t *object = whole;
    for (unsigned level = 0; level <= FT_STAT_NESTED_AT_MOST && json_is_object(object); level++) {
        if (domains)
            take_domain(object, &out->domain);
        take_date(object, collected, today, out->collected);
        take_date(object, dated, today, out->dated);
        object = ft_stat_member(object, "metadata");
    }
    json_decref(whole);
    return rc;
}

/* --- All ---------------------------------------------------------------------------------- */

static void add_date(ft_origin_dates *to, const char *date)
{
    if (!date[0])
        return;
    if (!to->documents || strcmp(date, to->first) < 0)
        memcpy(to->first, date, sizeof(to->first));
    if (!to->documents || strcmp(date, to->last) > 0)
        memcpy(to->last, date, sizeof(to->last));
    to->documents++;
}

ft_code ft_origins_read(ft_origins *o, const ft_index *ix, const ft_origins_options *options, ft_origins_seen *seen,
                        ft_status *st)
{
    enum { ROUND = 4096 };
    const uint64_t documents = ft_index_get_info(ix).documents, step = options->step ? options->step : 1;
    ft_code rc = FT_OK;
    assert(!o || !o->listed);
    for (uint64_t i = 0, n = 0; i < documents && !rc; i += step, n++) {
        ft_doc_ref doc;
        origin found;
        int unreadable;
        if (n % ROUND == 0 && ft_progress_report(options->progress, "metadata", i, documents, "documents"))
            return ft_fail(st, FT_ERR_CANCELLED, "reading of metadata was stopped");
        rc = ft_index_document(ix, i, &doc, st);
        if (!rc)
            rc = read_origin(&doc, options->today, o != NULL, &found, &unreadable, st);
        if (!rc && o)
            rc = ft_stat_count(&o->domains, found.domain.text, doc.length, st);
        if (rc)
            break;
        seen->read++;
        seen->unreadable += unreadable != 0;
        add_date(&seen->collected, found.collected);
        add_date(&seen->dated, found.dated);
    }
    return rc;
}

static int compare_domains(const void *a, const void *b)
{
    const ft_stat_value *x = a, *y = b;
    if (x->tokens != y->tokens)
        return x->tokens > y->tokens ? -1 : 1;
    return strcmp(x->text, y->text);
}

ft_origins_domains ft_origins_list(ft_origins *o)
{
    ft_stat_table *t = &o->domains;
    if (t->count && !o->listed)
        qsort(t->values, t->count, sizeof(*t->values), compare_domains);
    o->listed = 1;
    return (ft_origins_domains){.list = t->values, .count = t->count, .rest = t->rest, .none = t->none};
}
