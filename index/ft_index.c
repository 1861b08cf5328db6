#include "index/ft_index.h"

#include "index/ft_index_update.h"
#include "index/ft_manifest.h"
#include "index/ft_part.h"

#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

/* --- Opening --------------------------------------------------------------------- */

static ft_code open_parts(ft_index *ix, ft_status *st)
{
    const ft_manifest *m = ix->manifest;
    if (m->segment_count > FT_INDEX_MAX_PARTS)
        return ft_fail(st, FT_ERR_UNSUPPORTED, "%s: %zu segments, this program reads %d", ix->folder, m->segment_count,
                       FT_INDEX_MAX_PARTS);
    ix->parts = ft_alloc_array(m->segment_count, sizeof(*ix->parts));
    if (!ix->parts)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", ix->folder);
    for (size_t i = 0; i < m->segment_count; i++) {
        const ft_manifest_segment *s = &m->segments[i];
        ft_part *p = &ix->parts[i];
        char *folder = ft_path_join(ix->folder, s->name);
        if (!folder)
            return ft_fail(st, FT_ERR_MEM, "%s: out of memory", ix->folder);
        ft_code rc = ft_part_open_segment(p, folder, m->vocab_size, s->removed, st);
        if (!rc) {
            ix->part_count++;
            p->first_document = ix->info.documents;
            if (p->documents != s->documents || p->n != s->documents + s->tokens ||
                p->removed_documents.count != s->removed_documents ||
                p->removed_ranks.count != s->removed_documents + s->removed_tokens)
                rc = ft_fail(st, FT_ERR_FORMAT,
                             "%s: holds %" PRIu64 " documents and %" PRIu64 " positions, %" PRIu64 " and %" PRIu64
                             " of them removed, not what the manifest says",
                             folder, p->documents, p->n, p->removed_documents.count, p->removed_ranks.count);
        }
        free(folder);
        if (rc)
            return rc;
        ix->info.documents += s->documents - s->removed_documents;
        ix->info.tokens += s->tokens - s->removed_tokens;
        ix->info.removed_documents += s->removed_documents;
        ix->info.removed_tokens += s->removed_tokens;
        ix->info.text_bytes += s->text_bytes;
    }
    return FT_OK;
}

static ft_code open_tokenizer(ft_index *ix, ft_status *st)
{
    if (!ix->manifest->has_tokenizer)
        return FT_OK;
    ix->tokenizer = ft_path_join(ix->folder, "tokenizer.json");
    return ix->tokenizer ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", ix->folder);
}

static void fill_info(ft_index *ix)
{
    const ft_manifest *m = ix->manifest;
    ft_index_info *info = &ix->info;
    info->disk_bytes = ft_manifest_segment_bytes(m);
    info->parts = ix->part_count;
    info->vocab_size = m->vocab_size;
    info->end_of_text = m->end_of_text;
    info->token_bytes = m->token_bytes;
    info->owner = m->owner;
    info->folder = ix->folder;
    info->tokenizer = ix->tokenizer;
    info->tokenizer_digest = m->tokenizer;
    info->root = m->root;
}

static ft_code open_once(ft_index **out, const char *folder, ft_status *st)
{
    *out = NULL;
    ft_index *ix = calloc(1, sizeof(*ix));
    if (!ix)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    ft_code rc = FT_OK;
    ix->folder = strdup(folder);
    ix->manifest = calloc(1, sizeof(*ix->manifest));
    if (!ix->folder || !ix->manifest)
        rc = ft_fail(st, FT_ERR_MEM, "%s: out of memory", folder);
    if (!rc)
        rc = ft_manifest_read(ix->manifest, folder, st);
    if (!rc)
        rc = open_parts(ix, st);
    if (!rc)
        rc = open_tokenizer(ix, st);
    if (rc) {
        ft_index_close(ix);
        return rc;
    }
    fill_info(ix);
    *out = ix;
    return FT_OK;
}

/* Who replaces the manifest may unlink the old one's files, and where whole folders are
 * exchanged, files of both stand under the same names. So neither a failure nor a success
 * counts unless the manifest is the same before and after. */
ft_code ft_index_open(ft_index **out, const char *folder, ft_status *st)
{
    enum { ATTEMPTS = 8 };
    for (int i = 0; i < ATTEMPTS; i++) {
        const uint64_t stamp = ft_manifest_stamp(folder);
        const ft_code rc = open_once(out, folder, st);
        if (ft_manifest_stamp(folder) == stamp) {
            if (!rc)
                (*out)->stamp = stamp;
            return rc;
        }
        ft_index_close(*out);
        *out = NULL;
    }
    return ft_fail(st, FT_ERR_IO, "%s: its manifest was replaced %d times while it was opened; try again later", folder,
                   ATTEMPTS);
}

