/* An index with documents removed answers as one that never held them. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_random.h"
#include "index/ft_index_build.h"
#include "index/ft_index_update.h"
#include "index/ft_manifest.h"
#include "index/ft_part.h"
#include "index/ft_query.h"
#include "index/ft_removed_write.h"

enum { DOCUMENTS_MAX = 400, VOCAB = 300, END = UINT32_MAX };

typedef struct corpus {
    uint32_t *tokens;
    size_t n, starts[DOCUMENTS_MAX + 1], documents;
    unsigned char removed[DOCUMENTS_MAX];
} corpus;

/* Some documents are copies, some of them more than a leaf holds. */
static void corpus_random(corpus *c, ft_random *r, size_t documents, uint32_t alphabet, unsigned removed_percent)
{
    *c = (corpus){.documents = documents, .tokens = calloc(documents * 120, sizeof(*c->tokens))};
    for (size_t d = 0; d < documents; d++) {
        c->starts[d] = c->n;
        if (d && ft_random_below(r, 3) == 0) {
            const size_t from = (size_t)ft_random_below(r, ft_random_below(r, 2) ? d : 1);
            for (size_t i = c->starts[from]; c->tokens[i] != END; i++)
                c->tokens[c->n++] = c->tokens[i];
        } else {
            for (size_t i = (size_t)ft_random_below(r, 100); i > 0; i--)
                c->tokens[c->n++] = (uint32_t)ft_random_below(r, alphabet) * (VOCAB / alphabet);
        }
        c->tokens[c->n++] = END;
        c->removed[d] = ft_random_below(r, 100) < removed_percent;
    }
    c->starts[documents] = c->n;
}

static void write_index(const corpus *c, const char *name, int all)
{
    ft_status st;
    ft_index_writer *w;
    assert_ok(ft_folder_remove(ft_test_path(name), &st), st);
    const ft_index_writer_options o = {.vocab_size = VOCAB, .end_of_text = 7};
    assert_ok(ft_index_writer_new(&w, ft_test_path(name), &o, &st), st);
    for (size_t d = 0; d < c->documents; d++) {
        char id[30];
        snprintf(id, sizeof(id), "d%zu", d);
        if (all || !c->removed[d])
            assert_ok(
                ft_index_writer_add(w, c->tokens + c->starts[d], c->starts[d + 1] - c->starts[d] - 1, id, NULL, 1, &st),
                st);
    }
    assert_ok(ft_index_writer_finish(w, NULL, &st), st);
}

static void take_out(const corpus *c, const char *name)
{
    ft_status st;
    ft_manifest m;
    ft_part part;
    ft_pool *pool;
    uint64_t numbers[DOCUMENTS_MAX], tokens;
    size_t count = 0;
    char folder[4200], path[4300];
    snprintf(folder, sizeof(folder), "%s", ft_test_path(name));
    snprintf(path, sizeof(path), "%s/segment-000001", folder);
    for (size_t d = 0; d < c->documents; d++)
        if (c->removed[d])
            numbers[count++] = d;
    if (count == 0)
        return;
    assert_ok(ft_pool_new(&pool, 2, &st), st);
    assert_ok(ft_part_open_segment(&part, path, VOCAB, 0, &st), st);
    assert_ok(ft_removed_write(path, 2, &part, numbers, count, pool, &tokens, &st), st);
    ft_part_close(&part);
    assert_ok(ft_manifest_read(&m, folder, &st), st);
    m.generation = 2;
    m.segments[0].removed = 2;
    m.segments[0].removed_documents = count;
    m.segments[0].removed_tokens = tokens;
    assert_ok(ft_manifest_add_file(&m, folder, "segment-000001/removed-documents-000002", pool, &st), st);
    assert_ok(ft_manifest_add_file(&m, folder, "segment-000001/removed-ranks-000002", pool, &st), st);
    assert_ok(ft_manifest_write(&m, folder, &st), st);
    ft_manifest_release(&m);
    ft_pool_free(pool);
}

