#include "tracer/ft_bm25.h"

#include "base/ft_buffer.h"
#include "tracer/lexicon_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One distinct word of the query or the documents. */
typedef struct word {
    word_hash hash;               /* 0: a free slot */
    uint32_t in_query, documents; /* how often the query holds it; n of the idf */
    uint32_t last, last_hits;     /* document seen last (number + 1), and its hits there */
} word;

/* f of the formula: how often a query word stands in a document. */
typedef struct hit {
    uint32_t document, count, in_query;
    word_hash hash;
} hit;

struct ft_ranker {
    word *words; /* [slots], a hash table */
    size_t word_count, slots;
    uint32_t *lengths; /* words of each document */
    size_t document_count, document_capacity;
    hit *hits;
    size_t hit_count, hit_capacity;
    word_hash *touched; /* query words of the document being added */
    size_t touched_count, touched_capacity;
    uint32_t words_of_document;
    word_list heard; /* of a document that comes as tokens */
    ft_buffer scratch;
};

static const double k1 = 1.5, b = 0.75, epsilon = 0.25;
enum { FIRST_SLOTS = 4096 };

void ft_ranker_free(ft_ranker *r)
{
    if (!r)
        return;
    free(r->words);
    free(r->lengths);
    free(r->hits);
    free(r->touched);
    free(r->heard.words);
    ft_buffer_release(&r->scratch);
    free(r);
}

/* --- Words ----------------------------------------------------------------- */

static size_t first_slot(const ft_ranker *r, word_hash hash)
{
    return (hash * UINT64_C(0x9E3779B97F4A7C15)) >> 32 & (r->slots - 1);
}

/* The word's slot, or the free one where it belongs. */
static word *find_word(const ft_ranker *r, word_hash hash)
{
    size_t s = first_slot(r, hash);
    while (r->words[s].hash && r->words[s].hash != hash)
        s = (s + 1) & (r->slots - 1);
    return &r->words[s];
}

static ft_code grow_slots(ft_ranker *r, ft_status *st)
{
    const size_t old_slots = r->slots;
    word *old = r->words;
    r->slots = old_slots ? 2 * old_slots : FIRST_SLOTS;
    r->words = ft_alloc_array(r->slots, sizeof(*r->words));
    if (!r->words) {
        r->words = old;
        r->slots = old_slots;
        return ft_fail(st, FT_ERR_MEM, "ranking: no room for %zu words", r->word_count);
    }
    for (size_t i = 0; i < old_slots; i++)
        if (old[i].hash)
            *find_word(r, old[i].hash) = old[i];
    free(old);
    return FT_OK;
}

static ft_code intern(ft_ranker *r, word_hash hash, word **out, ft_status *st)
{
    if (2 * (r->word_count + 1) > r->slots) {
        const ft_code rc = grow_slots(r, st);
        if (rc)
            return rc;
    }
    *out = find_word(r, hash);
    if (!(*out)->hash) {
        (*out)->hash = hash;
        r->word_count++;
    }
    return FT_OK;
}

/* --- Query and documents ---------------------------------------------------- */

static ft_code add_to_query(void *ranker, word_hash hash, ft_status *st)
{
    word *w;
    const ft_code rc = intern(ranker, hash, &w, st);
    if (!rc)
        w->in_query++;
    return rc;
}

ft_code ft_ranker_new(ft_ranker **out, ft_text_view query, ft_status *st)
{
    *out = NULL;
    ft_ranker *r = calloc(1, sizeof(*r));
    if (!r)
        return ft_fail(st, FT_ERR_MEM, "ranking: no room for the query");
    word_hash open = 0;
    ft_code rc = grow_slots(r, st);
    if (!rc)
        rc = words_walk(query.text, query.bytes, &open, add_to_query, r, st);
    if (!rc && open)
        rc = add_to_query(r, open, st);
    if (rc)
        ft_ranker_free(r);
    else
        *out = r;
    return rc;
}

/* Counts one word of the document that is being added. */
static ft_code add_to_document(void *ranker, word_hash hash, ft_status *st)
{
    ft_ranker *r = ranker;
    const uint32_t mark = (uint32_t)r->document_count + 1;
    word *w;
    ft_code rc = intern(r, hash, &w, st);
    if (rc)
        return rc;
    r->words_of_document++;
    if (w->last != mark) {
        if (w->in_query) {
            rc = ft_array_grow((void **)&r->touched, &r->touched_capacity, r->touched_count + 1, sizeof(*r->touched),
                               st);
            if (rc)
                return rc;
            r->touched[r->touched_count++] = hash;
        }
        w->last = mark;
        w->last_hits = 0;
        w->documents++;
    }
    w->last_hits++;
    return FT_OK;
}

