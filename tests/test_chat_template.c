/* Chat templates: renderings as transformers made them, checkpoints' templates recognized
 * or refused. */
#include "tests/ft_test.h"

#include "base/ft_file.h"
#include "base/ft_json.h"
#include "text/chat_internal.h"
#include "text/ft_chat_template.h"

enum { MOST = 16 };

static size_t messages_of(const json_t *list, ft_chat_message out[MOST])
{
    size_t n = json_array_size(list);
    assert_true(n <= MOST);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i), *content = json_object_get(m, "content");
        out[i] = (ft_chat_message){json_string_value(json_object_get(m, "role")), json_string_value(content),
                                   json_string_length(content)};
    }
    return n;
}

static json_t *read_json(const char *path)
{
    json_t *v;
    ft_status st = {0};
    assert_ok(ft_json_read_file(&v, path, 8 << 20, &st), st);
    return v;
}

static ft_chat_template *recognize(const char *text, const char *bos, const char *eos)
{
    ft_status st = {0};
    ft_chat_template *t;
    assert_ok(ft_chat_template_recognize(&t, text, strlen(text), bos, eos, &st), st);
    return t;
}

static void assert_renders(const ft_chat_template *t, const json_t *one, const char *label)
{
    ft_chat_message messages[MOST];
    ft_buffer b = {0};
    ft_status st = {0};
    const size_t n = messages_of(json_object_get(one, "messages"), messages);
    assert_ok(
        ft_chat_template_render(t, messages, n, json_is_true(json_object_get(one, "add_generation_prompt")), &b, &st),
        st);
    const json_t *want = json_object_get(one, "rendered");
    if (b.size != json_string_length(want) || memcmp(b.data, json_string_value(want), b.size) != 0)
        fail_msg("%s:\n%s\nnot\n%s", label, b.data, json_string_value(want));
    ft_buffer_release(&b);
}

static void renderings_are_those_of_transformers(void **state)
{
    (void)state;
    ft_test_need("golden/tokenizer/chat.jsonl");
    json_t *templates = read_json(ft_test_shared("golden/tokenizer/chat_templates.json"));
    char *lines = ft_test_read(ft_test_shared("golden/tokenizer/chat.jsonl"), NULL);
    size_t compared = 0;
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *one = json_loads(line, 0, NULL);
        const char *name = json_string_value(json_object_get(one, "template"));
        ft_chat_template *t =
            recognize(json_string_value(json_object_get(templates, name)), "<|endoftext|>", "<|endoftext|>");
        assert_string_equal(ft_chat_template_name(t), strcmp(name, "chatml") ? "olmo2" : "chatml");
        assert_renders(t, one, name);
        ft_chat_template_close(t);
        json_decref(one);
        compared++;
    }
    assert_true(compared >= 20);
    free(lines);
    json_decref(templates);
}

/* tests/vectors/chat: what jinja2 makes of checkpoints' templates; made by make.py there. */
static void templates_of_checkpoints_are_recognized_and_render_as_jinja2_does(void **state)
{
    (void)state;
    json_t *file = read_json(ft_test_source("tests/vectors/chat/chat.json")), *one, *rendering;
    size_t i, k;
    assert_true(json_array_size(json_object_get(file, "templates")) >= 6);
    json_array_foreach(json_object_get(file, "templates"), i, one)
    {
        const char *text = json_string_value(json_object_get(one, "template"));
        const char *label = json_string_value(json_object_get(one, "label"));
        ft_chat_template *t = recognize(text, json_string_value(json_object_get(one, "bos")),
                                        json_string_value(json_object_get(one, "eos")));
        assert_string_equal(ft_chat_template_name(t), json_string_value(json_object_get(one, "shape")));
        json_array_foreach(json_object_get(one, "renderings"), k, rendering)
        {
            assert_renders(t, rendering, label);
        }
        ft_chat_template_close(t);
    }
    json_decref(file);
}

/* A tool's turn is called "tool" by clients and, by some templates, "environment" alone; a
 * template that knows neither has no such role. */
