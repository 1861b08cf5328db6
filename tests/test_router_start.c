/* A router before training, and its biases folded away after it. */
#include "tests/model_fixture.h"

#include "base/ft_npy.h"
#include "model/ft_model.h"
#include "model/train/ft_experts.h"
#include "model/train/router_states.h"

#include <math.h>

enum { LENGTH = 16, WINDOWS = 24, TOKENS = 400 };

static const fixture DENSE = {
    .hidden = 16, .intermediate = 20, .layers = 2, .heads = 2, .kv_heads = 2, .head_dim = 8, .vocab = 64, .config = ""};

/* Two documents whose ids are those of their kind. */
static ft_train_data *text(int kind)
{
    static int32_t ids[TOKENS];
    const uint64_t starts[3] = {0, TOKENS / 2, TOKENS};
    ft_train_data *d;
    ft_status st = {0};
    for (int i = 0; i < TOKENS; i++)
        ids[i] = kind == 0 ? 1 + i * i % 29 : kind == 1 ? 31 + i * 7 % 23 : 20 + i * 3 % 31;
    assert_ok(ft_train_data_of_ids(&d, ids, starts, 2, &st), st);
    return d;
}

typedef struct start {
    ft_trainer *public;
    ft_parameters dense, pair;
    ft_router_public r;
    ft_train_data *common, *owner;
} start;

static void begin(start *s, int kind)
{
    ft_status st = {0};
    const char *folder = fixture_write("router-dense", &DENSE);
    s->common = text(0);
    s->owner = text(kind);
    assert_ok(ft_trainer_open(&s->public, folder, &(ft_trainer_options){.mode = FT_TRAIN_NOTHING, .threads = 2}, &st),
              st);
    assert_ok(ft_parameters_open(&s->dense, folder, &st), st);
    assert_ok(ft_parameters_add_expert(&s->pair, &s->dense, 1, 0, &st), st);
    assert_ok(ft_router_public_make(&s->r, s->public, s->common, LENGTH, WINDOWS, &st), st);
}

static void end(start *s)
{
    ft_trainer_close(s->public);
    ft_parameters_close(&s->dense);
    ft_parameters_close(&s->pair);
    ft_router_public_close(&s->r);
    ft_train_data_close(s->common);
    ft_train_data_close(s->owner);
}

static double product(const float *row, const double *mean, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)row[i] * mean[i];
    return sum;
}

static void the_public_row_times_a_public_state_is_about_one(void **state)
{
    (void)state;
    start s;
    ft_states p;
    ft_status st = {0};
    begin(&s, 1);
    assert_ok(ft_states_collect(&p, 1, s.public, s.common, LENGTH, WINDOWS, &st), st);
    for (size_t l = 0; l < 2; l++) {
        double squares = 0; /* mean of (c.x)^2 */
        const float *c = s.r.row + l * 16;
        for (size_t i = 0; i < 16; i++)
            squares += (double)c[i] * product(c, p.second + (l * 16 + i) * 16, 16);
        const double mean = product(c, p.mean + l * 16, 16);
        assert_true(mean > 0.5 && mean < 1.01);
        assert_true(squares - mean * mean <
                    0.25); /* of a least-squares fit, mean = mean of squares, but for the ridge */
        assert_true(fabs(squares - mean) < 0.05);
    }
    ft_states_free(&p);
    end(&s);
}

static void the_public_router_is_kept_in_a_file_that_another_model_refuses(void **state)
{
    (void)state;
    start s;
    ft_router_public r;
    ft_status st = {0};
    const char *path = ft_test_path("router.safetensors");
    begin(&s, 1);
    assert_ok(ft_router_public_save(&s.r, path, &st), st);
    assert_ok(ft_router_public_open(&r, path, &s.dense.config, &st), st);
    assert_memory_equal(r.row, s.r.row, 32 * sizeof(float));
    assert_memory_equal(r.mean, s.r.mean, 32 * sizeof(float));
    assert_int_equal(r.tokens, s.r.tokens);
    ft_router_public_close(&r);
    ft_model_config other = s.dense.config;
    other.hidden = 24;
    assert_int_equal(ft_router_public_open(&r, path, &other, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "model.layers.0.mlp.gate.weight"));
    end(&s);
}