/* --- The same answers ------------------------------------------------------------------- */

typedef struct pair {
    const ft_index *removed, *without;
    ft_index_set a, b;
} pair;

static size_t some_pattern(const corpus *c, ft_random *r, uint32_t *pat, size_t max)
{
    const size_t want = 1 + (size_t)ft_random_below(r, max), at = (size_t)ft_random_below(r, c->n);
    size_t n = 0;
    for (; n < want && c->tokens[at + n] != END; n++)
        pat[n] = c->tokens[at + n];
    if (n && ft_random_below(r, 3) == 0)
        pat[ft_random_below(r, n)] = (uint32_t)ft_random_below(r, VOCAB + 1);
    return n;
}

static void assert_same_document(const ft_doc_ref *a, const ft_doc_ref *b)
{
    assert_int_equal(a->number, b->number);
    assert_string_equal(a->id, b->id);
    assert_int_equal(a->length, b->length);
}

/* Both places are at the same token of the same document, or at its end. */
static void assert_same_place(const pair *p, uint64_t x, uint64_t y)
{
    ft_doc_ref a, b;
    ft_status st;
    const ft_code rc = ft_index_document_at(p->removed, 0, x, &a, &st);
    assert_int_equal(rc, ft_index_document_at(p->without, 0, y, &b, NULL));
    if (rc) {
        assert_non_null(strstr(st.msg, "between"));
        return;
    }
    assert_same_document(&a, &b);
    assert_int_equal(x - a.start, y - b.start);
}

static void check_ranges(const pair *p, const uint32_t *pat, size_t len)
{
    ft_match a, b;
    ft_index_find(p->removed, pat, len, &a);
    ft_index_find(p->without, pat, len, &b);
    assert_int_equal(a.count, b.count);
    assert_int_equal(a.part[0].lo, b.part[0].lo);
    assert_int_equal(a.part[0].hi, b.part[0].hi);
    for (uint64_t rank = a.part[0].lo; rank < a.part[0].hi; rank++)
        assert_same_place(p, ft_index_position(p->removed, 0, rank), ft_index_position(p->without, 0, rank));
    assert_int_equal(ft_index_longest_prefix(p->removed, pat, len, &a),
                     ft_index_longest_prefix(p->without, pat, len, &b));
    assert_int_equal(a.part[0].lo, b.part[0].lo);
    assert_int_equal(a.part[0].hi, b.part[0].hi);
    assert_int_equal(ft_index_longest_suffix(p->removed, pat, len, &a),
                     ft_index_longest_suffix(p->without, pat, len, &b));
    assert_int_equal(a.part[0].lo, b.part[0].lo);
    assert_int_equal(a.part[0].hi, b.part[0].hi);
    if (len)
        assert_int_equal(ft_index_unigram(p->removed, pat[0]), ft_index_unigram(p->without, pat[0]));
}

static void check_distributions(const pair *p, const uint32_t *pat, size_t len)
{
    ft_status st;
    for (int infgram = 0; infgram < 2; infgram++) {
        ft_distribution a, b;
        assert_ok(ft_query_ntd(p->a, pat, len, infgram, &a, &st), st);
        assert_ok(ft_query_ntd(p->b, pat, len, infgram, &b, &st), st);
        assert_int_equal(a.prompt_count, b.prompt_count);
        assert_int_equal(a.suffix_len, b.suffix_len);
        assert_int_equal(a.count, b.count);
        for (size_t i = 0; i < a.count; i++) {
            assert_int_equal(a.next[i].id, b.next[i].id);
            assert_int_equal(a.next[i].count, b.next[i].count);
        }
        ft_distribution_release(&a);
        ft_distribution_release(&b);
        ft_prob x, y;
        if (len) {
            assert_ok((infgram ? ft_query_infgram_prob : ft_query_prob)(p->a, pat, len, &x, &st), st);
            assert_ok((infgram ? ft_query_infgram_prob : ft_query_prob)(p->b, pat, len, &y, &st), st);
            assert_int_equal(x.prompt_count, y.prompt_count);
            assert_int_equal(x.continuation_count, y.continuation_count);
            assert_int_equal(x.suffix_len, y.suffix_len);
        }
    }
}

