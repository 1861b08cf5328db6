/* An owner looks its spans up in its own indexes. */
#include "tracer/ft_receipt.h"

#include "index/ft_query.h"
#include "tracer/tracer_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LOOKED_AT = 200000 }; /* occurrences of one span, for its documents */

typedef struct looker {
    const ft_receipt *r;
    const char *owner;
    ft_index_set set;
    const ft_salt *salt;
    ft_owner_check *out;
} looker;

static void root_text(const ft_index *ix, char text[FT_DIGEST_TEXT])
{
    static const ft_digest none;
    const ft_digest root = ft_index_get_info(ix).root;
    text[0] = '\0';
    if (memcmp(&root, &none, sizeof(root)) != 0)
        ft_digest_text(&root, text);
}

static const char *owner_in(const json_t *listed)
{
    return json_string_value(json_object_get(listed, "owner"));
}

static int has_root(const json_t *listed, const char *root)
{
    const char *said = json_string_value(json_object_get(listed, "root"));
    return said && root[0] && !strcmp(said, root);
}

const char *ft_receipt_owner_of(const ft_receipt *r, const ft_index *ix)
{
    char root[FT_DIGEST_TEXT];
    const json_t *indexes = json_object_get(r->predicate, "indexes");
    const char *recorded = ft_index_get_info(ix).owner;
    root_text(ix, root);
    for (size_t i = 0; i < json_array_size(indexes); i++)
        if (has_root(json_array_get(indexes, i), root))
            return owner_in(json_array_get(indexes, i));
    for (size_t i = 0; i < json_array_size(indexes); i++)
        if (recorded[0] && !strcmp(owner_in(json_array_get(indexes, i)), recorded))
            return owner_in(json_array_get(indexes, i));
    return NULL;
}

/* Each index that the receipt lists of this owner is one of those given, and the other way round. */
static int is_same_state(const looker *l)
{
    const json_t *indexes = json_object_get(l->r->predicate, "indexes");
    size_t listed = 0;
    for (size_t i = 0; i < json_array_size(indexes); i++) {
        const json_t *x = json_array_get(indexes, i);
        int there = 0;
        if (strcmp(owner_in(x), l->owner) != 0)
            continue;
        listed++;
        for (size_t k = 0; k < l->set.count && !there; k++) {
            char root[FT_DIGEST_TEXT];
            root_text(l->set.indexes[k], root);
            there = has_root(x, root);
        }
        if (!there)
            return 0;
    }
    return listed == l->set.count;
}

static ft_code check_tokenizer(const looker *l, ft_status *st)
{
    static const ft_digest none;
    const char *said = json_string_value(json_object_get(l->r->predicate, "tokenizerDigest"));
    for (size_t i = 0; i < l->set.count; i++) {
        const ft_index_info info = ft_index_get_info(l->set.indexes[i]);
        char text[FT_DIGEST_TEXT];
        ft_digest_text(&info.tokenizer_digest, text);
        if (said && memcmp(&info.tokenizer_digest, &none, sizeof(none)) != 0 && strcmp(said, text) != 0)
            return ft_fail(st, FT_ERR_FORMAT,
                           "%s: built with another tokenizer than the receipt's (%.20s…, not %.20s…): its tokens mean "
                           "something else",
                           info.folder, text, said);
    }
    return FT_OK;
}

