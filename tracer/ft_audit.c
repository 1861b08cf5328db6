#include "tracer/ft_audit.h"

#include "base/ft_buffer.h"
#include "tracer/store_internal.h"
#include "tracer/tracer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- Spans of a row ------------------------------------------------------------------------------------ */

static int holds_name(const json_t *names, const char *name)
{
    const json_t *v;
    size_t i;
    json_array_foreach(names, i, v)
    {
        if (json_is_string(v) && !strcmp(json_string_value(v), name))
            return 1;
    }
    return 0;
}

static int holds_document(const json_t *span, const char *document, const char *owner)
{
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(span, "documents"), i, v)
    {
        const char *id = json_string_value(json_object_get(v, "id"));
        const char *whose = json_string_value(json_object_get(v, "owner"));
        if (id && !strcmp(id, document) && (!owner || (whose && !strcmp(whose, owner))))
            return 1;
    }
    return 0;
}

static json_int_t span_tokens(const json_t *span)
{
    return json_integer_value(json_object_get(span, "end")) - json_integer_value(json_object_get(span, "start"));
}

static int owner_holds(const json_t *span, const char *owner)
{
    const json_t *v;
    size_t i;
    if (holds_name(json_object_get(span, "owners"), owner))
        return 1;
    json_array_foreach(json_object_get(span, "documents"), i, v)
    {
        const char *whose = json_string_value(json_object_get(v, "owner"));
        if (whose && !strcmp(whose, owner))
            return 1;
    }
    return 0;
}

static int keeps(const json_t *span, const ft_store_filter *f)
{
    const char *verdict = json_string_value(json_object_get(span, "verdict"));
    return span_tokens(span) >= (json_int_t)f->min_tokens &&
           (!f->verdict || (verdict && !strcmp(verdict, f->verdict))) && (!f->owner || owner_holds(span, f->owner)) &&
           (!f->document || holds_document(span, f->document, f->owner));
}

ft_code ft_audit_keep_spans(json_t *row, const ft_store_filter *filter, ft_status *st)
{
    json_t *spans = json_object_get(row, "spans"), *kept = json_array(), *span;
    json_int_t tokens = 0, longest = 0;
    size_t i;
    int failed = !kept;
    json_array_foreach(spans, i, span)
    {
        if (failed || !keeps(span, filter))
            continue;
        const json_int_t n = span_tokens(span);
        tokens += n;
        longest = n > longest ? n : longest;
        failed |= json_array_append(kept, span) != 0;
    }
    put(row, "matched",
        json_pack("{s:I,s:I,s:I}", "spans", (json_int_t)json_array_size(kept), "tokens", tokens, "longest", longest),
        &failed);
    put(row, "spans", kept, &failed);
    return failed ? ft_fail(st, FT_ERR_MEM, "audit: out of memory") : FT_OK;
}

/* --- The proof that an expert took no part ---------------------------------------------------------------- */

ft_code ft_audit_took_part(ft_store *s, const char *id, int expert, json_t **out, ft_status *st)
{
    ft_stored_routing r = {0};
    size_t chosen = 0;
    double weight = 0;
    *out = NULL;
    ft_code rc = ft_store_get_routing(s, id, &r, st);
    if (rc == FT_ERR_NOT_FOUND) {
        *out =
            json_pack("{s:i,s:n,s:n,s:n,s:n,s:n}", "expert", expert, "rows", "places", "chosen", "weight", "took_part");
        return *out ? FT_OK : ft_fail(st, FT_ERR_MEM, "audit: out of memory");
    }
    if (rc)
        return rc;
    const size_t places = r.view.tokens * r.view.layers, n = places * r.view.top_k;
    for (size_t i = 0; i < n; i++)
        if (r.view.expert_ids[i] == expert) {
            chosen++;
            weight += (double)r.view.weights[i];
        }
    *out = json_pack("{s:i,s:I,s:I,s:I,s:f,s:b}", "expert", expert, "rows", (json_int_t)r.view.tokens, "places",
                     (json_int_t)places, "chosen", (json_int_t)chosen, "weight", weight, "took_part", chosen > 0);
    ft_stored_routing_release(&r);
    return *out ? FT_OK : ft_fail(st, FT_ERR_MEM, "audit: out of memory");
}

