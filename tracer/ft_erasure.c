#include "tracer/ft_erasure.h"

#include "base/ft_buffer.h"
#include "index/ft_index_update.h"
#include "tracer/erasure_internal.h"
#include "tracer/ft_retention.h"
#include "tracer/tracer_internal.h"

#include <stdlib.h>
#include <string.h>

ft_code ft_erasure_policy_read(const char *name, ft_erasure_policy *out, ft_status *st)
{
    static const char *const names[] = {"redact", "delete", "list"};
    for (size_t i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) {
            *out = (ft_erasure_policy)i;
            return FT_OK;
        }
    return ft_fail(st, FT_ERR_ARG, "a policy is 'redact', 'delete' or 'list', not '%.40s'", name);
}

static const char *policy_name(ft_erasure_policy p)
{
    return p == FT_ERASE_REDACT ? "redact" : p == FT_ERASE_DELETE ? "delete" : "list";
}

typedef struct worker {
    ft_federation *f;
    ft_store *s;
    const ft_erasure *e;
    erased what;
    uint64_t *found, *tokens;         /* of each document */
    json_t *indexes, *outputs, *told; /* told: a set of the outputs' ids, NULL in the first walk */
    const ft_index *index;            /* what `collect` reads */
    ft_index_removal *removal;
    size_t number;
} worker;

static void worker_release(worker *w)
{
    erased_release(&w->what);
    free(w->found);
    free(w->tokens);
    json_decref(w->indexes);
    json_decref(w->outputs);
    json_decref(w->told);
}

static ft_code no_room(ft_status *st)
{
    return ft_fail(st, FT_ERR_MEM, "erasure: out of memory");
}

static ft_code step(const ft_erasure *e, const char *phase, uint64_t number, ft_status *st)
{
    return ft_progress_report(e->progress, phase, number, FT_ERASURE_STEPS, "steps")
               ? ft_fail(st, FT_ERR_CANCELLED, "erasure: stopped; the same request again does the rest")
               : FT_OK;
}

/* --- The indexes ---------------------------------------------------------------------------------------- */

ft_code ft_erased_add(erased *what, const ft_index *index, const ft_doc_ref *doc, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&what->texts, &what->capacity, what->count + 1, sizeof(*what->texts), st);
    if (rc)
        return rc;
    erased_text *t = &what->texts[what->count];
    *t = (erased_text){.ids = ft_alloc_array((size_t)doc->length, sizeof(*t->ids))};
    if (!t->ids)
        return no_room(st);
    what->count++;
    ft_index_document_tokens(index, doc, 0, (size_t)doc->length, t->ids, &t->count);
    return FT_OK;
}

/* Keeps the document's tokens, and marks it for removal. */
static ft_code collect(void *context, const ft_doc_ref *doc, ft_status *st)
{
    worker *w = context;
    ft_code rc = ft_erased_add(&w->what, w->index, doc, st);
    if (rc)
        return rc;
    w->found[w->number]++;
    w->tokens[w->number] += w->what.texts[w->what.count - 1].count;
    return w->removal ? ft_index_removal_add(w->removal, doc, st) : FT_OK;
}

/* All of the owner's documents with these ids in one index. */
static ft_code collect_all(worker *w, ft_status *st)
{
    ft_code rc = FT_OK;
    for (w->number = 0; !rc && w->number < w->e->document_count; w->number++) {
        uint64_t how_many;
        rc = ft_index_documents_by_id(w->index, w->e->documents[w->number], collect, w, &how_many, st);
    }
    return rc;
}

static void root_hex(const char *folder, char hex[FT_DIGEST_HEX])
{
    ft_index *ix;
    hex[0] = '\0';
    if (ft_index_open(&ix, folder, NULL) == FT_OK) {
        const ft_index_info info = ft_index_get_info(ix);
        ft_digest_hex(&info.root, hex);
        ft_index_close(ix);
    }
}

