/* An index that grows, loses documents and is compacted is, at every step, the index that
 * one build of the same documents makes: after compaction byte for byte. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "base/ft_threads.h"
#include "index/ft_index.h"
#include "index/ft_index_build.h"
#include "index/ft_index_update.h"
#include "index/ft_query.h"

#include <stdlib.h>

enum { DOCUMENTS_MAX = 200, LENGTH_MAX = 400 };

typedef struct documents {
    uint32_t *tokens[DOCUMENTS_MAX];
    size_t length[DOCUMENTS_MAX];
    char id[DOCUMENTS_MAX][32];
    int gone[DOCUMENTS_MAX];
    size_t count;
    uint32_t vocab;
} documents;

/* Some are copies of others, or parts of them, some are empty. */
static void draw_documents(documents *d, ft_random *r, size_t count, uint32_t vocab)
{
    for (size_t i = d->count; i < d->count + count; i++) {
        const size_t n = ft_random_below(r, 8) ? (size_t)ft_random_below(r, LENGTH_MAX) : (size_t)ft_random_below(r, 2);
        d->tokens[i] = calloc(LENGTH_MAX, sizeof(uint32_t));
        d->length[i] = n;
        if (i && ft_random_below(r, 3) == 0) {
            const size_t from = (size_t)ft_random_below(r, i);
            d->length[i] = d->length[from] - (size_t)ft_random_below(r, d->length[from] + 1) / 2;
            memcpy(d->tokens[i], d->tokens[from], d->length[i] * sizeof(uint32_t));
        } else {
            for (size_t k = 0; k < n; k++)
                d->tokens[i][k] = (uint32_t)ft_random_below(r, i % 2 ? vocab : vocab / 8 + 1);
        }
        snprintf(d->id[i], sizeof(d->id[i]), "doc %zu", i);
        d->gone[i] = 0;
    }
    d->count += count;
    d->vocab = vocab;
}

static void release_documents(documents *d)
{
    for (size_t i = 0; i < d->count; i++)
        free(d->tokens[i]);
    *d = (documents){0};
}

/* Documents [from, to) that are not gone, to a new index or to one more segment. */
static void write_documents(const documents *d, size_t from, size_t to, const char *folder, int add, ft_pool *pool)
{
    ft_status st;
    ft_index_writer *w;
    const ft_index_writer_options o = {.add = add, .vocab_size = d->vocab, .end_of_text = 0, .pool = pool};
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    for (size_t i = from; i < to; i++)
        if (!d->gone[i])
            assert_ok(ft_index_writer_add(w, d->tokens[i], d->length[i], d->id[i], "{\"a\":1}", d->length[i], &st), st);
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
}

static void remove_some(documents *d, ft_random *r, const char *folder, uint64_t one_in)
{
    ft_status st;
    ft_index_removal *removal;
    ft_index_removal_report report;
    size_t wanted = 0;
    assert_ok(ft_index_removal_begin(&removal, folder, 2, &st), st);
    for (size_t i = 0; i < d->count; i++) {
        ft_doc_ref doc;
        const ft_code rc = ft_index_document_by_id(ft_index_removal_index(removal), d->id[i], &doc, &st);
        assert_int_equal(rc, d->gone[i] ? FT_ERR_NOT_FOUND : FT_OK);
        if (rc || ft_random_below(r, one_in))
            continue;
        assert_ok(ft_index_removal_add(removal, &doc, &st), st);
        d->gone[i] = 1;
        wanted++;
    }
    assert_ok(ft_index_removal_commit(removal, &report, &st), st);
    assert_int_equal(report.documents, wanted);
    ft_index_removal_end(removal);
}

