/* What a client asks POST /v1/completions for. Every refusal names its field. */
#include "api/completion_internal.h"
#include "api/routes_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fields that we know; others are ignored and named in X-Ignored-Fields. */
static const char *const known[] = {"model",
                                    "prompt",
                                    "max_tokens",
                                    "temperature",
                                    "top_p",
                                    "n",
                                    "best_of",
                                    "stop",
                                    "seed",
                                    "echo",
                                    "logprobs",
                                    "presence_penalty",
                                    "frequency_penalty",
                                    "logit_bias",
                                    "stream",
                                    "stream_options",
                                    "suffix",
                                    "user",
                                    "top_k",
                                    "min_p",
                                    "repetition_penalty",
                                    "min_tokens",
                                    "ignore_eos",
                                    "stop_token_ids",
                                    "include_stop_str_in_output",
                                    "skip_special_tokens",
                                    "add_special_tokens",
                                    "truncate_prompt_tokens",
                                    "prompt_logprobs",
                                    "return_token_ids",
                                    "return_tokens_as_token_ids",
                                    "return_routed_experts",
                                    "flextrace",
                                    NULL};

/* The reader: the first failure refuses the request, and all later calls do nothing. */
typedef struct reader {
    ft_request *q;
    const json_t *body;
    int failed;
} reader;

static void refuse_field(reader *r, const char *field, const ft_status *st)
{
    if (!r->failed)
        ft_refuse_status(r->q, field, st);
    r->failed = 1;
}

static int read_flag(reader *r, const char *field)
{
    int v = 0;
    ft_status st = {0};
    if (ft_json_get_bool(r->body, field, &v, &st) != FT_OK)
        refuse_field(r, field, &st);
    return v;
}

static int64_t read_int(reader *r, const char *field, int64_t low, int64_t high, int64_t absent)
{
    ft_status st = {0};
    if (ft_json_get_int(r->body, field, low, high, &absent, &st) != FT_OK)
        refuse_field(r, field, &st);
    return absent;
}

static double read_number(reader *r, const char *field, double low, double high, double absent)
{
    ft_status st = {0};
    if (ft_json_get_number(r->body, field, low, high, &absent, &st) != FT_OK)
        refuse_field(r, field, &st);
    return absent;
}

/* --- What we do not do, and say so --------------------------------------------- */

static int is_neutral(const json_t *v, const char *field)
{
    static const struct {
        const char *field;
        double value;
    } neutral[] = {{"presence_penalty", 0},
                   {"frequency_penalty", 0},
                   {"repetition_penalty", 1},
                   {"min_p", 0},
                   {"min_tokens", 0},
                   {"best_of", 1},
                   {"include_stop_str_in_output", 0},
                   {"skip_special_tokens", 1}};
    if (!v || json_is_null(v))
        return 1;
    if (json_is_object(v) || json_is_array(v))
        return (json_is_object(v) ? json_object_size(v) : json_array_size(v)) == 0;
    if (json_is_string(v))
        return json_string_length(v) == 0;
    const double is = json_is_number(v) ? json_number_value(v) : json_is_true(v);
    for (size_t i = 0; i < sizeof(neutral) / sizeof(*neutral); i++)
        if (!strcmp(neutral[i].field, field))
            return json_is_number(v) == (strncmp(field, "include", 7) != 0 && strncmp(field, "skip", 4) != 0) &&
                   is == neutral[i].value;
    return 0;
}

static void refuse_unsupported(reader *r)
{
    static const char *const fields[] = {"presence_penalty",
                                         "frequency_penalty",
                                         "logit_bias",
                                         "suffix",
                                         "repetition_penalty",
                                         "min_p",
                                         "min_tokens",
                                         "stop_token_ids",
                                         "include_stop_str_in_output",
                                         "skip_special_tokens",
                                         "prompt_logprobs"};
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields) && !r->failed; i++)
        if (!is_neutral(json_object_get(r->body, fields[i]), fields[i])) {
            ft_refuse(r->q, 400, "unsupported_parameter", fields[i],
                      "'%s' is not supported by this server; leave it out", fields[i]);
            r->failed = 1;
        }
    const json_t *best = json_object_get(r->body, "best_of"), *n = json_object_get(r->body, "n");
    if (!r->failed && best && !json_is_null(best) && json_integer_value(best) != (n ? json_integer_value(n) : 1)) {
        ft_refuse(r->q, 400, "unsupported_parameter", "best_of", "'best_of' is not supported by this server");
        r->failed = 1;
    }
}

static void name_ignored(ft_request *q)
{
    static const char *const of_ours[] = {"without", "only", "trace", "routing", "receipt", "store", NULL};
    static const char *const of_stream[] = {"include_usage", NULL};
    ft_ignored ignored = {0};
    ft_ignored_add(&ignored, q->json, "", known);
    ft_ignored_add(&ignored, json_object_get(q->json, "flextrace"), "flextrace.", of_ours);
    ft_ignored_add(&ignored, json_object_get(q->json, "stream_options"), "stream_options.", of_stream);
    ft_ignored_answer(q, &ignored);
}

