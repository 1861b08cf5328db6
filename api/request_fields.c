/* Fields that completions and chat share. */
#include "api/request_internal.h"
#include "api/routes_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ft_reader_refuse(ft_reader *r, const char *field, const ft_status *st)
{
    if (!r->failed)
        ft_refuse_status(r->q, field, st);
    r->failed = 1;
}

int ft_read_flag(ft_reader *r, const char *field)
{
    int v = 0;
    ft_status st = {0};
    if (ft_json_get_bool(r->body, field, &v, &st) != FT_OK)
        ft_reader_refuse(r, field, &st);
    return v;
}

int64_t ft_read_int(ft_reader *r, const char *field, int64_t low, int64_t high, int64_t absent)
{
    ft_status st = {0};
    if (ft_json_get_int(r->body, field, low, high, &absent, &st) != FT_OK)
        ft_reader_refuse(r, field, &st);
    return absent;
}

double ft_read_number(ft_reader *r, const char *field, double low, double high, double absent)
{
    ft_status st = {0};
    if (ft_json_get_number(r->body, field, low, high, &absent, &st) != FT_OK)
        ft_reader_refuse(r, field, &st);
    return absent;
}

/* --- What we do not do, and say so ----------------------------------------------- */

/* Present, and asking for something. */
static int asks(const json_t *v)
{
    if (!v || json_is_null(v) || json_is_false(v))
        return 0;
    if (json_is_object(v))
        return json_object_size(v) > 0;
    if (json_is_array(v))
        return json_array_size(v) > 0;
    return !json_is_string(v) || json_string_length(v) > 0;
}

void ft_refuse_unsupported(ft_reader *r, const char *const *fields)
{
    for (size_t i = 0; fields[i] && !r->failed; i++)
        if (asks(json_object_get(r->body, fields[i]))) {
            ft_refuse(r->q, 400, "unsupported_parameter", fields[i],
                      "'%s' is not supported by this server; leave it out", fields[i]);
            r->failed = 1;
        }
}

void ft_refuse_choices(ft_reader *r)
{
    static const struct {
        const char *field, *inside, *plain;
    } fields[] = {{"response_format", "type", "text"}, {"tool_choice", NULL, "none"}, {"function_call", NULL, "none"}};
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields) && !r->failed; i++) {
        const json_t *v = json_object_get(r->body, fields[i].field);
        const char *text = ft_json_name(fields[i].inside ? json_object_get(v, fields[i].inside) : v);
        const int automatic = !fields[i].inside && text && !strcmp(text, "auto");
        if (!v || json_is_null(v) || automatic || (text && !strcmp(text, fields[i].plain)))
            continue;
        ft_refuse(r->q, 400, "unsupported_parameter", fields[i].field,
                  "'%s' is not supported by this server; leave it out", fields[i].field);
        r->failed = 1;
    }
    const json_t *modes = json_object_get(r->body, "modalities");
    const char *mode = ft_json_name(json_array_get(modes, 0));
    if (!r->failed && modes && !json_is_null(modes) &&
        (json_array_size(modes) != 1 || !mode || strcmp(mode, "text") != 0)) {
        ft_refuse(r->q, 400, "unsupported_parameter", "modalities", "'modalities' can only be [\"text\"]");
        r->failed = 1;
    }
}

/* --- Sampling ------------------------------------------------------------------------ */

/* An id written as a key: decimal digits alone, in one way, so that no id stands there twice. */
static int id_of_key(const char *key, size_t vocab, uint32_t *id)
{
    const size_t n = strlen(key);
    if (n == 0 || n > 10 || key[strspn(key, "0123456789")] || (key[0] == '0' && n > 1))
        return 0;
    const unsigned long long v = strtoull(key, NULL, 10);
    *id = (uint32_t)v;
    return v < vocab;
}