static ft_code remove_from(worker *w, const char *folder, ft_status *st)
{
    char before[FT_DIGEST_HEX], after[FT_DIGEST_HEX];
    ft_index_removal_report report = {0};
    if (ft_index_is_infinigram(folder)) /* nothing can be taken out of those */
        return json_array_append_new(w->indexes, json_pack("{s:s,s:i,s:s}", "index", folder, "documents", 0, "kept",
                                                           "an infini-gram folder cannot be changed"))
                   ? no_room(st)
                   : FT_OK;
    root_hex(folder, before);
    ft_code rc = ft_index_removal_begin(&w->removal, folder, 0, st);
    if (!rc) {
        w->index = ft_index_removal_index(w->removal);
        rc = collect_all(w, st);
    }
    if (!rc)
        rc = ft_index_removal_commit(w->removal, &report, st);
    ft_index_removal_end(w->removal);
    w->removal = NULL;
    if (rc)
        return rc;
    root_hex(folder, after);
    return json_array_append_new(w->indexes,
                                 json_pack("{s:s,s:I,s:s,s:s}", "index", folder, "documents",
                                           (json_int_t)report.documents, "root_before", before, "root_after", after))
               ? no_room(st)
               : FT_OK;
}

static ft_code remove_all(worker *w, ft_status *st)
{
    ft_code rc = FT_OK;
    const char *folder;
    for (size_t i = 0; !rc && (folder = ft_federation_index_folder(w->f, w->e->owner, i)) != NULL; i++)
        rc = remove_from(w, folder, st);
    if (!rc)
        ft_federation_refresh(w->f, NULL, NULL);
    return rc;
}

/* Of one index's compaction the step alone is told. */
static int in_compaction(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    const ft_erasure *e = context;
    (void)phase, (void)done, (void)total, (void)unit;
    return ft_progress_report(e->progress, "compact", 2, FT_ERASURE_STEPS, "steps");
}

static ft_code compact_all(const worker *w, ft_status *st)
{
    const ft_progress progress = {in_compaction, (void *)(uintptr_t)w->e};
    ft_code rc = step(w->e, "compact", 2, st);
    const char *folder;
    for (size_t i = 0; !rc && (folder = ft_federation_index_folder(w->f, w->e->owner, i)) != NULL; i++)
        if (!ft_index_is_infinigram(folder))
            rc = ft_index_compact(folder, &(ft_index_compact_options){.progress = progress}, NULL, st);
    ft_federation_refresh(w->f, NULL, NULL);
    if (!rc && w->s && w->e->policy != FT_ERASE_LIST)
        rc = ft_store_compact(w->s, st);
    return rc;
}

/* --- The store --------------------------------------------------------------------------------------------- */

static ft_code redact_one(void *context, const char *id, json_t *row, ft_status *st)
{
    worker *w = context;
    json_t *trace = NULL;
    ft_buffer text = {0};
    size_t spans = 0, tokens = 0;
    int wanted = 1;
    (void)row;
    ft_code rc = step(w->e, "redact", 1, st);
    if (!rc && w->told && json_object_get(w->told, id))
        return FT_OK;
    if (!rc)
        rc = ft_store_get_text(w->s, id, &text, st);
    if (rc == FT_ERR_NOT_FOUND) /* deleted meanwhile */
        return FT_OK;
    if (!rc && w->told)
        rc = erased_repeated(&w->what, &text, &wanted, st);
    if (!rc && wanted)
        rc = ft_json_parse(&trace, text.data, text.size, id, st);
    if (!rc && wanted)
        rc = redact_trace(trace, &w->what, &spans, &tokens, st);
    if (!rc && spans) {
        if (w->e->policy == FT_ERASE_REDACT)
            rc = ft_store_redact(w->s, id, trace, st);
        else if (w->e->policy == FT_ERASE_DELETE)
            rc = ft_store_remove(w->s, id, st);
        if (!rc && json_array_append_new(w->outputs, json_pack("{s:s,s:I,s:I}", "id", id, "spans", (json_int_t)spans,
                                                               "tokens", (json_int_t)tokens)))
            rc = no_room(st);
    }
    json_decref(trace);
    ft_buffer_release(&text);
    return rc;
}

static ft_code redact_all(worker *w, ft_status *st)
{
    const ft_store_filter all = ft_store_filter_all();
    ft_store_filter of_owner = all;
    const json_t *one;
    size_t i;
    of_owner.owner = w->e->owner;
    ft_code rc = erased_prepare(&w->what, st);
    if (!rc && w->s)
        rc = ft_store_walk(w->s, &of_owner, 0, redact_one, w, st);
    if (rc || !w->s || !w->what.run_count)
        return rc;
    /* Words may be repeated where no span of the owner was kept. */
    w->told = json_object();
    int failed = !w->told;
    json_array_foreach(w->outputs, i, one)
    {
        failed |= json_object_set_new(w->told, json_string_value(json_object_get(one, "id")), json_true()) != 0;
    }
    return failed ? no_room(st) : ft_store_walk(w->s, &all, 0, redact_one, w, st);
}

