/* Documents of a part. Every number that a file holds is checked before it is used. */
#include "index/ft_part.h"

#include <inttypes.h>

/* Infini-gram: token position of document i's separator; n for i == documents. */
static uint64_t separator_of(const ft_part *p, uint64_t i)
{
    if (i >= p->documents)
        return p->n;
    uint64_t at;
    memcpy(&at, p->offset_map.data + i * sizeof(at), sizeof(at));
    at /= p->token_bytes;
    return at < p->n ? at : p->n;
}

/* First position that belongs to document i: its first token or, in infini-gram's, its separator. */
static uint64_t begin_of(const ft_part *p, uint64_t i)
{
    return p->bytewise ? separator_of(p, i) : p->records[i].start;
}

static ft_code damaged(const ft_part *p, uint64_t i, ft_status *st)
{
    if (p->bytewise)
        return ft_fail(st, FT_ERR_FORMAT, "%s/offset.%u: the place of document %" PRIu64 " is damaged", p->folder,
                       p->shard, i);
    return ft_fail(st, FT_ERR_FORMAT, "%s/documents: the place of document %" PRIu64 " is damaged", p->folder, i);
}

ft_code ft_part_document_range(const ft_part *p, uint64_t i, uint64_t *start, uint64_t *length, ft_status *st)
{
    const uint64_t from = begin_of(p, i), to = begin_of(p, i + 1);
    /* One token of [from, to) is the separator or the end. */
    if (from >= to || to > p->n || ft_part_token(p, p->bytewise ? from : to - 1) != p->end)
        return damaged(p, i, st);
    *start = from + (p->bytewise ? 1 : 0);
    *length = to - from - 1;
    return FT_OK;
}

ft_code ft_part_document_at(const ft_part *p, uint64_t pos, uint64_t *i, ft_status *st)
{
    uint64_t lo = 0, hi = p->documents; /* begin_of(lo) <= pos < begin_of(hi) */
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (begin_of(p, mid) <= pos)
            lo = mid;
        else
            hi = mid;
    }
    if (p->documents == 0 || begin_of(p, lo) > pos || begin_of(p, lo + 1) <= pos)
        return damaged(p, lo, st);
    *i = lo;
    return FT_OK;
}

/* id, NUL, metadata, NUL. */
static ft_code segment_texts(const ft_part *p, uint64_t i, ft_doc_ref *out, ft_status *st)
{
    const ft_section *texts = &p->section[FT_SECTION_TEXTS];
    const uint64_t from = p->records[i].text, to = p->records[i + 1].text;
    if (from >= to || to > texts->payload_bytes || texts->payload[to - 1] != '\0')
        return damaged(p, i, st);
    out->id = (const char *)texts->payload + from;
    out->id_bytes = strlen(out->id);
    const uint64_t rest = from + out->id_bytes + 1;
    if (rest >= to)
        return damaged(p, i, st);
    out->metadata = (const char *)texts->payload + rest;
    out->metadata_bytes = (size_t)(to - 1 - rest);
    return FT_OK;
}

/* Infini-gram's line: {"path":…,"linenum":…,"metadata":{…}}. Views, so the id is not
 * looked for here. */
static ft_code shard_texts(const ft_part *p, uint64_t i, ft_doc_ref *out, ft_status *st)
{
    out->id = "";
    out->metadata = "{}";
    out->metadata_bytes = 2;
    if (!p->metaoff_map.data)
        return FT_OK;
    uint64_t from, to = p->metadata_map.bytes;
    memcpy(&from, p->metaoff_map.data + i * sizeof(from), sizeof(from));
    if (i + 1 < p->documents)
        memcpy(&to, p->metaoff_map.data + (i + 1) * sizeof(to), sizeof(to));
    if (from > to || to > p->metadata_map.bytes)
        return ft_fail(st, FT_ERR_FORMAT, "%s/metaoff.%u: the place of document %" PRIu64 " is damaged", p->folder,
                       p->shard, i);
    if (to > from) {
        out->metadata = (const char *)p->metadata_map.data + from;
        out->metadata_bytes = (size_t)(to - from);
    }
    return FT_OK;
}

ft_code ft_part_document(const ft_part *p, uint64_t i, ft_doc_ref *out, ft_status *st)
{
    const uint64_t removed = p->removed_documents.count ? ft_numbers_below(&p->removed_documents, i) : 0;
    *out = (ft_doc_ref){.number = p->first_document + i - removed};
    ft_code rc = ft_part_document_range(p, i, &out->start, &out->length, st);
    if (!rc)
        rc = p->bytewise ? shard_texts(p, i, out, st) : segment_texts(p, i, out, st);
    return rc;
}
