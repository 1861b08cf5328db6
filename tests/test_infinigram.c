/* Every row of the golden index queries, on infini-gram's folders and on our own index
 * over the same documents. */
#include "tests/ft_test.h"

#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "base/ft_random.h"
#include "index/ft_index.h"
#include "index/ft_index_build.h"
#include "index/ft_query.h"

enum { END_OF_TEXT = 100257, VOCAB = 100278, SEPARATOR = UINT32_MAX };

static json_t *read_rows(const char *name)
{
    size_t n;
    ft_status st;
    char *text = ft_test_read(ft_test_shared(name), &n);
    json_t *rows = json_array(), *row;
    for (char *line = text, *end; line && line < text + n; line = end + 1) {
        end = strchr(line, '\n');
        assert_ok(ft_json_parse(&row, line, (size_t)(end - line), name, &st), st);
        json_array_append_new(rows, row);
    }
    free(text);
    return rows;
}

static ft_index *open_folder(const char *name, int version, uint32_t end_of_text)
{
    char path[200];
    ft_status st;
    ft_index *ix;
    snprintf(path, sizeof(path), "golden/index/%s", name);
    const ft_infinigram_options o = {.version = version, .end_of_text = end_of_text};
    assert_ok(ft_index_open_infinigram(&ix, ft_test_shared(path), &o, &st), st);
    return ix;
}

/* Our own index over the golden documents, as it comes out of tokens in memory: in as
 * many segments, of about as many documents each. */
static ft_index *build_own(size_t segments)
{
    ft_status st;
    ft_npy offsets;
    uint32_t *tokens;
    size_t n;
    ft_index *ix;
    json_t *documents = read_rows("golden/index/corpus.jsonl");
    assert_ok(ft_npy_read_ids(ft_test_shared("golden/index/tokens.npy"), &tokens, &n, &st), st);
    assert_ok(ft_npy_open(&offsets, ft_test_shared("golden/index/doc_offsets.npy"), &st), st);
    const uint64_t *start = offsets.data;
    for (size_t s = 0, i = 0; s < segments; s++) {
        ft_index_writer *w;
        const ft_index_writer_options o = {.add = s > 0, .vocab_size = VOCAB, .end_of_text = END_OF_TEXT, .replace = 1};
        assert_ok(ft_index_writer_new(&w, ft_test_path("own"), &o, &st), st);
        for (; i < (offsets.count - 1) * (s + 1) / segments; i++) {
            const char *id = json_string_value(json_object_get(json_array_get(documents, i), "id"));
            assert_ok(ft_index_writer_add(w, tokens + start[i], (size_t)(start[i + 1] - start[i]), id, NULL, 1, &st),
                      st);
        }
        assert_ok(ft_index_writer_finish(w, NULL, &st), st);
    }
    assert_ok(ft_index_open(&ix, ft_test_path("own"), &st), st);
    ft_npy_close(&offsets);
    free(tokens);
    json_decref(documents);
    return ix;
}

static uint64_t integer(const json_t *row, const char *field)
{
    return (uint64_t)json_integer_value(json_object_get(row, field));
}

