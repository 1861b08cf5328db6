/* Compaction: the documents that are left are copied, in order, to the text of a new
 * segment, and the suffix arrays of the old ones merged over it. */
#include "index/ft_index_update.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "index/ft_index_change.h"
#include "index/ft_part.h"
#include "index/ft_segment_source.h"
#include "text/ft_tokenizer.h"

#include <stdlib.h>

enum { COPY_TOKENS = 1 << 20 };

typedef struct compaction {
    const ft_index_compact_options *options;
    ft_index_change change;
    ft_pool *pool;
    ft_index *ix;
    char *folder; /* of the new segment */
    ft_spool spool;
    uint64_t *bases; /* [parts] where each part's documents begin in the new text */
    uint32_t *copied;
    size_t copied_count;
    uint64_t done;
} compaction;

/* --- Copying --------------------------------------------------------------------------- */

static ft_code flush_copied(compaction *c, ft_status *st)
{
    ft_code rc = ft_spool_tokens(&c->spool, c->copied, c->copied_count, st);
    c->done += c->copied_count;
    c->copied_count = 0;
    if (!rc && ft_progress_report(&c->options->progress, "copy", c->done, c->ix->info.tokens + c->ix->info.documents,
                                  "tokens"))
        rc = ft_fail(st, FT_ERR_CANCELLED, "%s: stopped", c->change.folder);
    return rc;
}

static ft_code copy_document(compaction *c, const ft_part *p, const ft_doc_ref *d, ft_status *st)
{
    ft_code rc = ft_spool_document(&c->spool, c->done + c->copied_count, d->id, d->metadata, 0, st);
    for (uint64_t i = 0; i <= d->length && !rc; i++) { /* its end too, which reads as FT_END_TOKEN */
        c->copied[c->copied_count++] = ft_part_token(p, d->start + i);
        if (c->copied_count == COPY_TOKENS)
            rc = flush_copied(c, st);
    }
    return rc;
}

static ft_code copy_part(compaction *c, unsigned part, ft_status *st)
{
    const ft_part *p = &c->ix->parts[part];
    c->bases[part] = c->done + c->copied_count;
    ft_code rc = FT_OK;
    for (uint64_t i = 0; i < p->documents && !rc; i++) {
        ft_doc_ref d;
        if (ft_part_document_is_removed(p, i))
            continue;
        rc = ft_part_document(p, i, &d, st);
        if (!rc)
            rc = copy_document(c, p, &d, st);
    }
    return rc;
}

/* Bytes of the text of documents that are removed, as their tokens spell it. */
static ft_code removed_text_bytes(const compaction *c, uint64_t *out, ft_status *st)
{
    *out = 0;
    if (!c->ix->tokenizer || !c->ix->info.removed_documents)
        return FT_OK;
    ft_tokenizer *t;
    ft_code rc = ft_tokenizer_open(&t, c->ix->tokenizer, st);
    if (rc)
        return rc;
    for (unsigned k = 0; k < c->ix->part_count && !rc; k++) {
        const ft_part *p = &c->ix->parts[k];
        for (uint64_t i = 0; i < p->removed_documents.count && !rc; i++) {
            uint64_t start, length;
            const ft_numbers *gone = &p->removed_documents;
            rc = ft_part_document_range(p, ft_packed_get(gone->packed, gone->bits, i), &start, &length, st);
            for (uint64_t pos = start; !rc && pos < start + length; pos++) {
                size_t bytes = 0;
                int special;
                (void)ft_tokenizer_token_bytes(t, ft_part_token(p, pos), &bytes, &special);
                *out += bytes;
            }
        }
    }
    ft_tokenizer_close(t);
    return rc;
}

static ft_code copy_all(compaction *c, ft_status *st)
{
    uint64_t removed = 0;
    ft_code rc = ft_spool_open(&c->spool, c->folder, c->ix->info.vocab_size, NULL, c->pool, st);
    for (unsigned i = 0; i < c->ix->part_count && !rc; i++)
        rc = copy_part(c, i, st);
    if (!rc)
        rc = flush_copied(c, st);
    if (!rc)
        rc = removed_text_bytes(c, &removed, st);
    c->spool.mark.text_bytes = c->ix->info.text_bytes > removed ? c->ix->info.text_bytes - removed : 0;
    return rc;
}

/* --- Merging ------------------------------------------------------------------------------ */

static ft_code merge_parts(compaction *c, const ft_codes *text, uint64_t segment, ft_status *st)
{
    const unsigned count = c->ix->part_count;
    ft_segment_source *parts = ft_alloc_array(count, sizeof(*parts));
    const ft_merge_source **sources = ft_alloc_array(count, sizeof(*sources));
    ft_suffix_writer out = {0};
    ft_code rc = parts && sources ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", c->change.folder);
    for (unsigned i = 0; i < count && !rc; i++) {
        rc = ft_segment_source_init(&parts[i], &c->ix->parts[i], text, c->bases[i], st);
        sources[i] = &parts[i].source;
    }
    if (!rc)
        rc = ft_suffix_writer_open(&out, c->folder, text->count, c->ix->info.vocab_size, st);
    if (!rc) {
        rc = ft_merge(&out, sources, count, text, c->pool, &c->options->progress, st);
        if (!rc)
            rc = ft_suffix_writer_commit(&out, segment, st);
        else
            ft_suffix_writer_abandon(&out);
    }
    for (unsigned i = 0; i < count && parts; i++)
        ft_segment_source_release(&parts[i]);
    free(parts);
    free(sources);
    return rc;
}

