/* What tracer/ft_federation.h promises: everything opens and belongs together, or one
 * line says what does not. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "index/ft_index_build.h"
#include "tracer/ft_federation.h"
#include "tracer/ft_store.h"

#include <unistd.h>

/* --- Files --------------------------------------------------------------------------- */

static void build_index(const char *name, const char *text, const char *tokenizer)
{
    char folder[4096], row[400];
    ft_status st;
    strcpy(folder, ft_test_path(name));
    if (ft_path_exists(folder))
        return;
    snprintf(row, sizeof(row), "{\"id\":\"1\",\"text\":\"%s\"}\n", text);
    const char *corpus[] = {ft_test_write("corpus.jsonl", row, strlen(row))};
    const ft_index_build_options o = {.tokenizer = tokenizer, .threads = 1};
    ft_index_build_report report;
    assert_ok(ft_index_build(folder, corpus, 1, &o, &report, &st), st);
}

/* A folder with the demo's model and two indexes; `yaml` becomes its federation.yaml. */
static void write_federation(const char *yaml)
{
    char model[4096], link[4096], tokenizer[4096];
    strcpy(model, ft_test_source("demo/model"));
    strcpy(tokenizer, model);
    strcpy(link, ft_test_path("model"));
    if (!ft_path_exists(link))
        assert_int_equal(symlink(model, link), 0);
    build_index("one", "the heron stands in the reeds", tokenizer);
    build_index("two", "the pike waits below", tokenizer);
    ft_test_write("federation.yaml", yaml, strlen(yaml));
}

static ft_code open_yaml(const char *yaml, ft_federation **f, ft_status *st)
{
    write_federation(yaml);
    return ft_federation_open(f, ft_test_folder(), st);
}

/* Opening fails with FT_ERR_FORMAT and a message that holds both pieces. */
static void refused(const char *yaml, const char *place, const char *what)
{
    ft_federation *f = (ft_federation *)(uintptr_t)yaml;
    ft_status st = {0};
    const ft_code rc = open_yaml(yaml, &f, &st);
    if (rc != FT_ERR_FORMAT || !strstr(st.msg, place) || !strstr(st.msg, what))
        fail_msg("'%s': %s: %s", yaml, ft_code_name(rc), st.msg);
    assert_null(f);
    assert_non_null(strstr(st.msg, "federation.yaml"));
}

static const char good[] = "name: house\n"
                           "model: model\n"
                           "store: kept\n"
                           "owners:\n"
                           "  - name: birds\n"
                           "    expert: 1\n"
                           "    index: [one]\n"
                           "    description: feathers\n"
                           "  - {name: fish, expert: 3, index: [two, one]}\n"
                           "  - name: silent\n"
                           "limits:\n"
                           "  request_bytes: 5000\n"
                           "  max_running: 2\n"
                           "traces: {routing: exact, max_days: 30, min_days: 7, max_bytes: 1000000}\n";

/* --- What opens ------------------------------------------------------------------------ */

static void a_federation_opens_with_model_owners_and_indexes(void **state)
{
    (void)state;
    ft_federation *f;
    ft_status st;
    assert_ok(open_yaml(good, &f, &st), st);
    assert_string_equal(ft_federation_name(f), "house");
    assert_string_equal(ft_federation_listen(f), "127.0.0.1:8080");
    assert_string_equal(ft_federation_store(f), ft_test_path("kept"));
    const ft_federation_limits limits = ft_federation_get_limits(f);
    const ft_retention keep = ft_federation_retention(f);
    assert_true(keep.max_age_ms == 30 * UINT64_C(86400000) && keep.min_age_ms == 7 * UINT64_C(86400000) &&
                keep.max_bytes == 1000000);
    assert_int_equal(ft_federation_store_options(f).routing, FT_ROUTING_EXACT);
    assert_true(limits.request_bytes == 5000 && limits.request_seconds == 90 && limits.max_running == 2 &&
                limits.max_waiting == 64 && limits.connections == 256);
    ft_snapshot *s = ft_federation_snapshot(f);
    const ft_trace_scope *scope = ft_snapshot_scope(s);
    assert_int_equal(scope->owner_count, 3);
    assert_string_equal(scope->owners[0].description, "feathers");
    assert_int_equal(scope->owners[1].index_count, 2);
    assert_int_equal(ft_query_count((ft_index_set){scope->owners[1].indexes, 2}, NULL, 0),
                     ft_query_count((ft_index_set){scope->owners[1].indexes, 1}, NULL, 0) +
                         ft_query_count((ft_index_set){scope->owners[0].indexes, 1}, NULL, 0));
    assert_int_equal(ft_trace_owner(scope, "fish")->expert, 3);
    assert_int_equal(ft_trace_owner(scope, "silent")->expert, -1);
    assert_int_equal(ft_trace_owner(scope, "silent")->index_count, 0);
    assert_null(ft_trace_owner(scope, "stones"));
    assert_non_null(ft_federation_model(f));
    assert_non_null(ft_federation_tokenizer(f));
    ft_snapshot_release(s);
    ft_federation_close(f);
    /* The file itself may be named, too; all but the model may be absent. */
    write_federation("model: model\n");
    assert_ok(ft_federation_open(&f, ft_test_path("federation.yaml"), &st), st);
    assert_null(ft_federation_store(f));
    s = ft_federation_snapshot(f);
    assert_int_equal(ft_snapshot_scope(s)->owner_count, 0);
    ft_snapshot_release(s);
    ft_federation_close(f);
}

