/* Searching whole indexes of awkward corpora, against the sorted suffixes themselves. */
#include "tests/ft_test.h"
#include "tests/sort_fixture.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "base/ft_threads.h"
#include "index/ft_fetch.h"
#include "index/ft_index.h"
#include "index/ft_index_build.h"
#include "index/ft_query.h"

enum { END = UINT32_MAX };

typedef struct corpus {
    uint32_t *tokens;
    size_t n, capacity, documents;
    uint32_t vocab;
    uint32_t *order; /* the suffix array */
    ft_index *ix;
    char folder[4096];
} corpus;

static void push(corpus *c, uint32_t token)
{
    if (c->n == c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : 1024;
        c->tokens = realloc(c->tokens, c->capacity * sizeof(*c->tokens));
    }
    c->tokens[c->n++] = token;
    c->documents += token == END;
}

static void corpus_index(corpus *c, const char *name)
{
    ft_status st;
    ft_index_writer *w;
    ft_pool *pool;
    snprintf(c->folder, sizeof(c->folder), "%s", ft_test_path(name));
    assert_ok(ft_folder_remove(c->folder, &st), st);
    assert_ok(ft_pool_new(&pool, 2, &st), st);
    const ft_index_writer_options o = {.vocab_size = c->vocab, .end_of_text = 0, .pool = pool};
    assert_ok(ft_index_writer_new(&w, c->folder, &o, &st), st);
    for (size_t from = 0, d = 0; from < c->n; d++) {
        size_t to = from;
        char id[30];
        while (c->tokens[to] != END)
            to++;
        snprintf(id, sizeof(id), "%zu", d);
        assert_ok(ft_index_writer_add(w, c->tokens + from, to - from, id, NULL, 1, &st), st);
        from = to + 1;
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    assert_ok(ft_index_open(&c->ix, c->folder, &st), st);
    assert_ok(ft_index_verify(c->ix, &st), st);
    c->order = malloc(c->n * sizeof(*c->order));
    assert_ok(sort_documents(c->order, c->tokens, c->n, &st), st);
    ft_pool_free(pool);
}

static void corpus_release(corpus *c)
{
    ft_index_close(c->ix);
    free(c->tokens);
    free(c->order);
    *c = (corpus){0};
}

/* Sign of the suffix at `pos` - pattern; the end is below every token. */
static int compare(const corpus *c, size_t pos, const uint32_t *pat, size_t len, size_t *shared)
{
    for (*shared = 0; *shared < len; ++*shared) {
        const uint32_t t = c->tokens[pos + *shared];
        if (t == END)
            return -1;
        if (t != pat[*shared])
            return t < pat[*shared] ? -1 : 1;
    }
    return 0;
}

/* First rank whose suffix is not below the pattern (or is above all that begins with it). */
static size_t bound(const corpus *c, const uint32_t *pat, size_t len, int upper)
{
    size_t lo = 0, hi = c->n, shared;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int sign = compare(c, c->order[mid], pat, len, &shared);
        if (sign < 0 || (upper && sign == 0))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static size_t longest_of(const corpus *c, const uint32_t *pat, size_t len)
{
    const size_t at = bound(c, pat, len, 0);
    size_t below = 0, above = 0;
    if (at > 0)
        compare(c, c->order[at - 1], pat, len, &below);
    if (at < c->n)
        compare(c, c->order[at], pat, len, &above);
    return below > above ? below : above;
}

static size_t some_pattern(const corpus *c, ft_random *r, uint32_t *pat, size_t max)
{
    const size_t want = 1 + (size_t)ft_random_below(r, ft_random_below(r, 3) ? max : 8);
    const size_t at = (size_t)ft_random_below(r, c->n);
    size_t n = 0;
    for (; n < want && c->tokens[at + n] != END; n++)
        pat[n] = c->tokens[at + n];
    if (n && ft_random_below(r, 3) == 0)
        pat[ft_random_below(r, n)] = ft_random_below(r, 8) ? (uint32_t)ft_random_below(r, c->vocab) : c->vocab;
    if (n < want && ft_random_below(r, 3) == 0)
        pat[n++] = (uint32_t)ft_random_below(r, (uint64_t)c->vocab + 2);
    return n;
}

static void check_pattern(const corpus *c, const uint32_t *pat, size_t len)
{
    ft_match m;
    ft_index_find(c->ix, pat, len, &m);
    const size_t lo = bound(c, pat, len, 0), hi = bound(c, pat, len, 1);
    assert_int_equal(m.part[0].lo, lo);
    assert_int_equal(m.part[0].hi, hi);
    const size_t longest = longest_of(c, pat, len);
    assert_int_equal(ft_index_longest_prefix(c->ix, pat, len, &m), longest);
    assert_int_equal(m.part[0].lo, longest ? bound(c, pat, longest, 0) : 0);
    assert_int_equal(m.part[0].hi, longest ? bound(c, pat, longest, 1) : c->n);
}

/* Batches of pages that a search asks for: the linker puts this before the index's own. */
static unsigned batches;
void __real_ft_fetch_send(ft_fetch *f);
void __wrap_ft_fetch_send(ft_fetch *f);
void __wrap_ft_fetch_send(ft_fetch *f)
{
    batches += f->count > 0;
    __real_ft_fetch_send(f);
}

/* A handle that was just opened does not know yet that all is in memory: it searches as
 * from the disk, in at most 8 rounds for each piece between ids that are outside the vocabulary. */
static void check_fresh_handle(const corpus *c, const uint32_t *ids, size_t count, const size_t *longest,
                               const ft_match *matches, ft_random *r)
{
    ft_status st;
    ft_index *fresh;
    size_t *again = calloc(count, sizeof(*again));
    ft_match *found = calloc(count, sizeof(*found));
    ft_stretch *stretches = calloc(count, sizeof(*stretches));
    assert_ok(ft_index_open(&fresh, ft_index_get_info(c->ix).folder, &st), st);
    size_t pieces = 1;
    for (size_t i = 0; i < count; i++)
        pieces += ids[i] >= c->vocab;
    batches = 0;
    ft_index_match_all(fresh, ids, count, again, NULL);
    assert_in_range(batches, 1, 8 * pieces);
    assert_memory_equal(again, longest, count * sizeof(*again));
    for (size_t i = 0; i < count; i++)
        stretches[i] = (ft_stretch){i, i + (size_t)ft_random_below(r, count - i + 1)};
    ft_index_expect(fresh, ids, stretches, count);
    ft_index_match_all(fresh, ids, count, again, found);
    assert_memory_equal(again, longest, count * sizeof(*again));
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(found[i].part[0].lo, matches[i].part[0].lo);
        assert_int_equal(found[i].part[0].hi, matches[i].part[0].hi);
    }
    ft_index_close(fresh);
    free(stretches);
    free(found);
    free(again);
}

static void check_response(const corpus *c, ft_random *r)
{
    enum { MOST = 400 };
    uint32_t ids[MOST + 300] = {0}; /* a place left out is token 0 */
    size_t count = 0, longest[MOST + 300];
    ft_match *matches = calloc(MOST + 300, sizeof(*matches)), one;
    while (count < MOST / 2)
        count += some_pattern(c, r, ids + count, 300) + (ft_random_below(r, 20) == 0 && count);
    const int known = (int)ft_random_below(r, 2);
    for (size_t i = 0; i < count; i++)
        if (ids[i] == END || (known && ids[i] >= c->vocab))
            ids[i] = 0;
    ft_index_match_all(c->ix, ids, count, longest, matches);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(longest[i], longest_of(c, ids + i, count - i));
        assert_int_equal(matches[i].part[0].lo, longest[i] ? bound(c, ids + i, longest[i], 0) : 0);
        assert_int_equal(matches[i].part[0].hi, longest[i] ? bound(c, ids + i, longest[i], 1) : c->n);
    }
    check_fresh_handle(c, ids, count, longest, matches, r);
    const size_t len = (size_t)ft_random_below(r, count);
    const size_t back = ft_index_longest_suffix(c->ix, ids, len, &one);
    assert_true(back == 0 || bound(c, ids + len - back, back, 0) < bound(c, ids + len - back, back, 1));
    assert_true(back == len ||
                bound(c, ids + len - back - 1, back + 1, 0) == bound(c, ids + len - back - 1, back + 1, 1));
    free(matches);
}

