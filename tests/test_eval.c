/* Bits per byte, multiple choice, ensembles, soups and stacks against plain computation; exact match. */
#include "tests/model_fixture.h"

#include "model/eval/ft_eval_choice.h"
#include "model/eval/ft_eval_combine.h"
#include "model/eval/ft_eval_ensemble.h"
#include "model/eval/ft_eval_generate.h"
#include "model/train/ft_experts.h"

#include <math.h>

enum { VOCAB = 4096, WINDOW = 16 };

static fixture mixture(void)
{
    fixture f = FIXTURE;
    f.vocab = VOCAB; /* that of the tokenizer in demo/flexmix */
    return f;
}

static ft_model *open_model(const char *folder)
{
    ft_model *m;
    ft_status st = {0};
    assert_ok(ft_model_open(&m, folder, &st), st);
    return m;
}

/* Documents of all lengths around the window's, of random ids. */
static ft_eval_text some_text(void)
{
    static const size_t lengths[] = {1, 2, 3, WINDOW, WINDOW + 1, WINDOW + 2, 3 * WINDOW / 2 + 1, 2 * WINDOW, 61};
    enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };
    ft_eval_text t = {.ids = calloc(300, sizeof(*t.ids)), .documents = calloc(COUNT, sizeof(*t.documents))};
    ft_random r;
    ft_random_init(&r, 5);
    for (size_t d = 0; d < COUNT; d++) {
        t.documents[d] = (ft_eval_document){.first = t.tokens, .count = lengths[d], .bytes = 3 * lengths[d]};
        for (size_t i = 0; i < lengths[d]; i++)
            t.ids[t.tokens++] = (uint32_t)ft_random_below(&r, VOCAB);
        t.bytes += 3 * lengths[d];
    }
    t.count = COUNT;
    return t;
}

static double log2_of(const float *logits, uint32_t id)
{
    double top = -INFINITY, sum = 0;
    for (size_t v = 0; v < VOCAB; v++)
        top = fmax(top, (double)logits[v]);
    for (size_t v = 0; v < VOCAB; v++)
        sum += exp((double)logits[v] - top);
    return ((double)logits[id] - top - log(sum)) / log(2);
}

/* The header's words: token t of a document is predicted in the first window that reaches it. */
static void brute_bits(const ft_model *m, uint64_t without, const ft_eval_text *t, double *out, ft_eval_shares *shares)
{
    float *logits = malloc(WINDOW * VOCAB * sizeof(*logits));
    const ft_session_options o = {.without = without, .capture_routing = 1};
    memset(shares, 0, sizeof(*shares));
    for (size_t d = 0; d < t->count; d++) {
        const ft_eval_document *doc = &t->documents[d];
        const uint32_t *ids = t->ids + doc->first;
        out[doc->first] = -log2(VOCAB);
        for (size_t at = 0, known = 1; known < doc->count; at += WINDOW / 2) {
            const size_t n = doc->count - 1 - at < WINDOW ? doc->count - 1 - at : WINDOW;
            const ft_outputs outputs = {.logits = logits};
            ft_session *s;
            ft_status st = {0};
            assert_ok(ft_session_open(&s, m, NULL, &o, &st), st);
            assert_ok(ft_session_read(s, ids + at, n, &outputs, NULL, &st), st);
            const ft_routing r = ft_session_routing(s);
            shares->experts = r.experts;
            for (size_t k = 0; k < n; k++) {
                if (at + k + 1 < known)
                    continue;
                out[doc->first + at + k + 1] = log2_of(logits + k * VOCAB, ids[at + k + 1]);
                for (size_t l = 0; l < r.layers; l++) {
                    const float *w = r.weights + (k * r.layers + l) * r.top_k;
                    const uint8_t *e = r.expert_ids + (k * r.layers + l) * r.top_k;
                    for (size_t j = 0; j < r.top_k; j++)
                        shares->weight[e[j]] += (double)w[j] / ((double)w[0] + (r.top_k > 1 ? (double)w[1] : 0));
                    shares->first[e[0]] += 1;
                    shares->decisions++;
                }
            }
            known = at + n + 1;
            ft_session_close(s);
        }
    }
    free(logits);
}

