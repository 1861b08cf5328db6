/* What tracer/ft_spans.h promises: OLMoTrace's spans, exactly. */
#include "tests/corpus_fixture.h"

#include "base/ft_json.h"
#include "base/ft_random.h"
#include "index/ft_index_build.h"
#include "tracer/ft_spans.h"

#include <math.h>

/* --- Against the definition ------------------------------------------------------- */

enum { MOST_INDEXES = 3, RESPONSE = 40, LETTERS = 6 };

typedef struct world {
    fixture_document documents[MOST_INDEXES][FIXTURE_DOCUMENTS];
    size_t counts[MOST_INDEXES], indexes;
    ft_index *open[MOST_INDEXES];
} world;

static uint64_t plain_count(const world *w, const uint32_t *ids, size_t n)
{
    uint64_t count = 0;
    for (size_t x = 0; x < w->indexes; x++)
        for (size_t d = 0; d < w->counts[x]; d++)
            for (size_t at = 0; at + n <= w->documents[x][d].count; at++)
                count += memcmp(w->documents[x][d].ids + at, ids, n * sizeof(*ids)) == 0;
    return count;
}

static double plain_logprob(const world *w, const uint32_t *ids, size_t n)
{
    double total = 0, sum = 0;
    for (size_t x = 0; x < w->indexes; x++)
        for (size_t d = 0; d < w->counts[x]; d++)
            total += (double)w->documents[x][d].count + 1;
    for (size_t i = 0; i < n; i++)
        sum += log((double)plain_count(w, ids + i, 1) / total);
    return sum;
}

/* The rules as the golden data's README states them, one after another. */
static size_t plain_spans(const world *w, const uint32_t *ids, size_t n, const ft_span_rules *rules, ft_span *out,
                          size_t *longest)
{
    size_t count = 0;
    for (size_t l = 0; l < n; l++) {
        size_t r = l;
        while (r < n && plain_count(w, ids + l, r + 1 - l))
            r++;
        longest[l] = r - l;
        if (rules->word_starts && !ft_token_set_has(rules->word_starts, ids[l]))
            continue;
        for (size_t i = l; rules->delimiters && i < r; i++)
            if (ft_token_set_has(rules->delimiters, ids[i]))
                r = i + 1;
        while (rules->word_starts && r > l && r != n && !ft_token_set_has(rules->word_starts, ids[r]))
            r--;
        if (r == l || r - l < (rules->min_len > 1 ? rules->min_len : 1))
            continue;
        int inside = plain_count(w, ids + l, r - l) > rules->max_cnt;
        for (size_t k = 0; k < count; k++)
            inside |= r <= out[k].end;
        if (!inside)
            out[count++] = (ft_span){l, r, plain_count(w, ids + l, r - l), plain_logprob(w, ids + l, r - l)};
    }
    return count;
}

/* Keeps the best by taking the best again and again. */
static size_t plain_best(ft_span *spans, size_t count, size_t keep, ft_span_rank rank)
{
    int kept[RESPONSE] = {0};
    for (size_t k = 0; k < keep && k < count; k++) {
        size_t best = count;
        for (size_t i = 0; i < count; i++) {
            const double length = (double)(spans[i].end - spans[i].start);
            if (kept[i])
                continue;
            if (best == count ||
                (rank == FT_RANK_LENGTH ? length > (double)(spans[best].end - spans[best].start)
                                        : spans[i].unigram_logprob_sum < spans[best].unigram_logprob_sum))
                best = i;
        }
        kept[best] = 1;
    }
    size_t left = 0;
    for (size_t i = 0; i < count; i++)
        if (kept[i])
            spans[left++] = spans[i];
    return left;
}