static void check_cnf(const pair *p, const uint32_t *pat, size_t len, ft_random *r)
{
    if (len < 3)
        return;
    const ft_ngram ngrams[] = {{pat, 1}, {pat + 1, 1}, {pat + 2, 1}};
    const ft_clause clauses[] = {{ngrams, 1}, {ngrams + 1, 2}};
    ft_status st;
    ft_cnf_result a, b;
    const size_t count = 1 + (size_t)ft_random_below(r, 2);
    const uint64_t diff = ft_random_below(r, 30);
    assert_ok(ft_query_cnf(p->a, clauses, count, diff, UINT64_MAX, &a, &st), st);
    assert_ok(ft_query_cnf(p->b, clauses, count, diff, UINT64_MAX, &b, &st), st);
    assert_int_equal(a.count, b.count);
    assert_int_equal(a.place_count, b.place_count);
    for (size_t i = 0; i < a.place_count; i++)
        assert_same_place(p, a.places[i].pos, b.places[i].pos);
    ft_cnf_result_release(&a);
    ft_cnf_result_release(&b);
}

static void check_occurrences(const pair *p, const uint32_t *pat, size_t len)
{
    ft_place a[20], b[20];
    size_t m, n;
    ft_window x, y;
    ft_status st;
    assert_int_equal(ft_query_occurrences(p->a, pat, len, 20, a, &m), ft_query_occurrences(p->b, pat, len, 20, b, &n));
    assert_int_equal(m, n);
    for (size_t i = 0; i < m; i++) {
        if (ft_query_window(p->b, &b[i], len, 8, &y, &st))
            continue; /* an end of a document */
        assert_ok(ft_query_window(p->a, &a[i], len, 8, &x, &st), st);
        assert_same_document(&x.doc, &y.doc);
        assert_int_equal(x.needle, y.needle);
        assert_int_equal(x.from, y.from);
        assert_int_equal(x.length, y.length);
    }
}

static void check_response(const pair *p, const corpus *c, ft_random *r)
{
    uint32_t ids[300];
    size_t count = 0, x[300], y[300], z[300];
    ft_match *a = calloc(300, sizeof(*a)), *b = calloc(300, sizeof(*b));
    while (count < 200)
        count += some_pattern(c, r, ids + count, 90);
    ft_index_match_all(p->removed, ids, count, x, a);
    ft_index_match_all(p->without, ids, count, y, b);
    ft_index_match_all(p->removed, ids, count, z, NULL);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(x[i], y[i]);
        assert_int_equal(z[i], y[i]);
        assert_int_equal(a[i].count, b[i].count);
        assert_int_equal(a[i].part[0].lo, b[i].part[0].lo);
    }
    free(a);
    free(b);
}

static ft_code take_first(void *context, const ft_doc_ref *doc, ft_status *st)
{
    (void)st;
    *(ft_doc_ref *)context = *doc;
    return FT_OK;
}

/* Until compaction the files have what was removed, and it can be found there by its id. */
static void check_removed_by_id(const pair *p, const corpus *c, size_t d, const char *id)
{
    ft_status st;
    ft_doc_ref doc;
    uint64_t found;
    assert_ok(ft_index_removed_by_id(p->removed, id, take_first, &doc, &found, &st), st);
    assert_int_equal(found, c->removed[d] != 0);
    if (found)
        assert_int_equal(doc.length, c->starts[d + 1] - c->starts[d] - 1);
    assert_ok(ft_index_removed_by_id(p->without, id, take_first, &doc, &found, &st), st);
    assert_int_equal(found, 0);
}

