#include "tests/corpus_fixture.h"

#include "base/ft_random.h"
#include "base/ft_threads.h"
#include "index/ft_index_build.h"
#include "index/ft_stat_internal.h"
#include "text/ft_tokenizer.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- A corpus in memory, and plain answers about it ---------------------------------- */

enum { MAX_DOCUMENTS = 260, MAX_LENGTH = 400, VOCAB = 70000 };

typedef struct corpus {
    uint32_t ids[MAX_DOCUMENTS][MAX_LENGTH];
    size_t length[MAX_DOCUMENTS], documents;
} corpus;

/* Copies, copies with a few tokens changed, put in or left out, and fresh documents, over
 * an alphabet that repeats n-grams. */
static void make_corpus(corpus *c, ft_random *r, size_t documents, uint32_t alphabet)
{
    c->documents = documents;
    for (size_t d = 0; d < documents; d++) {
        uint32_t *ids = c->ids[d];
        size_t n = (size_t)ft_random_below(r, ft_random_below(r, 3) ? 60 : MAX_LENGTH - 10);
        const unsigned kind = d > 5 ? (unsigned)ft_random_below(r, 4) : 3;
        if (kind < 2) {
            const size_t from = (size_t)ft_random_below(r, d);
            n = c->length[from];
            memcpy(ids, c->ids[from], n * sizeof(*ids));
        } else {
            for (size_t i = 0; i < n; i++)
                ids[i] = (uint32_t)(ft_random_below(r, 4) ? ft_random_below(r, alphabet) : ft_random_below(r, VOCAB));
        }
        for (size_t edits = kind == 1 && n > 1 ? (size_t)ft_random_below(r, 1 + n / 25) + 1 : 0; edits > 0; edits--)
            ids[ft_random_below(r, n)] = (uint32_t)ft_random_below(r, alphabet);
        c->length[d] = n;
    }
}

static const char *metadata_of(size_t d, char *out, size_t size);

