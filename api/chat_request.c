/* What a client asks POST /v1/chat/completions for: messages become one prompt, by the
 * model's chat template. */
#include "api/request_internal.h"
#include "api/routes_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_MESSAGES = 4096 };

/* Fields of this route alone. */
static const char *const known[] = {"messages",
                                    "max_completion_tokens",
                                    "top_logprobs",
                                    "add_generation_prompt",
                                    "continue_final_message",
                                    "response_format",
                                    "tools",
                                    "tool_choice",
                                    "parallel_tool_calls",
                                    "functions",
                                    "function_call",
                                    "modalities",
                                    NULL};

/* --- Messages -------------------------------------------------------------------------- */

static int refuse_message(ft_request *q, size_t i, const char *what)
{
    ft_refuse(q, 400, NULL, "messages", "'messages': element %zu %s", i, what);
    return 0;
}

/* Content parts, all of them text, joined. */
static int join_parts(ft_request *q, size_t i, const json_t *parts, ft_buffer *text)
{
    const json_t *one;
    size_t k;
    json_array_foreach(parts, k, one)
    {
        const char *type = ft_json_name(json_object_get(one, "type"));
        const json_t *own = json_object_get(one, "text");
        if (!type || strcmp(type, "text") != 0 || !json_is_string(own))
            return refuse_message(q, i,
                                  "has a content part that is not {\"type\": \"text\", \"text\": …}; this model "
                                  "reads text alone");
        if (ft_buffer_append(text, json_string_value(own), json_string_length(own), NULL) != FT_OK) {
            ft_refuse(q, 503, "overloaded", NULL, "out of memory");
            return 0;
        }
    }
    return 1;
}

/* `joined` holds the text of content parts, for as long as the message is needed. */
static int take_message(ft_request *q, size_t i, const json_t *m, ft_chat_message *out, ft_buffer *joined)
{
    const json_t *content = json_object_get(m, "content"), *calls = json_object_get(m, "tool_calls");
    out->role = ft_json_name(json_object_get(m, "role"));
    if (!json_is_object(m) || !out->role)
        return refuse_message(q, i, "must be an object with 'role' and 'content'");
    if (json_array_size(calls) || json_is_object(json_object_get(m, "function_call"))) {
        ft_refuse(q, 400, "unsupported_parameter", "messages",
                  "'messages': element %zu has tool calls, which this server does not support", i);
        return 0;
    }
    if (json_is_array(content)) {
        if (!join_parts(q, i, content, joined))
            return 0;
        out->content = joined->data ? joined->data : "";
        out->content_bytes = joined->size;
        return 1;
    }
    if (!json_is_string(content))
        return refuse_message(q, i, "must have a 'content' that is a string or a list of text parts");
    out->content = json_string_value(content);
    out->content_bytes = json_string_length(content);
    return 1;
}

/* The text of q->json's `messages`, by the server's template. 0 after refusing. */
int ft_chat_text(ft_request *q, int answer, ft_buffer *text)
{
    const json_t *list = json_object_get(q->json, "messages"), *one;
    const size_t n = json_array_size(list);
    ft_server *s = q->server;
    if (!s->chat) {
        ft_refuse(
            q, 400, NULL, "messages",
            "%s; choose one with --chat-template or 'chat_template' in federation.yaml (%s), or send a 'prompt' to "
            "/v1/completions",
            s->no_chat.code == FT_ERR_UNSUPPORTED ? "this model's chat template is none that this server has"
                                                  : "this model has no chat template",
            ft_chat_template_names());
        return 0;
    }
    if (!json_is_array(list) || n == 0 || n > MOST_MESSAGES) {
        ft_refuse(q, 400, NULL, "messages", "'messages' must be a list of 1 to %d messages", MOST_MESSAGES);
        return 0;
    }
    ft_chat_message *messages = ft_alloc_array(n, sizeof(*messages));
    ft_buffer *joined = ft_alloc_array(n, sizeof(*joined));
    int ok = messages && joined;
    if (!ok)
        ft_refuse(q, 503, "overloaded", NULL, "out of memory");
    size_t i;
    json_array_foreach(list, i, one)
    {
        ok = ok && take_message(q, i, one, &messages[i], &joined[i]);
    }
    ft_status st = {0};
    if (ok && ft_chat_template_render(s->chat, messages, n, answer, text, &st) != FT_OK) {
        ft_refuse_status(q, "messages", &st);
        ok = 0;
    }
    for (i = 0; joined && i < n; i++)
        ft_buffer_release(&joined[i]);
    free(joined);
    free(messages);
    return ok;
}