/* --- Prompts --------------------------------------------------------------------- */

static int take_ids(reader *r, const json_t *list, ft_prompt *out)
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

static int take_text(reader *r, const json_t *text, ft_prompt *out)
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

static int take_prompt(reader *r, const json_t *v, ft_prompt *out)
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

static void read_prompts(reader *r, ft_completion_request *out)
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

static void truncate_prompts(ft_completion_request *out, size_t keep)
{
    for (size_t i = 0; i < out->prompt_count; i++) {
        ft_prompt *p = &out->prompts[i];
        if (p->count > keep) {
            memmove(p->ids, p->ids + (p->count - keep), keep * sizeof(*p->ids));
            p->count = keep;
        }
    }
}

static void check_lengths(reader *r, const ft_completion_request *out)
{
    const size_t limit = ft_model_get_config(r->q->server->model)->max_position;
    for (size_t i = 0; i < out->prompt_count && !r->failed; i++) {
        const size_t n = out->prompts[i].count;
        if (n <= limit && out->max_tokens <= limit - n)
            continue;
        char message[300];
        snprintf(message, sizeof(message),
                 "this model's context is %zu tokens; the request asks for %zu (%zu in the prompt, %zu to generate): "
                 "shorten the prompt or lower max_tokens",
                 limit, n + out->max_tokens, n, out->max_tokens);
        ft_refuse_with(r->q, 400, "context_length_exceeded", n > limit ? "prompt" : "max_tokens",
                       json_pack("{s:I,s:I}", "n_prompt_tokens", (json_int_t)n, "n_ctx", (json_int_t)limit), message);
        r->failed = 1;
    }
}

/* --- The other fields -------------------------------------------------------------- */

static void read_stops(reader *r, ft_completion_request *out)
{
    json_t *v = json_object_get(r->body, "stop");
    if (r->failed || !v || json_is_null(v))
        return;
    out->stop_strings = json_is_string(v) ? json_pack("[o]", json_deep_copy(v)) : json_deep_copy(v);
    const size_t n = json_array_size(out->stop_strings);
    int good = json_is_array(out->stop_strings) && n <= FT_MAX_STOPS;
    for (size_t i = 0; good && i < n; i++) {
        const json_t *s = json_array_get(out->stop_strings, i);
        good = json_is_string(s) && json_string_length(s) > 0 && strlen(json_string_value(s)) == json_string_length(s);
        if (good)
            out->stop[out->stop_count++] = json_string_value(s);
    }
    if (good)
        return;
    ft_refuse(r->q, 400, NULL, "stop", "'stop' must be a string or up to %d strings, none of them empty", FT_MAX_STOPS);
    r->failed = 1;
}

static void read_stream_options(reader *r, ft_completion_request *out)
{
    const json_t *v = json_object_get(r->body, "stream_options");
    if (r->failed || !v || json_is_null(v))
        return;
    ft_status st = {0};
    if (!json_is_object(v))
        (void)ft_fail(&st, FT_ERR_ARG, "'stream_options' must be an object");
    else if (!out->stream)
        (void)ft_fail(&st, FT_ERR_ARG, "'stream_options' needs 'stream': true");
    else if (ft_json_get_bool(v, "include_usage", &out->include_usage, &st) == FT_OK)
        return;
    refuse_field(r, "stream_options", &st);
}

static void read_model(reader *r)
{
    const char *name = NULL;
    ft_status st = {0};
    const char *served = ft_federation_name(r->q->server->federation);
    if (ft_json_get_string(r->body, "model", &name, &st) != FT_OK) {
        refuse_field(r, "model", &st);
    } else if (!r->q->server->model || (name && strcmp(name, served) != 0)) {
        ft_refuse(r->q, 404, "model_not_found", "model", "the model '%.200s' does not exist; this server has '%s'",
                  name ? name : served, r->q->server->model ? served : "none");
        r->failed = 1;
    }
}

static void read_routing_wish(reader *r, const json_t *object, ft_completion_request *out)
{
    static const char *const names[] = {"none", "summary", "full"};
    const char *wish = NULL;
    ft_status st = {0};
    if (ft_json_get_string(object, "routing", &wish, &st) != FT_OK) {
        refuse_field(r, "flextrace", &st);
        return;
    }
    int i = 0;
    while (wish && i < 3 && strcmp(names[i], wish) != 0)
        i++;
    if (i == 3) {
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace.routing' must be \"none\", \"summary\" or \"full\"");
        refuse_field(r, "flextrace", &st);
        return;
    }
    out->routing = (ft_routing_wish)i;
}

