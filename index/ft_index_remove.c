/* Takedown. */
#include "index/ft_index_remove.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "index/ft_index_update.h"
#include "index/ft_part.h"
#include "index/ft_removed_write.h"

#include <inttypes.h>
#include <stdlib.h>

/* --- Lists ------------------------------------------------------------------------------- */

ft_code ft_removal_list_add_number(ft_removal_list *l, size_t segment, uint64_t number, ft_status *st)
{
    ft_code rc = ft_array_grow((void **)&l->list, &l->capacity, l->count + 1, sizeof(*l->list), st);
    if (!rc)
        l->list[l->count++] = (ft_removal){segment, number};
    return rc;
}

ft_code ft_removal_list_add(ft_removal_list *l, const ft_index *ix, const ft_doc_ref *doc, ft_status *st)
{
    if (doc->part >= ix->part_count || ix->info.is_infinigram)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: documents are removed from indexes of ours alone", ix->folder);
    uint64_t number;
    ft_code rc = ft_part_document_at(&ix->parts[doc->part], doc->start, &number, st);
    return rc ? rc : ft_removal_list_add_number(l, doc->part, number, st);
}

void ft_removal_list_release(ft_removal_list *l)
{
    free(l->list);
    *l = (ft_removal_list){0};
}

static int compare_removals(const void *a, const void *b)
{
    const ft_removal *x = a, *y = b;
    if (x->segment != y->segment)
        return x->segment < y->segment ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void sort_list(ft_removal_list *l)
{
    size_t kept = 0;
    if (l->count)
        qsort(l->list, l->count, sizeof(*l->list), compare_removals);
    for (size_t i = 0; i < l->count; i++)
        if (!kept || compare_removals(&l->list[kept - 1], &l->list[i]) != 0)
            l->list[kept++] = l->list[i];
    l->count = kept;
}

/* --- Applying ------------------------------------------------------------------------------ */

static void file_name(const ft_manifest_segment *s, ft_section_kind kind, uint64_t generation, char *name)
{
    char section[FT_SECTION_NAME_MAX];
    ft_section_name(kind, generation, section);
    snprintf(name, FT_NAME_MAX, "%.30s/%.32s", s->name, section);
}

/* Numbers that were removed before and those of list[0..count), rising; both rise. */
static uint64_t *join(const ft_part *p, const ft_removal *list, size_t count, size_t *joined, ft_status *st)
{
    const ft_numbers *old = &p->removed_documents;
    uint64_t *all = ft_alloc_array((size_t)old->count + count, sizeof(*all));
    if (!all) {
        (void)ft_fail(st, FT_ERR_MEM, "%s: out of memory", p->folder);
        return NULL;
    }
    size_t n = 0, i = 0;
    for (uint64_t k = 0; k < old->count || i < count;) {
        const uint64_t before = k < old->count ? ft_packed_get(old->packed, old->bits, k) : UINT64_MAX;
        const uint64_t now = i < count ? list[i].number : UINT64_MAX;
        all[n++] = before < now ? before : now;
        k += before <= now;
        i += now <= before;
    }
    *joined = n;
    return all;
}

static ft_code apply_to_segment(ft_index_change *c, size_t segment, const ft_removal *list, size_t count, ft_status *st)
{
    ft_manifest *m = &c->manifest;
    ft_manifest_segment *s = &m->segments[segment];
    ft_part part = {0};
    size_t joined = 0;
    uint64_t *numbers = NULL, tokens = 0;
    char *folder = ft_path_join(c->folder, s->name), name[FT_NAME_MAX];
    ft_code rc = folder ? ft_part_open_segment(&part, folder, m->vocab_size, s->removed, st)
                        : ft_fail(st, FT_ERR_MEM, "%s: out of memory", c->folder);
    if (!rc && !(numbers = join(&part, list, count, &joined, st)))
        rc = FT_ERR_MEM;
    if (!rc && joined > s->removed_documents)
        rc = ft_removed_write(folder, m->generation, &part, numbers, joined, c->pool, &tokens, st);
    if (!rc && joined > s->removed_documents) {
        for (ft_section_kind k = FT_SECTION_REMOVED_DOCUMENTS; k < FT_SECTION_KINDS && !rc; k++) {
            if (s->removed) {
                file_name(s, k, s->removed, name);
                ft_index_change_drop_file(c, name);
            }
            file_name(s, k, m->generation, name);
            rc = ft_manifest_add_file(m, c->folder, name, c->pool, st);
        }
        s->removed = m->generation;
        s->removed_documents = joined;
        s->removed_tokens = tokens;
    }
    free(numbers);
    ft_part_close(&part);
    free(folder);
    return rc;
}

ft_code ft_removal_list_apply(ft_removal_list *l, ft_index_change *c, ft_status *st)
{
    ft_code rc = FT_OK;
    sort_list(l);
    for (size_t from = 0; from < l->count && !rc;) {
        size_t to = from + 1;
        while (to < l->count && l->list[to].segment == l->list[from].segment)
            to++;
        rc = apply_to_segment(c, l->list[from].segment, l->list + from, to - from, st);
        from = to;
    }
    return rc;
}

/* --- A removal by itself --------------------------------------------------------------------- */

struct ft_index_removal {
    ft_index_change change;
    ft_pool *pool;
    ft_index *ix;
    ft_removal_list list;
};

ft_code ft_index_removal_begin(ft_index_removal **out, const char *folder, unsigned threads, ft_status *st)
{
    *out = NULL;
    ft_index_removal *r = calloc(1, sizeof(*r));
    if (!r)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    r->change.lock = -1;
    ft_code rc = ft_pool_new(&r->pool, threads, st);
    if (!rc)
        rc = ft_index_change_begin(&r->change, folder, r->pool, st);
    if (!rc)
        rc = ft_index_open(&r->ix, folder, st);
    if (rc) {
        ft_index_removal_end(r);
        return rc;
    }
    *out = r;
    return FT_OK;
}

const ft_index *ft_index_removal_index(const ft_index_removal *r)
{
    return r->ix;
}

ft_code ft_index_removal_add(ft_index_removal *r, const ft_doc_ref *doc, ft_status *st)
{
    return ft_removal_list_add(&r->list, r->ix, doc, st);
}

static void add_removed(const ft_manifest *m, ft_index_removal_report *report)
{
    *report = (ft_index_removal_report){0};
    for (size_t i = 0; i < m->segment_count; i++) {
        report->documents += m->segments[i].removed_documents;
        report->tokens += m->segments[i].removed_tokens;
    }
}

ft_code ft_index_removal_commit(ft_index_removal *r, ft_index_removal_report *report, ft_status *st)
{
    ft_index_removal_report before, after;
    add_removed(&r->change.manifest, &before);
    ft_code rc = ft_removal_list_apply(&r->list, &r->change, st);
    add_removed(&r->change.manifest, &after);
    if (!rc && after.documents > before.documents)
        rc = ft_index_change_commit(&r->change, st);
    if (!rc && report)
        *report = (ft_index_removal_report){after.documents - before.documents, after.tokens - before.tokens};
    return rc;
}

void ft_index_removal_end(ft_index_removal *r)
{
    if (!r)
        return;
    ft_index_close(r->ix);
    ft_removal_list_release(&r->list);
    ft_index_change_end(&r->change);
    ft_pool_free(r->pool);
    free(r);
}
