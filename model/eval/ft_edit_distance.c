#include "model/eval/ft_edit_distance.h"

#include "base/ft_buffer.h"

#include <stdlib.h>
#include <string.h>

void ft_edit_scratch_release(ft_edit_scratch *s)
{
    free(s->symbols);
    free(s->words);
    memset(s, 0, sizeof(*s));
}

static int by_value(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The place of x among the `count` sorted symbols, or count. */
static size_t find(const uint32_t *symbols, size_t count, uint32_t x)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (symbols[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && symbols[low] == x ? low : count;
}

/* Distinct symbols of a; returns how many. */
static size_t sort_symbols(uint32_t *symbols, const uint32_t *a, size_t m)
{
    size_t count = 0;
    memcpy(symbols, a, m * sizeof(*a));
    qsort(symbols, m, sizeof(*symbols), by_value);
    for (size_t i = 0; i < m; i++)
        if (!i || symbols[i] != symbols[i - 1])
            symbols[count++] = symbols[i];
    return count;
}

/* One column's step in one word of 64 rows. pv, mv: where D grows or falls from one row to the next. `in` is how D
 * changes along the row above the word, -1, 0 or 1; returns the same along the row of bit `last`. */
static int step(uint64_t *pv, uint64_t *mv, uint64_t eq, int in, unsigned last)
{
    const uint64_t xv = eq | *mv;
    eq |= in < 0;
    const uint64_t xh = (((eq & *pv) + *pv) ^ *pv) | eq;
    uint64_t ph = *mv | ~(xh | *pv), mh = *pv & xh;
    const int out = (int)(ph >> last & 1) - (int)(mh >> last & 1);
    ph = ph << 1 | (in > 0);
    mh = mh << 1 | (in < 0);
    *pv = mh | ~(xv | ph);
    *mv = ph & xv;
    return out;
}

ft_code ft_edit_distance(ft_edit_scratch *s, const uint32_t *a, size_t m, const uint32_t *b, size_t n, size_t *out,
                         ft_status *st)
{
    *out = m ? m : n;
    if (!m || !n) {
        *out = m + n;
        return FT_OK;
    }
    ft_code rc = ft_array_grow((void **)&s->symbols, &s->symbol_capacity, m, sizeof(*s->symbols), st);
    if (rc)
        return rc;
    const size_t count = sort_symbols(s->symbols, a, m), words = (m + 63) / 64;
    size_t needed;
    rc = ft_size_mul(count + 3, words, &needed, st); /* one more row of masks: that of symbols not in a */
    if (!rc)
        rc = ft_array_grow((void **)&s->words, &s->word_capacity, needed, sizeof(*s->words), st);
    if (rc)
        return rc;
    uint64_t *pv = s->words + (count + 1) * words, *mv = pv + words;
    memset(s->words, 0, needed * sizeof(*s->words));
    memset(pv, 255, words * sizeof(*pv));
    for (size_t i = 0; i < m; i++)
        s->words[find(s->symbols, count, a[i]) * words + i / 64] |= (uint64_t)1 << i % 64;
    size_t distance = m;
    for (size_t j = 0; j < n; j++) {
        const uint64_t *eq = s->words + find(s->symbols, count, b[j]) * words;
        int carry = 1; /* D[0][j] = j */
        for (size_t w = 0; w < words; w++)
            carry = step(&pv[w], &mv[w], eq[w], carry, w + 1 < words ? 63 : (unsigned)((m - 1) % 64));
        distance = carry < 0 ? distance - 1 : distance + (size_t)carry;
    }
    *out = distance;
    return FT_OK;
}

ft_code ft_edit_similarity(ft_edit_scratch *s, const uint32_t *a, size_t m, const uint32_t *b, size_t n, double *out,
                           ft_status *st)
{
    size_t d;
    const size_t longer = m > n ? m : n;
    const ft_code rc = ft_edit_distance(s, a, m, b, n, &d, st);
    if (!rc)
        *out = longer ? 1 - (double)d / (double)longer : 1;
    return rc;
}
