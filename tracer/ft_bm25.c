#include "tracer/ft_bm25.h"

#include "base/ft_buffer.h"
#include "base/ft_utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>

/* One distinct word of the query or the documents. */
typedef struct word {
    uint64_t hash;
    size_t at, bytes;       /* its lower-cased text in `letters` */
    size_t in_query;        /* how often the query holds it */
    size_t documents;       /* n of the idf */
    size_t last, last_hits; /* document seen last (number + 1), and its hits there */
} word;

/* f of the formula: how often a query word stands in a document. */
typedef struct hit {
    size_t document, word, count;
} hit;

struct ft_ranker {
    ft_buffer letters;
    word *words;
    size_t word_count, word_capacity;
    size_t *slots; /* word + 1; 0: free */
    size_t slot_count;
    size_t *lengths; /* words of each document */
    size_t document_count, document_capacity;
    hit *hits;
    size_t hit_count, hit_capacity;
    size_t *touched; /* query words of the document being added */
    size_t touched_count, touched_capacity;
};

static const double k1 = 1.5, b = 0.75, epsilon = 0.25;

void ft_ranker_free(ft_ranker *r)
{
    if (!r)
        return;
    ft_buffer_release(&r->letters);
    free(r->words);
    free(r->slots);
    free(r->lengths);
    free(r->hits);
    free(r->touched);
    free(r);
}

/* --- Words ----------------------------------------------------------------- */

static int is_word_character(uint32_t c)
{
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return 1;
    default:
        return 0;
    }
}

/* Appends the next word of text[*at..bytes) to `letters`, lower-cased; *at moves
 * behind it. Nothing appended: the text is over. */
static ft_code next_word(ft_buffer *letters, ft_text_view text, size_t *at, ft_status *st)
{
    const size_t before = letters->size;
    while (*at < text.bytes) {
        const ft_utf8_step step = ft_utf8_next(text.text + *at, text.bytes - *at);
        const int inside = step.valid && is_word_character(step.code_point);
        if (!inside && letters->size > before)
            return FT_OK;
        *at += step.length;
        if (!inside)
            continue;
        const uint32_t c = step.code_point;
        const ft_code rc = c < 0x80
                               ? ft_buffer_append(letters, &(char){(char)(c >= 'A' && c <= 'Z' ? c + 32 : c)}, 1, st)
                               : ft_utf8_append(letters, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c), st);
        if (rc)
            return rc;
    }
    return FT_OK;
}

static ft_code grow_slots(ft_ranker *r, ft_status *st)
{
    const size_t wanted = r->slot_count ? 2 * r->slot_count : 1024;
    size_t *slots = ft_alloc_array(wanted, sizeof(*slots));
    if (!slots)
        return ft_fail(st, FT_ERR_MEM, "ranking: no room for %zu words", wanted / 2);
    for (size_t w = 0; w < r->word_count; w++) {
        size_t s = r->words[w].hash & (wanted - 1);
        while (slots[s])
            s = (s + 1) & (wanted - 1);
        slots[s] = w + 1;
    }
    free(r->slots);
    r->slots = slots;
    r->slot_count = wanted;
    return FT_OK;
}

/* The number of the word that ends `letters` and starts at `at`; its letters are
 * taken off again where the word is known already. */
static ft_code intern(ft_ranker *r, size_t at, size_t *number, ft_status *st)
{
    ft_code rc = FT_OK;
    if (2 * (r->word_count + 1) > r->slot_count)
        rc = grow_slots(r, st);
    if (!rc)
        rc = ft_array_grow((void **)&r->words, &r->word_capacity, r->word_count + 1, sizeof(*r->words), st);
    if (rc)
        return rc;
    const char *text = r->letters.data + at;
    const size_t bytes = r->letters.size - at;
    const uint64_t hash = XXH3_64bits(text, bytes);
    size_t s = hash & (r->slot_count - 1);
    for (; r->slots[s]; s = (s + 1) & (r->slot_count - 1)) {
        const word *w = &r->words[r->slots[s] - 1];
        if (w->hash == hash && w->bytes == bytes && !memcmp(r->letters.data + w->at, text, bytes)) {
            *number = r->slots[s] - 1;
            r->letters.size = at;
            return FT_OK;
        }
    }
    r->words[r->word_count] = (word){.hash = hash, .at = at, .bytes = bytes};
    r->slots[s] = r->word_count + 1;
    *number = r->word_count++;
    return FT_OK;
}