static void a_list_of_owners_and_numbers_names_experts(void **state)
{
    (void)state;
    ft_federation *f;
    ft_status st;
    uint64_t bits;
    assert_ok(open_yaml(good, &f, &st), st);
    assert_ok(ft_federation_experts(f, "fish, 0,birds", &bits, &st), st);
    assert_int_equal(bits, 1 | 2 | 8);
    assert_ok(ft_federation_experts(f, "5", &bits, &st), st);
    assert_int_equal(bits, 32);
    assert_ok(ft_federation_experts(f, "", &bits, &st), st);
    assert_int_equal(bits, 0);
    static const char *const wrong[] = {"stones", "6", "-1", "fish,", ",fish", "99999999999999999999", "silent", "1x"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        bits = 77;
        if (ft_federation_experts(f, wrong[i], &bits, &st) != FT_ERR_ARG)
            fail_msg("'%s' was taken", wrong[i]);
        assert_int_equal(bits, 77);
    }
    ft_federation_close(f);
}

static void owners_that_opted_out_are_a_bit_set(void **state)
{
    (void)state;
    ft_federation *f;
    ft_status st;
    assert_ok(open_yaml(good, &f, &st), st);
    assert_int_equal(ft_federation_opted_out(f), 0);
    ft_federation_close(f);
    assert_ok(open_yaml("model: model\nowners:\n  - {name: a, expert: 4, opted_out: true}\n"
                        "  - {name: b, expert: 1, opted_out: false}\n  - {name: c, expert: 0, opted_out: yes}\n",
                        &f, &st),
              st);
    assert_int_equal(ft_federation_opted_out(f), 16 | 1);
    ft_federation_close(f);
    refused("model: model\nowners:\n  - name: a\n    opted_out: true\n", "federation.yaml:3:", "no expert");
    refused("model: model\nowners:\n  - name: a\n    expert: 1\n    opted_out: perhaps\n",
            "federation.yaml:5:", "true or false is expected, not 'perhaps'");
    char all[600] = "model: model\nowners:\n";
    for (int e = 0; e < 6; e++)
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "  - {name: o%c, expert: %d, opted_out: true}\n",
                 'a' + e, e);
    refused(all, "federation.yaml:1:", "all 6 experts are opted_out");
}

/* --- What does not ---------------------------------------------------------------------- */

static void an_unknown_key_is_an_error_with_its_own_line(void **state)
{
    (void)state;
    refused("model: model\ncolour: red\n", "federation.yaml:2:", "'colour'");
    refused("nam: x\nmodel: model\n", "federation.yaml:1:", "'nam'");
    refused("model: model\n# a comment\n\nowners:\n  - name: a\n    expert: 1\n\n    idnex: [one]\n",
            "federation.yaml:8:", "'idnex'");
    refused("model: model\nlimits:\n  max_running: 1\n  speed: 3\n", "federation.yaml:4:", "'speed'");
    refused("model: model\ntraces:\n  max_days: 1\n  speed: 3\n", "federation.yaml:4:", "'speed'");
    refused("model: model\ntraces:\n  routing: some\n", "federation.yaml:3:", "'some'");
    refused("model: model\ntraces:\n  max_days: 0\n", "federation.yaml:3:", "max_days");
    refused("model: model\ntraces:\n  max_days: 5\n  min_days: 6\n", "federation.yaml:4:", "min_days");
    refused("model: model\nname: speed\nlimits: {max_running: 1,\n  speed: 3}\n", "federation.yaml:4:", "'speed'");
}

