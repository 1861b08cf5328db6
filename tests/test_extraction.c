/* The extraction attack: distances against the plain matrix, a model that knows one document by heart, records. */
#include "tests/model_fixture.h"

#include "model/eval/ft_edit_distance.h"
#include "model/eval/ft_extraction.h"
#include "model/train/ft_experts.h"
#include "model/train/ft_trainer.h"

#include <math.h>

/* --- Distance ------------------------------------------------------------------------------------- */

enum { LONGEST = 260 };

static size_t plain_distance(const uint32_t *a, size_t m, const uint32_t *b, size_t n)
{
    static size_t d[LONGEST + 1][LONGEST + 1];
    for (size_t i = 0; i <= m; i++)
        for (size_t j = 0; j <= n; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            const size_t change = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            const size_t gap = 1 + (d[i - 1][j] < d[i][j - 1] ? d[i - 1][j] : d[i][j - 1]);
            d[i][j] = change < gap ? change : gap;
        }
    return d[m][n];
}

static void distances_are_those_of_the_plain_matrix(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 2, 3, 31, 63, 64, 65, 127, 128, 129, 200, 256, LONGEST};
    enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };
    ft_edit_scratch s = {0};
    ft_random r;
    ft_random_init(&r, 3);
    for (size_t i = 0; i < COUNT; i++)
        for (size_t j = 0; j < COUNT; j++)
            for (unsigned kind = 0; kind < 4; kind++) {
                static const uint64_t alphabet[] = {1, 2, 5, 1u << 30};
                uint32_t a[LONGEST], b[LONGEST];
                size_t got;
                ft_status st = {0};
                for (size_t k = 0; k < lengths[i]; k++)
                    a[k] = (uint32_t)ft_random_below(&r, alphabet[kind]);
                for (size_t k = 0; k < lengths[j]; k++) /* half of it copied, so that distances are not all large */
                    b[k] = lengths[i] && ft_random_below(&r, 2) ? a[k % lengths[i]]
                                                                : (uint32_t)ft_random_below(&r, alphabet[kind]);
                assert_ok(ft_edit_distance(&s, a, lengths[i], b, lengths[j], &got, &st), st);
                const size_t want = plain_distance(a, lengths[i], b, lengths[j]);
                if (got != want)
                    fail_msg("%zu and %zu symbols of %llu: %zu, not %zu", lengths[i], lengths[j],
                             (unsigned long long)alphabet[kind], got, want);
            }
    ft_edit_scratch_release(&s);
}

static void similarity_is_one_for_equals_and_zero_for_strangers(void **state)
{
    (void)state;
    const uint32_t a[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, b[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11}, c[] = {20, 21};
    ft_edit_scratch s = {0};
    ft_status st = {0};
    double x;
    assert_ok(ft_edit_similarity(&s, a, 10, a, 10, &x, &st), st);
    assert_true(x == 1);
    assert_ok(ft_edit_similarity(&s, a, 10, b, 10, &x, &st), st);
    assert_true(fabs(x - 0.9) < 1e-15);
    assert_ok(ft_edit_similarity(&s, a, 10, c, 2, &x, &st), st);
    assert_true(x == 0);
    assert_ok(ft_edit_similarity(&s, NULL, 0, NULL, 0, &x, &st), st);
    assert_true(x == 1);
    ft_edit_scratch_release(&s);
}

/* --- Attacks ----------------------------------------------------------------------------------------- */

enum { VOCAB = 4096, PREFIX = 8, STEPS = 60 };
static const char secret[] = "The code of the old safe in the cellar is nine, two, seven, four, and nobody but the "
                             "miller and the miller's daughter was ever told so, for it opens the door to the sea.";
static const char other[] = "A recipe for bread asks for flour, water, salt and time; the dough rests overnight in a "
                            "cool room, is folded twice in the morning, and bakes for forty minutes in a hot oven.";

static const fixture DENSE = {.hidden = 32,
                              .intermediate = 48,
                              .layers = 2,
                              .heads = 2,
                              .kv_heads = 2,
                              .head_dim = 16,
                              .vocab = VOCAB,
                              .config = ""};

/* A model folder with the tokenizer; taught: trained on the secret until it knows it. */
static const char *write_model(const char *name, int taught)
{
    static char folders[2][600];
    char *folder = folders[taught];
    ft_status st = {0};
    snprintf(folder, 600, "%s", fixture_write(name, &DENSE));
    ft_tokenizer *t;
    size_t n;
    char path[700], *bytes;
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "demo/flexmix/%s", files[i]);
        bytes = ft_test_read(ft_test_source(path), &n);
        snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
        ft_test_write(path, bytes, n);
        free(bytes);
    }
    if (!taught)
        return folder;
    ft_trainer *trainer;
    ft_encoder *e;
    ft_encoding ids = {0};
    const ft_trainer_options o = {.mode = FT_TRAIN_ALL, .threads = 1};
    const ft_adamw adam = {.rate = 2e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    assert_ok(ft_tokenizer_open(&t, folder, &st), st);
    assert_ok(ft_encoder_new(&e, t, &st), st);
    assert_ok(ft_encoder_encode(e, secret, strlen(secret), &ids, &st), st);
    assert_ok(ft_trainer_open(&trainer, folder, &o, &st), st);
    ft_losses losses = {0};
    for (uint64_t step = 1; step <= STEPS; step++) {
        const ft_batch b = {.ids = (const int32_t *)ids.ids,
                            .labels = (const int32_t *)ids.ids + 1,
                            .sequences = 1,
                            .length = ids.count - 1};
        ft_parameters_zero(ft_trainer_parameters(trainer));
        assert_ok(ft_trainer_gradient(trainer, &b, 1, &losses, &st), st);
        assert_ok(ft_trainer_update(trainer, &adam, step, 1, &st), st);
    }
    assert_true(losses.ce < 0.05); /* the test's own premise */
    assert_ok(ft_model_export(ft_trainer_parameters(trainer), folder, folder, 0, &st), st);
    ft_trainer_close(trainer);
    ft_encoding_release(&ids);
    ft_encoder_free(e);
    ft_tokenizer_close(t);
    return folder;
}