/* Both indexes give the same answers, document by document, n-gram by n-gram. */
static void check_alike(const char *a, const char *b, const documents *d, ft_random *r)
{
    ft_status st;
    ft_index *x, *y;
    assert_ok(ft_index_open(&x, a, &st), st);
    assert_ok(ft_index_open(&y, b, &st), st);
    assert_ok(ft_index_verify(x, &st), st);
    const ft_index_info i = ft_index_get_info(x), j = ft_index_get_info(y);
    assert_int_equal(i.documents, j.documents);
    assert_int_equal(i.tokens, j.tokens);
    for (uint64_t k = 0; k < i.documents; k++) {
        ft_doc_ref p, q;
        assert_ok(ft_index_document(x, k, &p, &st), st);
        assert_ok(ft_index_document(y, k, &q, &st), st);
        assert_string_equal(p.id, q.id);
        assert_int_equal(p.length, q.length);
    }
    const ft_index_set of_x = {(const ft_index *const *)&x, 1}, of_y = {(const ft_index *const *)&y, 1};
    for (unsigned k = 0; k < (d->vocab > 100000 ? 20 : 300); k++) {
        const size_t from = (size_t)ft_random_below(r, d->count);
        const size_t at = (size_t)ft_random_below(r, d->length[from] + 1);
        const size_t left = d->length[from] - at, n = left ? (size_t)ft_random_below(r, left < 9 ? left + 1 : 10) : 0;
        const uint32_t *pat = d->tokens[from] + at;
        assert_int_equal(ft_query_count(of_x, pat, n), ft_query_count(of_y, pat, n));
        ft_distribution p, q;
        assert_ok(ft_query_ntd(of_x, pat, n, 1, &p, &st), st);
        assert_ok(ft_query_ntd(of_y, pat, n, 1, &q, &st), st);
        assert_int_equal(p.count, q.count);
        for (size_t t = 0; t < p.count; t++) {
            assert_int_equal(p.next[t].id, q.next[t].id);
            assert_int_equal(p.next[t].count, q.next[t].count);
        }
        ft_distribution_release(&p);
        ft_distribution_release(&q);
    }
    ft_index_close(x);
    ft_index_close(y);
}

static void check_same_file(const char *a, const char *in_a, const char *b, const char *in_b)
{
    ft_status st;
    ft_map x = {0}, y = {0};
    char path[4600];
    snprintf(path, sizeof(path), "%s/%s", a, in_a);
    assert_ok(ft_map_open(&x, path, &st), st);
    snprintf(path, sizeof(path), "%s/%s", b, in_b);
    assert_ok(ft_map_open(&y, path, &st), st);
    assert_int_equal(x.bytes, y.bytes);
    assert_memory_equal(x.data, y.data, x.bytes);
    ft_map_close(&x);
    ft_map_close(&y);
}

static void check_same_segment(const char *a, const char *in_a, const char *b, const char *in_b)
{
    static const char *const files[] = {"tokens", "suffixes", "bounds", "tree", "documents", "texts", "ids"};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char x[100], y[100];
        snprintf(x, sizeof(x), "%s/%s", in_a, files[i]);
        snprintf(y, sizeof(y), "%s/%s", in_b, files[i]);
        check_same_file(a, x, b, y);
    }
}

static void fresh(char *folder, const char *name)
{
    ft_status st;
    snprintf(folder, 4096, "%s", ft_test_path(name));
    assert_ok(ft_folder_remove(folder, &st), st);
}

static void additions_removals_and_compaction_give_what_one_build_gives(void **state)
{
    (void)state;
    static const uint32_t vocabularies[] = {1, 2, 30, 5000, 70000, 1100000};
    ft_status st;
    ft_pool *pool;
    ft_random r;
    ft_random_init(&r, 77);
    assert_ok(ft_pool_new(&pool, 2, &st), st);
    for (size_t v = 0; v < sizeof(vocabularies) / sizeof(*vocabularies); v++) {
        documents d = {0};
        char grown[4096], built[4096];
        fresh(grown, "grown");
        fresh(built, "built");
        draw_documents(&d, &r, 60, vocabularies[v]);
        write_documents(&d, 0, d.count, grown, 0, pool);
        for (unsigned step = 0; step < 4; step++) {
            const size_t before = d.count;
            if (step != 2) {
                draw_documents(&d, &r, 1 + (size_t)ft_random_below(&r, 30), vocabularies[v]);
                write_documents(&d, before, d.count, grown, 1, pool);
            }
            remove_some(&d, &r, grown, step == 1 ? 2 : 9);
            assert_ok(ft_folder_remove(built, &st), st);
            write_documents(&d, 0, d.count, built, 0, pool);
            check_alike(grown, built, &d, &r);
            if (step >= 2) {
                const ft_index_compact_options o = {.threads = 2};
                ft_index_compact_report report;
                char segment[64];
                assert_ok(ft_index_compact(grown, &o, &report, &st), st);
                assert_int_equal(report.segments_after, 1);
                check_alike(grown, built, &d, &r);
                /* Its name says which manifest first named it: look for it. */
                for (unsigned g = 1; g < 30; g++) {
                    char path[4400];
                    snprintf(segment, sizeof(segment), "segment-%06u", g);
                    snprintf(path, sizeof(path), "%s/%s", grown, segment);
                    if (ft_path_exists(path))
                        break;
                }
                check_same_segment(grown, segment, built, "segment-000001");
            }
        }
        release_documents(&d);
    }
    ft_pool_free(pool);
}