static void read_bias(ft_reader *r, ft_completion_request *out)
{
    const size_t vocab = ft_model_get_config(r->q->server->model)->vocab;
    json_t *v = json_object_get(r->body, "logit_bias"), *one;
    const char *key;
    ft_status st = {0};
    if (r->failed || !v || json_is_null(v))
        return;
    const size_t n = json_object_size(v);
    if (!json_is_object(v))
        (void)ft_fail(&st, FT_ERR_ARG, "'logit_bias' must be an object of token ids and numbers");
    else if (n > FT_MAX_BIASES)
        (void)ft_fail(&st, FT_ERR_ARG, "'logit_bias' has %zu ids; at most %d are possible", n, FT_MAX_BIASES);
    if (st.code) {
        ft_reader_refuse(r, "logit_bias", &st);
        return;
    }
    out->bias_ids = ft_alloc_array(n, sizeof(*out->bias_ids));
    out->bias_values = ft_alloc_array(n, sizeof(*out->bias_values));
    if (!out->bias_ids || !out->bias_values)
        (void)ft_fail(&st, FT_ERR_MEM, "out of memory");
    size_t i = 0;
    json_object_foreach(v, key, one)
    {
        if (st.code)
            break;
        const double value = json_number_value(one);
        if (!id_of_key(key, vocab, &out->bias_ids[i]))
            (void)ft_fail(&st, FT_ERR_ARG, "'logit_bias': '%.40s' is not a token id from 0 to %zu", key, vocab - 1);
        else if (!json_is_number(one) || !(value >= -100 && value <= 100))
            (void)ft_fail(&st, FT_ERR_ARG, "'logit_bias': the value of %s must be a number from -100 to 100", key);
        else
            out->bias_values[i++] = (float)value;
    }
    if (st.code) {
        ft_reader_refuse(r, "logit_bias", &st);
        return;
    }
    out->sampling.bias_ids = out->bias_ids;
    out->sampling.bias_values = out->bias_values;
    out->sampling.bias_count = n;
}

static void read_stop_ids(ft_reader *r, ft_completion_request *out)
{
    const size_t vocab = ft_model_get_config(r->q->server->model)->vocab;
    ft_status st = {0};
    if (r->failed)
        return;
    if (ft_json_get_ids(r->body, "stop_token_ids", &out->stop_ids, &out->stop_id_count, &st) == FT_OK) {
        if (out->stop_id_count > FT_MAX_STOP_IDS)
            (void)ft_fail(&st, FT_ERR_ARG, "'stop_token_ids' has %zu ids; at most %d are possible", out->stop_id_count,
                          FT_MAX_STOP_IDS);
        for (size_t i = 0; !st.code && i < out->stop_id_count; i++)
            if (out->stop_ids[i] >= vocab)
                (void)ft_fail(&st, FT_ERR_ARG, "'stop_token_ids': element %zu is not a token id from 0 to %zu", i,
                              vocab - 1);
    }
    if (st.code)
        ft_reader_refuse(r, "stop_token_ids", &st);
}

static void read_sampling(ft_reader *r, ft_sampling *out)
{
    out->temperature = ft_read_number(r, "temperature", 0, 2, 1);
    out->top_p = ft_read_number(r, "top_p", 0, 1, 1);
    out->min_p = ft_read_number(r, "min_p", 0, 1, 0);
    out->presence_penalty = ft_read_number(r, "presence_penalty", -2, 2, 0);
    out->frequency_penalty = ft_read_number(r, "frequency_penalty", -2, 2, 0);
    out->repetition_penalty = ft_read_number(r, "repetition_penalty", 0.01, 100, 1);
    const int64_t top_k = ft_read_int(r, "top_k", -1, INT32_MAX, 0);
    out->top_k = top_k < 0 ? 0 : top_k;
    out->min_tokens = (size_t)ft_read_int(r, "min_tokens", 0, INT32_MAX, 0);
    const json_t *seed = json_object_get(r->body, "seed");
    out->seed = (uint64_t)ft_read_int(r, "seed", INT64_MIN, INT64_MAX, 0);
    if (!seed || json_is_null(seed)) /* kept below 2^53: it comes back in JSON */
        out->seed = ft_random_seed() >> 11;
}

/* --- Where it ends, how it comes --------------------------------------------------------- */