static void bits_and_shares_are_those_of_plain_forward_passes(void **state)
{
    (void)state;
    const fixture f = mixture();
    ft_model *m = open_model(fixture_write("bits", &f));
    ft_eval_text t = some_text();
    double *want = malloc(t.tokens * sizeof(*want)), sum = 0;
    float *got = malloc(t.tokens * sizeof(*got)), *again = malloc(t.tokens * sizeof(*again));
    for (uint64_t without = 0; without <= 0x1e; without += 0x1e) { /* all, and one expert alone */
        ft_eval_shares a, b;
        ft_scorer *s;
        ft_pool *pool;
        ft_status st = {0};
        brute_bits(m, without, &t, want, &a);
        assert_ok(ft_scorer_new(&s, m, NULL, WINDOW, without, 1, &st), st);
        assert_ok(ft_eval_bits(s, &t, got, &b, NULL, &st), st);
        ft_scorer_free(s);
        sum = 0;
        for (size_t i = 0; i < t.tokens; i++) {
            if (fabs(want[i] - (double)got[i]) > 2e-5 * (1 + fabs(want[i]))) /* float32 logits, softmax in float32 */
                fail_msg("token %zu: %.8f, plain %.8f", i, (double)got[i], want[i]);
            sum -= want[i];
        }
        assert_true(fabs(ft_eval_bits_per_byte(&t, got) - sum / (double)t.bytes) < 1e-4);
        assert_int_equal(a.decisions, b.decisions);
        for (size_t e = 0; e < a.experts; e++) {
            assert_true(fabs(a.weight[e] - b.weight[e]) < 1e-9 * (1 + a.weight[e]));
            assert_true(a.first[e] == b.first[e]);
        }
        /* On two threads: the same bits. */
        assert_ok(ft_pool_new(&pool, 2, &st), st);
        assert_ok(ft_scorer_new(&s, m, pool, WINDOW, without, 0, &st), st);
        assert_ok(ft_eval_bits(s, &t, again, NULL, NULL, &st), st);
        assert_memory_equal(got, again, t.tokens * sizeof(*got));
        ft_scorer_free(s);
        ft_pool_free(pool);
    }
    free(want);
    free(got);
    free(again);
    ft_eval_text_close(&t);
    ft_model_close(m);
}

static int stop_at_once(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)context, (void)phase, (void)done, (void)total, (void)unit;
    return 1;
}

static void what_cannot_be_scored_is_refused_by_name(void **state)
{
    (void)state;
    fixture f = mixture();
    ft_model *m = open_model(fixture_write("refuse", &f));
    ft_scorer *s;
    ft_status st = {0};
    uint32_t ids[] = {1, 2}, bad[] = {1, VOCAB};
    float out[2];
    assert_int_equal(ft_scorer_new(&s, m, NULL, 513, 0, 0, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "513 tokens; the model has 512 positions"));
    assert_int_equal(ft_scorer_new(&s, m, NULL, 1, 0, 0, &st), FT_ERR_ARG);
    assert_ok(ft_scorer_new(&s, m, NULL, 8, 0, 0, &st), st);
    const ft_score wrong = {.ids = ids, .targets = bad, .count = 2, .out = out};
    assert_int_equal(ft_scorer_read(s, &wrong, 1, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "id 4096 is outside the vocabulary"));
    ft_eval_text t = some_text();
    float *got = malloc(t.tokens * sizeof(*got));
    const ft_progress stop = {.report = stop_at_once};
    assert_int_equal(ft_eval_bits(s, &t, got, NULL, &stop, &st), FT_ERR_CANCELLED);
    ft_scorer_free(s);
    ft_model_close(m);
    f.poison = 1; /* a router row of NaN makes every logit NaN */
    m = open_model(fixture_write("poison", &f));
    assert_ok(ft_scorer_new(&s, m, NULL, 8, 0, 0, &st), st);
    assert_int_equal(ft_eval_bits(s, &t, got, NULL, NULL, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "not finite"));
    ft_scorer_free(s);
    ft_model_close(m);
    free(got);
    ft_eval_text_close(&t);
}