static ft_code make_segment(compaction *c, ft_segment_report *report, ft_status *st)
{
    enum { IDS_MEMORY_SHARE = 2 };
    const uint64_t memory = c->options->memory_bytes ? c->options->memory_bytes : (uint64_t)2 << 30;
    uint64_t segment = 0;
    ft_section tokens = {0};
    ft_code rc = copy_all(c, st);
    *report = (ft_segment_report){.documents = c->spool.mark.documents,
                                  .tokens = c->spool.mark.codes - c->spool.mark.documents,
                                  .text_bytes = c->spool.mark.text_bytes};
    if (!rc && report->documents)
        rc = ft_spool_commit(&c->spool, memory / IDS_MEMORY_SHARE, NULL, NULL, &segment, st);
    if (rc || !report->documents)
        return rc;
    ft_spool_remove(c->folder);
    rc = ft_section_open(&tokens, c->folder, FT_SECTION_TOKENS, 0, st);
    if (!rc) {
        ft_codes text = {tokens.payload, tokens.unit_bits, tokens.count, NULL};
        unsigned char *copy = tokens.payload_bytes <= memory / 2 ? ft_codes_copy(&text) : NULL;
        if (copy)
            text.packed = copy;
        rc = merge_parts(c, &text, segment, st);
        free(copy);
    }
    ft_section_close(&tokens);
    return rc;
}

/* --- All ------------------------------------------------------------------------------------ */

static ft_code begin(compaction *c, const char *folder, ft_status *st)
{
    ft_code rc = ft_pool_new(&c->pool, c->options->threads, st);
    if (!rc)
        rc = ft_index_change_begin(&c->change, folder, c->pool, st);
    if (!rc)
        rc = ft_index_open(&c->ix, folder, st);
    if (rc)
        return rc;
    c->bases = ft_alloc_array(c->ix->part_count, sizeof(*c->bases));
    c->copied = ft_alloc_array(COPY_TOKENS, sizeof(*c->copied));
    c->folder = ft_index_change_segment_folder(&c->change);
    if (!c->bases || !c->copied || !c->folder)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    rc = ft_folder_remove(c->folder, st); /* what a killed change left */
    return rc ? rc : ft_folder_make(c->folder, st);
}

static ft_code compact(compaction *c, ft_index_compact_report *report, ft_status *st)
{
    const ft_index_info info = c->ix->info;
    ft_segment_report segment;
    *report = (ft_index_compact_report){.segments_before = info.parts, .segments_after = info.parts};
    report->disk_bytes = info.disk_bytes;
    if (info.parts == 0 || (info.parts == 1 && !info.removed_documents))
        return FT_OK;
    ft_code rc = make_segment(c, &segment, st);
    if (rc)
        return rc;
    while (c->change.manifest.segment_count)
        ft_index_change_drop_segment(&c->change, 0);
    if (segment.documents)
        rc = ft_index_change_add_segment(&c->change, &segment, st);
    if (!rc)
        rc = ft_index_change_commit(&c->change, st);
    report->segments_after = (unsigned)c->change.manifest.segment_count;
    report->removed_documents = info.removed_documents;
    report->removed_tokens = info.removed_tokens;
    report->disk_bytes = ft_manifest_segment_bytes(&c->change.manifest);
    return rc;
}

ft_code ft_index_compact(const char *folder, const ft_index_compact_options *options, ft_index_compact_report *report,
                         ft_status *st)
{
    ft_index_compact_report ignored;
    report = report ? report : &ignored;
    *report = (ft_index_compact_report){0};
    compaction c = {.options = options, .change = {.lock = -1}, .spool = {.tokens = {.fd = -1}}};
    ft_code rc = begin(&c, folder, st);
    if (!rc)
        rc = compact(&c, report, st);
    if (rc == FT_ERR_CANCELLED) /* wherever it was */
        rc = ft_fail(st, rc, "%s: stopped; the index is what it was", folder);
    ft_spool_close(&c.spool);
    ft_status ignored_status;
    if (c.change.work && c.ix && ft_folder_remove(c.change.work, &ignored_status) != FT_OK)
        assert(ignored_status.code != FT_OK); /* the next change removes it */
    ft_index_close(c.ix);
    ft_index_change_end(&c.change);
    free(c.folder);
    free(c.bases);
    free(c.copied);
    ft_pool_free(c.pool);
    return rc;
}
