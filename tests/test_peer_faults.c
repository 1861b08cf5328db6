/* Where infini-gram 2.6 is known to answer wrongly without a word, the answers are those of
 * a plain scan. Each test names one of its faults. */
#include "tests/corpus_fixture.h"

#include "base/ft_random.h"
#include "base/ft_threads.h"
#include "index/ft_index_build.h"
#include "index/ft_query.h"

enum { END = 60000 };

typedef struct plain {
    uint32_t *ids; /* documents one after another, each behind it END */
    size_t count;
} plain;

static void plain_add(plain *p, const uint32_t *ids, size_t n)
{
    p->ids = realloc(p->ids, (p->count + n + 1) * sizeof(*p->ids));
    memcpy(p->ids + p->count, ids, n * sizeof(*ids));
    p->count += n;
    p->ids[p->count++] = END;
}

static int stands_at(const plain *p, size_t at, const uint32_t *pat, size_t n)
{
    return at + n <= p->count && !memcmp(p->ids + at, pat, n * sizeof(*pat));
}

static uint64_t count_plainly(const plain *p, const uint32_t *pat, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 0; i < p->count; i++)
        count += stands_at(p, i, pat, n);
    return count;
}

static ft_index *build(const char *name, const plain *p, unsigned threads, uint64_t memory, unsigned *runs)
{
    char folder[4096];
    ft_status st;
    ft_pool *pool;
    ft_index_writer *w;
    ft_index_build_report report;
    ft_index *ix;
    snprintf(folder, sizeof(folder), "%s", ft_test_path(name));
    assert_ok(ft_folder_remove(folder, &st), st);
    assert_ok(ft_pool_new(&pool, threads, &st), st);
    const ft_index_writer_options o = {
        .vocab_size = END, .end_of_text = UINT32_MAX, .pool = pool, .memory_bytes = memory};
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    for (size_t from = 0, number = 0; from < p->count; number++) {
        size_t to = from;
        char id[24];
        while (p->ids[to] != END)
            to++;
        snprintf(id, sizeof(id), "%zu", number);
        assert_ok(ft_index_writer_add(w, p->ids + from, to - from, id, NULL, 0, &st), st);
        from = to + 1;
    }
    assert_ok(ft_index_writer_finish(w, &report, &st), st);
    ft_pool_free(pool);
    if (runs)
        *runs = report.runs;
    assert_ok(ft_index_open(&ix, folder, &st), st);
    return ix;
}

static void check_counts(const ft_index *ix, const plain *p, ft_random *r, unsigned many)
{
    const ft_index_set set = {&ix, 1};
    for (unsigned i = 0; i < many; i++) {
        const size_t at = (size_t)ft_random_below(r, p->count);
        size_t n = 0;
        while (at + n < p->count && p->ids[at + n] != END && n < 1 + i % 12)
            n++;
        assert_int_equal(ft_query_count(set, p->ids + at, n), n ? count_plainly(p, p->ids + at, n) : p->count);
    }
}

/* The peer sorts parts by themselves and compares no further than 100,000 bytes beyond them. */
static void repeats_longer_than_100_kB_are_sorted_across_the_edges_of_runs(void **state)
{
    (void)state;
    enum { LENGTH = 70000, COPIES = 5 };
    ft_status st;
    ft_random r;
    ft_random_init(&r, 1);
    plain p = {0};
    uint32_t *ids = calloc(LENGTH, sizeof(*ids));
    for (size_t i = 0; i < LENGTH; i++)
        ids[i] = (uint32_t)ft_random_below(&r, 5) + (i % 7 ? 0 : 1000);
    for (unsigned c = 0; c < COPIES; c++) {
        ids[LENGTH - 1] = 2000 + (c * 3) % COPIES; /* told apart by their last token alone */
        plain_add(&p, ids + c, LENGTH - c);
    }
    unsigned runs;
    ft_index *ix = build("repeats", &p, 1, 20 << 20, &runs);
    assert_true(runs >= 2);
    assert_ok(ft_index_verify(ix, &st), st);
    check_counts(ix, &p, &r, 60);
    ft_index_close(ix);
    free(ids);
    free(p.ids);
}

/* The peer cuts its input into a part a thread, and writes over its own table when it is small. */
static void the_smallest_corpora_are_sound_with_any_number_of_threads(void **state)
{
    (void)state;
    ft_status st;
    ft_random r;
    ft_random_init(&r, 2);
    for (unsigned tokens = 0; tokens < 24; tokens++)
        for (unsigned threads = 1; threads <= 8; threads += 7) {
            plain p = {0};
            uint32_t ids[24];
            for (unsigned i = 0; i < tokens; i++)
                ids[i] = (uint32_t)ft_random_below(&r, 2);
            plain_add(&p, ids, tokens / 2);
            plain_add(&p, ids + tokens / 2, tokens - tokens / 2);
            ft_index *ix = build("small", &p, threads, 0, NULL);
            assert_ok(ft_index_verify(ix, &st), st);
            check_counts(ix, &p, &r, 20);
            ft_index_close(ix);
            free(p.ids);
        }
}

/* The peer takes a prompt that ends the array, and ends a document elsewhere, for one that
 * is always followed by the end. */
