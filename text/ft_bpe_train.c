/* Counting words, and merging pairs. Each pair keeps a list of the words that it was seen in; a list may name words
 * that have lost the pair since, which costs a look at them and nothing else. The heap is lazy: a pair has one live
 * entry, pushed again when its count rose above it, or corrected when it comes to the top. */
#include "text/bpe_train_internal.h"
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTE = 2, LAST_LETTER = 0x143, CUT_AT_ONCE = 256, REPORT_EVERY = 1 << 12 };

static ft_code too_much(const ft_bpe_train *t, ft_status *st)
{
    return ft_fail(st, FT_ERR_LIMIT,
                   "tokenizer: the words of this text take more than %llu MiB; train on less text, or allow more",
                   (unsigned long long)(t->options.memory_bytes >> 20));
}

/* ft_array_grow within memory_bytes. */
static ft_code grow(ft_bpe_train *t, void **array, size_t *capacity, size_t needed, size_t element, ft_status *st)
{
    const size_t was = *capacity;
    if (needed <= was)
        return FT_OK;
    const size_t about = needed > 2 * was ? needed : 2 * was;
    if (about > (t->options.memory_bytes - t->used_bytes) / element)
        return too_much(t, st);
    const ft_code rc = ft_array_grow(array, capacity, needed, element, st);
    if (!rc)
        t->used_bytes += (uint64_t)(*capacity - was) * element;
    return rc;
}

