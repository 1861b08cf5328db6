/* Private runs: what one example is, and a budget that nothing resets. */
#include "tests/train_run_fixture.h"

#include "model/train/ft_ledger.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- A document that is one example ----------------------------------------------------------------- */

enum { PIECES = 3 };

/* Sequences of one example, the last one shorter. */
static ft_batch some_pieces(int32_t *ids, int32_t *labels)
{
    for (int i = 0; i < PIECES * LENGTH; i++) {
        const int there = i < PIECES * LENGTH - 5;
        ids[i] = there ? 1 + i * i % 61 : 0;
        labels[i] = there ? 1 + (i + 1) * (i + 1) % 61 : -100;
    }
    return (ft_batch){.ids = ids, .labels = labels, .sequences = PIECES, .length = LENGTH};
}

/* The example's loss by central differences in one weight: an independent gradient. */
static double slope(ft_trainer *t, const ft_batch *b, float *weight)
{
    const float was = *weight, h = 4e-3f;
    double loss[2];
    for (int side = 0; side < 2; side++) {
        ft_losses l;
        *weight = was + (side ? h : -h);
        assert_int_equal(ft_trainer_evaluate(t, b, &l, NULL), FT_OK);
        loss[side] = l.ce;
    }
    *weight = was;
    return (loss[1] - loss[0]) / (2 * (double)h);
}

static void a_document_of_several_windows_is_clipped_as_one_example(void **state)
{
    (void)state;
    int32_t ids[PIECES * LENGTH], labels[PIECES * LENGTH];
    ft_status st = {0};
    ft_losses losses, all;
    double norm, again, squares = 0;
    const ft_batch b = some_pieces(ids, labels);
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    ft_parameters *p = ft_trainer_parameters(t);
    assert_ok(ft_trainer_evaluate(t, &b, &all, &st), st);
    assert_ok(ft_trainer_clipped_whole(t, &b, 2, 1e9, &norm, &losses, &st), st);
    assert_true(fabs(losses.ce - all.ce) < 1e-6);
    for (size_t i = 0; i < p->count; i++)
        for (size_t k = p->all[i].first; p->all[i].grad && k < p->all[i].count; k++)
            squares += (double)p->all[i].grad[k] * (double)p->all[i].grad[k];
    assert_true(fabs(sqrt(squares) - norm) < 1e-5 * norm);
    /* Its gradient is that of the mean over all its tokens. */
    for (size_t i = 0; i < p->count; i++)
        for (size_t k = p->all[i].first; p->all[i].grad && k < p->all[i].count; k += 97)
            assert_true(fabs(slope(t, &b, &p->all[i].value[k]) - (double)p->all[i].grad[k]) < 2e-4 + 1e-2 * norm / 30);
    /* A second one, clipped to a fifth of its norm, is added; `micro` does not matter. */
    ft_parameters_zero(p);
    assert_ok(ft_trainer_clipped_whole(t, &b, 1, norm / 5, &again, &losses, &st), st);
    assert_true(fabs(again - norm) < 1e-4 * norm);
    assert_true(fabs(ft_parameters_norm(p, NULL) - norm / 5) < 1e-4 * norm);
    assert_ok(ft_trainer_clipped_whole(t, &b, PIECES, norm / 5, NULL, &losses, &st), st);
    assert_true(fabs(ft_parameters_norm(p, NULL) - 2 * norm / 5) < 1e-4 * norm);
    ft_trainer_close(t);
}

static void one_window_alone_has_the_same_norm_by_ghost_norms(void **state)
{
    (void)state;
    int32_t ids[PIECES * LENGTH], labels[PIECES * LENGTH];
    ft_status st = {0};
    ft_losses losses;
    double ghosts[PIECES], norm;
    const ft_batch b = some_pieces(ids, labels);
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    assert_ok(ft_trainer_clipped(t, &b, 1, ghosts, NULL, &losses, &st), st);
    for (size_t i = 0; i < PIECES; i++) {
        const ft_batch one = {.ids = ids + i * LENGTH, .labels = labels + i * LENGTH, .sequences = 1, .length = LENGTH};
        assert_ok(ft_trainer_clipped_whole(t, &one, 1, 1, &norm, &losses, &st), st);
        assert_true(fabs(norm - ghosts[i]) < 1e-4 * norm);
    }
    ft_trainer_close(t);
}