static void what_follows_the_end_of_the_array_is_one_continuation_among_others(void **state)
{
    (void)state;
    static const fixture_document documents[] = {
        {{5, 6, 7}, 3}, {{5, 6}, 2}, {{9, 5, 6, 7, 5, 6, 8}, 7}, {{1, 5, 6}, 3}};
    plain p = {0};
    for (size_t i = 0; i < 4; i++)
        plain_add(&p, documents[i].ids, documents[i].count);
    ft_status st;
    ft_index *both[] = {fixture_index("array-end", documents, 4, 1), build("own-end", &p, 2, 0, NULL)};
    static const uint32_t prompt[] = {5, 6};
    for (size_t i = 0; i < 2; i++) {
        ft_distribution d;
        const ft_index_set set = {(const ft_index *const *)&both[i], 1};
        assert_ok(ft_query_ntd(set, prompt, 2, 0, &d, &st), st);
        assert_int_equal(d.prompt_count, 5);
        assert_int_equal(d.count, 3);
        uint64_t seven = 0, eight = 0, others = 0;
        for (size_t k = 0; k < d.count; k++)
            *(d.next[k].id == 7 ? &seven : d.next[k].id == 8 ? &eight : &others) += d.next[k].count;
        assert_int_equal(seven, 2);
        assert_int_equal(eight, 1);
        assert_int_equal(others, 2);
        ft_distribution_release(&d);
        ft_index_close(both[i]);
    }
    free(p.ids);
}

static int is_near(const plain *p, size_t at, uint32_t id, size_t window)
{
    for (size_t q = at; q + window >= at && p->ids[q] != END; q--) { /* back to the document's start */
        if (p->ids[q] == id)
            return 1;
        if (q == 0)
            break;
    }
    for (size_t q = at; q <= at + window && p->ids[q] != END; q++)
        if (p->ids[q] == id)
            return 1;
    return 0;
}

/* The peer looks at one neighbour of each anchor and gives up when it is in another document. */
static void and_queries_over_dense_terms_count_every_anchor(void **state)
{
    (void)state;
    ft_status st;
    ft_random r;
    ft_random_init(&r, 4);
    for (unsigned round = 0; round < 40; round++) {
        fixture_document documents[12];
        plain p = {0};
        for (size_t i = 0; i < 12; i++) {
            documents[i].count = (size_t)ft_random_below(&r, 30);
            for (size_t k = 0; k < documents[i].count; k++)
                documents[i].ids[k] = (uint32_t)ft_random_below(&r, 4 + round % 5);
            plain_add(&p, documents[i].ids, documents[i].count);
        }
        ft_index *both[] = {fixture_index("dense", documents, 12, 1), build("own-dense", &p, 1, 0, NULL)};
        const size_t window = (size_t)ft_random_below(&r, 9);
        const uint32_t terms[] = {0, 1, 2};
        const ft_ngram ngrams[] = {{&terms[0], 1}, {&terms[1], 1}, {&terms[2], 1}};
        const ft_clause clauses[] = {{&ngrams[0], 1}, {&ngrams[1], 1}, {&ngrams[2], 1}};
        const size_t many = 2 + round % 2;
        size_t anchor = 0;
        uint64_t want = 0, fewest = UINT64_MAX;
        for (size_t i = 0; i < many; i++)
            if (count_plainly(&p, &terms[i], 1) < fewest)
                fewest = count_plainly(&p, &terms[anchor = i], 1);
        for (size_t at = 0; at < p.count && fewest; at++) {
            int all = p.ids[at] == terms[anchor];
            for (size_t i = 0; i < many && all; i++)
                all = i == anchor || is_near(&p, at, terms[i], window);
            want += (uint64_t)all;
        }
        for (size_t i = 0; i < 2; i++) {
            ft_cnf_result got;
            const ft_index_set set = {(const ft_index *const *)&both[i], 1};
            assert_ok(ft_query_cnf(set, clauses, many, window, 50000, &got, &st), st);
            assert_int_equal(got.count, want);
            ft_cnf_result_release(&got);
            ft_index_close(both[i]);
        }
        free(p.ids);
    }
}

/* The peer opens whatever is there. */
static void a_cut_table_is_refused_with_its_name(void **state)
{
    (void)state;
    const fixture_document document = {.ids = {1, 2, 3, 4, 5, 6, 7, 8, 9}, .count = 9};
    char folder[4096], table[4200];
    ft_status st;
    ft_buffer bytes = {0};
    ft_index_close(fixture_index("cut", &document, 1, 1));
    snprintf(folder, sizeof(folder), "%s", ft_test_path("cut"));
    snprintf(table, sizeof(table), "%s/table.0", folder);
    assert_ok(ft_file_read(table, 0, &bytes, &st), st);
    for (size_t n = 0; n < bytes.size; n++) {
        ft_index *ix;
        const ft_infinigram_options o = {.version = 4, .end_of_text = UINT32_MAX};
        ft_test_write(table, bytes.data, n);
        assert_int_not_equal(ft_index_open_infinigram(&ix, folder, &o, &st), FT_OK);
        /* Half a table would do for tokens twice as wide: then their first one gives it away. */
        assert_non_null(strstr(st.msg, 2 * n == bytes.size ? "tokenized.0" : "table.0"));
    }
    ft_buffer_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_longer_than_100_kB_are_sorted_across_the_edges_of_runs),
        cmocka_unit_test(the_smallest_corpora_are_sound_with_any_number_of_threads),
        cmocka_unit_test(what_follows_the_end_of_the_array_is_one_continuation_among_others),
        cmocka_unit_test(and_queries_over_dense_terms_count_every_anchor),
        cmocka_unit_test(a_cut_table_is_refused_with_its_name),
    };
    return cmocka_run_group_tests_name("peer_faults", tests, NULL, NULL);
}
