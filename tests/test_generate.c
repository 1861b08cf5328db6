/* Sampling, one generation, and the commands over it. */
#include "tests/model_fixture.h"

#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "model/ft_generate.h"

#include <math.h>

/* --- Sampling ------------------------------------------------------------------------- */

static ft_sampler *sampler(ft_sampling how, size_t vocab)
{
    ft_status st = {0};
    ft_sampler *s;
    assert_ok(ft_sampler_new(&s, &how, NULL, 0, vocab, &st), st);
    return s;
}

static void greedy_takes_the_lowest_id_of_the_largest_finite_logit(void **state)
{
    (void)state;
    const float logits[] = {1, NAN, 3, INFINITY, 3, -INFINITY};
    ft_sampler *s = sampler((ft_sampling){.top_p = 1}, 6);
    assert_int_equal(ft_sampler_draw(s, logits, 0), 2);
    assert_int_equal(ft_sampler_draw(s, logits, 2), 0); /* only ids below 2 */
    const float none[] = {NAN, INFINITY};
    assert_int_equal(ft_sampler_draw(s, none, 2), UINT32_MAX);
    ft_sampler_free(s);
}

/* Probabilities by the definition: sort, cut to top-k, renormalise, cut to the
 * smallest set that reaches top-p, renormalise. */
static void expected_shares(const float *logits, size_t n, const ft_sampling *how, double *share)
{
    size_t order[16];
    double weight[16], total = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
        weight[i] = exp((double)logits[i] / how->temperature);
        share[i] = 0;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            if (weight[order[j]] > weight[order[i]]) {
                const size_t swap = order[i];
                order[i] = order[j];
                order[j] = swap;
            }
    const size_t k = how->top_k && (size_t)how->top_k < n ? (size_t)how->top_k : n;
    for (size_t i = 0; i < k; i++)
        total += weight[order[i]];
    size_t kept = 0;
    while (kept < k && (kept == 0 || sum < how->top_p * total))
        sum += weight[order[kept++]];
    for (size_t i = 0; i < kept; i++)
        share[order[i]] = weight[order[i]] / sum;
}

/* 20,000 draws: a share p is within 5 standard deviations, sqrt(p (1-p) / n) each. */
static void draws_follow_temperature_top_k_and_top_p(void **state)
{
    (void)state;
    enum { N = 9, DRAWS = 20000 };
    const float logits[N] = {0.3f, -1, 2, 1.5f, 0, 0.9f, -3, 1.1f, 0.2f};
    static const ft_sampling hows[] = {{.temperature = 1, .top_p = 1, .seed = 1},
                                       {.temperature = 0.5, .top_p = 1, .seed = 2},
                                       {.temperature = 1, .top_k = 3, .top_p = 1, .seed = 3},
                                       {.temperature = 1.3, .top_p = 0.6, .seed = 4},
                                       {.temperature = 1, .top_k = 5, .top_p = 0.7, .seed = 5},
                                       {.temperature = 2, .top_p = 0, .seed = 6},
                                       {.temperature = 1, .top_k = 1, .top_p = 1, .seed = 7},
                                       {.temperature = 1, .top_k = 50, .top_p = 0.999, .seed = 8}};
    for (size_t c = 0; c < sizeof(hows) / sizeof(hows[0]); c++) {
        size_t drawn[N] = {0};
        double share[N];
        ft_sampler *s = sampler(hows[c], N);
        expected_shares(logits, N, &hows[c], share);
        for (int i = 0; i < DRAWS; i++)
            drawn[ft_sampler_draw(s, logits, 0)]++;
        for (size_t i = 0; i < N; i++) {
            const double got = (double)drawn[i] / DRAWS, sd = sqrt(share[i] * (1 - share[i]) / DRAWS);
            if (fabs(got - share[i]) > 5 * sd + 1e-12)
                fail_msg("case %zu, id %zu: drawn %g, not %g", c, i, got, share[i]);
        }
        ft_sampler_free(s);
    }
}