/* --- Ensembles ---------------------------------------------------------------------------------- */

enum { MODELS = 5 };

/* Products of probabilities themselves, short documents, no logarithms until the end. */
static double plain_mix(double past[MODELS], float *const *log2p, size_t top, size_t t)
{
    int used[MODELS] = {0};
    double weights = 0, sum = 0;
    for (size_t k = 0; k < top; k++) {
        size_t best = MODELS;
        for (size_t m = 0; m < MODELS; m++)
            if (!used[m] && (best == MODELS || past[m] > past[best]))
                best = m;
        used[best] = 1;
        weights += past[best];
        sum += past[best] * pow(2, (double)log2p[best][t]);
    }
    for (size_t m = 0; m < MODELS; m++)
        past[m] *= pow(2, (double)log2p[m][t]);
    return log2(sum / weights);
}

static void a_mix_weighs_models_by_what_they_made_of_the_document_so_far(void **state)
{
    (void)state;
    ft_eval_text t = some_text();
    float *log2p[MODELS], *out = malloc(t.tokens * sizeof(*out));
    ft_random r;
    ft_random_init(&r, 9);
    for (size_t m = 0; m < MODELS; m++) {
        log2p[m] = malloc(t.tokens * sizeof(**log2p));
        for (size_t i = 0; i < t.tokens; i++)
            log2p[m][i] = (float)(-6 * ft_random_unit(&r));
    }
    for (size_t top = 1; top <= MODELS; top++) {
        ft_eval_mix(out, (const float *const *)log2p, MODELS, top == MODELS ? 0 : top, &t);
        for (size_t d = 0; d < t.count; d++) {
            double past[MODELS] = {1, 1, 1, 1, 1};
            for (size_t i = t.documents[d].first; i < t.documents[d].first + t.documents[d].count; i++) {
                const double want = plain_mix(past, log2p, top, i);
                assert_true(fabs(want - (double)out[i]) < 1e-5);
            }
        }
    }
    /* Where every model finds a token all but impossible, the mix does too, and stays finite. */
    for (size_t m = 0; m < MODELS; m++)
        log2p[m][t.documents[3].first + 2] = -4000;
    ft_eval_mix(out, (const float *const *)log2p, MODELS, 2, &t);
    assert_true(isfinite(out[t.documents[3].first + 2]) && out[t.documents[3].first + 2] <= -4000);
    for (size_t m = 0; m < MODELS; m++)
        free(log2p[m]);
    free(out);
    ft_eval_text_close(&t);
}

/* --- Soup and stack --------------------------------------------------------------------------------- */

static const fixture DENSE = {.hidden = 16,
                              .intermediate = 20,
                              .layers = 2,
                              .heads = 2,
                              .kv_heads = 2,
                              .head_dim = 8,
                              .vocab = VOCAB,
                              .config = ""};

/* The fixture's model with every value moved by its own amount. */
static void write_branch(const char *public, size_t number, char *folder)
{
    ft_parameters p;
    ft_status st = {0};
    assert_ok(ft_parameters_open(&p, public, &st), st);
    for (size_t i = 0; i < p.count; i++)
        for (size_t k = 0; k < p.all[i].count; k++)
            p.all[i].value[k] += (float)number * 0.01f * (float)(k % 7);
    snprintf(folder, 600, "%s-%zu", ft_test_path("branch"), number);
    assert_ok(ft_model_export(&p, public, folder, 0, &st), st);
    ft_parameters_close(&p);
}