static void make_world(world *w, ft_random *random)
{
    w->indexes = 1 + ft_random_below(random, MOST_INDEXES);
    for (size_t x = 0; x < w->indexes; x++) {
        w->counts[x] = 1 + ft_random_below(random, 8);
        for (size_t d = 0; d < w->counts[x]; d++) {
            w->documents[x][d].count = ft_random_below(random, 25);
            for (size_t i = 0; i < w->documents[x][d].count; i++)
                w->documents[x][d].ids[i] = (uint32_t)ft_random_below(random, LETTERS);
        }
        char name[40];
        snprintf(name, sizeof(name), "world%zu", x);
        w->open[x] = fixture_index(name, w->documents[x], w->counts[x],
                                   w->counts[x] > 1 ? 1 + (unsigned)ft_random_below(random, 2) : 1);
    }
}

static void random_set(ft_token_set *set, ft_random *random, unsigned one_in)
{
    for (uint32_t id = 0; id < LETTERS; id++)
        if (!ft_random_below(random, one_in))
            assert_int_equal(ft_token_set_add(set, id, NULL), FT_OK);
}

/* A response of random tokens with pieces of the corpora in it, and one unknown token. */
static size_t random_response(const world *w, ft_random *random, uint32_t *ids)
{
    const size_t n = ft_random_below(random, RESPONSE + 1);
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)ft_random_below(random, LETTERS + 1);
    const size_t x = ft_random_below(random, w->indexes);
    const fixture_document *d = &w->documents[x][ft_random_below(random, w->counts[x])];
    for (size_t i = 0; i < d->count && i + 5 < n; i++)
        ids[i + 5] = d->ids[i];
    return n;
}

/* Longest matches and counts of one index alone. */
static void check_each_index(const world *w, const uint32_t *ids, const ft_spans *got)
{
    world *one = malloc(sizeof(*one));
    assert_int_equal(got->index_count, w->indexes);
    for (size_t x = 0; x < w->indexes; x++) {
        one->indexes = 1;
        one->counts[0] = w->counts[x];
        memcpy(one->documents[0], w->documents[x], sizeof(one->documents[0]));
        for (size_t l = 0; l < got->n; l++) {
            size_t r = l;
            while (r < got->n && plain_count(one, ids + l, r + 1 - l))
                r++;
            assert_int_equal(got->index_longest[x * got->n + l], r - l);
        }
        for (size_t i = 0; i < got->count; i++)
            assert_int_equal(got->index_counts[i * w->indexes + x],
                             plain_count(one, ids + got->spans[i].start, got->spans[i].end - got->spans[i].start));
    }
    free(one);
}

/* The same tokens told a few at a time: after each of them the spans are those of the tokens so far. */
static void check_as_tokens_come(ft_index_set set, const uint32_t *ids, size_t n, const ft_span_rules *rules,
                                 ft_random *random, uint64_t seed)
{
    ft_span_tracker *t;
    ft_status st;
    assert_ok(ft_span_tracker_new(&t, set, rules, &st), st);
    assert_true(ft_span_tracker_is_of(t, set));
    for (size_t known = 0; known < n;) {
        const size_t most = ft_random_below(random, 4) ? 2 : 9;
        size_t more = 1 + ft_random_below(random, most), count;
        more = more < n - known ? more : n - known;
        assert_ok(ft_span_tracker_append(t, ids + known, more, &st), st);
        known += more;
        assert_int_equal(ft_span_tracker_length(t), known);
        ft_spans want;
        assert_ok(ft_spans_find(set, ids, known, rules, &want, &st), st);
        const ft_span *got = ft_span_tracker_spans(t, &count);
        if (count != want.count)
            fail_msg("seed %d, %zu of %zu tokens: %zu spans, not %zu", (int)seed, known, n, count, want.count);
        for (size_t i = 0; i < count; i++)
            if (got[i].start != want.spans[i].start || got[i].end != want.spans[i].end ||
                got[i].count != want.spans[i].count || got[i].unigram_logprob_sum != want.spans[i].unigram_logprob_sum)
                fail_msg("seed %d, %zu of %zu tokens, span %zu: [%zu, %zu)", (int)seed, known, n, i, got[i].start,
                         got[i].end);
        ft_spans_release(&want);
    }
    ft_span_tracker_free(t);
}