static size_t ids_of(const json_t *list, uint32_t *ids)
{
    const size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static int holds_separator(const json_t *row)
{
    uint32_t ids[16];
    const size_t n = ids_of(json_object_get(row, "ids"), ids);
    for (size_t i = 0; i < n; i++)
        if (ids[i] == SEPARATOR)
            return 1;
    return 0;
}

/* --- What every index must answer ---------------------------------------------------------- */

static void check_prob(const json_t *want, const ft_prob *got, const char *what)
{
    if (got->prompt_count != integer(want, "prompt_cnt") || got->continuation_count != integer(want, "cont_cnt"))
        fail_msg("%s: %llu of %llu, expected %s", what, (unsigned long long)got->continuation_count,
                 (unsigned long long)got->prompt_count, json_dumps(want, 0));
    assert_true(got->prob == json_number_value(json_object_get(want, "prob")));
    if (json_object_get(want, "suffix_len"))
        assert_int_equal(got->suffix_len, integer(want, "suffix_len"));
}

static void check_distribution(const json_t *want, const ft_distribution *got, const uint32_t *map)
{
    const json_t *dist = json_object_get(want, "dist");
    assert_int_equal(got->prompt_count, integer(want, "prompt_cnt"));
    assert_int_equal(got->count, integer(want, "distinct"));
    if (json_object_get(want, "suffix_len"))
        assert_int_equal(got->suffix_len, integer(want, "suffix_len"));
    uint64_t sum = 0;
    for (size_t i = 0; i < got->count; i++) {
        sum += got->next[i].count;
        if (i && got->next[i].count == got->next[i - 1].count)
            assert_true(got->next[i].id > got->next[i - 1].id);
    }
    assert_int_equal(sum, got->prompt_count);
    for (size_t i = 0; i < json_array_size(dist); i++) {
        const json_t *pair = json_array_get(dist, i);
        const uint32_t id = (uint32_t)json_integer_value(json_array_get(pair, 0));
        const uint64_t count = (uint64_t)json_integer_value(json_array_get(pair, 1));
        assert_int_equal(got->next[i].count, count);
        if (!map)
            assert_int_equal(got->next[i].id, id);
    }
}

static void check_queries(const ft_index *ix, const json_t *rows)
{
    const ft_index_set set = {&ix, 1};
    ft_status st;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        uint32_t ids[16];
        ft_prob prob;
        ft_distribution d;
        const size_t n = ids_of(json_object_get(row, "ids"), ids);
        if (holds_separator(row)) {
            assert_int_equal(ft_query_count(set, ids, n), 0);
            continue;
        }
        assert_int_equal(ft_query_count(set, ids, n), integer(row, "count_brute"));
        if (json_object_get(row, "prob")) {
            assert_ok(ft_query_prob(set, ids, n, &prob, &st), st);
            check_prob(json_object_get(row, "prob"), &prob, "prob");
        }
        if (json_object_get(row, "infgram_prob")) {
            assert_ok(ft_query_infgram_prob(set, ids, n, &prob, &st), st);
            check_prob(json_object_get(row, "infgram_prob"), &prob, "infgram_prob");
        }
        for (int infgram = 0; infgram < 2; infgram++) {
            const json_t *want = json_object_get(row, infgram ? "infgram_ntd" : "ntd");
            if (!want)
                continue;
            assert_ok(ft_query_ntd(set, ids, n, infgram, &d, &st), st);
            check_distribution(want, &d, NULL);
            ft_distribution_release(&d);
        }
    }
}

static ft_clause *clauses_of(const json_t *cnf, uint32_t *ids)
{
    const size_t count = json_array_size(cnf);
    ft_clause *clauses = calloc(count, sizeof(*clauses));
    for (size_t c = 0; c < count; c++) {
        const json_t *clause = json_array_get(cnf, c);
        ft_ngram *ngrams = calloc(json_array_size(clause), sizeof(*ngrams));
        clauses[c] = (ft_clause){ngrams, json_array_size(clause)};
        for (size_t g = 0; g < clauses[c].count; g++) {
            ngrams[g] = (ft_ngram){ids, ids_of(json_array_get(clause, g), ids)};
            ids += ngrams[g].n;
        }
    }
    return clauses;
}