static void a_seed_names_one_stream_of_draws(void **state)
{
    (void)state;
    float logits[50];
    for (int i = 0; i < 50; i++)
        logits[i] = (float)(i % 7);
    int differs = 0;
    ft_sampler *a = sampler((ft_sampling){.temperature = 1, .top_p = 0.9, .seed = 42}, 50);
    ft_sampler *b = sampler((ft_sampling){.temperature = 1, .top_p = 0.9, .seed = 42}, 50);
    ft_sampler *c = sampler((ft_sampling){.temperature = 1, .top_p = 0.9, .seed = 43}, 50);
    for (int i = 0; i < 100; i++) {
        const uint32_t id = ft_sampler_draw(a, logits, 0);
        assert_int_equal(id, ft_sampler_draw(b, logits, 0));
        differs += id != ft_sampler_draw(c, logits, 0);
    }
    assert_true(differs > 50);
    ft_sampler_free(a);
    ft_sampler_free(b);
    ft_sampler_free(c);
    ft_status st = {0};
    static const ft_sampling bad[] = {{.temperature = -1, .top_p = 1},
                                      {.temperature = NAN, .top_p = 1},
                                      {.top_p = 1.5},
                                      {.top_p = -0.1},
                                      {.top_p = 1, .top_k = -1}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ft_sampler_new(&a, &bad[i], NULL, 0, 5, &st), FT_ERR_ARG);
}

static void log_probability_is_log_softmax(void **state)
{
    (void)state;
    const float logits[] = {1, 2, 3, 1000, 990};
    const double sum = log(exp(-999) + exp(-998) + exp(-997) + 1 + exp(-10));
    assert_true(fabs(ft_log_probability(logits, 5, 4) - (-10 - sum)) < 1e-12);
    assert_true(fabs(ft_log_probability(logits, 5, 3) - -sum) < 1e-12);
}

static void a_score_holds_the_best_in_order_and_the_rank(void **state)
{
    (void)state;
    const float logits[] = {1, 5, NAN, 5, 3, -INFINITY, 4};
    ft_token_score score;
    ft_token_score_row(logits, 7, 4, 3, &score);
    assert_int_equal(score.rank, 4);
    assert_int_equal(score.top_count, 3);
    assert_int_equal(score.top_ids[0], 1); /* of equals the lower id */
    assert_int_equal(score.top_ids[1], 3);
    assert_int_equal(score.top_ids[2], 6);
    for (uint32_t id = 0; id < 7; id++) {
        ft_token_score_row(logits, 7, id, 20, &score);
        assert_int_equal(score.top_count, 5); /* two are not finite */
        assert_true(score.logprob == ft_log_probability(logits, 7, id));
        for (size_t k = 0; k < score.top_count; k++) {
            assert_true(k == 0 || score.top[k] <= score.top[k - 1]);
            assert_true(score.top[k] == ft_log_probability(logits, 7, score.top_ids[k]));
        }
    }
    ft_token_score_row(logits, 7, 2, 0, &score);
    assert_true(isinf(score.logprob) && score.logprob < 0);
    assert_int_equal(score.top_count, 0);
}

/* --- One generation ---------------------------------------------------------------------- */

static ft_model *demo(void)
{
    ft_status st = {0};
    ft_model *m;
    assert_ok(ft_model_open(&m, ft_test_source("demo/model"), &st), st);
    return m;
}

static ft_tokenizer *demo_tokenizer(void)
{
    ft_status st = {0};
    ft_tokenizer *t;
    assert_ok(ft_tokenizer_open(&t, ft_test_source("demo/model"), &st), st);
    return t;
}

static ft_encoding encode(const ft_tokenizer *t, const char *text)
{
    ft_status st = {0};
    ft_encoder *e;
    ft_encoding out = {0};
    assert_ok(ft_encoder_new(&e, t, &st), st);
    assert_ok(ft_encoder_encode(e, text, strlen(text), &out, &st), st);
    ft_encoder_free(e);
    return out;
}

/* Steps to the end; what is shown only ever grows, and stays in front of the end. */
static ft_generation *run(const ft_model *m, const ft_tokenizer *t, const ft_generate_request *r)
{
    ft_status st = {0};
    ft_generation *g;
    char shown[4096] = "";
    size_t bytes = 0;
    assert_ok(ft_generation_open(&g, m, t, NULL, r, &st), st);
    while (ft_generation_get(g).finish == FT_FINISH_NONE) {
        assert_ok(ft_generation_step(g, &st), st);
        const ft_generation_state now = ft_generation_get(g);
        assert_true(now.text_bytes >= bytes && now.text_bytes < sizeof(shown));
        assert_memory_equal(now.text, shown, bytes);
        memcpy(shown, now.text, now.text_bytes);
        bytes = now.text_bytes;
        if (now.count)
            assert_int_equal(now.text_ends[now.count - 1], bytes);
    }
    assert_ok(ft_generation_step(g, &st), st); /* after the end a step does nothing */
    return g;
}

