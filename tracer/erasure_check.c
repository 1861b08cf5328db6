/* What is left of documents that were taken down: every place that a program of ours can look into, and those that none
 * can reach. */
#include "base/ft_buffer.h"
#include "index/ft_index_update.h"
#include "tracer/erasure_internal.h"
#include "tracer/ft_audit.h"
#include "tracer/tracer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From best to worst: the whole is what its worst part is. */
typedef enum rest { REST_CLEAN, REST_UNKNOWN, REST_HIDDEN, REST_LEFT } rest;

static json_t *rest_json(rest r)
{
    static const char *const names[] = {"clean", "unknown", "hidden", "left"};
    return json_string(names[r]);
}

enum { MOST_NAMED = 100, MOST_EXPORTS = 1000 };

typedef struct checker {
    ft_federation *f;
    ft_store *s;
    const json_t *certificate, *outputs;
    uint64_t accepted_ms;
    ft_erasure order; /* as the certificate has it; its ids are borrowed */
    const char **ids;
    erased what; /* tokens of the documents, as far as a file still has them */
    const ft_index *index;
    json_t *cite;  /* set of outputs, {id: true} */
    int repeating; /* the walk is of all outputs: those that repeat no words are not parsed */
    json_int_t visible;
    rest worst;
    int failed;
} checker;

static ft_code no_room(ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "erasure: out of memory");
}

static void checker_release(checker *c)
{
    erased_release(&c->what);
    free(c->ids);
    json_decref(c->cite);
}

static uint64_t time_at(const json_t *v, const char *name)
{
    uint64_t ms = 0;
    const char *text = json_string_value(json_object_get(v, name));
    return text && ft_audit_time_read(text, &ms, NULL) == FT_OK ? ms : 0;
}

static int is_named(const json_t *v, const char *name, const char *value)
{
    const char *text = json_string_value(json_object_get(v, name));
    return text && !strcmp(text, value);
}

static ft_code read_certificate(checker *c, ft_status *st)
{
    const json_t *documents = json_object_get(c->certificate, "documents"), *one;
    size_t i;
    c->order.owner = json_string_value(json_object_get(c->certificate, "owner"));
    c->order.min_tokens = (uint32_t)json_integer_value(json_object_get(c->certificate, "min_tokens"));
    c->order.policy = FT_ERASE_LIST;
    c->outputs = json_object_get(c->certificate, "outputs");
    c->accepted_ms = time_at(c->certificate, "accepted");
    c->what = (erased){.e = &c->order, .tokenizer = ft_federation_tokenizer(c->f)};
    if (!c->order.owner)
        return ft_fail(st, FT_ERR_FORMAT, "the certificate names no owner");
    c->cite = json_object();
    c->ids = ft_alloc_array(json_array_size(documents), sizeof(*c->ids));
    if (!c->ids || !c->cite)
        return no_room(st);
    json_array_foreach(documents, i, one)
    {
        const char *id = json_string_value(json_object_get(one, "id"));
        if (id)
            c->ids[c->order.document_count++] = id;
    }
    c->order.documents = c->ids;
    return FT_OK;
}

/* --- The indexes -------------------------------------------------------------------------------------------------- */

static ft_code keep_tokens(void *context, const ft_doc_ref *doc, ft_status *st)
{
    checker *c = context;
    return ft_erased_add(&c->what, c->index, doc, st);
}

static ft_code pass_over(void *context, const ft_doc_ref *doc, ft_status *st)
{
    (void)context, (void)doc, (void)st;
    return FT_OK;
}

/* Of one index as it lies on the disk, whatever serves. `mine`: it is the owner's. */
typedef struct looked {
    uint64_t visible, removed, tokens, unnamed;
    json_t *documents; /* [{"id", "visible", "removed"}] of those that are there */
} looked;