/* places: 1 when pointers and their order must be the golden ones too. */
static void check_cnf(const ft_index *ix, const json_t *rows, int places)
{
    const ft_index_set set = {&ix, 1};
    ft_status st;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *cnf = json_object_get(row, "cnf");
        const json_t *ptrs = json_array_get(json_object_get(row, "ptrs_by_shard"), 0);
        uint32_t ids[400];
        ft_cnf_result r;
        ft_clause *clauses = clauses_of(cnf, ids);
        const size_t count = json_array_size(cnf);
        assert_ok(ft_query_cnf(set, clauses, count, integer(row, "max_diff_tokens"), 50000, &r, &st), st);
        if (r.count != integer(row, "count_brute"))
            fail_msg("row %zu: %llu, expected %llu", i, (unsigned long long)r.count,
                     (unsigned long long)integer(row, "count_brute"));
        assert_int_equal(r.approx, 0);
        assert_int_equal(r.place_count, r.count);
        for (size_t k = 0; places && json_is_true(json_object_get(row, "agree")) && k < json_array_size(ptrs); k++)
            assert_int_equal(ft_place_pointer(set, &r.places[k]), json_integer_value(json_array_get(ptrs, k)));
        ft_cnf_result_release(&r);
        assert_ok(ft_query_cnf_places(set, clauses, count, integer(row, "max_diff_tokens"), 2, &r, &st), st);
        assert_int_equal(r.count, integer(row, "count_brute"));
        assert_int_equal(r.place_count, r.count < 2 ? r.count : 2);
        ft_cnf_result_release(&r);
        for (size_t c = 0; c < count; c++)
            free((void *)(uintptr_t)clauses[c].ngrams);
        free(clauses);
    }
}

/* --- Folders ------------------------------------------------------------------------------- */

static void check_ranges(const ft_index *ix, const json_t *row, const char *field, const uint32_t *ids, size_t n)
{
    const json_t *want = json_object_get(row, field);
    ft_match m;
    ft_index_find(ix, ids, n, &m);
    const int nested = json_is_array(json_array_get(want, 0));
    for (size_t s = 0; want && s < ft_index_get_info(ix).parts; s++) {
        const json_t *pair = nested ? json_array_get(want, s) : want;
        if ((json_int_t)m.part[s].lo != json_integer_value(json_array_get(pair, 0)) ||
            (json_int_t)m.part[s].hi != json_integer_value(json_array_get(pair, 1)))
            fail_msg("row %llu, %s, shard %zu: [%llu, %llu)", (unsigned long long)integer(row, "id"), field, s,
                     (unsigned long long)m.part[s].lo, (unsigned long long)m.part[s].hi);
    }
}

static void check_occurrences(const ft_index *ix, const json_t *row)
{
    const ft_index_set set = {&ix, 1};
    const json_t *list = json_object_get(row, "occurrences");
    ft_status st;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *want = json_array_get(list, i);
        ft_place place, same;
        ft_window w;
        assert_ok(ft_query_rank(set, 0, integer(want, "rank"), &place, &st), st);
        assert_int_equal(ft_place_pointer(set, &place), integer(want, "ptr"));
        assert_ok(ft_query_pointer(set, 0, integer(want, "ptr"), &same, &st), st);
        assert_int_equal(same.pos, place.pos);
        assert_ok(ft_query_context(set, &place, 1, 0, &w, &st), st);
        assert_int_equal(w.doc.number, integer(want, "doc_ix"));
        assert_int_equal(w.needle, integer(want, "offset_in_doc"));
        char *metadata = strndup(w.doc.metadata, w.doc.metadata_bytes);
        assert_non_null(strstr(metadata, json_string_value(json_object_get(want, "doc_id"))));
        free(metadata);
    }
}

static void version_4_answers_every_golden_query_with_its_ranks_and_pointers(void **state)
{
    (void)state;
    ft_test_need("golden/index/queries.jsonl");
    json_t *rows = read_rows("golden/index/queries.jsonl"), *cnf = read_rows("golden/index/cnf.jsonl");
    ft_index *one = open_folder("infinigram-v4-u32", 4, END_OF_TEXT);
    ft_index *two = open_folder("infinigram-v4-u32-2shards", 4, END_OF_TEXT);
    assert_int_equal(ft_index_get_info(one).documents, 77);
    assert_int_equal(ft_index_get_info(one).tokens, 61701);
    assert_int_equal(ft_index_get_info(two).parts, 2);
    check_queries(one, rows);
    check_queries(two, rows);
    check_cnf(one, cnf, 1);
    check_cnf(two, cnf, 0);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        uint32_t ids[16];
        const size_t n = ids_of(json_object_get(row, "ids"), ids);
        if (holds_separator(row))
            continue;
        check_ranges(one, row, "segment", ids, n);
        check_ranges(two, row, "segments_2shards", ids, n);
        check_occurrences(one, row);
    }
    ft_index_close(one);
    ft_index_close(two);
    json_decref(rows);
    json_decref(cnf);
}

