/* The training loop: what a window holds, what a killed run leaves, what a budget stops. */
#include "tests/train_run_fixture.h"

#include "model/train/ft_noise.h"
#include "model/train/train_run_internal.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void an_epochs_windows_hold_each_token_once_in_an_order_that_the_seed_tells(void **state)
{
    (void)state;
    uint64_t total;
    ft_train_data *d = some_data(&total);
    const uint64_t windows = total / LENGTH;
    size_t seen[2][64] = {{0}};
    int32_t ids[LENGTH], labels[LENGTH], again[LENGTH];
    uint32_t begin[LENGTH];
    ft_status st = {0};
    int differ = 0;
    for (int epoch = 0; epoch < 2; epoch++)
        for (uint64_t w = 0; w < windows; w++) {
            assert_ok(ft_train_data_window(d, 7, (uint64_t)epoch * windows + w, LENGTH, ids, labels, begin, &st), st);
            for (size_t i = 0; i < LENGTH; i++) {
                seen[epoch][ids[i]]++;
                assert_true(begin[i] <= i &&
                            (begin[i] == i || ids[i - 1] != END)); /* a document ends where one begins */
                if (i + 1 < LENGTH)
                    assert_true(labels[i] == (ids[i] == END ? -100 : ids[i + 1]));
                else
                    assert_true((labels[i] < 0) == (ids[i] == END));
            }
            assert_ok(ft_train_data_window(d, 8, (uint64_t)epoch * windows + w, LENGTH, again, labels, begin, &st), st);
            differ |= memcmp(ids, again, sizeof(ids)) != 0;
            assert_ok(ft_train_data_window(d, 7, (uint64_t)epoch * windows + w, LENGTH, again, labels, begin, &st), st);
            assert_memory_equal(ids, again, sizeof(ids));
        }
    assert_true(differ);
    /* All but the last total % LENGTH tokens of the stream. */
    assert_in_range(seen[0][END], DOCUMENTS - LENGTH, DOCUMENTS);
    size_t sum = 0;
    for (size_t i = 0; i < 64; i++)
        sum += seen[0][i];
    assert_int_equal(sum, windows * LENGTH);
    ft_train_data_close(d);
}

/* Documents of 40 windows each: eight windows in a row are of at least six of the nine. */
static void a_steps_windows_are_of_different_documents(void **state)
{
    (void)state;
    enum { LONG = 9, WINDOWS = 40, IN_A_ROW = 8, APART = 6 };
    static int32_t tokens[LONG * WINDOWS * LENGTH];
    uint64_t starts[LONG + 1];
    for (size_t i = 0; i < LONG * WINDOWS * LENGTH; i++)
        tokens[i] = i % (WINDOWS * LENGTH) == WINDOWS * LENGTH - 1 ? END : (int32_t)(1 + i / (WINDOWS * LENGTH));
    for (uint64_t i = 0; i <= LONG; i++)
        starts[i] = i * WINDOWS * LENGTH;
    ft_train_data *d;
    ft_status st = {0};
    assert_ok(ft_train_data_of_ids(&d, tokens, starts, LONG, &st), st);
    int32_t ids[LENGTH], labels[LENGTH];
    uint32_t begin[LENGTH];
    for (uint64_t step = 0; step < 2 * LONG * WINDOWS / IN_A_ROW; step++) {
        unsigned seen = 0;
        for (uint64_t w = 0; w < IN_A_ROW; w++) {
            assert_ok(ft_train_data_window(d, 7, step * IN_A_ROW + w, LENGTH, ids, labels, begin, &st), st);
            seen |= 1u << ids[0];
        }
        assert_in_range(__builtin_popcount(seen), APART, IN_A_ROW);
    }
    ft_train_data_close(d);
}