static const char *write_corpus(void)
{
    char rows[1000];
    const int n = snprintf(rows, sizeof(rows),
                           "{\"id\":\"other\",\"text\":\"%s\"}\n{\"id\":\"short\",\"text\":\"Too short.\"}\n"
                           "{\"id\":\"secret\",\"text\":\"%s\"}\n",
                           other, secret);
    return ft_test_write("corpus.jsonl", rows, (size_t)n);
}

typedef struct stand {
    ft_model *model;
    ft_tokenizer *tokenizer;
    ft_eval_text text;
} stand;

static stand set_up(const char *folder)
{
    stand s;
    ft_status st = {0};
    const char *corpus = write_corpus();
    assert_ok(ft_model_open(&s.model, folder, &st), st);
    assert_ok(ft_tokenizer_open(&s.tokenizer, folder, &st), st);
    assert_ok(ft_eval_text_open(&s.text, &corpus, 1, s.tokenizer, VOCAB, 0, NULL, &st), st);
    return s;
}

static void tear_down(stand *s)
{
    ft_eval_text_close(&s->text);
    ft_tokenizer_close(s->tokenizer);
    ft_model_close(s->model);
}

static ft_extraction_options short_attack(void)
{
    ft_extraction_options o = ft_extraction_defaults();
    o.prefix = PREFIX;
    o.least = 16;
    o.samples = 4;
    return o;
}

static void what_a_model_knows_by_heart_leaks_and_nothing_else_does(void **state)
{
    (void)state;
    for (int on_text = 0; on_text < 2; on_text++) {
        stand s = set_up(write_model("taught", 1));
        ft_extraction_options o = short_attack();
        ft_extraction x;
        ft_status st = {0};
        o.on_text = on_text;
        assert_ok(ft_extraction_run(&x, s.model, s.tokenizer, NULL, &s.text, &o, NULL, &st), st);
        assert_int_equal(x.candidates, 2); /* the short one is none */
        assert_int_equal(x.count, 2);
        assert_int_equal(x.leaked, 1);
        assert_string_equal(s.text.documents[x.documents[1].document].id, "secret");
        assert_true(x.documents[1].leaks && x.documents[1].similarity >= 0.9);
        assert_true(!x.documents[0].leaks && !x.documents[0].ids);
        const uint32_t *follows = s.text.ids + s.text.documents[2].first + PREFIX;
        if (x.documents[1].similarity == 1)
            assert_memory_equal(x.documents[1].ids, follows, x.documents[1].count * sizeof(*follows));
        ft_extraction_release(&x);
        tear_down(&s);
    }
}

static void an_untrained_model_gives_nothing_away(void **state)
{
    (void)state;
    stand s = set_up(write_model("untaught", 0));
    const ft_extraction_options o = short_attack();
    ft_extraction x;
    ft_status st = {0};
    assert_ok(ft_extraction_run(&x, s.model, s.tokenizer, NULL, &s.text, &o, NULL, &st), st);
    assert_int_equal(x.leaked, 0);
    assert_true(x.documents[0].similarity < 0.5 && x.documents[1].similarity < 0.5);
    ft_extraction_release(&x);
    tear_down(&s);
}

static int stop_late(void *context, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
    (void)phase, (void)total, (void)unit;
    return done >= *(uint64_t *)context;
}