/* The same content is the same segment, however it was cut while it was sorted. */
static void any_memory_and_any_number_of_threads_make_the_same_files(void **state)
{
    (void)state;
    ft_status st;
    ft_random r;
    ft_random_init(&r, 78);
    char first[4096], other[4096];
    static const struct {
        unsigned threads;
        uint64_t memory;
    } ways[] = {{1, 0}, {3, 0}, {1, 18 << 20}, {2, 32 << 20}};
    enum { TOKENS = 500000 };
    uint32_t *tokens = calloc(TOKENS, sizeof(*tokens));
    for (size_t i = 0; i < TOKENS; i++) /* long repeats, so that runs are compared far on */
        tokens[i] = i > 200000 && ft_random_below(&r, 5000) ? tokens[i - 190000] : (uint32_t)ft_random_below(&r, 900);
    for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
        ft_pool *pool;
        ft_index_writer *writer;
        ft_index_build_report report;
        assert_ok(ft_pool_new(&pool, ways[w].threads, &st), st);
        fresh(w ? other : first, w ? "other" : "first");
        const ft_index_writer_options o = {
            .vocab_size = 900, .end_of_text = 0, .pool = pool, .memory_bytes = ways[w].memory};
        assert_ok(ft_index_writer_new(&writer, w ? other : first, &o, &st), st);
        for (size_t at = 0, i = 0; at < TOKENS; i++) {
            const size_t n = i % 40 == 7 ? 30000 : 1200, take = n < TOKENS - at ? n : TOKENS - at;
            char id[24];
            snprintf(id, sizeof(id), "%zu", i);
            assert_ok(ft_index_writer_add(writer, tokens + at, take, id, NULL, 0, &st), st);
            at += take;
        }
        assert_ok(ft_index_writer_finish(writer, &report, &st), st);
        if (ways[w].memory)
            assert_true(report.runs > 1);
        ft_pool_free(pool);
        if (w)
            check_same_segment(first, "segment-000001", other, "segment-000001");
    }
    free(tokens);
}

/* A document that stands many times, longer than what runs remember of their neighbours. */
static void long_repeats_are_merged_in_reasonable_time(void **state)
{
    (void)state;
    ft_status st;
    ft_random r;
    ft_random_init(&r, 79);
    documents d = {0};
    char grown[4096], built[4096];
    enum { LENGTH = 150000, COPIES = 6 };
    uint32_t *tokens = calloc(LENGTH, sizeof(*tokens));
    for (size_t i = 0; i < LENGTH; i++)
        tokens[i] = (uint32_t)ft_random_below(&r, 7);
    for (unsigned both = 0; both < 2; both++) {
        ft_index_writer *w = NULL;
        fresh(both ? built : grown, both ? "built" : "grown");
        for (unsigned i = 0; i < COPIES; i++) {
            char id[24];
            const ft_index_writer_options o = {.add = i > 0, .vocab_size = 7, .end_of_text = 0};
            if (!both || i == 0)
                assert_ok(ft_index_writer_new(&w, both ? built : grown, &o, &st), st);
            snprintf(id, sizeof(id), "%u", i);
            assert_ok(ft_index_writer_add(w, tokens + (i == 3 ? 1 : 0), LENGTH - (i == 3 ? 1 : 0), id, NULL, 0, &st),
                      st);
            if (!both || i + 1 == COPIES)
                assert_ok(ft_index_writer_finish(w, NULL, &st), st);
        }
    }
    const ft_index_compact_options o = {.threads = 2};
    assert_ok(ft_index_compact(grown, &o, NULL, &st), st);
    char segment[64];
    snprintf(segment, sizeof(segment), "segment-%06u", COPIES + 1);
    check_same_segment(grown, segment, built, "segment-000001");
    free(tokens);
    release_documents(&d);
}