/* --- Query and documents ---------------------------------------------------- */

ft_code ft_ranker_new(ft_ranker **out, ft_text_view query, ft_status *st)
{
    *out = NULL;
    ft_ranker *r = calloc(1, sizeof(*r));
    if (!r)
        return ft_fail(st, FT_ERR_MEM, "ranking: no room for the query");
    ft_code rc = FT_OK;
    size_t at = 0;
    while (!rc) {
        const size_t before = r->letters.size;
        rc = next_word(&r->letters, query, &at, st);
        if (rc || r->letters.size == before)
            break;
        size_t w = 0;
        rc = intern(r, before, &w, st);
        if (!rc)
            r->words[w].in_query++;
    }
    if (rc)
        ft_ranker_free(r);
    else
        *out = r;
    return rc;
}

/* Counts one word of the document with number `document`. */
static ft_code count_word(ft_ranker *r, size_t document, size_t number, ft_status *st)
{
    word *w = &r->words[number];
    if (w->last != document + 1) {
        if (w->in_query) {
            const ft_code rc = ft_array_grow((void **)&r->touched, &r->touched_capacity, r->touched_count + 1,
                                             sizeof(*r->touched), st);
            if (rc)
                return rc;
            r->touched[r->touched_count++] = number;
        }
        w->last = document + 1;
        w->last_hits = 0;
        w->documents++;
    }
    w->last_hits++;
    return FT_OK;
}

ft_code ft_ranker_add(ft_ranker *r, ft_text_view document, ft_status *st)
{
    const size_t number = r->document_count;
    ft_code rc = ft_array_grow((void **)&r->lengths, &r->document_capacity, number + 1, sizeof(*r->lengths), st);
    if (rc)
        return rc;
    r->lengths[number] = 0;
    r->touched_count = 0;
    size_t at = 0;
    while (!rc) {
        const size_t before = r->letters.size;
        rc = next_word(&r->letters, document, &at, st);
        if (rc || r->letters.size == before)
            break;
        size_t w = 0;
        rc = intern(r, before, &w, st);
        if (!rc)
            rc = count_word(r, number, w, st);
        r->lengths[number]++;
    }
    if (!rc)
        rc = ft_array_grow((void **)&r->hits, &r->hit_capacity, r->hit_count + r->touched_count, sizeof(*r->hits), st);
    if (rc)
        return rc;
    for (size_t i = 0; i < r->touched_count; i++)
        r->hits[r->hit_count++] = (hit){number, r->touched[i], r->words[r->touched[i]].last_hits};
    r->document_count++;
    return FT_OK;
}

/* --- Scores ----------------------------------------------------------------- */

static double plain_idf(const ft_ranker *r, const word *w)
{
    return log((double)(r->document_count - w->documents) + 0.5) - log((double)w->documents + 0.5);
}

void ft_ranker_scores(const ft_ranker *r, double *scores)
{
    double idf_sum = 0, length_sum = 0;
    size_t distinct = 0;
    for (size_t i = 0; i < r->word_count; i++)
        if (r->words[i].documents) {
            idf_sum += plain_idf(r, &r->words[i]);
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
        const word *w = &r->words[h->word];
        const double plain = plain_idf(r, w), idf = plain < 0 ? floor_idf : plain, f = (double)h->count;
        const double norm = k1 * (1 - b + b * (double)r->lengths[h->document] / mean_length);
        scores[h->document] += (double)w->in_query * idf * f * (k1 + 1) / (f + norm);
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
