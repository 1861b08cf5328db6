/* Occurrences and their documents, as infini-gram's two faces show them. */
#include "api/routes_internal.h"

#include "base/ft_random.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int ft_shard_find(const ft_index_set *set, uint64_t shard, size_t *index, unsigned *part)
{
    for (*index = 0; *index < set->count; ++*index) {
        const unsigned parts = ft_index_get_info(set->indexes[*index]).parts;
        if (shard < parts) {
            *part = (unsigned)shard;
            return 1;
        }
        shard -= parts;
    }
    return 0;
}

static uint64_t documents_before(const ft_index_set *set, size_t index)
{
    uint64_t n = 0;
    for (size_t i = 0; i < index; i++)
        n += ft_index_get_info(set->indexes[i]).documents;
    return n;
}

/* The document whose end token stands at `position`: ours write it behind the tokens,
 * infini-gram's before them. */
static ft_code document_of_end(const ft_index *ix, unsigned part, uint64_t position, ft_doc_ref *out, ft_status *st)
{
    const int before = ft_index_get_info(ix).is_infinigram;
    if (!before && position == 0)
        return ft_fail(st, FT_ERR_NOT_FOUND, "position 0 stands in no document");
    return ft_index_document_at(ix, part, before ? position + 1 : position - 1, out, st);
}

ft_code ft_occurrence_at(const ft_index_set *set, size_t index, unsigned part, uint64_t position, size_t n,
                         ft_occurrence *out, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    out->index = set->indexes[index];
    ft_code rc = ft_index_document_at(out->index, part, position, &out->document, st);
    if (rc == FT_ERR_NOT_FOUND) {
        rc = document_of_end(out->index, part, position, &out->document, st);
        n = 0;
    }
    if (rc)
        return rc;
    const uint64_t offset = position > out->document.start ? position - out->document.start : 0;
    if (offset > out->document.length)
        return ft_fail(st, FT_ERR_FORMAT, "a position leaves its document; the index is damaged");
    out->n = n < out->document.length - offset ? n : (size_t)(out->document.length - offset);
    const ft_index_info info = ft_index_get_info(out->index);
    const int reversed = info.is_infinigram && info.infinigram_version == 5; /* last token first */
    out->offset = reversed ? out->document.length - offset - out->n : offset;
    out->number = documents_before(set, index) + out->document.number;
    return FT_OK;
}

ft_code ft_occurrence_of_document(const ft_index_set *set, uint64_t number, ft_occurrence *out, ft_status *st)
{
    memset(out, 0, sizeof(*out));
    out->number = number;
    for (size_t i = 0; i < set->count; i++) {
        const uint64_t here = ft_index_get_info(set->indexes[i]).documents;
        out->index = set->indexes[i];
        if (number < here)
            return ft_index_document(set->indexes[i], number, &out->document, st);
        number -= here;
    }
    return ft_fail(st, FT_ERR_NOT_FOUND, "there is no document %" PRIu64, out->number);
}

/* Occurrence number i of the pattern, counted through indexes and parts. */
static ft_code occurrence_number(const ft_index_set *set, const ft_match *matches, uint64_t i, size_t n,
                                 ft_occurrence *out, ft_status *st)
{
    for (size_t x = 0; x < set->count; x++) {
        if (i >= matches[x].count) {
            i -= matches[x].count;
            continue;
        }
        for (unsigned p = 0; p < FT_INDEX_MAX_PARTS; p++) {
            const ft_range r = matches[x].part[p];
            if (i < r.hi - r.lo)
                return ft_occurrence_at(set, x, p, ft_index_position(set->indexes[x], p, r.lo + i), n, out, st);
            i -= r.hi - r.lo;
        }
    }
    return ft_fail(st, FT_ERR_FORMAT, "an index counts more occurrences than it holds");
}

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* `most` different numbers below `total`, rising (Floyd's sampling). */
static void sample(uint64_t *numbers, size_t most, uint64_t total)
{
    ft_random random;
    ft_random_init(&random, 1);
    for (size_t k = 0; k < most; k++) {
        const uint64_t end = total - most + k + 1;
        uint64_t pick = ft_random_below(&random, end);
        for (size_t i = 0; i < k; i++)
            if (numbers[i] == pick) {
                pick = end - 1;
                break;
            }
        numbers[k] = pick;
    }
    qsort(numbers, most, sizeof(*numbers), by_number);
}

ft_code ft_occurrences_sample(const ft_index_set *set, const uint32_t *ids, size_t n, size_t most, ft_occurrence *out,
                              size_t *count, ft_status *st)
{
    uint64_t total = 0;
    ft_match *matches = ft_alloc_array(set->count, sizeof(*matches));
    uint64_t *numbers = ft_alloc_array(most, sizeof(*numbers));
    ft_code rc = matches && numbers ? FT_OK : ft_fail(st, FT_ERR_MEM, "out of memory");
    *count = 0;
    for (size_t x = 0; !rc && x < set->count; x++) {
        ft_index_find(set->indexes[x], ids, n, &matches[x]);
        total += matches[x].count;
    }
    if (!rc && total > most)
        sample(numbers, most, total);
    for (size_t k = 0; !rc && k < most && k < total; k++)
        rc = occurrence_number(set, matches, total > most ? numbers[k] : k, n, &out[(*count)++], st);
    free(matches);
    free(numbers);
    return rc;
}

ft_code ft_occurrence_window(const ft_occurrence *o, size_t before, size_t after, uint32_t **ids, size_t *count,
                             size_t *needle, ft_status *st)
{
    const uint64_t length = o->document.length, end = o->offset + o->n;
    const uint64_t from = o->offset > before ? o->offset - before : 0;
    const uint64_t to = length - end > after ? end + after : length;
    *count = 0;
    *needle = (size_t)(o->offset - from);
    *ids = ft_alloc_array((size_t)(to - from), sizeof(**ids));
    if (!*ids)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    ft_index_document_tokens(o->index, &o->document, from, (size_t)(to - from), *ids, count);
    return FT_OK;
}

json_t *ft_metadata_json(const ft_doc_ref *d)
{
    json_t *m = NULL;
    if (ft_json_parse(&m, d->metadata, d->metadata_bytes, "metadata", NULL) != FT_OK || !json_is_object(m)) {
        json_decref(m);
        m = json_object();
    }
    if (d->id_bytes && !json_object_get(m, "id"))
        (void)json_object_set_new(m, "id", ft_json_text(d->id, d->id_bytes));
    return m;
}
