/* What the tests of `flextrace index query` share: rows to ask, and small indexes. */
#ifndef FT_QUERY_FIXTURE_H
#define FT_QUERY_FIXTURE_H
#include "tests/ft_test.h"

#include "base/ft_json.h"

static inline json_t *parse_rows(const char *text, size_t n)
{
    ft_status st;
    json_t *rows = json_array(), *row;
    for (const char *line = text, *end; line && line < text + n; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        assert_ok(ft_json_parse(&row, line, (size_t)(end - line), "row", &st), st);
        json_array_append_new(rows, row);
    }
    return rows;
}

static inline json_t *read_rows(const char *shared)
{
    size_t n;
    char *text = ft_test_read(ft_test_shared(shared), &n);
    json_t *rows = parse_rows(text, n);
    free(text);
    return rows;
}

/* Answers of `flextrace index query ARGUMENTS` to all rows. */
static inline json_t *ask(const char *arguments, const json_t *rows)
{
    ft_buffer in = {0};
    ft_status st;
    char command[12000], *out, *err;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        assert_ok(ft_json_write(json_array_get(rows, i), &in, &st), st);
        assert_ok(ft_buffer_append_str(&in, "\n", &st), st);
    }
    const char *path = ft_test_write("rows.jsonl", in.data, in.size);
    snprintf(command, sizeof(command), "$FLEXTRACE index query %s < %s", arguments, path);
    if (ft_test_shell(command, &out, &err) != 0)
        fail_msg("%s: %s", command, err);
    json_t *answers = parse_rows(out, strlen(out));
    assert_int_equal(json_array_size(answers), json_array_size(rows));
    ft_buffer_release(&in);
    free(out);
    free(err);
    return answers;
}

static inline char *folder_of(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof(path), "%s/%s", ft_test_shared("golden/index"), name);
    return path;
}

static inline void assert_same(const json_t *want, const json_t *got, const char *field, size_t row)
{
    const json_t *a = json_object_get(want, field), *b = json_object_get(got, field);
    const int same =
        json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b) : json_equal(a, b);
    if (!same)
        fail_msg("row %zu, %s: %s, expected %s", row, field, json_dumps(got, 0), json_dumps(want, JSON_ENCODE_ANY));
}

static inline void shell_ok(const char *command)
{
    char *err;
    if (ft_test_shell(command, NULL, &err) != 0)
        fail_msg("%s: %s", command, err);
    free(err);
}

/* Builds ft_test_path(name) with `more` options; the exit code, and what was said. */
static inline int build(const char *name, const char *more, const char *text, char **out, char **err)
{
    char command[9000];
    const char *file = ft_test_write("small.jsonl", text, strlen(text));
    snprintf(command, sizeof(command), "$FLEXTRACE index build %s -t %s %s %s", ft_test_path(name),
             ft_test_shared("tokenizers/bytebpe-4k"), more, file);
    return ft_test_shell(command, out, err);
}

static inline json_t *row_of(const char *json)
{
    ft_status st;
    json_t *row;
    assert_ok(ft_json_parse(&row, json, strlen(json), "test", &st), st);
    return row;
}

static inline json_t *ask_one(const char *arguments, const char *json)
{
    json_t *rows = json_pack("[o]", row_of(json)), *answers = ask(arguments, rows);
    json_t *answer = json_incref(json_array_get(answers, 0));
    json_decref(answers);
    json_decref(rows);
    return answer;
}
#endif
