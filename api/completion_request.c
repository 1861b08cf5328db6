/* What a client asks POST /v1/completions for. Every refusal names its field. */
#include "api/request_internal.h"
#include "api/routes_internal.h"

#include <stdlib.h>
#include <string.h>

/* Fields of this route alone, and those of chat's that must ask for nothing here. */
static const char *const known[] = {"prompt", "best_of",   "echo",        "suffix",        "response_format",
                                    "tools",  "functions", "tool_choice", "function_call", NULL};

/* --- Prompts --------------------------------------------------------------------- */

static int take_ids(ft_reader *r, const json_t *list, ft_prompt *out)
{
    const size_t vocab = ft_model_get_config(r->q->server->model)->vocab;
    const size_t n = json_array_size(list);
    out->ids = ft_alloc_array(n, sizeof(*out->ids));
    if (!out->ids) {
        ft_refuse(r->q, 503, "overloaded", NULL, "out of memory");
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || (uint64_t)id >= vocab) {
            ft_refuse(r->q, 400, NULL, "prompt", "'prompt': element %zu is not a token id from 0 to %zu", i, vocab - 1);
            return 0;
        }
        out->ids[out->count++] = (uint32_t)id;
    }
    return 1;
}

static int take_text(ft_reader *r, const json_t *text, ft_prompt *out)
{
    ft_encoding e = {0};
    ft_status st = {0};
    if (ft_encode_text(r->q->server, json_string_value(text), json_string_length(text), &e, &st) != FT_OK) {
        ft_encoding_release(&e);
        ft_refuse_status(r->q, "prompt", &st);
        return 0;
    }
    out->ids = e.ids;
    out->count = e.count;
    e.ids = NULL;
    ft_encoding_release(&e);
    return 1;
}

static int take_prompt(ft_reader *r, const json_t *v, ft_prompt *out)
{
    if (!json_is_string(v) && !json_is_array(v)) {
        ft_refuse(r->q, 400, NULL, "prompt", "'prompt' must be a string, a list of strings, or token ids");
        return 0;
    }
    if (!(json_is_string(v) ? take_text(r, v, out) : take_ids(r, v, out)))
        return 0;
    if (out->count == 0) {
        ft_refuse(r->q, 400, NULL, "prompt", "'prompt' must not be empty: a model needs a first token");
        return 0;
    }
    return 1;
}

static void read_prompts(ft_reader *r, ft_completion_request *out)
{
    const json_t *v = json_object_get(r->body, "prompt");
    if (!v || json_is_null(v)) {
        ft_refuse(r->q, 400, NULL, "prompt", "'prompt' is required");
        r->failed = 1;
        return;
    }
    /* A list of numbers is one prompt; a list of anything else is a list of prompts. */
    const int many = json_is_array(v) && !json_is_number(json_array_get(v, 0));
    const size_t n = many ? json_array_size(v) : 1;
    if (n == 0 || n > FT_MAX_PROMPTS) {
        ft_refuse(r->q, 400, NULL, "prompt", "'prompt' must hold 1 to %d prompts, not %zu", FT_MAX_PROMPTS, n);
        r->failed = 1;
        return;
    }
    out->prompts = ft_alloc_array(n, sizeof(*out->prompts));
    if (!out->prompts) {
        ft_refuse(r->q, 503, "overloaded", NULL, "out of memory");
        r->failed = 1;
        return;
    }
    out->prompt_count = n;
    for (size_t i = 0; i < n && !r->failed; i++)
        r->failed = !take_prompt(r, many ? json_array_get(v, i) : v, &out->prompts[i]);
}

/* `logprobs` is a number here; clients of the chat API send a bool. */
static void read_logprobs(ft_reader *r, ft_completion_request *out)
{
    const json_t *v = json_object_get(r->body, "logprobs");
    if (v && json_is_boolean(v)) {
        out->logprobs = json_is_true(v) ? 1 : -1;
        return;
    }
    out->logprobs = ft_read_int(r, "logprobs", 0, FT_MAX_TOP, -1);
}

int ft_completion_read(ft_request *q, ft_completion_request *out)
{
    static const char *const unsupported[] = {"suffix",       "tools",         "functions", "guided_json",
                                              "guided_regex", "guided_choice", NULL};
    memset(out, 0, sizeof(*out));
    ft_reader r = {.q = q, .body = q->json};
    ft_read_model(&r);
    if (!r.failed)
        ft_refuse_unsupported(&r, unsupported);
    ft_refuse_choices(&r);
    out->max_tokens = (size_t)ft_read_int(&r, "max_tokens", 0, INT32_MAX, 16);
    if (!r.failed)
        ft_read_shared(&r, out);
    read_logprobs(&r, out);
    out->echo = ft_read_flag(&r, "echo");
    if (!r.failed)
        read_prompts(&r, out);
    ft_check_lengths(&r, out, 0);
    if (!r.failed)
        ft_name_ignored(q, known);
    else
        ft_completion_release(out);
    return !r.failed;
}