static void greedy_continues_as_transformers_does(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m = demo();
    ft_tokenizer *t = demo_tokenizer();
    json_t *all;
    assert_ok(ft_json_read_file(&all, ft_test_source("demo/model/golden.json"), 0, &st), st);
    size_t i;
    json_t *prompt;
    json_array_foreach(json_object_get(all, "prompts"), i, prompt)
    {
        uint32_t *ids, *want;
        size_t n, count;
        assert_ok(ft_json_get_ids(prompt, "ids", &ids, &n, &st), st);
        assert_ok(ft_json_get_ids(prompt, "greedy_ids", &want, &count, &st), st);
        const ft_generate_request r = {.prompt = ids,
                                       .prompt_count = n,
                                       .max_new_tokens = count,
                                       .sampling = {.top_p = 1},
                                       .capture_routing = 1,
                                       .scores = 1};
        ft_generation *g = run(m, t, &r);
        const ft_generation_state now = ft_generation_get(g);
        assert_int_equal(now.finish, FT_FINISH_LENGTH);
        assert_int_equal(now.count, count);
        assert_memory_equal(now.ids, want, count * sizeof(*want));
        const char *text = json_string_value(json_object_get(prompt, "greedy_text"));
        assert_int_equal(now.text_bytes, strlen(text));
        assert_memory_equal(now.text, text, now.text_bytes);
        assert_int_equal(ft_generation_routing(g).tokens, n + count - 1); /* the last one was not read */
        for (size_t j = 0; j < count; j++)
            assert_true(now.scores[j].logprob < 0 && now.scores[j].logprob > -20);
        ft_generation_close(g);
        free(ids);
        free(want);
    }
    json_decref(all);
    ft_tokenizer_close(t);
    ft_model_close(m);
}

static void no_new_tokens_still_reads_the_prompt(void **state)
{
    (void)state;
    ft_model *m = demo();
    uint32_t ids[100];
    for (uint32_t i = 0; i < 100; i++)
        ids[i] = 300 + i;
    ft_generation *g =
        run(m, NULL,
            &(ft_generate_request){.prompt = ids, .prompt_count = 100, .sampling = {.top_p = 1}, .capture_routing = 1});
    const ft_generation_state now = ft_generation_get(g);
    assert_int_equal(now.finish, FT_FINISH_LENGTH);
    assert_int_equal(now.count, 0);
    assert_int_equal(now.prompt_read, 100);
    assert_int_equal(ft_generation_routing(g).tokens, 100);
    ft_generation_close(g);
    ft_model_close(m);
}

/* Where a stop string first stands in the text, and the token that completes it. */
typedef struct found {
    size_t at, token;
} found;

static found find(const char *text, const char *stop, const size_t *ends, size_t count)
{
    const char *p = strstr(text, stop);
    found f = {.at = strlen(text), .token = count};
    if (p) {
        f = (found){.at = (size_t)(p - text)};
        while (ends[f.token] < f.at + strlen(stop))
            f.token++;
    }
    return f;
}

/* The text of a run without stop strings is the reference: with them, the text is
 * what stood before the one that a token completes first (of two that the same
 * token completes, the one that begins first). */