static void an_example_holds_one_document_alone(void **state)
{
    (void)state;
    ft_train_data *d = some_data(NULL);
    int32_t ids[LENGTH], labels[LENGTH];
    uint64_t want = 0;
    size_t tokens = 0;
    for (uint64_t i = 0; i < DOCUMENTS; i++)
        want += (3 + i % 20 + 1 + LENGTH - 1) / LENGTH;
    assert_int_equal(ft_train_data_examples(d, LENGTH), want);
    for (uint64_t e = 0; e < want; e++) {
        ft_train_data_example(d, e, LENGTH, ids, labels);
        for (size_t i = 0; i + 1 < LENGTH; i++)
            if (labels[i] >= 0) {
                assert_int_equal(labels[i], ids[i + 1]);
                assert_true(ids[i] != END);
                tokens++;
            }
    }
    assert_in_range(tokens, 300, ft_train_data_tokens(d));
    ft_train_data_close(d);
}

/* The first step's figures with `micro` sequences at a time. */
static ft_train_metrics first_step(size_t micro)
{
    char folder[32];
    snprintf(folder, sizeof(folder), "accumulate-%zu", micro);
    ft_train_options o = usual;
    const ft_trainer_options how = {.mode = FT_TRAIN_EXPERT, .threads = 1, .z_loss = 0.5};
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *t;
    assert_ok(ft_trainer_open(&t, golden_model("run-model", 0), &how, &st), st);
    o.folder = ft_test_path(folder);
    o.micro = micro;
    o.steps = 1;
    o.z_loss = how.z_loss;
    o.data = some_data(NULL);
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    ft_train_data_close(o.data);
    ft_trainer_close(t);
    return report.last;
}

/* Parts of a batch have labels in different numbers: what is a mean over labels, and what over tokens, must both
 * come out as if the batch were one. */
static void gradients_accumulated_over_parts_are_those_of_the_whole_batch(void **state)
{
    (void)state;
    const ft_train_metrics whole = first_step(5);
    for (size_t micro = 1; micro < 5; micro++) {
        const ft_train_metrics m = first_step(micro);
        assert_float_equal(m.ce, whole.ce, 1e-5);
        assert_float_equal(m.z, whole.z, 1e-5);
        assert_float_equal(m.loss, whole.loss, 1e-5);
        assert_float_equal(m.grad_norm, whole.grad_norm, 1e-5);
    }
}

static int run_it_again(void *context, const ft_train_metrics *m)
{
    const ft_train_options *o = context;
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *t = m->step == 2 ? trainer(FT_TRAIN_EXPERT) : NULL;
    if (t) {
        assert_int_equal(ft_train_run(t, o, &report, &st), FT_ERR_IO);
        assert_non_null(strstr(st.msg, "another run is at work there"));
        ft_trainer_close(t);
    }
    return 0;
}

static void a_second_run_in_the_same_folder_is_refused(void **state)
{
    (void)state;
    ft_train_options o = usual, other;
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    o.folder = ft_test_path("twice");
    o.data = some_data(NULL);
    other = o;
    o.on_step = run_it_again;
    o.context = &other;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_int_equal(report.steps_done, 7);
    ft_trainer_close(t);
    ft_train_data_close(o.data);
}

static int kill_at_five(void *context, const ft_train_metrics *m)
{
    (void)context;
    if (m->step == 5)
        raise(SIGKILL);
    return 0;
}