static void check_one(const world *w, ft_random *random, uint64_t seed)
{
    static const double densities[] = {0, 0.05, 0.3, 1};
    uint32_t ids[RESPONSE];
    size_t longest[RESPONSE];
    ft_span want[RESPONSE];
    ft_token_set delimiters = {0}, starts = {0};
    const size_t n = random_response(w, random, ids);
    random_set(&delimiters, random, 4);
    random_set(&starts, random, 2);
    ft_span_rules rules = ft_span_rules_default();
    rules.delimiters = ft_random_below(random, 2) ? &delimiters : NULL;
    rules.word_starts = ft_random_below(random, 2) ? &starts : NULL;
    rules.min_len = ft_random_below(random, 4);
    rules.max_cnt = ft_random_below(random, 2) ? 1000000 : 1 + ft_random_below(random, 6);
    rules.density = densities[ft_random_below(random, 4)];
    rules.rank = ft_random_below(random, 2) ? FT_RANK_LENGTH : FT_RANK_UNIGRAM;
    size_t count = plain_spans(w, ids, n, &rules, want, longest);
    if (rules.density > 0)
        count = plain_best(want, count, (size_t)ceil(rules.density * (double)n), rules.rank);

    ft_spans got;
    ft_status st;
    const ft_index_set set = {(const ft_index *const *)w->open, w->indexes};
    assert_ok(ft_spans_find(set, ids, n, &rules, &got, &st), st);
    if (got.n != n || got.count != count || (n && memcmp(got.longest, longest, n * sizeof(*longest)) != 0))
        fail_msg("seed %d: %zu spans, not %zu, or other matches", (int)seed, got.count, count);
    for (size_t i = 0; i < count; i++)
        if (got.spans[i].start != want[i].start || got.spans[i].end != want[i].end ||
            got.spans[i].count != want[i].count ||
            fabs(got.spans[i].unigram_logprob_sum - want[i].unigram_logprob_sum) > 1e-9)
            fail_msg("seed %d, span %zu: [%zu, %zu) %d times", (int)seed, i, got.spans[i].start, got.spans[i].end,
                     (int)got.spans[i].count);
    check_each_index(w, ids, &got);
    check_as_tokens_come(set, ids, n, &rules, random, seed);
    ft_spans_release(&got);
    ft_token_set_release(&delimiters);
    ft_token_set_release(&starts);
}

static void spans_agree_with_the_definition_on_random_corpora_searched_as_one(void **state)
{
    (void)state;
    world *w = calloc(1, sizeof(*w));
    for (uint64_t seed = 1; seed <= 120; seed++) {
        ft_random random;
        ft_random_init(&random, seed);
        make_world(w, &random);
        for (int i = 0; i < 25; i++)
            check_one(w, &random, seed);
        for (size_t x = 0; x < w->indexes; x++)
            ft_index_close(w->open[x]);
    }
    free(w);
}

static void every_failed_allocation_is_reported_and_leaves_nothing(void **state)
{
    (void)state;
    fixture_document d = {.ids = {1, 2, 3, 1, 2}, .count = 5};
    const uint32_t ids[] = {1, 2, 3, 4, 1, 2};
    ft_index *ix = fixture_index("memory", &d, 1, 1);
    const ft_index *list[] = {ix};
    const ft_span_rules rules = ft_span_rules_default();
    for (long k = 1, worked = 0; !worked; k++) {
        ft_spans s;
        ft_test_fail_allocation(k);
        const ft_code rc = ft_spans_find((ft_index_set){list, 1}, ids, 6, &rules, &s, NULL);
        worked = !ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        assert_int_equal(rc, worked ? FT_OK : FT_ERR_MEM);
        assert_true(worked || (!s.spans && !s.longest));
        assert_true(k > 3 || !worked);
        ft_spans_release(&s);
    }
    ft_index_close(ix);
}

