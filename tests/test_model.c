/* The forward pass against transformers (tests/vectors/model/README.md has the
 * figures and tolerances), and what a session promises about bits and opt-outs. */
#include "tests/model_fixture.h"

#include "base/ft_cpu.h"
#include "base/ft_json.h"
#include "base/ft_npy.h"
#include "model/ft_rope.h"
#include "model/ft_session.h"
#include "model/ft_token_score.h"

#include <math.h>

static const double LOGITS = 2e-4, HIDDEN = 1e-4, PROBS = 2e-5, LOGPROB_SUM = 2e-3;

/* --- Reference outputs ---------------------------------------------------------------- */

/* The folder of a golden checkpoint: in the repository, or (too large for it) in the shared data. */
static const char *golden(const char *name)
{
    static char path[4096];
    char relative[256];
    snprintf(relative, sizeof(relative), "tests/vectors/model/%s", name);
    snprintf(path, sizeof(path), "%s", ft_test_source(relative));
    if (ft_path_exists(path))
        return path;
    snprintf(relative, sizeof(relative), "golden/model/%s", name);
    const char *shared = ft_test_shared(relative);
    if (!shared)
        return NULL;
    snprintf(path, sizeof(path), "%s", shared);
    return path;
}

/* An array of the folder; the test fails unless it is there. */
static ft_npy load(const char *folder, const char *fmt, ...) FT_PRINTF(2, 3);
static ft_npy load(const char *folder, const char *fmt, ...)
{
    char path[4096];
    size_t at = (size_t)snprintf(path, sizeof(path), "%s/", folder);
    va_list args;
    va_start(args, fmt);
    vsnprintf(path + at, sizeof(path) - at, fmt, args);
    va_end(args);
    ft_npy a;
    ft_status st = {0};
    assert_ok(ft_npy_open(&a, path, &st), st);
    return a;
}

static void check_floats(const char *folder, const char *what, const float *got, const ft_npy *want, double limit)
{
    const float *w = want->data;
    for (size_t i = 0; i < want->count; i++)
        if (!(fabs((double)got[i] - (double)w[i]) <= limit))
            fail_msg("%s: %s: element %zu is %g, not %g", folder, what, i, (double)got[i], (double)w[i]);
}

/* --- One prompt ------------------------------------------------------------------------- */

typedef struct reading {
    ft_model *model;
    ft_session *session;
    const ft_model_config *c;
    float *logits, *hidden, *normed; /* [n, V], [L+1, n, H], [n, H] */
    size_t n;
} reading;

/* Reads ids with every output there is. */
static reading read_ids(ft_model *m, const uint32_t *ids, size_t n, uint64_t without)
{
    ft_status st = {0};
    reading r = {.model = m, .c = ft_model_get_config(m), .n = n};
    r.logits = ft_alloc_array(n * r.c->vocab, sizeof(float));
    r.hidden = ft_alloc_array((r.c->layers + 1) * n * r.c->hidden, sizeof(float));
    r.normed = ft_alloc_array(n * r.c->hidden, sizeof(float));
    const ft_session_options o = {.without = without, .capture_routing = 1};
    assert_ok(ft_session_open(&r.session, m, NULL, &o, &st), st);
    const ft_outputs out = {.logits = r.logits, .hidden = r.hidden, .final_norm = r.normed};
    assert_ok(ft_session_read(r.session, ids, n, &out, NULL, &st), st);
    return r;
}

static void end_reading(reading *r)
{
    ft_session_close(r->session);
    free(r->logits);
    free(r->hidden);
    free(r->normed);
}