/* What follows a pattern, counted plainly. */
static void check_distribution(const corpus *c, const uint32_t *pat, size_t len)
{
    const ft_index *ix = c->ix;
    const ft_index_set set = {&ix, 1};
    ft_distribution d;
    ft_status st;
    uint64_t *counts = calloc((size_t)c->vocab + 1, sizeof(*counts)), distinct = 0;
    const size_t lo = len ? bound(c, pat, len, 0) : 0, hi = len ? bound(c, pat, len, 1) : c->n;
    for (size_t rank = lo; rank < hi; rank++) {
        const uint32_t next = c->tokens[c->order[rank] + len];
        distinct += counts[next == END ? 0 : next]++ == 0; /* the end is reported as id 0 */
    }
    assert_ok(ft_query_ntd(set, pat, len, 0, &d, &st), st);
    assert_int_equal(d.prompt_count, hi - lo);
    assert_int_equal(d.count, distinct);
    for (size_t i = 0; i < d.count; i++) {
        assert_int_equal(d.next[i].count, counts[d.next[i].id]);
        assert_true(i == 0 || d.next[i].count < d.next[i - 1].count ||
                    (d.next[i].count == d.next[i - 1].count && d.next[i].id > d.next[i - 1].id));
    }
    ft_distribution_release(&d);
    free(counts);
}