static void a_tracker_of_other_indexes_says_so(void **state)
{
    (void)state;
    fixture_document d = {.ids = {1, 2, 3, 1, 2}, .count = 5}, e = {.ids = {3, 2, 1}, .count = 3};
    ft_index *one = fixture_index("one", &d, 1, 1), *other = fixture_index("other", &e, 1, 1);
    const ft_index *first[] = {one}, *second[] = {other}, *both[] = {one, other};
    const ft_span_rules rules = ft_span_rules_default();
    ft_span_tracker *t;
    assert_int_equal(ft_span_tracker_new(&t, (ft_index_set){first, 1}, &rules, NULL), FT_OK);
    assert_true(ft_span_tracker_is_of(t, (ft_index_set){first, 1}));
    assert_false(ft_span_tracker_is_of(t, (ft_index_set){second, 1}));
    assert_false(ft_span_tracker_is_of(t, (ft_index_set){both, 2}));
    ft_span_tracker_free(t);
    ft_index_close(one);
    ft_index_close(other);
}

static void a_tracker_reports_every_failed_allocation(void **state)
{
    (void)state;
    fixture_document d = {.ids = {1, 2, 3, 1, 2}, .count = 5};
    const uint32_t ids[] = {1, 2, 3, 4, 1, 2};
    ft_index *ix = fixture_index("memory", &d, 1, 1);
    const ft_index *list[] = {ix};
    ft_span_rules rules = ft_span_rules_default();
    rules.density = 0;
    for (long k = 1, worked = 0; !worked; k++) {
        ft_span_tracker *t;
        ft_test_fail_allocation(k);
        ft_code rc = ft_span_tracker_new(&t, (ft_index_set){list, 1}, &rules, NULL);
        for (size_t i = 0; !rc && i < 6; i++)
            rc = ft_span_tracker_append(t, ids + i, 1, NULL);
        worked = !ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        assert_int_equal(rc, worked ? FT_OK : FT_ERR_MEM);
        assert_true(k > 5 || !worked);
        ft_span_tracker_free(t);
    }
    ft_index_close(ix);
}

static void no_index_and_no_tokens_give_no_spans(void **state)
{
    (void)state;
    const uint32_t ids[] = {1, 2};
    const ft_span_rules rules = ft_span_rules_default();
    ft_spans s;
    assert_int_equal(ft_spans_find((ft_index_set){NULL, 0}, ids, 2, &rules, &s, NULL), FT_OK);
    assert_true(s.count == 0 && s.n == 2 && s.longest[0] == 0);
    ft_spans_release(&s);
    assert_int_equal(ft_spans_find((ft_index_set){NULL, 0}, NULL, 0, &rules, &s, NULL), FT_OK);
    ft_spans_release(&s);
}

/* --- Counted together ----------------------------------------------------------------- */

/* The linker puts these before the index's own. */
static ft_stretch expected[RESPONSE];
static size_t expected_count, counted_alone, counted;

void __real_ft_index_expect(const ft_index *ix, const uint32_t *ids, const ft_stretch *stretches, size_t count);
void __wrap_ft_index_expect(const ft_index *ix, const uint32_t *ids, const ft_stretch *stretches, size_t count);
void __wrap_ft_index_expect(const ft_index *ix, const uint32_t *ids, const ft_stretch *stretches, size_t count)
{
    for (size_t i = 0; i < count && expected_count < RESPONSE; i++)
        expected[expected_count++] = stretches[i];
    __real_ft_index_expect(ix, ids, stretches, count);
}

static const uint32_t *response;
void __real_ft_index_find(const ft_index *ix, const uint32_t *ids, size_t n, ft_match *out);
void __wrap_ft_index_find(const ft_index *ix, const uint32_t *ids, size_t n, ft_match *out);
void __wrap_ft_index_find(const ft_index *ix, const uint32_t *ids, size_t n, ft_match *out)
{
    int told = !response;
    for (size_t i = 0; i < expected_count && !told; i++)
        told = expected[i].end - expected[i].start == n && !memcmp(response + expected[i].start, ids, n * sizeof(*ids));
    counted++;
    counted_alone += !told;
    __real_ft_index_find(ix, ids, n, out);
}