static void the_text_ends_before_a_stop_string(void **state)
{
    (void)state;
    static const char *const stops[] = {"word", " the word \"the", "as not", "that the", "zzz", ",", "t", "\n"};
    ft_model *m = demo();
    ft_tokenizer *t = demo_tokenizer();
    ft_encoding e = encode(t, "And it came to pass");
    ft_generate_request r = {.prompt = e.ids, .prompt_count = e.count, .max_new_tokens = 30, .sampling = {.top_p = 1}};
    ft_generation *g = run(m, t, &r);
    const ft_generation_state all = ft_generation_get(g);
    char *text = strndup(all.text, all.text_bytes);
    size_t ends[30];
    assert_int_equal(all.count, 30);
    memcpy(ends, all.text_ends, sizeof(ends));
    ft_generation_close(g);
    assert_non_null(strstr(text, stops[0]));
    for (size_t a = 0; a < sizeof(stops) / sizeof(stops[0]); a++)
        for (size_t b = a; b < sizeof(stops) / sizeof(stops[0]); b++) {
            const found one = find(text, stops[a], ends, 30), two = find(text, stops[b], ends, 30);
            const size_t want = one.token < two.token   ? one.at
                                : two.token < one.token ? two.at
                                : one.at < two.at       ? one.at
                                                        : two.at;
            r.stop[0] = stops[a];
            r.stop[1] = stops[b];
            r.stop_count = 2;
            g = run(m, t, &r);
            const ft_generation_state now = ft_generation_get(g);
            if (now.text_bytes != want || memcmp(now.text, text, want) != 0)
                fail_msg("'%s' and '%s': text '%.*s'", stops[a], stops[b], (int)now.text_bytes, now.text);
            assert_int_equal(now.finish, want < strlen(text) ? FT_FINISH_STOP : FT_FINISH_LENGTH);
            ft_generation_close(g);
        }
    free(text);
    ft_encoding_release(&e);
    ft_tokenizer_close(t);
    ft_model_close(m);
}

static void an_end_of_text_token_ends_it_and_is_not_part_of_it(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    fixture f = FIXTURE;
    const char *folder = fixture_write("ends", &f);
    const uint32_t prompt[] = {1, 2, 3};
    ft_generate_request r = {.prompt = prompt, .prompt_count = 3, .max_new_tokens = 12, .sampling = {.top_p = 1}};
    assert_ok(ft_model_open(&m, folder, &st), st);
    ft_generation *g = run(m, NULL, &r);
    uint32_t ids[12];
    assert_int_equal(ft_generation_get(g).count, 12);
    memcpy(ids, ft_generation_get(g).ids, sizeof(ids));
    ft_generation_close(g);
    ft_model_close(m);
    char eos[64];
    snprintf(eos, sizeof(eos), "{\"eos_token_id\": [39, %u]}", ids[5]);
    fixture_put(folder, "generation_config.json", eos, strlen(eos));
    size_t first = 0; /* ids may repeat */
    while (ids[first] != ids[5] && ids[first] != 39)
        first++;
    assert_ok(ft_model_open(&m, folder, &st), st);
    g = run(m, NULL, &r);
    assert_int_equal(ft_generation_get(g).count, first);
    assert_int_equal(ft_generation_get(g).finish, FT_FINISH_STOP);
    ft_generation_close(g);
    r.ignore_end_of_text = 1;
    g = run(m, NULL, &r);
    assert_memory_equal(ft_generation_get(g).ids, ids, sizeof(ids));
    ft_generation_close(g);
    ft_model_close(m);
}

static void a_bad_request_is_refused_with_its_reason(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_generation *g;
    ft_model *m, *big = demo();
    ft_tokenizer *t = demo_tokenizer();
    assert_ok(ft_model_open(&m, fixture_write("bad-requests", &FIXTURE), &st), st);
    const uint32_t ids[] = {1, 2};
    ft_generate_request r = {.prompt = ids, .sampling = {.top_p = 1}, .max_new_tokens = 1};
    assert_int_equal(ft_generation_open(&g, m, NULL, NULL, &r, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "empty"));
    r.prompt_count = 2;
    r.max_new_tokens = 511;
    assert_int_equal(ft_generation_open(&g, m, NULL, NULL, &r, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "2 prompt tokens and 511 new ones exceed the context of 512"));
    r.max_new_tokens = SIZE_MAX;
    assert_int_equal(ft_generation_open(&g, m, NULL, NULL, &r, &st), FT_ERR_LIMIT);
    r.max_new_tokens = 1;
    r.stop[0] = "";
    r.stop_count = 1;
    assert_int_equal(ft_generation_open(&g, m, NULL, NULL, &r, &st), FT_ERR_ARG);
    r.stop_count = 0;
    assert_int_equal(ft_generation_open(&g, m, t, NULL, &r, &st), FT_ERR_FORMAT); /* a tokenizer of another model */
    assert_non_null(strstr(st.msg, "another model"));
    r.sampling.temperature = -1;
    assert_int_equal(ft_generation_open(&g, m, NULL, NULL, &r, &st), FT_ERR_ARG);
    assert_null(g);
    ft_tokenizer_close(t);
    ft_model_close(big);
    ft_model_close(m);
}