int ft_index_is_current(const ft_index *ix)
{
    return !ix->manifest || ft_manifest_stamp(ix->folder) == ix->stamp;
}

uint64_t ft_index_stamp(const char *folder)
{
    return ft_manifest_stamp(folder);
}

void ft_index_close(ft_index *ix)
{
    if (!ix)
        return;
    for (unsigned i = 0; i < ix->part_count; i++)
        ft_part_close(&ix->parts[i]);
    free(ix->parts);
    if (ix->manifest)
        ft_manifest_release(ix->manifest);
    free(ix->manifest);
    free(ix->folder);
    free(ix->owner);
    free(ix->tokenizer);
    free(ix);
}

ft_index_info ft_index_get_info(const ft_index *ix)
{
    return ix->info;
}

/* --- Searching --------------------------------------------------------------------- */

static void set_part(const ft_index *ix, ft_match *out, unsigned part, ft_range r)
{
    out->part[part] = ft_part_live_range(&ix->parts[part], r);
    out->count += out->part[part].hi - out->part[part].lo;
}

void ft_index_find(const ft_index *ix, const uint32_t *pat, size_t len, ft_match *out)
{
    out->count = 0;
    for (unsigned i = 0; i < ix->part_count; i++)
        set_part(ix, out, i, ft_part_find(&ix->parts[i], pat, len));
}

/* The longest of the parts' own longest matches wins; the parts that have only a
 * shorter one hold the place where it would stand. */
static size_t combine(const ft_index *ix, const uint32_t *pat, const size_t *own, const ft_range *ranges, ft_match *out)
{
    size_t longest = 0;
    for (unsigned i = 0; i < ix->part_count; i++)
        longest = own[i] > longest ? own[i] : longest;
    if (!out)
        return longest;
    out->count = 0;
    for (unsigned i = 0; i < ix->part_count; i++)
        set_part(ix, out, i, own[i] == longest ? ranges[i] : ft_part_find(&ix->parts[i], pat, longest));
    return longest;
}

size_t ft_index_longest_prefix(const ft_index *ix, const uint32_t *pat, size_t len, ft_match *out)
{
    size_t own[FT_INDEX_MAX_PARTS];
    ft_range ranges[FT_INDEX_MAX_PARTS];
    for (unsigned i = 0; i < ix->part_count; i++)
        own[i] = ft_part_longest_prefix(&ix->parts[i], pat, len, &ranges[i]);
    return combine(ix, pat, own, ranges, out);
}

size_t ft_index_longest_suffix(const ft_index *ix, const uint32_t *pat, size_t len, ft_match *out)
{
    size_t own[FT_INDEX_MAX_PARTS], longest = 0;
    ft_range ranges[FT_INDEX_MAX_PARTS];
    for (unsigned i = 0; i < ix->part_count; i++) {
        own[i] = ft_part_longest_suffix(&ix->parts[i], pat, len, &ranges[i]);
        longest = own[i] > longest ? own[i] : longest;
    }
    ft_index_find(ix, pat + len - longest, longest, out);
    return longest;
}

/* The longest match of the parts so far; matches[i].count keeps, until all parts are
 * through, which of them have one as long. */
typedef struct combining {
    const ft_part *part;
    unsigned number;
    const uint32_t *ids;
    size_t count;
    size_t *longest;
    ft_match *matches;
} combining;
static_assert(FT_INDEX_MAX_PARTS <= 64, "a bit for each part");

static void combine_position(void *context, size_t at, size_t own, ft_range range)
{
    const combining *c = context;
    own = ft_part_only_live(c->part, c->ids + at, c->count - at, own, &range);
    if (c->matches) {
        ft_match *m = &c->matches[at];
        m->part[c->number] = range;
        m->count = (own > c->longest[at] ? 0 : m->count) | (own >= c->longest[at] ? (uint64_t)1 << c->number : 0);
    }
    c->longest[at] = own > c->longest[at] ? own : c->longest[at];
}

/* In the parts of infini-gram's kind whose own longest match is shorter: where the longest
 * would stand. */
static void place_beaten(const ft_index *ix, unsigned k, const uint32_t *ids, size_t count, const size_t *longest,
                         ft_match *matches)
{
    enum { SOME = 64 };
    ft_stretch beaten[SOME];
    ft_range places[SOME];
    for (size_t i = 0; i < count;) {
        size_t some = 0;
        for (; i < count && some < SOME; i++)
            if (!(matches[i].count >> k & 1))
                beaten[some++] = (ft_stretch){i, i + longest[i]};
        if (some)
            ft_table_find_each(&ix->parts[k], ids, beaten, some, places);
        for (size_t j = 0; j < some; j++)
            matches[beaten[j].start].part[k] = places[j];
    }
}