static void read_stops(ft_reader *r, ft_completion_request *out)
{
    json_t *v = json_object_get(r->body, "stop");
    if (r->failed || !v || json_is_null(v))
        return;
    out->stop_strings = json_is_string(v) ? json_pack("[o]", json_deep_copy(v)) : json_deep_copy(v);
    const size_t n = json_array_size(out->stop_strings);
    int good = json_is_array(out->stop_strings) && n <= FT_MAX_STOPS;
    for (size_t i = 0; good && i < n; i++) {
        const json_t *s = json_array_get(out->stop_strings, i);
        const char *name = ft_json_name(s);
        good = name && *name;
        if (good)
            out->stop[out->stop_count++] = name;
    }
    if (good)
        return;
    ft_refuse(r->q, 400, NULL, "stop", "'stop' must be a string or up to %d strings, none of them empty", FT_MAX_STOPS);
    r->failed = 1;
}

static void read_stream_options(ft_reader *r, ft_completion_request *out)
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
    ft_reader_refuse(r, "stream_options", &st);
}

void ft_read_model(ft_reader *r)
{
    const char *name = NULL;
    ft_status st = {0};
    const char *served = ft_federation_name(r->q->server->federation);
    if (ft_json_get_string(r->body, "model", &name, &st) != FT_OK) {
        ft_reader_refuse(r, "model", &st);
    } else if (!r->q->server->model || (name && strcmp(name, served) != 0)) {
        ft_refuse(r->q, 404, "model_not_found", "model", "the model '%.200s' does not exist; this server has '%s'",
                  name ? name : served, r->q->server->model ? served : "none");
        r->failed = 1;
    }
}

static void read_routing_wish(ft_reader *r, const json_t *object, ft_completion_request *out)
{
    static const char *const names[] = {"none", "summary", "full"};
    const char *wish = NULL;
    ft_status st = {0};
    if (ft_json_get_string(object, "routing", &wish, &st) != FT_OK) {
        ft_reader_refuse(r, "flextrace", &st);
        return;
    }
    int i = 0;
    while (wish && i < 3 && strcmp(names[i], wish) != 0)
        i++;
    if (i == 3) {
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace.routing' must be \"none\", \"summary\" or \"full\"");
        ft_reader_refuse(r, "flextrace", &st);
        return;
    }
    out->routing = (ft_routing_wish)i;
}

static int is_given(const json_t *object, const char *field)
{
    const json_t *v = json_object_get(object, field);
    return v && !json_is_null(v);
}

/* Who asked can tell by it that a receipt is of this request, and no older one. */
static ft_code read_nonce(const json_t *object, ft_completion_request *out, ft_status *st)
{
    const char *nonce = NULL;
    const ft_code rc = ft_json_get_string(object, "nonce", &nonce, st);
    if (rc || !nonce)
        return rc;
    if (!*nonce || strlen(nonce) > FT_MAX_NONCE)
        return ft_fail(st, FT_ERR_ARG, "'nonce' has 1 to %d bytes", FT_MAX_NONCE);
    snprintf(out->nonce, sizeof(out->nonce), "%s", nonce);
    return FT_OK;
}

/* Checked here, for nobody is there to hear of it when the trace is made. */
static ft_code read_trace_options(ft_request *q, const json_t *object, ft_completion_request *out, ft_status *st)
{
    json_t *v = json_object_get(object, "options");
    ft_trace_options checked = ft_trace_options_default(ft_request_scope(q));
    const char *field;
    const ft_code rc = ft_trace_options_read(v, &checked, &field, st);
    if (!rc && v)
        out->trace_options = json_incref(v);
    return rc;
}

