#include "index/ft_text_match.h"

#include "base/ft_buffer.h"
#include "index/text_match_internal.h"

#include <stdlib.h>

/* Kinds of parts: by the tokenizer or bytes, forward or reversed. Bytes backwards are bytes. */
enum { FORWARD, REVERSED, BYTES, REVERSED_BYTES, KINDS };

struct ft_text_matcher {
    ft_text_vocabulary vocabulary[KINDS]; /* REVERSED_BYTES is not filled: it uses BYTES */
    int ready[KINDS];
};

static int kind_of(const ft_index *ix, unsigned part)
{
    const ft_index_info info = ft_index_get_info(ix);
    return (info.is_infinigram && info.token_bytes == 1 ? BYTES : FORWARD) + (ix->parts[part].reversed ? 1 : 0);
}

static int slot_of(int kind)
{
    return kind == REVERSED_BYTES ? BYTES : kind;
}

/* --- The matcher ---------------------------------------------------------------------- */

static ft_code make_ready(ft_text_matcher *m, const ft_index *ix, int kind, const ft_tokenizer *t, ft_status *st)
{
    const int slot = slot_of(kind);
    if (m->ready[slot])
        return FT_OK;
    if (slot != BYTES && !t)
        return ft_fail(st, FT_ERR_ARG, "%s: text is found through a tokenizer, and none is known: name one",
                       ft_index_get_info(ix).folder);
    ft_code rc = slot == BYTES ? ft_text_vocabulary_of_bytes(&m->vocabulary[slot], st)
                               : ft_text_vocabulary_of_tokenizer(&m->vocabulary[slot], t, slot == REVERSED, st);
    m->ready[slot] = !rc;
    return rc;
}

ft_code ft_text_matcher_new(ft_text_matcher **out, ft_index_set set, const ft_tokenizer *tokenizer, ft_status *st)
{
    *out = NULL;
    ft_text_matcher *m = calloc(1, sizeof(*m));
    if (!m)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    ft_code rc = FT_OK;
    for (size_t i = 0; i < set.count; i++)
        for (unsigned k = 0; k < set.indexes[i]->part_count && !rc; k++)
            rc = make_ready(m, set.indexes[i], kind_of(set.indexes[i], k), tokenizer, st);
    if (rc) {
        ft_text_matcher_free(m);
        return rc;
    }
    *out = m;
    return FT_OK;
}

void ft_text_matcher_free(ft_text_matcher *m)
{
    if (!m)
        return;
    for (int i = 0; i < KINDS; i++)
        ft_text_vocabulary_release(&m->vocabulary[i]);
    free(m);
}

/* --- From places to occurrences ----------------------------------------------------------- */

void ft_text_matches_release(ft_text_matches *m)
{
    free(m->occurrences);
    *m = (ft_text_matches){0};
}

/* A place, with what is needed to read on from it. */
typedef struct found_place {
    ft_text_search *search;
    const ft_text_vocabulary *vocabulary;
    ft_index_set set;
    ft_place place;
    uint32_t offset; /* bytes into the first token, in stored order */
} found_place;

static uint64_t bytes_of(const ft_text_vocabulary *v, uint32_t token)
{
    uint32_t n = 0;
    if (token < v->size)
        (void)ft_text_of(v, token, &n);
    return n;
}

/* Reads the query once more from its place: *bytes and *tokens long, and *left bytes of
 * its last token stand behind it. */
static ft_code measure(const found_place *f, uint64_t *bytes, uint64_t *tokens, uint64_t *left, ft_status *st)
{
    const ft_part *p = &f->set.indexes[f->place.index]->parts[f->place.part];
    const ft_text_automaton *a = &f->search->automaton;
    uint32_t state = 0, skip = f->offset;
    uint64_t pos = f->place.pos;
    *bytes = *left = 0;
    for (; state != ft_text_automaton_end(a); pos++) {
        const int read = pos < ft_part_all(p).hi && state != FT_TEXT_NOWHERE;
        const uint32_t token = read ? ft_part_token(p, pos) : UINT32_MAX;
        if (!read || ft_part_query_key(p, token) == UINT64_MAX)
            return ft_fail(st, FT_ERR_FORMAT,
                           "%s: the order of suffixes is damaged; 'flextrace index verify' says where",
                           ft_index_get_info(f->set.indexes[f->place.index]).folder);
        uint32_t n = 0, used = 0;
        const unsigned char *text = token < f->vocabulary->size ? ft_text_of(f->vocabulary, token, &n) : NULL;
        if (skip < n)
            state = ft_text_automaton_run(a, state, text + skip, n - skip, &used);
        *left = n - (skip < n ? skip : n) - used;
        *bytes += used;
        skip = 0;
    }
    *tokens = pos - f->place.pos;
    return FT_OK;
}

/* Bytes of the document's tokens [from, to), in reading order. */
static uint64_t text_between(const found_place *f, const ft_doc_ref *doc, uint64_t from, uint64_t to)
{
    enum { CHUNK = 1024 };
    uint32_t ids[CHUNK];
    uint64_t bytes = 0;
    while (from < to) {
        size_t n;
        ft_index_document_tokens(f->set.indexes[f->place.index], doc, from,
                                 to - from < CHUNK ? (size_t)(to - from) : CHUNK, ids, &n);
        for (size_t i = 0; i < n; i++)
            bytes += bytes_of(f->vocabulary, ids[i]);
        if (n == 0)
            break;
        from += n;
    }
    return bytes;
}