static void a_documents_pieces_hold_each_of_its_tokens_once(void **state)
{
    (void)state;
    ft_train_data *d = some_data(NULL);
    int32_t ids[LENGTH], labels[LENGTH];
    uint64_t predicted = 0;
    for (uint64_t doc = 0; doc < DOCUMENTS; doc++) {
        int32_t expected = -100;
        for (uint64_t p = 0; p < ft_train_data_pieces(d, doc, LENGTH); p++) {
            ft_train_data_piece(d, doc, p, LENGTH, ids, labels);
            if (p)
                assert_int_equal(ids[0], expected);
            for (size_t i = 0; i < LENGTH; i++)
                predicted += labels[i] >= 0;
            expected = labels[LENGTH - 1];
        }
        assert_int_equal(expected, -100);
    }
    assert_int_equal(predicted, ft_train_data_tokens(d) - DOCUMENTS);
    ft_train_data_close(d);
}

static void a_run_over_documents_counts_documents(void **state)
{
    (void)state;
    ft_train_options o = private_options();
    ft_train_report report;
    ft_status st = {0};
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    o.data = some_data(NULL);
    o.public_data = some_data(NULL); /* public text is mixed in beside it */
    o.public_share = 0.25;
    o.folder = ft_test_path("documents");
    o.example_document = 1;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_true(report.sampling_rate == 5.0 / DOCUMENTS);
    ft_trainer_close(t);
    ft_train_data_close(o.data);
    ft_train_data_close(o.public_data);
}

/* --- Composition ------------------------------------------------------------------------------------- */

static void mechanisms_of_one_kind_add_their_steps_and_others_cost_more_than_each(void **state)
{
    (void)state;
    const ft_privacy_mechanism parts[2] = {{0.02, 1.1, 300}, {0.02, 1.1, 200}}, whole = {0.02, 1.1, 500};
    const ft_privacy_mechanism mixed[2] = {{0.02, 1.1, 300}, {0.01, 0.9, 200}};
    ft_privacy_spent a, b, first, second, both;
    ft_accountant used;
    ft_status st = {0};
    for (int accountant = 0; accountant < 2; accountant++) {
        assert_ok(ft_privacy_composed(&a, parts, 2, 1e-5, accountant, &used, &st), st);
        assert_ok(ft_privacy_epsilon(&b, &whole, 1e-5, accountant, &st), st);
        assert_true(a.epsilon == b.epsilon && used == (ft_accountant)accountant);
    }
    assert_ok(ft_privacy_composed(&both, mixed, 2, 1e-5, FT_ACCOUNTANT_PLD, &used, &st), st);
    assert_int_equal(used, FT_ACCOUNTANT_RDP);
    assert_ok(ft_privacy_epsilon(&first, &mixed[0], 1e-5, FT_ACCOUNTANT_RDP, &st), st);
    assert_ok(ft_privacy_epsilon(&second, &mixed[1], 1e-5, FT_ACCOUNTANT_RDP, &st), st);
    assert_true(both.epsilon > first.epsilon && both.epsilon > second.epsilon);
    assert_true(both.epsilon < first.epsilon + second.epsilon);
    /* One that is all but alike costs all but the same as one that is alike: the two ways agree. */
    const ft_privacy_mechanism almost[2] = {{0.02, 1.1, 300}, {0.02, 1.1 * (1 + 1e-12), 200}};
    assert_ok(ft_privacy_composed(&both, almost, 2, 1e-5, FT_ACCOUNTANT_RDP, NULL, &st), st);
    assert_ok(ft_privacy_epsilon(&b, &whole, 1e-5, FT_ACCOUNTANT_RDP, &st), st);
    assert_true(fabs(both.epsilon - b.epsilon) < 1e-9);
}

static void steps_after_others_are_the_most_that_fit(void **state)
{
    (void)state;
    ft_status st = {0};
    for (int unlike = 0; unlike < 2; unlike++) {
        ft_privacy_mechanism all[2] = {{0.02, unlike ? 0.9 : 1.1, 150}, {0.02, 1.1, 0}};
        ft_privacy_spent spent;
        uint64_t steps;
        assert_ok(ft_privacy_steps_after(&steps, all, 1, 0.02, 1.1, 3, 1e-5, FT_ACCOUNTANT_RDP, &st), st);
        assert_in_range(steps, 1, 5000);
        all[1].steps = steps;
        assert_ok(ft_privacy_composed(&spent, all, 2, 1e-5, FT_ACCOUNTANT_RDP, NULL, &st), st);
        assert_true(spent.epsilon <= 3);
        all[1].steps++;
        assert_ok(ft_privacy_composed(&spent, all, 2, 1e-5, FT_ACCOUNTANT_RDP, NULL, &st), st);
        assert_true(spent.epsilon > 3);
    }
}

/* --- The ledger ---------------------------------------------------------------------------------------- */