static void a_tool_has_a_place_under_either_of_its_names(void **state)
{
    (void)state;
    static const struct {
        const char *test, *want;
    } cases[] = {{"['tool', 'environment']", "<|im_start|>environment\n1<|im_end|>\n"},
                 {"['environment']", "<|im_start|>environment\n1<|im_end|>\n"},
                 {"['critic']", NULL}};
    static const char *const names[] = {"tool", "environment"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char text[700];
        snprintf(text, sizeof(text),
                 "{%% for m in messages %%}{%% if m.role in %s %%}{{ '<|im_start|>environment\n' + m.content + "
                 "'<|im_end|>\n' }}{%% elif m.role in ['system', 'user', 'assistant'] %%}{{ '<|im_start|>' + m.role + "
                 "'\n' + m.content }}{%% if m.role == 'assistant' and loop.last %%}{{ eos_token }}{%% else %%}{{ "
                 "'<|im_end|>\n' }}{%% endif %%}{%% endif %%}{%% endfor %%}{%% if add_generation_prompt %%}{{ "
                 "'<|im_start|>assistant\n' }}{%% endif %%}",
                 cases[i].test);
        ft_chat_template *t = recognize(text, "<s>", "</s>");
        for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++) {
            const ft_chat_message messages[] = {{names[k], "1", 1}};
            ft_buffer b = {0};
            ft_status st = {0};
            const ft_code rc = ft_chat_template_render(t, messages, 1, 0, &b, &st);
            assert_int_equal(rc, cases[i].want ? FT_OK : FT_ERR_ARG);
            if (cases[i].want)
                assert_string_equal(b.data, cases[i].want);
            else
                assert_non_null(strstr(st.msg, names[k]));
            ft_buffer_release(&b);
        }
        ft_chat_template_close(t);
    }
}

/* The evaluator against jinja2 on small pieces: whitespace control, tests, short-cuts. */
static void the_evaluator_renders_pieces_as_jinja2_does(void **state)
{
    (void)state;
    json_t *file = read_json(ft_test_source("tests/vectors/chat/chat.json")), *one;
    size_t i;
    json_array_foreach(json_object_get(file, "pieces"), i, one)
    {
        const json_t *text = json_object_get(one, "template"), *want = json_object_get(one, "rendered");
        ft_chat_message messages[MOST];
        const size_t n = messages_of(json_object_get(file, "piece_messages"), messages);
        ft_buffer b = {0};
        ft_status st = {0};
        const ft_code rc =
            ft_jinja_render(json_string_value(text), json_string_length(text), "<s>", "</s>", messages, n, 1, &b, &st);
        if (rc || strcmp(b.data ? b.data : "", json_string_value(want)) != 0)
            fail_msg("%s: %s '%s', not '%s'", json_string_value(text), st.msg, b.data ? b.data : "",
                     json_string_value(want));
        ft_buffer_release(&b);
    }
    json_decref(file);
}

static void other_templates_are_refused_and_the_message_says_why(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"{% for m in messages %}[INST]{{ m['content'] }}[/INST]{% endfor %}", "makes another text"},
        {"{% macro f() %}x{% endmacro %}{{ f() }}", "macro"},
        {"{{ strftime_now('%d') }}", "strftime_now"},
        {"{% for m in messages %}{{ m.content|tojson }}{% endfor %}", "tojson"},
        {"{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}x", "another text"},
        {"{{ 'no end", "without an end"},
        {"{% for m in messages %}x", "endfor"},
        {"{% endif %}", "an end without a beginning"},
        {"", "another text"},
        /* ChatML that trims: nearly ours */
        {"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']|trim + "
         "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
         "leading and trailing"},
        /* and that drops the thoughts of earlier answers */
        {"{% for message in messages %}{% set content = message.content %}{% if '</think>' in content %}{% set content "
         "= content.split('</think>')[-1] %}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + content + "
         "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
         "user: A"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        ft_status st = {0};
        ft_chat_template *t = (ft_chat_template *)&st;
        assert_int_equal(ft_chat_template_recognize(&t, bad[i].text, strlen(bad[i].text), "<s>", "</s>", &st),
                         FT_ERR_UNSUPPORTED);
        assert_null(t);
        if (!strstr(st.msg, bad[i].why) || !strstr(st.msg, "olmo3-think"))
            fail_msg("template %zu: '%s' does not say '%s'", i, st.msg, bad[i].why);
    }
}