static ft_code look_into(checker *c, const char *folder, int mine, looked *out, ft_status *st)
{
    ft_index *ix = NULL;
    ft_code rc = ft_index_open(&ix, folder, st);
    c->index = ix;
    for (size_t i = 0; !rc && i < c->order.document_count; i++) {
        uint64_t visible = 0, removed = 0;
        const size_t before = c->what.count;
        ft_document_visit *visit = mine ? keep_tokens : pass_over;
        rc = ft_index_documents_by_id(ix, c->ids[i], visit, c, &visible, st);
        if (!rc && mine)
            rc = ft_index_removed_by_id(ix, c->ids[i], visit, c, &removed, st);
        for (size_t k = before + (size_t)visible; k < c->what.count; k++)
            out->tokens += c->what.texts[k].count;
        out->visible += visible;
        out->removed += removed;
        if (!rc && (visible || removed) && json_array_size(out->documents) < MOST_NAMED)
            c->failed |= json_array_append_new(out->documents,
                                               json_pack("{s:s,s:I,s:I}", "id", c->ids[i], "visible",
                                                         (json_int_t)visible, "removed", (json_int_t)removed)) != 0;
    }
    ft_index_close(ix);
    return rc || !mine ? rc : ft_index_unnamed_bytes(folder, &out->unnamed, st);
}

/* `folder` NULL: there is no index. */
static ft_code add_unknown(checker *c, const char *owner, const char *folder, const char *why, json_t *list,
                           ft_status *st)
{
    c->worst = c->worst > REST_UNKNOWN ? c->worst : REST_UNKNOWN;
    json_t *row = json_pack("{s:s,s:s?,s:o,s:o,s:s}", "owner", owner, "index", folder, "verdict",
                            rest_json(REST_UNKNOWN), "checked", audit_time(audit_now_ms()), "why", why);
    return json_array_append_new(list, row) ? no_room(st) : FT_OK;
}

/* Another owner's document of the same id is its own: it is told, and does not count. */
static ft_code check_index(checker *c, const char *owner, const char *folder, json_t *list, ft_status *st)
{
    const int mine = !strcmp(owner, c->order.owner);
    looked l = {.documents = json_array()};
    json_t *verdict, *row;
    const int without_ids = ft_index_is_infinigram(folder);
    const ft_code rc = without_ids ? FT_OK : look_into(c, folder, mine, &l, st);
    if (without_ids || rc == FT_ERR_FORMAT || rc == FT_ERR_IO || rc == FT_ERR_NOT_FOUND) {
        json_decref(l.documents);
        return mine ? add_unknown(c, owner, folder,
                                  without_ids ? "an infini-gram folder has no ids to look for, and cannot be changed"
                                              : "the index cannot be read; `flextrace index verify` says why",
                                  list, st)
                    : FT_OK;
    }
    const rest r = l.visible ? REST_LEFT : l.removed || l.unnamed ? REST_HIDDEN : REST_CLEAN;
    if (rc || (!mine && !l.visible)) {
        json_decref(l.documents);
        return rc;
    }
    if (mine) {
        c->worst = c->worst > r ? c->worst : r;
        c->visible += (json_int_t)l.visible;
        verdict = rest_json(r);
    } else {
        verdict = json_string("other");
    }
    row = json_pack("{s:s,s:s,s:o,s:o,s:I,s:I,s:I,s:I,s:o}", "owner", owner, "index", folder, "verdict", verdict,
                    "checked", audit_time(audit_now_ms()), "visible", (json_int_t)l.visible, "removed",
                    (json_int_t)l.removed, "removed_tokens", (json_int_t)l.tokens, "unnamed_bytes",
                    (json_int_t)l.unnamed, "documents", l.documents);
    return json_array_append_new(list, row) ? no_room(st) : FT_OK;
}

static ft_code check_indexes(checker *c, const ft_trace_scope *scope, json_t *list, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t o = 0; !rc && o < scope->owner_count; o++) {
        const char *owner = scope->owners[o].name, *folder;
        for (size_t i = 0; !rc && (folder = ft_federation_index_folder(c->f, owner, i)) != NULL; i++)
            rc = check_index(c, owner, folder, list, st);
    }
    if (!rc && !ft_trace_owner(scope, c->order.owner))
        rc = add_unknown(c, c->order.owner, NULL, "this federation has no owner of that name any more", list, st);
    return rc;
}