static void a_soup_is_the_mean_and_a_stack_keeps_each_ffn(void **state)
{
    (void)state;
    enum { COUNT = 3 };
    char folders[COUNT][600];
    const char *models[COUNT], *soup = ft_test_path("soup");
    char stack[600];
    ft_parameters of[COUNT], s, x;
    ft_status st = {0};
    const char *public = fixture_write("dense", &DENSE);
    snprintf(stack, sizeof(stack), "%s", ft_test_path("stack"));
    for (size_t i = 0; i < COUNT; i++) {
        write_branch(public, i, folders[i]);
        models[i] = folders[i];
        assert_ok(ft_parameters_open(&of[i], models[i], &st), st);
    }
    assert_ok(ft_eval_soup(models, COUNT, soup, &st), st);
    assert_ok(ft_parameters_open(&s, soup, &st), st);
    for (size_t i = 0; i < s.count; i++)
        for (size_t k = 0; k < s.all[i].count; k++) {
            double mean = 0;
            for (size_t m = 0; m < COUNT; m++)
                mean += (double)of[m].all[i].value[k] / COUNT;
            assert_true(fabs(mean - (double)s.all[i].value[k]) < 1e-6);
        }
    assert_ok(ft_eval_stack(models, COUNT, 2, 4, stack, &st), st);
    assert_ok(ft_parameters_open(&x, stack, &st), st);
    assert_int_equal(x.config.experts, COUNT);
    assert_int_equal(x.config.top_k, 2);
    for (size_t l = 0; l < 2; l++) {
        assert_memory_equal(x.layers[l].q->value, s.layers[l].q->value, x.layers[l].q->count * sizeof(float));
        for (size_t e = 0; e < COUNT; e++)
            for (size_t i = 0; i < 3; i++)
                assert_memory_equal(x.layers[l].experts[3 * e + i].value, of[e].layers[l].experts[i].value,
                                    x.layers[l].experts[3 * e + i].count * sizeof(float));
        assert_memory_not_equal(x.layers[l].router->value, x.layers[l].router->value + 16, 16 * sizeof(float));
    }
    ft_parameters_close(&x);
    ft_parameters_close(&s);
    for (size_t i = 0; i < COUNT; i++)
        ft_parameters_close(&of[i]);
    const char *moe[] = {public, stack};
    assert_int_equal(ft_eval_soup(moe, 2, ft_test_path("no-soup"), &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "3 experts; dense models are combined"));
}

/* --- Multiple choice ----------------------------------------------------------------------------------- */

static ft_tokenizer *tokenizer(void)
{
    ft_tokenizer *t;
    ft_status st = {0};
    assert_ok(ft_tokenizer_open(&t, ft_test_source("demo/flexmix"), &st), st);
    return t;
}

/* log p of a choice's tokens after a context's, by one pass over both. */
static double plain_sum(const ft_model *m, const ft_tokenizer *t, const char *context, const char *choice)
{
    ft_encoder *e;
    ft_encoding a = {0}, b = {0};
    ft_session *s;
    ft_status st = {0};
    uint32_t ids[256];
    assert_ok(ft_encoder_new(&e, t, &st), st);
    assert_ok(ft_encoder_encode(e, context, strlen(context), &a, &st), st);
    assert_ok(ft_encoder_encode(e, choice, strlen(choice), &b, &st), st);
    memcpy(ids, a.ids, a.count * sizeof(*ids));
    memcpy(ids + a.count, b.ids, b.count * sizeof(*ids));
    const size_t n = a.count + b.count;
    float *logits = malloc(n * VOCAB * sizeof(*logits));
    const ft_outputs out = {.logits = logits};
    assert_ok(ft_session_open(&s, m, NULL, NULL, &st), st);
    assert_ok(ft_session_read(s, ids, n, &out, NULL, &st), st);
    double sum = 0;
    for (size_t i = a.count; i < n; i++)
        sum += log(2) * log2_of(logits + (i - 1) * VOCAB, ids[i]);
    ft_session_close(s);
    free(logits);
    ft_encoding_release(&a);
    ft_encoding_release(&b);
    ft_encoder_free(e);
    return sum;
}

static const struct {
    const char *context, *uncond;
    const char *choices[4];
    size_t ways, gold;
} items[] = {
    {"Question: What falls from clouds?\nAnswer:", "Answer:", {" rain", " a stone", " the moon", " x"}, 4, 0},
    {"Which is green?", "Answer:", {" grass", " coal, black as the night"}, 2, 1},
    {"\xc3\x9c"
     "ber: what does it mean?",
     "Answer:",
     {" \xc3\xbc"
      "ber",
      " over", " under the table"},
     3,
     1},
    {"A", "B", {" C", " D"}, 2, 1},
};
enum { ITEMS = sizeof(items) / sizeof(items[0]) };

