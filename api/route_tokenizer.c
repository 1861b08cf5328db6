/* /tokenize, /detokenize, /tokenizer_info: so that a client needs no tokenizer of its own. */
#include "api/request_internal.h"
#include "api/routes_internal.h"

#include "base/ft_file.h"

#include <stdlib.h>
#include <string.h>

static int has_tokenizer(ft_request *q)
{
    if (!q->server->tokenizer)
        ft_refuse(q, 400, "unsupported_parameter", NULL, "this server's model has no tokenizer");
    return q->server->tokenizer != NULL;
}

/* `prompt`, `content` or `messages`, exactly one of them. 0 after refusing. */
static int take_text(ft_reader *r, ft_buffer *text)
{
    static const char *const names[] = {"prompt", "content", "messages"};
    const json_t *found = NULL;
    const char *name = NULL;
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_object_get(r->body, names[i]);
        if (!v || json_is_null(v))
            continue;
        if (found) {
            ft_refuse(r->q, 400, NULL, names[i], "give '%s' or '%s', not both", name, names[i]);
            return 0;
        }
        found = v;
        name = names[i];
    }
    if (!found) {
        ft_refuse(r->q, 400, NULL, "prompt", "one of 'prompt', 'content' and 'messages' is required");
        return 0;
    }
    int answer = 1;
    ft_status st = {0};
    if (ft_json_get_bool(r->body, "add_generation_prompt", &answer, &st) != FT_OK) {
        ft_reader_refuse(r, "add_generation_prompt", &st);
        return 0;
    }
    if (!strcmp(name, "messages"))
        return ft_chat_text(r->q, answer, text);
    if (!json_is_string(found)) {
        ft_refuse(r->q, 400, NULL, name, "'%s' must be a string", name);
        return 0;
    }
    if (ft_buffer_append(text, json_string_value(found), json_string_length(found), NULL) == FT_OK)
        return 1;
    ft_refuse(r->q, 503, "overloaded", NULL, "out of memory");
    return 0;
}

static json_t *spellings(const ft_server *s, const ft_encoding *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < e->count; i++)
        (void)json_array_append_new(list, ft_vocabulary_spelling(s->tokenizer, e->ids[i]));
    return list;
}

static json_t *offsets(const ft_encoding *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < e->count; i++)
        (void)json_array_append_new(list, json_pack("[I,I]", (json_int_t)e->starts[i], (json_int_t)e->ends[i]));
    return list;
}

void ft_route_tokenize(ft_request *q)
{
    static const char *const known[] = {
        "model", "prompt", "content", "messages", "add_special_tokens", "add_generation_prompt", "return_token_strs",
        NULL};
    ft_reader r = {.q = q, .body = q->json};
    ft_buffer text = {0};
    ft_encoding e = {0};
    ft_status st = {0};
    if (!has_tokenizer(q))
        return;
    ft_read_model(&r);
    (void)ft_read_flag(&r, "add_special_tokens"); /* nothing is added to a text, whatever it says */
    const int strings = ft_read_flag(&r, "return_token_strs");
    if (!r.failed && take_text(&r, &text)) {
        if (ft_encode_text(q->server, text.data ? text.data : "", text.size, &e, &st) != FT_OK) {
            ft_refuse_status(q, "prompt", &st);
        } else {
            const size_t limit = ft_server_context(q->server);
            ft_name_ignored(q, known);
            ft_answer_json(q, 200,
                           json_pack("{s:I,s:I,s:o,s:o,s:o}", "count", (json_int_t)e.count, "max_model_len",
                                     (json_int_t)limit, "tokens", ft_json_ids(e.ids, e.count), "token_strs",
                                     strings ? spellings(q->server, &e) : json_null(), "offsets", offsets(&e)));
        }
    }
    ft_encoding_release(&e);
    ft_buffer_release(&text);
}

void ft_route_detokenize(ft_request *q)
{
    static const char *const known[] = {"model", "tokens", NULL};
    ft_reader r = {.q = q, .body = q->json};
    uint32_t *ids = NULL;
    size_t count = 0;
    ft_status st = {0};
    if (!has_tokenizer(q))
        return;
    ft_read_model(&r);
    const size_t vocab = q->server->model ? ft_model_get_config(q->server->model)->vocab : 0;
    if (!r.failed && !json_is_array(json_object_get(q->json, "tokens")))
        (void)ft_fail(&st, FT_ERR_ARG, "'tokens' must be a list of token ids");
    else if (!r.failed && ft_json_get_ids(q->json, "tokens", &ids, &count, &st) == FT_OK)
        for (size_t i = 0; !st.code && i < count; i++)
            if (ids[i] >= vocab)
                (void)ft_fail(&st, FT_ERR_ARG, "'tokens': element %zu is not a token id from 0 to %zu", i, vocab - 1);
    if (st.code)
        ft_reader_refuse(&r, "tokens", &st);
    if (!r.failed) {
        json_t *text = ft_decoded_text(q->server->tokenizer, ids, count);
        ft_name_ignored(q, known);
        ft_answer_json(q, 200, json_pack("{s:O,s:o}", "prompt", text, "content", text));
    }
    free(ids);
}

/* --- /tokenizer_info ----------------------------------------------------------------------- */

static json_t *config_beside(const ft_server *s)
{
    json_t *config = NULL;
    char *path = ft_path_join(ft_model_folder(s->model), "tokenizer_config.json");
    if (!path || ft_json_read_file(&config, path, 4 << 20, NULL) != FT_OK || !json_is_object(config)) {
        json_decref(config);
        config = json_object();
    }
    free(path);
    return config;
}

/* Tokens as text: harnesses want strings, files often have objects. */
static void flatten(json_t *config, const char *field)
{
    json_t *v = json_object_get(config, field), *content = json_is_object(v) ? json_object_get(v, "content") : NULL;
    if (content)
        (void)json_object_set(config, field, content);
    else if (!v)
        (void)json_object_set_new(config, field, json_null());
}

void ft_route_tokenizer_info(ft_request *q)
{
    ft_server *s = q->server;
    if (!has_tokenizer(q) || !s->model) {
        ft_refuse(q, 404, "model_not_found", NULL, "this server has no model");
        return;
    }
    json_t *config = config_beside(s);
    static const char *const tokens[] = {"eos_token", "bos_token", "pad_token", "unk_token", "chat_template"};
    for (size_t i = 0; i < sizeof(tokens) / sizeof(*tokens); i++)
        flatten(config, tokens[i]);
    const uint32_t end = ft_tokenizer_end_of_text(s->tokenizer);
    if (json_is_null(json_object_get(config, "eos_token")) && end != FT_NO_TOKEN) {
        size_t n;
        const char *bytes = ft_tokenizer_token_bytes(s->tokenizer, end, &n, NULL);
        (void)json_object_set_new(config, "eos_token", ft_json_text(bytes, n));
    }
    char *path = ft_path_join(ft_model_folder(s->model), "chat_template.jinja");
    ft_buffer text = {0};
    if (path && ft_file_read(path, 4 << 20, &text, NULL) == FT_OK)
        (void)json_object_set_new(config, "chat_template", ft_json_text(text.data ? text.data : "", text.size));
    ft_buffer_release(&text);
    free(path);
    ft_answer_json(q, 200, config);
}