static int is_given(const json_t *object, const char *field)
{
    const json_t *v = json_object_get(object, field);
    return v && !json_is_null(v);
}

static void read_flextrace(reader *r, ft_completion_request *out)
{
    const json_t *v = json_object_get(r->body, "flextrace");
    if (r->failed || !v || json_is_null(v))
        return;
    ft_status st = {0};
    uint64_t only = 0;
    int receipt = 0;
    if (!json_is_object(v))
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace' must be an object");
    else if (ft_json_get_bool(v, "trace", &out->trace, &st) || ft_json_get_bool(v, "store", &out->store, &st) ||
             ft_json_get_bool(v, "receipt", &receipt, &st) ||
             ft_experts_read(r->q->server, v, "without", &out->without, &st) ||
             ft_experts_read(r->q->server, v, "only", &only, &st))
        ft_status_prefix(&st, "flextrace");
    else if (receipt)
        (void)ft_fail(&st, FT_ERR_UNSUPPORTED, "'flextrace.receipt' is not supported by this server");
    if (st.code) {
        refuse_field(r, "flextrace", &st);
        return;
    }
    read_routing_wish(r, v, out);
    const int has_without = is_given(v, "without"), has_only = is_given(v, "only");
    if (has_only)
        out->without = ft_experts_of_model(r->q->server) & ~only;
    if (has_only && has_without)
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace': give 'without' or 'only', not both");
    else if (ft_experts_all_left_out(r->q->server, out->without))
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace': no expert would be left; leave at least one in");
    if (st.code)
        refuse_field(r, "flextrace", &st);
}

static void read_sampling(reader *r, ft_sampling *out)
{
    out->temperature = read_number(r, "temperature", 0, 2, 1);
    out->top_p = read_number(r, "top_p", 0, 1, 1);
    const int64_t top_k = read_int(r, "top_k", -1, INT32_MAX, 0);
    out->top_k = top_k < 0 ? 0 : top_k;
    const json_t *seed = json_object_get(r->body, "seed");
    out->seed = (uint64_t)read_int(r, "seed", INT64_MIN, INT64_MAX, 0);
    if (!seed || json_is_null(seed)) /* kept below 2^53: it comes back in JSON */
        out->seed = ft_random_seed() >> 11;
}

/* `logprobs` is a number here; clients of the chat API send a bool. */
static void read_logprobs(reader *r, ft_completion_request *out)
{
    const json_t *v = json_object_get(r->body, "logprobs");
    if (v && json_is_boolean(v)) {
        out->logprobs = json_is_true(v) ? 1 : -1;
        return;
    }
    out->logprobs = read_int(r, "logprobs", 0, FT_MAX_TOP_LOGPROBS, -1);
}

int ft_completion_read(ft_request *q, ft_completion_request *out)
{
    memset(out, 0, sizeof(*out));
    out->store = 1; /* a trace is kept unless the request says otherwise */
    reader r = {.q = q, .body = q->json};
    read_model(&r);
    if (!r.failed)
        refuse_unsupported(&r);
    out->max_tokens = (size_t)read_int(&r, "max_tokens", 0, INT32_MAX, 16);
    out->n = (size_t)read_int(&r, "n", 1, FT_MAX_CHOICES, 1);
    read_sampling(&r, &out->sampling);
    read_logprobs(&r, out);
    out->echo = read_flag(&r, "echo");
    out->stream = read_flag(&r, "stream");
    out->ignore_end_of_text = read_flag(&r, "ignore_eos");
    out->return_token_ids = read_flag(&r, "return_token_ids");
    out->tokens_as_ids = read_flag(&r, "return_tokens_as_token_ids");
    out->return_routed_experts = read_flag(&r, "return_routed_experts");
    const int64_t keep = read_int(&r, "truncate_prompt_tokens", 1, INT32_MAX, INT32_MAX);
    read_stream_options(&r, out);
    read_stops(&r, out);
    if (!r.failed)
        read_flextrace(&r, out);
    if (!r.failed)
        read_prompts(&r, out);
    if (!r.failed) {
        truncate_prompts(out, (size_t)keep);
        check_lengths(&r, out);
    }
    if (!r.failed && out->prompt_count * out->n > FT_MAX_ITEMS) {
        ft_refuse(q, 400, NULL, "n", "%zu prompts times n %zu is more than %d completions in one request",
                  out->prompt_count, out->n, FT_MAX_ITEMS);
        r.failed = 1;
    }
    if (!r.failed)
        name_ignored(q);
    else
        ft_completion_release(out);
    return !r.failed;
}

void ft_completion_release(ft_completion_request *r)
{
    for (size_t i = 0; i < r->prompt_count; i++)
        free(r->prompts[i].ids);
    free(r->prompts);
    json_decref(r->stop_strings);
    memset(r, 0, sizeof(*r));
}
