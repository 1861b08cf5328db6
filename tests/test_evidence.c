/* What tracer/ft_evidence.h, ft_causal.h and ft_usual.h promise. */
#include "tests/model_fixture.h"

#include "base/ft_json.h"
#include "model/ft_token_score.h"
#include "tracer/ft_causal.h"
#include "tracer/ft_evidence.h"
#include "tracer/ft_trace.h"
#include "tracer/ft_usual.h"

#include <math.h>

/* --- The verdict ---------------------------------------------------------------------- */

enum { MOST = 4 };

typedef struct scene {
    size_t length;
    double unigram;
    ft_owner_evidence owners[MOST];
    size_t count;
} scene;

/* A public owner and three others, all with an index and an expert with its usual share; nothing speaks. */
static scene quiet(void)
{
    scene s = {.length = 10, .unigram = -80, .count = MOST};
    for (size_t i = 0; i < MOST; i++)
        s.owners[i] = (ft_owner_evidence){
            .is_public = i == 0, .has_index = 1, .has_routing = 1, .has_usual = 1, .share = 0.25, .usual = 0.25};
    return s;
}

static void expect(const scene *s, const char *verdict, const char *rule, const char *named)
{
    uint8_t got[MOST];
    char names[MOST + 1] = "", *name = names;
    const ft_thresholds t = ft_thresholds_default();
    const ft_judgement j = ft_judge(s->length, s->unigram, s->owners, s->count, &t, got);
    for (size_t i = 0; i < s->count; i++)
        if (got[i])
            *name++ = "Pabc"[i];
    assert_string_equal(ft_verdict_name(j.verdict), verdict);
    assert_string_equal(j.rule, rule);
    assert_string_equal(names, named);
}

static void a_long_span_in_one_corpus_is_verbatim_in_several_shared_in_the_public_one_public(void **state)
{
    (void)state;
    scene s = quiet();
    expect(&s, "none", "none", "");
    s.owners[2].count = 3;
    expect(&s, "verbatim", "verbatim-one", "b");
    s.owners[3].count = 1;
    expect(&s, "shared", "verbatim-several", "bc");
    s.owners[0].count = 1;
    expect(&s, "public", "verbatim-public", "P");
}

static void a_short_or_probable_span_is_nobodys_and_the_publics_where_it_holds_it(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        scene s = quiet();
        if (k)
            s.length = 5;
        else
            s.unigram = -39.9;
        s.owners[1].count = 7;
        expect(&s, "none", "none", "");
        s.owners[0].count = 7;
        expect(&s, "public", "common-public", "P");
    }
}

static void routing_names_an_owner_by_excess_and_ratio_together_and_not_without_the_usual_share(void **state)
{
    (void)state;
    scene s = quiet();
    s.owners[1].share = 0.74; /* an excess of 0.49, a ratio of 2.96 */
    expect(&s, "none", "none", "");
    s.owners[1].share = 0.76;
    expect(&s, "influenced", "routing-one", "a");
    s.owners[1].has_usual = 0;
    expect(&s, "none", "none", "");
    s.owners[1].has_usual = 1;
    s.owners[3].share = 0.8;
    expect(&s, "shared", "routing-several", "ac");
    s.owners[1].share = s.owners[3].share = 0.1;
    s.owners[0].share = 0.8;
    expect(&s, "public", "routing-public", "P");
    s.owners[2].usual = 0.04;
    s.owners[2].share = 0.16; /* a ratio of 4, an excess of 0.12 */
    expect(&s, "public", "routing-public", "P");
}

static void cause_decides_where_it_was_asked_for(void **state)
{
    (void)state;
    scene s = quiet();
    s.owners[1].share = 0.9; /* routing alone would accuse */
    for (size_t i = 0; i < MOST; i++) {
        s.owners[i].has_causal = 1;
        s.owners[i].logprob = -20;
        s.owners[i].without = -20.5;
    }
    expect(&s, "none", "none", "");
    s.owners[1].without = -22.9; /* a loss of 2.9 */
    expect(&s, "none", "none", "");
    s.owners[1].without = -23.1;
    expect(&s, "influenced", "causal-one", "a");
    s.length = 11; /* 0.28 a token */
    expect(&s, "none", "none", "");
    s.length = 10;
    s.owners[2].without = -30; /* but its expert had no more of the weight than usual */
    expect(&s, "influenced", "causal-one", "a");
    s.owners[2].share = 0.26;
    expect(&s, "shared", "causal-several", "ab");
    s.owners[1].without = s.owners[2].without = -20;
    s.owners[0].without = -40;
    s.owners[0].share = 0.3;
    expect(&s, "public", "causal-public", "P");
    s.owners[3].count = 1; /* what stands word for word needs no cause */
    expect(&s, "verbatim", "verbatim-one", "c");
}

