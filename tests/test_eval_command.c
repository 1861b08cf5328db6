/* Recipes, reports, and `flextrace eval`: what it trains, what it keeps, what it does again. */
#include "tests/model_fixture.h"

#include "model/eval/ft_eval_recipe.h"
#include "model/eval/ft_eval_report.h"
#include "model/ft_model.h"
#include "text/ft_tokenizer.h"

#include <math.h>

/* --- Recipes -------------------------------------------------------------------------------------- */

static ft_code read_recipe(ft_recipe **r, const char *text, ft_status *st)
{
    return ft_recipe_read(r, ft_test_write("recipe.yaml", text, strlen(text)), st);
}

static void a_recipe_is_read_whole(void **state)
{
    (void)state;
    ft_recipe *r;
    ft_status st = {0};
    assert_ok(read_recipe(&r,
                          "name: both\ntokenizer: tok\nwindow: 64\n"
                          "domains:\n  - {name: home, train: [a.jsonl], test: [b.jsonl, c.jsonl]}\n"
                          "  - {name: news, train: [d.jsonl], proxy: [e.jsonl], test: [f.jsonl]}\n"
                          "train:\n  start: begin\n  public: --steps 3\n  expert: --steps 4 --rate 1e-3\n"
                          "systems:\n  - {name: a, model: m, without: [1, 2]}\n  - {name: b, model: n}\n"
                          "  - {name: ab, mix: [a, b], top: 1}\n"
                          "choices:\n  - {name: arc, file: arc.jsonl, limit: 10}\n",
                          &st),
              st);
    assert_int_equal(*r->window, 64);
    assert_int_equal(r->domains_count, 2);
    assert_int_equal(r->domains[0].test_count, 2);
    assert_string_equal(r->domains[1].proxy[0], "e.jsonl");
    assert_string_equal(r->train->expert, "--steps 4 --rate 1e-3");
    assert_null(r->train->joint);
    assert_int_equal(r->systems[0].without[1], 2);
    assert_string_equal(r->systems[2].mix[1], "b");
    assert_int_equal(*r->choices[0].limit, 10);
    ft_recipe_free(r);
}