static void version_5_answers_queries_in_reading_order(void **state)
{
    (void)state;
    ft_test_need("golden/index/queries.jsonl");
    json_t *rows = read_rows("golden/index/queries.jsonl"), *cnf = read_rows("golden/index/cnf.jsonl");
    ft_index *ix = open_folder("infinigram-v5-u32", 5, END_OF_TEXT);
    ft_index *forward = open_folder("infinigram-v4-u32", 4, END_OF_TEXT);
    check_queries(ix, rows);
    check_cnf(ix, cnf, 0);
    for (size_t i = 0; i < json_array_size(rows); i++) { /* and the same documents around them */
        const json_t *list = json_object_get(json_array_get(rows, i), "occurrences");
        uint32_t ids[16];
        const size_t n = ids_of(json_object_get(json_array_get(rows, i), "ids"), ids);
        const ft_index_set set = {(const ft_index *const *)&ix, 1};
        ft_place places[12];
        size_t found;
        if (!json_is_true(json_object_get(json_array_get(rows, i), "occurrences_complete")) || n == 0 ||
            holds_separator(json_array_get(rows, i)))
            continue;
        assert_int_equal(ft_query_occurrences(set, ids, n, 12, places, &found), json_array_size(list));
        uint64_t got = 0, want = 0;
        for (size_t k = 0; k < found; k++) {
            ft_window w;
            ft_status st;
            uint32_t shown[16];
            size_t copied;
            assert_ok(ft_query_context(set, &places[k], n, 0, &w, &st), st);
            ft_index_document_tokens(ix, &w.doc, w.from, n, shown, &copied);
            assert_int_equal(copied, n);
            assert_memory_equal(shown, ids, n * sizeof(*ids));
            got += w.doc.number * 100000 + w.needle;
            want +=
                integer(json_array_get(list, k), "doc_ix") * 100000 + integer(json_array_get(list, k), "offset_in_doc");
        }
        assert_int_equal(got, want);
    }
    uint32_t ids[200];
    size_t a[200], b[200];
    ft_index_tokens(forward, 0, 30000, 200, ids);
    ids[50] = 7;
    ids[120] = 100000;
    ft_index_match_all(ix, ids, 200, a, NULL);
    ft_index_match_all(forward, ids, 200, b, NULL);
    assert_memory_equal(a, b, sizeof(a));
    ft_index_close(ix);
    ft_index_close(forward);
    json_decref(rows);
    json_decref(cnf);
}

