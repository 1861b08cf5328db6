#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "index/ft_index.h"
#include "index/ft_index_build.h"

#include <unistd.h>

/* A corpus in memory, each document followed by END, and the index over it. */
enum { END = UINT32_MAX, VOCAB = 70000 };
typedef struct corpus {
    uint32_t *tokens;
    size_t n, *starts, documents;
    char folder[4096];
    ft_index *ix;
} corpus;

static void corpus_random(corpus *c, ft_random *r, size_t documents, uint32_t alphabet, uint32_t vocab)
{
    *c = (corpus){.documents = documents};
    c->starts = calloc(documents + 1, sizeof(*c->starts));
    c->tokens = calloc(documents * 60 + 1, sizeof(*c->tokens));
    for (size_t d = 0; d < documents; d++) {
        c->starts[d] = c->n;
        size_t length = (size_t)ft_random_below(r, 40);
        if (d > 2 && ft_random_below(r, 4) == 0) { /* a copy of an earlier document, or of its beginning */
            const size_t from = (size_t)ft_random_below(r, d);
            length = c->starts[from + 1] - c->starts[from] - 1;
            length -= ft_random_below(r, 2) && length ? 1 : 0;
            memcpy(c->tokens + c->n, c->tokens + c->starts[from], length * sizeof(*c->tokens));
        } else {
            for (size_t i = 0; i < length; i++)
                c->tokens[c->n + i] = (uint32_t)(vocab - 1 - ft_random_below(r, alphabet) * 7 % vocab);
        }
        c->n += length;
        c->tokens[c->n++] = END;
        c->starts[d + 1] = c->n;
    }
}