/* Files are layer by layer, the session token by token. */
static void check_routing(const reading *r, const char *folder, const ft_npy *probs, const ft_npy *ids,
                          const ft_npy *weights)
{
    const ft_routing g = ft_session_routing(r->session);
    assert_int_equal(g.tokens, r->n);
    assert_int_equal(ids->shape[2], g.top_k);
    for (size_t l = 0; l < g.layers; l++)
        for (size_t t = 0; t < g.tokens; t++) {
            const size_t from = l * g.tokens + t, to = t * g.layers + l;
            for (size_t e = 0; e < g.experts && probs; e++)
                if (!(fabs((double)g.probs[to * g.experts + e] -
                           (double)((const float *)probs->data)[from * g.experts + e]) <= PROBS))
                    fail_msg("%s: router probability of layer %zu, token %zu, expert %zu", folder, l, t, e);
            for (size_t j = 0; j < g.top_k; j++) {
                if (g.expert_ids[to * g.top_k + j] != ((const int32_t *)ids->data)[from * g.top_k + j])
                    fail_msg("%s: expert of layer %zu, token %zu, place %zu", folder, l, t, j);
                if (!(fabs((double)g.weights[to * g.top_k + j] -
                           (double)((const float *)weights->data)[from * g.top_k + j]) <= PROBS))
                    fail_msg("%s: weight of layer %zu, token %zu, place %zu", folder, l, t, j);
            }
        }
}

static uint32_t argmax(const float *logits, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return (uint32_t)best;
}

static void check_greedy(reading *r, const char *folder, const uint32_t *want, size_t count)
{
    ft_status st = {0};
    float *last = ft_alloc_array(r->c->vocab, sizeof(*last));
    memcpy(last, r->logits + (r->n - 1) * r->c->vocab, r->c->vocab * sizeof(*last));
    for (size_t i = 0; i < count; i++) {
        const uint32_t id = argmax(last, r->c->vocab);
        if (id != want[i])
            fail_msg("%s: greedy token %zu is %u, not %u", folder, i, id, want[i]);
        assert_ok(ft_session_read(r->session, &id, 1, &(ft_outputs){.last_logits = last}, NULL, &st), st);
    }
    free(last);
}

static void check_prompt(ft_model *m, const char *folder, const json_t *facts, int i)
{
    ft_npy ids = load(folder, "prompt%d_ids.npy", i), logits = load(folder, "prompt%d_logits.npy", i);
    ft_npy greedy = load(folder, "prompt%d_greedy.npy", i);
    reading r = read_ids(m, ids.data, ids.count, 0);
    check_floats(folder, "logits", r.logits, &logits, LOGITS);
    if (i == 1) {
        ft_npy hidden = load(folder, "prompt1_hidden.npy"), normed = load(folder, "prompt1_final_norm.npy");
        check_floats(folder, "hidden", r.hidden, &hidden, HIDDEN);
        check_floats(folder, "final norm", r.normed, &normed, LOGITS);
        ft_npy_close(&hidden);
        ft_npy_close(&normed);
    }
    if (r.c->experts) {
        ft_npy probs = load(folder, "prompt%d_router_probs.npy", i),
               chosen = load(folder, "prompt%d_expert_ids.npy", i);
        ft_npy weights = load(folder, "prompt%d_expert_weights.npy", i);
        check_routing(&r, folder, &probs, &chosen, &weights);
        ft_npy_close(&probs);
        ft_npy_close(&chosen);
        ft_npy_close(&weights);
    }
    double sum = 0;
    for (size_t t = 1; t < ids.count; t++)
        sum += ft_log_probability(r.logits + (t - 1) * r.c->vocab, r.c->vocab, ((const uint32_t *)ids.data)[t]);
    const json_t *prompt = json_array_get(json_object_get(facts, "prompts"), (size_t)i);
    assert_true(fabs(sum - json_number_value(json_object_get(prompt, "logprob_sum"))) <= LOGPROB_SUM);
    check_greedy(&r, folder, greedy.data, greedy.count);
    end_reading(&r);
    ft_npy_close(&ids);
    ft_npy_close(&logits);
    ft_npy_close(&greedy);
}