static void words_of_the_public_corpus_are_laid_to_no_private_owner_by_cause_or_routing(void **state)
{
    (void)state;
    scene s = quiet();
    s.unigram = -20;
    s.owners[1].count = 2;
    s.owners[1].share = 0.9;
    expect(&s, "influenced", "routing-one", "a");
    s.owners[0].count = 1;
    expect(&s, "public", "common-public", "P");
    s.owners[1].has_causal = 1;
    s.owners[1].logprob = -20;
    s.owners[1].without = -40;
    expect(&s, "public", "common-public", "P");
    s.owners[0].count = 0;
    expect(&s, "influenced", "causal-one", "a");
}

static void words_of_some_owners_corpora_are_laid_to_no_other_owner_whose_corpus_was_searched(void **state)
{
    (void)state;
    for (int caused = 0; caused < 2; caused++) {
        scene s = quiet();
        s.unigram = -20;
        s.owners[1].share = 0.9;
        s.owners[1].has_causal = caused;
        s.owners[1].logprob = -20;
        s.owners[1].without = -40;
        s.owners[2].count = 1;
        expect(&s, "none", "none", "");
        s.owners[1].count = 1;
        expect(&s, "influenced", caused ? "causal-one" : "routing-one", "a");
        s.owners[1].count = 0;
        s.owners[1].has_index = 0; /* nobody could look */
        expect(&s, "influenced", caused ? "causal-one" : "routing-one", "a");
    }
}

/* --- Causal passes ---------------------------------------------------------------------- */

typedef struct lab {
    ft_model *model;
    ft_engine *engine;
} lab;

static void open_lab(lab *l, size_t kv_bytes, size_t batch)
{
    ft_status st;
    fixture f = FIXTURE;
    f.top_k = 3;
    const ft_engine_options o = {.kv_bytes = kv_bytes, .batch_tokens = batch};
    assert_ok(ft_model_open(&l->model, fixture_write("causal", &f), &st), st);
    assert_ok(ft_engine_new(&l->engine, l->model, NULL, &o, &st), st);
}

static void close_lab(lab *l)
{
    ft_engine_free(l->engine);
    ft_model_close(l->model);
}

/* One variant by itself, token by token. */
static void plain_logprobs(const ft_model *m, const uint32_t *ids, size_t n, uint64_t without, double *out)
{
    ft_session *s;
    ft_status st;
    const size_t vocab = ft_model_get_config(m)->vocab;
    float *logits = calloc(vocab, sizeof(*logits));
    assert_ok(ft_session_open(&s, m, NULL, &(ft_session_options){.without = without}, &st), st);
    out[0] = NAN;
    for (size_t i = 0; i + 1 < n; i++) {
        assert_ok(ft_session_read(s, ids + i, 1, &(ft_outputs){.last_logits = logits}, NULL, &st), st);
        out[i + 1] = ft_log_probability(logits, vocab, ids[i + 1]);
    }
    ft_session_close(s);
    free(logits);
}

static void make_ids(uint32_t *ids, size_t n, uint64_t seed)
{
    ft_random r;
    ft_random_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)ft_random_below(&r, FIXTURE.vocab);
}

static size_t run_causal(lab *l, const ft_causal_request *r, ft_causal **out)
{
    ft_status st;
    size_t passes = 0;
    int done = 0;
    assert_ok(ft_causal_new(out, l->engine, r, &st), st);
    while (!done) {
        assert_ok(ft_causal_step(*out, NULL, &done, &st), st);
        passes++;
    }
    return passes;
}

static void check_causal(lab *l, const ft_causal_request *r)
{
    ft_causal *c;
    double want[300];
    (void)run_causal(l, r, &c);
    const ft_causal_result got = ft_causal_get(c);
    assert_int_equal(got.expert_count, r->expert_count);
    for (size_t v = 0; v <= r->expert_count; v++) {
        plain_logprobs(l->model, r->ids, r->count, r->without | (v ? UINT64_C(1) << r->experts[v - 1] : 0), want);
        for (size_t t = r->first; t < r->count; t++) {
            const double x = got.logprobs[v * (r->count - r->first) + t - r->first];
            if (t ? x != want[t] : !isnan(x)) /* bit for bit */
                fail_msg("variant %zu, token %zu: %.17g, not %.17g", v, t, x, want[t]);
        }
    }
    ft_causal_free(c);
}