static void every_start_leans_to_the_owner_and_leaves_the_public_row(void **state)
{
    (void)state;
    static const ft_router_init inits[] = {FT_ROUTER_MEAN, FT_ROUTER_DISCRIMINANT, FT_ROUTER_WHITENED};
    ft_status st = {0};
    for (size_t k = 0; k < 3; k++)
        for (int kind = 1; kind < 3; kind++) {
            start s;
            ft_states o, p;
            begin(&s, kind);
            const ft_router_start_options options = {
                .init = inits[k], .owner = s.owner, .public = s.common, .length = LENGTH, .windows = WINDOWS};
            assert_ok(ft_router_start(&s.pair, &s.r, 1, s.public, &options, &st), st);
            assert_ok(ft_states_collect(&o, 0, s.public, s.owner, LENGTH, WINDOWS, &st), st);
            assert_ok(ft_states_collect(&p, 0, s.public, s.common, LENGTH, WINDOWS, &st), st);
            for (size_t l = 0; l < 2; l++) {
                const ft_layer_parameters *y = &s.pair.layers[l];
                const float *rows = y->router->value;
                const double *mo = o.mean + l * 16, *mp = p.mean + l * 16, bias = (double)y->bias->value[0];
                assert_memory_equal(rows, s.r.row + l * 16, 16 * sizeof(float));
                assert_true(bias <= 0);
                const double on = product(rows + 16, mo, 16) - product(rows, mo, 16) + bias;
                const double off = product(rows + 16, mp, 16) - product(rows, mp, 16) + bias;
                assert_true(on > off);
                if (inits[k] == FT_ROUTER_WHITENED && bias < 0)
                    assert_true(fabs(on - 1.5) < 0.01 && fabs(off + 1.5) < 0.01);
                if (inits[k] == FT_ROUTER_DISCRIMINANT && bias < 0)
                    assert_true(fabs(on + off) < 1e-3 * on && on > 0);
            }
            ft_states_free(&o);
            ft_states_free(&p);
            end(&s);
        }
}

static void the_start_of_a_private_run_does_not_depend_on_the_owner(void **state)
{
    (void)state;
    float rows[2][32];
    ft_status st = {0};
    for (int kind = 1; kind < 3; kind++) {
        start s;
        begin(&s, kind);
        const ft_router_start_options options = {.init = FT_ROUTER_PUBLIC};
        assert_ok(ft_router_start(&s.pair, &s.r, 1, NULL, &options, &st), st);
        memcpy(rows[kind - 1], s.pair.layers[1].router->value, sizeof(rows[0]));
        assert_memory_equal(rows[kind - 1], rows[kind - 1] + 16, 16 * sizeof(float));
        end(&s);
    }
    assert_memory_equal(rows[0], rows[1], sizeof(rows[0]));
}

static void two_texts_that_do_not_differ_are_refused(void **state)
{
    (void)state;
    start s;
    ft_status st = {0};
    begin(&s, 0);
    const ft_router_start_options options = {
        .init = FT_ROUTER_DISCRIMINANT, .owner = s.owner, .public = s.common, .length = LENGTH, .windows = WINDOWS};
    assert_int_equal(ft_router_start(&s.pair, &s.r, 1, s.public, &options, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "do not differ"));
    end(&s);
}

/* --- Folding ----------------------------------------------------------------------------------------- */