static void check_opt_out(ft_model *m, const char *folder, const json_t *facts, int i)
{
    const char *tag = json_string_value(json_object_get(facts, "tag"));
    char path[8192];
    snprintf(path, sizeof(path), "%s/optout/%s_prompt%d_logits.npy", folder, tag, i);
    if (!ft_path_exists(path))
        return; /* the repository keeps a part of them */
    uint64_t without = 0;
    size_t at;
    json_t *e;
    json_array_foreach(json_object_get(facts, "removed"), at, e) without |= (uint64_t)1 << json_integer_value(e);
    ft_npy ids = load(folder, "prompt%d_ids.npy", i), logits = load(folder, "optout/%s_prompt%d_logits.npy", tag, i);
    reading r = read_ids(m, ids.data, ids.count, without);
    const size_t rows = logits.shape[0];
    check_floats(folder, tag, r.logits + (ids.count - rows) * r.c->vocab, &logits, LOGITS);
    if (i == 1) {
        ft_npy chosen = load(folder, "optout/%s_prompt1_expert_ids.npy", tag);
        ft_npy weights = load(folder, "optout/%s_prompt1_expert_weights.npy", tag);
        check_routing(&r, folder, NULL, &chosen, &weights);
        ft_npy_close(&chosen);
        ft_npy_close(&weights);
    }
    const json_t *want = json_array_get(json_object_get(facts, "greedy8"), (size_t)i);
    uint32_t greedy[8];
    for (size_t j = 0; j < 8; j++)
        greedy[j] = (uint32_t)json_integer_value(json_array_get(want, j));
    check_greedy(&r, tag, greedy, 8);
    end_reading(&r);
    ft_npy_close(&ids);
    ft_npy_close(&logits);
}

static void check_checkpoint(const char *name, const char *family)
{
    const char *folder = golden(name);
    if (!folder)
        skip();
    ft_status st = {0};
    ft_model *m;
    json_t *facts;
    char path[8192];
    setenv("FLEXTRACE_ISA", family, 1);
    snprintf(path, sizeof(path), "%s/golden.json", folder);
    assert_ok(ft_json_read_file(&facts, path, 0, &st), st);
    assert_ok(ft_model_open(&m, folder, &st), st);
    assert_int_equal(ft_model_unexpected_count(m), 0);
    for (int i = 0; i < 3; i++)
        check_prompt(m, folder, facts, i);
    size_t at;
    json_t *one;
    json_array_foreach(json_object_get(facts, "optout"), at, one) for (int i = 0; i < 3; i++)
        check_opt_out(m, folder, one, i);
    ft_npy inv = load(folder, "inv_freq.npy");
    float got[256], scaling;
    const ft_model_config *c = ft_model_get_config(m);
    ft_rope_frequencies(&c->rope, c->head_dim, c->max_position, got, &scaling);
    assert_memory_equal(got, inv.data, inv.count * sizeof(*got));
    ft_npy_close(&inv);
    ft_model_close(m);
    json_decref(facts);
    unsetenv("FLEXTRACE_ISA");
}

static void check_in_every_family(const char *name)
{
    unsetenv("FLEXTRACE_ISA");
    const unsigned isa = ft_cpu_isa();
    check_checkpoint(name, "scalar");
    if (isa & FT_ISA_AVX2)
        check_checkpoint(name, "avx2");
    if (isa & FT_ISA_AVX512)
        check_checkpoint(name, "avx512");
}

/* --- Parity ------------------------------------------------------------------------------ */

static void float32_of_the_older_config_agrees_with_transformers(void **state)
{
    (void)state;
    check_in_every_family("tiny");
}

static void bfloat16_shards_agree_with_transformers(void **state)
{
    (void)state;
    check_in_every_family("gqa-7x");
}

static void float16_tied_and_normalised_weights_agree_with_transformers(void **state)
{
    (void)state;
    check_in_every_family("normtopk");
}