/* `folder` is run in a process that is killed at its fifth step, then gone on with here. */
static ft_trainer *killed_and_gone_on_with(ft_train_options o, ft_train_mode mode, const char *folder)
{
    ft_train_data *d = some_data(NULL);
    ft_trainer *t = trainer(mode);
    ft_train_report report;
    ft_status st = {0};
    int status;
    o.folder = folder;
    o.data = d;
    const pid_t child = fork();
    if (child == 0) {
        o.on_step = kill_at_five;
        _exit(ft_train_run(t, &o, &report, NULL) ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    char left[600]; /* as of a run killed while it wrote its checkpoint */
    snprintf(left, sizeof(left), "%s/checkpoint.tmp.1", folder);
    assert_int_equal(ft_file_write(left, "half", 4, NULL), FT_OK);
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_int_equal(report.resumed_at, 4);
    assert_int_equal(report.steps_done, 7);
    assert_false(ft_path_exists(left));
    ft_train_data_close(d);
    return t;
}

static void a_killed_run_goes_on_bit_for_bit(void **state)
{
    (void)state;
    char folder[512], path[600];
    ft_train_options o = usual;
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *whole = trainer(FT_TRAIN_EXPERT), *start = trainer(FT_TRAIN_EXPERT);
    snprintf(folder, sizeof(folder), "%s", ft_test_path("killed"));
    ft_trainer *t = killed_and_gone_on_with(o, FT_TRAIN_EXPERT, folder);
    snprintf(path, sizeof(path), "%s/metrics.jsonl", folder);
    assert_int_equal(lines_of(path), 7);
    o.folder = ft_test_path("whole");
    o.data = some_data(NULL);
    o.checkpoint_every = 0;
    assert_ok(ft_train_run(whole, &o, &report, &st), st);
    same_weights(whole, t);
    const ft_parameters *p = ft_trainer_parameters(whole), *q = ft_trainer_parameters(start);
    for (size_t i = 0; i < p->count; i++) /* what trains has changed, what is frozen has not */
        assert_true((memcmp(p->all[i].value, q->all[i].value, p->all[i].count * sizeof(float)) != 0) ==
                    (p->all[i].grad && strcmp(p->all[i].name, "model.layers.1.mlp.gate.expert_bias") != 0));
    ft_trainer_close(t);
    ft_trainer_close(whole);
    ft_trainer_close(start);
    ft_train_data_close(o.data);
}

/* The key of the private draws is in the first checkpoint: a copy of it draws the same. */
static void a_killed_private_run_draws_what_it_would_have_drawn(void **state)
{
    (void)state;
    char first[512], second[512], from[600], to[600];
    ft_train_options o = private_options();
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *a = trainer(FT_TRAIN_EXPERT);
    snprintf(first, sizeof(first), "%s", ft_test_path("private-1"));
    snprintf(second, sizeof(second), "%s", ft_test_path("private-2"));
    o.data = some_data(NULL);
    o.folder = first;
    o.checkpoint_every = 0;
    o.stop_after = 1;
    assert_ok(ft_train_run(a, &o, &report, &st), st);
    snprintf(from, sizeof(from), "%s/checkpoint", first);
    snprintf(to, sizeof(to), "%s/checkpoint", second);
    size_t n;
    char *bytes = ft_test_read(from, &n);
    assert_int_equal(ft_folder_make(second, NULL), FT_OK);
    assert_int_equal(ft_file_write(to, bytes, n, NULL), FT_OK);
    free(bytes);
    o.stop_after = 0;
    assert_ok(ft_train_run(a, &o, &report, &st), st);
    assert_int_equal(report.resumed_at, 1);
    o.checkpoint_every = 2;
    ft_trainer *b = killed_and_gone_on_with(o, FT_TRAIN_EXPERT, second);
    same_weights(a, b);
    ft_trainer_close(a);
    ft_trainer_close(b);
    ft_train_data_close(o.data);
}

static void a_run_stops_before_it_exceeds_its_budget_and_cannot_start_again(void **state)
{
    (void)state;
    ft_train_options o = private_options();
    ft_train_report report;
    ft_status st = {0};
    uint64_t allowed;
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    o.data = some_data(NULL);
    o.folder = ft_test_path("budget");
    o.steps = 100;
    o.noise_multiplier = 2;
    o.epsilon = 1.5;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_ok(ft_privacy_steps(&allowed, report.sampling_rate, 2, 1.5, 1e-5, FT_ACCOUNTANT_RDP, &st), st);
    assert_in_range(allowed, 1, 99);
    assert_int_equal(report.steps_done, allowed);
    assert_true(report.budget_reached && report.spent.epsilon <= 1.5 && report.spent.epsilon > 1);
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_int_equal(report.resumed_at, allowed);
    assert_int_equal(report.steps_done, allowed);
    o.noise_multiplier = 0.3;
    o.folder = ft_test_path("budget-2");
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "epsilon"));
    ft_trainer_close(t);
    ft_train_data_close(o.data);
}