static void folding_adds_the_bias_times_the_public_row_and_takes_the_bias_out(void **state)
{
    (void)state;
    start s;
    ft_parameters back;
    ft_status st = {0};
    float before[16];
    begin(&s, 1);
    const ft_router_start_options options = {.init = FT_ROUTER_PUBLIC};
    assert_ok(ft_router_start(&s.pair, &s.r, 1, NULL, &options, &st), st);
    s.pair.layers[0].bias->value[0] = -0.75f;
    memcpy(before, s.pair.layers[0].router->value + 16, sizeof(before));
    ft_router_fold(&s.pair, &s.r);
    for (size_t i = 0; i < 16; i++)
        assert_true(s.pair.layers[0].router->value[16 + i] == (float)((double)before[i] - 0.75 * (double)s.r.row[i]));
    assert_memory_equal(s.pair.layers[1].router->value, s.pair.layers[1].router->value + 16, sizeof(before));
    const char *folder = ft_test_path("folded");
    assert_ok(ft_model_export(&s.pair, fixture_write("router-dense", &DENSE), folder, 0, &st), st);
    assert_ok(ft_parameters_open(&back, folder, &st), st);
    assert_null(back.layers[0].bias);
    ft_parameters_close(&back);
    end(&s);
}

static void what_folding_costs_is_measured_on_the_same_text(void **state)
{
    (void)state;
    start s;
    ft_trainer *t;
    ft_fold_report report;
    ft_status st = {0};
    begin(&s, 1);
    const ft_router_start_options options = {
        .init = FT_ROUTER_WHITENED, .owner = s.owner, .public = s.common, .length = LENGTH, .windows = WINDOWS};
    assert_ok(ft_router_start(&s.pair, &s.r, 1, s.public, &options, &st), st);
    for (size_t l = 0; l < 2; l++) {
        s.pair.layers[l].bias->value[0] = 0; /* nothing to fold: nothing may change */
        for (size_t i = 0; i < s.pair.layers[l].experts[3].count; i++)
            s.pair.layers[l].experts[3].value[i] *= 1.5f;
    }
    assert_ok(ft_trainer_new(&t, &s.pair, &(ft_trainer_options){.mode = FT_TRAIN_EXPERT, .recompute = 1}, &st), st);
    assert_ok(ft_router_fold_measured(t, &s.r, s.owner, LENGTH, WINDOWS, &report, &st), st);
    assert_true(report.exact == report.folded && report.agreement == 1 && report.tokens > 0 && report.exact > 0);
    ft_trainer_close(t);
    end(&s);
}

/* --- The constant channel ------------------------------------------------------------------------------- */

/* The dense model with a constant channel, after some steps of training that would move it. */
static ft_trainer *trained_with_a_constant(ft_train_data *d)
{
    ft_status st = {0};
    ft_parameters p;
    ft_trainer *t;
    int32_t ids[LENGTH], labels[LENGTH];
    uint32_t starts[LENGTH];
    const ft_adamw adamw = {.rate = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .decay = 0.5};
    assert_ok(ft_parameters_open(&p, fixture_write("router-constant", &DENSE), &st), st);
    assert_true(ft_parameters_constant(&p) == 0);
    ft_parameters_make_constant(&p);
    assert_ok(ft_trainer_new(&t, &p, &(ft_trainer_options){.mode = FT_TRAIN_ALL}, &st), st);
    for (uint64_t step = 1; step <= 5; step++) {
        const ft_batch b = {.ids = ids, .labels = labels, .begin = starts, .sequences = 1, .length = LENGTH};
        ft_losses losses;
        assert_ok(ft_train_data_window(d, 0, step, LENGTH, ids, labels, starts, &st), st);
        ft_parameters_zero(ft_trainer_parameters(t));
        assert_ok(ft_trainer_gradient(t, &b, 1, &losses, &st), st);
        assert_ok(ft_trainer_update(t, &adamw, step, 1, &st), st);
    }
    return t;
}

static void training_holds_a_constant_channel_and_moves_the_rest(void **state)
{
    (void)state;
    ft_train_data *d = text(0);
    ft_trainer *t = trained_with_a_constant(d);
    const ft_parameters *p = ft_trainer_parameters(t);
    assert_true(ft_parameters_constant(p) == 0.125F);
    assert_true(p->layers[0].after->value[1] != 1 && p->layers[0].q->value[0] != 0);
    p->layers[1].after->value[0] = 1e-30F;
    assert_true(ft_parameters_constant(p) == 0);
    ft_trainer_close(t);
    ft_train_data_close(d);
}