/* `before`: an occurrence of the same document, or NULL; from it the bytes are counted
 * on, instead of from the beginning. */
static ft_code locate(const found_place *f, const ft_text_occurrence *before, ft_text_occurrence *out, ft_status *st)
{
    uint64_t bytes, tokens, left;
    ft_window w;
    ft_code rc = measure(f, &bytes, &tokens, &left, st);
    if (!rc)
        rc = ft_query_context(f->set, &f->place, tokens, 0, &w, st);
    if (rc)
        return rc;
    const int reversed = f->set.indexes[f->place.index]->parts[f->place.part].reversed;
    *out = (ft_text_occurrence){
        .place = f->place, .document = w.doc.number, .token = w.needle, .tokens = tokens, .bytes = (uint32_t)bytes};
    ft_doc_ref doc = w.doc; /* its number counts through the set, which document_tokens does not look at */
    const int go_on = before && before->document == out->document && before->token <= out->token;
    out->token_byte = go_on ? before->token_byte + text_between(f, &doc, before->token, out->token)
                            : text_between(f, &doc, 0, out->token);
    out->byte = out->token_byte + (reversed ? left : f->offset);
    return FT_OK;
}

/* --- A query --------------------------------------------------------------------------------- */

/* Where the places of a part lie in the tally. */
typedef struct part_places {
    uint32_t index;
    unsigned part;
    size_t from, to;
    ft_text_search *search;
} part_places;

static int by_position(const void *a, const void *b)
{
    const ft_text_place *const *x = a, *const *y = b;
    return (*x)->pos != (*y)->pos ? ((*x)->pos < (*y)->pos ? -1 : 1) : *x < *y ? -1 : *x > *y;
}

/* In the order of their positions, so that a document's bytes are counted once. */
static ft_code locate_part(ft_index_set set, const part_places *pp, const ft_text_place *places, ft_text_matches *out,
                           ft_status *st)
{
    const int reversed = set.indexes[pp->index]->parts[pp->part].reversed;
    const size_t n = pp->to - pp->from;
    const ft_text_place **order = ft_alloc_array(n, sizeof(const ft_text_place *));
    if (!order)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        order[i] = &places[pp->from + i];
    if (n)
        qsort(order, n, sizeof(const ft_text_place *), by_position);
    const ft_text_occurrence *before = NULL;
    ft_code rc = FT_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        const ft_text_place *t = order[reversed ? n - 1 - i : i];
        const found_place f = {.search = pp->search,
                               .vocabulary = pp->search->vocabulary,
                               .set = set,
                               .place = {.index = pp->index, .part = pp->part, .pos = t->pos},
                               .offset = t->offset};
        ft_text_occurrence *o = &out->occurrences[t - places];
        rc = locate(&f, before, o, st);
        before = o;
    }
    free(order);
    return rc;
}

static ft_code match_part(const ft_text_matcher *m, ft_index_set set, const ft_text_query *q, ft_text_search *searches,
                          part_places *pp, ft_text_tally *tally, ft_text_matches *out, ft_status *st)
{
    const ft_index *ix = set.indexes[pp->index];
    const int kind = kind_of(ix, pp->part);
    if (!m->ready[slot_of(kind)])
        return ft_fail(st, FT_ERR_ARG, "%s: the matcher was made for indexes of another kind",
                       ft_index_get_info(ix).folder);
    pp->search = &searches[kind];
    ft_code rc = FT_OK;
    if (!pp->search->vocabulary)
        rc = ft_text_search_init(pp->search, &m->vocabulary[slot_of(kind)], q->text, q->bytes, q->ignore_case,
                                 kind == REVERSED || kind == REVERSED_BYTES, st);
    pp->from = tally->kept;
    if (!rc)
        rc = ft_text_walk_part(pp->search, &ix->parts[pp->part], tally, st);
    pp->to = tally->kept;
    return rc ? rc : locate_part(set, pp, tally->places, out, st);
}

ft_code ft_text_match(const ft_text_matcher *m, ft_index_set set, const ft_text_query *q, ft_text_matches *out,
                      ft_status *st)
{
    *out = (ft_text_matches){0};
    if (q->bytes == 0)
        return ft_fail(st, FT_ERR_ARG, "an empty text stands everywhere; ask for one character or more");
    if (q->bytes > FT_TEXT_QUERY_MAX)
        return ft_fail(st, FT_ERR_LIMIT, "a text of %zu bytes is too long to be searched: at most %d", q->bytes,
                       FT_TEXT_QUERY_MAX);
    ft_text_search searches[KINDS] = {0};
    ft_text_tally tally = {.from = q->from, .limit = q->limit};
    ft_code rc = FT_OK;
    tally.places = ft_alloc_array(q->limit, sizeof(*tally.places));
    out->occurrences = ft_alloc_array(q->limit, sizeof(*out->occurrences));
    if (!tally.places || !out->occurrences)
        rc = ft_fail(st, FT_ERR_MEM, "no room for a page of %zu occurrences", q->limit);
    for (uint32_t i = 0; i < set.count; i++)
        for (unsigned k = 0; k < set.indexes[i]->part_count && !rc; k++) {
            part_places pp = {.index = i, .part = k};
            rc = match_part(m, set, q, searches, &pp, &tally, out, st);
        }
    out->count = tally.count;
    out->listed = tally.kept;
    for (int i = 0; i < KINDS; i++)
        ft_text_search_release(&searches[i]);
    free(tally.places);
    if (rc)
        ft_text_matches_release(out);
    return rc;
}
