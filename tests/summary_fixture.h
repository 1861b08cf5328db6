/* summary_fixture: a federation whose owners' data come from everywhere, and what its summary is read with. */
#ifndef FT_SUMMARY_FIXTURE_H
#define FT_SUMMARY_FIXTURE_H
#include "tests/index_fixture.h"

#include "base/ft_file.h"
#include "tracer/ft_summary.h"

#include <unistd.h>

/* The demo's model, by links to its files, with an owners.json as `flextrace merge` writes it. */
#define DIGEST_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
static inline void link_model(void)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json"};
    static const char owners[] =
        "{\"experts\":[{\"expert\":0,\"owner\":\"public\",\"digest\":\"" DIGEST_A "\",\"manifest\":null},"
        "{\"expert\":1,\"owner\":\"web\",\"digest\":\"" DIGEST_B "\",\"manifest\":{\"digest\":\"" DIGEST_A
        "\",\"data\":\"" DIGEST_B "\",\"documents\":40,\"tokens\":12345}}]}";
    if (ft_path_exists(ft_test_path("model")))
        return;
    assert_int_equal(ft_folder_make(ft_test_path("model"), NULL), FT_OK);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char from[4096], to[4096];
        snprintf(from, sizeof(from), "%s/%s", ft_test_source("demo/model"), files[i]);
        snprintf(to, sizeof(to), "%s/%s", ft_test_path("model"), files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    ft_test_write("model/owners.json", owners, sizeof(owners) - 1);
}

/* Forty pages of twenty domains: page i has i + 1 words, domain d pages d and d + 20. */
static inline void make_corpora(void)
{
    char *rows = calloc(40, 700), *to = rows;
    static const unsigned char tokens[] = {0xFF, 1, 2}, table[] = {1, 2, 0}, offsets[8] = {0};
    for (int i = 0; i < 40; i++) {
        to += sprintf(to,
                      "{\"id\":\"w%d\",\"url\":\"https://www.d%02d.example/%d\",\"added\":\"2025-%02d-01\",\"text\":"
                      "\"the",
                      i, i % 20, i, i % 12 + 1);
        for (int k = 0; k < i; k++)
            to += sprintf(to, " the");
        to += sprintf(to, "\"}\n");
    }
    build_corpus("web", rows);
    free(rows);
    build_corpus("small", "{\"id\":\"1\",\"text\":\"the\",\"url\":\"https://elsewhere.example\"}\n");
    build_corpus("large", "{\"id\":\"1\",\"text\":\"the the the the the the the the the the the "
                          "the the the the the the the the the the the the the the the "
                          "the the the the the the the the the the the the the the\"}\n");
    assert_int_equal(ft_folder_make(ft_test_path("gram"), NULL), FT_OK);
    ft_test_write("gram/tokenized.0", tokens, sizeof(tokens));
    ft_test_write("gram/table.0", table, sizeof(table));
    ft_test_write("gram/offset.0", offsets, sizeof(offsets));
}

/* Set-up of a group; without the demo model its tests are skipped. */
static inline int make_all(void **state)
{
    (void)state;
    if (!ft_path_exists(ft_test_source("demo/model/model.safetensors")))
        return 0;
    link_model();
    make_corpora();
    return 0;
}
#define need_model()                                                                                                   \
    do {                                                                                                               \
        if (!ft_path_exists(ft_test_source("demo/model/model.safetensors")))                                           \
            skip();                                                                                                    \
    } while (0)

/* The summary of the federation that `yaml` describes. */
static inline json_t *summary_of(const char *yaml, uint64_t most)
{
    ft_federation *f;
    ft_status st;
    json_t *out;
    ft_test_write("federation.yaml", yaml, strlen(yaml));
    assert_ok(ft_federation_open(&f, ft_test_folder(), &st), st);
    ft_snapshot *s = ft_federation_snapshot(f);
    const ft_summary_options how = {.opted_out = ft_federation_opted_out(f), .most_documents = most};
    assert_ok(ft_summary_make(f, ft_snapshot_scope(s), &how, &out, &st), st);
    ft_snapshot_release(s);
    ft_federation_close(f);
    return out;
}

/* "sources.crawled_data.sources.0.owner": members by name, elements by number. */
static inline const json_t *value_at(const json_t *v, const char *path)
{
    char name[100];
    for (const char *p = path; v && *p;) {
        const size_t n = strcspn(p, ".");
        snprintf(name, sizeof(name), "%.*s", (int)n, p);
        v = json_is_array(v) ? json_array_get(v, strtoul(name, NULL, 10)) : json_object_get(v, name);
        p += n + (p[n] == '.');
    }
    return v;
}
static inline const char *string_at(const json_t *v, const char *path)
{
    const char *text = json_string_value(value_at(v, path));
    if (!text)
        fail_msg("no string at %s", path);
    return text;
}
static inline json_int_t number_at(const json_t *v, const char *path)
{
    if (!json_is_integer(value_at(v, path)))
        fail_msg("no number at %s", path);
    return json_integer_value(value_at(v, path));
}
static inline int is_null_at(const json_t *v, const char *path)
{
    return json_is_null(value_at(v, path));
}
/* 1 where "not_stated" has this place. */
static inline int misses(const json_t *summary, const char *place)
{
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(summary, "not_stated"), i, one)
    {
        if (!strcmp(string_at(one, "place"), place))
            return 1;
    }
    return 0;
}

#endif