static void logits_that_are_not_finite_fail_the_step(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_generation *g;
    fixture f = FIXTURE;
    f.poison = 31;
    assert_ok(ft_model_open(&m, fixture_write("nan", &f), &st), st);
    const uint32_t ids[] = {1};
    const ft_generate_request r = {.prompt = ids, .prompt_count = 1, .max_new_tokens = 3, .sampling = {.top_p = 1}};
    assert_ok(ft_generation_open(&g, m, NULL, NULL, &r, &st), st);
    assert_ok(ft_generation_step(g, &st), st);
    assert_int_equal(ft_generation_step(g, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "no finite logit"));
    ft_generation_close(g);
    ft_model_close(m);
}

typedef struct parts {
    ft_model *model;
    ft_tokenizer *tokenizer;
} parts;

static ft_code generate_four(void *context, ft_status *st)
{
    const parts *p = context;
    const uint32_t ids[] = {0, 2619, 200};
    const ft_generate_request r = {.prompt = ids,
                                   .prompt_count = 3,
                                   .max_new_tokens = 4,
                                   .sampling = {.top_p = 1},
                                   .stop = {"zzz"},
                                   .stop_count = 1,
                                   .capture_routing = 1,
                                   .scores = 1,
                                   .top_scores = 3};
    ft_generation *g;
    ft_code rc = ft_generation_open(&g, p->model, p->tokenizer, NULL, &r, st);
    while (!rc && ft_generation_get(g).finish == FT_FINISH_NONE)
        rc = ft_generation_step(g, st);
    ft_generation_close(g);
    return rc;
}

static void every_allocation_of_a_generation_may_fail(void **state)
{
    (void)state;
    parts p = {demo(), demo_tokenizer()};
    ft_test_each_allocation_fails(generate_four, &p);
    ft_tokenizer_close(p.tokenizer);
    ft_model_close(p.model);
}

/* --- Commands -------------------------------------------------------------------------------- */

static json_t *json_of(const char *command)
{
    char *out, *err;
    json_t *o = NULL;
    const int code = ft_test_shell(command, &out, &err);
    if (code || ft_json_parse(&o, out, strlen(out), "output", NULL))
        fail_msg("%s: %d: %s", command, code, err);
    free(out);
    free(err);
    return o;
}

static void says(const char *command, int code, const char *why)
{
    char *out, *err;
    const int got = ft_test_shell(command, &out, &err);
    const char *end = strchr(err, '\n');
    if (got != code || !strstr(err, why) || !end || end[1]) /* one line */
        fail_msg("%s: %d: %s", command, got, err);
    free(out);
    free(err);
}

static void generate_prints_one_json_object(void **state)
{
    (void)state;
    char command[1024];
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s -p 'And it came to pass' -n 7 --json",
             ft_test_source("demo/model"));
    json_t *o = json_of(command);
    assert_int_equal(json_array_size(json_object_get(o, "ids")), 7);
    assert_string_equal(json_string_value(json_object_get(o, "finish_reason")), "length");
    const json_t *usage = json_object_get(o, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 7);
    assert_int_equal(json_integer_value(json_object_get(usage, "total_tokens")),
                     json_integer_value(json_object_get(usage, "prompt_tokens")) + 7);
    char *plain;
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s --prompt='And it came to pass' -n7",
             ft_test_source("demo/model"));
    assert_int_equal(ft_test_shell(command, &plain, NULL), 0);
    assert_int_equal(strlen(plain), strlen(json_string_value(json_object_get(o, "text"))) + 1); /* and a newline */
    assert_memory_equal(plain, json_string_value(json_object_get(o, "text")), strlen(plain) - 1);
    free(plain);
    json_decref(o);
}