/* --- Orders of opt-out ------------------------------------------------------------------------------------- */

ft_code ft_audit_optouts(ft_store *s, json_t **orders, ft_status *st)
{
    json_t *line = NULL;
    const ft_code rc = ft_store_logged(s, FT_OPTOUTS_LINE, &line, st);
    json_t *list = rc ? NULL : json_object_get(line, "orders");
    *orders = json_is_array(list) ? json_incref(list) : json_array();
    json_decref(line);
    return rc == FT_ERR_NOT_FOUND ? FT_OK : rc;
}

uint64_t ft_audit_optout_experts(const ft_trace_scope *scope, const json_t *orders)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < json_array_size(orders); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(orders, i), "owner"));
        const ft_owner *owner = name ? ft_trace_owner(scope, name) : NULL;
        if (owner && owner->expert >= 0)
            bits |= UINT64_C(1) << owner->expert;
    }
    return bits;
}

/* --- Usage ------------------------------------------------------------------------------------------------- */

typedef struct document_use {
    uint64_t document; /* hash; 0: a free slot */
    uint64_t spans, outputs, last_output;
    uint32_t longest;
    char example[FT_TRACE_ID]; /* a trace that names it */
} document_use;

typedef struct usage {
    span_wish wanted; /* of spans: the owner's and all else that was asked of them */
    int expert;
    uint64_t outputs, with_spans, spans, tokens, longest, opted_out, routed_tokens;
    double share; /* times tokens */
    uint64_t verdicts[6];
    document_use *table;
    size_t slots, used;
} usage;

static document_use *slot_of(document_use *table, size_t slots, uint64_t document)
{
    size_t i = document % slots;
    while (table[i].document && table[i].document != document)
        i = (i + 1) % slots;
    return &table[i];
}

static ft_code make_room(usage *u, ft_status *st)
{
    if (u->used * 2 < u->slots)
        return FT_OK;
    const size_t slots = u->slots ? u->slots * 2 : 1024;
    document_use *table = ft_alloc_array(slots, sizeof(*table));
    if (!table)
        return ft_fail(st, FT_ERR_MEM, "audit: no room for %zu documents", u->used);
    for (size_t i = 0; i < u->slots; i++)
        if (u->table[i].document)
            *slot_of(table, slots, u->table[i].document) = u->table[i];
    free(u->table);
    u->table = table;
    u->slots = slots;
    return FT_OK;
}

static ft_code count_document(usage *u, const summary_place *p, uint32_t tokens, const char *id, ft_status *st)
{
    const ft_code rc = make_room(u, st);
    if (rc)
        return rc;
    document_use *d = slot_of(u->table, u->slots, p->document);
    if (!d->document) {
        d->document = p->document;
        memcpy(d->example, id, FT_TRACE_ID);
        u->used++;
    }
    d->spans++;
    d->outputs += d->last_output != u->outputs;
    d->last_output = u->outputs;
    d->longest = tokens > d->longest ? tokens : d->longest;
    return FT_OK;
}

/* The documents of a span, of the owner alone where there is one, and that one alone which was asked for. */
static ft_code count_documents(usage *u, const summary *m, const summary_span *s, uint32_t tokens, const char *id,
                               ft_status *st)
{
    ft_code rc = FT_OK;
    for (uint32_t p = s->first_place; !rc && p < s->first_place + s->places; p++) {
        const summary_place *place = &m->places[p];
        const int named =
            !u->wanted.owner || (place->owner < m->head.owners && m->owners[place->owner] == u->wanted.owner);
        if (named && (!u->wanted.document || place->document == u->wanted.document))
            rc = count_document(u, place, tokens, id, st);
    }
    return rc;
}

static ft_code count_spans(usage *u, const summary *m, const char *id, ft_status *st)
{
    uint64_t spans = 0;
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < m->head.spans; i++) {
        const summary_span *s = &m->spans[i];
        if (!span_fits(&u->wanted, m, s))
            continue;
        const uint32_t n = s->end - s->start;
        spans++;
        u->tokens += n;
        u->longest = n > u->longest ? n : u->longest;
        if (s->verdict < 6)
            u->verdicts[s->verdict]++;
        rc = count_documents(u, m, s, n, id, st);
    }
    u->spans += spans;
    u->with_spans += spans > 0;
    return rc;
}

