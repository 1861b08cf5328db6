#include "model/ft_sampler.h"

#include "base/ft_buffer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    double weight; /* exp((logit - best) / temperature) */
    uint32_t id;
} candidate;

struct ft_sampler {
    ft_sampling how; /* bias_ids, bias_values: our own copies */
    size_t vocab;
    ft_random random;
    candidate *heap; /* [vocab] */
    float *adjusted; /* [vocab]; NULL where logits serve as they stand */
    uint32_t *seen;  /* [vocab] with a penalty: how often it was generated; IN_PROMPT beside it */
    uint32_t *bias_ids, *ends;
    float *bias_values;
    size_t end_count, drawn;
};

#define IN_PROMPT (UINT32_C(1) << 31)

/* Weights below e^-50 of the largest cannot move a sum of doubles, nor be drawn. */
static const double least_exponent = -50;

static ft_code check(const ft_sampling *how, size_t vocab, ft_status *st)
{
    if (!(how->temperature >= 0 && how->temperature <= 1e6))
        return ft_fail(st, FT_ERR_ARG, "temperature must be 0 or more, not %g", how->temperature);
    if (how->top_k < 0)
        return ft_fail(st, FT_ERR_ARG, "top_k must be 0 or more, not %lld", (long long)how->top_k);
    if (!(how->top_p >= 0 && how->top_p <= 1))
        return ft_fail(st, FT_ERR_ARG, "top_p must be from 0 to 1, not %g", how->top_p);
    if (!(how->min_p >= 0 && how->min_p <= 1))
        return ft_fail(st, FT_ERR_ARG, "min_p must be from 0 to 1, not %g", how->min_p);
    if (!(fabs(how->presence_penalty) <= 1e6))
        return ft_fail(st, FT_ERR_ARG, "presence_penalty must be a number, not %g", how->presence_penalty);
    if (!(fabs(how->frequency_penalty) <= 1e6))
        return ft_fail(st, FT_ERR_ARG, "frequency_penalty must be a number, not %g", how->frequency_penalty);
    if (!(how->repetition_penalty >= 0 && how->repetition_penalty <= 1e6))
        return ft_fail(st, FT_ERR_ARG, "repetition_penalty must be above 0, not %g", how->repetition_penalty);
    for (size_t i = 0; i < how->bias_count; i++) {
        if (how->bias_ids[i] >= vocab)
            return ft_fail(st, FT_ERR_ARG, "logit_bias: id %u; the vocabulary has %zu", how->bias_ids[i], vocab);
        if (!isfinite(how->bias_values[i]))
            return ft_fail(st, FT_ERR_ARG, "logit_bias: the value of id %u is not finite", how->bias_ids[i]);
    }
    return FT_OK;
}

static int has_penalty(const ft_sampling *how)
{
    return how->presence_penalty != 0 || how->frequency_penalty != 0 ||
           (how->repetition_penalty != 0 && how->repetition_penalty != 1);
}

static int allocate(ft_sampler *s, const ft_sampling *how, const uint32_t *ends, size_t end_count)
{
    int ok = (s->heap = ft_alloc_array(s->vocab, sizeof(*s->heap))) != NULL;
    const int held = how->min_tokens && end_count;
    if (has_penalty(how))
        ok = (s->seen = ft_alloc_array(s->vocab, sizeof(*s->seen))) && ok;
    if (has_penalty(how) || how->bias_count || held)
        ok = (s->adjusted = ft_alloc_array(s->vocab, sizeof(*s->adjusted))) && ok;
    if (how->bias_count) {
        ok = (s->bias_ids = ft_alloc_array(how->bias_count, sizeof(*s->bias_ids))) && ok;
        ok = (s->bias_values = ft_alloc_array(how->bias_count, sizeof(*s->bias_values))) && ok;
    }
    if (held)
        ok = (s->ends = ft_alloc_array(end_count, sizeof(*s->ends))) && ok;
    if (ok && how->bias_count) {
        memcpy(s->bias_ids, how->bias_ids, how->bias_count * sizeof(*s->bias_ids));
        memcpy(s->bias_values, how->bias_values, how->bias_count * sizeof(*s->bias_values));
    }
    if (ok && held) {
        memcpy(s->ends, ends, end_count * sizeof(*s->ends));
        s->end_count = end_count;
    }
    return ok;
}