static void yarn_agrees_with_transformers(void **state)
{
    (void)state;
    check_in_every_family("rope-yarn");
}

static void an_explicit_head_dim_agrees_with_transformers(void **state)
{
    (void)state;
    check_in_every_family("head-dim");
}

static void dense_olmo2_agrees_with_transformers(void **state)
{
    (void)state;
    check_in_every_family("dense-olmo2");
}

/* Six prompts on the demo checkpoint: 48 greedy tokens, and experts and weights of
 * every layer. golden.json has the weights to six digits of float32 arithmetic. */
static void the_demo_checkpoint_agrees_with_transformers(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    json_t *all;
    const char *folder = ft_test_source("demo/model");
    assert_ok(ft_model_open(&m, folder, &st), st);
    assert_ok(ft_json_read_file(&all, ft_test_source("demo/model/golden.json"), 0, &st), st);
    size_t i;
    json_t *prompt;
    json_array_foreach(json_object_get(all, "prompts"), i, prompt)
    {
        uint32_t *ids, *greedy;
        size_t n, greedy_count;
        assert_ok(ft_json_get_ids(prompt, "ids", &ids, &n, &st), st);
        assert_ok(ft_json_get_ids(prompt, "greedy_ids", &greedy, &greedy_count, &st), st);
        reading r = read_ids(m, ids, n, 0);
        const ft_routing g = ft_session_routing(r.session);
        for (size_t l = 0; l < g.layers; l++) {
            const json_t *layer = json_array_get(json_object_get(prompt, "layers"), l);
            for (size_t t = 0; t < n; t++)
                for (size_t j = 0; j < g.top_k; j++) {
                    const size_t at = (t * g.layers + l) * g.top_k + j;
                    const json_t *e = json_array_get(json_array_get(json_object_get(layer, "experts"), t), j);
                    const json_t *w = json_array_get(json_array_get(json_object_get(layer, "weights"), t), j);
                    assert_int_equal(g.expert_ids[at], json_integer_value(e));
                    assert_true(fabs((double)g.weights[at] - json_number_value(w)) <= PROBS);
                }
        }
        check_greedy(&r, "demo", greedy, greedy_count);
        end_reading(&r);
        free(ids);
        free(greedy);
    }
    json_decref(all);
    ft_model_close(m);
}

/* --- Rotary frequencies ---------------------------------------------------------------- */

static void rope_tables_agree_with_transformers(void **state)
{
    (void)state;
    ft_status st = {0};
    json_t *all;
    assert_ok(ft_json_read_file(&all, ft_test_source("tests/vectors/model/rope_tables.json"), 0, &st), st);
    size_t i;
    json_t *row;
    json_array_foreach(all, i, row)
    {
        fixture f = FIXTURE;
        char extra[1024], name[32], *rope = json_dumps(json_object_get(row, "rope_parameters"), JSON_COMPACT);
        snprintf(extra, sizeof(extra), ", \"rope_parameters\": %s", rope);
        snprintf(name, sizeof(name), "rope-%zu", i);
        f.config = extra;
        ft_model_config c;
        assert_ok(ft_folder_make(ft_test_path(name), &st), st);
        fixture_put_config(ft_test_path(name), &f);
        assert_ok(ft_model_config_read(&c, ft_test_path(name), &st), st);
        float got[128], scaling;
        const size_t head_dim = (size_t)json_integer_value(json_object_get(row, "head_dim"));
        ft_rope_frequencies(&c.rope, head_dim, 512, got, &scaling);
        const json_t *want = json_object_get(row, "inv_freq");
        for (size_t d = 0; d < head_dim / 2; d++) { /* the table has nine digits: enough to name a float32 */
            const float w = (float)json_number_value(json_array_get(want, d));
            if (fabsf(got[d] - w) > 1.2e-7f * w)
                fail_msg("%s: dimension %zu: %.9g, not %.9g", rope, d, (double)got[d], (double)w);
        }
        assert_true(fabs((double)scaling - json_number_value(json_object_get(row, "attention_scaling"))) < 1e-7);
        free(rope);
    }
    json_decref(all);
}