static void all_variants_in_one_batch_give_what_each_gives_alone(void **state)
{
    (void)state;
    lab l;
    uint32_t ids[300];
    const uint8_t experts[] = {0, 1, 3, 4};
    make_ids(ids, 300, 5);
    const size_t firsts[] = {0, 1, 2, 64, 100, 199, 200};
    for (size_t batch = 7; batch < 300; batch += 124) {
        open_lab(&l, 0, batch);
        for (size_t i = 0; i < sizeof(firsts) / sizeof(*firsts); i++)
            check_causal(&l, &(ft_causal_request){ids, firsts[i], 200, 0, experts, 4});
        check_causal(&l, &(ft_causal_request){ids, 30, 90, UINT64_C(1) << 2, experts + 1, 2});
        check_causal(&l, &(ft_causal_request){ids, 30, 90, 0, experts, 0});
        check_causal(&l, &(ft_causal_request){ids, 0, 1, 0, experts, 4});
        check_causal(&l, &(ft_causal_request){ids, 0, 0, 0, experts, 4});
        close_lab(&l);
    }
}

/* Room for two timelines of 130 tokens (three pages each): five variants go two at a time, or one. */
static void where_memory_is_short_variants_go_in_smaller_groups(void **state)
{
    (void)state;
    lab l;
    uint32_t ids[130];
    const uint8_t experts[] = {0, 1, 3, 4};
    make_ids(ids, 130, 6);
    open_lab(&l, 0, 64);
    const size_t page = ft_engine_get_load(l.engine).page_bytes;
    close_lab(&l);
    for (size_t pages = 3; pages < 9; pages += 2) {
        open_lab(&l, pages * page, 64);
        check_causal(&l, &(ft_causal_request){ids, 65, 130, 0, experts, 4});
        close_lab(&l);
    }
    open_lab(&l, 2 * page, 64);
    ft_causal *c;
    ft_status st;
    int done = 0;
    ft_code rc = ft_causal_new(&c, l.engine, &(ft_causal_request){ids, 65, 130, 0, experts, 4}, &st);
    while (!rc && !done)
        rc = ft_causal_step(c, NULL, &done, &st);
    assert_int_equal(rc, FT_ERR_LIMIT);
    ft_causal_free(c);
    close_lab(&l);
}

/* A second question finds the prompt's whole pages of each set of experts in the prefix cache, and
 * gives the same bits. */
static void the_prompt_is_read_once_for_each_set_of_experts(void **state)
{
    (void)state;
    lab l;
    uint32_t ids[200];
    const uint8_t experts[] = {1, 2};
    make_ids(ids, 200, 7);
    open_lab(&l, 0, 48);
    const ft_causal_request r = {ids, 190, 200, 0, experts, 2};
    ft_causal *c;
    const size_t first = run_causal(&l, &r, &c);
    ft_causal_free(c);
    const size_t second = run_causal(&l, &r, &c);
    ft_causal_free(c);
    assert_true(second < first);
    check_causal(&l, &r);
    close_lab(&l);
}

static void experts_that_cannot_be_left_out_are_refused_and_not_listed(void **state)
{
    (void)state;
    lab l;
    ft_causal *c;
    ft_status st;
    uint8_t list[FT_MAX_EXPERTS];
    const uint32_t ids[] = {1, 2, 3};
    const uint8_t expert[] = {3}, unknown[] = {9};
    open_lab(&l, 0, 0);
    assert_int_equal(ft_causal_experts(l.model, 0, 0, list), 5);
    assert_int_equal(ft_causal_experts(l.model, 1, 0, list), 4);
    assert_int_equal(list[0], 1);
    assert_int_equal(ft_causal_experts(l.model, 1, 1 | 1 << 4, list), 1);
    assert_int_equal(list[0], 4);
    assert_int_equal(ft_causal_experts(l.model, 0x17, 0, list), 0); /* 3 alone is left */
    assert_int_equal(ft_causal_new(&c, l.engine, &(ft_causal_request){ids, 1, 3, 0x17, expert, 1}, &st), FT_ERR_ARG);
    assert_null(c);
    assert_int_equal(ft_causal_new(&c, l.engine, &(ft_causal_request){ids, 1, 3, 8, expert, 1}, &st), FT_ERR_ARG);
    assert_int_equal(ft_causal_new(&c, l.engine, &(ft_causal_request){ids, 1, 3, 0, unknown, 1}, &st), FT_ERR_ARG);
    close_lab(&l);
}