static void corpus_index(corpus *c, const char *name, uint32_t vocab)
{
    ft_status st;
    ft_index_writer *w;
    snprintf(c->folder, sizeof(c->folder), "%s", ft_test_path(name));
    assert_ok(ft_folder_remove(c->folder, &st), st);
    const ft_index_writer_options o = {.vocab_size = vocab, .end_of_text = 5, .owner = "Ann"};
    assert_ok(ft_index_writer_new(&w, c->folder, &o, &st), st);
    for (size_t d = 0; d < c->documents; d++) {
        char id[40], metadata[60];
        snprintf(id, sizeof(id), "doc/%zu", d);
        snprintf(metadata, sizeof(metadata), "{\"number\":%zu}", d);
        assert_ok(ft_index_writer_add(w, c->tokens + c->starts[d], c->starts[d + 1] - c->starts[d] - 1, id, metadata,
                                      10, &st),
                  st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    assert_ok(ft_index_open(&c->ix, c->folder, &st), st);
}

static void corpus_release(corpus *c)
{
    ft_index_close(c->ix);
    free(c->tokens);
    free(c->starts);
}

static size_t count_plainly(const corpus *c, const uint32_t *pat, size_t len)
{
    size_t count = 0;
    for (size_t at = 0; at + len <= c->n; at++)
        count += memcmp(c->tokens + at, pat, len * sizeof(*pat)) == 0;
    return count;
}

/* A pattern out of the corpus, sometimes with one token changed. */
static size_t some_pattern(const corpus *c, ft_random *r, uint32_t *pat, size_t max)
{
    size_t len = 1 + (size_t)ft_random_below(r, max);
    const size_t at = (size_t)ft_random_below(r, c->n);
    for (size_t i = 0; i < len; i++)
        if (at + i >= c->n || c->tokens[at + i] == END)
            len = i;
        else
            pat[i] = c->tokens[at + i];
    if (len && ft_random_below(r, 2))
        pat[ft_random_below(r, len)] = (uint32_t)ft_random_below(r, VOCAB + 10);
    return len;
}

static void check_find(const corpus *c, const uint32_t *pat, size_t len)
{
    ft_match m;
    ft_index_find(c->ix, pat, len, &m);
    assert_int_equal(m.count, len ? count_plainly(c, pat, len) : c->n);
    for (unsigned p = 0; p < ft_index_get_info(c->ix).parts; p++)
        for (uint64_t rank = m.part[p].lo; rank < m.part[p].hi && len; rank++) {
            uint32_t got[64];
            ft_index_tokens(c->ix, p, ft_index_position(c->ix, p, rank), len, got);
            assert_memory_equal(got, pat, len * sizeof(*pat));
        }
}

static void check_documents(const corpus *c)
{
    ft_status st;
    uint32_t got[64];
    size_t copied;
    for (size_t d = 0; d < c->documents; d++) {
        ft_doc_ref doc, by_id, at;
        char id[40], metadata[60];
        snprintf(id, sizeof(id), "doc/%zu", d);
        snprintf(metadata, sizeof(metadata), "{\"number\":%zu}", d);
        assert_ok(ft_index_document(c->ix, d, &doc, &st), st);
        assert_string_equal(doc.id, id);
        assert_int_equal(doc.id_bytes, strlen(id));
        assert_string_equal(doc.metadata, metadata);
        assert_int_equal(doc.length, c->starts[d + 1] - c->starts[d] - 1);
        ft_index_document_tokens(c->ix, &doc, 0, 64, got, &copied);
        assert_int_equal(copied, doc.length);
        assert_memory_equal(got, c->tokens + c->starts[d], copied * sizeof(*got));
        assert_ok(ft_index_document_by_id(c->ix, id, &by_id, &st), st);
        assert_int_equal(by_id.number, d);
        for (uint64_t i = 0; i < doc.length; i++) {
            assert_ok(ft_index_document_at(c->ix, doc.part, doc.start + i, &at, &st), st);
            assert_int_equal(at.number, d);
        }
        assert_int_equal(ft_index_document_at(c->ix, doc.part, doc.start + doc.length, &at, &st), FT_ERR_NOT_FOUND);
    }
    ft_doc_ref doc;
    assert_int_equal(ft_index_document(c->ix, c->documents, &doc, &st), FT_ERR_NOT_FOUND);
    assert_int_equal(ft_index_document_by_id(c->ix, "doc/none", &doc, &st), FT_ERR_NOT_FOUND);
}

static void check_longest(const corpus *c, ft_random *r)
{
    uint32_t ids[90];
    size_t count = 0, longest[90];
    ft_match matches[90], one;
    while (count < 60)
        count += some_pattern(c, r, ids + count, 25);
    ft_index_match_all(c->ix, ids, count, longest, matches);
    for (size_t i = 0; i < count; i++) {
        size_t want = 0;
        while (i + want < count && count_plainly(c, ids + i, want + 1))
            want++;
        assert_int_equal(longest[i], want);
        assert_int_equal(ft_index_longest_prefix(c->ix, ids + i, count - i, &one), want);
        assert_int_equal(matches[i].count, want ? count_plainly(c, ids + i, want) : c->n);
        for (unsigned p = 0; p < ft_index_get_info(c->ix).parts; p++) {
            assert_int_equal(one.part[p].lo, matches[i].part[p].lo);
            assert_int_equal(one.part[p].hi, matches[i].part[p].hi);
        }
        size_t back = 0;
        while (back <= i && count_plainly(c, ids + i - back, back + 1))
            back++;
        assert_int_equal(ft_index_longest_suffix(c->ix, ids, i + 1, &one), back);
    }
}

static void answers_agree_with_a_plain_scan(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 11);
    for (unsigned round = 0; round < 10; round++) {
        corpus c;
        const uint32_t vocab = round % 2 ? VOCAB : 60000;
        corpus_random(&c, &r, 1 + (size_t)ft_random_below(&r, 120), round < 5 ? 3 : 50, vocab);
        corpus_index(&c, "agrees", vocab);
        const ft_index_info info = ft_index_get_info(c.ix);
        assert_int_equal(info.documents, c.documents);
        assert_int_equal(info.tokens + info.documents, c.n);
        assert_int_equal(info.token_bytes, vocab == VOCAB ? 3 : 2);
        assert_int_equal(info.end_of_text, 5);
        assert_string_equal(info.owner, "Ann");
        check_find(&c, NULL, 0);
        for (unsigned i = 0; i < 60; i++) {
            uint32_t pat[16];
            const size_t len = some_pattern(&c, &r, pat, 12);
            check_find(&c, pat, len);
            if (len)
                assert_int_equal(ft_index_unigram(c.ix, pat[0]), count_plainly(&c, pat, 1));
        }
        check_longest(&c, &r);
        check_documents(&c);
        corpus_release(&c);
    }
}

/* Documents [from, to) of the corpus: a new index, or one more segment of it. */
static void write_part(const corpus *c, size_t from, size_t to, ft_index_build_report *report)
{
    ft_status st;
    ft_index_writer *w;
    const ft_index_writer_options o = {.add = from > 0, .vocab_size = from ? 0 : VOCAB, .end_of_text = END};
    assert_ok(ft_index_writer_new(&w, c->folder, &o, &st), st);
    for (size_t d = from; d < to; d++) {
        char id[40];
        snprintf(id, sizeof(id), "doc/%zu", d);
        assert_ok(
            ft_index_writer_add(w, c->tokens + c->starts[d], c->starts[d + 1] - c->starts[d] - 1, id, NULL, 10, &st),
            st);
    }
    assert_ok(ft_index_writer_finish(w, report, &st), st);
}

static void several_segments_are_searched_as_one(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 12);
    corpus c;
    ft_status st;
    ft_index_build_report report;
    corpus_random(&c, &r, 3000, 40, VOCAB);
    snprintf(c.folder, sizeof(c.folder), "%s", ft_test_path("segments"));
    static const size_t ends[] = {0, 1700, 1701, 2500, 3000};
    for (unsigned i = 1; i < sizeof(ends) / sizeof(*ends); i++) {
        write_part(&c, ends[i - 1], ends[i], &report);
        assert_int_equal(report.segments, i);
        assert_int_equal(report.documents, ends[i] - ends[i - 1]);
        assert_int_equal(report.repeated_ids, 0);
    }
    assert_ok(ft_index_open(&c.ix, c.folder, &st), st);
    assert_int_equal(ft_index_get_info(c.ix).parts, report.segments);
    assert_int_equal(ft_index_get_info(c.ix).documents, c.documents);
    assert_int_equal(ft_index_get_info(c.ix).disk_bytes, report.disk_bytes);
    for (unsigned i = 0; i < 100; i++) {
        uint32_t pat[16];
        const size_t len = some_pattern(&c, &r, pat, 12);
        check_find(&c, pat, len);
    }
    check_longest(&c, &r);
    ft_doc_ref doc;
    for (size_t d = 0; d < c.documents; d += 97) {
        assert_ok(ft_index_document(c.ix, d, &doc, &st), st);
        assert_int_equal(atoi(doc.id + 4), d);
        assert_int_equal(doc.number, d);
        char id[40];
        snprintf(id, sizeof(id), "doc/%zu", d);
        assert_ok(ft_index_document_by_id(c.ix, id, &doc, &st), st);
        assert_int_equal(doc.number, d);
    }
    corpus_release(&c);
}

