/* Losses, gradients, norms, updates against tests/vectors/train, made with PyTorch in float64.
 * Tolerances are those that its README suggests for float32. */
#include "tests/train_fixture.h"

#include "model/train/ft_trainer.h"

static const ft_batch *batch(const char *ids, const char *labels, size_t step, size_t sequences)
{
    static ft_npy a, b;
    static ft_batch out;
    ft_status st = {0};
    ft_npy_close(&a);
    ft_npy_close(&b);
    assert_ok(ft_npy_open(&a, vector_path(ids), &st), st);
    assert_ok(ft_npy_open(&b, vector_path(labels), &st), st);
    out = (ft_batch){.ids = (const int32_t *)a.data + step * sequences * 16,
                     .labels = (const int32_t *)b.data + step * sequences * 16,
                     .sequences = sequences,
                     .length = 16};
    return &out;
}

static ft_trainer *open_golden(const char *name, int top_k, ft_trainer_options o)
{
    ft_trainer *t;
    ft_status st = {0};
    assert_ok(ft_trainer_open(&t, golden_model(name, top_k), &o, &st), st);
    return t;
}

static void assert_near(double got, double want, double relative, double absolute, const char *what)
{
    if (!(fabs(got - want) <= fmax(relative * fabs(want), absolute)))
        fail_msg("%s: %.12g where %.12g is right", what, got, want);
}

/* The gradients are those of the file, and there are no others. */
static void compare_gradients(ft_trainer *t, const char *file)
{
    tensors g = tensors_read(vector_path(file));
    const ft_parameters *p = ft_trainer_parameters(t);
    size_t trained = 0;
    for (size_t i = 0; i < p->count; i++) {
        const ft_parameter *x = &p->all[i];
        if (!x->grad)
            continue;
        trained++;
        const double scale = largest(&g, x->name);
        size_t n;
        for (size_t k = 0; k < x->count; k++)
            assert_near((double)x->grad[k], tensor_at(&g, x->name, k, &n), 0, 2e-5 * scale, x->name);
        assert_int_equal(n, x->count);
    }
    assert_int_equal(trained, json_object_size(g.header));
    tensors_free(&g);
}

static const struct {
    const char *name;
    ft_train_mode mode;
    double z_loss;
    int top_k, after3;
} cases[] = {{"full_noz", FT_TRAIN_ALL, 0, 0, 0},
             {"full_z", FT_TRAIN_ALL, 0.001, 0, 1},
             {"expert_noz", FT_TRAIN_EXPERT, 0, 0, 1},
             {"expert_z", FT_TRAIN_EXPERT, 0.001, 0, 1},
             {"expert_z_top1", FT_TRAIN_EXPERT, 0.001, 1, 0}};
enum { CASES = sizeof(cases) / sizeof(*cases) };