static void without_a_tokenizer_ids_go_in_and_come_out(void **state)
{
    (void)state;
    char command[8192], tiny[2048];
    snprintf(tiny, sizeof(tiny), "%s", ft_test_source("tests/vectors/model/tiny"));
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s --ids %s/prompt1_ids.npy -n 32 --json", tiny, tiny);
    json_t *o = json_of(command);
    ft_npy want;
    snprintf(command, sizeof(command), "%s/prompt1_greedy.npy", tiny);
    assert_int_equal(ft_npy_open(&want, command, NULL), FT_OK);
    assert_true(json_is_null(json_object_get(o, "text")));
    for (size_t i = 0; i < 32; i++)
        assert_int_equal(json_integer_value(json_array_get(json_object_get(o, "ids"), i)),
                         ((const int32_t *)want.data)[i]);
    ft_npy_close(&want);
    json_decref(o);
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s -p x", tiny);
    says(command, 3, "tokenizer.json");
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s --ids %s/prompt1_ids.npy -n 240", tiny, tiny);
    says(command, 3, "17 prompt tokens and 240 new ones exceed the context of 256");
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s", tiny);
    says(command, 2, "either -p or --ids");
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s -p x --without 0,x", tiny);
    says(command, 2, "expert numbers");
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s --ids %s/prompt1_ids.npy --without 0,1,2,3", tiny, tiny);
    says(command, 2, "all 4 experts");
}

static void forward_writes_whole_files_or_none(void **state)
{
    (void)state;
    char command[8192], out[1024], tiny[1024], dense[1024];
    snprintf(tiny, sizeof(tiny), "%s", ft_test_source("tests/vectors/model/tiny"));
    snprintf(dense, sizeof(dense), "%s", ft_test_source("tests/vectors/model/dense-olmo2"));
    snprintf(out, sizeof(out), "%s", ft_test_folder());
    snprintf(command, sizeof(command),
             "$FLEXTRACE forward %s --ids %s/prompt2_ids.npy --logits %s/l.npy --routing %s/r.npy --experts %s/e.npy "
             "--weights %s/w.npy --without 1 --json",
             tiny, tiny, out, out, out, out);
    json_t *o = json_of(command);
    assert_int_equal(json_integer_value(json_object_get(o, "tokens")), 64);
    json_decref(o);
    static const struct {
        const char *name;
        ft_npy_type type;
        unsigned dims;
        size_t shape[3];
    } files[] = {{"l.npy", FT_NPY_FLOAT32, 2, {64, 512, 0}},
                 {"r.npy", FT_NPY_FLOAT32, 3, {2, 64, 4}},
                 {"e.npy", FT_NPY_INT32, 3, {2, 64, 2}},
                 {"w.npy", FT_NPY_FLOAT32, 3, {2, 64, 2}}};
    for (size_t i = 0; i < 4; i++) {
        ft_npy a;
        assert_int_equal(ft_npy_open(&a, ft_test_path(files[i].name), NULL), FT_OK);
        assert_int_equal(a.type, files[i].type);
        assert_int_equal(a.dims, files[i].dims);
        assert_memory_equal(a.shape, files[i].shape, a.dims * sizeof(size_t));
        for (size_t j = 0; i == 1 && j < a.count; j += 4)
            assert_true(((const float *)a.data)[j + 1] == 0); /* expert 1 is out */
        ft_npy_close(&a);
    }
    /* A disk that is full after 8 blocks: nothing appears, nothing is left behind. */
    snprintf(command, sizeof(command),
             "mkdir %s/full && cd %s/full && ( trap '' XFSZ; ulimit -f 8; $FLEXTRACE forward %s --ids "
             "%s/prompt2_ids.npy --logits %s/full/l.npy )",
             out, out, tiny, tiny, out);
    says(command, 4, "l.npy");
    snprintf(command, sizeof(command), "rmdir %s/full", out);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
    snprintf(command, sizeof(command), "$FLEXTRACE forward %s --ids %s/prompt2_ids.npy --logits %s/no/l.npy", tiny,
             tiny, out);
    says(command, 3, "no/l.npy");
    snprintf(command, sizeof(command), "$FLEXTRACE forward %s --ids %s/prompt2_ids.npy --routing %s/d.npy", dense,
             dense, out);
    says(command, 2, "a dense model has no router");
    assert_false(ft_path_exists(ft_test_path("d.npy")));
    const uint32_t bad[] = {1, 512};
    const size_t two = 2;
    assert_int_equal(ft_npy_write(ft_test_path("bad.npy"), FT_NPY_UINT32, 1, &two, bad, NULL), FT_OK);
    snprintf(command, sizeof(command), "$FLEXTRACE forward %s --ids %s/bad.npy --logits %s/x.npy", tiny, out, out);
    says(command, 3, "element 1: id 512");
    assert_false(ft_path_exists(ft_test_path("x.npy")));
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s --ids %s/bad.npy --json", tiny, out);
    says(command, 3, "bad.npy: element 1: id 512; the model's vocabulary has 512");
    const size_t none = 0;
    assert_int_equal(ft_npy_write(ft_test_path("none.npy"), FT_NPY_UINT32, 1, &none, bad, NULL), FT_OK);
    snprintf(command, sizeof(command), "$FLEXTRACE generate %s --ids %s/none.npy", tiny, out);
    says(command, 3, "none.npy: holds no ids");
    /* Two outputs cannot be one file, nor a folder. */
    snprintf(command, sizeof(command),
             "$FLEXTRACE forward %s --ids %s/prompt2_ids.npy --logits %s/x.npy --routing %s/x.npy", tiny, tiny, out,
             out);
    says(command, 2, "named for two outputs");
    assert_false(ft_path_exists(ft_test_path("x.npy")));
    snprintf(command, sizeof(command), "$FLEXTRACE forward %s --ids %s/prompt2_ids.npy --logits %s", tiny, tiny, out);
    says(command, 3, "it is a folder");
    snprintf(command, sizeof(command), "$FLEXTRACE forward %s --ids %s", tiny, tiny);
    says(command, 3, "not a regular file");
    snprintf(command, sizeof(command), "$FLEXTRACE forward %s --ids %s/prompt2_ids.npy --without 99", tiny, tiny);
    says(command, 2, "there is no expert 99");
}