ft_code ft_sampler_new(ft_sampler **out, const ft_sampling *how, const uint32_t *ends, size_t end_count, size_t vocab,
                       ft_status *st)
{
    *out = NULL;
    const ft_code rc = check(how, vocab, st);
    if (rc)
        return rc;
    ft_sampler *s = calloc(1, sizeof(*s));
    if (s)
        s->vocab = vocab;
    if (!s || !allocate(s, how, ends, end_count)) {
        ft_sampler_free(s);
        return ft_fail(st, FT_ERR_MEM, "sampler: out of memory");
    }
    s->how = *how;
    s->how.bias_ids = s->bias_ids;
    s->how.bias_values = s->bias_values;
    ft_random_init(&s->random, how->seed);
    *out = s;
    return FT_OK;
}

void ft_sampler_free(ft_sampler *s)
{
    if (!s)
        return;
    free(s->ends);
    free(s->bias_values);
    free(s->bias_ids);
    free(s->adjusted);
    free(s->seen);
    free(s->heap);
    free(s);
}

void ft_sampler_read_prompt(ft_sampler *s, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; s->seen && i < count; i++)
        if (ids[i] < s->vocab)
            s->seen[ids[i]] |= IN_PROMPT;
}

/* vLLM's order: bias, ends held back, then repetition, frequency, presence. */
static const float *adjust(ft_sampler *s, const float *logits)
{
    if (!s->adjusted)
        return logits;
    const ft_sampling *how = &s->how;
    float *to = s->adjusted;
    memcpy(to, logits, s->vocab * sizeof(*to));
    for (size_t i = 0; i < how->bias_count; i++)
        to[how->bias_ids[i]] += how->bias_values[i];
    for (size_t i = 0; i < s->end_count && s->drawn < how->min_tokens; i++)
        if (s->ends[i] < s->vocab)
            to[s->ends[i]] = -INFINITY;
    const float repetition = how->repetition_penalty != 0 ? (float)how->repetition_penalty : 1;
    for (size_t i = 0; s->seen && i < s->vocab; i++) {
        if (!s->seen[i])
            continue;
        const uint32_t times = s->seen[i] & ~IN_PROMPT;
        to[i] = to[i] > 0 ? to[i] / repetition : to[i] * repetition;
        if (times)
            to[i] -= (float)(how->frequency_penalty * times + how->presence_penalty);
    }
    return to;
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

/* Those that take part, in order of their ids; the likeliest has weight 1. */
static size_t weigh(ft_sampler *s, const float *logits, size_t n, uint32_t best)
{
    const double t = s->how.temperature, top = (double)logits[best];
    const double least = s->how.min_p > 0 ? log(s->how.min_p) : least_exponent;
    const float cutoff = nextafterf((float)(top + t * least), -INFINITY), largest = logits[best];
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(logits[i] >= cutoff && logits[i] <= largest)) /* infinities and NaN fail too */
            continue;
        const double weight = exp(((double)logits[i] - top) / t);
        if (weight >= s->how.min_p)
            s->heap[count++] = (candidate){.weight = weight, .id = (uint32_t)i};
    }
    return count;
}

static uint32_t draw(ft_sampler *s, const float *logits, size_t n)
{
    const uint32_t best = best_id(logits, n);
    if (best == UINT32_MAX || s->how.temperature == 0)
        return best;
    const size_t count = weigh(s, logits, n, best);
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

uint32_t ft_sampler_draw(ft_sampler *s, const float *logits, size_t limit)
{
    const size_t n = limit && limit < s->vocab ? limit : s->vocab;
    const uint32_t id = draw(s, adjust(s, logits), n);
    s->drawn++;
    if (s->seen && id != UINT32_MAX && (s->seen[id] & ~IN_PROMPT) < IN_PROMPT - 1)
        s->seen[id]++;
    return id;
}