static void wrong_types_values_and_syntax_are_errors_with_a_line(void **state)
{
    (void)state;
    refused("", "federation.yaml:1:", "empty");
    refused("# nothing\n", "federation.yaml:1:", "empty");
    refused("- a\n- b\n", "federation.yaml:1:", "MAPPING");
    refused("name: x\n", "federation.yaml:1:", "model");
    refused("model: model\nowners:\n  - expert: 1\n", "federation.yaml:3:", "name");
    refused("model: model\nowners:\n  - name: a\n    expert: many\n", "federation.yaml:4:", "many");
    refused("model: model\nowners: all\n", "federation.yaml:2:", "owners");
    refused("model: [model\n", "federation.yaml:", "federation.yaml");
    refused("model: model\n\tname: x\n", "federation.yaml:2:", "not valid YAML");
    refused("model: \"\xff\"\n", "federation.yaml:1:", "not valid YAML");
    refused("model: model\nlimits:\n  connections: -4\n", "federation.yaml:3:", "-4");
    refused("model: model\nlimits:\n  connections: 0\n", "federation.yaml:3:", "connections");
    refused("model: model\nmodel: other\n", "federation.yaml:2:", "repeated key 'model'");
}

static void what_a_configuration_has_no_use_for_is_refused(void **state)
{
    (void)state;
    refused("model: &m model\nname: *m\n", "federation.yaml:2:", "alias");
    refused("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b]\n",
            "federation.yaml:2:", "alias");
    refused("model: model\n---\nmodel: model\n", "federation.yaml:2:", "second document");
    refused("model: [[[[[[[[[[[[[[x]]]]]]]]]]]]]]\n", "federation.yaml:1:", "deep");
    refused("model: \"mo\\0del\"\n", "federation.yaml:1:", "NUL");
    refused("model:\n", "federation.yaml:1:", "'model': is empty");
    /* Half a number is none. */
    refused("model: model\nevidence: {routing_ratio: 1.5x}\n",
            "federation.yaml:2:", "a number is expected, not '1.5x'");
    refused("model: model\nevidence: {routing_ratio: -1}\n", "federation.yaml", "routing_ratio must be from 0");
    refused("model: model\nevidence: {colour: 1}\n", "federation.yaml:2:", "'colour'");
    refused("model: model\nvalidation: nowhere.jsonl\n", "federation.yaml:2:", "does not exist");
    refused("model: model\nvalidation_tokens: 0\n", "federation.yaml:2:", "validation_tokens must be from 1");
    refused("model: model\nlimits: {request_bytes: 1e9}\n", "federation.yaml:2:", "an integer is expected, not '1e9'");
    refused("model: model\nowners:\n- {name: expert, expert: 1x}\n", "federation.yaml:3:", "not '1x'");
    refused("model: model\nowners:\n- name: a\n  index: [expert, x]\n  expert: 2.5\n",
            "federation.yaml:5:", "not '2.5'");
    /* More than 64 KiB. */
    char *large = malloc(70001);
    memset(large, '#', 70000);
    large[70000] = '\0';
    ft_federation *f;
    ft_status st;
    assert_int_equal(open_yaml(large, &f, &st), FT_ERR_LIMIT);
    assert_null(f);
    free(large);
}

static void owners_that_contradict_each_other_or_the_model_are_refused(void **state)
{
    (void)state;
    refused("model: model\nowners:\n- {name: a, expert: 1}\n- {name: a, expert: 2}\n",
            "federation.yaml:4:", "two owners are called a");
    refused("model: model\nowners:\n- {name: a, expert: 1}\n- {name: b, expert: 1}\n",
            "federation.yaml:4:", "a and b both have expert 1");
    refused("model: model\nowners:\n- {name: a, index: [one, two, ./one]}\n", "federation.yaml:3: owner a",
            "./one is listed twice");
    refused("model: model\nowners:\n- {name: a, expert: 6}\n", "federation.yaml:3: owner a", "experts 0 to 5");
    refused("model: model\nowners:\n- {name: a, expert: -1}\n", "owner a", "expert -1");
    refused("model: model\nowners:\n- {name: 12}\n", "owner '12'", "number");
    refused("model: model\nowners:\n- {name: \"a,b\"}\n", "a,b", "comma");
}