static void spans_that_must_be_counted_are_told_to_the_index_together_first(void **state)
{
    (void)state;
    fixture_document d = {.count = 0};
    uint32_t ids[16];
    for (uint32_t i = 0; i < 8; i++) /* each pair twice, so that each of its tokens occurs more than once */
        for (uint32_t k = 0; k < 2; k++) {
            d.ids[d.count++] = ids[2 * i] = 2 * i + 1;
            d.ids[d.count++] = ids[2 * i + 1] = 2 * i + 2;
            d.ids[d.count++] = 40 + 2 * i + k;
        }
    ft_index *ix = fixture_index("together", &d, 1, 1);
    const ft_index *list[] = {ix};
    ft_span_rules rules = ft_span_rules_default();
    ft_spans s;
    for (uint64_t most = 1; most <= 1000000; most += 999999) { /* to be chosen at all; and once chosen */
        rules.density = 0;
        rules.max_cnt = most;
        response = ids;
        expected_count = counted = counted_alone = 0;
        assert_int_equal(ft_spans_find((ft_index_set){list, 1}, ids, 16, &rules, &s, NULL), FT_OK);
        response = NULL;
        assert_int_equal(s.count, most == 1 ? 0 : 8);
        assert_int_equal(counted, 8);
        assert_int_equal(counted_alone, 0);
        ft_spans_release(&s);
    }
    ft_index_close(ix);
}

/* --- Against the golden runs --------------------------------------------------------- */

typedef struct golden {
    ft_index *index;
    ft_token_set starts;
    size_t runs;
} golden;

static void check_span_list(const ft_spans *got, const json_t *want, const char *what, int row)
{
    if (got->count != json_array_size(want))
        fail_msg("row %d, %s: %zu spans, not %zu", row, what, got->count, json_array_size(want));
    for (size_t i = 0; i < got->count; i++) {
        const json_t *w = json_array_get(want, i);
        const json_int_t l = json_integer_value(json_array_get(w, 0)), r = json_integer_value(json_array_get(w, 1));
        if ((json_int_t)got->spans[i].start != l || (json_int_t)got->spans[i].end != r)
            fail_msg("row %d, %s, span %zu: [%zu, %zu)", row, what, i, got->spans[i].start, got->spans[i].end);
    }
}

static void check_run(golden *g, const json_t *run, const uint32_t *ids, size_t n, int row)
{
    const json_t *params = json_object_get(run, "params"), *brute = json_object_get(run, "brute_spans");
    const json_t *peer = json_object_get(run, "spans");
    uint32_t *list;
    size_t count;
    ft_token_set delimiters = {0};
    assert_int_equal(ft_json_get_ids(params, "delim_ids", &list, &count, NULL), FT_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(ft_token_set_add(&delimiters, list[i], NULL), FT_OK);
    free(list);
    ft_span_rules rules = {.delimiters = &delimiters,
                           .word_starts = json_is_true(json_object_get(params, "enforce_bow")) ? &g->starts : NULL,
                           .min_len = (size_t)json_integer_value(json_object_get(params, "min_len")),
                           .max_cnt = (uint64_t)json_integer_value(json_object_get(params, "max_cnt"))};
    const ft_index *const one[] = {g->index};
    ft_spans got;
    ft_status st;
    assert_ok(ft_spans_find((ft_index_set){one, 1}, ids, n, &rules, &got, &st), st);
    check_span_list(&got, brute, "all", row);
    for (size_t i = 0; i < got.count; i++) {
        assert_int_equal(got.spans[i].count, json_integer_value(json_array_get(json_array_get(brute, i), 2)));
        if (json_array_size(peer) == got.count) {
            const double want = json_real_value(json_object_get(json_array_get(peer, i), "unigram_logprob_sum"));
            assert_true(fabs(got.spans[i].unigram_logprob_sum - want) < 1e-9 * (1 - want));
        }
    }
    ft_spans_release(&got);
    rules.density = 0.05;
    for (int k = 0; k < 2; k++) {
        const char *field = k ? "capped_by_length" : "capped_by_unigram_logprob";
        rules.rank = k ? FT_RANK_LENGTH : FT_RANK_UNIGRAM;
        assert_ok(ft_spans_find((ft_index_set){one, 1}, ids, n, &rules, &got, &st), st);
        check_span_list(&got, json_object_get(run, field), field, row);
        ft_spans_release(&got);
    }
    ft_token_set_release(&delimiters);
    g->runs++;
}

/* Rows with the separator's id show the peer's raw behaviour only. */
static void check_golden(golden *g)
{
    ft_status st;
    assert_ok(ft_token_set_read(&g->starts, ft_test_shared("tokenizers/dolma2/bow_ids.txt"), &st), st);
    size_t size;
    char *text = ft_test_read(ft_test_shared("golden/index/attribution.jsonl"), &size), *rest = text;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *row;
        uint32_t *ids;
        size_t n, i;
        const json_t *run;
        assert_ok(ft_json_parse(&row, line, strlen(line), "attribution.jsonl", &st), st);
        assert_int_equal(ft_json_get_ids(row, "ids", &ids, &n, NULL), FT_OK);
        if (strcmp(json_string_value(json_object_get(row, "kind")), "with_separator_id") != 0)
            json_array_foreach(json_object_get(row, "runs"), i, run)
                check_run(g, run, ids, n, (int)json_integer_value(json_object_get(row, "id")));
        free(ids);
        json_decref(row);
    }
    assert_int_equal(g->runs, 145);
    free(text);
    ft_token_set_release(&g->starts);
    ft_index_close(g->index);
}

