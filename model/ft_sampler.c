#include "model/ft_sampler.h"

#include "base/ft_buffer.h"

#include <math.h>
#include <stdlib.h>

typedef struct candidate {
    double weight; /* exp((logit - best) / temperature) */
    uint32_t id;
} candidate;

struct ft_sampler {
    ft_sampling how;
    size_t vocab;
    ft_random random;
    candidate *heap; /* [vocab] */
};

ft_code ft_sampler_new(ft_sampler **out, const ft_sampling *how, size_t vocab, ft_status *st)
{
    *out = NULL;
    if (!(how->temperature >= 0 && how->temperature <= 1e6))
        return ft_fail(st, FT_ERR_ARG, "temperature must be 0 or more, not %g", how->temperature);
    if (how->top_k < 0)
        return ft_fail(st, FT_ERR_ARG, "top_k must be 0 or more, not %lld", (long long)how->top_k);
    if (!(how->top_p >= 0 && how->top_p <= 1))
        return ft_fail(st, FT_ERR_ARG, "top_p must be from 0 to 1, not %g", how->top_p);
    ft_sampler *s = calloc(1, sizeof(*s));
    if (s)
        s->heap = ft_alloc_array(vocab, sizeof(*s->heap));
    if (!s || !s->heap) {
        ft_sampler_free(s);
        return ft_fail(st, FT_ERR_MEM, "sampler: out of memory");
    }
    s->how = *how;
    s->vocab = vocab;
    ft_random_init(&s->random, how->seed);
    *out = s;
    return FT_OK;
}

void ft_sampler_free(ft_sampler *s)
{
    if (!s)
        return;
    free(s->heap);
    free(s);
}

/* The lowest id among the largest finite logits; UINT32_MAX where none is finite. */
static uint32_t best_id(const float *logits, size_t n)
{
    uint32_t best = UINT32_MAX;
    for (size_t i = 0; i < n; i++)
        if (isfinite(logits[i]) && (best == UINT32_MAX || logits[i] > logits[best]))
            best = (uint32_t)i;
    return best;
}

/* Likelier first; the lower id first on a tie, so that a draw has one meaning. */
static int before(const candidate *a, const candidate *b)
{
    return a->weight > b->weight || (a->weight == b->weight && a->id < b->id);
}

static void sink(candidate *heap, size_t n, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            return;
        if (child + 1 < n && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &heap[at]))
            return;
        const candidate swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

/* Takes the likeliest out of the heap and puts it behind the rest: what was taken
 * stands, likeliest first, at the end of the array read backwards. */
static void take_best(candidate *heap, size_t n)
{
    const candidate best = heap[0];
    heap[0] = heap[n - 1];
    heap[n - 1] = best;
    sink(heap, n - 1, 0);
}

/* How many of n candidates take part, moved to the end of the array, likeliest last. */
static size_t cut(ft_sampler *s, size_t n)
{
    candidate *heap = s->heap;
    const size_t k = s->how.top_k > 0 && (uint64_t)s->how.top_k < n ? (size_t)s->how.top_k : n;
    double total = 0;
    for (size_t i = n / 2; i-- > 0;)
        sink(heap, n, i);
    if (k == n)
        for (size_t i = 0; i < n; i++)
            total += heap[i].weight;
    size_t taken = 0;
    for (; k < n && taken < k; taken++) { /* top-p is a share of what top-k left */
        take_best(heap, n - taken);
        total += heap[n - taken - 1].weight;
    }
    if (s->how.top_p >= 1)
        return k < n ? k : n;
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        if (k == n)
            take_best(heap, n - i);
        sum += heap[n - i - 1].weight;
        if (sum >= s->how.top_p * total)
            return i + 1;
    }
    return k;
}

uint32_t ft_sampler_draw(ft_sampler *s, const float *logits, size_t limit)
{
    const size_t n = limit && limit < s->vocab ? limit : s->vocab;
    const uint32_t best = best_id(logits, n);
    if (best == UINT32_MAX || s->how.temperature == 0)
        return best;
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(logits[i]))
            s->heap[count++] = (candidate){
                .weight = exp(((double)logits[i] - (double)logits[best]) / s->how.temperature), .id = (uint32_t)i};
    const int whole = s->how.top_p >= 1 && (s->how.top_k == 0 || (uint64_t)s->how.top_k >= count);
    const size_t kept = whole ? count : cut(s, count); /* all of them: drawn in order of the ids */
    double total = 0, sum = 0;
    for (size_t i = 0; i < kept; i++)
        total += s->heap[count - 1 - i].weight;
    const double point = ft_random_unit(&s->random) * total;
    for (size_t i = 0; i < kept; i++) {
        sum += s->heap[count - 1 - i].weight;
        if (point < sum)
            return s->heap[count - 1 - i].id;
    }
    return s->heap[count - 1].id; /* rounding left the point at the very end */
}

double ft_log_probability(const float *logits, size_t vocab, uint32_t id)
{
    const uint32_t best = best_id(logits, vocab);
    if (best == UINT32_MAX)
        return -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < vocab; i++)
        if (isfinite(logits[i]))
            sum += exp((double)logits[i] - (double)logits[best]);
    return (double)logits[id] - (double)logits[best] - log(sum);
}