/* --- The certificate ---------------------------------------------------------------------------------------- */

static void takedown_id(char out[FT_TRACE_ID])
{
    ft_trace_id_new(out);
    for (size_t i = 0; i < 4; i++)
        out[i] = "tkd_"[i];
}

static json_t *documents_json(const worker *w)
{
    json_t *list = json_array();
    for (size_t i = 0; i < w->e->document_count; i++)
        (void)json_array_append_new(list, json_pack("{s:s,s:I,s:I}", "id", w->e->documents[i], "found",
                                                    (json_int_t)w->found[i], "tokens", (json_int_t)w->tokens[i]));
    return list;
}

static int anything(const worker *w)
{
    uint64_t all = json_array_size(w->outputs);
    for (size_t i = 0; i < w->e->document_count; i++)
        all += w->found[i];
    return all > 0;
}

typedef struct times {
    uint64_t accepted, hidden, redacted, erased;
} times;

static ft_code certify(const worker *w, const times *t, json_t **out, ft_status *st)
{
    char id[FT_TRACE_ID];
    takedown_id(id);
    *out = json_pack("{s:s,s:s,s:s,s:o,s:s?,s:s,s:I,s:o,s:o,s:o,s:o,s:O,s:O,s:[s,s,s]}", "object", "takedown", "id", id,
                     "owner", w->e->owner, "documents", documents_json(w), "reason", w->e->reason, "policy",
                     policy_name(w->e->policy), "min_tokens", (json_int_t)(w->e->min_tokens ? w->e->min_tokens : 1),
                     "accepted", audit_time(t->accepted), "hidden", audit_time(t->hidden), "redacted",
                     audit_time(t->redacted), "erased", audit_time(t->erased), "indexes", w->indexes, "outputs",
                     w->outputs, "does_not_reach", "trained weights", "receipts already handed out",
                     "copies and exports made before");
    if (!*out)
        return no_room(st);
    return w->s ? ft_store_log_as(w->s, id, w->e->who ? w->e->who : "local", "takedown",
                                  json_pack("{s:O}", "certificate", *out), st)
                : FT_OK;
}

ft_code ft_erase(ft_federation *f, ft_store *s, const ft_erasure *e, json_t **certificate, ft_status *st)
{
    worker w = {.f = f,
                .s = s,
                .e = e,
                .what = {.e = e, .tokenizer = ft_federation_tokenizer(f)},
                .indexes = json_array(),
                .outputs = json_array()};
    times t = {.accepted = audit_now_ms()};
    *certificate = NULL;
    ft_snapshot *now = ft_federation_snapshot(f);
    ft_code rc = ft_trace_owner(ft_snapshot_scope(now), e->owner)
                     ? FT_OK
                     : ft_fail(st, FT_ERR_ARG, "there is no owner '%.200s'", e->owner);
    ft_snapshot_release(now);
    if (!rc)
        rc = ft_retention_permits(f, s, e, st);
    if (!rc)
        rc = step(e, "remove", 0, st);
    w.found = ft_alloc_array(e->document_count, sizeof(*w.found));
    w.tokens = ft_alloc_array(e->document_count, sizeof(*w.tokens));
    if (!rc && (!w.found || !w.tokens || !w.indexes || !w.outputs))
        rc = no_room(st);
    if (!rc)
        rc = remove_all(&w, st);
    t.hidden = audit_now_ms();
    if (!rc)
        rc = redact_all(&w, st);
    if (!rc && !anything(&w))
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "no index of '%.200s' has any of these documents, and no output cites one",
                     e->owner);
    if (e->policy != FT_ERASE_LIST && s)
        t.redacted = audit_now_ms();
    if (!rc && e->compact) {
        rc = compact_all(&w, st);
        t.erased = audit_now_ms();
    }
    if (!rc) {
        (void)ft_progress_report(e->progress, "certify", 3, FT_ERASURE_STEPS, "steps"); /* all is done: not stopped */
        rc = certify(&w, &t, certificate, st);
    }
    if (rc) {
        json_decref(*certificate);
        *certificate = NULL;
    }
    worker_release(&w);
    return rc;
}