/* A template is from outside: whatever its bytes, an end comes and nothing else happens. */
static void damaged_templates_end_in_an_answer_or_a_refusal(void **state)
{
    (void)state;
    static const char good[] =
        "{%- set ns = namespace(a=1, b='x') -%}{% for m in messages if_not %}{% if m['role'] == 'user' and not "
        "loop.last "
        "or (m.content|length > 3) %}{{- '<|' + m.role + '|>' ~ m['content'].split('a')[-1] -}}{% elif x is defined "
        "%}{{ messages[1:][0].content|trim }}{% else %}{# c #}{% set ns.a = ns.a + 1 %}{% endif %}{% endfor %}";
    static const ft_chat_message messages[] = {{"user", "abcabc", 6}, {"assistant", "x", 1}, {"system", "", 0}};
    char text[sizeof(good)];
    uint64_t seed = 88172645463325252u;
    for (int round = 0; round < 20000; round++) {
        memcpy(text, good, sizeof(good));
        for (int k = 0; k < 1 + round % 4; k++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            static const char signs[] = "{}%-#'\"()[].|+=~ \n0ax";
            text[seed % (sizeof(good) - 1)] = signs[(seed >> 32) % (sizeof(signs) - 1)];
        }
        /* at the end of its own block, so that the sanitizers see a byte too far */
        char *own = malloc(sizeof(good) - 1);
        ft_buffer b = {0};
        memcpy(own, text, sizeof(good) - 1);
        const size_t n = round % 3 ? sizeof(good) - 1 : (size_t)(seed >> 20) % sizeof(good);
        (void)!ft_jinja_render(own, n < sizeof(good) - 1 ? n : sizeof(good) - 1, "", "", messages, 3, 1, &b, NULL);
        ft_buffer_release(&b);
        free(own);
    }
}

static void a_checkpoint_folder_gives_its_template_or_the_one_that_is_named(void **state)
{
    (void)state;
    const char *folder = ft_test_path("checkpoint");
    char path[400];
    ft_status st = {0};
    ft_chat_template *t;
    assert_ok(ft_folder_make(folder, &st), st);
    assert_int_equal(ft_chat_template_open(&t, folder, NULL, &st), FT_ERR_NOT_FOUND);
    assert_int_equal(ft_chat_template_open(&t, folder, "llama", &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "olmo2"));
    snprintf(path, sizeof(path), "%s/tokenizer_config.json", folder);
    static const char config[] = "{\"eos_token\":{\"content\":\"</s>\"},\"chat_template\":[{\"name\":\"default\","
                                 "\"template\":\"{{ bos_token }}\"}]}";
    ft_test_write(path, config, sizeof(config) - 1);
    assert_int_equal(ft_chat_template_open(&t, folder, NULL, &st), FT_ERR_UNSUPPORTED);
    assert_non_null(strstr(st.msg, "checkpoint"));
    assert_ok(ft_chat_template_open(&t, folder, "olmo2", &st), st);
    const ft_chat_message messages[] = {{"user", "a", 1}, {"assistant", "b", 1}};
    ft_buffer b = {0};
    assert_ok(ft_chat_template_render(t, messages, 2, 1, &b, &st), st);
    assert_string_equal(b.data, "</s><|user|>\na\n<|assistant|>\nb</s><|assistant|>\n");
    const ft_chat_message odd[] = {{"critic", "a", 1}};
    assert_int_equal(ft_chat_template_render(t, odd, 1, 1, &b, &st), FT_ERR_ARG);
    assert_non_null(strstr(st.msg, "critic"));
    assert_int_equal(ft_chat_template_render(t, odd, 0, 1, &b, &st), FT_ERR_ARG);
    ft_buffer_release(&b);
    ft_chat_template_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renderings_are_those_of_transformers),
        cmocka_unit_test(templates_of_checkpoints_are_recognized_and_render_as_jinja2_does),
        cmocka_unit_test(a_tool_has_a_place_under_either_of_its_names),
        cmocka_unit_test(the_evaluator_renders_pieces_as_jinja2_does),
        cmocka_unit_test(other_templates_are_refused_and_the_message_says_why),
        cmocka_unit_test(damaged_templates_end_in_an_answer_or_a_refusal),
        cmocka_unit_test(a_checkpoint_folder_gives_its_template_or_the_one_that_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