static void check_corpus(corpus *c, const char *name, ft_random *r, unsigned rounds)
{
    uint32_t pat[400];
    corpus_index(c, name);
    for (size_t rank = 0; rank < c->n; rank += 1 + c->n / 3000)
        assert_int_equal(ft_index_position(c->ix, 0, rank), c->order[rank]);
    for (unsigned i = 0; i < rounds; i++) {
        const size_t len = some_pattern(c, r, pat, 390);
        if (len)
            check_pattern(c, pat, len);
    }
    for (unsigned i = 0; i < rounds / 100; i++)
        check_response(c, r);
    check_distribution(c, NULL, 0);
    for (unsigned i = 0; i < rounds / 4 && c->vocab < 0xFFFFFF; i++) {
        size_t len = some_pattern(c, r, pat, 200);
        check_distribution(c, pat, i % 2 && len > 2 ? len % 3 : len);
    }
    for (uint32_t id = 0; id < c->vocab + 2 && id < 400; id++)
        check_pattern(c, &id, 1);
    corpus_release(c);
}

/* --- Corpora ------------------------------------------------------------------------------- */

static void random_document(corpus *c, ft_random *r, size_t most, uint32_t alphabet)
{
    const uint32_t step = c->vocab / alphabet ? c->vocab / alphabet : 1;
    for (size_t n = (size_t)ft_random_below(r, most + 1); n > 0; n--)
        push(c, (uint32_t)ft_random_below(r, alphabet) * step % c->vocab);
    push(c, END);
}

/* A copy of tokens [from, to), sometimes with one of them changed. */
static void copy(corpus *c, ft_random *r, size_t from, size_t to, unsigned one_in)
{
    const size_t changed = from < to ? from + (size_t)ft_random_below(r, to - from) : from;
    const int change = one_in && ft_random_below(r, one_in) == 0;
    for (size_t i = from; i < to; i++)
        push(c, change && i == changed ? (uint32_t)ft_random_below(r, c->vocab) : c->tokens[i]);
    push(c, END);
}

static void random_text_of_any_vocabulary(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 71);
    static const uint32_t vocabularies[] = {1, 2, 3, 5, 200, 65535, 65536, 100278};
    for (unsigned round = 0; round < 24; round++) {
        corpus c = {.vocab = vocabularies[round % 8]};
        const uint32_t alphabet = round < 8 ? 2 : round < 16 ? 20 : 3000;
        while (c.n < 3000)
            random_document(&c, &r, 200, alphabet < c.vocab ? alphabet : c.vocab);
        check_corpus(&c, "random", &r, 300);
    }
}

static void a_vocabulary_of_the_greatest_size(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 72);
    corpus c = {.vocab = 0xFFFFFF};
    while (c.n < 3000)
        random_document(&c, &r, 200, 50);
    push(&c, 0xFFFFFE);
    push(&c, END);
    check_corpus(&c, "wide", &r, 300);
}

/* 300 copies: more than a leaf holds, and separators are cut. */
static void many_copies_of_one_document(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 73);
    for (unsigned round = 0; round < 6; round++) {
        corpus c = {.vocab = round % 2 ? 100278 : 7};
        random_document(&c, &r, 60, round % 2 ? 3000 : 3);
        while (c.n < 40)
            push(&c, (uint32_t)ft_random_below(&r, c.vocab));
        push(&c, END);
        const size_t length = c.n - 1;
        for (unsigned k = 0; k < 300; k++)
            copy(&c, &r, (size_t)ft_random_below(&r, round < 2 ? 1 : 5), length, round < 4 ? 0 : 3);
        check_corpus(&c, "copies", &r, 400);
    }
}