static void narrow_tokens_are_read_by_the_sizes_of_the_files(void **state)
{
    (void)state;
    ft_test_need("golden/index/queries.jsonl");
    json_t *rows = read_rows("golden/index/queries.jsonl"), *map;
    ft_status st;
    assert_ok(ft_json_read_file(&map, ft_test_shared("golden/index/u16_id_map.json"), 0, &st), st);
    ft_index *ix = open_folder("infinigram-v4-u16", 4, UINT32_MAX);
    const ft_index_set set = {(const ft_index *const *)&ix, 1};
    assert_int_equal(ft_index_get_info(ix).token_bytes, 2);
    size_t checked = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *list = json_object_get(row, "ids");
        uint32_t ids[16];
        size_t n = 0;
        if (!json_object_get(row, "segment_u16"))
            continue;
        for (; n < json_array_size(list); n++) {
            char key[20];
            snprintf(key, sizeof(key), "%lld", json_integer_value(json_array_get(list, n)));
            ids[n] = (uint32_t)json_integer_value(json_object_get(map, key));
        }
        check_ranges(ix, row, "segment_u16", ids, n);
        assert_int_equal(ft_query_count(set, ids, n), integer(row, "count_brute"));
        if (json_object_get(row, "ntd")) { /* unknown end of text: the separator's own value */
            ft_distribution d;
            assert_ok(ft_query_ntd(set, ids, n, 0, &d, &st), st);
            assert_int_equal(d.prompt_count, integer(json_object_get(row, "ntd"), "prompt_cnt"));
            assert_int_equal(d.count, integer(json_object_get(row, "ntd"), "distinct"));
            const json_t *dist = json_object_get(json_object_get(row, "ntd"), "dist");
            for (size_t k = 0; k < json_array_size(dist); k++) {
                const json_t *pair = json_array_get(dist, k);
                char key[20];
                size_t at = 0;
                snprintf(key, sizeof(key), "%lld", json_integer_value(json_array_get(pair, 0)));
                const json_t *mapped = json_object_get(map, key);
                const uint32_t id = mapped ? (uint32_t)json_integer_value(mapped) : 65535;
                while (at < d.count && d.next[at].id != id)
                    at++;
                assert_true(at < d.count);
                assert_int_equal(d.next[at].count, json_integer_value(json_array_get(pair, 1)));
            }
            ft_distribution_release(&d);
        }
        checked++;
    }
    assert_true(checked > 200);
    ft_index_close(ix);
    json_decref(rows);
    json_decref(map);
}

static void bytes_are_tokens_too(void **state)
{
    (void)state;
    ft_test_need("golden/index/corpus.jsonl");
    size_t size;
    char *text = ft_test_read(ft_test_shared("golden/index/infinigram-v4-u8/tokenized.0"), &size);
    ft_index *ix = open_folder("infinigram-v4-u8", 4, UINT32_MAX);
    const ft_index_set set = {(const ft_index *const *)&ix, 1};
    assert_int_equal(ft_index_get_info(ix).token_bytes, 1);
    ft_random r;
    ft_random_init(&r, 21);
    for (unsigned round = 0; round < 200; round++) {
        const size_t len = 1 + (size_t)ft_random_below(&r, 20), at = (size_t)ft_random_below(&r, size - len);
        uint32_t ids[20];
        uint64_t want = 0;
        for (size_t i = 0; i < len; i++)
            ids[i] = (unsigned char)text[at + i];
        if (round % 4 == 3)
            ids[len - 1] = 'Z';
        for (size_t i = 0; i + len <= size; i++) {
            size_t k = 0;
            while (k < len && (unsigned char)text[i + k] == ids[k] && ids[k] != 255)
                k++;
            want += k == len;
        }
        assert_int_equal(ft_query_count(set, ids, len), want);
    }
    free(text);
    ft_index_close(ix);
}