static void another_runs_or_a_damaged_checkpoint_is_refused(void **state)
{
    (void)state;
    char path[600];
    ft_train_options o = usual;
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    o.data = some_data(NULL);
    o.folder = ft_test_path("other");
    o.stop_after = 2;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    o.batch = 4;
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "\"batch\":5"));
    o.batch = 5;
    snprintf(path, sizeof(path), "%s/checkpoint", o.folder);
    size_t n;
    char *bytes = ft_test_read(path, &n);
    bytes[n / 2] ^= 1;
    assert_int_equal(ft_file_write(path, bytes, n, NULL), FT_OK);
    free(bytes);
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "damaged"));
    ft_trainer_close(t);
    ft_train_data_close(o.data);
}

static int overflow_at_four(void *context, const ft_train_metrics *m)
{
    ft_parameters *p = context;
    for (size_t i = 0; i < p->count && m->step == 4; i++)
        if (p->all[i].grad)
            p->all[i].value[p->all[i].count - 1] = INFINITY;
    return 0;
}

static void a_step_that_is_not_finite_names_its_tensor_and_keeps_the_checkpoint(void **state)
{
    (void)state;
    ft_train_options o = usual;
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *t = trainer(FT_TRAIN_EXPERT), *again = trainer(FT_TRAIN_EXPERT);
    o.data = some_data(NULL);
    o.folder = ft_test_path("nan");
    o.stop_after = 2;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    /* Frozen weights are those of the run; its own are read from the checkpoint: spoil the latter's copy. */
    o.stop_after = 0;
    o.adamw.rate = 1e-3;
    char path[600];
    snprintf(path, sizeof(path), "%s/checkpoint", o.folder);
    size_t n, m;
    char *before = ft_test_read(path, &n);
    ft_train_options wild = o;
    wild.folder = ft_test_path("wild");
    wild.adamw.rate = 1e30;
    wild.warmup = 0;
    assert_int_equal(ft_train_run(again, &wild, &report, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "not finite"));
    assert_non_null(strstr(st.msg, "step "));
    char *after = ft_test_read(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
    ft_trainer_close(t);
    ft_trainer_close(again);
    ft_train_data_close(o.data);
}

/* Every gradient before it is spoiled too; what is named is the cause. */
static void a_weight_that_was_given_as_nan_is_named_in_the_first_step(void **state)
{
    (void)state;
    ft_train_options o = usual;
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    const ft_parameter *frozen = &ft_trainer_parameters(t)->layers[1].experts[1];
    o.data = some_data(NULL);
    o.folder = ft_test_path("given");
    assert_null(frozen->grad);
    frozen->value[2] = NAN;
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, frozen->name));
    assert_non_null(strstr(st.msg, "the model was given so"));
    ft_trainer_close(t);
    ft_train_data_close(o.data);
}

/* Weights that overflow in an update are no checkpoint; the one before stays. */
static void an_update_that_overflows_names_its_tensor_and_is_not_kept(void **state)
{
    (void)state;
    ft_train_options o = usual;
    ft_train_report report;
    ft_status st = {0};
    char path[600];
    size_t n, m;
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    o.data = some_data(NULL);
    o.folder = ft_test_path("overflow");
    o.stop_after = 2;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    snprintf(path, sizeof(path), "%s/checkpoint", o.folder);
    char *before = ft_test_read(path, &n);
    o.stop_after = 0;
    o.on_step = overflow_at_four;
    o.context = ft_trainer_parameters(t);
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "not finite"));
    assert_non_null(strstr(st.msg, "model.layers."));
    assert_non_null(strstr(st.msg, "the last good checkpoint is of step 2"));
    char *after = ft_test_read(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
    ft_trainer_close(t);
    ft_train_data_close(o.data);
}

/* A disk that is full in the middle of a checkpoint: an error, the old one whole, and once there is room the run
 * goes on to what it would have been. */