static void few_copies_of_long_documents(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 74);
    for (unsigned round = 0; round < 4; round++) {
        corpus c = {.vocab = 100278};
        while (c.n < 1500)
            push(&c, (uint32_t)ft_random_below(&r, round ? 40 : 90000));
        push(&c, END);
        const size_t length = c.n - 1;
        for (unsigned k = 0; k < 3 + 5 * round; k++)
            copy(&c, &r, 0, length, 2);
        check_corpus(&c, "long", &r, 400);
    }
}

static void periodic_text_and_long_runs(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 75);
    for (unsigned round = 0; round < 8; round++) {
        corpus c = {.vocab = round % 2 ? 1 : 300};
        const unsigned period = round % 2 ? 1 : 1 + round;
        for (unsigned d = 0; d < 5; d++) {
            for (size_t i = 0; i < 100 + 700 * (size_t)d; i++)
                push(&c, (uint32_t)(i % period) % c.vocab);
            push(&c, END);
        }
        check_corpus(&c, "periodic", &r, 300);
    }
}

static void one_token_and_empty_documents(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 76);
    for (unsigned round = 0; round < 4; round++) {
        corpus c = {.vocab = 50};
        for (unsigned d = 0; d < 1 + 700 * round; d++) {
            if (ft_random_below(&r, 3))
                push(&c, round == 2 ? 49 : (uint32_t)ft_random_below(&r, 3));
            push(&c, END);
        }
        check_corpus(&c, "little", &r, 200);
    }
    corpus empty = {.vocab = 1};
    push(&empty, END);
    check_corpus(&empty, "empty", &r, 10);
}

/* More than a stripe of ranks, written by two threads. */
static void a_corpus_of_many_stripes(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 77);
    corpus c = {.vocab = 100278};
    while (c.n < 250000) {
        random_document(&c, &r, 300, 400);
        if (c.n > 1000 && ft_random_below(&r, 2)) {
            const size_t from = (size_t)ft_random_below(&r, c.n - 300);
            size_t to = from;
            while (to < from + 300 && c.tokens[to] != END)
                to++;
            copy(&c, &r, from, to, 3);
        }
    }
    check_corpus(&c, "stripes", &r, 1500);
}

/* Few tokens, each followed by many others: next tokens change at the edges of leaves too. */
static void frequent_tokens_with_many_next_ones(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 78);
    for (unsigned round = 0; round < 3; round++) {
        corpus c = {.vocab = 5000};
        while (c.n < 120000) {
            push(&c, (uint32_t)ft_random_below(&r, round + 1));
            push(&c, (uint32_t)(ft_random_unit(&r) * ft_random_unit(&r) * (round == 2 ? 60 : 5000)));
            if (ft_random_below(&r, 100) == 0)
                push(&c, END);
        }
        push(&c, END);
        check_corpus(&c, "frequent", &r, 200);
    }
}

/* Whole nodes of the tree hold nothing but the same cut separator. */
static void more_copies_than_a_node_has_leaves(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 79);
    corpus c = {.vocab = 100278};
    for (unsigned k = 0; k < 100000; k++) {
        for (uint32_t i = 0; i < 9; i++)
            push(&c, 1000 + i);
        for (unsigned i = 0; i < 2; i++)
            push(&c, (uint32_t)ft_random_below(&r, 50));
        push(&c, END);
    }
    check_corpus(&c, "nodes", &r, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_text_of_any_vocabulary),      cmocka_unit_test(a_vocabulary_of_the_greatest_size),
        cmocka_unit_test(many_copies_of_one_document),        cmocka_unit_test(few_copies_of_long_documents),
        cmocka_unit_test(periodic_text_and_long_runs),        cmocka_unit_test(one_token_and_empty_documents),
        cmocka_unit_test(a_corpus_of_many_stripes),           cmocka_unit_test(frequent_tokens_with_many_next_ones),
        cmocka_unit_test(more_copies_than_a_node_has_leaves),
    };
    return cmocka_run_group_tests_name("index_search", tests, NULL, NULL);
}