void ft_index_match_all(const ft_index *ix, const uint32_t *ids, size_t count, size_t *longest, ft_match *matches)
{
    memset(longest, 0, count * sizeof(*longest));
    for (size_t i = 0; i < count && matches; i++)
        matches[i].count = 0;
    for (unsigned k = 0; k < ix->part_count; k++) {
        const ft_part *p = &ix->parts[k];
        combining c = {p, k, ids, count, longest, matches};
        if (p->bytewise)
            ft_table_match_all(p, ids, count, matches != NULL, combine_position, &c);
        else
            ft_segment_match_all(p, ids, count, matches || p->removed_ranks.count, combine_position, &c);
    }
    for (unsigned k = 0; k < ix->part_count && matches; k++)
        if (ix->parts[k].bytewise)
            place_beaten(ix, k, ids, count, longest, matches);
    for (size_t i = 0; i < count && matches; i++) {
        const uint64_t best = matches[i].count;
        matches[i].count = 0;
        for (unsigned k = 0; k < ix->part_count; k++)
            set_part(ix, &matches[i], k,
                     best >> k & 1 || ix->parts[k].bytewise ? matches[i].part[k]
                                                            : ft_part_find(&ix->parts[k], ids + i, longest[i]));
    }
}

void ft_index_expect(const ft_index *ix, const uint32_t *ids, const ft_stretch *stretches, size_t count)
{
    for (unsigned k = 0; k < ix->part_count; k++)
        if (!ix->parts[k].bytewise)
            ft_segment_expect(&ix->parts[k], ids, stretches, count);
}

uint64_t ft_index_unigram(const ft_index *ix, uint32_t id)
{
    ft_match m;
    ft_index_find(ix, &id, 1, &m);
    return m.count;
}

/* --- Tokens and positions ------------------------------------------------------------ */

/* Codes [first, first + n), all of them in the text, as ids: the end of a document, code 0, becomes UINT32_MAX. Eight
 * bytes hold three codes of up to 19 bits, at whatever bit they begin. */
static void read_codes(const ft_codes *text, uint64_t first, size_t n, uint32_t *out)
{
    const unsigned bits = text->bits;
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    uint64_t at = first * bits, v;
    size_t i = 0;
    for (; bits <= 19 && i + 3 <= n; i += 3, at += 3 * (uint64_t)bits) {
        memcpy(&v, text->packed + (at >> 3), sizeof(v));
        v >>= at & 7;
        out[i] = (uint32_t)(v & mask) - 1;
        out[i + 1] = (uint32_t)(v >> bits & mask) - 1;
        out[i + 2] = (uint32_t)(v >> 2 * bits & mask) - 1;
    }
    for (; i < n; i++)
        out[i] = (uint32_t)ft_packed_get(text->packed, bits, first + i) - 1;
}

void ft_index_tokens(const ft_index *ix, unsigned part, uint64_t pos, size_t n, uint32_t *out)
{
    const ft_part *p = part < ix->part_count ? &ix->parts[part] : NULL;
    size_t i = 0;
    /* Ours, as far as the part goes: documents are read in long stretches. */
    if (p && !p->bytewise && pos < p->n) {
        i = p->n - pos < n ? (size_t)(p->n - pos) : n;
        read_codes(&p->text, pos, i, out);
    }
    for (; i < n; i++) {
        const uint32_t token = p && pos < p->n && i < p->n - pos ? ft_part_token(p, pos + i) : UINT32_MAX;
        out[i] = p && token == p->end ? UINT32_MAX : token;
    }
}

uint64_t ft_index_position(const ft_index *ix, unsigned part, uint64_t rank)
{
    const ft_part *p = &ix->parts[part];
    return rank < ft_part_live_size(p) ? ft_part_live_position(p, rank) : p->n;
}

/* --- Documents ------------------------------------------------------------------------ */

ft_code ft_index_document(const ft_index *ix, uint64_t number, ft_doc_ref *out, ft_status *st)
{
    for (unsigned i = 0; i < ix->part_count; i++) {
        const ft_part *p = &ix->parts[i];
        if (number - p->first_document >= ft_part_live_documents(p))
            continue;
        ft_code rc = ft_part_document(p, ft_part_physical_document(p, number - p->first_document), out, st);
        out->part = i;
        return rc;
    }
    return ft_fail(st, FT_ERR_NOT_FOUND, "%s: no document %" PRIu64 ", the last one is %" PRIu64, ix->folder, number,
                   ix->info.documents - 1);
}