static void model_info_tells_sizes_and_refuses_a_cut_file(void **state)
{
    (void)state;
    char command[4096];
    snprintf(command, sizeof(command), "$FLEXTRACE model info --json %s", ft_test_source("demo/model"));
    json_t *o = json_of(command);
    assert_string_equal(json_string_value(json_object_get(o, "architecture")), "FlexOlmoForCausalLM");
    assert_int_equal(json_integer_value(json_object_get(o, "parameters")), 19938560);
    assert_int_equal(json_integer_value(json_object_get(o, "experts")), 6);
    assert_int_equal(json_integer_value(json_object_get(o, "kv_bytes_per_token")), 12288);
    assert_string_equal(json_string_value(json_object_get(o, "weight_type")), "bfloat16");
    json_decref(o);
    const char *cut = ft_test_path("cut-info");
    snprintf(command, sizeof(command),
             "mkdir -p %s && cp %s/config.json %s && head -c 1000000 %s/model.safetensors >%s/model.safetensors && "
             "$FLEXTRACE model info %s",
             cut, ft_test_source("demo/model"), cut, ft_test_source("demo/model"), cut, cut);
    says(command, 3, "the file is cut short");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_id_of_the_largest_finite_logit),
        cmocka_unit_test(draws_follow_temperature_top_k_and_top_p),
        cmocka_unit_test(a_seed_names_one_stream_of_draws),
        cmocka_unit_test(log_probability_is_log_softmax),
        cmocka_unit_test(a_score_holds_the_best_in_order_and_the_rank),
        cmocka_unit_test(greedy_continues_as_transformers_does),
        cmocka_unit_test(no_new_tokens_still_reads_the_prompt),
        cmocka_unit_test(the_text_ends_before_a_stop_string),
        cmocka_unit_test(an_end_of_text_token_ends_it_and_is_not_part_of_it),
        cmocka_unit_test(a_bad_request_is_refused_with_its_reason),
        cmocka_unit_test(logits_that_are_not_finite_fail_the_step),
        cmocka_unit_test(every_allocation_of_a_generation_may_fail),
        cmocka_unit_test(generate_prints_one_json_object),
        cmocka_unit_test(without_a_tokenizer_ids_go_in_and_come_out),
        cmocka_unit_test(forward_writes_whole_files_or_none),
        cmocka_unit_test(model_info_tells_sizes_and_refuses_a_cut_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