/* --- Bits --------------------------------------------------------------------------------- */

enum { LONG = 150 };

static void random_ids(uint32_t *ids, size_t n, size_t vocab, uint64_t seed)
{
    ft_random r;
    ft_random_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)ft_random_below(&r, vocab);
}

/* Reads LONG ids in the chunks that `cut` says (0: all at once) on `threads`. */
static void read_in_chunks(const ft_model *m, const uint32_t *ids, unsigned threads, size_t cut, float *logits,
                           ft_buffer *routing)
{
    ft_status st = {0};
    ft_pool *pool;
    ft_session *s;
    ft_random r;
    ft_random_init(&r, cut);
    assert_ok(ft_pool_new(&pool, threads, &st), st);
    assert_ok(ft_session_open(&s, m, pool, &(ft_session_options){.capture_routing = 1}, &st), st);
    for (size_t at = 0; at < LONG;) {
        size_t n = cut == 0 ? LONG : cut == 1 ? 1 : 1 + ft_random_below(&r, cut);
        n = n < LONG - at ? n : LONG - at;
        const ft_outputs out = {.logits = logits + at * ft_model_get_config(m)->vocab};
        assert_ok(ft_session_read(s, ids + at, n, &out, NULL, &st), st);
        at += n;
    }
    const ft_routing g = ft_session_routing(s);
    routing->size = 0;
    assert_ok(ft_buffer_append(routing, g.probs, g.tokens * g.layers * g.experts * sizeof(float), &st), st);
    assert_ok(ft_buffer_append(routing, g.expert_ids, g.tokens * g.layers * g.top_k, &st), st);
    assert_ok(ft_buffer_append(routing, g.weights, g.tokens * g.layers * g.top_k * sizeof(float), &st), st);
    ft_session_close(s);
    ft_pool_free(pool);
}

static void check_bits(const char *folder)
{
    static const size_t cuts[] = {1, 2, 7, 40, 90};
    ft_status st = {0};
    ft_model *m;
    assert_ok(ft_model_open(&m, folder, &st), st);
    const size_t V = ft_model_get_config(m)->vocab;
    uint32_t ids[LONG];
    random_ids(ids, LONG, V, 7);
    float *whole = ft_alloc_array(LONG * V, sizeof(*whole)), *parts = ft_alloc_array(LONG * V, sizeof(*parts));
    ft_buffer want = {0}, got = {0};
    read_in_chunks(m, ids, 1, 0, whole, &want);
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++)
        for (unsigned threads = 1; threads <= 3; threads++) {
            read_in_chunks(m, ids, threads, cuts[i], parts, &got);
            if (memcmp(whole, parts, LONG * V * sizeof(*whole)) != 0 || memcmp(want.data, got.data, want.size) != 0)
                fail_msg("%s: chunks up to %zu on %u threads change bits", folder, cuts[i], threads);
        }
    ft_buffer_release(&want);
    ft_buffer_release(&got);
    free(whole);
    free(parts);
    ft_model_close(m);
}

static void bits_depend_neither_on_chunks_nor_on_threads(void **state)
{
    (void)state;
    static const char *const families[] = {"scalar", "avx2", "avx512"};
    /* Widths that are no multiple of a vector, and work that is worth several threads. */
    const fixture f = {.hidden = 72,
                       .intermediate = 150,
                       .layers = 2,
                       .heads = 6,
                       .kv_heads = 2,
                       .head_dim = 14,
                       .experts = 5,
                       .top_k = 3,
                       .vocab = 333,
                       .half = 1,
                       .config = ""};
    const char *folder = fixture_write("bits", &f);
    for (size_t i = 0; i < 3; i++) {
        setenv("FLEXTRACE_ISA", families[i], 1);
        check_bits(folder);
    }
    unsetenv("FLEXTRACE_ISA");
}