static void a_document_takes_the_place_of_an_earlier_one_with_its_id(void **state)
{
    (void)state;
    ft_status st;
    ft_index *ix;
    ft_index_build_report report;
    char folder[4096];
    fresh(folder, "replaced");
    for (unsigned round = 0; round < 2; round++) {
        ft_index_writer *w;
        const ft_index_writer_options o = {
            .add = round > 0, .vocab_size = 50, .end_of_text = 0, .replace_documents = 1};
        assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
        for (uint32_t i = 0; i < 6; i++) {
            const uint32_t tokens[] = {round * 10 + i, 40};
            char id[8];
            snprintf(id, sizeof(id), "%u", i % 4 + round); /* 0 and 1 stand twice, then 1, 2, 3 again */
            assert_ok(ft_index_writer_add(w, tokens, 2, id, NULL, 0, &st), st);
        }
        assert_ok(ft_index_writer_finish(w, &report, &st), st);
        assert_int_equal(report.repeated_ids, round ? 2 + 5 : 2);
        assert_int_equal(report.replaced_documents, round ? 2 + 3 : 2);
    }
    assert_ok(ft_index_open(&ix, folder, &st), st);
    assert_ok(ft_index_verify(ix, &st), st);
    assert_int_equal(ft_index_get_info(ix).documents, 1 + 4);
    const ft_index_set set = {(const ft_index *const *)&ix, 1};
    assert_int_equal(ft_query_count(set, (const uint32_t[]){40}, 1), 5);
    static const uint32_t left[] = {4, 12, 13, 14, 15};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(ft_query_count(set, &left[i], 1), 1);
    ft_index_close(ix);
}

static void files_that_no_manifest_names_are_measured_until_a_change_removes_them(void **state)
{
    (void)state;
    ft_status st;
    ft_random r;
    ft_random_init(&r, 80);
    documents d = {0};
    char folder[4096], path[4200];
    uint64_t bytes;
    fresh(folder, "unnamed");
    draw_documents(&d, &r, 20, 30);
    write_documents(&d, 0, d.count, folder, 0, NULL);
    assert_ok(ft_index_unnamed_bytes(folder, &bytes, &st), st);
    assert_int_equal(bytes, 0);
    snprintf(path, sizeof(path), "%s/segment-000099", folder);
    assert_ok(ft_folder_make(path, &st), st);
    strcat(path, "/tokens");
    assert_ok(ft_file_write(path, "12345", 5, &st), st);
    snprintf(path, sizeof(path), "%s/segment-000001/removed-ranks-9", folder);
    assert_ok(ft_file_write(path, "1234567", 7, &st), st);
    snprintf(path, sizeof(path), "%s/notes", folder); /* not ours */
    assert_ok(ft_file_write(path, "1", 1, &st), st);
    assert_ok(ft_index_unnamed_bytes(folder, &bytes, &st), st);
    assert_int_equal(bytes, 12);
    remove_some(&d, &r, folder, 3);
    assert_ok(ft_index_unnamed_bytes(folder, &bytes, &st), st);
    assert_int_equal(bytes, 0);
    assert_true(ft_path_exists(path));
    release_documents(&d);
    assert_int_equal(ft_index_unnamed_bytes(ft_test_path("nowhere"), &bytes, &st), FT_ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(additions_removals_and_compaction_give_what_one_build_gives),
        cmocka_unit_test(any_memory_and_any_number_of_threads_make_the_same_files),
        cmocka_unit_test(long_repeats_are_merged_in_reasonable_time),
        cmocka_unit_test(a_document_takes_the_place_of_an_earlier_one_with_its_id),
        cmocka_unit_test(files_that_no_manifest_names_are_measured_until_a_change_removes_them),
    };
    return cmocka_run_group_tests_name("index_update", tests, NULL, NULL);
}