static ft_code use_trace(void *context, const char *id, const summary *m, MDB_val value, ft_status *st)
{
    usage *u = context;
    (void)value;
    u->outputs++;
    for (size_t i = 0; u->wanted.owner && i < m->head.without; i++)
        u->opted_out += m->without[i] == u->wanted.owner;
    double total = 0, own = 0;
    for (size_t i = 0; i < m->head.experts; i++) {
        total += (double)m->experts[i].share;
        if ((int)m->experts[i].id == u->expert)
            own = (double)m->experts[i].share;
    }
    if (total > 0) {
        u->share += own * m->head.tokens;
        u->routed_tokens += m->head.tokens;
    }
    return count_spans(u, m, id, st);
}

static int by_spans(const void *a, const void *b)
{
    const document_use *x = a, *y = b;
    if (x->spans != y->spans)
        return x->spans < y->spans ? 1 : -1;
    return x->document < y->document ? -1 : x->document > y->document;
}

/* The id that the hash is of, out of the example's row; null where that was deleted meanwhile. */
static json_t *document_name(ft_store *s, const document_use *d)
{
    json_t *trace = NULL, *name = NULL;
    const json_t *span, *doc;
    size_t i, k;
    ft_buffer text = {0};
    if (ft_store_get_text(s, d->example, &text, NULL) == FT_OK)
        (void)!ft_json_parse(&trace, text.data, text.size, d->example, NULL);
    json_array_foreach(json_object_get(trace, "spans"), i, span)
    {
        json_array_foreach(json_object_get(span, "docs"), k, doc)
        {
            const char *id = json_string_value(json_object_get(doc, "id"));
            if (!name && id && summary_hash(id) == d->document)
                name = json_string(id);
        }
    }
    json_decref(trace);
    ft_buffer_release(&text);
    return name ? name : json_null();
}

static json_t *documents_json(ft_store *s, usage *u, size_t most)
{
    json_t *list = json_array();
    size_t n = 0;
    for (size_t i = 0; i < u->slots; i++)
        if (u->table[i].document)
            u->table[n++] = u->table[i];
    if (n)
        qsort(u->table, n, sizeof(*u->table), by_spans);
    for (size_t i = 0; i < n && i < most; i++)
        (void)json_array_append_new(list,
                                    json_pack("{s:o,s:I,s:I,s:I}", "id", document_name(s, &u->table[i]), "spans",
                                              (json_int_t)u->table[i].spans, "outputs", (json_int_t)u->table[i].outputs,
                                              "longest", (json_int_t)u->table[i].longest));
    return list;
}

json_t *audit_time(uint64_t ms)
{
    char text[32];
    struct tm utc;
    const time_t seconds = (time_t)(ms / 1000);
    if (!ms || !gmtime_r(&seconds, &utc) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc))
        return json_null();
    return json_string(text);
}

static int digits(const char *text, size_t n, int low, int high, int *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        *out = 10 * *out + (text[i] - '0');
    }
    return *out >= low && *out <= high;
}

/* "Z", "+hh:mm" or "-hh:mm"; *seconds east of Greenwich. */
static int read_offset(const char *text, long *seconds)
{
    int hours, minutes;
    *seconds = 0;
    if (!strcmp(text, "Z"))
        return 1;
    if ((*text != '+' && *text != '-') || strlen(text) != 6 || text[3] != ':' || !digits(text + 1, 2, 0, 23, &hours) ||
        !digits(text + 4, 2, 0, 59, &minutes))
        return 0;
    *seconds = (*text == '-' ? -1L : 1L) * (hours * 3600L + minutes * 60L);
    return 1;
}