static void with_a_constant_channel_folding_a_bias_changes_nothing(void **state)
{
    (void)state;
    ft_train_data *common = text(0), *owner = text(1);
    ft_trainer *public = trained_with_a_constant(common), *t;
    ft_parameters pair;
    ft_router_public r;
    ft_fold_report report;
    ft_status st = {0};
    assert_ok(ft_router_public_make(&r, public, common, LENGTH, WINDOWS, &st), st);
    for (size_t i = 0; i < 32; i++)
        assert_true(r.row[i] == (i % 16 ? 0 : 8));
    assert_ok(ft_parameters_add_expert(&pair, ft_trainer_parameters(public), 1, 0, &st), st);
    const ft_router_start_options options = {
        .init = FT_ROUTER_DISCRIMINANT, .owner = owner, .public = common, .length = LENGTH, .windows = WINDOWS};
    assert_ok(ft_router_start(&pair, &r, 1, public, &options, &st), st);
    for (size_t l = 0; l < 2; l++) {
        pair.layers[l].bias->value[0] = -2;
        for (size_t i = 0; i < pair.layers[l].experts[3].count; i++)
            pair.layers[l].experts[3].value[i] *= 1.5f;
    }
    assert_ok(ft_trainer_new(&t, &pair, &(ft_trainer_options){.mode = FT_TRAIN_EXPERT}, &st), st);
    assert_ok(ft_router_fold_measured(t, &r, owner, LENGTH, WINDOWS, &report, &st), st);
    assert_true(report.exact > 0 && fabs(report.exact - report.folded) < 1e-6 * report.exact && report.agreement == 1);
    ft_trainer_close(t);
    ft_trainer_close(public);
    ft_router_public_close(&r);
    ft_train_data_close(common);
    ft_train_data_close(owner);
}

/* --- A bias that is kept ------------------------------------------------------------------------------- */

static ft_npy read_npy(const char *path)
{
    ft_npy a;
    ft_status st = {0};
    assert_ok(ft_npy_open(&a, path, &st), st);
    return a;
}

/* Two owners; the first one keeps its bias of -1.25, the second has none. */
static const char *merged_with_a_bias(void)
{
    ft_status st = {0};
    start s;
    static char out[600];
    char pairs[2][600];
    const char *public = fixture_write("router-dense", &DENSE);
    for (int i = 0; i < 2; i++) {
        begin(&s, i + 1);
        const ft_router_start_options options = {
            .init = FT_ROUTER_WHITENED, .owner = s.owner, .public = s.common, .length = LENGTH, .windows = WINDOWS};
        assert_ok(ft_router_start(&s.pair, &s.r, 1, s.public, &options, &st), st);
        for (size_t l = 0; l < 2; l++)
            s.pair.layers[l].bias->value[0] = -1.25f;
        if (i)
            ft_router_fold(&s.pair, &s.r);
        snprintf(pairs[i], sizeof(pairs[i]), "%s", ft_test_path(i ? "keeper-b" : "keeper-a"));
        json_t *manifest = json_pack("{s:s}", "owner", i ? "b" : "a");
        assert_ok(ft_expert_export(&s.pair, pairs[i], manifest, &st), st);
        json_decref(manifest);
        end(&s);
    }
    const char *experts[] = {pairs[0], pairs[1]};
    snprintf(out, sizeof(out), "%s", ft_test_path("keepers"));
    assert_ok(ft_experts_merge(public, experts, 2, NULL, out, &st), st);
    return out;
}