/* --- Usual shares -------------------------------------------------------------------------- */

typedef struct usual_lab {
    ft_model *model;
    ft_tokenizer *tokenizer;
    ft_engine *engine;
} usual_lab;

static void open_usual_lab_at(usual_lab *l, const char *folder)
{
    ft_status st;
    assert_ok(ft_model_open(&l->model, folder, &st), st);
    assert_ok(ft_tokenizer_open(&l->tokenizer, folder, &st), st);
    assert_ok(ft_engine_new(&l->engine, l->model, NULL, &(ft_engine_options){.kv_bytes = 64 << 20}, &st), st);
}

static void open_usual_lab(usual_lab *l)
{
    char folder[4096];
    strcpy(folder, ft_test_source("demo/model"));
    open_usual_lab_at(l, folder);
}

static void close_usual_lab(usual_lab *l)
{
    ft_engine_free(l->engine);
    ft_tokenizer_close(l->tokenizer);
    ft_model_close(l->model);
}

static ft_code measure(usual_lab *l, const char *path, size_t most, ft_usual *out, ft_status *st)
{
    ft_usual_run *r;
    int done = 0;
    ft_code rc = ft_usual_run_new(&r, l->engine, l->tokenizer, path, most, 0, st);
    while (!rc && !done)
        rc = ft_usual_run_step(r, &done, st);
    if (!rc)
        rc = ft_usual_run_end(r, out, st);
    ft_usual_run_free(r);
    return rc;
}

static const char two_documents[] = "{\"text\":\"In the beginning God created the heaven and the earth.\"}\n"
                                    "{\"text\":\"SELECT name FROM owners WHERE expert = 3;\"}\n";

/* The mean of ft_routing_shares of every token, each document a timeline of its own. */
static void plain_usual(usual_lab *l, size_t most, double *shares, size_t *tokens)
{
    static const char *const texts[] = {"In the beginning God created the heaven and the earth.",
                                        "SELECT name FROM owners WHERE expert = 3;"};
    const size_t experts = ft_model_get_config(l->model)->experts;
    ft_encoder *encoder;
    ft_encoding e = {0};
    ft_status st;
    assert_ok(ft_encoder_new(&encoder, l->tokenizer, &st), st);
    memset(shares, 0, experts * sizeof(*shares));
    *tokens = 0;
    for (int d = 0; d < 2; d++) {
        ft_session *s;
        assert_ok(ft_encoder_encode(encoder, texts[d], strlen(texts[d]), &e, &st), st);
        const size_t n = e.count < most - *tokens ? e.count : most - *tokens;
        assert_ok(ft_session_open(&s, l->model, NULL, &(ft_session_options){.capture_routing = 1}, &st), st);
        if (n)
            assert_ok(ft_session_read(s, e.ids, n, &(ft_outputs){0}, NULL, &st), st);
        const ft_routing r = ft_session_routing(s);
        for (size_t t = 0; t < n; t++)
            for (size_t i = 0; i < r.layers * r.top_k; i++) {
                double all = 0;
                for (size_t k = 0; k < r.layers * r.top_k; k++)
                    all += (double)r.weights[t * r.layers * r.top_k + k];
                shares[r.expert_ids[t * r.layers * r.top_k + i]] += (double)r.weights[t * r.layers * r.top_k + i] / all;
            }
        *tokens += n;
        ft_session_close(s);
    }
    for (size_t x = 0; x < experts; x++)
        shares[x] /= (double)*tokens;
    ft_encoding_release(&e);
    ft_encoder_free(encoder);
}