/* With little memory the writer makes several segments. */
static ft_index *build(const corpus *c, const char *name, int several)
{
    ft_status st;
    ft_index_writer *w;
    ft_index *ix;
    char folder[4096], id[40], metadata[600];
    snprintf(folder, sizeof(folder), "%s", ft_test_path(name));
    assert_ok(ft_folder_remove(folder, &st), st);
    ft_index_writer_options o = {.vocab_size = VOCAB, .end_of_text = FT_NO_TOKEN};
    ft_code rc = FT_ERR_ARG;
    for (o.memory_bytes = several ? 1 << 20 : 0; rc == FT_ERR_ARG && o.memory_bytes < 64 << 20;)
        rc = ft_index_writer_new(&w, folder, &o, &st), o.memory_bytes += 128 << 10; /* the least that is accepted */
    assert_ok(rc, st);
    for (size_t d = 0; d < c->documents; d++) {
        snprintf(id, sizeof(id), "doc/%zu", d);
        assert_ok(
            ft_index_writer_add(w, c->ids[d], c->length[d], id, metadata_of(d, metadata, sizeof(metadata)), 10, &st),
            st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    assert_ok(ft_index_open(&ix, folder, &st), st);
    return ix;
}

static ft_index_stat *describe(const ft_index *ix, const ft_index_stat_options *o)
{
    ft_index_stat *s;
    ft_status st;
    assert_ok(ft_index_stat_make(&s, ix, o, &st), st);
    return s;
}

static int same_text(const corpus *c, size_t a, size_t b)
{
    return c->length[a] == c->length[b] && !memcmp(c->ids[a], c->ids[b], c->length[a] * sizeof(c->ids[a][0]));
}

static size_t leader_of(const corpus *c, size_t d)
{
    size_t first = 0;
    while (!same_text(c, first, d))
        first++;
    return first;
}

/* --- Shingles, plainly ------------------------------------------------------------------ */

typedef struct shingle {
    uint32_t ids[FT_STAT_SHINGLE];
} shingle;

static int compare_shingles(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(shingle));
}

static size_t shingles_of(const uint32_t *ids, size_t n, shingle *out)
{
    size_t count = 0, distinct = 0;
    for (size_t i = 0; i + FT_STAT_SHINGLE <= n; i++)
        memcpy(out[count++].ids, ids + i, sizeof(*out));
    qsort(out, count, sizeof(*out), compare_shingles);
    for (size_t i = 0; i < count; i++)
        if (!i || compare_shingles(&out[i], &out[distinct - 1]))
            out[distinct++] = out[i];
    return distinct;
}

static double jaccard(const uint32_t *a, size_t a_length, const uint32_t *b, size_t b_length)
{
    static shingle x[MAX_LENGTH], y[MAX_LENGTH];
    const size_t n = shingles_of(a, a_length, x), m = shingles_of(b, b_length, y);
    size_t shared = 0;
    for (size_t i = 0, k = 0; i < n && k < m;) {
        const int order = compare_shingles(&x[i], &y[k]);
        shared += order == 0;
        i += order <= 0;
        k += order >= 0;
    }
    return n + m ? (double)shared / (double)(n + m - shared) : 0;
}

/* --- Lengths ------------------------------------------------------------------------------- */

static int compare_sizes(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

static void check_lengths(const corpus *c, const ft_index_stat *s)
{
    size_t sorted[MAX_DOCUMENTS];
    uint64_t tokens = 0, documents[FT_STAT_HISTOGRAM] = {0}, in[FT_STAT_HISTOGRAM] = {0};
    memcpy(sorted, c->length, sizeof(sorted));
    qsort(sorted, c->documents, sizeof(*sorted), compare_sizes);
    for (size_t d = 0; d < c->documents; d++) {
        unsigned k = 0;
        while ((size_t)1 << k <= c->length[d])
            k++;
        documents[k]++;
        in[k] += c->length[d];
        tokens += c->length[d];
    }
    assert_int_equal(s->documents, c->documents);
    assert_int_equal(s->tokens, tokens);
    assert_int_equal(s->lengths.min, sorted[0]);
    assert_int_equal(s->lengths.max, sorted[c->documents - 1]);
    assert_int_equal(s->lengths.median, sorted[(c->documents + 1) / 2 - 1]);
    assert_int_equal(s->lengths.p90, sorted[(c->documents * 9 + 9) / 10 - 1]);
    assert_int_equal(s->lengths.p99, sorted[(c->documents * 99 + 99) / 100 - 1]);
    assert_true(s->lengths.mean == (double)tokens / (double)c->documents);
    assert_memory_equal(s->lengths.documents, documents, sizeof(documents));
    assert_memory_equal(s->lengths.tokens, in, sizeof(in));
}

/* --- Groups ---------------------------------------------------------------------------------- */

/* root[d]: the first document of d's group. Both kinds of groups are checked from it; a
 * member is shown when it is the first of its text or copies are what the group is about. */
static void check_groups(const corpus *c, const size_t *root, const ft_stat_groups *got, size_t top, int near)
{
    ft_stat_groups want = {0};
    ft_stat_group groups[MAX_DOCUMENTS];
    for (size_t r = 0; r < c->documents; r++) {
        ft_stat_group g = {0};
        size_t texts = 0;
        for (size_t d = 0; d < c->documents; d++) {
            if (root[d] != r)
                continue;
            texts += leader_of(c, d) == d;
            g.documents++;
            g.tokens += c->length[d];
            if (g.shown < FT_STAT_EXAMPLES && (!near || leader_of(c, d) == d))
                g.number[g.shown++] = d;
        }
        if (near ? texts < 2 : g.documents < 2)
            continue;
        groups[want.groups++] = g;
        want.texts += texts;
        want.documents += g.documents;
        want.tokens += g.tokens;
        want.surplus_documents += g.documents - 1;
        want.surplus_tokens += g.tokens - c->length[r];
    }
    assert_int_equal(got->groups, want.groups);
    assert_int_equal(got->texts, want.texts);
    assert_int_equal(got->documents, want.documents);
    assert_int_equal(got->tokens, want.tokens);
    assert_int_equal(got->surplus_documents, want.surplus_documents);
    assert_int_equal(got->surplus_tokens, want.surplus_tokens);
    assert_int_equal(got->unchecked_pairs, 0);
    assert_int_equal(got->shown, want.groups < top ? want.groups : top);
    for (size_t i = 0; i < got->shown; i++) {
        size_t best = 0; /* of those not taken yet: most documents, then the first */
        for (size_t k = 1; k < want.groups; k++)
            if (groups[k].documents > groups[best].documents)
                best = k;
        const ft_stat_group *g = &got->largest[i];
        assert_int_equal(g->documents, groups[best].documents);
        assert_int_equal(g->tokens, groups[best].tokens);
        assert_int_equal(g->shown, groups[best].shown);
        assert_memory_equal(g->number, groups[best].number, g->shown * sizeof(g->number[0]));
        for (size_t k = 0; k < g->shown; k++)
            assert_true(g->similarity[k] == (near ? jaccard(c->ids[g->number[0]], c->length[g->number[0]],
                                                            c->ids[g->number[k]], c->length[g->number[k]])
                                                  : 1));
        groups[best].documents = 0;
    }
}

static void check_identical(const corpus *c, const ft_index_stat *s, size_t top)
{
    size_t root[MAX_DOCUMENTS];
    for (size_t d = 0; d < c->documents; d++)
        root[d] = leader_of(c, d);
    check_groups(c, root, &s->identical, top, 0);
}

static void check_near(const corpus *c, const ft_index_stat *s, size_t top)
{
    size_t root[MAX_DOCUMENTS], edges = 0;
    for (size_t d = 0; d < c->documents; d++)
        root[d] = leader_of(c, d);
    for (size_t a = 0; a < c->documents; a++)
        for (size_t b = a + 1; b < c->documents; b++) {
            if (jaccard(c->ids[a], c->length[a], c->ids[b], c->length[b]) < FT_STAT_SIMILARITY)
                continue;
            const size_t low = root[a] < root[b] ? root[a] : root[b], high = root[a] + root[b] - low;
            edges += leader_of(c, a) != leader_of(c, b);
            for (size_t d = 0; d < c->documents; d++)
                root[d] = root[d] == high ? low : root[d];
        }
    assert_true(edges > 0); /* or nothing is tested */
    check_groups(c, root, &s->near, top, 1);
}

/* --- N-grams ------------------------------------------------------------------------------------ */

typedef struct counted {
    uint32_t ids[FT_STAT_MAX_N];
    uint64_t count;
} counted;
static unsigned sorted_n;

static int compare_ids(const void *a, const void *b)
{
    const counted *x = a, *y = b;
    for (unsigned i = 0; i < sorted_n; i++)
        if (x->ids[i] != y->ids[i])
            return x->ids[i] < y->ids[i] ? -1 : 1;
    return 0;
}

static int compare_counts(const void *a, const void *b)
{
    const counted *x = a, *y = b;
    return x->count != y->count ? (x->count > y->count ? -1 : 1) : compare_ids(a, b);
}

/* Counts must agree everywhere; with `same_order` which n-grams of equal counts, too. */
static void check_ngrams(const corpus *c, const ft_index_stat *s, unsigned max_n, size_t top, int same_order)
{
    counted *all = calloc(MAX_DOCUMENTS * MAX_LENGTH, sizeof(*all));
    assert_int_equal(s->max_n, max_n);
    for (unsigned n = 1; n <= max_n; n++) {
        size_t total = 0, distinct = 0;
        for (size_t d = 0; d < c->documents; d++)
            for (size_t i = 0; i + n <= c->length[d]; i++) {
                memcpy(all[total].ids, c->ids[d] + i, n * sizeof(all->ids[0]));
                all[total++].count = 1;
            }
        sorted_n = n;
        qsort(all, total, sizeof(*all), compare_ids);
        for (size_t i = 0; i < total; i++)
            if (i && !compare_ids(&all[i], &all[distinct - 1]))
                all[distinct - 1].count++;
            else
                all[distinct++] = all[i];
        qsort(all, distinct, sizeof(*all), compare_counts);
        const ft_stat_ngrams *g = &s->ngrams[n - 1];
        assert_int_equal(g->total, total);
        assert_int_equal(g->shown, distinct < top ? distinct : top);
        if (n == 1)
            assert_int_equal(s->distinct_tokens, distinct);
        for (size_t i = 0; i < g->shown; i++) {
            assert_int_equal(g->top[i].count, all[i].count);
            if (same_order) {
                assert_memory_equal(g->top[i].ids, all[i].ids, n * sizeof(all->ids[0]));
                continue;
            }
            size_t k = 0; /* it has that count, and is shown once */
            while (k < distinct && memcmp(all[k].ids, g->top[i].ids, n * sizeof(all->ids[0])) != 0)
                k++;
            assert_true(k < distinct);
            assert_int_equal(all[k].count, g->top[i].count);
            all[k].ids[0] = UINT32_MAX;
        }
    }
    free(all);
}

/* --- Sources and licences -------------------------------------------------------------------------- */

static const char *const metadata_rows[] = {
    "{\"source\":\"wiki\",\"License\":\"CC-BY-SA\",\"url\":\"https://no.example/\"}",
    "{\"url\":\"https://Ann:secret@News.Example.org:8080/a?b=c@d\",\"rights\":\"all reserved\"}",
    "{\"URL\":\"news.example.org\",\"license\":\"\",\"licence\":[\" MIT \",\"BSD\",7]}",
    "{\"metadata\":{\"domain\":\"wiki\",\"metadata\":{\"LICENCE\":\"MIT, BSD\"}}}",
    "{\"source\":null,\"domain\":12}",
    "{}",
    "not JSON at all",
    "[\"source\"]",
};
enum { METADATA_ROWS = sizeof(metadata_rows) / sizeof(metadata_rows[0]) };

static const char *metadata_of(size_t d, char *out, size_t size)
{
    snprintf(out, size, "%s", metadata_rows[d % METADATA_ROWS]);
    return out;
}

static void check_values(const corpus *c, const ft_stat_values *got, const char *const *of_row)
{
    ft_stat_value want[METADATA_ROWS + 1] = {{0}}, none = {0};
    size_t distinct = 0;
    for (size_t d = 0; d < c->documents; d++) {
        const char *text = of_row[d % METADATA_ROWS];
        ft_stat_value *v = text ? want : &none;
        while (text && v->text && strcmp(v->text, text) != 0)
            v++;
        distinct += text && !v->text;
        v->text = text;
        v->documents++;
        v->tokens += c->length[d];
    }
    assert_int_equal(got->distinct, distinct);
    assert_int_equal(got->shown, distinct);
    assert_true(got->complete);
    assert_int_equal(got->other.documents, 0);
    assert_int_equal(got->none.documents, none.documents);
    assert_int_equal(got->none.tokens, none.tokens);
    for (size_t i = 0; i < got->shown; i++) {
        size_t k = 0;
        while (k < distinct && strcmp(want[k].text, got->top[i].text) != 0)
            k++;
        assert_true(k < distinct);
        assert_int_equal(got->top[i].documents, want[k].documents);
        assert_int_equal(got->top[i].tokens, want[k].tokens);
        assert_true(!i || got->top[i - 1].documents >= got->top[i].documents);
    }
}

static void check_metadata(const corpus *c, const ft_index_stat *s)
{
    static const char *const sources[METADATA_ROWS] = {"wiki", "news.example.org", "news.example.org", "wiki"};
    static const char *const licences[METADATA_ROWS] = {"CC-BY-SA", "all reserved", "MIT, BSD", "MIT, BSD"};
    size_t unreadable = 0;
    for (size_t d = 0; d < c->documents; d++)
        unreadable += d % METADATA_ROWS >= 6;
    check_values(c, &s->sources, sources);
    check_values(c, &s->licences, licences);
    assert_int_equal(s->unreadable_metadata, unreadable);
}

/* --- The promises ----------------------------------------------------------------------------------- */

static void statistics_agree_with_plain_counting(void **state)
{
    (void)state;
    static corpus c;
    ft_random r;
    ft_random_init(&r, 71);
    for (unsigned round = 0; round < 8; round++) {
        make_corpus(&c, &r, 60 + (size_t)ft_random_below(&r, 200), round % 2 ? 3 : 40);
        ft_pool *pool;
        ft_status st;
        assert_ok(ft_pool_new(&pool, 1 + round % 3, &st), st);
        const ft_index_stat_options o = {
            .top = round < 3 ? 0 : 1 + round * round * 4, .max_n = round % 4 ? round + 2 : 0, .pool = pool};
        const size_t top = o.top ? o.top : 20;
        ft_index *ix = build(&c, "plain", round % 2);
        ft_index_stat *s = describe(ix, &o);
        check_lengths(&c, s);
        check_identical(&c, s, top);
        check_near(&c, s, top);
        check_ngrams(&c, s, o.max_n ? o.max_n : 5, top, 1);
        check_metadata(&c, s);
        ft_index_stat_free(s);
        ft_index_close(ix);
        ft_pool_free(pool);
    }
}

static void infinigram_folders_of_several_shards_are_counted_alike(void **state)
{
    (void)state;
    static corpus c, by_shard;
    static fixture_document documents[FIXTURE_DOCUMENTS];
    ft_random r;
    ft_random_init(&r, 72);
    make_corpus(&c, &r, FIXTURE_DOCUMENTS, 6);
    const unsigned shards = 3;
    for (size_t d = 0; d < c.documents; d++) {
        documents[d].count = c.length[d];
        for (size_t i = 0; i < c.length[d]; i++)
            documents[d].ids[i] = c.ids[d][i] %= 60000;
    }
    /* Documents are numbered through the shards. */
    for (unsigned shard = 0; shard < shards; shard++)
        for (size_t d = shard; d < c.documents; d += shards) {
            memcpy(by_shard.ids[by_shard.documents], c.ids[d], sizeof(c.ids[d]));
            by_shard.length[by_shard.documents++] = c.length[d];
        }
    ft_index *ix = fixture_index("peer", documents, c.documents, shards);
    ft_index_stat *s = describe(ix, NULL);
    check_lengths(&by_shard, s);
    check_identical(&by_shard, s, 20);
    check_near(&by_shard, s, 20);
    check_ngrams(&by_shard, s, 5, 20, 0);
    assert_int_equal(s->sources.none.documents, c.documents);
    ft_index_stat_free(s);
    ft_index_close(ix);
}

/* The peer's own folders: versions 4 and 5 hold the same documents, the latter reversed. */
static void documents_that_stand_reversed_give_ngrams_in_reading_order(void **state)
{
    (void)state;
    ft_test_need("golden/index/infinigram-v5-u32/table.0");
    ft_index *forward, *reversed;
    ft_status st;
    const ft_infinigram_options four = {.version = 4, .end_of_text = FT_NO_TOKEN}, five = {5, FT_NO_TOKEN, 0};
    assert_ok(ft_index_open_infinigram(&forward, ft_test_shared("golden/index/infinigram-v4-u32"), &four, &st), st);
    assert_ok(ft_index_open_infinigram(&reversed, ft_test_shared("golden/index/infinigram-v5-u32"), &five, &st), st);
    ft_index_stat *a = describe(forward, NULL), *b = describe(reversed, NULL);
    assert_memory_equal(&a->lengths, &b->lengths, sizeof(a->lengths));
    assert_int_equal(a->identical.documents, b->identical.documents);
    for (unsigned n = 1; n <= 5; n++) {
        assert_int_equal(b->ngrams[n - 1].shown, 20);
        for (size_t i = 0; i < 20; i++) {
            ft_match m;
            assert_int_equal(a->ngrams[n - 1].top[i].count, b->ngrams[n - 1].top[i].count);
            ft_index_find(forward, b->ngrams[n - 1].top[i].ids, n, &m);
            assert_int_equal(m.count, b->ngrams[n - 1].top[i].count);
        }
    }
    ft_index_stat_free(a);
    ft_index_stat_free(b);
    ft_index_close(forward);
    ft_index_close(reversed);
}

/* Pairs of similarity just above 0.8, of few shingles and of many: the header promises that
 * 1.1e-4 of them are missed; more than 4 of 4,000 would be one chance in a thousand million. */
static void minhash_misses_as_rarely_as_promised(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 73);
    size_t missed = 0;
    for (unsigned pair = 0; pair < 4000; pair++) {
        uint32_t a[MAX_LENGTH], b[MAX_LENGTH];
        size_t n = 0;
        double similarity = 0;
        while (similarity < 0.8 || similarity > 0.83) {
            n = pair % 2 ? 49 + (size_t)ft_random_below(&r, 9) : MAX_LENGTH;
            for (size_t i = 0; i < n; i++)
                a[i] = b[i] = (uint32_t)ft_random_below(&r, VOCAB);
            for (size_t edits = n / 45; edits > 0; edits--) /* each changes 5 shingles of the n */
                b[ft_random_below(&r, n)] = (uint32_t)ft_random_below(&r, VOCAB);
            similarity = jaccard(a, n, b, n);
        }
        unsigned char x[FT_STAT_ROWS], y[FT_STAT_ROWS];
        int met = 0;
        ft_stat_signature(a, n, x);
        ft_stat_signature(b, n, y);
        for (unsigned band = 0; band < FT_STAT_BANDS; band++)
            met |= !memcmp(x + band * FT_STAT_BAND_ROWS, y + band * FT_STAT_BAND_ROWS, FT_STAT_BAND_ROWS);
        missed += !met || ft_stat_signature_agreement(x, y) < FT_STAT_SCREEN;
    }
    assert_in_range(missed, 0, 4);
}

/* One page, ten thousand times, each with another number in it: one cluster, and about as
 * many comparisons as pages. */
static void a_template_costs_one_comparison_a_page(void **state)
{
    (void)state;
    enum { PAGES = 10000, LENGTH = 120 };
    ft_status st;
    ft_index_writer *w;
    ft_index *ix;
    uint32_t ids[LENGTH];
    char folder[4096];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("template"));
    const ft_index_writer_options o = {.vocab_size = VOCAB, .end_of_text = FT_NO_TOKEN};
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    for (uint32_t d = 0; d < PAGES; d++) {
        for (uint32_t i = 0; i < LENGTH; i++)
            ids[i] = i;
        ids[60] = 1000 + d;
        assert_ok(ft_index_writer_add(w, ids, LENGTH, "", NULL, 0, &st), st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    assert_ok(ft_index_open(&ix, folder, &st), st);
    ft_index_stat *s = describe(ix, NULL);
    assert_int_equal(s->near.groups, 1);
    assert_int_equal(s->near.texts, PAGES);
    assert_int_equal(s->near.surplus_documents, PAGES - 1);
    assert_in_range(s->near.compared_pairs, PAGES - 1, PAGES + 300);
    assert_int_equal(s->near.unchecked_pairs, 0);
    assert_int_equal(s->ngrams[4].top[0].count, PAGES);
    ft_index_stat_free(s);
    ft_index_close(ix);
}

/* Pages of one kind that differ in too many places: the comparisons in vain have a ceiling,
 * what it leaves out is counted, and threads do not change the answer. */
static void pages_that_are_not_alike_enough_cost_a_bounded_number_of_comparisons(void **state)
{
    (void)state;
    enum { PAGES = 700, LENGTH = 390, CHANGES = 7 };
    ft_status st;
    ft_index_writer *w;
    ft_index *ix;
    ft_random r;
    char folder[4096];
    uint64_t pairs[2], unchecked[2], groups[2];
    ft_random_init(&r, 77);
    snprintf(folder, sizeof(folder), "%s", ft_test_path("alike"));
    const ft_index_writer_options o = {.vocab_size = VOCAB, .end_of_text = FT_NO_TOKEN};
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    for (uint32_t d = 0; d < PAGES; d++) {
        uint32_t ids[LENGTH];
        for (uint32_t i = 0; i < LENGTH; i++)
            ids[i] = i;
        for (uint32_t i = 0; i < CHANGES; i++)
            ids[ft_random_below(&r, LENGTH)] = (uint32_t)ft_random_below(&r, VOCAB);
        assert_ok(ft_index_writer_add(w, ids, LENGTH, "", NULL, 0, &st), st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    assert_ok(ft_index_open(&ix, folder, &st), st);
    for (unsigned i = 0; i < 2; i++) {
        ft_pool *pool;
        assert_ok(ft_pool_new(&pool, 1 + 2 * i, &st), st);
        ft_index_stat *s = describe(ix, &(ft_index_stat_options){.pool = pool});
        pairs[i] = s->near.compared_pairs;
        unchecked[i] = s->near.unchecked_pairs;
        groups[i] = s->near.groups;
        ft_index_stat_free(s);
        ft_pool_free(pool);
    }
    assert_in_range(pairs[0], PAGES, PAGES * 257);
    assert_in_range(unchecked[0], 1000, PAGES * PAGES / 2);
    assert_in_range(pairs[0] + unchecked[0], PAGES * PAGES / 3, PAGES * PAGES / 2); /* each pair once */
    assert_int_equal(pairs[0], pairs[1]);
    assert_int_equal(unchecked[0], unchecked[1]);
    assert_int_equal(groups[0], groups[1]);
    ft_index_close(ix);
}

static void an_empty_corpus_has_statistics(void **state)
{
    (void)state;
    static corpus c;
    c.documents = 0;
    ft_index *ix = build(&c, "nothing", 0);
    ft_index_stat *s = describe(ix, NULL);
    assert_int_equal(s->documents, 0);
    assert_int_equal(s->near.groups + s->identical.groups, 0);
    assert_int_equal(s->ngrams[0].shown, 0);
    ft_index_stat_free(s);
    ft_index_close(ix);
}

static int stop_at_third(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)phase;
    (void)done;
    (void)total;
    (void)unit;
    return ++*(int *)context == 3;
}

static void what_cannot_be_done_is_said(void **state)
{
    (void)state;
    static corpus c;
    ft_random r;
    ft_random_init(&r, 74);
    make_corpus(&c, &r, 100, 10);
    ft_index *ix = build(&c, "refused", 0);
    ft_index_stat *s = (ft_index_stat *)&c; /* not NULL: it has to be cleared */
    ft_status st;
    int calls = 0;
    const ft_progress progress = {stop_at_third, &calls};
    assert_int_equal(ft_index_stat_make(&s, ix, &(ft_index_stat_options){.top = 1001}, &st), FT_ERR_ARG);
    assert_null(s);
    assert_int_equal(ft_index_stat_make(&s, ix, &(ft_index_stat_options){.max_n = 17}, &st), FT_ERR_ARG);
    assert_int_equal(ft_index_stat_make(&s, ix, &(ft_index_stat_options){.memory_bytes = 1000}, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "100 documents"));
    assert_int_equal(ft_index_stat_make(&s, ix, &(ft_index_stat_options){.progress = &progress}, &st),
                     FT_ERR_CANCELLED);
    assert_null(s);
    ft_index_close(ix);
}

static void little_memory_for_sources_is_said_and_loses_no_document(void **state)
{
    (void)state;
    ft_status st;
    ft_index_writer *w;
    ft_index *ix;
    char folder[4096], metadata[80];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("sources"));
    const ft_index_writer_options o = {.vocab_size = VOCAB, .end_of_text = FT_NO_TOKEN};
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    for (uint32_t d = 0; d < 1000; d++) {
        snprintf(metadata, sizeof(metadata), "{\"source\":\"%u\"}", d < 500 ? d % 5 : d);
        assert_ok(ft_index_writer_add(w, &d, 1, "", metadata, 0, &st), st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    assert_ok(ft_index_open(&ix, folder, &st), st);
    ft_index_stat *s = describe(ix, &(ft_index_stat_options){.top = 5, .memory_bytes = 250000});
    assert_false(s->sources.complete);
    assert_in_range(s->sources.distinct, 100, 400);
    assert_int_equal(s->sources.other.documents, 500);
    assert_int_equal(s->sources.top[4].documents, 100);
    ft_index_stat_free(s);
    ft_index_close(ix);
}

static void failing_allocations_leak_and_break_nothing(void **state)
{
    (void)state;
    static corpus c;
    ft_random r;
    ft_random_init(&r, 75);
    make_corpus(&c, &r, 40, 10);
    ft_index *ix = build(&c, "memory", 0);
    for (long k = 1;; k++) {
        ft_index_stat *s = NULL;
        ft_status st;
        ft_test_fail_allocation(k);
        const ft_code rc = ft_index_stat_make(&s, ix, NULL, &st);
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (!failed) {
            assert_ok(rc, st);
            ft_index_stat_free(s);
            break;
        }
        assert_true((rc == FT_OK) == (s != NULL)); /* jansson's own may fail without ending the whole */
        ft_index_stat_free(s);
    }
    ft_index_close(ix);
}

/* --- Damage --------------------------------------------------------------------------- */

enum { MAX_FILES = 32 };

/* Paths of all files below the folder. */
static size_t list_files(const char *folder, char **paths, size_t count)
{
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[4600];
        struct stat kind;
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || stat(path, &kind))
            continue;
        if (S_ISDIR(kind.st_mode))
            count = list_files(path, paths, count);
        else if (count < MAX_FILES)
            paths[count++] = strdup(path);
    }
    closedir(d);
    return count;
}

/* What opens despite the damage gives statistics or an error, never a crash. Returns the code. */
static ft_code try_damaged(const char *folder)
{
    const ft_infinigram_options o = {.version = 4, .end_of_text = FT_NO_TOKEN};
    ft_index *ix;
    ft_index_stat *s;
    ft_status st;
    ft_code rc = ft_index_open_any(&ix, folder, &o, &st);
    if (rc)
        return rc;
    rc = ft_index_stat_make(&s, ix, NULL, &st);
    assert_true((rc == FT_OK) == (s != NULL));
    if (rc)
        assert_true(strlen(st.msg) > 20);
    ft_index_stat_free(s);
    ft_index_close(ix);
    return rc;
}

static void damage_every_file(const char *folder, ft_random *r, size_t *refused)
{
    char *paths[MAX_FILES];
    const size_t files = list_files(folder, paths, 0);
    assert_in_range(files, 3, MAX_FILES - 1);
    for (size_t f = 0; f < files; f++) {
        size_t n;
        char *whole = ft_test_read(paths[f], &n), *damaged = malloc(n + 1);
        for (unsigned round = 0; round < 60 && n; round++) {
            memcpy(damaged, whole, n);
            if (round < 40) /* one bit; later a stretch of one byte */
                damaged[ft_random_below(r, n)] ^= (char)(1 << ft_random_below(r, 8));
            else
                for (size_t at = (size_t)ft_random_below(r, n), end = at + 64; at < n && at < end; at++)
                    damaged[at] = (char)(round % 2 ? 0xEE : 0);
            ft_test_write(paths[f], damaged, n);
            *refused += try_damaged(folder) == FT_ERR_FORMAT;
        }
        ft_test_write(paths[f], whole, n ? (size_t)ft_random_below(r, n) : 0);
        (void)try_damaged(folder);
        ft_test_write(paths[f], whole, n);
        free(whole);
        free(damaged);
        free(paths[f]);
    }
    assert_int_equal(try_damaged(folder), FT_OK);
}

static void damage_gives_an_error_or_an_answer_never_a_crash(void **state)
{
    (void)state;
    static corpus c;
    static fixture_document documents[FIXTURE_DOCUMENTS];
    ft_random r;
    size_t refused = 0;
    ft_random_init(&r, 76);
    make_corpus(&c, &r, 20, 10);
    char folder[4096];
    ft_index *ix = build(&c, "damaged", 0);
    snprintf(folder, sizeof(folder), "%s", ft_index_get_info(ix).folder);
    ft_index_close(ix);
    damage_every_file(folder, &r, &refused);
    for (size_t d = 0; d < c.documents; d++) {
        documents[d].count = c.length[d];
        for (size_t i = 0; i < c.length[d]; i++)
            documents[d].ids[i] = c.ids[d][i] % 60000;
    }
    ix = fixture_index("damaged-peer", documents, c.documents, 2);
    snprintf(folder, sizeof(folder), "%s", ft_index_get_info(ix).folder);
    ft_index_close(ix);
    damage_every_file(folder, &r, &refused);
    assert_true(refused > 100);
}

/* All pointers to one place: the suffixes do not hold the corpus, and that is seen. */
static void an_order_that_does_not_hold_the_corpus_is_an_error(void **state)
{
    (void)state;
    static fixture_document documents[3];
    for (size_t d = 0; d < 3; d++)
        for (documents[d].count = 0; documents[d].count < 30; documents[d].count++)
            documents[d].ids[documents[d].count] = (uint32_t)(d + documents[d].count);
    ft_index *ix = fixture_index("order", documents, 3, 1);
    const ft_infinigram_options o = {.version = 4, .end_of_text = FT_NO_TOKEN};
    char folder[4096], path[4200];
    size_t n;
    snprintf(folder, sizeof(folder), "%s", ft_index_get_info(ix).folder);
    snprintf(path, sizeof(path), "%s/table.0", folder);
    ft_index_close(ix);
    char *table = ft_test_read(path, &n);
    memset(table, 0, n);
    ft_test_write(path, table, n);
    free(table);
    ft_index_stat *s;
    ft_status st;
    assert_ok(ft_index_open_any(&ix, folder, &o, &st), st);
    assert_int_equal(ft_index_stat_make(&s, ix, NULL, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "index verify"));
    ft_index_close(ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_agree_with_plain_counting),
        cmocka_unit_test(infinigram_folders_of_several_shards_are_counted_alike),
        cmocka_unit_test(documents_that_stand_reversed_give_ngrams_in_reading_order),
        cmocka_unit_test(minhash_misses_as_rarely_as_promised),
        cmocka_unit_test(a_template_costs_one_comparison_a_page),
        cmocka_unit_test(pages_that_are_not_alike_enough_cost_a_bounded_number_of_comparisons),
        cmocka_unit_test(an_empty_corpus_has_statistics),
        cmocka_unit_test(what_cannot_be_done_is_said),
        cmocka_unit_test(little_memory_for_sources_is_said_and_loses_no_document),
        cmocka_unit_test(failing_allocations_leak_and_break_nothing),
        cmocka_unit_test(damage_gives_an_error_or_an_answer_never_a_crash),
        cmocka_unit_test(an_order_that_does_not_hold_the_corpus_is_an_error),
    };
    return cmocka_run_group_tests_name("index_stat", tests, NULL, NULL);
}