/* What queries see: an older state of an index may be in service where the newest cannot be opened. */
static void check_served(checker *c, const ft_trace_scope *scope, json_t *caches)
{
    uint64_t n = 0;
    const ft_owner *o = ft_trace_owner(scope, c->order.owner);
    for (size_t i = 0; o && i < o->index_count; i++)
        for (size_t k = 0; k < c->order.document_count; k++) {
            ft_doc_ref doc;
            n += ft_index_document_by_id(o->indexes[i], c->ids[k], &doc, NULL) == FT_OK;
        }
    if (n)
        c->worst = REST_LEFT;
    c->failed |= json_array_append_new(caches, json_pack("{s:s,s:o,s:o,s:I}", "what", "indexes in service", "verdict",
                                                         rest_json(n ? REST_LEFT : REST_CLEAN), "checked",
                                                         audit_time(audit_now_ms()), "visible", (json_int_t)n)) != 0;
}

/* --- The store ---------------------------------------------------------------------------------------------------- */

static ft_code note_citing(void *context, const char *id, json_t *row, ft_status *st)
{
    checker *c = context;
    (void)row;
    return json_object_set_new(c->cite, id, json_true()) ? no_room(st) : FT_OK;
}

/* The stored trace; *trace NULL where it was deleted, or where only those that repeat words are wanted and it has none. */
static ft_code read_trace(const checker *c, const char *id, int repeating, json_t **trace, ft_status *st)
{
    ft_buffer text = {0};
    int wanted = 1;
    *trace = NULL;
    ft_code rc = ft_store_get_text(c->s, id, &text, st);
    if (!rc && repeating)
        rc = erased_repeated(&c->what, &text, &wanted, st);
    if (!rc && wanted)
        rc = ft_json_parse(trace, text.data, text.size, id, st);
    ft_buffer_release(&text);
    return rc == FT_ERR_NOT_FOUND ? FT_OK : rc;
}

/* Whether a takedown now would find something in it: the trace that is read here is redacted, and dropped. */
static ft_code compare_one(void *context, const char *id, json_t *row, ft_status *st)
{
    checker *c = context;
    json_t *trace;
    size_t spans = 0, tokens = 0;
    ft_code rc = read_trace(c, id, c->repeating, &trace, st);
    if (!rc && trace)
        rc = redact_trace(trace, &c->what, &spans, &tokens, st);
    if (!rc && spans)
        rc = note_citing(c, id, row, st);
    json_decref(trace);
    return rc;
}

/* Outputs that the certificate names, are still there, and were not redacted since. */
static ft_code count_unredacted(const checker *c, json_int_t *out, ft_status *st)
{
    const json_t *one;
    size_t i;
    *out = 0;
    json_array_foreach(c->outputs, i, one)
    {
        json_t *trace;
        const char *id = json_string_value(json_object_get(one, "id"));
        const ft_code rc = id ? read_trace(c, id, 0, &trace, st) : FT_OK;
        if (rc || !id) {
            if (rc == FT_ERR_ARG || !id)
                continue; /* no id of a trace */
            return rc;
        }
        *out += trace && time_at(trace, "redacted") < c->accepted_ms;
        json_decref(trace);
    }
    return FT_OK;
}

/* Whether the store's file was written anew after this takedown had changed it: by itself, or by what came later in the
 * log, another takedown or `audit compact`. */