static void documents_are_the_golden_ones(void **state)
{
    (void)state;
    ft_test_need("golden/index/docs.jsonl");
    json_t *rows = read_rows("golden/index/docs.jsonl");
    ft_index *one = open_folder("infinigram-v4-u32", 4, END_OF_TEXT);
    ft_index *two = open_folder("infinigram-v4-u32-2shards", 4, END_OF_TEXT);
    ft_status st;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *want = json_object_get(row, "result");
        const char *call = json_string_value(json_object_get(row, "call"));
        const ft_index *ix = json_object_get(row, "index") ? two : one;
        const ft_index_set set = {&ix, 1};
        ft_place place = {0};
        ft_window w;
        if (strstr(call, "by_rank"))
            assert_ok(ft_query_rank(set, integer(row, "s"), integer(row, "rank"), &place, &st), st);
        if (strstr(call, "by_ptr"))
            assert_ok(ft_query_pointer(set, integer(row, "s"), integer(row, "ptr"), &place, &st), st);
        if (strstr(call, "by_ix"))
            assert_ok(ft_query_document(set, integer(row, "doc_ix"), integer(row, "max_disp_len"), &w, &st), st);
        else if (strstr(call, "_2"))
            assert_ok(ft_query_context(set, &place, integer(row, "needle_len"), integer(row, "max_ctx_len"), &w, &st),
                      st);
        else
            assert_ok(ft_query_window(set, &place, 1, integer(row, "max_disp_len"), &w, &st), st);
        uint32_t shown[4000], expected[4000];
        size_t copied;
        assert_int_equal(w.doc.number, integer(want, "doc_ix"));
        assert_int_equal(w.doc.length, integer(want, "doc_len"));
        assert_int_equal(w.length, integer(want, "disp_len"));
        assert_int_equal(w.needle_in_window, integer(want, "needle_offset"));
        assert_int_equal(ids_of(json_object_get(want, "token_ids"), expected), w.length);
        ft_index_document_tokens(ix, &w.doc, w.from, (size_t)w.length, shown, &copied);
        assert_int_equal(copied, w.length);
        assert_memory_equal(shown, expected, copied * sizeof(*shown));
        const char *metadata = json_string_value(json_object_get(want, "metadata"));
        assert_int_equal(w.doc.metadata_bytes, strlen(metadata));
        assert_memory_equal(w.doc.metadata, metadata, strlen(metadata));
    }
    /* A rank whose suffix begins at a separator is in no document. */
    const ft_index *ix = one;
    const ft_index_set set = {&ix, 1};
    ft_place place;
    ft_window w;
    assert_ok(ft_query_rank(set, 0, 61777, &place, &st), st);
    assert_int_equal(ft_query_window(set, &place, 1, 10, &w, &st), FT_ERR_NOT_FOUND);
    assert_int_equal(ft_query_rank(set, 0, 61778, &place, &st), FT_ERR_ARG);
    assert_int_equal(ft_query_rank(set, 1, 0, &place, &st), FT_ERR_ARG);
    assert_int_equal(ft_query_pointer(set, 0, 2, &place, &st), FT_ERR_ARG);
    assert_int_equal(ft_query_document(set, 77, 10, &w, &st), FT_ERR_NOT_FOUND);
    ft_index_close(one);
    ft_index_close(two);
    json_decref(rows);
}

static void our_own_index_gives_the_same_counts_and_distributions(void **state)
{
    (void)state;
    ft_test_need("golden/index/queries.jsonl");
    json_t *rows = read_rows("golden/index/queries.jsonl"), *cnf = read_rows("golden/index/cnf.jsonl");
    for (unsigned segments = 1; segments < 5; segments += 3) {
        ft_index *ix = build_own(segments);
        assert_int_equal(ft_index_get_info(ix).parts, segments);
        check_queries(ix, rows);
        check_cnf(ix, cnf, 0);
        ft_status st;
        assert_ok(ft_index_verify(ix, &st), st);
        ft_index_close(ix);
    }
    json_decref(rows);
    json_decref(cnf);
}

static void the_peers_own_folders_verify(void **state)
{
    (void)state;
    ft_test_need("golden/index/infinigram-v4-u32/table.0");
    static const char *const names[] = {"infinigram-v4-u32", "infinigram-v4-u32-2shards", "infinigram-v4-u16",
                                        "infinigram-v4-u8", "infinigram-v5-u32"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        ft_status st;
        ft_index *ix = open_folder(names[i], i == 4 ? 5 : 4, END_OF_TEXT);
        assert_ok(ft_index_verify(ix, &st), st);
        ft_index_close(ix);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_4_answers_every_golden_query_with_its_ranks_and_pointers),
        cmocka_unit_test(version_5_answers_queries_in_reading_order),
        cmocka_unit_test(narrow_tokens_are_read_by_the_sizes_of_the_files),
        cmocka_unit_test(bytes_are_tokens_too),
        cmocka_unit_test(documents_are_the_golden_ones),
        cmocka_unit_test(the_peers_own_folders_verify),
        cmocka_unit_test(our_own_index_gives_the_same_counts_and_distributions),
    };
    return cmocka_run_group_tests_name("infinigram", tests, NULL, NULL);
}