/* Their indexes are reached by name, as the first segment of a path. */
static void names_that_no_path_could_lead_to_are_refused(void **state)
{
    (void)state;
    refused("model: model\nname: v1\n", "federation.yaml:2:", "'v1'");
    refused("model: model\nowners:\n- {name: a}\n- {name: metrics}\n", "federation.yaml:4:", "'metrics'");
    refused("model: model\nowners:\n- {name: tokenizer_info}\n", "federation.yaml:3:", "'tokenizer_info'");
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    ft_federation *f;
    ft_status st;
    assert_int_equal(open_yaml("model: nowhere\n", &f, &st), FT_ERR_NOT_FOUND);
    assert_non_null(strstr(st.msg, "nowhere"));
    assert_int_equal(open_yaml("model: model\nowners:\n- {name: a, index: [gone]}\n", &f, &st), FT_ERR_NOT_FOUND);
    assert_non_null(strstr(st.msg, "owner a"));
    assert_non_null(strstr(st.msg, "gone"));
    assert_int_equal(ft_federation_open(&f, "/nowhere/federation.yaml", &st), FT_ERR_NOT_FOUND);
    assert_null(f);
}

static void an_index_of_another_tokenizer_is_refused_with_the_remedy(void **state)
{
    (void)state;
    /* The same vocabulary in a file with one byte more is another tokenizer. */
    size_t n;
    char *text = ft_test_read(ft_test_source("demo/model/tokenizer.json"), &n), folder[4096];
    assert_int_equal(ft_folder_make(ft_test_path("other-tokenizer"), NULL), FT_OK);
    text[n] = '\n';
    ft_test_write("other-tokenizer/tokenizer.json", text, n + 1);
    free(text);
    strcpy(folder, ft_test_path("other-tokenizer"));
    build_index("three", "the heron", folder);
    refused("model: model\nowners:\n- {name: a, index: [one, three]}\n", "owner a: index three",
            "rebuild it with -t model");
}

static void every_failed_allocation_of_the_reader_is_reported(void **state)
{
    (void)state;
    write_federation(good);
    for (long k = 1, worked = 0; !worked; k++) {
        ft_federation *f = NULL;
        ft_status st = {0};
        ft_test_fail_allocation(k);
        const ft_code rc = ft_federation_open(&f, ft_test_folder(), &st);
        worked = !ft_test_allocation_failed();
        ft_test_fail_allocation(0);
        if (!f == !rc || (worked && rc))
            fail_msg("allocation %ld: %s: %s", k, ft_code_name(rc), st.msg);
        ft_federation_close(f);
        k += k > 400 ? 997 : k > 100 ? 13 : 0; /* deep inside, the tokenizer's own tests look closer */
    }
}

/* --- generate ------------------------------------------------------------------------------ */

/* Runs generate on the federation of `good`; the caller frees what it printed. */
static char *generate(const char *options, int want, char **err)
{
    char command[6000], *out;
    write_federation(good);
    snprintf(command, sizeof(command), "cd '%s' && $FLEXTRACE generate . %s", ft_test_folder(), options);
    const int code = ft_test_shell(command, &out, err);
    if (code != want)
        fail_msg("exit %d: %s: %s", code, out, err ? *err : "");
    return out;
}

static void a_traced_generation_is_kept_in_the_federations_store(void **state)
{
    (void)state;
    char *out = generate("-p 'I saw the heron stands' -n 6 --trace-prompt --json", 0, NULL);
    json_t *result, *kept;
    ft_store *store;
    ft_status st;
    assert_ok(ft_json_parse(&result, out, strlen(out), "result", &st), st);
    const json_t *trace = json_object_get(result, "trace"), *spans = json_object_get(trace, "spans");
    assert_int_equal(json_array_size(json_object_get(result, "ids")), 6);
    assert_string_equal(json_string_value(json_object_get(trace, "model")), "house");
    assert_string_equal(json_string_value(json_object_get(trace, "finish_reason")), "length");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(trace, "parameters"), "max_tokens")), 6);
    assert_true(json_array_size(spans) > 0);
    assert_string_equal(json_string_value(json_object_get(json_array_get(spans, 0), "text")), " heron stands");
    assert_int_equal(json_array_size(json_object_get(json_array_get(spans, 0), "shares")), 6);
    assert_ok(ft_store_open(&store, ft_test_path("kept"), 0, &st), st);
    assert_ok(ft_store_get(store, json_string_value(json_object_get(trace, "id")), &kept, &st), st);
    assert_true(json_equal(kept, trace));
    json_decref(kept);
    ft_store_close(store);
    json_decref(result);
    free(out);
}