static ft_code was_compacted(const checker *c, int *yes, ft_status *st)
{
    static const char *const kinds[] = {"takedown", "compact"};
    const char *id = json_string_value(json_object_get(c->certificate, "id"));
    json_int_t own = 0; /* the certificate's line; 0: not found yet */
    ft_code rc = FT_OK;
    *yes = !json_is_null(json_object_get(c->certificate, "erased")) || !json_array_size(c->outputs);
    for (size_t k = 0; !rc && !*yes && k < 2; k++)
        for (uint64_t from = 1; !rc && from && !*yes;) {
            json_t *lines = NULL;
            const json_t *line;
            size_t i;
            const ft_log_query ask = {.from = from, .from_ms = c->accepted_ms, .prefix = kinds[k], .limit = 100};
            rc = ft_store_read_log(c->s, &ask, &lines, &from, st);
            json_array_foreach(lines, i, line)
            {
                const json_t *other = json_object_get(line, "certificate");
                const json_int_t seq = json_integer_value(json_object_get(line, "seq"));
                if (!k && id && is_named(other, "id", id))
                    own = seq;
                else if (own && seq > own)
                    *yes |=
                        k || (json_is_string(json_object_get(other, "erased")) && !is_named(other, "policy", "list"));
            }
            json_decref(lines);
        }
    return rc;
}

/* The first of a set, as a list. */
static json_t *first_of(json_t *set)
{
    json_t *list = json_array(), *ignored;
    const char *id;
    json_object_foreach(set, id, ignored)
    {
        if (json_array_size(list) < MOST_NAMED)
            (void)json_array_append_new(list, json_string(id));
    }
    return list;
}

static ft_code check_store(checker *c, json_t **out, ft_status *st)
{
    json_int_t unredacted = 0;
    int compacted = 1;
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < c->order.document_count; i++) {
        ft_store_filter filter = ft_store_filter_all();
        filter.owner = c->order.owner;
        filter.document = c->ids[i];
        rc = ft_store_walk(c->s, &filter, 0, note_citing, c, st);
    }
    if (!rc && c->what.count) { /* their words are known: an output may hold them and cite others */
        const ft_store_filter all = ft_store_filter_all();
        ft_store_filter of_owner = all;
        of_owner.owner = c->order.owner;
        rc = erased_prepare(&c->what, st);
        if (!rc)
            rc = ft_store_walk(c->s, &of_owner, 0, compare_one, c, st);
        c->repeating = 1;
        if (!rc && c->what.run_count)
            rc = ft_store_walk(c->s, &all, 0, compare_one, c, st);
    }
    if (!rc)
        rc = count_unredacted(c, &unredacted, st);
    const int changed = !is_named(c->certificate, "policy", "list");
    if (!rc && changed)
        rc = was_compacted(c, &compacted, st);
    if (rc)
        return rc;
    const json_int_t cite = (json_int_t)json_object_size(c->cite);
    const rest r = cite || unredacted ? REST_LEFT : compacted ? REST_CLEAN : REST_HIDDEN;
    c->worst = c->worst > r ? c->worst : r;
    *out = json_pack("{s:o,s:o,s:I,s:o,s:I,s:b,s:b}", "verdict", rest_json(r), "checked", audit_time(audit_now_ms()),
                     "outputs", cite, "first", first_of(c->cite), "named_and_unredacted", unredacted, "words_compared",
                     c->what.count > 0, "compacted", compacted);
    return *out ? FT_OK : no_room(st);
}

/* --- What left the house ------------------------------------------------------------------------------------------ */

typedef struct left_house {
    const checker *c;
    uint64_t before_ms; /* 0: until now */
    json_t *ends;       /* {request: its line "export.end"} */
    json_t *named;      /* set of the takedown's outputs */
    json_t *list;
    json_int_t count, reads, receipts;
} left_house;

/* How many of the takedown's outputs were there and fit the export's time. What had been deleted by the time of the
 * takedown is not known to it. */
static json_int_t outputs_in(const left_house *h, const json_t *line)
{
    const json_t *parameters = json_object_get(line, "parameters"), *one;
    const uint64_t from = time_at(parameters, "from"), to = time_at(parameters, "to"), when = time_at(line, "time");
    json_int_t n = 0;
    size_t i;
    json_array_foreach(h->c->outputs, i, one)
    {
        uint64_t made;
        const char *id = json_string_value(json_object_get(one, "id"));
        n += id && ft_trace_id_time(id, &made) && made <= when && made >= from && (!to || made < to);
    }
    return n;
}