static ft_train_options with_ledger(ft_train_data *d, const char *const *ledger, const char *folder)
{
    ft_train_options o = private_options();
    o.noise_multiplier = 2;
    o.epsilon = 1.5;
    o.steps = 100;
    o.data = d;
    o.folder = folder;
    o.ledgers = ledger;
    o.ledger_count = 1;
    return o;
}

static void neither_another_folder_nor_a_deleted_checkpoint_resets_the_budget(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_train_report report;
    uint64_t allowed;
    char path[600], first[600], second[600];
    ft_train_data *d = some_data(NULL);
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    snprintf(path, sizeof(path), "%s", ft_test_path("ledger-1"));
    snprintf(first, sizeof(first), "%s", ft_test_path("spends-1"));
    snprintf(second, sizeof(second), "%s", ft_test_path("spends-2"));
    const char *const ledger[] = {path};
    ft_train_options o = with_ledger(d, ledger, first);
    o.stop_after = 3;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_ok(ft_privacy_steps(&allowed, report.sampling_rate, 2, 1.5, 1e-5, FT_ACCOUNTANT_RDP, &st), st);
    assert_true(allowed > 6);
    o.folder = second; /* three steps are done, a fourth was set aside with the checkpoint after it */
    o.stop_after = 0;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_int_equal(report.steps_done, allowed - 3);
    assert_int_equal(report.earlier_runs, 1);
    assert_true(report.spent.epsilon <= 1.5 && report.own.epsilon < report.spent.epsilon);
    char checkpoint[700];
    snprintf(checkpoint, sizeof(checkpoint), "%s/checkpoint", second);
    assert_int_equal(unlink(checkpoint), 0);
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "the budget is spent"));
    assert_non_null(strstr(st.msg, path));
    assert_false(ft_path_exists(checkpoint));
    o.epsilon = 2; /* a larger budget is the owner's to give: what was spent counts in it */
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_int_equal(report.earlier_runs, 2);
    ft_trainer_close(t);
    ft_train_data_close(d);
}

/* Its steps are done, whatever budget it is given afterwards: nothing is made of them that claims the smaller one. */
static void a_run_that_cost_more_than_a_smaller_budget_is_refused_under_it(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_train_report report;
    ft_train_data *d = some_data(NULL);
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    ft_train_options o = private_options();
    o.folder = ft_test_path("smaller");
    o.data = d;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_int_equal(report.steps_done, 7);
    o.epsilon = report.spent.epsilon - 1e-3; /* some of the steps fit, not all */
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_LIMIT);
    assert_non_null(strstr(st.msg, "its 7 steps cost"));
    ft_trainer_close(t);
    ft_train_data_close(d);
}

static int kill_at_five(void *context, const ft_train_metrics *m)
{
    (void)context;
    if (m->step == 5)
        raise(SIGKILL);
    return 0;
}

static void a_killed_run_goes_on_and_spends_nothing_twice(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_train_report report;
    char path[600], folder[600];
    int status;
    size_t n;
    ft_train_data *d = some_data(NULL);
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    snprintf(path, sizeof(path), "%s", ft_test_path("ledger-2"));
    snprintf(folder, sizeof(folder), "%s", ft_test_path("killed-spender"));
    const char *const ledger[] = {path};
    ft_train_options o = with_ledger(d, ledger, folder);
    o.steps = 7;
    const pid_t child = fork();
    if (child == 0) {
        o.on_step = kill_at_five;
        _exit(ft_train_run(t, &o, &report, NULL) ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    /* A crash in the middle of a line of the ledger: the line was never acted upon. */
    char *text = ft_test_read(path, &n), *more = malloc(n + 10);
    assert_non_null(strstr(text, "\"steps\":6"));
    memcpy(more, text, n);
    memcpy(more + n, "{\"format\":", 10);
    assert_int_equal(ft_file_write(path, more, n + 10, NULL), FT_OK);
    free(text);
    free(more);
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    assert_int_equal(report.resumed_at, 4);
    assert_int_equal(report.steps_done, 7);
    assert_int_equal(report.earlier_runs, 0);
    ft_trainer_close(t);
    ft_train_data_close(d);
}

static void a_ledger_that_was_deleted_damaged_or_of_other_examples_stops_the_run(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_train_report report;
    char path[600], folder[600];
    ft_train_data *d = some_data(NULL);
    ft_trainer *t = trainer(FT_TRAIN_EXPERT);
    snprintf(path, sizeof(path), "%s", ft_test_path("ledger-3"));
    snprintf(folder, sizeof(folder), "%s", ft_test_path("spends-3"));
    const char *const ledger[] = {path};
    ft_train_options o = with_ledger(d, ledger, folder);
    o.stop_after = 2;
    assert_ok(ft_train_run(t, &o, &report, &st), st);
    o.stop_after = 3;
    o.folder = ft_test_path("spends-4");
    o.example_document = 1;
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "--example"));
    o.example_document = 0;
    o.folder = folder;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "the ledger was deleted"));
    assert_int_equal(ft_file_write(path, "{\"format\":\"other\"}\n", 19, NULL), FT_OK);
    assert_int_equal(ft_train_run(t, &o, &report, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "line 1"));
    ft_trainer_close(t);
    ft_train_data_close(d);
}