static void a_rewound_session_reads_on_as_if_nothing_had_been(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_session *s;
    assert_ok(ft_model_open(&m, fixture_write("rewind", &FIXTURE), &st), st);
    uint32_t ids[20];
    random_ids(ids, 20, FIXTURE.vocab, 3);
    float first[40], again[40];
    assert_ok(ft_session_open(&s, m, NULL, NULL, &st), st);
    assert_ok(ft_session_read(s, ids, 20, &(ft_outputs){.last_logits = first}, NULL, &st), st);
    ft_session_rewind(s, 5);
    assert_int_equal(ft_session_length(s), 5);
    ft_session_rewind(s, 50); /* no further than it is */
    assert_int_equal(ft_session_length(s), 5);
    assert_ok(ft_session_read(s, ids + 5, 15, &(ft_outputs){.last_logits = again}, NULL, &st), st);
    assert_memory_equal(first, again, sizeof(first));
    ft_session_close(s);
    ft_model_close(m);
}

/* --- Layouts and opt-outs ---------------------------------------------------------------- */

static void read_fixture(const char *name, const fixture *f, uint64_t without, float *logits, size_t n)
{
    ft_status st = {0};
    ft_model *m;
    uint32_t ids[16];
    random_ids(ids, 16, f->vocab, 11);
    assert_ok(ft_model_open(&m, fixture_write(name, f), &st), st);
    reading r = read_ids(m, ids, 16, without);
    assert_int_equal(n, 16 * f->vocab);
    memcpy(logits, r.logits, n * sizeof(*logits));
    end_reading(&r);
    ft_model_close(m);
}

enum { FIXTURE_LOGITS = 16 * 40 };

static void every_layout_of_the_same_weights_gives_the_same_bits(void **state)
{
    (void)state;
    float want[FIXTURE_LOGITS], got[FIXTURE_LOGITS];
    for (int half = 0; half < 2; half++)
        for (int fused = 0; fused < 2; fused++)
            for (int shards = 0; shards < 4; shards += 3) {
                fixture f = FIXTURE;
                char name[32];
                f.half = half;
                f.fused = fused;
                f.shards = shards;
                snprintf(name, sizeof(name), "layout-%d%d%d", half, fused, shards);
                read_fixture(name, &f, 0, fused || shards || half ? got : want, FIXTURE_LOGITS);
                if (fused || shards || half) /* the weights are exact in bfloat16, and widened exactly */
                    assert_memory_equal(got, want, sizeof(want));
            }
}

static void the_digest_is_that_of_the_tensors_not_of_the_files(void **state)
{
    (void)state;
    ft_digest digests[3];
    for (int i = 0; i < 3; i++) {
        ft_status st = {0};
        ft_model *m;
        fixture f = FIXTURE;
        char name[32];
        f.shards = i == 1 ? 2 : 0;
        f.half = i == 2;
        snprintf(name, sizeof(name), "digest-%d", i);
        assert_ok(ft_model_open(&m, fixture_write(name, &f), &st), st);
        assert_ok(ft_model_digest(m, &digests[i], &st), st);
        ft_model_close(m);
    }
    assert_memory_equal(&digests[0], &digests[1], sizeof(digests[0]));
    assert_memory_not_equal(&digests[0], &digests[2], sizeof(digests[0]));
}

static void weights_of_an_expert_that_is_left_out_are_never_read(void **state)
{
    (void)state;
    float want[FIXTURE_LOGITS], got[FIXTURE_LOGITS];
    fixture f = FIXTURE;
    read_fixture("sound", &f, 1 << 1 | 1 << 4, want, FIXTURE_LOGITS);
    f.poison = 1 << 1 | 1 << 4; /* router rows and FFNs are NaN */
    read_fixture("poisoned", &f, f.poison, got, FIXTURE_LOGITS);
    assert_memory_equal(got, want, sizeof(want));
}