static const char *write_items(int with_uncond)
{
    ft_buffer lines = {0};
    for (size_t i = 0; i < ITEMS; i++) {
        json_t *choices = json_array();
        for (size_t c = 0; c < items[i].ways; c++)
            json_array_append_new(choices, json_string(items[i].choices[c]));
        json_t *o = json_pack("{s:s, s:o, s:I}", "context", items[i].context, "choices", choices, "gold",
                              (json_int_t)items[i].gold);
        if (with_uncond)
            json_object_set_new(o, "uncond_context", json_string(items[i].uncond));
        char *text = json_dumps(o, JSON_COMPACT);
        assert_int_equal(ft_buffer_printf(&lines, NULL, "%s\n", text), FT_OK);
        free(text);
        json_decref(o);
    }
    const char *path = ft_test_write(with_uncond ? "items.jsonl" : "bare.jsonl", lines.data, lines.size);
    ft_buffer_release(&lines);
    return path;
}

static void choices_are_scored_as_one_pass_over_context_and_choice_scores_them(void **state)
{
    (void)state;
    const fixture f = mixture();
    ft_model *m = open_model(fixture_write("choose", &f));
    ft_tokenizer *t = tokenizer();
    ft_eval_choices want = {0}, got;
    ft_scorer *s;
    ft_status st = {0};
    for (size_t i = 0; i < ITEMS; i++) {
        size_t acc = 0, per_byte = 0, per_char = 0, uncond = 0;
        double sum[4], bytes[4], chars[4], without[4];
        for (size_t c = 0; c < items[i].ways; c++) {
            sum[c] = plain_sum(m, t, items[i].context, items[i].choices[c]);
            without[c] = sum[c] - plain_sum(m, t, items[i].uncond, items[i].choices[c]);
            bytes[c] = chars[c] = (double)strlen(items[i].choices[c]);
            chars[c] -= strchr(items[i].choices[c], '\xc3') != NULL; /* one character of two bytes */
            acc = sum[c] > sum[acc] ? c : acc;
            per_byte = sum[c] / bytes[c] > sum[per_byte] / bytes[per_byte] ? c : per_byte;
            per_char = sum[c] / chars[c] > sum[per_char] / chars[per_char] ? c : per_char;
            uncond = without[c] > without[uncond] ? c : uncond;
        }
        want.acc += (acc == items[i].gold) / (double)ITEMS;
        want.acc_per_byte += (per_byte == items[i].gold) / (double)ITEMS;
        want.acc_per_char += (per_char == items[i].gold) / (double)ITEMS;
        want.acc_uncond += (uncond == items[i].gold) / (double)ITEMS;
        want.bpb -= sum[items[i].gold] / (log(2) * bytes[items[i].gold]) / ITEMS;
        want.chance += 1 / (double)items[i].ways / ITEMS;
    }
    assert_ok(ft_scorer_new(&s, m, NULL, 0, 0, 0, &st), st);
    assert_ok(ft_eval_choose(&got, s, t, write_items(1), 0, NULL, &st), st);
    assert_int_equal(got.items, ITEMS);
    const double pairs[][2] = {{want.acc, got.acc},
                               {want.acc_per_byte, got.acc_per_byte},
                               {want.acc_per_char, got.acc_per_char},
                               {want.acc_uncond, got.acc_uncond},
                               {want.bpb, got.bpb},
                               {want.chance, got.chance}};
    for (size_t i = 0; i < 6; i++)
        assert_true(fabs(pairs[i][0] - pairs[i][1]) < 1e-5 * (1 + fabs(pairs[i][0])));
    assert_ok(ft_eval_choose(&got, s, t, write_items(0), 2, NULL, &st), st);
    assert_int_equal(got.items, 2);
    assert_true(isnan(got.acc_uncond));
    ft_scorer_free(s);
    ft_tokenizer_close(t);
    ft_model_close(m);
}