static void golden_infinigram(const char *folder, int version)
{
    golden g = {0};
    ft_status st;
    const ft_infinigram_options o = {.version = version, .end_of_text = 100257};
    char path[100];
    snprintf(path, sizeof(path), "golden/index/%s", folder);
    assert_ok(ft_index_open_infinigram(&g.index, ft_test_shared(path), &o, &st), st);
    check_golden(&g);
}

static void golden_attributions_agree_on_an_infinigram_folder(void **state)
{
    (void)state;
    ft_test_need("golden/index/attribution.jsonl");
    ft_test_need("tokenizers/dolma2/bow_ids.txt");
    golden_infinigram("infinigram-v4-u32", 4);
}

static void golden_attributions_agree_on_two_shards(void **state)
{
    (void)state;
    ft_test_need("golden/index/attribution.jsonl");
    ft_test_need("tokenizers/dolma2/bow_ids.txt");
    golden_infinigram("infinigram-v4-u32-2shards", 4);
}

static void golden_attributions_agree_on_documents_stored_backwards(void **state)
{
    (void)state;
    ft_test_need("golden/index/attribution.jsonl");
    ft_test_need("tokenizers/dolma2/bow_ids.txt");
    golden_infinigram("infinigram-v5-u32", 5);
}

static void golden_attributions_agree_on_our_own_index(void **state)
{
    (void)state;
    ft_test_need("golden/index/attribution.jsonl");
    ft_test_need("tokenizers/dolma2/tokenizer.json");
    golden g = {0};
    ft_status st;
    const char *corpus[] = {ft_test_shared("golden/index/corpus.jsonl")};
    const ft_index_build_options o = {.tokenizer = ft_test_shared("tokenizers/dolma2"), .threads = 1};
    ft_index_build_report report;
    char folder[4096];
    strcpy(folder, ft_test_path("own"));
    assert_ok(ft_index_build(folder, corpus, 1, &o, &report, &st), st);
    assert_ok(ft_index_open(&g.index, folder, &st), st);
    check_golden(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_agree_with_the_definition_on_random_corpora_searched_as_one),
        cmocka_unit_test(every_failed_allocation_is_reported_and_leaves_nothing),
        cmocka_unit_test(a_tracker_of_other_indexes_says_so),
        cmocka_unit_test(a_tracker_reports_every_failed_allocation),
        cmocka_unit_test(no_index_and_no_tokens_give_no_spans),
        cmocka_unit_test(spans_that_must_be_counted_are_told_to_the_index_together_first),
        cmocka_unit_test(golden_attributions_agree_on_an_infinigram_folder),
        cmocka_unit_test(golden_attributions_agree_on_two_shards),
        cmocka_unit_test(golden_attributions_agree_on_documents_stored_backwards),
        cmocka_unit_test(golden_attributions_agree_on_our_own_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