static void an_opt_out_leaves_probability_zero_and_the_original_numbers(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    uint32_t ids[16];
    fixture f = FIXTURE;
    f.top_k = 4;
    random_ids(ids, 16, f.vocab, 5);
    assert_ok(ft_model_open(&m, fixture_write("originals", &f), &st), st);
    reading r = read_ids(m, ids, 16, 1 << 0 | 1 << 3);
    const ft_routing g = ft_session_routing(r.session);
    assert_int_equal(g.top_k, 3); /* min(4, experts left) */
    for (size_t i = 0; i < g.tokens * g.layers; i++) {
        double sum = 0;
        for (size_t e = 0; e < g.experts; e++)
            sum += (double)g.probs[i * g.experts + e];
        assert_true(fabs(sum - 1) < 1e-6);
        assert_true(g.probs[i * g.experts] == 0 && g.probs[i * g.experts + 3] == 0);
        for (size_t j = 0; j < g.top_k; j++) {
            const uint8_t e = g.expert_ids[i * g.top_k + j];
            assert_true(e == 1 || e == 2 || e == 4);
            assert_true(g.weights[i * g.top_k + j] == g.probs[i * g.experts + e]);
        }
    }
    end_reading(&r);
    ft_session *s;
    assert_int_equal(ft_session_open(&s, m, NULL, &(ft_session_options){.without = 31}, &st), FT_ERR_ARG);
    assert_null(s);
    assert_non_null(strstr(st.msg, "all 5 experts"));
    assert_int_equal(ft_session_open(&s, m, NULL, &(ft_session_options){.without = 1 << 5}, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "expert 5"));
    ft_model_close(m);
}

static void on_a_tie_the_lower_expert_comes_first(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    fixture f = FIXTURE;
    const char *folder = fixture_write("tie", &f);
    assert_ok(ft_model_open(&m, folder, &st), st);
    uint64_t bytes;
    char path[4096];
    snprintf(path, sizeof(path), "%s", ft_model_file(m, 0, &bytes));
    ft_model_close(m);
    /* The router of layer 0 becomes all zeros: every expert is as probable. */
    size_t n;
    char *file = ft_test_read(path, &n), *at = strstr(file + 8, "model.layers.0.mlp.gate.weight");
    assert_non_null(at);
    size_t begin, end;
    assert_int_equal(sscanf(strstr(at, "data_offsets"), "data_offsets\":[%zu,%zu]", &begin, &end), 2);
    uint64_t header;
    memcpy(&header, file, 8);
    memset(file + 8 + header + begin, 0, end - begin);
    ft_test_write(path, file, n);
    free(file);
    assert_ok(ft_model_open(&m, folder, &st), st);
    reading r = read_ids(m, (const uint32_t[]){1, 2, 3}, 3, 1 << 0);
    const ft_routing g = ft_session_routing(r.session);
    for (size_t t = 0; t < 3; t++) {
        assert_int_equal(g.expert_ids[t * g.layers * g.top_k], 1);
        assert_int_equal(g.expert_ids[t * g.layers * g.top_k + 1], 2);
    }
    end_reading(&r);
    ft_model_close(m);
}

/* --- Refusals and faults ------------------------------------------------------------------- */