static void check_documents(const pair *p, const corpus *c)
{
    ft_status st;
    ft_doc_ref a, b;
    const ft_index_info x = ft_index_get_info(p->removed), y = ft_index_get_info(p->without);
    assert_int_equal(x.documents, y.documents);
    assert_int_equal(x.tokens, y.tokens);
    assert_int_equal(x.documents + x.removed_documents, c->documents);
    assert_int_equal(x.tokens + x.removed_tokens, c->n - c->documents);
    for (uint64_t d = 0; d < x.documents; d++) {
        assert_ok(ft_index_document(p->removed, d, &a, &st), st);
        assert_ok(ft_index_document(p->without, d, &b, &st), st);
        assert_same_document(&a, &b);
    }
    assert_int_equal(ft_index_document(p->removed, x.documents, &a, &st), FT_ERR_NOT_FOUND);
    for (size_t d = 0; d < c->documents; d++) {
        char id[30];
        snprintf(id, sizeof(id), "d%zu", d);
        const ft_code rc = ft_index_document_by_id(p->removed, id, &a, &st);
        assert_int_equal(rc, c->removed[d] ? FT_ERR_NOT_FOUND : FT_OK);
        check_removed_by_id(p, c, d, id);
        if (!c->removed[d] || c->starts[d] + 1 == c->starts[d + 1])
            continue;
        /* A pointer into what is removed leads nowhere. */
        ft_place place;
        ft_window w;
        assert_ok(ft_query_pointer(p->a, 0, c->starts[d] * x.token_bytes, &place, &st), st);
        assert_int_equal(ft_query_window(p->a, &place, 1, 8, &w, &st), FT_ERR_NOT_FOUND);
        assert_non_null(strstr(st.msg, "removed"));
    }
    ft_place place;
    assert_ok(ft_query_rank(p->a, 0, x.tokens + x.documents - 1, &place, &st), st);
    assert_int_equal(ft_query_rank(p->a, 0, x.tokens + x.documents, &place, &st), FT_ERR_ARG);
}

static void check(corpus *c, ft_random *r)
{
    ft_status st;
    ft_index *removed, *without;
    c->removed[0] = 0; /* something stays */
    write_index(c, "all", 1);
    write_index(c, "without", 0);
    take_out(c, "all");
    assert_ok(ft_index_open(&removed, ft_test_path("all"), &st), st);
    assert_ok(ft_index_open(&without, ft_test_path("without"), &st), st);
    assert_ok(ft_index_verify(removed, &st), st);
    const ft_index *x = removed, *y = without;
    const pair p = {removed, without, {&x, 1}, {&y, 1}};
    check_documents(&p, c);
    check_ranges(&p, NULL, 0);
    for (unsigned i = 0; i < 80; i++) {
        uint32_t pat[100];
        const size_t len = some_pattern(c, r, pat, i % 2 ? 6 : 90);
        check_ranges(&p, pat, len);
        check_distributions(&p, pat, len < 4 ? len : len % 4);
        check_cnf(&p, pat, len, r);
        check_occurrences(&p, pat, len < 3 ? len : 2);
    }
    for (unsigned i = 0; i < 3; i++)
        check_response(&p, c, r);
    ft_index_close(removed);
    ft_index_close(without);
}

static void what_is_removed_might_never_have_been_there(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 81);
    static const unsigned percents[] = {0, 1, 10, 50, 90, 100};
    for (unsigned round = 0; round < 18; round++) {
        corpus c;
        corpus_random(&c, &r, 2 + (size_t)ft_random_below(&r, DOCUMENTS_MAX - 2),
                      round % 3 == 0   ? 2
                      : round % 3 == 1 ? 9
                                       : VOCAB,
                      percents[round % 6]);
        check(&c, &r);
        free(c.tokens);
    }
}

