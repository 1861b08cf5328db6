/* Words of erased documents anywhere in a text. A span is one choice among what a response repeats: the density's limit
 * drops others, a word's beginning or a sentence's end cuts them, and a prompt has none. So texts are compared whole,
 * by the hashes of every so many tokens in a row. */
#define _GNU_SOURCE /* memmem */
#include "tracer/erasure_internal.h"
#include "tracer/tracer_internal.h"

#include <stdlib.h>
#include <string.h>
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

/* The numbers of a JSON list from `at` on; what is no number counts as no token. Ends at what no list has. */
static const char *read_list(const char *at, const char *end, uint32_t **ids, size_t *room, size_t *count, ft_code *rc,
                             ft_status *st)
{
    for (*count = 0; !*rc && at < end && *at != ']'; at += at < end && *at == ',') {
        uint64_t v = *at >= '0' && *at <= '9' ? 0 : UINT32_MAX;
        for (; at < end && *at != ',' && *at != ']'; at++)
            v = *at >= '0' && *at <= '9' && v < UINT32_MAX ? 10 * v + (uint64_t)(*at - '0') : UINT32_MAX;
        *rc = ft_array_grow((void **)ids, room, *count + 1, sizeof(**ids), st);
        if (!*rc)
            (*ids)[(*count)++] = v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
    }
    return at;
}

/* A quote inside a string is escaped, so that the name stands in none. */
ft_code erased_repeated(const erased *what, const ft_buffer *trace, int *yes, ft_status *st)
{
    static const char name[] = "\"ids\":[";
    const char *at = trace->data, *end = at + trace->size;
    uint32_t *ids = NULL;
    size_t room = 0, count, from, to;
    ft_code rc = FT_OK;
    for (*yes = 0; !rc && !*yes && at && (at = memmem(at, (size_t)(end - at), name, sizeof(name) - 1));) {
        at = read_list(at + sizeof(name) - 1, end, &ids, &room, &count, &rc, st);
        *yes = !rc && erased_next_run(what, ids, count, 0, &from, &to);
    }
    free(ids);
    return rc;
}
