/* Words of erased documents anywhere in a text. A span is one choice among what a response repeats: the density's limit
 * drops others, a word's beginning or a sentence's end cuts them, and a prompt has none. So texts are compared whole,
 * by the hashes of every so many tokens in a row. */
#include "base/ft_buffer.h"
#include "tracer/erasure_internal.h"
#include "tracer/tracer_internal.h"

#include <stdlib.h>
#include <xxhash.h>

void erased_release(erased *what)
{
    for (size_t i = 0; i < what->count; i++)
        free(what->texts[i].ids);
    free(what->texts);
    free(what->runs);
}

static size_t run_tokens(const erased *what)
{
    return what->e->min_tokens > ERASED_RUN_TOKENS ? what->e->min_tokens : ERASED_RUN_TOKENS;
}

static uint64_t run_hash(const uint32_t *ids, size_t n)
{
    return XXH3_64bits(ids, n * sizeof(*ids));
}

static int by_value(const void *x, const void *y)
{
    const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

ft_code erased_prepare(erased *what, ft_status *st)
{
    const size_t n = run_tokens(what);
    size_t all = 0;
    for (size_t i = 0; i < what->count; i++)
        all += what->texts[i].count >= n ? what->texts[i].count - n + 1 : 0;
    free(what->runs);
    what->run_count = 0;
    what->runs = ft_alloc_array(all, sizeof(*what->runs));
    if (!what->runs)
        return ft_fail(st, FT_ERR_MEM, "erasure: no room for %zu runs of tokens", all);
    for (size_t i = 0; i < what->count; i++)
        for (size_t at = 0; at + n <= what->texts[i].count; at++)
            what->runs[what->run_count++] = run_hash(what->texts[i].ids + at, n);
    if (all)
        qsort(what->runs, all, sizeof(*what->runs), by_value);
    return FT_OK;
}

int erased_next_run(const erased *what, const uint32_t *ids, size_t count, size_t from, size_t *start, size_t *end)
{
    const size_t n = run_tokens(what);
    *start = *end = from;
    for (size_t at = from; what->run_count && at + n <= count && (*end == *start || at <= *end); at++) {
        const uint64_t hash = run_hash(ids + at, n);
        if (!bsearch(&hash, what->runs, what->run_count, sizeof(hash), by_value))
            continue;
        *start = *end == *start ? at : *start;
        *end = at + n;
    }
    return *end > *start;
}