static void a_ledger_has_one_spender_at_a_time(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_ledger *one, *two;
    assert_ok(ft_ledger_open(&one, ft_test_path("ledger-5"), "one document", &st), st);
    assert_int_equal(ft_ledger_open(&two, ft_test_path("ledger-5"), "one document", &st), FT_ERR_LIMIT);
    assert_null(two);
    ft_ledger_close(one);
    assert_ok(ft_ledger_open(&two, ft_test_path("ledger-5"), "one document", &st), st);
    ft_ledger_close(two);
}

static void a_full_disk_sets_nothing_aside(void **state)
{
    (void)state;
    ft_ledger *l;
    ft_status st = {0};
    char path[600];
    snprintf(path, sizeof(path), "%s", ft_test_path("ledger-6"));
    const ft_privacy_mechanism m = {0.1, 1, 5}, more = {0.1, 1, 9};
    assert_ok(ft_ledger_open(&l, path, "one document", &st), st);
    assert_ok(ft_ledger_set_aside(l, "a", "data", &m, &st), st);
    ft_ledger_close(l);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {250, 250}; /* room for a part of the next line */
        signal(SIGXFSZ, SIG_IGN);
        if (ft_ledger_open(&l, path, "one document", &st) || setrlimit(RLIMIT_FSIZE, &limit))
            _exit(2);
        const ft_code rc = ft_ledger_set_aside(l, "a", "data", &more, &st);
        _exit(rc == FT_ERR_IO && ft_ledger_steps(l, "a") == 5 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_ok(ft_ledger_open(&l, path, "one document", &st), st);
    assert_int_equal(ft_ledger_steps(l, "a"), 5);
    ft_ledger_close(l);
}

/* Opening, and setting aside, with the k-th allocation failing: the file says what it said, or one line more. */
static void memory_that_runs_out_spends_nothing_unknown(void **state)
{
    (void)state;
    ft_status st = {0};
    char path[600];
    const ft_privacy_mechanism m = {0.1, 1, 5};
    ft_code rc = FT_ERR_MEM;
    for (long k = 1; rc; k++) {
        ft_ledger *l = NULL;
        char name[32];
        snprintf(name, sizeof(name), "ledger-k%ld", k);
        snprintf(path, sizeof(path), "%s", ft_test_path(name));
        ft_test_fail_allocation(k);
        rc = ft_ledger_open(&l, path, "one document", &st);
        if (!rc)
            rc = ft_ledger_set_aside(l, "a", "data", &m, &st);
        ft_test_fail_allocation(0);
        ft_ledger_close(l);
        assert_true(rc == FT_OK || rc == FT_ERR_MEM);
        assert_ok(ft_ledger_open(&l, path, "one document", &st), st);
        const uint64_t steps = ft_ledger_steps(l, "a");
        assert_true(rc ? steps == 0 || steps == 5 : steps == 5);
        ft_ledger_close(l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document_of_several_windows_is_clipped_as_one_example),
        cmocka_unit_test(one_window_alone_has_the_same_norm_by_ghost_norms),
        cmocka_unit_test(a_documents_pieces_hold_each_of_its_tokens_once),
        cmocka_unit_test(a_run_over_documents_counts_documents),
        cmocka_unit_test(mechanisms_of_one_kind_add_their_steps_and_others_cost_more_than_each),
        cmocka_unit_test(steps_after_others_are_the_most_that_fit),
        cmocka_unit_test(a_run_that_cost_more_than_a_smaller_budget_is_refused_under_it),
        cmocka_unit_test(neither_another_folder_nor_a_deleted_checkpoint_resets_the_budget),
        cmocka_unit_test(a_killed_run_goes_on_and_spends_nothing_twice),
        cmocka_unit_test(a_ledger_that_was_deleted_damaged_or_of_other_examples_stops_the_run),
        cmocka_unit_test(a_ledger_has_one_spender_at_a_time),
        cmocka_unit_test(a_full_disk_sets_nothing_aside),
        cmocka_unit_test(memory_that_runs_out_spends_nothing_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