static void an_attack_that_was_stopped_goes_on_to_the_same_record(void **state)
{
    (void)state;
    stand s = set_up(write_model("record", 1));
    ft_extraction_options o = short_attack();
    ft_extraction x;
    ft_pool *pool;
    ft_status st = {0};
    size_t n, whole;
    char first[600], second[600];
    snprintf(first, sizeof(first), "%s", ft_test_path("first.jsonl"));
    snprintf(second, sizeof(second), "%s", ft_test_path("second.jsonl"));
    o.record = first;
    assert_ok(ft_extraction_run(&x, s.model, s.tokenizer, NULL, &s.text, &o, NULL, &st), st);
    ft_extraction_release(&x);
    char *want = ft_test_read(first, &whole);
    /* Killed in the middle of the last line, and gone on with on two threads. */
    for (size_t cut = 1; cut < whole; cut = cut * 2 + 7) {
        ft_test_write(second, want, cut);
        o.record = second;
        assert_ok(ft_pool_new(&pool, 2, &st), st);
        assert_ok(ft_extraction_run(&x, s.model, s.tokenizer, pool, &s.text, &o, NULL, &st), st);
        assert_int_equal(x.leaked, 1);
        assert_non_null(x.documents[1].ids);
        ft_pool_free(pool);
        ft_extraction_release(&x);
        char *got = ft_test_read(second, &n);
        if (strchr(want, '\n') - want < (long)cut) { /* lines may come in another order */
            assert_int_equal(n, whole);
        }
        free(got);
    }
    /* Stopped by progress: nothing is lost. */
    uint64_t most = 1;
    const ft_progress stop = {.report = stop_late, .context = &most};
    remove(second);
    assert_int_equal(ft_extraction_run(&x, s.model, s.tokenizer, NULL, &s.text, &o, &stop, &st), FT_ERR_CANCELLED);
    assert_ok(ft_extraction_run(&x, s.model, s.tokenizer, NULL, &s.text, &o, NULL, &st), st);
    assert_int_equal(x.leaked, 1);
    ft_extraction_release(&x);
    /* Another attack's record is left alone. */
    o.seed = 2;
    assert_int_equal(ft_extraction_run(&x, s.model, s.tokenizer, NULL, &s.text, &o, NULL, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "the record of another attack"));
    free(want);
    tear_down(&s);
}

static void documents_are_drawn_by_the_seed(void **state)
{
    (void)state;
    stand s = set_up(write_model("drawn", 0));
    ft_extraction_options o = short_attack();
    ft_extraction x;
    ft_status st = {0};
    int seen = 0;
    o.documents = o.samples = 1;
    o.new_tokens = 2;
    for (o.seed = 1; o.seed < 20; o.seed++) {
        assert_ok(ft_extraction_run(&x, s.model, s.tokenizer, NULL, &s.text, &o, NULL, &st), st);
        assert_int_equal(x.count, 1);
        seen |= 1 << x.documents[0].document;
        ft_extraction_release(&x);
    }
    assert_int_equal(seen, 1 | 1 << 2);
    o.least = 4000;
    assert_int_equal(ft_extraction_run(&x, s.model, s.tokenizer, NULL, &s.text, &o, NULL, &st), FT_ERR_FORMAT);
    assert_non_null(strstr(st.msg, "no document has the 4008 tokens"));
    tear_down(&s);
}

static void the_owners_index_confirms_what_leaked(void **state)
{
    (void)state;
    const char *folder = write_model("confirm", 1), *corpus = write_corpus();
    char command[3000], *out, *err;
    snprintf(command, sizeof(command),
             "d=$(mktemp -d) && $FLEXTRACE index build $d/i -t %s --owner mill %s >/dev/null 2>&1 && "
             "$FLEXTRACE attack extraction %s --corpus %s -i $d/i --prefix %d --least 16 --samples 4 --json; "
             "code=$?; rm -r $d; exit $code",
             folder, corpus, folder, corpus, PREFIX);
    assert_int_equal(ft_test_shell(command, &out, &err), 0);
    json_t *report = json_loads(out, 0, NULL), *leak = json_array_get(json_object_get(report, "leaks"), 0);
    assert_int_equal(json_integer_value(json_object_get(report, "leaked")), 1);
    assert_string_equal(json_string_value(json_object_get(leak, "id")), "secret");
    const json_t *index = json_object_get(leak, "index");
    assert_true(json_is_true(json_object_get(index, "confirmed")));
    assert_string_equal(json_string_value(json_object_get(index, "document")), "secret");
    assert_string_equal(json_string_value(json_object_get(index, "owner")), "mill");
    assert_true(json_integer_value(json_object_get(index, "tokens")) >= 16);
    json_decref(report);
    free(out);
    free(err);
    assert_int_equal(ft_test_shell("$FLEXTRACE attack extraction", NULL, &err), 2);
    assert_non_null(strstr(err, "needs a MODEL and --corpus"));
    free(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances_are_those_of_the_plain_matrix),
        cmocka_unit_test(similarity_is_one_for_equals_and_zero_for_strangers),
        cmocka_unit_test(what_a_model_knows_by_heart_leaks_and_nothing_else_does),
        cmocka_unit_test(an_untrained_model_gives_nothing_away),
        cmocka_unit_test(an_attack_that_was_stopped_goes_on_to_the_same_record),
        cmocka_unit_test(documents_are_drawn_by_the_seed),
        cmocka_unit_test(the_owners_index_confirms_what_leaked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