static ft_code begin_document(ft_ranker *r, ft_status *st)
{
    r->touched_count = 0;
    r->words_of_document = 0;
    if (r->document_count >= UINT32_MAX - 1)
        return ft_fail(st, FT_ERR_LIMIT, "ranking: too many documents");
    return ft_array_grow((void **)&r->lengths, &r->document_capacity, r->document_count + 1, sizeof(*r->lengths), st);
}

static ft_code end_document(ft_ranker *r, ft_code rc, word_hash open, ft_status *st)
{
    if (!rc && open)
        rc = add_to_document(r, open, st);
    if (!rc)
        rc = ft_array_grow((void **)&r->hits, &r->hit_capacity, r->hit_count + r->touched_count, sizeof(*r->hits), st);
    if (rc)
        return rc;
    for (size_t i = 0; i < r->touched_count; i++) {
        const word *w = find_word(r, r->touched[i]);
        r->hits[r->hit_count++] = (hit){(uint32_t)r->document_count, w->last_hits, w->in_query, w->hash};
    }
    r->lengths[r->document_count++] = r->words_of_document;
    return FT_OK;
}

ft_code ft_ranker_add(ft_ranker *r, ft_text_view document, ft_status *st)
{
    word_hash open = 0;
    ft_code rc = begin_document(r, st);
    if (!rc)
        rc = words_walk(document.text, document.bytes, &open, add_to_document, r, st);
    return end_document(r, rc, open, st);
}

/* Words are taken from the tokens first and counted then, so that what is known of those that come is on its way. */
static ft_code add_heard(ft_ranker *r, ft_status *st)
{
    enum { AHEAD = 8 };
    const word_list *l = &r->heard;
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < l->count; i++) {
        if (i + AHEAD < l->count)
            __builtin_prefetch(&r->words[first_slot(r, l->words[i + AHEAD])]);
        rc = add_to_document(r, l->words[i], st);
    }
    return rc;
}

ft_code ft_ranker_add_tokens(ft_ranker *r, const ft_lexicon *l, const uint32_t *ids, size_t n, ft_status *st)
{
    word_hash open = 0;
    ft_code rc = begin_document(r, st);
    r->heard.count = 0;
    if (!rc)
        rc = words_of_tokens(l, ids, n, &r->scratch, &open, &r->heard, st);
    if (!rc)
        rc = add_heard(r, st);
    return end_document(r, rc, open, st);
}

/* --- Scores ----------------------------------------------------------------- */

static double plain_idf(const ft_ranker *r, uint32_t documents)
{
    return log((double)(r->document_count - documents) + 0.5) - log((double)documents + 0.5);
}

/* Words that stand in equally many documents share their idf, and most stand in few. */
typedef struct idf_cache {
    struct {
        uint32_t documents;
        double idf;
    } of[256];
} idf_cache;

static double idf_of(idf_cache *c, const ft_ranker *r, uint32_t documents)
{
    const size_t slot = documents % (sizeof(c->of) / sizeof(*c->of));
    if (c->of[slot].documents != documents) {
        c->of[slot].documents = documents;
        c->of[slot].idf = plain_idf(r, documents);
    }
    return c->of[slot].idf;
}

void ft_ranker_scores(const ft_ranker *r, double *scores)
{
    idf_cache idfs = {0};
    double idf_sum = 0, length_sum = 0;
    size_t distinct = 0;
    for (size_t i = 0; i < r->slots; i++)
        if (r->words[i].documents) {
            idf_sum += idf_of(&idfs, r, r->words[i].documents);
            distinct++;
        }
    for (size_t d = 0; d < r->document_count; d++) {
        scores[d] = 0;
        length_sum += (double)r->lengths[d];
    }
    if (!distinct)
        return;
    const double floor_idf = epsilon * fabs(idf_sum / (double)distinct);
    const double mean_length = length_sum / (double)r->document_count;
    for (size_t i = 0; i < r->hit_count; i++) {
        const hit *h = &r->hits[i];
        const double plain = idf_of(&idfs, r, find_word(r, h->hash)->documents), f = (double)h->count;
        const double norm = k1 * (1 - b + b * (double)r->lengths[h->document] / mean_length);
        scores[h->document] += (double)h->in_query * (plain < 0 ? floor_idf : plain) * f * (k1 + 1) / (f + norm);
    }
}

ft_code ft_bm25(ft_text_view query, const ft_text_view *documents, size_t count, double *scores, ft_status *st)
{
    ft_ranker *r;
    ft_code rc = ft_ranker_new(&r, query, st);
    for (size_t i = 0; !rc && i < count; i++)
        rc = ft_ranker_add(r, documents[i], st);
    if (!rc)
        ft_ranker_scores(r, scores);
    ft_ranker_free(r);
    return rc;
}