/* "/v1/traces/ID", "/v1/traces/ID/receipt". */
static int is_of_the_outputs(const left_house *h, const json_t *line)
{
    const char *path = json_string_value(json_object_get(line, "path")), *at = path ? strstr(path, "/trc_") : NULL;
    char id[FT_TRACE_ID];
    if (!at)
        return 0;
    snprintf(id, sizeof(id), "%.30s", at + 1);
    return json_object_get(h->named, id) != NULL;
}

static ft_code take_line(left_house *h, const json_t *line, ft_status *st)
{
    const char *what = json_string_value(json_object_get(line, "what")),
               *request = json_string_value(json_object_get(line, "request"));
    if (!strcmp(what, "export.end"))
        return request && json_object_set(h->ends, request, (json_t *)(uintptr_t)line) ? no_room(st) : FT_OK;
    if (!strcmp(what, "trace.read"))
        h->reads += is_of_the_outputs(h, line);
    if (!strcmp(what, "receipt.read"))
        h->receipts += is_of_the_outputs(h, line);
    if (strcmp(what, "compliance.export") != 0 && strcmp(what, "export") != 0)
        return FT_OK;
    h->count++;
    if (json_array_size(h->list) == MOST_EXPORTS)
        return FT_OK;
    const json_t *end = request ? json_object_get(h->ends, request) : NULL;
    json_t *row = json_pack("{s:O?,s:O?,s:O?,s:s,s:O?,s:O?,s:O?,s:O?,s:I}", "seq", json_object_get(line, "seq"), "time",
                            json_object_get(line, "time"), "who", json_object_get(line, "who"), "by",
                            what[0] == 'c' ? "http" : "command line", "request", json_object_get(line, "request"),
                            "parameters", json_object_get(line, "parameters"), "exported",
                            json_object_get(end, "exported"), "complete", json_object_get(end, "complete"), "outputs",
                            outputs_in(h, line));
    return json_array_append_new(h->list, row) ? no_room(st) : FT_OK;
}

/* Ends before beginnings, so that each export is told with what became of it. */
static ft_code read_lines(left_house *h, const char *prefix, uint64_t to_ms, ft_status *st)
{
    ft_code rc = FT_OK;
    for (uint64_t from = 1; !rc && from;) {
        json_t *lines = NULL;
        const json_t *line;
        size_t i;
        const ft_log_query ask = {.from = from, .to_ms = to_ms, .prefix = prefix, .limit = 1000};
        rc = ft_store_read_log(h->c->s, &ask, &lines, &from, st);
        json_array_foreach(lines, i, line)
        {
            if (!rc && json_is_string(json_object_get(line, "what")))
                rc = take_line(h, line, st);
        }
        json_decref(lines);
    }
    return rc;
}

static ft_code read_house(left_house *h, ft_status *st)
{
    /* `redacted` is a whole second, rounded down: an export in that second may have come before. */
    const uint64_t redacted = time_at(h->c->certificate, "redacted");
    const json_t *one;
    size_t i;
    ft_code rc = FT_OK;
    h->before_ms = redacted ? redacted + 1000 : 0;
    json_array_foreach(h->c->outputs, i, one)
    {
        const char *id = json_string_value(json_object_get(one, "id"));
        if (id && json_object_set_new(h->named, id, json_true()))
            rc = no_room(st);
    }
    if (!rc)
        rc = read_lines(h, "export.end", 0, st);
    if (!rc)
        rc = read_lines(h, "compliance.export", h->before_ms, st);
    if (!rc)
        rc = read_lines(h, "export", h->before_ms, st);
    if (!rc)
        rc = read_lines(h, "trace.read", h->before_ms, st);
    return rc ? rc : read_lines(h, "receipt.read", h->before_ms, st);
}

static json_t *exports_json(const left_house *h)
{
    return json_pack("{s:s,s:o,s:o,s:I,s:O}", "verdict", h->count ? "not reached" : "clean", "checked",
                     audit_time(audit_now_ms()), "before", audit_time(h->before_ms), "count", h->count, "data",
                     h->list);
}