static void a_recipe_that_means_nothing_is_refused_in_its_line(void **state)
{
    (void)state;
#define HEAD "tokenizer: t\ndomains:\n  - {name: a, test: [x]}\n"
#define SYSTEM "systems:\n  - {name: s, model: m}\n"
    static const struct {
        const char *text, *says;
    } bad[] = {
        {HEAD SYSTEM "windw: 3\n", "recipe.yaml:6: unknown key 'windw'; docs/evaluation.md lists the keys"},
        {HEAD SYSTEM "  - {name: q, model: n, witout: [1]}\n", "recipe.yaml:6: unknown key 'witout'"},
        {HEAD SYSTEM "window: many\n", "recipe.yaml:6: an integer is expected, not 'many'"},
        {HEAD SYSTEM "window: 1\n", "'window' is 2 or more tokens"},
        {HEAD, "nothing to measure"},
        {HEAD "  - {name: a, test: [y]}\n" SYSTEM, "two domains 'a'"},
        {"tokenizer: t\ndomains:\n  - {name: ../a, test: [x]}\n" SYSTEM, "domain '../a': a name is letters"},
        {HEAD SYSTEM "  - {name: s, model: n}\n", "two systems 's'"},
        {HEAD SYSTEM "  - {name: q}\n", "needs 'model', or 'mix'"},
        {HEAD SYSTEM "  - {name: q, mix: [nobody]}\n", "mixes 'nobody', which is no model before it"},
        {HEAD SYSTEM "  - {name: q, model: m, without: [64]}\n", "experts 0 to 63"},
        {HEAD SYSTEM "  - {name: q, mix: [s], top: -1}\n", "'top' is how many of a 'mix' count"},
        {HEAD SYSTEM "  - {name: q, model: m, top: 1}\n", "'top' is how many of a 'mix' count"},
        {HEAD "train: {start: s, public: --steps 1}\n", "the public one, needs 'train'"},
        {HEAD "  - {name: b, test: [y], expert: --steps 1}\n" SYSTEM, "domain 'b': 'expert' is for an owner's domain"},
        {"tokenizer: t\n" SYSTEM, "domains"},
        {"domains:\n  - {name: a, test: [x]}\n" SYSTEM, "'tokenizer' is needed"},
#define TRAIN "domains:\n  - {name: a, train: [y], test: [x]}\ntrain: {start: s, public: --steps 1, tokenizer: "
        {"tokenizer: t\n" TRAIN "{size: 300}}\n", "not both"},
        {TRAIN "{size: 257}}\n", "train.tokenizer needs 'size', 258 entries or more"},
        {"domains:\n  - {name: a, train: [y], test: [x]}\ntrain: {start: s, tokenizer: {size: 300}}\n",
         "train.tokenizer needs train.public"},
        {TRAIN "{size: 300, domains: [b]}}\n", "'b' is no domain with 'train'"},
        {"", "empty"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ft_recipe *r;
        ft_status st = {0};
        assert_int_equal(read_recipe(&r, bad[i].text, &st), FT_ERR_FORMAT);
        assert_null(r);
        if (!strstr(st.msg, bad[i].says))
            fail_msg("%s\nsaid '%s', not '%s'", bad[i].text, st.msg, bad[i].says);
    }
}

/* --- Reports ---------------------------------------------------------------------------------------- */

static const char report_text[] =
    "{\"name\":\"a <b> & \\\"c\\\"\",\"window\":64,\"vocabulary\":10,"
    "\"domains\":[{\"name\":\"home\",\"role\":\"public\",\"documents\":1,\"bytes\":10,\"tokens\":5},"
    "{\"name\":\"news\",\"role\":\"owner\",\"documents\":1,\"bytes\":10,\"tokens\":5},"
    "{\"name\":\"law\",\"role\":\"owner\",\"documents\":1,\"bytes\":10,\"tokens\":5}],"
    "\"systems\":["
    "{\"name\":\"public\",\"kind\":\"public\",\"bits_per_byte\":{\"home\":1.0,\"news\":3.0,\"law\":5.0}},"
    "{\"name\":\"expert news\",\"kind\":\"pair\",\"owner\":\"news\","
    "\"bits_per_byte\":{\"home\":1.0,\"news\":2.0,\"law\":5.0}},"
    "{\"name\":\"expert law\",\"kind\":\"pair\",\"owner\":\"law\","
    "\"bits_per_byte\":{\"home\":1.0,\"news\":3.0,\"law\":3.0}},"
    "{\"name\":\"soup, plain\",\"kind\":\"soup\",\"bits_per_byte\":{\"home\":1.0,\"news\":3.0,\"law\":4.0}},"
    "{\"name\":\"merged\",\"kind\":\"merged\",\"bits_per_byte\":{\"home\":1.01,\"news\":2.4,\"law\":3.2},"
    "\"experts\":[\"home\",\"news\",\"law\"],\"shares\":{\"home\":[0.8,0.1,0.1],\"news\":[0.1,0.7,0.2],"
    "\"law\":[0.5,0.1,0.4]},\"first\":{\"home\":[1,0,0],\"news\":[0,1,0],\"law\":[1,0,0]}},"
    "{\"name\":\"merged without news\",\"kind\":\"without\",\"without\":\"news\","
    "\"bits_per_byte\":{\"home\":1.0,\"news\":2.85,\"law\":3.264}},"
    "{\"name\":\"joint\",\"kind\":\"joint\",\"bits_per_byte\":{\"home\":1.0,\"news\":2.0,\"law\":3.0}}]}";

static double value_of(const json_t *report, const char *what)
{
    size_t i;
    const json_t *x;
    json_array_foreach(json_object_get(report, "compared"), i, x)
    {
        if (strstr(json_string_value(json_object_get(x, "what")), what))
            return json_number_value(json_object_get(x, "value"));
    }
    fail_msg("nothing says '%s'", what);
    return 0;
}

static void what_systems_are_worth_is_computed_from_the_figures(void **state)
{
    (void)state;
    json_t *r = json_loads(report_text, 0, NULL);
    ft_status st = {0};
    assert_non_null(r);
    assert_ok(ft_eval_compare(r, &st), st);
    assert_true(fabs(value_of(r, "below public, owners' mean") - 100 * (1 - 2.8 / 4)) < 1e-9);
    assert_true(fabs(value_of(r, "gains least") - 20) < 1e-9);
    assert_true(fabs(value_of(r, "single experts on their own") - 100 * (2.8 / 2.5 - 1)) < 1e-9);
    assert_true(fabs(value_of(r, "on the public domain") - 1) < 1e-9);
    assert_true(fabs(value_of(r, "below soup") - 20) < 1e-9);
    assert_true(fabs(value_of(r, "joint training") - 12) < 1e-9);
    assert_true(value_of(r, "largest share on its domain, of 2") == 1);
    assert_true(fabs(value_of(r, "its domain against public") + 5) < 1e-9);
    assert_true(fabs(value_of(r, "merged, one left out: other domains") - 2) < 1e-9);
    json_decref(r);
}

static void table_csv_and_page_show_the_figures(void **state)
{
    (void)state;
    json_t *r = json_loads(report_text, 0, NULL);
    ft_buffer table = {0}, csv = {0}, page = {0};
    ft_status st = {0};
    assert_ok(ft_eval_compare(r, &st), st);
    assert_ok(ft_eval_table(r, &table, &st), st);
    assert_ok(ft_eval_csv(r, &csv, &st), st);
    assert_ok(ft_eval_page(r, &page, &st), st);
    assert_non_null(strstr(table.data, "merged                       2.800     1.010     2.400     3.200\n"));
    assert_non_null(strstr(table.data, "  news                        10.0      70.0      20.0\n"));
    assert_non_null(strstr(csv.data, "\nmerged,merged,bits_per_byte,news,2.4\n"));
    assert_non_null(strstr(csv.data, "\n\"soup, plain\",soup,bits_per_byte,mean,3.5\n"));
    assert_non_null(strstr(csv.data, "\nmerged,merged,shares of law,news,0.2\n"));
    assert_non_null(strstr(page.data, "<h1>a &lt;b&gt; &amp; &quot;c&quot;</h1>"));
    assert_null(strstr(page.data, "<b>"));
    assert_null(strstr(page.data, "http")); /* self-contained */
    assert_non_null(strstr(page.data, ">2.850</text>"));
    assert_non_null(strstr(page.data, ">+18.8</td>")); /* news without its expert, 2.85 / 2.4 */
    ft_buffer_release(&table);
    ft_buffer_release(&csv);
    ft_buffer_release(&page);
    json_decref(r);
}

static void what_is_left_out_of_the_tuned_model_is_held_against_that(void **state)
{
    (void)state;
    ft_status st = {0};
    ft_buffer page = {0};
    json_t *r = json_loads(report_text, 0, NULL), *systems = json_object_get(r, "systems");
    json_array_append_new(systems, json_loads("{\"name\":\"tuned\",\"kind\":\"tuned\",\"bits_per_byte\":"
                                              "{\"home\":1.02,\"news\":2.2,\"law\":3.1}}",
                                              0, NULL));
    json_array_append_new(systems, json_loads("{\"name\":\"tuned without law\",\"kind\":\"tuned-without\","
                                              "\"without\":\"law\",\"bits_per_byte\":"
                                              "{\"home\":1.02,\"news\":2.244,\"law\":4.9}}",
                                              0, NULL));
    assert_ok(ft_eval_compare(r, &st), st);
    assert_true(fabs(value_of(r, "merged, one left out: its domain") + 5) < 1e-9);
    assert_true(fabs(value_of(r, "tuned, one left out: its domain") + 2) < 1e-9);
    assert_true(fabs(value_of(r, "tuned, one left out: other domains") - 2) < 1e-9);
    assert_ok(ft_eval_page(r, &page, &st), st);
    assert_non_null(strstr(page.data, "The merged model with its tuned router, each owner"));
    assert_non_null(strstr(page.data, ">+58.1</td>")); /* law without its expert, 4.9 / 3.1 */
    assert_null(strstr(page.data, ">+18.8</td>"));     /* what is left out of the model before */
    ft_buffer_release(&page);
    json_decref(r);
}

/* --- The command ---------------------------------------------------------------------------------------- */

static void put(const char *folder, const char *name, const char *text)
{
    char path[1000];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    ft_test_write(path, text, strlen(text));
}

static void put_corpus(const char *folder, const char *name, const char *word)
{
    ft_buffer rows = {0};
    char path[1000];
    for (int i = 0; i < 12; i++)
        assert_int_equal(ft_buffer_printf(&rows, NULL,
                                          "{\"id\":\"%s-%d\",\"text\":\"%s %d, and %s again, as always %s was.\"}\n",
                                          word, i, word, i, word, word),
                         FT_OK);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    ft_test_write(path, rows.data, rows.size);
    ft_buffer_release(&rows);
}

/* A folder with a recipe, corpora and a start of 16 numbers wide. */
static const char *make_work(const char *router_steps)
{
    static char folder[600];
    char recipe[2000], tokenizer[600];
    snprintf(folder, sizeof(folder), "%s", ft_test_path("work"));
    assert_int_equal(ft_folder_make(folder, NULL), FT_OK);
    snprintf(tokenizer, sizeof(tokenizer), "%s", ft_test_source("demo/flexmix"));
    put_corpus(folder, "home.jsonl", "river");
    put_corpus(folder, "news.jsonl", "election");
    put_corpus(folder, "law.jsonl", "statute");
    put(folder, "config.json",
        "{\"architectures\":[\"Olmo2ForCausalLM\"],\"model_type\":\"olmo2\",\"hidden_size\":16,"
        "\"intermediate_size\":16,\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":2,"
        "\"vocab_size\":4096,\"max_position_embeddings\":64,\"eos_token_id\":0,\"rms_norm_eps\":1e-6,"
        "\"rope_theta\":10000,\"tie_word_embeddings\":false}");
#define SHORT "--batch 2 --length 16 --steps "
    snprintf(recipe, sizeof(recipe),
             "name: small\ntokenizer: %s\nwindow: 16\ndomains:\n"
             "  - {name: home, train: [home.jsonl], test: [home.jsonl]}\n"
             "  - {name: news, train: [news.jsonl], test: [news.jsonl]}\n"
             "  - {name: law, train: [law.jsonl], test: [law.jsonl]}\n"
             "train:\n  start: %s\n  public: " SHORT "3\n  expert: " SHORT "3\n  branch: " SHORT "3\n"
             "  router: " SHORT "%s\n  joint: " SHORT "3\n",
             tokenizer, folder, router_steps);
    put(folder, "r.yaml", recipe);
    return folder;
}

static char *run_eval(const char *folder, const char *more, char **err)
{
    char command[2000], *out;
    snprintf(command, sizeof(command), "$FLEXTRACE eval %s/r.yaml -o %s/out --threads 1 %s", folder, folder, more);
    const int code = ft_test_shell(command, &out, err);
    if (code)
        fail_msg("exit %d: %s", code, *err);
    return out;
}

static size_t occurrences(const char *text, const char *of)
{
    size_t n = 0;
    for (; (text = strstr(text, of)); text += strlen(of))
        n++;
    return n;
}

static void one_command_trains_and_measures_all_and_again_nothing(void **state)
{
    (void)state;
    const char *folder = make_work("2");
    char *err, *again, path[900];
    char *out = run_eval(folder, "--json", &err);
    /* public, two experts, merge, two branches, soup, btx-start, tuned, btx, joint */
    assert_int_equal(occurrences(err, "flextrace: stage "), 11);
    json_t *report = json_loads(out, 0, NULL);
    assert_non_null(report);
    /* public, 2 pairs, 2 branches, soup, ensemble, btx, merged, 2 without, tuned, 2 without, joint */
    assert_int_equal(json_array_size(json_object_get(report, "systems")), 15);
    assert_int_equal(occurrences(err, "measuring "), 15);
    size_t i;
    const json_t *s;
    json_array_foreach(json_object_get(report, "systems"), i, s)
    {
        assert_true(json_number_value(json_object_get(s, "mean")) > 0);
    }
    json_decref(report);
    free(err);
    again = run_eval(folder, "--json", &err);
    assert_string_equal(out, again);
    assert_int_equal(occurrences(err, "stage ") + occurrences(err, "measuring "), 0);
    free(again);
    free(err);
    for (size_t k = 0; k < 3; k++) {
        static const char *const files[] = {"report.json", "report.csv", "report.html"};
        size_t n = 0;
        snprintf(path, sizeof(path), "%s/out/%s", folder, files[k]);
        char *text = ft_test_read(path, &n);
        assert_true(text && n > 100);
        free(text);
    }
    /* Another router schedule: what it enters into is made again, and nothing else. */
    make_work("3");
    free(run_eval(folder, "--json", &err));
    assert_int_equal(occurrences(err, "flextrace: stage "), 2);
    assert_int_equal(occurrences(err, "measuring "), 4); /* tuned, also without each owner, and btx */
    free(err);
    /* A stage that was stopped half-way, as its marker says, goes on. */
    snprintf(path, sizeof(path), "%s/out/joint/stage.json", folder);
    char *mark = ft_test_read(path, NULL), *done = strstr(mark, "true");
    memcpy(done, "null", 4);
    ft_test_write(path, mark, strlen(mark));
    free(mark);
    free(run_eval(folder, "", &err));
    assert_int_equal(occurrences(err, "flextrace: stage "), 1);
    assert_int_equal(occurrences(err, "measuring "), 0); /* it came to the same weights */
    free(err);
    free(out);
}

static void a_tokenizer_is_trained_first_and_its_change_changes_all(void **state)
{
    (void)state;
    const char *folder = make_work("2");
    char path[900], *err;
    for (unsigned size = 264; size <= 272; size += 8) {
        char recipe[1500];
        ft_model_config config;
        ft_tokenizer *t;
        ft_status st = {0};
        snprintf(recipe, sizeof(recipe),
                 "window: 16\ndomains:\n  - {name: home, train: [home.jsonl], test: [home.jsonl]}\n"
                 "  - {name: news, test: [news.jsonl]}\n"
                 "train:\n  start: %s\n  tokenizer: {size: %u, domains: [home]}\n  public: " SHORT "2\n",
                 folder, size);
        put(folder, "r.yaml", recipe);
        free(run_eval(folder, "", &err));
        assert_int_equal(occurrences(err, "flextrace: stage "), 2);
        free(err);
        free(run_eval(folder, "", &err));
        assert_int_equal(occurrences(err, "flextrace: stage ") + occurrences(err, "measuring "), 0);
        free(err);
        snprintf(path, sizeof(path), "%s/out/public/model", folder);
        assert_ok(ft_model_config_read(&config, path, &st), st);
        assert_int_equal(config.vocab, size);
        assert_ok(ft_tokenizer_open(&t, path, &st), st);
        assert_int_equal(ft_tokenizer_vocab_size(t), size);
        ft_tokenizer_close(t);
    }
    put(folder, "model.safetensors", "weights");
    snprintf(path, sizeof(path), "$FLEXTRACE eval %s/r.yaml -o %s/other", folder, folder);
    assert_int_equal(ft_test_shell(path, NULL, &err), 2);
    assert_non_null(strstr(err, "another vocabulary than train.tokenizer makes"));
    free(err);
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    remove(path);
}

static void a_folder_that_eval_did_not_make_is_left_alone(void **state)
{
    (void)state;
    const char *folder = make_work("2");
    char command[2000], *err;
    snprintf(command, sizeof(command),
             "mkdir -p %s/mine/public && echo x > %s/mine/public/precious && "
             "$FLEXTRACE eval %s/r.yaml -o %s/mine",
             folder, folder, folder, folder);
    assert_int_equal(ft_test_shell(command, NULL, &err), 3);
    assert_non_null(strstr(err, "not made by 'flextrace eval'"));
    free(err);
    snprintf(command, sizeof(command), "cat %s/mine/public/precious", folder);
    assert_int_equal(ft_test_shell(command, NULL, NULL), 0);
}

/* `now` for `then` in the recipe: exit code `code`, `says` among what is told, and no stage begun. */
static void refused_before_the_first_stage(const char *then, const char *now, int code, const char *says)
{
    const char *folder = make_work("2");
    char command[2000], *err;
    snprintf(command, sizeof(command), "sed -i 's|%s|%s|' %s/r.yaml && $FLEXTRACE eval %s/r.yaml -o %s/early", then,
             now, folder, folder, folder);
    assert_int_equal(ft_test_shell(command, NULL, &err), code);
    assert_non_null(strstr(err, says));
    assert_null(strstr(err, "flextrace: stage"));
    free(err);
}

static void what_a_late_stage_would_stop_at_is_said_before_the_first(void **state)
{
    (void)state;
    refused_before_the_first_stage("joint: .*", "joint: --stepz 3", 2, "--stepz");
    refused_before_the_first_stage("joint: .*", "joint: --batch 0", 2, "stage joint would stop at that");
    refused_before_the_first_stage("train: .law.jsonl.", "train: [lost.jsonl]", 4, "lost.jsonl: cannot open");
    refused_before_the_first_stage("test: .law.jsonl.", "test: [lost.jsonl]", 3, "lost.jsonl: cannot open");
    refused_before_the_first_stage("^train:", "choices: [{name: c, file: lost.jsonl}]\\ntrain:", 4,
                                   "lost.jsonl: cannot open");
}

static size_t steps_of(const char *folder, const char *stage)
{
    char path[900];
    snprintf(path, sizeof(path), "%s/otherwise/%s/metrics.jsonl", folder, stage);
    char *metrics = ft_test_read(path, NULL);
    const size_t n = metrics ? occurrences(metrics, "\n") : 0;
    free(metrics);
    return n;
}

static void an_owner_may_train_its_expert_with_options_of_its_own(void **state)
{
    (void)state;
    const char *folder = make_work("2");
    char command[2000], *err;
    snprintf(command, sizeof(command),
             "sed -i 's|test: .law.jsonl.|&, expert: --steps 5|; /  branch:/d; /  joint:/d' %s/r.yaml && "
             "$FLEXTRACE eval %s/r.yaml -o %s/otherwise --threads 1",
             folder, folder, folder);
    const int code = ft_test_shell(command, NULL, &err);
    if (code)
        fail_msg("exit %d: %s", code, err);
    free(err);
    assert_int_equal(steps_of(folder, "expert-news"), 3);
    assert_int_equal(steps_of(folder, "expert-law"), 5);
    refused_before_the_first_stage("test: .law.jsonl.", "&, expert: --batch 0", 2, "stage expert-law would stop");
}

static void a_public_model_that_is_there_is_not_trained(void **state)
{
    (void)state;
    const char *folder = make_work("2");
    char command[2000], *err;
    free(run_eval(folder, "", &err));
    free(err);
    snprintf(command, sizeof(command),
             "rm -rf %s/given && cp -r %s/out/public/model %s/given && sed -i "
             "'s|start: .*|start: given|; /  public:/d; /  branch:/d; /  joint:/d' %s/r.yaml && "
             "$FLEXTRACE eval %s/r.yaml -o %s/stands --threads 1 && "
             "cmp %s/out/merged/model/model.safetensors %s/stands/merged/model/model.safetensors && "
             "cmp %s/out/tuned/model/model.safetensors %s/stands/tuned/model/model.safetensors && "
             "test ! -e %s/stands/public && grep -q '^public,' %s/stands/report.csv",
             folder, folder, folder, folder, folder, folder, folder, folder, folder, folder, folder, folder);
    const int code = ft_test_shell(command, NULL, &err);
    if (code)
        fail_msg("exit %d: %s", code, err);
    assert_int_equal(occurrences(err, "flextrace: stage "), 4); /* two experts, merge, the router */
    free(err);
    refused_before_the_first_stage("  public: .*", "", 3, "model.safetensors");
}

static void a_variable_in_a_path_must_be_set(void **state)
{
    (void)state;
    const char *folder = make_work("2");
    char command[2000], *err;
    put(folder, "v.yaml",
        "tokenizer: $NO_SUCH_FOLDER/tok\ndomains:\n  - {name: a, test: [x]}\nsystems:\n  - {name: s, model: m}\n");
    snprintf(command, sizeof(command), "$FLEXTRACE eval %s/v.yaml -o %s/v", folder, folder);
    assert_int_equal(ft_test_shell(command, NULL, &err), 2);
    assert_non_null(strstr(err, "set the environment's NO_SUCH_FOLDER to the folder"));
    free(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recipe_is_read_whole),
        cmocka_unit_test(a_recipe_that_means_nothing_is_refused_in_its_line),
        cmocka_unit_test(what_systems_are_worth_is_computed_from_the_figures),
        cmocka_unit_test(table_csv_and_page_show_the_figures),
        cmocka_unit_test(what_is_left_out_of_the_tuned_model_is_held_against_that),
        cmocka_unit_test(one_command_trains_and_measures_all_and_again_nothing),
        cmocka_unit_test(a_tokenizer_is_trained_first_and_its_change_changes_all),
        cmocka_unit_test(what_a_late_stage_would_stop_at_is_said_before_the_first),
        cmocka_unit_test(a_folder_that_eval_did_not_make_is_left_alone),
        cmocka_unit_test(an_owner_may_train_its_expert_with_options_of_its_own),
        cmocka_unit_test(a_public_model_that_is_there_is_not_trained),
        cmocka_unit_test(a_variable_in_a_path_must_be_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