static void a_session_refuses_what_it_cannot_read_and_stays_as_it_was(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_session *s;
    assert_ok(ft_model_open(&m, fixture_write("refusals", &FIXTURE), &st), st);
    assert_ok(ft_session_open(&s, m, NULL, &(ft_session_options){.max_tokens = 4}, &st), st);
    assert_int_equal(ft_session_read(s, (const uint32_t[]){1, 40}, 2, NULL, NULL, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "token 1 is id 40"));
    assert_ok(ft_session_read(s, (const uint32_t[]){1, 2, 3}, 3, NULL, NULL, &st), st);
    assert_int_equal(ft_session_read(s, (const uint32_t[]){1, 2}, 2, NULL, NULL, &st), FT_ERR_LIMIT);
    assert_int_equal(ft_session_length(s), 3);
    const volatile int stop = 1;
    assert_int_equal(ft_session_read(s, (const uint32_t[]){1}, 1, NULL, &stop, &st), FT_ERR_CANCELLED);
    assert_int_equal(ft_session_length(s), 3);
    assert_ok(ft_session_read(s, NULL, 0, NULL, NULL, &st), st);
    ft_session_close(s);
    assert_int_equal(ft_session_open(&s, m, NULL, &(ft_session_options){.max_tokens = 513}, &st), FT_ERR_LIMIT);
    ft_model_close(m);
}

static void a_decode_step_in_reserved_room_allocates_nothing(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_model *m;
    ft_session *s;
    float logits[40];
    assert_ok(ft_model_open(&m, fixture_write("steady", &FIXTURE), &st), st);
    assert_ok(ft_session_open(&s, m, NULL, &(ft_session_options){.capture_routing = 1}, &st), st);
    for (uint32_t i = 0; i < 200; i++) {
        ft_test_fail_allocation(1);
        const ft_code rc = ft_session_read(s, &i, i < 40, &(ft_outputs){.last_logits = logits}, NULL, &st);
        ft_test_fail_allocation(0);
        assert_ok(rc, st);
        assert_false(ft_test_allocation_failed());
    }
    ft_session_close(s);
    ft_model_close(m);
}

/* Opens, reads past the first reservation, and closes. */
static ft_code open_and_read(void *folder, ft_status *st)
{
    ft_model *m;
    ft_session *s = NULL;
    ft_code rc = ft_model_open(&m, folder, st);
    if (!rc)
        rc = ft_session_open(&s, m, NULL, &(ft_session_options){.capture_routing = 1}, st);
    uint32_t ids[300];
    for (uint32_t i = 0; i < 300; i++)
        ids[i] = i % 40;
    if (!rc) {
        rc = ft_session_read(s, ids, 300, NULL, NULL, st);
        assert_int_equal(ft_session_length(s), rc ? 0 : 300);
    }
    ft_session_close(s);
    ft_model_close(m);
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    fixture f = FIXTURE;
    f.shards = 2;
    ft_test_each_allocation_fails(open_and_read, (void *)(uintptr_t)fixture_write("faults", &f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float32_of_the_older_config_agrees_with_transformers),
        cmocka_unit_test(bfloat16_shards_agree_with_transformers),
        cmocka_unit_test(float16_tied_and_normalised_weights_agree_with_transformers),
        cmocka_unit_test(yarn_agrees_with_transformers),
        cmocka_unit_test(an_explicit_head_dim_agrees_with_transformers),
        cmocka_unit_test(dense_olmo2_agrees_with_transformers),
        cmocka_unit_test(the_demo_checkpoint_agrees_with_transformers),
        cmocka_unit_test(rope_tables_agree_with_transformers),
        cmocka_unit_test(bits_depend_neither_on_chunks_nor_on_threads),
        cmocka_unit_test(a_rewound_session_reads_on_as_if_nothing_had_been),
        cmocka_unit_test(every_layout_of_the_same_weights_gives_the_same_bits),
        cmocka_unit_test(the_digest_is_that_of_the_tensors_not_of_the_files),
        cmocka_unit_test(weights_of_an_expert_that_is_left_out_are_never_read),
        cmocka_unit_test(an_opt_out_leaves_probability_zero_and_the_original_numbers),
        cmocka_unit_test(on_a_tie_the_lower_expert_comes_first),
        cmocka_unit_test(a_session_refuses_what_it_cannot_read_and_stays_as_it_was),
        cmocka_unit_test(a_decode_step_in_reserved_room_allocates_nothing),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
