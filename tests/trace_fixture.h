/* trace_fixture: a small federation of three owners with the demo's tokenizer, and a trace of what one gives it. */
#ifndef FT_TRACE_FIXTURE_H
#define FT_TRACE_FIXTURE_H
#include "tests/corpus_fixture.h"

#include "base/ft_json.h"
#include "base/ft_utf8.h"
#include "index/ft_index_build.h"
#include "tracer/ft_trace.h"

enum { OWNERS = 3 };

typedef struct house {
    ft_tokenizer *tokenizer;
    ft_encoder *encoder;
    ft_index *indexes[OWNERS];
    const ft_index *lists[OWNERS][1];
    ft_owner owners[OWNERS];
    ft_trace_scope scope;
} house;

static const char *const names[OWNERS] = {"birds", "fish", "stones"};

/* Builds an index of JSON lines under a name. */
static inline ft_index *build(const char *name, const char *lines, const char *tokenizer)
{
    char file[100], folder[4096];
    ft_status st;
    snprintf(file, sizeof(file), "%s.jsonl", name);
    const char *corpus[] = {ft_test_write(file, lines, strlen(lines))};
    const ft_index_build_options o = {.tokenizer = tokenizer, .owner = name, .threads = 1};
    ft_index_build_report report;
    ft_index *ix;
    strcpy(folder, ft_test_path(name));
    assert_int_equal(ft_folder_remove(folder, NULL), FT_OK);
    assert_ok(ft_index_build(folder, corpus, 1, &o, &report, &st), st);
    assert_ok(ft_index_open(&ix, folder, &st), st);
    return ix;
}

static inline void open_house(house *h, const char *const corpora[OWNERS])
{
    static const char *const ends[] = {"\n", "."};
    ft_status st;
    memset(h, 0, sizeof(*h));
    char tokenizer[4096];
    strcpy(tokenizer, ft_test_source("demo/model"));
    assert_ok(ft_tokenizer_open(&h->tokenizer, tokenizer, &st), st);
    assert_ok(ft_encoder_new(&h->encoder, h->tokenizer, &st), st);
    for (int o = 0; o < OWNERS; o++) {
        h->indexes[o] = build(names[o], corpora[o], tokenizer);
        h->lists[o][0] = h->indexes[o];
        h->owners[o] = (ft_owner){names[o], "", o + 1, h->lists[o], 1};
    }
    h->scope = (ft_trace_scope){.tokenizer = h->tokenizer, .owners = h->owners, .owner_count = OWNERS};
    assert_ok(ft_token_set_containing(&h->scope.delimiters, h->tokenizer, ends, 2, &st), st);
    assert_ok(ft_token_set_word_starts(&h->scope.word_starts, h->tokenizer, &st), st);
}

static inline void close_house(house *h)
{
    ft_token_set_release(&h->scope.delimiters);
    ft_token_set_release(&h->scope.word_starts);
    for (int o = 0; o < OWNERS; o++)
        ft_index_close(h->indexes[o]);
    ft_encoder_free(h->encoder);
    ft_tokenizer_close(h->tokenizer);
}

static inline json_t *trace_tokens(house *h, const uint32_t *ids, size_t n, const ft_trace_options *options)
{
    json_t *trace;
    ft_status st;
    const ft_trace_input in = {.response = ids, .response_count = n};
    assert_ok(ft_trace_make(&h->scope, &in, options, &trace, &st), st);
    return trace;
}

static inline json_t *trace_text(house *h, const char *text, const ft_trace_options *options)
{
    ft_encoding e = {0};
    ft_status st;
    assert_ok(ft_encoder_encode(h->encoder, text, strlen(text), &e, &st), st);
    json_t *trace = trace_tokens(h, e.ids, e.count, options);
    ft_encoding_release(&e);
    return trace;
}

static inline const json_t *at(const json_t *value, const char *field, size_t i)
{
    const json_t *item = json_array_get(json_object_get(value, field), i);
    assert_non_null(item);
    return item;
}

static inline size_t number(const json_t *value, const char *field)
{
    assert_true(json_is_integer(json_object_get(value, field)));
    return (size_t)json_integer_value(json_object_get(value, field));
}

static inline const char *string(const json_t *value, const char *field)
{
    assert_true(json_is_string(json_object_get(value, field)));
    return json_string_value(json_object_get(value, field));
}

static const char *const corpora[OWNERS] = {
    "{\"id\":\"b1\",\"text\":\"The heron stands in the reeds. It waits for a small silver fish all "
    "day.\",\"source\":\"marsh\"}\n"
    "{\"id\":\"b2\",\"text\":\"A wren is small. The heron stands in the reeds.\",\"page\":7}\n",
    ("{\"id\":\"f1\",\"text\":\"The pike waits below. It waits for a small silver fish all day. So does the "
     "grebe.\"}\n"),
    "{\"id\":\"s1\",\"text\":\"Granite is hard and grey.\"}\n",
};
#endif