ft_code ft_audit_time_read(const char *text, uint64_t *ms, ft_status *st)
{
    struct tm t = {0};
    int fraction = 0;
    long offset = 0;
    const size_t n = strlen(text);
    int good = n >= 10 && text[4] == '-' && text[7] == '-' && digits(text, 4, 1970, 9999, &t.tm_year) &&
               digits(text + 5, 2, 1, 12, &t.tm_mon) && digits(text + 8, 2, 1, 31, &t.tm_mday);
    if (good && n > 10) {
        good = n >= 20 && text[10] == 'T' && text[13] == ':' && text[16] == ':' &&
               digits(text + 11, 2, 0, 23, &t.tm_hour) && digits(text + 14, 2, 0, 59, &t.tm_min) &&
               digits(text + 17, 2, 0, 60, &t.tm_sec);
        const char *rest = good ? text + 19 : "";
        if (good && *rest == '.') {
            const size_t places = strspn(rest + 1, "0123456789");
            for (size_t i = 0; i < 3; i++)
                fraction = 10 * fraction + (i < places ? rest[1 + i] - '0' : 0);
            good = places > 0;
            rest += 1 + places;
        }
        good = good && read_offset(rest, &offset);
    }
    if (!good)
        return ft_fail(st, FT_ERR_ARG, "'%.40s' is no time: write 2026-01-31T12:00:00Z, or a day, 2026-01-31", text);
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    const long long seconds = (long long)timegm(&t) - offset;
    *ms = seconds < 0 ? 0 : (uint64_t)seconds * 1000 + (uint64_t)fraction;
    return FT_OK;
}

uint64_t audit_now_ms(void)
{
    return store_now_ms();
}

/* What was asked beyond owner and time, by HTTP's names. */
static json_t *asked_json(const ft_store_filter *f)
{
    const struct {
        const char *name, *value;
    } texts[] = {{"document", f->document}, {"verdict", f->verdict}, {"key", f->key},
                 {"without", f->without},   {"model", f->model},     {"q", f->text}};
    json_t *out = json_object();
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (texts[i].value)
            (void)json_object_set_new(out, texts[i].name, ft_json_text(texts[i].value, strlen(texts[i].value)));
    if (f->min_tokens)
        (void)json_object_set_new(out, "min_tokens", json_integer(f->min_tokens));
    if (f->expert >= 0)
        (void)json_object_set_new(out, "expert", json_integer(f->expert));
    if (f->expert >= 0 && f->min_share > 0)
        (void)json_object_set_new(out, "min_share", json_real(f->min_share));
    return out;
}

static json_t *usage_json(ft_store *s, usage *u, const ft_store_filter *f, size_t most)
{
    static const char *const names[] = {"not given", "verbatim", "influenced", "shared", "public", "none"};
    json_t *verdicts = json_object();
    for (size_t i = 0; i < 6; i++)
        (void)json_object_set_new(verdicts, names[i], json_size(u->verdicts[i]));
    return json_pack("{s:s?,s:o,s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:I,s:{s:o,s:I}}", "owner", f->owner,
                     "expert", u->expert < 0 ? json_null() : json_integer(u->expert), "from", audit_time(f->from_ms),
                     "to", audit_time(f->to_ms), "filters", asked_json(f), "outputs", (json_int_t)u->outputs,
                     "outputs_with_spans", (json_int_t)u->with_spans, "spans", (json_int_t)u->spans, "tokens",
                     (json_int_t)u->tokens, "longest", (json_int_t)u->longest, "opted_out",
                     f->owner ? json_size(u->opted_out) : json_null(), "verdicts", verdicts, "documents",
                     documents_json(s, u, most), "distinct_documents", (json_int_t)u->used, "routing", "share",
                     u->routed_tokens && u->expert >= 0 ? json_real(u->share / (double)u->routed_tokens) : json_null(),
                     "tokens", (json_int_t)u->routed_tokens);
}

/* What is asked of spans says which are counted; all else, of which outputs. */
ft_code ft_audit_usage(ft_store *s, const ft_store_filter *filter, int expert, size_t most, json_t **out, ft_status *st)
{
    ft_store_filter outputs = *filter;
    outputs.owner = outputs.document = outputs.verdict = NULL;
    outputs.min_tokens = 0;
    usage u = {.wanted = span_wish_of(filter), .expert = expert};
    *out = NULL;
    if (!filter->owner && !filter->document)
        return ft_fail(st, FT_ERR_ARG, "a report of usage is of one owner, or of one document");
    ft_code rc = store_walk_summaries(s, &outputs, use_trace, &u, st);
    if (!rc) {
        *out = usage_json(s, &u, filter, most);
        if (!*out)
            rc = ft_fail(st, FT_ERR_MEM, "audit: out of memory");
    }
    free(u.table);
    return rc;
}