static double recorded(const json_t *g, const char *name, size_t row, const char *field)
{
    const json_t *v = json_object_get(
        json_array_get(json_object_get(json_object_get(json_object_get(g, "cases"), name), "f64"), row), field);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static void compare_losses(const json_t *g, const char *name, size_t row, const ft_losses *l)
{
    assert_near(l->ce, recorded(g, name, row, "ce"), row ? 2e-5 : 2e-6, 0, name);
    assert_near(l->z, recorded(g, name, row, "z"), row ? 1e-4 : 2e-6, 0, name);
    assert_near(l->loss, recorded(g, name, row, "loss"), row ? 2e-5 : 2e-6, 0, name);
}

static void gradients_of_every_case_are_the_goldens(int recompute, unsigned threads)
{
    json_t *g = golden_json();
    for (size_t c = 0; c < CASES; c++) {
        char file[80];
        ft_losses l;
        ft_status st = {0};
        ft_trainer *t = open_golden(
            "model", cases[c].top_k,
            (ft_trainer_options){
                .mode = cases[c].mode, .z_loss = cases[c].z_loss, .recompute = recompute, .threads = threads});
        assert_ok(ft_trainer_gradient(t, batch("input_ids.npy", "labels.npy", 0, 2), 1, &l, &st), st);
        compare_losses(g, cases[c].name, 0, &l);
        assert_near(ft_parameters_norm(ft_trainer_parameters(t), NULL),
                    recorded(g, cases[c].name, 0, "grad_norm_before_clip"), 1e-5, 0, cases[c].name);
        snprintf(file, sizeof(file), "grad.%s.f64.safetensors", cases[c].name);
        compare_gradients(t, file);
        ft_trainer_close(t);
    }
    json_decref(g);
}

static void losses_and_gradients_are_the_goldens(void **state)
{
    (void)state;
    gradients_of_every_case_are_the_goldens(0, 1);
    gradients_of_every_case_are_the_goldens(0, 3);
}

static void gradients_with_recomputed_activations_are_the_goldens(void **state)
{
    (void)state;
    gradients_of_every_case_are_the_goldens(1, 2);
}

/* The change of a trained tensor over three steps. Elements whose gradient is within rounding of
 * zero are left out: Adam divides by its size. */
static void compare_changes(ft_trainer *t, const tensors *start, const char *name)
{
    char file[80];
    snprintf(file, sizeof(file), "params_after3.%s.f64.safetensors", name);
    tensors after = tensors_read(vector_path(file));
    snprintf(file, sizeof(file), "grad.%s.f64.safetensors", name);
    tensors grad = tensors_read(vector_path(file));
    const ft_parameters *p = ft_trainer_parameters(t);
    for (size_t i = 0; i < p->count; i++) {
        const ft_parameter *x = &p->all[i];
        size_t n;
        for (size_t k = 0; k < x->count; k++) {
            const double was = tensor_at(start, x->name, k, &n);
            if (!x->grad)
                assert_true((double)x->value[k] == was); /* bit for bit */
            else if (fabs(tensor_at(&grad, x->name, k, &n)) > 1e-6)
                assert_near((double)x->value[k] - was, tensor_at(&after, x->name, k, &n) - was, 0, 2e-5, x->name);
        }
    }
    tensors_free(&after);
    tensors_free(&grad);
}

static void three_steps_of_adamw_end_where_the_goldens_do(void **state)
{
    (void)state;
    json_t *g = golden_json();
    tensors start = tensors_read(vector_path("init.safetensors"));
    const ft_adamw adamw = {.rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    for (size_t c = 0; c < CASES; c++) {
        ft_losses l;
        ft_status st = {0};
        ft_trainer *t = open_golden("model", cases[c].top_k,
                                    (ft_trainer_options){.mode = cases[c].mode, .z_loss = cases[c].z_loss});
        for (size_t s = 0; s < 3; s++) {
            ft_parameters_zero(ft_trainer_parameters(t));
            assert_ok(ft_trainer_gradient(t, batch("input_ids.npy", "labels.npy", s, 2), 1, &l, &st), st);
            compare_losses(g, cases[c].name, s, &l);
            const double norm = ft_parameters_norm(ft_trainer_parameters(t), NULL);
            assert_ok(ft_trainer_update(t, &adamw, s + 1, fmin(1, 1 / (norm + 1e-6)), &st), st);
        }
        assert_ok(ft_trainer_evaluate(t, batch("input_ids.npy", "labels.npy", 0, 2), &l, &st), st);
        compare_losses(g, cases[c].name, 3, &l);
        if (cases[c].after3)
            compare_changes(t, &start, cases[c].name);
        ft_trainer_close(t);
    }
    tensors_free(&start);
    json_decref(g);
}

static void per_example_norms_and_clipped_sums_are_the_goldens(void **state)
{
    (void)state;
    static const char *const modes[] = {"expert", "full"};
    json_t *g = golden_json();
    for (int full = 0; full < 2; full++)
        for (size_t which = 0; which < 2; which++) {
            const json_t *dp = json_object_get(json_object_get(g, "dp"), modes[full]);
            const double clip = json_number_value(json_array_get(json_object_get(dp, "clip_norms"), which));
            double norms[4], losses[4];
            ft_losses l;
            ft_status st = {0};
            ft_trainer *t = open_golden("model", 0,
                                        (ft_trainer_options){.mode = full ? FT_TRAIN_ALL : FT_TRAIN_EXPERT,
                                                             .z_loss = 0.001,
                                                             .recompute = which == 1});
            assert_ok(
                ft_trainer_clipped(t, batch("dp_input_ids.npy", "dp_labels.npy", 0, 4), clip, norms, losses, &l, &st),
                st);
            for (size_t i = 0; i < 4; i++) {
                assert_near(norms[i], json_number_value(json_array_get(json_object_get(dp, "example_grad_norm"), i)),
                            1e-5, 0, "norm");
                assert_near(losses[i], json_number_value(json_array_get(json_object_get(dp, "example_loss"), i)), 2e-6,
                            0, "loss");
            }
            if (which == 0)
                compare_gradients(t, full ? "dp_clipped_sum.full.C0.1.f64.safetensors"
                                          : "dp_clipped_sum.expert.C0.1.f64.safetensors");
            else if (!full)
                compare_gradients(t, "dp_clipped_sum.expert.Cmid.f64.safetensors");
            ft_trainer_close(t);
        }
    json_decref(g);
}

/* Where embedding and head are one tensor its gradient is a sum of two, whose product counts in the norm. */
static void norms_of_tied_embeddings_are_those_of_each_examples_gradient(void **state)
{
    (void)state;
    char path[600];
    json_t *config;
    ft_status st = {0};
    ft_trainer *t;
    const char *folder = golden_model("tied-norms", 0);
    snprintf(path, sizeof(path), "%s/config.json", folder);
    assert_ok(ft_json_read_file(&config, path, 1 << 20, &st), st);
    json_object_set_new(config, "tie_word_embeddings", json_true());
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
    assert_ok(ft_trainer_open(&t, folder, &(ft_trainer_options){0}, &st), st);
    double norms[4];
    ft_losses l;
    const ft_batch all = *batch("dp_input_ids.npy", "dp_labels.npy", 0, 4);
    assert_ok(ft_trainer_clipped(t, &all, 0.1, norms, NULL, &l, &st), st);
    for (size_t i = 0; i < 4; i++) {
        const ft_batch one = {.ids = all.ids + i * all.length,
                              .labels = all.labels + i * all.length,
                              .sequences = 1,
                              .length = all.length};
        ft_parameters_zero(ft_trainer_parameters(t));
        assert_ok(ft_trainer_gradient(t, &one, 1, &l, &st), st);
        assert_near(norms[i], ft_parameters_norm(ft_trainer_parameters(t), NULL), 1e-5, 0, "norm");
    }
    ft_trainer_close(t);
}

/* Documents packed into one sequence, each seeing itself alone, have the losses and gradients
 * that they have in sequences of their own. */
static void packed_documents_do_not_see_each_other(void **state)
{
    (void)state;
    enum { N = 6 };
    int32_t ids[4 * N], apart_ids[3][2 * N], labels[4 * N], apart_labels[3][2 * N];
    uint32_t begin[4 * N];
    static const size_t starts[] = {0, N, 3 * N, 4 * N};
    for (size_t d = 0; d < 3; d++)
        for (size_t i = starts[d]; i < starts[d + 1]; i++) {
            ids[i] = apart_ids[d][i - starts[d]] = (int32_t)((7 * i + 3) % 64);
            labels[i] = apart_labels[d][i - starts[d]] = i + 1 < starts[d + 1] ? (int32_t)((7 * i + 10) % 64) : -100;
            begin[i] = (uint32_t)starts[d];
        }
    ft_losses l;
    ft_status st = {0};
    ft_trainer *packed = open_golden("model", 0, (ft_trainer_options){0}),
               *apart = open_golden("model", 0, (ft_trainer_options){0});
    const ft_batch all = {.ids = ids, .labels = labels, .begin = begin, .sequences = 1, .length = 4 * N};
    assert_ok(ft_trainer_gradient(packed, &all, 1, &l, &st), st);
    assert_int_equal(l.labelled, 4 * N - 3);
    double ce = 0;
    for (size_t d = 0; d < 3; d++) {
        ft_losses one;
        const ft_batch alone = {
            .ids = apart_ids[d], .labels = apart_labels[d], .sequences = 1, .length = starts[d + 1] - starts[d]};
        const double share = (double)(alone.length - 1) / (4 * N - 3);
        assert_ok(ft_trainer_gradient(apart, &alone, share, &one, &st), st);
        ce += share * one.ce;
    }
    assert_near(l.ce, ce, 1e-6, 0, "loss");
    const ft_parameters *p = ft_trainer_parameters(packed), *q = ft_trainer_parameters(apart);
    for (size_t i = 0; i < p->count; i++) {
        double most = 0;
        for (size_t k = 0; k < p->all[i].count; k++)
            most = fmax(most, fabs((double)q->all[i].grad[k]));
        for (size_t k = 0; k < p->all[i].count; k++)
            assert_near((double)p->all[i].grad[k], (double)q->all[i].grad[k], 0, 2e-5 * most, p->all[i].name);
    }
    ft_trainer_close(packed);
    ft_trainer_close(apart);
}

static void a_step_is_the_same_on_any_number_of_threads_bit_for_bit(void **state)
{
    (void)state;
    ft_trainer *t[2];
    ft_losses l[2];
    ft_status st = {0};
    for (unsigned i = 0; i < 2; i++) {
        t[i] =
            open_golden("model", 0, (ft_trainer_options){.threads = 1 + 3 * i, .z_loss = 0.001, .recompute = i == 1});
        assert_ok(ft_trainer_gradient(t[i], batch("input_ids.npy", "labels.npy", 1, 2), 1, &l[i], &st), st);
    }
    assert_true(l[0].loss == l[1].loss);
    for (size_t i = 0; i < ft_trainer_parameters(t[0])->count; i++)
        assert_memory_equal(ft_trainer_parameters(t[0])->all[i].grad, ft_trainer_parameters(t[1])->all[i].grad,
                            ft_trainer_parameters(t[0])->all[i].count * sizeof(float));
    ft_trainer_close(t[0]);
    ft_trainer_close(t[1]);
}

static void a_router_may_learn_at_a_share_of_the_rate_and_nothing_else_does(void **state)
{
    (void)state;
    const ft_adamw adamw = {.rate = 1.0 / 64, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    ft_trainer *t[3]; /* as it was, at the whole rate, at a quarter of it */
    ft_losses l;
    ft_status st = {0};
    for (int i = 0; i < 3; i++) {
        t[i] = open_golden("model", 0, (ft_trainer_options){.z_loss = 0.001, .router_rate = i == 2 ? 0.25 : 0});
        assert_ok(ft_trainer_gradient(t[i], batch("input_ids.npy", "labels.npy", 1, 2), 1, &l, &st), st);
        if (i)
            assert_ok(ft_trainer_update(t[i], &adamw, 1, 1, &st), st);
    }
    size_t routers = 0;
    for (size_t i = 0; i < ft_trainer_parameters(t[0])->count; i++) {
        const ft_parameter *was = &ft_trainer_parameters(t[0])->all[i], *fast = &ft_trainer_parameters(t[1])->all[i],
                           *slow = &ft_trainer_parameters(t[2])->all[i];
        if (!strstr(was->name, ".mlp.gate.")) {
            assert_memory_equal(fast->value, slow->value, was->count * sizeof(float));
            continue;
        }
        routers++;
        for (size_t k = 0; k < was->count; k++)
            assert_near((double)slow->value[k] - (double)was->value[k],
                        0.25 * ((double)fast->value[k] - (double)was->value[k]), 0, 1e-6, was->name);
    }
    assert_true(routers > 0);
    for (int i = 0; i < 3; i++)
        ft_trainer_close(t[i]);
}

static void what_is_saved_reads_back(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_trainer *t = open_golden("model", 0, (ft_trainer_options){0}), *again;
    char folder[512], path[600];
    snprintf(folder, sizeof(folder), "%s", golden_model("again", 0));
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    assert_ok(ft_parameters_save(ft_trainer_parameters(t), path, FT_SAVE_ALL, 0, NULL, &st), st);
    assert_ok(ft_trainer_open(&again, folder, &(ft_trainer_options){0}, &st), st);
    const ft_parameters *p = ft_trainer_parameters(t), *q = ft_trainer_parameters(again);
    assert_int_equal(p->count, q->count);
    for (size_t i = 0; i < p->count; i++)
        assert_memory_equal(p->all[i].value, q->all[i].value, p->all[i].count * sizeof(float));
    ft_trainer_close(t);
    ft_trainer_close(again);
}

static void ids_outside_the_vocabulary_are_refused(void **state)
{
    (void)state;
    ft_trainer *t = open_golden("model", 0, (ft_trainer_options){0});
    ft_losses l;
    ft_status st = {0};
    const int32_t good[2] = {1, 2}, high[2] = {1, 64}, low[2] = {-1, 2};
    assert_int_equal(ft_trainer_gradient(t, &(ft_batch){high, good, NULL, NULL, 1, 2}, 1, &l, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "id 64"));
    assert_int_equal(ft_trainer_gradient(t, &(ft_batch){low, good, NULL, NULL, 1, 2}, 1, &l, &st), FT_ERR_FORMAT);
    assert_int_equal(ft_trainer_gradient(t, &(ft_batch){good, high, NULL, NULL, 1, 2}, 1, &l, &st), FT_ERR_FORMAT);
    assert_int_equal(ft_trainer_gradient(t, &(ft_batch){good, good, NULL, NULL, 0, 2}, 1, &l, &st), FT_ERR_LIMIT);
    ft_trainer_close(t);
}

static void the_command_writes_losses_and_gradients(void **state)
{
    (void)state;
    char command[2048], *out;
    const char *model = golden_model("command", 0);
    ft_status st = {0};
    json_t *v = NULL;
    snprintf(
        command, sizeof(command),
        "$FLEXTRACE train step %s --ids %s --labels %s --grads %s/sum.safetensors --expert-mode --dp-clip 0.1 --json",
        model, vector_path("dp_input_ids.npy"), vector_path("dp_labels.npy"), model);
    assert_int_equal(ft_test_shell(command, &out, NULL), 0);
    assert_ok(ft_json_parse(&v, out, strlen(out), "answer", &st), st);
    assert_int_equal(json_array_size(json_object_get(v, "examples")), 4);
    json_decref(v);
    free(out);
    snprintf(command, sizeof(command), "%s/sum.safetensors", model);
    tensors g = tensors_read(command);
    size_t n;
    assert_int_equal(json_object_size(g.header), 10);
    for (size_t k = 0; k < 32; k++) /* the public expert's row of the router */
        assert_true(tensor_at(&g, "model.layers.0.mlp.gate.weight", k, &n) == 0);
    assert_int_equal(n, 64);
    tensors_free(&g);
    char *err; /* a file beyond the limit is an error of the write, not a signal; an id says in which file it is */
    snprintf(command, sizeof(command), "ulimit -f 8; $FLEXTRACE train step %s --ids %s --labels %s --grads %s/more",
             model, vector_path("dp_input_ids.npy"), vector_path("dp_labels.npy"), model);
    assert_int_equal(ft_test_shell(command, NULL, &err), 4);
    assert_non_null(strstr(err, "/more: cannot write: File too large"));
    free(err);
    snprintf(command, sizeof(command),
             "sed 's/\\x3f\\x00\\x00\\x00\\|\\x01\\x00\\x00\\x00/\\x40\\x00\\x00\\x00/g' %s > %s/high.npy && "
             "$FLEXTRACE train step %s --ids %s/high.npy --labels %s --grads %s/none",
             vector_path("dp_input_ids.npy"), model, model, model, vector_path("dp_labels.npy"), model);
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    assert_non_null(strstr(err, "/high.npy: ["));
    free(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_and_gradients_are_the_goldens),
        cmocka_unit_test(gradients_with_recomputed_activations_are_the_goldens),
        cmocka_unit_test(three_steps_of_adamw_end_where_the_goldens_do),
        cmocka_unit_test(per_example_norms_and_clipped_sums_are_the_goldens),
        cmocka_unit_test(norms_of_tied_embeddings_are_those_of_each_examples_gradient),
        cmocka_unit_test(packed_documents_do_not_see_each_other),
        cmocka_unit_test(a_step_is_the_same_on_any_number_of_threads_bit_for_bit),
        cmocka_unit_test(a_router_may_learn_at_a_share_of_the_rate_and_nothing_else_does),
        cmocka_unit_test(what_is_saved_reads_back),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(the_command_writes_losses_and_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