static json_t *not_reached_json(const left_house *h)
{
    static const char *const others[] = {"trained weights", "copies of indexes and store made before, backups too",
                                         "documents of other owners with the same words"};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        (void)json_array_append_new(list, json_pack("{s:s,s:s,s:n}", "what", others[i], "verdict", "not reached",
                                                    "count"));
    (void)json_array_append_new(list, json_pack("{s:s,s:s,s:I}", "what", "receipts handed out of these outputs",
                                                "verdict", h->receipts ? "not reached" : "clean", "count",
                                                h->receipts));
    (void)json_array_append_new(list, json_pack("{s:s,s:s,s:I}", "what", "readings of these outputs", "verdict",
                                                h->reads ? "not reached" : "clean", "count", h->reads));
    return list;
}

/* --- Together ----------------------------------------------------------------------------------------------------- */

static ft_code check_all(checker *c, left_house *h, json_t *indexes, json_t *caches, json_t **store, ft_status *st)
{
    ft_code rc = read_certificate(c, st);
    if (rc)
        return rc;
    ft_federation_refresh(c->f, NULL, NULL);
    ft_snapshot *now = ft_federation_snapshot(c->f);
    rc = check_indexes(c, ft_snapshot_scope(now), indexes, st);
    if (!rc)
        check_served(c, ft_snapshot_scope(now), caches);
    ft_snapshot_release(now);
    if (!rc)
        rc = check_store(c, store, st);
    return rc ? rc : read_house(h, st);
}

ft_code ft_erasure_check(ft_federation *f, ft_store *s, const json_t *certificate, json_t **out, ft_status *st)
{
    checker c = {.f = f, .s = s, .certificate = certificate};
    left_house h = {.c = &c, .ends = json_object(), .named = json_object(), .list = json_array()};
    json_t *indexes = json_array(), *caches = json_array(), *store = NULL;
    *out = NULL;
    ft_code rc = h.ends && h.named && h.list && indexes && caches ? FT_OK : no_room(st);
    if (!rc)
        rc = check_all(&c, &h, indexes, caches, &store, st);
    if (!rc && !c.failed)
        *out = json_pack("{s:s,s:O?,s:O?,s:o,s:o,s:b,s:I,s:I,s:O,s:O,s:O,s:o,s:o}", "object", "takedown.check", "id",
                         json_object_get(certificate, "id"), "owner", json_object_get(certificate, "owner"), "checked",
                         audit_time(audit_now_ms()), "verdict", rest_json(c.worst), "clean", c.worst == REST_CLEAN,
                         "documents_in_indexes", c.visible, "outputs_that_cite",
                         (json_int_t)json_object_size(c.cite), "indexes", indexes, "store", store, "caches", caches,
                         "exports", exports_json(&h), "not_reached", not_reached_json(&h));
    json_decref(indexes);
    json_decref(caches);
    json_decref(store);
    json_decref(h.ends);
    json_decref(h.named);
    json_decref(h.list);
    checker_release(&c);
    return rc || *out ? rc : no_room(st);
}

/* --- Certificates in the log -------------------------------------------------------------------------------------- */

ft_code ft_erasure_find(ft_store *s, const char *id, json_t **certificate, ft_status *st)
{
    json_t *named = NULL;
    ft_code rc = FT_OK;
    *certificate = NULL;
    if (id[0] && ft_store_logged(s, id, &named, NULL) == FT_OK)
        *certificate = json_incref(json_object_get(named, "certificate"));
    json_decref(named);
    for (uint64_t from = 1; !rc && from && !*certificate;) { /* certificates of earlier versions have no name */
        json_t *lines = NULL;
        const json_t *line;
        size_t i;
        const ft_log_query ask = {.from = from, .prefix = "takedown", .limit = 100};
        rc = ft_store_read_log(s, &ask, &lines, &from, st);
        json_array_foreach(lines, i, line)
        {
            json_t *c = json_object_get(line, "certificate");
            if (!*certificate && is_named(c, "id", id))
                *certificate = json_incref(c);
        }
        json_decref(lines);
    }
    if (!rc && !*certificate)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "there is no takedown '%.80s'", id);
    return rc;
}