static void a_disk_that_fills_up_during_a_checkpoint_leaves_the_last_one(void **state)
{
    (void)state;
    ft_train_options o = usual;
    ft_train_report report;
    ft_status st = {0};
    char path[700], folder[600], *names;
    size_t n, m;
    ft_trainer *t = trainer(FT_TRAIN_EXPERT), *whole = trainer(FT_TRAIN_EXPERT);
    o.data = some_data(NULL);
    snprintf(folder, sizeof(folder), "%s", ft_test_path("full"));
    o.folder = folder;
    o.stop_after = 2;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    o.stop_after = 0;
    snprintf(path, sizeof(path), "%s/checkpoint", folder);
    char *before = ft_test_read(path, &n);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {n / 2, n / 2};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit))
            _exit(2);
        const ft_code rc = ft_train_run(t, &o, &report, &st);
        _exit(rc == FT_ERR_IO && strstr(st.msg, "checkpoint") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    char *after = ft_test_read(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    snprintf(path, sizeof(path), "ls -A %s", folder); /* no half-written file beside it */
    assert_int_equal(ft_test_shell(path, &names, NULL), 0);
    assert_string_equal(names, "checkpoint\ncurve.svg\nmetrics.jsonl\n");
    free(names);
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_int_equal(report.resumed_at, 2);
    o.folder = ft_test_path("full-whole");
    assert_ok(ft_train_run(whole, &o, &report, &st), st);
    const double loss = report.last.loss; /* a run that is complete says the same when it is given again */
    assert_ok(ft_train_run(whole, &o, &report, &st), st);
    assert_int_equal(report.resumed_at, 7);
    assert_true(report.last.loss == loss && loss > 0);
    same_weights(whole, t);
    free(before);
    free(after);
    ft_trainer_close(t);
    ft_trainer_close(whole);
    ft_train_data_close(o.data);
}

static void a_disk_without_room_for_the_tokens_names_the_folder(void **state)
{
    (void)state;
    ft_status st = {0};
    int status;
    const pid_t child = fork();
    if (child == 0) {
        static int32_t tokens[100000];
        const uint64_t starts[2] = {0, 100000};
        const struct rlimit limit = {1000, 1000};
        ft_train_data *d;
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit))
            _exit(2);
        _exit(ft_train_data_of_ids(&d, tokens, starts, 1, &st) == FT_ERR_IO && strstr(st.msg, "TMPDIR") ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_corpus_of_another_tokenizer_is_refused(void **state)
{
    (void)state;
    char command[2000], *err;
    snprintf(
        command, sizeof(command),
        "cd %s && echo '{\"text\":\"the goldens have a vocabulary of 64 and this tokenizer has 4096\"}' > t.jsonl && "
        "$FLEXTRACE train public %s --tokenizer %s --corpus t.jsonl -o other-tokenizer --steps 1",
        ft_test_folder(), golden_model("other-vocabulary", 0), ft_test_source("demo/flexmix"));
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    assert_non_null(strstr(err, "this tokenizer is not its own"));
    free(err);
    snprintf(
        command, sizeof(command),
        "cd %s && cp %s/tokenizer.json other-vocabulary && mkdir -p edited && "
        "sed 's/^{/{ /' %s/tokenizer.json > edited/tokenizer.json && "
        "$FLEXTRACE train public other-vocabulary --tokenizer edited --corpus t.jsonl -o other-tokenizer --steps 1",
        ft_test_folder(), ft_test_source("demo/flexmix"), ft_test_source("demo/flexmix"));
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    assert_non_null(strstr(err, "is not the tokenizer that other-vocabulary has"));
    free(err);
    snprintf(
        command, sizeof(command),
        "cd %s && echo '{\"id\":' > bad.jsonl && $FLEXTRACE train public other-vocabulary --corpus bad.jsonl -o bad "
        "--steps 1",
        ft_test_folder());
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    assert_non_null(strstr(err, "bad.jsonl:1: not valid JSON"));
    assert_null(strstr(err, "--skip-bad")); /* which 'train' does not have */
    free(err);
}

/* Points of the loss's line, for few steps and for many. */
static void the_curve_is_drawn_from_all_steps_and_reads_in_light_and_dark(void **state)
{
    (void)state;
    ft_status st = {0};
    char metrics[600], svg[600];
    snprintf(metrics, sizeof(metrics), "%s", ft_test_path("curve.jsonl"));
    snprintf(svg, sizeof(svg), "%s", ft_test_path("curve.svg"));
    for (int count = 1; count <= 1000; count = count < 10 ? count + 4 : count * 7) {
        FILE *f = fopen(metrics, "w");
        for (int i = 1; i <= count; i++)
            fprintf(f, "{\"step\":%d,\"loss\":%.4f,\"ce\":1,\"rate\":%g}\n", i, 8 / sqrt(i), 1e-3 / i);
        fprintf(f, "{\"step\":"); /* a line cut off is none */
        fclose(f);
        assert_ok(ft_train_curve(metrics, svg, &st), st);
        size_t n, points = 0;
        char *text = ft_test_read(svg, &n);
        assert_true(strncmp(text, "<svg ", 5) == 0 && strcmp(text + n - 7, "</svg>\n") == 0);
        assert_non_null(strstr(text, "prefers-color-scheme:dark"));
        const char *line = strstr(text, "class=\"loss\" d=\"");
        assert_non_null(line);
        for (const char *p = line + 16; *p && *p != '"'; p++)
            points += *p == 'M' || *p == 'L';
        const int each = (count + 319) / 320;
        assert_int_equal(points, (count + each - 1) / each);
        assert_null(strstr(text, "nan"));
        assert_null(strstr(text, "inf"));
        free(text);
    }
}

static void noise_is_normal_and_streams_are_independent(void **state)
{
    (void)state;
    enum { N = 200000 };
    unsigned char key[FT_NOISE_KEY_BYTES] = {1};
    ft_noise a, b;
    double sum = 0, squares = 0, cubes = 0, fourth = 0, cross = 0;
    ft_noise_init(&a, key, 1);
    ft_noise_init(&b, key, 2);
    for (int i = 0; i < N; i++) {
        const double x = ft_noise_normal(&a);
        sum += x;
        squares += x * x;
        cubes += x * x * x;
        fourth += x * x * x * x;
        cross += x * ft_noise_normal(&b);
    }
    /* Five standard deviations of each moment's mean. */
    assert_true(fabs(sum / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(cubes / N) < 5 * sqrt(15.0 / N));
    assert_true(fabs(fourth / N - 3) < 5 * sqrt(96.0 / N));
    assert_true(fabs(cross / N) < 5 * sqrt(1.0 / N));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epochs_windows_hold_each_token_once_in_an_order_that_the_seed_tells),
        cmocka_unit_test(a_steps_windows_are_of_different_documents),
        cmocka_unit_test(an_example_holds_one_document_alone),
        cmocka_unit_test(gradients_accumulated_over_parts_are_those_of_the_whole_batch),
        cmocka_unit_test(a_second_run_in_the_same_folder_is_refused),
        cmocka_unit_test(a_killed_run_goes_on_bit_for_bit),
        cmocka_unit_test(a_killed_private_run_draws_what_it_would_have_drawn),
        cmocka_unit_test(a_run_stops_before_it_exceeds_its_budget_and_cannot_start_again),
        cmocka_unit_test(another_runs_or_a_damaged_checkpoint_is_refused),
        cmocka_unit_test(a_step_that_is_not_finite_names_its_tensor_and_keeps_the_checkpoint),
        cmocka_unit_test(a_weight_that_was_given_as_nan_is_named_in_the_first_step),
        cmocka_unit_test(an_update_that_overflows_names_its_tensor_and_is_not_kept),
        cmocka_unit_test(a_disk_that_fills_up_during_a_checkpoint_leaves_the_last_one),
        cmocka_unit_test(a_disk_without_room_for_the_tokens_names_the_folder),
        cmocka_unit_test(a_corpus_of_another_tokenizer_is_refused),
        cmocka_unit_test(the_curve_is_drawn_from_all_steps_and_reads_in_light_and_dark),
        cmocka_unit_test(noise_is_normal_and_streams_are_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