static void read_flextrace(ft_reader *r, ft_completion_request *out)
{
    const json_t *v = json_object_get(r->body, "flextrace");
    out->without = ft_server_opted_out(r->q->server);
    if (r->failed || !v || json_is_null(v))
        return;
    ft_status st = {0};
    uint64_t only = 0;
    if (!json_is_object(v))
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace' must be an object");
    else if (ft_json_get_bool(v, "trace", &out->trace, &st) || ft_json_get_bool(v, "store", &out->store, &st) ||
             ft_json_get_bool(v, "receipt", &out->receipt, &st) || read_nonce(v, out, &st) ||
             read_trace_options(r->q, v, out, &st) || ft_causal_wish_read(r->q->server, v, &out->causal, &st) ||
             ft_experts_read(r->q->server, v, "without", &out->without, &st) ||
             ft_experts_read(r->q->server, v, "only", &only, &st))
        ft_status_prefix(&st, "flextrace");
    else if (out->receipt && (!r->q->server->store || !r->q->server->keys.signer))
        (void)ft_fail(&st, FT_ERR_UNSUPPORTED,
                      "'flextrace.receipt': this server signs none: its federation names no store or no signing_key");
    else if (out->receipt && !out->store)
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace.receipt' is of a trace that is kept: leave 'store' true");
    else if (out->causal.wanted && !out->trace && !out->receipt)
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace.causal' goes with 'flextrace.trace'");
    else if (out->trace_options && !out->trace && !out->receipt)
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace.options' goes with 'flextrace.trace'");
    out->trace |= out->receipt;
    if (st.code) {
        ft_reader_refuse(r, "flextrace", &st);
        return;
    }
    read_routing_wish(r, v, out);
    const int has_without = is_given(v, "without"), has_only = is_given(v, "only");
    const uint64_t standing = ft_server_opted_out(r->q->server);
    if (!r->failed && only & standing) {
        ft_refuse(r->q, 403, "expert_opted_out", "flextrace",
                  "'flextrace.only': expert %d has opted out of this federation; leave it out of the list",
                  __builtin_ctzll(only & standing));
        r->failed = 1;
        return;
    }
    if (has_only)
        out->without = ft_experts_of_model(r->q->server) & ~only;
    out->without |= standing;
    if (has_only && has_without)
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace': give 'without' or 'only', not both");
    else if (ft_experts_all_left_out(r->q->server, out->without))
        (void)ft_fail(&st, FT_ERR_ARG, "'flextrace': no expert would be left; leave at least one in");
    if (st.code)
        ft_reader_refuse(r, "flextrace", &st);
}

/* As vLLM: numbers of prompts come with a whole answer alone. */
static void read_prompt_logprobs(ft_reader *r, ft_completion_request *out)
{
    out->prompt_logprobs = ft_read_int(r, "prompt_logprobs", 0, FT_MAX_TOP, -1);
    if (!r->failed && out->prompt_logprobs >= 0 && out->stream) {
        ft_refuse(r->q, 400, NULL, "prompt_logprobs", "'prompt_logprobs' cannot be streamed; leave 'stream' out");
        r->failed = 1;
    }
}

/* --- All of them --------------------------------------------------------------------- */

void ft_read_shared(ft_reader *r, ft_completion_request *out)
{
    out->store = 1; /* a trace is kept unless the request says otherwise */
    out->n = (size_t)ft_read_int(r, "n", 1, FT_MAX_CHOICES, 1);
    const int64_t best = ft_read_int(r, "best_of", 1, FT_MAX_CHOICES, (int64_t)out->n);
    if (!r->failed && (size_t)best != out->n) {
        ft_refuse(r->q, 400, "unsupported_parameter", "best_of",
                  "'best_of' is not supported by this server; leave it out");
        r->failed = 1;
    }
    read_sampling(r, &out->sampling);
    read_bias(r, out);
    read_stop_ids(r, out);
    out->stream = ft_read_flag(r, "stream");
    read_prompt_logprobs(r, out);
    out->ignore_end_of_text = ft_read_flag(r, "ignore_eos");
    out->include_stop = ft_read_flag(r, "include_stop_str_in_output");
    out->return_token_ids = ft_read_flag(r, "return_token_ids");
    out->tokens_as_ids = ft_read_flag(r, "return_tokens_as_token_ids");
    out->return_routed_experts = ft_read_flag(r, "return_routed_experts");
    int skip = 1;
    ft_status st = {0};
    if (ft_json_get_bool(r->body, "skip_special_tokens", &skip, &st) != FT_OK)
        ft_reader_refuse(r, "skip_special_tokens", &st);
    out->keep_special = !skip;
    (void)ft_read_flag(r, "add_special_tokens"); /* nothing is added to a prompt, whatever it says */
    const char *user;
    if (ft_json_get_string(r->body, "user", &user, &st) != FT_OK)
        ft_reader_refuse(r, "user", &st);
    const int64_t keep = ft_read_int(r, "truncate_prompt_tokens", 1, INT32_MAX, INT32_MAX);
    out->keep_tokens = (size_t)keep;
    read_stream_options(r, out);
    read_stops(r, out);
    if (!r->failed)
        read_flextrace(r, out);
}