static void ids_that_cannot_occur_have_count_zero(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 13);
    corpus c;
    corpus_random(&c, &r, 20, 3, VOCAB);
    corpus_index(&c, "absent", VOCAB);
    const uint32_t never[] = {VOCAB, 0xFFFF, 0xFFFFFF, 0x1000000, END};
    for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++) {
        ft_match m;
        const uint32_t pair[2] = {c.tokens[0] == END ? c.tokens[1] : c.tokens[0], never[i]};
        ft_index_find(c.ix, &never[i], 1, &m);
        assert_int_equal(m.count, 0);
        ft_index_find(c.ix, pair, 2, &m);
        assert_int_equal(m.count, 0);
        assert_int_equal(ft_index_unigram(c.ix, never[i]), 0);
    }
    corpus_release(&c);
}

static void the_same_corpus_gives_the_same_root_and_another_one_another(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 14);
    corpus c;
    corpus_random(&c, &r, 50, 9, VOCAB);
    corpus_index(&c, "root", VOCAB);
    const ft_digest first = ft_index_get_info(c.ix).root;
    ft_index_close(c.ix);
    corpus_index(&c, "root2", VOCAB);
    const ft_digest again = ft_index_get_info(c.ix).root;
    assert_memory_equal(&first, &again, sizeof(first));
    ft_index_close(c.ix);
    c.tokens[0] = c.tokens[0] == END ? END : 6;
    c.tokens[c.starts[10]] = c.tokens[c.starts[10]] == END ? END : 7;
    c.documents--;
    corpus_index(&c, "root3", VOCAB);
    const ft_digest other = ft_index_get_info(c.ix).root;
    assert_memory_not_equal(&first, &other, sizeof(first));
    corpus_release(&c);
}

/* --- The writer's folder -------------------------------------------------------------- */

static const ft_index_writer_options plain = {.vocab_size = 100, .end_of_text = END};

static void write_small(const char *folder, uint32_t token, int replace)
{
    ft_status st;
    ft_index_writer *w;
    ft_index_writer_options o = plain;
    o.replace = replace;
    assert_ok(ft_index_writer_new(&w, folder, &o, &st), st);
    assert_ok(ft_index_writer_add(w, &token, 1, "a", NULL, 1, &st), st);
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
}