static void a_context_beyond_the_window_loses_its_beginning(void **state)
{
    (void)state;
    const fixture f = mixture();
    ft_model *m = open_model(fixture_write("long", &f));
    ft_tokenizer *t = tokenizer();
    ft_scorer *s;
    ft_eval_choices a, b;
    ft_status st = {0};
    /* " a" is one token each; the window of 8 holds 7 of them, for the choice's one token is predicted, not read,
     * and both choices are as long. */
    const char *one = "{\"context\":\" a a a a a a a a a a a a a a\",\"choices\":[\" b\",\" c\"],\"gold\":0}\n";
    const char *two = "{\"context\":\" a a a a a a a a\",\"choices\":[\" b\",\" c\"],\"gold\":0}\n";
    assert_ok(ft_scorer_new(&s, m, NULL, 8, 0, 0, &st), st);
    assert_ok(ft_eval_choose(&a, s, t, ft_test_write("one.jsonl", one, strlen(one)), 0, NULL, &st), st);
    assert_ok(ft_eval_choose(&b, s, t, ft_test_write("two.jsonl", two, strlen(two)), 0, NULL, &st), st);
    assert_true(a.bpb == b.bpb);
    ft_scorer_free(s);
    ft_tokenizer_close(t);
    ft_model_close(m);
}

static void an_item_that_is_none_is_named_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } bad[] = {{"[1]", ":2: not a JSON object"},
               {"{\"choices\":[\" a\",\" b\"],\"gold\":0}", "context\" is missing"},
               {"{\"context\":\"x\",\"choices\":[\" a\"],\"gold\":0}", "must be 2 to 64 strings"},
               {"{\"context\":\"x\",\"choices\":[\" a\",3],\"gold\":0}", "must be strings"},
               {"{\"context\":\"x\",\"choices\":[\" a\",\"\"],\"gold\":0}", "one is empty"},
               {"{\"context\":\"x\",\"choices\":[\" a\",\" b\"]}", "gold\" is missing"},
               {"{\"context\":\"x\",\"choices\":[\" a\",\" b\"],\"gold\":2}", ":2"}};
    const fixture f = mixture();
    ft_model *m = open_model(fixture_write("bad", &f));
    ft_tokenizer *t = tokenizer();
    ft_scorer *s;
    ft_status st = {0};
    assert_ok(ft_scorer_new(&s, m, NULL, 0, 0, 0, &st), st);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[300];
        ft_eval_choices c;
        const int n = snprintf(text, sizeof(text), "{\"context\":\"x\",\"choices\":[\" a\",\" b\"],\"gold\":0}\n%s\n",
                               bad[i].line);
        assert_int_not_equal(ft_eval_choose(&c, s, t, ft_test_write("bad.jsonl", text, (size_t)n), 0, NULL, &st),
                             FT_OK);
        if (!strstr(st.msg, bad[i].says) || !strstr(st.msg, "bad.jsonl:2"))
            fail_msg("%s: said '%s'", bad[i].line, st.msg);
    }
    ft_scorer_free(s);
    ft_tokenizer_close(t);
    ft_model_close(m);
}

/* --- Exact match ----------------------------------------------------------------------------------------- */