static void refute(looker *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void refute(looker *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (!l->out->refuted[0])
        vsnprintf(l->out->refuted, sizeof(l->out->refuted), fmt, args);
    va_end(args);
}

/* --- Documents -------------------------------------------------------------------- */

/* Which of a span's hashes are this owner's, and which have been opened. */
typedef struct hashes {
    const char **texts;
    unsigned char *open;
    size_t count, opened;
} hashes;

static ft_code try_document(looker *l, hashes *h, const ft_index *ix, unsigned part, uint64_t position, ft_status *st)
{
    ft_doc_ref document;
    char hash[FT_SALTED_HASH];
    ft_code rc = ft_index_document_at(ix, part, position, &document, st);
    if (rc)
        return rc;
    json_t *id = trace_document_id(&document);
    if (!id)
        return ft_fail(st, FT_ERR_MEM, "receipt: no room for a document's id");
    ft_salted_hash(l->salt, json_string_value(id), json_string_length(id), hash);
    json_decref(id);
    for (size_t i = 0; i < h->count; i++)
        if (!h->open[i] && !strcmp(h->texts[i], hash)) {
            h->open[i] = 1;
            h->opened++;
        }
    return FT_OK;
}

static ft_code open_in(looker *l, hashes *h, const ft_index *ix, const uint32_t *ids, size_t n, ft_status *st)
{
    ft_match *match = malloc(sizeof(*match));
    if (!match)
        return ft_fail(st, FT_ERR_MEM, "receipt: out of memory");
    ft_code rc = FT_OK;
    size_t looked = 0;
    ft_index_find(ix, ids, n, match);
    for (unsigned part = 0; part < ft_index_get_info(ix).parts; part++)
        for (uint64_t rank = match->part[part].lo;
             !rc && rank < match->part[part].hi && h->opened < h->count && looked < MAX_LOOKED_AT; rank++, looked++)
            rc = try_document(l, h, ix, part, ft_index_position(ix, part, rank), st);
    free(match);
    return rc;
}

static ft_code open_documents(looker *l, const json_t *documents, size_t number, const uint32_t *ids, size_t n,
                              ft_status *st)
{
    const size_t all = json_array_size(documents);
    hashes h = {ft_alloc_array(all, sizeof(*h.texts)), ft_alloc_array(all, 1), 0, 0};
    ft_code rc = h.texts && h.open ? FT_OK : ft_fail(st, FT_ERR_MEM, "receipt: out of memory");
    for (size_t i = 0; !rc && i < all; i++)
        if (!strcmp(owner_in(json_array_get(documents, i)), l->owner))
            h.texts[h.count++] = json_string_value(json_object_get(json_array_get(documents, i), "digest"));
    for (size_t i = 0; !rc && l->salt && i < l->set.count; i++)
        rc = open_in(l, &h, l->set.indexes[i], ids, n, st);
    l->out->documents += h.count;
    l->out->opened += h.opened;
    if (!rc && l->salt && h.opened < h.count)
        refute(l, "span %zu: %zu of its %zu documents are none that this index holds under this salt", number,
               h.count - h.opened, h.count);
    free(h.texts);
    free(h.open);
    return rc;
}

/* --- Spans ------------------------------------------------------------------------- */

static ft_code check_span(looker *l, const json_t *span, size_t number, ft_status *st)
{
    const size_t start = (size_t)json_integer_value(json_object_get(span, "start"));
    const size_t end = (size_t)json_integer_value(json_object_get(span, "end"));
    const uint64_t said = (uint64_t)json_integer_value(json_object_get(json_object_get(span, "ownerCounts"), l->owner));
    if (start >= end || end > l->r->output_count)
        return FT_OK; /* a contradiction, which has been told */
    const uint64_t here = ft_query_count(l->set, l->r->output + start, end - start);
    ft_owner_check *out = l->out;
    out->claimed += said > 0;
    if (said && (out->same_state ? here == said : here > 0))
        out->confirmed++;
    else if (said)
        refute(l,
               "span %zu, tokens %zu to %zu: the receipt says that it stands here %" PRIu64 " times, it does %" PRIu64
               " times",
               number, start, end, said, here);
    else if (here && out->same_state) {
        out->unclaimed++;
        refute(l, "span %zu, tokens %zu to %zu: it stands here %" PRIu64 " times, which the receipt does not say",
               number, start, end, here);
    }
    return open_documents(l, json_object_get(span, "documents"), number, l->r->output + start, end - start, st);
}

ft_code ft_receipt_check_owner(const ft_receipt *r, const char *owner, const ft_index *const *indexes, size_t count,
                               const ft_salt *salt, ft_owner_check *out, ft_status *st)
{
    looker l = {.r = r, .owner = owner, .set = {indexes, count}, .salt = salt, .out = out};
    const json_t *spans = json_object_get(r->predicate, "spans");
    memset(out, 0, sizeof(*out));
    ft_code rc = check_tokenizer(&l, st);
    out->same_state = !rc && is_same_state(&l);
    for (size_t i = 0; !rc && i < json_array_size(spans); i++)
        rc = check_span(&l, json_array_get(spans, i), i, st);
    return rc;
}