#define GROW(t, array, count, st)                                                                                      \
    grow((t), (void **)&(t)->array, &(t)->array##_capacity, (count), sizeof(*(t)->array), (st))

/* A table of twice the slots, all free, in place of the one that is there; the caller fills it. */
static ft_code grow_table(ft_bpe_train *t, uint32_t **table, size_t *slots, ft_status *st)
{
    const size_t now = *slots ? 2 * *slots : 1024;
    if (now > SIZE_MAX / 8 || now * sizeof(**table) > t->options.memory_bytes - t->used_bytes)
        return too_much(t, st);
    uint32_t *fresh = ft_alloc_array(now, sizeof(*fresh));
    if (!fresh)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    memset(fresh, 0xFF, now * sizeof(*fresh));
    free(*table);
    t->used_bytes += (now - *slots) * sizeof(*fresh);
    *table = fresh;
    *slots = now;
    return FT_OK;
}

/* --- The vocabulary ------------------------------------------------------------------------------ */

/* The slot of an entry with these bytes, or the free one where it would go. */
static uint32_t *entry_slot(const ft_bpe_train *t, const char *bytes, size_t n)
{
    for (size_t at = (size_t)ft_hash_bytes(bytes, n);; at++) {
        uint32_t *slot = &t->entry_table[at & (t->entry_slots - 1)];
        if (*slot == FT_NOWHERE)
            return slot;
        const ft_train_entry *e = &t->entries[*slot];
        if (e->size == n && !memcmp(t->entry_bytes + e->at, bytes, n))
            return slot;
    }
}

/* The entry that `n` bytes at the end of entry_bytes spell: a new one, or that which there is. */
static ft_code settle_entry(ft_bpe_train *t, uint32_t n, uint32_t *id, ft_status *st)
{
    ft_code rc = GROW(t, entries, t->entries_count + 1, st);
    if (rc)
        return rc;
    if (2 * (t->entries_count + 1) > t->entry_slots) {
        rc = grow_table(t, &t->entry_table, &t->entry_slots, st);
        for (size_t i = FIRST_BYTE; i < t->entries_count && !rc; i++)
            *entry_slot(t, t->entry_bytes + t->entries[i].at, t->entries[i].size) = (uint32_t)i;
        if (rc)
            return rc;
    }
    uint32_t *slot = entry_slot(t, t->entry_bytes + t->entry_bytes_size, n);
    if (*slot == FT_NOWHERE) {
        *slot = (uint32_t)t->entries_count;
        t->entries[t->entries_count++] = (ft_train_entry){t->entry_bytes_size, n};
        t->entry_bytes_size += n;
    }
    *id = *slot;
    return FT_OK;
}

static ft_code add_alphabet(ft_bpe_train *t, ft_status *st)
{
    uint32_t id;
    ft_code rc = GROW(t, entries, FT_BPE_LEAST_SIZE, st);
    if (!rc)
        rc = GROW(t, entry_bytes, 256, st);
    if (rc)
        return rc;
    memset(t->entries, 0, FIRST_BYTE * sizeof(*t->entries));
    t->entries_count = FIRST_BYTE;
    for (uint32_t letter = 0; letter <= LAST_LETTER && !rc; letter++) {
        const int byte = ft_letter_byte(letter);
        if (byte < 0)
            continue;
        t->entry_bytes[t->entry_bytes_size] = (char)byte;
        rc = settle_entry(t, 1, &id, st);
    }
    return rc;
}

static ft_code add_merged(ft_bpe_train *t, uint32_t left, uint32_t right, uint32_t *id, ft_status *st)
{
    const ft_train_entry a = t->entries[left], b = t->entries[right];
    ft_code rc = a.size > UINT32_MAX - b.size ? too_much(t, st) : FT_OK;
    if (!rc)
        rc = GROW(t, merges, t->merges_count + 1, st);
    if (!rc)
        rc = GROW(t, entry_bytes, t->entry_bytes_size + a.size + b.size, st);
    if (rc)
        return rc;
    memcpy(t->entry_bytes + t->entry_bytes_size, t->entry_bytes + a.at, a.size);
    memcpy(t->entry_bytes + t->entry_bytes_size + a.size, t->entry_bytes + b.at, b.size);
    rc = settle_entry(t, a.size + b.size, id, st);
    if (!rc)
        t->merges[t->merges_count++] = (ft_bpe_train_merge){left, right, *id};
    return rc;
}

/* --- Opening and counting -------------------------------------------------------------------------- */

ft_code ft_bpe_train_new(ft_bpe_train **out, const ft_bpe_train_options *options, ft_status *st)
{
    static const struct {
        const char *name, *pattern;
    } splits[] = {{"cl100k", ft_pattern_cl100k}, {"qwen2", ft_pattern_qwen2}, {"gpt2", ft_pattern_gpt2}};
    *out = NULL;
    if (options->size < FT_BPE_LEAST_SIZE || options->size > FT_MAX_ENTRIES)
        return ft_fail(st, FT_ERR_ARG, "tokenizer: a vocabulary has %d entries (2 special ones and 256 bytes) to %d",
                       FT_BPE_LEAST_SIZE, FT_MAX_ENTRIES);
    ft_bpe_train *t = calloc(1, sizeof(*t));
    if (!t)
        return ft_fail(st, FT_ERR_MEM, "out of memory");
    t->options = *options;
    t->options.split = options->split ? options->split : splits[0].name;
    t->options.least_count = options->least_count ? options->least_count : 2;
    t->options.memory_bytes = options->memory_bytes ? options->memory_bytes : UINT64_C(1) << 30;
    t->free_place = FT_NOWHERE;
    for (size_t i = 0; i < sizeof(splits) / sizeof(splits[0]); i++)
        if (!strcmp(splits[i].name, t->options.split)) {
            t->options.split = splits[i].name;
            t->pattern = splits[i].pattern;
        }
    ft_code rc = t->pattern ? ft_cutter_new(&t->cutter, t->pattern, strlen(t->pattern), st)
                            : ft_fail(st, FT_ERR_ARG, "tokenizer: a split is cl100k, qwen2 or gpt2, not '%.40s'",
                                      t->options.split);
    if (!rc)
        rc = add_alphabet(t, st);
    if (!rc) {
        *out = t;
        t = NULL;
    }
    ft_bpe_train_free(t);
    return rc;
}

void ft_bpe_train_free(ft_bpe_train *t)
{
    if (!t)
        return;
    ft_cutter_free(t->cutter);
    free(t->word_bytes);
    free(t->words);
    free(t->word_table);
    free(t->symbols);
    free(t->pairs);
    free(t->pair_table);
    free(t->places);
    free(t->heap);
    free(t->touched);
    free(t->entries);
    free(t->entry_bytes);
    free(t->entry_table);
    free(t->merges);
    free(t);
}

static uint32_t *word_slot(const ft_bpe_train *t, const char *bytes, size_t n)
{
    for (size_t at = (size_t)ft_hash_bytes(bytes, n);; at++) {
        uint32_t *slot = &t->word_table[at & (t->word_slots - 1)];
        if (*slot == FT_NOWHERE)
            return slot;
        const ft_train_word *w = &t->words[*slot];
        if (w->size == n && !memcmp(t->word_bytes + w->at, bytes, n))
            return slot;
    }
}

static ft_code count_word(ft_bpe_train *t, const char *bytes, uint32_t n, ft_status *st)
{
    ft_code rc = FT_OK;
    if (2 * (t->words_count + 1) > t->word_slots) {
        rc = grow_table(t, &t->word_table, &t->word_slots, st);
        for (size_t i = 0; i < t->words_count && !rc; i++)
            *word_slot(t, t->word_bytes + t->words[i].at, t->words[i].size) = (uint32_t)i;
        if (rc)
            return rc;
    }
    uint32_t *slot = word_slot(t, bytes, n);
    if (*slot != FT_NOWHERE) {
        t->words[*slot].count++;
        return FT_OK;
    }
    rc = t->words_count < FT_NOWHERE ? GROW(t, words, t->words_count + 1, st) : too_much(t, st);
    if (!rc)
        rc = GROW(t, word_bytes, t->word_bytes_size + n, st);
    if (rc)
        return rc;
    memcpy(t->word_bytes + t->word_bytes_size, bytes, n);
    *slot = (uint32_t)t->words_count;
    t->words[t->words_count++] = (ft_train_word){t->word_bytes_size, n, 1};
    t->word_bytes_size += n;
    return FT_OK;
}

ft_code ft_bpe_train_add(ft_bpe_train *t, const char *text, size_t n, ft_status *st)
{
    uint32_t ends[CUT_AT_ONCE];
    size_t at = 0, count;
    ft_code rc = FT_OK;
    if (t->ran || n > INT32_MAX)
        return ft_fail(st, FT_ERR_ARG, "tokenizer: %s",
                       t->ran ? "the merges are made already" : "a document is smaller than 2 GiB");
    while (!rc && (count = ft_cutter_cut(t->cutter, text, at, n, ends, CUT_AT_ONCE)) > 0)
        for (size_t i = 0; i < count && !rc; i++) {
            rc = count_word(t, text + at, ends[i] - (uint32_t)at, st);
            at = ends[i];
        }
    return rc;
}

/* --- The heap of pairs ------------------------------------------------------------------------------- */

static int goes_before(ft_train_queued a, ft_train_queued b)
{
    return a.count != b.count ? a.count > b.count : a.pair < b.pair;
}

static ft_code push(ft_bpe_train *t, uint32_t at, ft_status *st)
{
    ft_train_pair *p = &t->pairs[at];
    const ft_code rc = GROW(t, heap, t->heap_count + 1, st);
    if (rc)
        return rc;
    const ft_train_queued q = {p->count, p->pair, at};
    size_t hole = t->heap_count++;
    for (; hole && goes_before(q, t->heap[(hole - 1) / 2]); hole = (hole - 1) / 2)
        t->heap[hole] = t->heap[(hole - 1) / 2];
    t->heap[hole] = q;
    p->queued = p->count;
    return FT_OK;
}

static ft_train_queued pop(ft_bpe_train *t)
{
    const ft_train_queued top = t->heap[0], last = t->heap[--t->heap_count];
    size_t hole = 0, child;
    while ((child = 2 * hole + 1) < t->heap_count) {
        child += child + 1 < t->heap_count && goes_before(t->heap[child + 1], t->heap[child]);
        if (!goes_before(t->heap[child], last))
            break;
        t->heap[hole] = t->heap[child];
        hole = child;
    }
    t->heap[hole] = last; /* beyond the end where it was the only one, within what is allocated */
    return top;
}

/* The most frequent pair, FT_NOWHERE where none is frequent enough. */
static ft_code most_frequent(ft_bpe_train *t, uint32_t *at, ft_status *st)
{
    ft_code rc = FT_OK;
    *at = FT_NOWHERE;
    while (t->heap_count && !rc) {
        const ft_train_queued q = pop(t);
        ft_train_pair *p = &t->pairs[q.at];
        if (q.count != p->queued)
            continue; /* a later entry stands for it */
        p->queued = 0;
        if (q.count == p->count) {
            *at = q.count >= t->options.least_count ? q.at : FT_NOWHERE;
            return FT_OK;
        }
        if (p->count >= t->options.least_count)
            rc = push(t, q.at, st);
    }
    return rc;
}

/* --- Pairs and where they are ---------------------------------------------------------------------- */

static uint32_t *pair_slot(const ft_bpe_train *t, uint64_t pair)
{
    const uint64_t hash = ft_merge_hash(pair);
    for (size_t at = (size_t)(hash >> 32 ^ hash);; at++) {
        uint32_t *slot = &t->pair_table[at & (t->pair_slots - 1)];
        if (*slot == FT_NOWHERE || t->pairs[*slot].pair == pair)
            return slot;
    }
}

static ft_code find_pair(ft_bpe_train *t, uint32_t left, uint32_t right, uint32_t *at, ft_status *st)
{
    const uint64_t pair = (uint64_t)left << 32 | right;
    if (2 * (t->pairs_count + 1) > t->pair_slots) {
        const ft_code rc = grow_table(t, &t->pair_table, &t->pair_slots, st);
        if (rc)
            return rc;
        for (size_t i = 0; i < t->pairs_count; i++)
            *pair_slot(t, t->pairs[i].pair) = (uint32_t)i;
    }
    uint32_t *slot = pair_slot(t, pair);
    if (*slot == FT_NOWHERE) {
        const ft_code rc = t->pairs_count < FT_NOWHERE ? GROW(t, pairs, t->pairs_count + 1, st) : too_much(t, st);
        if (rc)
            return rc;
        *slot = (uint32_t)t->pairs_count;
        t->pairs[t->pairs_count++] = (ft_train_pair){.pair = pair, .first = FT_NOWHERE, .noted = FT_NOWHERE};
    }
    *at = *slot;
    return FT_OK;
}

/* The pair is once more in the word. */
static ft_code gain(ft_bpe_train *t, uint32_t left, uint32_t right, uint32_t word, ft_status *st)
{
    uint32_t at, place = t->free_place;
    ft_code rc = find_pair(t, left, right, &at, st);
    if (!rc)
        rc = GROW(t, touched, t->touched_count + 1, st);
    if (rc)
        return rc;
    ft_train_pair *p = &t->pairs[at];
    p->count += t->words[word].count;
    t->touched[t->touched_count++] = at;
    if (p->first != FT_NOWHERE && p->noted == word)
        return FT_OK;
    if (place != FT_NOWHERE) {
        t->free_place = t->places[place].next;
    } else {
        rc = t->places_count < FT_NOWHERE ? GROW(t, places, t->places_count + 1, st) : too_much(t, st);
        if (rc)
            return rc;
        place = (uint32_t)t->places_count++;
    }
    t->places[place] = (ft_train_place){word, p->first};
    p->first = place;
    p->noted = word;
    return FT_OK;
}

static void lose(ft_bpe_train *t, uint32_t left, uint32_t right, uint64_t count)
{
    t->pairs[*pair_slot(t, (uint64_t)left << 32 | right)].count -= count;
}

/* Pushes what rose above its entry of the heap. */
static ft_code push_touched(ft_bpe_train *t, ft_status *st)
{
    ft_code rc = FT_OK;
    for (size_t i = 0; i < t->touched_count && !rc; i++) {
        const ft_train_pair *p = &t->pairs[t->touched[i]];
        if (p->count > p->queued && p->count >= t->options.least_count)
            rc = push(t, t->touched[i], st);
    }
    t->touched_count = 0;
    return rc;
}

/* --- Merging ------------------------------------------------------------------------------------------- */

/* Words become symbols, and all their pairs are counted. */
static ft_code start(ft_bpe_train *t, const ft_progress *progress, ft_status *st)
{
    uint32_t id_of[256];
    size_t capacity = 0;
    for (uint32_t id = FIRST_BYTE; id < FT_BPE_LEAST_SIZE; id++)
        id_of[(unsigned char)t->entry_bytes[t->entries[id].at]] = id;
    ft_code rc = grow(t, (void **)&t->symbols, &capacity, t->word_bytes_size, sizeof(*t->symbols), st);
    if (rc)
        return rc;
    for (size_t i = 0; i < t->word_bytes_size; i++)
        t->symbols[i] = id_of[(unsigned char)t->word_bytes[i]];
    for (size_t w = 0; w < t->words_count && !rc; w++) {
        const uint32_t *s = t->symbols + t->words[w].at;
        for (uint32_t i = 1; i < t->words[w].size && !rc; i++)
            rc = gain(t, s[i - 1], s[i], (uint32_t)w, st);
        if (!rc && w % REPORT_EVERY == 0 && ft_progress_report(progress, "pairs", w, t->words_count, "words"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped");
    }
    return rc ? rc : push_touched(t, st);
}

/* Replaces (left, right) by id in a word, from its left end on. A pair of the old word that touches a merged place is
 * lost, a pair of the new word that touches the new symbol is gained; others stay. */
static ft_code merge_word(ft_bpe_train *t, uint32_t word, uint32_t left, uint32_t right, uint32_t id, ft_status *st)
{
    ft_train_word *w = &t->words[word];
    uint32_t *s = t->symbols + w->at, to = 0, before = 0; /* before: the old symbol on the left, s being overwritten */
    int merged = 0;                                       /* the new symbol on the left is id */
    ft_code rc = FT_OK;
    for (uint32_t i = 0; i < w->size && !rc;) {
        const int match = s[i] == left && i + 1 < w->size && s[i + 1] == right;
        const uint32_t now = s[i], fresh = match ? id : now;
        if (i && (match || merged)) {
            lose(t, before, now, w->count);
            rc = gain(t, s[to - 1], fresh, word, st);
        }
        if (match)
            lose(t, left, right, w->count);
        before = match ? right : now;
        i += match ? 2 : 1;
        s[to++] = fresh;
        merged = match;
    }
    w->size = to;
    return rc;
}

/* Merges the pair wherever it is, and forgets its places. */
static ft_code merge_pair(ft_bpe_train *t, uint32_t at, const ft_progress *progress, ft_status *st)
{
    const uint32_t left = (uint32_t)(t->pairs[at].pair >> 32), right = (uint32_t)t->pairs[at].pair;
    uint32_t id, place = t->pairs[at].first, seen = 0;
    ft_code rc = add_merged(t, left, right, &id, st);
    t->pairs[at].first = t->pairs[at].noted = FT_NOWHERE;
    while (place != FT_NOWHERE && !rc) {
        const ft_train_place p = t->places[place];
        t->places[place].next = t->free_place;
        t->free_place = place;
        rc = merge_word(t, p.word, left, right, id, st);
        place = p.next;
        if (!rc && ++seen % REPORT_EVERY == 0 &&
            ft_progress_report(progress, "merge", t->entries_count, t->options.size, "entries"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped");
    }
    return rc ? rc : push_touched(t, st);
}

ft_code ft_bpe_train_run(ft_bpe_train *t, const ft_progress *progress, ft_status *st)
{
    uint32_t at;
    if (t->ran)
        return ft_fail(st, FT_ERR_ARG, "tokenizer: the merges are made already");
    if (!t->words_count)
        return ft_fail(st, FT_ERR_FORMAT, "tokenizer: the corpus has no text to train on");
    t->ran = 1;
    ft_code rc = start(t, progress, st);
    while (!rc && t->entries_count < t->options.size) {
        rc = most_frequent(t, &at, st);
        if (rc || at == FT_NOWHERE)
            break;
        rc = merge_pair(t, at, progress, st);
        if (!rc && ft_progress_report(progress, "merge", t->entries_count, t->options.size, "entries"))
            rc = ft_fail(st, FT_ERR_CANCELLED, "stopped");
    }
    return rc;
}

const ft_bpe_train_merge *ft_bpe_train_merges(const ft_bpe_train *t, size_t *count)
{
    *count = t->merges_count;
    return t->merges;
}

size_t ft_bpe_train_size(const ft_bpe_train *t)
{
    return t->entries_count;
}

uint64_t ft_bpe_train_words(const ft_bpe_train *t)
{
    return t->words_count;
}