static void removal_names_what_it_cannot_do(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 82);
    ft_status st;
    ft_part part;
    corpus c;
    uint64_t tokens;
    corpus_random(&c, &r, 20, 9, 10);
    write_index(&c, "names", 1);
    char path[4300];
    snprintf(path, sizeof(path), "%s/segment-000001", ft_test_path("names"));
    assert_ok(ft_part_open_segment(&part, path, VOCAB, 0, &st), st);
    const uint64_t beyond[] = {3, 20}, twice[] = {3, 3};
    assert_int_equal(ft_removed_write(path, 2, &part, beyond, 2, NULL, &tokens, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "document 20"));
    assert_int_equal(ft_removed_write(path, 2, &part, twice, 2, NULL, &tokens, &st), FT_ERR_ARG);
    snprintf(path, sizeof(path), "%s/segment-000001/removed-ranks-000002", ft_test_path("names"));
    assert_false(ft_path_exists(path));
    ft_part_close(&part);
    free(c.tokens);
}

static void a_damaged_list_is_found_and_never_leads_outside(void **state)
{
    (void)state;
    ft_random r;
    ft_random_init(&r, 83);
    static const char *const files[] = {"segment-000001/removed-documents-000002",
                                        "segment-000001/removed-ranks-000002"};
    corpus c;
    corpus_random(&c, &r, 60, 9, 30);
    c.removed[0] = 0;
    c.removed[1] = 1;
    write_index(&c, "flawed", 1);
    take_out(&c, "flawed");
    for (unsigned round = 0; round < 300; round++) {
        char path[4300];
        ft_status st;
        ft_index *ix;
        size_t n;
        snprintf(path, sizeof(path), "%s/%s", ft_test_path("flawed"), files[round % 2]);
        char *bytes = ft_test_read(path, &n);
        const size_t from = round % 4 < 2 ? 4096 : 0, at = from + (size_t)ft_random_below(&r, n - from);
        const char was = bytes[at];
        bytes[at] ^= (char)(1 << ft_random_below(&r, 8));
        ft_test_write(path, bytes, n);
        ft_code rc = ft_index_open(&ix, ft_test_path("flawed"), &st);
        if (!rc) {
            const ft_index *one = ix;
            const ft_index_set set = {&one, 1};
            for (unsigned i = 0; i < 10; i++) {
                uint32_t pat[20];
                size_t longest[20], found;
                ft_match m[20];
                ft_distribution d;
                ft_place places[20];
                ft_doc_ref doc;
                const size_t len = some_pattern(&c, &r, pat, 20);
                ft_index_match_all(ix, pat, len, longest, m);
                for (size_t k = 0; k < len; k++)
                    for (uint64_t rank = m[k].part[0].lo; rank < m[k].part[0].hi; rank++)
                        if (ft_index_document_at(ix, 0, ft_index_position(ix, 0, rank), &doc, &st) == FT_OK)
                            assert_in_range(doc.start, 0, c.n);
                (void)ft_query_occurrences(set, pat, len, 20, places, &found);
                if (ft_query_ntd(set, pat, 1 < len ? 1 : len, 0, &d, &st) == FT_OK)
                    ft_distribution_release(&d);
                if (ft_index_document(ix, ft_random_below(&r, 60), &doc, &st) == FT_OK)
                    assert_in_range(doc.start, 0, c.n);
            }
            rc = ft_index_verify(ix, &st);
            ft_index_close(ix);
        }
        assert_int_equal(rc, FT_ERR_FORMAT);
        assert_non_null(strstr(st.msg, "removed-"));
        bytes[at] = was;
        ft_test_write(path, bytes, n);
        free(bytes);
    }
    free(c.tokens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_removed_might_never_have_been_there),
        cmocka_unit_test(removal_names_what_it_cannot_do),
        cmocka_unit_test(a_damaged_list_is_found_and_never_leads_outside),
    };
    return cmocka_run_group_tests_name("index_removed", tests, NULL, NULL);
}