static void an_owner_left_out_has_no_share(void **state)
{
    (void)state;
    char *out = generate("-p 'And it came to pass' -n 5 --trace --json --without birds,fish,0", 0, NULL);
    json_t *result;
    ft_status st;
    assert_ok(ft_json_parse(&result, out, strlen(out), "result", &st), st);
    const json_t *trace = json_object_get(result, "trace"), *experts = json_object_get(trace, "experts");
    static const int gone[] = {1, 1, 0, 1, 0, 0};
    for (size_t e = 0; e < 6; e++) {
        const json_t *x = json_array_get(experts, e);
        assert_string_equal(json_string_value(json_object_get(x, "state")), gone[e] ? "opted_out" : "active");
        assert_true(!gone[e] || json_real_value(json_object_get(x, "share")) == 0);
    }
    assert_int_equal(json_array_size(json_object_get(trace, "without")), 3);
    json_decref(result);
    free(out);
    char *err;
    free(generate("-p x --without stones", 2, &err));
    assert_non_null(strstr(err, "stones"));
    free(err);
}

static void in_a_pipe_the_trace_is_told_in_plain_lines_of_80_columns(void **state)
{
    (void)state;
    char *out = generate("-p 'I saw the heron stands' -n 6 --trace-prompt", 0, NULL), *line = out;
    assert_non_null(strstr(out, "I saw the heron stands"));
    assert_non_null(strstr(out, "Whose expert wrote it"));
    assert_non_null(strstr(out, "\xE2\x80\x9Cheron stands\xE2\x80\x9D"));
    assert_non_null(strstr(out, "\nKept as trc_"));
    assert_null(strchr(out, '\x1b'));
    line = strchr(line, '\n') + 1; /* the text itself is not broken */
    for (; *line; line += strcspn(line, "\n") + 1)
        assert_true(ft_utf8_count(line, strcspn(line, "\n")) <= 80);
    free(out);
    /* Without --trace a pipe gets the completion alone. */
    out = generate("-p 'I saw the heron stands' -n 3", 0, NULL);
    assert_null(strstr(out, "I saw"));
    free(out);
}

/* `script` lends a terminal. */
static void on_a_terminal_owners_have_colours_unless_no_color_is_set(void **state)
{
    (void)state;
    if (system("script -qec true /dev/null >/dev/null 2>&1") != 0)
        skip();
    char command[6000], *out;
    for (int plain = 0; plain < 2; plain++) {
        write_federation(good);
        snprintf(
            command, sizeof(command),
            "cd '%s' && TERM=xterm-256color %s script -qec \"$FLEXTRACE generate . -p 'I saw' -n 3 --trace\" /dev/null",
            ft_test_folder(), plain ? "NO_COLOR=1" : "NO_COLOR=");
        assert_int_equal(ft_test_shell(command, &out, NULL), 0);
        assert_non_null(strstr(out, "I saw"));
        assert_true(plain ? !strchr(out, '\x1b') : strstr(out, "\x1b[38;5;") != NULL);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_federation_opens_with_model_owners_and_indexes),
        cmocka_unit_test(a_list_of_owners_and_numbers_names_experts),
        cmocka_unit_test(owners_that_opted_out_are_a_bit_set),
        cmocka_unit_test(an_unknown_key_is_an_error_with_its_own_line),
        cmocka_unit_test(wrong_types_values_and_syntax_are_errors_with_a_line),
        cmocka_unit_test(what_a_configuration_has_no_use_for_is_refused),
        cmocka_unit_test(owners_that_contradict_each_other_or_the_model_are_refused),
        cmocka_unit_test(names_that_no_path_could_lead_to_are_refused),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(an_index_of_another_tokenizer_is_refused_with_the_remedy),
        cmocka_unit_test(every_failed_allocation_of_the_reader_is_reported),
        cmocka_unit_test(a_traced_generation_is_kept_in_the_federations_store),
        cmocka_unit_test(an_owner_left_out_has_no_share),
        cmocka_unit_test(in_a_pipe_the_trace_is_told_in_plain_lines_of_80_columns),
        cmocka_unit_test(on_a_terminal_owners_have_colours_unless_no_color_is_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