ft_code ft_index_document_at(const ft_index *ix, unsigned part, uint64_t pos, ft_doc_ref *out, ft_status *st)
{
    if (part >= ix->part_count || pos >= ix->parts[part].n)
        return ft_fail(st, FT_ERR_NOT_FOUND, "%s: no position %" PRIu64 " in part %u", ix->folder, pos, part);
    const ft_part *p = &ix->parts[part];
    if (ft_part_token(p, pos) == p->end)
        return ft_fail(st, FT_ERR_NOT_FOUND, "%s: position %" PRIu64 " is between two documents", ix->folder, pos);
    uint64_t i;
    ft_code rc = ft_part_document_at(p, pos, &i, st);
    if (!rc && ft_part_document_is_removed(p, i))
        return ft_fail(st, FT_ERR_NOT_FOUND, "%s: position %" PRIu64 " is in a document that was removed", ix->folder,
                       pos);
    if (!rc)
        rc = ft_part_document(p, i, out, st);
    out->part = part;
    return rc;
}

/* First record of a part whose hash is not below `hash`. */
static uint64_t first_id_record(const ft_section *ids, uint64_t hash)
{
    const ft_id_record *records = (const ft_id_record *)(const void *)ids->payload;
    uint64_t lo = 0, hi = ids->count;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (records[mid].hash < hash)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Those that were removed, or all others. */
static ft_code documents_by_id(const ft_index *ix, const char *id, int removed, ft_document_visit *visit, void *context,
                               uint64_t *found, ft_status *st)
{
    const uint64_t hash = XXH3_64bits(id, strlen(id));
    *found = 0;
    for (unsigned k = 0; k < ix->part_count; k++) {
        const ft_part *p = &ix->parts[k];
        const ft_section *ids = &p->section[FT_SECTION_IDS]; /* infini-gram's has none */
        const ft_id_record *records = (const ft_id_record *)(const void *)ids->payload;
        for (uint64_t i = first_id_record(ids, hash); i < ids->count && records[i].hash == hash; i++) {
            ft_doc_ref doc;
            if (records[i].document >= p->documents)
                return ft_fail(st, FT_ERR_FORMAT, "%s/ids: record %" PRIu64 " is damaged", p->folder, i);
            if (ft_part_document_is_removed(p, records[i].document) != removed)
                continue;
            ft_code rc = ft_part_document(p, records[i].document, &doc, st);
            doc.part = k;
            if (!rc && strcmp(doc.id, id) != 0)
                continue;
            (*found)++;
            if (!rc)
                rc = visit(context, &doc, st);
            if (rc)
                return rc;
        }
    }
    return FT_OK;
}

ft_code ft_index_documents_by_id(const ft_index *ix, const char *id, ft_document_visit *visit, void *context,
                                 uint64_t *found, ft_status *st)
{
    return documents_by_id(ix, id, 0, visit, context, found, st);
}

ft_code ft_index_removed_by_id(const ft_index *ix, const char *id, ft_document_visit *visit, void *context,
                               uint64_t *found, ft_status *st)
{
    return documents_by_id(ix, id, 1, visit, context, found, st);
}

/* Keeps the document and ends the search. */
static ft_code keep_first(void *context, const ft_doc_ref *doc, ft_status *st)
{
    (void)st;
    *(ft_doc_ref *)context = *doc;
    return FT_ERR_CANCELLED;
}

ft_code ft_index_document_by_id(const ft_index *ix, const char *id, ft_doc_ref *out, ft_status *st)
{
    uint64_t found;
    const ft_code rc = ft_index_documents_by_id(ix, id, keep_first, out, &found, st);
    if (rc)
        return rc == FT_ERR_CANCELLED ? FT_OK : rc;
    return ft_fail(st, FT_ERR_NOT_FOUND, "%s: no document '%s'%s", ix->folder, id,
                   ix->info.is_infinigram ? "; infini-gram folders are not searched by id" : "");
}

void ft_index_document_tokens(const ft_index *ix, const ft_doc_ref *doc, uint64_t from, size_t n, uint32_t *out,
                              size_t *copied)
{
    const uint64_t left = from < doc->length ? doc->length - from : 0;
    const size_t take = n < left ? n : (size_t)left;
    const int reversed = doc->part < ix->part_count && ix->parts[doc->part].reversed;
    if (!reversed) {
        ft_index_tokens(ix, doc->part, doc->start + from, take, out);
    } else {
        ft_index_tokens(ix, doc->part, doc->start + doc->length - from - take, take, out);
        for (size_t i = 0; i < take / 2; i++) {
            const uint32_t t = out[i];
            out[i] = out[take - 1 - i];
            out[take - 1 - i] = t;
        }
    }
    *copied = take;
}