static void exact_match_counts_the_answers_that_the_greedy_text_gives(void **state)
{
    (void)state;
    const fixture f = mixture();
    ft_model *m = open_model(fixture_write("exact", &f));
    ft_tokenizer *t = tokenizer();
    ft_encoder *e;
    ft_buffer lines = {0};
    ft_status st = {0};
    assert_ok(ft_encoder_new(&e, t, &st), st);
    static const char *const prompts[] = {"One two", "Three, and a longer one", "Four"};
    for (size_t i = 0; i < 3; i++) {
        ft_encoding ids = {0};
        ft_generation *g;
        assert_ok(ft_encoder_encode(e, prompts[i], strlen(prompts[i]), &ids, &st), st);
        const ft_generate_request r = {
            .prompt = ids.ids, .prompt_count = ids.count, .max_new_tokens = 6, .sampling = {.top_p = 1}};
        ft_buffer text = {0};
        assert_ok(ft_generation_open(&g, m, NULL, NULL, &r, &st), st);
        while (ft_generation_get(g).finish == FT_FINISH_NONE)
            assert_ok(ft_generation_step(g, &st), st);
        const ft_generation_state said = ft_generation_get(g);
        assert_ok(ft_tokenizer_decode(t, said.ids, said.count, FT_DECODE_SKIP_SPECIAL, &text, &st), st);
        json_t *o = json_pack("{s:s, s:s}", "prompt", prompts[i], "answer", i == 1 ? "nothing" : text.data);
        char *line = json_dumps(o, JSON_COMPACT);
        assert_int_equal(ft_buffer_printf(&lines, NULL, "%s\n", line), FT_OK);
        free(line);
        json_decref(o);
        ft_generation_close(g);
        ft_encoding_release(&ids);
        ft_buffer_release(&text);
    }
    const char *path = ft_test_write("exact.jsonl", lines.data, lines.size);
    ft_eval_exact x;
    ft_eval_exact_options o = {.new_tokens = 6};
    assert_ok(ft_eval_match(&x, m, NULL, t, path, &o, NULL, &st), st);
    assert_int_equal(x.items, 3);
    assert_int_equal(x.right, 2);
    o.after = "The answer is"; /* which none of them says */
    assert_ok(ft_eval_match(&x, m, NULL, t, path, &o, NULL, &st), st);
    assert_int_equal(x.right, 0);
    o.new_tokens = 512;
    assert_int_equal(ft_eval_match(&x, m, NULL, t, path, &o, NULL, &st), FT_ERR_ARG);
    ft_buffer_release(&lines);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
    ft_model_close(m);
}

/* --- Texts -------------------------------------------------------------------------------------------------- */

static void a_text_is_its_documents_ids_each_with_an_end(void **state)
{
    (void)state;
    static const char rows[] = "{\"id\":\"a\",\"text\":\"One two\"}\n{\"id\":\"e\",\"text\":\"\"}\n"
                               "{\"id\":\"b\",\"text\":\"\xc3\xbc\"}\n{\"id\":\"c\",\"text\":\"three\"}\n";
    const char *path = ft_test_write("text.jsonl", rows, sizeof(rows) - 1);
    ft_tokenizer *t = tokenizer();
    ft_eval_text x;
    ft_status st = {0};
    assert_ok(ft_eval_text_open(&x, &path, 1, t, VOCAB, 0, NULL, &st), st);
    assert_int_equal(x.count, 3);
    assert_int_equal(x.bytes, 7 + 2 + 5);
    assert_string_equal(x.documents[1].id, "b");
    for (size_t d = 0; d < x.count; d++) {
        const ft_eval_document *doc = &x.documents[d];
        ft_buffer text = {0};
        assert_int_equal(x.ids[doc->first + doc->count - 1], 0);
        assert_ok(ft_tokenizer_decode(t, x.ids + doc->first, doc->count - 1, 0, &text, &st), st);
        assert_int_equal(text.size, doc->bytes);
        ft_buffer_release(&text);
    }
    ft_eval_text_close(&x);
    assert_ok(ft_eval_text_open(&x, &path, 1, t, VOCAB, 8, NULL, &st), st); /* up to the one that reaches it */
    assert_int_equal(x.count, 2);
    ft_eval_text_close(&x);
    assert_int_equal(ft_eval_text_open(&x, &path, 1, t, 100, 0, NULL, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "another model's tokenizer"));
    ft_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_and_shares_are_those_of_plain_forward_passes),
        cmocka_unit_test(what_cannot_be_scored_is_refused_by_name),
        cmocka_unit_test(a_mix_weighs_models_by_what_they_made_of_the_document_so_far),
        cmocka_unit_test(a_soup_is_the_mean_and_a_stack_keeps_each_ffn),
        cmocka_unit_test(choices_are_scored_as_one_pass_over_context_and_choice_scores_them),
        cmocka_unit_test(a_context_beyond_the_window_loses_its_beginning),
        cmocka_unit_test(an_item_that_is_none_is_named_with_its_line),
        cmocka_unit_test(exact_match_counts_the_answers_that_the_greedy_text_gives),
        cmocka_unit_test(a_text_is_its_documents_ids_each_with_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