static void a_folder_that_is_not_empty_is_refused_with_a_remedy(void **state)
{
    (void)state;
    ft_status st;
    ft_index_writer *w;
    char folder[4096], building[4200];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("taken"));
    snprintf(building, sizeof(building), "%s.building", folder);
    assert_ok(ft_folder_make(folder, &st), st);
    write_small(folder, 3, 0); /* empty: taken over */
    assert_int_equal(ft_index_writer_new(&w, folder, &plain, &st), FT_ERR_ARG);
    assert_null(w);
    assert_non_null(strstr(st.msg, "--force"));
    write_small(folder, 4, 1);
    assert_false(ft_path_exists(building));
    ft_index *ix;
    assert_ok(ft_index_open(&ix, folder, &st), st);
    assert_int_equal(ft_index_unigram(ix, 4), 1);
    assert_int_equal(ft_index_unigram(ix, 3), 0);
    ft_index_close(ix);
    /* What is no index is never replaced. */
    char other[4200];
    snprintf(other, sizeof(other), "%s", ft_test_path("letters"));
    assert_ok(ft_folder_make(other, &st), st);
    ft_test_write("letters/a.txt", "x", 1);
    ft_index_writer_options o = plain;
    o.replace = 1;
    assert_int_equal(ft_index_writer_new(&w, other, &o, &st), FT_ERR_ARG);
    assert_true(ft_path_exists(ft_test_path("letters/a.txt")));
}

static void a_second_writer_is_refused_and_what_a_dead_one_left_is_removed(void **state)
{
    (void)state;
    ft_status st;
    ft_index_writer *w, *second;
    char folder[4096], building[4200], segment[4300], left[4400];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("locked"));
    snprintf(building, sizeof(building), "%s.building", folder);
    snprintf(segment, sizeof(segment), "%s/work/segment", building);
    snprintf(left, sizeof(left), "%s/run-000001", segment);
    assert_ok(ft_folder_make(segment, &st), st);
    ft_test_write(left, "x", 1);
    assert_ok(ft_index_writer_new(&w, folder, &plain, &st), st);
    assert_false(ft_path_exists(left));
    assert_int_equal(ft_index_writer_new(&second, folder, &plain, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "another program"));
    ft_index_writer_abandon(w);
    assert_false(ft_path_exists(building));
    assert_false(ft_path_exists(folder));
}

static void a_token_beyond_the_vocabulary_is_refused(void **state)
{
    (void)state;
    ft_status st;
    ft_index_writer *w;
    const uint32_t token = 100;
    assert_ok(ft_index_writer_new(&w, ft_test_path("beyond"), &plain, &st), st);
    assert_int_equal(ft_index_writer_add(w, &token, 1, "a", NULL, 1, &st), FT_ERR_ARG);
    ft_index_writer_abandon(w);
}

static void an_allocation_that_fails_leaves_no_folder(void **state)
{
    (void)state;
    char folder[4096], building[4200];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("nomem"));
    snprintf(building, sizeof(building), "%s.building", folder);
    for (long k = 1; k < 1000; k++) {
        ft_status st = {0};
        ft_index_writer *w = NULL;
        const uint32_t tokens[] = {1, 2, 1, 2};
        ft_test_fail_allocation(k);
        ft_code rc = ft_index_writer_new(&w, folder, &plain, &st);
        if (!rc)
            rc = ft_index_writer_add(w, tokens, 4, "a", NULL, 1, &st);
        if (!rc) {
            rc = ft_index_writer_finish(w, NULL, &st);
            w = NULL;
        }
        const int failed = ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        ft_index_writer_abandon(w);
        if (!failed) {
            assert_ok(rc, st);
            assert_true(k > 30);
            return;
        }
        if (rc) {
            assert_int_equal(rc, FT_ERR_MEM);
            assert_false(ft_path_exists(folder));
        }
        assert_ok(ft_folder_remove(building, &st), st); /* removing it may have failed too */
        assert_ok(ft_folder_remove(folder, &st), st);
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_agree_with_a_plain_scan),
        cmocka_unit_test(several_segments_are_searched_as_one),
        cmocka_unit_test(ids_that_cannot_occur_have_count_zero),
        cmocka_unit_test(the_same_corpus_gives_the_same_root_and_another_one_another),
        cmocka_unit_test(a_folder_that_is_not_empty_is_refused_with_a_remedy),
        cmocka_unit_test(a_second_writer_is_refused_and_what_a_dead_one_left_is_removed),
        cmocka_unit_test(a_token_beyond_the_vocabulary_is_refused),
        cmocka_unit_test(an_allocation_that_fails_leaves_no_folder),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