static void read_messages(ft_reader *r, ft_completion_request *out)
{
    ft_buffer text = {0};
    ft_encoding e = {0};
    ft_status st = {0};
    int answer = 1;
    if (ft_json_get_bool(r->body, "add_generation_prompt", &answer, &st) != FT_OK) {
        ft_reader_refuse(r, "add_generation_prompt", &st);
        return;
    }
    r->failed = !ft_chat_text(r->q, answer, &text);
    if (!r->failed && ft_encode_text(r->q->server, text.data ? text.data : "", text.size, &e, &st) != FT_OK)
        ft_reader_refuse(r, "messages", &st);
    if (!r->failed && e.count == 0) {
        ft_refuse(r->q, 400, NULL, "messages", "'messages' make no token: a model needs a first one");
        r->failed = 1;
    }
    out->prompts = r->failed ? NULL : ft_alloc_array(1, sizeof(*out->prompts));
    if (out->prompts) {
        *out->prompts = (ft_prompt){.ids = e.ids, .count = e.count};
        out->prompt_count = 1;
        e.ids = NULL;
    } else if (!r->failed) {
        ft_refuse(r->q, 503, "overloaded", NULL, "out of memory");
        r->failed = 1;
    }
    ft_encoding_release(&e);
    ft_buffer_release(&text);
}

/* --- What chat has for itself -------------------------------------------------------------- */

/* The token that ends a turn ends the answer, though it be no end-of-text token. */
static void stop_at_turn_end(ft_reader *r, ft_completion_request *out)
{
    const ft_server *s = r->q->server;
    const char *name = s->chat ? ft_chat_template_turn_end(s->chat) : "";
    const uint32_t id = s->tokenizer && *name ? ft_tokenizer_token_id(s->tokenizer, name) : FT_NO_TOKEN;
    if (r->failed || id == FT_NO_TOKEN || out->ignore_end_of_text || id >= ft_model_get_config(s->model)->vocab)
        return;
    size_t capacity = out->stop_id_count;
    ft_status st = {0};
    if (ft_array_grow((void **)&out->stop_ids, &capacity, out->stop_id_count + 1, sizeof(*out->stop_ids), &st) != FT_OK)
        ft_reader_refuse(r, NULL, &st);
    else
        out->stop_ids[out->stop_id_count++] = id;
}

static void read_logprobs(ft_reader *r, ft_completion_request *out)
{
    const int wanted = ft_read_flag(r, "logprobs");
    const int64_t top = ft_read_int(r, "top_logprobs", 0, FT_MAX_TOP, -1);
    if (!r->failed && top > 0 && !wanted) {
        ft_refuse(r->q, 400, NULL, "top_logprobs", "'top_logprobs' needs 'logprobs': true");
        r->failed = 1;
    }
    out->logprobs = !wanted ? -1 : top > 0 ? top : 0;
}

/* Its two names; neither: what the context leaves. */
static int read_max_tokens(ft_reader *r, ft_completion_request *out)
{
    const int64_t old = ft_read_int(r, "max_tokens", 0, INT32_MAX, -1);
    const int64_t now = ft_read_int(r, "max_completion_tokens", 0, INT32_MAX, old);
    out->max_tokens = now < 0 ? 0 : (size_t)now;
    return now < 0;
}

int ft_chat_read(ft_request *q, ft_completion_request *out)
{
    static const char *const unsupported[] = {
        "tools",       "functions",    "continue_final_message", "chat_template", "suffix", "audio", "prediction",
        "guided_json", "guided_regex", "guided_choice",          "documents",     "echo",   NULL};
    memset(out, 0, sizeof(*out));
    out->chat = 1;
    ft_reader r = {.q = q, .body = q->json};
    ft_read_model(&r);
    if (!r.failed)
        ft_refuse_unsupported(&r, unsupported);
    ft_refuse_choices(&r);
    const int rest = read_max_tokens(&r, out);
    if (!r.failed)
        ft_read_shared(&r, out);
    read_logprobs(&r, out);
    if (!r.failed)
        read_messages(&r, out);
    stop_at_turn_end(&r, out);
    ft_check_lengths(&r, out, rest);
    if (!r.failed)
        ft_name_ignored(q, known);
    else
        ft_completion_release(out);
    return !r.failed;
}