static void usual_shares_are_the_mean_over_all_tokens_of_the_text(void **state)
{
    (void)state;
    usual_lab l;
    ft_usual u;
    ft_status st;
    double want[FT_MAX_EXPERTS];
    size_t tokens;
    char path[4096];
    strcpy(path, ft_test_write("validation.jsonl", two_documents, sizeof(two_documents) - 1));
    open_usual_lab(&l);
    for (size_t most = 7; most < 1000; most += 500) {
        assert_ok(measure(&l, path, most, &u, &st), st);
        plain_usual(&l, most, want, &tokens);
        assert_int_equal(u.tokens, tokens);
        for (size_t e = 0; e < u.experts; e++)
            assert_true(fabs(u.shares[e] - want[e]) < 1e-12);
    }
    double left = 0;
    for (size_t e = 0; e < u.experts; e++)
        left += ft_usual_share(&u, e, 5);
    assert_true(fabs(left - 1) < 1e-12);
    assert_true(ft_usual_share(&u, 0, 5) == 0 && ft_usual_share(&u, 99, 0) == 0);
    close_usual_lab(&l);
}

static void a_model_of_a_short_context_reads_the_text_in_pieces_that_fit(void **state)
{
    (void)state;
    usual_lab l;
    ft_usual u;
    ft_status st;
    char command[20000], folder[4096], path[4096];
    strcpy(folder, ft_test_folder());
    snprintf(command, sizeof(command),
             "ln -sf %s/demo/model/model.safetensors %s/demo/model/tokenizer.json %s && "
             "sed 's/\"max_position_embeddings\": 1024/\"max_position_embeddings\": 16/' %s/demo/model/config.json "
             ">%s/config.json",
             FT_SOURCE_DIR, FT_SOURCE_DIR, folder, FT_SOURCE_DIR, folder);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    char text[900] = "{\"text\":\"";
    for (size_t i = 0; i < 40; i++)
        strcat(text, "the heaven and the ");
    strcat(text, "\"}\n");
    strcpy(path, ft_test_write("validation.jsonl", text, strlen(text)));
    open_usual_lab_at(&l, folder);
    assert_int_equal(ft_model_get_config(l.model)->max_position, 16);
    assert_ok(measure(&l, path, 100, &u, &st), st);
    assert_int_equal(u.tokens, 100);
    close_usual_lab(&l);
}

static void usual_shares_come_back_from_json_and_a_damaged_file_is_refused(void **state)
{
    (void)state;
    ft_usual u = {.experts = 3, .shares = {0.5, 0.25, 0.25}, .tokens = 77, .fingerprint = "abc"}, back;
    ft_status st;
    json_t *json = ft_usual_json(&u);
    assert_ok(ft_usual_parse(json, &back, &st), st);
    assert_memory_equal(&u, &back, sizeof(u));
    json_array_remove(json_object_get(json, "shares"), 0);
    assert_int_equal(ft_usual_parse(json, &back, &st), FT_ERR_FORMAT);
    json_decref(json);
    json = json_object();
    assert_int_equal(ft_usual_parse(json, &back, &st), FT_ERR_FORMAT);
    json_decref(json);
}

static void a_text_without_tokens_gives_no_usual_shares(void **state)
{
    (void)state;
    usual_lab l;
    ft_usual u;
    ft_status st;
    char path[4096];
    strcpy(path, ft_test_write("empty.jsonl", "{\"text\":\"\"}\n", 12));
    open_usual_lab(&l);
    assert_int_equal(measure(&l, path, 100, &u, &st), FT_ERR_FORMAT);
    close_usual_lab(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_span_in_one_corpus_is_verbatim_in_several_shared_in_the_public_one_public),
        cmocka_unit_test(a_short_or_probable_span_is_nobodys_and_the_publics_where_it_holds_it),
        cmocka_unit_test(routing_names_an_owner_by_excess_and_ratio_together_and_not_without_the_usual_share),
        cmocka_unit_test(cause_decides_where_it_was_asked_for),
        cmocka_unit_test(words_of_the_public_corpus_are_laid_to_no_private_owner_by_cause_or_routing),
        cmocka_unit_test(words_of_some_owners_corpora_are_laid_to_no_other_owner_whose_corpus_was_searched),
        cmocka_unit_test(all_variants_in_one_batch_give_what_each_gives_alone),
        cmocka_unit_test(where_memory_is_short_variants_go_in_smaller_groups),
        cmocka_unit_test(the_prompt_is_read_once_for_each_set_of_experts),
        cmocka_unit_test(experts_that_cannot_be_left_out_are_refused_and_not_listed),
        cmocka_unit_test(usual_shares_are_the_mean_over_all_tokens_of_the_text),
        cmocka_unit_test(a_model_of_a_short_context_reads_the_text_in_pieces_that_fit),
        cmocka_unit_test(usual_shares_come_back_from_json_and_a_damaged_file_is_refused),
        cmocka_unit_test(a_text_without_tokens_gives_no_usual_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