static void a_kept_bias_is_stacked_and_beside_it_others_have_none(void **state)
{
    (void)state;
    ft_parameters m;
    ft_status st = {0};
    int bad;
    char command[2000], *text;
    const char *out = merged_with_a_bias();
    assert_ok(ft_parameters_open(&m, out, &st), st);
    assert_int_equal(m.layers[1].bias->count, 2);
    assert_true(m.layers[1].bias->value[0] == -1.25f && m.layers[1].bias->value[1] == 0);
    ft_parameters_close(&m);
    assert_ok(ft_experts_verify(out, &bad, NULL, &st), st);
    assert_int_equal(bad, -1);
    snprintf(command, sizeof(command), "$FLEXTRACE model info %s && $FLEXTRACE model info %s --json", out, out);
    assert_int_equal(ft_test_shell(command, &text, NULL), 0);
    assert_non_null(strstr(text, "mlp.gate.expert_bias"));
    assert_non_null(strstr(text, "\"expert_bias\":true"));
    free(text);
    snprintf(command, sizeof(command),
             "$FLEXTRACE model remove %s --expert a -o %s-less && $FLEXTRACE model verify %s-less", out, out, out);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
}

/* The engine's probabilities of layer 0 are softmax(l + b): those without the bias, times exp(b), divided by their
 * sum; so they are with an expert left out, and converted to bfloat16 the bias is still there. */
static void the_engine_adds_a_kept_bias_to_the_logits(void **state)
{
    (void)state;
    char command[4000], with[700], without[700];
    ft_parameters m;
    ft_status st = {0};
    const char *out = merged_with_a_bias();
    const int32_t ids[6] = {3, 40, 50, 7, 22, 9};
    assert_ok(ft_parameters_open(&m, out, &st), st);
    for (size_t l = 0; l < 2; l++)
        m.layers[l].bias->value[0] = 0;
    char plain[620];
    snprintf(plain, sizeof(plain), "%s-plain", out);
    assert_ok(ft_model_export(&m, out, plain, 0, &st), st);
    ft_parameters_close(&m);
    const size_t count = 6;
    assert_ok(ft_npy_write(ft_test_path("bias-ids.npy"), FT_NPY_INT32, 1, &count, ids, &st), st);
    snprintf(with, sizeof(with), "%s", ft_test_path("bias-with.npy"));
    snprintf(without, sizeof(without), "%s", ft_test_path("bias-without.npy"));
    for (int less = 0; less < 2; less++) {
        const char *option = less ? "--without 2" : "";
        snprintf(command, sizeof(command),
                 "cd %s && $FLEXTRACE forward %s --ids bias-ids.npy --routing %s %s && "
                 "$FLEXTRACE forward %s --ids bias-ids.npy --routing %s %s",
                 ft_test_folder(), out, with, option, plain, without, option);
        assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
        ft_npy a = read_npy(with), b = read_npy(without);
        const float *p = (const float *)a.data, *q = (const float *)b.data; /* [layers, n, experts] */
        for (size_t n = 0; n < 6; n++, p += 3, q += 3) {
            const double scaled = (double)q[1] * exp(-1.25), sum = (double)q[0] + scaled + (double)q[2];
            assert_true(fabs((double)p[0] - (double)q[0] / sum) < 1e-6);
            assert_true(fabs((double)p[1] - scaled / sum) < 1e-6);
        }
        ft_npy_close(&a);
        ft_npy_close(&b);
    }
    snprintf(command, sizeof(command),
             "$FLEXTRACE model convert %s -o %s-half --to bfloat16 && $FLEXTRACE model info %s-half | grep expert_bias",
             out, out, out);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_public_row_times_a_public_state_is_about_one),
        cmocka_unit_test(the_public_router_is_kept_in_a_file_that_another_model_refuses),
        cmocka_unit_test(every_start_leans_to_the_owner_and_leaves_the_public_row),
        cmocka_unit_test(the_start_of_a_private_run_does_not_depend_on_the_owner),
        cmocka_unit_test(two_texts_that_do_not_differ_are_refused),
        cmocka_unit_test(folding_adds_the_bias_times_the_public_row_and_takes_the_bias_out),
        cmocka_unit_test(what_folding_costs_is_measured_on_the_same_text),
        cmocka_unit_test(training_holds_a_constant_channel_and_moves_the_rest),
        cmocka_unit_test(with_a_constant_channel_folding_a_bias_changes_nothing),
        cmocka_unit_test(a_kept_bias_is_stacked_and_beside_it_others_have_none),
        cmocka_unit_test(the_engine_adds_a_kept_bias_to_the_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