static void truncate_prompts(ft_completion_request *out)
{
    for (size_t i = 0; i < out->prompt_count; i++) {
        ft_prompt *p = &out->prompts[i];
        if (p->count > out->keep_tokens) {
            memmove(p->ids, p->ids + (p->count - out->keep_tokens), out->keep_tokens * sizeof(*p->ids));
            p->count = out->keep_tokens;
        }
    }
}

void ft_check_lengths(ft_reader *r, ft_completion_request *out, int rest)
{
    const size_t limit = ft_server_context(r->q->server);
    const int short_of_memory = limit < ft_model_get_config(r->q->server->model)->max_position;
    if (r->failed)
        return;
    truncate_prompts(out);
    size_t longest = 0;
    for (size_t i = 0; i < out->prompt_count; i++)
        longest = out->prompts[i].count > longest ? out->prompts[i].count : longest;
    if (rest && longest < limit)
        out->max_tokens = limit - longest;
    if (longest > limit || out->max_tokens > limit - longest) {
        const char *asked = out->chat && json_is_integer(json_object_get(r->body, "max_completion_tokens"))
                                ? "max_completion_tokens"
                                : "max_tokens";
        char message[300];
        snprintf(message, sizeof(message),
                 "this %s %zu tokens; the request asks for %zu (%zu in the prompt, %zu to generate): "
                 "shorten the prompt or lower %s",
                 short_of_memory ? "server's key-value memory holds" : "model's context is", limit,
                 longest + out->max_tokens, longest, out->max_tokens, asked);
        ft_refuse_with(r->q, 400, "context_length_exceeded",
                       longest <= limit ? asked
                       : out->chat      ? "messages"
                                        : "prompt",
                       json_pack("{s:I,s:I}", "n_prompt_tokens", (json_int_t)longest, "n_ctx", (json_int_t)limit),
                       message);
        r->failed = 1;
    } else if (out->sampling.min_tokens > out->max_tokens) {
        ft_refuse(r->q, 400, NULL, "min_tokens", "'min_tokens' is %zu, more than the %zu tokens to generate",
                  out->sampling.min_tokens, out->max_tokens);
        r->failed = 1;
    } else if (out->prompt_count * out->n > FT_MAX_ITEMS) {
        ft_refuse(r->q, 400, NULL, "n", "%zu prompts times n %zu is more than %d completions in one request",
                  out->prompt_count, out->n, FT_MAX_ITEMS);
        r->failed = 1;
    }
}

void ft_name_ignored(ft_request *q, const char *const *own)
{
    static const char *const shared[] = {"model",
                                         "max_tokens",
                                         "temperature",
                                         "top_p",
                                         "n",
                                         "stop",
                                         "seed",
                                         "logprobs",
                                         "presence_penalty",
                                         "frequency_penalty",
                                         "logit_bias",
                                         "stream",
                                         "stream_options",
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
    static const char *const of_ours[] = {"without", "only",  "trace",  "options", "routing",
                                          "receipt", "store", "causal", "nonce",   NULL};
    static const char *const of_stream[] = {"include_usage", NULL};
    ft_ignored ignored = {0};
    ft_ignored_add(&ignored, q->json, "", shared, own);
    ft_ignored_add(&ignored, json_object_get(q->json, "flextrace"), "flextrace.", of_ours, NULL);
    ft_ignored_add(&ignored, json_object_get(q->json, "stream_options"), "stream_options.", of_stream, NULL);
    ft_ignored_answer(q, &ignored);
}

void ft_completion_release(ft_completion_request *r)
{
    for (size_t i = 0; i < r->prompt_count; i++) {
        free(r->prompts[i].ids);
        free(r->prompts[i].scores);
    }
    free(r->prompts);
    free(r->stop_ids);
    free(r->bias_ids);
    free(r->bias_values);
    json_decref(r->stop_strings);
    json_decref(r->trace_options);
    memset(r, 0, sizeof(*r));
}
